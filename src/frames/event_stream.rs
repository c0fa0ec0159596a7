//! AWS's event streams (`application/vnd.amazon.eventstream`) out of bytes: any chunk boundary, both checksums checked.
//!
//! A message is its length and that of its headers, a checksum of these eight bytes, the headers, the payload, and a
//! checksum of everything before. All numbers are big-endian, the checksums are those of gzip.
//! <https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html>

use bytes::{Buf, Bytes, BytesMut};

use crate::fault::{Fault, FaultKind};

/// Longest message that a splitter takes, in bytes. AWS allows sixteen times as much and sends a few hundred bytes.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Longest headers of one message, in bytes, as AWS has it.
const MAX_HEADERS: usize = 128 * 1024;
/// The two lengths and their checksum.
const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsMessage {
    headers: Vec<(Bytes, Bytes)>,
    /// What it carries, normally JSON.
    pub payload: Bytes,
}

impl AwsMessage {
    /// The text of a header (`:message-type`, `:event-type`, `:exception-type`).
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name.as_bytes())?;
        std::str::from_utf8(value).ok()
    }
}

/// Cuts a stream into messages. Push chunks, then take messages until there are none.
#[derive(Debug, Default)]
pub struct AwsSplitter {
    buffer: BytesMut,
}

impl AwsSplitter {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole message; `None` when more bytes are needed.
    ///
    /// # Errors
    /// `Malformed` when a checksum is wrong, a length is impossible or too large, or headers cannot be read. The
    /// splitter is of no use after that.
    #[allow(clippy::should_implement_trait, reason = "not an iterator: `None` means not yet")]
    pub fn next(&mut self) -> Result<Option<AwsMessage>, Fault> {
        let Some((mut prelude, sum)) = self.buffer.get(..PRELUDE).and_then(|bytes| bytes.split_at_checked(8))
        else {
            return Ok(None);
        };
        if !sums_up(prelude, sum) {
            return Err(malformed(
                "the provider's stream is damaged: the checksum of a message's head is wrong",
            ));
        }
        let (total, headers) = (prelude.get_u32() as usize, prelude.get_u32() as usize);
        if total > MAX_MESSAGE || headers > MAX_HEADERS || total < PRELUDE + headers + CHECKSUM {
            return Err(malformed("the provider sent a message of an impossible or too large size"));
        }
        if self.buffer.len() < total {
            return Ok(None);
        }
        let message = self.buffer.split_to(total).freeze();
        let (body, sum) = message.split_at(total - CHECKSUM);
        if !sums_up(body, sum) {
            return Err(malformed("the provider's stream is damaged: the checksum of a message is wrong"));
        }
        let payload = message.slice(PRELUDE + headers..total - CHECKSUM);
        let headers = read_headers(message.slice(PRELUDE..PRELUDE + headers))
            .ok_or_else(|| malformed("the provider sent a message whose headers cannot be read"))?;
        Ok(Some(AwsMessage { headers, payload }))
    }

    /// Whether the beginning of a message is left whose end has not come.
    pub fn is_inside(&self) -> bool {
        !self.buffer.is_empty()
    }
}

fn sums_up(bytes: &[u8], mut sum: &[u8]) -> bool {
    sum.try_get_u32().is_ok_and(|sum| sum == crc32fast::hash(bytes))
}

/// Names and values of the headers that are texts; the others are passed over. `None` when they break off.
fn read_headers(mut rest: Bytes) -> Option<Vec<(Bytes, Bytes)>> {
    let mut headers = Vec::new();
    while !rest.is_empty() {
        let length = rest.try_get_u8().ok()?;
        let name = take(&mut rest, length.into())?;
        let kind = rest.try_get_u8().ok()?;
        let length = match kind {
            TRUE | FALSE => 0,
            BYTE => 1,
            SHORT => 2,
            INTEGER => 4,
            LONG | TIMESTAMP => 8,
            UUID => 16,
            BYTES | TEXT => rest.try_get_u16().ok()?.into(),
            _ => return None,
        };
        let value = take(&mut rest, length)?;
        if kind == TEXT {
            headers.push((name, value));
        }
    }
    Some(headers)
}

const TRUE: u8 = 0;
const FALSE: u8 = 1;
const BYTE: u8 = 2;
const SHORT: u8 = 3;
const INTEGER: u8 = 4;
const LONG: u8 = 5;
const BYTES: u8 = 6;
const TEXT: u8 = 7;
const TIMESTAMP: u8 = 8;
const UUID: u8 = 9;

