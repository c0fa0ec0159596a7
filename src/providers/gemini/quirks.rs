//! Habits of Google's API, each shown by the smallest answer that has it.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Gemini;
use super::conformance::{decoded, said_in};
use crate::chat::{
    Event, FinishReason, Media, Message, Object, OutputFormat, Part, Request, Role, Tool, ToolChoice,
    ToolKind, proof,
};
use crate::fault::{FaultKind, Then};
use crate::providers::{Provider, QuirkSettings, Relay};
use crate::target::TargetName;

fn gemini() -> Gemini {
    Gemini::new(QuirkSettings::default())
}

fn stream(documents: &[Value]) -> String {
    documents.iter().map(|document| format!("data: {document}\r\n\r\n")).collect()
}

fn candidate(parts: Value, finish: Option<&str>) -> Value {
    json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": finish}], "responseId": "r"})
}

#[test]
fn arguments_that_come_in_pieces_become_one_object() {
    let call = |call: Value| candidate(json!([{ "functionCall": call }]), None);
    let body = stream(&[
        call(json!({"name": "f", "willContinue": true})),
        call(
            json!({"partialArgs": [{"jsonPath": "$.a", "stringValue": "x", "willContinue": true}], "willContinue": true}),
        ),
        call(json!({"partialArgs": [{"jsonPath": "$.a", "stringValue": "y"}], "willContinue": true})),
        call(json!({})),
        call(json!({"name": "g"})),
        candidate(json!([{"text": ""}]), Some("STOP")),
    ]);
    for at in 0..body.len() {
        let (a, b) = body.as_bytes().split_at(at);
        let events = decoded(&[a, b]).unwrap();
        let deltas: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::ToolCallDelta { call, arguments, .. } => Some((*call, arguments.as_str())),
                _ => None,
            })
            .collect();
        assert_eq!(deltas, [(0, r#"{"a":"xy"}"#), (1, "{}")]);
        assert!(matches!(
            events.iter().rev().nth(1),
            Some(Event::Finish { finish, .. }) if finish.reason == FinishReason::ToolCalls
        ));
    }
}

#[test]
fn a_blocked_prompt_is_an_answer_without_content() {
    let body = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4}});
    let answer = gemini().decode(body.to_string().as_bytes()).unwrap();
    let finish = answer.choices[0].finish.clone().unwrap();
    assert_eq!(
        (finish.reason, finish.raw.as_deref()),
        (FinishReason::ContentFilter, Some("PROHIBITED_CONTENT"))
    );
    assert_eq!(answer.usage.unwrap().input, 4);
    let events = decoded(&[stream(&[body]).as_bytes()]).unwrap();
    assert_eq!(said_in(&events), said_in(&answer.into_events()));
}

#[test]
fn an_error_inside_a_stream_is_a_fault() {
    for body in [
        stream(&[
            candidate(json!([{"text": "a"}]), None),
            json!({"error": {"code": 503, "message": "overloaded"}}),
        ]),
        r#"[{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}]"#.to_owned(),
        r#"{"error": {"message": "overloaded", "status": "UNAVAILABLE"}}"#.to_owned(),
    ] {
        assert_eq!(decoded(&[body.as_bytes()]).unwrap_err().kind, FaultKind::Overloaded, "{body}");
    }
}

#[test]
fn the_last_usage_counts_as_a_whole() {
    let mut first = candidate(json!([{"text": "a"}]), None);
    first["usageMetadata"] =
        json!({"promptTokenCount": 5, "candidatesTokenCount": 21, "totalTokenCount": 26});
    let mut last = candidate(json!([]), Some("STOP"));
    last["usageMetadata"] = json!({"promptTokenCount": 5, "thoughtsTokenCount": 7, "totalTokenCount": 12});
    let events = decoded(&[stream(&[first, last]).as_bytes()]).unwrap();
    let usage = events.iter().rev().find_map(|event| match event {
        Event::Usage(usage) => Some(*usage),
        _ => None,
    });
    assert_eq!(usage.map(|u| (u.input, u.output, u.reasoning)), Some((5, 7, 7)));
}

