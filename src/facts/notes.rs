//! A request as it stands in a decision record: what another policy may be told of it, and what nobody knows any more.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::reads::{Answer, BETWEEN, LISTS, Reads, written};
use super::watched::Visited;
use super::{Body, Facts, FactsRecord, Rated, Turn};
use crate::caller::{Caller, Grant, Priority, Scope};

/// Who may have said something.
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// Names of headers, in one piece: every record of a decision has some twenty of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderNames(Box<str>);

/// What a policy could see beyond [`FactsRecord`]: without any text of the prompt, unless it was asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The public id of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<Arc<str>>,
    /// The team of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<Arc<str>>,
    /// How important the request is.
    #[serde(skip_serializing_if = "Priority::is_usual")]
    pub priority: Priority,
    /// The session that the client named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    /// What the key may be used for, where it is restricted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Box<Scope>>,
    /// How the limits stood.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<Rated>,
    /// Tags that the client sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// Names of all headers that policies could see.
    #[serde(skip_serializing_if = "HeaderNames::is_empty")]
    pub header_names: HeaderNames,
    /// Headers that are recorded whether or not a policy read them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Names of the tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Box<str>>,
    /// Whether structured output was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub json: bool,
    /// Parts that are no text, where somebody looked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<Media>,
    /// Number of words, where a policy asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<u64>,
    /// What policies looked at in the market.
    pub visited: Visited,
    /// The prompt, where the configuration wants it recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<Text>>,
}

/// Which parts, beyond text, the messages have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Media {
    /// Pictures.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub images: bool,
    /// Sound.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub audio: bool,
    /// Files.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub files: bool,
    /// The files are nothing but text.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub text_files: bool,
}

/// The prompt as policies could see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// All of it.
    pub all: Box<str>,
    /// System and developer messages.
    pub system: Box<str>,
    /// The last user message.
    pub last_user: Box<str>,
    /// All of it, turn by turn: role and text.
    #[serde(default)]
    pub turns: Vec<(Cow<'static, str>, Box<str>)>,
}

/// What is known of a request that is gone. Whoever asks for more gets an empty answer, and the question is noted: what
/// was decided on it decides nothing.
#[derive(Debug)]
pub struct Notes {
    reads: Reads,
    seen: Seen,
    missed: Mutex<Vec<String>>,
}

impl Seen {
    /// What the key granted, as far as it is recorded.
    pub fn grant(&self) -> Option<Arc<Grant>> {
        let scope = self.scope.as_deref()?.clone();
        Some(Arc::new(Grant { scope, ..Grant::default() }))
    }
}

/// A recorded request as a policy's [`Body`].
#[derive(Debug)]
pub struct Noted {
    record: FactsRecord,
    notes: Arc<Notes>,
}

impl Noted {
    /// The facts of a recorded request, but for its market. `id` is its `x-request-id`, `at_ms` its time.
    pub fn facts(
        id: Arc<str>,
        at_ms: u64,
        record: FactsRecord,
        seen: Seen,
        reads: Reads,
    ) -> (Facts, Arc<Notes>) {
        let caller = Caller {
            address: seen.ip,
            key_id: seen.key_id.clone(),
            team: seen.team.clone(),
            user: record.user.clone(),
            session: seen.session.clone(),
            priority: seen.priority,
            grant: seen.grant(),
        };
        let asked = reads.asked.iter().filter(|asked| asked.ask == "header");
        let asked = asked.filter_map(|asked| match &asked.answer {
            Answer::Text(text) => Some((&asked.of, text)),
            _ => None,
        });
        let mut headers = HeaderMap::new();
        for (name, value) in seen.headers.iter().map(|(name, value)| (name, value)).chain(asked) {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        let (endpoint, model, tags) = (record.endpoint, record.model.clone(), seen.tags.clone());
        let rates = seen.rates.clone();
        let notes = Arc::new(Notes { reads, seen, missed: Mutex::default() });
        let body = Arc::new(Self { record, notes: notes.clone() });
        let market = Arc::new(super::market::Told::default());
        (Facts { request_id: id, endpoint, model, caller, headers, tags, at_ms, body, rates, market }, notes)
    }
}

impl Notes {
    /// Whether the prompt itself was recorded.
    pub fn have_text(&self) -> bool {
        self.seen.text.is_some()
    }

