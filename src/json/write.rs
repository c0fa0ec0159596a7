//! JSON text written from values, many bytes at a time: the same text as `serde_json` writes.

use serde_json::{Map, Value};

use super::Text;
use super::scan::Marks;

/// Appends `text` as a JSON string.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    quote(out, text);
}

/// Appends `value` as JSON text.
pub fn write_value(out: &mut Vec<u8>, value: &Value) {
    any(out, value);
}

/// `value` as JSON text.
pub fn to_text(value: &Value) -> String {
    let mut out = String::with_capacity(room(value));
    any(&mut out, value);
    out
}

/// `object` as JSON text.
pub fn object_to_text(object: &Map<String, Value>) -> String {
    let mut out = String::with_capacity(room_of(object));
    entries(&mut out, object);
    out
}

/// A value that holds a text, as it shall be written around that text.
#[derive(Debug, Clone, Copy)]
pub struct Verbatim<'a> {
    /// JSON text before it.
    pub before: &'static str,
    /// The text, which becomes a JSON string.
    pub text: &'a Text,
    /// JSON text behind it.
    pub after: &'static str,
}

/// `object` as JSON text, with the values of `stand_ins` in place of the nulls in its array `key`, in order.
pub fn object_with(object: &Map<String, Value>, key: &str, stand_ins: &[Verbatim<'_>]) -> Vec<u8> {
    let more: usize = stand_ins.iter().map(|it| it.before.len() + it.text.room() + it.after.len()).sum();
    let mut out = Vec::with_capacity(room_of(object) + more);
    let mut stand_ins = stand_ins.iter();
    fields(&mut out, object, |out, name, value| match value {
        Value::Array(items) if name == key => list(out, items, |out, item| match stand_ins.as_slice() {
            [it, ..] if item.is_null() => {
                stand_ins.next();
                out.extend_from_slice(it.before.as_bytes());
                it.text.write(out);
                out.extend_from_slice(it.after.as_bytes());
            }
            _ => any(out, item),
        }),
        value => any(out, value),
    });
    out
}

/// Where JSON text goes.
trait Sink {
    fn put(&mut self, text: &str);
}

impl Sink for String {
    #[inline]
    fn put(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

fn any(out: &mut impl Sink, value: &Value) {
    match value {
        Value::Null => out.put("null"),
        Value::Bool(true) => out.put("true"),
        Value::Bool(false) => out.put("false"),
        Value::Number(number) => out.put(&number.to_string()),
        Value::String(text) => quote(out, text),
        Value::Array(items) => list(out, items, any),
        Value::Object(object) => entries(out, object),
    }
}

fn entries(out: &mut impl Sink, object: &Map<String, Value>) {
    fields(out, object, |out, _, value| any(out, value));
}

fn list<S: Sink>(out: &mut S, items: &[Value], mut each: impl FnMut(&mut S, &Value)) {
    let mut separator = "[";
    for item in items {
        out.put(separator);
        separator = ",";
        each(out, item);
    }
    out.put(if items.is_empty() { "[]" } else { "]" });
}

fn fields<S: Sink>(out: &mut S, object: &Map<String, Value>, mut each: impl FnMut(&mut S, &str, &Value)) {
    let mut separator = "{";
    for (key, value) in object {
        out.put(separator);
        separator = ",";
        quote(out, key);
        out.put(":");
        each(out, key, value);
    }
    out.put(if object.is_empty() { "{}" } else { "}" });
}

fn quote(out: &mut impl Sink, text: &str) {
    out.put("\"");
    let mut run = 0;
    let mut marks = Marks::of(text.as_bytes());
    loop {
        let at = marks.next(run);
        out.put(text.get(run..at).unwrap_or_default());
        match text.as_bytes().get(at) {
            Some(byte) => escape(out, *byte),
            None => break,
        }
        run = at + 1;
    }
    out.put("\"");
}

#[inline]
fn escape(out: &mut impl Sink, byte: u8) {
    out.put(match byte {
        b'\n' => "\\n",
        b'"' => "\\\"",
        b'\\' => "\\\\",
        b'\t' => "\\t",
        b'\r' => "\\r",
        0x08 => "\\b",
        0x0c => "\\f",
        _ => return out.put(&format!("\\u{byte:04x}")),
    });
}

/// Bytes that the text of `value` will take, or a few more. Texts with very many escapes take more.
fn room(value: &Value) -> usize {
    match value {
        Value::String(text) => room_for(text),
        Value::Array(items) => items.iter().map(|item| room(item) + 1).sum::<usize>() + 2,
        Value::Object(object) => room_of(object),
        Value::Number(_) => 20,
        Value::Null | Value::Bool(_) => 5,
    }
}

fn room_of(object: &Map<String, Value>) -> usize {
    object.iter().map(|(key, value)| room_for(key) + room(value) + 2).sum::<usize>() + 2
}

fn room_for(text: &str) -> usize {
    text.len() + text.len() / 16 + 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn check(value: &Value) {
        let expected = value.to_string();
        assert_eq!(to_text(value), expected);
        let mut bytes = Vec::new();
        write_value(&mut bytes, value);
        assert_eq!(bytes, expected.as_bytes());
        if let Value::Object(object) = value {
            assert_eq!(object_to_text(object), expected);
        }
    }

    #[test]
    fn every_kind_of_value_is_written_as_serde_json_does() {
        check(&json!({
            "": null, "a\"b": [true, false, [], {}, [1]], "n": [0, -7, 1.5, 1e300, 1e-7, u64::MAX, i64::MIN],
            "t": "é€😀\u{7f}", "o": {"x": {"y": "z"}},
        }));
        for byte in 0..=0x7f {
            for before in [0, 1, 15, 16, 70] {
                check(&Value::from(format!("{}{}z", "a".repeat(before), char::from(byte))));
            }
        }
    }

    #[test]
    fn texts_stand_in_for_nulls_in_one_array() {
        let Value::Object(object) = json!({"a": [null], "m": [null, {"x": null}, null, null], "z": null})
        else {
            panic!("an object");
        };
        let texts = [Text::from("1\n"), Text::written(r#""\u0032""#.into())];
        let both: Vec<_> =
            texts.iter().map(|text| Verbatim { before: "{\"t\":", text, after: "}" }).collect();
        let expected = r#"{"a":[null],"m":[{"t":"1\n"},{"x":null},{"t":"\u0032"},null],"z":null}"#;
        assert_eq!(String::from_utf8(object_with(&object, "m", &both)).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_serde_json_does(text in ".*", padding in 0usize..150) {
            check(&Value::from(format!("{}{text}", "x".repeat(padding))));
        }
    }
}
