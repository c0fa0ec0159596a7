//! Which server is asked: one of those that are written, the one to which a cluster sends us, or the primary that Sentinels
//! name.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Where to go, shared by both connections: all our keys are in one slot of a cluster, so that one server has all of them.
pub(super) struct Course {
    written: Vec<Address>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whose turn it is of those that are written.
    at: usize,
    /// Where a cluster keeps our keys.
    moved: Option<Address>,
}

impl Course {
    /// At least one address.
    pub(super) fn new(written: Vec<Address>) -> Self {
        Self { written, state: Mutex::default() }
    }

    /// Where the next connection leads.
    pub(super) fn next(&self) -> Option<Address> {
        let state = self.lock();
        let written = state.at.checked_rem(self.written.len()).and_then(|at| self.written.get(at));
        state.moved.clone().or_else(|| written.cloned())
    }

    /// Nobody helps there: the next connection leads elsewhere, if there is an elsewhere.
    pub(super) fn turn_from(&self, address: &Address) {
        let mut state = self.lock();
        if state.moved.as_ref() == Some(address) {
            state.moved = None;
        } else if state.moved.is_none() {
            state.at = state.at.wrapping_add(1);
        }
    }

    /// Follows a refusal that names who has our keys, as servers of a cluster do. Says whether it was one.
    ///
    /// `MOVED 3999 10.0.0.2:6381`; without a host where that is the one that said it:
    /// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#moved-redirection>
    pub(super) fn follow(&self, refusal: &str, said_by: &Address) -> bool {
        let Some(place) = refusal.strip_prefix("MOVED ").and_then(|rest| rest.split(' ').nth(1)) else {
            return false;
        };
        let Some((host, port)) = place.rsplit_once(':') else { return false };
        let Ok(port) = port.parse() else { return false };
        let host = if matches!(host, "" | "?") { &said_by.host } else { host.trim_matches(['[', ']']) };
        self.lock().moved = Some(Address { host: host.to_owned(), port });
        true
    }

    /// Whether the next connection leads where a cluster sent us.
    pub(super) fn is_sent_on(&self) -> bool {
        self.lock().moved.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock leaves it half done by panicking.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn where_a_cluster_sends_us_goes_before_what_is_written_until_it_fails() {
        let course = Course::new(vec![at("a", 1), at("b", 2)]);
        let next = || course.next().unwrap().to_string();
        assert_eq!(next(), "a:1");
        course.turn_from(&at("a", 1));
        assert_eq!(next(), "b:2");
        for (refusal, expected) in [
            ("MOVED 7332 10.0.0.3:7001", "10.0.0.3:7001"),
            ("MOVED 7332 node-3.example:7001", "node-3.example:7001"),
            ("MOVED 7332 fd00::7:7001", "[fd00::7]:7001"),
            ("MOVED 7332 :7002", "b:7002"),
            ("MOVED 7332 ?:7003", "b:7003"),
        ] {
            assert!(course.follow(refusal, &at("b", 2)), "{refusal}");
            assert_eq!(next(), expected, "{refusal}");
        }
        for refusal in ["MOVED", "MOVED 1", "MOVED 1 x", "MOVED 1 x:y", "ASK 7332 c:3", "READONLY You can't"]
        {
            assert!(!course.follow(refusal, &at("b", 2)), "{refusal}");
        }
        // What another connection finds of an address that is left already says nothing of this one.
        course.turn_from(&at("a", 1));
        assert_eq!(next(), "b:7003");
        course.turn_from(&at("b", 7_003));
        assert_eq!((next().as_str(), course.is_sent_on()), ("b:2", false));
        course.turn_from(&at("b", 2));
        assert_eq!(next(), "a:1");
    }
}
