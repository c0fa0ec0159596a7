//! One attempt at one target: encode, send, read until there is something to show.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::answering::{Answering, Script};
use super::chaos::Strike;
use super::course::Turn;
use super::due::{Due, Head, Late, Overdue, is_hurried, late_at, out_of_patience, passed};
use super::grip::Grip;
use super::hollow::{empty, is_chosen, is_hollow};
use super::journal::Page;
use super::live::Live;
use super::opening::looked_at;
use super::passing;
use super::said::written;
use super::secrecy::{Secrets, borne, fetched};
use super::shape::Shape;
use super::watchdog::Watchdog;
use super::{Answered, Executor, Job, Raw, RawForm};
use crate::breaker::{Heard, Pass, Verdict};
use crate::chat::Loss;
use crate::fault::{Counts, Fault, FaultKind, Phase, Retry};
use crate::ledger::Entry;
use crate::plan::Role;
use crate::providers::{
    Credential, Held, Hold, HttpPlace, Local, Meter, Outgoing, Place, Signable, Target, given_tier,
};
use crate::queue::Berth;
use crate::tokens::Counter;
use crate::upstream::{Outbound, Standing, Upload};

/// An error body is read this far; the rest says nothing new.
pub(super) const MAX_ERROR_BODY: usize = 64 << 10;
/// It is read so long, and may be silent so long: what counts is the status, which is here.
const ERROR_TIME: Duration = Duration::from_secs(3);
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// What is said of a provider that is neither inside the process nor anywhere else.
const NOWHERE: &str = "a provider without an address cannot be called";

/// How much of an upload a provider inside the process gets to see.
const MAX_LOCAL_UPLOAD: usize = 4 << 20;

/// Pictures and transcriptions come whole after long work: they have so many times `first_byte`.
const SLOW_WORK: u32 = 10;

/// A refusal names this many losses one by one.
const MAX_NAMED: usize = 16;

pub(super) const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
pub(super) const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// An answer that has begun.
pub(super) struct Sent {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Answering,
    /// What was fetched to authorise its request.
    pub(super) held: Option<Arc<Held>>,
    /// What the request bore that is known to nobody else; of a raw one, all that it bore.
    pub(super) secrets: Vec<HeaderValue>,
}

impl Executor {
    /// Makes one attempt, notes it in the journal, and tells everybody whom its end concerns. Dropped before its end, it
    /// says nothing of target and key, unless the target was late. Without anybody to be told that it is, an attempt ends
    /// when it becomes late.
    pub(super) async fn attempt(
        &self,
        job: &Job,
        turn: &mut Turn<'_>,
        role: Role,
        late: Option<&Late>,
    ) -> Result<Answered, Fault> {
        let instead = job.carry.instead(turn.target);
        let mut entry = match &job.tab {
            Some(tab) if instead.is_none() => {
                let target = turn.target;
                let size = job.carry.size().unwrap_or_else(|| tab.size());
                Some(match tab.open_sized(&target.name, target.vendor.preset.as_deref(), role, size).await {
                    Err(fault) if fault.kind == FaultKind::Budget => {
                        // Boxed, as all that few requests need.
                        Box::pin(self.counted(job, tab, target, (role, size), fault)).await?
                    }
                    opened => opened?,
                })
            }
            _ => None,
        };
        let capped = entry.as_ref().and_then(Entry::cap).map(|most| turn.target.capped(most));
        let target = capped.as_ref().unwrap_or(turn.target);
        let now = Instant::now();
        let berth = turn.berth.take();
        let (pass, mut hold) = (turn.pass.take(), turn.hold.take());
        let page = job.journal.begin(target, role, now);
        let meters = self.meters.target(&target.name.provider, &target.metric_label());
        if let Some(make) = instead {
            let Some(relayed) = self.counter.beside(make).await else {
                let fault = Fault::new(FaultKind::Unavailable, "too many prompts wait to be counted");
                meters.attempt(fault.word(), page.fail(&fault));
                return Err(fault.after(Some(Duration::from_secs(1))));
            };
            page.lose(&relayed.lost);
            meters.attempt("ok", page.succeed(200, None));
            return Ok(Answered::Whole(relayed, target.clone()));
        }
        let strike = job.exposed.as_ref().and_then(|exposed| exposed.strike(target, &self.dice, now));
        if let Some(strike) = &strike {
            page.struck(strike.name(), strike.sent());
            entry.iter_mut().for_each(|entry| entry.goes_out_when(strike.sent()));
        }
        let mut stake = Overdue::new(self, target, &page, pass, now);
        let handover = (!turn.is_last && job.is_repeatable_at(target)).then(|| late_at(job, target, now));
        let due = Due::of(job, target, handover.filter(|_| late.is_none()), now);
        let tried = {
            let trying = pin!(self.try_once(job, target, hold.as_ref(), &page, due, strike));
            stake.watch(job, trying, handover.zip(late)).await
        };
        let (pass, mut busy) = stake.over();
        match in_the_books(job, entry, role, &page, tried).await {
            Ok((mut answered, status)) => {
                if let Answered::Raw(raw) = &answered
                    && let Some(fault) = raw.complaint()
                {
                    meters.attempt(fault.word(), page.fail(fault));
                    self.blame(job, target, fault, now, (pass, hold.as_mut(), berth.as_ref()));
                } else {
                    let took = page.succeed(status, answered.usage_beside(role));
                    meters.attempt("ok", took);
                    let over = Instant::now();
                    let first_token = matches!(answered, Answered::Stream(_)).then_some(took);
                    self.health.attempted(&target.name, Verdict::Good, first_token, over);
                    busy.iter_mut().for_each(|busy| busy.took(took, true, over));
                    if let Some(pass) = pass {
                        pass.heard(Heard::Good(took), over);
                    }
                    if let Some(berth) = &berth {
                        berth.did_well(first_token);
                    }
                    if let Some(hold) = &mut hold {
                        hold.good(over);
                    }
                }
                answered.keep(Grip { _busy: busy, hold, _berth: berth });
                Ok(answered)
            }
            Err(fault) => {
                meters.attempt(fault.word(), page.fail(&fault));
                self.blame(job, target, &fault, now, (pass, hold.as_mut(), berth.as_ref()));
                if Verdict::of(&fault) != Verdict::Void {
                    busy.iter_mut().for_each(|busy| busy.took(now.elapsed(), false, Instant::now()));
                }
                tracing::debug!(upstream = %target.name, fault = %fault, "attempt failed");
                Err(fault)
            }
        }
    }

