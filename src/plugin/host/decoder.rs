//! One streamed answer of a provider whose language a plugin speaks: an instance kept for the length of the stream.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{ComponentNamedList, Lower, ResourceAny};

use super::calls::Visit;
use super::guest::fuel;
use super::instance::Instance;
use super::road::patient;
use super::wire;
use crate::plugin::Plugin;
use crate::plugin::function::Function;
use crate::plugin::outcome::{CallFault, Called, Outcome};

/// Reads the bytes of one stream.
pub struct Decoder {
    plugin: Arc<Plugin>,
    /// `None` after a fault: the instance is of no more use.
    running: Option<Running>,
    fault: Option<CallFault>,
}

/// An instance, and its decoder.
type Running = (Instance, ResourceAny);

impl Plugin {
    /// Begins to read a stream.
    pub fn decoder(self: &Arc<Self>) -> impl Future<Output = Called<Decoder>> + Send + use<> {
        let plugin = Arc::clone(self);
        patient(async move {
            let mut visit = Visit::begin(&plugin, Function::Decoder);
            let made = begin(&plugin, &mut visit).await;
            let called = visit.end(made);
            let decoder =
                |running| Decoder { plugin: Arc::clone(&plugin), running: Some(running), fault: None };
            Called { answer: called.answer.map(decoder), took: called.took }
        })
    }
}

async fn begin(plugin: &Plugin, visit: &mut Visit<'_>) -> Result<Running, CallFault> {
    let guest = match &plugin.guest {
        Ok(guest) => guest,
        Err(reason) => return Err(CallFault::new(Outcome::Absent, reason)),
    };
    visit.pass()?;
    let export = guest.export(Function::Decoder)?;
    let _place = guest.place().await?;
    let _ticking = guest.sandbox.ticker.tick();
    let limit = guest.limit(Function::Decoder);
    let mut instance = guest.begin(limit).await?;
    let (decoder,): (ResourceAny,) = instance.call(export, (), limit, fuel(Function::Decoder)).await?;
    Ok((instance, decoder))
}

impl Decoder {
    /// Reads bytes as they came, cut anywhere; what they complete, as `chat.completion.chunk` objects.
    pub async fn feed(&mut self, bytes: Bytes) -> Called<Vec<String>> {
        self.read(Some(bytes)).await
    }

    /// No more bytes will come.
    pub async fn end(mut self) -> Called<Vec<String>> {
        self.read(None).await
    }

    /// The instance goes along with the call, wherever that goes on. An instance whose call was given up is in the middle of
    /// something, so it comes back only after a whole one.
    async fn read(&mut self, bytes: Option<Bytes>) -> Called<Vec<String>> {
        let (plugin, mut running) = (Arc::clone(&self.plugin), self.running.take());
        let over =
            || CallFault::new(Outcome::Trap, "the stream's decoder was given up in the middle of a call");
        let fault = self.fault.clone().unwrap_or_else(over);
        let read = patient(async move {
            let function = if bytes.is_some() { Function::Feed } else { Function::End };
            let mut visit = Visit::begin(&plugin, function);
            let read = match &bytes {
                Some(bytes) => {
                    call(&plugin, function, &mut visit, &mut running, fault, |one| (one, &**bytes)).await
                }
                None => call(&plugin, function, &mut visit, &mut running, fault, |one| (one,)).await,
            };
            let Called { answer, took } = visit.end(read);
            Called { answer: Ok((running, answer)), took }
        });
        let Called { answer, took } = read.await;
        let answer = answer.and_then(|(running, answer)| {
            self.running = running;
            answer
        });
        if let (None, None, Err(fault)) = (&self.running, &self.fault, &answer) {
            self.fault = Some(fault.clone());
        }
        Called { answer, took }
    }
}

/// One call of a decoder; the instance stays only if it went well.
async fn call<P>(
    plugin: &Plugin,
    function: Function,
    visit: &mut Visit<'_>,
    running: &mut Option<Running>,
    over: CallFault,
    params: impl FnOnce(ResourceAny) -> P,
) -> Result<Vec<String>, CallFault>
where
    P: ComponentNamedList + Lower + Send + Sync,
{
    let Ok(guest) = &plugin.guest else {
        return Err(CallFault::new(Outcome::Absent, "the plugin was not loaded"));
    };
    visit.pass()?;
    let export = guest.export(function)?;
    let _place = guest.place().await?;
    let (mut instance, decoder) = running.take().ok_or(over)?;
    let _ticking = guest.sandbox.ticker.tick();
    let limit = guest.limit(function);
    let (read,): (Result<Vec<String>, wire::Failure>,) =
        instance.call(export, params(decoder), limit, fuel(function)).await?;
    let read = read?;
    *running = Some((instance, decoder));
    Ok(read)
}