#[test]
fn garbage_never_panics() {
    for body in [
        "",
        " ",
        "[",
        "[]",
        "{}",
        "null",
        "[1]",
        "data: 1\n\n",
        "data: {\"candidates\":[1,{}]}\n\n",
        "\u{feff}[{}]",
        "x",
    ] {
        assert!(decoded(&[body.as_bytes()]).is_err(), "{body}");
        assert!(gemini().decode(body.as_bytes()).is_err(), "{body}");
    }
    let odd = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":1,"args":[2]}},{"text":null}]},"index":-1,"finishReason":"STOP"}]}"#;
    gemini().decode(odd.as_bytes()).unwrap();
}

fn relayed(body: &str, whole: bool) -> Result<String, FaultKind> {
    let provider = gemini();
    let (mut relay, mut frames) = (provider.stream(true), Vec::new());
    let body = Bytes::from(body.to_owned());
    let heard = if whole { relay.whole(body, &mut frames) } else { relay.feed(body, &mut frames) };
    heard.and_then(|()| relay.finish(&mut frames)).map_err(|fault| fault.kind)?;
    Ok(String::from_utf8(frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect()).unwrap())
}

#[test]
fn a_whole_answer_says_something_and_why_it_ended() {
    use FaultKind as K;
    let of = |candidate: Value| json!({ "candidates": [candidate], "responseId": "r" });
    let said = json!({"parts": [{"text": "a"}], "role": "model"});
    for (body, expected) in [
        (of(json!({"content": said, "finishReason": "STOP"})), None),
        (of(json!({"content": said, "finishReason": 1})), None),
        (of(json!({"content": {"role": "model"}, "finishReason": "MAX_TOKENS"})), None),
        (of(json!({"content": null, "finishReason": "SAFETY"})), None),
        (of(json!({"finishReason": "STOP"})), None),
        (of(json!({"content": said})), Some(K::Truncated)),
        (of(json!({"content": said, "finishReason": "FINISH_REASON_UNSPECIFIED"})), Some(K::Truncated)),
        (
            json!({"candidates": [{"content": said, "finishReason": "STOP"}, {"content": said, "index": 1}]}),
            Some(K::Truncated),
        ),
        (of(json!({})), Some(K::Malformed)),
        (of(json!({"index": 0})), Some(K::Malformed)),
        (of(json!({"content": null})), Some(K::Malformed)),
        (of(json!({"content": "hello", "finishReason": "STOP"})), Some(K::Malformed)),
        (of(json!({"content": {"parts": 42}, "finishReason": "STOP"})), Some(K::Malformed)),
        (of(json!({"content": {"parts": {"a": 1}}, "finishReason": "STOP"})), Some(K::Malformed)),
        (of(json!({"content": {"parts": [1]}, "finishReason": "STOP"})), Some(K::Malformed)),
        (of(json!({"content": {"parts": [{"text": 3}]}, "finishReason": "STOP"})), Some(K::Malformed)),
        (json!({"candidates": ["oops"]}), Some(K::Malformed)),
        (json!({"candidates": "oops"}), Some(K::Malformed)),
        (json!({"usageMetadata": {"promptTokenCount": 1}}), Some(K::Malformed)),
    ] {
        let text = body.to_string();
        let decoded = gemini().decode(text.as_bytes()).err().map(|fault| fault.kind);
        assert_eq!(decoded, expected, "decoded: {text}");
        let whole = Relay::whole(&gemini(), Bytes::from(text.clone())).err().map(|fault| fault.kind);
        assert_eq!(whole, expected, "relayed: {text}");
        assert_eq!(relayed(&text, true).is_err(), expected.is_some(), "as a stream: {text}");
        let stream = super::conformance::decoded(&[format!("data: {text}\r\n\r\n").as_bytes()]);
        assert_eq!(stream.is_err(), expected.is_some(), "a decoded stream: {text}");
    }
}

#[test]
fn documents_of_any_form_reach_a_client_of_events_as_events() {
    let (one, two) = (candidate(json!([{"text": "a\nb"}]), None), candidate(json!([]), Some("STOP")));
    let pretty = serde_json::to_string_pretty(&[&one, &two]).unwrap();
    for (body, expected) in [
        (two.to_string(), vec![&two]),
        (serde_json::to_string_pretty(&two).unwrap().replace('\n', "\r\n"), vec![&two]),
        (format!("[{one},\r\n{two}\r\n]"), vec![&one, &two]),
        (pretty, vec![&one, &two]),
    ] {
        // By its content type it is JSON, or it pretends to be events.
        for whole in [true, false] {
            let text = relayed(&body, whole).unwrap();
            let events: Vec<Value> = text
                .split_terminator("\n\n")
                .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
                .collect();
            assert_eq!(events.iter().collect::<Vec<_>>(), expected, "{body}");
        }
    }
    assert_eq!(relayed("<html>", true).unwrap_err(), FaultKind::Malformed);
    assert_eq!(relayed("{\"candidates\":[", true).unwrap_err(), FaultKind::Truncated);
}

