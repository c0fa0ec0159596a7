//! What has to be known of a model, by its name, before it can be asked. Everything else is the provider's to say.

/// A model of Anthropic's, as its name describes it. Other vendors that speak the dialect have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::providers) struct Claude {
    version: (u32, u32),
    line: Line,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Opus,
    /// Fable and Mythos, who never rest.
    Thinker,
    Sonnet,
    Haiku,
    /// Those from before there were lines.
    Other,
}

/// How a model is told to think: <https://platform.claude.com/docs/en/build-with-claude/thinking-troubleshooting>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::providers) enum Thinking {
    /// It knows none.
    Never,
    /// By a budget of tokens, which is all that it takes.
    Budget,
    /// Since 4.6: as much as it likes, within an effort; since 4.7 a budget is refused.
    Adaptive { takes_budget: bool },
}

/// What a model does that was told nothing about thinking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::providers) enum Unasked {
    /// It does not think.
    Rests,
    /// It thinks, unless it is told not to.
    Thinks,
    /// It thinks; told not to, it still takes notes between its calls of tools.
    /// <https://platform.claude.com/docs/en/models/sonnet-5-5/whats-new-sonnet-5-5#turn-off-up-front-thinking>
    TakesNotes,
    /// It thinks, and refuses to be told not to.
    AlwaysThinks,
}

/// Which parameters of sampling a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::providers) enum Freedom {
    /// All of them.
    Full,
    /// A temperature or `top_p`, not both: Claude since 4.1.
    Either,
    /// None but the defaults, and a `top_p` that is close to 1: Claude while it thinks.
    /// <https://platform.claude.com/docs/en/build-with-claude/extended-thinking#feature-compatibility>
    Thinking,
    /// None but the defaults, for this reason.
    Fixed(&'static str),
}

/// A name without a number is taken for one of the newest models.
const NEWEST: (u32, u32) = (5, 0);

impl Claude {
    /// Reads names of Anthropic's own (`claude-3-5-haiku-latest`, `claude-sonnet-5`), of Google's (`claude-sonnet-4@20250514`),
    /// of routers' (`anthropic/claude-opus-4.7`), and of AWS's (`eu.anthropic.claude-opus-4-1-20250805-v1:0`).
    pub(in crate::providers) fn of(name: &str) -> Option<Self> {
        let own = name.get(name.rfind("claude-")? + "claude-".len()..)?;
        let line = if own.contains("opus") {
            Line::Opus
        } else if own.contains("fable") || own.contains("mythos") {
            Line::Thinker
        } else if own.contains("sonnet") {
            Line::Sonnet
        } else if own.contains("haiku") {
            Line::Haiku
        } else {
            Line::Other
        };
        Some(Self { version: version(own).unwrap_or(NEWEST), line })
    }

    /// Whether it is of this version, or of a later one.
    pub(in crate::providers) fn is_since(self, major: u32, minor: u32) -> bool {
        self.version >= (major, minor)
    }

    /// Whether it goes on with an answer that was begun. "This model does not support assistant message prefill. The
    /// conversation must end with a user message": <https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-6>
    pub(in crate::providers) fn goes_on(self) -> bool {
        !self.is_since(4, 6)
    }

    /// How it is told to think.
    pub(in crate::providers) fn thinking(self) -> Thinking {
        if self.is_since(4, 6) {
            Thinking::Adaptive { takes_budget: !self.is_since(4, 7) }
        } else if self.is_since(3, 7) {
            Thinking::Budget
        } else {
            Thinking::Never
        }
    }

    /// What it does that was told nothing about thinking.
    pub(in crate::providers) fn unasked(self) -> Unasked {
        match self.line {
            Line::Thinker => Unasked::AlwaysThinks,
            Line::Haiku if self.is_since(5, 0) => Unasked::Thinks,
            Line::Sonnet if self.is_since(5, 1) => Unasked::TakesNotes,
            _ if self.is_since(5, 1) => Unasked::AlwaysThinks,
            _ if self.is_since(5, 0) => Unasked::Thinks,
            _ => Unasked::Rests,
        }
    }

    /// Whether it takes an effort: <https://platform.claude.com/docs/en/build-with-claude/effort>
    pub(in crate::providers) fn knows_effort(self) -> bool {
        self.is_since(4, 6) || (self.line == Line::Opus && self.is_since(4, 5))
    }

    /// Whether its thoughts come without their text, unless that is asked for.
    pub(in crate::providers) fn hides_thoughts(self) -> bool {
        self.is_since(4, 7)
    }

    /// Whether it knows the effort between `high` and `max`: <https://platform.claude.com/docs/en/build-with-claude/effort>
    pub(in crate::providers) fn knows_xhigh(self) -> bool {
        self.is_since(4, 7)
    }

    /// Whether a tool may be forced upon it.
    /// <https://platform.claude.com/docs/en/models/opus-5-5/whats-new-opus-5-5>
    pub(in crate::providers) fn can_be_forced(self) -> bool {
        !self.is_since(5, 1)
    }

    /// Whether it takes JSON schemas, for answers and strict tools: Claude 4.1 and later.
    /// <https://platform.claude.com/docs/en/build-with-claude/structured-outputs>
    pub(in crate::providers) fn knows_schemas(self) -> bool {
        self.is_since(4, 1)
    }
}

