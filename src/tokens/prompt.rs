//! Tokens of a whole prompt: its texts, and the template that the vendor puts around them.

use super::family::Family;
use super::tools::{tools, tools_at_most};
use crate::chat::{Message, OutputFormat, Part, Request};

/// Tokens for a thousand of a schema that the answer must follow, as OpenAI's models see it.
const SCHEMA_PER_MILLE: u64 = 700;
/// What stands around a call of a tool.
const CALL: u64 = 6;
/// A document, where nobody can see how long it is.
const DOCUMENT: u64 = 1_600;
/// Around each message and the prompt at most, in any dialect's template.
const MESSAGE_AT_MOST: u64 = 16;
const TEMPLATE_AT_MOST: u64 = 64;

/// What was found in a prompt.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    /// Tokens of texts, as the encoding counts them.
    texts: u64,
    /// Tokens of everything else.
    others: u64,
    /// Whether there is something whose tokens only its vendor knows.
    vague: bool,
}

/// Tokens of the prompt, and whether that is what the vendor counts.
pub(super) fn prompt(request: &Request, family: &Family, count: &mut dyn FnMut(&str) -> u64) -> (u64, bool) {
    let mut found = Found::default();
    for message in &request.messages {
        said(message, family, count, &mut found);
    }
    let schema = match &request.output {
        OutputFormat::JsonSchema { schema, .. } => {
            found.vague = true;
            count(&schema.to_string()).saturating_mul(SCHEMA_PER_MILLE) / 1_000
        }
        _ => 0,
    };
    found.vague |= !request.tools.is_empty();
    let template = family.base + family.message.saturating_mul(request.messages.len() as u64);
    let tokens = family.scaled(found.texts) + found.others + schema + template;
    (tokens + tools(&request.tools, family, count), family.exact && !found.vague)
}

/// As many tokens as the prompt can have at most, for a family whose encoding is its own; `None` where nobody knows.
pub(super) fn at_most(request: &Request, family: &Family, count: &mut dyn FnMut(&str) -> u64) -> Option<u64> {
    if !family.exact {
        return None;
    }
    let mut found = Found::default();
    for message in &request.messages {
        said(message, family, count, &mut found);
    }
    let known = request.messages.iter().flat_map(|message| &message.content).all(is_text);
    let schema = match &request.output {
        OutputFormat::JsonSchema { schema, .. } => count(&schema.to_string()) + MESSAGE_AT_MOST,
        OutputFormat::Other(_) => return None,
        _ => 0,
    };
    let around =
        MESSAGE_AT_MOST.saturating_mul(request.messages.len() as u64) + TEMPLATE_AT_MOST + family.base;
    known.then(|| found.texts + found.others + schema + around + tools_at_most(&request.tools, count))
}

fn is_text(part: &Part) -> bool {
    match part {
        Part::Text { .. } | Part::ToolCall { .. } | Part::Refusal(_) => true,
        Part::ToolResult { content, .. } => content.iter().all(is_text),
        _ => false,
    }
}

fn said(message: &Message, family: &Family, count: &mut dyn FnMut(&str) -> u64, found: &mut Found) {
    if let Some(name) = &message.name {
        found.others += count(name) + 1;
    }
    for part in &message.content {
        self::part(part, family, count, found);
    }
}

fn part(part: &Part, family: &Family, count: &mut dyn FnMut(&str) -> u64, found: &mut Found) {
    match part {
        Part::Text { text, .. } => found.texts += count(text),
        Part::Refusal(text) => found.texts += count(text),
        Part::ToolCall { name, arguments, .. } => {
            found.texts += count(name) + count(arguments);
            found.others += CALL;
            found.vague = true;
        }
        Part::ToolResult { content, .. } => {
            for inner in content {
                self::part(inner, family, count, found);
            }
        }
        Part::Image { .. } => {
            found.others += family.picture;
            found.vague = true;
        }
        Part::File { media, .. } => {
            match media.as_text() {
                Some(text) => found.texts += count(&text),
                None => found.others += DOCUMENT,
            }
            found.vague = true;
        }
        Part::Other(value) => {
            found.texts += count(&value.to_string());
            found.vague = true;
        }
        // Sound is counted by its seconds, which nobody knows here.
        Part::Audio { .. } => found.vague = true,
        // What was thought before is not read again.
        Part::Thinking { .. } => {}
    }
}
