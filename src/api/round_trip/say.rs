//! What each dialect can say, at random.

use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::chat::{
    Answer, CacheHint, Choice, Finish, FinishReason, Media, Message, Object, OutputFormat, Part, Reasoning,
    Request, Role, Sampling, Tool, ToolChoice, ToolKind, Usage, proof,
};

/// A dialect of clients and providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Chat,
    Messages,
    Generate,
}

use Dialect::{Chat, Generate, Messages};

impl Dialect {
    pub(super) fn word(self) -> &'static str {
        match self {
            Chat => "openai",
            Messages => "anthropic",
            Generate => "gemini",
        }
    }

    fn model(self) -> &'static str {
        match self {
            // One of which nobody knows what it refuses.
            Chat => "a-model",
            Messages => "claude-sonnet-4-5",
            Generate => "gemini-2.5-pro",
        }
    }
}

fn words() -> impl Strategy<Value = String> {
    "[a-z\"\\\\é😀{}<]{1,4}([ \n][a-zA-Z\u{2028}]{1,4}){0,3}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z_]{0,8}"
}

/// An object of arguments, as JSON text.
fn arguments() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        words().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z\" ]{1,4}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-z\"]{1,4}", value, 0..3)
        .prop_map(|map| Value::Object(map.into_iter().collect()).to_string())
}

fn text() -> impl Strategy<Value = Part> {
    words().prop_map(Part::text)
}

fn call(dialect: Dialect) -> impl Strategy<Value = Part> {
    let signature =
        if dialect == Messages { Just(None).boxed() } else { option::of("[a-zA-Z0-9]{4,8}").boxed() };
    (name(), arguments(), signature).prop_map(|(name, arguments, signature)| Part::ToolCall {
        id: String::new(),
        name,
        arguments,
        kind: ToolKind::Function,
        signature,
        cache: None,
    })
}

fn thought(dialect: Dialect) -> BoxedStrategy<Part> {
    let bare = words().prop_map(|text| Part::Thinking { text, signature: None, redacted: None });
    match dialect {
        Messages => prop_oneof![
            (words(), "[a-zA-Z0-9+/]{4,8}=").prop_map(|(text, s)| Part::Thinking {
                text,
                signature: Some(s),
                redacted: None
            }),
            "[a-zA-Z0-9]{4,8}".prop_map(|s| Part::Thinking {
                text: String::new(),
                signature: Some(s),
                redacted: None
            }),
            "[a-zA-Z0-9]{4,8}".prop_map(|data| Part::Thinking {
                text: String::new(),
                signature: None,
                redacted: Some(data)
            }),
        ]
        .boxed(),
        Chat | Generate => bare.boxed(),
    }
}

/// What a model says in one turn, with ids that begin with `round`.
fn said(dialect: Dialect, round: usize) -> BoxedStrategy<Vec<Part>> {
    let calls = prop::collection::vec(call(dialect), 0..3);
    let parts: BoxedStrategy<Vec<Part>> = match dialect {
        // One text, thinking before it and calls behind.
        Chat => (option::of(thought(dialect)), text(), calls)
            .prop_map(|(thought, text, calls)| thought.into_iter().chain([text]).chain(calls).collect())
            .boxed(),
        Messages => {
            let any = prop_oneof![3 => text(), 2 => thought(dialect), 2 => call(dialect)];
            (text(), prop::collection::vec(any, 0..4))
                .prop_map(|(first, more)| std::iter::once(first).chain(more).collect())
                .boxed()
        }
        // Texts that follow each other are one, and so is thinking; a proof stands on a text.
        Generate => {
            let proof = option::of("[a-zA-Z0-9]{4,8}").prop_map(|proof| {
                proof.map(|proof| Part::Thinking {
                    text: String::new(),
                    signature: Some(proof::of_gemini(&proof)),
                    redacted: None,
                })
            });
            (option::of(thought(dialect)), text(), proof, calls)
                .prop_map(|(thought, text, proof, calls)| {
                    thought.into_iter().chain([text]).chain(proof).chain(calls).collect()
                })
                .boxed()
        }
    };
    parts
        .prop_map(move |mut parts| {
            for (at, part) in parts.iter_mut().enumerate() {
                if let Part::ToolCall { id, .. } = part {
                    *id = format!("call_{round}_{at}");
                }
            }
            parts
        })
        .boxed()
}

