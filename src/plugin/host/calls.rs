//! The calls that the gateway makes: typed, counted, checked. Each future owns all that it needs, so that it can be
//! polled once inline and, where that is not enough, awaited elsewhere.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::{ComponentNamedList, ComponentType, Lift, Lower};

use super::imports::LONGEST_LINE;
use super::road::patient;
use super::wire;
use crate::plugin::answer::{
    self, Classification, DialectFault, Outgoing, RouteDecision, Signature, Verdict, WindowVerdict,
};
use crate::plugin::ask::{Ask, Candidate, Completion, Context, Phase, Segment, Window};
use crate::plugin::function::Function;
use crate::plugin::outcome::{CallFault, Called, Outcome};
use crate::plugin::quarantine::{Change, Entry};
use crate::plugin::{Pair, Plugin};

impl Plugin {
    /// Asks what kind of request it is.
    pub fn classify(
        self: &Arc<Self>,
        ask: Arc<Ask>,
    ) -> impl Future<Output = Called<Classification>> + Send + use<> {
        let plugin = Arc::clone(self);
        patient(async move {
            let context = plugin.shown(&ask.context, Function::Classify);
            let params = (&context, plugin.text(&ask.segments));
            plugin.ask(Function::Classify, Some(&ask), params, Classification::check).await
        })
    }

    /// Asks a guard what must not pass.
    pub fn inspect(
        self: &Arc<Self>,
        phase: Phase,
        ask: Arc<Ask>,
    ) -> impl Future<Output = Called<Verdict>> + Send + use<> {
        let plugin = Arc::clone(self);
        patient(async move {
            let context = plugin.shown(&ask.context, Function::Inspect);
            let segments = plugin.text(&ask.segments);
            let check = |verdict: &Verdict| verdict.check(segments);
            plugin.ask(Function::Inspect, Some(&ask), (phase, &context, segments), check).await
        })
    }

    /// Asks a guard about a piece of a stream. A guard that may not see the prompt sees no answers either.
    pub fn inspect_window(
        self: &Arc<Self>,
        ask: Arc<Ask>,
        window: Window,
    ) -> impl Future<Output = Called<WindowVerdict>> + Send + use<> {
        let plugin = Arc::clone(self);
        patient(async move {
            let context = plugin.shown(&ask.context, Function::InspectWindow);
            let check = |verdict: &WindowVerdict| verdict.check(&window);
            plugin.ask(Function::InspectWindow, Some(&ask), (&context, &window), check).await
        })
    }

    /// Asks a router where to go.
    pub fn route(
        self: &Arc<Self>,
        ask: Arc<Ask>,
        candidates: Arc<[Candidate]>,
    ) -> impl Future<Output = Called<RouteDecision>> + Send + use<> {
        let plugin = Arc::clone(self);
        patient(async move {
            let context = plugin.shown(&ask.context, Function::Route);
            let wanted = plugin.loaded().is_some_and(|loaded| loaded.manifest.needs.candidates);
            let candidates: &[Candidate] = if wanted { &candidates } else { &[] };
            let params = (&context, plugin.text(&ask.segments), candidates);
            plugin.ask(Function::Route, Some(&ask), params, RouteDecision::check).await
        })
    }

    /// Tells an observer how a request ended.
    pub fn observe(
        self: &Arc<Self>,
        ask: Arc<Ask>,
        completion: Arc<Completion>,
    ) -> impl Future<Output = Called<()>> + Send + use<> {
        let plugin = Arc::clone(self);
        patient(async move {
            let context = plugin.shown(&ask.context, Function::Complete);
            plugin.tell(Function::Complete, Some(&ask), (&context, &*completion)).await
        })
    }

    /// Calls a free function with arguments as JSON text; the result is JSON text too.
    pub fn call(
        self: &Arc<Self>,
        name: String,
        args: String,
    ) -> impl Future<Output = Called<String>> + Send + use<> {
        self.call_about(None, name, args)
    }

