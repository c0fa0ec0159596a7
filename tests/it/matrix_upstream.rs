//! Rows U of the fault matrix that need more than a scripted answer: TLS, names, addresses, floods, usage that lies.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::acts;
use crate::client::{self, ask, ask_stream, chat};
use crate::gateway::{self, Gateway, provider};
use crate::recording;
use crate::upstream::{Act, Upstream};

fn alive() -> Upstream {
    Upstream::start(
        |heard| {
            if heard.is_stream() { acts::says_stream(&["a", "live"]) } else { acts::says("alive") }
        },
    )
}

/// A provider that speaks TLS, or does not quite. Counts connections, and keeps what came through.
struct Secure {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<u8>>>,
}

/// How it speaks.
#[derive(Clone)]
enum Speech {
    /// As it should.
    Tls(Arc<ServerConfig>),
    /// Half of an answer, and then nothing, not even a goodbye.
    Truncated(Arc<ServerConfig>),
    /// These bytes, whatever is said.
    Bytes(&'static [u8]),
}

impl Secure {
    fn start(speech: Speech) -> Self {
        let (ready, bound) = std::sync::mpsc::channel();
        let (connections, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, ears) = (connections.clone(), heard.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                loop {
                    let Ok((stream, _)) = listener.accept().await else { return };
                    count.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(converse(stream, speech.clone(), ears.clone()));
                }
            });
        });
        Self { address: bound.recv().unwrap(), connections, heard }
    }
}

async fn converse(mut stream: tokio::net::TcpStream, speech: Speech, ears: Arc<Mutex<Vec<u8>>>) {
    let (config, whole) = match speech {
        Speech::Bytes(bytes) => {
            let mut hello = [0; 1_024];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(bytes).await;
            return;
        }
        Speech::Tls(config) => (config, true),
        Speech::Truncated(config) => (config, false),
    };
    let Ok(mut tls) = TlsAcceptor::from(config).accept(stream).await else { return };
    let mut bytes = vec![0; 16 << 10];
    let Ok(read) = tls.read(&mut bytes).await else { return };
    ears.lock().unwrap().extend_from_slice(&bytes[..read]);
    let Some(Act::Write(answer)) = acts::says("over TLS").into_iter().next() else { return };
    let _ = tls.write_all(&answer[..if whole { answer.len() } else { answer.len() - 9 }]).await;
    let _ = tls.flush().await;
    if whole {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// A certificate authority, and what it signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    fn signs(&self, name: &str, expired: bool) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        Arc::new(config.unwrap())
    }
}

#[tokio::test]
async fn tls_that_proves_nothing_gets_no_key_and_the_fallback_answers() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let second = alive();
    // The alert that a server of TLS 1.1 sends to who offers only newer versions.
    let old = Speech::Bytes(&[0x15, 0x03, 0x02, 0x00, 0x02, 0x02, 0x46]);
    for (way, speech, reason, heard) in [
        ("sound", Speech::Tls(ours.signs("127.0.0.1", false)), "", true),
        (
            "unknown authority",
            Speech::Tls(theirs.signs("127.0.0.1", false)),
            "tls: certificate of an unknown issuer",
            false,
        ),
        ("expired", Speech::Tls(ours.signs("127.0.0.1", true)), "tls: certificate expired", false),
        (
            "another name",
            Speech::Tls(ours.signs("other.test", false)),
            "tls: certificate is for another name",
            false,
        ),
        ("tls 1.1", old, "tls:", false),
        ("plain", Speech::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "tls:", false),
        ("truncated", Speech::Truncated(ours.signs("127.0.0.1", false)), "", true),
    ] {
        let server = Secure::start(speech);
        let setup = gateway::setup(&format!(
            "workers: 1\nupstream: {{ extra_roots: roots.pem }}\nproviders:\n{}{}models:\n  m: {{ targets: [ first/m, second/m ] }}\n",
            provider("first", &format!("https://{}/v1", server.address)),
            provider("second", &second.url()),
        ));
        let gateway = setup.file("roots.pem", &ours.pem).start();
        let begun = Instant::now();
        let reply = chat(gateway.clients, &ask("m")).await;
        assert_eq!(reply.said(), if way == "sound" { "over TLS" } else { "alive" }, "{way}: {reply:#?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{way}: {:?}", begun.elapsed());
        if way == "sound" {
            continue;
        }
        assert_eq!(reply.header("x-tollgate-attempts"), "2", "{way}: it is not tried again: {reply:#?}");
        // One of them may have been opened ahead.
        let tried = server.connections.load(Ordering::SeqCst);
        assert!(tried <= 2, "{way}: {tried} connections for one request");
        let bytes = String::from_utf8_lossy(&server.heard.lock().unwrap()).into_owned();
        assert_eq!(bytes.contains("authorization"), heard, "{way}: the key was sent: {bytes}");
        let alone = chat(gateway.clients, &ask("first/m")).await;
        assert_eq!(alone.status, 502, "{way}: {alone:#?}");
        let message = alone.error()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(reason) && message.len() < 200, "{way}: {message}");
        assert!(!message.contains("BEGIN") && !message.contains("ours"), "{way}: {message}");
    }
}

