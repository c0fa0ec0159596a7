//! The price book in service: changed as a whole by configuration, sources and webhooks; every change is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Sender;

use super::book::{Book, Fetched};
use super::compact::{self, List};
use super::document::Document;
use super::model::Model;
use super::own::{Own, Owns};
use super::price::Price;
use super::rate::{Tier, Unit};
use crate::clock::Clock;

/// The most changes that are kept.
const MOST_CHANGES: usize = 200;

/// The most models of which a change says what became of them.
const MOST_DIFFERENCES: usize = 20;

/// The book, and how it came to be.
pub struct Prices {
    book: ArcSwap<Book>,
    changes: Mutex<VecDeque<Change>>,
    told: OnceLock<Sender<Change>>,
    clock: Arc<dyn Clock>,
}

/// One change of the book.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Change {
    /// The revision that it made.
    pub revision: u64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Who: `configuration`, `pushed`, or the name of a source.
    pub origin: Arc<str>,
    /// How many models it touched.
    pub models: usize,
    /// What became of some of them.
    pub differences: Vec<Difference>,
}

/// What became of one model.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub model: String,
    /// What was said of its price before, in dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What is said now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Prices {
    /// What is built in, and nothing else yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            book: ArcSwap::from_pointee(Book::new(1, Owns::default(), Owns::default(), Vec::new())),
            changes: Mutex::default(),
            told: OnceLock::new(),
            clock,
        }
    }

    /// The book in service; whoever holds it sees no change.
    pub fn book(&self) -> Arc<Book> {
        self.book.load_full()
    }

    /// The revision of the book in service.
    pub fn revision(&self) -> u64 {
        self.book.load().revision
    }

    /// Changes, the last one first.
    pub fn changes(&self) -> Vec<Change> {
        self.lock().iter().rev().cloned().collect()
    }

    /// Goes on where an earlier process ended: with what was pushed to it, and the changes that it knew, the first one
    /// first. Revisions count on.
    pub fn resume(&self, pushed: Owns, known: Vec<Change>) {
        let mut changes = self.lock();
        let book = self.book.load();
        let revision = known.iter().map(|change| change.revision).max().unwrap_or(0).max(book.revision);
        let (own, fetched) = (book.own.clone(), book.fetched.clone());
        self.book.store(Arc::new(Book::new(revision, own, pushed, fetched)));
        changes.extend(known);
        while changes.len() > MOST_CHANGES {
            changes.pop_front();
        }
    }

    /// Where changes are told from now on. Only the first who asks hears of them.
    pub fn tell(&self, to: Sender<Change>) {
        // A second one would take them from the first.
        let _ = self.told.set(to);
    }

    /// Takes what the configuration sets, and forgets sources that it no longer names.
    pub fn configure(&self, mut own: Owns, sources: &[Arc<str>]) {
        self.change("configuration", |book| {
            own.inherit(&book.own);
            let kept = book.fetched.iter().filter(|(source, _)| sources.contains(source)).cloned();
            let differences = between(&told_owns(&book.own), &told_owns(&own));
            // Providers may have changed their presets: nothing that was looked up is kept.
            Some((Book::new(book.revision, own, book.pushed.clone(), kept.collect()), differences))
        });
    }

    /// Takes what somebody pushed, over what was pushed before.
    pub fn push(&self, document: Document) -> Option<Change> {
        let fresh = match document {
            Document::Own(owns) => owns,
            Document::Models(models, _) => {
                Owns(models.into_iter().map(|(name, model)| (name, Own::whole(model))).collect())
            }
        };
        self.change_pushed(|pushed| pushed.0.extend(fresh.0))
    }

    /// Takes what was pushed to another gateway in the place of all that was pushed before.
    pub fn repush(&self, all: Owns) -> Option<Change> {
        self.change_pushed(|pushed| *pushed = all)
    }

    /// Forgets what was pushed: one model, or all.
    pub fn withdraw(&self, model: Option<&str>) -> Option<Change> {
        self.change_pushed(|pushed| match model {
            Some(name) => drop(pushed.0.remove(name)),
            None => pushed.0.clear(),
        })
    }

    /// What was taken of capacity whose terms stay is kept.
    fn change_pushed(&self, change: impl FnOnce(&mut Owns)) -> Option<Change> {
        self.change("pushed", |book| {
            let mut pushed = book.pushed.clone();
            change(&mut pushed);
            pushed.inherit(&book.pushed);
            let differences = between(&told_owns(&book.pushed), &told_owns(&pushed));
            Some((Book::new(book.revision, book.own.clone(), pushed, book.fetched.clone()), differences))
        })
    }

    /// Takes a source's new document. `order` names all sources, the least first.
    pub fn fetched(&self, source: &Arc<str>, document: Document, order: &[Arc<str>]) -> Option<Change> {
        let mut fresh = match document {
            Document::Models(models, _) => Fetched::Models(List::of(models)),
            Document::Own(owns) => Fetched::Own(owns),
        };
        self.change(source, |book| {
            let older = book.fetched.iter().find(|(name, _)| name == source).map(|(_, fetched)| fetched);
            let differences = match (older, &mut fresh) {
                (Some(Fetched::Models(older)), Fetched::Models(list)) => between_lists(older, list),
                (_, Fetched::Models(list)) => between_lists(&List::default(), list),
                (Some(Fetched::Own(older)), Fetched::Own(owns)) => {
                    owns.inherit(older);
                    between(&told_owns(older), &told_owns(owns))
                }
                (_, Fetched::Own(owns)) => between(&BTreeMap::new(), &told_owns(owns)),
            };
            let mut fetched: Vec<_> =
                book.fetched.iter().filter(|(name, _)| name != source).cloned().collect();
            fetched.push((source.clone(), fresh));
            fetched.sort_by_key(|(name, _)| order.iter().position(|known| known == name));
            Some((Book::new(book.revision, book.own.clone(), book.pushed.clone(), fetched), differences))
        })
    }

    /// Puts a new book into service. One that says the same is taken without a word, because providers may be others.
    fn change(
        &self,
        origin: &str,
        make: impl FnOnce(&Book) -> Option<(Book, Vec<Difference>)>,
    ) -> Option<Change> {
        let mut changes = self.lock();
        let (mut book, mut differences) = make(&self.book.load())?;
        if differences.is_empty() {
            self.book.store(Arc::new(book));
            return None;
        }
        book.revision += 1;
        let models = differences.len();
        differences.truncate(MOST_DIFFERENCES);
        let (revision, at_ms) = (book.revision, self.clock.unix_ms());
        let change = Change { revision, at_ms, origin: origin.into(), models, differences };
        tracing::info!(origin, revision, models, "prices changed");
        if changes.len() == MOST_CHANGES {
            changes.pop_front();
        }
        changes.push_back(change.clone());
        if let Some(told) = self.told.get()
            && told.try_send(change.clone()).is_err()
        {
            tracing::warn!(revision, "a change of prices is not kept: too many at once");
        }
        self.book.store(Arc::new(book));
        #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; revisions are few")]
        metrics::gauge!("tollgate_price_revision").set(revision as f64);
        Some(change)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told_owns(owns: &Owns) -> BTreeMap<&str, String> {
    owns.0.iter().map(|(name, own)| (name.as_str(), told_own(own))).collect()
}

fn told_own(own: &Own) -> String {
    let mut told = Vec::new();
    told.extend(own.like.as_ref().map(|like| format!("like {like}")));
    told.extend(own.percent.map(|percent| format!("{percent} % of the list price")));
    if own.rates.is_some() || !own.off_peak.is_empty() {
        let rates = own.rates.clone().unwrap_or_default();
        let price = Price { rates, off_peak: own.off_peak.clone(), ..Price::default() };
        told.push(told_price(Some(&price)));
    }
    told.extend(own.reserved.as_ref().map(|reserved| format!("{} tokens reserved", reserved.tokens)));
    let facts = Model { price: None, ..own.over(Model::default()) };
    let mut line = String::new();
    compact::write(&mut line, "", &facts);
    let mut none = String::new();
    compact::write(&mut none, "", &Model::default());
    if line != none {
        told.push("facts set".to_owned());
    }
    told.join("; ")
}

/// A price in dollars: `input 2.5, output 10, output (batch) 5`.
pub fn told_price(price: Option<&Price>) -> String {
    let Some(price) = price else { return "unknown".to_owned() };
    let mut rates = price.rates.clone();
    rates.sort_unstable();
    let mut told: Vec<String> = rates
        .iter()
        .map(|rate| {
            let tier = Tier::ALL.iter().find(|(tier, ..)| *tier == rate.tier && *tier != Tier::Standard);
            let tier = tier.map(|(_, _, name)| format!(" ({name})")).unwrap_or_default();
            let above = if rate.above > 0 { format!(" above {}", rate.above) } else { String::new() };
            format!("{}{above}{tier} {}", rate.unit.name(), dollars(rate.unit, rate.price))
        })
        .collect();
    for off_peak in &price.off_peak {
        let rates = off_peak.rates.iter();
        told.extend(
            rates.map(|(unit, price)| format!("{} (off-peak) {}", unit.name(), dollars(*unit, *price))),
        );
        told.extend(off_peak.percent.map(|percent| format!("{percent} % (off-peak)")));
    }
    told.join(", ")
}

fn dollars(unit: Unit, price: crate::money::Pico) -> String {
    if unit.by_million() { price.to_string() } else { price.one().to_string() }
}

fn between(older: &BTreeMap<&str, String>, newer: &BTreeMap<&str, String>) -> Vec<Difference> {
    let difference = |model: &str, before: Option<&String>, after: Option<&String>| Difference {
        model: model.to_owned(),
        before: before.cloned(),
        after: after.cloned(),
    };
    let gone = older.iter().filter(|(name, _)| !newer.contains_key(*name));
    let gone = gone.map(|(name, told)| difference(name, Some(told), None));
    let other = newer.iter().filter(|(name, told)| older.get(*name) != Some(told));
    let other = other.map(|(name, told)| difference(name, older.get(name), Some(told)));
    gone.chain(other).collect()
}

fn between_lists(older: &List, newer: &List) -> Vec<Difference> {
    let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (older.lines().collect(), newer.lines().collect());
    let told = |name: &str, line: Option<&&str>| {
        line.map(|line| {
            told_price(compact::read(&format!("{name}\t{line}")).and_then(|model| model.price).as_ref())
        })
    };
    let mut changed: Vec<&str> =
        new.iter().filter(|(name, line)| old.get(*name) != Some(line)).map(|(n, _)| *n).collect();
    changed.extend(old.keys().filter(|name| !new.contains_key(*name)));
    let said = changed.iter().enumerate().map(|(at, name)| {
        let (before, after) = if at < MOST_DIFFERENCES {
            (told(name, old.get(name)), told(name, new.get(name)))
        } else {
            (None, None)
        };
        Difference { model: (*name).to_owned(), before, after }
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FixedClock;
    use crate::target::TargetName;

    fn document(text: &str) -> Document {
        Document::read(text.as_bytes(), "openrouter").unwrap()
    }

    fn input(prices: &Prices, target: &str, preset: Option<&str>) -> Option<(String, String)> {
        let known = prices.book().of(&TargetName::parse(target)?, preset)?;
        let rate = known.price()?.rate(Unit::Input, 0, super::super::When::default())?;
        Some((rate.to_string(), known.origin.to_string()))
    }

    #[test]
    fn the_uppermost_layer_counts_and_each_change_is_told() {
        let prices = Prices::new(Arc::new(FixedClock(7)));
        let see = |expected: Option<(&str, &str)>| {
            let expected = expected.map(|(rate, origin)| (rate.to_owned(), origin.to_owned()));
            assert_eq!(input(&prices, "mine/gpt-4o", Some("openai")), expected);
        };
        see(Some(("2.5", "built-in")));
        let source: Arc<str> = "list.json".into();
        let order = [source.clone()];
        let list = r#"{"gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 2e-6}}"#;
        assert_eq!(prices.fetched(&source, document(list), &order).map(|change| change.models), Some(1));
        see(Some(("2", "list.json")));
        assert_eq!(prices.fetched(&source, document(list), &order), None, "the same again is no change");
        let push = |text| prices.push(document(text)).unwrap();
        push(r#"{"gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 3e-6}}"#);
        see(Some(("3", "pushed")));
        push(r#"{"models": {"mine/gpt-4o": {"percent": 50}}}"#);
        see(Some(("1.5", "pushed")));
        let Document::Own(own) = document(r#"{"models": {"mine/*": {"price": {"input": 9, "output": 9}}}}"#)
        else {
            panic!()
        };
        prices.configure(own, &order);
        see(Some(("9", "configuration")));
        prices.configure(Owns::default(), &[]);
        prices.withdraw(None);
        see(Some(("2.5", "built-in")));
        let told: Vec<_> =
            prices.changes().into_iter().map(|c| (c.revision, c.at_ms, c.origin.to_string())).collect();
        let origins = ["pushed", "configuration", "configuration", "pushed", "pushed", "list.json"];
        let expected: Vec<_> =
            origins.iter().zip((2..8).rev()).map(|(o, n)| (n, 7, (*o).to_owned())).collect();
        assert_eq!(told, expected);
        let first = &prices.changes()[5].differences[0];
        assert_eq!((first.model.as_str(), first.after.as_deref()), ("openai/gpt-4o", Some("input 2")));
    }

    #[test]
    fn a_source_in_our_own_form_prices_providers_without_a_preset() {
        let prices = Prices::new(Arc::new(FixedClock(0)));
        let (list, own): (Arc<str>, Arc<str>) = ("list.json".into(), "own.json".into());
        let order = [own.clone(), list.clone()];
        let fetched = |source, text| prices.fetched(source, document(text), &order).unwrap();
        fetched(&list, r#"{"gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 2e-6}}"#);
        let change = fetched(
            &own,
            r#"{"models": {"oa/ok": {"price": {"input": 4, "output": 8}}, "openai/*": {"percent": 50},
                "vllm/*": {"price": {"input": 1, "output": 1}}, "oa/same": {"like": "openai/gpt-4o"}}}"#,
        );
        assert_eq!(change.differences[0].after.as_deref(), Some("input 4, output 8"));
        for (target, preset, expected) in [
            ("oa/ok", None, Some("4")),
            ("vllm/any", None, Some("1")),
            ("oa/same", None, Some("1")),
            ("openai/gpt-4o", Some("openai"), Some("1")),
            ("oa/other", None, None),
        ] {
            let expected = expected.map(|rate| (rate.to_owned(), "own.json".to_owned()));
            assert_eq!(input(&prices, target, preset), expected, "{target}");
        }
        prices.push(document(r#"{"models": {"oa/ok": {"price": {"input": 5}}}}"#));
        assert_eq!(input(&prices, "oa/ok", None), Some(("5".into(), "pushed".into())));
    }

    #[test]
    fn what_is_said_of_one_model_stands_over_what_is_said_of_all() {
        let prices = Prices::new(Arc::new(FixedClock(0)));
        let Document::Own(own) = document(
            r#"{"models": {"openai/*": {"percent": 50, "max_output": 7}, "openai/gpt-4o*": {"max_output": 9},
                "openai/gpt-4o": {"context_window": 64000}, "openai/gpt-4o-mini": {"capabilities": ["tools"]},
                "openai/gpt-4.1": {"price": {"input": 8}}, "openai/gpt-4.1-mini": {"percent": 100},
                "openai/ours": {"like": "openai/gpt-4o"}}}"#,
        ) else {
            panic!()
        };
        prices.configure(own, &[]);
        for (model, rate, window, output) in [
            ("gpt-4o", "1.25", 64_000, 9),
            ("gpt-4o-mini", "0.075", 128_000, 9),
            ("gpt-4.1", "8", 1_047_576, 7),
            ("gpt-4.1-mini", "0.4", 1_047_576, 7),
            ("gpt-4.1-nano", "0.05", 1_047_576, 7),
            // The other model's price and facts, at the terms of this provider.
            ("ours", "1.25", 128_000, 16_384),
        ] {
            let target = format!("openai/{model}");
            let expected = Some((rate.to_owned(), "configuration".to_owned()));
            assert_eq!(input(&prices, &target, Some("openai")), expected, "{model}");
            let known = prices.book().of(&TargetName::parse(&target).unwrap(), Some("openai")).unwrap();
            let facts = (known.model.context_window, known.model.max_output);
            assert_eq!(facts, (Some(window), Some(output)), "{model}");
        }
    }

    #[test]
    fn what_is_like_a_model_that_nobody_lists_is_found() {
        let Document::Own(own) = document(
            r#"{"models": {"up/typo": {"like": "openai/gpt-4ooo"}, "up/good": {"like": "openai/gpt-4o"},
                "up/dated": {"like": "openai/gpt-4o-2031-01-01"}, "up/plain": {"percent": 50}}}"#,
        ) else {
            panic!()
        };
        assert_eq!(Book::default().unlisted(&own), [("up/typo", "openai/gpt-4ooo")]);
    }

    #[test]
    fn whoever_holds_a_book_sees_no_change() {
        let prices = Prices::new(Arc::new(FixedClock(0)));
        let held = prices.book();
        prices.push(document(r#"{"models": {"openai/gpt-4o": {"price": {"input": 99}}}}"#));
        let target = TargetName::parse("openai/gpt-4o").unwrap();
        let of = |book: &Book| {
            book.of(&target, Some("openai")).unwrap().price().unwrap().rate(
                Unit::Input,
                0,
                super::super::When::default(),
            )
        };
        assert_eq!((of(&held).unwrap().0, of(&prices.book()).unwrap().0), (2_500_000, 99_000_000));
    }

    #[test]
    fn what_is_taken_of_reserved_capacity_stays_taken() {
        let prices = Prices::new(Arc::new(FixedClock(0)));
        let target = TargetName::parse("a/b").unwrap();
        let set = |tokens: u64| {
            let text = format!(
                r#"{{"models": {{"a/b": {{"price": {{"input": 1}}, "reserved": {{"tokens": {tokens}, "per": "month"}}}}}}}}"#
            );
            let Document::Own(own) = document(&text) else { panic!() };
            prices.configure(own, &[]);
        };
        let left =
            || prices.book().of(&target, None).unwrap().price().unwrap().reserved.as_ref().unwrap().left(0);
        set(100);
        let usage = crate::chat::Usage { input: 60, ..Default::default() };
        prices
            .book()
            .of(&target, None)
            .unwrap()
            .price()
            .unwrap()
            .settle(&usage, super::super::When::default());
        assert_eq!(left(), 40);
        set(100);
        assert_eq!(left(), 40, "a reload");
        set(200);
        assert_eq!(left(), 200, "other terms");
    }
}
