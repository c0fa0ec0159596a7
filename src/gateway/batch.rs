//! What a provider says of a batch: whether it is done, and what it used. OpenAI and those like it tell that of the whole,
//! Anthropic of each result.
//! <https://platform.openai.com/docs/api-reference/batch/object>,
//! <https://platform.claude.com/docs/en/api/retrieving-message-batch-results>

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chat::Usage;
use crate::json;
use crate::money::Nano;

/// How long a batch is waited for after the last look at it: no provider takes longer than a day.
pub(super) const KEEP: Duration = Duration::from_secs(26 * 3_600);

/// A batch, as it is told whenever somebody asks for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch<'a> {
    pub(super) id: Box<str>,
    /// Whether nothing more will be told of what it used.
    pub(super) is_over: bool,
    /// Whether none of its requests was answered.
    pub(super) is_empty: bool,
    /// The model that all of it is for, where that is told.
    pub(super) model: Option<Box<str>>,
    /// The usage object.
    pub(super) usage: Option<&'a str>,
}

impl<'a> Batch<'a> {
    /// Reads an answer; `None` where it is of something else.
    pub(super) fn read(answer: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(answer).ok()?;
        let (mut id, mut model, mut usage, mut status) = (None, None, None, None);
        let (mut kind, mut answered) = (None, None);
        for (key, raw) in json::entries(text) {
            match &*key {
                "object" | "type" => kind = json::text(raw).or(kind),
                "id" => id = json::text(raw).map(Box::from),
                "model" => model = json::text(raw).map(Box::from),
                "status" | "processing_status" => status = json::text(raw),
                "usage" => usage = raw.starts_with('{').then_some(raw),
                "request_counts" => answered = json::entries(raw).find(|(key, _)| key == "succeeded"),
                _ => {}
            }
        }
        let none_answered = answered.is_some_and(|(_, count)| count == "0");
        let (is_over, is_empty) = match (&*kind?, status.as_deref()) {
            ("batch", Some(status)) => {
                (matches!(status, "completed" | "failed" | "expired" | "cancelled"), false)
            }
            // What it used stands in its results.
            ("message_batch", Some(status)) => (status == "ended" && none_answered, none_answered),
            ("message_batch_deleted", None) => (true, false),
            _ => return None,
        };
        Some(Self { id: id?, is_over, is_empty, model, usage })
    }
}

/// The results of one of Anthropic's batches, read as they pass: JSON, one result in a line.
#[derive(Debug)]
pub(super) struct Results {
    id: Box<str>,
    /// A line that has not come to its end.
    line: Vec<u8>,
    used: Usage,
    cost: Option<Nano>,
    /// Whether all lines could be read.
    is_plain: bool,
}

/// No result has more bytes.
const LONGEST: usize = 16 << 20;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    result: Outcome<'a>,
}

/// What became of one request: nothing is paid for those without a message.
#[derive(Deserialize)]
struct Outcome<'a> {
    #[serde(borrow)]
    message: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    usage: &'a RawValue,
}

impl Results {
    pub(super) fn new(id: Box<str>) -> Self {
        Self { id, line: Vec::new(), used: Usage::default(), cost: Some(Nano(0)), is_plain: true }
    }

