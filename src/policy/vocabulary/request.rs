//! What a request knows and can be asked.

use std::sync::Arc;

use rhai::{Array, Dynamic, NativeCallContext};

use super::{Hooks, Kind, Row, Sheet, later, row};
use crate::facts::measure::TIERS;
use crate::policy::request::{Guards, Headers, Metadata, Request, Tags, Turn};
use crate::policy::tables::nothing_without_a_key;

pub(super) const SHEET: Sheet = Sheet { kinds: KINDS, rows: ROWS };

const KINDS: &[Kind] = &[
    Kind {
        name: "Request",
        receiver: "req",
        noun: "a request",
        title: "What a request knows and can be asked",
        open: false,
        register: |engine| {
            engine
                .register_type_with_name::<Request>("Request")
                .register_type_with_name::<Headers>("Headers")
                .register_type_with_name::<Metadata>("Metadata")
                .register_type_with_name::<Tags>("Tags")
                .register_type_with_name::<Guards>("Guards")
                .register_indexer_get(Guards::entry)
                .register_indexer_get(Headers::entry)
                .register_fn("contains", Headers::has)
                .register_indexer_get(Metadata::entry)
                .register_fn("contains", Metadata::has)
                .register_indexer_get(Tags::entry)
                .register_fn("contains", Tags::has);
            nothing_without_a_key::<Headers>(engine);
            nothing_without_a_key::<Metadata>(engine);
            nothing_without_a_key::<Tags>(engine);
        },
    },
    Kind {
        name: "Turn",
        receiver: "turn",
        noun: "a turn",
        title: "A turn of the conversation",
        open: false,
        register: |engine| {
            engine.register_type_with_name::<Turn>("Turn");
        },
    },
];

macro_rules! getter {
    ($signature:literal, $getter:path, $doc:literal) => {
        row($signature, $doc, |engine, name, _| {
            let place = super::place(name);
            engine.register_get(name, move |request: &mut Request| {
                request.saw(place);
                $getter(request)
            });
        })
    };
}

/// A property whose parts are noted as they are read.
macro_rules! index {
    ($signature:literal, $getter:path, $doc:literal) => {
        row($signature, $doc, |engine, name, _| {
            engine.register_get(name, $getter);
        })
    };
}

/// A field of the body under the name that policies have for it, whatever the client's dialect calls it.
macro_rules! parameter {
    ($signature:literal, $name:literal, $doc:literal) => {
        row($signature, $doc, |engine, name, _| {
            engine.register_get(name, |req: &mut Request| req.parameter($name));
        })
    };
}

