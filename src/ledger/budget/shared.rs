//! Budgets that several gateways share. Redis agrees with each gateway on how much it may spend and hold in all, its cap;
//! the caps of all gateways together never pass the limit. Below its cap, a gateway holds and settles by itself; it asks
//! for more when it needs it, tells twice a second what was spent, and gives back what it does not need.
//!
//! Everything that is told is a sum, never a change, so that telling it twice or late does no harm.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::counter::Counter;
use super::{Budget, Part, Purse, part_of};
use crate::clock::Clock;
use crate::store::redis::{Arg, Away, Member, Redis, Script, Turn, Value, list, number, text};

/// Budgets of which is spoken in one step.
const AT_ONCE: usize = 64;

/// Budgets of which is told in one beat.
const MOST_A_BEAT: usize = 8_192;

/// Budgets of which is asked in one beat, though nothing is to be told: others may have spent.
const MOST_ASKED: usize = 256;

/// After so many beats without a request, what is not needed is given back.
const QUIET: u8 = 4;

/// Sums stay for a day beyond their time, for those whose clocks differ.
const AFTERWARDS: u64 = 86_400_000;

static CAPS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("shared/caps.lua")));

/// What this gateway has agreed with Redis about one budget.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Credit {
    /// What it may have spent and hold together.
    pub(super) cap: u64,
    /// What others have spent.
    pub(super) others_used: u64,
    /// What others may still spend.
    pub(super) others_held: u64,
    /// Whether Redis was heard about it.
    pub(super) known: bool,
    /// Whether something is to be told.
    dirty: bool,
    /// Beats since a request held something.
    quiet: u8,
}

/// Speaks with Redis about budgets.
pub(super) struct Purser {
    redis: Arc<Redis>,
    clock: Arc<dyn Clock>,
    purses: Arc<ArcSwap<Vec<Arc<Purse>>>>,
    asks: mpsc::Sender<Ask>,
    /// One step at a time: what is told later is newer.
    turn: Mutex<()>,
    /// Grows with each step.
    turns: AtomicU64,
}

/// What a request lacks of one budget.
pub(super) struct Need {
    pub(super) purse: Arc<Purse>,
    pub(super) part: Part,
    pub(super) amount: u64,
}

struct Ask {
    needs: Vec<Need>,
    done: oneshot::Sender<Result<(), Away>>,
}

/// What is said about one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Say {
    /// So much more is needed now.
    Need(u64),
    /// Some is kept for requests to come.
    Keep,
    /// What is not held is given back.
    GiveBack,
    /// What was agreed before is told again.
    Again,
}

/// Parts of which others are heard, in turn.
#[derive(Default)]
pub(super) struct Rota {
    line: VecDeque<Part>,
    inside: HashSet<Part>,
}

struct Entry {
    purse: Arc<Purse>,
    part: Part,
    say: Say,
    /// The window of which is spoken.
    since: u64,
}

impl Credit {
    /// A request held something.
    pub(super) fn used_again(&mut self) {
        self.quiet = 0;
    }

    /// Whether nobody has or had anything.
    fn is_nothing(&self) -> bool {
        (self.cap, self.others_used, self.others_held) == (0, 0, 0)
    }
}

impl Rota {
    fn join(&mut self, part: &Part) {
        if !self.inside.contains(part) {
            self.inside.insert(part.clone());
            self.line.push_back(part.clone());
        }
    }

    fn next(&mut self) -> Option<Part> {
        let part = self.line.pop_front()?;
        self.inside.remove(&part);
        Some(part)
    }
}

impl Purser {
    pub(super) fn new(
        redis: Arc<Redis>,
        clock: Arc<dyn Clock>,
        purses: Arc<ArcSwap<Vec<Arc<Purse>>>>,
    ) -> Arc<Self> {
        let (asks, waiting) = mpsc::channel(4_096);
        let this = Arc::new(Self {
            redis: redis.clone(),
            clock,
            purses,
            asks,
            turn: Mutex::new(()),
            turns: AtomicU64::new(0),
        });
        redis.spawn(this.clone().answer(waiting));
        redis.join(this.clone());
        this
    }

