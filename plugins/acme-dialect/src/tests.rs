//! Questions out, answers back, whole and in pieces, and what goes wrong.

use serde_json::{Value, json};
use tollgate_plugin::testing::plugin;

use super::*;

fn acme() -> AcmeDialect {
    plugin("{}").unwrap()
}

fn encode(request: &Value) -> (Value, Vec<String>) {
    let outgoing = acme().encode(&request.to_string()).unwrap();
    (serde_json::from_slice(&outgoing.body).unwrap(), outgoing.lost)
}

#[test]
fn a_question_is_put_in_acmes_words() {
    let (body, lost) = encode(&json!({
        "model": "acme-large",
        "messages": [
            { "role": "system", "content": "be brief" },
            { "role": "user", "content": [{ "type": "text", "text": "what time " }, { "type": "text", "text": "is it?" }] },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "c1", "type": "function", "function": { "name": "clock", "arguments": "{\"zone\":\"CET\"}" } }] },
            { "role": "tool", "tool_call_id": "c1", "content": "noon" },
        ],
        "max_tokens": 50, "temperature": 0.2, "stop": "END", "stream": true,
        "tools": [{ "type": "function", "function": { "name": "clock", "description": "the time", "parameters": { "type": "object" } } }],
    }));
    assert_eq!(
        body,
        json!({
            "engine": "acme-large",
            "rules": "be brief",
            "dialogue": [
                { "speaker": "human", "say": "what time is it?" },
                { "speaker": "acme", "say": "", "uses": [{ "id": "c1", "ability": "clock", "with": { "zone": "CET" } }] },
                { "speaker": "ability", "id": "c1", "result": "noon" },
            ],
            "settings": { "most_tokens": 50, "warmth": 0.2, "halt": ["END"] },
            "abilities": [{ "ability": "clock", "purpose": "the time", "input": { "type": "object" } }],
            "live": true,
        })
    );
    assert!(lost.is_empty(), "{lost:?}");
    let outgoing = acme().encode(r#"{ "model": "m", "messages": [] }"#).unwrap();
    assert_eq!((outgoing.method.as_str(), outgoing.path.as_str()), ("POST", "/v2/generate"));
    assert!(outgoing.headers.contains(&("acme-version".into(), "2026-05-01".into())));
}

#[test]
fn what_acme_cannot_say_is_named() {
    let (_, lost) = encode(&json!({
        "model": "m",
        "messages": [
            { "role": "user", "name": "ada", "content": [{ "type": "image_url", "image_url": { "url": "data:," } }] },
            { "role": "oracle", "content": "?" },
        ],
        "logprobs": true, "user": null, "tool_choice": "required",
        "tools": [{ "type": "custom", "custom": {} }],
    }));
    assert_eq!(
        lost,
        ["logprobs", "messages[0].content[0]", "messages[0].name", "messages[1]", "tool_choice", "tools[0]"]
    );
    assert!(matches!(acme().encode("[1]"), Err(Failure::Internal(_))));
}

#[test]
fn a_whole_answer_is_read() {
    let body = json!({
        "answer_id": "a-1", "engine": "acme-large", "ended": "ability",
        "reply": { "say": "let me see", "uses": [{ "id": "u1", "ability": "clock", "with": { "zone": "CET" } }] },
        "meter": { "read": 12, "written": 5, "recalled": 3 },
    });
    let read: Value =
        serde_json::from_str(&acme().decode(200, body.to_string().as_bytes()).unwrap()).unwrap();
    assert_eq!(read["choices"][0]["message"]["content"], "let me see");
    assert_eq!(read["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], r#"{"zone":"CET"}"#);
    assert_eq!(read["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(read["usage"]["total_tokens"], 17);
    assert_eq!(read["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
    assert!(matches!(acme().decode(200, b"<html>"), Err(Failure::Internal(_))));
}

const STREAM: &str = r#"{"part":"opening","answer_id":"a-1","engine":"acme-large"}
{"part":"heartbeat"}
{"part":"say","text":"Grüß "}
{"part":"say","text":"Gott"}
{"part":"use","index":0,"id":"u1","ability":"clock"}
{"part":"use","index":0,"with_text":"{\"zone\":"}
{"part":"use","index":0,"with_text":"\"CET\"}"}
{"part":"closing","ended":"ability","meter":{"read":12,"written":5}}"#;

fn read(pieces: &mut dyn Iterator<Item = &[u8]>) -> Result<Vec<Value>, Failure> {
    let mut decoder = acme().decoder();
    let mut chunks = Vec::new();
    for piece in pieces {
        chunks.extend(decoder.feed(piece)?);
    }
    chunks.extend(decoder.end()?);
    Ok(chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect())
}

#[test]
fn a_stream_is_read_however_it_is_cut() {
    let whole = read(&mut [STREAM.as_bytes()].into_iter()).unwrap();
    let content: String = whole.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    let arguments: String = whole
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!((content.as_str(), arguments.as_str()), ("Grüß Gott", r#"{"zone":"CET"}"#));
    let last = whole.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(last["usage"]["completion_tokens"], 5);
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(read(&mut STREAM.as_bytes().chunks(size)).unwrap(), whole, "in pieces of {size}");
    }
}

#[test]
fn a_stream_that_breaks_off_is_no_answer() {
    let check = |stream: &str, expected: &str| {
        let failure = read(&mut [stream.as_bytes()].into_iter()).unwrap_err();
        assert!(format!("{failure:?}").contains(expected), "{stream}: {failure:?}");
    };
    check("", "before its closing");
    check(&STREAM[..STREAM.len() - 100], "");
    check(r#"{"part":"say","text":"x"}"#, "before its closing");
    check("{\"part\":\"say\"}\n", "cannot be read");
    check(
        "{\"part\":\"trouble\",\"kind\":\"too_busy\",\"detail\":\"come back\"}\n",
        "Unavailable(\"too_busy: come back\")",
    );
}

#[test]
fn troubles_are_told_by_kind_and_by_status() {
    let check = |status: u16, body: &str, expected: (FaultKind, Option<u64>, &str)| {
        let headers = [("Retry-After".to_owned(), "7".to_owned())];
        let fault = acme().fault(status, &headers, body.as_bytes());
        assert_eq!((fault.kind, fault.retry_after_ms, fault.message.as_str()), expected, "{status} {body}");
    };
    let too_fast = r#"{"trouble":{"kind":"too_fast","detail":"slow down","wait_s":1.5}}"#;
    check(429, too_fast, (FaultKind::RateLimited, Some(1500), "slow down"));
    check(
        400,
        r#"{"trouble":{"kind":"too_long"}}"#,
        (FaultKind::ContextTooLong, Some(7000), "Acme answers 400"),
    );
    check(502, "<html>bad gateway</html>", (FaultKind::ServerError, Some(7000), "Acme answers 502"));
    check(
        418,
        r#"{"trouble":{"kind":"teapot","detail":"short"}}"#,
        (FaultKind::BadRequest, Some(7000), "short"),
    );
    check(401, "", (FaultKind::Credentials, Some(7000), "Acme answers 401"));
}

#[test]
fn the_self_test_passes_and_a_path_must_be_one() {
    acme().self_test().unwrap();
    assert!(plugin::<AcmeDialect>(r#"{ "path": "//evil.example/x" }"#).is_err());
    assert!(plugin::<AcmeDialect>(r#"{ "path": "generate" }"#).is_err());
}
