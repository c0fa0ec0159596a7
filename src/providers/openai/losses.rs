//! What OpenAI's dialect, or one of its vendors, cannot say of a canonical request.

use serde_json::Value;

use super::details;
use super::encode::is_unsayable;
use super::reasoning::says_usual;
use crate::chat::{Loss, Message, Object, Part, Role, Tool, ToolKind};
use crate::providers::QuirkSettings;

/// What of a message does not go out.
pub(super) fn of_message(message: &Message, place: usize, quirks: &QuirkSettings, lost: &mut Vec<Loss>) {
    if message.name.is_some() && quirks.lacks.iter().any(|field| field == "name") {
        lost.push(Loss::dropped(format!("messages[{place}].name")));
    }
    for (at, part) in message.content.iter().enumerate() {
        of_part(part, message.role, (place, at), quirks.cache_control, lost);
        let path = || format!("messages[{place}].content[{at}]");
        match part {
            Part::Thinking { .. } if !takes_thinking(quirks) => {
                lost.push(Loss::new(path(), "thinking dropped"));
            }
            Part::ToolCall { signature: Some(_), .. }
                if quirks.lacks.iter().any(|field| field == "extra_content") =>
            {
                lost.push(Loss::new(path() + ".signature", "dropped: it is another provider's"));
            }
            Part::Thinking { text, signature, redacted }
                if (signature.is_some() || redacted.is_some())
                    && details::write(text, signature.as_deref(), redacted.as_deref()).is_none() =>
            {
                lost.push(Loss::new(path() + ".signature", "dropped: it is another provider's"));
            }
            _ => {}
        }
    }
}

/// What of a part no API of OpenAI's can carry. `place` is the message's and the part's; `marks` says that the vendor
/// knows marks for its cache.
pub(in crate::providers) fn of_part(
    part: &Part,
    role: Role,
    place: (usize, usize),
    marks: bool,
    lost: &mut Vec<Loss>,
) {
    let mut lose = |field: &str, what: &'static str| {
        lost.push(Loss::new(format!("messages[{}].content[{}]{field}", place.0, place.1), what));
    };
    match part {
        Part::Text { cache: Some(_), .. }
        | Part::Image { cache: Some(_), .. }
        | Part::File { cache: Some(_), .. }
        | Part::ToolResult { cache: Some(_), .. }
            if !marks =>
        {
            lose(".cache_control", "dropped");
        }
        Part::ToolCall { cache: Some(_), .. } => lose(".cache_control", "dropped"),
        Part::Text { citations, .. } if !citations.is_empty() => lose(".citations", "dropped"),
        Part::Other(_) if role == Role::Assistant && is_unsayable(part) => lose("", "dropped"),
        _ => {}
    }
    if let Part::ToolResult { is_error, content, .. } = part {
        if *is_error {
            lose(".is_error", "dropped");
        }
        if content.iter().any(is_unsayable) {
            lose(".content", "parts dropped that only Anthropic can read");
        }
    }
}

/// What of a tool does not go out.
pub(in crate::providers) fn of_tool(tool: &Tool, at: usize, marks: bool, lost: &mut Vec<Loss>) {
    if tool.cache.is_some() && !marks {
        lost.push(Loss::dropped(format!("tools[{at}].cache_control")));
    }
    if tool.kind == ToolKind::Function {
        // What functions have beyond OpenAI's fields is another dialect's, and would be refused.
        let fields = tool.rest.iter().filter(|(_, value)| !value.is_null());
        lost.extend(fields.map(|(field, _)| Loss::dropped(format!("tools[{at}].{field}"))));
    }
}

/// Takes out what the vendor, or this model of his, does not know. Losses inside of messages are told by
/// [`of_message`].
pub(in crate::providers) fn leave_out(
    body: &mut Object,
    model: &str,
    quirks: &QuirkSettings,
    lost: &mut Vec<Loss>,
) {
    for field in quirks.lacks.iter().chain(quirks.lacked_by(model)) {
        if let Some(value) = body.shift_remove(field)
            && !says_usual(field, &value)
        {
            lost.push(Loss::dropped(field.clone()));
        }
    }
    if let Some(Value::Array(messages)) = body.get_mut("messages") {
        for message in messages.iter_mut().filter_map(Value::as_object_mut) {
            quirks.lacks.iter().for_each(|field| drop(message.shift_remove(field)));
        }
    }
}

fn takes_thinking(quirks: &QuirkSettings) -> bool {
    let field = "reasoning_content";
    quirks.thinking_parts
        || ![&quirks.lacks, &quirks.drop_in_messages].iter().any(|list| list.iter().any(|name| name == field))
}
