//! The tab of one request: every attempt is written down before it can be answered, and settled once, whichever way it
//! ends.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::bound::{Bound, Size, Work};
use super::budget::{Denied, Hold, Payer, Refusal, Spent};
use super::desk::Desk;
use super::price::When;
use super::row::{End, Heading, Row, State};
use super::{Book, Known};
use crate::chat::{Tier, Usage};
use crate::facts::market::Scale;
use crate::fault::{Fault, FaultKind, Phase};
use crate::money::Nano;
use crate::plan::Role;
use crate::store::sqlite::{Trouble, Written};
use crate::target::TargetName;

/// How long an answer waits for its intent to be on the disk. Longer than a database that is locked may keep a write.
const PATIENCE: Duration = Duration::from_secs(6);

/// Tokens of an answer by which an attempt is estimated whose gateway died.
const USUAL_ANSWER: u64 = 512;

/// What became of an answer that was made in the background, and that nobody has read.
const UNREAD: &str = "unread";

/// What is known of a request when it is about to go out.
pub struct Opening {
    /// The request's id.
    pub request: Arc<str>,
    /// Who pays.
    pub payer: Payer,
    /// How large it can be.
    pub size: Size,
    /// When it came, and which service it asks for.
    pub when: When,
    /// Where the provider may choose the service.
    pub any_tier: AnyTier,
    /// The prices that count for it.
    pub book: Arc<Book>,
    /// The snapshot that serves it.
    pub snapshot: Arc<str>,
    /// Who knows what targets make of a prompt.
    pub scale: Arc<dyn Scale>,
}

/// Where an answer may be of any service, so that the price of the dearest is held for it.
#[derive(Debug, Clone)]
pub enum AnyTier {
    /// Wherever it comes from: the request names a service.
    Everywhere,
    /// At these providers, whose quirks name one or who chose one before.
    At(Vec<Arc<str>>),
}

impl AnyTier {
    /// Whether it may be at this provider.
    pub fn at(&self, provider: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::At(providers) => providers.iter().any(|one| **one == *provider),
        }
    }
}

/// The tab of one request.
pub struct Tab {
    sheet: Arc<Sheet>,
    attempts: AtomicU32,
    /// The attempt whose answer goes to the client.
    won: Mutex<Option<Entry>>,
    /// How large the request is since its answer broke off.
    rest: OnceLock<Size>,
}

struct Sheet {
    desk: Arc<Desk>,
    heading: Arc<Heading>,
    opening: Opening,
    cap: Option<u64>,
}

/// One attempt on the tab. Dropped without a word, it counts as cancelled: what was sent is estimated.
pub struct Entry {
    sheet: Arc<Sheet>,
    target: TargetName,
    row: Arc<Row>,
    known: Option<Arc<Known>>,
    hold: Option<Hold>,
    /// Tokens that the target is likely to count in the prompt.
    prompt: u64,
    /// Tokens of prompt and answer that were held for it at most.
    most: (u64, Option<u64>),
    /// It asks for nothing, so that nothing is paid for, however it ends.
    is_look: bool,
    written: Option<Written<()>>,
    /// Whether it was told how it ended.
    over: bool,
    /// Whether the request went out, where that is not sure: chaos may hold it back.
    sent: Option<Arc<AtomicBool>>,
    /// The service that answers, where that is known.
    tier: Option<Tier>,
}

impl Tab {
    pub(super) fn new(desk: Arc<Desk>, opening: Opening) -> Arc<Self> {
        let heading = heading(&opening, desk.run());
        let cap = desk.budgets.usual_cap(&opening.payer);
        let sheet = Arc::new(Sheet { desk, heading: Arc::new(heading), opening, cap });
        let (attempts, won, rest) = (AtomicU32::new(0), Mutex::default(), OnceLock::new());
        Arc::new(Self { sheet, attempts, won, rest })
    }

    /// An attempt is about to begin: its worst case is held, and its intent is on its way to the disk.
    ///
    /// # Errors
    /// The budget that cannot bear it; a ledger that cannot be written, where that is not to be borne.
    pub async fn open(&self, target: &TargetName, preset: Option<&str>, role: Role) -> Result<Entry, Fault> {
        self.open_sized(target, preset, role, self.size()).await
    }

