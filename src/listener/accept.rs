//! Accepts connections, hands them to workers, and sees everybody out at the end.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::capacity::Capacity;
use super::connection::{Arrival, Rules};
use super::drain::{Drain, Step};
use super::worker::Worker;
use super::{Handler, Listener};

/// Time that running streams have to end with an error event after the drain's deadline.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Time that workers have to end once their connections were cut.
const CUT: Duration = Duration::from_secs(2);
/// First and longest pause after the operating system refused to accept.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// See [`Listener::serve`].
pub(super) async fn serve<H: Handler>(
    listener: Listener,
    workers: usize,
    make_handler: Arc<dyn Fn(usize) -> H + Send + Sync>,
    drain: Drain,
) {
    let Listener { socket, settings, tls, .. } = listener;
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "the listener cannot be watched for connections"),
    };
    let capacity =
        Arc::new(Capacity::new(settings.limits.connections, settings.limits.connections_per_address));
    let rules = Arc::new(Rules::new(settings, tls.clone(), drain.clone()));
    let mut workers: Vec<Worker> = (0..workers)
        .filter_map(|number| {
            Worker::start(number, make_handler.clone(), rules.clone())
                .inspect_err(|error| tracing::error!(%error, number, "a worker of the listener cannot start"))
                .ok()
        })
        .collect();

    let renewal = async {
        match tls {
            Some(tls) => match tls.watch().await {},
            None => std::future::pending().await,
        }
    };
    let shared = rules.settings.reuse_port;
    tokio::select! {
        biased;
        () = drain.leaving(), if shared => {}
        () = drain.began() => {}
        () = accept(&socket, &workers, &capacity) => {
            tracing::error!("the listener has no workers left");
            drain.begin(Duration::ZERO);
        }
        () = renewal => {}
    }
    match socket.into_std() {
        // The next instance has the address already: what the kernel gave to this one must not be lost.
        Ok(socket) if shared => take_the_rest(&socket, &workers, &capacity),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "connections that wait for the listener are lost"),
    }
    drain.began().await;
    workers.iter_mut().for_each(Worker::close);
    see_out(&mut workers, &drain).await;
}

/// Takes connections until no worker is left.
async fn accept(socket: &TcpListener, workers: &[Worker], capacity: &Arc<Capacity>) {
    let mut backoff = Backoff::default();
    loop {
        match socket.accept().await {
            Ok((stream, address)) => {
                backoff.accepted();
                let alive = workers.iter().filter(|worker| worker.is_alive());
                let Some(worker) = alive.min_by_key(|worker| worker.load()) else { return };
                hand_over(stream, address, worker, capacity);
            }
            Err(error) if is_about_one_connection(&error) => {}
            // Descriptors or memory have run out. The connection stays in the queue, so trying again at
            // once would spin; those that end meanwhile make room.
            Err(error) => sleep(backoff.refused(&error)).await,
        }
    }
}

/// Takes what has queued up and closes the queue.
fn take_the_rest(socket: &std::net::TcpListener, workers: &[Worker], capacity: &Arc<Capacity>) {
    loop {
        match socket.accept() {
            Ok((stream, address)) => {
                let alive = workers.iter().filter(|worker| worker.is_alive());
                let Some(worker) = alive.min_by_key(|worker| worker.load()) else { return };
                if stream.set_nonblocking(true).is_ok() {
                    seat(stream, address, worker, capacity);
                }
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return tracing::warn!(%error, "connections that wait for the listener are lost"),
        }
    }
}

fn hand_over(stream: TcpStream, address: SocketAddr, worker: &Worker, capacity: &Arc<Capacity>) {
    if let Ok(stream) = stream.into_std() {
        seat(stream, address, worker, capacity);
    }
}

fn seat(stream: std::net::TcpStream, address: SocketAddr, worker: &Worker, capacity: &Arc<Capacity>) {
    // Without a seat the connection is closed by dropping it.
    let Some(seat) = capacity.admit(address.ip(), &worker.open) else { return };
    worker.take(Arrival { stream, address, seat });
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// How long to wait after failures in a row; the first of a row is logged.
#[derive(Default)]
struct Backoff(Option<Duration>);

impl Backoff {
    fn accepted(&mut self) {
        if self.0.take().is_some() {
            tracing::info!("the listener accepts connections again");
        }
    }

    fn refused(&mut self, error: &io::Error) -> Duration {
        let pause = match self.0 {
            Some(pause) => (pause * 2).min(PAUSE.1),
            None => {
                tracing::warn!(%error, "the listener cannot accept connections, new ones wait");
                PAUSE.0
            }
        };
        metrics::counter!("tollgate_accept_errors_total").increment(1);
        self.0 = Some(pause);
        pause
    }
}

/// Waits for all workers: for the drain's deadline, then for last words, then for the cut.
async fn see_out(workers: &mut [Worker], drain: &Drain) {
    let mut everybody = pin!(async {
        for worker in workers {
            worker.ended().await;
        }
    });
    tokio::select! {
        () = &mut everybody => return,
        () = drain.deadline() => {}
    }
    drain.advance(Step::Expired);
    if timeout(LAST_WORDS, &mut everybody).await.is_ok() {
        return;
    }
    drain.advance(Step::Cut);
    if timeout(CUT, &mut everybody).await.is_err() {
        tracing::error!("a worker of the listener does not end and is left behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_start_again_after_success() {
        let mut backoff = Backoff::default();
        let error = io::Error::other("no descriptors");
        let mut pauses = || (0..9).map(|_| backoff.refused(&error).as_millis()).collect::<Vec<_>>();
        assert_eq!(pauses(), [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.accepted();
        assert_eq!(backoff.refused(&error), PAUSE.0);
    }
}
