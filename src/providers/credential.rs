//! How requests to a provider are authorised where fixed headers are not enough.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use super::lease::Lease;
use crate::fault::Fault;

/// The credential of a configured provider; the executor applies it last of all.
#[derive(Clone, Default)]
pub enum Credential {
    /// The provider's fixed headers say all, or it asks for nothing.
    #[default]
    Headers,
    /// A signature over each request.
    Signed(Arc<dyn Sign>),
    /// What is fetched over HTTP and expires: a token, or keys to sign with.
    Leased(Arc<Lease>),
    /// Nothing may be sent: a secret that it needs is not known any more.
    Withheld,
}

/// Signs requests. The secret stays inside.
pub trait Sign: Send + Sync {
    /// Adds the headers of the signature to a request that is complete otherwise. Nothing may change it afterwards.
    ///
    /// # Errors
    /// What keeps the request from being signed; never the secret.
    fn sign(&self, request: Signable<'_>, unix_ms: u64) -> Result<(), Fault>;
    /// Whether the whole body must be here for it.
    fn covers_body(&self) -> bool {
        true
    }
}

/// A request to be signed.
pub struct Signable<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Host, and the port where it is not the scheme's own, as the `host` header will say it.
    pub authority: &'a str,
    /// The whole path and query at the origin.
    pub path_and_query: &'a PathAndQuery,
    /// All headers but `host` and `content-length`.
    pub headers: &'a mut HeaderMap,
    /// The body in pieces, in order.
    pub body: &'a [Bytes],
}
