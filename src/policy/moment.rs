//! The time of a request in a time zone.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use rhai::ImmutableString;

use super::request::{Outcome, fault};

/// A time that `now(…)` gave.
#[derive(Debug, Clone)]
pub(super) struct Moment(Zoned);

impl Moment {
    /// This moment, in Unix milliseconds, in this zone.
    pub(super) fn of(unix_ms: u64, name: &str) -> Outcome<Self> {
        let zone = zone(name).map_err(fault)?;
        let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
        Ok(Self(Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX).to_zoned(zone)))
    }

    pub(super) fn hour(&mut self) -> i64 {
        self.0.hour().into()
    }

    pub(super) fn minute(&mut self) -> i64 {
        self.0.minute().into()
    }

    pub(super) fn day(&mut self) -> i64 {
        self.0.day().into()
    }

    pub(super) fn month(&mut self) -> i64 {
        self.0.month().into()
    }

    pub(super) fn year(&mut self) -> i64 {
        self.0.year().into()
    }

    pub(super) fn date(&mut self) -> ImmutableString {
        self.0.date().to_string().into()
    }

    pub(super) fn unix(&mut self) -> i64 {
        self.0.timestamp().as_second()
    }

    pub(super) fn weekday(&mut self) -> &'static str {
        match self.0.weekday() {
            Weekday::Monday => "monday",
            Weekday::Tuesday => "tuesday",
            Weekday::Wednesday => "wednesday",
            Weekday::Thursday => "thursday",
            Weekday::Friday => "friday",
            Weekday::Saturday => "saturday",
            Weekday::Sunday => "sunday",
        }
    }

    pub(super) fn is_weekend(&mut self) -> bool {
        matches!(self.0.weekday(), Weekday::Saturday | Weekday::Sunday)
    }

    /// From `from` on and before `to`, past midnight where `to` is the earlier one.
    pub(super) fn between(&mut self, from: &str, to: &str) -> Outcome<bool> {
        let read = |text: &str| clock(text).ok_or_else(|| fault(not_a_time(text)));
        let (from, to, now) = (read(from)?, read(to)?, self.0.time());
        Ok(if from <= to { from <= now && now < to } else { from <= now || now < to })
    }
}

/// The zone of this name, or why there is none.
pub(super) fn zone(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name)
        .map_err(|_| format!("now: there is no time zone `{name}` (try \"Europe/Paris\" or \"UTC\")"))
}

/// `"22:00"`.
pub(super) fn clock(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |digits: &str| (digits.len() == 2).then(|| digits.parse::<i8>().ok()).flatten();
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

pub(super) fn not_a_time(text: &str) -> String {
    format!("between: '{text}' is not a time of day (try \"22:00\")")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_of_its_place() {
        // 2025-06-20T22:30:00Z, a Friday.
        let mut paris = Moment::of(1_750_458_600_000, "Europe/Paris").unwrap();
        assert_eq!((paris.hour(), paris.minute(), paris.weekday()), (0, 30, "saturday"));
        assert_eq!((&*paris.date(), paris.is_weekend(), paris.unix()), ("2025-06-21", true, 1_750_458_600));
        assert_eq!((paris.year(), paris.month(), paris.day()), (2025, 6, 21));
        let mut utc = Moment::of(1_750_458_600_000, "UTC").unwrap();
        assert_eq!((utc.hour(), utc.weekday(), utc.is_weekend()), (22, "friday", false));
        assert!(Moment::of(0, "Europe/Pairs").unwrap_err().to_string().contains("`Europe/Pairs`"));
    }

    #[test]
    fn hours_may_go_past_midnight() {
        let mut time = Moment::of(1_750_458_600_000, "UTC").unwrap();
        for (from, to, within) in [
            ("22:00", "06:00", true),
            ("22:30", "22:31", true),
            ("22:00", "22:30", false),
            ("23:00", "06:00", false),
            ("09:00", "17:00", false),
            ("00:00", "23:59", true),
        ] {
            assert_eq!(time.between(from, to).unwrap(), within, "{from} to {to}");
        }
        for wrong in ["24:00", "9:00", "09:60", "nine", "09:00:00", "-1:00"] {
            assert!(time.between(wrong, "10:00").is_err(), "{wrong}");
        }
    }
}
