//! The one pass over a request body: grammar, depth, duplicates, and the places of the top-level fields.

use std::borrow::Cow;
use std::ops::Range;

use super::flaw::{Flaw, Kind};
use super::inlined::{Inlined, LONG};
use super::keys::{Key, Keys};
use super::scan::{MASKED, masked, plain_end};
use super::{Field, MAX_DEPTH};

/// How texts and keys begin that this house writes into answers, and clients bring back with a conversation: wrapped
/// proofs, plain and in base64, and thinking in OpenAI's dialect.
const OURS: [&[u8]; 5] =
    [b"tollgate:", b"dG9sbGdhdGU6", b"reasoning_content", b"reasoning_details", b"extra_content"];

/// What is known of a body that passed.
pub(super) struct Passed {
    /// The top-level fields.
    pub(super) fields: Vec<Field>,
    /// Whether a text or a key of [`OURS`] stands anywhere.
    pub(super) ours: bool,
    /// The media that stand in it.
    pub(super) inlined: Inlined,
    /// Where values stand that are strings longer than [`FAR`], quotes included, in order.
    pub(super) long: Vec<Range<usize>>,
}

/// Bytes of a string from which on it is worth to remember where it ends.
const FAR: usize = 128;

/// Checks `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Passed, Box<Flaw>> {
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| not_utf8(bytes))?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(Flaw::new(Kind::Invalid("a byte-order mark before the JSON text"), 0));
    }
    let mut gate = Gate {
        text,
        bytes,
        depth: 0,
        items: 0,
        ours: false,
        inlined: Inlined::default(),
        long: Vec::new(),
        keys: Keys::of(text),
    };
    let mut fields = Vec::with_capacity(12);
    let start = gate.skip_space(0);
    let is_object = gate.byte(start) == b'{';
    let end = if is_object {
        gate.object(start, &mut |key, value, items| {
            let span = key.start - 1..value.end;
            fields.push(Field { key: name(key.of(text)), span, value, items });
        })?
    } else if start == bytes.len() {
        return Err(Flaw::new(Kind::Invalid("the body is empty"), start));
    } else {
        gate.value(start)?
    };
    let end = gate.skip_space(end);
    if end < bytes.len() {
        return Err(gate.invalid("more data after the JSON value", end));
    }
    if !is_object {
        return Err(Flaw::new(Kind::NotObject, start));
    }
    Ok(Passed { fields, ours: gate.ours, inlined: gate.inlined, long: gate.long })
}

