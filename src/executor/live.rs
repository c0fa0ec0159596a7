//! A stream under way: upstream bytes in, frames for the client out, with the idle and total deadlines kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;

use super::answering::Answering;
use super::grip::Grip;
use super::hollow::{empty, is_chosen, is_hollow};
use super::pace::Pace;
use super::secrecy::Secrets;
use super::sequel::{Resuming, Sequel};
use super::watchdog::Watchdog;
use crate::chat::{Loss, Tier, Usage};
use crate::facts::market::Scale as _;
use crate::fault::{Fault, FaultKind};
use crate::providers::{Dialect, Frame, StreamRelay, Tally, Target};
use crate::tokens::Counter;

/// Frames held back before the first content may not exceed this; a provider that sends so much without content is
/// not answering.
const MAX_HELD: usize = 1 << 20;

/// How long the end of the provider's body is awaited after its terminal event, so that the connection can be kept.
const LINGER: Duration = Duration::from_millis(500);

/// How long the terminal event is awaited after the last content and the usage.
const CODA: Duration = Duration::from_secs(5);

/// A stream whose first content has arrived.
pub struct Live {
    body: Answering,
    relay: Box<dyn StreamRelay>,
    target: Target,
    ready: VecDeque<Bytes>,
    scratch: Vec<Frame>,
    watchdog: Watchdog,
    pace: Pace,
    /// The provider says that it answers with one JSON document although a stream was asked for.
    json: bool,
    over: bool,
    /// The terminal event has come and gone out; only the end of the provider's body is missing.
    finished: bool,
    /// All was said but the terminal event.
    said_all: bool,
    /// A fault that waits until the frames before it are out.
    fault: Option<Fault>,
    /// What has come, where somebody looks at it before it goes on.
    pub(super) tally: Option<Tally>,
    /// Given back when it is over.
    pub(super) grip: Grip,
    /// What its request bore besides the headers of provider and key that nobody may read.
    pub(super) secrets: Vec<HeaderValue>,
    /// It goes on with an answer of which the client has the beginning: until its first content, nothing is told.
    pub(super) is_sequel: bool,
    /// Whoever asks takes an answer without a word.
    pub(super) may_be_empty: bool,
    /// What goes on with it if it breaks off.
    pub(super) sequel: Option<Box<Sequel>>,
    /// What does so already.
    resuming: Option<Resuming>,
    /// The service that gives it, unless the answer itself names another.
    pub(super) tier: Option<Tier>,
    /// It went on with another one that broke off.
    went_on: bool,
    counter: Arc<Counter>,
}

/// What a stream yields.
#[derive(Debug)]
pub enum Piece {
    /// Bytes for the client.
    Bytes(Bytes),
    /// The complete end.
    End,
    /// The stream broke.
    Broken(Fault),
}

impl Live {
    pub(super) fn new(
        body: Answering,
        relay: Box<dyn StreamRelay>,
        target: Target,
        idle: Duration,
        end: Instant,
        json: bool,
        counter: Arc<Counter>,
    ) -> Self {
        Self {
            body,
            relay,
            ready: VecDeque::new(),
            scratch: Vec::new(),
            watchdog: Watchdog::telling(idle, end),
            pace: Pace::new(target.vendor.deadlines.tokens_per_second),
            target,
            json,
            over: false,
            finished: false,
            said_all: false,
            fault: None,
            tally: None,
            grip: Grip::default(),
            secrets: Vec::new(),
            is_sequel: false,
            may_be_empty: false,
            sequel: None,
            resuming: None,
            tier: None,
            went_on: false,
            counter,
        }
    }

