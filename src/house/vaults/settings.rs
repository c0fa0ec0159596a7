//! The section `secrets:`: which stores are asked, as whom, and for how long what they say is believed.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::providers::AwsSettings;
use crate::settings::{Period, SecretRef};

/// Secrets that other machines keep. They are fetched when they are first needed, kept in memory that is wiped, asked for
/// again while they are used, and a changed one is in service without a restart.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsSettings {
    /// How long a value is used before its store is asked again: after this time at the latest, a changed one serves.
    pub refresh: Period,
    /// How long after that a known value goes on where its store cannot be asked or does not give it any more. Then
    /// providers are not asked with it.
    pub grace: Period,
    /// How long the value before goes on beside a changed one: a key is borne for so long where the provider refuses the
    /// one that followed it.
    pub overlap: Period,
    /// For one value, with all that it takes to be let in.
    pub timeout: Period,
    /// HashiCorp Vault, with a KV store of version 2: `vault:PATH#FIELD`.
    pub vault: Option<VaultSettings>,
    /// AWS Secrets Manager: `aws-secrets:NAME#FIELD`.
    pub aws: ManagerSettings,
}

impl Default for SecretsSettings {
    fn default() -> Self {
        Self {
            refresh: Period::secs(300),
            grace: Period::secs(3_600),
            overlap: Period::secs(300),
            timeout: Period::secs(5),
            vault: None,
            aws: ManagerSettings::default(),
        }
    }
}

/// Where Vault is, and as whom it is asked: with a token, or by AppRole.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct VaultSettings {
    /// `https://vault.example:8200`; by default `VAULT_ADDR`. Plain HTTP only for this machine and private networks.
    pub address: Option<String>,
    /// The namespace, where there are some; by default `VAULT_NAMESPACE`.
    pub namespace: Option<String>,
    /// Where the KV store is mounted; by default `secret`.
    pub mount: Option<String>,
    /// The token; by default `env:VAULT_TOKEN`, where there is no `app_role`. Renewed before its lease ends, and read anew
    /// where it is refused.
    pub token: Option<SecretRef>,
    /// Instead, a role to log in as.
    pub app_role: Option<AppRoleSettings>,
    /// PEM file with the root certificates of Vault's own; by default `upstream.extra_roots`.
    pub roots: Option<PathBuf>,
}

/// An AppRole of Vault's.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct AppRoleSettings {
    /// Where the method is mounted; by default `approle`.
    #[serde(default)]
    pub mount: Option<String>,
    /// The role's id.
    pub role_id: SecretRef,
    /// The id that proves it; read anew for each log-in.
    pub secret_id: SecretRef,
}

/// Where AWS Secrets Manager is. Its keys are looked for as those of Bedrock: here, then where AWS's own programs look
/// (environment, web identity, profile, the role of the container or the machine).
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ManagerSettings {
    /// For example `eu-central-1`; by default `AWS_REGION` or `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// Another address than the region's, such as a private endpoint; by default
    /// `AWS_ENDPOINT_URL_SECRETS_MANAGER`. Plain HTTP only for this machine and private networks.
    pub endpoint: Option<String>,
    /// The access key's name.
    pub access_key_id: Option<SecretRef>,
    /// The access key.
    pub secret_access_key: Option<SecretRef>,
    /// The session token that belongs to temporary keys.
    pub session_token: Option<SecretRef>,
    /// A profile of the shared credentials file; by default `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
    /// The shared credentials file; by default `AWS_SHARED_CREDENTIALS_FILE`, else `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
}

impl SecretsSettings {
    /// The references with which the stores themselves are opened, each with its place in this section.
    pub fn own(&self) -> impl Iterator<Item = (&'static [&'static str], &SecretRef)> {
        let vault = self.vault.iter().flat_map(|vault| {
            let role = vault.app_role.as_ref();
            [
                (&["vault", "token"][..], vault.token.as_ref()),
                (&["vault", "app_role", "role_id"][..], role.map(|role| &role.role_id)),
                (&["vault", "app_role", "secret_id"][..], role.map(|role| &role.secret_id)),
            ]
        });
        let aws = [
            (&["aws", "access_key_id"][..], self.aws.access_key_id.as_ref()),
            (&["aws", "secret_access_key"][..], self.aws.secret_access_key.as_ref()),
            (&["aws", "session_token"][..], self.aws.session_token.as_ref()),
        ];
        vault.chain(aws).filter_map(|(place, reference)| Some((place, reference?)))
    }
}

impl ManagerSettings {
    /// The keys, as a provider of AWS's would name them.
    pub fn account(&self) -> AwsSettings {
        AwsSettings {
            region: self.region.clone(),
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone(),
            session_token: self.session_token.clone(),
            profile: self.profile.clone(),
            credentials_file: self.credentials_file.clone(),
        }
    }
}
