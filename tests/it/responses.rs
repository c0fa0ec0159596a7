//! OpenAI's Responses in front of providers that know nothing of them: items, thoughts, tools, kept answers, errors.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::acts;
use crate::anthropic;
use crate::client::{self, Reply, post};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::{Act, Heard, Upstream};

const SIGNATURE: &str = "EqQB+/proof==";

/// Anthropic's blocks of a turn that thinks and calls; they must all come back.
fn thinking_blocks() -> Value {
    json!([
        {"type": "thinking", "thinking": "hm", "signature": SIGNATURE},
        {"type": "redacted_thinking", "data": "hidden+/="},
        {"type": "text", "text": "Let me see."},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}])
}

fn claude(heard: &Heard) -> Vec<Act> {
    if heard.model() != "thinks" {
        return anthropic::play(heard);
    }
    let answered = heard.json()["messages"].to_string().contains("tool_result");
    let (content, stop) = if answered {
        (json!([{"type": "text", "text": "It is sunny."}]), "end_turn")
    } else {
        (thinking_blocks(), "tool_use")
    };
    let usage = json!({"input_tokens": 1, "output_tokens": 2});
    if !heard.is_stream() {
        return acts::whole(
            200,
            &json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "thinks",
            "content": content, "stop_reason": stop, "stop_sequence": null, "usage": usage}),
        );
    }
    let mut text = event(&json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
        "role": "assistant", "model": "thinks", "content": [], "stop_reason": null, "usage": usage}}));
    for (at, block) in content.as_array().unwrap().iter().enumerate() {
        text.push_str(&streamed_block(at, block));
    }
    let delta = json!({"stop_reason": stop, "stop_sequence": null});
    text.push_str(&event(&json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 2}})));
    text.push_str(&event(&json!({"type": "message_stop"})));
    acts::stream(&text, 37)
}

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

fn streamed_block(at: usize, block: &Value) -> String {
    let (mut opening, deltas) = (
        block.clone(),
        match block["type"].as_str().unwrap() {
            "thinking" => vec![
                json!({"type": "thinking_delta", "thinking": block["thinking"]}),
                json!({"type": "signature_delta", "signature": block["signature"]}),
            ],
            "text" => vec![json!({"type": "text_delta", "text": block["text"]})],
            "tool_use" | "server_tool_use" => {
                vec![json!({"type": "input_json_delta", "partial_json": block["input"].to_string()})]
            }
            _ => Vec::new(),
        },
    );
    for (key, empty) in
        [("thinking", json!("")), ("signature", json!("")), ("text", json!("")), ("input", json!({}))]
    {
        if opening.get(key).is_some() {
            opening[key] = empty;
        }
    }
    let mut text = event(&json!({"type": "content_block_start", "index": at, "content_block": opening}));
    for delta in deltas {
        text.push_str(&event(&json!({"type": "content_block_delta", "index": at, "delta": delta})));
    }
    text + &event(&json!({"type": "content_block_stop", "index": at}))
}

/// Gemini: a call with its signature, then the answer with one.
fn gemini(heard: &Heard) -> Vec<Act> {
    let body = heard.json();
    let answered = body["contents"].to_string().contains("functionResponse");
    let parts = if answered {
        json!([{"text": "It is sunny.", "thoughtSignature": "dGV4dA=="}])
    } else {
        json!([{"text": "pondering", "thought": true},
            {"functionCall": {"name": "weather", "args": {"city": "Rome"}}, "thoughtSignature": "Y2FsbA=="}])
    };
    let answer = json!({"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 3, "totalTokenCount": 10},
        "modelVersion": "gemini-3-pro", "responseId": "r1"});
    if heard.path.contains("streamGenerateContent") {
        return acts::stream(&format!("data: {answer}\r\n\r\n"), 29);
    }
    acts::whole(200, &answer)
}

fn chat(heard: &Heard) -> Vec<Act> {
    match heard.model().as_str() {
        "cut" => {
            let mut script = acts::stream_head();
            script.extend([acts::piece(&acts::events(&["half"])), Act::Close]);
            script
        }
        "no" => acts::error(400, "this will never work"),
        "busy" => acts::error(500, "no"),
        _ if heard.is_stream() => acts::says_stream(&["Hel", "lo"]),
        _ => acts::says("Hello"),
    }
}

