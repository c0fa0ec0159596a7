//! The conversation in Anthropic's form: the system prompt apart, turns that alternate, results before words.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::encode::mark;
use super::model::Claude;
use crate::chat::{CacheHint, Loss, Media, Message, Object, Part, Role, ToolKind, proof};
use crate::fault::{Fault, Retry};
use crate::json::{self, Text, Verbatim};
use crate::providers::foreign;

/// What the user says to a model that goes on with no answer that was begun.
pub(in crate::providers) const GO_ON: &str = "Continue.";

/// How that is told.
pub(in crate::providers) const WORD_AFTER: &str = "a word of the user's was put after the model's: this model goes on with \
    no answer that was begun";

/// A conversation that can be sent.
pub(super) struct Conversation<'a> {
    /// Blocks of the system prompt.
    pub(super) system: Vec<Value>,
    /// `messages`, with null for each of `plain`.
    pub(super) messages: Vec<Value>,
    /// Turns of one text, which need no tree to be written.
    pub(super) plain: Vec<Verbatim<'a>>,
}

/// One turn: several canonical messages of the same side become one.
struct Turn<'a> {
    assistant: bool,
    content: Vec<Value>,
    /// All that it says, unless there is content.
    plain: Option<&'a Text>,
}

/// The whole conversation.
///
/// # Errors
/// `BadRequest` that names the part which Anthropic's dialect cannot carry.
pub(super) fn all<'a>(
    messages: &'a [Message],
    claude: Option<Claude>,
    lost: &mut Vec<Loss>,
) -> Result<Conversation<'a>, Fault> {
    let mut system = Vec::new();
    let mut turns: Vec<Turn<'a>> = Vec::with_capacity(messages.len());
    for (at, message) in messages.iter().enumerate() {
        let assistant = message.role == Role::Assistant;
        if matches!(message.role, Role::User | Role::Assistant)
            && let Some(text) = message.as_plain().filter(|text| !text.is_blank())
            && turns.last().is_none_or(|turn| turn.assistant != assistant)
        {
            turns.push(Turn { assistant, content: Vec::new(), plain: Some(text) });
            continue;
        }
        let place = Place { message: at, losses: lost };
        let content = place.blocks(message)?;
        lose_fields(message, at, lost);
        if matches!(message.role, Role::System | Role::Developer) {
            if !turns.is_empty() {
                lost.push(Loss::new(format!("messages[{at}]"), "moved to the system prompt"));
            }
            system.extend(content);
            continue;
        }
        if content.is_empty() {
            continue;
        }
        match turns.last_mut() {
            Some(turn) if turn.assistant == assistant => turn.blocks().extend(content),
            _ => turns.push(Turn { assistant, content, plain: None }),
        }
    }
    if turns.is_empty() && !system.is_empty() {
        lost.push(Loss::new("messages", "the system prompt is sent as the user's"));
        turns.push(Turn { assistant: false, content: std::mem::take(&mut system), plain: None });
    }
    if let Some(turn) = turns.last_mut().filter(|turn| turn.assistant) {
        trim_end(turn.blocks());
        if claude.is_some_and(|claude| !claude.goes_on()) {
            lost.push(Loss::new("messages", WORD_AFTER));
            let content = vec![json!({ "type": "text", "text": GO_ON })];
            turns.push(Turn { assistant: false, content, plain: None });
        }
    }
    let mut plain = Vec::with_capacity(turns.len());
    let messages = turns.into_iter().map(|turn| turn.encode(&mut plain)).collect();
    Ok(Conversation { system, messages, plain })
}

/// Whether the conversation ends inside a loop of tool calls that another provider began: Anthropic thinks in such a
/// turn only where its own signed thought stands at the beginning.
/// <https://platform.claude.com/docs/en/build-with-claude/extended-thinking#toggling-thinking-modes-in-conversations>
pub(in crate::providers) fn is_unproven_loop(messages: &[Message]) -> bool {
    let is_result =
        |message: &Message| message.content.iter().any(|part| matches!(part, Part::ToolResult { .. }));
    if !messages.last().is_some_and(is_result) {
        return false;
    }
    let turn =
        messages.iter().rev().take_while(|message| message.role == Role::Assistant || is_result(message));
    let Some(first) = turn.filter(|message| message.role == Role::Assistant).last() else { return false };
    !first.content.iter().any(|part| match part {
        Part::Thinking { signature, redacted, .. } => {
            own(signature.as_deref()).is_some() || own(redacted.as_deref()).is_some()
        }
        _ => false,
    })
}

/// A signature that is Anthropic's own.
fn own(signature: Option<&str>) -> Option<&str> {
    signature.and_then(proof::for_anthropic)
}

impl<'a> Turn<'a> {
    /// Its content, as blocks.
    fn blocks(&mut self) -> &mut Vec<Value> {
        self.content.extend(self.plain.take().map(|text| json!({ "type": "text", "text": text })));
        &mut self.content
    }

