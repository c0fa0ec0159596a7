//! Stories of requests and answers that the recordings do not show.

use serde_json::{Value, json};

use super::Ollama;
use super::conformance::{decoded, ollama, said_by, said_in};
use crate::chat::{
    Event, FinishReason, Loss, Media, Message, Object, OutputFormat, Part, Reasoning, Request, Role,
    Sampling, Thinks, ToolChoice, ToolKind,
};
use crate::fault::{FaultKind, Retry};
use crate::json::Body;
use crate::providers::{Embeddings, Provider, QuirkSettings};
use crate::target::TargetName;

fn encoded_by(provider: &Ollama, asked: &Request) -> (Value, Vec<String>) {
    let outgoing = provider.encode(asked, &TargetName::parse("ollama/m").unwrap()).unwrap();
    let lost = outgoing.lost.iter().map(Loss::to_string).collect();
    (serde_json::from_slice(&outgoing.body.concat()).unwrap(), lost)
}

fn encoded(asked: &Request) -> (Value, Vec<String>) {
    encoded_by(&ollama(), asked)
}

fn message(role: Role, content: Vec<Part>) -> Message {
    Message { role, content, name: None, rest: Object::new() }
}

fn inline(mime: &str, base64: &str) -> Media {
    Media::Inline { mime: mime.into(), base64: base64.into() }
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
    let (body, lost) = encoded(&asked);
    assert_eq!(body["messages"][1], json!({"role": "assistant", "content": "found"}));
    assert_eq!(lost, ["messages[1].content[0] (part of another provider's dialect dropped)"]);
}

#[test]
fn a_conversation_with_pictures_thinking_and_tools_is_said_in_ollamas_words() {
    let call = |id: &str, name: &str, arguments: &str| Part::ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
        kind: ToolKind::Function,
        signature: None,
        cache: None,
    };
    let result =
        |id: &str, content| Part::ToolResult { id: id.into(), content, is_error: false, cache: None };
    let image = || Part::Image { media: inline("image/png", "AA=="), detail: None, cache: None };
    let asked = Request {
        messages: vec![
            message(Role::Developer, vec![Part::text("be short")]),
            message(
                Role::User,
                vec![
                    Part::text("look"),
                    image(),
                    Part::File {
                        media: inline("text/plain", "aGk="),
                        filename: Some("a.txt".into()),
                        cache: None,
                    },
                ],
            ),
            message(
                Role::Assistant,
                vec![
                    Part::Thinking { text: "hm".into(), signature: Some("foreign".into()), redacted: None },
                    call("c1", "weather", "{\"x\":1}"),
                    call("c2", "time", ""),
                ],
            ),
            message(Role::Tool, vec![result("c1", vec![Part::text("sunny"), image()])]),
            message(Role::Tool, vec![result("c2", vec![Part::text("noon")]), Part::text("and now?")]),
        ],
        ..Request::default()
    };
    let (sent, lost) = encoded(&asked);
    assert_eq!(
        sent,
        json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "be short"},
                {"role": "user", "content": "look\na.txt\n\nhi", "images": ["AA=="]},
                {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [
                    {"id": "c1", "function": {"index": 0, "name": "weather", "arguments": {"x": 1}}},
                    {"id": "c2", "function": {"index": 1, "name": "time", "arguments": {}}}]},
                {"role": "tool", "content": "sunny", "images": ["AA=="], "tool_name": "weather", "tool_call_id": "c1"},
                {"role": "tool", "content": "noon", "tool_name": "time", "tool_call_id": "c2"},
                {"role": "user", "content": "and now?"},
            ],
            "stream": false,
        })
    );
    assert_eq!(lost, ["messages[2].content[0].signature (another provider's proof dropped)"]);
}

