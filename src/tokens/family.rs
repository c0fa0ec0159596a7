//! Families of models: which encoding counts their texts, and what their vendors add to them.
//!
//! What vendors without a public tokenizer count was measured on answers of theirs that tell their usage: so many tokens for
//! a thousand of `o200k_base`, and the template of a prompt around its texts. The error of each is told by the test of
//! `api/counted.rs`, and in `docs/tokens.md`.

use super::encoding::Encoding;

/// What one vendor's models make of a prompt.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name, for those who ask how was counted.
    pub name: &'static str,
    /// What stands in the names of its models; `$` is the end of the name.
    words: &'static [&'static str],
    /// What counts its texts.
    pub encoding: Encoding,
    /// Whether the encoding is the models' own.
    pub exact: bool,
    /// Tokens for a thousand of the encoding's.
    pub(super) per_mille: u64,
    /// Tokens of the template around a prompt.
    pub(super) base: u64,
    /// Tokens around each message, the name of its role included.
    pub(super) message: u64,
    /// Tokens of what introduces tools.
    pub(super) tools: u64,
    /// Tokens for a thousand of a tool's definition as JSON; `None` where tools are written as OpenAI does.
    pub(super) tool_per_mille: Option<u64>,
    /// Tokens of a picture of usual size.
    pub(super) picture: u64,
}

impl Family {
    /// The family of a model, by its name at whoever serves it; a later name counts where an earlier one says nothing.
    pub fn of(names: &[&str]) -> &'static Self {
        let known = names.iter().find_map(|name| {
            let name = plain(name);
            FAMILIES.iter().find(|family| family.words.iter().any(|word| stands_in(word, &name)))
        });
        known.unwrap_or(&OTHER)
    }

    /// Tokens of a text of which the encoding counts so many.
    pub(super) fn scaled(&self, counted: u64) -> u64 {
        counted.saturating_mul(self.per_mille).div_ceil(1_000)
    }

    /// Bytes of a usual text that are one token: English prose has 4.4 in OpenAI's encodings.
    #[allow(clippy::cast_precision_loss, reason = "small numbers of a table")]
    pub(super) fn bytes_per_token(&self) -> f64 {
        4_400.0 / self.per_mille as f64
    }
}

