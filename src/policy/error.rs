//! What is wrong with a policy: errors found while loading, and errors of one run.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhai::{EvalAltResult, LexError, ParseError, ParseErrorType, Position};

use super::language::FUNCTIONS;
use super::slips;
use super::suggest::hint;
use super::vocabulary;

/// An error in a policy file, found while loading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong: lowercase, without a full stop.
    pub message: String,
}

/// A policy failed while it ran on one request. Never shown to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeError {
    /// The policy's name: its file's name without `.rhai`.
    pub policy: Arc<str>,
    /// The file in which it happened: the policy's own, or one below `lib/`.
    pub file: Arc<Path>,
    /// What went wrong: lowercase, without a full stop.
    pub message: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.message)
    }
}

impl std::error::Error for PolicyError {}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.message)
    }
}

impl std::error::Error for RuntimeError {}

impl PolicyError {
    /// An error at `at`; without a place it stands at the file's beginning.
    pub(super) fn new(file: &Path, at: Position, message: impl Into<String>) -> Self {
        let (line, column) = place(at);
        Self { file: file.to_owned(), line: line.max(1), column: column.max(1), message: message.into() }
    }

    /// A syntax error in `text`. `words` are the names that a mistyped variable may have meant.
    pub(super) fn syntax(file: &Path, text: &str, error: &ParseError, words: &[&str]) -> Self {
        if let Some(advice) = slips::advice(error, text) {
            return Self::new(file, error.position(), advice);
        }
        let message = match error.err_type() {
            ParseErrorType::VariableUndefined(name) => {
                format!("unknown variable `{name}`{}", hint(name, words.iter().copied()))
            }
            ParseErrorType::ModuleUndefined(name) => {
                format!(
                    "unknown module `{name}`: write `import \"{name}\" as {name};` at the top of the file"
                )
            }
            ParseErrorType::Reserved(word) | ParseErrorType::BadInput(LexError::ImproperSymbol(word, _))
                if super::engine::FORBIDDEN.contains(&word.as_str()) =>
            {
                format!("`{word}` is not available in policies")
            }
            ParseErrorType::Reserved(word) => format!("`{word}` is a reserved word"),
            other => lowercase(&other.to_string()),
        };
        Self::new(file, error.position(), message)
    }
}

/// Where and why a run failed.
pub(super) struct Failure {
    /// Name of the source in which it happened, when it is not the policy itself.
    pub(super) source: Option<String>,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) message: String,
}

/// The innermost error of a run: the place where it happened, not the calls that led there.
pub(super) fn failure(error: &EvalAltResult) -> Failure {
    let (mut error, mut source, mut at) = (error, None, Position::NONE);
    loop {
        if !error.position().is_none() {
            at = error.position();
        }
        match error {
            EvalAltResult::ErrorInFunctionCall(_, within, inner, _) => {
                source = (!within.is_empty()).then(|| within.clone());
                error = inner;
            }
            EvalAltResult::ErrorInModule(_, inner, _) => error = inner,
            _ => break,
        }
    }
    let (line, column) = place(at);
    Failure { source, line, column, message: explain(error) }
}

fn explain(error: &EvalAltResult) -> String {
    match error {
        EvalAltResult::ErrorFunctionNotFound(signature, _) => unknown_function(signature),
        EvalAltResult::ErrorDotExpr(text, _) => unknown_property(text),
        EvalAltResult::ErrorTooManyOperations(_) => {
            "stopped: too many operations (`max_operations`); an endless loop?".into()
        }
        EvalAltResult::ErrorTerminated(..) => "stopped: too slow (`deadline`); an endless loop?".into(),
        EvalAltResult::ErrorStackOverflow(_) => {
            "stopped: calls are nested too deeply; an endless recursion?".into()
        }
        EvalAltResult::ErrorDataTooLarge(what, _) if what.contains("string") => {
            "stopped: a text larger than 8 MiB; look at long prompts with `req.contains_any`, `req.matches` and `req.words`".into()
        }
        EvalAltResult::ErrorDataTooLarge(..) => "stopped: a list or map with more than 10,000 elements".into(),
        EvalAltResult::ErrorRuntime(thrown, _) => thrown.to_string(),
        EvalAltResult::ErrorMismatchDataType(wanted, given, _)
        | EvalAltResult::ErrorMismatchOutputType(wanted, given, _) => {
            let missing = if given == "()" { MISSING } else { "" };
            format!("expected {}, not {}{missing}", called(wanted), called(given))
        }
        EvalAltResult::ErrorIndexingType(types, _) => {
            let (of, key) = types.split_once(" [").unwrap_or((types, ""));
            match key.split_once("] = ") {
                Some(_) => format!("an entry of {} cannot be changed", called(of)),
                None if of == "()" => format!("an entry of `()`{MISSING}"),
                None => format!("{} has no entries by {}", called(of), called(key.trim_end_matches(']'))),
            }
        }
        EvalAltResult::ErrorFor(_) => {
            "`for` goes through lists: of a table or map, take `.keys()` or `.values()`".into()
        }
        other => {
            // The library ends its texts with the place, which we give ourselves.
            let text = other.to_string();
            let place = format!(" ({})", other.position());
            lowercase(text.strip_suffix(&place).unwrap_or(&text))
        }
    }
}

