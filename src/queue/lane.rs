//! The lane to one target: places at it, and the line of those who wait for one.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Gauge, counter, gauge, histogram};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::adapt::{Adapt, NONE};
use super::ranks::Ranks;
use super::settings::QueueSettings;
use crate::caller::Tenant;
use crate::target::{Adaptive, ConcurrencyRules, TargetName};

/// The weight of the latest measurement in what is expected.
const LATEST: f64 = 0.05;

/// Whoever would wait so much of his time, as far as it is known, is refused: places come back in bursts, and who is refused
/// after a wait has waited in vain.
const MARGIN: f64 = 1.15;

/// The lane to one target.
pub struct Lane {
    target: TargetName,
    /// Requests at the target.
    under_way: AtomicU32,
    /// The most at once; `NONE` without a limit.
    limit: AtomicU32,
    /// Requests in line, the one whose turn it is included.
    waiting: AtomicU32,
    /// Good answers ever.
    good: AtomicU64,
    /// Whether first contents are measured.
    measures: AtomicBool,
    state: Mutex<State>,
    gauges: Option<Gauges>,
}

struct State {
    line: Ranks<Arc<Bell>>,
    /// Whose turn it is.
    called: Option<Arc<Bell>>,
    adapt: Adapt,
    /// Seconds between two who left the line for the target, while there was a line.
    gap: Option<f64>,
    last: Option<Instant>,
    /// Seconds that a place is taken.
    held: Option<f64>,
    used: Instant,
}

/// Series of targets that the configuration names.
struct Gauges {
    waiting: Gauge,
    limit: Gauge,
}

/// How one in line is told something.
#[derive(Default)]
struct Bell {
    news: Notify,
    called: AtomicBool,
    pushed_out: AtomicBool,
}

/// A place at the target, for one attempt and its answer. Given back on drop.
pub struct Berth {
    lane: Arc<Lane>,
    since: Instant,
    kept: bool,
}

/// A place in line. Dropped, it is the next one's turn.
pub struct Ticket {
    lane: Arc<Lane>,
    bell: Arc<Bell>,
    tenant: Tenant,
    joined: Instant,
}

/// The line takes nobody more, or it would take too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// How long the wait would be, as far as it is known.
    pub wait: Duration,
    /// Whether the line is full; otherwise it is too slow.
    pub full: bool,
}

/// Another tenant, who has less in line, took the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushedOut;

/// How a lane stands, for `/admin/v1/providers`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LaneLook {
    /// Requests at the target.
    pub in_flight: u32,
    /// The most at once, if there is a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Whether that limit was learnt.
    pub learnt: bool,
    /// Requests that wait.
    pub waiting: usize,
    /// Tenants that wait.
    pub tenants: usize,
    /// Milliseconds that a request of a new tenant would wait, as far as it is known.
    pub wait_ms: u64,
}

impl Lane {
    /// A lane where nobody is. `listed`: whether the configuration names the target.
    pub(super) fn new(target: TargetName, listed: bool, rules: ConcurrencyRules, now: Instant) -> Self {
        let gauges = listed.then(|| {
            let labels = [("provider", target.provider.to_string()), ("model", target.model.to_string())];
            Gauges {
                waiting: gauge!("tollgate_queue_waiting", &labels),
                limit: gauge!("tollgate_concurrency_limit", &labels),
            }
        });
        let lane = Self {
            target,
            under_way: AtomicU32::new(0),
            limit: AtomicU32::new(NONE),
            waiting: AtomicU32::new(0),
            good: AtomicU64::new(0),
            measures: AtomicBool::new(false),
            state: Mutex::new(State {
                line: Ranks::default(),
                called: None,
                adapt: Adapt::new(rules, now),
                gap: None,
                last: None,
                held: None,
                used: now,
            }),
            gauges,
        };
        lane.configure(rules);
        lane
    }

    /// Takes other rules.
    pub(super) fn configure(&self, rules: ConcurrencyRules) {
        let mut state = self.state();
        state.adapt.configure(rules);
        self.measures.store(rules.adaptive == Adaptive::Latency, Relaxed);
        self.show_limit(&mut state);
    }

    /// A place, if there is one and nobody waits for it.
    pub fn enter(self: &Arc<Self>) -> Option<Berth> {
        if self.waiting.load(SeqCst) > 0 { None } else { self.take() }
    }

    fn take(self: &Arc<Self>) -> Option<Berth> {
        let limit = self.limit.load(Relaxed);
        if limit == NONE {
            self.under_way.fetch_add(1, SeqCst);
        } else {
            let one_more = |under_way: u32| (under_way < limit).then_some(under_way + 1);
            self.under_way.fetch_update(SeqCst, SeqCst, one_more).ok()?;
        }
        Some(Berth { lane: self.clone(), since: Instant::now(), kept: true })
    }

