//! Shallow reading of nested values: the elements of an array and the entries of an object as JSON text.
//!
//! Meant for text that passed the gate. On any other text the walk ends early and never panics.

use std::borrow::Cow;
use std::ops::Range;

use super::keys::unescape;
use super::scan::string_end;

/// The elements of a JSON array, each as JSON text. Empty when `raw` is not an array.
pub fn elements(raw: &str) -> Elements<'_> {
    Elements(Walk::inside(raw, 0, b'[', &[]))
}

/// The same of the array that is the `value` of a body, whose long strings stand at `long`.
pub(super) fn elements_at<'a>(
    body: &'a [u8],
    value: Range<usize>,
    long: &'a [Range<usize>],
) -> Elements<'a, [u8]> {
    let from = long.partition_point(|string| string.start < value.start);
    let text = body.get(..value.end).unwrap_or_default();
    Elements(Walk::inside(text, value.start, b'[', long.get(from..).unwrap_or_default()))
}

/// JSON text, known to be UTF-8 or not.
pub trait Json {
    /// All of it.
    fn bytes(&self) -> &[u8];
    /// A part.
    fn part(&self, range: Range<usize>) -> Option<&Self>;
}

impl Json for str {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    #[inline]
    fn part(&self, range: Range<usize>) -> Option<&Self> {
        self.get(range)
    }
}

impl Json for [u8] {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }

    #[inline]
    fn part(&self, range: Range<usize>) -> Option<&Self> {
        self.get(range)
    }
}

/// The elements of an array, one after the other.
pub struct Elements<'a, T: Json + ?Sized = str>(Walk<'a, T>);

impl<'a, T: Json + ?Sized> Elements<'a, T> {
    /// The next element if it is an object of exactly two strings: their keys without quotes, as they are written,
    /// and the strings with theirs. Any other element is not passed over.
    pub fn pair(&mut self) -> Option<[(&'a T, &'a T); 2]> {
        self.try_one(Walk::pair)
    }

    /// The string at the end of the next element, if it is an object that begins with one of `beginnings`, byte by byte, and
    /// has nothing else; and which of them it is. Any other element is not passed over.
    pub fn after(&mut self, beginnings: &[&[u8]]) -> Option<(usize, &'a T)> {
        self.try_one(|walk| walk.after(beginnings))
    }

    /// Goes back where nothing is found.
    fn try_one<R>(&mut self, look: impl FnOnce(&mut Walk<'a, T>) -> Option<R>) -> Option<R> {
        let (at, long) = (self.0.at, self.0.long);
        let found = look(&mut self.0);
        if found.is_none() {
            (self.0.at, self.0.long) = (at, long);
        }
        found
    }
}

impl<'a, T: Json + ?Sized> Iterator for Elements<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        self.0.element()
    }
}

/// The entries of a JSON object: unescaped key, and value as JSON text. Empty when `raw` is not an object.
pub fn entries(raw: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let mut walk = Walk::inside(raw, 0, b'{', &[]);
    std::iter::from_fn(move || walk.entry())
}

/// The text of a JSON string; `None` when `raw` is another value.
pub fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    Some(if memchr::memchr(b'\\', inner.as_bytes()).is_some() { unescape(raw) } else { Cow::Borrowed(inner) })
}

struct Walk<'a, T: Json + ?Sized> {
    text: &'a T,
    at: usize,
    /// Where long strings stand from here on, in order, as far as that is known: they need not be read again.
    long: &'a [Range<usize>],
}

impl<'a> Walk<'a, str> {
    fn entry(&mut self) -> Option<(Cow<'a, str>, &'a str)> {
        let key = text(self.element()?)?;
        self.skip_space();
        if self.byte()? != b':' {
            return None;
        }
        self.at += 1;
        Some((key, self.element()?))
    }
}

impl<'a, T: Json + ?Sized> Walk<'a, T> {
    /// Inside of the value at `at` that begins with `open`.
    fn inside(text: &'a T, at: usize, open: u8, long: &'a [Range<usize>]) -> Self {
        let mut walk = Self { text, at, long };
        walk.skip_space();
        walk.at = if walk.byte() == Some(open) { walk.at + 1 } else { text.bytes().len() };
        walk
    }

