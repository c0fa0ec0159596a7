//! Judges a tree by the JSON Schema: every problem at its place, in one pass.
//!
//! Only what our own schema uses is understood: `type`, `properties`, `additionalProperties`, `required`, `items`,
//! `enum`, `const`, `anyOf`, `oneOf`, `$ref`, `minimum`, `maximum`, and our formats. A test reads the schema and
//! fails when another keyword appears in it.

use std::net::SocketAddr;

use serde_json::Value;

use super::diagnostic::Place;
use super::findings::Findings;
use super::node::{Kind, Node, Scalar};
use crate::settings::{Date, LocalRef, Percent, Period, Rate, SecretRef, Size};

/// Reports everything in `node` that `schema` does not allow, and marks it as faulty. A plain number where text is
/// expected (`tls_min: 1.3`) becomes text.
pub(super) fn validate(node: &mut Node, schema: &Value, findings: &mut Findings) {
    Walk { root: schema, findings }.value(node, schema, "");
}

/// The known word that was probably meant.
pub(super) fn did_you_mean<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let plain = |word: &str| word.to_lowercase().replace(['-', ' '], "_");
    let word = plain(word);
    let nearest = known.into_iter().map(|k| (strsim::damerau_levenshtein(&plain(k), &word), k)).min()?;
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    (nearest.0 <= allowed).then_some(nearest.1)
}

/// The field that says what another program's field of this name says.
fn otherwise_called<'w>(word: &str, mut known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let (_, ours) = CALLED.iter().find(|(theirs, _)| *theirs == word)?;
    known.find(|known| known == ours)
}

/// Sections of LiteLLM's configuration.
const OF_LITELLM: [&str; 4] = ["model_list", "litellm_settings", "router_settings", "general_settings"];

/// What others call it: fields of theirs, and ours that say the same.
const CALLED: [(&str, &str); 8] = [
    ("api_key", "keys"),
    ("apikey", "keys"),
    ("api_base", "base_url"),
    ("url", "base_url"),
    ("endpoint", "base_url"),
    ("model", "to"),
    ("port", "listen"),
    ("host", "listen"),
];

/// What may be meant by a text or a list in the place of a map.
const INSTEAD: [(&str, &str); 2] = [
    ("models", "write `{ targets: [ provider/model ] }`"),
    ("providers", "write `{ keys: [ env:NAME ] }`, or `{}` for a preset with its usual variable"),
];

struct Walk<'w> {
    root: &'w Value,
    findings: &'w mut Findings,
}

