//! Server-sent events out of bytes: any chunk boundary, any line ends, no copy where an event lies in one chunk.
//!
//! The grammar is that of the HTML standard, section 9.2.6 ("interpreting an event stream").

use std::borrow::Cow;

use bytes::{Buf, Bytes, BytesMut};

use crate::fault::{Fault, FaultKind};

/// Longest line, in bytes, that a splitter takes unless told otherwise.
pub const MAX_LINE: usize = 1024 * 1024;
/// An event may be as long as this many of its longest lines.
const LINES_PER_EVENT: usize = 4;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// One block of a stream: an event, or comments and fields without data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The value of its `event:` line, if it has one.
    pub event: Option<Bytes>,
    /// Its `data:` lines, joined by newlines.
    pub data: Bytes,
    /// The whole block as it came, its blank line included.
    pub raw: Bytes,
    /// Whether the block has a `data:` line. Without one it is a comment (keep-alive) or an `id:` or `retry:` alone,
    /// which no client shows to its application.
    pub has_data: bool,
    /// Whether the block is exactly one `data:` line: no comments, names or ids that a relay may want to drop.
    pub plain: bool,
}

impl SseEvent {
    /// Whether the block has the event name `name`.
    pub fn is(&self, name: &str) -> bool {
        self.event.as_deref() == Some(name.as_bytes())
    }

    /// Whether this is the `[DONE]` that ends streams of the OpenAI dialect.
    pub fn is_done(&self) -> bool {
        self.data.trim_ascii() == b"[DONE]"
    }

    /// The data as text; bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        match simdutf8::basic::from_utf8(&self.data) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(&self.data),
        }
    }
}

/// Cuts a stream into events. Push chunks, then take events until there are none, and finish at the end.
#[derive(Debug)]
pub struct SseSplitter {
    /// What is not yet cut.
    chunk: Bytes,
    /// The beginning of an event whose end is not in `chunk`'s predecessors.
    carry: BytesMut,
    scan: Scan,
    max_line: usize,
    begun: bool,
}

impl Default for SseSplitter {
    fn default() -> Self {
        Self::new()
    }
}

impl SseSplitter {
    /// A splitter with the usual line limit, [`MAX_LINE`].
    pub fn new() -> Self {
        Self::with_max_line(MAX_LINE)
    }

    /// A splitter that takes lines of up to `max_line` bytes, and events of four times that.
    pub fn with_max_line(max_line: usize) -> Self {
        Self { chunk: Bytes::new(), carry: BytesMut::new(), scan: Scan::default(), max_line, begun: false }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.chunk = [&*self.chunk, &*chunk].concat().into();
        }
    }

    /// The next whole event; `None` when more bytes are needed.
    ///
    /// # Errors
    /// `Malformed` when a line or an event is too long. The splitter is of no use after that.
    #[allow(clippy::should_implement_trait, reason = "not an iterator: `None` means not yet")]
    pub fn next(&mut self) -> Result<Option<SseEvent>, Fault> {
        if !self.begun && !self.begin() {
            return Ok(None);
        }
        if self.carry.is_empty() {
            self.skip_blank_lines();
        }
        if self.chunk.is_empty() {
            return Ok(None);
        }
        let end = self.scan.run(&self.chunk, self.max_line).map_err(|TooLong| self.too_long())?;
        let Some(end) = end else {
            self.carry.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
            if self.carry.len() > self.max_line.saturating_mul(LINES_PER_EVENT) {
                return Err(self.too_long());
            }
            return Ok(None);
        };
        let mut raw = self.chunk.split_to(end);
        if !self.carry.is_empty() {
            self.carry.extend_from_slice(&raw);
            raw = self.carry.split().freeze();
        }
        let lines = std::mem::take(&mut self.scan).lines;
        Ok(Some(parse(raw, lines)))
    }

    /// The stream has ended: the last event, if its blank line is missing. Its `raw` gets what is missing, so that
    /// it is a whole frame. Whether its data is whole, only the reader of the data can say.
    ///
    /// # Errors
    /// `Malformed` when a line or an event is too long.
    pub fn finish(&mut self) -> Result<Option<SseEvent>, Fault> {
        self.begun = true;
        if let Some(event) = self.next()? {
            return Ok(Some(event));
        }
        if self.carry.is_empty() {
            return Ok(None);
        }
        let scan = std::mem::take(&mut self.scan);
        let mut raw = self.carry.split();
        if scan.line > 0 {
            raw.extend_from_slice(b"\n");
        }
        if !scan.ending {
            raw.extend_from_slice(b"\n");
        }
        Ok(Some(parse(raw.freeze(), scan.lines + u32::from(scan.line > 0))))
    }

    /// Drops a byte-order mark; false while it cannot be told whether there is one.
    fn begin(&mut self) -> bool {
        if self.chunk.starts_with(BOM) {
            self.chunk.advance(BOM.len());
        } else if BOM.starts_with(&self.chunk) {
            return false;
        }
        self.begun = true;
        true
    }

    /// Blank lines before an event mean nothing; one of them may be the LF of a CRLF that a chunk's end has cut.
    fn skip_blank_lines(&mut self) {
        let blank = self.chunk.iter().take_while(|b| matches!(b, b'\n' | b'\r')).count();
        if blank > 0 {
            self.chunk.advance(blank);
        }
    }

    fn too_long(&self) -> Fault {
        Fault::new(
            FaultKind::Malformed,
            format!("the upstream sent an event with a line of more than {} bytes", self.max_line),
        )
    }
}

