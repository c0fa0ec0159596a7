//! A decision explained: for people in lines, for a response header in brief.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{
    AttemptRecord, By, Candidate, Constraint, Dossier, Hedge, Later, PluginAnswer, Route, Rule, SetBy,
    Together, Verdict,
};
use crate::facts::Asked;
use crate::facts::market::Offer;

/// The most bytes of an explanation in a header.
const BRIEF: usize = 4_096;
/// The most questions in a header.
const BRIEF_READS: usize = 24;

impl Rule {
    /// The file in which the verdict stands, and its line: `10-route.rhai:7`, `lib/teams.rhai:3`. Where the gateway keeps
    /// its files is none of a client's business.
    pub fn place(&self) -> String {
        let own = || format!("{}.rhai", self.policy);
        let file = self.file.as_deref().map_or_else(own, below_lib);
        self.line.map_or_else(|| file.clone(), |line| format!("{file}:{line}"))
    }

    /// `10-route`, or `10-route/long` where the verdict has a name.
    pub fn shown(&self) -> String {
        match &self.name {
            Some(name) => format!("{}/{name}", self.policy),
            None => self.policy.to_string(),
        }
    }
}

/// The part of a library file's path that policies know it by.
fn below_lib(file: &str) -> String {
    let parts: Vec<&str> = file.split(['/', '\\']).collect();
    let lib = parts.iter().rposition(|part| *part == "lib").unwrap_or(parts.len() - 1);
    parts.get(lib..).unwrap_or_default().join("/")
}

impl Verdict {
    /// As it would stand in a policy: `route("a/b").then("c").timeout("20s")`.
    pub fn shown(&self) -> String {
        match self {
            Self::Route(route) => route.shown(),
            Self::Respond(text) => format!("respond({text:?})"),
            Self::Reject(reject) => {
                format!("reject({}, {:?}, {:?})", reject.status, reject.code, reject.message)
            }
        }
    }

    /// `route`, `reject`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Route(_) => "route",
            Self::Respond(_) => "respond",
            Self::Reject(_) => "reject",
        }
    }
}

impl Route {
    /// As it would stand in a policy.
    pub fn shown(&self) -> String {
        let step = |choices: &[(std::sync::Arc<str>, f64)]| match choices {
            [(only, _)] => format!("{only:?}"),
            many => {
                let shares: Vec<_> =
                    many.iter().map(|(name, weight)| format!("{name:?}: {weight}")).collect();
                format!("split(#{{ {} }})", shares.join(", "))
            }
        };
        let mut text = String::new();
        let together = self.manner.together.as_ref();
        if let Some(Together { by, of, judge }) = together {
            let word = match by {
                By::Race => "race",
                By::Vote => "vote",
                By::Best => "best_of",
                By::Merge => "merged",
            };
            let names: Vec<_> = self.steps.iter().take(*of).map(|one| step(&one.choices)).collect();
            let judge = judge.as_ref().map(|judge| format!(", {judge:?}")).unwrap_or_default();
            let _ = write!(text, "{word}([{}]{judge})", names.join(", "));
        }
        let first = together.map_or(0, |together| together.of);
        for (at, one) in self.steps.iter().enumerate().skip(first) {
            let mut said = step(&one.choices);
            if self.sticky.contains(&at) {
                said.push_str(".sticky_by(…)");
            }
            let _ = match (at, said.starts_with("split")) {
                (0, true) => write!(text, "{said}"),
                (0, false) => write!(text, "route({said})"),
                _ => write!(text, ".then({said})"),
            };
        }
        match &self.strategy[..] {
            [] => {}
            [word] => text.push_str(&format!(".strategy({word:?})")),
            words => text.push_str(&format!(".strategy({words:?})")),
        }
        for (word, time) in [("timeout", self.timeout), ("first_token", self.first_token)] {
            if let Some(time) = time {
                let _ = write!(text, ".{word}(\"{}\")", humantime::format_duration(time));
            }
        }
        if let Some(tries) = self.retries {
            let _ = write!(text, ".retries({tries})");
        }
        if let Some(priority) = self.priority {
            let _ = write!(text, ".priority({:?})", priority.word());
        }
        if let Some(Hedge { after, .. }) = self.manner.hedge {
            let _ = write!(text, ".hedge_after(\"{after}\")");
        }
        if let Some(after) = self.manner.standby {
            let _ = write!(text, ".standby_after(\"{after}\")");
        }
        for (name, value) in &self.set {
            let _ = write!(text, ".set({name:?}, {value})");
        }
        text
    }
}

