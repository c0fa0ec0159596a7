//! Guards that the gateway asks by itself: plugins with a role, asked about requests before the policies are, and about
//! answers before clients get them. What follows a finding, and what follows when a guard fails, is declared; nothing
//! here decides by itself.

mod answer;
mod cut;
mod lane;
mod request;
mod slots;
mod stream;
mod watch;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

pub use request::{Examined, Refused};
pub use watch::{Noted, Watch, Watcher};

use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::plan::Censor;
use crate::plugin::{CallFault, Capability, GuardOn, GuardRole, Plugin, PluginSet, Refusal};

/// Bytes of a guard's own words that a client gets to see.
const MOST_WORDS: usize = 500;

/// The guards of a snapshot.
#[derive(Clone)]
pub struct Guards {
    guards: Arc<[Guard]>,
    plugins: PluginSet,
}

/// A plugin with a role.
#[derive(Clone)]
struct Guard {
    plugin: Arc<Plugin>,
    role: Arc<GuardRole>,
}

impl Guards {
    /// The guards among these plugins. Those that could not be loaded are among them: what follows is declared.
    pub fn of(plugins: &PluginSet) -> Self {
        let guard = |plugin: &Arc<Plugin>| {
            let role = Arc::new(plugin.settings().guard.clone()?);
            Some(Guard { plugin: plugin.clone(), role })
        };
        Self { guards: plugins.iter().filter_map(guard).collect(), plugins: plugins.clone() }
    }

    /// Those that look at what plugins have done for them. A guard that may ask for vectors itself is none of them: it
    /// would ask about its own questions, without end.
    #[must_use]
    pub fn of_errands(&self) -> Self {
        let alone = |guard: &&Guard| !guard.plugin.settings().grants(Capability::Ai);
        Self { guards: self.guards.iter().filter(alone).cloned().collect(), plugins: self.plugins.clone() }
    }

    /// Whether any of them looks at requests like this one.
    pub fn look_at(&self, endpoint: Endpoint, model: &str) -> bool {
        self.looking(endpoint, model).is_some()
    }

    /// The first of those that look at requests like this one.
    pub fn looking(&self, endpoint: Endpoint, model: &str) -> Option<&str> {
        let guard = self.guards.iter().find(|guard| guard.looks(GuardOn::Request, endpoint, model));
        guard.map(|guard| guard.plugin.name())
    }

    /// Who looks at the answers to a request: guards by their role, and those that policies named. `None` when nobody
    /// does.
    ///
    /// # Errors
    /// A policy wants something that nobody can do.
    pub fn watchers(
        &self,
        on: GuardOn,
        endpoint: Endpoint,
        model: &str,
        censors: &[Censor],
    ) -> Result<Option<Vec<Watcher>>, Fault> {
        let mut watchers: Vec<Watcher> = Vec::new();
        for guard in self.guards.iter().filter(|guard| guard.looks(on, endpoint, model)) {
            Watcher::among(&mut watchers, &guard.plugin).play(&guard.role);
        }
        for censor in censors {
            for plugin in self.asked(censor)? {
                Watcher::among(&mut watchers, plugin).redact(&censor.kinds);
            }
        }
        Ok((!watchers.is_empty()).then_some(watchers))
    }

    /// The plugins that a policy's `redact_output` means.
    fn asked(&self, censor: &Censor) -> Result<Vec<&Arc<Plugin>>, Fault> {
        let unable = |text: String| Err(Fault::new(FaultKind::Policy, text).code("policy_not_enforceable"));
        match &censor.plugin {
            Some(name) => match self.plugins.get(name) {
                Some(plugin) => Ok(vec![plugin]),
                None => unable(format!("redact_output: there is no plugin `{name}`")),
            },
            None if self.guards.is_empty() => unable(
                "redact_output: no plugin is configured as a guard; name one: `req.redact_output(plugin(\"pii\"), [..])`"
                    .to_owned(),
            ),
            None => Ok(self.guards.iter().map(|guard| &guard.plugin).collect()),
        }
    }
}

impl Guard {
    fn looks(&self, on: GuardOn, endpoint: Endpoint, model: &str) -> bool {
        self.role.is_on(on) && self.role.covers(endpoint, model)
    }
}

/// Findings, or a refusal, that block what was looked at.
fn blocked(plugin: &Plugin, kinds: &[&str], what: &str) -> Fault {
    let text = format!("guard `{}` found {} in the {what}", plugin.name(), kinds.join(", "));
    Fault::new(FaultKind::Rejected, text).status(403).code("guard_blocked")
}

/// A refusal of the guard's own.
fn refused(plugin: &Plugin, refusal: &Refusal, what: &str) -> Fault {
    let words = refusal.message.get(..refusal.message.floor_char_boundary(MOST_WORDS)).unwrap_or_default();
    let text = format!("guard `{}` refused the {what} ({}): {words}", plugin.name(), refusal.code);
    Fault::new(FaultKind::Rejected, text).status(403).code("guard_blocked")
}

/// A guard that gave no answer, and without which nothing passes. The reason is in the log: it may hold text.
fn unavailable(plugin: &Plugin, fault: &CallFault) -> Fault {
    let text = format!("guard `{}` cannot be asked ({})", plugin.name(), fault.outcome.as_str());
    Fault::new(FaultKind::Unavailable, text).code("plugin_unavailable")
}

/// Counts what came of asking a guard.
fn count(plugin: &Plugin, on: &'static str, outcome: &'static str) {
    let guard = plugin.name().to_owned();
    metrics::counter!("tollgate_guard_verdicts_total", "guard" => guard, "on" => on, "outcome" => outcome)
        .increment(1);
}

/// Kinds, each once, in the order found.
fn once<'a>(kinds: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut once = Vec::new();
    for kind in kinds {
        if !once.contains(&kind) {
            once.push(kind);
        }
    }
    once
}

/// All of these at once; their answers in the same order.
async fn together<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut answers: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, answer) in waiting.iter_mut().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(cx) {
                *answer = Some(ready);
            }
        }
        if answers.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    answers.into_iter().flatten().collect()
}
