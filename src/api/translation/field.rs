//! Fields of a document: where they stand, what they are called in a table, and what is left without them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::chat::Loss;

/// Values that are one thing, however they are made inside.
const OPAQUE: &[&str] = &[
    "parameters",
    "parametersJsonSchema",
    "input_schema",
    "schema",
    "responseSchema",
    "responseJsonSchema",
    "_responseJsonSchema",
    "response",
    "args",
    "input",
    "logit_bias",
    "metadata",
    "labels",
    "partMetadata",
    "input_examples",
    "edits",
    "default_config",
    "tool_configuration",
    "grammar",
];

/// Fields that give a document its form rather than say something.
const FORM: &[&str] = &["type", "role", "object"];

/// One step into a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// What became of a field on the other side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It stands there as it was, at this path.
    Carried(String),
    /// It made a difference at this path.
    Converted(String),
    /// It made no difference, but another value would: it is what the other side does anyway.
    Understood,
    /// The loss report names it.
    Reported(String),
    /// Nothing is different without it, and rightly so.
    Needless(&'static str),
    /// Nothing is different without it.
    Silent,
    /// The document is refused because of it.
    Refused,
}

/// A document on the other side, and what did not get there.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) document: Value,
    pub(super) lost: Vec<Loss>,
}

/// The paths of all fields that say something.
pub(super) fn fields(document: &Value) -> Vec<Vec<Step>> {
    let mut found = Vec::new();
    walk(document, &mut Vec::new(), &mut found);
    found
}

fn walk(value: &Value, at: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    let opaque = matches!(at.last(), Some(Step::Key(key)) if OPAQUE.contains(&key.as_str()));
    match value {
        Value::Object(fields) if !fields.is_empty() && !opaque => {
            for (key, inner) in fields.iter().filter(|(key, _)| !FORM.contains(&key.as_str())) {
                at.push(Step::Key(key.clone()));
                walk(inner, at, found);
                at.pop();
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) && !opaque => {
            for (index, inner) in items.iter().enumerate() {
                at.push(Step::Index(index));
                walk(inner, at, found);
                at.pop();
            }
        }
        Value::Null => {}
        _ if at.is_empty() => {}
        _ => found.push(at.clone()),
    }
}

/// The name of a field in a table: `messages[user].content[image_url].image_url.detail`.
pub(super) fn name(document: &Value, path: &[Step]) -> String {
    let (mut text, mut value) = (String::new(), document);
    for step in path {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{}]", kind(&value[*index]))),
        }
        value = at(value, step);
    }
    text
}

/// What an element of a list is: its type, its role, or the one thing that it has.
fn kind(element: &Value) -> &str {
    let word = |key: &str| element.get(key).and_then(Value::as_str);
    let thought = element.get("thought").is_some().then_some("thought");
    let first = || {
        element.as_object()?.keys().next().map(String::as_str).filter(|key| key.len() > 4 || *key == "text")
    };
    word("type")
        .or_else(|| word("role"))
        .or_else(|| word("modality"))
        .or(thought)
        .or_else(first)
        .unwrap_or("")
}

/// The path as the loss report would write it.
pub(super) fn path(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.push_str(&format!(".{key}")),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

pub(super) fn get<'v>(document: &'v Value, path: &[Step]) -> &'v Value {
    path.iter().fold(document, at)
}

fn at<'v>(value: &'v Value, step: &Step) -> &'v Value {
    match step {
        Step::Key(key) => &value[key.as_str()],
        Step::Index(index) => &value[*index],
    }
}

/// The document without a field, or with another value in its place.
pub(super) fn changed(document: &Value, path: &[Step], to: Option<Value>) -> Value {
    let mut document = document.clone();
    let Some((last, way)) = path.split_last() else { return document };
    let mut place = &mut document;
    for step in way {
        place = match step {
            Step::Key(key) => &mut place[key.as_str()],
            Step::Index(index) => &mut place[*index],
        };
    }
    match (last, to) {
        (Step::Key(key), None) => drop(place.as_object_mut().unwrap().shift_remove(key)),
        (Step::Index(index), None) => drop(place.as_array_mut().unwrap().remove(*index)),
        (Step::Key(key), Some(value)) => place[key.as_str()] = value,
        (Step::Index(index), Some(value)) => place[*index] = value,
    }
    document
}

