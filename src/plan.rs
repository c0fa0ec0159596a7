//! What policies say and what becomes of it: decision, plan, attempts, and the record of all three.

mod divergence;
mod dossier;
mod explain;
mod manner;
mod narrowing;
mod output;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

pub use divergence::{Divergence, Kind as DivergenceKind, View, refusal};
pub use dossier::{Dossier, Failure, GUARD_ANSWER, GUARD_REQUEST, Later, Limits, PluginAnswer};
pub use manner::{By, Hedge, Late, Manner, Role, Together, USUAL_SHARE};
pub use narrowing::{Excluded, Narrowing, SetBy};
pub use output::{Censor, OutputRules, Redaction, TakenOut, mark};
use serde::{Deserialize, Deserializer, Serialize};

use crate::caller::Priority;
use crate::chat::Usage;
use crate::facts::FactsRecord;
use crate::fault::{Fault, FaultKind};
use crate::money::Nano;
use crate::target::TargetName;

/// The version of [`Record`]; raised whenever a field changes its meaning or goes away.
pub const RECORD_VERSION: u32 = 1;

/// Strategies that need no settings, by which targets are put in order.
pub const STRATEGIES: [&str; 12] = [
    "priority",
    "weighted",
    "round_robin",
    "least_busy",
    "power_of_two",
    "fastest",
    "cheapest",
    "score",
    "tier",
    "sticky",
    "data_class",
    "smallest_window",
];

/// What the chain of policies decided for one request. It stands in decision records, and two of them are compared
/// when records are replayed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decision {
    /// Route or reject; `None` leaves the choice to the configuration's default plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The rule that gave the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Tags that policies put on the request, in order; the last value of a key wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// What every target must be. Only ever grows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Constraint>,
    /// What no target may be. Only ever grows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub avoid: Vec<Constraint>,
    /// Where these and the limits of the answer were set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set_by: Vec<SetBy>,
    /// How targets compared where a policy ranked them, in the order asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rankings: Vec<Ranking>,
    /// What holds of the answer, whoever gives it.
    #[serde(skip_serializing_if = "OutputRules::is_empty")]
    pub output: OutputRules,
    /// Whether the answer may be given again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheWish>,
}

/// What a policy says of giving the answer again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheWish {
    /// For so long.
    #[serde(with = "ms")]
    For(Duration),
    /// Never, whoever else says otherwise.
    Never,
}

/// How targets compared where a policy ranked them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// What they were ranked by: `cost`, `cost 0.5, errors 0.5`.
    pub by: Arc<str>,
    /// The best first, those that were left out last.
    pub candidates: Vec<Scored>,
}

/// A target's place in a ranking.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scored {
    /// `provider/model`.
    pub target: Arc<str>,
    /// The number that it was ranked by, less is better; `None` where it is unknown or was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Why it was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Arc<str>>,
}

impl PartialEq for Scored {
    /// Scores that were written down and read again may differ in their last digit.
    fn eq(&self, other: &Self) -> bool {
        let close = |(a, b): (f64, f64)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
        let same = self.score.zip(other.score).map_or(self.score.is_none() == other.score.is_none(), close);
        same && self.target == other.target && self.rejected == other.rejected
    }
}

/// A function that policies define, in the order of a request's life.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// Before anything is sent.
    #[default]
    OnRequest,
    /// An attempt failed before the client heard anything.
    OnError,
    /// An answer is about to go to the client.
    OnResponse,
    /// The last byte is out.
    OnComplete,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Default)]
pub enum Reaction {
    /// What the gateway does by itself: another try where that may help, else the next target.
    #[default]
    Usual,
    /// The next target, without another try here.
    NextTarget,
    /// Another try at the same target after this pause.
    RetryAfter(Duration),
    /// The attempt's fault goes to the client.
    Fail,
    /// This fault goes to the client.
    Refuse(Box<Fault>),
}

