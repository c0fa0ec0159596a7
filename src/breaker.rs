//! The state of targets: their health as the traffic shows it. Breakers and active probes will live here too.

mod alert;
mod health;
mod load;
mod settings;
mod spare;
mod spread;
mod window;

pub use health::{Answer, Health, ProviderReading, Reading, Readings, TICK};
pub use load::{Busy, LoadNow, Loads};
pub use settings::{AlertSettings, HealthSettings};
pub use window::Verdict;
