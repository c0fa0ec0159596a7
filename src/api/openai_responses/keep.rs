//! Keeping answers for the turns to come: those that are made here, and those of providers that speak this dialect.

use bytes::Bytes;

use super::errand::is_status_under_way;
use super::error::failed_events;
use crate::chat::{Loss, Usage};
use crate::fault::Fault;
use crate::json::{self, Inlined};
use crate::providers::{Frame, StreamRelay};
use crate::store::{Kept, Shelf};
use crate::target::TargetName;

/// The last events of a stream, each with the whole response.
const LAST: &[&str] = &["\"response.completed\"", "\"response.incomplete\"", "\"response.failed\""];

/// The first events, with the response as it begins.
const FIRST: &[&str] = &["\"response.created\"", "\"response.queued\"", "\"response.in_progress\""];

/// Puts one answer on the shelf.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) shelf: Shelf,
    /// The answer that it continues.
    pub(super) previous: Option<Box<str>>,
    /// The client's body.
    pub(super) request: Bytes,
    /// What of that is media.
    pub(super) inlined: Inlined,
    /// Who answers.
    pub(super) target: TargetName,
    /// Whether that provider speaks this dialect, so that it may keep the answer, too.
    pub(super) native: bool,
}

impl Keeper {
    /// Keeps `answer`, a whole response object.
    pub(super) fn keep(self, answer: Bytes) {
        let text = std::str::from_utf8(&answer).unwrap_or_default();
        let (mut id, mut items, mut kept_there, mut background) = (None, Vec::new(), true, false);
        for (key, value) in json::entries(text) {
            match &*key {
                "id" => id = json::text(value),
                "store" => kept_there = value != "false",
                "background" => background = value == "true",
                "output" => items = json::elements(value).filter_map(id_of).collect(),
                _ => {}
            }
        }
        let Some(id) = id.map(Box::from) else { return };
        let Self { shelf, previous, request, inlined, target, native } = self;
        // Several vendors speak this dialect and keep nothing: for them it is kept here. What is made in the background is
        // nowhere else while it is under way, also where nothing is kept afterwards.
        let native = native && (kept_there || background && is_status_under_way(&answer));
        shelf.keep(Kept { id, previous, request, inlined, answer, items, target, native });
    }
}

fn id_of(item: &str) -> Option<Box<str>> {
    json::entries(item).find(|(key, _)| key == "id").and_then(|(_, raw)| json::text(raw)).map(Box::from)
}

/// A provider's stream on its way through, with an eye on its first and its last event.
pub(super) struct Watched {
    inner: Box<dyn StreamRelay>,
    keeper: Option<Keeper>,
    first: Bytes,
    last: Bytes,
    /// The answer's id, where its provider goes on with it whether anybody hears it or not.
    background: Option<Box<str>>,
    /// The answer's id, where it was asked for before.
    looked_for: Option<Box<str>>,
}

impl Watched {
    pub(super) fn new(inner: Box<dyn StreamRelay>, keeper: Option<Keeper>) -> Self {
        let (first, last) = (Bytes::new(), Bytes::new());
        Self { inner, keeper, first, last, background: None, looked_for: None }
    }

    /// The same for another look at an answer that is, or was, made in the background: its stream, from the beginning or
    /// from where the client has heard it. How it begins says nothing new; one that is seen to its end is kept.
    pub(super) fn again(inner: Box<dyn StreamRelay>, id: Box<str>, keeper: Option<Keeper>) -> Self {
        Self { looked_for: Some(id), ..Self::new(inner, keeper) }
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

    fn look(&mut self, frames: &[Frame]) {
        let Some(last) = frames.iter().rev().find(|frame| !frame.bytes.is_empty()) else { return };
        self.last = last.bytes.clone();
        if self.looked_for.is_none()
            && self.first.is_empty()
            && let Some(first) = frames.first()
        {
            self.first = first.bytes.clone();
            self.begin();
        }
        if !self.inner.is_complete() {
            return;
        }
        let Some(answer) = frames.iter().rev().find_map(|frame| response_in(&frame.bytes, LAST)) else {
            return;
        };
        if let Some(keeper) = self.keeper.take() {
            // A copy, so that no more stays in memory than is counted.
            keeper.keep(Bytes::copy_from_slice(&answer));
        }
    }

    /// An answer that is made in the background can be looked for as soon as it has an id.
    fn begin(&mut self) {
        let Some(begun) = response_in(&self.first, FIRST) else { return };
        let text = std::str::from_utf8(&begun).unwrap_or_default();
        let told = |name: &str| json::entries(text).find(|(key, _)| key == name).map(|(_, raw)| raw);
        if told("background") != Some("true") {
            return;
        }
        self.background = told("id").and_then(json::text).map(Box::from);
        if let Some(keeper) = self.keeper.clone() {
            keeper.keep(Bytes::copy_from_slice(&begun));
        }
    }
}

/// The response in the last of these events that is one of `kinds`.
fn response_in(frames: &Bytes, kinds: &[&str]) -> Option<Bytes> {
    let response = data(frames).find_map(|data| {
        let (mut response, mut wanted) = (None, false);
        for (key, value) in json::entries(data) {
            match &*key {
                "type" => wanted = kinds.contains(&value),
                "response" => response = Some(value),
                _ => {}
            }
        }
        response.filter(|_| wanted)
    });
    response.map(|response| frames.slice_ref(response.as_bytes()))
}

/// The number of the last of these events.
fn number_in(frames: &Bytes) -> Option<u64> {
    data(frames).find_map(|data| {
        json::entries(data)
            .find(|(key, _)| key == "sequence_number")
            .and_then(|(_, number)| number.parse().ok())
    })
}

/// The data of events, the last first.
fn data(frames: &Bytes) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(frames).unwrap_or_default();
    text.lines().rev().filter_map(|line| line.strip_prefix("data:").map(str::trim_start))
}

impl StreamRelay for Watched {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.hear(out, |inner, out| inner.feed(chunk, out))
    }

    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        let before = out.len();
        self.inner.whole(body, out)?;
        self.look(out.get(before..).unwrap_or_default());
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.hear(out, |inner, out| inner.finish(out))
    }

    fn settle(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.hear(out, |inner, out| inner.settle(out))
    }

    /// Told with the provider's own id, and with numbers that go on where its stream broke off.
    fn fault(&mut self, fault: &Fault) -> Option<Bytes> {
        let begun = response_in(&self.first, FIRST)?;
        let response = serde_json::from_slice(&begun).ok()?;
        let number = number_in(&self.last).map_or(0, |last| last + 1);
        Some(failed_events(fault, number, response))
    }

    fn lost(&self) -> &[Loss] {
        self.inner.lost()
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
        self.looked_for.as_deref()
    }

    fn in_background(&self) -> Option<&str> {
        self.background.as_deref().filter(|_| !self.inner.is_complete())
    }
}
