//! What canonical requests become.

use super::*;
use crate::chat::{CacheHint, Media, Message, Part, Reasoning, Role, Tool, ToolChoice, ToolKind, proof};

const CLAUDE: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
const LLAMA: &str = "meta.llama3-3-70b-instruct-v1:0";

fn sent(asked: &Request, model: &str) -> (Value, Vec<String>) {
    let target = TargetName { provider: "b".into(), model: model.into() };
    let outgoing = converse(asked, &target, &QuirkSettings::default()).unwrap();
    let lost = outgoing.lost.iter().map(ToString::to_string).collect();
    (serde_json::from_slice(&outgoing.body.concat()).unwrap(), lost)
}

fn message(role: Role, content: Vec<Part>) -> Message {
    Message { role, content, name: None, rest: Object::new() }
}

fn says(role: Role, text: &str) -> Message {
    message(role, vec![Part::text(text)])
}

fn asks(messages: Vec<Message>) -> Request {
    Request { messages, ..Request::default() }
}

fn call(id: &str, name: &str) -> Part {
    Part::ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: r#"{"a":1}"#.into(),
        kind: ToolKind::Function,
        signature: None,
        cache: None,
    }
}

fn result(id: &str, content: Vec<Part>, is_error: bool) -> Part {
    Part::ToolResult { id: id.into(), content, is_error, cache: None }
}

fn tool(name: &str) -> Tool {
    Tool {
        name: name.into(),
        description: Some("d".into()),
        parameters: Some(json!({"type": "object", "properties": {"a": {"type": "integer"}}})),
        strict: None,
        kind: ToolKind::Function,
        cache: None,
        rest: Object::new(),
    }
}

fn cached(text: &str, ttl: Option<&str>) -> Part {
    Part::Text {
        text: text.into(),
        cache: Some(CacheHint { ttl: ttl.map(Into::into) }),
        citations: Vec::new(),
    }
}

fn inline(mime: &str) -> Media {
    Media::Inline { mime: mime.into(), base64: "AAAA".into() }
}

#[test]
fn a_plain_question() {
    let mut asked = asks(vec![says(Role::System, "be brief"), says(Role::User, "hi")]);
    asked.max_output_tokens = Some(50);
    asked.sampling.temperature = Some(1.5);
    asked.sampling.top_p = Some(0.9);
    asked.sampling.top_k = Some(7);
    asked.sampling.stop = vec!["END".into(), " ".into()];
    let (body, lost) = sent(&asked, CLAUDE);
    assert_eq!(
        body,
        json!({
            "system": [{"text": "be brief"}],
            "messages": [{"role": "user", "content": [{"text": "hi"}]}],
            "inferenceConfig": {"maxTokens": 50, "topP": 0.9, "stopSequences": ["END"]},
            "additionalModelResponseFieldPaths": ["/stop_sequence", "/delta/stop_sequence"],
            "additionalModelRequestFields": {"top_k": 7},
        })
    );
    assert_eq!(lost, ["temperature (lowered to 1)", "stop (sequences of white space dropped)"]);
    let (body, lost) = sent(&asked, LLAMA);
    assert_eq!((body.get("additionalModelRequestFields"), lost.len()), (None, 3));
}

