//! `chaos:`: experiments that can be told apart, each with an end.

use super::Desk;

impl Desk<'_> {
    /// Checks the faults that are injected on purpose.
    pub(super) fn chaos(&mut self) {
        let all = self.reading.config.chaos.clone();
        for (at, one) in all.iter().enumerate() {
            let place = at.to_string();
            for (field, complaint) in one.complaints() {
                let message = format!("chaos `{}`: {complaint}", one.name);
                self.error(&["chaos", &place, field], message, None);
            }
            if all.iter().take(at).any(|other| other.name == one.name) {
                let message = format!("two experiments are called `{}`", one.name);
                self.error(&["chaos", &place, "name"], message, None);
            }
        }
    }
}
