//! Stories of requests and answers that the recordings do not show.

use serde_json::{Value, json};

use super::conformance::{cohere, decoded, said_by, said_in};
use crate::chat::{
    Event, FinishReason, Loss, Media, Message, Object, OutputFormat, Part, Reasoning, Request, Role,
    Sampling, Thinks, Tool, ToolChoice, ToolKind, proof,
};
use crate::fault::FaultKind;
use crate::json::Body;
use crate::providers::{Embeddings, Provider, Relayed};
use crate::target::TargetName;

fn target(model: &str) -> TargetName {
    TargetName::parse(&format!("cohere/{model}")).unwrap()
}

fn encoded(asked: &Request, model: &str) -> (Value, Vec<String>) {
    let outgoing = cohere().encode(asked, &target(model)).unwrap();
    let lost = outgoing.lost.iter().map(Loss::to_string).collect();
    (serde_json::from_slice(&outgoing.body.concat()).unwrap(), lost)
}

fn message(role: Role, content: Vec<Part>) -> Message {
    Message { role, content, name: None, rest: Object::new() }
}

fn thought(text: &str, signature: Option<&str>) -> Part {
    Part::Thinking { text: text.into(), signature: signature.map(str::to_owned), redacted: None }
}

fn call(id: &str) -> Part {
    Part::ToolCall {
        id: id.into(),
        name: "weather".into(),
        arguments: String::new(),
        kind: ToolKind::Function,
        signature: None,
        cache: None,
    }
}

fn tool(name: &str, strict: Option<bool>) -> Tool {
    Tool {
        name: name.into(),
        description: None,
        parameters: Some(json!({"type": "object", "properties": {}})),
        strict,
        kind: ToolKind::Function,
        cache: None,
        rest: Object::new(),
    }
}

#[test]
fn what_ran_at_another_provider_is_left_out() {
    let search = json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}});
    let asked = Request {
        messages: vec![
            message(Role::User, vec![Part::text("hi")]),
            message(Role::Assistant, vec![Part::Other(search), Part::text("found")]),
            message(Role::User, vec![Part::text("go on")]),
        ],
        ..Request::default()
    };
    let (body, lost) = encoded(&asked, "command-a-03-2025");
    assert_eq!(body["messages"][1], json!({"role": "assistant", "content": "found"}));
    assert_eq!(lost, ["messages[1].content[0] (part of another provider's dialect dropped)"]);
}

