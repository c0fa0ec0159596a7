//! What was taken of capacity that is paid for already, as far as the ledger knows: a process begins to count with nothing, and
//! so do new terms.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Figures;
use crate::ledger::Reserved;
use crate::ledger::usage::{By, Question};
use crate::target::TargetName;

/// How often new terms are looked for.
const LOOK_MS: u64 = 1_000;
const LOOK: Duration = Duration::from_millis(LOOK_MS);

/// Counts it at the start, for no longer than `patience`, and from then on whenever there are new terms.
pub async fn recall(figures: &Arc<Figures>, patience: Duration) {
    let began_ms = figures.desk().now();
    let first = tokio::time::timeout(patience, recall_until(figures, began_ms)).await;
    let first = first.unwrap_or_else(|_| Err("the ledger takes long to answer".into()));
    tell(&first);
    tokio::spawn(go_on(figures.clone(), first.is_err().then_some(began_ms)));
}

/// `due_ms`: until when nothing is counted yet.
async fn go_on(figures: Arc<Figures>, mut due_ms: Option<u64>) {
    loop {
        tokio::time::sleep(LOOK).await;
        // What begins later is counted by those who take it.
        let until_ms = due_ms.unwrap_or_else(|| figures.desk().now().saturating_sub(LOOK_MS));
        let recalled = recall_until(&figures, until_ms).await;
        if due_ms.is_none() {
            tell(&recalled);
        }
        due_ms = recalled.is_err().then_some(until_ms);
    }
}

fn tell(recalled: &Result<(), String>) {
    if let Err(error) = recalled {
        tracing::warn!(%error, "what was taken of reserved capacity is not known yet: it counts from nothing");
    }
}

async fn recall_until(figures: &Figures, until_ms: u64) -> Result<(), String> {
    let mut fresh = figures.prices.book().reserved();
    fresh.retain(|reserved| !reserved.is_recalled());
    let periods: BTreeSet<u64> = fresh.iter().map(|reserved| reserved.since_ms(until_ms)).collect();
    for since_ms in periods {
        let question = Question { since_ms, until_ms, by: vec![By::Column("target")], ..Question::default() };
        let Some(sums) = figures.desk().sums(question, false).await else { return Ok(()) };
        for sum in sums? {
            let Some(target) = sum.of.first().and_then(|name| TargetName::parse(name)) else { continue };
            let Some(known) = figures.known(&target) else { continue };
            let Some(reserved) = known.price().and_then(|price| price.reserved.as_ref()) else { continue };
            let is_fresh = |fresh: &Arc<Reserved>| Arc::ptr_eq(fresh, reserved);
            if fresh.iter().any(is_fresh) && reserved.since_ms(until_ms) == since_ms {
                reserved.recall(sum.input + sum.cached_read + sum.cache_write + sum.output, since_ms);
            }
        }
    }
    fresh.iter().for_each(|reserved| reserved.recalled());
    Ok(())
}
