//! Settings of the policy engine.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use crate::settings::{Percent, Period};

/// Where policies are and what they may cost. A plain string is the directory.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySettings {
    /// Directory of `*.rhai`, run in file-name order, watched.
    pub dir: PathBuf,
    /// What follows when a policy fails while running.
    pub on_error: OnError,
    /// Operations of one evaluation.
    pub max_operations: u64,
    /// Wall-clock time of one evaluation.
    pub deadline: Period,
    /// Whether the tests beside the policies (`*_test.rhai`, `tests/*.yaml`) run at start and at every reload: a set
    /// whose tests fail is not taken.
    pub tests: Switch,
    /// Wall-clock time of all these tests together; `tollgate policy test` gives as much to each.
    pub tests_deadline: Period,
    /// Policies that are asked beside those in service, without effect, to see what they would do.
    #[serde(deserialize_with = "dir_or_all")]
    #[schemars(with = "Option<DirOr<ShadowSettings>>")]
    pub shadow: ShadowSettings,
    /// Policies that decide for a share of the callers, until they do worse than those in service.
    #[serde(deserialize_with = "dir_or_all")]
    #[schemars(with = "Option<DirOr<CandidateSettings>>")]
    pub candidate: CandidateSettings,
}

/// Policies that are asked beside those in service, on the same facts and without effect.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ShadowSettings {
    /// Directory of these policies, watched; by default `shadow` below `policies.dir`, if it is there.
    pub dir: Option<PathBuf>,
    /// Share of the requests that they are asked about.
    pub sample: Percent,
}

/// Policies that decide for a share of the callers.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct CandidateSettings {
    /// Directory of these policies, watched; by default `candidate` below `policies.dir`, if it is there.
    pub dir: Option<PathBuf>,
    /// Share of the callers for whom they decide. `POST /admin/v1/policies/promote` sets another one until files change.
    pub share: Percent,
    /// What a caller is told by, so that the same one gets the same policies every time.
    pub sticky: Sticky,
    /// When they lose their share.
    pub roll_back: RollBackSettings,
}

/// What a caller is told by.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// The key, else the user, else the session, else the address.
    #[default]
    Caller,
    /// The user; where nobody is named, as `caller`.
    User,
    /// The team; where there is none, as `caller`.
    Team,
    /// The session that the client names; where there is none, as `caller`.
    Session,
    /// Nothing: every request is drawn by itself.
    Request,
}

/// When a candidate loses its share. Both arms are compared over the same window of time.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RollBackSettings {
    /// How many more of a hundred requests may end in an error (a policy that failed, a refusal, no answer).
    pub error_rate: Percent,
    /// How much more a request may cost.
    pub cost: Percent,
    /// Nothing is concluded from fewer requests of the candidate's than these.
    #[schemars(range(min = 1))]
    pub min_requests: u64,
    /// How far back requests count.
    pub window: Period,
}

impl Default for ShadowSettings {
    fn default() -> Self {
        Self { dir: None, sample: Percent(100.0) }
    }
}

impl Default for CandidateSettings {
    fn default() -> Self {
        Self {
            dir: None,
            share: Percent(0.0),
            sticky: Sticky::default(),
            roll_back: RollBackSettings::default(),
        }
    }
}

impl Default for RollBackSettings {
    fn default() -> Self {
        Self { error_rate: Percent(2.0), cost: Percent(20.0), min_requests: 200, window: Period::secs(600) }
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// It is done.
    #[default]
    On,
    /// It is left out.
    Off,
}

/// What follows when a policy fails while running. A policy file can say otherwise for itself with
/// `const ON_ERROR = "skip";`.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The request is answered 500 `policy_error`.
    #[default]
    Deny,
    /// The policy has no opinion on this request; the next one is asked.
    Skip,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("policies"),
            on_error: OnError::Deny,
            max_operations: 200_000,
            deadline: Period::millis(20),
            tests: Switch::On,
            tests_deadline: Period::secs(2),
            shadow: ShadowSettings::default(),
            candidate: CandidateSettings::default(),
        }
    }
}

/// A directory, or a map with the directory in it.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum DirOr<T> {
    /// Directory of `*.rhai`, watched.
    Dir(PathBuf),
    /// With further settings.
    Full(T),
}

fn dir_or_all<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + From<PathBuf>,
{
    Ok(match Option::deserialize(deserializer)? {
        None => T::default(),
        Some(DirOr::Dir(dir)) => dir.into(),
        Some(DirOr::Full(settings)) => settings,
    })
}

impl From<PathBuf> for ShadowSettings {
    fn from(dir: PathBuf) -> Self {
        Self { dir: Some(dir), ..Self::default() }
    }
}

impl From<PathBuf> for CandidateSettings {
    fn from(dir: PathBuf) -> Self {
        Self { dir: Some(dir), ..Self::default() }
    }
}
