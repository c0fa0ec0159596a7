//! How something that expires and authorises requests is fetched: what to ask, and how to read the answers, sans-IO.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use zeroize::Zeroizing;

use super::credential::{Sign, Signable};
use super::{retry_after, scrub};
use crate::fault::{Fault, FaultKind, Retry};
use crate::target::Origin;

/// How long something lives whose answer does not say.
pub const USUAL_LIFE: Duration = Duration::from_secs(3600);

/// A way to fetch what authorises requests for a while: a token, or keys to sign with.
pub trait Grant: Send + Sync {
    /// The next step, given the answers to all steps before, in order. A pure function: the same answers at the same
    /// time lead to the same step.
    ///
    /// # Errors
    /// What the answers say is wrong, with [`GrantAnswer::fault`] for those that are refusals.
    fn step(&self, answers: &[GrantAnswer], unix_ms: u64) -> Result<GrantStep, Fault>;

    /// What tells this grant from others: equal where the provider would give the same (see [`identity`]). What was
    /// fetched outlives a reload of the configuration that leaves it unchanged.
    fn identity(&self) -> [u8; 32];
}

/// What has to be done next to fetch something.
pub enum GrantStep {
    /// Send this and come back with the answer, whatever its status.
    Ask(Box<GrantAsk>),
    /// Read this file and come back with its content as an answer of status 200, or of 404.
    Read(PathBuf),
    /// There it is.
    Done(Granted),
}

/// A request to a token endpoint.
pub struct GrantAsk {
    /// `GET`, `POST` or `PUT`.
    pub method: Method,
    /// Where.
    pub origin: Origin,
    /// Path and query there.
    pub path_and_query: PathAndQuery,
    /// All headers but `host` and `content-length`; secret values are marked sensitive.
    pub headers: HeaderMap,
    /// The body; wiped after it was sent.
    pub body: Zeroizing<Vec<u8>>,
    /// What of the body nobody may read, as it is and as it stands there: refusals may repeat it.
    pub secrets: Vec<Zeroizing<Vec<u8>>>,
}

/// Fields of forms that nobody may read: OAuth's (RFC 6749, RFC 7521, RFC 8693) and those of AWS.
const SECRETS: [&str; 6] =
    ["client_secret", "refresh_token", "assertion", "client_assertion", "subject_token", "WebIdentityToken"];

/// The answer to one step.
pub struct GrantAnswer {
    /// HTTP status.
    pub status: u16,
    /// Response headers; none for a file.
    pub headers: HeaderMap,
    /// The body, wiped on drop.
    pub body: Zeroizing<Vec<u8>>,
}

/// What was fetched.
pub struct Granted {
    /// Puts it into requests.
    pub signer: Arc<dyn Sign>,
    /// Until when, in Unix milliseconds.
    pub expires_ms: u64,
}

impl GrantAsk {
    /// A request without a body.
    pub fn get(origin: Origin, path_and_query: PathAndQuery) -> Self {
        let (headers, body, secrets) = (HeaderMap::new(), Zeroizing::default(), Vec::new());
        Self { method: Method::GET, origin, path_and_query, headers, body, secrets }
    }

    /// A form, as OAuth wants it (RFC 6749, appendix B).
    pub fn form(origin: Origin, path_and_query: PathAndQuery, fields: &[(&str, &str)]) -> Self {
        let mut body = Zeroizing::new(String::with_capacity(
            fields.iter().map(|(name, value)| name.len() + value.len() * 3 + 2).sum(),
        ));
        let mut secrets = Vec::new();
        for (name, value) in fields {
            if !body.is_empty() {
                body.push('&');
            }
            body.push_str(name);
            body.push('=');
            let start = body.len();
            encode(value, &mut body);
            if SECRETS.contains(name) {
                let spelt = body.as_bytes().get(start..).unwrap_or_default();
                secrets.extend([value.as_bytes(), spelt].map(|secret| Zeroizing::new(secret.to_vec())));
            }
        }
        let body = Zeroizing::new(std::mem::take(&mut *body).into_bytes());
        Self { secrets, ..Self::post(origin, path_and_query, "application/x-www-form-urlencoded", body) }
    }

