//! What OpenAI's Responses get of requests of every kind.

use super::*;
use crate::chat::{CacheHint, Media, Message, Part, Role, Sampling, Tool, ToolChoice, ToolKind, proof};

fn quirks() -> QuirkSettings {
    QuirkSettings::default()
}

fn encoded(asked: &Request, model: &str) -> (Value, Vec<String>) {
    let target = TargetName::parse(&format!("p/{model}")).unwrap();
    let outgoing = request(asked, &target, &quirks(), "openai").unwrap();
    assert_eq!(outgoing.path, "/responses");
    let body = serde_json::from_slice(&outgoing.body.concat()).unwrap();
    (body, outgoing.lost.iter().map(ToString::to_string).collect())
}

fn message(role: Role, content: Vec<Part>) -> Message {
    Message { role, content, name: None, rest: Object::new() }
}

fn call(id: &str, kind: ToolKind) -> Part {
    let (id, name, arguments) = (id.into(), "f".into(), "{}".into());
    Part::ToolCall { id, name, arguments, kind, signature: None, cache: None }
}

fn result(id: &str, content: Vec<Part>) -> Part {
    Part::ToolResult { id: id.into(), content, is_error: false, cache: None }
}

fn thinking(text: &str, signature: &str) -> Part {
    Part::Thinking { text: text.into(), signature: Some(signature.into()), redacted: None }
}

fn asked(messages: Vec<Message>) -> Request {
    Request { messages, ..Request::default() }
}

#[test]
fn a_conversation_becomes_items() {
    let image = Part::Image {
        media: Media::Inline { mime: "image/png".into(), base64: "AA==".into() },
        detail: Some("low".into()),
        cache: None,
    };
    let file = |media, filename: Option<&str>| Part::File {
        media,
        filename: filename.map(Into::into),
        cache: Some(CacheHint { ttl: None }),
    };
    let pdf = || Media::Inline { mime: "application/pdf".into(), base64: "JVBE".into() };
    let own = proof::of_responses("openai", "rs_1", "gAAA");
    let (body, lost) = encoded(
        &Request {
            stream: true,
            ..asked(vec![
                message(Role::System, vec![Part::text("be short")]),
                message(Role::Developer, vec![Part::text("be kind")]),
                message(
                    Role::User,
                    vec![
                        Part::text("look"),
                        image.clone(),
                        file(pdf(), None),
                        file(Media::Url("https://x/y.pdf".into()), None),
                        file(Media::FileId("file-1".into()), None),
                        Part::Audio {
                            media: Media::Inline { mime: "audio/mpeg".into(), base64: "SUQz".into() },
                        },
                    ],
                ),
                message(
                    Role::Assistant,
                    vec![
                        thinking("hm", &own),
                        Part::text("let me see"),
                        call("c1", ToolKind::Function),
                        call("c2", ToolKind::Custom),
                        thinking("", "an anthropic signature"),
                        thinking("", &proof::of_responses("xai", "rs_2", "x")),
                    ],
                ),
                message(
                    Role::Tool,
                    vec![result("c1", vec![Part::text("sunny"), image]), result("c2", vec![Part::text("b")])],
                ),
                message(Role::Assistant, vec![thinking("", &own)]),
                message(Role::User, vec![Part::text("go on")]),
            ])
        },
        "gpt-5-pro",
    );
    let input = body["input"].as_array().unwrap();
    assert_eq!(
        body["input"],
        json!([
            {"role": "system", "content": "be short"},
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
                {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBE"},
                {"type": "input_file", "file_url": "https://x/y.pdf"},
                {"type": "input_file", "file_id": "file-1"},
                {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}],
             "encrypted_content": "gAAA"},
            {"role": "assistant", "content": "let me see"},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "f", "input": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": [
                {"type": "input_text", "text": "sunny"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}]},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "b"},
            {"role": "user", "content": "go on"},
        ]),
        "{input:#?}"
    );
    assert_eq!(body["store"], false);
    assert_eq!(body["stream"], true);
    assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
    assert_eq!(
        lost,
        [
            "messages[2].content[2].cache_control (dropped)",
            "messages[2].content[3].cache_control (dropped)",
            "messages[2].content[4].cache_control (dropped)",
            "messages[3].content[4] (thinking dropped: this provider has not signed it)",
            "messages[3].content[5] (thinking dropped: this provider has not signed it)",
            "messages[5].content[0] (thinking dropped: nothing follows it)",
        ]
    );
}

