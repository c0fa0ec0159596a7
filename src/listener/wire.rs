//! What the layers of one connection tell each other: raw bytes below hyper, requests above it, deadlines around it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::fault::{Fault, FaultKind};
use crate::gateway::{Takeover, Talk};

/// The shared notes of one connection. All writers and readers run in the connection's own task or, for
/// HTTP/2 streams, on the same thread; the atomics are never contended.
#[derive(Default)]
pub(super) struct Wire {
    /// Where the reader of raw HTTP/1 bytes stands, as [`Stage`].
    stage: AtomicU8,
    /// Number of the first HTTP/1 request that must not be served, plus one, and why; 0 for none.
    condemned: AtomicU64,
    /// Requests that reached the service.
    requests: AtomicU64,
    /// Requests whose response has not ended.
    active: AtomicUsize,
    /// Whether the last write had to wait for the client.
    stuck: AtomicBool,
    /// Bytes written.
    written: AtomicU64,
    /// The conversation that the connection is for from now on.
    takeover: OnceLock<Takeover>,
}

/// Where the reader of raw HTTP/1 bytes stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Between two requests.
    Between = 0,
    /// Inside a request's head.
    Head = 1,
    /// Inside a request's body.
    Body = 2,
}

/// Why a raw HTTP/1 head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// `Content-Length` and `Transfer-Encoding` together.
    TwoLengths = 1,
    /// `Transfer-Encoding` other than exactly one `chunked`.
    TransferEncoding = 2,
    /// More than one `Content-Length`, or one that is not a plain number.
    ContentLength = 3,
    /// A line that ends without a carriage return.
    BareLineFeed = 4,
    /// A header continued on the next line.
    FoldedHeader = 5,
    /// More headers than allowed.
    TooManyHeaders = 6,
    /// A head larger than allowed.
    HeadTooLarge = 7,
    /// The message before broke its own framing.
    LostFraming = 8,
}

impl Wire {
    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Relaxed) {
            0 => Stage::Between,
            1 => Stage::Head,
            _ => Stage::Body,
        }
    }

    pub(super) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }

    /// Forbids to serve the HTTP/1 request with this number (from 0) and all that follow.
    pub(super) fn condemn(&self, request: u64, verdict: Verdict) {
        self.condemned.store(((request + 1) << 8) | verdict as u64, Relaxed);
    }

    /// Why the HTTP/1 request with this number must not be served, if so.
    pub(super) fn verdict(&self, request: u64) -> Option<Verdict> {
        match self.condemned.load(Relaxed) {
            0 => None,
            noted if request + 1 < noted >> 8 => None,
            noted => Some(Verdict::from_note(noted & 0xff)),
        }
    }

    /// Whether any request was condemned.
    pub(super) fn is_condemned(&self) -> bool {
        self.condemned.load(Relaxed) != 0
    }

    /// Counts a request that reached the service; returns its number, from 0.
    pub(super) fn arrive(&self) -> u64 {
        self.active.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed)
    }

    /// The connection belongs to a conversation as soon as the response is out.
    pub(super) fn hand_over(&self, takeover: Takeover) {
        // hyper serves no request after the one that is answered with a switch.
        let _ = self.takeover.set(takeover);
    }

    /// The conversation that takes the connection over.
    pub(super) fn conversation(&self) -> Option<Talk> {
        self.takeover.get()?.take()
    }

    /// Counts the end of a response.
    pub(super) fn leave(&self) {
        self.active.fetch_sub(1, Relaxed);
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.active.load(Relaxed) != 0
    }

    /// Notes the outcome of a write: `None` when the client's window was full.
    pub(super) fn wrote(&self, bytes: Option<usize>) {
        match bytes {
            None => self.stuck.store(true, Relaxed),
            Some(0) => {}
            Some(bytes) => {
                self.stuck.store(false, Relaxed);
                self.written.store(self.written.load(Relaxed) + bytes as u64, Relaxed);
            }
        }
    }

    /// Notes that everything written has left.
    pub(super) fn flushed(&self) {
        self.stuck.store(false, Relaxed);
    }

    /// Bytes written so far, if the last write had to wait for the client.
    pub(super) fn stuck_at(&self) -> Option<u64> {
        self.stuck.load(Relaxed).then(|| self.written.load(Relaxed))
    }
}

impl Verdict {
    const ALL: [Self; 8] = [
        Self::TwoLengths,
        Self::TransferEncoding,
        Self::ContentLength,
        Self::BareLineFeed,
        Self::FoldedHeader,
        Self::TooManyHeaders,
        Self::HeadTooLarge,
        Self::LostFraming,
    ];

    fn from_note(note: u64) -> Self {
        Self::ALL.into_iter().find(|verdict| *verdict as u64 == note).unwrap_or(Self::LostFraming)
    }

    /// What the client is told.
    pub(super) fn fault(self) -> Fault {
        let (status, text) = match self {
            Self::TwoLengths => (400, "content-length and transfer-encoding must not come together"),
            Self::TransferEncoding => (400, "transfer-encoding must be exactly one `chunked`"),
            Self::ContentLength => (400, "content-length must be one plain number"),
            Self::BareLineFeed => (400, "lines of the request's head must end with CR LF"),
            Self::FoldedHeader => (400, "headers must not be folded over several lines"),
            Self::TooManyHeaders => {
                (431, "the request has too many headers (`limits.headers` of the gateway)")
            }
            Self::HeadTooLarge => (431, "the request's head is too large (`limits.head` of the gateway)"),
            Self::LostFraming => (400, "the previous request's body was malformed"),
        };
        Fault::new(FaultKind::BadRequest, text).status(status)
    }
}