    /// Joins the line. `rest` is known to pass before anybody can go; `until` is how long this one can wait.
    ///
    /// # Errors
    /// When the line is full, or when it would take too long.
    pub fn join(
        self: &Arc<Self>,
        tenant: Tenant,
        rest: Duration,
        until: Instant,
        settings: QueueSettings,
    ) -> Result<Ticket, Refused> {
        let now = Instant::now();
        let bell = Arc::new(Bell::default());
        let mut state = self.state();
        let wait = state.wait(tenant, self.limit.load(Relaxed)).max(rest);
        if wait.as_secs_f64() * MARGIN > until.saturating_duration_since(now).as_secs_f64() {
            drop(state);
            return Err(self.refused("late", tenant, Refused { wait, full: false }));
        }
        if state.line.len() >= settings.size {
            let Some(last) = state.line.push_out(tenant).filter(|_| settings.size > 0) else {
                drop(state);
                return Err(self.refused("full", tenant, Refused { wait, full: true }));
            };
            last.pushed_out.store(true, SeqCst);
            last.news.notify_one();
        }
        state.used = now;
        state.line.join(tenant, bell.clone());
        self.waiting.fetch_add(1, SeqCst);
        if state.called.is_none() {
            state.call_next();
        }
        self.show_waiting(&state);
        Ok(Ticket { lane: self.clone(), bell, tenant, joined: now })
    }

    /// How long one of this tenant would wait, as far as it is known.
    pub fn wait(&self, tenant: Tenant) -> Duration {
        self.state().wait(tenant, self.limit.load(Relaxed))
    }

    /// The target did well; its first content or whole answer came after so long. `first_content`: whether that was the
    /// beginning of a stream.
    fn did_well(&self, first_content: Option<Duration>) {
        self.good.fetch_add(1, Relaxed);
        let limit = self.limit.load(Relaxed);
        if limit == NONE && !self.measures.load(Relaxed) {
            return;
        }
        let (now, under_way) = (Instant::now(), self.under_way.load(Relaxed));
        let full = under_way.saturating_add(1) >= limit || self.waiting.load(Relaxed) > 0;
        let mut state = self.state();
        state.adapt.did_well(full, now);
        if let Some(took) = first_content {
            state.adapt.first_content(took, under_way, now);
        }
        self.show_limit(&mut state);
    }

    /// The target said that it has too much. Says whether it takes others at the same time.
    #[cold]
    fn overloaded(&self) -> bool {
        let (under_way, good) = (self.under_way.load(Relaxed), self.good.load(Relaxed));
        let mut state = self.state();
        let busy = state.adapt.overloaded(under_way, good, Instant::now());
        self.show_limit(&mut state);
        busy
    }

