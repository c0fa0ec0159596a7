//! The canonical request in Anthropic's words, and what is lost on the way.

use serde_json::{Value, json};

use super::*;
use crate::chat::{Message, Reasoning, Role, Sampling};

fn encoded(asked: &Request) -> (Value, Vec<String>) {
    encoded_for("claude-sonnet-4-5", asked)
}

fn encoded_for(model: &str, asked: &Request) -> (Value, Vec<String>) {
    let target = TargetName::parse(&format!("p/{model}")).unwrap();
    let outgoing = messages(asked, &target, &QuirkSettings::default()).unwrap();
    assert_eq!(outgoing.path, "/messages");
    assert_eq!(outgoing.headers["anthropic-version"], "2023-06-01");
    let lost = outgoing.lost.iter().map(ToString::to_string).collect();
    (serde_json::from_slice(&outgoing.body.concat()).unwrap(), lost)
}

fn message(role: Role, content: Vec<Part>) -> Message {
    Message { role, content, name: None, rest: Object::new() }
}

fn call(id: &str, arguments: &str) -> Part {
    Part::ToolCall {
        id: id.into(),
        name: "weather".into(),
        arguments: arguments.into(),
        kind: ToolKind::Function,
        signature: None,
        cache: None,
    }
}

fn result(id: &str, content: Vec<Part>, is_error: bool) -> Part {
    Part::ToolResult { id: id.into(), content, is_error, cache: None }
}

fn image() -> Part {
    Part::Image {
        media: Media::Inline { mime: "image/jpg".into(), base64: "AA==".into() },
        detail: None,
        cache: None,
    }
}

fn asked(messages: Vec<Message>) -> Request {
    Request { messages, max_output_tokens: Some(4096), ..Request::default() }
}

#[test]
fn a_conversation_is_said_in_anthropics_words() {
    let cached = |text: &str, ttl: Option<&str>| Part::Text {
        text: text.into(),
        cache: Some(CacheHint { ttl: ttl.map(Into::into) }),
        citations: vec![],
    };
    let thinking = Part::Thinking { text: "hm".into(), signature: Some("sig".into()), redacted: None };
    let redacted = Part::Thinking { text: String::new(), signature: None, redacted: Some("blob".into()) };
    let pdf = Part::File {
        media: Media::Inline { mime: "application/pdf".into(), base64: "JVBER".into() },
        filename: Some("a.pdf".into()),
        cache: Some(CacheHint { ttl: None }),
    };
    let request = asked(vec![
        message(Role::System, vec![cached("be short", Some("1h"))]),
        message(Role::User, vec![Part::text("look"), image(), pdf]),
        message(Role::Assistant, vec![thinking, redacted, call("c:1", r#"{"city":"Rome"}"#), call("c2", "")]),
        message(Role::Tool, vec![result("c:1", vec![Part::text("sunny"), image()], false)]),
        message(Role::Tool, vec![result("c2", vec![Part::text("boom")], true)]),
        message(Role::Developer, vec![Part::text("in French")]),
        message(Role::User, vec![Part::text("  "), Part::text("go on")]),
        message(Role::Assistant, vec![Part::text("Well, \n")]),
    ]);
    let (body, lost) = encoded(&request);
    let picture =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA=="}});
    assert_eq!(
        body,
        json!({
            "model": "claude-sonnet-4-5",
            "system": [
                {"type": "text", "text": "be short", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                {"type": "text", "text": "in French"}],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "look"}, picture,
                    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBER"},
                     "title": "a.pdf", "cache_control": {"type": "ephemeral"}}]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "blob"},
                    {"type": "tool_use", "id": "c_1", "name": "weather", "input": {"city": "Rome"}},
                    {"type": "tool_use", "id": "c2", "name": "weather", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c_1",
                     "content": [{"type": "text", "text": "sunny"}, picture]},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "boom", "is_error": true},
                    {"type": "text", "text": "go on"}]},
                {"role": "assistant", "content": "Well,"}],
            "max_tokens": 4096,
        })
    );
    assert_eq!(lost, ["messages[5] (moved to the system prompt)"]);
}

#[test]
fn who_goes_on_with_no_answer_that_was_begun_is_asked_to() {
    let asked = asked(vec![
        message(Role::User, vec![Part::text("hi")]),
        message(Role::Assistant, vec![Part::text("So: ")]),
    ]);
    let turns = [json!({"role": "user", "content": "hi"}), json!({"role": "assistant", "content": "So:"})];
    let last = json!({"role": "user", "content": "Continue."});
    for (model, goes_on) in [
        ("claude-sonnet-4-5", true),
        ("claude-opus-4-1", true),
        ("claude-opus-4-6", false),
        ("claude-sonnet-5", false),
        ("kimi-k2", true),
    ] {
        let (body, lost) = encoded_for(model, &asked);
        let expected: Vec<_> = turns.iter().chain((!goes_on).then_some(&last)).cloned().collect();
        assert_eq!(body["messages"], Value::Array(expected), "{model}");
        assert_eq!(lost.is_empty(), goes_on, "{model}: {lost:?}");
    }
}

