//! Values as the configuration writes them: durations, sizes, references to secrets.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration: `20s`, `800ms`, `5m`, `1h 30m`; a hundred years at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A number of bytes: `65536`, `64KiB`, `20MiB`, `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A moment: `2026-11-01` (the beginning of that day, UTC) or `2026-11-01T12:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub jiff::Timestamp);

/// So many in a period: `60/min`, `1000/day`, `100 per hour`, `10/s`, `60/min burst 10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many in one period; at least one.
    pub count: u64,
    /// The period.
    pub period: Duration,
    /// How many may come at once after a pause; as many as in one period where nothing is said.
    pub burst: Option<u64>,
}
/// A share in percent: `5%`, `+2%`, `0.5%`; a plain number means percent too.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

/// A reference to a secret, never the secret itself: `env:NAME`, `file:PATH`, `keystore:NAME`, `vault:PATH#FIELD` or
/// `aws-secrets:NAME#FIELD`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; trailing whitespace is not part of the secret. Watched.
    File(PathBuf),
    /// A secret of the keystore.
    Keystore(String),
    /// A field of a secret in HashiCorp Vault.
    Vault {
        /// Below the mount, without slashes at its ends.
        path: String,
        /// One of its fields.
        field: String,
    },
    /// A secret in AWS Secrets Manager.
    AwsSecrets {
        /// Its name or ARN.
        name: String,
        /// A field of the JSON object that it is; else the whole text.
        field: Option<String>,
    },
}

/// A reference to a secret that is needed where no store elsewhere can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LocalRef(pub SecretRef);

/// The longest period: what is longer means no other, and clocks cannot bear the longest that can be written.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Period {
    /// Whole seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// Milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(|period| Self(period.min(LONGEST)))
            .map_err(|_| format!("`{text}` is not a duration (try \"20s\", \"800ms\" or \"5m\")"))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a size (try \"65536\", \"64KiB\" or \"20MiB\")");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| bad())?;
        let unit: u64 = match text[digits..].trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return Err(bad()),
        };
        number.checked_mul(unit).map(Self).ok_or_else(bad)
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
        let moment =
            if text.contains(['T', 't']) { text.parse().ok() } else { day().map(|day| day.timestamp()) };
        moment
            .filter(|moment: &jiff::Timestamp| moment.as_second() >= 0)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a date (try \"2026-11-01\" or \"2026-11-01T12:00:00Z\")"))
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a share (try \"5%\" or \"+10%\")");
        let number = text.trim().trim_start_matches('+').trim_end_matches('%').trim();
        let number: f64 = number.parse().map_err(|_| bad())?;
        if number.is_finite() { Ok(Self(number)) } else { Err(bad()) }
    }
}

impl Percent {
    /// The share as a part of one: 5 % is 0.05.
    pub fn part(self) -> f64 {
        self.0 / 100.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Date {
    /// Seconds since the Unix epoch.
    pub fn unix(self) -> u64 {
        u64::try_from(self.0.as_second()).unwrap_or_default()
    }
}

/// The periods that rates are written in.
const PERIODS: [(&[&str], &str, u64); 4] = [
    (&["s", "sec", "second"], "s", 1),
    (&["m", "min", "minute"], "min", 60),
    (&["h", "hour"], "hour", 3_600),
    (&["d", "day"], "day", 86_400),
];

/// The most that a rate may let through in one period.
const MOST_RATE: u64 = 1_000_000_000_000;

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a rate (try \"60/min\", \"1000/day\" or \"60/min burst 10\")");
        let number = |text: &str| {
            let digits: String = text.trim().chars().filter(|c| *c != '_').collect();
            digits.parse::<u64>().ok().filter(|count| (1..=MOST_RATE).contains(count)).ok_or_else(bad)
        };
        let (rate, burst) = match text.split_once("burst") {
            Some((rate, burst)) => (rate, Some(number(burst)?)),
            None => (text, None),
        };
        let (count, period) = rate.split_once('/').or_else(|| rate.split_once(" per ")).ok_or_else(bad)?;
        let period = period.trim();
        let (_, _, secs) = PERIODS.iter().find(|(names, ..)| names.contains(&period)).ok_or_else(bad)?;
        Ok(Self { count: number(count)?, period: Duration::from_secs(*secs), burst })
    }
}

