//! Those who look at the answers to one request, and what each of them wants to follow a finding.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::answer;
use super::cut::Cut;
use super::stream::Stream;
use super::{blocked, count, once, refused, unavailable};
use crate::chat::Answer;
use crate::fault::Fault;
use crate::plan::{GUARD_ANSWER, PluginAnswer, mark};
use crate::plugin::{
    Ask, CallFault, Called, Consequence, Finding, GuardAction, GuardRole, Interface, Pair, Plugin, Refusal,
};
use crate::providers::{Awaited, Inspection, Sentry};

/// A plugin that looks at answers.
pub struct Watcher {
    pub(super) plugin: Arc<Plugin>,
    demands: Vec<Demand>,
}

/// What a finding has to be so that something follows.
struct Demand {
    action: GuardAction,
    kinds: Vec<Arc<str>>,
    min_score: f32,
    /// Whether a refusal of the guard's own counts.
    refuses: bool,
}

/// Looks at the answers to one request.
pub struct Watch {
    pub(super) ask: Arc<Ask>,
    pub(super) watchers: Vec<Watcher>,
    noted: Arc<Noted>,
}

/// What guards made of the answers, by guard.
#[derive(Debug, Default)]
pub struct Noted(Mutex<BTreeMap<Arc<str>, Account>>);

/// What one of them found, and how long it looked.
#[derive(Debug, Default)]
struct Account {
    kinds: Vec<String>,
    looks: u64,
    failures: u64,
    took: Duration,
}

impl Noted {
    /// A tag for each guard that found something: `guard.pii` with its kinds.
    pub fn tags(&self) -> Vec<Pair> {
        let tag = |(guard, account): (&Arc<str>, &Account)| {
            let kinds = account.kinds.join(",");
            (!kinds.is_empty()).then(|| (format!("guard.{guard}").into(), kinds.into()))
        };
        self.accounts().iter().filter_map(tag).collect()
    }

    /// What each of them said, and how long all its looks took.
    pub fn answers(&self) -> Vec<PluginAnswer> {
        let answer = |(guard, account): (&Arc<str>, &Account)| {
            let mut reply = json!({ "found": account.kinds, "looks": account.looks });
            if account.failures > 0 {
                reply["failures"] = account.failures.into();
            }
            let micros = u64::try_from(account.took.as_micros()).unwrap_or(u64::MAX);
            PluginAnswer { plugin: guard.clone(), question: GUARD_ANSWER.into(), reply, micros }
        };
        self.accounts().iter().map(answer).collect()
    }

    fn accounts(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self, guard: &str, took: Duration, failed: bool) {
        let mut accounts = self.accounts();
        let account = match accounts.get_mut(guard) {
            Some(known) => known,
            None => accounts.entry(guard.into()).or_default(),
        };
        account.looks += 1;
        account.failures += u64::from(failed);
        account.took += took;
    }

    fn note(&self, guard: &str, kinds: &[&str]) {
        let mut accounts = self.accounts();
        let known = &mut accounts.entry(guard.into()).or_default().kinds;
        for kind in kinds {
            if !known.iter().any(|known| known == kind) {
                known.push((*kind).to_owned());
            }
        }
    }
}

impl Watch {
    /// These look at the answers to a request; `ask` is what they know of it.
    pub fn new(watchers: Vec<Watcher>, ask: Ask) -> Self {
        Self { ask: Arc::new(ask), watchers, noted: Arc::default() }
    }

    /// What they find.
    pub fn noted(&self) -> Arc<Noted> {
        self.noted.clone()
    }

    /// One of them has looked at a text; its answer, or why there is none.
    pub(super) fn looked<T>(&self, watcher: &Watcher, called: Called<T>) -> Result<T, CallFault> {
        let failed = called.answer.as_ref().is_err_and(|fault| !fault.unsupported);
        self.noted.looked(watcher.plugin.name(), called.took, failed);
        called.answer
    }

