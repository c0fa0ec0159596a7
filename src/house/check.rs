//! What a configuration means, checked without touching the world: no files, no environment, no network.

pub(super) mod auth;
mod aws;
mod azure;
mod base_url;
mod browsers;
mod budgets;
mod chaos;
mod cycles;
mod data;
mod google;
mod keys;
mod limits;
mod models;
mod prices;
mod providers;
mod proxies;
#[cfg(test)]
mod tests;
mod vaults;
mod versions;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use aws::{CheckedAws, REGION_OF_ENVIRONMENT};
pub use azure::CheckedAzure;
pub use base_url::base;

use super::config::Config;
use super::diagnostic::Diagnostics;
use super::plugins;
use super::read::Reading;
use super::validate::did_you_mean;
use crate::fault::FaultRules;
use crate::gateway::VersionSettings;
use crate::keys::AuthMode;
use crate::ledger::{Budget, Owns};
use crate::plan::Manner;
use crate::planner::{StrategySettings, TierWord};
use crate::providers::presets::{self, Auth, Preset};
use crate::providers::{self as tables, Balance, GoogleSettings, KeyLimits, QuirkSettings, Sticky};
use crate::settings::SecretRef;
use crate::store::redis::RedisSettings;
use crate::target::{ConcurrencyRules, Deadlines, Origin, TargetName, Traits};

/// A configuration without contradictions, in which every name leads somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The configuration as written, for everything that is not resolved below.
    pub config: Config,
    /// Providers, by name.
    pub providers: BTreeMap<Arc<str>, CheckedProvider>,
    /// Aliases in the order written.
    pub models: Vec<CheckedModel>,
    /// Versions of the API, by name.
    pub versions: Vec<CheckedApi>,
    /// Prices of its own.
    pub prices: Owns,
    /// What may be spent.
    pub budgets: Vec<Budget>,
}

/// One provider with its preset merged in.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedProvider {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The preset that it starts from.
    pub preset: Option<String>,
    /// The word in the table of dialects.
    pub dialect: String,
    /// Where its requests go; `None` for one that answers inside the process, and where the environment says it.
    pub base: Option<Base>,
    /// API keys in the order written; where none is, the variable that the preset names.
    pub keys: Vec<SecretRef>,
    /// The same with all that was written of them.
    pub pool: Vec<CheckedKey>,
    /// How one of them is chosen.
    pub balance: Balance,
    /// What requests bear the same key by.
    pub sticky: Option<Sticky>,
    /// How many may be at each of its targets at once.
    pub concurrency: ConcurrencyRules,
    /// What happens after faults, where it is not the usual.
    pub faults: FaultRules,
    /// How the key is sent.
    pub auth: Auth,
    /// Where on Vertex AI, for providers there.
    pub google: Option<GoogleSettings>,
    /// Which resource of Azure, where one is named.
    pub azure: Option<CheckedAzure>,
    /// How requests are signed for AWS, where they are.
    pub aws: Option<CheckedAws>,
    /// Headers added to every request.
    pub headers: Vec<(http::HeaderName, HeaderText)>,
    /// Query parameters added to every request.
    pub query: BTreeMap<String, String>,
    /// Models to list besides those of the aliases.
    pub models: Vec<String>,
    /// What policies can require of it.
    pub traits: Traits,
    /// Its deadlines: its own, else its preset's, else the general ones.
    pub deadlines: Deadlines,
    /// Deviations from the dialect: the preset's with its own merged in.
    pub quirks: QuirkSettings,
}

/// One key of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedKey {
    /// Where the secret is.
    pub secret: SecretRef,
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Whose account it is.
    pub account: Arc<str>,
    /// What it may be used for.
    pub limits: KeyLimits,
    /// Headers that go with it.
    pub headers: Vec<(http::HeaderName, HeaderText)>,
}

/// Where a provider's requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Scheme, host and port, and how TLS is spoken.
    pub origin: Origin,
    /// What every path begins with: empty, or with a leading and without a trailing slash (`/v1`).
    pub path: String,
}

/// The value of an added header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderText {
    /// The text itself.
    Plain(http::HeaderValue),
    /// A secret by reference.
    Secret(SecretRef),
}

