//! How often an address may fail.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::cell::{Pace, since};
use super::rules::whose;
use super::table::Table;
use crate::settings::Rate;

/// Failures by address.
pub struct Penalty {
    origin: Instant,
    table: Table,
}

impl Penalty {
    /// Nobody has failed yet.
    pub fn new(now: Instant) -> Self {
        Self { origin: now, table: Table::default() }
    }

    /// Counts a failure.
    ///
    /// # Errors
    /// How long to wait, when there were too many.
    pub fn count(&self, rate: Rate, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let now = since(self.origin, now);
        self.table.cell(&[&name(address)], now).take(Pace::of(rate), 1, now)
    }

    /// Whether the next failure would be one too many.
    pub fn is_spent(&self, rate: Rate, address: Option<IpAddr>, now: Instant) -> bool {
        let now = since(self.origin, now);
        self.table.cell(&[&name(address)], now).would_take(Pace::of(rate), 1, now).is_err()
    }
}

fn name(address: Option<IpAddr>) -> String {
    address.map_or_else(String::new, |address| whose(address).to_string())
}
