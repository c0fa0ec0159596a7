//! The keys of one provider: which of them an attempt bears, and which of them rest or are out.

mod bucket;
mod quota;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use quota::{Left, Quotas};
use state::State;
pub use state::{KeyLook, ModelLeft, Why};

use super::allowance::Allowance;
use crate::chat::Usage;
use crate::clock::Dice;

/// How one of several keys is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Drawn by weight.
    #[default]
    Weighted,
    /// The one with the fewest requests under way for its weight.
    LeastLoaded,
}

/// What requests have in common that should go out under the same key, so that a provider's prompt cache stays warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// The session (`x-tollgate-session`), or else the user.
    Session,
    /// The beginning of the prompt: the system message and the first kilobyte.
    Prefix,
}

/// What one key may be used for.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyLimits {
    /// Its share of the requests.
    pub weight: f64,
    /// All of its requests together.
    pub all: Quotas,
    /// Those to models of this pattern; for each model, the first that fits.
    pub models: Vec<(Arc<str>, Quotas)>,
    /// Whether what the provider says in the headers of its answers is believed.
    pub learn: bool,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self { weight: 1.0, all: Quotas::default(), models: Vec::new(), learn: true }
    }
}

/// One key of a provider.
pub struct Key {
    /// Its name in logs and metrics: never the secret.
    pub name: Arc<str>,
    /// Whose account it is; keys of one account are out together when it is not paid.
    pub account: Arc<str>,
    /// The credential and the headers of its account, marked sensitive.
    pub headers: Arc<HeaderMap>,
    /// What it may be used for.
    pub limits: KeyLimits,
    /// Whom to tell that it was refused: the store that it is from may have another one.
    recall: Option<Recall>,
    /// The place of the key that followed it: it is borne only while that one is refused.
    followed_by: Option<usize>,
    /// What became of it; handed on to the next configuration, unless the secret is another.
    state: ArcSwap<State>,
}

/// Is told that a key was refused.
pub type Recall = Arc<dyn Fn() + Send + Sync>;

/// The keys of one provider.
#[derive(Default)]
pub struct Ring {
    provider: Arc<str>,
    keys: Vec<Key>,
    balance: Balance,
    sticky: Option<Sticky>,
}

/// What an attempt says of itself to be given a key.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The model that is asked.
    pub model: &'a Arc<str>,
    /// Tokens of the prompt.
    pub tokens: u64,
    /// What it has in common with others, hashed.
    pub sticky: Option<u64>,
    /// A key that was tried just now.
    pub but: Option<usize>,
}

/// No key may be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// How long.
    pub wait: Duration,
    /// Why.
    pub why: Why,
}

/// A key in use by one attempt, until its answer is over. Given back on drop.
pub struct Hold {
    provider: Arc<str>,
    name: Arc<str>,
    place: usize,
    model: Arc<str>,
    headers: Arc<HeaderMap>,
    state: Arc<State>,
    /// Tokens that were booked ahead, where they count.
    booked: Option<u64>,
    probe: bool,
    /// The how manieth of the key's attempts it is; `None` where the provider's word of its limits is not believed.
    number: Option<u64>,
}

impl Key {
    /// A key that nothing has been heard of.
    pub fn new(name: Arc<str>, account: Arc<str>, headers: HeaderMap, limits: KeyLimits) -> Self {
        let state = ArcSwap::from_pointee(State::new(limits.clone()));
        Self { name, account, headers: Arc::new(headers), limits, recall: None, followed_by: None, state }
    }

    /// The key that was here before the one at this place of the ring, for as long as it may still be good.
    #[must_use]
    pub fn followed_by(self, place: usize) -> Self {
        Self { followed_by: Some(place), ..self }
    }