    /// The message; a plain one is null, and added to `plain`.
    fn encode(self, plain: &mut Vec<Verbatim<'a>>) -> Value {
        if let Some(text) = self.plain {
            let before = match self.assistant {
                true => r#"{"role":"assistant","content":"#,
                false => r#"{"role":"user","content":"#,
            };
            plain.push(Verbatim { before, text, after: "}" });
            return Value::Null;
        }
        let mut content = self.content;
        if !self.assistant {
            // Results must come before words: they answer the calls of the turn before.
            let is_result = |block: &Value| block.get("type").is_some_and(|kind| kind == "tool_result");
            content.sort_by_key(|block| !is_result(block));
        }
        let role = if self.assistant { "assistant" } else { "user" };
        if let [Value::Object(only)] = content.as_mut_slice()
            && only.len() == 2
            && let Some(text) = only.get_mut("text").filter(|text| text.is_string())
        {
            return json!({ "role": role, "content": text.take() });
        }
        json!({ "role": role, "content": content })
    }
}

/// A prefilled answer must not end in white space.
fn trim_end(content: &mut Vec<Value>) {
    if let Some(Value::Object(last)) = content.last_mut()
        && let Some(Value::String(text)) = last.get_mut("text")
    {
        text.truncate(text.trim_end().len());
        if text.is_empty() {
            content.pop();
        }
    }
}

fn lose_fields(message: &Message, at: usize, lost: &mut Vec<Loss>) {
    // The name of a tool stands at its call.
    if message.name.is_some() && message.role != Role::Tool {
        lost.push(Loss::dropped(format!("messages[{at}].name")));
    }
    for (field, value) in &message.rest {
        if !value.is_null() {
            lost.push(Loss::dropped(format!("messages[{at}].{field}")));
        }
    }
}

/// One message on its way.
struct Place<'a> {
    message: usize,
    losses: &'a mut Vec<Loss>,
}

