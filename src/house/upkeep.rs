//! The upkeep of the ledger: old rows become sums, and all of them go to the ledger of all gateways, where there is one.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::House;
use super::secrets::Secrets;
use super::sources::directory;
use crate::ledger::{self, Central, Desk};
use crate::store::postgres::{Password, Postgres};
use crate::store::redis::Redis;
use crate::upstream::trusting;

/// How often old rows are looked for.
const EVERY: Duration = Duration::from_secs(3_600);

/// How often answers are looked for that nobody has read.
const LOOK: Duration = Duration::from_secs(1);

impl House {
    /// The ledger of all gateways; `None` where the configuration names none. Nobody connects yet. Blocks.
    ///
    /// # Errors
    /// When its address or its certificates are none: the setting and what is wrong with it.
    pub fn central(&self) -> Result<Option<Central>, String> {
        let state = &self.checked.config.state;
        let Some(place) = state.shared().map_err(|error| format!("state.ledger: {error}"))? else {
            return Ok(None);
        };
        let settings = &state.postgres;
        let tls = place.tls.then(|| trusting(settings.roots.as_deref())).transpose();
        let tls = tls.map_err(|error| format!("state.postgres.roots: {error}"))?;
        let dir = directory(self.file.as_deref()).to_owned();
        let (keystore, vaults) = (self.checked.config.keystore.clone(), self.vaults.clone());
        let password = settings.password.clone().map(|reference| -> Password {
            Arc::new(move || {
                let secrets = Secrets::new(&dir).with_keystore(&keystore).with_vaults(&vaults);
                secrets.resolve(&reference).map_err(|error| format!("state.postgres.password: {error}"))
            })
        });
        let name = settings.gateway.clone().unwrap_or_else(machine);
        Ok(Some(Central::new(Postgres::new(&place, tls, password, settings.timeout.0), &name)))
    }
}

/// What this machine is called.
fn machine() -> String {
    let name =
        fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    let name = name.ok().or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "gateway".to_owned() } else { name.to_owned() }
}

/// The tasks that keep the ledger.
pub struct Upkeep {
    desk: Arc<Desk>,
    redis: Option<Arc<Redis>>,
    shipping: JoinHandle<()>,
}

impl Upkeep {
    /// Starts them; rows are kept for `keep`. In `redis`, gateways tell each other of answers in the background.
    pub fn start(desk: &Arc<Desk>, keep: Duration, redis: Option<Arc<Redis>>) -> Self {
        tokio::spawn(tidy(desk.clone(), keep));
        tokio::spawn(forgive(desk.clone(), redis.clone()));
        Self { desk: desk.clone(), redis, shipping: tokio::spawn(ledger::ship(desk.clone())) }
    }

    /// Settles what nobody will read any more, and sends what still waits, as far as it goes in this time.
    pub async fn end(self, patience: Duration) {
        self.desk.owed.close(self.redis.as_deref()).await;
        let (Some(database), Some(outbox)) = (self.desk.database(), self.desk.outbox()) else { return };
        let last = async {
            // What was settled last stands in the outbox when this does. A database in trouble says so by itself.
            let _ = database.write(|_| Ok(())).await;
            outbox.close();
            // A task that was given up has said why.
            let _ = self.shipping.await;
        };
        if tokio::time::timeout(patience, last).await.is_err() || outbox.standing().waiting > 0 {
            let waiting = outbox.standing().waiting;
            tracing::warn!(waiting, "rows wait on the disk for PostgreSQL, until this gateway starts again");
        }
    }
}

/// Settles answers in the background that nobody has read in time.
async fn forgive(desk: Arc<Desk>, redis: Option<Arc<Redis>>) {
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        if let Some(redis) = &redis {
            desk.owed.hear(redis).await;
        }
        let answers = desk.owed.forgive(tokio::time::Instant::now(), redis.as_deref()).await;
        if answers > 0 {
            tracing::warn!(answers, "answers in the background that nobody has read were estimated");
        }
    }
}

/// Rolls up rows whose time has come.
async fn tidy(desk: Arc<Desk>, keep: Duration) {
    if desk.database().is_none() {
        return;
    }
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        match desk.tidy(keep).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "old rows of the ledger became sums of their days"),
            Err(trouble) => tracing::warn!(%trouble, "old rows of the ledger stay for now"),
        }
        let Some(central) = desk.central() else { continue };
        match central.tidy(desk.now(), keep).await {
            Ok(0) => {}
            Ok(rows) => {
                tracing::info!(rows, "old rows of the ledger of all gateways became sums of their days")
            }
            Err(absent) => tracing::warn!(%absent, "old rows of the ledger of all gateways stay for now"),
        }
    }
}
