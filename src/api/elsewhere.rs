//! Clients that were made for another address: their paths become those that the table of routes knows.

use http::Uri;
use http::uri::PathAndQuery;

/// Versions in the paths of Google's services.
const GOOGLE_VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1beta"];

/// The URI as the table of routes knows it; `None` for one that is known as it is.
pub(super) fn enter(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let known = bare(path).or_else(|| azure(path)).or_else(|| google(path))?;
    let known = match uri.query() {
        Some(query) => format!("{known}?{query}"),
        None => known,
    };
    Some(Uri::from(PathAndQuery::try_from(known).ok()?))
}

/// OpenAI's endpoints without a version: clients of LiteLLM's proxy have base URLs that end with its port.
const BARE: [&str; 9] = [
    "chat/completions",
    "completions",
    "embeddings",
    "responses",
    "moderations",
    "models",
    "images",
    "audio",
    "files",
];

fn bare(path: &str) -> Option<String> {
    let rest = path.strip_prefix('/').filter(|rest| !rest.starts_with("v1/"))?;
    let is_below = |place: &&str| {
        rest.strip_prefix(*place).is_some_and(|below| below.is_empty() || below.starts_with('/'))
    };
    BARE.iter().any(is_below).then(|| format!("/v1/{rest}"))
}

/// Azure's `v1` API, the older one's paths without a deployment, and Claude in Foundry.
fn azure(path: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("/anthropic/v1/") {
        return Some(format!("/v1/{rest}"));
    }
    let rest = path.strip_prefix("/openai/")?;
    let rest = rest.strip_prefix("v1/").unwrap_or(rest);
    (!rest.starts_with("deployments/")).then(|| format!("/v1/{rest}"))
}

/// Vertex AI: project and location are for Google to know.
fn google(path: &str) -> Option<String> {
    let rest = below_location(path)?;
    if let Some(operation) = rest.strip_prefix("endpoints/openapi/") {
        return Some(format!("/v1/{operation}"));
    }
    let rest = rest.strip_prefix("publishers/")?;
    let (publisher, rest) = rest.split_once('/')?;
    let rest = rest.strip_prefix("models").filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    if raw_predict(path).is_some() {
        return None;
    }
    // Google's SDK takes what stands before a slash in a model's name for its publisher.
    let publisher = if publisher == "google" { String::new() } else { format!("/{publisher}") };
    Some(format!("/v1beta/models{publisher}{rest}"))
}

/// What stands below `/{version}/projects/{project}/locations/{location}/`, or below the version alone.
fn below_location(path: &str) -> Option<&str> {
    let rest = path.strip_prefix('/')?;
    let rest = match rest.split_once('/') {
        Some((version, rest)) if GOOGLE_VERSIONS.contains(&version) => rest,
        _ => rest,
    };
    let Some(rest) = rest.strip_prefix("projects/") else { return Some(rest) };
    let (_, rest) = rest.split_once("/locations/")?;
    rest.split_once('/').map(|(_, rest)| rest)
}

/// The model and whether a stream is asked for, in `…/publishers/anthropic/models/{model}:rawPredict`.
pub(super) fn raw_predict(path: &str) -> Option<(&str, bool)> {
    let rest = below_location(path)?.strip_prefix("publishers/anthropic/models/")?;
    let (model, method) = rest.rsplit_once(':')?;
    match method {
        _ if model.is_empty() => None,
        "rawPredict" => Some((model, false)),
        "streamRawPredict" => Some((model, true)),
        _ => None,
    }
}

/// The deployment and the operation, in `/openai/deployments/{deployment}/{operation}`. A deployment's name may
/// contain slashes here, as names of models do.
pub(super) fn deployment<'p>(path: &'p str, operation: &str) -> Option<&'p str> {
    let rest = path.strip_prefix("/openai/deployments/")?.strip_suffix(operation)?;
    rest.strip_suffix('/').filter(|deployment| !deployment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_made_for_others_are_found() {
        let vertex = "/v1beta1/projects/p/locations/us-east5";
        for (path, expected) in [
            ("/openai/v1/chat/completions", Some("/v1/chat/completions")),
            (
                "/openai/responses?api-version=2025-03-01-preview",
                Some("/v1/responses?api-version=2025-03-01-preview"),
            ),
            ("/openai/deployments/gpt/chat/completions?api-version=1", None),
            ("/anthropic/v1/messages", Some("/v1/messages")),
            (
                &format!("{vertex}/publishers/google/models/g:generateContent"),
                Some("/v1beta/models/g:generateContent"),
            ),
            (
                &format!("{vertex}/publishers/google/models/g:streamGenerateContent?alt=sse"),
                Some("/v1beta/models/g:streamGenerateContent?alt=sse"),
            ),
            (
                &format!("{vertex}/publishers/openai/models/gpt-4o:generateContent"),
                Some("/v1beta/models/openai/gpt-4o:generateContent"),
            ),
            ("/v1beta1/publishers/google/models/g:countTokens", Some("/v1beta/models/g:countTokens")),
            ("/v1beta1/publishers/google/models", Some("/v1beta/models")),
            ("/v1/projects/p/locations/l/endpoints/openapi/chat/completions", Some("/v1/chat/completions")),
            ("/v1/projects/p/locations/l/publishers/anthropic/models/c:rawPredict", None),
            ("/v1/projects/p/locations/l/publishers/google/modelsx", None),
            ("/v1/projects/p", None),
            ("/v1/chat/completions", None),
            ("/chat/completions", Some("/v1/chat/completions")),
            ("/models?a=b", Some("/v1/models?a=b")),
            ("/images/edits", Some("/v1/images/edits")),
            ("/modelsx", None),
            ("/chat", None),
            ("/v1/models", None),
            ("/", None),
        ] {
            let found = enter(&path.parse().unwrap());
            assert_eq!(found.as_ref().map(|uri| uri.path_and_query().unwrap().as_str()), expected, "{path}");
        }
    }

    #[test]
    fn models_stand_in_paths() {
        for (path, expected) in [
            ("/v1/projects/p/locations/l/publishers/anthropic/models/c@1:rawPredict", Some(("c@1", false))),
            ("/projects/p/locations/l/publishers/anthropic/models/v/c:streamRawPredict", Some(("v/c", true))),
            ("/v1/projects/p/locations/l/publishers/anthropic/models/:rawPredict", None),
            ("/v1/projects/p/locations/l/publishers/anthropic/models/c:predict", None),
        ] {
            assert_eq!(raw_predict(path), expected, "{path}");
        }
        assert_eq!(deployment("/openai/deployments/a/b/embeddings", "embeddings"), Some("a/b"));
        assert_eq!(deployment("/openai/deployments/embeddings", "embeddings"), None);
    }
}