#[test]
fn results_stand_before_words() {
    let request = asked(vec![
        message(Role::Assistant, vec![call("c1", "{}")]),
        message(Role::User, vec![Part::text("wait"), result("c1", vec![], false)]),
    ]);
    let (body, _) = encoded(&request);
    assert_eq!(
        body["messages"][1]["content"],
        json!([{"type": "tool_result", "tool_use_id": "c1"}, {"type": "text", "text": "wait"}])
    );
}

#[test]
fn who_may_call_a_tool_and_when_it_is_loaded_is_told_in_anthropics_sense_alone() {
    let tool = |kind, rest: Value| Tool {
        name: "f".into(),
        description: None,
        parameters: None,
        strict: None,
        kind,
        cache: None,
        rest: rest.as_object().cloned().unwrap(),
    };
    let hi = || asked(vec![message(Role::User, vec![Part::text("hi")])]);
    let callers = json!(["code_execution_20250825", "direct"]);
    let own = json!({"defer_loading": true, "allowed_callers": callers});
    let (body, lost) = encoded(&Request { tools: vec![tool(ToolKind::Function, own)], ..hi() });
    assert_eq!(
        (&body["tools"][0]["defer_loading"], &body["tools"][0]["allowed_callers"]),
        (&json!(true), &callers)
    );
    assert!(lost.is_empty(), "{lost:?}");
    let others = json!({"defer_loading": true, "allowed_callers": ["programmatic"]});
    let tools =
        vec![tool(ToolKind::Function, others), tool(ToolKind::Server, json!({"type": "tool_search"}))];
    let (body, lost) = encoded(&Request { tools, ..hi() });
    assert_eq!(body["tools"], json!([{"name": "f", "input_schema": {"type": "object", "properties": {}}}]));
    let expected =
        ["tools[0].defer_loading (dropped)", "tools[0].allowed_callers (dropped)", "tools[1] (dropped)"];
    assert_eq!(lost, expected);
}

#[test]
fn tools_and_their_choice_are_carried() {
    let tool = |name: &str, kind, parameters: Option<Value>, rest: Value| Tool {
        name: name.into(),
        description: None,
        parameters,
        strict: Some(true),
        kind,
        cache: None,
        rest: rest.as_object().cloned().unwrap(),
    };
    let request = Request {
        tools: vec![
            tool("f", ToolKind::Function, Some(json!({"properties": {}})), json!({})),
            tool("g", ToolKind::Function, None, json!({"defer_loading": true, "odd": 1})),
            tool("c", ToolKind::Custom, None, json!({})),
            tool("s", ToolKind::Server, None, json!({"type": "web_search_20250305", "name": "web_search"})),
            tool("o", ToolKind::Server, None, json!({"type": "web_search"})),
        ],
        tool_choice: Some(ToolChoice::Required),
        parallel_tool_calls: Some(false),
        ..asked(vec![message(Role::User, vec![Part::text("hi")])])
    };
    let (body, lost) = encoded(&request);
    assert_eq!(
        body["tools"],
        json!([
            {"name": "f", "input_schema": {"properties": {}, "type": "object", "additionalProperties": false},
             "strict": true},
            {"name": "g", "input_schema": {"type": "object", "properties": {}, "additionalProperties": false},
             "strict": true, "defer_loading": true},
            {"name": "c", "input_schema": {"type": "object", "properties": {"input": {"type": "string"}},
             "required": ["input"], "additionalProperties": false}, "strict": true},
            {"type": "web_search_20250305", "name": "web_search"}])
    );
    assert_eq!(body["tool_choice"], json!({"type": "any", "disable_parallel_tool_use": true}));
    assert_eq!(
        lost,
        [
            "tools[1].odd (dropped)",
            "tools[2] (offered as a function with one text argument)",
            "tools[4] (dropped: another tool has its name)"
        ]
    );
    for (choice, parallel, expected) in [
        (None, None, json!(null)),
        (None, Some(false), json!({"type": "auto", "disable_parallel_tool_use": true})),
        (Some(ToolChoice::None), Some(false), json!({"type": "none"})),
        (Some(ToolChoice::Named("f".into())), None, json!({"type": "tool", "name": "f"})),
    ] {
        let request = Request { tool_choice: choice, parallel_tool_calls: parallel, ..request.clone() };
        assert_eq!(encoded(&request).0["tool_choice"], expected);
    }
    let (older, lost) = encoded_for("claude-3-haiku-20240307", &request);
    assert_eq!(older["tools"][0].get("strict"), None);
    assert!(lost.contains(&"tools[0].function.strict (dropped)".to_owned()), "{lost:?}");
}

