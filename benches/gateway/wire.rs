//! The client's side of HTTP/1.1: just enough to find the end of an answer and to see that it is the right one.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use memchr::{memchr, memmem};

use crate::Result;

/// A request as it goes over the wire, and what has to come back.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Head and body.
    pub bytes: Bytes,
    /// What stands at the end of the right answer.
    pub marker: &'static str,
    /// Bytes that the right answer's body has at least.
    pub least: usize,
}

/// An answer on its way in. Fed with whatever the socket gives; keeps the end of the body only.
#[derive(Debug, Default)]
pub struct Answer {
    place: Place,
    status: u16,
    payload: usize,
    line: Vec<u8>,
    tail: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Head,
    Sized(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailer,
    Done,
}

/// Enough to hold the last event of a stream, or to show what an error says.
const TAIL: usize = 256;

impl Answer {
    /// Ready for the next answer on the same connection.
    pub fn clear(&mut self) {
        self.place = Place::Head;
        self.status = 0;
        self.payload = 0;
        self.line.clear();
        self.tail.clear();
    }

    /// Takes what was read; true when the answer is complete.
    pub fn feed(&mut self, mut read: &[u8]) -> Result<bool, String> {
        while !read.is_empty() && self.place != Place::Done {
            read = match self.place {
                Place::Head => self.head(read)?,
                Place::Sized(left) => self.body(read, left, Place::Sized, Place::Done),
                Place::Chunk(left) => self.body(read, left, Place::Chunk, Place::ChunkEnd),
                Place::ChunkSize | Place::ChunkEnd | Place::Trailer => self.line(read)?,
                Place::Done => read,
            };
        }
        Ok(self.place == Place::Done)
    }

    /// Whether the head is in.
    pub fn has_begun(&self) -> bool {
        self.place != Place::Head
    }

    /// Bytes of body so far.
    pub fn payload(&self) -> usize {
        self.payload
    }

    /// Whether this is what was to come back.
    pub fn verify(&self, ask: &Ask) -> Result<(), String> {
        let complete = memmem::rfind(&self.tail, ask.marker.as_bytes()).is_some();
        if self.status == 200 && complete && self.payload >= ask.least {
            return Ok(());
        }
        Err(format!(
            "status {}, {} bytes of at least {}, ending: {}",
            self.status,
            self.payload,
            ask.least,
            String::from_utf8_lossy(&self.tail)
        ))
    }

    fn head<'a>(&mut self, read: &'a [u8]) -> Result<&'a [u8], String> {
        let known = self.line.len();
        self.line.extend_from_slice(read);
        let Some(end) = memmem::find(&self.line, b"\r\n\r\n") else {
            return Ok(&[]);
        };
        let head = String::from_utf8_lossy(&self.line[..end]).into_owned();
        self.line.clear();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        self.status = status.ok_or_else(|| format!("not an HTTP answer: {head}"))?;
        self.place = length(lines).ok_or_else(|| format!("an answer of unknown length: {head}"))?;
        Ok(&read[end + 4 - known..])
    }

    fn body<'a>(&mut self, read: &'a [u8], left: usize, on: fn(usize) -> Place, end: Place) -> &'a [u8] {
        let (piece, rest) = read.split_at(left.min(read.len()));
        self.payload += piece.len();
        let fresh = &piece[piece.len().saturating_sub(TAIL)..];
        let kept = TAIL - fresh.len();
        self.tail.drain(..self.tail.len().saturating_sub(kept));
        self.tail.extend_from_slice(fresh);
        self.place = if piece.len() == left { end } else { on(left - piece.len()) };
        rest
    }

    /// The lines between chunks.
    fn line<'a>(&mut self, read: &'a [u8]) -> Result<&'a [u8], String> {
        let Some(end) = memchr(b'\n', read) else {
            self.line.extend_from_slice(read);
            return Ok(&[]);
        };
        self.line.extend_from_slice(&read[..end]);
        let text = self.line.trim_ascii();
        self.place = match self.place {
            Place::ChunkSize => {
                let digits = text.split(|byte| *byte == b';').next().unwrap_or_default();
                let digits = std::str::from_utf8(digits).unwrap_or_default();
                match usize::from_str_radix(digits, 16) {
                    Ok(0) => Place::Trailer,
                    Ok(size) => Place::Chunk(size),
                    Err(_) => return Err(format!("not the size of a chunk: {digits}")),
                }
            }
            Place::Trailer if text.is_empty() => Place::Done,
            Place::Trailer => Place::Trailer,
            _ => Place::ChunkSize,
        };
        self.line.clear();
        Ok(&read[end + 1..])
    }
}

/// Where the body begins and how its end is found.
fn length<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Place> {
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("transfer-encoding") && value.contains("chunked") {
            return Some(Place::ChunkSize);
        }
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.trim().parse().ok()?;
            return Some(if length == 0 { Place::Done } else { Place::Sized(length) });
        }
    }
    None
}

/// One request and its answer on a blocking socket.
pub fn exchange(
    socket: &mut TcpStream,
    ask: &Ask,
    answer: &mut Answer,
    buffer: &mut [u8],
) -> Result<(), String> {
    answer.clear();
    socket.write_all(&ask.bytes).map_err(|error| format!("write: {error}"))?;
    loop {
        let read = socket.read(buffer).map_err(|error| format!("read: {error}"))?;
        if read == 0 {
            return Err(format!("closed after {} bytes of body", answer.payload()));
        }
        if answer.feed(&buffer[..read])? {
            return answer.verify(ask);
        }
    }
}
