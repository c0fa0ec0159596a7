//! The canonical chat request in OpenAI's dialect.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::strict::strict;
use super::{details, form, marks, reasoning, request};
use crate::chat::{
    Loss, Media, Message, Object, OutputFormat, Part, Request, Role, Tool, ToolChoice, ToolKind,
};
use crate::fault::{Fault, Retry};
use crate::json::{self, Verbatim};
use crate::providers::choice::{self, Wish};
use crate::providers::{Outgoing, QuirkSettings, foreign};
use crate::target::TargetName;

/// Stop sequences that a request may have.
const MOST_STOPS: usize = 4;

/// The upstream request.
///
/// # Errors
/// `BadRequest` that names the part which OpenAI's dialect cannot carry.
pub(super) fn chat(asked: &Request, target: &TargetName, quirks: &QuirkSettings) -> Result<Outgoing, Fault> {
    let mut body = Object::new();
    let model = quirks.deployed(&target.model);
    body.insert("model".into(), model.into());
    let mut lost = Vec::new();
    let mut messages = Vec::with_capacity(asked.messages.len());
    let mut plain = Vec::with_capacity(asked.messages.len());
    let may_be_plain = super::turns::may_be_plain(quirks);
    for (place, message) in asked.messages.iter().enumerate() {
        if may_be_plain && let Some(verbatim) = verbatim(message) {
            plain.push(verbatim);
            messages.push(Value::Null);
            continue;
        }
        super::turns::refuse_media(message, place, quirks)?;
        push_message(message, place, quirks.cache_control, &mut messages)?;
        super::losses::of_message(message, place, quirks, &mut lost);
    }
    match form::in_words(&asked.output, &target.model, quirks) {
        None => output(&asked.output, &mut body, &mut lost),
        Some(words) => {
            messages.insert(form::place(asked), json!({ "role": "system", "content": words.text }));
            lost.push(Loss::new("response_format", words.why));
            if words.is_object {
                output(&OutputFormat::JsonObject, &mut body, &mut lost);
            }
        }
    }
    body.insert("messages".into(), Value::Array(messages));
    tools(asked, quirks, &mut body, &mut lost);
    sampling(asked, &mut body, &mut lost);
    if let Some(reasoning) = &asked.reasoning {
        reasoning::think(reasoning, &target.model, quirks, &mut body, &mut lost);
    }
    let effort = body.get("reasoning_effort").and_then(Value::as_str);
    if reasoning::has_its_sampling(&target.model, effort) {
        reasoning::leave_sampling(&mut body, &mut lost);
    }
    put(&mut body, "user", asked.user.as_deref().map(|user| user_of(user, &mut lost)));
    if !asked.metadata.is_empty() {
        body.insert("metadata".into(), Value::Object(asked.metadata.clone()));
    }
    for (field, value) in &asked.rest {
        body.entry(field.clone()).or_insert_with(|| value.clone());
    }
    if asked.stream {
        body.insert("stream".into(), true.into());
        ask_for_usage(&mut body);
    }
    if !asked.stream || quirks.no_stream_options {
        body.shift_remove("stream_options");
    }
    super::losses::leave_out(&mut body, &target.model, quirks, &mut lost);
    super::turns::effort(&mut body, &target.model, quirks, &mut lost);
    if let Some(Value::Array(messages)) = body.get_mut("messages") {
        if !quirks.custom_tools {
            super::turns::calls_of_functions(messages);
        }
        super::turns::fit(messages, &target.model, quirks, &mut lost);
    }
    request::apply_to_object(&mut body, quirks);
    let path = request::path(quirks.chat_path.as_deref().unwrap_or("/chat/completions"), model);
    let json = json::object_with(&body, quirks.renamed("messages"), &plain);
    let mut outgoing = request::outgoing(path, asked.stream, vec![json.into()]);
    outgoing.lost = lost;
    Ok(outgoing)
}

/// OpenAI takes identifiers of users up to 64 characters; a longer one (Claude Code's) becomes its hash, which is as
/// good to tell users apart.
pub(in crate::providers) fn user_of(user: &str, lost: &mut Vec<Loss>) -> String {
    if user.chars().count() <= 64 {
        return user.to_owned();
    }
    lost.push(Loss::new("user", "hashed: longer than 64 characters"));
    blake3::hash(user.as_bytes()).to_hex().to_string()
}

