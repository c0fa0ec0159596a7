//! Stories of requests: what the canonical form makes of them, and what is told of the rest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::chat::{Media, ToolKind};
use crate::json::Inlined;
use crate::store::{Answers, Bounds, Kept};
use crate::target::TargetName;

fn shelf() -> Shelf {
    let bounds = Bounds { keep: Duration::from_secs(60), entries: 9, bytes: 1 << 20 };
    Arc::new(Answers::default()).shelf(bounds, None)
}

fn decoded_on(shelf: &Shelf, request: &Value) -> Result<Decoded, Fault> {
    let body = Body::read(Bytes::from(request.to_string())).unwrap();
    let before = Before::find(request["previous_response_id"].as_str(), shelf)?;
    decode(&body, &before, shelf)
}

fn decoded(input: Value) -> Result<Decoded, Fault> {
    decoded_on(&shelf(), &json!({"model": "m", "input": input}))
}

fn lost(decoded: &Decoded) -> Vec<String> {
    decoded.lost.iter().map(ToString::to_string).collect()
}

fn roles(decoded: &Decoded) -> Vec<(Role, usize)> {
    decoded.request.messages.iter().map(|message| (message.role, message.content.len())).collect()
}

#[test]
fn what_the_client_carried_out_keeps_its_call_and_its_output() {
    let decoded = decoded(json!([
        {"role": "user", "content": "list"},
        {"type": "local_shell_call", "id": "lsh_1", "call_id": "c1", "status": "completed",
            "action": {"type": "exec", "command": ["ls"], "env": {}}},
        {"type": "function_call_output", "call_id": "c1", "output": "a.rs"},
        {"type": "local_shell_call", "id": "lsh_2", "call_id": "c2", "action": {"type": "exec", "command": ["w"]}},
        {"type": "local_shell_call_output", "id": "c2", "output": "{}"},
        {"type": "shell_call", "call_id": "c3", "action": {"commands": ["pwd"]}},
        {"type": "shell_call_output", "call_id": "c3",
            "output": [{"stdout": "/", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]},
        {"type": "apply_patch_call", "call_id": "c4",
            "operation": {"type": "delete_file", "path": "a.rs"}},
        {"type": "apply_patch_call_output", "call_id": "c4", "status": "failed", "output": "gone"},
    ]))
    .unwrap();
    let parts: Vec<String> = decoded
        .request
        .messages
        .iter()
        .flat_map(|message| &message.content)
        .map(|part| match part {
            Part::ToolCall { id, name, arguments, .. } => format!("{id} {name} {arguments}"),
            Part::ToolResult { id, content, is_error, .. } => {
                let [Part::Text { text, .. }] = &content[..] else { panic!("{content:?}") };
                format!("{id} -> {text} {is_error}")
            }
            other => format!("{other:?}").chars().take(4).collect(),
        })
        .collect();
    assert_eq!(
        parts,
        [
            "Text",
            r#"c1 local_shell {"type":"exec","command":["ls"],"env":{}}"#,
            "c1 -> a.rs false",
            r#"c2 local_shell {"type":"exec","command":["w"]}"#,
            "c2 -> {} false",
            r#"c3 shell {"commands":["pwd"]}"#,
            r#"c3 -> [{"stdout":"/","stderr":"","outcome":{"type":"exit","exit_code":0}}] false"#,
            r#"c4 apply_patch {"type":"delete_file","path":"a.rs"}"#,
            "c4 -> gone true",
        ]
    );
    assert_eq!(lost(&decoded)[0], "input[1] (local_shell_call told as the call of a function)");
    assert_eq!(decoded.lost.len(), 4);
}

#[test]
fn items_of_one_turn_are_one_message() {
    let decoded = decoded(json!([
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "input_text", "text": "look"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
            {"type": "input_file", "file_url": "https://x/y.pdf"},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "tollgate:signature:s"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "ok", "annotations": []}]},
        {"type": "reasoning", "summary": [], "encrypted_content": "tollgate:call:c1\ngs"},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "p", "input": "text"},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_image", "file_id": "f1"}]},
        {"type": "message", "role": "assistant", "content": "one"},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "user", "content": "go on"},
    ]))
    .unwrap();
    assert_eq!(
        roles(&decoded),
        [
            (Role::Developer, 1),
            (Role::User, 5),
            (Role::Assistant, 4),
            (Role::Tool, 2),
            (Role::Assistant, 1),
            (Role::Assistant, 1),
            (Role::User, 1)
        ]
    );
    assert!(decoded.lost.is_empty(), "{:?}", decoded.lost);
    let [_, user, assistant, tool, ..] = decoded.request.messages.as_slice() else { panic!() };
    assert!(
        matches!(&user.content[1], Part::Image { media: Media::Inline { mime, .. }, .. } if mime == "image/png")
    );
    assert!(matches!(&user.content[3], Part::File { media: Media::Url(_), .. }));
    assert_eq!(
        assistant.content[0],
        Part::Thinking { text: "hm".into(), signature: Some("s".into()), redacted: None }
    );
    assert!(matches!(&assistant.content[2], Part::ToolCall { signature: Some(s), .. } if s == "gs"));
    assert!(
        matches!(&assistant.content[3], Part::ToolCall { kind: ToolKind::Custom, arguments, .. } if arguments == "text")
    );
    assert!(
        matches!(&tool.content[1], Part::ToolResult { id, content, .. } if id == "c2" && content.len() == 1)
    );
    assert_eq!(decoded.origins.parts[1][3], Origin::Content(1, 3));
    assert_eq!(decoded.origins.parts[2][3], Origin::Item(6));
}

