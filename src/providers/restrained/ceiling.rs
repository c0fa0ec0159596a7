//! The most tokens that may be asked for, put into requests: into the canonical form, or into a client's own bytes.

use serde_json::{Map, Value, json};

use crate::chat::Request;
use crate::fault::{Fault, FaultKind};
use crate::json::{Body, Splice};
use crate::providers::Dialect;

/// Thinking with fewer tokens than these is refused by Anthropic.
/// <https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking>
const LEAST_THINKING: u64 = 1_024;

/// Lowers what a request asks for.
pub(super) fn lower(request: &mut Request, most: u64) {
    request.max_output_tokens = Some(request.max_output_tokens.map_or(most, |asked| asked.min(most)));
    if let Some(reasoning) = &mut request.reasoning
        && let Some(budget) = reasoning.budget_tokens
        && budget >= most
    {
        match thinking(most) {
            Some(budget) => reasoning.budget_tokens = Some(budget),
            None => request.reasoning = None,
        }
    }
}

/// The client's body with what it asks for lowered; `None` when it asks for no more than it may. `legacy` bodies are
/// those of text completions.
///
/// # Errors
/// A body that cannot be changed, which is a defect.
pub(super) fn lowered(body: &Body, dialect: Dialect, legacy: bool, most: u64) -> Result<Option<Body>, Fault> {
    let mut splice = Splice::new(body);
    let changed = match dialect {
        Dialect::OpenAi if legacy => top(&mut splice, body, &["max_tokens"], most),
        Dialect::OpenAi => top(&mut splice, body, &["max_completion_tokens", "max_tokens"], most),
        Dialect::Responses => top(&mut splice, body, &["max_output_tokens"], most),
        Dialect::Cohere => top(&mut splice, body, &["max_tokens"], most),
        Dialect::Anthropic => {
            let thinks = think_less(&mut splice, body, most);
            top(&mut splice, body, &["max_tokens"], most) || thinks
        }
        Dialect::Gemini => {
            let outer = if body.has("generation_config") { "generation_config" } else { "generationConfig" };
            nested(&mut splice, body, outer, &["maxOutputTokens", "max_output_tokens"], most)
        }
        Dialect::Bedrock => nested(&mut splice, body, "inferenceConfig", &["maxTokens"], most),
        Dialect::Ollama => nested(&mut splice, body, "options", &["num_predict"], most),
    };
    if !changed {
        return Ok(None);
    }
    let bytes = splice.finish().concat();
    Body::read(bytes.into()).map(Some).map_err(|fault| {
        Fault::new(
            FaultKind::Internal,
            format!("a limit could not be put into the request: {}", fault.message),
        )
    })
}

/// Every field of these that is there is lowered; if none is, the first is added.
fn top(splice: &mut Splice<'_>, body: &Body, fields: &[&str], most: u64) -> bool {
    let mut seen = false;
    let mut changed = false;
    for field in fields {
        match body.raw(field) {
            None | Some("null") => {}
            Some(_) => {
                seen = true;
                // What is no whole number is refused by the provider.
                if body.u64(field).is_some_and(|asked| asked > most) {
                    splice.set(field, most.to_string());
                    changed = true;
                }
            }
        }
    }
    if !seen && let Some(first) = fields.first() {
        splice.set(first, most.to_string());
        changed = true;
    }
    changed
}

fn nested(splice: &mut Splice<'_>, body: &Body, outer: &str, fields: &[&str], most: u64) -> bool {
    let mut object: Map<String, Value> =
        body.raw(outer).and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
    let there: Vec<&&str> =
        fields.iter().filter(|field| object.get(**field).is_some_and(|v| !v.is_null())).collect();
    let within = |field: &&&str| {
        // Ollama's -1 and -2 mean no limit.
        object.get(**field).and_then(Value::as_u64).is_some_and(|asked| asked <= most)
    };
    if !there.is_empty() && there.iter().all(&within) {
        return false;
    }
    let over: Vec<String> = match (there.is_empty(), fields.first()) {
        (true, Some(first)) => vec![(*first).to_owned()],
        _ => there.iter().filter(|field| !within(field)).map(|field| (**field).to_string()).collect(),
    };
    for field in over {
        object.insert(field, most.into());
    }
    splice.set(outer, Value::Object(object).to_string());
    true
}

