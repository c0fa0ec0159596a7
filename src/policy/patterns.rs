//! Compiled text patterns of `req.matches` and `req.contains_any`: each compiled once per set of policies.

use std::collections::HashMap;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use arc_swap::ArcSwap;
use regex::{Regex, RegexBuilder};

/// Patterns that scripts make up while running are kept up to this number; beyond it they are compiled each time.
const KEPT: usize = 1_024;
/// A compiled pattern may take this many bytes.
const COMPILED_BYTES: usize = 1 << 20;

/// Up to so many words of up to so many bytes are searched for one by one.
const PLAIN_WORDS: usize = 16;
const PLAIN_BYTES: usize = 64;

/// The patterns of one generation. Reading takes no lock.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    /// Shared, not cloned: a clone begins without what a search has found out, at ten times its cost.
    expressions: Shelf<Arc<Regex>>,
    words: Shelf<Words>,
}

/// What was compiled, and what could not be: it would be tried again for each request.
type Shelf<T> = ArcSwap<HashMap<String, Result<T, Arc<str>>>>;

/// Words to be found in any case, however many.
#[derive(Debug, Clone)]
struct Words {
    found: AhoCorasick,
    /// Some are not ASCII: the text is looked at in lower case.
    fold: bool,
}

impl Patterns {
    /// The regular expression `pattern`, or what is wrong with it.
    pub(super) fn regex(&self, pattern: &str) -> Result<Arc<Regex>, String> {
        kept(&self.expressions, pattern, || {
            let built = RegexBuilder::new(pattern).size_limit(COMPILED_BYTES).build();
            built.map(Arc::new).map_err(|error| explain(&error))
        })
    }

    /// Whether any of `words` stands in `text`, in upper or lower case.
    pub(super) fn finds_any(&self, text: &str, words: &[&str]) -> Result<bool, String> {
        let plain = |word: &&str| word.is_ascii() && word.len() <= PLAIN_BYTES;
        if words.len() <= PLAIN_WORDS && words.iter().all(plain) {
            return Ok(words.iter().any(|word| finds(text.as_bytes(), word.as_bytes())));
        }
        let mut key = String::with_capacity(256);
        for word in words {
            key.push_str(word);
            key.push('\0');
        }
        let words = kept(&self.words, &key, || Words::of(words))?;
        Ok(words.stand_in(text))
    }
}

impl Words {
    fn of(words: &[&str]) -> Result<Self, String> {
        let fold = !words.iter().all(|word| word.is_ascii());
        let mut builder = AhoCorasickBuilder::new();
        builder.ascii_case_insensitive(!fold);
        let found = match fold {
            true => builder.build(words.iter().map(|word| word.to_lowercase())),
            false => builder.build(words),
        };
        Ok(Self { found: found.map_err(|error| error.to_string())?, fold })
    }

    fn stand_in(&self, text: &str) -> bool {
        if self.fold { self.found.is_match(&text.to_lowercase()) } else { self.found.is_match(text) }
    }
}

/// Looks for the word's rarest letter, which is ten times faster than an automaton over all letters.
fn finds(text: &[u8], word: &[u8]) -> bool {
    let rarest = word.iter().enumerate().max_by_key(|(_, byte)| rarity(**byte));
    let Some((offset, byte)) = rarest else { return true };
    memchr::memchr2_iter(byte.to_ascii_lowercase(), byte.to_ascii_uppercase(), text).any(|at| {
        let start = at.checked_sub(offset);
        let here = start.and_then(|start| text.get(start..start + word.len()));
        here.is_some_and(|here| here.eq_ignore_ascii_case(word))
    })
}

/// How rare a byte is in prose, roughly.
fn rarity(byte: u8) -> usize {
    const COMMON_FIRST: &[u8] = b" etaoinshrdlucmfwypvbgk";
    COMMON_FIRST.iter().position(|common| *common == byte.to_ascii_lowercase()).unwrap_or(COMMON_FIRST.len())
}

fn kept<T: Clone>(
    shelf: &Shelf<T>,
    key: &str,
    make: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    if let Some(found) = shelf.load().get(key) {
        return found.clone().map_err(|problem| problem.to_string());
    }
    let made = make().map_err(Arc::<str>::from);
    shelf.rcu(|kept| {
        if kept.len() >= KEPT {
            return Arc::clone(kept);
        }
        let mut more = HashMap::clone(kept);
        more.insert(key.to_owned(), made.clone());
        Arc::new(more)
    });
    made.map_err(|problem| problem.to_string())
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
            ("pro", &["prove"], false),
            ("ove", &["prove"], false),
            ("x", &[""], true),
        ] {
            assert_eq!(patterns.finds_any(text, words).unwrap(), found, "{words:?} in {text:?}");
            // Many words take the other road and must come to the same end.
            let mut many = vec!["never there"; 20];
            many.extend(words);
            assert_eq!(patterns.finds_any(text, &many).unwrap(), found, "{words:?} in {text:?}");
        }
    }

    #[test]
    fn lists_may_be_as_long_as_lists_can_be() {
        let patterns = Patterns::default();
        let mut words: Vec<_> = (0..10_000).map(|n| format!("unheard{n:05}")).collect();
        for strange in [None, Some("größe")] {
            words.extend(strange.map(str::to_owned));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert!(!patterns.finds_any("never heard of 12345", &words).unwrap());
            assert!(patterns.finds_any("here is UNHEARD09999.", &words).unwrap());
            assert_eq!(patterns.finds_any("jede GRÖSSE, jede GRÖßE", &words).unwrap(), strange.is_some());
        }
    }

    #[test]
    fn an_expression_is_the_same_each_time() {
        let patterns = Patterns::default();
        let first = patterns.regex("a+b").unwrap();
        assert!(Arc::ptr_eq(&first, &patterns.regex("a+b").unwrap()));
        assert!(first.is_match("caab") && !first.is_match("ba"));
    }

    #[test]
    fn a_bad_expression_is_explained_in_one_line() {
        let patterns = Patterns::default();
        for _ in 0..2 {
            assert_eq!(patterns.regex("(a").unwrap_err(), "unclosed group");
        }
    }
}
