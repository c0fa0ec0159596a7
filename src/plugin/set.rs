//! The plugins of a snapshot, and what all snapshots of a process share for them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::host::{Guest, Preparation, Sandbox};
use super::meters::{self, PluginMeters};
use super::quarantine::Quarantine;
use super::series::Series;
use super::service::Services;
use super::settings::PluginSettings;
use super::shelf::Shelf;
use super::{FILE_CAP, Plugin};

/// Instances of all plugins that may live at once, unless told otherwise.
const INSTANCES: u32 = 1_000;
/// How long a gateway that serves waits for one plugin. Compiling 18 MB of Python takes half a minute.
const PATIENCE: Duration = Duration::from_secs(120);
/// What could not be loaded is not tried again before: each reload, an edit of a policy for one, would wait for it.
const AGAIN: Duration = Duration::from_secs(60);
/// What is compiled within so long holds nothing else up that was changed with it.
const AT_ONCE: Duration = Duration::from_millis(100);
/// How long a command does, on however slow a machine.
const OF_COMMANDS: Duration = Duration::from_secs(3600);

/// What lives as long as the process: the engine, compiled code, what plugins keep, and what they may use.
pub struct PluginHost {
    services: Services,
    /// Where compiled code and snapshots are kept; `None` keeps none.
    cache: Option<PathBuf>,
    instances: u32,
    patience: Duration,
    /// Started for the first plugin.
    sandbox: OnceLock<Result<Arc<Sandbox>, String>>,
    belongings: Mutex<HashMap<String, Belongings>>,
    /// What is being prepared before it is asked for, by what it is made of.
    begun: Mutex<HashMap<[u8; 32], Making>>,
}

/// A plugin that is being prepared, on a thread of its own.
struct Making {
    since: Instant,
    waiting: Receiver<Result<Guest, String>>,
    /// What came of it.
    made: Option<Result<Guest, String>>,
}

/// What a plugin of this name keeps over all reloads.
#[derive(Clone)]
pub(super) struct Belongings {
    pub(super) shelf: Arc<Shelf>,
    pub(super) series: Arc<Series>,
}

/// A plugin's settings and its file as read.
#[derive(Debug, Clone)]
pub struct PluginSource {
    /// The settings.
    pub settings: PluginSettings,
    /// The file.
    pub file: PathBuf,
    /// What it holds, or why it cannot be read.
    pub bytes: Result<Vec<u8>, String>,
}

/// The plugins of one snapshot, by name.
#[derive(Debug, Default, Clone)]
pub struct PluginSet {
    plugins: BTreeMap<String, Arc<Plugin>>,
}

impl PluginHost {
    /// A host that keeps compiled code in the directory `cache`.
    pub fn new(services: Services, cache: Option<PathBuf>) -> Self {
        Self {
            services,
            cache,
            instances: INSTANCES,
            patience: PATIENCE,
            sandbox: OnceLock::new(),
            belongings: Mutex::default(),
            begun: Mutex::default(),
        }
    }

    /// Lets this many instances of all plugins live at once, instead of 1,000.
    #[must_use]
    pub fn with_instances(mut self, instances: u32) -> Self {
        self.instances = instances.max(1);
        self
    }

    /// Waits for plugins as a command does. Whoever serves finds what was not compiled in time with the next reload; when
    /// a command ends, all of it is lost.
    #[must_use]
    pub fn of_a_command(self) -> Self {
        self.with_patience(OF_COMMANDS)
    }

    #[must_use]
    pub(super) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn sandbox(&self) -> Result<Arc<Sandbox>, String> {
        let start = || Sandbox::start(self.cache.as_deref(), self.instances).map(Arc::new);
        self.sandbox.get_or_init(start).clone()
    }

    fn belongings(&self, name: &str) -> Belongings {
        let mut all = self.belongings.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Belongings { shelf: Arc::default(), series: Arc::new(Series::new(name.into())) };
        all.entry(name.to_owned()).or_insert_with(new).clone()
    }
}

