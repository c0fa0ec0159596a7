//! An answer of the gateway's own, played as a provider inside the process would: whole or streamed, in any dialect.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::{Dialect, Local, LocalAnswer, Outgoing, Provider, Target, Vendor};
use crate::chat::{Answer, Choice, FinishReason, Part, Request, StreamDecoder, Usage};
use crate::fault::{Fault, FaultKind};
use crate::target::TargetName;

/// The name under which it stands in headers, records and metrics.
const PROVIDER: &str = "policy";
const MODEL: &str = "respond";

/// Answers with a text, whatever was asked.
struct Respond(Arc<str>);

/// The target that answers with this text, without any use of tokens.
pub fn respond(text: &Arc<str>) -> Target {
    let mut vendor = Vendor::bare(PROVIDER, Arc::new(Respond(text.clone())));
    vendor.models.push(MODEL.into());
    let name = TargetName { provider: PROVIDER.into(), model: MODEL.into() };
    Target::new(Arc::new(vendor), name)
}

impl Provider for Respond {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }

    fn encode(&self, _: &Request, _: &TargetName) -> Result<Outgoing, Fault> {
        Ok(Outgoing::json("/".to_owned(), "application/json", Vec::new()))
    }

    fn decode(&self, _: &[u8]) -> Result<Answer, Fault> {
        let text = Part::text(&*self.0);
        let choice =
            Choice { content: vec![text], finish: Some(FinishReason::Stop.into()), ..Choice::default() };
        Ok(Answer { choices: vec![choice], usage: Some(Usage::default()), ..Answer::default() })
    }

    /// Never asked: the answer says that it is one JSON document.
    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(Never)
    }

    fn fault(&self, _: u16, _: &HeaderMap, _: &[u8]) -> Fault {
        Fault::new(FaultKind::Internal, "an answer of the gateway's own failed")
    }

    fn local(&self) -> Option<&dyn Local> {
        Some(self)
    }
}

impl Local for Respond {
    fn answer(&self, _: Outgoing) -> LocalAnswer {
        let mut headers = HeaderMap::with_capacity(1);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        LocalAnswer { status: 200, headers, pieces: vec![(Duration::ZERO, Bytes::from_static(b"{}"))] }
    }
}

struct Never;

impl StreamDecoder for Never {
    fn feed(&mut self, _: &[u8], _: &mut Vec<crate::chat::Event>) -> Result<(), Fault> {
        Err(Fault::new(FaultKind::Internal, "an answer of the gateway's own is no stream"))
    }

    fn finish(&mut self, events: &mut Vec<crate::chat::Event>) -> Result<(), Fault> {
        self.feed(&[], events)
    }
}