impl Rate {
    /// How many may come at once after a pause.
    pub fn capacity(self) -> u64 {
        self.burst.unwrap_or(self.count)
    }

    /// The period in a word: `min`.
    pub fn period_name(self) -> &'static str {
        let secs = self.period.as_secs();
        PERIODS.iter().find(|(_, _, known)| *known == secs).map_or("period", |(_, name, _)| name)
    }
}

impl FromStr for SecretRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text is not repeated in the error: somebody may have pasted the secret itself.
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            Some(("keystore", name)) if !name.is_empty() => Ok(Self::Keystore(name.to_owned())),
            Some(("vault", place)) => in_vault(place).ok_or_else(|| NOT_IN_VAULT.into()),
            Some(("aws-secrets", place)) => in_aws(place).ok_or_else(|| NOT_IN_AWS.into()),
            _ => Err("not a reference to a secret: write `env:NAME`, `file:PATH`, `keystore:NAME`, `vault:PATH#FIELD` or \
                      `aws-secrets:NAME#FIELD`, never the secret itself"
                .into()),
        }
    }
}

const NOT_IN_VAULT: &str =
    "not a place in Vault: write `vault:PATH#FIELD`, the path below the mount (`secrets.vault.mount`)";
const NOT_IN_AWS: &str = "not a place in AWS Secrets Manager: write `aws-secrets:NAME#FIELD`, or `aws-secrets:NAME` for the \
                          whole text";

/// The longest name of a secret elsewhere; AWS's own limit.
const LONGEST_PLACE: usize = 2_048;

fn in_vault(place: &str) -> Option<SecretRef> {
    let (path, field) = place.split_once('#')?;
    let is_plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
    let is_segment = |segment: &str| is_plain(segment) && !matches!(segment, "." | "..");
    let sound = place.len() <= LONGEST_PLACE && path.split('/').all(is_segment) && is_plain(field);
    sound.then(|| SecretRef::Vault { path: path.to_owned(), field: field.to_owned() })
}

fn in_aws(place: &str) -> Option<SecretRef> {
    let (name, field) = place.split_once('#').map_or((place, None), |(name, field)| (name, Some(field)));
    // The characters of names, and those of ARNs.
    let is_named = |c: char| c.is_ascii_alphanumeric() || "/_+=.@!-:".contains(c);
    let sound = !name.is_empty() && place.len() <= LONGEST_PLACE && name.chars().all(is_named);
    let sound = sound && field.is_none_or(|field| !field.is_empty() && !field.chars().any(char::is_control));
    sound.then(|| SecretRef::AwsSecrets { name: name.to_owned(), field: field.map(str::to_owned) })
}

impl SecretRef {
    /// Whether it is kept by another machine, which has to be asked for it.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Vault { .. } | Self::AwsSecrets { .. })
    }
}

impl FromStr for LocalRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WRITE: &str = "write `env:NAME`, `file:PATH` or `keystore:NAME`";
        match text.parse::<SecretRef>() {
            Ok(reference) if reference.is_remote() => {
                Err(format!("a store elsewhere cannot be asked for this secret: {WRITE}"))
            }
            Ok(reference) => Ok(Self(reference)),
            Err(_) => Err(format!("not a reference to a secret: {WRITE}, never the secret itself")),
        }
    }
}

impl fmt::Display for LocalRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Keystore(name) => write!(f, "keystore:{name}"),
            Self::Vault { path, field } => write!(f, "vault:{path}#{field}"),
            Self::AwsSecrets { name, field: Some(field) } => write!(f, "aws-secrets:{name}#{field}"),
            Self::AwsSecrets { name, field: None } => write!(f, "aws-secrets:{name}"),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.period_name())?;
        self.burst.map_or(Ok(()), |burst| write!(f, " burst {burst}"))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Size {
    /// In the largest binary unit that divides the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.iter().find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => self.0.fmt(f),
        }
    }
}

macro_rules! from_text {
    ($($type:ident: $expecting:literal, $format:literal, $example:literal, $kinds:expr;)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": $kinds, "format": $format, "description": $expecting, "examples": [$example]
                })
            }
        }
    )*};
}