    /// A JSON document.
    pub fn json(origin: Origin, path_and_query: PathAndQuery, body: &Value) -> Self {
        let body = Zeroizing::new(body.to_string().into_bytes());
        Self::post(origin, path_and_query, "application/json", body)
    }

    fn post(
        origin: Origin,
        path_and_query: PathAndQuery,
        kind: &'static str,
        body: Zeroizing<Vec<u8>>,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Self { method: Method::POST, origin, path_and_query, headers, body, secrets: Vec::new() }
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// Percent-encodes what may not stand in a form or a query.
pub(super) fn encode(text: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend([byte >> 4, byte & 15].map(|half| char::from(DIGITS[usize::from(half)])));
        }
    }
}

impl GrantAnswer {
    /// The JSON object of a successful answer.
    ///
    /// # Errors
    /// What a refusal means; `Malformed` where a success is no JSON object.
    pub fn object(&self, unix_ms: u64) -> Result<serde_json::Map<String, Value>, Fault> {
        if !(200..300).contains(&self.status) {
            return Err(self.fault(unix_ms));
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            _ => Err(Fault::new(FaultKind::Malformed, "the answer is no JSON object")),
        }
    }

    /// What a refusal means: the credentials are wrong, or nobody can tell now.
    pub fn fault(&self, unix_ms: u64) -> Fault {
        let kind = match self.status {
            408 | 429 | 500..=599 => FaultKind::Overloaded,
            300..=399 => FaultKind::Malformed,
            _ => FaultKind::Credentials,
        };
        let said = serde_json::from_slice::<Value>(&self.body).ok().and_then(|body| said(&body));
        let message = match said.as_deref().and_then(scrub::scrub) {
            Some(text) => format!("status {}: {text}", self.status),
            None => format!("status {}", self.status),
        };
        let after = retry_after::from_headers(&self.headers, unix_ms);
        Fault::new(kind, message).after(after).retry(Retry::Elsewhere)
    }
}

/// What an error answer says: OAuth's form (RFC 6749 §5.2), Google's, or just a text.
fn said(body: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let error = body.get("error")?;
    let (word, more) = match error {
        Value::String(word) => (Some(word.clone()), body.get("error_description").and_then(text)),
        _ => (error.get("status").and_then(text), error.get("message").and_then(text)),
    };
    match (word, more) {
        (Some(word), Some(more)) => Some(format!("{word}: {more}")),
        (one, other) => one.or(other),
    }
}

/// A digest of all that a grant is made of.
pub fn identity(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Headers that authorise a request as they are.
pub struct FixedHeaders(Vec<(HeaderName, HeaderValue)>);

impl FixedHeaders {
    /// `authorization: Bearer <token>`; `None` when the token cannot stand in a header.
    pub fn bearer(token: &str) -> Option<Self> {
        let text = Zeroizing::new(format!("Bearer {token}"));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(Self(vec![(AUTHORIZATION, value)]))
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.push((name, value));
        self
    }
}

impl Sign for FixedHeaders {
    fn covers_body(&self) -> bool {
        false
    }

    fn sign(&self, request: Signable<'_>, _: u64) -> Result<(), Fault> {
        for (name, value) in &self.0 {
            request.headers.insert(name.clone(), value.clone());
        }
        Ok(())
    }
}

/// The bearer token of an OAuth answer (`access_token`, `expires_in`), and until when it lives.
///
/// # Errors
/// What a refusal means; `Malformed` where there is no token.
pub fn bearer(answer: &GrantAnswer, unix_ms: u64) -> Result<(FixedHeaders, u64), Fault> {
    let object = answer.object(unix_ms)?;
    let token = object.get("access_token").and_then(Value::as_str).filter(|token| !token.is_empty());
    let signer = token.and_then(FixedHeaders::bearer).ok_or_else(|| {
        Fault::new(FaultKind::Malformed, "the answer has no `access_token`").retry(Retry::Elsewhere)
    })?;
    // Azure's metadata service writes numbers as texts.
    let seconds = object.get("expires_in").and_then(|value| match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    });
    let life = seconds.map_or(USUAL_LIFE, Duration::from_secs);
    Ok((signer, unix_ms.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX))))
}

