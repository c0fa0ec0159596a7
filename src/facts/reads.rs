//! What policies read of a request, so that a decision can be explained, and another policy be asked the same.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Between the words of a list in [`Asked::of`]: a character that no word has.
pub const BETWEEN: char = '\u{1f}';

/// Questions that are noted of one request; a script that asks more in a loop is not followed further.
const MOST: usize = 256;
/// Bytes of a question or answer that are kept; a longer one is not noted.
const LONGEST: usize = 4_096;

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
    /// What about: a name, an expression, or words with [`BETWEEN`] them.
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
        let long = matches!(&answer, Answer::Text(text) if text.len() > LONGEST);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if long || of.len() > LONGEST || asked.len() > MOST {
            return;
        }
        if !asked.iter().any(|known| known.ask == ask && *known.of == *of) {
            asked.push(Asked { ask: ask.into(), of: of.into(), answer });
        }
    }

    /// Takes everything out; `names` gives the name of the property at a place.
    pub fn take(&self, names: impl Fn(usize) -> Option<&'static str>) -> Reads {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        let cut = asked.len() > MOST;
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
        let of = if self.ask == "contains_any" {
            let words: Vec<_> = self.of.split(BETWEEN).map(|word| format!("{word:?}")).collect();
            format!("[{}]", words.join(", "))
        } else {
            format!("{:?}", self.of)
        };
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
            "lines" => format!("lines → {answer}"),
            "header" => format!("headers[{of}] → {answer}"),
            "metadata" => format!("metadata[{of}] → {answer}"),
            "tag" => format!("tags[{of}] → {answer}"),
            ask => format!("{ask}({of}) → {answer}"),
        }
    }
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
    fn a_script_that_asks_without_end_is_not_followed() {
        let asking = Asking::default();
        for n in 0..10_000 {
            asking.asked("matches", &n.to_string(), Answer::Truth(false));
        }
        let reads = asking.take(|_| None);
        assert!(reads.cut && reads.asked.len() == MOST);
    }
}
