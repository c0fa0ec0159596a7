//! The gateway measured against the floor: a bare hyper proxy that parses nothing, run interleaved with it.
//!
//! `cargo bench --bench gateway -- --help` lists the options; `docs/performance.md` says what is measured and how.

mod asks;
mod child;
mod floor;
mod floor_lean;
mod load;
mod mock;
mod options;
mod process;
mod prompts;
mod report;
mod scenario;
mod wire;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use options::{Command, Role};

/// Faults of the bench itself are texts for whoever runs it.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let command = Command::parse();
    let outcome = match command.role {
        Some(Role::Mock) => mock::run(),
        Some(Role::Floor { upstream }) => floor::run(upstream),
        Some(Role::FloorLean { upstream }) => floor_lean::run(upstream),
        None => scenario::run(&command.options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
