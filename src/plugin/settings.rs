//! Settings of one plugin: its file, what it may ask for, what it may cost, and what follows when it fails.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Classification, Label};
use super::outcome::Consequence;
use super::role::GuardRole;
use crate::settings::{Period, Size};

/// One plugin.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PluginSettings {
    /// What policies call it: `plugin("intent")`. Lowercase letters, digits, `-` and `_`.
    pub name: String,
    /// The file: a component, or a core module that carries its WIT. By default `NAME.wasm` in the directory of plugins.
    pub path: Option<PathBuf>,
    /// The plugin's own configuration; its `init` gets it as JSON text.
    #[schemars(with = "Option<std::collections::BTreeMap<String, serde_json::Value>>")]
    pub config: Option<serde_json::Value>,
    /// A fresh instance for each call, or instances that are used again.
    pub isolation: Isolation,
    /// What a call may cost.
    pub limits: PluginLimits,
    /// What the plugin may see and ask for. Without this: `log`, `clock`, `random` and `metrics`.
    pub grants: Option<Vec<Grant>>,
    /// Names of the client's headers that the plugin sees.
    pub headers: Vec<String>,
    /// What follows when the plugin fails, is busy, or never loaded: `open`, `closed`, or one answer for each interface.
    pub on_error: OnError,
    /// Refuse the file unless this is its SHA-256, in hexadecimal.
    pub sha256: Option<String>,
    /// Ask the classifier before the policies run, so that its answer is there when they want it.
    pub prefetch: bool,
    /// Makes the plugin a guard that the gateway asks by itself, about each request and answer that this names.
    pub guard: Option<GuardRole>,
}

/// How calls are kept apart.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Each call gets an instance of its own: nothing of one request is left for the next.
    #[default]
    Request,
    /// Instances are used again, for up to 1,000 calls or 10 minutes: for plugins that are slow to start.
    Pooled,
}

/// What one call of a plugin may cost.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct PluginLimits {
    /// Time of one call: classify, inspect, route, call, and a dialect's functions.
    pub time: Period,
    /// Time of one look at a window of a stream.
    pub window: Period,
    /// Time of an observer, which nobody waits for.
    pub observe: Period,
    /// Time of `init` and of the self-test, once for each load.
    pub init: Period,
    /// Linear memory of one instance; at most 256 MiB.
    pub memory: Size,
    /// Calls at once; by default four for each core.
    pub concurrency: Option<u32>,
    /// How long a call waits for its turn before the plugin counts as busy.
    pub wait: Period,
}

/// Something that a plugin may see or ask for.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(
    untagged,
    expecting = "a grant is one of log, clock, random, metrics, state, ai, prompt, rewrite, or `http: [api.example.com]`"
)]
pub enum Grant {
    /// A capability without conditions.
    Plain(Capability),
    /// Requests to these hosts.
    Http(HttpGrant),
}

/// Hosts that a plugin may send requests to.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct HttpGrant {
    /// `api.example.com`, `*.example.com`, `localhost:9000`. Only `https`, except to loopback.
    pub http: Vec<String>,
}

/// A capability that is granted without conditions.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Lines in the gateway's log.
    Log,
    /// The time.
    Clock,
    /// Random numbers.
    Random,
    /// Metrics of its own.
    Metrics,
    /// Small values that live longer than a call.
    State,
    /// Token counts and embeddings.
    Ai,
    /// The text of requests and answers.
    Prompt,
    /// Its findings may be cut out of the text.
    Rewrite,
}

/// What follows when a plugin fails.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(
    untagged,
    expecting = "`open`, `closed`, or one of guard, classify, route, functions, dialect with its answer"
)]
pub enum OnError {
    /// The same for all interfaces.
    All(Stance),
    /// One by one; an interface that is not named has its default.
    Each(OnErrorEach),
}

/// Whether requests go on without the plugin.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Stance {
    /// Requests go on as if the plugin had no opinion.
    Open,
    /// Requests are refused with 503 `plugin_unavailable`.
    Closed,
}

/// What follows when a plugin fails, by interface.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct OnErrorEach {
    /// Of a guard: `deny` (default), `skip` or `redact_all`.
    pub guard: Option<GuardOnError>,
    /// Of a classifier: `deny`, or the answer that stands in; by default `{ top: unknown, score: 0 }`.
    pub classify: Option<ClassifyOnError>,
    /// Of a router: `skip` (default) or `deny`.
    pub route: Option<PlainOnError>,
    /// Of a function: `skip` (default: the call gives `()`) or `deny`.
    pub functions: Option<PlainOnError>,
}

/// What follows when a guard fails.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum GuardOnError {
    /// The request is refused, a stream ends with an error.
    Deny,
    /// The text passes unseen.
    Skip,
    /// All text is replaced.
    RedactAll,
}

