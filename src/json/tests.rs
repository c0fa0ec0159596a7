//! What passes the gate and what does not, by table and by comparison with serde_json.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{Body, MAX_DEPTH};
use crate::fault::{Fault, FaultKind};

fn read(bytes: &[u8]) -> Result<Body, Fault> {
    Body::read(Bytes::copy_from_slice(bytes))
}

fn nested(levels: usize) -> String {
    format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))
}

#[test]
fn nasty_bodies_are_refused_with_a_stable_code() {
    let deep = nested(MAX_DEPTH + 1);
    let abyss = format!("{{\"a\":{}", "[".repeat(100_000));
    let many: String = (0..200).map(|n| format!("\"k{n}\":{n},")).collect();
    let many = format!("{{{many}\"k\\u0037\":1}}");
    let table: &[(&[u8], &str, &str)] = &[
        (b"", "json_invalid", "empty"),
        (b"  \n", "json_invalid", "empty"),
        (b"{", "json_invalid", "too early"),
        (b"{\"a\"", "json_invalid", "too early"),
        (b"{\"a\":", "json_invalid", "too early"),
        (b"{\"a\":1", "json_invalid", "too early"),
        (b"{\"a\":1,}", "json_invalid", "line 1, column 8 (byte 7): expected a key"),
        (b"{\"a\":[1,]}", "json_invalid", "expected a value"),
        (b"{\"a\" 1}", "json_invalid", "colon"),
        (b"{a:1}", "json_invalid", "double quotes"),
        (b"{'a':1}", "json_invalid", "double quotes"),
        (b"{\"a\":1 \"b\":2}", "json_invalid", "comma"),
        (b"{\"a\":[1 2]}", "json_invalid", "comma"),
        (b"{\"a\":1}{}", "json_invalid", "more data"),
        (b"{\"a\":1}\n\n x", "json_invalid", "line 3, column 2"),
        (b"{\"a\":1}\0", "json_invalid", "more data"),
        (b"\xef\xbb\xbf{\"a\":1}", "json_invalid", "byte-order mark"),
        (b"{\"a\":\"\xff\"}", "json_invalid", "byte 6): not valid UTF-8"),
        (b"{\"a\":\"\xc0\xaf\"}", "json_invalid", "not valid UTF-8"),
        (b"{\"a\":\"\xed\xa0\x80\"}", "json_invalid", "not valid UTF-8"),
        (b"{\"a\":\"x\ny\"}", "json_invalid", "control character"),
        (b"{\"a\":\"\0\"}", "json_invalid", "control character"),
        (b"{\"a\":\"\\x\"}", "json_invalid", "unknown escape"),
        (b"{\"a\":\"\\u12g4\"}", "json_invalid", "hex"),
        (b"{\"a\":\"\\u12\"}", "json_invalid", "hex"),
        (b"{\"a\":\"\\ud800\"}", "json_invalid", "lone surrogate"),
        (b"{\"a\":\"\\ud800\\n\"}", "json_invalid", "lone surrogate"),
        (b"{\"a\":\"\\ud800\\ud800\"}", "json_invalid", "lone surrogate"),
        (b"{\"a\":\"\\udc00\\ud800\"}", "json_invalid", "lone surrogate"),
        (b"{\"\\udfff\":1}", "json_invalid", "lone surrogate"),
        (b"{\"a\":\"x", "json_invalid", "inside a string"),
        (b"{\"a\":\"x\\", "json_invalid", "unknown escape"),
        (b"{\"a\":NaN}", "json_invalid", "expected a value"),
        (b"{\"a\":-Infinity}", "json_invalid", "digit"),
        (b"{\"a\":1e999}", "json_invalid", "out of range"),
        (b"{\"a\":-1e400}", "json_invalid", "out of range"),
        (b"{\"a\":01}", "json_invalid", "comma"),
        (b"{\"a\":+1}", "json_invalid", "expected a value"),
        (b"{\"a\":.5}", "json_invalid", "expected a value"),
        (b"{\"a\":5.}", "json_invalid", "digit"),
        (b"{\"a\":1e}", "json_invalid", "digit"),
        (b"{\"a\":1e+}", "json_invalid", "digit"),
        (b"{\"a\":0x10}", "json_invalid", "comma"),
        (b"{\"a\":tru}", "json_invalid", "expected a value"),
        (b"{\"a\":True}", "json_invalid", "expected a value"),
        (b"{\"a\":1/*c*/}", "json_invalid", "comma"),
        (b"[{\"a\":1}]", "json_not_object", "object"),
        (b"\"a\"", "json_not_object", "object"),
        (b" 7 ", "json_not_object", "object"),
        (b"null", "json_not_object", "object"),
        (b"[", "json_invalid", "too early"),
        (b"nul", "json_invalid", "expected a value"),
        (deep.as_bytes(), "json_too_deep", "deeper than 64"),
        (abyss.as_bytes(), "json_too_deep", "deeper than 64"),
        (b"{\"a\":1,\"a\":1}", "json_duplicate_key", "`a` at line 1, column 8"),
        (b"{\"a\":1,\"\\u0061\":2}", "json_duplicate_key", "`a`"),
        (b"{\"\\u0061\":1,\"b\":0,\"a\":2}", "json_duplicate_key", "`a`"),
        (b"{\"\":1,\"\":2}", "json_duplicate_key", "``"),
        (b"{\"m\":[{},{\"role\":1,\"x\":{},\"role\":2}]}", "json_duplicate_key", "`m[1].role`"),
        (b"{\"a\":{\"b\":{\"c\":1,\"c\":2}}}", "json_duplicate_key", "`a.b.c`"),
        (b"[{\"a\":1,\"a\":1}]", "json_duplicate_key", "`[0].a`"),
        (many.as_bytes(), "json_duplicate_key", "`k7`"),
    ];
    for (bytes, code, says) in table {
        let text = String::from_utf8_lossy(bytes.get(..60).unwrap_or(bytes)).into_owned();
        let fault = read(bytes).expect_err(&text);
        assert_eq!(fault.kind, FaultKind::BadRequest, "{text}");
        assert_eq!(fault.code_str(), *code, "{text}: {fault}");
        assert!(fault.message.contains(says), "{text}: {fault} does not say {says}");
    }
}

