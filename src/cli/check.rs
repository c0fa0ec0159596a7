//! `tollgate check`: everything that `serve` would refuse, before it is served.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::clock::SystemClock;
use crate::house::House;

/// Checks configuration, policies and secrets.
pub(super) fn check(config: Option<PathBuf>) -> ExitCode {
    let problems = match House::open(config) {
        Ok(house) => match house.build(&SystemClock).inspect(|_| house.warnings().print()) {
            Ok(built) => {
                let snapshot = built.snapshot;
                println!(
                    "ok: {} providers, {} aliases, {} policies (snapshot {})",
                    snapshot.catalogue.vendors().len(),
                    snapshot.catalogue.aliases().count(),
                    snapshot.policies.names().count(),
                    snapshot.hash
                );
                return ExitCode::SUCCESS;
            }
            Err(problems) => problems,
        },
        Err(problems) => problems,
    };
    problems.print();
    ExitCode::FAILURE
}
