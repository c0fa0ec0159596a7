//! Raw requests: the client's bytes out, the provider's bytes back, through the whole line.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::acts;
use crate::anthropic;
use crate::client::{self, Reply, ask, eventually, post};
use crate::gateway::{self, CANARY, Gateway, provider};
use crate::sink::{Sender, Sink};
use crate::upstream::{Act, Heard, Upstream};

/// Bytes that are no text, always the same.
pub fn noise(length: usize) -> Vec<u8> {
    let mut seed = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed.to_le_bytes()[0]
    })
    .take(length)
    .collect()
}

async fn send(gateway: &Gateway, request: Request<Bytes>) -> Reply {
    client::open(gateway.clients, request).await.expect("an answer").rest().await
}

async fn get(gateway: &Gateway, path: &str) -> Reply {
    client::get(gateway.clients, path).await
}

fn one(upstream: &Upstream) -> Gateway {
    gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())))
}

fn last(upstream: &Upstream) -> Heard {
    upstream.heard().pop().expect("a request")
}

#[tokio::test]
async fn bytes_go_both_ways_and_nothing_else_does() {
    let picture = noise(100_000);
    let answer = picture.clone();
    let upstream = Upstream::start(move |_| {
        let headers = [
            ("content-type", "image/x-odd"),
            ("content-disposition", "attachment; filename=a.bin"),
            ("etag", "\"1\""),
            ("set-cookie", "a=b"),
            ("openai-organization", "org-secret"),
            ("x-ratelimit-remaining-requests", "7"),
            ("server", "cloudflare"),
        ];
        acts::answer(200, &headers, &answer)
    });
    let gateway = one(&upstream);
    let request = Request::builder()
        .method("PUT")
        .uri("/passthrough/up/odd/thing%20x?limit=2&key=sk-client&after=a%26b")
        .header("authorization", "Bearer sk-client")
        .header("x-api-key", "sk-client")
        .header("cookie", "session=client")
        .header("content-type", "application/x-odd")
        .header("openai-beta", "assistants=v2")
        .header("openai-organization", "org-client")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-tollgate-tags", "team=a")
        .body(Bytes::from(noise(3_000)))
        .unwrap();
    let reply = send(&gateway, request).await;
    assert_eq!((reply.status, &reply.body[..]), (200, &picture[..]));
    assert_eq!(reply.header("content-type"), "image/x-odd");
    assert_eq!(reply.header("content-length"), "100000");
    assert_eq!(reply.header("etag"), "\"1\"");
    assert_eq!(reply.header("x-tollgate-target"), "up/*");
    for name in ["set-cookie", "openai-organization", "x-ratelimit-remaining-requests", "server"] {
        assert_eq!(reply.header(name), "", "{reply:#?}");
    }

    let heard = last(&upstream);
    assert_eq!(
        (heard.method.as_str(), heard.path.as_str()),
        ("PUT", "/v1/odd/thing%20x?limit=2&after=a%26b")
    );
    assert_eq!(heard.body, noise(3_000));
    assert_eq!(heard.header("authorization"), Some(format!("Bearer {CANARY}").as_str()));
    assert_eq!(heard.header("openai-beta"), Some("assistants=v2"));
    assert_eq!(heard.header("content-length"), Some("3000"));
    let mut names: Vec<_> = heard.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let known = [
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "openai-beta",
        "user-agent",
    ];
    assert_eq!(names, known);

    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["method"], "PUT");
    assert_eq!(record["path"], "/passthrough/{provider}/*");
    assert_eq!(record["facts"]["endpoint"], "passthrough");
    assert_eq!((&record["status"], &record["outcome"]), (&json!(200), &json!("ok")));
}

