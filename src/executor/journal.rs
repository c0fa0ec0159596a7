//! What happened to a request so far. Shared with the request's settlement, so that nothing is lost when the client
//! goes away in the middle of an attempt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::chat::{Loss, Tier, Usage};
use crate::fault::{Fault, FaultKind};
use crate::ledger::is_free;
use crate::money::Nano;
use crate::plan::{AttemptRecord, Role};
use crate::providers::{Dialect, Target};
use crate::target::TargetName;

/// The attempts of one request.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    attempts: Vec<AttemptRecord>,
    /// Attempts under way; more than one where they are raced.
    running: Vec<Running>,
    /// Attempts begun so far.
    begun: u32,
    /// Since when time is not ours: an attempt is under way, or a pause before the next.
    away: Option<Instant>,
    upstream: Duration,
    /// When the last attempt that succeeded began, and how long it took to succeed.
    good: Option<(Instant, Duration)>,
    /// What the last attempt to begin, or the one that succeeded, could not carry.
    lost: Vec<Loss>,
    /// What no attempt can carry.
    unset: Vec<Loss>,
    /// What its target speaks.
    dialect: Option<Dialect>,
    /// Targets that were passed over, and why.
    skipped: Vec<(TargetName, &'static str)>,
    /// What an answer used that was withheld.
    spent: Option<Spent>,
    /// An answer that broke off, while somebody is asked to go on with it.
    broken: Option<Spent>,
    /// Answers that broke off, and that another one went on with.
    before: Vec<Spent>,
    /// Who got the prompt of an attempt that came to nothing, and may bill it.
    worked: Option<TargetName>,
}

/// What was used for an answer that nobody gets, or of which the client has the beginning alone.
#[derive(Debug, Clone)]
pub struct Spent {
    /// Who made it.
    pub target: Target,
    /// What it used.
    pub usage: Usage,
    /// What that cost, once it is in the books.
    pub cost: Option<Nano>,
}

#[derive(Debug)]
struct Running {
    number: u32,
    target: TargetName,
    dialect: Dialect,
    role: Role,
    began: Instant,
    lost: Vec<Loss>,
    chaos: Option<Arc<str>>,
    tier: Option<Tier>,
    /// Whether the request went out, where that is not sure: chaos may hold it back.
    sent: Option<Arc<AtomicBool>>,
    /// What is said of it if somebody else answers instead, where it is late.
    late: Option<FaultKind>,
}

/// The page of one attempt. Dropped before its end, the attempt was cancelled.
pub(super) struct Page<'j> {
    journal: &'j Journal,
    number: u32,
    withheld: OnceLock<Usage>,
    paid: OnceLock<Nano>,
}

