//! Holds what a case expects against what the policies decide and the planner makes of it.

use serde_json::Value;

use crate::clock::Dice;
use crate::fault::Fault;
use crate::gateway::Snapshot;
use crate::house::diagnostic::Diagnostic;
use crate::house::trial::expect::{self, VerdictKind};
use crate::house::trial::table::Case;
use crate::house::validate::did_you_mean;
use crate::plan::{Candidate, Verdict};
use crate::planner::{self, Plan};
use crate::plugin::PluginSet;
use crate::policy::Names;
use crate::policy::trial::{Bench, Ruling};
use crate::settings::Period;

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

/// What a case names and the configuration does not know: it would come true whatever the policies say.
pub(super) fn strangers(case: &Case, names: &Names, plugins: &PluginSet) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut report = |field: &str, problem: String| {
        found.push(case.failure(field, format!("{}: `{field}`: {problem}", case.name)));
    };
    for name in case.expect.never.iter().flat_map(|never| never.all()) {
        if names.aliases.contains(name) {
            report("never", format!("`{name}` is an alias: name its targets"));
        } else if !names.knows(name) {
            report("never", names.unknown(name));
        }
    }
    let told = &case.request;
    for name in told.candidates.keys().filter(|name| !names.knows(name)) {
        report("candidates", names.unknown(name));
    }
    let unknown = |noun: &str, name: &str, known: &[&str]| {
        let near = did_you_mean(name, known.iter().copied());
        let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!("unknown {noun} `{name}`{hint}; there is {known}")
    };
    let known: Vec<&str> = names.budgets.iter().map(String::as_str).collect();
    for name in told.budgets.keys().filter(|name| !names.budgets.contains(*name)) {
        report("budgets", unknown("budget", name, &known));
    }
    let known: Vec<&str> = plugins.names().collect();
    for name in told.plugins.keys().filter(|name| !known.contains(&name.as_str())) {
        report("plugins", unknown("plugin", name, &known));
    }
    found
}

/// Everything in which the case was disappointed.
pub(super) fn judge(case: &Case, bench: &Bench, snapshot: &Snapshot) -> Vec<Diagnostic> {
    let came = match came(case, bench, snapshot) {
        Ok(came) => came,
        Err(problem) => return vec![*problem],
    };
    let mut judgement = Judgement { case, came: &came, failures: Vec::new() };
    judgement.verdict();
    judgement.route();
    judgement.plan();
    judgement.refusal();
    judgement.tags();
    judgement.reason();
    judgement.failures
}

struct Judgement<'a> {
    case: &'a Case,
    came: &'a Came,
    failures: Vec<Diagnostic>,
}

