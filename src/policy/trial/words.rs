//! The words of tests: `mock`, the hooks, and assertions that say both values.

use std::sync::Arc;

use rhai::{Dynamic, Engine, EvalAltResult, Map, NativeCallContext};

use super::ruling::{self, Ruling};
use super::stage::Stage;
use crate::policy::request::{Outcome, Request, fault};
use crate::policy::suggest::hint;
use crate::policy::verdict;

/// Every word, for "did you mean".
const WORDS: [&str; 9] = [
    "mock",
    "assert",
    "assert_eq",
    "assert_ne",
    "assert_rejected",
    "on_request",
    "on_error",
    "on_response",
    "on_complete",
];

/// Makes the words known to the engine of a test file.
pub(super) fn register(engine: &mut Engine, stage: &Arc<Stage>) {
    let on = || Arc::clone(stage);
    let stage = on();
    engine.register_fn("mock", move |fields: Map| stage.mock(fields));
    let stage = on();
    engine.register_fn("on_request", move |request: Request| stage.on_request(&request));
    let stage = on();
    engine.register_fn("on_error", move |request: Request, failed: Map| stage.on_error(&request, failed));
    let stage = on();
    engine
        .register_fn("on_response", move |request: Request, answer: Map| stage.on_response(&request, answer));
    let stage = on();
    engine.register_fn("on_complete", move |request: Request, over: Map| stage.on_complete(&request, over));

    engine.register_fn("assert", |truth: bool| check(truth, || "assert: this is false".into()));
    engine.register_fn("assert", |truth: bool, why: &str| check(truth, || format!("assert: {why}")));
    engine.register_fn("assert_eq", |context: NativeCallContext<'_>, found: Dynamic, expected: Dynamic| {
        let same = equal(&context, &found, &expected);
        check(same, || format!("assert_eq: expected {}, found {}", shown(&expected), shown(&found)))
    });
    engine.register_fn("assert_ne", |context: NativeCallContext<'_>, found: Dynamic, other: Dynamic| {
        let same = equal(&context, &found, &other);
        check(!same, || format!("assert_ne: expected something other than {}", shown(&other)))
    });
    engine.register_fn("assert_rejected", |said: Dynamic, code: &str| {
        let found = ruling_of(&said);
        let is_so = found.as_ref().and_then(|it| it.reject()).is_some_and(|reject| *reject.code == *code);
        check(is_so, || {
            format!("assert_rejected: expected a rejection with the code {code:?}, found {}", shown(&said))
        })
    });
    ruling::register(engine);
    engine.register_get("required", |request: &mut Request| constraints(request, Ruling::required));
    engine.register_get("avoided", |request: &mut Request| constraints(request, Ruling::avoided));
}

/// An error of the language in the words of tests: what was probably meant.
pub(super) fn legible(message: String) -> String {
    let name_of = |rest: &str, end: char| rest.split(end).next().unwrap_or_default().to_owned();
    if let Some(rest) = message.strip_prefix("no function `")
        && !message.contains("did you mean")
    {
        let name = name_of(rest, ' ');
        return format!("{message}{}", hint(&name, WORDS.into_iter()));
    }
    if let Some(rest) = message.strip_prefix("property `")
        && message.contains("` of `()`")
    {
        let name = name_of(rest, '`');
        return format!("`{name}` of nothing: the policy has no opinion on this request");
    }
    if let Some(rest) = message.strip_prefix("unknown property `") {
        let name = name_of(rest, '`');
        if message.ends_with("`Ruling`") {
            let known: Vec<_> = ruling::properties().collect();
            return format!(
                "unknown property `{name}` of a ruling{}; known are {}",
                hint(&name, ruling::properties()),
                known.join(", ")
            );
        }
    }
    message
}

fn check(holds: bool, problem: impl FnOnce() -> String) -> Result<(), Box<EvalAltResult>> {
    if holds { Ok(()) } else { Err(fault(problem())) }
}

/// As the language compares; of verdicts, whether the first does what the second says.
fn equal(context: &NativeCallContext<'_>, a: &Dynamic, b: &Dynamic) -> bool {
    if let (Some(a), Some(b)) = (ruling_of(a), ruling_of(b)) {
        return a.does(&b);
    }
    if a.is_unit() || b.is_unit() {
        return a.is_unit() && b.is_unit();
    }
    let same: Outcome<bool> = context.call_native_fn("==", (a.clone(), b.clone()));
    same.unwrap_or(false)
}

fn shown(value: &Dynamic) -> String {
    match ruling_of(value) {
        Some(ruling) => ruling.written(),
        None if value.is_unit() => "()".into(),
        None => format!("{value:?}"),
    }
}

fn ruling_of(value: &Dynamic) -> Option<Ruling> {
    let route = || value.clone().try_cast::<verdict::Route>().map(Ruling::from);
    let rejection = || value.clone().try_cast::<verdict::Rejection>().map(Ruling::from);
    value.clone().try_cast::<Ruling>().or_else(route).or_else(rejection)
}

fn constraints(request: &Request, which: fn(&Ruling) -> Vec<String>) -> Dynamic {
    let wishes = request.wishes();
    let decision = crate::plan::Decision {
        require: wishes.require.clone(),
        avoid: wishes.avoid.clone(),
        ..crate::plan::Decision::default()
    };
    Dynamic::from_array(which(&Ruling::of(decision)).into_iter().map(Dynamic::from).collect())
}
