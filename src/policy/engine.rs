//! A script engine with its limits: what a policy may cost, and what it may not do at all.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, Position};

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
/// Texts, also all those of a list together: more than a prompt of any model, and little enough to be copied within
/// the deadline.
pub(super) const STRING_BYTES: usize = 8 << 20;
/// Elements of an array, keys of a map.
pub const ELEMENTS: usize = 10_000;
const VARIABLES: usize = 128;
const FUNCTIONS: usize = 200;
const MODULES: usize = 32;
/// The clock is looked at each so many operations: about a microsecond of plain script.
const LOOK_EVERY: u64 = 32;
/// When so many operations took longer than this, they work on large values, and the clock is looked at each time.
const SLOW: Duration = Duration::from_micros(250);
/// Texts of so many bytes are read through beside the workers only: a regular expression may take milliseconds for one.
const LONG_TEXT: u64 = 256 << 10;
/// Between two looks no more than this counts: beyond it, it was the machine that paused this thread.
const LONGEST_GAP: Duration = Duration::from_millis(5);

thread_local! {
    // Evaluations run inline, so there is one per thread at most.
    /// When the clock was looked at last, and what the evaluation had taken by then.
    static CLOCK: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
    /// Whether to look at each operation.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// How long an evaluation may take on this thread before it has to go on elsewhere, and whether it has.
    static PATIENCE: Cell<(Option<Duration>, bool)> = const { Cell::new((None, false)) };
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
        let looks = operations.is_multiple_of(LOOK_EVERY) || WATCHED.get();
        if looks { look(deadline) } else { None }
    });
    // The language's own `in` calls its `==` for each element, which takes ten times as long.
    engine.register_fn("contains", |list: &mut Array, text: ImmutableString| {
        list.iter().any(|item| item.as_immutable_string_ref().is_ok_and(|item| *item == text))
    });
    // Who has no team is in no list of teams, which is asked as often.
    engine.register_fn("contains", |list: &mut Array, (): ()| list.iter().any(Dynamic::is_unit));
    super::texts::register(&mut engine);
    super::lists::register(&mut engine);
    super::call_word::register(&mut engine);
    if let Some(lines) = &host.lines {
        super::trial::watch(&mut engine, lines);
    }
    tables::register(&mut engine);
    super::seen::register(&mut engine);
    vocabulary::register(&mut engine, host);
    super::journal::register(&mut engine, host);
    engine
}

/// Starts the clock of an evaluation on this thread.
pub(super) fn start_clock() {
    CLOCK.set(Some((Instant::now(), Duration::ZERO)));
    WATCHED.set(false);
}

/// Evaluations on this thread end after so long, until this is said again. Whether the last one ended by that.
pub(super) fn be_patient(patience: Option<Duration>) -> bool {
    PATIENCE.replace((patience, false)).1
}

/// Time that a plugin took is not the script's.
pub(super) fn excuse(time: Duration) {
    let later = |(last, spent): (Instant, Duration)| Some((last.checked_add(time)?, spent));
    CLOCK.set(CLOCK.get().and_then(later));
}

/// Reads a text of about so many bytes outside of the script, where nothing can end it. So a long one is not read at all
/// on a thread where others wait, and elsewhere all of its time is the evaluation's, which ends at its next operation
/// where that was too much.
///
/// # Errors
/// The evaluation has to go on elsewhere; scripts cannot catch it.
pub(super) fn reading<T>(bytes: u64, read: impl FnOnce() -> T) -> Result<T, Box<EvalAltResult>> {
    if bytes < LONG_TEXT {
        return Ok(read());
    }
    if let (Some(patience), _) = PATIENCE.get() {
        PATIENCE.set((Some(patience), true));
        return Err(ended());
    }
    let began = Instant::now();
    let done = read();
    let took = began.elapsed();
    CLOCK.set(CLOCK.get().map(|(last, spent)| (last.checked_add(took).unwrap_or(last), spent + took)));
    WATCHED.set(true);
    Ok(done)
}

/// The end of an evaluation that has to begin anew. Scripts cannot catch it.
pub(super) fn ended() -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE).into()
}

/// Ends the evaluation where it is overdue. Apart, so that operations between two looks cost a comparison.
#[cold]
#[inline(never)]
fn look(deadline: Duration) -> Option<Dynamic> {
    overdue(deadline).then_some(Dynamic::UNIT)
}

fn overdue(deadline: Duration) -> bool {
    let Some((last, spent)) = CLOCK.get() else { return false };
    let now = Instant::now();
    let gap = now.saturating_duration_since(last);
    let spent = spent + gap.min(LONGEST_GAP);
    CLOCK.set(Some((now, spent)));
    WATCHED.set(gap > SLOW);
    if spent > deadline {
        return true;
    }
    let (patience, _) = PATIENCE.get();
    let elsewhere = patience.is_some_and(|patience| spent > patience);
    if elsewhere {
        PATIENCE.set((patience, true));
    }
    elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_not_read_where_others_wait() {
        be_patient(Some(Duration::from_secs(60)));
        assert_eq!(reading(LONG_TEXT - 1, || 7).ok(), Some(7));
        assert!(!be_patient(Some(Duration::from_secs(60))));
        assert!(reading(LONG_TEXT, || 7).is_err());
        assert!(be_patient(None), "it goes on elsewhere");
        assert_eq!(reading(LONG_TEXT, || 7).ok(), Some(7));
    }

    #[test]
    fn all_of_the_time_that_a_long_text_takes_is_the_evaluations() {
        be_patient(None);
        start_clock();
        let began = Instant::now();
        let read = reading(LONG_TEXT, || {
            while began.elapsed() < LONGEST_GAP * 3 {
                std::hint::spin_loop();
            }
        });
        assert!(read.is_ok() && WATCHED.get());
        assert!(overdue(LONGEST_GAP * 2), "more than the machine's own pauses may count");
    }
}
