//! Configuration as written, checked, built and watched.

pub mod check;
mod config;
mod diagnostic;
mod findings;
mod node;
mod read;
mod schema;
pub mod secrets;
mod sources;
mod validate;
mod watch;

/// The configuration that is used when there is no file.
pub const DEFAULT_YAML: &str = include_str!("house/default.yaml");

pub use check::{Base, Checked, CheckedModel, CheckedProvider, HeaderText, Hop, Shipped, Vendors, check};
pub use config::{Config, Models};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use read::{Reading, read, utf8};
pub use schema::{reference_markdown, schema_json};
pub use secrets::Secrets;
pub use sources::{Paths, PolicySource, Sources, directory};
pub use watch::Watch;