#[tokio::test]
async fn an_address_that_never_answers_costs_the_connect_deadline() {
    // Its queue is full, so that nobody's handshake is answered any more.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let queued: Vec<_> =
        (0..4).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(100))).collect();
    assert!(queued.iter().any(Result::is_err), "the queue is not full");
    let second = alive();
    let gateway = gateway::start(&format!(
        "deadlines: {{ connect: 400ms }}\nproviders:\n{}{}models:\n  m: {{ targets: [ first/m, second/m ] }}\n",
        provider("first", &format!("http://{address}/v1")),
        provider("second", &second.url()),
    ));
    let begun = Instant::now();
    let reply = chat(gateway.clients, &ask("m")).await;
    assert_eq!(reply.said(), "alive", "{reply:#?}");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(390) && took < Duration::from_millis(1_200), "{took:?}");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["attempts"][0]["outcome"], "timeout_connect", "{record:#}");
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_rescued_in_time() {
    let second = alive();
    let gateway = gateway::start(&format!(
        "providers:\n{}{}models:\n  m: {{ targets: [ first/m, second/m ] }}\n",
        provider("first", "https://nobody.invalid/v1"),
        provider("second", &second.url()),
    ));
    let begun = Instant::now();
    let reply = chat(gateway.clients, &ask("m")).await;
    assert_eq!(reply.said(), "alive", "{reply:#?}");
    assert!(begun.elapsed() < Duration::from_millis(3_500), "{:?}", begun.elapsed());
    let alone = chat(gateway.clients, &ask("first/m")).await;
    assert!(alone.error()["message"].as_str().unwrap().contains("dns"), "{alone:#?}");
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let sink = Upstream::start(|_| acts::says("you should not be here"));
    let target = sink.url();
    let first = Upstream::start(move |heard| {
        let status = heard.model().parse().unwrap();
        acts::answer(status, &[("location", &target)], "")
    });
    let second = alive();
    for status in [301, 302, 303, 307, 308] {
        let gateway = gateway::start(&format!(
            "providers:\n{}{}models:\n  m: {{ targets: [ first/{status}, second/m ] }}\n",
            provider("first", &first.url()),
            provider("second", &second.url()),
        ));
        for question in [ask("m"), ask_stream("m")] {
            let reply = chat(gateway.clients, &question).await;
            assert_eq!((reply.status, reply.header("x-tollgate-target")), (200, "second/m"), "{reply:#?}");
        }
        let alone = chat(gateway.clients, &ask(&format!("first/{status}"))).await;
        assert_eq!((alone.status, alone.header("location")), (502, ""), "{alone:#?}");
    }
    assert!(sink.heard().is_empty());
}

/// Resident memory of the gateway, in bytes.
pub fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn an_answer_without_end_is_stopped_at_its_limit_and_costs_little_memory() {
    let piece = acts::piece(&"x".repeat(1 << 20));
    let first = Upstream::start(move |heard| {
        let head = if heard.is_stream() {
            acts::stream_head()
        } else {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
            vec![Act::Write(head.into())]
        };
        head.into_iter().chain(std::iter::repeat_n(piece.clone(), 60)).collect()
    });
    let second = alive();
    let gateway = gateway::start(&format!(
        "upstream: {{ max_body: 8MiB }}\nbreaker: {{ enabled: false }}\nproviders:\n{}{}models:\n  m: {{ targets: [ first/m, second/m ] }}\n",
        provider("first", &first.url()),
        provider("second", &second.url()),
    ));
    let before = resident(&gateway);
    for question in [ask("m"), ask_stream("m"), ask("m"), ask_stream("m")] {
        let reply = chat(gateway.clients, &question).await;
        assert_eq!((reply.status, reply.header("x-tollgate-target")), (200, "second/m"), "{reply:#?}");
    }
    let grown = resident(&gateway).saturating_sub(before);
    // Less than one such answer, of which there were four: what the allocator keeps for a while counts, too.
    assert!(grown < 55 << 20, "grew by {} MiB", grown >> 20);
    let alone = chat(gateway.clients, &ask("first/m")).await;
    assert_eq!(alone.status, 502, "{alone:#?}");
}

