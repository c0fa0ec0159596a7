//! Requests of each client dialect on their way to each provider.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::field::{self, Fate, Outcome};
use super::probe::{self, Findings, Needless, Probe};
use super::{CLIENTS, ClientDialect, PROVIDERS, documents, is_native};
use crate::fault::Fault;
use crate::gateway::Head;
use crate::providers::Target;
use crate::store::Shelf;

/// What need not be carried, and why.
const NOTHING_LOST: Needless = &[
    ("model", "*", "becomes the name of the model at the provider"),
    (
        "stream_options.include_usage",
        "*",
        "usage is always asked for; the door tells it to those who want it",
    ),
    ("n", "1", "one is what others give"),
    ("store", "false", "nothing is stored elsewhere"),
    ("service_tier", "\"auto\"", "the account's default"),
    ("logprobs", "false", "none are given unasked"),
    ("parallel_tool_calls", "true", "allowed unasked"),
    ("presence_penalty", "0", "no penalty"),
    ("messages[assistant].reasoning_details[reasoning.text].index", "*", "its place in the list"),
    ("messages[assistant].reasoning_details[reasoning.text].id", "*", "kept for the router that made it"),
    ("messages[assistant].reasoning_details[reasoning.text].format", "*", "kept for the router that made it"),
    ("messages[user].content[document].source.media_type", "\"application/pdf\"", "said by the name"),
    ("messages[user].content[image].source.media_type", "\"image/png\"", "said by the bytes"),
    (
        "messages[user].content[tool_result].content[image].source.media_type",
        "\"image/png\"",
        "said by the bytes",
    ),
    ("contents[user].parts[inlineData].inlineData.mimeType", "\"application/pdf\"", "said by the name"),
    ("contents[user].parts[inlineData].inlineData.mimeType", "\"image/png\"", "said by the bytes"),
    (
        "contents[user].parts[functionResponse].functionResponse.parts[inlineData].inlineData.mimeType",
        "\"image/png\"",
        "said by the bytes",
    ),
    ("reasoning.enabled", "true", "said by asking for any"),
    ("response_format.json_schema.name", "*", "a label that only its own dialect wants"),
    ("response_format.json_schema.strict", "true", "schemas are followed exactly"),
    ("messages[assistant].content[tool_use].input", "{}", "no arguments"),
    (
        "messages[user].content[document].source.media_type",
        "\"text/plain\"",
        "said by the type of the source",
    ),
    ("tools[code_execution_20250825].name", "*", "said by its type"),
    ("tools[web_search_20250305].name", "*", "said by its type"),
    ("tools[web_search_20250305].user_location.type", "*", "the only one"),
    ("web_search_options.user_location.type", "*", "the only one"),
    ("contents[model].parts[functionCall].functionCall.args", "{}", "no arguments"),
    ("contents[user].parts[fileData].fileData.mimeType", "*", "tells a picture from a document"),
    (
        "contents[user].parts[functionResponse].functionResponse.name",
        "*",
        "said by the call that the id names",
    ),
    (
        "generationConfig.thinkingConfig.includeThoughts",
        "true",
        "thoughts are shown where the provider tells them",
    ),
    ("generationConfig.thinkingConfig.thinkingBudget", "-1", "as the model likes"),
];

/// The request that reaches the provider.
fn send(client: &ClientDialect, target: &Target, request: &Value) -> Result<Outcome, Fault> {
    let (headers, shelf) = (HeaderMap::new(), Shelf::empty());
    let uri = client.uri.parse().unwrap();
    let head = Head { uri: &uri, headers: &headers, shelf: &shelf };
    let asked = client.door.read(Bytes::from(request.to_string()), head)?;
    let outgoing = asked.outgoing(target)?;
    let body: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap_or_default();
    let beta = outgoing.headers.get("anthropic-beta").map(|beta| beta.to_str().unwrap().to_owned());
    let mut document = body;
    document["(path)"] = json!(outgoing.path);
    if let Some(beta) = beta {
        document["(anthropic-beta)"] = json!(beta);
    }
    Ok(Outcome { document, lost: outgoing.lost })
}

/// What becomes of every field of a client's dialect at one provider, by the field's name.
pub(super) fn findings(client: &ClientDialect, target: &Target) -> Findings {
    let run = |request: &Value| send(client, target, request).ok();
    let probe = Probe { run: &run, needless: NOTHING_LOST, other_first: false };
    let mut found = Findings::new();
    for request in documents(client.requests) {
        let of_request = match send(client, target, &request) {
            Ok(with) => probe.fields(&request, &with),
            Err(fault) => refused(&request, &fault),
        };
        probe::add(of_request, &mut found);
    }
    found
}

fn refused(request: &Value, fault: &Fault) -> Vec<(String, Vec<Fate>)> {
    let place = fault.param.as_deref().unwrap_or_default();
    let paths = field::fields(request).into_iter().filter(|path| field::path(path).starts_with(place));
    paths.map(|path| (field::name(request, &path), vec![Fate::Refused])).collect()
}

#[test]
fn nothing_of_a_request_is_dropped_in_silence() {
    let mut silent = Vec::new();
    for client in CLIENTS {
        for provider in PROVIDERS {
            let target = provider.target();
            if is_native(client, &target) {
                continue;
            }
            for (name, fates) in findings(client, &target) {
                if fates.contains(&Fate::Silent) {
                    silent.push(format!("{} → {}: {name}", client.name, provider.name));
                }
            }
        }
    }
    assert!(silent.is_empty(), "dropped in silence:\n{}", silent.join("\n"));
}
