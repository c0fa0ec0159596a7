//! A request once more, with the beginning of its answer as the last message.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::door::Asked;
use crate::executor::{Again, Carry};
use crate::fault::Fault;
use crate::providers::{Dialect, Outgoing, Relayed, StreamRelay, Target};

/// How a request is said again, in the words of the client's own dialect.
pub(super) fn again(asked: Arc<dyn Asked>, dialect: Dialect) -> Again {
    Arc::new(move |text| {
        let beginning = match dialect {
            // DeepSeek and Mistral want to be told that it is one; others pass over the word.
            Dialect::OpenAi => json!({ "role": "assistant", "content": text, "prefix": true }),
            Dialect::Anthropic => json!({ "role": "assistant", "content": text }),
            _ => return None,
        };
        let mut messages: Vec<Value> = serde_json::from_str(asked.field("messages")?).ok()?;
        messages.push(beginning);
        let again = asked.with(&[("messages".into(), messages.into())], &mut Vec::new()).ok()??;
        Some(Arc::new(Resumed(again)) as Arc<dyn Carry>)
    })
}

struct Resumed(Arc<dyn Asked>);

impl Carry for Resumed {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        self.0.outgoing(target)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        self.0.whole(target, body)
    }

    fn wants_stream(&self) -> bool {
        true
    }

    fn is_sequel(&self) -> bool {
        true
    }

    fn stream(&self, target: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Carry::stream(&*self.0, target)
    }
}
