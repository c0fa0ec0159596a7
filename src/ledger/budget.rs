//! Budgets: what may be spent, held for requests under way and settled when they end. Exact in one process: a request is
//! let through only if all budgets that count it can bear its worst case, and all of them hold it at once. Where several
//! gateways share them, each spends what it has agreed on with the others (`shared.rs`).

mod alert;
mod counter;
mod period;
mod scope;
mod settings;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;

pub use alert::{Alert, AlertKind, shown};
pub use period::Period;
pub use scope::{Aliases, Dimension, Match, Payer, PayerKey};
pub use settings::{BudgetSettings, Unpriced};

use super::bound::Bound;
use crate::clock::Clock;
use crate::store::redis::Redis;
use crate::target::TargetName;
use alert::Alarm;
use counter::Counter;
use shared::{Need, Purser, Rota};

/// Fewer tokens than these are no answer: a request is refused rather than shrunk below them.
const LEAST_ANSWER: u64 = 16;

/// The most parts of one budget (`each`). Beyond them, idle ones are forgotten; then all others share one.
const MOST_PARTS: usize = 200_000;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Nano-dollars.
    Dollars,
    /// Tokens, in and out.
    Tokens,
}

impl Measure {
    /// An amount in dollars or tokens, for displays and comparisons that may be inexact.
    #[allow(clippy::cast_precision_loss, reason = "for display only")]
    pub fn shown(self, amount: u64) -> f64 {
        match self {
            Self::Dollars => crate::money::Nano(amount).dollars(),
            Self::Tokens => amount as f64,
        }
    }
}

/// A budget as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Its name.
    pub name: Arc<str>,
    /// What it counts.
    pub measure: Measure,
    /// The limit, in nano-dollars or tokens.
    pub limit: u64,
    /// By how much requests under way may exceed it at worst.
    pub overrun: u64,
    /// The time for which it holds.
    pub period: Period,
    /// Which requests it counts.
    pub of: Match,
    /// Whether only requests of keys count that name it.
    pub by_name: bool,
    /// By what it is split into parts.
    pub each: Vec<Dimension>,
    /// Whether requests are refused.
    pub hard: bool,
    /// Whether requests may be made smaller.
    pub shrink: bool,
    /// The most tokens of an answer where the client sets no limit.
    pub max_tokens: Option<u64>,
    /// What becomes of what has no price.
    pub unpriced: Unpriced,
    /// Percentages at which an alert is raised, rising.
    pub alerts: Vec<u32>,
    /// Whether an alert is raised for what is to come.
    pub projection: bool,
    /// The status of a refusal.
    pub status: Option<u16>,
}

/// The values by which a part of a budget is told from others; empty where there is one for all.
type Part = Box<[Arc<str>]>;

/// One budget and its sums.
struct Purse {
    budget: Budget,
    sums: Arc<Sums>,
    /// Its name in Redis.
    far: String,
}

struct Sums {
    /// The order in which locks are taken.
    order: u64,
    /// When it came into service, in Unix milliseconds.
    born: u64,
    parts: Mutex<HashMap<Part, Counter>>,
    /// Parts of which Redis is to hear.
    dirty: Mutex<Vec<Part>>,
    /// Parts of which Redis is to be heard.
    rota: Mutex<Rota>,
}

/// All budgets in service; shared by all workers.
#[derive(Default)]
pub struct Budgets {
    purses: Arc<ArcSwap<Vec<Arc<Purse>>>>,
    /// When the newest of them came into service, in Unix milliseconds.
    newest: AtomicU64,
    alarm: Alarm,
    shared: OnceLock<Arc<Purser>>,
}

/// What is held for one attempt. Must be settled; what is dropped unsettled stays held until its window ends.
pub struct Hold {
    held: Vec<Held>,
    /// The most tokens of the answer, for each choice, that were reserved; `None` leaves it to the client.
    pub cap: Option<u64>,
    /// Nano-dollars that are held, by what the attempt may cost.
    pub nano: u64,
    /// Whether a hard budget counts the attempt.
    pub hard: bool,
}

