//! The only sockets outward: connection pools, TLS, deadlines.
mod settings;
pub use settings::UpstreamSettings;
