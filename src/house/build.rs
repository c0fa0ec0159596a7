//! Checked configuration, policies and secrets become one [`Snapshot`].

mod aws;
mod azure;
mod dialect;
mod google;
pub(super) mod keys;
mod owners;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::beside;
use super::check::auth::promised;
use super::check::{
    self, Base, Checked, CheckedApi, CheckedKey, CheckedModel, CheckedProvider, CheckedTarget, HeaderText,
    Hop,
};
use super::config::Config;
use super::diagnostic::{self, Diagnostic, Diagnostics};
use super::plugins::{self, PluginBench};
use super::read::read;
use super::secrets::Secrets;
use super::sources::Sources;
use crate::breaker::Allowance;
use crate::clock::Clock;
use crate::executor::Limits;
use crate::facts::market::{Market, Numbers};
use crate::gateway::{ApiVersion, Board, Caching, Figures, RawRules, Retirement, Snapshot, Terms};
use crate::guard::Guards;
use crate::planner::{
    Alias, AliasTarget, Catalogue, Entry, Models, Split, SplitVersion, Strategy, StrategySettings,
};
use crate::plugin::PluginSet;
use crate::policy::{self, Hosted, NamedPlugins, PolicySet};
use crate::providers::percent::encoded;
use crate::providers::presets::Auth;
use crate::providers::{self, Credential, HeaderSettings, HttpPlace, Key, Place, Ring, Target, Vendor};
use crate::queue::LaneTerms;
use crate::settings::SecretRef;
use crate::target::TargetName;

/// The shortest admin token that is worth the name.
const MIN_TOKEN: usize = 16;

/// A whole that can go into service.
pub struct Built {
    /// What requests are served with.
    pub snapshot: Arc<Snapshot>,
    /// References of the secrets that it was built with.
    pub secrets: Vec<String>,
    /// Bearer token of the admin API.
    pub admin_token: Option<SecretString>,
    /// What the figures are told once the snapshot is in service.
    pub terms: Terms,
    /// How many tests of policies it passed.
    pub tests: usize,
}

/// Builds the whole, or says everything that is missing.
///
/// # Errors
/// Secrets that cannot be read, policies that do not compile, with their places.
pub fn build(
    file: &str,
    checked: &Checked,
    sources: &Sources,
    secrets: &Secrets<'_>,
    figures: &Arc<Figures>,
    plugins: &PluginBench,
    clock: &dyn Clock,
) -> Result<Built, Diagnostics> {
    let mut bench = Bench { file, sources, secrets, problems: Vec::new() };
    let plugins = bench.plugins(&checked.config, plugins);
    let listed = listed(checked);
    let vendors: BTreeMap<Arc<str>, Arc<Vendor>> = checked
        .providers
        .iter()
        .filter_map(|(name, provider)| {
            let models = listed.get(name).cloned().unwrap_or_default();
            bench.vendor(provider, models, &plugins).map(|vendor| (name.clone(), Arc::new(vendor)))
        })
        .collect();
    let token = checked.config.admin.token.as_ref().filter(|_| !secrets.are_imagined());
    let admin_token = token.and_then(|token| bench.admin_token(token));

    let catalogue = Catalogue::new(vendors.values().cloned().collect(), entries(&checked.models, &vendors));
    let numbers: Arc<dyn Numbers> = figures.clone();
    let market: Arc<dyn Market> = Arc::new(Board::new(&catalogue, &numbers));
    let versions: Vec<ApiVersion> = checked
        .versions
        .iter()
        .map(|version| api_version(version, checked, &catalogue, &vendors, &numbers))
        .collect();
    bench.pepper(&checked.config);
    bench.shared(&checked.config);
    let keys = bench.keys(&checked.config);
    let auth = bench.auth(&checked.config, &figures.keys);
    let is_there = |model: &str| {
        let provider = TargetName::parse(model).map(|name| name.provider);
        catalogue.knows(model) || provider.is_some_and(|name| checked.providers.contains_key(&name))
    };
    if let Some(model) = checked.config.plugins.embeddings.as_deref().filter(|model| !is_there(model)) {
        let message = format!("plugins.embeddings: there is no model or alias `{model}`");
        let _: Option<()> = bench.problem(&["plugins", "embeddings"], message);
    }
    let hosted = Arc::new(Hosted::new(plugins.clone()));
    let known = declared(checked, names(&catalogue, &versions, &checked.config));
    let beside = beside::load(&checked.config, sources, &known, &hosted);
    let policies = bench.policies(&checked.config, known, hosted);

    let Some(policies) = policies.filter(|_| bench.problems.is_empty()) else {
        return Err(Diagnostics::in_order(bench.problems));
    };
    let config = &checked.config;
    let snapshot = Snapshot {
        hash: sources.hash.chars().take(16).collect::<String>().into(),
        generation: next_generation(),
        built_ms: clock.unix_ms(),
        catalogue,
        market,
        versions,
        strict: config.strict,
        policies,
        embeddings: config.plugins.embeddings.as_deref().map(Into::into),
        beside,
        guards: Guards::of(&plugins),
        pinned: None,
        plugins,
        limits: limits(config),
        total: config.deadlines.total.0,
        keepalive: config.stream.keepalive.0,
        kept: (&config.responses).into(),
        in_flight: config.limits.in_flight,
        auth,
        rate_limits: figures.limits.rules(&config.rate_limits),
        caching: caching(config),
        raw: raw_rules(checked),
        // They were checked.
        proxies: config.proxies.iter().filter_map(|block| block.parse().ok()).collect(),
        cors: config.cors.clone(),
        realtime: checked.config.realtime,
    };
    let presets = vendors.values().filter_map(|vendor| Some((vendor.name.clone(), vendor.preset.clone()?)));
    let terms = Terms {
        own: checked.prices.clone(),
        sources: config.prices.sources.clone(),
        health: config.health,
        breaker: config.breaker,
        lanes: LaneTerms {
            queue: config.queue,
            providers: checked.providers.iter().map(|(name, own)| (name.clone(), own.concurrency)).collect(),
        },
        presets: presets.collect(),
        aliases: Arc::new(snapshot.aliases()),
        keys,
        promised: promised(config),
        budgets: checked.budgets.clone(),
        chaos: config.chaos.clone(),
    };
    let secrets = secrets.read();
    Ok(Built { snapshot: Arc::new(snapshot), secrets, admin_token, terms, tests: 0 })
}

