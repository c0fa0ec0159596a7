//! When the phases of an attempt end, and when it is late: time enough for somebody else to be asked beside it.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::hedge::ms;
use super::journal::Page;
use super::{Executor, Job, RawForm};
use crate::breaker::{Busy, Heard, Pass, Reading, Verdict};
use crate::fault::{Fault, FaultKind, Phase};
use crate::providers::Target;

/// A target is not late before so much of what its slow answers usually take, in percent of their 95th percentile.
const USUAL_PATIENCE: u32 = 150;

/// When the phases of an attempt end.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub(super) first_byte: Instant,
    pub(super) first_token: Instant,
    /// The end of a whole answer.
    pub(super) whole: Instant,
    pub(super) total: Instant,
}

/// When the answer's head is due.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) at: Instant,
    pub(super) phase: Phase,
    pub(super) due: Due,
}

/// How many attempts of a request have become late and were not answered by another one yet.
#[derive(Default)]
pub(super) struct Late(AtomicUsize);

/// What an attempt that has become late leaves behind when it is given up for another one's answer: its target is slow.
pub(super) struct Overdue<'a> {
    executor: &'a Executor,
    target: &'a Target,
    page: &'a Page<'a>,
    pass: Option<Pass>,
    busy: Option<Busy>,
    began: Instant,
    late: Option<FaultKind>,
}

