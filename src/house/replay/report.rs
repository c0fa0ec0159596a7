//! What a replay found: for people, for machines, and against the bars that somebody set.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::tally::{Dollars, Sample, Tally};
use crate::settings::Percent;

/// Lines of each list that people are shown.
const SHOWN: usize = 10;

/// The result of a replay.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Records that the candidate was asked about.
    pub asked: u64,
    /// Decided the same, by the same rule.
    pub same: u64,
    /// Decided the same by another rule.
    pub other_rule: u64,
    /// Treated otherwise: another route, a refusal, other constraints, tags or limits.
    pub changed: u64,
    /// The candidate asks what was not recorded.
    pub undecidable: u64,
    /// The candidate failed on them.
    pub failed: u64,
    /// Requests refused before and after, and which of them are new.
    pub denied: Denied,
    /// What records lack, with the number of records.
    pub missing: BTreeMap<String, u64>,
    /// First targets that change, most frequent first.
    pub routes: Vec<Move>,
    /// Rules that change, most frequent first.
    pub rules: Vec<Move>,
    /// Every target that was or would be first, or was tried.
    pub targets: BTreeMap<String, TargetReport>,
    /// Dollars before and after, of requests whose prices are all known.
    pub cost: Cost,
    /// The same by day, in UTC.
    pub days: BTreeMap<String, Dollars>,
    /// Expected time of the first attempt, by what was measured at each target.
    pub latency: Latency,
    /// Requests that would be treated otherwise.
    pub samples: Vec<Sample>,
    /// Records that never got as far as the policies.
    pub undecided: u64,
    /// Lines that are no records, or records of a later version.
    pub unreadable: u64,
    /// Hooks of the candidate that were not asked: nothing of a request depends on them.
    pub not_replayed: Vec<String>,
    /// Bars that were passed.
    pub exceeded: Vec<String>,
}

/// Refusals.
#[derive(Debug, Serialize)]
pub struct Denied {
    /// As it was.
    pub before: u64,
    /// As it would be.
    pub after: u64,
    /// Refused, though they were not.
    pub newly: u64,
    /// Let through, though they were not.
    pub no_longer: u64,
}

/// Requests that go from one to another.
#[derive(Debug, Serialize)]
pub struct Move {
    /// Before.
    pub from: String,
    /// After.
    pub to: String,
    /// How many.
    pub requests: u64,
}

/// One target in a replay.
#[derive(Debug, Serialize)]
pub struct TargetReport {
    /// Requests that went there first.
    pub before: u64,
    /// Requests that would go there first.
    pub after: u64,
    /// Dollars.
    pub cost: Dollars,
    /// The median of the attempts that succeeded there, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_ms: Option<f64>,
}

/// Money.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// As it was.
    pub before: f64,
    /// As it would be.
    pub after: f64,
    /// How much more, in percent; none where nothing was spent before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_percent: Option<f64>,
    /// Requests that are counted: with usage, and with prices before and after.
    pub requests: u64,
    /// Requests with usage whose price was known and would not be.
    #[serde(skip_serializing_if = "is_zero")]
    pub newly_unpriced: u64,
    /// Requests with usage whose price was not known and would be.
    #[serde(skip_serializing_if = "is_zero")]
    pub newly_priced: u64,
    /// What these would cost; not part of `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newly_priced_after: Option<f64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Times, in milliseconds.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// Mean of the medians of first targets, as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_ms: Option<f64>,
    /// As it would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<f64>,
    /// Requests whose new target was never measured.
    pub unmeasured: u64,
}

/// How much may change; beyond it the command fails.
#[derive(Debug, Default, Clone)]
pub struct Bars {
    /// Share of changed requests.
    pub changed: Option<Percent>,
    /// Share of newly refused requests.
    pub denied: Option<Percent>,
    /// More money than before.
    pub cost: Option<Percent>,
    /// More time than before.
    pub latency: Option<Percent>,
    /// Share of undecidable requests.
    pub undecidable: Option<Percent>,
}

/// Money spent, by day and target: what `simulate` shows.
pub struct Spend<'a>(pub &'a Report, pub u64);

impl Report {
    pub(super) fn of(mut tally: Tally) -> Self {
        let medians: BTreeMap<String, f64> = tally
            .targets
            .iter_mut()
            .filter_map(|(name, target)| Some((name.clone(), median(&mut target.times)?)))
            .collect();
        let latency = latency(&tally, &medians);
        let targets = tally.targets.into_iter().map(|(name, target)| {
            let median_ms = medians.get(&name).copied();
            let report =
                TargetReport { before: target.before, after: target.after, cost: target.cost, median_ms };
            (name, report)
        });
        let Dollars { before, after } = tally.cost;
        Self {
            asked: tally.asked,
            same: tally.same,
            other_rule: tally.other_rule,
            changed: tally.changed,
            undecidable: tally.undecidable,
            failed: tally.failed,
            denied: Denied {
                before: tally.denied_before,
                after: tally.denied_after,
                newly: tally.newly_denied,
                no_longer: tally.newly_allowed,
            },
            missing: tally.missed,
            routes: moves(tally.routes),
            rules: moves(tally.rules),
            targets: targets.collect(),
            cost: Cost {
                before,
                after,
                change_percent: change(before, after),
                requests: tally.priced,
                newly_unpriced: tally.newly_unpriced,
                newly_priced: tally.newly_priced.0,
                newly_priced_after: (tally.newly_priced.0 > 0).then_some(tally.newly_priced.1),
            },
            days: tally.days,
            latency,
            samples: tally.samples,
            undecided: tally.undecided,
            unreadable: tally.unreadable,
            not_replayed: Vec::new(),
            exceeded: Vec::new(),
        }
    }

