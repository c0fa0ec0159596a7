//! A streamed response as canonical events:
//! <https://platform.openai.com/docs/api-reference/responses-streaming>

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::event::{self, Event as Wire, Kind};
use super::stream::{LONGEST, usage_of};
use super::{decode, fault, whole};
use crate::chat::{Event, Object, Part, Role, StreamDecoder, ToolKind, Usage};
use crate::fault::{Fault, FaultKind};
use crate::frames::{SseEvent, SseSplitter};
use crate::json::Halves;
use crate::providers::openai;

/// The decoder of one streamed answer.
pub(super) struct ResponsesDecoder {
    splitter: SseSplitter,
    halves: Halves,
    keeper: Arc<str>,
    now_ms: u64,
    id: String,
    started: bool,
    /// The items under way, by their place.
    items: BTreeMap<u64, Item>,
    calls: u32,
    /// As [`whole::searches_x`] of the tools that were offered.
    searches_x: bool,
    done: bool,
}

/// What of an item was said so far.
#[derive(Default)]
struct Item {
    /// Its type, where it was announced.
    kind: String,
    /// The call's number among the calls.
    call: Option<u32>,
    /// Text, refusal or arguments came in pieces.
    fed: bool,
    annotations: usize,
    /// Which text of a reasoning item is shown, and which part of it came last.
    thought: Option<(Kind, u64)>,
    /// It came as a whole: nothing of it is missing.
    closed: bool,
}

impl ResponsesDecoder {
    pub(super) fn new(keeper: Arc<str>, now_ms: u64) -> Self {
        Self {
            splitter: SseSplitter::with_max_line(LONGEST),
            halves: Halves::default(),
            keeper,
            now_ms,
            id: String::new(),
            started: false,
            items: BTreeMap::new(),
            calls: 0,
            searches_x: false,
            done: false,
        }
    }

