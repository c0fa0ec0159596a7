//! The worst that an attempt can cost, known before it goes out.

use super::book::Known;
use super::budget::Measure;
use super::price::{ONCE, Price, When};
use super::rate::{Tier, Unit};
use crate::chat::{Manner, Usage};

/// What a request can be at most, whoever answers it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// Tokens of the prompt, as estimated.
    pub prompt: u64,
    /// Tokens that the prompt can have at most.
    pub prompt_most: u64,
    /// The most tokens of each choice that the client asked for.
    pub asked: Option<u64>,
    /// How many choices it asked for.
    pub choices: u64,
    /// What kind of work it is, by what it is paid for.
    pub work: Work,
    /// Pictures that are asked for, and characters that are to be spoken.
    pub images: u64,
    /// Characters that are to be spoken.
    pub characters: u64,
    /// Milliseconds of sound that there are to be heard, at most.
    pub audio_ms: u64,
    /// Whether pictures or sound are in the prompt.
    pub media: bool,
    /// How often the price of a request can be charged; at least once.
    pub searches: u64,
    /// How often the model can search the web by a tool of its provider.
    pub web_searches: u64,
    /// Whether the model can look at its provider's maps.
    pub maps: bool,
    /// In which manner it is to be done.
    pub manner: Manner,
    /// Tokens that can be read on the web, where they are charged for.
    pub citations: u64,
    /// Whether the provider alone knows a part of the prompt.
    pub unseen: bool,
    /// The dearest service that can answer, where the request leaves its provider no choice.
    pub tier: Option<Tier>,
}

/// What kind of work a request is, by what it is paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Work {
    /// Text is generated: tokens in and out, the latter up to a limit that can be set.
    #[default]
    Text,
    /// Tokens in, none out.
    Reading,
    /// The provider's own bytes, sound or pictures: as much as the model can say at once, and no limit can be set.
    Own,
    /// A list, a lookup: nothing is made of no body, and nothing is asked for that has a price.
    Unknown,
    /// Nothing is generated: the answer was asked for before, and whatever it cost is owed.
    Made,
}

impl Work {
    /// Whether it is a look at what is there: nothing that has a price is asked for.
    pub(super) fn is_look(self) -> bool {
        matches!(self, Self::Made | Self::Unknown)
    }
}

/// The worst that an attempt at one target can cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// Tokens of the prompt, at most.
    pub prompt: u64,
    /// Tokens of the answer with all its choices, at most; `None` where nobody knows.
    pub output: Option<u64>,
    /// How many choices it has.
    pub choices: u64,
    /// What the client itself asked for, for each choice.
    pub asked: Option<u64>,
    /// Whether a limit can be put into the request.
    pub can_shrink: bool,
    /// Femto-dollars for all but the answer's tokens, and for each of them; `None` where there is no price.
    pub price: Option<(u128, u128)>,
    /// Whether nothing that can come of it costs anything.
    pub is_free: bool,
}

/// Femto-dollars in a nano-dollar.
const FEMTO: u128 = 1_000_000;

/// Tokens of an answer where neither client nor budget sets a limit and nothing is known of the model.
const UNKNOWN_MODEL: u64 = 8_192;

/// Tokens of a prompt that only its provider knows, where nothing is known of the model.
const UNKNOWN_CONTEXT: u64 = 200_000;

/// What a dialect's template adds to one more message, in tokens at most.
const MESSAGE: u64 = 16;

impl Size {
    /// The same at this model: what nobody here has seen of a prompt may fill its context, and so may what it reads on the
    /// web.
    pub fn at(self, known: Option<&Known>) -> Self {
        let price = known.and_then(Known::price);
        let reads = price.is_some_and(|price| price.rates.iter().any(|rate| rate.unit == Unit::Citation));
        if !self.unseen && !reads {
            return self;
        }
        let context = known.and_then(|known| known.model.context_window).map_or(UNKNOWN_CONTEXT, u64::from);
        let prompt_most = if self.unseen { self.prompt_most.max(context) } else { self.prompt_most };
        Self { prompt_most, citations: if reads { context } else { 0 }, ..self }
    }

    /// What is left of the same after an answer that used so much and broke off after `said` bytes: whoever goes on reads
    /// them, and has so much less to say.
    pub(super) fn after(self, used: &Usage, said: u64) -> Self {
        Self {
            prompt: self.prompt.saturating_add(used.output.saturating_sub(used.reasoning)),
            prompt_most: self.prompt_most.saturating_add(said).saturating_add(MESSAGE),
            asked: self.asked.map(|asked| asked.saturating_sub(used.output)),
            ..self
        }
    }
}

