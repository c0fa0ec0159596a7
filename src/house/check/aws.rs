//! Region and keys of an AWS account: what the configuration says, before the environment is asked.

use super::Desk;
use crate::providers::presets::Preset;
use crate::providers::{AwsSettings, ProviderSettings};

/// Stands in a host for the region that only the environment knows.
pub const REGION_OF_ENVIRONMENT: &str = "region-of-the-environment";

/// How a provider's requests are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedAws {
    /// The region, where the configuration or its base URL says it.
    pub region: Option<String>,
    /// As written.
    pub settings: AwsSettings,
    /// The variable whose API key is used before anything is signed.
    pub key_env: Option<String>,
}

impl CheckedAws {
    /// A base URL with the region in its place.
    pub(super) fn place(&self, url: &str) -> String {
        url.replace("{region}", self.region.as_deref().unwrap_or(REGION_OF_ENVIRONMENT))
    }
}

impl Desk<'_> {
    /// Checks what a provider says of AWS.
    pub(super) fn aws(&mut self, name: &str, own: &ProviderSettings, preset: Option<&Preset>) -> CheckedAws {
        let settings = own.aws.clone().unwrap_or_default();
        let path = |field| ["providers", name, "aws", field];
        if settings.region.as_deref().is_some_and(|region| !is_region(region)) {
            let help = Some("try \"eu-central-1\"".to_owned());
            self.error(&path("region"), "this is not the name of a region", help);
        }
        let halves = [
            ("access_key_id", settings.access_key_id.is_some()),
            ("secret_access_key", settings.secret_access_key.is_some()),
        ];
        if let [(_, true), (missing, false)] | [(missing, false), (_, true)] = halves {
            self.error(&path(missing), format!("`aws` of `{name}` lacks `{missing}`"), None);
        }
        if settings.session_token.is_some() && settings.access_key_id.is_none() {
            let message = "a `session_token` belongs to an `access_key_id`";
            self.error(&path("session_token"), message, None);
        }
        if settings.access_key_id.is_some()
            && (settings.profile.is_some() || settings.credentials_file.is_some())
        {
            let message = "`profile` and `credentials_file` have no effect beside `access_key_id`";
            self.warning(&path("profile"), message, None);
        }
        let of_url = own.base_url.as_deref().and_then(region_in);
        let region =
            settings.region.clone().filter(|region| is_region(region)).or_else(|| of_url.map(str::to_owned));
        // A vendor's key is not sent to another host just because that one takes the vendor's name.
        let at_home = preset.filter(|_| own.base_url.is_none());
        CheckedAws { region, settings, key_env: at_home.and_then(|preset| preset.key_env.clone()) }
    }
}

pub(super) fn is_region(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 32
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The region in an endpoint of Bedrock's: `bedrock-runtime.eu-west-1.amazonaws.com`, also of a private endpoint
/// (`vpce-….bedrock-runtime.eu-west-1.vpce.amazonaws.com`).
fn region_in(url: &str) -> Option<&str> {
    let host = url.split("://").nth(1)?.split(['/', ':']).next()?;
    let (_, rest) = host.split_once("bedrock-runtime").or_else(|| host.split_once("bedrock-mantle"))?;
    let region = rest.split('.').nth(1)?;
    (region.contains('-') && is_region(region)).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::{Diagnostic, Shipped, check, read};

    fn findings(provider: &str) -> Vec<String> {
        let text = format!("providers: {{ {provider} }}");
        let all = check(read("t.yaml", &text), &Shipped).map_or_else(|all| all, |(_, warnings)| warnings);
        all.0.iter().map(Diagnostic::headline).collect()
    }

    #[test]
    fn what_contradicts_itself_is_said() {
        for (provider, part) in [
            ("bedrock: { aws: { region: 'EU West' } }", "not the name of a region"),
            ("bedrock: { aws: { access_key_id: env:A } }", "lacks `secret_access_key`"),
            ("bedrock: { aws: { secret_access_key: env:A } }", "lacks `access_key_id`"),
            ("bedrock: { aws: { session_token: env:A } }", "belongs to an `access_key_id`"),
            ("bedrock: { aws: { access_key_id: env:A, secret_access_key: env:B, profile: x } }", "no effect"),
            ("bedrock: { aws: { access_key_id: AKIA123 } }", "not a reference"),
            ("bedrock: { aws: { zone: x } }", "zone"),
        ] {
            let found = findings(provider);
            assert!(found.len() == 1 && found[0].contains(part), "{provider}: {found:?}");
            assert!(!found[0].contains("AKIA"), "{found:?}");
        }
    }

    #[test]
    fn whoever_speaks_to_aws_signs() {
        for (provider, region, host) in [
            ("bedrock: ", None, "bedrock-runtime.region-of-the-environment.amazonaws.com"),
            (
                "x: { preset: bedrock, aws: { region: eu-west-1 } }",
                Some("eu-west-1"),
                "bedrock-runtime.eu-west-1.amazonaws.com",
            ),
            (
                "x: { dialect: bedrock-anthropic, base_url: 'https://bedrock-runtime.us-east-1.amazonaws.com' }",
                Some("us-east-1"),
                "bedrock-runtime.us-east-1.amazonaws.com",
            ),
            (
                "x: { dialect: openai, base_url: 'https://bedrock-runtime.{region}.amazonaws.com/openai/v1', aws: { region: us-west-2 } }",
                Some("us-west-2"),
                "bedrock-runtime.us-west-2.amazonaws.com",
            ),
        ] {
            let text = format!("providers: {{ {provider} }}");
            let (checked, warnings) = check(read("t.yaml", &text), &Shipped).unwrap();
            let provider = checked.providers.values().next().unwrap();
            let aws = provider.aws.as_ref().unwrap();
            assert_eq!(aws.region.as_deref(), region, "{text}");
            assert_eq!(provider.base.as_ref().unwrap().origin.authority(), host, "{text}");
            assert!(warnings.0.is_empty() && provider.keys.is_empty(), "{text}: {warnings}");
            let home = text.contains("bedrock: ") || text.contains("preset");
            assert_eq!(aws.key_env.is_some(), home, "{text}");
        }
    }

    #[test]
    fn endpoints_tell_their_region() {
        for (url, region) in [
            ("https://bedrock-runtime.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com/x", Some("us-gov-west-1")),
            ("https://vpce-1.bedrock-runtime.ap-south-1.vpce.amazonaws.com:443", Some("ap-south-1")),
            ("https://bedrock-mantle.us-east-1.api.aws/v1", Some("us-east-1")),
            ("https://bedrock-runtime.{region}.amazonaws.com", None),
            ("http://127.0.0.1:8080", None),
            ("https://bedrock-runtime", None),
        ] {
            assert_eq!(region_in(url), region, "{url}");
        }
    }
}
