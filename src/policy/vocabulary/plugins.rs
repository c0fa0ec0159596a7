//! The words of plugins, of kept state and of metrics.

use std::sync::Arc;

use rhai::{Dynamic, Map, NativeCallContext};

use super::{Kind, Row, Sheet, kind, row};
use crate::policy::bridge::{Classes, Findings, Handle};
use crate::policy::call_word;
use crate::policy::request::{Request, request_of};
use crate::policy::series::Metric;
use crate::policy::state::{State, life};

pub(super) const SHEET: Sheet = Sheet { kinds: KINDS, rows: ROWS };

const KINDS: &[Kind] = &[
    kind("Plugin", "plugin", "a plugin", "What can be asked of a plugin", |engine| {
        engine.register_type_with_name::<Handle>("Plugin");
    }),
    kind("Classes", "classes", "classes", "What a classifier says", |engine| {
        engine.register_type_with_name::<Classes>("Classes");
    }),
    kind("Findings", "findings", "findings", "What a guard finds", |engine| {
        engine.register_type_with_name::<Findings>("Findings");
    }),
    kind("State", "state", "the state", "What is kept between requests", |engine| {
        engine.register_type_with_name::<State>("State");
    }),
    kind("Metric", "metric", "a metric", "What can be told to a metric", |engine| {
        engine.register_type_with_name::<Metric>("Metric");
    }),
];

macro_rules! getter {
    ($signature:literal, $getter:path, $doc:literal) => {
        row($signature, $doc, |engine, name, _| {
            engine.register_get(name, $getter);
        })
    };
}

