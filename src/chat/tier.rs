//! The class of service that answers a request, which decides what it costs.

use serde::{Deserialize, Serialize};

/// Which service was paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Tier {
    /// The usual one.
    #[default]
    Standard,
    /// Done within a day.
    Batch,
    /// Slower and cheaper.
    Flex,
    /// Faster and dearer.
    Priority,
    /// The fastest and the dearest.
    Ultrafast,
}

/// What Google writes before the name of a tier in requests, and before that of the traffic in answers:
/// <https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse#TrafficType>
const PREFIXES: [&str; 2] = ["SERVICE_TIER_", "ON_DEMAND_"];

/// What requests call the usual tier: OpenAI, Anthropic, Groq.
const USUAL: [&str; 3] = ["default", "standard_only", "on_demand"];

impl Tier {
    /// All of them, with the letter of the compact form and the name that people write.
    pub const ALL: [(Self, char, &'static str); 5] = [
        (Self::Standard, 's', "standard"),
        (Self::Batch, 'b', "batch"),
        (Self::Flex, 'f', "flex"),
        (Self::Priority, 'p', "priority"),
        (Self::Ultrafast, 'u', "ultrafast"),
    ];

    /// The tier of a `service_tier` field; what is unknown is the usual one.
    pub fn named(text: &str) -> Self {
        Self::known(text).unwrap_or_default()
    }

    fn known(text: &str) -> Option<Self> {
        let word = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
        let known = Self::ALL.iter().find(|(_, _, name)| word.eq_ignore_ascii_case(name));
        known.map(|(tier, ..)| *tier)
    }

    /// The name that people write.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(tier, ..)| *tier == self).map_or("", |(_, _, name)| name)
    }

    /// Whether it costs more than the usual one.
    pub fn is_dearer(self) -> bool {
        matches!(self, Self::Priority | Self::Ultrafast)
    }

    /// The tier that a request asks for by this word. Whoever is answered at once gets no batch, whatever they write.
    pub fn asked(text: &str) -> Self {
        match Self::named(text) {
            Self::Batch => Self::Standard,
            tier => tier,
        }
    }

    /// The dearest tier that a request can be given which asks by this word; `None` where it leaves that to the
    /// provider (`auto`), and where nobody here knows the word.
    pub fn at_most(text: &str) -> Option<Self> {
        let is_usual = USUAL.iter().any(|word| text.eq_ignore_ascii_case(word));
        if is_usual { Some(Self::Standard) } else { Self::known(text).filter(|tier| *tier != Self::Batch) }
    }

    /// The tier in which an answer says that it was made; `None` where it only repeats that the provider may choose.
    pub fn said(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.eq_ignore_ascii_case("auto")).then(|| Self::named(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_have_the_names_that_vendors_write() {
        for (text, named) in [
            ("flex", Tier::Flex),
            ("FLEX", Tier::Flex),
            ("SERVICE_TIER_PRIORITY", Tier::Priority),
            ("ON_DEMAND_FLEX", Tier::Flex),
            ("ultrafast", Tier::Ultrafast),
            ("ON_DEMAND", Tier::Standard),
            ("batch", Tier::Batch),
            ("default", Tier::Standard),
            ("standard_only", Tier::Standard),
        ] {
            assert_eq!(Tier::named(text), named, "{text}");
        }
        assert_eq!(Tier::asked("batch"), Tier::Standard, "nothing that is answered at once is a batch");
        for (text, at_most) in [
            ("default", Some(Tier::Standard)),
            ("standard_only", Some(Tier::Standard)),
            ("on_demand", Some(Tier::Standard)),
            ("SERVICE_TIER_STANDARD", Some(Tier::Standard)),
            ("flex", Some(Tier::Flex)),
            ("priority", Some(Tier::Priority)),
            ("auto", None),
            ("batch", None),
            ("performance", None),
            ("", None),
        ] {
            assert_eq!(Tier::at_most(text), at_most, "{text}");
        }
        assert_eq!((Tier::said("auto"), Tier::said("default")), (None, Some(Tier::Standard)));
    }
}