fn encoded(asked: &Request, model: &str) -> (String, Value, Vec<String>) {
    let target = TargetName { provider: "gemini".into(), model: model.into() };
    let outgoing = gemini().encode(asked, &target).unwrap();
    let body = serde_json::from_slice(&outgoing.body.concat()).unwrap();
    (outgoing.path, body, outgoing.lost.iter().map(ToString::to_string).collect())
}

fn function(name: &str) -> Tool {
    Tool {
        name: name.into(),
        description: None,
        parameters: None,
        strict: None,
        kind: ToolKind::Function,
        cache: None,
        rest: Object::new(),
    }
}

fn message(role: Role, content: Vec<Part>) -> Message {
    Message { role, content, name: None, rest: Object::new() }
}

fn call(id: &str, signature: Option<&str>) -> Part {
    Part::ToolCall {
        id: id.into(),
        name: "weather".into(),
        arguments: r#"{"city":"Rome"}"#.into(),
        kind: ToolKind::Function,
        signature: signature.map(Into::into),
        cache: None,
    }
}

fn result(id: &str, content: Vec<Part>, is_error: bool) -> Part {
    Part::ToolResult { id: id.into(), content, is_error, cache: None }
}

#[test]
fn a_conversation_with_tools_is_said_in_googles_words() {
    let picture = Part::Image {
        media: Media::Inline { mime: "image/png".into(), base64: "AA==".into() },
        detail: None,
        cache: None,
    };
    let mut asked = Request {
        stream: true,
        messages: vec![
            message(Role::System, vec![Part::text("be short")]),
            message(Role::User, vec![Part::text("look"), picture.clone()]),
            message(Role::Assistant, vec![call("c1", Some("sig")), call("c2", None)]),
            message(Role::Tool, vec![result("c1", vec![Part::text("sunny")], false)]),
            message(Role::Tool, vec![result("c2", vec![Part::text(r#"{"t":1}"#), picture], true)]),
        ],
        tools: vec![Tool {
            description: Some("d".into()),
            parameters: Some(json!({"type": "object", "properties": {"city": {"type": "string"}}})),
            ..function("weather")
        }],
        tool_choice: Some(ToolChoice::Named("weather".into())),
        max_output_tokens: Some(9),
        ..Request::default()
    };
    asked.sampling.stop = vec!["x".into()];
    asked.sampling.n = Some(2);
    let (path, body, lost) = encoded(&asked, "gemini-2.0-flash");
    assert_eq!(path, "/models/gemini-2.0-flash:streamGenerateContent?alt=sse");
    assert_eq!(
        body,
        json!({
            "systemInstruction": {"parts": [{"text": "be short"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "look"}, {"inlineData": {"mimeType": "image/png", "data": "AA=="}}]},
                {"role": "model", "parts": [
                    {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Rome"}}, "thoughtSignature": "sig"},
                    {"functionCall": {"id": "c2", "name": "weather", "args": {"city": "Rome"}}}]},
                {"role": "user", "parts": [
                    {"functionResponse": {"id": "c1", "name": "weather", "response": {"output": "sunny"}}},
                    {"functionResponse": {"id": "c2", "name": "weather", "response": {"error": "{\"t\":1}"}}},
                    {"inlineData": {"mimeType": "image/png", "data": "AA=="}}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "weather", "description": "d",
                "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
            "generationConfig": {"candidateCount": 2, "maxOutputTokens": 9, "stopSequences": ["x"]},
        })
    );
    assert_eq!(lost, Vec::<String>::new());
}

#[test]
fn proofs_go_back_to_the_part_that_they_prove() {
    let thinking = |text: &str, signature: &str| Part::Thinking {
        text: text.into(),
        signature: Some(signature.into()),
        redacted: None,
    };
    let own = proof::of_gemini("sig");
    for (parts, expected) in [
        (vec![Part::text("a"), thinking("", &own)], json!([{"text": "a", "thoughtSignature": "sig"}])),
        // OpenAI's dialect knows thinking only before the text.
        (vec![thinking("", &own), Part::text("a")], json!([{"text": "a", "thoughtSignature": "sig"}])),
        (vec![thinking("", &own)], json!([{"text": "", "thoughtSignature": "sig"}])),
        (vec![thinking("hm", "anthropics")], json!([{"text": "hm", "thought": true}])),
        (
            vec![thinking("hm", &own), Part::text("a")],
            json!([{"text": "hm", "thought": true, "thoughtSignature": "sig"}, {"text": "a"}]),
        ),
        // A call of another provider's model has no proof; Gemini 3 takes none of its calls without.
        (
            vec![call("c", None), call("d", None)],
            json!([
            {"functionCall": {"id": "c", "name": "weather", "args": {"city": "Rome"}}, "thoughtSignature": "skip_thought_signature_validator"},
            {"functionCall": {"id": "d", "name": "weather", "args": {"city": "Rome"}}}]),
        ),
    ] {
        let asked = Request { messages: vec![message(Role::Assistant, parts.clone())], ..Request::default() };
        let (_, body, _) = encoded(&asked, "gemini-3-flash-preview");
        assert_eq!(body["contents"][0]["parts"], expected, "{parts:?}");
    }
}

#[test]
fn what_google_cannot_say_is_reported() {
    let mut asked = Request {
        messages: vec![
            message(Role::User, vec![Part::text("hi")]),
            message(Role::Assistant, vec![Part::Other(json!({"type": "server_tool_use"}))]),
        ],
        output: OutputFormat::JsonSchema {
            name: "n".into(),
            description: None,
            schema: json!({"type": "object", "patternProperties": {}}),
            strict: Some(true),
        },
        user: Some("u".into()),
        ..Request::default()
    };
    asked.sampling.logit_bias = json!({"1": 2}).as_object().cloned();
    asked.rest.insert("verbosity".into(), "low".into());
    asked.rest.insert("safetySettings".into(), json!([]));
    let (_, body, lost) = encoded(&asked, "gemini-2.0-flash");
    assert_eq!(body["safetySettings"], json!([]));
    assert_eq!(body["generationConfig"]["responseSchema"], json!({"type": "OBJECT"}));
    assert_eq!(
        lost,
        [
            "messages[1].content[0] (part of another provider's dialect dropped)",
            "logit_bias (dropped)",
            "response_format.json_schema.schema.patternProperties (dropped)",
            "user (dropped)",
            "verbosity (dropped)",
        ]
    );
}

fn search() -> Tool {
    Tool {
        kind: ToolKind::Server,
        rest: json!({"googleSearch": {}}).as_object().unwrap().clone(),
        ..function("googleSearch")
    }
}

#[test]
fn googles_own_tools_beside_functions_may_show_their_calls() {
    let own = search();
    let shown = json!({"includeServerSideToolInvocations": true});
    let any = json!({"functionCallingConfig": {"mode": "ANY"}, "includeServerSideToolInvocations": true});
    let (gemini, vertex) = (gemini(), Gemini::on_vertex(QuirkSettings::default()));
    for (provider, tools, choice, model, expected) in [
        (&gemini, vec![function("f"), own.clone()], None, "gemini-3-flash-preview", shown.clone()),
        (&gemini, vec![function("f"), own.clone()], Some(ToolChoice::Auto), "gemini-3.6-flash", shown),
        (&gemini, vec![function("f"), own.clone()], Some(ToolChoice::Required), "gemini-3-pro", any),
        (&gemini, vec![function("f"), own.clone()], None, "gemini-2.5-pro", Value::Null),
        (&gemini, vec![own.clone()], None, "gemini-3-pro", Value::Null),
        (&gemini, vec![function("f")], None, "gemini-3-pro", Value::Null),
        (&vertex, vec![function("f"), own], None, "gemini-3-pro", Value::Null),
    ] {
        let messages = vec![message(Role::User, vec![Part::text("hi")])];
        let asked = Request { messages, tools, tool_choice: choice, ..Request::default() };
        let outgoing = provider.encode(&asked, &TargetName::parse(&format!("g/{model}")).unwrap()).unwrap();
        let body: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        assert_eq!(
            body.get("toolConfig").cloned().unwrap_or_default(),
            expected,
            "{model}: {:?}",
            asked.tools
        );
    }
}

#[test]
fn nothing_is_chosen_among_no_functions() {
    let own = search();
    let dropped = &["tool_choice (dropped: there is no function to choose)"][..];
    for (tools, choice, expected) in [
        (vec![own.clone()], ToolChoice::Auto, &[][..]),
        (vec![own.clone()], ToolChoice::Required, dropped),
        (vec![own], ToolChoice::None, dropped),
        (vec![], ToolChoice::Auto, &[]),
        (vec![], ToolChoice::None, &[]),
        (vec![], ToolChoice::Required, dropped),
    ] {
        let messages = vec![message(Role::User, vec![Part::text("hi")])];
        let asked = Request { messages, tools, tool_choice: Some(choice), ..Request::default() };
        let (_, body, lost) = encoded(&asked, "gemini-2.5-flash");
        assert_eq!(body.get("toolConfig"), None, "{:?} of {:?}", asked.tool_choice, asked.tools);
        assert_eq!(lost, expected, "{:?} of {:?}", asked.tool_choice, asked.tools);
    }
}

#[test]
fn what_a_user_shows_is_told_or_refused() {
    let asks = |part: Value| Request {
        messages: vec![message(Role::User, vec![Part::Other(part)])],
        ..Request::default()
    };
    let film = "https://www.youtube.com/watch?v=1";
    for (part, expected) in [
        (
            json!({"type": "video_url", "video_url": {"url": film}}),
            json!({"fileData": {"mimeType": "video/mp4", "fileUri": film}}),
        ),
        (
            json!({"type": "video_url", "video_url": "https://x/v.webm"}),
            json!({"fileData": {"mimeType": "video/webm", "fileUri": "https://x/v.webm"}}),
        ),
        (
            json!({"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}),
            json!({"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}}),
        ),
        (json!({"executableCode": {"code": "1"}}), json!({"executableCode": {"code": "1"}})),
    ] {
        let (_, body, lost) = encoded(&asks(part), "gemini-2.5-pro");
        assert_eq!((&body["contents"][0]["parts"][0], lost.len()), (&expected, 0));
    }
    let target = TargetName::parse("gemini/gemini-2.5-pro").unwrap();
    let fault = gemini().encode(&asks(json!({"type": "container_upload"})), &target).unwrap_err();
    assert_eq!((fault.param.as_deref(), fault.then()), (Some("messages[0].content[0]"), Then::NextTarget));
}

#[test]
fn a_result_without_its_call_is_refused() {
    let asked = Request {
        messages: vec![message(Role::Tool, vec![result("c1", vec![], false)])],
        ..Request::default()
    };
    let fault = gemini().encode(&asked, &TargetName::parse("gemini/gemini-2.5-pro").unwrap()).unwrap_err();
    assert_eq!(fault.param.as_deref(), Some("messages[0].content[0]"));
}

#[test]
fn a_character_that_was_cut_in_halves_is_one_again() {
    let piece = |text: &str| {
        format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}]}}}}]}}\n\n")
    };
    let sent = [piece("a\\ud83d"), piece("\\ude00b")].concat();
    let (mut decoder, mut events) = (gemini().stream_decoder(), Vec::new());
    decoder.feed(sent.as_bytes(), &mut events).unwrap();
    let text: String = events
        .iter()
        .filter_map(|event| match event {
            Event::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(text, "a😀b");
    let provider = gemini();
    let (mut relay, mut frames) = (provider.relay().unwrap().stream(true), Vec::new());
    relay.feed(sent.clone().into(), &mut frames).unwrap();
    let passed: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
    assert_eq!(String::from_utf8_lossy(&passed), sent, "a client of the dialect gets what was sent");
}

#[test]
fn bytes_that_are_no_utf8_are_replaced_and_the_stream_lives() {
    let piece = |text: &[u8]| {
        let [before, behind] =
            [&b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\""[..], b"\"}]}}]}\n\n"];
        [before, text, behind].concat()
    };
    let sent = [piece(b"a\xff"), piece(b"b")].concat();
    let (mut decoder, mut events) = (gemini().stream_decoder(), Vec::new());
    decoder.feed(&sent, &mut events).unwrap();
    let texts = events.iter().filter_map(|event| match event {
        Event::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(texts.collect::<String>(), "a\u{fffd}b");
    let provider = gemini();
    for mut relay in [provider.relay().unwrap().stream(true), provider.relay().unwrap().stream_as_it_comes()]
    {
        let mut frames = Vec::new();
        relay.feed(sent.clone().into(), &mut frames).unwrap();
        let passed: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
        assert_eq!(String::from_utf8(passed).unwrap(), String::from_utf8_lossy(&sent));
    }
}