impl Page<'_> {
    /// The attempt cannot carry this.
    pub(super) fn lose(&self, lost: &[Loss]) {
        if lost.is_empty() {
            return;
        }
        let mut pages = self.journal.pages();
        pages.lost.extend_from_slice(lost);
        if let Some(running) = pages.under_way(self.number) {
            running.lost.extend_from_slice(lost);
        }
    }

    /// An experiment strikes the attempt, and tells whether it goes out.
    pub(super) fn struck(&self, chaos: &Arc<str>, sent: Arc<AtomicBool>) {
        let mut pages = self.journal.pages();
        if let Some(running) = pages.under_way(self.number) {
            (running.chaos, running.sent) = (Some(chaos.clone()), Some(sent));
        }
    }

    /// The attempt is late: if it is given up for another one, that was why.
    pub(super) fn is_late(&self, kind: FaultKind) {
        let mut pages = self.journal.pages();
        if let Some(running) = pages.under_way(self.number) {
            running.late = Some(kind);
        }
    }

    /// The attempt asks for this service, or was given it; `None` changes nothing.
    pub(super) fn serve(&self, tier: Option<Tier>) {
        let mut pages = self.journal.pages();
        if let Some(running) = pages.under_way(self.number) {
            running.tier = tier.or(running.tier);
        }
    }

    /// The service that answers, as far as request and head of the answer tell.
    pub(super) fn tier(&self) -> Option<Tier> {
        let mut pages = self.journal.pages();
        pages.under_way(self.number)?.tier
    }

    /// An answer was made, and is withheld.
    pub(super) fn withhold(&self, target: &Target, usage: Usage) {
        let usage = Usage { tier: usage.tier.or(self.tier()), ..usage };
        self.journal.spent(target, usage);
        self.withheld.get_or_init(|| usage);
    }

    /// What the attempt cost stands in the books: whoever sums up does not reckon it again.
    pub(super) fn pay(&self, cost: Option<Nano>) {
        let Some(cost) = cost else { return };
        self.paid.get_or_init(|| cost);
        if self.withheld().is_some()
            && let Some(spent) = &mut self.journal.pages().spent
        {
            spent.cost = Some(cost);
        }
    }

    /// What was used for an answer that is withheld.
    pub(super) fn withheld(&self) -> Option<Usage> {
        self.withheld.get().copied()
    }

    /// The attempt brought its first content or its whole answer. The time that it took comes back.
    pub(super) fn succeed(self, status: u16, usage: Option<Usage>) -> Duration {
        let mut pages = self.journal.pages();
        let Some(Running { target, dialect, role, began, lost, chaos, .. }) = pages.take(self.number) else {
            return Duration::ZERO;
        };
        let took = began.elapsed();
        (pages.good, pages.lost, pages.dialect) = (Some((began, took)), lost, Some(dialect));
        pages.attempts.push(AttemptRecord {
            target,
            outcome: "ok".into(),
            status: Some(status),
            ms: ms(took),
            role,
            usage,
            cost: self.paid.get().copied(),
            chaos,
        });
        took
    }

    /// The attempt failed. The time that it took comes back.
    pub(super) fn fail(self, fault: &Fault) -> Duration {
        let failed = |target, took| AttemptRecord::failed(target, fault, took);
        self.journal.pages().end(self.number, !is_free(fault), failed)
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        self.journal.pages().cancel(self.number);
    }
}