/// One alias.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedModel {
    /// The name that clients ask for.
    pub name: Arc<str>,
    /// Targets in the order written, with their weights where some are written; one at least is above zero. None where
    /// the alias has versions.
    pub targets: Vec<CheckedTarget>,
    /// How they are put in order.
    pub strategy: Option<StrategySettings>,
    /// How the attempts are made.
    pub manner: Manner,
    /// What follows when all targets failed; leads to no cycle.
    pub fallback: Vec<Hop>,
    /// Versions in the order written.
    pub versions: Vec<CheckedVersion>,
    /// Mixed into the draw of versions.
    pub seed: Arc<str>,
}

/// One version of an alias.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedVersion {
    /// `alias@version`.
    pub name: Arc<str>,
    /// Percent of the callers.
    pub share: f64,
    /// Targets in the order written, with their weights where some are written.
    pub targets: Vec<CheckedTarget>,
    /// How they are put in order.
    pub strategy: Option<StrategySettings>,
    /// What follows when all targets failed, before what follows for the alias.
    pub fallback: Vec<Hop>,
}

/// One target of an alias.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedTarget {
    /// `provider/model`.
    pub name: TargetName,
    /// Its share of first tries.
    pub weight: Option<f64>,
    /// Its place for strategies that ask for it.
    pub priority: Option<u32>,
    /// The class of its cost.
    pub tier: Option<TierWord>,
    /// How good its answers are, 0 to 1.
    pub quality: Option<f64>,
    /// Whether it can go on with an answer that another one began.
    pub continues: bool,
}

/// One version of the API.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedApi {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings as written.
    pub settings: VersionSettings,
    /// Its own aliases in the order written.
    pub models: Vec<CheckedModel>,
}

/// One step of a fallback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hop {
    /// Another alias.
    Alias(Arc<str>),
    /// A target.
    Target(TargetName),
}

/// What is known of providers before any is configured.
pub trait Vendors {
    /// The preset of this name or alias.
    fn preset(&self, name: &str) -> Option<&'static Preset>;
    /// The names of all presets.
    fn presets(&self) -> Vec<&str>;
    /// Whether providers of this dialect answer inside the process, without a URL; `None` for an unknown word.
    fn is_local(&self, dialect: &str) -> Option<bool>;
}

/// The tables of `providers/`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shipped;

impl Vendors for Shipped {
    fn preset(&self, name: &str) -> Option<&'static Preset> {
        presets::find(name)
    }
    fn presets(&self) -> Vec<&str> {
        presets::all().iter().map(|preset| preset.name.as_str()).collect()
    }
    fn is_local(&self, dialect: &str) -> Option<bool> {
        Some(tables::dialect(dialect, &QuirkSettings::default())?.local().is_some())
    }
}

/// Checks the meaning of a configuration. The warnings come along with the good one.
///
/// # Errors
/// Everything that is wrong in form or meaning, with the warnings, in the order of the file.
pub fn check(reading: Reading, vendors: &dyn Vendors) -> Result<(Checked, Diagnostics), Diagnostics> {
    if reading.tree.is_none() && !reading.findings.is_clean() {
        return Err(reading.findings.finish());
    }
    let mut desk = Desk { reading, vendors };
    desk.listeners();
    desk.limits();
    desk.rate_limits();
    desk.who_may_ask();
    desk.vaults();
    desk.deadlines();
    desk.beside();
    desk.data();
    desk.decisions();
    desk.state();
    desk.proxies();
    desk.browsers();
    desk.raw();
    desk.plugins();
    desk.health();
    desk.breaker();
    desk.chaos();
    desk.egress();
    let prices = desk.prices();
    let budgets = desk.budgets();
    let providers = desk.providers();
    let models = desk.models();
    let versions = desk.versions();
    let Reading { config, findings, .. } = desk.reading;
    if !findings.is_clean() {
        return Err(findings.finish());
    }
    Ok((Checked { config, providers, models, versions, prices, budgets }, findings.finish()))
}

/// The checks at work.
struct Desk<'v> {
    reading: Reading,
    vendors: &'v dyn Vendors,
}