    /// How it stands.
    pub(super) fn look(&self) -> LaneLook {
        let limit = self.limit.load(Relaxed);
        let state = self.state();
        let wait = state.wait(Tenant::default(), limit);
        LaneLook {
            in_flight: self.under_way.load(Relaxed),
            limit: (limit != NONE).then_some(limit),
            learnt: state.adapt.is_learnt(),
            waiting: self.waiting.load(Relaxed) as usize,
            tenants: state.line.tenants(),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn target(&self) -> &TargetName {
        &self.target
    }

    /// Whether nobody is there, nothing is remembered of it, and nobody has been for so long.
    pub(super) fn is_idle(&self, longer_than: Duration, now: Instant) -> bool {
        let nobody = self.under_way.load(SeqCst) == 0 && self.waiting.load(SeqCst) == 0;
        nobody && now.saturating_duration_since(self.state().used) > longer_than
    }

    /// Somebody uses it.
    pub(super) fn touch(&self, now: Instant) {
        self.state().used = now;
    }

    /// Takes its series back to nothing.
    pub(super) fn hide(&self) {
        if let Some(gauges) = &self.gauges {
            gauges.waiting.set(0.0);
            gauges.limit.set(0.0);
        }
    }

    fn show_limit(&self, state: &mut State) {
        let limit = state.adapt.limit();
        let before = self.limit.swap(limit, SeqCst);
        if before == limit {
            return;
        }
        if let Some(gauges) = &self.gauges {
            gauges.limit.set(if limit == NONE { 0.0 } else { f64::from(limit) });
        }
        if before == NONE && state.adapt.is_learnt() {
            tracing::info!(upstream = %self.target, limit, "the target is overloaded: it gets no more at once than it took");
        } else if limit == NONE {
            tracing::info!(upstream = %self.target, "the target is not limited any more");
        }
        if limit > before {
            state.ring();
        }
    }

    fn show_waiting(&self, state: &State) {
        if let Some(gauges) = &self.gauges {
            gauges.waiting.set((state.line.len() + usize::from(state.called.is_some())) as f64);
        }
    }

    #[cold]
    fn refused(&self, reason: &'static str, tenant: Tenant, refused: Refused) -> Refused {
        counter!("tollgate_queue_refused_total", "provider" => self.target.provider.to_string(), "reason" => reason,
            "priority" => tenant.priority().word())
        .increment(1);
        refused
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How long a newcomer of this tenant would wait: as many turns as are before it, at the pace of late.
    fn wait(&self, tenant: Tenant, limit: u32) -> Duration {
        // A line moves no faster than places come back.
        let places = self.held.filter(|_| limit != NONE).map(|held| held / f64::from(limit.max(1)));
        let Some(pace) = self.gap.into_iter().chain(places).reduce(f64::max) else { return Duration::ZERO };
        let before = self.line.ahead(tenant) + usize::from(self.called.is_some()) + 1;
        Duration::try_from_secs_f64(pace * before as f64).unwrap_or(Duration::MAX)
    }

    fn call_next(&mut self) {
        self.called = self.line.next();
        if let Some(bell) = &self.called {
            bell.called.store(true, SeqCst);
            bell.news.notify_one();
        }
    }

    /// Tells the one whose turn it is that something has changed.
    fn ring(&self) {
        if let Some(bell) = &self.called {
            bell.news.notify_one();
        }
    }
}

fn follow(known: Option<f64>, latest: f64) -> Option<f64> {
    Some(known.map_or(latest, |known| known + (latest - known) * LATEST))
}

impl Ticket {
    /// Waits for one's turn.
    ///
    /// # Errors
    /// When another tenant took the place.
    pub async fn turn(&self) -> Result<(), PushedOut> {
        loop {
            if self.bell.pushed_out.load(SeqCst) {
                self.lane.refused("pushed_out", self.tenant, Refused { wait: Duration::ZERO, full: true });
                return Err(PushedOut);
            }
            if self.bell.called.load(SeqCst) {
                return Ok(());
            }
            self.bell.news.notified().await;
        }
    }

    /// A place for the one whose turn it is, if there is one.
    pub fn enter(&self) -> Option<Berth> {
        self.lane.take()
    }

    /// Waits until a place was given back, or so long.
    pub async fn changed(&self, at_most: Duration) {
        // Whether there was news or not, it is tried again.
        let _ = tokio::time::timeout(at_most, self.bell.news.notified()).await;
    }

    /// It leaves the line, as its time is over. How long it has waited in vain comes back.
    pub fn gave_up(self) -> Duration {
        let waited = self.joined.elapsed();
        self.lane.refused("timeout", self.tenant, Refused { wait: waited, full: false });
        self.note(waited);
        waited
    }

    /// It leaves the line for the target.
    pub fn served(self) {
        let now = Instant::now();
        let mut state = self.lane.state();
        if let Some(last) = state.last {
            state.gap = follow(state.gap, now.saturating_duration_since(last).as_secs_f64());
        }
        state.last = Some(now);
        drop(state);
        self.note(now.saturating_duration_since(self.joined));
    }

    fn note(&self, waited: Duration) {
        histogram!("tollgate_queue_wait_seconds", "provider" => self.lane.target.provider.to_string(),
            "priority" => self.tenant.priority().word())
        .record(waited.as_secs_f64());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.lane.state();
        if state.called.as_ref().is_some_and(|called| Arc::ptr_eq(called, &self.bell)) {
            state.call_next();
        } else {
            state.line.leave(self.tenant, |bell| Arc::ptr_eq(bell, &self.bell));
        }
        self.lane.waiting.fetch_sub(1, SeqCst);
        if state.called.is_none() {
            // The pace is that of a line; without one, nothing is known of it.
            (state.last, state.gap) = (None, None);
        }
        self.lane.show_waiting(&state);
    }
}

impl Berth {
    /// The target did well, after so long to the first content of a stream.
    pub fn did_well(&self, first_content: Option<Duration>) {
        self.lane.did_well(first_content);
    }

    /// The target said that it has too much. Says whether it takes others at the same time: then it is busy, not broken.
    pub fn overloaded(&self) -> bool {
        self.lane.overloaded()
    }

    /// Gives it back at once, as if it had not been taken: for whoever finds that he cannot go after all.
    pub fn put_back(mut self) {
        self.kept = false;
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        let lane = &self.lane;
        if self.kept && lane.limit.load(Relaxed) != NONE {
            let mut state = lane.state();
            state.held = follow(state.held, self.since.elapsed().as_secs_f64());
        }
        lane.under_way.fetch_sub(1, SeqCst);
        if self.kept && lane.waiting.load(SeqCst) > 0 {
            lane.state().ring();
        }
    }
}