#[tokio::test]
async fn what_the_provider_answers_comes_as_it_is() {
    let upstream = Upstream::start(|heard| match heard.path.rsplit('/').next().unwrap_or_default() {
        "limited" => acts::answer(
            429,
            &[("content-type", "application/json"), ("retry-after", "7")],
            "{\"odd\": \"body\"}",
        ),
        "unauthorized" => acts::answer(
            401,
            &[("content-type", "text/plain"), ("location", &format!("/?key={CANARY}"))],
            format!("wrong key {CANARY} and again {CANARY}"),
        ),
        "moved" => acts::answer(302, &[("location", "https://elsewhere.example/x")], ""),
        "within" => acts::answer(307, &[("location", "/v1/files/2?a=b")], ""),
        "nothing" => acts::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        "huge" => acts::error(500, &"x".repeat(200_000)),
        _ => acts::raw("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\ncontent-type: audio/mpeg\r\n\r\n"),
    });
    let gateway = one(&upstream);
    let reply = get(&gateway, "/passthrough/up/limited").await;
    assert_eq!((reply.status, reply.text().as_str()), (429, "{\"odd\": \"body\"}"));
    assert_eq!(reply.header("retry-after"), "7");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["outcome"], &record["error"]), (&json!("error"), &json!("rate_limited")));
    assert_eq!(record["attempts"][0]["outcome"], "rate_limited");
    assert_eq!(upstream.heard().len(), 1, "nothing is tried twice");

    let reply = get(&gateway, "/passthrough/up/unauthorized").await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.text(), "wrong key [redacted] and again [redacted]");
    assert_eq!(reply.header("location"), "");

    let reply = get(&gateway, "/passthrough/up/moved").await;
    assert_eq!((reply.status, reply.header("location")), (302, "https://elsewhere.example/x"));
    let reply = get(&gateway, "/passthrough/up/within").await;
    assert_eq!((reply.status, reply.header("location")), (307, "/passthrough/up/files/2?a=b"));
    let reply = get(&gateway, "/passthrough/up/nothing").await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    let reply = get(&gateway, "/passthrough/up/huge").await;
    assert_eq!(reply.status, 500);
    assert!(reply.whole && reply.body.len() > 200_000, "{}", reply.body.len());

    let request = Request::builder().method("HEAD").uri("/passthrough/up/sound").body(Bytes::new()).unwrap();
    let reply = send(&gateway, request).await;
    assert_eq!((reply.status, reply.header("content-length")), (200, "12345"));
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["method"], &record["outcome"]), (&json!("HEAD"), &json!("ok")));
}

#[tokio::test]
async fn what_a_connection_took_into_its_grave_is_sent_again_only_where_twice_is_once() {
    let tries = Mutex::new(0);
    let upstream = Upstream::start(move |heard| {
        if heard.method == "GET" {
            return acts::says("kept");
        }
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        if *tries < 3 { vec![Act::Pause(Duration::from_millis(50)), Act::Close] } else { acts::says("done") }
    });
    let gateway = gateway::start(&format!("workers: 1\nproviders:\n{}", provider("up", &upstream.url())));
    for (method, status, attempts) in [("POST", 502, 1), ("DELETE", 200, 2)] {
        // From here on there is a connection that was used.
        assert_eq!(get(&gateway, "/passthrough/up/files").await.status, 200);
        let body = Bytes::from_static(b"{\"input_file_id\":\"f\"}");
        let request = Request::builder().method(method).uri("/passthrough/up/batches").body(body).unwrap();
        let reply = send(&gateway, request).await;
        let heard = upstream.heard().iter().filter(|heard| heard.method == method).count();
        assert_eq!((reply.status, heard), (status, attempts), "{method}: {reply:#?}");
    }
}