    /// Reads until the first content (or the complete end) is here; until then, any fault leaves the client untouched.
    pub(super) async fn reach_content(
        &mut self,
        first_token: Instant,
        max_body: u64,
        late: impl Fn(Instant) -> Fault,
    ) -> Result<(), Fault> {
        let mut first = None;
        if self.json {
            let idle = self.watchdog.idle();
            let at = (Instant::now() + idle).min(first_token);
            first = self.body.chunk(at, || late(at)).await?;
            if !first.as_deref().is_some_and(is_events) {
                let body = match first {
                    Some(first) => self.body.collect_after(first, max_body, idle, first_token, &late).await?,
                    None => Bytes::new(),
                };
                self.relay.whole(body.clone(), &mut self.scratch)?;
                self.take_frames();
                self.over = true;
                let hollow = self.is_hollow(body.len()) && is_chosen(&self.target, &body);
                return if hollow { Err(empty()) } else { Ok(()) };
            }
        }
        let (mut held, mut chosen) = (0, false);
        // Until when an answer that has ended without a word is awaited.
        let mut coda = None;
        loop {
            let until = coda.unwrap_or(first_token);
            let chunk = match first.take() {
                None => {
                    let late = || if coda.is_some() { empty() } else { late(first_token) };
                    self.body.chunk(until, late).await?
                }
                first => first,
            };
            let Some(chunk) = chunk else {
                self.relay.finish(&mut self.scratch)?;
                self.take_frames();
                self.over = true;
                return if chosen && self.is_hollow(held) { Err(empty()) } else { Ok(()) };
            };
            held += chunk.len();
            chosen |= is_chosen(&self.target, &chunk);
            let fed = self.relay.feed(chunk, &mut self.scratch);
            let content = self.take_frames() || coda.is_some();
            let hollow = content && chosen && self.is_hollow(held);
            match fed {
                // Content and the fault came in one chunk: the client gets both, in order.
                Err(fault) if content && !hollow => {
                    self.fault = Some(fault);
                    return Ok(());
                }
                Err(fault) => return Err(fault),
                Ok(()) if hollow => {
                    let gemini = self.target.wire().dialect() == Dialect::Gemini;
                    if self.relay.is_complete() || self.relay.has_said_all() && !gemini {
                        return Err(empty());
                    }
                    coda.get_or_insert_with(|| (Instant::now() + CODA).min(first_token));
                }
                Ok(()) if content => {
                    self.watchdog.heard();
                    self.watchdog.spoke();
                    return Ok(());
                }
                Ok(()) if held > MAX_HELD => {
                    return Err(Fault::new(
                        FaultKind::Malformed,
                        "the provider sent a megabyte without any content",
                    ));
                }
                Ok(()) => {}
            }
        }
    }

    /// Whether it has ended, as far as it came, without saying anything, in so many bytes.
    fn is_hollow(&self, held: usize) -> bool {
        !self.may_be_empty
            && self.relay.text_bytes() == 0
            && is_hollow(&self.target, self.relay.usage(), self.relay.finish_reason(), held)
    }

