//! One streamed answer of a provider whose language a plugin speaks: an instance kept for the length of the stream.

use std::sync::Arc;

use wasmtime::component::ResourceAny;

use super::calls::Visit;
use super::guest::fuel;
use super::instance::Instance;
use super::wire;
use crate::plugin::Plugin;
use crate::plugin::function::Function;
use crate::plugin::outcome::{CallFault, Called, Outcome};

/// Reads the bytes of one stream.
pub struct Decoder {
    plugin: Arc<Plugin>,
    /// `None` after a fault: the instance is of no more use.
    running: Option<(Instance, ResourceAny)>,
    fault: Option<CallFault>,
}

impl Plugin {
    /// Begins to read a stream.
    pub fn decoder(self: &Arc<Self>) -> impl Future<Output = Called<Decoder>> + Send + use<> {
        let plugin = Arc::clone(self);
        async move {
            let mut visit = Visit::begin(&plugin, Function::Decoder);
            let made = begin(&plugin, &mut visit).await;
            let called = visit.end(made);
            let decoder =
                |running| Decoder { plugin: Arc::clone(&plugin), running: Some(running), fault: None };
            Called { answer: called.answer.map(decoder), took: called.took }
        }
    }
}

async fn begin(plugin: &Plugin, visit: &mut Visit<'_>) -> Result<(Instance, ResourceAny), CallFault> {
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
    pub async fn feed(&mut self, bytes: &[u8]) -> Called<Vec<String>> {
        let plugin = Arc::clone(&self.plugin);
        let mut visit = Visit::begin(&plugin, Function::Feed);
        let read = self.call(Function::Feed, &mut visit, |decoder| (decoder, bytes)).await;
        visit.end(read)
    }

    /// No more bytes will come.
    pub async fn end(mut self) -> Called<Vec<String>> {
        let plugin = Arc::clone(&self.plugin);
        let mut visit = Visit::begin(&plugin, Function::End);
        let read = self.call(Function::End, &mut visit, |decoder| (decoder,)).await;
        visit.end(read)
    }

    async fn call<P>(
        &mut self,
        function: Function,
        visit: &mut Visit<'_>,
        params: impl FnOnce(ResourceAny) -> P,
    ) -> Result<Vec<String>, CallFault>
    where
        P: wasmtime::component::ComponentNamedList + wasmtime::component::Lower + Send + Sync,
    {
        let Ok(guest) = &self.plugin.guest else {
            return Err(CallFault::new(Outcome::Absent, "the plugin was not loaded"));
        };
        visit.pass()?;
        let export = guest.export(function)?;
        let _place = guest.place().await?;
        // An instance whose call was given up is in the middle of something, so it is put back only after a whole one.
        let Some((mut instance, decoder)) = self.running.take() else {
            let over =
                || CallFault::new(Outcome::Trap, "the stream's decoder was given up in the middle of a call");
            return Err(self.fault.clone().unwrap_or_else(over));
        };
        let _ticking = guest.sandbox.ticker.tick();
        let limit = guest.limit(function);
        let returned: Result<(Result<Vec<String>, wire::Failure>,), CallFault> =
            instance.call(export, params(decoder), limit, fuel(function)).await;
        let read = returned.and_then(|(read,)| Ok(read?));
        match &read {
            Ok(_) => self.running = Some((instance, decoder)),
            Err(fault) => self.fault = Some(fault.clone()),
        }
        read
    }
}
