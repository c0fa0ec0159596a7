//! Calls of custom tools, which get free text. A provider that knows functions alone calls them with an object that holds
//! it; the client gets the call that it knows.

use bytes::Bytes;
use serde_json::Value;

use super::ChatEncoder;
use crate::chat::{Answer, Event, Part, Request, StreamEncoder, ToolKind};
use crate::fault::Fault;

/// The names of the custom tools that a request offers.
pub(super) fn names(request: &Request) -> Vec<String> {
    let customs = request.tools.iter().filter(|tool| tool.kind == ToolKind::Custom);
    customs.map(|tool| tool.name.clone()).collect()
}

/// The answer with calls of these tools as what they are; `None` where it has none.
pub(super) fn restored(answer: &Answer, names: &[String]) -> Option<Answer> {
    let is_wrapped = |part: &Part| match part {
        Part::ToolCall { name, kind: ToolKind::Function, .. } => names.contains(name),
        _ => false,
    };
    if !answer.choices.iter().flat_map(|choice| &choice.content).any(is_wrapped) {
        return None;
    }
    let mut answer = answer.clone();
    let parts = answer.choices.iter_mut().flat_map(|choice| &mut choice.content);
    for part in parts.filter(|part| is_wrapped(part)) {
        if let Part::ToolCall { arguments, kind, .. } = part {
            (*arguments, *kind) = (free_text(arguments), ToolKind::Custom);
        }
    }
    Some(answer)
}

/// The free text that a custom tool gets, out of the object in which a provider of functions put it.
pub(in crate::api) fn free_text(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(mut object)) => match object.get_mut("input").map(Value::take) {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => arguments.to_owned(),
        },
        Ok(Value::String(text)) => text,
        _ => arguments.to_owned(),
    }
}

/// Writes a streamed answer to a client that offers custom tools.
pub(super) struct CustomCalls {
    inner: ChatEncoder,
    names: Vec<String>,
    /// Calls under way, by choice and number. Their text is known only at the end.
    open: Vec<(u32, u32, String)>,
}

impl CustomCalls {
    pub(super) fn new(inner: ChatEncoder, names: Vec<String>) -> Self {
        Self { inner, names, open: Vec::new() }
    }

    /// Says the texts of the calls of this choice, or of all.
    fn close(&mut self, of: Option<u32>, out: &mut Vec<u8>) {
        let is_over = |choice: u32| of.is_none_or(|of| of == choice);
        for (choice, call, arguments) in self.open.extract_if(.., |(choice, ..)| is_over(*choice)) {
            let arguments = free_text(&arguments);
            self.inner.encode(&Event::ToolCallDelta { choice, call, arguments }, out);
        }
    }
}

impl StreamEncoder for CustomCalls {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::ToolCallStart { choice, call, id, name, kind: ToolKind::Function, signature }
                if self.names.contains(name) =>
            {
                self.open.push((*choice, *call, String::new()));
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                let kind = ToolKind::Custom;
                let event = Event::ToolCallStart { choice: *choice, call: *call, id, name, kind, signature };
                return self.inner.encode(&event, out);
            }
            Event::ToolCallDelta { choice, call, arguments } => {
                let place = |(of, number, _): &&mut (u32, u32, String)| (*of, *number) == (*choice, *call);
                if let Some((.., said)) = self.open.iter_mut().find(place) {
                    return said.push_str(arguments);
                }
            }
            Event::Finish { choice, .. } => self.close(Some(*choice), out),
            Event::End => self.close(None, out),
            _ => {}
        }
        self.inner.encode(event, out);
    }

    fn fault(&mut self, fault: &Fault) -> Bytes {
        self.inner.fault(fault)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::openai_chat::Fallback;
    use crate::chat::{Choice, FinishReason, Object};

    #[test]
    fn free_text_comes_out_of_its_object() {
        for (arguments, expected) in [
            (r#"{"input":"a\nb"}"#, "a\nb"),
            (r#"{"other":1}"#, r#"{"other":1}"#),
            ("plain", "plain"),
            ("", ""),
            (r#"{"input":{"a":1}}"#, r#"{"a":1}"#),
        ] {
            assert_eq!(free_text(arguments), expected);
        }
    }

    #[test]
    fn calls_of_custom_tools_are_what_they_are_whole_and_streamed() {
        let call = |name: &str, arguments: &str| Part::ToolCall {
            id: name.into(),
            name: name.into(),
            arguments: arguments.into(),
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        };
        let content = vec![call("patch", r#"{"input":"*** \"a\""}"#), call("f", r#"{"input":"b"}"#)];
        let choice = Choice {
            index: 0,
            content,
            finish: Some(FinishReason::ToolCalls.into()),
            logprobs: None,
            rest: Object::new(),
        };
        let answer = Answer {
            id: "a".into(),
            model: "m".into(),
            created: 1,
            choices: vec![choice],
            usage: None,
            rest: Object::new(),
        };
        let names = vec!["patch".to_owned()];
        let kinds = |answer: &Answer| {
            let told = answer.choices[0].content.iter().map(|part| match part {
                Part::ToolCall { arguments, kind, .. } => (*kind, arguments.clone()),
                other => panic!("{other:?}"),
            });
            told.collect::<Vec<_>>()
        };
        let whole = restored(&answer, &names).unwrap();
        let expected =
            [(ToolKind::Custom, "*** \"a\"".to_owned()), (ToolKind::Function, r#"{"input":"b"}"#.to_owned())];
        assert_eq!(kinds(&whole), expected);
        assert!(restored(&answer, &["other".to_owned()]).is_none());

        let fallback = Fallback { id: "x".into(), created: 1 };
        let (mut encoder, mut out) = (CustomCalls::new(ChatEncoder::new(false, fallback), names), Vec::new());
        answer.into_events().iter().for_each(|event| encoder.encode(event, &mut out));
        let text = String::from_utf8(out).unwrap();
        let chunks = text.lines().filter_map(|line| line.strip_prefix("data: {"));
        let calls: Vec<Value> = chunks
            .filter_map(|chunk| {
                let chunk: Value = serde_json::from_str(&format!("{{{chunk}")).unwrap();
                chunk.pointer("/choices/0/delta/tool_calls/0").cloned()
            })
            .collect();
        let first: Vec<&Value> = calls.iter().filter(|call| call["index"] == 0).collect();
        assert_eq!(first[0]["custom"], json!({"name": "patch", "input": ""}), "{text}");
        assert_eq!(first[1]["custom"]["input"], "*** \"a\"", "{text}");
        assert!(text.contains(r#""name":"f","arguments":"""#), "{text}");
    }
}
