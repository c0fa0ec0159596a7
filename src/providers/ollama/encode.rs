//! The canonical chat request as one of `/api/chat`: <https://docs.ollama.com/api/chat>

use serde_json::Value;

use super::messages;
use crate::chat::{Loss, Object, OutputFormat, Reasoning, Request, ToolChoice, ToolKind};
use crate::fault::Fault;
use crate::json;
use crate::providers::choice::Wish;
use crate::providers::{Outgoing, QuirkSettings, foreign};
use crate::target::TargetName;

/// Options of the runner that a client may name beside its own dialect's fields.
/// <https://docs.ollama.com/modelfile#valid-parameters-and-values>
const OPTIONS: &[&str] = &[
    "num_ctx",
    "num_keep",
    "num_predict",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "numa",
    "use_mmap",
    "use_mlock",
    "low_vram",
    "min_p",
    "typical_p",
    "tfs_z",
    "repeat_last_n",
    "repeat_penalty",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "penalize_newline",
    "draft_num_predict",
];

/// Fields of Ollama's own that stand beside the options.
const OWN: &[&str] = &["keep_alive", "think", "truncate", "shift"];

/// The upstream request.
///
/// # Errors
/// `BadRequest` that names the part which Ollama cannot take.
pub(super) fn chat(asked: &Request, target: &TargetName, quirks: &QuirkSettings) -> Result<Outgoing, Fault> {
    let (mut body, mut lost) = (Object::new(), Vec::new());
    body.insert("model".into(), (&*target.model).into());
    body.insert("messages".into(), Value::Array(messages::write(&asked.messages, &mut lost)?));
    // Ollama streams unless it is told not to.
    body.insert("stream".into(), asked.stream.into());
    tools(asked, &mut body, &mut lost);
    output(&asked.output, &mut body, &mut lost);
    if let Some(reasoning) = &asked.reasoning {
        put(&mut body, "think", think(reasoning, &target.model, &mut lost));
    }
    put(&mut body, "logprobs", asked.sampling.logprobs.filter(|wanted| *wanted));
    put(&mut body, "top_logprobs", asked.sampling.top_logprobs.filter(|n| *n > 0));
    let mut options = options(asked, &mut lost);
    for (field, value) in asked.rest.iter().filter(|(_, value)| !value.is_null()) {
        match (&**field, value) {
            ("options", Value::Object(own)) => options.extend(own.clone()),
            (field, value) if OPTIONS.contains(&field) => {
                options.insert(field.into(), value.clone());
            }
            (field, value) if OWN.contains(&field) => {
                body.insert(field.into(), value.clone());
            }
            (field, value) if foreign::is_usual(field, value) => {}
            (field, _) => lost.push(Loss::dropped(field.to_owned())),
        }
    }
    defaults(quirks, &mut body, &mut options);
    if !options.is_empty() {
        body.insert("options".into(), Value::Object(options));
    }
    let path = quirks.chat_path.as_deref().unwrap_or("/api/chat").to_owned();
    let accept = if asked.stream { "application/x-ndjson" } else { "application/json" };
    let mut outgoing = Outgoing::json(path, accept, vec![json::object_to_text(&body).into()]);
    outgoing.lost = lost;
    Ok(outgoing)
}

/// What the configuration says where the client does not; `options` is filled one by one.
pub(super) fn defaults(quirks: &QuirkSettings, body: &mut Object, options: &mut Object) {
    for (field, value) in &quirks.defaults {
        match (&**field, value) {
            ("options", Value::Object(usual)) => {
                for (key, value) in usual {
                    options.entry(key).or_insert_with(|| value.clone());
                }
            }
            _ => {
                body.entry(field).or_insert_with(|| value.clone());
            }
        }
    }
    for field in &quirks.drop {
        body.shift_remove(field);
    }
}

fn put<T: Into<Value>>(body: &mut Object, field: &str, value: Option<T>) {
    if let Some(value) = value {
        body.insert(field.into(), value.into());
    }
}

