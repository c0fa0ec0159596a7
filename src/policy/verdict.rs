//! What a policy returns: a route that is built step by step, or a rejection.

use std::sync::Arc;
use std::time::Duration;

use rhai::{Array, Dynamic, ImmutableString, Map, NativeCallContext};

use super::candidate::{Candidate, Candidates};
use super::parameters;
use super::request::{Outcome, Pair, Request, fault, kind, label};
use crate::caller::Priority;
use crate::facts::point::score;
use crate::plan::{self, By, Hedge, Late, Manner, Reject, STRATEGIES, Step, Together};

/// The most targets that are asked at once.
const MOST_TOGETHER: usize = 8;

/// More tries at one target are never useful.
const MOST_RETRIES: i64 = 10;

/// A route in the making: `route("a").then("b").timeout("20s")`.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// Boxed: each word that is added to a route moves it several times.
    pub(super) plan: Box<plan::Route>,
    /// Tags that the request gets when this route is taken.
    pub(super) tags: Vec<Pair>,
    /// Where it was said first.
    pub(super) at: Option<Place>,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u32,
    /// The file, as the engine knows it.
    pub(super) file: Option<ImmutableString>,
}

/// `respond(text)`: the policy answers by itself.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) text: Arc<str>,
    pub(super) name: Option<Arc<str>>,
    pub(super) tags: Vec<Pair>,
    pub(super) at: Option<Place>,
}

/// `next_target()`, `retry_after(ms)`, `fail()`.
#[derive(Debug, Clone)]
pub(super) struct Reaction(pub(super) plan::Reaction);

/// A pause longer than this is none that a client waits for.
const LONGEST_PAUSE_MS: i64 = 60_000;

/// `reject(status, code, message)`.
#[derive(Debug, Clone)]
pub(super) struct Rejection {
    pub(super) reject: Reject,
    pub(super) name: Option<Arc<str>>,
    pub(super) tags: Vec<Pair>,
    pub(super) at: Option<Place>,
}

impl Place {
    /// Where the script calls the function that runs.
    pub(super) fn of(context: &NativeCallContext<'_>) -> Self {
        let (line, _) = super::error::place(context.call_position());
        Self { line, file: context.call_source().map(Into::into) }
    }
}

impl Route {
    /// Said here, unless it was said before.
    pub(super) fn at(mut self, context: &NativeCallContext<'_>) -> Self {
        self.at.get_or_insert_with(|| Place::of(context));
        self
    }

    /// `route("provider/model")`.
    pub(super) fn to(target: &Dynamic) -> Outcome<Self> {
        let step = Step { choices: vec![(name("route", target)?, 1.0)] };
        Ok(Self::of(step))
    }

    /// `split(["a", "b"])` or `split(#{ a: 70, b: 30 })`.
    pub(super) fn split(shares: &Dynamic) -> Outcome<Self> {
        let mut choices = Vec::new();
        if let Some(list) = shares.read_lock::<Array>() {
            for target in list.iter() {
                choices.push((name("split", target)?, 1.0));
            }
        } else if let Some(map) = shares.read_lock::<Map>() {
            for (target, share) in map.iter() {
                choices.push((target.as_str().into(), weight(target, share)?));
            }
        } else {
            let given = kind(shares);
            return Err(fault(format!(
                "split: expected [\"a\", \"b\"] or #{{ \"a\": 70, \"b\": 30 }}, not {given}"
            )));
        }
        if !choices.iter().any(|(_, weight)| *weight > 0.0) {
            return Err(fault("split: no target has a weight above 0"));
        }
        Ok(Self::of(Step { choices }))
    }

    /// A step for each of these, in this order.
    pub(super) fn in_order(targets: Vec<Arc<str>>) -> Self {
        let steps = targets.into_iter().map(|target| Step { choices: vec![(target, 1.0)] }).collect();
        Self::planned(plan::Route { steps, ..plan::Route::default() }, Vec::new())
    }