impl PluginSource {
    /// Reads a plugin's file, which relative paths and the default `NAME.wasm` place in `dir`.
    pub fn read(settings: PluginSettings, dir: &Path) -> Self {
        let file = settings.file_in(dir);
        let bytes = read(&file);
        Self { settings, file, bytes }
    }

    /// SHA-256 of the file, or of nothing where it cannot be read.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.bytes.as_deref().unwrap_or_default()).into()
    }

    fn identity(&self, sha256: &[u8; 32]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(sha256);
        // Settings are plain data; what cannot be written as JSON does not exist among them.
        hasher.update(serde_json::to_vec(&self.settings).unwrap_or_default());
        hasher.update(self.file.as_os_str().as_encoded_bytes());
        hasher.finalize().into()
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let shown = file.display();
    let size = fs::metadata(file).map_err(|error| format!("{shown}: {error}"))?.len();
    if size > FILE_CAP {
        return Err(format!("{shown}: {size} bytes, a plugin may have {FILE_CAP}"));
    }
    fs::read(file).map_err(|error| format!("{shown}: {error}"))
}

impl PluginSet {
    /// Loads all plugins, on threads of its own, and waits for them. What `previous` holds unchanged is taken over; what
    /// could not be loaded is tried again after a minute.
    /// A plugin that cannot be loaded is in the set as absent; [`PluginSet::faults`] says why.
    pub fn load(host: &PluginHost, sources: Vec<PluginSource>, previous: Option<&Self>) -> Self {
        let mut plugins = BTreeMap::new();
        for mut source in sources {
            let name = source.settings.name.clone();
            if plugins.contains_key(&name) {
                // Which of them was meant cannot be known, so neither is taken.
                source.bytes = Err(format!("two plugins are called `{name}`"));
            }
            let plugin = load(host, source, previous.and_then(|set| set.get(&name)));
            if let Some(reason) = plugin.absent() {
                tracing::warn!(plugin = &*name, reason, "a plugin cannot be loaded");
            }
            plugins.insert(name, plugin);
        }
        // What was begun and is not wanted any more.
        host.begun.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Self { plugins }
    }

    /// Whether loading these would take no time, or hardly any. What is new is begun with, for [`PluginSet::load`] to find;
    /// it is waited for just so long that a small plugin goes into service with what was changed with it.
    pub fn is_ready(host: &PluginHost, sources: &[PluginSource], previous: Option<&Self>) -> bool {
        let mut begun = host.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = sources.iter().filter(|source| source.bytes.is_ok()).filter_map(|source| {
            let sha256 = source.sha256();
            let identity = source.identity(&sha256);
            let same = previous.and_then(|set| set.get(&source.settings.name));
            (!same.is_some_and(|plugin| plugin.is_still(&identity))).then_some((source, sha256, identity))
        });
        let fresh: Vec<_> = fresh.collect();
        begun.retain(|known, _| fresh.iter().any(|(.., identity)| identity == known));
        for (source, sha256, identity) in &fresh {
            // What cannot even begin is told when it is loaded.
            if !begun.contains_key(identity)
                && let Ok(making) = begin(host, source, &shown(sha256))
            {
                begun.insert(*identity, making);
            }
        }
        begun.values_mut().all(|making| making.is_over(host.patience))
    }

    /// The plugin of this name, loaded or absent. `None`: it is not configured.
    pub fn get(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.plugins.get(name)
    }

    /// All plugins, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.plugins.values()
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.plugins.keys().map(String::as_str)
    }

    /// Plugins that are absent, and why.
    pub fn faults(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter_map(|plugin| Some((plugin.name(), plugin.absent()?)))
    }

    /// Whether none is configured.
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }
}

