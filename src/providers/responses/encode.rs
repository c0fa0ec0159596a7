//! The canonical request as a Responses request: <https://platform.openai.com/docs/api-reference/responses/create>

use serde_json::{Value, json};

use super::{items, path, tools};
use crate::chat::{Loss, Object, OutputFormat, Reasoning, Request};
use crate::fault::Fault;
use crate::json;
use crate::providers::openai::encode::{put, user_of};
use crate::providers::openai::reasoning::{effort_for, has_its_sampling, leave_sampling, never_thinks};
use crate::providers::openai::strict::strict;
use crate::providers::openai::{form, losses, request};
use crate::providers::search::OPTIONS;
use crate::providers::{Outgoing, QuirkSettings};
use crate::target::TargetName;

/// What is asked for with log probabilities.
const LOGPROBS: &str = "message.output_text.logprobs";
/// Fewest output tokens that this API takes.
const LEAST_OUTPUT: u64 = 16;

/// Top-level fields of other dialects that this one knows by the same name.
const SHARED: &[&str] = &[
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "truncation",
    "max_tool_calls",
    "previous_response_id",
    "conversation",
];

/// The upstream request. `keeper` is who can decrypt the reasoning of this provider's answers.
///
/// # Errors
/// `BadRequest` that names the part which this API cannot carry.
pub(super) fn request(
    asked: &Request,
    target: &TargetName,
    quirks: &QuirkSettings,
    keeper: &str,
) -> Result<Outgoing, Fault> {
    let model = &*target.model;
    let mut lost = Vec::new();
    let mut body = Object::new();
    body.insert("model".into(), quirks.deployed(model).into());
    let (mut input, plain) = items::input(&asked.messages, keeper, quirks.no_developer_role, &mut lost)?;
    let words = form::in_words(&asked.output, model, quirks);
    if let Some(words) = &words {
        let place = form::place(asked).min(input.len());
        input.insert(place, json!({ "role": "system", "content": words.text }));
        lost.push(Loss::new("response_format", words.why));
    }
    body.insert("input".into(), Value::Array(input));
    // Nothing is kept at the provider unless the client says so.
    body.insert("store".into(), false.into());
    let mut include = Vec::new();
    rest(asked, &mut body, &mut include, &mut lost);
    tools::put_all(asked, &mut body, &mut lost);
    match words {
        None => output(&asked.output, &mut body, &mut lost),
        Some(words) if words.is_object => output(&OutputFormat::JsonObject, &mut body, &mut lost),
        Some(_) => {}
    }
    sampling(asked, &mut body, &mut include, &mut lost);
    if let Some(reasoning) = &asked.reasoning {
        think(reasoning, model, quirks, &mut body, &mut lost);
    }
    let effort = body.get("reasoning").and_then(|thought| thought.get("effort")).and_then(Value::as_str);
    if has_its_sampling(model, effort) {
        leave_sampling(&mut body, &mut lost);
        include.retain(|wanted| *wanted != LOGPROBS);
    }
    // Models that never think refuse to be asked for it.
    if !never_thinks(model) && !model.starts_with("gpt-5-chat") {
        include.push("reasoning.encrypted_content".into());
    }
    if !include.is_empty() {
        include.dedup();
        body.insert("include".into(), Value::Array(include));
    }
    put(&mut body, "user", asked.user.as_deref().map(|user| user_of(user, &mut lost)));
    if !asked.metadata.is_empty() {
        body.insert("metadata".into(), Value::Object(asked.metadata.clone()));
    }
    if asked.stream {
        body.insert("stream".into(), true.into());
    } else {
        body.shift_remove("stream_options");
    }
    leave_out(&mut body, model, quirks, &mut lost);
    request::apply_to_object(&mut body, quirks);
    let json = json::object_with(&body, quirks.renamed("input"), &plain);
    let mut outgoing =
        request::outgoing(path(quirks, quirks.deployed(model)), asked.stream, vec![json.into()]);
    outgoing.lost = lost;
    Ok(outgoing)
}

/// What the vendor does not know. That a translation asks for encrypted reasoning is its own idea, and no loss.
fn leave_out(body: &mut Object, model: &str, quirks: &QuirkSettings, lost: &mut Vec<Loss>) {
    if quirks.lacks.iter().any(|field| field == "include") {
        body.shift_remove("include");
    }
    losses::leave_out(body, model, quirks, lost);
}

