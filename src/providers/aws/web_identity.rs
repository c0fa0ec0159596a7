//! The role of a web identity: EKS with roles for service accounts, and federation. A file holds the proof of who we
//! are; AWS's token service gives keys for it.
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>

use std::path::PathBuf;

use http::HeaderValue;
use http::header::ACCEPT;
use http::uri::PathAndQuery;
use serde_json::{Map, Value};

use super::container::text;
use super::{AwsScope, malformed};
use crate::fault::{Fault, FaultKind, Retry};
use crate::providers::grant::{Grant, GrantAnswer, GrantAsk, GrantStep, identity};
use crate::providers::{locate::locate, scrub};
use crate::target::Origin;

/// Keys of the role of a web identity.
pub struct WebIdentity {
    scope: AwsScope,
    place: (Origin, PathAndQuery),
    role: String,
    session: String,
    file: PathBuf,
}

impl WebIdentity {
    /// `file` holds the identity's token, `session` names us in AWS's logs. The token service is that of the region,
    /// or the one at `endpoint`.
    ///
    /// # Errors
    /// What is wrong with the endpoint.
    pub fn new(
        scope: AwsScope,
        role: String,
        session: String,
        file: PathBuf,
        endpoint: Option<&str>,
    ) -> Result<Self, String> {
        let usual = format!("https://sts.{}.amazonaws.com/", scope.region);
        let place = locate(endpoint.unwrap_or(&usual))?;
        Ok(Self { scope, place, role, session, file })
    }
}

impl Grant for WebIdentity {
    fn step(&self, answers: &[GrantAnswer], unix_ms: u64) -> Result<GrantStep, Fault> {
        let (token, answer) = match answers {
            [] => return Ok(GrantStep::Read(self.file.clone())),
            [token] => (token, None),
            [token, answer, ..] => (token, Some(answer)),
        };
        if let Some(answer) = answer {
            return Ok(GrantStep::Done(self.scope.granted(&keys(answer, unix_ms)?, unix_ms)?));
        }
        if token.status == 404 {
            let message = "the file of the web identity's token cannot be read";
            return Err(Fault::new(FaultKind::Credentials, message).retry(Retry::Elsewhere));
        }
        let fields = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", &self.role),
            ("RoleSessionName", &self.session),
            ("WebIdentityToken", text(token, unix_ms)?),
        ];
        let (origin, path) = self.place.clone();
        let ask = GrantAsk::form(origin, path, &fields);
        Ok(ask.with(ACCEPT, HeaderValue::from_static("application/json")).into())
    }

    fn identity(&self) -> [u8; 32] {
        let (place, file) = (self.place.0.authority(), self.file.display().to_string());
        let parts = [
            "web identity",
            &place,
            &self.role,
            &self.session,
            &file,
            &self.scope.region,
            self.scope.service,
        ];
        identity(&parts.map(str::as_bytes))
    }
}

const FIELDS: [&str; 4] = ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"];

/// The keys in the token service's answer: JSON where it heeds the wish for it, else XML.
fn keys(answer: &GrantAnswer, unix_ms: u64) -> Result<Map<String, Value>, Fault> {
    if !(200..300).contains(&answer.status) {
        return Err(refusal(answer, unix_ms));
    }
    if let Ok(value) = serde_json::from_slice::<Value>(&answer.body) {
        let at = "/AssumeRoleWithWebIdentityResponse/AssumeRoleWithWebIdentityResult/Credentials";
        let found = value.pointer(at).and_then(Value::as_object).cloned();
        return found.ok_or_else(|| malformed("the answer has no keys"));
    }
    let xml = text(answer, unix_ms)?;
    Ok(FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), element(xml, name)?.into()))).collect())
}

/// The token service says what is wrong in JSON or XML of its own.
fn refusal(answer: &GrantAnswer, unix_ms: u64) -> Fault {
    let fault = answer.fault(unix_ms);
    let body = String::from_utf8_lossy(&answer.body);
    let json = serde_json::from_str::<Value>(&body).unwrap_or_default();
    let said = |name: &str| {
        let field = json.pointer(&format!("/Error/{name}")).and_then(Value::as_str);
        field.or_else(|| element(&body, name)).map(str::to_owned)
    };
    let text = match (said("Code"), said("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (one, other) => one.or(other).unwrap_or_default(),
    };
    match scrub::scrub(&text) {
        Some(text) => Fault { message: format!("status {}: {text}", answer.status).into(), ..fault },
        None => fault,
    }
}

/// The text of the first element of this name; what AWS writes there has no entities.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}
