//! What several gateways share over one Redis or Valkey: two connections, scripts that each are one step, and a lease by
//! which a gateway that died is known.
//!
//! No call waits longer than its timeout, and while Redis is away none is made: a thread of its own keeps the connection,
//! says twice a second that this gateway lives, and finds out when Redis is back. What was lost in Redis is told again by
//! those who hold it, before anybody else hears that it is back.

mod bulk;
mod course;
mod herald;
mod keeper;
mod link;
mod script;
mod settings;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Notify;
use tokio::time::Instant;

pub use ::redis::{Value, cmd};
use bulk::Bulk;
use course::Course;
use herald::Herald;
pub use link::Password;
use link::{Kind, Link, Trouble};
pub use script::{Arg, Script};
pub use settings::{OnRedisLoss, Place, RedisSettings};

/// So many calls in a row without an answer in time, and no more are made until Redis is back.
const MOST_FAILURES: u64 = 5;

/// What Redis keeps for us has this form; another one has another number, so that gateways of both can run at once.
const FORM: &str = "1";

/// Redis is not there, or not in a state to help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away(pub Arc<str>);

/// What a member of the house does with Redis on the keeper's turn.
pub type Turn<'a> = Pin<Box<dyn Future<Output = Result<(), Away>> + Send + 'a>>;

/// Somebody who holds something in Redis.
pub trait Member: Send + Sync {
    /// Redis knows nothing of us any more, or our lease has run out (`lapsed`): tells it all that is held.
    fn rejoin(&self, lapsed: bool) -> Turn<'_>;

    /// Twice a second, while Redis is there.
    fn beat(&self) -> Turn<'_>;
}

/// The connection to Redis, and what is known of the other gateways. Shared by all workers.
pub struct Redis {
    settings: RedisSettings,
    node: Mutex<String>,
    run: String,
    link: Link,
    /// Whether everything that scripts do was found to be allowed.
    tried: AtomicBool,
    /// Whether everything that is held was told on this connection.
    retold: AtomicBool,
    bulk: Bulk,
    up: AtomicBool,
    /// The same, for those who wait for it.
    is_there: tokio::sync::watch::Sender<bool>,
    failures: AtomicU64,
    term: ArcSwap<Term>,
    state: Mutex<State>,
    /// The keeper is needed before its time.
    wake: Notify,
    members: Mutex<Vec<Arc<dyn Member>>>,
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    settled: tokio::sync::watch::Sender<bool>,
}

/// What is agreed with Redis.
#[derive(Debug, Clone, Default)]
pub struct Term {
    /// The id that its memory has had since it was empty.
    pub epoch: String,
    /// Whether everybody has told what he holds: before, nothing new is given out.
    pub ready: bool,
    /// Gateways that live, this one among them.
    pub gateways: Vec<String>,
    /// Until when what we hold is ours.
    until: Option<Instant>,
}

struct State {
    down_since: Option<Instant>,
    /// Why it is away, or was when it was last.
    error: String,
    herald: Herald,
}

/// How Redis stands, for operators.
#[derive(Debug, Clone, Serialize)]
pub struct RedisStatus {
    /// Whether it helps.
    pub up: bool,
    /// Where it is.
    pub url: String,
    /// Which server is asked, while one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// This gateway's name there.
    pub gateway: String,
    /// Gateways that share it, this one among them, as far as is known.
    pub gateways: usize,
    /// The id of its memory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub epoch: String,
    /// Milliseconds since it is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_ms: Option<u64>,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Why it was away when it was last, where it helps again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// Why answers are not shared although it helps otherwise: they have a connection of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers_error: Option<Arc<str>>,
}

