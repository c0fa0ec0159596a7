//! Answers on their way through what may take its time: a plugin that speaks for the provider, guards that look.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::answering::{Answering, Script};
use super::journal::Page;
use super::{Carry, Job};
use crate::fault::Fault;
use crate::providers::{Ford, Outgoing, Relayed, StreamRelay, Tally, Target};

/// A body that goes through fords, one after the other.
pub(super) struct Passing {
    inner: Box<Answering>,
    state: State,
    /// Waits until what came before it was taken.
    fault: Option<Fault>,
    /// The inner body is over.
    ended: bool,
}

enum State {
    Free(Vec<Box<dyn Ford>>),
    Busy(Crossing),
    Over,
}

type Crossing = Pin<Box<dyn Future<Output = (Vec<Box<dyn Ford>>, Result<Bytes, Fault>)> + Send>>;

impl Passing {
    fn new(inner: Answering, fords: Vec<Box<dyn Ford>>) -> Self {
        Self { inner: Box::new(inner), state: State::Free(fords), fault: None, ended: false }
    }

    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        loop {
            if let Some(fault) = self.fault.take() {
                self.state = State::Over;
                return Poll::Ready(Some(Err(fault)));
            }
            match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Busy(crossing) => {
                    let (fords, crossed) = ready!(crossing.as_mut().poll(cx));
                    self.state = if self.ended { State::Over } else { State::Free(fords) };
                    // Also empty bytes are news: what passed a guard waits in the relay's decoder.
                    return Poll::Ready(Some(Ok(crossed.unwrap_or_else(|fault| {
                        self.fault = Some(fault);
                        Bytes::new()
                    }))));
                }
                State::Free(fords) => {
                    let next = match ready!(self.inner.poll_chunk(cx)) {
                        Some(Ok(chunk)) => Some(chunk),
                        Some(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                        None => None,
                    };
                    self.ended = next.is_none();
                    self.state = State::Busy(Box::pin(cross(std::mem::take(fords), next)));
                }
            }
        }
    }
}

/// Bytes, or the end, through all fords.
async fn cross(
    mut fords: Vec<Box<dyn Ford>>,
    chunk: Option<Bytes>,
) -> (Vec<Box<dyn Ford>>, Result<Bytes, Fault>) {
    let ends = chunk.is_none();
    let mut bytes = chunk.unwrap_or_default();
    for ford in &mut fords {
        // At the end, what the ford before still gave comes first.
        let fed = if ends && bytes.is_empty() { Ok(Bytes::new()) } else { ford.feed(bytes).await };
        bytes = match (fed, ends) {
            (Ok(fed), true) => match ford.end().await {
                Ok(last) => joined(fed, last),
                Err(fault) => return (fords, Err(fault)),
            },
            (Ok(fed), false) => fed,
            (Err(fault), _) => return (fords, Err(fault)),
        };
    }
    (fords, Ok(bytes))
}

fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => second,
        (_, true) => first,
        _ => [first, second].concat().into(),
    }
}

/// The request as the target wants it, said by its interpreter where it has one.
///
/// # Errors
/// What cannot be said; an interpreter that failed.
pub(super) async fn outgoing(carry: &dyn Carry, target: &Target) -> Result<Outgoing, Fault> {
    let outgoing = carry.outgoing(target)?;
    match &target.vendor.interpreter {
        Some(interpreter) => interpreter.say(outgoing).await,
        None => Ok(outgoing),
    }
}

/// A whole answer for the client.
///
/// # Errors
/// An answer that is none; a guard that withholds it; an interpreter that failed.
pub(super) async fn whole(
    job: &Job,
    page: &Page<'_>,
    target: &Target,
    status: u16,
    bytes: Bytes,
) -> Result<Relayed, Fault> {
    let bytes = match &target.vendor.interpreter {
        Some(interpreter) => interpreter.hear(status, bytes).await?,
        None => bytes,
    };
    match inspected(job, page, target, &bytes).await? {
        Some(inspected) => job.carry.whole(&inspected, bytes),
        None => job.carry.whole(target, bytes),
    }
}

async fn inspected(
    job: &Job,
    page: &Page<'_>,
    target: &Target,
    bytes: &[u8],
) -> Result<Option<Target>, Fault> {
    target.inspect(bytes).await.map_err(|withheld| {
        if let Some(made) = withheld.made {
            page.withhold(target, made.used(job.tokens));
        }
        withheld.fault
    })
}

/// A streamed answer with its relay, through whatever it has to pass, and what has come of it before that. `whole` is
/// the body of a provider that answers with one document although a stream was asked for.
///
/// # Errors
/// A guard that withholds it; an interpreter that failed.
pub(super) async fn stream(
    job: &Job,
    page: &Page<'_>,
    target: &Target,
    body: Answering,
    whole: Option<Bytes>,
) -> Result<(Answering, Box<dyn StreamRelay>, Option<Tally>), Fault> {
    if let Some(bytes) = whole {
        let inspected = inspected(job, page, target, &bytes).await?;
        let relay = job.carry.stream(inspected.as_ref().unwrap_or(target))?;
        return Ok((Answering::Local(Script::new(vec![(Duration::ZERO, bytes)])), relay, None));
    }
    let mut fords: Vec<Box<dyn Ford>> = Vec::new();
    fords.extend(target.vendor.interpreter.as_ref().map(|interpreter| interpreter.listen()));
    let (relay, tally) = match target.inspect_stream() {
        Some((ready, ford, tally)) => {
            fords.push(ford);
            (job.carry.stream(&ready)?, Some(tally))
        }
        None => (job.carry.stream(target)?, None),
    };
    Ok((Answering::Passing(Passing::new(body, fords)), relay, tally))
}
