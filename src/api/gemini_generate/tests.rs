//! Requests, answers and streams through this door and back: what goes round comes back as it was.
//!
//! The recordings are not part of this repository: `TOLLGATE_FIXTURES` names their folder.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::encode_answer;
use super::decode::{Decoded, decode};
use super::stream::GeminiEncoder;
use super::{Ask, Form};
use crate::chat::{
    Event, Finish, FinishReason, OutputFormat, Part, Role, StreamEncoder, ToolChoice, ToolKind, Usage,
};
use crate::facts::Body as _;
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::Head;
use crate::json::Body;
use crate::providers::{Provider, QuirkSettings, dialect};
use crate::target::TargetName;

fn gemini() -> Arc<dyn Provider> {
    dialect("gemini", &QuirkSettings::default()).unwrap()
}

fn cases() -> Vec<Value> {
    let folder = std::env::var_os("TOLLGATE_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let mut cases = Vec::new();
    for vendor in ["gemini", "vertex"] {
        let Ok(files) = std::fs::read_dir(folder.join(vendor)) else { continue };
        let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        cases.extend(files.map(|file| serde_json::from_slice::<Value>(&file).unwrap()));
    }
    if cases.is_empty() {
        eprintln!("SKIPPED: no recorded traffic in {} (set TOLLGATE_FIXTURES)", folder.display());
    }
    cases.retain(|case| case["op"] == "generateContent");
    cases
}

fn decoded(body: &Value) -> Result<Decoded, Fault> {
    decode(&Body::read(Bytes::from(body.to_string())).unwrap(), "m", false)
}

fn events_of(body: &[u8]) -> Vec<Event> {
    let mut decoder = gemini().stream_decoder();
    let mut events = Vec::new();
    decoder.feed(body, &mut events).unwrap();
    decoder.finish(&mut events).unwrap();
    events
}

/// What events say, however it is cut: texts joined, ids and the provider's other fields left out.
fn gist(events: &[Event]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut add = |kind: &str, text: &str| match out.last_mut() {
        Some(last) if last.starts_with(kind) && matches!(kind, "text " | "thought ") => last.push_str(text),
        _ => out.push(format!("{kind}{text}")),
    };
    for event in events {
        match event {
            Event::Text { text, .. } => add("text ", text),
            Event::Thinking { text, signature, .. } => {
                if !text.is_empty() {
                    add("thought ", text);
                }
                if let Some(signature) = signature {
                    add("signature ", signature);
                }
            }
            Event::ToolCallStart { name, signature, .. } => {
                // Calls that nobody has signed are marked.
                let signature = signature.as_deref().and_then(super::proof::read_call);
                add("call ", &format!("{name} {signature:?}"));
            }
            Event::ToolCallDelta { arguments, .. } => {
                add("arguments ", &serde_json::from_str::<Value>(arguments).unwrap().to_string());
            }
            Event::Finish { finish, .. } => add("finish ", finish.reason.word()),
            _ => {}
        }
    }
    let usage = events.iter().rev().find_map(|event| match event {
        Event::Usage(usage) => Some([usage.prompt(), usage.cached_read, usage.output, usage.reasoning]),
        _ => None,
    });
    out.push(format!("{usage:?}"));
    out
}

fn encoded(events: &[Event], array: bool) -> Vec<u8> {
    let mut encoder = GeminiEncoder::new(array, "own".into());
    let mut out = Vec::new();
    events.iter().for_each(|event| encoder.encode(event, &mut out));
    out
}

#[test]
fn recorded_answers_go_through_the_canonical_form_unharmed() {
    for case in cases().iter().filter(|case| case["response"]["status"] == 200) {
        let text = case["response"]["text"].as_str().unwrap();
        let events = if case["stream"] == true {
            events_of(text.as_bytes())
        } else {
            let answer = gemini().decode(text.as_bytes()).unwrap();
            let again = gemini().decode(&encode_answer(&answer, "own")).unwrap();
            let id = &case["id"];
            assert_eq!(gist(&again.into_events()), gist(&answer.clone().into_events()), "{id}");
            answer.into_events()
        };
        for array in [false, true] {
            let stream = encoded(&events, array);
            assert_eq!(gist(&events_of(&stream)), gist(&events), "{} array {array}", case["id"]);
            if array {
                let list: Vec<Value> = serde_json::from_slice(&stream).unwrap();
                assert!(list.last().unwrap()["candidates"][0]["finishReason"].is_string(), "{}", case["id"]);
            }
        }
    }
}

#[test]
fn recorded_requests_say_the_same_after_a_round() {
    for case in cases() {
        let body = &case["request"]["body"];
        if !body["contents"].is_array() || body["contents"].as_array().unwrap().iter().any(Value::is_string) {
            continue;
        }
        let id = &case["id"];
        if body.get("cachedContent").is_some() {
            continue;
        }
        let first = decoded(body).unwrap_or_else(|fault| panic!("{id}: {fault} {:?}", fault.param));
        if !first.request.tools.is_empty() && first.request.output != OutputFormat::Text {
            // Not before Gemini 3, whose calls would get proofs here.
            continue;
        }
        let target = TargetName::parse("gemini/gemini-2.5-flash").unwrap();
        let outgoing = gemini().encode(&first.request, &target).unwrap();
        let sent: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        let again = decoded(&sent).unwrap();
        let (mut a, mut b) = (first.request, again.request);
        // How much a model thinks is fitted to its generation.
        (a.reasoning, b.reasoning) = (None, None);
        a.sampling.n = a.sampling.n.filter(|n| *n != 1);
        for tool in a.tools.iter_mut().chain(&mut b.tools) {
            // A function without parameters has several spellings.
            let empty = tool.parameters.as_ref().is_some_and(|p| p["properties"] == json!({}));
            tool.parameters.take_if(|_| empty);
        }
        assert_eq!(a, b, "{id}");
    }
}

#[test]
fn what_lies_at_google_is_not_left_out_of_a_prompt() {
    for field in ["cachedContent", "cached_content"] {
        let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "and the second page?"}]}]});
        assert!(decoded(&body).is_ok());
        body[field] = "cachedContents/1".into();
        let fault = decoded(&body).err().expect("a refusal");
        assert_eq!((fault.param.as_deref(), fault.retry), (Some("cachedContent"), Retry::Elsewhere));
    }
}

