//! Workload identity federation: a token of another house (a file, or a URL that gives one) is exchanged for Google's.
//! <https://google.aip.dev/auth/4117>

use std::path::PathBuf;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use zeroize::Zeroizing;

use super::impersonated::Impersonated;
use super::{Fields, SCOPE, billed, optional, required};
use crate::fault::{Fault, FaultKind, Retry};
use crate::providers::grant::{Grant, GrantAnswer, GrantAsk, GrantStep, Granted, bearer, identity};
use crate::providers::locate::locate;
use crate::target::Origin;

const TOKEN_URL: &str = "https://sts.googleapis.com/v1/token";

struct External {
    audience: String,
    kind: String,
    source: Source,
    /// The field of a JSON document that holds the token; without it, the whole text is the token.
    field: Option<String>,
    place: (Origin, PathAndQuery),
    quota_project: Option<String>,
    identity: [u8; 32],
}

/// Where the token of the other house comes from.
enum Source {
    File(PathBuf),
    Url { place: (Origin, PathAndQuery), headers: Vec<(HeaderName, HeaderValue)> },
}

/// Reads the file's fields; where it names a service account to act for, that comes on top.
pub(super) fn read(fields: &Fields) -> Result<Box<dyn Grant>, String> {
    let external = Box::new(External::read(fields)?);
    match optional(fields, "service_account_impersonation_url") {
        None => Ok(external),
        Some(url) => Ok(Box::new(Impersonated::new(external, url, Vec::new(), None)?)),
    }
}

impl External {
    fn read(fields: &Fields) -> Result<Self, String> {
        let source = fields.get("credential_source").and_then(Value::as_object);
        let source = source.ok_or("has no `credential_source`")?;
        let format = source.get("format").and_then(Value::as_object);
        let json = format.is_some_and(|format| optional(format, "type") == Some("json"));
        let field = format.and_then(|format| optional(format, "subject_token_field_name"));
        let field = json.then(|| field.unwrap_or("access_token").to_owned());
        let url = optional(fields, "token_url").unwrap_or(TOKEN_URL);
        let all = Value::Object(fields.clone()).to_string();
        Ok(Self {
            audience: required(fields, "audience")?.to_owned(),
            kind: required(fields, "subject_token_type")?.to_owned(),
            source: Source::read(source)?,
            field,
            place: locate(url).map_err(|what| format!("`token_url` {what}"))?,
            quota_project: optional(fields, "quota_project_id").map(str::to_owned),
            identity: identity(&[all.as_bytes()]),
        })
    }

    /// The token in the answer of its source.
    fn subject(&self, answer: &GrantAnswer, unix_ms: u64) -> Result<Zeroizing<String>, Fault> {
        let broken = |what: &'static str| Fault::new(FaultKind::Credentials, what).retry(Retry::Elsewhere);
        if answer.status == 404 && matches!(self.source, Source::File(_)) {
            return Err(broken("the file of the token to exchange cannot be read"));
        }
        let token = match &self.field {
            Some(field) => {
                let object = answer.object(unix_ms)?;
                let token = object.get(field).and_then(Value::as_str).map(str::to_owned);
                token.ok_or_else(|| broken("the token to exchange is not in its field"))?
            }
            None if !(200..300).contains(&answer.status) => return Err(answer.fault(unix_ms)),
            None => String::from_utf8_lossy(&answer.body).trim().to_owned(),
        };
        let token = Zeroizing::new(token);
        if token.is_empty() { Err(broken("the token to exchange is empty")) } else { Ok(token) }
    }
}

impl Source {
    fn read(fields: &Fields) -> Result<Self, String> {
        if let Some(path) = optional(fields, "file") {
            return Ok(Self::File(path.into()));
        }
        let url = optional(fields, "url").filter(|_| optional(fields, "environment_id").is_none());
        let url =
            url.ok_or("takes its token from AWS or a program, which is not supported: use a file or a URL")?;
        let mut headers = Vec::new();
        for (name, value) in fields.get("headers").and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
            let (Ok(name), Some(mut value)) = (name.parse(), value) else {
                return Err("has a header in `credential_source` that is none".into());
            };
            value.set_sensitive(true);
            headers.push((name, value));
        }
        let place = locate(url).map_err(|what| format!("`credential_source.url` {what}"))?;
        Ok(Self::Url { place, headers })
    }
}

impl Grant for External {
    fn step(&self, answers: &[GrantAnswer], unix_ms: u64) -> Result<GrantStep, Fault> {
        match answers {
            [] => Ok(match &self.source {
                Source::File(path) => GrantStep::Read(path.clone()),
                Source::Url { place: (origin, path), headers } => {
                    let ask = GrantAsk::get(origin.clone(), path.clone());
                    let ask =
                        headers.iter().fold(ask, |ask, (name, value)| ask.with(name.clone(), value.clone()));
                    ask.into()
                }
            }),
            [subject] => {
                let subject = self.subject(subject, unix_ms)?;
                let fields = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("audience", &*self.audience),
                    ("scope", SCOPE),
                    ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                    ("subject_token_type", &*self.kind),
                    ("subject_token", &**subject),
                ];
                let (origin, path) = self.place.clone();
                Ok(GrantAsk::form(origin, path, &fields).into())
            }
            [_, answer, ..] => {
                let (signer, expires_ms) = bearer(answer, unix_ms)?;
                let signer = Arc::new(billed(signer, self.quota_project.as_deref()));
                Ok(GrantStep::Done(Granted { signer, expires_ms }))
            }
        }
    }

    fn identity(&self) -> [u8; 32] {
        self.identity
    }
}
