//! Verdicts, and what can be added to them.

use rhai::{Dynamic, NativeCallContext};

use super::{Kind, Row, Sheet, later, row};
use crate::policy::request::{Outcome, request_of};
use crate::policy::verdict::{Rejection, Route};

pub(super) const SHEET: Sheet = Sheet { kinds: KINDS, rows: ROWS };

const KINDS: &[Kind] = &[
    Kind {
        name: "Route",
        receiver: "route",
        noun: "a route",
        title: "What can be added to a route",
        open: false,
        register: |engine| {
            engine.register_type_with_name::<Route>("Route");
        },
    },
    Kind {
        name: "Rejection",
        receiver: "rejection",
        noun: "a rejection",
        title: "What can be added to a rejection",
        open: false,
        register: |engine| {
            engine.register_type_with_name::<Rejection>("Rejection");
        },
    },
];

const ROWS: &[Row] = &[
    row(
        "route(target) → Route",
        "Sends the request to a target (`\"provider/model\"`), an alias of `models:`, or one of `candidates()`.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, target: Dynamic| {
                Ok(Route::to(&target)?.at(&context)) as Outcome<Route>
            });
        },
    ),
    row(
        "split(shares) → Route",
        "Draws one of several targets for each request: `split([\"a\", \"b\"])` by equal, `split(#{ \"a\": 70, \"b\": 30 })` by given weights.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, shares: Dynamic| {
                Ok(Route::split(&shares)?.at(&context)) as Outcome<Route>
            });
        },
    ),
    row(
        "reject(status: number, code: text, message: text) → Rejection",
        "Refuses the request with this HTTP status (400 to 599), error code and message.",
        |engine, name, _| {
            engine.register_fn(
                name,
                |context: NativeCallContext<'_>, status: Dynamic, code: Dynamic, message: Dynamic| {
                    Ok(Rejection::new(&status, &code, &message)?.at(&context)) as Outcome<Rejection>
                },
            );
        },
    ),
    later(
        "race(targets: list of text) → Route",
        "Asks several targets at once and takes the first that answers.",
        "it comes with hedged requests; until then write `fastest([..])`",
    ),
    later(
        "vote(targets: list of text) → Route",
        "Asks several targets at once and takes what most of them answer.",
        "it comes with hedged requests; until then write `route(…)`",
    ),
    row(
        "route.then(next) → Route",
        "What is tried when everything before failed: a target, an alias or `split(..)`. A stream falls back only before its first content.",
        |engine, name, _| {
            engine.register_fn(name, Route::then);
        },
    ),
    row(
        "route.timeout(duration: text) → Route",
        "Deadline of the whole request with all its attempts, such as `\"20s\"`.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, time: Dynamic| route.timeout(&time));
        },
    ),
    row(
        "route.first_token(duration: text) → Route",
        "Deadline of each attempt at a stream to its first content; then the next target is tried. A whole answer has no first content: `.timeout` bounds it.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, time: Dynamic| route.first_token(&time));
        },
    ),
    later(
        "route.hedge_after(duration: text) → Route",
        "Asks the next target too when the first has said nothing for so long, and takes whichever answers first.",
        "it comes with hedged requests; until then write `.first_token(\"1500ms\").then(…)`",
    ),
    row(
        "route.retries(n: number) → Route",
        "Further tries at the same target before the next one, 0 to 10.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, tries: Dynamic| route.retries(&tries));
        },
    ),
    row(
        "route.set(parameter: text, value) → Route",
        "Changes a parameter of the request for all targets of this route, in whatever dialect they speak: `temperature`, `top_p`, `top_k`, `max_tokens`, `stop`, `seed`, `n`, `presence_penalty`, `frequency_penalty`, `reasoning_effort`, `service_tier`, or any other top-level field of the client's dialect. `()` takes it away.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, parameter: &str, value: Dynamic| {
                route.set(parameter, &value)
            });
        },
    ),
    row(
        "route.sticky_by(id) → Route",
        "Of `split(..)`: the same id always draws the same target, in every process; when the weights change, as few ids move as must. `()` means the client: its key, else its user, session or address.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, route: Route, id: Dynamic| {
                route.sticky_by(&request_of("sticky_by", &context)?, &id)
            });
        },
    ),
    row(
        "route.strategy(words) → Route",
        "Leaves the order of all its targets to a strategy, as `strategy:` of an alias does: `\"priority\"`, `\"weighted\"`, `\"round_robin\"`, `\"least_busy\"`, `\"power_of_two\"`, `\"fastest\"`, `\"cheapest\"`, `\"score\"`, `\"tier\"`, `\"sticky\"`, `\"data_class\"`, `\"smallest_window\"`, or a list of them: each orders what those before left equal.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, words: Dynamic| route.strategy(&words));
        },
    ),
    row(
        "route.named(name: text) → Route",
        "A name for this rule, in `x-tollgate-rule`, log and decision record.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, name: &str| route.named(name));
        },
    ),
    row(
        "route.tag(key: text, value) → Route",
        "Puts a tag on the request if this verdict is the one that counts.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, key: &str, value: Dynamic| route.tag(key, &value));
        },
    ),
    row(
        "route.first → text or ()",
        "Where it goes first; of a split, what is written first.",
        |engine, name, _| {
            engine.register_get(name, Route::first);
        },
    ),
    row("route.targets → list of text", "All that it names, in order.", |engine, name, _| {
        engine.register_get(name, Route::targets);
    }),
    row(
        "rejection.named(name: text) → Rejection",
        "A name for this rule, as of a route.",
        |engine, name, _| {
            engine.register_fn(name, |rejection: Rejection, name: &str| rejection.named(name));
        },
    ),
    row(
        "rejection.tag(key: text, value) → Rejection",
        "Puts a tag on the request if this verdict is the one that counts.",
        |engine, name, _| {
            engine.register_fn(name, |reject: Rejection, key: &str, value: Dynamic| reject.tag(key, &value));
        },
    ),
];
