//! Answers that their providers make in the background, as all gateways find them: in Redis, for as long as each gateway
//! would keep them.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Answers, Kept, Key, Shelf};
use crate::json::Body;
use crate::store::redis::{Redis, Value, cmd};
use crate::target::TargetName;

/// The largest that others are told of, in bytes.
const MOST: usize = 4 << 20;

/// Where other gateways are met, if anywhere.
#[derive(Default)]
pub(super) struct Elsewhere(OnceLock<Arc<Redis>>);

/// An answer on its way.
#[derive(Serialize, Deserialize)]
struct Parcel {
    previous: Option<Box<str>>,
    request: String,
    answer: String,
    provider: Arc<str>,
    model: Arc<str>,
}

impl Answers {
    /// Other gateways find what is made in the background from now on.
    pub fn share(&self, redis: &Arc<Redis>) {
        self.elsewhere.0.get_or_init(|| redis.clone());
    }

    /// Where other gateways are met, if anywhere.
    pub fn redis(&self) -> Option<&Arc<Redis>> {
        self.elsewhere.0.get()
    }

    /// Tells other gateways of an answer of this caller that is kept here and made in the background.
    pub async fn announce(&self, owner: Option<Arc<str>>, id: &str, keep: Duration) {
        let key = (owner, id.into());
        let Some(redis) = self.redis() else { return };
        let Some(kept) = self.lock().live(&key, keep).cloned() else { return };
        let Some(parcel) = Parcel::pack(&kept).filter(|parcel| parcel.len() <= MOST) else { return };
        let life = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX >> 2).max(1);
        let mut set = cmd("SET");
        set.arg(name(redis, &key)).arg(parcel).arg("PX").arg(life);
        if let Err(away) = redis.fetch(&set).await {
            tracing::debug!(error = &*away.0, "an answer in the background is found at this gateway alone");
        }
    }
}

impl Shelf {
    /// Brings an answer that another gateway was asked for, unless it is here.
    pub async fn look_elsewhere(&self, id: &str) {
        let Some(redis) = self.answers.redis() else { return };
        if self.bounds.keep_nothing() || self.get(id).is_some() {
            return;
        }
        let mut get = cmd("GET");
        get.arg(name(redis, &self.key(id)));
        if let Ok(Value::BulkString(bytes)) = redis.fetch(&get).await
            && let Some(kept) = Parcel::unpack(id, &bytes)
        {
            self.put(kept);
        }
    }
}

impl Parcel {
    fn pack(kept: &Kept) -> Option<Vec<u8>> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).ok();
        let TargetName { provider, model } = kept.target.clone();
        let previous = kept.previous.clone();
        let parcel =
            Self { previous, request: text(&kept.request)?, answer: text(&kept.answer)?, provider, model };
        serde_json::to_vec(&parcel).ok()
    }

    /// What is made in the background has no items yet, and its provider keeps it.
    fn unpack(id: &str, bytes: &[u8]) -> Option<Kept> {
        let Self { previous, request, answer, provider, model } = serde_json::from_slice(bytes).ok()?;
        let (request, answer) = (Bytes::from(request), Bytes::from(answer));
        let target = TargetName { provider, model };
        let inlined = Body::read(request.clone()).map(|body| body.inlined()).unwrap_or_default();
        let (id, items) = (id.into(), Vec::new());
        Some(Kept { id, previous, request, inlined, answer, items, target, native: true })
    }
}

/// Names whose it is, so that nobody else finds it.
fn name(redis: &Redis, (owner, id): &Key) -> String {
    let owner = owner.as_ref().map_or_else(String::new, |owner| format!("{}:{owner}", owner.len()));
    let hash = blake3::hash(format!("{owner}\0{id}").as_bytes()).to_hex();
    redis.key(&format!("r:{hash}"))
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Elsewhere").field(&self.0.get().is_some()).finish()
    }
}
