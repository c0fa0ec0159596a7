//! What could not be carried, and the secrets that a configuration must not hold.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::house::diagnostic::{Diagnostics, Place};
use crate::house::findings::Findings;
use crate::house::node::{Entry, Node};

/// Where LiteLLM's references to variables begin.
const VARIABLE: &str = "os.environ/";

/// The longest name of a region.
const LONGEST_NAME: usize = 32;

/// What is noted while a configuration is read.
pub(super) struct Notes<'w> {
    findings: Findings,
    env: &'w dyn Fn(&str) -> Option<String>,
    /// Variables that the file itself sets.
    variables: BTreeMap<String, String>,
    /// Secrets that stood in the file, by the name that they have now.
    secrets: BTreeMap<String, SecretString>,
    /// Where secrets become files; variables without it.
    dir: Option<PathBuf>,
}

impl<'w> Notes<'w> {
    pub(super) fn new(
        file: &str,
        text: &str,
        env: &'w dyn Fn(&str) -> Option<String>,
        dir: Option<PathBuf>,
    ) -> Self {
        let (findings, variables) = (Findings::new(file, text), BTreeMap::new());
        Self { findings, env, variables, secrets: BTreeMap::new(), dir }
    }

    /// A variable that the file sets, for what is looked up now.
    pub(super) fn define(&mut self, field: &Entry) {
        if let Some(value) = super::text(&field.value).filter(|value| !value.starts_with(VARIABLE)) {
            self.variables.insert(field.key.clone(), value);
        }
    }

    fn look_up(&self, variable: &str) -> Option<String> {
        self.variables.get(variable).cloned().or_else(|| (self.env)(variable))
    }

    /// Something that the result does not have.
    pub(super) fn left(&mut self, place: Place, what: impl Into<String>, help: Option<&str>) {
        self.findings.warning(place, format!("not carried: {}", what.into()), help.map(str::to_owned));
    }

    /// Keeps a field's value out of what is shown.
    pub(super) fn hide(&mut self, field: &Entry) {
        self.findings.mask(field.value.place);
    }

    /// A field that nothing here is like.
    pub(super) fn unknown(&mut self, field: &Entry, section: &str) {
        self.findings.mask(field.value.place);
        self.left(field.place, format!("`{section}.{}`", field.key), None);
    }

    /// A secret: a reference to it, never the secret itself. What stands in the file itself gets a name.
    pub(super) fn secret(&mut self, node: &Node, name: &str) -> Option<Value> {
        let text = super::text(node)?;
        if let Some(variable) = text.strip_prefix(VARIABLE) {
            return Some(format!("env:{variable}").into());
        }
        self.findings.mask(node.place);
        let base: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        let same = |secret: &SecretString| secrecy::ExposeSecret::expose_secret(secret) == text;
        let known = self.secrets.iter().find(|(_, secret)| same(secret)).map(|(name, _)| name.clone());
        let name = known.unwrap_or_else(|| {
            let numbered = (1..).map(|n| if n == 1 { base.clone() } else { format!("{base}_{n}") });
            numbered.into_iter().find(|name| !self.secrets.contains_key(name)).unwrap_or_default()
        });
        self.secrets.entry(name.clone()).or_insert_with(|| text.into());
        Some(match &self.dir {
            Some(dir) => format!("file:{}", dir.join(&name).display()).into(),
            None => format!("env:{name}").into(),
        })
    }

    /// A file with credentials by its path, or what stands in such a file, which is a secret.
    pub(super) fn credentials(&mut self, field: &Entry, name: &str) -> Option<Value> {
        let node = &field.value;
        let Some(text) = super::text(node) else {
            self.unknown(field, "litellm_params");
            return None;
        };
        let found = text.strip_prefix(VARIABLE).map_or(Some(text.clone()), |variable| self.look_up(variable));
        match found.is_some_and(|found| found.trim_start().starts_with('{')) {
            true => self.secret(node, name),
            false => self.plain(node, &field.key).map(|path| format!("file:{path}").into()),
        }
    }

    /// A text that is no secret: a variable is read now.
    pub(super) fn plain(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = super::text(node)?;
        let Some(variable) = text.strip_prefix(VARIABLE) else { return Some(text) };
        if let Some(value) = self.look_up(variable) {
            return Some(value);
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let placeholder: String = "set-".chars().chain(variable.chars().map(plain)).collect();
        let placeholder = match what {
            "api_base" | "base_url" => format!("https://{placeholder}.invalid"),
            // What may stand for a name is no longer than that of a region.
            _ => placeholder.chars().take(LONGEST_NAME).collect(),
        };
        let help = format!("set {variable} and import again, or replace `{placeholder}` in the result");
        self.left(node.place, format!("`{what}`: the variable {variable} is not set"), Some(&help));
        Some(placeholder)
    }

    /// A variable that LiteLLM reads unasked.
    pub(super) fn variable(&mut self, name: &str, place: Place) -> Option<String> {
        let value = self.look_up(name);
        if value.is_none() {
            self.left(place, format!("the variable {name} is not set"), None);
        }
        value
    }

    /// A number of seconds, as a period.
    pub(super) fn seconds(&mut self, field: &Entry, into: &mut Map<String, Value>, name: &str) {
        match super::number(&field.value).filter(|seconds| *seconds > 0.0 && *seconds < 1e9) {
            Some(seconds) => {
                into.insert(name.into(), period(seconds).into());
            }
            None => self.unknown(field, "litellm_params"),
        }
    }

    /// All that was noted, and the secrets.
    pub(super) fn finish(self) -> (Diagnostics, BTreeMap<String, SecretString>) {
        (self.findings.finish(), self.secrets)
    }
}

/// `30s`, or `1500ms` where seconds are not whole.
pub(super) fn period(seconds: f64) -> String {
    let ms = (seconds * 1000.0).round().max(1.0) as u64;
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}
