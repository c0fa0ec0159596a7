//! One breaker: closed while a target does well, open while it fails, half open while it is tried. Time and dice are
//! handed in.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::settings::BreakerSettings;

/// The slots that a window is made of.
const SLOTS: usize = 10;

/// Samples of one check of slowness; more say nothing new.
const MOST_SAMPLES: usize = 512;

/// The part of a cool-down that the dice may add.
const JITTER: f64 = 0.2;

/// How a target's attempt ended, as far as the breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// An answer, or the first content of a stream, after so long.
    Good(Duration),
    /// A fault that counts against the target.
    Bad,
    /// Nothing that says anything of the target.
    Nothing,
}

/// Why a breaker opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// So many failures in a row.
    Consecutive,
    /// Too large a share of failures within the window.
    FailureRate,
    /// Too slow, several checks in a row.
    Slow,
    /// It failed again when it was tried.
    Probe,
}

impl Cause {
    /// The word for logs; the same as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::FailureRate => "failure_rate",
            Self::Slow => "slow",
            Self::Probe => "probe",
        }
    }
}

/// Whether a breaker lets attempts through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// All of them.
    Closed,
    /// A few, to see how it does.
    HalfOpen,
    /// None.
    Open,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// `room` attempts may be under way at once; it doubles with each good one.
    HalfOpen {
        room: u32,
        good: u32,
    },
}

/// What an attempt is to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// One among many.
    Usual,
    /// One of the few that find out how the target does.
    Probe,
    /// Not now; it may be tried after this time.
    Shut(Duration),
}

/// The breaker of one target.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// Probes under way, also the one at an open breaker.
    probing: u32,
    /// When the last of them began, and after which silence of it there may be another.
    probed_at: Instant,
    patience: Duration,
    /// When it opened last: failures of older attempts are known.
    opened_at: Option<Instant>,
    /// When the youngest attempt began that went well: failures of older ones are no failures in a row, and no probes.
    well_since: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    /// Openings that were not followed by a long time of calm.
    openings: u32,
    closed_at: Instant,
    cause: Option<Cause>,
    window: [(u32, u32); SLOTS],
    /// The slot that was written last, counted from `began`.
    slot: u64,
    began: Instant,
    /// Latencies since the last check of slowness, in milliseconds.
    samples: Vec<u32>,
    check_due: Option<Instant>,
    slow_checks: u32,
    /// From 0, all fail, to 1: follows what is heard, and comes back with time.
    health: f64,
    heard_at: Instant,
}

/// How much one attempt weighs in the health.
const WEIGHT: f64 = 0.1;
/// In so many seconds without news, two thirds of a bad health are forgotten.
const FORGET: f64 = 30.0;