impl Bound {
    /// The worst case of a request at a model with this price. `cap` limits answers where the client does not;
    /// `model_most` is the most that the model can. `any_tier` where the provider may choose the service.
    pub fn of(
        size: &Size,
        price: Option<&Price>,
        when: When,
        any_tier: bool,
        cap: Option<u64>,
        model_most: Option<u64>,
    ) -> Self {
        let choices = size.choices.max(1);
        let each = match size.work {
            Work::Text => Some(match size.asked {
                // What the client asked for counts, also where price lists believe that the model can less.
                Some(asked) => asked,
                None => cap.into_iter().chain(model_most).min().unwrap_or(UNKNOWN_MODEL),
            }),
            Work::Reading => Some(0),
            Work::Own => Some(model_most.unwrap_or(UNKNOWN_MODEL)),
            Work::Unknown | Work::Made => None,
        };
        let is_free = size.work == Work::Made || price.is_some_and(Price::is_free);
        let any_tier = any_tier.then(|| size.tier.unwrap_or(Tier::Ultrafast));
        let price = price.map(|price| {
            if size.work.is_look() {
                return (0, 0);
            }
            let of = |count: u64, units: &[Unit]| match count {
                0 => 0,
                count => u128::from(count) * worst(price, units, 0, when, any_tier),
            };
            let kinds = if size.media { &PROMPT[..] } else { &PROMPT[..TEXT_ALONE] };
            let prompt = u128::from(size.prompt_most) * worst(price, kinds, size.prompt_most, when, any_tier);
            let other = of(size.images, &[Unit::Image])
                + of(size.characters, &[Unit::Character])
                + of(size.audio_ms, &[Unit::AudioSecond]) / 1_000
                + of(size.citations, &[Unit::Citation])
                + of(size.searches.max(1), &REQUEST)
                + of(size.web_searches, &[Unit::WebSearch])
                + of(size.web_searches.min(1), &[Unit::WebSearchPrompt])
                + of(size.maps.into(), &[Unit::MapsPrompt]);
            // What the fast mode costs may be unknown: then what is held is charged.
            let times = price.times(size.manner).unwrap_or(ONCE);
            let timed = |femto: u128| femto.saturating_mul(times).div_ceil(ONCE);
            (timed(prompt) + other, timed(worst(price, &ANSWER, size.prompt_most, when, any_tier)))
        });
        Self {
            prompt: size.prompt_most,
            output: each.map(|each| each.saturating_mul(choices)),
            choices,
            asked: size.asked,
            can_shrink: size.work == Work::Text,
            price,
            is_free,
        }
    }

    /// The worst case with so many tokens of an answer, in nano-dollars or tokens; `None` where there is no price. A
    /// request of which nobody knows whether it makes anything has none that could be held, priced or not.
    pub fn amount(&self, measure: Measure, output: Option<u64>) -> Option<u64> {
        let output = output.unwrap_or(0);
        match measure {
            Measure::Tokens => Some(self.prompt.saturating_add(output)),
            Measure::Dollars => {
                let Some((fixed, each)) = self.price else { return self.output.is_none().then_some(0) };
                let femto = fixed.saturating_add(each.saturating_mul(output.into()));
                Some(u64::try_from(femto.div_ceil(FEMTO)).unwrap_or(u64::MAX))
            }
        }
    }

    /// How many tokens of an answer so much pays for, so that each choice has as many; `None` if not even the prompt.
    pub fn affordable(&self, measure: Measure, room: u64) -> Option<u64> {
        let output = match measure {
            Measure::Tokens => room.checked_sub(self.prompt)?,
            Measure::Dollars => {
                let (fixed, each) = self.price?;
                let left = (u128::from(room) * FEMTO).checked_sub(fixed)?;
                u64::try_from(left.checked_div(each).unwrap_or(u128::MAX)).unwrap_or(u64::MAX)
            }
        };
        Some(output / self.choices * self.choices)
    }

    /// The limit for each choice that has to stand in the request, so that it holds what was reserved.
    pub fn cap(&self, output: Option<u64>, counted: bool) -> Option<u64> {
        let each = output.filter(|_| self.can_shrink && counted)? / self.choices;
        (self.asked != Some(each)).then_some(each)
    }
}