impl Redis {
    /// A connection that is not made yet. `node` is this gateway's name among the others, the same after
    /// a restart if what it spent is known then.
    ///
    /// # Errors
    /// Settings that no connection can be made with; no thread.
    pub fn new(
        settings: &RedisSettings,
        password: Option<Password>,
        ca: Option<Vec<u8>>,
        node: String,
    ) -> Result<Arc<Self>, String> {
        let course = Arc::new(Course::new(settings.place()?.addresses));
        let link = Link::new(settings, course.clone(), password.clone(), ca.clone())?;
        let bulk = Bulk::new(Link::new(settings, course, password, ca)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("state.redis: {error}"))?;
        let state = State { down_since: Some(Instant::now()), error: String::new(), herald: Herald::new() };
        Ok(Arc::new(Self {
            settings: settings.clone(),
            node: Mutex::new(node),
            run: fresh_id(),
            link,
            tried: AtomicBool::new(false),
            retold: AtomicBool::new(false),
            bulk,
            up: AtomicBool::new(false),
            is_there: tokio::sync::watch::Sender::new(false),
            failures: AtomicU64::new(0),
            term: ArcSwap::default(),
            state: Mutex::new(state),
            wake: Notify::new(),
            members: Mutex::default(),
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            settled: tokio::sync::watch::Sender::new(false),
        }))
    }

    /// Begins to keep the connection, on a thread of its own. After everybody has joined.
    ///
    /// # Errors
    /// No thread.
    pub fn begin(self: &Arc<Self>) -> Result<(), String> {
        let Some(runtime) = lock(&self.runtime).take() else { return Ok(()) };
        metrics::gauge!("tollgate_redis_up").set(0.0);
        let (kept, second) = (self.clone(), self.clone());
        let thread = std::thread::Builder::new().name("redis".into());
        let spawned = thread.spawn(move || {
            runtime.block_on(async { tokio::join!(keeper::keep(kept), bulk::look_after(second)) });
        });
        spawned.map(drop).map_err(|error| format!("state.redis: {error}"))
    }

    /// The settings.
    pub fn settings(&self) -> &RedisSettings {
        &self.settings
    }

    /// Whether calls are made at all.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// What is agreed.
    pub fn term(&self) -> Arc<Term> {
        self.term.load_full()
    }

    /// This gateway's name among the others.
    pub fn node(&self) -> String {
        lock(&self.node).clone()
    }

    /// The name of this process among those that had the same name.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// How many gateways share it, at least one.
    pub fn gateways(&self) -> u64 {
        self.term.load().gateways.len().max(1) as u64
    }

    /// Whether what this gateway was given is still its own.
    pub fn holds_lease(&self) -> bool {
        self.term.load().until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether a gateway of this name lives, as far as is known.
    pub fn is_alive(&self, node: &str) -> bool {
        self.term.load().gateways.iter().any(|known| known == node)
    }

    /// For how long Redis is away; `None` while it is there.
    pub fn outage(&self) -> Option<Duration> {
        if self.is_up() {
            return None;
        }
        lock(&self.state).down_since.map(|since| since.elapsed())
    }

    /// Whether a share of what was left may still be used.
    pub fn may_share(&self) -> bool {
        self.settings.on_loss == OnRedisLoss::Share
            && self.outage().is_none_or(|away| away < self.settings.max_outage.0)
    }

    /// A key: what comes from outside must be hashed before.
    pub fn key(&self, rest: &str) -> String {
        format!("{{{}}}:{FORM}:{rest}", self.settings.prefix)
    }

    /// Somebody holds something in Redis. Before it begins.
    pub fn join(&self, member: Arc<dyn Member>) {
        lock(&self.members).push(member);
    }

    /// Does something on the keeper's thread, off the path of a request.
    pub fn spawn(&self, what: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(what));
    }