#[test]
fn parameters_become_options() {
    let asked = Request {
        stream: true,
        output: OutputFormat::JsonSchema {
            name: "n".into(),
            description: None,
            schema: json!({"type": "object"}),
            strict: None,
        },
        sampling: Sampling {
            temperature: Some(0.5),
            top_p: Some(0.9),
            top_k: Some(40),
            seed: Some(-7),
            stop: vec!["x".into()],
            logprobs: Some(true),
            top_logprobs: Some(2),
            n: Some(2),
            ..Sampling::default()
        },
        max_output_tokens: Some(9),
        tool_choice: Some(ToolChoice::Required),
        rest: json!({"num_ctx": 8192, "options": {"min_p": 0.1}, "keep_alive": "5m", "store": true, "verbosity": "low"})
            .as_object()
            .unwrap()
            .clone(),
        ..Request::default()
    };
    let quirks = json!({"defaults": {"keep_alive": "1h", "options": {"num_ctx": 4096, "num_gpu": 1}}});
    let provider = Ollama::new(serde_json::from_value::<QuirkSettings>(quirks).unwrap());
    let (sent, lost) = encoded_by(&provider, &asked);
    assert_eq!(
        sent,
        json!({
            "model": "m", "messages": [], "stream": true, "format": {"type": "object"}, "logprobs": true,
            "top_logprobs": 2, "keep_alive": "5m",
            "options": {"num_predict": 9, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "seed": -7, "stop": ["x"],
                "num_ctx": 8192, "min_p": 0.1, "num_gpu": 1},
        })
    );
    assert_eq!(lost, ["tool_choice (dropped)", "n (became 1)", "store (dropped)", "verbosity (dropped)"]);
    for (effort, budget, expected, losses) in [
        (Some("none"), None, json!(false), 0),
        (Some("medium"), None, json!("medium"), 0),
        (Some("minimal"), None, json!("low"), 1),
        (Some("xhigh"), None, json!("high"), 1),
        (None, Some(0), json!(false), 0),
        (None, Some(2_000), json!(true), 1),
    ] {
        let reasoning = Some(Reasoning {
            effort: effort.map(str::to_owned),
            budget_tokens: budget,
            ..Reasoning::default()
        });
        let target = TargetName::parse("ollama/gpt-oss:20b").unwrap();
        let outgoing = ollama().encode(&Request { reasoning, ..Request::default() }, &target).unwrap();
        let sent: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        assert_eq!((&sent["think"], outgoing.lost.len()), (&expected, losses), "{effort:?} {budget:?}");
    }
    for (thinks, effort, expected) in [
        (Thinks::Not, None, json!(false)),
        (Thinks::Not, Some("high".to_owned()), json!(false)),
        (Thinks::Freely, None, Value::Null),
    ] {
        let reasoning = Some(Reasoning { thinks, effort, ..Reasoning::default() });
        let (sent, lost) = encoded(&Request { reasoning, ..Request::default() });
        assert_eq!((&sent["think"], lost.len()), (&expected, 0), "{thinks:?}");
    }
    // Others know no levels, and refuse them.
    let reasoning = Some(Reasoning { effort: Some("low".into()), ..Reasoning::default() });
    let (sent, lost) = encoded(&Request { reasoning, ..Request::default() });
    assert_eq!((&sent["think"], lost.len()), (&json!(true), 1));
}

#[test]
fn what_ollama_cannot_take_is_refused() {
    for (part, word) in [
        (Part::Image { media: Media::Url("https://x/y.png".into()), detail: None, cache: None }, "URL"),
        (Part::File { media: inline("application/pdf", "AA=="), filename: None, cache: None }, "plain text"),
        (Part::Audio { media: inline("audio/wav", "AA==") }, "sound"),
        (Part::Other(json!({"type": "search_result"})), "search_result"),
    ] {
        let asked = Request { messages: vec![message(Role::User, vec![part])], ..Request::default() };
        let fault = ollama().encode(&asked, &TargetName::parse("ollama/m").unwrap()).unwrap_err();
        assert!(fault.message.contains(word) && fault.retry == Retry::Elsewhere, "{fault}");
        assert_eq!(fault.param.as_deref(), Some("messages[0].content[0]"));
    }
}

#[test]
fn a_stream_of_thinking_and_calls_without_ids() {
    let lines = [
        json!({"model": "m", "created_at": "2026-01-01T00:00:00.1+02:00", "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": false}),
        json!({"model": "m", "message": {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "f"}}]}, "done": false}),
        json!({"model": "m", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop", "eval_count": 5,
            "total_duration": 7}),
    ];
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut ids = None;
    for at in 0..body.len() {
        let (head, tail) = body.as_bytes().split_at(at);
        let events = decoded(&[head, tail]).unwrap();
        let said = said_in(&events);
        assert_eq!(
            (said.thought.as_str(), said.finish, said.usage),
            ("hm", Some(FinishReason::ToolCalls), Some([0, 5]))
        );
        assert_eq!(said.calls, [("f".into(), json!({"a": 1})), ("f".into(), json!({}))]);
        assert_eq!(*ids.get_or_insert_with(|| said.ids.clone()), said.ids, "stable");
        assert!(matches!(&events[0], Event::Start { created: 1_767_218_400, .. }), "{:?}", events[0]);
    }
    assert_eq!(said_by(&ollama().decode(body.as_bytes()).unwrap()).ids, ids.unwrap());
}