#[test]
fn tools_that_cannot_be_followed_to_the_letter_are_not_strict() {
    let parameters = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}});
    let tool = Tool {
        name: "f".into(),
        description: None,
        parameters: Some(parameters.clone()),
        strict: Some(true),
        kind: ToolKind::Function,
        cache: None,
        rest: Object::new(),
    };
    let request = Request {
        tools: vec![tool],
        tool_choice: Some(ToolChoice::Named("f".into())),
        ..asked(vec![message(Role::User, vec![Part::text("hi")])])
    };
    let (body, lost) = encoded(&request);
    assert_eq!(body["tools"], json!([{"name": "f", "input_schema": parameters}]));
    assert_eq!(lost, ["tools[0].function.strict (dropped: this model follows no such schema to the letter)"]);
    let (body, lost) = encoded_for("claude-opus-5-5", &request);
    assert_eq!(body.get("tool_choice"), None, "the newest refuse to be forced");
    assert_eq!(lost.len(), 2, "{lost:?}");
}

#[test]
fn efforts_buy_budgets_where_thinking_is_possible() {
    let user = || message(Role::User, vec![Part::text("hi")]);
    let effort = |effort: &str| Some(Reasoning { effort: Some(effort.into()), ..Reasoning::default() });
    let base = Request { reasoning: effort("high"), max_output_tokens: Some(32_000), ..asked(vec![user()]) };
    let result = message(Role::Tool, vec![result("c", vec![Part::text("x")], false)]);
    let unproven = vec![user(), message(Role::Assistant, vec![call("c", "{}")]), result.clone()];
    let signed = Part::Thinking { text: "t".into(), signature: Some("s".into()), redacted: None };
    let proven = vec![user(), message(Role::Assistant, vec![signed, call("c", "{}")]), result];
    for (request, expected) in [
        (base.clone(), json!(16_384)),
        (Request { reasoning: effort("none"), ..base.clone() }, json!(null)),
        (Request { reasoning: effort("low"), ..base.clone() }, json!(1024)),
        (Request { max_output_tokens: Some(500), ..base.clone() }, json!(null)),
        (Request { messages: unproven, ..base.clone() }, json!(null)),
        (Request { messages: proven, ..base.clone() }, json!(16_384)),
        (
            Request {
                reasoning: Some(Reasoning { budget_tokens: Some(2000), ..Reasoning::default() }),
                max_output_tokens: None,
                ..base.clone()
            },
            json!(2000),
        ),
    ] {
        let (body, lost) = encoded(&request);
        assert_eq!(body["thinking"]["budget_tokens"], expected, "{lost:?}");
        let is_wanted = request.reasoning != effort("none");
        assert_eq!(lost.is_empty(), !expected.is_null() || !is_wanted, "{lost:?}");
    }
    let sampled = Request {
        sampling: Sampling {
            temperature: Some(0.2),
            top_p: Some(1.0),
            top_k: Some(4),
            ..Sampling::default()
        },
        ..base
    };
    let (body, lost) = encoded(&sampled);
    assert_eq!((body.get("temperature"), body.get("top_p"), body.get("top_k")), (None, None, None));
    assert_eq!(lost, ["temperature (not allowed while thinking)", "top_k (not allowed while thinking)"]);
}

#[test]
fn an_effort_is_said_as_one_to_models_that_think_as_they_like() {
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let request = Request {
        reasoning: Some(Reasoning { effort: Some("high".into()), ..Reasoning::default() }),
        output: OutputFormat::JsonSchema {
            name: "n".into(),
            description: None,
            schema: schema.clone(),
            strict: Some(true),
        },
        sampling: Sampling {
            temperature: Some(0.2),
            top_p: Some(1.0),
            top_k: Some(4),
            ..Sampling::default()
        },
        ..asked(vec![message(Role::User, vec![Part::text("hi")])])
    };
    let (body, lost) = encoded_for("claude-opus-4-7", &request);
    assert_eq!(
        body,
        json!({
            "model": "claude-opus-4-7",
            "messages": [{"role": "user", "content": "hi"}],
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"format": {"type": "json_schema", "schema": schema}, "effort": "high"},
            "max_tokens": 4096,
        })
    );
    assert_eq!(
        lost,
        [
            "temperature (dropped: this model takes no sampling)",
            "top_k (dropped: this model takes no sampling)"
        ]
    );
    let both = Request {
        sampling: Sampling { temperature: Some(0.2), top_p: Some(0.9), ..Sampling::default() },
        reasoning: None,
        ..request
    };
    let (body, lost) = encoded_for("claude-opus-4-1", &both);
    assert_eq!((&body["temperature"], body.get("top_p")), (&json!(0.2), None));
    assert_eq!(lost, ["top_p (dropped: this model takes it or a temperature, not both)"]);
}

