//! A stream of text that broke off after its first content goes on at a target that can take the beginning of its own
//! answer. The client sees one stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use super::journal::Spent;
use super::live::Live;
use super::{Answered, Carry, Executor, Job};
use crate::breaker::Verdict;
use crate::chat::Usage;
use crate::fault::{Fault, FaultKind, Phase};
use crate::providers::Target;

/// The same request with the beginning of its answer, of which the client has seen these frames; `None` where the
/// client's dialect has no place for it.
pub type Again = Arc<dyn Fn(&str, &[Bytes]) -> Option<Arc<dyn Carry>> + Send + Sync>;

/// Whether a target may go on, and with how much: after so many tokens by the one that broke off.
pub type Remainder = Arc<dyn Fn(&Target, &Target, u64) -> Option<Target> + Send + Sync>;

/// A stream that is about to go on.
pub(super) type Resuming = Pin<Box<dyn Future<Output = Result<Box<Live>, Fault>> + Send>>;

/// The longest beginning that is sent again, in bytes.
const MOST: usize = 1 << 20;

/// Frames of more bytes than this are not kept, and nobody goes on with them.
const MOST_SEEN: usize = 4 << 20;

/// What goes on with a stream if it breaks off.
pub struct Sequel {
    executor: Arc<Executor>,
    job: Job,
    again: Again,
    remainder: Remainder,
    /// The text so far; `None` once there was something else.
    text: Option<String>,
    /// What the client has seen, and how much it is.
    seen: Vec<Bytes>,
    size: usize,
}

impl Sequel {
    /// The sequel of a job's stream, at these targets.
    pub fn new(
        executor: Arc<Executor>,
        job: Job,
        targets: Vec<Target>,
        again: Again,
        remainder: Remainder,
    ) -> Box<Self> {
        let job = Job { targets, retries: Some(0), manner: None, ..job };
        let (text, seen, size) = (Some(String::new()), Vec::new(), 0);
        Box::new(Self { executor, job, again, remainder, text, seen, size })
    }

    /// Takes note of what the client sees.
    pub(super) fn hear(&mut self, frames: &Bytes) {
        let Some(text) = &mut self.text else { return };
        let fits = String::from_utf8_lossy(frames).lines().all(|line| {
            // Events, or the elements of an array.
            let data = line.strip_prefix("data:").unwrap_or(line).trim_start_matches(['[', ',', ' ']);
            !data.starts_with('{') || said(data.trim_end(), text).is_some()
        });
        self.size += frames.len();
        self.seen.push(frames.clone());
        if !fits || text.len() > MOST || self.size > MOST_SEEN {
            (self.text, self.seen) = (None, Vec::new());
        }
    }

    /// Whether it can go on after this fault.
    pub(super) fn can_follow(&self, fault: &Fault) -> bool {
        let passing = Verdict::of(fault) == Verdict::Failed || fault.kind == FaultKind::Timeout(Phase::Idle);
        passing
            && self.text.as_ref().is_some_and(|text| !text.trim().is_empty())
            && Instant::now() < self.job.deadline
    }

    /// Tokens of the prompt, by a quarter of its bytes.
    pub(super) fn prompt(&self) -> u64 {
        self.job.tokens
    }

    /// Goes on after an answer that used so much; what the client is told if nobody can is the fault that broke the stream.
    pub(super) fn resume(mut self: Box<Self>, broken: Target, fault: Fault, used: Usage) -> Resuming {
        let allow = |one| (self.remainder)(one, &broken, used.output);
        self.job.targets = self.job.targets.iter().filter_map(allow).collect();
        // Whoever broke off is asked last.
        self.job.targets.sort_by_key(|target| target.name == broken.name);
        let able = self.text.as_deref().filter(|_| !self.job.targets.is_empty());
        let again = able.and_then(|text| (self.again)(text.trim_end(), &self.seen));
        // Bytes of the beginning, which becomes part of the prompt.
        let said = able.map_or(0, |text| text.len() as u64);
        Box::pin(async move {
            let Some(carry) = again else { return Err(fault) };
            let (executor, now) = (self.executor, Instant::now());
            self.job.journal.broke(&fault);
            executor.health.broke(&broken.name, now);
            executor.gates.broke(&broken.name, now);
            // Paid for before another one is asked, who takes its place on the tab.
            let paid = self.job.tab.as_ref().map(|tab| tab.broke(used, &fault, said));
            let (usage, cost) = paid.unwrap_or((used, None));
            self.job.journal.broke_off(Spent { target: broken, usage, cost });
            let job = Job { carry, ..self.job };
            match executor.carry_out(&job).await {
                Ok(Answered::Stream(live)) => {
                    job.journal.went_on();
                    Ok(live)
                }
                Ok(_) => Err(fault),
                Err(other) => {
                    tracing::debug!(%other, "a stream that broke off could not go on");
                    Err(fault)
                }
            }
        })
    }
}

