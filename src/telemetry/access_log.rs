//! The access log: one JSON line per request, written by a thread of its own so that a slow disk or pipe delays nobody.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;

/// Lines wait here at most this long before they are written together: one wake-up for many requests.
const GATHER: Duration = Duration::from_millis(20);

/// Lines beyond this many unwritten bytes are dropped and counted.
const MAX_PENDING: usize = 8 << 20;

/// A handle to the writer; cheap to clone.
#[derive(Clone)]
pub struct AccessLog(Option<Arc<Shared>>);

struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    writing: bool,
    closed: bool,
}

impl AccessLog {
    /// A log that writes nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Starts the writer thread. It ends when `close` is called, or when `out` fails for good (a closed pipe).
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { pending: Mutex::default(), changed: Condvar::new() });
        let writer = shared.clone();
        thread::Builder::new().name("access-log".into()).spawn(move || writer.write_all_to(out))?;
        Ok(Self(Some(shared)))
    }

    /// Appends one line. Never blocks on the writer.
    pub fn line(&self, entry: &impl Serialize) {
        let Some(shared) = &self.0 else { return };
        let mut pending = shared.lock();
        if pending.closed || pending.bytes.len() > MAX_PENDING {
            drop(pending);
            metrics::counter!("tollgate_access_log_dropped_total").increment(1);
            return;
        }
        let first = pending.bytes.is_empty();
        let start = pending.bytes.len();
        // Serialising into memory fails only for types that are not data; then the line is left out whole.
        if serde_json::to_writer(&mut pending.bytes, entry).is_err() {
            pending.bytes.truncate(start);
            return;
        }
        pending.bytes.push(b'\n');
        drop(pending);
        if first {
            shared.changed.notify_all();
        }
    }

    /// Writes out what is pending and ends the writer; waits at most two seconds.
    pub fn close(&self) {
        let Some(shared) = &self.0 else { return };
        let mut pending = shared.lock();
        pending.closed = true;
        shared.changed.notify_all();
        while pending.writing || !pending.bytes.is_empty() {
            let (next, wait) = shared
                .changed
                .wait_timeout(pending, Duration::from_secs(2))
                .unwrap_or_else(PoisonError::into_inner);
            pending = next;
            if wait.timed_out() {
                return;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut pending = self.lock();
            while pending.bytes.is_empty() {
                if pending.closed {
                    return;
                }
                pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
            }
            if !pending.closed {
                // Let more lines gather; `close` cuts the wait short.
                let gather = |p: &mut Pending| !p.closed;
                (pending, _) = self
                    .changed
                    .wait_timeout_while(pending, GATHER, gather)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut batch, &mut pending.bytes);
            pending.writing = true;
            drop(pending);
            let written = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            let mut pending = self.lock();
            pending.writing = false;
            if let Err(error) = written {
                pending.closed = true;
                pending.bytes = Vec::new();
                tracing::warn!(%error, "access log ended: its output cannot be written");
            }
            drop(pending);
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_before_close_returns() {
        let sink = Sink::default();
        let log = AccessLog::start(sink.clone()).unwrap();
        for n in 0..1_000 {
            log.line(&n);
        }
        log.close();
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1_000);
        assert!(text.ends_with("999\n"));
    }

    #[test]
    fn a_closed_pipe_stops_the_log_but_nobody_else() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::start(Broken).unwrap();
        log.line(&1);
        log.close();
        log.line(&2);
        log.close();
    }
}
