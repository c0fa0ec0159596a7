//! `logprobsResult` in OpenAI's form, which the doors understand.

use serde_json::{Value, json};

/// The log probabilities of a candidate; `None` where there are none.
pub(super) fn read(result: Option<Value>) -> Option<Value> {
    let result = result?;
    let chosen = result.get("chosenCandidates")?.as_array().filter(|list| !list.is_empty())?;
    let top = result.get("topCandidates").and_then(Value::as_array);
    let content: Vec<Value> = chosen
        .iter()
        .enumerate()
        .map(|(place, token)| {
            let others = top.and_then(|top| top.get(place)?.get("candidates")?.as_array());
            let others: Vec<Value> = others.into_iter().flatten().map(entry).collect();
            let mut entry = entry(token);
            if let Value::Object(entry) = &mut entry {
                entry.insert("top_logprobs".into(), Value::Array(others));
            }
            entry
        })
        .collect();
    Some(json!({ "content": content, "refusal": null }))
}

fn entry(token: &Value) -> Value {
    let text = token.get("token").and_then(Value::as_str).unwrap_or_default();
    let logprob = token.get("logProbability").cloned().unwrap_or_else(|| 0.into());
    json!({ "token": text, "logprob": logprob, "bytes": text.as_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_their_alternatives() {
        let result = json!({
            "chosenCandidates": [{"token": "a", "tokenId": 1, "logProbability": -0.1}],
            "topCandidates": [{"candidates": [{"token": "a", "logProbability": -0.1}, {"token": "b", "logProbability": -3}]}],
        });
        let read = read(Some(result)).unwrap();
        assert_eq!(read["content"][0]["logprob"], json!(-0.1));
        assert_eq!(read["content"][0]["top_logprobs"][1]["token"], "b");
        assert_eq!(super::read(Some(json!({}))), None);
    }
}
