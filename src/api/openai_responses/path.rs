//! Where a piece of the canonical request stood in the client's: faults and losses are told in the client's words.

/// Where one canonical part stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// In `instructions`.
    Instructions,
    /// In an `input` that is a string.
    Input,
    /// In an item of `input`.
    Item(usize),
    /// In an item's content, at this place.
    Content(usize, usize),
    /// In the conversation that `previous_response_id` names.
    Before,
}

/// Where everything stood.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// Of every part, by message.
    pub(super) parts: Vec<Vec<Origin>>,
    /// Place in the client's `tools`, and where in that namespace.
    pub(super) tools: Vec<(usize, Option<usize>)>,
}

/// Canonical names of top-level fields whose name here is another.
const NAMES: &[(&str, &str)] = &[
    ("response_format", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
    ("verbosity", "text.verbosity"),
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("messages", "input"),
    ("logprobs", "include"),
];

impl Origins {
    /// A canonical path in the client's words.
    pub(super) fn clients(&self, path: &str) -> Option<String> {
        if let Some((_, name)) = NAMES.iter().find(|(canonical, _)| *canonical == path) {
            return Some((*name).to_owned());
        }
        if let Some((tool, rest)) = path.strip_prefix("tools[").and_then(|rest| rest.split_once(']')) {
            let place = match self.tools.get(tool.parse::<usize>().ok()?)? {
                (tool, None) => format!("tools[{tool}]"),
                (tool, Some(inner)) => format!("tools[{tool}].tools[{inner}]"),
            };
            let rest =
                rest.strip_prefix(".function").or_else(|| rest.strip_prefix(".custom")).unwrap_or(rest);
            return Some(place + rest);
        }
        let (message, rest) = path.strip_prefix("messages[")?.split_once(']')?;
        let parts = self.parts.get(message.parse::<usize>().ok()?)?;
        let (part, rest) = match rest.strip_prefix(".content[").and_then(|rest| rest.split_once(']')) {
            Some((part, rest)) => (parts.get(part.parse::<usize>().ok()?)?, rest),
            None => (parts.first()?, rest),
        };
        let rest = if rest == ".cache_control" { ".prompt_cache_breakpoint" } else { rest };
        // What a kept conversation consists of is no field of the client's.
        Some(match part {
            Origin::Before => "previous_response_id".to_owned(),
            part => format!("{part}{rest}"),
        })
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Instructions => f.write_str("instructions"),
            Self::Input => f.write_str("input"),
            Self::Item(item) => write!(f, "input[{item}]"),
            Self::Content(item, at) => write!(f, "input[{item}].content[{at}]"),
            Self::Before => f.write_str("previous_response_id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_clients() {
        let parts = vec![
            vec![Origin::Instructions],
            vec![Origin::Content(1, 0), Origin::Content(1, 1)],
            vec![Origin::Item(3), Origin::Before],
        ];
        let origins = Origins { parts, tools: vec![(0, None), (4, Some(2))] };
        for (canonical, expected) in [
            ("messages[0].content[0]", Some("instructions")),
            ("messages[1].content[1].detail", Some("input[1].content[1].detail")),
            ("messages[2].content[0]", Some("input[3]")),
            ("messages[2].content[1].arguments", Some("previous_response_id")),
            ("messages[2].content[7]", None),
            ("messages[9]", None),
            ("tools[0].function.strict", Some("tools[0].strict")),
            ("tools[1]", Some("tools[4].tools[2]")),
            ("response_format", Some("text.format")),
            ("top_k", None),
        ] {
            assert_eq!(origins.clients(canonical).as_deref(), expected, "{canonical}");
        }
    }
}
