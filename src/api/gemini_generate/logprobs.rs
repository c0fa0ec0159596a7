//! Log probabilities of OpenAI's form in Google's: <https://ai.google.dev/api/generate-content#LogprobsResult>

use serde_json::{Value, json};

use crate::chat::Object;

/// `logprobsResult` and `avgLogprobs` of a candidate; none where there are no tokens.
pub(super) fn fields(logprobs: &Value) -> Object {
    let mut fields = Object::new();
    let tokens = ["content", "refusal"].iter().filter_map(|list| logprobs.get(*list)?.as_array()).flatten();
    let tokens: Vec<&Value> = tokens.collect();
    if tokens.is_empty() {
        return fields;
    }
    let chosen: Vec<Value> = tokens.iter().map(|token| entry(token)).collect();
    let top = tokens.iter().map(|token| {
        let others = token.get("top_logprobs").and_then(Value::as_array).into_iter().flatten();
        json!({ "candidates": others.map(entry).collect::<Vec<_>>() })
    });
    let top: Vec<Value> = top.collect();
    let known = tokens.iter().filter_map(|token| token.get("logprob")?.as_f64());
    let (sum, count) = known.fold((0.0, 0.0), |(sum, count), logprob| (sum + logprob, count + 1.0));
    if count > 0.0 {
        fields.insert("avgLogprobs".into(), json!(sum / count));
    }
    let mut result = Object::new();
    if top.iter().any(|top| top["candidates"] != json!([])) {
        result.insert("topCandidates".into(), Value::Array(top));
    }
    result.insert("chosenCandidates".into(), Value::Array(chosen));
    fields.insert("logprobsResult".into(), Value::Object(result));
    fields
}

fn entry(token: &Value) -> Value {
    json!({ "token": token.get("token"), "logProbability": token.get("logprob") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_their_alternatives() {
        let logprobs = json!({"content": [
            {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -2.0}]},
            {"token": "c", "logprob": -1.5, "top_logprobs": []},
        ], "refusal": null});
        let expected = json!({
            "avgLogprobs": -1.0,
            "logprobsResult": {
                "topCandidates": [
                    {"candidates": [{"token": "a", "logProbability": -0.5}, {"token": "b", "logProbability": -2.0}]},
                    {"candidates": []},
                ],
                "chosenCandidates": [{"token": "a", "logProbability": -0.5}, {"token": "c", "logProbability": -1.5}],
            },
        });
        assert_eq!(Value::Object(fields(&logprobs)), expected);
        assert!(fields(&json!({"content": []})).is_empty() && fields(&json!(null)).is_empty());
    }
}
