//! Places that are cut out of a text, and what stands there instead.

use std::borrow::Cow;

use serde_json::Value;

use crate::json;

/// Stands in the place of a text of which nothing may be seen.
pub(super) const ALL_GONE: &str = "[REDACTED]";

/// A place in a text, in bytes, and what stands there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) instead: String,
}

impl Cut {
    /// The whole of a text with so many bytes.
    pub(super) fn whole(length: usize) -> Self {
        Self { start: 0, end: length, instead: ALL_GONE.to_owned() }
    }
}

/// In order, and one where several overlap.
pub(super) fn sorted(mut cuts: Vec<Cut>) -> Vec<Cut> {
    cuts.retain(|cut| cut.start < cut.end);
    cuts.sort_by_key(|cut| (cut.start, usize::MAX - cut.end));
    let mut apart: Vec<Cut> = Vec::with_capacity(cuts.len());
    for cut in cuts {
        match apart.last_mut().filter(|last| cut.start < last.end) {
            Some(last) => last.end = last.end.max(cut.end),
            None => apart.push(cut),
        }
    }
    apart
}

/// The text without what is cut out; `cuts` are sorted.
pub(super) fn apply<'t>(text: &'t str, cuts: &[Cut]) -> Cow<'t, str> {
    if cuts.is_empty() {
        return text.into();
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), 0);
    for cut in cuts {
        out.push_str(text.get(rest..cut.start).unwrap_or_default());
        out.push_str(&cut.instead);
        rest = cut.end;
    }
    out.push_str(text.get(rest..).unwrap_or_default());
    out.into()
}

/// The texts within a JSON value, keys among them, each on a line of its own.
pub(super) fn texts(value: &Value) -> String {
    let mut all = String::new();
    gather(value, &mut all);
    all
}

fn gather(value: &Value, all: &mut String) {
    match value {
        Value::String(text) => line(text, all),
        Value::Array(items) => items.iter().for_each(|item| gather(item, all)),
        Value::Object(fields) => {
            for (key, field) in fields {
                line(key, all);
                gather(field, all);
            }
        }
        // A number may be one that must not be seen, such as that of a card.
        Value::Number(number) => line(&number.to_string(), all),
        _ => {}
    }
}

fn line(text: &str, all: &mut String) {
    if !all.is_empty() {
        all.push('\n');
    }
    all.push_str(text);
}

/// Cuts out of a JSON value what was found in its [`texts`].
pub(super) fn apply_within(value: &mut Value, cuts: &[Cut]) {
    if !cuts.is_empty() {
        Walk { at: 0, begun: false, cuts }.value(value);
    }
}

/// The way through a value, beside its texts.
struct Walk<'c> {
    at: usize,
    begun: bool,
    cuts: &'c [Cut],
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(cut) = self.text(text) {
                    *text = cut;
                }
            }
            Value::Number(number) => {
                if let Some(cut) = self.text(&number.to_string()) {
                    *value = Value::String(cut);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => json::rename(fields, |key, field| {
                let cut = self.text(key);
                self.value(field);
                cut
            }),
            _ => {}
        }
    }

    /// The next of the texts, where something is cut out of it.
    fn text(&mut self, text: &str) -> Option<String> {
        // An empty text at the beginning has no line of its own.
        let start = if self.begun { self.at + 1 } else { 0 };
        let end = start + text.len();
        self.begun |= end > 0;
        self.at = end;
        let own: Vec<Cut> = self
            .cuts
            .iter()
            .filter(|cut| cut.start < end && cut.end > start)
            .map(|cut| Cut {
                start: cut.start.max(start) - start,
                end: cut.end.min(end) - start,
                instead: cut.instead.clone(),
            })
            .collect();
        (!own.is_empty()).then(|| apply(text, &own).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cut(start: usize, end: usize, instead: &str) -> Cut {
        Cut { start, end, instead: instead.into() }
    }

    #[test]
    fn overlapping_places_become_one() {
        let cuts = sorted(vec![cut(6, 9, "B"), cut(0, 2, "A"), cut(7, 11, "C"), cut(3, 3, "D")]);
        assert_eq!(cuts, [cut(0, 2, "A"), cut(6, 11, "B")]);
        assert_eq!(apply("0123456789abcd", &cuts), "A2345Bbcd");
        assert_eq!(apply("as it was", &[]), "as it was");
    }

    #[test]
    fn values_lose_what_was_found_in_their_texts() {
        for (mut value, secret, expected) in [
            (json!({"to": "ada@x.org", "n": 1}), "ada@x.org", json!({"to": "[X]", "n": 1})),
            (json!({"ada@x.org": {"ada@x.org": 1}}), "ada@x.org", json!({"[X]": {"ada@x.org": 1}})),
            (json!(["", "a", {"b": "say \"hi\"\n"}]), "hi", json!(["", "a", {"b": "say \"[X]\"\n"}])),
            (
                json!({"card": 4111_1111_1111_1111_u64, "k": true}),
                "4111",
                json!({"card": "[X]111111111111", "k": true}),
            ),
        ] {
            let text = texts(&value);
            let at = text.find(secret).unwrap();
            apply_within(&mut value, &[cut(at, at + secret.len(), "[X]")]);
            assert_eq!(value, expected);
        }
        let mut value = json!({"ada": 1, "bob": [2], "c": 3});
        apply_within(&mut value, &[cut(0, 3, "[X]"), cut(6, 9, "[X]")]);
        assert_eq!(value.to_string(), r#"{"[X]":1,"[X] 2":[2],"c":3}"#, "no field is lost");
        let mut value = json!(["one", "two", "three"]);
        let text = texts(&value);
        assert_eq!(text, "one\ntwo\nthree");
        apply_within(&mut value, &[cut(1, 9, "_")]);
        assert_eq!(value, json!(["o_", "_", "_hree"]));
    }
}
