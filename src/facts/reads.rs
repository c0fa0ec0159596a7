//! What policies read of a request, so that a decision can be explained, and another policy be asked the same.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Between the words of a list in [`Asked::of`]: a character that no word has.
pub const BETWEEN: char = '\u{1f}';

/// Questions that are noted of one request; a script that asks more in a loop is not followed further.
const MOST: usize = 256;
/// Bytes of a question or answer that are kept; of a longer question its hash is, a longer answer is not noted.
const LONGEST: usize = 4_096;
/// Characters of a question that people are shown.
const SHOWN: usize = 200;
/// Questions that are asked with a list of words.
pub(super) const LISTS: [&str; 2] = ["contains_any", "starts_with_any"];

/// What policies asked, in the order of the first time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reads {
    /// Names of the plain properties: `model`, `tokens`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Cow<'static, str>>,
    /// Questions with a parameter, and their answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Asked>,
    /// More was asked than is noted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// One question with a parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The word of the vocabulary: `contains_any`, `matches`, `header`, `metadata`, `field`, `tag`.
    pub ask: Cow<'static, str>,
    /// What about: a name, an expression, or words with [`BETWEEN`] them; `blake3:` and the hash of what is long.
    #[serde(serialize_with = "list_or_text", deserialize_with = "joined")]
    pub of: Box<str>,
    /// What came of it.
    pub answer: Answer,
}

/// An answer as it is noted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// Yes or no.
    Truth(bool),
    /// A whole number.
    Whole(i64),
    /// A number.
    Number(f64),
    /// A text: of a header, of metadata, of a field's JSON.
    Text(Box<str>),
    /// There is none.
    Nothing,
}

/// Takes down what one request's policies read: a bit for a property, an entry for a question.
#[derive(Debug, Default)]
pub struct Asking {
    facts: [AtomicU64; 2],
    asked: Mutex<Vec<Asked>>,
    /// An answer was too long to be noted.
    cut: AtomicBool,
}

impl Asking {
    /// The property with this place in the table of properties was read.
    pub fn saw(&self, place: usize) {
        let Some(word) = self.facts.get(place / 64) else { return };
        // One request is decided by one thread at a time: nothing is lost between the two.
        let seen = word.load(Ordering::Relaxed);
        word.store(seen | 1 << (place % 64), Ordering::Relaxed);
    }

    /// A question was asked, and answered.
    pub fn asked(&self, ask: &'static str, of: &str, answer: Answer) {
        if matches!(&answer, Answer::Text(text) if text.len() > LONGEST) {
            return self.cut.store(true, Ordering::Relaxed);
        }
        let of = &*kept(of);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() > MOST {
            return;
        }
        if !asked.iter().any(|known| known.ask == ask && *known.of == *of) {
            asked.push(Asked { ask: ask.into(), of: of.into(), answer });
        }
    }

    /// Takes everything out; `names` gives the name of the property at a place.
    pub fn take(&self, names: impl Fn(usize) -> Option<&'static str>) -> Reads {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        let cut = self.cut.swap(false, Ordering::Relaxed) || asked.len() > MOST;
        asked.truncate(MOST);
        let mut facts = Vec::new();
        for (at, word) in self.facts.iter().enumerate() {
            let mut seen = word.swap(0, Ordering::Relaxed);
            while seen != 0 {
                let bit = seen.trailing_zeros() as usize;
                seen &= seen - 1;
                facts.extend(names(at * 64 + bit).map(Cow::Borrowed));
            }
        }
        Reads { facts, asked, cut }
    }
}

impl Reads {
    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.asked.is_empty()
    }

    /// The answer that was given.
    pub fn answer(&self, ask: &str, of: &str) -> Option<&Answer> {
        let of = &*kept(of);
        self.asked.iter().find(|asked| asked.ask == ask && *asked.of == *of).map(|asked| &asked.answer)
    }

    /// Adds what a later hook read.
    pub fn extend(&mut self, more: Self) {
        self.facts
            .extend(more.facts.into_iter().filter(|fact| !self.facts.contains(fact)).collect::<Vec<_>>());
        let fresh = more.asked.into_iter().filter(|asked| !self.asked.iter().any(|known| known == asked));
        self.asked.extend(fresh.collect::<Vec<_>>());
        self.cut |= more.cut;
    }
}