/// What follows when a router or a function fails.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum PlainOnError {
    /// The request is refused.
    Deny,
    /// The plugin had no opinion.
    Skip,
}

/// What follows when a classifier fails.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged, expecting = "`deny`, or an answer such as `{ top: unknown, score: 0 }`")]
pub enum ClassifyOnError {
    /// `deny` or `skip`.
    Plain(PlainOnError),
    /// This answer stands in.
    Default(DefaultLabel),
}

/// The answer of a classifier that does not answer.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DefaultLabel {
    /// Name of the class.
    pub top: String,
    /// Its score, 0 to 1.
    #[serde(default)]
    pub score: f32,
}

/// What a plugin can be asked through. A plugin exports any number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interface {
    /// Says what kind of request it is.
    Classify,
    /// Finds what must not pass.
    Guard,
    /// Chooses among targets.
    Route,
    /// Learns how requests ended.
    Observe,
    /// Functions for policies.
    Functions,
    /// Speaks a provider's language.
    Dialect,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            time: Period::millis(50),
            window: Period::millis(5),
            observe: Period::millis(500),
            init: Period::secs(5),
            memory: Size(64 << 20),
            concurrency: None,
            wait: Period::millis(20),
        }
    }
}

impl Default for OnError {
    fn default() -> Self {
        Self::Each(OnErrorEach::default())
    }
}

impl OnError {
    /// What follows when this interface of the plugin gives no answer.
    pub fn consequence(&self, interface: Interface) -> Consequence {
        match self {
            // Nobody waits for an observer, so nothing of it can be refused.
            _ if interface == Interface::Observe => Consequence::Skip,
            // Without its dialect, nobody understands the provider.
            _ if interface == Interface::Dialect => Consequence::Deny,
            Self::All(Stance::Closed) => Consequence::Deny,
            Self::All(Stance::Open) if interface == Interface::Classify => unknown(),
            Self::All(Stance::Open) => Consequence::Skip,
            Self::Each(each) => each.consequence(interface),
        }
    }
}

impl OnErrorEach {
    fn consequence(&self, interface: Interface) -> Consequence {
        let plain = |on_error: Option<PlainOnError>| match on_error {
            Some(PlainOnError::Deny) => Consequence::Deny,
            Some(PlainOnError::Skip) | None => Consequence::Skip,
        };
        match interface {
            Interface::Guard => match self.guard {
                Some(GuardOnError::Deny) | None => Consequence::Deny,
                Some(GuardOnError::Skip) => Consequence::Skip,
                Some(GuardOnError::RedactAll) => Consequence::RedactAll,
            },
            Interface::Classify => match &self.classify {
                Some(ClassifyOnError::Plain(PlainOnError::Deny)) => Consequence::Deny,
                Some(ClassifyOnError::Plain(PlainOnError::Skip)) | None => unknown(),
                Some(ClassifyOnError::Default(label)) => stand_in(&label.top, label.score),
            },
            Interface::Route => plain(self.route),
            Interface::Functions => plain(self.functions),
            Interface::Observe | Interface::Dialect => Consequence::Skip,
        }
    }
}

fn unknown() -> Consequence {
    stand_in("unknown", 0.0)
}

fn stand_in(top: &str, score: f32) -> Consequence {
    let label = Label { name: top.to_owned(), score };
    Consequence::Default(Classification { labels: vec![label], attributes: Vec::new() })
}

impl PluginSettings {
    /// Whether this capability is granted.
    pub fn grants(&self, capability: Capability) -> bool {
        match &self.grants {
            Some(grants) => grants.contains(&Grant::Plain(capability)),
            None => matches!(
                capability,
                Capability::Log | Capability::Clock | Capability::Random | Capability::Metrics
            ),
        }
    }

    /// Hosts that the plugin may send requests to; `None` where it may send none.
    pub fn hosts(&self) -> Option<Vec<&str>> {
        let mut lists = self.grants.iter().flatten().filter_map(|grant| match grant {
            Grant::Http(grant) => Some(&grant.http),
            Grant::Plain(_) => None,
        });
        let first = lists.next()?;
        Some(first.iter().chain(lists.flatten()).map(String::as_str).collect())
    }

    /// The configuration block as JSON text; `{}` where there is none.
    pub fn config_json(&self) -> String {
        self.config.as_ref().map_or_else(|| "{}".to_owned(), serde_json::Value::to_string)
    }

    /// Its file, which a relative path and the default `NAME.wasm` place in `dir`.
    pub fn file_in(&self, dir: &Path) -> PathBuf {
        dir.join(self.path.clone().unwrap_or_else(|| format!("{}.wasm", self.name).into()))
    }

