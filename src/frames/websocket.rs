//! Frames of the WebSocket protocol (RFC 6455), looked at while their bytes pass by: heads are read, nothing is held; or held
//! until they are whole.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// The largest payload of a control frame, in bytes (RFC 6455 §5.5).
const MOST_CONTROL: u64 = 125;
/// The largest reason in a close frame, in bytes.
const MOST_REASON: usize = 123;
/// What every accepted key is hashed with (RFC 6455 §1.3).
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key`.
pub fn accept_key(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{MAGIC}").as_bytes()))
}

/// A `Sec-WebSocket-Key` of these bytes.
pub fn key_of(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// Whether a client's `Sec-WebSocket-Key` is one: sixteen bytes in base64.
pub fn is_key(key: &str) -> bool {
    STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

/// Who sends the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Its frames are masked.
    Client,
    /// Its frames are not.
    Server,
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// The next part of a message.
    Continuation,
    /// A message of text, or its first part.
    Text,
    /// A message of bytes, or its first part.
    Binary,
    /// Goodbye.
    Close,
    /// A question whether somebody is there.
    Ping,
    /// The answer.
    Pong,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is for.
    pub opcode: Opcode,
    /// Whether its message ends with it.
    pub last: bool,
    /// Bytes of its payload.
    pub length: u64,
    /// What the payload is masked with.
    pub mask: Option<[u8; 4]>,
}

impl Head {
    /// Whether it is part of a message, rather than between messages.
    pub fn is_data(&self) -> bool {
        matches!(self.opcode, Opcode::Continuation | Opcode::Text | Opcode::Binary)
    }
}

/// The next thing in a stream of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'b> {
    /// A frame begins.
    Head(Head),
    /// The next bytes of its payload, masked as they came.
    Payload(&'b [u8]),
    /// The frame is over.
    End,
}

/// Bytes that are not the protocol's, or more of them than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Against the protocol, and how.
    Protocol(&'static str),
    /// A frame is larger than allowed.
    TooLarge,
}

impl Broken {
    /// The code with which the connection is to be closed (RFC 6455 §7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::TooLarge => 1009,
        }
    }

    /// What is wrong.
    pub fn text(self) -> &'static str {
        match self {
            Self::Protocol(text) => text,
            Self::TooLarge => "the frame is too large",
        }
    }
}

/// A reader of frames in one direction of a connection, whatever the boundaries between its reads.
#[derive(Debug)]
pub struct FrameScanner {
    sender: Sender,
    limit: u64,
    /// The beginning of a head whose rest has not come.
    torn: [u8; 14],
    torn_length: usize,
    /// What is left of the frame under way.
    left: Option<u64>,
    /// Whether a message has begun whose last frame has not come.
    in_message: bool,
}

impl FrameScanner {
    /// A scanner of frames whose payload has at most `limit` bytes.
    pub fn new(sender: Sender, limit: u64) -> Self {
        Self { sender, limit, torn: [0; 14], torn_length: 0, left: None, in_message: false }
    }

    /// Whether the next byte begins a frame.
    pub fn is_between_frames(&self) -> bool {
        self.left.is_none() && self.torn_length == 0
    }

    /// Takes the next thing from the front of `bytes`; `None` when all of them are read.
    ///
    /// # Errors
    /// What breaks the protocol. The scanner is of no use after that.
    pub fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<Piece<'b>>, Broken> {
        match self.left {
            Some(0) => {
                self.left = None;
                Ok(Some(Piece::End))
            }
            _ if bytes.is_empty() => Ok(None),
            Some(left) => {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (payload, rest) = bytes.split_at(here);
                *bytes = rest;
                self.left = Some(left - here as u64);
                Ok(Some(Piece::Payload(payload)))
            }
            None => self.head(bytes),
        }
    }

    fn head<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<Piece<'b>>, Broken> {
        while let [first, rest @ ..] = bytes {
            if let Some(place) = self.torn.get_mut(self.torn_length) {
                *place = *first;
            }
            self.torn_length += 1;
            *bytes = rest;
            if self.torn_length >= 2 && self.torn_length == self.head_length() {
                self.torn_length = 0;
                let head = self.read()?;
                self.left = Some(head.length);
                return Ok(Some(Piece::Head(head)));
            }
        }
        Ok(None)
    }

    fn head_length(&self) -> usize {
        let [_, second, ..] = self.torn;
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if second & 0x80 == 0 { 0 } else { 4 }
    }

    fn read(&mut self) -> Result<Head, Broken> {
        let [first, second, l0, l1, l2, l3, l4, l5, l6, l7, m0, m1, m2, m3] = self.torn;
        if first & 0x70 != 0 {
            return Err(Broken::Protocol("a frame uses an extension that nobody agreed on"));
        }
        let last = first & 0x80 != 0;
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(Broken::Protocol("a frame has an unknown opcode")),
        };
        let is_masked = second & 0x80 != 0;
        let (length, mask) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([l0, l1])), [l2, l3, l4, l5]),
            127 => (u64::from_be_bytes([l0, l1, l2, l3, l4, l5, l6, l7]), [m0, m1, m2, m3]),
            short => (u64::from(short), [l0, l1, l2, l3]),
        };
        if is_masked != (self.sender == Sender::Client) {
            return Err(Broken::Protocol(match self.sender {
                Sender::Client => "a client's frame is not masked",
                Sender::Server => "a server's frame is masked",
            }));
        }
        let head = Head { opcode, last, length, mask: is_masked.then_some(mask) };
        if !head.is_data() {
            if length > MOST_CONTROL || !last {
                return Err(Broken::Protocol("a control frame is too long or cut in parts"));
            }
            return Ok(head);
        }
        if self.in_message != (opcode == Opcode::Continuation) {
            return Err(Broken::Protocol("a message begins within another, or goes on without having begun"));
        }
        if length > self.limit {
            return Err(Broken::TooLarge);
        }
        self.in_message = !last;
        Ok(head)
    }
}

/// A reader of whole frames in one direction of a connection, whatever the boundaries between its reads.
#[derive(Debug)]
pub struct WholeFrames {
    scanner: FrameScanner,
    /// The frame under way, masked as it came.
    head: Option<Head>,
    payload: Vec<u8>,
}

impl WholeFrames {
    /// A reader of frames whose payload has at most `limit` bytes.
    pub fn new(sender: Sender, limit: u64) -> Self {
        Self { scanner: FrameScanner::new(sender, limit), head: None, payload: Vec::new() }
    }

    /// Takes the next frame from the front of `bytes`, its payload unmasked; `None` when all of them are read.
    ///
    /// # Errors
    /// What breaks the protocol; it is left in `bytes`. The reader is of no use after that.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<(Head, Vec<u8>)>, Broken> {
        loop {
            let before = *bytes;
            match self.scanner.next(bytes) {
                Ok(Some(Piece::Head(head))) => self.head = Some(head),
                Ok(Some(Piece::Payload(more))) => self.payload.extend_from_slice(more),
                Ok(Some(Piece::End)) => {
                    let Some(head) = self.head.take() else { continue };
                    let mut payload = std::mem::take(&mut self.payload);
                    if let Some(mask) = head.mask {
                        unmask(&mut payload, mask);
                    }
                    return Ok(Some((head, payload)));
                }
                Ok(None) => return Ok(None),
                Err(broken) => {
                    *bytes = before;
                    return Err(broken);
                }
            }
        }
    }
}

/// A close frame; with `mask` if a client is to have sent it. The reason is cut to what a control frame holds.
pub fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(MOST_REASON)]);
    frame(Opcode::Close, payload, mask)
}

/// A whole message in one frame; with `mask` if a client is to have sent it.
pub fn frame(opcode: Opcode, mut payload: Vec<u8>, mask: Option<[u8; 4]>) -> Vec<u8> {
    let code = match opcode {
        Opcode::Continuation => 0,
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
    };
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | code);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..126), _) => frame.push(bit | short),
        (_, Ok(medium)) => {
            frame.push(bit | 126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(bit | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        frame.extend_from_slice(&mask);
        unmask(&mut payload, mask);
    }
    frame.extend_from_slice(&payload);
    frame
}

/// Takes a mask off the beginning of a payload, or puts it on.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, mask) in payload.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads, the payload of all frames, and how it ended, cut into reads of this size.
    fn scan(sender: Sender, bytes: &[u8], size: usize) -> (Vec<Head>, Vec<u8>, Result<bool, Broken>) {
        let mut scanner = FrameScanner::new(sender, 1 << 20);
        let (mut heads, mut payload) = (Vec::new(), Vec::new());
        for mut read in bytes.chunks(size) {
            loop {
                match scanner.next(&mut read) {
                    Ok(Some(Piece::Head(head))) => heads.push(head),
                    Ok(Some(Piece::Payload(more))) => payload.extend_from_slice(more),
                    Ok(Some(Piece::End)) => {}
                    Ok(None) => break,
                    Err(broken) => return (heads, payload, Err(broken)),
                }
            }
        }
        (heads, payload, Ok(scanner.is_between_frames()))
    }

    fn raw_frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(bit | u8::try_from(short).unwrap()),
            medium @ 126..65536 => {
                frame.push(bit | 126);
                frame.extend(u16::try_from(medium).unwrap().to_be_bytes());
            }
            long => {
                frame.push(bit | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_are_found_wherever_the_reads_are_cut() {
        for masked in [false, true] {
            let sender = if masked { Sender::Client } else { Sender::Server };
            let mut bytes = raw_frame(0x81, masked, b"hello");
            bytes.extend(raw_frame(0x01, masked, &[7; 300]));
            bytes.extend(raw_frame(0x89, masked, b""));
            bytes.extend(raw_frame(0x80, masked, &[8; 70_000]));
            bytes.extend(raw_frame(0x88, masked, &[3, 232]));
            let whole = scan(sender, &bytes, usize::MAX);
            let lengths: Vec<_> = whole.0.iter().map(|head| (head.opcode, head.last, head.length)).collect();
            assert_eq!(
                lengths,
                [
                    (Opcode::Text, true, 5),
                    (Opcode::Text, false, 300),
                    (Opcode::Ping, true, 0),
                    (Opcode::Continuation, true, 70_000),
                    (Opcode::Close, true, 2)
                ]
            );
            assert!(whole.0.iter().all(|head| head.mask == masked.then_some([1, 2, 3, 4])));
            assert_eq!((whole.1.len(), whole.2), (70_307, Ok(true)));
            for size in [1, 2, 3, 5, 7, 11, 64, 4_096] {
                assert!(scan(sender, &bytes, size) == whole, "reads of {size}");
            }
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_told() {
        for (sender, bytes, code) in [
            (Sender::Client, raw_frame(0x81, false, b"a"), 1002),
            (Sender::Server, raw_frame(0x81, true, b"a"), 1002),
            (Sender::Server, raw_frame(0xc1, false, b"a"), 1002),
            (Sender::Server, raw_frame(0x83, false, b"a"), 1002),
            (Sender::Server, raw_frame(0x80, false, b"a"), 1002),
            (Sender::Server, raw_frame(0x09, false, b"a"), 1002),
            (Sender::Server, raw_frame(0x89, false, &[0; 126]), 1002),
            (Sender::Server, [raw_frame(0x01, false, b"a"), raw_frame(0x81, false, b"b")].concat(), 1002),
            (Sender::Server, raw_frame(0x82, false, &vec![0; (1 << 20) + 1]), 1009),
            (Sender::Server, [&[0x82, 127][..], &[0xff; 8]].concat(), 1009),
        ] {
            let broken = scan(sender, &bytes, usize::MAX).2.unwrap_err();
            assert_eq!(broken.code(), code, "{:?}", bytes.get(..8));
        }
    }

    #[test]
    fn a_goodbye_can_be_said_by_both_sides() {
        let plain = close_frame(1001, "bye", None);
        assert_eq!(plain, b"\x88\x05\x03\xe9bye");
        let masked = close_frame(1001, "bye", Some([9, 8, 7, 6]));
        let (heads, mut payload, end) = scan(Sender::Client, &masked, 3);
        unmask(&mut payload, heads[0].mask.unwrap());
        assert_eq!((&payload[..], end), (&plain[2..], Ok(true)));
    }

    #[test]
    fn the_key_of_the_standard_is_accepted_as_it_says() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        assert!(is_key(key) && !is_key("short") && is_key(&key_of([7; 16])));
        assert_eq!(accept_key(key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
