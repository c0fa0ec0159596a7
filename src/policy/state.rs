//! `state` in scripts: small values kept between requests, for the whole process and across reloads.
//!
//! Reads see what is kept now, with what this evaluation wants to write on top. Writes are done at its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rhai::Dynamic;

use super::request::{Outcome, Request, fault, kind};
use super::verdict::{duration, not_a_duration};
use super::wishes::Effect;

/// Keys that are kept at most; beyond them, those go that end soonest.
const MAX_KEYS: usize = 100_000;
/// Bytes of a key and of a text.
const MAX_KEY: usize = 256;
const MAX_TEXT: usize = 4 << 10;
/// The life of a value for which none is given.
const USUAL_LIFE: Duration = Duration::from_secs(24 * 3_600);
const LONGEST_LIFE: Duration = Duration::from_secs(31 * 24 * 3_600);
/// Parts with a lock each.
const SHARDS: usize = 16;

/// `state.get("k")`, `state.set("k", v, "1h")`, `state.incr("k", 1, "1m")`. The constant `state` of scripts.
#[derive(Clone)]
pub(super) struct State;

#[derive(Clone)]
struct Kept {
    value: Dynamic,
    until: Instant,
}

/// Values of the whole process.
struct Shelf([Mutex<HashMap<Arc<str>, Kept>>; SHARDS]);

fn shelf() -> &'static Shelf {
    static SHELF: OnceLock<Shelf> = OnceLock::new();
    SHELF.get_or_init(|| Shelf(std::array::from_fn(|_| Mutex::default())))
}

impl State {
    /// What is kept under the key; `()` where nothing is.
    pub(super) fn get(request: &Request, key: &str) -> Outcome<Dynamic> {
        let key = checked(key)?;
        let is_trial = request.wishes().is_trial;
        let look = || request.remembered("state", key, || shelf().get(key, Instant::now()));
        let kept = if is_trial { Dynamic::UNIT } else { look() };
        Ok(request.wishes().effects().iter().fold(kept, |value, effect| match effect {
            Effect::Keep { key: other, value, .. } if **other == *key => value.clone(),
            Effect::Raise { key: other, by, .. } if **other == *key => sum(&value, *by),
            _ => value,
        }))
    }

    pub(super) fn set(request: &Request, key: &str, value: Dynamic, life: Option<Duration>) -> Outcome<()> {
        let key = checked(key)?;
        let small = match value.as_immutable_string_ref() {
            Ok(text) => text.len() <= MAX_TEXT,
            Err(_) => value.is_int() || value.is_float() || value.is_bool() || value.is_unit(),
        };
        if !small {
            let given = kind(&value);
            return Err(fault(format!(
                "state.set: keeps numbers, true/false and texts up to {MAX_TEXT} bytes, not {given}"
            )));
        }
        request.wishes().effect(Effect::Keep { key: key.into(), value, life });
        Ok(())
    }

    /// Adds and gives the sum, as it will be if no other request adds at the same time.
    pub(super) fn incr(request: &Request, key: &str, by: i64, life: Option<Duration>) -> Outcome<i64> {
        let before = Self::get(request, key)?;
        if !before.is_unit() && !before.is_int() {
            return Err(fault(format!("state.incr: `{key}` holds {}, not a whole number", kind(&before))));
        }
        request.wishes().effect(Effect::Raise { key: key.into(), by, life });
        Ok(sum(&before, by).as_int().unwrap_or(by))
    }
}

/// Does what a finished evaluation wanted to write.
pub(super) fn write(key: &Arc<str>, value: &Dynamic, life: Option<Duration>) {
    let now = Instant::now();
    let mut part = shelf().part(key);
    if value.is_unit() {
        part.remove(key);
        return;
    }
    insert(&mut part, key, Kept { value: value.clone(), until: now + lasting(life) }, now);
}

/// Adds to what is kept, whatever it is by now. A number that is there keeps its end.
pub(super) fn raise(key: &Arc<str>, by: i64, life: Option<Duration>) {
    let now = Instant::now();
    let mut part = shelf().part(key);
    let known = part.get(key).filter(|kept| kept.until > now).cloned();
    let kept = match known {
        Some(Kept { value, until }) => Kept { value: sum(&value, by), until },
        None => Kept { value: by.into(), until: now + lasting(life) },
    };
    insert(&mut part, key, kept, now);
}

impl Shelf {
    fn part(&self, key: &str) -> MutexGuard<'_, HashMap<Arc<str>, Kept>> {
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let place = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        self.0[place % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &str, now: Instant) -> Dynamic {
        let part = self.part(key);
        part.get(key).filter(|kept| kept.until > now).map_or(Dynamic::UNIT, |kept| kept.value.clone())
    }
}

/// Makes room first: what has ended goes, then a sixteenth of the rest, those that end soonest.
fn insert(part: &mut HashMap<Arc<str>, Kept>, key: &Arc<str>, kept: Kept, now: Instant) {
    if part.len() >= MAX_KEYS / SHARDS && !part.contains_key(key) {
        part.retain(|_, kept| kept.until > now);
        if part.len() >= MAX_KEYS / SHARDS {
            let mut ends: Vec<Instant> = part.values().map(|kept| kept.until).collect();
            let place = ends.len() / 16;
            let (_, bar, _) = ends.select_nth_unstable(place);
            let bar = *bar;
            part.retain(|_, kept| kept.until > bar);
        }
    }
    part.insert(Arc::clone(key), kept);
}

fn sum(value: &Dynamic, by: i64) -> Dynamic {
    value.as_int().unwrap_or(0).saturating_add(by).into()
}

fn lasting(life: Option<Duration>) -> Duration {
    life.unwrap_or(USUAL_LIFE).min(LONGEST_LIFE)
}

/// How long a value is kept.
pub(super) fn life(function: &str, text: &str) -> Outcome<Duration> {
    duration(text).ok_or_else(|| fault(not_a_duration(function, text)))
}

fn checked(key: &str) -> Outcome<&str> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(fault(format!("state: a key has 1 to {MAX_KEY} bytes, this one has {}", key.len())));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_gone_and_sums_start_anew() {
        let key: Arc<str> = "test-ended".into();
        raise(&key, 5, Some(Duration::ZERO));
        assert!(shelf().get(&key, Instant::now()).is_unit());
        raise(&key, 2, None);
        raise(&key, 3, None);
        assert_eq!(shelf().get(&key, Instant::now()).as_int(), Ok(5));
    }

    #[test]
    fn keys_are_bounded_and_those_go_that_end_soonest() {
        let mut part = HashMap::new();
        let now = Instant::now();
        for n in 0..20_000_u64 {
            let until = now + Duration::from_secs(n + 1);
            insert(&mut part, &format!("k{n}").into(), Kept { value: 1_i64.into(), until }, now);
        }
        assert!(part.len() <= MAX_KEYS / SHARDS, "{}", part.len());
        assert!(part.contains_key("k19999") && !part.contains_key("k0"));
    }
}
