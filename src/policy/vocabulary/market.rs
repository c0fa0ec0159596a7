//! Candidates with their numbers, and what makes one of them the best.

use std::sync::Arc;

use rhai::{Dynamic, FnPtr, NativeCallContext};

use super::{Kind, Row, Sheet, row};
use crate::policy::candidate::{Candidate, Candidates, Cost, Delay, Labels, Left, decimal};
use crate::policy::engine::Host;
use crate::policy::ranking;
use crate::policy::request::{Outcome, Request, fault, kind, request_of};
use crate::policy::tables::nothing_without_a_key;
use crate::policy::verdict::Route;

pub(super) const SHEET: Sheet = Sheet { kinds: KINDS, rows: ROWS };

const KINDS: &[Kind] = &[
    Kind {
        name: "Target",
        receiver: "target",
        noun: "a target",
        title: "What a target knows (`target(\"openai/gpt-5\")`, or one of `candidates()`)",
        open: false,
        register: |engine| {
            engine
                .register_type_with_name::<Candidate>("Target")
                .register_type_with_name::<Labels>("Labels")
                .register_indexer_get(Labels::entry)
                .register_fn("contains", Labels::has);
            nothing_without_a_key::<Labels>(engine);
        },
    },
    Kind {
        name: "Candidates",
        receiver: "candidates",
        noun: "candidates",
        title: "What can be done with candidates",
        open: false,
        register: |engine| {
            engine
                .register_type_with_name::<Candidates>("Candidates")
                .register_iterator::<Candidates>()
                .register_indexer_get(|all: &mut Candidates, place: i64| {
                    let place = usize::try_from(place).ok();
                    let found = place.and_then(|place| all.kept.get(place)).cloned();
                    found.map_or(Dynamic::UNIT, Dynamic::from)
                });
        },
    },
    Kind {
        name: "Price",
        receiver: "price",
        noun: "a price",
        title: "A price",
        open: false,
        register: |engine| {
            engine.register_type_with_name::<Cost>("Price");
        },
    },
    Kind {
        name: "Latency",
        receiver: "latency",
        noun: "a latency",
        title: "How long something takes",
        open: false,
        register: |engine| {
            engine.register_type_with_name::<Delay>("Latency");
        },
    },
    Kind {
        name: "Quota",
        receiver: "quota",
        noun: "a quota",
        title: "What a provider still lets through",
        open: false,
        register: |engine| {
            engine.register_type_with_name::<Left>("Quota");
        },
    },
];

macro_rules! getter {
    ($signature:literal, $getter:expr, $doc:literal) => {
        row($signature, $doc, |engine, name, _| {
            engine.register_get(name, $getter);
        })
    };
}

/// A number of the moment, or `()`.
macro_rules! live {
    ($signature:literal, |$live:ident| $number:expr, $doc:literal) => {
        getter!(
            $signature,
            |target: &mut Candidate| {
                let $live = &target.offer().live;
                decimal($number)
            },
            $doc
        )
    };
}

macro_rules! window {
    ($signature:literal, $field:ident, $doc:literal) => {
        getter!(
            $signature,
            |target: &mut Candidate| {
                let tokens = target.offer().listing.$field.and_then(|tokens| i64::try_from(tokens).ok());
                tokens.map_or(Dynamic::UNIT, Dynamic::from)
            },
            $doc
        )
    };
}

