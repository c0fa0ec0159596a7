//! TLS towards clients through the binary: paths beside the configuration, and certificates that are renewed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::CertifiedKey;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client;
use crate::gateway::{self, Gateway};

const SANDBOX: &str = "providers: { sandbox: { dialect: sandbox } }\n";

struct Certificate {
    der: CertificateDer<'static>,
    cert: String,
    key: String,
}

fn certificate() -> Certificate {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    Certificate { der: cert.der().clone(), cert: cert.pem(), key: signing_key.serialize_pem() }
}

/// Whether a client that trusts only this certificate gets through.
async fn is_shown(gateway: &Gateway, certificate: &Certificate) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(gateway.clients).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.is_ok()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_at_once_and_a_broken_one_is_refused() {
    let (old, new) = (certificate(), certificate());
    let setup = gateway::setup(&format!("tls: {{ cert: cert.pem, key: key.pem }}\n{SANDBOX}"))
        .file("cert.pem", &old.cert)
        .file("key.pem", &old.key);
    let printed = setup.run(&["check"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    let gateway = setup.start();
    assert!(is_shown(&gateway, &old).await);

    gateway.save("cert.pem", &new.cert);
    gateway.save("key.pem", &new.key);
    let begun = Instant::now();
    while !is_shown(&gateway, &new).await {
        assert!(begun.elapsed() < Duration::from_secs(2), "the old certificate is still shown");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!is_shown(&gateway, &old).await);

    gateway.save("cert.pem", "nonsense");
    let text = "cert.pem` holds no PEM certificate";
    client::eventually("a refused reload", || gateway.log().into_iter().find(|line| line.contains(text)))
        .await;
    assert!(is_shown(&gateway, &new).await);
}
