//! What a door's dialect has no words for in an answer: the loss report of answers, whole and streamed.

use serde_json::Value;

use crate::chat::{Answer, Choice, Event, Finish, FinishReason, Loss, Part, ToolKind, Usage};
use crate::json;

/// The most losses that one answer reports.
const MAX_LOSSES: usize = 64;

/// What the dialect of a door can say. A table for each door; the encoders leave out the rest.
pub(super) struct Tongue {
    /// More than one choice.
    pub(super) choices: bool,
    /// Log probabilities.
    pub(super) logprobs: bool,
    /// Which sequence stopped the answer.
    pub(super) stop_sequence: bool,
    /// A refusal apart from other text.
    pub(super) refusal: bool,
    /// What the model thought.
    pub(super) thinking: bool,
    /// Calls of the client's tools.
    pub(super) calls: bool,
    /// No more than one of them for each choice.
    pub(super) one_call: bool,
    /// Arguments of calls as text of any form, not only as an object.
    pub(super) texts: bool,
    /// This citation, with all that it says.
    pub(super) citation: fn(&Value) -> bool,
    /// This part of another dialect.
    pub(super) foreign: fn(&Value) -> bool,
    /// This image, sound or document.
    pub(super) media: fn(&Part) -> bool,
    /// This field of a choice that the canonical form does not know.
    pub(super) field: fn(&str, &Value) -> bool,
    /// Fields of the answer as a whole that the canonical form does not know.
    pub(super) fields: bool,
    /// The classes of usage beyond input and output, by the names of [`Usage::details`].
    pub(super) usage: &'static [&'static str],
    /// Its word for an end that has none of its own, and the end it then seems to be.
    pub(super) ends: &'static [(FinishReason, &'static str)],
    /// Whether its clients read comments between the events of a stream.
    pub(super) comments: bool,
}

/// Losses, each once, up to a bound.
#[derive(Debug, Default)]
pub(super) struct Unsaid {
    losses: Vec<Loss>,
    /// What the calls of a stream have said so far, by choice and call, where only objects can be told as they are.
    arguments: Vec<(u32, u32, String)>,
    /// The first call of each choice of a stream, where no other can be told.
    called: Vec<(u32, u32)>,
}

impl Tongue {
    /// What of a whole answer this dialect does not say.
    pub(super) fn unsaid(&self, answer: &Answer) -> Vec<Loss> {
        let mut lost = Unsaid::default();
        for choice in &answer.choices {
            if choice.index > 0 && !self.choices {
                lost.drop(choice.index, "");
                continue;
            }
            self.choice(choice, &mut lost);
        }
        if !self.fields {
            for (key, _) in answer.rest.iter().filter(|(key, value)| is_of_use(key) && says_something(value))
            {
                lost.push(Loss::dropped(format!("answer.{key}")));
            }
        }
        if let Some(usage) = &answer.usage {
            self.usage(usage, &mut lost);
        }
        lost.losses
    }

    fn choice(&self, choice: &Choice, lost: &mut Unsaid) {
        let (index, mut called) = (choice.index, false);
        for (at, part) in choice.content.iter().enumerate() {
            let mut lose = |field: &str, what: String| {
                lost.push(Loss::new(format!("answer.choices[{index}].content[{at}]{field}"), what));
            };
            match part {
                Part::Text { citations, .. } if !citations.iter().all(self.citation) => {
                    lose(".citations", "dropped or cut short".to_owned());
                }
                Part::Refusal(_) if !self.refusal => lose("", "a refusal, told as text".to_owned()),
                Part::Other(value) if !(self.foreign)(value) => lose("", foreign(value)),
                Part::Thinking { text, .. } if !self.thinking && !text.is_empty() => {
                    lose("", "thinking dropped".to_owned());
                }
                Part::ToolCall { .. } if !self.calls => lose("", "tool call dropped".to_owned()),
                Part::ToolCall { kind: ToolKind::Server, .. } => lose("", "dropped".to_owned()),
                Part::ToolCall { .. } if self.one_call && std::mem::replace(&mut called, true) => {
                    lose("", "another tool call dropped".to_owned());
                }
                Part::ToolCall { kind: ToolKind::Function, arguments, .. }
                    if !self.texts && !is_object(arguments) =>
                {
                    lose(".arguments", "not a JSON object, told as a text in one".to_owned());
                }
                Part::Image { .. } | Part::Audio { .. } | Part::File { .. } if !(self.media)(part) => {
                    lose("", "dropped".to_owned());
                }
                _ => {}
            }
        }
        if choice.logprobs.is_some() && !self.logprobs {
            lost.drop(index, ".logprobs");
        }
        for (key, value) in &choice.rest {
            self.field(index, key, value, lost);
        }
        if let Some(finish) = &choice.finish {
            self.finish(index, finish, lost);
        }
    }

