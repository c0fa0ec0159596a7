//! How words are written: `req.texts(role: text) → list of text`, read into names, parameters and types.

use super::{KINDS, Kind, Row};

/// One word of the vocabulary.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The record in the table.
    pub row: &'static Row,
    /// The bare name.
    pub name: &'static str,
    /// What it is asked of; nothing for functions that stand alone.
    pub on: Option<&'static Kind>,
    /// How it is written.
    pub form: Form,
    /// Its arguments, without the value before the dot.
    pub parameters: Vec<Parameter>,
    /// What it gives.
    pub gives: Type,
}

/// How a word is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `req.model`.
    Property,
    /// `req.headers["x-tier"]`.
    Indexed,
    /// `req.tag(…)`.
    Method,
    /// `route(…)`.
    Function,
}

/// An argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub takes: Type,
}

/// What a value is, in the words of the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type {
    /// `text`, `number`, `decimal`, `true/false`, `list`, `map`, `anything`, `nothing`, or the name of a [`Kind`].
    pub word: &'static str,
    /// Many of them.
    pub list: bool,
    /// It may be `()`.
    pub optional: bool,
}

/// A value of any type.
pub(in crate::policy) const ANYTHING: Type = Type { word: "anything", list: false, optional: false };
const NOTHING: Type = Type { word: "nothing", ..ANYTHING };

impl Entry {
    pub(super) fn read(row: &'static Row) -> Self {
        let (written, gives) = match row.signature.split_once(" → ") {
            Some((written, gives)) => (written, Type::read(gives)),
            None => (row.signature, NOTHING),
        };
        let end = written.find(['(', '[']).unwrap_or(written.len());
        let (head, rest) = written.split_at(end);
        let (receiver, name) = match head.rsplit_once('.') {
            Some((receiver, name)) => (Some(receiver), name),
            None => (None, head),
        };
        let on = receiver.and_then(|receiver| KINDS.iter().copied().find(|kind| kind.receiver == receiver));
        let form = match (rest.as_bytes().first(), on) {
            (Some(b'('), None) => Form::Function,
            (Some(b'('), Some(_)) => Form::Method,
            (Some(_), _) => Form::Indexed,
            (None, _) => Form::Property,
        };
        let parameters = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let parameters = parameters.map(|all| split(all).map(Parameter::read).collect()).unwrap_or_default();
        Self { row, name, on, form, parameters, gives }
    }

    /// Whether it stands behind a dot.
    pub fn is_method(&self) -> bool {
        self.form == Form::Method
    }

    /// Whether it is written without parentheses.
    pub fn is_property(&self) -> bool {
        matches!(self.form, Form::Property | Form::Indexed)
    }
}

impl Parameter {
    fn read(text: &'static str) -> Self {
        match text.split_once(": ") {
            Some((name, takes)) => Self { name, takes: Type::read(takes) },
            None => Self { name: text, takes: ANYTHING },
        }
    }
}

impl Type {
    fn read(text: &'static str) -> Self {
        let (text, optional) = match text.strip_suffix(" or ()") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (word, list) = match text.strip_prefix("list of ") {
            Some(word) => (word, true),
            None => (text, false),
        };
        let known = ["text", "number", "decimal", "true/false", "list", "map"].contains(&word);
        let word = if known || Kind::named(word).is_some() { word } else { ANYTHING.word };
        Self { word, list, optional }
    }

    /// The kind of host value that it is, if it is one.
    pub(in crate::policy) fn kind(self) -> Option<&'static Kind> {
        if self.list { None } else { Kind::named(self.word) }
    }

    /// One of the list.
    pub(in crate::policy) fn item(self) -> Self {
        if self.list { Self { list: false, optional: false, ..self } } else { ANYTHING }
    }
}

/// Arguments are separated by commas outside of brackets.
fn split(all: &'static str) -> impl Iterator<Item = &'static str> {
    let mut rest = all;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut depth = 0_usize;
        let end = rest.char_indices().find(|(_, c)| {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            *c == ',' && depth == 0
        });
        let (one, after) = match end {
            Some((end, _)) => (&rest[..end], &rest[end + 1..]),
            None => (rest, ""),
        };
        rest = after;
        Some(one.trim())
    })
}
