//! Everything that policies can say, in one table: it feeds the script engine, the checks at load, the manual and the
//! definitions for editors.
//!
//! *Add a policy function* = one row in the sheet of its theme, below `vocabulary/`.

mod budgets;
mod definitions;
mod hooks;
mod manual;
mod market;
mod moment;
mod plugins;
mod rates;
mod request;
mod routes;
mod signature;
mod speech;

use std::fmt;
use std::sync::{Arc, LazyLock};

use rhai::Engine;

use super::engine::Host;
pub use definitions::{definitions, described};
pub use manual::reference;
pub(super) use signature::ANYTHING;
pub use signature::{Entry, Form, Type};

/// Words of one theme.
pub(super) struct Sheet {
    kinds: &'static [Kind],
    rows: &'static [Row],
}

/// All sheets, in the order of the manual.
const SHEETS: &[&Sheet] = &[
    &request::SHEET,
    &moment::SHEET,
    &market::SHEET,
    &budgets::SHEET,
    &rates::SHEET,
    &routes::SHEET,
    &hooks::SHEET,
    &plugins::SHEET,
    &speech::SHEET,
];

/// A kind of value that scripts get from the gateway.
pub struct Kind {
    /// Its name: `Request`.
    pub name: &'static str,
    /// What stands before the dot in signatures: `req`.
    pub receiver: &'static str,
    /// One of them, in messages: `a request`.
    pub noun: &'static str,
    /// What it is, for the manual: "What a request knows and can be asked".
    pub title: &'static str,
    /// It has properties that only the configuration knows.
    open: bool,
    register: fn(&mut Engine),
}

/// One record of the table.
pub struct Row {
    /// How it is written, with what it gives: `req.texts(role: text) → list of text`. Before the dot stands the
    /// receiver of a [`Kind`]; types are `text`, `number`, `decimal`, `true/false`, `list of …`, `map`, a kind's name,
    /// each with ` or ()` where it may be missing; any other words mean anything.
    pub signature: &'static str,
    /// What it means, in Markdown.
    pub doc: &'static str,
    /// Hooks in which it works.
    pub hooks: Hooks,
    /// What will bring it, and what to write until then; such words are refused at load.
    pub later: Option<&'static str>,
    /// All that a property can be, where that is a closed list: what it is compared with is checked at load.
    pub words: &'static [&'static str],
    register: Register,
}

/// Makes a word, by its bare name, known to an engine.
type Register = fn(&mut Engine, &'static str, &Arc<Host>);

/// A set of hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hooks(u8);

impl Hooks {
    /// `on_request`.
    pub const REQUEST: Self = Self(1);
    /// `on_error`.
    pub const ERROR: Self = Self(2);
    /// `on_response`.
    pub const RESPONSE: Self = Self(4);
    /// `on_complete`.
    pub const COMPLETE: Self = Self(8);
    /// All of them.
    pub const ALL: Self = Self(15);
    const NAMES: [(&'static str, Self); 4] = [
        ("on_request", Self::REQUEST),
        ("on_error", Self::ERROR),
        ("on_response", Self::RESPONSE),
        ("on_complete", Self::COMPLETE),
    ];

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The hook of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(hook, _)| *hook == name).map(|(_, hook)| *hook)
    }

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(_, hook)| self.has(*hook)).map(|(name, _)| *name).collect()
    }
}

/// A kind of value with these properties and no others.
const fn kind(
    name: &'static str,
    receiver: &'static str,
    noun: &'static str,
    title: &'static str,
    register: fn(&mut Engine),
) -> Kind {
    Kind { name, receiver, noun, title, open: false, register }
}

/// A row that works in every hook.
const fn row(signature: &'static str, doc: &'static str, register: Register) -> Row {
    Row { signature, doc, hooks: Hooks::ALL, later: None, words: &[], register }
}

