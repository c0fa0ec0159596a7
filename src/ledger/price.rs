//! What an answer costs: disjoint classes of usage times their rates, in integers, rounded once.

use std::sync::Arc;

use super::hours::Hours;
use super::rate::{Rate, Tier, Unit, rate};
use super::reserved::Reserved;
use crate::chat::{Billed, Breadth, Manner, Usage};
use crate::money::{Nano, Pico};

/// One time, as [`Price::times`] says it.
pub(super) const ONCE: u128 = 1_000_000_000_000;

/// What Anthropic charges for inference in the United States alone, for all models that know it:
/// <https://platform.claude.com/docs/en/manage-claude/data-residency>
const US_ONLY: u128 = 1_100_000_000_000;

/// Everything that decides what the use of a model costs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Price {
    /// Rates, in no order.
    pub rates: Vec<Rate>,
    /// Times at which others count.
    pub off_peak: Vec<OffPeak>,
    /// How much of the list price is paid, in percent.
    pub percent: Option<u32>,
    /// What is paid for already.
    pub reserved: Option<Arc<Reserved>>,
}

/// Other rates at certain times.
#[derive(Debug, Clone, PartialEq)]
pub struct OffPeak {
    /// When.
    pub hours: Vec<Hours>,
    /// What these units cost then, in the standard tier.
    pub rates: Vec<(Unit, Pico)>,
    /// How much of the usual price is paid then, in percent, for all other units.
    pub percent: Option<u32>,
}

/// Under which conditions something was used.
#[derive(Debug, Clone, Copy, Default)]
pub struct When {
    /// The service that did it, where the usage does not name one.
    pub tier: Tier,
    /// When it began, in Unix milliseconds.
    pub unix_ms: u64,
}

impl Price {
    /// What this usage costs, to the nearest nano-dollar; tokens that are paid for already are taken out of what is
    /// reserved. `None` when something was used that has no price.
    pub fn settle(&self, usage: &Usage, when: When) -> Option<Nano> {
        let femto = self.femto(usage, when)?;
        let Some(reserved) = &self.reserved else { return Some(Nano::from_femto(femto)) };
        let given = reserved.take(usage.total(), when.unix_ms);
        Some(Nano::from_femto(unpaid(femto, usage.total(), given)))
    }

    /// What this usage would cost, without taking anything.
    pub fn estimate(&self, usage: &Usage, when: When) -> Option<Nano> {
        let femto = self.femto(usage, when)?;
        let Some(reserved) = &self.reserved else { return Some(Nano::from_femto(femto)) };
        let given = reserved.left(when.unix_ms).min(usage.total());
        Some(Nano::from_femto(unpaid(femto, usage.total(), given)))
    }

    /// Whether nothing costs anything, whatever is used.
    pub fn is_free(&self) -> bool {
        let off_peak = self.off_peak.iter().flat_map(|off_peak| &off_peak.rates).map(|(_, price)| price);
        let all = || self.rates.iter().map(|rate| &rate.price).chain(off_peak).all(|price| price.0 == 0);
        !self.rates.is_empty() && (self.percent == Some(0) || all())
    }

    /// The rate of one unit under these conditions.
    pub fn rate(&self, unit: Unit, prompt: u64, when: When) -> Option<Pico> {
        self.rate_in(unit, prompt, when.tier, self.off_peak_at(when.unix_ms))
    }

    /// How many times the price of its tokens is paid for a manner of work, in millionths of a millionth. What the fast mode
    /// of a model costs is unknown where nobody says it.
    pub(super) fn times(&self, manner: Manner) -> Option<u128> {
        let factor = |unit| rate(&self.rates, unit, Tier::Standard, 0).map(|factor| u128::from(factor.0));
        let fast = if manner.fast { factor(Unit::Fast)? } else { ONCE };
        let us_only = if manner.us_only { factor(Unit::UsOnly).unwrap_or(US_ONLY) } else { ONCE };
        Some(fast * us_only / ONCE)
    }

    fn off_peak_at(&self, unix_ms: u64) -> Option<&OffPeak> {
        self.off_peak.iter().find(|off_peak| off_peak.hours.iter().any(|hours| hours.holds(unix_ms)))
    }

