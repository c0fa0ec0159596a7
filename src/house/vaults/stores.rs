//! The stores that references lead to, and what opens them.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::hashicorp::Hashicorp;
use super::manager_of_aws::ManagerOfAws;
use super::settings::SecretsSettings;
use crate::house::keystore::KeystoreSettings;
use crate::house::secrets::Secrets;
use crate::settings::SecretRef;
use crate::upstream::{Upstream, UpstreamSettings, certificates};

/// What all stores are made of; other terms are other stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::house) struct StoreTerms {
    pub(in crate::house) settings: SecretsSettings,
    pub(in crate::house) keystore: KeystoreSettings,
    pub(in crate::house) upstream: UpstreamSettings,
    /// The directory of the configuration.
    pub(in crate::house) dir: PathBuf,
}

/// What stands on this machine: that with which stores are opened.
#[derive(Debug, Clone)]
pub(super) struct Local {
    dir: PathBuf,
    keystore: KeystoreSettings,
}

/// Why a store gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It cannot be asked now.
    Away(String),
    /// It says no, or something that cannot be used.
    Refused(String),
}

/// The stores of a configuration.
pub(super) struct Stores {
    vault: Result<Hashicorp, String>,
    aws: Result<ManagerOfAws, String>,
}

impl Local {
    /// Reads a reference, just before it is needed.
    pub(super) fn resolve(&self, reference: &SecretRef) -> Result<SecretString, String> {
        self.secrets().resolve(reference)
    }

    /// A variable of the environment that is no secret.
    pub(super) fn plain(&self, name: &str) -> Option<String> {
        self.secrets().plain(name)
    }

    /// All that references on this machine lead to.
    pub(super) fn secrets(&self) -> Secrets<'_> {
        Secrets::new(&self.dir).with_keystore(&self.keystore)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Away(text) | Self::Refused(text)) = self;
        f.write_str(text)
    }
}

impl Stores {
    /// By their terms. A store that cannot be made says so when it is asked.
    pub(super) fn new(terms: &StoreTerms) -> Arc<Self> {
        let local = Local { dir: terms.dir.clone(), keystore: terms.keystore.clone() };
        let settings = terms.settings.vault.clone().unwrap_or_default();
        let roots = settings.roots.clone().or_else(|| terms.upstream.extra_roots.clone());
        let upstream = |extra_roots| {
            let own =
                UpstreamSettings { extra_roots, idle_connections: 4, prewarm: 0, ..terms.upstream.clone() };
            Upstream::new(&own).map_err(|error| error.to_string())
        };
        let reach = match &settings.roots {
            Some(path) => certificates(path).map_err(|error| format!("secrets.vault.roots: {error}")),
            None => Ok(Vec::new()),
        };
        let vault = reach
            .and_then(|_| upstream(roots))
            .and_then(|upstream| Hashicorp::new(&settings, local.clone(), upstream));
        let aws = upstream(terms.upstream.extra_roots.clone());
        let aws = aws.and_then(|upstream| ManagerOfAws::new(&terms.settings.aws, local, upstream));
        Arc::new(Self { vault, aws })
    }

    /// Asks for one value.
    pub(super) async fn read(&self, reference: &SecretRef) -> Result<Zeroizing<String>, Trouble> {
        let absent = |error: &String| Trouble::Refused(error.clone());
        let text = match reference {
            SecretRef::Vault { path, field } => {
                self.vault.as_ref().map_err(absent)?.read(path, field).await?
            }
            SecretRef::AwsSecrets { name, field } => {
                self.aws.as_ref().map_err(absent)?.read(name, field.as_deref()).await?
            }
            _ => return Err(Trouble::Refused("stands on this machine".into())),
        };
        match text.trim() {
            "" => Err(Trouble::Refused("is empty".into())),
            trimmed if trimmed.len() == text.len() => Ok(text),
            trimmed => Ok(Zeroizing::new(trimmed.to_owned())),
        }
    }

    /// Gives back what was opened.
    pub(super) async fn close(&self) {
        if let Ok(vault) = &self.vault {
            vault.close().await;
        }
    }

    /// The Vault, where there is one.
    pub(super) fn vault(&self) -> Option<&Hashicorp> {
        self.vault.as_ref().ok()
    }
}

/// The store's name in metrics and logs.
pub(super) fn store_of(reference: &SecretRef) -> &'static str {
    match reference {
        SecretRef::Vault { .. } => "vault",
        _ => "aws-secrets",
    }
}

/// One field of a secret, which must be a text. Nothing else of the secret is taken out, nor shown.
pub(super) fn field_of(
    fields: &HashMap<String, &RawValue>,
    field: &str,
) -> Result<Zeroizing<String>, String> {
    let raw = fields.get(field).ok_or_else(|| {
        let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
        names.sort_unstable();
        format!("the secret has no field `{field}`; it has {}", names.join(", "))
    })?;
    let text = serde_json::from_str::<String>(raw.get()).map(Zeroizing::new);
    text.map_err(|_| format!("the field `{field}` is no text"))
}
