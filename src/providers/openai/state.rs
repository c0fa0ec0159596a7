//! What has been seen of one streamed answer, and the normalisation of its chunks.

use serde_json::{Value, json};

use super::peek::Shape;
use super::{envelope, fault, finish, normalise, usage};
use crate::chat::{Object, Tier, Usage};
use crate::fault::{Fault, FaultKind};
use crate::json::Halves;

/// The course of one streamed answer. Shared by the relay (bytes to bytes) and the decoder (bytes to events).
pub(super) struct StreamState {
    /// The one id that the client sees.
    pub(super) id: String,
    created: u64,
    pub(super) model: String,
    pub(super) choices: Vec<ChoiceState>,
    /// Fields of chunks without choices (Azure's first), waiting for the next chunk that has some.
    pub(super) extras: Object,
    /// The chunk that brought usage and nothing else.
    usage_frame: Object,
    /// The client's usage object, and what it counts. The last one wins as a whole.
    usage: Option<Object>,
    tally: Option<Usage>,
    /// The service that answers, as the chunks name it.
    tier: Option<Tier>,
    pub(super) text_bytes: u64,
    pub(super) excludes_reasoning: bool,
    pub(super) now_ms: u64,
    pub(super) halves: Halves,
}

/// One alternative of the answer.
pub(super) struct ChoiceState {
    pub(super) index: u64,
    pub(super) role: bool,
    pub(super) finish: Option<&'static str>,
    pub(super) calls: Vec<CallState>,
}

/// One tool call.
pub(super) struct CallState {
    /// The vendor's index; ours is the place in the list.
    pub(super) place: Option<u64>,
    pub(super) id: Box<str>,
    pub(super) name: Box<str>,
    /// Whether any argument text has come. Custom tools need none.
    pub(super) fed: bool,
}

/// A chunk that is fit for the client.
pub(super) struct Chunk {
    pub(super) object: Object,
    /// Whether the client sees content by it.
    pub(super) content: bool,
}

/// More choices or calls than this come from no model.
const MOST_CHOICES: usize = 128;
const MOST_CALLS: usize = 512;

/// Fields of a chunk that say nothing by themselves.
const PLAIN: &[&str] = &[
    "id",
    "object",
    "created",
    "model",
    "system_fingerprint",
    "service_tier",
    "choices",
    "usage",
    "obfuscation",
    "x_groq",
    "p",
    "provider",
];

impl StreamState {
    pub(super) fn new(excludes_reasoning: bool, now_ms: u64) -> Self {
        Self {
            id: String::new(),
            created: 0,
            model: String::new(),
            choices: Vec::new(),
            extras: Object::new(),
            usage_frame: Object::new(),
            usage: None,
            tally: None,
            tier: None,
            text_bytes: 0,
            excludes_reasoning,
            now_ms,
            halves: Halves::default(),
        }
    }

