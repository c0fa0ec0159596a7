//! What one unit costs: by class of unit, service tier and size of the prompt.

use serde::{Deserialize, Serialize};

pub use crate::chat::Tier;
use crate::money::Pico;

/// What is counted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Unit {
    /// Prompt tokens.
    Input,
    /// Prompt tokens read from the provider's prompt cache.
    CachedRead,
    /// Prompt tokens written to the provider's prompt cache, for some minutes.
    CacheWrite,
    /// Prompt tokens written to the provider's prompt cache, for an hour or more.
    CacheWriteLong,
    /// Generated tokens.
    Output,
    /// Generated tokens that were reasoning.
    Reasoning,
    /// Prompt tokens that were audio.
    InputAudio,
    /// Generated tokens that were audio.
    OutputAudio,
    /// Prompt tokens that were images.
    InputImage,
    /// Generated tokens that were images.
    OutputImage,
    /// Prompt tokens read from the provider's prompt cache that were audio.
    CachedAudio,
    /// Prompt tokens read from the provider's prompt cache that were images.
    CachedImage,
    /// A whole picture.
    Image,
    /// A second of sound.
    AudioSecond,
    /// A character of text that is spoken.
    Character,
    /// A request.
    Request,
    /// A request for which more of the web is read than usual.
    RequestMedium,
    /// A request for which most of the web is read.
    RequestHigh,
    /// Tokens that were read on the web, where they are charged for.
    Citation,
    /// A search of the web by the provider's own tool.
    WebSearch,
    /// A prompt for which the provider searched the web, however often.
    WebSearchPrompt,
    /// A prompt for which the provider looked at its maps, however often.
    MapsPrompt,
    /// How many times the price of its tokens a model costs in its fast mode.
    Fast,
    /// How many times that price it costs where it may run in the United States alone.
    UsOnly,
}

/// The price of one unit under one condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    /// What is counted.
    pub unit: Unit,
    /// For which service.
    pub tier: Tier,
    /// For prompts of more than this many tokens.
    pub above: u32,
    /// Pico-dollars for one unit.
    pub price: Pico,
}

impl Unit {
    /// All of them, with the letter of the compact form and the name that people write.
    pub const ALL: [(Self, char, &'static str); 24] = [
        (Self::Input, 'i', "input"),
        (Self::CachedRead, 'r', "cached_read"),
        (Self::CacheWrite, 'w', "cache_write"),
        (Self::CacheWriteLong, 'l', "cache_write_long"),
        (Self::Output, 'o', "output"),
        (Self::Reasoning, 't', "reasoning"),
        (Self::InputAudio, 'a', "input_audio"),
        (Self::OutputAudio, 'A', "output_audio"),
        (Self::InputImage, 'g', "input_image"),
        (Self::OutputImage, 'G', "output_image"),
        (Self::CachedAudio, 'e', "cached_audio"),
        (Self::CachedImage, 'p', "cached_image"),
        (Self::Image, 'I', "image"),
        (Self::AudioSecond, 's', "audio_second"),
        (Self::Character, 'c', "character"),
        (Self::Request, 'q', "request"),
        (Self::RequestMedium, 'm', "request_medium"),
        (Self::RequestHigh, 'h', "request_high"),
        (Self::Citation, 'C', "citation"),
        (Self::WebSearch, 'S', "web_search"),
        (Self::WebSearchPrompt, 'P', "web_search_prompt"),
        (Self::MapsPrompt, 'M', "maps_prompt"),
        (Self::Fast, 'F', "fast"),
        (Self::UsOnly, 'U', "us_only"),
    ];

    /// The name that people write.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(unit, ..)| *unit == self).map_or("", |(_, _, name)| name)
    }

    /// Whether it is priced by the million (tokens and characters) rather than one by one.
    pub fn by_million(self) -> bool {
        !self.is_request()
            && !self.is_search()
            && !self.is_factor()
            && !matches!(self, Self::Image | Self::AudioSecond)
    }

    /// Whether it is a whole request.
    pub(super) fn is_request(self) -> bool {
        matches!(self, Self::Request | Self::RequestMedium | Self::RequestHigh)
    }

    /// Whether it is paid for what the provider looked up on the web, or in its maps.
    pub(super) fn is_search(self) -> bool {
        matches!(self, Self::WebSearch | Self::WebSearchPrompt | Self::MapsPrompt)
    }

    /// Whether it is no price, but says how many times another one is paid.
    pub(super) fn is_factor(self) -> bool {
        matches!(self, Self::Fast | Self::UsOnly)
    }

    /// The unit whose price counts where this one has none.
    pub(super) fn stand_in(self) -> Option<Self> {
        match self {
            Self::CachedRead | Self::CacheWrite | Self::InputAudio | Self::InputImage => Some(Self::Input),
            Self::CacheWriteLong => Some(Self::CacheWrite),
            Self::CachedAudio | Self::CachedImage => Some(Self::CachedRead),
            Self::Reasoning | Self::OutputAudio | Self::OutputImage => Some(Self::Output),
            Self::RequestHigh => Some(Self::RequestMedium),
            Self::RequestMedium => Some(Self::Request),
            _ => None,
        }
    }
}