/// A top-level key, without an allocation when it is one of those that most requests have.
fn name(key: Cow<'_, str>) -> Cow<'static, str> {
    macro_rules! known {
        ($($name:literal)*) => { match &*key { $($name => Cow::Borrowed($name),)* _ => key.into_owned().into() } };
    }
    known!("model" "messages" "stream" "stream_options" "temperature" "max_tokens" "max_completion_tokens" "tools"
        "tool_choice" "top_p" "n" "stop" "user" "metadata" "response_format" "parallel_tool_calls" "input"
        "encoding_format" "dimensions" "reasoning_effort" "seed" "store")
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

/// Every function reads from a position and returns the position behind what it read.
struct Gate<'a> {
    text: &'a str,
    bytes: &'a [u8],
    depth: usize,
    /// Number of items of the value read last.
    items: usize,
    ours: bool,
    inlined: Inlined,
    long: Vec<Range<usize>>,
    keys: Keys<'a>,
}

/// The position behind what was read.
type Read = Result<usize, Box<Flaw>>;

impl Gate<'_> {
    /// Reads an object and tells `note` of every field: its key, its value, the value's items.
    fn object(&mut self, at: usize, note: &mut impl FnMut(Key, Range<usize>, usize)) -> Read {
        self.enter(at)?;
        let mut items = 0;
        let mut at = self.skip_space(at + 1);
        if self.byte(at) == b'}' {
            return Ok(self.leave(at, items));
        }
        let mut scope = self.keys.open();
        loop {
            let key = self.key(at)?;
            if !self.keys.insert(&mut scope, key) {
                return Err(Flaw::new(Kind::Duplicate, at).below_key(&key.of(self.text)));
            }
            at = self.skip_space(key.end + 1);
            if self.byte(at) != b':' {
                return Err(self.invalid("expected a colon after the key", at));
            }
            let value_at = self.skip_space(at + 1);
            let end = self.value(value_at).map_err(|flaw| flaw.below_key(&key.of(self.text)))?;
            if end - value_at > LONG && self.byte(value_at) == b'"' {
                let quoted = self.bytes.get(value_at..end).unwrap_or_default();
                self.inlined.note(&key.of(self.text), quoted);
            }
            note(key, value_at..end, self.items);
            items += 1;
            at = self.skip_space(end);
            match self.byte(at) {
                b',' => at = self.skip_space(at + 1),
                b'}' => break,
                _ => return Err(self.invalid("expected a comma or the end of the object", at)),
            }
        }
        self.keys.close(&scope);
        Ok(self.leave(at, items))
    }

    #[inline]
    fn key(&mut self, at: usize) -> Result<Key, Box<Flaw>> {
        if self.byte(at) != b'"' {
            return Err(self.invalid("expected a key in double quotes", at));
        }
        let start = at + 1;
        self.watch(start);
        let end = plain_end(self.bytes, start);
        if self.bytes.get(end) == Some(&b'"') {
            return Ok(Key { start, end, escaped: false });
        }
        Ok(Key { start, end: self.string_from(end)? - 1, escaped: true })
    }

    fn array(&mut self, at: usize) -> Read {
        self.enter(at)?;
        let mut items = 0;
        let mut at = self.skip_space(at + 1);
        if self.byte(at) == b']' {
            return Ok(self.leave(at, items));
        }
        loop {
            at = self.value(at).map_err(|flaw| flaw.below_index(items))?;
            items += 1;
            at = self.skip_space(at);
            match self.byte(at) {
                b',' => at = self.skip_space(at + 1),
                b']' => break,
                _ => return Err(self.invalid("expected a comma or the end of the array", at)),
            }
        }
        Ok(self.leave(at, items))
    }

    /// Reads one value and notes the number of its items.
    fn value(&mut self, at: usize) -> Read {
        self.items = 0;
        match self.byte(at) {
            b'"' => self.string(at),
            b'{' => self.object(at, &mut |_, _, _| ()),
            b'[' => self.array(at),
            b'-' | b'0'..=b'9' => self.number(at),
            b't' => self.word("true", at),
            b'f' => self.word("false", at),
            b'n' => self.word("null", at),
            _ => Err(self.invalid("expected a value", at)),
        }
    }

    #[inline]
    fn enter(&mut self, at: usize) -> Result<(), Box<Flaw>> {
        if self.depth == MAX_DEPTH {
            return Err(Flaw::new(Kind::TooDeep, at));
        }
        self.depth += 1;
        Ok(())
    }

    #[inline]
    fn leave(&mut self, at: usize, items: usize) -> usize {
        self.depth -= 1;
        self.items = items;
        at + 1
    }

    #[inline]
    fn string(&mut self, at: usize) -> Read {
        self.watch(at + 1);
        let end = plain_end(self.bytes, at + 1);
        let end = if self.bytes.get(end) == Some(&b'"') { end + 1 } else { self.string_from(end)? };
        if end - at > FAR {
            self.remember(at..end);
        }
        Ok(end)
    }

    #[cold]
    fn remember(&mut self, string: Range<usize>) {
        if self.long.capacity() == 0 {
            self.long.reserve(16);
        }
        self.long.push(string);
    }

    /// Notes whether one of [`OURS`] begins here.
    #[inline]
    fn watch(&mut self, at: usize) {
        if matches!(self.byte(at), b't' | b'd' | b'r' | b'e') {
            let rest = self.bytes.get(at..).unwrap_or_default();
            self.ours = self.ours || OURS.iter().any(|word| rest.starts_with(word));
        }
    }

    /// Reads the rest of a string, whose plain beginning ends at `at`.
    #[inline(never)]
    fn string_from(&self, mut at: usize) -> Read {
        while let Some(mut marks) = masked(self.bytes, at) {
            let block = at;
            at += MASKED;
            while marks != 0 {
                let mark = block + marks.trailing_zeros() as usize;
                match self.bytes.get(mark) {
                    Some(b'"') => return Ok(mark + 1),
                    Some(b'\\') => {
                        // Nearly all escapes are two bytes long; the others are worth a call.
                        let next = match self.bytes.get(mark + 1) {
                            Some(b'"' | b'\\' | b'n') => mark + 2,
                            _ => self.escape(mark)?,
                        };
                        if next >= block + MASKED {
                            at = next;
                            break;
                        }
                        marks &= u64::MAX << (next - block);
                    }
                    _ => return Err(Flaw::new(Kind::Invalid("a control character in a string"), mark)),
                }
            }
        }
        loop {
            match self.bytes.get(at) {
                Some(b'"') => return Ok(at + 1),
                Some(b'\\') => at = self.escape(at)?,
                Some(0..0x20) => return Err(Flaw::new(Kind::Invalid("a control character in a string"), at)),
                Some(_) => at = plain_end(self.bytes, at),
                None => return Err(Flaw::new(Kind::Invalid("the text ends inside a string"), at)),
            }
        }
    }

    /// Checks the escape at `at` and returns the position behind it.
    #[inline(never)]
    fn escape(&self, at: usize) -> Read {
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') => self.unicode(at),
            _ => Err(Flaw::new(Kind::Invalid("an unknown escape in a string"), at)),
        }
    }

    fn unicode(&self, at: usize) -> Read {
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

    fn number(&self, start: usize) -> Read {
        let mut at = start + usize::from(self.byte(start) == b'-');
        match self.byte(at) {
            b'0' => at += 1,
            _ => at = self.digits(at)?,
        }
        let mut may_overflow = at - start > 300;
        if self.byte(at) == b'.' {
            at = self.digits(at + 1)?;
        }
        if matches!(self.byte(at), b'e' | b'E') {
            at += 1;
            at = self.digits(at + usize::from(matches!(self.byte(at), b'+' | b'-')))?;
            may_overflow = true;
        }
        if may_overflow && !self.is_finite(start..at) {
            return Err(Flaw::new(Kind::Invalid("a number out of range"), start));
        }
        Ok(at)
    }

    #[cold]
    fn is_finite(&self, range: Range<usize>) -> bool {
        self.text.get(range).and_then(|text| text.parse::<f64>().ok()).is_some_and(f64::is_finite)
    }

    /// One or more digits.
    #[inline]
    fn digits(&self, start: usize) -> Read {
        let mut at = start;
        while self.byte(at).is_ascii_digit() {
            at += 1;
        }
        if at == start { Err(self.invalid("expected a digit", at)) } else { Ok(at) }
    }

    fn word(&self, word: &'static str, at: usize) -> Read {
        if !self.bytes.get(at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            return Err(self.invalid("expected a value", at));
        }
        Ok(at + word.len())
    }

    #[inline]
    fn skip_space(&self, mut at: usize) -> usize {
        while matches!(self.byte(at), b' ' | b'\n' | b'\r' | b'\t') {
            at += 1;
        }
        at
    }

    /// The byte there; 0, which is no JSON token, at the end.
    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    #[cold]
    fn invalid(&self, why: &'static str, at: usize) -> Box<Flaw> {
        let why = if at >= self.bytes.len() { "the text ends too early" } else { why };
        Flaw::new(Kind::Invalid(why), at)
    }
}
