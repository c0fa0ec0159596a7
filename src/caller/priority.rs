//! Who comes first where there is not enough for all.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How important a caller's requests are. It counts only while the gateway or a target has too much to do.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Work that may wait: batches, evaluations.
    Low,
    /// The usual.
    #[default]
    Normal,
    /// People who wait for an answer.
    High,
}

impl Priority {
    /// All of them, the least important one first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// How many turns it gets while one of the least gets one.
    pub const fn weight(self) -> u32 {
        match self {
            Self::Low => 1,
            Self::Normal => 4,
            Self::High => 16,
        }
    }

    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// What is left of it for a caller who asks for another one: less, never more.
    #[must_use]
    pub fn lowered_to(self, asked: Option<Self>) -> Self {
        asked.map_or(self, |asked| asked.min(self))
    }

    /// Whether it is the one of those who say nothing.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// Its place among [`Self::ALL`].
    pub const fn place(self) -> usize {
        self as usize
    }
}

impl FromStr for Priority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.word().eq_ignore_ascii_case(text.trim()));
        found.ok_or_else(|| format!("`{text}` is no priority: write `low`, `normal` or `high`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_can_ask_for_less_and_never_for_more() {
        for (own, asked, expected) in [
            ("normal", None, "normal"),
            ("normal", Some("low"), "low"),
            ("normal", Some("HIGH"), "normal"),
            ("high", Some("normal"), "normal"),
            ("low", Some("high"), "low"),
        ] {
            let own: Priority = own.parse().unwrap();
            let asked = asked.map(|text| text.parse().unwrap());
            assert_eq!(own.lowered_to(asked).word(), expected, "{own:?} {asked:?}");
        }
        assert!("urgent".parse::<Priority>().unwrap_err().contains("`urgent`"));
        assert!(Priority::ALL.iter().enumerate().all(|(place, one)| one.place() == place));
    }
}
