//! One complete, consistent reading of everything that a snapshot is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::config::Config;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::faults_in;
use super::plugins::{PluginFile, PluginPaths};
use super::read::{read, utf8};
use super::secrets::below;
use crate::gateway::Role;
use crate::policy;
use crate::providers::{HeaderSettings, KeySettings};
use crate::settings::SecretRef;

/// Size of the configuration and of one policy, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Policies in one directory.
const MAX_POLICIES: usize = 4096;
/// Readings until the files hold still.
const MAX_READINGS: usize = 8;

/// The configuration and all policies, as they stood together at one moment.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The configuration file and its text; `None` where the embedded default is used.
    pub config: Option<(PathBuf, String)>,
    /// The policies, in the order of their names.
    pub policies: Vec<PolicySource>,
    /// Their tests: `10-route_test.rhai` beside `10-route.rhai`, tables in `tests/*.yaml`.
    pub tests: Vec<PolicySource>,
    /// Policies that stand beside those in service; broken ones hinder nobody.
    pub(super) beside: Vec<BesideSource>,
    /// The plugins' files.
    pub(super) plugins: Vec<PluginFile>,
    /// Hash of configuration, policies, tests and plugins, 64 hexadecimal digits; without the secrets.
    pub hash: String,
    /// Where all of it was read.
    pub paths: Paths,
    /// Hash of everything, with the contents of secret and TLS files. Never shown.
    pub(super) fingerprint: blake3::Hash,
}

/// One policy file, or one of its tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// Path below the policies' directory without its ending: `10-route`, `lib/words`, `tests/money`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// A set of policies beside the live one, as it was read.
#[derive(Debug, Clone)]
pub(super) struct BesideSource {
    /// Which one it is.
    pub(super) role: Role,
    /// Its directory.
    pub(super) dir: PathBuf,
    /// Its policies and their tests, or why they cannot be read.
    pub(super) files: Result<Vec<PolicySource>, Diagnostics>,
}

impl From<&PolicySource> for policy::Source {
    fn from(file: &PolicySource) -> Self {
        Self { name: file.name.clone(), path: file.path.clone(), text: file.text.clone() }
    }
}

/// The files that a configuration names, relative ones below the configuration's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// The directory of the policies.
    pub policies: PathBuf,
    /// Whether the configuration asks for this directory, so that it must exist.
    pub policies_asked_for: bool,
    /// Whether this directory was there when it was read.
    pub policies_seen: bool,
    /// Directories of policies beside those, and whether the configuration asks for them.
    pub(super) beside: [(Role, PathBuf, bool); 2],
    /// Secrets, certificates and root certificates.
    pub others: Vec<PathBuf>,
    /// Plugins.
    pub(super) plugins: PluginPaths,
}

impl Paths {
    /// The paths that `config`, read from the file `file`, names.
    pub fn of(file: Option<&Path>, config: &Config) -> Self {
        let dir = directory(file);
        let mut others: Vec<PathBuf> = Vec::new();
        each_reference(config, &mut |reference, _| {
            if let SecretRef::File(path) = reference {
                others.push(below(dir, path));
            }
        });
        let accounts =
            config.providers.values().filter_map(|provider| provider.aws.as_ref()?.credentials_file.as_ref());
        others.extend(accounts.map(|path| below(dir, path)));
        others.extend(config.tls.iter().flat_map(|tls| [below(dir, &tls.cert), below(dir, &tls.key)]));
        others.push(config.keystore.path(dir));
        config.keystore.key.iter().for_each(|key| {
            if let SecretRef::File(path) = key {
                others.push(below(dir, path));
            }
        });
        let jwks = config.auth.jwt.iter().filter(|jwt| !jwt.jwks.contains("://"));
        others.extend(jwks.map(|jwt| below(dir, Path::new(&jwt.jwks))));
        others.extend(config.upstream.extra_roots.iter().map(|path| below(dir, path)));
        others.sort();
        others.dedup();
        let policies = below(dir, &config.policies.dir);
        let beside = |role: Role, named: &Option<PathBuf>| match named {
            Some(named) => (role, below(dir, named), true),
            None => (role, policies.join(role.as_str()), false),
        };
        Self {
            config: file.map(Path::to_owned),
            beside: [
                beside(Role::Shadow, &config.policies.shadow.dir),
                beside(Role::Candidate, &config.policies.candidate.dir),
            ],
            policies: policies.clone(),
            policies_asked_for: config.policies.dir != Config::default().policies.dir,
            policies_seen: false,
            others,
            plugins: PluginPaths::of(&config.plugins, dir),
        }
    }
}