    /// Runs a script, unless Redis is known to be away.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub async fn call(&self, script: &Script, keys: &[String], args: &[Arg]) -> Result<Value, Away> {
        if !self.is_up() {
            return Err(self.away());
        }
        self.tell_outcome(self.link.run(script, keys, args).await)
    }

    /// The same for a member whose turn it is, whom a Redis that is only about to be back must hear.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub async fn call_in_turn(&self, script: &Script, keys: &[String], args: &[Arg]) -> Result<Value, Away> {
        self.link.run(script, keys, args).await.map_err(|trouble| Away(trouble.text))
    }

    /// Sends one command whose answer may be large, unless Redis is known to be away.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub async fn fetch(&self, command: &::redis::Cmd) -> Result<Value, Away> {
        self.on_bulk(async |link: Arc<Link>| link.send(command).await).await
    }

    /// The same for a script.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub async fn fetch_by(&self, script: &Script, keys: &[String], args: &[Arg]) -> Result<Value, Away> {
        self.on_bulk(async |link: Arc<Link>| link.run(script, keys, args).await).await
    }

    /// Redis does not know the term that we go by: the keeper finds out.
    pub fn estranged(&self) {
        self.wake.notify_one();
    }

    /// Waits until it is known how Redis stands and everybody has told what he holds, or until it has taken too long.
    pub async fn settled(&self, within: Duration) -> bool {
        let mut settled = self.settled.subscribe();
        matches!(tokio::time::timeout(within, settled.wait_for(|settled| *settled)).await, Ok(Ok(_)))
    }

    /// How it stands.
    pub fn status(&self) -> RedisStatus {
        let (term, up) = (self.term(), self.is_up());
        let state = lock(&self.state);
        let away = state.down_since.filter(|_| !up).map(|since| since.elapsed().as_millis());
        RedisStatus {
            up,
            url: self.settings.url.clone(),
            server: self.link.place().map(|address| address.to_string()),
            gateway: self.node(),
            gateways: term.gateways.len(),
            epoch: term.epoch.clone(),
            away_ms: away.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
            error: if up { String::new() } else { state.why().to_owned() },
            last_error: if up { state.error.clone() } else { String::new() },
            answers_error: self.bulk.trouble().filter(|_| up),
        }
    }

    fn tell_outcome(&self, result: Result<Value, Trouble>) -> Result<Value, Away> {
        match result {
            Ok(value) => {
                self.failures.store(0, Ordering::Relaxed);
                Ok(value)
            }
            Err(trouble) => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                if trouble.kind == Kind::Refused {
                    // What was allowed may not be any more.
                    self.tried.store(false, Ordering::Relaxed);
                }
                if (trouble.kind != Kind::Slow || failures >= MOST_FAILURES) && self.goes_down() {
                    self.tell_trouble(&trouble.text);
                    self.wake.notify_one();
                }
                Err(Away(trouble.text))
            }
        }
    }

    /// No more calls are made. Says whether some were before.
    fn goes_down(&self) -> bool {
        let was_up = self.up.swap(false, Ordering::AcqRel);
        if was_up {
            self.is_there.send_replace(false);
            metrics::gauge!("tollgate_redis_up").set(0.0);
            lock(&self.state).down_since = Some(Instant::now());
        }
        was_up
    }

    /// Why Redis is away, for the status; and for the log, if that was not said yet.
    fn tell_trouble(&self, why: &str) {
        let mut state = lock(&self.state);
        why.clone_into(&mut state.error);
        if state.herald.begins(why) {
            let on_loss = self.settings.on_loss;
            tracing::warn!(error = why, ?on_loss, "Redis is away: limits and budgets go by what they hold");
        }
    }

    fn away(&self) -> Away {
        Away(lock(&self.state).why().into())
    }
}

impl State {
    fn why(&self) -> &str {
        if self.error.is_empty() { "not connected yet" } else { &self.error }
    }
}

impl Term {
    /// Tells this memory of Redis from those that were lost; never zero.
    pub fn mark(&self) -> u64 {
        self.epoch.get(..16).and_then(|start| u64::from_str_radix(start, 16).ok()).unwrap_or(1).max(1)
    }

    /// Whether it was ever agreed.
    pub fn is_known(&self) -> bool {
        !self.epoch.is_empty()
    }
}

/// The parts of an answer that is a list.
pub fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(all) => all,
        other => vec![other],
    }
}

/// A whole number of an answer.
pub fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => text(value)?.parse().ok(),
    }
}

/// A text of an answer.
pub fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// A name that nobody else has.
pub fn fresh_id() -> String {
    let mut random = [0; 16];
    fastrand::fill(&mut random);
    format!("{:032x}", u128::from_le_bytes(random))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
