//! Compiled text patterns of `req.matches` and `req.contains_any`: each compiled once per set of policies.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use regex::{Regex, RegexBuilder};

/// Patterns that scripts make up while running are kept up to this number; beyond it they are compiled each time.
const KEPT: usize = 1_024;
/// A compiled pattern may take this many bytes.
const COMPILED_BYTES: usize = 1 << 20;

/// The patterns of one generation. Reading takes no lock.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    expressions: Shelf,
    words: Shelf,
}

type Shelf = ArcSwap<HashMap<String, Regex>>;

impl Patterns {
    /// The regular expression `pattern`, or what is wrong with it.
    pub(super) fn regex(&self, pattern: &str) -> Result<Regex, String> {
        kept(&self.expressions, pattern, || pattern.to_owned())
    }

    /// An expression that finds any of `words`, in upper or lower case.
    pub(super) fn any_of<'a>(&self, words: impl Iterator<Item = &'a str>) -> Result<Regex, String> {
        let mut key = String::with_capacity(64);
        for word in words {
            key.push_str(word);
            key.push('\0');
        }
        kept(&self.words, &key, || {
            let words: Vec<_> = key.split_terminator('\0').map(alternative).collect();
            if words.is_empty() { "[^\\s\\S]".to_owned() } else { words.join("|") }
        })
    }
}

fn kept(shelf: &Shelf, key: &str, pattern: impl FnOnce() -> String) -> Result<Regex, String> {
    if let Some(found) = shelf.load().get(key) {
        return Ok(found.clone());
    }
    let made = RegexBuilder::new(&pattern()).size_limit(COMPILED_BYTES).build().map_err(|e| explain(&e))?;
    shelf.rcu(|kept| {
        if kept.len() >= KEPT {
            return Arc::clone(kept);
        }
        let mut more = HashMap::clone(kept);
        more.insert(key.to_owned(), made.clone());
        Arc::new(more)
    });
    Ok(made)
}

/// Without Unicode's exotic case pairs the search for plain words is twice as fast.
fn alternative(word: &str) -> String {
    format!("(?i{}:{})", if word.is_ascii() { "-u" } else { "" }, regex::escape(word))
}

/// The last line of the library's drawing says what is wrong; the others repeat the pattern.
fn explain(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_any_case_and_taken_literally() {
        let patterns = Patterns::default();
        for (text, words, found) in [
            ("please PROVE it", &["step by step", "prove"][..], true),
            ("a+b", &["a+b"], true),
            ("aab", &["a+b"], false),
            ("ÜBER alles", &["über"], true),
            ("```rust", &["```"], true),
            ("anything", &[], false),
            ("<x>", &["<X>"], true),
        ] {
            let regex = patterns.any_of(words.iter().copied()).unwrap();
            assert_eq!(regex.is_match(text), found, "{words:?} in {text:?}");
        }
    }

    #[test]
    fn a_bad_expression_is_explained_in_one_line() {
        assert_eq!(Patterns::default().regex("(a").unwrap_err(), "unclosed group");
    }
}
