//! `POST /v1/estimate`: what a prompt, or so many of usual size, would cost at each of several models, and the cheapest that
//! is fast and good enough by what was measured of late.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::openai_chat;
use super::reply::{self, ReplyBody};
use crate::caller::Caller;
use crate::chat::{Message, Request, Role, Usage};
use crate::facts::market::{Live, Market, Quantiles};
use crate::fault::{Fault, FaultKind};
use crate::json;
use crate::ledger::{Book, Kind, Tier, When};
use crate::planner::{Alias, Catalogue, Known, unknown_model};
use crate::providers::Target;
use crate::tokens::{Counter, Method};

/// Tokens of an answer where nobody says.
const USUAL_ANSWER: u64 = 512;

/// Models of one estimate.
const MOST_MODELS: usize = 64;

/// Requests of one estimate: what costs more than that, nobody pays.
const MOST_REQUESTS: u64 = 1_000_000_000_000;

/// Tokens of one prompt or answer.
const MOST_TOKENS: u64 = 1_000_000_000;

/// What is to be estimated.
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// The models to compare: aliases, versions of them, or `provider/model`.
    pub models: Vec<String>,
    /// One model, as other requests name it.
    pub model: Option<String>,
    /// The prompt as a text.
    pub prompt: Option<String>,
    /// The prompt as messages in OpenAI's form.
    pub messages: Option<Value>,
    /// Tools of the prompt in OpenAI's form.
    pub tools: Option<Value>,
    /// The form of the answer in OpenAI's form.
    pub response_format: Option<Value>,
    /// Instead of a prompt: how many tokens it usually has.
    pub input_tokens: Option<u64>,
    /// Of them, how many are read from the provider's prompt cache.
    pub cached_tokens: u64,
    /// How many tokens the answer usually has (512).
    pub output_tokens: Option<u64>,
    /// How many such requests there are (1).
    pub requests: Option<u64>,
    /// `batch`, `flex`, `priority` or `ultrafast`; the standard service otherwise.
    pub tier: Option<String>,
    /// What a target must keep, to be the cheapest.
    pub within: Within,
}

/// Bounds, held against what was measured of late.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Within {
    /// Milliseconds to the end of an answer.
    pub latency_ms: Option<f64>,
    /// Milliseconds to its first content.
    pub first_token_ms: Option<f64>,
    /// Which of all answers must keep them: `p50`, `p95` (usual) or `p99`.
    pub percentile: Option<String>,
    /// The least quality, 0 to 1, as the configuration gives it to targets.
    pub quality: Option<f64>,
    /// The largest share of attempts that may fail, 0 to 1.
    pub error_rate: Option<f64>,
}

/// Whom the estimate is for, and what it is reckoned by.
pub struct Sight<'a> {
    /// What can be named.
    pub catalogue: &'a Catalogue,
    /// How targets fare.
    pub market: &'a dyn Market,
    /// What they cost.
    pub book: &'a Book,
    /// Who asks.
    pub caller: &'a Caller,
    /// The moment.
    pub unix_ms: u64,
}

/// An estimate that is to be made: everything that needs no counting is known.
pub struct Draft {
    prompt: Prompt,
    cached: u64,
    output: u64,
    requests: u64,
    tier: Tier,
    within: Within,
    book_revision: u64,
    offers: Vec<Offer>,
}

enum Prompt {
    Said(Box<Request>),
    Tokens(u64),
}

struct Offer {
    target: Target,
    models: Vec<String>,
    known: Option<Arc<crate::ledger::Known>>,
    live: Live,
    quality: Option<f64>,
    unix_ms: u64,
}

/// What one target would cost.
#[derive(Serialize)]
struct Line {
    id: String,
    /// The names that lead there.
    models: Vec<String>,
    input_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    counted: Option<Method>,
    output_tokens: u64,
    /// Dollars for one request.
    cost_usd: Option<f64>,
    /// And for all of them.
    total_usd: Option<f64>,
    latency_ms: Quantiles,
    first_token_ms: Quantiles,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<f64>,
    meets: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    why: Vec<String>,
}