    /// The same while this request is served: what the function has done for it is done on its behalf.
    pub fn call_about(
        self: &Arc<Self>,
        about: Option<Arc<Ask>>,
        name: String,
        args: String,
    ) -> impl Future<Output = Called<String>> + Send + use<> {
        let plugin = Arc::clone(self);
        patient(async move {
            let check = |said: &String| answer::json("the result", said);
            plugin.ask(Function::Call, about.as_ref(), (name.as_str(), args.as_str()), check).await
        })
    }

    /// The functions that [`Plugin::call`] knows.
    pub fn signatures(self: &Arc<Self>) -> impl Future<Output = Called<Vec<Signature>>> + Send + use<> {
        let plugin = Arc::clone(self);
        patient(async move {
            let called: Called<(Vec<Signature>,)> = plugin.tell(Function::Signatures, None, ()).await;
            Called { answer: called.answer.map(|(signatures,)| signatures), took: called.took }
        })
    }

    /// Says a chat completions request, as JSON text, in a provider's language.
    pub fn encode(
        self: &Arc<Self>,
        request: String,
    ) -> impl Future<Output = Called<Outgoing>> + Send + use<> {
        let plugin = Arc::clone(self);
        patient(async move {
            plugin.ask(Function::Encode, None, (request.as_str(),), |_: &Outgoing| Ok(())).await
        })
    }

    /// Reads a provider's whole answer as a `chat.completion`.
    pub fn decode(
        self: &Arc<Self>,
        status: u16,
        body: bytes::Bytes,
    ) -> impl Future<Output = Called<String>> + Send + use<> {
        let plugin = Arc::clone(self);
        patient(
            async move { plugin.ask(Function::Decode, None, (status, &*body), |_: &String| Ok(())).await },
        )
    }

    /// Reads a provider's answer with a status of 400 or more.
    pub fn fault(
        self: &Arc<Self>,
        status: u16,
        headers: Vec<Pair>,
        body: bytes::Bytes,
    ) -> impl Future<Output = Called<DialectFault>> + Send + use<> {
        let plugin = Arc::clone(self);
        patient(async move {
            let params = (status, headers.as_slice(), &*body);
            let called: Called<(DialectFault,)> = plugin.tell(Function::Fault, None, params).await;
            Called { answer: called.answer.map(|(fault,)| fault), took: called.took }
        })
    }

    /// What this plugin sees of a request.
    fn shown<'a>(&'a self, context: &'a Context, function: Function) -> wire::Context<'a> {
        let (needs, limit) = match &self.guest {
            Ok(guest) => (guest.loaded.manifest.needs, guest.limit(function)),
            Err(_) => (answer::Needs::default(), Duration::ZERO),
        };
        let deadline_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        wire::Context::of(context, &self.settings.headers, needs, deadline_ms)
    }

    /// The text, where the plugin wants it and may see it.
    fn text<'a>(&self, segments: &'a [Segment]) -> &'a [Segment] {
        if self.reads_text() { segments } else { &[] }
    }

    /// Calls a function that may say itself that it failed, and proves its answer.
    async fn ask<P, T>(
        &self,
        function: Function,
        about: Option<&Arc<Ask>>,
        params: P,
        check: impl FnOnce(&T) -> Result<(), String>,
    ) -> Called<T>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        T: ComponentType + Lift + Send + Sync + 'static,
    {
        let mut visit = Visit::begin(self, function);
        let returned = visit.enter::<P, (Result<T, wire::Failure>,)>(about, params).await;
        visit.end(returned.and_then(|(returned,)| {
            let value = returned?;
            check(&value)
                .map_err(|error| CallFault::new(Outcome::Trap, format!("its answer cannot be: {error}")))?;
            Ok(value)
        }))
    }

    /// Calls a function that answers in any case.
    async fn tell<P, R>(&self, function: Function, about: Option<&Arc<Ask>>, params: P) -> Called<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let mut visit = Visit::begin(self, function);
        let returned = visit.enter(about, params).await;
        visit.end(returned)
    }
}

/// One call from its beginning to its end, also where its caller leaves in between.
pub(super) struct Visit<'a> {
    plugin: &'a Plugin,
    function: Function,
    started: Instant,
    entry: Option<Entry>,
}

