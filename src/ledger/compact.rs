//! The compact form of model facts: one line of text for a model, sorted by name, so that a list of thousands costs
//! nothing until a model of it is asked for.
//!
//! `provider/model ⇥ kind ⇥ context ⇥ output ⇥ deprecation ⇥ abilities ⇥ rates ⇥ off-peak`. Rates are
//! `unit[.tier][>tokens]=pico-dollars`, separated by spaces. Times are
//! `zone;zone of the days;days,spans…;days,spans…;rates`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::hours::{Hours, span, span_text, zone};
use super::model::{Abilities, Kind, Model};
use super::price::{OffPeak, Price};
use super::rate::{Rate, Tier, Unit};
use crate::money::Pico;

/// Facts of many models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List(Cow<'static, str>);

impl List {
    /// A list that is part of the program: lines sorted by name, the first ones comments.
    pub const fn embedded(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// A list of these models; of several with one name, the last counts.
    pub fn of(models: impl IntoIterator<Item = (String, Model)>) -> Self {
        let mut models: Vec<(String, Model)> = models.into_iter().collect();
        models.sort_by(|(a, _), (b, _)| a.cmp(b));
        models.reverse();
        models.dedup_by(|(a, _), (b, _)| a == b);
        models.reverse();
        let mut text = String::with_capacity(models.len() * 160);
        for (name, model) in &models {
            write(&mut text, name, model);
        }
        Self(Cow::Owned(text))
    }

    /// The model of this provider.
    pub fn find(&self, provider: &str, model: &str) -> Option<Model> {
        read(self.line(provider, model)?)
    }

    /// Names and facts of all models whose name begins with `prefix`.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, Model)> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.filter(move |line| line.starts_with(prefix));
        lines.filter_map(|line| Some((line.split('\t').next()?, read(line)?)))
    }

    /// Names and lines, in their order.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('\t'))
    }

    /// A binary search over bytes: look at the line in which the middle lies.
    fn line(&self, provider: &str, model: &str) -> Option<&str> {
        let text = self.0.as_bytes();
        let (mut low, mut high) = (0, text.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let start = memchr::memrchr(b'\n', &text[low..middle]).map_or(low, |at| low + at + 1);
            let end = memchr::memchr(b'\n', &text[middle..high]).map_or(high, |at| middle + at);
            let line = &text[start..end];
            let name = &line[..memchr::memchr(b'\t', line).unwrap_or(line.len())];
            match by_name(name, provider, model) {
                Ordering::Equal => return self.0.get(start..end),
                Ordering::Less => low = end + 1,
                Ordering::Greater => high = start,
            }
        }
        None
    }
}

/// How `name` stands to `provider/model`. Comments come before all names, as their first letter does.
fn by_name(name: &[u8], provider: &str, model: &str) -> Ordering {
    let wanted = provider.bytes().chain([b'/']).chain(model.bytes());
    name.iter().copied().cmp(wanted)
}

/// Appends one line.
pub fn write(out: &mut String, name: &str, model: &Model) {
    let number = |number: Option<u32>| number.map(|n| n.to_string()).unwrap_or_default();
    let letters: String = Abilities::ALL
        .iter()
        .filter(|(one, ..)| model.abilities.has(*one))
        .map(|(_, letter, _)| *letter)
        .collect();
    let (context, most) = (number(model.context_window), number(model.max_output));
    let deprecation = model.deprecation.map(|date| date.to_string()).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = write!(out, "{name}\t{}\t{context}\t{most}\t{deprecation}\t{letters}\t", model.kind.name());
    if let Some(price) = &model.price {
        let mut rates = price.rates.clone();
        rates.sort_unstable();
        let rates: Vec<_> = rates.iter().map(rate_text).collect();
        out.push_str(&rates.join(" "));
        for off_peak in &price.off_peak {
            let _ = write!(out, "\t{}", off_peak_text(off_peak));
        }
    }
    out.push('\n');
}

fn rate_text(rate: &Rate) -> String {
    let mut text = String::from(letter(rate.unit));
    if let Some((_, tier, _)) =
        Tier::ALL.iter().find(|(tier, ..)| *tier == rate.tier && *tier != Tier::Standard)
    {
        text.push('.');
        text.push(*tier);
    }
    if rate.above > 0 {
        text.push_str(&format!(">{}", rate.above));
    }
    text.push_str(&format!("={}", rate.price.0));
    text
}

fn letter(unit: Unit) -> char {
    Unit::ALL.iter().find(|(known, ..)| *known == unit).map_or('?', |(_, letter, _)| *letter)
}

fn off_peak_text(off_peak: &OffPeak) -> String {
    let zone_name = |zone: &TimeZone| zone.iana_name().unwrap_or("UTC").to_owned();
    let first = off_peak.hours.first();
    let zone = first.map_or_else(|| "UTC".to_owned(), |hours| zone_name(&hours.zone));
    let days_zone = first.and_then(|hours| hours.days_zone.as_ref()).map(zone_name).unwrap_or_default();
    let mut text = format!("{zone};{days_zone}");
    for hours in &off_peak.hours {
        let spans: Vec<_> = hours.spans.iter().map(|span| span_text(*span)).collect();
        text.push_str(&format!(";{:07b},{}", hours.days, spans.join(",")));
    }
    let rates = off_peak.rates.iter().map(|(unit, price)| format!("{}={}", letter(*unit), price.0));
    text.push_str(&format!(";{}", rates.collect::<Vec<_>>().join(" ")));
    text
}

