//! Everything that policies can say, in one table: it feeds the script engine, the checks at load and the manual.
//!
//! `Add a policy function` = one record here.

use std::sync::Arc;

use rhai::{Array, Dynamic, Engine, EvalAltResult, NativeCallContext};

use super::engine::Host;
use super::journal::Level;
use super::request::{Headers, Metadata, Outcome, Request, Tags, fault, kind};
use super::verdict::{Rejection, Response, Route};
use crate::plan;

/// One word of the vocabulary.
pub struct Entry {
    /// Where it belongs in the manual.
    pub group: Group,
    /// The bare name.
    pub name: &'static str,
    /// How it is written, with what it gives.
    pub signature: &'static str,
    /// What it means, in Markdown.
    pub doc: &'static str,
    register: fn(&mut Engine, &Arc<Host>),
}

/// The manual's sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// `req.model`.
    Property,
    /// `req.tag(…)`.
    Method,
    /// `route(…)`.
    Verdict,
    /// `.then(…)`.
    Chained,
    /// `next_target()`.
    Reaction,
    /// `err.kind`.
    Failed,
    /// `res.target`.
    Answered,
    /// `out.ok`.
    Completed,
    /// `res.target.name`.
    Target,
    /// `plugin("name")`.
    Plugin,
    /// `plugin("name").classify(…)`.
    PluginMethod,
    /// `state.get(…)`.
    StateMethod,
    /// `metric("name").add(…)`.
    MetricMethod,
    /// `bucket(…)`, `info(…)`.
    Function,
}

/// All words.
pub fn vocabulary() -> impl Iterator<Item = &'static Entry> {
    VOCABULARY.iter().chain(hooks::WORDS)
}

/// The reference section of the manual.
pub fn reference() -> String {
    let mut out = String::new();
    for (group, title) in [
        (Group::Property, "What a request knows"),
        (Group::Method, "What can be asked of a request"),
        (Group::Verdict, "Verdicts"),
        (Group::Chained, "What can be added to a verdict"),
        (Group::Reaction, "What `on_error` can return"),
        (Group::Failed, "What `err` knows"),
        (Group::Answered, "What `res` knows"),
        (Group::Completed, "What `out` knows"),
        (Group::Target, "What a target knows"),
        (Group::Plugin, "Plugins"),
        (Group::PluginMethod, "What can be asked of a plugin"),
        (Group::StateMethod, "What is kept between requests"),
        (Group::MetricMethod, "What can be told to a metric"),
        (Group::Function, "Other functions"),
    ] {
        out.push_str(&format!("### {title}\n\n| Written | Meaning |\n|---|---|\n"));
        for entry in vocabulary().filter(|entry| entry.group == group) {
            let signature = entry.signature.replace('|', "\\|");
            out.push_str(&format!("| `{signature}` | {} |\n", entry.doc.replace('|', "\\|")));
        }
        out.push('\n');
    }
    out
}

/// Registers all words.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    engine
        .register_type_with_name::<Request>("Request")
        .register_type_with_name::<Headers>("Headers")
        .register_type_with_name::<Metadata>("Metadata")
        .register_type_with_name::<Tags>("Tags")
        .register_type_with_name::<Route>("Route")
        .register_type_with_name::<Response>("Response")
        .register_type_with_name::<Rejection>("Rejection");
    for entry in vocabulary() {
        (entry.register)(engine, host);
    }
}

/// Entries of this name.
pub(super) fn named(name: &str) -> impl Iterator<Item = &'static Entry> {
    vocabulary().filter(move |entry| entry.name == name && !entry.is_property())
}

/// Names of properties of a request.
pub(super) fn properties() -> impl Iterator<Item = &'static str> {
    properties_of(Group::Property)
}

/// Names of properties of one kind of value.
pub(super) fn properties_of(group: Group) -> impl Iterator<Item = &'static str> {
    vocabulary().filter(move |entry| entry.group == group).map(|entry| entry.name)
}

/// The name of the property at this place among the properties.
pub(super) fn property(place: usize) -> Option<&'static str> {
    properties().nth(place)
}

/// The place of a property among the properties.
fn place(name: &str) -> usize {
    properties().position(|known| known == name).unwrap_or(usize::MAX)
}

