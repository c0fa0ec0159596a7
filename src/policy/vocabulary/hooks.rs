//! The words of the later hooks: what they see, and what they may return.

use std::sync::Arc;

use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::{Hooks, Kind, Row, Sheet, kind, row};
use crate::plan;
use crate::policy::bridge::{Findings, Handle};
use crate::policy::request::{Outcome, Request, fault};
use crate::policy::seen::KINDS as KINDS_OF_FAILURE;
use crate::policy::verdict::{Reaction, Response};

type Context<'a> = NativeCallContext<'a>;

pub(super) const SHEET: Sheet = Sheet { kinds: KINDS, rows: ROWS };

/// Types whose properties are registered beside them (`policy/seen.rs`).
const KINDS: &[Kind] = &[
    kind("FailedAttempt", "err", "a failed attempt", "What `err` knows, in `on_error(req, err)`", |_| ()),
    kind("Answer", "res", "an answer", "What `res` knows, in `on_response(req, res)`", |_| ()),
    kind("Completion", "out", "a completed request", "What `out` knows, in `on_complete(req, out)`", |_| ()),
    Kind {
        name: "SeenTarget",
        receiver: "res.target",
        noun: "a target",
        title: "Who answered, or failed",
        open: true,
        register: |_| (),
    },
    kind("Usage", "usage", "usage", "What was used", |_| ()),
    kind("Reaction", "reaction", "a reaction", "What can be added to a reaction", |engine| {
        engine.register_type_with_name::<Reaction>("Reaction");
    }),
    kind("Response", "response", "an answer of its own", "What can be added to `respond(…)`", |engine| {
        engine.register_type_with_name::<Response>("Response");
    }),
];

/// A property that is registered beside its type, and stands here for the manual and the checks at load.
const fn property(signature: &'static str, doc: &'static str) -> Row {
    row(signature, doc, |_, _, _| ())
}

