//! What stands before every target: its breaker and its budget of retries, for all workers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{Gauge, counter, gauge};
use serde::Serialize;
use tokio::time::Instant;

use super::budget::{Allowance, Budget};
use super::hints::Hints;
use super::settings::BreakerSettings;
use super::state::{Breaker, Cause, Entry, Heard, Standing};
use crate::clock::Dice;
use crate::target::TargetName;

/// Clients may ask for any model by name: so many targets have a gate, and those that the configuration names; all others
/// are let through.
const MOST_GATES: usize = 512;

/// A gate that nobody passed for so long is forgotten.
const IDLE: Duration = Duration::from_secs(900);

/// A target that was asked within this time is in use.
const IN_USE: Duration = Duration::from_secs(300);

/// The gates of all targets.
pub struct Gates {
    settings: ArcSwap<BreakerSettings>,
    gates: ArcSwap<HashMap<TargetName, Arc<Gate>>>,
    /// Held while a gate is added or forgotten.
    keeper: Mutex<()>,
    dice: Arc<Dice>,
    /// What other gateways say.
    pub(super) hints: Hints,
}

/// The gate of one target.
pub struct Gate {
    target: TargetName,
    /// The target's label in metrics; `None` where the configuration does not name it.
    gauge: Option<Gauge>,
    state: Mutex<State>,
}

struct State {
    breaker: Breaker,
    budget: Budget,
    used: Instant,
    /// When it last answered well.
    well: Option<Instant>,
}

/// Leave for one attempt. Dropped without a word, it says nothing of the target.
pub struct Pass {
    gates: Arc<Gates>,
    gate: Option<Arc<Gate>>,
    probe: bool,
    entered: Instant,
}

/// Who may go where.
pub enum Admission {
    /// Go on.
    Pass(Pass),
    /// Not now.
    Shut(Duration),
}

/// What is known of a target's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Look {
    /// Whether attempts are let through.
    pub state: Standing,
    /// Why it opened, while it is not closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Milliseconds until it may be tried again.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_in_ms: u64,
    /// How often it opened in a row.
    pub openings: u32,
    /// From 0 to 1: by this, weights are multiplied.
    pub health: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

impl Gates {
    /// No target is known yet.
    pub fn new(dice: Dice) -> Self {
        Self {
            settings: ArcSwap::default(),
            gates: ArcSwap::default(),
            keeper: Mutex::default(),
            dice: Arc::new(dice),
            hints: Hints::default(),
        }
    }

    /// Takes other settings. What was learnt stays; without breakers, it is forgotten.
    pub fn configure(&self, settings: BreakerSettings) {
        if !settings.enabled {
            let _keeper = self.keep();
            for gate in self.gates.load().values() {
                gate.show(Standing::Closed);
            }
            self.gates.store(Arc::default());
        }
        self.settings.store(Arc::new(settings));
    }

    /// An attempt at a target wants through. `listed`: whether the configuration names it.
    pub fn enter(
        self: &Arc<Self>,
        target: &TargetName,
        listed: bool,
        allowance: Allowance,
        now: Instant,
    ) -> Admission {
        let Some(gate) = self.gate(target, listed, now) else { return Admission::Pass(self.free(now)) };
        let entry = {
            let mut state = gate.state();
            state.used = now;
            state.budget.earn(allowance);
            state.breaker.enter(now)
        };
        self.admit(gate, entry, now)
    }

    /// The same for another try, which earns no further one; or, with `anyway`, because nothing else is left: then an
    /// open breaker lets one through at a time.
    pub fn enter_again(self: &Arc<Self>, target: &TargetName, anyway: bool, now: Instant) -> Admission {
        let Some(gate) = self.gates.load().get(target).cloned() else {
            return Admission::Pass(self.free(now));
        };
        let entry = {
            let mut state = gate.state();
            if anyway { state.breaker.enter_anyway(now) } else { state.breaker.enter(now) }
        };
        self.admit(gate, entry, now)
    }

    /// Whether the target may be tried once more; the retry is spent then.
    pub fn may_retry(&self, target: &TargetName, allowance: Allowance, now: Instant) -> bool {
        let gates = self.gates.load();
        let Some(gate) = gates.get(target) else { return true };
        let allowed = gate.state().budget.spend(allowance, now);
        if !allowed {
            counter!("tollgate_retries_denied_total", "provider" => target.provider.to_string()).increment(1);
        }
        allowed
    }

