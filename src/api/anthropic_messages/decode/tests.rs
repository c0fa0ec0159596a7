//! Every form that a request may take, and the way to Anthropic and back.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::chat::Media;
use crate::providers::{QuirkSettings, dialect};
use crate::target::TargetName;

fn decoded(value: &Value) -> Result<Decoded, Fault> {
    decode(&Body::read(Bytes::from(value.to_string())).unwrap())
}

fn with(fields: Value) -> Result<Decoded, Fault> {
    let mut request = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    decoded(&request)
}

fn losses(decoded: &Decoded) -> Vec<&str> {
    decoded.lost.iter().map(|loss| &*loss.path).collect()
}

#[test]
fn blocks_become_parts_and_results_a_message_of_their_own() {
    let request = with(json!({
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "url", "url": "u"}},
                {"type": "document", "title": "t", "citations": {"enabled": true}, "context": "c",
                 "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "thinking", "thinking": "x", "signature": "tollgate:unsigned"},
                {"type": "redacted_thinking", "data": "blob"},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}, "caller": {"type": "direct"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": "boom"},
                {"type": "text", "text": "so?"}]}],
    }))
    .unwrap();
    let Decoded { request: Request { messages, .. }, origins, .. } = &request;
    let roles: Vec<_> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool, Role::User]);
    assert_eq!(
        origins[..],
        [
            Origin::System,
            Origin::Message(0, 0),
            Origin::Message(1, 0),
            Origin::Message(2, 0),
            Origin::Message(2, 1)
        ]
    );
    let cache = Some(CacheHint { ttl: Some("1h".into()) });
    assert_eq!(messages[0].content, [Part::Text { text: "s".into(), cache, citations: vec![] }]);
    let text = Media::Inline { mime: "text/plain".into(), base64: "SGk=".into() };
    assert_eq!(messages[1].content[2], Part::File { media: text, filename: Some("t".into()), cache: None });
    let thought = |text: &str, signature: Option<&str>, redacted: Option<&str>| Part::Thinking {
        text: text.into(),
        signature: signature.map(Into::into),
        redacted: redacted.map(Into::into),
    };
    assert_eq!(
        messages[2].content[..3],
        [thought("hm", Some("sig"), None), thought("x", None, None), thought("", None, Some("blob"))]
    );
    assert!(matches!(&messages[2].content[3], Part::Other(_)));
    assert!(matches!(&messages[2].content[4], Part::ToolCall { arguments, .. } if arguments == r#"{"a":1}"#));
    assert!(matches!(&messages[3].content[0], Part::ToolResult { is_error: true, .. }));
    assert_eq!(losses(&request), ["messages[0].content[2].citations", "messages[0].content[2].context"]);
}

#[test]
fn top_level_fields_find_their_place() {
    let decoded = with(json!({
        "stream": true, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "stop_sequences": ["a"],
        "metadata": {"user_id": "u1"}, "service_tier": "auto", "container": "c",
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "strict": true},
                  {"type": "bash_20250124", "name": "bash"}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
    }))
    .unwrap();
    let request = &decoded.request;
    assert_eq!(
        (request.stream, request.max_output_tokens, request.user.as_deref()),
        (true, Some(9), Some("u1"))
    );
    let sampling = &request.sampling;
    assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (Some(0.5), Some(0.9), Some(4)));
    let reasoning = request.reasoning.as_ref().unwrap();
    assert_eq!((reasoning.effort.as_deref(), reasoning.budget_tokens), (Some("low"), Some(2048)));
    assert!(matches!(request.output, OutputFormat::JsonSchema { .. }));
    assert_eq!(
        (&request.tool_choice, request.parallel_tool_calls),
        (&Some(ToolChoice::Required), Some(false))
    );
    assert_eq!((request.tools[0].kind, request.tools[1].kind), (ToolKind::Function, ToolKind::Server));
    assert!(request.tools[1].is_anthropics());
    assert_eq!(losses(&decoded), ["container"]);
}

