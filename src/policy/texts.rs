//! Functions of the language over texts whose result may be much larger than what they are given: the same, but what
//! would be too large is not made in the first place.

use rhai::{Array, Dynamic, Engine, ImmutableString};

use super::engine::{ELEMENTS, STRING_BYTES};
use super::request::{Outcome, fault};

/// Puts them in place of the language's own.
pub(super) fn register(engine: &mut Engine) {
    engine
        .register_fn("replace", |text: &mut ImmutableString, find: &str, with: &str| {
            replace(text, find, with)
        })
        .register_fn("replace", |text: &mut ImmutableString, find: &str, with: char| {
            replace(text, find, with.encode_utf8(&mut [0; 4]))
        })
        .register_fn("replace", |text: &mut ImmutableString, find: char, with: &str| {
            replace(text, find.encode_utf8(&mut [0; 4]), with)
        })
        .register_fn("replace", |text: &mut ImmutableString, find: char, with: char| {
            replace(text, find.encode_utf8(&mut [0; 4]), with.encode_utf8(&mut [0; 4]))
        })
        .register_fn("split", |text: &str| list("split", text.split_whitespace()))
        .register_fn("split", |text: &str, by: &str| list("split", text.split(by)))
        .register_fn("split", |text: &str, by: char| list("split", text.split(by)))
        .register_fn("split_rev", |text: &str, by: &str| list("split_rev", text.rsplit(by)))
        .register_fn("split_rev", |text: &str, by: char| list("split_rev", text.rsplit(by)))
        .register_fn("to_chars", |text: &str| list("to_chars", text.chars()));
}

fn replace(text: &mut ImmutableString, find: &str, with: &str) -> Outcome<()> {
    let places =
        if find.is_empty() { text.chars().count() + 1 } else { text.matches(find).take(MANY).count() };
    let grown = places.saturating_mul(with.len().saturating_sub(find.len())).saturating_add(text.len());
    if grown > STRING_BYTES {
        return Err(fault(format!("replace: the text would be larger than {STRING_BYTES} bytes")));
    }
    *text = text.replace(find, with).into();
    Ok(())
}

/// More places than a text of the largest size can have.
const MANY: usize = STRING_BYTES;

fn list<T: Into<Dynamic>>(function: &str, parts: impl Iterator<Item = T>) -> Outcome<Array> {
    let list: Array = parts.take(ELEMENTS + 1).map(Into::into).collect();
    if list.len() > ELEMENTS {
        return Err(fault(format!("{function}: the list would have more than {ELEMENTS} elements")));
    }
    Ok(list)
}
