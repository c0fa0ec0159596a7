//! `tollgate policy test`: runs the tests of the policies and shows what they reach.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{coverage, junit};
use crate::cli::BAD_CONFIG;
use crate::house::{House, Report, Tested, Wanted};

/// What is run, and what is shown.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TestArgs {
    /// Only tests whose file or name has this text in it.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Show which lines and rules of each policy no test reached.
    #[arg(long)]
    coverage: bool,
    /// Fail when tests reach less than this share of all statements.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
    /// Write the results to this file, as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Exits 0 when all tests passed, 1 when one failed or too little was reached, 78 when there is nothing to test with.
pub(super) fn test(args: &TestArgs, config: Option<PathBuf>) -> ExitCode {
    let wanted = Wanted { filter: args.filter.as_deref(), until: None, coverage: true };
    let report = House::open(config).and_then(|house| house.test(&wanted));
    let report = match report {
        Ok(report) => report,
        Err(problems) => {
            problems.print();
            return ExitCode::from(BAD_CONFIG);
        }
    };
    print!("{}", results(&report));
    print!("{}", coverage::table(&report.coverage));
    if args.coverage {
        print!("{}", coverage::missed(&report.coverage));
    }
    println!("{}", summary(&report));
    let written = args.junit.as_ref().map(|file| (file, std::fs::write(file, junit::document(&report))));
    if let Some((file, Err(error))) = written {
        eprintln!("tollgate: {}: cannot be written: {error}", file.display());
        return ExitCode::FAILURE;
    }
    let (passed, failed) = report.counts();
    if passed + failed == 0 {
        match &args.filter {
            Some(text) => eprintln!("tollgate: no test has `{text}` in its file or name"),
            None => eprintln!(
                "tollgate: there are no tests: write `10-name_test.rhai` beside `10-name.rhai`, or a table in `tests/`"
            ),
        }
        return ExitCode::FAILURE;
    }
    let share = coverage::percent(&report.coverage);
    if let Some(least) = args.min_coverage.filter(|least| share < f64::from(*least)) {
        eprintln!(
            "tollgate: tests reach {share:.1} % of the statements, less than {least} % (--min-coverage)"
        );
        return ExitCode::FAILURE;
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every test on a line, grouped by file; behind a failed one, what failed.
fn results(report: &Report) -> String {
    let mut out = String::new();
    let mut last = None;
    for test in &report.tests {
        if last != Some(&test.file) {
            let _ = writeln!(out, "{}", test.file.display());
            last = Some(&test.file);
        }
        let _ = writeln!(out, "  {} {} ({})", mark(test), test.name, shown(test.took));
        for line in test.said.iter().flat_map(|said| said.lines()) {
            let _ = writeln!(out, "      {line}");
        }
        for failure in &test.failures {
            for line in failure.to_string().lines() {
                let _ = writeln!(out, "      {line}");
            }
        }
    }
    if !report.tests.is_empty() {
        out.push('\n');
    }
    out
}

fn mark(test: &Tested) -> &'static str {
    if test.failures.is_empty() { "ok  " } else { "FAIL" }
}

fn summary(report: &Report) -> String {
    let (passed, failed) = report.counts();
    format!("{passed} passed, {failed} failed in {}", shown(report.took))
}

/// `0.4 ms`, `1.2 s`.
fn shown(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 1_000.0 { format!("{ms:.1} ms") } else { format!("{:.1} s", ms / 1e3) }
}
