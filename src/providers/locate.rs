//! A URL from a credential's file, in the parts of which a request is made.

use std::net::IpAddr;

use http::Uri;
use http::uri::PathAndQuery;

use crate::target::{Origin, Reach};

/// Hosts inside the machine's own network that speak plain HTTP by their vendors' design.
const PLAIN_HOSTS: &[&str] = &["localhost", "metadata.google.internal", "metadata"];

/// Origin, and path with query. Plain HTTP is for addresses from which nothing goes out into the open network.
///
/// # Errors
/// What is wrong with the URL; it is not repeated.
pub(super) fn locate(url: &str) -> Result<(Origin, PathAndQuery), String> {
    let uri: Uri = url.parse().map_err(|_| "is not a URL")?;
    let authority = uri.authority().ok_or("has no host")?;
    if authority.as_str().contains('@') {
        return Err("contains credentials".into());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let reach = if is_near(&host) { Reach::Machine } else { Reach::Public };
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") if is_near(&host) => false,
        Some("http") => return Err("would send credentials over plain http".into()),
        _ => return Err("does not begin with `https://`".into()),
    };
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok((Origin { tls, host: host.into(), port, tls13_only: false, h2c: false, reach }, path))
}

fn is_near(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local() || ip.is_private(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => PLAIN_HOSTS.contains(&host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_near() {
        for (url, expected) in [
            ("https://oauth2.googleapis.com/token", Some("oauth2.googleapis.com")),
            ("http://127.0.0.1:8080/token?x=1", Some("127.0.0.1:8080")),
            ("http://169.254.169.254/latest", Some("169.254.169.254")),
            ("http://metadata.google.internal/x", Some("metadata.google.internal")),
            ("http://[::1]:80/x", Some("[::1]")),
            ("http://oauth2.googleapis.com/token", None),
            ("ftp://x/y", None),
            ("https://user@host/", None),
            ("/token", None),
            ("", None),
        ] {
            let found = locate(url).ok().map(|(origin, _)| origin.authority());
            assert_eq!(found.as_deref(), expected, "{url}");
        }
    }
}