fn ask_for_usage(body: &mut Object) {
    match body.get_mut("stream_options") {
        Some(Value::Object(options)) => {
            options.insert("include_usage".into(), true.into());
        }
        _ => {
            body.insert("stream_options".into(), json!({ "include_usage": true }));
        }
    }
}

pub(in crate::providers) fn put<T: Into<Value>>(body: &mut Object, field: &str, value: Option<T>) {
    if let Some(value) = value {
        body.insert(field.into(), value.into());
    }
}

/// A message of one text, which needs no tree to be written.
fn verbatim(message: &Message) -> Option<Verbatim<'_>> {
    let before = match message.role {
        Role::User => r#"{"role":"user","content":"#,
        Role::Assistant => r#"{"role":"assistant","content":"#,
        Role::System => r#"{"role":"system","content":"#,
        Role::Developer | Role::Tool => return None,
    };
    Some(Verbatim { before, text: message.as_plain()?, after: "}" })
}

/// One canonical message is one of OpenAI's, except that every tool result is a message of its own. `marks` says that
/// the vendor knows marks for its cache.
fn push_message(message: &Message, place: usize, marks: bool, out: &mut Vec<Value>) -> Result<(), Fault> {
    let (results, others): (Vec<&Part>, Vec<&Part>) =
        message.content.iter().partition(|part| matches!(part, Part::ToolResult { .. }));
    let mut media = Vec::new();
    for part in &results {
        let Part::ToolResult { id, content, cache, .. } = part else { continue };
        // OpenAI's tool messages carry text alone; pictures follow as the user's.
        let (texts, rest): (Vec<&Part>, Vec<&Part>) = content
            .iter()
            .filter(|part| !is_unsayable(part))
            .partition(|part| matches!(part, Part::Text { .. }));
        media.extend(rest);
        let mut object = head(message, Role::Tool);
        object.insert("tool_call_id".into(), id.as_str().into());
        let mut content = content_of(&texts, place, marks)?;
        if marks {
            marks::put_last(&mut content, cache.as_ref());
        }
        object.insert("content".into(), content);
        out.push(Value::Object(object));
    }
    if !media.is_empty() {
        let mut object = head(message, Role::User);
        object.insert("content".into(), content_of(&media, place, marks)?);
        out.push(Value::Object(object));
    }
    if others.is_empty() && !results.is_empty() {
        return Ok(());
    }
    // A turn of server tools alone says nothing to another provider.
    if !others.is_empty() && others.iter().all(|part| message.role == Role::Assistant && is_unsayable(part)) {
        return Ok(());
    }
    let role = if message.role == Role::Tool && !results.is_empty() { Role::User } else { message.role };
    let mut object = head(message, role);
    if role == Role::Assistant {
        assistant(&others, place, marks, &mut object)?;
    } else {
        object.insert("content".into(), content_of(&others, place, marks)?);
    }
    for (field, value) in &message.rest {
        object.entry(field.clone()).or_insert_with(|| value.clone());
    }
    out.push(Value::Object(object));
    Ok(())
}

fn head(message: &Message, role: Role) -> Object {
    let word = match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut object = Object::new();
    object.insert("role".into(), word.into());
    if role == message.role {
        put(&mut object, "name", message.name.clone());
    }
    object
}

fn assistant(parts: &[&Part], place: usize, marks: bool, object: &mut Object) -> Result<(), Fault> {
    let (mut said, mut thought, mut proofs, mut calls) = (Vec::new(), String::new(), Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::Thinking { text, signature, redacted } => {
                thought.push_str(text);
                proofs.extend(details::write(text, signature.as_deref(), redacted.as_deref()));
            }
            Part::Refusal(text) => {
                object.insert("refusal".into(), text.as_str().into());
            }
            Part::ToolCall { id, name, arguments, kind, signature, .. } => {
                let mut call = match kind {
                    ToolKind::Custom => {
                        json!({ "id": id, "type": "custom", "custom": { "name": name, "input": arguments } })
                    }
                    _ => {
                        let function = json!({ "name": name, "arguments": arguments });
                        json!({ "id": id, "type": "function", "function": function })
                    }
                };
                if let (Some(signature), Some(call)) = (signature, call.as_object_mut()) {
                    let google = json!({ "google": { "thought_signature": signature } });
                    call.insert("extra_content".into(), google);
                }
                calls.push(call);
            }
            other if is_unsayable(other) => {}
            other => said.push(*other),
        }
    }
    // Null says that there are calls, or a refusal, instead.
    let silent = said.is_empty() && (!calls.is_empty() || object.contains_key("refusal"));
    let content = if silent { Value::Null } else { content_of(&said, place, marks)? };
    object.insert("content".into(), content);
    if !thought.is_empty() {
        object.insert("reasoning_content".into(), thought.into());
    }
    if !proofs.is_empty() {
        object.insert("reasoning_details".into(), Value::Array(proofs));
    }
    if !calls.is_empty() {
        object.insert("tool_calls".into(), Value::Array(calls));
    }
    Ok(())
}

