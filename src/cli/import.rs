//! `tollgate import`: a configuration of another gateway becomes one of Tollgate's.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use secrecy::{ExposeSecret, SecretString};

use crate::house::import::{Imported, litellm};
use crate::house::{self, Diagnostic, Shipped};

/// What is imported.
#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// The `config.yaml` of LiteLLM's proxy: models, fallbacks, keys, budgets. What cannot be carried is listed.
    Litellm {
        /// The file that `litellm --config` reads.
        file: PathBuf,
        /// Where to write the configuration; by default standard output.
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Write secrets that stand in the file itself into files of this directory, readable by you alone. By default
        /// the result refers to variables, which you set.
        #[arg(long, value_name = "DIR")]
        secrets: Option<PathBuf>,
        /// Fail when anything cannot be carried, and write nothing then.
        #[arg(long)]
        strict: bool,
    },
}

/// Imports.
pub(super) fn run(command: &ImportCommand) -> ExitCode {
    let ImportCommand::Litellm { file, out, secrets, strict } = command;
    let name = file.display().to_string();
    let text = match std::fs::read(file) {
        Ok(bytes) => house::utf8(&name, bytes),
        Err(error) => Err(Diagnostic::error(&*name, format!("cannot be read: {error}")).into()),
    };
    let dir = secrets.as_ref().map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
    let env = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
    let imported = match text.and_then(|text| litellm(&name, &text, &env, dir)) {
        Ok(imported) => imported,
        Err(problems) => {
            problems.print();
            return ExitCode::FAILURE;
        }
    };
    imported.left.print();
    let left = imported.left.0.len();
    if *strict && left > 0 {
        eprintln!("{left} things cannot be carried (see above): nothing was written, as `--strict` is given");
        return ExitCode::FAILURE;
    }
    if let Err(error) = write(&imported, out.as_deref(), secrets.as_deref()) {
        eprintln!("tollgate: {error}");
        return ExitCode::FAILURE;
    }
    let sound = judge(&imported, out.as_deref());
    if secrets.is_none() {
        for variable in imported.secrets.keys() {
            eprintln!("set the variable {variable}: its value stands in {name}, and is not copied");
        }
    }
    let (providers, models) = imported.counts;
    eprintln!("{providers} providers and {models} models carried, {left} things not (see above)");
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write(imported: &Imported, out: Option<&Path>, secrets: Option<&Path>) -> Result<(), String> {
    if let Some(dir) = secrets
        && !imported.secrets.is_empty()
    {
        let at = |error: io::Error| format!("{}: {error}", dir.display());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at)?;
        for (name, secret) in &imported.secrets {
            let path = dir.join(name);
            keep(&path, secret).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    match out {
        Some(path) => {
            let new = OpenOptions::new().write(true).create_new(true).open(path);
            new.and_then(|mut file| file.write_all(imported.yaml.as_bytes()))
                .map_err(|error| format!("{}: {error}; nothing is overwritten", path.display()))
        }
        None => io::stdout().write_all(imported.yaml.as_bytes()).map_err(|error| error.to_string()),
    }
}

fn keep(path: &Path, secret: &SecretString) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(secret.expose_secret().as_bytes())
}

/// Whether the result passes the check; what is wrong with it is printed.
fn judge(imported: &Imported, out: Option<&Path>) -> bool {
    let name = out.map_or_else(|| "<result>".to_owned(), |out| out.display().to_string());
    match house::check(house::read(&name, &imported.yaml), &Shipped) {
        Ok((_, warnings)) => {
            warnings.print();
            true
        }
        Err(problems) => {
            problems.print();
            false
        }
    }
}
