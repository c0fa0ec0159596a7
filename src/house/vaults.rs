//! Secrets that other machines keep: fetched when they are first needed, known for a while, followed when they change.
//!
//! One thread of its own asks the stores, so that no request waits for them and no worker works for them. A value that
//! changed has everything built once more, and goes into service with the new snapshot; requests under way end with the
//! one that they began with.

mod book;
mod hashicorp;
mod keeper;
mod manager_of_aws;
mod notes;
mod settings;
mod stores;

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use zeroize::Zeroizing;

use book::{Book, Terms};
use keeper::{Errand, Keeper};
pub use notes::Notes;
pub use settings::SecretsSettings;
pub(super) use stores::StoreTerms;

use super::config::Config;
use super::sources::each_reference;
use super::watch::Again;
use crate::providers::Recall;
use crate::settings::SecretRef;

/// What is waited for beyond the store's own time.
const MARGIN: Duration = Duration::from_secs(2);

/// The stores of one configuration, and what is known of their secrets.
#[derive(Clone)]
pub(super) struct Vaults {
    terms: Arc<StoreTerms>,
    shared: Arc<Shared>,
    /// To the thread, which begins with the first question and ends with the last of these.
    inbox: Arc<OnceLock<Result<UnboundedSender<Errand>, String>>>,
}

/// What the thread and those who ask it have in common.
struct Shared {
    book: Mutex<Book>,
    common: Arc<Common>,
}

/// What outlives the stores of one configuration.
#[derive(Default)]
struct Common {
    /// Whom to ask for everything to be built once more.
    again: OnceLock<Again>,
    notes: Arc<Notes>,
    /// The stores in service.
    current: ArcSwapOption<Vaults>,
}

impl Vaults {
    /// The stores of a configuration in this directory. Nobody is asked yet.
    pub(super) fn new(config: &Config, dir: &Path) -> Self {
        Self::on(terms(config, dir), Arc::default())
    }

    /// The stores of a newer configuration: those in service or these, where nothing was changed in them.
    pub(super) fn after(&self, config: &Config, dir: &Path) -> Self {
        let terms = terms(config, dir);
        let current = self.shared.common.current.load_full();
        let known = current.as_deref().into_iter().chain([self]).find(|known| *known.terms == terms);
        known.cloned().unwrap_or_else(|| Self::on(terms, self.shared.common.clone()))
    }

    fn on(terms: StoreTerms, common: Arc<Common>) -> Self {
        let settings = &terms.settings;
        let (refresh, grace, overlap) = (settings.refresh.0, settings.grace.0, settings.overlap.0);
        let book = Book::new(Terms { refresh, grace, overlap });
        let shared = Arc::new(Shared { book: Mutex::new(book), common });
        Self { terms: Arc::new(terms), shared, inbox: Arc::default() }
    }

