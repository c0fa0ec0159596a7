//! JSON text read into a [`Value`], many bytes at a time: the same values as `serde_json` reads, and the same refused.

use serde_json::{Map, Number, Value};

use super::scan::{Marks, plain_end};

/// Levels of nesting that are read; `serde_json` stops there too.
const MAX_NESTING: usize = 127;

/// Digits of an integer that need no check for its range.
const SAFE_DIGITS: usize = 18;

/// The value that `bytes` hold; `None` when they are not one JSON text in UTF-8. Of several entries with one key, the
/// last one counts.
pub fn parse(bytes: &[u8]) -> Option<Value> {
    let mut reader = Reader::of(simdutf8::basic::from_utf8(bytes).ok()?);
    reader.skip_space();
    let value = reader.value()?;
    reader.skip_space();
    (reader.at == bytes.len()).then_some(value)
}

/// Resolves the escapes of a string, given with its quotes; `None` when it is no JSON string.
pub(super) fn unescape(quoted: &str) -> Option<String> {
    let mut reader = Reader::of(quoted);
    let text = (reader.byte() == b'"').then(|| reader.string())??;
    (reader.at == quoted.len()).then_some(text)
}

/// Entries for which an object has room at once; most have about as many.
const USUAL: usize = 4;

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// Where strings with escapes grow, so that each is given as much memory as it needs.
    scratch: String,
}

