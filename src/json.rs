//! The strict JSON gate: every request body is read here once, so that policy and provider see the same request.
//!
//! Shallow reading (positions of the top-level fields) and splicing stand beside it: what need not change is never
//! parsed, copied or written again.

mod flaw;
mod gate;
mod halves;
mod inlined;
mod keys;
mod rename;
mod scan;
mod splice;
mod text;
mod tree;
mod walk;
mod write;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::fault::Fault;
pub use halves::Halves;
pub use inlined::Inlined;
pub use rename::rename;
pub use splice::Splice;
pub use text::Text;
pub use tree::parse;
pub use walk::{Elements, elements, entries, text};
pub use write::{Verbatim, object_to_text, object_with, to_text, write_text, write_value};

/// Levels of nesting that the gate lets through; the top-level object is the first.
pub const MAX_DEPTH: usize = 64;

/// The text that a provider sent; what is no UTF-8 in it is replaced.
pub fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    simdutf8::basic::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// A JSON object that passed the gate: valid UTF-8 without a byte-order mark, one value, no duplicate keys at any
/// depth, at most [`MAX_DEPTH`] levels, no lone surrogates, no number that a parser would refuse.
#[derive(Debug, Clone)]
pub struct Body {
    bytes: Bytes,
    fields: Vec<Field>,
    ours: bool,
    inlined: Inlined,
    long: Vec<Range<usize>>,
}

/// One top-level field.
#[derive(Debug, Clone)]
pub struct Field {
    /// The key, unescaped.
    pub key: Cow<'static, str>,
    /// From the opening quote of the key to the end of the value.
    pub span: Range<usize>,
    /// The value's bytes.
    pub value: Range<usize>,
    /// Number of elements of an array or of entries of an object; 0 for any other value.
    pub items: usize,
}

impl Body {
    /// Reads a request body through the gate.
    ///
    /// # Errors
    /// `BadRequest` with the code `json_invalid`, `json_duplicate_key`, `json_too_deep` or `json_not_object`.
    /// The message says where (line, column, and the path of a duplicate), never what stands there.
    pub fn read(bytes: Bytes) -> Result<Self, Fault> {
        let gate::Passed { fields, ours, inlined, long } =
            gate::read(&bytes).map_err(|flaw| flaw.into_fault(&bytes))?;
        Ok(Self { bytes, fields, ours, inlined, long })
    }

    /// The bytes as the client sent them.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether the client may have brought something back that this house wrote into an answer: a wrapped proof, or
    /// thinking in OpenAI's dialect. Where it is false, nobody has to look for them.
    pub fn may_hold_ours(&self) -> bool {
        self.ours
    }

    /// Pictures, sound and files that stand in it themselves.
    pub fn inlined(&self) -> Inlined {
        self.inlined
    }

    /// Top-level fields in the order written.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// A top-level field.
    pub fn field(&self, key: &str) -> Option<&Field> {
        self.fields.iter().find(|field| &*field.key == key)
    }

    /// The JSON text of a top-level field.
    pub fn raw(&self, key: &str) -> Option<&str> {
        // Known to be UTF-8, but only unsafe code could say so for free; this runs at memory speed.
        simdutf8::basic::from_utf8(self.raw_bytes(key)?).ok()
    }

    /// The JSON text of a top-level field as bytes: the cheaper way to large values.
    pub fn raw_bytes(&self, key: &str) -> Option<&[u8]> {
        self.field(key).map(|field| self.value(field))
    }

    /// The JSON text of `field`, which is one of [`Body::fields`], as bytes.
    pub fn value(&self, field: &Field) -> &[u8] {
        self.bytes.get(field.value.clone()).unwrap_or_default()
    }

    /// The elements of the top-level array `key`; empty where there is none. Long strings in them are passed over without
    /// a look, because the gate has seen where they end.
    pub fn elements(&self, key: &str) -> Elements<'_, [u8]> {
        let value = self.field(key).map_or(0..0, |field| field.value.clone());
        walk::elements_at(&self.bytes, value, &self.long)
    }

    /// A value of the object that stands in the field `object`: a string as it is, anything else as JSON text.
    pub fn entry(&self, object: &str, key: &str) -> Option<String> {
        let (_, raw) = entries(self.raw(object)?).find(|(name, _)| name == key)?;
        Some(text(raw).map_or_else(|| raw.to_owned(), Cow::into_owned))
    }

    /// The text of a top-level string; `None` where the field is missing or is not a string.
    pub fn str(&self, key: &str) -> Option<Cow<'_, str>> {
        text(self.raw(key)?)
    }

    /// The value of a top-level `true` or `false`.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.raw(key)? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The value of a top-level number that is written as a plain integer from 0 to 2^64 - 1.
    pub fn u64(&self, key: &str) -> Option<u64> {
        let raw = self.raw(key)?;
        raw.starts_with(|c: char| c.is_ascii_digit()).then(|| raw.parse().ok())?
    }

    /// Feeds what it says to `feed`, the same for bodies that say the same: top-level fields in the order of their names,
    /// without those in `aside`, and without white space between what is said.
    pub fn canonical(&self, aside: &[&str], feed: &mut dyn FnMut(&[u8])) {
        let mut fields: Vec<&Field> =
            self.fields.iter().filter(|field| !aside.contains(&&*field.key)).collect();
        fields.sort_by(|a, b| a.key.cmp(&b.key));
        let mut plain = Vec::new();
        for field in fields {
            feed(field.key.as_bytes());
            plain.clear();
            without_space(self.value(field), &mut plain);
            feed(&plain);
        }
    }

    /// Whether a top-level field is there and is not `null`.
    pub fn has(&self, key: &str) -> bool {
        self.raw_bytes(key).is_some_and(|raw| raw != b"null")
    }
}

/// JSON without white space outside of its texts.
fn without_space(json: &[u8], out: &mut Vec<u8>) {
    let mut rest = json;
    while let Some(at) = memchr::memchr(b'"', rest) {
        let (before, text) = rest.split_at(at);
        out.extend(before.iter().filter(|byte| !byte.is_ascii_whitespace()));
        let end = end_of_text(text);
        out.extend_from_slice(text.get(..end).unwrap_or(text));
        rest = text.get(end..).unwrap_or_default();
    }
    out.extend(rest.iter().filter(|byte| !byte.is_ascii_whitespace()));
}

/// How long the text is with which `json` begins, quotes included.
fn end_of_text(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', json.get(at..).unwrap_or_default()) {
        at += found + 1;
        if json.get(at - 1) == Some(&b'"') {
            return at;
        }
        at += 1;
    }
    json.len()
}

#[cfg(test)]
mod tests;
