//! A thread that counts milliseconds while plugins run, and sleeps while none does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use wasmtime::{Engine, EngineWeak};

use super::sandbox::TICK;

/// Ticks without any call before the thread goes to sleep: waking it costs a call microseconds.
const IDLE_TICKS: u32 = 50;

/// Counts while somebody holds a [`Ticking`].
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    calls: AtomicUsize,
    asleep: AtomicBool,
    over: AtomicBool,
}

/// Keeps the ticker counting.
pub(super) struct Ticking<'a>(&'a Shared);

impl Ticker {
    /// Starts the thread, which ends with the ticker.
    pub(super) fn start(engines: &[&Engine]) -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let engines: Vec<EngineWeak> = engines.iter().map(|engine| engine.weak()).collect();
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("plugin-ticker".into())
            .spawn(move || tick(&theirs, &engines))
            .map_err(|error| format!("plugin ticker: {error}"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Counts until the guard is dropped.
    pub(super) fn tick(&self) -> Ticking<'_> {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Ticking(&self.shared)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
        }
    }
}

fn tick(shared: &Shared, engines: &[EngineWeak]) {
    let mut idle = 0;
    while !shared.over.load(Ordering::SeqCst) {
        thread::park_timeout(TICK);
        for engine in engines.iter().filter_map(EngineWeak::upgrade) {
            engine.increment_epoch();
        }
        idle = if shared.calls.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
        if idle > IDLE_TICKS {
            idle = 0;
            shared.asleep.store(true, Ordering::SeqCst);
            // A call that came before `asleep` was set has not woken anybody.
            while shared.calls.load(Ordering::SeqCst) == 0 && !shared.over.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
        }
    }
}
