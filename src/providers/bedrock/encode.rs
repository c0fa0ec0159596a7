//! The canonical chat request as a Converse request:
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>
//!
//! What a model takes beyond Converse's own fields stands in `additionalModelRequestFields`, in the model's own words.

use serde_json::{Value, json};

use super::model::Model;
use super::think::{self, Forbidden};
use super::{conversation, request, tools};
use crate::chat::{Loss, Object, OutputFormat, Request};
use crate::fault::Fault;
use crate::json;
use crate::providers::foreign::is_usual;
use crate::providers::{Outgoing, QuirkSettings};
use crate::target::TargetName;

/// Fields of Converse's own that a client of another dialect may say all the same.
const OWN_FIELDS: &[&str] = &[
    "guardrailConfig",
    "performanceConfig",
    "requestMetadata",
    "serviceTier",
    "promptVariables",
    "additionalModelResponseFieldPaths",
];

/// Most entries of `requestMetadata`, and the longest text in it.
const MAX_METADATA: usize = 16;
const MAX_METADATA_TEXT: usize = 256;

/// The upstream request.
///
/// # Errors
/// `BadRequest` that names the part which Bedrock cannot carry and which the answer depends on.
pub(super) fn converse(
    asked: &Request,
    target: &TargetName,
    quirks: &QuirkSettings,
) -> Result<Outgoing, Fault> {
    let mut lost = Vec::new();
    let body = body(asked, &target.model, quirks, &mut lost)?;
    let operation = if asked.stream { "converse-stream" } else { "converse" };
    let bytes = json::object_to_text(&body).into();
    let mut outgoing = request::outgoing(&target.model, operation, asked.stream, bytes);
    outgoing.lost = lost;
    Ok(outgoing)
}

fn body(asked: &Request, name: &str, quirks: &QuirkSettings, lost: &mut Vec<Loss>) -> Result<Object, Fault> {
    let model = Model::of(name);
    let conversation::Conversation { mut system, messages, called } =
        conversation::all(&asked.messages, model, lost)?;
    let mut output_config = Object::new();
    output(&asked.output, model, &mut output_config, &mut system, lost);
    let tools = tools::tools(asked, model, &called, lost);
    let thought = think::thought(asked, model, name, lost);
    let mut fields = tools.fields;
    fields.extend(thought.fields);
    if let Some(effort) = thought.effort {
        output_config.insert("effort".into(), effort.into());
    }

    let mut body = Object::new();
    let mut put = |field: &str, value: Value| drop(body.insert(field.into(), value));
    if !system.is_empty() {
        put("system", Value::Array(system));
    }
    put("messages", Value::Array(messages));
    let limit = asked.max_output_tokens.or(thought.max_tokens);
    let config = inference(asked, model, limit, thought.forbids, &mut fields, lost);
    if !config.is_empty() {
        put("inferenceConfig", Value::Object(config));
    }
    if let Some(config) = tools.config {
        put("toolConfig", config);
    }
    if !output_config.is_empty() {
        put("outputConfig", Value::Object(output_config));
    }
    if model.is_claude() && !asked.sampling.stop.is_empty() {
        // Which sequence it was; the second is where a stream has it.
        put("additionalModelResponseFieldPaths", json!(["/stop_sequence", "/delta/stop_sequence"]));
    }
    metadata(asked, &mut body, lost);
    rest(&asked.rest, &mut body, &mut fields, lost);
    if !fields.is_empty() {
        body.insert("additionalModelRequestFields".into(), Value::Object(fields));
    }
    quirks.apply(&mut body);
    Ok(body)
}

fn output(
    output: &OutputFormat,
    model: Model<'_>,
    config: &mut Object,
    system: &mut Vec<Value>,
    lost: &mut Vec<Loss>,
) {
    let mut in_words = |text: String, why: &'static str| {
        system.push(json!({ "text": text }));
        lost.push(Loss::new("response_format", why));
    };
    match output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => in_words(
            "Answer with one JSON object and nothing else: no explanation, no code fence.".to_owned(),
            "asked for in the system prompt",
        ),
        OutputFormat::JsonSchema { name, description, schema, .. } if model.knows_schemas() => {
            // The schema goes as text.
            let mut definition = json!({ "schema": schema.to_string(), "name": name });
            if let Some(description) = description {
                definition["description"] = description.as_str().into();
            }
            let format = json!({ "type": "json_schema", "structure": { "jsonSchema": definition } });
            config.insert("textFormat".into(), format);
        }
        OutputFormat::JsonSchema { schema, .. } => in_words(
            format!(
                "Answer with one JSON value and nothing else: no explanation, no code fence. It must follow this \
                 JSON Schema:\n{schema}"
            ),
            "asked for in the system prompt: this model takes no schema",
        ),
        OutputFormat::Other(_) => lost.push(Loss::dropped("response_format")),
    }
}

