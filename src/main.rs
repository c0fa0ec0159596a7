//! The `tollgate` binary: see `cli.rs` for the map.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate::cli::run()
}