fn cache(dialect: Dialect) -> BoxedStrategy<Option<CacheHint>> {
    let ttl = prop_oneof![Just(None), Just(Some("1h".to_owned()))];
    match dialect {
        Messages => option::weighted(0.3, ttl.prop_map(|ttl| CacheHint { ttl })).boxed(),
        Chat | Generate => Just(None).boxed(),
    }
}

/// What a user says.
fn asked(dialect: Dialect) -> BoxedStrategy<Vec<Part>> {
    let inline = |mime: &'static str| Media::Inline { mime: mime.into(), base64: "AAEC".into() };
    let text = (words(), cache(dialect)).prop_map(|(text, cache)| Part::Text {
        text: text.into(),
        cache,
        citations: Vec::new(),
    });
    let media = (0..4u8, cache(dialect)).prop_map(move |(kind, cache)| match (kind, dialect) {
        (0, Chat | Messages) => {
            let media = Media::Url("https://example.org/a.png".into());
            Part::Image { media, detail: None, cache }
        }
        (1, Chat | Generate) => Part::Audio { media: inline("audio/wav") },
        (2, _) => {
            // OpenAI takes no file without a name.
            let filename = (dialect == Chat).then(|| "a.pdf".to_owned());
            Part::File { media: inline("application/pdf"), filename, cache }
        }
        _ => Part::Image { media: inline("image/png"), detail: None, cache },
    });
    prop::collection::vec(prop_oneof![3 => text, 1 => media], 1..4).boxed()
}

fn message(role: Role, content: Vec<Part>) -> Message {
    Message { role, content, name: None, rest: Object::new() }
}

fn results(dialect: Dialect, calls: &[Part], texts: &[(String, bool)]) -> Vec<Message> {
    let results = calls.iter().filter_map(|part| match part {
        Part::ToolCall { id, .. } => Some(id.clone()),
        _ => None,
    });
    let results: Vec<Part> = results
        .zip(texts.iter().cycle())
        .map(|(id, (text, is_error))| Part::ToolResult {
            id,
            content: vec![Part::text(text.as_str())],
            is_error: *is_error && dialect != Chat,
            cache: None,
        })
        .collect();
    match dialect {
        _ if results.is_empty() => Vec::new(),
        Chat => results.into_iter().map(|result| message(Role::Tool, vec![result])).collect(),
        Messages | Generate => vec![message(Role::Tool, results)],
    }
}

/// A conversation that ends with the user's words.
fn messages(dialect: Dialect) -> impl Strategy<Value = Vec<Message>> {
    let text = (words(), cache(dialect)).prop_map(|(text, cache)| Part::Text {
        text: text.into(),
        cache,
        citations: Vec::new(),
    });
    let system = option::of(prop::collection::vec(text, 1..3));
    let texts = || prop::collection::vec((words(), any::<bool>()), 1..3);
    let rounds = (asked(dialect), said(dialect, 0), texts(), asked(dialect), said(dialect, 1), texts());
    (system, 0..3usize, rounds, asked(dialect)).prop_map(move |(system, rounds, all, last)| {
        let mut list: Vec<Message> = system.map(|parts| message(Role::System, parts)).into_iter().collect();
        let (ask, say, texts, ask_again, say_again, more) = all;
        for (ask, say, texts) in [(ask, say, texts), (ask_again, say_again, more)].into_iter().take(rounds) {
            let results = results(dialect, &say, &texts);
            list.push(message(Role::User, ask));
            list.push(message(Role::Assistant, say));
            list.extend(results);
        }
        list.push(message(Role::User, last));
        list
    })
}

/// A schema that every dialect follows to the letter: Google's does without a word for "no others".
fn schema(dialect: Dialect) -> impl Strategy<Value = Value> {
    name().prop_map(move |name| {
        let mut schema =
            json!({"type": "object", "properties": {name.clone(): {"type": "string"}}, "required": [name]});
        if dialect != Generate {
            schema["additionalProperties"] = false.into();
        }
        schema
    })
}