/// Another value of the same kind.
pub(super) fn other(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(format!("{text}x")),
        Value::Number(number) => json!(number.as_f64().unwrap_or(0.0) as i64 + 1),
        Value::Bool(flag) => json!(!flag),
        Value::Object(_) => Value::Object(Map::new()),
        _ => json!([]),
    }
}

/// What became of a field, given both sides with and without it.
pub(super) fn fates(value: &Value, own_path: &str, with: &Outcome, without: &Outcome) -> Vec<Fate> {
    let mut fates = Vec::new();
    let bare = |loss: &Loss| format!("{} {}", places_off(&loss.path), loss.what);
    let mut left: Vec<String> = without.lost.iter().map(bare).collect();
    let mut elsewhere = Vec::new();
    for loss in &with.lost {
        let bare = bare(loss);
        let known = left.iter().position(|other| *other == bare).map(|at| left.remove(at));
        let fate = Fate::Reported(loss.what.to_string());
        // Answers are reported in canonical paths, requests in the client's.
        let is_near = is_inside(&loss.path, first(own_path)) || loss.path.starts_with("answer.");
        if is_inside(own_path, &loss.path) || known.is_none() && is_near {
            fates.push(fate);
        } else if known.is_none() {
            elsewhere.push(fate);
        }
    }
    let (before, after) = (flat(&with.document), flat(&without.document));
    let gone: Vec<(&String, &Value)> =
        before.iter().filter(|(path, value)| after.get(*path) != Some(*value)).collect();
    if let Some((path, _)) = gone.iter().find(|(_, there)| same(there, value)) {
        fates.push(Fate::Carried(places_off(path)));
    } else if let Some((path, _)) = gone.first() {
        fates.push(Fate::Converted(places_off(path)));
    } else if let Some((path, _)) = after.iter().find(|(path, value)| before.get(*path) != Some(*value)) {
        fates.push(Fate::Converted(places_off(path)));
    }
    if fates.is_empty() {
        // A report in the words of another field.
        fates = elsewhere;
    }
    if fates.is_empty() && !left.is_empty() {
        // Another value would be reported: this one is understood.
        fates.push(Fate::Understood);
    }
    if fates.is_empty() {
        fates.push(Fate::Silent);
    }
    fates.sort();
    fates.dedup();
    fates
}

/// Where a value stands that cannot be taken away without making nonsense of the rest.
pub(super) fn needed(value: &Value, with: &Outcome) -> Fate {
    let found = flat(&with.document).into_iter().find(|(_, there)| value.is_string() && same(there, value));
    found.map_or(Fate::Needless("gives the form"), |(path, _)| Fate::Carried(places_off(&path)))
}

fn first(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or_default()
}

/// Whether a path is another one, or leads into it.
fn is_inside(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn same(there: &Value, value: &Value) -> bool {
    there == value || (there.is_number() && value.is_number() && there.as_f64() == value.as_f64())
}

/// Every value of a document by its path, lists of plain values as they stand.
fn flat(document: &Value) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    let mut open = vec![(String::new(), document)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(fields) => {
                open.extend(fields.iter().map(|(key, inner)| {
                    (if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, inner)
                }));
            }
            Value::Array(items) => {
                open.extend(
                    items.iter().enumerate().map(|(index, inner)| (format!("{path}[{index}]"), inner)),
                );
            }
            _ => {}
        }
        let is_leaf = match value {
            Value::Object(fields) => fields.is_empty(),
            Value::Array(items) => !items.iter().any(Value::is_object),
            _ => true,
        };
        if is_leaf || OPAQUE.contains(&path.rsplit('.').next().unwrap_or_default()) {
            out.insert(path, value.clone());
        }
    }
    out
}

/// `messages[3].content[1]` as `messages[].content[]`.
fn places_off(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        inside = (inside && c != ']') || c == '[';
        if !inside || c == '[' {
            out.push(c);
        }
    }
    out
}
