//! Reads a table of cases, with the place of everything in it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::expect::{Expect, Written};
use crate::facts::Told;
use crate::house::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::house::findings::Findings;
use crate::house::node::{Entry, Kind, Node, Scalar, parse};
use crate::house::sources::PolicySource;
use crate::house::validate::validate;

/// One case, ready to be tried.
pub(super) struct Case {
    pub(super) file: PathBuf,
    /// The file's text, for excerpts.
    pub(super) text: Arc<str>,
    pub(super) name: String,
    /// Where the case begins.
    pub(super) place: Place,
    pub(super) request: Told,
    pub(super) expect: Expect,
    /// Where each field of `expect` stands.
    places: BTreeMap<String, Place>,
}

impl Case {
    /// A failure at a field of `expect`, or at the case as a whole.
    pub(super) fn failure(&self, field: &str, message: impl Into<String>) -> Diagnostic {
        let place = self.places.get(field).copied().unwrap_or(self.place);
        Diagnostic::error(self.file.display().to_string(), message).at(place, &self.text)
    }
}

/// Reads all cases of a file.
///
/// # Errors
/// Everything that is wrong with its form.
pub(super) fn read(source: &PolicySource) -> Result<Vec<Case>, Diagnostics> {
    let file = source.path.display().to_string();
    let mut findings = Findings::new(&file, &source.text);
    let parsed = parse(&source.text);
    for problem in parsed.problems {
        findings.error(problem.place, problem.message, problem.help);
    }
    let mut cases = Vec::new();
    match parsed.root {
        Some(Node { kind: Kind::List(items), .. }) => {
            let text: Arc<str> = source.text.as_str().into();
            for (index, mut item) in items.into_iter().enumerate() {
                if let Some(read) = case(&mut item, index, &mut findings) {
                    cases.push(read.at(source, &text));
                }
            }
        }
        Some(node) => {
            let help = "write `- { name: …, request: { … }, expect: { … } }` for each case";
            let message = format!("expected a list of cases, found {}", node.describe());
            findings.error(node.place, message, Some(help.into()));
        }
        None => {}
    }
    if findings.is_clean() { Ok(cases) } else { Err(findings.finish()) }
}

/// A case that does not know its file yet.
struct Read {
    name: String,
    place: Place,
    request: Told,
    expect: Expect,
    places: BTreeMap<String, Place>,
}

impl Read {
    fn at(self, source: &PolicySource, text: &Arc<str>) -> Case {
        let Self { name, place, request, expect, places } = self;
        Case { file: source.path.clone(), text: Arc::clone(text), name, place, request, expect, places }
    }
}

fn case(item: &mut Node, index: usize, findings: &mut Findings) -> Option<Read> {
    let before = findings.len();
    validate(item, &SCHEMA, findings);
    if findings.len() > before || item.faulty {
        return None;
    }
    let place = item.place;
    for field in ["request", "expect"] {
        let entry = item.get(field);
        if entry.is_none_or(|entry| is_nothing(&entry.value)) {
            let place = entry.map_or(place, |entry| entry.place);
            let help = "a case has a `request` and what to `expect` of it";
            findings.error(place, format!("this case lacks `{field}:`"), Some(help.into()));
            return None;
        }
    }
    let written: Written = match serde_yaml::from_value(item.to_value()) {
        Ok(written) => written,
        Err(error) => {
            findings.error(place, error.to_string(), None);
            return None;
        }
    };
    item.get("expect").into_iter().for_each(|expect| find_vain(&expect.value, findings));
    let (request, expect) = (written.request?, written.expect?);
    let fields = item.get("expect").map(|entry| &entry.value.kind);
    let places = match fields {
        Some(Kind::Map(entries)) => entries.iter().map(|e| (e.key.clone(), e.value.place)).collect(),
        _ => BTreeMap::new(),
    };
    let name = written.name.unwrap_or_else(|| format!("case {}", index + 1));
    Some(Read { name, place, request, expect, places })
}

/// Finds what is expected in vain: where nothing is said, everything is right.
fn find_vain(expect: &Node, findings: &mut Findings) {
    let Kind::Map(fields) = &expect.kind else { return };
    if fields.is_empty() {
        let message = "this case expects nothing, so nothing that the policies decide can be wrong";
        let help = "write what must come of the request: `verdict: route`, `first: cheap`, `rule: 10-tiers`, \
                    `never: [ … ]`, `reject: { code: … }` and so on (docs/testing-policies.md)";
        findings.error(expect.place, message, Some(help.into()));
    }
    for Entry { key, place, value } in fields {
        // That no target is left can be meant, and any refusal, too.
        let is_vain = match &value.kind {
            Kind::List(items) => items.is_empty() && ["never", "require", "avoid"].contains(&key.as_str()),
            Kind::Map(entries) => entries.is_empty() && key == "tags",
            Kind::Scalar { text, .. } => is_nothing(value) || (text.is_empty() && key == "reason"),
        };
        if is_vain {
            let message = format!("`expect.{key}`: nothing stands here, so it can never fail");
            findings.error(*place, message, Some(format!("write what is expected, or leave `{key}` out")));
        }
    }
}