#[test]
fn parameters_are_said_in_this_apis_words_and_losses_are_told() {
    let rest = json!({"verbosity": "low", "service_tier": "flex", "stream_options": {"include_usage": true},
        "prompt_cache_key": "k", "prediction": {}, "store": true, "modalities": ["text"],
        "web_search_options": {"search_context_size": "low",
            "user_location": {"type": "approximate", "approximate": {"city": "Rome"}}}});
    let Value::Object(rest) = rest else { panic!() };
    let (body, lost) = encoded(
        &Request {
            output: OutputFormat::JsonSchema {
                name: "s".into(),
                description: None,
                schema: json!({"type": "object", "additionalProperties": false}),
                strict: Some(true),
            },
            sampling: Sampling {
                temperature: Some(0.5),
                seed: Some(1),
                stop: vec!["x".into()],
                presence_penalty: Some(0.0),
                frequency_penalty: Some(1.0),
                logprobs: Some(true),
                top_logprobs: Some(2),
                n: Some(3),
                ..Sampling::default()
            },
            max_output_tokens: Some(5),
            reasoning: Some(Reasoning { budget_tokens: Some(4_000), ..Reasoning::default() }),
            user: Some("u".into()),
            rest,
            ..asked(vec![message(Role::User, vec![Part::text("hi")])])
        },
        "o3-pro",
    );
    assert_eq!(
        body,
        json!({
            "model": "o3-pro", "input": [{"role": "user", "content": "hi"}], "store": true,
            "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "s",
                "schema": {"type": "object", "additionalProperties": false}, "strict": true}},
            "service_tier": "flex", "prompt_cache_key": "k",
            "tools": [{"type": "web_search", "search_context_size": "low",
                "user_location": {"type": "approximate", "city": "Rome"}}],
            "max_output_tokens": 16,
            "reasoning": {"effort": "medium", "summary": "auto"},
            "include": ["reasoning.encrypted_content"], "user": "u",
        })
    );
    assert_eq!(
        lost,
        [
            "prediction (dropped)",
            "max_completion_tokens (raised to 16)",
            "frequency_penalty (dropped)",
            "seed (dropped)",
            "stop (dropped)",
            "n (lowered to 1)",
            "temperature (dropped: this model draws in its own way)",
            "top_logprobs (dropped: this model does not take it)",
        ]
    );
}

#[test]
fn what_leaves_keys_open_is_not_strict() {
    let open =
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false});
    let tool = Tool {
        name: "f".into(),
        description: None,
        parameters: Some(open.clone()),
        strict: Some(true),
        kind: ToolKind::Function,
        cache: None,
        rest: Object::new(),
    };
    let output =
        OutputFormat::JsonSchema { name: "s".into(), description: None, schema: open, strict: Some(true) };
    let (body, lost) = encoded(
        &Request { tools: vec![tool], output, ..asked(vec![message(Role::User, vec![Part::text("hi")])]) },
        "gpt-5.1",
    );
    assert_eq!(
        (&body["tools"][0]["strict"], &body["text"]["format"]["strict"]),
        (&json!(false), &json!(false))
    );
    let what = "(became false: with it, every key must be required, and no others allowed)";
    assert_eq!(
        lost,
        [format!("tools[0].function.strict {what}"), format!("response_format.json_schema.strict {what}")]
    );
}