#[tokio::test]
async fn a_raw_stream_is_booked_by_what_it_said_where_its_provider_does_not_tell() {
    let words = ["ten ", "words of this length are said here "].map(|words| words.repeat(20));
    let upstream = Upstream::start(move |heard| {
        let mut script = acts::stream_head();
        if heard.path.ends_with("/messages") {
            let begin = json!({"type": "message_start", "message": {"usage": {"input_tokens": 100, "output_tokens": 1}}});
            let text = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words[1]}});
            script.push(acts::piece(&format!("data: {begin}\n\ndata: {text}\n\n")));
            script.push(Act::Hang);
        } else {
            let delta = |text: &str| acts::delta(json!({"content": text}), None);
            script.push(acts::piece(&format!("{}{}", delta(&words[0]), delta(&words[1]))));
            script.push(match heard.model().as_str() {
                "left" => Act::Hang,
                _ => acts::piece("data: [DONE]\n\n"),
            });
            script.push(Act::Write(b"0\r\n\r\n".to_vec()));
        }
        script
    });
    let gateway = gateway::start(&format!(
        "providers:\n{}{}",
        provider("up", &upstream.url()),
        anthropic::provider("claude", &upstream.url())
    ));
    let plenty = |record: &Value| {
        let used = &record["usage"];
        assert!(used["output"].as_u64().is_some_and(|output| (100..300).contains(&output)), "{record:#}");
        assert_eq!(used["estimated"], true, "{used}");
    };
    let told = post(gateway.clients, "/passthrough/up/chat/completions", &client::ask_stream("whole")).await;
    plenty(&gateway.record(told.header("x-request-id")).await);
    for (path, model) in
        [("/passthrough/up/chat/completions", "left"), ("/passthrough/claude/v1/messages", "c")]
    {
        let mut body = client::ask_stream(model);
        body["max_tokens"] = json!(900);
        let request = client::request(Method::POST, path, &body.to_string());
        let mut live = client::open(gateway.clients, request).await.unwrap();
        live.until("said here").await;
        let id = live.headers["x-request-id"].to_str().unwrap().to_owned();
        drop(live);
        let record = gateway.record(&id).await;
        plenty(&record);
        assert!(model != "c" || record["usage"]["input"] == 100, "{record}");
    }
}

#[tokio::test]
async fn a_chat_through_the_passthrough_is_metered_like_any_other() {
    let upstream = Upstream::start(|heard| {
        if heard.is_stream() { acts::says_stream(&["Hel", "lo"]) } else { acts::says("Hello") }
    });
    let claude = Upstream::start(anthropic::play);
    let gateway = gateway::start(&format!(
        "providers:\n{}{}",
        provider("up", &upstream.url()),
        anthropic::provider("claude", &claude.url())
    ));
    let reply = post(gateway.clients, "/passthrough/up/chat/completions", &ask("gpt")).await;
    assert_eq!(reply.said(), "Hello");
    assert_eq!(reply.header("x-tollgate-target"), "up/gpt");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["usage"]["input"], &record["usage"]["output"]), (&json!(7), &json!(3)));

    let streamed = client::ask_stream("gpt");
    let reply = post(gateway.clients, "/passthrough/up/v1/chat/completions", &streamed).await;
    assert!(reply.text().ends_with("data: [DONE]\n\n") && reply.whole, "{reply:#?}");
    assert_eq!(last(&upstream).path, "/v1/chat/completions", "the version stands once");
    assert_eq!(last(&upstream).body, streamed.to_string().into_bytes(), "not a byte is changed");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["usage"]["input"], &record["usage"]["output"]), (&json!(7), &json!(3)));
    assert_eq!(record["facts"]["stream"], true);

    let body = json!({"model": "claude-x", "max_tokens": 9, "stream": true, "messages": []});
    let reply = post(gateway.clients, "/passthrough/claude/v1/messages", &body).await;
    assert_eq!(reply.status, 200);
    assert_eq!(last(&claude).header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(last(&claude).header("x-api-key"), Some(CANARY));
    let record = gateway.record(reply.header("x-request-id")).await;
    let used = &record["usage"];
    assert_eq!((&used["input"], &used["cached_read"], &used["output"]), (&json!(12), &json!(30), &json!(9)));
    let sum = gateway.metric("tollgate_tokens_total", &["provider=\"up\""]).await;
    assert_eq!(sum, 20.0, "booked once each");
}

