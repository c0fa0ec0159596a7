//! Taking typed fields out of a JSON object, with the path of whatever has the wrong type.

use std::fmt;

use serde_json::Value;

use super::super::param::{missing, wrong_type};
use crate::chat::Object;
use crate::fault::{Fault, FaultKind};
use crate::json;

/// Where a value stands in the request; written out only when something is wrong there.
pub(in crate::api) enum Place<'a> {
    /// The request itself.
    Root,
    /// Below a key.
    Key(&'a Place<'a>, &'static str),
    /// An element of an array.
    Index(&'a Place<'a>, usize),
}

impl Place<'_> {
    pub(in crate::api) fn key(&self, key: &'static str) -> Place<'_> {
        Place::Key(self, key)
    }

    pub(in crate::api) fn index(&self, index: usize) -> Place<'_> {
        Place::Index(self, index)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(above, key) => write!(f, "{above}.{key}"),
            Self::Index(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

/// So many keys are compared one by one.
const FEW: usize = 12;

/// The fields of an object that nobody has taken yet. `null` counts as missing.
pub(in crate::api) struct Record<'a> {
    fields: Object,
    place: &'a Place<'a>,
}

impl<'a> Record<'a> {
    pub(in crate::api) fn new(fields: Object, place: &'a Place<'a>) -> Self {
        Self { fields, place }
    }

    pub(in crate::api) fn peek(&self, key: &str) -> Option<&Value> {
        self.fields.get(key)
    }

    pub(in crate::api) fn take(&mut self, key: &str) -> Option<Value> {
        // Most fields are asked for in vain, and most objects have few: comparing is quicker than hashing then.
        if self.fields.len() <= FEW && !self.fields.keys().any(|known| known == key) {
            return None;
        }
        match self.fields.shift_remove(key) {
            None | Some(Value::Null) => None,
            value => value,
        }
    }

    pub(in crate::api) fn text(&mut self, key: &'static str) -> Result<Option<String>, Fault> {
        self.take(key).map(|value| text(value, &self.place.key(key))).transpose()
    }

    pub(in crate::api) fn object(&mut self, key: &'static str) -> Result<Option<Object>, Fault> {
        self.take(key).map(|value| object(value, &self.place.key(key))).transpose()
    }

    /// An array; a missing one is empty.
    pub(in crate::api) fn list(&mut self, key: &'static str) -> Result<Vec<Value>, Fault> {
        Ok(self.take(key).map(|value| list(value, &self.place.key(key))).transpose()?.unwrap_or_default())
    }

    pub(in crate::api) fn flag(&mut self, key: &'static str) -> Result<Option<bool>, Fault> {
        self.scalar(key, "a boolean", Value::as_bool)
    }

    pub(in crate::api) fn number(&mut self, key: &'static str) -> Result<Option<f64>, Fault> {
        self.scalar(key, "a number", Value::as_f64)
    }

    pub(in crate::api) fn count(&mut self, key: &'static str) -> Result<Option<u64>, Fault> {
        self.scalar(key, "a non-negative integer", Value::as_u64)
    }

    pub(in crate::api) fn integer(&mut self, key: &'static str) -> Result<Option<i64>, Fault> {
        self.scalar(key, "an integer", Value::as_i64)
    }

    pub(in crate::api) fn need_text(&mut self, key: &'static str) -> Result<String, Fault> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    pub(in crate::api) fn need_object(&mut self, key: &'static str) -> Result<Object, Fault> {
        self.object(key)?.ok_or_else(|| self.missing(key))
    }

    pub(in crate::api) fn need_list(&mut self, key: &'static str) -> Result<Vec<Value>, Fault> {
        let value = self.take(key).ok_or_else(|| self.missing(key))?;
        list(value, &self.place.key(key))
    }

    /// Puts the unread fields of an object back, so that they travel on.
    pub(in crate::api) fn keep(&mut self, key: &str, fields: Object) {
        if !fields.is_empty() {
            self.fields.insert(key.to_owned(), Value::Object(fields));
        }
    }

    /// Puts a value back.
    pub(in crate::api) fn put(&mut self, key: &str, value: Value) {
        self.fields.insert(key.to_owned(), value);
    }

    /// What nobody has taken.
    pub(in crate::api) fn rest(self) -> Object {
        self.fields
    }

    /// Notes what nobody has taken as lost; a `type` gives the form and says nothing more.
    pub(in crate::api) fn close(self, lost: &mut Vec<String>) {
        for (key, value) in self.fields {
            if !value.is_null() && key != "type" {
                lost.push(format!("{}.{key}", self.place));
            }
        }
    }

    fn scalar<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let wrong = || wrong_type(self.place.key(key).to_string(), expected, kind(&value));
        read(&value).map(Some).ok_or_else(wrong)
    }

    pub(in crate::api) fn missing(&self, key: &'static str) -> Fault {
        missing(self.place.key(key).to_string())
    }
}

/// The fields of a body that passed the gate.
pub(in crate::api) fn parse(bytes: &[u8]) -> Result<Object, Fault> {
    match json::parse(bytes) {
        Some(Value::Object(fields)) => Ok(fields),
        _ => {
            Err(Fault::new(FaultKind::BadRequest, "the request body is not a JSON object")
                .code("json_invalid"))
        }
    }
}

pub(in crate::api) fn text(value: Value, place: &Place<'_>) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(place.to_string(), "a string", kind(&other))),
    }
}

pub(in crate::api) fn object(value: Value, place: &Place<'_>) -> Result<Object, Fault> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(wrong_type(place.to_string(), "an object", kind(&other))),
    }
}

pub(in crate::api) fn list(value: Value, place: &Place<'_>) -> Result<Vec<Value>, Fault> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(wrong_type(place.to_string(), "an array", kind(&other))),
    }
}

/// What a value is, for a message.
pub(in crate::api) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
