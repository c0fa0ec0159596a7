//! `tollgate policy definitions`: the vocabulary of policies for editors and programs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::policy;

/// The file's name; the Rhai language server reads every `*.d.rhai` of a workspace.
const FILE: &str = "tollgate.d.rhai";

/// What to write, and where to.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Definitions {
    /// Folder for `tollgate.d.rhai`, such as `policies`; without it, the definitions are printed.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the vocabulary as JSON instead.
    #[arg(long, conflicts_with = "dir")]
    json: bool,
}

/// Writes or prints the definitions.
pub(in crate::cli) fn run(wanted: &Definitions) -> ExitCode {
    match &wanted.dir {
        Some(dir) => write(dir),
        None if wanted.json => {
            println!("{:#}", policy::described());
            ExitCode::SUCCESS
        }
        None => {
            print!("{}", policy::definitions());
            ExitCode::SUCCESS
        }
    }
}

fn write(dir: &Path) -> ExitCode {
    let path = dir.join(FILE);
    let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, policy::definitions()));
    match written {
        Ok(()) => {
            println!("wrote {}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot write {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}
