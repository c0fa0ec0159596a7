//! Who shares fairly with others where there is not enough for all.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::{Caller, Priority};

/// Whoever counts as one where room is short: a hash of its name, so that it costs nothing to carry along. Who has
/// requests of several priorities counts once with each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Tenant {
    who: u64,
    priority: Priority,
}

impl Tenant {
    /// The tenant of this number, for tests.
    pub const fn numbered(number: u64) -> Self {
        Self { who: number, priority: Priority::Normal }
    }

    /// The same with another priority.
    #[must_use]
    pub const fn with(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// The same with this priority, if there is one.
    #[must_use]
    pub fn ranked(self, priority: Option<Priority>) -> Self {
        priority.map_or(self, |priority| self.with(priority))
    }

    /// How important its requests are.
    pub const fn priority(self) -> Priority {
        self.priority
    }

    /// One of so many places for counts.
    pub fn slot(self, slots: usize) -> usize {
        usize::try_from(self.who % slots.max(1) as u64).unwrap_or(0)
    }
}

impl Caller {
    /// The team, else the key, else the user; of those who show none of these, the address. Ask it before the request's
    /// own words are added: whoever may name himself would count as many.
    pub fn tenant(&self) -> Tenant {
        let mut hash = DefaultHasher::new();
        match (&self.team, &self.key_id, &self.user, self.address) {
            (Some(team), ..) => ("team", team).hash(&mut hash),
            (_, Some(key), ..) => ("key", key).hash(&mut hash),
            (_, _, Some(user), _) => ("user", user).hash(&mut hash),
            (.., address) => address.map(one_client).hash(&mut hash),
        }
        Tenant { who: hash.finish(), priority: self.priority }
    }
}

/// To whom belongs what somebody made at a provider: the same who share as one [`Tenant`], by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// All keys of a team.
    Team(Arc<str>),
    /// A key, or the subject of a token.
    Key(Arc<str>),
}

impl Owner {
    /// As it is written down.
    pub fn word(&self) -> Arc<str> {
        match self {
            Self::Team(team) => format!("team:{team}").into(),
            Self::Key(key) => format!("key:{key}").into(),
        }
    }
}

impl Caller {
    /// To whom belongs what it makes; `None` where nobody has to show who he is.
    pub fn owner(&self) -> Option<Owner> {
        self.grant.as_ref()?;
        let key = || self.key_id.clone().map(Owner::Key);
        self.team.clone().map(Owner::Team).or_else(key)
    }
}

/// The address that stands for all of one client's: IPv6 clients own whole /64 networks.
pub fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_is_one_tenant_and_so_is_a_network() {
        let of = |team: Option<&str>, key: Option<&str>, address: &str| {
            let address = address.parse().ok();
            Caller { team: team.map(Into::into), key_id: key.map(Into::into), address, ..Caller::default() }
                .tenant()
        };
        assert_eq!(of(Some("t"), Some("a"), "10.0.0.1"), of(Some("t"), Some("b"), "10.0.0.2"));
        assert_ne!(of(None, Some("a"), "10.0.0.1"), of(None, Some("b"), "10.0.0.1"));
        assert_ne!(of(Some("x"), None, ""), of(None, Some("x"), ""));
        assert_eq!(of(None, None, "2001:db8::1"), of(None, None, "2001:db8::2"));
        assert_ne!(of(None, None, "10.0.0.1"), of(None, None, "10.0.0.2"));
    }
}