/// A single text as a string, anything else as a list of parts.
fn content_of(parts: &[&Part], place: usize, marks: bool) -> Result<Value, Fault> {
    match parts {
        [] => return Ok("".into()),
        [Part::Text { cache: Some(_), .. }] if marks => {}
        [Part::Text { text, .. }] => return Ok(text.as_str().into()),
        _ => {}
    }
    let written = parts.iter().enumerate().map(|(at, part)| {
        let mut written = content_part(part, place, at)?;
        if marks {
            marks::put(&mut written, marks::of(part));
        }
        Ok(written)
    });
    written.collect()
}

fn content_part(part: &Part, place: usize, at: usize) -> Result<Value, Fault> {
    let cannot = |what: &str| {
        Err(Fault::bad_request(
            format!("this model's provider cannot take {what}"),
            format!("messages[{place}].content[{at}]"),
        )
        .retry(Retry::Elsewhere))
    };
    Ok(match part {
        Part::Text { text, .. } => json!({ "type": "text", "text": text }),
        Part::Image { media, detail, .. } => {
            let Some(url) = media.as_url() else {
                return cannot("an image by the id of an uploaded file");
            };
            let mut image = Object::new();
            image.insert("url".into(), url.into());
            put(&mut image, "detail", detail.clone());
            json!({ "type": "image_url", "image_url": image })
        }
        Part::Audio { media } => match media {
            Media::Inline { mime, base64 } => {
                let format = audio_format(mime);
                json!({ "type": "input_audio", "input_audio": { "data": base64, "format": format } })
            }
            Media::Url(_) => return cannot("audio by URL"),
            Media::FileId(_) => return cannot("audio by the id of an uploaded file"),
        },
        Part::File { media, filename, .. } => {
            let mut file = Object::new();
            if let Some(text) = media.as_text() {
                let title = filename.as_ref().map(|name| format!("{name}\n\n")).unwrap_or_default();
                return Ok(json!({ "type": "text", "text": title + text.as_str() }));
            }
            match media {
                Media::FileId(id) => file.insert("file_id".into(), id.as_str().into()),
                Media::Inline { mime, base64 } => {
                    file.insert("file_data".into(), format!("data:{mime};base64,{base64}").into())
                }
                Media::Url(url) => file.insert("file_url".into(), url.as_str().into()),
            };
            put(&mut file, "filename", filename.clone().or_else(|| media.usual_name()));
            json!({ "type": "file", "file": file })
        }
        Part::Refusal(text) => json!({ "type": "refusal", "refusal": text }),
        Part::Other(value) if is_unsayable(part) => {
            return cannot(&foreign::what_is(value));
        }
        Part::Other(value) => value.clone(),
        Part::Thinking { .. } | Part::ToolCall { .. } => {
            return cannot("thinking or tool calls outside of an assistant's message");
        }
        Part::ToolResult { .. } => return cannot("a tool result inside of another"),
    })
}

/// OpenAI's word for the format of a sound.
pub(in crate::providers) fn audio_format(mime: &str) -> &str {
    match mime.strip_prefix("audio/").unwrap_or(mime) {
        "mpeg" | "mp3" => "mp3",
        "x-wav" | "wave" | "vnd.wave" => "wav",
        other => other,
    }
}

/// A block of Anthropic's own, which only Anthropic can read, or a part of Google's, which bears no type.
pub(in crate::providers) fn is_unsayable(part: &Part) -> bool {
    let Part::Other(value) = part else { return false };
    let Some(kind) = value.get("type").and_then(Value::as_str) else { return true };
    let own = [
        "server_tool_use",
        "mcp_tool_use",
        "search_result",
        "container_upload",
        "tool_reference",
        "tool_addition",
        "tool_removal",
        "browser_state",
        "mcp_tool_listing",
        "compaction",
        "fallback",
        "document",
    ];
    own.contains(&kind) || kind.ends_with("_tool_result")
}

