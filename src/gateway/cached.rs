//! The cache in the line: a question that was answered before is not asked again, and many who ask the same at the same
//! time ask once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::Snapshot;
use super::door::{Asked, Door};
use super::keeping::{Kind, hash};
use super::line::{Admitted, Carried, Opened, Planned, Progress};
use crate::cache::{Entry, Form, Joined, Key, Rules, Store, Waited, When};
use crate::caller::Caller;
use crate::executor::Carry;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind, Phase};
use crate::headers;
use crate::json::Body;
use crate::plan::{CacheWish, Decision, OutputRules, Verdict};
use crate::planner::Plan;
use crate::providers::{self, Dialect, QuirkSettings, Target, Vendor};
use crate::target::TargetName;

/// So many who asked the provider in vain, one after the other, speak for all who have waited that long: others would only
/// fail later, or all at once.
const MOST_FAILURES: u32 = 3;

/// Fields of a request that say nothing of its answer.
const ASIDE: [&str; 5] = ["stream", "stream_options", "user", "metadata", "safety_identifier"];

/// What a client says of the cache (`x-tollgate-cache`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// From the cache, also where the answer may be another one each time.
    Use,
    /// A new answer, for the cache.
    Refresh,
    /// Neither.
    Bypass,
}

/// A question as the cache knows it.
pub(super) struct Question {
    /// Of the answer as one document.
    whole: Key,
    /// Of the answer as the stream that was asked for.
    stream: Option<Key>,
    life: Duration,
    anew: bool,
}

/// What the cache has to say.
#[allow(clippy::large_enum_variant, reason = "made once per request and taken apart at once")]
pub(super) enum Cached<'o, 'g> {
    /// The answer.
    Hit(Carried<'o, 'g>),
    /// The provider has to be asked.
    Miss(Planned<'o, 'g>),
}

/// What a request is, as far as its answer depends on it.
pub(super) struct Outline<'a> {
    pub(super) asked: &'a dyn Asked,
    pub(super) decision: &'a Decision,
    pub(super) output: Option<&'a OutputRules>,
    pub(super) plan: &'a Plan,
    pub(super) caller: &'a Caller,
    /// Whose guards look at the answer, if any do.
    pub(super) snapshot: Option<&'a Snapshot>,
}

