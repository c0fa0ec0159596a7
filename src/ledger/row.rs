//! One attempt at an upstream as it stands in the ledger, from intent to end.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use rusqlite::{CachedStatement, params};
use serde::Serialize;
use serde::ser::{SerializeSeq as _, Serializer};

use crate::chat::{Tier, Usage};
use crate::money::Nano;
use crate::plan::Role;

/// How far an attempt is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Under way.
    Open,
    /// Ended, with what the provider says was used.
    Settled,
    /// Ended, with what the gateway counted exactly.
    Counted,
    /// Ended, with what the gateway estimates.
    Estimated,
    /// Its gateway died.
    Abandoned,
    /// Never made: the answer was known.
    Cached,
    /// Ended without anything that is paid for.
    Free,
}

impl State {
    /// The word for it in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Settled => "settled",
            Self::Counted => "counted",
            Self::Estimated => "estimated",
            Self::Abandoned => "abandoned",
            Self::Cached => "cached",
            Self::Free => "free",
        }
    }
}

/// What all attempts of a request have in common.
#[derive(Debug, Clone)]
pub(super) struct Heading {
    pub(super) request: Arc<str>,
    pub(super) endpoint: &'static str,
    pub(super) key: Option<Arc<str>>,
    pub(super) user: Option<Arc<str>>,
    pub(super) team: Option<Arc<str>>,
    /// The application that the key belongs to.
    pub(super) app: Option<Arc<str>>,
    /// The service that counts where an answer names none.
    pub(super) tier: Tier,
    /// A JSON object.
    pub(super) tags: String,
    pub(super) model: Arc<str>,
    pub(super) snapshot: Arc<str>,
    pub(super) price_rev: u64,
    pub(super) run: i64,
}

/// One attempt.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) heading: Arc<Heading>,
    pub(super) n: u32,
    pub(super) role: Role,
    pub(super) provider: Arc<str>,
    pub(super) target: String,
    pub(super) opened_ms: u64,
    /// Nano-dollars that are held for it.
    pub(super) reserved: u64,
    /// Nano-dollars that it counts for if nobody ever settles it.
    pub(super) estimate: Option<u64>,
    /// Tokens of prompt and answer that it counts for then.
    pub(super) likely: (u64, u64),
    /// The sheet on which its intent stands, if it does; see `intents.rs`.
    pub(super) sheet: AtomicI64,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) state: State,
    /// `ok`, or the kind of the fault.
    pub(super) outcome: &'static str,
    pub(super) status: Option<u16>,
    pub(super) closed_ms: u64,
    pub(super) usage: Usage,
    pub(super) cost: Option<Nano>,
    /// What it would have cost, had its answer not been known.
    pub(super) saved: Nano,
}

/// SQLite's whole numbers have a sign; sums beyond it are none that anybody has.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A row that has ended stays as it is: settling twice changes nothing.
pub(super) const SETTLE: &str = "INSERT INTO attempt (id, request, n, role, state, outcome, status, run, opened_ms, closed_ms,
    endpoint, key, user, team, tags, model, provider, target, snapshot, price_rev, reserved, estimate, cost,
    input, cached_read, cache_write, output, reasoning, audio_ms, characters, images, saved, app, tier,
    cached_audio, cached_image, cache_write_long, input_audio, input_image, output_audio, output_image, searches,
    billed_input, billed_output)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
    ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38, ?39, ?40, ?41, ?42, ?43, ?44) ON CONFLICT (id) DO NOTHING";

/// An attempt that begins, as an array in the order of the view `booked`; after what was always shown there, the tokens
/// that it counts for if nobody ever settles it, and what came later: sheets of gateways before end earlier.
impl Serialize for Row {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let heading = &*self.heading;
        let mut list = to.serialize_seq(None)?;
        list.serialize_element(&self.id)?;
        list.serialize_element(&*heading.request)?;
        list.serialize_element(&self.n)?;
        list.serialize_element(self.role.as_str())?;
        list.serialize_element(&heading.run)?;
        list.serialize_element(&whole(self.opened_ms))?;
        list.serialize_element(heading.endpoint)?;
        list.serialize_element(&heading.key.as_deref())?;
        list.serialize_element(&heading.user.as_deref())?;
        list.serialize_element(&heading.team.as_deref())?;
        list.serialize_element(&heading.tags)?;
        list.serialize_element(&*heading.model)?;
        list.serialize_element(&*self.provider)?;
        list.serialize_element(&self.target)?;
        list.serialize_element(&*heading.snapshot)?;
        list.serialize_element(&whole(heading.price_rev))?;
        list.serialize_element(&whole(self.reserved))?;
        list.serialize_element(&self.estimate.map(whole))?;
        list.serialize_element(&whole(self.likely.0))?;
        list.serialize_element(&whole(self.likely.1))?;
        list.serialize_element(&heading.app.as_deref())?;
        list.serialize_element(heading.tier.name())?;
        list.end()
    }
}

impl Row {
    /// Writes down how it ended, by [`SETTLE`]. Says whether that was news.
    pub(super) fn settle(&self, by: &mut CachedStatement<'_>, end: &End) -> rusqlite::Result<bool> {
        let (heading, usage) = (&*self.heading, &end.usage);
        let billed = usage.billed.unwrap_or_default();
        by.execute(params![
            self.id,
            &*heading.request,
            self.n,
            self.role.as_str(),
            end.state.as_str(),
            end.outcome,
            end.status,
            heading.run,
            whole(self.opened_ms),
            whole(end.closed_ms),
            heading.endpoint,
            heading.key.as_deref(),
            heading.user.as_deref(),
            heading.team.as_deref(),
            heading.tags,
            &*heading.model,
            &*self.provider,
            self.target,
            &*heading.snapshot,
            whole(heading.price_rev),
            whole(self.reserved),
            self.estimate.map(whole),
            end.cost.map(|cost| whole(cost.0)),
            whole(usage.input),
            whole(usage.cached_read),
            whole(usage.cache_write),
            whole(usage.output),
            whole(usage.reasoning),
            whole(usage.audio_ms),
            whole(usage.characters),
            whole(usage.images),
            whole(end.saved.0),
            heading.app.as_deref(),
            usage.tier.unwrap_or(heading.tier).name(),
            whole(usage.cached_audio),
            whole(usage.cached_image),
            whole(usage.cache_write_long),
            whole(usage.input_audio),
            whole(usage.input_image),
            whole(usage.output_audio),
            whole(usage.output_image),
            whole(usage.searches),
            whole(billed.input),
            whole(billed.output),
        ])
        .map(|changed| changed > 0)
    }
}