fn is_nothing(value: &Node) -> bool {
    matches!(value.kind, Kind::Scalar { value: Scalar::Null, .. })
}

/// The form of a case.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Written>();
    let mut schema = schema.to_value();
    // What is read under another name too is not part of the derived schema.
    if let Some(fields) = schema.pointer_mut("/$defs/Told/properties").and_then(Value::as_object_mut)
        && let Some(form) = fields.get("fields").cloned()
    {
        fields.insert("parameters".into(), form);
    }
    if let Some(message) = schema.pointer_mut("/$defs/Message").and_then(Value::as_object_mut) {
        message.insert("required".into(), json!(["role"]));
        if let Some(fields) = message.get_mut("properties").and_then(Value::as_object_mut) {
            fields.insert("content".into(), json!({ "type": "string" }));
        }
    }
    schema
});

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> PolicySource {
        PolicySource { name: "tests/t".into(), path: "t.yaml".into(), text: text.into() }
    }

    #[test]
    fn cases_are_read_with_the_places_of_what_they_expect() {
        let text = "- name: hard work\n  request: { model: auto, messages: [{ role: user, content: prove it }], parameters: { seed: 1 } }\n  \
                    expect:\n    first: strong\n    verdict: route\n    route: [strong, cheap]\n- request: { model: 5 }\n  expect: { verdict: none }\n";
        let cases = read(&source(text)).unwrap();
        assert_eq!(cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>(), ["hard work", "case 2"]);
        assert_eq!(cases[0].failure("first", "x").headline(), "t.yaml:4:12: error: x");
        assert_eq!(cases[0].failure("nothing", "x").headline(), "t.yaml:1:3: error: x");
        assert_eq!(cases[1].request.model, "5");
        assert!(read(&source("# nothing yet\n")).is_ok_and(|cases| cases.is_empty()));
    }

    #[test]
    fn what_can_never_fail_is_no_expectation() {
        for (expect, problem) in [
            ("", "t.yaml:2:3: error: this case lacks `expect:`"),
            (" ~", "t.yaml:2:3: error: this case lacks `expect:`"),
            (
                " {}",
                "t.yaml:2:11: error: this case expects nothing, so nothing that the policies decide can be wrong",
            ),
            (" { first: }", "t.yaml:2:13: error: `expect.first`: nothing stands here, so it can never fail"),
            (
                " { first: x, never: [] }",
                "t.yaml:2:23: error: `expect.never`: nothing stands here, so it can never fail",
            ),
            (" { tags: {} }", "t.yaml:2:13: error: `expect.tags`: nothing stands here, so it can never fail"),
            (
                " { reason: '' }",
                "t.yaml:2:13: error: `expect.reason`: nothing stands here, so it can never fail",
            ),
        ] {
            let text = format!("- request: {{ model: x }}\n  expect:{expect}\n");
            let Err(found) = read(&source(&text)) else { panic!("{text}") };
            let headlines: Vec<_> = found.0.iter().map(Diagnostic::headline).collect();
            assert_eq!(headlines, [problem], "{text}");
            assert!(found.0[0].help.is_some(), "{text}");
        }
        let lacks = read(&source("- request:\n  expect: { first: x }\n")).map(|_| ()).unwrap_err();
        assert_eq!(lacks.0[0].headline(), "t.yaml:1:3: error: this case lacks `request:`");
        for expect in ["{ targets: [] }", "{ reject: {} }", "{ route: [] }"] {
            let text = format!("- request: {{ model: x }}\n  expect: {expect}\n");
            assert!(
                read(&source(&text)).is_ok(),
                "{expect} says that nothing is left, or that it is refused"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_table_is_said_with_its_place() {
        for (text, problem) in [
            ("a: 1\n", "t.yaml:1:1: error: expected a list of cases, found a map"),
            ("- request: { model: x }\n", "t.yaml:1:3: error: this case lacks `expect:`"),
            ("- expect: { first: x }\n", "t.yaml:1:3: error: this case lacks `request:`"),
            ("- request: { modle: x }\n  expect: {}\n", "t.yaml:1:14: error: unknown field `request.modle`"),
            (
                "- request: { model: x }\n  expect: { frist: x }\n",
                "t.yaml:2:13: error: unknown field `expect.frist`",
            ),
            (
                "- request: { model: x }\n  expect: { verdict: maybe }\n",
                "t.yaml:2:22: error: `expect.verdict`: `maybe` is not one of",
            ),
            (
                "- request: { model: x, tokens: many }\n  expect: {}\n",
                "t.yaml:1:32: error: `request.tokens`: expected a whole number",
            ),
            ("- request: { model: x, messages: [{ role: user }] }\n  expect: {}\n", "t.yaml:1:3: error: "),
            ("- [\n", "t.yaml:1:1: error: not valid YAML"),
        ] {
            let Err(found) = read(&source(text)) else { panic!("{text}") };
            let headlines: Vec<_> = found.0.iter().map(Diagnostic::headline).collect();
            assert!(headlines.iter().any(|line| line.starts_with(problem)), "{text}: {headlines:#?}");
        }
    }
}
