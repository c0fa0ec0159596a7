//! TLS: who is trusted, which versions, which protocol.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::fault::{Fault, FaultKind, Retry};
use crate::target::Origin;
use crate::upstream::scripted::{Scripted, ask, ok, read_request, until};
use crate::upstream::{Upstream, UpstreamSettings};

/// Requests at the same time.
const BURST: usize = 8;

/// A certificate authority of our own.
pub(super) struct Authority {
    pem: tempfile::NamedTempFile,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(pem.path(), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// An upstream that trusts this authority besides the platform's.
    pub(super) fn trusted(&self) -> Upstream {
        let extra_roots = Some(self.pem.path().to_owned());
        Upstream::new(&UpstreamSettings { extra_roots, ..Default::default() }).unwrap()
    }

    pub(super) fn server(
        &self,
        name: &str,
        expired: bool,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ServerConfig {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap()
    }
}

/// Serves `ok("hi")` over TLS, HTTP/1.1 or HTTP/2 as negotiated.
async fn serve(config: ServerConfig) -> Scripted {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Scripted::start(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut tls) = acceptor.accept(stream).await else { return };
            if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                return super::streams::serve(tls, 100).await;
            }
            while read_request(&mut tls).await.is_some() {
                tls.write_all(ok("hi").as_bytes()).await.unwrap();
            }
        }
    })
    .await
}

pub(super) fn secure(server: &Scripted, tls13_only: bool) -> Origin {
    Origin { tls: true, tls13_only, ..server.origin() }
}

pub(super) const BOTH: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS12, &rustls::version::TLS13];

fn assert_refused(fault: &Fault, text: &str) {
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Unreachable, text));
    assert_eq!(fault.retry, Retry::Elsewhere, "the same server would be refused again");
}

#[tokio::test]
async fn an_authority_from_extra_roots_is_trusted_and_the_connection_kept() {
    let authority = Authority::new("ours");
    let server = serve(authority.server("127.0.0.1", false, BOTH)).await;
    let upstream = authority.trusted();
    for _ in 0..3 {
        assert_eq!(ask(&upstream, &secure(&server, false)).await.unwrap(), "hi");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn certificates_that_prove_nothing_are_refused_before_the_key_is_sent() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    for (config, text) in [
        (theirs.server("127.0.0.1", false, BOTH), "tls: certificate of an unknown issuer"),
        (ours.server("127.0.0.1", true, BOTH), "tls: certificate expired"),
        (ours.server("other.test", false, BOTH), "tls: certificate is for another name"),
    ] {
        let server = serve(config).await;
        let fault = ask(&ours.trusted(), &secure(&server, false)).await.unwrap_err();
        assert_refused(&fault, text);
    }
}

#[tokio::test]
async fn tls_1_2_is_spoken_unless_1_3_is_demanded() {
    let authority = Authority::new("ours");
    let server = serve(authority.server("127.0.0.1", false, &[&rustls::version::TLS12])).await;
    let upstream = authority.trusted();
    assert_eq!(ask(&upstream, &secure(&server, false)).await.unwrap(), "hi");
    let fault = ask(&upstream, &secure(&server, true)).await.unwrap_err();
    assert_refused(&fault, "tls: no common protocol version or cipher");
    let modern = serve(authority.server("127.0.0.1", false, BOTH)).await;
    assert_eq!(ask(&upstream, &secure(&modern, true)).await.unwrap(), "hi");
}

#[tokio::test]
async fn alpn_chooses_http2_and_all_requests_share_one_connection() {
    let authority = Authority::new("ours");
    let mut config = authority.server("127.0.0.1", false, BOTH);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = serve(config).await;
    let (upstream, origin) = (authority.trusted(), secure(&server, false));
    // All at once and cold: nobody knows yet what the server speaks.
    let (a, b, c) = tokio::join!(ask(&upstream, &origin), ask(&upstream, &origin), ask(&upstream, &origin));
    assert_eq!([a.unwrap(), b.unwrap(), c.unwrap()], ["hi"; 3]);
    assert_eq!((server.accepted(), upstream.stats().opened), (1, 1));
}

#[tokio::test]
async fn a_burst_to_a_server_without_http2_dials_side_by_side() {
    for prewarmed in [false, true] {
        let authority = Authority::new("ours");
        let acceptor = TlsAcceptor::from(Arc::new(authority.server("127.0.0.1", false, BOTH)));
        // Nobody but the first is let in, and nobody is answered, before all are at the door.
        let all = Arc::new(Barrier::new(BURST));
        let server = Scripted::start(move |nth, stream| {
            let (acceptor, all) = (acceptor.clone(), Arc::clone(&all));
            async move {
                if nth > 0 {
                    all.wait().await;
                }
                let mut tls = acceptor.accept(stream).await.unwrap();
                if read_request(&mut tls).await.is_none() {
                    return;
                }
                if nth == 0 {
                    all.wait().await;
                }
                tls.write_all(ok("hi").as_bytes()).await.unwrap();
                tls.read_u8().await.ok();
            }
        })
        .await;
        let (upstream, origin) = (Arc::new(authority.trusted()), secure(&server, false));
        if prewarmed {
            upstream.prewarm(&origin);
            until("prewarming", || upstream.idle() == 1).await;
        }
        let mut burst = JoinSet::new();
        for _ in 0..BURST {
            let (upstream, origin) = (Arc::clone(&upstream), origin.clone());
            burst.spawn(async move { ask(&upstream, &origin).await.unwrap() });
        }
        assert_eq!(burst.join_all().await, ["hi"; BURST], "prewarmed: {prewarmed}");
        assert_eq!(server.accepted(), BURST, "prewarmed: {prewarmed}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_that_hangs_up() {
    let plain = Scripted::start(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.ok();
    })
    .await;
    let rude = Scripted::start(|_, mut stream| async move {
        stream.read_u8().await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.ok();
    })
    .await;
    for (server, text) in
        [(plain, "tls: the peer does not speak tls"), (rude, "tls: connection closed during the handshake")]
    {
        let fault = ask(&Authority::new("ours").trusted(), &secure(&server, false)).await.unwrap_err();
        assert_refused(&fault, text);
    }
}

#[tokio::test]
async fn an_answer_that_ends_without_close_notify_is_truncated() {
    let authority = Authority::new("ours");
    let acceptor = TlsAcceptor::from(Arc::new(authority.server("127.0.0.1", false, BOTH)));
    let server = Scripted::start(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut tls = acceptor.accept(stream).await.unwrap();
            read_request(&mut tls).await.unwrap();
            tls.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf of it").await.unwrap();
            tls.get_mut().0.shutdown().await.unwrap();
            tls.read_u8().await.ok();
        }
    })
    .await;
    let fault = ask(&authority.trusted(), &secure(&server, false)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Truncated, "{fault}");
}

#[tokio::test]
async fn siblings_share_what_is_costly_and_no_connections() {
    let authority = Authority::new("ours");
    let server = serve(authority.server("127.0.0.1", false, BOTH)).await;
    let one = authority.trusted();
    let two = one.sibling();
    ask(&one, &secure(&server, false)).await.unwrap();
    ask(&two, &secure(&server, false)).await.unwrap();
    assert_eq!((server.accepted(), one.idle(), two.idle()), (2, 1, 1));
}
