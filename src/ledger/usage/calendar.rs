//! How far a zone's clock is ahead, as an expression of SQL: neither database is asked for zones of its own, so both say the
//! same.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The year 2100: nobody asks for what comes later.
const FAR_MS: i64 = 4_102_444_800_000;

/// The seconds by which `zone` is ahead of UTC at `moment`, a column of Unix milliseconds that holds none before `since_ms`
/// and none from `until_ms` on.
pub(super) fn ahead(zone: &TimeZone, since_ms: u64, until_ms: u64, moment: &str) -> String {
    let until = i64::try_from(until_ms).unwrap_or(FAR_MS).min(FAR_MS);
    let since = i64::try_from(since_ms).unwrap_or(until).min(until);
    let Ok(first) = Timestamp::from_millisecond(since) else { return "0".to_owned() };
    let mut spans = vec![(since, zone.to_offset(first).seconds())];
    for change in zone.following(first) {
        let from = change.timestamp().as_millisecond();
        if from >= until {
            break;
        }
        if spans.last().is_none_or(|(_, seconds)| *seconds != change.offset().seconds()) {
            spans.push((from, change.offset().seconds()));
        }
    }
    chosen(&spans, moment)
}

/// Halves the spans again and again, so that each row costs few comparisons.
fn chosen(spans: &[(i64, i32)], moment: &str) -> String {
    let (before, after) = spans.split_at(spans.len() / 2);
    match (before, after) {
        ([], []) => "0".to_owned(),
        ([], [(_, seconds), ..]) => seconds.to_string(),
        (before, [(from, _), ..]) => {
            let (then, later) = (chosen(before, moment), chosen(after, moment));
            format!("CASE WHEN {moment} < {from} THEN {then} ELSE {later} END")
        }
        (before, []) => chosen(before, moment),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::ledger::usage::zone;

    #[test]
    fn a_clock_is_ahead_as_its_zone_says_whatever_the_season() {
        let db = Connection::open_in_memory().unwrap();
        for (name, moment, expected) in [
            ("Europe/Berlin", "2026-03-29T00:59:59.999Z", 3_600),
            ("Europe/Berlin", "2026-03-29T01:00:00Z", 7_200),
            ("Europe/Berlin", "2026-10-25T00:59:59Z", 7_200),
            ("Europe/Berlin", "2026-10-25T01:00:00Z", 3_600),
            ("Europe/Berlin", "2071-07-01T00:00:00Z", 7_200),
            ("America/New_York", "2026-07-01T00:00:00Z", -14_400),
            ("Asia/Kolkata", "2026-07-01T00:00:00Z", 19_800),
            ("Pacific/Kiritimati", "2026-07-01T00:00:00Z", 50_400),
            ("UTC", "2026-07-01T00:00:00Z", 0),
        ] {
            let ms = moment.parse::<Timestamp>().unwrap().as_millisecond();
            let day = 86_400_000;
            let at = u64::try_from(ms).unwrap();
            for (since, until) in [(0, u64::MAX), (at - day, at + day), (at, at + 1), (at - day, at + 1)] {
                let sql = format!(
                    "SELECT {} FROM (SELECT ?1 AS at)",
                    ahead(&zone(name).unwrap(), since, until, "at")
                );
                let found: i64 = db.query_row(&sql, [ms], |row| row.get(0)).unwrap();
                assert_eq!(found, expected, "{name} {moment}, asked from {since} to {until}");
            }
        }
    }
}
