//! The messages of a body, one after the other. Most are nothing but a role and a text: these are read where they
//! stand, and their texts stay in the body.

use serde_json::Value;

use super::record::{Place, list};
use crate::api::openai_chat::param::missing;
use crate::chat::Object;
use crate::fault::Fault;
use crate::json::{self, Body, Elements, Text};

/// A message.
pub(in crate::api) enum Turn<'a> {
    /// A role and a text.
    Plain(&'a str, Text),
    /// Anything else.
    Other(Value),
}

/// The fields of a body that passed the gate, except for one that is read apart.
pub(in crate::api) fn beside(body: &Body, apart: &str) -> Object {
    let fields = body.fields().iter().filter(|field| field.key != apart);
    fields.map(|field| (field.key.to_string(), json::parse(body.value(field)).unwrap_or_default())).collect()
}

/// The messages of the array `key`.
///
/// # Errors
/// `BadRequest` where the field is missing or no array.
pub(in crate::api) fn of<'a>(body: &'a Body, key: &'static str) -> Result<Turns<'a>, Fault> {
    let place = Place::Root.key(key);
    match body.raw(key) {
        None | Some("null") => Err(missing(key)),
        Some(raw) if raw.starts_with('[') => Ok(Turns { body, elements: json::elements(raw) }),
        Some(raw) => Err(list(json::parse(raw.as_bytes()).unwrap_or_default(), &place)
            .err()
            .unwrap_or_else(|| missing(key))),
    }
}

/// See [`of`].
pub(in crate::api) struct Turns<'a> {
    body: &'a Body,
    elements: Elements<'a>,
}

impl<'a> Iterator for Turns<'a> {
    type Item = Turn<'a>;

    fn next(&mut self) -> Option<Turn<'a>> {
        let (role, content) = match self.elements.pair() {
            Some([("role", role), ("content", content)] | [("content", content), ("role", role)]) => {
                (role, content)
            }
            Some(pair) => {
                let read = |(key, raw): (&str, &str)| {
                    let key = json::text(&format!("\"{key}\"")).unwrap_or_default().into_owned();
                    (key, json::parse(raw.as_bytes()).unwrap_or_default())
                };
                return Some(Turn::Other(Value::Object(pair.into_iter().map(read).collect())));
            }
            None => {
                let raw = self.elements.next()?;
                return Some(Turn::Other(json::parse(raw.as_bytes()).unwrap_or_default()));
            }
        };
        let role = role.get(1..role.len() - 1)?;
        Some(Turn::Plain(role, Text::written(self.body.bytes().slice_ref(content.as_bytes()))))
    }
}