    /// How much a budget can bear beside what is spent and held. `alone`: Redis cannot be asked for more.
    pub(super) fn room(&self, budget: &Budget, counter: &Counter, alone: bool) -> u64 {
        let credit = &counter.credit;
        let mut cap = if self.redis.holds_lease() { credit.cap } else { 0 };
        if alone && credit.known && self.redis.may_share() {
            let others = credit.others_used.saturating_add(credit.others_held);
            let left = budget.ceiling().saturating_sub(others).saturating_sub(credit.cap);
            cap = credit.cap.saturating_add(left / self.redis.gateways());
        }
        cap.saturating_sub(counter.used()).saturating_sub(counter.held())
    }

    /// Whether Redis can be asked for more now.
    pub(super) fn can_ask(&self) -> bool {
        self.redis.is_up() && self.redis.term().ready && self.redis.holds_lease()
    }

    /// Asks for what a request lacks. What is agreed stands in the counters then.
    pub(super) async fn draw(&self, needs: Vec<Need>) -> Result<(), Away> {
        let (done, told) = oneshot::channel();
        let away = |what: &str| Away(what.into());
        self.asks.try_send(Ask { needs, done }).map_err(|_| away("too many ask Redis"))?;
        // The exchange before this one may take as long as it, and a script that Redis does not know is sent twice.
        let patience = self.redis.settings().timeout.0 * 3;
        match tokio::time::timeout(patience, told).await {
            Ok(Ok(result)) => result,
            _ => Err(away("no answer in time")),
        }
    }

    /// Something of this budget has changed of which Redis is to hear.
    pub(super) fn changed(purse: &Purse, part: &Part, counter: &mut Counter) {
        if !std::mem::replace(&mut counter.credit.dirty, true) {
            super::lock(&purse.sums.dirty).push(part.clone());
        }
    }

    /// Answers those who ask, all who wait at once.
    async fn answer(self: Arc<Self>, mut waiting: mpsc::Receiver<Ask>) {
        let mut asks = Vec::new();
        while waiting.recv_many(&mut asks, 256).await > 0 {
            let mut entries: Vec<Entry> = Vec::new();
            for need in asks.iter_mut().flat_map(|ask| ask.needs.drain(..)) {
                let Need { purse, part, amount } = need;
                let same = |entry: &&mut Entry| Arc::ptr_eq(&entry.purse, &purse) && entry.part == part;
                match entries.iter_mut().find(same).map(|entry| &mut entry.say) {
                    Some(Say::Need(sum)) => *sum = sum.saturating_add(amount),
                    _ => entries.push(Entry { purse, part, say: Say::Need(amount), since: 0 }),
                }
            }
            let result = self.exchange(entries, false).await;
            for ask in asks.drain(..) {
                let _ = ask.done.send(result.clone());
            }
        }
    }

