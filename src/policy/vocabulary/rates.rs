//! How the limits stand that hold for a request.

use std::sync::Arc;

use rhai::{Dynamic, NativeCallContext};

use super::{Kind, Row, Sheet, row};
use crate::facts::Rated;
use crate::policy::engine::Host;
use crate::policy::request::{Outcome, fault, request_of};

pub(super) const SHEET: Sheet = Sheet { kinds: KINDS, rows: ROWS };

const KINDS: &[Kind] = &[Kind {
    name: "Rate",
    receiver: "rate",
    noun: "a rate",
    title: "How a limit stands (`rate(\"each-user\")`)",
    open: false,
    register: |engine| {
        engine.register_type_with_name::<Standing>("Rate");
    },
}];

/// A limit as scripts see it; `None` where it does not hold for the request.
#[derive(Clone)]
struct Standing(Option<Arc<Rated>>);

impl Standing {
    #[allow(clippy::cast_precision_loss, reason = "a ratio")]
    fn used_ratio(&mut self) -> f64 {
        self.0.as_ref().map_or(0.0, |rated| {
            let used = rated.limit.saturating_sub(rated.remaining);
            used as f64 / rated.limit.max(1) as f64
        })
    }

    fn number(&self, of: impl Fn(&Rated) -> u64) -> Dynamic {
        let number = self.0.as_ref().and_then(|rated| i64::try_from(of(rated)).ok());
        number.map_or(Dynamic::UNIT, Dynamic::from)
    }
}

const ROWS: &[Row] = &[
    row(
        "rate(name: text) → Rate",
        "How a limit of `rate_limits:` stands for this request, which counts already: `if rate(\"each-user\").used_ratio > 0.8 { return route(\"cheap\"); }`. `\"key\"` are the limits in the client's key. Of several rates in a limit, the one that is closest to its end counts.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: NativeCallContext<'_>, limit: &str| {
                standing(&context, &host, limit)
            });
        },
    ),
    row(
        "rate.used_ratio → decimal",
        "From 0 (nothing) to 1 (all of it); 0 where the limit does not hold for the request.",
        |engine, name, _| {
            engine.register_get(name, Standing::used_ratio);
        },
    ),
    row(
        "rate.remaining → number or ()",
        "What is left now; `()` where the limit does not hold for the request.",
        |engine, name, _| {
            engine.register_get(name, |rate: &mut Standing| rate.number(|rated| rated.remaining));
        },
    ),
    row(
        "rate.limit → number or ()",
        "How much it lets through; `()` where the limit does not hold for the request.",
        |engine, name, _| {
            engine.register_get(name, |rate: &mut Standing| rate.number(|rated| rated.limit));
        },
    ),
];

fn standing(context: &NativeCallContext<'_>, host: &Host, name: &str) -> Outcome<Standing> {
    let request = request_of("rate", context)?;
    let left = |rated: &&Rated| rated.remaining.saturating_mul(1_000_000) / rated.limit.max(1);
    let found = request.facts().rates.iter().filter(|rated| *rated.name == *name).min_by_key(left);
    if found.is_none() && name != "key" && !host.names.rate_limits.contains(name) {
        let known: Vec<_> = host.names.rate_limits.iter().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(fault(format!(
            "rate: there is no limit \"{name}\" under `rate_limits:`; there are {known}"
        )));
    }
    Ok(Standing(found.cloned().map(Arc::new)))
}
