//! Token usage in every vendor's spelling, read into disjoint classes and, where it deviates, rewritten for the client.
//!
//! The convention: `prompt_tokens` is all input, cache reads and writes included; `completion_tokens` includes
//! thinking; `total_tokens` is their sum.

use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::chat::{Breadth, Object, Usage};
use crate::money::{Nano, Pico};

/// A usage object as the wire has it, with only the counts that somebody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub(super) struct WireUsage {
    prompt_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    /// The Responses and Anthropic spellings.
    input_tokens: Count,
    output_tokens: Count,
    /// Moonshot, Together.
    cached_tokens: Count,
    /// Mistral.
    num_cached_tokens: Count,
    /// DeepSeek: <https://api-docs.deepseek.com/guides/kv_cache>
    prompt_cache_hit_tokens: Count,
    /// Anthropic's spellings, passed through by routers.
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    cache_write_tokens: Count,
    reasoning_tokens: Count,
    /// Voxtral: the audio's tokens stand in no field, only in the total.
    prompt_audio_seconds: Count,
    prompt_audio_tokens: Count,
    prompt_tokens_details: Details,
    /// Mistral's spelling of the same.
    prompt_token_details: Details,
    input_tokens_details: Details,
    /// The spelling of transcriptions.
    input_token_details: Details,
    completion_tokens_details: Details,
    output_tokens_details: Details,
    /// The spelling of realtime conversations.
    output_token_details: Details,
    /// Perplexity: <https://docs.perplexity.ai/getting-started/pricing>
    citation_tokens: Count,
    num_search_queries: Count,
    search_context_size: Context,
    /// OpenRouter, in US dollars: <https://openrouter.ai/docs/use-cases/usage-accounting>. Perplexity writes an object
    /// with the `total_cost` and its parts.
    cost: Dollars,
    /// With a key of one's own at OpenRouter, `cost` is its fee alone, and the provider is paid beside it.
    is_byok: Truth,
    cost_details: Upstream,
    /// xAI: what the answer cost, in 10⁻¹⁰ dollars, and what it looked up: <https://docs.x.ai/docs/models>
    cost_in_usd_ticks: Count,
    server_side_tool_usage_details: Lenient<Tools>,
    /// What OpenRouter's own tools did, and in Anthropic's word those of the provider behind a router.
    server_tool_use_details: Lenient<Served>,
    server_tool_use: Lenient<Served>,
}

/// The parts of prompt or completion tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
struct Parts {
    cached_tokens: Count,
    cache_write_tokens: Count,
    cache_creation_tokens: Count,
    cache_creation_input_tokens: Count,
    audio_tokens: Count,
    image_tokens: Count,
    reasoning_tokens: Count,
    accepted_prediction_tokens: Count,
    rejected_prediction_tokens: Count,
    cached_tokens_details: Lenient<CachedParts>,
}

/// The parts of cached tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
struct CachedParts {
    audio_tokens: Count,
    image_tokens: Count,
}

/// How often xAI's own tools were used: <https://docs.x.ai/developers/tools/overview>
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
struct Tools {
    web_search_calls: Count,
    x_search_calls: Count,
    code_interpreter_calls: Count,
    file_search_calls: Count,
    document_search_calls: Count,
    image_generation_calls: Count,
}

/// How often OpenRouter's own tools were used: <https://openrouter.ai/docs/guides/features/server-tools/overview>
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
struct Served {
    web_search_requests: Count,
    tool_calls_executed: Count,
}

/// Parts, or anything else, which says nothing about parts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Lenient<P>(P);

type Details = Lenient<Parts>;

/// A number of tokens as vendors write it: negative, fractional, as text, absurdly large, or null. An object has room for
/// a hundred of them, so that each is one word: the number plus one, 0 for none, and a mark where it was written oddly.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count(u64);

/// An amount of dollars, or anything else, which says nothing of one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Dollars {
    total: Option<Nano>,
    /// The request has a price, whatever it searched for.
    by_request: bool,
}

/// Yes, or anything else, which is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Truth(bool);

/// What the provider behind a router is paid, or anything else, which says nothing of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Upstream(Option<Nano>);

/// How much of the web was read, or anything else, which says nothing of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Context(Option<Breadth>);

/// What a usage object says, and whether the client can have it as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::providers) struct Tally {
    pub(in crate::providers) usage: Usage,
    /// All input and all output, before parts were cut to fit.
    prompt: u64,
    completion: u64,
    cached: u64,
    reasoning: u64,
    /// The object deviates from the convention.
    pub(super) deviates: bool,
}

/// No answer has more tokens than this; what claims to is cut, so that no sum overflows.
const MOST: u64 = 1 << 40;

