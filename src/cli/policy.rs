//! `tollgate policy …`: what can be done with policies before and after they act.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

/// Commands for policies; each stands in a file of its own.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {}

/// Runs one of them with this configuration.
pub(super) fn run(command: PolicyCommand, _config: Option<PathBuf>) -> ExitCode {
    match command {}
}
