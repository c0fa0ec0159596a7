//! What a model's name tells of its abilities: Gemini's generations take different requests.

use std::ops::RangeInclusive;

/// A model as its name describes it. A name without a version (`gemini-flash-latest`) counts as the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model<'a> {
    name: &'a str,
    version: (u32, u32),
}

impl<'a> Model<'a> {
    /// Reads the name, with or without `models/` before it.
    pub(super) fn of(name: &'a str) -> Self {
        let name = name.rsplit('/').next().unwrap_or(name);
        Self { name, version: version(name).unwrap_or((u32::MAX, 0)) }
    }

    /// Gemini 3 and later: thinking levels instead of budgets, proofs of thinking are demanded, media in tool results.
    /// <https://ai.google.dev/gemini-api/docs/gemini-3>
    pub(super) fn is_third(self) -> bool {
        self.is_gemini() && self.version >= (3, 0)
    }

    /// Before Gemini 3, functions exclude JSON and Google's own tools.
    /// <https://ai.google.dev/gemini-api/docs/structured-output>
    pub(super) fn excludes(self) -> bool {
        self.is_gemini() && self.version < (3, 0)
    }

    /// Gemini 2.5 and later think, but for those of 2.5 that paint or speak.
    /// <https://ai.google.dev/gemini-api/docs/models>
    pub(super) fn thinks(self) -> bool {
        let acts = self.name.contains("-image") || self.name.contains("-tts");
        self.is_gemini() && self.version >= (2, 5) && !(acts && self.version < (3, 0))
    }

    /// The large model of Gemini 3.0 knows no level between the least and the most.
    /// <https://ai.google.dev/gemini-api/docs/thinking#thinking-levels>
    pub(super) fn knows_medium(self) -> bool {
        !self.is_pro() || self.version >= (3, 1)
    }

    /// The large models know no level below `low`, nor do the middle ones since Gemini 3.7: "Thinking level MINIMAL is not
    /// supported for this model", seen in September 2026.
    pub(super) fn knows_minimal(self) -> bool {
        !self.is_pro() && (self.name.contains("flash-lite") || self.version < (3, 7))
    }

    /// The bounds of its budgets of thinking, beside none at all:
    /// <https://ai.google.dev/gemini-api/docs/thinking#set-budget>
    pub(super) fn budgets(self) -> RangeInclusive<u64> {
        if self.is_pro() {
            return 128..=32_768;
        }
        if self.name.contains("flash-lite") { 512..=24_576 } else { 1..=24_576 }
    }

    /// Gemini 2.5 and later read JSON Schema; older ones read OpenAPI's subset of it.
    /// <https://ai.google.dev/gemini-api/docs/structured-output>
    pub(super) fn reads_json_schema(self) -> bool {
        self.is_gemini() && self.version >= (2, 5)
    }

    /// The large models of a generation cannot stop thinking.
    pub(super) fn is_pro(self) -> bool {
        self.name.contains("pro")
    }

    fn is_gemini(self) -> bool {
        self.name.starts_with("gemini")
    }
}

fn version(name: &str) -> Option<(u32, u32)> {
    let rest = name.strip_prefix("gemini-")?;
    let digits = rest.split('-').next()?;
    let (major, minor) = digits.split_once('.').unwrap_or((digits, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_generation() {
        for (name, third, thinks, schema) in [
            ("gemini-1.5-flash", false, false, false),
            ("gemini-2.0-flash", false, false, false),
            ("models/gemini-2.5-pro", false, true, true),
            ("gemini-3-flash-preview", true, true, true),
            ("publishers/google/models/gemini-3.5-flash", true, true, true),
            ("gemini-flash-latest", true, true, true),
            ("gemma-3-27b-it", false, false, false),
            ("gemini-2.5-flash-image", false, false, true),
            ("gemini-2.5-pro-preview-tts", false, false, true),
            ("gemini-3-pro-image-preview", true, true, true),
        ] {
            let model = Model::of(name);
            assert_eq!(
                (model.is_third(), model.thinks(), model.reads_json_schema()),
                (third, thinks, schema),
                "{name}"
            );
        }
    }
}
