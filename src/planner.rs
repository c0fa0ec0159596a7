//! Decision and catalogue become ordered attempts.
mod settings;
pub use settings::{ModelSettings, TargetSettings, WeightedTarget};
