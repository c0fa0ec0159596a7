//! Sends what has ended here to the ledger of all gateways, in parcels, and goes on trying while that is away.

use std::sync::Arc;
use std::time::Duration;

use super::central::{Central, Identity};
use super::desk::Desk;
use super::outbox::{self, Outbox, Parcel};
use crate::store::postgres::{Absent, Session};
use crate::store::sqlite::{Sqlite, Trouble};

/// The most rows of one parcel.
const PARCEL: usize = 500;
/// How long rows are gathered before they are sent.
const EVERY: Duration = Duration::from_secs(1);
/// Pauses while the other side is away: doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Rows of the past that are noted at a time, so that those of today need not wait for them.
const REFILL: usize = 2_000;

/// Sends rows until the outbox is closed, and then what is left as far as the other side takes it.
pub async fn ship(desk: Arc<Desk>) {
    let (Some(database), Some(outbox)) = (desk.database().cloned(), desk.outbox().cloned()) else { return };
    let Some(central) = desk.central().cloned() else { return };
    let mut shipper = Shipper { desk, database, outbox, central, session: None, past: Past::Unknown };
    let mut pause = PAUSES.0;
    loop {
        let closing = shipper.outbox.is_closing();
        match shipper.round().await {
            Ok(true) => {
                pause = PAUSES.0;
                continue;
            }
            Ok(false) if closing => return,
            Ok(false) => {
                pause = PAUSES.0;
                shipper.rest(EVERY).await;
            }
            Err(Halt::Absent(absent)) => {
                shipper.session = None;
                shipper.outbox.ill(&absent.to_string());
                shipper.count().await;
                if closing {
                    return;
                }
                shipper.rest(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            // The desk tells of its own database's trouble.
            Err(Halt::Trouble) if closing => return,
            Err(Halt::Trouble) => shipper.rest(EVERY).await,
        }
    }
}

struct Shipper {
    desk: Arc<Desk>,
    database: Sqlite,
    outbox: Arc<Outbox>,
    central: Central,
    session: Option<Session>,
    past: Past,
}

/// What is known of the rows that ended before this process began.
enum Past {
    /// Nothing: it was not asked yet which ledger the other one is.
    Unknown,
    /// It is another one than before: rows after this one are still to be noted.
    Missing(Identity, String),
    /// All that are not sent are noted.
    Noted,
}

enum Halt {
    Absent(Absent),
    Trouble,
}

impl From<Absent> for Halt {
    fn from(absent: Absent) -> Self {
        Self::Absent(absent)
    }
}

impl From<Trouble> for Halt {
    fn from(trouble: Trouble) -> Self {
        tracing::debug!(%trouble, "the outbox cannot be read or written now");
        Self::Trouble
    }
}

impl Shipper {
    async fn rest(&self, pause: Duration) {
        // A hurry is only a shorter pause.
        let _ = tokio::time::timeout(pause, self.outbox.hurry.notified()).await;
    }

    /// Sends one parcel. Says whether there is more.
    async fn round(&mut self) -> Result<bool, Halt> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.meet().await?,
        };
        self.look_back().await?;
        let parcel = self.database.read(|db| outbox::parcel(db, PARCEL)).await?;
        if !parcel.rows.is_empty() {
            self.send(&session, &parcel.rows).await?;
        }
        self.session = Some(session);
        let full = parcel.rows.len() >= PARCEL;
        if parcel.last > 0 {
            self.strike(&parcel).await?;
        }
        self.outbox.well();
        self.count().await;
        Ok(full || matches!(self.past, Past::Missing(..)))
    }

    /// Opens a connection, and finds out which ledger is there.
    async fn meet(&mut self) -> Result<Session, Halt> {
        let session = self.central.session().await?;
        let identity = self.central.identity(&session).await?;
        let known = self.database.read(outbox::destination).await?;
        if known.as_ref() == Some(&identity.id) {
            self.past = Past::Noted;
        } else if !matches!(&self.past, Past::Missing(before, _) if before.id == identity.id) {
            tracing::info!(ledger = identity.id, "all rows that are here go to the ledger of all gateways");
            self.past = Past::Missing(identity, String::new());
        }
        Ok(session)
    }

    /// Notes some of the rows of the past, where the other ledger has not got them.
    async fn look_back(&mut self) -> Result<(), Halt> {
        let Past::Missing(identity, after) = &self.past else { return Ok(()) };
        // Those of today must not come to wait behind all of the past, nor be taken for too many.
        if self.outbox.standing().waiting > REFILL as u64 {
            return Ok(());
        }
        let (identity, after) = (identity.clone(), after.clone());
        let (id, horizon) = (identity.id.clone(), identity.horizon_ms);
        let noted = self.database.write(move |db| outbox::refill(db, &after, horizon, &id, REFILL)).await?;
        self.past = match noted {
            Some(last) => Past::Missing(identity, last),
            None => Past::Noted,
        };
        Ok(())
    }

    /// Sends rows together; if they are refused, one by one, and sets those aside that are at fault.
    async fn send(&self, session: &Session, rows: &[serde_json::Value]) -> Result<(), Halt> {
        match self.central.take(session, rows).await {
            Ok(()) => {}
            Err(Absent::Refused(_)) if rows.len() > 1 => {
                for row in rows {
                    Box::pin(self.send(session, std::slice::from_ref(row))).await?;
                }
                return Ok(());
            }
            Err(Absent::Refused(why)) => {
                let id = rows[0]["id"].as_str().unwrap_or_default().to_owned();
                tracing::error!(id, why, "PostgreSQL refuses a row; it stays in this gateway's own ledger");
                metrics::counter!("tollgate_outbox_refused_total").increment(1);
                let now = i64::try_from(self.desk.now()).unwrap_or(i64::MAX);
                self.database.write(move |db| outbox::set_aside(db, &id, &why, now)).await?;
                return Ok(());
            }
            Err(absent) => return Err(absent.into()),
        }
        self.outbox.sent(rows.len() as u64);
        Ok(())
    }

    async fn strike(&self, parcel: &Parcel) -> Result<(), Halt> {
        let last = parcel.last;
        Ok(self.database.write(move |db| outbox::strike(db, last)).await?)
    }

    async fn count(&self) {
        // If it cannot be read, it stands as it stood.
        if let Ok(count) = self.database.read(outbox::count).await {
            self.outbox.counted(&count, self.desk.now());
        }
    }
}
