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

use arc_swap::ArcSwap;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

pub use desk::{Change, KeyDesk, Refused};
pub use holder::{Holder, Key, Shown, Written};
pub use identify::{Auth, Visit};
pub use jwks::Jwks;
pub use jwt::Verifier;
pub use presented::credential;
pub use secret::{Minted, is_well_formed, mint};
pub use settings::{AuthMode, AuthSettings, ClaimSettings, JwtSettings, KeyTerms};

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
    jwks: Mutex<HashMap<String, Arc<Jwks>>>,
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
            jwks: Mutex::default(),
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
