//! The straight line of a request.
mod settings;
pub use settings::{DeadlineSettings, RetrySettings, StreamSettings};