#[test]
fn tools_are_flat_and_loose_unless_they_say_so() {
    let object = |value: Value| if let Value::Object(object) = value { object } else { Object::new() };
    let tool = |name: &str, kind, rest: Value| Tool {
        name: name.into(),
        description: Some("d".into()),
        parameters: None,
        strict: None,
        kind,
        cache: None,
        rest: object(rest),
    };
    let grammar = json!({"format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}});
    let tools = vec![
        tool("f", ToolKind::Function, json!({"eager_input_streaming": true})),
        tool("g", ToolKind::Custom, grammar),
        tool("web_fetch", ToolKind::Server, json!({"type": "web_fetch_20250910", "name": "web_fetch"})),
        tool("file_search", ToolKind::Server, json!({"type": "file_search", "vector_store_ids": ["v"]})),
    ];
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto",
        "tools": [{"type": "function", "function": {"name": "f"}}]}});
    for (choice, expected) in [
        (ToolChoice::Required, json!("required")),
        (ToolChoice::Named("f".into()), json!({"type": "function", "name": "f"})),
        (ToolChoice::Named("g".into()), json!({"type": "custom", "name": "g"})),
        (
            ToolChoice::Other(allowed),
            json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}),
        ),
    ] {
        let (body, lost) = encoded(
            &Request {
                tools: tools.clone(),
                tool_choice: Some(choice),
                parallel_tool_calls: Some(false),
                ..asked(vec![message(Role::User, vec![Part::text("hi")])])
            },
            "gpt-4.1",
        );
        assert_eq!(body["tool_choice"], expected);
        assert_eq!(body["parallel_tool_calls"], false);
        assert_eq!(
            body["tools"],
            json!([
                {"type": "function", "name": "f", "description": "d",
                 "parameters": {"type": "object", "properties": {}}, "strict": false},
                {"type": "custom", "name": "g", "description": "d",
                 "format": {"syntax": "lark", "definition": "x", "type": "grammar"}},
                {"type": "file_search", "vector_store_ids": ["v"]},
            ])
        );
        // Models that never think are not asked for encrypted thinking.
        assert_eq!(body.get("include"), None);
        assert_eq!(lost, ["tools[0].eager_input_streaming (dropped)", "tools[2] (dropped)"]);
    }
}

#[test]
fn what_this_api_cannot_carry_is_refused_by_name() {
    let audio = Part::Audio { media: Media::Url("https://x/y.mp3".into()) };
    let asked = asked(vec![message(Role::User, vec![Part::text("hear"), audio])]);
    let target = TargetName::parse("p/m").unwrap();
    let fault = request(&asked, &target, &quirks(), "openai").unwrap_err();
    assert_eq!(fault.param.as_deref(), Some("messages[0].content[1]"));
}

#[test]
fn a_search_that_another_dialect_asks_for_is_openais_own() {
    for (rest, lost) in [
        (json!({"googleSearch": {}}), Vec::new()),
        (
            json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 3}),
            vec!["tools[0].max_uses (dropped)".to_owned()],
        ),
    ] {
        let rest = rest.as_object().unwrap().clone();
        let (name, kind) = ("web_search".into(), ToolKind::Server);
        let tool = Tool { name, description: None, parameters: None, strict: None, kind, cache: None, rest };
        let messages = vec![message(Role::User, vec![Part::text("hi")])];
        let (body, told) = encoded(&Request { tools: vec![tool], ..asked(messages) }, "gpt-5.1");
        assert_eq!((&body["tools"], told), (&json!([{"type": "web_search"}]), lost));
    }
}

#[test]
fn anthropics_context_management_is_another() {
    for (said, is_told) in [(json!({"edits": []}), false), (json!([{"type": "compaction"}]), true)] {
        let mut asked = asked(vec![message(Role::User, vec![Part::text("hi")])]);
        asked.rest.insert("context_management".into(), said.clone());
        let (body, lost) = encoded(&asked, "gpt-5.1");
        assert_eq!(body.get("context_management"), is_told.then_some(&said));
        assert_eq!(lost.is_empty(), is_told, "{lost:?}");
    }
}

#[test]
fn anthropics_compaction_is_no_item() {
    let sealed = json!({"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"});
    let said = json!({"type": "compaction", "content": "we met"});
    for (block, items, losses) in [(&sealed, 2, 0), (&said, 1, 1)] {
        let turns = vec![
            message(Role::Assistant, vec![Part::Other(block.clone())]),
            message(Role::User, vec![Part::text("hi")]),
        ];
        let (body, lost) = encoded(&asked(turns), "gpt-5.1");
        assert_eq!((body["input"].as_array().unwrap().len(), lost.len()), (items, losses), "{body} {lost:?}");
    }
}