impl Desk<'_> {
    fn error(&mut self, path: &[&str], message: impl Into<String>, help: Option<String>) {
        let place = self.reading.place(path);
        self.reading.findings.error(place, message, help);
    }

    fn warning(&mut self, path: &[&str], message: impl Into<String>, help: Option<String>) {
        let place = self.reading.place(path);
        self.reading.findings.warning(place, message, help);
    }

    fn listeners(&mut self) {
        let (clients, admin) = (self.reading.config.listen, self.reading.config.admin.listen);
        if clash(clients, admin) {
            let message = format!("`admin.listen` ({admin}) and `listen` ({clients}) are the same address");
            self.error(&["admin", "listen"], message, Some("give the admin listener another port".into()));
        }
        if !admin.ip().is_loopback() && self.reading.config.admin.token.is_none() {
            let message = "the admin listener is open to the network and has no token";
            let help = "set `admin.token`; without it, `/admin/v1/*` answers on loopback only";
            self.warning(&["admin", "listen"], message, Some(help.into()));
        }
        if self.reading.config.reuse_port && self.reading.config.drain_delay.0 < Duration::from_secs(1) {
            let message =
                "`reuse_port` needs a `drain_delay` of 1s or more: who has just connected must be served";
            self.error(&["reuse_port"], message, Some("add `drain_delay: 5s`".into()));
        }
        if !clients.ip().is_loopback() && self.reading.config.auth.mode == AuthMode::None {
            let message = "whoever reaches this address may ask, at your expense: `auth` is `none`";
            let help = "set `auth: keys`, unless nobody else can reach it";
            self.warning(&["listen"], message, Some(help.into()));
        }
        if let Some(problem) = self.reading.config.log.fault() {
            let help = "write `error`, `warn`, `info`, `debug`, `trace` or `off`, or a filter: `info,tollgate::upstream=debug`";
            self.error(&["log", "level"], problem, Some(help.into()));
        }
    }

    fn limits(&mut self) {
        let config = &self.reading.config;
        let (limits, compression, upstream) = (&config.limits, &config.compression, &config.upstream);
        let above_zero: [(&[&str], u64); 25] = [
            (&["limits", "headers"], limits.headers as u64),
            (&["limits", "head"], limits.head.0),
            (&["limits", "uri"], limits.uri.0),
            (&["limits", "body"], limits.body.0),
            (&["limits", "upload"], limits.upload.0),
            (&["uploads", "hold"], config.uploads.hold.0),
            (&["uploads", "hold_forms"], config.uploads.hold_forms.0),
            (&["realtime", "max_duration"], nanos(config.realtime.max_duration.0)),
            (&["realtime", "idle"], nanos(config.realtime.idle.0)),
            (&["realtime", "max_frame"], config.realtime.max_frame.0),
            (&["limits", "connections"], limits.connections as u64),
            (&["limits", "connections_per_address"], limits.connections_per_address as u64),
            (&["limits", "in_flight"], limits.in_flight as u64),
            (&["limits", "h2_streams"], u64::from(limits.h2_streams)),
            (&["limits", "h2_head"], limits.h2_head.0),
            (&["limits", "header_timeout"], nanos(limits.header_timeout.0)),
            (&["limits", "body_timeout"], nanos(limits.body_timeout.0)),
            (&["limits", "idle_timeout"], nanos(limits.idle_timeout.0)),
            (&["limits", "write_timeout"], nanos(limits.write_timeout.0)),
            (&["compression", "max_size"], compression.max_size.0),
            (&["compression", "max_ratio"], u64::from(compression.max_ratio)),
            (&["upstream", "max_body"], upstream.max_body.0),
            (&["policies", "max_operations"], config.policies.max_operations),
            (&["policies", "tests_deadline"], nanos(config.policies.tests_deadline.0)),
            (&["queue", "max_wait"], nanos(config.queue.max_wait.0)),
        ];
        let at_most: [(&[&str], u64, u64, &str); 9] = [
            (&["drain_delay"], nanos(config.drain_delay.0), nanos(Duration::from_secs(600)), "10m"),
            (&["drain"], nanos(config.drain.0), nanos(Duration::from_secs(3600)), "1h"),
            (&["limits", "body"], limits.body.0, 1 << 30, "1GiB"),
            (&["limits", "upload"], limits.upload.0, 1 << 40, "1024GiB"),
            (&["uploads", "hold"], config.uploads.hold.0, 64 << 20, "64MiB"),
            (&["uploads", "hold_forms"], config.uploads.hold_forms.0, 256 << 20, "256MiB"),
            (
                &["realtime", "max_duration"],
                nanos(config.realtime.max_duration.0),
                nanos(Duration::from_secs(86_400)),
                "24h",
            ),
            (&["limits", "head"], limits.head.0, 1 << 20, "1MiB"),
            (&["limits", "uri"], limits.uri.0, limits.head.0, "`limits.head`"),
        ];
        for (path, value) in above_zero {
            if value == 0 {
                self.error(path, format!("`{}` must be more than 0", path.join(".")), None);
            }
        }
        for (path, value, most, named) in at_most {
            if value > most {
                self.error(path, format!("`{}` must be at most {named}", path.join(".")), None);
            }
        }
    }

    /// Plugins: what each may be, and that none has another's name.
    fn plugins(&mut self) {
        let list = self.reading.config.plugins.list.clone();
        for (at, plugin) in list.iter().enumerate() {
            let path = plugins::path_in(&self.reading, at);
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            if let Err(message) = plugin.check() {
                self.error(&path, format!("a plugin's settings: {message}"), None);
            } else if list.iter().take(at).any(|other| other.name == plugin.name) {
                self.error(&path, format!("two plugins are called `{}`", plugin.name), None);
            }
        }
    }

    /// Raw requests and files.
    fn raw(&mut self) {
        let headers = self.reading.config.passthrough.headers.clone();
        for (at, name) in headers.iter().enumerate() {
            let complaint = match name.parse::<http::HeaderName>() {
                Err(_) => "is not the name of a header",
                Ok(name) if never_goes_on(&name) => "never goes on to a provider",
                Ok(_) => continue,
            };
            let message = format!("`{name}` in `passthrough.headers` {complaint}");
            self.error(&["passthrough", "headers", &at.to_string()], message, None);
        }
        let config = &self.reading.config;
        if let Some(name) = config.files.provider.clone().filter(|name| !config.providers.contains_key(name))
        {
            let help = did_you_mean(&name, config.providers.keys().map(String::as_str))
                .map(|near| format!("did you mean `{near}`?"));
            self.error(&["files", "provider"], format!("there is no provider `{name}`"), help);
        }
    }

    /// Policies that stand beside those in service.
    fn beside(&mut self) {
        let policies = self.reading.config.policies.clone();
        let (shadow, candidate) = (&policies.shadow, &policies.candidate);
        for (path, share) in [
            (&["policies", "shadow", "sample"], shadow.sample.0),
            (&["policies", "candidate", "share"], candidate.share.0),
        ] {
            if !(0.0..=100.0).contains(&share) {
                self.error(path, format!("`{}` is a share from 0% to 100%", path.join(".")), None);
            }
        }
        let bounds = &candidate.roll_back;
        for (field, bad) in [
            ("error_rate", bounds.error_rate.0 < 0.0),
            ("cost", bounds.cost.0 < 0.0),
            ("min_requests", bounds.min_requests == 0),
            ("window", bounds.window.0.is_zero()),
        ] {
            if bad {
                let message = format!("`policies.candidate.roll_back.{field}` is too small");
                self.error(&["policies", "candidate", "roll_back", field], message, None);
            }
        }
        for (name, dir) in [("shadow", &shadow.dir), ("candidate", &candidate.dir)] {
            if dir.as_ref() == Some(&policies.dir) {
                let message = format!("`policies.{name}` is the directory of the policies in service");
                self.error(&["policies", name], message, None);
            }
        }
    }

    /// Records of decisions.
    fn decisions(&mut self) {
        let settings = self.reading.config.decisions.clone();
        if !(0.0..=1.0).contains(&settings.sample) {
            self.error(&["decisions", "sample"], "`decisions.sample` is a share from 0 to 1", None);
        }
        if settings.max_size.0 < 1 << 20 {
            self.error(&["decisions", "max_size"], "`decisions.max_size` must be at least 1MiB", None);
        }
        if settings.keep.0.is_zero() {
            self.error(&["decisions", "keep"], "`decisions.keep` must be more than 0s", None);
        }
        if settings.recent > 100_000 {
            self.error(&["decisions", "recent"], "`decisions.recent` must be at most 100000", None);
        }
        for (at, name) in settings.headers.iter().enumerate() {
            if name.parse::<http::HeaderName>().is_err() {
                let message = format!("`{name}` in `decisions.headers` is not the name of a header");
                self.error(&["decisions", "headers", &at.to_string()], message, None);
            }
        }
    }

    /// What is kept for good.
    fn state(&mut self) {
        let settings = self.reading.config.state.clone();
        if let Err(help) = settings.database() {
            let message = "`state.ledger` is no database that is known";
            self.error(&["state", "ledger"], message, Some(help));
        }
        let postgres = &settings.postgres;
        if postgres.outbox_max < 1_000 {
            let message = "`state.postgres.outbox_max` must be at least 1000";
            self.error(&["state", "postgres", "outbox_max"], message, None);
        }
        if postgres.timeout.0.is_zero() {
            self.error(
                &["state", "postgres", "timeout"],
                "`state.postgres.timeout` must be more than 0s",
                None,
            );
        }
        if !settings.is_shared() && self.reading.is_written(&["state", "postgres"]) {
            let message = "`state.postgres` does nothing: `state.ledger` is no address of PostgreSQL";
            self.warning(&["state", "postgres"], message, None);
        }
        let auth = &self.reading.config.auth;
        if settings.is_shared() && auth.mode != AuthMode::None && auth.pepper.is_none() {
            let message = "keys that are made while this gateway runs are known to it alone";
            let help = "give all gateways of this PostgreSQL the same `auth.pepper`, and they share keys";
            self.warning(&["state", "ledger"], message, Some(help.into()));
        }
        if settings.keep.0 < Duration::from_secs(86_400) {
            self.error(&["state", "keep"], "`state.keep` must be at least 1 day", None);
        }
        for (field, what) in settings.redis.iter().flat_map(RedisSettings::complaints) {
            let message = format!("`state.redis.{field}` cannot be used");
            self.error(&["state", "redis", field], message, Some(what));
        }
    }

    fn deadlines(&mut self) {
        let config = &self.reading.config;
        let (deadlines, retries) = (config.deadlines.clone(), config.retries.clone());
        let policy = config.policies.deadline.0;
        let handover = deadlines.handover.map_or(Deadlines::default().handover, |period| period.0);
        let named: [(&[&str], Duration); 7] = [
            (&["deadlines", "connect"], deadlines.connect.0),
            (&["deadlines", "first_byte"], deadlines.first_byte.0),
            (&["deadlines", "first_token"], deadlines.first_token.0),
            (&["deadlines", "idle"], deadlines.idle.0),
            (&["deadlines", "handover"], handover),
            (&["deadlines", "total"], deadlines.total.0),
            (&["policies", "deadline"], policy),
        ];
        for (path, value) in named {
            if value.is_zero() {
                self.error(path, format!("`{}` must be more than 0s", path.join(".")), None);
            } else if value > deadlines.total.0 && self.reading.is_written(path) {
                let message =
                    format!("`{}` is longer than `deadlines.total`, so it never passes", path.join("."));
                self.warning(path, message, None);
            }
        }
        if retries.max_attempts == 0 {
            self.error(&["retries", "max_attempts"], "`retries.max_attempts` must be at least 1", None);
        }
        if !(0.0..=1.0).contains(&retries.budget) {
            self.error(&["retries", "budget"], "`retries.budget` is a share from 0 to 1", None);
        }
        if retries.backoff > retries.max_backoff {
            let message = "`retries.backoff` is longer than `retries.max_backoff`";
            self.error(&["retries", "backoff"], message, None);
        }
    }
}

/// Credentials, and what concerns one connection only.
fn never_goes_on(name: &http::HeaderName) -> bool {
    const NEVER: [&str; 15] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "host",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "expect",
    ];
    NEVER.contains(&name.as_str())
}

/// Whether both cannot be bound at once.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_ip
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What is wrong with a word that policies and log lines will carry.
fn bad_word(word: &str) -> Option<&'static str> {
    if word.is_empty() {
        Some("is empty")
    } else if word.chars().count() > 128 {
        Some("is longer than 128 characters")
    } else if word.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Some("contains white space or control characters")
    } else {
        None
    }
}
