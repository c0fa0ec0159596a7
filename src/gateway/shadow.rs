//! The shadow: policies that are asked about real requests after they were answered, on a thread of its own and without
//! effect. Where they would have decided otherwise, that is counted, kept in the decision records, and shown.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::Snapshot;
use super::heeded::pin;
use crate::clock::Dice;
use crate::facts::market::{Market, Size};
use crate::facts::{Facts, Past, Reads, Visited};
use crate::plan::{Decision, Divergence, DivergenceKind as Kind, Dossier, Rule, View, refusal};
use crate::planner;
use crate::policy::replay::{Difference, difference};
use crate::policy::{Answered, PolicySet};
use crate::store::Decisions;

/// Requests that wait for the shadow; beyond them, the shadow is not asked.
const MOST_WAITING: usize = 512;
/// Bytes of their bodies.
const MOST_BYTES: usize = 64 << 20;
/// Divergences that are kept for people.
const SAMPLES: usize = 100;
/// Divergences are logged at most so often.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Costs differ when they differ by more than this part.
const SAME_COST: f64 = 0.01;

/// The shadow's thread, and what it found.
pub struct Shadows {
    inbox: SyncSender<Message>,
    found: Arc<Found>,
}

enum Message {
    Ask(Box<Question>),
    Flush(SyncSender<()>),
}

/// What came of asking the shadow so far, since its files were taken.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    /// Counts up with each snapshot: what belongs to an older one comes too late.
    #[serde(skip)]
    generation: u64,
    /// Hash of the shadow's texts.
    pub hash: Arc<str>,
    /// Requests that it was asked about.
    pub asked: u64,
    /// Decided the same.
    pub same: u64,
    /// Decided the same, by a rule of another name; part of `same`.
    pub other_rule: u64,
    /// Decided otherwise, in any way.
    pub diverged: u64,
    /// Decided otherwise, by kind; one request may be of several.
    pub route: u64,
    /// One refuses what the other does not.
    pub denial: u64,
    /// Another price.
    pub cost: u64,
    /// Tags, parameters, constraints, limits.
    pub other: u64,
    /// The shadow failed.
    pub failure: u64,
    /// Requests that the shadow was not asked about because it did not keep up.
    pub dropped: u64,
    /// What the requests with known prices cost with the live policies, in dollars.
    pub cost_live_usd: f64,
    /// What they would have cost with the shadow.
    pub cost_shadow_usd: f64,
    /// The last divergences, the newest first.
    pub samples: VecDeque<Arc<Divergence>>,
}

#[derive(Default)]
struct Found {
    findings: Mutex<Findings>,
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// A request that the shadow is asked about.
pub(super) struct Question {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) shadow: Arc<PolicySet>,
    pub(super) version: Option<usize>,
    pub(super) facts: Arc<Facts>,
    pub(super) bytes: usize,
    /// What was decided; `None` where a policy failed that must not be skipped.
    pub(super) decision: Option<Decision>,
    pub(super) rule: Option<Rule>,
    pub(super) reads: Reads,
    pub(super) asked: Vec<Answered>,
    pub(super) pinned: bool,
    /// What was used, once it is known.
    pub(super) size: Option<Size>,
    /// What was seen of the market, once it is known.
    pub(super) visited: Visited,
    /// The record that waits for the shadow's view.
    pub(super) record: Option<(Decisions, Dossier)>,
}

