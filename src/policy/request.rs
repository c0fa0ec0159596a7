//! The request as scripts see it: a handle with lazy getters, which records what scripts ask for.

mod parts;

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rhai::{Array, Dynamic, EvalAltResult, ImmutableString, Map, NativeCallContext};
use serde_json::Value;

pub(super) use parts::{Guards, Headers, Metadata, Tags, Turn};

use super::engine;
use super::memo::Memo;
use super::patterns::Patterns;
use super::plugins::About;
use super::wishes::Wishes;
use crate::facts::measure::TIERS;
use crate::facts::{self, Answer, Asking, BETWEEN, Body, Facts, Notes, Reads};
use crate::plan::Ranking;

/// What functions of the vocabulary return: a value, or an error that gets its position from the engine.
pub(super) type Outcome<T> = Result<T, Box<EvalAltResult>>;
/// A key and its value.
pub(super) type Pair = (Arc<str>, Arc<str>);

/// The request. Cloning is counting; nothing is copied out of the body until a script asks for it, and then once.
#[derive(Clone)]
pub(super) struct Request(Arc<Inner>);

struct Inner {
    facts: Arc<Facts>,
    wishes: Mutex<Wishes>,
    memo: Mutex<Memo>,
    words: OnceLock<i64>,
    strings: Strings,
    asking: Asking,
    /// What was asked of what is kept between requests, and is answered the same now.
    earlier: OnceLock<Reads>,
}

/// Strings in the engine's own form, made when first asked for.
#[derive(Default)]
struct Strings {
    model: OnceLock<ImmutableString>,
    user: OnceLock<Dynamic>,
    ip: OnceLock<Dynamic>,
    text: OnceLock<ImmutableString>,
    system: OnceLock<ImmutableString>,
    last_user: OnceLock<ImmutableString>,
}

impl Request {
    pub(super) fn new(facts: Arc<Facts>, memo: Memo) -> Self {
        Self(Arc::new(Inner {
            facts,
            wishes: Mutex::default(),
            memo: Mutex::new(memo),
            words: OnceLock::new(),
            strings: Strings::default(),
            asking: Asking::default(),
            earlier: OnceLock::new(),
        }))
    }

    /// The same request after others have asked about it.
    pub(super) fn after(self, earlier: Reads) -> Self {
        // It is told once, at the beginning.
        let _ = self.0.earlier.set(earlier);
        self
    }