impl Judgement<'_> {
    /// Where something is expected, it must be what was found.
    fn hold(&mut self, field: &str, wanted: Option<String>, found: String) {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            self.fail(field, &wanted, &found);
        }
    }

    fn fail(&mut self, field: &str, wanted: &str, found: &str) {
        let what = if field.is_empty() { String::new() } else { format!("`{field}`: ") };
        let message = format!("{}: {what}expected {wanted}, found {found}", self.case.name);
        self.failures.push(self.case.failure(field, message).help(self.came.told()));
    }

    fn verdict(&mut self) {
        let expect = &self.case.expect;
        let kind = expect.verdict.map(|kind| quoted(kind.as_str()));
        self.hold("verdict", kind, quoted(self.came.kind().as_str()));
        let text = match &self.came.ruling.decision().verdict {
            Some(Verdict::Respond(text)) => quoted(text),
            _ => "none".into(),
        };
        self.hold("respond", expect.respond.as_deref().map(quoted), text);
        if let Some(wanted) = &expect.rule
            && !self.came.ruling.rules().contains(wanted)
        {
            let found = self.came.ruling.rule();
            self.fail("rule", &quoted(wanted), &found.map_or("none".into(), |rule| quoted(&rule)));
        }
    }

    fn route(&mut self) {
        let expect = &self.case.expect;
        let names = self.came.ruling.targets();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        self.hold("route", expect.route.as_ref().map(|names| list(&names.all())), list(&names));
        let first = names.first().map_or("none".into(), |name| quoted(name));
        self.hold("first", expect.first.as_deref().map(quoted), first);
        let timeout = self.came.ruling.timeout();
        let wanted = expect.timeout.as_deref().map(|text| match text.parse::<Period>() {
            Ok(period) => quoted(&humantime::format_duration(period.0).to_string()),
            Err(problem) => problem,
        });
        self.hold("timeout", wanted, timeout.map_or("none".into(), |time| quoted(&time)));
    }

    fn plan(&mut self) {
        let expect = &self.case.expect;
        let targets = self.came.targets();
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        self.hold("targets", expect.targets.as_ref().map(|names| list(&names.all())), list(&targets));
        let never = expect.never.iter().flat_map(expect::Names::all);
        for never in never.filter(|never| targets.contains(never)) {
            self.fail("never", &format!("no {}", quoted(never)), &list(&targets));
        }
    }

    fn refusal(&mut self) {
        let expect = &self.case.expect;
        let Some(wanted) = &expect.reject else {
            // Who expects a verdict or a reason knows of the refusal; everybody else wants an answer.
            if let Some(fault) = &self.came.refusal
                && expect.verdict.is_none()
                && expect.reason.is_none()
            {
                self.fail("", "an answer", &format!("the refusal {}", shown(fault)));
            }
            return;
        };
        let Some(found) = &self.came.refusal else { return self.fail("reject", "a refusal", "an answer") };
        let status = wanted.status.map(|status| format!("status {status}"));
        self.hold("reject", status, format!("status {}", found.client_status()));
        let code = wanted.code.as_ref().map(|code| format!("code `{code}`"));
        self.hold("reject", code, format!("code `{}`", found.code_str()));
        if let Some(part) = wanted.message.as_ref().filter(|part| !found.message.contains(part.as_str())) {
            self.fail("reject", &format!("a message with `{part}`"), &quoted(&found.message));
        }
    }

    fn tags(&mut self) {
        let expect = &self.case.expect;
        for (key, wanted) in &expect.tags {
            let wanted = match wanted {
                Value::Null => "none".into(),
                Value::String(text) => quoted(text),
                other => quoted(&other.to_string()),
            };
            let found = self.came.ruling.tag(key, &self.case.request.tags);
            let found = found.map_or("none".into(), |value| quoted(&value));
            self.hold("tags", Some(format!("`{key}` = {wanted}")), format!("`{key}` = {found}"));
        }
        let ruling = &self.came.ruling;
        for (field, wanted, found) in
            [("require", &expect.require, ruling.required()), ("avoid", &expect.avoid, ruling.avoided())]
        {
            let found: Vec<&str> = found.iter().map(String::as_str).collect();
            for name in wanted.iter().flat_map(expect::Names::all).filter(|name| !found.contains(name)) {
                self.fail(field, &quoted(name), &list(&found));
            }
        }
    }

    fn reason(&mut self) {
        let Some(part) = &self.case.expect.reason else { return };
        let reasons = self.came.reasons();
        if !reasons.iter().any(|reason| reason.contains(part.as_str())) {
            let found: Vec<&str> = reasons.iter().map(String::as_str).collect();
            self.fail("reason", &quoted(part), &list(&found));
        }
    }
}

fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(", "))
}

fn quoted(text: &str) -> String {
    format!("`{text}`")
}

fn shown(fault: &Fault) -> String {
    format!("{} {}: {}", fault.client_status(), fault.code_str(), fault.message)
}

fn came(case: &Case, bench: &Bench, snapshot: &Snapshot) -> Result<Came, Box<Diagnostic>> {
    let problem = |message: &str| Box::new(case.failure("", format!("{}: {message}", case.name)));
    let decided = bench.decide(&case.request).map_err(|message| problem(&message))?;
    if let Some(error) = decided.errors.first() {
        return Err(problem(&format!("a policy failed: {error}")));
    }
    let decision = decided.decision.map_err(|fault| problem(&fault.message))?;
    let planned = planner::plan(&snapshot.catalogue, &decided.facts, &decision, &Dice::loaded(SEED));
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
        let passed = self
            .candidates
            .iter()
            .filter_map(|seen| Some(format!("{}: {}", seen.target, seen.rejected.as_deref()?)));
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
