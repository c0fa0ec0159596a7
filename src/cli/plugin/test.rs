//! `tollgate plugin test`: cases from YAML through the real host.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use super::cases::Cases;
use super::{ask, compare, settings};

/// Which cases to run.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Test {
    /// A file of cases, or a folder: its `*.yaml` with a list of `cases`, and those of `tests/` below it.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The plugin, instead of the one that the cases name.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
}

/// How many cases passed and failed.
#[derive(Debug, Default)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Test {
    /// Runs the cases and says what was not as expected.
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let files = files(&self.path)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("runtime: {error}"))?;
        let mut count = Count::default();
        for file in &files {
            let cases = Cases::read(file)?;
            let wasm = self.plugin.clone().map_or_else(|| plugin_of(file, &cases), Ok)?;
            if !wasm.exists() {
                return Err(format!(
                    "{}: there is no such file; `tollgate plugin build` makes one of the sources",
                    wasm.display()
                ));
            }
            println!("{} against {}", file.display(), wasm.display());
            runtime.block_on(run_cases(cases, &wasm, &mut count))?;
        }
        println!("{} passed, {} failed", count.passed, count.failed);
        Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn run_cases(cases: Cases, wasm: &Path, count: &mut Count) -> Result<(), String> {
    let plugin = settings::load(cases.settings, wasm)?;
    if let Some(reason) = plugin.absent() {
        return Err(format!("{}: {reason}", wasm.display()));
    }
    if plugin.loaded().is_some_and(|loaded| loaded.manifest.needs.segments) && !plugin.reads_text() {
        println!("  note: the plugin wants text, but `settings` do not grant `prompt`: it gets none");
    }
    for (number, case) in cases.cases.iter().enumerate() {
        let started = Instant::now();
        let found = ask::ask(&plugin, case).await;
        let took = started.elapsed().as_secs_f64() * 1e3;
        let expects_failure = case.expect.get("fails").is_some();
        let differences = match found.get("fails") {
            Some(fails) if !expects_failure => vec![format!("the call fails: {fails}")],
            _ => compare::differences(&case.expect, &found),
        };
        let name = case.name(number + 1);
        if differences.is_empty() {
            count.passed += 1;
            println!("  ok      {name} ({took:.1} ms)");
        } else {
            count.failed += 1;
            println!("  FAILED  {name}");
            for difference in differences {
                println!("          {difference}");
            }
            println!("          the answer: {found}");
        }
    }
    Ok(())
}

/// The files of cases at a path.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for folder in [path.to_owned(), path.join("tests")] {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let files = entries.flatten().map(|entry| entry.path());
        found.extend(
            files.filter(|file| {
                file.extension().is_some_and(|e| e == "yaml" || e == "yml") && has_cases(file)
            }),
        );
    }
    found.sort();
    if found.is_empty() {
        return Err(format!("{}: there are no cases: no YAML file with a list of `cases`", path.display()));
    }
    Ok(found)
}

/// Whether a YAML file holds cases; one that cannot be read is told later.
fn has_cases(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().any(|line| line.starts_with("cases:"))
}

/// The plugin that a file of cases is about.
fn plugin_of(file: &Path, cases: &Cases) -> Result<PathBuf, String> {
    let beside = file.parent().unwrap_or(Path::new("."));
    if let Some(plugin) = &cases.plugin {
        return Ok(beside.join(plugin));
    }
    let mut wasm = Vec::new();
    for folder in [beside.to_owned(), beside.join("..")] {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        wasm.extend(entries.filter(|path| path.extension().is_some_and(|e| e == "wasm")));
        match wasm.as_slice() {
            [] => {}
            [one] => return Ok(one.clone()),
            several => {
                return Err(format!(
                    "{}: there are {} *.wasm: say `plugin: FILE`",
                    file.display(),
                    several.len()
                ));
            }
        }
    }
    Err(format!("{}: there is no *.wasm beside it: build it with `tollgate plugin build`", file.display()))
}