fn take(rest: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn malformed(message: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, message)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A message as AWS would send it.
    pub(crate) fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(u8::try_from(name.len()).unwrap());
            head.extend_from_slice(name.as_bytes());
            head.push(TEXT);
            head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        raw(&head, payload)
    }

    fn raw(head: &[u8], payload: &[u8]) -> Vec<u8> {
        let total = u32::try_from(PRELUDE + head.len() + payload.len() + CHECKSUM).unwrap();
        let mut bytes = total.to_be_bytes().to_vec();
        bytes.extend_from_slice(&u32::try_from(head.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    fn all(splitter: &mut AwsSplitter) -> Result<Vec<AwsMessage>, Fault> {
        std::iter::from_fn(|| splitter.next().transpose()).collect()
    }

    /// From AWS's own test vectors: an empty message, and one with a payload and a header of each kind.
    #[test]
    fn the_published_vectors_are_read() {
        let empty = [0, 0, 0, 0x10, 0, 0, 0, 0, 5, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(message(&[], b""), empty);
        let mut head = Vec::new();
        for (name, value) in [
            ("true", &[TRUE][..]),
            ("false", &[FALSE]),
            ("byte", &[BYTE, 0xcf]),
            ("short", &[SHORT, 1, 2]),
            ("int", &[INTEGER, 1, 2, 3, 4]),
            ("long", &[LONG, 1, 2, 3, 4, 5, 6, 7, 8]),
            ("bytes", &[BYTES, 0, 2, b'x', b'y']),
            ("content-type", &[TEXT, 0, 4, b'j', b's', b'o', b'n']),
            ("time", &[TIMESTAMP, 1, 2, 3, 4, 5, 6, 7, 8]),
            ("uuid", &[UUID, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        ] {
            head.push(u8::try_from(name.len()).unwrap());
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(value);
        }
        let mut splitter = AwsSplitter::default();
        splitter.push(&raw(&head, b"{'foo':'bar'}"));
        let messages = all(&mut splitter).unwrap();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].header("content-type"), Some("json"));
        assert_eq!((messages[0].header("byte"), &*messages[0].payload), (None, &b"{'foo':'bar'}"[..]));
        assert!(!splitter.is_inside());
    }

    #[test]
    fn any_chunk_boundary_is_legal() {
        let mut bytes = message(&[(":event-type", "a")], b"{\"text\":\"\xc3\xa9\"}");
        bytes.extend(message(&[], b""));
        bytes.extend(message(&[(":event-type", "b")], b"{}"));
        let mut whole = AwsSplitter::default();
        whole.push(&bytes);
        let expected = all(&mut whole).unwrap();
        assert_eq!(expected.len(), 3);
        for cut in 0..=bytes.len() {
            let (mut splitter, mut messages) = (AwsSplitter::default(), Vec::new());
            for piece in [&bytes[..cut], &bytes[cut..]] {
                splitter.push(piece);
                messages.extend(all(&mut splitter).unwrap());
            }
            assert_eq!(messages, expected, "cut at {cut}");
        }
    }

    #[test]
    fn damage_is_seen_wherever_it_is() {
        let good = message(&[(":event-type", "messageStart")], b"{\"role\":\"assistant\"}");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let mut splitter = AwsSplitter::default();
            splitter.push(&bad);
            let fault = splitter.next().expect_err("damage is seen");
            assert_eq!(fault.kind, FaultKind::Malformed, "byte {at}");
        }
        for cut in 0..good.len() {
            let mut splitter = AwsSplitter::default();
            splitter.push(&good[..cut]);
            assert_eq!(splitter.next().unwrap(), None, "cut at {cut}");
            assert_eq!(splitter.is_inside(), cut > 0);
        }
    }

    proptest::proptest! {
        #[test]
        fn headers_of_any_bytes_are_survived(head in proptest::collection::vec(0..=255_u8, 0..64)) {
            let mut splitter = AwsSplitter::default();
            splitter.push(&raw(&head, b"{}"));
            if let Ok(Some(message)) = splitter.next() {
                assert_eq!(&*message.payload, b"{}");
            }
        }
    }

    #[test]
    fn lengths_that_lie_are_refused_before_anything_is_kept() {
        for (total, headers) in
            [(15_u32, 0_u32), (17, 2), (u32::MAX, 0), (5 << 20, 0), (1 << 20, 256 << 10), (0, 0)]
        {
            let mut bytes = total.to_be_bytes().to_vec();
            bytes.extend_from_slice(&headers.to_be_bytes());
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            let mut splitter = AwsSplitter::default();
            splitter.push(&bytes);
            assert!(splitter.next().is_err(), "{total} {headers}");
        }
        for head in
            [&[3, b'a'][..], &[1, b'a'], &[1, b'a', 77], &[1, b'a', TEXT, 0, 9, b'x'], &[1, b'a', TEXT, 0]]
        {
            let mut splitter = AwsSplitter::default();
            splitter.push(&raw(head, b""));
            assert!(splitter.next().is_err(), "{head:?}");
        }
    }
}
