//! How long an upstream asks to be left alone, in all the ways in which it may say so.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;

/// No pause longer than this is believed.
const LONGEST: f64 = 60.0;

/// The pause that response headers ask for, clamped to 0 s … 60 s. Garbage is passed over.
///
/// `retry-after` is RFC 9110 §10.2.3, `retry-after-ms` Azure's, `x-ratelimit-reset-*` OpenAI's ("1s", "6m0s", "20ms"),
/// `x-ratelimit-reset` a number of seconds, or a Unix time in seconds or milliseconds.
pub(super) fn from_headers(headers: &HeaderMap, now_ms: u64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(number).map(|ms| ms / 1000.0).filter(|s| *s > 0.0);
    let asked = text("retry-after").and_then(|value| number(value).or_else(|| until_date(value, now_ms)));
    milliseconds.or(asked).map(clamp).or_else(|| reset(headers, now_ms))
}

/// A pause in seconds, clamped.
pub(super) fn clamp(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, LONGEST))
}

/// The pause that a reset value (`x-ratelimit-reset`) means.
pub(super) fn reset_value(value: &str, now_ms: u64) -> Option<Duration> {
    let Some(number) = number(value) else {
        return humantime::parse_duration(value).ok().map(|pause| clamp(pause.as_secs_f64()));
    };
    #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit an f64")]
    let now = now_ms as f64 / 1000.0;
    Some(clamp(match number {
        n if n > 1e11 => n / 1000.0 - now,
        n if n > 1e8 => n - now,
        n => n,
    }))
}

/// The time until a limit is full again, which may be long: "6ms", "2m59.56s", seconds, a moment in RFC 3339's form.
pub(super) fn until_full(value: &str, now_ms: u64) -> Option<Duration> {
    #[allow(clippy::cast_precision_loss, reason = "a difference of milliseconds")]
    let until = || {
        let at = value.parse::<jiff::Timestamp>().ok()?.as_millisecond();
        Some((at as f64 - now_ms as f64) / 1000.0)
    };
    let seconds = number(value).or_else(|| period(value)).or_else(until)?;
    Duration::try_from_secs_f64(seconds.clamp(0.0, 86_400.0 * 31.0)).ok()
}

/// The pause that an error text mentions: "try again in 1.2s", "retry in 6m0s".
pub(super) fn from_text(text: &str) -> Option<Duration> {
    let lower = text.to_ascii_lowercase();
    let at = ["try again in ", "retry in ", "retry after "]
        .iter()
        .find_map(|words| lower.find(words).map(|at| at + words.len()))?;
    let rest = lower.get(at..)?;
    let word: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    let word = word.trim_end_matches('.');
    if let Some(pause) = period(word) {
        return Some(clamp(pause));
    }
    let unit = rest.get(word.len()..)?.trim_start();
    let factor = if unit.starts_with("millisecond") {
        0.001
    } else if unit.starts_with("second") {
        1.0
    } else if unit.starts_with("minute") {
        60.0
    } else {
        return None;
    };
    number(word).map(|n| clamp(n * factor))
}

/// "1.2s", "6m0s", "1m30.5s", "20ms" in seconds.
fn period(text: &str) -> Option<f64> {
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let n = number(rest.get(..digits)?)?;
        rest = rest.get(digits..)?;
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        seconds += n * match rest.get(..letters)? {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        rest = rest.get(letters..)?;
    }
    (!text.is_empty()).then_some(seconds)
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|n| n.is_finite())
}

#[allow(clippy::cast_precision_loss, reason = "a difference of seconds, clamped to a minute")]
fn until_date(text: &str, now_ms: u64) -> Option<f64> {
    let date = httpdate::parse_http_date(text).ok()?;
    let at = date.duration_since(UNIX_EPOCH).ok()?;
    Some(at.as_secs_f64() - now_ms as f64 / 1000.0)
}

