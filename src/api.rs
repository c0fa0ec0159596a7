//! The doors for clients: one file per dialect; only `reply.rs` turns a fault into a response.

pub mod anthropic_messages;
pub mod gemini_generate;
mod models;
pub mod openai_chat;
pub mod openai_embeddings;
pub mod reply;
mod request_id;
mod routes;
mod translate;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use reply::ReplyBody;
pub use routes::{Doorway, doors};
use tokio::time::Instant;

use crate::clock::{Clock, Dice};
use crate::fault::Fault;
use crate::gateway::{Arrived, Gateway};

/// A request body that has not been read yet.
pub trait Unread: Send {
    /// Reads it to its end, within the listener's limits.
    fn collect(self) -> impl Future<Output = Result<Bytes, Fault>> + Send;
}

/// All doors of one worker thread.
pub struct Api {
    gateway: Gateway,
    clock: Arc<dyn Clock>,
    dice: Dice,
}

impl Api {
    /// The doors in front of this gateway.
    pub fn new(gateway: Gateway, clock: Arc<dyn Clock>, dice: Dice) -> Self {
        Self { gateway, clock, dice }
    }

    /// A fresh request id, for responses to requests that never had a chance to name one.
    pub fn request_id(&self) -> Arc<str> {
        request_id::choose(&http::HeaderMap::new(), self.clock.unix_ms(), &self.dice)
    }

    /// Answers one request.
    pub async fn respond<B: Unread>(
        &self,
        request: Request<B>,
        address: Option<IpAddr>,
    ) -> Response<ReplyBody> {
        let at = Instant::now();
        let (head, body) = request.into_parts();
        let request_id = request_id::choose(&head.headers, self.clock.unix_ms(), &self.dice);
        let route = match routes::find(&head) {
            Ok(route) => route,
            Err(refusal) => return refusal.reply(&request_id),
        };
        match route {
            routes::Route::Door { door, path } => {
                let (uri, headers) = (head.uri, head.headers);
                let arrived = Arrived { door, path, uri, headers, address, at, request_id };
                reply::served(self.gateway.serve(arrived, body.collect()).await)
            }
            routes::Route::Models => models::list(&self.gateway.snapshot(), &request_id),
            routes::Route::Model(id) => models::one(&self.gateway.snapshot(), &id, &request_id),
        }
    }
}
