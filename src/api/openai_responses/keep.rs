//! Keeping answers for the turns to come: those that are made here, and those of providers that speak this dialect.

use bytes::Bytes;

use crate::chat::Usage;
use crate::fault::Fault;
use crate::json;
use crate::providers::{Frame, StreamRelay};
use crate::store::{Kept, Shelf};
use crate::target::TargetName;

/// The last events of a stream, each with the whole response.
const LAST: [&str; 4] =
    ["\"response.completed\"", "\"response.incomplete\"", "\"response.failed\"", "\"response.queued\""];

/// Puts one answer on the shelf.
pub(super) struct Keeper {
    pub(super) shelf: Shelf,
    /// The answer that it continues.
    pub(super) previous: Option<Box<str>>,
    /// The client's body.
    pub(super) request: Bytes,
    /// Who answers.
    pub(super) target: TargetName,
    /// Whether that provider keeps it, too.
    pub(super) native: bool,
}

impl Keeper {
    /// Keeps `answer`, a whole response object.
    pub(super) fn keep(self, answer: Bytes) {
        let text = std::str::from_utf8(&answer).unwrap_or_default();
        let (mut id, mut items) = (None, Vec::new());
        for (key, value) in json::entries(text) {
            match &*key {
                "id" => id = json::text(value),
                "output" => items = json::elements(value).filter_map(id_of).collect(),
                _ => {}
            }
        }
        let Some(id) = id.map(Box::from) else { return };
        let Self { shelf, previous, request, target, native } = self;
        shelf.keep(Kept { id, previous, request, answer, items, target, native });
    }
}

fn id_of(item: &str) -> Option<Box<str>> {
    json::entries(item).find(|(key, _)| key == "id").and_then(|(_, raw)| json::text(raw)).map(Box::from)
}

/// A provider's stream on its way through, with an eye on its last event.
pub(super) struct Watched {
    pub(super) inner: Box<dyn StreamRelay>,
    pub(super) keeper: Option<Keeper>,
}

impl Watched {
    fn look(&mut self, frames: &[Frame]) {
        if !self.inner.is_complete() {
            return;
        }
        let Some(answer) = frames.iter().rev().find_map(|frame| last_response(&frame.bytes)) else { return };
        if let Some(keeper) = self.keeper.take() {
            keeper.keep(answer);
        }
    }
}

/// The response in the last event, where that is in these bytes.
fn last_response(frames: &Bytes) -> Option<Bytes> {
    let text = std::str::from_utf8(frames).ok()?;
    text.lines().rev().find_map(|line| {
        let data = line.strip_prefix("data:")?.trim_start();
        let (mut response, mut last) = (None, false);
        for (key, value) in json::entries(data) {
            match &*key {
                "type" => last = LAST.contains(&value),
                "response" => response = Some(value),
                _ => {}
            }
        }
        response.filter(|_| last).map(|response| frames.slice_ref(response.as_bytes()))
    })
}

impl StreamRelay for Watched {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        let before = out.len();
        let fed = self.inner.feed(chunk, out);
        self.look(out.get(before..).unwrap_or_default());
        fed
    }

    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        let before = out.len();
        self.inner.whole(body, out)?;
        self.look(out.get(before..).unwrap_or_default());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        let before = out.len();
        let finished = self.inner.finish(out);
        self.look(out.get(before..).unwrap_or_default());
        finished
    }

    fn fault(&mut self, fault: &Fault) -> Option<Bytes> {
        self.inner.fault(fault)
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

    fn text_bytes(&self) -> u64 {
        self.inner.text_bytes()
    }
}
