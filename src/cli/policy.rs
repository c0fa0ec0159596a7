//! `tollgate policy …`: what can be done with policies before and after they act.

mod coverage;
mod definitions;
mod explain;
mod junit;
mod replay;
mod rollout;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

/// Commands for policies; each stands in a file of its own.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Print what policies can say, for editors (`.d.rhai`) or as JSON.
    Definitions(definitions::Definitions),
    /// Run the tests of the policies: `X_test.rhai` beside `X.rhai`, and tables in `tests/*.yaml`.
    Test(test::TestArgs),
    /// Explain how a request is decided, or how a recorded one was.
    Explain(Box<explain::Explain>),
    /// Ask a set of policies about recorded decisions, and show what would change.
    Replay(Box<replay::ReplayCommand>),
    /// Show what the shadow and candidate policies of the running gateway do otherwise than those in service.
    Shadow(rollout::Look),
    /// Give the candidate policies of the running gateway a share of the callers.
    Promote(rollout::PromoteArgs),
    /// List the sets of policies that were in service.
    Versions(rollout::Look),
    /// Serve an older set of policies until the files on disk change.
    Rollback(rollout::RollBackArgs),
    /// Show what recorded traffic would cost under other rules or prices.
    Simulate(Box<replay::SimulateCommand>),
}

/// Runs one of them with this configuration.
pub(super) fn run(command: PolicyCommand, config: Option<PathBuf>) -> ExitCode {
    match command {
        PolicyCommand::Definitions(wanted) => definitions::run(&wanted),
        PolicyCommand::Test(args) => test::test(&args, config),
        PolicyCommand::Explain(arguments) => explain::explain(*arguments, config),
        PolicyCommand::Replay(arguments) => replay::replay(*arguments, config),
        PolicyCommand::Shadow(look) => rollout::shadow(&look, config),
        PolicyCommand::Promote(args) => rollout::promote(&args, config),
        PolicyCommand::Versions(look) => rollout::versions(&look, config),
        PolicyCommand::Rollback(args) => rollout::roll_back(&args, config),
        PolicyCommand::Simulate(arguments) => replay::simulate(*arguments, config),
    }
}

/// The command cannot do what it was asked for; 1 means that it did, and found too much.
fn cannot() -> ExitCode {
    ExitCode::from(2)
}