/// What is wrong with the secrets and policies of a configuration that is refused already, so that everything is said
/// at once. Only what is right in its form is looked at.
pub fn beside(file: &str, sources: &Sources, secrets: &Secrets<'_>) -> Vec<Diagnostic> {
    let Some(reading) = sources.config.as_ref().map(|(_, text)| read(file, text)) else { return Vec::new() };
    if reading.tree.is_none() {
        return Vec::new();
    }
    let config = &reading.config;
    let mut bench = Bench { file, sources, secrets, problems: Vec::new() };
    for (name, provider) in config.providers.iter().filter(|(name, _)| reading.is_sound(&["providers", name]))
    {
        let headers = provider.headers.iter().filter_map(|(header, value)| match value {
            HeaderSettings::Secret(details) => Some((["headers", header], &details.secret)),
            HeaderSettings::Text(_) => None,
        });
        let places: Vec<String> = (0..provider.keys.len()).map(|place| place.to_string()).collect();
        let keys = provider.keys.iter().zip(&places).map(|(key, place)| (["keys", place], key.secret()));
        let documents = provider.google.iter().filter_map(|google| google.credentials.as_ref());
        let documents = documents.map(|reference| (["google", "credentials"], reference));
        let applications = provider.azure.iter().filter_map(|azure| azure.client_secret.as_ref());
        let applications = applications.map(|reference| (["azure", "client_secret"], reference));
        // Nobody is asked for the secrets of a configuration that is refused anyway.
        let here = |reference: &SecretRef| !reference.is_remote() && !secrets.are_imagined();
        for (at, reference) in documents.chain(applications).filter(|(_, reference)| here(reference)) {
            if let Err(error) = bench.secrets.document(reference) {
                let path = [&["providers", name.as_str()], &at[..]].concat();
                let _: Option<()> = bench.problem(&path, format!("provider `{name}`: {error}"));
            }
        }
        // A key for Google may be a document; it is read when the whole is built.
        let preset = providers::presets::find(provider.preset.as_ref().unwrap_or(name));
        let keys = keys.filter(|_| preset.is_none_or(|preset| preset.auth != Auth::Google));
        let aws = provider.aws.iter().flat_map(|aws| {
            [
                ("access_key_id", &aws.access_key_id),
                ("secret_access_key", &aws.secret_access_key),
                ("session_token", &aws.session_token),
            ]
        });
        let aws = aws.filter_map(|(field, reference)| Some((["aws", field], reference.as_ref()?)));
        for (at, reference) in headers.chain(keys).chain(aws).filter(|(_, reference)| here(reference)) {
            bench.secret(name, &at, reference);
        }
    }
    let token = config.admin.token.as_ref().filter(|token| !token.is_remote() && !secrets.are_imagined());
    token.map(|token| bench.admin_token(token));
    if reading.is_sound(&["policies"]) && reading.is_sound(&["data"]) {
        let mut aliases = reading.names("models");
        for (name, version) in &config.versions {
            aliases.extend(reading.keys(&["versions", name, "models"]));
            aliases.extend(versions_in(&version.models));
        }
        aliases.extend(versions_in(&config.models));
        let providers = reading.names("providers").into_iter().collect();
        let names = policy::Names {
            aliases: aliases.into_iter().collect(),
            providers,
            rate_limits: rate_limits(config),
            budgets: budgets(config),
            // Of a provider that is refused, nobody knows them.
            marks: None,
        };
        let plugins = plugins::configured(&config.plugins, &sources.plugins, &sources.paths.plugins.dir);
        let named = NamedPlugins(plugins.into_iter().map(|plugin| plugin.name).collect());
        bench.policies(config, names, Arc::new(named));
    }
    bench.problems
}

