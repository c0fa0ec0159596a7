//! Who calls: what the gateway knows of the client behind a request.

use std::net::IpAddr;
use std::sync::Arc;

/// The client behind a request. Never holds a credential.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The client's address as the listener saw it.
    pub address: Option<IpAddr>,
    /// The public id of the virtual key, once keys exist.
    pub key_id: Option<Arc<str>>,
    /// The team that the key belongs to.
    pub team: Option<Arc<str>>,
    /// The user: from the key, else from the request's `user` or `safety_identifier`.
    pub user: Option<Arc<str>>,
}