    /// Normalises one event's JSON. `None` when nothing of it is for the client now.
    pub(super) fn chunk(&mut self, data: &str) -> Result<Option<Chunk>, Fault> {
        let read = serde_json::from_str::<Value>(data).ok();
        let read = read.or_else(|| serde_json::from_str(&self.halves.join(data)?).ok());
        let Some(value) = read else {
            return Err(fault::malformed("the provider sent a stream event that is not JSON"));
        };
        let Value::Object(mut object) = value else {
            return Err(fault::malformed("the provider sent a stream event that is not an object"));
        };
        // First of all: what a failed answer has used is paid for, too.
        let counted = self.take_usage(&mut object);
        self.learn_tier(object.get("service_tier").and_then(Value::as_str));
        if envelope::is_error(&object) {
            return Err(fault::inside_success(&Value::Object(object), self.now_ms));
        }
        // Groq says there why it stopped early: https://console.groq.com/docs/api-reference#chat-create
        if let Some(error) = object.get("x_groq").and_then(|groq| groq.get("error")).filter(|e| !e.is_null())
        {
            return Err(fault::inside_success(&json!({ "error": error }), self.now_ms));
        }
        let choices = match object.get_mut("choices").map(Value::take) {
            Some(Value::Array(choices)) => choices,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => {
                return Err(fault::malformed("the provider sent a stream event without a list of choices"));
            }
        };
        self.learn_head(&object, data, choices.is_empty());
        let (mut kept, mut content) = (Vec::with_capacity(choices.len()), false);
        let had_choices = !choices.is_empty();
        for (place, choice) in choices.into_iter().enumerate() {
            let Value::Object(choice) = choice else {
                return Err(fault::malformed("the provider sent a choice that is not an object"));
            };
            if let Some((choice, seen)) = self.choice(choice, place)? {
                kept.push(Value::Object(choice));
                content |= seen;
            }
        }
        if kept.is_empty() {
            return Ok(if had_choices { None } else { self.without_choices(object, counted) });
        }
        for (key, value) in std::mem::take(&mut self.extras) {
            object.entry(key).or_insert(value);
        }
        self.write_head(&mut object);
        object.insert("choices".into(), Value::Array(kept));
        Ok(Some(Chunk { object, content }))
    }

    /// An event named `error`, whatever its data.
    pub(super) fn error_event(&self, data: &str) -> Fault {
        let value = serde_json::from_str(data).unwrap_or_else(|_| Value::String(data.to_owned()));
        fault::inside_success(&value, self.now_ms)
    }

