//! A script engine with its limits: what a policy may cost, and what it may not do at all.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rhai::{Array, Dynamic, Engine, ImmutableString};

use super::journal::Journal;
use super::settings::PolicySettings;
use super::{tables, vocabulary};

/// Words of the language that policies cannot use: `eval` defeats the checks at load, `sleep` blocks a worker, and
/// with a clock a recorded decision could not be replayed.
pub(super) const FORBIDDEN: &[&str] = &["eval", "sleep", "timestamp"];

/// Functions may call each other this deep.
const CALL_LEVELS: usize = 32;
/// Nesting of expressions outside of and inside functions.
const EXPRESSION_DEPTH: (usize, usize) = (64, 32);
/// Above the largest request body, because the limit also counts what getters return.
const STRING_BYTES: usize = 64 << 20;
/// Elements of an array, keys of a map.
const ELEMENTS: usize = 10_000;
const VARIABLES: usize = 128;
const FUNCTIONS: usize = 200;
const MODULES: usize = 32;
/// The deadline is looked at each so many operations, a few microseconds of plain script.
const CHECK_EVERY: u64 = 128;

thread_local! {
    /// When the evaluation on this thread began. Evaluations run inline, so there is one per thread at most.
    static STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// What the functions of one policy file share.
pub(super) struct Host {
    pub(super) journal: Journal,
    pub(super) plugins: Arc<dyn super::plugins::Plugins>,
    pub(super) names: Arc<super::Names>,
    pub(super) patterns: Arc<super::patterns::Patterns>,
    /// In tests: where statements say that they were reached.
    pub(super) lines: Option<Arc<super::trial::Lines>>,
    pub(super) tiers: Arc<super::ranking::Tiers>,
}

/// An engine for one file, with the vocabulary registered.
pub(super) fn build(settings: &PolicySettings, host: &Arc<Host>) -> Engine {
    let mut engine = Engine::new();
    engine
        .set_max_operations(settings.max_operations)
        .set_max_call_levels(CALL_LEVELS)
        .set_max_expr_depths(EXPRESSION_DEPTH.0, EXPRESSION_DEPTH.1)
        .set_max_string_size(STRING_BYTES)
        .set_max_array_size(ELEMENTS)
        .set_max_map_size(ELEMENTS)
        .set_max_variables(VARIABLES)
        .set_max_functions(FUNCTIONS)
        .set_max_modules(MODULES)
        // The interner is a lock that all threads would share.
        .set_max_strings_interned(0);
    for word in FORBIDDEN {
        engine.disable_symbol(*word);
    }
    let deadline = settings.deadline.0;
    engine.on_progress(move |operations| {
        // A short policy is never late: then it was the machine that paused this thread.
        let looks = operations >= PATIENCE && operations % CHECK_EVERY == 0;
        (looks && overdue(deadline)).then_some(Dynamic::UNIT)
    });
    // The language's own `in` calls its `==` for each element, which takes ten times as long.
    engine.register_fn("contains", |list: &mut Array, text: ImmutableString| {
        list.iter().any(|item| item.as_immutable_string_ref().is_ok_and(|item| *item == text))
    });
    if let Some(lines) = &host.lines {
        super::trial::watch(&mut engine, lines);
    }
    tables::register(&mut engine);
    super::seen::register(&mut engine);
    vocabulary::register(&mut engine, host);
    super::journal::register(&mut engine, host);
    engine
}

/// Operations (about half a millisecond of them) before the wall clock may stop an evaluation.
const PATIENCE: u64 = 4 * CHECK_EVERY;

/// Starts the clock of an evaluation on this thread.
pub(super) fn start_clock() {
    STARTED.set(Some(Instant::now()));
}

/// Time that a plugin took is not the script's.
pub(super) fn excuse(time: Duration) {
    STARTED.set(STARTED.get().and_then(|started| started.checked_add(time)));
}

fn overdue(deadline: Duration) -> bool {
    STARTED.get().is_some_and(|started| started.elapsed() > deadline)
}
