//! Answers that are whole and say nothing: no word, no call, and by their provider's own count no token.
//!
//! Gemini is known to give such answers now and then, and so are routers whose provider behind them gave up. Another
//! target, or another try of the client's, gets an answer. A model that chooses to say nothing more, as Claude may after
//! a tool's result, has a token or more counted for it.

use crate::chat::Usage;
use crate::fault::{Fault, FaultKind};
use crate::providers::{Dialect, Target};

/// So many bytes at most has an answer in which there can be nothing, where nobody counts tokens: no picture and no sound.
const BARE: usize = 2 << 10;

/// Whether an answer of so many bytes that ended so says nothing, if there are no words in it. What is ended by a policy,
/// or looked at by a guard, may be left with nothing to say.
pub(super) fn is_hollow(
    target: &Target,
    usage: Option<Usage>,
    finish: Option<&'static str>,
    length: usize,
) -> bool {
    let uncounted = |usage: Usage| usage.output == 0 && !usage.estimated && usage.billed.is_none();
    finish == Some("stop")
        && usage.map_or(length <= BARE, uncounted)
        && !target.ends_early()
        && !target.is_inspected()
}

/// Whether what a provider sent can be the end of an answer that a model chose. Gemini says of many a failure why it ended, and
/// its clients know what to do then.
pub(super) fn is_chosen(target: &Target, sent: &[u8]) -> bool {
    target.wire().dialect() != Dialect::Gemini || memchr::memmem::find(sent, b"\"STOP\"").is_some()
}

/// What is wrong with it.
pub(super) fn empty() -> Fault {
    Fault::new(FaultKind::Malformed, "the provider's answer is empty")
}