    /// A stream whose beginning was good broke off.
    pub fn broke(&self, target: &TargetName, now: Instant) {
        if let Some(gate) = self.gates.load().get(target) {
            self.tell(gate, Heard::Bad, false, now, now);
        }
    }

    /// What an active probe found: a target that answers may be tried by requests before its time.
    pub fn probed(&self, target: &TargetName, well: bool, now: Instant) {
        let gates = self.gates.load();
        let Some(gate) = gates.get(target) else { return };
        if well {
            gate.state().breaker.may_be_well(now);
        } else {
            self.tell(gate, Heard::Bad, false, now, now);
        }
    }

    /// Whether all attempts at a target are let through.
    pub fn is_closed(&self, target: &TargetName) -> bool {
        let gates = self.gates.load();
        gates.get(target).is_none_or(|gate| gate.state().breaker.standing() == Standing::Closed)
    }

    /// What is known of a target's breaker.
    pub fn look(&self, target: &TargetName, now: Instant) -> Option<Look> {
        let look = self.gates.load().get(target)?.look(now);
        Some(Look { health: self.hints.temper(look.health, target, now), ..look })
    }

    /// All gates of a provider by model, sorted.
    pub fn of_provider(&self, provider: &str, now: Instant) -> Vec<(Arc<str>, Look)> {
        let gates = self.gates.load();
        let own = gates.values().filter(|gate| *gate.target.provider == *provider);
        let look = |gate: &Gate| {
            let look = gate.look(now);
            Look { health: self.hints.temper(look.health, &gate.target, now), ..look }
        };
        let mut own: Vec<_> = own.map(|gate| (gate.target.model.clone(), look(gate))).collect();
        own.sort_by(|a, b| a.0.cmp(&b.0));
        own
    }

    /// Targets that are worth an active probe: in use lately without an answer for so long, or not closed. One that
    /// answers requests tells more of itself than a probe could, and may be at its limit.
    pub fn watched(&self, silent_for: Duration, now: Instant) -> Vec<(TargetName, Standing)> {
        let gates = self.gates.load();
        let watched = gates.values().filter_map(|gate| {
            let state = gate.state();
            let standing = state.breaker.standing();
            let in_use = now.saturating_duration_since(state.used) < IN_USE;
            let silent = state.well.is_none_or(|well| now.saturating_duration_since(well) >= silent_for);
            (in_use && silent || standing != Standing::Closed).then(|| (gate.target.clone(), standing))
        });
        watched.collect()
    }

    /// Targets whose breakers are open, and for how long.
    pub(super) fn open_ones(&self, now: Instant) -> Vec<(TargetName, Duration)> {
        let gates = self.gates.load();
        let open = gates.values().filter_map(|gate| {
            let state = gate.state();
            let is_open = state.breaker.standing() == Standing::Open;
            is_open.then(|| (gate.target.clone(), state.breaker.left(now)))
        });
        open.filter(|(_, left)| !left.is_zero()).collect()
    }

    /// Forgets gates that nobody passed for long; called now and then.
    pub fn tick(&self, now: Instant) {
        let is_idle = |gate: &Gate| now.saturating_duration_since(gate.state().used) > IDLE;
        if !self.gates.load().values().any(|gate| is_idle(gate)) {
            return;
        }
        let _keeper = self.keep();
        let mut gates = HashMap::clone(&self.gates.load());
        gates.retain(|_, gate| {
            let idle = is_idle(gate);
            if idle {
                gate.show(Standing::Closed);
            }
            !idle
        });
        self.gates.store(Arc::new(gates));
    }

    fn admit(self: &Arc<Self>, gate: Arc<Gate>, entry: Entry, entered: Instant) -> Admission {
        match entry {
            Entry::Shut(left) => Admission::Shut(left),
            entry => {
                let probe = entry == Entry::Probe;
                if probe {
                    gate.show(Standing::HalfOpen);
                }
                Admission::Pass(Pass { gates: self.clone(), gate: Some(gate), probe, entered })
            }
        }
    }

    fn free(self: &Arc<Self>, entered: Instant) -> Pass {
        Pass { gates: self.clone(), gate: None, probe: false, entered }
    }

    fn gate(&self, target: &TargetName, listed: bool, now: Instant) -> Option<Arc<Gate>> {
        match self.gates.load().get(target) {
            Some(gate) => Some(gate.clone()),
            None => self.open(target, listed, now),
        }
    }