    fn rate_in(&self, unit: Unit, prompt: u64, tier: Tier, off_peak: Option<&OffPeak>) -> Option<Pico> {
        let usual = rate(&self.rates, unit, tier, prompt)?;
        let then = match off_peak {
            None => usual,
            Some(off_peak) => {
                let named = off_peak.named(unit, &self.rates).filter(|_| tier == Tier::Standard);
                match (named, off_peak.percent) {
                    (Some(price), _) => price,
                    (None, Some(percent)) => usual.percent(percent),
                    (None, None) => usual,
                }
            }
        };
        Some(self.percent.map_or(then, |percent| then.percent(percent)))
    }

    /// Femto-dollars (10⁻¹⁵). A model whose tokens and pictures (or seconds, or characters) are both priced is paid by
    /// its tokens where the provider counted them, and by the others where they are estimated.
    fn femto(&self, usage: &Usage, when: When) -> Option<u128> {
        let prompt = usage.prompt();
        let off_peak = self.off_peak_at(when.unix_ms);
        let tier = usage.tier.unwrap_or(when.tier);
        let of = |unit| self.rate_in(unit, prompt, tier, off_peak);
        let mut sum: u128 = 0;
        let mut missing = false;
        for (unit, count) in tokens(usage) {
            if count == 0 {
                continue;
            }
            match of(unit) {
                Some(price) => sum += u128::from(count) * u128::from(price.0) * 1_000,
                None => missing = true,
            }
        }
        if usage.manner != Manner::default() {
            sum = sum.saturating_mul(self.times(usage.manner)?) / ONCE;
        }
        let by_token = usage.total() > 0 && !missing && !usage.estimated;
        let (mut otherwise, mut instead) = (false, 0);
        // Seconds are counted in thousandths.
        for (unit, count, scale) in [
            (Unit::Image, usage.images, 1_000),
            (Unit::AudioSecond, usage.audio_ms, 1),
            (Unit::Character, usage.characters, 1_000),
        ] {
            if count > 0 && !by_token {
                match of(unit) {
                    Some(price) => {
                        instead += u128::from(count) * u128::from(price.0) * scale;
                        otherwise = true;
                    }
                    None => missing |= usage.total() == 0,
                }
            }
        }
        // Tokens that nobody counted are no second bill for what has a price of its own.
        sum = if otherwise && usage.estimated { instead } else { sum + instead };
        let request = match usage.breadth.unwrap_or_default() {
            Breadth::Low => Unit::Request,
            Breadth::Medium => Unit::RequestMedium,
            Breadth::High => Unit::RequestHigh,
        };
        let searched = [(Unit::WebSearch, usage.searches), (Unit::WebSearchPrompt, usage.searches.min(1))];
        let searched =
            searched.map(|(unit, count)| of(unit).map(|price| u128::from(count) * u128::from(price.0)));
        let requests = if searched == [None; 2] { usage.searches.max(1) } else { 1 };
        sum += searched.into_iter().flatten().sum::<u128>() * 1_000;
        if usage.maps {
            sum += of(Unit::MapsPrompt).map_or(0, |price| u128::from(price.0)) * 1_000;
        }
        if let Some(price) = of(request) {
            sum += u128::from(requests) * u128::from(price.0) * 1_000;
            otherwise = true;
        }
        // Most models that count what they read do not charge for it.
        sum +=
            u128::from(usage.citations) * of(Unit::Citation).map_or(0, |price| u128::from(price.0)) * 1_000;
        // Sound and pictures that are paid for by their tokens, of which nobody counted any; and a recording that nobody
        // measured.
        let costs = |unit| of(unit).is_some_and(|price| price.0 > 0);
        let made = [
            (usage.characters, Unit::Character, Unit::OutputAudio),
            (usage.images, Unit::Image, Unit::OutputImage),
        ];
        let uncounted = usage.estimated
            && (made.into_iter().any(|(n, whole, token)| n > 0 && of(whole).is_none() && costs(token))
                || usage.audio_ms == 0 && usage.output == 0 && costs(Unit::AudioSecond));
        (!uncounted && (!missing || otherwise)).then_some(sum)
    }
}