impl<'a> Reader<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, scratch: String::new() }
    }

    fn value(&mut self) -> Option<Value> {
        match self.byte() {
            b'"' => self.string().map(Value::String),
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'-' | b'0'..=b'9' => self.number().map(Value::Number),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            _ => None,
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Option<Value>) -> Option<Value> {
        if self.depth == MAX_NESTING {
            return None;
        }
        self.depth += 1;
        self.at += 1;
        self.skip_space();
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Option<Value> {
        if self.takes(b'}') {
            return Some(Value::Object(Map::new()));
        }
        let mut object = Map::with_capacity(USUAL);
        loop {
            if self.byte() != b'"' {
                return None;
            }
            let key = self.string()?;
            self.skip_space();
            if !self.takes(b':') {
                return None;
            }
            self.skip_space();
            let value = self.value()?;
            object.insert(key, value);
            if self.ends(b'}')? {
                return Some(Value::Object(object));
            }
        }
    }

    fn array(&mut self) -> Option<Value> {
        let mut array = Vec::new();
        if self.takes(b']') {
            return Some(Value::Array(array));
        }
        loop {
            array.push(self.value()?);
            if self.ends(b']')? {
                return Some(Value::Array(array));
            }
        }
    }

    /// Behind an item: whether `close` stands there. Anything but it or a comma is `None`.
    fn ends(&mut self, close: u8) -> Option<bool> {
        self.skip_space();
        if self.takes(b',') {
            self.skip_space();
            return Some(false);
        }
        self.takes(close).then_some(true)
    }

    #[inline]
    fn string(&mut self) -> Option<String> {
        let start = self.at + 1;
        let end = plain_end(self.text.as_bytes(), start);
        if self.text.as_bytes().get(end) != Some(&b'"') {
            return self.escaped(start, end);
        }
        self.at = end + 1;
        self.text.get(start..end).map(str::to_owned)
    }

    /// A string that begins at `start` and whose plain beginning ends at `at`.
    fn escaped(&mut self, start: usize, mut at: usize) -> Option<String> {
        self.scratch.clear();
        let mut run = start;
        let mut marks = Marks::of(self.text.as_bytes());
        loop {
            self.scratch.push_str(self.text.get(run..at)?);
            match self.text.as_bytes().get(at)? {
                b'"' => break,
                b'\\' => run = self.escape(at)?,
                _ => return None,
            }
            at = marks.next(run);
        }
        self.at = at + 1;
        Some(self.scratch.as_str().to_owned())
    }

    /// Resolves the escape at `at` and returns the position behind it.
    #[inline]
    fn escape(&mut self, at: usize) -> Option<usize> {
        self.scratch.push(match self.text.as_bytes().get(at + 1)? {
            b'n' => '\n',
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\x08',
            b'f' => '\x0c',
            b'u' => return self.unicode(at),
            _ => return None,
        });
        Some(at + 2)
    }

    fn unicode(&mut self, at: usize) -> Option<usize> {
        let first = self.hex(at + 2)?;
        let (code, end) = match first {
            0xd800..=0xdbff => {
                let low = self.hex(at + 8).filter(|low| (0xdc00..=0xdfff).contains(low))?;
                let pair = self.text.get(at + 6..at + 8)? == "\\u";
                (pair.then_some(0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00))?, at + 12)
            }
            code => (code, at + 6),
        };
        self.scratch.push(char::from_u32(code)?);
        Some(end)
    }

    fn hex(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 4)?;
        digits.bytes().try_fold(0, |value, digit| Some(value << 4 | char::from(digit).to_digit(16)?))
    }

    fn number(&mut self) -> Option<Number> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let end = self.at + rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let text = self.text.get(self.at..end)?;
        self.at = end;
        match text.as_bytes() {
            b"0" => Some(0.into()),
            [b'1'..=b'9', rest @ ..] if rest.len() < SAFE_DIGITS && rest.iter().all(u8::is_ascii_digit) => {
                text.parse::<u64>().ok().map(Number::from)
            }
            _ => serde_json::from_str(text).ok(),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Option<Value> {
        self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes()).then(|| {
            self.at += word.len();
            value
        })
    }

    #[inline]
    fn takes(&mut self, byte: u8) -> bool {
        let there = self.byte() == byte;
        self.at += usize::from(there);
        there
    }

    #[inline]
    fn skip_space(&mut self) {
        while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// The byte there; 0, which is no JSON token, at the end.
    #[inline]
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::parse;
    use crate::json::to_text;

    fn check(bytes: &[u8]) {
        let expected = serde_json::from_slice::<Value>(bytes).ok();
        let shown = String::from_utf8_lossy(bytes);
        let found = parse(bytes);
        // Compared as text too, for the order of entries and the kind of numbers.
        assert_eq!(found, expected, "{shown}");
        assert_eq!(found.map(|v| to_text(&v)), expected.map(|v| v.to_string()), "{shown}");
    }

    #[test]
    fn what_serde_json_reads_is_read_and_nothing_else() {
        for text in [
            "",
            " ",
            "null",
            " true ",
            "false,",
            "nul",
            "0",
            "-0",
            "00",
            "01",
            "-",
            "1.5",
            "1.",
            "1e5",
            "1e400",
            "-1e-400",
            "1+2",
            "123456789012345678",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775808",
            "-9223372036854775809",
            r#""""#,
            r#"""#,
            r#"" "#,
            r#""a\n\t\r\b\f\/\\\"z""#,
            r#""\u0041\u00e9\u20ac\ud83d\ude00\ufffe""#,
            r#""\ud83d""#,
            r#""\ud83dxx\ude00""#,
            r#""\ude00""#,
            r#""\u12""#,
            r#""\u+123""#,
            r#""\u12é""#,
            r#""\x""#,
            r#""\"#,
            "\"a\nb\"",
            "\"\u{0}\"",
            "\"\u{7f}é€😀\"",
            "[]",
            "[ ]",
            "[1 , 2]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1",
            "[1}",
            "{}",
            "{ }",
            r#"{"b":1,"a":{"c":[]}, "b" : 2}"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"{"a":}"#,
            r#"{a:1}"#,
            r#"{"a":1]"#,
            r#"{"k\u0065y":1}"#,
            "\u{feff}{}",
        ] {
            check(text.as_bytes());
        }
        check(b"\"\xff\"");
        for depth in 120..135 {
            check(format!("{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes());
        }
    }

    proptest! {
        #[test]
        fn broken_texts_are_read_alike(
            text in r#"[\[\{]?("[a-zé\\"nu0-9\n]{0,90}"|[0-9.eE+-]{0,24}|[ :,\[\]\{\}truefalsn])*[\]\}]?"#,
        ) {
            check(text.as_bytes());
        }

        #[test]
        fn strings_of_any_length_are_read_alike(text in any::<String>(), padding in 0usize..150) {
            let mut long = "x".repeat(padding);
            long.push_str(&text);
            check(Value::from(long).to_string().as_bytes());
        }
    }
}
