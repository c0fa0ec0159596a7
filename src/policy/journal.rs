//! What policies and their failures write to the log: with file and line, and never more than a few lines a second.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rhai::{Array, Dynamic, Engine, ImmutableString, Map, NativeCallContext};

use super::engine::Host;
use super::error::RuntimeError;
use super::request::Request;
use super::wishes::Effect;
use crate::plan::{Hook, Rule};

/// Lines per second and policy that scripts may log.
const SPOKEN_PER_SECOND: u64 = 20;
/// Lines per second and policy for failures; every failure is counted all the same.
const FAILURES_PER_SECOND: u64 = 5;
/// Lines of one test that are kept.
const MOST_HEARD: usize = 100;
/// A line is cut at this many bytes.
const LINE_BYTES: usize = 4_096;

/// How loud a line is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// The log of one policy.
pub(super) struct Journal {
    pub(super) policy: Arc<str>,
    pub(super) file: Arc<Path>,
    spoken: Quota,
    failures: Quota,
    /// In tests, what is said outside of a request is kept for who runs them.
    heard: Option<Mutex<Vec<String>>>,
}

impl Journal {
    pub(super) fn new(policy: &str, file: &Path) -> Self {
        Self {
            policy: policy.into(),
            file: file.into(),
            spoken: Quota::per_second(SPOKEN_PER_SECOND),
            failures: Quota::per_second(FAILURES_PER_SECOND),
            heard: None,
        }
    }

    /// The same of a file of tests: nothing of it is written to the log.
    pub(super) fn of_tests(policy: &str, file: &Path) -> Self {
        Self { heard: Some(Mutex::default()), ..Self::new(policy, file) }
    }

    /// What was said since the last time.
    pub(super) fn heard(&self) -> Vec<String> {
        let heard = self.heard.as_ref().map(|heard| heard.lock().unwrap_or_else(PoisonError::into_inner));
        heard.map(|mut heard| std::mem::take(&mut *heard)).unwrap_or_default()
    }

    /// A rule of this policy that stands on this line of this file.
    pub(super) fn rule(&self, hook: Hook, line: u32, file: Option<&str>) -> Rule {
        let elsewhere = file.filter(|file| Path::new(file) != &*self.file);
        let file = elsewhere.map(Into::into);
        Rule { policy: Arc::clone(&self.policy), hook, line: Some(line), file, name: None }
    }

    /// The rule by which a script asks for something of a request.
    pub(super) fn asking(&self, context: &NativeCallContext<'_>, request: &Request) -> Rule {
        let (line, _) = super::error::place(context.call_position());
        self.rule(request.wishes().hook, line, context.call_source())
    }

    /// A line that the script writes: of a request it waits for the end of the evaluation, which may yet begin anew.
    pub(super) fn say(&self, level: Level, context: &NativeCallContext<'_>, text: &str) {
        let (line, column) = super::error::place(context.call_position());
        let file = context.call_source().map_or(&*self.file, Path::new);
        let (at, text) = (place(file, line, column), cut(text).to_owned());
        match context.tag().and_then(Request::of) {
            Some(request) => request.wishes().effect(Effect::Line { level, at, text }),
            None => match &self.heard {
                None => self.write(level, &at, "", &text),
                Some(heard) => {
                    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                    if heard.len() < MOST_HEARD {
                        heard.push(format!("{at}: {text}"));
                    }
                }
            },
        }
    }

    /// What a finished evaluation wanted to be seen outside of its request.
    pub(super) fn carry_out(&self, effects: &[Effect], left_out: u64, request_id: &str) {
        for effect in effects {
            match effect {
                Effect::Line { level, at, text } => self.write(*level, at, request_id, text),
                Effect::Count { series, by } => super::series::count(series, *by),
                Effect::Observation { series, value } => super::series::observe(series, *value),
                Effect::Keep { key, value, life } => super::state::write(key, value, *life),
                Effect::Raise { key, by, life } => super::state::raise(key, *by, *life),
            }
        }
        if left_out > 0 && self.failures.take().is_some() {
            let policy = &*self.policy;
            tracing::warn!(
                policy,
                request_id,
                left_out,
                "a policy wrote more lines, metrics and state than one request may"
            );
        }
    }

