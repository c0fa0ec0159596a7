//! What of a trouble is said in the log: each kind of it once, however often it comes and goes.

use std::time::Duration;

use tokio::time::Instant;

/// Well for so long, and the next trouble is another one.
const WELL: Duration = Duration::from_secs(10);

/// Kinds that are told apart; a server could invent more.
const MOST_KINDS: usize = 16;

/// What was said.
pub(super) struct Herald {
    kinds: Vec<String>,
    /// Whether it is still to be said that the trouble is over.
    open: bool,
    well: Option<Instant>,
}

impl Herald {
    /// Nothing was said; the first time that all is well is told.
    pub(super) fn new() -> Self {
        Self { kinds: Vec::new(), open: true, well: None }
    }

    /// There is trouble. Says whether it is worth a line.
    pub(super) fn begins(&mut self, what: &str) -> bool {
        if self.well.take().is_some_and(|since| since.elapsed() >= WELL) {
            self.kinds.clear();
        }
        let kind = kind(what);
        if self.kinds.len() >= MOST_KINDS || self.kinds.iter().any(|known| known == kind) {
            return false;
        }
        self.kinds.push(kind.to_owned());
        self.open = true;
        true
    }

    /// All is well. Says whether it is worth a line.
    pub(super) fn ends(&mut self) -> bool {
        self.well = Some(Instant::now());
        std::mem::take(&mut self.open)
    }
}

/// The code that Redis gave to it; what has none is of one kind.
fn kind(what: &str) -> &str {
    let code = what.split(' ').next().unwrap_or_default();
    if code.len() > 1 && code.chars().all(|c| c.is_ascii_uppercase()) { code } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_that_comes_and_goes_with_each_request_is_said_once() {
        let mut herald = Herald::new();
        assert!(herald.ends(), "that it is there at the start");
        assert!(herald.begins("NOPERM no `set`"));
        assert!(herald.ends());
        for _ in 0..1_000 {
            assert!(!herald.begins("NOPERM no `get`"));
            assert!(!herald.ends());
        }
        assert!(herald.begins("Connection refused (os error 111)"), "another kind");
        assert!(!herald.begins("no connection in time"), "of the same kind");
        assert!(herald.ends());
        tokio::time::advance(WELL).await;
        assert!(herald.begins("NOPERM no `set`"), "it was well for long");
    }
}
