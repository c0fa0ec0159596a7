//! What has to be known of a model, by its name, before it can be asked. Everything else is the provider's to say.

/// Output limit where the client gives none and the API wants one: what every model of the family can write.
/// <https://platform.claude.com/docs/en/about-claude/models/overview>
pub(in crate::providers) fn default_max_tokens(model: &str) -> u64 {
    match family(model) {
        Some(name) if name.starts_with("3-5") || name.starts_with("3.5") => 8_192,
        Some(name) if name.starts_with("3-7") || name.starts_with("3.7") => 32_000,
        Some(name) if name.starts_with(['2', '3']) || name.starts_with("instant") => 4_096,
        Some(_) => 32_000,
        // Another vendor that speaks the dialect.
        None => 8_192,
    }
}

/// Whether the model takes JSON schemas, for answers and strict tools: Claude 4.1 and later.
/// <https://platform.claude.com/docs/en/build-with-claude/structured-outputs>
pub(super) fn knows_schemas(model: &str) -> bool {
    const OLDER: &[&str] = &[
        "2",
        "3",
        "instant",
        "sonnet-4-0",
        "opus-4-0",
        "sonnet-4-2025",
        "opus-4-2025",
        "sonnet-4@",
        "opus-4@",
    ];
    family(model).is_some_and(|name| !OLDER.iter().any(|older| name.starts_with(older)))
}

fn family(model: &str) -> Option<&str> {
    model.rfind("claude-").and_then(|at| model.get(at + "claude-".len()..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_by_their_names() {
        for (model, most, schemas) in [
            ("claude-3-haiku-20240307", 4_096, false),
            ("claude-3-5-sonnet-latest", 8_192, false),
            ("claude-3-7-sonnet-20250219", 32_000, false),
            ("claude-sonnet-4-20250514", 32_000, false),
            ("claude-sonnet-4-0", 32_000, false),
            ("claude-opus-4-1", 32_000, true),
            ("claude-sonnet-4-5-20250929", 32_000, true),
            ("anthropic/claude-sonnet-5", 32_000, true),
            ("kimi-k2", 8_192, false),
        ] {
            assert_eq!((default_max_tokens(model), knows_schemas(model)), (most, schemas), "{model}");
        }
    }
}
