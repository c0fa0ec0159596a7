//! What is done to answers: they end before unwanted texts, and have back what was taken out of the prompt.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::channel::{Channel, Needle, Then};
use crate::chat::{Answer, Choice, Event, Finish, FinishReason, Part, StreamDecoder, Usage};
use crate::facts::market::Scale;
use crate::fault::Fault;
use crate::json::write_text;
use crate::plan::OutputRules;
use crate::providers::{Frame, StreamRelay};
use crate::target::TargetName;

/// What is looked for in answers.
pub(super) struct Filter {
    /// In text.
    text: Vec<Needle>,
    /// In thoughts and refusals, which nothing ends.
    aside: Vec<Needle>,
    /// In the arguments of tools, which are JSON.
    arguments: Vec<Needle>,
}

impl Filter {
    pub(super) fn new(rules: &OutputRules) -> Self {
        let stops = rules.stop_on.iter().map(|text| Needle { text: text.clone(), then: Then::Stop });
        let back = rules.redact.iter().filter(|redaction| redaction.restore);
        let back: Vec<Needle> = back
            .map(|it| Needle { text: it.placeholder.clone(), then: Then::Say(it.value.clone()) })
            .collect();
        Self {
            text: stops.chain(back.iter().cloned()).collect(),
            arguments: back.iter().map(escaped).collect(),
            aside: back,
        }
    }

    /// Whether answers need not be read.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// A whole answer.
    pub(super) fn whole(&self, answer: &mut Answer) {
        if !self.is_empty() {
            answer.choices.iter_mut().for_each(|choice| self.choice(choice));
        }
    }

    fn choice(&self, choice: &mut Choice) {
        let mut text = Channel::default();
        let mut kept: Vec<Part> = Vec::with_capacity(choice.content.len());
        for mut part in std::mem::take(&mut choice.content) {
            if !matches!(part, Part::Text { .. }) {
                give_back(&mut kept, &mut text);
            }
            match &mut part {
                Part::Text { text: said, citations, .. } => {
                    let (out, stopped) = text.feed(&self.text, said);
                    *said = out.into();
                    if let Some(stopped) = stopped {
                        // Both would say what stands behind the end.
                        citations.clear();
                        choice.logprobs = None;
                        kept.push(part);
                        choice.content = kept;
                        choice.finish = Some(stop(&stopped));
                        return;
                    }
                }
                Part::Thinking { text, .. } | Part::Refusal(text) => *text = all(&self.aside, text),
                Part::ToolCall { arguments, .. } => *arguments = all(&self.arguments, arguments),
                _ => {}
            }
            kept.push(part);
        }
        give_back(&mut kept, &mut text);
        choice.content = kept;
    }
}

/// What was held back belongs to the last text.
fn give_back(kept: &mut [Part], channel: &mut Channel) {
    let held = channel.end();
    if let Some(Part::Text { text, .. }) = kept.last_mut()
        && !held.is_empty()
    {
        *text = (text.as_str().to_owned() + held.as_str()).into();
    }
}

fn all(needles: &[Needle], text: &str) -> String {
    let mut channel = Channel::default();
    let (mut out, _) = channel.feed(needles, text);
    out.push_str(&channel.end());
    out
}

fn escaped(needle: &Needle) -> Needle {
    let Then::Say(value) = &needle.then else { return needle.clone() };
    let mut raw = Vec::with_capacity(value.len() + 2);
    write_text(&mut raw, value);
    let raw = String::from_utf8(raw).unwrap_or_default();
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    Needle { text: needle.text.clone(), then: Then::Say(inner.into()) }
}

fn stop(before: &str) -> Finish {
    Finish { reason: FinishReason::Stop, raw: None, stop_sequence: Some(before.to_owned()) }
}

/// What an answer used whose provider is not heard to the end, so that it never says.
#[derive(Clone)]
pub(super) struct Reckoning {
    pub(super) scale: Arc<dyn Scale>,
    pub(super) target: TargetName,
    /// A quarter of the prompt's bytes.
    pub(super) rough: u64,
}

