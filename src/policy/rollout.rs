//! A candidate set of policies that decides for a share of the callers, and loses it when it does worse than the live one.

mod window;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::settings::{CandidateSettings, Sticky};
use crate::caller::Caller;
use crate::store::chosen;
pub use window::Tally;
use window::Window;

/// Which set of policies decided a request, while there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The one in service.
    Live,
    /// The one that is tried.
    Candidate,
}

impl Arm {
    /// The name used in metrics, logs and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Candidate => "candidate",
        }
    }
}

/// How a request ended, as far as it counts for the arm that decided it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct End {
    /// A policy failed, the request was refused, or there was no whole answer.
    pub failed: bool,
    /// Dollars, where they are known.
    pub cost: Option<f64>,
}

/// Why a candidate lost its share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Halted {
    /// Hash of the candidate.
    pub hash: Arc<str>,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// `error_rate`, `cost` or `admin`.
    pub kind: Arc<str>,
    /// In words, with the figures of both arms.
    pub reason: Arc<str>,
    /// The share that it lost, in percent.
    pub share: f64,
}

/// The state of the trial, for people.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// Hash of the candidate.
    pub hash: Arc<str>,
    /// Percent of the callers for whom it decides now.
    pub share_percent: f64,
    /// Whether an operator set the share, or the configuration did.
    pub set_by: &'static str,
    /// What callers are told by.
    pub sticky: Sticky,
    /// The live arm within the window.
    pub live: Tally,
    /// The candidate's arm within the window.
    pub candidate: Tally,
    /// Why it lost its share, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<Halted>,
}

/// The trial of a candidate. Without one, a request pays one load of a number.
#[derive(Debug, Default)]
pub struct Rollout {
    /// The share as the bits of a number from 0 to 1.
    share: AtomicU64,
    state: Mutex<Option<Trial>>,
}

#[derive(Debug)]
struct Trial {
    hash: Arc<str>,
    settings: CandidateSettings,
    /// What an operator asked for, in percent; lasts until files change.
    by_admin: Option<f64>,
    /// And what callers are told by. Beside the settings, which say whether the files have changed.
    sticky_by_admin: Option<Sticky>,
    halted: Option<Halted>,
    live: Window,
    candidate: Window,
}

impl Rollout {
    /// A set of policies is there to be tried, or none is. The same set with the same settings goes on where it was;
    /// another one begins anew. `halted` is what is remembered of an earlier process.
    pub fn configure(
        &self,
        candidate: Option<(&Arc<str>, &CandidateSettings)>,
        halted: Option<Halted>,
        now: Instant,
    ) {
        let mut state = self.lock();
        match candidate {
            None => *state = None,
            Some((hash, settings))
                if state.as_ref().is_some_and(|t| t.hash == *hash && t.settings == *settings) => {}
            Some((hash, settings)) => {
                let window = settings.roll_back.window.0;
                *state = Some(Trial {
                    hash: hash.clone(),
                    settings: settings.clone(),
                    by_admin: None,
                    sticky_by_admin: None,
                    halted: halted.filter(|halted| halted.hash == *hash),
                    live: Window::new(window, now),
                    candidate: Window::new(window, now),
                });
            }
        }
        self.show(state.as_ref());
    }

    /// Who decides for this caller; `None` while nobody is tried.
    pub fn arm_of(&self, caller: &Caller, request_id: &str) -> Option<Arm> {
        let share = f64::from_bits(self.share.load(Ordering::Relaxed));
        if share <= 0.0 {
            return None;
        }
        let sticky = self.lock().as_ref().map_or(Sticky::default(), Trial::sticky);
        let told = format!("candidate {}", told_by(sticky, caller).unwrap_or_else(|| request_id.to_owned()));
        Some(if chosen(&told, share) { Arm::Candidate } else { Arm::Live })
    }

    /// A request ended that this arm decided. Says so, once, when the candidate loses its share by it.
    pub fn ended(&self, arm: Arm, end: End, now: Instant, unix_ms: u64) -> Option<Halted> {
        let mut state = self.lock();
        let trial = state.as_mut()?;
        let window = if arm == Arm::Live { &mut trial.live } else { &mut trial.candidate };
        window.count(end, now);
        if trial.halted.is_some() || arm == Arm::Live {
            return None;
        }
        let (kind, reason) = trial.verdict(now)?;
        let halted = trial.halt(kind, reason, unix_ms);
        self.show(state.as_ref());
        Some(halted)
    }

