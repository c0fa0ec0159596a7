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
use crate::plan::{Decision, Dossier, Later};
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
#[derive(Debug, Default)]
struct Way {
    /// The first target; `None` when the request is refused.
    target: Option<String>,
    /// Dollars, as far as the price is known.
    cost: Option<f64>,
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
        // Whoever was refused later cost what was used all the same, but was refused.
        let was_refused = dossier.later.last().is_some_and(|later| Later::refuses(later.said()));
        let is_refused = match &turn {
            Some(turn) => Later::refuses(&turn.after),
            None => was_refused && difference != Difference::Act,
        };
        let before = if was_refused { Way::default() } else { self.way(dossier, old, version, today) };
        let after = if is_refused || !missed.is_empty() {
            Way::default()
        } else {
            self.way(dossier, new.as_ref(), version, &tomorrow)
        };
        Some(Outcome { dossier, difference, new, turn, failed, missed, before, after })
    }

    /// The same request always falls the same way: what dice decide makes no difference.
    fn way(
        &self,
        dossier: &Dossier,
        decision: Option<&Decision>,
        version: Option<usize>,
        market: &Arc<dyn Market>,
    ) -> Way {
        let (Some(decision), Some(facts)) = (decision, &dossier.record.facts) else { return Way::default() };
        let seen = dossier.seen.as_deref().cloned().unwrap_or_default();
        let visited = seen.visited.clone();
        let (id, reads) = (dossier.record.request_id.clone(), dossier.reads.clone());
        let (mut facts, notes) = Noted::facts(id, dossier.at_ms, facts.clone(), seen, reads);
        facts.market = Arc::new(Past::new(visited, market.clone(), notes, self.prices.is_some()));
        let catalogue = self.candidate.catalogue_of(version);
        let plan = planner::plan(catalogue, &facts, decision, &Dice::of(&dossier.record.request_id));
        let Some(target) = plan.ok().and_then(|plan| plan.targets.first().map(|t| t.name.to_string())) else {
            return Way::default();
        };
        let usage = dossier.record.usage.as_ref();
        let size = usage.map(|usage| Size { input: usage.prompt(), output: usage.output });
        let cost = size.and_then(|size| market.cost(&market.offer(&target)?, size));
        Way { target: Some(target), cost }
    }
}
