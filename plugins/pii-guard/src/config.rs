//! What can be configured.

use serde::Deserialize;

/// The plugin's `config:` block.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which of the built-in kinds to look for; all, unless told.
    pub kinds: Vec<String>,
    /// Kinds of one's own.
    pub patterns: Vec<Own>,
    /// What to do with a finding.
    pub action: Action,
    /// Whether answers are inspected too.
    pub responses: bool,
}

impl Default for Config {
    fn default() -> Self {
        let kinds = crate::kinds::BUILT_IN.iter().map(|kind| kind.name.to_owned()).collect();
        Config { kinds, patterns: Vec::new(), action: Action::Redact, responses: true }
    }
}

/// A kind of one's own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Own {
    /// Its name in findings and placeholders.
    pub kind: String,
    /// A regular expression; it must have a longest match, so write `{1,64}` for `+`.
    pub regex: String,
    /// What stands in the place of a finding; the host's placeholder unless told.
    #[serde(default)]
    pub replacement: Option<String>,
    /// A text in which it is found; the self-test looks.
    #[serde(default)]
    pub example: Option<String>,
}

/// What to do with a finding.
#[derive(Debug, Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The host puts placeholders in their places.
    Redact,
    /// The request is refused, the answer withheld.
    Reject,
}