fn tools(asked: &Request, quirks: &QuirkSettings, body: &mut Object, lost: &mut Vec<Loss>) {
    let some = Wish::of_some(asked).filter(|_| !quirks.allowed_tools);
    let mut kept = Vec::with_capacity(asked.tools.len());
    for (at, definition) in asked.tools.iter().enumerate() {
        if some.as_ref().is_some_and(|some| some.leaves_out(definition, at, lost)) {
            continue;
        }
        if is_elsewhere(definition) {
            lost.push(Loss::dropped(format!("tools[{at}]")));
            continue;
        }
        super::losses::of_tool(definition, at, quirks.cache_control, lost);
        if definition.kind == ToolKind::Custom && !quirks.custom_tools {
            lost.push(Loss::new(format!("tools[{at}]"), foreign::ONE_TEXT));
            kept.push(foreign::function(definition));
            continue;
        }
        let path = || format!("tools[{at}].function.strict");
        let strict = strict(definition.strict, definition.parameters.as_ref(), path, lost);
        let mut tool = tool(definition, strict);
        if quirks.cache_control {
            marks::put(&mut tool, definition.cache.as_ref());
        }
        kept.push(tool);
    }
    if kept.is_empty() && !asked.tools.is_empty() {
        // A choice is refused without tools.
        let says_nothing = |choice: &ToolChoice| matches!(choice, ToolChoice::None | ToolChoice::Auto);
        let word = some.map_or(asked.tool_choice.as_ref(), |some| some.word);
        if word.is_some_and(|choice| !says_nothing(choice)) {
            lost.push(Loss::dropped("tool_choice"));
        }
        return;
    }
    if !kept.is_empty() {
        body.insert("tools".into(), Value::Array(kept));
    }
    let choice = match some {
        Some(some) => some.word.map(Cow::Borrowed),
        None => choice::among(asked, |tool| !is_elsewhere(tool), lost),
    };
    let choice = choice.map(|choice| match &*choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Named(name) => {
            let custom = asked.tools.iter().any(|tool| tool.name == *name && tool.kind == ToolKind::Custom);
            let kind = if custom && quirks.custom_tools { "custom" } else { "function" };
            json!({ "type": kind, kind: { "name": name } })
        }
        ToolChoice::Other(value) => value.clone(),
    });
    put(body, "tool_choice", choice);
    put(body, "parallel_tool_calls", asked.parallel_tool_calls);
}

/// Whether it is a tool that only another API can run; Google's own bear no type.
fn is_elsewhere(tool: &Tool) -> bool {
    let has_type = tool.rest.contains_key("type");
    tool.kind == ToolKind::Server && (!has_type || tool.is_anthropics() || tool.is_of_responses())
}

fn tool(tool: &Tool, strict: Option<bool>) -> Value {
    if tool.kind != ToolKind::Function && tool.rest.contains_key("type") {
        return Value::Object(tool.rest.clone());
    }
    let mut inner = Object::new();
    inner.insert("name".into(), tool.name.as_str().into());
    put(&mut inner, "description", tool.description.clone());
    put(&mut inner, "parameters", tool.parameters.clone());
    put(&mut inner, "strict", strict);
    if tool.kind == ToolKind::Custom {
        for (field, value) in &tool.rest {
            inner.entry(field.clone()).or_insert_with(|| value.clone());
        }
    }
    let kind = if tool.kind == ToolKind::Custom { "custom" } else { "function" };
    json!({ "type": kind, kind: inner })
}

fn output(output: &OutputFormat, body: &mut Object, lost: &mut Vec<Loss>) {
    let format = match output {
        OutputFormat::Text => return,
        OutputFormat::JsonObject => json!({ "type": "json_object" }),
        OutputFormat::JsonSchema { name, description, schema, strict: wanted } => {
            let path = || "response_format.json_schema.strict".to_owned();
            let strict = strict(*wanted, Some(schema), path, lost);
            let mut inner = Object::new();
            inner.insert("name".into(), name.as_str().into());
            put(&mut inner, "description", description.clone());
            inner.insert("schema".into(), schema.clone());
            put(&mut inner, "strict", strict);
            json!({ "type": "json_schema", "json_schema": inner })
        }
        OutputFormat::Other(value) if value.get("type").is_some() => value.clone(),
        OutputFormat::Other(_) => return lost.push(Loss::dropped("response_format")),
    };
    body.insert("response_format".into(), format);
}