    /// Tells of a fault whom it counts against. The attempt began at `began`.
    fn blame(
        &self,
        job: &Job,
        target: &Target,
        fault: &Fault,
        began: Instant,
        (pass, hold, berth): (Option<Pass>, Option<&mut Hold>, Option<&Berth>),
    ) {
        let now = Instant::now();
        let hurried = is_hurried(job, target, fault, now.saturating_duration_since(began));
        let verdict = if hurried { Verdict::Void } else { Verdict::of(fault) };
        self.health.attempted(&target.name, verdict, None, now);
        // A target that takes others at the same time is busy, not broken: it gets less at once.
        let busy = fault.kind == FaultKind::Overloaded && berth.is_some_and(Berth::overloaded);
        let counts = if hurried || busy { Counts::Nobody } else { fault.counts() };
        match (counts, pass, hold) {
            (Counts::Target, Some(pass), _) => pass.heard(Heard::Bad, now),
            (Counts::Key, _, Some(hold)) if fault.kind == FaultKind::RateLimited => {
                hold.throttled(fault.after, now, &self.dice);
            }
            (Counts::Key, _, Some(hold)) => {
                hold.refused(now, &self.dice);
                target.vendor.ring.recall(hold);
            }
            (Counts::Account, _, Some(hold)) => target.vendor.ring.unpaid(hold, now, &self.dice),
            _ => {}
        }
    }

