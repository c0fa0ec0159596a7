//! A configuration of LiteLLM's proxy becomes one of Tollgate's; what cannot be carried is listed with its place.

mod defaults;
mod deployment;
mod notes;
mod proxy;
mod vendors;

use std::collections::BTreeMap;
use std::path::PathBuf;

use deployment::Deployment;
use notes::Notes;
use proxy::Proxy;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::node::{Entry, Kind, Node, Scalar, parse};

/// What was made of a foreign configuration.
pub struct Imported {
    /// The configuration, as YAML.
    pub yaml: String,
    /// What could not be carried, each with its place; warnings only.
    pub left: Diagnostics,
    /// Secrets that stood in the file itself, by the name under which the result refers to them.
    pub secrets: BTreeMap<String, SecretString>,
    /// How many providers and aliases there are.
    pub counts: (usize, usize),
}

/// Reads the YAML of LiteLLM's proxy. Variables that are no secrets are looked up in `env`; secrets that stand in the
/// file are referred to as files in `secrets`, else as variables.
///
/// # Errors
/// What makes the file unreadable, or that it has no models.
pub fn litellm(
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    secrets: Option<PathBuf>,
) -> Result<Imported, Diagnostics> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed = parse(text);
    let mut notes = Notes::new(file, text, env, secrets);
    for problem in &parsed.problems {
        if parsed.broken {
            return Err(Diagnostic::error(file, &*problem.message).at(problem.place, text).into());
        }
        notes.left(problem.place, &*problem.message, problem.help.as_deref());
    }
    let root = parsed.root.ok_or_else(|| Diagnostic::error(file, "the file is empty"))?;
    if !root.get("model_list").is_some_and(|list| matches!(list.value.kind, Kind::List(_))) {
        let problem = Diagnostic::error(file, "there is no list `model_list`");
        return Err(problem.help("name the `config.yaml` that `litellm --config` reads").into());
    }

    let mut import = Import::default();
    // What other sections refer to.
    let section = |name: &str| root.get(name).map(|section| &section.value);
    section("environment_variables").into_iter().flat_map(entries).for_each(|field| notes.define(field));
    let credentials: Vec<_> =
        section("credential_list").into_iter().flat_map(items).filter_map(credential).collect();
    for field in entries(&root) {
        match field.key.as_str() {
            "model_list" => {
                let read = |entry| Deployment::read(entry, &credentials, &mut notes);
                import.deployments.extend(items(&field.value).iter().filter_map(read));
            }
            "credential_list" => {}
            _ => import.proxy.read(field, &mut notes),
        }
    }
    let config = import.config(&mut notes);
    let count = |name: &str| config.get(name).and_then(Value::as_object).map_or(0, Map::len);
    let counts = (count("providers"), count("models"));
    let yaml = serde_yaml::to_string(&config)
        .map_err(|error| Diagnostic::error(file, format!("the result cannot be written: {error}")))?;
    let (left, secrets) = notes.finish();
    Ok(Imported { yaml, left, secrets, counts })
}

#[derive(Default)]
struct Import {
    deployments: Vec<Deployment>,
    proxy: Proxy,
}

impl Import {
    fn config(mut self, notes: &mut Notes) -> Map<String, Value> {
        let (mut providers, mut models, mut prices) = (Map::new(), Map::new(), Map::new());
        // Whoever is asked for by the vendor's own name gets it.
        self.deployments.sort_by_key(|found| !found.is_wild());
        own_budgets(&mut self.deployments);
        let reserved: Vec<String> =
            self.deployments.iter().filter_map(|found| found.front().map(str::to_owned)).collect();
        let mut budgets = Vec::new();
        let mut served = BTreeMap::new();
        for found in &mut self.deployments {
            found.limits();
            let wild = found.is_wild();
            let provider = place_provider(&mut providers, &mut served, found, &reserved, wild);
            if wild {
                found.wildcard(&provider, notes);
                continue;
            }
            let target = format!("{provider}/{}", found.model);
            if !found.facts.is_empty() {
                prices.insert(target.clone(), Value::Object(std::mem::take(&mut found.facts)));
            }
            if let Some((dollars, period)) = found.budget.take() {
                budgets.push((target.clone(), dollars, period, found.place));
            }
            if found.alias == target {
                continue;
            }
            let targets = models.entry(found.alias.clone()).or_insert_with(|| json!({ "targets": [] }));
            if let Some(targets) = targets.get_mut("targets").and_then(Value::as_array_mut) {
                let share = found.share();
                match targets.iter_mut().find(|known| known["to"] == *target) {
                    Some(known) => known["weight"] = json!(known["weight"].as_f64().unwrap_or(1.0) + share),
                    None => {
                        targets.push(
                            json!({ "to": target, "weight": share, "order": found.order.unwrap_or(0.0) }),
                        );
                    }
                }
            }
        }
        models.values_mut().for_each(tidy);
        let mut config = Map::new();
        self.proxy.write(&mut config, &mut models, &budgets, notes);
        config.insert("providers".into(), providers.into());
        config.insert("models".into(), models.into());
        if !prices.is_empty() {
            config.insert("prices".into(), json!({ "models": prices }));
        }
        config
    }
}