impl Journal {
    /// An attempt begins.
    pub(super) fn begin(&self, target: &Target, role: Role, now: Instant) -> Page<'_> {
        self.begin_at(&target.name, target.wire().dialect(), role, now)
    }

    fn begin_at(&self, target: &TargetName, dialect: Dialect, role: Role, now: Instant) -> Page<'_> {
        let mut pages = self.pages();
        pages.away.get_or_insert(now);
        pages.begun += 1;
        pages.lost.clear();
        pages.dialect = Some(dialect);
        let number = pages.begun;
        pages.running.push(Running {
            number,
            target: target.clone(),
            dialect,
            role,
            began: now,
            lost: Vec::new(),
            chaos: None,
            tier: None,
            sent: None,
            late: None,
        });
        Page { journal: self, number, withheld: OnceLock::new(), paid: OnceLock::new() }
    }

    /// What goes on now cannot carry this.
    pub fn lose(&self, lost: &[Loss]) {
        if !lost.is_empty() {
            self.pages().lost.extend_from_slice(lost);
        }
    }

    /// No attempt can carry this.
    pub fn never_carried(&self, lost: Vec<Loss>) {
        self.pages().unset = lost;
    }

    /// What the attempt that succeeded, or the last one, could not carry.
    pub fn lost(&self) -> Vec<Loss> {
        let pages = self.pages();
        pages.unset.iter().chain(&pages.lost).cloned().collect()
    }

    /// What the target of the attempt that succeeded, or of the last one, speaks.
    pub fn dialect(&self) -> Option<Dialect> {
        self.pages().dialect
    }

    /// An answer was made, and is withheld.
    pub fn spent(&self, target: &Target, usage: Usage) {
        self.pages().spent = Some(Spent { target: target.clone(), usage, cost: None });
    }

    /// Who made an answer that was withheld, and what was used for it.
    pub fn withheld(&self) -> Option<Spent> {
        self.pages().spent.clone()
    }

    /// An answer broke off, for which so much was used. Noted before anybody is asked to go on, so that it is known
    /// whatever becomes of that.
    pub(super) fn broke_off(&self, broken: Spent) {
        self.pages().broken = Some(broken);
    }

    /// Another answer goes on with the one that broke off.
    pub(super) fn went_on(&self) {
        let mut pages = self.pages();
        let broken = pages.broken.take();
        pages.before.extend(broken);
    }

    /// The answer that broke off, where nobody has gone on with it.
    pub fn broken(&self) -> Option<Spent> {
        self.pages().broken.clone()
    }

    /// Takes the answers that broke off, and that another one went on with.
    pub fn take_before(&self) -> Vec<Spent> {
        std::mem::take(&mut self.pages().before)
    }

    /// Who got the prompt in an attempt that came to nothing, and may bill it; the last of them.
    pub fn worked(&self) -> Option<TargetName> {
        let pages = self.pages();
        let under_way = || pages.running.iter().find(|running| running.went_out());
        pages.worked.clone().or_else(|| Some(under_way()?.target.clone()))
    }

    /// When the attempt that succeeded began, and how long it took to its first content or its whole answer.
    pub fn good(&self) -> Option<(Instant, Duration)> {
        self.pages().good
    }

    /// The stream of the attempt that had succeeded broke off. Whether that was not known before: also where nobody could
    /// go on, each attempt breaks once.
    pub fn broke(&self, fault: &Fault) -> bool {
        let mut pages = self.pages();
        let good = pages.attempts.iter_mut().rev().find(|attempt| attempt.outcome == "ok");
        good.map(|good| good.outcome = fault.word().into()).is_some()
    }

    /// A target was passed over without an attempt.
    pub(super) fn skip(&self, target: &TargetName, reason: &'static str) {
        let mut pages = self.pages();
        if !pages.skipped.iter().any(|(skipped, _)| skipped == target) {
            pages.skipped.push((target.clone(), reason));
        }
    }

    /// The targets that were passed over, with the reasons.
    pub fn skipped(&self) -> Vec<(TargetName, &'static str)> {
        self.pages().skipped.clone()
    }

    /// A pause before the next try begins: time that is not ours either.
    pub(super) fn pause(&self, now: Instant) {
        self.pages().away.get_or_insert(now);
    }

    /// Number of attempts begun so far.
    pub fn attempts(&self) -> usize {
        self.pages().begun as usize
    }

    /// Time spent in attempts, and in pauses between them, so far: also in what is under way.
    pub fn upstream(&self) -> Duration {
        let pages = self.pages();
        pages.upstream + pages.away.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What the answers of an ensemble used, each with its target, and with its cost where that stands in the books.
    pub fn used(&self) -> Vec<(TargetName, Usage, Option<Nano>)> {
        let pages = self.pages();
        let used = |one: &AttemptRecord| Some((one.target.clone(), one.usage?, one.cost));
        pages.attempts.iter().filter_map(used).collect()
    }

    /// The attempts that have ended so far.
    pub fn so_far(&self) -> Vec<AttemptRecord> {
        self.pages().attempts.clone()
    }

    /// Takes everything; attempts still under way are noted as cancelled.
    pub fn close(&self) -> Vec<AttemptRecord> {
        let mut pages = self.pages();
        while let Some(number) = pages.running.first().map(|running| running.number) {
            pages.cancel(number);
        }
        std::mem::take(&mut pages.attempts)
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn under_way(&mut self, number: u32) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.number == number)
    }

    /// Ends an attempt. When none is left under way, time is ours again.
    fn take(&mut self, number: u32) -> Option<Running> {
        let place = self.running.iter().position(|running| running.number == number)?;
        let running = self.running.remove(place);
        if self.running.is_empty()
            && let Some(since) = self.away.take()
        {
            self.upstream += since.elapsed();
        }
        Some(running)
    }

    /// Ends an attempt that was given up.
    fn cancel(&mut self, number: u32) {
        let late = self.under_way(number).and_then(|running| running.late);
        let outcome = late.map_or("cancelled", FaultKind::as_str);
        self.end(number, true, |target, took| cancelled(target, took, outcome));
        // Who answered instead has the last word.
        if late.is_some()
            && let [.., winner, given_up] = &mut self.attempts[..]
            && winner.outcome == "ok"
        {
            std::mem::swap(winner, given_up);
        }
    }

    /// `worked` says whether whoever got the request has worked on it.
    fn end(
        &mut self,
        number: u32,
        worked: bool,
        record: impl FnOnce(TargetName, Duration) -> AttemptRecord,
    ) -> Duration {
        let Some(running) = self.take(number) else { return Duration::ZERO };
        if worked && running.went_out() {
            self.worked = Some(running.target.clone());
        }
        let Running { target, role, began, chaos, .. } = running;
        let took = began.elapsed();
        self.attempts.push(AttemptRecord { role, chaos, ..record(target, took) });
        took
    }
}

