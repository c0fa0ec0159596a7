//! The first bytes of sound, pictures and transcripts, which nobody reads on their way: whether they are an answer.
//!
//! Nothing has gone to the client yet, so what is none goes to the next target.

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::raw::Raw;
use super::secrecy::Secrets;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::providers::{Hold, Target};

/// No error is told in more bytes; of a document that is longer, this much is looked at.
const MOST: usize = 4 << 10;

/// How pages begin.
const PAGES: [&str; 2] = ["<!doctype html", "<html"];

/// The answer with its beginning read, where it is one of those that have to be looked at.
///
/// # Errors
/// What its beginning tells of it: that it is empty, a page, no JSON, or an error under a status of success; or that it broke
/// off before it began.
pub(super) async fn looked_at(mut raw: Raw, hold: Option<&Hold>) -> Result<Box<Raw>, Fault> {
    let made = matches!(raw.form.endpoint, Endpoint::Speech | Endpoint::Transcription | Endpoint::Images);
    if raw.form.as_it_came || !made {
        return Ok(Box::new(raw));
    }
    let kind = raw.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let opening = Opening { endpoint: raw.form.endpoint, kind: String::from_utf8_lossy(kind).to_lowercase() };
    let read = raw.hold(MOST, |held| opening.is_enough(held)).await;
    let seen = match read {
        Ok((begun, whole)) => opening.judged(&begun, whole, &raw.target).map(|()| begun),
        Err(fault) => Err(fault),
    };
    match seen {
        Ok(begun) => {
            raw.begin_with(begun);
            Ok(Box::new(raw))
        }
        Err(fault) => {
            // The rest of the request is another target's, as far as nothing of it has gone out.
            raw.upload = None;
            Err(Secrets::new(&raw.target, hold, &raw.secrets).kept_out_of(fault))
        }
    }
}

struct Opening {
    endpoint: Endpoint,
    /// The content type, in lower case.
    kind: String,
}

impl Opening {
    /// Whether what has come tells enough. Sound is never waited for.
    fn is_enough(&self, held: &[u8]) -> bool {
        let text = held.trim_ascii_start();
        match text.first() {
            None => false,
            Some(b'<') => text.len() >= PAGES[0].len(),
            // A document is nothing before its end.
            Some(b'{') => !self.kind.starts_with("application/json") && first_value(text).is_some(),
            Some(_) if self.is_events() => {
                ["\n\n", "\r\n\r\n"].iter().any(|end| memchr::memmem::find(text, end.as_bytes()).is_some())
            }
            Some(_) => true,
        }
    }

    fn judged(&self, begun: &[u8], whole: bool, target: &Target) -> Result<(), Fault> {
        let text = begun.trim_ascii_start();
        match text.first() {
            // Nobody may have said a word.
            None if self.endpoint == Endpoint::Transcription && self.kind.starts_with("text/plain") => Ok(()),
            None => Err(malformed("the provider sent an empty answer")),
            Some(b'<') if self.is_page(text) => Err(malformed("the provider answered with a page")),
            Some(b'{') => match first_value(text) {
                Some(value) => error_in(&value, target),
                None if whole => Err(malformed("the provider's answer is not JSON")),
                None => Ok(()),
            },
            Some(_) if self.is_events() => {
                let text = String::from_utf8_lossy(text);
                let said = text.lines().find_map(|line| line.strip_prefix("data:"));
                let value = said.and_then(|said| first_value(said.as_bytes()));
                value.map_or(Ok(()), |value| error_in(&value, target))
            }
            Some(_) => Ok(()),
        }
    }

    fn is_events(&self) -> bool {
        self.kind.starts_with("text/event-stream")
    }

    fn is_page(&self, text: &[u8]) -> bool {
        let begins = |page: &str| {
            text.get(..page.len()).is_some_and(|head| head.eq_ignore_ascii_case(page.as_bytes()))
        };
        self.kind.starts_with("text/html") || PAGES.iter().any(|page| begins(page))
    }
}

/// The first value of what may be several, one after the other.
fn first_value(text: &[u8]) -> Option<Value> {
    serde_json::Deserializer::from_slice(text).into_iter().next()?.ok()
}

/// What a document says where an answer was due.
fn error_in(value: &Value, target: &Target) -> Result<(), Fault> {
    let Some(fields) = value.as_object() else { return Ok(()) };
    if !fields.is_empty() && fields.get("error").is_none_or(Value::is_null) {
        return Ok(());
    }
    match target.wire().decode(value.to_string().as_bytes()) {
        Err(fault) if fault.kind != FaultKind::Malformed => Err(fault),
        _ => Err(malformed("the provider answered with an error in place of an answer")),
    }
}

fn malformed(text: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, text)
}
