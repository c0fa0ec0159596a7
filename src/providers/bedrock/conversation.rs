//! The conversation in Converse's form: the system prompt apart, turns that alternate, results before words.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::media;
use super::model::Model;
use crate::chat::{CacheHint, Loss, Media, Message, Object, Part, Role, proof};
use crate::fault::Fault;
use crate::providers::anthropic::message::{GO_ON, WORD_AFTER};
use crate::providers::foreign::{self, lose_fields};

/// Longest id of a call.
const MAX_ID: usize = 64;

/// Blocks of Converse's own that a client may send as they are.
const OWN: &[&str] = &[
    "guardContent",
    "searchResult",
    "video",
    "audio",
    "image",
    "document",
    "cachePoint",
    "toolUse",
    "toolResult",
];

/// A conversation that can be sent.
pub(super) struct Conversation {
    /// Blocks of the system prompt.
    pub(super) system: Vec<Value>,
    /// `messages`.
    pub(super) messages: Vec<Value>,
    /// Tools that were called before, or whose results are there.
    pub(super) called: BTreeSet<String>,
}

/// One turn: several canonical messages of the same side become one.
struct Turn {
    assistant: bool,
    blocks: Vec<Block>,
}

/// A block, and whether it is a tool's result or belongs to one.
struct Block {
    is_result: bool,
    value: Value,
}

/// The whole conversation.
///
/// # Errors
/// `BadRequest` that names the part which Bedrock cannot carry.
pub(super) fn all(
    messages: &[Message],
    model: Model<'_>,
    lost: &mut Vec<Loss>,
) -> Result<Conversation, Fault> {
    let mut writer = Writer { model, lost, names: BTreeSet::new(), called: BTreeSet::new() };
    let mut system = Vec::new();
    let mut turns: Vec<Turn> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let blocks = writer.message(message, at)?;
        if matches!(message.role, Role::System | Role::Developer) {
            if !turns.is_empty() {
                writer.lost.push(Loss::new(format!("messages[{at}]"), "moved to the system prompt"));
            }
            system.extend(blocks);
            continue;
        }
        if blocks.is_empty() {
            continue;
        }
        let assistant = message.role == Role::Assistant;
        match turns.last_mut() {
            Some(turn) if turn.assistant == assistant => turn.blocks.extend(blocks),
            _ => turns.push(Turn { assistant, blocks }),
        }
    }
    if turns.is_empty() && !system.is_empty() {
        writer.lost.push(Loss::new("messages", "the system prompt is sent as the user's"));
        turns.push(Turn { assistant: false, blocks: std::mem::take(&mut system) });
    }
    if turns.first().is_some_and(|first| first.assistant) {
        // "A conversation must start with a user message."
        writer.lost.push(Loss::new("messages", "a word of the user's was put before the model's"));
        let block = Block { is_result: false, value: json!({ "text": "(start)" }) };
        turns.insert(0, Turn { assistant: false, blocks: vec![block] });
    }
    if let Some(Turn { assistant: true, blocks }) = turns.last_mut() {
        trim_end(blocks);
        if model.claude().is_some_and(|claude| !claude.goes_on()) {
            writer.lost.push(Loss::new("messages", WORD_AFTER));
            let block = Block { is_result: false, value: json!({ "text": GO_ON }) };
            turns.push(Turn { assistant: false, blocks: vec![block] });
        }
    }
    let called = writer.called;
    let mut parted = Vec::with_capacity(turns.len());
    for turn in turns {
        turn.part(model, &mut parted, lost);
    }
    Ok(Conversation {
        system: system.into_iter().map(|block| block.value).collect(),
        messages: parted.into_iter().map(Turn::encode).collect(),
        called,
    })
}

impl Turn {
    /// What the model does not take beside a tool's result follows in a turn of its own, after a word of the model's.
    fn part(mut self, model: Model<'_>, turns: &mut Vec<Self>, lost: &mut Vec<Loss>) {
        let has_results = self.blocks.iter().any(|block| block.is_result);
        if !has_results || self.blocks.iter().all(|block| block.is_result || model.shares(&block.value)) {
            return turns.push(self);
        }
        lost.push(Loss::new("messages", "a word of the model's was put after a tool's result"));
        let (results, others) = self.blocks.drain(..).partition(|block| block.is_result);
        let word = Block { is_result: false, value: json!({ "text": "." }) };
        for (assistant, blocks) in [(false, results), (true, vec![word]), (false, others)] {
            turns.push(Self { assistant, blocks });
        }
    }

