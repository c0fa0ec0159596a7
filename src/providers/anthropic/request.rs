//! Requests as they go to Anthropic: path, headers, and the client's own bytes with what must change spliced in.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use crate::json::Splice;
use crate::providers::{ClientBody, Outgoing, QuirkSettings};
use crate::target::TargetName;

/// The version of the API that we speak: <https://platform.claude.com/docs/en/api/versioning>
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// A request with JSON in its body.
pub(super) fn outgoing(streams: bool, body: Vec<Bytes>) -> Outgoing {
    let accept = if streams { "text/event-stream" } else { "application/json" };
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert("anthropic-version", VERSION);
    Outgoing { method: Method::POST, path: "/messages".to_owned(), headers, body, lost: Vec::new() }
}

/// The client's own request with the model's name at this provider.
pub(super) fn splice(body: &ClientBody, target: &TargetName, quirks: &QuirkSettings) -> Outgoing {
    let mut splice = Splice::new(body);
    splice.set_text("model", &target.model);
    for (old, new) in &quirks.rename {
        splice.rename(old, new);
    }
    for field in &quirks.drop {
        splice.remove(field);
    }
    for (field, value) in &quirks.defaults {
        if body.field(field).is_none() {
            splice.set(field, value.to_string());
        }
    }
    outgoing(body.bool("stream") == Some(true), splice.finish())
}
