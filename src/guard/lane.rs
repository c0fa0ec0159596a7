//! One run of text of a streamed answer: what has gone out of it, and what is held until the guards have seen enough.

use super::cut::{self, Cut};
use crate::chat::Event;

/// Bytes of text that went out and that guards see to the left of what they look at.
const MOST_BEFORE: usize = 256;

/// Held text from which on it is not looked at again until it has grown by an eighth: a guard that holds everything
/// back would otherwise read it all again for each word.
const PATIENT_FROM: usize = 4 << 10;

/// The runs of one alternative. A client tells their pieces apart, so a guard sees each for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Channel {
    /// What the model thinks.
    Thinking,
    /// What it says.
    Text,
    /// How it declines.
    Refusal,
    /// What it calls a tool with.
    Call(u32),
}

/// One run of text.
#[derive(Debug, Default)]
pub(super) struct Lane {
    before: String,
    held: String,
    /// How much was held when nobody let any of it go.
    in_vain: usize,
    /// Whether text has come that nobody has looked at.
    fresh: bool,
    /// JSON is looked at when it is complete: a client can use it only then, and letters may be escaped in it.
    json: bool,
    /// Whether something was cut out of it.
    pub(super) is_cut: bool,
    /// Whether all of it is cut out.
    gone: bool,
}

impl Channel {
    /// Its name for guards.
    pub(super) fn name(self) -> String {
        match self {
            Self::Thinking => "reasoning".to_owned(),
            Self::Text => "content".to_owned(),
            Self::Refusal => "refusal".to_owned(),
            Self::Call(call) => format!("tool_call[{call}].arguments"),
        }
    }

    /// More of this run, as an event.
    pub(super) fn event(self, choice: u32, text: String) -> Event {
        match self {
            Self::Thinking => Event::Thinking { choice, text, signature: None, redacted: None },
            Self::Text => Event::Text { choice, text },
            Self::Refusal => Event::Refusal { choice, text },
            Self::Call(call) => Event::ToolCallDelta { choice, call, arguments: text },
        }
    }
}

impl Lane {
    /// A run that is JSON, or not.
    pub(super) fn of(json: bool) -> Self {
        Self { json, ..Self::default() }
    }

    /// Whether it is JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// More text has come.
    pub(super) fn hold(&mut self, text: &str) {
        self.held.push_str(text);
        self.fresh |= !text.is_empty();
    }

    /// What is held.
    pub(super) fn held(&self) -> &str {
        &self.held
    }

    /// What went out last.
    pub(super) fn before(&self) -> &str {
        &self.before
    }

    /// Whether it is time to look at what is held.
    pub(super) fn is_due(&self) -> bool {
        let grown = self.held.len() - self.in_vain.min(self.held.len());
        self.fresh && !self.json && (self.held.len() < PATIENT_FROM || grown >= self.held.len() / 8)
    }

    /// Lets the text go up to `until`, without what is cut out. A cut that crosses the place moves it to its left.
    pub(super) fn release(&mut self, until: usize, cuts: &[Cut]) -> String {
        let until = cuts.iter().filter(|cut| cut.end > until).map(|cut| cut.start).fold(until, usize::min);
        let own: Vec<Cut> = cuts.iter().filter(|cut| cut.end <= until).cloned().collect();
        self.fresh = false;
        self.in_vain = if until == 0 { self.held.len() } else { 0 };
        let rest = self.held.split_off(until);
        let passed = std::mem::replace(&mut self.held, rest);
        let out = cut::apply(&passed, &own).into_owned();
        self.is_cut |= !own.is_empty();
        self.sent(out)
    }

    /// Lets complete text go in another form.
    pub(super) fn replace(&mut self, out: String, is_cut: bool) -> String {
        self.held.clear();
        self.is_cut |= is_cut;
        self.sent(out)
    }

    /// All of it is cut out, from here on to its end.
    pub(super) fn vanish(&mut self) -> String {
        self.held.clear();
        let first = !std::mem::replace(&mut self.gone, true);
        self.is_cut = true;
        self.sent(if first { cut::ALL_GONE.to_owned() } else { String::new() })
    }

    fn sent(&mut self, out: String) -> String {
        self.before.push_str(&out);
        let over = self.before.len().saturating_sub(MOST_BEFORE);
        self.before.drain(..self.before.ceil_char_boundary(over));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(start: usize, end: usize) -> Cut {
        Cut { start, end, instead: "_".into() }
    }

    #[test]
    fn what_may_go_goes_and_the_rest_waits() {
        let mut lane = Lane::default();
        lane.hold("write to ada@ex");
        assert_eq!(lane.release(9, &[]), "write to ");
        lane.hold("ample.org now");
        assert_eq!((lane.before(), lane.held()), ("write to ", "ada@example.org now"));
        assert_eq!(lane.release(19, &[cut(0, 15)]), "_ now");
        assert!(lane.is_cut && lane.held().is_empty());
    }

    #[test]
    fn a_place_within_a_finding_moves_to_its_left() {
        let mut lane = Lane::default();
        lane.hold("abcdef");
        assert_eq!(lane.release(4, &[cut(3, 6)]), "abc");
        assert_eq!(lane.held(), "def");
    }

    #[test]
    fn the_left_context_is_short_and_never_cuts_a_letter() {
        let mut lane = Lane::default();
        lane.hold(&"ä".repeat(200));
        lane.release(400, &[]);
        assert_eq!(lane.before().len(), 256);
        lane.hold("x");
        lane.release(1, &[]);
        assert_eq!(lane.before().len(), 255);
    }

    #[test]
    fn held_text_is_not_looked_at_again_until_more_has_come() {
        let mut lane = Lane::default();
        lane.hold("write to ada");
        assert!(lane.is_due());
        assert_eq!(lane.release(9, &[]), "write to ");
        assert!(!lane.is_due());
        lane.hold("@");
        assert!(lane.is_due());
    }

    #[test]
    fn much_held_text_is_looked_at_seldom() {
        let mut lane = Lane::default();
        lane.hold(&"x".repeat(5_000));
        assert!(lane.is_due());
        assert_eq!(lane.release(0, &[]), "");
        lane.hold("y");
        assert!(!lane.is_due());
        lane.hold(&"y".repeat(1_000));
        assert!(lane.is_due());
    }
}
