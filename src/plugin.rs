//! The host of WebAssembly plugins: components of the world in `wit/`, each call in its own sandbox, with what it may
//! ask for and what it may cost.
//!
//! A [`PluginSet`] belongs to a snapshot and never changes. A plugin that is configured but cannot be loaded stays in
//! it with its reason, and its calls end as its `on_error` says: nothing is silently absent.

#![cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "nothing runs without the host"))]

mod allow_list;
mod answer;
mod ask;
mod function;
#[cfg(feature = "wasm")]
mod host;
#[cfg(not(feature = "wasm"))]
#[path = "plugin/no_host.rs"]
mod host;
mod meters;
mod outcome;
mod quarantine;
mod role;
mod series;
mod service;
mod set;
mod settings;
mod shelf;

use std::path::{Path, PathBuf};
use std::time::Instant;

pub use answer::{
    Classification, DialectFault, DialectFaultKind, Finding, Label, Manifest, Needs, Outgoing, Refusal,
    RouteDecision, RoutePlan, RouteRefusal, RouteStep, Signature, Verdict, WindowVerdict,
};
pub use ask::{
    Ask, AttemptMade, Candidate, Completion, Context, Features, Origin, Pair, Phase, Principal, Segment,
    TokenUsage, Window,
};
pub use function::Function;
pub use host::{Decoder, examine};
pub use outcome::{CallFault, Called, Consequence, Outcome};
pub use role::{GuardAction, GuardOn, GuardRole};
pub use service::{Awaited, Behalf, Courier, CourierFault, Delivery, Embedder, Errand, Services};
pub use set::{PluginHost, PluginSet, PluginSource};
pub use settings::{
    Capability, ClassifyOnError, DefaultLabel, Grant, GuardOnError, HttpGrant, Interface, Isolation, OnError,
    OnErrorEach, PlainOnError, PluginLimits, PluginSettings, Stance,
};

use host::Guest;
use meters::PluginMeters;
use quarantine::Quarantine;

/// Bytes of memory that no plugin may go beyond, whatever its settings say.
pub const MEMORY_CAP: u64 = 256 << 20;
/// The same, for the pool of memories.
#[cfg(feature = "wasm")]
const MEMORY_CAP_BYTES: usize = 256 << 20;
/// Bytes of a plugin's file.
pub const FILE_CAP: u64 = 32 << 20;

/// One plugin of a set: loaded, or absent with its reason.
pub struct Plugin {
    settings: PluginSettings,
    file: PathBuf,
    /// SHA-256 of the file, in hexadecimal; empty where there is no file.
    sha256: String,
    /// Of the file and the settings: the same identity is not loaded again.
    identity: [u8; 32],
    guest: Result<Guest, String>,
    /// Before this, what could not be loaded is not tried again.
    again: Option<Instant>,
    quarantine: Quarantine,
    meters: PluginMeters,
}

/// A plugin as it is shown to people.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Status {
    /// Its name in the configuration.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Why it is absent, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// Whether it rests because it failed too often.
    pub quarantined: bool,
    /// What could be learned of the file.
    #[serde(flatten)]
    pub loaded: Option<Loaded>,
}

/// What is known of a plugin that was loaded.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Loaded {
    /// What it says of itself.
    pub manifest: Manifest,
    /// What it can be asked through.
    pub exports: Vec<Interface>,
    /// Functions that policies may call, where it tells which.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<String>,
    /// Interfaces that it imports, without package and version.
    pub imports: Vec<String>,
    /// Size of the file in bytes.
    pub bytes: usize,
    /// Whether instances start from the memory that `init` left behind.
    pub snapshot: bool,
    /// How calls are kept apart; `pooled` also where the settings say `request` and no snapshot could be made.
    pub isolation: Isolation,
    /// What it took to load it, in milliseconds.
    pub prepared_ms: u64,
}

/// What can be seen of a file without running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The component: the file itself, or what was made of its core module.
    pub component: Vec<u8>,
    /// Whether the file is a component already.
    pub is_component: bool,
    /// Names that it imports, such as `tollgate:plugin/log@0.1.0`.
    pub imports: Vec<String>,
    /// Names that it exports.
    pub exports: Vec<String>,
}

impl Plugin {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its settings.
    pub fn settings(&self) -> &PluginSettings {
        &self.settings
    }

    /// Its file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// SHA-256 of its file, in hexadecimal; empty where there is none.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Why it cannot be asked, where it cannot.
    pub fn absent(&self) -> Option<&str> {
        self.guest.as_ref().err().map(String::as_str)
    }

    /// What is known of it, where it was loaded.
    pub fn loaded(&self) -> Option<&Loaded> {
        self.guest.as_ref().ok().map(Guest::loaded)
    }

    /// Whether it can be asked through this interface. `None`: it was not loaded, so nobody knows.
    pub fn exports(&self, interface: Interface) -> Option<bool> {
        Some(self.loaded()?.exports.contains(&interface))
    }

    /// Whether it wants text, and was granted it.
    pub fn reads_text(&self) -> bool {
        self.settings.grants(Capability::Prompt)
            && self.loaded().is_some_and(|loaded| loaded.manifest.needs.segments)
    }

    /// What follows where this interface gives no answer.
    pub fn on_error(&self, interface: Interface) -> Consequence {
        self.settings.on_error.consequence(interface)
    }

    /// Whether it rests because it failed too often.
    pub fn quarantined(&self) -> bool {
        self.quarantine.rests()
    }

    /// The plugin as it is shown to people.
    pub fn status(&self) -> Status {
        Status {
            name: self.settings.name.clone(),
            file: self.file.clone(),
            sha256: self.sha256.clone(),
            absent: self.absent().map(str::to_owned),
            quarantined: self.quarantined(),
            loaded: self.loaded().cloned(),
        }
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.settings.name).field("absent", &self.absent()).finish()
    }
}
