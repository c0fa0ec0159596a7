//! The canonical chat request as one of chat v2: <https://docs.cohere.com/reference/chat>

use serde_json::{Value, json};

use super::{messages, model};
use crate::chat::{Loss, Object, OutputFormat, Reasoning, Request, Sampling, ToolChoice, ToolKind};
use crate::fault::Fault;
use crate::json;
use crate::providers::choice::Wish;
use crate::providers::{Outgoing, QuirkSettings, foreign};
use crate::target::TargetName;

/// Fields of Cohere's own that a client of any dialect may add.
const OWN: &[&str] =
    &["safety_mode", "citation_options", "documents", "strict_tools", "priority", "thinking"];

/// The upstream request.
///
/// # Errors
/// `BadRequest` that names the part which Cohere cannot take.
pub(super) fn chat(asked: &Request, target: &TargetName, quirks: &QuirkSettings) -> Result<Outgoing, Fault> {
    let (mut body, mut lost) = (Object::new(), Vec::new());
    body.insert("model".into(), (&*target.model).into());
    let written = messages::write(&asked.messages, &target.model, &mut lost)?;
    body.insert("messages".into(), Value::Array(written.messages));
    body.insert("stream".into(), asked.stream.into());
    tools(asked, &mut body, &mut lost);
    output(&asked.output, &mut body, &mut lost);
    sampling(&asked.sampling, &mut body, &mut lost);
    put(&mut body, "max_tokens", asked.max_output_tokens);
    if let Some(reasoning) = &asked.reasoning {
        think(reasoning, &target.model, &mut body, &mut lost);
    }
    if asked.user.is_some() {
        lost.push(Loss::dropped("user"));
    }
    if !asked.metadata.is_empty() {
        lost.push(Loss::dropped("metadata"));
    }
    for (field, value) in asked.rest.iter().filter(|(_, value)| !value.is_null()) {
        if OWN.contains(&&**field) {
            body.insert(field.clone(), value.clone());
        } else if !foreign::is_usual(field, value) {
            lost.push(Loss::dropped(field.clone()));
        }
    }
    documents(written.documents, &mut body);
    for field in &quirks.drop {
        body.shift_remove(field);
    }
    let path = quirks.chat_path.as_deref().unwrap_or("/chat").to_owned();
    let accept = if asked.stream { "text/event-stream" } else { "application/json" };
    let mut outgoing = Outgoing::json(path, accept, vec![json::object_to_text(&body).into()]);
    outgoing.lost = lost;
    Ok(outgoing)
}

fn put<T: Into<Value>>(body: &mut Object, field: &str, value: Option<T>) {
    if let Some(value) = value {
        body.insert(field.into(), value.into());
    }
}

/// Documents of the conversation stand behind those that the client named by itself.
fn documents(found: Vec<Value>, body: &mut Object) {
    if found.is_empty() {
        return;
    }
    match body.get_mut("documents") {
        Some(Value::Array(known)) => known.extend(found),
        _ => {
            body.insert("documents".into(), Value::Array(found));
        }
    }
}

fn tools(asked: &Request, body: &mut Object, lost: &mut Vec<Loss>) {
    let wish = Wish::read(asked, |tool| tool.kind == ToolKind::Function, lost);
    // One tool alone, and that required, is the same as its name.
    let kept = foreign::functions(&asked.tools, &wish, lost);
    let strict: Vec<bool> = kept.iter().map(|(tool, _)| tool.strict == Some(true)).collect();
    let kept: Vec<Value> = kept.into_iter().map(|(_, written)| written).collect();
    if strict.contains(&true) {
        if strict.contains(&false) {
            lost.push(Loss::new("tools", "all of them strict: this provider knows no strictness of one"));
        }
        body.insert("strict_tools".into(), true.into());
    }
    if kept.is_empty() {
        if wish.forces() {
            lost.push(Loss::dropped("tool_choice"));
        }
        return;
    }
    body.insert("tools".into(), Value::Array(kept));
    match wish.word {
        None | Some(ToolChoice::Auto | ToolChoice::Other(_)) => {}
        Some(ToolChoice::None) => put(body, "tool_choice", Some("NONE")),
        Some(ToolChoice::Required | ToolChoice::Named(_)) => put(body, "tool_choice", Some("REQUIRED")),
    }
    if asked.parallel_tool_calls == Some(false) {
        lost.push(Loss::dropped("parallel_tool_calls"));
    }
}