/// `inferenceConfig`; what a model takes beyond it goes into `fields`.
fn inference(
    asked: &Request,
    model: Model<'_>,
    limit: Option<u64>,
    forbids: Forbidden,
    fields: &mut Object,
    lost: &mut Vec<Loss>,
) -> Object {
    let mut config = Object::new();
    let wanted = &asked.sampling;
    const THINKING: &str = "not allowed while thinking";
    match limit {
        Some(_) if forbids == Forbidden::All => lost.push(Loss::new("max_tokens", THINKING)),
        Some(limit) => drop(config.insert("maxTokens".into(), limit.into())),
        None => {}
    }
    match wanted.temperature {
        Some(one) if forbids == Forbidden::Sampling && (one - 1.0).abs() <= f64::EPSILON => {}
        Some(_) if forbids != Forbidden::Nothing => lost.push(Loss::new("temperature", THINKING)),
        Some(temperature) if temperature > 1.0 => {
            lost.push(Loss::new("temperature", "lowered to 1"));
            config.insert("temperature".into(), json!(1.0));
        }
        Some(temperature) => drop(config.insert("temperature".into(), temperature.into())),
        None => {}
    }
    // Claude's newer models refuse both; all of the probability is no restriction.
    let says_nothing =
        |top_p: f64| top_p >= 1.0 && (wanted.temperature.is_some() || forbids != Forbidden::Nothing);
    match wanted.top_p {
        Some(top_p) if says_nothing(top_p) => {}
        Some(top_p) if forbids == Forbidden::All || forbids == Forbidden::Sampling && top_p < 0.95 => {
            lost.push(Loss::new("top_p", THINKING));
        }
        Some(top_p) => drop(config.insert("topP".into(), top_p.into())),
        None => {}
    }
    // Sequences of white space alone are refused.
    let (stops, blank): (Vec<&String>, Vec<&String>) =
        wanted.stop.iter().partition(|stop| !stop.trim().is_empty());
    if !blank.is_empty() {
        lost.push(Loss::new("stop", "sequences of white space dropped"));
    }
    if !stops.is_empty() {
        config.insert("stopSequences".into(), stops.into_iter().map(String::as_str).collect());
    }
    match (wanted.top_k, model.top_k()) {
        (Some(_), _) if forbids != Forbidden::Nothing => lost.push(Loss::new("top_k", THINKING)),
        (Some(top_k), _) if model.is_nova() => {
            fields.insert("inferenceConfig".into(), json!({ "topK": top_k }));
        }
        (Some(top_k), Some(name)) => drop(fields.insert(name.into(), top_k.into())),
        (Some(_), None) => lost.push(Loss::dropped("top_k")),
        (None, _) => {}
    }
    own_sampling(asked, model, fields, lost);
    config
}

/// Sampling that few models take, if any.
fn own_sampling(asked: &Request, model: Model<'_>, fields: &mut Object, lost: &mut Vec<Loss>) {
    let wanted = &asked.sampling;
    let numbers = [
        ("presence_penalty", wanted.presence_penalty.filter(|penalty| *penalty != 0.0).map(Value::from)),
        ("frequency_penalty", wanted.frequency_penalty.filter(|penalty| *penalty != 0.0).map(Value::from)),
        ("seed", wanted.seed.map(Value::from)),
    ];
    for (name, value) in numbers {
        match value {
            Some(value) if model.takes_penalties() => drop(fields.insert(name.into(), value)),
            Some(_) => lost.push(Loss::dropped(name)),
            None => {}
        }
    }
    let unsaid = [
        ("logit_bias", wanted.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty())),
        ("logprobs", wanted.logprobs == Some(true)),
        ("top_logprobs", wanted.top_logprobs.is_some_and(|count| count > 0)),
        ("user", asked.user.is_some()),
    ];
    lost.extend(unsaid.into_iter().filter(|(_, said)| *said).map(|(path, _)| Loss::dropped(path)));
    if wanted.n.is_some_and(|n| n > 1) {
        lost.push(Loss::new("n", "lowered to 1"));
    }
}

/// Metadata as `requestMetadata`, which stands in AWS's logs of invocations.
fn metadata(asked: &Request, body: &mut Object, lost: &mut Vec<Loss>) {
    let fits = |text: &str| {
        text.len() <= MAX_METADATA_TEXT
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "_:@$#=/+,-.".contains(c))
    };
    let mut kept = Object::new();
    for (key, value) in &asked.metadata {
        let good = value.as_str().is_some_and(fits) && !key.is_empty() && fits(key);
        if good && kept.len() < MAX_METADATA {
            kept.insert(key.clone(), value.clone());
        } else {
            lost.push(Loss::dropped(format!("metadata.{key}")));
        }
    }
    if !kept.is_empty() {
        body.insert("requestMetadata".into(), Value::Object(kept));
    }
}

/// Fields that the canonical form does not know: Converse's own, and others'.
fn rest(rest: &Object, body: &mut Object, fields: &mut Object, lost: &mut Vec<Loss>) {
    for (field, value) in rest.iter().filter(|(_, value)| !value.is_null()) {
        match (field.as_str(), value) {
            (own, value) if OWN_FIELDS.contains(&own) => drop(body.insert(field.clone(), value.clone())),
            ("additionalModelRequestFields", Value::Object(more)) => fields.extend(more.clone()),
            ("outputConfig", Value::Object(more)) => {
                let config = body.entry("outputConfig").or_insert_with(|| json!({}));
                if let Value::Object(config) = config {
                    config.extend(more.clone());
                }
            }
            ("service_tier", Value::String(tier)) => match tier.as_str() {
                "auto" => {}
                "default" | "flex" | "priority" => {
                    drop(body.insert("serviceTier".into(), json!({ "type": tier })))
                }
                _ => lost.push(Loss::dropped("service_tier")),
            },
            (field, value) if is_usual(field, value) => {}
            _ => lost.push(Loss::dropped(field.clone())),
        }
    }
}

#[cfg(test)]
mod tests;