    async fn try_once(
        &self,
        job: &Job,
        target: &Target,
        hold: Option<&Hold>,
        page: &Page<'_>,
        due: Due,
        strike: Option<Strike>,
    ) -> Result<(Answered, u16), Fault> {
        let deadlines = &target.vendor.deadlines;
        let streams = job.carry.wants_stream();
        let outgoing = passing::outgoing(&*job.carry, target).await?;
        page.lose(&outgoing.lost);
        if job.tiered {
            page.serve(Some(outgoing.tier()));
        }
        if job.strict && !outgoing.lost.is_empty() {
            return Err(lossy(target, &outgoing.lost));
        }
        if job.carry.switch().is_some() {
            if let Some(strike) = &strike {
                Box::pin(strike.shake(due.head(false), target)).await?;
            }
            return Box::pin(self.switch(target, hold, outgoing, due.head(false))).await;
        }
        let raw = job.carry.raw(target);
        let head = match raw {
            Some(form) => due.raw_head(form, deadlines.first_byte * (SLOW_WORK - 1)),
            None => due.head(streams),
        };
        let upload = job.carry.upload();
        let instead = match &strike {
            Some(strike) => Box::pin(strike.instead(head, streams)).await?,
            None => None,
        };
        let sent = match (instead, &target.vendor.place, target.vendor.wire.local()) {
            (Some(injected), ..) => injected,
            (None, Place::Http(place), _) => {
                let request = requested(place, target, hold, outgoing, upload, raw.as_ref())?;
                self.send(place, target, hold, request, head, raw.is_some()).await?
            }
            (None, Place::Local, Some(local)) => play(local, outgoing, upload, head).await?,
            (None, Place::Local, None) => return Err(Fault::new(FaultKind::Internal, NOWHERE)),
        };
        let Sent { status, headers, mut body, held, secrets: borne } = match &strike {
            Some(strike) => strike.afterwards(sent),
            None => sent,
        };
        let secrets = Secrets::new(target, hold, &borne);
        if job.tiered {
            page.serve(given_tier(&headers));
        }
        let begun = match raw {
            Some(RawForm { as_it_came: true, .. }) if status < 400 => None,
            _ if (200..300).contains(&status) => None,
            _ => Some(text_of_error(&mut body, deadlines.idle, due.whole).await),
        };
        let begun = begun.map(|text| secrets.kept_out_of_text(text));
        let complaint = match &begun {
            None => None,
            Some(text) => {
                let fault = blamed(status, &headers, text, target).await;
                Some(secrets.kept_out_of(self.reconsider(target, held.as_ref(), fault, status, text)))
            }
        };
        if let Some(form) = raw
            && (form.as_it_came || complaint.is_none())
        {
            let raw = Raw {
                meter: meter(target, &headers).filter(|_| complaint.is_none()),
                begun,
                secrets: borne,
                status,
                headers,
                body,
                form,
                tier: None,
                target: target.clone(),
                counter: self.counter.clone(),
                watchdog: Watchdog::new(deadlines.idle, due.total),
                grip: Grip::default(),
                complaint,
                upload: upload.cloned(),
                over: false,
            };
            return Ok((Answered::Raw(Box::pin(looked_at(raw, hold)).await?), status));
        }
        complaint.map_or(Ok(()), Err)?;
        // Pinned where they lie: what is waited for by value is made, and then moved as a whole.
        let answered = if streams {
            pin!(streamed(job, target, page, body, Shape::of(&headers), due, self.counter.clone())).await
        } else {
            let answered = pin!(whole(job, target, page, body, (status, &headers), due)).await;
            answered.map(|whole| self.reckoned(job, whole))
        };
        let mut answered = answered.map_err(|fault| secrets.kept_out_of(fault))?;
        answered.bore(borne);
        Ok((answered, status))
    }

    /// Adds what authorises the request beyond fixed headers; the last thing that happens to it. What was fetched for
    /// it comes back, in case that the provider refuses it.
    pub(super) async fn authorise(
        &self,
        place: &HttpPlace,
        target: &Target,
        request: &mut Outbound,
    ) -> Result<Option<Arc<Held>>, Fault> {
        let held = match &target.vendor.credential {
            Credential::Headers => return Ok(None),
            Credential::Signed(_) => None,
            Credential::Leased(lease) => Some(Box::pin(self.token(&target.vendor.name, lease)).await?),
            Credential::Withheld => {
                let text = "the provider's secret is not known any more: its store cannot be asked";
                return Err(Fault::new(FaultKind::Credentials, text).retry(Retry::Elsewhere));
            }
        };
        let signable = Signable {
            method: &request.method,
            authority: &place.origin.authority(),
            path_and_query: &request.path_and_query,
            headers: &mut request.headers,
            body: &request.body,
        };
        let signer = match (&target.vendor.credential, &held) {
            (Credential::Signed(signer), _) => &**signer,
            (_, Some(held)) => held.signer(),
            _ => return Ok(held),
        };
        if request.upload.is_some() && signer.covers_body() {
            let text = "this provider's requests are signed over their whole body, and this body is too large to be held";
            return Err(Fault::new(FaultKind::TooLarge, text).retry(Retry::Elsewhere));
        }
        signer.sign(signable, self.clock.unix_ms())?;
        Ok(held)
    }