    /// Notes what of an event this dialect does not say.
    pub(super) fn hear(&self, event: &Event, lost: &mut Unsaid) {
        if !self.choices
            && let Some(other @ 1..) = event.choice()
        {
            return lost.drop(other, "");
        }
        match event {
            Event::Citation { choice, value } if !(self.citation)(value) => {
                let path = format!("answer.choices[{choice}].citations");
                lost.push(Loss::new(path, "dropped or cut short"));
            }
            Event::Logprobs { choice, .. } if !self.logprobs => lost.drop(*choice, ".logprobs"),
            Event::Foreign { choice, value } if !(self.foreign)(value) => {
                lost.push(Loss::new(format!("answer.choices[{choice}].content"), foreign(value)));
            }
            Event::ToolCallStart { choice, kind, .. } if !self.calls || *kind == ToolKind::Server => {
                let path = format!("answer.choices[{choice}].content");
                lost.push(Loss::new(path, "tool call dropped"));
            }
            Event::ToolCallStart { choice, call, .. } if self.one_call => lost.call(*choice, *call),
            Event::ToolCallStart { choice, call, kind: ToolKind::Function, .. } if !self.texts => {
                lost.arguments.push((*choice, *call, String::new()));
            }
            Event::ToolCallDelta { choice, call, arguments } => {
                let place = |(of, at, _): &&mut (u32, u32, String)| (*of, *at) == (*choice, *call);
                if let Some((.., said)) = lost.arguments.iter_mut().find(place) {
                    said.push_str(arguments);
                }
            }
            Event::Thinking { choice, text, .. } if !self.thinking && !text.is_empty() => {
                let path = format!("answer.choices[{choice}].content");
                lost.push(Loss::new(path, "thinking dropped"));
            }
            Event::Refusal { choice, .. } if !self.refusal => {
                let path = format!("answer.choices[{choice}].content");
                lost.push(Loss::new(path, "a refusal, told as text"));
            }
            Event::Other { choice: Some(choice), fields } => {
                fields.iter().for_each(|(key, value)| self.field(*choice, key, value, lost));
            }
            Event::Other { choice: None, fields } if !self.fields => {
                for (key, _) in fields.iter().filter(|(key, value)| is_of_use(key) && says_something(value)) {
                    lost.push(Loss::dropped(format!("answer.{key}")));
                }
            }
            Event::Finish { choice, finish } => self.finish(*choice, finish, lost),
            Event::Usage(usage) => self.usage(usage, lost),
            Event::End => lost.judge_arguments(),
            _ => {}
        }
    }

    fn field(&self, choice: u32, key: &str, value: &Value, lost: &mut Unsaid) {
        if says_something(value) && !(self.field)(key, value) {
            lost.drop(choice, &format!(".{key}"));
        }
    }

    fn usage(&self, usage: &Usage, lost: &mut Unsaid) {
        for (class, count) in usage.details() {
            if count > 0 && !self.usage.contains(&class) {
                lost.push(Loss::new(format!("answer.usage.{class}"), "not told apart"));
            }
        }
    }

    fn finish(&self, choice: u32, finish: &Finish, lost: &mut Unsaid) {
        if let Some((_, word)) = self.ends.iter().find(|(reason, _)| *reason == finish.reason) {
            let raw = finish.raw.as_deref().filter(|raw| raw.len() <= 64).unwrap_or("another end");
            let path = format!("answer.choices[{choice}].finish_reason");
            lost.push(Loss::new(path, format!("{raw} told as {word}")));
        }
        // Where a provider says nothing of the end, a policy's stop word made it, and nothing of anybody's is lost.
        if finish.stop_sequence.is_some() && finish.raw.is_some() && !self.stop_sequence {
            lost.drop(choice, ".stop_sequence");
        }
    }
}

impl Unsaid {
    fn push(&mut self, loss: Loss) {
        if self.losses.len() < MAX_LOSSES && !self.losses.contains(&loss) {
            self.losses.push(loss);
        }
    }

    /// A call of a stream of which only the first is told.
    fn call(&mut self, choice: u32, call: u32) {
        match self.called.iter().find(|(of, _)| *of == choice) {
            None => self.called.push((choice, call)),
            Some((_, first)) if *first == call => {}
            Some(_) => {
                let path = format!("answer.choices[{choice}].content");
                self.push(Loss::new(path, "another tool call dropped"));
            }
        }
    }

    /// At the end of a stream, when every call has said all of its arguments.
    fn judge_arguments(&mut self) {
        for (choice, call, said) in std::mem::take(&mut self.arguments) {
            if !is_object(&said) {
                let path = format!("answer.choices[{choice}].tool_calls[{call}].arguments");
                self.push(Loss::new(path, "not a JSON object"));
            }
        }
    }

    fn drop(&mut self, choice: u32, field: &str) {
        self.push(Loss::dropped(format!("answer.choices[{choice}]{field}")));
    }

