//! The second connection, for what may be large, so that nobody else waits behind it. It is looked after for itself:
//! it can break, or fall silent, while the first one is well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::herald::Herald;
use super::keeper::{BEAT, PROBE};
use super::link::{Kind, Link, Trouble};
use super::{Away, MOST_FAILURES, Redis, Value, lock};

/// The connection and what is known of it.
pub(super) struct Bulk {
    link: Arc<Link>,
    /// Calls in a row without an answer.
    failures: AtomicU64,
    state: Mutex<State>,
    /// It is to be looked at before its time.
    wake: Notify,
}

struct State {
    /// Why it is left alone.
    trouble: Option<Arc<str>>,
    herald: Herald,
}

impl Bulk {
    pub(super) fn new(link: Link) -> Self {
        let mut herald = Herald::new();
        // Nobody wants to read of a second connection that is well.
        herald.ends();
        Self {
            link: Arc::new(link),
            failures: AtomicU64::new(0),
            state: Mutex::new(State { trouble: None, herald }),
            wake: Notify::new(),
        }
    }

    /// Why no call is made on it; `None` while it answers.
    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        lock(&self.state).trouble.clone()
    }

    /// Redis is there: so should this be.
    pub(super) fn look_now(&self) {
        self.wake.notify_one();
    }

    /// The next call makes another connection.
    pub(super) fn drop_connection(&self) {
        self.link.drop_connection();
    }

    fn is_left_alone(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= MOST_FAILURES
    }

    /// Finds out whether it answers, on another connection if this one was closed.
    async fn look(&self) {
        let mut heard = self.heard().await;
        if heard.as_ref().is_err_and(|trouble| trouble.kind == Kind::Broken) {
            heard = self.heard().await;
        }
        self.count(&heard);
    }

    async fn heard(&self) -> Result<(), Trouble> {
        self.link.connect().await.map_err(without_connection)?;
        self.link.is_heard().await
    }

    /// Notes how a call went. What Redis refuses is an answer, too.
    fn count<T>(&self, result: &Result<T, Trouble>) {
        let trouble = result.as_ref().err().filter(|trouble| trouble.kind != Kind::Refused);
        let Some(trouble) = trouble else {
            let before = self.failures.swap(0, Ordering::Relaxed);
            if before >= MOST_FAILURES {
                self.comes_back();
            }
            return;
        };
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < MOST_FAILURES {
            return;
        }
        metrics::gauge!("tollgate_redis_answers_up").set(0.0);
        let mut state = lock(&self.state);
        state.trouble = Some(trouble.text.clone());
        if state.herald.begins(&trouble.text) {
            tracing::warn!(
                error = &*trouble.text,
                "Redis gives no answer on its second connection: kept answers and idempotency keys are this \
                 gateway's own"
            );
        }
    }

    fn comes_back(&self) {
        metrics::gauge!("tollgate_redis_answers_up").set(1.0);
        let mut state = lock(&self.state);
        state.trouble = None;
        if state.herald.ends() {
            tracing::info!("Redis answers on its second connection again: kept answers are shared");
        }
    }
}

/// Never ends.
pub(super) async fn look_after(redis: Arc<Redis>) {
    metrics::gauge!("tollgate_redis_answers_up").set(1.0);
    loop {
        let bulk = &redis.bulk;
        if redis.is_up() {
            bulk.look().await;
        }
        let pause = if redis.is_up() && !bulk.is_left_alone() { BEAT } else { PROBE };
        let _ = tokio::time::timeout(pause, bulk.wake.notified()).await;
    }
}

impl Redis {
    /// Makes a call that may be large, and once more on another connection if there was none any more.
    pub(super) async fn on_bulk<F>(&self, call: impl Fn(Arc<Link>) -> F) -> Result<Value, Away>
    where
        F: Future<Output = Result<Value, Trouble>>,
    {
        let (bulk, begun) = (&self.bulk, Instant::now());
        let till = begun + self.settings.timeout.0;
        if !self.is_there_by(till).await {
            return Err(self.away());
        }
        if bulk.is_left_alone() {
            return Err(Away(bulk.trouble().unwrap_or_else(|| "no answer on the second connection".into())));
        }
        let mut result = call(bulk.link.clone()).await;
        if result.as_ref().is_err_and(|trouble| trouble.kind == Kind::Broken) {
            // The first connection has probably met with the same.
            self.wake.notify_one();
            let again = async {
                self.dial(&bulk.link).await?;
                call(bulk.link.clone()).await
            };
            let again = tokio::time::timeout_at(till, again).await;
            result = again.unwrap_or_else(|_| Err(bulk.link.too_slow()));
        }
        bulk.count(&result);
        result.map_err(|trouble| Away(trouble.text))
    }

    /// Makes a connection, on the keeper's thread.
    async fn dial(&self, link: &Arc<Link>) -> Result<(), Trouble> {
        let link = link.clone();
        let ended = || Trouble { text: "nobody keeps the connection any more".into(), kind: Kind::Broken };
        let dialled = self.handle.spawn(async move { link.connect().await }).await;
        dialled.unwrap_or_else(|_| Err(ended())).map(drop).map_err(without_connection)
    }

    /// Whether calls are made. One that has only just been lost may be back in a moment.
    async fn is_there_by(&self, till: Instant) -> bool {
        if self.is_up() {
            return true;
        }
        let patience: Duration = self.settings.timeout.0;
        let lost = self.outage().filter(|away| self.term().is_known() && *away < patience);
        let Some(lost) = lost else { return false };
        let mut up = self.is_there.subscribe();
        let till = till.min(Instant::now() + patience.saturating_sub(lost));
        matches!(tokio::time::timeout_at(till, up.wait_for(|up| *up)).await, Ok(Ok(_)))
    }
}

/// Whoever is not let in has no connection, although he was answered.
fn without_connection(trouble: Trouble) -> Trouble {
    Trouble { kind: Kind::Broken, ..trouble }
}