#[test]
fn what_cannot_be_said_is_named() {
    let request = Request {
        sampling: Sampling {
            temperature: Some(1.7),
            top_p: Some(1.0),
            presence_penalty: Some(0.0),
            frequency_penalty: Some(0.5),
            seed: Some(7),
            stop: vec!["END".into(), "\n".into()],
            logprobs: Some(false),
            n: Some(2),
            ..Sampling::default()
        },
        output: OutputFormat::JsonObject,
        user: Some("u1".into()),
        max_output_tokens: None,
        rest: json!({"store": true, "service_tier": "flex", "thinking": {"type": "disabled"}, "x": null,
            "safety_identifier": "u1"})
        .as_object()
        .cloned()
        .unwrap(),
        metadata: json!({"team": "legal"}).as_object().cloned().unwrap(),
        stream: true,
        ..asked(vec![message(Role::User, vec![Part::text("hi")])])
    };
    let (body, lost) = encoded(&request);
    assert_eq!(
        body,
        json!({
            "model": "claude-sonnet-4-5",
            "system": "Answer with one JSON object and nothing else: no explanation, no code fence.",
            "messages": [{"role": "user", "content": "hi"}],
            "thinking": {"type": "disabled"},
            "max_tokens": 32000,
            "temperature": 1.0,
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u1"},
            "stream": true,
        })
    );
    assert_eq!(
        lost,
        [
            "response_format (asked for in the system prompt)",
            "store (dropped)",
            "service_tier (dropped)",
            "temperature (lowered to 1)",
            "stop (sequences of white space dropped)",
            "frequency_penalty (dropped)",
            "seed (dropped)",
            "n (lowered to 1)",
            "metadata.team (dropped)",
        ]
    );
}

#[test]
fn schemas_go_out_as_such_to_models_that_take_them() {
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let request = Request {
        output: OutputFormat::JsonSchema {
            name: "n".into(),
            description: None,
            schema: schema.clone(),
            strict: Some(true),
        },
        ..asked(vec![message(Role::User, vec![Part::text("hi")])])
    };
    let (body, lost) = encoded(&request);
    assert_eq!(body["output_config"], json!({"format": {"type": "json_schema", "schema": schema}}));
    assert!(lost.is_empty());
    let (body, lost) = encoded_for("claude-3-5-haiku-latest", &request);
    assert_eq!(body.get("output_config"), None);
    assert!(body["system"].as_str().unwrap().ends_with(&schema.to_string()));
    assert_eq!(lost.len(), 1);
}