impl Late {
    fn tell(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The end of this, or `None` as soon as an attempt is late.
    pub(super) async fn before<T>(
        &self,
        mut attempt: Pin<&mut (impl Future<Output = T> + Send)>,
    ) -> Option<T> {
        std::future::poll_fn(|cx| match attempt.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if self.take() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Whether one has become late since the last that was taken. All attempts of a request run in one task.
    pub(super) fn take(&self) -> bool {
        let one_less = |late: usize| late.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

impl Due {
    /// An attempt that begins now has until then; `end` is that of attempts that are ended when they are late.
    pub(super) fn of(job: &Job, target: &Target, end: Option<Instant>, now: Instant) -> Self {
        let deadlines = &target.vendor.deadlines;
        let first_token = job.first_token.unwrap_or(deadlines.first_token);
        let end = end.unwrap_or(job.deadline);
        let most = job.manner.as_ref().and_then(|manner| manner.attempt);
        let end = most.map_or(end, |most| end.min(now + most));
        Self {
            first_byte: (now + deadlines.first_byte).min(end),
            first_token: (now + first_token).min(end),
            whole: end,
            total: job.deadline,
        }
    }

    /// Raw answers begin with their head. Those whose whole work is done before it have so much `more` time.
    pub(super) fn raw_head(self, form: RawForm, more: Duration) -> Head {
        let slow = !form.as_it_came && form.slow;
        let at = if slow { (self.first_byte + more).min(self.whole) } else { self.first_byte };
        Head { at, phase: Phase::FirstByte, due: self }
    }

    /// A stream that has no head has no content either: the nearer of both deadlines counts.
    pub(super) fn head(self, streams: bool) -> Head {
        if streams && self.first_token < self.first_byte {
            Head { at: self.first_token, phase: Phase::FirstToken, due: self }
        } else {
            Head { at: self.first_byte, phase: Phase::FirstByte, due: self }
        }
    }
}

impl Head {
    pub(super) fn passed(&self) -> Fault {
        passed(self.at, self.due, self.phase)
    }
}

impl<'a> Overdue<'a> {
    /// An attempt that has just begun.
    pub(super) fn new(
        executor: &'a Executor,
        target: &'a Target,
        page: &'a Page<'a>,
        pass: Option<Pass>,
        began: Instant,
    ) -> Self {
        let (health, name) = (&executor.health, &target.name);
        let busy = health.loads.enter(name, || target.vendor.models.contains(&name.model));
        Self { executor, target, page, pass, busy: Some(busy), began, late: None }
    }

    /// Waits for the attempt, and tells when it becomes late, where there is somebody to be told.
    pub(super) async fn watch<T>(
        &mut self,
        job: &Job,
        mut attempt: Pin<&mut (impl Future<Output = T> + Send)>,
        watched: Option<(Instant, &Late)>,
    ) -> T {
        let Some((mut at, late)) = watched else { return attempt.await };
        loop {
            if let Ok(done) = tokio::time::timeout_at(at, attempt.as_mut()).await {
                return done;
            }
            match self.is_usual(job).filter(|usual| *usual > at) {
                Some(usual) => at = usual,
                None => break,
            }
        }
        // Less than the usual time says nothing of the target.
        if self.began.elapsed() >= handover(job, self.target) {
            let phase = if job.carry.wants_stream() { Phase::FirstToken } else { Phase::FirstByte };
            let kind = FaultKind::Timeout(phase);
            self.late = Some(kind);
            self.page.is_late(kind);
        }
        late.tell();
        attempt.await
    }

    /// When it would be late for one that is known to be slow, where nobody has said when it is.
    fn is_usual(&self, job: &Job) -> Option<Instant> {
        if !self.target.vendor.deadlines.learns || job.first_token.is_some() {
            return None;
        }
        let streams = job.carry.wants_stream();
        let reckoned = |reading: &Reading| {
            if streams { reading.first_token_p95_ms } else { reading.p95_ms }
        };
        let usual = ms(self.executor.figure(self.target, reckoned)?);
        Some((self.began + usual * USUAL_PATIENCE / 100).min(shared(job, self.began)))
    }

    /// It has ended by itself: whoever made it tells how.
    pub(super) fn over(mut self) -> (Option<Pass>, Option<Busy>) {
        self.late = None;
        (self.pass.take(), self.busy.take())
    }
}

impl Drop for Overdue<'_> {
    fn drop(&mut self) {
        let Some(kind) = self.late else { return };
        let (now, name) = (Instant::now(), &self.target.name);
        let meters = self.executor.meters.target(&name.provider, &self.target.metric_label());
        meters.attempt(kind.as_str(), now.saturating_duration_since(self.began));
        self.executor.health.attempted(name, Verdict::of(&Fault::new(kind, "late")), None, now);
        if let Some(pass) = self.pass.take() {
            pass.heard(Heard::Bad, now);
        }
        if let Some(busy) = &mut self.busy {
            busy.took(now.saturating_duration_since(self.began), false, now);
        }
    }
}

/// When an attempt that begins now is late, while another target is left that is well: also before half of what is left
/// of the request's time has passed, so that a client who waits shortly is rescued, too.
pub(super) fn late_at(job: &Job, target: &Target, now: Instant) -> Instant {
    (now + handover(job, target)).min(shared(job, now))
}

fn shared(job: &Job, now: Instant) -> Instant {
    now + job.deadline.saturating_duration_since(now) / 2
}

/// How long the target may take while another one is left.
fn handover(job: &Job, target: &Target) -> Duration {
    target.vendor.deadlines.handover.max(job.first_token.unwrap_or_default())
}

/// Whether a deadline passed that may have been too short for anybody, and so says nothing of the target: one that a
/// policy set, or what the client's own patience left of one.
pub(super) fn is_hurried(job: &Job, target: &Target, fault: &Fault, took: Duration) -> bool {
    let deadlines = &target.vendor.deadlines;
    let least = match fault.kind {
        FaultKind::Timeout(Phase::FirstToken) if job.first_token.is_some() => return true,
        FaultKind::Timeout(Phase::FirstToken) => deadlines.first_token,
        FaultKind::Timeout(Phase::FirstByte) => deadlines.first_byte.min(deadlines.first_token),
        FaultKind::Timeout(Phase::Idle) => deadlines.idle,
        _ => return false,
    };
    took < least.min(handover(job, target))
}

/// The whole answer took longer than the attempt may.
pub(super) fn out_of_patience() -> Fault {
    Fault::new(FaultKind::Timeout(Phase::Idle), "the answer was not complete in the time of the attempt")
}

/// Which deadline it was that passed at `at`.
pub(super) fn passed(at: Instant, due: Due, phase: Phase) -> Fault {
    if at >= due.total {
        return Fault::new(FaultKind::Timeout(Phase::Total), "the request's deadline passed");
    }
    let text = match phase {
        Phase::Connect => "the provider could not be reached in time",
        Phase::FirstByte => "the provider did not begin to answer in time",
        Phase::FirstToken => "the provider sent no content in time",
        Phase::Idle | Phase::Total => "the provider stopped sending",
    };
    Fault::new(FaultKind::Timeout(phase), text)
}
