//! Embeddings of the sandbox: unit vectors that depend on nothing but the text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::ask::Orders;
use super::{LocalAnswer, Problem, headers, ordered, refuse, tokens, whole};

/// As long as those of OpenAI's small model.
const USUAL: usize = 1_536;
const LONGEST: usize = 4_096;
const MOST_INPUTS: usize = 2_048;

/// The answer to `POST /embeddings`.
pub(super) fn answer(body: &Value) -> Result<LocalAnswer, Problem> {
    let mut orders = Orders::default();
    let model = body["model"].as_str().ok_or_else(|| Problem::bad("model", "model is missing"))?;
    let model = orders.take(model);
    let inputs = inputs(&body["input"])?;
    if let Some(Input::Text(last)) = inputs.last() {
        orders.take(last);
    }
    if let Some(problem) = ordered(&orders) {
        return Ok(refuse(&problem, &orders));
    }
    let dimensions = match &body["dimensions"] {
        Value::Null => USUAL,
        given => given
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..=LONGEST).contains(n))
            .ok_or_else(|| {
            Problem::bad("dimensions", format!("dimensions must be from 1 to {LONGEST}"))
        })?,
    };
    let base64 = body["encoding_format"] == "base64";
    let data = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(&input.bytes(), dimensions);
        let embedding = if base64 { json!(encoded(&vector)) } else { json!(vector) };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    let data: Vec<_> = data.collect();
    let used: u64 = inputs.iter().map(Input::tokens).sum();
    let usage = json!({ "prompt_tokens": used, "total_tokens": used });
    let answer = json!({ "object": "list", "data": data, "model": model, "usage": usage });
    Ok(whole(200, headers("application/json"), answer.to_string(), orders.first_byte + orders.delay))
}

enum Input<'a> {
    Text(&'a str),
    Tokens(&'a [Value]),
}

impl Input<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Tokens(ids) => {
                ids.iter().flat_map(|id| id.as_u64().unwrap_or_default().to_le_bytes()).collect()
            }
        }
    }

    fn tokens(&self) -> u64 {
        match self {
            Self::Text(text) => tokens(text.len() as u64),
            Self::Tokens(ids) => ids.len() as u64,
        }
    }
}

/// A text, a list of texts, a list of token ids, or a list of such lists.
fn inputs(input: &Value) -> Result<Vec<Input<'_>>, Problem> {
    let bad = || Problem::bad("input", "input must be a text or a list of texts or tokens that is not empty");
    match input {
        Value::String(text) if !text.is_empty() => Ok(vec![Input::Text(text)]),
        Value::Array(items) if items.len() > MOST_INPUTS => {
            Err(Problem::bad("input", format!("input has more than {MOST_INPUTS} elements")))
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_u64) => {
            Ok(vec![Input::Tokens(items)])
        }
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| match item {
                Value::String(text) if !text.is_empty() => Ok(Input::Text(text)),
                Value::Array(ids) if !ids.is_empty() && ids.iter().all(Value::is_u64) => {
                    Ok(Input::Tokens(ids))
                }
                _ => Err(bad()),
            })
            .collect(),
        _ => Err(bad()),
    }
}

/// `dimensions` numbers of length 1 together, drawn from the hash of `bytes`.
fn vector(bytes: &[u8], dimensions: usize) -> Vec<f32> {
    let mut drawn = vec![0; dimensions * 4];
    blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut drawn);
    let numbers = drawn.chunks_exact(4).map(|four| {
        let number = four.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        f64::from(number) / f64::from(u32::MAX) * 2.0 - 1.0
    });
    let numbers: Vec<f64> = numbers.collect();
    let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    #[allow(clippy::cast_possible_truncation, reason = "embeddings are single precision")]
    numbers.into_iter().map(|number| (number / length) as f32).collect()
}

fn encoded(vector: &[f32]) -> String {
    STANDARD.encode(vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())
}