/// A stream whose texts are looked through.
pub(super) struct Filtered {
    inner: Box<dyn StreamDecoder>,
    filter: Arc<Filter>,
    reckoning: Option<Reckoning>,
    /// Alternatives that were asked for.
    wanted: u64,
    choices: BTreeMap<u32, State>,
    came: Vec<Event>,
    usage: Option<Usage>,
    over: bool,
}

/// How far one alternative has come.
#[derive(Default)]
struct State {
    text: Channel,
    thoughts: Channel,
    refusal: Channel,
    arguments: BTreeMap<u32, Channel>,
    /// Bytes that went out.
    said: u64,
    /// It was ended here, and nothing more of it goes out.
    cut: bool,
    done: bool,
}

impl Filtered {
    pub(super) fn new(
        inner: Box<dyn StreamDecoder>,
        filter: Arc<Filter>,
        reckoning: Option<Reckoning>,
        wanted: u64,
    ) -> Self {
        let (choices, came) = (BTreeMap::new(), Vec::new());
        Self { inner, filter, reckoning, wanted, choices, came, usage: None, over: false }
    }

    /// Takes what the provider says, until its answer is over for the client.
    fn hear(
        &mut self,
        out: &mut Vec<Event>,
        say: impl FnOnce(&mut dyn StreamDecoder, &mut Vec<Event>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.over {
            return Ok(());
        }
        let said = say(&mut *self.inner, &mut self.came);
        let came = std::mem::take(&mut self.came);
        came.into_iter().for_each(|event| self.take(event, out));
        said
    }

    fn take(&mut self, event: Event, out: &mut Vec<Event>) {
        if self.over {
            return;
        }
        let Some(choice) = event.choice() else {
            match &event {
                Event::Usage(usage) => self.usage = Some(*usage),
                Event::End => {
                    self.over = true;
                    for (choice, state) in &mut self.choices {
                        state.flush(*choice, out);
                    }
                }
                _ => {}
            }
            return out.push(event);
        };
        let state = self.choices.entry(choice).or_default();
        if !state.cut {
            state.take(choice, event, &self.filter, out);
        }
        if state.cut && self.choices.len() as u64 >= self.wanted && self.choices.values().all(|s| s.done) {
            self.end(out);
        }
    }

    /// Every alternative is complete and one of them was ended here: the provider need not go on.
    fn end(&mut self, out: &mut Vec<Event>) {
        self.over = true;
        let said: u64 = self.choices.values().map(|state| state.said).sum();
        let begun = self.usage.or_else(|| Some(self.reckoning.as_ref()?.asked()));
        if let Some(usage) = begun {
            let heard = self.reckoning.as_ref().map_or_else(|| said.div_ceil(4), |it| it.heard(said));
            let output = usage.output.max(heard);
            out.push(Event::Usage(Usage { output, estimated: true, ..usage }));
        }
        out.push(Event::End);
    }
}

impl Reckoning {
    /// What was asked.
    fn asked(&self) -> Usage {
        Usage { input: self.scale.likely(&self.target, self.rough), ..Usage::default() }
    }

    /// The tokens of so many bytes of an answer.
    fn heard(&self, bytes: u64) -> u64 {
        self.scale.heard(&self.target, bytes)
    }
}

impl State {
    fn take(&mut self, choice: u32, event: Event, filter: &Filter, out: &mut Vec<Event>) {
        match event {
            Event::Text { text, .. } => {
                let (text, stopped) = self.text.feed(&filter.text, &text);
                self.say(text, out, |text| Event::Text { choice, text });
                if let Some(stopped) = stopped {
                    (self.cut, self.done) = (true, true);
                    out.push(Event::Finish { choice, finish: stop(&stopped) });
                }
            }
            Event::Thinking { text, signature, redacted, .. } => {
                let (mut text, _) = self.thoughts.feed(&filter.aside, &text);
                if signature.is_some() || redacted.is_some() {
                    text.push_str(&self.thoughts.end());
                }
                if !text.is_empty() || signature.is_some() || redacted.is_some() {
                    self.said += text.len() as u64;
                    out.push(Event::Thinking { choice, text, signature, redacted });
                }
            }
            Event::Refusal { text, .. } => {
                let (text, _) = self.refusal.feed(&filter.aside, &text);
                self.say(text, out, |text| Event::Refusal { choice, text });
            }
            Event::ToolCallDelta { call, arguments, .. } => {
                let channel = self.arguments.entry(call).or_default();
                let (arguments, _) = channel.feed(&filter.arguments, &arguments);
                self.say(arguments, out, |arguments| Event::ToolCallDelta { choice, call, arguments });
            }
            Event::Finish { .. } => {
                self.flush(choice, out);
                self.done = true;
                out.push(event);
            }
            // A text does not go on behind these.
            Event::ToolCallStart { .. } | Event::Foreign { .. } => {
                self.flush(choice, out);
                out.push(event);
            }
            _ => out.push(event),
        }
    }

