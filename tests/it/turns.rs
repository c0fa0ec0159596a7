//! Conversations that moved here from another provider, as strict vendors want their turns.

use serde_json::{Value, json};

use crate::acts;
use crate::client::{chat, post};
use crate::gateway::{self, Gateway};
use crate::upstream::Upstream;

fn house() -> (Upstream, Gateway) {
    let upstream = Upstream::start(|_| acts::says("Hello"));
    let place = format!("base_url: \"{}\", keys: [ env:TEST_KEY ]", upstream.url());
    let gateway =
        gateway::start(&format!("providers:\n  mistral: {{ {place} }}\n  deepseek: {{ {place} }}\n"));
    (upstream, gateway)
}

/// A turn with thinking and a call, its result, and the user's next words at once.
fn openai(model: &str, thought: Option<&str>) -> Value {
    let call =
        json!({"id": "call_0123456789", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let mut turn = json!({"role": "assistant", "content": "Let me look.", "tool_calls": [call]});
    if let Some(thought) = thought {
        turn["reasoning_content"] = thought.into();
    }
    json!({"model": model, "messages": [
        {"role": "user", "content": "hi"}, turn,
        {"role": "tool", "tool_call_id": "call_0123456789", "content": "sunny"},
        {"role": "user", "content": "and now?"},
    ]})
}

fn anthropic(model: &str) -> Value {
    json!({"model": model, "max_tokens": 9, "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "EqQB"},
            {"type": "text", "text": "Let me look."}, {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"},
            {"type": "text", "text": "and now?"}]},
    ]})
}

#[tokio::test]
async fn mistral_gets_its_own_order_from_every_door() {
    let (upstream, gateway) = house();
    for (name, reply) in [
        ("chat", chat(gateway.clients, &openai("mistral/mistral-small-latest", Some("hm"))).await),
        (
            "anthropic",
            post(gateway.clients, "/v1/messages", &anthropic("mistral/mistral-small-latest")).await,
        ),
    ] {
        assert_eq!(reply.status, 200, "{name}: {reply:#?}");
        assert!(reply.header("x-tollgate-warnings").contains("wants one after tools"), "{name}: {reply:#?}");
        let heard = upstream.heard().pop().unwrap().json();
        let messages = heard["messages"].as_array().unwrap();
        let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "tool", "assistant", "user"], "{name}: {heard}");
        let turn = &messages[1];
        assert_eq!(
            turn["content"],
            json!([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": true},
                {"type": "text", "text": "Let me look."}]),
            "{name}"
        );
        let (id, answered) = (turn["tool_calls"][0]["id"].as_str().unwrap(), &messages[2]["tool_call_id"]);
        assert_eq!((id.len(), answered), (9, &json!(id)), "{name}");
        for field in ["reasoning_content", "reasoning_details"] {
            assert_eq!(turn.get(field), None, "{name}");
        }
    }
    let plain = json!({"model": "mistral/m", "messages": [{"role": "user", "content": "hi"},
        {"role": "assistant", "content": "{"}], "reasoning_effort": "low"});
    let reply = chat(gateway.clients, &plain).await;
    let heard = upstream.heard().pop().unwrap().json();
    assert_eq!((&heard["messages"][1]["prefix"], heard.get("reasoning_effort")), (&json!(true), None));
    assert!(reply.header("x-tollgate-warnings").contains("reasoning_effort"), "{reply:#?}");
}

#[tokio::test]
async fn deepseek_gets_thinking_with_every_call() {
    let (upstream, gateway) = house();
    for (thought, expected) in [(Some("hm"), "hm"), (None, " ")] {
        chat(gateway.clients, &openai("deepseek/deepseek-v4-pro", thought)).await;
        let heard = upstream.heard().pop().unwrap().json();
        assert_eq!(heard["messages"][1]["reasoning_content"], expected);
        assert_eq!(heard["messages"].as_array().unwrap().len(), 4);
    }
    post(gateway.clients, "/v1/messages", &anthropic("deepseek/deepseek-v4-pro")).await;
    assert_eq!(upstream.heard().pop().unwrap().json()["messages"][1]["reasoning_content"], "hm");
    let quiet = json!({"model": "deepseek/deepseek-v4-pro", "reasoning_effort": "none",
        "messages": [{"role": "user", "content": "hi"}]});
    chat(gateway.clients, &quiet).await;
    let heard = upstream.heard().pop().unwrap().json();
    assert_eq!((&heard["thinking"], heard.get("reasoning_effort")), (&json!({"type": "disabled"}), None));
}