/// The pinned names of aliases with versions.
fn versions_in(models: &Models) -> impl Iterator<Item = String> {
    models.0.iter().flat_map(|(alias, model)| {
        model.versions.0.iter().map(move |(version, _)| format!("{alias}@{version}"))
    })
}

/// The limits that policies may ask for.
fn rate_limits(config: &Config) -> BTreeSet<String> {
    config.rate_limits.iter().map(|limit| limit.name.clone()).collect()
}

/// The budgets that policies may ask for.
fn budgets(config: &Config) -> BTreeSet<String> {
    config.budgets.iter().map(|budget| budget.name.clone()).collect()
}

/// What policies may name.
pub(super) fn names(catalogue: &Catalogue, versions: &[ApiVersion], config: &Config) -> policy::Names {
    let all = std::iter::once(catalogue).chain(versions.iter().map(|version| &version.catalogue));
    policy::Names {
        aliases: all.flat_map(Catalogue::names).map(ToString::to_string).collect(),
        providers: catalogue.vendors().iter().map(|vendor| vendor.name.to_string()).collect(),
        rate_limits: rate_limits(config),
        budgets: budgets(config),
        marks: Some(policy::Marks::of(catalogue.vendors().iter().map(|vendor| &vendor.traits))),
    }
}

/// The same with providers that could not be built: what is wrong with them was said.
fn declared(checked: &Checked, names: policy::Names) -> policy::Names {
    let providers = checked.providers.keys().map(ToString::to_string).collect();
    let marks = Some(policy::Marks::of(checked.providers.values().map(|provider| &provider.traits)));
    policy::Names { providers, marks, ..names }
}

fn limits(config: &Config) -> Limits {
    Limits {
        retries: config.retries.retries,
        max_attempts: config.retries.max_attempts,
        backoff: config.retries.backoff.0,
        max_backoff: config.retries.max_backoff.0,
        max_body: config.upstream.max_body.0,
        allowance: Allowance { share: config.retries.budget, floor: config.retries.budget_floor },
    }
}

fn caching(config: &Config) -> Caching {
    let own = config.models.0.iter().filter(|(_, model)| model.cache.is_some());
    let versions = config.versions.values().flat_map(|version| &version.models.0);
    let own = own.chain(versions.filter(|(_, model)| model.cache.is_some()));
    Caching {
        usual: config.cache.rules(None),
        aliases: own
            .map(|(name, model)| (name.as_str().into(), config.cache.rules(model.cache.as_ref())))
            .collect(),
        max_answer: config.cache.max_answer.0,
        idempotency: config.idempotency.keep.0,
    }
}

