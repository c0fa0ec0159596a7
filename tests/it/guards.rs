//! Guards that the gateway asks by itself: the PII guard before requests, whole answers and streams, in the clients'
//! dialects, and what follows when a guard fails or is not there.

use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, chat, post};
use crate::gateway::{self, Gateway, Setup, provider};
use crate::keys::chat_as;
use crate::plugins::sample;
use crate::upstream::{Heard, Upstream};

const MAIL: &str = "ada@example.org";

/// A gateway with the PII guard in this role, in front of the upstream.
fn guarded(upstream: &Upstream, role: &str, policy: Option<&str>) -> Option<Gateway> {
    let setup = guarding(upstream, role)?;
    let setup = match policy {
        Some(policy) => setup.policy("10-guards.rhai", policy),
        None => setup,
    };
    Some(setup.start())
}

/// The same, not started yet.
fn guarding(upstream: &Upstream, role: &str) -> Option<Setup> {
    let bytes = sample("pii-guard")?;
    let cache = warm(&bytes);
    let config = format!(
        "plugins:\n  cache: {cache}\n  list:\n    - name: pii\n      grants: [log, prompt, rewrite]\n      \
         limits: {{ time: 5s, window: 5s }}\n{role}providers:\n{}",
        provider("up", &upstream.url())
    );
    let setup = gateway::setup(&config);
    std::fs::create_dir(setup.path().join("plugins")).unwrap();
    std::fs::write(setup.path().join("plugins/pii.wasm"), bytes).unwrap();
    Some(setup)
}

/// A folder of compiled code that all stories share, in which this plugin is compiled already: it takes seconds where
/// the gateway was built for debugging.
pub fn warm(bytes: &[u8]) -> String {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guards");
    std::fs::create_dir_all(&cache).unwrap();
    let lock = std::fs::File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap();
    let done = cache.join(format!("{}.done", blake3::hash(bytes)));
    if !done.exists() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("pii.wasm"), bytes).unwrap();
        let config = format!(
            "plugins:\n  dir: .\n  cache: {}\n  list: [{{ name: pii, grants: [log, prompt] }}]\n",
            cache.display()
        );
        std::fs::write(at("tollgate.yaml"), config).unwrap();
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let checked = check.args(["check", "--config"]).arg(at("tollgate.yaml")).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
        std::fs::write(done, "").unwrap();
    }
    cache.display().to_string()
}

fn role(role: &str) -> String {
    format!("      guard: {role}\n")
}

fn says(text: &str) -> Value {
    json!({"model": "up/m", "messages": [{"role": "user", "content": text}]})
}

fn streamed(text: &str) -> Value {
    json!({"model": "up/m", "messages": [{"role": "user", "content": text}], "stream": true})
}

/// Says back what it was told, or streams it letter by letter.
fn echo(heard: &Heard) -> Vec<crate::upstream::Act> {
    let said = heard.json()["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    if heard.is_stream() {
        let letters: Vec<String> = said.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        acts::says_stream(&letters)
    } else {
        acts::says(&said)
    }
}

/// Asks, and wants to hear how it was decided.
async fn asking_why(gateway: &Gateway, ask: &Value) -> Reply {
    let mut request = client::request(Method::POST, "/v1/chat/completions", &ask.to_string());
    request.headers_mut().insert("x-tollgate-explain", "1".parse().unwrap());
    client::open(gateway.clients, request).await.expect("an answer").rest().await
}

#[tokio::test]
async fn a_request_with_personal_data_is_refused_in_the_clients_dialect() {
    let upstream = Upstream::start(echo);
    let Some(gateway) = guarded(&upstream, &role("{ on: [request] }"), None) else { return };
    let reply = chat(gateway.clients, &says(&format!("write to {MAIL}"))).await;
    assert_eq!(reply.status, 403, "{reply:#?}");
    assert_eq!(reply.error()["code"], "guard_blocked");
    assert_eq!(reply.error()["message"], "guard `pii` found email in the request");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["tags"], json!([["guard.pii", "email"]]), "{record}");
    assert!(upstream.heard().is_empty());

    let ask = json!({"model": "up/m", "max_tokens": 9, "messages": [{"role": "user", "content": MAIL}]});
    let reply = post(gateway.clients, "/v1/messages", &ask).await;
    assert_eq!((reply.status, &reply.json()["type"]), (403, &json!("error")));
    assert!(reply.text().contains("guard `pii`") && !reply.text().contains(MAIL), "{reply:#?}");

    assert_eq!(chat(gateway.clients, &says("nothing personal")).await.said(), "nothing personal");
    let blocked =
        gateway.metric("tollgate_guard_verdicts_total", &["guard=\"pii\"", "outcome=\"block\""]).await;
    assert_eq!(blocked, 2.0);
}

