//! Capacity that is paid for already: so many tokens of each period cost nothing more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit as Span, ZonedRound};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a period lasts, by the calendar of its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day, from midnight.
    Day,
    /// A month, from its first day.
    Month,
}

/// Tokens of which each period has so many.
#[derive(Debug)]
pub struct Reserved {
    /// Tokens of one period.
    pub tokens: u64,
    /// The period.
    pub every: Every,
    /// Where its days begin.
    pub zone: TimeZone,
    taken: Mutex<Taken>,
    /// Whether what was taken before is counted.
    recalled: AtomicBool,
}

#[derive(Debug, Default)]
struct Taken {
    /// Unix seconds at which the period began.
    since: i64,
    tokens: u64,
}

impl PartialEq for Reserved {
    /// Whether both were agreed on the same terms.
    fn eq(&self, other: &Self) -> bool {
        self.tokens == other.tokens && self.every == other.every && self.zone == other.zone
    }
}

impl Reserved {
    /// Capacity of which nothing is taken yet.
    pub fn new(tokens: u64, every: Every, zone: TimeZone) -> Self {
        Self { tokens, every, zone, taken: Mutex::default(), recalled: AtomicBool::new(false) }
    }

    /// Takes up to `wanted` tokens out of the period in which the moment falls, and says how many there were. A moment
    /// before the period in use is one of that period: a clock that goes back gives nothing twice.
    pub fn take(&self, wanted: u64, unix_ms: u64) -> u64 {
        let mut taken = self.current(unix_ms);
        let given = wanted.min(self.tokens.saturating_sub(taken.tokens));
        taken.tokens = taken.tokens.saturating_add(given);
        given
    }

    /// Tokens that are left in the period in which the moment falls.
    pub fn left(&self, unix_ms: u64) -> u64 {
        self.tokens.saturating_sub(self.current(unix_ms).tokens)
    }

    /// When the period began in which the moment falls, both in Unix milliseconds.
    pub fn since_ms(&self, unix_ms: u64) -> u64 {
        u64::try_from(self.began(unix_ms)).unwrap_or(0).saturating_mul(1_000)
    }

    /// Counts what was taken, before anybody counted here, of the period that began at `since_ms`.
    pub fn recall(&self, tokens: u64, since_ms: u64) {
        let mut taken = self.current(since_ms);
        if u64::try_from(taken.since).is_ok_and(|since| since * 1_000 == since_ms) {
            taken.tokens = taken.tokens.saturating_add(tokens);
        }
    }

    /// Nothing was taken that is not counted.
    pub fn is_recalled(&self) -> bool {
        self.recalled.load(Ordering::Relaxed)
    }

    /// From now on, nothing that was taken is not counted.
    pub fn recalled(&self) {
        self.recalled.store(true, Ordering::Relaxed);
    }

    fn current(&self, unix_ms: u64) -> std::sync::MutexGuard<'_, Taken> {
        let since = self.began(unix_ms);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if since > taken.since {
            *taken = Taken { since, tokens: 0 };
        }
        taken
    }

    fn began(&self, unix_ms: u64) -> i64 {
        let moment =
            Timestamp::from_millisecond(i64::try_from(unix_ms).unwrap_or(i64::MAX)).unwrap_or_default();
        let local = moment.to_zoned(self.zone.clone());
        let floor = |unit| local.round(ZonedRound::new().smallest(unit).mode(jiff::RoundMode::Trunc));
        let began = match self.every {
            Every::Minute => floor(Span::Minute),
            Every::Hour => floor(Span::Hour),
            Every::Day => local.start_of_day(),
            Every::Month => local.first_of_month().and_then(|first| first.start_of_day()),
        };
        began.map_or(0, |began| began.timestamp().as_second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    #[test]
    fn each_period_has_its_own() {
        let zone = TimeZone::get("America/New_York").unwrap();
        for (every, inside, after) in [
            (Every::Minute, "2026-07-01T12:00:59Z", "2026-07-01T12:01:00Z"),
            (Every::Hour, "2026-07-01T12:59:59Z", "2026-07-01T13:00:00Z"),
            (Every::Day, "2026-07-02T03:59:59Z", "2026-07-02T04:00:00Z"),
            (Every::Month, "2026-08-01T03:59:59Z", "2026-08-01T04:00:00Z"),
        ] {
            let reserved = Reserved::new(100, every, zone.clone());
            let start = at("2026-07-01T12:00:00Z");
            assert_eq!(reserved.take(70, start), 70, "{every:?}");
            assert_eq!(reserved.take(70, at(inside)), 30, "{every:?}");
            assert_eq!(reserved.left(at(inside)), 0, "{every:?}");
            assert_eq!(reserved.left(at(after)), 100, "{every:?}");
            assert_eq!(reserved.take(10, start), 10, "{every:?}: a clock that goes back");
            assert_eq!(reserved.left(at(after)), 90, "{every:?}");
        }
    }

    #[test]
    fn what_was_taken_before_counts_in_its_period_only() {
        let reserved = Reserved::new(100, Every::Day, TimeZone::get("America/New_York").unwrap());
        let (today, tomorrow) = (at("2026-07-01T12:00:00Z"), at("2026-07-02T12:00:00Z"));
        let since = reserved.since_ms(today);
        assert_eq!(since, at("2026-07-01T04:00:00Z"));
        assert_eq!(reserved.take(10, today), 10);
        reserved.recall(70, since);
        assert_eq!(reserved.left(today), 20);
        reserved.recall(70, since);
        assert_eq!(reserved.left(today), 0, "more may have been used than was reserved");
        assert_eq!(reserved.left(tomorrow), 100);
        reserved.recall(70, since);
        assert_eq!(reserved.left(tomorrow), 100, "yesterday is over");
    }
}
