//! The tests of a set of policies: written in Rhai beside them, and as tables of requests and decisions.

mod expect;
mod judge;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::build;
use super::config::Config;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::sources::{PolicySource, Sources};
use crate::clock::SystemClock;
use crate::facts::market::Numbers;
use crate::gateway::{Board, Figures, Snapshot, Terms};
use crate::policy::Hosted;
use crate::policy::trial::{Bench, FileCoverage, Material};
use crate::policy::{self, Switch};
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
    /// What it wrote with `print` and its like.
    pub said: Vec<String>,
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
    /// No test goes on after this.
    pub until: Option<Instant>,
    /// Whether it shall be known which lines ran.
    pub coverage: bool,
}

/// Before a set goes into service: how many tests it passed. Without tests, or with `tests: off`, none.
///
/// # Errors
/// Everything that failed: the set is not taken.
pub(super) fn before_service(
    config: &Config,
    sources: &Sources,
    snapshot: &Snapshot,
    terms: &Terms,
) -> Result<usize, Diagnostics> {
    if sources.tests.is_empty() || config.policies.tests == Switch::Off {
        return Ok(0);
    }
    let until = Some(Instant::now() + config.policies.tests_deadline.0);
    let report = run(config, sources, snapshot, terms, &Wanted { until, ..Wanted::default() })?;
    let failures: Vec<_> = report.failures().cloned().collect();
    if failures.is_empty() { Ok(report.tests.len()) } else { Err(Diagnostics(failures)) }
}

/// Runs the tests of policies that are part of a good snapshot.
///
/// # Errors
/// Tests that cannot be read, and tests that took too long.
pub(super) fn run(
    config: &Config,
    sources: &Sources,
    snapshot: &Snapshot,
    terms: &Terms,
    wanted: &Wanted<'_>,
) -> Result<Report, Diagnostics> {
    let began = Instant::now();
    let (scripts, tables): (Vec<_>, Vec<_>) = sources
        .tests
        .iter()
        .partition(|source| source.path.extension().is_some_and(|ending| ending == "rhai"));
    let policies: Vec<policy::Source> = sources.policies.iter().map(Into::into).collect();
    let scripts: Vec<policy::Source> = scripts.into_iter().map(Into::into).collect();
    // Not the snapshot's own market: a provider that is down, or a budget that is spent, refuses nobody's edit.
    let numbers: Arc<dyn Numbers> = Arc::new(Figures::untouched(terms, Arc::new(SystemClock)));
    let names = build::names(&snapshot.catalogue, &snapshot.versions, config);
    let bench = Bench::new(&Material {
        policies: &policies,
        tests: &scripts,
        settings: &config.policies,
        data: &config.data,
        names: &names,
        plugins: Arc::new(Hosted::new(snapshot.plugins.clone())),
        market: Arc::new(Board::new(&snapshot.catalogue, &numbers)),
        coverage: wanted.coverage,
    });
    let all: Vec<policy::Source> = policies.iter().chain(&scripts).cloned().collect();
    let bench = bench.map_err(|errors| {
        Diagnostics(errors.iter().map(|error| build::policy_problem(error, &all)).collect())
    })?;
    let cases = read(&tables)?;

    let mut runner = Runner { wanted, began, report: Report::default() };
    for test in bench.tests() {
        runner.run(test.file(), test.name(), || {
            let failure = bench.run(&test, wanted.until).err();
            let failures = failure.iter().map(|failure| build::policy_problem(failure, &all)).collect();
            (failures, bench.said(&test))
        })?;
    }
    for case in &cases {
        runner.run(&case.file, &case.name, || {
            let strangers = judge::strangers(case, &names, &snapshot.plugins);
            let judged = || judge::judge(case, &bench, snapshot);
            (if strangers.is_empty() { judged() } else { strangers }, Vec::new())
        })?;
    }
    let mut report = runner.report;
    report.coverage = bench.coverage();
    report.took = began.elapsed();
    Ok(report)
}

/// Runs one test after the other while there is time.
struct Runner<'a> {
    wanted: &'a Wanted<'a>,
    began: Instant,
    report: Report,
}

impl Runner<'_> {
    fn run(
        &mut self,
        file: &Path,
        name: &str,
        test: impl FnOnce() -> (Vec<Diagnostic>, Vec<String>),
    ) -> Result<(), Diagnostics> {
        let matches = |part: &str| name.contains(part) || file.to_string_lossy().contains(part);
        if !self.wanted.filter.is_none_or(matches) {
            return Ok(());
        }
        let began = Instant::now();
        let late = || self.wanted.until.is_some_and(|until| Instant::now() > until);
        let (failures, said) = if late() { Default::default() } else { test() };
        if late() {
            let seconds = self.began.elapsed().as_secs_f64();
            let message = format!(
                "the tests of the policies took longer than `policies.tests_deadline`: stopped at `{name}` after {seconds:.1}s"
            );
            let help = "raise it, or find what takes so long: `tollgate policy test`";
            return Err(Diagnostic::error(file.display().to_string(), message).help(help).into());
        }
        let (file, name, took) = (file.to_owned(), name.to_owned(), began.elapsed());
        self.report.tests.push(Tested { file, name, took, failures, said });
        Ok(())
    }
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
