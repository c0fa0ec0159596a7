//! What is asked of a request by name: headers, metadata, tags, and the turns of its conversation.

use std::sync::Arc;

use rhai::{Array, Dynamic, ImmutableString};

use super::{Pair, Request, or_unit};
use crate::facts::{self, Answer};

/// `req.headers["x-tier"]`.
#[derive(Clone)]
pub(in crate::policy) struct Headers(pub(super) Request);

/// `req.metadata["feature"]`.
#[derive(Clone)]
pub(in crate::policy) struct Metadata(pub(super) Request);

/// `req.tags["team"]`.
#[derive(Clone)]
pub(in crate::policy) struct Tags(pub(super) Request);

/// `req.guards["pii"]`.
#[derive(Clone)]
pub(in crate::policy) struct Guards(pub(super) Request);

/// One of `req.turns`.
#[derive(Clone)]
pub(in crate::policy) struct Turn {
    turn: Arc<facts::Turn>,
    of: Request,
}

impl Turn {
    pub(super) fn of(turn: facts::Turn, request: &Request) -> Self {
        Self { turn: Arc::new(turn), of: request.clone() }
    }

    pub(in crate::policy) fn role(&mut self) -> ImmutableString {
        self.turn.role.into()
    }

    pub(in crate::policy) fn text(&mut self) -> ImmutableString {
        if let Some(notes) = self.of.unspoken() {
            notes.miss("turn.text");
        }
        self.turn.text.as_str().into()
    }
}

impl Headers {
    pub(in crate::policy) fn entry(&mut self, name: &str) -> Dynamic {
        self.look_for(name);
        let mut values = self.0.0.facts.headers.get_all(name).iter();
        let Some(first) = values.next() else {
            self.0.0.asking.asked("header", name, Answer::Nothing);
            return Dynamic::UNIT;
        };
        let mut text = String::from_utf8_lossy(first.as_bytes()).into_owned();
        for value in values {
            text.push_str(", ");
            text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        }
        self.0.0.asking.asked("header", name, Answer::Text(text.as_str().into()));
        text.into()
    }

    pub(in crate::policy) fn has(&mut self, name: &str) -> bool {
        !self.entry(name).is_unit()
    }

    fn look_for(&self, name: &str) {
        if let Some(notes) = self.0.0.facts.body.notes() {
            notes.look_for_header(name);
        }
    }
}

impl Metadata {
    pub(in crate::policy) fn entry(&mut self, key: &str) -> Dynamic {
        let value = self.0.0.facts.body.metadata(key);
        self.0.0.asking.asked("metadata", key, value.as_deref().into());
        value.map_or(Dynamic::UNIT, Dynamic::from)
    }

    pub(in crate::policy) fn has(&mut self, key: &str) -> bool {
        !self.entry(key).is_unit()
    }
}

impl Guards {
    /// The kinds that this guard found.
    pub(in crate::policy) fn entry(&mut self, name: &str) -> Array {
        let key = format!("guard.{name}");
        let tags = &self.0.0.facts.tags;
        let value = tags.iter().rev().find(|(known, _)| **known == *key).map(|(_, value)| value);
        self.0.0.asking.asked("tag", &key, value.map(|value| &**value).into());
        value
            .map(|kinds| kinds.split(',').map(|kind| ImmutableString::from(kind).into()).collect())
            .unwrap_or_default()
    }
}

impl Tags {
    /// The last value of the key: of earlier policies and of this one before those of the client.
    pub(in crate::policy) fn entry(&mut self, key: &str) -> Dynamic {
        let find = |tags: &[Pair]| tags.iter().rev().find(|(k, _)| &**k == key).map(|(_, v)| v.clone());
        let added = find(&self.0.wishes().tags);
        let value = added.or_else(|| find(&self.0.0.facts.tags));
        self.0.0.asking.asked("tag", key, value.as_deref().into());
        or_unit(value.as_deref())
    }

    pub(in crate::policy) fn has(&mut self, key: &str) -> bool {
        !self.entry(key).is_unit()
    }
}
