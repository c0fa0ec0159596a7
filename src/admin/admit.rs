//! Who may use the admin API: whoever has the token; where none is configured, programs on this machine.
//!
//! A browser on this machine is no such program: any web page makes it send requests here, by a form, or by a name of the
//! page's own that leads to this machine (DNS rebinding). It says so in `Host`, `Origin` or `Sec-Fetch-Site`, which
//! pages cannot change.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::Admin;

/// Before the token; schemes have no case (RFC 9110, 11.1).
const BEARER: &[u8] = b"Bearer ";

const NO_TOKEN: &str = "authorization required: send `Authorization: Bearer <admin.token>`\n";
const NOT_LOCAL: &str = "without `admin.token` this listener answers programs on this machine only, at its address or \
                         `localhost`, and no web pages: set `admin.token` and send `Authorization: Bearer …`\n";

/// Lets a request pass, or answers it.
pub(super) async fn admit(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let refused = match &admin.token {
        Some(token) if bears(request.headers(), token) => None,
        None if is_loopback(peer.ip()) => {
            (!is_of_a_program(request.uri(), request.headers())).then_some((StatusCode::FORBIDDEN, NOT_LOCAL))
        }
        _ => Some((StatusCode::UNAUTHORIZED, NO_TOKEN)),
    };
    match refused {
        None => next.run(request).await,
        Some((status, hint)) => (status, [(header::WWW_AUTHENTICATE, "Bearer")], hint).into_response(),
    }
}

fn bears(headers: &HeaderMap, token: &SecretString) -> bool {
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let Some((scheme, given)) = given.and_then(|value| value.split_at_checked(BEARER.len())) else {
        return false;
    };
    if !scheme.eq_ignore_ascii_case(BEARER) {
        return false;
    }
    // Hashes of equal length are compared, so that neither content nor length of the token leaks by timing.
    let (given, token) = (blake3::hash(given), blake3::hash(token.expose_secret().as_bytes()));
    given.as_bytes().ct_eq(token.as_bytes()).into()
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether it was meant for this machine by a name that only this machine has, and no page of another one sent it.
fn is_of_a_program(uri: &Uri, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = uri.authority().map(Authority::as_str).or_else(|| text(header::HOST));
    let is_local = host.is_none_or(|host| host.parse().is_ok_and(|host: Authority| is_local(host.host())));
    let origin = text(header::ORIGIN);
    let is_own = origin.is_none_or(|origin| origin.split_once("://").map(|(_, from)| from) == host);
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    is_local && is_own && site.is_none_or(|site| matches!(site, b"same-origin" | b"none"))
}

fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let name = host.rsplit('.').next().unwrap_or_default();
    name.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_of_a_token_has_no_case() {
        let token = SecretString::from("0123456789abcdef");
        for (good, shown) in [
            (true, "Bearer 0123456789abcdef"),
            (true, "bearer 0123456789abcdef"),
            (true, "BEARER 0123456789abcdef"),
            (false, "Bearer 0123456789abcdeF"),
            (false, "Bearer "),
            (false, "Bearer"),
            (false, "Basic  0123456789abcdef"),
            (false, "0123456789abcdef"),
            (false, ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, shown.parse().unwrap());
            assert_eq!(bears(&headers, &token), good, "{shown}");
        }
        assert!(!bears(&HeaderMap::new(), &token));
    }

    #[test]
    fn pages_of_others_are_told_from_programs() {
        let own = "127.0.0.1:9090";
        for (allowed, host, origin, site) in [
            (true, own, None, None),
            (true, "localhost:9090", None, Some("none")),
            (true, "[::1]:9090", None, None),
            (true, "127.8.8.8", None, None),
            (true, "tollgate.localhost.:9090", None, None),
            (true, own, Some("http://127.0.0.1:9090"), Some("same-origin")),
            (false, own, Some("https://evil.example"), None),
            (false, own, Some("null"), None),
            (false, own, Some("http://localhost:3000"), None),
            (false, own, None, Some("cross-site")),
            (false, own, None, Some("same-site")),
            (false, "evil.example:9090", None, None),
            (false, "evil.example:9090", Some("http://evil.example:9090"), Some("same-origin")),
            (false, "localhost.evil.example", None, None),
            (false, "10.0.0.8:9090", None, None),
            (false, "a b", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            if let Some(site) = site {
                headers.insert("sec-fetch-site", site.parse().unwrap());
            }
            let uri = Uri::from_static("/admin/v1/keys");
            assert_eq!(is_of_a_program(&uri, &headers), allowed, "{host} {origin:?} {site:?}");
        }
        assert!(is_of_a_program(&Uri::from_static("/"), &HeaderMap::new()), "HTTP/1.0");
        assert!(!is_of_a_program(&Uri::from_static("http://evil.example/"), &HeaderMap::new()));
    }
}
