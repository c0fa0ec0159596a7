//! Virtual keys and tokens: who calls, by what they show.
//!
//! On the path of a request, nothing but memory is asked: the table of all keys is swapped whole whenever one of them
//! changes. Secrets are kept as keyed hashes.

mod desk;
mod holder;
mod identify;
mod jwks;
mod jwt;
mod presented;
mod secret;
mod settings;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

pub use desk::{BUDGETS, Change, KeyDesk, PRICE_CHANGES, PRICES, Refused, SHARED_KINDS, patch};
pub use holder::{Holder, Key, Shown, Written};
pub use identify::{Auth, Visit};
pub use jwks::{Jwks, PAUSE as JWKS_PAUSE};
pub use jwt::Verifier;
pub use presented::credential;
pub use secret::{Minted, is_well_formed, mint};
pub use settings::{AuthMode, AuthSettings, ClaimSettings, JwtSettings, KeyTerms};

use crate::ledger::PayerKey;
use crate::limits::{Limits, Penalty};
use secret::Hasher;
use table::Table;

/// All keys of this process.
pub struct Keys {
    hasher: OnceLock<Hasher>,
    table: ArcSwap<Table>,
    sources: Mutex<Sources>,
    limits: Arc<Limits>,
    penalty: Penalty,
    /// Tokens that were not good.
    forged: Penalty,
    jwks: Mutex<HashMap<String, Arc<Jwks>>>,
    promised: ArcSwapOption<Promised>,
}

/// Limits, budgets and providers of the configuration that keys may name.
#[derive(Debug, Clone, Default)]
pub struct Promised {
    /// Names under `rate_limits:`.
    pub rate_limits: Vec<String>,
    /// Names under `budgets:`, and whether each holds by name.
    pub budgets: Vec<(String, bool)>,
    /// Names under `providers:`.
    pub providers: Vec<String>,
}

impl Promised {
    /// What is wrong with the names in what is said of a key: the field, and the complaint.
    ///
    /// # Errors
    /// The first name that means nothing.
    pub fn check(&self, terms: &KeyTerms) -> Result<(), (&'static str, String)> {
        let limit = terms.rate_limits.iter().find(|name| !self.rate_limits.contains(name));
        if let Some(name) = limit {
            return Err(("rate_limits", format!("there is no limit `{name}` under `rate_limits`")));
        }
        for name in &terms.budgets {
            match self.budgets.iter().find(|(known, _)| known == name) {
                Some((_, true)) => {}
                Some((_, false)) => {
                    let text = format!(
                        "budget `{name}` counts what its `for` says, whatever keys name; write `by_name: true` there, or leave it out here"
                    );
                    return Err(("budgets", text));
                }
                None => return Err(("budgets", format!("there is no budget `{name}` under `budgets`"))),
            }
        }
        Ok(())
    }

    /// A provider that a key may use and that there is not.
    pub fn missing<'t>(&self, terms: &'t KeyTerms) -> Option<&'t str> {
        let all = terms.scope.providers.iter().flatten();
        all.map(String::as_str).find(|name| !self.providers.iter().any(|known| known == name))
    }
}

/// Where keys come from.
#[derive(Default)]
struct Sources {
    written: Vec<Key>,
    stored: Vec<Key>,
}

impl Keys {
    /// No keys yet. Failing ones are slowed down by `penalty`.
    pub fn new(limits: Arc<Limits>) -> Self {
        Self {
            hasher: OnceLock::new(),
            table: ArcSwap::default(),
            sources: Mutex::default(),
            limits,
            penalty: Penalty::new(Instant::now()),
            forged: Penalty::new(Instant::now()),
            jwks: Mutex::default(),
            promised: ArcSwapOption::empty(),
        }
    }

    /// What keys are hashed with. Only the first one counts; without one, hashes mean nothing after this process.
    pub fn season(&self, pepper: &SecretString) {
        // A second pepper would make every key of before unknown.
        let _ = self.hasher.set(Hasher::of(pepper.expose_secret().as_bytes()));
    }

    /// Takes the keys that stand in the configuration.
    pub fn configure(&self, written: Vec<Written>) {
        let keys = written.into_iter().map(|written| written.into_key(self.hasher())).collect();
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.written = keys;
        self.rebuild(&sources);
    }

    /// Takes the keys that the registry keeps.
    pub fn stored(&self, keys: Vec<Key>) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.stored = keys;
        self.rebuild(&sources);
    }

    /// Takes what keys may name. Stored keys that name something else are told of: it does not hold for them.
    pub fn promise(&self, promised: Promised) {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for key in sources.stored.iter().filter(|key| key.revoked_ms.is_none()) {
            if let Err((_, what)) = promised.check(&key.terms) {
                tracing::warn!(
                    key = &*key.id,
                    name = &*key.name,
                    what,
                    "a limit or budget of a stored key does not hold"
                );
            }
        }
        drop(sources);
        self.promised.store(Some(Arc::new(promised)));
    }

    /// What budgets go by of all keys, by their ids.
    pub fn payers(&self) -> HashMap<Arc<str>, PayerKey> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let payer = |key: &Key| PayerKey {
            name: key.name.clone(),
            budgets: key.terms.budgets.iter().map(|name| name.as_str().into()).collect(),
        };
        // Where two have one id, the one of the configuration counts.
        let all = sources.stored.iter().chain(&sources.written);
        all.map(|key| (key.id.clone(), payer(key))).collect()
    }

    /// All keys, those of the configuration first.
    pub fn all(&self) -> Vec<Key> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.written.iter().chain(&sources.stored).cloned().collect()
    }

    /// The set of public keys that is read from this place; it outlives snapshots.
    pub fn jwks(&self, place: &str) -> Arc<Jwks> {
        let mut all = self.jwks.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(place.to_owned()).or_default().clone()
    }

    /// Sets of public keys that are in use, with the places that they are read from. Others are forgotten.
    pub fn wanted_jwks(&self) -> Vec<(String, Arc<Jwks>)> {
        let mut all = self.jwks.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, jwks| Arc::strong_count(jwks) > 1);
        all.iter().map(|(place, jwks)| (place.clone(), jwks.clone())).collect()
    }

    fn hasher(&self) -> &Hasher {
        self.hasher.get_or_init(|| {
            let mut random = [0; 32];
            // A system without randomness has other worries; the keys are then as good as their own secrets.
            let _ = SystemRandom::new().fill(&mut random);
            Hasher::of(&random)
        })
    }

    fn rebuild(&self, sources: &Sources) {
        let all = sources.written.iter().chain(&sources.stored);
        self.table.store(Arc::new(Table::of(all, &self.limits)));
        self.limits.tidy();
    }
}
