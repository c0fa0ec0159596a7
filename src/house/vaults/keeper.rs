//! The thread that asks the stores: for what is wanted, for what is due, and for what a provider refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Shared;
use super::book::News;
use super::hashicorp::Renewed;
use super::notes::Said;
use super::stores::{StoreTerms, Stores, Trouble, store_of};
use crate::settings::SecretRef;
use crate::telemetry;

/// A store that could not be asked fails at once for so long, for other secrets too.
const AWAY: Duration = Duration::from_secs(2);
/// How long is waited for a changed value to serve, and until it is tried again where it did not.
const SERVED: Duration = Duration::from_secs(30);
/// Without anything due, the thread looks up now and then.
const IDLE: Duration = Duration::from_secs(3_600);

/// What the thread is asked for.
pub(super) enum Errand {
    /// A value that is not known.
    Ask(SecretRef, Reply),
    /// A value that a provider refused.
    Recall(SecretRef),
    /// Something else is due than before.
    Look,
    /// Nobody asks any more; what was opened is given back, and then this one is told.
    Close(SyncSender<()>),
}

type Reply = SyncSender<Result<Zeroizing<String>, String>>;

/// Asks the stores.
pub(super) struct Keeper {
    stores: Arc<Stores>,
    shared: Arc<Shared>,
    timeout: Duration,
    jobs: JoinSet<Done>,
    /// Readings among the jobs.
    reading: usize,
    renewing: bool,
    waiting: HashMap<SecretRef, Vec<Reply>>,
    away: HashMap<&'static str, (Instant, String)>,
    /// Something changed that does not serve yet, and when that is tried.
    unserved: Option<Instant>,
}

/// Why a store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Wanted,
    Refresh,
    Refused,
}

enum Done {
    Read(SecretRef, Origin, Result<Zeroizing<String>, Trouble>),
    Renewed(Renewed),
    Served(Result<(), String>),
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Wanted => "reload",
            Self::Refresh => "refresh",
            Self::Refused => "refused by the provider",
        }
    }
}

