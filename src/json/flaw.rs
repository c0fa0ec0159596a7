//! Why a body did not pass the gate, and where: kept small until it becomes a [`Fault`].

use crate::fault::{Fault, FaultKind};

/// Longest key shown in a path; a longer one is cut.
const MAX_KEY: usize = 48;
/// Longest path shown; a longer one loses its beginning.
const MAX_PATH: usize = 256;

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not JSON; the text says why.
    Invalid(&'static str),
    /// A key stands twice in one object.
    Duplicate,
    /// More than [`super::MAX_DEPTH`] levels.
    TooDeep,
    /// Valid JSON, but no object.
    NotObject,
}

/// One flaw, the first that the gate met.
#[derive(Debug)]
pub(super) struct Flaw {
    kind: Kind,
    at: usize,
    path: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Key(Box<str>),
    Index(usize),
}

impl Flaw {
    /// A flaw at a byte offset. Boxed, so that the gate's results stay one word.
    #[cold]
    pub(super) fn new(kind: Kind, at: usize) -> Box<Self> {
        Box::new(Self { kind, at, path: Vec::new() })
    }

    /// Says that the flaw lies below this key.
    #[cold]
    pub(super) fn below_key(mut self: Box<Self>, key: &str) -> Box<Self> {
        self.path.push(Step::Key(presentable(key)));
        self
    }

    /// Says that the flaw lies below this array element.
    #[cold]
    pub(super) fn below_index(mut self: Box<Self>, index: usize) -> Box<Self> {
        self.path.push(Step::Index(index));
        self
    }

    /// The fault for the client: where in `bytes`, never what.
    pub(super) fn into_fault(self, bytes: &[u8]) -> Fault {
        let place = place(bytes, self.at);
        let path = self.path();
        let (message, code) = match self.kind {
            Kind::Invalid(why) => (format!("invalid JSON at {place}: {why}"), "json_invalid"),
            Kind::Duplicate => (format!("duplicate key `{path}` at {place}"), "json_duplicate_key"),
            Kind::TooDeep => (
                format!("JSON is nested deeper than {} levels at {place}", super::MAX_DEPTH),
                "json_too_deep",
            ),
            Kind::NotObject => ("the request body must be a JSON object".to_owned(), "json_not_object"),
        };
        let fault = Fault::new(FaultKind::BadRequest, message).code(code);
        if self.kind == Kind::Duplicate { fault.at(path) } else { fault }
    }

    fn path(&self) -> String {
        let mut text = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Key(key) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(key);
                }
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        let excess = text.chars().count().saturating_sub(MAX_PATH);
        if excess > 0 { text.chars().skip(excess).collect() } else { text }
    }
}

/// A key as it may stand in a message: short, and without characters that disturb a terminal or a log.
fn presentable(key: &str) -> Box<str> {
    key.chars().take(MAX_KEY).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>().into()
}

fn place(bytes: &[u8], at: usize) -> String {
    let before = bytes.get(..at).unwrap_or(bytes);
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = at - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1) + 1;
    format!("line {line}, column {column} (byte {at})")
}
