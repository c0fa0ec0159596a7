//! The admin listener: health, metrics, status.
mod settings;
pub use settings::AdminSettings;
