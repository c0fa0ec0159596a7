//! Configuration as written → checked (pure) → built snapshot; watched, swapped whole, the last good one kept.

mod account;
mod alerts;
mod beside;
mod build;
pub mod check;
mod config;
mod desk;
mod diagnostic;
mod feed;
mod findings;
pub mod import;
mod jwks;
mod kept;
mod keystore;
mod node;
mod plugins;
mod read;
mod reload;
pub mod replay;
mod schema;
mod secrets;
mod shared;
mod sources;
mod state;
mod tellable;
mod trial;
mod upkeep;
mod validate;
mod vaults;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use alerts::carry_alerts;
pub use build::Built;
pub use check::{
    Base, Checked, CheckedKey, CheckedModel, CheckedProvider, HeaderText, Hop, Shipped, Vendors, base, check,
};
pub use config::Config;
pub use desk::Desk;
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use feed::feed;
pub use jwks::follow;
pub use kept::{anchor, restore, share_keys};
pub use plugins::{PluginBench, PluginsSettings, usual_cache};
pub use read::{Reading, read, utf8};
pub use reload::announce;
pub use schema::{reference_markdown, schema_json};
pub use trial::{Report, Tested, Wanted};
pub use upkeep::Upkeep;
pub use watch::Watch;

use crate::clock::{Clock, SystemClock};
use crate::gateway::{Figures, Snapshot};
use crate::listener::ListenerSettings;
use crate::plugin::Services;
use crate::policy;
use crate::providers::{KeySettings, ProviderSettings, presets};
use crate::settings::SecretRef;
use secrecy::SecretString;
use secrets::Secrets;
use sources::{Sources, directory};
pub use vaults::Notes;
use vaults::Vaults;

/// The configuration file that is taken when nobody names one.
const USUAL_FILE: &str = "tollgate.yaml";

/// The configuration that is used when there is no file.
pub const DEFAULT_YAML: &str = include_str!("house/default.yaml");

/// A configuration that was read and checked, with the policies beside it.
pub struct House {
    file: Option<PathBuf>,
    sources: Sources,
    checked: Checked,
    warnings: Diagnostics,
    figures: Arc<Figures>,
    plugins: PluginBench,
    vaults: Vaults,
}

impl House {
    /// Reads and checks the configuration: the file named, else `tollgate.yaml` if there is one, else the embedded
    /// default with every provider whose well-known key variable is set.
    ///
    /// # Errors
    /// Everything that is wrong, with its place.
    pub fn open(config: Option<PathBuf>) -> Result<Self, Diagnostics> {
        Self::opened(config, true)
    }

    /// The same for those who look up no secrets: of a configuration with errors, missing secrets are none.
    ///
    /// # Errors
    /// Everything else that is wrong, with its place.
    pub fn open_without_secrets(config: Option<PathBuf>) -> Result<Self, Diagnostics> {
        Self::opened(config, false)
    }

    fn opened(config: Option<PathBuf>, secrets: bool) -> Result<Self, Diagnostics> {
        let usual = || Path::new(USUAL_FILE).exists().then(|| PathBuf::from(USUAL_FILE));
        let file = config.or_else(usual);
        let sources = Sources::read(file.as_deref())?;
        let (checked, warnings) = checked(&sources, secrets)?;
        let figures = Arc::new(Figures::new(Arc::new(SystemClock)));
        let plugins = PluginBench::of_a_command(&checked.config.plugins);
        let vaults = Vaults::new(&checked.config, directory(file.as_deref()));
        Ok(Self { file, sources, checked, warnings, figures, plugins, vaults })
    }

    /// The configuration.
    pub fn checked(&self) -> &Checked {
        &self.checked
    }

    /// The configuration's name for a message: its file, as it was named.
    pub fn name(&self) -> String {
        shown(self.file.as_deref())
    }

    /// An error at the place of a path of keys in the configuration, with its line.
    pub fn fault_at(&self, path: &[&str], message: impl Into<String>) -> Diagnostic {
        self.sources.fault_at(&self.name(), path, message)
    }

    /// What is probably not meant.
    pub fn warnings(&self) -> &Diagnostics {
        &self.warnings
    }