    /// The request behind a script's value.
    pub(super) fn of(value: &Dynamic) -> Option<Self> {
        value.read_lock::<Self>().map(|request| Self::clone(&request))
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Notes how targets compared.
    pub(super) fn ranked(&self, ranking: Ranking) {
        self.wishes().rankings.push(ranking);
    }

    /// A script reads the property with this place in the vocabulary.
    pub(super) fn saw(&self, place: usize) {
        self.0.asking.saw(place);
    }

    /// Takes out what the scripts read.
    pub(super) fn reads(&self) -> Reads {
        self.0.asking.take(super::vocabulary::property)
    }

    /// The request as plugins are asked about it.
    pub(super) fn about(&self) -> About {
        let mut tags = self.0.facts.tags.clone();
        tags.extend_from_slice(&self.wishes().tags);
        About { facts: Arc::clone(&self.0.facts), tags }
    }

    /// What plugins have said. Held for a look-up, never across a script or a plugin.
    pub(super) fn memo(&self) -> MutexGuard<'_, Memo> {
        self.0.memo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held for a push or a look-up, never across a script.
    pub(super) fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.0.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Getters.
impl Request {
    pub(super) fn id(&mut self) -> ImmutableString {
        (&*self.0.facts.request_id).into()
    }

    pub(super) fn endpoint(&mut self) -> ImmutableString {
        self.0.facts.endpoint.as_str().into()
    }

    pub(super) fn model(&mut self) -> ImmutableString {
        self.0.strings.model.get_or_init(|| (&*self.0.facts.model).into()).clone()
    }

    pub(super) fn user(&mut self) -> Dynamic {
        let caller = &self.0.facts.caller;
        let find = || caller.user.as_deref().or_else(|| self.0.facts.body.user());
        self.0.strings.user.get_or_init(|| or_unit(find())).clone()
    }

    pub(super) fn team(&mut self) -> Dynamic {
        or_unit(self.0.facts.caller.team.as_deref())
    }

    pub(super) fn priority(&mut self) -> &'static str {
        self.0.facts.caller.priority.word()
    }

    pub(super) fn key_id(&mut self) -> Dynamic {
        or_unit(self.0.facts.caller.key_id.as_deref())
    }

    pub(super) fn ip(&mut self) -> Dynamic {
        let find = || self.0.facts.caller.address.map_or(Dynamic::UNIT, |ip| ip.to_string().into());
        self.0.strings.ip.get_or_init(find).clone()
    }

    pub(super) fn session(&mut self) -> Dynamic {
        or_unit(self.0.facts.caller.session.as_deref())
    }

    pub(super) fn data_class(&mut self) -> Dynamic {
        self.headers().entry("x-tollgate-data-class")
    }

    /// The class that is asked for, as classes are written. What is none is refused where targets are chosen, and fails no
    /// policy that hands it on.
    pub(super) fn tier(&mut self) -> Dynamic {
        let asked = self.headers().entry("x-tollgate-tier");
        let class = asked.as_immutable_string_ref().ok();
        let class =
            class.and_then(|asked| TIERS.into_iter().find(|tier| asked.as_str().eq_ignore_ascii_case(tier)));
        class.map_or(Dynamic::UNIT, Into::into)
    }

    pub(super) fn stream(&mut self) -> bool {
        self.0.facts.body.stream()
    }

    pub(super) fn tokens(&mut self) -> i64 {
        whole(self.0.facts.body.tokens())
    }

    pub(super) fn max_tokens(&mut self) -> Dynamic {
        self.0.facts.body.max_tokens().map_or(Dynamic::UNIT, |limit| whole(limit).into())
    }

    pub(super) fn messages(&mut self) -> i64 {
        whole(self.0.facts.body.messages())
    }

    pub(super) fn has_tools(&mut self) -> bool {
        !self.0.facts.body.tool_names().is_empty()
    }

    pub(super) fn tools(&mut self) -> Array {
        self.0
            .facts
            .body
            .tool_names()
            .iter()
            .map(|name| Dynamic::from(ImmutableString::from(&**name)))
            .collect()
    }

    pub(super) fn has_images(&mut self) -> bool {
        self.0.facts.body.has_images()
    }

    pub(super) fn has_audio(&mut self) -> bool {
        self.0.facts.body.has_audio()
    }

    pub(super) fn has_files(&mut self) -> bool {
        self.0.facts.body.has_files()
    }

    pub(super) fn modalities(&mut self) -> Array {
        let body = &self.0.facts.body;
        let words = match self.unspoken().and_then(|notes| notes.answer("modalities", "")) {
            Some(Answer::Text(words)) => words.to_string(),
            _ => {
                let all = [
                    ("text", !body.text().is_empty()),
                    ("image", body.has_images()),
                    ("audio", body.has_audio()),
                    ("file", body.has_files()),
                ];
                let there: Vec<_> =
                    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
                there.join(" ")
            }
        };
        self.0.asking.asked("modalities", "", Answer::Text(words.as_str().into()));
        words.split_whitespace().map(|word| word.into()).collect()
    }

    pub(super) fn has_json_output(&mut self) -> bool {
        self.0.facts.body.has_json_output()
    }

    pub(super) fn text(&mut self) -> ImmutableString {
        self.0.strings.text.get_or_init(|| self.0.facts.body.text().into()).clone()
    }

    pub(super) fn system(&mut self) -> ImmutableString {
        self.0.strings.system.get_or_init(|| self.0.facts.body.system().into()).clone()
    }

    pub(super) fn last_user(&mut self) -> ImmutableString {
        self.0.strings.last_user.get_or_init(|| self.0.facts.body.last_user().into()).clone()
    }

    pub(super) fn turns(&mut self) -> Array {
        self.conversation().into_iter().map(|turn| Dynamic::from(Turn::of(turn, self))).collect()
    }

    pub(super) fn lines(&mut self) -> Outcome<i64> {
        self.number("lines", "", |text| text.lines().count())
    }

    pub(super) fn bytes(&mut self) -> Outcome<i64> {
        self.number("bytes", "", str::len)
    }

    pub(super) fn words(&mut self) -> Outcome<i64> {
        match self.0.words.get() {
            Some(words) => Ok(*words),
            None => self.reading(|body| *self.0.words.get_or_init(|| whole(body.words()))),
        }
    }

    pub(super) fn headers(&mut self) -> Headers {
        Headers(self.clone())
    }

    pub(super) fn metadata(&mut self) -> Metadata {
        Metadata(self.clone())
    }

    pub(super) fn guards(&mut self) -> Guards {
        Guards(self.clone())
    }

    pub(super) fn tags(&mut self) -> Tags {
        Tags(self.clone())
    }
}

/// Methods.
impl Request {
    /// Any other top-level field of the body.
    pub(super) fn field(&mut self, name: &str) -> Dynamic {
        let json = self.0.facts.body.field(name);
        self.0.asking.asked("field", name, json.into());
        plain(json)
    }