    /// The value of a reference, from memory where it is known. Blocks until its store has answered where it is not.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn get(&self, reference: &SecretRef) -> Result<Zeroizing<String>, String> {
        if let Some(known) = self.shared.book().value(reference, Instant::now()) {
            return known;
        }
        let (reply, told) = sync_channel(1);
        self.send(Errand::Ask(reference.clone(), reply))?;
        let patience = self.terms.settings.timeout.0 + MARGIN;
        told.recv_timeout(patience).unwrap_or_else(|_| Err("its store did not answer in time".into()))
    }

    /// The value before the one of now, as long as both go on.
    pub(super) fn before(&self, reference: &SecretRef) -> Option<Zeroizing<String>> {
        if !reference.is_remote() {
            return None;
        }
        self.shared.book().before(reference, Instant::now())
    }

    /// Whether it was known once, and may not be used any more.
    pub(super) fn is_lapsed(&self, reference: &SecretRef) -> bool {
        reference.is_remote() && self.shared.book().is_lapsed(reference)
    }

    /// Asks the store of a key that was refused whether it has another one.
    pub(super) fn recall(&self, reference: &SecretRef) -> Option<Recall> {
        if !reference.is_remote() {
            return None;
        }
        // Keys in service do not keep the thread alive.
        let to = self.inbox.get()?.as_ref().ok()?.downgrade();
        let reference = reference.clone();
        Some(Arc::new(move || {
            if let Some(to) = to.upgrade() {
                // Fails only when nobody follows this store any more.
                let _ = to.send(Errand::Recall(reference.clone()));
            }
        }))
    }

    /// This configuration goes into service: what it does not name is forgotten, and what only providers use may lapse.
    pub(super) fn serve(&self, config: &Config) {
        let (mut of_providers, mut others) = (HashSet::new(), HashSet::new());
        each_reference(config, &mut |reference, of_provider| {
            let set = if of_provider { &mut of_providers } else { &mut others };
            set.insert(reference.clone());
        });
        let hooks = config.alerts.webhooks.iter();
        others.extend(hooks.flat_map(|hook| hook.reference().into_iter().chain([hook.secret.clone()])));
        self.shared.book().keep(of_providers, &others);
        self.shared.common.current.store(Some(Arc::new(self.clone())));
        self.wake();
    }

    /// Whom to ask for everything to be built once more when a value has changed.
    pub(super) fn listen(&self, again: Again) {
        // There is one watch in a process.
        let _ = self.shared.common.again.set(again);
        self.wake();
    }

    /// The thread looks at what is due, if there is one: where nothing was asked for, there is none.
    fn wake(&self) {
        if let Some(Ok(to)) = self.inbox.get() {
            let _ = to.send(Errand::Look);
        }
    }

    /// Asks for all that is known anew.
    pub(super) fn refresher(&self) -> impl Fn() + Send + Sync + 'static {
        let common = self.shared.common.clone();
        move || {
            if let Some(vaults) = common.current.load_full() {
                vaults.shared.book().hurry(Instant::now());
                vaults.wake();
            }
        }
    }

    /// Gives back what opens the stores in service. Blocks, for so long at most.
    pub(super) fn closer(&self) -> impl FnOnce(Duration) + Send + 'static {
        let common = self.shared.common.clone();
        move |patience| {
            let Some(vaults) = common.current.swap(None) else { return };
            let Some(Ok(to)) = vaults.inbox.get() else { return };
            let (done, told) = sync_channel(1);
            if to.send(Errand::Close(done)).is_ok() {
                // Whatever was not given back in time ends with its lease.
                let _ = told.recv_timeout(patience);
            }
        }
    }

    /// What is noted for the audit log.
    pub(super) fn notes(&self) -> Arc<Notes> {
        self.shared.common.notes.clone()
    }

    /// How the secrets of the stores in service stand, without their values.
    pub(super) fn standings(&self) -> impl Fn() -> Vec<Value> + Send + Sync + 'static {
        let common = self.shared.common.clone();
        move || {
            let Some(vaults) = common.current.load_full() else { return Vec::new() };
            let all = vaults.shared.book().standings(Instant::now());
            let shown = |(reference, standing): (String, book::Standing)| {
                let mut shown = json!({
                    "reference": reference, "state": standing.state, "confirmed_s_ago": standing.age.as_secs(),
                });
                if let Some(error) = standing.error {
                    shown["error"] = error.into();
                }
                shown
            };
            all.into_iter().map(shown).collect()
        }
    }

    fn send(&self, errand: Errand) -> Result<(), String> {
        let inbox = self.inbox.get_or_init(|| Keeper::start(&self.terms, self.shared.clone()));
        let gone = |_| "nobody asks its store any more".to_owned();
        inbox.as_ref().map_err(Clone::clone)?.send(errand).map_err(gone)
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn terms(config: &Config, dir: &Path) -> StoreTerms {
    StoreTerms {
        settings: config.secrets.clone(),
        keystore: config.keystore.clone(),
        upstream: config.upstream.clone(),
        dir: dir.to_owned(),
    }
}