/// What a provider may say of usage, and what is booked of it: prompt, answer, whether it is an estimate.
#[tokio::test]
async fn usage_is_booked_once_whatever_is_said_of_it() {
    let chunk = |usage: Value| json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage });
    let finish = acts::delta(json!({}), Some("stop"));
    let usage = |prompt: u64, answer: u64| json!({ "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer });
    let event = |value: Value| format!("data: {value}\n\n");
    /// The name, the body of the answer, and the usage to be told.
    type Way = (&'static str, String, Option<(u64, u64)>);
    let ways: Vec<Way> = vec![
        ("absent", format!("{finish}data: [DONE]\n\n"), None),
        ("null", format!("{finish}{}data: [DONE]\n\n", event(chunk(Value::Null))), None),
        ("zero", format!("{finish}{}data: [DONE]\n\n", event(chunk(usage(0, 0)))), None),
        ("behind the finish", format!("{finish}{}data: [DONE]\n\n", event(chunk(usage(7, 3)))), Some((7, 3))),
        (
            "twice",
            format!("{}{finish}{}data: [DONE]\n\n", event(chunk(usage(7, 1))), event(chunk(usage(7, 3)))),
            Some((7, 3)),
        ),
        ("behind done", format!("{finish}data: [DONE]\n\n{}", event(chunk(usage(7, 900)))), None),
    ];
    for (way, ending, expected) in ways {
        let text = format!("{}{ending}", acts::events(&["four", " words", " of", " text"]));
        let upstream = Upstream::start(move |_| acts::stream(&text, usize::MAX));
        let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
        let reply = chat(gateway.clients, &ask_stream("up/m")).await;
        let facts = recording::streamed(&reply.text());
        assert!(facts.done && facts.error.is_none(), "{way}: {reply:#?}");
        assert_eq!(facts.choices[&0].text, "four words of text", "{way}");
        let record = gateway.record(reply.header("x-request-id")).await;
        let booked = &record["usage"];
        let tokens = (booked["input"].as_u64().unwrap(), booked["output"].as_u64().unwrap());
        match expected {
            Some(expected) => assert_eq!(tokens, expected, "{way}: {record:#}"),
            None => {
                assert!((1..20).contains(&tokens.1), "{way}: {record:#}");
                assert_eq!(booked["estimated"], true, "{way}: {record:#}");
            }
        }
    }
}

#[tokio::test]
async fn usage_beyond_the_limit_of_an_answer_is_booked_and_told() {
    let upstream = Upstream::start(|_| {
        let mut answer = acts::completion("here");
        answer["usage"] = json!({ "prompt_tokens": 7, "completion_tokens": 900, "total_tokens": 907 });
        acts::whole(200, &answer)
    });
    let gateway = gateway::start(&format!(
        "state: {{ ledger: \"sqlite:./data/ledger.db\" }}\nproviders:\n{}",
        provider("up", &upstream.url())
    ));
    for (most, doubts) in [(1_000, 0.0), (10, 1.0)] {
        let mut question = ask("up/m");
        question["max_tokens"] = most.into();
        let reply = chat(gateway.clients, &question).await;
        let record = gateway.record(reply.header("x-request-id")).await;
        assert_eq!(record["usage"]["output"], 900, "{record:#}");
        let told = gateway.metric("tollgate_usage_doubtful_total", &["provider=\"up\""]).await;
        assert!((told - doubts).abs() < 0.5, "{most}: {told}");
    }
}

#[tokio::test]
async fn a_flood_of_interim_answers_and_unasked_switches_end_in_the_fallback() {
    let first = Upstream::start(|heard| match heard.model().as_str() {
        "flood" => acts::raw("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(200_000)),
        "few" => {
            let mut script = vec![Act::Write("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(3).into_bytes())];
            script.extend(acts::says("after three hints"));
            script
        }
        _ => acts::raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    });
    let second = alive();
    let gateway = gateway::start(&format!(
        "providers:\n{}{}models:\n  flood: {{ targets: [ first/flood, second/m ] }}\n  few: {{ targets: [ first/few, second/m ] }}\n  \
         switch: {{ targets: [ first/switch, second/m ] }}\n",
        provider("first", &first.url()),
        provider("second", &second.url()),
    ));
    for (model, said) in [("flood", "alive"), ("few", "after three hints"), ("switch", "alive")] {
        let begun = Instant::now();
        let reply = chat(gateway.clients, &ask(model)).await;
        assert_eq!(reply.said(), said, "{model}: {reply:#?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{model}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn an_answer_on_an_idle_connection_is_given_to_nobody() {
    // Says something that nobody asked for while the connection waits in the pool.
    let upstream = Upstream::start(|heard| {
        let mut script = acts::says(&format!("to {}", heard.model()));
        script.push(Act::Pause(Duration::from_millis(30)));
        script.extend(acts::says("to nobody"));
        script
    });
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    for round in 0..20 {
        let model = format!("m{round}");
        let reply = chat(gateway.clients, &ask(&format!("up/{model}"))).await;
        assert_eq!(reply.said(), format!("to {model}"), "round {round}");
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

#[tokio::test]
async fn an_overloaded_provider_is_not_held_against_its_keys() {
    let first = Upstream::start(|_| acts::error(529, "overloaded"));
    let second = alive();
    let gateway = gateway::start(&format!(
        "providers:\n{}{}models:\n  m: {{ targets: [ first/m, second/m ] }}\n",
        provider("first", &first.url()),
        provider("second", &second.url()),
    ));
    for _ in 0..3 {
        assert_eq!(chat(gateway.clients, &ask("m")).await.said(), "alive");
    }
    let providers = client::get(gateway.admin, "/admin/v1/providers").await.json();
    let first = providers["providers"].as_array().unwrap().iter().find(|one| one["name"] == "first").unwrap();
    assert_eq!(first["keys"][0]["state"], "ok", "{first:#}");
    assert!(first["targets"][0]["breaker"]["health"].as_f64().unwrap() < 1.0, "{first:#}");
}