    /// Prices and health, which outlive every snapshot.
    pub fn figures(&self) -> Arc<Figures> {
        self.figures.clone()
    }

    /// Hands plugins what they may use: requests outward, embeddings.
    pub fn serve_plugins(&mut self, services: Services) {
        self.plugins = PluginBench::new(&self.checked.config.plugins, services);
    }

    /// Bearer token of the admin API, for those who ask a running gateway.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn admin_token(&self) -> Result<Option<SecretString>, String> {
        let token = self.checked.config.admin.token.as_ref();
        let resolved = token.map(|token| self.secrets().resolve(token));
        resolved.transpose().map_err(|error| format!("admin.token: {error}"))
    }

    /// Where references lead.
    fn secrets(&self) -> Secrets<'_> {
        let secrets = Secrets::new(directory(self.file.as_deref()));
        secrets.with_keystore(&self.checked.config.keystore).with_vaults(&self.vaults)
    }

    /// Accesses to stores of secrets, for the audit log.
    pub fn notes(&self) -> Arc<Notes> {
        self.vaults.notes()
    }

    /// Gives back what opens the stores of secrets, at the end. Blocks, for so long at most.
    pub fn closer(&self) -> impl FnOnce(std::time::Duration) + Send + 'static {
        self.vaults.closer()
    }

    /// How secrets in stores stand, without their values.
    pub fn standings(&self) -> impl Fn() -> Vec<serde_json::Value> + Send + Sync + 'static {
        self.vaults.standings()
    }

    /// Builds what requests are served with: secrets resolved, policies compiled.
    ///
    /// # Errors
    /// Everything that is missing or does not compile.
    pub fn build(&self, clock: &dyn Clock) -> Result<Built, Diagnostics> {
        let name = shown(self.file.as_deref());
        let bench = (&self.figures, &self.plugins);
        let built = built(&name, &self.checked, &self.sources, &self.secrets(), bench, clock)?;
        self.vaults.serve(&self.checked.config);
        Ok(built)
    }

    /// Builds the same with secrets that are imagined, for those who want to know whether everything else is good.
    ///
    /// # Errors
    /// Everything that does not compile, and tests of policies that fail.
    pub fn rehearse(&self) -> Result<Built, Diagnostics> {
        let bench = (&self.figures, &self.plugins);
        built(&self.name(), &self.checked, &self.sources, &Secrets::imagined(), bench, &SystemClock)
    }

    /// Plugins that a snapshot is without, each with its reason and its place in the configuration.
    pub fn absent(&self, snapshot: &Snapshot) -> Diagnostics {
        let (name, config) = (self.name(), &self.checked.config.plugins);
        let text = self.sources.config.as_ref().map(|(_, text)| text.as_str());
        let faults = snapshot.plugins.faults();
        Diagnostics(faults.map(|(plugin, why)| plugins::fault(&name, text, config, plugin, why)).collect())
    }

    /// Runs the tests of the policies, and says what they reached. Needs no secrets.
    ///
    /// # Errors
    /// What `serve` would refuse besides failing tests; tests that cannot be read.
    pub fn test(&self, wanted: &Wanted<'_>) -> Result<Report, Diagnostics> {
        let built = self.sketched(None)?;
        trial::run(&self.checked.config, &self.sources, &built.snapshot, &built.terms, wanted)
    }

    /// Builds the same without secrets, for those who plan and never send; with the policies of another directory, if
    /// one is named.
    ///
    /// # Errors
    /// Everything that does not compile.
    pub fn sketch(&self, policies: Option<&Path>) -> Result<Arc<Snapshot>, Diagnostics> {
        let built = self.sketched(policies)?;
        // Without a ledger, budgets stand as if nothing were spent; without a desk, there would be none.
        let _ = self.figures.desk();
        self.figures.configure(built.terms);
        Ok(built.snapshot)
    }

    fn sketched(&self, policies: Option<&Path>) -> Result<Built, Diagnostics> {
        let mut sources = self.sources.clone();
        if let Some(dir) = policies {
            sources.take_policies(dir)?;
        }
        let name = shown(self.file.as_deref());
        build::build(
            &name,
            &self.checked,
            &sources,
            &Secrets::imagined(),
            &self.figures,
            &self.plugins,
            &SystemClock,
        )
    }
}

