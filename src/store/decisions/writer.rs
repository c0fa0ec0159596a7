//! The thread that writes decision records: a slow or full disk delays nobody.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::files;
use crate::plan::Dossier;

/// Records wait here at most this long before they are written together: one wake-up for many requests.
const GATHER: Duration = Duration::from_millis(50);
/// Records beyond so many unwritten ones are dropped and counted.
const MOST_PENDING: usize = 16_384;
/// A file is closed at this size, or at an eighth of all room if that is less.
const FILE_BYTES: u64 = 64 << 20;
/// A file is closed after this time, so that what is too old can go.
const FILE_AGE: Duration = Duration::from_secs(3_600);
/// After a failure nothing is tried for this long.
const PAUSE: Duration = Duration::from_secs(5);

/// A handle to the thread.
pub(super) struct Writer(Arc<Shared>);

struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Default)]
struct Pending {
    dossiers: Vec<Arc<Dossier>>,
    writing: bool,
    closed: bool,
    /// Somebody waits for all to be written.
    hurry: bool,
}

impl Writer {
    /// Starts the thread. It ends with `close`.
    pub(super) fn start(dir: PathBuf, keep: Duration, room: u64) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        // Whether it can be written to is told now, not with the first request.
        tempting(&dir)?;
        files::tidy(&dir, keep, room, None)?;
        let shared = Arc::new(Shared { pending: Mutex::default(), changed: Condvar::new() });
        let theirs = shared.clone();
        let shelf = Shelf { dir, keep, room, counter: 0, open: None, failed: None };
        thread::Builder::new().name("decisions".into()).spawn(move || theirs.write_to(shelf))?;
        Ok(Self(shared))
    }

    /// Hands one record over. Never waits for the disk.
    pub(super) fn push(&self, dossier: Arc<Dossier>) {
        let mut pending = self.0.lock();
        if pending.closed || pending.dossiers.len() >= MOST_PENDING {
            drop(pending);
            lose(1);
            return;
        }
        let first = pending.dossiers.is_empty();
        pending.dossiers.push(dossier);
        drop(pending);
        if first {
            self.0.changed.notify_all();
        }
    }

    /// Writes out what is pending and ends the thread.
    pub(super) fn close(&self, patience: Duration) {
        self.0.lock().closed = true;
        self.flush(patience);
    }

    /// Waits until all is written, or for so long.
    pub(super) fn flush(&self, patience: Duration) {
        let mut pending = self.0.lock();
        pending.hurry = true;
        self.0.changed.notify_all();
        let busy = |p: &mut Pending| p.writing || !p.dossiers.is_empty();
        let waited = self.0.changed.wait_timeout_while(pending, patience, busy);
        waited.unwrap_or_else(PoisonError::into_inner).0.hurry = false;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut shelf: Shelf) {
        let (mut batch, mut bytes) = (Vec::new(), Vec::new());
        loop {
            let mut pending = self.lock();
            while pending.dossiers.is_empty() {
                if pending.closed {
                    return;
                }
                pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
            }
            let gather = |p: &mut Pending| !p.closed && !p.hurry;
            (pending, _) = self
                .changed
                .wait_timeout_while(pending, GATHER, gather)
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut batch, &mut pending.dossiers);
            pending.writing = true;
            drop(pending);
            shelf.write(&mut batch, &mut bytes);
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }
}

/// The directory, and the file that is being written.
struct Shelf {
    dir: PathBuf,
    keep: Duration,
    room: u64,
    counter: u32,
    open: Option<Open>,
    failed: Option<Instant>,
}

struct Open {
    path: PathBuf,
    file: File,
    bytes: u64,
    since: Instant,
}

impl Shelf {
    fn write(&mut self, batch: &mut Vec<Arc<Dossier>>, bytes: &mut Vec<u8>) {
        let count = batch.len() as u64;
        if self.failed.is_some_and(|at| at.elapsed() < PAUSE) {
            batch.clear();
            return lose(count);
        }
        let limit = self.file_bytes();
        let mut result = Ok(());
        for dossier in batch.drain(..) {
            let begin = bytes.len();
            // Serialising into memory fails only for types that are not data.
            if serde_json::to_writer(&mut *bytes, &*dossier).is_err() {
                bytes.truncate(begin);
                continue;
            }
            bytes.push(b'\n');
            if bytes.len() as u64 >= limit / 4 {
                result = result.and_then(|()| self.append(bytes));
                bytes.clear();
            }
        }
        result = result.and_then(|()| self.append(bytes));
        bytes.clear();
        match result {
            Ok(()) => {
                self.failed = None;
                metrics::counter!("tollgate_decisions_written_total").increment(count);
            }
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "decision records cannot be written");
                (self.failed, self.open) = (Some(now()), None);
                lose(count);
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let limit = self.file_bytes();
        let full = |open: &Open| open.bytes + bytes.len() as u64 > limit || open.since.elapsed() > FILE_AGE;
        if self.open.as_ref().is_some_and(full) {
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                // A file that is begun may grow to its limit.
                files::tidy(&self.dir, self.keep, self.room - limit, None)?;
                self.counter += 1;
                let (path, file) = files::create(&self.dir, self.counter)?;
                self.open.insert(Open { path, file, bytes: 0, since: now() })
            }
        };
        // Somebody may have cleaned up behind us.
        if !open.path.exists() {
            self.open = None;
            return self.append(bytes);
        }
        open.file.write_all(bytes)?;
        open.bytes += bytes.len() as u64;
        Ok(())
    }

    fn file_bytes(&self) -> u64 {
        FILE_BYTES.min(self.room / 8).max(1)
    }
}

/// A file that comes and goes.
fn tempting(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".try-{}", std::process::id()));
    File::create(&path)?;
    std::fs::remove_file(&path)
}

#[allow(clippy::disallowed_methods, reason = "a thread of its own, outside of the runtime's time")]
fn now() -> Instant {
    Instant::now()
}

fn lose(count: u64) {
    metrics::counter!("tollgate_decisions_dropped_total").increment(count);
}