impl Paths {
    /// The sets of policies beside the live one that there are.
    fn beside(&self) -> Vec<BesideSource> {
        let there = self.beside.iter().filter(|(_, dir, asked)| *asked || dir.is_dir());
        let read = |(role, dir, _): &(Role, PathBuf, bool)| BesideSource {
            role: *role,
            dir: dir.clone(),
            files: policies(dir, true),
        };
        there.map(read).collect()
    }

    /// All directories in which policies lie.
    pub(super) fn policy_dirs(&self) -> impl Iterator<Item = PathBuf> {
        let dirs = std::iter::once(&self.policies).chain(self.beside.iter().map(|(_, dir, _)| dir));
        dirs.flat_map(|dir| folders(dir)).map(|(dir, _)| dir)
    }

    /// Policies that are symlinks: they change where these lead to.
    pub(super) fn linked_policies(&self) -> Vec<PathBuf> {
        let all = self.policy_dirs().filter_map(|dir| listing(&dir).ok()).flatten();
        all.filter(|path| path.is_symlink()).collect()
    }

    /// A policy of each folder beside the policies that nobody reads.
    pub(super) fn unread(&self) -> Vec<PathBuf> {
        let read: BTreeSet<PathBuf> = self.policy_dirs().collect();
        let entries = fs::read_dir(&self.policies).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let others = names.filter(|name| !is_hidden(name)).map(|name| self.policies.join(name));
        let others = others.filter(|dir| dir.is_dir() && !read.contains(dir));
        let mut found: Vec<PathBuf> =
            others.filter_map(|dir| listing(&dir).ok()?.into_iter().next()).collect();
        found.sort();
        found
    }
}

/// Calls `each` with every reference to a secret that a snapshot is made with, and whether it is a provider's.
pub(super) fn each_reference(config: &Config, each: &mut dyn FnMut(&SecretRef, bool)) {
    config.admin.token.iter().for_each(|reference| each(reference, false));
    config.auth.pepper.iter().for_each(|reference| each(reference, false));
    config.state.postgres.password.iter().for_each(|reference| each(reference, false));
    let redis = config.state.redis.iter().filter_map(|redis| redis.password.as_ref());
    redis.for_each(|reference| each(&reference.0, false));
    let keys = config.keys.values().filter_map(|key| key.secret.as_ref());
    keys.for_each(|reference| each(reference, false));
    for provider in config.providers.values() {
        let mut secret = |reference: &SecretRef| each(reference, true);
        let of_keys = provider.keys.iter().filter_map(|key| match key {
            KeySettings::Plain(_) => None,
            KeySettings::Full(key) => Some(key.headers.values()),
        });
        for header in of_keys.flatten().chain(provider.headers.values()) {
            if let HeaderSettings::Secret(details) = header {
                secret(&details.secret);
            }
        }
        provider.keys.iter().for_each(|key| secret(key.secret()));
        provider.google.iter().filter_map(|google| google.credentials.as_ref()).for_each(&mut secret);
        provider.azure.iter().filter_map(|azure| azure.client_secret.as_ref()).for_each(&mut secret);
        let aws = provider.aws.iter();
        aws.flat_map(|aws| [&aws.access_key_id, &aws.secret_access_key, &aws.session_token])
            .flatten()
            .for_each(&mut secret);
    }
}