    /// Yes or no to a question about the prompt; `None` when the prompt itself was recorded and can be asked.
    pub fn truth(&self, ask: &str, of: &str) -> Option<bool> {
        if self.seen.text.is_some() {
            return None;
        }
        if let Some(Answer::Truth(truth)) = self.answer(ask, of) {
            return Some(*truth);
        }
        if let Some(truth) = self.inferred(ask, of) {
            return Some(truth);
        }
        self.miss(&written(ask, of));
        Some(false)
    }

    /// A number that is counted in the prompt; `None` when the prompt itself was recorded and can be asked.
    pub fn number(&self, ask: &str, of: &str) -> Option<i64> {
        if self.seen.text.is_some() {
            return None;
        }
        Some(match self.expect(ask, of) {
            Some(Answer::Whole(number)) => *number,
            _ => 0,
        })
    }

    /// What follows from other lists of words: none of more words, or one of fewer.
    fn inferred(&self, ask: &str, of: &str) -> Option<bool> {
        if !LISTS.contains(&ask) {
            return None;
        }
        let wanted: Vec<&str> = of.split(BETWEEN).collect();
        let among = |few: &[&str], many: &[&str]| {
            few.iter().all(|word| many.iter().any(|other| other.eq_ignore_ascii_case(word)))
        };
        let lists = self.reads.asked.iter().filter(|asked| asked.ask == ask);
        lists.map(|asked| (asked.of.split(BETWEEN).collect::<Vec<_>>(), &asked.answer)).find_map(
            |(known, answer)| match answer {
                Answer::Truth(true) => among(&known, &wanted).then_some(true),
                Answer::Truth(false) => among(&wanted, &known).then_some(false),
                _ => None,
            },
        )
    }

    /// Looks whether the header's value is known, or known to be none.
    pub fn look_for_header(&self, name: &str) {
        let known = |other: &str| other.eq_ignore_ascii_case(name);
        let is_there = self.seen.header_names.iter().any(known);
        let recorded = self.seen.headers.iter().any(|(other, _)| known(other));
        let asked = self.reads.asked.iter().any(|asked| {
            asked.ask == "header" && known(&asked.of) && matches!(asked.answer, Answer::Text(_))
        });
        if is_there && !recorded && !asked {
            self.miss(&format!("headers[{name:?}]"));
        }
    }

    /// Nobody knows this any more.
    pub fn miss(&self, what: &str) {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if !missed.iter().any(|known| known == what) {
            missed.push(what.to_owned());
        }
    }

    /// The answer that was given.
    pub fn answer(&self, ask: &str, of: &str) -> Option<&Answer> {
        self.reads.answer(ask, of)
    }

    /// The answer that was given; without one, it is missed.
    pub fn expect(&self, ask: &str, of: &str) -> Option<&Answer> {
        let answer = self.answer(ask, of);
        if answer.is_none() {
            self.miss(&written(ask, of));
        }
        answer
    }

    /// What was asked for in vain.
    pub fn missed(&self) -> Vec<String> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The turns of a prompt that was not recorded, as far as it was noted who spoke: their texts are empty.
    fn speakers(&self) -> Vec<Turn> {
        let Some(Answer::Text(roles)) = self.expect("turns", "") else { return Vec::new() };
        let role = |letter: char| ROLES.into_iter().find(|role| role.starts_with(letter));
        roles.chars().filter_map(role).map(|role| Turn { role, text: String::new() }).collect()
    }

    fn text(&self, name: &str, part: impl Fn(&Text) -> &str) -> &str {
        if self.seen.text.is_none() {
            self.miss(name);
        }
        self.seen.text.as_deref().map_or("", part)
    }

    fn media(&self, name: &str) -> Media {
        if self.seen.media.is_none() {
            self.miss(name);
        }
        self.seen.media.unwrap_or_default()
    }

    fn noted(&self, ask: &str, of: &str, shown: &dyn Fn() -> String) -> Option<&str> {
        match self.answer(ask, of) {
            Some(Answer::Text(text)) => Some(text),
            Some(_) => None,
            None => {
                self.miss(&shown());
                None
            }
        }
    }
}

impl Body for Noted {
    fn stream(&self) -> bool {
        self.record.stream
    }

    fn max_tokens(&self) -> Option<u64> {
        self.record.max_tokens
    }

    fn tokens(&self) -> u64 {
        self.record.tokens
    }

    fn tool_names(&self) -> &[Box<str>] {
        &self.notes.seen.tools
    }

    fn messages(&self) -> u64 {
        self.record.messages
    }

    fn has_images(&self) -> bool {
        self.notes.media("has_images").images
    }

    fn has_audio(&self) -> bool {
        self.notes.media("has_audio").audio
    }

