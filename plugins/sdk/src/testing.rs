//! For native unit tests: builders of what a plugin is called with, a host that remembers what it was asked for, and a
//! stream that is cut anywhere.

#![allow(clippy::panic, reason = "only tests call this, and a test that cannot go on fails")]

mod host;
mod stream;

pub use host::{Host, Line, Measure, Respond};
pub use stream::{redact, stream};

#[doc(hidden)]
pub use host::imports;

use crate::{
    Candidate, Endpoint, Features, Origin, Outcome, Phase, Plugin, Principal, RequestContext, Segment, Usage,
    Window,
};

/// A plugin with this configuration, as JSON text: what `init` does.
///
/// # Errors
/// What is wrong with the configuration.
pub fn plugin<P: Plugin>(config: &str) -> Result<P, String> {
    crate::slot::make(config)
}

/// A chat request for `auto` by nobody in particular; change what a test is about.
#[must_use]
pub fn context() -> RequestContext {
    RequestContext {
        request_id: "req-1".into(),
        endpoint: Endpoint::Chat,
        model: "auto".into(),
        principal: Principal { key_id: "key-1".into(), user: None, team: None, tags: Vec::new() },
        headers: Vec::new(),
        metadata: Vec::new(),
        features: Features::empty(),
        prompt_tokens: 100,
        max_output_tokens: None,
        tags: Vec::new(),
        deadline_ms: 50,
    }
}

/// The text of one message of the user.
#[must_use]
pub fn user(text: &str) -> Segment {
    segment(Origin::User, text)
}

/// The text of one message.
#[must_use]
pub fn segment(origin: Origin, text: &str) -> Segment {
    Segment { id: 0, origin, path: "messages[0].content".into(), text: text.into() }
}

/// Several texts, numbered as the host numbers them.
#[must_use]
pub fn segments(texts: &[(Origin, &str)]) -> Vec<Segment> {
    let numbered = texts.iter().zip(0..);
    let made = numbered.map(|((origin, text), id)| Segment {
        id,
        origin: *origin,
        path: format!("messages[{id}].content"),
        text: (*text).into(),
    });
    made.collect()
}

/// A healthy candidate: 500 ms, 1000 micro-dollars, no failures.
#[must_use]
pub fn candidate(target: &str) -> Candidate {
    Candidate {
        target: target.into(),
        healthy: true,
        error_rate: 0.0,
        latency_p50_ms: 500,
        latency_p95_ms: 900,
        cost_micros: 1000,
        context_window: 128_000,
        region: String::new(),
        tags: Vec::new(),
    }
}

/// A request that this target answered at once.
#[must_use]
pub fn outcome(target: &str) -> Outcome {
    Outcome {
        target: target.into(),
        status: 200,
        finish_reason: Some("stop".into()),
        usage: Usage { prompt: 100, completion: 20, cached: 0, reasoning: 0 },
        cost_micros: 1000,
        first_token_ms: Some(200),
        duration_ms: 800,
        attempts: Vec::new(),
        cache_hit: false,
    }
}

/// A piece of a streamed answer.
#[must_use]
pub fn window(before: &str, text: &str, last: bool) -> Window {
    Window { choice: 0, channel: "content".into(), before: before.into(), text: text.into(), last }
}

/// Inspects one text as a request and says what would be left of it.
///
/// # Panics
/// Where the guard fails.
#[must_use]
pub fn redacted<G: crate::Guard>(guard: &G, text: &str) -> String {
    let verdict = guard.inspect(Phase::Request, &context(), &[user(text)]);
    match verdict {
        Ok(verdict) => redact(text, &verdict.findings),
        Err(failure) => panic!("the guard fails: {failure:?}"),
    }
}
