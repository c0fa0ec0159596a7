//! Lines of JSON out of bytes (NDJSON): any chunk boundary, blank lines passed over, lines of bounded length.

use bytes::{Bytes, BytesMut};

use super::sse::MAX_LINE;
use crate::fault::{Fault, FaultKind};

/// Cuts a stream into lines. Push chunks, then take lines until there are none, and finish at the end.
#[derive(Debug)]
pub struct LineSplitter {
    /// What is not yet cut.
    chunk: Bytes,
    /// The beginning of a line whose end has not come.
    carry: BytesMut,
    max_line: usize,
}

impl Default for LineSplitter {
    fn default() -> Self {
        Self::new()
    }
}

impl LineSplitter {
    /// A splitter with the usual line limit, [`MAX_LINE`].
    pub fn new() -> Self {
        Self::with_max_line(MAX_LINE)
    }

    /// A splitter that takes lines of up to `max_line` bytes.
    pub fn with_max_line(max_line: usize) -> Self {
        Self { chunk: Bytes::new(), carry: BytesMut::new(), max_line }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.chunk = [&*self.chunk, &*chunk].concat().into();
        }
    }

    /// The next whole line that is not blank, without its end; `None` when more bytes are needed.
    ///
    /// # Errors
    /// `Malformed` when a line is too long. The splitter is of no use after that.
    #[allow(clippy::should_implement_trait, reason = "not an iterator: `None` means not yet")]
    pub fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        while let Some(end) = memchr::memchr(b'\n', &self.chunk) {
            let mut line = self.chunk.split_to(end + 1);
            line.truncate(end);
            if !self.carry.is_empty() {
                self.carry.extend_from_slice(&line);
                line = self.carry.split().freeze();
            }
            if line.len() > self.max_line {
                return Err(self.too_long());
            }
            let line = line.slice_ref(line.trim_ascii());
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
        self.carry.extend_from_slice(&std::mem::take(&mut self.chunk));
        if self.carry.len() > self.max_line {
            return Err(self.too_long());
        }
        Ok(None)
    }

    /// The stream has ended: the last line, if its end is missing. Whether it is whole, only its reader can say.
    ///
    /// # Errors
    /// `Malformed` when a line is too long.
    pub fn finish(&mut self) -> Result<Option<Bytes>, Fault> {
        if let Some(line) = self.next()? {
            return Ok(Some(line));
        }
        let line = self.carry.split().freeze();
        let line = line.slice_ref(line.trim_ascii());
        Ok((!line.is_empty()).then_some(line))
    }

    fn too_long(&self) -> Fault {
        let text = format!("the upstream sent a line of more than {} bytes", self.max_line);
        Fault::new(FaultKind::Malformed, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut splitter = LineSplitter::new();
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.push(Bytes::copy_from_slice(chunk));
            while let Some(line) = splitter.next().unwrap() {
                lines.push(line);
            }
        }
        while let Some(line) = splitter.finish().unwrap() {
            lines.push(line);
        }
        lines.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        for (text, expected) in [
            ("", &[][..]),
            ("\n\r\n \n", &[]),
            ("{\"a\":1}\n{\"b\":\"ü\"}\r\n\n{}", &["{\"a\":1}", "{\"b\":\"ü\"}", "{}"]),
            ("{}\n", &["{}"]),
            ("{\"cut", &["{\"cut"]),
        ] {
            let body = text.as_bytes();
            assert_eq!(split(body.chunks(1)), expected, "{text} byte by byte");
            for at in 0..=body.len() {
                assert_eq!(split([&body[..at], &body[at..]]), expected, "{text} at {at}");
            }
        }
    }

    #[test]
    fn a_line_has_its_limit() {
        for chunks in [&["0123456789\n"][..], &["01234", "56789"], &["01234", "56789\n"]] {
            let mut splitter = LineSplitter::with_max_line(9);
            let too_long = chunks.iter().any(|chunk| {
                splitter.push(Bytes::copy_from_slice(chunk.as_bytes()));
                splitter.next().is_err()
            });
            assert!(too_long, "{chunks:?}");
        }
        let mut splitter = LineSplitter::with_max_line(9);
        splitter.push(Bytes::from_static(b"012345678\n"));
        assert_eq!(splitter.next().unwrap().unwrap(), "012345678");
    }
}
