//! Where a panic's words go: without this, all that a trap says is `unreachable`.

use std::sync::Once;

/// Sends the message of a panic to the gateway's log, before the trap.
pub fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|info| crate::log::error(info))));
}
