//! Answers that are given again: to the same question, and to the same `Idempotency-Key`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, ask_stream, eventually_async};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Upstream};

/// A provider that numbers its answers; the prompt says how it answers.
fn numbered() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::start(move |heard| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let body = heard.json();
        let prompt = body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
        let mut acts =
            if prompt.contains("slow") { vec![Act::Pause(Duration::from_millis(400))] } else { Vec::new() };
        let said = format!("answer {number}");
        acts.extend(match prompt.as_str() {
            "fails first slow" if number == 0 => acts::error(400, "no"),
            "fails" => acts::error(400, "no"),
            "is cut" | "is filtered" => {
                let mut answer = acts::completion(&said);
                let finish = if prompt == "is cut" { "length" } else { "content_filter" };
                answer["choices"][0]["finish_reason"] = finish.into();
                acts::whole(200, &answer)
            }
            _ if heard.path.contains("embeddings") => acts::whole(
                200,
                &json!({"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0,
                    "embedding": [number]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}),
            ),
            _ if heard.is_stream() => acts::says_stream(&[&said, " in", " pieces"]),
            _ => acts::says(&said),
        });
        acts
    })
}

fn town(up: &Upstream, more: &str) -> Gateway {
    let url = up.url();
    gateway::start(&format!(
        "retries: {{ retries: 0 }}\nlimits: {{ connections_per_address: 1000 }}\nproviders:\n  openai: {{ base_url: \"{url}\", keys: [ env:TEST_KEY ], models: [ gpt-4o ] }}\n\
         models:\n  fast: {{ targets: [ openai/gpt-4o ], cache: 10m }}\n  short: {{ targets: [ openai/gpt-4o ], cache: 300ms }}\n  \
         common: {{ targets: [ openai/gpt-4o ], cache: {{ ttl: 10m, shared: true }} }}\n  \
         never: {{ targets: [ openai/gpt-4o ] }}\n  loose: {{ targets: [ openai/gpt-4o ], cache: {{ ttl: 10m, when: always }} }}\n{more}"
    ))
}

fn cold(model: &str, prompt: &str) -> Value {
    json!({"model": model, "temperature": 0, "messages": [{"role": "user", "content": prompt}]})
}

async fn send(to: SocketAddr, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = client::request(Method::POST, path, body);
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    client::open(to, request).await.unwrap().rest().await
}

async fn chat(gateway: &Gateway, body: &Value, headers: &[(&str, &str)]) -> Reply {
    send(gateway.clients, "/v1/chat/completions", &body.to_string(), headers).await
}

/// The text of a stream of OpenAI's, which must come to its proper end.
fn told(reply: &Reply) -> String {
    assert!(reply.text().trim_end().ends_with("data: [DONE]"), "{reply:?}");
    assert!(reply.header("content-type").starts_with("text/event-stream"), "{reply:?}");
    let text = reply.text();
    let chunks =
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    chunks.filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn five_hundred_who_ask_the_same_ask_once() {
    let up = numbered();
    let gateway = town(&up, "");
    let (to, question) = (gateway.clients, Arc::new(cold("fast", "slow").to_string()));
    let asks = |_| {
        let question = question.clone();
        async move { send(to, "/v1/chat/completions", &question, &[]).await }
    };
    let mut outcomes = (0, 0);
    for reply in client::at_once(500, asks).await {
        assert_eq!(reply.said(), "answer 0");
        match reply.header("x-tollgate-cache") {
            "miss" => {
                outcomes.0 += 1;
                assert!(reply.header("age").is_empty() && reply.header("x-tollgate-cost-usd") != "0");
            }
            "hit" => {
                outcomes.1 += 1;
                assert_eq!(
                    (reply.header("x-tollgate-cost-usd"), reply.header("x-tollgate-target")),
                    ("0", "openai/gpt-4o")
                );
                assert!(
                    !reply.header("age").is_empty() && !reply.header("x-tollgate-cost-saved-usd").is_empty(),
                    "{reply:?}"
                );
            }
            other => panic!("{other}: {reply:?}"),
        }
    }
    assert_eq!((outcomes, up.heard().len()), ((1, 499), 1));
    let hits = gateway.metric("tollgate_cache_requests_total", &["outcome=\"hit\""]).await;
    let tokens = gateway.metric("tollgate_tokens_total", &["class=\"input\""]).await;
    assert_eq!((hits, tokens), (499.0, 7.0), "hits use nothing of the provider");
    let reply = send(to, "/v1/chat/completions", &question, &[]).await;
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["cache"], &record["cost"]), (&json!("hit"), &json!(0)), "{record:#}");
}