/// Reads a usage object from its JSON text. `None` when it counts nothing.
pub(in crate::providers) fn read(raw: &str, excludes_reasoning: bool) -> Option<Tally> {
    match serde_json::from_str::<WireUsage>(raw) {
        Ok(wire) => wire.tally(excludes_reasoning),
        // A key twice, or a form that nobody expects: the slow way forgives.
        Err(_) => read_value(serde_json::from_str::<Value>(raw).ok()?.as_object()?, excludes_reasoning),
    }
}

/// The last of these usage objects that counts something: tokens, or the seconds of what was heard.
pub(super) fn last(said: &[&str], excludes_reasoning: bool) -> Option<Usage> {
    said.iter().rev().find_map(|raw| {
        let tokens = read(raw, excludes_reasoning).map(|tally| tally.usage);
        tokens.or_else(|| heard(&serde_json::from_str(raw).ok()?))
    })
}

/// `{"type":"duration","seconds":12}`: <https://platform.openai.com/docs/api-reference/audio/json-object>
fn heard(usage: &Value) -> Option<Usage> {
    let seconds = usage.get("seconds").or_else(|| usage.get("prompt_audio_seconds"))?.as_f64()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    let audio_ms = (seconds * 1e3).clamp(0.0, 1e12).ceil() as u64;
    Some(Usage { audio_ms, ..Usage::default() })
}

/// Reads a usage object.
pub(in crate::providers) fn read_value(object: &Object, excludes_reasoning: bool) -> Option<Tally> {
    WireUsage::deserialize(object).ok()?.tally(excludes_reasoning)
}

/// llama.cpp's `timings`, which stand where its usage is missing:
/// <https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md>
pub(super) fn from_timings(timings: &Object) -> Option<Tally> {
    let count = |key: &str| timings.get(key).and_then(Value::as_u64).unwrap_or(0).min(MOST);
    let (cached, fresh, output) = (count("cache_n"), count("prompt_n"), count("predicted_n"));
    if fresh + output == 0 {
        return None;
    }
    let usage = Usage { input: fresh, cached_read: cached, output, ..Usage::default() };
    Some(Tally { usage, prompt: fresh + cached, completion: output, cached, reasoning: 0, deviates: true })
}

impl WireUsage {
    /// The disjoint classes.
    pub(super) fn tally(&self, excludes_reasoning: bool) -> Option<Tally> {
        let total = self.total_tokens.value();
        let mut prompt = self.prompt_tokens.or(self.input_tokens);
        let mut completion = self.completion_tokens.or(self.output_tokens);
        match (prompt, completion, total) {
            (None, None, None) => return None,
            // Who tells a total alone has only read: Voyage, <https://docs.voyageai.com/reference/embeddings-api>
            (None, None, total) => prompt = total,
            (None, Some(completion), Some(total)) => prompt = Some(total.saturating_sub(completion)),
            (Some(prompt), None, Some(total)) => completion = Some(total.saturating_sub(prompt)),
            _ => {}
        }
        let (mut prompt, mut completion) = (prompt.unwrap_or(0), completion.unwrap_or(0));
        let details = self.prompt_details();
        let read = first([
            details[0].0.cached_tokens,
            details[1].0.cached_tokens,
            details[2].0.cached_tokens,
            details[3].0.cached_tokens,
            self.num_cached_tokens,
            self.prompt_cache_hit_tokens,
            self.cached_tokens,
            self.cache_read_input_tokens,
        ]);
        let written = first([
            details[0].0.cache_write_tokens,
            details[0].0.cache_creation_tokens,
            details[0].0.cache_creation_input_tokens,
            details[2].0.cache_write_tokens,
            self.cache_write_tokens,
            self.cache_creation_input_tokens,
        ]);
        let out = [&self.completion_tokens_details, &self.output_tokens_details, &self.output_token_details];
        let [a, b, c] = out.map(|details| details.0.reasoning_tokens);
        let reasoning = first([a, b, c, self.reasoning_tokens]);
        let mut audio = first([
            details[0].0.audio_tokens,
            details[1].0.audio_tokens,
            details[2].0.audio_tokens,
            details[3].0.audio_tokens,
            self.prompt_audio_tokens,
        ]);

        // What the total counts and the two sums leave out tells which part a vendor keeps outside.
        match total.map_or(0, |total| total.saturating_sub(prompt + completion)) {
            0 => {
                let beside = self.is_research() && first([a, b, c]) == 0;
                // Vercel leaves thoughts out of the total, too. OpenRouter counts them with another tokenizer, so that they
                // are a little more than all that was written.
                let more = completion + total.map_or(0, |_| completion / 4);
                let outside = beside || excludes_reasoning && total.is_none() || reasoning > more;
                completion += if outside { reasoning } else { 0 };
            }
            rest if reasoning > 0 && (rest == reasoning || excludes_reasoning) => completion += rest,
            rest if audio > 0 && rest == audio => prompt += rest,
            rest if self.prompt_audio_seconds.value().is_some() => {
                prompt += rest;
                audio = audio.max(rest);
            }
            rest if rest == read + written || rest == read || rest == written => prompt += rest,
            // Gemini behind OpenAI's dialect: thinking stands only in the total.
            rest => completion += rest,
        }
        let cached_read = read.min(prompt);
        let cached = details.map(|details| details.0.cached_tokens_details.0);
        let cached_audio = first(cached.map(|cached| cached.audio_tokens)).min(cached_read);
        let cached_image = first(cached.map(|cached| cached.image_tokens)).min(cached_read - cached_audio);
        let image = first(details.map(|details| details.0.image_tokens));
        let cache_write = written.min(prompt - cached_read);
        let usage = Usage {
            input: prompt - cached_read - cache_write,
            cached_read,
            cached_audio,
            cached_image,
            cache_write,
            cache_write_long: 0,
            output: completion,
            reasoning: reasoning.min(completion),
            // Cached ones are among them.
            input_audio: audio.saturating_sub(cached_audio).min(prompt),
            input_image: image.saturating_sub(cached_image).min(prompt),
            output_audio: first(out.map(|details| details.0.audio_tokens)).min(completion),
            output_image: first(out.map(|details| details.0.image_tokens)).min(completion),
            accepted_prediction: out[0].0.accepted_prediction_tokens.get().min(completion),
            rejected_prediction: out[0].0.rejected_prediction_tokens.get().min(completion),
            citations: self.citation_tokens.get(),
            searches: self.searches(),
            unpriced_tools: self.unpriced_tools(),
            breadth: self.search_context_size.0,
            said_cost: self.said_cost(),
            ..Usage::default()
        };
        let said = |count: Count, truth: u64| !count.is_odd() && count.value() == Some(truth);
        let deviates = !said(self.prompt_tokens, prompt)
            || !said(self.completion_tokens, completion)
            || !said(self.total_tokens, prompt + completion)
            || (read > 0 && details[0].0.cached_tokens.value() != Some(read))
            || (reasoning > 0 && out[0].0.reasoning_tokens.value() != Some(reasoning));
        Some(Tally { usage, prompt, completion, cached: read, reasoning, deviates })
    }