/// Said of `()` where something else is wanted: it is what a request does not have.
const MISSING: &str =
    ": what is missing is `()`; ask `x == ()` first, give a default (`x ?? \"none\"`), or write `x?.…`";

/// `timeout (Route, Request)` → which function it is and how it is meant.
fn unknown_function(signature: &str) -> String {
    let signature = signature.strip_prefix("__").unwrap_or(signature);
    let name = signature.split([' ', '(']).next().unwrap_or_default();
    // `(())`, `(Headers, &str | ImmutableString | String)`.
    let given = signature[name.len()..].trim_start();
    let given = given.strip_prefix('(').and_then(|given| given.strip_suffix(')')).unwrap_or_default();
    let first = given.split([',', ' ']).next().unwrap_or_default();
    let missing = if first == "()" { MISSING } else { "" };
    // A method of something else is not meant.
    let fits = |entry: &&vocabulary::Entry| entry.on.is_none_or(|on| on.name == first);
    let meant: Vec<_> =
        vocabulary::named(name).filter(fits).map(|entry| format!("`{}`", entry.row.signature)).collect();
    if !meant.is_empty() {
        return format!("no function `{signature}`; it is written {}{missing}", meant.join(" or "));
    }
    if !missing.is_empty() {
        return format!("`{name}` of `()`{missing}");
    }
    let is_known = vocabulary::named(name).next().is_some() || FUNCTIONS.contains(&name);
    if is_known && !first.is_empty() {
        return format!("no function `{name}` for {}", called(first));
    }
    format!("no function `{signature}`{}", hint(name, vocabulary::function_names()))
}

/// A type of the library in the words of the manual.
fn called(library: &str) -> Cow<'_, str> {
    match library {
        "bool" => "true or false".into(),
        "i64" => "a number".into(),
        "f64" => "a decimal number".into(),
        "string" | "&str" => "a text".into(),
        "array" => "a list".into(),
        "map" => "a map".into(),
        "()" => "`()`".into(),
        // Types of the gateway's that have no name here come by their path.
        path => {
            let name = path.rsplit("::").next().unwrap_or(path);
            vocabulary::Kind::named(name).map_or_else(|| format!("`{name}`").into(), |kind| kind.noun.into())
        }
    }
}

/// The library's text names the property in quotes.
fn unknown_property(text: &str) -> String {
    let Some(name) = text.strip_prefix("Unknown property '").and_then(|rest| rest.split('\'').next()) else {
        return lowercase(text);
    };
    let kind = text.rsplit('\'').nth(1).and_then(vocabulary::Kind::named);
    if text.ends_with("'()'") {
        return format!("property `{name}` of `()`{MISSING}");
    }
    if let Some(kind) = kind {
        let all = vocabulary::of(kind).map(|entry| entry.name);
        return format!("unknown property `{name}` of {}{}", kind.noun, hint(name, all));
    }
    match text.rsplit('\'').nth(1) {
        Some(kind) if text.contains("getter") => format!("unknown property `{name}` of {}", called(kind)),
        _ => lowercase(text),
    }
}

/// Line and column; 0 where there is none.
pub(super) fn place(at: Position) -> (u32, u32) {
    let number = |n: Option<usize>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    (number(at.line()), number(at.position()))
}

/// The house's errors begin lowercase; words in capitals stay.
fn lowercase(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            let mut out: String = first.to_lowercase().collect();
            out.push_str(&text[first.len_utf8()..]);
            out
        }
        _ => text.to_owned(),
    }
}
