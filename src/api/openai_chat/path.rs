//! Where a piece of the canonical request stood in the client's: faults and losses are told in the client's words.
//!
//! Messages stand in both at the same place; what an assistant thought, refused and called stands beside its content.

use super::decode::{BREAKPOINT, Decoded};
use crate::chat::Part;

/// Names inside of a part, and their names here.
const INSIDE: &[(&str, &str)] = &[(".detail", ".image_url.detail"), (".filename", ".file.filename")];

/// A canonical path in the client's words; `None` where it is the same.
pub(super) fn clients(path: &str, decoded: &Decoded) -> Option<String> {
    let told = place(path, decoded);
    let marked = told.as_deref().unwrap_or(path).strip_suffix(".cache_control");
    match marked.filter(|_| decoded.breakpoints && path.starts_with("messages[")) {
        Some(marked) => Some(format!("{marked}.{BREAKPOINT}")),
        None => told,
    }
}

fn place(path: &str, decoded: &Decoded) -> Option<String> {
    let request = &decoded.request;
    if decoded.thinking
        && let Some(rest) =
            path.strip_prefix("reasoning").filter(|rest| rest.is_empty() || rest.starts_with('.'))
    {
        return Some(format!("thinking{rest}"));
    }
    if path == "reasoning.budget_tokens" {
        return Some("reasoning.max_tokens".to_owned());
    }
    if path == "tool_choice" && decoded.chosen_of_old {
        return Some("function_call".to_owned());
    }
    if let Some((at, rest)) = path.strip_prefix("tools[").and_then(|path| path.split_once(']')) {
        let function = at.parse::<usize>().ok()?.checked_sub(decoded.tools)?;
        let rest = rest.strip_prefix(".function").unwrap_or(rest);
        return Some(format!("functions[{function}]{rest}"));
    }
    let (place, rest) = path.strip_prefix("messages[")?.split_once("].content[")?;
    let (at, rest) = rest.split_once(']')?;
    let parts = &request.messages.get(place.parse::<usize>().ok()?)?.content;
    let at: usize = at.parse().ok()?;
    let before = parts.get(..at)?;
    let count = |is: fn(&Part) -> bool| before.iter().filter(|part| is(part)).count();
    let is_call = |part: &Part| matches!(part, Part::ToolCall { .. });
    let is_thought = |part: &Part| matches!(part, Part::Thinking { .. });
    let beside = match parts.get(at)? {
        Part::Thinking { signature: None, redacted: None, .. } => "reasoning_content".to_owned(),
        Part::Thinking { .. } => format!("reasoning_details[{}]{rest}", count(is_thought)),
        Part::ToolCall { id, .. } if id.starts_with("call_legacy_") => format!("function_call{rest}"),
        Part::ToolCall { .. } => {
            let rest = if rest == ".signature" { ".extra_content" } else { rest };
            format!("tool_calls[{}]{rest}", count(is_call))
        }
        Part::Refusal(_) => "refusal".to_owned(),
        Part::ToolResult { .. } if rest.is_empty() => "content".to_owned(),
        Part::ToolResult { .. } => rest.trim_start_matches('.').to_owned(),
        Part::Text { .. } if matches!(rest, ".annotations" | ".citations") => "annotations".to_owned(),
        _ => {
            let rest = INSIDE.iter().find(|(known, _)| *known == rest).map_or(rest, |(_, own)| own);
            format!("content[{}]{rest}", before.len() - count(is_call) - count(is_thought))
        }
    };
    Some(format!("messages[{place}].{beside}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::clients;
    use crate::api::openai_chat::decode::{Decoded, read};
    use crate::json::Body;

    fn decoded(body: &Value) -> Decoded {
        read(&Body::read(body.to_string().into()).unwrap()).unwrap()
    }

    #[test]
    fn paths_are_the_clients() {
        let body = json!({"model": "m", "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://x"}}]},
            {"role": "assistant", "content": "said", "reasoning_content": "thought", "refusal": "no", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"}]});
        let decoded = decoded(&body);
        for (canonical, expected) in [
            ("messages[0].content[1].detail", Some("messages[0].content[1].image_url.detail")),
            ("messages[0].content[0].cache_control", Some("messages[0].content[0].cache_control")),
            ("messages[1].content[0]", Some("messages[1].reasoning_content")),
            ("messages[1].content[1].annotations", Some("messages[1].annotations")),
            ("messages[1].content[2]", Some("messages[1].refusal")),
            ("messages[1].content[4].signature", Some("messages[1].tool_calls[1].extra_content")),
            ("messages[2].content[0]", Some("messages[2].content")),
            ("messages[2].content[0].cache_control", Some("messages[2].cache_control")),
            ("messages[9].content[0]", None),
            ("messages[0].name", None),
            ("seed", None),
        ] {
            assert_eq!(clients(canonical, &decoded).as_deref(), expected, "{canonical}");
        }
    }

    #[test]
    fn thinking_stands_where_the_client_wrote_it() {
        let turn = json!({"role": "user", "content": "hi"});
        let thinking = json!({"type": "enabled", "budget_tokens": 2048});
        let alone = json!({"model": "m", "messages": [turn], "thinking": thinking});
        let beside =
            json!({"model": "m", "messages": [turn], "thinking": thinking, "reasoning_effort": "low"});
        for (body, canonical, expected) in [
            (&alone, "reasoning", Some("thinking")),
            (&alone, "reasoning.budget_tokens", Some("thinking.budget_tokens")),
            (&alone, "reasoning_effort", None),
            (&beside, "reasoning", None),
            (&beside, "reasoning_effort", None),
        ] {
            assert_eq!(clients(canonical, &decoded(body)).as_deref(), expected, "{canonical} of {body}");
        }
    }

    #[test]
    fn breakpoints_bear_the_clients_name() {
        let part = |mark: &str| json!([{"type": "text", "text": "a", mark: {"mode": "explicit", "type": "ephemeral"}}]);
        for mark in ["cache_control", "prompt_cache_breakpoint"] {
            let body = json!({"model": "m", "messages": [{"role": "user", "content": part(mark)}]});
            let told = clients("messages[0].content[0].cache_control", &decoded(&body)).unwrap();
            assert_eq!(told, format!("messages[0].content[0].{mark}"));
        }
    }

    #[test]
    fn functions_stand_where_the_client_wrote_them() {
        let (f, turn) = (json!({"name": "f"}), json!({"role": "user", "content": "hi"}));
        let tool = json!({"type": "function", "function": f});
        let old = json!({"model": "m", "messages": [turn], "functions": [f, f], "function_call": "auto"});
        let new = json!({"model": "m", "messages": [turn], "tools": [tool], "tool_choice": "auto"});
        let both = json!({"model": "m", "messages": [turn], "tools": [tool], "functions": [f]});
        for (body, canonical, expected) in [
            (&old, "tools[1].function.strict", Some("functions[1].strict")),
            (&old, "tools[0]", Some("functions[0]")),
            (&old, "tool_choice", Some("function_call")),
            (&old, "tools", None),
            (&new, "tools[0].function.strict", None),
            (&new, "tool_choice", None),
            (&both, "tools[0].function.name", None),
            (&both, "tools[1].function.name", Some("functions[0].name")),
        ] {
            assert_eq!(clients(canonical, &decoded(body)).as_deref(), expected, "{canonical} of {body}");
        }
    }
}