#[tokio::test]
async fn policies_may_refuse_tag_and_constrain_but_not_move() {
    let upstream = Upstream::start(|_| acts::says("Hello"));
    let gateway = gateway::setup(&format!(
        "providers:\n{}  sandbox: {{ dialect: sandbox }}\n",
        provider("up", &upstream.url())
    ))
    .policy(
        "10-raw.rhai",
        r#"
            fn on_request(req) {
                if req.endpoint == "passthrough" {
                    req.tag("way", req.field("method") + " " + req.field("path"));
                    if req.field("path") == "/secret" { return reject(451, "no", "not this"); }
                    if req.model == "up/banned" { return reject(403, "no", "not this model"); }
                    if req.field("path") == "/avoided" { req.avoid("up"); }
                    if req.text.contains("forbidden word") { return reject(422, "no", "words"); }
                }
                route("sandbox/echo")
            }
            "#,
    )
    .start();
    for (path, status) in
        [("/passthrough/up/secret", 451), ("/passthrough/up/avoided", 503), ("/passthrough/up/fine", 200)]
    {
        let reply = get(&gateway, path).await;
        assert_eq!(reply.status, status, "{path}: {reply:#?}");
        if status == 200 {
            assert_eq!(reply.header("x-tollgate-target"), "up/*", "a route does not move it");
            let record = gateway.record(reply.header("x-request-id")).await;
            assert!(record["tags"].to_string().contains("GET /fine"), "{record}");
        }
    }
    let reply = post(gateway.clients, "/passthrough/up/chat/completions", &ask("banned")).await;
    assert_eq!((reply.status, upstream.heard().len()), (403, 1));
    let path_in_body = json!({"model": "m", "path": "/fine", "messages": "the forbidden word"});
    assert_eq!(post(gateway.clients, "/passthrough/up/secret", &path_in_body).await.status, 451);
    assert_eq!(post(gateway.clients, "/passthrough/up/chat", &path_in_body).await.status, 422);
    let twice = "{\"model\":\"m\",\"model\":\"banned\"}";
    let reply = client::post_text(gateway.clients, "/passthrough/up/chat", twice).await;
    assert_eq!((reply.status, &reply.error()["code"]), (400, &json!("json_duplicate_key")));
}

#[tokio::test]
async fn no_path_leaves_the_base_url_and_no_provider_is_guessed() {
    let upstream = Upstream::start(|_| acts::says("Hello"));
    let gateway = gateway::start(&format!(
        "providers:\n{}  shut: {{ dialect: openai, base_url: \"{}\", passthrough: false }}\n",
        provider("up", &upstream.url()),
        upstream.url()
    ));
    for (path, status) in [
        ("/passthrough/up/../v2/x", 400),
        ("/passthrough/up/%2e%2e/v2/x", 400),
        ("/passthrough/up/a%2f..%2fb", 400),
        ("/passthrough/up//evil.example/x", 400),
        ("/passthrough/up/a%5c..%5cb", 400),
        ("/passthrough/nobody/x", 404),
        ("/passthrough/shut/x", 403),
        ("/passthrough/", 404),
        ("/passthrough", 404),
    ] {
        let raw = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        let answer = client::raw(gateway.clients, raw.as_bytes(), Duration::from_millis(300)).await;
        assert_eq!(answer.statuses().first(), Some(&status), "{path}: {answer:?}");
    }
    assert!(upstream.heard().is_empty());

    let off = gateway::start(&format!(
        "passthrough: {{ enabled: false }}\nproviders:\n{}",
        provider("up", &upstream.url())
    ));
    assert_eq!(get(&off, "/passthrough/up/x").await.status, 403);
    let reply = get(&off, "/passthrough/nobody/x").await;
    assert_eq!(reply.error()["code"], "provider_not_found");
}

