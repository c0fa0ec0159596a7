//! Keys of an AWS account, from where AWS's own programs look for them.

use std::path::PathBuf;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::secrets::Secrets;
use crate::providers::aws::{AwsScope, Container, ContainerToken, Machine, WebIdentity};
use crate::providers::{AwsKeys, AwsSettings, Grant};
use crate::settings::SecretRef;

/// Variables that name the region.
pub const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
const ROLE: &str = "AWS_ROLE_ARN";
const WEB_TOKEN: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const CONTAINERS: [&str; 2] =
    ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
const METADATA: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const NO_METADATA: &str = "AWS_EC2_METADATA_DISABLED";

/// An account of AWS's, as the configuration describes it.
pub(super) struct Account<'a> {
    /// Where its keys may stand.
    pub(super) secrets: &'a Secrets<'a>,
    /// What is said of them.
    pub(super) settings: &'a AwsSettings,
}

/// What signs.
pub(super) enum Opened {
    /// Keys that stand somewhere.
    Keys(AwsKeys),
    /// Keys that are fetched and expire.
    Role(Box<dyn Grant>),
}

/// What is wrong, and the setting that it is about, if it is about one.
type Complaint = (Option<&'static str>, String);

impl Account<'_> {
    /// What signs in this scope.
    ///
    /// # Errors
    /// When there are no keys, or they cannot be read.
    pub(super) fn open(&self, scope: &AwsScope) -> Result<Opened, Complaint> {
        match self.keys()? {
            Some(keys) => Ok(Opened::Keys(keys)),
            None => self.role(scope).map(Opened::Role),
        }
    }

    /// Keys that stand somewhere; `None` where there are none. They may still be fetched then.
    fn keys(&self) -> Result<Option<AwsKeys>, Complaint> {
        let settings = self.settings;
        let secret = |field: Option<&'static str>, reference: &SecretRef| {
            self.secrets.resolve(reference).map_err(|error| (field, error))
        };
        if let (Some(id), Some(key)) = (&settings.access_key_id, &settings.secret_access_key) {
            let token = settings.session_token.as_ref();
            return Ok(Some(AwsKeys {
                access_key_id: secret(Some("access_key_id"), id)?,
                secret_access_key: secret(Some("secret_access_key"), key)?,
                session_token: token.map(|token| secret(Some("session_token"), token)).transpose()?,
            }));
        }
        if !names_keys(settings) && self.secrets.is_set(KEY_ID) {
            let variable = |variable: &str| secret(None, &SecretRef::Env(variable.to_owned()));
            let token = self.secrets.is_set(SESSION_TOKEN).then(|| variable(SESSION_TOKEN));
            return Ok(Some(AwsKeys {
                access_key_id: variable(KEY_ID)?,
                secret_access_key: variable(SECRET_KEY)?,
                session_token: token.transpose()?,
            }));
        }
        if !names_keys(settings) && self.secrets.is_set(ROLE) && self.secrets.is_set(WEB_TOKEN) {
            return Ok(None);
        }
        self.profile()
    }

    /// Keys of the shared credentials file.
    /// <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>
    fn profile(&self) -> Result<Option<AwsKeys>, Complaint> {
        let settings = self.settings;
        let profile = settings.profile.clone().or_else(|| self.secrets.plain("AWS_PROFILE"));
        let asked = profile.is_some() || settings.credentials_file.is_some();
        let profile = profile.unwrap_or_else(|| "default".to_owned());
        let home = || Some(PathBuf::from(self.secrets.plain("HOME")?).join(".aws/credentials"));
        let of_environment = || self.secrets.plain("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
        let path = settings.credentials_file.clone().or_else(of_environment).or_else(home);
        let text = match path.as_ref().map(|path| self.secrets.file(path)) {
            Some(Ok(text)) => text,
            Some(Err(error)) if asked => return Err((None, error)),
            _ => return Ok(None),
        };
        let keys = read_profile(&text, &profile);
        if keys.is_none() && asked {
            let message = format!(
                "the AWS credentials file has no access key for the profile `{profile}` (roles, single sign-on and \
                 `credential_process` are not read)"
            );
            return Err((None, message));
        }
        Ok(keys)
    }

    /// The role whose keys are to be fetched.
    fn role(&self, scope: &AwsScope) -> Result<Box<dyn Grant>, Complaint> {
        let (plain, scope) = (|variable: &str| self.secrets.plain(variable), scope.clone());
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
            let bedrock = if scope.service.starts_with("bedrock") {
                (" or AWS_BEARER_TOKEN_BEDROCK", ", or an API key under `keys`")
            } else {
                ("", "")
            };
            let message = format!(
                "no AWS credentials: set {KEY_ID} and {SECRET_KEY}{} in the environment, or `aws.access_key_id` and \
                 `aws.secret_access_key`, `aws.profile`{}; there is no role of a container, a machine or a web identity \
                 either",
                bedrock.0, bedrock.1
            );
            return Err((None, message));
        };
        grant.map_err(|what| (None, format!("the URL for AWS credentials in the environment {what}")))
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
pub(super) fn names_keys(settings: &AwsSettings) -> bool {
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
