//! A plugin's settings as the commands want them, and the plugin of them in a host of its own.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::house::usual_cache;
use crate::plugin::{Plugin, PluginHost, PluginSet, PluginSettings, PluginSource, Services};

/// Reads settings from a YAML file: one entry of the configuration's `plugins:`.
pub(super) fn read(file: &Path) -> Result<PluginSettings, String> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    serde_yaml::from_str(&text).map_err(|error| format!("{shown}: {error}"))
}

/// Loads one file with these settings, as the gateway would.
pub(super) fn load(mut settings: PluginSettings, file: &Path) -> Result<Arc<Plugin>, String> {
    if settings.name.is_empty() {
        settings.name = name_of(file);
    }
    settings.check()?;
    settings.path = Some(std::path::absolute(file).map_err(|error| format!("{}: {error}", file.display()))?);
    let name = settings.name.clone();
    let source = PluginSource::read(settings, Path::new("."));
    let host = PluginHost::new(Services::default(), usual_cache()).of_a_command();
    let set = PluginSet::load(&host, vec![source], None);
    set.get(&name).cloned().ok_or_else(|| format!("{name}: the host did not take it"))
}

/// A name for a plugin, made of its file's.
pub(super) fn name_of(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
    let name: String = stem.chars().map(plain).take(64).collect();
    if name.is_empty() { "plugin".to_owned() } else { name }
}
