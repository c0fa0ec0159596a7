//! A streamed body cut into its JSON documents: server-sent events, or one JSON array that grows.

use bytes::{Bytes, BytesMut};

use crate::fault::{Fault, FaultKind};
use crate::frames::{SseEvent, SseSplitter};

/// Longest document. Pictures come inline, so this is far above what text needs.
const LONGEST: usize = 32 * 1024 * 1024;

/// One document of a stream.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// The JSON text; empty for a piece without a document (a comment).
    pub(super) json: Bytes,
    /// Everything that came with it, to be sent on.
    pub(super) raw: Bytes,
}

/// Cuts a body into its documents, whichever form it has. Any chunk boundary is legal.
pub(super) enum Pieces {
    /// Nothing but white space came so far.
    Unknown(BytesMut),
    /// `data:` events.
    Sse(SseSplitter),
    /// `[{…},{…}]`, or one document that is no array.
    Array(ArrayCutter),
}

impl Pieces {
    pub(super) fn new() -> Self {
        Self::Unknown(BytesMut::new())
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, chunk: Bytes) {
        match self {
            Self::Sse(splitter) => splitter.push(chunk),
            Self::Array(cutter) => cutter.held.extend_from_slice(&chunk),
            Self::Unknown(held) => {
                held.extend_from_slice(&chunk);
                let Some(first) = held.iter().find(|byte| !byte.is_ascii_whitespace()) else { return };
                let array = matches!(first, b'[' | b'{');
                let held = held.split();
                if array {
                    *self = Self::Array(ArrayCutter { held, ..ArrayCutter::default() });
                } else {
                    let mut splitter = SseSplitter::with_max_line(LONGEST);
                    splitter.push(held.freeze());
                    *self = Self::Sse(splitter);
                }
            }
        }
    }

    /// The next document that is whole.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Fault> {
        match self {
            Self::Unknown(_) => Ok(None),
            Self::Sse(splitter) => Ok(splitter.next()?.map(piece)),
            Self::Array(cutter) => cutter.next(),
        }
    }

    /// The body is over: what is still held, one after the other. A last event without its blank line counts when it is
    /// whole JSON; anything else that is cut does not.
    pub(super) fn finish(&mut self) -> Result<Option<Piece>, Fault> {
        match self {
            Self::Unknown(_) => Ok(None),
            Self::Sse(splitter) => {
                let Some(event) = splitter.finish()? else { return Ok(None) };
                let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&event.data).is_ok();
                if event.has_data && !whole {
                    return Err(super::fault::truncated());
                }
                Ok(Some(piece(event)))
            }
            Self::Array(cutter) => {
                if let Some(piece) = cutter.next()? {
                    return Ok(Some(piece));
                }
                if !cutter.closed {
                    return Err(super::fault::truncated());
                }
                let rest = cutter.held.split().freeze();
                Ok((!rest.is_empty()).then(|| Piece { json: Bytes::new(), raw: rest }))
            }
        }
    }
}

fn piece(event: SseEvent) -> Piece {
    let json = if event.has_data { event.data } else { Bytes::new() };
    Piece { json, raw: event.raw }
}

/// Cuts a growing JSON array into its elements.
#[derive(Default)]
pub(super) struct ArrayCutter {
    held: BytesMut,
    /// Bytes of `held` that were looked at.
    seen: usize,
    /// Where the element began.
    start: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// Whether the elements stand in an array; a document that is no array is its own element.
    array: bool,
    /// The outermost value has ended.
    closed: bool,
}

