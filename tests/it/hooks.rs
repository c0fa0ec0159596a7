//! The hooks of policies through the real binary: answers of their own, limits of the output, a say between attempts,
//! refusals of answers, and what they do after the end.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, ask, ask_stream, chat, eventually_async, post};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::{Heard, Upstream};

/// Providers that say long texts (`a`, in the region eu; `b`), one that is overloaded and one that takes no requests.
fn town(policy: &str) -> (Vec<Upstream>, Gateway) {
    let words = ["One ", "two STA", "TION three", " four"];
    let speaker = move |heard: &Heard| {
        if heard.is_stream() { acts::says_stream(&words) } else { acts::says(&words.concat()) }
    };
    let ups = vec![
        Upstream::start(speaker),
        Upstream::start(speaker),
        Upstream::start(|_| acts::error(503, "overloaded")),
        Upstream::start(|_| acts::error(400, "no such parameter")),
    ];
    let names = ["a", "b", "busy", "picky"];
    let lines: String = names
        .iter()
        .zip(&ups)
        .map(|(name, up)| {
            let labels = if *name == "a" { "{ labels: { region: eu-west }," } else { "{" };
            provider(name, &up.url()).replacen('{', labels, 1)
        })
        .collect();
    let config = format!(
        "retries: {{ retries: 0, backoff: 1ms }}\nproviders:\n{lines}models:\n  fast: {{ targets: [ a/fast ] }}\n"
    );
    let gateway = gateway::setup(&config).policy("10-hooks.rhai", policy).start();
    (ups, gateway)
}

/// Text and finish reason of a stream.
fn told(stream: &str) -> (String, String) {
    let (mut text, mut finish) = (String::new(), String::new());
    for event in
        stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]")
    {
        let chunk: Value = serde_json::from_str(event).unwrap();
        let choice = &chunk["choices"][0];
        text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        finish.push_str(choice["finish_reason"].as_str().unwrap_or_default());
    }
    (text, finish)
}

