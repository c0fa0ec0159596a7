//! What one plugin may ask of the host, kept over all of its instances and reloads of its file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::plugin::allow_list::AllowList;
use crate::plugin::series::Series;
use crate::plugin::service::Services;
use crate::plugin::shelf::Shelf;

/// Log lines of one plugin in a second; further ones are counted and left out.
const LINES: u32 = 20;

/// A plugin, as host functions know it.
pub(super) struct Grantee {
    pub(super) name: Arc<str>,
    pub(super) services: Services,
    pub(super) shelf: Arc<Shelf>,
    pub(super) series: Arc<Series>,
    pub(super) hosts: AllowList,
    pub(super) voice: Voice,
    /// Whether it is only tried: what it counts and keeps then is nobody's business.
    pub(super) trial: AtomicBool,
}

impl Grantee {
    /// Whether it is only tried.
    pub(super) fn is_tried(&self) -> bool {
        self.trial.load(Ordering::Relaxed)
    }

    /// The trial is over.
    pub(super) fn serve(&self) {
        self.trial.store(false, Ordering::Relaxed);
    }
}

/// The right to speak in the log, so many lines in a second.
#[derive(Default)]
pub(super) struct Voice {
    second: AtomicU64,
    said: AtomicU32,
}

impl Voice {
    /// Whether one more line may be said in this second; the other number is how many were left out in an earlier one.
    pub(super) fn raise(&self, unix_ms: u64) -> (bool, u32) {
        let second = unix_ms / 1000;
        let mut left_out = 0;
        if self.second.swap(second, Ordering::Relaxed) != second {
            left_out = self.said.swap(0, Ordering::Relaxed).saturating_sub(LINES);
        }
        (self.said.fetch_add(1, Ordering::Relaxed) < LINES, left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loud_plugin_is_heard_twenty_times_a_second() {
        let voice = Voice::default();
        let heard = (0..100).filter(|_| voice.raise(5_000).0).count();
        assert_eq!(heard, 20);
        assert_eq!(voice.raise(6_000), (true, 80));
        assert_eq!(voice.raise(6_999), (true, 0));
    }
}