    /// As somebody else has planned it.
    pub(super) fn planned(plan: plan::Route, tags: Vec<Pair>) -> Self {
        Self { plan: Box::new(plan), tags, at: None }
    }

    fn of(step: Step) -> Self {
        Self::planned(plan::Route { steps: vec![step], ..plan::Route::default() }, Vec::new())
    }

    /// `.then("target")` or `.then(split(…))`. Of a route that is appended, settings fill what this one leaves open.
    pub(super) fn then(mut self, next: Dynamic) -> Outcome<Self> {
        let next = match next.try_cast_result::<Self>() {
            Ok(route) => route,
            // A target and no settings: nothing is to be merged.
            Err(next) if next.is_string() || next.is::<Candidate>() => {
                self.plan.steps.push(Step { choices: vec![(name("then", &next)?, 1.0)] });
                return Ok(self);
            }
            Err(next) => {
                let given = kind(&next);
                return Err(fault(format!("then: expected a target, an alias or split(…), not {given}")));
            }
        };
        let (after, tags) = (*next.plan, next.tags);
        let before = self.plan.steps.len();
        self.plan.sticky.extend(after.sticky.iter().map(|place| before + place));
        self.plan.steps.extend(after.steps);
        self.plan.timeout = self.plan.timeout.or(after.timeout);
        self.plan.first_token = self.plan.first_token.or(after.first_token);
        self.plan.retries = self.plan.retries.or(after.retries);
        self.plan.priority = self.plan.priority.or(after.priority);
        if self.plan.strategy.is_empty() {
            self.plan.strategy = after.strategy;
        }
        // Targets that are asked together stand at the front of a route.
        self.plan.manner.or(&Manner { together: None, ..after.manner });
        self.plan.name = self.plan.name.or(after.name);
        let new = after.set.into_iter().filter(|(name, _)| self.plan.set.iter().all(|(n, _)| n != name));
        self.plan.set.extend(new.collect::<Vec<_>>());
        self.tags.extend(tags);
        Ok(self)
    }

    pub(super) fn timeout(mut self, duration: &Dynamic) -> Outcome<Self> {
        self.plan.timeout = Some(period("timeout", duration)?);
        Ok(self)
    }

    pub(super) fn first_token(mut self, duration: &Dynamic) -> Outcome<Self> {
        self.plan.first_token = Some(period("first_token", duration)?);
        Ok(self)
    }

    pub(super) fn retries(mut self, tries: &Dynamic) -> Outcome<Self> {
        let number = tries.as_int().ok().filter(|n| (0..=MOST_RETRIES).contains(n));
        let number = number.and_then(|n| u32::try_from(n).ok());
        let problem =
            || fault(format!("retries: expected a whole number from 0 to {MOST_RETRIES}, not '{tries}'"));
        self.plan.retries = Some(number.ok_or_else(problem)?);
        Ok(self)
    }

    /// `.priority("low")`.
    pub(super) fn priority(mut self, word: &str) -> Outcome<Self> {
        self.plan.priority = Some(word.parse().map_err(|_| fault(not_a_priority(word)))?);
        Ok(self)
    }

    /// `.set("temperature", 0.2)`; the last value of a parameter counts.
    pub(super) fn set(mut self, parameter: &str, value: &Dynamic) -> Outcome<Self> {
        parameters::problem(parameter).map_or(Ok(()), |problem| Err(fault(problem)))?;
        let value = parameters::value(parameter, value)?;
        self.plan.set.retain(|(name, _)| **name != *parameter);
        self.plan.set.push((parameter.into(), value));
        Ok(self)
    }