fn raw_rules(checked: &Checked) -> RawRules {
    let config = &checked.config;
    let is_open = |name: &str| {
        let own = config.providers.get(name).and_then(|provider| provider.passthrough);
        own.unwrap_or(config.passthrough.enabled)
    };
    RawRules {
        hold: config.uploads.hold.0,
        hold_forms: config.uploads.hold_forms.0.max(config.uploads.hold.0),
        open: checked.providers.keys().filter(|name| is_open(name)).cloned().collect(),
        headers: config.passthrough.headers.iter().filter_map(|name| name.parse().ok()).collect(),
        files: config.files.provider.as_deref().map(Into::into),
        sharing: owners::sharing(checked),
    }
}

fn next_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Models that stand in the configuration, by provider: listed ones first, then targets of aliases.
fn listed(checked: &Checked) -> BTreeMap<Arc<str>, Vec<Arc<str>>> {
    let mut listed: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
    let mut add = |provider: &Arc<str>, model: Arc<str>| {
        let models = listed.entry(provider.clone()).or_default();
        if !models.contains(&model) {
            models.push(model);
        }
    };
    for (name, provider) in &checked.providers {
        provider.models.iter().for_each(|model| add(name, model.as_str().into()));
    }
    let of_versions = checked.versions.iter().flat_map(|version| &version.models);
    for model in checked.models.iter().chain(of_versions) {
        let ways = model.versions.iter().map(|version| (&version.targets, &version.fallback));
        for (targets, fallback) in ways.chain([(&model.targets, &model.fallback)]) {
            let fallbacks = fallback.iter().filter_map(|hop| match hop {
                Hop::Target(target) => Some(target),
                Hop::Alias(_) => None,
            });
            for target in targets.iter().map(|target| &target.name).chain(fallbacks) {
                add(&target.provider, target.model.clone());
            }
        }
    }
    listed
}

type Vendors = BTreeMap<Arc<str>, Arc<Vendor>>;

fn api_version(
    version: &CheckedApi,
    checked: &Checked,
    general: &Catalogue,
    vendors: &Vendors,
    numbers: &Arc<dyn Numbers>,
) -> ApiVersion {
    let settings = &version.settings;
    let successor = settings.successor.as_ref().and_then(|name| checked.config.versions.get(name));
    let retirement = Retirement {
        deprecated: settings.deprecated,
        sunset: settings.sunset,
        after_sunset: settings.after_sunset,
        link: settings.link.clone(),
        successor: successor.map(|version| version.prefix.clone()),
    };
    let catalogue = general.with(entries(&version.models, vendors), settings.inherit);
    let market = Arc::new(Board::new(&catalogue, numbers));
    let (name, prefix) = (version.name.clone(), settings.prefix.clone());
    ApiVersion::new(name, prefix, catalogue, market, settings.strict, retirement)
}

fn entries(models: &[CheckedModel], vendors: &Vendors) -> Vec<(Arc<str>, Entry)> {
    models.iter().map(|model| (model.name.clone(), entry(model, vendors))).collect()
}

fn entry(model: &CheckedModel, vendors: &Vendors) -> Entry {
    let manner = || (!model.manner.is_plain()).then(|| model.manner.clone());
    if model.versions.is_empty() {
        let alias = alias(&model.targets, &model.fallback, &model.strategy, None, vendors);
        return Entry::One(Alias { manner: manner(), ..alias });
    }
    let versions = model.versions.iter().map(|version| {
        let fallback: Vec<Hop> = version.fallback.iter().chain(&model.fallback).cloned().collect();
        let name = Some(version.name.clone());
        let alias = alias(&version.targets, &fallback, &version.strategy, name, vendors);
        SplitVersion { share: version.share, alias: Alias { manner: manner(), ..alias } }
    });
    Entry::Split(Split { seed: model.seed.clone(), versions: versions.collect() })
}

/// Targets whose provider could not be built are left out: then the whole is refused anyway.
fn alias(
    targets: &[CheckedTarget],
    fallback: &[Hop],
    strategy: &Option<StrategySettings>,
    version: Option<Arc<str>>,
    vendors: &Vendors,
) -> Alias {
    let resolve = |name: &TargetName| {
        vendors.get(&name.provider).map(|vendor| Target::new(vendor.clone(), name.clone()))
    };
    let target = |written: &CheckedTarget| {
        let tier = written.tier.map(|tier| tier.as_str().into());
        let mut target = AliasTarget::new(resolve(&written.name)?, written.weight);
        (target.priority, target.quality, target.tier) = (written.priority, written.quality, tier);
        target.continues = written.continues;
        Some(target)
    };
    Alias {
        targets: targets.iter().filter_map(target).collect(),
        fallback: fallback.iter().map(Hop::name).collect(),
        version,
        // A strategy that makes no sense was refused by the check.
        strategy: strategy.as_ref().and_then(|written| Strategy::of(written).ok()).map(Arc::new),
        manner: None,
    }
}

