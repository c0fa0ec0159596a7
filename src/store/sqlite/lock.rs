//! Only one gateway may have a database open: a lock that ends with its process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// A held lock.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a database: the file beside it whose name ends in `.lock`.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be made.
    pub(super) fn take(database: &Path) -> Result<Self, String> {
        let path = beside(database);
        let cannot = |error: std::io::Error| format!("`{}` cannot be locked: {error}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Whose it is helps, but nobody depends on it.
                let _ = (&file).take(64).read_to_string(&mut holder);
                let holder = holder.trim();
                let who = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
                return Err(format!("is in use by another gateway{who}; each needs a database of its own"));
            }
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(cannot)?;
        writeln!(file, "{}", std::process::id()).map_err(cannot)?;
        Ok(Self { _file: file })
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}
