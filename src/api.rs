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
use crate::gateway::{Arrived, Aside, Door, Gateway, Snapshot, Unread};
use crate::heap;
use crate::keys::Auth;

/// All doors of one worker thread.
pub struct Api {
    gateway: Gateway,
    clock: Arc<dyn Clock>,
    dice: Dice,
}

/// What is known of a request beside its bytes.
struct Arrival {
    snapshot: Arc<Snapshot>,
    version: Option<usize>,
    address: Option<IpAddr>,
    at: Instant,
    request_id: Arc<str>,
}

impl Arrival {
    fn at(self, door: &'static dyn Door, path: &'static str, head: http::request::Parts) -> Arrived {
        let Self { snapshot, version, address, at, request_id } = self;
        let (method, uri, headers) = (head.method, head.uri, head.headers);
        Arrived { snapshot, version, door, path, method, uri, headers, address, at, request_id }
    }
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
        let arrival = Arrival { snapshot: snapshot.clone(), version, address, at, request_id };
        let mut response = match cors::refuse_strangers(&head, &snapshot.cors) {
            Err(fault) if matches!(snapshot.auth, Auth::None) => {
                let reply = reply::fault(&fault, &arrival.request_id);
                self.pass_aside(&head, &arrival, &Caller::default(), reply, Some(fault.code_str()))
            }
            _ => self.answer(head, body, arrival).await,
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

    async fn answer<B: Unread>(
        &self,
        head: http::request::Parts,
        body: B,
        arrival: Arrival,
    ) -> Response<ReplyBody> {
        match routes::find(&head) {
            Ok(routes::Route::Door { door, path }) => {
                let arrived = arrival.at(door, path, head);
                // Boxed where it begins: what is around it is moved once more, into the listener's box.
                reply::served(heap::pinned(|| self.gateway.serve(arrived, body)).await)
            }
            Ok(route) => heap::pinned(|| self.aside(route, head, body, arrival)).await,
            Err(refusal) => {
                let reply = refusal.reply(&arrival.request_id);
                self.pass_aside(&head, &arrival, &Caller::default(), reply, Some(refusal.code()))
            }
        }
    }

    /// Answers what no door is for.
    async fn aside<B: Unread>(
        &self,
        route: routes::Route,
        head: http::request::Parts,
        body: B,
        arrival: Arrival,
    ) -> Response<ReplyBody> {
        let (snapshot, version, request_id) =
            (arrival.snapshot.clone(), arrival.version, &arrival.request_id);
        let refuse = |door, fault: &Fault| {
            let reply = reply::fault_at(door, fault, request_id);
            self.pass_aside(&head, &arrival, &Caller::default(), reply, Some(fault.code_str()))
        };
        if let Some(version) = snapshot.version(version)
            && let Err(fault) = version.in_service(self.clock.unix_ms())
        {
            return refuse(&openai_chat::OpenAiChat, &fault);
        }
        let known =
            self.gateway.caller(&snapshot, &head.headers, &head.uri, arrival.address, route.endpoint());
        let caller = match known.await {
            Ok(known) => known,
            Err(fault) => return refuse(route.tongue(), &fault),
        };
        let reply = match route {
            routes::Route::Door { door, path } => {
                let arrived = arrival.at(door, path, head);
                return reply::served(heap::pinned(|| self.gateway.serve(arrived, body)).await);
            }
            routes::Route::Awaits(door, path) => {
                let id = request_id.clone();
                return match awaits::open(door, &self.gateway, arrival.at(door, path, head)) {
                    Ok((awaited, answer)) => reply::awaiting(awaited, answer, &id),
                    Err(fault) => reply::fault_at(door, &fault, &id),
                };
            }
            routes::Route::Response(lookup) => {
                let shelf = self.gateway.shelf(&caller);
                Box::pin(shelf.look_elsewhere(lookup.wanted())).await;
                if let Some(door) = door_of(&lookup, &shelf, &head.uri) {
                    let arrived = arrival.at(door, "/v1/responses/{id}", head);
                    return reply::served(heap::pinned(|| self.gateway.serve(arrived, body)).await);
                }
                lookup.reply(&shelf, &head.uri, request_id)
            }
            routes::Route::Estimate => {
                let told = Box::pin(self.estimate(body, &snapshot, version, &caller)).await;
                estimate::reply(told, request_id)
            }
            routes::Route::Models(shelf) => {
                let sight = (&*self.gateway.prices(), &caller);
                shelf.list(&snapshot, sight, version, head.uri.query(), request_id)
            }
            routes::Route::Model(shelf, id) => {
                let sight = (&*self.gateway.prices(), &caller);
                shelf.one(&snapshot, sight, version, &id, request_id)
            }
        };
        self.pass_aside(&head, &arrival, &caller, reply, None)
    }

    /// Notes a request that did not go through the line, and gives back its answer.
    fn pass_aside(
        &self,
        head: &http::request::Parts,
        arrival: &Arrival,
        caller: &Caller,
        reply: Response<ReplyBody>,
        error: Option<&str>,
    ) -> Response<ReplyBody> {
        self.gateway.pass_aside(&Aside {
            method: head.method.as_str(),
            path: head.uri.path(),
            address: arrival.address,
            caller,
            request_id: &arrival.request_id,
            took: arrival.at.elapsed(),
            status: reply.status().as_u16(),
            error,
        });
        reply
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
