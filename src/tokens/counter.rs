//! Who counts: each text once, beside the workers, and as near as can be where nobody waits for that.

use std::sync::Arc;

use moka::sync::Cache;
use serde::Serialize;

use super::calibration::{Calibrations, Learned, Report};
use super::encoding::Encoding;
use super::family::Family;
use super::prompt::{at_most, prompt};
use crate::chat::Request;
use crate::facts::market::Scale;
use crate::target::TargetName;
use crate::threads::Beside;

/// Counts of texts that are remembered: those of conversations come again with each turn.
const REMEMBERED: u64 = 16_384;

/// Shorter texts are counted again sooner than they are found.
const WORTH_REMEMBERING: usize = 256;

/// Prompts that wait to be counted; beyond them, who asks is told to come later.
const MOST_WAITING: usize = 64;

/// How many tokens something has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Count {
    /// So many.
    pub tokens: u64,
    /// How that is known.
    #[serde(flatten)]
    pub method: Method,
}

/// How a count is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Method {
    /// The encoding that counted.
    pub encoding: &'static str,
    /// The family of models whose template and ratio were taken.
    pub family: &'static str,
    /// Whether that is what the vendor counts.
    pub exact: bool,
}

/// Counts texts, and remembers what it counted and what targets reported.
pub struct Counter {
    counted: Cache<[u8; 16], u32>,
    calibrations: Calibrations,
    beside: Beside,
}

impl Default for Counter {
    fn default() -> Self {
        // One thread, so that counting never takes more than a core.
        let beside = Beside::new("tokens", || 1, MOST_WAITING);
        Self { counted: Cache::new(REMEMBERED), calibrations: Calibrations::default(), beside }
    }
}

impl Counter {
    /// Does what takes long on a thread beside the workers. `None` where too many wait already.
    pub async fn beside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let this = self.clone();
        self.beside.run(move || work(&this)).await
    }

    /// Tokens of a prompt, for the model of these names. Takes milliseconds.
    pub fn prompt(&self, request: &Request, names: &[&str]) -> Count {
        let family = Family::of(names);
        let (tokens, exact) = prompt(request, family, &mut |text| self.encoded(family.encoding, text));
        Count { tokens, method: Method { exact, ..family.method() } }
    }

    /// As many tokens as a prompt can have at most for the model of these names; `None` where nobody knows. Takes
    /// milliseconds.
    pub fn prompt_at_most(&self, request: &Request, names: &[&str]) -> Option<u64> {
        let family = Family::of(names);
        at_most(request, family, &mut |text| self.encoded(family.encoding, text))
    }

    /// Tokens of a text alone, for the model of these names. Takes milliseconds.
    pub fn text(&self, text: &str, names: &[&str]) -> Count {
        let family = Family::of(names);
        let tokens = family.scaled(self.encoded(family.encoding, text));
        Count { tokens, method: family.method() }
    }

    fn encoded(&self, encoding: Encoding, text: &str) -> u64 {
        if text.len() < WORTH_REMEMBERING {
            return encoding.count(text);
        }
        let mut key = [0; 16];
        let mut hasher = blake3::Hasher::new();
        hasher.update(encoding.name().as_bytes()).update(text.as_bytes());
        hasher.finalize_xof().fill(&mut key);
        if let Some(known) = self.counted.get(&key) {
            return known.into();
        }
        let tokens = encoding.count(text);
        self.counted.insert(key, u32::try_from(tokens).unwrap_or(u32::MAX));
        tokens
    }

    /// Takes into account what a target reported.
    pub fn learn(&self, target: &TargetName, report: Report) {
        self.calibrations.learn(target, report);
    }

    /// What was learned of targets.
    pub fn learned(&self) -> Vec<Learned> {
        self.calibrations.learned()
    }
}

impl Scale for Counter {
    fn likely(&self, target: &TargetName, rough: u64) -> u64 {
        self.calibrations.prompt(target, rough)
    }

    fn heard(&self, target: &TargetName, bytes: u64) -> u64 {
        self.calibrations.output(target, bytes)
    }
}

impl Family {
    fn method(&self) -> Method {
        Method { encoding: self.encoding.name(), family: self.name, exact: self.exact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Role};

    #[tokio::test]
    async fn a_text_is_counted_once_and_beside_the_workers() {
        let counter = Arc::new(Counter::default());
        let text = "some words that come again with each turn of a conversation, ".repeat(20);
        let request =
            Request { messages: vec![Message::plain(Role::User, text.clone())], ..Request::default() };
        let here = std::thread::current().id();
        let (count, thread) = counter
            .beside(move |counter| (counter.prompt(&request, &["gpt-4o"]), std::thread::current().id()))
            .await
            .unwrap();
        assert_ne!(here, thread);
        assert_eq!(count.tokens, 7 + Encoding::O200k.count(&text));
        assert!(count.method.exact);
        counter.counted.run_pending_tasks();
        assert_eq!(counter.counted.entry_count(), 1);
        // It is found again, also within another prompt.
        assert_eq!(counter.text(&text, &["gpt-4o"]).tokens, count.tokens - 7);
        counter.counted.run_pending_tasks();
        assert_eq!(counter.counted.entry_count(), 1);
        let broken = counter.beside(|_| -> u32 { std::panic::resume_unwind(Box::new("no")) }).await;
        assert_eq!(broken, None);
        assert_eq!(counter.beside(|_| 7).await, Some(7), "the thread goes on");
    }
}
