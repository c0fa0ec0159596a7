//! What an answer has to pass on its way to the client that may take its time: plugins that speak for a provider, and
//! guards that look at the answer. Relays and decoders stay free of waiting; what waits is put in front of them.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::HeaderMap;

use super::Outgoing;
use crate::chat::{Answer, Event};
use crate::fault::Fault;

/// Something that is not there yet.
pub type Awaited<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes of a streamed answer on their way to the relay.
pub trait Ford: Send {
    /// Takes bytes as they came, and gives what the relay is to read; possibly nothing yet.
    ///
    /// # Errors
    /// The stream ends, behind all that was given before.
    fn feed(&mut self, chunk: Bytes) -> Awaited<'_, Result<Bytes, Fault>>;
    /// No more bytes will come.
    ///
    /// # Errors
    /// As with [`Self::feed`].
    fn end(&mut self) -> Awaited<'_, Result<Bytes, Fault>>;
}

/// Speaks with a provider in a language that the gateway does not know: OpenAI's chat completions on this side.
pub trait Interpreter: Send + Sync {
    /// A chat completions request, as the provider wants it.
    ///
    /// # Errors
    /// What the provider's language cannot say; an interpreter that failed.
    fn say(&self, request: Outgoing) -> Awaited<'_, Result<Outgoing, Fault>>;
    /// A whole answer of the provider, as a `chat.completion`.
    ///
    /// # Errors
    /// An answer that is none; an interpreter that failed.
    fn hear(&self, status: u16, body: Bytes) -> Awaited<'_, Result<Bytes, Fault>>;
    /// What an answer with a status of 400 or more means.
    fn blame(&self, status: u16, headers: &HeaderMap, body: Bytes) -> Awaited<'_, Fault>;
    /// A streamed answer, as the events of a streamed chat completion.
    fn listen(&self) -> Box<dyn Ford>;
}

/// Looks at the answers to one request before the client gets them.
pub trait Inspection: Send + Sync {
    /// Looks at a whole answer, and changes what has to be changed.
    ///
    /// # Errors
    /// The answer is withheld.
    fn whole<'a>(&'a self, answer: &'a mut Answer) -> Awaited<'a, Result<(), Fault>>;
    /// Looks at a streamed answer.
    fn stream(&self) -> Box<dyn Sentry>;
}

/// Looks at one streamed answer as it comes.
pub trait Sentry: Send {
    /// Takes what came, and appends what may go on.
    ///
    /// # Errors
    /// The stream ends, behind all that was appended.
    fn pass<'a>(&'a mut self, events: Vec<Event>, out: &'a mut Vec<Event>) -> Awaited<'a, Result<(), Fault>>;
}