    /// Notes which bars are passed.
    pub fn measure(&mut self, bars: &Bars) {
        let share = |count: u64| percent(count, self.asked);
        let times = self.latency.before_ms.zip(self.latency.after_ms);
        let slower = times.and_then(|(before, after)| change(before, after));
        let checks = [
            ("changed requests", Some(share(self.changed)), bars.changed),
            ("newly denied requests", Some(share(self.denied.newly)), bars.denied),
            // Whoever paid nothing before and pays something now pays infinitely more.
            (
                "cost",
                self.cost.change_percent.or((self.cost.after > 0.0).then_some(f64::INFINITY)),
                bars.cost,
            ),
            ("latency", slower, bars.latency),
            ("undecidable requests", Some(share(self.undecidable)), bars.undecidable),
        ];
        if bars.cost.is_some() && self.cost.newly_unpriced > 0 {
            let count = self.cost.newly_unpriced;
            self.exceeded.push(format!("cost: {count} requests would go where no price is known"));
        }
        for (what, value, bar) in checks {
            if let (Some(value), Some(Percent(most))) = (value, bar)
                && value > most
            {
                let shown = if value.is_finite() {
                    format!("{value:.2}%")
                } else {
                    "from nothing to something".into()
                };
                self.exceeded.push(format!("{what}: {shown} is more than {most}%"));
            }
        }
    }

    /// The summary for people.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let of = |count: u64| format!("{count} ({:.2}%)", percent(count, self.asked));
        let mut line = |name: &str, what: &str| {
            let _ = writeln!(text, "{name:<20}{what}");
        };
        line("decisions", &self.asked.to_string());
        line("same", &of(self.same));
        if self.other_rule > 0 {
            line("same, other rule", &of(self.other_rule));
        }
        line("changed", &of(self.changed));
        line("undecidable", &of(self.undecidable));
        if self.failed > 0 {
            line("policy failed", &of(self.failed));
        }
        let denied = &self.denied;
        let moved = format!("{} newly, {} no longer", denied.newly, denied.no_longer);
        line("denied", &format!("{} before, {} after ({moved})", denied.before, denied.after));
        line("cost", &self.cost.shown());
        if let Some((before, after)) = self.latency.before_ms.zip(self.latency.after_ms) {
            line("expected latency", &format!("{before:.0} ms before, {after:.0} ms after"));
        }
        for (title, moves) in
            [("rules that change", &self.rules), ("first targets that change", &self.routes)]
        {
            list(&mut text, title, moves.iter().map(|m| format!("{:>8}  {} → {}", m.requests, m.from, m.to)));
        }
        let mut missing: Vec<_> = self.missing.iter().collect();
        missing.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        list(
            &mut text,
            "not recorded, but asked",
            missing.iter().map(|(what, count)| format!("{count:>8}  {what}")),
        );
        list(&mut text, "for example", self.samples.iter().map(Sample::shown));
        if self.unreadable > 0 {
            let _ = writeln!(text, "\n{} lines were no records and were skipped", self.unreadable);
        }
        for hook in &self.not_replayed {
            let _ = writeln!(
                text,
                "\nnot replayed: `{hook}`; no request depends on it, and records do not hold its metrics, lines and state"
            );
        }
        for exceeded in &self.exceeded {
            let _ = writeln!(text, "\ntoo much: {exceeded}");
        }
        text
    }
}

impl Spend<'_> {
    /// The summary for people.
    pub fn summary(&self) -> String {
        let Self(report, days) = self;
        let mut text = format!("{:<20}{}\n", format!("spend over {days} days"), report.cost.shown());
        let counted = report.undecidable + report.cost.requests + report.cost.newly_priced;
        let left = report.asked.saturating_sub(counted);
        if left > 0 || report.undecidable > 0 {
            let _ = writeln!(
                text,
                "{:<20}{left} without usage or price, {} undecidable",
                "not counted", report.undecidable
            );
        }
        let money =
            |name: &str, cost: &Dollars| format!("  {name:<40}{:>14.6}{:>14.6}", cost.before, cost.after);
        let header = format!("  {:<40}{:>14}{:>14}", "dollars", "before", "after");
        for (title, lines) in [
            ("by day", report.days.iter().map(|(day, cost)| money(day, cost)).collect::<Vec<_>>()),
            ("by target", report.targets.iter().map(|(name, target)| money(name, &target.cost)).collect()),
        ] {
            if !lines.is_empty() {
                let _ = writeln!(text, "\n{title}\n{header}\n{}", lines.join("\n"));
            }
        }
        for exceeded in &report.exceeded {
            let _ = writeln!(text, "\ntoo much: {exceeded}");
        }
        text
    }
}

