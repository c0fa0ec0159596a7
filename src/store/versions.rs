//! Sets of policies that were in service, with their texts, so that an older one can serve again.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Sets that are kept; those that served longest ago go first.
const MOST: usize = 50;
/// Sets whose texts are larger than this, in bytes, are kept in memory only as long as they are among the last few.
const MOST_BYTES: usize = 32 << 20;
/// The directory below that of the decision records.
const DIR: &str = "policy-versions";
/// What is remembered of the candidate.
const CANDIDATE: &str = "candidate.json";

/// One set of policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Hash of names and texts.
    pub hash: Arc<str>,
    /// When it was first taken into service, in Unix milliseconds.
    pub first_ms: u64,
    /// When it was last taken into service.
    pub last_ms: u64,
    /// Its files.
    pub files: Vec<VersionFile>,
}

/// One file of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionFile {
    /// Path below the policies' directory without its ending.
    pub name: Arc<str>,
    /// The file that it was read from.
    pub path: PathBuf,
    /// Its text.
    pub text: Arc<str>,
}

/// The sets that were in service.
#[derive(Default)]
pub struct Versions {
    dir: Option<PathBuf>,
    kept: Mutex<VecDeque<Arc<Version>>>,
}

impl Versions {
    /// The sets that were kept below `dir`, the directory of the decision records; without one, none, and they are kept
    /// in memory only. What cannot be read is told in the log and left out.
    pub fn open(dir: Option<&Path>) -> Self {
        let dir = dir.map(|dir| dir.join(DIR));
        let mut kept: Vec<Arc<Version>> = Vec::new();
        for path in
            dir.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten()).map(|e| e.path())
        {
            if !is_version(&path) {
                continue;
            }
            let read = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice::<Version>(&bytes)?));
            match read {
                Ok(version) => kept.push(Arc::new(version)),
                Err(error) => {
                    tracing::warn!(%error, file = %path.display(), "a version of the policies cannot be read");
                }
            }
        }
        kept.sort_by_key(|version| std::cmp::Reverse(version.last_ms));
        kept.truncate(MOST);
        Self { dir, kept: Mutex::new(kept.into()) }
    }

    /// A set went into service.
    pub fn took(&self, hash: &Arc<str>, now_ms: u64, files: impl FnOnce() -> Vec<VersionFile>) {
        let (version, gone) = {
            let mut kept = self.lock();
            let known = kept.iter().position(|version| version.hash == *hash).and_then(|at| kept.remove(at));
            let version = Arc::new(match known {
                Some(known) => Version { last_ms: now_ms, ..(*known).clone() },
                None => Version { hash: hash.clone(), first_ms: now_ms, last_ms: now_ms, files: files() },
            });
            kept.push_front(version.clone());
            let mut gone = Vec::new();
            while kept.len() > MOST
                || kept.len() > 2 && kept.iter().map(|v| v.bytes()).sum::<usize>() > MOST_BYTES
            {
                gone.extend(kept.pop_back());
            }
            (version, gone)
        };
        let Some(dir) = &self.dir else { return };
        let written = write(dir, &format!("{hash}.json"), &*version);
        if let Err(error) = written {
            tracing::warn!(%error, dir = %dir.display(), "a version of the policies cannot be kept on disk");
        }
        for version in gone {
            // It may be gone already.
            let _ = fs::remove_file(dir.join(format!("{}.json", version.hash)));
        }
    }

    /// All of them, the one that was taken last first.
    pub fn all(&self) -> Vec<Arc<Version>> {
        self.lock().iter().cloned().collect()
    }

    /// The one whose hash begins so.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, beginning: &str) -> Result<Arc<Version>, String> {
        let kept = self.lock();
        let mut found = kept.iter().filter(|version| version.hash.starts_with(beginning));
        match (found.next(), found.next()) {
            (Some(version), None) => Ok(version.clone()),
            (None, _) => Err(format!("there is no version `{beginning}`; see `tollgate policy versions`")),
            (Some(_), Some(_)) => Err(format!("`{beginning}` is the beginning of more than one version")),
        }
    }

    /// The one that was in service before `hash`.
    ///
    /// # Errors
    /// When none was.
    pub fn before(&self, hash: &str) -> Result<Arc<Version>, String> {
        let kept = self.lock();
        let older = kept.iter().find(|version| *version.hash != *hash).cloned();
        older.ok_or_else(|| "no other set of policies was in service before".to_owned())
    }

    /// What is remembered of a candidate beyond the process.
    pub fn remembered(&self) -> Option<Value> {
        let bytes = fs::read(self.dir.as_ref()?.join(CANDIDATE)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers something of the candidate, or nothing any more.
    pub fn remember(&self, what: Option<Value>) {
        let Some(dir) = &self.dir else { return };
        let done = match what {
            Some(what) => write(dir, CANDIDATE, &what),
            None => match fs::remove_file(dir.join(CANDIDATE)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        };
        if let Err(error) = done {
            tracing::warn!(%error, dir = %dir.display(), "the state of the candidate policies cannot be kept on disk");
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Version>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Version {
    fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.text.len()).sum()
    }
}

fn is_version(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".json") && name != CANDIDATE && !name.starts_with('.')
}

/// Written beside and renamed, so that a file is whole or not there.
fn write(dir: &Path, name: &str, what: &impl Serialize) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let beside = dir.join(format!(".{name}-{}", std::process::id()));
    fs::write(&beside, serde_json::to_vec(what)?)?;
    fs::rename(beside, dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> Vec<VersionFile> {
        vec![VersionFile { name: "10-a".into(), path: "10-a.rhai".into(), text: text.into() }]
    }

    fn hashes(versions: &Versions) -> Vec<String> {
        versions.all().iter().map(|version| version.hash.to_string()).collect()
    }

    #[test]
    fn the_last_one_stands_first_and_survives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::open(Some(dir.path()));
        for (at, hash) in ["aa", "ab", "aa"].into_iter().enumerate() {
            versions.took(&hash.into(), at as u64, || files(hash));
        }
        assert_eq!(hashes(&versions), ["aa", "ab"]);
        assert_eq!((versions.all()[0].first_ms, versions.all()[0].last_ms), (0, 2));
        assert_eq!(&*versions.before("aa").unwrap().hash, "ab");
        assert!(versions.find("a").unwrap_err().contains("more than one"));
        assert!(versions.find("b").is_err() && versions.find("ab").is_ok());
        versions.remember(Some(serde_json::json!({ "hash": "ab" })));
        fs::write(dir.path().join(DIR).join("torn.json"), "{").unwrap();
        let again = Versions::open(Some(dir.path()));
        assert_eq!(
            (hashes(&again), again.find("ab").unwrap().files.clone()),
            (hashes(&versions), files("ab"))
        );
        assert_eq!(again.remembered().unwrap()["hash"], "ab");
        again.remember(None);
        assert!(again.remembered().is_none());
    }

    #[test]
    fn only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::open(Some(dir.path()));
        for at in 0..60_u64 {
            versions.took(&format!("{at:02}").into(), at, || files("x"));
        }
        assert_eq!(versions.all().len(), MOST);
        assert_eq!(fs::read_dir(dir.path().join(DIR)).unwrap().count(), MOST);
        assert!(Versions::default().before("x").is_err());
    }
}