    /// The same for an attempt of another size than the request's.
    ///
    /// # Errors
    /// As above.
    pub async fn open_sized(
        &self,
        target: &TargetName,
        preset: Option<&str>,
        role: Role,
        size: Size,
    ) -> Result<Entry, Fault> {
        let Sheet { desk, heading, opening, cap } = &*self.sheet;
        let now = desk.now();
        let known = opening.book.of(target, preset);
        let size = size.at(known.as_deref());
        let price = known.as_ref().and_then(|known| known.price());
        let model_most = known.as_ref().and_then(|known| known.model.max_output).map(u64::from);
        let any_tier = opening.any_tier.at(&target.provider);
        let bound = Bound::of(&size, price, opening.when, any_tier, *cap, model_most);
        let reserved = if desk.budgets.is_shared() {
            // Boxed, as all that few gateways need.
            Box::pin(desk.budgets.reserve_among_all(&opening.payer, target, &bound, now)).await
        } else {
            desk.budgets.reserve(&opening.payer, target, &bound, now).map_err(Denied::Refused)
        };
        let hold = reserved.map_err(|denied| denied_fault(&denied, target, now))?;
        if let Some(trouble) = desk.trouble()
            && !desk.bears(hold.hard)
        {
            desk.budgets.settle(hold, Some(0), 0, now);
            return Err(unwritable(&trouble));
        }
        let n = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let output = bound.output.unwrap_or(0).min(USUAL_ANSWER);
        let prompt = opening.scale.likely(target, size.prompt);
        let likely = Usage { input: prompt, output, ..Usage::default() };
        let is_look = size.work.is_look();
        let estimate = || price?.estimate(&likely, opening.when).map(|nano| nano.0);
        let row = Row {
            id: desk.fresh_id(now),
            heading: heading.clone(),
            n,
            role,
            provider: target.provider.clone(),
            target: target.to_string(),
            opened_ms: now,
            reserved: hold.nano,
            estimate: if is_look { Some(0) } else { estimate() },
            likely: (likely.input, likely.output),
            sheet: AtomicI64::new(0),
        };
        let row = Arc::new(row);
        let written = desk.intend(&row);
        let sheet = self.sheet.clone();
        // Nothing is held for what was made before, and it costs what it costs.
        let prompt_most = if size.work == Work::Made { u64::MAX } else { bound.prompt };
        let most = (prompt_most, hold.cap.map(|each| each.saturating_mul(bound.choices)).or(bound.output));
        let hold = Some(hold);
        let target = target.clone();
        let (over, sent, tier) = (false, None, None);
        Ok(Entry { sheet, target, row, known, hold, prompt, most, is_look, written, over, sent, tier })
    }

    /// How large the request can be, with what was said of its answer already.
    pub fn size(&self) -> Size {
        self.rest.get().copied().unwrap_or(self.sheet.opening.size)
    }

    /// An estimate within what was held for the attempt whose answer goes to the client: nothing that nobody counted is
    /// dearer than its worst case.
    pub fn within(&self, usage: Usage) -> Usage {
        let won = self.won.lock().unwrap_or_else(PoisonError::into_inner);
        won.as_ref().map_or(usage, |entry| entry.within(usage))
    }

    /// The answer that goes to the client broke off after `said` bytes, and others are asked to go on with it: they read
    /// that much more, and the attempt is settled by what it used. That comes back, within what was held for it, and what
    /// it cost, where that is known: what is paid for in advance is taken once.
    pub fn broke(&self, usage: Usage, fault: &Fault, said: u64) -> (Usage, Option<Nano>) {
        let whole = self.size();
        self.rest.get_or_init(|| whole.after(&usage, said));
        let won = self.won.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(entry) = won else { return (usage, None) };
        let usage = entry.within(usage);
        (usage, entry.withhold(usage, fault))
    }

    /// The request is over, and its answer is made in the background: what is held for it stays held until that is read,
    /// and for `keep` after the last look at most. `lasting`: whoever reads it later books it then.
    pub fn owe(&self, id: Box<str>, keep: Duration, lasting: bool) {
        let won = self.won.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(entry) = won {
            self.sheet.desk.owed.add(entry, id, keep, lasting);
        }
    }

    /// The request is over: the attempt whose answer the client got, or got the beginning of, is settled.
    pub fn close(&self, closing: Closing) {
        let won = self.won.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(entry) = won {
            entry.settle(closing);
        }
    }
}

