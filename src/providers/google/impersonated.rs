//! A service account that other credentials may act for.
//! <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::uri::PathAndQuery;
use serde_json::{Value, json};

use super::{Fields, SCOPE, billed, credentials, optional, required};
use crate::fault::{Fault, FaultKind, Retry};
use crate::providers::credential::{Sign, Signable};
use crate::providers::grant::{
    FixedHeaders, Grant, GrantAnswer, GrantAsk, GrantStep, Granted, USUAL_LIFE, identity,
};
use crate::providers::locate::locate;
use crate::target::Origin;

pub(super) struct Impersonated {
    source: Box<dyn Grant>,
    place: (Origin, PathAndQuery),
    delegates: Vec<Value>,
    quota_project: Option<String>,
    identity: [u8; 32],
}

impl Impersonated {
    pub(super) fn new(
        source: Box<dyn Grant>,
        url: &str,
        delegates: Vec<Value>,
        quota_project: Option<String>,
    ) -> Result<Self, String> {
        let all = Value::Array(delegates.clone()).to_string();
        Ok(Self {
            place: locate(url).map_err(|what| format!("`service_account_impersonation_url` {what}"))?,
            identity: identity(&[&source.identity(), url.as_bytes(), all.as_bytes()]),
            source,
            delegates,
            quota_project,
        })
    }

    /// A file of the type `impersonated_service_account`.
    pub(super) fn read(fields: &Fields) -> Result<Self, String> {
        let source = fields.get("source_credentials").and_then(Value::as_object);
        let source = source.ok_or("has no `source_credentials`")?;
        if optional(source, "type") == Some("impersonated_service_account") {
            return Err("`source_credentials` are impersonated themselves".into());
        }
        let source = credentials(source).map_err(|what| format!("`source_credentials`: {what}"))?.grant;
        let url = required(fields, "service_account_impersonation_url")?;
        let delegates = fields.get("delegates").and_then(Value::as_array).cloned().unwrap_or_default();
        let quota = optional(fields, "quota_project_id").map(str::to_owned);
        Self::new(source, url, delegates, quota)
    }

    fn ask(&self, source: &dyn Sign, unix_ms: u64) -> Result<GrantStep, Fault> {
        let mut body = json!({ "scope": [SCOPE], "lifetime": format!("{}s", USUAL_LIFE.as_secs()) });
        if !self.delegates.is_empty() {
            body["delegates"] = self.delegates.clone().into();
        }
        let (origin, path) = self.place.clone();
        let mut ask = GrantAsk::json(origin, path, &body);
        let mut headers = HeaderMap::new();
        let request = Signable {
            method: &ask.method,
            authority: &ask.origin.authority(),
            path_and_query: &ask.path_and_query,
            headers: &mut headers,
            body: &[Bytes::copy_from_slice(&ask.body)],
        };
        source.sign(request, unix_ms)?;
        ask.headers.extend(headers);
        Ok(ask.into())
    }

    fn granted(&self, answer: &GrantAnswer, unix_ms: u64) -> Result<GrantStep, Fault> {
        let object = answer.object(unix_ms)?;
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let broken = || {
            let what = "the answer has no `accessToken` with its `expireTime`";
            Fault::new(FaultKind::Malformed, what).retry(Retry::Elsewhere)
        };
        let signer = text("accessToken").and_then(FixedHeaders::bearer).ok_or_else(broken)?;
        let end: jiff::Timestamp =
            text("expireTime").and_then(|time| time.parse().ok()).ok_or_else(broken)?;
        let expires_ms = u64::try_from(end.as_millisecond()).map_err(|_| broken())?;
        let signer = Arc::new(billed(signer, self.quota_project.as_deref()));
        Ok(GrantStep::Done(Granted { signer, expires_ms }))
    }
}

impl Grant for Impersonated {
    fn step(&self, answers: &[GrantAnswer], unix_ms: u64) -> Result<GrantStep, Fault> {
        // The source's steps come first; where it is done, ours begin.
        for taken in 0..=answers.len() {
            let (sources, ours) = answers.split_at(taken);
            match self.source.step(sources, unix_ms)? {
                GrantStep::Done(source) => {
                    return match ours.first() {
                        None => self.ask(&*source.signer, unix_ms),
                        Some(answer) => self.granted(answer, unix_ms),
                    };
                }
                step if ours.is_empty() => return Ok(step),
                _ => {}
            }
        }
        Err(Fault::new(FaultKind::Internal, "the source of credentials has no end"))
    }

    fn identity(&self) -> [u8; 32] {
        self.identity
    }
}
