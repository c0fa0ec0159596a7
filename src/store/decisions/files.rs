//! The files of decision records: one JSON object per line, named by the time of their beginning.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use memchr::memmem;

use crate::clock::{Clock, SystemClock};
use crate::plan::Dossier;

const SUFFIX: &str = ".jsonl";
const PREFIX: &str = "decisions-";

/// The files below `dir`, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The whole lines of a file; a last line without its end was torn by a crash and is none.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = memchr::memrchr(b'\n', bytes).unwrap_or(0);
    bytes.get(..end).unwrap_or_default().split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The newest record of the request `id` in the files below `dir`.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn find_in(dir: &Path, id: &str) -> io::Result<Option<Dossier>> {
    let Ok(quoted) = serde_json::to_string(id) else { return Ok(None) };
    let needle = format!("\"request_id\":{quoted}");
    let finder = memmem::Finder::new(&needle);
    for file in files(dir)?.iter().rev() {
        let mut bytes = Vec::new();
        match fs::File::open(file) {
            Ok(mut open) => open.read_to_end(&mut bytes)?,
            // Its time had come.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let places: Vec<usize> = finder.find_iter(&bytes).collect();
        for at in places.into_iter().rev() {
            let begin = memchr::memrchr(b'\n', bytes.get(..at).unwrap_or_default()).map_or(0, |n| n + 1);
            let Some(line) = lines(bytes.get(begin..).unwrap_or_default()).next() else { continue };
            if let Ok(dossier) = serde_json::from_slice::<Dossier>(line)
                && *dossier.record.request_id == *id
            {
                return Ok(Some(dossier));
            }
        }
    }
    Ok(None)
}

/// A new file, named so that it sorts behind all earlier ones and meets none of another process.
pub(super) fn create(dir: &Path, counter: u32) -> io::Result<(PathBuf, fs::File)> {
    let ms = i64::try_from(SystemClock.unix_ms()).unwrap_or(i64::MAX);
    let now = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    let name =
        format!("{PREFIX}{}-{counter:06}-{}{SUFFIX}", now.strftime("%Y%m%dT%H%M%S%3f"), std::process::id());
    let path = dir.join(name);
    // They know who asked what for, and may hold prompts.
    let file = fs::OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
    Ok((path, file))
}

/// Removes what is older than `keep`, and the oldest files until all of them fit into `room` bytes. The file `own` is
/// being written and stays.
pub(super) fn tidy(dir: &Path, keep: Duration, room: u64, own: Option<&Path>) -> io::Result<()> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(SystemClock.unix_ms());
    let mut left = Vec::new();
    for path in files(dir)? {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let age = metadata.modified().ok().and_then(|written| now.duration_since(written).ok());
        if Some(&*path) != own && age.is_some_and(|age| age > keep) {
            remove(&path)?;
        } else {
            left.push((path, metadata.len()));
        }
    }
    let mut size: u64 = left.iter().map(|(_, size)| size).sum();
    for (path, bytes) in &left {
        if size <= room {
            break;
        }
        if Some(&**path) != own {
            remove(path)?;
            size -= bytes;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn nobody_else_may_read_what_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let (_, file) = create(dir.path(), 1).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