impl Desk {
    /// A request is answered with what was known: a row without an attempt, for what it would have cost.
    pub fn given_again(&self, opening: impl FnOnce() -> Opening, target: &str, saved: Option<Nano>) {
        if self.database().is_none() {
            return;
        }
        let (opening, now) = (opening(), self.now());
        let row = Row {
            id: self.fresh_id(now),
            heading: Arc::new(heading(&opening, self.run())),
            n: 1,
            role: Role::Primary,
            provider: target.split_once('/').map_or(target, |(provider, _)| provider).into(),
            target: target.to_owned(),
            opened_ms: now,
            reserved: 0,
            estimate: None,
            likely: (0, 0),
            sheet: AtomicI64::new(0),
        };
        let row = Arc::new(row);
        let end = End {
            state: State::Cached,
            outcome: "ok",
            status: Some(200),
            closed_ms: now,
            usage: Usage::default(),
            cost: Some(Nano(0)),
            saved: saved.unwrap_or_default(),
        };
        self.settle(&row, end);
    }
}

fn heading(opening: &Opening, run: i64) -> Heading {
    let payer = &opening.payer;
    Heading {
        request: opening.request.clone(),
        endpoint: payer.endpoint.as_str(),
        key: payer.key.clone(),
        user: payer.user.clone(),
        team: payer.team.clone(),
        app: payer.app.clone(),
        tier: opening.when.tier,
        tags: tags(&payer.tags),
        model: payer.model.clone(),
        snapshot: opening.snapshot.clone(),
        price_rev: opening.book.revision,
        run,
    }
}

/// How an attempt ended that was answered.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    /// What was used, where that is known.
    pub usage: Option<Usage>,
    /// What it cost, where that is known.
    pub cost: Option<Nano>,
    /// `ok`, or what became of it.
    pub outcome: &'static str,
    /// The status that the upstream, or the client, saw.
    pub status: Option<u16>,
}

impl Entry {
    /// The limit that has to stand in the request, for each choice.
    pub fn cap(&self) -> Option<u64> {
        self.hold.as_ref()?.cap
    }

    /// This service answers it, as far as request and head of the answer tell.
    pub fn served_in(&mut self, tier: Tier) {
        self.tier = Some(tier);
    }

    /// As long as `sent` is false, nothing went out, and nothing can cost.
    pub fn goes_out_when(&mut self, sent: Arc<AtomicBool>) {
        self.sent = Some(sent);
    }

