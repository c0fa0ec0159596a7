//! Where events of files are listened for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::house::plugins::is_plugin;
use crate::house::sources::{Identity, Paths, directory, identity, is_policy};

/// What is listened to.
pub(super) struct Ears {
    watcher: Option<RecommendedWatcher>,
    /// Directories, and which one it was when listening began: a replaced directory is deaf.
    pub(super) heard: BTreeMap<PathBuf, Identity>,
    pub(super) deaf: bool,
}

impl Ears {
    /// Ears that hear nothing yet; without a watcher, they never do.
    pub(super) fn with(watcher: Option<RecommendedWatcher>) -> Self {
        Self { watcher, heard: BTreeMap::new(), deaf: false }
    }

    /// Listens where the files lie now.
    pub(super) fn listen(&mut self, paths: &Paths) {
        let Some(watcher) = &mut self.watcher else {
            self.deaf = true;
            return;
        };
        // One directory by two names would be one watch in the kernel, and ending one would end both.
        let mut once = BTreeSet::new();
        // Events name absolute paths.
        let wanted: BTreeMap<PathBuf, Identity> = directories(paths)
            .into_iter()
            .filter_map(|dir| std::path::absolute(dir).ok())
            .filter_map(|dir| fs::metadata(&dir).ok().map(|metadata| (dir, identity(&metadata))))
            .filter(|(_, identity)| once.insert(*identity))
            .collect();
        let stale: Vec<PathBuf> = self
            .heard
            .iter()
            .filter(|(dir, id)| wanted.get(*dir) != Some(id))
            .map(|(dir, _)| dir.clone())
            .collect();
        for dir in stale {
            self.heard.remove(&dir);
            // It may be gone already, and its watch with it.
            let _ = watcher.unwatch(&dir);
        }
        self.deaf = false;
        for (dir, id) in wanted {
            if self.heard.contains_key(&dir) {
                continue;
            }
            match watcher.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.heard.insert(dir, id)),
                Err(_) => self.deaf = true,
            }
        }
    }

    /// Whether an event at `path` may matter. A log file that is written beside the configuration does not.
    pub(super) fn concerns(&self, path: &Path, paths: &Paths) -> bool {
        let named = |known: &PathBuf| known.file_name() == path.file_name();
        if paths.config.iter().chain(&paths.others).any(named) || is_policy(path) || is_plugin(path) {
            return true;
        }
        // Directories and symlinks may lead to our files (`..data` of a ConfigMap); other files do not.
        let is_directory_of_ours = self.heard.keys().any(|dir| dir.file_name() == path.file_name());
        is_directory_of_ours || fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file())
    }
}

/// Where events of our files appear: their directories, as named and as symlinks lead there, and the directories'
/// own parents.
fn directories(paths: &Paths) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    let mut add = |file: &Path| {
        all.insert(directory(Some(file)).to_owned());
        if let Ok(real) = file.canonicalize() {
            all.insert(directory(Some(&real)).to_owned());
        }
    };
    paths.config.iter().chain(&paths.others).for_each(|file| add(file));
    paths.plugins.files().iter().for_each(|file| add(file));
    let beside = paths.beside.iter().map(|(_, dir, _)| dir);
    for dir in [&paths.policies, &paths.plugins.dir].into_iter().chain(beside) {
        add(dir);
        if let Some(parent) = dir.parent() {
            add(parent);
        }
    }
    paths.linked_policies().iter().for_each(|file| add(file));
    all.insert(paths.plugins.dir.clone());
    all.extend(paths.policy_dirs());
    all
}
