//! The doors for clients: one file per dialect; only `reply.rs` turns a fault into a response.

mod adjust;
pub mod anthropic_messages;
mod awaits;
pub mod cohere_rerank;
mod cors;
mod counted;
mod elsewhere;
pub mod estimate;
pub mod gemini_generate;
mod in_words;
mod live;
mod media;
mod models;
mod named_by_path;
pub mod openai_chat;
pub mod openai_completions;
pub mod openai_embeddings;
pub mod openai_moderations;
pub mod openai_responses;
mod own_address;
mod passthrough;
mod proxied;
mod raw;
mod realtime;
pub mod reply;
mod request_id;
#[cfg(test)]
mod round_trip;
mod routes;
mod sequel;
mod sight;
mod tongue;
mod translate;
#[cfg(test)]
mod translation;
mod versioned;

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, Response};
use openai_responses::door_of;
use reply::ReplyBody;
pub use routes::{Doorway, door_of_head, doors};
use tokio::time::Instant;

use crate::caller::Caller;
use crate::clock::{Clock, Dice};
use crate::fault::Fault;
use crate::gateway::{Arrived, Gateway, Snapshot, Unread};
use crate::heap;
use crate::keys::Auth;

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

    /// Answers one request, which came from `address`, and over TLS or not.
    pub async fn respond<B: Unread>(
        &self,
        request: Request<B>,
        address: Option<IpAddr>,
        tls: bool,
    ) -> Response<ReplyBody> {
        let at = Instant::now();
        let (mut head, body) = request.into_parts();
        let request_id = request_id::choose(&head.headers, self.clock.unix_ms(), &self.dice);
        let snapshot = self.gateway.snapshot();
        if let Some(answer) = cors::preflight(&head, &snapshot.cors, &request_id) {
            return answer;
        }
        let address = address.map(|peer| proxied::client(peer, &head.headers, &snapshot.proxies));
        let own = own_address::of_upload(&head, tls);
        let page = cors::Page::of(&head.headers, &snapshot.cors);
        let version = versioned::enter(&head.uri, &snapshot.versions).map(|(version, uri)| {
            head.uri = uri;
            version
        });
        if let Some(uri) = elsewhere::enter(&head.uri) {
            head.uri = uri;
        }
        let mut response = match cors::refuse_strangers(&head, &snapshot.cors) {
            Err(fault) if matches!(snapshot.auth, Auth::None) => reply::fault(&fault, &request_id),
            _ => self.answer(head, body, &snapshot, version, address, at, request_id).await,
        };
        if let Some(version) = snapshot.version(version) {
            response.headers_mut().extend(version.headers.clone());
        }
        if let Some(own) = own {
            own_address::tell(response.headers_mut(), &own);
        }
        if let Some(page) = page {
            page.tell(response.headers_mut());
        }
        response
    }

    #[allow(clippy::too_many_arguments, reason = "all that is known of a request, taken apart once")]
    async fn answer<B: Unread>(
        &self,
        head: http::request::Parts,
        body: B,
        snapshot: &Arc<Snapshot>,
        version: Option<usize>,
        address: Option<IpAddr>,
        at: Instant,
        request_id: Arc<str>,
    ) -> Response<ReplyBody> {
        let route = match routes::find(&head) {
            Ok(route) => route,
            Err(refusal) => return refusal.reply(&request_id),
        };
        if !matches!(route, routes::Route::Door { .. })
            && let Some(version) = snapshot.version(version)
            && let Err(fault) = version.in_service(self.clock.unix_ms())
        {
            return reply::fault(&fault, &request_id);
        }
        let mut caller = Caller { address, ..Caller::default() };
        if !matches!(route, routes::Route::Door { .. }) {
            let known = self.gateway.caller(snapshot, &head.headers, &head.uri, address, route.endpoint());
            match known.await {
                Ok(known) => caller = known,
                Err(fault) => return reply::fault_at(route.tongue(), &fault, &request_id),
            }
        }
        match route {
            routes::Route::Door { door, path } => {
                let (method, uri, headers) = (head.method, head.uri, head.headers);
                let snapshot = snapshot.clone();
                let arrived =
                    Arrived { snapshot, version, door, path, method, uri, headers, address, at, request_id };
                // Boxed where it begins: what is around it is moved once more, into the listener's box.
                reply::served(heap::pinned(|| self.gateway.serve(arrived, body)).await)
            }
            routes::Route::Awaits(door, path) => {
                let (method, uri, headers) = (head.method, head.uri, head.headers);
                let (snapshot, id) = (snapshot.clone(), request_id.clone());
                let arrived =
                    Arrived { snapshot, version, door, path, method, uri, headers, address, at, request_id };
                match awaits::open(door, &self.gateway, arrived) {
                    Ok((awaited, answer)) => reply::awaiting(awaited, answer, &id),
                    Err(fault) => reply::fault_at(door, &fault, &id),
                }
            }
            routes::Route::Response(lookup) => {
                let shelf = self.gateway.shelf(&caller);
                Box::pin(shelf.look_elsewhere(lookup.wanted())).await;
                let Some(door) = door_of(&lookup, &shelf, &head.uri) else {
                    return lookup.reply(&shelf, &head.uri, &request_id);
                };
                let (method, uri, headers) = (head.method, head.uri, head.headers);
                let (snapshot, path) = (snapshot.clone(), "/v1/responses/{id}");
                let arrived =
                    Arrived { snapshot, version, door, path, method, uri, headers, address, at, request_id };
                reply::served(heap::pinned(|| self.gateway.serve(arrived, body)).await)
            }
            routes::Route::Estimate => {
                let told = Box::pin(self.estimate(body, snapshot, version, &caller)).await;
                estimate::reply(told, &request_id)
            }
            routes::Route::Models(shelf) => {
                let sight = (&*self.gateway.prices(), &caller);
                shelf.list(snapshot, sight, version, head.uri.query(), &request_id)
            }
            routes::Route::Model(shelf, id) => {
                let sight = (&*self.gateway.prices(), &caller);
                shelf.one(snapshot, sight, version, &id, &request_id)
            }
        }
    }

    async fn estimate<B: Unread>(
        &self,
        body: B,
        snapshot: &Snapshot,
        version: Option<usize>,
        caller: &Caller,
    ) -> Result<serde_json::Value, Fault> {
        let body = body.collect().await?;
        let draft = {
            let book = self.gateway.prices();
            let sight = estimate::Sight {
                catalogue: snapshot.catalogue_of(version),
                market: &**snapshot.market_of(version),
                book: &book,
                caller,
                unix_ms: self.clock.unix_ms(),
            };
            estimate::draft(body, &sight)?
        };
        draft.make(&self.gateway.counter()).await
    }
}