const ROWS: &[Row] = &[
    row(
        "plugin(name: text) → Plugin",
        "A plugin of the configuration. The name stands there in so many words, so that it can be checked when the policy is loaded.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |name: &str| Handle::named(&host, name));
        },
    ),
    row("plugin.classify(req: Request) → Classes", "What kind of request it is.", |engine, name, host| {
        let host = Arc::clone(host);
        engine.register_fn(name, move |plugin: &mut Handle, req: Request| plugin.classify(&host, &req));
    }),
    row(
        "plugin.inspect(req: Request) → Findings",
        "What a guard finds in the prompt.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |plugin: &mut Handle, req: Request| plugin.inspect(&host, &req));
        },
    ),
    row(
        "plugin.route(req: Request) → route, rejection or ()",
        "What a router plugin wants; return it, or `()` and the next policy decides.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(
                name,
                move |context: NativeCallContext<'_>, plugin: &mut Handle, req: Request| {
                    plugin.route(&context, &host, &req)
                },
            );
        },
    ),
    row(
        "plugin.call(function: text, arguments) → value",
        "Any function of the plugin's own: `plugin(\"geo\").call(\"country\", #{ ip: req.ip })`.",
        |engine, _, host| {
            let host = Arc::clone(host);
            engine.register_fn(
                call_word::WORD,
                move |context: NativeCallContext<'_>,
                      plugin: &mut Handle,
                      function: &str,
                      arguments: Dynamic| {
                    plugin.call(&host, &context, function, &arguments)
                },
            );
        },
    ),
    getter!("classes.top → text", Classes::top, "The best label, `\"unknown\"` where there is none."),
    getter!("classes.score → decimal", Classes::score, "The score of the best label, 0 to 1."),
    getter!("classes.labels → map", Classes::labels, "All labels with their scores."),
    getter!("classes.attributes → map", Classes::attributes, "What else the classifier says."),
    getter!("findings.kinds → list of text", Findings::kinds, "Each kind once, in the order found."),
    row(
        "findings.any(kinds: list of text) → true/false",
        "Whether one of these kinds was found.",
        |engine, name, _| {
            engine.register_fn(name, Findings::any);
        },
    ),
    row(
        "findings.first(kinds: list of text) → text or ()",
        "The first of these kinds that was found.",
        |engine, name, _| {
            engine.register_fn(name, Findings::first);
        },
    ),
    row("findings.len() → number", "How many.", |engine, name, _| {
        engine.register_fn(name, Findings::len);
    }),
    getter!(
        "findings.rejected → true/false",
        Findings::rejected,
        "Whether the guard wants the request refused."
    ),
    getter!("findings.code → text or ()", Findings::code, "With which code, then."),
    getter!("findings.message → text or ()", Findings::message, "With which message, then."),
    row(
        "state.get(key: text) → value or ()",
        "What is kept under the key, in this process, across requests and reloads.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, _: &mut State, key: &str| {
                State::get(&request_of("state", &context)?, key)
            });
        },
    ),
    row(
        "state.set(key: text, value)",
        "Keeps a number, true/false or a short text for a day; `()` removes it. Done when the hook has ended.",
        |engine, name, _| {
            engine.register_fn(
                name,
                |context: NativeCallContext<'_>, _: &mut State, key: &str, value: Dynamic| {
                    State::set(&request_of("state", &context)?, key, value, None)
                },
            );
        },
    ),
    row("state.set(key: text, value, ttl: text)", "The same for so long: `\"1h\"`.", |engine, name, _| {
        engine.register_fn(
            name,
            |context: NativeCallContext<'_>, _: &mut State, key: &str, value: Dynamic, ttl: &str| {
                State::set(&request_of("state", &context)?, key, value, Some(life("state.set", ttl)?))
            },
        );
    }),
    row(
        "state.incr(key: text) → number",
        "Adds one, and gives the sum. Additions of concurrent requests are never lost, but the sum that a hook sees may miss those that run at the same moment.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, _: &mut State, key: &str| {
                State::incr(&request_of("state", &context)?, key, 1, None)
            });
        },
    ),
    row("state.incr(key: text, by: number) → number", "Adds another whole number.", |engine, name, _| {
        engine.register_fn(name, |context: NativeCallContext<'_>, _: &mut State, key: &str, by: i64| {
            State::incr(&request_of("state", &context)?, key, by, None)
        });
    }),
    row(
        "state.incr(key: text, by: number, ttl: text) → number",
        "The same for so long, counted from the first addition: `state.incr(\"n\", 1, \"1m\")` counts per minute.",
        |engine, name, _| {
            engine.register_fn(
                name,
                |context: NativeCallContext<'_>, _: &mut State, key: &str, by: i64, ttl: &str| {
                    State::incr(&request_of("state", &context)?, key, by, Some(life("state.incr", ttl)?))
                },
            );
        },
    ),
    row(
        "metric(name: text) → Metric",
        "A metric of the policy's own, `tollgate_policy_` and this name, with at most 100 series.",
        |engine, name, _| {
            engine.register_fn(name, Metric::named);
        },
    ),
    row("metric.add()", "Counts one more.", |engine, name, _| {
        engine.register_fn(name, |context: NativeCallContext<'_>, metric: &mut Metric| {
            metric.add(&request_of("metric", &context)?, None, 1.0)
        });
    }),
    row(
        "metric.add(labels)",
        "Counts one more for these labels (`#{ model: out.target.name }`; `()` is `none`), or so many more (`7`).",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, metric: &mut Metric, labels: Map| {
                metric.add(&request_of("metric", &context)?, Some(&labels), 1.0)
            });
            engine.register_fn(name, |context: NativeCallContext<'_>, metric: &mut Metric, by: i64| {
                metric.add(&request_of("metric", &context)?, None, float(by))
            });
            engine.register_fn(name, |context: NativeCallContext<'_>, metric: &mut Metric, by: f64| {
                metric.add(&request_of("metric", &context)?, None, by)
            });
        },
    ),
    row(
        "metric.add(labels: map, number: number)",
        "Counts so many more for these labels. Fractions add up: the metric shows whole numbers.",
        |engine, name, _| {
            engine.register_fn(
                name,
                |context: NativeCallContext<'_>, metric: &mut Metric, labels: Map, by: i64| {
                    metric.add(&request_of("metric", &context)?, Some(&labels), float(by))
                },
            );
            engine.register_fn(
                name,
                |context: NativeCallContext<'_>, metric: &mut Metric, labels: Map, by: f64| {
                    metric.add(&request_of("metric", &context)?, Some(&labels), by)
                },
            );
        },
    ),
    row("metric.observe(value)", "Notes one value for a histogram; `()` is not noted.", |engine, name, _| {
        engine.register_fn(name, |context: NativeCallContext<'_>, metric: &mut Metric, value: Dynamic| {
            metric.observe(&request_of("metric", &context)?, &value, None)
        });
    }),
    row("metric.observe(value, labels: map)", "The same with labels.", |engine, name, _| {
        engine.register_fn(
            name,
            |context: NativeCallContext<'_>, metric: &mut Metric, value: Dynamic, labels: Map| {
                metric.observe(&request_of("metric", &context)?, &value, Some(&labels))
            },
        );
    }),
];

#[allow(clippy::cast_precision_loss, reason = "nobody counts beyond 53 bits at once")]
fn float(by: i64) -> f64 {
    by as f64
}
