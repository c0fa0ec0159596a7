//! AWS Secrets Manager: one signed request for one value.
//! <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::settings::ManagerSettings;
use super::stores::{Local, Trouble, field_of};
use crate::clock::{Clock, SystemClock};
use crate::executor::{Place, exchange, fetch};
use crate::house::account::{Account, Opened, REGIONS};
use crate::house::check::{Base, base};
use crate::providers::aws::AwsScope;
use crate::providers::{AwsSettings, GrantAnswer, GrantAsk, Granted, SigV4, Sign, Signable, scrub};
use crate::upstream::Upstream;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// Keys of a role are not used in the last minute of their life.
const LAST_MS: u64 = 60_000;

/// Secrets Manager in one region.
pub(super) struct ManagerOfAws {
    base: Base,
    scope: AwsScope,
    account: AwsSettings,
    local: Local,
    upstream: Upstream,
    /// The keys of a role, until they expire, and the role that they are of.
    role: Mutex<Option<([u8; 32], Granted)>>,
}

#[derive(Deserialize)]
struct Value<'a> {
    #[serde(rename = "SecretString", borrow)]
    text: Option<&'a RawValue>,
    #[serde(rename = "SecretBinary", borrow)]
    binary: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(rename = "__type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(alias = "Message", borrow, default)]
    message: Cow<'a, str>,
}

impl ManagerOfAws {
    /// By its settings, and what the environment says in their place.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub(super) fn new(settings: &ManagerSettings, local: Local, upstream: Upstream) -> Result<Self, String> {
        let region = settings.region.clone().or_else(|| REGIONS.iter().find_map(|name| local.plain(name)));
        let region = region
            .ok_or("no region of AWS is known: set `secrets.aws.region`, or AWS_REGION in the environment")?;
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = settings.endpoint.clone().or_else(|| local.plain("AWS_ENDPOINT_URL_SECRETS_MANAGER"));
        let endpoint = endpoint.unwrap_or_else(|| format!("https://secretsmanager.{region}.{suffix}"));
        let base = base(&endpoint).map_err(|what| format!("the address of AWS Secrets Manager {what}"))?;
        let scope = AwsScope { region, service: "secretsmanager" };
        Ok(Self { base, scope, account: settings.account(), local, upstream, role: Mutex::default() })
    }

    /// Reads the current version of a secret, or a field of it.
    pub(super) async fn read(&self, name: &str, field: Option<&str>) -> Result<Zeroizing<String>, Trouble> {
        let body = Bytes::from(serde_json::json!({ "SecretId": name }).to_string());
        let path_and_query = PathAndQuery::try_from(format!("{}/", self.base.path))
            .map_err(|_| Trouble::Refused("the address cannot stand in a URL".into()))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert(TARGET, HeaderValue::from_static("secretsmanager.GetSecretValue"));
        let signable = Signable {
            method: &Method::POST,
            authority: &self.base.origin.authority(),
            path_and_query: &path_and_query,
            headers: &mut headers,
            body: std::slice::from_ref(&body),
        };
        let signer = self.signer().await?;
        signer
            .sign(signable, SystemClock.unix_ms())
            .map_err(|fault| Trouble::Refused(fault.message.into()))?;
        let (origin, body) = (self.base.origin.clone(), Zeroizing::new(body.to_vec()));
        let answer = exchange(
            &self.upstream,
            GrantAsk { method: Method::POST, origin, path_and_query, headers, body, secrets: Vec::new() },
        );
        let answer = answer
            .await
            .map_err(|fault| Trouble::Away(format!("{}: {}", self.base.origin.authority(), fault.message)))?;
        match answer.status {
            200 => found(&answer.body, field).map_err(Trouble::Refused),
            _ => {
                let trouble = refusal(&answer, name);
                // Keys of a role may end before their time.
                if matches!(answer.status, 400 | 401 | 403) {
                    self.role.lock().await.take();
                }
                Err(trouble)
            }
        }
    }

    /// What signs now: keys are looked for anew each time, those of a role are kept until they expire.
    async fn signer(&self) -> Result<Arc<dyn Sign>, Trouble> {
        // What is looked through for keys must not be held over a wait.
        let opened = Account { secrets: &self.local.secrets(), settings: &self.account }.open(&self.scope);
        let opened = opened.map_err(|(field, what)| {
            let place = field.map(|field| format!("secrets.aws.{field}: ")).unwrap_or_default();
            Trouble::Refused(format!("{place}{what}"))
        })?;
        let grant = match opened {
            Opened::Keys(keys) => {
                return Ok(Arc::new(SigV4::new(&keys, self.scope.region.as_str(), self.scope.service)));
            }
            Opened::Role(grant) => grant,
        };
        let mut held = self.role.lock().await;
        match &*held {
            Some((identity, granted))
                if *identity == grant.identity() && SystemClock.unix_ms() + LAST_MS < granted.expires_ms =>
            {
                return Ok(granted.signer.clone());
            }
            _ => {}
        }
        let mut place = Place::default();
        let granted = fetch(&*grant, &self.upstream, &SystemClock, &mut place).await;
        let granted =
            granted.map_err(|fault| Trouble::Away(format!("keys of AWS{place}: {}", fault.message)))?;
        let signer = granted.signer.clone();
        *held = Some((grant.identity(), granted));
        Ok(signer)
    }
}