    fn encode(mut self) -> Value {
        if !self.assistant {
            // Results must come before words: they answer the calls of the turn before.
            self.blocks.sort_by_key(|block| !block.is_result);
            let has = |key: &str| self.blocks.iter().any(|block| block.value.get(key).is_some());
            if has("document") && !has("text") {
                // "You must also include a text block" beside documents.
                self.blocks.push(Block { is_result: false, value: json!({ "text": "(see the document)" }) });
            }
        }
        let role = if self.assistant { "assistant" } else { "user" };
        let content: Vec<Value> = self.blocks.into_iter().map(|block| block.value).collect();
        json!({ "role": role, "content": content })
    }
}

/// A prefilled answer must not end in white space.
fn trim_end(blocks: &mut Vec<Block>) {
    if let Some(Value::String(text)) = blocks.last_mut().and_then(|last| last.value.get_mut("text")) {
        text.truncate(text.trim_end().len());
        if text.is_empty() {
            blocks.pop();
        }
    }
}

struct Writer<'a> {
    model: Model<'a>,
    lost: &'a mut Vec<Loss>,
    /// Names of documents, which must not repeat.
    names: BTreeSet<String>,
    called: BTreeSet<String>,
}

impl Writer<'_> {
    fn message(&mut self, message: &Message, at: usize) -> Result<Vec<Block>, Fault> {
        lose_fields(message, at, self.lost);
        let mut blocks = Vec::with_capacity(message.content.len());
        for (index, part) in message.content.iter().enumerate() {
            let path = format!("messages[{at}].content[{index}]");
            let Some(value) = self.block(part, &path, message.role)? else { continue };
            let is_result = value.get("toolResult").is_some();
            blocks.push(Block { is_result, value });
            if let Some(value) = cache_of(part).and_then(|hint| point(hint, self.model, &path, self.lost)) {
                blocks.push(Block { is_result, value });
            }
        }
        Ok(blocks)
    }

    fn block(&mut self, part: &Part, path: &str, role: Role) -> Result<Option<Value>, Fault> {
        let assistant = role == Role::Assistant;
        Ok(Some(match part {
            // Blocks without words are refused.
            Part::Text { text, .. } if text.trim().is_empty() => return Ok(None),
            Part::Text { text, citations, .. } => {
                if !citations.is_empty() {
                    self.lost.push(Loss::dropped(format!("{path}.annotations")));
                }
                json!({ "text": text })
            }
            Part::Refusal(text) => json!({ "text": text }),
            Part::Thinking { text, signature, redacted } if assistant => {
                return Ok(self.thought(text, signature.as_deref(), redacted.as_deref(), path));
            }
            Part::ToolCall { id, name, arguments, kind, signature, .. } if assistant => {
                if signature.is_some() {
                    let what = "another provider's proof dropped";
                    self.lost.push(Loss::new(format!("{path}.signature"), what));
                }
                self.called.insert(name.clone());
                let input = foreign::arguments(arguments, *kind);
                json!({ "toolUse": { "toolUseId": call_id(id), "name": name, "input": input } })
            }
            Part::ToolResult { id, content, is_error, .. } if !assistant => {
                json!({ "toolResult": self.result(id, content, *is_error, path)? })
            }
            Part::Image { media, detail, .. } if role != Role::System => {
                if detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.lost.push(Loss::dropped(format!("{path}.detail")));
                }
                self.media(media, None, "image", path)?
            }
            Part::Audio { media } if !assistant => self.media(media, None, "audio", path)?,
            Part::File { media, filename, .. } if !assistant => {
                self.media(media, filename.as_deref(), "document", path)?
            }
            Part::Other(value) => match own(value) {
                Some(block) => block,
                None if assistant => {
                    foreign::lose_part(path.to_owned(), self.lost);
                    return Ok(None);
                }
                None => match foreign::video_url(value) {
                    Some(url) => self.media(&film(url), None, "video", path)?,
                    None => return foreign::cannot_read(value, path),
                },
            },
            _ => return foreign::cannot("such a part in a message of this role", path),
        }))
    }

    fn thought(
        &mut self,
        text: &str,
        signature: Option<&str>,
        redacted: Option<&str>,
        path: &str,
    ) -> Option<Value> {
        // Another provider's proof means nothing here.
        let signature = signature.and_then(proof::for_anthropic);
        let thought = match (redacted, signature) {
            _ if !self.model.takes_thoughts() => None,
            (Some(data), _) => proof::for_anthropic(data).map(|data| json!({ "redactedContent": data })),
            (None, Some(signature)) => {
                Some(json!({ "reasoningText": { "text": text, "signature": signature } }))
            }
            (None, None) => None,
        };
        if thought.is_none() {
            self.lost.push(Loss::new(path.to_owned(), "thinking that this model does not take back dropped"));
        }
        thought.map(|thought| json!({ "reasoningContent": thought }))
    }

    fn result(&mut self, id: &str, content: &[Part], is_error: bool, path: &str) -> Result<Value, Fault> {
        let mut blocks = Vec::with_capacity(content.len());
        for part in content {
            blocks.extend(self.block(part, path, Role::Tool)?);
            if cache_of(part).is_some() {
                self.lost.push(Loss::dropped(format!("{path}.content.cache_control")));
            }
        }
        if blocks.is_empty() {
            // Neither an empty list nor an empty text is taken.
            blocks.push(json!({ "text": "(no output)" }));
        }
        let mut result = Object::new();
        result.insert("toolUseId".into(), call_id(id).into());
        result.insert("content".into(), blocks.into());
        if is_error && self.model.takes_status() {
            result.insert("status".into(), "error".into());
        } else if is_error {
            self.lost.push(Loss::dropped(format!("{path}.is_error")));
        }
        Ok(Value::Object(result))
    }

    fn media(
        &mut self,
        media: &Media,
        name: Option<&str>,
        kind: &'static str,
        path: &str,
    ) -> Result<Value, Fault> {
        let media::Block { kind, mut value } = match media::block(media, name, kind) {
            Ok(block) => block,
            Err(what) => return foreign::cannot(&what, path),
        };
        if kind == "document" {
            value["name"] = self.document_name(name).into();
        }
        Ok(json!({ kind: value }))
    }

    /// A name that no other document of the conversation has.
    fn document_name(&mut self, name: Option<&str>) -> String {
        let clean = name.map(media::document_name).filter(|name| !name.is_empty());
        let clean = clean.unwrap_or_else(|| "document".to_owned());
        let numbered = (2..).map(|number| format!("{clean} ({number})"));
        let free = std::iter::once(clean.clone()).chain(numbered).find(|name| !self.names.contains(name));
        let name = free.unwrap_or(clean);
        self.names.insert(name.clone());
        name
    }
}

