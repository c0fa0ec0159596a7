//! Token usage in disjoint classes.

use serde::{Deserialize, Serialize};

use super::{Helper, Tier};
use crate::money::Nano;

/// Tokens of one answer. The classes are disjoint, except that `reasoning`, `output_audio`, `output_image` and the
/// prediction counts are parts of `output`, `input_audio` and `input_image` are parts of `input`, `cached_audio` and
/// `cached_image` are parts of `cached_read`, and `cache_write_long` is a part of `cache_write`.
///
/// Prompt tokens in OpenAI's sense are `input + cached_read + cache_write`; completion tokens are `output`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Prompt tokens that were neither read from nor written to the provider's prompt cache.
    pub input: u64,
    /// Prompt tokens read from the provider's prompt cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_read: u64,
    /// Prompt tokens read from the provider's prompt cache that were audio (inside `cached_read`).
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_audio: u64,
    /// Prompt tokens read from the provider's prompt cache that were images (inside `cached_read`).
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_image: u64,
    /// Prompt tokens written to the provider's prompt cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write: u64,
    /// Prompt tokens written to the provider's prompt cache for an hour or more (inside `cache_write`).
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write_long: u64,
    /// All generated tokens, reasoning included.
    pub output: u64,
    /// Generated tokens that were reasoning (inside `output`).
    #[serde(skip_serializing_if = "is_zero")]
    pub reasoning: u64,
    /// Prompt tokens that were audio (inside `input`).
    #[serde(skip_serializing_if = "is_zero")]
    pub input_audio: u64,
    /// Prompt tokens that were images (inside `input`).
    #[serde(skip_serializing_if = "is_zero")]
    pub input_image: u64,
    /// Generated tokens that were audio (inside `output`).
    #[serde(skip_serializing_if = "is_zero")]
    pub output_audio: u64,
    /// Generated tokens that were images (inside `output`).
    #[serde(skip_serializing_if = "is_zero")]
    pub output_image: u64,
    /// Predicted tokens that were used (inside `output`).
    #[serde(skip_serializing_if = "is_zero")]
    pub accepted_prediction: u64,
    /// Predicted tokens that were not used (inside `output`).
    #[serde(skip_serializing_if = "is_zero")]
    pub rejected_prediction: u64,
    /// Milliseconds of sound that was heard, where the provider counts time instead of tokens.
    #[serde(skip_serializing_if = "is_zero")]
    pub audio_ms: u64,
    /// Characters of text that was to be spoken, which is what some providers count.
    #[serde(skip_serializing_if = "is_zero")]
    pub characters: u64,
    /// Pictures that were asked for, which is what some providers count.
    #[serde(skip_serializing_if = "is_zero")]
    pub images: u64,
    /// How often the provider searched the web by a tool of its own, or how often the price of a request is charged where
    /// it says so (Cohere's search units, Perplexity's queries).
    #[serde(skip_serializing_if = "is_zero")]
    pub searches: u64,
    /// How often tools of the provider's own were used that may cost beside the tokens, and whose cost no price knows: code
    /// was run, files were searched, a picture was made.
    #[serde(skip_serializing_if = "is_zero")]
    pub unpriced_tools: u64,
    /// Tokens of what was read on the web beside prompt and answer, where the provider counts them (Perplexity).
    #[serde(skip_serializing_if = "is_zero")]
    pub citations: u64,
    /// How much of the web was read, where the answer says so: that decides what a request costs at Perplexity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breadth: Option<Breadth>,
    /// The service that did it, where the answer or the request as it went out named one.
    #[serde(skip_serializing_if = "is_usual")]
    pub tier: Option<Tier>,
    /// Whether the provider looked at its maps.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub maps: bool,
    /// In which manner it was done, where the answer says so and that has a price of its own.
    #[serde(skip_serializing_if = "Manner::is_usual")]
    pub manner: Manner,
    /// What is charged for, where the provider says that this is other than what was read and written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billed: Option<Billed>,
    /// Which of these tokens another model read and wrote, at its own price.
    #[serde(skip)]
    pub helper: Option<Helper>,
    /// What the provider says that it cost, which counts where its price is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said_cost: Option<Nano>,
    /// The figures are counted by the gateway because the provider gave none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

/// A manner of work for which tokens cost more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manner {
    /// In the fast mode of the model.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fast: bool,
    /// In the United States alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub us_only: bool,
}

impl Manner {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// How much of the web is read for an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breadth {
    /// The least, and the usual.
    #[default]
    Low,
    /// More.
    Medium,
    /// The most.
    High,
}

/// Tokens that a provider charges for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Billed {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
}

