//! A script that Redis runs as one step.

use ::redis::{Cmd, cmd};

/// A script. Redis is asked for it by its hash; where it does not know it, the text goes along once.
pub struct Script {
    text: &'static str,
    hash: String,
}

/// Something that a script is told.
#[derive(Debug, Clone)]
pub enum Arg {
    /// A whole number.
    Number(u64),
    /// Another number.
    Real(f64),
    /// Text.
    Text(String),
}

impl Script {
    /// A script of this text.
    pub fn new(text: &'static str) -> Self {
        Self { text, hash: ::redis::Script::new(text).get_hash().to_owned() }
    }

    pub(super) fn by_hash(&self, keys: &[String], args: &[Arg]) -> Cmd {
        told("EVALSHA", &self.hash, keys, args)
    }

    pub(super) fn by_text(&self, keys: &[String], args: &[Arg]) -> Cmd {
        told("EVAL", self.text, keys, args)
    }
}

fn told(word: &str, script: &str, keys: &[String], args: &[Arg]) -> Cmd {
    let mut command = cmd(word);
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(key);
    }
    for arg in args {
        match arg {
            Arg::Number(number) => command.arg(*number),
            Arg::Real(number) => command.arg(format!("{number:.3}")),
            Arg::Text(text) => command.arg(text),
        };
    }
    command
}

impl From<u64> for Arg {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<f64> for Arg {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