    /// Waits until the intent is on the disk. The client hears nothing before.
    ///
    /// # Errors
    /// A ledger that cannot be written, where that is not to be borne.
    pub async fn durable(&mut self) -> Result<(), Fault> {
        let Some(written) = self.written.take() else { return Ok(()) };
        let trouble = match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(trouble)) => trouble,
            Err(_) => Trouble::Away("it takes too long".into()),
        };
        let hard = self.hold.as_ref().is_some_and(|hold| hold.hard);
        if self.sheet.desk.bears(hard) { Ok(()) } else { Err(unwritable(&trouble)) }
    }

    /// The attempt was answered, and the answer goes to the client. It is settled when the request is.
    pub fn win(self, tab: &Tab) {
        let before = tab.won.lock().unwrap_or_else(PoisonError::into_inner).replace(self);
        // There is one winner; whoever was it before is settled as one who lost.
        drop(before);
    }

    /// The attempt failed before anything of it went to the client.
    pub fn fail(mut self, fault: &Fault) {
        let outcome = fault.kind.as_str();
        if is_free(fault) {
            let closing = Closing { usage: None, cost: Some(Nano(0)), outcome, status: fault.status };
            let usage = Usage { tier: self.tier, ..Usage::default() };
            return self.finish(State::Free, closing, usage);
        }
        self.estimate(outcome, fault.status);
    }

    /// The attempt was answered, and is paid for by what it used, whatever becomes of its answer.
    /// What it cost comes back, where that is known: what is paid for in advance is taken once.
    pub fn used(self, usage: Option<Usage>, status: u16) -> Option<Nano> {
        let usage = usage.map(|usage| self.within(usage));
        let cost = usage.and_then(|usage| self.price(&usage));
        self.settle(Closing { usage, cost, outcome: "ok", status: Some(status) });
        cost
    }

    /// What the answer that was made in the background used is booked in the row of who read it.
    pub fn settled_elsewhere(self) {
        let (usage, cost) = (Some(Usage::nothing()), Some(Nano(0)));
        self.settle(Closing { usage, cost, outcome: "ok", status: Some(200) });
    }

    /// Nobody has read the answer that was made in the background: it is estimated, as if its gateway had died. What it
    /// cost comes back.
    pub fn unread(mut self) -> Option<Nano> {
        let (input, output) = self.row.likely;
        let usage = Usage { input, output, estimated: true, tier: self.tier, ..Usage::default() };
        let usage = self.within(usage);
        let (cost, status) = (self.price(&usage), Some(200));
        let closing = Closing { usage: Some(usage), cost, outcome: UNREAD, status };
        self.finish(State::Estimated, closing, usage);
        cost
    }

    /// Whose answer it is.
    pub(super) fn provider(&self) -> &Arc<str> {
        &self.target.provider
    }

    /// The attempt was answered, and nobody gets the answer. It is paid for all the same. What it cost comes back.
    pub fn withhold(self, usage: Usage, fault: &Fault) -> Option<Nano> {
        let usage = self.within(usage);
        let (cost, outcome) = (self.price(&usage), fault.kind.as_str());
        self.settle(Closing { usage: Some(usage), cost, outcome, status: fault.status });
        cost
    }

    fn price(&self, usage: &Usage) -> Option<Nano> {
        let Opening { book, when, .. } = &self.sheet.opening;
        book.cost_at(&self.target, self.known.as_deref(), usage, *when)
    }

    /// The attempt ended with this use.
    pub fn settle(mut self, closing: Closing) {
        let Some(usage) = closing.usage else {
            if closing.cost.is_some() {
                return self.finish(State::Settled, closing, Usage::default());
            }
            return self.estimate(closing.outcome, closing.status);
        };
        let state = if usage.estimated { State::Estimated } else { State::Settled };
        if state == State::Settled
            && self.most.1.is_some_and(|most| usage.output.saturating_sub(usage.reasoning) > most)
        {
            self.doubt(&usage);
        }
        self.finish(state, closing, usage);
    }

    /// More was reported than can have been answered. It is booked all the same: the provider will bill it.
    #[cold]
    fn doubt(&self, usage: &Usage) {
        let (request_id, target, most) = (&*self.sheet.opening.request, &self.target, self.most.1);
        tracing::warn!(request_id, upstream = %target, reported = usage.output, most, "a provider reports more tokens than an answer can have");
        metrics::counter!("tollgate_usage_doubtful_total", "provider" => target.provider.to_string())
            .increment(1);
    }

    /// An estimate within what was held.
    fn within(&self, usage: Usage) -> Usage {
        if !usage.estimated {
            return usage;
        }
        let (prompt, output) = self.most;
        Usage {
            input: usage.input.min(prompt),
            output: usage.output.min(output.unwrap_or(u64::MAX)),
            ..usage
        }
    }

    /// Nobody says what was used: the prompt was sent, and no answer is known.
    fn estimate(&mut self, outcome: &'static str, status: Option<u16>) {
        if self.is_look {
            let closing = Closing { usage: None, cost: Some(Nano(0)), outcome, status };
            return self.finish(State::Free, closing, Usage::default());
        }
        let usage = Usage { input: self.prompt, estimated: true, tier: self.tier, ..Usage::default() };
        let usage = self.within(usage);
        let cost = self.price(&usage);
        let closing = Closing { usage: Some(usage), cost, outcome, status };
        self.finish(State::Estimated, closing, usage);
    }

    /// What it cost, for budgets that did not know of it when it began.
    #[cold]
    fn spent(&self, hold: &Hold, closing: &Closing, usage: &Usage) -> Spent {
        Spent {
            payer: self.sheet.opening.payer.clone(),
            target: self.target.clone(),
            at_ms: self.row.opened_ms,
            nano: closing.cost.map_or(0, |cost| cost.0),
            tokens: usage.total(),
            unknown: if closing.cost.is_none() { hold.nano } else { 0 },
        }
    }

    fn finish(&mut self, state: State, closing: Closing, usage: Usage) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let unsent = self.sent.as_ref().is_some_and(|sent| !sent.load(Ordering::Relaxed));
        let (state, closing, usage) = match unsent {
            true => (State::Free, Closing { usage: None, cost: Some(Nano(0)), ..closing }, Usage::default()),
            false => (state, closing, usage),
        };
        let desk = &self.sheet.desk;
        let now = desk.now();
        if let Some(hold) = self.hold.take() {
            if desk.budgets.came_since(self.row.opened_ms) {
                desk.budgets.count_late(&hold, &self.spent(&hold, &closing, &usage), now);
            }
            desk.budgets.settle(hold, closing.cost.map(|cost| cost.0), usage.total(), now);
        }
        let Closing { cost, outcome, status, .. } = closing;
        let saved = Nano(0);
        desk.settle(&self.row, End { state, outcome, status, closed_ms: now, usage, cost, saved });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.over {
            self.estimate("cancelled", None);
        }
    }
}

