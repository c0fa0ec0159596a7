//! What the gateway keeps between requests: answers that a later request may refer to.
//!
//! Everything here lives in this process and is bounded; nothing is written to disk.

mod answers;
mod settings;

pub use answers::{Answers, Bounds, Kept, Shelf};
pub use settings::ResponseSettings;
