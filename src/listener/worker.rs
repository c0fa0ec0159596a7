//! A worker: one thread, one single-threaded runtime, one handler, many connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Handler;
use super::connection::{Arrival, Rules, serve};

/// How long a worker's own background tasks may take to end.
const WIND_UP: Duration = Duration::from_secs(1);

/// The acceptor's end of a worker.
pub(super) struct Worker {
    inbox: Option<mpsc::UnboundedSender<Arrival>>,
    /// Connections here; also counted by their seats.
    pub(super) open: Arc<AtomicUsize>,
    ended: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system has no thread or no descriptors left.
    pub(super) fn start<H: Handler>(
        number: usize,
        make_handler: Arc<dyn Fn(usize) -> H + Send + Sync>,
        rules: Arc<Rules>,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (inbox, arrivals) = mpsc::unbounded_channel();
        let (ending, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(format!("tollgate-{number}")).spawn(move || {
            // Dropped last, also when the handler cannot be made.
            let _ending = ending;
            runtime.block_on(work(arrivals, || make_handler(number), rules));
            runtime.shutdown_timeout(WIND_UP);
        })?;
        Ok(Self { inbox: Some(inbox), open: Arc::default(), ended, thread: Some(thread) })
    }

    /// Whether the worker still takes connections.
    pub(super) fn is_alive(&self) -> bool {
        self.inbox.as_ref().is_some_and(|inbox| !inbox.is_closed())
    }

    pub(super) fn load(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub(super) fn take(&self, arrival: Arrival) {
        if let Some(inbox) = &self.inbox {
            // A worker that has just died drops the connection, which closes it.
            let _ = inbox.send(arrival);
        }
    }

    /// Lets the worker end as soon as its last connection has.
    pub(super) fn close(&mut self) {
        self.inbox = None;
    }

    /// Waits until the worker has ended.
    pub(super) async fn ended(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The sender is dropped, never used: an error is the news.
            let _ = (&mut self.ended).await;
            if thread.join().is_err() {
                tracing::error!("a worker of the listener panicked");
            }
        }
    }
}

async fn work<H: Handler>(
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
    make_handler: impl FnOnce() -> H,
    rules: Arc<Rules>,
) {
    let handler = Arc::new(make_handler());
    let mut connections = JoinSet::new();
    let mut open = true;
    loop {
        tokio::select! {
            arrival = arrivals.recv(), if open => match arrival {
                Some(arrival) => {
                    connections.spawn(serve(arrival, handler.clone(), rules.clone()));
                }
                None => open = false,
            },
            Some(ended) = connections.join_next() => {
                // The task's boundary keeps a panic to the connection on which it happened.
                if ended.is_err_and(|error| error.is_panic()) {
                    tracing::error!("a request panicked, its connection was closed");
                }
            }
            else => return,
        }
    }
}
