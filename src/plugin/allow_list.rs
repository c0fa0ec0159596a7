//! The hosts that a plugin may send requests to.

use http::Uri;

/// Hosts by name, by `*.suffix`, or with a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<Allowed>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    host: String,
    /// `*.`: anything below the host, but not the host itself.
    below: bool,
    port: Option<u16>,
}

impl AllowList {
    /// Reads the hosts as the configuration writes them.
    ///
    /// # Errors
    /// Names the first that is not a host.
    pub fn read(hosts: &[&str]) -> Result<Self, String> {
        hosts.iter().map(|host| Allowed::read(host)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a plugin may send a request to this address.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, url: &str) -> Result<Uri, String> {
        let uri: Uri = url.parse().map_err(|_| "not an absolute address".to_owned())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("not an absolute address".into());
        };
        if authority.as_str().contains('@') {
            return Err("an address may not carry credentials".into());
        }
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let usual = match scheme {
            "https" => 443,
            "http" if loopback(&host) => 80,
            "http" => return Err("plain http goes to loopback only".into()),
            _ => return Err(format!("`{scheme}` is not https")),
        };
        let port = authority.port_u16().unwrap_or(usual);
        if self.0.iter().any(|allowed| allowed.matches(&host, port, usual)) {
            return Ok(uri);
        }
        Err(format!("`{host}:{port}` is not in the plugin's `grants: [http: […]]`"))
    }
}

impl Allowed {
    fn read(text: &str) -> Result<Self, String> {
        let bad =
            || format!("grants.http: `{text}` is not a host (try \"api.example.com\" or \"*.example.com\")");
        let (below, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && (!host.contains(':') || host.ends_with(']')) => {
                (host, Some(port.parse().map_err(|_| bad())?))
            }
            _ => (rest, None),
        };
        let named = |c: char| c.is_ascii_alphanumeric() || "-.[]:_".contains(c);
        if host.is_empty() || !host.chars().all(named) {
            return Err(bad());
        }
        Ok(Self { host: host.to_ascii_lowercase(), below, port })
    }

    fn matches(&self, host: &str, port: u16, usual: u16) -> bool {
        let named = if self.below {
            host.strip_suffix(&self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        named && port == self.port.unwrap_or(usual)
    }
}

fn loopback(host: &str) -> bool {
    matches!(host, "localhost" | "[::1]")
        || host.parse().is_ok_and(|address: std::net::Ipv4Addr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_reached() {
        let list = AllowList::read(&["api.example.com", "*.corp.test", "localhost:9000", "other.test:8443"])
            .unwrap();
        for (url, allowed) in [
            ("https://api.example.com/v1?q=1", true),
            ("https://API.Example.com./", true),
            ("https://api.example.com:443/", true),
            ("https://api.example.com:8443/", false),
            ("http://api.example.com/", false),
            ("https://api.example.com.evil.test/", false),
            ("https://evil-api.example.com/", false),
            ("https://user@api.example.com/", false),
            ("https://api.example.com@evil.test/", false),
            ("https://a.corp.test/", true),
            ("https://a.b.corp.test/", true),
            ("https://corp.test/", false),
            ("https://evilcorp.test/", false),
            ("https://.corp.test/", false),
            ("http://localhost:9000/x", true),
            ("http://localhost/x", false),
            ("https://other.test:8443/", true),
            ("https://other.test/", false),
            ("file:///etc/passwd", false),
            ("/v1", false),
            ("", false),
        ] {
            assert_eq!(list.check(url).is_ok(), allowed, "{url}: {:?}", list.check(url));
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", "https://api.example.com", "api.example.com/x", "a:b", "*", "a b"] {
            assert!(AllowList::read(&[text]).is_err(), "{text}");
        }
        assert!(AllowList::read(&["[::1]:80"]).is_ok());
    }
}