    async fn send(
        &self,
        place: &HttpPlace,
        target: &Target,
        hold: Option<&Hold>,
        mut request: Outbound,
        head: Head,
        is_raw: bool,
    ) -> Result<Sent, Fault> {
        let connect = target.vendor.deadlines.connect;
        let upload = request.upload.clone();
        let mut secrets = Vec::new();
        let (response, held) = {
            let exchange = pin!(async {
                let held = self.authorise(place, target, &mut request).await?;
                secrets = if is_raw { borne(&request) } else { fetched(target, &request) };
                let sent = self.upstream.send(&place.origin, request, connect).await;
                Ok::<_, Fault>((sent.map_err(by_provider)?, held))
            });
            match &upload {
                Some(upload) => Box::pin(uploading(exchange, upload, target, head)).await?,
                None => tokio::time::timeout_at(head.at, exchange).await.map_err(|_| head.passed())??,
            }
        };
        let (head, body) = response.into_parts();
        let (status, headers) = (head.status.as_u16(), head.headers);
        if let Some(hold) = hold {
            hold.told(&headers, self.clock.unix_ms(), Instant::now());
        }
        Ok(Sent { status, headers, body: Answering::Http(body), held, secrets })
    }

    /// A token that the provider refused is fetched anew for the next try, which is worth making here.
    pub(super) fn reconsider(
        &self,
        target: &Target,
        held: Option<&Arc<Held>>,
        fault: Fault,
        status: u16,
        text: &[u8],
    ) -> Fault {
        let (Credential::Leased(lease), Some(held)) = (&target.vendor.credential, held) else { return fault };
        // AWS answers 403 to what has expired.
        let stale = status == 401 || status == 403 && memchr::memmem::find(text, b"xpired").is_some();
        if stale && lease.refused(held, self.clock.unix_ms()) { fault.retry(Retry::Here) } else { fault }
    }
}

/// As much of an error's text as comes soon.
async fn text_of_error(body: &mut Answering, idle: Duration, end: Instant) -> Bytes {
    body.beginning(MAX_ERROR_BODY, idle.min(ERROR_PAUSE), end.min(Instant::now() + ERROR_TIME)).await
}

/// What reads the usage of an answer as it passes, where its form is known.
fn meter(target: &Target, headers: &HeaderMap) -> Option<Meter> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    Meter::new(target, kind).map(|meter| meter.beside(headers))
}

/// Reads a whole answer.
async fn whole(
    job: &Job,
    target: &Target,
    page: &Page<'_>,
    mut body: Answering,
    (status, headers): (u16, &HeaderMap),
    due: Due,
) -> Result<Answered, Fault> {
    let late = |at: Instant| {
        let handed_over = at == due.whole && at < due.total;
        if handed_over { out_of_patience() } else { passed(at, due, Phase::Idle) }
    };
    let bytes = body.collect(job.limits.max_body, target.vendor.deadlines.idle, due.whole, late).await?;
    let bytes = target.wire().told(bytes, headers);
    let relayed = if is_slow(target) {
        let reading = Box::pin(passing::whole(job, page, target, status, bytes));
        let ended = tokio::time::timeout_at(due.total, reading).await;
        ended.map_err(|_| passed(due.total, due, Phase::Idle))??
    } else {
        let read = job.carry.whole(target, bytes.clone());
        let relayed = read.inspect_err(|fault| bill_nothing(page, target, &bytes, fault))?;
        let hollow = is_hollow(target, relayed.usage, relayed.finish, bytes.len());
        if hollow
            && !job.carry.may_be_empty()
            && written(&relayed.body) == Some(0)
            && is_chosen(target, &bytes)
        {
            relayed.usage.iter().for_each(|usage| page.withhold(target, *usage));
            return Err(empty());
        }
        relayed
    };
    page.lose(&relayed.lost);
    Ok(Answered::Whole(relayed, target.clone()))
}

/// What was made is no answer, but says what it used: its provider will bill that.
#[cold]
fn bill_nothing(page: &Page<'_>, target: &Target, bytes: &[u8], fault: &Fault) {
    if fault.kind != FaultKind::Malformed {
        return;
    }
    let told = Meter::new(target, "application/json").and_then(|mut meter| {
        meter.feed(bytes);
        meter.usage()
    });
    if let Some(usage) = told.filter(|usage| usage.total() > 0) {
        page.withhold(target, usage);
    }
}