impl Running {
    fn went_out(&self) -> bool {
        self.sent.as_ref().is_none_or(|sent| sent.load(Ordering::Relaxed))
    }
}

fn cancelled(target: TargetName, took: Duration, outcome: &'static str) -> AttemptRecord {
    AttemptRecord {
        target,
        outcome: outcome.into(),
        status: None,
        ms: ms(took),
        role: Role::Primary,
        usage: None,
        cost: None,
        chaos: None,
    }
}

/// Milliseconds, to the microsecond.
fn ms(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;

    async fn pass(ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn time_under_way_is_upstream_time_too() {
        let (journal, target) = (Journal::default(), TargetName::parse("a/b").unwrap());
        let page = journal.begin_at(&target, Dialect::OpenAi, Role::Primary, Instant::now());
        pass(300).await;
        assert_eq!(journal.upstream(), Duration::from_millis(300), "an attempt under way");
        page.fail(&Fault::new(FaultKind::ServerError, "no"));
        pass(7).await;
        assert_eq!(journal.upstream(), Duration::from_millis(300), "time of our own");
        journal.pause(Instant::now());
        pass(100).await;
        assert_eq!(journal.upstream(), Duration::from_millis(400), "a pause under way");
        let page = journal.begin_at(&target, Dialect::OpenAi, Role::Primary, Instant::now());
        pass(10).await;
        page.succeed(200, None);
        pass(5).await;
        assert_eq!(journal.upstream(), Duration::from_millis(410), "all of it, once");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_race_are_each_noted_and_their_time_is_counted_once() {
        let (journal, target) = (Journal::default(), TargetName::parse("a/b").unwrap());
        let slow = journal.begin_at(&target, Dialect::OpenAi, Role::Primary, Instant::now());
        slow.lose(&[Loss::new("slow", "dropped")]);
        pass(20).await;
        let fast = journal.begin_at(&target, Dialect::Gemini, Role::Hedge, Instant::now());
        fast.lose(&[Loss::new("fast", "dropped")]);
        pass(10).await;
        assert_eq!(fast.succeed(200, None), Duration::from_millis(10));
        drop(slow);
        pass(50).await;
        assert_eq!((journal.upstream(), journal.attempts()), (Duration::from_millis(30), 2));
        assert_eq!(journal.dialect(), Some(Dialect::Gemini));
        assert_eq!(journal.lost().iter().map(|loss| &*loss.path).collect::<Vec<_>>(), ["fast"]);
        let ended: Vec<_> =
            journal.close().into_iter().map(|attempt| (attempt.outcome, attempt.role)).collect();
        assert_eq!(ended, [("ok".into(), Role::Hedge), ("cancelled".into(), Role::Primary)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_got_a_prompt_and_gave_no_answer_is_known() {
        let target = TargetName::parse("a/b").unwrap();
        let fails = |kind| Fault::new(kind, "no");
        type End<'a> = dyn Fn(Page<'_>) + 'a;
        let worked = |end: &End<'_>| {
            let journal = Journal::default();
            end(journal.begin_at(&target, Dialect::OpenAi, Role::Primary, Instant::now()));
            journal.worked().is_some()
        };
        let ended: [(&str, bool, &End<'_>); 5] = [
            ("the client left", true, &|_| ()),
            ("half an answer", true, &|page| _ = page.fail(&fails(FaultKind::Truncated))),
            ("refused", false, &|page| _ = page.fail(&fails(FaultKind::BadRequest))),
            ("answered, which says what was used", false, &|page| _ = page.succeed(200, None)),
            ("never sent", false, &|page| page.struck(&"chaos".into(), Arc::new(AtomicBool::new(false)))),
        ];
        for (what, expected, end) in ended {
            assert_eq!(worked(end), expected, "{what}");
        }
        let journal = Journal::default();
        let _page = journal.begin_at(&target, Dialect::OpenAi, Role::Primary, Instant::now());
        assert!(journal.worked().is_some(), "under way");
    }
}