impl<'w> Walk<'w> {
    fn value(&mut self, node: &mut Node, schema: &'w Value, path: &str) {
        if let Some(target) = schema.get("$ref") {
            return match self.resolve(target) {
                Some(target) => self.value(node, target, path),
                None => self.wrong(node, path, "is described by a missing part of the schema"),
            };
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(Value::Array(branches)) = schema.get(word) {
                return self.choice(node, branches, path);
            }
        }
        let accepted = types(schema);
        let fitting = accepted.is_empty() || accepted.iter().any(|kind| fits(node, kind));
        if !(fitting || accepted.contains(&"string") && becomes_text(node)) {
            return self.mismatch(node, &[schema], path);
        }
        match &mut node.kind {
            Kind::Scalar { .. } => self.scalar(node, schema, path),
            Kind::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let anything = &Value::Bool(true);
                    self.value(item, schema.get("items").unwrap_or(anything), &format!("{path}[{index}]"));
                }
            }
            Kind::Map(_) => self.map(node, schema, path),
        }
    }

    fn map(&mut self, node: &mut Node, schema: &'w Value, path: &str) {
        let place = node.place;
        let Kind::Map(entries) = &mut node.kind else { return };
        let properties = schema.get("properties").and_then(Value::as_object);
        for entry in entries.iter_mut() {
            let inside = join(path, &entry.key);
            let known = properties.and_then(|known| known.get(&entry.key));
            match known.or_else(|| schema.get("additionalProperties")) {
                Some(Value::Bool(false)) => {
                    let names = || properties.into_iter().flat_map(|known| known.keys().map(String::as_str));
                    let help = match did_you_mean(&entry.key, names()) {
                        _ if OF_LITELLM.contains(&inside.as_str()) => {
                            "this is a configuration of LiteLLM: `tollgate import litellm FILE` makes one of it".into()
                        }
                        Some(name) => format!("did you mean `{name}`?"),
                        None if let Some(name) = otherwise_called(&entry.key, names()) => {
                            format!("did you mean `{name}`?")
                        }
                        None => format!("known fields: {}", names().collect::<Vec<_>>().join(", ")),
                    };
                    self.findings.error(entry.place, format!("unknown field `{inside}`"), Some(help));
                    self.mask_all(&entry.value, &entry.key);
                    entry.value.faulty = true;
                }
                Some(schema) => self.value(&mut entry.value, schema, &inside),
                None => self.value(&mut entry.value, &Value::Bool(true), &inside),
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !entries.iter().any(|entry| entry.key == name) {
                self.findings.error(place, format!("{} lacks the field `{name}`", quoted(path)), None);
                node.faulty = true;
                return;
            }
        }
    }

    /// One of several forms: taken by the kind of the value, so that problems inside the form are shown themselves.
    fn choice(&mut self, node: &mut Node, branches: &'w [Value], path: &str) {
        let mut flat = Vec::new();
        self.flatten(branches, &mut flat);
        let branches = flat;
        let words: Vec<&str> = branches.iter().flat_map(|branch| words(branch)).collect();
        let nothing = branches.iter().filter(|branch| types(branch) == ["null"]).count();
        if !words.is_empty()
            && words.len() + nothing == branches.len()
            && (nothing == 0 || !fits(node, "null"))
        {
            becomes_text(node);
            return self.word(node, &words, path);
        }
        // A word among forms of which no other is a text: `on_error: open`, or a map.
        let is_text = |branch: &&Value| self::words(branch).is_empty() && types(branch).contains(&"string");
        if !words.is_empty() && fits(node, "string") && !branches.iter().any(is_text) {
            return self.word(node, &words, path);
        }
        let fitting = branches.iter().find(|branch| {
            let accepted = types(branch);
            accepted.is_empty() || accepted.iter().any(|kind| fits(node, kind))
        });
        let as_text = branches.iter().find(|branch| types(branch).contains(&"string"));
        match (fitting, as_text) {
            (Some(branch), _) => self.value(node, branch, path),
            (None, Some(branch)) if becomes_text(node) => self.value(node, branch, path),
            _ => self.mismatch(node, &branches, path),
        }
    }

    fn scalar(&mut self, node: &mut Node, schema: &'w Value, path: &str) {
        let Kind::Scalar { text, value } = &node.kind else { return };
        if let Scalar::Float(number) = value
            && !number.is_finite()
        {
            return self.wrong(node, path, &format!("`{text}` is not a finite number"));
        }
        let words = words(schema);
        if !words.is_empty() {
            return self.word(node, &words, path);
        }
        if let Some(complaint) = out_of_range(value, schema) {
            let complaint = format!("`{text}` {complaint}");
            return self.wrong(node, path, &complaint);
        }
        if *value == Scalar::Null {
            return;
        }
        let verdict = match schema.get("format").and_then(Value::as_str) {
            Some("period") => text.parse::<Period>().map(drop),
            Some("size") => text.parse::<Size>().map(drop),
            Some("date") => text.parse::<Date>().map(drop),
            Some("rate") => text.parse::<Rate>().map(drop),
            Some("percent") => text.parse::<Percent>().map(drop),
            Some("secret") => text.parse::<SecretRef>().map(drop),
            Some("local-secret") => text.parse::<LocalRef>().map(drop),
            Some("address") => text.parse::<SocketAddr>().map(drop).map_err(|_| {
                format!("`{text}` is not an IP address with a port (try \"127.0.0.1:8080\" or \"[::]:8080\")")
            }),
            _ => Ok(()),
        };
        if let Err(complaint) = verdict {
            let format = schema.get("format").and_then(Value::as_str);
            if matches!(format, Some("secret" | "local-secret")) {
                self.findings.mask(node.place);
            }
            self.wrong(node, path, &complaint);
        }
    }

    fn word(&mut self, node: &mut Node, words: &[&str], path: &str) {
        let Kind::Scalar { text, .. } = &node.kind else { return self.expected(node, &listed(words), path) };
        if !words.contains(&text.as_str()) {
            let message = format!("{}: `{text}` is not one of {}", quoted(path), listed(words));
            let help =
                did_you_mean(text, words.iter().copied()).map(|word| format!("did you mean `{word}`?"));
            self.findings.error(node.place, message, help);
            node.faulty = true;
        }
    }

    fn mismatch(&mut self, node: &mut Node, branches: &[&Value], path: &str) {
        let mut expected: Vec<String> = Vec::new();
        for branch in branches {
            let formatted = branch.get("format").and_then(|format| Some((format.as_str()?, branch)));
            match formatted {
                Some((
                    "period" | "size" | "percent" | "secret" | "local-secret" | "date" | "rate",
                    branch,
                )) => {
                    expected.extend(branch.get("description").and_then(Value::as_str).map(str::to_owned));
                }
                Some(("address", _)) => expected.push("an IP address with a port".into()),
                _ => expected.extend(
                    types(branch).iter().filter(|kind| **kind != "null").map(|kind| name(kind).into()),
                ),
            }
        }
        self.expected(node, &expected.join(" or "), path);
    }

    fn expected(&mut self, node: &mut Node, expected: &str, path: &str) {
        // What is found instead of a secret is not repeated.
        let suspicious = is_suspicious(path);
        if suspicious {
            self.mask_all(node, path);
        }
        let found = if suspicious && matches!(node.kind, Kind::Scalar { value: Scalar::Text, .. }) {
            "a text".to_owned()
        } else {
            node.describe()
        };
        let complaint = format!("expected {expected}, found {found}");
        self.wrong(node, path, &complaint);
        let entry = path.split_once('.').filter(|(_, name)| expected == "a map" && !name.contains('.'));
        let instead = entry.and_then(|(section, _)| INSTEAD.iter().find(|(known, _)| *known == section));
        if let Some((_, help)) = instead {
            self.findings.advise(help);
        } else if let (true, Kind::Scalar { text, value }) = (expected == "a list", &node.kind)
            && *value != Scalar::Null
        {
            // A secret's place may hold a good reference, and what it holds else is not shown.
            let shown = !suspicious || text.parse::<SecretRef>().is_ok();
            let one = if !shown {
                "…".to_owned()
            } else if plain(text) {
                text.clone()
            } else {
                format!("{text:?}")
            };
            self.findings.advise(&format!("write `[ {one} ]`"));
        }
    }

    fn wrong(&mut self, node: &mut Node, path: &str, complaint: &str) {
        let message = if path.is_empty() { complaint.to_owned() } else { format!("`{path}`: {complaint}") };
        self.findings.error(node.place, message, None);
        node.faulty = true;
    }

    /// Masks the values below a field by whose name they may be secrets.
    fn mask_all(&mut self, node: &Node, key: &str) {
        let suspicious = is_suspicious(key);
        match &node.kind {
            Kind::Scalar { text, .. } if suspicious && text.parse::<SecretRef>().is_err() => {
                self.findings.mask(node.place);
            }
            Kind::Scalar { .. } => {}
            Kind::List(items) => items.iter().for_each(|item| self.mask_all(item, key)),
            Kind::Map(entries) => entries.iter().for_each(|entry| {
                self.mask_all(&entry.value, if suspicious { key } else { &entry.key });
            }),
        }
    }

    /// The forms of a choice, and of the choices that are themselves forms of it.
    fn flatten(&self, branches: &'w [Value], flat: &mut Vec<&'w Value>) {
        for branch in branches {
            let branch = branch.get("$ref").and_then(|target| self.resolve(target)).unwrap_or(branch);
            match branch.get("anyOf").or_else(|| branch.get("oneOf")) {
                Some(Value::Array(inner)) => self.flatten(inner, flat),
                _ => flat.push(branch),
            }
        }
    }

    fn resolve(&self, target: &Value) -> Option<&'w Value> {
        self.root.pointer(target.as_str()?.strip_prefix('#')?)
    }
}