    fn event(&mut self, event: &SseEvent, events: &mut Vec<Event>) -> Result<(), Fault> {
        if !event.has_data || self.done || event.data.trim_ascii().is_empty() {
            return Ok(());
        }
        if event.is_done() {
            return Err(openai::fault::truncated());
        }
        let text = event.text();
        // What is large stays text, so a half would not be seen before its string is read, alone.
        let joined = self.halves.join(&text);
        let text = joined.as_deref().unwrap_or(&text);
        let wire = event::read(text, self.now_ms)?;
        let kind = wire.kind();
        match kind {
            Kind::Error => {
                return Err(fault::event(&serde_json::from_str(text).unwrap_or_default(), self.now_ms));
            }
            Kind::Failed => return Err(self.failed(&wire, events)),
            _ => {}
        }
        self.start(&wire, events);
        let at = wire.output_index.unwrap_or(0);
        match kind {
            Kind::ItemAdded => self.added(at, event::value(wire.item), events),
            Kind::ItemDone => self.item(at, event::value(wire.item), events),
            Kind::Text | Kind::Refusal => self.said(at, &wire, events),
            Kind::Summary | Kind::Reasoning => self.thought(at, &wire, events),
            Kind::Annotation => {
                self.items.entry(at).or_default().annotations += 1;
                let value = decode::citation(event::value(wire.annotation));
                events.push(Event::Citation { choice: 0, value });
            }
            Kind::Arguments => self.arguments(at, &event::text(wire.delta), events),
            Kind::ArgumentsDone if !self.items.get(&at).is_some_and(|item| item.fed) => {
                self.arguments(at, &event::text(wire.arguments.or(wire.input)), events);
            }
            Kind::Ended => self.end(&wire, events)?,
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, wire: &Wire<'_>, events: &mut Vec<Event>) {
        if self.started {
            return;
        }
        self.started = true;
        let mut response = match event::value(wire.response) {
            Value::Object(response) => response,
            _ => Object::new(),
        };
        self.id = decode::take_text(&mut response, "id");
        let tools = response.get("tools").and_then(Value::as_array);
        self.searches_x = whole::searches_x(tools.into_iter().flatten().map(decode::kind_of));
        let (id, created) = (self.id.clone(), decode::created(&response));
        events.push(Event::Start { id, model: decode::take_text(&mut response, "model"), created });
        events.push(Event::ChoiceStart { choice: 0, role: Role::Assistant });
    }

    fn added(&mut self, at: u64, item: Value, events: &mut Vec<Event>) {
        // A vendor that counts wrongly begins another item in the same place.
        let kind = decode::kind_of(&item).to_owned();
        // One that is announced as done has nothing to stream: whether it is the client's call is seen in the end, for
        // Perplexity announces its own searches so.
        let is_done = item.get("status").is_some_and(|status| status == "completed");
        let is_call = self.is_clients(&kind) && !is_done;
        self.items.insert(at, Item { kind, ..Item::default() });
        if let Value::Object(item) = item
            && is_call
        {
            self.begin_call(at, &item, events);
        }
    }

    /// Whether an item is a call of a tool of the client.
    fn is_clients(&self, kind: &str) -> bool {
        whole::is_call(kind) && !(kind == whole::CUSTOM && self.searches_x)
    }

    fn begin_call(&mut self, at: u64, item: &Object, events: &mut Vec<Event>) {
        let call = self.calls;
        let place = usize::try_from(call).unwrap_or(usize::MAX);
        let id = decode::call_id(item, &self.id, place);
        let name = item.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = decode::tool_kind(item);
        self.calls += 1;
        self.items.entry(at).or_default().call = Some(call);
        events.push(Event::ToolCallStart { choice: 0, call, id, name, kind, signature: None });
        let field = if kind == ToolKind::Custom { "input" } else { "arguments" };
        self.arguments(at, &decode::arguments(item, field), events);
    }

    fn arguments(&mut self, at: u64, text: &str, events: &mut Vec<Event>) {
        let Some(item) = self.items.get_mut(&at) else { return };
        if let (Some(call), false) = (item.call, text.is_empty()) {
            item.fed = true;
            events.push(Event::ToolCallDelta { choice: 0, call, arguments: text.to_owned() });
        }
    }

    fn said(&mut self, at: u64, wire: &Wire<'_>, events: &mut Vec<Event>) {
        let text = event::text(wire.delta).into_owned();
        let logprobs = decode::list(Some(event::value(wire.logprobs)));
        if !text.is_empty() {
            self.items.entry(at).or_default().fed = true;
            let refuses = wire.kind() == Kind::Refusal;
            events.push(if refuses {
                Event::Refusal { choice: 0, text }
            } else {
                Event::Text { choice: 0, text }
            });
        }
        if !logprobs.is_empty() {
            events.push(Event::Logprobs { choice: 0, value: decode::in_words_of_chat(logprobs) });
        }
    }

    /// Of a summary and the reasoning itself only that which comes first is shown, as in a whole answer.
    fn thought(&mut self, at: u64, wire: &Wire<'_>, events: &mut Vec<Event>) {
        let kind = wire.kind();
        let part = if kind == Kind::Summary { wire.summary_index } else { wire.content_index }.unwrap_or(0);
        let item = self.items.entry(at).or_default();
        let mut text = event::text(wire.delta).into_owned();
        match item.thought {
            Some((shown, _)) if shown != kind => return,
            Some((_, last)) if last != part => text.insert_str(0, "\n\n"),
            _ => {}
        }
        if !text.is_empty() {
            item.thought = Some((kind, part));
            events.push(Event::Thinking { choice: 0, text, signature: None, redacted: None });
        }
    }

    /// A whole item: what of it did not come in pieces is said now.
    fn item(&mut self, at: u64, item: Value, events: &mut Vec<Event>) {
        let kind = decode::kind_of(&item).to_owned();
        let Value::Object(mut object) = item else { return };
        match &*kind {
            "message" => self.message(at, &mut object, events),
            "reasoning" => {
                let known = self.items.entry(at).or_default();
                let text =
                    if known.thought.is_some() { String::new() } else { decode::thought_text(&object) };
                let signature = decode::signature(&object, &self.keeper);
                if !text.is_empty() || signature.is_some() {
                    events.push(Event::Thinking { choice: 0, text, signature, redacted: None });
                }
            }
            kind if self.is_clients(kind) => {
                let known = self.items.get(&at);
                let begun = known.is_some_and(|item| item.call.is_some());
                let fed = known.is_some_and(|item| item.fed);
                if !begun {
                    self.begin_call(at, &object, events);
                } else if !fed {
                    let field =
                        if decode::tool_kind(&object) == ToolKind::Custom { "input" } else { "arguments" };
                    self.arguments(at, &decode::arguments(&object, field), events);
                }
            }
            _ => {
                let value = Value::Object(object);
                events.push(match decode::picture(&value) {
                    Some(image) => {
                        let fields = [("images".to_owned(), Value::Array(vec![image]))].into_iter().collect();
                        Event::Other { choice: Some(0), fields }
                    }
                    None => Event::Foreign { choice: 0, value },
                });
            }
        }
        // Only that it was seen is still of interest.
        self.items.insert(at, Item { closed: true, ..Item::default() });
    }

    /// What the last event repeats of an item: said where it has not been. A vendor that counts wrongly has said items in
    /// other places, so that only those count which were announced in theirs, unless none was.
    fn repeated(&mut self, at: u64, item: Value, events: &mut Vec<Event>) {
        let missing = |known: &Item| !known.closed && known.kind == decode::kind_of(&item);
        if self.items.get(&at).is_some_and(missing) {
            self.item(at, item, events);
        }
    }

    fn message(&mut self, at: u64, item: &mut Object, events: &mut Vec<Event>) {
        let known = self.items.remove(&at).unwrap_or_default();
        let (mut logprobs, mut skipped) = (Vec::new(), 0);
        for part in decode::list(item.shift_remove("content")) {
            match decode::said(part, &mut logprobs) {
                Some(Part::Text { text, citations, .. }) => {
                    if !known.fed && !text.is_empty() {
                        events.push(Event::Text { choice: 0, text: text.into_string() });
                    }
                    for value in citations {
                        skipped += 1;
                        if skipped > known.annotations {
                            events.push(Event::Citation { choice: 0, value });
                        }
                    }
                }
                Some(Part::Refusal(text)) if !known.fed => events.push(Event::Refusal { choice: 0, text }),
                Some(Part::Other(value)) => events.push(Event::Foreign { choice: 0, value }),
                _ => {}
            }
        }
        if !known.fed && !logprobs.is_empty() {
            events.push(Event::Logprobs { choice: 0, value: decode::in_words_of_chat(logprobs) });
        }
    }

    fn failed(&self, wire: &Wire<'_>, events: &mut Vec<Event>) -> Fault {
        let Value::Object(response) = event::value(wire.response) else {
            return fault::failed(None, self.now_ms);
        };
        events.extend(response.get("usage").and_then(usage_of).map(Event::Usage));
        decode::failure(&response, self.now_ms)
    }

    fn end(&mut self, wire: &Wire<'_>, events: &mut Vec<Event>) -> Result<(), Fault> {
        let Some(raw) = wire.response else {
            return Err(Fault::new(FaultKind::Malformed, "the provider's last event holds no response"));
        };
        let peek = whole::last(raw.get(), self.now_ms)?;
        let (usage, finish): (Option<Usage>, _) = (peek.usage(), peek.finish());
        let Value::Object(mut response) = event::value(Some(raw)) else {
            return Err(openai::fault::malformed("the provider's last event holds no response"));
        };
        // A vendor that streams nothing but the end.
        let nothing_came = self.items.is_empty();
        for (at, item) in (0..).zip(decode::list(response.shift_remove("output"))) {
            if nothing_came { self.item(at, item, events) } else { self.repeated(at, item, events) }
        }
        let fields = decode::rest(&mut response);
        if !fields.is_empty() {
            events.push(Event::Other { choice: None, fields });
        }
        let mut finish = finish.unwrap_or_else(|| crate::chat::FinishReason::Stop.into());
        if finish.reason == crate::chat::FinishReason::Stop && self.calls > 0 {
            finish.reason = crate::chat::FinishReason::ToolCalls;
        }
        self.done = true;
        events.push(Event::Finish { choice: 0, finish });
        events.extend(usage.map(Event::Usage));
        events.push(Event::End);
        Ok(())
    }
}

impl StreamDecoder for ResponsesDecoder {
    fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        self.splitter.push(Bytes::copy_from_slice(chunk));
        while let Some(event) = self.splitter.next()? {
            self.event(&event, events)?;
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        while !self.done
            && let Some(event) = self.splitter.finish()?
        {
            let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&event.data).is_ok();
            if event.has_data && whole {
                self.event(&event, events)?;
            }
        }
        if self.done { Ok(()) } else { Err(openai::fault::truncated()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_was_cut_in_halves_is_one_again() {
        let event = |kind: &str, fields: &str| {
            format!("data: {{\"type\":\"response.{kind}\",\"output_index\":0,{fields}}}\n\n")
        };
        let call = r#""item":{"type":"function_call","call_id":"c","name":"f","arguments":""}"#;
        let message = r#""item":{"type":"message","content":[]}"#;
        let body = [
            event("reasoning_summary_text.delta", r#""summary_index":0,"delta":"a\ud83d""#),
            event("reasoning_summary_text.delta", r#""summary_index":0,"delta":"\ude00b""#),
            event("output_item.added", message),
            event("output_text.delta", r#""content_index":0,"delta":"c\ud83d","logprobs":[]"#),
            event("output_text.delta", r#""content_index":0,"delta":"\ude00d\ud83d e""#),
            event("output_item.added", call),
            event("function_call_arguments.delta", r#""delta":"{\"q\":\"\ud83d""#),
            event("function_call_arguments.delta", r#""delta":"\ude00\"}""#),
            event("completed", r#""response":{"object":"response","status":"completed","output":[]}"#),
        ]
        .concat();
        let (thought, text, arguments) = said(&body);
        assert_eq!((&*thought, &*text, &*arguments), ("a😀b", "c😀d\u{fffd} e", "{\"q\":\"😀\"}"));
    }

    #[test]
    fn a_painted_picture_is_one_to_chats_and_a_failed_one_is_told() {
        let done = |at: u8, result: &str| {
            format!(
                "data: {{\"type\":\"response.output_item.done\",\"output_index\":{at},\"item\":{{\"type\":\"image_generation_call\",\"id\":\"ig\",\"result\":{result}}}}}\n\n"
            )
        };
        let (mut decoder, mut events) = (ResponsesDecoder::new("them".into(), 0), Vec::new());
        decoder.feed([done(0, "\"AAAA\""), done(1, "null")].concat().as_bytes(), &mut events).unwrap();
        let urls: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Other { choice: Some(0), fields } => {
                    Some(fields["images"][0]["image_url"]["url"].clone())
                }
                Event::Foreign { value, .. } => Some(value["result"].clone()),
                _ => None,
            })
            .collect();
        assert_eq!(urls, [Value::from("data:image/png;base64,AAAA"), Value::Null]);
    }

    #[test]
    fn a_search_of_the_providers_own_that_is_announced_as_a_call_is_none() {
        let event = |kind: &str, at: u8, item: &str| {
            format!(
                "data: {{\"type\":\"response.output_item.{kind}\",\"output_index\":{at},\"item\":{item}}}\n\n"
            )
        };
        let call = |name: &str| {
            format!(
                r#"{{"type":"function_call","status":"completed","call_id":"c","name":"{name}","arguments":"{{}}"}}"#
            )
        };
        let found = r#"{"type":"search_results","results":[]}"#;
        let response = format!(r#"{{"status":"completed","output":[{found},{}]}}"#, call("theirs"));
        let body = [
            event("added", 0, &call("search_web")),
            event("done", 0, found),
            event("added", 1, &call("theirs")),
            event("done", 1, &call("theirs")),
            format!("data: {{\"type\":\"response.completed\",\"response\":{response}}}\n\n"),
        ]
        .concat();
        let (mut decoder, mut events) = (ResponsesDecoder::new("them".into(), 0), Vec::new());
        decoder.feed(body.as_bytes(), &mut events).unwrap();
        let called: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::ToolCallStart { name, .. } => Some(&**name),
                Event::Foreign { value, .. } => value["type"].as_str(),
                _ => None,
            })
            .collect();
        assert_eq!(called, ["search_results", "theirs"]);
    }

    #[test]
    fn what_xai_looks_up_on_x_is_no_call_of_the_clients() {
        let call = r#"{"type":"custom_tool_call","call_id":"xs","name":"x_keyword_search","input":"{}"}"#;
        for (tools, expected) in [
            (r#"[{"type":"web_search"},{"type":"x_search"}]"#, (Some("custom_tool_call"), 0, "stop")),
            (r#"[{"type":"x_search"},{"type":"custom","name":"f"}]"#, (None, 1, "tool_calls")),
            ("[]", (None, 1, "tool_calls")),
        ] {
            let response = |output: &str| {
                format!(r#"{{"object":"response","status":"completed","tools":{tools},"output":[{output}]}}"#)
            };
            let body = [
                format!(r#"{{"type":"response.created","response":{}}}"#, response("")),
                format!(r#"{{"type":"response.output_item.added","output_index":0,"item":{call}}}"#),
                format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{call}}}"#),
                format!(r#"{{"type":"response.completed","response":{}}}"#, response(call)),
            ];
            let body: String = body.map(|event| format!("data: {event}\n\n")).concat();
            let (mut decoder, mut events) = (ResponsesDecoder::new("xai".into(), 0), Vec::new());
            decoder.feed(body.as_bytes(), &mut events).unwrap();
            let whole = decode::answer(response(call).as_bytes(), "xai", 0).unwrap();
            for events in [events, whole.into_events()] {
                let foreign = events.iter().find_map(|event| match event {
                    Event::Foreign { value, .. } => value["type"].as_str(),
                    _ => None,
                });
                let calls = events.iter().filter(|event| matches!(event, Event::ToolCallStart { .. }));
                let finish = events.iter().find_map(|event| match event {
                    Event::Finish { finish, .. } => Some(finish.reason.word()),
                    _ => None,
                });
                assert_eq!((foreign, calls.count(), finish.unwrap()), expected, "{tools}");
            }
        }
    }

    /// Thoughts, text and arguments of a stream.
    fn said(body: &str) -> (String, String, String) {
        let (mut decoder, mut events) = (ResponsesDecoder::new("them".into(), 0), Vec::new());
        decoder.feed(body.as_bytes(), &mut events).unwrap();
        decoder.finish(&mut events).unwrap();
        let (mut thought, mut text, mut arguments) = (String::new(), String::new(), String::new());
        for event in events {
            match event {
                Event::Thinking { text, .. } => thought += &text,
                Event::Text { text: piece, .. } => text += &piece,
                Event::ToolCallDelta { arguments: piece, .. } => arguments += &piece,
                _ => {}
            }
        }
        (thought, text, arguments)
    }

    #[test]
    fn what_stands_in_the_last_event_alone_is_said_once() {
        let thought = r#"{"type":"reasoning","id":"r","summary":[{"type":"summary_text","text":"t"}],"encrypted_content":"e"}"#;
        let message =
            r#"{"type":"message","id":"m","content":[{"type":"output_text","text":"hi","annotations":[]}]}"#;
        let call = r#"{"type":"function_call","id":"f","call_id":"c","name":"f","arguments":"{\"q\":1}"}"#;
        let added = |at: usize, kind: &str| {
            let item = format!(r#"{{"type":"{kind}","call_id":"c","name":"f","arguments":"","content":[]}}"#);
            format!(r#"{{"type":"response.output_item.added","output_index":{at},"item":{item}}}"#)
        };
        let done = |at: usize, item: &str| {
            format!(r#"{{"type":"response.output_item.done","output_index":{at},"item":{item}}}"#)
        };
        let delta = |at: usize, kind: &str, text: &str| {
            format!(r#"{{"type":"response.{kind}.delta","output_index":{at},"delta":"{text}"}}"#)
        };
        let announced = [added(0, "reasoning"), added(1, "message"), added(2, "function_call")];
        let all = format!("[{thought},{message},{call}]");
        let arguments = "{\"q\":1}";
        for (events, output, expected) in [
            (vec![], &*all, ("t", "hi", arguments)),
            (announced.to_vec(), &all, ("t", "hi", arguments)),
            ([&announced[..], &[done(1, message)]].concat(), &all, ("t", "hi", arguments)),
            ([&announced[..], &[delta(1, "output_text", "hi")]].concat(), &all, ("t", "hi", arguments)),
            // Who counts otherwise in the end has said it all the same.
            (vec![added(0, "message"), done(0, message)], &format!("[{thought},{message}]"), ("", "hi", "")),
            (vec![delta(0, "output_text", "hi")], &format!("[{thought},{message}]"), ("", "hi", "")),
        ] {
            let response = format!(r#"{{"object":"response","status":"completed","output":{output}}}"#);
            let end = format!(r#"{{"type":"response.completed","response":{response}}}"#);
            let body: String =
                events.iter().chain([&end]).map(|event| format!("data: {event}\n\n")).collect();
            let (thought, text, arguments) = said(&body);
            assert_eq!((&*thought, &*text, &*arguments), expected, "{body}");
        }
    }
}
