//! `tollgate plugin …`: what can be done with plugins before they are put to work.

mod ask;
mod build;
mod cases;
mod compare;
mod inspect;
mod scaffold;
mod settings;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

/// Commands for plugins; each stands in a file of its own.
#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Make a plugin that builds: sources, tests, the contract, a README.
    New(scaffold::New),
    /// Build the plugin of a folder to `NAME.wasm`, whatever its language.
    Build(build::Build),
    /// Show what a file exports, imports and needs, how large it is, and which limits would hold.
    Inspect(inspect::Inspect),
    /// Run the cases of YAML files through the real host.
    Test(test::Test),
}

/// Runs one of them.
pub(super) fn run(command: PluginCommand, _config: Option<PathBuf>) -> ExitCode {
    let done = match command {
        PluginCommand::New(new) => new.run(),
        PluginCommand::Build(build) => build.run(),
        PluginCommand::Inspect(inspect) => inspect.run(),
        PluginCommand::Test(test) => test.run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("tollgate: {error}");
        ExitCode::FAILURE
    })
}