    fn element(&mut self) -> Option<&'a T> {
        self.skip_separators();
        let start = self.at;
        self.skip_value()?;
        self.text.part(start..self.at)
    }

    fn pair(&mut self) -> Option<[(&'a T, &'a T); 2]> {
        self.skip_separators();
        let first = self.member(b'{')?;
        let second = self.member(b',')?;
        self.skip_space();
        (self.byte()? == b'}').then(|| {
            self.at += 1;
            [first, second]
        })
    }

    fn after(&mut self, beginnings: &[&[u8]]) -> Option<(usize, &'a T)> {
        self.skip_separators();
        let rest = self.text.bytes().get(self.at..)?;
        let which = beginnings.iter().position(|beginning| rest.starts_with(beginning))?;
        self.at += beginnings.get(which)?.len();
        let string = self.string()?;
        (self.byte()? == b'}').then(|| {
            self.at += 1;
            (which, string)
        })
    }

    /// What stands behind `before`: a key without its quotes, and a string.
    fn member(&mut self, before: u8) -> Option<(&'a T, &'a T)> {
        self.skip_space();
        if self.byte()? != before {
            return None;
        }
        self.at += 1;
        let key = self.string()?;
        self.skip_space();
        if self.byte()? != b':' {
            return None;
        }
        self.at += 1;
        Some((key.part(1..key.bytes().len() - 1)?, self.string()?))
    }

    fn string(&mut self) -> Option<&'a T> {
        self.skip_space();
        let start = self.at;
        if self.byte()? != b'"' {
            return None;
        }
        self.skip_string()?;
        self.text.part(start..self.at)
    }

    fn skip_value(&mut self) -> Option<()> {
        match self.byte()? {
            b'"' => self.skip_string(),
            b'{' | b'[' => self.skip_nested(),
            b if !b.is_ascii_alphanumeric() && b != b'-' => None,
            _ => {
                while self
                    .byte()
                    .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.'))
                {
                    self.at += 1;
                }
                Some(())
            }
        }
    }

    fn skip_nested(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.byte()? {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        while let [string, later @ ..] = self.long
            && string.start <= self.at
        {
            self.long = later;
            if string.start == self.at {
                self.at = string.end;
                return Some(());
            }
        }
        self.at = string_end(self.text.bytes(), self.at + 1)?;
        Some(())
    }

    fn skip_separators(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\n' | b'\r' | b'\t' | b',')) {
            self.at += 1;
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{elements, entries, text};

    #[test]
    fn elements_are_cut_at_their_own_commas() {
        for (raw, expected) in [
            ("[]", vec![]),
            (" [ ] ", vec![]),
            ("[1]", vec!["1"]),
            ("[1, -2.5e3 ,true,null]", vec!["1", "-2.5e3", "true", "null"]),
            (r#"["a,b","c\"],","\\"]"#, vec![r#""a,b""#, r#""c\"],""#, r#""\\""#]),
            (r#"[[1,[2]],{"a":[3,"]"]}]"#, vec!["[1,[2]]", r#"{"a":[3,"]"]}"#]),
            ("{}", vec![]),
            ("7", vec![]),
            ("[[1", vec![]),
            ("[?", vec![]),
        ] {
            assert_eq!(elements(raw).collect::<Vec<_>>(), expected, "{raw}");
        }
    }

    #[test]
    fn pairs_are_objects_of_two_strings() {
        let raw = r#"[ {"a":"1","b" : "\"" }, {"a":"1"}, {"a":"1","b":2},7,{"a":"1","b":"2","c":"3"}, {"a\n":"","b":""}]"#;
        let mut elements = elements(raw);
        let mut found = Vec::new();
        loop {
            if let Some(pair) = elements.pair() {
                found.push(format!("{pair:?}"));
            } else if let Some(other) = elements.next() {
                found.push(other.to_owned());
            } else {
                break;
            }
        }
        assert_eq!(
            found,
            [
                r#"[("a", "\"1\""), ("b", "\"\\\"\"")]"#,
                r#"{"a":"1"}"#,
                r#"{"a":"1","b":2}"#,
                "7",
                r#"{"a":"1","b":"2","c":"3"}"#,
                r#"[("a\\n", "\"\""), ("b", "\"\"")]"#,
            ]
        );
    }

    #[test]
    fn entries_have_unescaped_keys() {
        let found: Vec<_> = entries(r#" { "a" : 1 , "b\u0063":{"d":[]}, "e":"f" } "#).collect();
        let found: Vec<_> = found.iter().map(|(key, raw)| (&**key, *raw)).collect();
        assert_eq!(found, [("a", "1"), ("bc", r#"{"d":[]}"#), ("e", r#""f""#)]);
        for broken in ["{", "{\"a\"", "{\"a\":", "{:}", "[1]", ""] {
            assert_eq!(entries(broken).count(), 0, "{broken}");
        }
    }

    #[test]
    fn text_is_borrowed_unless_escaped() {
        assert_eq!(text(r#""plain""#).as_deref(), Some("plain"));
        assert_eq!(text(r#""a\nb\ud83d\ude00""#).as_deref(), Some("a\nb😀"));
        assert_eq!(text("7"), None);
        assert_eq!(text("\""), None);
    }
}