/// Reads what is wanted, and finds the targets.
///
/// # Errors
/// What is missing or wrong, with its field; a model that there is not.
pub fn draft(body: Bytes, sight: &Sight<'_>) -> Result<Draft, Fault> {
    // The gate refuses what could be read in two ways.
    let body = json::Body::read(body)?;
    let wanted: Wanted = serde_json::from_slice(body.bytes()).map_err(|error| {
        Fault::new(FaultKind::BadRequest, format!("the estimate is not understood: {error}"))
    })?;
    wanted.draft(sight)
}

impl Wanted {
    fn draft(self, sight: &Sight<'_>) -> Result<Draft, Fault> {
        let prompt = self.said()?;
        let bounded = |number: Option<u64>, usual, most, name: &'static str| match number {
            Some(number) if number > most => Err(Fault::bad_request(format!("must be at most {most}"), name)),
            number => Ok(number.unwrap_or(usual)),
        };
        let output = bounded(self.output_tokens, USUAL_ANSWER, MOST_TOKENS, "output_tokens")?;
        let requests = bounded(self.requests, 1, MOST_REQUESTS, "requests")?;
        let tier = match self.tier.as_deref() {
            None | Some("standard" | "default" | "auto") => Tier::Standard,
            Some(word @ ("batch" | "flex" | "priority" | "ultrafast")) => Tier::named(word),
            Some(_) => {
                let why = "must be `standard`, `batch`, `flex`, `priority` or `ultrafast`";
                return Err(Fault::bad_request(why, "tier"));
            }
        };
        self.within.check()?;
        let mut offers: Vec<Offer> = Vec::new();
        let names = self.models.iter().chain(&self.model);
        for (place, name) in names.enumerate() {
            if place >= MOST_MODELS {
                return Err(Fault::bad_request(format!("at most {MOST_MODELS} models"), "models"));
            }
            for target in behind(name, sight)? {
                sight.offer(target, name, &mut offers);
            }
        }
        if offers.is_empty() {
            let why = "name the models to compare: aliases or `provider/model`; GET /v1/models lists them";
            return Err(Fault::bad_request(why, "models").code("missing_required_parameter"));
        }
        let (cached, within) = (self.cached_tokens, self.within);
        Ok(Draft {
            prompt,
            cached,
            output,
            requests,
            tier,
            within,
            book_revision: sight.book.revision,
            offers,
        })
    }

    fn said(&self) -> Result<Prompt, Fault> {
        let given = [self.prompt.is_some(), self.messages.is_some(), self.input_tokens.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            let why = "give the prompt as one of `prompt`, `messages` and `input_tokens`";
            return Err(Fault::bad_request(why, "prompt"));
        }
        if let Some(tokens) = self.input_tokens {
            if tokens > MOST_TOKENS {
                return Err(Fault::bad_request(format!("must be at most {MOST_TOKENS}"), "input_tokens"));
            }
            return Ok(Prompt::Tokens(tokens));
        }
        let mut request = match &self.prompt {
            Some(text) => {
                Request { messages: vec![Message::plain(Role::User, text.clone())], ..Request::default() }
            }
            None => Request::default(),
        };
        let fields = [
            ("messages", &self.messages),
            ("tools", &self.tools),
            ("response_format", &self.response_format),
        ];
        let mut chat: Map<String, Value> =
            fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect();
        if !chat.is_empty() {
            chat.insert("model".to_owned(), "m".into());
            chat.entry("messages").or_insert_with(|| serde_json::json!([{ "role": "user", "content": "" }]));
            let chat = Bytes::from(Value::Object(chat).to_string());
            let read = openai_chat::Ask::read(json::Body::read(chat)?)?.request()?.clone();
            (request.tools, request.output) = (read.tools, read.output);
            if self.messages.is_some() {
                request.messages = read.messages;
            }
        }
        Ok(Prompt::Said(Box::new(request)))
    }
}

