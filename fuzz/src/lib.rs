//! What the fuzz targets try: each takes any bytes and panics when a promise is broken.
//!
//! An input begins with a line that says what the rest is meant for, so that seeds can be read and written by hand:
//! `/v1/messages gemini 7` is a door, a provider's dialect, and the seed of the pieces.

mod pieces;
mod said;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri};
use std::sync::Arc;
use tollgate::api::{self, Doorway};
use tollgate::executor::Carry;
use tollgate::frames::SseSplitter;
use tollgate::gateway::{Asked, Head};
use tollgate::json;
use tollgate::providers::{self, DIALECTS, Outgoing, QuirkSettings, Target, Vendor};
use tollgate::store::Shelf;
use tollgate::target::TargetName;

use pieces::pieces;
use said::{is_json, said, same};

/// A client's request: read or refused; what is read can be asked by policies and sent to every provider, and goes out
/// as JSON that passes our own gate.
pub fn request(data: &[u8]) {
    let Some(case) = Case::read(data) else { return };
    let Some(asked) = case.ask(Bytes::copy_from_slice(case.rest)) else { return };
    look(asked.as_ref());
    let Ok(outgoing) = asked.outgoing(&case.target) else { return };
    let text = joined(&outgoing);
    let is_json = outgoing
        .headers
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json && let Err(fault) = json::Body::read(text.clone()) {
        // Twice the same key, or too deep, would be our own doing: the gate has read the client's.
        panic!("goes out as what we would refuse: {fault}\n{}", String::from_utf8_lossy(&text));
    }
    assert!(outgoing.path.starts_with('/'), "{}", outgoing.path);
    for loss in &outgoing.lost {
        // A path may be empty: a client can name a field "".
        assert!(!loss.what.is_empty());
    }
}

/// A provider's whole answer, or its error: read or refused, and what goes to the client is JSON.
pub fn answer(data: &[u8]) {
    let Some(case) = Case::read(data) else { return };
    for status in [400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 529] {
        let fault = case.target.vendor.wire.fault(status, &headers(), case.rest);
        let body = case.doorway.door.error_body(&fault, "request");
        assert!(is_json(&body), "{}", String::from_utf8_lossy(&body));
    }
    let Some(asked) = case.usual(false) else { return };
    if let Ok(relayed) = asked.whole(&case.target, Bytes::copy_from_slice(case.rest)) {
        assert!(is_json(&relayed.body), "{}", String::from_utf8_lossy(&relayed.body));
    }
}

/// A provider's stream: the same for the client in whatever pieces it comes, and nothing but events of JSON.
pub fn stream(data: &[u8]) {
    let Some(case) = Case::read(data) else { return };
    let Some(asked) = case.usual(true) else { return };
    let whole = said(asked.as_ref(), &case.target, [Bytes::copy_from_slice(case.rest)]);
    let cut = said(asked.as_ref(), &case.target, pieces(case.rest, case.seed));
    assert!(same(&whole, &cut), "whole:\n{}\nin pieces:\n{}", whole.text(), cut.text());
}

/// The gate agrees with serde_json on what JSON is, and is stricter only where it says so.
pub fn gate(data: &[u8]) {
    let read = json::Body::read(Bytes::copy_from_slice(data));
    let known = serde_json::from_slice::<serde_json::Value>(data);
    match (read, known) {
        (Ok(body), Ok(value)) => {
            let object = value.as_object().expect("the gate lets objects through only");
            assert_eq!(body.fields().len(), object.len());
            for (field, (key, value)) in body.fields().iter().zip(object) {
                assert_eq!(&*field.key, key);
                let raw = serde_json::from_slice::<serde_json::Value>(body.value(field));
                assert_eq!(raw.ok().as_ref(), Some(value));
            }
        }
        (Ok(_), Err(error)) => panic!("the gate took what is no JSON: {error}"),
        (Err(fault), Ok(serde_json::Value::Object(_))) => {
            let code = fault.code_str();
            assert!(matches!(code, "json_duplicate_key" | "json_too_deep" | "json_invalid"), "{code}");
        }
        (Err(_), _) => {}
    }
}

/// Framing: the same events in whatever pieces the bytes come.
pub fn frames(data: &[u8]) {
    let Some((&seed, rest)) = data.split_first() else { return };
    let whole = events([Bytes::copy_from_slice(rest)]);
    let cut = events(pieces(rest, u64::from(seed)));
    assert_eq!(whole, cut);
}

