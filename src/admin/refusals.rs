//! What the admin API says when it refuses: one shape for programs, `{"error": "why"}`, whoever refused.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The longest text of a refusal, in bytes.
const MOST: usize = 64 << 10;

/// Puts the text of a refusal into that shape; everything else stays as it is.
pub(super) async fn shape(response: Response) -> Response {
    let (status, kind) = (response.status(), response.headers().get(header::CONTENT_TYPE));
    let is_text = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !is_text || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let said = to_bytes(body, MOST).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let why = match said.trim() {
        "" => status.canonical_reason().unwrap_or("refused").to_lowercase(),
        said => said.to_owned(),
    };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(head, Body::from(json!({ "error": why }).to_string() + "\n"))
}

/// The body of a request as JSON, whatever the client calls it.
///
/// # Errors
/// Says what was wanted.
pub(super) fn json_of<T: serde::de::DeserializeOwned>(body: &[u8], wanted: &str) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("send {wanted} as JSON: {error}"))
}

/// A request that cannot be understood.
pub(super) fn bad(why: &str) -> Response {
    (axum::http::StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    async fn shaped(response: impl IntoResponse) -> (StatusCode, String) {
        let response = shape(response.into_response()).await;
        let status = response.status();
        let body = to_bytes(response.into_body(), MOST).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_refusal_is_an_object_with_its_reason() {
        for (response, expected) in [
            ((StatusCode::NOT_FOUND, "there is no such key\n").into_response(), "there is no such key"),
            (StatusCode::METHOD_NOT_ALLOWED.into_response(), "method not allowed"),
            (bad("say \"more\""), "say \"more\""),
        ] {
            let (_, body) = shaped(response).await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body, json!({ "error": expected }));
        }
        assert_eq!(shaped("ready\n").await, (StatusCode::OK, "ready\n".into()));
    }
}
