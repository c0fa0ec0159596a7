//! Where the keystore is, and the key to it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::House;
use super::secrets::{Secrets, below};
use super::sources::directory;
use crate::settings::SecretRef;
use crate::store::keystore::{Keystore, MIN_KEY};

/// Secrets that the gateway keeps itself, encrypted: what `keystore:NAME` refers to, and `tollgate secrets` sets.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct KeystoreSettings {
    /// The file, watched; by default `keystore.json` beside the configuration.
    pub file: Option<PathBuf>,
    /// The key that its secrets are encrypted with, at least 32 bytes: `env:NAME` or `file:PATH`.
    pub key: Option<SecretRef>,
    /// Instead, a program and its arguments that print the key: that of a key-management service.
    pub command: Vec<String>,
}

impl KeystoreSettings {
    /// The file, below the configuration's directory.
    pub fn path(&self, dir: &Path) -> PathBuf {
        below(dir, self.file.as_deref().unwrap_or(Path::new("keystore.json")))
    }

    /// Opens the keystore.
    ///
    /// # Errors
    /// When it has no key, or cannot be read.
    pub(super) fn open(&self, dir: &Path, secrets: &Secrets<'_>) -> Result<Keystore, String> {
        let key = match (&self.key, self.command.as_slice()) {
            (Some(SecretRef::Keystore(_)), _) => {
                return Err("the key of the keystore cannot stand in it".into());
            }
            (Some(reference), []) => {
                let key = secrets
                    .resolve_token(reference, MIN_KEY)
                    .map_err(|error| format!("keystore.key: {error}"))?;
                Zeroizing::new(key.expose_secret().to_owned())
            }
            (None, [program, arguments @ ..]) => printed(program, arguments, dir)?,
            (Some(_), _) => return Err("the keystore has both `key` and `command`; give one".into()),
            (None, []) => return Err("the keystore has no key: set `keystore.key`".into()),
        };
        Keystore::open(&self.path(dir), key.as_bytes())
    }
}

/// What a program prints.
fn printed(program: &str, arguments: &[String], dir: &Path) -> Result<Zeroizing<String>, String> {
    let run = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let run = run.map_err(|error| format!("keystore.command: `{program}`: {error}"))?;
    let out = Zeroizing::new(run.stdout);
    if !run.status.success() {
        return Err(format!("keystore.command: `{program}` ended with {}", run.status));
    }
    let text =
        std::str::from_utf8(&out).map_err(|_| format!("keystore.command: `{program}` printed no text"))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

impl House {
    /// The keystore, to be changed.
    ///
    /// # Errors
    /// When it has no key, or cannot be read.
    pub fn keystore(&self) -> Result<Keystore, String> {
        let dir = directory(self.file.as_deref());
        self.checked.config.keystore.open(dir, &Secrets::new(dir))
    }
}
