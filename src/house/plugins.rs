//! The section `plugins:` and the files that it means.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::diagnostic::Diagnostic;
use super::read::{Reading, read};
use super::secrets::below;
use super::sources::{Stamp, stamp};
use crate::plugin::{FILE_CAP, PluginHost, PluginSet, PluginSettings, PluginSource, Services};

/// Plugins: WebAssembly components that policies ask, and that guard and observe requests.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PluginsSettings {
    /// Directory of the plugins, watched. Every `NAME.wasm` in it is a plugin of that name; it gets the default
    /// settings, and so sees no text, unless `list` says otherwise.
    pub dir: PathBuf,
    /// Directory for compiled code, by content; by default `tollgate` in the user's cache directory. Changing it needs
    /// a restart.
    pub cache: Option<PathBuf>,
    /// The model, or the alias of one, that makes embeddings for plugins that were granted `ai`. Without it, they get
    /// none.
    pub embeddings: Option<String>,
    /// Plugins with settings of their own.
    pub list: Vec<PluginSettings>,
}

impl Default for PluginsSettings {
    fn default() -> Self {
        Self { dir: "plugins".into(), cache: None, embeddings: None, list: Vec::new() }
    }
}

/// `plugins:` is a directory, a list of plugins, or a map with both.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum PluginsAsWritten {
    /// Directory of the plugins.
    Dir(PathBuf),
    /// Plugins with settings of their own.
    List(Vec<PluginSettings>),
    /// With further settings.
    Full(PluginsSettings),
}

pub(super) fn as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PluginsSettings, D::Error> {
    Ok(match Option::deserialize(deserializer)? {
        None => PluginsSettings::default(),
        Some(PluginsAsWritten::Dir(dir)) => PluginsSettings { dir, ..PluginsSettings::default() },
        Some(PluginsAsWritten::List(list)) => PluginsSettings { list, ..PluginsSettings::default() },
        Some(PluginsAsWritten::Full(settings)) => settings,
    })
}

/// A plugin's file as it was when the files were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PluginFile {
    pub(super) path: PathBuf,
    stamp: Option<Stamp>,
    /// Hash of its content, or of the reason why there is none.
    pub(super) hash: blake3::Hash,
}

impl PluginFile {
    /// Whether nothing is in it, or nothing can be read.
    pub(super) fn is_empty(&self) -> bool {
        self.stamp.is_none_or(|(_, size, _)| size == 0)
    }
}

/// Where plugins are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PluginPaths {
    /// The directory.
    pub(super) dir: PathBuf,
    /// Files that the configuration names.
    named: Vec<PathBuf>,
}

impl PluginPaths {
    /// The paths that `settings` name, relative ones below `base`.
    pub(super) fn of(settings: &PluginsSettings, base: &Path) -> Self {
        let dir = below(base, &settings.dir);
        let named = settings.list.iter().map(|plugin| plugin.file_in(&dir)).collect();
        Self { dir, named }
    }

    /// All files: those that are named, and those that lie in the directory.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = self.named.clone();
        files.extend(listing(&self.dir));
        files.sort();
        files.dedup();
        files
    }

    /// All files with their hashes; a file that has not changed since `earlier` is not read again.
    pub(super) fn read(&self, earlier: &[PluginFile]) -> Vec<PluginFile> {
        let one = |path: PathBuf| {
            let stamp = stamp(&path);
            let known =
                earlier.iter().find(|file| file.path == path && stamp.is_some() && file.stamp == stamp);
            let hash = known.map_or_else(|| hash(&path), |file| file.hash);
            PluginFile { path, stamp, hash }
        };
        self.files().into_iter().map(one).collect()
    }
}

/// Whether a file counts as a plugin, by its name.
pub(super) fn is_plugin(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".wasm") && !name.starts_with(['.', '#', '~'])
}

fn listing(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| is_plugin(path) && path.is_file()).collect()
}

fn hash(path: &Path) -> blake3::Hash {
    let size = fs::metadata(path).map(|metadata| metadata.len());
    match size {
        Ok(size) if size > FILE_CAP => blake3::hash(&size.to_le_bytes()),
        Ok(_) => fs::read(path)
            .map_or_else(|error| blake3::hash(error.to_string().as_bytes()), |bytes| blake3::hash(&bytes)),
        Err(error) => blake3::hash(error.to_string().as_bytes()),
    }
}

/// Where a plugin of the list stands in the configuration, whose section is a list or a map with one.
pub(super) fn path_in(reading: &Reading, at: usize) -> Vec<String> {
    let is_map = reading.keys(&["plugins"]).iter().any(|key| *key == "list");
    let list: &[&str] = if is_map { &["plugins", "list"] } else { &["plugins"] };
    list.iter().map(|key| (*key).to_owned()).chain([at.to_string()]).collect()
}

