//! The canonical chat request as a Converse request:
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>
//!
//! What a model takes beyond Converse's own fields stands in `additionalModelRequestFields`, in the model's own words.

use serde_json::{Value, json};

use super::model::Model;
use super::think::{self, THINKING, Thought};
use super::{conversation, request, tools};
use crate::chat::{Loss, Object, OutputFormat, Request};
use crate::fault::Fault;
use crate::json;
use crate::providers::anthropic::{sampling, schema};
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
    let mut thought = think::thought(asked, model, name, lost);
    let mut fields = tools.fields;
    fields.append(&mut thought.fields);
    output_config.extend(thought.effort.take().map(|effort| ("effort".to_owned(), effort.into())));

    let mut body = Object::new();
    let mut put = |field: &str, value: Value| drop(body.insert(field.into(), value));
    if !system.is_empty() {
        put("system", Value::Array(system));
    }
    put("messages", Value::Array(messages));
    let config = inference(asked, model, &thought, &mut fields, lost);
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
    let mut in_words = |text: String, why: &'static str, lost: &mut Vec<Loss>| {
        system.push(json!({ "text": text }));
        lost.push(Loss::new("response_format", why));
    };
    match output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => in_words(
            "Answer with one JSON object and nothing else: no explanation, no code fence.".to_owned(),
            "asked for in the system prompt",
            lost,
        ),
        OutputFormat::JsonSchema { name, description, schema, .. } => {
            let knows = model.knows_schemas();
            // AWS takes of any model's schemas what Claude takes, and wants them as text.
            // https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html
            let Some(made) = knows.then(|| schema::down(schema, schema::OUTPUT, lost)).flatten() else {
                return in_words(schema::in_words(schema), schema::why_in_words(knows), lost);
            };
            let mut definition = json!({ "schema": made.to_string(), "name": name });
            if let Some(description) = description {
                definition["description"] = description.as_str().into();
            }
            let format = json!({ "type": "json_schema", "structure": { "jsonSchema": definition } });
            config.insert("textFormat".into(), format);
        }
        OutputFormat::Other(_) => lost.push(Loss::dropped("response_format")),
    }
}

/// `inferenceConfig`; what a model takes beyond it goes into `fields`.
fn inference(
    asked: &Request,
    model: Model<'_>,
    thought: &Thought,
    fields: &mut Object,
    lost: &mut Vec<Loss>,
) -> Object {
    let mut config = Object::new();
    let wanted = &asked.sampling;
    match asked.max_output_tokens.or(thought.max_tokens) {
        Some(_) if thought.unlimited => lost.push(Loss::new("max_tokens", THINKING)),
        Some(limit) => drop(config.insert("maxTokens".into(), limit.into())),
        None => {}
    }
    let fitted = sampling::fit(wanted, thought.freedom, lost);
    let numbers = [("temperature", fitted.temperature), ("topP", fitted.top_p)];
    config.extend(numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
    // Sequences of white space alone are refused.
    let (stops, blank): (Vec<&String>, Vec<&String>) =
        wanted.stop.iter().partition(|stop| !stop.trim().is_empty());
    if !blank.is_empty() {
        lost.push(Loss::new("stop", "sequences of white space dropped"));
    }
    if !stops.is_empty() && !model.takes_stops() {
        lost.push(Loss::new("stop", "dropped: this model takes no stop sequences"));
    } else if !stops.is_empty() {
        config.insert("stopSequences".into(), stops.into_iter().map(String::as_str).collect());
    }
    match (fitted.top_k, model.top_k()) {
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