fn events(chunks: impl IntoIterator<Item = Bytes>) -> Vec<String> {
    let mut splitter = SseSplitter::new();
    let mut events = Vec::new();
    for chunk in chunks {
        splitter.push(chunk);
        loop {
            match splitter.next() {
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Ok(None) => break,
                Err(fault) => {
                    events.push(fault.kind.as_str().to_owned());
                    return events;
                }
            }
        }
    }
    match splitter.finish() {
        Ok(event) => events.extend(event.map(|event| format!("{event:?}"))),
        Err(fault) => events.push(fault.kind.as_str().to_owned()),
    }
    events
}

/// An input that was understood.
struct Case<'a> {
    doorway: Doorway,
    target: Target,
    seed: u64,
    rest: &'a [u8],
}

impl<'a> Case<'a> {
    /// What the first line does not name is chosen by its bytes, so that changed lines are of use too.
    fn read(data: &'a [u8]) -> Option<Self> {
        let end = data.iter().take(80).position(|&byte| byte == b'\n')?;
        let (line, rest) = (data.get(..end)?, data.get(end + 1..)?);
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        let (path, dialect, seed) = (words.next()?, words.next()?, words.next()?);
        let doorways: Vec<Doorway> = api::doors().collect();
        let named = doorways.iter().find(|doorway| doorway.path == path);
        let doorway = *named.or_else(|| doorways.get(sum(path) % doorways.len().max(1)))?;
        let dialect = *DIALECTS
            .iter()
            .find(|word| **word == dialect)
            .or_else(|| DIALECTS.get(sum(dialect) % DIALECTS.len()))?;
        let seed = seed.parse().unwrap_or_else(|_| sum(seed) as u64);
        Some(Self { doorway, target: target(dialect), seed, rest })
    }

    /// A request that the door reads.
    fn ask(&self, body: Bytes) -> Option<Arc<dyn Asked>> {
        let uri: Uri = self.doorway.path.replace("{model}", "fuzz%2Fmodel").parse().ok()?;
        self.doorway.door.read(body, Head { uri: &uri, headers: &headers(), shelf: &Shelf::empty() }).ok()
    }

    /// The usual request at this door; `None` where it takes no JSON, or cannot be a stream.
    fn usual(&self, stream: bool) -> Option<Arc<dyn Asked>> {
        let body = usual_request(self.doorway.path, stream);
        let asked = self.ask(Bytes::from(body))?;
        (asked.wants_stream() == stream).then_some(asked)
    }
}

fn usual_request(path: &str, stream: bool) -> String {
    let messages = r#""messages":[{"role":"user","content":"hello"}]"#;
    match path {
        "/v1/messages" | "/v1/messages/count_tokens" => {
            format!(r#"{{"model":"fuzz/model","max_tokens":9,{messages},"stream":{stream}}}"#)
        }
        path if path.ends_with(":batchEmbedContents") => {
            r#"{"requests":[{"model":"models/fuzz/model","content":{"parts":[{"text":"hello"}]}}]}"#
                .to_owned()
        }
        path if path.ends_with(":embedContent") => r#"{"content":{"parts":[{"text":"hello"}]}}"#.to_owned(),
        path if path.ends_with(":predict") => r#"{"instances":[{"content":"hello"}]}"#.to_owned(),
        path if path.contains(':') => {
            r#"{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}"#.to_owned()
        }
        _ => format!(
            r#"{{"model":"fuzz/model",{messages},"stream":{stream},"input":"hello","prompt":"hello","query":"hello","documents":["a","b"]}}"#
        ),
    }
}

/// Everything that a policy may ask.
fn look(asked: &dyn Asked) {
    use tollgate::facts::Body;
    let body = asked;
    let _ = (Body::stream(body), body.max_tokens(), body.tokens(), body.tool_names().len(), body.messages());
    let _ = (body.has_images(), body.has_audio(), body.has_files(), body.has_json_output());
    let _ = (body.text().len(), body.system().len(), body.last_user().len(), body.user().map(str::len));
    let _ = (body.metadata("feature"), body.field("temperature"), body.bytes(), body.model().len());
}

fn joined(outgoing: &Outgoing) -> Bytes {
    outgoing.body.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<u8>>().into()
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("retry-after", HeaderValue::from_static("7"));
    headers
}

fn target(dialect: &str) -> Target {
    let vendor = Vendor::bare(
        "fuzz",
        providers::dialect(dialect, &QuirkSettings::default()).expect("a dialect of the table"),
    );
    let name = TargetName { provider: "fuzz".into(), model: "model".into() };
    Target::new(Arc::new(vendor), name)
}

fn sum(text: &str) -> usize {
    text.bytes().map(usize::from).sum()
}

/// The part of [`Asked`] that answers go through.
fn carried(asked: &dyn Asked) -> &dyn Carry {
    asked
}
