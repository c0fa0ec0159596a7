//! The processes of a measurement: started, heard out until they listen, ended with their owner.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;
use crate::process::Process;

/// A process that listens. It ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Where clients connect.
    pub clients: SocketAddr,
    /// When it was started.
    pub since: Instant,
    said: Said,
}

/// The last lines on standard error.
type Said = Arc<Mutex<VecDeque<String>>>;

/// How long a process may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

impl Running {
    /// Starts a process and waits for its line with the field `clients`.
    pub fn start(mut command: Command) -> Result<Self> {
        let since = Instant::now();
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| {
            format!("{} does not start: {error}", command.get_program().to_string_lossy())
        })?;
        let said = Said::default();
        let (listening, heard) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            let said = said.clone();
            std::thread::spawn(move || listen(stderr, &said, &listening));
        }
        match heard.recv_timeout(PATIENCE) {
            Ok(clients) => Ok(Self { child, clients, since, said }),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                let said = last(&said);
                Err(format!("{} never listened; it said:\n{said}", command.get_program().to_string_lossy())
                    .into())
            }
        }
    }

    /// What it costs.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Its last lines on standard error.
    pub fn said(&self) -> String {
        last(&self.said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever counts what it does writes it down when it ends by itself.
        if std::env::var_os("LLVM_PROFILE_FILE").is_some()
            && Command::new("kill").arg(self.child.id().to_string()).status().is_ok_and(|sent| sent.success())
        {
            for _ in 0..300 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(100));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells the parent where this process listens, in the form of the gateway's own line.
pub fn announce(clients: SocketAddr) {
    eprintln!("{}", serde_json::json!({ "message": "listening", "clients": clients }));
    // Whatever becomes of the parent, its end of the pipe closes with it.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

fn listen(stderr: ChildStderr, said: &Said, listening: &Sender<SocketAddr>) {
    for line in BufReader::new(stderr).lines().map_while(std::result::Result::ok) {
        if let Some(clients) = serde_json::from_str(&line).ok().and_then(|line| address(&line)) {
            let _ = listening.send(clients);
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == 20 {
            said.pop_front();
        }
        said.push_back(line);
    }
}

/// The field `clients`, wherever the line has it.
fn address(value: &Value) -> Option<SocketAddr> {
    let fields = value.as_object()?;
    let here = fields.get("clients").and_then(Value::as_str).and_then(|text| text.parse().ok());
    here.or_else(|| fields.values().find_map(address))
}

fn last(said: &Said) -> String {
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    said.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}
