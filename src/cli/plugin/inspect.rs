//! `tollgate plugin inspect`: what a file is, before it is trusted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::settings;
use crate::plugin::{self, Examined, FILE_CAP, Grant, MEMORY_CAP, Plugin, PluginSettings};

/// Which file to look at.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Inspect {
    /// The plugin: a component, or a core module that carries its WIT.
    file: PathBuf,
    /// A YAML file with the plugin's settings, as an entry of the configuration's `plugins:`; its limits, grants and
    /// `config` are used to load it.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    /// Prints what can be seen, and what the plugin says of itself.
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let shown = self.file.display();
        let bytes = std::fs::read(&self.file).map_err(|error| format!("{shown}: {error}"))?;
        let examined = plugin::examine(&bytes).map_err(|error| format!("{shown}: {error}"))?;
        let grants = grants(&examined);
        let (settings, own) = match &self.settings {
            Some(file) => (settings::read(file)?, true),
            None => (PluginSettings { grants: Some(granted(&grants)), ..PluginSettings::default() }, false),
        };
        let limits = settings.limits.clone();
        let plugin = settings::load(settings, &self.file)?;
        let report = report(&self.file, &bytes, &examined, &grants, &plugin, &limits);
        if self.json {
            println!("{report:#}");
        } else {
            print!("{}", for_people(&report));
        }
        // A plugin that wants a configuration cannot be started without one: that is no fault of the file.
        let usable = plugin.absent().is_none() || !own;
        Ok(if usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Words for `grants:` that the imports and exports call for.
fn grants(examined: &Examined) -> Vec<&'static str> {
    let imports = |interface: &str| examined.imports.iter().any(|name| interface_of(name) == interface);
    let known = ["log", "clock", "random", "metrics", "state", "ai", "http"];
    let mut grants: Vec<&str> = known.into_iter().filter(|word| imports(word)).collect();
    let exports = |interface: &str| examined.exports.iter().any(|name| interface_of(name) == interface);
    if exports("guard") || exports("classify") {
        grants.push("prompt");
    }
    grants
}

/// Those grants, to load the file with: a request outward goes nowhere.
fn granted(words: &[&str]) -> Vec<Grant> {
    let grants = words.iter().map(|word| match *word {
        "http" => json!({ "http": ["nowhere.invalid"] }),
        word => json!(word),
    });
    grants.filter_map(|grant| serde_json::from_value(grant).ok()).collect()
}

fn report(
    file: &Path,
    bytes: &[u8],
    examined: &Examined,
    grants: &[&str],
    plugin: &Plugin,
    limits: &plugin::PluginLimits,
) -> Value {
    let names = |names: &[String]| -> Vec<String> {
        let ours = names.iter().filter(|name| interface_of(name) != "types");
        ours.map(|name| interface_of(name).to_owned()).collect()
    };
    let mut versions: Vec<&str> = examined
        .imports
        .iter()
        .chain(&examined.exports)
        .filter_map(|name| Some(name.split_once('@')?.1))
        .collect();
    versions.sort_unstable();
    versions.dedup();
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "file": file.display().to_string(),
        "sha256": sha256,
        "bytes": bytes.len(),
        "bytes_at_most": FILE_CAP,
        "kind": if examined.is_component { "component" } else { "core module" },
        "component_bytes": examined.component.len(),
        "contract": versions,
        "exports": names(&examined.exports),
        "imports": names(&examined.imports),
        "grants": grants,
        "limits": limits,
        "memory_at_most": MEMORY_CAP,
        "loads": plugin.absent().is_none(),
        "reason": plugin.absent(),
        "loaded": plugin.loaded(),
    })
}

fn for_people(report: &Value) -> String {
    let list = |key: &str| {
        let words: Vec<&str> =
            report[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    };
    let word = |pointer: &str| match report.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "by default".to_owned(),
        Some(other) => other.to_string(),
    };
    let mut lines = vec![
        (
            "file",
            format!("{} ({} of at most {} bytes)", word("/file"), word("/bytes"), word("/bytes_at_most")),
        ),
        ("sha256", word("/sha256")),
        ("kind", word("/kind")),
        ("contract", format!("tollgate:plugin@{}", list("contract"))),
        ("exports", list("exports")),
        ("imports", list("imports")),
        ("grants", format!("{} (what `grants:` must name)", list("grants"))),
        (
            "limits",
            format!(
                "time {}, window {}, observe {}, init {}, memory {}",
                word("/limits/time"),
                word("/limits/window"),
                word("/limits/observe"),
                word("/limits/init"),
                word("/limits/memory")
            ),
        ),
    ];
    if let Some(manifest) = report.pointer("/loaded/manifest") {
        let text = |key: &str| manifest[key].as_str().unwrap_or_default().to_owned();
        let needs = manifest["needs"].as_object().into_iter().flatten();
        let needs: Vec<&str> = needs
            .filter(|(_, wanted)| **wanted == Value::Bool(true))
            .map(|(need, _)| need.as_str())
            .collect();
        lines.push(("describes", format!("{} {}: {}", text("name"), text("version"), text("description"))));
        lines.push(("needs", if needs.is_empty() { "nothing".to_owned() } else { needs.join(", ") }));
        let snapshot = report.pointer("/loaded/snapshot") == Some(&Value::Bool(true));
        let how = if snapshot {
            "the memory that init left, fresh for each call"
        } else {
            "no snapshot: instances are used again"
        };
        lines.push(("starts from", how.to_owned()));
        lines.push(("loaded in", format!("{} ms", word("/loaded/prepared_ms"))));
    } else {
        lines
            .push(("does not load", format!("{} (give its settings with --settings FILE)", word("/reason"))));
    }
    lines.into_iter().map(|(key, value)| format!("{key:14}{value}\n")).collect()
}

/// `log` of `tollgate:plugin/log@0.1.0`; another's name as it is.
fn interface_of(name: &str) -> &str {
    let Some(rest) = name.strip_prefix("tollgate:plugin/") else { return name };
    rest.split_once('@').map_or(rest, |(interface, _)| interface)
}