const ROWS: &[Row] = &[
    getter!("req.model → text", Request::model, "The model name as the client wrote it."),
    getter!(
        "req.endpoint → text",
        Request::endpoint,
        "The operation: `\"chat\"`, `\"embeddings\"`, `\"realtime\"`, `\"passthrough\"` and so on."
    ),
    getter!("req.stream → true/false", Request::stream, "Whether the client wants a stream."),
    getter!(
        "req.user → text or ()",
        Request::user,
        "The user: of the key, else the body's `user` or `safety_identifier`."
    ),
    getter!("req.team → text or ()", Request::team, "The team that the client's key belongs to."),
    getter!(
        "req.priority → text",
        Request::priority,
        "How important it is, by its key or as little as the client says: `\"low\"`, `\"normal\"` or `\"high\"`."
    )
    .one_of(&["low", "normal", "high"]),
    getter!("req.key_id → text or ()", Request::key_id, "The public id of the client's key."),
    getter!("req.ip → text or ()", Request::ip, "The client's address."),
    getter!("req.session → text or ()", Request::session, "What the client sends as `x-tollgate-session`."),
    index!(
        "req.data_class → text or ()",
        Request::data_class,
        "How confidential the client says its data is (`x-tollgate-data-class`)."
    ),
    index!(
        "req.tier → text or ()",
        Request::tier,
        "What the client wants to pay for (`x-tollgate-tier`): `\"cheap\"`, `\"balanced\"` or `\"premium\"`; `()` where it names none of them."
    )
    .one_of(&TIERS),
    getter!(
        "req.tokens → number",
        Request::tokens,
        "Estimated tokens of the prompt: bytes of text divided by four."
    ),
    getter!("req.max_tokens → number or ()", Request::max_tokens, "The output limit that the client gave."),
    getter!("req.messages → number", Request::messages, "How many messages (chat) or inputs (embeddings)."),
    getter!("req.has_tools → true/false", Request::has_tools, "Whether the model is offered tools."),
    getter!("req.tools → list of text", Request::tools, "Names of the tools: `\"search\" in req.tools`."),
    getter!("req.has_images → true/false", Request::has_images, "Whether any message has an image."),
    getter!("req.has_audio → true/false", Request::has_audio, "Whether any message has sound."),
    getter!("req.has_files → true/false", Request::has_files, "Whether any message has a file."),
    getter!(
        "req.modalities → list of text",
        Request::modalities,
        "What the messages are made of: `\"text\"`, `\"image\"`, `\"audio\"`, `\"file\"`."
    ),
    getter!(
        "req.has_json_output → true/false",
        Request::has_json_output,
        "Whether JSON or a JSON Schema is asked for (`response_format`)."
    ),
    getter!("req.text → text", Request::text, "All text of all messages, joined by newlines."),
    getter!("req.system → text", Request::system, "The text of system and developer messages."),
    getter!("req.last_user → text", Request::last_user, "The text of the last user message."),
    getter!(
        "req.turns → list of Turn",
        Request::turns,
        "The conversation in order: `for turn in req.turns { if turn.role == \"tool\" { … } }`."
    ),
    row(
        "req.texts(role: text) → list of text",
        "The messages of one role, in order: `req.texts(\"user\")`; `\"system\"`, `\"assistant\"`, `\"tool\"`.",
        |engine, name, _| {
            engine.register_fn(name, Request::texts);
        },
    ),
    getter!("req.words → number", Request::words, "How many words the text has, counted outside of the script."),
    getter!("req.lines → number", Request::lines, "How many lines the text has."),
    getter!("req.bytes → number", Request::bytes, "How many bytes the text has."),
    getter!("req.id → text", Request::id, "The request's id, as in `x-request-id`."),
    index!(
        "req.headers[\"x-tier\"] → text or ()",
        Request::headers,
        "A header of the client, in any case; without credentials and cookies. `\"x-tier\" in req.headers` asks whether it is there."
    ),
    index!(
        "req.metadata[\"feature\"] → text or ()",
        Request::metadata,
        "A value of the body's `metadata`: text as it is, anything else as JSON text."
    ),
    index!(
        "req.tags[\"team\"] → text or ()",
        Request::tags,
        "A tag: of `x-tollgate-tags`, or put there by a policy; the last one wins."
    ),
    index!(
        "req.guards[\"pii\"] → list of text",
        Request::guards,
        "The kinds of what this guard of the configuration (`guard:` of a plugin) found in the request; empty where it found nothing or did not look, so ask `.is_empty()`. They stand in the tag `guard.pii` too."
    ),
    parameter!("req.temperature → decimal or ()", "temperature", "As the client set it, in any dialect."),
    parameter!("req.top_p → decimal or ()", "top_p", "As the client set it, in any dialect."),
    parameter!("req.top_k → number or ()", "top_k", "As the client set it, in dialects that have it."),
    parameter!("req.seed → number or ()", "seed", "As the client set it, in dialects that have it."),
    parameter!("req.n → number or ()", "n", "How many answers the client wants, if it says."),
    parameter!(
        "req.reasoning_effort → text or ()",
        "reasoning_effort",
        "How hard the model is to think: `\"low\"`, `\"high\"` and so on, as the client set it."
    ),
    parameter!("req.service_tier → text or ()", "service_tier", "The provider's class of service, as the client set it."),
    row(
        "req.field(name: text) → number, text, true/false or ()",
        "Any other top-level field of the body, such as `logprobs`; lists and objects come as JSON text.",
        |engine, name, _| {
            engine.register_fn(name, Request::field);
        },
    ),
    row(
        "req.tag(key: text, value)",
        "Puts a tag on the request: later policies, the access log and the decision record see it.",
        |engine, name, _| {
            engine.register_fn(name, Request::tag);
        },
    ),
    row(
        "req.require(what)",
        "Only such targets: a tag (`\"private\"`), a provider (`\"openai\"`), a target (`\"openai/gpt-4o\"`), labels (`#{ region: \"eu\" }`) or a list of these, all of which must hold. Holds for every later choice, fallbacks too; nothing takes it back.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(
                name,
                move |context: NativeCallContext<'_>, req: &mut Request, what: Dynamic| {
                    req.require(what, &host.names, &host.journal.asking(&context, req))
                },
            );
        },
    )
    .only_in(BEFORE),
    row("req.avoid(what)", "No such targets; written like `require`.", |engine, name, host| {
        let host = Arc::clone(host);
        engine.register_fn(
            name,
            move |context: NativeCallContext<'_>, req: &mut Request, what: Dynamic| {
                req.avoid(what, &host.names, &host.journal.asking(&context, req))
            },
        );
    })
    .only_in(BEFORE),
    row(
        "req.contains_any(texts: list of text) → true/false",
        "Whether any of these texts stands in the prompt, in upper or lower case. One pass, outside of the script.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |req: &mut Request, texts: Array| {
                req.contains_any(&texts, &host.patterns)
            });
        },
    ),
    row(
        "req.starts_with_any(texts: list of text) → true/false",
        "Whether the last user message begins with any of these texts, in upper or lower case.",
        |engine, name, _| {
            engine.register_fn(name, Request::starts_with_any);
        },
    ),
    row(
        "req.matches(regex: text) → true/false",
        "Whether the regular expression is found in the prompt. Compiled once; linear in time.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |req: &mut Request, regex: &str| {
                req.matches(regex, &host.patterns)
            });
        },
    ),
    row(
        "req.count(regex: text) → number",
        "How often the regular expression is found in the prompt.",
        |engine, name, host| {
            let host = Arc::clone(host);
            engine
                .register_fn(name, move |req: &mut Request, regex: &str| req.count(regex, &host.patterns));
        },
    ),
    later(
        "req.pii() → list of text",
        "Kinds of personal data in the prompt.",
        "it comes with the guards; until then use `req.matches(…)` or a guard plugin",
    ),
    later(
        "req.similar_to(texts: list of text) → decimal",
        "How close the prompt is in meaning to the closest of these texts, 0 to 1.",
        "it comes with embeddings; until then use `req.contains_any(…)` or a classifier plugin",
    ),
    row("turn.role → text", "`\"system\"`, `\"user\"`, `\"assistant\"` or `\"tool\"`.", |engine, name, _| {
        engine.register_get(name, Turn::role);
    })
    .one_of(&["system", "user", "assistant", "tool"]),
    row("turn.text → text", "What was said.", |engine, name, _| {
        engine.register_get(name, Turn::text);
    }),
];

/// Once an answer has begun, there is nothing left to choose from.
const BEFORE: Hooks = Hooks::REQUEST.and(Hooks::ERROR);
