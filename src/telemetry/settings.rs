//! Settings of logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// What is written to standard output and standard error.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// One JSON line for each request on standard output, with the decision record and without prompts.
    pub access: bool,
    /// Level of the operational log on standard error: `error`, `warn`, `info`, `debug`, or a filter such as
    /// `info,tollgate::upstream=debug`.
    pub level: String,
}

/// Words for a level.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

impl LogSettings {
    /// The filter as it is written, without the spaces that its parts may have between them.
    pub fn filter(level: &str) -> String {
        level.split_whitespace().collect()
    }

    /// What is wrong with the level. A word alone that is no level would be taken for the name of a part, and then nothing else
    /// is written: a slip would silence the log.
    pub fn fault(&self) -> Option<String> {
        let filter = Self::filter(&self.level);
        if filter.is_empty() {
            return Some("`log.level` is empty".into());
        }
        let is_level = |word: &str| {
            LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
                || matches!(word.as_bytes(), [b'0'..=b'5'])
        };
        let mut alone = filter.split(',').filter(|part| !part.is_empty() && !part.contains(['=', '[', ':']));
        if let Some(word) = alone.find(|word| !is_level(word)) {
            return Some(format!("`log.level`: `{word}` is no level"));
        }
        EnvFilter::try_new(&filter).err().map(|error| format!("`log.level`: `{filter}`: {error}"))
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { access: true, level: "info".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_the_level_does_not_silence_the_log() {
        let fault = |level: &str| LogSettings { level: level.into(), ..LogSettings::default() }.fault();
        for good in [
            "info",
            "WARN",
            "off",
            "3",
            "info,tollgate::upstream=debug",
            " debug , hyper=warn",
            "tollgate::upstream=trace",
            "tollgate::upstream",
            "warn,tollgate[request{id=7}]=debug",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        for (bad, why) in [
            ("", "`log.level` is empty"),
            (" ", "`log.level` is empty"),
            ("warning", "`log.level`: `warning` is no level"),
            ("inof", "`log.level`: `inof` is no level"),
            ("info,upstream", "`log.level`: `upstream` is no level"),
            ("9", "`log.level`: `9` is no level"),
            ("info,tollgate::upstream=debgu", "`log.level`: `info,tollgate::upstream=debgu`: "),
        ] {
            assert!(fault(bad).is_some_and(|said| said.starts_with(why)), "{bad}: {:?}", fault(bad));
        }
    }
}
