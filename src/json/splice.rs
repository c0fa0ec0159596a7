//! Changing a few top-level fields of a body without parsing, copying or rewriting the rest of it.

use bytes::Bytes;

use super::{Body, Field, write_text};

/// Bodies up to this many bytes are copied into one piece: cheaper than several writes.
const FLAT: usize = 16 * 1024;
/// In larger bodies, unchanged stretches shorter than this are copied too.
const SHORT: usize = 1024;

/// A list of edits over a [`Body`]. Edits apply in the order made, as they would to an ordered map.
#[derive(Debug)]
pub struct Splice<'a> {
    body: &'a Body,
    slots: Vec<Slot<'a>>,
    changed: bool,
}

/// A field of the result: an original one, perhaps changed, or a new one.
#[derive(Debug)]
struct Slot<'a> {
    original: Option<&'a Field>,
    gone: bool,
    key: Option<Box<str>>,
    value: Option<Bytes>,
}

impl<'a> Splice<'a> {
    /// No edits yet.
    pub fn new(body: &'a Body) -> Self {
        let mut slots = Vec::with_capacity(body.fields().len() + 2);
        slots.extend(body.fields().iter().map(|field| Slot {
            original: Some(field),
            gone: false,
            key: None,
            value: None,
        }));
        Self { body, slots, changed: false }
    }

    /// Gives a field a new value, which must be JSON text; a missing field is added at the end.
    pub fn set(&mut self, key: &str, raw: impl Into<Bytes>) -> &mut Self {
        self.changed = true;
        let value = Some(raw.into());
        match self.find(key) {
            Some(slot) => slot.value = value,
            None => self.slots.push(Slot { original: None, gone: false, key: Some(key.into()), value }),
        }
        self
    }

    /// Gives a field a string as its new value.
    pub fn set_text(&mut self, key: &str, text: &str) -> &mut Self {
        let mut raw = Vec::with_capacity(text.len() + 2);
        write_text(&mut raw, text);
        self.set(key, raw)
    }

    /// Takes a field away, if it is there.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        if let Some(slot) = self.find(key) {
            slot.gone = true;
            self.changed = true;
        }
        self
    }

    /// Gives a field a new name in its place; a field that has the new name already goes away. A field of null says
    /// nothing, so that it goes away itself. Does nothing when `old` is missing.
    pub fn rename(&mut self, old: &str, new: &str) -> &mut Self {
        let body = self.body;
        let Some(slot) = self.find(old).filter(|_| old != new) else { return self };
        if slot.raw(body).is_some_and(|value| value == b"null") {
            return self.remove(old);
        }
        self.remove(new);
        if let Some(slot) = self.find(old) {
            slot.key = Some(new.into());
            self.changed = true;
        }
        self
    }

    /// The value that a field has by now, as JSON text.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.slots.iter().find(|slot| !slot.gone && slot.name() == Some(key))?.raw(self.body)
    }

    /// The edited body in pieces, in order. Pieces of large bodies that did not change are slices of the original.
    pub fn finish(self) -> Vec<Bytes> {
        if !self.changed {
            return vec![self.body.bytes().clone()];
        }
        let mut out = Out::new(self.body);
        // A run of original bytes that stays as it is, separators included, and is not written yet.
        let mut run =
            0..self.slots.first().and_then(|slot| slot.original).map_or(0, |field| field.span.start);
        let mut gap = false;
        let mut written = false;
        for slot in &self.slots {
            if slot.gone {
                gap = true;
                continue;
            }
            if gap || slot.original.is_none() {
                if written {
                    out.original(run);
                }
                out.text(if written { b"," } else { b"{" });
                run = slot.original.map_or(0..0, |field| field.span.start..field.span.start);
                gap = false;
            }
            written = true;
            let Some(field) = slot.original else {
                slot.write_key(&mut out);
                slot.write_value(&mut out);
                continue;
            };
            run.end = field.span.start;
            if slot.key.is_some() {
                out.original(run);
                slot.write_key(&mut out);
                run = field.value.start..field.value.start;
            }
            run.end = field.value.start;
            if slot.value.is_some() {
                out.original(run);
                slot.write_value(&mut out);
                run = field.value.end..field.value.end;
            }
            run.end = field.value.end;
        }
        if written {
            out.original(run);
            out.text(b"}");
        } else {
            out.text(b"{}");
        }
        out.finish()
    }

    fn find(&mut self, key: &str) -> Option<&mut Slot<'a>> {
        self.slots.iter_mut().find(|slot| !slot.gone && slot.name() == Some(key))
    }
}