#[test]
fn turns_alternate_and_results_come_first() {
    let thought = Part::Thinking { text: "hm".into(), signature: Some("s".into()), redacted: None };
    let hidden = Part::Thinking { text: String::new(), signature: None, redacted: Some("QQ==".into()) };
    let unsigned = Part::Thinking { text: "x".into(), signature: None, redacted: None };
    let mut asked = asks(vec![
        says(Role::Assistant, "welcome"),
        says(Role::User, "one"),
        says(Role::User, "two"),
        message(
            Role::Assistant,
            vec![thought, hidden, unsigned, Part::text(" "), call("t 1", "f"), call("t2", "g")],
        ),
        message(Role::User, vec![Part::text("and")]),
        message(Role::Tool, vec![result("t 1", vec![Part::text("ok")], false)]),
        message(Role::Tool, vec![result("t2", Vec::new(), true)]),
        says(Role::Developer, "later rule"),
        says(Role::Assistant, "so "),
    ]);
    asked.tools = vec![tool("f"), tool("g")];
    let (body, lost) = sent(&asked, CLAUDE);
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [{"text": "(start)"}]},
            {"role": "assistant", "content": [{"text": "welcome"}]},
            {"role": "user", "content": [{"text": "one"}, {"text": "two"}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                {"reasoningContent": {"redactedContent": "QQ=="}},
                {"toolUse": {"toolUseId": "t_1", "name": "f", "input": {"a": 1}}},
                {"toolUse": {"toolUseId": "t2", "name": "g", "input": {"a": 1}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "t_1", "content": [{"text": "ok"}]}},
                {"toolResult": {"toolUseId": "t2", "content": [{"text": "(no output)"}], "status": "error"}},
                {"text": "and"},
            ]},
            {"role": "assistant", "content": [{"text": "so"}]},
        ])
    );
    assert_eq!(body["system"], json!([{"text": "later rule"}]));
    assert_eq!(
        lost,
        [
            "messages[3].content[2] (thinking that this model does not take back dropped)",
            "messages[7] (moved to the system prompt)",
            "messages (a word of the user's was put before the model's)",
        ]
    );
    let (body, _) = sent(&asked, LLAMA);
    assert_eq!(body["messages"][3]["content"].as_array().unwrap().len(), 2, "no thoughts for other models");
    assert_eq!(body["messages"][4]["content"][1]["toolResult"].get("status"), None);
}

#[test]
fn who_goes_on_with_no_answer_that_was_begun_is_asked_to() {
    let asked = asks(vec![says(Role::User, "hi"), says(Role::Assistant, "So: ")]);
    let of = |model: &str| sent(&asked, model);
    let (body, lost) = of("us.anthropic.claude-opus-4-6-v1");
    assert_eq!(body["messages"][1], json!({"role": "assistant", "content": [{"text": "So:"}]}));
    assert_eq!(body["messages"][2], json!({"role": "user", "content": [{"text": "Continue."}]}));
    assert_eq!(lost.len(), 1, "{lost:?}");
    for model in [CLAUDE, LLAMA] {
        let (body, lost) = of(model);
        assert_eq!((body["messages"].as_array().map(Vec::len), lost.len()), (Some(2), 0), "{model}");
    }
}

#[test]
fn what_ran_or_was_thought_at_another_provider_is_left_out() {
    let hidden =
        |data: &str| Part::Thinking { text: String::new(), signature: None, redacted: Some(data.into()) };
    let detail = |format| proof::Detail { format, index: Some(0), id: "", proof: "QQ==" }.mark();
    let search = json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}});
    let asked = asks(vec![
        says(Role::User, "hi"),
        message(
            Role::Assistant,
            vec![
                hidden(&detail("openai-responses-v1")),
                hidden(&detail("anthropic-claude-v1")),
                Part::Other(search),
                Part::text("found"),
            ],
        ),
        says(Role::User, "go on"),
    ]);
    let (body, lost) = sent(&asked, CLAUDE);
    assert_eq!(
        body["messages"][1]["content"],
        json!([{"reasoningContent": {"redactedContent": "QQ=="}}, {"text": "found"}])
    );
    assert_eq!(
        lost,
        [
            "messages[1].content[0] (thinking that this model does not take back dropped)",
            "messages[1].content[2] (part of another provider's dialect dropped)",
        ]
    );
}

