//! The only sockets outward: connection pools, TLS, deadlines.
mod settings;
use std::task::{Context, Poll};
use std::time::Duration;
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
pub use settings::UpstreamSettings;
use crate::fault::Fault;
use crate::target::Origin;
/// stub
pub struct Upstream {}
/// stub
pub struct Outbound { /// stub
    pub method: Method, /// stub
    pub path_and_query: http::uri::PathAndQuery, /// stub
    pub headers: HeaderMap, /// stub
    pub body: Vec<Bytes> }
/// stub
pub struct AnswerBody {}
impl Upstream {
    /// stub
    pub fn new(_: &UpstreamSettings) -> Result<Self, String> { Ok(Self {}) }
    /// stub
    pub async fn send(&self, _: &Origin, _: Outbound, _: Duration) -> Result<Response<AnswerBody>, Fault> { todo!() }
}
impl AnswerBody {
    /// stub
    pub fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> { todo!() }
}
