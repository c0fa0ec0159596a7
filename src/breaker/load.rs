//! How busy each target is at this moment: requests under way, and how long the latest attempts took.
//!
//! Shared by all workers; counted with atomics, read without a lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::spare::Spare;
use crate::target::TargetName;

/// Clients may ask for any model by name; beyond so many targets, those of a provider that the configuration does not
/// name are counted together.
const MOST_TARGETS: usize = 512;

/// A target that the configuration does not name is forgotten when nothing was heard of it for so long.
const IDLE: Duration = Duration::from_secs(900);

/// Time after which a measurement weighs a third of what it did.
const MEMORY: Duration = Duration::from_secs(10);

/// The steps by which medians follow, of the latest times and of the usual ones.
const LATEST: f32 = 1.07;
const USUAL: f32 = 1.01;

/// A target has become slow where its latest median is so many times its usual one.
const SHIFTED: f32 = 1.5;

/// A failed attempt counts as one that took at least so long: to fail fast must not look like being fast.
const PENALTY: Duration = Duration::from_secs(5);

/// The load of every target.
pub struct Loads {
    began: Instant,
    loads: ArcSwap<ByName>,
    /// Held while targets are added.
    keeper: Mutex<()>,
    /// What part of the traffic may be sent twice.
    pub spare: Spare,
}

/// By provider, then by model: looked up by their names without putting them together.
type ByName = HashMap<Arc<str>, HashMap<Arc<str>, Arc<Load>>>;

/// The load of one target.
#[derive(Debug, Default)]
struct Load {
    /// Whether the configuration names the target.
    listed: bool,
    in_flight: AtomicU32,
    /// Milliseconds as a number of 32 bits, and when they were reckoned, in milliseconds, in as many.
    ewma: AtomicU64,
    /// Medians of the latest dozen, and of the latest hundred times, as numbers of 32 bits each.
    medians: AtomicU64,
}

/// The load of one target at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadNow {
    /// Requests under way.
    pub in_flight: u64,
    /// Milliseconds that attempts took lately; `None` before the first has ended.
    pub ewma_ms: Option<f64>,
}

/// A request under way at a target; dropped when it is over.
#[derive(Debug)]
pub struct Busy {
    load: Arc<Load>,
    began: Instant,
    /// When the request began.
    at: Instant,
    /// Whether it was told how long the attempt took.
    told: bool,
}

impl Loads {
    /// Nobody is busy.
    pub fn new(now: Instant) -> Self {
        Self { began: now, loads: ArcSwap::default(), keeper: Mutex::default(), spare: Spare::default() }
    }

    /// A request begins. `listed` says whether the configuration names the target; it is only asked of one that is new.
    pub fn enter(&self, target: &TargetName, listed: impl FnOnce() -> bool) -> Busy {
        let known = self.loads.load();
        let found = known.get(&target.provider).and_then(|models| models.get(&target.model));
        let load = found.map_or_else(|| self.open(target, listed()), Arc::clone);
        load.in_flight.fetch_add(1, Ordering::Relaxed);
        Busy { load, began: self.began, at: Instant::now(), told: false }
    }

    /// Whether attempts at this target have become slower as a whole: half of the latest dozen took longer by half than
    /// it was usual before.
    pub fn is_slower(&self, target: &TargetName) -> bool {
        let known = self.loads.load();
        let found = known.get(&target.provider).and_then(|models| models.get(&target.model));
        found.is_some_and(|load| {
            let (latest, usual) = unpack_both(load.medians.load(Ordering::Relaxed));
            usual > 0.0 && latest > usual * SHIFTED
        })
    }

    /// How busy a target is; `None` when nothing was ever sent there.
    pub fn now(&self, target: &TargetName) -> Option<LoadNow> {
        self.loads.load().get(&target.provider)?.get(&target.model).map(|load| load.now())
    }