struct House {
    claude: Upstream,
    google: Upstream,
    chat: Upstream,
    gateway: Gateway,
}

fn house_with(more: &str) -> House {
    let (claude, google, chat) = (Upstream::start(claude), Upstream::start(gemini), Upstream::start(chat));
    let gateway = gateway::start(&format!(
        "{more}retries: {{ retries: 0 }}\nproviders:\n{}{}  google: {{ preset: gemini, base_url: \"{}beta\", keys: [ env:TEST_KEY ] }}\n  sandbox: {{ dialect: sandbox }}\n",
        anthropic::provider("claude", &claude.url()),
        provider("chat", &chat.url()),
        google.url(),
    ));
    House { claude, google, chat, gateway }
}

fn house() -> House {
    house_with("")
}

impl House {
    async fn ask(&self, body: &Value) -> Reply {
        post(self.gateway.clients, "/v1/responses", body).await
    }

    async fn lookup(&self, method: Method, path: &str) -> Reply {
        let uri = format!("/v1/responses/{path}");
        let request = Request::builder().method(method).uri(uri).body(bytes::Bytes::new()).unwrap();
        client::open(self.gateway.clients, request).await.unwrap().rest().await
    }

    /// The response, asked for as a stream or as a whole.
    async fn response(&self, body: &Value) -> Value {
        let reply = self.ask(body).await;
        assert_eq!(reply.status, 200, "{reply:#?}");
        if body["stream"] != true {
            return reply.json();
        }
        let events = events(&reply);
        assert_eq!(events.last().unwrap()["type"], "response.completed", "{events:#?}");
        // What its events say is what the last one says.
        let response = events.last().unwrap()["response"].clone();
        let done: Vec<_> = events.iter().filter(|e| e["type"] == "response.output_item.done").collect();
        let mut items = vec![Value::Null; done.len()];
        for event in done {
            items[usize::try_from(event["output_index"].as_u64().unwrap()).unwrap()] = event["item"].clone();
        }
        assert_eq!(response["output"], Value::Array(items));
        response
    }
}

/// The events of a stream, whose numbers count up without a gap.
fn events(reply: &Reply) -> Vec<Value> {
    let text = reply.text();
    let events: Vec<Value> = text
        .split("\n\n")
        .filter(|event| event.starts_with("event:"))
        .map(|event| {
            let (name, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.trim_start_matches("data: ")).unwrap();
            assert_eq!(name.trim_start_matches("event: "), data["type"].as_str().unwrap());
            data
        })
        .collect();
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], at, "{text}");
    }
    assert!(!text.contains("[DONE]"));
    events
}

fn tools() -> Value {
    json!([{"type": "function", "name": "weather", "parameters": {"type": "object"}}])
}