    /// With somebody who is told when it is refused.
    #[must_use]
    pub fn recalled_by(self, recall: Option<Recall>) -> Self {
        Self { recall, ..self }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Ring {
    /// The keys of this provider.
    pub fn new(provider: Arc<str>, keys: Vec<Key>, balance: Balance, sticky: Option<Sticky>) -> Self {
        Self { provider, keys, balance, sticky }
    }

    /// What its requests stick by.
    pub fn sticky(&self) -> Option<Sticky> {
        self.sticky
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none: then nothing is chosen, and nothing rests.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A key for an attempt; `None` where the provider has none.
    ///
    /// # Errors
    /// When all rest, with the shortest wait.
    pub fn choose(&self, wish: Wish<'_>, dice: &Dice, now: Instant) -> Result<Option<Hold>, Rest> {
        match &self.keys[..] {
            [] => return Ok(None),
            // The usual provider has one key.
            [only] if wish.but.is_none() => {
                return match only.state.load().rest(wish.model, wish.tokens, now) {
                    None => Ok(Some(self.take(0, only, wish, now))),
                    Some(rest) => Err(rest),
                };
            }
            _ => {}
        }
        let needed = self.keys.iter().enumerate().filter(|(_, key)| self.is_needed(key, wish, now));
        let others = needed.clone().filter(|(place, _)| wish.but != Some(*place));
        // Whoever is picked of all is nearly always free. The odds are those of a pick among the free ones.
        if let Some((place, key)) = self.pick(others, wish.sticky, dice)
            && key.state.load().rest(wish.model, wish.tokens, now).is_none()
        {
            return Ok(Some(self.take(place, key, wish, now)));
        }
        let mut shortest: Option<Rest> = None;
        let mut free: Vec<(usize, &Key)> = Vec::new();
        for (place, key) in needed {
            match key.state.load().rest(wish.model, wish.tokens, now) {
                None if wish.but != Some(place) => free.push((place, key)),
                None => {}
                Some(rest) if shortest.is_none_or(|shortest| rest.wait < shortest.wait) => {
                    shortest = Some(rest)
                }
                Some(_) => {}
            }
        }
        match self.pick(free.iter().copied(), wish.sticky, dice) {
            Some((place, key)) => Ok(Some(self.take(place, key, wish, now))),
            None => Err(shortest.unwrap_or(Rest { wait: Duration::ZERO, why: Why::Tried })),
        }
    }

    /// The key that rests for the shortest time, because nothing else is left. Limits are kept all the
    /// same.
    pub fn least_bad(&self, wish: Wish<'_>, now: Instant) -> Option<Hold> {
        let needed = self.keys.iter().enumerate().filter(|(_, key)| self.is_needed(key, wish, now));
        let rests = needed.map(|(place, key)| {
            let rest = key.state.load().rest(wish.model, wish.tokens, now);
            (rest.map_or(Duration::ZERO, |rest| rest.wait), rest.map(|rest| rest.why), place, key)
        });
        let kept = |why: &Option<Why>| !matches!(why, Some(Why::Limited | Why::UsedUp));
        let (.., place, key) = rests.filter(|(_, why, ..)| kept(why)).min_by_key(|(wait, ..)| *wait)?;
        Some(self.take(place, key, wish, now))
    }

    /// Whether another key than this one could be used at once.
    pub fn has_other(&self, wish: Wish<'_>, now: Instant) -> bool {
        self.keys.len() > 1
            && self.keys.iter().enumerate().any(|(place, key)| {
                wish.but != Some(place)
                    && self.is_needed(key, wish, now)
                    && key.state.load().rest(wish.model, wish.tokens, now).is_none()
            })
    }

    /// Whether a key may be borne at all: one that was followed by another, only while that one is refused.
    fn is_needed(&self, key: &Key, wish: Wish<'_>, now: Instant) -> bool {
        let Some(next) = key.followed_by.and_then(|place| self.keys.get(place)) else { return true };
        let rest = next.state.load().rest(wish.model, wish.tokens, now);
        rest.is_some_and(|rest| rest.why == Why::Refused)
    }

    /// The account of this key pays for nothing more: all its keys are out.
    pub fn unpaid(&self, hold: &Hold, now: Instant, dice: &Dice) {
        let Some(account) = self.keys.get(hold.place).map(|key| key.account.clone()) else { return };
        for key in self.keys.iter().filter(|key| key.account == account) {
            if key.state.load().refused(now, dice.unit()) {
                alarm(&self.provider, &key.name, "the account pays for nothing more");
            }
        }
    }

    /// This key was refused: its store is asked whether it has another one.
    pub fn recall(&self, hold: &Hold) {
        if let Some(recall) = self.keys.get(hold.place).and_then(|key| key.recall.as_ref()) {
            recall();
        }
    }

    /// What is left for a model with all keys together, as far as anybody knows.
    pub fn left(&self, model: &str, now: Instant) -> Left {
        let keys = self.keys.iter().filter(|key| key.followed_by.is_none());
        keys.map(|key| key.state.load().left(model, now)).fold(Left::default(), Left::and)
    }

    /// How the keys fare.
    pub fn looks(&self, now: Instant) -> Vec<KeyLook> {
        self.keys.iter().map(|key| key.state.load().look(&key.name, &key.account, now)).collect()
    }

    /// Takes over what an older configuration had learnt of keys with the same secret.
    pub fn inherit(&self, older: &Self) {
        for key in &self.keys {
            let known =
                older.keys.iter().find(|other| other.headers == key.headers && other.limits == key.limits);
            if let Some(known) = known {
                key.state.store(known.state.load_full());
            } else {
                show(&self.provider, &key.name, true);
            }
        }
    }

    fn take(&self, place: usize, key: &Key, wish: Wish<'_>, now: Instant) -> Hold {
        let state = key.state.load_full();
        let taken = state.take(wish.model, wish.tokens, now);
        let counts_tokens =
            key.limits.all.counts_tokens() || key.limits.models.iter().any(|(_, own)| own.counts_tokens());
        Hold {
            provider: self.provider.clone(),
            name: key.name.clone(),
            place,
            model: wish.model.clone(),
            headers: key.headers.clone(),
            state,
            booked: counts_tokens.then_some(wish.tokens),
            probe: taken.probe,
            number: key.limits.learn.then_some(taken.number),
        }
    }

    /// One of these keys, which stand at these places.
    #[allow(clippy::cast_precision_loss, reason = "a hash as a number between 0 and 1")]
    fn pick<'a>(
        &self,
        keys: impl Iterator<Item = (usize, &'a Key)> + Clone,
        sticky: Option<u64>,
        dice: &Dice,
    ) -> Option<(usize, &'a Key)> {
        if let (Some(common), Some(_)) = (sticky, self.sticky) {
            // Weighted rendezvous: a key that goes takes only its own requests along.
            let score = |key: &Key| {
                let unit = (mixed(common, &key.name) >> 11) as f64 / (1_u64 << 53) as f64;
                -unit.max(f64::MIN_POSITIVE).ln() / key.limits.weight.max(f64::MIN_POSITIVE)
            };
            let scored = keys.map(|(place, key)| (score(key), place, key));
            return scored.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, place, key)| (place, key));
        }
        if self.balance == Balance::LeastLoaded {
            let load = |key: &Key| {
                f64::from(key.state.load().in_flight()) / key.limits.weight.max(f64::MIN_POSITIVE)
            };
            let least = keys.clone().map(|(_, key)| load(key)).fold(f64::INFINITY, f64::min);
            // Empty where all have just been given another request.
            let least_loaded = keys.clone().filter(|(_, key)| load(key) <= least);
            if let Some(drawn) = draw(least_loaded, dice) {
                return Some(drawn);
            }
        }
        draw(keys, dice)
    }
}

/// One of several keys by weight.
fn draw<'a>(keys: impl Iterator<Item = (usize, &'a Key)> + Clone, dice: &Dice) -> Option<(usize, &'a Key)> {
    let mut some = keys.clone();
    let first = some.next()?;
    if some.next().is_none() {
        return Some(first);
    }
    let all: f64 = keys.clone().map(|(_, key)| key.limits.weight).sum();
    let mut left = dice.unit() * all;
    let mut keys = keys;
    let drawn = keys.find(|(_, key)| {
        left -= key.limits.weight;
        left < 0.0
    });
    Some(drawn.unwrap_or(first))
}

