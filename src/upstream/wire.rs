//! One socket, plain or TLS, that also watches the beginning of answers: how many interim ones a peer may send.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;

/// Interim answers (1xx) that one request may get. hyper reads any number of them (200,000 in a second of CPU).
const MOST_INTERIM: u8 = 16;

/// A connection to an upstream.
pub(super) struct Wire {
    stream: Stream,
    watch: Watch,
    /// The peer listens no more. What it said before it left is still to be read: an answer often comes before the end
    /// of an upload, and hyper reads nothing after a failed write.
    deaf: bool,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What to look at while reading.
enum Watch {
    /// HTTP/1.1: the heads of answers.
    Heads(Heads),
    /// HTTP/2: tell when the first bytes, the peer's settings, have come.
    First(Option<Arc<Notify>>),
}

/// How far the answer to the current request has come; shared by the reader of bytes and the sender of requests.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU8);

const SILENT: u8 = 0;
const BEGUN: u8 = 1;
const FINAL: u8 = 2;

impl Progress {
    /// A new request goes out.
    pub(super) fn reset(&self) {
        self.0.store(SILENT, Ordering::Relaxed);
    }

    /// Whether no byte of an answer has come.
    pub(super) fn is_silent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == SILENT
    }
}

impl Wire {
    /// A wire without TLS.
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self { stream: Stream::Plain(stream), watch: Watch::First(None), deaf: false }
    }

    /// A wire with TLS.
    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), watch: Watch::First(None), deaf: false }
    }

    /// Watches answers of HTTP/1.1.
    pub(super) fn watch_heads(&mut self) -> Arc<Progress> {
        let progress = Arc::<Progress>::default();
        let count = Interim::default();
        self.watch = Watch::Heads(Heads { progress: Arc::clone(&progress), interim: count });
        progress
    }

    /// Notifies once when the first bytes come.
    pub(super) fn watch_first(&mut self) -> Arc<Notify> {
        let notify = Arc::<Notify>::default();
        self.watch = Watch::First(Some(Arc::clone(&notify)));
        notify
    }
}

impl Wire {
    /// A peer that hung up makes writing go on into nothing: reading tells how it ended, and whether it answered.
    fn unheard(&mut self, written: io::Result<usize>, length: usize) -> io::Result<usize> {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match written {
            Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted) => {
                self.deaf = true;
                Ok(length)
            }
            other => other,
        }
    }
}

struct Heads {
    progress: Arc<Progress>,
    interim: Interim,
}

impl Heads {
    #[inline]
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        let state = self.progress.0.load(Ordering::Relaxed);
        if state == FINAL || bytes.is_empty() {
            return Ok(());
        }
        if state == SILENT {
            self.interim = Interim::default();
        }
        let is_final = self.interim.read(bytes)?;
        self.progress.0.store(if is_final { FINAL } else { BEGUN }, Ordering::Relaxed);
        Ok(())
    }
}

/// Counts heads that begin with `HTTP/1.x 1`, at the cost of one comparison for an ordinary answer.
#[derive(Default)]
struct Interim {
    count: u8,
    /// Bytes of [`PREFIX`] matched so far; all of them within an interim head.
    matched: usize,
    /// Whether only a CR, or nothing, has come since the last line feed.
    blank: bool,
}

/// A `?` stands for any byte.
const PREFIX: &[u8; 10] = b"HTTP/1.? 1";

impl Interim {
    /// Whether the final answer has begun.
    fn read(&mut self, bytes: &[u8]) -> io::Result<bool> {
        for &byte in bytes {
            match PREFIX.get(self.matched) {
                // Blank lines before a head are skipped, as hyper does.
                Some(_) if self.matched == 0 && matches!(byte, b'\r' | b'\n') => {}
                Some(&expected) if expected == byte || expected == b'?' => {
                    self.matched += 1;
                    self.blank = false;
                }
                Some(_) => return Ok(true),
                None if byte == b'\n' && self.blank => {
                    self.matched = 0;
                    self.count += 1;
                    if self.count > MOST_INTERIM {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, TooManyInterim));
                    }
                }
                None if byte == b'\r' => {}
                None => self.blank = byte == b'\n',
            }
        }
        Ok(false)
    }
}

/// The peer sent more than [`MOST_INTERIM`] interim answers.
#[derive(Debug)]
pub(super) struct TooManyInterim;

impl fmt::Display for TooManyInterim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {MOST_INTERIM} interim answers")
    }
}

impl std::error::Error for TooManyInterim {}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match &mut self.stream {
            Stream::Plain(stream) => ready!(Pin::new(stream).poll_read(cx, buf))?,
            Stream::Tls(stream) => ready!(Pin::new(stream).poll_read(cx, buf))?,
        }
        Poll::Ready(match &mut self.watch {
            Watch::Heads(heads) => heads.read(buf.filled().get(before..).unwrap_or_default()),
            Watch::First(first) => {
                if let Some(notify) = first.take() {
                    notify.notify_one();
                }
                Ok(())
            }
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        });
        Poll::Ready(self.unheard(written, buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = || bufs.iter().map(|buf| buf.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(length()));
        }
        let written = ready!(match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        });
        Poll::Ready(self.unheard(written, length()))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        });
        Poll::Ready(self.unheard(flushed.map(|()| 0), 0).map(drop))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_a_peer_said_before_it_hung_up_is_read() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = tokio::spawn(async move {
            let mut socket = listener.accept().await.unwrap().0;
            socket.read_u8().await.unwrap();
            socket.write_all(b"too large").await.unwrap();
            // Dropped with unread bytes: the kernel resets the connection.
        });
        let mut wire = Wire::plain(TcpStream::connect(address).await.unwrap());
        wire.write_all(&vec![b'x'; 32 << 20]).await.unwrap();
        wire.flush().await.unwrap();
        peer.await.unwrap();
        let mut said = [0; 9];
        wire.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"too large");
        assert!(!matches!(wire.read_u8().await, Ok(1..)), "then it is over");
    }

    #[test]
    fn interim_heads_are_counted_wherever_the_bytes_are_cut() {
        let check = |text: &str, expected: (bool, u8)| {
            for cut in 0..=text.len() {
                let mut interim = Interim::default();
                let mut is_final = false;
                for part in [&text[..cut], &text[cut..]] {
                    is_final = is_final || interim.read(part.as_bytes()).unwrap();
                }
                assert_eq!((is_final, interim.count), expected, "{text:?} cut at {cut}");
            }
        };
        check("HTTP/1.1 200 OK\r\n\r\n", (true, 0));
        check("\r\nHTTP/1.0 404 \r\n\r\n", (true, 0));
        check("HTTP/1.1 100 Continue\r\n\r\n", (false, 1));
        check("HTTP/1.1 103 Hints\r\nlink: a\r\n\r\nHTTP/1.1 102 P\n\nHTTP/1.1 200 OK\r\n\r\n", (true, 2));
        check("garbage", (true, 0));
    }
}
