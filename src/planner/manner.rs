//! Settings of aliases for attempts that are not simply made one after the other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{By, Hedge, Late, Manner, Together, USUAL_SHARE};

/// The most targets that are asked together.
const MOST_TOGETHER: usize = 8;

/// When another target is asked too because a whole answer is late: a duration, or `p95`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged)]
pub enum HedgeSettings {
    /// A duration, or `p95` of the target's latency.
    Short(String),
    /// With more to say.
    Full(HedgeDetails),
}

/// Hedging in full.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct HedgeDetails {
    /// When the next target is asked too: a duration (`0s` at once), or `p95` of the target's latency.
    pub after: String,
    /// Targets that are asked in all: 2 (default) or 3.
    pub targets: Option<u8>,
    /// The most requests that are sent again, in percent; 5 by default.
    pub share: Option<f64>,
}

/// Several targets that are asked at once: a word, or with more to say.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged)]
pub enum TogetherSettings {
    /// A word.
    Word(TogetherWord),
    /// With more to say.
    Full(TogetherDetails),
}

/// Several targets in full.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TogetherDetails {
    /// What becomes of their answers.
    pub by: TogetherWord,
    /// How many targets: the first ones, in the order of the strategy. By default all of them, at most 8.
    pub of: Option<usize>,
    /// The target that chooses the best answer, or merges them.
    pub judge: Option<String>,
}

/// What becomes of the answers of several targets.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum TogetherWord {
    /// The first answer counts, or the stream whose first content comes first.
    Race,
    /// The answer that most of them give counts: texts but for case, space and punctuation, JSON by its value.
    Vote,
    /// A judge chooses the best.
    Best,
    /// A judge makes one answer of them.
    Merge,
}

/// The manner of an alias with so many targets.
///
/// # Errors
/// What is wrong, with the field.
pub fn manner(
    hedge: Option<&HedgeSettings>,
    standby: Option<&str>,
    together: Option<&TogetherSettings>,
    targets: usize,
) -> Result<Manner, (&'static str, String)> {
    let standby = standby.map(str::parse::<Late>).transpose().map_err(|wrong| ("standby", wrong))?;
    let hedge = hedge.map(hedge_of).transpose().map_err(|wrong| ("hedge", wrong))?;
    let together = together.map(|written| together_of(written, targets)).transpose();
    let together = together.map_err(|wrong| ("together", wrong))?;
    if together.is_some() && (hedge.is_some() || standby.is_some()) {
        return Err((
            "together",
            "targets that are asked together are not asked one after the other too".into(),
        ));
    }
    Ok(Manner { hedge, standby, together, attempt: None })
}

fn hedge_of(written: &HedgeSettings) -> Result<Hedge, String> {
    let details = match written {
        HedgeSettings::Short(after) => HedgeDetails { after: after.clone(), targets: None, share: None },
        HedgeSettings::Full(details) => details.clone(),
    };
    let targets = details.targets.unwrap_or(2);
    if !(2..=3).contains(&targets) {
        return Err(format!("`targets` is 2 or 3, not {targets}"));
    }
    let share = details.share.map_or(USUAL_SHARE, |percent| percent / 100.0);
    if !(0.0..=1.0).contains(&share) {
        return Err("`share` is 0 to 100 percent".into());
    }
    Ok(Hedge { after: details.after.parse()?, targets, share })
}

fn together_of(written: &TogetherSettings, targets: usize) -> Result<Together, String> {
    let details = match written {
        TogetherSettings::Word(by) => TogetherDetails { by: *by, of: None, judge: None },
        TogetherSettings::Full(details) => details.clone(),
    };
    let by = match details.by {
        TogetherWord::Race => By::Race,
        TogetherWord::Vote => By::Vote,
        TogetherWord::Best => By::Best,
        TogetherWord::Merge => By::Merge,
    };
    let judges = matches!(by, By::Best | By::Merge);
    match &details.judge {
        None if judges => return Err("who judges? add `judge: provider/model`".into()),
        Some(_) if !judges => return Err("a `judge` is for `best` and `merge`".into()),
        _ => {}
    }
    let of = details.of.unwrap_or(targets.min(MOST_TOGETHER));
    if !(2..=MOST_TOGETHER).contains(&of) || of > targets {
        return Err(format!("`of` is 2 to {}, as there are so many targets", targets.min(MOST_TOGETHER)));
    }
    Ok(Together { by, of, judge: details.judge.map(Into::into) })
}
