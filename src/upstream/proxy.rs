//! A way out through an HTTP proxy: `CONNECT`, then TLS with the provider itself.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fault::{Fault, FaultKind, Phase, Retry};
use crate::target::{Origin, Reach};

/// The head of a proxy's answer is no longer than this.
const MOST_HEAD: usize = 8 << 10;

/// How long a proxy may take to connect.
const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy, and who does not go through it.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) origin: Origin,
    /// `Basic …`, where its URL has credentials.
    authorization: Option<String>,
    /// Host names and domains that are called directly; `*` is all of them.
    direct: Vec<String>,
}

impl Proxy {
    /// The proxy at a URL: `http://proxy.example:3128`, with or without credentials.
    ///
    /// # Errors
    /// What is wrong with the URL, which is not repeated: it may contain a password.
    pub(super) fn new(url: &str, direct: &str) -> Result<Self, String> {
        let url = url.trim();
        let rest = url.strip_prefix("http://").or_else(|| (!url.contains("://")).then_some(url));
        let rest = rest.ok_or("the proxy's URL does not begin with `http://`")?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, authority),
        };
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| "the proxy's URL has no valid port")?)
            }
            _ => (address, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err("the proxy's URL has no host".into());
        }
        let authorization =
            credentials.map(|credentials| format!("Basic {}", STANDARD.encode(decoded(credentials))));
        let direct =
            direct.split(',').map(|name| name.trim().trim_start_matches("*.").trim_start_matches('.'));
        let direct = direct.filter(|name| !name.is_empty()).map(str::to_ascii_lowercase).collect();
        let reach = Reach::Private;
        let origin = Origin { tls: false, host: host.into(), port, tls13_only: false, h2c: false, reach };
        Ok(Self { origin, authorization, direct })
    }

    /// Whether an origin is called through it: over TLS, and neither private nor excepted.
    pub(super) fn serves(&self, origin: &Origin) -> bool {
        let host = &*origin.host;
        let excepted = self.direct.iter().any(|name| {
            let domain = host.strip_suffix(name.as_str());
            name == "*" || domain.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        origin.tls && origin.reach == Reach::Public && !excepted
    }

    /// Asks for a way to the origin over a connection to the proxy.
    ///
    /// # Errors
    /// `Unreachable` when the proxy refuses, `Timeout(Connect)` when it says nothing.
    pub(super) async fn through(&self, stream: TcpStream, origin: &Origin) -> Result<TcpStream, Fault> {
        tokio::time::timeout(PATIENCE, self.ask(stream, origin)).await.unwrap_or_else(|_| {
            Err(Fault::new(FaultKind::Timeout(Phase::Connect), "proxy: no answer in time"))
        })
    }

    async fn ask(&self, mut stream: TcpStream, origin: &Origin) -> Result<TcpStream, Fault> {
        let host =
            if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.to_string() };
        let to = format!("{host}:{}", origin.port);
        let mut ask = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n");
        if let Some(authorization) = &self.authorization {
            ask.push_str(&format!("proxy-authorization: {authorization}\r\n"));
        }
        ask.push_str("\r\n");
        let broken = |_| Fault::new(FaultKind::Unreachable, "proxy: the connection broke");
        stream.write_all(ask.as_bytes()).await.map_err(broken)?;
        let mut head = Vec::with_capacity(256);
        // Byte by byte, so that nothing of what follows is taken: there is little of it, once for each connection.
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MOST_HEAD {
                return Err(Fault::new(FaultKind::Unreachable, "proxy: its answer is too long"));
            }
            head.push(stream.read_u8().await.map_err(broken)?);
        }
        let status = head.get(9..12).and_then(|status| std::str::from_utf8(status).ok());
        match status.and_then(|status| status.parse::<u16>().ok()) {
            Some(200..300) if head.starts_with(b"HTTP/1.") => Ok(stream),
            Some(407) => Err(refused("proxy: it asks for other credentials".into())),
            Some(status) => Err(refused(format!("proxy: it refused the connection with status {status}"))),
            None => Err(refused("proxy: its answer is not HTTP".into())),
        }
    }
}

/// Credentials in a URL, without their escapes.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let hex =
            |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (byte, hex(ahead.next()).zip(hex(ahead.next()))) {
            (b'%', Some((high, low))) => {
                plain.push(high << 4 | low);
                bytes = ahead;
            }
            _ => plain.push(byte),
        }
    }
    plain
}

fn refused(text: String) -> Fault {
    Fault::new(FaultKind::Unreachable, text).retry(Retry::Elsewhere)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn origin(host: &str, tls: bool) -> Origin {
        let reach = Reach::Public;
        Origin { tls, host: host.into(), port: 443, tls13_only: false, h2c: false, reach }
    }

    #[test]
    fn proxies_are_read_and_exceptions_kept() {
        let proxy =
            Proxy::new("http://user:p%40ss@Proxy.Example:3128/", "localhost, .corp.example,*.x.org").unwrap();
        assert_eq!((&*proxy.origin.host, proxy.origin.port), ("proxy.example", 3128));
        assert_eq!(proxy.authorization.as_deref(), Some("Basic dXNlcjpwQHNz"));
        for (host, tls, served) in [
            ("api.openai.com", true, true),
            ("api.openai.com", false, false),
            ("llm.corp.example", true, false),
            ("corp.example", true, false),
            ("evilcorp.example", true, true),
            ("a.x.org", true, false),
        ] {
            assert_eq!(proxy.serves(&origin(host, tls)), served, "{host}");
        }
        for (url, complaint) in
            [("socks5://x:1", "http://"), ("http://x:port", "port"), ("http://:80", "host"), ("", "host")]
        {
            assert!(Proxy::new(url, "").err().is_some_and(|error| error.contains(complaint)), "{url}");
        }
    }

    #[tokio::test]
    async fn a_way_is_asked_for_and_refusals_are_told() {
        for (answer, expected) in [
            ("HTTP/1.1 200 Connection established\r\nx: y\r\n\r\nTLS", Ok("TLS")),
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Err("other credentials")),
            ("HTTP/1.0 403 Forbidden\r\n\r\n", Err("status 403")),
            ("what?\r\n\r\n", Err("not HTTP")),
            ("HTTP/1.1 200", Err("broke")),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let serving = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = vec![0; 512];
                let length = stream.read(&mut asked).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                String::from_utf8_lossy(&asked[..length]).into_owned()
            });
            let proxy = Proxy::new(&format!("http://a:b@{address}"), "").unwrap();
            let stream = TcpStream::connect(address).await.unwrap();
            let through = proxy.through(stream, &origin("api.example.com", true)).await;
            let asked = serving.await.unwrap();
            assert!(
                asked.starts_with("CONNECT api.example.com:443 HTTP/1.1\r\nhost: api.example.com:443\r\n")
            );
            assert!(asked.contains("proxy-authorization: Basic YTpi\r\n"), "{asked}");
            match (through, expected) {
                (Ok(mut stream), Ok(rest)) => {
                    let mut read = String::new();
                    stream.read_to_string(&mut read).await.unwrap();
                    assert_eq!(read, rest);
                }
                (Err(fault), Err(part)) => assert!(fault.message.contains(part), "{fault}"),
                (result, _) => panic!("{answer}: {:?}", result.err()),
            }
        }
    }
}