impl Answered {
    /// A stream that breaks off goes on with this.
    pub fn followed_by(&mut self, sequel: impl FnOnce() -> Box<Sequel>) {
        if let Self::Stream(live) = self {
            live.follow(sequel());
        }
    }
}

/// Adds the text of one event; `None` when it says anything else that a beginning in words would not have.
fn said(data: &str, text: &mut String) -> Option<()> {
    let Ok(event) = serde_json::from_str::<Value>(data) else { return Some(()) };
    if let Some(candidates) = event.get("candidates").and_then(Value::as_array) {
        return candidates.iter().try_for_each(|candidate| said_by(candidate, text));
    }
    if let Some(choices) = event.get("choices").and_then(Value::as_array) {
        let [choice] = choices.as_slice() else { return choices.is_empty().then_some(()) };
        let delta = choice.get("delta")?;
        let silent = |name: &str| delta.get(name).is_none_or(Value::is_null);
        let first = choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
        let plain =
            first && silent("tool_calls") && silent("function_call") && silent("audio") && silent("refusal");
        text.push_str(delta.get("content").and_then(Value::as_str).unwrap_or_default());
        return plain.then_some(());
    }
    match event.get("type").and_then(Value::as_str) {
        Some("content_block_delta") => {
            text.push_str(event.get("delta")?.get("text")?.as_str()?);
            Some(())
        }
        Some("content_block_start") => {
            (event.get("content_block")?.get("type")?.as_str()? == "text").then_some(())
        }
        Some("message_start" | "ping") => Some(()),
        Some("response.output_text.delta") => {
            text.push_str(event.get("delta")?.as_str()?);
            Some(())
        }
        Some("response.output_item.added" | "response.output_item.done") => {
            let kind = event.get("item")?.get("type")?.as_str()?;
            (matches!(kind, "message" | "reasoning") && text.is_empty()).then_some(())
        }
        Some("response.created" | "response.in_progress" | "response.queued")
        | Some("response.content_part.added" | "response.output_text.annotation.added") => Some(()),
        Some(kind) if kind.starts_with("response.reasoning") => text.is_empty().then_some(()),
        // An event without any of it says nothing of the answer.
        None => event.get("usageMetadata").map(drop),
        Some(_) => None,
    }
}

/// The same for a candidate of Gemini's.
fn said_by(candidate: &Value, text: &mut String) -> Option<()> {
    let over = candidate.get("finishReason").is_some_and(|reason| !reason.is_null());
    if over || candidate.get("index").and_then(Value::as_u64).unwrap_or(0) != 0 {
        return None;
    }
    let parts = candidate.get("content").and_then(|content| content.get("parts")).and_then(Value::as_array);
    for part in parts.into_iter().flatten() {
        let part = part.as_object()?;
        let thinks = part.get("thought").is_some_and(|thought| thought == true);
        let alone = part.keys().all(|key| matches!(key.as_str(), "text" | "thought" | "thoughtSignature"));
        if !alone {
            return None;
        }
        if !thinks {
            text.push_str(part.get("text")?.as_str()?);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_words_can_go_on() {
        for (events, expected) in [
            (
                vec![
                    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}"#,
                    r#"{"choices":[{"delta":{"content":" b"}}]}"#,
                ],
                Some("a b"),
            ),
            (vec![r#"{"choices":[],"usage":{}}"#, "[DONE]"], Some("")),
            (vec![r#"{"choices":[{"index":0,"delta":{"tool_calls":[{}]}}]}"#], None),
            (vec![r#"{"choices":[{"index":1,"delta":{"content":"x"}}]}"#], None),
            (
                vec![r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#],
                Some("hi"),
            ),
            (vec![r#"{"type":"content_block_start","content_block":{"type":"tool_use"}}"#], None),
            (
                vec![
                    r#"{"type":"response.created","response":{}}"#,
                    r#"{"type":"response.output_item.added","item":{"type":"message"}}"#,
                    r#"{"type":"response.output_text.delta","delta":"x"}"#,
                ],
                Some("x"),
            ),
            (vec![r#"{"type":"response.output_item.added","item":{"type":"function_call"}}"#], None),
            (
                vec![
                    r#"{"type":"response.output_text.delta","delta":"x"}"#,
                    r#"{"type":"response.output_text.done"}"#,
                ],
                None,
            ),
            (
                vec![
                    r#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true}]}}]}"#,
                    r#"{"candidates":[{"content":{"parts":[{"text":"a"},{"text":"b"}]},"index":0}]}"#,
                ],
                Some("ab"),
            ),
            (vec![r#"{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}"#], None),
            (vec![r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}"#], None),
            (vec![r#"{"type":"content_block_stop","index":0}"#], None),
        ] {
            let mut text = String::new();
            let all = events.iter().try_for_each(|event| said(event, &mut text));
            assert_eq!(all.map(|()| text.as_str()), expected, "{events:?}");
        }
    }
}