struct Bench<'a> {
    file: &'a str,
    sources: &'a Sources,
    secrets: &'a Secrets<'a>,
    problems: Vec<Diagnostic>,
}

impl Bench<'_> {
    fn vendor(
        &mut self,
        provider: &CheckedProvider,
        models: Vec<Arc<str>>,
        plugins: &PluginSet,
    ) -> Option<Vendor> {
        let interpreter = self.interpreter(provider, plugins)?;
        if self.secrets.are_imagined() {
            return sketched(provider, models);
        }
        if self.lacks_a_secret(provider) {
            return withheld(provider, models);
        }
        // What is missing of them is said whatever else is missing.
        let headers = self.headers(&provider.name, &["headers"], &provider.headers);
        let on_vertex = match &provider.google {
            Some(google) => Some(self.google(provider, google)?),
            None => None,
        };
        let wire = match &on_vertex {
            Some(place) if provider.dialect == "vertex" => {
                Some(Arc::new(providers::Vertex::new(&provider.quirks, &place.scope)) as Arc<_>)
            }
            _ => providers::dialect(&provider.dialect, &provider.quirks),
        };
        let Some(wire) = wire else {
            let message = format!("provider `{}`: unknown dialect `{}`", provider.name, provider.dialect);
            return self.problem(&["providers", &provider.name, "dialect"], message);
        };
        let key = self.key(provider);
        let region = self.region(provider, key.is_some())?;
        let place = match (&provider.base, &on_vertex, &provider.azure) {
            (_, Some(vertex), _) => place(provider, &vertex.base, None),
            (Some(base), ..) => place(provider, base, region.as_deref()),
            (None, None, Some(azure)) => place(provider, &self.azure_base(provider, azure)?, None),
            (None, None, None) => Place::Local,
        };
        let credential = match (&on_vertex, &provider.azure, &provider.aws) {
            (Some(vertex), ..) => vertex.credential.clone(),
            (None, Some(azure), _) => self.entra(provider, azure)?,
            (None, None, Some(aws)) => match (region, &key) {
                (Some(region), None) => self.signature(provider, aws, region)?,
                _ => Credential::default(),
            },
            (None, None, None) => Credential::default(),
        };
        let key = key.filter(|_| on_vertex.is_none() && matches!(credential, Credential::Headers));
        let ring = match &key {
            Some(key) => self.ring(provider, key)?,
            None => Ring::default(),
        };
        let mut headers = headers?;
        headers.extend(on_vertex.into_iter().flat_map(|vertex| vertex.headers));
        Some(Vendor {
            name: provider.name.clone(),
            preset: preset_of(provider),
            wire,
            interpreter,
            place,
            headers,
            ring,
            credential,
            traits: provider.traits.clone(),
            deadlines: provider.deadlines,
            faults: provider.faults.clone(),
            names_tier: provider.quirks.names_tier(),
            models,
        })
    }

    /// The pool of keys, or the one key that the environment has.
    fn ring(&mut self, provider: &CheckedProvider, first: &SecretRef) -> Option<Ring> {
        let alone = [CheckedKey::plain(first.clone())];
        let is_pool = provider.pool.first().is_some_and(|key| key.secret == *first);
        let written = if is_pool { &provider.pool[..] } else { &alone[..] };
        let (header, prefix) = match provider.auth {
            Auth::Bearer | Auth::Aws | Auth::Google | Auth::None => (AUTHORIZATION, "Bearer "),
            Auth::XApiKey => (HeaderName::from_static("x-api-key"), ""),
            Auth::XGoogApiKey => (HeaderName::from_static("x-goog-api-key"), ""),
            Auth::ApiKey => (HeaderName::from_static("api-key"), ""),
        };
        let (mut keys, mut older) = (Vec::with_capacity(written.len()), Vec::new());
        let mut lacks = false;
        for (place, key) in written.iter().enumerate() {
            if self.is_lapsed(&key.secret) || self.has_lapsed(&key.headers) {
                continue;
            }
            let place = place.to_string();
            let headers = self.headers(&provider.name, &["keys", &place, "headers"], &key.headers);
            let value = self.secret_header(&provider.name, &["keys", &place], &key.secret, prefix);
            let (Some(mut headers), Some(value)) = (headers, value) else {
                lacks = true;
                continue;
            };
            headers.insert(header.clone(), value);
            let recall = self.secrets.vaults().and_then(|vaults| vaults.recall(&key.secret));
            let before = self.secrets.vaults().and_then(|vaults| vaults.before(&key.secret));
            let before = before.and_then(|before| Some((sensitive(prefix, &before)?, headers.clone())));
            let made = |name, headers| Key::new(name, key.account.clone(), headers, key.limits.clone());
            keys.push(made(key.name.clone(), headers).recalled_by(recall));
            if let Some((value, mut headers)) = before {
                headers.insert(header.clone(), value);
                older
                    .push(made(format!("{} (before)", key.name).into(), headers).followed_by(keys.len() - 1));
            }
        }
        keys.extend(older);
        (!lacks).then(|| Ring::new(provider.name.clone(), keys, provider.balance, provider.sticky))
    }

    fn headers(
        &mut self,
        provider: &str,
        at: &[&str],
        written: &[(HeaderName, HeaderText)],
    ) -> Option<HeaderMap> {
        let (mut headers, mut lacks) = (HeaderMap::new(), false);
        for (name, text) in written {
            let value = match text {
                HeaderText::Plain(value) => Some(value.clone()),
                HeaderText::Secret(reference) => {
                    self.secret_header(provider, &[at, &[name.as_str()]].concat(), reference, "")
                }
            };
            lacks |= value.is_none();
            headers.extend(value.map(|value| (name.clone(), value)));
        }
        (!lacks).then_some(headers)
    }

    fn secret_header(
        &mut self,
        provider: &str,
        at: &[&str],
        reference: &SecretRef,
        prefix: &str,
    ) -> Option<HeaderValue> {
        let secret = self.secret(provider, at, reference)?;
        let Some(value) = sensitive(prefix, secret.expose_secret()) else {
            let what = "holds characters that cannot stand in a header";
            let message = format!("provider `{provider}`: the secret `{reference}` {what}");
            return self.problem(&[&["providers", provider], at].concat(), message);
        };
        Some(value)
    }

    /// The secret that `at` below a provider refers to.
    fn secret(&mut self, provider: &str, at: &[&str], reference: &SecretRef) -> Option<SecretString> {
        match self.secrets.resolve(reference) {
            Ok(secret) => Some(secret),
            Err(error) => self
                .problem(&[&["providers", provider], at].concat(), format!("provider `{provider}`: {error}")),
        }
    }

    /// Whether this secret was known once, and its store has not given it for too long.
    fn is_lapsed(&self, reference: &SecretRef) -> bool {
        self.secrets.vaults().is_some_and(|vaults| vaults.is_lapsed(reference))
    }

    /// Whether a provider cannot be asked, because one of its secrets has lapsed, or all keys of its pool.
    fn lacks_a_secret(&self, provider: &CheckedProvider) -> bool {
        let aws = provider.aws.iter().map(|aws| &aws.settings);
        let aws =
            aws.flat_map(|aws| [&aws.access_key_id, &aws.secret_access_key, &aws.session_token]).flatten();
        let google = provider.google.iter().filter_map(|google| google.credentials.as_ref());
        let azure = provider.azure.iter().filter_map(|azure| azure.settings.client_secret.as_ref());
        let pool = !provider.keys.is_empty()
            && provider.pool.iter().all(|key| self.is_lapsed(&key.secret) || self.has_lapsed(&key.headers));
        let mut others = aws.chain(google).chain(azure);
        pool || self.has_lapsed(&provider.headers) || others.any(|reference| self.is_lapsed(reference))
    }

    /// Whether one of these headers holds a secret that has lapsed.
    fn has_lapsed(&self, headers: &[(HeaderName, HeaderText)]) -> bool {
        headers.iter().any(|(_, text)| match text {
            HeaderText::Plain(_) => false,
            HeaderText::Secret(reference) => self.is_lapsed(reference),
        })
    }

    fn admin_token(&mut self, reference: &SecretRef) -> Option<SecretString> {
        match self.secrets.resolve_token(reference, MIN_TOKEN) {
            Ok(token) => Some(token),
            Err(error) => self.problem(&["admin", "token"], format!("admin.token: {error}")),
        }
    }

    /// The plugins. One that broke since the last snapshot keeps the whole from going into service; one that was
    /// broken at start is absent, and its calls end as its `on_error` says.
    fn plugins(&mut self, config: &Config, bench: &PluginBench) -> PluginSet {
        let dir = &self.sources.paths.plugins.dir;
        let configured = plugins::configured(&config.plugins, &self.sources.plugins, dir);
        let (set, faults) = bench.load(configured, dir);
        for (name, reason) in faults {
            let text = self.sources.config.as_ref().map(|(_, text)| text.as_str());
            self.problems.push(plugins::fault(self.file, text, &config.plugins, &name, &reason));
        }
        set
    }

    fn policies(
        &mut self,
        config: &Config,
        names: policy::Names,
        plugins: Arc<dyn policy::plugins::Plugins>,
    ) -> Option<PolicySet> {
        let texts: Vec<policy::Source> = self.sources.policies.iter().map(Into::into).collect();
        match PolicySet::load_with(&texts, &config.policies, &config.data, &names, plugins) {
            Ok(set) => Some(set),
            Err(errors) => {
                self.problems.extend(errors.iter().map(|error| policy_problem(error, &texts)));
                None
            }
        }
    }

    /// A problem at a path of keys.
    fn problem<T>(&mut self, path: &[&str], message: String) -> Option<T> {
        self.problems.push(self.sources.fault_at(self.file, path, message));
        None
    }
}

