//! One direction of a conversation: frames go on as they come, read only as fast as the other side takes them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use crate::frames::websocket::{Broken, FrameScanner, Head, Opcode, Piece, Sender, unmask};
use crate::providers::EventMeter;

/// What is read at first, and at most, at once.
const READ: (usize, usize) = (8 << 10, 128 << 10);
/// How long a side may take none of what waits for it.
const WRITE: Duration = Duration::from_secs(60);

/// When somebody was heard last.
pub(super) struct Heard {
    began: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

impl Heard {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }

    fn now(&self) {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    /// Ready when nobody was heard for so long.
    pub(super) async fn silence(&self, idle: Duration) {
        loop {
            let due = self.began + Duration::from_millis(self.last.load(Ordering::Relaxed)) + idle;
            if Instant::now() >= due {
                return;
            }
            sleep_until(due).await;
        }
    }
}

/// How a direction ended.
pub(super) enum Ended {
    /// With a goodbye, which has gone on; its code, if it had one.
    Close(Option<u16>),
    /// Without one.
    Gone,
    /// Because the other side takes nothing any more.
    Deaf,
    /// With bytes that did not go on.
    Broken(Broken),
}

impl Ended {
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Close(code) => *code,
            Self::Gone | Self::Deaf => None,
            Self::Broken(broken) => Some(broken.code()),
        }
    }
}

/// One direction.
pub(super) struct Way {
    scanner: FrameScanner,
    /// Read and not yet written.
    bytes: BytesMut,
    capacity: usize,
    /// The payload of a goodbye under way.
    goodbye: Option<(Head, Vec<u8>)>,
    in_control: bool,
    in_last: bool,
    /// Half of a head has gone on, and its rest never will.
    torn: bool,
}

impl Way {
    /// The frames of `sender`, of which `begun` has come already.
    pub(super) fn new(sender: Sender, limit: u64, begun: Bytes) -> Self {
        Self {
            scanner: FrameScanner::new(sender, limit),
            bytes: BytesMut::from(begun),
            capacity: READ.0,
            goodbye: None,
            in_control: false,
            in_last: false,
            torn: false,
        }
    }

    /// Whether all that has gone on are whole frames.
    pub(super) fn is_between_frames(&self) -> bool {
        !self.torn && self.bytes.is_empty() && self.scanner.is_between_frames()
    }

    /// Relays until this direction ends. Counts its events, and shows them to the meter.
    pub(super) async fn pump(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        heard: &Heard,
        events: &mut u64,
        mut meter: Option<&mut EventMeter>,
    ) -> Ended {
        loop {
            if !self.bytes.is_empty() {
                heard.now();
                let end = self.look(events, meter.as_deref_mut());
                while !self.bytes.is_empty() {
                    let written = timeout(WRITE, to.write_buf(&mut self.bytes)).await;
                    if !matches!(written, Ok(Ok(1..))) {
                        return Ended::Deaf;
                    }
                }
                if !matches!(timeout(WRITE, to.flush()).await, Ok(Ok(()))) {
                    return Ended::Deaf;
                }
                if let Some(end) = end {
                    return end;
                }
            }
            self.bytes.reserve(self.capacity);
            match from.read_buf(&mut self.bytes).await {
                Ok(0) | Err(_) => return Ended::Gone,
                Ok(read) if read >= self.capacity => self.capacity = (self.capacity * 2).min(READ.1),
                Ok(_) => {}
            }
        }
    }

    /// Looks through what was read last. What stands behind a goodbye, or breaks the protocol, is cut off.
    fn look(&mut self, events: &mut u64, mut meter: Option<&mut EventMeter>) -> Option<Ended> {
        let mut rest = &self.bytes[..];
        let mut whole = self.scanner.is_between_frames().then_some(0);
        loop {
            let piece = match self.scanner.next(&mut rest) {
                Ok(Some(piece)) => piece,
                Ok(None) => return None,
                Err(broken) => {
                    // A head that began in an earlier read has gone on in part: nothing can be said after it.
                    self.torn = whole.is_none();
                    self.bytes.truncate(whole.unwrap_or(0));
                    return Some(Ended::Broken(broken));
                }
            };
            match piece {
                Piece::Head(head) => {
                    (self.in_control, self.in_last) = (!head.is_data(), head.last);
                    self.goodbye = (head.opcode == Opcode::Close).then(|| (head, Vec::new()));
                }
                Piece::Payload(payload) => match (&mut self.goodbye, &mut meter) {
                    (Some((_, held)), _) => held.extend_from_slice(payload),
                    (None, Some(meter)) if !self.in_control => meter.feed(payload),
                    _ => {}
                },
                Piece::End => {
                    let read = self.bytes.len() - rest.len();
                    whole = Some(read);
                    if let Some((head, payload)) = self.goodbye.take() {
                        self.bytes.truncate(read);
                        return Some(Ended::Close(code_of(head, payload)));
                    }
                    if !self.in_control && self.in_last {
                        *events += 1;
                        if let Some(meter) = &mut meter {
                            meter.end();
                        }
                    }
                }
            }
        }
    }
}

fn code_of(head: Head, mut payload: Vec<u8>) -> Option<u16> {
    if let Some(mask) = head.mask {
        unmask(&mut payload, mask);
    }
    payload.first_chunk().map(|code| u16::from_be_bytes(*code))
}