impl ArrayCutter {
    fn next(&mut self) -> Result<Option<Piece>, Fault> {
        while let Some(&byte) = self.held.get(self.seen) {
            self.seen += 1;
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            let floor = usize::from(self.array);
            match byte {
                b'"' => self.in_text = true,
                b'[' if self.depth == 0 && !self.closed && !self.array => {
                    self.array = true;
                    self.depth = 1;
                }
                b'{' | b'[' => {
                    if self.closed {
                        return Err(super::fault::malformed("the provider's stream goes on after its end"));
                    }
                    if self.depth == floor {
                        self.start = self.seen - 1;
                    }
                    self.depth += 1;
                }
                b'}' | b']' => {
                    let Some(depth) = self.depth.checked_sub(1) else {
                        return Err(super::fault::malformed("the provider's stream is not JSON"));
                    };
                    self.depth = depth;
                    self.closed = depth == 0;
                    if depth == floor && !(self.array && depth == 0) {
                        return Ok(Some(self.cut()));
                    }
                }
                _ => {}
            }
        }
        if self.held.len() > LONGEST {
            return Err(Fault::new(FaultKind::Malformed, "the provider sent a document that is too long"));
        }
        Ok(None)
    }

    fn cut(&mut self) -> Piece {
        let raw = self.held.split_to(self.seen).freeze();
        let json = raw.slice(self.start.min(raw.len())..);
        self.seen = 0;
        self.start = 0;
        Piece { json, raw }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(body: &str, at: usize) -> Result<Vec<String>, FaultKind> {
        let mut pieces = Pieces::new();
        let mut found = Vec::new();
        let mut raw = Vec::new();
        for chunk in [body.as_bytes().get(..at).unwrap(), body.as_bytes().get(at..).unwrap()] {
            pieces.push(Bytes::copy_from_slice(chunk));
            while let Some(piece) = pieces.next().map_err(|fault| fault.kind)? {
                raw.extend_from_slice(&piece.raw);
                found.push(String::from_utf8(piece.json.to_vec()).unwrap());
            }
        }
        while let Some(piece) = pieces.finish().map_err(|fault| fault.kind)? {
            raw.extend_from_slice(&piece.raw);
            found.push(String::from_utf8(piece.json.to_vec()).unwrap());
        }
        let raw = String::from_utf8(raw).unwrap();
        assert!(raw.starts_with(body), "nothing is lost on the way: {raw}");
        found.retain(|json| !json.is_empty());
        Ok(found)
    }

    #[test]
    fn arrays_events_and_single_documents_are_cut_at_any_byte() {
        for (body, expected) in [
            ("[{\"a\":\"]}\\\"\"}\n,\r\n{\"b\":[1,{}]}\n]\n", &["{\"a\":\"]}\\\"\"}", "{\"b\":[1,{}]}"][..]),
            ("[]", &[]),
            ("  {\"a\":[1]} ", &["{\"a\":[1]}"]),
            ("data: {\"a\":1}\r\n\r\ndata: {\"b\":2}\r\n\r\n", &["{\"a\":1}", "{\"b\":2}"]),
            ("data: {\"a\":1}\n\ndata: {\"b\":2}", &["{\"a\":1}", "{\"b\":2}"]),
        ] {
            for at in 0..=body.len() {
                assert_eq!(cut(body, at).as_deref(), Ok(expected.map_str().as_slice()), "{body} at {at}");
            }
        }
    }

    #[test]
    fn what_is_cut_or_broken_is_a_fault() {
        for (body, kind) in [
            ("[{\"a\":1}", FaultKind::Truncated),
            ("[{\"a\":", FaultKind::Truncated),
            ("data: {\"a\":", FaultKind::Truncated),
            ("[{}]]", FaultKind::Malformed),
            ("[{}][", FaultKind::Malformed),
        ] {
            for at in 0..=body.len() {
                let mut pieces = Pieces::new();
                let mut run = || -> Result<(), Fault> {
                    for chunk in [body.as_bytes().get(..at).unwrap(), body.as_bytes().get(at..).unwrap()] {
                        pieces.push(Bytes::copy_from_slice(chunk));
                        while pieces.next()?.is_some() {}
                    }
                    while pieces.finish()?.is_some() {}
                    Ok(())
                };
                assert_eq!(run().unwrap_err().kind, kind, "{body} at {at}");
            }
        }
    }

    trait MapStr {
        fn map_str(&self) -> Vec<String>;
    }

    impl MapStr for &[&str] {
        fn map_str(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }
}
