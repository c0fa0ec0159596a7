//! Who of all gateways books an answer that was made in the background: whoever first reads it whole, which Redis knows.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::store::redis::{Redis, Script, Value, cmd, list, number};

/// How long it is known that somebody waits for an answer.
const WAITS: Duration = Duration::from_secs(10);

/// How long it is known that an answer is booked, beyond the time for which gateways keep it.
const AFTERWARDS: Duration = Duration::from_secs(86_400);

/// Answers of which is asked in one step.
const AT_ONCE: usize = 128;

static STAND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("stand.lua")));

/// Whether whoever has read an answer books it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// He does.
    Mine,
    /// Somebody has done it.
    Done,
    /// Nobody can say: Redis is away.
    Unknown,
}

/// The provider, and an answer's id there.
pub(super) type Name = (Arc<str>, Box<str>);

/// Whoever asks first books this answer.
pub async fn book(redis: &Redis, provider: &str, id: &str, keep: Duration) -> First {
    let life = millis(keep.saturating_add(AFTERWARDS));
    let mut set = cmd("SET");
    set.arg(booked(redis, provider, id)).arg("1").arg("NX").arg("PX").arg(life);
    match redis.fetch(&set).await {
        Ok(Value::Nil) => First::Done,
        Ok(_) => First::Mine,
        Err(_) => First::Unknown,
    }
}

/// Somebody has looked for this answer, and waits on: what is held for it stays held.
pub async fn wait(redis: &Redis, provider: &str, id: &str) {
    let mut set = cmd("SET");
    set.arg(awaited(redis, provider, id)).arg("1").arg("PX").arg(millis(WAITS));
    // Where it is not heard, the gateway that began it goes by the looks that it sees itself.
    let _ = redis.fetch(&set).await;
}

/// Of each of these, whether it is booked, and whether somebody waits for it. Nothing where Redis is away.
pub(super) async fn stand(redis: &Redis, names: &[Name]) -> Vec<(bool, bool)> {
    let mut all = Vec::with_capacity(names.len());
    for some in names.chunks(AT_ONCE) {
        let keys: Vec<String> = some
            .iter()
            .flat_map(|(provider, id)| [booked(redis, provider, id), awaited(redis, provider, id)])
            .collect();
        let Ok(answer) = redis.fetch_by(&STAND, &keys, &[]).await else { break };
        let is: Vec<bool> = list(answer).iter().map(|value| number(value) == Some(1)).collect();
        all.extend(is.chunks(2).filter_map(|pair| match pair {
            [booked, awaited] => Some((*booked, *awaited)),
            _ => None,
        }));
    }
    all
}

fn booked(redis: &Redis, provider: &str, id: &str) -> String {
    redis.key(&format!("o:{}", hashed(provider, id)))
}

fn awaited(redis: &Redis, provider: &str, id: &str) -> String {
    redis.key(&format!("w:{}", hashed(provider, id)))
}

fn hashed(provider: &str, id: &str) -> blake3::Hash {
    blake3::hash(format!("{}:{provider}{id}", provider.len()).as_bytes())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 2)
}