    /// Puts every split in the order in which it falls to `id`, by a hash: weighted rendezvous, as versions of models are
    /// drawn. Whom the first one must not serve, the next one does, and nobody else moves.
    pub(super) fn sticky_by(mut self, request: &Request, id: &Dynamic) -> Outcome<Self> {
        let anchor = match id.as_immutable_string_ref() {
            Ok(text) => Some(text.to_string()),
            Err(_) if id.is_unit() => request.facts().caller.anchor(),
            Err(_) => Some(label("sticky_by", id)?.to_string()),
        };
        // Who cannot be told apart from others is drawn by the dice.
        let Some(anchor) = anchor else { return Ok(self) };
        let plan::Route { steps, sticky, .. } = &mut *self.plan;
        for (place, step) in steps.iter_mut().enumerate().filter(|(_, step)| step.choices.len() > 1) {
            // Who was asked first has drawn it.
            if !sticky.contains(&place) {
                let scored =
                    step.choices.drain(..).map(|choice| (score(&anchor, &choice.0, choice.1), choice));
                let mut scored: Vec<_> = scored.collect();
                scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
                step.choices.extend(scored.into_iter().map(|(_, choice)| choice));
                sticky.push(place);
            }
        }
        Ok(self)
    }

    /// `race(["a", "b"])`, `vote(…)`, `best_of(…, judge)`, `merged(…, judge)`.
    pub(super) fn together(by: By, targets: &Dynamic, judge: Option<&Dynamic>) -> Outcome<Self> {
        let word = match by {
            By::Race => "race",
            By::Vote => "vote",
            By::Best => "best_of",
            By::Merge => "merged",
        };
        let names: Vec<Arc<str>> = if let Some(list) = targets.read_lock::<Array>() {
            list.iter().map(|target| name(word, target)).collect::<Outcome<_>>()?
        } else if let Some(candidates) = targets.read_lock::<Candidates>() {
            candidates.kept.iter().map(|target| target.offer().listing.name.clone()).collect()
        } else {
            return Err(fault(format!("{word}: expected a list of targets, not {}", kind(targets))));
        };
        if !(2..=MOST_TOGETHER).contains(&names.len()) {
            return Err(fault(format!("{word}: expected 2 to {MOST_TOGETHER} targets, not {}", names.len())));
        }
        let judge = judge.map(|judge| name(word, judge)).transpose()?;
        let mut route = Self::in_order(names);
        route.plan.manner.together = Some(Together { by, of: route.plan.steps.len(), judge });
        Ok(route)
    }

    /// `.hedge_after(300)`, `.hedge_after("p95")`.
    pub(super) fn hedge_after(mut self, late: &Dynamic) -> Outcome<Self> {
        self.plan.manner.hedge = Some(Hedge::after(lateness("hedge_after", late)?));
        Ok(self)
    }

    pub(super) fn hedge_share(mut self, share: &Dynamic) -> Outcome<Self> {
        #[allow(clippy::cast_precision_loss, reason = "nobody has a share of 2^53 percent")]
        let percent = share.as_float().or_else(|_| share.as_int().map(|whole| whole as f64));
        let percent = percent.ok().filter(|percent| (0.0..=100.0).contains(percent));
        let problem = || fault(format!("hedge_after: '{share}' is not a share: 0 to 100 percent"));
        let share = percent.ok_or_else(problem)? / 100.0;
        self.plan.manner.hedge = self.plan.manner.hedge.map(|hedge| Hedge { share, ..hedge });
        Ok(self)
    }

    /// `.standby_after("800ms")`.
    pub(super) fn standby_after(mut self, late: &Dynamic) -> Outcome<Self> {
        self.plan.manner.standby = Some(lateness("standby_after", late)?);
        Ok(self)
    }

    /// `.strategy("least_busy")` or `.strategy(["tier", "least_busy"])`.
    pub(super) fn strategy(mut self, words: &Dynamic) -> Outcome<Self> {
        let list = words.read_lock::<Array>().map(|list| list.to_vec());
        let list = list.unwrap_or_else(|| vec![words.clone()]);
        self.plan.strategy.clear();
        for word in &list {
            let text = word.as_immutable_string_ref();
            let text = text.map_err(|_| fault(format!("strategy: expected words, not {}", kind(word))))?;
            if !STRATEGIES.contains(&text.as_str()) {
                return Err(fault(not_a_strategy(&text)));
            }
            self.plan.strategy.push(text.as_str().into());
        }
        Ok(self)
    }