#[test]
fn a_request_is_read_in_either_spelling() {
    let camel = json!({
        "systemInstruction": {"parts": [{"text": "be short"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "look"}, {"inlineData": {"mimeType": "image/png", "data": "A-_="}}]},
            {"role": "model", "parts": [{"text": "hm", "thought": true}, {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "sig"}, {"functionCall": {"name": "f"}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "x"}}}, {"functionResponse": {"name": "f", "response": {"error": "y"}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}}}]}, {"googleSearch": {}}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {"maxOutputTokens": 9, "topK": 50.0, "stopSequences": ["s"], "responseMimeType": "application/json",
            "responseSchema": {"type": "STRING"}, "thinkingConfig": {"thinkingBudget": 5, "includeThoughts": true}, "speechConfig": {}},
        "safetySettings": [],
    });
    let read = decoded(&camel).unwrap();
    let request = &read.request;
    let lost: Vec<&str> = read.lost.iter().map(|loss| &*loss.path).collect();
    assert_eq!(lost, ["generationConfig.speechConfig", "safetySettings"]);
    let tools: Vec<_> = request.tools.iter().map(|tool| (&*tool.name, tool.kind)).collect();
    assert_eq!(tools, [("f", ToolKind::Function), ("googleSearch", ToolKind::Server)]);
    let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
    let [Part::Thinking { .. }, Part::ToolCall { id: one, signature, .. }, Part::ToolCall { id: two, .. }] =
        request.messages[2].content.as_slice()
    else {
        panic!("{:?}", request.messages[2])
    };
    assert_eq!(signature.as_deref(), Some("sig"));
    assert_ne!(one, two);
    let results: Vec<_> = request.messages[3]
        .content
        .iter()
        .map(|part| match part {
            Part::ToolResult { id, is_error, .. } => (id, *is_error),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(results, [(one, false), (two, true)]);
    assert_eq!(request.tool_choice, Some(ToolChoice::Named("f".into())));
    assert_eq!((request.max_output_tokens, request.sampling.top_k), (Some(9), Some(50)));
    assert_eq!(request.reasoning.as_ref().unwrap().budget_tokens, Some(5));
    assert!(
        matches!(&request.output, OutputFormat::JsonSchema { schema, .. } if *schema == json!({"type": "string"}))
    );

    let snake: Value = serde_json::from_str(
        &camel
            .to_string()
            .replace("systemInstruction", "system_instruction")
            .replace("inlineData", "inline_data")
            .replace("mimeType", "mime_type")
            .replace("functionCall\"", "function_call\"")
            .replace("functionResponse", "function_response")
            .replace("functionDeclarations", "function_declarations")
            .replace("thoughtSignature", "thought_signature")
            .replace("toolConfig", "tool_config")
            .replace("functionCallingConfig", "function_calling_config")
            .replace("allowedFunctionNames", "allowed_function_names")
            .replace("generationConfig", "generation_config")
            .replace("maxOutputTokens", "max_output_tokens")
            .replace("responseSchema", "response_schema")
            .replace("thinkingBudget", "thinking_budget"),
    )
    .unwrap();
    assert_eq!(decoded(&snake).unwrap().request, *request);
}

#[test]
fn what_is_wrong_is_named() {
    for (body, param) in [
        (json!({"contents": [7]}), "contents[0]"),
        (json!({"contents": [{"role": "robot"}]}), "contents[0].role"),
        (json!({"contents": [{"parts": [{"text": 7}]}]}), "contents[0].parts[0].text"),
        (json!({"contents": [{"parts": 7}]}), "contents[0].parts"),
        (json!({"contents": [{"parts": [{"functionResponse": {"name": "f"}}]}]}), "contents[0].parts[0]"),
        (
            json!({"contents": [{"parts": []}], "generationConfig": {"temperature": "hot"}}),
            "generationConfig.temperature",
        ),
        (json!({"contents": [{"parts": []}], "tools": {}}), "tools"),
    ] {
        let fault = decoded(&body).err().unwrap_or_else(|| panic!("{body} passes"));
        assert_eq!((fault.kind, fault.param.as_deref()), (FaultKind::BadRequest, Some(param)), "{body}");
    }
}

#[test]
fn the_envelope_is_read_from_path_and_body() {
    let headers = http::HeaderMap::new();
    let shelf = crate::store::Shelf::empty();
    let ask = |uri: &str, body: &str, form| {
        let uri: http::Uri = uri.parse().unwrap();
        Ask::read(
            Body::read(Bytes::from(body.to_owned()))?,
            Head { uri: &uri, headers: &headers, shelf: &shelf },
            form,
        )
    };
    let body = r#"{"contents":[{"parts":[{"text":"hello"}]}],"generationConfig":{"maxOutputTokens":7}}"#;
    let read = ask(
        "/v1beta/models/gemini%2Fgemini-2.5-pro:generateContent?%24alt=json%3Benum-encoding%3Dint",
        body,
        Form::Whole,
    )
    .unwrap();
    assert_eq!(
        (&**read.model(), read.max_tokens(), read.text()),
        ("gemini/gemini-2.5-pro", Some(7), "hello")
    );
    assert_eq!(read.numbers(), Some("%24alt=json%3Benum-encoding%3Dint"));
    let counted = format!(r#"{{"generateContentRequest":{body}}}"#);
    assert_eq!(ask("/v1/models/m:countTokens", &counted, Form::Count).unwrap().text(), "hello");
    let lone = r#"{"contents":{"parts":{"text":"hello"}},"tools":{"functionDeclarations":[{"name":"f"}]}}"#;
    let read = ask("/v1beta/models/m:generateContent", lone, Form::Whole).unwrap();
    assert_eq!(
        (read.text(), read.tool_names()),
        ("hello", &["f".into()][..]),
        "one stands for a list of one"
    );
    assert_eq!(
        read.sent().bytes(),
        r#"{"contents":[{"parts":{"text":"hello"}}],"tools":[{"functionDeclarations":[{"name":"f"}]}]}"#
    );
    for (body, param) in [
        ("{}", "contents"),
        (r#"{"contents":[]}"#, "contents"),
        (r#"{"contents":[1],"generationConfig":{"maxOutputTokens":0}}"#, "generationConfig.maxOutputTokens"),
        (r#"{"contents":[1],"generationConfig":[]}"#, "generationConfig"),
    ] {
        let fault = ask("/v1beta/models/m:generateContent", body, Form::Whole).err().unwrap();
        assert_eq!(fault.param.as_deref(), Some(param), "{body}");
    }
}

#[test]
fn another_providers_stream_is_said_in_googles_words() {
    let start = |call, name: &str| Event::ToolCallStart {
        choice: 0,
        call,
        id: format!("c{call}"),
        name: name.into(),
        kind: ToolKind::Function,
        signature: None,
    };
    let delta = |call, text: &str| Event::ToolCallDelta { choice: 0, call, arguments: text.into() };
    let thinking = |text: &str, signature: Option<&str>| Event::Thinking {
        choice: 0,
        text: text.into(),
        signature: signature.map(Into::into),
        redacted: None,
    };
    let events = [
        Event::Start { id: "id".into(), model: "m".into(), created: 0 },
        Event::ChoiceStart { choice: 0, role: Role::Assistant },
        thinking("hm", None),
        thinking("", Some("anthropics")),
        Event::Text { choice: 0, text: "a".into() },
        start(0, "f"),
        delta(0, "{\"x\""),
        delta(0, ":1}"),
        start(1, "g"),
        Event::Finish { choice: 0, finish: Finish::from(FinishReason::ToolCalls) },
        Event::Usage(Usage { input: 3, cached_read: 2, output: 9, reasoning: 4, ..Usage::default() }),
        Event::End,
    ];
    let list: Vec<Value> = serde_json::from_slice(&encoded(&events, true)).unwrap();
    let parts: Vec<&Value> =
        list.iter().map(|document| &document["candidates"][0]["content"]["parts"][0]).collect();
    let proof = parts[1]["thoughtSignature"].as_str().unwrap();
    assert_eq!(super::proof::read(proof), Some(super::proof::Proof::Signature("anthropics".into())));
    assert_eq!(*parts[0], json!({"text": "hm", "thought": true}));
    assert_eq!(*parts[2], json!({"text": "a"}));
    let unsigned = super::proof::unsigned();
    assert_eq!(
        *parts[3],
        json!({"functionCall": {"id": "c0", "name": "f", "args": {"x": 1}}, "thoughtSignature": unsigned})
    );
    assert_eq!(*parts[4], json!({"functionCall": {"id": "c1", "name": "g", "args": {}}}));
    let last = list.last().unwrap();
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    assert_eq!(
        last["usageMetadata"],
        json!({"promptTokenCount": 5, "candidatesTokenCount": 5, "totalTokenCount": 14,
               "cachedContentTokenCount": 2, "thoughtsTokenCount": 4})
    );

    // And back with the next request: thinking whole again, its proof as it was.
    let contents = json!([{"role": "model", "parts": parts[..2]}]);
    let read = decoded(&json!({ "contents": contents })).unwrap();
    let whole = Part::Thinking { text: "hm".into(), signature: Some("anthropics".into()), redacted: None };
    assert_eq!(read.request.messages[0].content, [whole]);
}

#[test]
fn a_stream_that_breaks_off_never_looks_complete() {
    let events = [Event::Text { choice: 0, text: "a".into() }];
    let (mut encoder, mut broken) = (GeminiEncoder::new(true, "own".into()), Vec::new());
    events.iter().for_each(|event| encoder.encode(event, &mut broken));
    let fault = Fault::new(FaultKind::Truncated, "cut");
    broken.extend_from_slice(&encoder.fault(&fault));
    let list: Vec<Value> = serde_json::from_slice(&broken).unwrap();
    assert_eq!(
        (&list[1]["error"]["code"], &list[1]["error"]["status"]),
        (&json!(502), &json!("UNAVAILABLE"))
    );
    assert!(!String::from_utf8(broken).unwrap().contains("finishReason"));
}

#[test]
fn the_service_that_is_asked_for_is_told_in_the_words_of_others() {
    for (said, expected) in [("flex", "flex"), ("PRIORITY", "priority"), ("standard", "default")] {
        let read = decoded(&json!({"contents": [{"parts": [{"text": "hi"}]}], "serviceTier": said})).unwrap();
        assert_eq!((&read.request.rest["service_tier"], read.lost.len()), (&json!(expected), 0));
    }
}

#[test]
fn a_streams_own_fields_are_no_less_told_than_an_answers() {
    let stream = b"data: {\"promptFeedback\": {\"safetyRatings\": [1]}, \"responseId\": \"r\"}\n\n\
        data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"a\"}]}, \"finishReason\": \"STOP\"}], \"modelStatus\": {}}\n\n";
    let events = events_of(stream);
    let told: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Other { choice: None, fields } => Some(fields.keys().cloned().collect::<Vec<_>>()),
            _ => None,
        })
        .collect();
    assert_eq!(told, [["promptFeedback"]]);
}

#[test]
fn films_are_no_documents() {
    for (part, url) in [
        (json!({"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}}), "data:video/mp4;base64,AAAA"),
        (json!({"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/a.mp4"}}), "gs://b/a.mp4"),
    ] {
        let read = decoded(&json!({"contents": [{"role": "user", "parts": [part]}]})).unwrap();
        let film = Part::Other(json!({"type": "video_url", "video_url": {"url": url}}));
        assert_eq!(read.request.messages[0].content, std::slice::from_ref(&film));
        for (preset, refused) in
            [("openai", true), ("anthropic", true), ("openrouter", false), ("gemini", false)]
        {
            let preset = crate::providers::presets::find(preset).unwrap();
            let provider = dialect(&preset.dialect, &preset.quirks).unwrap();
            let target = TargetName::parse("p/m").unwrap();
            assert_eq!(provider.encode(&read.request, &target).is_err(), refused, "{url} {}", preset.dialect);
        }
    }
}
