//! Where a piece of the canonical request stood in the client's: faults and losses are told in the client's words.
//!
//! Messages stand in both at the same place; what an assistant thought, refused and called stands beside its content.

use crate::chat::{Part, Request};

/// Names inside of a part, and their names here.
const INSIDE: &[(&str, &str)] = &[(".detail", ".image_url.detail"), (".filename", ".file.filename")];

/// A canonical path in the client's words; `None` where it is the same.
pub(super) fn clients(path: &str, request: &Request) -> Option<String> {
    if path == "reasoning.budget_tokens" {
        return Some("reasoning.max_tokens".to_owned());
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
    use super::clients;
    use crate::api::openai_chat::decode;
    use crate::json::Body;

    #[test]
    fn paths_are_the_clients() {
        let body = serde_json::json!({"model": "m", "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://x"}}]},
            {"role": "assistant", "content": "said", "reasoning_content": "thought", "refusal": "no", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"}]});
        let request = decode(&Body::read(body.to_string().into()).unwrap()).unwrap();
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
            assert_eq!(clients(canonical, &request).as_deref(), expected, "{canonical}");
        }
    }
}
