//! The configuration as written in YAML: every field with its default and its meaning.
//!
//! The doc comments below are the descriptions in the JSON Schema and in `docs/configuration.md`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::alerts::AlertSettings;
use super::keystore::KeystoreSettings;
use super::plugins::{self, PluginsAsWritten, PluginsSettings};
use super::secrets::below;
use super::vaults::SecretsSettings;
use crate::admin::AdminSettings;
use crate::breaker::{BreakerSettings, HealthSettings};
use crate::cache::{CacheSettings, IdempotencySettings};
use crate::executor::ChaosSettings;
use crate::gateway::{
    CorsSettings, DeadlineSettings, FileSettings, PassthroughSettings, RealtimeSettings, RetrySettings,
    StreamSettings, UploadSettings, VersionSettings,
};
use crate::keys::{AuthMode, AuthSettings, KeyTerms};
use crate::ledger::{BudgetSettings, PriceSettings};
use crate::limits::RateLimitSettings;
use crate::listener::{CompressionSettings, LimitSettings, TlsSettings};
use crate::planner::Models;
use crate::policy::PolicySettings;
use crate::providers::ProviderSettings;
use crate::queue::QueueSettings;
use crate::settings::Period;
use crate::store::{DecisionSettings, ResponseSettings, StateSettings};
use crate::telemetry::LogSettings;
use crate::upstream::UpstreamSettings;