    /// Speaks with Redis about these budgets, one step for many of them.
    async fn exchange(&self, mut entries: Vec<Entry>, in_turn: bool) -> Result<(), Away> {
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(AT_ONCE));
            let mut some = std::mem::replace(&mut entries, rest);
            let result = self.step(&mut some, in_turn).await;
            if result.is_err() {
                for Entry { purse, part, .. } in some.iter().chain(&entries) {
                    if let Some(counter) = purse.sums.lock().get_mut(part) {
                        Self::changed(purse, part, counter);
                    }
                }
            }
            result?;
        }
        Ok(())
    }

    async fn step(&self, entries: &mut [Entry], in_turn: bool) -> Result<(), Away> {
        let _turn = self.turn.lock().await;
        let (term, now) = (self.redis.term(), self.clock.unix_ms());
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
        let mut keys = vec![self.redis.key("epoch"), self.redis.key("gateways")];
        let mut args: Vec<Arg> = Vec::with_capacity(4 + entries.len() * 8);
        let node = self.redis.node();
        args.extend([term.epoch.as_str().into(), node.into(), self.redis.run().into(), turn.into()]);
        for entry in &mut *entries {
            let (key, said) = entry.told(now);
            keys.push(self.redis.key(&key));
            args.extend(said.map(Arg::from));
        }
        let answer = if in_turn {
            self.redis.call_in_turn(&CAPS, &keys, &args).await?
        } else {
            self.redis.call(&CAPS, &keys, &args).await?
        };
        let answer = list(answer);
        let [word, agreed @ ..] = &answer[..] else { return Err(strange(&answer)) };
        let is_early = text(word) == Some("early");
        if !is_early && text(word) != Some("ok") {
            self.redis.estranged();
            let what = text(word).unwrap_or("Redis answered with something else than was asked for");
            return Err(Away(what.into()));
        }
        let numbers: Vec<i64> = agreed.iter().filter_map(number).collect();
        if numbers.len() != entries.len() * 3 {
            return Err(strange(&answer));
        }
        for (entry, agreed) in entries.iter().zip(numbers.chunks(3)) {
            let whole = |at: usize| agreed.get(at).and_then(|number| u64::try_from(*number).ok());
            if let (Some(cap), Some(used), Some(held)) = (whole(0), whole(1), whole(2)) {
                entry.heard(cap, used, held, is_early);
            }
        }
        Ok(())
    }

    /// Budgets of which something is to be told.
    fn dirty(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for purse in self.purses.load().iter() {
            let mut dirty = super::lock(&purse.sums.dirty);
            let most = MOST_A_BEAT.saturating_sub(entries.len()).min(dirty.len());
            let some: Vec<Part> = dirty.drain(..most).collect();
            drop(dirty);
            let mut parts = purse.sums.lock();
            for part in some {
                let Some(counter) = parts.get_mut(&part) else { continue };
                let credit = &mut counter.credit;
                credit.dirty = false;
                credit.quiet = credit.quiet.saturating_add(1);
                let others = credit.others_used.saturating_add(credit.others_held);
                let left = purse.budget.ceiling().saturating_sub(others).saturating_sub(credit.cap);
                // Where little is left, nobody keeps what he does not need.
                let is_scarce = left < purse.budget.limit / 16;
                let keeps = purse.budget.hard && credit.quiet < QUIET && !is_scarce;
                let say = if keeps { Say::Keep } else { Say::GiveBack };
                entries.push(Entry { purse: purse.clone(), part, say, since: 0 });
            }
        }
        entries
    }

    /// The next budgets of which others are to be heard, beside those of which something is told.
    fn asked(&self, told: &mut Vec<Entry>) {
        let (mut most, now) = (MOST_ASKED, self.clock.unix_ms());
        for purse in self.purses.load().iter() {
            let mut rota = super::lock(&purse.sums.rota);
            let is_whole = purse.budget.each.is_empty();
            if is_whole {
                rota.join(&Part::default());
            }
            let mut parts = purse.sums.lock();
            for _ in 0..most.min(rota.line.len()) {
                let Some(part) = rota.next() else { break };
                most -= 1;
                let matters = parts.get_mut(&part).is_some_and(|counter| {
                    counter.roll(&purse.budget.period, now);
                    counter.credit.known && !(counter.is_idle() && counter.credit.is_nothing())
                });
                // Whoever is heard takes his turn again.
                if is_whole || matters {
                    told.push(Entry { purse: purse.clone(), part, say: Say::Again, since: 0 });
                }
            }
        }
    }

    /// All budgets of which anything is known.
    fn everything(&self, lapsed: bool) -> Vec<Entry> {
        let mut entries = Vec::new();
        for purse in self.purses.load().iter() {
            super::lock(&purse.sums.dirty).clear();
            for (part, counter) in purse.sums.lock().iter_mut() {
                counter.credit.dirty = false;
                if lapsed {
                    counter.credit.cap = 0;
                }
                if !counter.is_idle() || counter.credit.cap > 0 || counter.credit.known {
                    let part = part.clone();
                    entries.push(Entry { purse: purse.clone(), part, say: Say::Again, since: 0 });
                }
            }
        }
        entries
    }
}