/// Whether what stands below a name may be a secret.
fn is_suspicious(name: &str) -> bool {
    let name = name.to_lowercase();
    ["key", "secret", "token", "password", "auth", "credential"].iter().any(|word| name.contains(word))
}

/// `path` as an error message names it.
fn quoted(path: &str) -> String {
    if path.is_empty() { "the configuration".into() } else { format!("`{path}`") }
}

fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-/".contains(c));
    let key = if plain { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The kinds of value that a schema accepts; none means all.
fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The words that a schema accepts, where it accepts only certain words.
fn words(schema: &Value) -> Vec<&str> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(Value::String(word)), _) => vec![word],
        (_, Some(Value::Array(words))) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn fits(node: &Node, kind: &str) -> bool {
    match &node.kind {
        Kind::List(_) => kind == "array",
        Kind::Map(_) => kind == "object",
        Kind::Scalar { value, .. } => match value {
            Scalar::Null => kind == "null",
            Scalar::Bool(_) => kind == "boolean",
            Scalar::Int(_) => kind == "integer" || kind == "number",
            Scalar::Float(_) => kind == "number",
            Scalar::Text => kind == "string",
        },
    }
}

/// Takes a plain number or truth for the text that it was written as.
fn becomes_text(node: &mut Node) -> bool {
    match &mut node.kind {
        Kind::Scalar { value, .. } if *value != Scalar::Null => {
            *value = Scalar::Text;
            true
        }
        _ => false,
    }
}