impl Within {
    fn check(&self) -> Result<(), Fault> {
        let positive = |number: Option<f64>| number.is_none_or(|number| number.is_finite() && number > 0.0);
        let share = |number: Option<f64>| number.is_none_or(|number| (0.0..=1.0).contains(&number));
        let percentile = self.percentile.as_deref().is_none_or(|word| matches!(word, "p50" | "p95" | "p99"));
        for (good, name, want) in [
            (positive(self.latency_ms), "within.latency_ms", "must be above 0"),
            (positive(self.first_token_ms), "within.first_token_ms", "must be above 0"),
            (share(self.quality), "within.quality", "must be between 0 and 1"),
            (share(self.error_rate), "within.error_rate", "must be between 0 and 1"),
            (percentile, "within.percentile", "must be `p50`, `p95` or `p99`"),
        ] {
            if !good {
                return Err(Fault::bad_request(want, name));
            }
        }
        Ok(())
    }

    /// Why a target is not fast or good enough; what was not measured is not believed.
    fn missed(&self, live: &Live, quality: Option<f64>) -> Vec<String> {
        let percentile = self.percentile.as_deref().unwrap_or("p95");
        let of = |quantiles: &Quantiles| match percentile {
            "p50" => quantiles.p50,
            "p99" => quantiles.p99,
            _ => quantiles.p95,
        };
        let mut why = Vec::new();
        for (name, bound, measured) in [
            ("latency", self.latency_ms, &live.latency),
            ("first token", self.first_token_ms, &live.first_token),
        ] {
            match (bound, of(measured)) {
                (Some(bound), Some(ms)) if ms > bound => {
                    why.push(format!("{name}: {percentile} is {ms:.0} ms, not {bound:.0} ms"));
                }
                (Some(_), None) => why.push(format!("{name}: nothing was measured yet")),
                _ => {}
            }
        }
        match (self.error_rate, live.error_rate) {
            (Some(most), Some(rate)) if rate > most => {
                why.push(format!("errors: {:.1} % of the attempts failed", rate * 100.0));
            }
            (Some(_), None) => why.push("errors: nothing was measured yet".to_owned()),
            _ => {}
        }
        match (self.quality, quality) {
            (Some(least), Some(quality)) if quality < least => {
                why.push(format!("quality: {quality}, not {least}"));
            }
            (Some(_), None) => why.push("quality: the configuration says nothing of it".to_owned()),
            _ => {}
        }
        if live.healthy == Some(false) {
            why.push("it is left alone for now: its last attempts failed".to_owned());
        }
        why
    }
}

impl Sight<'_> {
    fn offer(&self, target: Target, name: &str, offers: &mut Vec<Offer>) {
        if let Some(known) = offers.iter_mut().find(|offer| offer.target.name == target.name) {
            if !known.models.iter().any(|known| known == name) {
                known.models.push(name.to_owned());
            }
            return;
        }
        let seen = self.market.offer(&target.name.to_string());
        offers.push(Offer {
            known: self.book.of(&target.name, target.vendor.preset.as_deref()),
            quality: seen.as_ref().and_then(|seen| seen.listing.quality()),
            live: seen.map(|seen| seen.live).unwrap_or_default(),
            models: vec![name.to_owned()],
            unix_ms: self.unix_ms,
            target,
        });
    }
}

/// The targets behind a name that this caller may ask for.
fn behind(name: &str, sight: &Sight<'_>) -> Result<Vec<Target>, Fault> {
    let Sight { catalogue, caller, .. } = sight;
    let of = |alias: &Alias| alias.targets.iter().map(|one| one.target.clone()).collect::<Vec<_>>();
    let mut targets = match catalogue.find(name).filter(|_| catalogue.offers(name)) {
        Some(Known::Target(target)) => vec![target],
        Some(Known::Alias(alias)) => of(alias),
        Some(Known::Split(split)) => split.versions.iter().flat_map(|version| of(&version.alias)).collect(),
        None => return Err(unknown_model(name).at("models")),
    };
    if let Some(scope) = caller.grant.as_ref().map(|grant| &grant.scope) {
        let by_name = scope.allows_name(name);
        let alone = matches!(catalogue.find(name), Some(Known::Target(_)));
        targets.retain(|target| scope.allows_target(&target.name, by_name && !alone));
    }
    if targets.is_empty() { Err(unknown_model(name).at("models")) } else { Ok(targets) }
}