    fn has_files(&self) -> bool {
        self.notes.media("has_files").files
    }

    fn has_documents(&self) -> bool {
        let media = self.notes.media("has_files");
        media.files && !media.text_files
    }

    fn has_json_output(&self) -> bool {
        self.notes.seen.json
    }

    fn text(&self) -> &str {
        self.notes.text("text", |text| &text.all)
    }

    fn system(&self) -> &str {
        self.notes.text("system", |text| &text.system)
    }

    fn last_user(&self) -> &str {
        self.notes.text("last_user", |text| &text.last_user)
    }

    fn turns(&self) -> Vec<Turn> {
        let Some(text) = &self.notes.seen.text else { return self.notes.speakers() };
        let turn = |(role, text): &(Cow<'static, str>, Box<str>)| {
            let role = ROLES.into_iter().find(|known| known == role).unwrap_or("user");
            Turn { role, text: text.to_string() }
        };
        text.turns.iter().map(turn).collect()
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.notes.noted("parameter", name, &|| format!("parameter {name}"))
    }

    fn user(&self) -> Option<&str> {
        self.record.user.as_deref()
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.notes.noted("metadata", key, &|| format!("metadata[{key:?}]")).map(str::to_owned)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.notes.noted("field", name, &|| format!("field({name:?})"))
    }

    fn words(&self) -> u64 {
        let counted = self.notes.seen.words;
        counted
            .unwrap_or_else(|| self.notes.text("words", |text| &text.all).split_whitespace().count() as u64)
    }

    fn notes(&self) -> Option<&Notes> {
        Some(&self.notes)
    }
}

impl HeaderNames {
    /// The names, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator('\n')
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<&'a str> for HeaderNames {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        // More than the names of most requests need.
        let mut text = String::with_capacity(512);
        for name in names {
            text.push_str(name);
            text.push('\n');
        }
        Self(text.into())
    }
}

impl Serialize for HeaderNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for HeaderNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Ok(texts.iter().map(String::as_str).filter(|text| text.parse::<HeaderName>().is_ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Asked, Endpoint};
    use super::*;

    fn noted(reads: &[(&'static str, &str, Answer)], seen: Seen) -> Facts {
        let asked = reads.iter().map(|(ask, of, answer)| Asked {
            ask: (*ask).into(),
            of: (*of).into(),
            answer: answer.clone(),
        });
        let reads = Reads { asked: asked.collect(), ..Reads::default() };
        let record = FactsRecord {
            endpoint: Endpoint::Chat,
            model: "m".into(),
            stream: false,
            tokens: 7,
            messages: 1,
            tools: 0,
            max_tokens: None,
            user: None,
            bytes: 99,
        };
        Noted::facts("id".into(), 0, record, seen, reads).0
    }

    #[test]
    fn what_follows_from_other_answers_is_no_guess() {
        let no = [("contains_any", "a\u{1f}b\u{1f}c", Answer::Truth(false))];
        let yes = [("contains_any", "a\u{1f}b", Answer::Truth(true))];
        for (reads, of, answer, known) in [
            (&no, "b", false, true),
            (&no, "C\u{1f}a", false, true),
            (&no, "a\u{1f}d", false, false),
            (&yes, "a\u{1f}b\u{1f}z", true, true),
            (&yes, "a", false, false),
        ] {
            let facts = noted(reads, Seen::default());
            let notes = facts.body.notes().unwrap();
            assert_eq!(notes.truth("contains_any", of), Some(answer), "{of:?} after {reads:?}");
            assert_eq!(notes.missed().is_empty(), known, "{of:?} after {reads:?}");
        }
    }

    #[test]
    fn what_nobody_knows_is_noted() {
        let seen = Seen { header_names: ["x-tier", "x-other"].into_iter().collect(), ..Seen::default() };
        let facts = noted(&[("header", "x-tier", Answer::Text("gold".into()))], seen);
        let notes = facts.body.notes().unwrap();
        assert_eq!(facts.headers.get("x-tier").map(HeaderValue::as_bytes), Some(&b"gold"[..]));
        notes.look_for_header("X-Tier");
        notes.look_for_header("x-nobody-sent-it");
        assert!(notes.missed().is_empty());
        notes.look_for_header("x-other");
        let _ = (facts.body.has_images(), facts.body.text(), facts.body.metadata("k"), facts.body.words());
        assert_eq!(
            notes.missed(),
            ["headers[\"x-other\"]", "has_images", "text", "metadata[\"k\"]", "words"]
        );
    }
}