impl Constraint {
    /// As it would stand in a policy.
    pub fn shown(&self) -> String {
        match self {
            Self::Tag(word) | Self::Name(word) => format!("{word:?}"),
            Self::Label(key, value) => format!("#{{ {key}: {value:?} }}"),
        }
    }
}

impl SetBy {
    /// What was set, and where, as clients are told.
    fn brief(&self) -> Value {
        json!({ "what": self.what.shown(), "rule": self.by.shown(), "at": self.by.place() })
    }
}

impl Later {
    /// What it was asked about, and what it said: `on_error after a/b failed (timeout): next_target()`.
    fn shown(&self) -> String {
        let said = if self.said().is_empty() { "no opinion" } else { self.said() };
        match self {
            Self::OnError { target, kind, .. } => format!("on_error after {target} failed ({kind}): {said}"),
            Self::OnResponse { target, status, .. } => {
                format!("on_response to {status} of {target}: {said}")
            }
        }
    }
}

impl Dossier {
    /// What sets of policies beside the live one had to do with it.
    fn beside(&self) -> Vec<(&'static str, String)> {
        let arm = self.record.arm.as_ref().zip(self.record.policies.as_ref());
        let decided = arm.map(|(arm, hash)| ("policies", format!("{arm} {hash}")));
        let shadow = self.shadow.as_ref().map(|divergence| ("shadow", divergence.shadow.shown()));
        decided.into_iter().chain(shadow).collect()
    }

    /// The explanation for people: several lines.
    pub fn explained(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, what: &str| {
            let _ = writeln!(text, "{name:<11}{what}");
        };
        line("request", &format!("{} at {}", self.record.request_id, time(self.at_ms)));
        if let Some(facts) = &self.record.facts {
            let kind = if facts.stream { ", streamed" } else { "" };
            let size = format!("{} tokens in {} messages", facts.tokens, facts.messages);
            line("asked", &format!("{} of `{}`{kind}, {size}", facts.endpoint.as_str(), facts.model));
        }
        line("snapshot", &self.record.snapshot);
        line("decided by", &self.decided_by());
        for failure in &self.failures {
            line("failed", &format!("{}: {}", failure.at, failure.message));
        }
        if let Some(decision) = &self.decision {
            line(
                "verdict",
                &decision
                    .verdict
                    .as_ref()
                    .map_or_else(|| "none: the configuration's plan".into(), Verdict::shown),
            );
            for (word, constraints) in [("requires", &decision.require), ("avoids", &decision.avoid)] {
                let shown: Vec<_> = constraints.iter().map(Constraint::shown).collect();
                if !shown.is_empty() {
                    line(word, &shown.join(", "));
                }
            }
            decision.output.shown().iter().for_each(|rule| line("limits", rule));
            for set in &decision.set_by {
                line("set by", &format!("{}: {}", set.by.located(), set.what.shown()));
            }
        }
        if !self.record.tags.is_empty() {
            let tags: Vec<_> = self.record.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            line("tags", &tags.join(", "));
        }
        let plain: Vec<&str> = self.reads.facts.iter().map(|fact| &**fact).collect();
        if !plain.is_empty() {
            line("read", &plain.join(", "));
        }
        self.reads.asked.iter().for_each(|asked| line("asked", &asked.shown()));
        for answer in &self.plugins {
            let said =
                format!("{} said {} in {} µs", asked_of(&answer.question), answer.reply, answer.micros);
            line("plugin", &format!("{}: {said}", answer.plugin));
        }
        self.beside().iter().for_each(|(name, what)| line(name, what));
        if let Some(limits) = &self.limits {
            let mut shown = format!("{} ms in all", limits.total_ms);
            if let Some(ms) = limits.first_token_ms {
                let _ = write!(shown, ", {ms} ms to the first content of each attempt");
            }
            line("deadlines", &shown);
        }
        for ranking in self.decision.iter().flat_map(|decision| &decision.rankings) {
            line("ranked by", &ranking.by);
            for scored in &ranking.candidates {
                let score = scored.score.map_or_else(|| "unknown".to_owned(), |score| format!("{score:.6}"));
                let why =
                    scored.rejected.as_ref().map(|why| format!(", left out: {why}")).unwrap_or_default();
                line("", &format!("{}: {score}{why}", scored.target));
            }
        }
        for candidate in &self.record.candidates {
            let place = match (candidate.rank, &candidate.rejected) {
                (Some(rank), Some(why)) => format!("{}. not asked: {why}:", rank + 1),
                (Some(rank), None) => format!("{}.", rank + 1),
                (None, Some(why)) => format!("not taken: {why}:"),
                (None, None) => "not taken:".to_owned(),
            };
            let target = candidate.target.to_string();
            line(
                "target",
                &format!(
                    "{place} {target}{}{}",
                    self.offer(&target).map(numbers).unwrap_or_default(),
                    ranked(candidate)
                ),
            );
        }
        self.record.attempts.iter().for_each(|attempt| line("attempt", &attempted(attempt)));
        self.later.iter().for_each(|later| line("then", &later.shown()));
        if let Some(usage) = &self.record.usage {
            line("used", &format!("{} tokens of the prompt, {} of the answer", usage.prompt(), usage.output));
        }
        if let Some(cost) = self.record.cost {
            line("cost", &format!("${:.6}", cost.dollars()));
        }
        if self.status > 0 {
            let error = self.error.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
            let took = format!("{:.1} ms, of them {:.1} µs in policies", self.ms, self.policy_us);
            line("outcome", &format!("{} {}{error} after {took}", self.record.outcome.as_str(), self.status));
        }
        text
    }