/// Anthropic wants fewer tokens for thinking than in all.
fn think_less(splice: &mut Splice<'_>, body: &Body, most: u64) -> bool {
    let Some(mut thinking_field) =
        body.raw("thinking").and_then(|raw| serde_json::from_str::<Map<String, Value>>(raw).ok())
    else {
        return false;
    };
    let budget = thinking_field.get("budget_tokens").and_then(Value::as_u64);
    if budget.is_none_or(|budget| budget < most) {
        return false;
    }
    match thinking(most) {
        Some(budget) => {
            thinking_field.insert("budget_tokens".to_owned(), budget.into());
        }
        None => {
            thinking_field = Map::new();
            thinking_field.insert("type".to_owned(), json!("disabled"));
        }
    }
    splice.set("thinking", Value::Object(thinking_field).to_string());
    true
}

/// Tokens for thinking where so many are allowed in all: half, if that is enough to think at all.
fn thinking(most: u64) -> Option<u64> {
    Some(most / 2).filter(|budget| *budget >= LEAST_THINKING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dialect: Dialect, given: &str, expected: Option<&str>) {
        let body = Body::read(given.to_owned().into()).unwrap();
        let lowered = lowered(&body, dialect, false, 100).unwrap();
        let text = lowered.map(|body| String::from_utf8(body.bytes().to_vec()).unwrap());
        assert_eq!(text.as_deref(), expected, "{dialect:?} {given}");
    }

    #[test]
    fn limits_stand_where_each_dialect_wants_them() {
        use Dialect::*;
        for (dialect, given, expected) in [
            (OpenAi, r#"{"model":"m"}"#, Some(r#"{"model":"m","max_completion_tokens":100}"#)),
            (OpenAi, r#"{"max_tokens":50}"#, None),
            (OpenAi, r#"{"max_tokens":5000}"#, Some(r#"{"max_tokens":100}"#)),
            (OpenAi, r#"{"max_tokens":null}"#, Some(r#"{"max_tokens":null,"max_completion_tokens":100}"#)),
            (OpenAi, r#"{"max_completion_tokens":101}"#, Some(r#"{"max_completion_tokens":100}"#)),
            (Responses, r#"{"input":"x"}"#, Some(r#"{"input":"x","max_output_tokens":100}"#)),
            (Anthropic, r#"{"max_tokens":4096}"#, Some(r#"{"max_tokens":100}"#)),
            (
                Anthropic,
                r#"{"max_tokens":4096,"thinking":{"type":"enabled","budget_tokens":2048}}"#,
                Some(r#"{"max_tokens":100,"thinking":{"type":"disabled"}}"#),
            ),
            (
                Gemini,
                r#"{"contents":[]}"#,
                Some(r#"{"contents":[],"generationConfig":{"maxOutputTokens":100}}"#),
            ),
            (
                Gemini,
                r#"{"generationConfig":{"maxOutputTokens":900,"topK":1}}"#,
                Some(r#"{"generationConfig":{"maxOutputTokens":100,"topK":1}}"#),
            ),
            (Gemini, r#"{"generationConfig":{"maxOutputTokens":90}}"#, None),
            (Bedrock, "{}", Some(r#"{"inferenceConfig":{"maxTokens":100}}"#)),
            (Ollama, r#"{"options":{"num_predict":-1}}"#, Some(r#"{"options":{"num_predict":100}}"#)),
        ] {
            check(dialect, given, expected);
        }
    }

    #[test]
    fn thinking_fits_into_what_is_allowed() {
        assert_eq!(thinking(4_096), Some(2_048));
        assert_eq!(thinking(2_047), None);
    }
}