#[tokio::test]
async fn fifty_megabytes_go_through_little_memory_at_the_pace_of_the_reader() {
    const SIZE: usize = 50 << 20;
    let (tell, told) = tokio::sync::oneshot::channel::<blake3::Hash>();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let hands = std::sync::Mutex::new(Some((tell, gone)));
    let sink = Sink::start(move |mut coming| {
        let (tell, gone) = hands.lock().unwrap().take().expect("one upload");
        async move {
            // Nothing is read until the story says so.
            gone.await.unwrap();
            assert!(coming.all().await);
            let _ = tell.send(blake3::hash(&coming.body));
            coming.answer(200, "{\"id\":\"file-1\"}").await;
        }
    })
    .await;
    let gateway = gateway::start(&format!(
        "deadlines: {{ first_byte: 2s, idle: 20s }}\nproviders:\n{}",
        provider("up", &sink.url())
    ));
    let before = resident(&gateway);
    let body = noise(SIZE);
    let head =
        format!("POST /passthrough/up/files HTTP/1.1\nhost: a\ncontent-type: x/y\ncontent-length: {SIZE}");
    let mut sender = Sender::open(gateway.clients, &head).await;
    let taken = sender.stuff(&body, Duration::from_millis(2_500)).await;
    assert!(taken < 12 << 20, "{taken} bytes were taken although nobody read them");
    go.send(()).unwrap();
    sender.send(&body[taken..]).await.unwrap();
    assert_eq!(told.await.unwrap(), blake3::hash(&body));
    let answer = sender.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"id\":\"file-1\"}"), "{answer}");
    let grown = resident(&gateway).saturating_sub(before);
    eprintln!("{taken} bytes were taken without a reader; the gateway grew by {grown} KiB");
    assert!(grown < 16 << 10, "the gateway grew by {grown} KiB");
}

/// Resident memory at its highest, in KiB.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_an_upload_takes_it_along() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let sink = Sink::start(move |mut coming| {
        let tell = tell.clone();
        async move {
            coming.drained().await;
            let _ = tell.send((coming.head.clone(), coming.body.len()));
        }
    })
    .await;
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &sink.url())));
    for framing in ["content-length: 9000000", "transfer-encoding: chunked"] {
        let head = format!("POST /passthrough/up/files HTTP/1.1\nhost: a\ncontent-type: x/y\n{framing}");
        let mut sender = Sender::open(gateway.clients, &head).await;
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..3 {
            if framing.contains("chunked") {
                sender.send(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
            }
            sender.send(&piece).await.unwrap();
            if framing.contains("chunked") {
                sender.send(b"\r\n").await.unwrap();
            }
        }
        drop(sender);
        let (head, got) = told.recv().await.unwrap();
        assert!(head.contains(framing), "{framing} is kept: {head}");
        assert!(got < 9_000_000, "{got}");
        assert!(!head.contains("expect"), "{head}");
    }
    eventually("two records", || (gateway.access().len() == 2).then_some(())).await;
    for record in gateway.access() {
        assert_eq!(record["outcome"], "cancelled", "{record}");
    }
}

#[tokio::test]
async fn an_answer_before_the_uploads_end_is_relayed() {
    let sink = Sink::start(|mut coming| async move {
        if coming.head.contains("/closes") {
            coming.say("HTTP/1.1 413 x\r\nconnection: close\r\ncontent-length: 9\r\n\r\ntoo large").await;
            // Gone with the rest of the upload unread.
            return;
        }
        coming.answer(401, "{\"no\":1}").await;
        coming.drained().await;
    })
    .await;
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &sink.url())));
    for (path, status, text) in [("stays", "401", "{\"no\":1}"), ("closes", "413", "too large")] {
        let head = format!(
            "POST /passthrough/up/{path} HTTP/1.1\nhost: a\ncontent-type: x/y\ncontent-length: 20000000"
        );
        let mut sender = Sender::open(gateway.clients, &head).await;
        let _ = sender.stuff(&vec![b'x'; 4 << 20], Duration::from_millis(300)).await;
        let answer = sender.answer().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(text),
            "{path}: {answer}"
        );
    }
}

