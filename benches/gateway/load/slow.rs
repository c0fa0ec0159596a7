//! Many slow streams at once: what a proxy holds for each of them.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};

use super::Faults;
use crate::Result;
use crate::process::Process;
use crate::wire::{Answer, Ask};

/// What the streams have cost.
#[derive(Debug)]
pub struct Held {
    /// Resident memory while they ran, beyond what it was before, in MiB.
    pub memory: f64,
    /// Wrong answers and broken connections.
    pub faults: Faults,
}

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Tally {
    begun: Cell<usize>,
    ended: Cell<usize>,
    faults: RefCell<Faults>,
}

/// Opens `streams` at once and reads all of them to the end.
pub fn hold(address: SocketAddr, ask: &Ask, streams: usize, process: Process) -> Result<Held> {
    let before = process.resident()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let tally = Rc::new(Tally::default());
        for _ in 0..streams {
            spawn_local(client(address, ask.clone(), tally.clone()));
        }
        let mut most = before;
        let mut together = 0;
        while tally.ended.get() < streams {
            tokio::time::sleep(LOOK).await;
            most = most.max(process.resident()?);
            together = together.max(tally.begun.get() - tally.ended.get());
        }
        let mut faults = tally.faults.take();
        if together < streams && faults.count() == 0 {
            faults.add(format!("only {together} of {streams} streams ran at once"));
        }
        Ok(Held { memory: most - before, faults })
    })
}

async fn client(address: SocketAddr, ask: Ask, tally: Rc<Tally>) {
    let begun = Cell::new(false);
    if let Err(fault) = stream(address, &ask, &tally, &begun).await {
        tally.faults.borrow_mut().add(fault);
    }
    if !begun.get() {
        tally.begun.set(tally.begun.get() + 1);
    }
    tally.ended.set(tally.ended.get() + 1);
}

async fn stream(address: SocketAddr, ask: &Ask, tally: &Tally, begun: &Cell<bool>) -> Result<(), String> {
    let mut socket = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
    socket.set_nodelay(true).map_err(|error| format!("nodelay: {error}"))?;
    socket.write_all(&ask.bytes).await.map_err(|error| format!("write: {error}"))?;
    let mut buffer = vec![0; 4 << 10];
    let mut answer = Answer::default();
    loop {
        let read = socket.read(&mut buffer).await.map_err(|error| format!("read: {error}"))?;
        if read == 0 {
            return Err("closed before the end of the stream".to_owned());
        }
        let complete = answer.feed(&buffer[..read])?;
        if answer.has_begun() && !begun.replace(true) {
            tally.begun.set(tally.begun.get() + 1);
        }
        if complete {
            return answer.verify(ask);
        }
    }
}
