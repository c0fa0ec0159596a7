//! A provider under the rules of policies for its output: limits are put into requests, answers end before unwanted
//! texts, and what was taken out of a prompt comes back into its answer, whatever the provider speaks.

mod ceiling;
mod channel;
mod eraser;
mod filter;
mod inspected;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;

use super::{
    ClientBody, CountTokens, Dialect, Embeddings, Images, Local, Moderations, Outgoing, Provider, Relay,
    Relayed, Rerank, Speech, StreamRelay, Target, Vendor,
};
use crate::chat::{Answer, Request, StreamDecoder, Usage};
use crate::facts::market::Scale;
use crate::fault::Fault;
use crate::plan::OutputRules;
use crate::target::TargetName;
use filter::{Filter, Filtered, Reckoning};
pub use inspected::Tally;
pub(super) use inspected::{Checkpoint, Queue, Ready};

/// One model of a vendor, under rules.
pub(super) struct Restrained {
    model: Model,
    rules: Arc<OutputRules>,
    filter: Arc<Filter>,
    /// What tells the use of a stream that is ended early.
    reckoning: Option<Reckoning>,
    /// How many alternatives the request asked for.
    choices: AtomicU64,
    relays: [Capped; 3],
    /// What was decoded and looked at already, and is to be said in place of what comes.
    ready: Option<Ready>,
}

/// By what the use of an answer is estimated whose provider is not heard to the end.
#[derive(Clone)]
pub struct Gauge {
    /// Who knows what targets count.
    pub scale: Arc<dyn Scale>,
    /// A quarter of the prompt's bytes.
    pub rough: u64,
}

/// What speaks for one model of a vendor.
#[derive(Clone)]
struct Model {
    vendor: Arc<Vendor>,
    name: Arc<str>,
}

/// One of a provider's relays, with the limit put into the client's bytes.
#[derive(Clone)]
struct Capped {
    model: Model,
    which: Which,
    most: u64,
}

/// The relays of a provider.
#[derive(Clone, Copy)]
enum Which {
    Chat,
    Responses,
    Completions,
}

impl Model {
    fn wire(&self) -> &dyn Provider {
        let wire = &*self.vendor.wire;
        wire.speaker(&self.name).unwrap_or(wire)
    }

    fn relay(&self, which: Which) -> Option<&dyn Relay> {
        match which {
            Which::Chat => self.wire().relay(),
            Which::Responses => self.wire().responses(),
            Which::Completions => self.wire().completions(&self.name),
        }
    }
}

impl Restrained {
    pub(super) fn new(target: &Target, rules: &Arc<OutputRules>, gauge: Option<&Gauge>) -> Self {
        let model = Model { vendor: target.vendor.clone(), name: target.name.model.clone() };
        let most = rules.most.unwrap_or(u64::MAX);
        let relays = [Which::Chat, Which::Responses, Which::Completions].map(|which| Capped {
            model: model.clone(),
            which,
            most,
        });
        let reckon = |gauge: &Gauge| {
            let Gauge { scale, rough } = gauge.clone();
            Reckoning { scale, target: target.name.clone(), rough }
        };
        Self {
            model,
            rules: rules.clone(),
            filter: Arc::new(Filter::new(rules)),
            reckoning: gauge.filter(|_| !rules.stop_on.is_empty()).map(reckon),
            choices: AtomicU64::new(1),
            relays,
            ready: None,
        }
    }

    /// What it estimates by.
    pub(super) fn gauge(&self) -> Option<Gauge> {
        self.reckoning.as_ref().map(|it| Gauge { scale: it.scale.clone(), rough: it.rough })
    }

    /// The same, saying what is ready.
    pub(super) fn ready(&self, ready: Ready) -> Self {
        Self {
            model: self.model.clone(),
            rules: self.rules.clone(),
            filter: self.filter.clone(),
            reckoning: self.reckoning.clone(),
            choices: AtomicU64::new(self.choices.load(Ordering::Relaxed)),
            relays: self.relays.clone(),
            ready: Some(ready),
        }
    }

    /// What the provider itself says by these bytes.
    ///
    /// # Errors
    /// The provider's fault when they are no answer.
    pub(super) fn said(&self, body: &[u8]) -> Result<Answer, Fault> {
        self.model.wire().decode(body)
    }

    /// A decoder for what the provider itself says in a stream.
    pub(super) fn listened(&self) -> Box<dyn StreamDecoder> {
        self.model.wire().stream_decoder()
    }

    /// The capped relay, where bytes may pass: rules for texts, and those who look at them, make everybody go through the canonical form.
    fn capped(&self, which: Which) -> Option<&dyn Relay> {
        let [chat, responses, completions] = &self.relays;
        let capped = match which {
            Which::Chat => chat,
            Which::Responses => responses,
            Which::Completions => completions,
        };
        let reads = !self.filter.is_empty() || self.rules.inspects() || self.rules.changes_prompt();
        let passes = !reads && self.model.relay(which).is_some();
        passes.then_some(capped as &dyn Relay)
    }
}