const ROWS: &[Row] = &[
    row(
        "candidates() → Candidates",
        "Every target that the configuration names, with its numbers of this moment.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>| {
                let request = request_of("candidates", &context)?;
                let offers = request.facts().market.all();
                let kept = offers.into_iter().map(|offer| Candidate::new(&request, offer)).collect();
                Ok(Candidates { kept, left_out: Vec::new() }) as Outcome<Candidates>
            });
        },
    ),
    row(
        "candidates(of) → Candidates",
        "The targets behind an alias of `models:`, fallbacks too, or behind a list of aliases and targets.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: NativeCallContext<'_>, of: Dynamic| {
                Candidates::named("candidates", &request_of("candidates", &context)?, &host.names, &of)
            });
        },
    ),
    row(
        "target(name: text) → Target or ()",
        "A target (`\"openai/gpt-5\"`) with its numbers, or the first one of an alias; `()` where there is none.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: NativeCallContext<'_>, named: Dynamic| {
                let request = request_of("target", &context)?;
                Ok(one("target", &request, &host, &named)?.map_or(Dynamic::UNIT, Dynamic::from))
                    as Outcome<Dynamic>
            });
        },
    ),
    row(
        "cost(req: Request, target) → decimal or ()",
        "Dollars that the request is estimated to cost at a target (or the first one of an alias): the prompt's tokens, and as many of the answer as the client allows, else 512.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |request: Request, target: Dynamic| {
                let found = one("cost", &request, &host, &target)?;
                Ok(decimal(found.and_then(|target| target.price_of_request()))) as Outcome<Dynamic>
            });
        },
    ),
    row(
        "health(target) → decimal",
        "How a target fares: 0 while it is out of service, else the share of attempts that did not fail; 1 where nothing is known.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: NativeCallContext<'_>, target: Dynamic| {
                let request = request_of("health", &context)?;
                Ok(one("health", &request, &host, &target)?.map_or(1.0, |target| target.health()))
                    as Outcome<f64>
            });
        },
    ),
    row(
        "cheapest(from) → Route",
        "The target where this request costs least, and then the others in order, as a route. `from` is an alias, a list of aliases and targets, or `candidates(…)`. Left out is what cannot serve the request (context window, tools, images, …); what is unhealthy comes last; a target without a price never wins.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: NativeCallContext<'_>, from: Dynamic| {
                let (request, from) = pool("cheapest", &context, &host, &from)?;
                Ok(ranking::cheapest(&request, from).at(&context)) as Outcome<Route>
            });
        },
    ),
    row(
        "fastest(from) → Route",
        "Like `cheapest`, by the median of the time to a whole answer.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: NativeCallContext<'_>, from: Dynamic| {
                let (request, from) = pool("fastest", &context, &host, &from)?;
                Ok(ranking::fastest(&request, from, "p50")?.at(&context)) as Outcome<Route>
            });
        },
    ),
    row(
        "fastest(from, by: text) → Route",
        "By `\"p50\"`, `\"p95\"` or `\"p99\"` of the time to a whole answer, or by `\"first_token\"` (its median), `\"first_token_p95\"` or `\"first_token_p99\"`.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: NativeCallContext<'_>, from: Dynamic, by: &str| {
                let (request, from) = pool("fastest", &context, &host, &from)?;
                Ok(ranking::fastest(&request, from, by)?.at(&context)) as Outcome<Route>
            });
        },
    ),
    row(
        "least_busy(from) → Route",
        "Like `cheapest`, by the requests under way at each target, through whichever alias they came.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: NativeCallContext<'_>, from: Dynamic| {
                let (request, from) = pool("least_busy", &context, &host, &from)?;
                Ok(ranking::least_busy(&request, from).at(&context)) as Outcome<Route>
            });
        },
    ),
    row(
        "rank_by(from, weights: map) → Route",
        "Like `cheapest`, by several numbers: `#{ cost: 0.5, latency: 0.3, errors: 0.2 }`. Each is stretched from 0 (the best of these) to 1 (the worst); what is known of none of them does not count. There are `cost`, `latency` (the median), `p50`, `p95`, `p99`, `first_token`, `first_token_p95`, `first_token_p99`, `errors`, `slowness` (of the stream), `busy` (requests under way), `load` (recent latency times those), `quality`.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(
                name,
                move |context: NativeCallContext<'_>, from: Dynamic, weights: Dynamic| {
                    let (request, from) = pool("rank_by", &context, &host, &from)?;
                    Ok(ranking::rank_by(&request, from, &weights)?.at(&context)) as Outcome<Route>
                },
            );
        },
    ),
    row(
        "tier(class: text) → Route",
        "The targets of a class, `\"cheap\"`, `\"balanced\"` or `\"premium\"`, the cheapest first: those that the configuration's `data.tiers` lists, else those with the label `tier`, else by price (cheap below $1 per million tokens, three of four of them in the prompt; premium from $5).",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: NativeCallContext<'_>, class: &str| {
                let request = request_of("tier", &context)?;
                Ok(ranking::tier(&request, class, &host.tiers, &host.names)?.at(&context)) as Outcome<Route>
            });
        },
    ),
    getter!("target.name → text", Candidate::name, "`\"openai/gpt-5\"`."),
    getter!("target.provider → text", Candidate::provider, "`\"openai\"`."),
    getter!("target.model → text", Candidate::model, "`\"gpt-5\"`."),
    getter!(
        "target.price → Price",
        Candidate::price,
        "Dollars per million tokens: `target.price.input < 1.0`."
    ),
    getter!(
        "target.cost → decimal or ()",
        |target: &mut Candidate| decimal(target.price_of_request()),
        "Dollars that this request is estimated to cost there."
    ),
    getter!(
        "target.latency → Latency",
        Candidate::latency,
        "Time to a whole answer: `target.latency.p95 < 2_000.0`."
    ),
    getter!("target.first_token → Latency", Candidate::first_token, "Time to the first content."),
    live!(
        "target.tokens_per_second → decimal or ()",
        |live| live.tokens_per_second,
        "Tokens of the answer per second, while it comes."
    ),
    live!(
        "target.error_rate → decimal or ()",
        |live| live.error_rate,
        "Share of attempts that failed lately, 0 to 1."
    ),
    live!("target.in_flight → decimal or ()", |live| live.busy(), "Requests under way there."),
    getter!(
        "target.healthy → true/false",
        |target: &mut Candidate| target.is_well(),
        "Whether it is in service; also where nothing is known."
    ),
    getter!("target.quota → Quota", Candidate::quota, "What the provider still lets through."),
    window!("target.context_window → number or ()", context_window, "Tokens of prompt and answer together."),
    window!("target.max_output → number or ()", max_output, "The most tokens of an answer."),
    row(
        "target.can(ability: text) → true/false",
        "Whether it is known for `\"tools\"`, `\"vision\"`, `\"audio\"`, `\"files\"`, `\"json\"` or `\"reasoning\"`.",
        |engine, name, _| {
            engine.register_fn(name, Candidate::can);
        },
    ),
    getter!("target.region → text or ()", Candidate::region, "Its label `region`."),
    getter!("target.labels[\"zone\"] → text or ()", Candidate::labels, "A label of the configuration."),
    getter!("target.tags → list of text", Candidate::tags, "Its tags: `\"private\" in target.tags`."),
    row(
        "candidates.where(condition) → Candidates",
        "Only those: `\"healthy\"`; `\"fits\"`, whose context window holds the request; `\"able\"`, which can do what it needs; a tag; labels (`#{ region: \"eu\" }`); or a list of these. Why others were left out stands in the decision record.",
        |engine, name, _| {
            engine.register_fn(name, |all: Candidates, condition: Dynamic| all.with(&condition));
        },
    ),
    row(
        "candidates.filter(keeps) → Candidates",
        "Only those for which a function is true: `candidates().filter(|t| t.cost < 0.01)`.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, all: Candidates, keeps: FnPtr| {
                all.filter(&context, &keeps)
            });
        },
    ),
    getter!("candidates.names → list of text", Candidates::names, "Their names, in order."),
    getter!("candidates.first → Target or ()", Candidates::first, "The first one."),
    getter!("candidates.len → number", Candidates::len, "How many."),
    getter!(
        "candidates.is_empty → true/false",
        |all: &mut Candidates| all.kept.is_empty(),
        "Whether there are none."
    ),
    getter!("price.input → decimal or ()", Cost::input, "Dollars per million tokens of the prompt."),
    getter!("price.output → decimal or ()", Cost::output, "Dollars per million tokens of the answer."),
    getter!(
        "latency.p50 → decimal or ()",
        |delay: &mut Delay| decimal(delay.0.p50),
        "Milliseconds that half of the answers took at most."
    ),
    getter!(
        "latency.p95 → decimal or ()",
        |delay: &mut Delay| decimal(delay.0.p95),
        "Exceeded by one in twenty."
    ),
    getter!(
        "latency.p99 → decimal or ()",
        |delay: &mut Delay| decimal(delay.0.p99),
        "Exceeded by one in a hundred."
    ),
    getter!("quota.requests → number or ()", Left::requests, "Requests until its window ends."),
    getter!("quota.tokens → number or ()", Left::tokens, "Tokens until its window ends."),
];

fn pool(
    word: &str,
    context: &NativeCallContext<'_>,
    host: &Host,
    from: &Dynamic,
) -> Outcome<(Request, Candidates)> {
    let request = request_of(word, context)?;
    let from = Candidates::named(word, &request, &host.names, from)?;
    Ok((request, from))
}

/// A target by name, or as it is.
fn one(word: &str, request: &Request, host: &Host, given: &Dynamic) -> Outcome<Option<Candidate>> {
    if let Some(target) = given.read_lock::<Candidate>() {
        return Ok(Some(target.clone()));
    }
    match given.as_immutable_string_ref() {
        Ok(name) => match request.facts().market.behind(&name).into_iter().next() {
            Some(offer) => Ok(Some(Candidate::new(request, offer))),
            None if host.names.knows(&name) => Ok(None),
            None => Err(fault(format!("{word}: {}", host.names.unknown(&name)))),
        },
        Err(_) => Err(fault(format!("{word}: expected a target or an alias as text, not {}", kind(given)))),
    }
}
