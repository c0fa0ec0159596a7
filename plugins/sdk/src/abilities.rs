//! What a plugin can be: one trait for each interface of the contract.

use serde::de::DeserializeOwned;

use crate::{
    Candidate, Classification, Decision, Failure, Label, Needs, Outcome, Outgoing, Phase, ProviderFault,
    RequestContext, Segment, Signature, Verdict, Window, WindowVerdict,
};

/// Every plugin: a value that is made from its configuration.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// The plugin's `config:` block. Use `#[serde(deny_unknown_fields)]`, so that a typing error is told at the load.
    type Config: DeserializeOwned;

    /// What the host has to copy into each call; the rest arrives empty.
    const NEEDS: Needs;

    /// Makes the plugin. Compile patterns here and use them once: every later instance starts with the memory that
    /// this leaves behind.
    ///
    /// # Errors
    /// What is wrong with the configuration, for a person. It rejects the load, and the version before stays.
    fn new(config: Self::Config) -> Result<Self, String>;
}

/// Says what kind of request it is.
pub trait Classify: Plugin {
    /// Labels with scores, best first.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] counts as "no opinion"; for the others the configured `on_error` decides.
    fn classify(&self, ctx: &RequestContext, segments: &[Segment]) -> Result<Classification, Failure>;
}

/// Finds what must not pass, in requests and in answers.
pub trait Guard: Plugin {
    /// Inspects a whole request or a whole answer.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] counts as "no opinion"; for the others the configured `on_error` decides.
    fn inspect(&self, phase: Phase, ctx: &RequestContext, segments: &[Segment]) -> Result<Verdict, Failure>;

    /// Inspects a piece of a streamed answer. Unless a guard says how far a piece is safe, all is held back to the end
    /// of the answer, and then inspected whole.
    ///
    /// # Errors
    /// As of [`Guard::inspect`].
    fn inspect_window(&self, ctx: &RequestContext, window: &Window) -> Result<WindowVerdict, Failure> {
        if !window.last {
            return Ok(WindowVerdict { findings: Vec::new(), safe_until: 0, reject: None });
        }
        let whole = Segment {
            id: 0,
            origin: crate::Origin::Assistant,
            path: window.channel.clone(),
            text: window.text.clone(),
        };
        let safe_until = u32::try_from(window.text.len()).unwrap_or(u32::MAX);
        let verdict = self.inspect(Phase::Response, ctx, &[whole])?;
        Ok(WindowVerdict { findings: verdict.findings, safe_until, reject: verdict.reject })
    }
}

/// Chooses targets.
pub trait Route: Plugin {
    /// A plan, a refusal, or no opinion.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] counts as "no opinion"; for the others the configured `on_error` decides.
    fn route(
        &self,
        ctx: &RequestContext,
        segments: &[Segment],
        candidates: &[Candidate],
    ) -> Result<Decision, Failure>;
}

/// Sees how requests ended, off the client's path.
pub trait Observe: Plugin {
    /// Called after the last byte.
    fn complete(&self, ctx: &RequestContext, outcome: &Outcome);
}

/// Functions for policies: `plugin("geo").call("country", #{ ip: … })`.
pub trait Functions: Plugin {
    /// What can be called.
    fn signatures(&self) -> Vec<Signature>;

    /// Calls one, with arguments and result as JSON.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] for a name that is none of [`Functions::signatures`].
    fn call(&self, name: &str, args: serde_json::Value) -> Result<serde_json::Value, Failure>;
}

/// Tells whether it still works, when the file is loaded.
pub trait SelfTest: Plugin {
    /// # Errors
    /// What does not work. It rejects the load.
    fn self_test(&self) -> Result<(), String>;
}

/// Speaks a provider's language. The canonical form is OpenAI's chat completions API, as JSON text.
pub trait Dialect: Plugin {
    /// Reads one streamed answer.
    type Decoder: Decoder;

    /// A chat completions request in the provider's words.
    ///
    /// # Errors
    /// What cannot be said in it at all; what is only lost is named in [`Outgoing::lost`].
    fn encode(&self, request: &str) -> Result<Outgoing, Failure>;

    /// A whole answer with a status below 400, as a `chat.completion`.
    ///
    /// # Errors
    /// An answer that is not one.
    fn decode(&self, status: u16, body: &[u8]) -> Result<String, Failure>;

    /// An answer with a status of 400 or more.
    fn fault(&self, status: u16, headers: &[(String, String)], body: &[u8]) -> ProviderFault;

    /// A decoder for one streamed answer.
    fn decoder(&self) -> Self::Decoder;
}

/// Reads one streamed answer, cut anywhere.
pub trait Decoder: 'static {
    /// What these bytes complete, as `chat.completion.chunk` objects.
    ///
    /// # Errors
    /// A stream that is not one.
    fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, Failure>;

    /// No more bytes will come.
    ///
    /// # Errors
    /// An answer that was cut off.
    fn end(&mut self) -> Result<Vec<String>, Failure>;
}

/// A classification of these labels, sorted best first; equal scores keep their order.
pub fn classification<'a>(labels: impl IntoIterator<Item = (&'a str, f32)>) -> Classification {
    let mut labels: Vec<Label> =
        labels.into_iter().map(|(name, score)| Label { name: name.to_owned(), score }).collect();
    labels.sort_by(|a, b| b.score.total_cmp(&a.score));
    Classification { labels, attributes: Vec::new() }
}