/// Top-level fields that the canonical form does not know.
fn rest(asked: &Request, body: &mut Object, include: &mut Vec<Value>, lost: &mut Vec<Loss>) {
    for (field, value) in &asked.rest {
        match (&**field, value) {
            (_, Value::Null) => {}
            (field, value) if SHARED.contains(&field) => {
                body.insert(field.to_owned(), value.clone());
            }
            // Anthropic's, which is no list, says something else.
            ("context_management", Value::Array(_)) => {
                body.insert("context_management".into(), value.clone());
            }
            ("include", Value::Array(list)) => include.extend_from_slice(list),
            // Anthropic's word for the usual tier is not known here.
            ("service_tier", Value::String(tier)) if tier != "standard_only" => {
                body.insert("service_tier".into(), value.clone());
            }
            ("stream_options", Value::Object(options)) => {
                // Usage comes with every stream's last event, unasked.
                if let Some(obfuscation) = options.get("include_obfuscation") {
                    let options = json!({ "include_obfuscation": obfuscation });
                    body.insert("stream_options".into(), options);
                }
            }
            ("verbosity", value) => {
                body.insert("text".into(), json!({ "verbosity": value }));
            }
            (OPTIONS, Value::Object(options)) => tools::search(options, body),
            // Text is what it answers anyway.
            ("modalities", Value::Array(kinds)) if kinds.iter().all(|kind| kind == "text") => {}
            (field, _) => lost.push(Loss::dropped(field.to_owned())),
        }
    }
}

fn output(output: &OutputFormat, body: &mut Object, lost: &mut Vec<Loss>) {
    let format = match output {
        OutputFormat::Text => return,
        OutputFormat::JsonObject => json!({ "type": "json_object" }),
        OutputFormat::JsonSchema { name, description, schema, strict: wanted } => {
            let path = || "response_format.json_schema.strict".to_owned();
            let strict = strict(*wanted, Some(schema), path, lost);
            let mut format = Object::new();
            format.insert("type".into(), "json_schema".into());
            format.insert("name".into(), name.as_str().into());
            put(&mut format, "description", description.clone());
            format.insert("schema".into(), schema.clone());
            put(&mut format, "strict", strict);
            Value::Object(format)
        }
        OutputFormat::Other(_) => {
            lost.push(Loss::dropped("response_format"));
            return;
        }
    };
    let text = body.entry("text").or_insert_with(|| json!({}));
    if let Some(text) = text.as_object_mut() {
        text.insert("format".into(), format);
    }
}

fn sampling(asked: &Request, body: &mut Object, include: &mut Vec<Value>, lost: &mut Vec<Loss>) {
    let sampling = &asked.sampling;
    let limit = asked.max_output_tokens.map(|limit| limit.max(LEAST_OUTPUT));
    if limit != asked.max_output_tokens {
        lost.push(Loss::new("max_completion_tokens", format!("raised to {LEAST_OUTPUT}")));
    }
    put(body, "max_output_tokens", limit);
    put(body, "temperature", sampling.temperature);
    put(body, "top_p", sampling.top_p);
    if sampling.logprobs == Some(true) {
        include.push(LOGPROBS.into());
        put(body, "top_logprobs", sampling.top_logprobs);
    }
    let unsaid = [
        ("top_k", sampling.top_k.is_some()),
        ("presence_penalty", sampling.presence_penalty.is_some_and(|penalty| penalty != 0.0)),
        ("frequency_penalty", sampling.frequency_penalty.is_some_and(|penalty| penalty != 0.0)),
        ("seed", sampling.seed.is_some()),
        ("stop", !sampling.stop.is_empty()),
        ("logit_bias", sampling.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty())),
    ];
    lost.extend(unsaid.into_iter().filter(|(_, said)| *said).map(|(path, _)| Loss::dropped(path)));
    if sampling.n.is_some_and(|n| n > 1) {
        lost.push(Loss::new("n", "lowered to 1"));
    }
}

fn think(
    reasoning: &Reasoning,
    model: &str,
    quirks: &QuirkSettings,
    body: &mut Object,
    lost: &mut Vec<Loss>,
) {
    let mut thought = Object::new();
    put(&mut thought, "effort", effort_for(reasoning, model, quirks, lost));
    if never_thinks(model) {
        return;
    }
    // Who sets a budget of thinking, as Anthropic's and Google's clients do, wants to read it.
    let mut shows = reasoning.budget_tokens.is_some_and(|budget| budget > 0);
    for (field, value) in &reasoning.rest {
        match (&**field, value) {
            ("summary" | "generate_summary", Value::String(_)) => {
                thought.insert("summary".into(), value.clone());
            }
            ("includeThoughts" | "include_thoughts", Value::Bool(show)) => shows = *show,
            ("exclude", Value::Bool(hide)) => shows = !hide,
            ("enabled", Value::Bool(true)) | (_, Value::Null) => {}
            _ => lost.push(Loss::dropped(format!("reasoning.{field}"))),
        }
    }
    if shows && !thought.contains_key("summary") && !quirks.lacks.iter().any(|field| field == "summary") {
        thought.insert("summary".into(), "auto".into());
    }
    if !thought.is_empty() {
        body.insert("reasoning".into(), Value::Object(thought));
    }
}

#[cfg(test)]
mod tests;