#[tokio::test]
async fn a_policy_answers_by_itself_in_the_clients_dialect() {
    let (ups, gateway) =
        town("fn on_request(req) {\n  respond(`hello from ${req.endpoint}`).named(\"faq\")\n}");
    let reply = chat(gateway.clients, &ask("fast")).await;
    assert_eq!(reply.said(), "hello from chat");
    assert_eq!(reply.header("x-tollgate-rule"), "10-hooks/faq");
    assert_eq!(reply.json()["usage"]["total_tokens"], 0, "{}", reply.text());

    let reply = chat(gateway.clients, &ask_stream("fast")).await;
    assert_eq!(told(&reply.text()), ("hello from chat".into(), "stop".into()), "{}", reply.text());
    assert!(reply.text().ends_with("data: [DONE]\n\n"));

    let question = json!({"model": "fast", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let reply = post(gateway.clients, "/v1/messages", &question).await;
    assert_eq!(reply.json()["content"][0]["text"], "hello from chat", "{}", reply.text());
    let reply = post(gateway.clients, "/v1/responses", &json!({"model": "fast", "input": "hi"})).await;
    assert_eq!(reply.json()["output"][0]["content"][0]["text"], "hello from chat", "{}", reply.text());

    let reply = post(gateway.clients, "/v1/embeddings", &json!({"model": "fast", "input": "hi"})).await;
    assert_eq!(reply.error()["code"], "policy_not_enforceable", "{}", reply.text());
    assert!(ups.iter().all(|up| up.heard().is_empty()), "no provider is asked");

    let record = gateway.record(chat(gateway.clients, &ask("fast")).await.header("x-request-id")).await;
    let rule = &record["rule"];
    assert_eq!(rule, &json!({"policy": "10-hooks", "hook": "on_request", "line": 2, "name": "faq"}));
}

#[tokio::test]
async fn the_lowest_limit_counts_whoever_answers() {
    let (ups, gateway) = town(
        "fn on_request(req) { req.cap_output(300); req.cap_output(200); route(\"busy/x\").then(\"a/y\") }",
    );
    let mut question = ask("fast");
    question["max_tokens"] = json!(4_000);
    question["seed"] = json!(7);
    chat(gateway.clients, &question).await;
    for up in [&ups[2], &ups[0]] {
        let sent = up.heard()[0].json();
        assert_eq!((&sent["max_tokens"], &sent["seed"]), (&json!(200), &json!(7)), "{sent}");
    }
    let question =
        json!({"model": "fast", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]});
    post(gateway.clients, "/v1/messages", &question).await;
    let sent = ups[0].heard()[1].json();
    let asked = sent.get("max_tokens").or_else(|| sent.get("max_completion_tokens"));
    assert_eq!(asked, Some(&json!(50)), "what asks for less gets less: {sent}");
}

#[tokio::test]
async fn an_answer_ends_before_an_unwanted_text_also_across_pieces() {
    let (_ups, gateway) = town("fn on_request(req) { req.stop_on([\"STATION\", \"never\"]); }");
    let reply = chat(gateway.clients, &ask("fast")).await;
    assert_eq!(
        (reply.said().as_str(), &reply.json()["choices"][0]["finish_reason"]),
        ("One two ", &json!("stop"))
    );
    assert_eq!(reply.header("x-tollgate-warnings"), "", "nothing of the client's is lost");

    let reply = chat(gateway.clients, &ask_stream("fast")).await;
    assert_eq!(told(&reply.text()), ("One two ".into(), "stop".into()), "{}", reply.text());
    assert!(reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.text());

    let question =
        json!({"model": "fast", "max_tokens": 99, "messages": [{"role": "user", "content": "hi"}]});
    let reply = post(gateway.clients, "/v1/messages", &question).await.json();
    assert_eq!(
        (&reply["content"][0]["text"], &reply["stop_reason"]),
        (&json!("One two "), &json!("stop_sequence"))
    );
    assert_eq!(reply["stop_sequence"], "STATION");
}

#[tokio::test]
async fn a_stream_that_a_policy_ends_says_what_it_used_at_every_door() {
    let (_ups, gateway) = town("fn on_request(req) { req.stop_on([\"STATION\"]); }");
    let turns = json!([{"role": "user", "content": "how do I get to the station from here?"}]);
    let last = |stream: &str, field: &str| -> Value {
        let events = stream.lines().filter_map(|line| line.strip_prefix("data: "));
        let mut found = events.filter_map(|event| {
            let event: Value = serde_json::from_str(event).ok()?;
            [&event, &event["response"]]
                .into_iter()
                .find(|it| it[field].is_object())
                .map(|it| it[field].clone())
        });
        found.next_back().unwrap_or_else(|| panic!("no {field}: {stream}"))
    };
    let counted = |usage: &Value, [input, output]: [&str; 2]| {
        let (input, output) = (usage[input].as_u64().unwrap(), usage[output].as_u64().unwrap());
        // "One two " and a prompt of some words.
        assert!((5..40).contains(&input) && (1..5).contains(&output), "{usage}");
        (input, output)
    };
    let asks = json!({"model": "fast", "stream": true, "stream_options": {"include_usage": true}, "messages": turns});
    let chat = chat(gateway.clients, &asks).await;
    let told = counted(&last(&chat.text(), "usage"), ["prompt_tokens", "completion_tokens"]);
    assert!(chat.text().ends_with("data: [DONE]\n\n"), "{}", chat.text());
    let record = gateway.record(chat.header("x-request-id")).await;
    assert_eq!(record["usage"]["output"], told.1, "the record says the same: {record:#}");

    let asks = json!({"model": "fast", "stream": true, "max_tokens": 99, "messages": turns});
    let messages = post(gateway.clients, "/v1/messages", &asks).await;
    counted(&last(&messages.text(), "usage"), ["input_tokens", "output_tokens"]);
    let asks = json!({"model": "fast", "stream": true, "input": "how do I get to the station from here?"});
    let responses = post(gateway.clients, "/v1/responses", &asks).await;
    counted(&last(&responses.text(), "usage"), ["input_tokens", "output_tokens"]);
    let asks = json!({"contents": [{"role": "user", "parts": [{"text": "how do I get to the station from here?"}]}]});
    let gemini = post(gateway.clients, "/v1beta/models/fast:streamGenerateContent?alt=sse", &asks).await;
    counted(&last(&gemini.text(), "usageMetadata"), ["promptTokenCount", "candidatesTokenCount"]);
}

#[tokio::test]
async fn raw_requests_whose_output_cannot_be_limited_are_refused() {
    let (_ups, gateway) = town("fn on_request(req) { req.stop_on([\"x\"]); }");
    let reply = post(gateway.clients, "/passthrough/a/v1/chat/completions", &ask("m")).await;
    assert_eq!(
        (reply.status, &reply.error()["code"]),
        (403, &json!("policy_not_enforceable")),
        "{}",
        reply.text()
    );
    let reply = post(gateway.clients, "/v1/embeddings", &json!({"model": "fast", "input": "hi"})).await;
    assert_ne!(reply.status, 403, "where there is no text, there is nothing to end");
}

#[tokio::test]
async fn policies_have_a_say_between_attempts() {
    let (ups, gateway) = town(
        r#"fn on_request(req) {
            if req.model == "again" { return route("busy/again").then("a/x"); }
            if req.model == "next" { return route("picky/x").then("a/next"); }
            if req.model == "narrow" { return route("busy/x").then("a/no").then("b/yes"); }
            route("busy/x").then("a/x")
        }
        fn on_error(req, err) {
            if req.model == "again" && err.attempt < 3 { return retry_after(1); }
            if req.model == "next" && err.kind == "bad_request" { return next_target(); }
            if req.model == "narrow" { req.avoid("a"); }
            if req.model == "fail" { return fail(); }
            if req.model == "refuse" { return reject(429, "later", `${err.target.name}: ${err.kind}`).named("closed"); }
        }"#,
    );
    let reply = chat(gateway.clients, &ask("again")).await;
    assert_eq!((ups[2].heard().len(), reply.header("x-tollgate-target")), (3, "a/x"));
    let reply = chat(gateway.clients, &ask("next")).await;
    assert_eq!((reply.status, reply.header("x-tollgate-target")), (200, "a/next"), "{}", reply.text());
    let reply = chat(gateway.clients, &ask("narrow")).await;
    assert_eq!(reply.header("x-tollgate-target"), "b/yes");
    let reply = chat(gateway.clients, &ask("fail")).await;
    assert_eq!((reply.status, reply.header("x-tollgate-attempts")), (503, "1"));
    let reply = chat(gateway.clients, &ask("refuse")).await;
    assert_eq!((reply.status, &reply.error()["code"]), (429, &json!("later")));
    assert_eq!(reply.error()["message"], "busy/x: overloaded");
    assert_eq!(reply.header("x-tollgate-rule"), "10-hooks/closed");
    // Nothing said: the gateway's own rule.
    let reply = chat(gateway.clients, &ask("usual")).await;
    assert_eq!(reply.header("x-tollgate-target"), "a/x");
}