impl OffPeak {
    /// What a unit costs then: by its own price, or by that of the unit whose price stands in for it as it does at all
    /// other times.
    fn named(&self, unit: Unit, usual: &[Rate]) -> Option<Pico> {
        let mut unit = unit;
        loop {
            if let Some((_, price)) = self.rates.iter().find(|(named, _)| *named == unit) {
                return Some(*price);
            }
            if usual.iter().any(|rate| rate.unit == unit) {
                return None;
            }
            unit = unit.stand_in()?;
        }
    }
}

/// What is still to be paid when `given` of `all` tokens are paid for already.
fn unpaid(femto: u128, all: u64, given: u64) -> u128 {
    if all == 0 || given == 0 {
        return femto;
    }
    femto * u128::from(all.saturating_sub(given)) / u128::from(all)
}

/// The usage in classes that do not overlap. What a provider counts twice is counted once: a part is never larger than
/// its whole.
fn tokens(usage: &Usage) -> [(Unit, u64); 12] {
    if let Some(Billed { input, output }) = usage.billed {
        // Only these two are on the bill.
        let billed = Usage { input, output, ..Usage::default() };
        return tokens(&billed);
    }
    let input_audio = usage.input_audio.min(usage.input);
    let input_image = usage.input_image.min(usage.input - input_audio);
    let cached_audio = usage.cached_audio.min(usage.cached_read);
    let cached_image = usage.cached_image.min(usage.cached_read - cached_audio);
    let long = usage.cache_write_long.min(usage.cache_write);
    let output_audio = usage.output_audio.min(usage.output);
    let output_image = usage.output_image.min(usage.output - output_audio);
    let reasoning = usage.reasoning.min(usage.output - output_audio - output_image);
    [
        (Unit::Input, usage.input - input_audio - input_image),
        (Unit::InputAudio, input_audio),
        (Unit::InputImage, input_image),
        (Unit::CachedRead, usage.cached_read - cached_audio - cached_image),
        (Unit::CachedAudio, cached_audio),
        (Unit::CachedImage, cached_image),
        (Unit::CacheWrite, usage.cache_write - long),
        (Unit::CacheWriteLong, long),
        (Unit::Output, usage.output - output_audio - output_image - reasoning),
        (Unit::OutputAudio, output_audio),
        (Unit::OutputImage, output_image),
        (Unit::Reasoning, reasoning),
    ]
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::hours::EVERY_DAY;
    use super::super::reserved::Every;
    use super::*;

    fn price(rates: &[(Unit, f64)]) -> Price {
        let rate = |&(unit, dollars): &(Unit, f64)| {
            let price = if unit.by_million() { Pico::per_million(dollars) } else { Pico::per_unit(dollars) };
            Rate { unit, tier: Tier::Standard, above: 0, price: price.unwrap() }
        };
        Price { rates: rates.iter().map(rate).collect(), ..Price::default() }
    }

    #[test]
    fn a_manner_of_work_multiplies_the_price_of_tokens_alone() {
        let rate = |unit, price| Rate { unit, tier: Tier::Standard, above: 0, price: Pico(price) };
        let rates = vec![
            rate(Unit::Input, 5_000_000),
            rate(Unit::Output, 25_000_000),
            rate(Unit::WebSearch, 10_000_000_000),
            rate(Unit::MapsPrompt, 25_000_000_000),
            rate(Unit::Fast, 6_000_000_000_000),
        ];
        let price = Price { rates, ..Price::default() };
        let cost = |price: &Price, fast, us_only, maps| {
            let manner = Manner { fast, us_only };
            let usage = Usage { input: 1_000, output: 100, searches: 1, manner, maps, ..Usage::default() };
            price.settle(&usage, When::default()).map(|cost| cost.0)
        };
        assert_eq!(cost(&price, false, false, false), Some(7_500_000 + 10_000_000));
        assert_eq!(cost(&price, true, false, false), Some(45_000_000 + 10_000_000));
        assert_eq!(cost(&price, false, true, true), Some(8_250_000 + 10_000_000 + 25_000_000));
        assert_eq!(cost(&price, true, true, false), Some(49_500_000 + 10_000_000));
        let unsaid = Price { rates: price.rates[..2].to_vec(), ..Price::default() };
        assert_eq!(cost(&unsaid, true, false, false), None, "not known, and never the usual price");
    }

    #[test]
    fn what_a_provider_bills_goes_before_what_it_read() {
        let price = price(&[(Unit::Input, 2.5), (Unit::Output, 10.0), (Unit::CachedRead, 1.0)]);
        let read = Usage { input: 599, cached_read: 992, output: 40, ..Usage::default() };
        let billed = Usage { billed: Some(Billed { input: 68, output: 21 }), ..read };
        let cost = |usage: &Usage| price.settle(usage, When::default()).unwrap().0;
        assert_eq!(cost(&read), 599 * 2_500 + 992 * 1_000 + 40 * 10_000);
        assert_eq!(cost(&billed), 68 * 2_500 + 21 * 10_000);
        let mut both = billed;
        both.add(&Usage { input: 2, output: 1, ..Usage::default() });
        assert_eq!(both.billed, Some(Billed { input: 70, output: 22 }));
    }

    #[test]
    fn every_class_has_its_price_and_nothing_is_paid_twice() {
        let sonnet = price(&[
            (Unit::Input, 3.0),
            (Unit::CachedRead, 0.3),
            (Unit::CacheWrite, 3.75),
            (Unit::CacheWriteLong, 6.0),
            (Unit::Output, 15.0),
        ]);
        let audio = price(&[
            (Unit::Input, 2.5),
            (Unit::InputAudio, 32.0),
            (Unit::Output, 10.0),
            (Unit::OutputAudio, 64.0),
        ]);
        let none = Usage::default();
        for (price, usage, nano) in [
            (&sonnet, Usage { input: 10, output: 20, ..none }, Some(330_000)),
            (
                &sonnet,
                Usage { input: 1, cached_read: 1_000, cache_write: 300, cache_write_long: 100, ..none },
                Some(3_000 + 300_000 + 750_000 + 600_000),
            ),
            (&sonnet, Usage { output: 100, reasoning: 60, ..none }, Some(1_500_000)),
            // A part that claims to be more than its whole.
            (&sonnet, Usage { output: 10, reasoning: 60, ..none }, Some(150_000)),
            (
                &audio,
                Usage { input: 100, input_audio: 90, output: 50, output_audio: 40, ..none },
                Some(25_000 + 2_880_000 + 100_000 + 2_560_000),
            ),
            (&price(&[(Unit::Input, 0.1)]), Usage { input: 7, ..none }, Some(700)),
            (&price(&[(Unit::Input, 0.1)]), Usage { input: 7, output: 1, ..none }, None),
            (&price(&[(Unit::AudioSecond, 0.0001)]), Usage { audio_ms: 12_345, ..none }, Some(1_234_500)),
            (&price(&[(Unit::Character, 15.0)]), Usage { characters: 11, ..none }, Some(165_000)),
            (&price(&[(Unit::Image, 0.04)]), Usage { images: 2, ..none }, Some(80_000_000)),
            // Paid by tokens, because they were counted; by pictures, where they were not.
            (
                &price(&[
                    (Unit::Image, 0.04),
                    (Unit::Input, 1.0),
                    (Unit::OutputImage, 30.0),
                    (Unit::Output, 2.0),
                ]),
                Usage { images: 1, input: 10, output: 1_000, output_image: 1_000, ..none },
                Some(10_000 + 30_000_000),
            ),
            (
                &price(&[(Unit::Image, 0.04), (Unit::Input, 1.0)]),
                Usage { images: 1, ..none },
                Some(40_000_000),
            ),
            (
                &price(&[(Unit::Image, 0.04), (Unit::Input, 1.0)]),
                Usage { images: 10, input: 5, estimated: true, ..none },
                Some(400_000_000),
            ),
            (
                &price(&[(Unit::Input, 1.0), (Unit::OutputAudio, 12.0)]),
                Usage { characters: 10, input: 5, estimated: true, ..none },
                None,
            ),
            (
                &price(&[(Unit::Request, 0.002), (Unit::Input, 0.0)]),
                Usage { input: 9, ..none },
                Some(2_000_000),
            ),
            (&price(&[(Unit::Input, 1.0)]), Usage { audio_ms: 5, ..none }, None),
            (&price(&[]), Usage { input: 1, ..none }, None),
        ] {
            assert_eq!(price.settle(&usage, When::default()), nano.map(Nano), "{usage:?}");
        }
    }

    #[test]
    fn the_sum_is_rounded_once() {
        let tenth = price(&[(Unit::Input, 0.0001), (Unit::Output, 0.0001)]);
        // Each class alone would round to nothing.
        let usage = Usage { input: 3, output: 3, ..Usage::default() };
        assert_eq!(tenth.settle(&usage, When::default()), Some(Nano(1)));
    }

    #[test]
    fn other_hours_have_other_prices() {
        let mut deepseek = price(&[(Unit::Input, 1.0), (Unit::Output, 2.0)]);
        let night = Hours { zone: TimeZone::UTC, days_zone: None, days: EVERY_DAY, spans: vec![(990, 30)] };
        deepseek.off_peak = vec![OffPeak {
            hours: vec![night],
            rates: vec![(Unit::Input, Pico(250_000))],
            percent: Some(50),
        }];
        let usage = Usage { input: 1_000, output: 1_000, ..Usage::default() };
        let at = |unix_ms, tier| deepseek.settle(&usage, When { tier, unix_ms });
        assert_eq!(at(12 * 3_600_000, Tier::Standard), Some(Nano(3_000_000)), "noon");
        assert_eq!(at(17 * 3_600_000, Tier::Standard), Some(Nano(250_000 + 1_000_000)), "evening");
        assert_eq!(at(17 * 3_600_000, Tier::Batch), Some(Nano(500_000 + 1_000_000)), "no price of its own");
    }

    #[test]
    fn what_has_no_price_of_its_own_follows_its_stand_in_through_the_hours() {
        let mut deepseek = price(&[(Unit::Input, 1.0), (Unit::Output, 2.0), (Unit::InputAudio, 4.0)]);
        let always = Hours { zone: TimeZone::UTC, days_zone: None, days: EVERY_DAY, spans: vec![(0, 1440)] };
        let rates = vec![(Unit::Input, Pico(500_000)), (Unit::Output, Pico(1_000_000))];
        deepseek.off_peak = vec![OffPeak { hours: vec![always], rates, percent: None }];
        let cost = |usage: Usage| deepseek.settle(&usage, When::default()).unwrap();
        let none = Usage::default();
        let plain = Usage { input: 1_000, output: 1_000, ..none };
        assert_eq!(cost(plain), Nano(1_500_000));
        let parts = Usage { input: 100, cached_read: 900, reasoning: 900, ..plain };
        assert_eq!(cost(parts), Nano(1_500_000), "the same tokens, of other kinds");
        let heard = Usage { input_audio: 1_000, ..plain };
        assert_eq!(cost(heard), Nano(5_000_000), "its own price counts at all hours");
    }

    #[test]
    fn the_service_that_the_usage_names_counts_before_the_one_that_was_asked_for() {
        let mut tiered = price(&[(Unit::Input, 1.0)]);
        tiered.rates.push(Rate { unit: Unit::Input, tier: Tier::Flex, above: 0, price: Pico(500_000) });
        let usage = Usage { input: 1_000, ..Usage::default() };
        let flex = When { tier: Tier::Flex, unix_ms: 0 };
        for (said, when, expected) in [
            (None, When::default(), 1_000_000),
            (None, flex, 500_000),
            (Some(Tier::Standard), flex, 1_000_000),
            (Some(Tier::Flex), When::default(), 500_000),
        ] {
            let usage = Usage { tier: said, ..usage };
            assert_eq!(tiered.settle(&usage, when), Some(Nano(expected)), "{said:?} {when:?}");
        }
    }

    #[test]
    fn sound_whose_tokens_nobody_counted_has_no_known_cost() {
        let asked = Usage { input: 1_000, characters: 4_000, estimated: true, ..Usage::default() };
        let counted = Usage { input: 900, output: 5_000, output_audio: 5_000, estimated: false, ..asked };
        let by_token = price(&[(Unit::Input, 0.6), (Unit::OutputAudio, 12.0)]);
        let cost = |price: &Price, usage: &Usage| price.settle(usage, When::default()).map(|nano| nano.0);
        assert_eq!(cost(&by_token, &asked), None);
        assert_eq!(cost(&by_token, &counted), Some(540_000 + 60_000_000));
        assert_eq!(cost(&price(&[(Unit::Character, 15.0)]), &asked), Some(60_000_000));
        assert_eq!(cost(&price(&[(Unit::Input, 0.6)]), &asked), Some(600_000), "only its text is paid for");
    }

    #[test]
    fn a_recording_that_nobody_measured_has_no_known_cost() {
        let whisper = price(&[(Unit::AudioSecond, 0.0001)]);
        let asked = Usage { input: 10, estimated: true, ..Usage::default() };
        let cost = |price: &Price, usage: Usage| price.settle(&usage, When::default()).map(|nano| nano.0);
        assert_eq!(cost(&whisper, asked), None);
        assert_eq!(cost(&whisper, Usage { input: 0, ..asked }), None, "nothing is known, not nothing used");
        assert_eq!(cost(&whisper, Usage { audio_ms: 1_000, ..asked }), Some(100_000));
        assert_eq!(cost(&price(&[(Unit::AudioSecond, 0.0)]), Usage { input: 0, ..asked }), Some(0));
    }

    #[test]
    fn pictures_whose_tokens_nobody_counted_have_no_known_cost() {
        let asked = Usage { input: 1_000, images: 1, estimated: true, ..Usage::default() };
        let cost = |price: &Price| price.settle(&asked, When::default()).map(|nano| nano.0);
        assert_eq!(cost(&price(&[(Unit::Input, 5.0), (Unit::OutputImage, 40.0)])), None);
        assert_eq!(cost(&price(&[(Unit::Input, 5.0), (Unit::Image, 0.04)])), Some(40_000_000));
    }

    #[test]
    fn what_is_read_from_a_cache_costs_what_its_kind_does() {
        let flash = price(&[
            (Unit::Input, 0.3),
            (Unit::InputAudio, 1.0),
            (Unit::CachedRead, 0.03),
            (Unit::CachedAudio, 0.1),
            (Unit::CachedImage, 0.05),
        ]);
        let cost = |usage: Usage| flash.settle(&usage, When::default()).unwrap().0;
        let read = Usage { cached_read: 1_000, ..Usage::default() };
        assert_eq!(cost(read), 30_000);
        assert_eq!(cost(Usage { cached_audio: 1_000, ..read }), 100_000);
        assert_eq!(cost(Usage { cached_audio: 400, cached_image: 100, ..read }), 40_000 + 5_000 + 15_000);
        assert_eq!(
            cost(Usage { cached_audio: 9_000, cached_image: 9_000, ..read }),
            100_000,
            "no more than all"
        );
        let plain = price(&[(Unit::Input, 0.3), (Unit::CachedRead, 0.03)]);
        let usage = Usage { cached_audio: 1_000, ..read };
        assert_eq!(plain.settle(&usage, When::default()), Some(Nano(30_000)), "no price of its own");
    }

    #[test]
    fn only_what_costs_nothing_at_all_is_free() {
        for (price, expected) in [
            (price(&[(Unit::Input, 0.0), (Unit::Output, 0.0)]), true),
            (price(&[(Unit::Input, 0.0), (Unit::AudioSecond, 0.0001)]), false),
            (Price { percent: Some(0), ..price(&[(Unit::Input, 1.0)]) }, true),
            (Price::default(), false),
        ] {
            assert_eq!(price.is_free(), expected, "{price:?}");
        }
    }

    #[test]
    fn searches_of_the_models_own_will_are_paid_for_one_by_one_or_once() {
        let usage = |searches| Usage { input: 100, output: 10, searches, ..Usage::default() };
        let cost = |rates: &[(Unit, f64)], searches| {
            price(rates).settle(&usage(searches), When::default()).unwrap().0
        };
        let claude = [(Unit::Input, 3.0), (Unit::Output, 15.0), (Unit::WebSearch, 0.01)];
        let old_gemini = [(Unit::Input, 3.0), (Unit::Output, 15.0), (Unit::WebSearchPrompt, 0.035)];
        let both =
            [(Unit::Input, 3.0), (Unit::Output, 15.0), (Unit::WebSearch, 0.01), (Unit::Request, 0.001)];
        let tokens = 100 * 3_000 + 10 * 15_000;
        for (searches, each, once, with_request) in [
            (0, 0, 0, 1_000_000),
            (1, 10_000_000, 35_000_000, 11_000_000),
            (3, 30_000_000, 35_000_000, 31_000_000),
        ] {
            assert_eq!(cost(&claude, searches), tokens + each, "{searches}");
            assert_eq!(cost(&old_gemini, searches), tokens + once, "{searches}");
            assert_eq!(cost(&both, searches), tokens + with_request, "{searches}");
        }
    }

    #[test]
    fn searches_are_paid_for_as_often_as_the_provider_says() {
        let rerank = price(&[(Unit::Request, 0.002)]);
        let cost = |searches| {
            let usage = Usage { searches, ..Usage::default() };
            rerank.settle(&usage, When::default()).map(|nano| nano.0)
        };
        assert_eq!((cost(0), cost(1), cost(10)), (Some(2_000_000), Some(2_000_000), Some(20_000_000)));
    }

    #[test]
    fn what_was_read_on_the_web_costs_what_perplexity_says_that_it_does() {
        let dollars = |of: &[(Unit, f64)], usage: Usage| price(of).settle(&usage, When::default()).unwrap().0;
        // <https://docs.perplexity.ai/getting-started/pricing>, and answers of Perplexity's with their own sums.
        let research = [
            (Unit::Input, 2.0),
            (Unit::Output, 8.0),
            (Unit::Reasoning, 3.0),
            (Unit::Citation, 2.0),
            (Unit::Request, 0.005),
        ];
        let usage = Usage {
            input: 33,
            output: 7_163 + 73_997,
            reasoning: 73_997,
            citations: 20_016,
            searches: 18,
            ..Usage::default()
        };
        assert_eq!(dollars(&research, usage), 66_000 + 57_304_000 + 221_991_000 + 40_032_000 + 90_000_000);
        let sonar =
            [(Unit::Input, 2.0), (Unit::Output, 8.0), (Unit::Request, 0.006), (Unit::RequestHigh, 0.014)];
        for (breadth, nano) in [
            (None, 6_090_000),
            (Some(Breadth::Low), 6_090_000),
            (Some(Breadth::Medium), 6_090_000),
            (Some(Breadth::High), 14_090_000),
        ] {
            let usage = Usage { input: 9, output: 9, citations: 7, breadth, ..Usage::default() };
            assert_eq!(dollars(&sonar, usage), nano, "{breadth:?}");
        }
    }

    #[test]
    fn what_is_paid_for_costs_nothing_more() {
        let mut owned = price(&[(Unit::Input, 1.0), (Unit::Output, 3.0)]);
        owned.reserved = Some(Arc::new(Reserved::new(1_500, Every::Day, TimeZone::UTC)));
        let usage = Usage { input: 500, output: 500, ..Usage::default() };
        let now = When::default();
        assert_eq!(owned.estimate(&usage, now), Some(Nano(0)));
        assert_eq!(owned.settle(&usage, now), Some(Nano(0)));
        assert_eq!(owned.estimate(&usage, now), Some(Nano(1_000_000)), "half of it is left");
        assert_eq!(owned.settle(&usage, now), Some(Nano(1_000_000)));
        assert_eq!(owned.settle(&usage, now), Some(Nano(2_000_000)));
    }
}