impl Provider for Restrained {
    fn dialect(&self) -> Dialect {
        self.model.wire().dialect()
    }

    fn encode(&self, request: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        self.choices.store(request.sampling.n.unwrap_or(1), Ordering::Relaxed);
        let mut request = request.clone();
        if let Some(most) = self.rules.most {
            ceiling::lower(&mut request, most);
        }
        eraser::redact(&mut request, &self.rules)?;
        self.model.wire().encode(&request, target)
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        let mut answer = match &self.ready {
            Some(ready) => ready.answer()?,
            None => self.said(body)?,
        };
        self.filter.whole(&mut answer);
        Ok(answer)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        let decoder = match &self.ready {
            Some(ready) => ready.decoder(),
            None => self.listened(),
        };
        if self.filter.is_empty() {
            return decoder;
        }
        let wanted = self.choices.load(Ordering::Relaxed);
        Box::new(Filtered::new(decoder, self.filter.clone(), self.reckoning.clone(), wanted))
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        self.model.wire().fault(status, headers, body)
    }

    fn relay(&self) -> Option<&dyn Relay> {
        self.capped(Which::Chat)
    }

    fn responses(&self) -> Option<&dyn Relay> {
        self.capped(Which::Responses)
    }

    fn completions(&self, _model: &str) -> Option<&dyn Relay> {
        self.capped(Which::Completions)
    }

    /// A prompt that must not leave as it is is not sent out to be counted either.
    fn count_tokens(&self) -> Option<&dyn CountTokens> {
        if self.rules.changes_prompt() { None } else { self.model.wire().count_tokens() }
    }

    fn embeddings(&self) -> Option<&dyn Embeddings> {
        self.model.wire().embeddings()
    }

    fn rerank(&self) -> Option<&dyn Rerank> {
        self.model.wire().rerank()
    }

    fn moderations(&self) -> Option<&dyn Moderations> {
        self.model.wire().moderations()
    }

    fn images(&self) -> Option<&dyn Images> {
        self.model.wire().images()
    }

    fn speech(&self) -> Option<&dyn Speech> {
        self.model.wire().speech()
    }

    fn told(&self, body: bytes::Bytes, headers: &HeaderMap) -> bytes::Bytes {
        self.model.wire().told(body, headers)
    }

    fn deployed<'m>(&'m self, model: &'m str) -> &'m str {
        self.model.wire().deployed(model)
    }

    fn media_path(&self, operation: &str, model: &str) -> Option<String> {
        self.model.wire().media_path(operation, model)
    }

    fn chat_path(&self, model: &str, streams: bool) -> Option<String> {
        self.model.wire().chat_path(model, streams)
    }

    fn realtime_path(&self, model: &str) -> Option<String> {
        self.model.wire().realtime_path(model)
    }

    fn responses_socket(&self) -> Option<String> {
        self.model.wire().responses_socket()
    }

    fn live(&self, model: &str, version: &str) -> Option<(String, String)> {
        self.model.wire().live(model, version)
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        self.model.wire().usage(said)
    }

    fn local(&self) -> Option<&dyn Local> {
        self.model.vendor.wire.local()
    }
}

impl Capped {
    /// `Provider::completions` and its siblings have said that it is there.
    fn inner(&self) -> Result<&dyn Relay, Fault> {
        let gone = || Fault::new(crate::fault::FaultKind::Internal, "the provider relays this no longer");
        self.model.relay(self.which).ok_or_else(gone)
    }

    fn dialect(&self) -> Dialect {
        match self.which {
            Which::Chat => self.model.wire().dialect(),
            Which::Responses => Dialect::Responses,
            Which::Completions => Dialect::OpenAi,
        }
    }
}

impl Relay for Capped {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let legacy = matches!(self.which, Which::Completions);
        match ceiling::lowered(body, self.dialect(), legacy, self.most)? {
            Some(body) => self.inner()?.splice(&body, target),
            None => self.inner()?.splice(body, target),
        }
    }

    fn carry(&self, outgoing: &mut Outgoing, headers: &[(&'static str, http::HeaderValue)]) {
        if let Ok(inner) = self.inner() {
            inner.carry(outgoing, headers);
        }
    }

    fn whole(&self, body: bytes::Bytes) -> Result<Relayed, Fault> {
        self.inner()?.whole(body)
    }

    fn stream(&self, include_usage: bool) -> Box<dyn StreamRelay> {
        match self.inner() {
            Ok(inner) => inner.stream(include_usage),
            Err(fault) => Box::new(filter::Failing(fault)),
        }
    }

    fn stream_as_it_comes(&self) -> Box<dyn StreamRelay> {
        match self.inner() {
            Ok(inner) => inner.stream_as_it_comes(),
            Err(fault) => Box::new(filter::Failing(fault)),
        }
    }
}