impl Shadows {
    /// Starts the thread. It sleeps while there is no shadow.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start() -> Result<Self, String> {
        let (inbox, messages) = sync_channel(MOST_WAITING);
        let found = Arc::<Found>::default();
        let theirs = found.clone();
        let run = move || attend(&messages, &theirs);
        let thread = std::thread::Builder::new().name("shadow".into()).spawn(run);
        thread.map_err(|error| format!("shadow: {error}"))?;
        Ok(Self { inbox, found })
    }

    /// Asks the shadow, some time. Never waits: what it cannot take is counted and not asked.
    pub(super) fn ask(&self, question: Box<Question>) {
        let bytes = question.bytes;
        let before = self.found.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let refused = if before > MOST_BYTES {
            Some(Message::Ask(question))
        } else {
            self.inbox.try_send(Message::Ask(question)).err().map(|refused| match refused {
                TrySendError::Full(message) | TrySendError::Disconnected(message) => message,
            })
        };
        if let Some(Message::Ask(question)) = refused {
            self.found.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.found.dropped.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("tollgate_policy_shadow_requests_total", "outcome" => "dropped").increment(1);
            if let Some((decisions, dossier)) = question.record {
                decisions.keep(dossier);
            }
        }
    }

    /// What was found since the shadow's files were taken.
    pub fn findings(&self) -> Findings {
        let dropped = self.found.dropped.load(Ordering::Relaxed);
        Findings { dropped, ..self.found.lock().clone() }
    }

    /// Waits until what was asked so far is done, or for so long.
    pub fn flush(&self, patience: Duration) {
        let (done, told) = sync_channel(1);
        if self.inbox.try_send(Message::Flush(done)).is_ok() {
            // In vain only when the thread takes longer.
            let _ = told.recv_timeout(patience);
        }
    }
}

impl Found {
    fn lock(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one answer of the shadow.
    fn note(&self, question: &Question, compared: &Compared) {
        let mut findings = self.lock();
        let (hash, generation) = (question.shadow.hash(), question.snapshot.generation);
        if findings.hash != *hash {
            if generation < findings.generation {
                return;
            }
            self.dropped.store(0, Ordering::Relaxed);
            *findings = Findings { hash: hash.clone(), ..Findings::default() };
        }
        findings.generation = findings.generation.max(generation);
        findings.asked += 1;
        if let Some((live, shadow)) = compared.costs() {
            findings.cost_live_usd += live;
            findings.cost_shadow_usd += shadow;
        }
        let Some(divergence) = &compared.divergence else {
            findings.same += 1;
            findings.other_rule += u64::from(compared.other_rule);
            return;
        };
        findings.diverged += 1;
        for kind in &divergence.kinds {
            let counter = match kind {
                Kind::Route => &mut findings.route,
                Kind::Denial => &mut findings.denial,
                Kind::Cost => &mut findings.cost,
                Kind::Other => &mut findings.other,
                Kind::Failure => &mut findings.failure,
            };
            *counter += 1;
        }
        findings.samples.truncate(SAMPLES - 1);
        findings.samples.push_front(divergence.clone());
    }
}

/// Both views of one request.
struct Compared {
    live: View,
    shadow: View,
    other_rule: bool,
    divergence: Option<Arc<Divergence>>,
}

impl Compared {
    fn costs(&self) -> Option<(f64, f64)> {
        self.live.cost_usd.zip(self.shadow.cost_usd)
    }
}

/// The thread: one request after the other.
fn attend(messages: &Receiver<Message>, found: &Found) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        tracing::error!("the shadow cannot be asked: no runtime");
        return;
    };
    let (mut told, mut untold) = (None::<std::time::Instant>, 0_u64);
    while let Ok(message) = messages.recv() {
        let mut question = match message {
            Message::Ask(question) => question,
            Message::Flush(done) => {
                let _ = done.try_send(());
                continue;
            }
        };
        let compared = runtime.block_on(compare(&mut question));
        found.waiting_bytes.fetch_sub(question.bytes, Ordering::Relaxed);
        found.note(&question, &compared);
        let outcome = if compared.divergence.is_some() { "diverged" } else { "same" };
        metrics::counter!("tollgate_policy_shadow_requests_total", "outcome" => outcome).increment(1);
        for kind in compared.divergence.iter().flat_map(|divergence| &divergence.kinds) {
            metrics::counter!("tollgate_policy_divergences_total", "kind" => kind.as_str()).increment(1);
        }
        if let Some(divergence) = &compared.divergence {
            if told.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                log(divergence, untold);
                (told, untold) = (Some(now()), 0);
            } else {
                untold += 1;
            }
        }
        if let Some((decisions, mut dossier)) = question.record.take() {
            dossier.shadow = compared.divergence.as_deref().cloned().map(Box::new);
            decisions.keep(dossier);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a thread of its own, outside of the runtime's time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn log(divergence: &Divergence, untold: u64) {
    let kinds: Vec<_> = divergence.kinds.iter().map(|kind| kind.as_str()).collect();
    tracing::info!(
        request_id = &*divergence.request_id,
        kinds = kinds.join(","),
        live = divergence.live.shown(),
        shadow = divergence.shadow.shown(),
        failure = divergence.failure.as_deref(),
        untold,
        "the shadow policies decide otherwise"
    );
}