/// How far the search for the end of the current event has come.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes of the unfinished line.
    line: usize,
    /// Finished lines of this event.
    lines: u32,
    /// The last byte was the CR of a finished line: an LF now belongs to it.
    after_cr: bool,
    /// The last line ended in CRLF, so the blank line will too.
    crlf: bool,
    /// Only the LF of the blank line is missing.
    ending: bool,
}

struct TooLong;

impl Scan {
    /// Searches `bytes`, which follow what was searched before, for the end of the event.
    fn run(&mut self, bytes: &[u8], max_line: usize) -> Result<Option<usize>, TooLong> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.ending {
                return Ok(Some(at + usize::from(byte == b'\n')));
            }
            if std::mem::take(&mut self.after_cr) {
                self.crlf = byte == b'\n';
                if self.crlf {
                    at += 1;
                    continue;
                }
            }
            match byte {
                b'\n' if self.line == 0 => return Ok(Some(at + 1)),
                b'\r' if self.line == 0 && !self.crlf => return Ok(Some(at + 1)),
                b'\r' if self.line == 0 => {
                    self.ending = true;
                    at += 1;
                }
                _ => at += self.line(bytes.get(at..).unwrap_or_default(), max_line)?,
            }
        }
        Ok(None)
    }

    /// Takes the rest of a line, its end included; returns its length.
    fn line(&mut self, rest: &[u8], max_line: usize) -> Result<usize, TooLong> {
        let found = memchr::memchr2(b'\n', b'\r', rest);
        let length = found.unwrap_or(rest.len());
        self.line += length;
        if self.line > max_line {
            return Err(TooLong);
        }
        let Some(end) = found else { return Ok(length) };
        self.line = 0;
        self.lines = self.lines.saturating_add(1);
        self.after_cr = rest.get(end) == Some(&b'\r');
        self.crlf = false;
        Ok(end + 1)
    }
}

/// Reads the fields of one block.
fn parse(raw: Bytes, lines: u32) -> SseEvent {
    if lines == 1
        && let Some(value) = raw.strip_prefix(b"data:")
    {
        let data = raw.slice_ref(value_of(trim_end(value)));
        return SseEvent { event: None, data, raw, has_data: true, plain: true };
    }
    let mut event = SseEvent { event: None, data: Bytes::new(), raw, has_data: false, plain: false };
    let raw = event.raw.clone();
    let mut joined: Option<Vec<u8>> = None;
    for line in lines_of(&raw) {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default()),
            None => (line, &b""[..]),
        };
        let value = value_of(value);
        match name {
            b"event" => event.event = Some(raw.slice_ref(value)),
            b"data" if !event.has_data => {
                event.data = raw.slice_ref(value);
                event.has_data = true;
            }
            b"data" => {
                let joined = joined.get_or_insert_with(|| event.data.to_vec());
                joined.push(b'\n');
                joined.extend_from_slice(value);
            }
            _ => {}
        }
    }
    if let Some(joined) = joined {
        event.data = joined.into();
    }
    event
}

