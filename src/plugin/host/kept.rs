//! Snapshots kept on disk, so that a start need not run `init` again: named by what they were made of, proved when read.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Changes whenever a snapshot is made differently.
const EDITION: &[u8] =
    concat!("tollgate-snapshot-1 ", env!("CARGO_PKG_VERSION"), " wasmtime-wizer-48").as_bytes();
/// Bytes of the hash that a file begins with.
const PROOF: usize = 32;

/// The place of one snapshot.
pub(super) struct Kept {
    dir: PathBuf,
    file: PathBuf,
}

impl Kept {
    /// Where the snapshot of this component after `init` with this configuration is, below the directory `cache`.
    pub(super) fn place(cache: &Path, component: &[u8], config: &str) -> Self {
        let mut hasher = Sha256::new();
        for part in [EDITION, component, config.as_bytes()] {
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        }
        let name: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let dir = cache.join("snapshots");
        let file = dir.join(format!("{name}.wasm"));
        Self { dir, file }
    }

    /// The snapshot, if it is there and whole.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let mut bytes = fs::read(&self.file).ok()?;
        let proof: [u8; PROOF] = bytes.get(..PROOF)?.try_into().ok()?;
        let snapshot = bytes.split_off(PROOF);
        if Sha256::digest(&snapshot)[..] == proof {
            return Some(snapshot);
        }
        tracing::warn!(file = %self.file.display(), "a kept snapshot of a plugin is damaged; it is made again");
        None
    }

    /// Keeps a snapshot. Where that fails, the next start makes it again.
    pub(super) fn write(&self, snapshot: &[u8]) {
        if let Err(error) = self.try_write(snapshot) {
            tracing::warn!(file = %self.file.display(), %error, "a snapshot of a plugin cannot be kept");
        }
    }

    fn try_write(&self, snapshot: &[u8]) -> std::io::Result<()> {
        private_dir(&self.dir)?;
        let temporary = self.file.with_extension(format!("{}.tmp", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(&Sha256::digest(snapshot))?;
        file.write_all(snapshot)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.file)
    }
}

/// Makes a directory that nobody else can look into, with all above it.
pub(super) fn private_dir(dir: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_found_again_unless_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let kept = Kept::place(&cache, b"component", "{}");
        assert_eq!(kept.read(), None);
        kept.write(b"snapshot");
        assert_eq!(kept.read().as_deref(), Some(&b"snapshot"[..]));
        assert_eq!(Kept::place(&cache, b"component", "{ }").read(), None, "another configuration");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&kept.file), mode(&kept.dir), mode(&cache)), (0o600, 0o700, 0o700));
        }
        let mut bytes = fs::read(&kept.file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&kept.file, bytes).unwrap();
        assert_eq!(kept.read(), None);
        fs::write(&kept.file, b"short").unwrap();
        assert_eq!(kept.read(), None);
    }
}