    /// The explanation as one line of visible ASCII: a JSON object of at most 4 KiB, with its least important parts left
    /// out where it would be longer.
    pub fn brief(&self) -> String {
        let record = &self.record;
        let mut all = Map::new();
        let mut add = |name: &str, value: Value| drop(all.insert(name.into(), value));
        add("id", json!(record.request_id));
        add("snapshot", json!(record.snapshot));
        if let Some(rule) = &record.rule {
            add("rule", json!(rule.shown()));
            add("at", json!(rule.place()));
        }
        let verdict = self.decision.as_ref().and_then(|decision| decision.verdict.as_ref());
        let nothing = || match self.stopped_by() {
            Some(guard) => format!("refused by guard {guard}"),
            None if self.decision.is_none() && !self.failures.is_empty() => "none: a policy failed".into(),
            None => "default plan".into(),
        };
        add("verdict", json!(verdict.map_or_else(nothing, Verdict::shown)));
        add("policy_us", json!(self.policy_us));
        add("more", json!(format!("/admin/v1/decisions/{}", record.request_id)));
        if let Some(cost) = record.cost {
            add("cost_usd", json!(cost.dollars()));
        }
        if let Some(error) = &self.error {
            add("error", json!(error));
        }
        if let Some(decision) = &self.decision {
            for (name, list) in [("require", &decision.require), ("avoid", &decision.avoid)] {
                if !list.is_empty() {
                    add(name, json!(list.iter().map(Constraint::shown).collect::<Vec<_>>()));
                }
            }
            let limits = decision.output.shown();
            if !limits.is_empty() {
                add("limits", json!(limits));
            }
            if !decision.set_by.is_empty() {
                add("set_by", decision.set_by.iter().map(SetBy::brief).collect());
            }
        }
        let spoke = self.later.iter().filter(|later| !later.said().is_empty());
        let spoke: Vec<_> = spoke.map(|later| json!(later.shown())).collect();
        if !spoke.is_empty() {
            add("then", spoke.into());
        }
        // Where the gateway keeps its files is none of a client's business.
        let file = |at: &str| at.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        let failed: Vec<_> = self.failures.iter().map(|failure| json!(file(&failure.at))).collect();
        if !failed.is_empty() {
            add("failed", failed.into());
        }
        if !record.tags.is_empty() {
            add("tags", json!(record.tags));
        }
        if !self.plugins.is_empty() {
            let said = |answer: &PluginAnswer| {
                let mut said =
                    vec![json!(answer.plugin), json!(asked_of(&answer.question)), json!(answer.micros)];
                // What guards say is short, and of kinds only.
                said.extend(answer.is_guards().then(|| answer.reply.clone()));
                Value::Array(said)
            };
            add("plugins", self.plugins.iter().map(said).collect());
        }
        if let Some(decision) = self.decision.as_ref().filter(|decision| !decision.rankings.is_empty()) {
            add("rankings", json!(decision.rankings));
        }
        add("candidates", json!(record.candidates));
        add("attempts", json!(record.attempts));
        let plain = self.reads.facts.iter().map(|fact| fact.to_string());
        let reads = plain.chain(self.reads.asked.iter().map(Asked::shown)).take(BRIEF_READS);
        add("read", json!(reads.collect::<Vec<_>>()));
        for least in [
            "",
            "read",
            "plugins",
            "tags",
            "rankings",
            "attempts",
            "candidates",
            "then",
            "set_by",
            "limits",
            "require",
            "avoid",
            "failed",
            "verdict",
        ] {
            if all.remove(least).is_some() {
                all.insert("cut".into(), true.into());
            }
            let text = ascii(&Value::Object(all.clone()).to_string());
            if text.len() <= BRIEF {
                return text;
            }
        }
        "{\"cut\":true}".to_owned()
    }