impl Cost {
    fn shown(&self) -> String {
        let change = self.change_percent.map(|change| format!(" ({change:+.2}%)")).unwrap_or_default();
        let requests = format!("for {} requests with known prices", self.requests);
        let mut text = format!("${:.6} before, ${:.6} after{change}, {requests}", self.before, self.after);
        if self.newly_unpriced > 0 {
            let _ = write!(text, "; {} more would go where no price is known", self.newly_unpriced);
        }
        if let Some(after) = self.newly_priced_after {
            let _ = write!(text, "; ${after:.6} after for {} whose price was not known", self.newly_priced);
        }
        text
    }
}

impl Sample {
    fn shown(&self) -> String {
        let Self { id, rule_before, rule_after, before, after } = self;
        format!("{id}\n      {rule_before}: {before}\n      {rule_after}: {after}")
    }
}

fn list(text: &mut String, title: &str, lines: impl ExactSizeIterator<Item = String>) {
    let count = lines.len();
    if count == 0 {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for line in lines.take(SHOWN) {
        let _ = writeln!(text, "  {line}");
    }
    if count > SHOWN {
        let _ = writeln!(text, "  and {} more; --json has them all", count - SHOWN);
    }
}

fn moves(pairs: BTreeMap<(String, String), u64>) -> Vec<Move> {
    let mut moves: Vec<_> =
        pairs.into_iter().map(|((from, to), requests)| Move { from, to, requests }).collect();
    moves.sort_by_key(|it| std::cmp::Reverse(it.requests));
    moves
}

#[allow(clippy::cast_precision_loss, reason = "a share of fewer than 2^53 requests")]
fn latency(tally: &Tally, medians: &BTreeMap<String, f64>) -> Latency {
    let (mut before, mut after, mut unmeasured) = ((0.0, 0_u64), (0.0, 0_u64), 0);
    for (name, target) in &tally.targets {
        match medians.get(name) {
            Some(median) => {
                before = (before.0 + median * target.before as f64, before.1 + target.before);
                after = (after.0 + median * target.after as f64, after.1 + target.after);
            }
            None => unmeasured += target.after,
        }
    }
    let mean = |(sum, count): (f64, u64)| (count > 0).then(|| sum / count as f64);
    Latency { before_ms: mean(before), after_ms: mean(after), unmeasured }
}

fn median(times: &mut [f32]) -> Option<f64> {
    let middle = times.len() / 2;
    if times.is_empty() {
        return None;
    }
    Some(f64::from(*times.select_nth_unstable_by(middle, f32::total_cmp).1))
}

#[allow(clippy::cast_precision_loss, reason = "a share of fewer than 2^53 requests")]
fn percent(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 * 100.0 }
}

/// How much more, in percent.
fn change(before: f64, after: f64) -> Option<f64> {
    (before > 0.0).then(|| (after - before) / before * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_written_as_people_write_them() {
        for (text, value) in [("5%", 5.0), ("+10%", 10.0), ("0.5", 0.5), (" 0 % ", 0.0), ("-3%", -3.0)] {
            assert_eq!(text.parse(), Ok(Percent(value)), "{text}");
        }
        assert!("much".parse::<Percent>().is_err() && "inf%".parse::<Percent>().is_err());
    }

    #[test]
    fn what_is_over_its_bar_is_told() {
        let tally = Tally { asked: 200, changed: 11, newly_denied: 2, ..Tally::default() };
        let mut report = Report::of(tally);
        report.measure(&Bars {
            changed: Some(Percent(5.0)),
            denied: Some(Percent(1.0)),
            cost: Some(Percent(0.0)),
            ..Bars::default()
        });
        assert_eq!(report.exceeded, ["changed requests: 5.50% is more than 5%"]);
    }

    #[test]
    fn what_has_no_price_any_more_is_over_every_bar_of_cost() {
        let tally = Tally {
            asked: 9,
            priced: 4,
            cost: Dollars { before: 2.0, after: 1.0 },
            newly_unpriced: 3,
            newly_priced: (2, 0.5),
            ..Tally::default()
        };
        let mut report = Report::of(tally);
        report.measure(&Bars::default());
        assert!(report.exceeded.is_empty());
        report.measure(&Bars { cost: Some(Percent(0.0)), ..Bars::default() });
        assert_eq!(report.exceeded, ["cost: 3 requests would go where no price is known"]);
        assert_eq!(
            report.cost.shown(),
            "$2.000000 before, $1.000000 after (-50.00%), for 4 requests with known prices; 3 more would go where no \
             price is known; $0.500000 after for 2 whose price was not known"
        );
        assert!(
            Spend(&report, 1).summary().contains("3 without usage or price"),
            "{}",
            Spend(&report, 1).summary()
        );
    }
}