#[tokio::test]
async fn policies_hear_how_a_request_ended_that_a_guard_refused() {
    let upstream = Upstream::start(echo);
    let policy = "fn on_complete(req, out) { metric(\"ended\").add(#{ found: req.guards[\"pii\"][0], status: `${out.status}` }); }";
    let Some(gateway) = guarded(&upstream, &role("{ on: [request] }"), Some(policy)) else { return };
    assert_eq!(chat(gateway.clients, &says(MAIL)).await.status, 403);
    let begun = std::time::Instant::now();
    while gateway.metric("tollgate_policy_ended", &["found=\"email\"", "status=\"403\""]).await < 1.0 {
        assert!(begun.elapsed() < client::PATIENCE, "{:?}", gateway.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_explanation_says_what_guards_said_and_how_long_they_took() {
    let upstream = Upstream::start(echo);
    let Some(gateway) = guarded(&upstream, &role("{ action: redact, restore: true }"), None) else { return };
    let explained = async |ask: &Value| {
        let reply = asking_why(&gateway, ask).await;
        let explained: Value = serde_json::from_str(reply.header("x-tollgate-explain")).unwrap();
        (reply, explained)
    };
    let (_, whole) = explained(&says(&format!("write to {MAIL}"))).await;
    let [request, answer] = &whole["plugins"].as_array().unwrap()[..] else { panic!("{whole}") };
    assert_eq!((&request[0], &request[1]), (&json!("pii"), &json!("guard the request")));
    assert!(request[2].as_u64().is_some_and(|micros| micros > 0), "{whole}");
    assert_eq!(request[3], json!({"outcome": "redact", "found": ["email"]}));
    assert_eq!((&answer[1], &answer[3]), (&json!("guard the answer"), &json!({"found": [], "looks": 1})));

    let (reply, _) = explained(&streamed(&format!("write to {MAIL}"))).await;
    let path = format!("/admin/v1/decisions/{}", reply.header("x-request-id"));
    let dossier = client::get(gateway.admin, &path).await;
    assert!(dossier.text().contains("\"looks\""), "{dossier:#?}");
    assert!(!dossier.text().contains(MAIL), "{dossier:#?}");
}

#[tokio::test]
async fn an_explanation_of_a_refusal_names_the_guard() {
    let upstream = Upstream::start(echo);
    let Some(gateway) = guarded(&upstream, &role("{ on: [request] }"), None) else { return };
    let reply = asking_why(&gateway, &says(MAIL)).await;
    let explained: Value = serde_json::from_str(reply.header("x-tollgate-explain")).unwrap();
    assert_eq!(explained["verdict"], "refused by guard pii");
    assert_eq!(explained["plugins"][0][3]["outcome"], "block", "{explained}");
    let path = format!("/admin/v1/decisions/{}", reply.header("x-request-id"));
    let dossier = client::get(gateway.admin, &path).await;
    assert_eq!(dossier.status, 200);
    assert!(dossier.text().contains("guard pii, before policies were asked"), "{dossier:#?}");
}

#[test]
fn a_request_that_is_not_sent_is_shown_to_guards_too() {
    let upstream = Upstream::start(echo);
    let Some(setup) = guarding(&upstream, &role("{ on: [request] }")) else { return };
    for (text, expected) in [
        (MAIL, &["guard pii, before policies were asked", "403 guard_blocked", "guard.pii=email"][..]),
        ("nothing", &["pii: guard the request said", "target     1. up/m"]),
    ] {
        std::fs::write(setup.path().join("request.json"), says(text).to_string()).unwrap();
        let printed = setup.run(&["policy", "explain", "request.json"]);
        assert!(expected.iter().all(|part| printed.out.contains(part)), "{text}: {printed:#?}");
    }
}

#[tokio::test]
async fn what_is_taken_out_of_the_prompt_comes_back_into_its_answer() {
    let upstream = Upstream::start(echo);
    let Some(gateway) = guarded(&upstream, &role("{ action: redact, restore: true }"), None) else { return };
    let text = format!("write to {MAIL} and bob@example.org, then to {MAIL}");
    assert_eq!(chat(gateway.clients, &says(&text)).await.said(), text);
    let stream = chat(gateway.clients, &streamed(&text)).await;
    assert_eq!(stream.streamed(), text);
    for heard in upstream.heard() {
        let said = heard.json()["messages"][0]["content"].as_str().unwrap().to_owned();
        assert!(!said.contains('@') && said.contains("[EMAIL_1]"), "{said}");
    }
    // Embeddings have no place for placeholders that come back: refused, never passed over.
    let reply = post(gateway.clients, "/v1/embeddings", &json!({"model": "up/e", "input": MAIL})).await;
    assert_eq!((reply.status, &reply.error()["code"]), (403, &json!("guard_not_enforceable")));
}

#[tokio::test]
async fn what_is_taken_out_for_good_never_leaves_by_a_relay_either() {
    let upstream = Upstream::start(echo);
    let Some(gateway) = guarded(&upstream, &role("{ on: [request], action: redact }"), None) else { return };
    let said = chat(gateway.clients, &says(&format!("write to {MAIL}"))).await.said();
    assert_eq!(said, "write to [EMAIL_1]");
}

#[tokio::test]
async fn answers_and_streams_lose_what_a_guard_finds_however_they_are_cut() {
    let upstream = Upstream::start(|heard| {
        let text = format!("ask {MAIL} or call +33 1 23 45 67 89.");
        if !heard.is_stream() {
            return acts::says(&text);
        }
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        let whole = format!("{}{}", acts::events(&letters), acts::ENDING);
        acts::stream(&whole, if heard.model() == "tiny" { 7 } else { usize::MAX })
    });
    let role = role("{ on: [response, stream], action: redact, kinds: [email, phone] }");
    let Some(gateway) = guarded(&upstream, &role, None) else { return };
    let expected = "ask [EMAIL] or call [PHONE].";
    let reply = chat(gateway.clients, &says("whom?")).await;
    assert_eq!(reply.said(), expected);
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["tags"], json!([["guard.pii", "email,phone"]]), "{record}");
    for model in ["up/m", "up/tiny"] {
        let ask = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "whom?"}]});
        let reply = chat(gateway.clients, &ask).await;
        assert_eq!(reply.streamed(), expected, "{model}");
        assert!(reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.text());
        let reply = post(
            gateway.clients,
            "/v1/messages",
            &json!({"model": model, "max_tokens": 99, "stream": true, "messages": [{"role": "user", "content": "whom?"}]}),
        )
        .await;
        assert!(reply.text().contains("[PHONE]") && !reply.text().contains("ada@"), "{}", reply.text());
        assert!(reply.text().contains("message_stop"), "{}", reply.text());
    }
}

