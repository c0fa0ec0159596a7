//! The records that are replayed: from the decision store's directory, or from files that somebody names.

use std::io::Read;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use crate::plan::{Dossier, RECORD_VERSION};
use crate::store;

/// Pieces are at least this large, so that few records do not wait for many threads.
const LEAST_PIECE: usize = 64 << 10;

/// Where records come from.
pub struct Source {
    /// Files, the oldest first.
    pub files: Vec<PathBuf>,
}

/// The files to read: those named (directories stand for the record files in them), or those of the store.
///
/// # Errors
/// When there is no store, or something cannot be read.
pub fn source_of(named: &[PathBuf], store: Option<&Path>, since_ms: u64) -> Result<Source, String> {
    let complain = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let mut files = Vec::new();
    if named.is_empty() {
        let Some(dir) = store else {
            return Err(
                "no decisions are kept on disk: set `decisions: ./decisions` in the configuration, or name \
                        files with --from (GET /admin/v1/decisions?format=jsonl gives those in memory)"
                    .into(),
            );
        };
        files = store::files(dir).map_err(|error| complain(dir, error))?;
        // What was last written before then has nothing to say.
        files.retain(|file| written_ms(file).is_none_or(|written| written >= since_ms));
        return Ok(Source { files });
    }
    for path in named {
        if path.is_dir() {
            files.extend(store::files(path).map_err(|error| complain(path, error))?);
        } else {
            std::fs::File::open(path).map_err(|error| complain(path, error))?;
            files.push(path.clone());
        }
    }
    Ok(Source { files })
}

fn written_ms(file: &Path) -> Option<u64> {
    let written = std::fs::metadata(file).ok()?.modified().ok()?;
    let since = written.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// The records in a piece of a file; `None` for a line that is none, or one of a later version.
pub fn records(piece: &[u8]) -> impl Iterator<Item = Option<Dossier>> {
    store::lines(piece).map(|line| {
        serde_json::from_slice::<Dossier>(line).ok().filter(|dossier| dossier.record.v <= RECORD_VERSION)
    })
}

/// Cuts `bytes` between lines and works on all pieces at once.
pub(super) fn in_parallel<T: Send>(bytes: &[u8], work: impl Fn(&[u8]) -> T + Sync) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let size = (bytes.len() / (cores * 4)).max(LEAST_PIECE);
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let from = size.min(rest.len());
        let end =
            memchr::memchr(b'\n', rest.get(from..).unwrap_or_default()).map_or(rest.len(), |n| from + n + 1);
        let (piece, more) = rest.split_at(end.min(rest.len()));
        pieces.push(piece);
        rest = more;
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let (work, pieces, next) = (&work, &pieces, &next);
    std::thread::scope(|scope| {
        let one = move || {
            let mut done = Vec::new();
            while let Some(piece) = pieces.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                done.push(work(piece));
            }
            done
        };
        let threads: Vec<_> = (0..cores.min(pieces.len())).map(|_| scope.spawn(one)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    })
}

/// The text of a file, or of standard input for `-`.
///
/// # Errors
/// When it cannot be read.
pub fn text_of(path: &Path) -> Result<Vec<u8>, String> {
    if path != Path::new("-") {
        return std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| format!("standard input: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_between_lines() {
        let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        let counts = in_parallel(text.as_bytes(), |piece| {
            assert!(piece.ends_with(b"\n"));
            piece.iter().filter(|byte| **byte == b'\n').count()
        });
        assert!(counts.len() > 1 && counts.iter().sum::<usize>() == 100_000, "{counts:?}");
        assert!(in_parallel(b"", <[u8]>::len).is_empty());
    }
}