    #[cold]
    fn open(&self, target: &TargetName, listed: bool, now: Instant) -> Option<Arc<Gate>> {
        let _keeper = self.keep();
        let mut gates = HashMap::clone(&self.gates.load());
        if let Some(gate) = gates.get(target) {
            return Some(gate.clone());
        }
        if gates.len() >= MOST_GATES && !listed {
            return None;
        }
        let gauge = listed.then(|| {
            gauge!("tollgate_breaker_state", "provider" => target.provider.to_string(),
                "model" => target.model.to_string())
        });
        let state = State { breaker: Breaker::new(now), budget: Budget::new(now), used: now, well: None };
        let gate = Arc::new(Gate { target: target.clone(), gauge, state: Mutex::new(state) });
        gate.show(Standing::Closed);
        gates.insert(target.clone(), gate.clone());
        self.gates.store(Arc::new(gates));
        Some(gate)
    }

    fn tell(&self, gate: &Gate, heard: Heard, was_probe: bool, entered: Instant, now: Instant) {
        let settings = self.settings.load();
        if !settings.enabled {
            return;
        }
        // Where others have found out already, one failure is enough.
        let warned = heard == Heard::Bad && settings.consecutive > 1 && self.hints.warn_of(&gate.target, now);
        let settings = match warned {
            true => Arc::new(BreakerSettings { consecutive: 1, ..BreakerSettings::clone(&settings) }),
            false => Arc::clone(&settings),
        };
        // Only what fails needs the dice.
        let dice = if heard == Heard::Bad || settings.slow.is_some() { self.dice.unit() } else { 0.0 };
        let (changed, look) = {
            let mut state = gate.state();
            if matches!(heard, Heard::Good(_)) {
                state.well = Some(now);
            }
            let changed = state.breaker.heard(heard, was_probe, entered, &settings, now, dice);
            (changed, changed.map(|_| state.look(now)))
        };
        if let (Some(standing), Some(look)) = (changed, look) {
            gate.changed(standing, &look);
        }
    }

    fn keep(&self) -> std::sync::MutexGuard<'_, ()> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, now: Instant) -> Look {
        self.state().look(now)
    }

    /// 0 closed, 1 half open, 2 open.
    fn show(&self, standing: Standing) {
        if let Some(gauge) = &self.gauge {
            gauge.set(f64::from(standing as u8));
        }
    }

    #[cold]
    fn changed(&self, standing: Standing, look: &Look) {
        self.show(standing);
        let (target, cause) = (&self.target, look.cause.map(Cause::as_str));
        if standing == Standing::Open {
            counter!("tollgate_breaker_openings_total", "provider" => target.provider.to_string())
                .increment(1);
            tracing::warn!(upstream = %target, cause, openings = look.openings, retry_in_ms = look.retry_in_ms,
                "breaker opened: the target is left alone for a while");
            let about = serde_json::json!({ "target": target.to_string(), "retry_in_ms": look.retry_in_ms });
            crate::telemetry::alarm("breaker_opened", about);
        } else {
            tracing::info!(upstream = %target, "breaker closed: the target does well again");
        }
    }
}

impl State {
    fn look(&self, now: Instant) -> Look {
        let breaker = &self.breaker;
        Look {
            state: breaker.standing(),
            cause: breaker.cause(),
            retry_in_ms: u64::try_from(breaker.left(now).as_millis()).unwrap_or(u64::MAX),
            openings: breaker.openings(),
            health: breaker.health(now),
        }
    }
}

impl Pass {
    /// How the attempt ended.
    pub fn heard(mut self, heard: Heard, now: Instant) {
        if let Some(gate) = self.gate.take() {
            self.gates.tell(&gate, heard, self.probe, self.entered, now);
        }
    }

    /// Whether the attempt finds out how a target does that was left alone.
    pub fn is_probe(&self) -> bool {
        self.probe
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take().filter(|_| self.probe) {
            self.gates.tell(&gate, Heard::Nothing, true, self.entered, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_invents_names_takes_no_breaker_from_those_who_are_named() {
        let gates = Arc::new(Gates::new(Dice::loaded(1)));
        gates.configure(BreakerSettings::default());
        let now = Instant::now();
        let enter = |name: &str, listed| {
            let target = TargetName::parse(name).unwrap();
            drop(gates.enter(&target, listed, Allowance { share: 0.1, floor: 5 }, now));
            gates.look(&target, now).is_some()
        };
        assert!((0..MOST_GATES).all(|n| enter(&format!("up/invented-{n}"), false)));
        assert!(!enter("up/one-more", false), "memory is bounded");
        assert!(enter("up/own", true));
    }
}
