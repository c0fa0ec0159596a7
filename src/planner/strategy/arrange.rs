//! A strategy at work: targets in groups of equals, which each step divides or puts in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Condition, Ranked, Step, StickyWord, Strategy};
use crate::clock::Dice;
use crate::facts::fit::Need;
use crate::facts::market::{Listing, Live, Offer};
use crate::facts::measure::{Rated, TIERS, weighed};
use crate::facts::point::{point, score};
use crate::facts::{Facts, beginning};
use crate::planner::catalogue::AliasTarget;
use crate::planner::draw::pick;
use crate::providers::Target;

/// A target of which nothing was measured is tried first, once in so many milliseconds.
const EXPLORE_EVERY_MS: u64 = 10_000;

/// However much fails at a target, this part of its weight stays, so that it is seen when it recovers.
const LEAST_HEALTH: f64 = 0.1;

/// The priority of a target that has none among others that have.
const USUAL_PRIORITY: u32 = 1;

/// What an order depends on besides the targets.
#[derive(Clone, Copy)]
pub(in crate::planner) struct Scene<'a> {
    pub(in crate::planner) facts: &'a Facts,
    pub(in crate::planner) dice: &'a Dice,
    /// The class of cost that the client asked for.
    pub(in crate::planner) tier: Option<&'static str>,
}

/// A target on its way to a place.
pub(in crate::planner) struct Runner {
    pub(in crate::planner) target: Target,
    pub(in crate::planner) offer: Offer,
    weight: Option<f64>,
    priority: Option<u32>,
    explored: Arc<AtomicU64>,
    /// What it was last ranked by, and how it scored.
    pub(in crate::planner) ranked: Option<(Arc<str>, Option<f64>)>,
}

/// Targets in order, and those that were left out with the reason.
#[derive(Default)]
pub(in crate::planner) struct Arranged {
    pub(in crate::planner) order: Vec<Runner>,
    pub(in crate::planner) left_out: Vec<(Target, String)>,
}

/// Targets that are equal so far, in the order written.
type Group = Vec<Runner>;

/// A step's work on one request.
struct Work<'a> {
    scene: Scene<'a>,
    turn: usize,
    left_out: Vec<(Target, String)>,
}

/// By what a weight is multiplied: how well the target does, smoothly.
pub(in crate::planner) fn health(live: &Live) -> f64 {
    live.health.unwrap_or_else(|| 1.0 - live.error_rate.unwrap_or(0.0)).max(LEAST_HEALTH)
}

impl Runner {
    /// A target of an alias, with its numbers of this moment.
    pub(in crate::planner) fn of(written: &AliasTarget, facts: &Facts) -> Self {
        let target = written.target.clone();
        let offer = facts.market.offer_to_order(&target.name).unwrap_or_else(|| Offer {
            listing: Arc::new(Listing::bare(target.name.to_string().into(), &target.vendor.traits)),
            live: Live::default(),
        });
        let (weight, priority, explored) = (written.weight, written.priority, written.explored.clone());
        Self { target, offer, weight, priority, explored, ranked: None }
    }

    /// Its weight, as far as it is well.
    fn share(&self) -> f64 {
        self.weight.unwrap_or(1.0) * health(&self.offer.live)
    }

    fn name(&self) -> &str {
        &self.offer.listing.name
    }

    fn by(&mut self, step: &str, score: Option<f64>) {
        self.ranked = Some((step.into(), score));
    }