fn kinds(response: &Value) -> Vec<&str> {
    response["output"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect()
}

fn said(response: &Value) -> String {
    let items = response["output"].as_array().unwrap().iter();
    items
        .flat_map(|item| item["content"].as_array().into_iter().flatten())
        .map(|part| part["text"].as_str().unwrap_or_default())
        .collect()
}

/// The result of the call in a response.
fn result_for(response: &Value) -> Value {
    let items = response["output"].as_array().unwrap();
    let call = items.iter().find(|item| item["type"] == "function_call").expect("a call");
    assert_eq!((&call["name"], &call["arguments"]), (&json!("weather"), &json!(r#"{"city":"Rome"}"#)));
    json!({"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"})
}

/// How a client may carry a conversation on.
#[derive(Clone, Copy)]
enum Way {
    Items,
    References,
    Id,
}

/// The second turn of a conversation, carried on in one of three ways.
fn second(first: &Value, body: &Value, way: Way) -> Value {
    let mut next = body.clone();
    let result = result_for(first);
    let output = first["output"].as_array().unwrap();
    let question = json!({"role": "user", "content": body["input"]});
    next["input"] = match way {
        Way::Id => {
            next["previous_response_id"] = first["id"].clone();
            json!([result])
        }
        Way::Items => [&[question], output.as_slice(), &[result]].concat().into(),
        Way::References => {
            let refer = |item: &Value| json!({"type": "item_reference", "id": item["id"]});
            let items: Vec<_> = output.iter().map(refer).collect();
            [&[question], items.as_slice(), &[result]].concat().into()
        }
    };
    next
}

#[tokio::test]
async fn anthropics_thoughts_and_server_tools_come_back_to_anthropic() {
    let house = house();
    for stream in [false, true] {
        for way in [Way::Items, Way::References, Way::Id] {
            let body =
                json!({"model": "claude/thinks", "input": "weather?", "tools": tools(), "stream": stream});
            let first = house.response(&body).await;
            assert_eq!(
                kinds(&first),
                ["reasoning", "reasoning", "message", "reasoning", "reasoning", "function_call"]
            );
            assert_eq!(first["output"][0]["summary"][0]["text"], "hm");
            let answer = house.response(&second(&first, &body, way)).await;
            assert_eq!(said(&answer), "It is sunny.");
            let heard = house.claude.heard().pop().unwrap().json();
            assert_eq!(heard["messages"][1]["content"], thinking_blocks(), "{heard:#}");
            assert_eq!(heard["messages"][2]["content"][0]["tool_use_id"], "toolu_1");
        }
    }
}

#[tokio::test]
async fn geminis_signatures_come_back_to_gemini() {
    let house = house();
    for stream in [false, true] {
        for way in [Way::Items, Way::References, Way::Id] {
            let body = json!({"model": "google/gemini-3-pro", "input": "weather?", "tools": tools(), "stream": stream});
            let first = house.response(&body).await;
            assert_eq!(kinds(&first), ["reasoning", "reasoning", "function_call"]);
            assert_eq!(first["usage"]["output_tokens_details"]["reasoning_tokens"], 3);
            let answer = house.response(&second(&first, &body, way)).await;
            assert_eq!(said(&answer), "It is sunny.");
            let heard = house.google.heard().pop().unwrap().json();
            let turn = &heard["contents"][1]["parts"];
            assert_eq!(turn[1]["thoughtSignature"], "Y2FsbA==", "{heard:#}");

            // Third turn: the proof stands behind the text again.
            let mut third = body.clone();
            third["previous_response_id"] = answer["id"].clone();
            third["input"] = "thanks".into();
            house.response(&third).await;
            let heard = house.google.heard().pop().unwrap().json();
            if matches!(way, Way::Id) {
                assert_eq!(heard["contents"].as_array().unwrap().len(), 5, "{heard:#}");
                assert_eq!(heard["contents"][3]["parts"][0]["thoughtSignature"], "dGV4dA==", "{heard:#}");
            }
        }
    }
}

#[tokio::test]
async fn a_conversation_moves_from_provider_to_provider() {
    let house = house();
    let mut body =
        json!({"model": "claude/thinks", "input": "weather?", "instructions": "be brief", "tools": tools()});
    let first = house.response(&body).await;
    body["model"] = "google/gemini-3-pro".into();
    let answer = house.response(&second(&first, &body, Way::Id)).await;
    assert_eq!(said(&answer), "It is sunny.");
    let heard = house.google.heard().pop().unwrap().json();
    assert!(!heard.to_string().contains(SIGNATURE), "{heard:#}");

    let mut third = body.clone();
    third["model"] = "chat/m".into();
    third["previous_response_id"] = answer["id"].clone();
    third["input"] = "thanks".into();
    let last = house.ask(&third).await;
    assert_eq!(said(&last.json()), "Hello", "{last:#?}");
    let heard = house.chat.heard().pop().unwrap().json();
    let roles: Vec<_> = heard["messages"].as_array().unwrap().iter().map(|m| m["role"].clone()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant", "user"], "{heard:#}");
    assert_eq!(heard["messages"][2]["tool_calls"][0]["id"], heard["messages"][3]["tool_call_id"]);

    // And back: Anthropic sees its own proofs, nobody else's.
    third["model"] = "claude/thinks".into();
    third["previous_response_id"] = last.json()["id"].clone();
    house.response(&third).await;
    let heard = house.claude.heard().pop().unwrap().json();
    assert_eq!(heard["messages"][1]["content"], thinking_blocks(), "{heard:#}");
    assert!(!heard.to_string().contains("dGV4dA=="));
}

#[tokio::test]
async fn what_cannot_be_carried_is_named_in_the_clients_paths() {
    let house = house();
    let body = json!({
        "model": "chat/m", "truncation": "auto", "max_tool_calls": 2, "include": ["file_search_call.results"],
        "store": true, "metadata": {"a": "b"}, "text": {"verbosity": "low"}, "prompt_cache_key": "k",
        "reasoning": {"effort": "low", "summary": "auto"}, "service_tier": "auto", "custom_field": 1,
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}, {"type": "web_search"}],
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"}],
    });
    let reply = house.ask(&body).await;
    assert_eq!(
        reply.header("x-tollgate-warnings"),
        "input[1] (web_search_call dropped), include[0] (dropped), truncation (dropped), max_tool_calls (dropped), tools[1] (dropped)"
    );
    assert_eq!(reply.json()["tools"], body["tools"]);
    assert_eq!(
        house.chat.heard().pop().unwrap().json(),
        json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "reasoning_effort": "low", "prompt_cache_key": "k", "custom_field": 1, "verbosity": "low",
        })
    );
    let mut to_claude = body.clone();
    to_claude["model"] = "claude/claude-x".into();
    let reply = house.ask(&to_claude).await;
    let warnings = reply.header("x-tollgate-warnings");
    for path in ["text.verbosity", "prompt_cache_key", "custom_field", "input[1]"] {
        assert!(warnings.contains(&format!("{path} (")), "{path} in {warnings}");
    }
    let heard = house.claude.heard().pop().unwrap().json();
    assert_eq!(heard["tools"][1], json!({"type": "web_search_20250305", "name": "web_search"}));
}

#[tokio::test]
async fn kept_answers_can_be_read_listed_and_deleted() {
    let house = house();
    let first = house.response(&json!({"model": "chat/m", "input": "one"})).await;
    let id = first["id"].as_str().unwrap();
    let ask = json!({"model": "chat/m", "previous_response_id": id, "input": [
        {"role": "user", "content": "two"}, {"role": "user", "content": [{"type": "input_text", "text": "three"}]}]});
    let second = house.response(&ask).await;
    assert_eq!(house.lookup(Method::GET, id).await.json(), first);

    let list = house
        .lookup(Method::GET, &format!("{}/input_items?order=asc&limit=3", second["id"].as_str().unwrap()))
        .await;
    let list = list.json();
    let texts: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|i| i["content"][0]["text"].clone()).collect();
    assert_eq!((texts, &list["has_more"]), (vec![json!("one"), json!("Hello"), json!("two")], &json!(true)));
    let after = list["last_id"].as_str().unwrap();
    let path = format!("{}/input_items?order=asc&after={after}", second["id"].as_str().unwrap());
    let rest = house.lookup(Method::GET, &path).await.json();
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (1, &json!(false)));

    for (method, path, status) in [
        (Method::POST, format!("{id}/cancel"), 400),
        (Method::POST, "resp_none/cancel".to_owned(), 404),
        (Method::GET, "resp_none".to_owned(), 404),
        (Method::GET, format!("{id}?stream=true"), 400),
        (Method::GET, format!("{id}/input_items?limit=0"), 400),
        (Method::PUT, id.to_owned(), 405),
    ] {
        let reply = house.lookup(method.clone(), &path).await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:#?}");
        reply.error();
    }
    let deleted = house.lookup(Method::DELETE, id).await.json();
    assert_eq!(deleted, json!({"id": id, "object": "response", "deleted": true}));
    assert_eq!(house.lookup(Method::GET, id).await.status, 404);
    let orphan =
        house.ask(&json!({"model": "chat/m", "input": "x", "previous_response_id": second["id"]})).await;
    assert_eq!((orphan.status, &orphan.error()["code"]), (400, &json!("previous_response_not_found")));
}

