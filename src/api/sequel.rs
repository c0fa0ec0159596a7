//! A request once more, with the beginning of its answer as the last message: for a target that goes on with it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::executor::Carry;
use crate::fault::Fault;
use crate::gateway::Asked;
use crate::json::Body;
use crate::providers::{Outgoing, Relayed, StreamRelay, Target};

/// How the request goes out to a target.
type Saying = dyn Fn(&Target) -> Result<Outgoing, Fault> + Send + Sync;
/// How the target's stream goes on with what the client has seen.
type Hearing = dyn Fn(&Target) -> Result<Box<dyn StreamRelay>, Fault> + Send + Sync;

/// A request for the rest of an answer.
pub(super) struct Sequel {
    asked: Arc<dyn Carry>,
    saying: Option<Box<Saying>>,
    hearing: Option<Box<Hearing>>,
}

impl Sequel {
    /// This request, which has the beginning already.
    pub(super) fn new(asked: Arc<dyn Carry>) -> Self {
        Self { asked, saying: None, hearing: None }
    }

    /// The same request with `beginning` behind the turns in the field `turns`.
    pub(super) fn of(asked: &dyn Asked, turns: &str, beginning: Value) -> Option<Self> {
        let all = behind(asked.json()?, turns, beginning)?;
        Some(Self::new(asked.with(&[(turns.into(), all)], &mut Vec::new()).ok()??))
    }

    /// Goes out like this.
    pub(super) fn said(
        mut self,
        saying: impl Fn(&Target) -> Result<Outgoing, Fault> + Send + Sync + 'static,
    ) -> Self {
        self.saying = Some(Box::new(saying));
        self
    }

    /// Its streams are read like this.
    pub(super) fn heard(
        mut self,
        hearing: impl Fn(&Target) -> Result<Box<dyn StreamRelay>, Fault> + Send + Sync + 'static,
    ) -> Self {
        self.hearing = Some(Box::new(hearing));
        self
    }

    /// Ready to be carried out.
    pub(super) fn carried(self) -> Arc<dyn Carry> {
        Arc::new(self)
    }
}

impl Carry for Sequel {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        match &self.saying {
            Some(saying) => saying(target),
            None => self.asked.outgoing(target),
        }
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        self.asked.whole(target, body)
    }

    fn wants_stream(&self) -> bool {
        true
    }

    fn is_sequel(&self) -> bool {
        true
    }

    fn stream(&self, target: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        match &self.hearing {
            Some(hearing) => hearing(target),
            None => self.asked.stream(target),
        }
    }
}

/// The turns in the field `turns` of a body, with `beginning` behind them. A text there is the user's.
pub(super) fn behind(body: &Body, turns: &str, beginning: Value) -> Option<Value> {
    let mut all: Vec<Value> = match serde_json::from_str(body.raw(turns)?).ok()? {
        Value::Array(all) => all,
        Value::String(text) => vec![json!({ "role": "user", "content": text })],
        _ => return None,
    };
    all.push(beginning);
    Some(all.into())
}

/// The documents in the frames that a client has seen.
pub(super) fn documents(seen: &[Bytes]) -> impl Iterator<Item = Value> {
    seen.iter().flat_map(|frames| {
        let text = String::from_utf8_lossy(frames);
        let documents = text.lines().filter_map(|line| {
            let line = line.strip_prefix("data:").unwrap_or(line);
            serde_json::from_str(line.trim_start_matches(['[', ',', ' '])).ok().filter(Value::is_object)
        });
        documents.collect::<Vec<Value>>()
    })
}