fn tool(dialect: Dialect) -> impl Strategy<Value = Tool> {
    let strict = if dialect == Generate { Just(None).boxed() } else { option::of(Just(true)).boxed() };
    (name(), option::of(words()), schema(dialect), strict, cache(dialect)).prop_map(
        |(name, description, schema, strict, cache)| Tool {
            name,
            description,
            parameters: Some(schema),
            strict,
            kind: ToolKind::Function,
            cache,
            rest: Object::new(),
        },
    )
}

fn number() -> impl Strategy<Value = Option<f64>> {
    option::of((0..4u8).prop_map(|n| f64::from(n) / 4.0))
}

fn sampling(dialect: Dialect) -> impl Strategy<Value = Sampling> {
    let count = |from: u64| option::of(from..40);
    let stop = prop::collection::vec("[a-z]{1,4}", 0..3);
    let seed = option::of(0..i64::from(i32::MAX));
    (number(), number(), count(1), number(), number(), seed, stop, count(2), any::<bool>()).prop_map(
        move |(temperature, top_p, top_k, presence_penalty, frequency_penalty, seed, stop, n, logs)| {
            let all = Sampling {
                temperature,
                top_p,
                top_k,
                presence_penalty,
                frequency_penalty,
                seed,
                stop,
                logit_bias: None,
                logprobs: logs.then_some(true),
                top_logprobs: logs.then_some(3),
                n,
            };
            match dialect {
                Messages => Sampling {
                    top_p: top_p.filter(|_| temperature.is_none()),
                    presence_penalty: None,
                    frequency_penalty: None,
                    seed: None,
                    logprobs: None,
                    top_logprobs: None,
                    n: None,
                    ..all
                },
                Chat | Generate => all,
            }
        },
    )
}

fn output(dialect: Dialect) -> BoxedStrategy<OutputFormat> {
    let (word, strict) = match dialect {
        Chat => ("place", Some(false)),
        Messages => ("answer", Some(true)),
        Generate => ("response", None),
    };
    let follows = schema(dialect).prop_map(move |schema| OutputFormat::JsonSchema {
        name: word.into(),
        description: None,
        schema,
        strict,
    });
    match dialect {
        Messages => prop_oneof![Just(OutputFormat::Text), follows].boxed(),
        Chat | Generate => {
            prop_oneof![Just(OutputFormat::Text), Just(OutputFormat::JsonObject), follows].boxed()
        }
    }
}

/// A request that the dialect can say completely.
pub(super) fn request(dialect: Dialect) -> impl Strategy<Value = Request> {
    let tools = prop::collection::vec(tool(dialect), 0..3);
    let facts = (0..5u8, any::<bool>(), any::<bool>(), any::<bool>(), 2000..9000u64, option::of(name()));
    (messages(dialect), tools, sampling(dialect), output(dialect), facts).prop_map(
        move |(messages, tools, sampling, output, (choice, alone, thinks, stream, limit, user))| {
            let choice = tools.first().and_then(|tool| match choice {
                0 => None,
                1 => Some(ToolChoice::Auto),
                2 => Some(ToolChoice::None),
                3 => Some(ToolChoice::Required),
                _ => Some(ToolChoice::Named(tool.name.clone())),
            });
            let alone = alone && !tools.is_empty() && dialect != Generate && choice != Some(ToolChoice::None);
            // Anthropic says the one inside of the other.
            let choice = choice.or_else(|| (alone && dialect == Messages).then_some(ToolChoice::Auto));
            let forced = matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
            let thinks = thinks && !(forced && dialect == Messages);
            let reasoning = match dialect {
                _ if !thinks => None,
                Chat => Some(Reasoning { effort: Some("low".into()), ..Reasoning::default() }),
                Messages | Generate => Some(Reasoning { budget_tokens: Some(1500), ..Reasoning::default() }),
            };
            // Before Gemini 3, functions and JSON exclude each other.
            let output = match (dialect, tools.is_empty()) {
                (Generate, false) => OutputFormat::Text,
                _ => output,
            };
            let calm = Sampling { temperature: None, top_p: None, top_k: None, ..sampling.clone() };
            Request {
                model: dialect.model().into(),
                // Google says it in the path.
                stream,
                include_usage: stream || dialect != Chat,
                messages,
                tools,
                tool_choice: choice,
                parallel_tool_calls: alone.then_some(false),
                output,
                sampling: if thinks && dialect == Messages { calm } else { sampling },
                max_output_tokens: Some(limit),
                reasoning,
                user: user.filter(|_| dialect != Generate),
                metadata: Object::new(),
                rest: Object::new(),
            }
        },
    )
}