#[tokio::test]
async fn a_stream_is_played_from_a_whole_answer_and_from_a_stream() {
    let up = numbered();
    let gateway = town(&up, "");
    assert_eq!(chat(&gateway, &cold("fast", "x"), &[]).await.said(), "answer 0");
    let mut streamed = cold("fast", "x");
    (streamed["stream"], streamed["stream_options"]) = (true.into(), json!({"include_usage": true}));
    let reply = chat(&gateway, &streamed, &[]).await;
    assert_eq!((told(&reply).as_str(), reply.header("x-tollgate-cache")), ("answer 0", "hit"));
    assert!(reply.text().contains("\"total_tokens\":10"), "usage, as asked for: {reply:?}");

    // A stream that was made as one is sent again frame by frame; a whole answer is another question.
    streamed["messages"][0]["content"] = "y".into();
    let first = chat(&gateway, &streamed, &[]).await;
    assert_eq!((told(&first).as_str(), first.header("x-tollgate-cache")), ("answer 1 in pieces", "miss"));
    let second = chat(&gateway, &streamed, &[]).await;
    assert_eq!((told(&second).as_str(), second.header("x-tollgate-cache")), ("answer 1 in pieces", "hit"));
    assert_eq!(first.body, second.body);
    assert_eq!(chat(&gateway, &cold("fast", "y"), &[]).await.said(), "answer 2");

    // Another door: Anthropic's.
    let mut message = json!({"model": "fast", "temperature": 0, "max_tokens": 50, "messages": [{"role": "user", "content": "x"}]});
    let whole = send(gateway.clients, "/v1/messages", &message.to_string(), &[]).await;
    assert_eq!(
        (whole.json()["content"][0]["text"].clone(), whole.header("x-tollgate-cache")),
        (json!("answer 3"), "miss")
    );
    message["stream"] = true.into();
    let played = send(gateway.clients, "/v1/messages", &message.to_string(), &[]).await;
    let text = played.text();
    assert!(text.contains("answer 3") && text.contains("event: message_stop"), "{text}");
    assert_eq!((played.header("x-tollgate-cache"), up.heard().len()), ("hit", 4));
}

#[tokio::test]
async fn tenants_share_nothing_unless_it_is_declared() {
    let up = numbered();
    let gateway = town(&up, "");
    let of = |model: &str, user: &str| {
        let mut question = cold(model, "x");
        question["user"] = user.into();
        question
    };
    let ann = chat(&gateway, &of("fast", "ann"), &[]).await.said();
    let bob = chat(&gateway, &of("fast", "bob"), &[]).await.said();
    assert_ne!(ann, bob);
    assert_eq!(chat(&gateway, &of("fast", "ann"), &[]).await.said(), ann);
    let ann = chat(&gateway, &of("common", "ann"), &[]).await.said();
    assert_eq!(chat(&gateway, &of("common", "bob"), &[]).await.said(), ann, "declared as shared");
    assert_eq!(up.heard().len(), 3);
}

