//! Where two sets of policies would have treated the same request differently.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Decision, Rule, Verdict};

/// In what two decisions differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Another target would be asked first.
    Route,
    /// One refuses what the other lets through, or refuses it otherwise.
    Denial,
    /// The same request would cost more or less.
    Cost,
    /// Other tags, parameters, constraints or limits.
    Other,
    /// The shadow failed.
    Failure,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Route, Self::Denial, Self::Cost, Self::Other, Self::Failure];

    /// The name used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Denial => "denial",
            Self::Cost => "cost",
            Self::Other => "other",
            Self::Failure => "failure",
        }
    }
}

/// What one set of policies makes of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Which rule says so: `10-route/long`; `None` where no policy had an opinion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// Where it stands: `10-route.rhai:7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Arc<str>>,
    /// The verdict, as it would stand in a policy.
    pub verdict: Arc<str>,
    /// The target that would be asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Arc<str>>,
    /// Dollars for this request there, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// Both views of one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// The `x-request-id`.
    pub request_id: Arc<str>,
    /// When the request came, in Unix milliseconds.
    pub at_ms: u64,
    /// The model that was asked for.
    pub model: Arc<str>,
    /// Hash of the shadow's texts.
    pub shadow_hash: Arc<str>,
    /// In what they differ.
    pub kinds: Vec<Kind>,
    /// What was done.
    pub live: View,
    /// What the shadow would have done.
    pub shadow: View,
    /// Why the shadow failed, with file, line and column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Arc<str>>,
}

impl View {
    /// The view of a decision; of `None`, that of a policy that failed.
    pub fn of(decision: Option<&Decision>, rule: Option<&Rule>) -> Self {
        let rule = rule.or_else(|| decision?.rule.as_ref());
        Self {
            rule: rule.map(|rule| rule.shown().into()),
            at: rule.map(|rule| rule.place().into()),
            verdict: match decision {
                None => "a policy failed".into(),
                Some(decision) => decision.verdict.as_ref().map_or_else(
                    || "none: the configuration's plan".into(),
                    |verdict| verdict.shown().into(),
                ),
            },
            target: None,
            cost_usd: None,
        }
    }

    /// For people: `10-route/long (10-route.rhai:7) → route("a/b"), a/b, $0.0012`.
    pub fn shown(&self) -> String {
        let rule = self.rule.as_deref().unwrap_or("no rule");
        let at = self.at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
        let target = self.target.as_ref().map(|target| format!(", {target}")).unwrap_or_default();
        let cost = self.cost_usd.map(|cost| format!(", ${cost:.6}")).unwrap_or_default();
        format!("{rule}{at} → {}{target}{cost}", self.verdict)
    }
}

/// Whether a decision refuses the request, and how.
pub fn refusal(decision: Option<&Decision>) -> Option<(u16, Arc<str>)> {
    match decision {
        None => Some((500, "policy_error".into())),
        Some(Decision { verdict: Some(Verdict::Reject(reject)), .. }) => {
            Some((reject.status, reject.code.clone()))
        }
        Some(_) => None,
    }
}
