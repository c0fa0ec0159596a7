//! What the gateway keeps between requests: answers that a later request may refer to, and records of decisions.
//!
//! Everything here is bounded. Only records of decisions are written to disk, and only where the configuration names a
//! directory for them.

mod answers;
mod decisions;
mod settings;
mod versions;

pub use answers::{Answers, Bounds, Kept, Shelf};
pub use decisions::{Decisions, chosen, files, find_in, lines};
pub use settings::{DecisionSettings, ResponseSettings};
pub use versions::{Version, VersionFile, Versions};
