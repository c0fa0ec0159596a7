//! What another model than the one that answers did for an answer, which is paid at its own price.

use std::num::NonZeroU16;
use std::sync::Mutex;

use super::Usage;

/// Tokens of steps of an answer that another model did: an adviser, or who took over. They are among those of the
/// answer, too. It is small, for every [`Usage`] has room for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Helper {
    /// The place of its model's name among those that were seen, beginning with one.
    name: NonZeroU16,
    input: u32,
    cached_read: u32,
    cache_write: u32,
    cache_write_long: u32,
    output: u32,
}

/// Names of models come from answers. Few ever help; beyond so many, or so long, none is remembered.
const MOST_NAMES: u16 = 256;
const LONGEST_NAME: usize = 128;

/// The names that were seen. They are kept for good, so that a usage stays a bundle of numbers.
static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

impl Helper {
    /// A helper that did nothing yet, a model of the same provider; `None` where its name cannot be remembered.
    pub fn named(model: &str) -> Option<Self> {
        let mut names = NAMES.lock().ok()?;
        let at = match names.iter().position(|name| *name == model) {
            Some(at) => u16::try_from(at).ok()?,
            None => {
                let at = u16::try_from(names.len()).ok().filter(|at| *at < MOST_NAMES)?;
                if model.is_empty() || model.len() > LONGEST_NAME {
                    return None;
                }
                names.push(Box::leak(Box::from(model)));
                at
            }
        };
        let name = NonZeroU16::new(at + 1)?;
        Some(Self { name, input: 0, cached_read: 0, cache_write: 0, cache_write_long: 0, output: 0 })
    }

    /// Its model.
    pub fn model(&self) -> &'static str {
        let names = NAMES.lock().ok();
        names.and_then(|names| names.get(usize::from(self.name.get()) - 1).copied()).unwrap_or_default()
    }

    /// Whether both are of the same model.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.name == other.name
    }

    /// Adds what it did in a further step.
    pub(super) fn add(&mut self, step: &Usage) {
        let counts = [
            (&mut self.input, step.input),
            (&mut self.cached_read, step.cached_read),
            (&mut self.cache_write, step.cache_write),
            (&mut self.cache_write_long, step.cache_write_long),
            (&mut self.output, step.output),
        ];
        for (count, more) in counts {
            *count = count.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        }
    }

    /// What it did, as a usage of its own.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            input: self.input.into(),
            cached_read: self.cached_read.into(),
            cache_write: self.cache_write.into(),
            cache_write_long: self.cache_write_long.into(),
            output: self.output.into(),
            ..Usage::default()
        }
    }
}
