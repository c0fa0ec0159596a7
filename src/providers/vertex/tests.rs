//! Which request goes where.

use serde_json::{Value, json};

use super::*;
use crate::providers::ClientBody;

fn vertex() -> Vertex {
    let place = "/projects/p/locations/us-east5".to_owned();
    Vertex::new(&QuirkSettings::default(), &Scope { place, bare: true })
}

fn target(model: &str) -> TargetName {
    TargetName { provider: "vertex".into(), model: model.into() }
}

fn body(value: &Value) -> ClientBody {
    ClientBody::read(value.to_string().into()).unwrap()
}

fn sent(outgoing: &Outgoing) -> Value {
    serde_json::from_slice(&outgoing.body.concat()).unwrap()
}

#[test]
fn every_model_has_its_dialect_and_its_path() {
    let (beta, stable) = ("/v1beta1/projects/p/locations/us-east5", "/v1/projects/p/locations/us-east5");
    for (model, dialect, path) in [
        (
            "gemini-2.5-pro",
            Dialect::Gemini,
            format!("{beta}/publishers/google/models/gemini-2.5-pro:generateContent"),
        ),
        (
            "google/gemini-2.5-pro",
            Dialect::Gemini,
            format!("{beta}/publishers/google/models/gemini-2.5-pro:generateContent"),
        ),
        (
            "publishers/google/models/gemini-3-pro",
            Dialect::Gemini,
            format!("{beta}/publishers/google/models/gemini-3-pro:generateContent"),
        ),
        ("endpoints/123", Dialect::Gemini, format!("{beta}/endpoints/123:generateContent")),
        (
            "claude-sonnet-4-5@20250929",
            Dialect::Anthropic,
            format!("{stable}/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict"),
        ),
        (
            "publishers/anthropic/models/claude-opus-4-1",
            Dialect::Anthropic,
            format!("{stable}/publishers/anthropic/models/claude-opus-4-1:rawPredict"),
        ),
        (
            "mistral-medium-3",
            Dialect::OpenAi,
            format!("{stable}/publishers/mistralai/models/mistral-medium-3:rawPredict"),
        ),
        (
            "meta/llama-4-scout-17b-16e-instruct-maas",
            Dialect::OpenAi,
            format!("{beta}/endpoints/openapi/chat/completions"),
        ),
        ("../../x", Dialect::OpenAi, format!("{beta}/endpoints/openapi/chat/completions")),
    ] {
        let vertex = vertex();
        let wire = vertex.speaker(model).unwrap();
        assert_eq!(wire.dialect(), dialect, "{model}");
        let ask = body(&json!({"model": "m", "messages": [], "contents": []}));
        assert_eq!(wire.relay().unwrap().splice(&ask, &target(model)).unwrap().path, path, "{model}");
    }
}

#[test]
fn an_api_key_needs_no_project() {
    let vertex = Vertex::new(&QuirkSettings::default(), &Scope { place: String::new(), bare: true });
    let wire = vertex.speaker("gemini-2.5-flash").unwrap();
    let outgoing = wire.relay().unwrap().splice(&body(&json!({})), &target("gemini-2.5-flash")).unwrap();
    assert_eq!(outgoing.path, "/v1beta1/publishers/google/models/gemini-2.5-flash:generateContent");
}

#[test]
fn claude_is_named_in_the_path_and_the_version_in_the_body() {
    let vertex = vertex();
    let claude = vertex.speaker("claude-x").unwrap();
    let messages = json!([{"role": "user", "content": "hi"}]);
    let ask = body(&json!({"model": "fast", "max_tokens": 8, "messages": messages, "stream": true}));
    let outgoing = claude.relay().unwrap().splice(&ask, &target("claude-x")).unwrap();
    assert!(outgoing.path.ends_with("/claude-x:streamRawPredict"), "{}", outgoing.path);
    let expected = json!({"max_tokens": 8, "messages": messages, "stream": true, "anthropic_version": "vertex-2023-10-16"});
    assert_eq!(sent(&outgoing), expected);
    let count =
        claude.count_tokens().unwrap().splice(&ask, &target("publishers/anthropic/models/claude-x")).unwrap();
    assert!(count.path.ends_with("/publishers/anthropic/models/count-tokens:rawPredict"), "{}", count.path);
    assert_eq!(sent(&count)["model"], "claude-x");

    let request = Request { max_output_tokens: Some(9), stream: true, ..Request::default() };
    let encoded = claude.encode(&request, &target("claude-x")).unwrap();
    assert!(encoded.path.ends_with("/claude-x:streamRawPredict"), "{}", encoded.path);
    assert_eq!(
        (&sent(&encoded)["model"], &sent(&encoded)["anthropic_version"]),
        (&Value::Null, &json!("vertex-2023-10-16"))
    );
}

#[test]
fn google_refuses_in_its_own_form_before_claude_is_asked() {
    use crate::fault::FaultKind as K;
    let vertex = vertex();
    let claude = vertex.speaker("claude-x").unwrap();
    for (status, text, kind) in [
        (
            429,
            r#"[{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED"}}]"#,
            K::RateLimited,
        ),
        (403, r#"{"error":{"code":403,"message":"denied","status":"PERMISSION_DENIED"}}"#, K::Credentials),
        (404, r#"{"error":{"code":404,"message":"no such model","status":"NOT_FOUND"}}"#, K::NotFound),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            K::Overloaded,
        ),
        (400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"bad"}}"#, K::BadRequest),
        (503, "<html>", K::Overloaded),
    ] {
        assert_eq!(claude.fault(status, &HeaderMap::new(), text.as_bytes()).kind, kind, "{text}");
    }
}

#[test]
fn older_models_know_no_ids_of_calls() {
    use crate::chat::{Message, Part, Role, ToolKind};
    let message = |role, part| Message { role, content: vec![part], name: None, rest: Default::default() };
    let call = Part::ToolCall {
        id: "c1".into(),
        name: "f".into(),
        arguments: "{}".into(),
        kind: ToolKind::Function,
        signature: None,
        cache: None,
    };
    let result =
        Part::ToolResult { id: "c1".into(), content: vec![Part::text("ok")], is_error: false, cache: None };
    let messages = vec![
        message(Role::User, Part::text("hi")),
        message(Role::Assistant, call),
        message(Role::Tool, result),
    ];
    let request = Request { messages, ..Request::default() };
    for (model, ids) in [("gemini-2.5-flash", false), ("gemini-3-flash-preview", true)] {
        let vertex = vertex();
        let sent = sent(&vertex.encode(&request, &target(model)).unwrap());
        let has = |at: usize, kind: &str| sent["contents"][at]["parts"][0][kind].get("id").is_some();
        assert_eq!((has(1, "functionCall"), has(2, "functionResponse")), (ids, ids), "{model}: {sent}");
    }
}
