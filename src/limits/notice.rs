//! How limits stand, as clients are told: `RateLimit-Policy` and `RateLimit`, and OpenAI's `x-ratelimit-*`.
//!
//! <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>,
//! <https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers>

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::What;
use super::cell::Level;
use super::rules::{Bound, Meter};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// OpenAI's, for each of its two limits.
static OF_REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
static OF_TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// How limits stand at one moment.
#[derive(Debug, Clone, Default)]
pub struct Notice(Vec<Line>);

#[derive(Debug, Clone)]
struct Line {
    limit: Arc<str>,
    what: What,
    quota: u64,
    /// Of the period, in seconds; 0 for requests at once.
    window: u64,
    period: &'static str,
    level: Level,
}

/// One of OpenAI's two limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenAiLimit {
    /// In a period.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
}

impl Notice {
    pub(super) fn of<'m>(meters: impl Iterator<Item = &'m Meter>, now: u64) -> Self {
        let line = |meter: &Meter| {
            let (quota, window, period, level) = match meter.bound {
                Bound::Rate(rate, pace) => {
                    (pace.capacity(), rate.period.as_secs(), rate.period_name(), meter.cell.level(pace, now))
                }
                Bound::AtOnce(most) => {
                    let remaining = most.saturating_sub(meter.cell.inside());
                    (most, 0, "", Level { remaining, reset: Duration::ZERO })
                }
            };
            Line { limit: meter.limit.clone(), what: meter.what, quota, window, period, level }
        };
        Self(meters.map(line).collect())
    }

    /// Adds the headers that say so.
    pub fn tell(&self, headers: &mut HeaderMap) {
        // Of one line, as most have.
        let (mut policy, mut standing) = (String::with_capacity(64), String::with_capacity(64));
        for line in &self.0 {
            let comma = if policy.is_empty() { "" } else { ", " };
            let Line { limit, what, quota, level, .. } = line;
            // Names of the configuration are checked to be plain.
            for text in [&mut policy, &mut standing] {
                text.extend([comma, "\"", limit, ":", what.as_str()]);
                if line.window > 0 {
                    text.extend(["/", line.period]);
                }
                text.push('"');
            }
            push(&mut policy, ";q=", *quota);
            policy.extend([";qu=\"", what.as_str(), "\""]);
            push(&mut standing, ";r=", level.remaining);
            if line.window > 0 {
                push(&mut policy, ";w=", line.window);
                push(&mut standing, ";t=", seconds(level.reset));
            }
        }
        for (name, text) in [(POLICY, policy), (LIMIT, standing)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
        for (names, limit) in [(&OF_REQUESTS, self.requests()), (&OF_TOKENS, self.tokens())] {
            let Some(limit) = limit else { continue };
            let [most, remaining, reset] = names;
            headers.insert(most, limit.limit.into());
            headers.insert(remaining, limit.remaining.into());
            if let Ok(value) = HeaderValue::try_from(go_duration(limit.reset)) {
                headers.insert(reset, value);
            }
        }
    }

    /// The limit of requests in a period that is closest to its end.
    pub fn requests(&self) -> Option<OpenAiLimit> {
        self.tightest(|what| what == What::Requests)
    }

    /// The limit of tokens in a period that is closest to its end.
    pub fn tokens(&self) -> Option<OpenAiLimit> {
        self.tightest(|what| matches!(what, What::Tokens | What::InputTokens | What::OutputTokens))
    }

    fn tightest(&self, counts: impl Fn(What) -> bool) -> Option<OpenAiLimit> {
        let left = |line: &&Line| line.level.remaining.saturating_mul(1_000_000) / line.quota.max(1);
        let line = self.0.iter().filter(|line| counts(line.what)).min_by_key(left)?;
        Some(OpenAiLimit { limit: line.quota, remaining: line.level.remaining, reset: line.level.reset })
    }
}

/// A field with a whole number.
fn push(text: &mut String, field: &str, number: u64) {
    text.push_str(field);
    // Writing to a string cannot fail.
    let _ = write!(text, "{number}");
}

/// Rounded up: a client that comes back a little late is served, one that comes early is not.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// As OpenAI writes durations: `17ms`, `1.5s`, `6m0s`, `1h2m3s`.
fn go_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    let (secs, ms) = (ms / 1_000, ms % 1_000);
    let (hours, minutes, secs) = (secs / 3_600, secs / 60 % 60, secs % 60);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}").trim_end_matches('0').to_owned() };
    let _ = write!(text, "{secs}{fraction}s");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_does() {
        for (ms, text) in [
            (0, "0ms"),
            (17, "17ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (360_000, "6m0s"),
            (3_723_004, "1h2m3.004s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(ms)), text);
        }
    }
}
