//! Streamed answers: each run of text goes through a window, out of which it goes on once all guards have let it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::cut::{self, Cut};
use super::lane::{Channel, Lane};
use super::slots;
use super::together;
use super::watch::Watch;
use crate::chat::{Event, ToolKind};
use crate::fault::{Fault, FaultKind};
use crate::plugin::Window;
use crate::providers::{Awaited, Sentry};

/// Text of one run that may be held at once.
const MOST_HELD: usize = 1 << 20;

/// One streamed answer.
pub(super) struct Stream {
    watch: Arc<Watch>,
    choices: BTreeMap<u32, Alternative>,
}

/// One alternative.
#[derive(Default)]
struct Alternative {
    lanes: BTreeMap<Channel, Lane>,
    /// What is said of text that is still held.
    aside: Vec<Event>,
}

/// What all watchers said of one text.
struct Judged {
    cuts: Vec<Cut>,
    safe_until: usize,
    gone: bool,
}

impl Stream {
    pub(super) fn new(watch: Arc<Watch>) -> Self {
        Self { watch, choices: BTreeMap::new() }
    }

    async fn take(&mut self, events: Vec<Event>, out: &mut Vec<Event>) -> Result<(), Fault> {
        for event in events {
            match event.choice() {
                Some(choice) => {
                    let alternative = self.choices.entry(choice).or_default();
                    alternative.take(&self.watch, choice, event, out).await?;
                }
                None => self.of_all(event, out).await?,
            }
        }
        for (choice, alternative) in &mut self.choices {
            alternative.look(&self.watch, *choice, out).await?;
        }
        Ok(())
    }

    /// What is said of the answer as a whole.
    async fn of_all(&mut self, mut event: Event, out: &mut Vec<Event>) -> Result<(), Fault> {
        match &mut event {
            Event::End => {
                for (choice, alternative) in &mut self.choices {
                    alternative.flush(&self.watch, *choice, out).await?;
                }
            }
            Event::Other { fields, .. } => {
                for value in fields.values_mut() {
                    look_within(&self.watch, 0, value).await?;
                }
            }
            _ => {}
        }
        out.push(event);
        Ok(())
    }
}

impl Sentry for Stream {
    fn pass<'a>(&'a mut self, events: Vec<Event>, out: &'a mut Vec<Event>) -> Awaited<'a, Result<(), Fault>> {
        Box::pin(self.take(events, out))
    }
}

impl Alternative {
    async fn take(
        &mut self,
        watch: &Watch,
        choice: u32,
        mut event: Event,
        out: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        match &mut event {
            Event::Text { text, .. } => return self.hold(watch, choice, Channel::Text, text, out).await,
            Event::Refusal { text, .. } => {
                return self.hold(watch, choice, Channel::Refusal, text, out).await;
            }
            Event::ToolCallDelta { call, arguments, .. } => {
                return self.hold(watch, choice, Channel::Call(*call), arguments, out).await;
            }
            Event::Thinking { text, signature, redacted, .. } => {
                self.hold(watch, choice, Channel::Thinking, text, out).await?;
                if signature.is_none() && redacted.is_none() {
                    return Ok(());
                }
                self.end(watch, choice, Channel::Thinking, out).await?;
                text.clear();
                if self.lanes.remove(&Channel::Thinking).is_some_and(|lane| lane.is_cut) {
                    // It proves another text.
                    *signature = None;
                }
            }
            Event::ToolCallStart { call, kind, .. } => {
                self.flush(watch, choice, out).await?;
                let json = !matches!(kind, ToolKind::Custom);
                self.lanes.insert(Channel::Call(*call), Lane::of(json));
            }
            Event::Logprobs { .. } => {
                self.aside.push(event);
                return Ok(());
            }
            Event::Citation { value, .. } => {
                look_within(watch, choice, value).await?;
                self.aside.push(event);
                return Ok(());
            }
            Event::Foreign { value, .. } => {
                self.flush(watch, choice, out).await?;
                look_within(watch, choice, value).await?;
            }
            Event::Other { fields, .. } => {
                for value in fields.values_mut() {
                    look_within(watch, choice, value).await?;
                }
            }
            Event::Finish { .. } => self.flush(watch, choice, out).await?,
            _ => {}
        }
        out.push(event);
        Ok(())
    }

    /// More of a run. The runs before it are over, but for text, which goes on behind thoughts and refusals: clients put
    /// it together as if nothing had come between, so it is not let go before a guard lets it, or a call ends it.
    async fn hold(
        &mut self,
        watch: &Watch,
        choice: u32,
        channel: Channel,
        text: &str,
        out: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        let over = |other: Channel| match (other, channel) {
            (Channel::Call(_), Channel::Call(_)) | (Channel::Text, Channel::Thinking | Channel::Refusal) => {
                false
            }
            _ => other != channel,
        };
        let ended: Vec<Channel> = self
            .lanes
            .iter()
            .filter(|(other, lane)| over(**other) && !lane.held().is_empty())
            .map(|(other, _)| *other)
            .collect();
        for other in ended {
            self.end(watch, choice, other, out).await?;
        }
        self.lanes.entry(channel).or_default().hold(text);
        Ok(())
    }