impl Breaker {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Closed,
            probing: 0,
            probed_at: now,
            patience: Duration::ZERO,
            opened_at: None,
            well_since: None,
            failures: 0,
            openings: 0,
            closed_at: now,
            cause: None,
            window: [(0, 0); SLOTS],
            slot: 0,
            began: now,
            samples: Vec::new(),
            check_due: None,
            slow_checks: 0,
            health: 1.0,
            heard_at: now,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.state {
            State::Closed => Standing::Closed,
            State::Open { .. } => Standing::Open,
            State::HalfOpen { .. } => Standing::HalfOpen,
        }
    }

    /// How long it stays open.
    pub(super) fn left(&self, now: Instant) -> Duration {
        match self.state {
            State::Open { until } => until.saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }

    pub(super) fn cause(&self) -> Option<Cause> {
        self.cause.filter(|_| !matches!(self.state, State::Closed))
    }

    pub(super) fn openings(&self) -> u32 {
        self.openings
    }

    /// From 0 to 1, smoothly; 0 while it is open.
    pub(super) fn health(&self, now: Instant) -> f64 {
        match self.state {
            State::Closed => self.health_at(now),
            State::HalfOpen { .. } => self.health_at(now).min(0.5),
            State::Open { .. } => 0.0,
        }
    }

    fn health_at(&self, now: Instant) -> f64 {
        let quiet = now.saturating_duration_since(self.heard_at).as_secs_f64();
        1.0 - (1.0 - self.health) * (-quiet / FORGET).exp()
    }

    /// An attempt wants through.
    pub(super) fn enter(&mut self, now: Instant) -> Entry {
        match self.state {
            State::Closed => return Entry::Usual,
            State::Open { until } if now < until => return Entry::Shut(until - now),
            State::Open { .. } => self.state = State::HalfOpen { room: 1, good: 0 },
            State::HalfOpen { .. } => {}
        }
        let State::HalfOpen { room, .. } = self.state else { return Entry::Usual };
        if self.probing >= room && !self.is_overdue(now) {
            return Entry::Shut(self.patience.saturating_sub(now.saturating_duration_since(self.probed_at)));
        }
        self.probe(now)
    }

    fn probe(&mut self, now: Instant) -> Entry {
        self.probing += 1;
        self.probed_at = now;
        Entry::Probe
    }

    /// Whether nothing was heard of the last probe for so long that there may be another: a target that is well again
    /// does not wait for one that hangs.
    fn is_overdue(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.probed_at) >= self.patience
    }

    /// An attempt wants through although the breaker is open, because nothing else is left. One at a time.
    pub(super) fn enter_anyway(&mut self, now: Instant) -> Entry {
        match self.enter(now) {
            Entry::Shut(_) if self.probing == 0 || self.is_overdue(now) => self.probe(now),
            entry => entry,
        }
    }

    /// An attempt that had entered at `entered` has ended. Says whether the breaker opened or closed by it.
    pub(super) fn heard(
        &mut self,
        heard: Heard,
        was_probe: bool,
        entered: Instant,
        settings: &BreakerSettings,
        now: Instant,
        dice: f64,
    ) -> Option<Standing> {
        if was_probe {
            self.probing = self.probing.saturating_sub(1);
        }
        let before = self.standing();
        match heard {
            Heard::Nothing => return None,
            Heard::Good(took) => {
                self.well_since = self.well_since.max(Some(entered));
                self.good(took, was_probe, settings, now, dice);
            }
            Heard::Bad if self.opened_at.is_some_and(|at| entered < at) => {}
            Heard::Bad => {
                let is_old = self.well_since.is_some_and(|since| entered < since);
                self.bad(was_probe, is_old, settings, now, dice);
            }
        }
        let after = self.standing();
        (before != after && after != Standing::HalfOpen).then_some(after)
    }

    /// Something else than a request found that the target answers: requests may try it before its time.
    pub(super) fn may_be_well(&mut self, now: Instant) {
        if let State::Open { until } = &mut self.state {
            *until = (*until).min(now);
        }
    }

    fn good(&mut self, took: Duration, was_probe: bool, settings: &BreakerSettings, now: Instant, dice: f64) {
        self.failures = 0;
        self.follow(1.0, now);
        match self.state {
            // One that was on its way when the breaker opened says nothing of now.
            State::Open { .. } if !was_probe => {}
            State::Open { .. } => self.proved(1, settings, now),
            State::HalfOpen { good, .. } if was_probe => self.proved(good + 1, settings, now),
            State::HalfOpen { .. } => {}
            State::Closed => {
                self.count(settings, now, |slot| slot.0 += 1);
                self.check_speed(took, settings, now, dice);
            }
        }
    }

    /// So many probes went well: more are let through, or all.
    fn proved(&mut self, good: u32, settings: &BreakerSettings, now: Instant) {
        if good < settings.probes {
            return self.state = State::HalfOpen { room: 1 << good.min(16), good };
        }
        (self.state, self.closed_at) = (State::Closed, now);
        self.window = [(0, 0); SLOTS];
        self.samples.clear();
        (self.check_due, self.slow_checks) = (None, 0);
        (self.health, self.heard_at) = (self.health_at(now).max(0.5), now);
    }

    /// A failure; `is_old` when an attempt that began later went well.
    fn bad(&mut self, was_probe: bool, is_old: bool, settings: &BreakerSettings, now: Instant, dice: f64) {
        self.follow(0.0, now);
        match self.state {
            State::Open { .. } | State::HalfOpen { .. } if was_probe && !is_old => {
                self.open(Cause::Probe, settings, now, dice);
            }
            State::Open { .. } | State::HalfOpen { .. } => {}
            State::Closed => {
                self.failures += u32::from(!is_old);
                self.count(settings, now, |slot| slot.1 += 1);
                if settings.consecutive > 0 && self.failures >= settings.consecutive {
                    return self.open(Cause::Consecutive, settings, now, dice);
                }
                let (good, bad) =
                    self.window.iter().fold((0, 0), |sum, slot| (sum.0 + slot.0, sum.1 + slot.1));
                let all = good + bad;
                if all >= settings.min_attempts && f64::from(bad) > settings.failure_rate * f64::from(all) {
                    self.open(Cause::FailureRate, settings, now, dice);
                }
            }
        }
    }

    fn open(&mut self, cause: Cause, settings: &BreakerSettings, now: Instant, dice: f64) {
        // One that was closed for long begins anew; one that opens again soon stays open for longer.
        let calm = settings.max_cool_down.0.saturating_mul(2);
        if cause != Cause::Probe && now.saturating_duration_since(self.closed_at) > calm {
            self.openings = 0;
        }
        let doubled = settings.cool_down.0.saturating_mul(1 << self.openings.min(16));
        let pause = doubled.min(settings.max_cool_down.0).mul_f64(1.0 + JITTER * dice);
        self.openings = self.openings.saturating_add(1);
        self.failures = 0;
        self.patience = settings.cool_down.0;
        self.opened_at = Some(now);
        self.cause = Some(cause);
        self.state = State::Open { until: now + pause };
    }

    fn follow(&mut self, towards: f64, now: Instant) {
        let health = self.health_at(now);
        (self.health, self.heard_at) = (health + (towards - health) * WEIGHT, now);
    }

    /// Counts in the slot of now; older slots are cleared on the way.
    fn count(&mut self, settings: &BreakerSettings, now: Instant, count: impl FnOnce(&mut (u32, u32))) {
        let slots = SLOTS as u64;
        let length = (settings.window.0.as_millis() / u128::from(slots)).max(1);
        let at = u64::try_from(now.saturating_duration_since(self.began).as_millis() / length).unwrap_or(0);
        for stale in self.slot.saturating_add(1).max(at.saturating_sub(slots - 1))..=at {
            if let Some(slot) = self.window.get_mut((stale % slots) as usize) {
                *slot = (0, 0);
            }
        }
        self.slot = at.max(self.slot);
        if let Some(slot) = self.window.get_mut((self.slot % slots) as usize) {
            count(slot);
        }
    }

    /// Slowness is judged in checks: the 95th percentile of each against the bound.
    fn check_speed(&mut self, took: Duration, settings: &BreakerSettings, now: Instant, dice: f64) {
        let Some(slow) = &settings.slow else { return };
        if self.samples.len() < MOST_SAMPLES {
            self.samples.push(u32::try_from(took.as_millis()).unwrap_or(u32::MAX));
        }
        let due = *self.check_due.get_or_insert(now + slow.every.0);
        if now < due || self.samples.len() < slow.min_attempts as usize {
            return;
        }
        self.samples.sort_unstable();
        let place = (self.samples.len() * 95).div_ceil(100).saturating_sub(1);
        let p95 = self.samples.get(place).copied().unwrap_or(0);
        self.samples.clear();
        self.check_due = Some(now + slow.every.0);
        self.slow_checks = if u128::from(p95) > slow.p95.0.as_millis() { self.slow_checks + 1 } else { 0 };
        if self.slow_checks >= slow.checks {
            self.slow_checks = 0;
            self.open(Cause::Slow, settings, now, dice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::SlowSettings;
    use crate::settings::Period;

    /// A breaker on a clock of its own.
    struct Bench {
        breaker: Breaker,
        settings: BreakerSettings,
        now: Instant,
    }

    impl Bench {
        fn new(settings: BreakerSettings) -> Self {
            let now = Instant::now();
            Self { breaker: Breaker::new(now), settings, now }
        }

        fn pass(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }

        /// Enters and ends at once.
        fn attempt(&mut self, heard: Heard) -> Entry {
            let entry = self.breaker.enter(self.now);
            if !matches!(entry, Entry::Shut(_)) {
                self.end(heard, entry);
            }
            entry
        }

        fn end(&mut self, heard: Heard, entry: Entry) {
            self.end_since(heard, entry, self.now);
        }

        fn end_since(&mut self, heard: Heard, entry: Entry, entered: Instant) {
            self.breaker.heard(heard, entry == Entry::Probe, entered, &self.settings, self.now, 0.0);
        }

        /// The same with the longest pauses that the dice can make.
        fn end_worst(&mut self, heard: Heard, entry: Entry, entered: Instant) {
            self.breaker.heard(heard, entry == Entry::Probe, entered, &self.settings, self.now, 1.0);
        }

        fn many(&mut self, times: usize, heard: Heard) {
            for _ in 0..times {
                self.attempt(heard);
            }
        }
    }

    const FAST: Heard = Heard::Good(Duration::from_millis(50));

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_a_good_one_between_does_not() {
        let mut bench = Bench::new(BreakerSettings { consecutive: 3, ..BreakerSettings::default() });
        bench.many(2, Heard::Bad);
        bench.many(1, FAST);
        bench.many(2, Heard::Bad);
        bench.many(9, Heard::Nothing);
        assert_eq!(bench.breaker.standing(), Standing::Closed, "the callers' own faults change nothing");
        bench.many(1, Heard::Bad);
        assert_eq!(bench.breaker.standing(), Standing::Open);
        assert_eq!(bench.attempt(FAST), Entry::Shut(Duration::from_secs(5)));
        assert_eq!(bench.breaker.cause(), Some(Cause::Consecutive));
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_of_failures_opens_it_and_what_is_old_does_not_count() {
        let settings = BreakerSettings { consecutive: 0, ..BreakerSettings::default() };
        let mut bench = Bench::new(settings);
        for _ in 0..9 {
            bench.many(1, FAST);
            bench.many(1, Heard::Bad);
        }
        bench.many(1, Heard::Bad);
        assert_eq!(bench.breaker.standing(), Standing::Closed, "19 attempts are too few");
        bench.pass(40_000);
        bench.many(12, Heard::Bad);
        assert_eq!(bench.breaker.standing(), Standing::Closed, "the older ones are forgotten");
        bench.many(8, Heard::Bad);
        assert_eq!(
            (bench.breaker.standing(), bench.breaker.cause()),
            (Standing::Open, Some(Cause::FailureRate))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_then_two_then_four_then_everybody() {
        let mut bench = Bench::new(BreakerSettings { consecutive: 1, ..BreakerSettings::default() });
        bench.many(1, Heard::Bad);
        bench.pass(5_000);
        let probe = bench.breaker.enter(bench.now);
        assert_eq!(probe, Entry::Probe);
        assert!(matches!(bench.breaker.enter(bench.now), Entry::Shut(_)), "single flight");
        bench.end(FAST, probe);
        let both = [bench.breaker.enter(bench.now), bench.breaker.enter(bench.now)];
        assert_eq!(both, [Entry::Probe; 2]);
        assert!(matches!(bench.breaker.enter(bench.now), Entry::Shut(_)), "two");
        both.into_iter().for_each(|probe| bench.end(FAST, probe));
        assert_eq!(bench.breaker.standing(), Standing::Closed);
        assert_eq!(bench.attempt(FAST), Entry::Usual);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_ends_without_a_verdict_makes_room_for_the_next() {
        let mut bench = Bench::new(BreakerSettings { consecutive: 1, ..BreakerSettings::default() });
        bench.many(1, Heard::Bad);
        bench.pass(5_000);
        assert_eq!(bench.attempt(Heard::Nothing), Entry::Probe);
        assert_eq!(bench.attempt(Heard::Nothing), Entry::Probe);
    }

    #[tokio::test(start_paused = true)]
    async fn each_failed_probe_doubles_the_pause_up_to_the_ceiling_and_calm_forgets() {
        let mut bench = Bench::new(BreakerSettings { consecutive: 1, ..BreakerSettings::default() });
        bench.many(1, Heard::Bad);
        for seconds in [5, 10, 20, 20] {
            assert_eq!(bench.breaker.left(bench.now), Duration::from_secs(seconds));
            bench.pass(seconds * 1_000);
            assert_eq!(bench.attempt(Heard::Bad), Entry::Probe);
        }
        bench.pass(20_000);
        bench.many(3, FAST);
        bench.many(1, Heard::Bad);
        assert_eq!(bench.breaker.left(bench.now).as_secs(), 20, "it opened again soon");
        bench.pass(20_000);
        bench.many(3, FAST);
        bench.pass(41_000);
        bench.many(1, Heard::Bad);
        assert_eq!(bench.breaker.left(bench.now).as_secs(), 5, "it had been well for long");
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_bad_is_tried_by_one_at_a_time_while_it_is_open() {
        let mut bench = Bench::new(BreakerSettings { consecutive: 1, ..BreakerSettings::default() });
        bench.many(1, Heard::Bad);
        let probe = bench.breaker.enter_anyway(bench.now);
        assert_eq!(probe, Entry::Probe);
        assert!(matches!(bench.breaker.enter_anyway(bench.now), Entry::Shut(_)));
        bench.pass(4_000);
        assert!(
            matches!(bench.breaker.enter_anyway(bench.now), Entry::Shut(_)),
            "the probe is still under way"
        );
        bench.end(FAST, probe);
        assert_eq!(bench.breaker.standing(), Standing::HalfOpen);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_keeps_nobody_from_finding_out_and_its_late_failure_is_old_news() {
        let mut bench = Bench::new(BreakerSettings { consecutive: 1, ..BreakerSettings::default() });
        bench.many(1, Heard::Bad);
        bench.pass(5_000);
        let (hangs, since) = (bench.breaker.enter(bench.now), bench.now);
        assert_eq!(hangs, Entry::Probe);
        bench.pass(2_000);
        assert_eq!(bench.breaker.enter(bench.now), Entry::Shut(Duration::from_secs(3)));
        bench.pass(3_000);
        bench.many(3, FAST);
        assert_eq!(bench.breaker.standing(), Standing::Closed, "it does not wait for the one that hangs");
        bench.pass(10_000);
        bench.end_since(Heard::Bad, hangs, since);
        assert_eq!(bench.breaker.standing(), Standing::Closed, "others went well since");
        bench.many(1, Heard::Bad);
        assert_eq!(bench.breaker.standing(), Standing::Open);
    }

    /// What the defaults promise: however long a target was down and however it failed, it is in full use again within
    /// half a minute, as long as there are requests.
    #[tokio::test(start_paused = true)]
    async fn with_the_defaults_a_target_is_back_within_thirty_seconds_of_a_flap() {
        const STEP: u64 = 500;
        let patience = crate::target::Deadlines::default().handover;
        for (down, hangs) in [3_000, 9_000, 20_000, 45_000, 61_000, 119_500, 300_000]
            .into_iter()
            .flat_map(|down| [(down, false), (down, true)])
        {
            let mut bench = Bench::new(BreakerSettings::default());
            let (began, mut under_way) = (bench.now, Vec::new());
            let mut back = None;
            // Two requests a second; what hangs is given up when its time is over.
            for step in 0..(down + 90_000) / STEP {
                let up = step * STEP >= down;
                let overdue = |since: &Instant| bench.now.saturating_duration_since(*since) >= patience;
                let over: Vec<(Entry, Instant)> =
                    under_way.extract_if(.., |(_, since)| overdue(since)).collect();
                over.into_iter().for_each(|(entry, since)| bench.end_worst(Heard::Bad, entry, since));
                match bench.breaker.enter(bench.now) {
                    Entry::Shut(_) => back = None,
                    entry if up => {
                        bench.end_worst(FAST, entry, bench.now);
                        let closed = bench.breaker.standing() == Standing::Closed;
                        back = back.or_else(|| closed.then_some(bench.now));
                    }
                    entry if hangs => under_way.push((entry, bench.now)),
                    entry => bench.end_worst(Heard::Bad, entry, bench.now),
                }
                bench.pass(STEP);
            }
            let back = back.expect("it is back").saturating_duration_since(began);
            let after = back.saturating_sub(Duration::from_millis(down));
            assert!(after <= Duration::from_secs(30), "down for {down} ms, hangs {hangs}: {after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slowness_opens_it_after_several_checks() {
        let slow = SlowSettings { p95: Period::secs(2), checks: 2, every: Period::secs(10), min_attempts: 5 };
        let mut bench = Bench::new(BreakerSettings { slow: Some(slow), ..BreakerSettings::default() });
        let crawl = Heard::Good(Duration::from_secs(3));
        let mut check = |heard| {
            bench.many(10, heard);
            bench.pass(10_000);
            bench.many(1, heard);
            bench.breaker.standing()
        };
        assert_eq!(check(crawl), Standing::Closed);
        assert_eq!(check(FAST), Standing::Closed);
        assert_eq!(check(crawl), Standing::Closed);
        assert_eq!(check(crawl), Standing::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn health_follows_smoothly_and_comes_back_by_itself() {
        let mut bench = Bench::new(BreakerSettings { consecutive: 0, ..BreakerSettings::default() });
        let mut last = bench.breaker.health(bench.now);
        for _ in 0..10 {
            bench.many(1, Heard::Bad);
            let health = bench.breaker.health(bench.now);
            assert!(health < last && health > last - 0.11, "{last} to {health}");
            last = health;
        }
        bench.pass(120_000);
        assert!(bench.breaker.health(bench.now) > 0.95);
    }
}
