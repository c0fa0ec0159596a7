//! Paths and heads of requests to Google.

use std::borrow::Cow;

use bytes::Bytes;

use crate::providers::{Outgoing, QuirkSettings, percent};

/// The method of a whole answer.
pub(super) const WHOLE: &str = "generateContent";
/// The method of a stream, as events: without `alt=sse` the answer is a JSON array.
pub(super) const STREAM: &str = "streamGenerateContent?alt=sse";

/// What a model's full name may begin with.
const OWN_PLACES: &[&str] = &["models/", "publishers/google/models/", "google/"];

/// `/models/{model}:{method}`, or below the place that the quirks name (Vertex).
pub(super) fn path(quirks: &QuirkSettings, model: &str, method: &str) -> String {
    let template = quirks.chat_path.as_deref().unwrap_or("/models/{model}");
    // Tuned models have a collection of their own.
    if let Some(tuned) = model.strip_prefix("tunedModels/") {
        return format!("/tunedModels/{}:{method}", segment(tuned));
    }
    // Vertex AI: a model that was tuned or deployed has an endpoint beside the publishers.
    if let Some(endpoint) = model.strip_prefix("endpoints/")
        && let Some((scope, _)) = template.split_once("/publishers/")
    {
        return format!("{scope}/endpoints/{}:{method}", segment(endpoint));
    }
    let model = OWN_PLACES.iter().find_map(|place| model.strip_prefix(place)).unwrap_or(model);
    format!("{}:{method}", template.replace("{model}", &segment(model)))
}

/// One segment of a path; Google's own clients leave the `@` before a version as it is.
pub(in crate::providers) fn segment(model: &str) -> Cow<'_, str> {
    percent::segment(model, b"@")
}

/// A request with JSON in its body.
pub(super) fn outgoing(path: String, streams: bool, body: Vec<Bytes>) -> Outgoing {
    Outgoing::json(path, if streams { "text/event-stream" } else { "application/json" }, body)
}
