//! HTTP/2 by prior knowledge and by ALPN, TLS, certificates that change.

use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

pub(super) type Sender = http2::SendRequest<Full<Bytes>>;

pub(super) async fn speak_http2<I>(io: I) -> (Sender, JoinHandle<()>)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, conn) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.expect("HTTP/2");
    (sender, tokio::spawn(async move { drop(conn.await) }))
}

pub(super) fn request(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::post(format!("http://a{path}"));
    request.body(Full::new(Bytes::from_static(body.as_bytes()))).expect("a request")
}

pub(super) async fn ask(sender: &mut Sender, request: Request<Full<Bytes>>) -> (u16, String) {
    let answer = timeout(PATIENCE, sender.send_request(request)).await.expect("in time").expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn http2_is_spoken_on_the_same_port_under_the_same_checks() {
    let stand = Stand::start(with_limits(|limits| {
        limits.body = Size(10);
        limits.upload = Size(10);
        limits.uri = Size(100);
    }));
    let (mut sender, _conn) = speak_http2(stand.connect().await).await;
    let long = format!("/{}", "u".repeat(100));
    for (path, body, expected) in [
        ("/echo", "hello", 200),
        ("/echo", "hello hello", 413),
        ("/v1/../admin", "", 400),
        ("/v1//admin", "", 400),
        ("/v1/%2e%2e", "", 400),
        (&long, "", 414),
        ("/a", "", 200),
    ] {
        let (status, text) = ask(&mut sender, request(path, body)).await;
        assert_eq!(status, expected, "{path}: {text}");
    }
    let mut other_host = request("/a", "");
    other_host.headers_mut().insert("host", "b".parse().expect("a value"));
    assert_eq!(ask(&mut sender, other_host).await.0, 400);
    let connect = Request::connect("a:443").body(Full::default()).expect("a request");
    assert_eq!(sender.send_request(connect).await.expect("an answer").status(), 405);
    assert_eq!(stand.arrived(), 2);
    drop(sender);
    stand.stop().await;
}

#[tokio::test]
async fn over_http2_the_answer_to_a_large_refused_body_stands() {
    let stand = Stand::start(with_limits(|limits| (limits.body, limits.upload) = (Size(10), Size(10))));
    let (mut sender, connection) = h2::client::handshake(stand.connect().await).await.expect("http/2");
    tokio::spawn(connection);
    let request = Request::post("http://a/echo").body(()).expect("a request");
    let (answer, mut body) = sender.send_request(request, false).expect("a stream");
    body.reserve_capacity(1 << 20);
    body.send_data(Bytes::from(vec![0; 1 << 20]), false).expect("room");
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.status(), 413);
    let mut text = answer.into_body();
    while let Some(piece) = text.data().await {
        piece.expect("all of it");
    }
    let reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
    assert_eq!(reset.expect("a reset"), h2::Reason::NO_ERROR, "the answer counts, the rest is not wanted");
    drop((sender, body, text));
    stand.stop().await;
}

#[tokio::test]
async fn a_preface_that_comes_in_pieces_is_still_http2() {
    let stand = Stand::start(ListenerSettings::default());
    let mut stream = stand.connect().await;
    for piece in [&b"PRI * HTTP"[..], b"/2.0\r\n\r\nSM\r", b"\n\r\n", b"\0\0\0\x04\0\0\0\0\0"] {
        stream.write_all(piece).await.expect("the listener reads");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut frame = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut frame)).await.expect("in time").expect("a frame");
    assert_eq!(frame[3], 4, "the listener's SETTINGS");
    drop(stream);
    stand.stop().await;
}

#[tokio::test]
async fn a_panic_on_one_stream_leaves_the_others_alone() {
    let stand = Stand::start(ListenerSettings::default());
    let (mut sender, _conn) = speak_http2(stand.connect().await).await;
    assert!(sender.send_request(request("/panic", "")).await.is_err());
    assert_eq!(ask(&mut sender, request("/a", "")).await.0, 200);
    assert_eq!(stand.drain.in_flight(), 0);
    drop(sender);
    stand.stop().await;
}

#[tokio::test]
async fn a_stream_whose_client_grants_no_window_is_reset() {
    let stand = Stand::start(with_limits(|limits| limits.write_timeout = millis(200)));
    let (mut sender, _conn) = speak_http2(stand.connect().await).await;
    let unread = sender.send_request(request("/flood", "")).await.expect("an answer");
    stand.until_left(1).await;
    assert_eq!(ask(&mut sender, request("/a", "")).await.0, 200, "the connection lives");
    drop((unread, sender));
    stand.stop().await;
}

#[tokio::test]
async fn an_idle_http2_connection_says_goodbye() {
    let stand = Stand::start(with_limits(|limits| limits.idle_timeout = millis(100)));
    let (mut sender, conn) = speak_http2(stand.connect().await).await;
    assert_eq!(ask(&mut sender, request("/a", "")).await.0, 200);
    timeout(PATIENCE, conn).await.expect("the connection ends").expect("without a panic");
    stand.stop().await;
}