#[tokio::test]
async fn what_a_key_may_spend_takes_no_guard_away() {
    let upstream = Upstream::start(|heard| {
        let text = format!("ask {MAIL}");
        if heard.is_stream() { acts::says_stream(&[&text]) } else { acts::says(&text) }
    });
    let role = role("{ on: [response, stream], action: redact, kinds: [email] }");
    let money = "auth: keys\nkeys: { cheap: { secret: env:CHEAP_KEY, scope: { max_cost: 0.001 } } }\n\
                 prices: { models: { up/m: { price: { input: 1, output: 10 } } } }\n";
    let Some(setup) = guarding(&upstream, &format!("{role}{money}")) else { return };
    let gateway = setup.env("CHEAP_KEY", "cheap-key-of-the-story").start();
    let reply = chat_as(gateway.clients, "cheap-key-of-the-story", &says("whom?")).await;
    assert_eq!(reply.said(), "ask [EMAIL]");
    let reply = chat_as(gateway.clients, "cheap-key-of-the-story", &streamed("whom?")).await;
    assert_eq!(reply.streamed(), "ask [EMAIL]");
    for heard in upstream.heard() {
        assert!(
            heard.json()["max_completion_tokens"].as_u64().is_some_and(|most| most < 100),
            "{}",
            heard.json()
        );
    }
}