    pub(super) fn first(&mut self) -> Dynamic {
        let first = self.plan.steps.first().and_then(|step| step.choices.first());
        first.map_or(Dynamic::UNIT, |(name, _)| ImmutableString::from(&**name).into())
    }

    pub(super) fn targets(&mut self) -> Array {
        let steps = self.plan.fallen();
        let all = steps.iter().flat_map(|step| &step.choices);
        all.map(|(name, _)| ImmutableString::from(&**name).into()).collect()
    }

    pub(super) fn named(mut self, name: &str) -> Self {
        self.plan.name = Some(name.into());
        self
    }

    pub(super) fn tag(mut self, key: &str, value: &Dynamic) -> Outcome<Self> {
        self.tags.push((key.into(), label("tag", value)?));
        Ok(self)
    }
}

impl Rejection {
    pub(super) fn new(status: &Dynamic, code: &Dynamic, message: &Dynamic) -> Outcome<Self> {
        let status = Self::status(status)?;
        let reject = Reject { status, code: text("code", code)?, message: text("message", message)? };
        Ok(Self { reject, name: None, tags: Vec::new(), at: None })
    }

    pub(super) fn status(given: &Dynamic) -> Outcome<u16> {
        let number = given.as_int().ok().and_then(|n| u16::try_from(n).ok());
        let problem = || fault(format!("reject: '{given}' is not an HTTP status from 400 to 599"));
        number.filter(|n| (400..600).contains(n)).ok_or_else(problem)
    }

    /// Said here.
    pub(super) fn at(mut self, context: &NativeCallContext<'_>) -> Self {
        self.at = Some(Place::of(context));
        self
    }

    pub(super) fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    pub(super) fn tag(mut self, key: &str, value: &Dynamic) -> Outcome<Self> {
        self.tags.push((key.into(), label("tag", value)?));
        Ok(self)
    }
}

impl Response {
    pub(super) fn new(given: &Dynamic, context: &NativeCallContext<'_>) -> Outcome<Self> {
        let at = Some(Place::of(context));
        Ok(Self { text: Self::text(given)?, name: None, tags: Vec::new(), at })
    }

    pub(super) fn text(given: &Dynamic) -> Outcome<Arc<str>> {
        let text = given.as_immutable_string_ref();
        let text = text.map_err(|_| fault(format!("respond: expected a text, not {}", kind(given))))?;
        Ok(text.as_str().into())
    }

    pub(super) fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    pub(super) fn tag(mut self, key: &str, value: &Dynamic) -> Outcome<Self> {
        self.tags.push((key.into(), label("tag", value)?));
        Ok(self)
    }
}

impl Reaction {
    /// `retry_after(250)` or `retry_after("2s")`; a time that the provider did not give means at once.
    pub(super) fn retry_after(pause: &Dynamic) -> Outcome<Self> {
        let pause = match pause.as_int() {
            Ok(ms @ 0..=LONGEST_PAUSE_MS) => u64::try_from(ms).ok().map(Duration::from_millis),
            Ok(_) => None,
            Err(_) if pause.is_unit() => Some(Duration::ZERO),
            Err(_) => pause.as_immutable_string_ref().ok().and_then(|text| duration(&text)),
        }
        .filter(|pause| i64::try_from(pause.as_millis()).is_ok_and(|ms| ms <= LONGEST_PAUSE_MS))
        .ok_or_else(|| {
            fault(format!(
                "retry_after: '{pause}' is no pause: write milliseconds from 0 to {LONGEST_PAUSE_MS}, or \"2s\""
            ))
        })?;
        Ok(Self(plan::Reaction::RetryAfter(pause)))
    }
}

/// A duration as policies write it.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let period = || text.parse::<crate::settings::Period>().ok().map(|period| period.0);
    plain_duration(text).or_else(period).filter(|period| !period.is_zero())
}