#[test]
fn media_become_blocks_with_formats() {
    let file =
        |mime: &str, name: &str| Part::File { media: inline(mime), filename: Some(name.into()), cache: None };
    let image = |media: Media| Part::Image { media, detail: None, cache: None };
    let asked = asks(vec![message(
        Role::User,
        vec![
            image(inline("image/png")),
            image(Media::Url("s3://bucket/a.webp".into())),
            file("application/pdf", "a/b.pdf"),
            file("text/csv", "a b.csv"),
            Part::Audio { media: inline("audio/wav") },
            Part::Other(json!({"type": "guardContent", "guardContent": {"text": {"text": "x"}}})),
            Part::Other(
                json!({"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "c"}]}),
            ),
        ],
    )]);
    let (body, _) = sent(&asked, CLAUDE);
    assert_eq!(
        body["messages"][0]["content"],
        json!([
            {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
            {"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://bucket/a.webp"}}}},
            {"document": {"format": "pdf", "source": {"bytes": "AAAA"}, "name": "a b"}},
            {"document": {"format": "csv", "source": {"bytes": "AAAA"}, "name": "a b (2)"}},
            {"audio": {"format": "wav", "source": {"bytes": "AAAA"}}},
            {"guardContent": {"text": {"text": "x"}}},
            {"searchResult": {"source": "s", "title": "t", "content": [{"text": "c"}]}},
            {"text": "(see the document)"},
        ])
    );
    let target = TargetName { provider: "b".into(), model: CLAUDE.into() };
    for part in [image(Media::Url("https://x/a.png".into())), Part::Other(json!({"type": "strange"}))] {
        let asked = asks(vec![message(Role::User, vec![Part::text("a"), part])]);
        let fault = converse(&asked, &target, &QuirkSettings::default()).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some("messages[0].content[1]"), "{fault}");
    }
}