#[tokio::test]
async fn only_whole_answers_to_questions_with_one_answer_are_kept() {
    let up = numbered();
    let gateway = town(&up, "");
    let asked = |from: usize| up.heard().len() - from;
    let mut warm = cold("fast", "x");
    warm["temperature"] = json!(0.7);
    let mut loose = warm.clone();
    loose["model"] = "loose".into();
    let mut written = cold("fast", "spaces");
    let reordered =
        r#"{ "messages": [ {"role":"user","content":"spaces"} ], "temperature":0, "model":"fast" }"#;
    for (what, first, second, calls, word) in [
        ("a question with many answers", &warm, &warm, 2, "bypass"),
        ("an error", &cold("fast", "fails"), &cold("fast", "fails"), 2, "miss"),
        ("a cut answer", &cold("fast", "is cut"), &cold("fast", "is cut"), 2, "miss"),
        ("a filtered answer", &cold("fast", "is filtered"), &cold("fast", "is filtered"), 2, "miss"),
        ("an alias without a cache", &cold("never", "x"), &cold("never", "x"), 2, ""),
        ("another model", &cold("fast", "z"), &cold("common", "z"), 2, "miss"),
        ("everything, where that is declared", &loose, &loose, 1, "hit"),
    ] {
        let before = up.heard().len();
        chat(&gateway, first, &[]).await;
        let reply = chat(&gateway, second, &[]).await;
        assert_eq!((asked(before), reply.header("x-tollgate-cache")), (calls, word), "{what}: {reply:?}");
    }
    let before = up.heard().len();
    written["temperature"] = json!(0);
    chat(&gateway, &written, &[]).await;
    let again = send(gateway.clients, "/v1/chat/completions", reordered, &[]).await;
    assert_eq!((asked(before), again.header("x-tollgate-cache")), (1, "hit"), "however it is written");
    let vector = json!({"model": "fast", "input": "x"});
    for word in ["miss", "hit"] {
        let reply = send(gateway.clients, "/v1/embeddings", &vector.to_string(), &[]).await;
        assert_eq!((reply.status, reply.header("x-tollgate-cache")), (200, word), "{reply:?}");
    }
}

#[tokio::test]
async fn clients_and_policies_have_a_say_and_changes_begin_anew() {
    let up = numbered();
    let gateway = town(&up, "");
    let say = async |body: &Value, word: &str| {
        let headers = [("x-tollgate-cache", word)];
        let reply = chat(&gateway, body, if word.is_empty() { &[] } else { &headers }).await;
        (reply.said(), reply.header("x-tollgate-cache").to_owned())
    };
    let cold_one = cold("fast", "x");
    assert_eq!(say(&cold_one, "").await, ("answer 0".into(), "miss".into()));
    assert_eq!(say(&cold_one, "bypass").await, ("answer 1".into(), "bypass".into()));
    assert_eq!(say(&cold_one, "").await, ("answer 0".into(), "hit".into()));
    assert_eq!(say(&cold_one, "refresh").await, ("answer 2".into(), "miss".into()));
    assert_eq!(say(&cold_one, "").await, ("answer 2".into(), "hit".into()));
    let mut warm = cold("fast", "x");
    warm["temperature"] = json!(0.7);
    assert_eq!(say(&warm, "use").await, ("answer 3".into(), "miss".into()));
    assert_eq!(say(&warm, "use").await, ("answer 3".into(), "hit".into()));
    let bad = chat(&gateway, &cold_one, &[("x-tollgate-cache", "maybe")]).await;
    assert_eq!((bad.status, bad.error()["param"].clone()), (400, json!("x-tollgate-cache")));

    let short = cold("short", "x");
    assert_eq!(say(&short, "").await.1, "miss");
    assert_eq!(say(&short, "").await.1, "hit");
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(say(&short, "").await.1, "miss", "its time was over");

    gateway.save(
        "policies/10-cache.rhai",
        r#"fn on_request(req) {
    if req.contains_any(["secret"]) { req.no_cache(); }
    if req.model == "never" { req.cache("5m"); }
}"#,
    );
    let never = cold("never", "x");
    eventually_async("the policy", async || (say(&never, "").await.1 == "hit").then_some(())).await;
    assert_eq!(say(&cold_one, "").await.1, "miss", "other policies, another question");
    assert_eq!(say(&cold("fast", "a secret"), "").await.1, "bypass");
}