    /// The losses so far.
    pub(super) fn list(&self) -> &[Loss] {
        &self.losses
    }

    /// The losses as a comment between the events of a stream; `None` where nothing is lost.
    pub(super) fn comment(&self) -> Option<String> {
        let losses: Vec<String> = self.losses.iter().map(Loss::to_string).collect();
        let text: String = losses.join(", ").chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        (!text.is_empty()).then(|| format!(": tollgate-warnings {text}\n\n"))
    }
}

/// Says nothing of any citation, part, image or field.
pub(super) fn never<T: ?Sized>(_: &T) -> bool {
    false
}

/// The provider's own books: they stand in every answer, and a client of another dialect has no use for them.
fn is_of_use(field: &str) -> bool {
    !matches!(field, "system_fingerprint" | "service_tier" | "billed_units")
}

/// `null` and empty lists are how dialects say nothing.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// Whether a call's arguments are an object, or nothing, which is as good as an empty one. A model may write anything.
fn is_object(arguments: &str) -> bool {
    arguments.trim().is_empty() || json::parse(arguments.as_bytes()).is_some_and(|value| value.is_object())
}

fn foreign(value: &Value) -> String {
    let named = value.get("type").and_then(Value::as_str);
    let first = || value.as_object()?.keys().map(String::as_str).find(|key| *key != "thoughtSignature");
    match named.or_else(first).filter(|kind| kind.len() <= 64) {
        Some(kind) => format!("{kind} dropped"),
        None => "dropped".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{anthropic_messages, gemini_generate, openai_chat};

    #[test]
    fn arguments_that_are_no_object_are_told_of_where_the_dialect_wants_one() {
        let call = |arguments: &str| {
            let content = vec![Part::ToolCall {
                id: "c".into(),
                name: "f".into(),
                arguments: arguments.into(),
                kind: ToolKind::Function,
                signature: None,
                cache: None,
            }];
            Answer { choices: vec![Choice { content, ..Choice::default() }], ..Answer::default() }
        };
        for (arguments, told) in
            [("{\"a\":1}", false), ("", false), ("{\"city\": \"Par", true), ("[1]", true)]
        {
            for tongue in [&anthropic_messages::TONGUE, &gemini_generate::TONGUE] {
                let lost = tongue.unsaid(&call(arguments));
                let paths: Vec<_> = lost.iter().map(Loss::to_string).collect();
                assert_eq!(!paths.is_empty(), told, "{arguments}: {paths:?}");
                assert!(
                    paths.iter().all(|path| path.contains("choices[0].content[0].arguments")),
                    "{paths:?}"
                );
            }
            assert!(openai_chat::TONGUE.unsaid(&call(arguments)).is_empty(), "{arguments}");
        }
    }

    #[test]
    fn the_books_of_a_provider_are_no_loss() {
        for (field, told) in [("billed_units", false), ("system_fingerprint", false), ("moderation", true)] {
            let rest = [(field.to_owned(), Value::from("x"))].into_iter().collect();
            let lost = anthropic_messages::TONGUE.unsaid(&Answer { rest, ..Answer::default() });
            assert_eq!(!lost.is_empty(), told, "{field}");
        }
    }

    #[test]
    fn arguments_of_a_stream_are_judged_at_its_end() {
        let start = |call: u32| Event::ToolCallStart {
            choice: 0,
            call,
            id: format!("c{call}"),
            name: "f".into(),
            kind: ToolKind::Function,
            signature: None,
        };
        let more = |call: u32, text: &str| Event::ToolCallDelta { choice: 0, call, arguments: text.into() };
        // Two calls that are woven, and one that says nothing.
        let events =
            [start(0), more(0, "{\"a\":"), start(1), more(1, "{\"city\": \"Par"), more(0, "1}"), start(2)];
        for tongue in [&anthropic_messages::TONGUE, &gemini_generate::TONGUE, &openai_chat::TONGUE] {
            let mut lost = Unsaid::default();
            events.iter().for_each(|event| tongue.hear(event, &mut lost));
            assert!(lost.list().is_empty(), "more of them may come");
            tongue.hear(&Event::End, &mut lost);
            let paths: Vec<_> = lost.list().iter().map(|loss| &*loss.path).collect();
            let expected: &[&str] =
                if tongue.texts { &[] } else { &["answer.choices[0].tool_calls[1].arguments"] };
            assert_eq!(paths, expected);
        }
    }

    #[test]
    fn a_part_that_is_dropped_is_named_by_what_it_is() {
        for (part, named) in [
            (serde_json::json!({"type": "x", "y": 1}), "x dropped"),
            (serde_json::json!({"thoughtSignature": "s", "toolCall": {}}), "toolCall dropped"),
            (serde_json::json!([]), "dropped"),
        ] {
            assert_eq!(foreign(&part), named);
        }
    }
}