const ROWS: &[Row] = &[
    row(
        "req.cap_output(tokens: number)",
        "At most so many tokens of output, whoever answers; the lowest of all such limits counts. Where there are no output tokens (embeddings), it means nothing.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: Context<'_>, req: &mut Request, most: Dynamic| {
                req.cap_output(&most, &host.journal.asking(&context, req))
            });
        },
    )
    .only_in(Hooks::REQUEST),
    row(
        "req.cache(ttl: text)",
        "Gives the answer again for so long (`\"1h\"`) to the same question of the same caller, also where it may be another one each time; the shortest of all such times counts.",
        |engine, name, _| {
            engine.register_fn(name, |req: &mut Request, life: rhai::ImmutableString| req.cache(&life));
        },
    )
    .only_in(Hooks::REQUEST),
    row(
        "req.no_cache()",
        "Neither gives a kept answer nor keeps this one, whatever the configuration and other policies say.",
        |engine, name, _| {
            engine.register_fn(name, |req: &mut Request| req.no_cache());
        },
    )
    .only_in(Hooks::REQUEST),
    row(
        "req.stop_on(texts: list of text)",
        "Ends the answer before the first of these texts, whoever answers, also where it comes in pieces of a stream.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: Context<'_>, req: &mut Request, texts: Array| {
                req.stop_on(&texts, &host.journal.asking(&context, req))
            });
        },
    )
    .only_in(Hooks::REQUEST),
    row(
        "req.redact(findings: Findings)",
        "Takes what a guard plugin found (`plugin(\"pii\").inspect(req)`) out of the prompt, wherever it goes; placeholders such as `[EMAIL_1]` stand in its place. Detectors of the gateway's own come later; until then, a list of kinds is an error.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: Context<'_>, req: &mut Request, found: Dynamic| {
                req.redact(&findings(&found)?, false, &host.journal.asking(&context, req))
            });
        },
    )
    .only_in(Hooks::REQUEST),
    row(
        "req.redact(findings: Findings, options: map)",
        "With `#{ restore: true }`, the real values come back in the answer in place of the placeholders, also in streams.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(
                name,
                move |context: Context<'_>, req: &mut Request, found: Dynamic, options: Map| {
                    let restore = restores(&options)?;
                    req.redact(&findings(&found)?, restore, &host.journal.asking(&context, req))
                },
            );
        },
    )
    .only_in(Hooks::REQUEST),
    row(
        "req.redact_output(what)",
        "Takes what a guard finds out of the answer before it goes to the client, also in streams, in reasoning and in the arguments of tools: `plugin(\"pii\")` asks this plugin, a list of kinds (`[\"email\", \"iban\"]`) every guard of the configuration. Marks such as `[EMAIL]` stand in its place. A guard that fails ends the answer as its `on_error` says.",
        |engine, name, host| {
            let whose = Arc::clone(host);
            engine.register_fn(name, move |context: Context<'_>, req: &mut Request, kinds: Array| {
                req.redact_output(None, Some(&kinds), &whose.journal.asking(&context, req))
            });
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: Context<'_>, req: &mut Request, plugin: Handle| {
                req.redact_output(Some(&plugin), None, &host.journal.asking(&context, req))
            });
        },
    )
    .only_in(Hooks::REQUEST),
    row(
        "req.redact_output(plugin: Plugin, kinds: list of text)",
        "The same for these kinds of this plugin's findings.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(
                name,
                move |context: Context<'_>, req: &mut Request, plugin: Handle, kinds: Array| {
                    req.redact_output(Some(&plugin), Some(&kinds), &host.journal.asking(&context, req))
                },
            );
        },
    )
    .only_in(Hooks::REQUEST),
    row(
        "respond(text: text) → Response",
        "Answers with this text, in the client's dialect, without asking a provider.",
        |engine, name, _| {
            engine.register_fn(name, |context: Context<'_>, text: Dynamic| {
                Response::new(&text, &context)
            });
        },
    )
    .only_in(Hooks::REQUEST),
    row("response.named(name: text) → Response", "A name for this rule, as of a route.", |engine, name, _| {
        engine.register_fn(name, |response: Response, name: &str| response.named(name));
    }),
    row(
        "response.tag(key: text, value) → Response",
        "Puts a tag on the request if this verdict is the one that counts.",
        |engine, name, _| {
            engine.register_fn(name, |response: Response, key: &str, value: Dynamic| {
                response.tag(key, &value)
            });
        },
    ),
    row(
        "next_target() → Reaction",
        "Goes on to the next target, without another try at this one.",
        |engine, name, _| {
            engine.register_fn(name, || Reaction(plan::Reaction::NextTarget));
        },
    )
    .only_in(Hooks::ERROR),
    row(
        "retry_after(pause) → Reaction",
        "Tries the same target again after so many milliseconds (or a duration such as `\"2s\"`), within the limits of attempts and time.",
        |engine, name, _| {
            engine.register_fn(name, |pause: Dynamic| Reaction::retry_after(&pause));
        },
    )
    .only_in(Hooks::ERROR),
    row("fail() → Reaction", "Gives up: the client is told what happened at this attempt.", |engine, name, _| {
        engine.register_fn(name, || Reaction(plan::Reaction::Fail));
    })
    .only_in(Hooks::ERROR),
    property(
        "err.kind → text",
        "What happened: `\"rate_limit\"`, `\"overloaded\"`, `\"timeout\"`, `\"first_token_timeout\"`, `\"connect\"`, `\"auth\"`, `\"context_length\"`, `\"content_filter\"`, `\"bad_request\"`, `\"server\"` or `\"cancelled\"`.",
    )
    .one_of(&KINDS_OF_FAILURE),
    property("err.target → SeenTarget", "Where the attempt went: `err.target.name`."),
    property("err.attempt → number", "How many attempts have been made, this one included."),
    property("err.status → number or ()", "The provider's HTTP status."),
    property(
        "err.retry_after_ms → number",
        "How long the provider asks to wait; 0 where it does not say.",
    ),
    property("res.target → SeenTarget", "Who answers."),
    property("res.status → number", "The provider's HTTP status."),
    property(
        "res.stream → true/false",
        "Whether it is a stream, of which only the beginning is known.",
    ),
    property("res.usage → Usage or ()", "What was used, as far as it is known."),
    property(
        "res.finish → text or ()",
        "Why the answer ended (`\"stop\"`, `\"length\"`, `\"tool_calls\"`), where it is known.",
    ),
    property("res.latency_ms → number", "Milliseconds from the request's head to this answer."),
    property("out.ok → true/false", "Whether the client got a complete answer."),
    property(
        "out.outcome → text",
        "`\"ok\"`, `\"error\"`, `\"broken\"` (after its first content) or `\"cancelled\"`.",
    )
    .one_of(&["ok", "error", "broken", "cancelled"]),
    property("out.status → number", "The status that the client got."),
    property("out.target → SeenTarget", "Who answered; its `name` is `()` when nobody did."),
    property("out.attempts → number", "How many attempts were made."),
    property("out.usage → Usage or ()", "What was used."),
    property("out.finish → text or ()", "Why the answer ended."),
    property("out.first_token_ms → number or ()", "Milliseconds to the first content of a stream."),
    property("out.duration_ms → number", "Milliseconds from the request's head to its last byte."),
    property("res.target.name → text or ()", "`provider/model`."),
    property("res.target.provider → text or ()", "The provider's name in the configuration."),
    property("res.target.model → text or ()", "The model's name as the provider knows it."),
    property(
        "res.target.tags → list of text",
        "Tags of the provider: `\"private\" in res.target.tags`.",
    ),
    property(
        "res.target.region → text",
        "Any label of the provider by its name, such as `region`; an empty text where it has none.",
    ),
    property("usage.input → number", "Tokens of the prompt."),
    property("usage.output → number", "Tokens of the answer."),
    property("usage.total → number", "Both."),
    property("usage.cached → number", "Tokens of the prompt that the provider had in its cache."),
    property("usage.reasoning → number", "Tokens of the answer that the model thought with."),
    property("usage.estimated → true/false", "Whether the gateway counted, because the provider did not say."),
];

/// Whether the real values come back in the answer.
fn restores(options: &Map) -> Outcome<bool> {
    if let Some(unknown) = options.keys().find(|key| key.as_str() != "restore") {
        return Err(fault(format!("redact: unknown option `{unknown}` (there is `restore`)")));
    }
    Ok(options.get("restore").is_some_and(|restore| restore.as_bool().unwrap_or(false)))
}

fn findings(given: &Dynamic) -> Outcome<Findings> {
    given.clone().try_cast().ok_or_else(|| {
        fault(
            "redact: this version has no detectors of its own: give it what a plugin found, `req.redact(plugin(\"pii\").inspect(req))`",
        )
    })
}