impl Member for Purser {
    fn rejoin(&self, lapsed: bool) -> Turn<'_> {
        Box::pin(async move { self.exchange(self.everything(lapsed), true).await })
    }

    fn beat(&self) -> Turn<'_> {
        Box::pin(async move {
            let mut entries = self.dirty();
            self.asked(&mut entries);
            self.exchange(entries, true).await
        })
    }
}

impl Entry {
    /// The key, and what is told about it.
    fn told(&mut self, now: u64) -> (String, [u64; 8]) {
        let budget = &self.purse.budget;
        let mut parts = self.purse.sums.lock();
        let counter = part_of(&mut parts, budget, &mut self.part, now);
        let (used, held) = (counter.used(), counter.held());
        let busy = used.saturating_add(held);
        let credit = &mut counter.credit;
        credit.dirty = false;
        let seen = match budget.period.slots() {
            None if credit.known => credit.others_used.saturating_add(used),
            // What rolls goes down by itself.
            _ => 0,
        };
        let (floor, wanted, eager) = match self.say {
            Say::Need(amount) => (credit.cap.max(busy), busy.saturating_add(amount), true),
            Say::Keep => (credit.cap.max(busy), busy, true),
            Say::Again => (credit.cap.max(busy), busy, false),
            Say::GiveBack => {
                // Before it is told, so that nobody spends what is about to be given away.
                credit.cap = credit.cap.min(busy);
                (busy, busy, false)
            }
        };
        let (window, rolls) = (counter.window(), budget.period.slots());
        self.since = if rolls.is_some() { 0 } else { window.since };
        let counts = rolls.map_or(0, |(slot, count)| slot.saturating_mul(count as u64 + 1));
        let life = match (rolls, window.until) {
            (Some(_), _) => counts + AFTERWARDS,
            (None, u64::MAX) => 0,
            (None, until) => until.saturating_sub(now) + AFTERWARDS,
        };
        let key = far_name(&self.purse.far, &self.part, self.since);
        (key, [used, floor, wanted, u64::from(eager), budget.ceiling(), seen, life, counts])
    }

    fn heard(&self, cap: u64, others_used: u64, others_held: u64, is_early: bool) {
        let mut parts = self.purse.sums.lock();
        let Some(counter) = parts.get_mut(&self.part) else { return };
        let rolls = self.purse.budget.period.slots().is_some();
        if !rolls && counter.window().since != self.since {
            return;
        }
        let credit = &mut counter.credit;
        if is_early {
            // A share of what is left stays what it was: it is not measured anew while others have not told theirs.
            credit.others_used = credit.others_used.max(others_used);
            credit.others_held = credit.others_held.max(others_held);
            return;
        }
        (credit.cap, credit.known) = (cap, true);
        (credit.others_used, credit.others_held) = (others_used, others_held);
        if cap > counter.used().saturating_add(counter.held()) {
            // Whoever asked may not need it any more; then it is given back.
            Purser::changed(&self.purse, &self.part, counter);
        }
        drop(parts);
        super::lock(&self.purse.sums.rota).join(&self.part);
    }
}

/// What tells a budget from others in Redis: all that decides what it counts, but for the limit.
pub(super) fn name(budget: &Budget) -> String {
    let Budget { name, measure, period, of, by_name, each, .. } = budget;
    let zone = period.zone.iana_name().unwrap_or_default();
    let (per, rolling) = (period.per, period.rolling);
    hashed(&format!("{name}\0{measure:?}\0{per:?}\0{rolling}\0{zone}\0{of:?}\0{by_name}\0{each:?}"))
}

fn far_name(purse: &str, part: &Part, since: u64) -> String {
    let part = part.iter().map(|value| format!("{}:{value}", value.len())).collect::<String>();
    format!("b:{purse}:{}:{since}", hashed(&part))
}

fn hashed(text: &str) -> String {
    let hex = blake3::hash(text.as_bytes()).to_hex();
    hex.get(..32).unwrap_or(&hex).to_owned()
}

fn strange(answer: &[Value]) -> Away {
    tracing::warn!(?answer, "Redis answered with something else than was asked for");
    Away("Redis answered with something else than was asked for".into())
}
