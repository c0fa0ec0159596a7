//! What every parsed request must satisfy before anybody reads it, in HTTP/1.1 and HTTP/2 alike.

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Method, Version};

use super::LimitSettings;
use super::body::too_large;
use crate::fault::{Fault, FaultKind};

/// Refuses what this house never serves. `length` is the announced length of the body.
///
/// `CONNECT` is a 405: it is a method that no path of ours has.
pub(super) fn check(request: &Parts, length: Option<u64>, limits: &LimitSettings) -> Result<(), Fault> {
    if request.method == Method::CONNECT {
        return Err(Fault::new(FaultKind::MethodNotAllowed, "this is not a tunnel: CONNECT is not served"));
    }
    if request.headers.len() > limits.headers {
        return Err(refusal(431, "the request has too many headers (`limits.headers` of the gateway)"));
    }
    target(request, limits)?;
    host(request)?;
    match length {
        // Whether the smaller limit for bodies that are read whole applies, their reader knows.
        Some(length) if length > limits.largest() => Err(too_large(limits.largest())),
        _ => Ok(()),
    }
}

fn target(request: &Parts, limits: &LimitSettings) -> Result<(), Fault> {
    let uri = &request.uri;
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let rest = uri.path_and_query().map_or(0, |rest| rest.as_str().len());
    if (authority + rest) as u64 > limits.uri.0 {
        return Err(refusal(414, "the request target is too long (`limits.uri` of the gateway)"));
    }
    let path = uri.path();
    if path == "*" && request.method == Method::OPTIONS {
        return Ok(());
    }
    if !path.starts_with('/') {
        return Err(refusal(400, "the request target must be a path"));
    }
    if is_ambiguous(path.as_bytes()) {
        return Err(refusal(
            400,
            "the path must not contain dot segments, empty segments, backslashes or encoded separators",
        ));
    }
    Ok(())
}

/// Below this, the rest of the path is one name, in which clients encode the slash of `provider/model`.
const NAMED_MODEL: &[u8] = b"/v1/models/";

/// Whether two readers could disagree about which path this is.
fn is_ambiguous(path: &[u8]) -> bool {
    let named = path.starts_with(NAMED_MODEL);
    let mut before = 0;
    for (at, byte) in path.iter().enumerate() {
        let odd = match (byte, before) {
            (b'/', b'/') | (b'.', b'.') | (b'\\', _) => true,
            // A segment of one dot.
            (b'.', b'/') => matches!(path.get(at + 1), None | Some(b'/')),
            (b'%', _) => match path.get(at + 1..at + 3) {
                Some([b'2', b'f' | b'F']) => !named,
                Some([b'2', b'e' | b'E']) => true,
                Some([b'5', low]) => matches!(low, b'c' | b'C'),
                Some([b'0', b'0']) => true,
                _ => false,
            },
            _ => false,
        };
        if odd {
            return true;
        }
        before = *byte;
    }
    false
}

/// One host, and the same one wherever it is named.
fn host(request: &Parts) -> Result<(), Fault> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(refusal(400, "the request has more than one host header"));
    }
    // RFC 9112 §3.2, RFC 9113 §8.3.1.
    let is_nowhere = match request.version {
        Version::HTTP_11 => host.is_none(),
        Version::HTTP_2 => host.is_none() && request.uri.authority().is_none(),
        _ => false,
    };
    if is_nowhere {
        return Err(refusal(400, "the request has no host header"));
    }
    match (request.uri.authority(), host) {
        (Some(authority), Some(host)) if !same_host(authority, host) => {
            Err(refusal(400, "the request target names another host than the host header"))
        }
        (Some(authority), _) if authority.as_str().contains('@') => {
            Err(refusal(400, "the request target must not contain credentials"))
        }
        _ => Ok(()),
    }
}

fn same_host(authority: &Authority, host: &HeaderValue) -> bool {
    let plain = |bytes: &'_ [u8]| -> usize {
        let default_port: [&[u8]; 2] = [b":80", b":443"];
        default_port
            .iter()
            .find(|port| bytes.ends_with(port))
            .map_or(bytes.len(), |port| bytes.len() - port.len())
    };
    let (a, b) = (authority.as_str().as_bytes(), host.as_bytes());
    a.eq_ignore_ascii_case(b)
        || a.get(..plain(a)).unwrap_or(a).eq_ignore_ascii_case(b.get(..plain(b)).unwrap_or(b))
}

fn refusal(status: u16, text: &'static str) -> Fault {
    Fault::new(FaultKind::BadRequest, text).status(status)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::settings::Size;

    fn status(method: &str, target: &str, hosts: &[&str], length: Option<u64>) -> u16 {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let limits =
            LimitSettings { uri: Size(40), body: Size(10), upload: Size(10), ..LimitSettings::default() };
        check(&parts, length, &limits).map_or_else(|fault| fault.client_status(), |()| 200)
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        for (target, expected) in [
            ("/v1/models", 200),
            ("/v1/models/gpt-4.1-mini", 200),
            ("/v1/models/.hidden", 200),
            ("/v1/models/a%20b", 200),
            ("/v1/models?q=..//%2e%2f", 200),
            ("/v1/models/", 200),
            ("*", 400),
            ("/v1/../admin", 400),
            ("/v1/..", 400),
            ("/v1/./models", 400),
            ("/v1/.", 400),
            ("/v1//models", 400),
            ("//admin", 400),
            ("/v1/%2e%2E/admin", 400),
            ("/v1/.%2e/admin", 400),
            ("/v1/a%2Fb", 400),
            ("/v1/models/openai%2Fgpt-4o", 200),
            ("/v1/models/a%2F%2e%2e", 400),
            ("/v1/a%5cb", 400),
            ("/v1/a\\b", 400),
            ("/v1/a%00", 400),
            ("/v1/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 414),
            ("http://a/v1", 200),
            ("http://A:80/v1", 200),
            ("http://b/v1", 400),
            ("http://u@a/v1", 400),
        ] {
            assert_eq!(status("GET", target, &["a"], None), expected, "{target}");
        }
    }

    #[test]
    fn a_request_names_its_host_in_every_version() {
        for (version, target, host, expected) in [
            (Version::HTTP_11, "/", None, 400),
            (Version::HTTP_11, "http://a/", None, 400),
            (Version::HTTP_2, "/", None, 400),
            (Version::HTTP_2, "/", Some("a"), 200),
            (Version::HTTP_2, "http://a/", None, 200),
            (Version::HTTP_10, "/", None, 200),
        ] {
            let mut request = Request::get(target).version(version);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let (parts, ()) = request.body(()).expect("a request").into_parts();
            let status = check(&parts, None, &LimitSettings::default());
            let status = status.map_or_else(|fault| fault.client_status(), |()| 200);
            assert_eq!(status, expected, "{version:?} {target} {host:?}");
        }
    }

    #[test]
    fn one_host_one_method_one_length() {
        assert_eq!(status("GET", "/", &[], None), 400);
        assert_eq!(status("GET", "/", &["a", "a"], None), 400);
        assert_eq!(status("OPTIONS", "*", &["a"], None), 200);
        assert_eq!(status("CONNECT", "a:443", &["a:443"], None), 405);
        assert_eq!(status("POST", "/", &["a"], Some(10)), 200);
        assert_eq!(status("POST", "/", &["a"], Some(11)), 413);
    }
}