fn refusal(answer: &GrantAnswer, name: &str) -> Trouble {
    let said = serde_json::from_slice::<Refusal<'_>>(&answer.body).ok();
    let kind = said.as_ref().map(|said| said.kind.rsplit('#').next().unwrap_or_default()).unwrap_or_default();
    let what = match kind {
        "ResourceNotFoundException" => Some(format!("there is no secret `{name}` in this region")),
        "AccessDeniedException" => {
            Some("the keys of AWS do not allow `secretsmanager:GetSecretValue`".to_owned())
        }
        "DecryptionFailure" => Some("the secret's KMS key cannot be used".to_owned()),
        _ => None,
    };
    let message = said.as_ref().and_then(|said| scrub(&said.message));
    let parts = [Some(format!("status {}", answer.status)), scrub(kind), what, message];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
    let busy =
        matches!(kind, "ThrottlingException" | "InternalServiceError" | "InternalServiceErrorException");
    match answer.status {
        429 | 500..=599 => Trouble::Away(text),
        _ if busy => Trouble::Away(text),
        _ => Trouble::Refused(text),
    }
}

/// The text in an answer, or a field of the object that it is.
fn found(body: &[u8], field: Option<&str>) -> Result<Zeroizing<String>, String> {
    let strange = "the answer is none of AWS Secrets Manager";
    let value: Value<'_> = serde_json::from_slice(body).map_err(|_| strange)?;
    let Some(raw) = value.text else {
        let binary = value.binary.is_some();
        return Err(if binary { "the secret is binary, not a text" } else { strange }.into());
    };
    let text = serde_json::from_str::<String>(raw.get()).map(Zeroizing::new).map_err(|_| strange)?;
    let Some(field) = field else { return Ok(text) };
    let fields: HashMap<String, &RawValue> = serde_json::from_str(&text).map_err(|_| {
        format!("the secret is no JSON object, so it has no field `{field}`; leave `#{field}` out")
    })?;
    field_of(&fields, field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_or_one_field_of_it_is_taken_out() {
        let object = br#"{"ARN":"arn:x","SecretString":"{\"key\":\"s3cr3t\",\"n\":1}","VersionStages":["AWSCURRENT"]}"#;
        let plain = br#"{"SecretString":"s3cr3t"}"#;
        for (body, field, expected) in [
            (&object[..], Some("key"), Ok("s3cr3t")),
            (object, None, Ok(r#"{"key":"s3cr3t","n":1}"#)),
            (plain, None, Ok("s3cr3t")),
            (object, Some("kez"), Err("has no field `kez`; it has key, n")),
            (object, Some("n"), Err("`n` is no text")),
            (plain, Some("key"), Err("is no JSON object")),
            (br#"{"SecretBinary":"czNjcjN0"}"#, None, Err("binary")),
            (b"[]", None, Err("none of AWS")),
        ] {
            match (found(body, field), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(*found, expected),
                (Err(error), Err(part)) => {
                    assert!(error.contains(part) && !error.contains("s3cr3t"), "{error}");
                }
                (found, _) => panic!("{field:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_refusal_says_what_is_missing() {
        for (status, body, away, part) in [
            (
                400,
                r#"{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret."}"#,
                false,
                "status 400: ResourceNotFoundException: there is no secret `llm/x` in this region: Secrets Manager can't",
            ),
            (400, r#"{"__type":"com.amazon#AccessDeniedException","Message":"no"}"#, false, "GetSecretValue"),
            (400, r#"{"__type":"ThrottlingException","message":"slow"}"#, true, "ThrottlingException: slow"),
            (503, "<html>", true, "status 503"),
        ] {
            let answer =
                GrantAnswer::wiping(status, HeaderMap::new(), Bytes::copy_from_slice(body.as_bytes()));
            let trouble = refusal(&answer, "llm/x");
            assert_eq!(matches!(trouble, Trouble::Away(_)), away, "{trouble}");
            assert!(trouble.to_string().contains(part), "{trouble}");
        }
    }
}