impl Opened<'_> {
    /// The request as a question of the cache; `None` where it is none.
    ///
    /// # Errors
    /// A header that says something unknown.
    pub(super) fn question(
        &mut self,
        outline: &Outline<'_>,
        strict: bool,
    ) -> Result<Option<Box<Question>>, Fault> {
        let Outline { asked, decision, output, plan, caller, snapshot } = *outline;
        let manner = self.cache_manner;
        let caching = &self.snapshot.caching;
        let mut rules = match &decision.cache {
            Some(CacheWish::Never) => Rules { ttl: Duration::ZERO, ..caching.rules(asked.model()) },
            Some(CacheWish::For(life)) => {
                Rules { ttl: *life, when: When::Always, ..caching.rules(asked.model()) }
            }
            None => caching.rules(asked.model()),
        };
        if manner == Some(Manner::Bypass) {
            rules.ttl = Duration::ZERO;
        }
        if rules.ttl.is_zero() {
            if manner.is_some() || decision.cache.is_some() {
                self.tell_cache("bypass");
            }
            return Ok(None);
        }
        let always = rules.when == When::Always || manner == Some(Manner::Use);
        let answers = !matches!(decision.verdict, Some(Verdict::Respond(_)));
        let Some(body) = asked.json().filter(|_| answers && (always || is_deterministic(asked, self.door)))
        else {
            self.tell_cache("bypass");
            return Ok(None);
        };
        // An answer that can be referred to (`previous_response_id`) is its caller's, and only for as long as it is kept.
        let kept = Some(self.snapshot.kept.keep).filter(|keep| !keep.is_zero() && is_kept(self.door, body));
        rules.ttl = rules.ttl.min(kept.unwrap_or(Duration::MAX));
        let scope = if rules.shared && kept.is_none() { None } else { caller.anchor() };
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        };
        add(scope.as_deref().unwrap_or("shared").as_bytes());
        add(self.door.dialect().as_str().as_bytes());
        add(self.door.endpoint().as_str().as_bytes());
        add(asked.model().as_bytes());
        // What goes to the provider beside the body. A strict request is no other question where nothing is lost, but that
        // is not known here.
        for (name, value) in asked.carried() {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        add(&[u8::from(strict)]);
        add(self.snapshot.policies.hash().as_bytes());
        // Whoever might answer: other targets give other answers.
        let mut targets: Vec<String> = plan.targets.iter().map(|target| target.name.to_string()).collect();
        targets.sort();
        targets.extend(plan.versions.iter().map(|(_, version)| version.to_string()));
        targets.iter().for_each(|target| add(target.as_bytes()));
        // And whom the policies want asked first, and how: what one target says is no answer where they chose another.
        if let Some(Verdict::Route(route)) = &decision.verdict {
            let way = (route.fallen(), &route.strategy, &route.manner);
            add(serde_json::to_vec(&way).unwrap_or_default().as_slice());
        }
        if let Some(output) = output {
            add(serde_json::to_vec(output).unwrap_or_default().as_slice());
            add(&[u8::from(output.redact_all), u8::from(output.inspected)]);
            for redaction in &output.redact {
                add(redaction.value.as_bytes());
                add(redaction.placeholder.as_bytes());
            }
        }
        // Guards and their settings are part of what the configuration says.
        add(snapshot.map_or(&b""[..], |snapshot| snapshot.hash.as_bytes()));
        body.canonical(&ASIDE, &mut add);
        let whole = *hasher.finalize().as_bytes();
        let options = body.raw_bytes("stream_options").unwrap_or_default();
        let stream = asked.wants_stream().then(|| hash(&[&whole, b"stream", options]));
        let anew = manner == Some(Manner::Refresh);
        Ok(Some(Box::new(Question { whole, stream, life: rules.ttl, anew })))
    }

    /// Reads `x-tollgate-cache`.
    ///
    /// # Errors
    /// A word that is none.
    pub(super) fn read_cache_manner(&mut self, headers: &HeaderMap) -> Result<(), Fault> {
        let name = &headers::CACHE;
        let Some(value) = headers.get(name) else { return Ok(()) };
        let manner = match value.to_str().map(str::trim).map(str::to_ascii_lowercase).as_deref() {
            Ok("use") => Manner::Use,
            Ok("refresh") => Manner::Refresh,
            Ok("bypass") => Manner::Bypass,
            _ => {
                return Err(Fault::bad_request(
                    "write x-tollgate-cache as `use`, `refresh` or `bypass`",
                    name.as_str(),
                ));
            }
        };
        self.cache_manner = Some(manner);
        Ok(())
    }

    fn tell_cache(&mut self, word: &'static str) {
        self.told.insert(&headers::CACHE, HeaderValue::from_static(word));
        metrics::counter!("tollgate_cache_requests_total", "outcome" => word).increment(1);
        self.note(|s| s.cache = Some(Cow::Borrowed(word)));
    }

    /// An answer that is given again costs nothing; whose it was and what it saves is told.
    pub(super) fn given_again(&mut self, entry: &Entry, asked: &dyn Asked, caller: &Caller) {
        let age = entry.age(Instant::now()).as_secs();
        self.told.insert(http::header::AGE, HeaderValue::from(age));
        self.tell(&headers::TARGET, &entry.target);
        if !entry.warnings.is_empty() {
            self.tell(&headers::WARNINGS, &entry.warnings);
        }
        if let Some(saved) = entry.cost {
            self.tell(&headers::COST_SAVED, &saved.to_string());
            metrics::gauge!("tollgate_cache_saved_usd").increment(saved.dollars());
        }
        self.tell(&headers::COST, "0");
        let desk = self.gateway.shared.figures.desk();
        self.note(|s| {
            s.free();
            s.head_ready();
            s.given_again(&desk, asked, caller, entry);
        });
    }
}

impl<'o, 'g> Planned<'o, 'g> {
    /// Looks whether the answer is known, or is being made; else this request makes it.
    ///
    /// # Errors
    /// When the answer that others make does not come in time.
    pub(super) async fn cached(mut self) -> Result<Cached<'o, 'g>, Fault> {
        let Some(question) = self.question.take() else { return Ok(Cached::Miss(self)) };
        // Boxed, as all that few requests need.
        Box::pin(self.looked_up(*question)).await
    }

