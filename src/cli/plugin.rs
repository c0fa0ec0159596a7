//! `tollgate plugin …`: what can be done with plugins before they are put to work.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

/// Commands for plugins; each stands in a file of its own.
#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {}

/// Runs one of them with this configuration.
pub(super) fn run(command: PluginCommand, _config: Option<PathBuf>) -> ExitCode {
    match command {}
}
