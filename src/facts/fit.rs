//! Whether a target can serve a request, as far as the price book knows. What nobody knows is no obstacle.

use super::Body;
use super::market::{Abilities, Listing};

/// Tokens that an answer is taken to have where the client sets no limit.
pub const USUAL_ANSWER: u64 = 512;

/// A prompt is counted by its bytes, four a token. Only one that would fill the window with twice as many bytes a token is
/// certainly too large: code with deep indentation and long words have six or seven.
const CERTAIN: u64 = 2;

/// Why a target cannot serve a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unfit {
    /// Prompt and answer do not fit the model's context window.
    TooSmall {
        /// Tokens that the window holds.
        window: u64,
        /// Tokens that the prompt is estimated to have.
        prompt: u64,
        /// Those, and the answer that the client allows.
        wanted: u64,
    },
    /// It lacks what the request needs.
    Unable {
        /// What it lacks.
        need: Need,
        /// Whether the configuration says so. Lists leave abilities out that models have.
        stated: bool,
    },
}

/// What a request may need of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Tools are offered.
    Tools,
    /// There are images in the prompt.
    Vision,
    /// There is sound in the prompt.
    Audio,
    /// There are files in the prompt.
    Files,
    /// There are files in the prompt that are nothing but text.
    TextFiles,
    /// The answer must be JSON.
    Json,
    /// The model must think first.
    Reasoning,
}

impl Need {
    /// All of them, with the words that policies and the configuration have for them.
    pub const ALL: [(&'static str, Self); 6] = [
        ("tools", Self::Tools),
        ("vision", Self::Vision),
        ("audio", Self::Audio),
        ("files", Self::Files),
        ("json", Self::Json),
        ("reasoning", Self::Reasoning),
    ];

    /// The need of this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == word).map(|(_, need)| *need)
    }

    /// What is known of a model's ability; `None` where nobody said.
    pub fn known(self, can: &Abilities) -> Option<bool> {
        match self {
            Self::Tools => can.tools,
            Self::Vision => can.vision,
            Self::Audio => can.audio,
            Self::Files | Self::TextFiles => can.files,
            Self::Json => can.json,
            Self::Reasoning => can.reasoning,
        }
    }

    /// Whether the request has it. Asked only where the answer matters: to look for images takes reading the messages.
    fn of(self, body: &dyn Body) -> bool {
        match self {
            Self::Tools => !body.tool_names().is_empty(),
            Self::Vision => body.has_images(),
            Self::Audio => body.has_audio(),
            Self::Files => body.has_documents(),
            Self::TextFiles => body.has_files(),
            Self::Json => body.has_json_output(),
            Self::Reasoning => body
                .parameter("reasoning_effort")
                .is_some_and(|effort| !matches!(effort, "null" | "\"none\"" | "\"minimal\"")),
        }
    }

    /// What a model lacks that does not have it.
    pub fn lacking(self) -> &'static str {
        match self {
            Self::Tools => "cannot call tools",
            Self::Vision => "cannot see images",
            Self::Audio => "cannot hear audio",
            Self::Files | Self::TextFiles => "cannot read files",
            Self::Json => "cannot answer in JSON",
            Self::Reasoning => "cannot reason",
        }
    }

    /// Whether a request is in vain without it. Models answer in JSON without a schema, too, and without thinking; files
    /// of text are told them as text.
    fn is_vital(self) -> bool {
        !matches!(self, Self::Json | Self::Reasoning | Self::TextFiles)
    }
}

impl Unfit {
    /// In a few words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooSmall { .. } => "context window too small",
            Self::Unable { need, .. } => need.lacking(),
        }
    }

    /// Whether the request would certainly be in vain. Otherwise the target is the last resort: many cut an answer short that
    /// would not fit.
    pub fn is_certain(self) -> bool {
        match self {
            Self::TooSmall { window, prompt, .. } => prompt > window.saturating_mul(CERTAIN),
            Self::Unable { need, stated } => stated && need.is_vital(),
        }
    }
}

