//! A client each of whose messages is said to its provider in other words: the name of a model is one that the client
//! knows the target by.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frames::websocket::{Head, Opcode, Sender, WholeFrames, frame};

/// What a message becomes; `None` where it goes on as it is.
pub type Rename = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send>;

/// What is read at once.
const READ: usize = 16 << 10;

/// A client's connection. What is read from it has its messages renamed; what is written goes through.
pub(super) struct Renamed<C> {
    client: C,
    rename: Rename,
    frames: WholeFrames,
    /// The message of texts under way.
    message: Vec<u8>,
    /// What has still to be given out.
    out: Vec<u8>,
    given: usize,
    /// The client breaks the protocol: what it sends from then on goes on as it is, and whoever reads it will see.
    broken: bool,
    limit: u64,
}

impl<C> Renamed<C> {
    /// A client whose frames are at most `limit` bytes, of which `begun` has been read already.
    pub(super) fn new(client: C, rename: Rename, limit: u64, begun: &[u8]) -> Self {
        let mut renamed = Self {
            client,
            rename,
            frames: WholeFrames::new(Sender::Client, limit),
            message: Vec::new(),
            out: Vec::new(),
            given: 0,
            broken: false,
            limit,
        };
        renamed.take(begun);
        renamed
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !self.broken {
            match self.frames.next(&mut rest) {
                Ok(Some((head, payload))) => self.whole(head, payload),
                Ok(None) => return,
                Err(_) => self.broken = true,
            }
        }
        self.out.extend_from_slice(rest);
    }

    /// A frame is here.
    fn whole(&mut self, head: Head, payload: Vec<u8>) {
        let (opcode, payload) = match head.opcode {
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                self.message.extend_from_slice(&payload);
                // A message that is too large goes on as the frame that nobody takes.
                if !head.last && self.message.len() as u64 <= self.limit {
                    return;
                }
                let message = std::mem::take(&mut self.message);
                (Opcode::Text, (self.rename)(&message).unwrap_or(message))
            }
            control => (control, payload),
        };
        let mask = std::array::from_fn(|_| fastrand::u8(..));
        self.out.extend(frame(opcode, payload, Some(mask)));
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Renamed<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.given >= this.out.len() {
            this.out.clear();
            this.given = 0;
            let mut bytes = [0; READ];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.client).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.take(read.filled());
        }
        let waiting = this.out.get(this.given..).unwrap_or_default();
        let here = waiting.len().min(room.remaining());
        room.put_slice(&waiting[..here]);
        this.given += here;
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Renamed<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().client).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::gateway::awaited::tests::sent;

    /// Opcodes and payloads of whole frames.
    fn frames(bytes: &[u8]) -> Vec<(Opcode, Vec<u8>)> {
        let (mut frames, mut rest) = (WholeFrames::new(Sender::Client, 1 << 20), bytes);
        let mut all = Vec::new();
        while let Ok(Some((head, payload))) = frames.next(&mut rest) {
            assert!(head.mask.is_some());
            all.push((head.opcode, payload));
        }
        all
    }

    #[tokio::test]
    async fn messages_are_renamed_whole_and_the_rest_goes_on() {
        let all = [
            sent(Opcode::Text, true, b"alias one"),
            sent(Opcode::Text, false, b"ali"),
            sent(Opcode::Ping, true, b"?"),
            sent(Opcode::Continuation, true, b"as two"),
            sent(Opcode::Text, true, &[b'x'; 70_000]),
            sent(Opcode::Close, true, &[3, 232]),
        ]
        .concat();
        for begun in [0, 5, all.len()] {
            let rename = |message: &[u8]| {
                let rest = message.strip_prefix(b"alias")?;
                Some([b"target", rest].concat())
            };
            let (ours, mut theirs) = tokio::io::duplex(1 << 17);
            theirs.write_all(&all[begun..]).await.unwrap();
            drop(theirs);
            let mut renamed = Renamed::new(ours, Box::new(rename), 1 << 20, &all[..begun]);
            let mut read = Vec::new();
            renamed.read_to_end(&mut read).await.unwrap();
            let expected = [
                (Opcode::Text, b"target one".to_vec()),
                (Opcode::Ping, b"?".to_vec()),
                (Opcode::Text, b"target two".to_vec()),
                (Opcode::Text, vec![b'x'; 70_000]),
                (Opcode::Close, vec![3, 232]),
            ];
            assert!(frames(&read) == expected, "begun at {begun}");
        }
    }

    #[tokio::test]
    async fn what_breaks_the_protocol_is_left_to_who_reads_it() {
        let broken = frame(Opcode::Text, b"not masked".to_vec(), None);
        let all = [sent(Opcode::Text, true, b"a"), broken.clone()].concat();
        let (ours, theirs) = tokio::io::duplex(64);
        drop(theirs);
        let mut renamed = Renamed::new(ours, Box::new(|_| None), 1 << 20, &all);
        let mut read = Vec::new();
        renamed.read_to_end(&mut read).await.unwrap();
        assert!(read.ends_with(&broken) && frames(&read) == [(Opcode::Text, b"a".to_vec())], "{read:?}");
    }
}
