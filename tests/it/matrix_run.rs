//! Rows R of the fault matrix: signals, limits of the operating system, logs that nobody takes, starts that fail.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::acts;
use crate::client::{self, ask, ask_stream, chat, chat_live};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::{Act, Upstream};

/// Begins to answer, and ends after this pause.
fn slow(pause: Duration) -> Upstream {
    Upstream::start(move |heard| {
        if !heard.is_stream() {
            return acts::says("ok");
        }
        let mut script = acts::stream_open(&acts::events(&["begun"]), usize::MAX);
        script.push(Act::Pause(pause));
        script.push(acts::piece(&format!("{}{}", acts::events(&[" and done"]), acts::ENDING)));
        script.push(Act::Write(b"0\r\n\r\n".to_vec()));
        script
    })
}

/// So many streams whose first word has come.
async fn streams(gateway: &Gateway, count: usize) -> Vec<client::Live> {
    let opening: Vec<_> = (0..count)
        .map(|_| {
            let to = gateway.clients;
            tokio::spawn(async move {
                let mut live = chat_live(to, &ask_stream("up/m")).await;
                live.until("begun").await;
                live
            })
        })
        .collect();
    let mut open = Vec::new();
    for one in opening {
        open.push(one.await.unwrap());
    }
    open
}

#[tokio::test]
async fn two_hundred_streams_outlive_the_first_signal() {
    let upstream = slow(Duration::from_secs(4));
    let mut gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let open = streams(&gateway, 200).await;
    gateway.terminate();
    client::eventually_async("readiness to say that we leave", async || {
        (client::get(gateway.admin, "/readyz").await.status == 503).then_some(())
    })
    .await;
    for live in open {
        let reply = live.rest().await;
        let text = reply.text();
        assert!(reply.whole && text.contains("and done") && text.contains("[DONE]"), "{reply:#?}");
    }
    let status = gateway.ended(Duration::from_secs(10)).expect("the process ends");
    assert_eq!(status.code(), Some(0));
    assert_eq!(gateway.access().len(), 200, "every request has its line");
}

#[tokio::test]
async fn a_second_signal_ends_everything_at_once_and_the_ledger_is_written() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let upstream = slow(Duration::from_secs(60));
        let config = format!(
            "state: {{ ledger: \"sqlite:./t.db\" }}\nproviders:\n{}",
            provider("up", &upstream.url())
        );
        let mut gateway = gateway::start(&config);
        let open = streams(&gateway, 5).await;
        gateway.signal(first);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begun = Instant::now();
        gateway.signal(second);
        for live in open {
            let reply = live.rest().await;
            assert!(!reply.text().contains("[DONE]") && reply.text().contains("\"error\""), "{reply:#?}");
        }
        let status = gateway.ended(Duration::from_secs(5)).expect("the process ends");
        assert_eq!(status.code(), Some(0), "{first}, {second}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        let usage = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["usage", "--attempts", "--format", "jsonl", "--config"])
            .arg(gateway.path("tollgate.yaml"))
            .env("TEST_KEY", gateway::CANARY)
            .output()
            .unwrap();
        let rows = String::from_utf8(usage.stdout).unwrap();
        assert_eq!(rows.lines().count(), 5, "{rows}\n{}", String::from_utf8_lossy(&usage.stderr));
        assert!(!rows.contains("\"open\""), "none is left open: {rows}");
    }
}

/// Ticks of the processor that the process has used.
fn ticks(gateway: &Gateway) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn without_descriptors_new_clients_wait_and_running_streams_live() {
    let upstream = slow(Duration::from_secs(4));
    let setup = gateway::setup(&format!("workers: 2\nproviders:\n{}", provider("up", &upstream.url())));
    let gateway = setup.after("ulimit -n 64").start();
    let open = streams(&gateway, 3).await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        // Those that find no place wait in the queue of the operating system.
        if let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(gateway.clients)).await
        {
            crowd.push(stream);
        }
    }
    client::eventually("the gateway to notice", || {
        gateway.log().iter().any(|line| line.contains("cannot accept connections")).then_some(())
    })
    .await;
    let before = ticks(&gateway);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = ticks(&gateway) - before;
    assert!(used < 50, "it spins: {used} of 100 ticks");
    for live in open {
        let reply = live.rest().await;
        assert!(reply.whole && reply.text().contains("[DONE]"), "{reply:#?}");
    }
    drop(crowd);
    let reply = chat(gateway.clients, &ask("up/m")).await;
    assert_eq!(reply.said(), "ok", "{reply:#?}");
}