/// Ollama has no choice of tools: what it must not call is not offered.
fn tools(asked: &Request, body: &mut Object, lost: &mut Vec<Loss>) {
    if asked.tool_choice == Some(ToolChoice::None) {
        return;
    }
    let wish = Wish::read(asked, |tool| tool.kind == ToolKind::Function, lost);
    let kept = foreign::functions(&asked.tools, &wish, lost);
    for (tool, _) in kept.iter().filter(|(tool, _)| tool.strict == Some(true)) {
        lost.push(Loss::new("tools", format!("`{}` is not strict here", tool.name)));
    }
    let kept: Vec<Value> = kept.into_iter().map(|(_, written)| written).collect();
    if !kept.is_empty() {
        body.insert("tools".into(), Value::Array(kept));
    }
    match wish.word {
        None | Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Other(_)) => {}
        Some(ToolChoice::Named(_)) => {
            lost.push(Loss::new("tool_choice", "only this tool is offered, but it is not required"));
        }
        Some(ToolChoice::Required) => lost.push(Loss::dropped("tool_choice")),
    }
    if asked.parallel_tool_calls == Some(false) {
        lost.push(Loss::dropped("parallel_tool_calls"));
    }
}

fn output(output: &OutputFormat, body: &mut Object, lost: &mut Vec<Loss>) {
    match output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => put(body, "format", Some("json")),
        OutputFormat::JsonSchema { .. } => put(body, "format", Some(output.described_schema())),
        OutputFormat::Other(_) => lost.push(Loss::dropped("response_format")),
    }
}

/// Ollama takes a truth; a level from gpt-oss alone: <https://docs.ollama.com/capabilities/thinking>
fn think(reasoning: &Reasoning, model: &str, lost: &mut Vec<Loss>) -> Option<Value> {
    for (field, value) in &reasoning.rest {
        // How OpenAI asks for the summary of thinking, and OpenRouter for any thinking.
        if !matches!((&**field, value), ("summary", _) | ("enabled", Value::Bool(true))) {
            lost.push(Loss::dropped(format!("reasoning.{field}")));
        }
    }
    if reasoning.shuns() {
        return Some(false.into());
    }
    foreign::lose_effort(reasoning, lost);
    if let Some(budget) = reasoning.budget_tokens {
        if budget > 0 {
            lost.push(Loss::dropped("reasoning.budget_tokens"));
        }
        return Some((budget > 0).into());
    }
    let level = match reasoning.effort.as_deref()? {
        "minimal" | "low" => "low",
        "medium" => "medium",
        _ => "high",
    };
    if !model.contains("gpt-oss") {
        lost.push(Loss::new("reasoning_effort", "became thinking: this model knows no levels"));
        return Some(true.into());
    }
    if reasoning.effort.as_deref() != Some(level) {
        lost.push(Loss::new("reasoning_effort", format!("became {level}")));
    }
    Some(level.into())
}

fn options(asked: &Request, lost: &mut Vec<Loss>) -> Object {
    let sampling = &asked.sampling;
    let mut options = Object::new();
    put(&mut options, "num_predict", asked.max_output_tokens);
    put(&mut options, "temperature", sampling.temperature);
    put(&mut options, "top_p", sampling.top_p);
    put(&mut options, "top_k", sampling.top_k);
    put(&mut options, "presence_penalty", sampling.presence_penalty);
    put(&mut options, "frequency_penalty", sampling.frequency_penalty);
    put(&mut options, "seed", sampling.seed);
    if !sampling.stop.is_empty() {
        put(&mut options, "stop", Some(sampling.stop.clone()));
    }
    if sampling.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty()) {
        lost.push(Loss::dropped("logit_bias"));
    }
    if sampling.n.is_some_and(|n| n > 1) {
        lost.push(Loss::new("n", "became 1"));
    }
    if asked.user.is_some() {
        lost.push(Loss::dropped("user"));
    }
    if !asked.metadata.is_empty() {
        lost.push(Loss::dropped("metadata"));
    }
    options
}
