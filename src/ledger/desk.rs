//! The ledger in service: budgets, and the database that remembers what was spent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::budget::{Aliases, Budget, Budgets, Payer, PayerKey, Spent};
use super::central::Central;
use super::intents::{self, Intents, Record};
use super::outbox::{self, Outbox};
use super::owed::Owed;
use super::retention;
use super::row::{End, Row};
use super::tab::{Opening, Tab};
use super::usage::{self, Question, Sum};
use crate::clock::Clock;
use crate::store::sqlite::{Gathering, Sqlite, Trouble, Written};
use crate::store::{Abandoned, OnLoss, StateSettings};
use crate::target::TargetName;

/// A day of UTC.
const DAY_MS: u64 = 86_400_000;

/// The ledger and the budgets; shared by all workers.
pub struct Desk {
    /// What may be spent.
    pub budgets: Budgets,
    /// Answers in the background that nobody has read yet.
    pub owed: Owed,
    database: Option<Sqlite>,
    /// What is written of attempts.
    records: Option<Gathering<Intents>>,
    /// The ledger of all gateways, where there is one, and the rows on their way there.
    central: Option<(Central, Arc<Outbox>)>,
    on_loss: OnLoss,
    clock: Arc<dyn Clock>,
}

impl Desk {
    /// A ledger in this database, or, without one, budgets that forget with the process. What a dead process left open
    /// is closed. What ends is noted for `central`, if there is one. Blocks; meant for the start of a process.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn open(
        database: Option<Sqlite>,
        central: Option<Central>,
        settings: &StateSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Trouble> {
        let ships = central.is_some();
        if let Some(database) = &database {
            let charge = settings.abandoned == Abandoned::Charge;
            let (run, now) = (database.run(), i64::try_from(clock.unix_ms()).unwrap_or(i64::MAX));
            let closed = database
                .write(move |db| {
                    let closed = intents::close_abandoned(db, now, charge, run)?;
                    if ships {
                        outbox::note_abandoned(db, now)?
                    } else {
                        outbox::forget(db)?
                    }
                    Ok(closed)
                })
                .wait()?;
            if closed > 0 {
                tracing::warn!(attempts = closed, charge, "attempts of a process that died were closed");
            }
        }
        let most = settings.postgres.outbox_max;
        let central = central.filter(|_| database.is_some()).map(|central| (central, Outbox::new(most)));
        let records = database.as_ref().map(|database| database.gathering(Intents::new(ships)));
        let (budgets, owed, on_loss) = (Budgets::default(), Owed::default(), settings.on_ledger_loss);
        Ok(Self { budgets, owed, database, records, central, on_loss, clock })
    }

    /// Without database and budgets.
    pub fn closed(clock: Arc<dyn Clock>) -> Self {
        let (budgets, owed, on_loss) = (Budgets::default(), Owed::default(), OnLoss::Open);
        Self { budgets, owed, database: None, records: None, central: None, on_loss, clock }
    }

    /// Whether anything is written down or counted.
    pub fn is_on(&self) -> bool {
        self.database.is_some() || !self.budgets.is_empty()
    }

    /// The database.
    pub fn database(&self) -> Option<&Sqlite> {
        self.database.as_ref()
    }

    /// Rows on their way to the ledger of all gateways.
    pub fn outbox(&self) -> Option<&Arc<Outbox>> {
        self.central.as_ref().map(|(_, outbox)| outbox)
    }

    /// The ledger of all gateways.
    pub fn central(&self) -> Option<&Central> {
        self.central.as_ref().map(|(central, _)| central)
    }

    /// Takes the budgets of a configuration with these aliases; those that are new count what was spent before, by keys that
    /// they or that name them (`keys`, by their ids) too. Blocks where there is something to count; not for workers.
    pub fn configure(
        &self,
        budgets: Vec<Budget>,
        aliases: &Aliases,
        keys: impl FnOnce() -> HashMap<Arc<str>, PayerKey>,
    ) {
        let now = self.clock.unix_ms();
        let Some(since) = self.budgets.configure(budgets, now) else { return };
        let Some(database) = &self.database else { return };
        // What ended before is written before this; in trouble, what is there is read all the same. Waited for on a thread
        // of its own, for a process begins within its runtime.
        let written = database.write(|_| Ok(()));
        std::thread::scope(|scope| drop(scope.spawn(|| written.wait()).join()));
        match spent_since(database, since, now) {
            Ok(mut spent) => {
                let keys = keys();
                for Spent { payer, .. } in &mut spent {
                    payer.alias = aliases.of(&payer.model);
                    let Some(key) = &payer.key else { continue };
                    let known = keys.get(key);
                    payer.key_name = known.map(|key| key.name.clone()).or_else(|| name_of_token(key));
                    payer.named = known.map(|key| key.budgets.clone()).unwrap_or_default();
                }
                self.budgets.recount(spent, now);
            }
            Err(trouble) => {
                tracing::error!(%trouble, "budgets begin at nothing: what was spent is not known")
            }
        }
    }