#[tokio::test]
async fn what_one_target_said_is_no_answer_where_the_policy_chose_another() {
    let (weak, strong) = (Upstream::start(|_| acts::says("weak")), Upstream::start(|_| acts::says("strong")));
    let config = format!(
        "cache: {{ ttl: 10m }}\nproviders:\n{}{}",
        gateway::provider("weak", &weak.url()),
        gateway::provider("strong", &strong.url())
    );
    let policy = r#"fn on_request(req) {
    if req.headers["x-hard"] != () { return route("strong/m").then("weak/m"); }
    route("weak/m").then("strong/m")
}"#;
    let gateway = gateway::setup(&config).policy("10-hard.rhai", policy).start();
    let body = cold("any", "x");
    for (headers, said, cache) in [
        (&[][..], "weak", "miss"),
        (&[("x-hard", "1")], "strong", "miss"),
        (&[], "weak", "hit"),
        (&[("x-hard", "1")], "strong", "hit"),
    ] {
        let reply = chat(&gateway, &body, headers).await;
        assert_eq!((&*reply.said(), reply.header("x-tollgate-cache")), (said, cache), "{headers:?}");
    }
}

#[tokio::test]
async fn who_fails_is_followed_by_one_other() {
    let up = numbered();
    let gateway = town(&up, "");
    let (to, question) = (gateway.clients, cold("fast", "fails first slow").to_string());
    let asks = |_| {
        let question = question.clone();
        async move { send(to, "/v1/chat/completions", &question, &[]).await.status }
    };
    let statuses = client::at_once(20, asks).await;
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 1, "{statuses:?}");
    assert_eq!((statuses.iter().filter(|status| **status == 200).count(), up.heard().len()), (19, 2));
}

#[tokio::test]
async fn who_is_failed_by_the_provider_is_followed_by_one_other_and_not_by_all() {
    let count = AtomicUsize::new(0);
    let up = Upstream::start(move |_| {
        let answer = match count.fetch_add(1, Ordering::SeqCst) {
            0 => acts::error(500, "once"),
            _ => acts::says("well"),
        };
        acts::after(Duration::from_millis(400), answer)
    });
    let gateway = town(&up, "");
    let (to, question) = (gateway.clients, cold("fast", "x").to_string());
    let asks = |_| {
        let question = question.clone();
        async move { send(to, "/v1/chat/completions", &question, &[]).await.status }
    };
    let statuses = client::at_once(20, asks).await;
    assert_eq!(statuses.iter().filter(|status| **status != 200).count(), 1, "{statuses:?}");
    assert_eq!(up.heard().len(), 2, "the others went on waiting");
}

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_request() {
    let up = numbered();
    let gateway = town(&up, "");
    let key = [("idempotency-key", "order-7")];
    let warm = json!({"model": "never", "messages": [{"role": "user", "content": "slow"}]});
    // Two under way at once are one; a third comes later.
    let (one, two) = tokio::join!(chat(&gateway, &warm, &key), chat(&gateway, &warm, &key));
    let three = chat(&gateway, &warm, &key).await;
    assert_eq!(
        (one.said(), two.said(), three.said()),
        ("answer 0".into(), "answer 0".into(), "answer 0".into())
    );
    let replayed: Vec<_> =
        [&one, &two, &three].map(|reply| reply.header("idempotent-replayed") == "true").into();
    assert_eq!(replayed.iter().filter(|again| **again).count(), 2, "{replayed:?}");
    assert!(replayed[2] && three.header("x-tollgate-cost-usd") == "0", "{three:?}");
    let other = json!({"model": "never", "messages": [{"role": "user", "content": "something else"}]});
    let conflict = chat(&gateway, &other, &key).await;
    assert_eq!((conflict.status, conflict.error()["code"].clone()), (409, json!("idempotency_conflict")));
    assert_eq!(chat(&gateway, &other, &[("idempotency-key", "order-8")]).await.said(), "answer 1");
    let long = "k".repeat(300);
    assert_eq!(chat(&gateway, &other, &[("idempotency-key", &long)]).await.status, 400);

    // A failure is no answer; the request may be made again.
    let fails = json!({"model": "never", "messages": [{"role": "user", "content": "fails"}]});
    for _ in 0..2 {
        assert_eq!(chat(&gateway, &fails, &[("idempotency-key", "order-9")]).await.status, 400);
    }
    assert_eq!(up.heard().len(), 4);

    // Streams are replayed as streams.
    let stream = ask_stream("never");
    let first = chat(&gateway, &stream, &[("idempotency-key", "stream")]).await;
    let second = chat(&gateway, &stream, &[("idempotency-key", "stream")]).await;
    assert_eq!((told(&first), &first.body), (told(&second), &second.body));
    assert_eq!((second.header("idempotent-replayed"), up.heard().len()), ("true", 5));
}

