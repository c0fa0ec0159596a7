//! The straight line of a request, and the facts that policies see.

mod admission;
mod admit;
mod arms;
mod aside;
mod awaited;
mod batch;
mod beside;
mod cached;
mod ceiling;
mod conversation;
mod door;
mod errands;
mod figures;
mod gather;
#[cfg(test)]
mod golden;
mod heeded;
mod identify;
mod inspect;
mod intake;
mod items;
mod keeping;
mod line;
mod market;
pub mod memory;
mod observe;
mod papers;
mod probe;
mod raw;
mod recall;
mod rehearsal;
mod relay;
mod renamed;
mod repeated;
mod reserve;
mod say;
mod serve;
mod settings;
mod settle;
mod shadow;
#[cfg(test)]
mod simulation;
mod snapshot;
mod vectors;
mod version;
mod watch;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch::Receiver;

pub use admission::Admission;
pub use arms::rolled_back;
pub use aside::Aside;
pub use awaited::{Awaited, Begin, Begun, Refused};
pub use beside::{Beside, Role, Side};
pub use conversation::{Conversation, Takeover, Talk};
pub use door::{Asked, Door, Head, Later, StreamForm};
pub use errands::{Errands, Runner};
pub use figures::{Figures, Terms};
pub use intake::{Ahead, Approach, Intake, Unread};
pub use items::{Items, Named, Told, own_name};
pub use market::Board;
pub use memory::Memory;
pub use probe::probe;
pub use raw::RawBody;
pub use recall::recall;
pub use rehearsal::Rehearsal;
pub use renamed::Rename;
pub use serve::{Arrived, Body, Served};
pub use settings::{
    AfterSunset, CorsSettings, DeadlineSettings, FileSettings, PassthroughSettings, RealtimeSettings,
    RetrySettings, StreamSettings, UploadSettings, VersionSettings,
};
pub use shadow::{Findings, Shadows};
pub use snapshot::{Caching, Pinned, RawRules, Snapshot};
pub use version::{ApiVersion, Retirement};
pub use watch::StreamBody;

use crate::cache::Store;
use crate::caller::Caller;
use crate::clock::{Clock, Dice};
use crate::executor::Executor;
use crate::keys::KeyDesk;
use crate::ledger::Book;
use crate::policy::rollout::Rollout;
use crate::store::sqlite::Sqlite;
use crate::store::{Answers, Decisions, Shelf, Versions};
use crate::telemetry::{AccessLog, Meters};
use crate::tokens::Counter;
use crate::upstream::Upstream;

/// What all workers share.
pub struct Shared {
    /// The snapshot in service; a request keeps the one that it began with.
    pub snapshot: ArcSwap<Snapshot>,
    /// Requests in flight, and the switch that ends streams at the drain's deadline.
    pub admission: Admission,
    /// One line per request.
    pub access_log: AccessLog,
    /// Answers that later requests may refer to.
    pub answers: Arc<Answers>,
    /// What models cost, and how targets fare.
    pub figures: Arc<Figures>,
    /// Records of what was decided.
    pub decisions: Decisions,
    /// Where keys are made and changed, and changes noted.
    pub keys: KeyDesk,
    /// Answers that are given again to the same question.
    pub cache: Arc<Store>,
    /// Answers that are given again to the same `Idempotency-Key`.
    pub repeats: Arc<Store>,
    /// The database, if one is configured.
    pub database: Option<Sqlite>,
    /// The trial of a candidate set of policies.
    pub rollout: Arc<Rollout>,
    /// Sets of policies that were in service.
    pub versions: Arc<Versions>,
    /// Policies that are asked without effect.
    pub shadows: Arc<Shadows>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
}

/// The gateway of one worker thread; clones are the same.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    executor: Arc<Executor>,
    meters: Arc<Meters>,
    dice: Arc<Dice>,
    /// Turns true when running requests must end.
    closing: Receiver<bool>,
}

impl Gateway {
    /// A gateway on this worker's transport. Must be made on the worker's runtime.
    pub fn new(shared: Arc<Shared>, upstream: Arc<Upstream>, dice: Dice) -> Self {
        let (meters, dice) = (Arc::new(Meters::default()), Arc::new(dice));
        let (known, clock) = (shared.figures.of_targets(), shared.clock.clone());
        let executor = Executor::new(upstream, meters.clone(), known, dice.clone(), clock);
        let (executor, closing) = (Arc::new(executor), shared.admission.closing());
        Self { shared, executor, meters, dice, closing }
    }

    /// A client that speaks WebSocket already, and has still to say in its first message who is to answer.
    pub fn await_first(&self, begin: Begin) -> Awaited {
        Awaited::new(begin, self.closing.clone())
    }

    /// The snapshot in service.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// The prices in service.
    pub fn prices(&self) -> Arc<Book> {
        self.shared.figures.prices.book()
    }

    /// Who counts tokens.
    pub fn counter(&self) -> Arc<Counter> {
        self.shared.figures.tokens.clone()
    }

    /// The answers kept for one caller.
    pub fn shelf(&self, caller: &Caller) -> Shelf {
        self.shared.answers.shelf(self.shared.snapshot.load().kept, caller.key_id.clone()).of(caller.owner())
    }
}