    /// The tab of a request, where anything is written down or counted.
    pub fn tab(self: &Arc<Self>, opening: impl FnOnce() -> Opening) -> Option<Arc<Tab>> {
        self.is_on().then(|| Tab::new(self.clone(), opening()))
    }

    /// What was used and spent, by the ledger of all gateways, if there is one and `own` is not asked for. `None` without
    /// a ledger.
    ///
    /// # Errors
    /// What keeps the ledger from being read.
    pub async fn sums(&self, question: Question, own: bool) -> Option<Result<Vec<Sum>, String>> {
        let database = self.database()?;
        Some(match self.central().filter(|_| !own) {
            Some(central) => central.sums(&question).await.map_err(|absent| absent.to_string()),
            None => {
                let read = database.read(move |db| usage::sums(db, &question)).await;
                read.map_err(|trouble| trouble.to_string())
            }
        })
    }

    /// Turns rows that are older than `keep` into sums of their days, an hour's at a time. Says how many went.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn tidy(&self, keep: Duration) -> Result<usize, Trouble> {
        let Some(database) = &self.database else { return Ok(0) };
        let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        // Whole days, so that a day is either rows or a sum, but for the one in between.
        let before = self.now().saturating_sub(keep) / DAY_MS * DAY_MS;
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let mut all = 0;
        while let Some(gone) = database.write(move |db| retention::roll_up(db, before)).await? {
            all += gone;
        }
        Ok(all)
    }

    /// The time, in Unix milliseconds.
    pub fn now(&self) -> u64 {
        self.clock.unix_ms()
    }

    pub(super) fn run(&self) -> i64 {
        self.database.as_ref().map_or(0, Sqlite::run)
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        let full = || Trouble::Away("too many rows wait for PostgreSQL".into());
        let outbox = || self.outbox().filter(|outbox| outbox.is_full()).map(|_| full());
        self.database.as_ref()?.trouble().or_else(outbox)
    }

    /// Whether requests go on while the ledger cannot be written.
    pub(super) fn bears(&self, hard: bool) -> bool {
        !hard && self.on_loss == OnLoss::Open
    }

    pub(super) fn fresh_id(&self, now: u64) -> String {
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        let id = uuid::Builder::from_unix_timestamp_millis(now, &random).into_uuid();
        id.simple().to_string()
    }

    pub(super) fn intend(&self, row: &Arc<Row>) -> Option<Written<()>> {
        Some(self.records.as_ref()?.keep(Record::Intent(row.clone())))
    }

    /// What cannot be written now waits; what is lost for good is counted and told by the database.
    pub(super) fn settle(&self, row: &Arc<Row>, end: End) {
        if let Some(records) = &self.records {
            records.tell(Record::Ended(row.clone(), Box::new(end)));
        }
    }
}

/// Tokens stand in no list: their ids begin with the name that all of them have.
fn name_of_token(key: &str) -> Option<Arc<str>> {
    key.starts_with("jwt:").then(|| "jwt".into())
}

/// What was spent since this moment, by everything that budgets tell apart. What ended after `until` in this process has
/// told the budgets by itself.
fn spent_since(database: &Sqlite, since: u64, until: u64) -> Result<Vec<Spent>, Trouble> {
    let [since, until] = [since, until].map(|moment| i64::try_from(moment).unwrap_or(i64::MAX));
    let run = database.run();
    database.read_now(|db| {
        let mut rows = db.prepare(
            "SELECT key, user, team, tags, model, target, opened_ms / 60000 * 60000 AS minute,
                    sum(cost), sum(input + cached_read + cache_write + output),
                    sum(CASE WHEN cost IS NULL AND state IN ('settled', 'estimated') THEN reserved ELSE 0 END)
             FROM attempt WHERE opened_ms >= ?1 AND state <> 'open' AND (run <> ?2 OR closed_ms <= ?3)
             GROUP BY key, user, team, tags, model, target, minute
             UNION ALL
             SELECT nullif(key, ''), nullif(user, ''), nullif(team, ''), tags, model, target, day * 86400000,
                    sum(cost), sum(input + cached_read + cache_write + output), 0
             FROM day WHERE day * 86400000 >= ?1 GROUP BY key, user, team, tags, model, target, day",
        )?;
        let found = rows.query_map([since, run, until], |row| {
            let text = |at: usize| row.get::<_, Option<String>>(at).map(|text| text.map(Into::into));
            let number = |at: usize| {
                row.get::<_, Option<i64>>(at).map(|number| u64::try_from(number.unwrap_or(0)).unwrap_or(0))
            };
            let tags: std::collections::BTreeMap<String, String> =
                serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default();
            let target: String = row.get(5)?;
            let (provider, model) = target.split_once('/').unwrap_or((&target, ""));
            Ok(Spent {
                payer: Payer {
                    key: text(0)?,
                    user: text(1)?,
                    team: text(2)?,
                    tags: tags.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
                    model: row.get::<_, String>(4)?.into(),
                    ..Payer::default()
                },
                target: TargetName { provider: provider.into(), model: model.into() },
                at_ms: number(6)?,
                nano: number(7)?,
                tokens: number(8)?,
                unknown: number(9)?,
            })
        })?;
        found.collect()
    })
}

#[cfg(test)]
mod tests;
