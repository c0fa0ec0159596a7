//! What every encoder makes of what other dialects say: arguments, functions, bookkeeping, and what it must refuse.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::choice::Wish;
use crate::chat::{Loss, Message, Object, Part, Reasoning, Role, Tool, ToolChoice, ToolKind};
use crate::fault::{Fault, Retry};

/// Whether a top-level field of another dialect asks for what is done here unasked, so that nothing is lost without it.
pub(super) fn is_usual(field: &str, value: &Value) -> bool {
    match field {
        "store" => *value == Value::Bool(false),
        "modalities" => {
            value.as_array().is_some_and(|words| matches!(words.as_slice(), [word] if word == "text"))
        }
        "service_tier" => *value == "auto" || *value == "default",
        _ => value.is_null(),
    }
}

/// Arguments of a call as an object, for dialects that demand one.
pub(super) fn arguments(arguments: &str, kind: ToolKind) -> Value {
    if kind == ToolKind::Custom {
        return json!({ "input": arguments });
    }
    match serde_json::from_str::<Value>(arguments) {
        Ok(object @ Value::Object(_)) => object,
        Ok(Value::Null) => json!({}),
        Ok(other) => json!({ "arguments": other }),
        Err(_) if arguments.trim().is_empty() => json!({}),
        // The model wrote no JSON; it shall see what it wrote.
        Err(_) => json!({ "arguments": arguments }),
    }
}

/// The tools that a dialect of functions alone can offer, in OpenAI's form: those that may be called. What cannot be said
/// of them is lost.
pub(super) fn functions<'a>(
    tools: &'a [Tool],
    wish: &Wish<'_>,
    lost: &mut Vec<Loss>,
) -> Vec<(&'a Tool, Value)> {
    let named = match wish.word {
        Some(ToolChoice::Named(name)) => Some(name.as_str()),
        _ => None,
    };
    let mut kept = Vec::with_capacity(tools.len());
    for (at, tool) in tools.iter().enumerate() {
        if wish.leaves_out(tool, at, lost) {
            continue;
        }
        match tool.kind {
            ToolKind::Function => {}
            ToolKind::Custom => lost.push(Loss::new(format!("tools[{at}]"), ONE_TEXT)),
            ToolKind::Server => {
                lost.push(Loss::new(format!("tools[{at}]"), "dropped: this provider knows functions only"));
                continue;
            }
        }
        if tool.cache.is_some() {
            lost.push(Loss::dropped(format!("tools[{at}].cache_control")));
        }
        let others =
            tool.rest.iter().filter(|(_, value)| tool.kind == ToolKind::Function && !value.is_null());
        lost.extend(others.map(|(field, _)| Loss::dropped(format!("tools[{at}].{field}"))));
        if named.is_none_or(|name| name == tool.name) {
            kept.push((tool, function(tool)));
        } else {
            lost.push(Loss::new(format!("tools[{at}]"), "not offered: the choice names another"));
        }
    }
    kept
}

/// What becomes of a custom tool where there are none.
pub(super) const ONE_TEXT: &str = "offered as a function with one text argument";

/// The arguments of a custom tool that is offered as a function.
pub(super) fn one_text() -> Value {
    json!({ "type": "object", "properties": { "input": { "type": "string" } }, "required": ["input"] })
}

/// A tool in OpenAI's form of functions.
pub(super) fn function(tool: &Tool) -> Value {
    let mut function = Object::new();
    function.insert("name".into(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        function.insert("description".into(), description.as_str().into());
    }
    let nothing = || json!({ "type": "object", "properties": {} });
    let parameters = match tool.kind {
        ToolKind::Custom => one_text(),
        _ => tool.parameters.clone().unwrap_or_else(nothing),
    };
    function.insert("parameters".into(), parameters);
    json!({ "type": "function", "function": function })
}

/// What of a message beside its content does not go out; the bookkeeping of other dialects' answers, which clients
/// send back, says nothing.
pub(super) fn lose_fields(message: &Message, place: usize, lost: &mut Vec<Loss>) {
    // The name of a tool stands at its call.
    if message.name.is_some() && message.role != Role::Tool {
        lost.push(Loss::dropped(format!("messages[{place}].name")));
    }
    for (field, value) in &message.rest {
        let says_nothing = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if !says_nothing && !matches!(&**field, "id" | "index") {
            lost.push(Loss::dropped(format!("messages[{place}].{field}")));
        }
    }
}

/// Proofs that nobody but their makers can read, on what goes out without them; `own` tells the provider's.
pub(super) fn lose_proofs(message: &Message, place: usize, own: fn(&str) -> bool, lost: &mut Vec<Loss>) {
    for (at, part) in message.content.iter().enumerate() {
        let signature = match part {
            Part::Thinking { signature, redacted: None, .. } | Part::ToolCall { signature, .. } => signature,
            _ => continue,
        };
        if signature.as_deref().is_some_and(|signature| !own(signature)) {
            let path = format!("messages[{place}].content[{at}].signature");
            lost.push(Loss::new(path, "another provider's proof dropped"));
        }
    }
}

/// An effort beside a budget, where the budget counts.
pub(super) fn lose_effort(reasoning: &Reasoning, lost: &mut Vec<Loss>) {
    if reasoning.effort.is_some() && reasoning.budget_tokens.is_some() {
        lost.push(Loss::new("reasoning.effort", "the budget counts"));
    }
}

/// The address of a film in the form that OpenAI's compatible vendors have for it, which OpenAI has not.
pub(super) fn video_url(part: &Value) -> Option<&str> {
    let video = part.get("video_url").filter(|_| part.get("type").is_some_and(|kind| kind == "video_url"))?;
    video.as_str().or_else(|| video.get("url")?.as_str())
}

/// `data:image/png;base64,AAAA` in its two parts.
pub(super) fn data_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let head = head.strip_suffix(";base64")?;
    Some((head.split(';').next().unwrap_or(head), data))
}

/// A part of an assistant's message that only its own dialect understands: a search that ran at its provider, what it
/// found. The answer goes on without it.
pub(super) fn lose_part(path: impl Into<Cow<'static, str>>, lost: &mut Vec<Loss>) {
    lost.push(Loss::new(path, "part of another provider's dialect dropped"));
}

/// The refusal of a part that an answer would be wrong without. Another target may take it.
pub(super) fn cannot<T>(what: &str, path: &str) -> Result<T, Fault> {
    let message = format!("this model's provider cannot take {what}");
    Err(Fault::bad_request(message, path.to_owned()).retry(Retry::Elsewhere))
}

/// The refusal of a part that only its own dialect understands.
pub(super) fn cannot_read<T>(part: &Value, path: &str) -> Result<T, Fault> {
    cannot(&what_is(part), path)
}

/// What a part is that only its own dialect understands, to be said after "this model's provider cannot take".
pub(super) fn what_is(part: &Value) -> Cow<'static, str> {
    if video_url(part).is_some() {
        return "a film".into();
    }
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("unknown");
    format!("a part of the type `{kind}`").into()
}