fn output(output: &OutputFormat, body: &mut Object, lost: &mut Vec<Loss>) {
    let format = match output {
        OutputFormat::Text => return,
        OutputFormat::JsonObject => json!({ "type": "json_object" }),
        OutputFormat::JsonSchema { .. } => {
            json!({ "type": "json_object", "json_schema": output.described_schema() })
        }
        OutputFormat::Other(_) => {
            lost.push(Loss::dropped("response_format"));
            return;
        }
    };
    body.insert("response_format".into(), format);
}

fn sampling(sampling: &Sampling, body: &mut Object, lost: &mut Vec<Loss>) {
    let mut fit = |path: &'static str, value: Option<f64>, least: f64, most: f64| {
        let fitted = value?.clamp(least, most);
        if Some(fitted) != value {
            lost.push(Loss::new(path, format!("became {fitted}")));
        }
        Some(fitted)
    };
    // The bounds of https://docs.cohere.com/reference/chat#request.body
    put(body, "p", fit("top_p", sampling.top_p, 0.01, 0.99));
    put(body, "presence_penalty", fit("presence_penalty", sampling.presence_penalty, 0.0, 1.0));
    put(body, "frequency_penalty", fit("frequency_penalty", sampling.frequency_penalty, 0.0, 1.0));
    put(body, "temperature", sampling.temperature);
    put(body, "k", sampling.top_k.map(|k| k.min(500)));
    if let Some(seed) = sampling.seed {
        if seed < 0 {
            lost.push(Loss::new("seed", "its sign dropped"));
        }
        put(body, "seed", Some(seed.unsigned_abs()));
    }
    if !sampling.stop.is_empty() {
        // https://docs.cohere.com/reference/chat#request.body.stop_sequences
        let kept = sampling.stop.get(..5).unwrap_or(&sampling.stop);
        if kept.len() < sampling.stop.len() {
            lost.push(Loss::new("stop", "cut to the first 5"));
        }
        put(body, "stop_sequences", Some(kept.to_vec()));
    }
    put(body, "logprobs", sampling.logprobs.filter(|wanted| *wanted));
    if sampling.top_logprobs.is_some_and(|n| n > 0) {
        lost.push(Loss::dropped("top_logprobs"));
    }
    if sampling.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty()) {
        lost.push(Loss::dropped("logit_bias"));
    }
    if sampling.n.is_some_and(|n| n > 1) {
        lost.push(Loss::new("n", "became 1"));
    }
}

/// Cohere knows budgets, and whether to think at all.
fn think(reasoning: &Reasoning, name: &str, body: &mut Object, lost: &mut Vec<Loss>) {
    if reasoning.is_unsaid() {
        return;
    }
    if !reasoning.shuns() {
        foreign::lose_effort(reasoning, lost);
    }
    let effort = reasoning.effort.as_deref();
    if !model::thinks(name) {
        if !reasoning.shuns() {
            lost.push(Loss::new("reasoning_effort", "dropped: this model does not think"));
        }
        return;
    }
    let budget = match effort {
        _ if reasoning.shuns() => Some(0),
        _ if reasoning.budget_tokens.is_some() => reasoning.budget_tokens,
        Some("minimal" | "low") => Some(1_024),
        Some("medium") => Some(8_192),
        _ => None,
    };
    let thinking = match budget {
        Some(0) => json!({ "type": "disabled" }),
        Some(budget) => {
            if reasoning.budget_tokens.is_none() {
                lost.push(Loss::new("reasoning_effort", format!("became a budget of {budget} tokens")));
            }
            json!({ "type": "enabled", "token_budget": budget })
        }
        None => json!({ "type": "enabled" }),
    };
    for (field, value) in &reasoning.rest {
        // How OpenAI asks for the summary of thinking, and OpenRouter for any thinking.
        if !matches!((&**field, value), ("summary", _) | ("enabled", Value::Bool(true))) {
            lost.push(Loss::dropped(format!("reasoning.{field}")));
        }
    }
    body.insert("thinking".into(), thinking);
}