#[test]
fn a_conversation_with_pictures_documents_and_tools_is_said_in_coheres_words() {
    let media = |mime: &str, base64: &str| Media::Inline { mime: mime.into(), base64: base64.into() };
    let asked = Request {
        messages: vec![
            message(Role::Developer, vec![Part::text("be short")]),
            message(
                Role::User,
                vec![
                    Part::text("look"),
                    Part::Image {
                        media: media("image/png", "AA=="),
                        detail: Some("low".into()),
                        cache: None,
                    },
                    Part::File {
                        media: media("text/plain", "aGk="),
                        filename: Some("a.txt".into()),
                        cache: None,
                    },
                ],
            ),
            message(Role::Assistant, vec![thought("I will look.", Some(proof::COHERE_PLAN)), call("c1")]),
            message(
                Role::Tool,
                vec![Part::ToolResult {
                    id: "c1".into(),
                    content: vec![
                        Part::text("sunny"),
                        Part::Image {
                            media: Media::Url("https://x/y.png".into()),
                            detail: None,
                            cache: None,
                        },
                    ],
                    is_error: false,
                    cache: None,
                }],
            ),
        ],
        ..Request::default()
    };
    let (sent, lost) = encoded(&asked, "command-a-03-2025");
    assert_eq!(
        sent,
        json!({
            "model": "command-a-03-2025",
            "messages": [
                {"role": "system", "content": "be short"},
                {"role": "user", "content": [{"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}]},
                {"role": "assistant", "tool_plan": "I will look.", "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
            ],
            "stream": false,
            "documents": [{"id": "doc:0", "data": {"title": "a.txt", "text": "hi"}}],
        })
    );
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn thinking_goes_where_the_model_takes_it() {
    for (model, part, calls, expected, losses) in [
        (
            "command-a-plus-05-2026",
            thought("t", None),
            true,
            json!({"content": [{"type": "thinking", "thinking": "t"}]}),
            0,
        ),
        (
            "command-a-plus-05-2026",
            thought("t", None),
            false,
            json!({"content": [{"type": "thinking", "thinking": "t"}]}),
            0,
        ),
        (
            "command-a-plus-05-2026",
            thought("t", Some(proof::COHERE_PLAN)),
            true,
            json!({"tool_plan": "t"}),
            0,
        ),
        ("command-r7b-12-2024", thought("t", None), true, json!({"tool_plan": "t"}), 0),
        ("command-r7b-12-2024", thought("t", None), false, Value::Null, 1),
    ] {
        let mut content = vec![part];
        content.extend(calls.then(|| call("c")));
        let asked = Request { messages: vec![message(Role::Assistant, content)], ..Request::default() };
        let (mut sent, lost) = encoded(&asked, model);
        let mut said = sent["messages"].get_mut(0).map(Value::take).unwrap_or_default();
        if let Value::Object(fields) = &mut said {
            fields.shift_remove("role");
            fields.shift_remove("tool_calls");
        }
        assert_eq!((said, lost.len()), (expected, losses), "{model} {calls} {lost:?}");
    }
}

#[test]
fn parameters_have_coheres_names_and_bounds() {
    let asked = Request {
        tools: vec![tool("a", Some(true)), tool("b", None)],
        tool_choice: Some(ToolChoice::Named("a".into())),
        parallel_tool_calls: Some(false),
        output: OutputFormat::JsonSchema {
            name: "n".into(),
            description: None,
            schema: json!({"type": "object"}),
            strict: Some(true),
        },
        sampling: Sampling {
            temperature: Some(0.5),
            top_p: Some(1.0),
            top_k: Some(40),
            presence_penalty: Some(-1.0),
            frequency_penalty: Some(0.5),
            seed: Some(7),
            stop: (0..6).map(|n| n.to_string()).collect(),
            logprobs: Some(true),
            top_logprobs: Some(3),
            n: Some(2),
            ..Sampling::default()
        },
        max_output_tokens: Some(9),
        reasoning: Some(Reasoning { effort: Some("low".into()), ..Reasoning::default() }),
        user: Some("u".into()),
        rest: json!({"safety_mode": "STRICT", "store": true, "verbosity": "low"})
            .as_object()
            .unwrap()
            .clone(),
        ..Request::default()
    };
    let (sent, lost) = encoded(&asked, "command-a-reasoning-08-2025");
    assert_eq!(
        sent,
        json!({
            "model": "command-a-reasoning-08-2025", "messages": [], "stream": false, "strict_tools": true,
            "tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "object", "properties": {}}}}],
            "tool_choice": "REQUIRED",
            "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
            "p": 0.99, "presence_penalty": 0.0, "frequency_penalty": 0.5, "temperature": 0.5, "k": 40, "seed": 7,
            "stop_sequences": ["0", "1", "2", "3", "4"], "logprobs": true, "max_tokens": 9,
            "thinking": {"type": "enabled", "token_budget": 1024}, "safety_mode": "STRICT",
        })
    );
    assert_eq!(
        lost,
        [
            "tools[1] (not offered: the choice names another)",
            "parallel_tool_calls (dropped)",
            "top_p (became 0.99)",
            "presence_penalty (became 0)",
            "stop (cut to the first 5)",
            "top_logprobs (dropped)",
            "n (became 1)",
            "reasoning_effort (became a budget of 1024 tokens)",
            "user (dropped)",
            "store (dropped)",
            "verbosity (dropped)",
        ]
    );
    for (effort, budget, expected) in [
        (Some("none"), None, json!({"type": "disabled"})),
        (Some("high"), None, json!({"type": "enabled"})),
        (None, Some(500), json!({"type": "enabled", "token_budget": 500})),
    ] {
        let reasoning = Some(Reasoning {
            effort: effort.map(str::to_owned),
            budget_tokens: budget,
            ..Reasoning::default()
        });
        let (sent, _) = encoded(&Request { reasoning, ..Request::default() }, "command-a-plus-05-2026");
        assert_eq!(sent["thinking"], expected);
    }
    for (model, thinks, expected) in [
        ("command-a-plus-05-2026", Thinks::Not, json!({"type": "disabled"})),
        ("command-a-plus-05-2026", Thinks::Freely, Value::Null),
        ("command-r7b-12-2024", Thinks::Not, Value::Null),
        ("command-r7b-12-2024", Thinks::Freely, Value::Null),
    ] {
        let reasoning = Some(Reasoning { thinks, ..Reasoning::default() });
        let (sent, lost) = encoded(&Request { reasoning, ..Request::default() }, model);
        assert_eq!((&sent["thinking"], lost.len()), (&expected, 0), "{model} {thinks:?}");
    }
}

#[test]
fn what_cohere_cannot_take_is_refused() {
    let pdf = Media::Inline { mime: "application/pdf".into(), base64: "AA==".into() };
    for part in [
        Part::File { media: pdf.clone(), filename: None, cache: None },
        Part::Audio { media: pdf },
        Part::Image { media: Media::FileId("f".into()), detail: None, cache: None },
        Part::Other(json!({"type": "search_result"})),
    ] {
        let asked = Request {
            messages: vec![message(Role::User, vec![Part::text("x"), part])],
            ..Request::default()
        };
        let fault = cohere().encode(&asked, &target("command-a-03-2025")).unwrap_err();
        assert_eq!(
            (fault.kind, fault.param.as_deref()),
            (FaultKind::BadRequest, Some("messages[0].content[1]"))
        );
    }
}

#[test]
fn a_plan_and_parallel_calls_stream() {
    let events = [
        r#"{"type":"message-start","id":"m","delta":{"message":{"role":"assistant"}}}"#,
        r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I "}}}"#,
        r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"will."}}}"#,
        r#"{"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"c0","type":"function","function":{"name":"a","arguments":""}}}}}"#,
        r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"x\""}}}}}"#,
        r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":":1}"}}}}}"#,
        r#"{"type":"tool-call-end","index":0}"#,
        r#"{"type":"tool-call-start","index":1,"delta":{"message":{"tool_calls":{"id":"","type":"function","function":{"name":"b","arguments":"null"}}}}}"#,
        r#"{"type":"tool-call-end","index":1}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"TOOL_CALL","usage":{"billed_units":{"input_tokens":3,"output_tokens":4}}}}"#,
    ];
    let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    for at in 0..body.len() {
        let (head, tail) = body.as_bytes().split_at(at);
        let said = said_in(&decoded(&[head, tail]).unwrap());
        assert_eq!((said.thought.as_str(), said.planned, said.usage), ("I will.", true, Some([3, 0, 4, 0])));
        assert_eq!(said.finish, Some(FinishReason::ToolCalls));
        assert_eq!(said.calls[0], ("c0".into(), "a".into(), json!({"x": 1})));
        assert!(said.calls[1].0.starts_with("call_"), "{:?}", said.calls);
        assert_eq!(said.calls[1].2, json!({}));
    }
}

