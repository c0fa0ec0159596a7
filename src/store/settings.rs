//! Settings of what is kept: answers for `previous_response_id`, records of decisions, the database.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Bounds;
use super::postgres::Place;
use super::redis::RedisSettings;
use crate::settings::{Period, SecretRef, Size};

/// Answers of the Responses API that are kept, in memory, for `previous_response_id` and `GET /v1/responses/{id}`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseSettings {
    /// How long an answer is kept after it was last used; `0s` keeps none.
    pub keep: Period,
    /// The most answers that are kept; those not used for longest go first. 0 keeps none.
    #[schemars(range(max = 10_000_000))]
    pub max_entries: usize,
    /// Memory for all kept answers and their requests together; those not used for longest go first.
    pub max_bytes: Size,
}

impl Default for ResponseSettings {
    fn default() -> Self {
        Self { keep: Period::secs(3_600), max_entries: 10_000, max_bytes: Size(256 << 20) }
    }
}

impl From<&ResponseSettings> for Bounds {
    fn from(settings: &ResponseSettings) -> Self {
        Self { keep: settings.keep.0, entries: settings.max_entries, bytes: settings.max_bytes.0 }
    }
}

/// Records of decisions, for `/admin/v1/decisions` and `tollgate policy explain|replay|simulate`. They hold no prompt
/// and no answer. A plain string is the directory.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionSettings {
    /// Directory of the records, made if it is not there. Without one, only the last decisions are kept, in memory.
    pub dir: Option<PathBuf>,
    /// How long records are kept on disk.
    pub keep: Period,
    /// Room for all records on disk, at least `1MiB`; the oldest go first.
    pub max_size: Size,
    /// Share of the requests that is recorded on disk, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: f64,
    /// Whether prompts are recorded, too, so that a new policy can be asked about their text.
    pub text: bool,
    /// Headers that are recorded whether or not a policy reads them. Of other headers, only those that one reads are.
    pub headers: Vec<String>,
    /// The most decisions that are kept in memory; 0 keeps none.
    #[schemars(range(max = 100_000))]
    pub recent: usize,
    /// Whether clients may ask how a request was decided, with `x-tollgate-explain: 1`.
    pub explain: bool,
}

impl Default for DecisionSettings {
    fn default() -> Self {
        Self {
            dir: None,
            keep: Period::secs(7 * 86_400),
            max_size: Size(1 << 30),
            sample: 1.0,
            text: false,
            headers: vec!["user-agent".into(), "x-tollgate-data-class".into(), "x-tollgate-tier".into()],
            recent: 1_000,
            explain: true,
        }
    }
}

/// What is kept for good. Without `ledger`, nothing is: the gateway needs no directory of its own.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct StateSettings {
    /// The database of ledger, virtual keys and audit log: `sqlite:./data/tollgate.db`. Its directory is made if it is
    /// not there. One gateway at a time may have it open. With `postgres://USER@HOST/DATABASE`, the rows of all gateways
    /// come together there, by way of a file of each (`postgres.outbox`).
    pub ledger: Option<String>,
    /// How the ledger of all gateways is reached, and where rows wait for it.
    pub postgres: PostgresSettings,
    /// What happens to requests that no budget counts while the ledger cannot be written: they go on and their rows
    /// wait in memory (`open`), or they are refused with 503 (`closed`). Requests that a hard budget counts are always
    /// refused then.
    pub on_ledger_loss: OnLoss,
    /// What attempts cost that were under way when a gateway died: what they were estimated at (`charge`), or nothing
    /// (`void`).
    pub abandoned: Abandoned,
    /// The most rows that wait in memory to be written. Rows beyond them are lost, and counted.
    #[schemars(range(min = 1_000, max = 10_000_000))]
    pub spool: usize,
    /// How long the rows of single attempts are kept. Sums by day are kept for good.
    pub keep: Period,
    /// What several gateways share over one Redis or Valkey. Without it, each counts for itself.
    pub redis: Option<RedisSettings>,
}