from_text! {
    Period: "a duration such as \"20s\", \"800ms\" or \"5m\"", "period", "20s", "string";
    Size: "a number of bytes such as 65536, \"64KiB\" or \"20MiB\"", "size", "64KiB", ["string", "integer"];
    Date: "a date such as \"2026-11-01\" or \"2026-11-01T12:00:00Z\"", "date", "2026-11-01", "string";
    Rate: "a rate such as \"60/min\", \"1000/day\" or \"60/min burst 10\"", "rate", "60/min", "string";
    Percent: "a share such as \"5%\" or \"0.5%\"", "percent", "5%", ["string", "number"];
    LocalRef: "a reference to a secret on this machine: `env:NAME`, `file:PATH` or `keystore:NAME`", "local-secret", "env:REDIS_PASSWORD", "string";
    SecretRef: "a reference to a secret: `env:NAME`, `file:PATH`, `keystore:NAME`, `vault:PATH#FIELD` or `aws-secrets:NAME#FIELD`", "secret", "env:OPENAI_API_KEY", "string";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [("12", 12), ("64KiB", 65_536), ("20 MiB", 20 << 20), ("1GB", 1_000_000_000)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "12 parsecs", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_period_is_longer_than_clocks_can_bear() {
        for text in ["213503982334601d", "36501d", "500000000years"] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period, Period(LONGEST), "{text}");
            assert!(std::time::Instant::now().checked_add(period.0 * 10).is_some(), "{text}");
        }
        assert_eq!("400d".parse(), Ok(Period::secs(400 * 86_400)));
        assert!("500000000000000000000d".parse::<Period>().is_err());
    }

    #[test]
    fn values_are_written_as_they_are_read() {
        assert_eq!(Period::millis(1500).to_string(), "1s 500ms");
        assert_eq!(Size(20 << 20).to_string(), "20MiB");
        for bytes in [0, 1, 1023, 1024, 1025, 3 << 30] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
    }

    #[test]
    fn rates_are_counts_in_a_period() {
        for (text, count, secs, burst, again) in [
            ("60/min", 60, 60, None, "60/min"),
            ("60 per minute", 60, 60, None, "60/min"),
            ("1_000_000/d", 1_000_000, 86_400, None, "1000000/day"),
            ("10/s burst 3", 10, 1, Some(3), "10/s burst 3"),
        ] {
            let rate = Rate { count, period: Duration::from_secs(secs), burst };
            assert_eq!(text.parse(), Ok(rate), "{text}");
            assert_eq!(rate.to_string(), again);
        }
        for text in ["", "60", "0/min", "60/week", "-1/min", "60/min burst", "60/min burst 0", "1.5/min"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn dates_are_days_or_moments() {
        for (text, unix) in
            [("2026-11-01", 1_793_491_200), ("2026-11-01T12:00:00Z", 1_793_534_400), ("1970-01-01", 0)]
        {
            assert_eq!(text.parse::<Date>().map(Date::unix), Ok(unix), "{text}");
        }
        for text in ["", "tomorrow", "2026-13-01", "01.11.2026", "1969-12-31", "2026-11-01T12:00"] {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pasted_secret_is_not_echoed() {
        for text in
            ["sk-abcdef", "vault:abcdef", "vault:#abcdef", "aws-secrets:abc def", "aws-secrets:#abcdef"]
        {
            let error = text.parse::<SecretRef>().unwrap_err();
            assert!(!error.contains("abc"), "{error}");
        }
    }

    #[test]
    fn references_are_written_as_they_are_read() {
        for (text, remote) in [
            ("env:KEY", false),
            ("file:./key", false),
            ("keystore:openai", false),
            ("vault:team/openai#api key", true),
            ("aws-secrets:llm/openai", true),
            ("aws-secrets:llm/openai#key", true),
            ("aws-secrets:arn:aws:secretsmanager:eu-west-1:123456789012:secret:llm-AbCdEf#key", true),
        ] {
            let reference: SecretRef = text.parse().unwrap();
            assert_eq!((reference.to_string(), reference.is_remote()), (text.to_owned(), remote));
        }
        for text in [
            "vault:a",
            "vault:a#",
            "vault:/a#b",
            "vault:a/#b",
            "vault:a/../b#c",
            "vault:a//b#c",
            "aws-secrets:",
            "aws-secrets:a#",
        ] {
            assert!(text.parse::<SecretRef>().is_err(), "{text}");
        }
    }
}
