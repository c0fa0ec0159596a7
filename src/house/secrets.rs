//! References to secrets become secrets: named in every error, shown in none.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::{Zeroize, Zeroizing};

use super::keystore::KeystoreSettings;
use super::vaults::Vaults;
use crate::settings::SecretRef;
use crate::store::keystore::Keystore;

/// Size of a secret file, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// Where references lead.
pub struct Secrets<'w> {
    dir: &'w Path,
    env: &'w dyn Fn(&str) -> Option<OsString>,
    imagined: bool,
    /// References that were looked up.
    read: RefCell<BTreeSet<String>>,
    /// Those of them that led to nothing.
    failed: RefCell<BTreeSet<String>>,
    keystore: Option<KeystoreSettings>,
    opened: OnceCell<Result<Keystore, String>>,
    vaults: Option<&'w Vaults>,
}

impl<'w> Secrets<'w> {
    /// Relative files are below `dir`, the directory of the configuration file.
    pub fn new(dir: &'w Path) -> Self {
        Self {
            dir,
            env: &|name| std::env::var_os(name),
            imagined: false,
            read: RefCell::default(),
            failed: RefCell::default(),
            keystore: None,
            opened: OnceCell::new(),
            vaults: None,
        }
    }

    /// Nothing is looked up: what is built with these reaches nobody.
    pub fn imagined() -> Self {
        Self {
            dir: Path::new("."),
            env: &|_| None,
            imagined: true,
            read: RefCell::default(),
            failed: RefCell::default(),
            keystore: None,
            opened: OnceCell::new(),
            vaults: None,
        }
    }

    /// With a keystore.
    pub fn with_keystore(self, keystore: &KeystoreSettings) -> Self {
        Self { keystore: Some(keystore.clone()), ..self }
    }

    /// With stores elsewhere.
    pub fn with_vaults(self, vaults: &'w Vaults) -> Self {
        Self { vaults: Some(vaults), ..self }
    }

    /// The stores elsewhere, where they can be asked.
    pub fn vaults(&self) -> Option<&'w Vaults> {
        self.vaults
    }

    /// References of the secrets that were looked up, for the audit log.
    pub fn read(&self) -> Vec<String> {
        self.read.borrow().iter().cloned().collect()
    }

    /// Those of them that led to nothing.
    pub fn failed(&self) -> Vec<String> {
        self.failed.borrow().iter().cloned().collect()
    }

    /// Whether nothing is looked up.
    pub fn are_imagined(&self) -> bool {
        self.imagined
    }

    /// With an environment that is handed in.
    #[cfg(test)]
    pub fn with_env(dir: &'w Path, env: &'w dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { dir, env, imagined: false, ..Self::new(dir) }
    }

    /// Resolves a reference.
    ///
    /// # Errors
    /// A sentence that names the reference and what is wrong with it, never its value.
    pub fn resolve(&self, reference: &SecretRef) -> Result<SecretString, String> {
        let complain = |what: String| format!("`{reference}`: {what}");
        self.read.borrow_mut().insert(reference.to_string());
        let secret = self.text(reference).map_err(complain)?;
        if secret.is_empty() {
            return Err(complain("is empty".into()));
        }
        if secret.chars().any(char::is_control) {
            return Err(complain("contains line breaks or other control characters".into()));
        }
        // A copy of exactly this length: making the boxed text of it leaves no copy behind.
        Ok(SecretString::from(String::from(secret.as_str())))
    }

    /// Whether a variable of the environment is set to something.
    pub fn is_set(&self, name: &str) -> bool {
        (self.env)(name).is_some_and(|value| !value.is_empty())
    }

    /// A variable of the environment that is no secret.
    pub fn plain(&self, name: &str) -> Option<String> {
        (self.env)(name)?
            .into_string()
            .ok()
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    }

    /// The text of a file with secrets in it.
    ///
    /// # Errors
    /// What is wrong with it, never what stands in it.
    pub fn file(&self, path: &Path) -> Result<Zeroizing<String>, String> {
        let path = below(self.dir, path);
        file(&path).map_err(|what| format!("`{}`: {what}", path.display()))
    }

    /// Resolves a reference to a document, which may have several lines.
    ///
    /// # Errors
    /// A sentence that names the reference and what is wrong with it, never its value.
    pub fn document(&self, reference: &SecretRef) -> Result<Zeroizing<String>, String> {
        self.read.borrow_mut().insert(reference.to_string());
        let text = self.text(reference).map_err(|what| format!("`{reference}`: {what}"))?;
        if text.is_empty() { Err(format!("`{reference}`: is empty")) } else { Ok(text) }
    }

    /// Resolves a token that protects something of ours, so that it must not be guessable: `least` bytes.
    ///
    /// # Errors
    /// As for [`Self::resolve`], and when the token is too short.
    pub fn resolve_token(&self, reference: &SecretRef, least: usize) -> Result<SecretString, String> {
        use secrecy::ExposeSecret;
        let token = self.resolve(reference)?;
        if token.expose_secret().len() < least {
            return Err(format!("`{reference}`: is shorter than {least} bytes"));
        }
        Ok(token)
    }

    fn text(&self, reference: &SecretRef) -> Result<Zeroizing<String>, String> {
        let text = match reference {
            SecretRef::Env(name) => self.variable(name),
            SecretRef::File(path) => file(&below(self.dir, path)),
            SecretRef::Keystore(name) => self.kept(name),
            SecretRef::Vault { .. } | SecretRef::AwsSecrets { .. } => match self.vaults {
                Some(vaults) => vaults.get(reference),
                None => {
                    Err("a store elsewhere cannot be asked for this secret; use `env:NAME` or `file:PATH`"
                        .into())
                }
            },
        };
        if text.is_err() {
            self.failed.borrow_mut().insert(reference.to_string());
        }
        text
    }

    /// A secret of the keystore, which is opened once and forgotten with these.
    fn kept(&self, name: &str) -> Result<Zeroizing<String>, String> {
        let Some(settings) = &self.keystore else { return Err("no keystore can be used here".into()) };
        let store = self.opened.get_or_init(|| settings.open(self.dir, &Secrets::new(self.dir)));
        store.as_ref().map_err(Clone::clone)?.get(name)
    }

    fn variable(&self, name: &str) -> Result<Zeroizing<String>, String> {
        let value = (self.env)(name).ok_or("the environment variable is not set")?;
        let text = value.into_string().map_err(|_| "the environment variable is not valid UTF-8")?;
        let text = Zeroizing::new(text);
        Ok(Zeroizing::new(text.trim().to_owned()))
    }
}

