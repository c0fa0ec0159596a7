//! A cheap request of the gateway's own, to see whether a provider answers: its list of models.

use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::Instant;

use super::Executor;
use super::attempt::outbound;
use crate::fault::FaultKind;
use crate::providers::{Dialect, Outgoing, Place, Target, Wish};

/// A list of models is read so far; its connection is not kept when it is longer.
const MOST_ANSWER: u64 = 1 << 20;

/// Where a dialect lists its models, below the base URL.
fn path(dialect: Dialect) -> Option<&'static str> {
    match dialect {
        Dialect::OpenAi | Dialect::Responses | Dialect::Anthropic | Dialect::Gemini => Some("/models"),
        Dialect::Ollama => Some("/tags"),
        // No list below the base URL, or only for other permissions than those to ask a model.
        Dialect::Bedrock | Dialect::Cohere => None,
    }
}

impl Executor {
    /// Whether the provider of a target answers at all; `None` where it cannot be asked. Any answer below 500 will do:
    /// the list may be forbidden to the key, and is none the less an answer.
    pub async fn probe(&self, target: &Target, timeout: Duration) -> Option<bool> {
        let Place::Http(place) = &target.vendor.place else { return None };
        let dialect = target.vendor.wire.dialect();
        let path = path(dialect)?.to_owned();
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if dialect == Dialect::Anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        let now = Instant::now();
        let wish = Wish { model: &target.name.model, tokens: 0, sticky: None, but: None };
        let hold = target.vendor.ring.choose(wish, &self.dice, now).ok()?;
        let asking = Outgoing {
            method: Method::GET,
            path,
            is_absolute: false,
            headers,
            body: Vec::new(),
            lost: Vec::new(),

            tier: None,
        };
        let mut request = outbound(place, target, hold.as_ref(), asking).ok()?;
        let exchange = async {
            self.authorise(place, target, &mut request).await?;
            let answer = self.upstream.send(&place.origin, request, target.vendor.deadlines.connect).await?;
            let (head, body) = answer.into_parts();
            // Read to its end, so that the connection can be kept.
            let _ = body.collect(MOST_ANSWER).await;
            Ok::<_, crate::fault::Fault>(head.status.as_u16())
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok(status)) => Some(status < 500),
            // What keeps us from asking says nothing of the provider.
            Ok(Err(fault)) if matches!(fault.kind, FaultKind::Credentials | FaultKind::Unavailable) => None,
            Ok(Err(_)) | Err(_) => Some(false),
        }
    }
}