struct Held {
    purse: Arc<Purse>,
    part: Part,
    amount: u64,
    since: u64,
}

/// Why a request may not go out.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The budget as it stands.
    pub standing: Standing,
    /// What the request may cost, in its measure; `None` where nobody knows.
    pub wanted: Option<u64>,
    /// Whether it would fit, were it not for requests under way.
    pub passing: bool,
    /// The status that the configuration wants.
    pub status: Option<u16>,
}

/// Why nothing could be held.
#[derive(Debug, Clone, PartialEq)]
pub enum Denied {
    /// A budget cannot bear it.
    Refused(Box<Refusal>),
    /// Whether a budget can bear it is not known here: the other gateways cannot be asked. Its name.
    Away(Arc<str>),
}

/// How something is held of a budget that gateways share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// What is lacking can be asked for.
    Asks,
    /// It was asked for.
    Knows,
    /// It cannot be asked for.
    Alone,
}

/// What came of trying to hold something.
enum Tried {
    Held(Hold),
    Refused(Box<Refusal>),
    /// More has to be asked for first.
    Short(Vec<Need>),
}

/// How a budget, or a part of it, stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The budget's name.
    pub name: Arc<str>,
    /// Which part of it: `user=anna`; empty where there is one for all, and where nothing of a split one is spent yet.
    pub part: String,
    /// By what it is split.
    pub each: Vec<String>,
    /// Which requests it counts.
    #[serde(rename = "for")]
    pub of: BTreeMap<String, Vec<String>>,
    /// What is counted.
    pub measure: Measure,
    /// The limit, in nano-dollars or tokens.
    pub limit: u64,
    /// What is spent.
    pub used: u64,
    /// What is held for requests under way.
    pub held: u64,
    /// The time for which it holds.
    pub per: &'static str,
    /// Whether the last so many hours count.
    pub rolling: bool,
    /// Whether requests are refused.
    pub hard: bool,
    /// When the time began, in Unix milliseconds; 0 for good.
    pub since_ms: u64,
    /// When something of it is free again, in Unix milliseconds.
    pub resets_ms: Option<u64>,
}

/// Something that was spent before this process began, or before a budget did.
#[derive(Debug, Clone)]
pub struct Spent {
    /// Who paid.
    pub payer: Payer,
    /// Where it went.
    pub target: TargetName,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Nano-dollars.
    pub nano: u64,
    /// Tokens.
    pub tokens: u64,
    /// Nano-dollars that were held for what nobody could price.
    pub unknown: u64,
}

impl Standing {
    /// The share of the limit that is spent; a limit of nothing is spent.
    #[allow(clippy::cast_precision_loss, reason = "a ratio is not exact")]
    pub fn ratio(&self) -> f64 {
        if self.limit == 0 { 1.0 } else { self.used as f64 / self.limit as f64 }
    }

    /// What is neither spent nor held.
    pub fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used).saturating_sub(self.held)
    }
}

impl Budget {
    /// Whether the sums of the one are those of the other.
    fn counts_as(&self, other: &Self) -> bool {
        self.name == other.name
            && self.measure == other.measure
            && self.period == other.period
            && self.of == other.of
            && self.by_name == other.by_name
            && self.each == other.each
    }

    /// Whether it counts this request. Without a target, what only a target decides counts as holding.
    fn counts(&self, payer: &Payer, target: Option<&TargetName>) -> bool {
        (!self.by_name || payer.named.contains(&self.name)) && self.of.holds(payer, target)
    }

    fn part(&self, payer: &Payer, target: Option<&TargetName>) -> Part {
        self.each.iter().map(|dimension| dimension.of(payer, target)).collect()
    }

    fn shown(&self, part: &[Arc<str>]) -> String {
        let each = self.each.iter().zip(part).map(|(dimension, value)| {
            let value = if value.is_empty() { "(none)" } else { value };
            format!("{}={value}", dimension.shown())
        });
        each.collect::<Vec<_>>().join(",")
    }