impl Slot<'_> {
    fn name(&self) -> Option<&str> {
        self.key.as_deref().or(self.original.map(|field| &*field.key))
    }

    fn raw<'s>(&'s self, body: &'s Body) -> Option<&'s [u8]> {
        match (&self.value, self.original) {
            (Some(value), _) => Some(value.as_ref()),
            (None, Some(field)) => body.bytes().get(field.value.clone()),
            (None, None) => None,
        }
    }

    fn write_key(&self, out: &mut Out<'_>) {
        if let Some(key) = &self.key {
            let mut text = Vec::with_capacity(key.len() + 3);
            write_text(&mut text, key);
            text.push(b':');
            out.text(&text);
        }
    }

    fn write_value(&self, out: &mut Out<'_>) {
        if let Some(value) = &self.value {
            out.bytes(value);
        }
    }
}

/// The result as it grows: finished pieces, and small stretches that are collected in `open`.
struct Out<'a> {
    body: &'a Body,
    pieces: Vec<Bytes>,
    open: Vec<u8>,
    flat: bool,
}

impl<'a> Out<'a> {
    fn new(body: &'a Body) -> Self {
        let flat = body.bytes().len() <= FLAT;
        let open = Vec::with_capacity(if flat { body.bytes().len() + 256 } else { 256 });
        Self { body, pieces: Vec::with_capacity(if flat { 1 } else { 4 }), open, flat }
    }

    fn text(&mut self, text: &[u8]) {
        self.open.extend_from_slice(text);
    }

    fn original(&mut self, range: std::ops::Range<usize>) {
        let bytes = self.body.bytes();
        match bytes.get(range.clone()) {
            Some(text) if self.flat || text.len() < SHORT => self.text(text),
            Some(_) => self.piece(bytes.slice(range)),
            None => {}
        }
    }

    fn bytes(&mut self, bytes: &Bytes) {
        if self.flat || bytes.len() < SHORT {
            self.text(bytes);
        } else {
            self.piece(bytes.clone());
        }
    }

