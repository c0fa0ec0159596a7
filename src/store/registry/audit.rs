//! The audit log: entries that are only ever added, each with a keyed hash over itself and the one before.

use serde::Serialize;
use serde_json::Value;

/// The key of the chain. Whoever has the database alone cannot make a chain that holds.
#[derive(Clone)]
pub struct AuditKey([u8; 32]);

/// Who did what.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Who: `admin 127.0.0.1`, `cli root`, `gateway`.
    pub actor: String,
    /// What: `key.create`, `prices.push`.
    pub action: String,
    /// To what: a key's id, a model.
    pub target: String,
    /// What else is to be known. Never a secret.
    pub detail: Value,
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Noted {
    /// Its number, from 1.
    pub seq: u64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub target: String,
    /// What else is to be known, as JSON text.
    pub detail: String,
    /// The hash of the entry before; zeros before the first.
    pub prev: String,
    /// The hash of this one.
    pub hash: String,
}

/// The end of the log at some moment, as it was noted outside of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The last entry's number.
    pub seq: u64,
    /// And its hash.
    pub head: String,
}

/// What came of a look through the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Verdict {
    /// Every entry is as it was written, and none is missing before the last.
    Sound {
        /// How many there are.
        entries: u64,
        /// The last one's hash; noted elsewhere, it proves later that none was cut off at the end.
        head: String,
    },
    /// The chain is broken.
    Broken {
        /// The first entry that does not hold.
        seq: u64,
        /// Why.
        reason: &'static str,
    },
}

/// Before the first entry.
pub(super) const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl AuditKey {
    /// Made from the secret that keys are hashed with.
    pub fn of(pepper: &[u8]) -> Self {
        Self(blake3::derive_key("tollgate 2026 audit log", pepper))
    }

    /// The entry in its place after another one.
    pub(super) fn chain(&self, seq: u64, prev: String, entry: &Entry) -> Noted {
        let mut noted = Noted {
            seq,
            at_ms: entry.at_ms,
            actor: entry.actor.clone(),
            action: entry.action.clone(),
            target: entry.target.clone(),
            detail: entry.detail.to_string(),
            prev,
            hash: String::new(),
        };
        noted.hash = self.hash(&noted);
        noted
    }

    fn hash(&self, noted: &Noted) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&noted.seq.to_le_bytes());
        hasher.update(&noted.at_ms.to_le_bytes());
        // Lengths stand before the texts, so that no two entries run together to the same bytes.
        for text in [&noted.actor, &noted.action, &noted.target, &noted.detail, &noted.prev] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// The first of these entries that is not the one which was noted under its number.
pub(super) fn adrift(anchors: &[Anchor], part: &[Noted]) -> Option<Verdict> {
    let other =
        |noted: &&Noted| anchors.iter().any(|anchor| anchor.seq == noted.seq && anchor.head != noted.hash);
    let noted = part.iter().find(other)?;
    Some(Verdict::Broken { seq: noted.seq, reason: "another entry was noted under its number" })
}

/// Looks through a part of the chain; `before` is what the part before it ended with, for the first part nothing.
///
/// # Errors
/// The entry at which the chain breaks.
pub fn verify(key: &AuditKey, before: Option<&Noted>, part: &[Noted]) -> Result<(), Verdict> {
    let (mut seq, mut prev) = before.map_or((0, BEGINNING), |before| (before.seq, before.hash.as_str()));
    for noted in part {
        let reason = match () {
            () if noted.seq != seq + 1 => Some("an entry before it is missing"),
            () if noted.prev != prev => Some("it does not follow the entry before"),
            () if key.hash(noted) != noted.hash => Some("it was changed, or written with another key"),
            () => None,
        };
        if let Some(reason) = reason {
            return Err(Verdict::Broken { seq: noted.seq, reason });
        }
        (seq, prev) = (noted.seq, &noted.hash);
    }
    Ok(())
}
