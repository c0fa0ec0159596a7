//! What policies decided of one request, as tests ask about it.

use std::sync::Arc;

use rhai::{Array, Dynamic, Engine, Map};
use serde_json::Value;

use crate::plan::{Constraint, Decision, Reject, Route, Rule, Verdict};
use crate::policy::verdict;

/// A decision with getters: `plan.first`, `plan.targets`, `plan.rule`.
#[derive(Debug, Clone)]
pub struct Ruling(Arc<Decision>);

/// What can be asked of a ruling.
type Getter = (&'static str, fn(&Ruling) -> Dynamic);

const GETTERS: &[Getter] = &[
    ("verdict", |ruling| ruling.kind().into()),
    ("first", |ruling| ruling.targets().first().map_or(Dynamic::UNIT, |name| (&**name).into())),
    ("targets", |ruling| {
        ruling.targets().iter().map(|name| Dynamic::from(name.to_string())).collect::<Array>().into()
    }),
    ("rule", |ruling| ruling.rule().map_or(Dynamic::UNIT, Dynamic::from)),
    ("name", |ruling| text(ruling.0.rule.as_ref().and_then(|rule| rule.name.as_deref()))),
    ("line", |ruling| {
        let line = ruling.0.rule.as_ref().and_then(|rule| rule.line);
        line.map_or(Dynamic::UNIT, |line| i64::from(line).into())
    }),
    ("timeout", |ruling| ruling.timeout().map_or(Dynamic::UNIT, Dynamic::from)),
    ("first_token", |ruling| {
        let time = ruling.route().and_then(|route| route.first_token);
        time.map_or(Dynamic::UNIT, |time| humantime::format_duration(time).to_string().into())
    }),
    ("retries", |ruling| {
        let tries = ruling.route().and_then(|route| route.retries);
        tries.map_or(Dynamic::UNIT, |tries| i64::from(tries).into())
    }),
    ("priority", |ruling| {
        let priority = ruling.route().and_then(|route| route.priority);
        priority.map_or(Dynamic::UNIT, |priority| priority.word().into())
    }),
    ("status", |ruling| ruling.reject().map_or(Dynamic::UNIT, |reject| i64::from(reject.status).into())),
    ("code", |ruling| text(ruling.reject().map(|reject| &*reject.code))),
    ("message", |ruling| text(ruling.reject().map(|reject| &*reject.message))),
    ("text", |ruling| match &ruling.0.verdict {
        Some(Verdict::Respond(answer)) => (&**answer).into(),
        _ => Dynamic::UNIT,
    }),
    ("tags", |ruling| {
        let tags = ruling.0.tags.iter().map(|(key, value)| ((&**key).into(), (&**value).into()));
        Dynamic::from_map(tags.collect::<Map>())
    }),
    ("required", |ruling| list(ruling.required())),
    ("avoided", |ruling| list(ruling.avoided())),
];

/// Names of what can be asked, for error messages.
pub(super) fn properties() -> impl Iterator<Item = &'static str> {
    GETTERS.iter().map(|(name, _)| *name)
}

/// Makes rulings known to scripts; routes and rejections of a policy's own functions can be asked the same.
pub(super) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Ruling>("Ruling");
    for (name, getter) in GETTERS {
        engine.register_get(*name, |ruling: &mut Ruling| getter(ruling));
        engine.register_get(*name, |route: &mut verdict::Route| getter(&Ruling::from(route.clone())));
        engine.register_get(*name, |reject: &mut verdict::Rejection| getter(&Ruling::from(reject.clone())));
    }
}

impl Ruling {
    /// What was decided.
    pub fn of(decision: Decision) -> Self {
        Self(Arc::new(decision))
    }

    /// The decision itself.
    pub fn decision(&self) -> &Decision {
        &self.0
    }

    /// The names that the policy gave, step by step, first choice first.
    pub fn targets(&self) -> Vec<Arc<str>> {
        let steps = self.route().map(Route::fallen).unwrap_or_default();
        steps.iter().flat_map(|step| step.choices.iter().map(|(name, _)| Arc::clone(name))).collect()
    }

    /// `10-tiers/strong`, as in `x-tollgate-rule`.
    pub fn rule(&self) -> Option<String> {
        self.0.rule.as_ref().map(|rule| match &rule.name {
            Some(name) => format!("{}/{name}", rule.policy),
            None => rule.policy.to_string(),
        })
    }

    /// Every way in which the rule can be written: `10-tiers`, `10-tiers/strong`, `10-tiers:21`.
    pub fn rules(&self) -> Vec<String> {
        let Some(rule) = &self.0.rule else { return vec!["none".into()] };
        let line = rule.line.map(|line| format!("{}:{line}", rule.policy));
        self.rule().into_iter().chain([rule.policy.to_string()]).chain(line).collect()
    }

