//! Alerts of budgets: told once for each threshold and window, to whoever listens.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::mpsc::Sender;

use super::counter::Counter;
use super::{Budget, Measure, Standing};

/// What is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alert {
    /// What happened.
    #[serde(flatten)]
    pub kind: AlertKind,
    /// How the budget stands.
    #[serde(flatten)]
    pub standing: Standing,
    /// The share of the limit that is spent.
    pub ratio: f64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// What happened to a budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AlertKind {
    /// So many percent of the limit are spent.
    BudgetThreshold {
        /// The threshold that was crossed.
        percent: u32,
    },
    /// At the pace so far, so many percent of the limit will be spent when the window ends.
    BudgetProjection {
        /// Percent of the limit.
        percent: u32,
    },
}

impl AlertKind {
    /// The threshold; none for a projection, of which there is one in a window.
    pub fn threshold(self) -> Option<u32> {
        match self {
            Self::BudgetThreshold { percent } => Some(percent),
            Self::BudgetProjection { .. } => None,
        }
    }
}

/// Finds out what is to be told.
#[derive(Default)]
pub(super) struct Alarm {
    to: Mutex<Option<Sender<Alert>>>,
    /// Budgets whose sums are about to be recounted.
    fresh: Mutex<Vec<u64>>,
}

impl Alarm {
    pub(super) fn ring_at(&self, to: Sender<Alert>) {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
    }

    pub(super) fn expect(&self, fresh: Vec<u64>) {
        *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    pub(super) fn expects(&self, order: u64) -> bool {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).contains(&order)
    }

    /// Whether something is to be told.
    pub(super) fn due(&self, budget: &Budget, counter: &Counter, now: u64) -> bool {
        crossed(budget, counter) & !counter.told != 0 || projected(budget, counter, now).is_some()
    }

    /// What is to be told, which is then told.
    pub(super) fn take(&self, budget: &Budget, counter: &mut Counter, now: u64) -> Vec<AlertKind> {
        let fresh = crossed(budget, counter) & !counter.told;
        let mut kinds = Vec::new();
        // Of several thresholds that were crossed at once, the highest says all.
        if fresh != 0
            && let Some(percent) = budget.alerts.get(fresh.ilog2() as usize)
        {
            kinds.push(AlertKind::BudgetThreshold { percent: *percent });
        }
        if let Some(percent) = projected(budget, counter, now) {
            counter.projected = true;
            kinds.push(AlertKind::BudgetProjection { percent });
        }
        counter.told |= fresh;
        kinds
    }

    /// Takes note of what is crossed already.
    pub(super) fn quietly(&self, budget: &Budget, counter: &mut Counter, now: u64) {
        counter.told |= crossed(budget, counter);
        counter.projected |= projected(budget, counter, now).is_some();
    }

    pub(super) fn ring(&self, kinds: Vec<AlertKind>, standing: &Standing, now: u64) {
        for kind in kinds {
            let alert = Alert { kind, standing: standing.clone(), ratio: standing.ratio(), at_ms: now };
            let to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever listens may be slow; requests do not wait for him.
            if to.as_ref().is_some_and(|to| to.try_send(alert).is_err()) {
                metrics::counter!("tollgate_alerts_dropped_total").increment(1);
            }
        }
    }
}

/// The thresholds that are crossed, one bit each.
fn crossed(budget: &Budget, counter: &Counter) -> u32 {
    let share = |percent: u32| u128::from(budget.limit) * u128::from(percent);
    let reached =
        |percent: &u32| budget.limit > 0 && u128::from(counter.used_by_all()) * 100 >= share(*percent);
    let places = budget.alerts.iter().enumerate();
    places.filter(|(_, percent)| reached(percent)).fold(0, |bits, (place, _)| bits | 1 << place)
}

/// Percent of the limit that will be spent at the pace so far, if that is more than all and was not told yet.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a projection is not exact"
)]
fn projected(budget: &Budget, counter: &Counter, now: u64) -> Option<u32> {
    if !budget.projection || counter.projected || budget.limit == 0 || counter.used_by_all() > budget.limit {
        return None;
    }
    let ratio = counter.projection(now)? / budget.limit as f64;
    (ratio > 1.0).then_some((ratio * 100.0).min(1e6) as u32)
}

/// An amount as people read it: `$1.25`, `1000 tokens`.
pub fn shown(measure: Measure, amount: u64) -> String {
    match measure {
        Measure::Dollars => format!("${}", crate::money::Nano(amount)),
        Measure::Tokens => format!("{amount} tokens"),
    }
}
