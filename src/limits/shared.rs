//! Counts that all gateways share: Redis counts, one step for all counts of a request. While it is away, each gateway has
//! its share of every limit, or nobody has anything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::cell::{Cell, Pace, duration, micros, of_micros, since};
use super::held::{self, Denied, Held, Need, Refusal, SOON};
use super::rules::{Bound, Meter};
use crate::store::redis::{Arg, Away, Member, Redis, Script, Turn, Value, list, number, text};

/// Corrections and places that go to Redis in one step.
const AT_ONCE: usize = 128;

/// Corrections that wait; more are lost, which only makes limits a little less exact.
const MOST_WAITING: usize = 65_536;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("shared/take.lua")));
static AFTER: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("shared/after.lua")));

/// The counts in Redis.
pub(super) struct Shared {
    redis: Arc<Redis>,
    origin: Instant,
    /// Places among requests at once that requests of this gateway have.
    places: Mutex<HashMap<String, Vec<String>>>,
    renewed: Mutex<Instant>,
    next: AtomicU64,
    after: mpsc::Sender<After>,
    /// What was taken while Redis was away.
    owed: Mutex<HashMap<String, Owed>>,
}

/// What Redis has to be told of one count when it is back.
struct Owed {
    cell: Arc<Cell>,
    pace: Pace,
    /// By how many microseconds it moves for all gateways.
    moved: f64,
    /// By how many it has moved here.
    here: f64,
}

/// What a request holds in Redis. Its places are given back on drop.
pub(super) struct Far {
    shared: Arc<Shared>,
    name: String,
    has_places: bool,
}

/// What is told to Redis afterwards.
struct After {
    key: String,
    args: [Arg; 5],
}

impl Shared {
    pub(super) fn new(redis: Arc<Redis>, origin: Instant) -> Arc<Self> {
        let (after, waiting) = mpsc::channel(MOST_WAITING);
        redis.spawn(carry(redis.clone(), waiting));
        Arc::new(Self {
            redis,
            origin,
            places: Mutex::default(),
            renewed: Mutex::new(Instant::now()),
            next: AtomicU64::new(0),
            after,
            owed: Mutex::default(),
        })
    }

    /// Takes from every meter, or from none.
    pub(super) async fn take(
        self: &Arc<Self>,
        meters: Vec<Meter>,
        need: &Need,
    ) -> Result<Option<Box<Held>>, Box<Denied>> {
        let origin = self.origin;
        let ticks = || since(origin, Instant::now());
        for (at, meter) in meters.iter().enumerate() {
            if let Some(refusal) = meter.too_large(need)
                && let Some(denied) = Denied::by(&meters, at, refusal, ticks())
            {
                return Err(denied);
            }
        }
        // Whoever leaves while Redis is asked gives back what he may have been given.
        let far = Far::enter(self, &meters);
        let answer = match self.ask(&far, &meters, need, ticks()).await {
            Ok(answer) => answer,
            Err(_) => {
                drop(far);
                return self.share(meters, need);
            }
        };
        let now = ticks();
        let (refused, counts) = answer;
        for (meter, count) in meters.iter().zip(counts) {
            match meter.bound {
                Bound::Rate(_, pace) => meter.cell.stands(pace, of_micros(count), now),
                Bound::AtOnce(_) => {
                    if refused.is_none() {
                        meter.cell.enter(u64::MAX);
                    }
                    meter.cell.all_inside(count);
                }
            }
        }
        let Some((at, wait)) = refused else { return Ok(Some(held::taken(meters, need, origin, now, far))) };
        far.forget();
        let wait = match meters.get(at).map(|meter| meter.bound) {
            Some(Bound::Rate(..)) => duration(of_micros(wait)),
            _ => SOON,
        };
        match Denied::by(&meters, at, Refusal::Wait(wait), now) {
            Some(denied) => Err(denied),
            None => self.share(meters, need),
        }
    }