#[test]
fn a_painted_picture_is_shown_by_the_user() {
    let painted =
        json!({"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "AAAA"});
    let unpainted =
        json!({"type": "image_generation_call", "id": "ig_2", "status": "failed", "result": null});
    let read = decoded(json!([
        {"role": "user", "content": "paint"}, painted, unpainted, {"role": "user", "content": "make it blue"}
    ]));
    let read = read.unwrap();
    let parts: Vec<&Part> = read.request.messages.iter().flat_map(|message| &message.content).collect();
    let [Part::Text { .. }, Part::Image { media, .. }, Part::Text { .. }] = parts[..] else {
        panic!("{parts:?}")
    };
    assert_eq!(media.as_url().as_deref(), Some("data:image/png;base64,AAAA"));
    assert_eq!(
        lost(&read),
        ["input[1] (the model's picture became the user's)", "input[2] (image_generation_call dropped)"]
    );
}

#[test]
fn parameters_find_their_place() {
    let decoded = decoded_on(
        &shelf(),
        &json!({
            "model": "m", "input": "hi", "instructions": "be brief", "temperature": 0.5, "top_p": 0.9,
            "max_output_tokens": 9, "parallel_tool_calls": false, "store": true, "metadata": {"a": "b"},
            "include": ["reasoning.encrypted_content", "message.output_text.logprobs", "file_search_call.results"],
            "top_logprobs": 2, "truncation": "auto", "max_tool_calls": 3, "context_management": [{"type": "compaction"}], "service_tier": "auto", "user": null,
            "safety_identifier": "u1", "prompt_cache_key": "k", "stream": true,
            "stream_options": {"include_obfuscation": false}, "reasoning": {"effort": "low", "summary": "auto"},
            "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
            "tools": [
                {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true},
                {"type": "custom", "name": "p", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
                {"type": "web_search"},
                {"type": "namespace", "name": "crm", "description": "the CRM", "tools": [{"type": "function", "name": "find"}]}],
            "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [
                {"type": "function", "name": "f"}, {"type": "custom", "name": "p"}, {"type": "web_search"}]},
            "unheard_of": 1,
        }),
    )
    .unwrap();
    let request = &decoded.request;
    assert_eq!(roles(&decoded), [(Role::System, 1), (Role::User, 1)]);
    assert_eq!((request.sampling.temperature, request.sampling.top_p), (Some(0.5), Some(0.9)));
    assert_eq!((request.sampling.logprobs, request.sampling.top_logprobs), (Some(true), Some(2)));
    assert_eq!((request.max_output_tokens, request.parallel_tool_calls), (Some(9), Some(false)));
    assert_eq!(request.reasoning.as_ref().and_then(|r| r.effort.as_deref()), Some("low"));
    assert_eq!(request.user.as_deref(), Some("u1"));
    assert!(
        matches!(&request.output, OutputFormat::JsonSchema { name, strict: Some(true), .. } if name == "n")
    );
    assert_eq!(request.tool_choice, Some(ToolChoice::Required));
    let tools: Vec<_> = request.tools.iter().map(|tool| (&*tool.name, tool.kind)).collect();
    assert_eq!(tools, [("f", ToolKind::Function), ("p", ToolKind::Custom), ("web_search", ToolKind::Server)]);
    assert_eq!(
        request.tools[1].rest["format"],
        json!({"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}})
    );
    let rest: Vec<_> = request.rest.keys().map(String::as_str).collect();
    assert_eq!(rest, ["safety_identifier", "prompt_cache_key", "unheard_of", "verbosity"]);
    assert_eq!(
        lost(&decoded),
        [
            "include[2] (dropped)",
            "truncation (dropped)",
            "max_tool_calls (dropped)",
            "context_management (dropped)"
        ]
    );
}

#[test]
fn what_only_openai_can_do_is_refused_or_named() {
    for (field, value) in
        [("background", json!(true)), ("conversation", json!("conv_1")), ("prompt", json!({"id": "pmpt_1"}))]
    {
        let fault = decoded_on(&shelf(), &json!({"model": "m", "input": "x", field: value})).unwrap_err();
        assert_eq!((fault.param.as_deref(), fault.retry), (Some(field), Retry::Elsewhere), "{fault}");
    }
    let decoded = decoded(json!([
        {"role": "user", "content": "hi"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "mcp_approval_response", "approval_request_id": "x", "approve": true},
        {"type": "reasoning", "id": "rs_9", "summary": [], "encrypted_content": "gAAAA"},
        {"role": "user", "content": [{"type": "input_text", "text": "x", "odd": 1}], "name": "n"},
    ]))
    .unwrap();
    assert_eq!(
        lost(&decoded),
        [
            "input[1] (web_search_call dropped)",
            "input[2] (mcp_approval_response dropped)",
            "input[3].encrypted_content (dropped)",
            "input[4].content[0].odd (dropped)",
            "input[4].name (dropped)"
        ]
    );
}

#[test]
fn what_is_wrong_is_named() {
    for (input, param) in [
        (json!([]), "input"),
        (json!([7]), "input[0]"),
        (json!([{}]), "input[0].type"),
        (json!([{"type": "nonsense"}]), "input[0].type"),
        (json!([{"role": "robot", "content": "x"}]), "input[0].role"),
        (json!([{"role": "user"}]), "input[0].content"),
        (json!([{"role": "user", "content": [{"text": "x"}]}]), "input[0].content[0].type"),
        (json!([{"role": "user", "content": [{"type": "input_image"}]}]), "input[0].content[0].image_url"),
        (json!([{"type": "function_call", "name": "f"}]), "input[0].call_id"),
        (json!([{"type": "function_call_output", "call_id": "c"}]), "input[0].output"),
        (json!([{"type": "item_reference", "id": "msg_404"}]), "input[0]"),
    ] {
        let fault = decoded(input.clone()).err().unwrap_or_else(|| panic!("{input} passes"));
        assert_eq!((fault.client_status(), fault.param.as_deref()), (400, Some(param)), "{input}: {fault}");
    }
}

fn keep(shelf: &Shelf, id: &str, request: &Value, output: &Value) {
    let items = output.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().into());
    shelf.keep(Kept {
        id: id.into(),
        previous: request["previous_response_id"].as_str().map(Into::into),
        request: request.to_string().into(),
        inlined: Inlined::default(),
        answer: json!({"id": id, "output": output}).to_string().into(),
        items: items.collect(),
        target: TargetName::parse("p/m").unwrap(),
        native: false,
    });
}

#[test]
fn earlier_turns_are_found_by_id_and_by_reference() {
    let shelf = shelf();
    let call = json!({"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let thought = json!({"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "tollgate:signature:s"});
    let first = json!({"model": "m", "input": "hi", "instructions": "of the first turn"});
    keep(&shelf, "resp_1", &first, &json!([thought, call]));
    let result = json!({"type": "function_call_output", "call_id": "c", "output": "done"});
    let continued = decoded_on(
        &shelf,
        &json!({"model": "m", "instructions": "now", "previous_response_id": "resp_1", "input": [result]}),
    )
    .unwrap();
    assert_eq!(
        roles(&continued),
        [(Role::System, 1), (Role::User, 1), (Role::Assistant, 2), (Role::Tool, 1)]
    );
    assert_eq!(continued.request.messages[0].content, [Part::text("now")]);
    assert_eq!(continued.origins.parts[2][0], Origin::Before);

    // The same by references; and a thought whose proof the client did not keep.
    for thought in [
        json!({"type": "item_reference", "id": "rs_1"}),
        json!({"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}),
    ] {
        let referred = decoded_on(
            &shelf,
            &json!({"model": "m", "instructions": "now", "input": [
                {"role": "user", "content": "hi"}, thought, {"type": "item_reference", "id": "fc_1"}, result]}),
        )
        .unwrap();
        assert_eq!(referred.request.messages, continued.request.messages);
    }
    let fault = decoded_on(&shelf, &json!({"model": "m", "input": "x", "previous_response_id": "resp_9"}));
    let fault = fault.unwrap_err();
    assert_eq!((fault.code_str(), fault.retry), ("previous_response_not_found", Retry::Elsewhere));
}

#[test]
fn a_tool_that_was_loaded_on_demand_is_called_by_the_name_under_which_it_was_offered() {
    let call = |space: &str, name: &str| {
        let item = json!({"type": "function_call", "call_id": "c", "name": name, "arguments": "{}", "namespace": space});
        let body = json!({"model": "m", "input": [item, {"type": "function_call_output", "call_id": "c", "output": "x"}]});
        let decoded = decoded_on(&shelf(), &body).unwrap();
        let parts = decoded.request.messages.into_iter().flat_map(|message| message.content);
        let names = parts.filter_map(|part| match part {
            Part::ToolCall { name, .. } => Some(name),
            _ => None,
        });
        names.collect::<Vec<_>>()
    };
    assert_eq!(call("find", "find"), ["find"]);
    assert_eq!(call("crm", "find"), ["crm__find"]);
}

/// A request that has everything.
fn everything() -> Value {
    json!({
        "model": "m", "instructions": "i", "temperature": 1, "include": ["x"], "top_logprobs": 1, "truncation": "auto",
        "reasoning": {"effort": "low", "summary": "auto"}, "metadata": {"a": "b"}, "user": "u", "store": true,
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true},
            {"type": "custom", "name": "p", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
            {"type": "namespace", "name": "s", "tools": [{"type": "function", "name": "g"}]}, {"type": "web_search"}],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
                {"type": "input_file", "filename": "f", "file_data": "AA=="},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "t"}],
                "content": [{"type": "reasoning_text", "text": "t"}], "encrypted_content": "tollgate:call:c\nx"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "namespace": "s"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
            {"type": "custom_tool_call", "call_id": "d", "name": "p", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": "x"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": [{}]},
                {"type": "refusal", "refusal": "x"}]}],
    })
}