#[tokio::test]
async fn signals_that_ask_for_news_do_not_end_the_process() {
    let upstream = slow(Duration::ZERO);
    let models = |to: &str| {
        format!(
            "providers:\n{}models:\n  fast: {{ targets: [ up/{to} ] }}\n",
            provider("up", &upstream.url())
        )
    };
    let gateway = gateway::start(&models("one"));
    for signal in ["HUP", "USR1", "PIPE"] {
        gateway.signal(signal);
    }
    assert_eq!(chat(gateway.clients, &ask("fast")).await.said(), "ok");
    gateway.save_config(&models("two"));
    gateway.signal("HUP");
    client::eventually_async("the new configuration", async || {
        let reply = chat(gateway.clients, &ask("fast")).await;
        (reply.header("x-tollgate-target") == "up/two").then_some(())
    })
    .await;
    assert!(gateway.log().iter().any(|line| line.contains("SIGHUP")), "{:#?}", gateway.log());
}

#[tokio::test]
async fn logs_that_nobody_takes_hold_no_request_up() {
    let upstream = slow(Duration::ZERO);
    let config = format!("providers:\n{}", provider("up", &upstream.url()));
    // A disk that is full.
    let gateway = gateway::setup(&config).after("exec >/dev/full").start();
    for _ in 0..200 {
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "ok");
    }
    client::eventually_async("lost lines to be counted", async || {
        (gateway.metric("tollgate_access_log_dropped_total", &[]).await > 100.0).then_some(())
    })
    .await;
    drop(gateway);

    // Readers that have gone.
    let setup = gateway::setup(&config);
    let path = setup.path().join("tollgate.yaml").display().to_string();
    let mut child = setup
        .command(&["serve", "--config", &path])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening = lines.by_ref().map_while(Result::ok).find(|line| line.contains("listening")).unwrap();
    let listening: Value = serde_json::from_str(&listening).unwrap();
    let clients = gateway::field(&listening, "clients").unwrap().as_str().unwrap().parse().unwrap();
    drop(lines);
    for _ in 0..50 {
        assert_eq!(chat(clients, &ask("up/m")).await.said(), "ok");
    }
    // Something that is worth a warning, with nobody to read it.
    assert_eq!(chat(clients, &ask("nobody/m")).await.status, 404);
    assert!(child.try_wait().unwrap().is_none(), "it lives");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_start_that_fails_says_why_in_a_second_and_with_its_own_status() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sandbox = "providers: { sandbox: { dialect: sandbox } }\n";
    let free = gateway::FREE_PORTS;
    for (name, config, said) in [
        (
            "a port in use",
            format!("listen: {}\nadmin: {{ listen: 127.0.0.1:0 }}\n{sandbox}", taken.local_addr().unwrap()),
            "in use",
        ),
        (
            "no certificate",
            format!("{free}tls: {{ cert: nowhere.pem, key: nowhere.key }}\n{sandbox}"),
            "nowhere.pem",
        ),
        (
            "a certificate that is none",
            format!("{free}tls: {{ cert: bad.pem, key: bad.pem }}\n{sandbox}"),
            "bad.pem",
        ),
        (
            "a missing variable",
            format!("{free}providers: {{ openai: {{ keys: [ env:NOT_SET_ANYWHERE ] }} }}\n"),
            "NOT_SET_ANYWHERE",
        ),
        (
            "a folder that cannot be",
            format!("{free}state: {{ ledger: \"sqlite:/proc/nowhere/t.db\" }}\n{sandbox}"),
            "/proc/nowhere",
        ),
    ] {
        let setup = gateway::setup("").file("tollgate.yaml", &config).file("bad.pem", "not a certificate");
        let begun = Instant::now();
        let printed = setup.run(&["serve", "--config", "tollgate.yaml"]);
        assert_eq!(printed.code, Some(78), "{name}: {printed:#?}");
        assert!(printed.err.contains(said), "{name}: {printed:#?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{name}: {:?}", begun.elapsed());
        assert!(printed.err.lines().count() <= 8, "{name}: {printed:#?}");
    }
}