    /// Redis' verdict: the meter that refuses and how many microseconds it wants to wait, and how all counts stand.
    #[allow(clippy::type_complexity, reason = "read at one place")]
    async fn ask(
        &self,
        far: &Far,
        meters: &[Meter],
        need: &Need,
        now: u64,
    ) -> Result<(Option<(usize, u64)>, Vec<u64>), Away> {
        let term = self.redis.term();
        let mut keys = Vec::with_capacity(meters.len() + 1);
        let mut args = Vec::with_capacity(3 + meters.len() * 6);
        let mark = term.mark();
        keys.push(self.redis.key("epoch"));
        args.extend([term.epoch.as_str().into(), far.name.as_str().into(), self.lease_ms().into()]);
        for meter in meters {
            keys.push(self.key(meter.far.as_deref().unwrap_or_default()));
            match meter.bound {
                Bound::Rate(_, pace) => args.extend([
                    "r".into(),
                    micros(pace.span(meter.cost(need))).into(),
                    micros(pace.span(pace.capacity())).into(),
                    micros(meter.cell.ahead(pace, now)).into(),
                    pace.count().into(),
                    u64::from(meter.cell.is_news(mark)).into(),
                ]),
                Bound::AtOnce(most) => {
                    let none = || Arg::from(0_u64);
                    args.extend(["c".into(), most.into(), none(), none(), none(), none()]);
                }
            }
        }
        let answer = list(self.redis.call(&TAKE, &keys, &args).await?);
        if answer.first().and_then(text) == Some("epoch") {
            self.redis.estranged();
            return Err(Away("Redis has lost what it kept".into()));
        }
        let numbers: Vec<u64> =
            answer.iter().filter_map(|value| u64::try_from(number(value)?).ok()).collect();
        let [refused, wait, counts @ ..] = &numbers[..] else { return Err(strange(&answer)) };
        if counts.len() != meters.len() {
            return Err(strange(&answer));
        }
        meters.iter().for_each(|meter| meter.cell.was_told(mark));
        let refused = usize::try_from(*refused).unwrap_or(usize::MAX).checked_sub(1).map(|at| (at, *wait));
        Ok((refused, counts.to_vec()))
    }

    /// Redis is away: this gateway's share, or nothing.
    fn share(self: &Arc<Self>, meters: Vec<Meter>, need: &Need) -> Result<Option<Box<Held>>, Box<Denied>> {
        let now = since(self.origin, Instant::now());
        metrics::counter!("tollgate_redis_alone_total", "what" => "limits").increment(1);
        if !self.redis.may_share()
            && let Some(denied) = Denied::by(&meters, 0, Refusal::Away, now)
        {
            return Err(denied);
        }
        let mut held = held::take(meters, need, self.origin, now, self.redis.gateways())?;
        if let Some(held) = &mut held {
            held.owes(Far { shared: self.clone(), name: String::new(), has_places: false });
        }
        Ok(held)
    }

    fn key(&self, name: &str) -> String {
        self.redis.key(&format!("l:{name}"))
    }

    fn lease_ms(&self) -> u64 {
        u64::try_from(self.redis.settings().lease.0.as_millis()).unwrap_or(u64::MAX)
    }

    fn tell(&self, after: After) {
        // What finds no room is lost: a place ends with its lease, a correction makes no great difference.
        let _ = self.after.try_send(after);
    }

    /// Tells what was taken while Redis was away.
    async fn pay(&self) -> Result<(), Away> {
        let owed = std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner));
        let owed: Vec<_> = owed.into_iter().collect();
        let mark = self.redis.term().mark();
        for some in owed.chunks(AT_ONCE) {
            let now = since(self.origin, Instant::now());
            let keys: Vec<String> = some.iter().map(|(key, _)| key.clone()).collect();
            let told =
                |(_, owed): &(String, Owed)| moves(&owed.cell, owed.pace, owed.moved, owed.here, mark, now);
            let args: Vec<Arg> = some.iter().flat_map(told).collect();
            self.redis.call_in_turn(&AFTER, &keys, &args).await?;
            some.iter().for_each(|(_, owed)| owed.cell.was_told(mark));
        }
        Ok(())
    }

    /// Says of all places that they are still needed.
    async fn renew(&self) -> Result<(), Away> {
        let lease = self.lease_ms();
        let places: Vec<(String, String)> = {
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let each = |(name, keys): (&String, &Vec<String>)| {
                keys.iter().map(|key| (key.clone(), name.clone())).collect::<Vec<_>>()
            };
            places.iter().flat_map(each).collect()
        };
        for some in places.chunks(AT_ONCE) {
            let keys: Vec<String> = some.iter().map(|(key, _)| key.clone()).collect();
            let told = |(_, name): &(String, String)| of_place("k", name, lease);
            let args: Vec<Arg> = some.iter().flat_map(told).collect();
            self.redis.call_in_turn(&AFTER, &keys, &args).await?;
        }
        // Those that ended meanwhile were renewed for nobody.
        let still = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let ended: Vec<_> = places.into_iter().filter(|(_, name)| !still.contains_key(name)).collect();
        drop(still);
        for (key, name) in ended {
            self.tell(After { key, args: of_place("m", &name, 0) });
        }
        Ok(())
    }
}