    fn say(&mut self, text: String, out: &mut Vec<Event>, event: impl FnOnce(String) -> Event) {
        if !text.is_empty() {
            self.said += text.len() as u64;
            out.push(event(text));
        }
    }

    /// What was held back goes out.
    fn flush(&mut self, choice: u32, out: &mut Vec<Event>) {
        if self.cut {
            return;
        }
        let thoughts = self.thoughts.end();
        self.say(thoughts, out, |text| Event::Thinking { choice, text, signature: None, redacted: None });
        let text = self.text.end();
        self.say(text, out, |text| Event::Text { choice, text });
        let refusal = self.refusal.end();
        self.say(refusal, out, |text| Event::Refusal { choice, text });
        for (call, mut channel) in std::mem::take(&mut self.arguments) {
            let arguments = channel.end();
            self.say(arguments, out, |arguments| Event::ToolCallDelta { choice, call, arguments });
        }
    }
}

impl StreamDecoder for Filtered {
    fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        self.hear(events, |inner, came| inner.feed(chunk, came))
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.hear(events, |inner, came| inner.finish(came))
    }

    fn settle(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.hear(events, |inner, came| inner.settle(came))
    }
}

/// A stream that cannot begin.
pub(super) struct Failing(pub(super) Fault);

impl StreamRelay for Failing {
    fn feed(&mut self, _: Bytes, _: &mut Vec<Frame>) -> Result<(), Fault> {
        Err(self.0.clone())
    }

    fn whole(&mut self, _: Bytes, _: &mut Vec<Frame>) -> Result<(), Fault> {
        Err(self.0.clone())
    }

    fn finish(&mut self, _: &mut Vec<Frame>) -> Result<(), Fault> {
        Err(self.0.clone())
    }

    fn is_complete(&self) -> bool {
        false
    }

    fn usage(&self) -> Option<Usage> {
        None
    }

