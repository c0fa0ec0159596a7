//! What guards make of a request: all of them look at once, and the strictest decides.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Guard, Guards, blocked, count, once, refused, together, unavailable};
use crate::facts::Facts;
use crate::fault::Fault;
use crate::plan::{GUARD_REQUEST, OutputRules, PluginAnswer, TakenOut};
use crate::plugin::{
    Ask, Called, Consequence, Finding, GuardAction, GuardOn, Interface, Pair, Phase, Plugin, Segment, Verdict,
};

/// A request that the guards let pass.
#[derive(Debug, Default)]
pub struct Examined {
    /// What they found, one tag for each guard that found something: `guard.pii` with its kinds.
    pub tags: Vec<Pair>,
    /// What of the prompt must not leave.
    pub output: OutputRules,
    /// The guard that changes the prompt, if one does.
    pub changed_by: Option<Arc<str>>,
    /// What each of them said, and how long it took.
    pub answers: Vec<PluginAnswer>,
}

/// A request that a guard does not let pass.
#[derive(Debug)]
pub struct Refused {
    /// What they found.
    pub tags: Vec<Pair>,
    /// What each of them said, and how long it took.
    pub answers: Vec<PluginAnswer>,
    /// What the client is told.
    pub fault: Fault,
}

impl Guards {
    /// Asks all guards that look at requests like this one.
    ///
    /// # Errors
    /// A guard blocks it, or failed and without it nothing passes.
    pub async fn examine(&self, facts: &Facts) -> Result<Examined, Box<Refused>> {
        let looking =
            self.guards.iter().filter(|guard| guard.looks(GuardOn::Request, facts.endpoint, &facts.model));
        let looking: Vec<&Guard> = looking.collect();
        let headers: Vec<String> =
            looking.iter().flat_map(|guard| guard.plugin.settings().headers.iter().cloned()).collect();
        let ask = Arc::new(Ask::of(facts, &facts.tags, &headers, Segment::all_of(facts)));
        let called =
            together(looking.iter().map(|guard| guard.plugin.inspect(Phase::Request, ask.clone()))).await;
        let mut examined = Examined::default();
        let mut refusal = None;
        for (guard, called) in looking.into_iter().zip(called) {
            if let Err(fault) = examined.hear(guard, called, &ask.segments) {
                refusal.get_or_insert(fault);
            }
        }
        match refusal {
            Some(fault) => Err(Box::new(Refused { tags: examined.tags, answers: examined.answers, fault })),
            None => Ok(examined),
        }
    }
}

impl Examined {
    /// Counts what came of asking a guard, and keeps it for the papers.
    fn note(&mut self, plugin: &Plugin, took: Duration, outcome: &'static str, kinds: &[&str]) {
        count(plugin, "request", outcome);
        self.answers.push(PluginAnswer {
            plugin: plugin.name().into(),
            question: GUARD_REQUEST.into(),
            reply: json!({ "outcome": outcome, "found": kinds }),
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
    }

    fn hear(&mut self, guard: &Guard, called: Called<Verdict>, segments: &[Segment]) -> Result<(), Fault> {
        let (Guard { plugin, role }, took) = (guard, called.took);
        let verdict = match called.answer {
            Ok(verdict) => verdict,
            Err(fault) if fault.unsupported => {
                self.note(plugin, took, "pass", &[]);
                return Ok(());
            }
            Err(fault) => {
                self.note(plugin, took, "failed", &[]);
                return match plugin.on_error(Interface::Guard) {
                    Consequence::Deny => Err(unavailable(plugin, &fault)),
                    Consequence::RedactAll => {
                        self.output.redact_all = true;
                        self.changed_by.get_or_insert_with(|| plugin.name().into());
                        Ok(())
                    }
                    Consequence::Skip | Consequence::Default(_) => Ok(()),
                };
            }
        };
        let found: Vec<&Finding> =
            verdict.findings.iter().filter(|found| role.counts(&found.kind, found.score)).collect();
        let mut kinds = once(found.iter().map(|found| &*found.kind));
        let refusal = verdict.reject.as_ref();
        kinds.extend(refusal.filter(|_| found.is_empty()).map(|refusal| &*refusal.code));
        if kinds.is_empty() {
            self.note(plugin, took, "pass", &[]);
            return Ok(());
        }
        self.tags.push((format!("guard.{}", plugin.name()).into(), kinds.join(",").into()));
        if role.action == GuardAction::Flag {
            self.note(plugin, took, "flag", &kinds);
            return Ok(());
        }
        if let Some(refusal) = refusal {
            self.note(plugin, took, "block", &kinds);
            return Err(refused(plugin, refusal, "request"));
        }
        if role.action == GuardAction::Block {
            self.note(plugin, took, "block", &kinds);
            return Err(blocked(plugin, &kinds, "request"));
        }
        self.note(plugin, took, "redact", &kinds);
        let text = |found: &Finding| {
            let segment = segments.iter().find(|segment| segment.id == found.segment)?;
            segment.text.get(found.start as usize..found.end as usize)
        };
        let taken = found.iter().filter_map(|found| {
            let (kind, replacement) = (&*found.kind, found.replacement.as_deref());
            Some(TakenOut { text: text(found)?, kind, replacement })
        });
        self.output.take_out(taken, role.restore);
        self.changed_by.get_or_insert_with(|| plugin.name().into());
        Ok(())
    }
}
