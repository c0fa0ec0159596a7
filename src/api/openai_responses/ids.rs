//! Ids of responses and items that this gateway makes: recognisable, so that they are never taken for a provider's.

use crate::clock::{Clock, Dice, SystemClock};

/// Stands in every id of ours, behind the prefix that OpenAI's own ids of that kind have.
const MARK: &str = "_tollgate";

thread_local! {
    /// Each worker's own, so that no thread waits for another's.
    static DICE: Dice = Dice::fair();
}

/// The ids of one response and its items.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    stem: String,
    items: usize,
}

impl Ids {
    /// Ids that nobody else has.
    pub(super) fn fresh() -> Self {
        let bits = DICE.with(Dice::bits).to_le_bytes();
        let luck =
            u64::from_le_bytes([bits[0], bits[1], bits[2], bits[3], bits[4], bits[5], bits[6], bits[7]]);
        Self { stem: format!("{MARK}{:012x}{luck:016x}", SystemClock.unix_ms()), items: 0 }
    }

    /// The response's.
    pub(super) fn response(&self) -> String {
        format!("resp{}", self.stem)
    }

    /// The next item's.
    pub(super) fn item(&mut self, prefix: &str) -> String {
        self.items += 1;
        format!("{prefix}{}{:02x}", self.stem, self.items)
    }
}

/// Whether an id is one of ours.
pub(super) fn is_ours(id: &str) -> bool {
    id.split_once('_').is_some_and(|(prefix, _)| id[prefix.len()..].starts_with(MARK))
}

/// Whether a text may hold ids or proofs of ours; false is certain.
pub(super) fn may_hold_ours(raw: &str) -> bool {
    memchr::memmem::find(raw.as_bytes(), b"tollgate").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_known_from_theirs() {
        let mut ids = Ids::fresh();
        for id in [ids.response(), ids.item("msg"), ids.item("fc")] {
            assert!(is_ours(&id) && may_hold_ours(&id) && id.len() <= 64, "{id}");
        }
        assert_ne!(ids.item("rs"), ids.item("rs"));
        for id in ["resp_0ee665a65cc07abb", "", "_", "tollgate", "msg_", "msg_x_tollgate"] {
            assert!(!is_ours(id), "{id}");
        }
    }
}