    /// What is told of the parts of a prompt, in every spelling.
    fn prompt_details(&self) -> [&Details; 4] {
        [
            &self.prompt_tokens_details,
            &self.prompt_token_details,
            &self.input_tokens_details,
            &self.input_token_details,
        ]
    }

    /// What the answer says that it cost in all.
    fn said_cost(&self) -> Option<Nano> {
        let beside = self.cost_details.0.filter(|_| self.is_byok.0).unwrap_or_default();
        // None at all is what models of xAI cost elsewhere.
        let ticks = self.cost_in_usd_ticks.value().filter(|ticks| *ticks > 0).map(|ticks| Nano(ticks / 10));
        self.cost.total.map(|cost| Nano(cost.0.saturating_add(beside.0))).or(ticks)
    }

    /// How often the web was searched. Where each request has a price, those within it have none.
    fn searches(&self) -> u64 {
        let Tools { web_search_calls, x_search_calls, .. } = self.server_side_tool_usage_details.0;
        let counted = if self.cost.by_request { Count::default() } else { self.num_search_queries };
        let served = self.served().web_search_requests;
        let counts = [counted, web_search_calls, x_search_calls, served];
        counts.iter().fold(0, |sum, count| sum.saturating_add(count.get()))
    }

    /// How often a tool was used that has no price.
    fn unpriced_tools(&self) -> u64 {
        let tools = self.server_side_tool_usage_details.0;
        let used = [
            tools.code_interpreter_calls,
            tools.file_search_calls,
            tools.document_search_calls,
            tools.image_generation_calls,
        ];
        // A search that is in what the answer says that it cost is no other search.
        let Served { web_search_requests, tool_calls_executed } = self.served();
        let searched = self.cost.total.map_or(0, |_| web_search_requests.get());
        let served = tool_calls_executed.get().max(searched);
        used.iter().fold(served, |sum, count| sum.saturating_add(count.get()))
    }

    fn served(&self) -> Served {
        let Lenient(details) = self.server_tool_use_details;
        if details == Served::default() { self.server_tool_use.0 } else { details }
    }

    /// Whether it is of research at Perplexity, which reasons beside what it writes and sums up only the latter.
    fn is_research(&self) -> bool {
        self.citation_tokens.value().is_some() || self.num_search_queries.value().is_some()
    }
}