/// Names of functions and methods.
pub(super) fn function_names<'a>() -> impl Iterator<Item = &'a str> {
    vocabulary().filter(|entry| !entry.is_property()).map(|entry| entry.name)
}

impl Entry {
    /// Whether it is written without parentheses.
    fn is_property(&self) -> bool {
        use Group::{Answered, Completed, Failed, Property, Target};
        matches!(self.group, Property | Failed | Answered | Completed | Target)
    }

    /// Number of arguments, without the value before the dot; `None` for properties.
    pub(super) fn arguments(&self) -> Option<usize> {
        let call = &self.signature[self.signature.find('(')?..];
        // A signature's arguments are separated by commas outside of brackets.
        let mut depth = 0_usize;
        let mut arguments = 0;
        for c in call.chars() {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 1 => arguments += 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        Some(if call.starts_with("()") { 0 } else { arguments + 1 })
    }

    /// Whether it stands behind a dot.
    pub(super) fn is_method(&self) -> bool {
        use Group::{Chained, Method, MetricMethod, PluginMethod, StateMethod};
        matches!(self.group, Method | Chained | PluginMethod | StateMethod | MetricMethod)
    }
}

macro_rules! getter {
    ($name:literal, $kind:literal, $getter:path, $doc:literal) => {
        Entry {
            group: Group::Property,
            name: $name,
            signature: concat!("req.", $name, " → ", $kind),
            doc: $doc,
            register: |engine, _| {
                let place = place($name);
                engine.register_get($name, move |request: &mut Request| {
                    request.saw(place);
                    $getter(request)
                });
            },
        }
    };
}

macro_rules! index {
    ($name:literal, $example:literal, $getter:path, $type:ty, $doc:literal) => {
        Entry {
            group: Group::Property,
            name: $name,
            signature: concat!("req.", $name, "[\"", $example, "\"] → text or ()"),
            doc: $doc,
            register: |engine, _| {
                engine
                    .register_get($name, $getter)
                    .register_indexer_get(<$type>::entry)
                    .register_fn("contains", <$type>::has);
            },
        }
    };
}

macro_rules! words {
    ($group:ident; $name:literal, $signature:expr, $doc:literal, |$engine:ident, $host:ident| $register:expr) => {
        Entry {
            group: Group::$group,
            name: $name,
            signature: $signature,
            doc: $doc,
            register: |$engine, $host| {
                $register;
            },
        }
    };
}

macro_rules! log {
    ($name:literal, $level:ident, $doc:literal) => {
        words!(Function; $name, concat!($name, "(text)"), $doc, |engine, host| {
            let host = Arc::clone(host);
            engine.register_fn($name, move |context: NativeCallContext<'_>, text: Dynamic| {
                host.journal.say(Level::$level, &context, &text.to_string());
            })
        })
    };
}

// Behind the macros that it uses.
mod hooks;

