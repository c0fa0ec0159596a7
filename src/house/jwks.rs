//! Keeps the public keys of identity providers fresh: read when they are due, or when a token names an unknown one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::feed::text;
use crate::keys::{Jwks, Keys};
use crate::upstream::Upstream;

/// For one reading.
const DEADLINE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(500);

/// Runs as long as the process.
pub async fn follow(keys: Arc<Keys>, upstream: Arc<Upstream>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let all = keys.wanted_jwks();
        for (place, jwks) in all.into_iter().filter(|(place, _)| place.contains("://")) {
            if jwks.is_due() {
                jwks.begin();
                let upstream = upstream.clone();
                tokio::spawn(async move {
                    refresh(&upstream, &place, &jwks).await;
                    jwks.end();
                });
            }
        }
    }
}

async fn refresh(upstream: &Upstream, place: &str, jwks: &Jwks) {
    let read = tokio::time::timeout(DEADLINE, text(upstream, place)).await;
    let read = read.unwrap_or_else(|_| Err("did not answer in time".to_owned()));
    match read.and_then(|document| jwks.take(&document)) {
        Ok(keys) => tracing::debug!(place, keys, "read the keys that tokens are signed with"),
        Err(error) => {
            tracing::warn!(
                place,
                error,
                "the keys that tokens are signed with were not read; those of before go on"
            );
        }
    }
}