    async fn looked_up(self, question: Question) -> Result<Cached<'o, 'g>, Fault> {
        let store = self.admitted.opened.gateway.shared.cache.clone();
        let key = question.stream.unwrap_or(question.whole);
        if question.stream.is_some()
            && !question.anew
            && let Some(entry) = known(&store, &question.whole).await
            && let Some(frames) = streamed(self.admitted.opened.door, &*self.admitted.asked, &entry)
        {
            let progress = Progress::Replay(frames);
            return Ok(Cached::Hit(self.hit(&entry, progress)));
        }
        let (mut anew, mut failures) = (question.anew, 0);
        let until = self.waits_until(question.stream.is_some(), Instant::now());
        loop {
            match store.join(&key, &key, anew) {
                Joined::Kept(entry) => return Ok(Cached::Hit(self.replay(&entry))),
                Joined::Lead(lead) => {
                    if let Some(far) = store.far().filter(|_| !anew)
                        && let Some(entry) = far.get(&key).await
                    {
                        return Ok(Cached::Hit(self.replay(&lead.found(entry))));
                    }
                    let opened = &mut *self.admitted.opened;
                    opened.tell_cache("miss");
                    let most = opened.snapshot.caching.max_answer;
                    opened.keeping.get_or_insert_default().push(Kind::Cache, lead, question.life, most);
                    return Ok(Cached::Miss(self));
                }
                Joined::Wait(waiter) => match tokio::time::timeout_at(until, waiter.wait()).await {
                    Ok(Waited::Kept(entry)) => return Ok(Cached::Hit(self.replay(&entry))),
                    Ok(Waited::Nobody(Some(fault))) if failures + 1 == MOST_FAILURES => {
                        self.admitted.opened.tell_cache("miss");
                        return Err(Fault::clone(&fault));
                    }
                    Ok(Waited::Nobody(fault)) => {
                        failures += u32::from(fault.is_some());
                        anew = question.anew;
                    }
                    Ok(Waited::Unfit) => break,
                    Err(_) if until < self.job.deadline => break,
                    Err(_) => return Err(too_late()),
                },
                Joined::Busy | Joined::Conflict => break,
            }
        }
        self.admitted.opened.tell_cache("miss");
        Ok(Cached::Miss(self))
    }

    /// How long an answer is waited for that others make. A stream is made only as fast as its own client reads, and who
    /// wants one wants its beginning soon: he asks himself while there is time for it.
    fn waits_until(&self, streams: bool, now: Instant) -> Instant {
        let job = &self.job;
        match job.targets.first().filter(|_| streams) {
            Some(first) => {
                let share = job.deadline.saturating_duration_since(now) / 2;
                now + first.vendor.deadlines.handover.min(share)
            }
            None => job.deadline,
        }
    }

    fn replay(self, entry: &Entry) -> Carried<'o, 'g> {
        let progress = Progress::again(entry);
        self.hit(entry, progress)
    }

    fn hit(self, entry: &Entry, progress: Progress) -> Carried<'o, 'g> {
        let Admitted { opened, asked, .. } = self.admitted;
        opened.tell_cache("hit");
        opened.given_again(entry, &*asked, &self.caller);
        Carried { opened, progress }
    }
}

impl Progress {
    /// An answer as it was given before.
    pub(super) fn again(entry: &Entry) -> Self {
        match entry.form {
            Form::Whole => Self::Whole(entry.body.clone()),
            Form::Stream => Self::Replay(entry.body.clone()),
        }
    }
}

/// An answer that is kept here, or by another gateway.
async fn known(store: &Store, key: &Key) -> Option<Arc<Entry>> {
    if let Some(entry) = store.get(key) {
        return Some(entry);
    }
    store.far()?.get(key).await.map(Arc::new)
}

/// The deadline passed while others made the answer.
pub(super) fn too_late() -> Fault {
    Fault::new(
        FaultKind::Timeout(Phase::Total),
        "the same request is being answered, and that takes too long",
    )
}

/// Whether the answer is kept, so that it can be referred to.
fn is_kept(door: &dyn Door, body: &Body) -> bool {
    let kept = body.raw_bytes("store").is_none_or(|store| store != b"false");
    kept && door.dialect() == Dialect::Responses && door.endpoint() == Endpoint::Chat
}

/// Whether the same question has the same answer each time.
fn is_deterministic(asked: &dyn Asked, door: &dyn Door) -> bool {
    match door.endpoint() {
        Endpoint::Embeddings | Endpoint::Moderations | Endpoint::Rerank | Endpoint::CountTokens => true,
        Endpoint::Chat | Endpoint::Completions => {
            let cold = asked.parameter("temperature").and_then(|text| text.trim().parse::<f64>().ok());
            cold == Some(0.0)
        }
        _ => false,
    }
}

/// A whole answer in the frames of a stream, in the door's dialect; `None` where it cannot be told so.
fn streamed(door: &dyn Door, asked: &dyn Asked, entry: &Entry) -> Option<bytes::Bytes> {
    let wire = match door.dialect() {
        Dialect::OpenAi => "openai",
        Dialect::Responses => "openai-responses",
        Dialect::Anthropic => "anthropic",
        Dialect::Gemini => "gemini",
        Dialect::Bedrock | Dialect::Cohere | Dialect::Ollama => return None,
    };
    let vendor = Vendor::bare("cache", providers::dialect(wire, &QuirkSettings::default())?);
    let name = TargetName { provider: "cache".into(), model: asked.model().clone() };
    let mut relay = Carry::stream(asked, &Target::new(Arc::new(vendor), name)).ok()?;
    let mut frames = Vec::new();
    relay.whole(entry.body.clone(), &mut frames).ok()?;
    let mut all = Vec::new();
    frames.iter().for_each(|frame| all.extend_from_slice(&frame.bytes));
    (!all.is_empty()).then(|| all.into())
}
