//! Accepts connections, hands them to workers, and sees everybody out at the end.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

#[cfg(any(target_os = "linux", target_os = "android"))]
use socket2::SockFilter;
use tokio::net::TcpListener;
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
/// Time for handshakes that have begun before the address was left to another process: the way to a client and back.
const HANDSHAKES: Duration = Duration::from_millis(300);
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
    if shared {
        hand_on(socket, &workers, &capacity, &drain).await;
    } else {
        drop(socket);
    }
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
                let Some(worker) = idlest(workers) else { return };
                if let Ok(stream) = stream.into_std() {
                    seat(stream, address, worker, capacity);
                }
            }
            Err(error) if is_about_one_connection(&error) => {}
            // Descriptors or memory have run out. The connection stays in the queue, so trying again at
            // once would spin; those that end meanwhile make room.
            Err(error) => sleep(backoff.refused(&error)).await,
        }
    }
}

/// Leaves the address to another process that listens on it, too, without losing anybody: what the kernel has given to
/// this socket would be reset with it. Returns when the drain begins.
async fn hand_on(socket: TcpListener, workers: &[Worker], capacity: &Arc<Capacity>, drain: &Drain) {
    let deaf = deafen(&socket);
    if deaf.is_ok() {
        // Ends only when no worker is left.
        let _ = timeout(HANDSHAKES, accept(&socket, workers, capacity)).await;
    }
    let took = socket.into_std().and_then(|socket| take_the_rest(&socket, workers, capacity));
    if let Err(error) = deaf.and(took) {
        tracing::warn!(%error, "connections that were made in this moment may be lost");
    }
    drain.began().await;
}

/// Makes the kernel drop what asks for a connection on this socket: whoever asks does so again after a second (RFC 6298,
/// section 2), and by then only the other process is there.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn deafen(socket: &TcpListener) -> io::Result<()> {
    // Classic BPF over the TCP header: byte 13 has the flags, 0x02 is SYN, 0x10 ACK.
    let filter =
        [(0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, u32::MAX)];
    socket2::SockRef::from(socket)
        .attach_filter(&filter.map(|(code, yes, no, value)| SockFilter::new(code, yes, no, value)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn deafen(_: &TcpListener) -> io::Result<()> {
    Ok(())
}

/// Takes what has queued up.
fn take_the_rest(
    socket: &std::net::TcpListener,
    workers: &[Worker],
    capacity: &Arc<Capacity>,
) -> io::Result<()> {
    loop {
        match socket.accept() {
            Ok((stream, address)) => {
                let Some(worker) = idlest(workers) else { return Ok(()) };
                stream.set_nonblocking(true)?;
                seat(stream, address, worker, capacity);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// The worker with the fewest connections; `None` where none is left.
fn idlest(workers: &[Worker]) -> Option<&Worker> {
    workers.iter().filter(|worker| worker.is_alive()).min_by_key(|worker| worker.load())
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
