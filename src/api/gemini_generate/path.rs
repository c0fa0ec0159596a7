//! Where a piece of the canonical request stood in the client's: faults and losses are told in the client's words.

use super::decode::{Decoded, SEARCH};

/// Where the parts of one canonical message stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// `systemInstruction`, `contents[3]`.
    pub(super) content: String,
    /// `contents[3].parts[1]`, for each part: several contents of the model become one message.
    pub(super) parts: Vec<String>,
}

/// Canonical names of fields, and what they are called here.
const NAMES: &[(&str, &str)] = &[
    ("temperature", "generationConfig.temperature"),
    ("top_p", "generationConfig.topP"),
    ("top_k", "generationConfig.topK"),
    ("n", "generationConfig.candidateCount"),
    ("max_completion_tokens", "generationConfig.maxOutputTokens"),
    ("stop", "generationConfig.stopSequences"),
    ("presence_penalty", "generationConfig.presencePenalty"),
    ("frequency_penalty", "generationConfig.frequencyPenalty"),
    ("seed", "generationConfig.seed"),
    ("logprobs", "generationConfig.responseLogprobs"),
    ("top_logprobs", "generationConfig.logprobs"),
    ("reasoning_effort", "generationConfig.thinkingConfig"),
    ("reasoning", "generationConfig.thinkingConfig"),
    ("reasoning.budget_tokens", "generationConfig.thinkingConfig.thinkingBudget"),
    ("response_format", "generationConfig.responseSchema"),
    ("tool_choice", "toolConfig.functionCallingConfig"),
    ("service_tier", "serviceTier"),
];

/// Names inside of a part, and their names here.
const INSIDE: &[(&str, &str)] = &[(".filename", ".displayName"), (".signature", ".thoughtSignature")];

/// A canonical path in the client's words; `None` where it is the same.
pub(super) fn clients(path: &str, decoded: &Decoded) -> Option<String> {
    if let Some((_, name)) = NAMES.iter().find(|(canonical, _)| *canonical == path) {
        return Some((*name).to_owned());
    }
    if let Some((place, rest)) = path.strip_prefix("tools[").and_then(|rest| rest.split_once(']')) {
        let (tool, function) = decoded.tools.get(place.parse::<usize>().ok()?)?;
        let Some(function) = function else { return Some(format!("tools[{tool}].{SEARCH}{rest}")) };
        let rest = rest.strip_prefix(".function").unwrap_or(rest);
        return Some(format!("tools[{tool}].functionDeclarations[{function}]{rest}"));
    }
    let (message, rest) = path.strip_prefix("messages[")?.split_once(']')?;
    let origin = decoded.origins.get(message.parse::<usize>().ok()?)?;
    let part = rest.strip_prefix(".content[").and_then(|rest| rest.split_once(']'));
    let Some((part, rest)) = part else { return Some(format!("{}{rest}", origin.content)) };
    let rest = INSIDE.iter().find(|(known, _)| *known == rest).map_or(rest, |(_, own)| own);
    let part = origin.parts.get(part.parse::<usize>().ok()?)?;
    Some(format!("{part}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Request;

    #[test]
    fn paths_are_the_clients() {
        let origin = |content: &str, parts: &[usize]| Origin {
            content: content.into(),
            parts: parts.iter().map(|at| format!("{content}.parts[{at}]")).collect(),
        };
        let decoded = Decoded {
            request: Request::default(),
            lost: Vec::new(),
            origins: vec![origin("systemInstruction", &[0]), origin("contents[0]", &[0, 0, 1])],
            tools: vec![(0, Some(0)), (2, Some(1)), (3, None)],
        };
        for (canonical, expected) in [
            ("seed", Some("generationConfig.seed")),
            ("messages[0].content[0]", Some("systemInstruction.parts[0]")),
            ("messages[1].content[1]", Some("contents[0].parts[0]")),
            ("messages[1].content[2].signature", Some("contents[0].parts[1].thoughtSignature")),
            ("messages[1].content[7]", None),
            ("messages[1].name", Some("contents[0].name")),
            ("tools[1].function.strict", Some("tools[2].functionDeclarations[1].strict")),
            ("tools[2]", Some("tools[3].googleSearch")),
            ("tools[2].timeRangeFilter", Some("tools[3].googleSearch.timeRangeFilter")),
            ("tools[1].behavior", Some("tools[2].functionDeclarations[1].behavior")),
            ("safetySettings", None),
        ] {
            assert_eq!(clients(canonical, &decoded).as_deref(), expected, "{canonical}");
        }
    }
}