#[tokio::test]
async fn one_gateway_takes_over_from_another_and_no_request_fails() {
    let upstream = slow(Duration::from_millis(300));
    let config =
        format!("state: {{ ledger: \"sqlite:./t.db\" }}\nproviders:\n{}", provider("up", &upstream.url()));
    let older = gateway::start(&config);
    let younger = gateway::start(&config);
    let serving = Arc::new(std::sync::Mutex::new(older.clients));
    let going = Arc::new(AtomicBool::new(true));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (serving, going) = (serving.clone(), going.clone());
            tokio::spawn(async move {
                let mut answered = 0;
                while going.load(SeqCst) {
                    let to = *serving.lock().unwrap();
                    let reply = chat(to, &ask_stream("up/m")).await;
                    assert!(reply.whole && reply.text().contains("[DONE]"), "{reply:#?}");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(600)).await;
    // As a balancer does it: the younger one is ready, then the older one gets nothing new and is told to end.
    assert_eq!(client::get(younger.admin, "/readyz").await.status, 200);
    *serving.lock().unwrap() = younger.clients;
    tokio::time::sleep(Duration::from_millis(50)).await;
    older.terminate();
    tokio::time::sleep(Duration::from_millis(800)).await;
    going.store(false, SeqCst);
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    let mut older = older;
    assert_eq!(older.ended(Duration::from_secs(5)).and_then(|status| status.code()), Some(0));
    client::eventually("every request to have its line", || {
        (answered == older.access().len() + younger.access().len()).then_some(())
    })
    .await;
}

/// Asks on one connection, as often as it may, until it is told to go elsewhere; how many answers came.
async fn asked_until_close(to: SocketAddr, going: &AtomicBool) -> usize {
    let stream = TcpStream::connect(to).await.expect("a listener");
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection");
    let connection = tokio::spawn(connection);
    let mut answered = 0;
    while going.load(SeqCst) {
        let mut request = client::request(Method::POST, "/v1/chat/completions", &ask("up/m").to_string());
        request.headers_mut().insert("host", "gateway".parse().unwrap());
        sender.ready().await.expect("an open connection");
        let answer = sender.send_request(request.map(Full::new)).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{answer:?}");
        let last = answer.headers().get("connection").is_some_and(|value| value == "close");
        answer.into_body().collect().await.expect("all of it");
        answered += 1;
        if last {
            break;
        }
    }
    drop(sender);
    let _ = connection.await;
    answered
}

/// Twice in a row, as a rolling upgrade does it, on the address that clients know. Several threads, because clients go on
/// while this one waits for processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_gateway_takes_over_the_address_of_another_and_no_request_fails() {
    let upstream = slow(Duration::from_millis(200));
    let config = |listen: &str| {
        format!(
            "listen: {listen}\nadmin: {{ listen: 127.0.0.1:0 }}\nreuse_port: true\ndrain_delay: 1s\n\
             state: {{ ledger: \"sqlite:./t.db\" }}\nlimits: {{ connections_per_address: 5000 }}\nproviders:\n{}",
            provider("up", &upstream.url())
        )
    };
    let start = |listen: &str| gateway::setup("").file("tollgate.yaml", &config(listen)).start();
    let mut serving = start("127.0.0.1:0");
    let address = serving.clients;
    let going = Arc::new(AtomicBool::new(true));
    let clients: Vec<_> = (0..6)
        .map(|number| {
            let going = going.clone();
            tokio::spawn(async move {
                let mut answered = 0;
                while going.load(SeqCst) {
                    answered += match number % 3 {
                        0 => {
                            let reply = chat(address, &ask_stream("up/m")).await;
                            assert!(reply.whole && reply.text().contains("[DONE]"), "{reply:#?}");
                            1
                        }
                        1 => {
                            let reply = chat(address, &ask("up/m")).await;
                            assert!(reply.whole && reply.status == 200, "{reply:#?}");
                            1
                        }
                        _ => asked_until_close(address, &going).await,
                    };
                }
                answered
            })
        })
        .collect();
    let mut lines = 0;
    for _ in 0..2 {
        let younger = start(&address.to_string());
        assert_eq!(younger.clients, address);
        assert_eq!(client::get(younger.admin, "/readyz").await.status, 200);
        serving.terminate();
        assert_eq!(serving.ended(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
        lines += serving.access().len();
        serving = younger;
        let before = serving.access().len();
        client::eventually("the younger one to serve", || {
            (serving.access().len() > before + 10).then_some(())
        })
        .await;
    }
    going.store(false, SeqCst);
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    client::eventually("every request to have its line", || {
        (answered == lines + serving.access().len()).then_some(())
    })
    .await;
}
