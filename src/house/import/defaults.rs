//! What is sent where a client says nothing, in the words of the provider that gets it.

use serde_json::{Map, Value};

/// Ollama's options, and what they are called in OpenAI's words:
/// <https://github.com/ollama/ollama/blob/main/docs/modelfile.mdx#parameter>
const OLLAMA: &[(&str, &str)] = &[
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("seed", "seed"),
    ("stop", "stop"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
    ("max_tokens", "num_predict"),
    ("max_completion_tokens", "num_predict"),
    ("num_ctx", "num_ctx"),
];

/// Anthropic's parameters that its requests do without, by OpenAI's words for them.
const ANTHROPIC: &[(&str, &str)] = &[
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("stop", "stop_sequences"),
    ("thinking", "thinking"),
];

/// The defaults of a provider of this dialect, and the names of those that it cannot be given this way.
pub(super) fn said(dialect: &str, all: Map<String, Value>) -> (Map<String, Value>, Vec<String>) {
    let words = match dialect {
        "anthropic" => ANTHROPIC,
        "ollama" => OLLAMA,
        // Their parameters stand deeper in a request, where no default reaches.
        "bedrock" | "bedrock-anthropic" | "cohere" | "gemini" | "vertex" => &[],
        _ => return (all, Vec::new()),
    };
    let (mut known, mut options, mut left) = (Map::new(), Map::new(), Vec::new());
    for (name, value) in all {
        // Both want a list, where OpenAI takes a text, too.
        let value = if name == "stop" && value.is_string() { Value::from(vec![value]) } else { value };
        match words.iter().find(|(theirs, _)| *theirs == name) {
            _ if dialect == "ollama" && name == "keep_alive" => drop(known.insert(name, value)),
            Some((_, word)) if dialect == "ollama" => drop(options.insert((*word).into(), value)),
            Some((_, word)) => drop(known.insert((*word).into(), value)),
            None => left.push(name),
        }
    }
    if !options.is_empty() {
        known.insert("options".into(), options.into());
    }
    (known, left)
}
