//! Whose a model on Vertex AI is, by its name: that decides the dialect.

/// Who publishes a model, as far as it makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publisher {
    /// generateContent.
    Google,
    /// Messages, by `:rawPredict`.
    Anthropic,
    /// Chat completions, by `:rawPredict`.
    Mistral,
    /// Chat completions of all other partners, by one endpoint: `meta/llama-4-maverick-17b-128e-instruct-maas`.
    Open,
}

/// What names begin with. A name with a slash that none of these begins is another partner's.
const NAMES: &[(&str, Publisher)] = &[
    ("publishers/google/", Publisher::Google),
    ("publishers/anthropic/", Publisher::Anthropic),
    ("publishers/mistralai/", Publisher::Mistral),
    ("google/", Publisher::Google),
    ("anthropic/", Publisher::Anthropic),
    ("mistralai/", Publisher::Mistral),
    ("models/", Publisher::Google),
    ("endpoints/", Publisher::Google),
    ("claude-", Publisher::Anthropic),
    ("mistral-", Publisher::Mistral),
    ("ministral-", Publisher::Mistral),
    ("codestral-", Publisher::Mistral),
];

/// The publisher of a model.
pub(super) fn of(model: &str) -> Publisher {
    let known = NAMES.iter().find(|(start, _)| model.starts_with(start));
    known.map_or(if model.contains('/') { Publisher::Open } else { Publisher::Google }, |(_, known)| *known)
}

/// The model's name without its publisher's.
pub(super) fn bare(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}
