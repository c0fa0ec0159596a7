//! The places of an answer in which text stands.

use serde_json::Value;

use super::cut::{self, Cut};
use crate::chat::{Answer, Choice, Part};
use crate::json::Text;

/// A place in which text stands.
pub(super) enum Slot<'a> {
    /// Text of the answer.
    Text(&'a mut Text),
    /// A refusal.
    Plain(&'a mut String),
    /// A thought, and the proof that it is the provider's.
    Thought(&'a mut String, &'a mut Option<String>),
    /// Arguments of a tool: JSON, or any text.
    Arguments(&'a mut String),
    /// What only some dialects understand.
    Value(&'a mut Value),
}

impl Slot<'_> {
    /// What stands there.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.as_str().to_owned(),
            Self::Plain(text) | Self::Thought(text, _) => (**text).clone(),
            Self::Arguments(text) => {
                arguments(text).map_or_else(|| (**text).clone(), |value| cut::texts(&value))
            }
            Self::Value(value) => cut::texts(value),
        }
    }

    /// Cuts this out; `cuts` are sorted.
    pub(super) fn cut(self, cuts: &[Cut]) {
        match self {
            Self::Text(text) => *text = cut::apply(text.as_str(), cuts).into_owned().into(),
            Self::Plain(text) => *text = cut::apply(text, cuts).into_owned(),
            Self::Thought(text, signature) => {
                // It proved another text.
                (*text, *signature) = (cut::apply(text, cuts).into_owned(), None);
            }
            Self::Arguments(text) => *text = without(text, cuts),
            Self::Value(value) => cut::apply_within(value, cuts),
        }
    }
}

/// Arguments of a tool as JSON, where they are.
pub(super) fn arguments(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().filter(|value: &Value| value.is_object() || value.is_array())
}

/// Arguments of a tool without what was found in their texts.
pub(super) fn without(text: &str, cuts: &[Cut]) -> String {
    match arguments(text) {
        Some(mut value) => {
            cut::apply_within(&mut value, cuts);
            value.to_string()
        }
        None => cut::apply(text, cuts).into_owned(),
    }
}

/// Visits all places of an answer, always in the same order.
pub(super) fn each(answer: &mut Answer, visit: &mut dyn FnMut(String, Slot<'_>)) {
    for choice in &mut answer.choices {
        let at = format!("choices[{}]", choice.index);
        of_choice(choice, &at, visit);
    }
    for (field, value) in &mut answer.rest {
        visit(field.clone(), Slot::Value(value));
    }
}

fn of_choice(choice: &mut Choice, at: &str, visit: &mut dyn FnMut(String, Slot<'_>)) {
    for (place, part) in choice.content.iter_mut().enumerate() {
        let path = |what: &str| format!("{at}.content[{place}].{what}");
        match part {
            Part::Text { text, citations, .. } => {
                visit(path("text"), Slot::Text(text));
                for citation in citations {
                    visit(path("citations"), Slot::Value(citation));
                }
            }
            Part::Refusal(text) => visit(path("refusal"), Slot::Plain(text)),
            Part::Thinking { text, signature, .. } => {
                visit(path("reasoning"), Slot::Thought(text, signature));
            }
            Part::ToolCall { arguments, .. } => visit(path("arguments"), Slot::Arguments(arguments)),
            Part::Other(value) => visit(path("other"), Slot::Value(value)),
            Part::Image { .. } | Part::Audio { .. } | Part::File { .. } | Part::ToolResult { .. } => {}
        }
    }
    for (field, value) in &mut choice.rest {
        visit(format!("{at}.{field}"), Slot::Value(value));
    }
}
