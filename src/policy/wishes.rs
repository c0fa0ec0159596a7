//! What scripts ask for besides a verdict: tags, constraints, and effects that wait for the end of an evaluation.

use std::sync::Arc;
use std::time::Duration;

use rhai::Dynamic;

use super::journal::Level;
use super::request::Pair;
use crate::plan::{CacheWish, Constraint, Hook, Narrowing, OutputRules, Ranking, Rule, SetBy};

/// Effects of one evaluation; what a script asks for beyond them is counted and left out.
const MAX_EFFECTS: usize = 256;

/// Constraints and limits of one request whose rules are known; those of scripts that ask for more hold all the same.
const MAX_SET_BY: usize = 256;

/// What scripts asked for. Only ever grows, save that what an abandoned evaluation asked for goes away again.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) tags: Vec<Pair>,
    pub(super) require: Vec<Constraint>,
    pub(super) avoid: Vec<Constraint>,
    pub(super) output: OutputRules,
    /// Where constraints and limits of the answer were set.
    pub(super) set_by: Vec<SetBy>,
    /// Whether the answer may be given again.
    pub(super) cache: Option<CacheWish>,
    /// How targets compared where a script ranked them.
    pub(super) rankings: Vec<Ranking>,
    /// The hook that is being asked.
    pub(super) hook: Hook,
    /// In a test nothing shows outside of the request, and nothing that is kept is seen: effects stay here.
    pub(super) is_trial: bool,
    /// A request that others decide: effects stay here.
    pub(super) is_silent: bool,
    effects: Vec<Effect>,
    left_out: u64,
}

/// Something that shows outside of the request.
#[derive(Debug)]
pub(super) enum Effect {
    /// A line of the log, with its place.
    Line { level: Level, at: String, text: String },
    /// A number that is counted up.
    Count { series: Series, by: f64 },
    /// A number among others, for a histogram.
    Observation { series: Series, value: f64 },
    /// A value that is kept.
    Keep { key: Arc<str>, value: Dynamic, life: Option<Duration> },
    /// A number that is kept and changed.
    Raise { key: Arc<str>, by: i64, life: Option<Duration> },
}

/// One series of a metric: its name as the policy gives it, and its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series {
    pub(super) name: Arc<str>,
    pub(super) labels: Vec<Pair>,
}

/// How far the wishes had come when an evaluation began.
pub(super) struct Mark {
    tags: usize,
    require: usize,
    avoid: usize,
    set_by: usize,
    rankings: usize,
    output: OutputRules,
    cache: Option<CacheWish>,
}

impl Wishes {
    /// An evaluation begins.
    pub(super) fn begin(&mut self, hook: Hook) -> Mark {
        self.hook = hook;
        Mark {
            tags: self.tags.len(),
            require: self.require.len(),
            avoid: self.avoid.len(),
            set_by: self.set_by.len(),
            rankings: self.rankings.len(),
            output: self.output.clone(),
            cache: self.cache,
        }
    }

    /// Whether nothing shows outside of the request.
    pub(super) fn is_mute(&self) -> bool {
        self.is_trial || self.is_silent
    }

    /// Takes back what was asked for since the mark was set.
    pub(super) fn rewind(&mut self, mark: Mark) {
        self.tags.truncate(mark.tags);
        self.require.truncate(mark.require);
        self.avoid.truncate(mark.avoid);
        self.set_by.truncate(mark.set_by);
        self.rankings.truncate(mark.rankings);
        self.output = mark.output;
        self.cache = mark.cache;
        self.effects.clear();
        self.left_out = 0;
    }

    /// Notes by which rule something was asked for.
    pub(super) fn note(&mut self, by: &Rule, what: Narrowing) {
        let is_known = |set: &SetBy| set.what == what && set.by == *by;
        if self.set_by.len() < MAX_SET_BY && !self.set_by.iter().any(is_known) {
            self.set_by.push(SetBy { what, by: by.clone() });
        }
    }

    /// Asks for an effect.
    pub(super) fn effect(&mut self, effect: Effect) {
        if self.effects.len() < MAX_EFFECTS {
            self.effects.push(effect);
        } else {
            self.left_out += 1;
        }
    }

    /// The effects that were asked for so far.
    pub(super) fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// Takes the effects of a finished evaluation, and how many were left out.
    pub(super) fn take_effects(&mut self) -> (Vec<Effect>, u64) {
        (std::mem::take(&mut self.effects), std::mem::take(&mut self.left_out))
    }
}
