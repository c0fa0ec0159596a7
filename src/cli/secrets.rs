//! `tollgate secrets`: providers' secrets in the keystore, encrypted at rest.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use crate::clock::{Clock, SystemClock};
use crate::house::House;
use crate::store::keystore::Keystore;

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub(super) enum SecretsCommand {
    /// Set a secret, which is read from standard input. A gateway that refers to it (`keystore:NAME`) uses it at once.
    Set {
        /// Its name.
        name: String,
    },
    /// Set a secret that is there to a new value, read from standard input.
    Rotate {
        /// Its name.
        name: String,
    },
    /// List names and versions, without the secrets.
    List,
    /// Take a secret out.
    Remove {
        /// Its name.
        name: String,
    },
}

/// Carries out one command.
pub(super) fn run(command: &SecretsCommand, config: Option<PathBuf>) -> ExitCode {
    match done(command, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn done(command: &SecretsCommand, config: Option<PathBuf>) -> Result<(), String> {
    let house = House::open(config).map_err(|problems| problems.to_string())?;
    let mut store = house.keystore()?;
    match command {
        SecretsCommand::List => {
            for about in store.list() {
                println!("{}", json!(about));
            }
            Ok(())
        }
        SecretsCommand::Set { name } => set(&house, &mut store, name, "secret.set"),
        SecretsCommand::Rotate { name } => {
            if !store.list().iter().any(|about| about.name == *name) {
                return Err(format!(
                    "there is no secret `{name}` in the keystore; `tollgate secrets set` makes one"
                ));
            }
            set(&house, &mut store, name, "secret.rotate")
        }
        SecretsCommand::Remove { name } => {
            note(&house, "secret.remove", name)?;
            if store.remove(name)? {
                Ok(())
            } else {
                Err(format!("there is no secret `{name}` in the keystore"))
            }
        }
    }
}

fn set(house: &House, store: &mut Keystore, name: &str, action: &str) -> Result<(), String> {
    store.try_key()?;
    let mut text = Zeroizing::new(String::new());
    let read = std::io::stdin().lock().take(64 << 10).read_to_string(&mut text);
    read.map_err(|error| format!("standard input: {error}"))?;
    note(house, action, name)?;
    let about = store.set(name, text.trim(), SystemClock.unix_ms())?;
    println!("{}: version {}; refer to it as keystore:{}", about.name, about.version, about.name);
    Ok(())
}

/// Writes into the audit log who changes a secret. While a gateway has the database open, it notes the change itself: its
/// reload, and the secrets that it reads for that.
fn note(house: &House, action: &str, name: &str) -> Result<(), String> {
    match house.database() {
        Ok(None) => Ok(()),
        Ok(database) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| format!("runtime: {error}"))?;
            let desk = house.key_desk(database, None)?;
            let noted = runtime.block_on(desk.note(&super::remote::actor(), action, name, json!({})));
            noted.map_err(|refused| refused.to_string())
        }
        Err(error) if error.contains("is in use by another gateway") => Ok(()),
        Err(error) => Err(error),
    }
}
