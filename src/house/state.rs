//! Opens the database that the configuration names, with the tables of every room that keeps something in it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};

use super::House;
use super::build::keys::MIN_PEPPER;
use super::check::auth::promised;
use crate::clock::SystemClock;
use crate::keys::{KeyDesk, SHARED_KINDS};
use crate::ledger::{self, Central};
use crate::store::OWNERS_TABLES;
use crate::store::registry::{REGISTRY_TABLES, Registry, SharedRegistry, SqliteRegistry};
use crate::store::sqlite::{Migration, Sqlite};

/// The tables of all rooms.
const TABLES: &[&[Migration]] = &[ledger::TABLES, REGISTRY_TABLES, OWNERS_TABLES];

impl House {
    /// Opens the database; `None` where none is configured. Blocks.
    ///
    /// # Errors
    /// When it cannot be used: the setting, the file, and what is wrong with it.
    pub fn database(&self) -> Result<Option<Sqlite>, String> {
        let state = &self.checked.config.state;
        let complain = |error: String| format!("state.ledger: {error}");
        let Some(path) = state.database().map_err(complain)? else { return Ok(None) };
        Sqlite::open(&path, TABLES, state.spool).map(Some).map_err(complain)
    }

    /// The desk at which keys are made and changed, for all gateways that share `central` and a pepper; without a database, it only shows those of the configuration.
    /// Blocks.
    ///
    /// # Errors
    /// When the pepper cannot be read, or is another one than before.
    pub fn key_desk(&self, database: Option<Sqlite>, central: Option<&Central>) -> Result<KeyDesk, String> {
        let keys = self.figures.keys.clone();
        keys.promise(promised(&self.checked.config));
        let reference = self.checked.config.auth.pepper.as_ref();
        let told = reference.map(|reference| self.secrets().resolve_token(reference, MIN_PEPPER)).transpose();
        let told = told.map_err(|error| format!("auth.pepper: {error}"))?;
        let Some(database) = database else {
            told.iter().for_each(|pepper| keys.season(pepper));
            return Ok(KeyDesk::new(keys, None, Arc::new(SystemClock)));
        };
        let shared = central.filter(|_| told.is_some());
        let pepper = told.map_or_else(|| own_pepper(&database), Ok)?;
        keys.season(&pepper);
        let registry = SqliteRegistry::open(database, pepper.expose_secret().as_bytes())
            .map_err(|error| format!("auth.pepper: {error}"))?;
        let registry: Arc<dyn Registry> = match shared.map(Central::database) {
            Some((postgres, steps)) => Arc::new(SharedRegistry::new(registry, postgres, steps, SHARED_KINDS)),
            None => Arc::new(registry),
        };
        Ok(KeyDesk::new(keys, Some(registry), Arc::new(SystemClock)))
    }
}

/// The pepper beside the database, made where there is none; which only its owner may read.
fn own_pepper(database: &Sqlite) -> Result<SecretString, String> {
    let path = beside(database.path(), ".pepper");
    let complain = |what: String| format!("`{}`: {what}", path.display());
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().len() >= MIN_PEPPER => return Ok(SecretString::from(text.trim().to_owned())),
        Ok(_) => return Err(complain("is no pepper; put the right one back".into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(complain(error.to_string())),
    }
    if SqliteRegistry::is_seasoned(database)? {
        return Err(complain("is missing, and the stored keys were hashed with it; put it back".into()));
    }
    let mut random = [0; 32];
    SystemRandom::new().fill(&mut random).map_err(|_| "the system has no randomness")?;
    let text = SecretString::from(blake3::Hash::from_bytes(random).to_hex().to_string());
    write_new(&path, text.expose_secret()).map_err(|error| complain(error.to_string()))?;
    Ok(text)
}

/// The path of a file beside the database, named after it.
pub(super) fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Writes a file that is not there yet, and that only its owner may read.
pub(super) fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