#[tokio::test]
async fn the_shelf_has_bounds() {
    let house = house_with("responses: { max_entries: 2 }\n");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let response = house.response(&json!({"model": "chat/m", "input": "x"})).await;
        ids.push(response["id"].as_str().unwrap().to_owned());
    }
    let silent =
        house.response(&json!({"model": "chat/m", "input": "x", "store": false, "stream": true})).await;
    ids.push(silent["id"].as_str().unwrap().to_owned());
    for (id, status) in ids.iter().zip([404, 200, 200, 404]) {
        assert_eq!(house.lookup(Method::GET, id).await.status, status);
    }
}

#[tokio::test]
async fn faults_before_and_after_the_head_are_told_in_openais_words() {
    let house = house();
    for (body, status, param) in [
        (json!({"model": "chat/no", "input": "x"}), 400, Value::Null),
        (json!({"model": "chat/busy", "input": "x"}), 500, Value::Null),
        (json!({"model": "chat/m", "input": "x", "background": true}), 400, json!("background")),
        (json!({"model": "chat/m", "input": "x", "conversation": "conv_1"}), 400, json!("conversation")),
        (json!({"model": "chat/m", "input": 7}), 400, json!("input")),
        (
            json!({"model": "chat/m", "input": "x", "previous_response_id": "resp_1"}),
            400,
            json!("previous_response_id"),
        ),
        (
            json!({"model": "claude/x", "input": [{"role": "user", "content": [
                {"type": "input_text", "text": "x"}, {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]}]}),
            400,
            json!("input[0].content[1]"),
        ),
        (json!({"model": "nobody/x", "input": "x"}), 404, json!("model")),
    ] {
        for stream in [false, true] {
            let mut body = body.clone();
            body["stream"] = stream.into();
            let reply = house.ask(&body).await;
            assert_eq!((reply.status, &reply.error()["param"]), (status, &param), "{body} {reply:#?}");
        }
    }
    for (model, code) in [("chat/cut", "upstream_truncated"), ("claude/breaks", "overloaded")] {
        let reply = house.ask(&json!({"model": model, "input": "x", "stream": true})).await;
        let events = events(&reply);
        let [.., delta, error, failed] = events.as_slice() else { panic!("{events:#?}") };
        assert_eq!(delta["type"], "response.output_text.delta");
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)));
        assert_eq!(
            (&failed["type"], &failed["response"]["status"]),
            (&json!("response.failed"), &json!("failed"))
        );
        let id = failed["response"]["id"].as_str().unwrap();
        assert_eq!(house.lookup(Method::GET, id).await.status, 404, "what failed is not kept");
    }
}

