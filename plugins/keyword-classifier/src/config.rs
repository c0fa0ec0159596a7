//! What can be configured.

use std::collections::BTreeMap;

use serde::Deserialize;
use tollgate_plugin::{Origin, Segment};

/// The plugin's `config:` block.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What there is to say, by name.
    pub labels: BTreeMap<String, Label>,
    /// What is said where no label reaches the threshold.
    #[serde(default = "fallback")]
    pub fallback: String,
    /// The least score, 0 to 1, at which a label stands against the fallback.
    #[serde(default = "threshold")]
    pub threshold: f32,
    /// The weight at which the score of a label is one half; twice as much makes two thirds.
    #[serde(default = "saturation")]
    pub saturation: f32,
    /// Which texts of the request are looked at.
    #[serde(default)]
    pub look: Look,
    /// How much likeness to the examples weighs beside the words, 0 to 1.
    #[serde(default = "likeness")]
    pub likeness: f32,
}

/// One label.
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Label {
    /// Words and phrases with their weights; one below 0 speaks against the label.
    pub words: BTreeMap<String, f32>,
    /// Texts that such requests are like; they want an embedding model and the grant `ai`.
    pub examples: Vec<String>,
}

/// Which texts of a request are looked at.
#[derive(Debug, Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// What the user said last.
    #[default]
    LastUser,
    /// All that the user said.
    User,
    /// Everything, also the system's instructions.
    All,
}

impl Look {
    /// Those texts.
    pub fn texts(self, segments: &[Segment]) -> Vec<&str> {
        let by_user = |segment: &&Segment| segment.origin == Origin::User;
        match self {
            Look::All => segments.iter().map(|segment| segment.text.as_str()).collect(),
            Look::User => segments.iter().filter(by_user).map(|segment| segment.text.as_str()).collect(),
            Look::LastUser => {
                segments.iter().rfind(by_user).map(|segment| segment.text.as_str()).into_iter().collect()
            }
        }
    }
}

fn fallback() -> String {
    "other".to_owned()
}

fn threshold() -> f32 {
    0.3
}

fn saturation() -> f32 {
    2.0
}

fn likeness() -> f32 {
    0.5
}
