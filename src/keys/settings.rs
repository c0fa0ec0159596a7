//! Settings of keys and tokens: `auth:` and `keys:`, and what the admin API takes of a key.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::caller::{Priority, Scope};
use crate::limits::Rates;
use crate::settings::{Date, Period, Rate, SecretRef};

/// How clients show who they are.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Not at all: everybody is welcome.
    #[default]
    None,
    /// By a virtual key.
    Keys,
    /// By a token (JWT) of an identity provider, or by a virtual key.
    Jwt,
}

/// Who may ask.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// What clients show.
    pub mode: AuthMode,
    /// What stored keys are hashed with, at least 32 bytes; it must not change while they are in use. Without one, a file whose name ends in `.pepper` is made beside the
    /// database. Changing it needs a restart.
    pub pepper: Option<SecretRef>,
    /// How many requests with a missing or wrong key one address may send before they are answered with 429. Requests
    /// with a good key or token are served all the same.
    pub failures: Rate,
    /// Tokens of an identity provider.
    pub jwt: Option<JwtSettings>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        let failures = Rate { count: 60, period: std::time::Duration::from_secs(60), burst: None };
        Self { mode: AuthMode::None, pepper: None, failures, jwt: None }
    }
}

/// Tokens of an identity provider: signed with RS256, ES256 or EdDSA by a key of its set.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct JwtSettings {
    /// The identity provider's public keys (JWKS): an `https://` address, which is read again and again, or a file.
    pub jwks: String,
    /// How often an address is read; sooner when a token names a key that is not known.
    #[serde(default = "ten_minutes")]
    pub refresh: Period,
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be, or have among others.
    pub audience: String,
    /// How far the clocks may be apart.
    #[serde(default = "minute")]
    pub leeway: Period,
    /// Which claims say what.
    #[serde(default)]
    pub claims: ClaimSettings,
}

/// Which claims say what. A dot leads into an object: `app_metadata.team`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimSettings {
    /// The user.
    pub user: String,
    /// The team.
    pub team: String,
    /// Models that the token may ask for, by pattern: a list, or words in a text. Without the claim, all.
    pub models: String,
    /// Providers that its requests may go to.
    pub providers: String,
    /// Limits of `rate_limits:` that hold for it by name.
    pub rate_limits: String,
    /// How important its requests are: `low`, `normal` or `high`.
    pub priority: String,
    /// Tags that its requests get, each with its claim.
    pub tags: BTreeMap<String, String>,
}

impl Default for ClaimSettings {
    fn default() -> Self {
        Self {
            user: "sub".into(),
            team: "team".into(),
            models: "tollgate.models".into(),
            providers: "tollgate.providers".into(),
            rate_limits: "tollgate.rate_limits".into(),
            priority: "tollgate.priority".into(),
            tags: BTreeMap::new(),
        }
    }
}

fn ten_minutes() -> Period {
    Period::secs(600)
}

fn minute() -> Period {
    Period::secs(60)
}

/// A virtual key: whose it is, what it may be used for, and how much.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct KeyTerms {
    /// The key itself, by reference; at least 16 bytes. Only in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// Instead of the key itself, its hash: `sha256:` and 64 hexadecimal digits. `tollgate keys generate` makes both. Only
    /// in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The user that its requests are for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Date>,
    /// Refused until it is enabled again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// What it may be used for.
    #[serde(skip_serializing_if = "Scope::is_open")]
    pub scope: Scope,
    /// Addresses that it may be used from: `10.0.0.0/8`, `192.0.2.7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
    /// How important its requests are while there is too much to do: `low`, `normal` or `high`. Clients can ask for less
    /// with `x-tollgate-priority`.
    #[serde(skip_serializing_if = "Priority::is_usual")]
    pub priority: Priority,
    /// How much it may be used.
    #[serde(skip_serializing_if = "Rates::is_empty")]
    pub limits: Rates,
    /// Limits of `rate_limits:` that hold for it by name, besides those that match it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<String>,
    /// Budgets that hold for it by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<String>,
    /// Tags that all its requests get, whatever the client says.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}