#[tokio::test]
async fn a_policy_sees_items_as_messages() {
    let policy = r#"fn on_request(req) {
        if req.system == "be brief" && req.last_user == "hi" && req.has_images { return route("chat/seen"); }
    }"#;
    let chat = Upstream::start(chat);
    let config = format!("providers:\n{}", provider("chat", &chat.url()));
    let gateway = gateway::setup(&config).policy("see.rhai", policy).start();
    let body = json!({"model": "chat/m", "instructions": "be brief", "input": [{"role": "user", "content": [
        {"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": "https://x/y.png"}]}]});
    let reply = post(gateway.clients, "/v1/responses", &body).await;
    assert_eq!(reply.header("x-tollgate-target"), "chat/seen", "{reply:#?}");
}

#[tokio::test]
async fn tokens_are_counted_without_an_answer() {
    let house = house();
    let body = json!({"model": "chat/m", "input": "twelve bytes", "instructions": "and more"});
    let reply = post(house.gateway.clients, "/v1/responses/input_tokens", &body).await;
    let counted = reply.json();
    // Four words, and what stands around them.
    assert!(counted["input_tokens"].as_u64().is_some_and(|n| (8..24).contains(&n)), "{reply:#?}");
    assert_eq!(counted["object"], "response.input_tokens");
    assert!(reply.header("x-tollgate-warnings").contains("estimated") && house.chat.heard().is_empty());
}
