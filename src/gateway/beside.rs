//! Sets of policies that stand beside the one in service: a shadow that is asked without effect, and a candidate that
//! decides for a share of the callers.

use std::sync::Arc;

use serde::Serialize;

use crate::policy::{CandidateSettings, PolicySet};

/// What a set of policies beside the live one is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is asked without effect.
    Shadow,
    /// It decides for a share of the callers.
    Candidate,
}

impl Role {
    /// The name of its directory, and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Candidate => "candidate",
        }
    }
}

/// One set, and what is wrong with its files.
#[derive(Default)]
pub struct Side {
    /// The set; `None` where its files never were in order.
    pub policies: Option<Arc<PolicySet>>,
    /// What is wrong with its files now: `file:line:column: error: …`. Then the last good set goes on.
    pub problems: Vec<String>,
    /// Its directory, for people.
    pub dir: Arc<str>,
}

/// The sets beside the live one.
#[derive(Default)]
pub struct Beside {
    /// The one that is asked without effect.
    pub shadow: Option<Side>,
    /// The one that decides for a share of the callers.
    pub candidate: Option<Side>,
    /// Share of the requests that the shadow is asked about, 0 to 1.
    pub sample: f64,
    /// How the candidate is tried.
    pub settings: CandidateSettings,
}

impl Beside {
    /// The set that may get a share of the callers: the candidate, or the shadow where there is no candidate.
    pub fn contender(&self) -> Option<&Arc<PolicySet>> {
        let mut sides = [&self.candidate, &self.shadow].into_iter().flatten();
        sides.find_map(|side| side.policies.as_ref())
    }

    /// A set whose files are broken now goes on as it was.
    pub fn inherit(&mut self, older: &Self) {
        for (side, older) in [(&mut self.shadow, &older.shadow), (&mut self.candidate, &older.candidate)] {
            if let Some(side) = side
                && side.policies.is_none()
                && let Some(older) = older
            {
                side.policies.clone_from(&older.policies);
            }
        }
    }

    /// Both sets that there are.
    pub fn sides(&self) -> impl Iterator<Item = (Role, &Side)> {
        let shadow = self.shadow.iter().map(|side| (Role::Shadow, side));
        shadow.chain(self.candidate.iter().map(|side| (Role::Candidate, side)))
    }
}