/// A ledger in PostgreSQL, shared by gateways.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresSettings {
    /// The user's password. It is read anew for every connection.
    pub password: Option<SecretRef>,
    /// A file (PEM) with certificates of authorities beyond those of the system. Connections are encrypted and the
    /// certificate checked, unless the database is on this machine or the address says `sslmode=disable`.
    pub roots: Option<PathBuf>,
    /// The gateway's own file: every row stands there, durably, before its answer goes out, and is sent on from there.
    pub outbox: PathBuf,
    /// How many rows may wait to be sent. Beyond that, what happens is what happens while the ledger cannot be
    /// written; rows are not lost, and go on to be sent.
    #[schemars(range(min = 1_000))]
    pub outbox_max: u64,
    /// How long connecting, and each call, may take.
    pub timeout: Period,
    /// How this gateway is called in the ledger; the machine's name unless it is written.
    pub gateway: Option<String>,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            password: None,
            roots: None,
            outbox: "./data/tollgate.db".into(),
            outbox_max: 1_000_000,
            timeout: Period::secs(10),
            gateway: None,
        }
    }
}

/// What happens while the ledger cannot be written.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// Requests go on; what they used waits in memory.
    #[default]
    Open,
    /// Requests are refused.
    Closed,
}

/// What becomes of attempts whose gateway died.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Abandoned {
    /// They cost what they were estimated at.
    #[default]
    Charge,
    /// They cost nothing.
    Void,
}

impl Default for StateSettings {
    fn default() -> Self {
        Self {
            ledger: None,
            postgres: PostgresSettings::default(),
            on_ledger_loss: OnLoss::Open,
            abandoned: Abandoned::Charge,
            spool: 65_536,
            keep: Period::secs(400 * 86_400),
            redis: None,
        }
    }
}

impl StateSettings {
    /// The gateway's own database file, if one is configured.
    ///
    /// # Errors
    /// When it is none that is known: what to write instead.
    pub fn database(&self) -> Result<Option<PathBuf>, String> {
        let Some(written) = &self.ledger else { return Ok(None) };
        if self.is_shared() {
            return self.shared().map(|_| Some(self.postgres.outbox.clone()));
        }
        match written.split_once(':') {
            Some(("sqlite", path)) if path.starts_with(':') => Err(
                "a ledger in memory keeps nothing; leave `state.ledger` out, and budgets count without one"
                    .to_owned(),
            ),
            Some(("sqlite", path)) if !path.trim_matches('/').is_empty() => Ok(Some(path.into())),
            _ => Err("write `sqlite:PATH`, for example `sqlite:./data/tollgate.db`, or \
                      `postgres://USER@HOST/DATABASE`"
                .to_owned()),
        }
    }

    /// Whether the ledger is one of several gateways.
    pub fn is_shared(&self) -> bool {
        let written = self.ledger.as_deref().unwrap_or_default();
        written.starts_with("postgres:") || written.starts_with("postgresql:")
    }

    /// Where the ledger of all gateways is, if there is one.
    ///
    /// # Errors
    /// What is wrong with its address.
    pub fn shared(&self) -> Result<Option<Place>, String> {
        let written = self.ledger.as_ref().filter(|_| self.is_shared());
        written.map(|written| written.parse()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_a_file_or_a_database_that_is_known() {
        for (ledger, known) in [
            ("sqlite:./data/t.db", true),
            ("sqlite:t.db", true),
            ("sqlite::memory:", false),
            ("sqlite:", false),
            ("t.db", false),
            ("mysql://x", false),
            ("postgres://u@h/d", true),
        ] {
            let settings = StateSettings { ledger: Some(ledger.into()), ..StateSettings::default() };
            assert_eq!(settings.database().is_ok(), known, "{ledger}");
        }
    }
}
