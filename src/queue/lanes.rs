//! The lanes to all targets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::lane::{Lane, LaneLook};
use super::settings::QueueSettings;
use crate::target::{ConcurrencyRules, TargetName};

/// Clients may ask for any model by name: beyond so many targets, those of a provider share one lane.
const MOST_LANES: usize = 512;

/// A lane that nobody used for so long is forgotten.
const IDLE: Duration = Duration::from_secs(900);

/// The model under which targets share a lane.
const OTHERS: &str = "*";

/// The lanes to all targets.
#[derive(Default)]
pub struct Lanes {
    terms: ArcSwap<LaneTerms>,
    lanes: ArcSwap<ByName>,
    /// Held while a lane is added or forgotten.
    keeper: Mutex<()>,
}

/// By provider, then by model: looked up by their names without putting them together.
type ByName = HashMap<Arc<str>, HashMap<Arc<str>, Arc<Lane>>>;

/// What a configuration says of lanes.
#[derive(Debug, Clone, Default)]
pub struct LaneTerms {
    /// How long lines may be.
    pub queue: QueueSettings,
    /// How many may be at the targets of a provider, where it is not the usual.
    pub providers: HashMap<Arc<str>, ConcurrencyRules>,
}

impl LaneTerms {
    fn rules(&self, provider: &str) -> ConcurrencyRules {
        self.providers.get(provider).copied().unwrap_or_default()
    }
}

impl Lanes {
    /// Takes other terms; who is at a target or in line stays there.
    pub fn configure(&self, terms: LaneTerms) {
        let _keeper = self.keep();
        for (provider, models) in &**self.lanes.load() {
            models.values().for_each(|lane| lane.configure(terms.rules(provider)));
        }
        self.terms.store(Arc::new(terms));
    }

    /// How long lines may be.
    pub fn queue(&self) -> QueueSettings {
        self.terms.load().queue
    }

    /// The lane to a target. `listed` says whether the configuration names it; it is only asked of one without a lane.
    pub fn of(&self, target: &TargetName, listed: impl FnOnce() -> bool) -> Arc<Lane> {
        let lanes = self.lanes.load();
        let models = lanes.get(&target.provider);
        if let Some(own) = models.and_then(|models| models.get(&target.model)) {
            return own.clone();
        }
        let listed = listed();
        match models.filter(|_| !listed).and_then(|models| models.get(OTHERS)) {
            Some(lane) => lane.clone(),
            None => self.open(target, listed),
        }
    }

    /// How the lanes to a provider's targets stand, by model.
    pub fn of_provider(&self, provider: &str) -> Vec<(Arc<str>, LaneLook)> {
        let lanes = self.lanes.load();
        let own = lanes.get(provider).into_iter().flat_map(HashMap::values);
        own.map(|lane| (lane.target().model.clone(), lane.look())).collect()
    }

    /// Forgets lanes that nobody used for long; called now and then.
    pub fn tick(&self, now: Instant) {
        let mut any = false;
        for lane in self.lanes.load().values().flat_map(HashMap::values) {
            let look = lane.look();
            if look.in_flight > 0 || look.waiting > 0 {
                lane.touch(now);
            }
            any |= lane.is_idle(IDLE, now);
        }
        if !any {
            return;
        }
        let _keeper = self.keep();
        let mut lanes = HashMap::clone(&self.lanes.load());
        for models in lanes.values_mut() {
            models.retain(|_, lane| {
                let idle = lane.is_idle(IDLE, now);
                if idle {
                    lane.hide();
                }
                !idle
            });
        }
        lanes.retain(|_, models| !models.is_empty());
        self.lanes.store(Arc::new(lanes));
    }

    #[cold]
    fn open(&self, target: &TargetName, listed: bool) -> Arc<Lane> {
        let _keeper = self.keep();
        let mut lanes = HashMap::clone(&self.lanes.load());
        let known = lanes.values().map(HashMap::len).sum::<usize>();
        let models = lanes.entry(target.provider.clone()).or_default();
        let model: Arc<str> = if known < MOST_LANES || listed { target.model.clone() } else { OTHERS.into() };
        if let Some(lane) = models.get(&model) {
            return lane.clone();
        }
        let name = TargetName { provider: target.provider.clone(), model: model.clone() };
        let rules = self.terms.load().rules(&target.provider);
        let lane = Arc::new(Lane::new(name, listed, rules, Instant::now()));
        models.insert(model, lane.clone());
        self.lanes.store(Arc::new(lanes));
        lane
    }

    fn keep(&self) -> std::sync::MutexGuard<'_, ()> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