/// A word that a later version brings.
const fn later(signature: &'static str, doc: &'static str, until: &'static str) -> Row {
    Row { signature, doc, hooks: Hooks::ALL, later: Some(until), words: &[], register: |_, _, _| {} }
}

impl Row {
    /// Works only in these hooks.
    const fn only_in(self, hooks: Hooks) -> Self {
        Self { hooks, ..self }
    }

    /// Is one of these words and no other.
    const fn one_of(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }
}

impl Kind {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().copied().find(|kind| kind.name == name)
    }

    /// The kind with this receiver.
    pub(super) fn received(receiver: &str) -> Option<&'static Self> {
        KINDS.iter().copied().find(|kind| kind.receiver == receiver)
    }

    /// Whether properties that the vocabulary does not know may exist.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// The type of one value of this kind.
    pub(super) fn of_one(&self) -> Type {
        Type { word: self.name, ..ANYTHING }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.signature)
    }
}

static KINDS: LazyLock<Vec<&'static Kind>> =
    LazyLock::new(|| SHEETS.iter().flat_map(|sheet| sheet.kinds).collect());

static WORDS: LazyLock<Vec<Entry>> =
    LazyLock::new(|| SHEETS.iter().flat_map(|sheet| sheet.rows).map(Entry::read).collect());

/// All words.
pub fn vocabulary() -> &'static [Entry] {
    &WORDS
}

/// Registers all words.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    for kind in KINDS.iter() {
        (kind.register)(engine);
    }
    for entry in vocabulary() {
        (entry.row.register)(engine, entry.name, host);
    }
}

/// Functions and methods of this name.
pub(super) fn named(name: &str) -> impl Iterator<Item = &'static Entry> {
    vocabulary().iter().filter(move |entry| entry.name == name && !entry.is_property())
}

/// What can be asked of values of this kind.
pub(super) fn of(kind: &'static Kind) -> impl Iterator<Item = &'static Entry> {
    vocabulary().iter().filter(move |entry| entry.on.is_some_and(|on| on.name == kind.name))
}

/// Names of properties of a request: each decision asks for some of them.
static PROPERTIES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let all = Kind::named("Request").into_iter().flat_map(of);
    all.filter(|entry| entry.is_property()).map(|entry| entry.name).collect()
});

/// Names of properties of a request.
pub(super) fn properties() -> impl Iterator<Item = &'static str> {
    PROPERTIES.iter().copied()
}

/// The name of the property at this place among the properties.
pub(super) fn property(place: usize) -> Option<&'static str> {
    PROPERTIES.get(place).copied()
}

/// The place of a property among the properties.
fn place(name: &str) -> usize {
    properties().position(|known| known == name).unwrap_or(usize::MAX)
}

/// Names of methods.
pub(super) fn methods<'a>() -> impl Iterator<Item = &'a str> {
    vocabulary().iter().filter(|entry| entry.is_method()).map(|entry| entry.name)
}

/// Names of functions and methods.
pub(super) fn function_names<'a>() -> impl Iterator<Item = &'a str> {
    vocabulary().iter().filter(|entry| !entry.is_property()).map(|entry| entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_say_what_is_taken_and_given() {
        let read = |name: &str| named(name).next().unwrap();
        assert_eq!(read("reject").parameters.len(), 3);
        assert_eq!(read("split").parameters.len(), 1);
        let texts = read("texts");
        assert_eq!((texts.on.unwrap().name, texts.form), ("Request", Form::Method));
        assert!(texts.gives.list && texts.gives.word == "text");
        let target = read("target");
        assert!(target.gives.optional && target.gives.kind().unwrap().name == "Target");
    }

    #[test]
    fn every_receiver_is_a_kind_and_every_word_is_explained() {
        for entry in vocabulary() {
            let signature = entry.row.signature;
            let dotted = signature.split(['(', '[', ' ']).next().unwrap().contains('.');
            assert_eq!(dotted, entry.on.is_some(), "{signature}");
            assert!(entry.row.doc.ends_with('.'), "{signature}");
        }
    }
}
