//! The stage of the guards: they look at a request before the policies do, and somebody is set to look at its answers.

use std::sync::Arc;

use super::line::Opened;
use super::papers::Papers;
use super::{Snapshot, arms};
use crate::facts::{Endpoint, Facts};
use crate::fault::{Fault, FaultKind};
use crate::guard::{Examined, Noted, Refused, Watch};
use crate::plan::OutputRules;
use crate::plugin::{Ask, GuardOn, Pair};
use crate::providers::Inspection;

/// Tags that only guards may put on a request begin so.
const OWN: &str = "guard.";

/// A request that the guards have seen.
pub(super) struct Guarded {
    pub(super) facts: Facts,
    pub(super) examined: Examined,
}

/// A request that guards do not let pass.
pub(super) struct Withheld {
    pub(super) facts: Facts,
    pub(super) refused: Refused,
}

/// Somebody who looks at the answers, and what they find.
pub(super) struct Looking {
    pub(super) inspection: Arc<dyn Inspection>,
    pub(super) noted: Arc<Noted>,
}

/// Asks the guards about a request. Its tags tell what they found.
///
/// # Errors
/// A guard does not let it pass, or finds what cannot be taken out of this kind of request.
pub(super) async fn examine(snapshot: &Snapshot, mut facts: Facts) -> Result<Guarded, Box<Withheld>> {
    if let Some(guard) = snapshot.guards.looking(facts.endpoint, &facts.model)
        && facts.body.has_token_ids()
    {
        let text =
            format!("guard `{guard}` looks at this request, and token ids say nothing to it: send the text");
        let fault = Fault::new(FaultKind::Rejected, text).code("guard_not_enforceable");
        let refused = Refused { tags: Vec::new(), answers: Vec::new(), fault };
        return Err(Box::new(Withheld { facts, refused }));
    }
    let examined = match snapshot.guards.examine(&facts).await {
        Ok(examined) => examined,
        Err(refused) => return Err(Box::new(Withheld { facts, refused: *refused })),
    };
    facts.tags.extend_from_slice(&examined.tags);
    if let Some(guard) = examined.changed_by.as_deref().filter(|_| !can_change(facts.endpoint)) {
        let text = format!(
            "guard `{guard}` takes something out of the prompt, which cannot be done to this kind of request ({})",
            facts.endpoint.as_str()
        );
        let fault = Fault::new(FaultKind::Rejected, text).code("guard_not_enforceable");
        let refused = Refused { tags: examined.tags, answers: examined.answers, fault };
        return Err(Box::new(Withheld { facts, refused }));
    }
    Ok(Guarded { facts, examined })
}

fn can_change(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::Chat | Endpoint::Completions | Endpoint::CountTokens)
}

/// Sets somebody to look at the answers, if anybody wants to.
///
/// # Errors
/// A policy wants something that nobody can do.
pub(super) fn look(
    snapshot: &Snapshot,
    facts: &Facts,
    tags: &[Pair],
    output: &mut OutputRules,
) -> Result<Option<Looking>, Fault> {
    if !matches!(facts.endpoint, Endpoint::Chat | Endpoint::Completions) {
        return Ok(None);
    }
    let on = if facts.body.stream() { GuardOn::Stream } else { GuardOn::Response };
    let watchers = snapshot.guards.watchers(on, facts.endpoint, &facts.model, &output.censors)?;
    let Some(watchers) = watchers else { return Ok(None) };
    output.inspected = true;
    let headers: Vec<String> =
        watchers.iter().flat_map(|watcher| watcher.headers().iter().cloned()).collect();
    let watch = Arc::new(Watch::new(watchers, Ask::of(facts, tags, &headers, Vec::new())));
    Ok(Some(Looking { noted: watch.noted(), inspection: Arc::new(watch) }))
}

impl Opened<'_> {
    /// Guards do not let it pass: policies are not asked of it, but they and observers hear of its end.
    pub(super) fn withheld(&mut self, withheld: Withheld) -> Fault {
        let Withheld { mut facts, refused: Refused { tags, answers, fault } } = withheld;
        facts.tags.retain(|tag| !tags.contains(tag));
        facts.tags.extend_from_slice(&tags);
        let mut papers = Papers::begin(&self.gateway.shared.decisions, &mut facts);
        papers.iter_mut().for_each(|papers| papers.guarded(answers.clone()));
        let snapshot = self.snapshot.clone();
        let tags = facts.tags.clone();
        let session = arms::choose(self.gateway, &snapshot, &facts).policies.begin(&Arc::new(facts));
        self.note(|s| {
            s.follow(&session);
            (s.tags, s.papers) = (tags, papers);
        });
        fault
    }
}

/// Refuses tags of a client that look as if a guard had put them there.
///
/// # Errors
/// The client's tags have one.
pub(super) fn no_forged(tags: &[Pair]) -> Result<(), Fault> {
    match tags.iter().find(|(key, _)| key.starts_with(OWN)) {
        None => Ok(()),
        Some((key, _)) => {
            let text =
                format!("the tag `{key}` is the gateway's own: only guards put tags that begin with `{OWN}`");
            Err(Fault::bad_request(text, "x-tollgate-tags"))
        }
    }
}
