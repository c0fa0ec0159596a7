//! Ranking of the sandbox: the share of the query's words that stand in a document.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::ask::Orders;
use super::{LocalAnswer, Problem, fingerprint, headers, ordered, refuse, tokens, whole};

const MOST_DOCUMENTS: usize = 10_000;

/// The answer to `POST /rerank`.
pub(super) fn answer(body: &Value) -> Result<LocalAnswer, Problem> {
    let mut orders = Orders::default();
    let model = body["model"].as_str().ok_or_else(|| Problem::bad("model", "model is missing"))?;
    let model = orders.take(model);
    let query = body["query"].as_str().ok_or_else(|| Problem::bad("query", "query must be a text"))?;
    let query = orders.take(query);
    if let Some(problem) = ordered(&orders) {
        return Ok(refuse(&problem, &orders));
    }
    let documents = body["documents"].as_array().filter(|list| (1..=MOST_DOCUMENTS).contains(&list.len()));
    let documents = documents
        .ok_or_else(|| Problem::bad("documents", format!("documents must be 1 to {MOST_DOCUMENTS}")))?;
    let wanted = words(&query);
    let mut used = 0;
    let mut results: Vec<(usize, f64)> = Vec::with_capacity(documents.len());
    for (index, document) in documents.iter().enumerate() {
        let text = document.as_str().or_else(|| document["text"].as_str()).map(str::to_owned);
        let text = text.unwrap_or_else(|| document.to_string());
        used += tokens((text.len() + query.len()) as u64);
        results.push((index, overlap(&wanted, &words(&text))));
    }
    results.sort_by(|a, b| b.1.total_cmp(&a.1));
    if let Some(most) = body["top_n"].as_u64() {
        results.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    }
    let results: Vec<Value> =
        results.iter().map(|(index, score)| json!({ "index": index, "relevance_score": score })).collect();
    let units = documents.len().div_ceil(100);
    let answer = json!({
        "id": format!("rerank-sandbox-{}", fingerprint(body.to_string().as_bytes())),
        "model": model,
        "results": results,
        "meta": {
            "api_version": { "version": "2" },
            "billed_units": { "search_units": units },
            "tokens": { "input_tokens": used },
        },
        "usage": { "prompt_tokens": used, "total_tokens": used },
    });
    Ok(whole(200, headers("application/json"), answer.to_string(), orders.first_byte + orders.delay))
}

fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// From 0 to 1, four digits after the point.
fn overlap(wanted: &BTreeSet<String>, words: &BTreeSet<String>) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "numbers of words")]
    let share = wanted.intersection(words).count() as f64 / wanted.len().max(1) as f64;
    (share * 10_000.0).round() / 10_000.0
}
