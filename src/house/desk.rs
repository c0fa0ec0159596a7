//! Where operators put older policies in the place of those on disk, until these change.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::sources::{PolicySource, Sources};
use super::watch::Again;
use crate::admin;
use crate::clock::{Clock, SystemClock};
use crate::gateway::Pinned;
use crate::store::{Version, Versions};

/// The word for the policies on disk.
const DISK: &str = "disk";
/// How long an operator waits for the older policies to serve.
const PATIENCE: Duration = Duration::from_secs(30);

/// What operators ask for.
pub struct Desk {
    versions: Arc<Versions>,
    pin: Mutex<Option<Pin>>,
    again: OnceLock<Again>,
}

/// Older policies that shall serve.
#[derive(Clone)]
struct Pin {
    version: Arc<Version>,
    /// Hash of the policies on disk when this was asked for; known with the next reading.
    on_disk: Option<Arc<str>>,
    since_ms: u64,
}

/// A reading with the policies that shall serve.
pub(super) struct Ordered {
    pub(super) sources: Sources,
    /// What is in the place of the policies on disk, if anything is.
    pub(super) pinned: Option<Pinned>,
    /// The reading as it was, then.
    pub(super) read: Option<Sources>,
}

impl Desk {
    /// A desk at which nothing was asked for.
    pub fn new(versions: Arc<Versions>) -> Self {
        Self { versions, pin: Mutex::default(), again: OnceLock::new() }
    }

    /// Whom to ask for another reading.
    pub(super) fn listen(&self, again: Again) {
        // There is one watch in a process.
        let _ = self.again.set(again);
    }

    /// Puts what was asked for in the place of what was read; policies on disk that are other ones by now go first.
    pub(super) fn order(&self, mut sources: Sources) -> Ordered {
        let mut pin = self.lock();
        let Some(pin) = pin.as_mut() else { return Ordered { sources, pinned: None, read: None } };
        let found = sources.policies_hash();
        let on_disk = pin.on_disk.get_or_insert_with(|| found.clone()).clone();
        if on_disk != found {
            return Ordered { sources, pinned: None, read: None };
        }
        let file = |file: &crate::store::VersionFile| PolicySource {
            name: file.name.to_string(),
            path: file.path.clone(),
            text: file.text.to_string(),
        };
        let read = Some(sources.clone());
        sources.put_in_place(pin.version.files.iter().map(file).collect());
        let pinned = Pinned { hash: pin.version.hash.clone(), on_disk, since_ms: pin.since_ms };
        Ordered { sources, pinned: Some(pinned), read }
    }

    /// This went into service.
    pub(super) fn served(&self, pinned: Option<&Pinned>) {
        if pinned.is_none() && self.lock().take().is_some() {
            tracing::info!("the policies on disk serve again");
        }
        metrics::gauge!("tollgate_policy_pinned").set(f64::from(u8::from(pinned.is_some())));
    }

    /// Puts `pin` in place, and waits until what it says serves.
    fn ask(&self, pin: Option<Pin>) -> Result<(), String> {
        let again = self.again.get().ok_or("the gateway is still starting")?;
        let before = std::mem::replace(&mut *self.lock(), pin);
        let (done, told) = sync_channel(1);
        again.ask(done)?;
        let result =
            told.recv_timeout(PATIENCE).map_err(|_| "the policies were not taken in time".to_owned());
        let result = result.and_then(|taken| taken);
        if result.is_err() {
            *self.lock() = before;
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pin>> {
        self.pin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl admin::Desk for Desk {
    fn roll_back(&self, to: Option<&str>, serving: &str) -> Result<String, String> {
        if to == Some(DISK) {
            self.ask(None)?;
            return Ok("the last good policies on disk serve".into());
        }
        let version = match to {
            Some(hash) => self.versions.find(hash)?,
            None => self.versions.before(serving)?,
        };
        let since_ms = SystemClock.unix_ms();
        self.ask(Some(Pin { version: version.clone(), on_disk: None, since_ms }))?;
        tracing::warn!(
            policies = &*version.hash,
            "rolled back: older policies serve until those on disk change"
        );
        metrics::counter!("tollgate_policy_rollbacks_total", "reason" => "rollback").increment(1);
        Ok(format!("the policies {} serve, until those on disk change", version.hash))
    }
}