impl<'a> Visit<'a> {
    pub(super) fn begin(plugin: &'a Plugin, function: Function) -> Self {
        Self { plugin, function, started: Instant::now(), entry: None }
    }

    /// Lets the call pass the quarantine.
    pub(super) fn pass(&mut self) -> Result<(), CallFault> {
        let entry = self.plugin.quarantine.enter().map_err(|left| {
            let text = format!("it failed too often lately; the next trial is in {} ms", left.as_millis());
            CallFault::new(Outcome::Quarantined, text)
        })?;
        self.entry = Some(entry);
        Ok(())
    }

    async fn enter<P, R>(&mut self, about: Option<&Arc<Ask>>, params: P) -> Result<R, CallFault>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let guest = match &self.plugin.guest {
            Ok(guest) => guest,
            Err(reason) => return Err(CallFault::new(Outcome::Absent, reason)),
        };
        self.pass()?;
        let limit = guest.limit(self.function);
        let (returned, memory) = guest.enter(self.function, params, limit, about.cloned()).await?;
        self.plugin.meters.memory(memory);
        Ok(returned)
    }

    /// Whether the plugin has not said too much in this second.
    fn has_a_say(&self) -> bool {
        self.plugin.guest.as_ref().is_ok_and(|guest| {
            let grantee = &guest.grantee;
            grantee.voice.raise(grantee.services.clock.unix_ms()).0
        })
    }

    /// Books the call.
    pub(super) fn end<T>(mut self, answer: Result<T, CallFault>) -> Called<T> {
        let took = self.started.elapsed();
        let outcome = answer.as_ref().err().map_or(Outcome::Ok, |fault| fault.outcome);
        self.plugin.meters.called(self.function, outcome, took);
        let name = &*self.plugin.settings.name;
        if let Some(entry) = self.entry.take() {
            let healthy = match outcome {
                // These say nothing of the plugin's health.
                Outcome::Busy | Outcome::Quarantined | Outcome::Absent => None,
                outcome => Some(!outcome.counts_against()),
            };
            match self.plugin.quarantine.leave(entry, healthy) {
                Change::None => {}
                Change::Began(pause) => {
                    let said = answer.as_ref().err().map(|fault| fault.message.as_str());
                    tracing::error!(
                        plugin = name,
                        pause_ms = pause.as_millis(),
                        said,
                        "a plugin fails too often and is not run for now: its calls end as its `on_error` says"
                    );
                }
                Change::Ended => tracing::info!(plugin = name, "a plugin works again after its quarantine"),
            }
        }
        if let Err(fault) = &answer
            && is_told(fault, || self.has_a_say())
        {
            let (outcome, said) = (fault.outcome.as_str(), &*fault.message);
            let said = said.get(..said.floor_char_boundary(LONGEST_LINE)).unwrap_or_default();
            tracing::warn!(
                plugin = name,
                function = self.function.as_str(),
                outcome,
                said,
                "a plugin's call failed"
            );
        }
        Called { answer, took }
    }
}

/// Whether the log tells of it: what is the plugin's own fault, and, as long as it `may` speak, what it says itself that went
/// wrong. To have no opinion is nothing wrong.
fn is_told(fault: &CallFault, may: impl FnOnce() -> bool) -> bool {
    fault.outcome.counts_against() || fault.outcome == Outcome::Failure && !fault.unsupported && may()
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.plugin.quarantine.leave(entry, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_what_a_plugin_says_that_went_wrong_unless_it_says_too_much() {
        let fault = |outcome, unsupported| CallFault { unsupported, ..CallFault::new(outcome, "") };
        for (fault, may, told) in [
            (fault(Outcome::Failure, false), true, true),
            (fault(Outcome::Failure, false), false, false),
            (fault(Outcome::Failure, true), true, false),
            (fault(Outcome::Trap, false), false, true),
            (fault(Outcome::Busy, false), true, false),
        ] {
            assert_eq!(is_told(&fault, || may), told, "{fault:?}, {may}");
        }
    }
}
