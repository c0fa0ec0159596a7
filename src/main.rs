//! The `tollgate` binary: see `cli.rs` for the map.

use std::process::ExitCode;

/// A request makes some thirty small allocations and one as large as its body; measured against glibc's allocator
/// this one saves a seventh of the CPU time of a small request and a fifth of a large one's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tollgate::cli::run()
}