    /// An operator gives the candidate this share, in percent; a roll-back before is forgotten.
    ///
    /// # Errors
    /// When there is no candidate, or the share is none.
    pub fn promote(&self, percent: f64, sticky: Option<Sticky>, now: Instant) -> Result<(), String> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("`{percent}` is not a share: write a number of percent from 0 to 100"));
        }
        let mut state = self.lock();
        let trial = state.as_mut().ok_or(
            "there is nothing to promote: put policies into `policies/candidate/` (or `policies/shadow/`)",
        )?;
        trial.by_admin = Some(percent);
        if trial.halted.take().is_some() {
            let window = trial.settings.roll_back.window.0;
            (trial.live, trial.candidate) = (Window::new(window, now), Window::new(window, now));
        }
        trial.sticky_by_admin = sticky.or(trial.sticky_by_admin);
        self.show(state.as_ref());
        Ok(())
    }

    /// An operator takes the candidate's share away.
    pub fn withdraw(&self, unix_ms: u64) -> Option<Halted> {
        let mut state = self.lock();
        let trial = state.as_mut().filter(|trial| trial.share() > 0.0)?;
        let halted = trial.halt("admin", "an operator took the share away".into(), unix_ms);
        self.show(state.as_ref());
        Some(halted)
    }

    /// How the trial stands; `None` without a candidate.
    pub fn standing(&self, now: Instant) -> Option<Standing> {
        let mut state = self.lock();
        let trial = state.as_mut()?;
        Some(Standing {
            hash: trial.hash.clone(),
            share_percent: trial.share(),
            set_by: if trial.by_admin.is_some() { "operator" } else { "configuration" },
            sticky: trial.sticky(),
            live: trial.live.sum(now),
            candidate: trial.candidate.sum(now),
            rolled_back: trial.halted.clone(),
        })
    }

    fn show(&self, trial: Option<&Trial>) {
        let share = trial.map_or(0.0, Trial::share) / 100.0;
        self.share.store(share.to_bits(), Ordering::Relaxed);
        if trial.is_some() {
            metrics::gauge!("tollgate_policy_candidate_share").set(share);
            let halted = trial.is_some_and(|trial| trial.halted.is_some());
            metrics::gauge!("tollgate_policy_candidate_rolled_back").set(f64::from(u8::from(halted)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Trial>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trial {
    fn share(&self) -> f64 {
        if self.halted.is_some() { 0.0 } else { self.by_admin.unwrap_or(self.settings.share.0) }
    }

    fn sticky(&self) -> Sticky {
        self.sticky_by_admin.unwrap_or(self.settings.sticky)
    }

    fn halt(&mut self, kind: &str, reason: String, unix_ms: u64) -> Halted {
        let halted = Halted {
            hash: self.hash.clone(),
            at_ms: unix_ms,
            kind: kind.into(),
            reason: reason.into(),
            share: self.share(),
        };
        self.halted.insert(halted).clone()
    }

    /// Whether the candidate does worse than it may, and in what.
    fn verdict(&mut self, now: Instant) -> Option<(&'static str, String)> {
        let bounds = &self.settings.roll_back;
        let (candidate, live) = (self.candidate.sum(now), self.live.sum(now));
        if candidate.requests < bounds.min_requests {
            return None;
        }
        let (of_candidate, of_live) = (candidate.error_percent(), live.error_percent());
        if of_candidate > of_live + bounds.error_rate.0 {
            return Some((
                "error_rate",
                format!(
                    "{of_candidate:.2}% of {} requests failed, {of_live:.2}% of {} with the live policies; {} more are allowed",
                    candidate.requests, live.requests, bounds.error_rate
                ),
            ));
        }
        // One dear request among a few says nothing.
        let enough = (bounds.min_requests / 2).max(1);
        let (Some(dear), Some(usual)) = (candidate.mean_cost(enough), live.mean_cost(enough)) else {
            return None;
        };
        if dear > usual * (1.0 + bounds.cost.part()) {
            return Some((
                "cost",
                format!(
                    "a request cost ${dear:.6} on average, ${usual:.6} with the live policies; {} more is allowed",
                    bounds.cost
                ),
            ));
        }
        None
    }
}

/// What the caller is told by; `None` where every request is drawn by itself, or nothing is known.
fn told_by(sticky: Sticky, caller: &Caller) -> Option<String> {
    let named = |kind: &str, name: &Option<Arc<str>>| Some(format!("{kind}:{}", name.as_ref()?));
    match sticky {
        Sticky::Request => None,
        Sticky::Caller => caller.anchor(),
        Sticky::User => named("user", &caller.user).or_else(|| caller.anchor()),
        Sticky::Team => named("team", &caller.team).or_else(|| caller.anchor()),
        Sticky::Session => named("session", &caller.session).or_else(|| caller.anchor()),
    }
}

#[cfg(test)]
mod tests;
