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
    let mut beside = Object::with_capacity(body.fields().len());
    for field in body.fields().iter().filter(|field| field.key != apart) {
        beside.insert(field.key.to_string(), json::parse(body.value(field)).unwrap_or_default());
    }
    beside
}

/// The messages of the array `key`.
///
/// # Errors
/// `BadRequest` where the field is missing or no array.
pub(in crate::api) fn of<'a>(body: &'a Body, key: &'static str) -> Result<Turns<'a>, Fault> {
    let place = Place::Root.key(key);
    match body.raw_bytes(key) {
        None | Some(b"null") => Err(missing(key)),
        Some([b'[', ..]) => Ok(Turns { body, elements: body.elements(key) }),
        Some(raw) => {
            Err(list(json::parse(raw).unwrap_or_default(), &place).err().unwrap_or_else(|| missing(key)))
        }
    }
}

/// See [`of`].
pub(in crate::api) struct Turns<'a> {
    body: &'a Body,
    elements: Elements<'a, [u8]>,
}

/// How messages begin as most SDKs write them, and who speaks in each.
const USUAL: [(&[u8], &str); 4] = [
    (b"{\"role\":\"user\",\"content\":", "user"),
    (b"{\"role\":\"assistant\",\"content\":", "assistant"),
    (b"{\"role\":\"system\",\"content\":", "system"),
    (b"{\"role\":\"developer\",\"content\":", "developer"),
];

impl<'a> Iterator for Turns<'a> {
    type Item = Turn<'a>;

    fn next(&mut self) -> Option<Turn<'a>> {
        let text = |content| Text::written(self.body.bytes().slice_ref(content));
        if let Some((which, content)) = self.elements.after(&USUAL.map(|(beginning, _)| beginning))
            && let Some((_, role)) = USUAL.get(which)
        {
            return Some(Turn::Plain(role, text(content)));
        }
        let (role, content) = match self.elements.pair() {
            Some([(b"role", role), (b"content", content)] | [(b"content", content), (b"role", role)]) => {
                (role, content)
            }
            Some(pair) => {
                let read = |(key, raw): (&[u8], &[u8])| {
                    let key =
                        json::text(&format!("\"{}\"", json::text_of(key))).unwrap_or_default().into_owned();
                    (key, json::parse(raw).unwrap_or_default())
                };
                return Some(Turn::Other(Value::Object(pair.into_iter().map(read).collect())));
            }
            None => return Some(Turn::Other(json::parse(self.elements.next()?).unwrap_or_default())),
        };
        let role = std::str::from_utf8(role.get(1..role.len() - 1)?).ok()?;
        Some(Turn::Plain(role, text(content)))
    }
}