/// The price of `unit` for a prompt of this size in this tier.
///
/// The highest threshold that the prompt exceeds counts. A unit without any price costs what its stand-in does: a cached
/// token what an uncached one does, a reasoning token what any generated one does. A tier that has no price for a unit
/// keeps the proportion that it has for the unit's stand-in, else it costs what the standard one does; one that has none
/// above the threshold keeps its proportion to it.
pub fn rate(rates: &[Rate], unit: Unit, tier: Tier, prompt: u64) -> Option<Pico> {
    let mut unit = unit;
    let standard = loop {
        match own_rate(rates, unit, tier, prompt) {
            Some((price, true)) => return Some(price),
            Some((price, false)) => break price,
            None => unit = unit.stand_in()?,
        }
    };
    // Lists often name the tier's price of plain tokens alone, though it holds for all of them.
    while let Some(stand_in) = unit.stand_in() {
        unit = stand_in;
        if let Some((price, true)) = own_rate(rates, unit, tier, prompt)
            && let Some((base, _)) = own_rate(rates, unit, Tier::Standard, prompt)
        {
            return Some(standard.in_proportion(base, price));
        }
    }
    Some(standard)
}

/// What lists say of the unit itself, and whether they say it of this tier.
fn own_rate(rates: &[Rate], unit: Unit, tier: Tier, prompt: u64) -> Option<(Pico, bool)> {
    let (mut standard, mut base, mut own) = (None::<Rate>, None, None::<Rate>);
    for rate in rates.iter().filter(|rate| rate.unit == unit) {
        if rate.above == 0 && rate.tier == Tier::Standard {
            base = Some(rate.price);
        }
        if rate.above > 0 && prompt <= u64::from(rate.above) {
            continue;
        }
        let best = match rate.tier {
            other if other == tier => &mut own,
            Tier::Standard => &mut standard,
            _ => continue,
        };
        if best.is_none_or(|best| best.above < rate.above) {
            *best = Some(*rate);
        }
    }
    match (own, standard) {
        (Some(own), Some(standard)) if own.above < standard.above => {
            let base = base.unwrap_or(standard.price);
            Some((own.price.in_proportion(base, standard.price), true))
        }
        (Some(own), _) => Some((own.price, true)),
        (None, standard) => standard.map(|rate| (rate.price, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(unit: Unit, tier: Tier, above: u32, price: u64) -> Rate {
        Rate { unit, tier, above, price: Pico(price) }
    }

    #[test]
    fn the_nearest_price_counts() {
        let rates = [
            of(Unit::Input, Tier::Standard, 0, 30),
            of(Unit::Input, Tier::Standard, 200_000, 60),
            of(Unit::Input, Tier::Standard, 500_000, 90),
            of(Unit::Input, Tier::Batch, 0, 15),
            of(Unit::Input, Tier::Priority, 200_000, 200),
            of(Unit::CacheWrite, Tier::Standard, 0, 40),
            of(Unit::Output, Tier::Standard, 0, 100),
        ];
        for (unit, tier, prompt, expected) in [
            (Unit::Input, Tier::Standard, 200_000, Some(30)),
            (Unit::Input, Tier::Standard, 200_001, Some(60)),
            (Unit::Input, Tier::Standard, 1 << 40, Some(90)),
            (Unit::Input, Tier::Batch, 10, Some(15)),
            // Half of the usual price stays half of it.
            (Unit::Input, Tier::Batch, 300_000, Some(30)),
            (Unit::Input, Tier::Flex, 300_000, Some(60)),
            (Unit::Input, Tier::Priority, 10, Some(30)),
            (Unit::Input, Tier::Priority, 300_000, Some(200)),
            (Unit::CachedRead, Tier::Standard, 10, Some(30)),
            (Unit::CacheWriteLong, Tier::Standard, 10, Some(40)),
            (Unit::Reasoning, Tier::Standard, 10, Some(100)),
            (Unit::Image, Tier::Standard, 10, None),
        ] {
            let found = rate(&rates, unit, tier, prompt).map(|price| price.0);
            assert_eq!(found, expected, "{unit:?} {tier:?} {prompt}");
        }
    }

    #[test]
    fn a_tier_without_a_price_for_a_unit_keeps_the_proportion_of_its_stand_in() {
        // As public lists have Gemini: thinking has a price, but only the standard one.
        let rates = [
            of(Unit::Input, Tier::Standard, 0, 30),
            of(Unit::Input, Tier::Flex, 0, 15),
            of(Unit::CacheWrite, Tier::Standard, 0, 40),
            of(Unit::CacheWriteLong, Tier::Standard, 0, 60),
            of(Unit::InputAudio, Tier::Standard, 0, 100),
            of(Unit::InputAudio, Tier::Flex, 0, 90),
            of(Unit::Output, Tier::Standard, 0, 250),
            of(Unit::Output, Tier::Flex, 0, 125),
            of(Unit::Output, Tier::Priority, 0, 450),
            of(Unit::Reasoning, Tier::Standard, 0, 250),
            of(Unit::Image, Tier::Standard, 0, 7),
        ];
        for (unit, tier, expected) in [
            (Unit::Reasoning, Tier::Flex, 125),
            (Unit::Reasoning, Tier::Priority, 450),
            (Unit::Reasoning, Tier::Batch, 250),
            (Unit::Reasoning, Tier::Standard, 250),
            (Unit::CacheWrite, Tier::Flex, 20),
            (Unit::CacheWriteLong, Tier::Flex, 30),
            (Unit::CacheWriteLong, Tier::Priority, 60),
            (Unit::InputAudio, Tier::Flex, 90),
            (Unit::Image, Tier::Flex, 7),
        ] {
            assert_eq!(rate(&rates, unit, tier, 10), Some(Pico(expected)), "{unit:?} {tier:?}");
        }
    }
}