/// A provider that begins its first stream and hangs; what comes later is answered well.
fn stuck(begun: usize) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => {
            let mut acts = acts::stream_open(&acts::events(&["begun", &"x".repeat(begun)]), usize::MAX);
            acts.push(Act::Hang);
            acts
        }
        _ => acts::says_stream(&["whole"]),
    })
}

#[tokio::test]
async fn nobody_waits_long_for_a_stream_that_another_client_takes_his_time_with() {
    let mut question = cold("common", "x");
    question["stream"] = true.into();
    for (most, begun, patience) in [("4MiB", 0, 1_500), ("1KiB", 2_000, 0)] {
        let up = stuck(begun);
        let gateway = town(&up, &format!("cache: {{ max_answer: {most} }}\n"));
        let mut slow = client::chat_live(gateway.clients, &question).await;
        slow.until(if begun > 0 { "xxx" } else { "begun" }).await;
        let since = std::time::Instant::now();
        let reply = chat(&gateway, &question, &[("x-tollgate-timeout", "3s")]).await;
        let waited = since.elapsed();
        assert_eq!((told(&reply).as_str(), reply.header("x-tollgate-cache")), ("whole", "miss"), "{most}");
        let (least, longest) = (Duration::from_millis(patience), Duration::from_millis(patience + 1_000));
        assert!((least..longest).contains(&waited), "at most {most}: {waited:?}");
        drop(slow);
    }
}

#[tokio::test]
async fn in_an_outage_those_who_ask_the_same_fail_neither_one_by_one_nor_all_at_the_provider() {
    let up = Upstream::start(|_| acts::after(Duration::from_millis(500), acts::error(500, "down")));
    let gateway = town(&up, "breaker: { enabled: false }\n");
    let (to, question) = (gateway.clients, cold("fast", "x").to_string());
    let since = std::time::Instant::now();
    let asks = |_| {
        let question = question.clone();
        async move { send(to, "/v1/chat/completions", &question, &[]).await.status }
    };
    let statuses = client::at_once(50, asks).await;
    // Three in a row have asked, and speak for all.
    assert!(statuses.iter().all(|status| *status >= 500) && up.heard().len() == 3, "{statuses:?}");
    assert!(since.elapsed() < Duration::from_millis(2_500), "one after the other: {:?}", since.elapsed());
}

#[tokio::test]
async fn a_strict_request_gets_no_answer_that_was_made_with_losses() {
    let up = numbered();
    let gateway = town(&up, "");
    let question = json!({ "model": "fast", "max_tokens": 9, "temperature": 0, "top_k": 3,
        "messages": [{ "role": "user", "content": "x" }] });
    let ask = async |strict: &str| {
        let headers: &[_] = &[("x-tollgate-strict", strict)];
        send(gateway.clients, "/v1/messages", &question.to_string(), headers).await
    };
    let lossy = ask("false").await;
    assert_eq!((lossy.status, lossy.header("x-tollgate-warnings")), (200, "top_k (dropped)"));
    let again = ask("false").await;
    let told = ["x-tollgate-cache", "x-tollgate-warnings"].map(|name| again.header(name).to_owned());
    assert_eq!(told, ["hit", "top_k (dropped)"], "what was lost is told again");
    let strict = ask("true").await;
    assert_eq!(strict.status, 400, "{strict:?}");
    assert_eq!(up.heard().len(), 1);
}