fn finish(dialect: Dialect, calls: bool, kind: u8) -> Finish {
    let (reason, raw, stop_sequence) = match (dialect, kind) {
        (Chat, 0) if calls => (FinishReason::ToolCalls, "tool_calls", None),
        (Messages, 0) if calls => (FinishReason::ToolCalls, "tool_use", None),
        (Generate, 0) if calls => (FinishReason::ToolCalls, "STOP", None),
        (Chat, 1) => (FinishReason::Length, "length", None),
        (Messages, 1) => (FinishReason::Length, "max_tokens", None),
        (Generate, 1) => (FinishReason::Length, "MAX_TOKENS", None),
        (Chat, 2) => (FinishReason::ContentFilter, "content_filter", None),
        (Messages, 2) => (FinishReason::ContentFilter, "refusal", None),
        (Generate, 2) => (FinishReason::ContentFilter, "SAFETY", None),
        (Messages, 3) if !calls => (FinishReason::Stop, "stop_sequence", Some("END".to_owned())),
        (Messages, 4) => (FinishReason::Pause, "pause_turn", None),
        (Messages, 5) => (FinishReason::ContextExceeded, "model_context_window_exceeded", None),
        (Messages, _) if calls => (FinishReason::ToolCalls, "tool_use", None),
        (Generate, _) if calls => (FinishReason::ToolCalls, "STOP", None),
        (Chat, _) => (FinishReason::Stop, "stop", None),
        (Messages, _) => (FinishReason::Stop, "end_turn", None),
        (Generate, _) => (FinishReason::Stop, "STOP", None),
    };
    Finish { reason, raw: Some(raw.into()), stop_sequence }
}

fn usage(dialect: Dialect) -> impl Strategy<Value = Usage> {
    let n = || 0..500u64;
    (1..500u64, n(), n(), n(), 1..500u64, n()).prop_map(
        move |(input, read, write, long, output, reasoning)| {
            let write = if dialect == Messages { write } else { 0 };
            Usage {
                input,
                cached_read: read,
                cache_write: write,
                cache_write_long: long.min(write),
                output,
                reasoning: reasoning.min(output),
                ..Usage::default()
            }
        },
    )
}

/// An answer that the dialect can say completely.
pub(super) fn answer(dialect: Dialect) -> impl Strategy<Value = Answer> {
    let choice = (said(dialect, 0), any::<bool>(), 0..7u8);
    let choices = prop::collection::vec(choice, 1..if dialect == Messages { 2 } else { 3 });
    (choices, usage(dialect), "[a-z]{4}").prop_map(move |(choices, usage, id)| {
        let choice = |(index, (mut content, foreign, kind)): (usize, (Vec<Part>, bool, u8))| {
            if foreign && dialect == Messages {
                content.push(Part::Other(
                    json!({"type": "server_tool_use", "id": "s", "name": "n", "input": {"a": 1}}),
                ));
            }
            let calls = content.iter().any(|part| matches!(part, Part::ToolCall { .. }));
            Choice {
                index: u32::try_from(index).unwrap(),
                content,
                finish: Some(finish(dialect, calls, kind)),
                logprobs: None,
                rest: Object::new(),
            }
        };
        Answer {
            id: id.clone(),
            model: dialect.model().into(),
            created: if dialect == Chat { 1_700_000_000 } else { 0 },
            choices: choices.into_iter().enumerate().map(choice).collect(),
            usage: Some(usage),
            rest: Object::new(),
        }
    })
}