impl Place<'_> {
    fn blocks(mut self, message: &Message) -> Result<Vec<Value>, Fault> {
        let mut blocks = Vec::with_capacity(message.content.len());
        for (at, part) in message.content.iter().enumerate() {
            blocks.extend(self.block(part, at, message.role)?);
        }
        Ok(blocks)
    }

    fn block(&mut self, part: &Part, at: usize, role: Role) -> Result<Option<Value>, Fault> {
        let assistant = role == Role::Assistant;
        let mut object = match part {
            // Anthropic refuses blocks without words.
            Part::Text { text, .. } if text.trim().is_empty() => return Ok(None),
            Part::Text { text, citations, .. } => self.text(text, citations, at),
            Part::Refusal(text) => self.text(text, &[], at),
            Part::Thinking { text, signature, redacted } if assistant => {
                match self.thought(text, signature.as_deref(), redacted.as_deref(), at) {
                    Some(object) => object,
                    None => return Ok(None),
                }
            }
            Part::ToolCall { id, name, arguments, kind, signature, .. } if assistant => {
                if signature.is_some() {
                    self.lose(at, ".signature", "another provider's proof dropped");
                }
                let input = self.input(arguments, *kind, at);
                object(json!({ "type": "tool_use", "id": tool_id(id), "name": name, "input": input }))
            }
            Part::ToolResult { id, content, is_error, .. } if !assistant => {
                self.result(id, content, *is_error, at)?
            }
            Part::Image { media, detail, .. } if !assistant => {
                if detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.lose(at, ".detail", "dropped");
                }
                object(json!({ "type": "image", "source": image(media) }))
            }
            Part::File { media, filename, .. } if !assistant => {
                let mut block = object(json!({ "type": "document", "source": self.document(media, at)? }));
                if let Some(name) = filename {
                    block.insert("title".into(), name.as_str().into());
                }
                block
            }
            Part::Other(Value::Object(block)) if is_own(block) => block.clone(),
            Part::Other(_) if assistant => {
                // What another provider's own tools did says nothing to this one.
                self.lose(at, "", "part of another provider's dialect dropped");
                return Ok(None);
            }
            Part::Other(value) => return Err(self.cannot(&foreign::what_is(value), at)),
            Part::Audio { .. } => return Err(self.cannot("audio", at)),
            Part::Image { .. } | Part::File { .. } => {
                return Err(self.cannot("an image or a document from the model", at));
            }
            Part::Thinking { .. } | Part::ToolCall { .. } | Part::ToolResult { .. } => {
                return Err(self.cannot("such a part in a message of this role", at));
            }
        };
        mark(&mut object, cache_of(part));
        Ok(Some(Value::Object(object)))
    }

    fn text(&mut self, text: &str, citations: &[Value], at: usize) -> Object {
        let mut block = object(json!({ "type": "text", "text": text }));
        let (own, others): (Vec<&Value>, Vec<&Value>) = citations.iter().partition(|citation| {
            let kind = citation.get("type").and_then(Value::as_str).unwrap_or_default();
            kind.ends_with("_location")
        });
        if !others.is_empty() {
            self.lose(at, ".annotations", "dropped");
        }
        if !own.is_empty() {
            block.insert("citations".into(), own.into_iter().cloned().collect());
        }
        block
    }

    fn thought(
        &mut self,
        text: &str,
        signature: Option<&str>,
        redacted: Option<&str>,
        at: usize,
    ) -> Option<Object> {
        match (redacted, own(signature)) {
            (Some(data), _) => {
                let Some(data) = proof::for_anthropic(data) else {
                    self.lose(at, "", "hidden thinking of another provider dropped");
                    return None;
                };
                Some(object(json!({ "type": "redacted_thinking", "data": data })))
            }
            (None, Some(signature)) => {
                Some(object(json!({ "type": "thinking", "thinking": text, "signature": signature })))
            }
            (None, None) => {
                self.lose(at, "", "thinking without a signature dropped");
                None
            }
        }
    }

    /// A call's arguments as the object that Anthropic wants.
    fn input(&mut self, arguments: &str, kind: ToolKind, at: usize) -> Value {
        if kind != ToolKind::Custom {
            if arguments.trim().is_empty() {
                return json!({});
            }
            match json::parse(arguments.as_bytes()) {
                Some(input @ Value::Object(_)) => return input,
                Some(Value::Null) => return json!({}),
                _ => self.lose(at, ".arguments", "no JSON object: sent as the text of `input`"),
            }
        }
        json!({ "input": arguments })
    }

    fn result(&mut self, id: &str, content: &[Part], is_error: bool, at: usize) -> Result<Object, Fault> {
        let mut block = object(json!({ "type": "tool_result", "tool_use_id": tool_id(id) }));
        let mut blocks = Vec::with_capacity(content.len());
        for part in content {
            blocks.extend(self.block(part, at, Role::Tool)?);
        }
        match (blocks.as_mut_slice(), content) {
            ([], _) => {}
            ([Value::Object(only)], [Part::Text { cache: None, .. }]) => {
                block.insert("content".into(), only.get_mut("text").map(Value::take).unwrap_or_default());
            }
            _ => drop(block.insert("content".into(), Value::Array(blocks))),
        }
        if is_error {
            block.insert("is_error".into(), true.into());
        }
        Ok(block)
    }

    fn document(&mut self, media: &Media, at: usize) -> Result<Value, Fault> {
        Ok(match media {
            Media::Url(url) => json!({ "type": "url", "url": url }),
            Media::FileId(id) => json!({ "type": "file", "file_id": id }),
            Media::Inline { mime, base64 } if mime == "application/pdf" => {
                json!({ "type": "base64", "media_type": mime, "data": base64 })
            }
            Media::Inline { mime, base64 } => {
                let is_text = mime.starts_with("text/") || mime == "application/json";
                let bytes = BASE64_STANDARD.decode(base64).ok().filter(|_| is_text);
                let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) else {
                    return Err(self.cannot(&format!("a document of the type `{mime}`"), at));
                };
                json!({ "type": "text", "media_type": "text/plain", "data": text })
            }
        })
    }

    fn lose(&mut self, at: usize, field: &str, what: &'static str) {
        self.losses.push(Loss::new(format!("messages[{}].content[{at}]{field}", self.message), what));
    }

    fn cannot(&self, what: &str, at: usize) -> Fault {
        Fault::bad_request(
            format!("this model's provider cannot take {what}"),
            format!("messages[{}].content[{at}]", self.message),
        )
        .retry(Retry::Elsewhere)
    }
}

fn cache_of(part: &Part) -> Option<&CacheHint> {
    match part {
        Part::Text { cache, .. }
        | Part::Image { cache, .. }
        | Part::File { cache, .. }
        | Part::ToolCall { cache, .. }
        | Part::ToolResult { cache, .. } => cache.as_ref(),
        _ => None,
    }
}

fn object(value: Value) -> Object {
    if let Value::Object(object) = value { object } else { Object::new() }
}

fn image(media: &Media) -> Value {
    match media {
        Media::Url(url) => json!({ "type": "url", "url": url }),
        Media::FileId(id) => json!({ "type": "file", "file_id": id }),
        Media::Inline { mime, base64 } => {
            let mime = if mime == "image/jpg" { "image/jpeg" } else { mime };
            json!({ "type": "base64", "media_type": mime, "data": base64 })
        }
    }
}

/// Whether a part that the canonical form does not know is one of Anthropic's own.
fn is_own(block: &Object) -> bool {
    const OWN: &[&str] = &[
        "document",
        "image",
        "search_result",
        "container_upload",
        "server_tool_use",
        "mcp_tool_use",
        "tool_reference",
        "tool_addition",
        "tool_removal",
        "browser_state",
        "mcp_tool_listing",
        "compaction",
        "fallback",
    ];
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    OWN.contains(&kind) || kind.ends_with("_tool_result")
}

/// Anthropic takes letters, digits, `_` and `-` in the ids of calls; others become `_`, in call and result alike.
fn tool_id(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    if id.is_empty() { "_".to_owned() } else { id.chars().map(plain).collect() }
}
