//! The answers of rerankers, checked and brought to Cohere's form.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::RerankAsk;
use crate::chat::{Object, Usage};
use crate::fault::{Fault, FaultKind};
use crate::json;
use crate::providers::Relayed;
use crate::providers::call_id::letters;
use crate::providers::openai::fault as openai;

/// No answer has more tokens than this; what claims to is cut, so that no sum overflows.
const MOST: u64 = 1 << 40;

/// One result.
#[derive(Debug, Deserialize)]
struct Ranked {
    index: usize,
    #[serde(alias = "score")]
    relevance_score: f64,
}

/// The answer for the client; Cohere's own goes on as the bytes that came, when nothing has to be added.
///
/// # Errors
/// `Malformed` when it is no answer, ranks a document that is not there or one twice, or leaves one out; the vendor's
/// own fault when it is an error object.
pub(in crate::providers) fn answer(ask: &RerankAsk, body: Bytes, now_ms: u64) -> Result<Relayed, Fault> {
    let value: Value =
        serde_json::from_slice(&body).map_err(|_| malformed("the provider's ranking is not JSON"))?;
    let (list, mut object, plain) = match value {
        // Text Embeddings Inference.
        Value::Array(list) => (Value::Array(list), Object::new(), false),
        Value::Object(mut object) => {
            // Voyage, Mixedbread and Fireworks call the list `data`.
            let key =
                ["results", "data"].into_iter().find(|key| object.get(*key).is_some_and(Value::is_array));
            let Some(key) = key else { return Err(openai::inside_success(&Value::Object(object), now_ms)) };
            let list = object.shift_remove(key).unwrap_or_default();
            let plain = key == "results" && object.get("meta").is_some_and(Value::is_object);
            (list, object, plain)
        }
        _ => return Err(malformed("the provider's answer is not a ranking")),
    };
    let named = |list: &Value| {
        list.as_array().into_iter().flatten().all(|entry| entry.get("relevance_score").is_some())
    };
    let plain = plain && named(&list);
    let mut ranked: Vec<Ranked> = serde_json::from_value(list)
        .map_err(|_| malformed("the provider's ranking has a result without its index or score"))?;
    check(&ranked, ask)?;
    let usage = usage(&object);
    let ordered = ranked.is_sorted_by(|a, b| a.relevance_score >= b.relevance_score);
    if plain && ordered && ranked.len() == ask.results() && !ask.return_documents && !ask.is_voyages {
        return Ok(Relayed { body, usage, finish: None, lost: Vec::new() });
    }
    ranked.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
    ranked.truncate(ask.results());
    let id = match object.get("id") {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        _ => format!("rerank-{}", letters(&blake3::hash(&body), 24)),
    };
    let mut said = Object::new();
    said.insert("id".into(), id.into());
    said.extend(
        object.get("model").filter(|model| model.is_string()).map(|m| ("model".to_owned(), m.clone())),
    );
    said.insert("results".into(), results(&ranked, ask));
    if ask.is_voyages {
        said.insert("object".into(), "list".into());
        said.insert("data".into(), as_voyage(&ranked, ask));
    }
    said.insert("meta".into(), meta(object.shift_remove("meta"), usage));
    if let Some(usage) = usage.filter(|usage| usage.total() > 0 || usage.searches == 0) {
        let counted = json!({ "prompt_tokens": usage.prompt(), "total_tokens": usage.total() });
        said.insert("usage".into(), counted);
    } else if ask.is_voyages {
        // Its clients read the sum of every answer.
        said.insert("usage".into(), json!({ "total_tokens": 0 }));
    }
    let body = Value::Object(said).to_string();
    Ok(Relayed { body: body.into(), usage, finish: None, lost: Vec::new() })
}

fn check(ranked: &[Ranked], ask: &RerankAsk) -> Result<(), Fault> {
    let mut seen = vec![false; ask.documents];
    for result in ranked {
        match seen.get_mut(result.index) {
            Some(seen @ false) => *seen = true,
            Some(_) => return Err(malformed("the provider ranked a document twice")),
            None => return Err(malformed("the provider ranked a document that is not there")),
        }
        if !result.relevance_score.is_finite() {
            return Err(malformed("the provider ranked a document without a score"));
        }
    }
    if ranked.len() < ask.results() {
        let text = format!("the provider ranked {} of {} documents", ranked.len(), ask.results());
        return Err(Fault::new(FaultKind::Malformed, text));
    }
    Ok(())
}

fn results(ranked: &[Ranked], ask: &RerankAsk) -> Value {
    let documents: Vec<&str> = if ask.return_documents { ask.raw_documents().collect() } else { Vec::new() };
    let result = |ranked: &Ranked| {
        let mut result = Object::new();
        result.insert("index".into(), ranked.index.into());
        result.insert("relevance_score".into(), ranked.relevance_score.into());
        if let Some(raw) = documents.get(ranked.index) {
            let document = match json::text(raw) {
                Some(text) => json!({ "text": text }),
                None => serde_json::from_str(raw).unwrap_or_default(),
            };
            result.insert("document".into(), document);
        }
        Value::Object(result)
    };
    ranked.iter().map(result).collect()
}

/// The list as Voyage has it, with documents as texts.
fn as_voyage(ranked: &[Ranked], ask: &RerankAsk) -> Value {
    let documents: Vec<_> = if ask.return_documents { ask.texts().collect() } else { Vec::new() };
    let result = |ranked: &Ranked| {
        let Ranked { index, relevance_score } = ranked;
        match documents.get(*index) {
            Some(text) => json!({ "relevance_score": relevance_score, "index": index, "document": text }),
            None => json!({ "relevance_score": relevance_score, "index": index }),
        }
    };
    ranked.iter().map(result).collect()
}

/// Cohere's `meta`; vendors that bill tokens have no search units.
fn meta(own: Option<Value>, usage: Option<Usage>) -> Value {
    if let Some(own @ Value::Object(_)) = own {
        return own;
    }
    let mut meta = json!({ "api_version": { "version": "2" } });
    if let (Some(usage), Some(meta)) = (usage, meta.as_object_mut()) {
        let tokens = json!({ "input_tokens": usage.prompt() });
        meta.insert("billed_units".into(), tokens.clone());
        meta.insert("tokens".into(), tokens);
    }
    meta
}

fn usage(object: &Object) -> Option<Usage> {
    let of =
        |place: Option<&Value>, key: &str| place.and_then(|place| place.get(key)).and_then(Value::as_f64);
    let usage = object.get("usage");
    let tokens = object.get("meta").and_then(|meta| meta.get("tokens").or_else(|| meta.get("billed_units")));
    let count = of(usage, "total_tokens")
        .or_else(|| of(usage, "prompt_tokens"))
        .or_else(|| of(tokens, "input_tokens"));
    // A search of one query over more documents than one unit pays for: https://docs.cohere.com/reference/rerank
    let searches = of(object.get("meta").and_then(|meta| meta.get("billed_units")), "search_units");
    let (input, searches) = (count.and_then(whole), searches.and_then(whole));
    (input.is_some() || searches.is_some()).then(|| Usage {
        input: input.unwrap_or(0),
        searches: searches.unwrap_or(0),
        ..Usage::default()
    })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count that is not negative, and cut to the most that there can be"
)]
fn whole(count: f64) -> Option<u64> {
    (count >= 0.0).then(|| (count.ceil() as u64).min(MOST))
}

fn malformed(message: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, message)
}
