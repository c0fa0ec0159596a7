//! A whole answer of generateContent as the canonical answer.

use serde_json::Value;

use super::part::{self, Said};
use super::{cite, fault, finish, logprobs, partial, usage};
use crate::chat::{Answer, Choice, Object, Part, ToolKind, Usage, proof};
use crate::fault::Fault;
use crate::json;

/// The canonical answer.
///
/// # Errors
/// `Malformed` when the body is no answer; `Truncated` when one has no end; the provider's own fault when it is an error object.
pub(super) fn answer(body: &[u8]) -> Result<Answer, Fault> {
    let value = json::parse(body).ok_or_else(|| fault::malformed("the provider's answer is not JSON"))?;
    let mut object = match joined(value) {
        Value::Object(object) if !fault::is_error(&object) => object,
        other => return Err(fault::inside_success(&other)),
    };
    let id = part::take_text(&mut object, "responseId");
    let candidates = match object.shift_remove("candidates") {
        Some(Value::Array(candidates)) => candidates,
        _ => Vec::new(),
    };
    let searches = candidates.iter().map(usage::searches).sum();
    let maps = candidates.iter().any(usage::is_mapped);
    let mut choices = Vec::with_capacity(candidates.len());
    for (place, candidate) in candidates.into_iter().enumerate() {
        if let Value::Object(candidate) = candidate {
            choices.push(choice(candidate, place, &id)?);
        }
    }
    if choices.is_empty() {
        let Some(reason) = finish::block_reason(object.get("promptFeedback")) else {
            return Err(fault::malformed("the provider's answer has no candidates"));
        };
        choices.push(Choice { finish: Some(finish::blocked(reason)), ..Choice::default() });
    }
    let counted = object.shift_remove("usageMetadata");
    let created = part::created(&object);
    object.shift_remove("createTime");
    Ok(Answer {
        model: part::take_text(&mut object, "modelVersion"),
        id,
        created,
        choices,
        usage: counted.as_ref().and_then(usage::read).map(|usage| Usage { searches, maps, ..usage }),
        rest: object,
    })
}

/// A stream that came as one JSON array, as one answer: parts one after the other, the last word for the rest.
fn joined(value: Value) -> Value {
    let Value::Array(documents) = value else { return value };
    let mut whole = Object::new();
    let mut candidates: Vec<(u32, Object)> = Vec::new();
    for document in documents {
        let Value::Object(mut document) = document else { continue };
        if let Some(Value::Array(more)) = document.shift_remove("candidates") {
            for (place, candidate) in more.into_iter().enumerate() {
                let Value::Object(candidate) = candidate else { continue };
                let index = part::index(&candidate, place);
                match candidates.iter_mut().find(|(known, _)| *known == index) {
                    Some((_, known)) => join(known, candidate),
                    None => candidates.push((index, candidate)),
                }
            }
        }
        whole.extend(document);
    }
    let candidates = candidates.into_iter().map(|(_, candidate)| Value::Object(candidate)).collect();
    whole.insert("candidates".into(), Value::Array(candidates));
    Value::Object(whole)
}

fn join(known: &mut Object, mut more: Object) {
    let parts = match more.get_mut("content").and_then(|content| content.get_mut("parts")) {
        Some(Value::Array(parts)) => std::mem::take(parts),
        _ => Vec::new(),
    };
    match known.get_mut("content").and_then(|content| content.get_mut("parts")) {
        Some(Value::Array(list)) => {
            list.extend(parts);
            more.shift_remove("content");
        }
        _ => {
            if let Some(content) = more.get_mut("content").and_then(Value::as_object_mut) {
                content.insert("parts".into(), Value::Array(parts));
            }
        }
    }
    known.extend(more);
}

fn choice(mut candidate: Object, place: usize, answer: &str) -> Result<Choice, Fault> {
    let index = part::index(&candidate, place);
    let parts = part::take_parts(&mut candidate)?;
    let Some(word) = finish::word(candidate.get("finishReason")) else {
        let silent = || fault::malformed("the provider sent a candidate that says nothing");
        return Err(if parts.is_empty() { silent() } else { fault::unfinished() });
    };
    let mut reader =
        Reader { answer, index, content: Vec::new(), calls: 0, images: Vec::new(), text: String::new() };
    for part in parts.into_iter().filter_map(part::read) {
        reader.push(part);
    }
    let Reader { mut content, calls, images, text, .. } = reader;
    let mut citations = cite::citations(&candidate, &text);
    if !citations.is_empty()
        && let Some(Part::Text { citations: place, .. }) =
            content.iter_mut().rfind(|part| matches!(part, Part::Text { .. }))
    {
        place.append(&mut citations);
    }
    let logprobs = logprobs::read(candidate.shift_remove("logprobsResult"));
    let mut rest = Object::new();
    part::keep_rest(candidate, &mut rest);
    if !images.is_empty() {
        rest.insert("images".into(), Value::Array(images));
    }
    let finish = Some(finish::finish(word, calls > 0));
    Ok(Choice { index, content, finish, logprobs, rest })
}

struct Reader<'a> {
    answer: &'a str,
    index: u32,
    content: Vec<Part>,
    calls: usize,
    images: Vec<Value>,
    text: String,
}

impl Reader<'_> {
    fn push(&mut self, part: part::Part) {
        let signature = part.signature.as_deref();
        match part.said {
            Said::Text(text) => {
                if !text.is_empty() {
                    self.text.push_str(&text);
                    self.content.push(Part::text(text));
                }
                self.prove(signature);
            }
            Said::Thought(text) => {
                let signature = signature.map(proof::of_gemini);
                self.content.push(Part::Thinking { text, signature, redacted: None });
            }
            Said::Call(call) => {
                let name = call.name.unwrap_or_default();
                let id = call.id.unwrap_or_else(|| part::call_id(self.answer, self.index, self.calls, &name));
                let arguments = call.args.unwrap_or_else(|| {
                    let mut arguments = Object::new();
                    call.pieces.iter().for_each(|piece| partial::add(&mut arguments, piece));
                    Value::Object(arguments).to_string()
                });
                self.calls += 1;
                self.content.push(Part::ToolCall {
                    id,
                    name,
                    arguments,
                    kind: ToolKind::Function,
                    signature: part.signature,
                    cache: None,
                });
            }
            Said::Image(image) => {
                self.images.push(image);
                self.prove(signature);
            }
            Said::Foreign(value) => self.content.push(Part::Other(value)),
        }
    }

    /// A proof over the part just read stands after it, as thinking without a text.
    fn prove(&mut self, signature: Option<&str>) {
        if let Some(signature) = signature {
            let signature = Some(proof::of_gemini(signature));
            self.content.push(Part::Thinking { text: String::new(), signature, redacted: None });
        }
    }
}
