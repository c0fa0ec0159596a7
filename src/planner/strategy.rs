//! A strategy: steps that put the targets of an alias in order, each refining what the steps before left equal.

mod arrange;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

pub(super) use arrange::{Runner, Scene, health};
pub use settings::{
    CanarySettings, CheapestSettings, ConditionSettings, FastestSettings, PercentileWord, ScoreSettings,
    StepSettings, StickyWord, StrategySettings, StrategyStep, StrategyWord, TierWord, TimeWord,
};

use crate::facts::fit::Need;
use crate::facts::measure::{Measure, TIERS, measure};

/// Steps, and the turn of those who take turns.
#[derive(Debug, Default)]
pub struct Strategy {
    steps: Vec<Step>,
    turn: Arc<AtomicUsize>,
}

/// One step.
#[derive(Debug)]
enum Step {
    Priority,
    Weighted(Option<StickyWord>),
    RoundRobin,
    LeastBusy,
    PowerOfTwo,
    Ranked(Ranked),
    /// `None` where only the client's wish counts.
    Tier(Option<&'static str>),
    Canary {
        to: Arc<str>,
        /// 0 to 1.
        share: f64,
        sticky: Option<StickyWord>,
    },
    Sticky(StickyWord),
    Region(Vec<String>),
    Only(Condition),
    Prefer(Condition),
    /// By class; without a table, by the class as a tag.
    DataClass(Option<BTreeMap<String, Condition>>),
    Can(Vec<Need>),
    SmallestWindow,
}

/// A step that puts targets in the order of their numbers.
#[derive(Debug)]
struct Ranked {
    /// The step's name, for the record.
    by: Arc<str>,
    /// What counts, and how much; the second one for streams.
    measures: [Vec<(Measure, f64)>; 2],
    /// What may not be exceeded.
    bounds: Vec<(Measure, f64)>,
    /// Whether the order depends on what was measured, so that a target without figures should be tried.
    explores: bool,
}

/// What a target must have.
#[derive(Debug)]
struct Condition {
    tags: Vec<String>,
    labels: BTreeMap<String, String>,
}

impl Strategy {
    /// The strategy that is written so.
    ///
    /// # Errors
    /// What is wrong, with the path to it below the strategy.
    pub fn of(settings: &StrategySettings) -> Result<Self, (Vec<String>, String)> {
        let listed = matches!(settings, StrategySettings::Steps(_));
        let mut steps = Vec::new();
        for (place, written) in settings.steps().iter().enumerate() {
            let step = Step::of(written).map_err(|(field, message)| {
                let place = listed.then(|| place.to_string());
                (place.into_iter().chain(field).collect::<Vec<_>>(), message)
            })?;
            steps.push(step);
        }
        if steps.is_empty() {
            return Err((Vec::new(), "a strategy has at least one step".into()));
        }
        Ok(Self { steps, turn: Arc::default() })
    }

    /// The strategy of these words; words that do not exist are passed over.
    pub(super) fn of_words(words: &[Arc<str>], turn: &Arc<AtomicUsize>) -> Self {
        let words = words.iter().filter_map(|word| StrategyWord::named(word));
        Self { steps: words.map(Step::of_word).collect(), turn: turn.clone() }
    }

    /// Only what the client wishes to spend.
    pub(super) fn by_tier() -> Self {
        Self { steps: vec![Step::Tier(None)], turn: Arc::default() }
    }

