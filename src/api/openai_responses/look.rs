//! Another look at an answer that is, or was, made in the background: its stream, from the beginning or from where the client
//! has heard it.

use bytes::Bytes;

use super::keep::{Keeper, LAST, response_in};
use crate::chat::Usage;
use crate::fault::Fault;
use crate::providers::{Frame, StreamRelay};

/// The provider's stream on its way through.
pub(super) struct Looked {
    inner: Box<dyn StreamRelay>,
    id: Box<str>,
    /// What puts the whole answer on the shelf, where it is not there yet.
    keeper: Option<Keeper>,
}

impl Looked {
    pub(super) fn new(inner: Box<dyn StreamRelay>, id: Box<str>, keeper: Option<Keeper>) -> Self {
        Self { inner, id, keeper }
    }

    fn look(&mut self, frames: &[Frame]) {
        if self.keeper.is_none() || !self.inner.is_complete() {
            return;
        }
        let answer = frames.iter().rev().find_map(|frame| response_in(&frame.bytes, LAST));
        if let Some((keeper, answer)) = self.keeper.take().zip(answer) {
            keeper.keep(Bytes::copy_from_slice(&answer));
        }
    }

    /// Looks at what the provider's stream says.
    fn hear(
        &mut self,
        out: &mut Vec<Frame>,
        say: impl FnOnce(&mut dyn StreamRelay, &mut Vec<Frame>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let before = out.len();
        let said = say(&mut *self.inner, out);
        self.look(out.get(before..).unwrap_or_default());
        said
    }
}

impl StreamRelay for Looked {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.hear(out, |inner, out| inner.feed(chunk, out))
    }

    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.hear(out, |inner, out| inner.whole(body, out))
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.hear(out, |inner, out| inner.finish(out))
    }

    fn settle(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.hear(out, |inner, out| inner.settle(out))
    }

    fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }

    fn usage(&self) -> Option<Usage> {
        self.inner.usage()
    }

    fn finish_reason(&self) -> Option<&'static str> {
        self.inner.finish_reason()
    }

    fn has_said_all(&self) -> bool {
        self.inner.has_said_all()
    }

    fn text_bytes(&self) -> u64 {
        self.inner.text_bytes()
    }

    fn looked_for(&self) -> Option<&str> {
        Some(&self.id)
    }
}
