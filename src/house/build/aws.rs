//! Region and keys of an AWS account, from where AWS's own programs look for them.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::super::check::{Base, CheckedAws, CheckedProvider, REGION_OF_ENVIRONMENT};
use super::Bench;
use crate::providers::aws::{AwsScope, Container, ContainerToken, Machine, WebIdentity};
use crate::providers::{AwsKeys, Credential, Grant, Lease, SigV4};
use crate::settings::SecretRef;
use crate::target::Origin;

/// Variables that name the region.
pub const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// The service that signatures are for, by what stands in the host; any other host is Bedrock's usual one.
const SERVICES: [(&str, &str); 2] = [("bedrock-mantle", "bedrock-mantle"), ("", "bedrock")];

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
const ROLE: &str = "AWS_ROLE_ARN";
const WEB_TOKEN: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const CONTAINERS: [&str; 2] =
    ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
const METADATA: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const NO_METADATA: &str = "AWS_EC2_METADATA_DISABLED";

/// An origin with the region in its place.
pub(super) fn origin(origin: &Origin, region: Option<&str>) -> Origin {
    match region {
        Some(region) => {
            let host = origin.host.replace(REGION_OF_ENVIRONMENT, region);
            Origin { host: host.into(), ..origin.clone() }
        }
        None => origin.clone(),
    }
}