    /// What one of them said of texts, as what is to be cut out of which.
    pub(super) fn hear<'f>(
        &self,
        watcher: &Watcher,
        on: &'static str,
        found: impl Iterator<Item = &'f Finding>,
        refusal: Option<&Refusal>,
    ) -> Result<Vec<(u32, Cut)>, Fault> {
        let plugin = &*watcher.plugin;
        let wanted: Vec<(&Finding, GuardAction)> =
            found.filter_map(|finding| Some((finding, watcher.follows(finding)?))).collect();
        let of = |action: GuardAction| wanted.iter().filter(move |(_, wanted)| *wanted == action);
        let kinds = once(wanted.iter().map(|(finding, _)| &*finding.kind));
        if !kinds.is_empty() {
            self.noted.note(plugin.name(), &kinds);
        }
        if let Some(refusal) = refusal {
            self.noted.note(plugin.name(), &[&*refusal.code]);
            if watcher.demands.iter().any(|demand| demand.refuses) {
                count(plugin, on, "block");
                return Err(refused(plugin, refusal, "answer"));
            }
        }
        if of(GuardAction::Block).next().is_some() {
            count(plugin, on, "block");
            return Err(blocked(plugin, &once(of(GuardAction::Block).map(|(f, _)| &*f.kind)), "answer"));
        }
        let cuts: Vec<(u32, Cut)> =
            of(GuardAction::Redact).map(|(finding, _)| (finding.segment, cut(finding))).collect();
        if !cuts.is_empty() {
            count(plugin, on, "redact");
        } else if !kinds.is_empty() || refusal.is_some() {
            count(plugin, on, "flag");
        }
        Ok(cuts)
    }

    /// What follows where one of them gave no answer about a text: whether all of it is cut out.
    pub(super) fn without(
        &self,
        watcher: &Watcher,
        on: &'static str,
        fault: &CallFault,
    ) -> Result<bool, Fault> {
        if fault.unsupported {
            return Ok(false);
        }
        count(&watcher.plugin, on, "failed");
        match watcher.plugin.on_error(Interface::Guard) {
            Consequence::Deny => Err(unavailable(&watcher.plugin, fault)),
            Consequence::RedactAll => Ok(true),
            Consequence::Skip | Consequence::Default(_) => Ok(false),
        }
    }
}

impl Inspection for Arc<Watch> {
    fn whole<'a>(&'a self, answer: &'a mut Answer) -> Awaited<'a, Result<(), Fault>> {
        Box::pin(answer::inspect(self, answer))
    }

    fn stream(&self) -> Box<dyn Sentry> {
        Box::new(Stream::new(self.clone()))
    }
}

impl Watcher {
    /// This plugin among the watchers; it is asked once, however many want it to.
    pub(super) fn among<'w>(watchers: &'w mut Vec<Self>, plugin: &Arc<Plugin>) -> &'w mut Self {
        let there = watchers.iter().position(|watcher| watcher.plugin.name() == plugin.name());
        let at = there.unwrap_or_else(|| {
            watchers.push(Self { plugin: plugin.clone(), demands: Vec::new() });
            watchers.len() - 1
        });
        &mut watchers[at]
    }

    /// The client's headers that it sees.
    pub fn headers(&self) -> &[String] {
        &self.plugin.settings().headers
    }

    /// As its role says.
    pub(super) fn play(&mut self, role: &GuardRole) {
        self.demands.push(Demand {
            action: role.action,
            kinds: role.kinds.iter().map(|kind| kind.as_str().into()).collect(),
            min_score: role.min_score,
            refuses: role.action != GuardAction::Flag,
        });
    }

    /// As a policy says.
    pub(super) fn redact(&mut self, kinds: &[Arc<str>]) {
        let kinds = kinds.to_vec();
        self.demands.push(Demand { action: GuardAction::Redact, kinds, min_score: 0.0, refuses: true });
    }

    /// What follows this finding: of several, the strictest.
    fn follows(&self, finding: &Finding) -> Option<GuardAction> {
        let wanted = self.demands.iter().filter(|demand| demand.wants(finding)).map(|demand| demand.action);
        wanted.min_by_key(|action| match action {
            GuardAction::Block => 0,
            GuardAction::Redact => 1,
            GuardAction::Flag => 2,
        })
    }
}

impl Demand {
    fn wants(&self, finding: &Finding) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.iter().any(|kind| **kind == *finding.kind);
        kind && finding.score >= self.min_score
    }
}

fn cut(finding: &Finding) -> Cut {
    let instead = finding.replacement.clone().unwrap_or_else(|| mark(&finding.kind));
    Cut { start: finding.start as usize, end: finding.end as usize, instead }
}