impl Keeper {
    /// Starts the thread; it ends when nobody can ask it any more.
    pub(super) fn start(terms: &StoreTerms, shared: Arc<Shared>) -> Result<UnboundedSender<Errand>, String> {
        let (to, errands) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("runtime: {error}"))?;
        let terms = terms.clone();
        let work = move || {
            runtime.block_on(async {
                let keeper = Self {
                    stores: Stores::new(&terms),
                    shared,
                    timeout: terms.settings.timeout.0,
                    jobs: JoinSet::new(),
                    reading: 0,
                    renewing: false,
                    waiting: HashMap::new(),
                    away: HashMap::new(),
                    unserved: None,
                };
                keeper.run(errands).await;
            });
        };
        let thread = std::thread::Builder::new().name("secrets".into()).spawn(work);
        thread.map(|_| to).map_err(|error| format!("thread: {error}"))
    }

    async fn run(mut self, mut errands: UnboundedReceiver<Errand>) {
        loop {
            let due = self.due().await;
            tokio::select! {
                errand = errands.recv() => match errand {
                    None => return self.stores.close().await,
                    Some(Errand::Close(done)) => {
                        self.stores.close().await;
                        // Who waited may have gone.
                        let _ = done.try_send(());
                        return;
                    }
                    Some(errand) => self.take(errand),
                },
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(error) => tracing::error!(%error, "a store could not be asked"),
                },
                () = tokio::time::sleep_until(due) => {}
            }
            self.catch_up().await;
        }
    }

    /// When there is something to do, if nothing happens before.
    async fn due(&self) -> Instant {
        let now = Instant::now();
        let renewal = match self.stores.vault().filter(|_| !self.renewing) {
            Some(vault) if self.reading == 0 => vault.renewal().await,
            _ => None,
        };
        let unserved = self.unserved.filter(|_| self.can_serve());
        let next = self.shared.book().next();
        [next, renewal, unserved].into_iter().flatten().min().unwrap_or(now + IDLE).min(now + IDLE)
    }

    fn can_serve(&self) -> bool {
        self.reading == 0 && self.shared.common.again.get().is_some()
    }

    fn take(&mut self, errand: Errand) {
        let now = Instant::now();
        match errand {
            Errand::Look | Errand::Close(_) => {}
            Errand::Recall(reference) => {
                if self.shared.book().recall(&reference, now) {
                    self.read(reference, Origin::Refused, now);
                }
            }
            Errand::Ask(reference, reply) => {
                let known = self.shared.book().value(&reference, now);
                if let Some(known) = known {
                    // Who asked may have gone.
                    let _ = reply.try_send(known);
                    return;
                }
                self.waiting.entry(reference.clone()).or_default().push(reply);
                let away = self.away.get(store_of(&reference)).filter(|(until, _)| now < *until);
                if let Some((_, error)) = away.cloned() {
                    self.told(&reference, Origin::Wanted, Err(Trouble::Away(error)));
                } else {
                    self.read(reference, Origin::Wanted, now);
                }
            }
        }
    }

    /// Begins what is due.
    async fn catch_up(&mut self) {
        let now = Instant::now();
        let due = self.shared.book().due(now);
        due.into_iter().for_each(|reference| self.read(reference, Origin::Refresh, now));
        if !self.renewing
            && self.reading == 0
            && let Some(vault) = self.stores.vault()
            && vault.renewal().await.is_some_and(|due| due <= now)
        {
            let (stores, timeout) = (self.stores.clone(), self.timeout);
            self.renewing = true;
            self.jobs.spawn(async move {
                let Some(vault) = stores.vault() else { return Done::Renewed(Renewed::Nothing) };
                let renewed = tokio::time::timeout(timeout, vault.renew()).await;
                Done::Renewed(
                    renewed.unwrap_or_else(|_| Renewed::Failed("Vault did not answer in time".into())),
                )
            });
        }
        if self.shared.book().part(now) {
            self.unserved = Some(now);
        }
        if self.can_serve() && self.unserved.is_some_and(|at| at <= now) {
            self.serve();
        }
    }

    fn read(&mut self, reference: SecretRef, origin: Origin, now: Instant) {
        if !self.shared.book().ask(&reference, now) {
            return;
        }
        let (stores, timeout) = (self.stores.clone(), self.timeout);
        self.reading += 1;
        self.jobs.spawn(async move {
            let read = tokio::time::timeout(timeout, stores.read(&reference)).await;
            let read = read.unwrap_or_else(|_| Err(Trouble::Away(format!("no answer within {timeout:?}"))));
            Done::Read(reference, origin, read)
        });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Renewed(renewed) => {
                self.renewing = false;
                self.renewed(&renewed);
            }
            Done::Served(Ok(())) => {}
            Done::Served(Err(error)) => {
                tracing::error!(
                    error,
                    "what changed in a store of secrets is not in service; it will be tried again"
                );
                self.unserved = Some(Instant::now() + SERVED);
            }
            Done::Read(reference, origin, read) => {
                self.reading = self.reading.saturating_sub(1);
                self.told(&reference, origin, read);
            }
        }
    }

    /// A store answered, or did not.
    fn told(&mut self, reference: &SecretRef, origin: Origin, read: Result<Zeroizing<String>, Trouble>) {
        let (now, store) = (Instant::now(), store_of(reference));
        let replies = self.waiting.remove(reference).unwrap_or_default();
        let error = read.as_ref().err().map(ToString::to_string);
        match &read {
            Err(Trouble::Away(error)) => drop(self.away.insert(store, (now + AWAY, error.clone()))),
            _ => drop(self.away.remove(store)),
        }
        for reply in replies {
            // Who asked may have gone.
            let _ = reply.try_send(read.clone().map_err(|trouble| trouble.to_string()));
        }
        let (news, stale) = {
            let mut book = self.shared.book();
            let news = match read {
                Ok(value) => book.took(reference, value, now),
                Err(trouble) => book.failed(reference, trouble.to_string(), now),
            };
            (news, book.stale(store_of, store))
        };
        let mine = self.is_current();
        metrics::counter!("tollgate_secret_fetches_total", "store" => store, "outcome" => news.as_str())
            .increment(1);
        if mine {
            metrics::gauge!("tollgate_secrets_stale", "store" => store).set(stale);
        }
        let target = reference.to_string();
        let starting = self.shared.common.again.get().is_none();
        let why = if starting && origin == Origin::Wanted { "start" } else { origin.as_str() };
        let said = Said { origin: why, outcome: news.as_str(), error: error.as_deref() };
        let again = matches!(news, News::Same | News::Back | News::StillFailed);
        self.shared.common.notes.fetched(&target, said, again, now);
        say(news, origin, &target, error.as_deref());
        let other = match news {
            News::Changed | News::Lapsed => true,
            // Nobody waits for it: it was wanted before, and could not be had.
            News::First => origin != Origin::Wanted,
            _ => false,
        };
        if other {
            self.unserved = Some(now);
        }
    }

    fn is_current(&self) -> bool {
        let current = self.shared.common.current.load();
        current.as_ref().is_none_or(|current| Arc::ptr_eq(&current.shared, &self.shared))
    }

    fn renewed(&self, renewed: &Renewed) {
        let outcome = match renewed {
            Renewed::Nothing => return,
            Renewed::Prolonged => "renewed",
            Renewed::Login => "login",
            Renewed::Failed(error) => {
                tracing::warn!(
                    error,
                    "the lease of Vault's token could not be renewed; it will be tried again"
                );
                "failed"
            }
        };
        metrics::counter!("tollgate_secret_leases_total", "outcome" => outcome).increment(1);
        self.shared.common.notes.opened("vault", outcome, Instant::now());
    }

    /// Has everything built once more, with the values of now.
    fn serve(&mut self) {
        self.unserved = None;
        let common = self.shared.common.clone();
        self.jobs.spawn_blocking(move || {
            let Some(again) = common.again.get() else { return Done::Served(Ok(())) };
            let (done, told) = sync_channel(1);
            let asked = again.ask(done);
            Done::Served(asked.and_then(|()| match told.recv_timeout(SERVED) {
                Ok(served) => served,
                Err(_) => Err("it was not taken in time".into()),
            }))
        });
    }
}

fn say(news: News, origin: Origin, reference: &str, error: Option<&str>) {
    let error = error.unwrap_or_default();
    match news {
        News::Changed => {
            tracing::info!(reference, "a secret changed in its store; the new one goes into service")
        }
        News::Back => tracing::info!(reference, "the store gives a secret again"),
        // Who waits for it says so.
        News::Failed if origin == Origin::Wanted => {}
        News::Failed => {
            tracing::warn!(reference, error, "a secret cannot be read from its store; the known one goes on")
        }
        News::StillFailed => {
            tracing::debug!(reference, error, "a secret still cannot be read from its store")
        }
        News::Lapsed => {
            tracing::error!(
                reference,
                error,
                "alarm: a secret could not be read for too long; it is not used any more"
            );
            telemetry::alarm("secret_lapsed", serde_json::json!({ "reference": reference, "why": error }));
        }
        News::First | News::Same => {}
    }
}