const VOCABULARY: &[Entry] = &[
    getter!("model", "text", Request::model, "The model name as the client wrote it."),
    getter!(
        "endpoint",
        "text",
        Request::endpoint,
        "The operation: `\"chat\"`, `\"embeddings\"`, `\"realtime\"`, `\"passthrough\"` and so on."
    ),
    getter!("stream", "true/false", Request::stream, "Whether the client wants a stream."),
    getter!(
        "user",
        "text or ()",
        Request::user,
        "The user: of the key, else the body's `user` or `safety_identifier`."
    ),
    getter!("team", "text or ()", Request::team, "The team that the client's key belongs to."),
    getter!("key_id", "text or ()", Request::key_id, "The public id of the client's key."),
    getter!("ip", "text or ()", Request::ip, "The client's address."),
    getter!(
        "tokens",
        "number",
        Request::tokens,
        "Estimated tokens of the prompt: bytes of text divided by four."
    ),
    getter!("max_tokens", "number or ()", Request::max_tokens, "The output limit that the client gave."),
    getter!("messages", "number", Request::messages, "How many messages (chat) or inputs (embeddings)."),
    getter!("has_tools", "true/false", Request::has_tools, "Whether the model is offered tools."),
    getter!("tools", "list of texts", Request::tools, "Names of the tools: `\"search\" in req.tools`."),
    getter!("has_images", "true/false", Request::has_images, "Whether any message has an image."),
    getter!("has_audio", "true/false", Request::has_audio, "Whether any message has sound."),
    getter!("has_files", "true/false", Request::has_files, "Whether any message has a file."),
    getter!(
        "has_json_output",
        "true/false",
        Request::has_json_output,
        "Whether JSON or a JSON Schema is asked for (`response_format`)."
    ),
    getter!("text", "text", Request::text, "All text of all messages, joined by newlines."),
    getter!("system", "text", Request::system, "The text of system and developer messages."),
    getter!("last_user", "text", Request::last_user, "The text of the last user message."),
    getter!("words", "number", Request::words, "How many words the text has, counted outside of the script."),
    getter!("id", "text", Request::id, "The request's id, as in `x-request-id`."),
    index!(
        "headers",
        "x-tier",
        Request::headers,
        Headers,
        "A header of the client, in any case; without credentials and cookies. `\"x-tier\" in req.headers` asks whether it is there."
    ),
    index!(
        "metadata",
        "feature",
        Request::metadata,
        Metadata,
        "A value of the body's `metadata`: text as it is, anything else as JSON text."
    ),
    index!(
        "tags",
        "team",
        Request::tags,
        Tags,
        "A tag: of `x-tollgate-tags`, or put there by a policy; the last one wins."
    ),
    words!(Method; "field", "req.field(name) → number, text, true/false or ()",
        "Any other top-level field of the body, such as `temperature`; lists and objects come as JSON text.",
        |engine, _host| engine.register_fn("field", Request::field)),
    words!(Method; "tag", "req.tag(key, value)",
        "Puts a tag on the request: later policies, the access log and the decision record see it.",
        |engine, _host| engine.register_fn("tag", Request::tag)),
    words!(Method; "require", "req.require(what)",
    "Only such targets: a tag (`\"private\"`), a provider (`\"openai\"`), a target (`\"openai/gpt-4o\"`), labels (`#{ region: \"eu\" }`) or a list of these, all of which must hold. Holds for every later choice, fallbacks too; nothing takes it back.",
    |engine, host| {
        let host = Arc::clone(host);
        engine.register_fn("require", move |req: &mut Request, what: Dynamic| req.require(what, &host.names))
    }),
    words!(Method; "avoid", "req.avoid(what)",
    "No such targets; written like `require`.",
    |engine, host| {
        let host = Arc::clone(host);
        engine.register_fn("avoid", move |req: &mut Request, what: Dynamic| req.avoid(what, &host.names))
    }),
    words!(Method; "contains_any", "req.contains_any(texts) → true/false",
    "Whether any of these texts stands in the prompt, in upper or lower case. One pass, outside of the script.",
    |engine, host| {
        let host = Arc::clone(host);
        engine.register_fn("contains_any", move |req: &mut Request, texts: Array| {
            req.contains_any(&texts, &host.patterns)
        })
    }),
    words!(Method; "matches", "req.matches(regex) → true/false",
    "Whether the regular expression is found in the prompt. Compiled once; linear in time.",
    |engine, host| {
        let host = Arc::clone(host);
        engine.register_fn("matches", move |req: &mut Request, regex: &str| req.matches(regex, &host.patterns))
    }),
    words!(Verdict; "route", "route(target) → route",
    "Sends the request to a target (`\"provider/model\"`) or an alias of `models:`.",
    |engine, _host| engine.register_fn("route", |context: NativeCallContext<'_>, target: Dynamic| {
        Ok::<_, Box<EvalAltResult>>(Route::to(&target)?.at(&context))
    })),
    words!(Verdict; "split", "split([..] | #{ target: weight }) → route",
    "Draws one of several targets for each request: by equal or by given weights.",
    |engine, _host| engine.register_fn("split", |context: NativeCallContext<'_>, shares: Dynamic| {
        Ok::<_, Box<EvalAltResult>>(Route::split(&shares)?.at(&context))
    })),
    words!(Verdict; "reject", "reject(status, code, message) → rejection",
    "Refuses the request with this HTTP status (400 to 599), error code and message.",
    |engine, _host| engine.register_fn("reject", |context: NativeCallContext<'_>, status: Dynamic, code: Dynamic, message: Dynamic| {
        Ok::<_, Box<EvalAltResult>>(Rejection::new(&status, &code, &message)?.at(&context))
    })),
    words!(Chained; "then", ".then(target | split(..))",
        "What is tried when everything before failed. A stream falls back only before its first content.",
        |engine, _host| engine.register_fn("then", Route::then)),
    words!(Chained; "timeout", ".timeout(duration)",
        "Deadline of the whole request with all its attempts, such as `\"20s\"`.",
        |engine, _host| engine.register_fn("timeout", |route: Route, time: Dynamic| route.timeout(&time))),
    words!(Chained; "first_token", ".first_token(duration)",
        "Deadline of each attempt at a stream to its first content; then the next target is tried. A whole answer has no first content: `.timeout` bounds it.",
        |engine, _host| engine.register_fn("first_token", |route: Route, time: Dynamic| route.first_token(&time))),
    words!(Chained; "retries", ".retries(n)",
        "Further tries at the same target before the next one, 0 to 10.",
        |engine, _host| engine.register_fn("retries", |route: Route, tries: Dynamic| route.retries(&tries))),
    words!(Chained; "named", ".named(name)",
    "A name for this rule, in `x-tollgate-rule`, log and decision record. Also for `reject` and `respond`.",
    |engine, _host| {
        engine.register_fn("named", |response: Response, name: &str| response.named(name));
        engine.register_fn("named", |route: Route, name: &str| route.named(name));
        engine.register_fn("named", |rejection: Rejection, name: &str| rejection.named(name))
    }),
    words!(Chained; "tag", ".tag(key, value)",
    "Puts a tag on the request if this verdict is the one that counts. Also for `reject` and `respond`.",
    |engine, _host| {
        engine.register_fn("tag", |response: Response, key: &str, value: Dynamic| response.tag(key, &value));
        engine.register_fn("tag", |route: Route, key: &str, value: Dynamic| route.tag(key, &value));
        engine.register_fn("tag", |reject: Rejection, key: &str, value: Dynamic| reject.tag(key, &value))
    }),
    words!(Function; "bucket", "bucket(salt, id, n) → number",
        "The share of `id` among `0..n`: the same id always gets the same number, in every process and version; another salt shuffles anew. `()` as id means the client's address, and `n - 1` where there is none.",
        |engine, _host| engine.register_fn("bucket", bucket)),
    log!("info", Info, "Writes a line to the log, with file and line. `print` does the same."),
    log!("warn", Warn, "A warning in the log."),
    log!("error", Error, "An error in the log. It does not end the policy."),
];