#[test]
fn schemas_are_brought_down_to_what_claude_follows() {
    let form = |schema: Value| Request {
        output: OutputFormat::JsonSchema { name: "n".into(), description: None, schema, strict: None },
        ..asked(vec![message(Role::User, vec![Part::text("hi")])])
    };
    let (body, lost) =
        encoded(&form(json!({"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}})));
    let age = json!({"type": "integer", "description": "{minimum: 0}"});
    let schema = json!({"type": "object", "properties": {"age": age}, "additionalProperties": false});
    assert_eq!(body["output_config"]["format"]["schema"], schema);
    assert_eq!(
        lost,
        ["response_format.json_schema.schema.properties.age.minimum (moved to the description: this model \
             follows no such keyword)"]
    );
    let (body, lost) = encoded(&form(json!({"type": "object"})));
    assert_eq!(body.get("output_config"), None);
    assert!(body["system"].as_str().unwrap().ends_with("{\"type\":\"object\"}"));
    assert_eq!(lost, ["response_format (asked for in the system prompt: this model follows no such schema)"]);
}

#[test]
fn what_an_answer_would_be_wrong_without_is_refused() {
    let audio = Part::Audio { media: Media::Inline { mime: "audio/wav".into(), base64: String::new() } };
    let zip = Part::File {
        media: Media::Inline { mime: "application/zip".into(), base64: "AA==".into() },
        filename: None,
        cache: None,
    };
    let film = Part::Other(json!({"type": "video_url", "video_url": {"url": "https://x/a.mp4"}}));
    let strange = Part::Other(json!({"type": "strange"}));
    for (part, what) in [
        (audio, "audio"),
        (zip, "document of the type `application/zip`"),
        (film, "a film"),
        (strange, "a part of the type `strange`"),
    ] {
        let request = asked(vec![message(Role::User, vec![Part::text("hi"), part])]);
        let target = TargetName::parse("p/m").unwrap();
        let fault = messages(&request, &target, &QuirkSettings::default()).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some("messages[0].content[1]"), "{fault}");
        assert!(fault.message.ends_with(what), "{fault}");
        assert_eq!(fault.retry, crate::fault::Retry::Elsewhere);
    }
}

#[test]
fn what_is_usual_anyway_is_no_loss() {
    let rest = json!({"store": false, "modalities": ["text"], "service_tier": "default"});
    let request = Request {
        rest: rest.as_object().cloned().unwrap(),
        ..asked(vec![message(Role::User, vec![Part::text("hi")])])
    };
    let (body, lost) = encoded(&request);
    assert_eq!(lost, [""; 0]);
    assert!(rest.as_object().unwrap().keys().all(|field| body.get(field).is_none()), "{body:#}");
}

#[test]
fn a_search_that_another_dialect_asks_for_is_claudes_own() {
    let tool = |rest: Value| Tool {
        name: "search".into(),
        description: None,
        parameters: None,
        strict: None,
        kind: ToolKind::Server,
        cache: None,
        rest: rest.as_object().unwrap().clone(),
    };
    let searching = |tools: Vec<Value>, options: Option<Value>| {
        let mut asked = asked(vec![message(Role::User, vec![Part::text("hi")])]);
        asked.tools = tools.into_iter().map(tool).collect();
        asked.rest.extend(options.map(|options| ("web_search_options".to_owned(), options)));
        asked
    };
    let own = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let openais = json!({"type": "web_search", "search_context_size": "high"});
    let lost_size = |path: &str| vec![format!("{path}.search_context_size (dropped)")];
    for (model, asked, tools, lost) in [
        ("claude-sonnet-4-5", searching(vec![openais.clone()], None), own.clone(), lost_size("tools[0]")),
        ("claude-sonnet-4-5", searching(vec![json!({"googleSearch": {}})], None), own.clone(), Vec::new()),
        ("claude-sonnet-4-5", searching(Vec::new(), Some(json!({}))), own, Vec::new()),
        (
            "claude-3-opus-20240229",
            searching(vec![openais], None),
            Value::Null,
            vec!["tools[0] (dropped)".into()],
        ),
        (
            "deepseek-chat",
            searching(Vec::new(), Some(json!({}))),
            Value::Null,
            vec!["web_search_options (dropped)".into()],
        ),
    ] {
        let (body, told) = encoded_for(model, &asked);
        assert_eq!((body.get("tools").cloned().unwrap_or_default(), told), (tools, lost), "{model}");
    }
}

#[test]
fn how_thinking_is_shown_goes_along_with_it() {
    let mut asked = asked(vec![message(Role::User, vec![Part::text("hi")])]);
    let rest = json!({"display": "omitted"}).as_object().unwrap().clone();
    asked.reasoning = Some(Reasoning { budget_tokens: Some(2048), rest, ..Reasoning::default() });
    let (body, lost) = encoded(&asked);
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 2048, "display": "omitted"}));
    assert_eq!(lost, Vec::<String>::new());
    let (_, lost) = encoded_for("claude-3-opus-20240229", &asked);
    assert!(lost.contains(&"reasoning.display (dropped)".to_owned()), "{lost:?}");
}

#[test]
fn openais_context_management_is_another() {
    for (said, is_told) in [(json!({"edits": []}), true), (json!([{"type": "compaction"}]), false)] {
        let mut asked = asked(vec![message(Role::User, vec![Part::text("hi")])]);
        asked.rest.insert("context_management".into(), said.clone());
        let (body, lost) = encoded(&asked);
        assert_eq!(body.get("context_management"), is_told.then_some(&said));
        assert_eq!(lost.is_empty(), is_told, "{lost:?}");
    }
}

#[test]
fn blocks_of_its_own_go_out_as_they_are() {
    for kind in ["tool_addition", "tool_removal", "browser_state", "mcp_tool_listing", "compaction"] {
        let block = json!({"type": kind, "x": 1});
        let content = vec![Part::text("a"), Part::Other(block.clone())];
        let (body, lost) = encoded(&asked(vec![message(Role::User, content)]));
        assert_eq!((&body["messages"][0]["content"][1], lost.len()), (&block, 0), "{kind}");
    }
}
