//! The one pass over a request body: grammar, depth, duplicates, and the places of the top-level fields.

use std::ops::Range;

use super::flaw::{Flaw, Kind};
use super::keys::{Key, Keys};
use super::scan::plain_end;
use super::{Field, MAX_DEPTH};

/// Checks `bytes` and returns the top-level fields.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Field>, Box<Flaw>> {
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| not_utf8(bytes))?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(Flaw::new(Kind::Invalid("a byte-order mark before the JSON text"), 0));
    }
    let mut gate = Gate { text, bytes, at: 0, depth: 0, items: 0, keys: Keys::of(text) };
    let mut fields = Vec::with_capacity(12);
    gate.skip_space();
    let start = gate.at;
    let is_object = gate.byte() == b'{';
    if is_object {
        gate.object(&mut |key, value, items| {
            let span = key.start - 1..value.end;
            fields.push(Field { key: key.of(text).into(), span, value, items });
        })?;
    } else if gate.at == bytes.len() {
        return Err(Flaw::new(Kind::Invalid("the body is empty"), gate.at));
    } else {
        gate.value()?;
    }
    gate.skip_space();
    if gate.at < bytes.len() {
        return Err(gate.invalid("more data after the JSON value"));
    }
    if is_object { Ok(fields) } else { Err(Flaw::new(Kind::NotObject, start)) }
}

#[cold]
fn not_utf8(bytes: &[u8]) -> Box<Flaw> {
    let at = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), |_| 0);
    Flaw::new(Kind::Invalid("not valid UTF-8"), at)
}

/// What a byte is worth as a hex digit. [`NO_DIGIT`] in any of four places makes the whole number too large.
const HEX: [u32; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u32;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u32;
        digit += 1;
    }
    table
};
const NO_DIGIT: u32 = 1 << 16;

struct Gate<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// Number of items of the value read last.
    items: usize,
    keys: Keys<'a>,
}

/// One word, so that it fits a register.
type Checked = Result<(), Box<Flaw>>;