    fn standing(&self, part: &[Arc<str>], counter: &Counter) -> Standing {
        Standing {
            name: self.name.clone(),
            part: self.shown(part),
            each: self.each.iter().map(Dimension::shown).collect(),
            of: self.of.shown(),
            measure: self.measure,
            limit: self.limit,
            used: counter.used_by_all(),
            held: counter.held_by_all(),
            per: self.period.per.as_str(),
            rolling: self.period.rolling,
            hard: self.hard,
            since_ms: counter.since(),
            resets_ms: counter.resets_at(),
        }
    }

    fn ceiling(&self) -> u64 {
        self.limit.saturating_add(self.overrun)
    }

    /// What was spent, in its measure.
    fn amount_of(&self, spent: &Spent) -> u64 {
        match (self.measure, self.unpriced) {
            (Measure::Dollars, Unpriced::Refuse) => spent.nano.saturating_add(spent.unknown),
            (Measure::Dollars, Unpriced::Free) => spent.nano,
            (Measure::Tokens, _) => spent.tokens,
        }
    }
}

impl Sums {
    fn lock(&self) -> MutexGuard<'_, HashMap<Part, Counter>> {
        lock(&self.parts)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sums of a part, brought up to this moment.
fn part_of<'m>(
    parts: &'m mut HashMap<Part, Counter>,
    budget: &Budget,
    part: &mut Part,
    now: u64,
) -> &'m mut Counter {
    if parts.len() >= MOST_PARTS && !parts.contains_key(part) {
        parts.retain(|_, counter| {
            counter.roll(&budget.period, now);
            !counter.is_idle()
        });
        if parts.len() >= MOST_PARTS {
            *part = vec![Arc::from("(others)"); part.len()].into();
        }
    }
    let counter = parts.entry(part.clone()).or_insert_with(|| Counter::new(&budget.period, now));
    counter.roll(&budget.period, now);
    counter
}