/// What tokens of a prompt can be, those of texts first; and those of an answer.
const PROMPT: [Unit; 8] = [
    Unit::Input,
    Unit::CachedRead,
    Unit::CacheWrite,
    Unit::CacheWriteLong,
    Unit::InputImage,
    Unit::InputAudio,
    Unit::CachedAudio,
    Unit::CachedImage,
];
const TEXT_ALONE: usize = 4;
const REQUEST: [Unit; 3] = [Unit::Request, Unit::RequestMedium, Unit::RequestHigh];
const ANSWER: [Unit; 4] = [Unit::Output, Unit::Reasoning, Unit::OutputAudio, Unit::OutputImage];

/// The highest rate of these units, in femto-dollars: for prompts of any length up to `prompt`, and in any tier up to
/// `dearest`, where there is a choice.
fn worst(price: &Price, units: &[Unit], prompt: u64, when: When, dearest: Option<Tier>) -> u128 {
    let can_be = |tier: &Tier| *tier == when.tier || dearest.is_some_and(|dearest| *tier <= dearest);
    let tiers = Tier::ALL.iter().map(|(tier, ..)| *tier).filter(can_be);
    let rates = tiers.flat_map(|tier| {
        let when = When { tier, ..when };
        units.iter().flat_map(move |unit| [0, prompt].map(|prompt| price.rate(*unit, prompt, when)))
    });
    rates.flatten().map(|rate| u128::from(rate.0) * 1_000).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Rate;
    use crate::money::Pico;

    fn price() -> Price {
        let rate = |unit, above, price| Rate { unit, tier: Tier::Standard, above, price: Pico(price) };
        let rates = vec![
            rate(Unit::Input, 0, 2_500_001),
            rate(Unit::CacheWrite, 0, 3_125_003),
            rate(Unit::Output, 0, 10_000_007),
            rate(Unit::Output, 200_000, 15_000_001),
        ];
        Price { rates, ..Price::default() }
    }

    #[test]
    fn nothing_that_is_used_costs_more_than_its_worst_case() {
        let (price, when) = (price(), When::default());
        let mut dice = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let prompt_most = dice.u64(0..400_000);
            let choices = dice.u64(1..5);
            let asked = Some(dice.u64(1..5_000));
            let size = Size { prompt: 1, prompt_most, asked, choices, ..Size::default() };
            let bound = Bound::of(&size, Some(&price), when, false, None, None);
            let most = bound.output.unwrap();
            let prompt = dice.u64(0..=prompt_most);
            let written = dice.u64(0..=prompt);
            let output = dice.u64(0..=most);
            let usage = Usage { input: prompt - written, cache_write: written, output, ..Usage::default() };
            let cost = price.settle(&usage, when).unwrap().0;
            let worst = bound.amount(Measure::Dollars, bound.output).unwrap();
            assert!(cost <= worst, "{usage:?} costs {cost}, more than {worst}");
            let room = dice.u64(0..=worst);
            if let Some(affordable) = bound.affordable(Measure::Dollars, room) {
                let amount = bound.amount(Measure::Dollars, Some(affordable)).unwrap();
                assert!(amount <= room, "{affordable} tokens for {room} cost {amount}");
            }
        }
    }

    #[test]
    fn sound_that_is_paid_by_the_second_has_a_worst_case() {
        let rate = |unit, price| Rate { unit, tier: Tier::Standard, above: 0, price: Pico(price) };
        let of = |rates: Vec<Rate>, size: Size| {
            let price = Price { rates, ..Price::default() };
            Bound::of(&size, Some(&price), When::default(), false, None, None)
        };
        let minute = Size { audio_ms: 60_000, work: Work::Own, ..Size::default() };
        let bound = of(vec![rate(Unit::AudioSecond, 100_000_000)], minute);
        assert_eq!(
            bound.amount(Measure::Dollars, bound.output),
            Some(6_000_000),
            "whisper-1: 0.6 cents a minute"
        );
        assert!(!bound.is_free);
        assert!(of(vec![rate(Unit::AudioSecond, 0), rate(Unit::Input, 0)], minute).is_free);
    }

    #[test]
    fn who_names_a_service_is_held_at_no_dearer_one() {
        let rate = |tier, price| Rate { unit: Unit::Output, tier, above: 0, price: Pico(price) };
        let rates = vec![
            rate(Tier::Standard, 2_000),
            rate(Tier::Flex, 1_000),
            rate(Tier::Priority, 4_000),
            rate(Tier::Ultrafast, 9_000),
        ];
        let price = Price { rates, ..Price::default() };
        for (tier, any_tier, expected) in [
            (None, false, 2),
            (None, true, 9),
            (Some(Tier::Standard), true, 2),
            (Some(Tier::Flex), true, 2),
            (Some(Tier::Priority), true, 4),
            (Some(Tier::Ultrafast), true, 9),
        ] {
            let size = Size { asked: Some(1), tier, ..Size::default() };
            let bound = Bound::of(&size, Some(&price), When::default(), any_tier, None, None);
            assert_eq!(bound.amount(Measure::Dollars, bound.output), Some(expected), "{tier:?} {any_tier}");
        }
    }

    #[test]
    fn a_lookup_needs_no_price() {
        let size = Size { work: Work::Unknown, ..Size::default() };
        let bound = Bound::of(&size, None, When::default(), false, None, None);
        assert_eq!(bound.amount(Measure::Dollars, bound.output), Some(0));
        let chat = Bound::of(&Size::default(), None, When::default(), false, None, None);
        assert_eq!(chat.amount(Measure::Dollars, chat.output), None);
    }

    #[test]
    fn what_nobody_here_has_seen_of_a_prompt_may_fill_the_models_context() {
        let model = crate::ledger::Model { context_window: Some(128_000), ..Default::default() };
        let known = Known {
            model,
            origin: "built-in".into(),
            listed_as: None,
            states_abilities: false,
            preset: None,
        };
        for (unseen, prompt_most, known, expected) in [
            (false, 100, Some(&known), 100),
            (true, 100, Some(&known), 128_000),
            (true, 300_000, Some(&known), 300_000),
            (true, 100, None, UNKNOWN_CONTEXT),
        ] {
            let size = Size { unseen, prompt_most, ..Size::default() };
            assert_eq!(size.at(known).prompt_most, expected, "{size:?}");
        }
        let rate = |unit, price| Rate { unit, tier: Tier::Standard, above: 0, price: Pico(price) };
        let rates =
            vec![rate(Unit::Citation, 2_000_000), rate(Unit::Request, 5), rate(Unit::RequestHigh, 9_000)];
        let price = Some(Price { rates, ..Price::default() });
        let model = crate::ledger::Model { price, ..known.model };
        let reads = Known {
            model,
            origin: "built-in".into(),
            listed_as: None,
            states_abilities: false,
            preset: None,
        };
        let size = Size { prompt_most: 100, ..Size::default() }.at(Some(&reads));
        assert_eq!((size.prompt_most, size.citations), (100, 128_000));
        let bound = Bound::of(&size, reads.price(), When::default(), false, None, None);
        assert_eq!(bound.amount(Measure::Dollars, Some(0)), Some(128_000 * 2_000 + 9));
    }

    #[test]
    fn limits_are_put_in_where_the_client_sets_none() {
        let bound = |asked, cap, model| {
            let size = Size { asked, choices: 2, ..Size::default() };
            Bound::of(&size, None, When::default(), false, cap, model)
        };
        assert_eq!(bound(Some(100), None, None).cap(Some(200), true), None, "the client's own limit stands");
        assert_eq!(bound(Some(100), None, None).cap(Some(60), true), Some(30));
        assert_eq!(bound(None, Some(500), Some(4_096)).output, Some(1_000));
        assert_eq!(bound(None, None, Some(4_096)).cap(Some(8_192), true), Some(4_096));
        assert_eq!(bound(None, None, None).output, Some(2 * UNKNOWN_MODEL));
        assert_eq!(bound(None, None, None).cap(Some(8_192), false), None, "nobody counts");
        let raw = |work, model| {
            let size = Size { work, choices: 1, ..Size::default() };
            Bound::of(&size, None, When::default(), false, Some(500), model)
        };
        assert_eq!(raw(Work::Own, Some(4_096)).output, Some(4_096), "the budget's limit cannot be put in");
        assert_eq!(raw(Work::Own, None).output, Some(UNKNOWN_MODEL));
        assert_eq!(raw(Work::Own, None).cap(Some(100), true), None);
        assert_eq!(raw(Work::Unknown, Some(4_096)).output, None);
    }
}