    /// Takes the next bytes. `paid` knows what a usage object of a model means and costs.
    pub(super) fn feed(&mut self, bytes: &[u8], paid: impl Fn(&str, &str) -> Option<Usage>) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest).filter(|_| self.is_plain) {
            let (here, behind) = rest.split_at(end);
            rest = behind.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                self.read(here, &paid);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(here);
                self.read(&line, &paid);
            }
        }
        self.is_plain &= self.line.len() + rest.len() <= LONGEST;
        if self.is_plain {
            self.line.extend_from_slice(rest);
        } else {
            self.line = Vec::new();
        }
    }

    /// Whose they are.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// What it used, with its cost as far as all prices are known; `None` where not all could be read.
    pub(super) fn done(mut self, paid: impl Fn(&str, &str) -> Option<Usage>) -> Option<Usage> {
        let last = std::mem::take(&mut self.line);
        self.read(&last, &paid);
        self.is_plain.then_some(Usage { said_cost: self.cost, ..self.used })
    }

    fn read(&mut self, line: &[u8], paid: &impl Fn(&str, &str) -> Option<Usage>) {
        let line = line.trim_ascii();
        if line.is_empty() || !self.is_plain {
            return;
        }
        match serde_json::from_slice::<Line<'_>>(line).map(|line| line.result.message) {
            Ok(None) => {}
            Ok(Some(message)) => match paid(message.usage.get(), &message.model) {
                None => self.is_plain = false,
                Some(usage) => {
                    self.cost =
                        self.cost.zip(usage.said_cost).map(|(all, one)| Nano(all.0.saturating_add(one.0)));
                    self.used.add(&usage);
                }
            },
            Err(_) => self.is_plain = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anthropics_is_over_when_its_results_are_read_or_never_will_be() {
        for (told, expected) in [
            (r#"{"id":"b","type":"message_batch","processing_status":"in_progress"}"#, Some((false, false))),
            (
                r#"{"id":"b","type":"message_batch","processing_status":"ended","request_counts":{"succeeded":1,"errored":0}}"#,
                Some((false, false)),
            ),
            (
                r#"{"id":"b","type":"message_batch","processing_status":"ended","request_counts":{"errored":1,"succeeded":0}}"#,
                Some((true, true)),
            ),
            (
                r#"{"id":"b","type":"message_batch","processing_status":"in_progress","request_counts":{"succeeded":0}}"#,
                Some((false, true)),
            ),
            (r#"{"id":"b","type":"message_batch_deleted"}"#, Some((true, false))),
            (r#"{"id":"b","type":"message"}"#, None),
        ] {
            let read = Batch::read(told.as_bytes()).map(|batch| (batch.is_over, batch.is_empty));
            assert_eq!(read, expected, "{told}");
        }
    }

    #[test]
    fn results_are_summed_however_they_are_cut() {
        let paid = |usage: &str, model: &str| {
            let usage: serde_json::Value = serde_json::from_str(usage).ok()?;
            let input = usage["input_tokens"].as_u64()?;
            let said_cost = (model == "m").then_some(Nano(input * 10));
            Some(Usage { input, said_cost, ..Usage::default() })
        };
        let line = |model: &str, input: u64| {
            format!(
                r#"{{"custom_id":"é","result":{{"type":"succeeded","message":{{"model":"{model}","usage":{{"input_tokens":{input}}}}}}}}}"#
            )
        };
        let failed = r#"{"custom_id":"b","result":{"type":"errored","error":{"type":"error"}}}"#;
        let (first, second) = (line("m", 3), line("m", 4));
        for (text, expected) in [
            (format!("{first}\n{failed}\n{second}\n"), Some((7, Some(Nano(70))))),
            (format!("{first}\r\n\n{second}"), Some((7, Some(Nano(70))))),
            (format!("{first}\n{}\n", line("unknown", 4)), Some((7, None))),
            (format!("{first}\nno JSON\n"), None),
            (String::new(), Some((0, Some(Nano(0))))),
        ] {
            for size in [1, 7, 1_000] {
                let mut results = Results::new("b".into());
                text.as_bytes().chunks(size).for_each(|piece| results.feed(piece, paid));
                let used = results.done(paid).map(|usage| (usage.input, usage.said_cost));
                assert_eq!(used, expected, "{text} by {size}");
            }
        }
    }

    #[test]
    fn a_batch_is_known_by_its_object() {
        let usage = r#"{"input_tokens":7,"output_tokens":1,"total_tokens":8}"#;
        let batch = |is_over, model: Option<&str>, usage| {
            let model = model.map(Into::into);
            Some(Batch { id: "batch_1".into(), is_over, is_empty: false, model, usage })
        };
        for (told, expected) in [
            (
                format!(
                    r#"{{"id":"batch_1","object":"batch","status":"completed","model":"m","usage":{usage}}}"#
                ),
                batch(true, Some("m"), Some(usage)),
            ),
            (
                r#"{"id":"batch_1","object":"batch","status":"in_progress","usage":null}"#.into(),
                batch(false, None, None),
            ),
            (r#"{"id":"batch_1","object":"batch"}"#.into(), None),
            (r#"{"id":"resp_1","object":"response","status":"completed"}"#.into(), None),
            (
                r#"{"object":"list","data":[{"id":"batch_1","object":"batch","status":"completed"}]}"#.into(),
                None,
            ),
            ("no JSON".into(), None),
        ] {
            assert_eq!(Batch::read(told.as_bytes()), expected, "{told}");
        }
    }
}