/// Whether the name is there; ids of requests may well have its letters.
fn says_ada(text: &str) -> bool {
    [" ada", "\"ada", "ada@", "ada\""].iter().any(|part| text.contains(part))
}

#[tokio::test]
async fn an_answer_with_personal_data_is_withheld_and_a_stream_ends_with_an_error() {
    let upstream = Upstream::start(|heard| {
        if heard.is_stream() {
            let slow = ["Well, ", "I", " know", " ", "ada", "@", "exam", "ple", ".org", " she", " is"];
            acts::says_stream(&slow)
        } else {
            acts::says(MAIL)
        }
    });
    let Some(gateway) = guarded(&upstream, &role("{ action: block }"), None) else { return };
    let reply = chat(gateway.clients, &says("whom?")).await;
    assert_eq!((reply.status, &reply.error()["code"]), (403, &json!("guard_blocked")));
    assert_eq!(reply.error()["message"], "guard `pii` found email in the answer");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["usage"]["input"], 7, "what was paid for is known: {record}");

    let reply = chat(gateway.clients, &streamed("whom?")).await;
    let text = reply.text();
    assert!(!says_ada(&text) && !text.contains("[DONE]"), "{text}");
    assert!(text.contains("guard_blocked"), "{text}");
    let ask = json!({"model": "up/m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "?"}]});
    let reply = post(gateway.clients, "/v1/messages", &ask).await;
    assert!(!says_ada(&reply.text()) && !reply.text().contains("message_stop"), "{}", reply.text());
    assert!(reply.text().contains("guard `pii`"), "{}", reply.text());
}

#[tokio::test]
async fn arguments_of_tools_and_reasoning_are_looked_at_too() {
    let call = |arguments: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]});
    let script = move |heard: &Heard| {
        let (first, second) = (r#"{"to":"\nad"#, r#"a@example.org","n":1}"#);
        if !heard.is_stream() {
            let message = json!({"role": "assistant", "content": null, "tool_calls": [{
                "id": "t", "type": "function", "function": {"name": "mail", "arguments": format!("{first}{second}")}}]});
            let mut body = acts::completion("");
            body["choices"][0]["message"] = message;
            return acts::whole(200, &body);
        }
        let mut text = String::new();
        text.push_str(&acts::delta(json!({"reasoning_content": "it is ada@exam"}), None));
        text.push_str(&acts::delta(json!({"reasoning_content": "ple.org, yes"}), None));
        let begin = json!({"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "mail", "arguments": ""}}]});
        text.push_str(&acts::delta(begin, None));
        text.push_str(&acts::delta(call(first), None));
        text.push_str(&acts::delta(call(second), None));
        text.push_str(acts::ENDING);
        acts::stream(&text, 50)
    };
    let upstream = Upstream::start(script);
    let Some(gateway) = guarded(&upstream, &role("{ action: redact }"), None) else { return };
    let reply = chat(gateway.clients, &says("whom?")).await;
    let arguments = &reply.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"];
    assert_eq!(arguments, r#"{"to":"\n[EMAIL]","n":1}"#);
    let reply = chat(gateway.clients, &streamed("whom?")).await;
    let text = reply.text();
    assert!(!says_ada(&text) && !text.contains("ple.org"), "{text}");
    assert!(text.contains(r#"{\"to\":\"\\n[EMAIL]\",\"n\":1}"#) && text.contains("yes"), "{text}");
}

#[tokio::test]
async fn what_tools_were_called_with_earlier_does_not_leave_either() {
    let upstream = Upstream::start(|_| acts::says("sent to [EMAIL_1]"));
    let Some(gateway) = guarded(&upstream, &role("{ on: [request], action: redact, restore: true }"), None)
    else {
        return;
    };
    let chats = json!({"model": "up/m", "messages": [
        {"role": "user", "content": "write to her"},
        {"role": "assistant", "content": null, "reasoning_content": format!("that is {MAIL}"), "tool_calls": [{"id": "c",
            "type": "function", "function": {"name": "mail", "arguments": "{\"to\":\"ad\\u0061@example.org\",\"card\":4111111111111111}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "done"}]});
    let messages = json!({"model": "up/m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "write to her"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "mail", "input": {"to": [MAIL], "card": 4111111111111111_u64}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": format!("her card: {MAIL}")}}]}]});
    let contents = json!({"contents": [
        {"role": "user", "parts": [{"text": "write to her"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "mail", "args": {"to": MAIL, "card": 4111111111111111_u64}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "mail", "response": {"rows": [{"to": MAIL}]}}}]}]});
    let items = json!({"model": "up/m", "input": [
        {"role": "user", "content": "write to her"},
        {"type": "function_call", "call_id": "c", "name": "mail", "arguments": "{\"to\":\"ada@example.org\",\"card\":4111111111111111}"},
        {"type": "function_call_output", "call_id": "c", "output": "done"}]});
    for (path, ask) in [
        ("/v1/chat/completions", &chats),
        ("/v1/messages", &messages),
        ("/v1beta/models/up/m:generateContent", &contents),
        ("/v1/responses", &items),
    ] {
        let before = upstream.heard().len();
        let reply = post(gateway.clients, path, ask).await;
        assert_eq!(reply.status, 200, "{path}: {reply:#?}");
        assert!(reply.text().contains(&format!("sent to {MAIL}")), "{path}: {}", reply.text());
        let heard = upstream.heard()[before..].to_vec();
        let text = String::from_utf8_lossy(&heard[0].body).into_owned();
        assert!(!text.contains("example.org") && !text.contains("41111"), "{path}: {text}");
        assert!(text.contains("[EMAIL_1]"), "{path}: {text}");
    }
}

/// Requests that have the address in a place where nobody would look for it first.
fn hidden() -> Vec<(&'static str, Value)> {
    let asks = |more: Value| {
        let mut ask = says("hi");
        ask.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("/v1/chat/completions", ask)
    };
    let said = |message: Value| asks(json!({"messages": [{"role": "user", "content": "hi"}, message]}));
    let call = |arguments: &str| json!([{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]);
    let tool = |function: Value| asks(json!({"tools": [{"type": "function", "function": function}]}));
    let blocks = |content: Value| {
        let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": content}]);
        ("/v1/messages", json!({"model": "up/m", "max_tokens": 9, "messages": messages}))
    };
    let answered = json!({"name": "f", "response": {MAIL: 1}});
    let parts = json!([{"role": "user", "parts": [{"functionResponse": answered}]}]);
    vec![
        said(
            json!({"role": "assistant", "content": null, "tool_calls": call(&json!({MAIL: 1}).to_string())}),
        ),
        said(json!({"role": "user", "name": MAIL, "content": "hi"})),
        said(json!({"role": "assistant", "content": null, "refusal": MAIL})),
        tool(json!({"name": "f", "description": format!("mail {MAIL}")})),
        tool(json!({"name": "f", "parameters": {"type": "object", "properties": {"to": {"enum": [MAIL]}}}})),
        asks(
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"description": MAIL}}}}),
        ),
        blocks(json!([{"type": "tool_use", "id": "t", "name": "f", "input": {MAIL: 1}}])),
        (
            "/v1/responses",
            json!({"model": "up/m", "input": "hi", "prompt": {"id": "p", "variables": {"to": MAIL}}}),
        ),
        ("/v1beta/models/up/m:generateContent", json!({"contents": parts})),
        ("/v1/completions", json!({"model": "up/m", "prompt": "hi", "suffix": MAIL})),
        ("/v1/audio/speech", json!({"model": "up/m", "input": "hi", "voice": "v", "instructions": MAIL})),
        ("/v1/rerank", json!({"model": "up/m", "query": "hi", "documents": [{"text": "hi", "from": MAIL}]})),
    ]
}

#[tokio::test]
async fn no_text_of_a_request_passes_a_guard_unseen() {
    let upstream = Upstream::start(echo);
    let Some(gateway) = guarded(&upstream, &role("{ on: [request] }"), None) else { return };
    for (path, ask) in hidden() {
        let reply = post(gateway.clients, path, &ask).await;
        assert_eq!(reply.status, 403, "{path} {ask}: {reply:#?}");
        assert!(reply.text().contains("found email in the request"), "{path} {ask}: {reply:#?}");
    }
    let ids = [
        ("/v1/embeddings", json!({"model": "up/m", "input": [1, 2]})),
        ("/v1/embeddings", json!({"model": "up/m", "input": [[1], [2]]})),
        ("/v1/completions", json!({"model": "up/m", "prompt": [1, 2]})),
    ];
    for (path, ask) in ids {
        let reply = post(gateway.clients, path, &ask).await;
        assert_eq!(
            (reply.status, &reply.error()["code"]),
            (403, &json!("guard_not_enforceable")),
            "{path} {ask}"
        );
    }
    assert!(upstream.heard().is_empty());
    // What providers keep with a request, and what ends an answer, is no text of the prompt.
    let mut ask = says("hi");
    ask["metadata"] = json!({"mail": MAIL});
    ask["stop"] = json!([MAIL]);
    assert_eq!(chat(gateway.clients, &ask).await.said(), "hi");
}

#[tokio::test]
async fn what_is_found_anywhere_in_a_request_does_not_leave_in_any_place_of_it() {
    let upstream = Upstream::start(echo);
    let Some(gateway) = guarded(&upstream, &role("{ on: [request], action: redact }"), None) else { return };
    let places = [
        json!({"tools": [{"type": "function", "function": {"name": "f", "description": MAIL}}]}),
        json!({"messages": [{"role": "user", "name": MAIL, "content": "hi"}]}),
        json!({"metadata": {"mail": MAIL}, "stop": [MAIL], "messages": [{"role": "user", "content": MAIL}]}),
    ];
    for place in places {
        let mut ask = says("hi");
        ask.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
        assert_eq!(chat(gateway.clients, &ask).await.status, 200, "{ask}");
    }
    let heard = upstream.heard();
    assert_eq!(heard.len(), 3);
    for heard in heard {
        let said = heard.json().to_string();
        assert!(!said.contains(MAIL) && said.contains("[EMAIL_1]"), "{said}");
    }
}

#[tokio::test]
async fn keys_of_arguments_are_texts_of_an_answer_too() {
    let upstream = Upstream::start(|heard: &Heard| {
        let function = json!({"name": "mail", "arguments": json!({MAIL: 1}).to_string()});
        if heard.is_stream() {
            let call =
                json!({"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": function}]});
            return acts::stream(&format!("{}{}", acts::delta(call, None), acts::ENDING), 50);
        }
        let mut body = acts::completion("");
        body["choices"][0]["message"] = json!({"role": "assistant", "content": null,
            "tool_calls": [{"id": "t", "type": "function", "function": function}]});
        acts::whole(200, &body)
    });
    let Some(gateway) = guarded(&upstream, &role("{ action: redact }"), None) else { return };
    for ask in [says("whom?"), streamed("whom?")] {
        let text = chat(gateway.clients, &ask).await.text();
        assert!(!says_ada(&text) && text.contains(r#"{\"[EMAIL]\":1}"#), "{text}");
    }
}

#[tokio::test]
async fn a_thought_in_between_hides_nothing_of_a_text() {
    let upstream = Upstream::start(|_| {
        let deltas = [
            json!({"content": "mail ada@exam"}),
            json!({"reasoning_content": "hm"}),
            json!({"content": "ple.org now"}),
        ];
        let text: String = deltas.into_iter().map(|delta| acts::delta(delta, None)).collect();
        acts::stream(&format!("{text}{}", acts::ENDING), 60)
    });
    let Some(gateway) = guarded(&upstream, &role("{ on: [stream], action: redact }"), None) else { return };
    let reply = chat(gateway.clients, &streamed("whom?")).await;
    assert_eq!(reply.streamed(), "mail [EMAIL] now", "{}", reply.text());
    assert!(reply.text().contains("\"hm\""), "{}", reply.text());
}

#[tokio::test]
async fn a_flag_changes_nothing_and_policies_see_it() {
    let upstream = Upstream::start(|heard| acts::says(&heard.model()));
    let policy = "fn on_request(req) {\n    if \"email\" in req.guards[\"pii\"] { return route(\"up/private\").named(\"pii\"); }\n    route(\"up/public\")\n}\n";
    let Some(gateway) = guarded(&upstream, &role("{ action: flag }"), Some(policy)) else { return };
    let reply = chat(gateway.clients, &says(MAIL)).await;
    assert_eq!((reply.said().as_str(), reply.header("x-tollgate-rule")), ("private", "10-guards/pii"));
    assert_eq!(chat(gateway.clients, &says("hello")).await.said(), "public");
    let heard = upstream.heard_for("private");
    assert_eq!(heard[0].json()["messages"][0]["content"], MAIL);
    let forged = http::Request::post("/v1/chat/completions")
        .header("content-type", "application/json")
        .header("x-tollgate-tags", "guard.pii=email")
        .body(says("hello").to_string().into())
        .unwrap();
    let reply = client::open(gateway.clients, forged).await.unwrap().rest().await;
    assert_eq!(reply.status, 400, "{reply:#?}");
}

#[tokio::test]
async fn a_policy_takes_out_of_answers_what_it_names() {
    let upstream = Upstream::start(|heard| {
        let words = ["ask ada", "@example.org", " at 10.1.", "2.3 now"];
        if heard.is_stream() { acts::says_stream(&words) } else { acts::says(&words.concat()) }
    });
    for (policy, expected) in [
        ("plugin(\"pii\")", "ask [EMAIL] at [IP_ADDRESS] now"),
        ("plugin(\"pii\"), [\"email\"]", "ask [EMAIL] at 10.1.2.3 now"),
    ] {
        let policy = format!("fn on_request(req) {{ req.redact_output({policy}); }}\n");
        let Some(gateway) = guarded(&upstream, "", Some(&policy)) else { return };
        assert_eq!(chat(gateway.clients, &says("whom?")).await.said(), expected);
        assert_eq!(chat(gateway.clients, &streamed("whom?")).await.streamed(), expected);
    }
    let nobody = "fn on_request(req) { req.redact_output([\"email\"]); }\n";
    let Some(gateway) = guarded(&upstream, "", Some(nobody)) else { return };
    let reply = chat(gateway.clients, &says("whom?")).await;
    assert_eq!(reply.error()["code"], "policy_not_enforceable", "{reply:#?}");
}

#[tokio::test]
async fn a_guard_that_never_loaded_fails_as_declared() {
    let upstream = Upstream::start(echo);
    let config = |on_error: &str| {
        format!(
            "plugins:\n  - name: pii\n    grants: [prompt, rewrite]\n    on_error: {on_error}\n    guard: {{ action: redact }}\n\
             providers:\n{}",
            provider("up", &upstream.url())
        )
    };
    for (on_error, status, said) in [
        ("closed", 503, None),
        ("open", 200, Some("hello")),
        ("{ guard: redact_all }", 200, Some("[REDACTED]")),
    ] {
        let gateway = gateway::start(&config(on_error));
        let reply = chat(gateway.clients, &says("hello")).await;
        assert_eq!(reply.status, status, "{on_error}: {reply:#?}");
        match said {
            None => {
                assert_eq!(reply.error()["code"], "plugin_unavailable");
                assert_eq!(reply.error()["message"], "guard `pii` cannot be asked (absent)");
            }
            Some(said) => {
                assert_eq!(reply.said(), said);
                assert_eq!(chat(gateway.clients, &streamed("hello")).await.streamed(), said);
            }
        }
    }
    let setup = gateway::setup("plugins:\n  - name: pii\n    guard: { action: redact }\n");
    let checked = setup.run(&["check"]);
    assert!(checked.code != Some(0) && checked.err.contains("add `prompt` to `grants`"), "{checked:?}");
}
