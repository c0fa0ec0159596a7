//! Finds the usage object in a JSON text that passes by in pieces, without keeping the text.

use crate::chat::Tier;

/// Nothing that counts tokens is longer.
const LONGEST: usize = 16 << 10;
/// Longer keys, and values beside the usage, are of no interest.
const LONGEST_KEY: usize = 24;

/// A reader of JSON that knows only depth, strings and the keys of the two uppermost levels.
#[derive(Default)]
pub(super) struct Scan {
    /// Whether usage may be called `meta`, as Cohere calls it where it does not chat.
    in_meta: bool,
    depth: usize,
    /// The level on which the document's objects stand: 1, or 2 in an array of documents.
    base: usize,
    text: Option<Text>,
    /// The keys that lead to where we are, on the two uppermost levels of objects.
    outer: Key,
    inner: Key,
    /// The key that was read last on an interesting level, until its value begins.
    key: Vec<u8>,
    /// The service that answers, once it was named.
    pub(super) tier: Option<Tier>,
    /// Milliseconds of sound, once they were said.
    pub(super) audio_ms: u64,
    /// The usage object that is being copied, and the depth at which it ends.
    copied: Option<(Vec<u8>, usize)>,
    /// The string that was read last, as far as it may be the key of a text.
    word: Vec<u8>,
    /// What a string would be that begins now.
    follows: Option<Said>,
    /// Bytes of texts so far, in all documents; and of those that are called `delta` themselves.
    texts: u64,
    deltas: u64,
}

/// What a string says that is part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Text, thoughts, arguments of a call.
    Text,
    /// The same in OpenAI's responses, whose streams say all of it once more when it is done.
    Delta,
}

impl Said {
    fn by(key: &[u8]) -> Option<Self> {
        match key {
            b"content" | b"text" | b"thinking" | b"reasoning" | b"reasoning_content" | b"refusal"
            | b"arguments" | b"partial_json" => Some(Self::Text),
            b"delta" => Some(Self::Delta),
            _ => None,
        }
    }
}

/// A string under way.
struct Text {
    escaped: bool,
    /// Whether it may be a key of interest.
    kept: bool,
    /// Whether it may be the key of a text.
    is_word: bool,
    /// Whose bytes are counted.
    said: Option<Said>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Key {
    #[default]
    Other,
    /// `usage`, `usageMetadata`, and Cohere's `meta`.
    Usage,
    /// `service_tier`, `serviceTier`.
    Tier,
    /// `duration`.
    Duration,
    /// What usage may stand in: `message` (Anthropic), `response` (OpenAI responses), `x_groq`, `delta` (Cohere),
    /// `interaction` (Google).
    Wrapper,
}

impl Key {
    fn of(text: &[u8]) -> Self {
        match text {
            b"usage" | b"usageMetadata" => Self::Usage,
            b"service_tier" | b"serviceTier" => Self::Tier,
            b"duration" => Self::Duration,
            b"message" | b"response" | b"x_groq" | b"delta" | b"interaction" => Self::Wrapper,
            _ => Self::Other,
        }
    }
}

impl Scan {
    pub(super) fn new(in_meta: bool) -> Self {
        Self { in_meta, ..Self::default() }
    }

    /// From the beginning of the next document.
    pub(super) fn anew(&mut self) {
        *self = Self { texts: self.texts, deltas: self.deltas, ..Self::new(self.in_meta) };
    }

    /// Bytes of the answer's texts so far.
    pub(super) fn said(&self) -> u64 {
        if self.deltas > 0 { self.deltas } else { self.texts }
    }

