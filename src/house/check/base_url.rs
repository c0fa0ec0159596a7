//! A provider's base URL: only http and https, nothing secret in it, plain http only where nobody listens in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

use super::Base;
use crate::target::{Origin, Reach};

/// A base URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BaseUrl {
    /// Whether it begins with `https`.
    pub tls: bool,
    /// Lowercase; IPv6 without brackets.
    pub host: String,
    /// Given, or the scheme's own.
    pub port: u16,
    /// Empty, or with a leading and without a trailing slash.
    pub path: String,
}

/// The base at a URL that stands in the environment or is made of a name.
///
/// # Errors
/// What is wrong with the URL.
pub fn base(url: &str) -> Result<Base, &'static str> {
    let BaseUrl { tls, host, port, path } = base_url(url)?;
    if !tls && !is_private(&host) {
        return Err("would send prompts and keys over the open network");
    }
    let reach = reach(&host);
    Ok(Base { origin: Origin { tls, host: host.into(), port, tls13_only: false, h2c: false, reach }, path })
}

/// Splits a base URL, or says what is wrong with it without repeating it: it may contain a secret.
pub(super) fn base_url(text: &str) -> Result<BaseUrl, &'static str> {
    if text.contains('#') {
        return Err("has a fragment (`#…`)");
    }
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let tls = match scheme.as_deref() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("does not begin with `https://` or `http://`"),
    };
    let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
    let authority = uri.authority().ok_or("has no host")?;
    if authority.as_str().contains('@') {
        return Err("contains credentials");
    }
    if uri.query().is_some() {
        return Err("contains a query");
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    if host.is_empty() {
        return Err("has no host");
    }
    let port = match authority.as_str().rsplit_once(':') {
        Some((_, port)) if !port.contains(']') => {
            port.parse().ok().filter(|port| *port != 0).ok_or("has no valid port")?
        }
        _ if tls => 443,
        _ => 80,
    };
    let path = uri.path().trim_end_matches('/');
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("contains dot segments");
    }
    Ok(BaseUrl { tls, host: host.to_owned(), port, path: path.to_owned() })
}

/// Whether plain http to `host` stays in the house: loopback, private addresses, names without dots (containers,
/// services of a cluster), and the domains that are never public: those of one's own network, and those that RFC 2606
/// reserves.
pub(super) fn is_private(host: &str) -> bool {
    const DOMAINS: [&str; 10] = [
        ".localhost",
        ".local",
        ".internal",
        ".lan",
        ".home.arpa",
        ".svc",
        ".svc.cluster.local",
        ".invalid",
        ".test",
        ".example",
    ];
    match host.parse() {
        Ok(IpAddr::V4(ip)) => is_private_v4(ip),
        Ok(IpAddr::V6(ip)) => is_private_v6(ip),
        Err(_) => !host.contains('.') || DOMAINS.iter().any(|domain| host.ends_with(domain)),
    }
}

/// What a host declares by itself: one that is never public leads to private addresses.
pub(super) fn reach(host: &str) -> Reach {
    if is_private(host) { Reach::Private } else { Reach::Public }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64; // RFC 6598, used by overlay networks
    ip.is_loopback() || ip.is_private() || shared
}

fn is_private_v6(ip: Ipv6Addr) -> bool {
    let inner = ip.to_ipv4_mapped().is_some_and(is_private_v4);
    ip.is_loopback() || ip.is_unique_local() || inner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_split() {
        for (text, tls, host, port, path) in [
            ("https://api.openai.com/v1", true, "api.openai.com", 443, "/v1"),
            ("https://API.Example.com./v1/", true, "api.example.com", 443, "/v1"),
            ("http://127.0.0.1:11434/v1", false, "127.0.0.1", 11434, "/v1"),
            ("http://[::1]:8000", false, "::1", 8000, ""),
            ("http://[fd00::1]/", false, "fd00::1", 80, ""),
            ("https://x.example/openai/deployments/a", true, "x.example", 443, "/openai/deployments/a"),
        ] {
            let expected = BaseUrl { tls, host: host.into(), port, path: path.into() };
            assert_eq!(base_url(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused() {
        for (text, part) in [
            ("", "begin with"),
            ("api.openai.com/v1", "begin with"),
            ("ftp://x/y", "begin with"),
            ("file:///etc/passwd", "begin with"),
            ("https://", "URL"),
            ("https:///v1", "URL"),
            ("https://user:pw@host/v1", "credentials"),
            ("https://host/v1?key=abc", "query"),
            ("https://host/v1#x", "fragment"),
            ("https://host:0/v1", "port"),
            ("https://host:99999/v1", "port"),
            ("https://host/a/../b", "dot"),
            ("https://ho st/v1", "URL"),
        ] {
            let error = base_url(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn plain_http_is_for_private_hosts() {
        for (host, private) in [
            ("localhost", true),
            ("vllm", true),
            ("127.3.2.1", true),
            ("10.0.0.8", true),
            ("172.16.0.1", true),
            ("192.168.1.2", true),
            ("100.100.1.1", true),
            ("::1", true),
            ("fd12::1", true),
            ("host.docker.internal", true),
            ("llm.team.svc.cluster.local", true),
            ("nope.invalid", true),
            ("x.test", true),
            ("llm.corp.example", true),
            ("8.8.8.8", false),
            ("172.32.0.1", false),
            ("169.254.169.254", false),
            ("2001:db8::1", false),
            ("api.openai.com", false),
            ("evil-localhost.com", false),
            ("api.example.com", false),
            ("test.com", false),
        ] {
            assert_eq!(is_private(host), private, "{host}");
        }
    }
}