impl Checked {
    /// What the client listener wants to know.
    pub fn listener(&self) -> ListenerSettings {
        ListenerSettings {
            limits: self.config.limits.clone(),
            tls: self.config.tls.clone(),
            compression: self.config.compression.clone(),
            reuse_port: self.config.reuse_port,
        }
    }
}

fn checked(sources: &Sources, secrets: bool) -> Result<(Checked, Diagnostics), Diagnostics> {
    let (checked, mut warnings) = configured(sources, secrets)?;
    let texts: Vec<policy::Source> = sources.policies.iter().map(Into::into).collect();
    let unheard = policy::unheard(&texts);
    warnings.0.extend(unheard.iter().map(|problem| build::policy_problem(problem, &texts).warning()));
    warnings.0.extend(sources.paths.unread().into_iter().map(|file| {
        let message =
            "is not read: policies lie in the directory of the policies itself, what they import in `lib/`";
        Diagnostic::error(file.display().to_string(), message).warning()
    }));
    Ok((checked, warnings))
}

/// With `secrets`, those that lead to nothing are told with what else is wrong.
fn configured(sources: &Sources, secrets: bool) -> Result<(Checked, Diagnostics), Diagnostics> {
    match &sources.config {
        Some((file, text)) => {
            let (name, dir) = (shown(Some(file)), directory(Some(file)));
            let reading = read(&name, text);
            let keystore = reading.config.keystore.clone();
            let (mut checked, warnings) = check(reading, &Shipped).map_err(|mut all| {
                let secrets = if secrets { Secrets::new(dir) } else { Secrets::imagined() };
                let secrets = secrets.with_keystore(&keystore);
                all.0.extend(build::beside(&name, sources, &secrets));
                all.sort();
                all
            })?;
            checked.config.settle_paths(dir);
            Ok((checked, warnings))
        }
        None => {
            let mut reading = read(&shown(None), DEFAULT_YAML);
            discover(&mut reading.config, &|name| {
                std::env::var_os(name).is_some_and(|value| !value.is_empty())
            });
            check(reading, &Shipped)
        }
    }
}

/// What is wrong with the text of a configuration by itself.
fn faults_in(file: &Path, text: &str) -> Vec<Diagnostic> {
    check(read(&shown(Some(file)), text), &Shipped).map_or_else(|faults| faults.0, |_| Vec::new())
}

/// Adds every provider whose well-known key variable is set.
fn discover(config: &mut Config, is_set: &dyn Fn(&str) -> bool) {
    for preset in presets::all() {
        let Some(variable) = preset.key_env.as_deref().filter(|_| preset.base_url.is_some()) else {
            continue;
        };
        let regional = preset.base_url.as_ref().is_some_and(|url| url.contains("{region}"));
        if regional && !account::REGIONS.iter().any(|region| is_set(region)) {
            continue;
        }
        if is_set(variable) && !config.providers.contains_key(&preset.name) {
            let keys = vec![KeySettings::Plain(SecretRef::Env(variable.to_owned()))];
            config
                .providers
                .insert(preset.name.clone(), ProviderSettings { keys, ..ProviderSettings::default() });
        }
    }
}

fn built(
    name: &str,
    checked: &Checked,
    sources: &Sources,
    secrets: &Secrets<'_>,
    (figures, plugins): (&Arc<Figures>, &PluginBench),
    clock: &dyn Clock,
) -> Result<Built, Diagnostics> {
    let mut built = build::build(name, checked, sources, secrets, figures, plugins, clock)?;
    built.tests = trial::before_service(&checked.config, sources, &built.snapshot, &built.terms)?;
    beside::try_out(&checked.config, sources, &mut built.snapshot, &built.terms);
    Ok(built)
}

fn shown(file: Option<&Path>) -> String {
    file.map_or_else(|| "(embedded default)".to_owned(), |file| file.display().to_string())
}