impl Usage {
    /// Prompt tokens in OpenAI's sense: cache reads and writes included.
    pub fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cached_read).saturating_add(self.cache_write)
    }

    /// What was used where nothing was asked for: an answer that is made in the background, or a look at one.
    pub fn nothing() -> Self {
        Self { billed: Some(Billed::default()), ..Self::default() }
    }

    /// Whether it is [`nothing`](Self::nothing), whichever service does it.
    pub fn is_nothing(&self) -> bool {
        self.billed == Some(Billed::default()) && self.total() == 0
    }

    /// The counts beyond input and output, by the names of their fields.
    pub fn details(&self) -> [(&'static str, u64); 9] {
        [
            ("cached_read", self.cached_read),
            ("cache_write", self.cache_write),
            ("cache_write_long", self.cache_write_long),
            ("reasoning", self.reasoning),
            ("input_audio", self.input_audio),
            ("input_image", self.input_image),
            ("output_audio", self.output_audio),
            ("accepted_prediction", self.accepted_prediction),
            ("rejected_prediction", self.rejected_prediction),
        ]
    }

    /// Prompt and completion tokens together.
    pub fn total(&self) -> u64 {
        self.prompt().saturating_add(self.output)
    }

    fn charged(&self) -> Billed {
        self.billed.unwrap_or(Billed { input: self.prompt(), output: self.output })
    }

    /// Adds what another answer of the same conversation used.
    pub fn add(&mut self, other: &Self) {
        if self.billed.is_some() || other.billed.is_some() {
            let (ours, theirs) = (self.charged(), other.charged());
            self.billed = Some(Billed {
                input: ours.input.saturating_add(theirs.input),
                output: ours.output.saturating_add(theirs.output),
            });
        }
        match (&mut self.said_cost, other.said_cost) {
            (Some(cost), Some(more)) => *cost += more,
            (cost, more) => *cost = cost.or(more),
        }
        let counts = [
            (&mut self.input, other.input),
            (&mut self.cached_read, other.cached_read),
            (&mut self.cached_audio, other.cached_audio),
            (&mut self.cached_image, other.cached_image),
            (&mut self.cache_write, other.cache_write),
            (&mut self.cache_write_long, other.cache_write_long),
            (&mut self.output, other.output),
            (&mut self.reasoning, other.reasoning),
            (&mut self.input_audio, other.input_audio),
            (&mut self.input_image, other.input_image),
            (&mut self.output_audio, other.output_audio),
            (&mut self.output_image, other.output_image),
            (&mut self.accepted_prediction, other.accepted_prediction),
            (&mut self.rejected_prediction, other.rejected_prediction),
            (&mut self.audio_ms, other.audio_ms),
            (&mut self.characters, other.characters),
            (&mut self.images, other.images),
            (&mut self.searches, other.searches),
            (&mut self.unpriced_tools, other.unpriced_tools),
            (&mut self.citations, other.citations),
        ];
        for (count, more) in counts {
            *count = count.saturating_add(more);
        }
        match (&mut self.helper, &other.helper) {
            (Some(helper), Some(more)) if helper.is_of(more) => helper.add(&more.usage()),
            (helper, more) => *helper = helper.or(*more),
        }
        self.estimated |= other.estimated;
        self.breadth = self.breadth.or(other.breadth);
        self.tier = self.tier.or(other.tier);
    }

    /// Counts a step of the answer that another model did, whose tokens are counted here already. Of a second such model,
    /// they stay with the one that answers.
    pub fn helped(&mut self, model: &str, step: &Self) {
        let Some(mut helper) = Helper::named(model) else { return };
        match &mut self.helper {
            Some(known) if known.is_of(&helper) => known.add(step),
            Some(_) => {}
            none => {
                helper.add(step);
                *none = Some(helper);
            }
        }
    }

    /// What the model that answers used by itself, and another model with what it did, where one helped: each is to be paid
    /// at its own price.
    pub fn apart(&self) -> Option<(Self, &'static str, Self)> {
        let helper = self.helper?;
        let did = helper.usage();
        let helped = Self {
            input: did.input.min(self.input),
            cached_read: did.cached_read.min(self.cached_read),
            cache_write: did.cache_write.min(self.cache_write),
            cache_write_long: did.cache_write_long.min(self.cache_write_long),
            output: did.output.min(self.output),
            tier: self.tier,
            manner: Manner { fast: false, ..self.manner },
            ..Self::default()
        };
        let own = Self {
            input: self.input - helped.input,
            cached_read: self.cached_read - helped.cached_read,
            cache_write: self.cache_write - helped.cache_write,
            cache_write_long: self.cache_write_long - helped.cache_write_long,
            output: self.output - helped.output,
            helper: None,
            ..*self
        };
        Some((own, helper.model(), helped))
    }

    /// The same, done by the service that the answer names, if it names one.
    #[must_use]
    pub fn in_tier(self, said: Option<&str>) -> Self {
        Self { tier: said.and_then(Tier::said).or(self.tier), ..self }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_usual(tier: &Option<Tier>) -> bool {
    tier.unwrap_or_default() == Tier::Standard
}