/// The name without what servers put before it, in lowercase, with `-` for every other mark.
fn plain(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let own = if last.starts_with("ft:") { last.split(':').nth(1).unwrap_or(last) } else { last };
    own.chars().map(|c| if matches!(c, '.' | '_' | ' ') { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn stands_in(word: &str, name: &str) -> bool {
    match (word.strip_prefix('^'), word.strip_suffix('$')) {
        (Some(start), _) => name.starts_with(start),
        (None, Some(end)) => name.ends_with(end),
        (None, None) => name.contains(word),
    }
}

/// OpenAI's own models with the template of chats:
/// <https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken>
const OPENAI: Family = Family {
    name: "openai",
    words: &[],
    encoding: Encoding::O200k,
    exact: true,
    per_mille: 1_000,
    base: 3,
    message: 4,
    tools: 12,
    tool_per_mille: None,
    picture: 765,
};

/// Measured: models that count with tokenizers of their own.
const MEASURED: Family = Family {
    exact: false,
    tool_per_mille: Some(1_100),
    base: 4,
    message: 4,
    tools: 60,
    picture: 1_000,
    ..OPENAI
};

const OTHER: Family = Family { name: "other", per_mille: 1_060, ..MEASURED };

/// A name is looked for from the top: what is more special stands above.
const FAMILIES: [Family; 24] = [
    Family {
        name: "gpt-oss",
        words: &["gpt-oss"],
        base: 62,
        message: 5,
        tools: 40,
        tool_per_mille: Some(1_000),
        ..OPENAI
    },
    Family {
        name: "embeddings",
        words: &["text-embedding-"],
        encoding: Encoding::Cl100k,
        base: 0,
        message: 0,
        ..OPENAI
    },
    Family { name: "gpt-5", words: &["^gpt-5", "^gpt-6", "^o1", "^o3", "^o4", "^codex"], base: 2, ..OPENAI },
    Family {
        name: "gpt-4o",
        words: &[
            "gpt-4o",
            "^gpt-4-1",
            "^gpt-4-5",
            "^gpt-audio",
            "^gpt-realtime",
            "^gpt-image",
            "^computer-use",
        ],
        ..OPENAI
    },
    Family {
        name: "gpt-4",
        words: &["^gpt-4", "^gpt-3-5", "^gpt-35", "^davinci-002", "^babbage-002"],
        encoding: Encoding::Cl100k,
        ..OPENAI
    },
    Family {
        name: "claude before 4.5",
        words: &[
            "claude-2",
            "claude-3",
            "claude-instant",
            "claude-sonnet-4$",
            "claude-opus-4$",
            "sonnet-4-0",
            "sonnet-4-2025",
            "sonnet-4@",
            "opus-4-0",
            "opus-4-1",
            "opus-4-2025",
            "opus-4@",
        ],
        per_mille: 1_140,
        base: 3,
        tools: 325,
        picture: 1_600,
        ..MEASURED
    },
    Family {
        name: "claude",
        words: &["claude"],
        per_mille: 1_140,
        base: 3,
        tools: 500,
        picture: 1_600,
        ..MEASURED
    },
    Family {
        name: "gemini",
        words: &["gemini"],
        per_mille: 1_040,
        base: 0,
        message: 1,
        tools: 0,
        tool_per_mille: Some(1_000),
        picture: 258,
        ..MEASURED
    },
    Family { name: "gemma", words: &["gemma"], per_mille: 1_040, base: 1, picture: 256, ..MEASURED },
    Family {
        name: "llama 3",
        words: &["llama3-8b", "llama3-70b"],
        per_mille: 1_020,
        base: 5,
        message: 5,
        ..MEASURED
    },
    Family {
        name: "llama 3.1",
        words: &["llama-3", "llama3"],
        per_mille: 1_020,
        base: 30,
        message: 5,
        ..MEASURED
    },
    Family { name: "llama", words: &["llama"], per_mille: 1_030, base: 5, message: 5, ..MEASURED },
    Family {
        name: "mixtral",
        words: &["mixtral", "open-mistral-7b"],
        per_mille: 1_200,
        base: 3,
        message: 3,
        ..MEASURED
    },
    Family {
        name: "mistral",
        words: &["mistral", "ministral", "magistral", "codestral", "devstral", "pixtral"],
        per_mille: 1_020,
        base: 1,
        message: 2,
        tools: 25,
        tool_per_mille: Some(1_250),
        ..MEASURED
    },
    Family {
        name: "deepseek",
        words: &["deepseek"],
        per_mille: 1_015,
        base: 3,
        message: 1,
        tools: 220,
        tool_per_mille: Some(1_300),
        ..MEASURED
    },
    Family {
        name: "qwen 3",
        words: &["qwen3", "qwen-3"],
        per_mille: 1_020,
        base: 4,
        tools: 95,
        tool_per_mille: Some(1_150),
        ..MEASURED
    },
    Family {
        name: "qwen",
        words: &["qwen", "qwq"],
        per_mille: 1_020,
        base: 8,
        tools: 95,
        tool_per_mille: Some(1_150),
        ..MEASURED
    },
    Family { name: "glm", words: &["glm-"], base: 6, message: 3, tools: 115, per_mille: 1_030, ..MEASURED },
    Family {
        name: "kimi",
        words: &["kimi", "moonshot"],
        base: 3,
        tools: 18,
        tool_per_mille: Some(800),
        per_mille: 1_030,
        ..MEASURED
    },
    Family {
        name: "grok without reasoning",
        words: &["grok-4-1-fast-non", "grok-4-fast-non"],
        per_mille: 1_000,
        base: 2,
        tools: 135,
        ..MEASURED
    },
    Family {
        name: "grok",
        words: &["grok"],
        per_mille: 1_000,
        base: 145,
        message: 5,
        tools: 140,
        ..MEASURED
    },
    Family { name: "sonar", words: &["sonar"], per_mille: 1_020, base: 0, message: 1, ..MEASURED },
    Family {
        name: "command",
        words: &["command", "aya-"],
        per_mille: 1_060,
        base: 1,
        message: 2,
        ..MEASURED
    },
    Family { name: "chatgpt", words: &["^chatgpt", "openai", "azure"], ..OPENAI },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_by_any_of_their_names() {
        for (names, family, encoding) in [
            (&["gpt-4o-mini-2024-07-18"][..], "gpt-4o", Encoding::O200k),
            (&["openai/gpt-4.1"], "gpt-4o", Encoding::O200k),
            (&["gpt-4-0613"], "gpt-4", Encoding::Cl100k),
            (&["gpt-35-turbo"], "gpt-4", Encoding::Cl100k),
            (&["ft:gpt-4o-2024-08-06:acme::id"], "gpt-4o", Encoding::O200k),
            (&["o3-mini"], "gpt-5", Encoding::O200k),
            (&["gpt-5-mini-2025-08-07"], "gpt-5", Encoding::O200k),
            (&["accounts/fireworks/models/gpt-oss-120b"], "gpt-oss", Encoding::O200k),
            (&["text-embedding-3-small"], "embeddings", Encoding::Cl100k),
            (&["claude-sonnet-4-20250514"], "claude before 4.5", Encoding::O200k),
            (&["anthropic/claude-sonnet-4"], "claude before 4.5", Encoding::O200k),
            (&["anthropic/claude-sonnet-4.5"], "claude", Encoding::O200k),
            (&["eu.anthropic.claude-opus-4-6-v1:0"], "claude", Encoding::O200k),
            (&["publishers/google/models/gemini-2.5-pro"], "gemini", Encoding::O200k),
            (&["meta-llama/Llama-3.3-70B-Instruct"], "llama 3.1", Encoding::O200k),
            (&["our-deployment", "azure/gpt-4"], "gpt-4", Encoding::Cl100k),
            (&["our-own"], "other", Encoding::O200k),
        ] {
            let found = Family::of(names);
            assert_eq!((found.name, found.encoding), (family, encoding), "{names:?}");
        }
    }
}
