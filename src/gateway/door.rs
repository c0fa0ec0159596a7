//! What the line needs of a client dialect. The dialects stand in `api/`, one file each.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri};

use super::{Approach, Intake, Items};
use crate::chat::Usage;
use crate::executor::Carry;
use crate::facts::{self, Endpoint};
use crate::fault::Fault;
use crate::json;
use crate::providers::{Dialect, Target};
use crate::store::Shelf;

/// The head of a request, as far as a dialect may look at it.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Path and query: some dialects name the model there.
    pub uri: &'a Uri,
    /// The client's headers, credentials included.
    pub headers: &'a HeaderMap,
    /// Answers that the request may refer to.
    pub shelf: &'a Shelf,
}

/// A door: one operation of one client dialect.
pub trait Door: Send + Sync + 'static {
    /// The operation behind it.
    fn endpoint(&self) -> Endpoint;
    /// The client dialect, for metrics.
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }
    /// How it takes bodies: whole, unless the door says otherwise.
    ///
    /// # Errors
    /// What can be refused without looking at the body.
    fn intake(&self, _approach: Approach<'_>) -> Result<Intake, Fault> {
        Ok(Intake::Whole)
    }
    /// Reads a request body: the strict JSON gate, then a shallow envelope.
    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault>;
    /// What a whole answer that was made here is.
    fn kind_of(&self, _whole: &[u8]) -> &'static str {
        "application/json"
    }
    /// The body of a response that says a fault, in this dialect.
    fn error_body(&self, fault: &Fault, request_id: &str) -> Vec<u8>;
    /// The frames that end a stream with an error, in this dialect; never its normal end. `begun`: whether the client has
    /// some of the answer.
    fn fault_event(&self, fault: &Fault, begun: bool) -> Bytes;
    /// The form of this door's streams.
    fn stream_form(&self) -> StreamForm {
        StreamForm::Events
    }
}

/// The form of a streamed response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamForm {
    /// Server-sent events.
    Events,
    /// The same for clients that take comments for events.
    BareEvents,
    /// One JSON array that grows.
    Array,
}

impl StreamForm {
    /// The response's content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Events | Self::BareEvents => "text/event-stream; charset=utf-8",
            Self::Array => "application/json; charset=utf-8",
        }
    }

    /// Bytes that say nothing, to keep the connection alive.
    pub(super) fn keepalive(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Events => b": keepalive\n\n",
            Self::BareEvents | Self::Array => b"\n",
        })
    }
}

/// What an answer says of work in the background, with the id of the answer that is made there.
#[derive(Debug, PartialEq, Eq)]
pub enum Later {
    /// Nothing.
    No,
    /// It has begun, and is paid for when its answer is there.
    Begun(Box<str>),
    /// Somebody looked at it, and it goes on.
    Awaited(Box<str>),
    /// Somebody looked at it, and it is over: its answer is there, or nobody will see it.
    Over(Box<str>),
}

/// A request that was read.
pub trait Asked: Carry + facts::Body {
    /// The model's name as the client wrote it.
    fn model(&self) -> &Arc<str>;
    /// Size of the body in bytes, as far as it was announced or has come.
    fn bytes(&self) -> usize;
    /// Whether the client chose the provider itself: policies may refuse, tag and constrain, but not move it.
    fn is_pinned(&self) -> bool {
        false
    }
    /// Whether the answer goes back as the provider's bytes: nobody can put a limit into such a request.
    fn is_raw(&self) -> bool {
        false
    }
    /// Whether something is to be done with an answer that was asked for before, and is paid for as that.
    fn is_errand(&self) -> bool {
        false
    }
    /// Whether it only looks at what is there, or takes it away: nothing is asked for, and nothing is paid for.
    fn is_look(&self) -> bool {
        false
    }
    /// Whether the answer may be a batch, which tells of its usage whenever it is asked for.
    fn is_batch(&self) -> bool {
        false
    }
    /// The batch whose results the answer is, where these alone tell of its usage.
    fn results(&self) -> Option<&str> {
        None
    }
    /// What it has to do with things that its provider keeps for the client who made them.
    fn items(&self) -> Option<Items> {
        Items::named_in(self.json()?)
    }

    /// The same request for the page of a list that begins behind this one; `None` where it asks for no list.
    fn page(&self, _after: &str) -> Option<Arc<dyn Carry>> {
        None
    }

    /// What this whole answer says of work in the background.
    fn later(&self, _answer: &[u8], _usage: Option<&Usage>) -> Later {
        Later::No
    }
    /// How many prompts it has, each of which gets answers of its own.
    fn prompts(&self) -> u64 {
        1
    }
    /// Whether a part of the prompt is known to its provider alone: a conversation that is kept there, a beginning that
    /// was put into its cache.
    fn is_kept_elsewhere(&self) -> bool {
        false
    }
    /// The same request with parameters that a policy set, by the names that policies have for them; `null` takes one
    /// away. Names of those that the client's dialect does not have are put into `missing`. `None` where an operation
    /// has no parameters.
    ///
    /// # Errors
    /// `Policy` where a value cannot be.
    fn with(
        &self,
        _parameters: &[(Arc<str>, serde_json::Value)],
        _missing: &mut Vec<Arc<str>>,
    ) -> Result<Option<Arc<dyn Asked>>, Fault> {
        Ok(None)
    }
    /// The same request for whoever goes on with its stream, which broke off after `text`; the client has seen these
    /// frames. `None` where the dialect has no place for the beginning of an answer.
    fn after(&self, _text: &str, _seen: &[Bytes]) -> Option<Arc<dyn Carry>> {
        None
    }
    /// The body, where it is one JSON document that was read to its end: only such requests can be known again.
    fn json(&self) -> Option<&json::Body> {
        None
    }
    /// Headers of the client that go to the provider with it, and that the answer may depend on.
    fn carried(&self) -> &[(&'static str, HeaderValue)] {
        &[]
    }
    /// Moves to the front the targets that hold a state which the request builds on. The plan's own order stays
    /// otherwise, and no target is added.
    fn prefer(&self, _targets: &mut [Target]) {}
}