    /// Whether the answer is complete: every choice that began has ended.
    pub(super) fn all_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finish.is_some())
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.tally.map(|usage| Usage { tier: self.tier, ..usage })
    }

    pub(super) fn finish_reason(&self) -> Option<&'static str> {
        self.choices.iter().min_by_key(|choice| choice.index)?.finish
    }

    pub(super) fn created(&self) -> u64 {
        self.created
    }

    /// The last word counts.
    pub(super) fn learn_tier(&mut self, said: Option<&str>) {
        self.tier = said.and_then(Tier::said).or(self.tier);
    }

    pub(super) fn learn_created(&mut self, shape: Shape) {
        if let (0, Shape::Count(created)) = (self.created, shape) {
            self.created = created;
        }
    }

    /// The chunk that ends a stream whose client asked for usage.
    pub(super) fn usage_chunk(&mut self) -> Option<Object> {
        let usage = self.usage.take()?;
        let mut object = std::mem::take(&mut self.usage_frame);
        self.write_head(&mut object);
        object.insert("choices".into(), Value::Array(Vec::new()));
        object.insert("usage".into(), Value::Object(usage));
        for (key, value) in std::mem::take(&mut self.extras) {
            object.entry(key).or_insert(value);
        }
        Some(object)
    }

    /// A choice that is seen for the first time.
    pub(super) fn begin(&mut self, index: u64) -> Result<&mut ChoiceState, Fault> {
        if self.choices.len() >= MOST_CHOICES {
            return Err(fault::malformed("the provider sent more choices than any request asks for"));
        }
        self.choices.push(ChoiceState { index, role: false, finish: None, calls: Vec::new() });
        self.choices.last_mut().ok_or_else(|| Fault::new(FaultKind::Internal, "a choice was lost"))
    }

    /// Moves usage out of the chunk, wherever the vendor put it. Whether there was any.
    fn take_usage(&mut self, object: &mut Object) -> bool {
        let mut found = None;
        // Groq: https://console.groq.com/docs/api-reference#chat-create
        if let Some(Value::Object(groq)) = object.get_mut("x_groq") {
            found = groq.shift_remove("usage").filter(Value::is_object);
            if groq.is_empty() {
                object.shift_remove("x_groq");
            }
        }
        // Moonshot: in the choice that ends.
        if let Some(Value::Array(choices)) = object.get_mut("choices") {
            for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
                found = choice.shift_remove("usage").filter(Value::is_object).or(found);
            }
        }
        found = object.shift_remove("usage").filter(Value::is_object).or(found);
        if let Some(Value::Object(mut usage)) = found
            && let Some(tally) = usage::read_value(&usage, self.excludes_reasoning)
        {
            if tally.deviates {
                tally.rewrite(&mut usage);
            }
            self.tally = Some(tally.usage);
            self.usage = Some(usage);
            return true;
        }
        if self.usage.is_none()
            && let Some(Value::Object(timings)) = object.get("timings")
            && let Some(tally) = usage::from_timings(timings)
        {
            let mut usage = Object::new();
            tally.rewrite(&mut usage);
            self.tally = Some(tally.usage);
            self.usage = Some(usage);
        }
        false
    }

    /// Keeps the first id, time and model; vendors change them on the way.
    fn learn_head(&mut self, object: &Object, data: &str, headless: bool) {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        if self.id.is_empty() {
            text("id").clone_into(&mut self.id);
        }
        if self.id.is_empty() && !headless {
            self.id = normalise::answer_id(data.as_bytes(), self.now_ms);
        }
        if self.model.is_empty() {
            text("model").clone_into(&mut self.model);
        }
        if self.created == 0 {
            self.created = object.get("created").map_or(0, seconds);
        }
        if self.created == 0 && !headless {
            self.created = self.now_ms / 1000;
        }
    }

    fn write_head(&self, object: &mut Object) {
        object.insert("id".into(), self.id.as_str().into());
        object.insert("object".into(), "chat.completion.chunk".into());
        if object.get("created").and_then(Value::as_u64).unwrap_or(0) == 0 {
            object.insert("created".into(), self.created.into());
        }
        if object.get("model").and_then(Value::as_str).is_none_or(str::is_empty) {
            object.insert("model".into(), self.model.as_str().into());
        }
    }

    /// A chunk without choices: clients index `choices[0]`, so its fields wait for a chunk that has some. After
    /// the end, what is left to say (OpenAI's `moderation`) goes out in its own chunk, as OpenAI sends it.
    fn without_choices(&mut self, mut object: Object, counted: bool) -> Option<Chunk> {
        let speaks = |object: &Object| {
            object.iter().any(|(key, value)| !PLAIN.contains(&key.as_str()) && !value.is_null())
        };
        if counted {
            self.usage_frame = object;
            return None;
        }
        if !speaks(&object) {
            return None;
        }
        if self.all_finished() {
            self.write_head(&mut object);
            object.insert("choices".into(), Value::Array(Vec::new()));
            return Some(Chunk { object, content: false });
        }
        for (key, value) in object {
            let is_head = matches!(
                key.as_str(),
                "id" | "object" | "created" | "model" | "choices" | "obfuscation" | "p"
            );
            if !is_head && !value.is_null() {
                self.extras.insert(key, value);
            }
        }
        None
    }

    /// Normalises a choice. `None` when it says nothing; else with whether the client sees content by it.
    fn choice(&mut self, mut choice: Object, place: usize) -> Result<Option<(Object, bool)>, Fault> {
        if let Some(error) = choice.get("error").filter(|error| !error.is_null()) {
            return Err(fault::inside_success(&json!({ "error": error }), self.now_ms));
        }
        let said = choice.get("finish_reason").and_then(Value::as_str).filter(|raw| !finish::is_unsaid(raw));
        let ends = match said {
            None => None,
            Some(raw) => Some(finish::word(raw).ok_or_else(|| fault::failed_finish(raw))?),
        };
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(place as u64);
        choice.insert("index".into(), index.into());
        let mut delta = match choice.get_mut("delta").map(Value::take) {
            Some(Value::Object(delta)) => delta,
            // Some fake a stream by one whole message.
            _ => match choice.get_mut("message").map(Value::take) {
                Some(Value::Object(message)) => message,
                _ => Object::new(),
            },
        };
        // Perplexity repeats the whole message so far on every chunk.
        choice.shift_remove("message");
        normalise::message(&mut delta);

        let id = self.id.clone();
        let at = match self.choices.iter().position(|known| known.index == index) {
            Some(at) => at,
            None => {
                self.begin(index)?;
                self.choices.len() - 1
            }
        };
        let Some(state) = self.choices.get_mut(at) else { return Ok(None) };
        if let Some(Value::Array(calls)) = delta.get_mut("tool_calls").map(Value::take) {
            let calls = state.tool_calls(calls, &id)?;
            put_calls(&mut delta, calls);
        }
        let was_finished = state.finish.is_some();
        let called = !state.calls.is_empty() || delta.contains_key("function_call");
        let ends = ends.map(|word| finish::told(word, called));
        if !was_finished && ends.is_some() {
            let unfed = state.unfed_calls();
            if !unfed.is_empty() {
                put_calls(&mut delta, unfed);
            }
        }
        let (bytes, mut content) = weigh(&delta);
        if was_finished && !content {
            return Ok(None);
        }
        if state.role {
            delta.shift_remove("role");
        } else {
            state.role = true;
            if !delta.get("role").is_some_and(Value::is_string) {
                delta.insert("role".into(), "assistant".into());
            }
        }
        let ends = ends.filter(|_| !was_finished);
        if ends.is_some() {
            state.finish = ends;
            content = true;
        }
        choice.insert("delta".into(), Value::Object(delta));
        choice.insert("finish_reason".into(), ends.into());
        self.text_bytes += bytes;
        Ok(Some((choice, content)))
    }
}

