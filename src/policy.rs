//! Rhai policies: compiled at load, run in file-name order, facts in, decision out.
mod settings;
pub use settings::{OnError, PolicySettings};