#[test]
fn a_fault_never_shows_values() {
    for text in [r#"{"a":"my secret","a":"my secret"}"#, r#"{"a":"my secret" my secret}"#, "my secret"] {
        assert!(!read(text.as_bytes()).unwrap_err().message.contains("secret"), "{text}");
    }
    let key = "k".repeat(1000);
    let fault = read(format!(r#"{{"{key}":1,"{key}":2}}"#).as_bytes()).unwrap_err();
    assert!(fault.message.len() < 200, "{fault}");
}

#[test]
fn odd_but_legal_bodies_pass() {
    let deep = nested(MAX_DEPTH);
    let digits = format!("{{\"a\":{}}}", "9".repeat(308));
    let many: String = (0..5000).map(|n| format!("\"k{n}\":{{\"a\":1,\"b\":2}},")).collect();
    let many = format!("{{{many}\"z\":1}}");
    for text in [
        "{}",
        " \t\r\n{ } \n",
        r#"{"":0}"#,
        r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#,
        r#"{"A":1,"a":2}"#,
        r#"{"a":"\ud83d\ude00\u0000\u007f"}"#,
        "{\"a\":\"\u{7f}\u{2028}\u{feff}é😀\"}",
        r#"{"a":[-0,0.0,-0.5e-7,1E+2,1e-999,123456789012345678901234567890]}"#,
        r#"{"a":1.7976931348623157e308}"#,
        r#"{"é":1,"e\u0301":2}"#,
        &deep,
        &digits,
        &many,
    ] {
        let body = read(text.as_bytes()).map_err(|fault| format!("{text}: {fault}")).unwrap();
        assert_eq!(body.bytes(), text.as_bytes());
    }
}

#[test]
fn what_the_house_has_written_is_noticed_when_it_comes_back() {
    for (text, ours) in [
        (r#"{"messages":[{"content":"tollgate: a word"}]}"#, true),
        (r#"{"a":{"thoughtSignature":"dG9sbGdhdGU6b3A="}}"#, true),
        (r#"{"a":[{"reasoning_content":"hm"}]}"#, true),
        (r#"{"extra_content":{}}"#, true),
        (r#"{"model":"the tollgate: of","dog":"red","extra":"reasoning"}"#, false),
    ] {
        let body = Body::read(Bytes::from_static(text.as_bytes())).unwrap();
        assert_eq!(body.may_hold_ours(), ours, "{text}");
    }
}

#[test]
fn fields_stand_where_the_gate_says() {
    let text = "{ \"model\" : \"m\\u00e9\" ,\"n\":2,\"list\":[1,[2,3],{}],\"m\\u0061p\": {\"x\":1,\"y\":2},\"on\":true}";
    let body = read(text.as_bytes()).unwrap();
    let found: Vec<_> = body
        .fields()
        .iter()
        .map(|field| (&*field.key, &text[field.span.clone()], &text[field.value.clone()], field.items))
        .collect();
    assert_eq!(
        found,
        [
            ("model", "\"model\" : \"m\\u00e9\"", "\"m\\u00e9\"", 0),
            ("n", "\"n\":2", "2", 0),
            ("list", "\"list\":[1,[2,3],{}]", "[1,[2,3],{}]", 3),
            ("map", "\"m\\u0061p\": {\"x\":1,\"y\":2}", "{\"x\":1,\"y\":2}", 2),
            ("on", "\"on\":true", "true", 0),
        ]
    );
    assert_eq!(body.str("model").as_deref(), Some("mé"));
    assert_eq!((body.u64("n"), body.bool("on"), body.u64("model")), (Some(2), Some(true), None));
    assert_eq!((body.raw("list"), body.raw("lost")), (Some("[1,[2,3],{}]"), None));
    assert_eq!((body.str("n"), body.bool("n"), body.has("n"), body.has("lost")), (None, None, true, false));
    let numbers = read(br#"{"a":-1,"b":1.0,"c":18446744073709551616,"d":1e3,"e":null}"#).unwrap();
    for key in ["a", "b", "c", "d", "e"] {
        assert_eq!(numbers.u64(key), None, "{key}");
    }
    assert!(!numbers.has("e"));
}

/// Any JSON, read by serde_json, with a check for duplicate keys.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_str<E>(self, _: &str) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
        while seq.next_element::<Strict>()?.is_some() {}
        Ok(Strict)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
        let mut keys = HashSet::new();
        while let Some((key, Strict)) = map.next_entry::<String, Strict>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("duplicate"));
            }
        }
        Ok(Strict)
    }
}

fn agree(bytes: &[u8]) {
    let object = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    let theirs = object && serde_json::from_slice::<Strict>(bytes).is_ok();
    let ours = read(bytes);
    assert_eq!(ours.is_ok(), theirs, "{} {ours:?}", String::from_utf8_lossy(bytes));
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[ \t\n]?-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        "\"([a-c]|\\\\u00(6[1-3]|3f)|\\\\[nt\"\\\\/]|é|😀|\\\\ud83d\\\\ude00){0,40}\" ?",
        "true|false|null",
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let key = prop_oneof!["\"[a-e]{1,2}\"", "\"(a|\\\\u0061|\\\\u0062|b){1,2}\" ?"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((key, inner), 0..6).prop_map(|entries| {
                let entries: Vec<_> = entries.into_iter().map(|(k, v)| format!("{k}:{v}")).collect();
                format!("{{{}}}", entries.join(" ,"))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_gate_and_serde_json_agree_on_json(text in value()) {
        agree(format!("{{\"v\":{text}}}").as_bytes());
        agree(text.as_bytes());
    }

    #[test]
    fn the_gate_and_serde_json_agree_on_damaged_json(
        text in value(), at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0..3,
    ) {
        let mut bytes = format!("{{\"v\":{text}}}").into_bytes();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = byte,
            1 => bytes.truncate(at),
            _ => bytes.insert(at, byte),
        }
        agree(&bytes);
    }

    #[test]
    fn the_gate_and_serde_json_agree_on_noise(text in "[\\[\\]{}\",:0-9eE.+\\-tfnu\\\\a-d \n]{0,40}") {
        agree(format!("{{{text}").as_bytes());
        agree(format!("{{\"a\":{text}}}").as_bytes());
    }
}

#[test]
fn bodies_that_say_the_same_are_the_same() {
    let said = |text: &str| {
        let mut said = Vec::new();
        Body::read(text.to_owned().into())
            .unwrap()
            .canonical(&["stream"], &mut |part| said.push(part.to_vec()));
        said
    };
    let one = said(r#"{"model": "m", "messages": [ {"content": "a \" b  c\\"} , 1 ], "stream": true}"#);
    assert_eq!(one, said(r#"{"messages":[{"content":"a \" b  c\\"},1],"model":"m"}"#));
    assert_ne!(one, said(r#"{"messages":[{"content":"a \" b c\\"},1],"model":"m"}"#));
    assert_ne!(one, said(r#"{"messages":[{"content":"a \" b  c\\"},1],"model":"n"}"#));
}

/// A text of a JSON string, of any length, with escapes in it.
fn texts() -> impl Strategy<Value = String> {
    ("[a\\\\\"\\n\u{e9}]{0,40}", 0_usize..400)
        .prop_map(|(odd, plain)| format!("{odd}{}{odd}", "x".repeat(plain)))
}

proptest! {
    #[test]
    fn elements_of_a_body_are_those_of_its_text(
        before in texts(),
        all in prop::collection::vec(prop::collection::vec(texts(), 0..4), 0..6),
        wide in any::<bool>(),
    ) {
        let keys = ["role", "content", "name", "x"];
        let object = |texts: &Vec<String>| -> serde_json::Value {
            keys.iter().zip(texts).map(|(key, text)| ((*key).to_owned(), serde_json::Value::from(text.as_str()))).collect()
        };
        let messages: Vec<serde_json::Value> = all.iter().map(object).collect();
        let value = serde_json::json!({ "system": before, "messages": messages, "user": before });
        let text = if wide { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let body = read(text.unwrap().as_bytes()).unwrap();
        let raw = body.raw("messages").unwrap();
        let of_text: Vec<&[u8]> = super::elements(raw).map(str::as_bytes).collect();
        prop_assert_eq!(body.elements("messages").collect::<Vec<_>>(), of_text);
        let beginnings: [&[u8]; 2] = [b"{\"role\":", b"{\"content\":"];
        let mut elements = body.elements("messages");
        for texts in &all {
            let found = elements.after(&beginnings);
            let is_one = texts.len() == 1 && !wide;
            let quoted = texts.first().map(|text| serde_json::to_string(text).unwrap()).unwrap_or_default();
            prop_assert_eq!(found, is_one.then_some((0, quoted.as_bytes())));
            if found.is_none() {
                elements.next();
            }
        }
        let (mut one, mut other) = (body.elements("messages"), super::elements(raw));
        loop {
            let (pair, plain) = (one.pair(), other.pair());
            prop_assert_eq!(pair, plain.map(|pair| pair.map(|(key, text)| (key.as_bytes(), text.as_bytes()))));
            if pair.is_none() {
                let (element, plain) = (one.next(), other.next());
                prop_assert_eq!(element, plain.map(str::as_bytes));
                if element.is_none() {
                    break;
                }
            }
        }
        prop_assert_eq!(body.elements("nothing").count(), 0);
        prop_assert_eq!(body.elements("system").count(), 0);
    }
}
