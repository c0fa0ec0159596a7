//! Answers that other gateways made, in Redis: found there when none is kept here, and left there for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::entry::Parcel;
use super::{Entry, Key};
use crate::clock::Clock;
use crate::store::redis::{Redis, Script, Value, cmd, fresh_id, list, text};

/// Bytes on their way to Redis; beyond them, answers are kept here alone.
const MOST_PENDING: usize = 64 << 20;

/// How often it is looked whether another gateway has made the answer.
const LOOK: Duration = Duration::from_millis(100);

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("far/claim.lua")));
static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("far/leave.lua")));

/// Answers in Redis.
pub struct Far {
    redis: Arc<Redis>,
    clock: Arc<dyn Clock>,
    /// Tells the answers of one store from those of others.
    shelf: &'static str,
    pending: AtomicUsize,
}

/// What there is for somebody who makes an answer once for all gateways.
pub enum Claim {
    /// The answer.
    Kept(Entry),
    /// Nobody is at it: it is ours to make. Dropped without an answer, another may.
    Ours(Claimed),
    /// The same key is taken by another question.
    Conflict,
    /// Redis cannot be asked: it is made for this gateway alone.
    Away,
}

/// The place of who makes an answer.
pub struct Claimed {
    far: Arc<Far>,
    key: String,
    place: String,
    kept: bool,
}

impl Far {
    pub(super) fn new(redis: Arc<Redis>, clock: Arc<dyn Clock>, shelf: &'static str) -> Arc<Self> {
        Arc::new(Self { redis, clock, shelf, pending: AtomicUsize::new(0) })
    }

    /// An answer that some gateway made. What cannot be read is none.
    pub async fn get(&self, key: &Key) -> Option<Entry> {
        let mut get = cmd("GET");
        get.arg(self.name(key));
        self.read(&self.redis.fetch(&get).await.ok()?)
    }

    /// The answer under a key, or the place of who makes it. Waits while another gateway does, until `deadline`.
    ///
    /// # Errors
    /// The deadline has passed.
    pub async fn claim(self: &Arc<Self>, key: &Key, asks: &Key, deadline: Instant) -> Result<Claim, ()> {
        let (name, asks) = (self.name(key), hex(asks));
        let (keys, place) = ([name.clone(), self.redis.key("gateways")], fresh_id());
        let ours = || {
            Claim::Ours(Claimed { far: self.clone(), key: name.clone(), place: place.clone(), kept: false })
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(());
            }
            let life = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).saturating_add(1_000);
            let args = [asks.as_str().into(), self.redis.node().into(), life.into(), place.as_str().into()];
            let Ok(answer) = self.redis.fetch_by(&CLAIM, &keys, &args).await else {
                return Ok(Claim::Away);
            };
            let answer = list(answer);
            match answer.first().and_then(text) {
                Some("ours") => return Ok(ours()),
                Some("theirs") => tokio::time::sleep(LOOK.min(left)).await,
                Some("conflict") => return Ok(Claim::Conflict),
                Some("kept") => {
                    return Ok(match answer.get(1).and_then(|value| self.read(value)) {
                        Some(entry) => Claim::Kept(entry),
                        // What cannot be read is written over.
                        None => ours(),
                    });
                }
                _ => return Ok(Claim::Away),
            }
        }
    }

    /// Leaves an answer there for other gateways, off the path of the request. Says whether it is on its way.
    pub(super) fn keep(self: &Arc<Self>, key: &Key, entry: &Arc<Entry>) -> bool {
        let size = entry.weight();
        if self.pending.fetch_add(size, Ordering::Relaxed) + size > MOST_PENDING {
            self.pending.fetch_sub(size, Ordering::Relaxed);
            return false;
        }
        let (far, name, entry) = (self.clone(), self.name(key), entry.clone());
        self.redis.spawn(async move {
            let now = Instant::now();
            let left = entry.life.saturating_sub(entry.age(now));
            let life = u64::try_from(left.as_millis()).unwrap_or(u64::MAX >> 2).min(u64::MAX >> 2);
            if life > 0 {
                let mut set = cmd("SET");
                set.arg(name).arg(Parcel::pack(&entry, now, far.clock.unix_ms())).arg("PX").arg(life);
                if let Err(away) = far.redis.fetch(&set).await {
                    tracing::debug!(error = &*away.0, "an answer is kept by this gateway alone");
                }
            }
            far.pending.fetch_sub(size, Ordering::Relaxed);
        });
        true
    }

    fn read(&self, value: &Value) -> Option<Entry> {
        let Value::BulkString(bytes) = value else { return None };
        let entry = Parcel::unpack(Bytes::copy_from_slice(bytes), Instant::now(), self.clock.unix_ms());
        if entry.is_none() && !bytes.starts_with(b"claim|") {
            tracing::debug!("a kept answer in Redis cannot be read; it counts as none");
        }
        entry
    }

    fn name(&self, key: &Key) -> String {
        self.redis.key(&format!("{}:{}", self.shelf, hex(key)))
    }
}

impl Claimed {
    /// The answer is on its way there.
    pub fn kept(mut self) {
        self.kept = true;
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (redis, keys) = (self.far.redis.clone(), [std::mem::take(&mut self.key)]);
        let args = [std::mem::take(&mut self.place).into()];
        self.far.redis.spawn(async move {
            // Where it is not heard, the place ends with its time.
            let _ = redis.fetch_by(&LEAVE, &keys, &args).await;
        });
    }
}

fn hex(key: &Key) -> String {
    blake3::Hash::from_bytes(*key).to_hex().to_string()
}
