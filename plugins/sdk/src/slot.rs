//! The place of the one plugin of a component.

use std::sync::OnceLock;

use crate::{Failure, Plugin};

/// Holds the plugin from `init` on.
#[derive(Debug)]
pub struct Slot<P>(OnceLock<P>);

impl<P: Plugin> Slot<P> {
    /// An empty place.
    #[must_use]
    pub const fn new() -> Self {
        Slot(OnceLock::new())
    }

    /// Makes the plugin from the configuration's JSON text; no text is an empty object.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn init(&self, config: &str) -> Result<(), String> {
        let plugin = make::<P>(config)?;
        self.0.set(plugin).map_err(|_| "init was called twice".to_owned())
    }

    /// The plugin.
    ///
    /// # Errors
    /// There is none before `init`.
    pub fn plugin(&self) -> Result<&P, Failure> {
        self.0.get().ok_or_else(|| Failure::Internal("called before init".to_owned()))
    }
}

impl<P: Plugin> Default for Slot<P> {
    fn default() -> Self {
        Slot::new()
    }
}

/// A plugin of its configuration's JSON text.
pub(crate) fn make<P: Plugin>(config: &str) -> Result<P, String> {
    let text = match config.trim() {
        "" | "null" => "{}",
        text => text,
    };
    let config = serde_json::from_str(text).map_err(|error| format!("config: {error}"))?;
    P::new(config)
}
