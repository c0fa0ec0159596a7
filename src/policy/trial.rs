//! Tests of policies: `X_test.rhai` beside `X.rhai`, run on requests made of data, with coverage of rules and lines.
//!
//! A test calls the policy's own functions, and its hooks as the gateway would call them: the same limits, sticky
//! constraints and failures, but nothing shows outside. Plugins answer what the test tells.

mod answers;
mod events;
mod file;
mod lines;
mod ruling;
mod stage;
mod words;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rhai::Engine;

use super::compile::World;
use super::library::Library;
use super::plugins::Plugins;
use super::suggest::hint;
use super::{Decided, Names, PolicyError, PolicySet, PolicySettings, RuntimeError, Source, tables};
use crate::facts::Facts;
use crate::facts::Told;
use crate::facts::market::Market;
use answers::Answers;
use file::TestFile;
pub use lines::FileCoverage;
pub(super) use lines::Lines;
pub use ruling::Ruling;
use stage::Stage;

/// What a test file's name ends with.
const SUFFIX: &str = "_test";

/// What is tried, and around what.
pub struct Material<'a> {
    /// The policies.
    pub policies: &'a [Source],
    /// Their tests in Rhai; the name of each is its policy's with `_test` behind it.
    pub tests: &'a [Source],
    /// The engine's settings.
    pub settings: &'a PolicySettings,
    /// The configuration's tables.
    pub data: &'a serde_json::Map<String, serde_json::Value>,
    /// What policies can name.
    pub names: &'a Names,
    /// The plugins that there are; none of them is called.
    pub plugins: Arc<dyn Plugins>,
    /// The targets and their numbers.
    pub market: Arc<dyn Market>,
    /// Whether it shall be known which lines ran.
    pub coverage: bool,
}

/// Policies set up to be tried.
pub struct Bench {
    stage: Stage,
    files: Vec<TestFile>,
}

/// One test function.
#[derive(Clone, Copy)]
pub struct Test<'b> {
    file: &'b TestFile,
    function: &'b file::Function,
}

/// What the policies say of a told request.
pub struct Judged {
    /// The decision; a fault where a policy failed that must not be skipped.
    pub decision: Result<crate::plan::Decision, crate::fault::Fault>,
    /// Policies that failed.
    pub errors: Vec<RuntimeError>,
    /// The request.
    pub facts: Arc<Facts>,
}

impl Bench {
    /// Sets up policies that were loaded without an error before.
    ///
    /// # Errors
    /// What is wrong with the test files.
    pub fn new(material: &Material<'_>) -> Result<Self, Vec<PolicyError>> {
        let (lines, policies) = if material.coverage {
            let (lines, marked) = Lines::of(material.policies);
            (Some(lines), marked)
        } else {
            (None, material.policies.to_vec())
        };
        let Material { settings, data, names, market, .. } = material;
        let answers = Arc::new(Answers::for_those_of(Arc::clone(&material.plugins)));
        let plugins: Arc<dyn Plugins> = answers.clone();
        let set = PolicySet::load_watched(&policies, settings, data, names, plugins.clone(), lines.clone())?;
        let patient = PolicySettings { max_operations: 0, ..(*settings).clone() };
        let world = World {
            settings: &patient,
            data: tables::Table::new(data),
            names: Arc::new((*names).clone()),
            patterns: Arc::default(),
            tiers: Arc::new(super::ranking::Tiers::of(data)),
            plugins,
            lines: lines.clone(),
        };
        let mut errors = Vec::new();
        let sorted: Vec<&Source> = policies.iter().collect();
        let library = if material.tests.is_empty() {
            Arc::default()
        } else {
            Library::load(&sorted, &world, &mut errors)
        };
        let mut files = Vec::new();
        for test in material.tests {
            match subject(test, &policies) {
                Ok(policy) => {
                    let alone = set.alone(&policy.name);
                    let stage = Stage::new(alone, market.clone(), answers.clone(), lines.clone());
                    files.extend(TestFile::compile(test, policy, stage, &world, &library, &mut errors));
                }
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { stage: Stage::new(set, market.clone(), answers, lines), files })
    }

    /// The test functions, file by file, in the order written.
    pub fn tests(&self) -> impl Iterator<Item = Test<'_>> {
        self.files.iter().flat_map(|file| file.functions.iter().map(move |function| Test { file, function }))
    }

    /// Runs a test, at the latest until `until`.
    ///
    /// # Errors
    /// What failed, and where.
    pub fn run(&self, test: &Test<'_>, until: Option<Instant>) -> Result<(), PolicyError> {
        test.file.run(test.function, until)
    }

    /// What a test that has just run wrote with `print` and its like, each line with its place.
    pub fn said(&self, test: &Test<'_>) -> Vec<String> {
        test.file.said()
    }

    /// Asks all policies about a told request.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn decide(&self, told: &Told) -> Result<Judged, String> {
        let (session, facts) = self.stage.begin(told)?;
        let Decided { decision, mut errors, reads: _ } = self.stage.decide(&session);
        self.stage.clear();
        if let Some(lines) = &self.stage.lines {
            for error in &mut errors {
                error.column = lines.column(&error.file, error.line, error.column);
            }
        }
        Ok(Judged { decision, errors, facts })
    }

    /// What ran so far, file by file; nothing where nobody asked for it.
    pub fn coverage(&self) -> Vec<FileCoverage> {
        self.stage.lines.as_ref().map(|lines| lines.coverage()).unwrap_or_default()
    }
}

impl<'b> Test<'b> {
    /// The file that it stands in.
    pub fn file(&self) -> &'b Path {
        &self.file.path
    }

    /// The function's name.
    pub fn name(&self) -> &'b str {
        &self.function.name
    }
}

/// Where statements say that they were reached.
pub(super) fn watch(engine: &mut Engine, lines: &Arc<Lines>) {
    let lines = Arc::clone(lines);
    engine.register_fn(lines::SEEN, move |spot: i64| lines.seen(spot));
}

/// The policy that a file tests.
fn subject<'s>(test: &Source, policies: &'s [Source]) -> Result<&'s Source, PolicyError> {
    let wanted = test.name.strip_suffix(SUFFIX).unwrap_or(&test.name);
    policies.iter().find(|policy| policy.name == wanted).ok_or_else(|| {
        let hint = hint(wanted, policies.iter().map(|policy| policy.name.as_str()));
        let message = format!(
            "there is no policy `{wanted}.rhai` beside this that it could test{hint}; files that end with `{SUFFIX}` are tests"
        );
        PolicyError::new(&test.path, rhai::Position::NONE, message)
    })
}

#[cfg(test)]
mod tests;
