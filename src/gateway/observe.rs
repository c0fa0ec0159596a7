//! Observing plugins hear how requests ended, off the client's path.

use std::sync::Arc;
use std::time::Duration;

use crate::chat::Usage;
use crate::money::Nano;
use crate::plan::AttemptRecord;
use crate::plugin::{Ask, AttemptMade, Completion, Interface, Pair, Plugin, PluginSet, TokenUsage};
use crate::policy::Session;

/// How a request ended.
pub(super) struct Ended {
    /// Who answered; empty when nobody did.
    pub(super) target: Arc<str>,
    /// The status that the client got.
    pub(super) status: u16,
    /// Finish reason of the first choice.
    pub(super) finish: Option<&'static str>,
    /// What was used.
    pub(super) usage: Usage,
    /// What it cost, where that is known.
    pub(super) cost: Option<Nano>,
    /// From the request's head to the first content of a stream.
    pub(super) first_token: Option<Duration>,
    /// From the request's head to its end.
    pub(super) took: Duration,
    /// Whether the answer was given before.
    pub(super) cached: bool,
}

/// Whether any plugin wants to hear of the end.
pub(super) fn observed(plugins: &PluginSet) -> bool {
    observers(plugins).next().is_some()
}

fn observers(plugins: &PluginSet) -> impl Iterator<Item = &Arc<Plugin>> {
    plugins.iter().filter(|plugin| plugin.exports(Interface::Observe) == Some(true))
}

/// Tells all observers, each on a task of its own; what comes of it is counted among the plugin's calls.
pub(super) fn tell(
    plugins: &PluginSet,
    session: &Session,
    ended: &Ended,
    attempts: &[AttemptRecord],
    tags: &[Pair],
) {
    // Without a runtime, the process is about to end.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let completion = Arc::new(completion(ended, attempts));
    for plugin in observers(plugins) {
        let ask = Ask::of(session.facts(), tags, &plugin.settings().headers, Vec::new());
        let call = plugin.observe(Arc::new(ask), completion.clone());
        runtime.spawn(async move { drop(call.await) });
    }
}

fn completion(ended: &Ended, attempts: &[AttemptRecord]) -> Completion {
    let tokens = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let usage = &ended.usage;
    let made = attempts.iter().map(|attempt| AttemptMade {
        target: attempt.target.to_string().into(),
        status: attempt.status.unwrap_or_default(),
        error_kind: (attempt.outcome != "ok").then(|| Arc::from(&*attempt.outcome)),
        duration_ms: millis(Duration::from_secs_f64(attempt.ms.max(0.0) / 1e3)),
    });
    Completion {
        target: ended.target.clone(),
        status: ended.status,
        finish_reason: ended.finish.map(Into::into),
        usage: TokenUsage {
            prompt: tokens(usage.input + usage.cached_read + usage.cache_write + usage.cache_write_long),
            completion: tokens(usage.output),
            cached: tokens(usage.cached_read),
            reasoning: tokens(usage.reasoning),
        },
        cost_micros: ended.cost.map_or(0, |cost| cost.0 / 1_000),
        first_token_ms: ended.first_token.map(millis),
        duration_ms: millis(ended.took),
        attempts: made.collect(),
        cache_hit: ended.cached,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_given_before_is_told_as_one() {
        for cached in [false, true] {
            let ended = Ended {
                target: "a/b".into(),
                status: 200,
                finish: Some("stop"),
                usage: Usage::default(),
                cost: Some(Nano(0)),
                first_token: None,
                took: Duration::from_millis(3),
                cached,
            };
            assert_eq!(completion(&ended, &[]).cache_hit, cached);
        }
    }
}
