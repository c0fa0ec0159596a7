//! Who calls: what the gateway knows of the client behind a request.

pub mod cidr;
pub mod glob;
mod grant;
mod priority;
mod tenant;

use std::net::IpAddr;
use std::sync::Arc;

pub use grant::{Grant, NotYours, Scope};
pub use priority::Priority;
pub use tenant::{Owner, Tenant, one_client};

/// The client behind a request. Never holds a credential.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The client's address as the listener saw it.
    pub address: Option<IpAddr>,
    /// The public id of the virtual key, or the subject of the token.
    pub key_id: Option<Arc<str>>,
    /// The team that the key belongs to.
    pub team: Option<Arc<str>>,
    /// The user: from the key, else from the request's `user` or `safety_identifier`.
    pub user: Option<Arc<str>>,
    /// What the client itself says that its requests have in common (`x-tollgate-session`).
    pub session: Option<Arc<str>>,
    /// How important its requests are: as its key says, or less where the client asks for less.
    pub priority: Priority,
    /// What the key or token grants; `None` where nobody has to show one.
    pub grant: Option<Arc<Grant>>,
}

impl Caller {
    /// What the same caller has in common from request to request: the key, else the user, else the session, else the
    /// address. `None` when nothing is known.
    pub fn anchor(&self) -> Option<String> {
        let named = |kind: &str, name: &Option<Arc<str>>| Some(format!("{kind}:{}", name.as_ref()?));
        named("key", &self.key_id)
            .or_else(|| named("user", &self.user))
            .or_else(|| named("session", &self.session))
            .or_else(|| Some(format!("address:{}", self.address?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_sign_counts() {
        let mut caller = Caller::default();
        assert_eq!(caller.anchor(), None);
        caller.address = Some([10, 0, 0, 7].into());
        assert_eq!(caller.anchor().as_deref(), Some("address:10.0.0.7"));
        caller.session = Some("s".into());
        assert_eq!(caller.anchor().as_deref(), Some("session:s"));
        caller.user = Some("u".into());
        assert_eq!(caller.anchor().as_deref(), Some("user:u"));
        caller.key_id = Some("k".into());
        assert_eq!(caller.anchor().as_deref(), Some("key:k"));
    }
}