/// A header's value that is not shown, and is wiped with the last of the requests that bear it.
fn sensitive(prefix: &str, secret: &str) -> Option<HeaderValue> {
    let text = zeroize::Zeroizing::new([prefix, secret].concat().into_bytes());
    let mut value = HeaderValue::from_maybe_shared(bytes::Bytes::from_owner(text)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The preset under which price lists know a provider's models; the sandbox is one by what it speaks.
fn preset_of(provider: &CheckedProvider) -> Option<Arc<str>> {
    let name = provider.preset.as_deref();
    let preset = name.and_then(providers::presets::find).map(|preset| preset.name.as_str());
    preset.or((provider.dialect == "sandbox").then_some("sandbox")).map(Into::into)
}

/// A provider that can be planned with, and never asked.
fn sketched(provider: &CheckedProvider, models: Vec<Arc<str>>) -> Option<Vendor> {
    let wire = providers::dialect(&provider.dialect, &provider.quirks)
        .or_else(|| providers::dialect("openai", &provider.quirks))?;
    let (traits, deadlines, preset) = (provider.traits.clone(), provider.deadlines, preset_of(provider));
    Some(Vendor { preset, traits, deadlines, models, ..Vendor::bare(&provider.name, wire) })
}

/// A provider that is there and answers every attempt with a fault, until its secret is known again.
fn withheld(provider: &CheckedProvider, models: Vec<Arc<str>>) -> Option<Vendor> {
    let nowhere = || check::base("https://withheld.invalid").ok();
    let base = provider.base.clone().or_else(nowhere)?;
    let place = place(provider, &base, None);
    Some(Vendor { place, credential: Credential::Withheld, ..sketched(provider, models)? })
}

fn place(provider: &CheckedProvider, base: &Base, region: Option<&str>) -> Place {
    let query =
        provider.query.iter().map(|(key, value)| format!("{}={}", encoded(key, b""), encoded(value, b"")));
    Place::Http(Box::new(HttpPlace {
        origin: aws::origin(&base.origin, region),
        base_path: base.path.clone(),
        query: query.collect::<Vec<_>>().join("&"),
    }))
}

/// An error of a policy or of one of its tests, with its line.
pub(super) fn policy_problem(error: &policy::PolicyError, texts: &[policy::Source]) -> Diagnostic {
    let text = texts.iter().find(|source| source.path == error.file).map_or("", |source| &source.text);
    let place = diagnostic::Place { line: error.line as usize, column: error.column as usize, length: 1 };
    Diagnostic::error(error.file.display().to_string(), error.message.clone()).at(place, text)
}
