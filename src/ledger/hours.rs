//! Times of the day and the week at which other prices count, in the zone of whoever sets them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Hours of some days of the week.
#[derive(Debug, Clone, PartialEq)]
pub struct Hours {
    /// The zone in which the clock is read.
    pub zone: TimeZone,
    /// The zone in which the day of the week is read, where it is another one.
    pub days_zone: Option<TimeZone>,
    /// Monday is the lowest bit.
    pub days: u8,
    /// From (inclusive) and to (exclusive), in minutes of the day. A span that ends before it begins goes over midnight
    /// and is read on the day in which the moment falls.
    pub spans: Vec<(u16, u16)>,
}

/// Every day of the week.
pub const EVERY_DAY: u8 = 0b111_1111;

const DAY: u16 = 24 * 60;

impl Hours {
    /// Whether the moment falls into them.
    pub fn holds(&self, unix_ms: u64) -> bool {
        let Ok(moment) = Timestamp::from_millisecond(i64::try_from(unix_ms).unwrap_or(i64::MAX)) else {
            return false;
        };
        let local = moment.to_zoned(self.zone.clone());
        let weekday = match &self.days_zone {
            Some(zone) => moment.to_zoned(zone.clone()).weekday(),
            None => local.weekday(),
        };
        if self.days & (1 << weekday.to_monday_zero_offset()) == 0 {
            return false;
        }
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        self.spans.iter().any(|&(from, to)| {
            if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to }
        })
    }
}

/// `16:30-00:30` in minutes of the day. `00:00` at the end is midnight of the next day.
pub fn span(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-')?;
    let minutes = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
        (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
    };
    let (from, to) = (minutes(from)?, minutes(to)?);
    let to = if to == 0 { DAY } else { to };
    (from < DAY && from != to).then_some((from, to))
}

/// A span as [`span`] reads it.
pub fn span_text((from, to): (u16, u16)) -> String {
    let to = to % DAY;
    format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
}

/// The zone of an IANA name.
///
/// # Errors
/// What is wrong with the name.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("`{name}` is not a time zone (try \"UTC\" or \"Asia/Shanghai\")"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    #[test]
    fn hours_are_read_where_they_are_set() {
        let night = Hours {
            zone: zone("Europe/Berlin").unwrap(),
            days_zone: None,
            days: 0b001_1111,
            spans: vec![span("22:00-06:30").unwrap()],
        };
        for (moment, expected) in [
            // Winter: Berlin is an hour ahead of UTC. Summer: two.
            ("2026-01-07T20:59:00Z", false),
            ("2026-01-07T21:00:00Z", true),
            ("2026-07-08T19:59:00Z", false),
            ("2026-07-08T20:00:00Z", true),
            ("2026-07-08T04:29:59Z", true),
            ("2026-07-08T04:30:00Z", false),
            // A Saturday in Berlin, although still a Friday in UTC.
            ("2026-07-10T22:30:00Z", false),
            // The night in which clocks go forward: 02:30 is 03:30.
            ("2027-03-26T01:30:00Z", true),
        ] {
            assert_eq!(night.holds(at(moment)), expected, "{moment}");
        }
    }

    #[test]
    fn days_may_be_read_in_another_zone() {
        let hours = Hours {
            zone: TimeZone::UTC,
            days_zone: Some(zone("Asia/Shanghai").unwrap()),
            days: 0b100_0000,
            spans: vec![(0, DAY)],
        };
        assert!(hours.holds(at("2026-07-11T16:00:00Z")), "Sunday in Shanghai");
        assert!(!hours.holds(at("2026-07-12T16:00:00Z")), "Monday in Shanghai");
    }

    #[test]
    fn spans_are_read_and_written() {
        for (text, expected) in [
            ("00:00-01:00", Some((0, 60))),
            ("10:00-00:00", Some((600, DAY))),
            ("00:00-00:00", Some((0, DAY))),
            ("22:00-06:30", Some((1320, 390))),
            ("24:00-01:00", None),
            ("10:60-11:00", None),
            ("10:00-10:00", None),
            ("10", None),
        ] {
            assert_eq!(span(text), expected, "{text}");
            if let Some(read) = expected {
                assert_eq!(span_text(read), text);
            }
        }
    }
}