    /// The next bytes for the client.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Piece::Bytes(bytes));
            }
            if let Some(resuming) = &mut self.resuming {
                match std::task::ready!(resuming.as_mut().poll(cx)) {
                    Ok(next) => self.go_on(*next),
                    Err(fault) => {
                        (self.resuming, self.over) = (None, true);
                        return Poll::Ready(Piece::Broken(fault));
                    }
                }
                continue;
            }
            if let Some(fault) = self.fault.take() {
                let secrets = Secrets::new(&self.target, self.grip.hold.as_ref(), &self.secrets);
                let fault = secrets.kept_out_of(fault);
                if let Some(sequel) = self.sequel.take().filter(|sequel| sequel.can_follow(&fault)) {
                    let used = self.usage(sequel.prompt());
                    // What goes on may need the same place.
                    self.let_go();
                    self.resuming = Some(sequel.resume(self.target.clone(), fault, used));
                    continue;
                }
                self.over = true;
                return Poll::Ready(Piece::Broken(fault));
            }
            if self.over {
                return Poll::Ready(Piece::End);
            }
            let step = match self.body.poll_chunk(cx) {
                Poll::Pending if self.relay.is_complete() && !self.finished => {
                    // The client need not wait for the provider to close its body.
                    self.finished = true;
                    self.watchdog.expect_within(LINGER);
                    self.relay.finish(&mut self.scratch)
                }
                Poll::Pending => {
                    self.expect_the_end();
                    let passed = match self.pace.poll(cx, self.relay.text_bytes()) {
                        Poll::Ready(slow) if !self.finished => slow,
                        _ => std::task::ready!(self.watchdog.poll(cx)),
                    };
                    if self.finished {
                        self.over = true;
                        return Poll::Ready(Piece::End);
                    }
                    // Silent, but nothing was missing.
                    let ended = if self.said_all {
                        self.relay.settle(&mut self.scratch)
                    } else {
                        self.relay.finish(&mut self.scratch)
                    };
                    if ended.is_ok() {
                        self.over = true;
                        Ok(())
                    } else {
                        Err(passed)
                    }
                }
                Poll::Ready(_) if self.finished && self.watchdog.silent_for(LINGER) => {
                    self.over = true;
                    Ok(())
                }
                // What comes after the terminal event says nothing; it is read so that the connection can be kept.
                Poll::Ready(Some(_)) if self.finished => Ok(()),
                Poll::Ready(None) if self.finished => {
                    self.over = true;
                    Ok(())
                }
                Poll::Ready(Some(Ok(chunk))) => {
                    self.watchdog.heard();
                    self.pace.heard();
                    self.relay.feed(chunk, &mut self.scratch)
                }
                // What breaks behind the terminal event breaks nothing.
                Poll::Ready(Some(Err(_))) if self.relay.is_complete() => {
                    self.over = true;
                    self.relay.finish(&mut self.scratch)
                }
                Poll::Ready(Some(Err(fault))) => Err(fault),
                Poll::Ready(None) => {
                    self.over = true;
                    self.relay.finish(&mut self.scratch)
                }
            };
            if self.take_frames() {
                self.watchdog.spoke();
            }
            self.fault = step.err();
        }
    }

    /// Some providers end neither the stream nor the connection after the last they have to say. Google's say in each
    /// piece that it might be the last.
    fn expect_the_end(&mut self) {
        if !self.said_all && self.relay.has_said_all() && self.target.wire().dialect() != Dialect::Gemini {
            self.said_all = true;
            self.watchdog.expect_within(self.watchdog.idle().min(CODA));
        }
    }

    /// Whether all that has come so far has gone out, and more is to come.
    pub fn is_between(&self) -> bool {
        self.ready.is_empty() && !self.over && !self.relay.is_complete()
    }

    /// If it breaks off, this goes on.
    pub(super) fn follow(&mut self, mut sequel: Box<Sequel>) {
        // Who can go on elsewhere need not be silent for long.
        self.watchdog.expect_within(self.watchdog.idle().min(self.target.vendor.deadlines.handover));
        self.ready.iter().for_each(|frames| sequel.hear(frames));
        self.sequel = Some(sequel);
    }

    /// Who answers.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its own usage, as far as it is known; an estimate from the text so far when the provider has said nothing, by what the target
    /// reported of others. `rough` is a quarter of the prompt's bytes.
    pub fn usage(&self, rough: u64) -> Usage {
        let came = self.tally.as_ref().map_or(0, Tally::bytes);
        let heard = self.counter.heard(&self.target.name, self.relay.text_bytes().max(came));
        // Who says that words cost nothing has not counted.
        let told = self.relay.usage().or_else(|| self.tally.as_ref()?.usage());
        let usage = match told.filter(|said| said.total() > 0 || heard == 0) {
            // What was said at the beginning of a stream that broke off says nothing of what came after.
            Some(said) if !self.relay.is_complete() && said.output < heard => {
                Usage { output: heard, estimated: true, ..said }
            }
            Some(said) => said,
            None => {
                let input = self.counter.likely(&self.target.name, rough);
                Usage { input, output: heard, estimated: true, ..Usage::default() }
            }
        };
        Usage { tier: usage.tier.or(self.tier), ..usage }
    }

    /// Whether something of the answer has come that did not go on.
    pub(super) fn was_held_back(&self) -> bool {
        self.tally.as_ref().is_some_and(|tally| tally.bytes() > 0 || tally.usage().is_some())
    }

    /// Whether it ended, and its provider said what it used.
    pub(super) fn has_used(&self) -> bool {
        self.relay.finish_reason().is_some() && self.relay.usage().is_some_and(|usage| usage.total() > 0)
    }

    /// The id under which its provider goes on with it when nobody hears it any more.
    pub fn in_background(&self) -> Option<&str> {
        self.relay.in_background()
    }

    /// The id of the answer of which this is another look, and whether it was seen to its end.
    pub fn looked_for(&self) -> Option<(&str, bool)> {
        self.relay.looked_for().map(|id| (id, self.relay.is_complete()))
    }

    /// Bytes of text of a complete answer, by which others are estimated; zero where it goes on with another one.
    pub fn heard(&self) -> u64 {
        if self.went_on || !self.relay.is_complete() { 0 } else { self.relay.text_bytes() }
    }

    /// Finish reason of the first choice, in OpenAI's words.
    pub fn finish_reason(&self) -> Option<&'static str> {
        self.relay.finish_reason()
    }

    /// The frames that tell the client of a fault, where the stream's state has to be known for them.
    pub fn fault(&mut self, fault: &Fault) -> Option<Bytes> {
        self.relay.fault(fault)
    }

    /// What of the provider's answer so far the client does not hear.
    pub fn lost(&self) -> &[Loss] {
        self.relay.lost()
    }

    /// Gives back what it holds on to.
    fn let_go(&mut self) {
        let mut grip = std::mem::take(&mut self.grip);
        grip.used(|| self.usage(0));
    }

    fn take_frames(&mut self) -> bool {
        let mut content = false;
        for frame in self.scratch.drain(..) {
            content |= frame.content;
            if let Some(sequel) = &mut self.sequel {
                sequel.hear(&frame.bytes);
            }
            self.is_sequel &= !frame.content;
            if !frame.bytes.is_empty() && !self.is_sequel {
                self.ready.push_back(frame.bytes);
            }
        }
        content
    }

    /// Another stream goes on where this one broke off.
    fn go_on(&mut self, mut next: Self) {
        next.went_on = true;
        *self = next;
    }
}

/// Whether a body begins as no JSON document does: with an event, whatever its provider calls it.
fn is_events(body: &[u8]) -> bool {
    let fields: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];
    fields.iter().any(|field| body.trim_ascii_start().starts_with(field))
}

impl Drop for Live {
    fn drop(&mut self) {
        self.let_go();
    }
}