    /// What is wrong with these settings by themselves.
    ///
    /// # Errors
    /// Says which field, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(named) {
            return Err(format!(
                "`{}` is not a name for a plugin: lowercase letters, digits, `-` and `_`, at most 64",
                self.name
            ));
        }
        let periods = [
            ("time", self.limits.time),
            ("window", self.limits.window),
            ("observe", self.limits.observe),
            ("init", self.limits.init),
        ];
        if let Some((field, _)) = periods.iter().find(|(_, period)| period.0.as_millis() == 0) {
            return Err(format!("limits.{field}: a plugin needs at least 1ms"));
        }
        if self.limits.memory.0 < 64 << 10 || self.limits.memory.0 > super::MEMORY_CAP {
            return Err(format!("limits.memory: {} is not between 64KiB and 256MiB", self.limits.memory));
        }
        if self.limits.concurrency == Some(0) {
            return Err("limits.concurrency: a plugin that may not run once is of no use".into());
        }
        self.guard.as_ref().map_or(Ok(()), |role| role.check(self))?;
        match &self.sha256 {
            Some(pin) if pin.len() != 64 || !pin.chars().all(|c| c.is_ascii_hexdigit()) => {
                Err(format!("sha256: `{pin}` is not 64 hexadecimal digits"))
            }
            _ => Ok(()),
        }
    }
}

impl Interface {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Classify, Self::Guard, Self::Route, Self::Observe, Self::Functions, Self::Dialect];

    /// The interface's name in the WIT.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Guard => "guard",
            Self::Route => "route",
            Self::Observe => "observe",
            Self::Functions => "functions",
            Self::Dialect => "dialect",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> PluginSettings {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn what_an_operator_writes_is_read() {
        let settings = read(
            "{ name: intent, path: x.wasm, config: { labels: [code] }, isolation: pooled, \
             limits: { time: 20ms, memory: 8MiB }, grants: [log, ai, prompt, http: [api.example.com]], \
             headers: [x-region], on_error: { classify: { top: other } } }",
        );
        assert!(settings.check().is_ok());
        assert_eq!(settings.limits.time, Period::millis(20));
        assert!(settings.grants(Capability::Ai) && !settings.grants(Capability::Metrics));
        assert_eq!(settings.hosts(), Some(vec!["api.example.com"]));
        assert_eq!(settings.config_json(), r#"{"labels":["code"]}"#);
        assert_eq!(settings.on_error.consequence(Interface::Classify), stand_in("other", 0.0));
        let error = serde_yaml::from_str::<PluginSettings>("{ name: x, grants: [files] }").unwrap_err();
        assert!(error.to_string().contains("a grant is one of log"), "{error}");
    }

    #[test]
    fn nothing_but_the_harmless_is_granted_unasked() {
        let settings = read("{ name: x }");
        for capability in [Capability::Log, Capability::Clock, Capability::Random, Capability::Metrics] {
            assert!(settings.grants(capability), "{capability:?}");
        }
        for capability in [Capability::Ai, Capability::State, Capability::Prompt, Capability::Rewrite] {
            assert!(!settings.grants(capability), "{capability:?}");
        }
        assert_eq!(settings.hosts(), None);
    }

    #[test]
    fn failures_follow_the_interface() {
        use Consequence::{Deny, RedactAll, Skip};
        use Interface::{Classify, Dialect, Functions, Guard, Observe, Route};
        let cases = [
            ("{ name: x }", Guard, Deny),
            ("{ name: x }", Classify, unknown()),
            ("{ name: x }", Route, Skip),
            ("{ name: x }", Functions, Skip),
            ("{ name: x, on_error: open }", Guard, Skip),
            ("{ name: x, on_error: open }", Classify, unknown()),
            ("{ name: x, on_error: open }", Dialect, Deny),
            ("{ name: x, on_error: closed }", Classify, Deny),
            ("{ name: x, on_error: closed }", Route, Deny),
            ("{ name: x, on_error: closed }", Observe, Skip),
            ("{ name: x, on_error: { guard: redact_all } }", Guard, RedactAll),
            ("{ name: x, on_error: { guard: skip, route: deny } }", Route, Deny),
            ("{ name: x, on_error: { classify: deny } }", Classify, Deny),
        ];
        for (yaml, interface, expected) in cases {
            assert_eq!(read(yaml).on_error.consequence(interface), expected, "{yaml} {interface:?}");
        }
    }

    #[test]
    fn impossible_settings_are_named() {
        for (yaml, part) in [
            ("{ name: '' }", "not a name"),
            ("{ name: 'a/b' }", "not a name"),
            ("{ name: x, limits: { time: 0s } }", "limits.time"),
            ("{ name: x, limits: { memory: 1GiB } }", "limits.memory"),
            ("{ name: x, limits: { concurrency: 0 } }", "limits.concurrency"),
            ("{ name: x, sha256: abc }", "sha256"),
        ] {
            let error = read(yaml).check().unwrap_err();
            assert!(error.contains(part), "{yaml}: {error}");
        }
    }
}