impl ChoiceState {
    /// Gives every call its own stable place and says id, type and name once.
    fn tool_calls(&mut self, calls: Vec<Value>, answer: &str) -> Result<Vec<Value>, Fault> {
        let mut kept = Vec::with_capacity(calls.len());
        for call in calls {
            let Value::Object(mut call) = call else { continue };
            let place = call.get("index").and_then(Value::as_u64);
            let id = match call.get("id") {
                Some(Value::String(id)) => id.clone(),
                Some(Value::Number(id)) => id.to_string(),
                _ => String::new(),
            };
            let tool = call.get("function").or_else(|| call.get("custom"));
            let name = tool.and_then(|tool| tool.get("name")).and_then(Value::as_str).unwrap_or_default();
            let at = match self.find(place, &id, name) {
                Some(at) => at,
                // Arguments of a call that never began belong to nothing.
                None if name.is_empty() && id.is_empty() && self.calls.is_empty() && place.is_none() => {
                    continue;
                }
                None if self.calls.len() >= MOST_CALLS => {
                    return Err(fault::malformed("the provider sent more tool calls than any model makes"));
                }
                None => {
                    let at = self.calls.len();
                    let invented = id.is_empty();
                    let id = if invented {
                        crate::providers::call_id::invent(answer, self.index, at, name)
                    } else {
                        id
                    };
                    let fed = call.contains_key("custom");
                    self.calls.push(CallState { place, id: id.as_str().into(), name: name.into(), fed });
                    call.insert("id".into(), id.into());
                    normalise::kind(&mut call);
                    call.insert("index".into(), at.into());
                    if let Some(Value::Object(function)) = call.get_mut("function") {
                        normalise::arguments(function, "");
                    }
                    self.feed(at, &call);
                    kept.push(Value::Object(call));
                    continue;
                }
            };
            call.insert("index".into(), at.into());
            call.shift_remove("id");
            call.shift_remove("type");
            for tool in ["function", "custom"] {
                if let Some(Value::Object(tool)) = call.get_mut(tool) {
                    tool.shift_remove("name");
                }
            }
            if let Some(Value::Object(function)) = call.get_mut("function") {
                normalise::arguments(function, "");
            }
            self.feed(at, &call);
            kept.push(Value::Object(call));
        }
        Ok(kept)
    }