fn sampling(asked: &Request, body: &mut Object, lost: &mut Vec<Loss>) {
    let sampling = &asked.sampling;
    put(body, "max_completion_tokens", asked.max_output_tokens);
    put(body, "temperature", sampling.temperature);
    put(body, "top_p", sampling.top_p);
    put(body, "top_k", sampling.top_k);
    put(body, "presence_penalty", sampling.presence_penalty);
    put(body, "frequency_penalty", sampling.frequency_penalty);
    put(body, "seed", sampling.seed);
    match sampling.stop.as_slice() {
        [] => {}
        [one] => put(body, "stop", Some(one.as_str())),
        more => {
            // https://platform.openai.com/docs/api-reference/chat/create#chat-create-stop
            if more.len() > MOST_STOPS {
                lost.push(Loss::new("stop", "cut to the first 4"));
            }
            put(body, "stop", Some(more.iter().take(MOST_STOPS).cloned().collect::<Vec<_>>()));
        }
    }
    put(body, "logit_bias", sampling.logit_bias.clone());
    put(body, "logprobs", sampling.logprobs);
    put(body, "top_logprobs", sampling.top_logprobs);
    put(body, "n", sampling.n);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(asked: &Request, quirks: Value) -> Value {
        let quirks = serde_json::from_value(quirks).unwrap();
        let outgoing = chat(asked, &TargetName::parse("p/m").unwrap(), &quirks).unwrap();
        serde_json::from_slice(&outgoing.body.concat()).unwrap()
    }

    fn message(role: Role, content: Vec<Part>) -> Message {
        Message { role, content, name: None, rest: Object::new() }
    }

    #[test]
    fn a_conversation_with_tools_is_said_in_openais_words() {
        let call = Part::ToolCall {
            id: "c1".into(),
            name: "weather".into(),
            arguments: "{}".into(),
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        };
        let result = |id: &str| Part::ToolResult {
            id: id.into(),
            content: vec![Part::text("sunny")],
            is_error: false,
            cache: None,
        };
        let image = Part::Image {
            media: Media::Inline { mime: "image/png".into(), base64: "AA==".into() },
            detail: Some("low".into()),
            cache: None,
        };
        let asked = Request {
            model: "alias".into(),
            stream: true,
            messages: vec![
                message(Role::System, vec![Part::text("be short")]),
                message(Role::User, vec![Part::text("look"), image]),
                message(Role::Assistant, vec![call]),
                message(Role::Tool, vec![result("c1"), result("c2")]),
            ],
            max_output_tokens: Some(9),
            tool_choice: Some(ToolChoice::Named("weather".into())),
            ..Request::default()
        };
        assert_eq!(
            encoded(&asked, json!({"rename": {"max_completion_tokens": "max_tokens"}})),
            json!({
                "model": "m",
                "messages": [
                    {"role": "system", "content": "be short"},
                    {"role": "user", "content": [
                        {"type": "text", "text": "look"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}]},
                    {"role": "assistant", "content": null, "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
                    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
                    {"role": "tool", "tool_call_id": "c2", "content": "sunny"},
                ],
                "tool_choice": {"type": "function", "function": {"name": "weather"}},
                "max_tokens": 9,
                "stream": true,
                "stream_options": {"include_usage": true},
            })
        );
    }

    #[test]
    fn custom_tools_are_functions_with_one_text_where_a_vendor_knows_none() {
        let call = Part::ToolCall {
            id: "c1".into(),
            name: "patch".into(),
            arguments: "*** Begin".into(),
            kind: ToolKind::Custom,
            signature: None,
            cache: None,
        };
        let tool = Tool {
            name: "patch".into(),
            description: Some("edits".into()),
            parameters: None,
            strict: None,
            kind: ToolKind::Custom,
            cache: None,
            rest: Object::from_iter([("format".to_owned(), json!({"type": "text"}))]),
        };
        let asked = Request {
            messages: vec![message(Role::User, vec![Part::text("hi")]), message(Role::Assistant, vec![call])],
            tools: vec![tool],
            tool_choice: Some(ToolChoice::Named("patch".into())),
            ..Request::default()
        };
        let plain = encoded(&asked, json!({}));
        let parameters =
            json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]});
        let function = json!({"name": "patch", "description": "edits", "parameters": parameters});
        assert_eq!(plain["tools"], json!([{"type": "function", "function": function}]));
        let call = json!({"name": "patch", "arguments": r#"{"input":"*** Begin"}"#});
        let calls = json!([{"id": "c1", "type": "function", "function": call}]);
        assert_eq!(plain["messages"][1]["tool_calls"], calls);
        assert_eq!(plain["tool_choice"], json!({"type": "function", "function": {"name": "patch"}}));

        let own = encoded(&asked, json!({"custom_tools": true}));
        let custom = json!({"name": "patch", "description": "edits", "format": {"type": "text"}});
        assert_eq!(own["tools"], json!([{"type": "custom", "custom": custom}]));
        assert_eq!(own["messages"][1]["tool_calls"][0]["custom"]["input"], "*** Begin");
        assert_eq!(own["tool_choice"], json!({"type": "custom", "custom": {"name": "patch"}}));
    }

    #[test]
    fn what_anthropic_calls_strict_is_only_sent_where_openai_calls_it_so() {
        let schema = |required: Value| {
            let properties = json!({"a": {"type": "string"}, "b": {"type": "string"}});
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
        };
        let tool = |required: Value| Tool {
            name: "f".into(),
            description: None,
            parameters: Some(schema(required)),
            strict: Some(true),
            kind: ToolKind::Function,
            cache: None,
            rest: Object::new(),
        };
        let asked = Request {
            messages: vec![message(Role::User, vec![Part::text("hi")])],
            tools: vec![tool(json!(["a", "b"])), tool(json!(["a"]))],
            output: OutputFormat::JsonSchema {
                name: "n".into(),
                description: None,
                schema: schema(json!(["a"])),
                strict: Some(true),
            },
            ..Request::default()
        };
        let outgoing = chat(&asked, &TargetName::parse("p/m").unwrap(), &QuirkSettings::default()).unwrap();
        let body: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        let strict = |at: usize| body["tools"][at]["function"]["strict"].clone();
        assert_eq!((strict(0), strict(1)), (json!(true), json!(false)));
        assert_eq!(body["response_format"]["json_schema"]["strict"], false);
        let lost: Vec<&str> = outgoing.lost.iter().map(|loss| &*loss.path).collect();
        assert_eq!(lost, ["response_format.json_schema.strict", "tools[1].function.strict"]);
    }

    #[test]
    fn a_list_is_asked_for_in_words_after_the_clients_own_instructions() {
        let output = OutputFormat::JsonSchema {
            name: "n".into(),
            description: None,
            schema: json!({"type": "array", "items": {"type": "string"}}),
            strict: None,
        };
        let said = |role: Role, text: &str| message(role, vec![Part::text(text)]);
        let messages =
            vec![said(Role::System, "be kind"), said(Role::User, "list"), said(Role::Assistant, "[")];
        let asked = Request { messages, output, ..Request::default() };
        let target = TargetName::parse("p/gpt-5.1").unwrap();
        let outgoing = chat(&asked, &target, &QuirkSettings::default()).unwrap();
        let body: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        let said: Vec<&str> = (0..4).map(|at| body["messages"][at]["content"].as_str().unwrap()).collect();
        assert!(said[1].contains(r#"{"type":"array","items":{"type":"string"}}"#), "{body}");
        assert_eq!((said[0], said[2], said[3]), ("be kind", "list", "["));
        assert_eq!(body.get("response_format"), None);
        assert_eq!(&*outgoing.lost[0].path, "response_format");
    }

    #[test]
    fn a_file_without_a_name_gets_one() {
        for (mime, name) in [
            ("application/pdf", "document.pdf"),
            ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "document.docx"),
            ("", "document.bin"),
        ] {
            let media = Media::Inline { mime: mime.into(), base64: "JVBE".into() };
            let file = Part::File { media, filename: None, cache: None };
            let asked = Request { messages: vec![message(Role::User, vec![file])], ..Request::default() };
            let data = format!("data:{mime};base64,JVBE");
            assert_eq!(
                encoded(&asked, json!({}))["messages"][0]["content"],
                json!([{"type": "file", "file": {"file_data": data, "filename": name}}])
            );
        }
    }

    #[test]
    fn what_the_dialect_cannot_carry_is_named() {
        let file = Part::File { media: Media::Url("https://x/y.pdf".into()), filename: None, cache: None };
        let asked = Request {
            messages: vec![message(Role::User, vec![file, Part::text("read")])],
            ..Request::default()
        };
        let fault = chat(&asked, &TargetName::parse("p/m").unwrap(), &QuirkSettings::default()).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some("messages[0].content[0]"));
    }
}