#[tokio::test]
async fn draining_lets_http2_streams_finish_and_refuses_new_ones() {
    let stand = Stand::start(ListenerSettings::default());
    let (mut sender, conn) = speak_http2(stand.connect().await).await;
    let running = sender.send_request(request("/drip", "")).await.expect("an answer");
    stand.drain.begin(Duration::from_millis(300));
    let text = running.into_body().collect().await.expect("a whole body").to_bytes();
    assert!(text.ends_with(b"event: error\n\n"));
    timeout(PATIENCE, conn).await.expect("GOAWAY").expect("without a panic");
    assert!(sender.send_request(request("/a", "")).await.is_err());
    timeout(PATIENCE, stand.serving).await.expect("ends").expect("without a panic");
}

#[tokio::test]
async fn a_header_bomb_ends_the_connection_and_nothing_else() {
    let stand = Stand::start(ListenerSettings::default());
    let (mut sender, _conn) = speak_http2(stand.connect().await).await;
    let mut bomb = request("/a", "");
    bomb.headers_mut().insert("x", "y".repeat(20_000).parse().expect("a value"));
    assert!(sender.send_request(bomb).await.is_ok_and(|answer| answer.status() == 431) || sender.is_closed());
    assert_eq!(stand.arrived(), 0);
    let (mut other, _conn) = speak_http2(stand.connect().await).await;
    assert_eq!(ask(&mut other, request("/a", "")).await.0, 200);
    drop((sender, other));
    stand.stop().await;
}

#[tokio::test]
async fn a_flood_of_resets_reaches_its_own_connection_only() {
    let stand = Stand::start(ListenerSettings::default());
    let (mut flooding, _conn) = speak_http2(stand.connect().await).await;
    for _ in 0..2000 {
        // Dropping the answer resets the stream.
        if flooding.ready().await.is_err() {
            break;
        }
        drop(flooding.send_request(request("/hang", "")));
    }
    let (mut other, _conn) = speak_http2(stand.connect().await).await;
    assert_eq!(ask(&mut other, request("/a", "")).await.0, 200);
    timeout(PATIENCE, async {
        while stand.drain.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("nothing of the flood stays");
    drop((flooding, other));
    stand.stop().await;
}

struct Authority {
    settings: TlsSettings,
    _dir: tempfile::TempDir,
}

impl Authority {
    fn new(min: TlsVersion) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let settings = TlsSettings { cert: dir.path().join("c.pem"), key: dir.path().join("k.pem"), min };
        Self { settings, _dir: dir }
    }

    /// A new certificate in the files; returns what clients must trust.
    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
        let put = |path: &Path, text: String| std::fs::write(path, text).expect("a file");
        put(&self.settings.key, made.signing_key.serialize_pem());
        put(&self.settings.cert, made.cert.pem());
        made.cert.der().clone()
    }
}

async fn handshake(
    stand: &Stand,
    trusted: &CertificateDer<'static>,
    alpn: &[&[u8]],
    version: &'static rustls::SupportedProtocolVersion,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stand.connect().await).await
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn tls_clients_choose_their_protocol_and_the_floor_holds() {
    use rustls::version::{TLS12, TLS13};
    let authority = Authority::new(TlsVersion::V1_3);
    let trusted = authority.renew();
    let stand =
        Stand::start(ListenerSettings { tls: Some(authority.settings.clone()), ..Default::default() });

    let stream = handshake(&stand, &trusted, &[b"h2", b"http/1.1"], &TLS13).await.expect("TLS");
    let (mut sender, _conn) = speak_http2(stream).await;
    assert_eq!(ask(&mut sender, request("/echo", "hello")).await, (200, "hello".into()));

    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let mut stream = handshake(&stand, &trusted, alpn, &TLS13).await.expect("TLS");
        stream.write_all(GET).await.expect("the listener reads");
        assert_eq!(statuses(&read_all(&mut stream).await), [200]);
    }
    assert!(handshake(&stand, &trusted, &[], &TLS12).await.is_err(), "below the floor");
    assert!(!stand.say(GET).await.contains("200"), "plain text on a TLS port");
    drop(sender);
    stand.stop().await;
}

#[tokio::test]
async fn the_next_handshake_uses_the_renewed_certificate() {
    use rustls::version::TLS12;
    let authority = Authority::new(TlsVersion::V1_2);
    let first = authority.renew();
    let settings = ListenerSettings { tls: Some(authority.settings.clone()), ..Default::default() };
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), settings).expect("a free port");
    let tls = listener.tls().expect("TLS is on");
    let (address, drain, seen) = (listener.local_addr(), Drain::new(), Arc::<Seen>::default());
    let (its_seen, its_drain) = (seen.clone(), drain.clone());
    let make = move |_| Probe { seen: its_seen.clone(), drain: its_drain.clone() };
    let serving = tokio::spawn(listener.serve(1, make, drain.clone()));
    let stand = Stand { address, drain, seen, serving };

    let mut old = handshake(&stand, &first, &[], &TLS12).await.expect("TLS");
    let second = authority.renew();
    // The listener may have seen them by itself.
    tls.reload().expect("good files");
    assert!(handshake(&stand, &first, &[], &TLS12).await.is_err());
    handshake(&stand, &second, &[], &TLS12).await.expect("the renewed certificate");
    std::fs::write(&authority.settings.cert, "half a certif").expect("a file");
    assert!(tls.reload().is_err());
    handshake(&stand, &second, &[], &TLS12).await.expect("the last good certificate");
    old.write_all(GET).await.expect("an open connection stays open");
    assert_eq!(statuses(&read_all(&mut old).await), [200]);
    stand.stop().await;
}