    /// `10-tiers:21 (strong)`, for people.
    pub fn place(&self) -> Option<String> {
        let Rule { policy, line, name, .. } = self.0.rule.as_ref()?;
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        let name = name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        Some(format!("{policy}{line}{name}"))
    }

    /// A tag as the request has it now: what policies put there before what it brought along.
    pub fn tag(&self, key: &str, brought: &serde_json::Map<String, Value>) -> Option<String> {
        let put = self.0.tags.iter().rev().find(|(other, _)| **other == *key);
        put.map(|(_, value)| value.to_string()).or_else(|| match brought.get(key)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        })
    }

    /// The constraints that hold: `private`, `region=eu`.
    pub fn required(&self) -> Vec<String> {
        self.0.require.iter().map(shown).collect()
    }

    /// What is avoided.
    pub fn avoided(&self) -> Vec<String> {
        self.0.avoid.iter().map(shown).collect()
    }

    /// The deadline of the request, as people write it.
    pub fn timeout(&self) -> Option<String> {
        self.route()?.timeout.map(|time| humantime::format_duration(time).to_string())
    }

    /// The verdict as a policy writes it.
    pub(super) fn written(&self) -> String {
        self.0.verdict.as_ref().map_or_else(|| "()".into(), Verdict::shown)
    }

    /// Whether it does what another one says: the same targets with the same shares, together or in the same order, and of time,
    /// tries and parameters what the other does not leave open.
    pub(super) fn does(&self, wanted: &Self) -> bool {
        match (&self.0.verdict, &wanted.0.verdict) {
            (Some(Verdict::Route(found)), Some(Verdict::Route(wanted))) => {
                shares(found) == shares(wanted)
                    && found.manner.together == wanted.manner.together
                    && is_said(&found.timeout, &wanted.timeout)
                    && is_said(&found.first_token, &wanted.first_token)
                    && is_said(&found.retries, &wanted.retries)
                    && is_said(&found.priority, &wanted.priority)
                    && is_said(&found.manner.hedge, &wanted.manner.hedge)
                    && is_said(&found.manner.standby, &wanted.manner.standby)
                    && (wanted.strategy.is_empty() || found.strategy == wanted.strategy)
                    && wanted.sticky.iter().all(|place| found.sticky.contains(place))
                    && wanted.set.iter().all(|parameter| found.set.contains(parameter))
            }
            (found, wanted) => found == wanted,
        }
    }

    /// The refusal, if it is one.
    pub(super) fn reject(&self) -> Option<&Reject> {
        match &self.0.verdict {
            Some(Verdict::Reject(reject)) => Some(reject),
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match &self.0.verdict {
            None => "none",
            Some(Verdict::Route(_)) => "route",
            Some(Verdict::Reject(_)) => "reject",
            Some(Verdict::Respond(_)) => "respond",
        }
    }

    fn route(&self) -> Option<&Route> {
        match &self.0.verdict {
            Some(Verdict::Route(route)) => Some(route),
            _ => None,
        }
    }
}

impl From<verdict::Route> for Ruling {
    fn from(route: verdict::Route) -> Self {
        Self::of(Decision {
            verdict: Some(Verdict::Route(*route.plan)),
            tags: route.tags,
            ..Decision::default()
        })
    }
}

impl From<verdict::Rejection> for Ruling {
    fn from(it: verdict::Rejection) -> Self {
        Self::of(Decision { verdict: Some(Verdict::Reject(it.reject)), tags: it.tags, ..Decision::default() })
    }
}

/// The targets of each step with their shares of all, so that 1 to 1 is 50 to 50, in the order of their names: callers draw
/// sticky ones in another.
fn shares(route: &Route) -> Vec<Vec<(&str, f64)>> {
    let mut steps = Vec::with_capacity(route.steps.len());
    for step in &route.steps {
        let all: f64 = step.choices.iter().map(|(_, weight)| weight).sum();
        let mut shares: Vec<_> = step.choices.iter().map(|(name, weight)| (&**name, weight / all)).collect();
        shares.sort_by_key(|(name, _)| *name);
        steps.push(shares);
    }
    steps
}

/// Whether what is wanted is found; nothing may be wanted.
fn is_said<T: PartialEq>(found: &Option<T>, wanted: &Option<T>) -> bool {
    wanted.is_none() || found == wanted
}

fn shown(constraint: &Constraint) -> String {
    match constraint {
        Constraint::Tag(word) | Constraint::Name(word) => word.to_string(),
        Constraint::Label(key, value) => format!("{key}={value}"),
    }
}

fn text(text: Option<&str>) -> Dynamic {
    text.map_or(Dynamic::UNIT, Into::into)
}

fn list(items: Vec<String>) -> Dynamic {
    Dynamic::from_array(items.into_iter().map(Dynamic::from).collect())
}