    /// The target of a canary, which must be one of the alias's.
    pub fn canaries(settings: &StrategySettings) -> Vec<String> {
        let canary = |step: StrategyStep| match step {
            StrategyStep::Step(step) => step.canary.map(|canary| canary.to),
            StrategyStep::Word(_) => None,
        };
        settings.steps().into_iter().filter_map(canary).collect()
    }
}

type Wrong = (Vec<String>, String);

impl Step {
    fn of(written: &StrategyStep) -> Result<Self, Wrong> {
        let settings = match written {
            StrategyStep::Word(word) => return Ok(Self::of_word(*word)),
            StrategyStep::Step(settings) => (**settings).clone(),
        };
        let StepSettings { weighted, fastest, cheapest, score, tier, canary, sticky, .. } = settings;
        let StepSettings { region, only, prefer, data_class, can, .. } = settings;
        let wrong = |field: &str, message: String| -> Wrong { (vec![field.into()], message) };
        let mut steps: Vec<(&str, Result<Self, Wrong>)> = Vec::new();
        let mut add = |name: &'static str, step: Option<Result<Self, Wrong>>| {
            steps.extend(step.map(|step| (name, step)));
        };
        add("weighted", weighted.map(|settings| Ok(Self::Weighted(settings.sticky))));
        add("fastest", fastest.map(|settings| Ok(Self::Ranked(Ranked::fastest(&settings)))));
        add("cheapest", cheapest.map(|settings| Ranked::cheapest(&settings).map(Self::Ranked)));
        add("score", score.map(|settings| Ranked::score(&settings).map(Self::Ranked)));
        add("tier", tier.map(|word| Ok(Self::Tier(TIERS.into_iter().find(|class| *class == word.as_str())))));
        add("canary", canary.map(|settings| canary_of(&settings)));
        add("sticky", sticky.map(|word| Ok(Self::Sticky(word))));
        add("region", region.map(|regions| Ok(Self::Region(regions.all().to_vec()))));
        add("only", only.map(|condition| Ok(Self::Only(condition.into()))));
        add("prefer", prefer.map(|condition| Ok(Self::Prefer(condition.into()))));
        let classes = |classes: BTreeMap<String, ConditionSettings>| {
            Self::DataClass(Some(classes.into_iter().map(|(class, what)| (class, what.into())).collect()))
        };
        add("data_class", data_class.map(|written| Ok(classes(written))));
        add("can", can.map(|words| needs(words.all()).map_err(|message| wrong("can", message))));
        match (steps.pop(), steps.last()) {
            (Some((_, step)), None) => step,
            (Some((one, _)), Some((other, _))) => Err(wrong(
                one,
                format!(
                    "`{other}` and `{one}` in one step: write a list, such as `[ {{ {other}: … }}, {{ {one}: … }} ]`"
                ),
            )),
            (None, _) => Err((Vec::new(), "a step of a strategy needs a word, such as `least_busy`".into())),
        }
    }

    fn of_word(word: StrategyWord) -> Self {
        match word {
            StrategyWord::Priority => Self::Priority,
            StrategyWord::Weighted => Self::Weighted(None),
            StrategyWord::RoundRobin => Self::RoundRobin,
            StrategyWord::LeastBusy => Self::LeastBusy,
            StrategyWord::PowerOfTwo => Self::PowerOfTwo,
            StrategyWord::Fastest => Self::Ranked(Ranked::fastest(&FastestSettings::default())),
            StrategyWord::Cheapest => Self::Ranked(Ranked::by("cheapest", &[("cost", 1.0)])),
            StrategyWord::Score => {
                Self::Ranked(Ranked::by("score", &[("latency", 1.0), ("cost", 1.0), ("quality", 1.0)]))
            }
            StrategyWord::Tier => Self::Tier(None),
            StrategyWord::Sticky => Self::Sticky(StickyWord::Caller),
            StrategyWord::DataClass => Self::DataClass(None),
            StrategyWord::SmallestWindow => Self::SmallestWindow,
        }
    }
}

impl Ranked {
    fn by(name: &str, weights: &[(&str, f64)]) -> Self {
        let measures: Vec<_> =
            weights.iter().filter_map(|(name, weight)| Some((measure(name)?, *weight))).collect();
        let live = weights.iter().any(|(name, _)| !["cost", "quality", "busy"].contains(name));
        Self { by: name.into(), measures: [measures.clone(), measures], bounds: Vec::new(), explores: live }
    }