#[test]
fn errors_are_bare_texts_also_inside_of_a_stream() {
    use FaultKind as K;
    for (status, text, kind) in [
        (404, "model \"x\" not found, try pulling it first", K::NotFound),
        (400, "registry.ollama.ai/library/x does not support tools", K::BadRequest),
        (500, "llama runner process has terminated", K::ServerError),
        (503, "server busy, please try again.  maximum pending requests exceeded", K::Overloaded),
        (401, "unauthorized", K::Credentials),
    ] {
        let body = json!({"error": text}).to_string();
        let fault = ollama().fault(status, &http::HeaderMap::new(), body.as_bytes());
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(
            kind == K::Credentials || fault.message.contains(text.split_whitespace().next().unwrap()),
            "{fault}"
        );
        assert!(ollama().decode(body.as_bytes()).is_err());
    }
    let begun = r#"{"model":"m","message":{"role":"assistant","content":"a"},"done":false}"#;
    let fault =
        decoded(&[format!("{begun}\n{{\"error\":\"an error was encountered\"}}\n").as_bytes()]).unwrap_err();
    assert_eq!(fault.kind, K::ServerError);
    for (body, kind) in
        [("", K::Truncated), ("[]\n", K::Malformed), ("<html>\n", K::Malformed), (begun, K::Truncated)]
    {
        assert_eq!(decoded(&[body.as_bytes()]).unwrap_err().kind, kind, "{body}");
    }
    for body in ["", "[]", "null", "<html>", "{}", "{\"message\":1,\"done\":true}", begun] {
        assert!(ollama().decode(body.as_bytes()).is_err(), "{body}");
    }
    let loaded =
        r#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}"#;
    assert_eq!(said_by(&ollama().decode(loaded.as_bytes()).unwrap()).finish, Some(FinishReason::Stop));
}

#[test]
fn embeddings_are_asked_for_in_ollamas_words() {
    let asked = |body: Value| {
        let body = Body::read(body.to_string().into()).unwrap();
        Embeddings::splice(&ollama(), &body, &TargetName::parse("ollama/m").unwrap())
    };
    let outgoing =
        asked(json!({"model": "x", "input": ["a", "b"], "dimensions": 8, "encoding_format": "base64",
        "keep_alive": "5m", "user": "u"}))
        .unwrap();
    let sent: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
    assert_eq!(sent, json!({"model": "m", "input": ["a", "b"], "dimensions": 8, "keep_alive": "5m"}));
    assert_eq!(outgoing.lost, [Loss::dropped("user")]);
    assert!(asked(json!({"model": "x", "input": [[1]]})).is_err());
    for broken in ["", "{}", r#"{"error":"x"}"#, r#"{"embeddings":[["x"]]}"#] {
        assert!(Embeddings::whole(&ollama(), broken.into(), false).is_err(), "{broken}");
    }
}

#[test]
fn a_character_that_was_cut_in_halves_is_one_again() {
    let line = |message: &str| format!("{{\"model\":\"m\",\"message\":{message},\"done\":false}}\n");
    let body = [
        line(r#"{"role":"assistant","content":"","thinking":"a\ud83d"}"#),
        line(r#"{"role":"assistant","content":"","thinking":"\ude00b"}"#),
        line(r#"{"role":"assistant","content":"c\ud83d"}"#),
        line(r#"{"role":"assistant","content":"\ude00d\ud83d e"}"#),
        "{\"model\":\"m\",\"done\":true,\"done_reason\":\"stop\"}\n".to_owned(),
    ]
    .concat();
    let (mut thought, mut text) = (String::new(), String::new());
    for event in decoded(&[body.as_bytes()]).unwrap() {
        match event {
            Event::Thinking { text, .. } => thought += &text,
            Event::Text { text: piece, .. } => text += &piece,
            _ => {}
        }
    }
    assert_eq!((&*thought, &*text), ("a😀b", "c😀d\u{fffd} e"));
}

#[test]
fn bytes_that_are_no_utf8_are_replaced_and_the_stream_lives() {
    let body = [
        &b"{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"a\xff\"},\"done\":false}\n"[..],
        b"{\"model\":\"m\",\"done\":true,\"done_reason\":\"stop\"}\n",
    ];
    let events = decoded(&[&body.concat()]).unwrap();
    let texts = events.iter().filter_map(|event| match event {
        Event::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(texts.collect::<String>(), "a\u{fffd}");
}
