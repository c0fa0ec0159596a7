//! Where a piece of the canonical request stood in the client's: faults and losses are told in the client's words.

/// Where the parts of one canonical message stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// In `system`.
    System,
    /// In a message, from this block on.
    Message(usize, usize),
}

/// Canonical names of top-level fields whose name here is another.
const NAMES: &[(&str, &str)] = &[
    ("response_format", "output_config.format"),
    ("reasoning_effort", "thinking"),
    ("reasoning", "thinking"),
    ("stop", "stop_sequences"),
    ("user", "metadata.user_id"),
    ("max_completion_tokens", "max_tokens"),
    ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
];

/// Canonical names inside of a block whose name here is another.
const INSIDE: &[(&str, &str)] = &[(".annotations", ".citations"), (".filename", ".title")];

/// A canonical path in the client's words; `has_effort` where it says how much effort an answer is worth.
pub(super) fn clients(path: &str, origins: &[Origin], has_effort: bool) -> Option<String> {
    if has_effort && path == "reasoning_effort" {
        return Some("output_config.effort".to_owned());
    }
    if let Some((_, name)) = NAMES.iter().find(|(canonical, _)| *canonical == path) {
        return Some((*name).to_owned());
    }
    if path.starts_with("tools[") {
        return path.contains(".function.").then(|| path.replacen(".function.", ".", 1));
    }
    let (message, rest) = path.strip_prefix("messages[")?.split_once(']')?;
    let origin = origins.get(message.parse::<usize>().ok()?)?;
    let (block, rest) = match rest.strip_prefix(".content[").and_then(|rest| rest.split_once(']')) {
        Some((block, rest)) => (Some(block.parse::<usize>().ok()?), rest),
        None => (None, rest),
    };
    let rest = INSIDE.iter().find(|(known, _)| *known == rest).map_or(rest, |(_, own)| own);
    Some(match (origin, block) {
        (Origin::System, Some(block)) => format!("system[{block}]{rest}"),
        (Origin::System, None) => format!("system{rest}"),
        (Origin::Message(message, first), Some(block)) => {
            format!("messages[{message}].content[{}]{rest}", first + block)
        }
        (Origin::Message(message, _), None) => format!("messages[{message}]{rest}"),
    })
}

#[cfg(test)]
mod tests {
    use super::{Origin, clients};

    #[test]
    fn paths_are_the_clients() {
        let origins = [Origin::System, Origin::Message(0, 0), Origin::Message(1, 2)];
        for (canonical, expected) in [
            ("messages[0].content[1]", Some("system[1]")),
            ("messages[1].content[1].detail", Some("messages[0].content[1].detail")),
            ("messages[2].content[1]", Some("messages[1].content[3]")),
            ("messages[2].name", Some("messages[1].name")),
            ("messages[9]", None),
            ("tools[3].function.strict", Some("tools[3].strict")),
            ("tools[3]", None),
            ("stop", Some("stop_sequences")),
            ("top_k", None),
            ("reasoning_effort", Some("thinking")),
        ] {
            assert_eq!(clients(canonical, &origins, false).as_deref(), expected, "{canonical}");
        }
        let effort = clients("reasoning_effort", &origins, true);
        assert_eq!(effort.as_deref(), Some("output_config.effort"));
    }
}