#[test]
fn citations_come_back_on_the_next_turn() {
    let own = json!({"start": 0, "end": 2, "text": "Hi", "type": "TEXT_CONTENT", "content_index": 0, "sources": [
        {"type": "document", "id": "d", "document": {"id": "d", "title": "T", "url": "https://x"}},
        {"type": "tool", "id": "t:0", "tool_output": {}}]});
    let plan = json!({"start": 0, "end": 1, "text": "I", "type": "PLAN", "sources": []});
    let body = json!({"id": "m", "finish_reason": "COMPLETE", "message": {"role": "assistant",
        "content": [{"type": "text", "text": "Hi"}], "citations": [own, plan]}});
    let answer = cohere().decode(body.to_string().as_bytes()).unwrap();
    let choice = &answer.choices[0];
    let Part::Text { citations, .. } = &choice.content[0] else { panic!("{choice:?}") };
    assert_eq!(
        citations[0]["url_citation"],
        json!({"start_index": 0, "end_index": 2, "url": "https://x", "title": "T"})
    );
    assert_eq!((citations.len(), &citations[1]["url_citation"]["url"]), (2, &json!("t:0")));
    assert_eq!(choice.rest["citations"], json!([plan]));
    let asked =
        Request { messages: vec![message(Role::Assistant, choice.content.clone())], ..Request::default() };
    let (sent, lost) = encoded(&asked, "command-a-03-2025");
    assert_eq!((&sent["messages"][0]["citations"], lost.len()), (&json!([own]), 0));
}

