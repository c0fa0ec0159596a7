//! The tab of a request: how large it can be, who pays, and where its attempts are counted.

use std::sync::Arc;

use super::door::Asked;
use super::settle::Settlement;
use crate::cache::Entry;
use crate::caller::Caller;
use crate::facts::Endpoint;
use crate::ledger::{Desk, Opening, Payer, Size, Tab, When, Work};

/// What a dialect's template adds to a prompt, and to each of its messages, in tokens at most.
const TEMPLATE: (u64, u64) = (64, 16);

/// Tokens that pictures, sound and files of a prompt can be beyond its bytes: those that stand elsewhere.
const MEDIA: u64 = 20_000;

/// Fields that are part of the prompt besides the messages, in any dialect.
const BESIDE: [&str; 6] =
    ["tools", "functions", "response_format", "system", "instructions", "output_config"];

impl Settlement {
    /// Opens the tab of a request that is about to go out; `most` is what policies allow an answer. Operations that no
    /// provider bills have none.
    pub(super) fn reserve(
        &mut self,
        desk: &Arc<Desk>,
        asked: &dyn Asked,
        caller: &Caller,
        most: Option<u64>,
    ) -> Option<Arc<Tab>> {
        if !is_billed(self.endpoint) {
            return None;
        }
        let tab = desk.tab(|| self.opening(asked, caller, size(self.endpoint, asked, most)));
        self.tab = tab.clone();
        tab
    }

    /// An answer that was known is given again: that stands in the ledger, too, and costs nothing.
    pub(super) fn given_again(&self, desk: &Desk, asked: &dyn Asked, caller: &Caller, entry: &Entry) {
        desk.given_again(|| self.opening(asked, caller, Size::default()), &entry.target, entry.cost);
    }

    fn opening(&self, asked: &dyn Asked, caller: &Caller, size: Size) -> Opening {
        Opening {
            request: self.request_id.clone(),
            payer: Payer {
                endpoint: self.endpoint,
                key: caller.key_id.clone(),
                user: caller.user.clone(),
                team: caller.team.clone(),
                tags: self.tags.clone(),
                model: asked.model().clone(),
                named: caller.grant.as_ref().map(|grant| grant.budgets.clone()).unwrap_or_default(),
            },
            size,
            when: When { tier: self.tier, unix_ms: self.unix_ms },
            any_tier: self.tier_asked,
            book: self.book.clone(),
            snapshot: self.snapshot.hash.clone(),
            scale: self.scale(),
        }
    }
}

/// Whether any provider bills this operation.
pub(super) fn is_billed(endpoint: Endpoint) -> bool {
    !matches!(endpoint, Endpoint::CountTokens | Endpoint::Files)
}

/// How large a request can be.
pub(super) fn size(endpoint: Endpoint, asked: &dyn Asked, most: Option<u64>) -> Size {
    let number = |name: &str| asked.field(name).and_then(|text| text.trim().parse::<u64>().ok());
    let prompt = asked.tokens();
    // No tokenizer makes more tokens of a text than it has bytes. Of a body with pictures, only the texts count.
    let (body, said) = (asked.bytes() as u64, prompt.saturating_mul(4));
    let media = asked.has_images() || asked.has_audio() || asked.has_files();
    let beside =
        || BESIDE.iter().filter_map(|name| asked.field(name)).map(|text| text.len() as u64).sum::<u64>();
    let text = if media { said.saturating_add(beside()).min(body) } else { body.max(said) };
    let template = TEMPLATE.0 + TEMPLATE.1.saturating_mul(asked.messages());
    let work = match endpoint {
        // Lists and lookups have no body.
        _ if asked.is_pinned() && asked.bytes() == 0 => Work::Unknown,
        _ if asked.is_pinned() => Work::Own,
        Endpoint::Chat | Endpoint::Completions => Work::Text,
        Endpoint::Embeddings | Endpoint::Moderations | Endpoint::Rerank => Work::Reading,
        _ => Work::Own,
    };
    let own = asked.max_tokens();
    Size {
        prompt,
        prompt_most: text.saturating_add(template).saturating_add(if media { MEDIA } else { 0 }),
        asked: own.into_iter().chain(most).min(),
        choices: if work == Work::Text { choices(&number) } else { 1 },
        work,
        images: if endpoint == Endpoint::Images { number("n").unwrap_or(1) } else { 0 },
        characters: if endpoint == Endpoint::Speech { text } else { 0 },
        media,
    }
}

/// How many answers are generated for one prompt.
fn choices(number: &impl Fn(&str) -> Option<u64>) -> u64 {
    [number("n"), number("best_of")].into_iter().flatten().max().unwrap_or(1).max(1)
}
