//! Configuration as written, checked, built and watched.

pub mod check;
mod config;
mod diagnostic;
mod findings;
mod node;
mod read;
mod schema;
mod validate;

pub use check::{Base, Checked, CheckedModel, CheckedProvider, HeaderText, Hop, Vendors, check};
pub use config::{Config, Models};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use read::{Reading, read, utf8};
pub use schema::schema_json;
