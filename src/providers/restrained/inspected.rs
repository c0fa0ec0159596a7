//! Answers that were decoded and looked at before the relay asks for them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::chat::{Answer, Event, StreamDecoder, Usage};
use crate::fault::{Fault, FaultKind};
use crate::providers::{Awaited, Ford, Sentry};

/// What was decoded and looked at already.
#[derive(Clone)]
pub(in crate::providers) enum Ready {
    /// A whole answer.
    Whole(Arc<Mutex<Option<Answer>>>),
    /// A stream, as far as it may go on.
    Stream(Queue),
}

/// Events that may go on.
#[derive(Clone, Default)]
pub(in crate::providers) struct Queue(Arc<Mutex<VecDeque<Event>>>);

impl Ready {
    pub(in crate::providers) fn whole(answer: Answer) -> Self {
        Self::Whole(Arc::new(Mutex::new(Some(answer))))
    }

    /// The answer that is ready.
    pub(super) fn answer(&self) -> Result<Answer, Fault> {
        let taken = match self {
            Self::Whole(answer) => answer.lock().unwrap_or_else(PoisonError::into_inner).take(),
            Self::Stream(_) => None,
        };
        taken.ok_or_else(|| Fault::new(FaultKind::Internal, "an answer that was looked at is gone"))
    }

    /// A decoder that says what is ready, whatever bytes it is fed with.
    pub(super) fn decoder(&self) -> Box<dyn StreamDecoder> {
        match self {
            Self::Stream(queue) => Box::new(queue.clone()),
            Self::Whole(_) => Box::new(Queue::default()),
        }
    }
}

impl Queue {
    fn push(&self, events: Vec<Event>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
    }
}

impl StreamDecoder for Queue {
    fn feed(&mut self, _: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        events.extend(self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.feed(&[], events)
    }
}

/// What a provider has sent of a stream that somebody looks at. Not all of it has gone on, and all of it is paid for.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Heard>>);

#[derive(Clone, Copy, Default)]
struct Heard {
    bytes: u64,
    usage: Option<Usage>,
}

impl Tally {
    /// Bytes of text so far, arguments and thoughts among them.
    pub fn bytes(&self) -> u64 {
        self.heard(|heard| heard.bytes)
    }

    /// What the provider said of its use.
    pub fn usage(&self) -> Option<Usage> {
        self.heard(|heard| heard.usage)
    }

    /// What was used; what the provider did not say is estimated, with so many tokens of the prompt.
    pub fn used(&self, prompt: u64) -> Usage {
        let output = self.bytes().div_ceil(4);
        self.usage().unwrap_or(Usage { input: prompt, output, estimated: true, ..Usage::default() })
    }

    /// Takes note of what came.
    pub(in crate::providers) fn take(&self, events: &[Event]) {
        self.heard(|heard| {
            for event in events {
                match event {
                    Event::Text { text, .. } | Event::Refusal { text, .. } | Event::Thinking { text, .. } => {
                        heard.bytes += text.len() as u64;
                    }
                    Event::ToolCallDelta { arguments, .. } => heard.bytes += arguments.len() as u64,
                    Event::Usage(usage) => heard.usage = Some(*usage),
                    _ => {}
                }
            }
        });
    }

    fn heard<T>(&self, look: impl FnOnce(&mut Heard) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A stream that is decoded and looked at; what may go on comes out of the queue.
pub(in crate::providers) struct Checkpoint {
    decoder: Box<dyn StreamDecoder>,
    sentry: Box<dyn Sentry>,
    queue: Queue,
    tally: Tally,
}

impl Checkpoint {
    pub(in crate::providers) fn new(
        decoder: Box<dyn StreamDecoder>,
        sentry: Box<dyn Sentry>,
        queue: Queue,
        tally: Tally,
    ) -> Self {
        Self { decoder, sentry, queue, tally }
    }

    /// What was decoded goes on, and then what decoding came to.
    async fn pass(&mut self, events: Vec<Event>, decoded: Result<(), Fault>) -> Result<Bytes, Fault> {
        if !events.is_empty() {
            self.tally.take(&events);
            let mut out = Vec::with_capacity(events.len());
            let passed = self.sentry.pass(events, &mut out).await;
            self.queue.push(out);
            passed?;
        }
        decoded.map(|()| Bytes::new())
    }
}

impl Ford for Checkpoint {
    fn feed(&mut self, chunk: Bytes) -> Awaited<'_, Result<Bytes, Fault>> {
        let mut events = Vec::new();
        let decoded = self.decoder.feed(&chunk, &mut events);
        Box::pin(self.pass(events, decoded))
    }

    fn end(&mut self) -> Awaited<'_, Result<Bytes, Fault>> {
        let mut events = Vec::new();
        let decoded = self.decoder.finish(&mut events);
        Box::pin(self.pass(events, decoded))
    }
}
