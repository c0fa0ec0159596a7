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

pub use check::{Base, Checked, CheckedModel, CheckedProvider, HeaderText, Hop, Vendors, check};
pub use config::{Config, Models};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use read::{Reading, read, utf8};
pub use schema::{reference_markdown, schema_json};
pub use secrets::Secrets;
pub use sources::{Paths, PolicySource, Sources, directory};
pub use watch::Watch;