impl Member for Shared {
    fn rejoin(&self, _: bool) -> Turn<'_> {
        // Counts that were lost come back with the next request for each: who takes says what he knows.
        Box::pin(async move {
            self.pay().await?;
            self.renew().await
        })
    }

    fn beat(&self) -> Turn<'_> {
        let due = {
            let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            let due = renewed.elapsed() > self.redis.settings().lease.0 / 4;
            if due {
                *renewed = Instant::now();
            }
            due
        };
        Box::pin(async move {
            self.pay().await?;
            if due { self.renew().await } else { Ok(()) }
        })
    }
}

impl Far {
    /// A request is about to ask for places; from now on they are renewed.
    fn enter(shared: &Arc<Shared>, meters: &[Meter]) -> Self {
        let at_once = |meter: &&Meter| matches!(meter.bound, Bound::AtOnce(_));
        let keys: Vec<String> = meters
            .iter()
            .filter(at_once)
            .map(|meter| shared.key(meter.far.as_deref().unwrap_or_default()))
            .collect();
        let has_places = !keys.is_empty();
        let mut name = String::new();
        if has_places {
            name = format!("{}:{:x}", shared.redis.run(), shared.next.fetch_add(1, Ordering::Relaxed));
            let mut places = shared.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.insert(name.clone(), keys);
        }
        Self { shared: shared.clone(), name, has_places }
    }

    /// Nothing was taken.
    fn forget(mut self) {
        self.has_places = false;
        let mut places = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.remove(&self.name);
    }

    /// So many were reckoned, and so many used: by all gateways' measure, and by that of the count here, which has
    /// moved already.
    pub(super) fn correct(&self, meter: &Meter, pace: Pace, far: [u64; 2], here: [u64; 2]) {
        let Some(name) = meter.far.as_deref().filter(|_| far[0] != far[1]) else { return };
        let by = |[reckoned, used]: [u64; 2]| micros(pace.span(used)) - micros(pace.span(reckoned));
        let (moved, here) = (by(far), by(here));
        let (shared, key) = (&self.shared, self.shared.key(name));
        if shared.redis.is_up() {
            let (mark, now) = (shared.redis.term().mark(), since(shared.origin, Instant::now()));
            return shared.tell(After { key, args: moves(&meter.cell, pace, moved, here, mark, now) });
        }
        let mut owed = shared.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let room = owed.len() < MOST_WAITING;
        match owed.get_mut(&key) {
            Some(owed) => (owed.moved, owed.here) = (owed.moved + moved, owed.here + here),
            None if room => drop(owed.insert(key, Owed { cell: meter.cell.clone(), pace, moved, here })),
            None => {}
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        if !self.has_places {
            return;
        }
        let mut places = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = places.remove(&self.name).unwrap_or_default();
        drop(places);
        for key in keys {
            self.shared.tell(After { key, args: of_place("m", &self.name, 0) });
        }
    }
}

impl std::fmt::Debug for Far {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Far").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A count moves for all gateways, and has moved here: along goes what was known of it before, which counts where
/// Redis has lost it.
fn moves(cell: &Cell, pace: Pace, moved: f64, here: f64, mark: u64, now: u64) -> [Arg; 5] {
    let known = (micros(cell.ahead(pace, now)) - here).max(0.0);
    ["d".into(), moved.into(), pace.count().into(), known.into(), u64::from(cell.is_news(mark)).into()]
}

/// What becomes of a place.
fn of_place(word: &str, name: &str, lease: u64) -> [Arg; 5] {
    [word.into(), name.into(), lease.into(), 0_u64.into(), 0_u64.into()]
}

/// Carries what is told afterwards to Redis, as much at once as there is.
async fn carry(redis: Arc<Redis>, mut waiting: mpsc::Receiver<After>) {
    let mut some = Vec::with_capacity(AT_ONCE);
    while waiting.recv_many(&mut some, AT_ONCE).await > 0 {
        let (keys, args): (Vec<String>, Vec<[Arg; 5]>) =
            some.drain(..).map(|After { key, args }| (key, args)).unzip();
        let args: Vec<Arg> = args.into_iter().flatten().collect();
        // Never told twice: what may have been heard is left at that.
        if let Err(away) = redis.call(&AFTER, &keys, &args).await {
            tracing::debug!(error = &*away.0, "corrections of limits were lost");
        }
    }
}

fn strange(answer: &[Value]) -> Away {
    tracing::warn!(?answer, "Redis answered with something else than was asked for");
    Away("Redis answered with something else than was asked for".into())
}