fn out_of_range(value: &Scalar, schema: &Value) -> Option<String> {
    let number = match value {
        Scalar::Int(number) => *number as f64,
        Scalar::Float(number) => *number,
        _ => return None,
    };
    let bound = |word: &str| schema.get(word).and_then(Value::as_f64);
    let most = bound("maximum").or(match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => Some(f64::from(u8::MAX)),
        Some("uint16") => Some(f64::from(u16::MAX)),
        Some("uint32") => Some(f64::from(u32::MAX)),
        Some("int64") => Some(i64::MAX as f64),
        _ => None,
    });
    if let Some(least) = bound("minimum").filter(|least| number < *least) {
        return Some(format!("is less than {least}"));
    }
    most.filter(|most| number > *most).map(|most| format!("is more than {most}"))
}

fn name(kind: &str) -> &str {
    match kind {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a map",
        other => other,
    }
}

/// Whether a text stands in a list of YAML's without quotation marks.
fn plain(text: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "_-./:+@".contains(c);
    text.starts_with(char::is_alphanumeric) && text.chars().all(inside) && !text.ends_with(':')
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Where `path` of keys leads in a tree: the last place that exists on the way.
pub(super) fn place_at(root: &Node, path: &[&str]) -> Place {
    let mut node = root;
    let mut place = root.place;
    for step in path {
        let next = match &node.kind {
            Kind::Map(_) => node.get(step).map(|entry| (&entry.value, entry.place)),
            Kind::List(items) => {
                step.parse().ok().and_then(|i: usize| items.get(i)).map(|item| (item, item.place))
            }
            Kind::Scalar { .. } => None,
        };
        let Some((value, key)) = next else { return place };
        // A list or map is shown by its key, a scalar by itself.
        let nothing = matches!(value.kind, Kind::Scalar { value: Scalar::Null, .. });
        place = if matches!(value.kind, Kind::Scalar { .. }) && !nothing { value.place } else { key };
        node = value;
    }
    place
}