    /// Forgets targets that nobody named and nobody asked for long; called now and then.
    pub fn tick(&self, now: Instant) {
        let stamp = stamp(self.began, now);
        if !self.loads.load().values().flat_map(HashMap::values).any(|load| load.is_idle(stamp)) {
            return;
        }
        let _keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = ByName::clone(&self.loads.load());
        kept.values_mut().for_each(|models| models.retain(|_, load| !load.is_idle(stamp)));
        kept.retain(|_, models| !models.is_empty());
        self.loads.store(Arc::new(kept));
    }

    #[cold]
    fn open(&self, target: &TargetName, listed: bool) -> Arc<Load> {
        let _keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.loads.load();
        let full = known.values().map(HashMap::len).sum::<usize>() >= MOST_TARGETS;
        let model: Arc<str> = if full && !listed { "*".into() } else { target.model.clone() };
        if let Some(load) = known.get(&target.provider).and_then(|models| models.get(&model)) {
            return load.clone();
        }
        let mut grown = ByName::clone(&known);
        let load = Arc::new(Load { listed, ..Load::default() });
        grown.entry(target.provider.clone()).or_default().insert(model, load.clone());
        self.loads.store(Arc::new(grown));
        load
    }
}

impl Load {
    fn now(&self) -> LoadNow {
        let (ewma, stamp) = unpack(self.ewma.load(Ordering::Relaxed));
        let ewma_ms = (stamp > 0).then_some(f64::from(ewma));
        LoadNow { in_flight: u64::from(self.in_flight.load(Ordering::Relaxed)), ewma_ms }
    }

    fn is_idle(&self, now: u32) -> bool {
        let (_, heard) = unpack(self.ewma.load(Ordering::Relaxed));
        let silent = Duration::from_millis(u64::from(now.saturating_sub(heard)));
        !self.listed && self.in_flight.load(Ordering::Relaxed) == 0 && silent > IDLE
    }
}

impl Load {
    /// Moves the medians towards this time: up where it is longer, down where it is shorter, by a small step each. A time
    /// that was cut short only ever moves them up.
    fn median(&self, sample: f32, whole: bool) {
        let step = |median: f32, step: f32| match median {
            unknown if unknown <= 0.0 => {
                if whole {
                    sample
                } else {
                    0.0
                }
            }
            median if sample > median => (median * step).min(sample),
            median if whole => (median / step).max(sample),
            median => median,
        };
        let moved = |packed| {
            let (latest, usual) = unpack_both(packed);
            Some(pack(step(latest, LATEST), step(usual, USUAL).to_bits()))
        };
        // The function always gives a value.
        let _ = self.medians.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
    }
}

