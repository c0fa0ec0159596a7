//! The words of the later hooks, of plugins, of kept state and of metrics.

use rhai::{Array, Map};

use super::*;
use crate::policy::bridge::{Classes, Findings, Handle};
use crate::policy::series::Metric;
use crate::policy::state::State;
use crate::policy::verdict::{Reaction, Response, duration, not_a_duration};

/// A property that is registered beside its type, and stands here for the manual and the checks at load.
macro_rules! property {
    ($group:ident; $name:literal, $signature:literal, $doc:literal) => {
        words!($group; $name, $signature, $doc, |_engine, _host| ())
    };
}

pub(super) const WORDS: &[Entry] = &[
    words!(Method; "cap_output", "req.cap_output(tokens)",
    "At most so many tokens of output, whoever answers; the lowest of all such limits counts. Where there are no output tokens (embeddings), it means nothing.",
    |engine, _host| engine.register_fn("cap_output", |req: &mut Request, most: Dynamic| req.cap_output(&most))),
    words!(Method; "stop_on", "req.stop_on([texts])",
    "Ends the answer before the first of these texts, whoever answers, also where it comes in pieces of a stream.",
    |engine, _host| engine.register_fn("stop_on", |req: &mut Request, texts: Array| req.stop_on(&texts))),
    words!(Method; "redact", "req.redact(findings)",
    "Takes what a guard plugin found (`plugin(\"pii\").inspect(req)`) out of the prompt; placeholders such as `[EMAIL_1]` stand in its place, wherever it goes. Detectors of the gateway's own come later; until then, a list of kinds is an error.",
    |engine, _host| {
        engine.register_fn("redact", |req: &mut Request, found: Dynamic| req.redact(&findings(&found)?, false))
    }),
    words!(Method; "redact", "req.redact(findings, #{ restore: true })",
    "The same; in the answer, the real values come back in place of the placeholders, also in streams.",
    |engine, _host| {
        engine.register_fn("redact", |req: &mut Request, found: Dynamic, options: Map| {
            let restore = options.get("restore").is_some_and(|restore| restore.as_bool().unwrap_or(false));
            if let Some(unknown) = options.keys().find(|key| key.as_str() != "restore") {
                return Err(fault(format!("redact: unknown option `{unknown}` (there is `restore`)")));
            }
            req.redact(&findings(&found)?, restore)
        })
    }),
    words!(Method; "redact_output", "req.redact_output(kinds)",
    "Comes with the gateway's own detectors; until then, it is an error.",
    |engine, _host| {
        engine.register_fn("redact_output", |_: &mut Request, _: Dynamic| -> Outcome<()> {
            Err(fault(format!("redact_output: {LATER}; end answers with `req.stop_on([..])`, or refuse them")))
        })
    }),
    words!(Verdict; "respond", "respond(text) → answer",
    "Answers with this text, in the client's dialect, without asking a provider.",
    |engine, _host| engine.register_fn("respond", |context: NativeCallContext<'_>, text: Dynamic| {
        Response::new(&text, &context)
    })),
    words!(Reaction; "next_target", "next_target()",
        "Goes on to the next target, without another try at this one.",
        |engine, _host| engine.register_fn("next_target", || Reaction(plan::Reaction::NextTarget))),
    words!(Reaction; "retry_after", "retry_after(ms)",
        "Tries the same target again after so many milliseconds (or a duration such as `\"2s\"`), within the limits of attempts and time.",
        |engine, _host| engine.register_fn("retry_after", |pause: Dynamic| Reaction::retry_after(&pause))),
    words!(Reaction; "fail", "fail()",
        "Gives up: the client is told what happened at this attempt.",
        |engine, _host| engine.register_fn("fail", || Reaction(plan::Reaction::Fail))),
    property!(Failed; "kind", "err.kind → text",
        "What happened: `\"rate_limit\"`, `\"overloaded\"`, `\"timeout\"`, `\"first_token_timeout\"`, `\"connect\"`, `\"auth\"`, `\"context_length\"`, `\"content_filter\"`, `\"bad_request\"`, `\"server\"` or `\"cancelled\"`."),
    property!(Failed; "target", "err.target → target", "Where the attempt went: `err.target.name`."),
    property!(Failed; "attempt", "err.attempt → number", "How many attempts have been made, this one included."),
    property!(Failed; "status", "err.status → number or ()", "The provider's HTTP status."),
    property!(Failed; "retry_after_ms", "err.retry_after_ms → number", "How long the provider asks to wait; 0 where it does not say."),
    property!(Answered; "target", "res.target → target", "Who answers."),
    property!(Answered; "status", "res.status → number", "The provider's HTTP status."),
    property!(Answered; "stream", "res.stream → true/false", "Whether it is a stream, of which only the beginning is known."),
    property!(Answered; "usage", "res.usage → usage or ()", "What was used, as far as it is known: `input`, `output`, `total`, `cached`, `reasoning`, `estimated`."),
    property!(Answered; "finish", "res.finish → text or ()", "Why the answer ended (`\"stop\"`, `\"length\"`, `\"tool_calls\"`), where it is known."),
    property!(Answered; "latency_ms", "res.latency_ms → number", "Milliseconds from the request's head to this answer."),
    property!(Completed; "ok", "out.ok → true/false", "Whether the client got a complete answer."),
    property!(Completed; "outcome", "out.outcome → text", "`\"ok\"`, `\"error\"`, `\"broken\"` (after its first content) or `\"cancelled\"`."),
    property!(Completed; "status", "out.status → number", "The status that the client got."),
    property!(Completed; "target", "out.target → target", "Who answered; its `name` is `()` when nobody did."),
    property!(Completed; "attempts", "out.attempts → number", "How many attempts were made."),
    property!(Completed; "usage", "out.usage → usage or ()", "What was used."),
    property!(Completed; "finish", "out.finish → text or ()", "Why the answer ended."),
    property!(Completed; "first_token_ms", "out.first_token_ms → number or ()", "Milliseconds to the first content of a stream."),
    property!(Completed; "duration_ms", "out.duration_ms → number", "Milliseconds from the request's head to its last byte."),
    property!(Target; "name", "target.name → text or ()", "`provider/model`."),
    property!(Target; "provider", "target.provider → text or ()", "The provider's name in the configuration."),
    property!(Target; "model", "target.model → text or ()", "The model's name as the provider knows it."),
    property!(Target; "tags", "target.tags → list of texts", "Tags of the provider: `\"private\" in target.tags`."),
    property!(Target; "region", "target.region → text", "Any label of the provider by its name, such as `region`; an empty text where it has none."),
    words!(Plugin; "plugin", "plugin(\"name\") → plugin",
    "A plugin of the configuration. The name stands there in so many words, so that it can be checked when the policy is loaded.",
    |engine, host| {
        let host = Arc::clone(host);
        engine.register_fn("plugin", move |name: &str| Handle::named(&host, name))
    }),
    words!(PluginMethod; "classify", "plugin.classify(req) → classes",
    "What kind of request it is: `kind.top` and `kind.score` of the best label, `kind.labels` with all scores, `kind.attributes`.",
    |engine, host| {
        let host = Arc::clone(host);
        engine.register_fn("classify", move |plugin: &mut Handle, req: Request| plugin.classify(&host, &req));
        engine
            .register_type_with_name::<Classes>("Classes")
            .register_get("top", Classes::top)
            .register_get("score", Classes::score)
            .register_get("labels", Classes::labels)
            .register_get("attributes", Classes::attributes)
    }),
    words!(PluginMethod; "inspect", "plugin.inspect(req) → findings",
    "What a guard finds in the prompt: `findings.kinds`, `findings.any([\"email\"])`, `findings.first([..])`, `findings.len()`; `findings.rejected` with `code` and `message` when it wants the request refused.",
    |engine, host| {
        let host = Arc::clone(host);
        engine.register_fn("inspect", move |plugin: &mut Handle, req: Request| plugin.inspect(&host, &req));
        engine
            .register_type_with_name::<Findings>("Findings")
            .register_get("kinds", Findings::kinds)
            .register_get("rejected", Findings::rejected)
            .register_get("code", Findings::code)
            .register_get("message", Findings::message)
            .register_fn("any", Findings::any)
            .register_fn("first", Findings::first)
            .register_fn("len", Findings::len)
    }),
    words!(PluginMethod; "route", "plugin.route(req) → route, rejection or ()",
    "What a router plugin wants; return it, or `()` and the next policy decides.",
    |engine, host| {
        let host = Arc::clone(host);
        engine.register_fn("route", move |context: NativeCallContext<'_>, plugin: &mut Handle, req: Request| {
            plugin.route(&context, &host, &req)
        })
    }),
    words!(PluginMethod; "call", "plugin.call(function, arguments) → value",
    "Any function of the plugin's own: `plugin(\"geo\").call(\"country\", #{ ip: req.ip })`.",
    |engine, host| {
        let host = Arc::clone(host);
        engine.register_fn("call", move |context: NativeCallContext<'_>, plugin: &mut Handle, function: &str, arguments: Dynamic| {
            plugin.call(&host, &context, function, &arguments)
        })
    }),
    words!(StateMethod; "get", "state.get(key) → value or ()",
    "What is kept under the key, in this process, across requests and reloads.",
    |engine, _host| engine.register_fn("get", |context: NativeCallContext<'_>, _: &mut State, key: &str| {
        State::get(&asked(&context, "state")?, key)
    })),
    words!(StateMethod; "set", "state.set(key, value)",
    "Keeps a number, true/false or a short text for a day; `()` removes it. Done when the hook has ended.",
    |engine, _host| {
        engine.register_fn("set", |context: NativeCallContext<'_>, _: &mut State, key: &str, value: Dynamic| {
            State::set(&asked(&context, "state")?, key, value, None)
        })
    }),
    words!(StateMethod; "set", "state.set(key, value, ttl)",
    "The same for so long: `\"1h\"`.",
    |engine, _host| {
        engine.register_fn("set", |context: NativeCallContext<'_>, _: &mut State, key: &str, value: Dynamic, ttl: &str| {
            State::set(&asked(&context, "state")?, key, value, Some(life("state.set", ttl)?))
        })
    }),
    words!(StateMethod; "incr", "state.incr(key) → number",
    "Adds one, and gives the sum. Additions of concurrent requests are never lost, but the sum that a hook sees may miss those that run at the same moment.",
    |engine, _host| {
        engine.register_fn("incr", |context: NativeCallContext<'_>, _: &mut State, key: &str| {
            State::incr(&asked(&context, "state")?, key, 1, None)
        })
    }),
    words!(StateMethod; "incr", "state.incr(key, by) → number",
    "Adds another whole number.",
    |engine, _host| {
        engine.register_fn("incr", |context: NativeCallContext<'_>, _: &mut State, key: &str, by: i64| {
            State::incr(&asked(&context, "state")?, key, by, None)
        })
    }),
    words!(StateMethod; "incr", "state.incr(key, by, ttl) → number",
    "The same for so long, counted from the first addition: `state.incr(\"n\", 1, \"1m\")` counts per minute.",
    |engine, _host| {
        engine.register_fn("incr", |context: NativeCallContext<'_>, _: &mut State, key: &str, by: i64, ttl: &str| {
            State::incr(&asked(&context, "state")?, key, by, Some(life("state.incr", ttl)?))
        })
    }),
    words!(Function; "metric", "metric(name) → metric",
    "A metric of the policy's own, `tollgate_policy_` and this name, with at most 100 series.",
    |engine, _host| engine.register_fn("metric", Metric::named)),
    words!(MetricMethod; "add", "metric.add()",
    "Counts one more.",
    |engine, _host| {
        engine.register_fn("add", |context: NativeCallContext<'_>, metric: &mut Metric| {
            metric.add(&asked(&context, "metric")?, None, 1.0)
        })
    }),
    words!(MetricMethod; "add", "metric.add(labels | number)",
    "Counts one more for these labels (`#{ model: out.target.name }`), or so many more.",
    |engine, _host| {
        engine.register_fn("add", |context: NativeCallContext<'_>, metric: &mut Metric, labels: Map| {
            metric.add(&asked(&context, "metric")?, Some(&labels), 1.0)
        });
        engine.register_fn("add", |context: NativeCallContext<'_>, metric: &mut Metric, by: i64| {
            metric.add(&asked(&context, "metric")?, None, float(by))
        })
    }),
    words!(MetricMethod; "add", "metric.add(labels, number)",
    "Counts so many more for these labels.",
    |engine, _host| {
        engine.register_fn("add", |context: NativeCallContext<'_>, metric: &mut Metric, labels: Map, by: i64| {
            metric.add(&asked(&context, "metric")?, Some(&labels), float(by))
        })
    }),
    words!(MetricMethod; "observe", "metric.observe(value)",
    "Notes one value for a histogram; `()` is not noted.",
    |engine, _host| {
        engine.register_fn("observe", |context: NativeCallContext<'_>, metric: &mut Metric, value: Dynamic| {
            metric.observe(&asked(&context, "metric")?, &value, None)
        })
    }),
    words!(MetricMethod; "observe", "metric.observe(value, labels)",
    "The same with labels.",
    |engine, _host| {
        engine.register_fn("observe", |context: NativeCallContext<'_>, metric: &mut Metric, value: Dynamic, labels: Map| {
            metric.observe(&asked(&context, "metric")?, &value, Some(&labels))
        })
    }),
];

/// Why kinds cannot be looked for.
const LATER: &str = "this version has no detectors of its own";

fn findings(given: &Dynamic) -> Outcome<Findings> {
    given.clone().try_cast().ok_or_else(|| {
        fault(format!("redact: {LATER}: give it what a plugin found, `req.redact(plugin(\"pii\").inspect(req))`"))
    })
}

fn asked(context: &NativeCallContext<'_>, word: &str) -> Outcome<Request> {
    let request = context.tag().and_then(Request::of);
    request.ok_or_else(|| fault(format!("{word}: works only inside of a hook")))
}

fn life(function: &str, text: &str) -> Outcome<std::time::Duration> {
    duration(text).ok_or_else(|| fault(not_a_duration(function, text)))
}

#[allow(clippy::cast_precision_loss, reason = "nobody counts beyond 53 bits at once")]
fn float(by: i64) -> f64 {
    by as f64
}
