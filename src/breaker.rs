//! The state of targets: their health as the traffic shows it, and the breakers that leave failing ones alone.

mod alert;
mod budget;
mod gate;
mod health;
mod hints;
mod load;
mod settings;
mod spare;
mod spread;
mod state;
mod window;

pub use budget::Allowance;
pub use gate::{Admission, Gates, Look, Pass};
pub use health::{Answer, Health, ProviderReading, Reading, Readings, TICK};
pub use load::{Busy, LoadNow, Loads};
pub use settings::{AlertSettings, BreakerSettings, HealthSettings, ProbeSettings, SlowSettings};
pub use state::{Cause, Heard, Standing};
pub use window::Verdict;
