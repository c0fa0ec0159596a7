//! The tab of a request: how large it can be, who pays, and where its attempts are counted.

use std::sync::Arc;

use super::door::Asked;
use super::settle::Settlement;
use crate::cache::Entry;
use crate::caller::Caller;
use crate::chat::Manner;
use crate::facts::Endpoint;
use crate::ledger::{Desk, Opening, Payer, Size, Tab, When, Work};
use crate::providers::{Target, search};

/// What a dialect's template adds to a prompt, and to each of its messages, in tokens at most.
const TEMPLATE: (u64, u64) = (64, 16);

/// Tokens that pictures, sound and files of a prompt can be beyond its bytes: those that stand elsewhere.
const MEDIA: u64 = 20_000;

/// Bytes of the form in which a second of speech is sent at least: no codec that is sent to be heard is narrower than
/// Opus at 6 kbit/s, <https://www.rfc-editor.org/rfc/rfc6716#section-2.1.1>.
const SECOND: u64 = 750;

/// Bytes of a recording whose length nobody announced: <https://platform.openai.com/docs/guides/speech-to-text>
const RECORDING: u64 = 25 << 20;

/// Documents that are ordered for the price of one search, and tokens of a document beyond which it counts as several:
/// <https://docs.cohere.com/docs/how-does-cohere-pricing-work>
const SEARCHED: (u64, u64) = (100, 500);

/// How often a model searches the web for one request, where the request sets no limit: more than most do, not more than
/// any.
const WEB_SEARCHES: u64 = 10;

/// Google's names of the tool that looks at its maps.
const MAPS: [&str; 2] = ["googleMaps", "google_maps"];

/// Fields that are part of the prompt besides the messages, in any dialect.
const BESIDE: [&str; 6] =
    ["tools", "functions", "response_format", "system", "instructions", "output_config"];

impl Settlement {
    /// Opens the tab of a request that is about to go out; `most` is what policies allow an answer, `who` may be asked.
    /// Operations that no provider bills have none.
    pub(super) fn reserve<'t>(
        &mut self,
        desk: &Arc<Desk>,
        asked: &dyn Asked,
        caller: &Caller,
        most: Option<u64>,
        mut who: impl Iterator<Item = &'t Target>,
    ) -> Option<Arc<Tab>> {
        if is_free(self.endpoint) {
            return None;
        }
        let tab = desk.tab(|| {
            let size = size(self.endpoint, asked, most);
            let is_settled = size.tier.is_some() && !who.any(|target| self.figures.may_choose(target));
            self.opening(asked, caller, Size { tier: size.tier.filter(|_| is_settled), ..size })
        });
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
                key_name: caller.grant.as_ref().map(|grant| grant.name.clone()),
                user: caller.user.clone(),
                team: caller.team.clone(),
                app: caller.grant.as_ref().and_then(|grant| grant.app.clone()),
                tags: self.tags.clone(),
                model: asked.model().clone(),
                alias: self.snapshot.catalogue_of(self.version).alias_of(asked.model()).cloned(),
                named: caller.grant.as_ref().map(|grant| grant.budgets.clone()).unwrap_or_default(),
            },
            size,
            when: When { tier: self.tier, unix_ms: self.unix_ms },
            any_tier: self.any_tier.clone(),
            book: self.book.clone(),
            snapshot: self.snapshot.hash.clone(),
            scale: self.scale(),
        }
    }
}

/// Whether no provider bills such operations.
pub(super) fn is_free(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::CountTokens | Endpoint::Files)
}

/// Whether the prompt itself is billed: that of a batch is when it is worked on, which nobody here sees.
pub(super) fn is_billed_now(endpoint: Endpoint) -> bool {
    !is_free(endpoint) && endpoint != Endpoint::Batches
}