/// Reads a stream up to its first content.
async fn streamed(
    job: &Job,
    target: &Target,
    page: &Page<'_>,
    mut body: Answering,
    shape: Shape,
    due: Due,
    counter: Arc<Counter>,
) -> Result<Answered, Fault> {
    let idle = target.vendor.deadlines.idle;
    let json = match shape {
        Shape::Stream => false,
        // Boxed, as all that few requests need.
        _ => Box::pin(shape.is_whole(target, &mut body, due)).await?,
    };
    let json = json && target.vendor.interpreter.is_none();
    let (body, relay, tally) = if is_slow(target) {
        let late = |at: Instant| passed(at, due, Phase::Idle);
        let whole = match json {
            false => None,
            true => Some(body.collect(job.limits.max_body, idle, due.total, late).await?),
        };
        Box::pin(passing::stream(job, page, target, body, whole)).await?
    } else {
        (body, job.carry.stream(target)?, None)
    };
    let mut live = Live::new(body, relay, target.clone(), idle, due.total, json, counter);
    (live.is_sequel, live.tally) = (job.carry.is_sequel(), tally);
    live.may_be_empty = job.carry.may_be_empty();
    let late = |at| passed(at, due, Phase::FirstToken);
    if let Err(fault) = live.reach_content(due.first_token, job.limits.max_body, late).await {
        if live.was_held_back() || live.has_used() {
            page.withhold(target, live.usage(job.tokens));
        }
        return Err(fault);
    }
    Ok(Answered::Stream(Box::new(live)))
}

/// Whether somebody else has to look at its answers, which may take a while.
fn is_slow(target: &Target) -> bool {
    target.vendor.interpreter.is_some() || target.is_inspected()
}

/// Settles an attempt that failed. One that was answered is shown to nobody before it stands in the ledger.
async fn in_the_books(
    job: &Job,
    mut entry: Option<Entry>,
    role: Role,
    page: &Page<'_>,
    mut tried: Result<(Answered, u16), Fault>,
) -> Result<(Answered, u16), Fault> {
    if let Some(tier) = job.tiered.then(|| page.tier()).flatten() {
        tried.iter_mut().for_each(|(answered, _)| answered.serve(tier));
        entry.iter_mut().for_each(|entry| entry.served_in(tier));
    }
    let (Some(mut entry), Some(tab)) = (entry, &job.tab) else { return tried };
    match &tried {
        Err(fault) => match page.withheld() {
            Some(usage) => page.pay(entry.withhold(usage, fault)),
            None => entry.fail(fault),
        },
        Ok(_) => {
            if let Err(fault) = entry.durable().await {
                entry.fail(&fault);
                return Err(fault);
            }
            match &tried {
                Ok((Answered::Raw(raw), _)) if let Some(complaint) = raw.complaint() => entry.fail(complaint),
                // It is one of several, and paid for by itself.
                Ok((Answered::Whole(relayed, _), status)) if role == Role::Ensemble => {
                    page.pay(entry.used(relayed.usage, *status));
                }
                _ => entry.win(tab),
            }
        }
    }
    tried
}

/// The refusal of a strict request that this target would not hear as it was said.
fn lossy(target: &Target, lost: &[Loss]) -> Fault {
    let mut message = format!("strict: {} cannot carry ", target.name);
    for (at, loss) in lost.iter().enumerate() {
        if at == MAX_NAMED {
            message.push_str(&format!(", and {} more", lost.len() - at));
            break;
        }
        if at > 0 {
            message.push_str(", ");
        }
        message.push_str(&loss.to_string());
    }
    let first = lost.first().map(|loss| loss.path.clone()).unwrap_or_default();
    Fault::new(FaultKind::Lossy, message).at(first)
}

/// The head comes with the first piece, as it does with a provider that thinks before it answers.
async fn play(
    local: &dyn Local,
    mut outgoing: Outgoing,
    upload: Option<&Upload>,
    head: Head,
) -> Result<Sent, Fault> {
    if let Some(upload) = upload {
        let mut kept: usize = outgoing.body.iter().map(Bytes::len).sum();
        while let Some(piece) = upload.read().await? {
            let room = MAX_LOCAL_UPLOAD.saturating_sub(kept).min(piece.len());
            kept += room;
            if room > 0 {
                outgoing.body.push(piece.slice(..room));
            }
        }
    }
    let mut answer = local.answer(outgoing);
    if let Some((delay, _)) = answer.pieces.first_mut() {
        let thinking = tokio::time::sleep(std::mem::take(delay));
        tokio::time::timeout_at(head.at, thinking).await.map_err(|_| head.passed())?;
    }
    let body = Answering::Local(Script::new(answer.pieces));
    Ok(Sent { status: answer.status, headers: answer.headers, body, held: None, secrets: vec![] })
}