#[test]
fn whether_to_think_is_told_apart_from_how_hard() {
    for (thinking, effort, thinks) in [
        (json!({"type": "adaptive"}), None, Thinks::Freely),
        (json!({"type": "adaptive"}), Some("low"), Thinks::Freely),
        (Value::Null, Some("low"), Thinks::Unsaid),
        (json!({"type": "disabled"}), None, Thinks::Not),
        (json!({"type": "disabled"}), Some("low"), Thinks::Not),
        (json!({"type": "between_tools"}), None, Thinks::Not),
        (json!({"type": "enabled", "budget_tokens": 2048}), None, Thinks::Implied),
    ] {
        let config = effort.map(|effort| json!({ "effort": effort }));
        let decoded = with(json!({"thinking": thinking, "output_config": config})).unwrap();
        let reasoning = decoded.request.reasoning.unwrap();
        assert_eq!((reasoning.thinks, reasoning.effort.as_deref()), (thinks, effort), "{thinking}");
        assert!(decoded.lost.is_empty(), "{thinking}");
    }
}

#[test]
fn models_that_always_think_are_told_of_it_without_a_type() {
    let thinking = json!({"block_binding": {"prefix_mismatch_behavior": "drop_block"}});
    let decoded = with(json!({ "thinking": thinking })).unwrap();
    assert_eq!(decoded.request.reasoning, None);
    assert_eq!(losses(&decoded), ["thinking.block_binding"]);
}

#[test]
fn what_is_wrong_is_named() {
    let content = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    for (fields, param) in [
        (json!({"messages": ["hi"]}), "messages[0]"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (content(json!({"text": "x"})), "messages[0].content[0].type"),
        (content(json!({"type": "text"})), "messages[0].content[0].text"),
        (content(json!({"type": "image", "source": {"type": "url"}})), "messages[0].content[0].source.url"),
        (
            content(json!({"type": "tool_use", "id": "t", "name": "f", "input": "x"})),
            "messages[0].content[0].input",
        ),
        (json!({"system": 7}), "system"),
        (json!({"tools": [{}]}), "tools[0].name"),
        (json!({"tool_choice": {"type": "maybe"}}), "tool_choice.type"),
        (json!({"temperature": "hot"}), "temperature"),
    ] {
        let fault = with(fields.clone()).unwrap_err();
        assert_eq!((fault.param.as_deref(), fault.client_status()), (Some(param), 400), "{fields}");
    }
}

/// What is the same in all spellings: a text as a string or as a list of one block.
fn plain(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("caller");
            if fields.get("is_error") == Some(&Value::Bool(false)) {
                fields.remove("is_error");
            }
            for key in ["content", "system"] {
                if let Some(Value::String(text)) = fields.get(key) {
                    let blocks = json!([{"type": "text", "text": text}]);
                    fields.insert(key.into(), blocks);
                }
            }
            fields.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

#[test]
fn recorded_requests_come_back_as_they_were() {
    let folder = std::env::var_os("TOLLGATE_FIXTURES").map_or_else(
        || std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"),
        std::path::PathBuf::from,
    );
    let Ok(files) = std::fs::read_dir(folder.join("anthropic")) else {
        eprintln!("SKIPPED: no recorded traffic in {} (set TOLLGATE_FIXTURES)", folder.display());
        return;
    };
    let provider = dialect("anthropic", &QuirkSettings::default()).unwrap();
    let mut seen = 0;
    for file in files {
        let case: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
        let mut sent = case["request"]["body"].clone();
        if case["op"] != "messages" || !sent.is_object() || case["response"]["status"] == 400 {
            continue;
        }
        let decoded = decoded(&sent).unwrap_or_else(|fault| panic!("{}: {fault}", case["id"]));
        let model = sent["model"].as_str().unwrap();
        let target = TargetName::parse(&format!("p/{model}")).unwrap();
        let outgoing = provider.encode(&decoded.request, &target).unwrap();
        let mut again: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        // Spellings that mean the same, and what is reported as lost.
        let fields = sent.as_object_mut().unwrap();
        for loss in &decoded.lost {
            match loss.path.split_once('.') {
                None => drop(fields.remove(&*loss.path)),
                Some(_) => eprintln!("{}: {loss}", case["id"]),
            }
        }
        if let Some(format) = fields.remove("output_format") {
            fields.insert("output_config".into(), json!({ "format": format }));
        }
        if fields.get("stream") == Some(&Value::Bool(false)) {
            fields.remove("stream");
        }
        if fields.get("thinking").is_some_and(|thinking| thinking["type"] == "disabled") {
            fields.remove("thinking");
        }
        if decoded.lost.iter().any(|loss| loss.path.contains(".citations")) {
            continue;
        }
        plain(&mut sent);
        plain(&mut again);
        assert_eq!(again, sent, "{}", case["id"]);
        assert!(outgoing.lost.is_empty(), "{}: {:?}", case["id"], outgoing.lost);
        seen += 1;
    }
    eprintln!("{seen} requests came back");
}