    /// Looks at what has come of all runs.
    async fn look(&mut self, watch: &Watch, choice: u32, out: &mut Vec<Event>) -> Result<(), Fault> {
        for (channel, lane) in &mut self.lanes {
            if !lane.held().is_empty() && lane.is_due() {
                look(watch, choice, *channel, lane, false, out).await?;
            }
            if lane.held().len() > MOST_HELD {
                let text = "the guards of this answer hold back more than a megabyte of it";
                return Err(Fault::new(FaultKind::Unavailable, text).code("plugin_unavailable"));
            }
        }
        self.settle(out);
        Ok(())
    }

    /// A run is over.
    async fn end(
        &mut self,
        watch: &Watch,
        choice: u32,
        channel: Channel,
        out: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        match self.lanes.get_mut(&channel).filter(|lane| !lane.held().is_empty()) {
            Some(lane) => look(watch, choice, channel, lane, true, out).await,
            None => Ok(()),
        }
    }

    /// All runs are over.
    async fn flush(&mut self, watch: &Watch, choice: u32, out: &mut Vec<Event>) -> Result<(), Fault> {
        let channels: Vec<Channel> = self.lanes.keys().copied().collect();
        for channel in channels {
            self.end(watch, choice, channel, out).await?;
        }
        self.settle(out);
        Ok(())
    }

    /// What is said of text that has gone out goes out too; of text that was cut, it would tell too much.
    fn settle(&mut self, out: &mut Vec<Event>) {
        if self.aside.is_empty() || self.lanes.values().any(|lane| !lane.held().is_empty()) {
            return;
        }
        let is_cut = self.lanes.values().any(|lane| lane.is_cut);
        out.extend(self.aside.drain(..).filter(|event| !(is_cut && matches!(event, Event::Logprobs { .. }))));
    }
}

/// Looks at what is held of a run, and lets go of it what may go.
async fn look(
    watch: &Watch,
    choice: u32,
    channel: Channel,
    lane: &mut Lane,
    last: bool,
    out: &mut Vec<Event>,
) -> Result<(), Fault> {
    let parsed = if lane.is_json() { slots::arguments(lane.held()) } else { None };
    let text = parsed.as_ref().map_or_else(|| lane.held().to_owned(), cut::texts);
    let window =
        Window { choice, channel: channel.name().into(), before: lane.before().to_owned(), text, last };
    let judged = judge(watch, window).await?;
    let out_text = match parsed {
        _ if judged.gone => lane.vanish(),
        Some(_) if judged.cuts.is_empty() => lane.replace(lane.held().to_owned(), false),
        Some(mut value) => {
            cut::apply_within(&mut value, &judged.cuts);
            lane.replace(value.to_string(), true)
        }
        None => lane.release(judged.safe_until, &judged.cuts),
    };
    if !out_text.is_empty() {
        out.push(channel.event(choice, out_text));
    }
    Ok(())
}

/// Looks at a value that only some dialects understand, and cuts out of it what has to be.
async fn look_within(watch: &Watch, choice: u32, value: &mut Value) -> Result<(), Fault> {
    let text = cut::texts(value);
    if text.is_empty() {
        return Ok(());
    }
    let length = text.len();
    let window = Window { choice, channel: "other".into(), before: String::new(), text, last: true };
    let judged = judge(watch, window).await?;
    let cuts = if judged.gone { vec![Cut::whole(length)] } else { judged.cuts };
    cut::apply_within(value, &cuts);
    Ok(())
}

/// Asks all watchers about a piece of text.
async fn judge(watch: &Watch, window: Window) -> Result<Judged, Fault> {
    let asked =
        watch.watchers.iter().map(|watcher| watcher.plugin.inspect_window(watch.ask.clone(), window.clone()));
    let called = together(asked).await;
    let mut judged = Judged { cuts: Vec::new(), safe_until: window.text.len(), gone: false };
    for (watcher, called) in watch.watchers.iter().zip(called) {
        match watch.looked(watcher, called) {
            Err(fault) => judged.gone |= watch.without(watcher, "stream", &fault)?,
            Ok(verdict) => {
                let safe = if window.last { window.text.len() } else { verdict.safe_until as usize };
                judged.safe_until = judged.safe_until.min(safe);
                // What may still grow is looked at again when it has; a refusal stands.
                let found = verdict.findings.iter().filter(|found| found.end as usize <= safe);
                let refusal = verdict.reject.as_ref();
                let cuts = watch.hear(watcher, "stream", found, refusal)?;
                judged.cuts.extend(cuts.into_iter().map(|(_, cut)| cut));
            }
        }
    }
    judged.cuts = cut::sorted(judged.cuts);
    Ok(judged)
}