    /// A failure while running.
    pub(super) fn failed(&self, error: &RuntimeError, request_id: &str) {
        let Some(suppressed) = self.failures.take() else { return };
        tracing::warn!(
            policy = &*self.policy, at = %place(&error.file, error.line, error.column), request_id, suppressed,
            error = %cut(&error.message), "a policy failed"
        );
    }

    fn write(&self, level: Level, at: &str, request_id: &str, text: &str) {
        let Some(suppressed) = self.spoken.take() else { return };
        let policy = &*self.policy;
        match level {
            Level::Debug => tracing::debug!(policy, at, request_id, suppressed, "{text}"),
            Level::Info => tracing::info!(policy, at, request_id, suppressed, "{text}"),
            Level::Warn => tracing::warn!(policy, at, request_id, suppressed, "{text}"),
            Level::Error => tracing::error!(policy, at, request_id, suppressed, "{text}"),
        }
    }
}

/// Sends the language's own `print` and `debug` to the journal.
pub(super) fn register(engine: &mut Engine, host: &Arc<Host>) {
    /// The language hands only the text of `print` on; its place is known here, so the text is written here, and
    /// what is handed on is empty.
    fn printing<T: Clone + Send + Sync + 'static>(
        engine: &mut Engine,
        host: &Arc<Host>,
        show: fn(T) -> String,
    ) {
        for (name, level) in [("print", Level::Info), ("debug", Level::Debug)] {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: NativeCallContext<'_>, value: T| {
                host.journal.say(level, &context, &show(value));
                ImmutableString::new()
            });
        }
    }
    printing::<ImmutableString>(engine, host, |text| text.to_string());
    printing::<i64>(engine, host, |number| number.to_string());
    printing::<f64>(engine, host, |number| number.to_string());
    printing::<bool>(engine, host, |truth| truth.to_string());
    printing::<char>(engine, host, |c| c.to_string());
    printing::<()>(engine, host, |()| "()".to_owned());
    printing::<Array>(engine, host, |array| Dynamic::from(array).to_string());
    printing::<Map>(engine, host, |map| Dynamic::from(map).to_string());
    printing::<Dynamic>(engine, host, |value| value.to_string());
    engine.on_print(|_| ());
    engine.on_debug(|_, _, _| ());
}

fn place(file: &Path, line: u32, column: u32) -> String {
    format!("{}:{line}:{column}", file.display())
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LINE_BYTES)]
}

/// So many per second, and how many were left out since the last one.
struct Quota {
    per_second: u64,
    began: Instant,
    second: AtomicU64,
    used: AtomicU64,
    suppressed: AtomicU64,
}

impl Quota {
    fn per_second(per_second: u64) -> Self {
        let zero = AtomicU64::default;
        Self { per_second, began: Instant::now(), second: zero(), used: zero(), suppressed: zero() }
    }

    /// Takes one; `None` when this second's are used up. Races let a few more through, which harms nobody.
    fn take(&self) -> Option<u64> {
        let now = self.began.elapsed().as_secs();
        if self.second.swap(now, Ordering::Relaxed) != now {
            self.used.store(0, Ordering::Relaxed);
        }
        if self.used.fetch_add(1, Ordering::Relaxed) >= self.per_second {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_counts_what_it_leaves_out() {
        let quota = Quota::per_second(2);
        assert_eq!((quota.take(), quota.take(), quota.take(), quota.take()), (Some(0), Some(0), None, None));
        quota.second.store(99, Ordering::Relaxed);
        assert_eq!((quota.take(), quota.take()), (Some(2), Some(0)));
    }
}