/// The directory that relative paths of a configuration file start from.
pub fn directory(config: Option<&Path>) -> &Path {
    match config.and_then(Path::parent) {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

impl Sources {
    /// Reads the configuration, and all files that it names, as they stand together.
    ///
    /// # Errors
    /// Everything that cannot be read, with the reason: missing, not a regular file, over 1 MiB, not UTF-8.
    pub fn read(config: Option<&Path>) -> Result<Self, Diagnostics> {
        Self::read_after(config, None, &[])
    }

    /// As [`Self::read`], after an earlier reading: its paths go on while the configuration is broken, and its
    /// directory of policies may not vanish.
    /// Plugins that have not changed since `known` are not read again.
    pub(super) fn read_after(
        config: Option<&Path>,
        earlier: Option<&Paths>,
        known: &[PluginFile],
    ) -> Result<Self, Diagnostics> {
        for _ in 0..MAX_READINGS {
            let text = match config {
                Some(path) => Some((path.to_owned(), text_of(path)?)),
                None => None,
            };
            let reading = text.as_ref().map(|(path, text)| read(&path.display().to_string(), text));
            let paths = match (reading, earlier) {
                (Some(reading), Some(earlier)) if !reading.findings.is_clean() => earlier.clone(),
                (Some(reading), _) => Paths::of(config, &reading.config),
                (None, _) => Paths::of(None, &Config::default()),
            };
            let before = Stamps::of(&paths);
            let seen =
                earlier.is_some_and(|earlier| earlier.policies == paths.policies && earlier.policies_seen);
            let expected = seen || paths.policies_asked_for;
            let policies = policies(&paths.policies, expected);
            let beside = paths.beside();
            let others: Vec<_> = paths.others.iter().map(|path| contents(path)).collect();
            let plugins = paths.plugins.read(known);
            let unchanged = config.is_none_or(|path| {
                text.as_ref().is_some_and(|(_, text)| text_of(path).is_ok_and(|again| again == *text))
            });
            if unchanged && before == Stamps::of(&paths) {
                // Whoever mends what cannot be read shall know of the rest at once.
                let policies = policies.map_err(|mut faults| {
                    if let (Some((path, text)), true) = (&text, paths.policies_asked_for) {
                        point_at_policies(&mut faults, &paths.policies, path, text);
                    }
                    faults.0.extend(text.iter().flat_map(|(path, text)| faults_in(path, text)));
                    faults
                })?;
                return Ok(Self::of(text, policies, beside, plugins, paths, &others));
            }
        }
        let name = config.unwrap_or(Path::new("policies")).display().to_string();
        Err(Diagnostic::error(name, "the files change while they are read").into())
    }

    fn of(
        config: Option<(PathBuf, String)>,
        all: Vec<PolicySource>,
        beside: Vec<BesideSource>,
        plugins: Vec<PluginFile>,
        mut paths: Paths,
        others: &[io::Result<Vec<u8>>],
    ) -> Self {
        let (tests, policies): (Vec<_>, Vec<_>) = all.into_iter().partition(|source| is_test(&source.path));
        let mut hasher = blake3::Hasher::new();
        // Lengths stand before the texts, so that no two sets run together to the same bytes.
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(config.as_ref().map_or(&[], |(_, text)| text.as_bytes()));
        for source in policies.iter().chain(&tests) {
            add(source.name.as_bytes());
            add(source.text.as_bytes());
        }
        for set in &beside {
            add(set.role.as_str().as_bytes());
            match &set.files {
                Ok(files) => files.iter().for_each(|file| {
                    add(file.name.as_bytes());
                    add(file.text.as_bytes());
                }),
                Err(faults) => add(faults.to_string().as_bytes()),
            }
        }
        for plugin in &plugins {
            hasher.update(plugin.path.as_os_str().as_encoded_bytes());
            hasher.update(plugin.hash.as_bytes());
        }
        let hash = hasher.finalize();
        let mut all = blake3::Hasher::new();
        all.update(hash.as_bytes());
        for (path, content) in paths.others.iter().zip(others) {
            all.update(path.as_os_str().as_encoded_bytes());
            match content {
                Ok(content) => all.update(blake3::hash(content).as_bytes()),
                Err(error) => all.update(error.to_string().as_bytes()),
            };
        }
        paths.policies_seen = paths.policies.is_dir();
        Self {
            config,
            policies,
            tests,
            beside,
            plugins,
            hash: hash.to_hex().to_string(),
            paths,
            fingerprint: all.finalize(),
        }
    }

    /// An error at the place of a path of keys in the configuration, which messages call `file`.
    pub(super) fn fault_at(&self, file: &str, path: &[&str], message: impl Into<String>) -> Diagnostic {
        match &self.config {
            Some((_, text)) => read(file, text).fault_at(file, path, message),
            None => Diagnostic::error(file, message),
        }
    }

    /// Takes the policies of another directory instead.
    ///
    /// # Errors
    /// Everything that cannot be read.
    pub fn take_policies(&mut self, dir: &Path) -> Result<(), Diagnostics> {
        let other = policies(dir, true)?;
        self.put_in_place(other);
        Ok(())
    }

    /// Takes these policies and tests instead of those that were read.
    pub(super) fn put_in_place(&mut self, all: Vec<PolicySource>) {
        let Self { config, beside, plugins, paths, fingerprint, .. } = self.clone();
        *self = Self { fingerprint, ..Self::of(config, all, beside, plugins, paths, &[]) };
    }

    /// The same with the policies of a newer reading, if they lie in the same directories.
    pub(super) fn with_policies_of(&self, newer: &Self) -> Option<Self> {
        let dirs = |sources: &Self| (sources.paths.policies.clone(), sources.paths.beside.clone());
        (dirs(self) == dirs(newer)).then(|| {
            let mut mixed = Self { beside: newer.beside.clone(), ..self.clone() };
            mixed.put_in_place(newer.policies.iter().chain(&newer.tests).cloned().collect());
            mixed
        })
    }

    /// The same with a set that stands beside in the place of the live one. Files below `lib/` that it has not itself are
    /// those of the live set.
    pub(super) fn with_beside(&self, files: &[PolicySource]) -> Self {
        let own = |name: &str| files.iter().any(|file| file.name == name);
        let shared = self.policies.iter().filter(|file| file.name.starts_with("lib/") && !own(&file.name));
        let mut all: Vec<_> = files.iter().chain(shared).cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let mut swapped = self.clone();
        swapped.put_in_place(all);
        swapped
    }

    /// Hash of the policies alone.
    pub(super) fn policies_hash(&self) -> Arc<str> {
        policy::hash_of(self.policies.iter().map(|file| (&*file.name, &*file.text)))
    }

    /// Every file with content and whether it is empty, to notice what vanished.
    pub(super) fn inventory(&self) -> BTreeMap<PathBuf, bool> {
        let config = self.config.iter().map(|(path, text)| (path.clone(), text.trim().is_empty()));
        let beside = self.beside.iter().filter_map(|set| set.files.as_ref().ok()).flatten();
        let files = self.policies.iter().chain(&self.tests).chain(beside);
        let plugins = self.plugins.iter().map(|plugin| (plugin.path.clone(), plugin.is_empty()));
        config.chain(files.map(|p| (p.path.clone(), p.text.trim().is_empty()))).chain(plugins).collect()
    }
}

/// The directory of files that others import.
const LIB: &str = "lib";
/// The directory of tables of tests.
const TESTS: &str = "tests";
/// Folders below `lib/` that are read.
const MAX_FOLDERS: usize = 256;

/// The directories of a set of policies, with what stands before the names of files in them: its own, that of tests, and
/// `lib/` with all folders below it.
fn folders(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = vec![
        (dir.to_owned(), String::new()),
        (dir.join(TESTS), format!("{TESTS}/")),
        (dir.join(LIB), format!("{LIB}/")),
    ];
    let mut seen: BTreeSet<PathBuf> = dir.join(LIB).canonicalize().into_iter().collect();
    let mut next = found.len() - 1;
    while let Some((dir, prefix)) = found.get(next).cloned() {
        next += 1;
        // What cannot be read is told by whoever reads the files in it.
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| *name != TESTS && !is_hidden(name)).collect();
        names.sort();
        // A symlink may lead back up.
        let mut is_new = |dir: &Path| dir.is_dir() && dir.canonicalize().is_ok_and(|real| seen.insert(real));
        let below = names.into_iter().map(|name| (dir.join(&name), format!("{prefix}{name}/")));
        let room = MAX_FOLDERS.saturating_sub(found.len());
        found.extend(below.filter(|(dir, _)| is_new(dir)).take(room));
    }
    found
}

/// Of editors, of version control, and of what mounts files.
fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '#', '~'])
}

