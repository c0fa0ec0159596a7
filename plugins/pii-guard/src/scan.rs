//! Finds places: in a whole text, and in a window of a stream as far as nothing that comes can change them.

use std::sync::{Mutex, PoisonError};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};
use tollgate_plugin::Finding;

use crate::config::{Config, Own};
use crate::kinds::{BUILT_IN, Kind};

/// The longest match that a pattern may have, in bytes: so much a stream may be held back.
const LONGEST: usize = 512;

/// All patterns, as one expression that finds, and as one automaton that tells where something may still grow.
#[derive(Debug)]
pub struct Scanner {
    patterns: Vec<Pattern>,
    find: Regex,
    grow: DFA,
    cache: Mutex<Cache>,
    /// No match is longer, in bytes.
    longest: usize,
}

#[derive(Debug)]
struct Pattern {
    kind: String,
    regex: String,
    check: Option<fn(&str) -> bool>,
    score: f32,
    replacement: Option<String>,
    example: Option<String>,
}

/// Where something was found, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub kind: &'a str,
    pub start: usize,
    pub end: usize,
    score: f32,
    replacement: Option<&'a str>,
}

impl Place<'_> {
    /// As the host wants it told.
    pub fn finding(&self, segment: u32) -> Finding {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Finding {
            segment,
            start: offset(self.start),
            end: offset(self.end),
            kind: self.kind.to_owned(),
            score: self.score,
            replacement: self.replacement.map(str::to_owned),
        }
    }
}

impl Scanner {
    /// Compiles what the configuration asks for.
    ///
    /// # Errors
    /// A kind that there is not, a pattern that is none or that has no longest match.
    pub fn new(config: &Config) -> Result<Self, String> {
        let own = config.patterns.iter().map(Pattern::own);
        let built_in = config.kinds.iter().map(|name| Pattern::built_in(name));
        let patterns: Vec<Pattern> = own.chain(built_in).collect::<Result<_, _>>()?;
        if patterns.is_empty() {
            return Err("kinds: there is nothing to look for".to_owned());
        }
        let mut longest = 0;
        for pattern in &patterns {
            longest = longest.max(longest_match(pattern)?);
        }
        let expressions: Vec<&str> = patterns.iter().map(|pattern| pattern.regex.as_str()).collect();
        let find = Regex::new_many(&expressions).map_err(|error| format!("patterns: {error}"))?;
        let grow = DFA::builder()
            .configure(DFA::config().match_kind(MatchKind::All).unicode_word_boundary(true))
            .syntax(syntax::Config::new())
            .build_many(&expressions)
            .map_err(|error| format!("patterns: {error}"))?;
        let cache = Mutex::new(grow.create_cache());
        Ok(Scanner { patterns, find, grow, cache, longest })
    }

    /// Runs every pattern once, so that what is built on the way is in the memory that later instances start with.
    pub fn warm(&self) {
        let examples: Vec<&str> = self.examples().map(|(_, example)| example).collect();
        let text = format!("Some words, 12 or 345, before: {}; and after. Äh?", examples.join(" / "));
        self.scan(&text, |_| ());
        self.scan_window("", &text, false);
    }

    /// A text for each kind that has one.
    pub fn examples(&self) -> impl Iterator<Item = (&str, &str)> {
        self.patterns.iter().filter_map(|pattern| Some((pattern.kind.as_str(), pattern.example.as_deref()?)))
    }

    /// Gives every place of a text, from left to right.
    pub fn scan<'a>(&'a self, text: &str, mut found: impl FnMut(Place<'a>)) {
        self.scan_from(text, 0, &mut found);
    }