    /// Which rule decided, and where it stands.
    pub fn decided_by(&self) -> String {
        match &self.record.rule {
            Some(rule) => rule.located(),
            None if self.stopped_by().is_some() => {
                format!("guard {}, before policies were asked", self.stopped_by().unwrap_or_default())
            }
            None if self.decision.is_none() => "nobody: a policy failed".to_owned(),
            None => "no policy".to_owned(),
        }
    }

    /// The guard that let the request go no further.
    fn stopped_by(&self) -> Option<&str> {
        if self.decision.is_some() || self.seen.is_some() {
            return None;
        }
        let ended = |outcome: &str| {
            let one = self.plugins.iter().find(|one| one.is_guards() && one.reply["outcome"] == outcome);
            one.map(|one| &*one.plugin)
        };
        ["block", "failed", "redact"].into_iter().find_map(ended)
    }

    fn offer(&self, target: &str) -> Option<&Offer> {
        self.seen.as_ref()?.visited.offers.iter().find(|offer| *offer.listing.name == *target)
    }
}

/// The question in a word.
fn asked_of(question: &Value) -> String {
    question.as_str().map_or_else(|| question.to_string(), str::to_owned)
}

/// How an attempt went, and why it was made.
fn attempted(attempt: &AttemptRecord) -> String {
    let status = attempt.status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
    let role = if attempt.role.is_primary() { String::new() } else { format!(", {}", attempt.role.as_str()) };
    let chaos = attempt.chaos.as_ref().map(|name| format!(", struck by chaos `{name}`")).unwrap_or_default();
    format!("{}: {}{status} after {:.1} ms{role}{chaos}", attempt.target, attempt.outcome, attempt.ms)
}

/// The strategy by which a target has its place.
fn ranked(candidate: &Candidate) -> String {
    match (&candidate.by, candidate.score) {
        (Some(by), Some(score)) => format!(" by {by}: {score:.4}"),
        (Some(by), None) => format!(" by {by}"),
        (None, _) => String::new(),
    }
}

/// What is known of a target's price and health.
fn numbers(offer: &Offer) -> String {
    let mut shown = Vec::new();
    if let Some(price) = offer.listing.price {
        shown.push(format!("${} in, ${} out per million tokens", price.input, price.output));
    }
    if let Some(p50) = offer.live.latency.p50 {
        shown.push(format!("{p50:.0} ms"));
    }
    if let Some(rate) = offer.live.error_rate {
        shown.push(format!("{:.1} % errors", rate * 100.0));
    }
    if offer.live.healthy == Some(false) {
        shown.push("unhealthy".into());
    }
    if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) }
}

fn time(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map(|time| format!("{time:.3}")).unwrap_or_default()
}