    /// Takes the next bytes and hands out each usage object that is complete.
    pub(super) fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Vec<u8>)) {
        let mut rest = bytes;
        while let Some(byte) = rest.first().copied() {
            let step = match &mut self.text {
                Some(text) => text.length(rest),
                None => 1,
            };
            let (here, tail) = rest.split_at(step);
            self.copy(here);
            rest = tail;
            if self.text.is_some() {
                self.in_text(here);
            } else if let Some(usage) = self.structure(byte) {
                found(usage);
            }
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        if let Some((copied, _)) = &mut self.copied {
            copied.extend_from_slice(bytes);
            if copied.len() > LONGEST {
                self.copied = None;
            }
        }
    }

    fn in_text(&mut self, here: &[u8]) {
        let Some(text) = &mut self.text else { return };
        let is_plain = !text.escaped && !matches!(here, b"\"" | b"\\");
        match text.said {
            // What is escaped counts as one byte.
            Some(said) if is_plain || text.escaped => {
                let count = if said == Said::Delta { &mut self.deltas } else { &mut self.texts };
                *count += here.len() as u64;
            }
            None if is_plain && text.is_word && self.word.len() + here.len() <= LONGEST_KEY => {
                self.word.extend_from_slice(here);
            }
            None if is_plain || text.escaped => {
                text.is_word = false;
                self.word.clear();
            }
            _ => {}
        }
        match here {
            _ if text.escaped => text.escaped = false,
            b"\"" => self.text = None,
            b"\\" => {
                (text.escaped, text.kept) = (true, false);
                self.key.clear();
            }
            plain if text.kept && self.key.len() + plain.len() <= LONGEST_KEY => {
                self.key.extend_from_slice(plain);
            }
            _ => {
                text.kept = false;
                self.key.clear();
            }
        }
    }

    /// One byte outside of strings; a usage object that ends with it.
    fn structure(&mut self, byte: u8) -> Option<Vec<u8>> {
        match byte {
            b'"' => {
                let level = (self.depth + 1).saturating_sub(self.base);
                let kept = self.copied.is_none() && self.base > 0 && (1..=2).contains(&level);
                let said = self.follows.take().filter(|_| self.copied.is_none());
                self.text = Some(Text { escaped: false, kept, is_word: true, said });
                self.key.clear();
                self.word.clear();
            }
            b':' => {
                self.follows = Said::by(&self.word);
                self.name();
            }
            b'{' | b'[' => {
                self.follows = None;
                self.open(byte);
            }
            b',' => {
                self.follows = None;
                self.tell();
            }
            b'}' | b']' => {
                self.tell();
                return self.close();
            }
            b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'
                if self.outer == Key::Duration && self.depth == self.base && self.key.len() < LONGEST_KEY =>
            {
                self.key.push(byte);
            }
            _ => {}
        }
        None
    }

    /// A value has ended, which may be the name of a service, or the length of a recording in seconds.
    fn tell(&mut self) {
        if self.outer == Key::Duration && self.depth == self.base {
            let seconds = std::str::from_utf8(&self.key).ok().and_then(|text| text.parse::<f64>().ok());
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
            let ms = seconds
                .filter(|seconds| seconds.is_finite())
                .map_or(0, |seconds| (seconds * 1e3).clamp(0.0, 1e12).ceil() as u64);
            self.audio_ms = self.audio_ms.max(ms);
        }
        let names = match (self.depth + 1).checked_sub(self.base) {
            Some(1) => self.outer == Key::Tier,
            Some(2) => self.outer == Key::Wrapper && self.inner == Key::Tier,
            _ => false,
        };
        if names && let Ok(word) = std::str::from_utf8(&self.key) {
            self.tier = Tier::said(word).or(self.tier);
        }
    }

    /// The string before was a key.
    fn name(&mut self) {
        let key = if self.in_meta && self.key == b"meta" { Key::Usage } else { Key::of(&self.key) };
        match (self.depth + 1).checked_sub(self.base) {
            Some(1) => (self.outer, self.inner) = (key, Key::Other),
            Some(2) => self.inner = key,
            _ => {}
        }
        self.key.clear();
    }

    fn open(&mut self, byte: u8) {
        if self.depth == 0 {
            self.base = if byte == b'[' { 2 } else { 1 };
        }
        let usage = match (self.depth + 1).checked_sub(self.base) {
            Some(1) => self.outer == Key::Usage,
            Some(2) => self.outer == Key::Wrapper && self.inner == Key::Usage,
            _ => false,
        };
        if usage && byte == b'{' && self.depth > 0 && self.copied.is_none() {
            self.copied = Some((b"{".to_vec(), self.depth));
        }
        self.depth += 1;
        if self.depth == self.base {
            (self.outer, self.inner) = (Key::Other, Key::Other);
        }
    }

    fn close(&mut self) -> Option<Vec<u8>> {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            self.base = 0;
        }
        let ends = self.copied.as_ref().is_some_and(|(_, depth)| *depth == self.depth);
        if ends { self.copied.take().map(|(usage, _)| usage) } else { None }
    }
}

impl Text {
    /// How many bytes of `rest` can be taken at once: one that has a meaning, or all up to the next that has.
    fn length(&self, rest: &[u8]) -> usize {
        if self.escaped {
            return 1;
        }
        match memchr::memchr2(b'"', b'\\', rest) {
            Some(0) => 1,
            Some(at) => at,
            None => rest.len(),
        }
    }
}