/// The name of an entry of `credential_list`, and its values.
fn credential(entry: &Node) -> Option<(String, &Node)> {
    Some((text(&entry.get("credential_name")?.value)?, &entry.get("credential_values")?.value))
}

/// A budget of one entry is one of its provider and model: where others have both, the entry gets a provider to itself.
fn own_budgets(deployments: &mut [Deployment]) {
    let same = |a: &Deployment, b: &Deployment| {
        (&a.provider, &a.model, &a.deployment, &a.settings)
            == (&b.provider, &b.model, &b.deployment, &b.settings)
    };
    let shared: Vec<usize> = (0..deployments.len())
        .filter(|at| deployments[*at].budget.is_some())
        .filter(|at| deployments.iter().filter(|other| same(other, &deployments[*at])).count() > 1)
        .collect();
    for at in shared {
        deployments[at].deployment.push_str(&format!(" {at}"));
    }
}

/// The name of the provider with these settings: one that is there already, else a new one. `served` says by provider
/// and model which deployment is meant.
fn place_provider(
    providers: &mut Map<String, Value>,
    served: &mut BTreeMap<(String, String), String>,
    found: &Deployment,
    reserved: &[String],
    wild: bool,
) -> String {
    let mut settings = found.settings.clone();
    let preset = crate::providers::presets::all().iter().any(|preset| preset.name == found.provider);
    for (name, known) in providers.iter_mut() {
        let named = known.get("preset").and_then(Value::as_str).unwrap_or(name);
        let place = (name.clone(), found.model.clone());
        let free = served.get(&place).is_none_or(|deployment| *deployment == found.deployment);
        if free && (named == found.provider || !preset) && joins(known, &settings) {
            served.insert(place, found.deployment.clone());
            return name.clone();
        }
    }
    let host = found.host.as_deref().and_then(|host| host.split('.').next()).unwrap_or_default();
    let host = if host.bytes().all(|byte| byte.is_ascii_digit()) { "" } else { host };
    let numbered = (2..).map(|n| format!("{}-{n}", found.provider));
    let named = [found.provider.clone(), format!("{}-{host}", found.provider)];
    // An alias such as `openai/gpt-4o` would read like a model of a provider with that name.
    let free = |name: &String| {
        !providers.contains_key(name) && (wild || !reserved.contains(name)) && !name.ends_with('-')
    };
    let name = named.into_iter().chain(numbered).find(free).unwrap_or_else(|| found.provider.clone());
    if preset && name != found.provider {
        settings.insert("preset".into(), found.provider.as_str().into());
    }
    providers.insert(name.clone(), settings.into());
    served.insert((name.clone(), found.model.clone()), found.deployment.clone());
    name
}

/// Whether a provider has these settings; deployments of Azure are added to it.
fn joins(known: &mut Value, settings: &Map<String, Value>) -> bool {
    let apart = |settings: &Map<String, Value>| {
        let mut settings = settings.clone();
        settings.remove("preset");
        let azure = settings.get_mut("azure").and_then(Value::as_object_mut);
        let deployments = azure.and_then(|azure| azure.remove("deployments"));
        (settings, deployments.and_then(|map| map.as_object().cloned()).unwrap_or_default())
    };
    let Some(object) = known.as_object_mut() else { return false };
    let ((theirs, mut all), (ours, more)) = (apart(object), apart(settings));
    if theirs != ours {
        return false;
    }
    if !more.is_empty()
        && let Some(azure) = object.get_mut("azure").and_then(Value::as_object_mut)
    {
        all.extend(more);
        azure.insert("deployments".into(), all.into());
    }
    true
}

/// Targets in their order; one that stands alone needs no weight.
fn tidy(model: &mut Value) {
    let Some(targets) = model.get_mut("targets").and_then(Value::as_array_mut) else { return };
    let order = |target: &Value| target["order"].as_f64().unwrap_or(0.0);
    targets.sort_by(|a, b| order(a).total_cmp(&order(b)));
    let first = targets.first().map_or(0.0, order);
    for target in targets.iter_mut() {
        if order(target) > first {
            target["weight"] = json!(0);
        }
        if let Some(target) = target.as_object_mut() {
            target.remove("order");
        }
    }
    if let [only] = targets.as_mut_slice() {
        *only = only["to"].take();
    }
}

/// The entries of a map; nothing where it is none.
fn entries(node: &Node) -> &[Entry] {
    match &node.kind {
        Kind::Map(entries) => entries,
        _ => &[],
    }
}

/// The items of a list; nothing where it is none.
fn items(node: &Node) -> &[Node] {
    match &node.kind {
        Kind::List(items) => items,
        _ => &[],
    }
}

fn text(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Scalar { value: Scalar::Null, .. } => None,
        Kind::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// What a model is called here: a name has no white space.
fn called(name: &str) -> String {
    name.chars().map(|c| if c.is_whitespace() || c.is_control() { '-' } else { c }).collect()
}

fn number(node: &Node) -> Option<f64> {
    text(node)?.parse().ok().filter(|number: &f64| number.is_finite())
}

fn truth(node: &Node) -> bool {
    matches!(node.kind, Kind::Scalar { value: Scalar::Bool(true), .. })
}

fn plain_json(node: &Node) -> Value {
    serde_json::to_value(node.to_value()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
