//! `tollgate check`: everything that `serve` would refuse, before it is served.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::clock::SystemClock;
use crate::house::{Built, Diagnostic, Diagnostics, House};
use crate::listener::TlsReloader;
use crate::upstream::Upstream;

/// What is checked.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Look up no secret and no certificate: where a change is tried, there are none of them.
    #[arg(long)]
    without_secrets: bool,
}

/// Checks configuration, policies and secrets.
pub(super) fn check(args: &CheckArgs, config: Option<PathBuf>) -> ExitCode {
    let opened = if args.without_secrets { House::open_without_secrets(config) } else { House::open(config) };
    let problems = match opened {
        Ok(house) => match built_or_rehearsed(&house, args) {
            Ok(built) => {
                warnings(&house, &built).print();
                if !args.without_secrets {
                    house.tellable().print();
                }
                let snapshot = built.snapshot;
                let absent = house.absent(&snapshot);
                absent.print();
                let beside = snapshot
                    .beside
                    .sides()
                    .flat_map(|(role, side)| side.problems.iter().map(move |p| (role, p)));
                let mut broken = false;
                for (role, problem) in beside {
                    eprintln!("{problem} (the {} policies would not be taken)", role.as_str());
                    broken = true;
                }
                if broken || !absent.0.is_empty() {
                    return ExitCode::FAILURE;
                }
                println!(
                    "ok: {} providers, {} aliases, {} policies with {} tests, {} plugins (snapshot {})",
                    snapshot.catalogue.vendors().len(),
                    snapshot.catalogue.aliases().count(),
                    snapshot.policies.names().count(),
                    built.tests,
                    snapshot.plugins.names().count(),
                    snapshot.hash
                );
                return ExitCode::SUCCESS;
            }
            Err(problems) => problems,
        },
        Err(problems) => problems,
    };
    problems.print();
    ExitCode::FAILURE
}

/// What is probably not meant.
pub(super) fn warnings(house: &House, built: &Built) -> Diagnostics {
    let mut all = house.warnings().clone();
    if built.snapshot.catalogue.vendors().is_empty() {
        all.0.push(nobody_answers(house));
    }
    for (at, source) in house.checked().config.prices.sources.iter().enumerate() {
        if !source.from.contains("://") && !Path::new(&source.from).is_file() {
            let text = format!("the price list `{}` is not there", source.from);
            all.0.push(house.fault_at(&["prices", "sources", &at.to_string(), "from"], text).warning());
        }
    }
    all
}

/// Nothing is wrong with a configuration that is still empty, but who believes it is done should hear of it.
fn nobody_answers(house: &House) -> Diagnostic {
    let text = "no request can be answered: there are no providers";
    let help = "add one: `providers: { sandbox: {} }` needs no account, `providers: { openai: {} }` takes its key from OPENAI_API_KEY";
    Diagnostic { help: Some(help.into()), ..house.fault_at(&["providers"], text) }.warning()
}

fn built_or_rehearsed(house: &House, args: &CheckArgs) -> Result<Built, Diagnostics> {
    if args.without_secrets { house.rehearse() } else { built(house) }
}

/// What `serve` builds, once the files that its listener and its upstream read are good.
pub(super) fn built(house: &House) -> Result<Built, Diagnostics> {
    let config = &house.checked().config;
    let tls = config.tls.iter().flat_map(TlsReloader::faults);
    let mut problems: Vec<Diagnostic> =
        tls.map(|error| house.fault_at(&["tls", error.field()], error.to_string())).collect();
    if let Err(error) = Upstream::new(&config.upstream) {
        problems.push(house.fault_at(&["upstream", error.field()], error.to_string()));
    }
    match house.build(&SystemClock) {
        Ok(built) if problems.is_empty() => return Ok(built),
        Ok(_) => {}
        Err(more) => problems.extend(more.0),
    }
    Err(Diagnostics::in_order(problems))
}