fn lines_of(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    raw.split(|b| matches!(b, b'\n' | b'\r')).filter(|line| !line.is_empty())
}

fn value_of(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

fn trim_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |last| last + 1);
    line.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{SseEvent, SseSplitter};
    use crate::fault::FaultKind;

    /// All events of a stream that comes in these chunks.
    fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<SseEvent> {
        let mut splitter = SseSplitter::new();
        let mut events = Vec::new();
        for chunk in chunks {
            splitter.push(Bytes::copy_from_slice(chunk));
            while let Some(event) = splitter.next().unwrap() {
                events.push(event);
            }
        }
        events.extend(splitter.finish().unwrap());
        assert_eq!(splitter.finish().unwrap(), None, "nothing is left");
        events
    }

    fn shown(event: &SseEvent) -> (Option<&str>, &str) {
        (
            event.event.as_deref().map(|name| str::from_utf8(name).unwrap()),
            str::from_utf8(&event.data).unwrap(),
        )
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        type Shown<'a> = &'a [(Option<&'a str>, &'a str)];
        let table: &[(&str, Shown<'_>)] = &[
            ("", &[]),
            ("\n\n\r\n", &[]),
            ("data: a\n\n", &[(None, "a")]),
            ("data:a\n\ndata:  b\n\n", &[(None, "a"), (None, " b")]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", &[(None, "a"), (None, "b")]),
            ("data: a\r\rdata: b\r\r", &[(None, "a"), (None, "b")]),
            ("data: a\r\r\ndata: b\r\n\n", &[(None, "a"), (None, "b")]),
            ("data: a\n\r\ndata: b\n\r", &[(None, "a"), (None, "b")]),
            ("\u{feff}data: a\n\n", &[(None, "a")]),
            ("\u{feff}", &[]),
            ("data: a\ndata: b\n\n", &[(None, "a\nb")]),
            ("data: a\r\ndata\r\ndata:c\r\n\r\n", &[(None, "a\n\nc")]),
            ("event: error\ndata: {}\n\n", &[(Some("error"), "{}")]),
            ("data: {}\nevent:x\nid: 7\nretry: 10\n\n", &[(Some("x"), "{}")]),
            (": ping\n\ndata: a\n\n", &[(None, ""), (None, "a")]),
            (": OPENROUTER PROCESSING\ndata: a\n\n", &[(None, "a")]),
            ("id:1\nevent:result\n:HTTP_STATUS/200\ndata:{}\n\n", &[(Some("result"), "{}")]),
            ("data\n\n", &[(None, "")]),
            ("data:\n\n", &[(None, "")]),
            ("database: a\n\n", &[(None, "")]),
            ("data: a:b: c\n\n", &[(None, "a:b: c")]),
            ("data: [DONE]", &[(None, "[DONE]")]),
            ("data: a\n\ndata: b\n", &[(None, "a"), (None, "b")]),
            ("data: a\n\ndata: b\r", &[(None, "a"), (None, "b")]),
            ("data: a\r\n\r", &[(None, "a")]),
            ("data: é😀\n\n", &[(None, "é😀")]),
        ];
        for (text, expected) in table {
            let events = split([text.as_bytes()]);
            assert_eq!(events.iter().map(shown).collect::<Vec<_>>(), *expected, "{text:?}");
        }
    }

    #[test]
    fn blocks_say_what_they_are() {
        let table = [
            ("data: a\n\n", true, true),
            ("data: a\ndata: b\n\n", true, false),
            (": c\ndata: a\n\n", true, false),
            ("event: x\ndata: a\n\n", true, false),
            (": c\n\n", false, false),
            ("retry: 1\n\n", false, false),
        ];
        for (text, has_data, plain) in table {
            let [event] = &split([text.as_bytes()])[..] else { panic!("{text:?}") };
            assert_eq!(
                (event.has_data, event.plain, &*event.raw),
                (has_data, plain, text.as_bytes()),
                "{text:?}"
            );
        }
        let done = &split([&b"data: [DONE] \n\n"[..]])[0];
        assert!(done.is_done() && !done.is("error"));
        assert!(split([&b"event: error\ndata: x\n\n"[..]])[0].is("error"));
        assert_eq!(split([&b"data: a\xffb\n\n"[..]])[0].text(), "a\u{fffd}b");
    }

    #[test]
    fn an_event_in_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"data: {\"a\":1}\n\ndata: {\"b\":2}\n\nda");
        let mut splitter = SseSplitter::new();
        splitter.push(chunk.clone());
        for start in [0, 15] {
            let event = splitter.next().unwrap().unwrap();
            assert_eq!(event.raw.as_ptr(), chunk[start..].as_ptr());
            assert_eq!(event.data.as_ptr(), chunk[start + 6..].as_ptr());
        }
        assert_eq!(splitter.next().unwrap(), None);
        splitter.push(Bytes::from_static(b"ta: c\n\ndata: d\n\n"));
        assert_eq!(&*splitter.next().unwrap().unwrap().raw, b"data: c\n\n");
        assert_eq!(&*splitter.next().unwrap().unwrap().raw, b"data: d\n\n");
    }

    #[test]
    fn chunks_may_be_pushed_before_events_are_taken() {
        let mut splitter = SseSplitter::new();
        for chunk in [&b"data: a\n\nda"[..], b"", b"ta: b\n", b"\n"] {
            splitter.push(Bytes::copy_from_slice(chunk));
        }
        assert_eq!(&*splitter.next().unwrap().unwrap().data, b"a");
        assert_eq!(&*splitter.next().unwrap().unwrap().data, b"b");
        assert_eq!(splitter.next().unwrap(), None);
    }

    #[test]
    fn a_missing_blank_line_is_made_good() {
        for (text, raw) in
            [("data: a", "data: a\n\n"), ("data: a\n", "data: a\n\n"), ("data: a\r\n\r", "data: a\r\n\r")]
        {
            assert_eq!(split([text.as_bytes()])[0].raw, raw.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn endless_lines_and_events_are_refused() {
        for (chunk, pushes) in [(vec![b'x'; 600], 2), (b"data: x\n".repeat(100), 6), (vec![b'\r'; 9], 0)] {
            let mut splitter = SseSplitter::with_max_line(1000);
            let mut outcome = Ok(None);
            let mut pushed = 0;
            while outcome == Ok(None) && pushed < 50 {
                splitter.push(chunk.clone().into());
                outcome = splitter.next().map_err(|fault| fault.kind);
                pushed += 1;
            }
            let expected = if pushes > 0 { Err(FaultKind::Malformed) } else { Ok(None) };
            assert_eq!(outcome, expected);
            assert_eq!(pushed, if pushes > 0 { pushes } else { 50 });
        }
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let end = prop_oneof![4 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\r")];
        let line = prop_oneof![
            4 => "data:? ?[a-z:é😀{}]{0,6}",
            1 => "event: ?[a-z]{1,3}",
            1 => ": ?[a-z]{0,5}",
            1 => "id: [0-9]",
            3 => Just(String::new()),
        ];
        let lines = proptest::collection::vec((line, end).prop_map(|(line, end)| line + end), 0..12);
        (any::<bool>(), lines, "[a-z:]{0,4}").prop_map(|(bom, lines, tail)| {
            let bom = if bom { "\u{feff}" } else { "" };
            format!("{bom}{}{tail}", lines.concat()).into_bytes()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn every_split_gives_the_same_events(text in stream(), seed in any::<u64>()) {
            let whole = split([&text[..]]);
            prop_assert_eq!(&split(text.chunks(1)), &whole, "byte by byte");
            for at in 0..=text.len() {
                prop_assert_eq!(&split([&text[..at], &text[at..]]), &whole, "cut at {}", at);
            }
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut chunks = Vec::new();
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at(dice.usize(1..=rest.len().min(9)));
                chunks.push(chunk);
                rest = tail;
            }
            prop_assert_eq!(&split(chunks), &whole);
        }
    }
}
