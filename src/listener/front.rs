//! The byte stream that hyper sees: watches raw HTTP/1 heads pass, notes stuck writes, and closes politely.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::scan::Scanner;
use super::transport::Transport;
use super::wire::{Stage, Wire};

/// How long a closed connection listens on for what the client still sends.
///
/// Closing a socket with unread bytes makes the kernel send a reset, which can destroy the answer (a 413,
/// say) before the client has read it.
const LINGER: Duration = Duration::from_secs(1);
/// How much of it is thrown away before the connection is cut after all. Some clients (Node's) lose the answer when
/// they cannot write on, so it is as much as a large form has.
const LINGER_BYTES: usize = 32 << 20;

/// A connection under observation.
pub(super) struct Front {
    io: Transport,
    wire: Arc<Wire>,
    /// `None` on HTTP/2 connections.
    scanner: Option<Scanner>,
    /// What was read to find out the protocol.
    first: Bytes,
    closing: Option<Closing>,
}

struct Closing {
    said_goodbye: bool,
    until: Instant,
    alarm: Alarm,
    left: usize,
}

impl Front {
    pub(super) fn new(io: Transport, first: Bytes, scanner: Option<Scanner>, wire: Arc<Wire>) -> Self {
        Self { io, wire, scanner, first, closing: None }
    }

    fn observe(&mut self, bytes: &[u8]) {
        if let Some(scanner) = &mut self.scanner
            && !bytes.is_empty()
        {
            scanner.scan(bytes, &self.wire);
        }
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => self.wire.wrote(Some(*bytes)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.wire.wrote(None),
        }
    }

    /// Whether the client may be in the middle of sending something that nobody will read.
    fn owes_us_bytes(&self) -> bool {
        self.scanner.is_some() && (self.wire.is_condemned() || self.wire.stage() != Stage::Between)
    }
}

impl AsyncRead for Front {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.first.is_empty() {
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        } else {
            let here = this.first.len().min(buf.remaining());
            buf.put_slice(this.first.get(..here).unwrap_or_default());
            this.first.advance(here);
            if this.first.is_empty() {
                // Gives the memory back, which an empty slice would keep.
                this.first = Bytes::new();
            }
        }
        this.observe(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Front {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.note(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        match flushed {
            Poll::Pending => this.wire.wrote(None),
            Poll::Ready(Ok(())) => this.wire.flushed(),
            Poll::Ready(Err(_)) => {}
        }
        flushed
    }

    /// Says goodbye, then reads and forgets what the client still sends, for a bounded time.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let owes = this.owes_us_bytes();
        let closing = this.closing.get_or_insert_with(|| Closing {
            said_goodbye: false,
            until: Instant::now() + LINGER,
            alarm: Alarm::default(),
            left: LINGER_BYTES,
        });
        if !closing.said_goodbye {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            closing.said_goodbye = true;
        }
        if !owes {
            return Poll::Ready(Ok(()));
        }
        let mut waste = [0; 4096];
        while closing.left > 0 {
            let mut buf = ReadBuf::new(&mut waste);
            match Pin::new(&mut this.io).poll_read(cx, &mut buf) {
                Poll::Pending => {
                    return closing.alarm.poll_until(cx, closing.until).map(Ok);
                }
                Poll::Ready(Err(_)) => break,
                Poll::Ready(Ok(())) if buf.filled().is_empty() => break,
                Poll::Ready(Ok(())) => closing.left = closing.left.saturating_sub(buf.filled().len()),
            }
        }
        Poll::Ready(Ok(()))
    }
}
