//! How the attempts of a request are made where not simply one after the other: hedged, with a standby, or together.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The share of a target's traffic that may be sent twice, unless somebody says otherwise.
pub const USUAL_SHARE: f64 = 0.05;

/// How the attempts of a request are made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manner {
    /// Another target is asked too when a whole answer is late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// Another target is asked too when the first content of a stream is late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standby: Option<Late>,
    /// Several targets are asked at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub together: Option<Together>,
    /// Deadline of each attempt: of a whole answer, or of a stream to its first content. Only router plugins say so.
    #[serde(with = "super::as_ms", rename = "attempt_ms", skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Duration>,
}

/// When and how far a request is sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hedge {
    /// When the next target is asked too.
    pub after: Late,
    /// Targets that are asked in all, 2 or 3.
    pub targets: u8,
    /// The largest share of requests that are sent again, 0 to 1.
    pub share: f64,
}

/// When an answer is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// After this time.
    After(Duration),
    /// When it takes longer than 19 of 20 answers of that target.
    P95,
}

/// Several targets that are asked at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Together {
    /// What becomes of their answers.
    pub by: By,
    /// How many: the first ones of the plan.
    pub of: usize,
    /// Who judges or merges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<Arc<str>>,
}

/// What becomes of the answers of several targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The first one counts.
    Race,
    /// What most of them say counts.
    Vote,
    /// A judge chooses the best.
    Best,
    /// A judge makes one of them.
    Merge,
}

/// Why an attempt was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The first one.
    #[default]
    Primary,
    /// After a failure, at the same target or the next.
    Retry,
    /// Because a whole answer was late.
    Hedge,
    /// Because the first content of a stream was late.
    Standby,
    /// With others, the first of which counts.
    Race,
    /// With others, whose answers are put together; also who judges them.
    Ensemble,
    /// Because a stream broke off after its first content.
    Continuation,
}

impl Manner {
    /// One attempt after the other.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// What this leaves open is as the other says.
    pub fn or(&mut self, other: &Self) {
        self.hedge = self.hedge.or(other.hedge);
        self.standby = self.standby.or(other.standby);
        self.attempt = self.attempt.or(other.attempt);
        if self.together.is_none() {
            self.together.clone_from(&other.together);
        }
    }
}

impl Hedge {
    /// Two targets, within the usual share.
    pub fn after(after: Late) -> Self {
        Self { after, targets: 2, share: USUAL_SHARE }
    }
}

impl Role {
    /// Whether it is the usual one.
    pub fn is_primary(&self) -> bool {
        *self == Self::Primary
    }

    /// The name used in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
            Self::Standby => "standby",
            Self::Race => "race",
            Self::Ensemble => "ensemble",
            Self::Continuation => "continuation",
        }
    }
}

impl FromStr for Late {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "p95" {
            return Ok(Self::P95);
        }
        let period: crate::settings::Period = text
            .parse()
            .map_err(|_| format!("`{text}` is neither a duration nor p95 (try \"300ms\" or \"p95\")"))?;
        Ok(Self::After(period.0))
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(time) => write!(f, "{}", humantime::format_duration(*time)),
            Self::P95 => f.write_str("p95"),
        }
    }
}

impl Serialize for Late {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Late {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_reads_as_it_is_written() {
        for text in ["300ms", "2s", "p95"] {
            let late: Late = text.parse().unwrap();
            assert_eq!(late.to_string(), text);
            assert_eq!(serde_json::from_value::<Late>(serde_json::json!(text)).unwrap(), late);
        }
        assert!("p96".parse::<Late>().is_err() && "soon".parse::<Late>().is_err());
    }
}