/// `path` below `dir`, unless it is absolute; without the dots that say nothing.
pub(super) fn below(dir: &Path, path: &Path) -> PathBuf {
    let path = path.strip_prefix(".").unwrap_or(path);
    match (dir == Path::new("."), path.as_os_str().is_empty()) {
        (_, true) => dir.to_owned(),
        (true, false) => path.to_owned(),
        (false, false) => dir.join(path),
    }
}

fn file(path: &Path) -> Result<Zeroizing<String>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // Opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET as usize + 1));
    File::open(path).and_then(|file| file.take(MAX_SECRET + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(format!("is larger than {} KiB", MAX_SECRET >> 10));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "is not valid UTF-8")?;
    let secret = Zeroizing::new(text.trim_end().to_owned());
    bytes.zeroize();
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn env(name: &str) -> Option<OsString> {
        match name {
            "KEY" => Some("s3cr3t".into()),
            "EMPTY" => Some(" ".into()),
            "LINES" => Some("s3cr3t\nx".into()),
            _ => None,
        }
    }

    #[test]
    fn references_are_resolved_below_the_configurations_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "s3cr3t \r\n").unwrap();
        let secrets = Secrets::with_env(dir.path(), &env);
        for reference in
            ["env:KEY".to_owned(), "file:key".into(), format!("file:{}/key", dir.path().display())]
        {
            let secret = secrets.resolve(&reference.parse().unwrap()).unwrap();
            assert_eq!(secret.expose_secret(), "s3cr3t", "{reference}");
            assert!(!format!("{secret:?}").contains("s3cr3t"));
        }
    }

    #[test]
    fn what_cannot_be_resolved_is_named_but_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("empty"), "\n").unwrap();
        std::fs::write(dir.path().join("large"), vec![b's'; 70_000]).unwrap();
        std::fs::write(dir.path().join("binary"), b"s3cr3t\xff").unwrap();
        let secrets = Secrets::with_env(dir.path(), &env);
        for (reference, complaint) in [
            ("env:NONE", "`env:NONE`: the environment variable is not set"),
            ("env:EMPTY", "`env:EMPTY`: is empty"),
            ("env:LINES", "`env:LINES`: contains line breaks or other control characters"),
            ("file:none", "`file:none`: cannot be read: No such file or directory (os error 2)"),
            ("file:empty", "`file:empty`: is empty"),
            ("file:large", "`file:large`: is larger than 64 KiB"),
            ("file:binary", "`file:binary`: is not valid UTF-8"),
            ("file:.", "`file:.`: is not a regular file"),
        ] {
            let error = secrets.resolve(&reference.parse().unwrap()).map(drop);
            assert_eq!(error, Err(complaint.to_owned()));
        }
        let short = secrets.resolve_token(&"env:KEY".parse().unwrap(), 16).map(drop);
        assert_eq!(short, Err("`env:KEY`: is shorter than 16 bytes".into()));
    }
}