impl Asked {
    /// As it would stand in a policy: `contains_any(["a", "b"]) → true`.
    pub fn shown(&self) -> String {
        let of = about(&self.ask, &self.of);
        let answer = match &self.answer {
            Answer::Truth(truth) => truth.to_string(),
            Answer::Whole(number) => number.to_string(),
            Answer::Number(number) => number.to_string(),
            Answer::Text(text) => format!("{text:?}"),
            Answer::Nothing => "()".to_owned(),
        };
        match &*self.ask {
            "state" => format!("state.get({of}) → {answer}"),
            "parameter" => format!("{} → {answer}", self.of),
            "header" => format!("headers[{of}] → {answer}"),
            "metadata" => format!("metadata[{of}] → {answer}"),
            "tag" => format!("tags[{of}] → {answer}"),
            ask if self.of.is_empty() => format!("{ask} → {answer}"),
            ask => format!("{ask}({of}) → {answer}"),
        }
    }
}

/// A question as it would stand in a policy, without the rest of what is long: `contains_any(["a", "b"])`.
pub(super) fn written(ask: &str, of: &str) -> String {
    if of.is_empty() { ask.to_owned() } else { format!("{ask}({})", about(ask, of)) }
}

fn about(ask: &str, of: &str) -> String {
    if !LISTS.contains(&ask) {
        return quoted(of);
    }
    let mut text = String::from("[");
    for (place, word) in of.split(BETWEEN).enumerate() {
        if text.len() > SHOWN {
            // Writing to a String cannot fail.
            let _ = write!(text, ", … {} in all", of.split(BETWEEN).count());
            break;
        }
        text.push_str(if place > 0 { ", " } else { "" });
        text.push_str(&quoted(word));
    }
    text.push(']');
    text
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

/// What a question is kept under.
fn kept(of: &str) -> Cow<'_, str> {
    if of.len() <= LONGEST {
        return of.into();
    }
    format!("blake3:{}", blake3::hash(of.as_bytes()).to_hex()).into()
}

impl From<Option<&str>> for Answer {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::Nothing, |text| Self::Text(text.into()))
    }
}

fn list_or_text<S: Serializer>(of: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if of.contains(BETWEEN) {
        serializer.collect_seq(of.split(BETWEEN))
    } else {
        serializer.serialize_str(of)
    }
}

fn joined<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<str>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(Box<str>),
        List(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Text(text) => text,
        Either::List(words) => words.join(BETWEEN.encode_utf8(&mut [0; 4])).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_comes_back_from_its_record() {
        let asking = Asking::default();
        asking.saw(0);
        asking.saw(70);
        asking.asked("contains_any", "a\u{1f}b c", Answer::Truth(true));
        asking.asked("contains_any", "a\u{1f}b c", Answer::Truth(false));
        asking.asked("header", "x-tier", Answer::Nothing);
        let reads = asking.take(|place| Some(if place == 0 { "model" } else { "late" }));
        let text = serde_json::to_string(&reads).unwrap();
        assert_eq!(
            text,
            r#"{"facts":["model","late"],"asked":[{"ask":"contains_any","of":["a","b c"],"answer":true},{"ask":"header","of":"x-tier","answer":null}]}"#
        );
        assert_eq!(serde_json::from_str::<Reads>(&text).unwrap(), reads);
        let shown: Vec<_> = reads.asked.iter().map(Asked::shown).collect();
        assert_eq!(shown, [r#"contains_any(["a", "b c"]) → true"#, r#"headers["x-tier"] → ()"#]);
        assert!(asking.take(|_| None).is_empty());
    }

    #[test]
    fn of_a_long_question_the_hash_is_kept_and_people_see_its_beginning() {
        let words: Vec<String> = (0..2_000).map(|n| format!("word{n}")).collect();
        let of = words.join(BETWEEN.encode_utf8(&mut [0; 4]));
        let asking = Asking::default();
        asking.asked("contains_any", &of, Answer::Truth(true));
        asking.asked("header", "x-long", Answer::Text("x".repeat(LONGEST + 1).into()));
        let reads = asking.take(|_| None);
        assert_eq!(reads.answer("contains_any", &of), Some(&Answer::Truth(true)));
        assert!(reads.answer("contains_any", &format!("{of}s")).is_none());
        assert!(reads.asked[0].of.starts_with("blake3:") && reads.asked.len() == 1);
        assert!(reads.cut, "an answer was not noted");
        let shown = written("contains_any", &of);
        assert!(shown.starts_with(r#"contains_any(["word0", "word1", "#), "{shown}");
        assert!(shown.ends_with(", … 2000 in all])") && shown.len() < 300, "{shown}");
    }

    #[test]
    fn a_script_that_asks_without_end_is_not_followed() {
        let asking = Asking::default();
        for n in 0..10_000 {
            asking.asked("matches", &n.to_string(), Answer::Truth(false));
        }
        let reads = asking.take(|_| None);
        assert!(reads.cut && reads.asked.len() == MOST);
    }
}