impl From<GrantAsk> for GrantStep {
    fn from(ask: GrantAsk) -> Self {
        Self::Ask(Box::new(ask))
    }
}

impl GrantAnswer {
    /// The content of a file.
    pub fn file(content: Option<Vec<u8>>) -> Self {
        let status = if content.is_some() { 200 } else { 404 };
        Self { status, headers: HeaderMap::new(), body: Zeroizing::new(content.unwrap_or_default()) }
    }

    /// An answer whose body came in one piece that nobody else holds is wiped where it lies.
    pub fn wiping(status: u16, headers: HeaderMap, body: Bytes) -> Self {
        let kept = Zeroizing::new(body.to_vec());
        if let Ok(mut body) = body.try_into_mut() {
            body.fill(0);
        }
        Self { status, headers, body: kept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> GrantAnswer {
        GrantAnswer::wiping(status, HeaderMap::new(), Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn a_token_lives_as_long_as_its_answer_says() {
        for (body, lives_ms) in [
            (r#"{"access_token":"t","expires_in":3599,"token_type":"Bearer"}"#, 3_599_000),
            (r#"{"access_token":"t","expires_in":"86399","not_before":"1"}"#, 86_399_000),
            (r#"{"access_token":"t"}"#, 3_600_000),
        ] {
            let (_, expires) = bearer(&answer(200, body), 1_000).unwrap();
            assert_eq!(expires, 1_000 + lives_ms, "{body}");
        }
    }

    #[test]
    fn a_refusal_says_whose_fault_it_is() {
        for (status, body, kind, message) in [
            (
                400,
                r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#,
                FaultKind::Credentials,
                "status 400: invalid_grant: Invalid JWT Signature.",
            ),
            (401, r#"{"error":"invalid_client"}"#, FaultKind::Credentials, "status 401: invalid_client"),
            (
                403,
                r#"{"error":{"status":"PERMISSION_DENIED","message":"no"}}"#,
                FaultKind::Credentials,
                "status 403: PERMISSION_DENIED: no",
            ),
            (503, "<html>busy</html>", FaultKind::Overloaded, "status 503"),
            (429, "", FaultKind::Overloaded, "status 429"),
            (302, "", FaultKind::Malformed, "status 302"),
            (200, r#"{"id_token":"x"}"#, FaultKind::Malformed, "the answer has no `access_token`"),
            (200, "[]", FaultKind::Malformed, "the answer is no JSON object"),
            (200, r#"{"access_token":"a\nb"}"#, FaultKind::Malformed, "the answer has no `access_token`"),
        ] {
            let fault = bearer(&answer(status, body), 0).err().unwrap();
            assert_eq!((fault.kind, &*fault.message), (kind, message), "{body}");
        }
    }

    #[test]
    fn a_form_is_encoded() {
        let origin = Origin {
            tls: true,
            host: "h".into(),
            port: 443,
            tls13_only: false,
            h2c: false,
            reach: crate::target::Reach::Public,
        };
        let fields = [("a", "x y"), ("client_secret", "é&=")];
        let ask = GrantAsk::form(origin, PathAndQuery::from_static("/t"), &fields);
        assert_eq!(&**ask.body, b"a=x%20y&client_secret=%C3%A9%26%3D");
        let secrets: Vec<&[u8]> = ask.secrets.iter().map(|secret| &***secret).collect();
        assert_eq!(secrets, ["é&=".as_bytes(), b"%C3%A9%26%3D"]);
    }
}