impl Making {
    /// Whether it is done, or was waited for long enough.
    fn is_over(&mut self, patience: Duration) -> bool {
        if self.made.is_none() {
            let left = AT_ONCE.saturating_sub(self.since.elapsed());
            self.made = match self.waiting.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) => None,
                ended => Some(ended.unwrap_or_else(|error| Err(unmade(error, patience)))),
            };
        }
        self.made.is_some() || self.since.elapsed() > patience
    }

    /// What came of it, waited for at most so long since it was begun.
    fn ended(self, patience: Duration) -> Result<Guest, String> {
        let left = patience.saturating_sub(self.since.elapsed());
        let wait = || self.waiting.recv_timeout(left).unwrap_or_else(|error| Err(unmade(error, patience)));
        self.made.unwrap_or_else(wait)
    }
}

fn unmade(error: RecvTimeoutError, patience: Duration) -> String {
    match error {
        RecvTimeoutError::Timeout => format!(
            "not compiled within {patience:?}; that goes on behind, and a reload a minute later finds what it made"
        ),
        RecvTimeoutError::Disconnected => {
            "its preparation broke off: the file is malformed, or too odd".into()
        }
    }
}

impl Plugin {
    /// Whether it is made of this, and need not be loaded again.
    fn is_still(&self, identity: &[u8; 32]) -> bool {
        let lasts = || self.guest.is_ok() || self.again.is_some_and(|at| Instant::now() < at);
        self.identity == *identity && lasts()
    }
}

fn shown(sha256: &[u8; 32]) -> String {
    sha256.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn load(host: &PluginHost, source: PluginSource, previous: Option<&Arc<Plugin>>) -> Arc<Plugin> {
    let sha256 = source.sha256();
    let identity = source.identity(&sha256);
    let name = source.settings.name.clone();
    if let Some(same) = previous.filter(|plugin| plugin.is_still(&identity)) {
        meters::loaded(&name, "kept");
        return Arc::clone(same);
    }
    let was_read = source.bytes.is_ok();
    let sha256 = if was_read { shown(&sha256) } else { String::new() };
    let begun = host.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&identity);
    let making = begun.filter(|_| was_read).map_or_else(|| begin(host, &source, &sha256), Ok);
    let file = source.file.display();
    let ended = |making: Making| making.ended(host.patience).map_err(|error| format!("{file}: {error}"));
    let guest = making.and_then(ended);
    meters::loaded(&name, if guest.is_ok() { "ok" } else { "failed" });
    if let Ok(guest) = &guest {
        let loaded = guest.loaded();
        let (version, snapshot, took_ms) = (&*loaded.manifest.version, loaded.snapshot, loaded.prepared_ms);
        tracing::info!(plugin = &*name, version, sha256, snapshot, took_ms, "a plugin is loaded");
    }
    Arc::new(Plugin {
        meters: PluginMeters::new(&name),
        settings: source.settings,
        file: source.file,
        sha256,
        identity,
        again: if guest.is_err() && was_read { Instant::now().checked_add(AGAIN) } else { None },
        guest,
        quarantine: Quarantine::default(),
    })
}

/// Begins with the preparation of a plugin.
fn begin(host: &PluginHost, source: &PluginSource, sha256: &str) -> Result<Making, String> {
    let settings = &source.settings;
    settings.check()?;
    let bytes = source.bytes.clone()?;
    let shown = source.file.display();
    if let Some(pin) = &settings.sha256
        && !pin.eq_ignore_ascii_case(sha256)
    {
        return Err(format!("{shown}: its SHA-256 is {sha256}, the configuration allows {pin} only"));
    }
    let preparation = Preparation {
        sandbox: host.sandbox()?,
        services: host.services.clone(),
        belongings: host.belongings(&settings.name),
        cache: host.cache.clone(),
        settings: settings.clone(),
        bytes,
    };
    let waiting = preparation.start().map_err(|error| format!("{shown}: {error}"))?;
    Ok(Making { since: Instant::now(), waiting, made: None })
}