/// Every place in a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found));
        }
        _ => {}
    }
}

#[test]
fn whatever_stands_anywhere_is_understood_or_refused_with_its_place() {
    let whole = everything();
    assert!(decoded_on(&shelf(), &whole).is_ok());
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    let odd = [
        json!(null),
        json!(true),
        json!(-7),
        json!(1.5),
        json!("é\n"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"type": "x"}),
    ];
    let target = TargetName::parse("p/gpt-5").unwrap();
    for place in all.iter().filter(|place| !place.is_empty()) {
        for value in &odd {
            let mut request = whole.clone();
            *request.pointer_mut(place).unwrap() = value.clone();
            match decoded_on(&shelf(), &request) {
                Ok(decoded) => {
                    for dialect in ["openai", "anthropic", "gemini", "openai-responses"] {
                        let wire = crate::providers::dialect(dialect, &Default::default()).unwrap();
                        if let Err(fault) = wire.encode(&decoded.request, &target) {
                            let fault = crate::api::translate::in_clients_words(fault, |path| {
                                decoded.origins.clients(path)
                            });
                            assert_eq!(fault.client_status(), 400, "{place} {value} {dialect}: {fault}");
                        }
                    }
                }
                Err(fault) => {
                    assert_eq!(fault.client_status(), 400, "{place} {value}: {fault}");
                    assert!(fault.param.is_some(), "{place} {value}: {fault}");
                }
            }
            let body = Body::read(Bytes::from(request.to_string())).unwrap();
            drop(crate::api::openai_responses::echo::Given::read(&body));
        }
    }
}
