//! The time for which a budget holds: by the calendar of its zone, or the last so many hours.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How long a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday; rolling, 7 days.
    Week,
    /// A month, from its first day; rolling, 30 days.
    Month,
    /// For good.
    Total,
}

/// The time for which a budget holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Period {
    /// How long.
    pub per: Per,
    /// Whether the last so many hours count.
    pub rolling: bool,
    /// Where days begin.
    pub zone: TimeZone,
}

/// From when to when, in Unix milliseconds; the end is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub since: u64,
    /// The first moment after it.
    pub until: u64,
}

impl Per {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        }
    }
}

impl Period {
    /// The window of the calendar in which a moment falls.
    pub fn window(&self, unix_ms: u64) -> Window {
        let forever = Window { since: 0, until: u64::MAX };
        if self.per == Per::Total {
            return forever;
        }
        let moment = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let Some(now) = moment.map(|moment| moment.to_zoned(self.zone.clone())) else { return forever };
        self.calendar(&now).unwrap_or(forever)
    }

    fn calendar(&self, now: &Zoned) -> Option<Window> {
        let day = now.start_of_day().ok()?;
        let (since, span) = match self.per {
            Per::Hour => {
                // Zones may be off by half an hour: the hour of the clock on the wall counts.
                let hour = now.with().minute(0).second(0).subsec_nanosecond(0).build().ok()?;
                (hour, Span::new().hours(1))
            }
            Per::Day => (day, Span::new().days(1)),
            Per::Week => {
                let gone = i64::from(now.weekday().since(Weekday::Monday));
                (day.checked_sub(Span::new().days(gone)).ok()?.start_of_day().ok()?, Span::new().days(7))
            }
            Per::Month => (day.with().day(1).build().ok()?.start_of_day().ok()?, Span::new().months(1)),
            Per::Total => return None,
        };
        let until = since.checked_add(span).ok()?;
        // Days begin where the clock says so, also when it was changed in between.
        let until = if self.per == Per::Hour { until } else { until.start_of_day().ok()? };
        let ms = |moment: &Zoned| u64::try_from(moment.timestamp().as_millisecond()).ok();
        Some(Window { since: ms(&since)?, until: ms(&until)? })
    }

    /// For a rolling one: the length of a slot in milliseconds, and how many of them make the time. What was spent goes
    /// out of the count when its slot does, so at most one slot's length too late.
    pub fn slots(&self) -> Option<(u64, usize)> {
        let (slot, count) = match self.per {
            Per::Hour => (MINUTE, 60),
            Per::Day => (15 * MINUTE, 96),
            Per::Week => (HOUR, 168),
            Per::Month => (6 * HOUR, 120),
            Per::Total => return None,
        };
        self.rolling.then_some((slot, count))
    }

    /// What was spent before this moment says nothing now.
    pub fn memory(&self, unix_ms: u64) -> u64 {
        match self.slots() {
            Some((slot, count)) => (unix_ms / slot * slot).saturating_sub(slot * (count as u64)),
            None => self.window(unix_ms).since,
        }
    }

    /// Its length in milliseconds, roughly; `None` for good.
    pub fn length(&self) -> Option<u64> {
        match self.per {
            Per::Hour => Some(HOUR),
            Per::Day => Some(DAY),
            Per::Week => Some(7 * DAY),
            Per::Month => Some(30 * DAY),
            Per::Total => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_where_the_calendar_of_the_zone_says() {
        for (per, zone, now, since, until) in [
            (Per::Hour, "UTC", "2026-11-21T16:25:00Z", "2026-11-21T16:00:00Z", "2026-11-21T17:00:00Z"),
            (
                Per::Hour,
                "Asia/Kolkata",
                "2026-11-21T16:25:00Z",
                "2026-11-21T15:30:00Z",
                "2026-11-21T16:30:00Z",
            ),
            (
                Per::Day,
                "Europe/Berlin",
                "2026-11-21T23:30:00Z",
                "2026-11-21T23:00:00Z",
                "2026-11-22T23:00:00Z",
            ),
            // The night in which the clock goes back: 25 hours.
            (
                Per::Day,
                "Europe/Berlin",
                "2026-10-25T12:00:00Z",
                "2026-10-24T22:00:00Z",
                "2026-10-25T23:00:00Z",
            ),
            (Per::Week, "UTC", "2026-11-21T16:25:00Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            (Per::Month, "UTC", "2028-02-29T10:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ] {
            let ms = |text: &str| u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap();
            let period = Period { per, rolling: false, zone: TimeZone::get(zone).unwrap() };
            let window = period.window(ms(now));
            assert_eq!(window, Window { since: ms(since), until: ms(until) }, "{per:?} {zone} {now}");
            assert_eq!(period.window(window.since), window, "the first moment is part of it");
            assert_eq!(period.window(window.until).since, window.until, "the next begins where it ends");
        }
    }
}