impl Reaction {
    /// As it is written; empty where nobody has an opinion.
    pub fn shown(&self) -> String {
        match self {
            Self::Usual => String::new(),
            Self::NextTarget => "next_target()".to_owned(),
            Self::RetryAfter(pause) => format!("retry_after({})", pause.as_millis()),
            Self::Fail => "fail()".to_owned(),
            Self::Refuse(fault) => refusal_of(fault),
        }
    }
}

/// A refusal as records have it: `reject("residency")`.
pub fn refusal_of(fault: &Fault) -> String {
    format!("reject({:?})", fault.code_str())
}

/// The policy function that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The file's name below the policies' directory, without `.rhai`.
    pub policy: Arc<str>,
    /// The function that was called.
    pub hook: Hook,
    /// The line on which the verdict stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The file in which the verdict stands, where that is not the policy's own: one below `lib/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Arc<str>>,
    /// The name that the policy gave to its verdict (`.named("…")`), if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
}

/// A policy's verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "nearly all are routes")]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Send the request along this route.
    Route(Route),
    /// Answer with this text, without asking a provider.
    Respond(Arc<str>),
    /// Refuse the request.
    Reject(Reject),
}

/// A refusal by a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// Machine-readable code for the client.
    pub code: Arc<str>,
    /// Text for the client.
    pub message: Arc<str>,
}

impl Reject {
    /// The refusal as the client sees it.
    pub fn fault(&self) -> Fault {
        Fault::new(FaultKind::Rejected, self.message.to_string())
            .status(self.status)
            .code(self.code.to_string())
    }
}

/// An ordered list of steps; each is tried when the one before failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// First choice first.
    pub steps: Vec<Step>,
    /// Places of the splits whose choices stand in the order in which they fall to the caller (`.sticky_by`): of those
    /// that may serve the request, the first one gets it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sticky: Vec<usize>,
    /// Deadline of the whole request (`.timeout`).
    #[serde(with = "as_ms", rename = "timeout_ms", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Deadline to the first content (`.first_token`), of every attempt.
    #[serde(with = "as_ms", rename = "first_token_ms", skip_serializing_if = "Option::is_none")]
    pub first_token: Option<Duration>,
    /// Tries at the same target beyond the first (`.retries`); `None` means the configuration's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Its place among those who wait (`.priority`); `None` means the caller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Words of strategies that put all targets of the steps in order (`.strategy`), instead of the order of the steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strategy: Vec<Arc<str>>,
    /// How the attempts are made (`.hedge_after`, `.standby_after`, `race`, `vote`).
    #[serde(skip_serializing_if = "Manner::is_plain")]
    pub manner: Manner,
    /// The client chose the provider itself: nothing is left out for what it cannot do.
    #[serde(skip)]
    pub pinned: bool,
    /// Parameters of the request that are changed on its way out (`.set`), by the names that policies have for them;
    /// `null` takes one away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(Arc<str>, serde_json::Value)>,
    /// The verdict's name (`.named`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
}

impl Route {
    /// The steps, with what falls to the caller of splits that are drawn by who asks, if that may serve the request.
    pub fn fallen(&self) -> Cow<'_, [Step]> {
        if self.sticky.is_empty() {
            return Cow::Borrowed(&self.steps);
        }
        let mut steps = self.steps.clone();
        for place in &self.sticky {
            steps.get_mut(*place).into_iter().for_each(|step| step.choices.truncate(1));
        }
        Cow::Owned(steps)
    }
}

/// Names of targets or aliases with weights; one of them is drawn. A weight of zero is never drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Step {
    /// Target (`provider/model`) or alias of `models:`, and its weight.
    pub choices: Vec<(Arc<str>, f64)>,
}

/// One thing that a target must or must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Has this tag.
    Tag(Arc<str>),
    /// Has this label with this value.
    Label(Arc<str>, Arc<str>),
    /// Is this provider, or this `provider/model`.
    Name(Arc<str>),
}