impl Tally {
    /// Brings the client's object to the convention; keys that we do not know stay.
    pub(super) fn rewrite(&self, object: &mut Object) {
        object.insert("prompt_tokens".into(), self.prompt.into());
        object.insert("completion_tokens".into(), self.completion.into());
        object.insert("total_tokens".into(), (self.prompt + self.completion).into());
        for (details, part, count) in [
            ("prompt_tokens_details", "cached_tokens", self.cached),
            ("completion_tokens_details", "reasoning_tokens", self.reasoning),
        ] {
            if count == 0 {
                continue;
            }
            match object.get_mut(details) {
                Some(Value::Object(known)) => {
                    known.insert(part.into(), count.into());
                }
                _ => {
                    object.insert(details.into(), serde_json::json!({ part: count }));
                }
            }
        }
    }

    /// The same for embeddings, which have no completion.
    pub(super) fn rewrite_embedding(&self, object: &mut Object) {
        object.insert("prompt_tokens".into(), self.prompt.into());
        object.insert("total_tokens".into(), (self.prompt + self.completion).into());
    }

    /// Whether an embeddings client can have the object as it is.
    pub(super) fn embedding_deviates(&self, object: &Object) -> bool {
        let said = |key: &str| object.get(key).and_then(Value::as_u64);
        said("prompt_tokens") != Some(self.prompt)
            || said("total_tokens") != Some(self.prompt + self.completion)
    }
}

impl Count {
    const ODD: u64 = 1 << 63;

    /// Cut to the most that an answer can have.
    fn of(value: Option<u64>, odd: bool) -> Self {
        let value = value.map_or(0, |n| n.min(MOST) + 1);
        Self(if odd { value | Self::ODD } else { value })
    }

    fn value(self) -> Option<u64> {
        (self.0 & !Self::ODD).checked_sub(1)
    }

    fn is_odd(self) -> bool {
        self.0 & Self::ODD != 0
    }

    fn get(self) -> u64 {
        self.value().unwrap_or(0)
    }

    fn or(self, other: Self) -> Option<u64> {
        self.value().or(other.value())
    }
}

/// The first spelling that counts anything.
fn first<const N: usize>(counts: [Count; N]) -> u64 {
    counts.into_iter().map(Count::get).find(|n| *n > 0).unwrap_or(0)
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let said = Value::deserialize(deserializer)?;
        let part = |name: &str| said.get(name).and_then(dollars);
        let total = dollars(&said).or_else(|| part("total_cost"));
        Ok(Self { total, by_request: part("request_cost").is_some() })
    }
}

/// An amount of dollars.
fn dollars(value: &Value) -> Option<Nano> {
    let pico = value.as_f64().and_then(Pico::per_unit)?;
    Some(Nano::from_femto(u128::from(pico.0) * 1_000))
}

impl<'de> Deserialize<'de> for Truth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Value::deserialize(deserializer)?.as_bool() == Some(true)))
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Value::deserialize(deserializer)?.get("upstream_inference_cost").and_then(dollars)))
    }
}

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Breadth::deserialize(Value::deserialize(deserializer)?).ok()))
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number of tokens")
    }

    fn visit_u64<E>(self, n: u64) -> Result<Count, E> {
        Ok(Count::of(Some(n), n > MOST))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Count, E> {
        Ok(Count::of(Some(u64::try_from(n).unwrap_or(0)), true))
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=MOST before")]
    fn visit_f64<E>(self, n: f64) -> Result<Count, E> {
        Ok(Count::of(n.is_finite().then(|| n.clamp(0.0, 1.1e12) as u64), true))
    }

    fn visit_str<E>(self, text: &str) -> Result<Count, E> {
        Ok(Count::of(text.trim().parse().ok(), true))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count::of(None, true))
    }

    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count::of(None, true))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count::of(None, true))
    }
}

impl<'de, P: Deserialize<'de> + Default> Deserialize<'de> for Lenient<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientVisitor(PhantomData))
    }
}

struct LenientVisitor<P>(PhantomData<P>);

impl<'de, P: Deserialize<'de> + Default> Visitor<'de> for LenientVisitor<P> {
    type Value = Lenient<P>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the parts of a number of tokens")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Lenient<P>, E> {
        Ok(Lenient::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Lenient<P>, A::Error> {
        P::deserialize(de::value::MapAccessDeserializer::new(map)).map(Lenient)
    }

    // Anything else says nothing about parts.
    fn visit_bool<E>(self, _: bool) -> Result<Lenient<P>, E> {
        Ok(Lenient::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Lenient<P>, E> {
        Ok(Lenient::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Lenient<P>, E> {
        Ok(Lenient::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Lenient<P>, E> {
        Ok(Lenient::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Lenient<P>, E> {
        Ok(Lenient::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lenient<P>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Lenient::default())
    }
}

#[cfg(test)]
mod tests;
