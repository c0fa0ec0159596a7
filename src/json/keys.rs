//! Duplicate keys, found in linear time: a short list for small objects, a hash set for large ones.

use std::borrow::Cow;
use std::collections::HashSet;

use super::scan::word;
use super::tree;

/// Objects with more keys than this get a hash set. SipHash with a random key, so that nobody can aim at collisions.
const FEW: usize = 24;

/// The keys of all objects that are open while the gate reads, innermost last.
pub(super) struct Keys<'a> {
    text: &'a str,
    open: Vec<(u64, Key)>,
}

/// Where a key stands between its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Behind the opening quote.
    pub(super) start: usize,
    /// The closing quote.
    pub(super) end: usize,
    /// Whether the key has escapes.
    pub(super) escaped: bool,
}

/// The keys of one object: where they begin in [`Keys`], and the set once they are many.
pub(super) struct Scope<'a> {
    base: usize,
    many: Option<HashSet<Cow<'a, str>>>,
}

impl<'a> Keys<'a> {
    /// No keys of `text` yet.
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, open: Vec::with_capacity(32) }
    }

    /// Opens an object.
    pub(super) fn open(&self) -> Scope<'a> {
        Scope { base: self.open.len(), many: None }
    }

    /// Closes the object, which must be the innermost.
    pub(super) fn close(&mut self, scope: &Scope<'a>) {
        self.open.truncate(scope.base);
    }

    /// Adds a key to the innermost object; false when it has the key already.
    #[inline]
    pub(super) fn insert(&mut self, scope: &mut Scope<'a>, key: Key) -> bool {
        let tag = if key.escaped {
            let text = key.of(self.text);
            tag(text.as_bytes(), 0, text.len())
        } else {
            tag(self.text.as_bytes(), key.start, key.end - key.start)
        };
        let mine = self.open.get(scope.base..).unwrap_or_default();
        if mine.len() < FEW && mine.iter().all(|(other, _)| *other != tag) {
            self.open.push((tag, key));
            return true;
        }
        self.insert_with_care(scope, tag, key)
    }

    #[cold]
    fn insert_with_care(&mut self, scope: &mut Scope<'a>, tag: u64, key: Key) -> bool {
        let mine = self.open.get(scope.base..).unwrap_or_default();
        let name = key.of(self.text);
        if mine.len() < FEW {
            let is_new = mine.iter().all(|(other, key)| *other != tag || key.of(self.text) != name);
            self.open.push((tag, key));
            return is_new;
        }
        let all = || mine.iter().map(|(_, key)| key.of(self.text)).collect();
        scope.many.get_or_insert_with(all).insert(name)
    }
}

impl Key {
    /// The key in `text`, with its escapes resolved.
    pub(super) fn of(self, text: &str) -> Cow<'_, str> {
        if self.escaped {
            return text.get(self.start - 1..self.end + 1).map(unescape).unwrap_or_default();
        }
        Cow::Borrowed(text.get(self.start..self.end).unwrap_or_default())
    }
}

/// Resolves the escapes of a string that passed the gate, given with its quotes.
pub(super) fn unescape(quoted: &str) -> Cow<'_, str> {
    // The gate has checked the escapes, so they are read; were it not so, the raw text would be as good.
    tree::unescape(quoted).map_or(Cow::Borrowed(quoted), Cow::Owned)
}

/// Tells most keys apart by their length, beginning and end; equal tags are compared in full. `bytes` may go on
/// behind the key, which saves looking at single bytes.
#[inline]
fn tag(bytes: &[u8], start: usize, length: usize) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (head, tail) = match word(bytes, start) {
        Some(head) if length >= 8 => (head, word(bytes, start + length - 8).unwrap_or_default()),
        Some(word) => (word & !(u64::MAX << (8 * length)), 0),
        None => {
            let key = bytes.get(start..start + length).unwrap_or_default();
            (key.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)), 0)
        }
    };
    (head ^ tail.rotate_left(29) ^ (length as u64) << 56).wrapping_mul(ODD)
}
