//! Where a client found this gateway, for what has to be told as a whole address: where an upload of Google's goes on.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::headers;

/// What a proxy says of the connection to itself.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Scheme and authority by which the client of an upload asked; `None` for all other requests.
pub(super) fn of_upload(head: &Parts, tls: bool) -> Option<String> {
    if !head.headers.contains_key(&headers::UPLOAD_COMMAND) {
        return None;
    }
    let named = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = head.uri.authority().map(http::uri::Authority::as_str).or(named)?;
    let proxied = head.headers.get(FORWARDED_PROTO).is_some_and(|said| said.as_bytes().starts_with(b"https"));
    Some(format!("{}://{host}", if tls || proxied { "https" } else { "http" }))
}

/// Makes the path of the gateway in an answer an address.
pub(super) fn tell(answer: &mut HeaderMap, own: &str) {
    let path = answer
        .get(&headers::UPLOAD_URL)
        .and_then(|path| path.to_str().ok())
        .filter(|path| path.starts_with('/'));
    let address = path.and_then(|path| HeaderValue::from_str(&format!("{own}{path}")).ok());
    if let Some(address) = address {
        answer.insert(&headers::UPLOAD_URL, address);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn an_address_is_the_one_by_which_the_client_asked() {
        for (uri, lines, tls, expected) in [
            ("/passthrough/gemini/upload/v1/files", &[][..], false, None),
            ("/x", &[("x-goog-upload-command", "start"), ("host", "a:1")], false, Some("http://a:1")),
            ("/x", &[("x-goog-upload-command", "start"), ("host", "a:1")], true, Some("https://a:1")),
            ("https://b/x", &[("x-goog-upload-command", "start")], true, Some("https://b")),
            (
                "/x",
                &[("x-goog-upload-command", "start"), ("host", "a"), ("x-forwarded-proto", "https")],
                false,
                Some("https://a"),
            ),
        ] {
            let mut request = Request::builder().uri(uri);
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(of_upload(&head, tls).as_deref(), expected, "{uri} {lines:?}");
        }
        for (value, expected) in
            [("/passthrough/g/upload/v1/files?a=b", "http://a/passthrough/g/upload/v1/files?a=b"), ("x", "x")]
        {
            let mut answer =
                HeaderMap::from_iter([(headers::UPLOAD_URL.clone(), HeaderValue::from_static(value))]);
            tell(&mut answer, "http://a");
            assert_eq!(
                answer.get(&headers::UPLOAD_URL).map(HeaderValue::as_bytes),
                Some(expected.as_bytes())
            );
        }
    }
}