#[test]
fn cache_points_follow_their_blocks() {
    let mut asked = asks(vec![
        message(Role::System, vec![cached("rules", Some("1h"))]),
        message(Role::Assistant, vec![call("t", "f")]),
        message(
            Role::Tool,
            vec![Part::ToolResult {
                id: "t".into(),
                content: vec![Part::text("ok")],
                is_error: false,
                cache: Some(CacheHint { ttl: Some("5m".into()) }),
            }],
        ),
        message(Role::User, vec![cached("hi", None)]),
    ]);
    asked.tools = vec![Tool { cache: Some(CacheHint { ttl: None }), ..tool("f") }];
    let (body, lost) = sent(&asked, CLAUDE);
    let point = json!({"cachePoint": {"type": "default"}});
    assert_eq!(body["system"], json!([{"text": "rules"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]));
    let turn = body["messages"][2]["content"].as_array().unwrap();
    assert_eq!((turn.len(), &turn[1], &turn[2], &turn[3]), (4, &point, &json!({"text": "hi"}), &point));
    assert_eq!(body["toolConfig"]["tools"][1], point);
    assert_eq!(lost.len(), 1, "only the first word of the user's: {lost:?}");
    let (_, lost) = sent(&asked, "amazon.nova-lite-v1:0");
    assert!(
        lost.contains(&"tools[0].cache_control (dropped: this model caches no tools)".to_owned()),
        "{lost:?}"
    );
    assert!(
        lost.contains(&"messages[0].content[0].cache_control.ttl (lowered to 5m)".to_owned()),
        "{lost:?}"
    );
    let (body, lost) = sent(&asked, LLAMA);
    assert!(!body.to_string().contains("cachePoint") && lost.len() == 6, "{lost:?}");
}

#[test]
fn choices_of_tools() {
    let spec = |name: &str| {
        json!({"toolSpec": {"name": name, "description": "d",
            "inputSchema": {"json": {"type": "object", "properties": {"a": {"type": "integer"}}}}}})
    };
    for (choice, alone, model, config, fields) in [
        (None, None, CLAUDE, json!({"tools": [spec("f")]}), Value::Null),
        (Some(ToolChoice::Auto), None, LLAMA, json!({"tools": [spec("f")]}), Value::Null),
        (
            Some(ToolChoice::Required),
            None,
            CLAUDE,
            json!({"tools": [spec("f")], "toolChoice": {"any": {}}}),
            Value::Null,
        ),
        (
            Some(ToolChoice::Named("f".into())),
            None,
            CLAUDE,
            json!({"tools": [spec("f")], "toolChoice": {"tool": {"name": "f"}}}),
            Value::Null,
        ),
        (
            Some(ToolChoice::Named("f".into())),
            Some(false),
            CLAUDE,
            json!({"tools": [spec("f")]}),
            json!({"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true}}),
        ),
        (Some(ToolChoice::None), None, CLAUDE, Value::Null, Value::Null),
    ] {
        let mut asked = asks(vec![says(Role::User, "hi")]);
        asked.tools = vec![tool("f")];
        (asked.tool_choice, asked.parallel_tool_calls) = (choice.clone(), alone);
        let (body, lost) = sent(&asked, model);
        assert_eq!(
            (&body["toolConfig"], &body["additionalModelRequestFields"]),
            (&config, &fields),
            "{choice:?}"
        );
        assert!(lost.is_empty(), "{lost:?}");
    }
}

#[test]
fn tools_are_always_there_where_they_were_called() {
    let history = vec![
        says(Role::User, "hi"),
        message(Role::Assistant, vec![call("t", "f")]),
        message(Role::Tool, vec![result("t", vec![Part::text("ok")], false)]),
    ];
    let (body, lost) = sent(&asks(history.clone()), CLAUDE);
    assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["name"], "f");
    assert_eq!(lost.len(), 1, "{lost:?}");
    let barred = Request { tools: vec![tool("f")], tool_choice: Some(ToolChoice::None), ..asks(history) };
    let (body, lost) = sent(&barred, CLAUDE);
    assert_eq!(body["toolConfig"]["tools"].as_array().unwrap().len(), 1);
    assert_eq!(lost, ["tool_choice (left to the model: this provider cannot bar tools)"]);
}

#[test]
fn nova_takes_plain_schemas() {
    let mut asked = asks(vec![says(Role::User, "hi")]);
    let schema = json!({"$schema": "x", "type": "object", "properties": {}, "additionalProperties": false});
    asked.tools = vec![Tool { parameters: Some(schema), ..tool("f") }];
    let (body, lost) = sent(&asked, "amazon.nova-lite-v1:0");
    let spec = &body["toolConfig"]["tools"][0]["toolSpec"];
    assert_eq!(spec["inputSchema"]["json"], json!({"type": "object", "properties": {}}));
    assert_eq!(lost, ["tools[0].parameters.additionalProperties (dropped)"]);
}

#[test]
fn tools_of_the_providers_own() {
    let own = |fields: Value| Tool {
        kind: ToolKind::Server,
        parameters: None,
        rest: fields.as_object().unwrap().clone(),
        ..tool("x")
    };
    let mut asked = asks(vec![says(Role::User, "hi")]);
    asked.tools = vec![
        own(
            json!({"type": "computer_20250124", "name": "computer", "display_width_px": 1, "display_height_px": 1}),
        ),
        own(json!({"type": "web_search_20250305", "name": "web_search"})),
        own(json!({"systemTool": {"name": "nova_grounding"}})),
    ];
    let (body, lost) = sent(&asked, CLAUDE);
    let fields = &body["additionalModelRequestFields"];
    assert_eq!(fields["tools"][0]["name"], "computer");
    assert_eq!(fields["anthropic_beta"], json!(["computer-use-2025-01-24"]));
    assert_eq!(lost, ["tools[1] (dropped)"]);
    let (body, lost) = sent(&asked, "us.amazon.nova-2-lite-v1:0");
    let grounding = json!({"systemTool": {"name": "nova_grounding"}});
    assert_eq!(body["toolConfig"]["tools"], json!([grounding, grounding]));
    assert_eq!(lost, ["tools[0] (dropped)"]);
}

#[test]
fn thinking_forbids_some_sampling() {
    let mut asked = asks(vec![says(Role::User, "hi")]);
    asked.reasoning = Some(Reasoning { budget_tokens: Some(2_000), ..Reasoning::default() });
    asked.sampling.temperature = Some(0.5);
    asked.sampling.top_k = Some(3);
    let (body, lost) = sent(&asked, CLAUDE);
    assert_eq!(
        body["additionalModelRequestFields"],
        json!({"thinking": {"type": "enabled", "budget_tokens": 2000}})
    );
    assert_eq!(body["inferenceConfig"], json!({"maxTokens": 32_000}));
    assert_eq!(lost, ["temperature (not allowed while thinking)", "top_k (not allowed while thinking)"]);
    asked.reasoning = Some(Reasoning { effort: Some("high".into()), ..Reasoning::default() });
    asked.max_output_tokens = Some(100);
    let (body, lost) = sent(&asked, "us.amazon.nova-2-lite-v1:0");
    assert_eq!((body.get("inferenceConfig"), lost.len()), (None, 3), "{lost:?}");
    let (body, lost) = sent(&asked, "global.anthropic.claude-opus-4-7");
    assert_eq!(body["outputConfig"], json!({"effort": "high"}));
    let thinking = json!({"type": "adaptive", "display": "summarized"});
    assert_eq!(body["additionalModelRequestFields"], json!({"thinking": thinking}));
    assert_eq!(body["inferenceConfig"], json!({"maxTokens": 100}));
    assert_eq!(lost.len(), 2, "{lost:?}");
}

#[test]
fn no_tool_is_forced_upon_llama() {
    let mut asked = asks(vec![says(Role::User, "hi")]);
    asked.tools = vec![tool("f")];
    for choice in [ToolChoice::Required, ToolChoice::Named("f".into())] {
        asked.tool_choice = Some(choice);
        let (body, lost) = sent(&asked, LLAMA);
        assert_eq!(body["toolConfig"].get("toolChoice"), None);
        assert_eq!(lost, ["tool_choice (left to the model: tools cannot be forced upon it)"]);
    }
}

#[test]
fn the_newest_claude_takes_no_sampling_and_no_force() {
    let mut asked = asks(vec![says(Role::User, "hi")]);
    asked.sampling.temperature = Some(0.5);
    asked.sampling.top_p = Some(0.9);
    asked.tools = vec![tool("f")];
    asked.tool_choice = Some(ToolChoice::Required);
    let (body, lost) = sent(&asked, "anthropic.claude-opus-5-5");
    assert_eq!((body.get("inferenceConfig"), body["toolConfig"].get("toolChoice")), (None, None));
    assert_eq!(
        lost,
        [
            "tool_choice (left to the model: tools cannot be forced upon it)",
            "temperature (dropped: this model takes no sampling)",
            "top_p (dropped: this model takes no sampling)",
        ]
    );
    let (body, lost) = sent(&asked, CLAUDE);
    assert_eq!(body["inferenceConfig"], json!({"temperature": 0.5}));
    assert_eq!(lost, ["top_p (dropped: this model takes it or a temperature, not both)"]);
}

#[test]
fn schemas_go_as_text_or_in_words() {
    let mut asked = asks(vec![says(Role::User, "hi")]);
    let form = |schema: Value| OutputFormat::JsonSchema {
        name: "n".into(),
        description: None,
        schema,
        strict: Some(true),
    };
    asked.output = form(json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}));
    let (body, lost) = sent(&asked, CLAUDE);
    let definition = &body["outputConfig"]["textFormat"]["structure"]["jsonSchema"];
    let made: Value = serde_json::from_str(definition["schema"].as_str().unwrap()).unwrap();
    let number = json!({"type": "integer", "description": "{minimum: 1}"});
    let closed = json!({"type": "object", "properties": {"a": number}, "additionalProperties": false});
    assert_eq!((&definition["name"], made), (&json!("n"), closed));
    assert_eq!(
        lost,
        [
            "response_format.json_schema.schema.properties.a.minimum (moved to the description: this model follows \
             no such keyword)"
        ]
    );
    asked.output = form(json!({"type": "object"}));
    for (model, why) in [(CLAUDE, "follows no such schema"), (LLAMA, "takes no schema")] {
        let (body, lost) = sent(&asked, model);
        assert!(body["system"][0]["text"].as_str().unwrap().ends_with("{\"type\":\"object\"}"));
        assert_eq!(body.get("outputConfig"), None);
        assert_eq!(lost, [format!("response_format (asked for in the system prompt: this model {why})")]);
    }
    asked.tools = vec![Tool { strict: Some(true), ..tool("f") }];
    asked.output = OutputFormat::Text;
    let (body, lost) = sent(&asked, CLAUDE);
    let spec = &body["toolConfig"]["tools"][0]["toolSpec"];
    assert_eq!(
        (&spec["strict"], &spec["inputSchema"]["json"]["additionalProperties"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(lost, [""; 0]);
}

#[test]
fn fields_of_converse_pass_and_others_are_named() {
    let mut asked = asks(vec![says(Role::User, "hi")]);
    asked.user = Some("u".into());
    asked.metadata = json!({"team": "a b", "bad": "ü", "list": []}).as_object().unwrap().clone();
    asked.rest = json!({
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
        "performanceConfig": {"latency": "optimized"},
        "additionalModelRequestFields": {"anthropic_beta": ["x"]},
        "service_tier": "flex", "store": true, "verbosity": "low", "nothing": null,
    })
    .as_object()
    .unwrap()
    .clone();
    let (body, lost) = sent(&asked, CLAUDE);
    assert_eq!(body["guardrailConfig"]["guardrailIdentifier"], "g");
    assert_eq!(body["performanceConfig"], json!({"latency": "optimized"}));
    assert_eq!(body["additionalModelRequestFields"], json!({"anthropic_beta": ["x"]}));
    assert_eq!(
        (&body["serviceTier"], &body["requestMetadata"]),
        (&json!({"type": "flex"}), &json!({"team": "a b"}))
    );
    let mut lost = lost;
    lost.sort();
    assert_eq!(
        lost,
        [
            "metadata.bad (dropped)",
            "metadata.list (dropped)",
            "store (dropped)",
            "user (dropped)",
            "verbosity (dropped)"
        ]
    );
}

#[test]
fn openais_models_take_no_sampling() {
    let mut asked = asks(vec![says(Role::User, "hi")]);
    asked.sampling.temperature = Some(0.5);
    asked.sampling.stop = vec!["END".into()];
    let (body, lost) = sent(&asked, "openai.gpt-5.4");
    assert_eq!(body.get("inferenceConfig"), None);
    let why = "temperature (dropped: this model takes no sampling)";
    assert_eq!(lost, [why, "stop (dropped: this model takes no stop sequences)"]);
    let (body, lost) = sent(&asked, "openai.gpt-oss-120b-1:0");
    let kept = json!({"temperature": 0.5, "stopSequences": ["END"]});
    assert_eq!((&body["inferenceConfig"], lost.len()), (&kept, 0));
}

#[test]
fn films_are_blocks_of_their_own() {
    for (url, source) in [
        ("data:video/mp4;base64,AAAA", json!({"bytes": "AAAA"})),
        ("s3://bucket/a.mp4", json!({"s3Location": {"uri": "s3://bucket/a.mp4"}})),
    ] {
        let film = Part::Other(json!({"type": "video_url", "video_url": {"url": url}}));
        let (body, lost) = sent(&asks(vec![message(Role::User, vec![Part::text("see"), film])]), CLAUDE);
        let expected = json!({"video": {"format": "mp4", "source": source}});
        assert_eq!((&body["messages"][0]["content"][1], lost.len()), (&expected, 0), "{url}");
    }
}

#[test]
fn what_may_not_stand_beside_a_result_follows_in_its_own_turn() {
    let pdf = || Part::File { media: inline("application/pdf"), filename: Some("a.pdf".into()), cache: None };
    for (model, part, turns) in [
        (LLAMA, Part::text("and"), 5),
        ("mistral.mistral-large-2402-v1:0", Part::text("and"), 5),
        ("us.writer.palmyra-x4-v1:0", Part::text("and"), 5),
        (CLAUDE, Part::text("and"), 3),
        (CLAUDE, pdf(), 5),
        ("us.amazon.nova-lite-v1:0", pdf(), 3),
    ] {
        let mut asked = asks(vec![
            says(Role::User, "one"),
            message(Role::Assistant, vec![call("t1", "f")]),
            message(Role::Tool, vec![result("t1", vec![Part::text("ok")], false)]),
            message(Role::User, vec![part]),
        ]);
        asked.tools = vec![tool("f")];
        let (body, lost) = sent(&asked, model);
        let messages = body["messages"].as_array().unwrap();
        assert_eq!((messages.len(), lost.len()), (turns, usize::from(turns == 5)), "{model}: {body}");
        assert!(
            messages
                .iter()
                .zip(["user", "assistant"].iter().cycle())
                .all(|(turn, role)| turn["role"] == **role)
        );
        assert_eq!(messages[2]["content"].as_array().unwrap().len() == 1, turns == 5, "{model}: {body}");
    }
}