/// The response, in OpenAI's dialect where it is a fault.
pub(super) fn reply(told: Result<Value, Fault>, request_id: &str) -> Response<ReplyBody> {
    match told {
        Ok(estimate) => {
            let mut response = reply::json(StatusCode::OK, estimate.to_string());
            reply::name(&mut response, request_id);
            response
        }
        Err(fault) => reply::fault(&fault, request_id),
    }
}

impl Draft {
    /// Counts and reckons, beside the workers.
    ///
    /// # Errors
    /// When too much waits already.
    pub async fn make(self, counter: &Arc<Counter>) -> Result<Value, Fault> {
        let made = match &self.prompt {
            // Without a text there is nothing to count.
            Prompt::Tokens(_) => Some(self.made(counter)),
            Prompt::Said(_) => counter.beside(move |counter| self.made(counter)).await,
        };
        made.ok_or_else(|| {
            Fault::new(FaultKind::Unavailable, "too many prompts wait to be counted; try again in a second")
                .after(Some(Duration::from_secs(1)))
        })
    }

    /// Takes milliseconds: not for workers.
    pub fn made(self, counter: &Counter) -> Value {
        let mut lines: Vec<Line> = self.offers.iter().map(|offer| self.line(offer, counter)).collect();
        lines.sort_by(|a, b| {
            let price = |line: &Line| line.cost_usd.unwrap_or(f64::INFINITY);
            price(a).total_cmp(&price(b)).then_with(|| a.id.cmp(&b.id))
        });
        let cheapest = lines.iter().find(|line| line.meets && line.cost_usd.is_some());
        let cheapest = cheapest.map(|line| line.id.clone());
        serde_json::json!({
            "object": "estimate",
            "requests": self.requests,
            "prices": self.book_revision,
            "cheapest": cheapest,
            "targets": lines,
        })
    }

    fn line(&self, offer: &Offer, counter: &Counter) -> Line {
        let Offer { target, known, live, quality, .. } = offer;
        let preset = target.vendor.preset.as_deref().unwrap_or_default();
        let (tokens, counted) = match &self.prompt {
            Prompt::Tokens(tokens) => (*tokens, None),
            Prompt::Said(request) => {
                let count = counter.prompt(request, &[&target.name.model, preset]);
                (count.tokens, Some(count.method))
            }
        };
        let model = known.as_ref().map(|known| &known.model);
        let most = model.and_then(|model| model.max_output).map_or(u64::MAX, u64::from);
        let output = match model.map(|model| model.kind) {
            // What has no tokens in its answers.
            Some(Kind::Embedding | Kind::Rerank | Kind::Moderation) => 0,
            _ => self.output.min(most),
        };
        let cached = self.cached.min(tokens);
        let usage = Usage { input: tokens - cached, cached_read: cached, output, ..Usage::default() };
        let when = When { tier: self.tier, unix_ms: offer.unix_ms };
        let cost = known.as_ref().and_then(|known| known.price()?.estimate(&usage, when));
        let mut why = self.within.missed(live, *quality);
        if let Some(window) = model.and_then(|model| model.context_window).map(u64::from)
            && tokens.saturating_add(output) > window
        {
            why.push(format!("its context window holds {window} tokens"));
        }
        if cost.is_none() {
            let why_not = match known.as_ref().and_then(|known| known.price()) {
                Some(_) => "it is not paid for by tokens alone, so they do not say what it costs",
                None => "it has no known price; set one under `prices.models`",
            };
            why.push(why_not.to_owned());
        }
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let total = cost.map(|cost| (u128::from(cost.0) * u128::from(self.requests)) as f64 / 1e9);
        Line {
            id: target.name.to_string(),
            models: offer.models.clone(),
            input_tokens: tokens,
            counted,
            output_tokens: output,
            cost_usd: cost.map(|cost| cost.dollars()),
            total_usd: total,
            latency_ms: live.latency,
            first_token_ms: live.first_token,
            error_rate: live.error_rate,
            quality: *quality,
            meets: why.is_empty(),
            why,
        }
    }
}