#[test]
fn answers_that_broke_off_are_faults() {
    let whole = |finish: &str| {
        let body =
            json!({"id": "m", "finish_reason": finish, "message": {"role": "assistant", "content": []}});
        cohere().decode(body.to_string().as_bytes())
    };
    assert_eq!(whole("ERROR").unwrap_err().kind, FaultKind::ServerError);
    assert_eq!(whole("TIMEOUT").unwrap_err().client_status(), 504);
    assert_eq!(said_by(&whole("STOP_SEQUENCE").unwrap()).finish, Some(FinishReason::Stop));
    let end = |delta: &str| {
        let body = format!(
            "data: {{\"type\":\"message-start\",\"id\":\"m\"}}\n\ndata: {{\"type\":\"message-end\",\"delta\":{delta}}}\n\n"
        );
        decoded(&[body.as_bytes()])
    };
    let fault = end(r#"{"finish_reason":"ERROR","error":"the server is overloaded, sorry"}"#).unwrap_err();
    assert!(fault.message.contains("overloaded"), "{fault}");
    assert_eq!(end(r#"{"error":"x"}"#).unwrap_err().kind, FaultKind::ServerError);
    assert_eq!(end(r#"{"finish_reason":"COMPLETE"}"#).unwrap().last(), Some(&Event::End));
    assert_eq!(end("{}").unwrap_err().kind, FaultKind::Truncated, "it does not say why it ended");
    let body = r#"{"id":"m","finish_reason":null,"message":{"role":"assistant","content":[{"type":"text","text":"a"}]}}"#;
    assert_eq!(cohere().decode(body.as_bytes()).unwrap_err().kind, FaultKind::Truncated);
    for (body, kind) in [
        ("", FaultKind::Truncated),
        ("data: {\"type\":\"message-start\"}\n\ndata: [DONE]\n\n", FaultKind::Truncated),
        ("data: {\"id\":\"x\",\"message\":\"invalid api token\"}\n\n", FaultKind::ServerError),
        ("data: <html>\n\n", FaultKind::Malformed),
    ] {
        assert_eq!(decoded(&[body.as_bytes()]).unwrap_err().kind, kind, "{body}");
    }
    for body in ["", "[]", "null", "<html>", "{}", r#"{"message":"x","id":"y"}"#, r#"{"message":[]}"#] {
        assert!(cohere().decode(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn statuses_have_their_meaning() {
    use FaultKind as K;
    for (status, message, kind, shown) in [
        (400, "invalid request: list of tools must not be empty", K::BadRequest, 400),
        (401, "invalid api token", K::Credentials, 502),
        (402, "please add a payment method", K::Credentials, 402),
        (404, "model 'x' not found", K::NotFound, 404),
        (422, "invalid request", K::BadRequest, 422),
        (429, "You are using a Trial key, which is limited to 10 API calls / minute.", K::RateLimited, 429),
        (498, "invalid token", K::Credentials, 502),
        (499, "request cancelled", K::ServerError, 504),
        (500, "internal server error", K::ServerError, 500),
        (503, "overloaded", K::Overloaded, 503),
    ] {
        let body = json!({"id": "x", "message": message}).to_string();
        let fault = cohere().fault(status, &http::HeaderMap::new(), body.as_bytes());
        assert_eq!(fault.kind, kind, "{status} {message}: {fault}");
        assert_eq!((fault.status, fault.client_status()), (Some(status), shown), "{message}: {fault}");
    }
}

#[test]
fn embeddings_are_made_of_texts_and_of_pictures() {
    let asked = |body: Value| {
        let body = Body::read(body.to_string().into()).unwrap();
        Embeddings::splice(&cohere(), &body, &target("embed-v4.0"))
    };
    let picture = "data:image/png;base64,AA==";
    for (input, more) in [
        (json!("a"), json!({"texts": ["a"], "input_type": "search_document"})),
        (json!(["a", "b"]), json!({"texts": ["a", "b"], "input_type": "search_document"})),
        (json!([picture]), json!({"images": [picture], "input_type": "image"})),
        (
            json!(["a", picture]),
            json!({"inputs": [{"content": [{"type": "text", "text": "a"}]},
                {"content": [{"type": "image_url", "image_url": {"url": picture}}]}], "input_type": "search_document"}),
        ),
    ] {
        let mut expected = json!({"model": "embed-v4.0", "embedding_types": ["float"]});
        expected.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let outgoing = asked(json!({"model": "m", "input": input})).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&outgoing.body.concat()).unwrap(), expected);
        assert_eq!(outgoing.path, "/embed");
    }
    let outgoing = asked(json!({"model": "m", "input": "a", "dimensions": 256, "input_type": "search_query",
        "truncate": "END", "user": "u"}))
    .unwrap();
    let sent: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
    assert_eq!(
        (&sent["output_dimension"], &sent["input_type"], &sent["truncate"]),
        (&json!(256), &json!("search_query"), &json!("END"))
    );
    assert_eq!(outgoing.lost, [Loss::dropped("user")]);
    assert!(asked(json!({"model": "m", "input": [1, 2]})).is_err());

    let answered = |body: &'static str, base64| -> Result<Relayed, crate::fault::Fault> {
        Embeddings::whole(&cohere(), body.into(), base64)
    };
    let body = r#"{"id":"x","embeddings":{"float":[[0.1, -2.5,0]]},"texts":["a"],"meta":{"billed_units":{"input_tokens":3}}}"#;
    let floats = answered(body, false).unwrap();
    let read: Value = serde_json::from_slice(&floats.body).unwrap();
    assert_eq!(read["data"][0]["embedding"], json!([0.1, -2.5, 0]));
    assert_eq!((&read["usage"]["prompt_tokens"], floats.usage.unwrap().input), (&json!(3), 3));
    let packed: Value = serde_json::from_slice(&answered(body, true).unwrap().body).unwrap();
    assert_eq!(packed["data"][0]["embedding"], "zczMPQAAIMAAAAAA");
    for broken in [
        "",
        "{}",
        r#"{"embeddings":{"int8":[[1]]}}"#,
        r#"{"embeddings":{"float":[["x"]]}}"#,
        r#"{"message":"invalid api token","id":"x"}"#,
        "[]",
    ] {
        assert!(answered(broken, false).is_err(), "{broken}");
    }
}