/// The answer's head of a request whose body is still arriving: whoever is waited for has his own deadline. That of
/// the client is the listener's to watch.
async fn uploading<T>(
    sent: impl Future<Output = Result<T, Fault>>,
    upload: &Upload,
    target: &Target,
    head: Head,
) -> Result<T, Fault> {
    let patience = head.at.saturating_duration_since(Instant::now());
    let mut sent = std::pin::pin!(sent);
    let mut at = head.at;
    loop {
        if let Ok(done) = tokio::time::timeout_at(at, &mut sent).await {
            return done;
        }
        let now = Instant::now();
        let idle = target.vendor.deadlines.idle;
        let (due, phase) = match upload.standing() {
            Standing::AwaitsClient => (now + idle, Phase::Idle),
            Standing::AwaitsUpstream(since) => (since + idle, Phase::Idle),
            Standing::Sent(since) => (since + patience, head.phase),
        };
        if due <= now || now >= head.due.total {
            upload.abandon();
            return Err(passed(now, head.due, phase));
        }
        at = due.min(head.due.total);
    }
}

/// The request as it goes over the wire, with what of its body is still to come.
fn requested(
    place: &HttpPlace,
    target: &Target,
    hold: Option<&Hold>,
    outgoing: Outgoing,
    upload: Option<&Upload>,
    raw: Option<&RawForm>,
) -> Result<Outbound, Fault> {
    let mut request = outbound(place, target, hold, outgoing)?;
    request.upload = upload.cloned();
    request.once = raw.is_some_and(|form| form.as_it_came) && !request.method.is_idempotent();
    Ok(request)
}

/// The request as it goes over the wire: rebuilt from the dialect's own headers and the configured ones, never relayed.
pub(super) fn outbound(
    place: &HttpPlace,
    target: &Target,
    hold: Option<&Hold>,
    outgoing: Outgoing,
) -> Result<Outbound, Fault> {
    let mut path = String::with_capacity(place.base_path.len() + outgoing.path.len() + place.query.len() + 1);
    if !outgoing.is_absolute {
        path.push_str(&place.base_path);
    }
    path.push_str(&outgoing.path);
    if !place.query.is_empty() && !outgoing.is_absolute {
        path.push(if outgoing.path.contains('?') { '&' } else { '?' });
        path.push_str(&place.query);
    }
    let path_and_query = PathAndQuery::try_from(path).map_err(|_| {
        Fault::new(FaultKind::BadRequest, "the model's name cannot stand in this provider's URL").at("model")
    })?;

    let mut headers = outgoing.headers;
    headers.insert(USER_AGENT, AGENT);
    headers.insert(ACCEPT_ENCODING, IDENTITY);
    let of_key = hold.map(Hold::headers).into_iter().flatten();
    for (name, value) in target.vendor.headers.iter().chain(of_key) {
        headers.insert(name.clone(), value.clone());
    }
    let Outgoing { method, body, .. } = outgoing;
    Ok(Outbound::new(method, path_and_query, headers, body))
}

/// What an answer complains of, by its interpreter where the provider has one.
async fn blamed(status: u16, headers: &HeaderMap, body: &Bytes, target: &Target) -> Fault {
    match &target.vendor.interpreter {
        Some(interpreter) if status >= 400 => interpreter.blame(status, headers, body.clone()).await,
        _ => refusal(status, headers, body, target),
    }
}

pub(super) fn refusal(status: u16, headers: &HeaderMap, body: &Bytes, target: &Target) -> Fault {
    if (300..400).contains(&status) {
        // Never followed: a redirect could carry the key to somebody else.
        let text = "the provider answered with a redirect, which is never followed";
        return Fault::new(FaultKind::Malformed, text);
    }
    target.wire().fault(status, headers, body)
}

/// What the transport says of its connection: a client would take it for its own one to the gateway.
pub(super) fn by_provider(mut fault: Fault) -> Fault {
    if fault.kind == FaultKind::Unreachable {
        fault.message = format!("no answer from the provider: {}", fault.message).into();
    }
    fault
}