/// JSON text with everything beyond visible ASCII escaped.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{
        Decision, Failure, Hook, Narrowing, Outcome, OutputRules, RECORD_VERSION, Record, Step,
    };

    #[test]
    fn a_route_is_shown_as_it_is_written() {
        let step = |choices: &[(&str, f64)]| Step {
            choices: choices.iter().map(|(name, weight)| ((*name).into(), *weight)).collect(),
        };
        let route = Route {
            steps: vec![step(&[("a/x", 70.0), ("b", 30.0)]), step(&[("c", 1.0)])],
            timeout: Some(std::time::Duration::from_secs(20)),
            retries: Some(0),
            priority: Some(crate::caller::Priority::Low),
            set: vec![("temperature".into(), json!(0.2)), ("stop".into(), Value::Null)],
            ..Route::default()
        };
        assert_eq!(
            route.shown(),
            r#"split(#{ "a/x": 70, "b": 30 }).then("c").timeout("20s").retries(0).priority("low").set("temperature", 0.2).set("stop", null)"#
        );
    }

    #[test]
    fn a_sticky_split_shows_first_what_falls_to_the_caller() {
        let step = |names: &[&str]| Step { choices: names.iter().map(|n| ((*n).into(), 50.0)).collect() };
        let steps = vec![step(&["b", "a"]), step(&["c", "d"])];
        let route = Route { steps, sticky: vec![0], ..Route::default() };
        assert_eq!(
            route.shown(),
            r#"split(#{ "b": 50, "a": 50 }).sticky_by(…).then(split(#{ "c": 50, "d": 50 }))"#
        );
        let fallen: Vec<usize> = route.fallen().iter().map(|step| step.choices.len()).collect();
        assert_eq!(fallen, [1, 2]);
    }

    fn dossier() -> Dossier {
        let record = Record {
            v: RECORD_VERSION,
            request_id: "r".into(),
            snapshot: "s".into(),
            version: None,
            model_version: None,
            facts: None,
            rule: None,
            arm: None,
            policies: None,
            cache: None,
            tags: Vec::new(),
            candidates: Vec::new(),
            attempts: Vec::new(),
            usage: None,
            cost: None,
            outcome: Outcome::Ok,
        };
        Dossier {
            at_ms: 1,
            record,
            status: 200,
            ms: 1.0,
            policy_us: 0.0,
            first_token_ms: None,
            error: None,
            seen: None,
            reads: Default::default(),
            decision: None,
            failures: Vec::new(),
            plugins: Vec::new(),
            limits: None,
            later: Vec::new(),
            finish: None,
            shadow: None,
        }
    }

    #[test]
    fn limits_of_the_answer_and_what_later_hooks_said_are_told() {
        let output = OutputRules { most: Some(9), ..OutputRules::default() };
        let by = |file: Option<&str>| Rule {
            policy: "10-a".into(),
            hook: Hook::OnRequest,
            line: Some(3),
            file: file.map(Into::into),
            name: None,
        };
        let private = Constraint::Tag("private".into());
        let set_by = vec![
            SetBy { what: Narrowing::CapOutput(9), by: by(None) },
            SetBy {
                what: Narrowing::Require(private.clone()),
                by: by(Some("/etc/tollgate/policies/lib/teams.rhai")),
            },
        ];
        let require = vec![private];
        let decision = Some(Box::new(Decision { output, require, set_by, ..Decision::default() }));
        let later = vec![Later::OnError {
            target: "a/b".into(),
            attempt: 1,
            kind: "timeout".into(),
            status: None,
            retry_after_ms: None,
            said: "next_target()".into(),
        }];
        let dossier = Dossier { decision, later, ..dossier() };
        let brief: Value = serde_json::from_str(&dossier.brief()).unwrap();
        assert_eq!(brief["limits"], json!(["cap_output(9)"]));
        assert_eq!(brief["then"], json!(["on_error after a/b failed (timeout): next_target()"]));
        assert_eq!(
            brief["set_by"],
            json!([
                { "what": "cap_output(9)", "rule": "10-a", "at": "10-a.rhai:3" },
                { "what": "require(\"private\")", "rule": "10-a", "at": "lib/teams.rhai:3" }
            ])
        );
        for part in [
            "limits     cap_output(9)",
            "set by     10-a (10-a.rhai:3): cap_output(9)",
            "set by     10-a (lib/teams.rhai:3): require(\"private\")",
            "then       on_error after a/b failed (timeout): next_target()",
        ] {
            assert!(dossier.explained().contains(part), "no {part} in {}", dossier.explained());
        }
    }

    #[test]
    fn a_client_hears_that_a_policy_failed_and_not_where_it_lies() {
        let failure = Failure {
            policy: "10-a".into(),
            at: "/etc/tollgate/policies/10-a.rhai:3:9".into(),
            message: "no".into(),
        };
        let dossier = Dossier { failures: vec![failure], ..dossier() };
        let brief: Value = serde_json::from_str(&dossier.brief()).unwrap();
        assert_eq!(
            (&brief["verdict"], &brief["failed"]),
            (&json!("none: a policy failed"), &json!(["10-a.rhai:3:9"]))
        );
        assert!(dossier.explained().contains("/etc/tollgate/policies/10-a.rhai:3:9"));
    }

    #[test]
    fn a_header_is_visible_ascii() {
        assert_eq!(ascii("{\"é → 😀\"}"), r#"{"\u00e9 \u2192 \ud83d\ude00"}"#);
        assert_eq!(serde_json::from_str::<Value>(&ascii("[\"é😀\"]")).unwrap(), json!(["é😀"]));
    }
}
