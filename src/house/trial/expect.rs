//! What a case of a table expects of the whole chain and of the plan that follows from it.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::facts::Told;

/// One case as written: a request, and what becomes of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// What the case is about, in a few words.
    pub name: Option<String>,
    /// The request.
    pub request: Option<Told>,
    /// What must come of it: everything that is written here, nothing else.
    pub expect: Option<Expect>,
}

/// What must come of a request.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    /// What kind of verdict the policies give.
    pub verdict: Option<VerdictKind>,
    /// The names that the policy gave, first choice first: `cheap`, or `[strong, cheap]`.
    pub route: Option<Names>,
    /// The first of these names.
    pub first: Option<String>,
    /// The targets of the plan in their order, aliases expanded and constraints applied.
    pub targets: Option<Names>,
    /// Targets that must not be in the plan.
    pub never: Option<Names>,
    /// The refusal that the client gets.
    pub reject: Option<Refusal>,
    /// The text that a policy answers with itself.
    pub respond: Option<String>,
    /// The rule that decides: `10-tiers`, `10-tiers/strong`, or with its line `10-tiers:21`.
    pub rule: Option<String>,
    /// Tags that the request has then; `null` for those that it has not.
    pub tags: Map<String, Value>,
    /// Constraints that hold then: `private`, `region=eu`.
    pub require: Option<Names>,
    /// What is avoided then.
    pub avoid: Option<Names>,
    /// A part of the reason: of the refusal's message, or of why a target was passed over.
    pub reason: Option<String>,
    /// Deadline of the request: `20s`.
    pub timeout: Option<String>,
}

/// What policies can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum VerdictKind {
    /// Nothing: the configuration's own plan counts.
    None,
    /// Where it goes.
    Route,
    /// That it is refused.
    Reject,
    /// An answer of their own.
    Respond,
}

/// One name, or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Names {
    /// One.
    One(String),
    /// Several, in their order.
    Many(Vec<String>),
}

/// A refusal, as far as it matters.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Refusal {
    /// HTTP status.
    pub status: Option<u16>,
    /// Machine-readable code.
    pub code: Option<String>,
    /// A part of the message.
    pub message: Option<String>,
}

impl VerdictKind {
    /// Its word in tables.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Route => "route",
            Self::Reject => "reject",
            Self::Respond => "respond",
        }
    }
}

impl Names {
    /// All of them.
    pub(super) fn all(&self) -> Vec<&str> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names.iter().map(String::as_str).collect(),
        }
    }
}