/// Asks the shadow, and holds what it says against what was done.
async fn compare(question: &mut Question) -> Compared {
    let today = question.snapshot.market_of(question.version).clone();
    let visited = std::mem::take(&mut question.visited);
    let market: Arc<dyn Market> = Arc::new(Past::just_now(visited, today));
    let facts = Arc::new(Facts { market, ..(*question.facts).clone() });
    let (known, reads) = (std::mem::take(&mut question.asked), std::mem::take(&mut question.reads));
    let decided = question.shadow.shadow(&facts, known, reads).decide().await;
    let (live, shadow) = (question.decision.as_ref(), decided.decision.as_ref().ok());
    let (of_live, of_shadow) =
        (question.view(live, question.rule.as_ref(), &facts), question.view(shadow, None, &facts));
    let mut kinds = Vec::new();
    let denied = (refusal(live), refusal(shadow));
    let differ = difference(live, shadow);
    if denied.0 != denied.1 {
        kinds.push(Kind::Denial);
    } else if of_live.target != of_shadow.target {
        kinds.push(Kind::Route);
    } else if differ == Difference::Act {
        kinds.push(Kind::Other);
    }
    if let Some((one, other)) = of_live.cost_usd.zip(of_shadow.cost_usd)
        && (one - other).abs() > SAME_COST * one.max(other)
    {
        kinds.push(Kind::Cost);
    }
    let failure = decided.errors.first().map(|error| Arc::from(error.to_string()));
    if failure.is_some() {
        kinds.push(Kind::Failure);
    }
    let divergence = (!kinds.is_empty()).then(|| {
        Arc::new(Divergence {
            request_id: facts.request_id.clone(),
            at_ms: facts.at_ms,
            model: facts.model.clone(),
            shadow_hash: question.shadow.hash().clone(),
            kinds,
            live: of_live.clone(),
            shadow: of_shadow.clone(),
            failure,
        })
    });
    Compared { live: of_live, shadow: of_shadow, other_rule: differ == Difference::Rule, divergence }
}

impl Question {
    /// What a decision means for this request. The same request always falls the same way: what dice decide makes no
    /// difference.
    fn view(&self, decision: Option<&Decision>, rule: Option<&Rule>, facts: &Facts) -> View {
        let mut view = View::of(decision, rule);
        let Some(decision) = decision else { return view };
        let mut decision = decision.clone();
        if self.pinned {
            pin(&mut decision, &self.facts.model);
        }
        let catalogue = self.snapshot.catalogue_of(self.version);
        let planned = planner::plan(catalogue, facts, &decision, &Dice::of(&self.facts.request_id));
        let Some(target) = planned.ok().and_then(|plan| plan.targets.first().map(|t| t.name.to_string()))
        else {
            return view;
        };
        let market = &facts.market;
        view.cost_usd = self.size.and_then(|size| market.cost(&market.offer(&target)?, size));
        view.target = Some(target.into());
        view
    }
}