    /// The call that a delta goes on with; `None` when it begins a new one.
    fn find(&self, place: Option<u64>, id: &str, name: &str) -> Option<usize> {
        let by_id = || self.calls.iter().rposition(|call| !id.is_empty() && &*call.id == id);
        let Some(place) = place else {
            return match (id.is_empty(), name.is_empty()) {
                (false, _) => by_id(),
                (true, false) => None,
                (true, true) => self.calls.len().checked_sub(1),
            };
        };
        let at = self.calls.iter().rposition(|call| call.place == Some(place))?;
        let known = self.calls.get(at)?;
        // Gemini's compatible endpoint sends several whole calls, all with the index 0.
        let another = if id.is_empty() { *known.name != *name } else { *known.id != *id };
        if another && !name.is_empty() && !known.name.is_empty() { by_id() } else { Some(at) }
    }

    fn feed(&mut self, at: usize, call: &Object) {
        let text =
            call.get("function").and_then(|function| function.get("arguments")).and_then(Value::as_str);
        if let Some(state) = self.calls.get_mut(at) {
            state.fed |= text.is_some_and(|text| !text.is_empty());
        }
    }

    /// Empty objects for calls that end without any arguments: clients parse them as JSON.
    fn unfed_calls(&mut self) -> Vec<Value> {
        let unfed = self.calls.iter_mut().enumerate().filter(|(_, call)| !call.fed);
        unfed
            .map(|(at, call)| {
                call.fed = true;
                json!({ "index": at, "function": { "arguments": "{}" } })
            })
            .collect()
    }
}

/// Adds to the calls of a delta. A call that is in it already gets its arguments there.
fn put_calls(delta: &mut Object, calls: Vec<Value>) {
    let mut all = match delta.shift_remove("tool_calls") {
        Some(Value::Array(all)) => all,
        _ => Vec::new(),
    };
    for call in calls {
        match all.iter_mut().find(|known| known.get("index") == call.get("index")) {
            Some(known) if known.pointer("/function/arguments").is_some_and(|text| text == "") => {
                if let Some(place) = known.pointer_mut("/function/arguments") {
                    *place = call.pointer("/function/arguments").cloned().unwrap_or_default();
                }
            }
            _ => all.push(call),
        }
    }
    if !all.is_empty() {
        delta.insert("tool_calls".into(), Value::Array(all));
    }
}

/// Bytes of generated text in a delta, and whether a client sees content by it.
fn weigh(delta: &Object) -> (u64, bool) {
    let (mut bytes, mut content) = (0, false);
    for (key, value) in delta {
        match (key.as_str(), value) {
            ("role" | "index", _) => {}
            // Said already, in `reasoning_content`.
            ("reasoning" | "reasoning_details", _) if delta.contains_key("reasoning_content") => {}
            ("content" | "reasoning_content" | "reasoning" | "refusal", Value::String(text)) => {
                bytes += text.len() as u64;
            }
            ("tool_calls", Value::Array(calls)) => {
                content |= !calls.is_empty();
                let texts = calls.iter().filter_map(|call| call.pointer("/function/arguments")?.as_str());
                bytes += texts.map(|text| text.len() as u64).sum::<u64>();
            }
            (_, Value::String(text)) => content |= !text.is_empty(),
            (_, Value::Array(list)) => content |= !list.is_empty(),
            (_, Value::Object(object)) => content |= !object.is_empty(),
            _ => {}
        }
    }
    (bytes, content || bytes > 0)
}

/// Unix seconds, whether a vendor writes an integer, a fraction or milliseconds.
pub(super) fn seconds(value: &Value) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to positive seconds")]
    let from_float = |n: f64| n.clamp(0.0, 1e15) as u64;
    let n = value.as_u64().or_else(|| value.as_f64().map(from_float)).unwrap_or(0);
    if n > 100_000_000_000 { n / 1000 } else { n }
}
