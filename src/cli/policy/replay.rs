//! `tollgate policy replay` and `simulate`: recorded decisions through other rules, or at other prices.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::clock::{Clock, SystemClock, moment};
use crate::house::House;
use crate::house::replay::{Bars, Prices, Replay, Report, Spend, source_of};
use crate::settings::Percent;

/// What is replayed.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReplayCommand {
    /// Records since then: so long ago (`24h`), or a time (`2026-11-01T12:00:00Z`).
    #[arg(long, default_value = "24h", value_name = "TIME")]
    since: String,
    #[command(flatten)]
    rules: Rules,
    /// Changed requests that are shown.
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    samples: usize,
}

/// What is simulated.
#[derive(Debug, Args)]
pub(in crate::cli) struct SimulateCommand {
    /// Records of so many days.
    #[arg(long, default_value_t = 30, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,
    /// Prices that replace the configuration's: `openai/gpt-4o: { input: 2.5, output: 10 }`, in dollars per million tokens.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    #[command(flatten)]
    rules: Rules,
}

/// The rules that are tried, on what, and how much may change.
#[derive(Debug, Args)]
struct Rules {
    /// Directory of the policies to try; else the configuration's own.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Files or directories of records, instead of the configured store.
    #[arg(long, value_name = "PATH")]
    from: Vec<PathBuf>,
    /// Fail when more requests than this share are treated otherwise, such as `5%`.
    #[arg(long, value_name = "SHARE")]
    max_changed: Option<Percent>,
    /// Fail when more requests than this share are newly denied.
    #[arg(long, value_name = "SHARE")]
    max_denied: Option<Percent>,
    /// Fail when the cost rises by more than this, such as `+10%`.
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true)]
    max_cost: Option<Percent>,
    /// Fail when the expected latency rises by more than this.
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true)]
    max_latency: Option<Percent>,
    /// Fail when more requests than this share are undecidable.
    #[arg(long, value_name = "SHARE")]
    max_undecidable: Option<Percent>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Replays.
pub(super) fn replay(arguments: ReplayCommand, config: Option<PathBuf>) -> ExitCode {
    let since = match moment(&arguments.since, SystemClock.unix_ms()) {
        Ok(since) => since,
        Err(error) => return complain(&format!("--since: {error}")),
    };
    run(&arguments.rules, config, since, None, arguments.samples, Report::summary)
}

/// Simulates.
pub(super) fn simulate(arguments: SimulateCommand, config: Option<PathBuf>) -> ExitCode {
    let days = arguments.days;
    let since = SystemClock.unix_ms().saturating_sub(days * 86_400_000);
    let prices = match arguments.prices.as_deref().map(Prices::read).transpose() {
        Ok(prices) => prices.map(Arc::new),
        Err(error) => return complain(&error),
    };
    let file = arguments.prices.as_deref();
    let prices = file.zip(prices);
    run(&arguments.rules, config, since, prices, 0, |report| Spend(report, days).summary())
}

fn run(
    rules: &Rules,
    config: Option<PathBuf>,
    since_ms: u64,
    prices: Option<(&Path, Arc<Prices>)>,
    samples: usize,
    summary: impl Fn(&Report) -> String,
) -> ExitCode {
    let candidate = House::open(config).and_then(|house| {
        let dir = house.checked().config.decisions.dir.clone();
        let snapshot = house.sketch(rules.policies.as_deref())?;
        crate::cli::models::read_files(&house.figures());
        Ok((snapshot, dir))
    });
    let (candidate, store) = match candidate {
        Ok(both) => both,
        Err(problems) => {
            problems.print();
            return super::cannot();
        }
    };
    if let Some((file, prices)) = &prices {
        for name in prices.strangers(&*candidate.market) {
            let told = "its price counts only where a request names it";
            eprintln!("tollgate: {}: no target of the configuration is `{name}`: {told}", file.display());
        }
    }
    let prices = prices.as_ref().map(|(_, prices)| Arc::clone(prices));
    let replay = Replay { candidate: &candidate, since_ms, prices, samples };
    let report =
        source_of(&rules.from, store.as_deref(), since_ms).and_then(|source| replay.run(&source.files));
    let mut report = match report {
        Ok(report) => report,
        Err(error) => return complain(&error),
    };
    if report.asked == 0 {
        return complain(&format!("no decisions in that time ({} lines are no records)", report.unreadable));
    }
    report.measure(&Bars {
        changed: rules.max_changed,
        denied: rules.max_denied,
        cost: rules.max_cost,
        latency: rules.max_latency,
        undecidable: rules.max_undecidable,
    });
    match serde_json::to_string_pretty(&report) {
        Ok(json) if rules.json => println!("{json}"),
        _ => print!("{}", summary(&report)),
    }
    if report.exceeded.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn complain(error: &str) -> ExitCode {
    eprintln!("tollgate: {error}");
    super::cannot()
}