/// A cache point after a block, where the model has a cache.
pub(super) fn point(hint: &CacheHint, model: Model<'_>, path: &str, lost: &mut Vec<Loss>) -> Option<Value> {
    if !model.caches() {
        lost.push(Loss::new(format!("{path}.cache_control"), "dropped: this model has no such cache"));
        return None;
    }
    let mut point = Object::new();
    point.insert("type".into(), "default".into());
    match hint.ttl.as_deref() {
        // Five minutes are what every cache keeps unasked.
        None | Some("5m") => {}
        Some(ttl) if model.caches_long() => drop(point.insert("ttl".into(), ttl.into())),
        Some(_) => lost.push(Loss::new(format!("{path}.cache_control.ttl"), "lowered to 5m")),
    }
    Some(json!({ "cachePoint": point }))
}

fn cache_of(part: &Part) -> Option<&CacheHint> {
    match part {
        Part::Text { text, .. } if text.trim().is_empty() => None,
        Part::Text { cache, .. }
        | Part::Image { cache, .. }
        | Part::File { cache, .. }
        | Part::ToolCall { cache, .. }
        | Part::ToolResult { cache, .. } => cache.as_ref(),
        _ => None,
    }
}

/// A block of Converse's own, or of Anthropic's that Converse knows by another name.
fn own(value: &Value) -> Option<Value> {
    let object = value.as_object()?;
    if object.get("type").is_some_and(|kind| kind == "search_result") {
        let keys = ["source", "title", "content", "citations"];
        let field = |key: &str| object.get(key).filter(|value| !value.is_null()).cloned();
        let mut result: Object =
            keys.iter().filter_map(|key| Some(((*key).to_owned(), field(key)?))).collect();
        if let Some(Value::Array(texts)) = result.get_mut("content") {
            texts
                .iter_mut()
                .filter_map(Value::as_object_mut)
                .for_each(|text| drop(text.shift_remove("type")));
        }
        return Some(json!({ "searchResult": result }));
    }
    let (key, block) = object.iter().find(|(key, _)| OWN.contains(&key.as_str()))?;
    let alone = object.keys().all(|other| other == key || other == "type");
    alone.then(|| json!({ key: block }))
}

/// A film by its address, which may hold it.
fn film(url: &str) -> Media {
    match foreign::data_url(url) {
        Some((mime, base64)) => Media::Inline { mime: mime.to_owned(), base64: base64.to_owned() },
        None => Media::Url(url.to_owned()),
    }
}

/// Bedrock takes up to 64 letters, digits and `_.:-` in the ids of calls; others become `_`, in call and result alike.
fn call_id(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.:-".contains(c) { c } else { '_' };
    let clean: String = if id.is_empty() { "_".to_owned() } else { id.chars().map(plain).collect() };
    if clean.len() <= MAX_ID {
        return clean;
    }
    let hash = blake3::hash(id.as_bytes()).to_hex();
    format!("{}-{}", clean.get(..MAX_ID - 17).unwrap_or_default(), hash.get(..16).unwrap_or_default())
}
