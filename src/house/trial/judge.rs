//! Holds what a case expects against what the policies decide and the planner makes of it.

use crate::clock::Dice;
use crate::fault::Fault;
use crate::gateway::Snapshot;
use crate::house::diagnostic::Diagnostic;
use crate::house::trial::expect::VerdictKind;
use crate::house::trial::table::Case;
use crate::plan::{Candidate, Decision, Verdict};
use crate::planner::{self, Plan};
use crate::policy::trial::{Bench, Ruling};

/// Weights are drawn alike in every run, so that a test does not fail today and pass tomorrow.
const SEED: u64 = 1;

/// What came of a case's request.
struct Came {
    ruling: Ruling,
    plan: Option<Plan>,
    candidates: Vec<Candidate>,
    /// What the client gets instead of an answer.
    refusal: Option<Fault>,
}

/// Everything in which the case was disappointed.
pub(super) fn judge(case: &Case, bench: &Bench, snapshot: &Snapshot) -> Vec<Diagnostic> {
    let came = match came(case, bench, snapshot) {
        Ok(came) => came,
        Err(problems) => return problems,
    };
    let mut failures = Vec::new();
    let mut hold = |field: &str, wanted: Option<String>, found: String| {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            let message = format!("`{}`: `{field}`: expected {wanted}, found {found}", case.name);
            failures.push(case.failure(field, message).help(came.told()));
        }
    };
    let expect = &case.expect;
    let list = |names: &[&str]| format!("[{}]", names.join(", "));
    let quoted = |text: &str| format!("`{text}`");
    let ruling = &came.ruling;

    hold("verdict", expect.verdict.map(|kind| quoted(kind.as_str())), quoted(came.kind().as_str()));
    let names = ruling.targets();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    hold("route", expect.route.as_ref().map(|names| list(&names.all())), list(&names));
    hold("first", expect.first.as_deref().map(quoted), names.first().map_or("none".into(), |name| quoted(name)));
    let targets = came.targets();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    hold("targets", expect.targets.as_ref().map(|names| list(&names.all())), list(&targets));
    for never in expect.never.iter().flat_map(|names| names.all()).filter(|never| targets.contains(never)) {
        hold("never", Some(format!("no {}", quoted(never))), list(&targets));
    }
    if let Some(refusal) = &expect.reject {
        let found = came.refusal.as_ref();
        let shown = |text: Option<String>| text.unwrap_or_else(|| "no refusal".into());
        let status = found.map(|fault| fault.status().to_string());
        hold("reject", refusal.status.map(|status| format!("status {status}")), shown(status.map(|s| format!("status {s}"))));
        let code = found.map(|fault| format!("code `{}`", fault.code()));
        hold("reject", refusal.code.as_ref().map(|code| format!("code `{code}`")), shown(code));
        if let Some(part) = &refusal.message
            && !found.is_some_and(|fault| fault.message.contains(part.as_str()))
        {
            let message = found.map(|fault| format!("the message `{}`", fault.message));
            hold("reject", Some(format!("a message with `{part}`")), shown(message));
        }
        if refusal.status.is_none() && refusal.code.is_none() && found.is_none() {
            hold("reject", Some("a refusal".into()), "no refusal".into());
        }
    } else if let Some(fault) = &came.refusal
        && expect.verdict.is_none()
        && expect.reason.is_none()
    {
        hold("", Some("an answer".into()), format!("the refusal {} {}: {}", fault.status(), fault.code(), fault.message));
    }
    let text = match &ruling.decision().verdict {
        Some(Verdict::Respond(text)) => quoted(text),
        _ => "none".into(),
    };
    hold("respond", expect.respond.as_deref().map(quoted), text);
    if let Some(wanted) = &expect.rule
        && !ruling.rules().contains(wanted)
    {
        hold("rule", Some(quoted(wanted)), ruling.rule().map_or("none".into(), |rule| quoted(&rule)));
    }
    for (key, wanted) in &expect.tags {
        let wanted = wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned);
        let found = ruling.tag(key, &case.request.tags).map_or("none".into(), |value| quoted(&value));
        hold("tags", Some(format!("`{key}` = {}", quoted(&wanted))), format!("`{key}` = {found}"));
    }
    for (field, wanted, found) in
        [("require", &expect.require, ruling.required()), ("avoid", &expect.avoid, ruling.avoided())]
    {
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        for name in wanted.iter().flat_map(|names| names.all()).filter(|name| !found.contains(name)) {
            hold(field, Some(quoted(name)), list(&found));
        }
    }
    hold("timeout", expect.timeout.as_deref().map(quoted), ruling.timeout().map_or("none".into(), |time| quoted(&time)));
    if let Some(part) = &expect.reason {
        let reasons = came.reasons();
        if !reasons.iter().any(|reason| reason.contains(part.as_str())) {
            let found: Vec<&str> = reasons.iter().map(String::as_str).collect();
            hold("reason", Some(quoted(part)), list(&found));
        }
    }
    failures
}

fn came(case: &Case, bench: &Bench, snapshot: &Snapshot) -> Result<Came, Vec<Diagnostic>> {
    let decided = bench.decide(&case.request).map_err(|problem| vec![case.failure("", format!("`{}`: {problem}", case.name))])?;
    if let Some(error) = decided.errors.first() {
        let message = format!("`{}`: a policy failed: {error}", case.name);
        return Err(vec![case.failure("", message)]);
    }
    let decision: Decision = match decided.decision {
        Ok(decision) => decision,
        Err(fault) => return Err(vec![case.failure("", format!("`{}`: {}", case.name, fault.message))]),
    };
    let model = case.request.model.as_str().into();
    let planned =
        planner::plan(&snapshot.catalogue, &model, &decision, &decided.caller, &Dice::loaded(SEED));
    let is_answered = matches!(decision.verdict, Some(Verdict::Respond(_)));
    let ruling = Ruling::of(decision);
    Ok(match planned {
        Ok(plan) => Came { ruling, candidates: plan.candidates.clone(), plan: Some(plan), refusal: None },
        Err(unplanned) => Came {
            ruling,
            plan: None,
            candidates: unplanned.candidates,
            refusal: (!is_answered).then_some(unplanned.fault),
        },
    })
}

impl Came {
    fn kind(&self) -> VerdictKind {
        match &self.ruling.decision().verdict {
            None => VerdictKind::None,
            Some(Verdict::Route(_)) => VerdictKind::Route,
            Some(Verdict::Reject(_)) => VerdictKind::Reject,
            Some(Verdict::Respond(_)) => VerdictKind::Respond,
        }
    }

    fn targets(&self) -> Vec<String> {
        self.plan.iter().flat_map(|plan| &plan.targets).map(|target| target.name.to_string()).collect()
    }

    /// Why the request is refused, and why targets were passed over.
    fn reasons(&self) -> Vec<String> {
        let passed = self.candidates.iter().filter_map(|seen| Some(format!("{}: {}", seen.target, seen.rejected?)));
        self.refusal.iter().map(|fault| fault.message.to_string()).chain(passed).collect()
    }

    /// What to know when the case is mended.
    fn told(&self) -> String {
        let decided = match self.ruling.place() {
            Some(rule) => format!("decided by {rule}"),
            None => "no policy decided, so the configuration's own plan counts".into(),
        };
        format!("{decided}; mend the policy, or the case if this is what it shall do now")
    }
}