#[tokio::test]
async fn an_upload_that_nobody_reads_or_sends_has_its_deadline() {
    let sink = Sink::start(|coming| async move {
        let _held = coming;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let gateway = gateway::start(&format!(
        "limits: {{ body_timeout: 1s }}\ndeadlines: {{ idle: 1s, first_byte: 1s }}\nproviders:\n{}",
        provider("up", &sink.url())
    ));
    let head = "POST /passthrough/up/x HTTP/1.1\nhost: a\ncontent-type: x/y\ncontent-length: 30000000";
    let mut sender = Sender::open(gateway.clients, head).await;
    let _ = sender.stuff(&vec![b'x'; 30_000_000], Duration::from_millis(2_500)).await;
    let answer = sender.answer().await;
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("timeout_idle"), "{answer}");

    let mut sender = Sender::open(gateway.clients, head).await;
    sender.send(&[b'x'; 2_000]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let answer = sender.answer().await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_known_endpoint_goes_raw_when_asked() {
    let upstream = Upstream::start(|_| {
        acts::whole(200, &json!({"odd": 1, "usage": {"prompt_tokens": 4, "completion_tokens": 5}}))
    });
    let claude = Upstream::start(anthropic::play);
    let gateway = gateway::start(&format!(
        "providers:\n{}{}models:\n  fast: {{ targets: [ up/gpt ] }}\n  smart: {{ targets: [ claude/claude-x ] }}\n",
        provider("up", &upstream.url()),
        anthropic::provider("claude", &claude.url())
    ));
    let raw = |path: &str, body: &str, provider: Option<&str>| {
        let mut request = client::request(Method::POST, path, body);
        request.headers_mut().insert("x-provider-original", "true".parse().unwrap());
        if let Some(provider) = provider {
            request.headers_mut().insert("x-tollgate-provider", provider.parse().unwrap());
        }
        request
    };
    // The model says where to go; nothing else changes, not even white space.
    let body = r#"{ "model" : "fast", "odd": [ 1.50 ] , "temperature": 9}"#;
    let reply = send(&gateway, raw("/v1/chat/completions", body, None)).await;
    assert_eq!(reply.json()["odd"], 1, "{reply:#?}");
    assert_eq!(
        String::from_utf8_lossy(&last(&upstream).body),
        r#"{ "model" : "gpt", "odd": [ 1.50 ] , "temperature": 9}"#
    );
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["usage"]["output"], &record["facts"]["endpoint"]), (&json!(5), &json!("chat")));

    // A provider of another dialect gets its own bytes at its own place.
    let body = r#"{"model":"smart","max_tokens":5,"messages":[]}"#;
    let reply = send(&gateway, raw("/v1/chat/completions", body, None)).await;
    assert_eq!(
        (last(&claude).path.as_str(), reply.json()["type"].as_str()),
        ("/v1/messages", Some("message"))
    );
    assert_eq!(last(&claude).model(), "claude-x");

    // A named provider gets everything untouched.
    let body = r#"{"model":"fast"  }"#;
    let reply = send(&gateway, raw("/v1/chat/completions", body, Some("up"))).await;
    assert_eq!((reply.status, last(&upstream).body), (200, body.as_bytes().to_vec()));
    let reply = send(&gateway, raw("/v1/chat/completions", body, Some("nobody"))).await;
    assert_eq!(reply.status, 404);
    let reply = send(&gateway, raw("/v1/chat/completions", "{}", None)).await;
    assert_eq!((reply.status, &reply.error()["param"]), (400, &json!("model")));
}

#[tokio::test]
async fn the_sandbox_answers_raw_requests_too() {
    let gateway = gateway::start("providers:\n  sandbox: { dialect: sandbox }\n");
    let reply = post(gateway.clients, "/passthrough/sandbox/v1/chat/completions", &ask("echo")).await;
    assert_eq!(reply.said(), "hello");
    assert_eq!(get(&gateway, "/passthrough/sandbox/models").await.json()["data"][0]["id"], "echo");
    let reply = get(&gateway, "/passthrough/sandbox/nothing").await;
    assert!(reply.status >= 400 && reply.json()["error"]["message"] != Value::Null, "{reply:#?}");
}

#[tokio::test]
async fn googles_sdks_upload_files_by_way_of_the_gateway() {
    let google = Upstream::start(|heard| {
        let host = heard.header("host").unwrap_or_default().to_owned();
        match (heard.path.as_str(), heard.header("x-goog-upload-command")) {
            (path, Some("start")) if path.starts_with("/upload/") => {
                let there = format!("http://{host}{path}?upload_id=7&upload_protocol=resumable");
                let headers = [
                    ("x-goog-upload-url", there.as_str()),
                    ("x-goog-upload-status", "active"),
                    ("x-goog-upload-chunk-granularity", "262144"),
                    ("x-guploader-uploadid", "7"),
                ];
                acts::answer(200, &headers, "")
            }
            (_, Some(_)) => {
                let headers = [("content-type", "application/json"), ("x-goog-upload-status", "final")];
                acts::answer(200, &headers, r#"{"file": {"name": "files/abc"}}"#)
            }
            _ => acts::answer(200, &[("content-type", "application/json")], r#"{"files": []}"#),
        }
    });
    let base = google.url().replace("/v1", "/v1beta");
    let gateway = gateway::start(&format!(
        "providers:\n  gemini: {{ base_url: \"{base}\", keys: [ env:TEST_KEY ] }}\n"
    ));
    // The version is the client's own.
    for version in ["v1", "v1beta"] {
        let start = Request::builder()
            .method("POST")
            .uri(format!("/passthrough/gemini/upload/{version}/files"))
            .header("content-type", "application/json")
            .header("x-goog-upload-protocol", "resumable")
            .header("x-goog-upload-command", "start")
            .body(Bytes::from_static(b"{\"file\": {\"mime_type\": \"text/plain\"}}"))
            .unwrap();
        let reply = send(&gateway, start).await;
        let there =
            format!("/passthrough/gemini/upload/{version}/files?upload_id=7&upload_protocol=resumable");
        let address = format!("http://{}{there}", gateway.clients);
        assert_eq!((reply.status, reply.header("x-goog-upload-url")), (200, address.as_str()), "{reply:#?}");
        assert_eq!(reply.header("x-goog-upload-status"), "active");
        assert_eq!(reply.header("x-guploader-uploadid"), "");
        let finish = Request::builder()
            .method("POST")
            .uri(there)
            .header("content-type", "application/json")
            .header("x-goog-upload-command", "upload, finalize")
            .header("x-goog-upload-offset", "0")
            .body(Bytes::from(noise(300_000)))
            .unwrap();
        let reply = send(&gateway, finish).await;
        assert_eq!((reply.header("x-goog-upload-status"), reply.status), ("final", 200), "{reply:#?}");
        assert_eq!(reply.json()["file"]["name"], "files/abc");
        let heard = last(&google);
        assert_eq!(heard.path, format!("/upload/{version}/files?upload_id=7&upload_protocol=resumable"));
        assert_eq!((heard.body.len(), heard.header("x-goog-api-key")), (300_000, Some(CANARY)));
        assert_eq!(
            get(&gateway, &format!("/passthrough/gemini/{version}/files?pageSize=3")).await.status,
            200
        );
        assert_eq!(last(&google).path, format!("/{version}/files?pageSize=3"));
    }
}
