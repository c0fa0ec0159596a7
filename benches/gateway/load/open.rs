//! The open loop: requests at fixed times, whatever the answers do.
//!
//! Threads that block, because a runtime's timers are a millisecond coarse. A request's latency counts from the time
//! for which it was meant, so that a proxy that stalls is charged with all that had to wait.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{Faults, Window};
use crate::Result;
use crate::process::Process;
use crate::wire::{Answer, Ask, exchange};

/// A round at a fixed rate.
#[derive(Debug)]
pub struct Pace {
    /// Median latency in microseconds.
    pub p50: f64,
    /// 99th percentile in microseconds.
    pub p99: f64,
    /// CPU time of the process under test for one request, in microseconds.
    pub cpu: f64,
    /// Wrong answers and broken connections.
    pub faults: Faults,
}

/// Connections that take turns. An answer that takes longer than `CLIENTS / rate` makes its successor late, and the
/// successor's latency says so.
const CLIENTS: u32 = 32;

/// What one thread has seen.
struct Seen {
    latency: Histogram<u64>,
    faults: Faults,
}

/// The times at which requests are sent.
#[derive(Debug, Clone, Copy)]
struct Timetable {
    begin: Instant,
    interval: Duration,
    window: Window,
}

/// Asks `rate` times a second.
pub fn pace(address: SocketAddr, ask: &Ask, rate: u32, window: Window, process: Process) -> Result<Pace> {
    wake_punctually();
    let begin = Instant::now() + Duration::from_millis(50);
    let timetable = Timetable { begin, interval: Duration::from_secs(1) / rate.max(1), window };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|first| {
            let ask = ask.clone();
            std::thread::spawn(move || client(address, &ask, timetable, first))
        })
        .collect();

    wait_until(begin + window.warmup);
    let cpu = process.cpu()?;
    wait_until(begin + window.warmup + window.length);
    let cpu = process.cpu()?.saturating_sub(cpu);

    let mut latency = histogram()?;
    let mut faults = Faults::default();
    for client in clients {
        let seen = client.join().map_err(|_| "a client's thread ended")??;
        latency.add(seen.latency)?;
        faults.merge(seen.faults);
    }
    if latency.is_empty() {
        faults.add("nothing was answered".to_owned());
    }
    let micros = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    let cpu = cpu.as_secs_f64() * 1e6 / latency.len() as f64;
    Ok(Pace { p50: micros(0.50), p99: micros(0.99), cpu, faults })
}

fn client(address: SocketAddr, ask: &Ask, timetable: Timetable, first: u32) -> Result<Seen> {
    let mut seen = Seen { latency: histogram()?, faults: Faults::default() };
    let mut buffer = vec![0; 64 << 10];
    let mut answer = Answer::default();
    let mut socket = None;
    let end = timetable.begin + timetable.window.warmup + timetable.window.length;
    for turn in (first..).step_by(CLIENTS as usize) {
        let meant = timetable.begin + timetable.interval * turn;
        if meant >= end {
            break;
        }
        // Connections are opened ahead of their time: their cost is not the request's.
        if socket.is_none() {
            socket = connect(address).map_err(|fault| seen.faults.add(fault)).ok();
        }
        wait_until(meant);
        let Some(open) = &mut socket else { continue };
        match exchange(open, ask, &mut answer, &mut buffer) {
            Ok(()) if meant < timetable.begin + timetable.window.warmup => (),
            Ok(()) => seen.latency.record(u64::try_from(meant.elapsed().as_nanos())?)?,
            Err(fault) => {
                seen.faults.add(fault);
                socket = None;
            }
        }
    }
    Ok(seen)
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let socket = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
    socket.set_nodelay(true).map_err(|error| format!("nodelay: {error}"))?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| format!("timeout: {error}"))?;
    Ok(socket)
}

/// Nanoseconds up to a minute, to three digits.
fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

fn wait_until(time: Instant) {
    loop {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// Linux lets timers be 50 µs late to save wake-ups. Threads inherit this setting from the one that starts them.
fn wake_punctually() {
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
}
