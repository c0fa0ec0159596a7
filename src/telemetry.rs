//! Every metric, log line and event name.
mod settings;
pub use settings::LogSettings;