impl Hold {
    /// What the request bears.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Its name in logs: never the secret.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its place among the provider's keys.
    pub fn place(&self) -> usize {
        self.place
    }

    /// The provider accepted it.
    pub fn good(&mut self, now: Instant) {
        self.probe = false;
        if self.state.good(&self.model, now) {
            tracing::info!(provider = %self.provider, key = %self.name, "the key is accepted again");
            show(&self.provider, &self.name, true);
        }
    }

    /// The provider limits its rate: it rests for this model, for as long as the provider asks, or longer each time.
    pub fn throttled(&mut self, after: Option<Duration>, now: Instant, dice: &Dice) {
        self.probe = false;
        self.state.throttled(&self.model, after, now, dice.unit());
        metrics::counter!("tollgate_key_throttles_total", "provider" => self.provider.to_string(),
            "key" => self.name.to_string())
        .increment(1);
    }

    /// The provider refuses it: it is out for a while, longer each time.
    pub fn refused(&mut self, now: Instant, dice: &Dice) {
        self.probe = false;
        if self.state.refused(now, dice.unit()) {
            alarm(&self.provider, &self.name, "the provider refuses the key");
        }
    }

    /// Whether tokens count for it.
    pub fn counts_tokens(&self) -> bool {
        self.booked.is_some()
    }

    /// This was used; what was not booked ahead is booked now.
    pub fn used(&mut self, usage: &Usage) {
        if let Some(booked) = self.booked.take() {
            self.state.book(&self.model, usage, booked);
        }
    }

    /// What the provider says of its limits in the headers of an answer.
    pub fn told(&self, headers: &HeaderMap, now_ms: u64, now: Instant) {
        let Some(number) = self.number else { return };
        if let Some(said) = Allowance::read(headers, now_ms) {
            self.state.told(&self.model, &said, number, now);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.state.give_back(&self.model, self.probe);
    }
}

#[cold]
fn alarm(provider: &str, key: &str, what: &'static str) {
    tracing::warn!(provider, key, "alarm: {what}; it is out for a while");
    let about = serde_json::json!({ "provider": provider, "key": key, "why": what });
    crate::telemetry::alarm("key_out", about);
    metrics::counter!("tollgate_key_refusals_total", "provider" => provider.to_owned(), "key" => key.to_owned())
        .increment(1);
    show(provider, key, false);
}

fn show(provider: &str, key: &str, usable: bool) {
    metrics::gauge!("tollgate_key_usable", "provider" => provider.to_owned(), "key" => key.to_owned())
        .set(f64::from(u8::from(usable)));
}

/// A hash of both, the same in every process.
fn mixed(common: u64, name: &str) -> u64 {
    let bytes = common.to_le_bytes().into_iter().chain(name.bytes());
    // FNV-1a, and a last stir (SplitMix64) so that near names lie far apart.
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests;