impl Gate<'_> {
    /// Reads the object that begins here and tells `note` of every field: its key, its value, the value's items.
    fn object(&mut self, note: &mut impl FnMut(Key, Range<usize>, usize)) -> Checked {
        self.enter()?;
        let mut scope = self.keys.open();
        let mut items = 0;
        self.skip_space();
        if self.byte() == b'}' {
            return self.leave(items);
        }
        loop {
            if self.byte() != b'"' {
                return Err(self.invalid("expected a key in double quotes"));
            }
            let start = self.at + 1;
            let end = plain_end(self.bytes, start);
            let mut key = Key { start, end, escaped: false };
            if self.bytes.get(end) == Some(&b'"') {
                self.at = end + 1;
            } else {
                self.string_from(end)?;
                key = Key { start, end: self.at - 1, escaped: true };
            }
            if !self.keys.insert(&mut scope, key) {
                return Err(Flaw::new(Kind::Duplicate, start - 1).below_key(&key.of(self.text)));
            }
            self.skip_space();
            if self.byte() != b':' {
                return Err(self.invalid("expected a colon after the key"));
            }
            self.at += 1;
            self.skip_space();
            let value_at = self.at;
            self.value().map_err(|flaw| flaw.below_key(&key.of(self.text)))?;
            note(key, value_at..self.at, self.items);
            items += 1;
            self.skip_space();
            match self.byte() {
                b',' => self.at += 1,
                b'}' => break,
                _ => return Err(self.invalid("expected a comma or the end of the object")),
            }
            self.skip_space();
        }
        self.keys.close(&scope);
        self.leave(items)
    }

    fn array(&mut self) -> Checked {
        self.enter()?;
        let mut items = 0;
        self.skip_space();
        if self.byte() == b']' {
            return self.leave(items);
        }
        loop {
            self.value().map_err(|flaw| flaw.below_index(items))?;
            items += 1;
            self.skip_space();
            match self.byte() {
                b',' => self.at += 1,
                b']' => break,
                _ => return Err(self.invalid("expected a comma or the end of the array")),
            }
            self.skip_space();
        }
        self.leave(items)
    }

    /// Reads one value and notes the number of its items.
    fn value(&mut self) -> Checked {
        self.items = 0;
        match self.byte() {
            b'"' => self.string(),
            b'{' => self.object(&mut |_, _, _| ()),
            b'[' => self.array(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => Err(self.invalid("expected a value")),
        }
    }

    #[inline]
    fn enter(&mut self) -> Checked {
        if self.depth == MAX_DEPTH {
            return Err(Flaw::new(Kind::TooDeep, self.at));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn leave(&mut self, items: usize) -> Checked {
        self.depth -= 1;
        self.at += 1;
        self.items = items;
        Ok(())
    }

    /// Reads the string that begins here.
    #[inline]
    fn string(&mut self) -> Checked {
        let end = plain_end(self.bytes, self.at + 1);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(());
        }
        self.string_from(end)
    }

    /// Reads the rest of a string, whose plain beginning ends at `at`.
    #[inline(never)]
    fn string_from(&mut self, mut at: usize) -> Checked {
        loop {
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(());
                }
                Some(b'\\') => at = self.escape(at)?,
                Some(0..0x20) => return Err(Flaw::new(Kind::Invalid("a control character in a string"), at)),
                Some(_) => at = plain_end(self.bytes, at),
                None => return Err(Flaw::new(Kind::Invalid("the text ends inside a string"), at)),
            }
        }
    }

    /// Checks the escape at `at` and returns the position behind it.
    #[inline]
    fn escape(&self, at: usize) -> Result<usize, Box<Flaw>> {
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') => self.unicode(at),
            _ => Err(Flaw::new(Kind::Invalid("an unknown escape in a string"), at)),
        }
    }

    fn unicode(&self, at: usize) -> Result<usize, Box<Flaw>> {
        let lone = || Flaw::new(Kind::Invalid("a lone surrogate in a string"), at);
        match self.hex(at + 2)? {
            0xd800..=0xdbff => {
                if self.bytes.get(at + 6..at + 8) != Some(br"\u") {
                    return Err(lone());
                }
                match self.hex(at + 8)? {
                    0xdc00..=0xdfff => Ok(at + 12),
                    _ => Err(lone()),
                }
            }
            0xdc00..=0xdfff => Err(lone()),
            _ => Ok(at + 6),
        }
    }

    fn hex(&self, at: usize) -> Result<u32, Box<Flaw>> {
        let digits = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
        let value = digits.map_or(NO_DIGIT, |digits| {
            digits.iter().fold(0, |value, &digit| value << 4 | HEX[usize::from(digit)])
        });
        if value >= NO_DIGIT {
            return Err(Flaw::new(Kind::Invalid("expected four hex digits after \\u"), at));
        }
        Ok(value)
    }

    fn number(&mut self) -> Checked {
        let start = self.at;
        if self.byte() == b'-' {
            self.at += 1;
        }
        match self.byte() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return Err(self.invalid("expected a digit")),
        }
        let mut may_overflow = self.at - start > 300;
        if self.byte() == b'.' {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.byte(), b'+' | b'-') {
                self.at += 1;
            }
            self.some_digits()?;
            may_overflow = true;
        }
        if may_overflow && !self.is_finite(start) {
            return Err(Flaw::new(Kind::Invalid("a number out of range"), start));
        }
        Ok(())
    }

    #[cold]
    fn is_finite(&self, start: usize) -> bool {
        let number = self.text.get(start..self.at).and_then(|text| text.parse::<f64>().ok());
        number.is_some_and(f64::is_finite)
    }

    fn some_digits(&mut self) -> Checked {
        if !self.byte().is_ascii_digit() {
            return Err(self.invalid("expected a digit"));
        }
        self.digits();
        Ok(())
    }

    #[inline]
    fn digits(&mut self) {
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &'static str) -> Checked {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            return Err(self.invalid("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    #[inline]
    fn skip_space(&mut self) {
        while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// The byte here; 0, which is no JSON token, at the end.
    #[inline]
    fn byte(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[cold]
    fn invalid(&self, why: &'static str) -> Box<Flaw> {
        let why = if self.at >= self.bytes.len() { "the text ends too early" } else { why };
        Flaw::new(Kind::Invalid(why), self.at)
    }
}