    fn fastest(settings: &FastestSettings) -> Self {
        let at = settings.at.as_str();
        let total = [(measure_or_cost(at), 1.0)].to_vec();
        let first = [(measure_or_cost(&first_token(settings.at)), 1.0)].to_vec();
        let (by, measures) = match settings.by {
            Some(TimeWord::Total) => ("total", [total.clone(), total]),
            Some(TimeWord::FirstToken) => ("first_token", [first.clone(), first]),
            None => ("time", [total, first]),
        };
        let by = format!("fastest {by} {at}").into();
        Self { by, measures, bounds: Vec::new(), explores: true }
    }

    fn cheapest(settings: &CheapestSettings) -> Result<Self, Wrong> {
        let mut ranked = Self::by("cheapest", &[("cost", 1.0)]);
        let ms = |period: crate::settings::Period| period.0.as_secs_f64() * 1e3;
        let share = |field: &str, value: Option<f64>| match value {
            Some(share) if !(0.0..=1.0).contains(&share) => Err((
                vec!["cheapest".to_owned(), field.to_owned()],
                format!("`{share}` is not between 0 and 1"),
            )),
            other => Ok(other),
        };
        let quality = share("quality", settings.quality)?.map(|least| 1.0 - least);
        let bounds = [
            (settings.at.as_str().to_owned(), settings.latency.map(ms)),
            (first_token(settings.at), settings.first_token.map(ms)),
            ("quality".to_owned(), quality),
            ("errors".to_owned(), share("errors", settings.errors)?),
        ];
        let written = bounds.iter().filter_map(|(name, most)| Some((measure(name)?, (*most)?)));
        ranked.bounds = written.collect();
        Ok(ranked)
    }

    fn score(settings: &ScoreSettings) -> Result<Self, Wrong> {
        let ScoreSettings { latency, first_token, cost, quality, errors, busy } = *settings;
        let weights = [
            ("latency", latency),
            ("first_token", first_token),
            ("cost", cost),
            ("quality", quality),
            ("errors", errors),
            ("busy", busy),
        ];
        if let Some((name, weight)) = weights.iter().find(|(_, weight)| !weight.is_finite() || *weight < 0.0)
        {
            let path = vec!["score".to_owned(), (*name).to_owned()];
            return Err((path, format!("`{weight}` is not a weight: 0 or more, please")));
        }
        let written: Vec<_> = weights.into_iter().filter(|(_, weight)| *weight > 0.0).collect();
        if written.is_empty() {
            return Err((
                vec!["score".into()],
                "`score` weighs nothing: try `{ latency: 0.5, cost: 0.5 }`".into(),
            ));
        }
        let by: Vec<_> = written.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
        Ok(Self::by(&format!("score {}", by.join(", ")), &written))
    }
}

fn first_token(at: PercentileWord) -> String {
    match at {
        PercentileWord::P50 => "first_token".into(),
        other => format!("first_token_{}", other.as_str()),
    }
}

/// A measure whose name stands in this file.
fn measure_or_cost(name: &str) -> Measure {
    measure(name).unwrap_or(|rated| rated.cost())
}

fn canary_of(settings: &CanarySettings) -> Result<Step, Wrong> {
    if !(0.0..=100.0).contains(&settings.share) {
        let path = vec!["canary".into(), "share".into()];
        return Err((path, format!("`{}` is not a share: 0 to 100 percent, please", settings.share)));
    }
    let (to, share) = (settings.to.as_str().into(), settings.share / 100.0);
    Ok(Step::Canary { to, share, sticky: settings.sticky })
}

fn needs(words: &[String]) -> Result<Step, String> {
    let need = |word: &String| {
        let known = || Need::ALL.map(|(name, _)| format!("`{name}`")).join(", ");
        Need::named(word).ok_or_else(|| format!("`{word}` is not one of {}", known()))
    };
    words.iter().map(need).collect::<Result<_, _>>().map(Step::Can)
}

impl From<ConditionSettings> for Condition {
    fn from(written: ConditionSettings) -> Self {
        let (tags, labels) = match written {
            ConditionSettings::Tag(tag) => (vec![tag], BTreeMap::new()),
            ConditionSettings::Tags(tags) => (tags, BTreeMap::new()),
            ConditionSettings::Labels(labels) => (Vec::new(), labels),
        };
        Self { tags, labels }
    }
}
