//! Settings of the request line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::planner::Models;
use crate::settings::{Date, Period, Size};
use crate::target::Deadlines;

/// Deadlines of upstream attempts and of whole requests.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct DeadlineSettings {
    /// TCP and TLS set-up.
    pub connect: Period,
    /// From sending the request to the answer's head; providers send that of a whole answer when all of it is done.
    pub first_byte: Period,
    /// From sending the request to the first content of a stream.
    pub first_token: Period,
    /// Between two pieces of an answer.
    pub idle: Period,
    /// While another target is left that is well: from sending the request to the first content of a stream, or to the
    /// end of a whole answer; then that one is asked beside it. By default `20s`, or what `first_byte` and `first_token`
    /// are set to if that is longer, or more for a target that is known to be slow. Never more than half of what is left
    /// of the request's time.
    pub handover: Option<Period>,
    /// The whole request with all its attempts.
    pub total: Period,
    /// The fewest tokens a second that a stream may bring once its content has begun, over ten seconds in which the client
    /// waited for it; one that brings fewer is broken off as `timeout_idle`. `0` asks for none.
    pub tokens_per_second: u32,
}

impl Default for DeadlineSettings {
    fn default() -> Self {
        let d = Deadlines::default();
        Self {
            connect: Period(d.connect),
            first_byte: Period(d.first_byte),
            first_token: Period(d.first_token),
            idle: Period(d.idle),
            handover: None,
            total: Period(d.total),
            tokens_per_second: d.tokens_per_second,
        }
    }
}

impl From<&DeadlineSettings> for Deadlines {
    fn from(s: &DeadlineSettings) -> Self {
        Self {
            connect: s.connect.0,
            first_byte: s.first_byte.0,
            first_token: s.first_token.0,
            idle: s.idle.0,
            total: s.total.0,
            tokens_per_second: s.tokens_per_second,
            ..Self::default()
        }
        .handing_over(s.handover.map(|period| period.0))
    }
}

/// How streams are kept alive.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct StreamSettings {
    /// While the upstream thinks: after so long the client gets the head of its stream, and then, each time it has heard
    /// nothing for as long again, a comment (`: keepalive`; in Gemini's dialect, whose SDKs know none, an empty line).
    /// `0s` sends nothing.
    pub keepalive: Period,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self { keepalive: Period::secs(10) }
    }
}

/// How failed attempts are repeated.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// Tries at the same target beyond the first, for faults that may pass (429, 5xx, no connection).
    pub retries: u32,
    /// Attempts of one request over all its targets.
    pub max_attempts: u32,
    /// First pause; doubled with each further try at the same target, with full jitter.
    pub backoff: Period,
    /// Longest pause, also where `Retry-After` asks for more: then the next target is tried, or the 429 is passed on.
    pub max_backoff: Period,
    /// The share of a target's requests that may be repeated there, 0 to 1, so that retries never multiply an outage.
    #[schemars(range(min = 0, max = 1))]
    pub budget: f64,
    /// Repeats at a target within ten seconds that are always allowed.
    pub budget_floor: u32,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            retries: 1,
            max_attempts: 6,
            backoff: Period::millis(200),
            max_backoff: Period::secs(5),
            budget: 0.1,
            budget_floor: 10,
        }
    }
}

/// Raw requests to providers: `/passthrough/{provider}/…` and `X-Provider-Original: true`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct PassthroughSettings {
    /// Whether clients may send raw requests; a provider's own `passthrough` counts more.
    pub enabled: bool,
    /// Request headers that go on to providers besides the usual ones. Never credentials.
    pub headers: Vec<String>,
}

impl Default for PassthroughSettings {
    fn default() -> Self {
        Self { enabled: true, headers: Vec::new() }
    }
}

/// Pages in browsers that may call the gateway from an origin of their own (CORS).
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CorsSettings {
    /// Their origins, `https://app.example.com`; a `*` stands for any text (`https://*.example.com`, `http://localhost:*`),
    /// alone for every page there is. Without one, no page of another origin may read an answer.
    pub origins: Vec<String>,
    /// How long a browser may remember that a page is allowed.
    pub max_age: Period,
}

impl Default for CorsSettings {
    fn default() -> Self {
        Self { origins: Vec::new(), max_age: Period::secs(600) }
    }
}

/// Request bodies that are sent on while they arrive: audio, pictures, files, raw requests.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct UploadSettings {
    /// Bodies up to this size are held, so that another target can be tried.
    pub hold: Size,
    /// Bodies that cannot be sent on before their `model` is known are held up to this size: forms in which it stands
    /// behind the file, and raw JSON whose model says where to go.
    pub hold_forms: Size,
}

impl Default for UploadSettings {
    fn default() -> Self {
        // OpenAI takes files of 25 MB for transcription.
        Self { hold: Size(1 << 20), hold_forms: Size(26 << 20) }
    }
}

/// Conversations over a WebSocket: `/v1/realtime`.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct RealtimeSettings {
    /// The longest that a conversation may last; `deadlines.total` does not apply to it. OpenAI ends its own after an hour.
    pub max_duration: Period,
    /// How long both sides may be silent. Pings count, and most clients send some.
    pub idle: Period,
    /// Size of the largest frame, in either direction.
    pub max_frame: Size,
}

impl Default for RealtimeSettings {
    fn default() -> Self {
        // OpenAI takes events of 15 MiB.
        Self { max_duration: Period::secs(3_600), idle: Period::secs(900), max_frame: Size(16 << 20) }
    }
}

/// `/v1/files`, and what else providers keep.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct FileSettings {
    /// The provider whose files, batches and conversations are meant where the client does not say
    /// (`x-tollgate-provider`); by default the only one that keeps such things, if there is only one.
    pub provider: Option<String>,
}

/// One version of the API under `versions:`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct VersionSettings {
    /// What its paths begin with: `/v1`, `/v2`, `/acme/v1`. Below it, every endpoint is reachable with or without the
    /// `/v1` of its own: `/v2/chat/completions`, `/v2/v1/messages`, `/v2/v1beta/models/…`.
    pub prefix: String,
    /// Aliases of this version, in the form of the general `models`; they stand before those.
    #[serde(default)]
    pub models: Models,
    /// Whether clients may also ask for the general `models` and for `provider/model`. Policies and fallbacks always may.
    #[serde(default = "yes")]
    pub inherit: bool,
    /// Whether requests are strict (see the top-level `strict`); by default as it says there.
    pub strict: Option<bool>,
    /// From when on clients should no longer use it, past or future: the response header `Deprecation` (RFC 9745).
    pub deprecated: Option<Date>,
    /// From when on it may no longer answer: the response header `Sunset` (RFC 8594).
    pub sunset: Option<Date>,
    /// What happens after `sunset`: `serve` goes on, `refuse` answers 410.
    #[serde(default)]
    pub after_sunset: AfterSunset,
    /// URL of a page about the deprecation and the sunset, for the response header `Link`.
    pub link: Option<String>,
    /// The version that takes its place, for the response header `Link` (`successor-version`).
    pub successor: Option<String>,
}

fn yes() -> bool {
    true
}

/// What happens to requests after the sunset of their version.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum AfterSunset {
    /// They are answered as before.
    #[default]
    Serve,
    /// They are answered with 410.
    Refuse,
}