/// Why a plugin is not there, with the place of its entry in the configuration `file`.
pub(super) fn fault(
    file: &str,
    text: Option<&str>,
    config: &PluginsSettings,
    name: &str,
    reason: &str,
) -> Diagnostic {
    let at = config.list.iter().position(|plugin| plugin.name == name);
    let place = text.map(|text| {
        let reading = read(file, text);
        let path = at.map_or_else(|| vec!["plugins".to_owned()], |at| path_in(&reading, at));
        reading.place(&path.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let fault = Diagnostic { place, ..Diagnostic::error(file, format!("plugin `{name}`: {reason}")) };
    if at.is_some() && reason.contains("No such file") {
        return fault.help("a relative `path` begins in the directory of the plugins: `plugins/` beside the configuration, or `plugins.dir`");
    }
    fault
}

/// Every plugin with its settings: those of the list, then those that only lie in the directory.
pub(super) fn configured(
    settings: &PluginsSettings,
    files: &[PluginFile],
    dir: &Path,
) -> Vec<PluginSettings> {
    let named: BTreeMap<PathBuf, &PluginSettings> =
        settings.list.iter().map(|plugin| (plugin.file_in(dir), plugin)).collect();
    let lying = files.iter().filter(|file| !named.contains_key(&file.path)).filter_map(|file| {
        let name = file.path.file_stem()?.to_str()?.to_owned();
        let taken = settings.list.iter().any(|plugin| plugin.name == name);
        (!taken).then(|| PluginSettings { name, ..PluginSettings::default() })
    });
    settings.list.iter().cloned().chain(lying).collect()
}

/// Loads plugins for one snapshot after the other.
#[derive(Clone)]
pub struct PluginBench {
    host: Arc<PluginHost>,
    previous: Option<PluginSet>,
    /// Whether those of the snapshot before go on, whatever the files say.
    held: bool,
}

impl PluginBench {
    /// A bench on a host of its own.
    pub fn new(settings: &PluginsSettings, services: Services) -> Self {
        let cache = settings.cache.clone().or_else(usual_cache);
        Self { host: Arc::new(PluginHost::new(services, cache)), previous: None, held: false }
    }

    /// The bench of a command, which offers plugins nothing.
    pub(super) fn of_a_command(settings: &PluginsSettings) -> Self {
        let cache = settings.cache.clone().or_else(usual_cache);
        Self {
            host: Arc::new(PluginHost::new(Services::default(), cache).of_a_command()),
            previous: None,
            held: false,
        }
    }

    /// The bench for the snapshot after the one with these plugins.
    #[must_use]
    pub fn after(&self, previous: &PluginSet) -> Self {
        Self { host: self.host.clone(), previous: Some(previous.clone()), held: false }
    }

    /// The same, where the plugins of the snapshot before go on as they are.
    pub(super) fn held(&self) -> Self {
        Self { held: true, ..self.clone() }
    }

    /// Whether loading these plugins would take no time, or hardly any. What is not compiled yet is begun with.
    pub(super) fn is_ready(&self, plugins: Vec<PluginSettings>, dir: &Path) -> bool {
        let sources: Vec<_> = plugins.into_iter().map(|settings| PluginSource::read(settings, dir)).collect();
        PluginSet::is_ready(&self.host, &sources, self.previous.as_ref())
    }

    /// Loads the plugins. What is broken now and was not before is a fault: name and reason.
    pub(super) fn load(
        &self,
        plugins: Vec<PluginSettings>,
        dir: &Path,
    ) -> (PluginSet, Vec<(String, String)>) {
        if let (true, Some(previous)) = (self.held, &self.previous) {
            return (previous.clone(), Vec::new());
        }
        let sources = plugins.into_iter().map(|settings| PluginSource::read(settings, dir)).collect();
        let set = PluginSet::load(&self.host, sources, self.previous.as_ref());
        let Some(previous) = &self.previous else { return (set, Vec::new()) };
        let was_absent = |name: &str| previous.get(name).is_some_and(|plugin| plugin.absent().is_some());
        let faults = set.faults().filter(|(name, _)| !was_absent(name));
        let faults = faults.map(|(name, reason)| (name.to_owned(), reason.to_owned())).collect();
        (set, faults)
    }
}

/// Where compiled plugins are kept unless somebody says otherwise: `$XDG_CACHE_HOME/tollgate`, or `~/.cache/tollgate`.
pub fn usual_cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("tollgate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_those_that_are_named_and_those_that_lie_there() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["intent.wasm", "stray.wasm", ".stray.wasm.swp", "notes.txt", "v2.wasm"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let intent = PluginSettings { name: "intent".into(), ..PluginSettings::default() };
        let pii =
            PluginSettings { name: "pii".into(), path: Some("v2.wasm".into()), ..PluginSettings::default() };
        let settings = PluginsSettings { list: vec![intent, pii], ..PluginsSettings::default() };
        let paths = PluginPaths { dir: dir.path().to_owned(), ..PluginPaths::of(&settings, dir.path()) };
        let paths =
            PluginPaths { named: settings.list.iter().map(|p| p.file_in(dir.path())).collect(), ..paths };
        let files = paths.read(&[]);
        let names: Vec<_> = configured(&settings, &files, dir.path()).into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["intent", "pii", "stray"]);

        assert_eq!(paths.read(&files), files);
        fs::write(dir.path().join("v2.wasm"), "another").unwrap();
        let again = paths.read(&files);
        let changed: Vec<_> = files.iter().zip(&again).filter(|(a, b)| a.hash != b.hash).collect();
        assert_eq!(changed.len(), 1);
        assert!(changed[0].0.path.ends_with("v2.wasm"));
    }
}