    /// The places of a window, and how much of it is final: what stands left of it will be found so whatever comes.
    pub fn scan_window<'a>(&'a self, before: &str, text: &str, last: bool) -> (Vec<Place<'a>>, usize) {
        let whole = [before, text].concat();
        let mut places = Vec::new();
        self.scan_from(&whole, before.len(), &mut |place: Place<'a>| {
            places.push(Place { start: place.start - before.len(), end: place.end - before.len(), ..place });
        });
        let safe = if last { text.len() } else { self.final_until(&whole, before.len()) - before.len() };
        (places, safe)
    }

    fn scan_from<'a>(&'a self, text: &str, mut at: usize, found: &mut impl FnMut(Place<'a>)) {
        while let Some(hit) = self.find.search(&Input::new(text).range(at..)) {
            let Some(pattern) = self.patterns.get(hit.pattern().as_usize()) else { return };
            let right = text.get(hit.range()).is_some_and(|hit| pattern.check.is_none_or(|check| check(hit)));
            if right && !hit.is_empty() {
                found(pattern.place(hit.start(), hit.end()));
                at = hit.end();
            } else {
                at = next_character(text, hit.start());
            }
        }
    }

    /// The first place from which some pattern could still match, or match more, with text that is to come.
    fn final_until(&self, text: &str, from: usize) -> usize {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        // A longer match there is none, and a boundary looks one character further.
        let mut at = text.floor_char_boundary(from.max(text.len().saturating_sub(self.longest + 4)));
        while at < text.len() && !self.grows(&mut cache, text, at) {
            at = next_character(text, at);
        }
        at
    }

    /// Whether a pattern that begins here is still undecided at the end of the text.
    fn grows(&self, cache: &mut Cache, text: &str, at: usize) -> bool {
        let input = Input::new(text).range(at..).anchored(Anchored::Yes);
        let Ok(mut state) = self.grow.start_state_forward(cache, &input) else { return true };
        for byte in &text.as_bytes()[at..] {
            match self.grow.next_state(cache, state, *byte) {
                Ok(next) if next.is_dead() => return false,
                Ok(next) if next.is_quit() => return true,
                Ok(next) => state = next,
                Err(_) => return true,
            }
        }
        true
    }
}

impl Pattern {
    fn built_in(name: &str) -> Result<Self, String> {
        let Some(kind) = BUILT_IN.iter().find(|kind| kind.name == name) else {
            let known: Vec<&str> = BUILT_IN.iter().map(|kind| kind.name).collect();
            return Err(format!("kinds: there is no {name:?}; there are {}", known.join(", ")));
        };
        let Kind { name, regex, check, score, example } = kind;
        Ok(Pattern {
            kind: (*name).to_owned(),
            regex: (*regex).to_owned(),
            check: *check,
            score: *score,
            replacement: None,
            example: Some((*example).to_owned()),
        })
    }

    fn own(own: &Own) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if own.kind.is_empty() || !own.kind.chars().all(plain) {
            return Err(format!("patterns: kind {:?} must be of a-z, 0-9, - and _", own.kind));
        }
        Ok(Pattern {
            kind: own.kind.clone(),
            regex: own.regex.clone(),
            check: None,
            score: 1.0,
            replacement: own.replacement.clone(),
            example: own.example.clone(),
        })
    }

    fn place(&self, start: usize, end: usize) -> Place<'_> {
        Place { kind: &self.kind, start, end, score: self.score, replacement: self.replacement.as_deref() }
    }
}

/// How long a match of this pattern can be.
fn longest_match(pattern: &Pattern) -> Result<usize, String> {
    let Pattern { kind, regex, .. } = pattern;
    let hir = syntax::parse(regex).map_err(|error| format!("patterns: kind {kind}: {error}"))?;
    match (hir.properties().minimum_len(), hir.properties().maximum_len()) {
        (Some(1..), Some(longest)) if longest <= LONGEST => Ok(longest),
        (Some(0), _) => Err(format!("patterns: kind {kind}: it matches where there is nothing")),
        (_, Some(longest)) => {
            Err(format!("patterns: kind {kind}: a match may have {longest} bytes, {LONGEST} at most"))
        }
        (_, None) => Err(format!(
            "patterns: kind {kind}: a match has no longest: write {{1,64}} for +, {{0,64}} for *"
        )),
    }
}

/// Where the next character begins.
fn next_character(text: &str, at: usize) -> usize {
    at + text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
}
