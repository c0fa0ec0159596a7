//! The closed loop: connections that ask again as soon as they are answered, so that the machine is full.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};

use super::{Faults, Window};
use crate::Result;
use crate::process::Process;
use crate::wire::{Answer, Ask};

/// A round at saturation.
#[derive(Debug)]
pub struct Saturation {
    /// CPU time of the process under test for one request, in microseconds.
    pub cpu: f64,
    /// Requests answered in a second.
    pub rate: f64,
    /// Wrong answers and broken connections.
    pub faults: Faults,
}

/// What all connections have together.
#[derive(Debug, Default)]
struct Tally {
    payload: Cell<u64>,
    answers: Cell<u64>,
    answered: Cell<u64>,
    faults: RefCell<Faults>,
}

/// Asks over `connections` at once, back to back.
pub fn saturate(
    address: SocketAddr,
    ask: &Ask,
    connections: usize,
    window: Window,
    process: Process,
) -> Result<Saturation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let tally = Rc::new(Tally::default());
        for _ in 0..connections {
            spawn_local(client(address, ask.clone(), tally.clone()));
        }
        tokio::time::sleep(window.warmup).await;
        let (begin, payload, cpu) = (Instant::now(), tally.payload.get(), process.cpu()?);
        tokio::time::sleep(window.length).await;
        let (seconds, cpu) = (begin.elapsed().as_secs_f64(), process.cpu()?.saturating_sub(cpu));
        let payload = tally.payload.get() - payload;
        tally.wait_for_an_answer().await;
        let requests = tally.requests(payload);
        let mut faults = tally.faults.take();
        if requests == 0.0 {
            faults.add("nothing was answered".to_owned());
        }
        Ok(Saturation { cpu: cpu.as_secs_f64() * 1e6 / requests, rate: requests / seconds, faults })
    })
}

/// How long a round may go on until it has one whole answer.
const PATIENCE: Duration = Duration::from_secs(15);

impl Tally {
    /// A whole answer is the measure of all: a round that is shorter than a stream waits for the first end.
    async fn wait_for_an_answer(&self) {
        let give_up = Instant::now() + PATIENCE;
        while self.answers.get() == 0 && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Bytes of body as requests: streams that a window cuts count by what they brought in it.
    fn requests(&self, payload: u64) -> f64 {
        let (answers, answered) = (self.answers.get(), self.answered.get());
        if answers == 0 { 0.0 } else { payload as f64 * answers as f64 / answered as f64 }
    }
}

async fn client(address: SocketAddr, ask: Ask, tally: Rc<Tally>) {
    loop {
        if let Err(fault) = connection(address, &ask, &tally).await {
            tally.faults.borrow_mut().add(fault);
            // A proxy that refuses everything is not asked as fast as the loop can.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn connection(address: SocketAddr, ask: &Ask, tally: &Tally) -> Result<(), String> {
    let mut socket = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
    socket.set_nodelay(true).map_err(|error| format!("nodelay: {error}"))?;
    let mut buffer = vec![0; 64 << 10];
    let mut answer = Answer::default();
    loop {
        answer.clear();
        socket.write_all(&ask.bytes).await.map_err(|error| format!("write: {error}"))?;
        loop {
            let read = socket.read(&mut buffer).await.map_err(|error| format!("read: {error}"))?;
            if read == 0 {
                return Err("closed before the end of the answer".to_owned());
            }
            let before = answer.payload();
            let complete = answer.feed(&buffer[..read])?;
            tally.payload.set(tally.payload.get() + (answer.payload() - before) as u64);
            if complete {
                break;
            }
        }
        answer.verify(ask)?;
        tally.answers.set(tally.answers.get() + 1);
        tally.answered.set(tally.answered.get() + answer.payload() as u64);
    }
}