#[tokio::test]
async fn an_answer_from_the_wrong_place_does_not_go_out() {
    let (_ups, gateway) = town(
        r#"fn on_request(req) { if req.model == "b" { route("b/x") } }
        fn on_response(req, res) {
            if !res.target.region.starts_with("eu") { return reject(502, "residency", "no compliant model answered"); }
        }"#,
    );
    assert_eq!(chat(gateway.clients, &ask("fast")).await.status, 200);
    for question in [ask("b"), ask_stream("b")] {
        let reply = chat(gateway.clients, &question).await;
        assert_eq!((reply.status, &reply.error()["code"]), (502, &json!("residency")), "{}", reply.text());
        assert_eq!(reply.header("x-tollgate-rule"), "10-hooks");
        let record = gateway.record(reply.header("x-request-id")).await;
        assert_eq!(
            (&record["rule"]["hook"], &record["rule"]["line"]),
            (&json!("on_response"), &json!(3)),
            "{record}"
        );
    }
}

#[tokio::test]
async fn policies_hear_of_the_end_and_count() {
    let (_ups, gateway) = town(
        r#"fn on_request(req) { req.tag("canary", "yes"); if state.get("it-ends") == 2 { return respond("twice"); } }
        fn on_complete(req, out) {
            metric("canary_requests").add(#{ model: out.target.name, ok: out.ok });
            metric("first_token_ms").observe(out.first_token_ms);
            if req.tags["canary"] != () && out.usage.output > 0 { state.incr("it-ends"); }
        }"#,
    );
    chat(gateway.clients, &ask("fast")).await;
    chat(gateway.clients, &ask_stream("fast")).await;
    let metrics = eventually_async("two are counted", async || {
        let text = gateway.metrics().await;
        let count =
            gateway::sum(&text, "tollgate_policy_canary_requests", &["model=\"a/fast\"", "ok=\"true\""]);
        (count == 2.0).then_some(text)
    })
    .await;
    assert!(metrics.contains("tollgate_policy_first_token_ms"), "{metrics}");
    let said = chat(gateway.clients, &ask("fast")).await.said();
    assert_eq!(said, "twice");
}

#[tokio::test]
async fn what_goes_wrong_in_a_hook_ends_as_declared() {
    for (hook, on_error, status) in [
        ("fn on_error(req, err) { throw \"oh\" }", "deny", 500),
        ("fn on_error(req, err) { throw \"oh\" }", "skip", 200),
        ("fn on_response(req, res) { loop {} }", "deny", 500),
        ("fn on_response(req, res) { let five = 5; five }", "skip", 200),
        ("fn on_complete(req, out) { throw \"oh\" }", "deny", 200),
    ] {
        let policy = format!(
            "const ON_ERROR = \"{on_error}\";\nfn on_request(req) {{ route(\"busy/x\").then(\"a/x\") }}\n{hook}"
        );
        let (_ups, gateway) = town(&policy);
        let reply = chat(gateway.clients, &ask("fast")).await;
        assert_eq!(reply.status, status, "{hook} {on_error}: {}", reply.text());
        let labels = ["policy=\"10-hooks\""];
        eventually_async("the failure is counted", async || {
            (gateway.metric("tollgate_policy_errors_total", &labels).await >= 1.0).then_some(())
        })
        .await;
        eventually_async("the log says where", async || {
            gateway.log().iter().any(|line| line.contains("10-hooks.rhai:3:")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn greedy_policies_end_within_their_deadline() {
    for script in [
        "let s = \"x\"; loop { s += s; }",
        "let s = \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"; for i in 0..9 { s.replace(\"x\", s); } s.len()",
        "let a = []; loop { a.push(a); }",
        "let a = [0]; loop { a += a; }",
        "let m = #{}; let i = 0; loop { m[`${i}`] = i; i += 1; }",
        "loop {}",
        "on_request(req)",
    ] {
        let (_ups, gateway) = town(&format!("fn on_request(req) {{\n  {script}\n}}"));
        let began = std::time::Instant::now();
        let reply = chat(gateway.clients, &ask("fast")).await;
        assert_eq!(reply.status, 500, "{script}");
        // The test's own binary is not optimised, and shares its machine.
        assert!(began.elapsed() < Duration::from_secs(2), "{script} took {:?}", began.elapsed());
        let policy_us = gateway.record(reply.header("x-request-id")).await["policy_us"].as_f64().unwrap();
        assert!(policy_us < 500_000.0, "{script} took {policy_us} µs");
        assert!(gateway.log().iter().any(|line| line.contains("10-hooks.rhai:")), "{:#?}", gateway.log());
    }
}

#[tokio::test]
async fn tags_of_a_later_hook_are_explained_and_stand_there_once() {
    let rule = "fn on_request(req) { req.tag(\"a\", \"1\"); route(\"busy/m\").retries(1).then(\"a/m\") }
        fn on_error(req, err) { req.tag(\"why\", err.kind); }";
    let (_ups, gateway) = town(rule);
    let mut request = client::request(Method::POST, "/v1/chat/completions", &ask("fast").to_string());
    request.headers_mut().insert("x-tollgate-explain", "1".parse().unwrap());
    let reply = client::open(gateway.clients, request).await.unwrap().rest().await;
    let explained: Value = serde_json::from_str(reply.header("x-tollgate-explain")).unwrap();
    let tags = &explained["tags"];
    let why = tags.as_array().unwrap().iter().filter(|tag| tag[0] == "why").count();
    assert_eq!((&tags[0], why), (&json!(["a", "1"]), 1), "{explained:#}");
    assert_eq!(gateway.record(reply.header("x-request-id")).await["tags"], *tags);
}