    /// A parameter by the name that policies have for it.
    pub(super) fn parameter(&mut self, name: &str) -> Dynamic {
        let json = self.0.facts.body.parameter(name);
        self.0.asking.asked("parameter", name, json.into());
        plain(json)
    }

    pub(super) fn texts(&mut self, role: &str) -> Array {
        let mut turns = self.conversation();
        turns.retain(|turn| turn.role == role);
        if let Some(notes) = self.unspoken().filter(|_| !turns.is_empty()) {
            notes.miss(&format!("texts({role:?})"));
        }
        turns.into_iter().map(|turn| Dynamic::from(turn.text)).collect()
    }

    pub(super) fn tag(&mut self, key: &str, value: Dynamic) -> Outcome<()> {
        let value = label("tag", &value)?;
        self.wishes().tags.push((key.into(), value));
        Ok(())
    }

    /// Tags that came with the verdict.
    pub(super) fn add_tags(&self, tags: Vec<Pair>) {
        self.wishes().tags.extend(tags);
    }

    pub(super) fn contains_any(&self, words: &Array, patterns: &Patterns) -> Outcome<bool> {
        let words = texts("contains_any", words)?;
        let words: Vec<&str> = words.iter().map(|word| word.as_str()).collect();
        let of = words.join(BETWEEN.encode_utf8(&mut [0; 4]));
        self.truth("contains_any", &of, |body| patterns.finds_any(body.text(), &words))
    }

    pub(super) fn starts_with_any(&mut self, words: Array) -> Outcome<bool> {
        let words = texts("starts_with_any", &words)?;
        let words: Vec<&str> = words.iter().map(|word| word.as_str()).collect();
        let of = words.join(BETWEEN.encode_utf8(&mut [0; 4]));
        self.truth("starts_with_any", &of, |body| {
            let said = body.last_user().trim_start();
            let begins = |word: &&str| {
                let mut letters = said.chars().flat_map(char::to_lowercase);
                word.chars().flat_map(char::to_lowercase).all(|c| letters.next() == Some(c))
            };
            Ok(words.iter().any(begins))
        })
    }

    pub(super) fn count(&self, pattern: &str, patterns: &Patterns) -> Outcome<i64> {
        let regex = patterns.regex(pattern).map_err(|problem| fault(format!("count: {problem}")))?;
        self.number("count", pattern, |text| regex.find_iter(text).count())
    }

    pub(super) fn matches(&self, pattern: &str, patterns: &Patterns) -> Outcome<bool> {
        self.truth("matches", pattern, |body| Ok(patterns.regex(pattern)?.is_match(body.text())))
    }

    /// A value that is not the request's own: as `find` gives it, or as it was noted when the request was here.
    pub(super) fn remembered(&self, ask: &'static str, of: &str, find: impl FnOnce() -> Dynamic) -> Dynamic {
        let value = match self.0.facts.body.notes() {
            Some(notes) => notes.expect(ask, of).map_or(Dynamic::UNIT, valued),
            None => match self.0.earlier.get().and_then(|reads| reads.answer(ask, of)) {
                Some(answer) => valued(answer),
                None => find(),
            },
        };
        self.0.asking.asked(ask, of, noted(&value));
        value
    }

    /// Reads through the prompt, which may be long: where nobody waits behind it. Its estimate tells how long, since the
    /// text itself is not known before it is read.
    fn reading<T>(&self, read: impl FnOnce(&dyn Body) -> T) -> Outcome<T> {
        let body = &*self.0.facts.body;
        engine::reading(body.tokens().saturating_mul(4), || read(body))
    }