/// Configuration of Tollgate, an LLM gateway. Unknown fields are refused; everything has a default. Durations are
/// written `20s`, sizes `20MiB`, secrets only by reference (`env:NAME`, `file:PATH`, …).
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port for clients; port 0 picks one and prints it. Changing it needs a restart.
    #[schemars(extend("format" = "address"))]
    pub listen: SocketAddr,
    /// Whether another gateway may listen on the same address at the same time, so that it can take over while this one
    /// ends (`SO_REUSEPORT`); needs a `drain_delay` of 1s or more. Changing it needs a restart.
    pub reuse_port: bool,
    /// TLS towards clients. Without it, clients speak plain HTTP/1.1 or HTTP/2. Files are read again when they change; other
    /// paths need a restart.
    pub tls: Option<TlsSettings>,
    /// Limits and deadlines of the client listener. Changing it needs a restart.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<LimitSettings>")]
    pub limits: LimitSettings,
    /// Compressed request bodies. Changing it needs a restart.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<CompressionSettings>")]
    pub compression: CompressionSettings,
    /// How long requests are still served once a stop was asked for, while `/readyz` fails already: as long as balancers
    /// need to send them elsewhere; at most `10m`. Changing it needs a restart.
    pub drain_delay: Period,
    /// Proxies in front of the gateway, as blocks of addresses (`10.0.0.0/8`): of what they write into `x-forwarded-for`, the
    /// last address that is none of theirs is the client's. Nobody else's is believed.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<String>>")]
    pub proxies: Vec<String>,
    /// How long running requests may go on after a stop was asked for, and after `drain_delay`; at most `1h`. Changing it needs
    /// a restart.
    pub drain: Period,
    /// Worker threads; by default one for each core. Changing it needs a restart.
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<usize>,
    /// What clients must show: nothing (`none`), a virtual key (`keys`), or a token of an identity provider (`jwt`).
    #[serde(deserialize_with = "auth")]
    #[schemars(with = "Option<AuthAsWritten>")]
    pub auth: AuthSettings,
    /// Secrets that the gateway keeps itself, encrypted at rest: `keystore:NAME`.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<KeystoreSettings>")]
    pub keystore: KeystoreSettings,
    /// Secrets that other machines keep: `vault:PATH#FIELD`, `aws-secrets:NAME#FIELD`.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<SecretsSettings>")]
    pub secrets: SecretsSettings,
    /// Virtual keys by name, for those who keep their configuration in a repository. Others are made with
    /// `tollgate keys create` and kept in the database of `state.ledger`.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<BTreeMap<String, KeyTerms>>")]
    pub keys: BTreeMap<String, KeyTerms>,
    /// How many requests and tokens clients may have in a period, and how many requests at once: by key, team, user,
    /// model or tag. What is over a limit is answered with 429. Counts survive reloads.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<RateLimitSettings>>")]
    pub rate_limits: Vec<RateLimitSettings>,
    /// The admin listener: health, metrics, status. Changing it needs a restart.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<AdminSettings>")]
    pub admin: AdminSettings,
    /// Connections towards providers. Changing it needs a restart.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<UpstreamSettings>")]
    pub upstream: UpstreamSettings,
    /// Directory of the policies (`*.rhai`, watched), or the directory with further settings.
    #[serde(deserialize_with = "policies")]
    #[schemars(with = "Option<PoliciesAsWritten>")]
    pub policies: PolicySettings,
    /// Directory of the plugins (`*.wasm`, watched), a list of plugins, or a map with both.
    #[serde(deserialize_with = "plugins::as_written")]
    #[schemars(with = "Option<PluginsAsWritten>")]
    pub plugins: PluginsSettings,
    /// Tables for policies, in any form: what a policy reads as `data.name`.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub data: serde_json::Map<String, serde_json::Value>,
    /// What is written to standard output and standard error. Changing it needs a restart.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<LogSettings>")]
    pub log: LogSettings,
    /// How streams are kept alive.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<StreamSettings>")]
    pub stream: StreamSettings,
    /// Answers that are kept for `previous_response_id`.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<ResponseSettings>")]
    pub responses: ResponseSettings,
    /// Records of decisions: the directory they are kept in, or the directory with further settings. Changing it needs
    /// a restart.
    #[serde(deserialize_with = "decisions")]
    #[schemars(with = "Option<DecisionsAsWritten>")]
    pub decisions: DecisionSettings,
    /// What is kept for good: ledger, virtual keys, audit log. Changing it needs a restart.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<StateSettings>")]
    pub state: StateSettings,
    /// Answers that are given again to the same question. Off unless a time is set here or at an alias.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<CacheSettings>")]
    pub cache: CacheSettings,
    /// Answers that are given again to the same `Idempotency-Key`.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<IdempotencySettings>")]
    pub idempotency: IdempotencySettings,
    /// Deadlines of upstream attempts and of whole requests; a provider and a policy can set others.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<DeadlineSettings>")]
    pub deadlines: DeadlineSettings,
    /// How failed attempts are repeated.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<RetrySettings>")]
    pub retries: RetrySettings,
    /// Requests that wait for a target which is busy.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<QueueSettings>")]
    pub queue: QueueSettings,
    /// What models cost.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<PriceSettings>")]
    pub prices: PriceSettings,
    /// What may be spent, by whom, on what, in which time.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<BudgetSettings>>")]
    pub budgets: Vec<BudgetSettings>,
    /// Where alerts go. Changing it needs a restart.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<AlertSettings>")]
    pub alerts: AlertSettings,
    /// How the health of providers is watched.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<HealthSettings>")]
    pub health: HealthSettings,
    /// When targets that fail are left alone for a while.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<BreakerSettings>")]
    pub breaker: BreakerSettings,
    /// Faults that are injected on purpose into some of the traffic, each until its end: for game days. None by default.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<ChaosSettings>>")]
    pub chaos: Vec<ChaosSettings>,
    /// Pages in browsers that may call the gateway.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<CorsSettings>")]
    pub cors: CorsSettings,
    /// Raw requests to providers.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<PassthroughSettings>")]
    pub passthrough: PassthroughSettings,
    /// Request bodies that are sent on while they arrive.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<UploadSettings>")]
    pub uploads: UploadSettings,
    /// Files at providers.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<FileSettings>")]
    pub files: FileSettings,
    /// Conversations over a WebSocket.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<RealtimeSettings>")]
    pub realtime: RealtimeSettings,
    /// Providers by name. `openai: {}` is enough where a preset of that name exists.
    #[serde(deserialize_with = "providers")]
    #[schemars(with = "Option<BTreeMap<String, Option<ProviderSettings>>>")]
    pub providers: BTreeMap<String, ProviderSettings>,
    /// Model aliases: the names that clients ask for. `provider/model` always works too.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<Models>")]
    pub models: Models,
    /// Versions of the API by name, each below a prefix of its own. Paths below none of the prefixes (`/v1`, `/v1beta`)
    /// are served as ever.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Option<BTreeMap<String, VersionSettings>>")]
    pub versions: BTreeMap<String, VersionSettings>,
    /// Whether a target that cannot carry all of a request is passed over. When no target is left, the client gets a 400
    /// that names what the first one could not carry. A client can ask for the same with `x-tollgate-strict: true`.
    pub strict: bool,
}

