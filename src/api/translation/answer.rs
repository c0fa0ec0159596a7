//! Answers of each provider on their way to each client.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::field::{Fate, Outcome};
use super::probe::{self, Findings, Needless, Probe};
use super::{CLIENTS, ClientDialect, PROVIDERS, ProviderDialect, documents, is_native};
use crate::executor::Carry;
use crate::fault::Fault;
use crate::gateway::Head;
use crate::providers::Target;
use crate::store::Shelf;

/// What need not be carried, and why. Counts by kind of content are told where they can be: sound and pictures.
const NOTHING_LOST: Needless = &[
    ("usageMetadata.promptTokensDetails*", "*", "inside of the whole count"),
    ("usageMetadata.candidatesTokensDetails*", "*", "inside of the whole count"),
    ("usageMetadata.cacheTokensDetails*", "*", "inside of the whole count"),
    ("choices[index].finish_reason", "\"stop\"", "the natural end, which is assumed"),
    ("choices[index].finish_reason", "\"tool_calls\"", "said by the calls"),
    ("choices[index].finish_reason", "\"content_filter\"", "said by the refusal"),
    ("choices[index].logprobs.content[token].bytes", "*", "said by the token"),
    ("choices[index].logprobs.content[token].top_logprobs", "[]", "none"),
    ("created", "*", "no place for the time"),
    ("createTime", "*", "no place for the time"),
    ("usage.total_tokens", "*", "summed up anew"),
    ("usage.cache_creation.ephemeral_5m_input_tokens", "*", "inside of all cache writes"),
    ("usage.inference_geo", "*", "the provider's own books"),
    ("service_tier", "*", "the provider's own books"),
    ("system_fingerprint", "*", "the provider's own books"),
    ("usage.service_tier", "*", "the provider's own books"),
    ("usage.server_tool_use.web_search_requests", "*", "the provider's own books"),
    ("usageMetadata.totalTokenCount", "*", "summed up anew"),
    ("usageMetadata.trafficType", "*", "the provider's own books"),
    ("promptFeedback.blockReason", "*", "told as a refusal"),
    ("choices[index].logprobs.content[token].top_logprobs[token].bytes", "*", "the token itself is told"),
    ("candidates[index].logprobsResult.chosenCandidates[token].tokenId", "*", "the token itself is told"),
    (
        "candidates[index].logprobsResult.topCandidates[candidates].candidates[token].tokenId",
        "*",
        "the token itself is told",
    ),
];

/// The answer that reaches the client.
fn hear(client: &ClientDialect, target: &Target, answer: &Value) -> Result<Outcome, Fault> {
    let (headers, shelf) = (HeaderMap::new(), Shelf::empty());
    let uri = client.uri.parse().unwrap();
    let request = json!({
        "model": "p/m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
        "contents": [{"parts": [{"text": "hi"}]}],
    });
    let asked = client
        .door
        .read(Bytes::from(request.to_string()), Head { uri: &uri, headers: &headers, shelf: &shelf })?;
    let relayed = Carry::whole(&*asked, target, Bytes::from(answer.to_string()))?;
    let mut document: Value = serde_json::from_slice(&relayed.body).unwrap_or_default();
    // The time of day, where the provider does not say when it answered.
    if document.get("created").and_then(Value::as_u64).is_some_and(|created| created > 1_760_000_000) {
        document["created"] = json!(0);
    }
    Ok(Outcome { document, lost: relayed.lost })
}

/// What becomes of every field of a provider's answers for one client, by the field's name.
pub(super) fn findings(provider: &ProviderDialect, client: &ClientDialect) -> Findings {
    let target = provider.target();
    let run = |answer: &Value| hear(client, &target, answer).ok();
    let probe = Probe { run: &run, needless: NOTHING_LOST, other_first: true };
    let mut found = Findings::new();
    for answer in documents(provider.answers) {
        let with = hear(client, &target, &answer).unwrap();
        probe::add(probe.fields(&answer, &with), &mut found);
    }
    found
}

#[test]
fn nothing_of_an_answer_is_dropped_in_silence() {
    let mut silent = Vec::new();
    for provider in PROVIDERS {
        for client in CLIENTS.iter().filter(|client| !is_native(client, &provider.target())) {
            for (name, fates) in findings(provider, client) {
                if fates.contains(&Fate::Silent) {
                    silent.push(format!("{} → {}: {name} {fates:?}", provider.name, client.name));
                }
            }
        }
    }
    assert!(silent.is_empty(), "dropped in silence:\n{}", silent.join("\n"));
}
