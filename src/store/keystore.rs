//! Secrets in a file, encrypted with XChaCha20-Poly1305: each by itself, bound to its name and version.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The shortest key, in bytes.
pub const MIN_KEY: usize = 32;

/// The largest file.
const MOST: u64 = 4 << 20;

/// A file of encrypted secrets, and the key to it.
pub struct Keystore {
    path: PathBuf,
    cipher: XChaCha20Poly1305,
    sheet: Sheet,
}

/// The file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sheet {
    format: u32,
    secrets: BTreeMap<String, Sealed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    version: u64,
    changed_ms: u64,
    nonce: String,
    sealed: String,
}

/// What may be told of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About {
    /// Its name.
    pub name: String,
    /// Counts up with each change.
    pub version: u64,
    /// When it was set, in Unix milliseconds.
    pub changed_ms: u64,
}

impl Keystore {
    /// Opens the file; one that is not there is empty.
    ///
    /// # Errors
    /// When the key is too short, or the file cannot be read.
    pub fn open(path: &Path, key: &[u8]) -> Result<Self, String> {
        let complain = |what: String| format!("`{}`: {what}", path.display());
        if key.len() < MIN_KEY {
            return Err(format!("the key of the keystore is shorter than {MIN_KEY} bytes"));
        }
        let sheet = match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Sheet { format: 1, ..Sheet::default() }
            }
            Err(error) => return Err(complain(format!("cannot be read: {error}"))),
            Ok(file) if !file.is_file() || file.len() > MOST => {
                return Err(complain("is no keystore".into()));
            }
            Ok(_) => {
                let text = fs::read(path).map_err(|error| complain(format!("cannot be read: {error}")))?;
                serde_json::from_slice(&text).map_err(|_| complain("is no keystore".into()))?
            }
        };
        if sheet.format != 1 {
            return Err(complain("was written by a newer version".into()));
        }
        let key = Zeroizing::new(blake3::derive_key("tollgate 2026 keystore", key));
        let cipher = XChaCha20Poly1305::new((&*key).into());
        Ok(Self { path: path.to_owned(), cipher, sheet })
    }

    /// A secret by its name.
    ///
    /// # Errors
    /// When there is none, or the key is another one than it was sealed with.
    pub fn get(&self, name: &str) -> Result<Zeroizing<String>, String> {
        let sealed = self.sheet.secrets.get(name).ok_or("there is no secret of this name in the keystore")?;
        let broken = || "the keystore has another key, or was changed".to_owned();
        let nonce: [u8; 24] =
            STANDARD.decode(&sealed.nonce).ok().and_then(|n| n.try_into().ok()).ok_or_else(broken)?;
        let msg = STANDARD.decode(&sealed.sealed).map_err(|_| broken())?;
        let aad = bound(name, sealed.version);
        let payload = Payload { msg: &msg, aad: aad.as_bytes() };
        let opened = self.cipher.decrypt(&XNonce::from(nonce), payload).map_err(|_| broken())?;
        let opened = Zeroizing::new(opened);
        std::str::from_utf8(&opened).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| broken())
    }

    /// Tries the key on what is there: one secret that opens will do, for another one may have been changed.
    ///
    /// # Errors
    /// When there are secrets, and the key opens none.
    pub fn try_key(&self) -> Result<(), String> {
        let mut tried = Ok(());
        for name in self.sheet.secrets.keys() {
            tried = self.get(name).map(drop);
            if tried.is_ok() {
                break;
            }
        }
        tried
    }

    /// Sets a secret and writes the file: whole, or not at all.
    ///
    /// # Errors
    /// When the name or the secret cannot be, the key is not that of the file, or the file cannot be written.
    pub fn set(&mut self, name: &str, secret: &str, now_ms: u64) -> Result<About, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
            return Err("a name has letters, digits, `.`, `_`, `-` and `/`".into());
        }
        if secret.is_empty() {
            return Err("the secret is empty".into());
        }
        self.try_key()?;
        let version = self.sheet.secrets.get(name).map_or(1, |sealed| sealed.version + 1);
        let mut nonce = [0; 24];
        SystemRandom::new().fill(&mut nonce).map_err(|_| "the system has no randomness")?;
        let aad = bound(name, version);
        let payload = Payload { msg: secret.as_bytes(), aad: aad.as_bytes() };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| "cannot be encrypted")?;
        let (nonce, sealed) = (STANDARD.encode(nonce), STANDARD.encode(sealed));
        self.sheet.secrets.insert(name.to_owned(), Sealed { version, changed_ms: now_ms, nonce, sealed });
        self.write()?;
        Ok(About { name: name.to_owned(), version, changed_ms: now_ms })
    }

    /// Takes a secret out; `false` where there was none.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remove(&mut self, name: &str) -> Result<bool, String> {
        let was_there = self.sheet.secrets.remove(name).is_some();
        if was_there {
            self.write()?;
        }
        Ok(was_there)
    }

    /// What there is, without the secrets.
    pub fn list(&self) -> Vec<About> {
        let about = |(name, sealed): (&String, &Sealed)| About {
            name: name.clone(),
            version: sealed.version,
            changed_ms: sealed.changed_ms,
        };
        self.sheet.secrets.iter().map(about).collect()
    }

    fn write(&self) -> Result<(), String> {
        let text = serde_json::to_string_pretty(&self.sheet).map_err(|error| error.to_string())?;
        let written = write_whole(&self.path, &text);
        written.map_err(|error| format!("`{}`: cannot be written: {error}", self.path.display()))
    }
}

/// Beside it, synced, then renamed over it: nobody reads half of it.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn bound(name: &str, version: u64) -> String {
    format!("tollgate keystore\0{name}\0{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"a key of the keystore of 32 bytes or more";

    #[test]
    fn what_was_set_is_there_after_the_next_start_and_not_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/keystore.json");
        let mut store = Keystore::open(&path, KEY).unwrap();
        store.set("openai", "sk-first", 1).unwrap();
        assert_eq!(store.set("openai", "sk-second", 2).unwrap().version, 2);
        store.set("other", "sk-other", 3).unwrap();
        let store = Keystore::open(&path, KEY).unwrap();
        assert_eq!(store.get("openai").unwrap().as_str(), "sk-second");
        assert_eq!(store.list().len(), 2);
        assert!(!fs::read_to_string(&path).unwrap().contains("sk-"));
        assert!(store.get("nobody").is_err());
    }

    #[test]
    fn another_key_or_a_swapped_entry_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keystore.json");
        let mut store = Keystore::open(&path, KEY).unwrap();
        store.set("a", "secret-a", 1).unwrap();
        store.set("b", "secret-b", 1).unwrap();
        let stranger = Keystore::open(&path, b"another key of the keystore, long enough").unwrap();
        assert!(stranger.get("a").is_err());
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"a\"", "\"x\"").replace("\"b\"", "\"a\"")).unwrap();
        assert!(Keystore::open(&path, KEY).unwrap().get("a").is_err());
        assert!(Keystore::open(&path, b"short").is_err());
    }

    #[test]
    fn another_key_sets_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keystore.json");
        Keystore::open(&path, KEY).unwrap().set("a", "secret-a", 1).unwrap();
        let before = fs::read(&path).unwrap();
        let mut stranger = Keystore::open(&path, b"another key of the keystore, long enough").unwrap();
        for name in ["a", "b"] {
            let refused = stranger.set(name, "secret-b", 2).unwrap_err();
            assert_eq!(Some(refused), stranger.get("a").err(), "{name}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(stranger.remove("a").unwrap());
        stranger.set("a", "secret-b", 3).unwrap();
    }
}