impl Config {
    /// Makes relative paths of files that are read at start begin at `dir`, the directory of the configuration, as
    /// references to secrets and the directory of the policies do.
    pub(super) fn settle_paths(&mut self, dir: &Path) {
        let tls = self.tls.iter_mut().flat_map(|tls| [&mut tls.cert, &mut tls.key]);
        for path in tls
            .chain(self.upstream.extra_roots.as_mut())
            .chain(self.decisions.dir.as_mut())
            .chain(self.plugins.cache.as_mut())
            .chain(self.state.postgres.roots.as_mut())
            .chain(self.state.redis.as_mut().and_then(|redis| redis.ca.as_mut()))
            .chain(self.secrets.vault.as_mut().and_then(|vault| vault.roots.as_mut()))
            .chain([&mut self.state.postgres.outbox])
        {
            *path = below(dir, path);
        }
        if let Some(path) = self.state.ledger.as_ref().and_then(|place| place.strip_prefix("sqlite:")) {
            self.state.ledger = Some(format!("sqlite:{}", below(dir, Path::new(path)).display()));
        }
        if let Some(jwt) = self.auth.jwt.as_mut().filter(|jwt| !jwt.jwks.contains("://")) {
            jwt.jwks = below(dir, Path::new(&jwt.jwks)).display().to_string();
        }
        for source in self.prices.sources.iter_mut().filter(|source| !source.from.contains("://")) {
            source.from = below(dir, Path::new(&source.from)).display().to_string();
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8080).into(),
            reuse_port: false,
            tls: None,
            limits: LimitSettings::default(),
            compression: CompressionSettings::default(),
            drain_delay: Period::secs(0),
            proxies: Vec::new(),
            drain: Period::secs(30),
            workers: None,
            auth: AuthSettings::default(),
            keystore: KeystoreSettings::default(),
            secrets: SecretsSettings::default(),
            keys: BTreeMap::new(),
            rate_limits: Vec::new(),
            admin: AdminSettings::default(),
            upstream: UpstreamSettings::default(),
            policies: PolicySettings::default(),
            plugins: PluginsSettings::default(),
            data: serde_json::Map::new(),
            log: LogSettings::default(),
            stream: StreamSettings::default(),
            responses: ResponseSettings::default(),
            decisions: DecisionSettings::default(),
            state: StateSettings::default(),
            cache: CacheSettings::default(),
            idempotency: IdempotencySettings::default(),
            deadlines: DeadlineSettings::default(),
            retries: RetrySettings::default(),
            queue: QueueSettings::default(),
            prices: PriceSettings::default(),
            budgets: Vec::new(),
            alerts: AlertSettings::default(),
            health: HealthSettings::default(),
            breaker: BreakerSettings::default(),
            chaos: Vec::new(),
            cors: CorsSettings::default(),
            passthrough: PassthroughSettings::default(),
            uploads: UploadSettings::default(),
            files: FileSettings::default(),
            realtime: RealtimeSettings::default(),
            providers: BTreeMap::new(),
            models: Models::default(),
            versions: BTreeMap::new(),
            strict: false,
        }
    }
}

/// `policies:` is a directory, or a map with the directory in it.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum PoliciesAsWritten {
    /// Directory of `*.rhai`, run in file-name order, watched.
    Dir(PathBuf),
    /// With further settings.
    Full(PolicySettings),
}

fn policies<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PolicySettings, D::Error> {
    Ok(match Option::deserialize(deserializer)? {
        None => PolicySettings::default(),
        Some(PoliciesAsWritten::Dir(dir)) => PolicySettings { dir, ..PolicySettings::default() },
        Some(PoliciesAsWritten::Full(settings)) => settings,
    })
}

#[allow(clippy::large_enum_variant, reason = "made once, when a configuration is read")]
/// `auth:` is a word, or a map with the word in it.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum AuthAsWritten {
    /// `none`, `keys` or `jwt`.
    Mode(AuthMode),
    /// With further settings.
    Full(Box<AuthSettings>),
}

fn auth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AuthSettings, D::Error> {
    Ok(match Option::deserialize(deserializer)? {
        None => AuthSettings::default(),
        Some(AuthAsWritten::Mode(mode)) => AuthSettings { mode, ..AuthSettings::default() },
        Some(AuthAsWritten::Full(settings)) => *settings,
    })
}

/// `decisions:` is a directory, or a map with the directory in it.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum DecisionsAsWritten {
    /// Directory of the records.
    Dir(PathBuf),
    /// With further settings.
    Full(DecisionSettings),
}

fn decisions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DecisionSettings, D::Error> {
    Ok(match Option::deserialize(deserializer)? {
        None => DecisionSettings::default(),
        Some(DecisionsAsWritten::Dir(dir)) => {
            DecisionSettings { dir: Some(dir), ..DecisionSettings::default() }
        }
        Some(DecisionsAsWritten::Full(settings)) => settings,
    })
}

fn providers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, ProviderSettings>, D::Error> {
    let written = Option::<BTreeMap<String, Option<ProviderSettings>>>::deserialize(deserializer)?;
    Ok(written.unwrap_or_default().into_iter().map(|(name, s)| (name, s.unwrap_or_default())).collect())
}

/// A section whose lines are all commented out is null, and means its defaults.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