/// Whether a file counts, by its name: editors' swap and backup files do not, nor definitions for editors.
pub(super) fn is_policy(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_ours = if path.parent().is_some_and(|dir| dir.ends_with(TESTS)) {
        name.ends_with(".yaml") || name.ends_with(".yml")
    } else {
        name.ends_with(".rhai") && !name.ends_with(".d.rhai")
    };
    is_ours && !is_hidden(&name)
}

fn is_test(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.ends_with("_test") || path.extension().is_none_or(|ending| ending != "rhai")
}

/// What to do about a directory of policies that cannot be read.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "let the user that runs this read it, and the folders above it",
        _ => "make the directory, or name another one",
    }
}

fn policies(dir: &Path, expected: bool) -> Result<Vec<PolicySource>, Diagnostics> {
    let mut found = Vec::new();
    let mut faults = Vec::new();
    let mut closed = false;
    for (dir, prefix) in folders(dir) {
        let expected = expected && prefix.is_empty();
        match listing(&dir) {
            Ok(paths) => found.extend(paths.into_iter().map(|path| (prefix.clone(), path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !expected => {}
            // Of what cannot be read, the folders in it cannot be either.
            Err(_) if closed => {}
            Err(error) => {
                closed = prefix.is_empty();
                let message = format!("cannot read the directory of the policies: {error}");
                let help = advice(&error);
                faults.push(Diagnostic::error(dir.display().to_string(), message).help(help));
            }
        }
    }
    if found.len() > MAX_POLICIES {
        let message = format!("more than {MAX_POLICIES} policies");
        return Err(Diagnostic::error(dir.display().to_string(), message).into());
    }
    let mut policies = Vec::with_capacity(found.len());
    for (prefix, path) in found {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{prefix}{stem}");
        match text_of(&path) {
            Ok(text) => policies.push(PolicySource { name, path, text }),
            Err(fault) => faults.extend(fault.0),
        }
    }
    if !faults.is_empty() {
        return Err(Diagnostics(faults));
    }
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(policies)
}

/// A directory that cannot be read is told of where the configuration names it.
fn point_at_policies(faults: &mut Diagnostics, dir: &Path, file: &Path, text: &str) {
    let (dir, file) = (dir.display().to_string(), file.display().to_string());
    for fault in faults.0.iter_mut().filter(|fault| fault.file == dir) {
        let message = format!("`{dir}`: {}", fault.message);
        let there = read(&file, text).fault_at(&file, &["policies", "dir"], message);
        *fault = Diagnostic { help: fault.help.take(), ..there };
    }
}

fn listing(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if is_policy(&path) && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn text_of(path: &Path) -> Result<String, Diagnostics> {
    let name = path.display().to_string();
    match contents(path) {
        // Editors of Windows begin a file with a mark that nobody sees.
        Ok(bytes) => utf8(&name, bytes).map(|text| match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        }),
        Err(error) => Err(Diagnostic::error(name, format!("cannot be read: {error}")).into()),
    }
}

/// The content of a regular file.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(bytes)
}

/// What the file system says of all files, to notice a change during a reading.
#[derive(PartialEq, Eq)]
pub(super) struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

pub(super) type Stamp = (Identity, u64, Option<SystemTime>);

/// Tells a file or directory from another one that took its place.
pub(super) type Identity = (u64, u64);

impl Stamps {
    pub(super) fn of(paths: &Paths) -> Self {
        let policies = paths.policy_dirs().flat_map(|dir| listing(&dir).unwrap_or_default());
        let all = paths.config.iter().cloned().chain(policies).chain(paths.others.iter().cloned());
        let all = all.chain(paths.plugins.files());
        Self(all.map(|path| (stamp(&path), path)).map(|(stamp, path)| (path, stamp)).collect())
    }
}

pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((identity(&metadata), metadata.len(), metadata.modified().ok()))
}

/// Device and inode.
#[cfg(unix)]
pub(super) fn identity(metadata: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// The time of creation stands for the inode.
#[cfg(not(unix))]
pub(super) fn identity(metadata: &fs::Metadata) -> Identity {
    let created = metadata.created().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    (0, created.map_or(0, |since| since.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn policies_are_read_in_the_order_of_their_names_without_what_editors_leave() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("tollgate.yaml", "policies: rules\n"),
                ("rules/20-b.rhai", "b"),
                ("rules/10-a.rhai", "a"),
                ("rules/lib/words.rhai", "w"),
                ("rules/.10-a.rhai.swp", "x"),
                ("rules/.#10-a.rhai", "x"),
                ("rules/10-a.rhai~", "x"),
                ("rules/4913", "x"),
                ("rules/notes.txt", "x"),
                ("rules/..2026/10-a.rhai", "x"),
                ("rules/tollgate.d.rhai", "d"),
                ("rules/10-a_test.rhai", "t"),
                ("rules/tests/money.yaml", "y"),
                ("rules/tests/.money.yaml.swp", "x"),
                ("rules/tests/stray.rhai", "x"),
                ("rules/stray.yaml", "x"),
            ],
        );
        let config = dir.path().join("tollgate.yaml");
        write(dir.path(), &[("rules/lib/words.rhai", "\u{feff}w")]);
        let sources = Sources::read(Some(&config)).unwrap();
        let names: Vec<_> = sources.policies.iter().map(|p| (p.name.as_str(), p.text.as_str())).collect();
        assert_eq!(names, [("10-a", "a"), ("20-b", "b"), ("lib/words", "w")]);
        let tests: Vec<_> = sources.tests.iter().map(|t| (t.name.as_str(), t.text.as_str())).collect();
        assert_eq!(tests, [("10-a_test", "t"), ("tests/money", "y")]);
        assert_eq!(sources.hash.len(), 64);
        for (file, text) in
            [("rules/20-b.rhai", "B"), ("rules/10-a_test.rhai", "T"), ("rules/tests/money.yaml", "Y")]
        {
            let before = Sources::read(Some(&config)).unwrap().hash;
            write(dir.path(), &[(file, text)]);
            assert_ne!(Sources::read(Some(&config)).unwrap().hash, before, "{file}");
        }
    }

    #[test]
    fn secret_files_count_but_stay_out_of_the_public_hash() {
        let dir = tempfile::tempdir().unwrap();
        let yaml = "providers: { a: { keys: [ file:key ] } }\nadmin: { token: file:/nowhere/token }\n";
        write(dir.path(), &[("tollgate.yaml", yaml), ("key", "one")]);
        let config = dir.path().join("tollgate.yaml");
        let one = Sources::read(Some(&config)).unwrap();
        let watched =
            [PathBuf::from("/nowhere/token"), dir.path().join("key"), dir.path().join("keystore.json")];
        assert_eq!(one.paths.others, watched);
        write(dir.path(), &[("key", "two")]);
        let two = Sources::read(Some(&config)).unwrap();
        assert_eq!(one.hash, two.hash);
        assert_ne!(one.fingerprint, two.fingerprint);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("tollgate.yaml");
        let error = |config: &Path| Sources::read(Some(config)).unwrap_err().to_string();
        assert!(error(&config).contains("tollgate.yaml: error: cannot be read: No such file"));
        write(dir.path(), &[("tollgate.yaml", "policies: rules\n")]);
        assert!(error(&config).contains("cannot read the directory of the policies: No such file"));
        fs::write(dir.path().join("rules"), "").unwrap();
        assert_eq!(error(&config).matches("cannot read the directory of the policies").count(), 1);
        fs::remove_file(dir.path().join("rules")).unwrap();
        assert!(
            advice(&io::ErrorKind::PermissionDenied.into()).contains("let the user that runs this read it")
        );
        write(dir.path(), &[("tollgate.yaml", "policies: rules\nlisen: x\ndrain: soon\n")]);
        let all = error(&config);
        for fault in ["directory of the policies", "2:1: error: unknown field `lisen`", "3:8: error: `drain`"]
        {
            assert!(all.contains(fault), "{all}");
        }
        write(dir.path(), &[("tollgate.yaml", "policies: rules\n")]);
        write(dir.path(), &[("rules/big.rhai", &"x".repeat((1 << 20) + 1))]);
        std::os::unix::fs::symlink("nowhere", dir.path().join("rules/dangling.rhai")).unwrap();
        let both = error(&config);
        assert!(both.contains("big.rhai: error: cannot be read: larger than 1 MiB"), "{both}");
        assert!(both.contains("dangling.rhai: error: cannot be read: No such file"), "{both}");
        assert!(error(dir.path()).contains("not a regular file"));
        fs::write(&config, b"a: \xff").unwrap();
        assert!(error(&config).contains("tollgate.yaml:1:4: error: not valid UTF-8"));
    }

    #[test]
    fn policies_in_folders_that_nobody_reads_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("tollgate.yaml");
        let all = [
            "rules/a.rhai",
            "rules/lib/by/b.rhai",
            "rules/shadow/c.rhai",
            "rules/eu/d.rhai",
            "rules/.git/e.rhai",
        ];
        write(dir.path(), &[("tollgate.yaml", "policies: rules\n")]);
        write(dir.path(), &all.map(|path| (path, "x")));
        let paths = Sources::read(Some(&config)).unwrap().paths;
        assert_eq!(paths.unread(), [dir.path().join("rules/eu/d.rhai")]);
    }

    #[test]
    fn without_a_configuration_the_default_directory_may_be_missing() {
        assert!(Sources::read(None).is_ok_and(|sources| sources.config.is_none()));
    }
}
