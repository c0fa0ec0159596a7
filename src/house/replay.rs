//! Recorded decisions through a set of policies: what would change, for whom, and what it would cost.

mod prices;
mod read;
mod report;
mod tally;

use std::path::PathBuf;
use std::sync::Arc;

pub use prices::Prices;
use prices::Repriced;
pub use read::{Source, records as records_of, source_of, text_of};
pub use report::{Bars, Report, Spend};
use tally::Tally;

use crate::clock::Dice;
use crate::facts::market::{Market, Size};
use crate::facts::{Noted, Past};
use crate::gateway::Snapshot;
use crate::plan::{Decision, Dossier, Hook, Later};
use crate::planner;
use crate::policy::SeenTarget;
use crate::policy::replay::{Difference, Replayed, Turn, difference, replay};
use crate::target::TargetName;

/// What is replayed, and how.
pub struct Replay<'a> {
    /// The policies that are tried, and the configuration around them.
    pub candidate: &'a Snapshot,
    /// Nothing that is older counts, in Unix milliseconds.
    pub since_ms: u64,
    /// Prices that replace the configuration's afterwards. With them, policies see today's prices, not those of the
    /// time of the record.
    pub prices: Option<Arc<Prices>>,
    /// Changed requests that are shown.
    pub samples: usize,
}

/// What one recorded request would become.
struct Outcome<'a> {
    dossier: &'a Dossier,
    difference: Difference,
    new: Option<Decision>,
    /// The first hook behind the decision that says something else.
    turn: Option<Turn>,
    failed: bool,
    missed: Vec<String>,
    before: Way,
    after: Way,
}

/// Where a decision leads a request.
#[derive(Debug)]
struct Way {
    /// The first target; `None` when nobody is asked.
    target: Option<String>,
    /// Dollars, as far as the price is known.
    cost: Option<f64>,
    /// Whether the client is refused: before anybody is asked, or afterwards.
    denied: bool,
}

impl Way {
    /// Refused before anybody has answered: that costs nothing.
    fn nowhere() -> Self {
        Self { target: None, cost: Some(0.0), denied: true }
    }

    /// The first target as lists of moves name it.
    fn name(&self) -> &str {
        self.target.as_deref().filter(|_| !self.denied).unwrap_or("(denied)")
    }
}

