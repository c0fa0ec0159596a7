//! What a plugin does as a guard that the gateway asks by itself: of what it is asked, and what follows a finding.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::{Capability, PluginSettings};
use crate::caller::glob::fits;
use crate::facts::Endpoint;

/// What a guard looks at, and what follows when it finds something.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct GuardRole {
    /// What it looks at: `request`, `response` (whole answers), `stream` (streamed answers). All of them unless told.
    pub on: Vec<GuardOn>,
    /// What follows a finding. A refusal of the guard's own blocks too, except with `flag`.
    pub action: GuardAction,
    /// Kinds of findings that count; all of them unless told.
    pub kinds: Vec<String>,
    /// Findings with a lower score, 0 to 1, do not count.
    pub min_score: f32,
    /// With `redact`: what was taken out of a prompt comes back into its answer in the place of its placeholder.
    pub restore: bool,
    /// Operations; every one whose text the gateway reads unless told.
    pub endpoints: Vec<Endpoint>,
    /// Models as clients name them, with `*` for any letters; all of them unless told.
    pub models: Vec<String>,
}

/// Something that a guard looks at.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum GuardOn {
    /// Requests.
    Request,
    /// Whole answers.
    Response,
    /// Streamed answers.
    Stream,
}

/// What follows a finding.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum GuardAction {
    /// The request is refused with 403 `guard_blocked`, the answer withheld, the stream ended with an error.
    #[default]
    Block,
    /// It is taken out, and a placeholder stands in its place.
    Redact,
    /// Nothing is changed; the request bears the tag `guard.NAME`, and it is counted.
    Flag,
}

impl Default for GuardRole {
    fn default() -> Self {
        Self {
            on: vec![GuardOn::Request, GuardOn::Response, GuardOn::Stream],
            action: GuardAction::default(),
            kinds: Vec::new(),
            min_score: 0.0,
            restore: false,
            endpoints: Vec::new(),
            models: Vec::new(),
        }
    }
}

impl GuardAction {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Redact => "redact",
            Self::Flag => "flag",
        }
    }
}

impl GuardRole {
    /// Whether it looks at these.
    pub fn is_on(&self, on: GuardOn) -> bool {
        self.on.contains(&on)
    }

    /// Whether it is asked about requests to this operation and this model.
    pub fn covers(&self, endpoint: Endpoint, model: &str) -> bool {
        let endpoint = self.endpoints.is_empty() || self.endpoints.contains(&endpoint);
        endpoint && (self.models.is_empty() || self.models.iter().any(|pattern| fits(pattern, model)))
    }

    /// Whether a finding counts.
    pub fn counts(&self, kind: &str, score: f32) -> bool {
        score >= self.min_score && (self.kinds.is_empty() || self.kinds.iter().any(|known| known == kind))
    }

    /// What is wrong with it.
    pub(super) fn check(&self, settings: &PluginSettings) -> Result<(), String> {
        if self.on.is_empty() {
            return Err("guard.on: name one of request, response, stream".into());
        }
        if !settings.grants(Capability::Prompt) {
            return Err("guard: it is to look at text, so grant it: add `prompt` to `grants`".into());
        }
        if self.action == GuardAction::Redact && !settings.grants(Capability::Rewrite) {
            return Err("guard.action: `redact` changes text, so grant it: add `rewrite` to `grants`".into());
        }
        if self.restore && self.action != GuardAction::Redact {
            return Err("guard.restore: only what `action: redact` took out can come back".into());
        }
        if !(0.0..=1.0).contains(&self.min_score) {
            return Err(format!("guard.min_score: {} is not between 0 and 1", self.min_score));
        }
        let unread = [
            Endpoint::Realtime,
            Endpoint::Passthrough,
            Endpoint::Files,
            Endpoint::Batches,
            Endpoint::Transcription,
        ];
        match self.endpoints.iter().find(|endpoint| unread.contains(endpoint)) {
            Some(endpoint) => Err(format!(
                "guard.endpoints: the gateway reads no text of `{}`, so nothing in it can be guarded",
                endpoint.as_str()
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_letters() {
        for (pattern, name, expected) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-*", "gpt-4o", true),
            ("*/claude-*", "anthropic/claude-sonnet", true),
            ("*/claude-*", "claude-sonnet", false),
            ("*-mini*", "gpt-4o-mini-2024", true),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_role_that_cannot_be_played_is_refused() {
        for (yaml, part) in [
            ("{ name: x, guard: {} }", "add `prompt`"),
            ("{ name: x, grants: [prompt], guard: { action: redact } }", "add `rewrite`"),
            ("{ name: x, grants: [prompt], guard: { restore: true } }", "guard.restore"),
            ("{ name: x, grants: [prompt], guard: { on: [] } }", "guard.on"),
            ("{ name: x, grants: [prompt], guard: { min_score: 2 } }", "guard.min_score"),
            ("{ name: x, grants: [prompt], guard: { endpoints: [realtime] } }", "`realtime`"),
        ] {
            let settings: PluginSettings = serde_yaml::from_str(yaml).unwrap();
            let error = settings.check().unwrap_err();
            assert!(error.contains(part), "{yaml}: {error}");
        }
        let good =
            "{ name: x, grants: [prompt, rewrite], guard: { action: redact, restore: true, on: [stream] } }";
        let settings: PluginSettings = serde_yaml::from_str(good).unwrap();
        assert_eq!(settings.check(), Ok(()));
    }
}
