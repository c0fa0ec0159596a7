//! Arguments that stand in the file in so many words: checked at load as they would be while running.

use rhai::{Array, Dynamic, Expr, FnCallExpr, FnPtr, ImmutableString, Map};

use super::Finding;
use crate::plan::By;
use crate::policy::error::failure;
use crate::policy::narrow;
use crate::policy::parameters;
use crate::policy::request::{Outcome, kind};
use crate::policy::series::Metric;
use crate::policy::state;
use crate::policy::verdict::{Reaction, Rejection, Response, Route};
use crate::policy::vocabulary::{Entry, Type};

/// What is wrong with the literals of a call that is written as this word is.
pub(super) fn findings(entry: &Entry, call: &FnCallExpr) -> Vec<Finding> {
    let mut found = Vec::new();
    for (place, (argument, parameter)) in call.args.iter().zip(&entry.parameters).enumerate() {
        let Some(value) = literal(argument) else { continue };
        let first = call.args.first().filter(|_| place > 0).and_then(literal);
        let problem = match refused(entry, place, &value, first.as_ref()) {
            Some(problem) => Some(problem),
            None if takes(parameter.takes, &value) => None,
            None => Some(format!(
                "`{}` is written `{}`: its `{}` cannot be {}",
                entry.name,
                entry.row.signature,
                parameter.name,
                kind(&value)
            )),
        };
        found.extend(problem.map(|problem| (argument.start_position(), problem)));
    }
    found
}

/// The value of a literal; closures are none.
pub(super) fn literal(argument: &Expr) -> Option<Dynamic> {
    argument.get_literal_value(None).filter(|value| !value.is::<FnPtr>())
}

/// Whether a parameter of this type takes the value. Of the gateway's own values there are no literals.
fn takes(wanted: Type, value: &Dynamic) -> bool {
    if wanted.optional && value.is_unit() {
        return true;
    }
    if wanted.list {
        let text = |item: &Dynamic| wanted.word != "text" || item.is::<ImmutableString>();
        return value.read_lock::<Array>().is_some_and(|items| items.iter().all(text));
    }
    match wanted.word {
        "text" => value.is::<ImmutableString>(),
        "number" | "decimal" => value.is_int() || value.is_float(),
        "true/false" => value.is_bool(),
        "list" => value.is::<Array>(),
        "map" => value.is::<Map>(),
        _ => wanted.kind().is_none(),
    }
}

/// Why the word itself refuses the value. `first` is the argument in front of it.
fn refused(entry: &Entry, place: usize, value: &Dynamic, first: Option<&Dynamic>) -> Option<String> {
    let route = || Route::in_order(Vec::new());
    let outcome: Outcome<()> = match (entry.on.map_or("", |kind| kind.name), entry.name, place) {
        ("", "route", 0) => Route::to(value).map(drop),
        ("", "split", 0) => Route::split(value).map(drop),
        ("", "reject", 0) => Rejection::status(value).map(drop),
        ("", "respond", 0) => Response::text(value).map(drop),
        ("", "race", 0) => Route::together(By::Race, value, None).map(drop),
        ("", "vote", 0) => Route::together(By::Vote, value, None).map(drop),
        ("", "best_of", 0) => Route::together(By::Best, value, None).map(drop),
        ("", "merged", 0) => Route::together(By::Merge, value, None).map(drop),
        ("", "retry_after", 0) => Reaction::retry_after(value).map(drop),
        ("", "bucket", 2) => crate::policy::request::shares(value).map(drop),
        ("", "metric", 0) => text(value, |name| Metric::named(name).map(drop)),
        ("Route", "then", 0) => route().then(value.clone()).map(drop),
        ("Route", "timeout", 0) => route().timeout(value).map(drop),
        ("Route", "first_token", 0) => route().first_token(value).map(drop),
        ("Route", "hedge_after", 0) => route().hedge_after(value).map(drop),
        ("Route", "hedge_after", 1) => route().hedge_share(value).map(drop),
        ("Route", "standby_after", 0) => route().standby_after(value).map(drop),
        ("Route", "retries", 0) => route().retries(value).map(drop),
        ("Route", "strategy", 0) => route().strategy(value).map(drop),
        ("Route", "set", 0) => match value.as_immutable_string_ref() {
            Ok(name) => return parameters::problem(&name),
            Err(_) => Ok(()),
        },
        ("Route", "set", 1) => match first.and_then(|name| name.clone().into_immutable_string().ok()) {
            Some(name) => parameters::value(&name, value).map(drop),
            None => Ok(()),
        },
        ("State", "incr", 1) if value.is_float() => {
            return Some("state.incr counts whole things: write a number without a fraction".to_owned());
        }
        ("Request", "cap_output", 0) => narrow::tokens(value).map(drop),
        ("Request", "cache", 0) => text(value, |life| narrow::lasting(life).map(drop)),
        ("State", "set" | "incr", 2) => {
            text(value, |life| state::life(&format!("state.{}", entry.name), life).map(drop))
        }
        _ => Ok(()),
    };
    outcome.err().map(|error| failure(&error).message)
}

/// What is said of a text; of anything else, that it is none is said elsewhere.
fn text(value: &Dynamic, check: impl FnOnce(&str) -> Outcome<()>) -> Outcome<()> {
    value.as_immutable_string_ref().map_or(Ok(()), |text| check(&text))
}
