//! The host of native tests: it remembers what it was asked for, one for each thread.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::bindings::imports::tollgate::plugin::{http, log};

/// A line that was logged.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// How important.
    pub level: log::Level,
    /// What it says.
    pub message: String,
}

/// A number that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// The metric's name.
    pub name: String,
    /// Its labels, as given.
    pub labels: Vec<(String, String)>,
    /// What was added or observed.
    pub value: f64,
}

/// Answers a plugin's request outward.
pub type Respond = fn(&http::Request) -> Result<http::Response, http::HttpError>;

/// What this thread's host remembers and answers.
#[derive(Debug, Default)]
pub struct Host {
    /// Lines logged.
    pub lines: Vec<Line>,
    /// Numbers measured.
    pub measures: Vec<Measure>,
    /// What [`crate::state`] holds; it does not forget by itself.
    pub state: BTreeMap<String, Vec<u8>>,
    /// What [`crate::clock`] says, in milliseconds.
    pub unix_ms: u64,
    /// What [`crate::random`] says next: a count.
    pub dice: u64,
    /// What [`crate::ai::embed`] says of a text; nothing is a failure.
    pub embed: Option<fn(&str) -> Vec<f32>>,
    /// What [`crate::http::send`] answers; nothing is a host that is not allowed.
    pub respond: Option<Respond>,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

impl Host {
    /// Looks at this thread's host, or changes it.
    pub fn with<T>(act: impl FnOnce(&mut Host) -> T) -> T {
        HOST.with_borrow_mut(act)
    }

    /// Takes everything, and leaves a new host.
    #[must_use]
    pub fn take() -> Host {
        HOST.take()
    }
}

/// The functions of the host, as the bindings name them.
#[doc(hidden)]
pub mod imports {
    use super::{Host, Line, Measure};

    pub mod log {
        use super::{Host, Line};
        use crate::log::Level;

        pub fn enabled(_: Level) -> bool {
            true
        }
        pub fn log(level: Level, message: &str) {
            Host::with(|host| host.lines.push(Line { level, message: message.to_owned() }));
        }
    }

    pub mod state {
        use super::Host;
        use crate::state::StateError;

        pub fn get(key: &str) -> Result<Option<Vec<u8>>, StateError> {
            Ok(Host::with(|host| host.state.get(key).cloned()))
        }
        pub fn set(key: &str, value: &[u8], _: Option<u64>) -> Result<(), StateError> {
            Host::with(|host| host.state.insert(key.to_owned(), value.to_vec()));
            Ok(())
        }
        pub fn delete(key: &str) -> Result<(), StateError> {
            Host::with(|host| host.state.remove(key));
            Ok(())
        }
        pub fn increment(key: &str, by: i64, _: Option<u64>) -> Result<i64, StateError> {
            Host::with(|host| {
                let entry = host.state.entry(key.to_owned()).or_default();
                let before =
                    std::str::from_utf8(entry).ok().and_then(|text| text.parse().ok()).unwrap_or(0_i64);
                let after = before.saturating_add(by);
                *entry = after.to_string().into_bytes();
                Ok(after)
            })
        }
    }

    pub mod clock {
        use super::Host;

        pub fn unix_ms() -> u64 {
            Host::with(|host| host.unix_ms)
        }
        pub fn monotonic_ns() -> u64 {
            Host::with(|host| host.unix_ms.saturating_mul(1_000_000))
        }
    }

    pub mod random {
        use super::Host;

        pub fn get_u64() -> u64 {
            Host::with(|host| {
                host.dice = host.dice.wrapping_add(1);
                host.dice.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            })
        }
    }

    pub mod metrics {
        use super::{Host, Measure};

        pub fn add(name: &str, labels: &[(String, String)], by: f64) {
            let measure = Measure { name: name.to_owned(), labels: labels.to_vec(), value: by };
            Host::with(|host| host.measures.push(measure));
        }
        pub fn observe(name: &str, labels: &[(String, String)], value: f64) {
            add(name, labels, value);
        }
    }

    pub mod ai {
        use super::Host;
        use crate::Failure;

        pub fn count_tokens(_: &str, text: &str) -> Result<u32, Failure> {
            Ok(u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX))
        }
        pub fn embed(texts: &[String]) -> Result<Vec<Vec<f32>>, Failure> {
            match Host::with(|host| host.embed) {
                Some(embed) => Ok(texts.iter().map(|text| embed(text)).collect()),
                None => Err(Failure::Unavailable("no embedding model is configured".to_owned())),
            }
        }
    }

    pub mod http {
        use super::Host;
        use crate::http::{HttpError, Request, Response};

        pub fn send(request: &Request) -> Result<Response, HttpError> {
            match Host::with(|host| host.respond) {
                Some(respond) => respond(request),
                None => Err(HttpError::NotAllowed(request.url.clone())),
            }
        }
    }
}
