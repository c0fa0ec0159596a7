//! OpenAI's Responses on both sides: recorded traffic through the door to the provider, and the translation's own
//! requests read again.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::acts;
use crate::client::post;
use crate::gateway;
use crate::upstream::Upstream;

#[tokio::test]
async fn recorded_responses_reach_the_client_as_they_came() {
    let root =
        std::env::var_os("TOLLGATE_FIXTURES").map_or_else(|| "../shared/fixtures".into(), PathBuf::from);
    let mut recorded = Vec::new();
    for vendor in ["openai", "xai"] {
        let Ok(files) = std::fs::read_dir(root.join(vendor)) else { continue };
        for file in files.flatten() {
            let case: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
            if case["op"] == "responses" {
                recorded.push((vendor, case));
            }
        }
    }
    if recorded.is_empty() {
        eprintln!("SKIPPED: no recordings at {} (set TOLLGATE_FIXTURES)", root.display());
        return;
    }
    for (vendor, case) in recorded {
        let answer = case["response"].clone();
        let (status, said) =
            (answer["status"].as_u64().unwrap(), answer["text"].as_str().unwrap().to_owned());
        let streams = case["stream"] == true && status == 200;
        let script = said.clone();
        let upstream = Upstream::start(move |_| match streams {
            true => acts::stream(&script, 211),
            false => {
                let json = [("content-type", "application/json")];
                acts::answer(u16::try_from(status).unwrap(), &json, &script)
            }
        });
        let gateway = gateway::start(&format!(
            "retries: {{ retries: 0 }}\nproviders:\n  it: {{ preset: {vendor}, base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n",
            upstream.url()
        ));
        let mut body = case["request"]["body"].clone();
        if !body.is_object() {
            body = json!({"input": "x"});
        }
        let model = body["model"].as_str().unwrap_or("m").to_owned();
        body["model"] = format!("it/{model}").into();
        body["stream"] = case["stream"].clone();
        // What an earlier response said, only its provider knows.
        body.as_object_mut().unwrap().remove("previous_response_id");
        let reply = post(gateway.clients, "/v1/responses", &body).await;
        let id = &case["id"];
        let text = String::from_utf8_lossy(&reply.body);
        match status {
            200 => assert_eq!((u64::from(reply.status), text.trim()), (200, said.trim()), "{id}"),
            _ if status == 401 || said.contains("API key") => assert_eq!(reply.status, 502, "{id}"),
            _ => assert_eq!(u64::from(reply.status), status, "{id}"),
        }
        let heard = upstream.heard().pop().unwrap();
        assert_eq!(heard.path, "/v1/responses", "{id}");
        body["model"] = model.into();
        assert_eq!(heard.json(), body, "{id}");
    }
}

/// What a chat says goes out in this dialect; its own door reads it and says the same chat to another provider.
#[tokio::test]
async fn the_door_reads_what_the_provider_writes() {
    let upstream = Upstream::start(|heard| match heard.path.as_str() {
        "/v1/responses" => acts::whole(
            200,
            &json!({"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]}]}),
        ),
        _ => acts::says("so"),
    });
    let url = upstream.url();
    let gateway = gateway::start(&format!(
        "providers:\n  wire: {{ dialect: openai-responses, base_url: \"{url}\", keys: [ env:TEST_KEY ] }}\n{}",
        gateway::provider("chat", &url)
    ));
    let call = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{\"a\":1}"}});
    let asked = json!({
        "model": "wire/gpt-4.1",
        "messages": [
            {"role": "system", "content": "be short"},
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "auto"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
                {"type": "file", "file": {"file_id": "file-1"}}]},
            {"role": "assistant", "content": "let me", "tool_calls": [call("c1", "f"), call("c2", "f")]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            {"role": "tool", "tool_call_id": "c2", "content": "rain"},
            {"role": "user", "content": "go on"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d",
            "parameters": {"type": "object", "additionalProperties": false}, "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": false,
        "response_format": {"type": "json_schema", "json_schema":
            {"name": "s", "schema": {"type": "object", "additionalProperties": false}, "strict": true}},
        "max_completion_tokens": 64,
        "temperature": 0.5,
        "user": "u",
    });
    assert_eq!(post(gateway.clients, "/v1/chat/completions", &asked).await.status, 200);
    let mut written = upstream.heard().pop().unwrap().json();
    written["model"] = "chat/gpt-4.1".into();
    let reply = post(gateway.clients, "/v1/responses", &written).await;
    assert_eq!(reply.status, 200, "{}", reply.json());
    let read = upstream.heard().pop().unwrap().json();
    for (field, value) in asked.as_object().unwrap().iter().filter(|(field, _)| *field != "model") {
        assert_eq!(&read[field], value, "{field}");
    }
}
