//! What a policy returns: a route that is built step by step, or a rejection.

use std::sync::Arc;
use std::time::Duration;

use rhai::{Array, Dynamic, ImmutableString, Map};

use super::request::{Outcome, Pair, fault, kind, label};
use crate::plan::{self, Reject, Step};

/// More tries at one target are never useful.
const MOST_RETRIES: i64 = 10;

/// A route in the making: `route("a").then("b").timeout("20s")`.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) plan: plan::Route,
    /// Tags that the request gets when this route is taken.
    pub(super) tags: Vec<Pair>,
}

/// `reject(status, code, message)`.
#[derive(Debug, Clone)]
pub(super) struct Rejection {
    pub(super) reject: Reject,
    pub(super) name: Option<Arc<str>>,
    pub(super) tags: Vec<Pair>,
}

impl Route {
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

    fn of(step: Step) -> Self {
        Self { plan: plan::Route { steps: vec![step], ..plan::Route::default() }, tags: Vec::new() }
    }

    /// `.then("target")` or `.then(split(…))`. Of a route that is appended, settings fill what this one leaves open.
    pub(super) fn then(mut self, next: Dynamic) -> Outcome<Self> {
        let next = match next.clone().try_cast::<Self>() {
            Some(route) => route,
            None if next.is_string() => Self::to(&next)?,
            None => {
                let given = kind(&next);
                return Err(fault(format!("then: expected a target, an alias or split(…), not {given}")));
            }
        };
        self.plan.steps.extend(next.plan.steps);
        self.plan.timeout = self.plan.timeout.or(next.plan.timeout);
        self.plan.first_token = self.plan.first_token.or(next.plan.first_token);
        self.plan.retries = self.plan.retries.or(next.plan.retries);
        self.plan.name = self.plan.name.or(next.plan.name);
        self.tags.extend(next.tags);
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
        let number =
            status.as_int().ok().and_then(|n| u16::try_from(n).ok()).filter(|n| (400..600).contains(n));
        let problem = || fault(format!("reject: '{status}' is not an HTTP status from 400 to 599"));
        let status = number.ok_or_else(problem)?;
        let reject = Reject { status, code: text("code", code)?, message: text("message", message)? };
        Ok(Self { reject, name: None, tags: Vec::new() })
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

/// A duration as policies write it.
pub(super) fn duration(text: &str) -> Option<Duration> {
    text.parse::<crate::settings::Period>().ok().map(|period| period.0).filter(|period| !period.is_zero())
}

fn period(function: &str, given: &Dynamic) -> Outcome<Duration> {
    let found = given.as_immutable_string_ref().ok().and_then(|text| duration(&text));
    found.ok_or_else(|| fault(not_a_duration(function, &given.to_string())))
}

pub(super) fn not_a_duration(function: &str, given: &str) -> String {
    format!("{function}: '{given}' is not a duration (try \"20s\" or \"800ms\")")
}

fn name(function: &str, target: &Dynamic) -> Outcome<Arc<str>> {
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