fn bucket(context: NativeCallContext<'_>, salt: &str, id: Dynamic, n: Dynamic) -> Outcome<i64> {
    let shares = n
        .as_int()
        .map_err(|_| fault(format!("bucket: expected a whole number of shares, not {}", kind(&n))))?;
    let request =
        context.tag().and_then(Request::of).ok_or_else(|| fault("bucket: works only inside of a hook"))?;
    request.bucket(salt, &id, shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_tell_the_number_of_arguments() {
        let arguments = |name| named(name).map(|entry| entry.arguments()).collect::<Vec<_>>();
        assert_eq!(arguments("tag"), [Some(2), Some(2)]);
        assert_eq!(arguments("split"), [Some(1)]);
        assert_eq!(arguments("then"), [Some(1)]);
        assert_eq!(arguments("reject"), [Some(3)]);
    }

    /// `TOLLGATE_WRITE_DOCS=1 cargo test` rewrites the section.
    #[test]
    fn the_manual_has_every_word() {
        const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policies.md");
        const BEGIN: &str =
            "<!-- reference: written by a test from the table in src/policy/vocabulary.rs -->\n\n";
        const END: &str = "<!-- end of reference -->";
        let manual = std::fs::read_to_string(PATH).unwrap();
        let (before, rest) = manual.split_once(BEGIN).expect("the reference's beginning is marked");
        let (section, after) = rest.split_once(END).expect("the reference's end is marked");
        if section == reference() {
            return;
        }
        assert!(
            std::env::var_os("TOLLGATE_WRITE_DOCS").is_some(),
            "docs/policies.md is behind the vocabulary: run this test with TOLLGATE_WRITE_DOCS=1"
        );
        std::fs::write(PATH, format!("{before}{BEGIN}{}{END}{after}", reference())).unwrap();
    }
}
