//! What the gateway keeps between requests: answers that a later request may refer to, and records of decisions.
//!
//! Everything here is bounded. Only records of decisions and the database are written to disk, and only where the
//! configuration names a place for them. What several gateways share stands in Redis.

mod answers;
mod decisions;
pub mod keystore;
mod owners;
pub mod postgres;
pub mod redis;
pub mod registry;
mod settings;
pub mod sqlite;
mod versions;

pub use answers::{Answers, Bounds, Kept, Shelf};
pub use decisions::{Decisions, Draft, chosen, files, find_in, lines};
pub use owners::{Claim, Known, Made, OWNERS_TABLES, Owners, SHARED_OWNERS, Sharing};
pub use settings::{Abandoned, DecisionSettings, OnLoss, PostgresSettings, ResponseSettings, StateSettings};
pub use versions::{Version, VersionFile, Versions};