/// Why a target with this listing cannot serve the request, if that is known.
pub fn unfit(body: &dyn Body, listing: &Listing) -> Option<Unfit> {
    too_small(body, listing).or_else(|| unable(body, listing))
}

/// Whether the window holds the prompt and the answer that the client allows.
pub fn too_small(body: &dyn Body, listing: &Listing) -> Option<Unfit> {
    let window = listing.context_window?;
    let prompt = body.tokens();
    let wanted = prompt.saturating_add(body.max_tokens().unwrap_or(0));
    (wanted > window).then_some(Unfit::TooSmall { window, prompt, wanted })
}

/// Whether it can do what the request needs.
pub fn unable(body: &dyn Body, listing: &Listing) -> Option<Unfit> {
    let lacks = |need: &Need| need.known(&listing.can) == Some(false) && need.of(body);
    let all = Need::ALL.iter().map(|(_, need)| *need);
    let need = all.chain([Need::TextFiles]).find(lacks)?;
    Some(Unfit::Unable { need, stated: !listing.by_list })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Asked {
        tokens: u64,
        images: bool,
        effort: Option<&'static str>,
        /// Whether there are files, and whether one is more than text.
        files: (bool, bool),
    }

    impl Body for Asked {
        fn tokens(&self) -> u64 {
            self.tokens
        }
        fn max_tokens(&self) -> Option<u64> {
            Some(100)
        }
        fn messages(&self) -> u64 {
            1
        }
        fn has_images(&self) -> bool {
            self.images
        }
        fn has_files(&self) -> bool {
            self.files.0
        }
        fn has_documents(&self) -> bool {
            self.files.1
        }
        fn text(&self) -> &str {
            ""
        }
        fn last_user(&self) -> &str {
            ""
        }
        fn user(&self) -> Option<&str> {
            None
        }
        fn field(&self, _: &str) -> Option<&str> {
            self.effort
        }
    }

    #[test]
    fn what_is_known_to_be_impossible_is_told_and_what_is_unknown_is_not() {
        let can = |vision, reasoning| Abilities { vision, reasoning, ..Abilities::default() };
        let listing = |window, can| Listing { context_window: window, can, ..Listing::default() };
        let check = |body: Asked, listing: &Listing| {
            unfit(&body, listing).map(|unfit| (unfit.reason(), unfit.is_certain()))
        };
        let asked = |tokens, images, effort| Asked { tokens, images, effort, files: (false, false) };
        let unknown = listing(None, Abilities::default());
        assert_eq!(check(asked(9_000_000, true, Some("\"high\"")), &unknown), None);
        let small = listing(Some(1_000), can(Some(false), Some(false)));
        for (body, expected) in [
            (asked(900, false, None), None),
            (asked(901, false, None), Some(("context window too small", false))),
            (asked(2_000, false, None), Some(("context window too small", false))),
            (asked(2_001, false, None), Some(("context window too small", true))),
            (asked(1, true, None), Some(("cannot see images", true))),
            (asked(1, false, Some("\"high\"")), Some(("cannot reason", false))),
            (asked(1, false, Some("\"none\"")), None),
        ] {
            let told = format!("{} tokens, images {}, {:?}", body.tokens, body.images, body.effort);
            assert_eq!(check(body, &small), expected, "{told}");
        }
        let listed = Listing { by_list: true, ..small };
        let seen = check(asked(1, true, None), &listed);
        assert_eq!(seen, Some(("cannot see images", false)), "a list may have left it out");
        let blind = listing(None, Abilities { files: Some(false), ..Abilities::default() });
        for (files, certain) in
            [((true, true), Some(true)), ((true, false), Some(false)), ((false, false), None)]
        {
            let body = Asked { files, ..asked(1, false, None) };
            assert_eq!(
                check(body, &blind),
                certain.map(|certain| ("cannot read files", certain)),
                "{files:?}"
            );
        }
    }
}