fn reset(headers: &HeaderMap, now_ms: u64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let used_up = |kind: &str| text(&format!("x-ratelimit-remaining-{kind}")) == Some("0");
    let of = |kind: &str| {
        let value = text(&format!("x-ratelimit-reset-{kind}"))?;
        period(value).map(clamp).or_else(|| reset_value(value, now_ms))
    };
    let (requests, tokens) = (of("requests"), of("tokens"));
    match (used_up("requests"), used_up("tokens")) {
        (true, false) if requests.is_some() => requests,
        (false, true) if tokens.is_some() => tokens,
        _ => requests.max(tokens),
    }
    .or_else(|| text("x-ratelimit-reset").and_then(|value| reset_value(value, now_ms)))
    .or_else(|| text("ratelimit-reset").and_then(|value| reset_value(value, now_ms)))
    .or_else(|| anthropic(headers, now_ms))
}

/// Anthropic names a moment for each of its limits; the latest of those that are used up counts.
/// <https://platform.claude.com/docs/en/api/rate-limits>
#[allow(clippy::cast_precision_loss, reason = "a difference of seconds, clamped to a minute")]
fn anthropic(headers: &HeaderMap, now_ms: u64) -> Option<Duration> {
    let text = |name: String| headers.get(name)?.to_str().ok().map(str::trim);
    let left = |kind: &str| {
        let used_up = text(format!("anthropic-ratelimit-{kind}-remaining"))? == "0";
        let moment: jiff::Timestamp = text(format!("anthropic-ratelimit-{kind}-reset"))?.parse().ok()?;
        used_up.then(|| clamp((moment.as_millisecond() as f64 - now_ms as f64) / 1000.0))
    };
    ["requests", "tokens", "input-tokens", "output-tokens"].into_iter().filter_map(left).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z.
    const NOW: u64 = 1_767_225_600_000;

    #[test]
    fn every_way_to_ask_for_a_pause_is_understood() {
        let ms = |n| Some(Duration::from_millis(n));
        for (headers, expected) in [
            (&[("retry-after", "7")][..], ms(7_000)),
            (&[("retry-after", "0.5")], ms(500)),
            (&[("retry-after", "-3")], ms(0)),
            (&[("retry-after", "1e9")], ms(60_000)),
            (&[("retry-after", "1000000000")], ms(60_000)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "")], None),
            (&[("retry-after", "Thu, 01 Jan 2026 00:00:20 GMT")], ms(20_000)),
            (&[("retry-after", "Wed, 31 Dec 2025 23:00:00 GMT")], ms(0)),
            (&[("retry-after", "Thu, 01 Jan 2099 00:00:00 GMT")], ms(60_000)),
            (&[("retry-after", "1"), ("retry-after-ms", "0")], ms(1_000)),
            (&[("retry-after", "1"), ("retry-after-ms", "250")], ms(250)),
            (&[("x-ratelimit-reset-requests", "20ms"), ("x-ratelimit-reset-tokens", "6m0s")], ms(60_000)),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "20ms"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                ms(20),
            ),
            (&[("x-ratelimit-reset-tokens", "7.66s")], ms(7_660)),
            (
                &[
                    ("anthropic-ratelimit-requests-remaining", "12"),
                    ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:40Z"),
                    ("anthropic-ratelimit-output-tokens-remaining", "0"),
                    ("anthropic-ratelimit-output-tokens-reset", "2026-01-01T00:00:09Z"),
                ],
                ms(9_000),
            ),
            (&[("x-ratelimit-reset", "1767225610")], ms(10_000)),
            (&[("x-ratelimit-reset", "1767225610000")], ms(10_000)),
            (&[("x-ratelimit-reset", "12")], ms(12_000)),
            (&[("retry-after", "later"), ("x-ratelimit-reset", "12")], ms(12_000)),
            (&[], None),
        ] {
            let map = headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
            assert_eq!(from_headers(&map, NOW), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_pause_in_the_text_is_found() {
        for (text, expected) in [
            ("Please try again in 1.2s. Visit", Some(1.2)),
            ("Please try again in 6m0s.", Some(60.0)),
            ("Please retry in 48.9s.", Some(48.9)),
            ("Please try again in 20ms.", Some(0.02)),
            ("Please retry after 17 seconds.", Some(17.0)),
            ("Please try again in a moment", None),
            ("Slow down", None),
        ] {
            assert_eq!(from_text(text), expected.map(Duration::from_secs_f64), "{text}");
        }
    }
}