/// The decision record: one small, body-free, versioned account of a request. Explain, replay, the access log
/// and later the ledger and the dashboard all read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub v: u32,
    /// The `x-request-id`.
    pub request_id: Arc<str>,
    /// Content hash of the snapshot that served the request.
    pub snapshot: Arc<str>,
    /// The version of the API that was asked, where it is one of `versions:`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// The version of the model that answered (`alias@version`), where the alias has versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<Arc<str>>,
    /// What the policies saw; `None` when the request did not get that far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<FactsRecord>,
    /// Which rule decided; `None` means the default plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Which set of policies decided, where a candidate is tried: `candidate`, or nothing for the one in service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<Arc<str>>,
    /// Hash of the set of policies that decided, where that is a candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Arc<str>>,
    /// What the cache did: `hit`, `miss` or `bypass`; nothing where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cow<'static, str>>,
    /// Tags on the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// Every target that was considered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// Every attempt that was made, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRecord>,
    /// What was used, in disjoint classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What it cost, in nano-dollars; left out where something was used whose price nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Nano>,
    /// How the request ended for the client.
    pub outcome: Outcome,
}

/// A target that was considered, and why it was not taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Candidate {
    /// `provider/model`.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub target: TargetName,
    /// Its place in the plan, from 0; `None` when it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Cow<'static, str>>,
    /// The step of a strategy that gave it its place among the targets of its alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<str>>,
    /// How it scored there; less is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

impl Candidate {
    /// A target of which nothing was said yet.
    pub fn of(target: TargetName) -> Self {
        Self { target, rank: None, rejected: None, by: None, score: None }
    }
}

/// One attempt as it went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// `provider/model`.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub target: TargetName,
    /// `ok`, or the fault's word.
    pub outcome: Cow<'static, str>,
    /// HTTP status of the upstream, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// From the start of the attempt to its verdict (first content or whole answer), in milliseconds.
    pub ms: f64,
    /// Why it was made.
    #[serde(default, skip_serializing_if = "Role::is_primary")]
    pub role: Role,
    /// What it used, where its answer is one of several or went into another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What that cost, until the request's own cost is reckoned of it.
    #[serde(skip)]
    pub cost: Option<Nano>,
    /// The chaos experiment that struck it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chaos: Option<Arc<str>>,
}

/// How a request ended, as the client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A complete answer.
    Ok,
    /// An error response before any content.
    Error,
    /// The stream ended with an error event after its first content.
    Broken,
    /// The client went away.
    Cancelled,
}

impl Outcome {
    /// The name used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Broken => "broken",
            Self::Cancelled => "cancelled",
        }
    }
}

impl AttemptRecord {
    /// The record of an attempt that failed with `fault`.
    pub fn failed(target: TargetName, fault: &Fault, took: Duration) -> Self {
        Self {
            target,
            outcome: fault.word().into(),
            status: fault.status,
            ms: (took.as_secs_f64() * 1e6).round() / 1e3,
            role: Role::Primary,
            usage: None,
            cost: None,
            chaos: None,
        }
    }
}

fn as_text<S: serde::Serializer>(target: &TargetName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(target)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TargetName, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    TargetName::parse(&text).ok_or_else(|| serde::de::Error::custom("not a `provider/model`"))
}

/// A duration as whole milliseconds.
mod ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// Durations as whole milliseconds.
mod as_ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_word_of_the_fault_and_the_status_that_was_answered() {
        for (fault, outcome, status) in [
            (Fault::new(FaultKind::ServerError, "no").answered(405), "server_error", Some(405)),
            (
                Fault::new(FaultKind::Credentials, "who are you").status(401),
                "upstream_credentials",
                Some(401),
            ),
            (Fault::new(FaultKind::Credentials, "pay").status(402), "upstream_account", Some(402)),
            (Fault::new(FaultKind::Truncated, "broke off"), "upstream_truncated", None),
        ] {
            let target = TargetName { provider: "p".into(), model: "m".into() };
            let record = AttemptRecord::failed(target, &fault, Duration::ZERO);
            assert_eq!((&*record.outcome, record.status), (outcome, status), "{fault:?}");
        }
    }
}
