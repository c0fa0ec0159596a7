//! What a plugin may ask the gateway for. In native tests [`crate::testing::Host`] answers.

#[cfg(target_arch = "wasm32")]
use crate::bindings::imports::tollgate::plugin as wasm;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::imports as wasm;

/// Lines in the gateway's log, with the plugin's name. Granted to every plugin; limited in number and length.
pub mod log {
    use std::fmt::Display;

    use super::wasm::log as host;
    pub use crate::bindings::imports::tollgate::plugin::log::Level;

    /// Whether a line of this level would be written.
    #[must_use]
    pub fn enabled(level: Level) -> bool {
        host::enabled(level)
    }

    /// Writes a line; the message is made only if it will be written.
    pub fn write(level: Level, message: impl Display) {
        if enabled(level) {
            host::log(level, &message.to_string());
        }
    }

    /// A step that interests only whoever looks for a fault.
    pub fn debug(message: impl Display) {
        write(Level::Debug, message);
    }

    /// An event worth a line.
    pub fn info(message: impl Display) {
        write(Level::Info, message);
    }

    /// Something that should not be, and that was got over.
    pub fn warn(message: impl Display) {
        write(Level::Warn, message);
    }

    /// Something that failed.
    pub fn error(message: impl Display) {
        write(Level::Error, message);
    }
}

/// A small shared store of the plugin's own. Wants the grant `state`.
pub mod state {
    use super::wasm::state as host;
    pub use crate::bindings::imports::tollgate::plugin::state::StateError;

    /// The value of a key.
    ///
    /// # Errors
    /// The store is away.
    pub fn get(key: &str) -> Result<Option<Vec<u8>>, StateError> {
        host::get(key)
    }

    /// Keeps a value, for so many milliseconds.
    ///
    /// # Errors
    /// The value is too large, the plugin has no room left, or the store is away.
    pub fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), StateError> {
        host::set(key, value, ttl_ms)
    }

    /// Forgets a key.
    ///
    /// # Errors
    /// The store is away.
    pub fn delete(key: &str) -> Result<(), StateError> {
        host::delete(key)
    }

    /// Adds to a counter in one step and says what it became.
    ///
    /// # Errors
    /// The plugin has no room left, or the store is away.
    pub fn increment(key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, StateError> {
        host::increment(key, by, ttl_ms)
    }
}

/// Time. Wants the grant `clock`.
pub mod clock {
    use super::wasm::clock as host;

    /// Milliseconds since 1970.
    #[must_use]
    pub fn unix_ms() -> u64 {
        host::unix_ms()
    }

    /// Nanoseconds since some moment.
    #[must_use]
    pub fn monotonic_ns() -> u64 {
        host::monotonic_ns()
    }
}

/// Dice. Wants the grant `random`.
pub mod random {
    use super::wasm::random as host;

    /// A random number.
    #[must_use]
    pub fn u64() -> u64 {
        host::get_u64()
    }

    /// A random number from 0 up to, but without, 1.
    #[must_use]
    pub fn unit() -> f64 {
        (u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Numbers at `/metrics`, as `tollgate_plugin_<name>{plugin="…"}`. Wants the grant `metrics`.
pub mod metrics {
    use super::wasm::metrics as host;

    /// Adds to a counter.
    pub fn add(name: &str, labels: &[(&str, &str)], by: f64) {
        host::add(name, &owned(labels), by);
    }

    /// Notes one observation of a distribution.
    pub fn observe(name: &str, labels: &[(&str, &str)], value: f64) {
        host::observe(name, &owned(labels), value);
    }

    fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

/// Help from models. Wants the grant `ai`.
pub mod ai {
    use super::wasm::ai as host;
    use crate::Failure;

    /// How many tokens this model makes of a text.
    ///
    /// # Errors
    /// The model is not known.
    pub fn count_tokens(model: &str, text: &str) -> Result<u32, Failure> {
        host::count_tokens(model, text)
    }

    /// One vector per text, from the gateway's embedding model.
    ///
    /// # Errors
    /// There is no such model, or it is away.
    pub fn embed(texts: &[String]) -> Result<Vec<Vec<f32>>, Failure> {
        host::embed(texts)
    }
}

/// Requests to the hosts that the configuration allows: `grants: { http: [api.example.com] }`.
pub mod http {
    use super::wasm::http as host;
    pub use crate::bindings::imports::tollgate::plugin::http::{HttpError, Request, Response};

    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    /// The host is not allowed, does not answer in time or at all, or says too much.
    pub fn send(request: &Request) -> Result<Response, HttpError> {
        host::send(request)
    }
}
