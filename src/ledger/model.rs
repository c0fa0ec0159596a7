//! What is known of a model: what it is for, how much it reads and writes, what it can, until when, and its price.

use std::borrow::Cow;

use jiff::civil::Date;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::price::Price;

/// The facts of one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    /// What it is for.
    pub kind: Kind,
    /// Tokens that a prompt may have.
    pub context_window: Option<u32>,
    /// Tokens that an answer may have.
    pub max_output: Option<u32>,
    /// What it can.
    pub abilities: Abilities,
    /// The day on which its maker switches it off.
    pub deprecation: Option<Date>,
    /// What it costs; `None` when nobody knows, which is not the same as nothing.
    pub price: Option<Price>,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Conversations.
    #[default]
    Chat,
    /// Conversations, by OpenAI's Responses only.
    Responses,
    /// Text that goes on.
    Completion,
    /// Vectors.
    Embedding,
    /// An order of documents.
    Rerank,
    /// A judgement of content.
    Moderation,
    /// Pictures.
    Image,
    /// Spoken text.
    Speech,
    /// Text of speech.
    Transcription,
}

impl Kind {
    /// All of them, as the public facts call them and as we do.
    pub const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::Chat, "chat", "chat"),
        (Self::Responses, "responses", "responses"),
        (Self::Completion, "completion", "completion"),
        (Self::Embedding, "embedding", "embedding"),
        (Self::Rerank, "rerank", "rerank"),
        (Self::Moderation, "moderation", "moderation"),
        (Self::Image, "image_generation", "image"),
        (Self::Speech, "audio_speech", "speech"),
        (Self::Transcription, "audio_transcription", "transcription"),
    ];

    /// Our name for it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("chat", |(_, _, name)| name)
    }
}

/// A set of things that a model can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities(u16);

macro_rules! abilities {
    ($($name:ident $letter:literal $text:literal;)*) => {
        impl Abilities {
            abilities!(@bits 0; $($name)*);
            /// All of them, with the letter of the compact form and the name that policies use.
            pub const ALL: &[(Self, char, &'static str)] = &[$((Self::$name, $letter, $text)),*];
        }
    };
    (@bits $at:expr; $name:ident $($rest:ident)*) => {
        #[allow(missing_docs, reason = "the name in the table says it")]
        pub const $name: Self = Self(1 << $at);
        abilities!(@bits $at + 1; $($rest)*);
    };
    (@bits $at:expr;) => {};
}

abilities! {
    TOOLS 't' "tools";
    VISION 'v' "vision";
    JSON 'j' "json";
    REASONING 'r' "reasoning";
    CACHE 'c' "prompt_caching";
    AUDIO_IN 'a' "audio_input";
    AUDIO_OUT 'A' "audio_output";
    IMAGE_OUT 'I' "image_output";
    FILES 'p' "files";
    VIDEO 'V' "video_input";
    WEB_SEARCH 'w' "web_search";
    COMPUTER 'u' "computer_use";
    PREFILL 'f' "prefill";
    PARALLEL 'P' "parallel_tools";
}

impl Abilities {
    /// Whether all of `others` are among them.
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// These and `others`.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |(one, ..)| self.has(*one)).map(|(_, _, name)| *name)
    }

    /// Those of these names.
    ///
    /// # Errors
    /// The first name that is none, with all that are.
    pub fn named<S: AsRef<str>>(names: &[S]) -> Result<Self, String> {
        names.iter().try_fold(Self::default(), |all, name| {
            let known = Self::ALL.iter().find(|(_, _, known)| *known == name.as_ref());
            known.map(|(one, ..)| all.with(*one)).ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|(_, _, name)| *name).collect();
                format!("`{}` is not a capability (known: {})", name.as_ref(), known.join(", "))
            })
        })
    }
}

impl Serialize for Abilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for Abilities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Self::named(&names).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Abilities {
    fn schema_name() -> Cow<'static, str> {
        "Capabilities".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = Self::ALL.iter().map(|(_, _, name)| *name).collect();
        schemars::json_schema!({
            "type": "array", "items": { "type": "string", "enum": names }, "description": "what the model can"
        })
    }
}

impl Model {
    /// What it reads: `text`, `image`, `audio`, `video`, `file`.
    pub fn input_modalities(&self) -> Vec<&'static str> {
        let spoken = self.kind == Kind::Transcription;
        let parts = [
            ("text", !spoken),
            ("image", self.abilities.has(Abilities::VISION)),
            ("audio", spoken || self.abilities.has(Abilities::AUDIO_IN)),
            ("video", self.abilities.has(Abilities::VIDEO)),
            ("file", self.abilities.has(Abilities::FILES)),
        ];
        parts.into_iter().filter(|(_, does)| *does).map(|(name, _)| name).collect()
    }

    /// What it makes: `text`, `image`, `audio`, `embedding`, `ranking`, `judgement`.
    pub fn output_modalities(&self) -> Vec<&'static str> {
        let (first, text) = match self.kind {
            Kind::Chat | Kind::Responses | Kind::Completion | Kind::Transcription => ("text", true),
            Kind::Embedding => ("embedding", false),
            Kind::Rerank => ("ranking", false),
            Kind::Moderation => ("judgement", false),
            Kind::Image => ("image", false),
            Kind::Speech => ("audio", false),
        };
        let image = text && self.abilities.has(Abilities::IMAGE_OUT);
        let audio = text && self.abilities.has(Abilities::AUDIO_OUT);
        [(first, true), ("image", image), ("audio", audio)]
            .into_iter()
            .filter(|(_, does)| *does)
            .map(|(name, _)| name)
            .collect()
    }
}
