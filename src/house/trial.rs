//! The tests of a set of policies: written in Rhai beside them, and as tables of requests and decisions.

mod expect;
mod judge;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::diagnostic::{Diagnostic, Diagnostics, Place};
use super::sources::PolicySource;
use crate::gateway::Snapshot;
use crate::policy::trial::{Bench, FileCoverage};
use table::Case;

/// One test and how it went.
#[derive(Debug, Clone)]
pub struct Tested {
    /// The file that it stands in.
    pub file: PathBuf,
    /// Its name: a function's, or a case's.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// What failed, in the order noticed; empty when it passed.
    pub failures: Vec<Diagnostic>,
}

/// All tests and what they reached.
#[derive(Debug, Default)]
pub struct Report {
    /// The tests in the order of their files.
    pub tests: Vec<Tested>,
    /// Which lines and verdicts of the policies were reached; empty where nobody asked for it.
    pub coverage: Vec<FileCoverage>,
    /// How long all of it took.
    pub took: Duration,
}

impl Report {
    /// Everything that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Diagnostic> {
        self.tests.iter().flat_map(|test| &test.failures)
    }

    /// How many tests passed, and how many failed.
    pub fn counts(&self) -> (usize, usize) {
        let failed = self.tests.iter().filter(|test| !test.failures.is_empty()).count();
        (self.tests.len() - failed, failed)
    }
}

/// Which tests are run, and until when.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// Only tests whose file or name has this in it.
    pub filter: Option<&'a str>,
    /// No test begins after this.
    pub until: Option<Instant>,
}

/// Runs the tests.
///
/// # Errors
/// Tables that cannot be read, and tests that took too long.
pub(super) fn run(
    bench: &Bench,
    snapshot: &Snapshot,
    tables: &[&PolicySource],
    wanted: &Wanted<'_>,
) -> Result<Report, Diagnostics> {
    let began = Instant::now();
    let cases = read(tables)?;
    let mut report = Report::default();
    let matches = |file: &std::path::Path, name: &str| {
        wanted.filter.is_none_or(|part| name.contains(part) || file.to_string_lossy().contains(part))
    };
    let late = || wanted.until.is_some_and(|until| Instant::now() > until);
    for test in bench.tests().filter(|test| matches(test.file(), test.name())) {
        if late() {
            return Err(too_late(&test.file().display().to_string(), test.name(), began));
        }
        let (took, failure) = bench.run(&test, wanted.until);
        report.tests.push(Tested {
            file: test.file().to_owned(),
            name: test.name().to_owned(),
            took,
            failures: failure.iter().map(|failure| bench_problem(failure, bench)).collect(),
        });
    }
    for case in cases.iter().filter(|case| matches(&case.file, &case.name)) {
        if late() {
            return Err(too_late(&case.file.display().to_string(), &case.name, began));
        }
        let case_began = Instant::now();
        let failures = judge::judge(case, bench, snapshot);
        report.tests.push(Tested {
            file: case.file.clone(),
            name: case.name.clone(),
            took: case_began.elapsed(),
            failures,
        });
    }
    report.coverage = bench.coverage();
    report.took = began.elapsed();
    Ok(report)
}

fn read(tables: &[&PolicySource]) -> Result<Vec<Case>, Diagnostics> {
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for source in tables {
        match table::read(source) {
            Ok(found) => cases.extend(found),
            Err(found) => problems.extend(found.0),
        }
    }
    if problems.is_empty() { Ok(cases) } else { Err(Diagnostics(problems)) }
}

fn too_late(file: &str, name: &str, began: Instant) -> Diagnostics {
    let message = format!(
        "the tests of the policies were stopped after {:.1}s, before `{name}`",
        began.elapsed().as_secs_f64()
    );
    Diagnostic::error(file, message)
        .help("raise `policies.tests_deadline`, or find the test that takes so long: `tollgate policy test`")
        .into()
}

fn bench_problem(error: &crate::policy::PolicyError, bench: &Bench) -> Diagnostic {
    let text = bench.text_of(&error.file).unwrap_or_default();
    let place = Place { line: error.line as usize, column: error.column as usize, length: 1 };
    Diagnostic::error(error.file.display().to_string(), error.message.clone()).at(place, text)
}
