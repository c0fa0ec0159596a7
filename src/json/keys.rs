//! Duplicate keys, found in linear time: a short list for small objects, a hash set for large ones.

use std::borrow::Cow;
use std::collections::HashSet;

/// Objects with more keys than this get a hash set. SipHash with a random key, so that nobody can aim at collisions.
const FEW: usize = 24;

/// The keys of all objects that are open while the gate reads, innermost last.
#[derive(Default)]
pub(super) struct Keys<'a> {
    tags: Vec<u64>,
    names: Vec<Key<'a>>,
}

/// A key as written between its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    /// Without the quotes, escapes as they are.
    pub(super) raw: &'a str,
    /// Whether `raw` has escapes.
    pub(super) escaped: bool,
}

/// The keys of one object: where they begin in [`Keys`], and the set once they are many.
pub(super) struct Scope<'a> {
    base: usize,
    many: Option<HashSet<Cow<'a, str>>>,
}

impl<'a> Keys<'a> {
    /// Opens an object.
    pub(super) fn open(&self) -> Scope<'a> {
        Scope { base: self.tags.len(), many: None }
    }

    /// Closes the object, which must be the innermost.
    pub(super) fn close(&mut self, scope: &Scope<'a>) {
        self.tags.truncate(scope.base);
        self.names.truncate(scope.base);
    }

    /// Adds a key to the innermost object; false when it has the key already.
    pub(super) fn insert(&mut self, scope: &mut Scope<'a>, key: Key<'a>) -> bool {
        if let Some(many) = &mut scope.many {
            return many.insert(key.text());
        }
        let tag = if key.escaped { tag(key.text().as_bytes()) } else { tag(key.raw.as_bytes()) };
        let tags = self.tags.get(scope.base..).unwrap_or_default();
        if tags.contains(&tag) && self.has(scope, tag, key) {
            return false;
        }
        if tags.len() < FEW {
            self.tags.push(tag);
            self.names.push(key);
            return true;
        }
        let names = self.names.get(scope.base..).unwrap_or_default();
        let mut many: HashSet<_> = names.iter().map(|name| name.text()).collect();
        many.insert(key.text());
        scope.many = Some(many);
        true
    }

    #[cold]
    fn has(&self, scope: &Scope<'a>, tag: u64, key: Key<'a>) -> bool {
        let mine = self.tags.iter().zip(&self.names).skip(scope.base);
        mine.into_iter().any(|(&other, name)| other == tag && name.text() == key.text())
    }
}

impl<'a> Key<'a> {
    /// The key with its escapes resolved.
    pub(super) fn text(self) -> Cow<'a, str> {
        if self.escaped { unescape(self.raw) } else { Cow::Borrowed(self.raw) }
    }
}

/// Resolves the escapes of a string that passed the gate, given without its quotes.
pub(super) fn unescape(raw: &str) -> Cow<'_, str> {
    // The gate has checked the escapes, so the parser takes the text; were it not so, the raw text would be as good.
    serde_json::from_str::<String>(&format!("\"{raw}\"")).map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// Tells most keys apart by their length, beginning and end; equal tags are compared in full.
#[inline]
fn tag(key: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (head, tail) = match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => (key.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)), 0),
    };
    (head ^ tail.rotate_left(29) ^ (key.len() as u64) << 56).wrapping_mul(ODD)
}