    /// Takes the turn to be tried, if nobody has had it lately.
    fn claims(&self, now_ms: u64) -> bool {
        let last = self.explored.load(Ordering::Relaxed);
        now_ms >= last.saturating_add(EXPLORE_EVERY_MS)
            && self.explored.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Strategy {
    /// Puts targets in order.
    pub(in crate::planner) fn arrange(&self, scene: Scene<'_>, runners: Vec<Runner>) -> Arranged {
        let takes_turns = self.steps.iter().any(|step| matches!(step, Step::RoundRobin));
        let turn = if takes_turns { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let mut work = Work { scene, turn, left_out: Vec::new() };
        // Whatever the order, those that are out of service come last.
        let (well, unwell): (Group, Group) =
            runners.into_iter().partition(|runner| runner.offer.live.healthy != Some(false));
        let mut groups = vec![well, unwell];
        for step in &self.steps {
            let refine = |group| work.refine(step, group);
            groups = groups.into_iter().flat_map(refine).collect();
        }
        if matches!(self.steps.last(), Some(Step::LeastBusy)) {
            groups = groups.into_iter().map(|group| shuffled(group, scene.dice)).collect();
        }
        Arranged { order: groups.into_iter().flatten().collect(), left_out: work.left_out }
    }
}

impl Work<'_> {
    fn refine(&mut self, step: &Step, group: Group) -> Vec<Group> {
        match step {
            Step::Region(regions) => self.regions(regions, group),
            Step::Only(condition) => self.only(group, |listing| condition.complaint(listing)),
            Step::DataClass(classes) => self.data_class(classes.as_ref(), group),
            Step::Can(needs) => self.can(needs, group),
            _ if group.len() < 2 => vec![group],
            Step::Priority => by_priority(group),
            Step::Weighted(sticky) => self.weighted(*sticky, group),
            Step::RoundRobin => {
                let mut group = group;
                let first = self.turn % group.len();
                group.rotate_left(first);
                singles(group)
            }
            Step::LeastBusy => least_busy(group),
            Step::PowerOfTwo => self.power_of_two(group),
            Step::Ranked(ranked) => self.ranked(ranked, group),
            Step::Tier(class) => match self.scene.tier.or(*class) {
                Some(class) => by_tier(class, group),
                None => vec![group],
            },
            Step::Canary { to, share, sticky } => self.canary(to, *share, *sticky, group),
            Step::Sticky(whose) => self.sticky(*whose, group),
            Step::Prefer(condition) => {
                let (those, others) = group
                    .into_iter()
                    .partition(|runner| condition.complaint(&runner.offer.listing).is_none());
                vec![those, others]
            }
            Step::SmallestWindow => sorted(group, "smallest_window", |runner| {
                #[allow(clippy::cast_precision_loss, reason = "no window has 2^53 tokens")]
                runner.offer.listing.context_window.map(|window| window as f64)
            }),
        }
    }

    /// Leaves out those of which there is something to complain.
    fn only(&mut self, group: Group, complaint: impl Fn(&Listing) -> Option<String>) -> Vec<Group> {
        let mut kept = Vec::with_capacity(group.len());
        for runner in group {
            match complaint(&runner.offer.listing) {
                None => kept.push(runner),
                Some(complaint) => self.left_out.push((runner.target, complaint)),
            }
        }
        vec![kept]
    }

    fn regions(&mut self, regions: &[String], group: Group) -> Vec<Group> {
        let place = |listing: &Listing| {
            let region = listing.labels.get("region")?;
            regions.iter().position(|wanted| **wanted == **region)
        };
        let complain = |listing: &Listing| {
            place(listing).is_none().then(|| format!("is not in the region {}", regions.join(" or ")))
        };
        let kept = self.only(group, complain).into_iter().flatten().collect();
        grouped(kept, |runner| place(&runner.offer.listing).unwrap_or(usize::MAX))
    }

    fn data_class(
        &mut self,
        classes: Option<&std::collections::BTreeMap<String, Condition>>,
        group: Group,
    ) -> Vec<Group> {
        let headers = &self.scene.facts.headers;
        let class = headers.get(&crate::headers::DATA_CLASS).map(|value| value.to_str().unwrap_or("?"));
        match (classes, class) {
            (None, None) => vec![group],
            (None, Some(class)) => self.only(group, |listing| {
                let fits = listing.tags.iter().any(|tag| **tag == *class);
                (!fits).then(|| format!("is not for data of the class {class:?}"))
            }),
            (Some(classes), class) => match (classes.get(class.unwrap_or("none")), class) {
                (Some(condition), _) => self.only(group, |listing| {
                    let complaint = condition.complaint(listing)?;
                    Some(format!("is not for data of the class {:?}: {complaint}", class.unwrap_or("none")))
                }),
                (None, None) => vec![group],
                (None, Some(class)) => {
                    self.only(group, |_| Some(format!("data of the class {class:?} goes nowhere here")))
                }
            },
        }
    }

    fn can(&mut self, needs: &[Need], group: Group) -> Vec<Group> {
        let complaint = |listing: &Listing| {
            let lacks = |need: &&Need| need.known(&listing.can) == Some(false);
            needs.iter().find(lacks).map(|need| need.lacking().to_owned())
        };
        let kept = self.only(group, complaint).into_iter().flatten();
        let knows =
            |runner: &Runner| needs.iter().all(|need| need.known(&runner.offer.listing.can) == Some(true));
        let (known, unknown) = kept.partition(knows);
        vec![known, unknown]
    }

    fn weighted(&self, sticky: Option<StickyWord>, mut group: Group) -> Vec<Group> {
        let anchor = sticky.and_then(|whose| whose.anchor(self.scene.facts));
        let first = match anchor {
            // A draw that stays does not follow health: it would move callers to and fro.
            Some(anchor) => {
                let score = |runner: &Runner| score(&anchor, runner.name(), runner.weight.unwrap_or(1.0));
                let scored = group.iter().map(score).enumerate();
                scored.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(place, _)| place)
            }
            None => pick(group.iter().map(Runner::share), self.scene.dice),
        };
        let mut first = group.remove(first.unwrap_or(0));
        first.by("weighted", None);
        vec![vec![first], group]
    }

    fn power_of_two(&self, mut group: Group) -> Vec<Group> {
        let draw = |group: &mut Group| {
            let drawn = pick(group.iter().map(Runner::share), self.scene.dice).unwrap_or(0);
            group.remove(drawn)
        };
        let (one, two) = (draw(&mut group), draw(&mut group));
        // What was never measured is free until it is.
        let load = |runner: &Runner| (runner.offer.live.load().unwrap_or(0.0), busy(runner));
        let cmp = |a: &Runner, b: &Runner| {
            let (a, b) = (load(a), load(b));
            a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
        };
        let mut all = if cmp(&two, &one).is_lt() { vec![two, one] } else { vec![one, two] };
        group.sort_by(cmp);
        all.append(&mut group);
        for runner in &mut all {
            let load = runner.offer.live.load();
            runner.by("power_of_two", load);
        }
        singles(all)
    }

    fn canary(&self, to: &str, share: f64, sticky: Option<StickyWord>, group: Group) -> Vec<Group> {
        let anchor = sticky.and_then(|whose| whose.anchor(self.scene.facts));
        let drawn =
            anchor.map_or_else(|| self.scene.dice.unit(), |anchor| point(&anchor, &format!("canary {to}")));
        let (mut canary, others): (Group, Group) = group.into_iter().partition(|runner| runner.name() == to);
        canary.iter_mut().for_each(|runner| runner.by("canary", None));
        if drawn < share { vec![canary, others] } else { vec![others, canary] }
    }

    /// By a hash of whose it is: also what comes second stays the same.
    fn sticky(&self, whose: StickyWord, group: Group) -> Vec<Group> {
        let Some(anchor) = whose.anchor(self.scene.facts) else { return vec![group] };
        sorted(group, "sticky", |runner| Some(-score(&anchor, runner.name(), runner.weight.unwrap_or(1.0))))
    }

    fn ranked(&self, ranked: &Ranked, group: Group) -> Vec<Group> {
        let facts = self.scene.facts;
        let [whole, streams] = &ranked.measures;
        let measures = if facts.body.stream() { streams } else { whole };
        let rated =
            |runner| Rated { offer: Runner::offer(runner), body: &*facts.body, market: &*facts.market };
        let numbers = |measure: &crate::facts::measure::Measure| -> Vec<Option<f64>> {
            group.iter().map(|runner| measure(&rated(runner))).collect()
        };
        let scores = match &measures[..] {
            [(only, _)] => numbers(only),
            many => weighed(many.iter().map(|(one, weight)| (numbers(one), *weight)).collect(), group.len()),
        };
        let within = |runner| {
            ranked
                .bounds
                .iter()
                .all(|(bound, most)| bound(&rated(runner)).is_none_or(|number| number <= *most))
        };
        let within: Vec<bool> = group.iter().map(within).collect();
        let explores = ranked.explores && facts.market.is_live();
        let mut keyed = Vec::with_capacity(group.len());
        let mut explored = false;
        for ((mut runner, score), within) in group.into_iter().zip(scores).zip(within) {
            let first = explores && !explored && score.is_none() && runner.claims(facts.at_ms);
            explored |= first;
            runner.by(if first { "unknown yet" } else { &ranked.by }, score);
            let place = if first { 0 } else { 1 + u8::from(!within) };
            let known = score.filter(|score| score.is_finite()).unwrap_or(f64::INFINITY);
            keyed.push(((place, known), runner));
        }
        keyed.sort_by(|((a, x), _), ((b, y), _)| a.cmp(b).then(x.total_cmp(y)));
        equals(keyed)
    }
}

impl Runner {
    fn offer(runner: &Self) -> &Offer {
        &runner.offer
    }
}

impl Condition {
    /// What a target does not have.
    fn complaint(&self, listing: &Listing) -> Option<String> {
        if let Some(tag) = self.tags.iter().find(|tag| !listing.tags.iter().any(|has| **has == ***tag)) {
            return Some(format!("has not the tag {tag}"));
        }
        let lacks = |(key, value): &(&String, &String)| {
            listing.labels.get(key.as_str()).is_none_or(|has| **has != ***value)
        };
        let (key, value) = self.labels.iter().find(lacks)?;
        Some(format!("has not the label {key}: {value}"))
    }
}

impl StickyWord {
    /// What requests of the same have in common.
    fn anchor(self, facts: &Facts) -> Option<String> {
        let caller = &facts.caller;
        let named = |name: &Option<Arc<str>>| name.as_deref().map(str::to_owned);
        match self {
            Self::Caller => caller.anchor(),
            Self::User => named(&caller.user),
            Self::Session => named(&caller.session),
            Self::Key => named(&caller.key_id),
            Self::Prompt => Some(format!("prompt:{:016x}", beginning(&*facts.body)?)),
        }
    }
}

fn busy(runner: &Runner) -> f64 {
    runner.offer.live.busy().unwrap_or(0.0)
}

fn by_priority(group: Group) -> Vec<Group> {
    if group.iter().all(|runner| runner.priority.is_none()) {
        return singles(group);
    }
    grouped(group, |runner| runner.priority.unwrap_or(USUAL_PRIORITY))
}

fn least_busy(group: Group) -> Vec<Group> {
    sorted(group, "least_busy", |runner| {
        let weight = runner.weight.unwrap_or(1.0);
        Some(if weight > 0.0 { busy(runner) / weight } else { f64::INFINITY })
    })
}

/// The class itself first, then the others: from the middle and from above towards the cheap, from below upwards.
fn by_tier(class: &str, group: Group) -> Vec<Group> {
    let rank = |name: &str| TIERS.iter().position(|tier| *tier == name);
    let wanted = rank(class).unwrap_or(0);
    grouped(group, |runner| match runner.offer.listing.tier().and_then(rank) {
        Some(has) => (has.abs_diff(wanted), has),
        None => (usize::MAX, 0),
    })
}

fn singles(group: Group) -> Vec<Group> {
    group.into_iter().map(|runner| vec![runner]).collect()
}

/// Groups of the same key, the least first; the order within stays.
fn grouped<K: Ord>(group: Group, key: impl Fn(&Runner) -> K) -> Vec<Group> {
    let mut keyed: Vec<(K, Runner)> = group.into_iter().map(|runner| (key(&runner), runner)).collect();
    keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    equals(keyed)
}

/// The least number first, unknown ones last.
fn sorted(group: Group, by: &str, number: impl Fn(&Runner) -> Option<f64>) -> Vec<Group> {
    let keyed = group.into_iter().map(|mut runner| {
        let score = number(&runner);
        runner.by(by, score);
        (score.unwrap_or(f64::INFINITY), runner)
    });
    let mut keyed: Vec<(f64, Runner)> = keyed.collect();
    keyed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    equals(keyed)
}

/// Neighbours of the same key together.
fn equals<K: PartialEq>(keyed: Vec<(K, Runner)>) -> Vec<Group> {
    let mut groups: Vec<(K, Group)> = Vec::new();
    for (key, runner) in keyed {
        match groups.last_mut() {
            Some((last, group)) if *last == key => group.push(runner),
            _ => groups.push((key, vec![runner])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn shuffled(mut group: Group, dice: &Dice) -> Group {
    let mut drawn = Vec::with_capacity(group.len());
    while group.len() > 1 {
        let place = pick(group.iter().map(Runner::share), dice).unwrap_or(0);
        drawn.push(group.remove(place));
    }
    drawn.append(&mut group);
    drawn
}
