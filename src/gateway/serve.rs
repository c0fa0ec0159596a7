//! The life of a request, as a line that can be read aloud. Each stage consumes what the stage before produced, so
//! that none can be skipped or moved by accident.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use tokio::time::Instant;

use super::admission::{over, shutting_down};
use super::cached::Cached;
use super::conversation::Conversation;
use super::raw::RawBody;
use super::repeated::Repeated;
use super::watch::StreamBody;
use super::{Door, Gateway, Snapshot, Unread};
use crate::cohort;
use crate::fault::Fault;

/// A request at the door: its head is here, its body is not.
pub struct Arrived {
    /// The snapshot that serves it.
    pub snapshot: Arc<Snapshot>,
    /// The version of the API that it is for, by its place in the snapshot.
    pub version: Option<usize>,
    /// Where it came in.
    pub door: &'static dyn Door,
    /// The path as the table of routes has it, for the log.
    pub path: &'static str,
    /// The method.
    pub method: Method,
    /// Path and query as the client sent them, without the prefix of a version.
    pub uri: Uri,
    /// The client's headers.
    pub headers: HeaderMap,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// When its head was read.
    pub at: Instant,
    /// Its `x-request-id`.
    pub request_id: Arc<str>,
}

/// What came of a request.
pub struct Served {
    /// Where it came in.
    pub door: &'static dyn Door,
    /// Its `x-request-id`.
    pub request_id: Arc<str>,
    /// The answer, or the fault for `api/reply.rs` to say in the client's dialect.
    pub result: Result<Body, Fault>,
    /// Headers that tell what was decided: `x-tollgate-*`, `server-timing`.
    pub headers: HeaderMap,
}

/// A response body of the line.
pub enum Body {
    /// A whole answer.
    Whole(Bytes),
    /// A stream.
    Stream(Box<StreamBody>),
    /// A stream that was sent before, all of it.
    Replay(Bytes),
    /// The provider's own bytes, under its own status.
    Raw(Box<RawBody>),
    /// No body: frames both ways, over the connection that the request came by.
    Switch(Box<Conversation>),
}

impl Gateway {
    /// Serves one request from its head to its answer's head; streams go on in their body.
    pub async fn serve(&self, arrived: Arrived, body: impl Unread) -> Served {
        let mut opened = self.open(arrived);
        let result = {
            // Pinned where it lies, as are its stages: whatever is waited for by value is made, and then moved as a whole.
            let mut line = pin!(async {
                let identified = pin!(opened.identify()).await?;
                let read = pin!(identified.read(body)).await?;
                cohort::gather().await;
                let admitted = pin!(read.admit()).await?;
                let admitted = match pin!(admitted.repeated()).await? {
                    Repeated::First(admitted) => admitted,
                    Repeated::Again(carried) => return Ok(carried.watch()),
                };
                let inspected = pin!(admitted.inspect()).await?;
                cohort::gather().await;
                let decided = pin!(inspected.decide()).await?;
                cohort::gather().await;
                let planned = match decided.plan()?.cached().await? {
                    Cached::Miss(planned) => planned,
                    Cached::Hit(carried) => return Ok(carried.watch()),
                };
                let reserved = planned.reserve();
                let carried = pin!(reserved.carry_out()).await?;
                cohort::gather().await;
                Ok(carried.watch())
            });
            let ended = tokio::select! {
                biased;
                result = &mut line => result,
                () = over(self.closing.clone()) => Err(shutting_down()),
            };
            ended
        };
        if let Err(fault) = &result
            && let Some(keeping) = opened.keeping.take()
        {
            keeping.failed(fault);
        }
        opened.answer(result)
    }
}