/// Reads one line; `None` for what is none.
pub fn read(line: &str) -> Option<Model> {
    let mut fields = line.split('\t');
    let _name = fields.next()?;
    let kind = fields.next()?;
    let kind = Kind::ALL.iter().find(|(_, _, name)| *name == kind)?.0;
    let context_window = fields.next()?.parse().ok();
    let max_output = fields.next()?.parse().ok();
    let deprecation = fields.next()?.parse().ok();
    let letters = fields.next()?;
    let abilities = Abilities::ALL
        .iter()
        .filter(|(_, letter, _)| letters.contains(*letter))
        .fold(Abilities::default(), |all, (one, ..)| all.with(*one));
    let rates: Option<Vec<Rate>> = fields.next()?.split_ascii_whitespace().map(read_rate).collect();
    let rates = rates?;
    let off_peak: Option<Vec<OffPeak>> = fields.map(read_off_peak).collect();
    let off_peak = off_peak?;
    let price = (!rates.is_empty()).then(|| Price { rates, off_peak, ..Price::default() });
    Some(Model { kind, context_window, max_output, abilities, deprecation, price })
}

fn read_rate(text: &str) -> Option<Rate> {
    let (what, price) = text.split_once('=')?;
    let (what, above) = what.split_once('>').unwrap_or((what, "0"));
    let (unit, tier) = what.split_once('.').unwrap_or((what, "s"));
    let tier = Tier::ALL.iter().find(|(_, letter, _)| is(tier, *letter))?.0;
    Some(Rate { unit: unit_of(unit)?, tier, above: above.parse().ok()?, price: Pico(price.parse().ok()?) })
}

fn unit_of(text: &str) -> Option<Unit> {
    Unit::ALL.iter().find(|(_, letter, _)| is(text, *letter)).map(|(unit, ..)| *unit)
}

fn is(text: &str, letter: char) -> bool {
    text.chars().eq([letter])
}

fn read_off_peak(text: &str) -> Option<OffPeak> {
    let mut parts: Vec<&str> = text.split(';').collect();
    let rates = parts.pop()?.split_ascii_whitespace().map(|rate| {
        let (unit, price) = rate.split_once('=')?;
        Some((unit_of(unit)?, Pico(price.parse().ok()?)))
    });
    let rates: Option<Vec<_>> = rates.collect();
    let mut parts = parts.into_iter();
    let here = zone(parts.next()?).ok()?;
    let days_zone = match parts.next()? {
        "" => None,
        name => Some(zone(name).ok()?),
    };
    let hours = parts.map(|part| {
        let mut fields = part.split(',');
        let days = u8::from_str_radix(fields.next()?, 2).ok()?;
        let spans: Option<Vec<_>> = fields.map(span).collect();
        Some(Hours { zone: here.clone(), days_zone: days_zone.clone(), days, spans: spans? })
    });
    let hours: Option<Vec<_>> = hours.collect();
    Some(OffPeak { hours: hours?, rates: rates?, percent: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(input: u64) -> Model {
        let rate = |unit, tier, above, price| Rate { unit, tier, above, price: Pico(price) };
        Model {
            kind: Kind::Chat,
            context_window: Some(128_000),
            max_output: None,
            abilities: Abilities::TOOLS.with(Abilities::VISION),
            deprecation: "2027-04-14".parse().ok(),
            price: Some(Price {
                rates: vec![
                    rate(Unit::Input, Tier::Standard, 0, input),
                    rate(Unit::Input, Tier::Batch, 200_000, 7),
                    rate(Unit::OutputAudio, Tier::Priority, 0, 9),
                ],
                off_peak: vec![OffPeak {
                    hours: vec![Hours {
                        zone: TimeZone::UTC,
                        days_zone: zone("Asia/Shanghai").ok(),
                        days: 0b001_1111,
                        spans: vec![(0, 60), (600, 1440)],
                    }],
                    rates: vec![(Unit::Input, Pico(3))],
                    percent: None,
                }],
                ..Price::default()
            }),
        }
    }

    #[test]
    fn a_line_says_all_of_a_model() {
        let mut line = String::new();
        write(&mut line, "a/b", &model(5));
        assert_eq!(read(line.trim_end_matches('\n')), Some(model(5)), "{line}");
        let bare = Model { kind: Kind::Rerank, ..Model::default() };
        line.clear();
        write(&mut line, "a/b", &bare);
        assert_eq!(read(line.trim_end_matches('\n')), Some(bare), "{line}");
        for broken in ["", "a/b", "a/b\tchat\t\t\t\t\tx=1", "a/b\tchat\t\t\t\t\ti=x", "a/b\tfoo\t\t\t\t\t"] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }

    #[test]
    fn every_line_is_found_and_no_other() {
        for count in 0..40_u64 {
            let list =
                List::of((0..count).map(|n| (format!("p{}/{}", n % 3, "m".repeat(n as usize)), model(n))));
            for n in 0..count {
                let found = list.find(&format!("p{}", n % 3), &"m".repeat(n as usize));
                assert_eq!(found, Some(model(n)), "{n} of {count}");
            }
            for (provider, name) in [("", ""), ("p0", "x"), ("p9", "m"), ("p1", "mm"), ("#", "")] {
                assert_eq!(list.find(provider, name), None, "{provider}/{name} of {count}");
            }
        }
    }

    #[test]
    fn the_last_of_equal_names_counts() {
        let list = List::of([("a/b".to_owned(), model(1)), ("a/b".to_owned(), model(2))]);
        assert_eq!(list.find("a", "b"), Some(model(2)));
        assert_eq!(list.lines().count(), 1);
    }
}
