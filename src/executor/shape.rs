//! What came where a stream was asked for: events, a whole answer all the same, or a page of somebody between.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::answering::Answering;
use super::due::{Due, passed};
use crate::fault::{Fault, FaultKind, Phase};
use crate::providers::{Dialect, Target};

/// Content types whose bodies are read as they say, by how they begin.
const STREAMS: [&[u8]; 4] = [
    b"text/event-stream",
    b"application/x-ndjson",
    b"application/jsonl",
    b"application/vnd.amazon.eventstream",
];
const WHOLE: &[u8] = b"application/json";

/// What an answer's head says that its body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Events, one after the other.
    Stream,
    /// One JSON document.
    Whole,
    /// Nothing that helps: a page, or a provider that says too little.
    Unsaid,
}

impl Shape {
    /// By the content type.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes().trim_ascii_start());
        let is = |known: &[u8]| kind.get(..known.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(known));
        if is(WHOLE) {
            Self::Whole
        } else if STREAMS.into_iter().any(is) {
            Self::Stream
        } else {
            Self::Unsaid
        }
    }

    /// Whether the body is one JSON document; where the head says too little, by its first bytes.
    ///
    /// # Errors
    /// When it is a page, or its first bytes do not come.
    pub(super) async fn is_whole(
        self,
        target: &Target,
        body: &mut Answering,
        due: Due,
    ) -> Result<bool, Fault> {
        if self != Self::Unsaid || target.vendor.interpreter.is_some() || body.is_local() {
            return Ok(self == Self::Whole);
        }
        let late = || passed(due.first_token, due, Phase::FirstToken);
        let Some(begun) = body.chunk(due.first_token, late).await? else { return Ok(false) };
        let is_whole = match begun.trim_ascii_start().first() {
            Some(b'<') => {
                let text = "the provider answered with a page where a stream was asked for";
                return Err(Fault::new(FaultKind::Malformed, text));
            }
            Some(b'{') => target.wire().dialect() != Dialect::Ollama,
            _ => false,
        };
        body.put_back(begun);
        Ok(is_whole)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_content_type_says_what_comes() {
        for (kind, shape) in [
            ("text/event-stream; charset=utf-8", Shape::Stream),
            ("Application/X-NDJSON", Shape::Stream),
            ("application/json", Shape::Whole),
            (" application/json; charset=utf-8", Shape::Whole),
            ("text/html", Shape::Unsaid),
            ("text/plain", Shape::Unsaid),
            ("", Shape::Unsaid),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(Shape::of(&headers), shape, "{kind}");
        }
        assert_eq!(Shape::of(&HeaderMap::new()), Shape::Unsaid);
    }
}