    /// Yes or no to a question about the prompt: from the prompt, or from what was noted when it was here.
    fn truth(
        &self,
        ask: &'static str,
        of: &str,
        find: impl FnOnce(&dyn Body) -> Result<bool, String>,
    ) -> Outcome<bool> {
        let body = &self.0.facts.body;
        let answer = match body.notes().and_then(|notes| notes.truth(ask, of)) {
            Some(noted) => noted,
            None => self.reading(|body| find(body))?.map_err(|problem| fault(format!("{ask}: {problem}")))?,
        };
        self.0.asking.asked(ask, of, Answer::Truth(answer));
        Ok(answer)
    }

    /// The same for what is counted in the prompt.
    fn number(&self, ask: &'static str, of: &str, find: impl FnOnce(&str) -> usize) -> Outcome<i64> {
        let number = match self.0.facts.body.notes().and_then(|notes| notes.number(ask, of)) {
            Some(noted) => noted,
            None => self.reading(|body| count(find(body.text())))?,
        };
        self.0.asking.asked(ask, of, Answer::Whole(number));
        Ok(number)
    }

    /// What was said, in order. Who spoke is noted, by first letters: of a prompt that was not recorded, no more is
    /// known.
    fn conversation(&self) -> Vec<facts::Turn> {
        let turns = self.0.facts.body.turns();
        let roles: String = turns.iter().filter_map(|turn| turn.role.chars().next()).collect();
        self.0.asking.asked("turns", "", Answer::Text(roles.into()));
        turns
    }

    /// What is noted of a request whose prompt was not recorded.
    fn unspoken(&self) -> Option<&Notes> {
        self.0.facts.body.notes().filter(|notes| !notes.have_text())
    }

    /// The caller's share of `0..n`, the same in every process and version: BLAKE3 of salt, a zero byte and id.
    pub(super) fn bucket(&self, salt: &str, id: &Dynamic, n: &Dynamic) -> Outcome<i64> {
        let shares = shares(n)?;
        let mut hash = blake3::Hasher::new();
        hash.update(salt.as_bytes()).update(&[0]);
        match id.as_immutable_string_ref() {
            Ok(text) => hash.update(text.as_bytes()),
            Err(_) if !id.is_unit() => hash.update(id.to_string().as_bytes()),
            Err(_) => match self.0.facts.caller.address {
                Some(address) => hash.update(address.to_string().as_bytes()),
                // Nobody to tell apart: the last share, so that `bucket(…) < 5` does not choose everybody.
                None => return Ok(i64::try_from(shares - 1).unwrap_or_default()),
            },
        };
        let [a, b, c, d, e, f, g, h, ..] = *hash.finalize().as_bytes();
        let first = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Ok(i64::try_from(first % shares).unwrap_or_default())
    }
}

/// The texts of a list.
fn texts<'a>(function: &str, list: &'a Array) -> Outcome<Vec<impl Deref<Target = ImmutableString> + 'a>> {
    let text = |given: &'a Dynamic| {
        given
            .as_immutable_string_ref()
            .map_err(|given| fault(format!("{function}: expected a list of texts, found {given} in it")))
    };
    list.iter().map(text).collect()
}

/// How many shares `bucket` is to tell apart.
pub(super) fn shares(n: &Dynamic) -> Outcome<u64> {
    let problem = |_| fault(format!("bucket: expected a whole number of shares, not {}", kind(n)));
    let whole = n.as_int().map_err(problem)?;
    let shares = u64::try_from(whole).ok().filter(|shares| *shares > 0);
    shares.ok_or_else(|| fault(format!("bucket: {whole} is not a number of shares (try 100)")))
}

/// The request that an evaluation is about, for functions that do not get it handed.
pub(super) fn request_of(function: &str, context: &NativeCallContext<'_>) -> Outcome<Request> {
    let request = context.tag().and_then(Request::of);
    request.ok_or_else(|| fault(format!("{function}: works only inside of a hook")))
}

/// An error of a function of the vocabulary; the engine adds the place of the call.
pub(super) fn fault(message: impl Into<String>) -> Box<EvalAltResult> {
    let message: String = message.into();
    message.into()
}

/// A text, number or truth as the text that tags and labels are compared by.
pub(super) fn label(function: &str, value: &Dynamic) -> Outcome<Arc<str>> {
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(text.as_str().into());
    }
    if value.is_int() || value.is_bool() || value.is_float() || value.is_char() {
        return Ok(value.to_string().into());
    }
    Err(fault(format!("{function}: expected a text, number or true/false, not {}", kind(value))))
}