impl Budgets {
    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.purses.load().is_empty()
    }

    /// Where alerts go from now on.
    pub fn alert_to(&self, to: tokio::sync::mpsc::Sender<Alert>) {
        self.alarm.ring_at(to);
    }

    /// Takes what a configuration says. Budgets that count as before keep their sums; says from which moment on
    /// spending has to be recounted for the others, if there are any.
    pub fn configure(&self, budgets: Vec<Budget>, now: u64) -> Option<u64> {
        static ORDER: AtomicU64 = AtomicU64::new(0);
        let older = self.purses.load_full();
        let mut since: Option<u64> = None;
        let purses = budgets.into_iter().map(|budget| {
            let known = older.iter().find(|purse| purse.budget.counts_as(&budget));
            let sums = known.map(|purse| purse.sums.clone()).unwrap_or_else(|| {
                let memory = budget.period.memory(now);
                since = Some(since.map_or(memory, |since| since.min(memory)));
                let order = ORDER.fetch_add(1, Ordering::Relaxed);
                self.newest.fetch_max(now, Ordering::Relaxed);
                Arc::new(Sums {
                    order,
                    born: now,
                    parts: Mutex::default(),
                    dirty: Mutex::default(),
                    rota: Mutex::default(),
                })
            });
            Arc::new(Purse { far: shared::name(&budget), budget, sums })
        });
        let mut purses: Vec<_> = purses.collect();
        purses.sort_by_key(|purse| purse.sums.order);
        let fresh = |purse: &Arc<Purse>| !older.iter().any(|known| Arc::ptr_eq(&known.sums, &purse.sums));
        self.alarm.expect(purses.iter().filter(|purse| fresh(purse)).map(|purse| purse.sums.order).collect());
        self.purses.store(Arc::new(purses));
        since
    }

    /// Counts what was spent before, in the budgets that the last configuration brought.
    pub fn recount(&self, spent: impl IntoIterator<Item = Spent>, now: u64) {
        let purses = self.purses.load_full();
        let fresh: Vec<_> = purses.iter().filter(|purse| self.alarm.expects(purse.sums.order)).collect();
        for spent in spent {
            for purse in &fresh {
                let budget = &purse.budget;
                if !budget.counts(&spent.payer, Some(&spent.target)) {
                    continue;
                }
                let mut part = budget.part(&spent.payer, Some(&spent.target));
                let mut parts = purse.sums.lock();
                part_of(&mut parts, budget, &mut part, now).recount(spent.at_ms, budget.amount_of(&spent));
            }
        }
        for purse in fresh {
            // What was told before is not told again.
            for (part, counter) in purse.sums.lock().iter_mut() {
                self.alarm.quietly(&purse.budget, counter, now);
                if self.is_shared() {
                    Purser::changed(purse, part, counter);
                }
            }
        }
        self.alarm.expect(Vec::new());
    }

    /// The most tokens of an answer that budgets allow a request which sets no limit itself.
    pub fn usual_cap(&self, payer: &Payer) -> Option<u64> {
        let purses = self.purses.load();
        let caps = purses.iter().filter(|purse| purse.budget.counts(payer, None));
        caps.filter_map(|purse| purse.budget.max_tokens).min()
    }

    /// Holds the worst case of an attempt in all budgets that count it, or in none.
    ///
    /// # Errors
    /// The first budget that cannot bear it.
    pub fn reserve(
        &self,
        payer: &Payer,
        target: &TargetName,
        bound: &Bound,
        now: u64,
    ) -> Result<Hold, Box<Refusal>> {
        match self.try_reserve((payer, target), bound, now, None) {
            Tried::Held(hold) => Ok(hold),
            Tried::Refused(refusal) => Err(refusal),
            // Nobody shares, so nobody is asked.
            Tried::Short(_) => Ok(Hold { held: Vec::new(), cap: None, nano: 0, hard: false }),
        }
    }

    /// Counts together with all gateways that share this Redis from now on. Before the first request.
    pub fn share(&self, redis: &Arc<Redis>, clock: Arc<dyn Clock>) {
        self.shared.get_or_init(|| Purser::new(redis.clone(), clock, self.purses.clone()));
    }

    /// Whether several gateways count together.
    pub fn is_shared(&self) -> bool {
        self.shared.get().is_some()
    }

    /// The same as [`Self::reserve`], together with other gateways: asks them where what was agreed does not suffice.
    ///
    /// # Errors
    /// The first budget that cannot bear it, or of which that is not known.
    pub async fn reserve_among_all(
        &self,
        payer: &Payer,
        target: &TargetName,
        bound: &Bound,
        now: u64,
    ) -> Result<Hold, Denied> {
        let Some(purser) = self.shared.get() else {
            return self.reserve(payer, target, bound, now).map_err(Denied::Refused);
        };
        let of = (payer, target);
        let mut alone = !purser.can_ask();
        // What was asked for may be gone when it comes: others of this gateway were faster.
        for _ in 0..if alone { 0 } else { 2 } {
            let needs = match self.try_reserve(of, bound, now, Some((purser, Manner::Asks))) {
                Tried::Held(hold) => return Ok(hold),
                Tried::Refused(refusal) => return Err(Denied::Refused(refusal)),
                Tried::Short(needs) => needs,
            };
            if purser.draw(needs).await.is_err() {
                alone = true;
                break;
            }
        }
        let manner = if alone { Manner::Alone } else { Manner::Knows };
        if alone {
            metrics::counter!("tollgate_redis_alone_total", "what" => "budgets").increment(1);
        }
        match self.try_reserve(of, bound, now, Some((purser, manner))) {
            Tried::Held(hold) => Ok(hold),
            // Where it may be that there is enough, it is not said that there is not.
            Tried::Refused(refusal)
                if alone && refusal.wanted.is_some_and(|wanted| wanted <= refusal.standing.remaining()) =>
            {
                Err(Denied::Away(refusal.standing.name.clone()))
            }
            Tried::Refused(refusal) => Err(Denied::Refused(refusal)),
            Tried::Short(_) => Err(Denied::Away("".into())),
        }
    }

    fn try_reserve(
        &self,
        (payer, target): (&Payer, &TargetName),
        bound: &Bound,
        now: u64,
        shared: Option<(&Arc<Purser>, Manner)>,
    ) -> Tried {
        let purses = self.purses.load();
        let counting: Vec<&Arc<Purse>> =
            purses.iter().filter(|purse| purse.budget.counts(payer, Some(target))).collect();
        let mut hold = Hold { held: Vec::with_capacity(counting.len()), cap: None, nano: 0, hard: false };
        let (mut output, mut needs) = (bound.output, Vec::new());
        // All locks at once, in one order for everybody: what is checked is what is held.
        let mut locked: Vec<_> = counting.iter().map(|purse| purse.sums.lock()).collect();
        let mut chosen: Vec<Part> = Vec::with_capacity(counting.len());
        for (purse, parts) in counting.iter().zip(&mut locked) {
            let budget = &purse.budget;
            let mut part = budget.part(payer, Some(target));
            let counter = part_of(parts, budget, &mut part, now);
            let room = match shared {
                _ if !budget.hard => u64::MAX,
                Some((purser, manner)) => purser.room(budget, counter, manner == Manner::Alone),
                None => budget.ceiling().saturating_sub(counter.used().saturating_add(counter.held())),
            };
            let lacks = bound.amount(budget.measure, output).filter(|amount| *amount.max(&1) > room);
            match (lacks, shared) {
                (Some(amount), Some((_, Manner::Asks))) if budget.hard => {
                    let (purse, part, amount) = (Arc::clone(purse), part.clone(), amount.max(1));
                    needs.push(Need { purse, part, amount });
                }
                _ if budget.hard => match fit(budget, &part, counter, bound, output, room) {
                    Ok(fits) => output = fits,
                    Err(refusal) => return Tried::Refused(refusal),
                },
                _ => {}
            }
            chosen.push(part);
        }
        if !needs.is_empty() {
            return Tried::Short(needs);
        }
        for ((purse, parts), mut part) in counting.iter().zip(&mut locked).zip(chosen) {
            let budget = &purse.budget;
            let amount = bound.amount(budget.measure, output).unwrap_or(0);
            let counter = part_of(parts, budget, &mut part, now);
            let since = counter.hold(amount);
            if shared.is_some() {
                counter.credit.used_again();
                Purser::changed(purse, &part, counter);
            }
            hold.hard |= budget.hard;
            hold.held.push(Held { purse: Arc::clone(purse), part, amount, since });
        }
        hold.nano = bound.amount(Measure::Dollars, output).unwrap_or(0);
        hold.cap = bound.cap(output, !counting.is_empty());
        Tried::Held(hold)
    }

    /// The attempt is over: what was held is free again, and what it cost is spent.
    pub fn settle(&self, hold: Hold, nano: Option<u64>, tokens: u64, now: u64) {
        for held in hold.held {
            let budget = &held.purse.budget;
            let spent = match budget.measure {
                // What nobody can price costs its worst case where the budget says so.
                Measure::Dollars => nano.unwrap_or(match budget.unpriced {
                    Unpriced::Refuse => held.amount,
                    Unpriced::Free => 0,
                }),
                Measure::Tokens => tokens,
            };
            let mut parts = held.purse.sums.lock();
            let Some(counter) = parts.get_mut(&held.part) else { continue };
            counter.settle(held.since, held.amount, spent);
            counter.roll(&budget.period, now);
            self.spent(&held.purse, &held.part, parts, now);
        }
    }

    /// Whether a budget came into service since an attempt began: nothing is held for it there.
    pub fn came_since(&self, began_ms: u64) -> bool {
        self.newest.load(Ordering::Relaxed) >= began_ms
    }

    /// What an attempt cost that ends now, in the budgets that came into service while it ran. Before it is settled.
    #[cold]
    pub fn count_late(&self, hold: &Hold, spent: &Spent, now: u64) {
        for purse in self.purses.load().iter() {
            let (budget, sums) = (&purse.budget, &purse.sums);
            let knows = hold.held.iter().any(|held| Arc::ptr_eq(&held.purse.sums, sums));
            if knows || sums.born < spent.at_ms || !budget.counts(&spent.payer, Some(&spent.target)) {
                continue;
            }
            let mut part = budget.part(&spent.payer, Some(&spent.target));
            let mut parts = sums.lock();
            part_of(&mut parts, budget, &mut part, now).recount(spent.at_ms, budget.amount_of(spent));
            self.spent(purse, &part, parts, now);
        }
    }

    /// A part has spent something: the other gateways hear of it, and who is alarmed by it.
    fn spent(
        &self,
        purse: &Arc<Purse>,
        part: &Part,
        mut parts: MutexGuard<'_, HashMap<Part, Counter>>,
        now: u64,
    ) {
        let budget = &purse.budget;
        let Some(counter) = parts.get_mut(part) else { return };
        if self.is_shared() {
            Purser::changed(purse, part, counter);
        }
        if !self.alarm.due(budget, counter, now) {
            return;
        }
        let kinds = self.alarm.take(budget, counter, now);
        let standing = budget.standing(part, counter);
        drop(parts);
        self.alarm.ring(kinds, &standing, now);
    }

    /// How the part of a budget stands that counts this request; `None` where there is no budget of this name.
    pub fn standing(&self, name: &str, payer: &Payer, now: u64) -> Option<Standing> {
        let purses = self.purses.load();
        let purse = purses.iter().find(|purse| *purse.budget.name == *name)?;
        let (budget, part) = (&purse.budget, purse.budget.part(payer, None));
        let mut parts = purse.sums.lock();
        Some(match parts.get_mut(&part) {
            Some(counter) => {
                counter.roll(&budget.period, now);
                budget.standing(&part, counter)
            }
            None => budget.standing(&part, &Counter::new(&budget.period, now)),
        })
    }

    /// How all budgets stand, those that were spent most first; at most `most` parts of each.
    pub fn standings(&self, now: u64, most: usize) -> Vec<Standing> {
        let mut all = Vec::new();
        for purse in self.purses.load().iter() {
            let budget = &purse.budget;
            let mut parts = purse.sums.lock();
            let mut standings: Vec<_> = parts
                .iter_mut()
                .map(|(part, counter)| {
                    counter.roll(&budget.period, now);
                    budget.standing(part, counter)
                })
                .collect();
            drop(parts);
            if standings.is_empty() {
                standings.push(budget.standing(&[], &Counter::new(&budget.period, now)));
            }
            standings.sort_by_key(|standing| std::cmp::Reverse(standing.used));
            standings.truncate(most);
            all.extend(standings);
        }
        all
    }

    /// The names of all budgets.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.purses.load().iter().map(|purse| purse.budget.name.clone()).collect()
    }
}

/// How many tokens of an answer a budget can bear, at most those of `output`.
fn fit(
    budget: &Budget,
    part: &[Arc<str>],
    counter: &Counter,
    bound: &Bound,
    output: Option<u64>,
    room: u64,
) -> Result<Option<u64>, Box<Refusal>> {
    let refuse = |wanted: Option<u64>, passing: bool| {
        let standing = budget.standing(part, counter);
        Err(Box::new(Refusal { standing, wanted, passing, status: budget.status }))
    };
    let Some(amount) = bound.amount(budget.measure, output) else {
        return match budget.unpriced {
            Unpriced::Refuse => refuse(None, false),
            Unpriced::Free => Ok(output),
        };
    };
    // What may cost something that nobody can foresee goes out as long as anything is left.
    if amount <= room && (room > 0 || bound.is_free) {
        return Ok(output);
    }
    if budget.shrink
        && bound.can_shrink
        && let Some(most) = bound.affordable(budget.measure, room)
        && most >= LEAST_ANSWER
    {
        return Ok(output.map(|output| output.min(most)));
    }
    let left = budget.ceiling().saturating_sub(counter.used_by_all());
    let passing = amount <= left && counter.held_by_all() > 0;
    refuse(Some(amount), passing)
}
