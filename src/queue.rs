//! Who may be at a target at once, and who waits for it: one lane per target, for all workers.
//!
//! Whoever finds room goes straight in, for the price of an atomic count. Whoever does not may wait in the lane's line:
//! bounded in number, by priority, fair between tenants, and never longer than there is time.

mod adapt;
mod fair;
mod lane;
mod lanes;
mod ranks;
mod settings;

pub use lane::{Berth, Lane, LaneLook, PushedOut, Refused, Ticket};
pub use lanes::{LaneTerms, Lanes};
pub use settings::QueueSettings;