impl Bench<'_> {
    /// The key that is sent as it is: a configured one, else AWS's API key of the environment.
    pub(super) fn key(&self, provider: &CheckedProvider) -> Option<SecretRef> {
        let of_environment = || {
            let variable = provider.aws.as_ref()?.key_env.as_ref()?;
            // Keys that are named in the configuration count more than what the environment happens to hold.
            let named = provider.aws.as_ref().is_some_and(names_keys);
            (!named && self.secrets.is_set(variable)).then(|| SecretRef::Env(variable.clone()))
        };
        provider.keys.first().cloned().or_else(of_environment)
    }

    /// The region of a provider of AWS's; `None` inside where none is needed: for any other, and for requests that bear
    /// a key to a host that is known.
    pub(super) fn region(&mut self, provider: &CheckedProvider, bears_key: bool) -> Option<Option<String>> {
        let Some(aws) = &provider.aws else { return Some(None) };
        let region = aws.region.clone().or_else(|| REGIONS.iter().find_map(|name| self.secrets.plain(name)));
        let placed = |base: &Base| !base.origin.host.contains(REGION_OF_ENVIRONMENT);
        if region.is_some() || bears_key && provider.base.as_ref().is_some_and(placed) {
            return Some(region);
        }
        let message = format!(
            "provider `{}`: no region: set `aws.region`, or AWS_REGION in the environment",
            provider.name
        );
        self.problem(&["providers", &provider.name], message)
    }

    /// What signs the requests.
    pub(super) fn signature(
        &mut self,
        provider: &CheckedProvider,
        aws: &CheckedAws,
        region: String,
    ) -> Option<Credential> {
        let host = provider.base.as_ref().map_or("", |base| &*base.origin.host);
        let (_, service) = SERVICES.iter().find(|(part, _)| host.contains(part))?;
        let scope = AwsScope { region, service };
        match self.account(&provider.name, aws)? {
            Some(keys) => Some(Credential::Signed(Arc::new(SigV4::new(&keys, scope.region, service)))),
            None => {
                let grant = self.role(&provider.name, scope)?;
                Some(Credential::Leased(Arc::new(Lease::new(grant))))
            }
        }
    }

    /// Keys that stand somewhere; `None` inside where there are none. They may still be fetched then.
    fn account(&mut self, name: &str, aws: &CheckedAws) -> Option<Option<AwsKeys>> {
        let settings = &aws.settings;
        if let (Some(id), Some(key)) = (&settings.access_key_id, &settings.secret_access_key) {
            let session_token = match &settings.session_token {
                Some(token) => Some(self.secret(name, &["aws", "session_token"], token)?),
                None => None,
            };
            return Some(Some(AwsKeys {
                access_key_id: self.secret(name, &["aws", "access_key_id"], id)?,
                secret_access_key: self.secret(name, &["aws", "secret_access_key"], key)?,
                session_token,
            }));
        }
        if !names_keys(aws) && self.secrets.is_set(KEY_ID) {
            let mut variable = |variable: &str| self.secret(name, &[], &SecretRef::Env(variable.to_owned()));
            let (access_key_id, secret_access_key) = (variable(KEY_ID)?, variable(SECRET_KEY)?);
            let session_token = match self.secrets.is_set(SESSION_TOKEN) {
                true => Some(self.secret(name, &[], &SecretRef::Env(SESSION_TOKEN.to_owned()))?),
                false => None,
            };
            return Some(Some(AwsKeys { access_key_id, secret_access_key, session_token }));
        }
        if !names_keys(aws) && self.secrets.is_set(ROLE) && self.secrets.is_set(WEB_TOKEN) {
            return Some(None);
        }
        self.profile(name, aws)
    }

    /// Keys of the shared credentials file.
    /// <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>
    fn profile(&mut self, name: &str, aws: &CheckedAws) -> Option<Option<AwsKeys>> {
        let settings = &aws.settings;
        let profile = settings.profile.clone().or_else(|| self.secrets.plain("AWS_PROFILE"));
        let asked = profile.is_some() || settings.credentials_file.is_some();
        let profile = profile.unwrap_or_else(|| "default".to_owned());
        let home = || Some(PathBuf::from(self.secrets.plain("HOME")?).join(".aws/credentials"));
        let of_environment = || self.secrets.plain("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
        let path = settings.credentials_file.clone().or_else(of_environment).or_else(home);
        let text = match path.as_ref().map(|path| self.secrets.file(path)) {
            Some(Ok(text)) => text,
            Some(Err(error)) if asked => {
                return self.problem(&["providers", name], format!("provider `{name}`: {error}"));
            }
            _ => return Some(None),
        };
        let keys = read_profile(&text, &profile);
        if keys.is_none() && asked {
            let message = format!(
                "provider `{name}`: the AWS credentials file has no access key for the profile `{profile}` (roles, single \
                 sign-on and `credential_process` are not read)"
            );
            return self.problem(&["providers", name], message);
        }
        Some(keys)
    }

    /// The role whose keys are to be fetched.
    fn role(&mut self, name: &str, scope: AwsScope) -> Option<Box<dyn Grant>> {
        let plain = |variable: &str| self.secrets.plain(variable);
        let grant = if let (Some(role), Some(file)) = (plain(ROLE), plain(WEB_TOKEN)) {
            let session = plain("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "tollgate".to_owned());
            let endpoint = plain("AWS_ENDPOINT_URL_STS");
            boxed(WebIdentity::new(scope, role, session, file.into(), endpoint.as_deref()))
        } else if let Some(uri) = CONTAINERS.iter().find_map(|variable| plain(variable)) {
            let file = plain("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
            let text = || plain("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Zeroizing::new);
            let token = file.map(|file| ContainerToken::File(file.into()));
            boxed(Container::new(scope, &uri, token.or_else(|| text().map(ContainerToken::Text))))
        } else if let Some(endpoint) = plain(METADATA) {
            boxed(Machine::new(scope, Some(&endpoint)))
        } else if is_machine_of_aws() && plain(NO_METADATA).as_deref() != Some("true") {
            boxed(Machine::new(scope, None))
        } else {
            let message = format!(
                "provider `{name}`: no AWS credentials: set {KEY_ID} and {SECRET_KEY} or AWS_BEARER_TOKEN_BEDROCK in the \
                 environment, or `aws.access_key_id` and `aws.secret_access_key`, `aws.profile`, or an API key under \
                 `keys`; there is no role of a container, a machine or a web identity either"
            );
            return self.problem(&["providers", name], message);
        };
        match grant {
            Ok(grant) => Some(grant),
            Err(what) => {
                let message =
                    format!("provider `{name}`: the URL for AWS credentials in the environment {what}");
                self.problem(&["providers", name], message)
            }
        }
    }
}

fn boxed(grant: Result<impl Grant + 'static, String>) -> Result<Box<dyn Grant>, String> {
    grant.map(|grant| Box::new(grant) as Box<dyn Grant>)
}

/// Whether this is a machine of EC2's, so that its metadata service can be asked.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html>
fn is_machine_of_aws() -> bool {
    let vendor = std::fs::read_to_string("/sys/devices/virtual/dmi/id/sys_vendor").unwrap_or_default();
    vendor.trim() == "Amazon EC2"
}

/// Whether the configuration says where the account's keys are.
fn names_keys(aws: &CheckedAws) -> bool {
    let settings = &aws.settings;
    settings.access_key_id.is_some() || settings.profile.is_some() || settings.credentials_file.is_some()
}

/// The keys of one profile.
fn read_profile(text: &str, profile: &str) -> Option<AwsKeys> {
    let (mut inside, mut id, mut key, mut token) = (false, None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.split(']').next().unwrap_or(section).trim();
            inside = section.strip_prefix("profile ").map_or(section, str::trim) == profile;
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| inside && !line.starts_with(['#', ';']))
        else {
            continue;
        };
        let slot = match name.trim().to_ascii_lowercase().as_str() {
            "aws_access_key_id" => &mut id,
            "aws_secret_access_key" => &mut key,
            "aws_session_token" => &mut token,
            _ => continue,
        };
        let value = value.trim();
        *slot = (!value.is_empty()).then(|| SecretString::from(value));
    }
    Some(AwsKeys { access_key_id: id?, secret_access_key: key?, session_token: token })
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_profile_is_read_as_aws_reads_it() {
        let text = "\u{feff}# keys\n[default]\naws_access_key_id = AKID1\naws_secret_access_key=se=cret/1\n\n[ work ]\n; old\n\
                    #aws_access_key_id = no\nAWS_ACCESS_KEY_ID=AKID2\naws_secret_access_key = s2\naws_session_token = t2\nregion = x\n\
                    [sso]\nsso_session = s\n";
        let read = |profile: &str| {
            read_profile(text, profile).map(|keys| {
                let shown = |secret: &SecretString| secret.expose_secret().to_owned();
                let token = keys.session_token.as_ref().map(shown);
                (shown(&keys.access_key_id), shown(&keys.secret_access_key), token)
            })
        };
        assert_eq!(read("default"), Some(("AKID1".into(), "se=cret/1".into(), None)));
        assert_eq!(read("work"), Some(("AKID2".into(), "s2".into(), Some("t2".into()))));
        assert_eq!((read("sso"), read("none")), (None, None));
    }
}
