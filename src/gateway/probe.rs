//! Asks providers now and then whether they answer: those that were in use lately and have not answered since, and
//! those whose targets are left alone, so that they are tried again as soon as they are back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::Shared;
use crate::breaker::{Standing, TICK};
use crate::clock::Dice;
use crate::executor::Executor;
use crate::planner::Known;
use crate::providers::Target;
use crate::target::TargetName;
use crate::telemetry::Meters;
use crate::upstream::Upstream;

/// Runs as long as the process.
pub async fn probe(shared: Arc<Shared>, upstream: Arc<Upstream>) {
    let figures = &shared.figures;
    let clock = shared.clock.clone();
    let (meters, dice) = (Arc::new(Meters::default()), Arc::new(Dice::fair()));
    let executor = Arc::new(Executor::new(upstream, meters, figures.of_targets(), dice, clock));
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        tick.tick().await;
        let every = figures.probe.load().interval.0;
        if every.is_zero() || last.elapsed() < every {
            continue;
        }
        last = Instant::now();
        round(&shared, &executor, every).await;
    }
}

/// One question to each provider that is worth one; the answer holds for all of its targets.
async fn round(shared: &Arc<Shared>, executor: &Arc<Executor>, every: Duration) {
    let timeout = shared.figures.probe.load().timeout.0;
    let mut asking = JoinSet::new();
    for (target, watched) in watched(shared, every) {
        let executor = executor.clone();
        asking.spawn(async move { (executor.probe(&target, timeout).await, target, watched) });
    }
    while let Some(Ok((well, target, watched))) = asking.join_next().await {
        let Some(well) = well else { continue };
        let outcome = if well { "ok" } else { "failed" };
        let provider = target.name.provider.to_string();
        metrics::counter!("tollgate_probes_total", "provider" => provider, "outcome" => outcome).increment(1);
        let now = Instant::now();
        for (name, standing) in watched {
            // A list of models says nothing of a model that fails: it only ends a pause.
            if !well || standing == Standing::Open {
                shared.figures.gates.probed(&name, well, now);
            }
        }
    }
}

/// A target of each provider to ask by, and all of its targets that are watched.
fn watched(shared: &Shared, silent_for: Duration) -> Vec<(Target, Vec<(TargetName, Standing)>)> {
    let mut providers: BTreeMap<Arc<str>, Vec<(TargetName, Standing)>> = BTreeMap::new();
    for (target, standing) in shared.figures.gates.watched(silent_for, Instant::now()) {
        providers.entry(target.provider.clone()).or_default().push((target, standing));
    }
    let snapshot = shared.snapshot.load();
    let found = providers.into_values().filter_map(|watched| {
        let first = watched.first()?.0.to_string();
        match snapshot.catalogue.find(&first) {
            Some(Known::Target(target)) => Some((target, watched)),
            _ => None,
        }
    });
    found.collect()
}