#[tokio::test]
async fn headers_that_go_to_the_provider_make_another_question() {
    let up = Upstream::start(|heard| {
        let betas = heard.header("anthropic-beta").unwrap_or("none");
        let usage = json!({ "input_tokens": 3, "output_tokens": 1 });
        acts::whole(
            200,
            &json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "usage": usage,
                "content": [{ "type": "text", "text": betas }], "stop_reason": "end_turn", "stop_sequence": null }),
        )
    });
    let gateway = gateway::start(&format!(
        "cache: {{ ttl: 10m }}\nproviders:\n  claude: {{ dialect: anthropic, base_url: \"{}\", keys: [ env:TEST_KEY ], models: [ m ] }}\n",
        up.url()
    ));
    let question = json!({ "model": "claude/m", "max_tokens": 9, "temperature": 0,
        "messages": [{ "role": "user", "content": "x" }] });
    let mut told = Vec::new();
    for beta in [None, Some("context-1m-2025-08-07"), None, Some("context-1m-2025-08-07"), Some("other")] {
        let headers: Vec<_> = beta.map(|beta| ("anthropic-beta", beta)).into_iter().collect();
        let reply = send(gateway.clients, "/v1/messages", &question.to_string(), &headers).await;
        let said = reply.json()["content"][0]["text"].as_str().unwrap().to_owned();
        assert_eq!(said, beta.unwrap_or("none"));
        told.push(reply.header("x-tollgate-cache").to_owned());
    }
    assert_eq!(told, ["miss", "miss", "hit", "hit", "miss"]);
}

#[tokio::test]
async fn an_answer_that_can_be_referred_to_is_its_callers_own() {
    let up = numbered();
    let config = format!(
        "cache: {{ ttl: 10m, shared: true }}\nauth: keys\nkeys: {{ ann: {{ secret: env:ANN }}, bob: {{ secret: env:BOB }} }}\n\
         providers:\n{}models: {{ common: {{ targets: [ up/m ] }} }}\n",
        gateway::provider("up", &up.url())
    );
    let own = |who: &str| format!("{who}-has-a-key-of-her-own");
    let gateway = gateway::setup(&config).env("ANN", &own("ann")).env("BOB", &own("bob")).start();
    let ask = async |who: &str, more: Value| {
        let mut question = json!({ "model": "common", "temperature": 0, "input": "x" });
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let bearer = format!("Bearer {who}-has-a-key-of-her-own");
        send(gateway.clients, "/v1/responses", &question.to_string(), &[("authorization", &bearer)]).await
    };
    let (ann, again, bob) =
        (ask("ann", json!({})).await, ask("ann", json!({})).await, ask("bob", json!({})).await);
    let kinds = [&ann, &again, &bob].map(|reply| reply.header("x-tollgate-cache").to_owned());
    assert_eq!(kinds, ["miss", "hit", "miss"], "{ann:?}");
    let id = bob.json()["id"].clone();
    assert_ne!(id, ann.json()["id"]);
    let next = ask("bob", json!({ "previous_response_id": id, "input": "y" })).await;
    assert_eq!(next.status, 200, "{next:?}");
    // What is not kept cannot be referred to, and is everybody's.
    let forgotten = json!({ "store": false });
    assert_eq!(ask("ann", forgotten.clone()).await.header("x-tollgate-cache"), "miss");
    assert_eq!(ask("bob", forgotten).await.header("x-tollgate-cache"), "hit");
}
