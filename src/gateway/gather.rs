//! The facts that policies see, gathered from the head and the body of a request.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::Snapshot;
use super::door::Asked;
use super::identify::{classify, with_forced};
use super::inspect;
use super::line::Opened;
use crate::caller::Caller;
use crate::facts::market::Market;
use crate::facts::{Endpoint, Facts, FactsRecord, HIDDEN_HEADERS};
use crate::fault::{Fault, FaultKind, Phase};
use crate::headers;
use crate::policy::{Decided, Session};

/// The most tags that `x-tollgate-tags` may carry.
const MAX_TAGS: usize = 16;

/// Keys and values, in the order given.
pub(super) type Tags = Vec<(Arc<str>, Arc<str>)>;

/// What policies see of a request, by its head and its body.
pub(super) fn facts_of(
    request_id: Arc<str>,
    endpoint: Endpoint,
    caller: Caller,
    mut headers: HeaderMap,
    asked: &Arc<dyn Asked>,
    at_ms: u64,
    market: Arc<dyn Market>,
) -> Result<Facts, Fault> {
    for name in HIDDEN_HEADERS {
        headers.remove(name);
    }
    if let Some(grant) = &caller.grant {
        classify(&mut headers, grant)?;
    }
    let tags = tags(&headers)?;
    inspect::no_forged(&tags)?;
    let tags = with_forced(tags, &caller);
    let session = text_of(&headers, &headers::SESSION)?.map(Into::into);
    let user = caller.user.or_else(|| asked.user().map(Into::into));
    let caller = Caller { user, session, ..caller };
    let (model, body) = (asked.model().clone(), asked.clone());
    let rates = Vec::new();
    Ok(Facts { request_id, endpoint, model, caller, headers, tags, at_ms, body, rates, market })
}

/// What the decision record keeps of a request's facts.
pub(super) fn recorded(facts: &Facts, bytes: usize) -> FactsRecord {
    let body = &facts.body;
    FactsRecord {
        endpoint: facts.endpoint,
        model: facts.model.clone(),
        stream: body.stream(),
        tokens: body.tokens(),
        messages: body.messages(),
        tools: body.tool_names().len(),
        max_tokens: body.max_tokens(),
        user: facts.caller.user.clone(),
        bytes,
    }
}

/// `x-tollgate-tags: team=legal,feature=search`.
pub(super) fn tags(headers: &HeaderMap) -> Result<Tags, Fault> {
    let bad = || {
        Fault::bad_request(
            format!("write x-tollgate-tags as `key=value,key=value`, at most {MAX_TAGS} of them"),
            "x-tollgate-tags",
        )
    };
    let mut tags = Vec::new();
    // Several lines are one list.
    for line in headers.get_all(&headers::TAGS) {
        for tag in ascii(line, &headers::TAGS)?.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            let (key, value) = tag.split_once('=').ok_or_else(bad)?;
            if key.trim().is_empty() || tags.len() == MAX_TAGS {
                return Err(bad());
            }
            tags.push((key.trim().into(), value.trim().into()));
        }
    }
    Ok(tags)
}

/// `x-tollgate-timeout: 20s`: how long the client will wait; it only ever shortens.
pub(super) fn patience(headers: &HeaderMap) -> Result<Option<Duration>, Fault> {
    let Some(text) = text_of(headers, &headers::TIMEOUT)? else { return Ok(None) };
    let period: crate::settings::Period =
        text.parse().map_err(|error: String| Fault::bad_request(error, "x-tollgate-timeout"))?;
    Ok(Some(period.0))
}

/// When a request ends that asks for no target yet, for a client with this patience.
pub(super) fn end_of(opened: &Opened<'_>, patience: Option<Duration>) -> Instant {
    let total = opened.snapshot.total;
    opened.at + patience.map_or(total, |asked| asked.min(total))
}

/// What the policies say. Only those who may ask plugins can take long.
pub(super) async fn decided(session: &Session, snapshot: &Snapshot, end: Instant) -> Result<Decided, Fault> {
    let deciding = pin!(session.decide());
    if snapshot.plugins.is_empty() { Ok(deciding.await) } else { in_time(deciding, end).await }
}

/// What is asked of plugins before there are targets, for no longer than the request has time.
pub(super) async fn in_time<T>(work: impl Future<Output = T>, end: Instant) -> Result<T, Fault> {
    tokio::time::timeout_at(end, work).await.map_err(|_| {
        let text = "the request's deadline passed while plugins were asked about it";
        Fault::new(FaultKind::Timeout(Phase::Total), text)
    })
}

/// The length that a request says its body has; nothing where it says none.
pub(super) fn length_of(headers: &HeaderMap) -> u64 {
    let said = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    said.and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(super) fn text_of<'h>(
    headers: &'h HeaderMap,
    name: &'static HeaderName,
) -> Result<Option<&'h str>, Fault> {
    headers.get(name).map(|value| ascii(value, name)).transpose()
}

fn ascii<'h>(value: &'h HeaderValue, name: &'static HeaderName) -> Result<&'h str, Fault> {
    value.to_str().map_err(|_| Fault::bad_request("the header is not ASCII text", name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_may_stand_in_several_lines() {
        let read = |lines: &[&str]| {
            let lines = lines
                .iter()
                .map(|line| (headers::TAGS.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap()));
            tags(&lines.collect()).map(|tags| {
                let told = tags.iter().map(|(key, value)| format!("{key}={value}"));
                told.collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(read(&["a=1", " b = 2 ,,c=3"]).ok().as_deref(), Some("a=1 b=2 c=3"));
        assert_eq!(read(&[]).ok().as_deref(), Some(""));
        assert!(read(&["a=1", "b"]).is_err() && read(&["a=1", "b=\u{e4}"]).is_err());
        let nine = "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1";
        assert!(read(&[nine]).is_ok() && read(&[nine, nine]).is_err(), "all together are bounded");
    }
}