/// The version in what follows `claude-`: `3-5-sonnet-20241022-v2:0`, `opus-4-1-20250805`, `sonnet-5`, `v2:1`.
fn version(own: &str) -> Option<(u32, u32)> {
    // Longer numbers are dates.
    let number = |word: &str| word.parse::<u32>().ok().filter(|_| word.len() <= 2);
    let mut words = own.split(['-', '.', '@', ':']);
    let major = words.find_map(|word| number(word.strip_prefix('v').unwrap_or(word)))?;
    Some((major, words.next().and_then(number).unwrap_or(0)))
}

/// What the model takes of sampling, while it was told to think or not.
pub(in crate::providers) fn freedom(claude: Option<Claude>, thinks: bool) -> Freedom {
    match claude {
        // https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-7#sampling-parameters-removed
        Some(claude) if claude.is_since(4, 7) => Freedom::Fixed("dropped: this model takes no sampling"),
        _ if thinks => Freedom::Thinking,
        Some(claude) if claude.is_since(4, 1) => Freedom::Either,
        _ => Freedom::Full,
    }
}

/// Output limit where the client gives none and the API wants one: what every model of the family can write.
/// <https://platform.claude.com/docs/en/about-claude/models/overview>
pub(in crate::providers) fn default_max_tokens(model: &str) -> u64 {
    match Claude::of(model) {
        Some(claude) if claude.is_since(3, 7) => 32_000,
        Some(claude) if claude.is_since(3, 5) => 8_192,
        Some(_) => 4_096,
        // Another vendor that speaks the dialect.
        None => 8_192,
    }
}

/// The most that the model can write, or may be asked for without knowing it.
pub(in crate::providers) fn most_tokens(model: &str) -> u64 {
    match Claude::of(model) {
        Some(claude) if claude.line == Line::Opus && !claude.is_since(4, 5) => 32_000,
        Some(claude) if claude.is_since(3, 7) => 64_000,
        Some(_) => default_max_tokens(model),
        None => 32_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_version() {
        for (name, version) in [
            ("claude-3-haiku-20240307", Some((3, 0))),
            ("claude-3-5-sonnet-latest", Some((3, 5))),
            ("anthropic.claude-v2:1", Some((2, 1))),
            ("claude-instant-1.2", Some((1, 2))),
            ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", Some((3, 5))),
            ("eu.anthropic.claude-sonnet-4-20250514-v1:0", Some((4, 0))),
            ("claude-sonnet-4@20250514", Some((4, 0))),
            ("claude-opus-4-1-20250805", Some((4, 1))),
            ("anthropic/claude-4.6-opus", Some((4, 6))),
            ("global.anthropic.claude-opus-4-6-v1", Some((4, 6))),
            ("anthropic.claude-sonnet-5-v1:0", Some((5, 0))),
            ("claude-sonnet-5-5", Some((5, 5))),
            ("claude-mythos-preview", Some(NEWEST)),
            ("kimi-k2", None),
        ] {
            assert_eq!(Claude::of(name).map(|claude| claude.version), version, "{name}");
        }
    }

    #[test]
    fn abilities_follow_from_the_version() {
        use Thinking::{Adaptive, Budget, Never};
        use Unasked::{AlwaysThinks, Rests, TakesNotes, Thinks};
        for (model, most, schemas, thinking, unasked) in [
            ("claude-3-haiku-20240307", 4_096, false, Never, Rests),
            ("claude-3-5-haiku-latest", 8_192, false, Never, Rests),
            ("claude-3-7-sonnet-20250219", 32_000, false, Budget, Rests),
            ("claude-sonnet-4-20250514", 32_000, false, Budget, Rests),
            ("claude-opus-4-1", 32_000, true, Budget, Rests),
            ("claude-haiku-4-5-20251001", 32_000, true, Budget, Rests),
            ("claude-opus-4-6", 32_000, true, Adaptive { takes_budget: true }, Rests),
            ("claude-opus-4-8", 32_000, true, Adaptive { takes_budget: false }, Rests),
            ("anthropic/claude-sonnet-5", 32_000, true, Adaptive { takes_budget: false }, Thinks),
            ("claude-mythos-preview", 32_000, true, Adaptive { takes_budget: false }, AlwaysThinks),
            ("claude-opus-5-5", 32_000, true, Adaptive { takes_budget: false }, AlwaysThinks),
            ("claude-sonnet-5-5", 32_000, true, Adaptive { takes_budget: false }, TakesNotes),
            ("claude-haiku-5-5", 32_000, true, Adaptive { takes_budget: false }, Thinks),
        ] {
            let claude = Claude::of(model).unwrap();
            let seen =
                (default_max_tokens(model), claude.knows_schemas(), claude.thinking(), claude.unasked());
            assert_eq!(seen, (most, schemas, thinking, unasked), "{model}");
        }
        assert_eq!((default_max_tokens("kimi-k2"), most_tokens("kimi-k2")), (8_192, 32_000));
        assert_eq!((most_tokens("claude-opus-4-1"), most_tokens("claude-opus-4-5")), (32_000, 64_000));
    }

    #[test]
    fn newer_models_take_less_sampling() {
        for (model, thinks, freedom) in [
            ("claude-sonnet-4-0", false, Freedom::Full),
            ("claude-sonnet-4-0", true, Freedom::Thinking),
            ("claude-sonnet-4-5", false, Freedom::Either),
            ("claude-opus-4-6", true, Freedom::Thinking),
            ("claude-opus-4-7", false, Freedom::Fixed("dropped: this model takes no sampling")),
            ("kimi-k2", true, Freedom::Thinking),
            ("kimi-k2", false, Freedom::Full),
        ] {
            assert_eq!(super::freedom(Claude::of(model), thinks), freedom, "{model} {thinks}");
        }
    }
}
