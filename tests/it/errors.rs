//! What clients get for requests that cannot be served: OpenAI's shape, a stable code, and the field at fault.

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, ask, chat, eventually, post_text};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::Upstream;

fn house() -> (Upstream, Gateway) {
    let upstream = Upstream::start(|_| acts::says("ok"));
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    (upstream, gateway)
}

#[tokio::test]
async fn an_unknown_model_is_a_404_that_openai_clients_understand() {
    let (_up, gateway) = house();
    for model in ["nothing", "nowhere/m", "gpt-4o"] {
        let reply = chat(gateway.clients, &ask(model)).await;
        assert_eq!(reply.status, 404, "{reply:#?}");
        let error = reply.error();
        assert_eq!(error["code"], "model_not_found", "{error}");
        assert_eq!(error["type"], "invalid_request_error", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("the model `{model}` does not exist here")), "{error}");
        let bare = !model.contains('/');
        assert_eq!(message.contains(&format!("`provider/{model}`")), bare, "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_fails_is_said_to_be_the_providers() {
    let gateway = gateway::start(&format!("providers:\n{}", provider("gone", "http://127.0.0.1:9/v1")));
    let reply = chat(gateway.clients, &ask("gone/m")).await;
    assert_eq!((reply.status, reply.error()["code"].as_str()), (502, Some("upstream_unreachable")));
    assert_eq!(reply.error()["message"], "no answer from the provider: connection refused");
}

#[tokio::test]
async fn a_models_name_is_harmless_in_the_error_that_repeats_it() {
    let (_up, gateway) = house();
    let reply = chat(gateway.clients, &ask("<script>\u{1b}[31m\n'\"evil\u{202e}")).await;
    assert!((400..500).contains(&reply.status), "{reply:#?}");
    let message = reply.error()["message"].as_str().unwrap().to_owned();
    assert!(!message.contains(['<', '\u{1b}', '\n', '\u{202e}']), "{message:?}");
    let long = chat(gateway.clients, &ask(&"x".repeat(100_000))).await;
    assert!((400..500).contains(&long.status) && long.body.len() < 2_000, "{long:#?}");
}

#[tokio::test]
async fn the_gate_reads_json_strictly_and_names_the_flaw() {
    let (up, gateway) = house();
    let nested =
        |depth: usize| format!(r#"{{"model":"up/m","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    for (body, code) in [
        (String::new(), "json_invalid"),
        ("{".into(), "json_invalid"),
        ("[]".into(), "json_not_object"),
        ("\"text\"".into(), "json_not_object"),
        (r#"{"model":"up/m","model":"up/n"}"#.into(), "json_duplicate_key"),
        (r#"{"model":"up/m","a":[{"b":{"c":1,"\u0063":2}}]}"#.into(), "json_duplicate_key"),
        (r#"{"model":"up/m","x":"\ud800"}"#.into(), "json_invalid"),
        (r#"{"model":"up/m","x":NaN}"#.into(), "json_invalid"),
        (r#"{"model":"up/m","x":1e999}"#.into(), "json_invalid"),
        ("\u{feff}{\"model\":\"up/m\"}".into(), "json_invalid"),
        (r#"{"model":"up/m"} {}"#.into(), "json_invalid"),
        (nested(70), "json_too_deep"),
        (nested(100_000), "json_too_deep"),
    ] {
        let reply = post_text(gateway.clients, "/v1/chat/completions", &body).await;
        let start: String = body.chars().take(80).collect();
        assert_eq!(reply.status, 400, "{start}: {reply:#?}");
        let error = reply.error();
        assert_eq!(
            (error["code"].as_str(), error["type"].as_str()),
            (Some(code), Some("invalid_request_error")),
            "{start}"
        );
    }
    assert!(up.heard().is_empty(), "nothing may reach the provider");
}

#[tokio::test]
async fn a_wrong_field_is_named() {
    let (up, gateway) = house();
    let messages = json!([{"role": "user", "content": "hi"}]);
    for (change, param) in [
        (json!({"model": null}), "model"),
        (json!({"model": 5}), "model"),
        (json!({"model": ""}), "model"),
        (json!({"model": "up/m\u{0}"}), "model"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": "many"}), "max_tokens"),
        (json!({"n": 0}), "n"),
        (json!({"tools": {}}), "tools"),
    ] {
        let mut body = json!({"model": "up/m", "messages": messages});
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let reply = chat(gateway.clients, &body).await;
        assert_eq!(reply.status, 400, "{change}: {reply:#?}");
        assert_eq!(reply.error()["param"], param, "{change}: {reply:#?}");
    }
    for (body, param) in [(json!({"model": "up/e"}), "input"), (json!({"input": "hi"}), "model")] {
        let reply = client::post(gateway.clients, "/v1/embeddings", &body).await;
        assert_eq!((reply.status, reply.error()["param"].as_str()), (400, Some(param)), "{body}: {reply:#?}");
    }
    assert!(up.heard().is_empty(), "nothing may reach the provider");
}

#[tokio::test]
async fn paths_and_methods_are_exact() {
    let (_up, gateway) = house();
    for (method, path, status, allow) in [
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("PUT", "/v1/embeddings", 405, "POST"),
        ("POST", "/v1/models", 405, "GET"),
        ("DELETE", "/v1/models/up/m", 405, "GET"),
        ("POST", "/v1/chat/completions/", 404, ""),
        ("POST", "/V1/chat/completions", 404, ""),
        // Without a version it is the same place, as clients of LiteLLM have it.
        ("GET", "/chat/completions", 405, "POST"),
        ("POST", "/chat/completion", 404, ""),
        ("GET", "/", 404, ""),
        ("GET", "/metrics", 404, ""),
        ("GET", "/admin/v1/status", 404, ""),
    ] {
        let request = client::request(Method::from_bytes(method.as_bytes()).unwrap(), path, "{}");
        let reply = client::open(gateway.clients, request).await.unwrap().rest().await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:#?}");
        assert!(reply.header("allow").contains(allow), "{method} {path}: {reply:#?}");
        reply.error();
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_by_its_type_is_a_415() {
    let (_up, gateway) = house();
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("content-encoding", "gzip"),
        ("content-encoding", "br"),
    ] {
        let mut request = client::request(Method::POST, "/v1/chat/completions", &ask("up/m").to_string());
        request.headers_mut().insert(name, value.parse().unwrap());
        let reply = client::open(gateway.clients, request).await.unwrap().rest().await;
        assert_eq!(reply.status, 415, "{name}: {value}: {reply:#?}");
        reply.error();
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_the_clients_own_is_kept() {
    let (_up, gateway) = house();
    let refused = chat(gateway.clients, &ask("nothing")).await;
    assert!(refused.header("x-request-id").len() >= 16, "{refused:#?}");
    let mut request = client::request(Method::POST, "/v1/chat/completions", &ask("up/m").to_string());
    request.headers_mut().insert("x-request-id", "order-42".parse().unwrap());
    let reply = client::open(gateway.clients, request).await.unwrap().rest().await;
    assert_eq!(reply.header("x-request-id"), "order-42");
}

#[tokio::test]
async fn the_field_that_names_another_host_is_just_another_field() {
    let (up, gateway) = house();
    let sink = Upstream::start(|_| acts::says("caught"));
    let mut body = ask("up/m");
    for name in ["api_base", "base_url", "custom_host", "api_key"] {
        body[name] = Value::from(sink.url());
    }
    assert_eq!(chat(gateway.clients, &body).await.said(), "ok");
    assert!(sink.heard().is_empty() && up.heard().len() == 1);
}

#[tokio::test]
async fn a_providers_key_comes_out_nowhere_whatever_it_looks_like() {
    for key in ["token-abc123", "internalgatewaytoken", "Passw0rd Local"] {
        let said =
            json!({"error": {"message": format!("bad {key}!"), "type": key, "code": key, "param": key}});
        let upstream = Upstream::start(move |heard| {
            let event = format!("data: {said}\n\n");
            match &*heard.model() {
                "inside" => acts::whole(200, &said),
                "first" => acts::stream(&event, usize::MAX),
                "later" => acts::stream(&format!("{}{event}", acts::events(&["hi"])), usize::MAX),
                status => acts::whole(status.parse().unwrap(), &said),
            }
        });
        let config = format!(
            "breaker: {{ enabled: false }}\nretries: {{ retries: 0 }}\nproviders:\n  up: {{ dialect: openai, base_url: \"{}\", keys: [ env:WORD ] }}\n",
            upstream.url()
        );
        let gateway = gateway::setup(&config).env("WORD", key).start();
        let models = ["400", "429", "500", "inside", "first", "later"];
        for model in models {
            let mut question = ask(&format!("up/{model}"));
            question["stream"] = matches!(model, "first" | "later").into();
            let reply = chat(gateway.clients, &question).await;
            let told = format!("{:?} {}", reply.headers, reply.text());
            assert!(!told.contains(key) && told.contains("bad [redacted]!"), "{key}, {model}: {reply:#?}");
        }
        let written = || (gateway.access().len() == models.len()).then(|| gateway.log().join("\n"));
        let log = eventually("a line for each", written).await;
        assert!(!log.contains(key), "{log}");
    }
}

#[tokio::test]
async fn what_no_model_is_asked_for_has_a_line_and_a_count_too() {
    let (_up, gateway) = house();
    for (method, path, status) in [
        (Method::GET, "/v1/models?key=sk-secret", 200),
        (Method::GET, "/v1/models/nothing", 404),
        (Method::POST, "/v1/chat/complete", 404),
        (Method::GET, "/v1/chat/completions", 405),
    ] {
        let request = client::request(method.clone(), path, "");
        let reply = client::open(gateway.clients, request).await.unwrap().rest().await;
        assert_eq!(reply.status, status, "{path}");
        let line = gateway.record(reply.header("x-request-id")).await;
        let bare = path.split('?').next().unwrap();
        assert_eq!((&line["path"], &line["method"]), (&json!(bare), &json!(method.as_str())), "{line}");
        assert_eq!((&line["status"], &line["address"]), (&json!(status), &json!("127.0.0.1")), "{line}");
    }
    assert_eq!(gateway.metric("tollgate_other_requests_total", &["404"]).await, 2.0);
    assert!(!format!("{:?}", gateway.access()).contains("sk-secret"));
}

#[tokio::test]
async fn a_guessed_key_leaves_the_address_it_came_from() {
    let up = Upstream::start(|_| acts::says("ok"));
    let config = format!("auth: keys\nproviders:\n{}", provider("up", &up.url()));
    let gateway = gateway::start(&config);
    let reply = client::get(gateway.clients, "/v1/models").await;
    let line = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((reply.status, &line["status"], &line["address"]), (401, &json!(401), &json!("127.0.0.1")));
    assert_eq!(line["error"], reply.error()["code"], "{line}");
}

#[tokio::test]
async fn a_page_in_place_of_a_stream_is_told_as_one_and_a_whole_answer_is_read() {
    let up = Upstream::start(|heard| {
        let kind = |kind: &'static str| [("content-type", kind)];
        match heard.model().as_str() {
            "page" => acts::answer(200, &kind("text/html"), "<!doctype html><p>sign in</p>"),
            "plain" => acts::answer(200, &kind("text/plain"), acts::completion("all of it").to_string()),
            "mute" => acts::answer(200, &[], acts::completion("all of it").to_string()),
            _ => acts::answer(
                200,
                &kind("text/plain"),
                format!("{}{}", acts::events(&["bit ", "by bit"]), acts::ENDING),
            ),
        }
    });
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &up.url())));
    let reply = chat(gateway.clients, &client::ask_stream("up/page")).await;
    assert_eq!(
        (reply.status, reply.error()["code"].as_str()),
        (502, Some("upstream_malformed")),
        "{reply:?}"
    );
    assert!(reply.error()["message"].as_str().unwrap().contains("a page"), "{reply:?}");
    for (model, said) in [("up/plain", "all of it"), ("up/mute", "all of it"), ("up/events", "bit by bit")] {
        let reply = chat(gateway.clients, &client::ask_stream(model)).await;
        assert_eq!((reply.status, reply.streamed().as_str()), (200, said), "{model}: {reply:?}");
    }
}