/// A duration in its plainest form, `20s` or `800ms`: each request reads some.
fn plain_duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.bytes().position(|byte| !byte.is_ascii_digit())?);
    let number: u32 = digits.parse().ok().filter(|_| digits.len() <= PLAIN_DIGITS)?;
    match unit {
        "s" => Some(Duration::from_secs(number.into())),
        "ms" => Some(Duration::from_millis(number.into())),
        _ => None,
    }
}

/// Longer numbers are none that anybody waits for.
const PLAIN_DIGITS: usize = 6;

/// Milliseconds, a duration, or `p95`.
fn lateness(function: &str, given: &Dynamic) -> Outcome<Late> {
    if let Ok(ms @ 0..=LONGEST_PAUSE_MS) = given.as_int() {
        return Ok(Late::After(Duration::from_millis(u64::try_from(ms).unwrap_or(0))));
    }
    let found = given.as_immutable_string_ref().ok().and_then(|text| text.parse().ok());
    found.ok_or_else(|| fault(not_late(function, &given.to_string())))
}

pub(super) fn not_late(function: &str, given: &str) -> String {
    format!("{function}: '{given}' is neither a duration nor \"p95\" (try 300, \"300ms\" or \"p95\")")
}

fn period(function: &str, given: &Dynamic) -> Outcome<Duration> {
    let found = given.as_immutable_string_ref().ok().and_then(|text| duration(&text));
    found.ok_or_else(|| fault(not_a_duration(function, &given.to_string())))
}

pub(super) fn not_a_priority(word: &str) -> String {
    let known = Priority::ALL.map(Priority::word);
    let hint = super::suggest::hint(word, known);
    format!("priority: '{word}' is not a priority{hint}: {}", known.join(", "))
}

pub(super) fn not_a_strategy(word: &str) -> String {
    let hint = super::suggest::hint(word, STRATEGIES);
    format!("strategy: '{word}' is not a strategy{hint}: {}", STRATEGIES.join(", "))
}

pub(super) fn not_a_duration(function: &str, given: &str) -> String {
    format!("{function}: '{given}' is not a duration (try \"20s\" or \"800ms\")")
}

fn name(function: &str, target: &Dynamic) -> Outcome<Arc<str>> {
    if let Some(candidate) = target.read_lock::<Candidate>() {
        return Ok(candidate.offer().listing.name.clone());
    }
    match target.as_immutable_string_ref() {
        Ok(text) if !text.is_empty() => Ok(text.as_str().into()),
        Ok(_) => Err(fault(format!("{function}: the target is an empty text"))),
        Err(_) => Err(fault(format!("{function}: expected a target or alias as text, not {}", kind(target)))),
    }
}

fn weight(target: &str, share: &Dynamic) -> Outcome<f64> {
    #[allow(clippy::cast_precision_loss, reason = "nobody weighs with more than 53 bits")]
    let number = share.as_float().or_else(|_| share.as_int().map(|whole| whole as f64));
    match number {
        Ok(weight) if weight.is_finite() && weight >= 0.0 => Ok(weight),
        _ => Err(fault(format!("split: '{share}' is not a weight for '{target}' (try 70)"))),
    }
}

fn text(what: &str, given: &Dynamic) -> Outcome<Arc<str>> {
    let text: Result<ImmutableString, _> = given.clone().into_immutable_string();
    match text {
        Ok(text) => Ok(text.as_str().into()),
        Err(_) => Err(fault(format!("reject: the {what} is a text, not {}", kind(given)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_durations_are_what_the_settings_make_of_them() {
        for text in [
            "20s",
            "800ms",
            "0s",
            "007s",
            "999999s",
            "1000000s",
            "99999999999s",
            "s",
            "ms",
            "5",
            "",
            "5m",
            "2s 5ms",
            "-1s",
            "1.5s",
            "٣s",
            "3é",
        ] {
            let settings = text.parse::<crate::settings::Period>().ok().map(|period| period.0);
            assert_eq!(duration(text), settings.filter(|period| !period.is_zero()), "{text}");
        }
    }
}
