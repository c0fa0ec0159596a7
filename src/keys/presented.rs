//! Where a client shows its key: each dialect has a place of its own.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, Uri};

/// Headers that hold a key as it is: of Anthropic's, Azure's and Google's clients.
const HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// How browsers show a key to a WebSocket.
const PROTOCOL: &str = "openai-insecure-api-key.";

/// The key or token of a request, from the first place that has one: `Authorization: Bearer`, `x-api-key`, `api-key`,
/// `x-goog-api-key`, the protocols of a WebSocket, and `?key=` where Google's clients put it.
pub fn credential<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> Option<&'r str> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let bearer = text(&AUTHORIZATION).and_then(|text| {
        let (scheme, rest) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
    });
    let protocols = || {
        let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).find_map(|word| word.trim().strip_prefix(PROTOCOL))
    };
    bearer
        .or_else(|| HEADERS.iter().find_map(text))
        .or_else(protocols)
        .or_else(|| googles(uri))
        .filter(|key| !key.is_empty())
}

/// `?key=…`, at Google's paths alone: elsewhere, a key in an address would stand in everybody's logs.
fn googles(uri: &Uri) -> Option<&str> {
    let path = uri.path();
    let is_google = path.starts_with("/v1beta/") || path.starts_with("/v1beta1/") || path.contains(':');
    let mut pairs = uri.query().filter(|_| is_google)?.split('&');
    pairs.find_map(|pair| pair.strip_prefix("key="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_has_its_place_for_a_key() {
        for (header, value, path, expected) in [
            ("authorization", "Bearer tg-1", "/v1/chat/completions", Some("tg-1")),
            ("authorization", "bearer  tg-1 ", "/", Some("tg-1")),
            ("authorization", "Basic dGc=", "/", None),
            ("authorization", "tg-1", "/", None),
            ("authorization", "Bearer ", "/", None),
            ("x-api-key", "tg-1", "/v1/messages", Some("tg-1")),
            ("api-key", "tg-1", "/openai/v1/responses", Some("tg-1")),
            ("x-goog-api-key", "tg-1", "/v1beta/models/m:generateContent", Some("tg-1")),
            ("x-none", "", "/v1beta/models/m:generateContent?alt=sse&key=tg-1", Some("tg-1")),
            ("x-none", "", "/v1/chat/completions?key=tg-1", None),
            (
                "sec-websocket-protocol",
                "realtime, openai-insecure-api-key.tg-1",
                "/v1/realtime",
                Some("tg-1"),
            ),
            ("x-none", "", "/", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(header), value.parse().unwrap());
            let uri: Uri = path.parse().unwrap();
            assert_eq!(credential(&headers, &uri), expected, "{header}: {value} {path}");
        }
    }
}