/// Whether nothing was used: the request never got there, or was answered with a refusal.
pub fn is_free(fault: &Fault) -> bool {
    match fault.kind {
        FaultKind::Timeout(Phase::Connect) => true,
        // A connection that ended before the answer may have carried the whole request.
        FaultKind::Unreachable => !fault.sent,
        // The provider got the request and may have worked on it.
        FaultKind::Timeout(_) | FaultKind::Truncated | FaultKind::Cancelled => false,
        FaultKind::Malformed => fault.status.is_some_and(|status| status >= 300),
        FaultKind::Unavailable => false,
        _ => true,
    }
}

/// Why nothing was held, in words for the client.
fn denied_fault(denied: &Denied, target: &TargetName, now: u64) -> Fault {
    let name = match denied {
        Denied::Refused(refusal) => &refusal.standing.name,
        Denied::Away(name) => name,
    };
    metrics::counter!("tollgate_budget_refusals_total", "budget" => name.to_string()).increment(1);
    match denied {
        Denied::Refused(refusal) => refused(refusal, target, now),
        Denied::Away(name) => {
            let text = format!(
                "budget `{name}` is counted over all gateways, which cannot be asked now, and this gateway's share of it is used up"
            );
            Fault::new(FaultKind::Unavailable, text)
                .code("budget_unavailable")
                .after(Some(Duration::from_secs(1)))
        }
    }
}

/// A budget's refusal, in words for the client.
fn refused(refusal: &Refusal, target: &TargetName, now: u64) -> Fault {
    let Refusal { standing, wanted, passing, status } = refusal;
    let shown = |amount| super::budget::shown(standing.measure, amount);
    let part = if standing.part.is_empty() { String::new() } else { format!(" ({})", standing.part) };
    let period = match (standing.per, standing.rolling) {
        ("total", _) => " in all".to_owned(),
        (per, true) => format!(" within a {per}"),
        (per, false) => format!(" a {per}"),
    };
    let mut text = format!("budget `{}`{part} of {}{period}: ", standing.name, shown(standing.limit));
    let resets = standing.resets_ms.map(|ms| (ms, Duration::from_millis(ms.saturating_sub(now))));
    let Some(wanted) = wanted else {
        text.push_str(&format!(
            "`{target}` has no known price, so nobody knows what the request would cost; set one under `prices.models`"
        ));
        return Fault::new(FaultKind::Budget, text).code("price_unknown").status(status.unwrap_or(402));
    };
    text.push_str(&format!("{} are spent", shown(standing.used)));
    if standing.held > 0 {
        text.push_str(&format!(", {} are held for requests under way", shown(standing.held)));
    }
    text.push_str(&format!(", and this request may take {}", shown(*wanted)));
    let (after, usual) = match resets {
        _ if *passing => (Some(Duration::from_secs(1)), 429),
        Some((_, left)) if left <= Duration::from_secs(60) => (Some(left), 429),
        _ => (None, 402),
    };
    match resets.and_then(|(ms, _)| jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()) {
        _ if *passing => text.push_str("; try again when one of them has ended"),
        Some(at) => text.push_str(&format!("; it resets at {at:.0}")),
        None => text.push_str("; it does not reset"),
    }
    let after = if status.unwrap_or(usual) == 429 { after.or(resets.map(|(_, left)| left)) } else { after };
    Fault::new(FaultKind::Budget, text).status(status.unwrap_or(usual)).after(after)
}

fn unwritable(trouble: &Trouble) -> Fault {
    tracing::debug!(%trouble, "a request was refused because the ledger cannot be written");
    Fault::new(
        FaultKind::Unavailable,
        "the ledger cannot be written, and this request must not go unrecorded",
    )
    .code("ledger_unavailable")
}

/// Tags as a JSON object with sorted names; of several values the last one counts.
fn tags(tags: &[(Arc<str>, Arc<str>)]) -> String {
    if tags.is_empty() {
        return "{}".to_owned();
    }
    let sorted: std::collections::BTreeMap<&str, &str> = tags.iter().map(|(k, v)| (&**k, &**v)).collect();
    serde_json::to_string(&sorted).unwrap_or_else(|_| "{}".to_owned())
}
