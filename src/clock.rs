//! Injectable time and dice, so that deadlines, weights and identifiers are tested without sleeping or luck.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;

/// Wall-clock time. Monotonic time comes from `tokio::time`, which tests pause.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn unix_ms(&self) -> u64;
}

/// The machine's own clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place where wall-clock time enters the house")]
    fn unix_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands where a test puts it.
#[derive(Debug, Default)]
pub struct FixedClock(pub u64);

impl Clock for FixedClock {
    fn unix_ms(&self) -> u64 {
        self.0
    }
}

/// A source of randomness that can be seeded. Cheap: one uncontended lock on a worker's own dice.
#[derive(Debug)]
pub struct Dice(Mutex<fastrand::Rng>);

impl Dice {
    /// Dice seeded by the operating system.
    pub fn fair() -> Self {
        Self(Mutex::new(fastrand::Rng::new()))
    }

    /// Dice that fall the same way in every run.
    pub fn loaded(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// Dice that fall the same way for the same text: what they decide about a request makes no difference then.
    pub fn of(text: &str) -> Self {
        let hash = blake3::hash(text.as_bytes());
        Self::loaded(hash.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&self) -> f64 {
        self.roll(fastrand::Rng::f64)
    }

    /// 128 random bits.
    pub fn bits(&self) -> u128 {
        self.roll(|rng| rng.u128(..))
    }

    fn roll<T>(&self, f: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        // A poisoned lock only means that another holder panicked between two rolls; dice have no state to lose.
        f(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Unix seconds of a time in RFC 3339's form with any offset; 0 for what is none, or before 1970.
pub fn unix_seconds(text: &str) -> u64 {
    text.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_second()).ok()).unwrap_or(0)
}

/// A moment as people write it, in Unix milliseconds: so long ago (`24h`), or a time in RFC 3339's form or a date.
///
/// # Errors
/// When it is neither.
pub fn moment(text: &str, now_ms: u64) -> Result<u64, String> {
    moment_in(&TimeZone::UTC, text, now_ms)
}

/// The same; a date is the beginning of that day in this zone.
///
/// # Errors
/// As above.
pub fn moment_in(zone: &TimeZone, text: &str, now_ms: u64) -> Result<u64, String> {
    if let Ok(ago) = text.parse::<crate::settings::Period>() {
        return Ok(now_ms.saturating_sub(u64::try_from(ago.0.as_millis()).unwrap_or(u64::MAX)));
    }
    let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(zone.clone()).ok();
    let midnight = if text.contains(['T', 't']) { None } else { date() };
    if let Some(ms) = midnight.and_then(|day| u64::try_from(day.timestamp().as_millisecond()).ok()) {
        return Ok(ms);
    }
    match text.parse::<crate::settings::Date>() {
        Ok(date) => Ok(date.unix() * 1_000),
        Err(_) => {
            Err(format!("`{text}` is neither a duration (\"24h\") nor a time (\"2026-11-01T12:00:00Z\")"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_so_long_ago() {
        assert_eq!(moment("1m", 100_000), Ok(40_000));
        assert_eq!(moment("1970-01-02", 0), Ok(86_400_000));
        let new_york = TimeZone::get("America/New_York").unwrap();
        assert_eq!(moment_in(&new_york, "1970-01-02", 0), Ok(86_400_000 + 5 * 3_600_000));
        assert_eq!(moment_in(&new_york, "1970-01-02T00:00:00Z", 0), Ok(86_400_000));
        assert_eq!(moment_in(&new_york, "1m", 100_000), Ok(40_000));
        assert!(moment("yesterday", 0).is_err());
    }

    #[test]
    fn loaded_dice_repeat_themselves() {
        let (a, b) = (Dice::loaded(7), Dice::loaded(7));
        assert_eq!((a.bits(), a.unit()), (b.bits(), b.unit()));
    }
}
