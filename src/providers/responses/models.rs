//! Names of models with `*` in them.

use crate::caller::glob;

/// Whether one of the patterns means this model.
pub(in crate::providers) fn any_matches(patterns: &[String], model: &str) -> bool {
    patterns.iter().any(|pattern| glob::fits(pattern, model))
}

#[cfg(test)]
mod tests {
    use super::glob::fits;
    use crate::providers::presets;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, model, expected) in [
            ("o1-pro", "o1-pro", true),
            ("o1-pro", "o1-pro-2025", false),
            ("o1-pro*", "o1-pro-2025-03-19", true),
            ("o1-pro*", "o1", false),
            ("gpt-5*-codex*", "gpt-5-codex", true),
            ("gpt-5*-codex*", "gpt-5.1-codex-max", true),
            ("gpt-5*-codex*", "gpt-5.1", false),
            ("*-pro", "gpt-5-pro-x", false),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, model), expected, "{pattern} {model}");
        }
    }

    #[test]
    fn openais_models_of_this_api_alone_are_known() {
        let only = &presets::find("openai").unwrap().quirks.responses_only;
        for (model, expected) in [
            ("o1-pro", true),
            ("o1-pro-2025-03-19", true),
            ("o3-pro", true),
            ("gpt-5-pro", true),
            ("gpt-5.2-pro-2025-12-11", true),
            ("gpt-5-codex", true),
            ("gpt-5.1-codex-max", true),
            ("gpt-5.2-proo", false),
            ("codex-mini-latest", true),
            ("computer-use-preview", true),
            ("o3-deep-research", true),
            ("o4-mini-deep-research-2025-06-26", true),
            ("o1", false),
            ("o3", false),
            ("o3-mini", false),
            ("gpt-5", false),
            ("gpt-5.1", false),
            ("gpt-4o", false),
        ] {
            assert_eq!(super::any_matches(only, model), expected, "{model}");
        }
    }
}