    fn piece(&mut self, piece: Bytes) {
        self.close();
        self.pieces.push(piece);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.pieces.push(std::mem::take(&mut self.open).into());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::super::Body;
    use super::Splice;

    fn body(text: &str) -> Body {
        Body::read(Bytes::from(text.to_owned())).unwrap()
    }

    fn join(pieces: &[Bytes]) -> String {
        String::from_utf8(pieces.concat()).unwrap()
    }

    /// Makes edits written as `set KEY JSON`, `remove KEY` and `rename OLD NEW`, with semicolons between them.
    fn spliced(text: &str, edits: &str) -> String {
        let body = body(text);
        let mut splice = Splice::new(&body);
        for edit in edits.split(';').filter(|edit| !edit.is_empty()) {
            match edit.split_whitespace().collect::<Vec<_>>()[..] {
                ["set", key, raw] => splice.set(key, raw.to_owned()),
                ["remove", key] => splice.remove(key),
                ["rename", old, new] => splice.rename(old, new),
                _ => panic!("{edit}"),
            };
        }
        join(&splice.finish())
    }

    #[test]
    fn commas_are_right_in_every_place() {
        for (text, edits, expected) in [
            (r#"{"a":1,"b":2}"#, "", r#"{"a":1,"b":2}"#),
            (r#"{"a":1,"b":2}"#, "set a 9;set b 8", r#"{"a":9,"b":8}"#),
            (r#"{"a":1,"b":2}"#, "set c 3", r#"{"a":1,"b":2,"c":3}"#),
            (r#"{"a":1,"b":2,"c":3}"#, "remove a", r#"{"b":2,"c":3}"#),
            (r#"{"a":1,"b":2,"c":3}"#, "remove b", r#"{"a":1,"c":3}"#),
            (r#"{"a":1,"b":2,"c":3}"#, "remove c", r#"{"a":1,"b":2}"#),
            (r#"{"a":1}"#, "remove a", "{}"),
            (r#"{"a":1,"b":2}"#, "remove a;remove b", "{}"),
            (r#"{"a":1,"b":2}"#, "remove a;remove b;set c 3", r#"{"c":3}"#),
            (r#"{"a":1,"b":2}"#, "remove a;set a 3", r#"{"b":2,"a":3}"#),
            ("{}", "set a 1;set b 2", r#"{"a":1,"b":2}"#),
            (" { } ", "set a 1", r#"{"a":1}"#),
            (r#"{"a":1,"b":2}"#, "rename a z", r#"{"z":1,"b":2}"#),
            (r#"{"a":1,"b":2}"#, "rename a b", r#"{"b":1}"#),
            (r#"{"a":1,"b":2}"#, "rename b a", r#"{"a":2}"#),
            (r#"{"a":null,"b":2}"#, "rename a b", r#"{"b":2}"#),
            (r#"{"b":2,"a": null }"#, "rename a b", r#"{"b":2}"#),
            (r#"{"a":null}"#, "rename a b", "{}"),
            (r#"{"a":1,"b":2}"#, "set a null;rename a b", r#"{"b":2}"#),
            (r#"{"a":1}"#, "rename x y;remove x", r#"{"a":1}"#),
            (r#"{"a":1}"#, "rename a b;set b 2", r#"{"b":2}"#),
            (" {\n \"a\" : 1 ,\n \"b\" : 2 }\n", "set a 9", " {\n \"a\" : 9 ,\n \"b\" : 2}"),
            (r#"{"a\u0062":1,"c":2}"#, "set ab 9", r#"{"a\u0062":9,"c":2}"#),
        ] {
            assert_eq!(spliced(text, edits), expected, "{text} {edits}");
        }
    }

    #[test]
    fn keys_and_texts_are_escaped() {
        let body = body(r#"{"a":1}"#);
        let mut splice = Splice::new(&body);
        splice.set_text("m\"", "x\"y");
        assert_eq!(join(&splice.finish()), r#"{"a":1,"m\"":"x\"y"}"#);
    }

    #[test]
    fn large_stretches_are_slices_of_the_original() {
        let prompt = "x".repeat(100_000);
        let body = body(&format!(r#"{{"model":"fast","messages":"{prompt}","stream":true}}"#));
        let mut splice = Splice::new(&body);
        splice.set_text("model", "gpt-4o-mini").set("stream_options", r#"{"include_usage":true}"#);
        let pieces = splice.finish();
        let original = body.bytes().as_ptr_range();
        let large = pieces.iter().find(|piece| piece.len() > 50_000).unwrap();
        assert!(original.contains(&large.as_ptr()), "the prompt is not copied");
        assert_eq!(pieces.len(), 3);
        let expected = format!(
            r#"{{"model":"gpt-4o-mini","messages":"{prompt}","stream":true,"stream_options":{{"include_usage":true}}}}"#
        );
        assert_eq!(join(&pieces), expected);
    }

    #[test]
    fn an_untouched_body_is_the_body() {
        let body = body(" {\"a\" : 1} ");
        assert_eq!(Splice::new(&body).finish(), [body.bytes().clone()]);
        let mut nothing = Splice::new(&body);
        nothing.remove("x").rename("y", "z");
        assert_eq!(nothing.finish(), [body.bytes().clone()]);
    }

    #[derive(Debug, Clone)]
    enum Edit {
        Set(String, u32),
        Remove(String),
        Rename(String, String),
    }

    fn edits() -> impl Strategy<Value = Vec<Edit>> {
        let edit = prop_oneof![
            ("[a-f]", any::<u32>()).prop_map(|(key, value)| Edit::Set(key, value)),
            "[a-f]".prop_map(Edit::Remove),
            ("[a-f]", "[a-f]").prop_map(|(old, new)| Edit::Rename(old, new)),
        ];
        proptest::collection::vec(edit, 0..6)
    }

    /// What the edits mean, on a map.
    fn model(map: Map<String, Value>, edits: &[Edit]) -> Vec<(String, Value)> {
        let mut fields: Vec<_> = map.into_iter().collect();
        for edit in edits {
            match edit {
                Edit::Set(key, value) => match fields.iter_mut().find(|field| field.0 == *key) {
                    Some(field) => field.1 = (*value).into(),
                    None => fields.push((key.clone(), (*value).into())),
                },
                Edit::Remove(key) => fields.retain(|field| field.0 != *key),
                Edit::Rename(old, new) if old != new && fields.iter().any(|field| field.0 == *old) => {
                    fields.retain(|field| field.0 != *new);
                    fields
                        .iter_mut()
                        .filter(|field| field.0 == *old)
                        .for_each(|field| field.0.clone_from(new));
                }
                Edit::Rename(..) => {}
            }
        }
        fields
    }

    proptest! {
        #[test]
        fn splicing_is_editing_the_parsed_map(
            fields in proptest::collection::btree_map("[a-f]", "[a-z{}\",:\\\\ ]{0,8}", 0..6),
            padding in prop_oneof![Just(0usize), Just(20_000)],
            pretty in any::<bool>(),
            edits in edits(),
        ) {
            let mut map: Map<String, Value> = fields.into_iter().map(|(k, v)| (k, Value::from(v))).collect();
            if padding > 0 {
                map.insert("big".into(), "p".repeat(padding).into());
            }
            let text =
                if pretty { serde_json::to_string_pretty(&map) } else { serde_json::to_string(&map) }.unwrap();
            let body = body(&text);
            let mut splice = Splice::new(&body);
            for edit in &edits {
                match edit {
                    Edit::Set(key, value) => splice.set(key, value.to_string()),
                    Edit::Remove(key) => splice.remove(key),
                    Edit::Rename(old, new) => splice.rename(old, new),
                };
            }
            let result = join(&splice.finish());
            prop_assert!(Body::read(Bytes::from(result.clone())).is_ok(), "{}", result);
            let parsed: Map<String, Value> = serde_json::from_str(&result).unwrap();
            prop_assert_eq!(parsed.into_iter().collect::<Vec<_>>(), model(map, &edits), "{}", result);
        }
    }
}