impl Busy {
    /// The attempt came to its verdict after so long. A longer time than usual counts at once, a shorter one bit by bit.
    pub fn took(&mut self, took: Duration, good: bool, now: Instant) {
        self.told = true;
        if good {
            self.load.median(took.as_secs_f32() * 1e3, true);
        }
        let took = if good { took } else { took.max(PENALTY) };
        let sample = took.as_secs_f32() * 1e3;
        let stamp = stamp(self.began, now);
        let reckon = |packed| {
            let (ewma, before) = unpack(packed);
            let age = stamp.saturating_sub(before);
            let next = if before == 0 || sample >= ewma {
                sample
            } else {
                #[allow(clippy::cast_precision_loss, reason = "a weight")]
                let kept = (-(age as f32) / (MEMORY.as_millis() as f32)).exp().min(0.95);
                ewma * kept + sample * (1.0 - kept)
            };
            Some(pack(next, stamp.max(before)))
        };
        // The function always gives a value.
        let _ = self.load.ewma.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reckon);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if !self.told {
            // Nobody waited for it to the end; that it took so long is known all the same.
            self.load.median(self.at.elapsed().as_secs_f32() * 1e3, false);
        }
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Milliseconds since the beginning; never 0, which means that nothing was measured.
fn stamp(began: Instant, now: Instant) -> u32 {
    let ms = now.saturating_duration_since(began).as_millis().saturating_add(1);
    u32::try_from(ms).unwrap_or(u32::MAX)
}

fn unpack_both(packed: u64) -> (f32, f32) {
    let (first, second) = unpack(packed);
    (first, f32::from_bits(second))
}

fn pack(ewma: f32, stamp: u32) -> u64 {
    u64::from(ewma.to_bits()) << 32 | u64::from(stamp)
}

fn unpack(packed: u64) -> (f32, u32) {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (f32::from_bits(half(packed >> 32)), half(packed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> TargetName {
        TargetName::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn requests_under_way_are_counted_until_they_are_over() {
        let loads = Loads::new(Instant::now());
        let a = target("x/a");
        assert_eq!(loads.now(&target("x/a")), None);
        let (one, two) = (loads.enter(&a, || false), loads.enter(&a, || false));
        assert_eq!(loads.now(&target("x/a")).unwrap().in_flight, 2);
        drop(one);
        assert_eq!(loads.now(&target("x/a")).unwrap().in_flight, 1);
        drop(two);
        assert_eq!(loads.now(&target("x/a")), Some(LoadNow { in_flight: 0, ewma_ms: None }));
        for n in 0..2 * MOST_TARGETS {
            drop(loads.enter(&target(&format!("y/{n}")), || false));
        }
        assert!(
            loads.now(&target("y/*")).is_some() && loads.now(&target("y/1000")).is_none(),
            "memory is bounded"
        );
        let _own = loads.enter(&target("y/own"), || true);
        assert_eq!(
            loads.now(&target("y/own")).map(|own| own.in_flight),
            Some(1),
            "who is named has a count of his own"
        );
        tokio::time::sleep(IDLE + Duration::from_secs(1)).await;
        loads.tick(Instant::now());
        assert!(
            loads.now(&target("y/own")).is_some() && loads.now(&target("y/1")).is_none(),
            "the others are forgotten"
        );
        let _new = loads.enter(&target("y/1000"), || false);
        assert!(loads.now(&target("y/1000")).is_some(), "which leaves room");
    }

    #[tokio::test(start_paused = true)]
    async fn slowness_counts_at_once_and_is_forgotten_slowly() {
        let loads = Loads::new(Instant::now());
        let a = target("x/a");
        let ewma = || loads.now(&target("x/a")).and_then(|now| now.ewma_ms).unwrap();
        let mut busy = loads.enter(&a, || true);
        let ms = Duration::from_millis;
        busy.took(ms(100), true, Instant::now());
        assert_eq!(ewma(), 100.0);
        busy.took(ms(900), true, Instant::now());
        assert_eq!(ewma(), 900.0, "a peak is seen at once");
        tokio::time::sleep(Duration::from_secs(1)).await;
        busy.took(ms(100), true, Instant::now());
        assert!((800.0..850.0).contains(&ewma()), "{}", ewma());
        tokio::time::sleep(Duration::from_secs(60)).await;
        busy.took(ms(100), true, Instant::now());
        assert!((100.0..110.0).contains(&ewma()), "{}", ewma());
        busy.took(ms(1), false, Instant::now());
        assert_eq!(ewma(), 5_000.0, "failing fast is not being fast");
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_has_become_slow_as_a_whole_is_known() {
        let loads = Loads::new(Instant::now());
        let a = target("x/a");
        let took = |ms: u64| loads.enter(&a, || true).took(Duration::from_millis(ms), true, Instant::now());
        assert!(!loads.is_slower(&a));
        (0..200).for_each(|n| took(if n % 10 == 9 { 900 } else { 100 }));
        assert!(!loads.is_slower(&a), "one in ten is slow, as ever");
        (0..12).for_each(|_| took(300));
        assert!(loads.is_slower(&a), "now all of them are");
        (0..12).for_each(|_| took(100));
        assert!(!loads.is_slower(&a));
        for _ in 0..12 {
            let _abandoned = loads.enter(&a, || true);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(loads.is_slower(&a), "also where nobody waited for the end");
    }
}
