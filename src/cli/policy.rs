//! `tollgate policy …`: what can be done with policies before and after they act.

mod coverage;
mod junit;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

/// Commands for policies; each stands in a file of its own.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Run the tests of the policies: `X_test.rhai` beside `X.rhai`, and tables in `tests/*.yaml`.
    Test(test::TestArgs),
}

/// Runs one of them with this configuration.
pub(super) fn run(command: PolicyCommand, config: Option<PathBuf>) -> ExitCode {
    match command {
        PolicyCommand::Test(args) => test::test(&args, config),
    }
}
