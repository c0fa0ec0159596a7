//! Verdicts, and what can be added to them.

use rhai::{Dynamic, ImmutableString, NativeCallContext};

use super::{Kind, Row, Sheet, row};
use crate::plan::By;
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
        "Draws one of several targets for each request, among those that constraints, the key and what the request needs leave: `split([\"a\", \"b\"])` by equal, `split(#{ \"a\": 70, \"b\": 30 })` by given weights. When it fails, the others are asked only where `.then` names them; the same target is not asked twice.",
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
    row(
        "race(targets: list) → Route",
        "Asks several targets at once, at most 8, and takes the first that answers: of streams, the one whose first content comes first. The others end at once. Of an alias, its first target is asked. What follows by `.then(..)` is tried when all have failed.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, targets: Dynamic| {
                Ok(Route::together(By::Race, &targets, None)?.at(&context)) as Outcome<Route>
            });
        },
    ),
    row(
        "vote(targets: list) → Route",
        "Asks several targets at once, at most 8, and takes what most of them answer: texts are compared without case, space and punctuation at their ends, JSON by its value; of a tie, the first named wins. Each answer is paid for. A stream takes the first target that answers.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, targets: Dynamic| {
                Ok(Route::together(By::Vote, &targets, None)?.at(&context)) as Outcome<Route>
            });
        },
    ),
    row(
        "best_of(targets: list, judge) → Route",
        "Like `vote`; a judge, another target, reads the question and all answers, and chooses.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, targets: Dynamic, judge: Dynamic| {
                Ok(Route::together(By::Best, &targets, Some(&judge))?.at(&context)) as Outcome<Route>
            });
        },
    ),
    row(
        "merged(targets: list, judge) → Route",
        "Like `best_of`; the judge writes one answer of all.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, targets: Dynamic, judge: Dynamic| {
                Ok(Route::together(By::Merge, &targets, Some(&judge))?.at(&context)) as Outcome<Route>
            });
        },
    ),
    row(
        "route.then(next) → Route",
        "What is tried when everything before failed: a target, an alias or `split(..)`; targets that are asked together only begin a route. A stream falls back only before its first content.",
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
    row(
        "route.hedge_after(late) → Route",
        "Of a whole answer: asks the next target too when the first has not answered after so long (`300`, `\"300ms\"`, `\"p95\"` of its own latency, or `\"0s\"` for both at once), and takes whichever answers first; the other one ends at once. At most 5 % of such requests are sent twice, and none while the first target has become slow as a whole.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, late: Dynamic| route.hedge_after(&late));
        },
    ),
    row(
        "route.hedge_after(late, share: number) → Route",
        "At most so many percent of such requests are sent twice.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, late: Dynamic, share: Dynamic| {
                route.hedge_after(&late)?.hedge_share(&share)
            });
        },
    ),
    row(
        "route.standby_after(late) → Route",
        "Of a stream: asks the next target too when the first has sent no content after so long (`800`, `\"800ms\"`, or `\"p95\"` of its own), and takes whichever begins first.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, late: Dynamic| route.standby_after(&late));
        },
    ),
    row(
        "route.retries(n: number) → Route",
        "Further tries at the same target before the next one, 0 to 10.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, tries: Dynamic| route.retries(&tries));
        },
    ),
    row(
        "route.priority(word: text) → Route",
        "Its place among those who wait for a busy target, instead of its key's: `\"low\"`, `\"normal\"` or `\"high\"`.",
        |engine, name, _| {
            engine.register_fn(name, |route: Route, word: ImmutableString| route.priority(&word));
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
        "Of `split(..)`: the same id always draws the same target, in every process; when the weights change, as few ids move as must. Where constraints, the key or what the request needs keep an id from its target, it always gets the same other one, and nobody else moves. `()` means the client: its key, else its user, session or address.",
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
