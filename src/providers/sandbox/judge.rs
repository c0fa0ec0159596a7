//! Judgement of the sandbox: a category is flagged where its own name stands in the text.

use serde_json::{Map, Value, json};

use super::ask::Orders;
use super::{LocalAnswer, Problem, fingerprint, headers, ordered, refuse, whole};

/// <https://platform.openai.com/docs/guides/moderation#content-classifications>
const CATEGORIES: &[&str] = &[
    "harassment",
    "harassment/threatening",
    "sexual",
    "sexual/minors",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "violence",
    "violence/graphic",
];

/// The answer to `POST /moderations`.
pub(super) fn answer(body: &Value) -> Result<LocalAnswer, Problem> {
    let mut orders = Orders::default();
    let model = orders.take(body["model"].as_str().unwrap_or("moderation"));
    let mut inputs = inputs(&body["input"])?;
    if let Some((last, _)) = inputs.last_mut() {
        *last = orders.take(last);
    }
    if let Some(problem) = ordered(&orders) {
        return Ok(refuse(&problem, &orders));
    }
    let results: Vec<Value> = inputs.iter().map(|(text, kinds)| judge(text, kinds)).collect();
    let id = format!("modr-sandbox-{}", fingerprint(body.to_string().as_bytes()));
    let answer = json!({ "id": id, "model": model, "results": results });
    Ok(whole(200, headers("application/json"), answer.to_string(), orders.first_byte + orders.delay))
}

/// Each text to be judged, with the types of its parts.
fn inputs(input: &Value) -> Result<Vec<(String, Vec<&'static str>)>, Problem> {
    let bad = || Problem::bad("input", "input must be a text, a list of texts, or a list of typed parts");
    match input {
        Value::String(text) => Ok(vec![(text.clone(), vec!["text"])]),
        Value::Array(list) if list.first().is_some_and(Value::is_string) => {
            let text = |item: &Value| item.as_str().map(|text| (text.to_owned(), vec!["text"]));
            list.iter().map(|item| text(item).ok_or_else(bad)).collect()
        }
        Value::Array(list) if !list.is_empty() => {
            let (mut texts, mut kinds) = (Vec::new(), Vec::new());
            for part in list {
                let kind = match part["type"].as_str() {
                    Some("text") => "text",
                    Some("image_url") => "image",
                    _ => return Err(bad()),
                };
                texts.extend(part["text"].as_str());
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            Ok(vec![(texts.join("\n"), kinds)])
        }
        _ => Err(bad()),
    }
}

fn judge(text: &str, kinds: &[&str]) -> Value {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '/')).collect();
    let (mut flags, mut scores, mut types) = (Map::new(), Map::new(), Map::new());
    for category in CATEGORIES {
        let flag = words.iter().any(|word| {
            word.strip_prefix(category).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        flags.insert((*category).into(), flag.into());
        scores.insert((*category).into(), if flag { 0.99 } else { 0.001 }.into());
        types.insert((*category).into(), json!(kinds));
    }
    let flagged = flags.values().any(|flag| *flag == true);
    json!({
        "flagged": flagged,
        "categories": flags,
        "category_scores": scores,
        "category_applied_input_types": types,
    })
}
