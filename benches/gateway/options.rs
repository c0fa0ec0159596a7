//! The command line of the bench.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::scenario::Scenario;

/// Measures the gateway against a bare hyper proxy, interleaved, with a scripted upstream.
#[derive(Debug, Parser)]
#[command(name = "gateway")]
pub struct Command {
    /// What this process plays; without it, the measurement.
    #[command(subcommand)]
    pub role: Option<Role>,
    /// The measurement.
    #[command(flatten)]
    pub options: Options,
}

/// The parts that the bench plays by starting itself again.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Role {
    /// The scripted upstream.
    Mock,
    /// The floor: hyper's server and hyper-util's pooled client on two threads.
    Floor {
        /// Where requests go.
        upstream: SocketAddr,
    },
    /// A leaner floor: one runtime per core and a connection pool of its own.
    FloorLean {
        /// Where requests go.
        upstream: SocketAddr,
    },
}

/// Options of the measurement.
#[derive(Debug, Args)]
pub struct Options {
    /// Scenarios to run, by comma; without it, all with a bar.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub only: Vec<Scenario>,
    /// Rounds of each scenario, for floor and gateway each.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Length of a round in seconds.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Two rounds of one second: for a look, not for a claim.
    #[arg(long)]
    pub quick: bool,
    /// Connections of the closed loop.
    #[arg(long, default_value_t = 32)]
    pub connections: usize,
    /// Requests per second of the open loop.
    #[arg(long, default_value_t = 1_000)]
    pub rate: u32,
    /// The gateway's binary; without it, `TOLLGATE_BENCH_GATEWAY` or the one that cargo has just built.
    #[arg(long, value_name = "PATH")]
    pub gateway: Option<PathBuf>,
    /// Put the lean floor in the gateway's place: a trial of the bench itself.
    #[arg(long)]
    pub gateway_is_floor_lean: bool,
    /// A policy to run instead of the bench's own.
    #[arg(long, value_name = "PATH")]
    pub policy: Option<PathBuf>,
    /// Where the access log goes.
    #[arg(long, value_enum, default_value_t = AccessLog::File)]
    pub access_log: AccessLog,
    /// Print the figures as JSON, every round of them, instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Passed by cargo, without meaning here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Where the gateway's access log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccessLog {
    /// A file in a temporary directory, emptied after each round.
    File,
    /// `/dev/null`.
    Null,
    /// Switched off in the configuration.
    Off,
}

impl Options {
    /// Rounds of each scenario.
    pub fn rounds(&self) -> usize {
        if self.quick { 2 } else { self.rounds.max(1) }
    }

    /// The measured part of a round.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(if self.quick { 1.0 } else { self.seconds.clamp(0.1, 600.0) })
    }

    /// What runs before it, unmeasured.
    pub fn warmup(&self) -> Duration {
        self.length().mul_f64(0.25).clamp(Duration::from_millis(200), Duration::from_secs(1))
    }
}