impl Replay<'_> {
    /// Reads the files on all cores and asks the candidate about each record.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn run(&self, files: &[PathBuf]) -> Result<Report, String> {
        let mut all = Tally::new(self.samples);
        for file in files {
            let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            for tally in read::in_parallel(&bytes, |piece| self.tally(piece)) {
                all.add(tally);
            }
        }
        let mut report = Report::of(all);
        let unheard = self.candidate.policies.later_hooks().filter(|hook| *hook == "on_complete");
        report.not_replayed = unheard.map(str::to_owned).collect();
        Ok(report)
    }

    fn tally(&self, piece: &[u8]) -> Tally {
        let mut tally = Tally::new(self.samples);
        for line in read::records(piece) {
            let Some(dossier) = line else {
                tally.unreadable += 1;
                continue;
            };
            if dossier.at_ms < self.since_ms {
                tally.too_old += 1;
                continue;
            }
            match self.outcome(&dossier) {
                Some(outcome) => tally.count(&outcome),
                None => tally.undecided += 1,
            }
        }
        tally
    }

    fn outcome<'d>(&self, dossier: &'d Dossier) -> Option<Outcome<'d>> {
        let version = dossier.record.version.as_ref();
        let version = version.and_then(|name| self.candidate.versions.iter().position(|v| v.name == *name));
        let today = self.candidate.market_of(version);
        let tomorrow: Arc<dyn Market> = match &self.prices {
            Some(prices) => Arc::new(Repriced::new(today.clone(), prices.clone())),
            None => today.clone(),
        };
        let catalogue = self.candidate.catalogue_of(version);
        let known = |target: &TargetName| {
            let traits = catalogue.vendor(&target.provider).map(|vendor| vendor.traits.clone());
            SeenTarget::of(target, &traits.unwrap_or_default())
        };
        let Replayed { decision: new, turn, missed, .. } =
            replay(&self.candidate.policies, dossier, &tomorrow, self.prices.is_some(), &known)?;
        let old = dossier.decision.as_deref();
        let difference = match difference(old, new.as_ref()) {
            _ if turn.is_some() => Difference::Act,
            difference => difference,
        };
        let failed = new.is_none();
        let was_refused = dossier.later.last().is_some_and(|later| Later::refuses(later.said()));
        let is_refused = match &turn {
            Some(turn) => Later::refuses(&turn.after),
            None => was_refused && difference != Difference::Act,
        };
        // Whoever gives up after a failed attempt never gets the answer that is recorded.
        let gives_up = is_refused && turn.as_ref().is_some_and(|turn| turn.hook == Hook::OnError);
        let before = self.way(dossier, old, version, today, was_refused);
        let after = if gives_up || !missed.is_empty() {
            Way::nowhere()
        } else {
            self.way(dossier, new.as_ref(), version, &tomorrow, is_refused)
        };
        Some(Outcome { dossier, difference, new, turn, failed, missed, before, after })
    }

    /// The same request always falls the same way: what dice decide makes no difference. One that is `refused` behind
    /// the decision costs what was used all the same.
    fn way(
        &self,
        dossier: &Dossier,
        decision: Option<&Decision>,
        version: Option<usize>,
        market: &Arc<dyn Market>,
        refused: bool,
    ) -> Way {
        let (Some(decision), Some(facts)) = (decision, &dossier.record.facts) else { return Way::nowhere() };
        let seen = dossier.seen.as_deref().cloned().unwrap_or_default();
        let visited = seen.visited.clone();
        let (id, reads) = (dossier.record.request_id.clone(), dossier.reads.clone());
        let (mut facts, notes) = Noted::facts(id, dossier.at_ms, facts.clone(), seen, reads);
        facts.market = Arc::new(Past::new(visited, market.clone(), notes, self.prices.is_some()));
        let catalogue = self.candidate.catalogue_of(version);
        let plan = planner::plan(catalogue, &facts, decision, &Dice::of(&dossier.record.request_id));
        let Some(target) = plan.ok().and_then(|plan| plan.targets.first().map(|t| t.name.to_string())) else {
            return Way::nowhere();
        };
        let usage = dossier.record.usage.as_ref();
        let size = usage.map(|usage| Size { input: usage.prompt(), output: usage.output });
        let cost = size.and_then(|size| market.cost(&market.offer(&target)?, size));
        Way { target: Some(target), cost, denied: refused }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::chat::Usage;
    use crate::facts::{Endpoint, FactsRecord, Seen};
    use crate::house::House;
    use crate::plan::{self, AttemptRecord, RECORD_VERSION, Record, Role, Route, Step, Verdict};
    use crate::settings::Percent;

    const CONFIG: &str = "policies: ./policies\nproviders: { s: { dialect: sandbox, models: [ m ] } }\n\
                          prices: { models: { s/m: { price: { input: 1, output: 2 } } } }\n";
    const ROUTE: &str = "fn on_request(req) { route(\"s/m\") }\n";
    const PICKY: &str =
        "fn on_response(req, res) { if res.usage.output > 3 { return reject(502, \"long\", \"x\"); } }\n";

    fn attempt(outcome: &'static str) -> AttemptRecord {
        AttemptRecord {
            target: TargetName { provider: "s".into(), model: "m".into() },
            outcome: outcome.into(),
            status: Some(200),
            ms: 5.0,
            role: Role::Primary,
            usage: None,
            cost: None,
            chaos: None,
        }
    }

    /// A request that went to `s/m`, with these attempts; of its answer, `on_response` said this.
    fn dossier(attempts: &[&'static str], said: Option<&str>) -> Dossier {
        let usage = Usage { input: 10, output: 20, ..Usage::default() };
        let facts = FactsRecord {
            endpoint: Endpoint::Chat,
            model: "auto".into(),
            stream: false,
            tokens: 10,
            messages: 1,
            tools: 0,
            max_tokens: None,
            user: None,
            bytes: 40,
        };
        let record = Record {
            v: RECORD_VERSION,
            request_id: "r".into(),
            snapshot: "s".into(),
            version: None,
            model_version: None,
            facts: Some(facts),
            rule: None,
            arm: None,
            policies: None,
            cache: None,
            tags: Vec::new(),
            candidates: Vec::new(),
            attempts: attempts.iter().copied().map(attempt).collect(),
            usage: Some(usage),
            cost: None,
            outcome: plan::Outcome::Ok,
        };
        let steps = vec![Step { choices: vec![("s/m".into(), 1.0)] }];
        let verdict = Some(Verdict::Route(Route { steps, ..Route::default() }));
        let later = said.map(|said| Later::OnResponse {
            target: "s/m".into(),
            status: 200,
            stream: false,
            usage: Some(Box::new(usage)),
            finish: None,
            latency_ms: 5,
            said: said.into(),
        });
        Dossier {
            at_ms: 1,
            record,
            status: 200,
            ms: 5.0,
            policy_us: 0.0,
            first_token_ms: None,
            error: None,
            seen: Some(Box::new(Seen::default())),
            reads: Default::default(),
            plugins: Vec::new(),
            decision: Some(Box::new(Decision { verdict, ..Decision::default() })),
            later: later.into_iter().collect(),
            finish: None,
            failures: Vec::new(),
            limits: None,
            shadow: None,
        }
    }

    /// The record through these rules.
    fn replayed(rules: &str, dossier: &Dossier) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let (config, records) = (dir.path().join("tollgate.yaml"), dir.path().join("records.jsonl"));
        fs::create_dir(dir.path().join("policies")).unwrap();
        fs::write(&config, CONFIG).unwrap();
        fs::write(dir.path().join("policies/10-a.rhai"), rules).unwrap();
        fs::write(&records, serde_json::to_string(dossier).unwrap() + "\n").unwrap();
        let house = House::open(Some(config)).unwrap_or_else(|all| panic!("{all}"));
        let candidate = house.sketch(None).unwrap_or_else(|all| panic!("{all}"));
        let replay = Replay { candidate: &candidate, since_ms: 0, prices: None, samples: 5 };
        replay.run(&[records]).unwrap()
    }

    #[test]
    fn an_answer_that_is_refused_was_paid_for() {
        let (ok, failed) = (&["ok"][..], &["overloaded", "ok"][..]);
        let picky = format!("{ROUTE}{PICKY}");
        let hasty = format!("{ROUTE}fn on_error(req, err) {{ fail() }}\n");
        let stern = "fn on_request(req) { reject(403, \"no\", \"no\") }\n";
        let refused = Some("reject(\"long\")");
        for (what, rules, attempts, said, denied, asked, costs) in [
            ("nothing changes", ROUTE, ok, None, (0, 0), (1, 1), true),
            ("an answer is refused", &*picky, ok, None, (0, 1), (1, 1), true),
            ("it was, and still is", &*picky, ok, refused, (1, 1), (1, 1), true),
            ("it was, and is no more", ROUTE, ok, refused, (1, 0), (1, 1), true),
            ("nobody is asked", stern, ok, None, (0, 1), (1, 0), false),
            ("given up before the answer", &*hasty, failed, None, (0, 1), (1, 0), false),
        ] {
            let report = replayed(rules, &dossier(attempts, said));
            assert_eq!((report.asked, report.undecidable), (1, 0), "{what}: {report:#?}");
            assert_eq!((report.denied.before, report.denied.after), denied, "{what}: {report:#?}");
            let target = &report.targets["s/m"];
            assert_eq!((target.before, target.after), asked, "{what}: {report:#?}");
            let (before, after) = (report.cost.before, report.cost.after);
            assert!(before > 0.0, "{what}: {report:#?}");
            assert!((after - if costs { before } else { 0.0 }).abs() < 1e-12, "{what}: {report:#?}");
        }
    }

    #[test]
    fn refusing_answers_saves_nothing() {
        let mut report = replayed(&format!("{ROUTE}{PICKY}"), &dossier(&["ok"], None));
        report.measure(&Bars { cost: Some(Percent(-20.0)), ..Bars::default() });
        assert_eq!(report.exceeded, ["cost: 0.00% is more than -20%"]);
        let routes: Vec<_> = report.routes.iter().map(|one| (&*one.from, &*one.to)).collect();
        assert_eq!(routes, [("s/m", "(denied)")]);
    }
}