    fn finish_reason(&self) -> Option<&'static str> {
        None
    }

    fn text_bytes(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Redaction;

    fn rules() -> OutputRules {
        OutputRules {
            stop_on: vec!["STOP".into()],
            redact: vec![Redaction {
                value: "ann \"A\" <a@b.c>".into(),
                placeholder: "[EMAIL_1]".into(),
                restore: true,
            }],
            ..OutputRules::default()
        }
    }

    /// Events that were decoded already.
    struct Ready(Vec<Event>);
    impl StreamDecoder for Ready {
        fn feed(&mut self, _: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
            events.append(&mut self.0);
            Ok(())
        }
        fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), Fault> {
            Ok(())
        }
    }

    fn filtered(events: Vec<Event>, wanted: u64) -> Vec<Event> {
        reckoned(events, None, wanted)
    }

    fn reckoned(events: Vec<Event>, reckoning: Option<Reckoning>, wanted: u64) -> Vec<Event> {
        let (filter, ready) = (Arc::new(Filter::new(&rules())), Box::new(Ready(events)));
        let (mut decoder, mut out) = (Filtered::new(ready, filter, reckoning, wanted), Vec::new());
        decoder.feed(b"", &mut out).unwrap();
        decoder.finish(&mut out).unwrap();
        out
    }

    fn text(choice: u32, text: &str) -> Event {
        Event::Text { choice, text: text.into() }
    }

    fn finish(choice: u32) -> Event {
        Event::Finish { choice, finish: FinishReason::Length.into() }
    }

    #[test]
    fn a_stream_ends_before_the_text_and_says_that_it_stopped() {
        let out =
            filtered(vec![text(0, "go on S"), text(0, "TOP now"), text(0, "more"), finish(0), Event::End], 1);
        let ended = Event::Finish { choice: 0, finish: stop("STOP") };
        assert_eq!(out, [text(0, "go on "), ended, Event::End]);
    }

    /// Counts words of five bytes, and one more in each prompt.
    struct Fives;
    impl Scale for Fives {
        fn likely(&self, _: &TargetName, rough: u64) -> u64 {
            rough + 1
        }
        fn heard(&self, _: &TargetName, bytes: u64) -> u64 {
            bytes.div_ceil(5)
        }
    }

    #[test]
    fn who_is_not_heard_to_the_end_has_its_use_estimated() {
        let target = TargetName::parse("p/m").unwrap();
        let reckoning = Reckoning { scale: Arc::new(Fives), target, rough: 40 };
        let said = |input, output| Usage { input, output, estimated: true, ..Usage::default() };
        let known = |input, output| Event::Usage(Usage { input, output, ..Usage::default() });
        for (before, expected) in
            [(None, said(41, 2)), (Some(known(7, 1)), said(7, 2)), (Some(known(7, 9)), said(7, 9))]
        {
            let events = before.into_iter().chain([text(0, "go on STOP now"), finish(0)]).collect();
            let out = reckoned(events, Some(reckoning.clone()), 1);
            assert_eq!(out[out.len() - 2..], [Event::Usage(expected), Event::End]);
        }
        let whole = reckoned(vec![text(0, "go on"), finish(0), Event::End], Some(reckoning), 1);
        assert_eq!(whole, [text(0, "go on"), finish(0), Event::End], "its provider says what it used");
    }

    #[test]
    fn other_alternatives_go_on_to_their_own_end() {
        let out = filtered(vec![text(0, "STOP"), text(1, "b"), text(0, "x"), finish(1), Event::End], 2);
        let ended = Event::Finish { choice: 0, finish: stop("STOP") };
        assert_eq!(out, [ended, text(1, "b"), finish(1), Event::End]);
    }

    #[test]
    fn what_was_held_back_comes_before_the_finish() {
        let out = filtered(vec![text(0, "a ST"), finish(0), Event::End], 1);
        assert_eq!(out, [text(0, "a "), text(0, "ST"), finish(0), Event::End]);
    }

    #[test]
    fn arguments_of_tools_stay_json_when_values_come_back() {
        let call = |arguments: &str| Event::ToolCallDelta { choice: 0, call: 0, arguments: arguments.into() };
        let out = filtered(vec![call(r#"{"to":"[EMA"#), call(r#"IL_1]"}"#), finish(0), Event::End], 1);
        let said: String = out
            .iter()
            .filter_map(|event| match event {
                Event::ToolCallDelta { arguments, .. } => Some(arguments.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(said, r#"{"to":"ann \"A\" <a@b.c>"}"#);
    }

    #[test]
    fn whole_answers_are_treated_the_same() {
        let behind = Part::Text { text: "OP here".into(), cache: None, citations: vec!["here".into()] };
        let content = vec![Part::text("dear [EMAIL_1], ST"), behind, Part::text("gone")];
        let choice = Choice {
            content,
            finish: Some(FinishReason::Length.into()),
            logprobs: Some(serde_json::json!({"content": [{"token": "here"}]})),
            ..Choice::default()
        };
        let mut answer = Answer { choices: vec![choice], ..Answer::default() };
        Filter::new(&rules()).whole(&mut answer);
        let choice = &answer.choices[0];
        assert_eq!(choice.content, [Part::text("dear ann \"A\" <a@b.c>, "), Part::text("")]);
        assert_eq!(choice.finish, Some(stop("STOP")));
        assert_eq!(choice.logprobs, None, "they say what stands behind the end");
    }

    #[test]
    fn an_answer_that_does_not_end_early_keeps_its_log_probabilities() {
        let logprobs = Some(serde_json::json!({"content": []}));
        let content = vec![Part::text("go on")];
        let choice = Choice { content, logprobs: logprobs.clone(), ..Choice::default() };
        let mut answer = Answer { choices: vec![choice], ..Answer::default() };
        Filter::new(&rules()).whole(&mut answer);
        assert_eq!(answer.choices[0].logprobs, logprobs);
    }
}