/// How large a request can be.
pub(super) fn size(endpoint: Endpoint, asked: &dyn Asked, most: Option<u64>) -> Size {
    if asked.is_errand() {
        return Size { choices: 1, work: Work::Made, ..Size::default() };
    }
    let prompt = asked.tokens();
    // No tokenizer makes more tokens of a text than it has bytes. Of a body with pictures, only the texts count.
    let (body, said) = (asked.bytes() as u64, prompt.saturating_mul(4));
    let media = asked.has_images() || asked.has_audio() || asked.has_files();
    let beside =
        || BESIDE.iter().filter_map(|name| asked.field(name)).map(|text| text.len() as u64).sum::<u64>();
    let text = if media { said.saturating_add(beside()).min(body) } else { body.max(said) };
    let template = TEMPLATE.0 + TEMPLATE.1.saturating_mul(asked.messages());
    let work = match endpoint {
        // Lists and lookups have no body, nor one that is still to come.
        _ if asked.is_pinned() && asked.bytes() == 0 && asked.upload().is_none() => Work::Unknown,
        _ if asked.is_pinned() => Work::Own,
        Endpoint::Chat | Endpoint::Completions if asked.is_raw() => Work::Own,
        Endpoint::Chat | Endpoint::Completions => Work::Text,
        Endpoint::Embeddings | Endpoint::Moderations | Endpoint::Rerank => Work::Reading,
        _ => Work::Own,
    };
    // Only the model's price tells what a raw request is for.
    let anything = endpoint == Endpoint::Passthrough && work == Work::Own;
    let own = asked.max_tokens();
    let prompt_most = text.saturating_add(template).saturating_add(if media { MEDIA } else { 0 });
    Size {
        prompt,
        prompt_most: if work == Work::Unknown { 0 } else { prompt_most },
        asked: own.into_iter().chain(most).min(),
        choices: if work == Work::Unknown { 1 } else { answers(endpoint, asked) },
        work,
        images: if endpoint == Endpoint::Images || anything { choices(asked) } else { 0 },
        characters: if endpoint == Endpoint::Speech || anything { text } else { 0 },
        audio_ms: if endpoint == Endpoint::Transcription || anything { sound(asked) } else { 0 },
        media,
        searches: if endpoint == Endpoint::Rerank { searches(asked.messages(), text) } else { 1 },
        web_searches: web_searches(asked),
        maps: MAPS.iter().any(|name| asked.field("tools").is_some_and(|tools| tools.contains(name))),
        manner: Manner {
            fast: asked.field("speed").is_some_and(|speed| speed == "\"fast\""),
            us_only: asked.field("inference_geo").is_some_and(|place| place == "\"us\""),
        },
        // Only the model's price tells whether that is charged for.
        citations: 0,
        unseen: asked.is_kept_elsewhere(),
        tier: asked.service_at_most(),
    }
}

/// Milliseconds that a recording can be long.
fn sound(asked: &dyn Asked) -> u64 {
    let body = asked.bytes() as u64;
    let bytes = match asked.upload() {
        Some(rest) if rest.left().is_none() => body.max(RECORDING),
        _ => body,
    };
    (bytes.saturating_mul(1_000) / SECOND).saturating_add(1)
}

/// How many searches an order of so many documents can be, with so many tokens in all at most.
fn searches(documents: u64, tokens: u64) -> u64 {
    documents.saturating_add(tokens / SEARCHED.1).div_ceil(SEARCHED.0)
}

/// How often the model can search the web for this request.
fn web_searches(asked: &dyn Asked) -> u64 {
    let without_tools = asked.field(search::OPTIONS).map_or(0, |_| WEB_SEARCHES);
    asked
        .field("tools")
        .map_or(without_tools, |tools| search::at_most(tools, WEB_SEARCHES).max(without_tools))
}

/// How many answers are generated in all.
pub(super) fn answers(endpoint: Endpoint, asked: &dyn Asked) -> u64 {
    match endpoint {
        Endpoint::Chat | Endpoint::Completions | Endpoint::Images | Endpoint::Passthrough => {
            choices(asked).saturating_mul(asked.prompts().max(1))
        }
        _ => 1,
    }
}

/// How many answers, or pictures, are generated for one prompt.
fn choices(asked: &dyn Asked) -> u64 {
    let all = [asked.parameter("n"), asked.field("best_of")];
    all.into_iter().flatten().filter_map(count).max().unwrap_or(1).max(1)
}

/// A whole number as JSON text. Some providers take it with a fraction, or as a text.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates")]
fn count(text: &str) -> Option<u64> {
    let text = text.trim().trim_matches('"');
    text.parse().ok().or_else(|| text.parse::<f64>().ok().map(|number| number.ceil() as u64))
}
