//! Conversations over a WebSocket whose first message says who is to answer: the handshake is answered before anybody
//! is asked.

use std::pin::Pin;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};

use super::realtime::handshake;
use crate::fault::{Fault, FaultKind};
use crate::gateway::{Arrived, Awaited, Begun, Body, Door, Gateway, Refused, Rename, Unread};
use crate::providers::Target;
use crate::upstream::Upload;

/// A door that reads the first message.
pub(super) trait FirstMessage: Door {
    /// The first message as the target is to get it; `path` is the client's.
    fn opening(&self, message: &[u8], target: &Target, path: &str) -> Result<Vec<u8>, Fault>;
    /// What becomes of the client's other messages, if they do not go on as they are.
    fn rename(&self, _target: &Target) -> Option<Rename> {
        None
    }
    /// What the client is told of a fault before the goodbye.
    fn told(&self, _fault: &Fault) -> Option<Vec<u8>> {
        None
    }
}

/// Answers the handshake and waits for the first message, with which the request goes into the line.
///
/// # Errors
/// What is wrong with the handshake.
pub(super) fn open(
    door: &'static dyn FirstMessage,
    gateway: &Gateway,
    arrived: Arrived,
) -> Result<(Awaited, HeaderMap), Fault> {
    let answer = handshake(&arrived.headers)?;
    let own = gateway.clone();
    let begin = move |message: Bytes| -> Pin<Box<dyn Future<Output = Result<Begun, Refused>> + Send>> {
        Box::pin(async move {
            let begun = begin(door, &own, arrived, message).await;
            begun.map_err(|fault| Refused { told: door.told(&fault), fault })
        })
    };
    Ok((gateway.await_first(Box::new(begin)), answer))
}

async fn begin(
    door: &'static dyn FirstMessage,
    gateway: &Gateway,
    arrived: Arrived,
    message: Bytes,
) -> Result<Begun, Fault> {
    let (path, limit) = (arrived.uri.path().to_owned(), arrived.snapshot.realtime.max_frame.0);
    let served = gateway.serve(arrived, Message(message.clone())).await;
    let Body::Switch(conversation) = served.result? else {
        return Err(Fault::new(FaultKind::Internal, "a conversation became something else"));
    };
    let opening = door.opening(&message, conversation.target(), &path)?;
    let rename = door.rename(conversation.target()).map(|rename| (rename, limit));
    Ok(Begun { conversation, opening, rename })
}

/// The first message, which is here already.
struct Message(Bytes);

impl Unread for Message {
    async fn collect(self) -> Result<Bytes, Fault> {
        Ok(self.0)
    }

    fn upload(self) -> Upload {
        Upload::new(Box::pin(Full::new(self.0).map_err(|never| match never {})))
    }
}