/// What a value is, in the words of the manual.
pub(super) fn kind(value: &Dynamic) -> &'static str {
    match value.type_name() {
        "()" => "() (nothing)",
        "i64" => "a number",
        "f64" => "a number with a fraction",
        "bool" => "true/false",
        "char" => "a character",
        "array" => "a list",
        "map" => "a map",
        "string" => "a text",
        "timestamp" => "a time",
        "Fn" => "a function",
        other if other.ends_with("::Request") => "a request",
        other if other.ends_with("::Route") => "a route",
        other if other.ends_with("::Rejection") => "a rejection",
        other if other.ends_with("::Response") => "an answer of its own",
        other if other.ends_with("::Reaction") => "what only `on_error` can return",
        other if other.ends_with("::Findings") => "findings",
        other if other.ends_with("::Classes") => "classes",
        other if other.ends_with("::Handle") => "a plugin",
        other if other.ends_with("::Table") => "a table",
        other if other.ends_with("::Candidate") => "a target",
        other if other.ends_with("::Candidates") => {
            "candidates (write `cheapest(…)` or `route(…)` around them)"
        }
        other if other.ends_with("::Moment") => "a time",
        _ => "something else",
    }
}

/// A script's value as JSON.
pub(super) fn json_of(value: &Dynamic) -> Result<Value, String> {
    if let Some(list) = value.read_lock::<Array>() {
        return list.iter().map(json_of).collect::<Result<_, _>>().map(Value::Array);
    }
    if let Some(map) = value.read_lock::<Map>() {
        let entry = |(key, value): (&rhai::Identifier, &Dynamic)| Ok((key.to_string(), json_of(value)?));
        return map.iter().map(entry).collect::<Result<_, String>>().map(Value::Object);
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(text.as_str().into());
    }
    match (value.as_int(), value.as_float(), value.as_bool()) {
        (Ok(number), ..) => Ok(number.into()),
        (_, Ok(number), _) => Ok(number.into()),
        (.., Ok(truth)) => Ok(truth.into()),
        _ if value.is_unit() => Ok(Value::Null),
        _ => Err(format!("cannot write {} as JSON", kind(value))),
    }
}

/// JSON as a script's value: objects are maps, null is `()`.
pub(super) fn value_of(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().map_or(Dynamic::UNIT, Dynamic::from),
        },
        Value::String(text) => text.into(),
        Value::Array(items) => Dynamic::from_array(items.iter().map(value_of).collect()),
        Value::Object(fields) => Dynamic::from_map(
            fields.iter().map(|(key, value)| (key.as_str().into(), value_of(value))).collect(),
        ),
    }
}

/// A value as it is noted. Only plain values are kept between requests.
fn noted(value: &Dynamic) -> Answer {
    if let Ok(text) = value.as_immutable_string_ref() {
        return Answer::Text(text.as_str().into());
    }
    let whole = value.as_int().map(Answer::Whole).ok();
    let number = || value.as_float().map(Answer::Number).ok();
    whole.or_else(number).or_else(|| value.as_bool().map(Answer::Truth).ok()).unwrap_or(Answer::Nothing)
}

fn valued(answer: &Answer) -> Dynamic {
    match answer {
        Answer::Truth(truth) => (*truth).into(),
        Answer::Whole(number) => (*number).into(),
        Answer::Number(number) => (*number).into(),
        Answer::Text(text) => (&**text).into(),
        Answer::Nothing => Dynamic::UNIT,
    }
}

fn or_unit(text: Option<&str>) -> Dynamic {
    text.map_or(Dynamic::UNIT, |text| ImmutableString::from(text).into())
}

/// A value of the body: simple ones as they are, lists and objects as JSON text.
fn plain(json: Option<&str>) -> Dynamic {
    let Some(json) = json else { return Dynamic::UNIT };
    match serde_json::from_str(json) {
        Ok(Value::Bool(truth)) => truth.into(),
        Ok(Value::String(text)) => text.into(),
        Ok(Value::Number(number)) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64().map_or(Dynamic::UNIT, Dynamic::from),
        },
        Ok(Value::Array(_) | Value::Object(_)) => json.trim().into(),
        Ok(Value::Null) | Err(_) => Dynamic::UNIT,
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
