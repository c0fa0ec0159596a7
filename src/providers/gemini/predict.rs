//! Embeddings on Vertex AI: `:predict` for text models, `:embedContent` for Gemini's since the second.
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api>

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::embeddings;
use super::{fault, request};
use crate::chat::{Loss, Object, Usage};
use crate::fault::Fault;
use crate::providers::vectors::{self, Vectors};
use crate::providers::{ClientBody, Outgoing, QuirkSettings, Relayed};
use crate::target::TargetName;

/// OpenAI's request for this model's method.
///
/// # Errors
/// `BadRequest` for inputs that are token ids, and for several inputs where the model takes one.
pub(super) fn request(
    body: &ClientBody,
    target: &TargetName,
    quirks: &QuirkSettings,
) -> Result<Outgoing, Fault> {
    let texts = embeddings::texts(body)?;
    let dimensions = body.u64("dimensions").map(Value::from);
    let task = vectors::task(body);
    let (method, sent) = if takes_content(&target.model) {
        let [text] = texts.as_slice() else {
            return Err(Fault::bad_request("this model embeds one text at a time on Vertex AI", "input"));
        };
        let mut ask = Object::new();
        ask.insert("content".into(), json!({ "parts": [{ "text": text }] }));
        let mut config = Object::new();
        config.extend(dimensions.map(|value| ("outputDimensionality".to_owned(), value)));
        config.extend(task.map(|task| ("taskType".to_owned(), Value::from(&*task))));
        if !config.is_empty() {
            ask.insert("embedContentConfig".into(), Value::Object(config));
        }
        ("embedContent", Value::Object(ask))
    } else {
        let instance = |text: &String| match &task {
            Some(task) => json!({ "content": text, "task_type": &**task }),
            None => json!({ "content": text }),
        };
        let instances: Vec<Value> = texts.iter().map(instance).collect();
        let mut ask = Object::new();
        ask.insert("instances".into(), Value::Array(instances));
        if let Some(dimensions) = dimensions {
            ask.insert("parameters".into(), json!({ "outputDimensionality": dimensions }));
        }
        ("predict", Value::Object(ask))
    };
    let path = request::path(quirks, &target.model, method);
    let mut outgoing = request::outgoing(path, false, vec![sent.to_string().into()]);
    outgoing.lost = embeddings::unknown(body).map(Loss::dropped).collect();
    Ok(outgoing)
}

/// Gemini's embedding models since the second have no `:predict`.
pub(super) fn takes_content(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    name.strip_prefix("gemini-embedding-").is_some_and(|version| !version.starts_with("00"))
}

/// Vertex AI's answer in OpenAI's form.
pub(super) fn answer(body: &Bytes, base64: bool) -> Result<Relayed, Fault> {
    let Ok(wire) = serde_json::from_slice::<Wire<'_>>(body) else {
        return embeddings::answer(body, base64);
    };
    let Some(predictions) = wire.predictions else { return embeddings::answer(body, base64) };
    let mut vectors = Vectors::new(body.len());
    let mut counted = 0.0_f64;
    for prediction in &predictions {
        let made = prediction
            .embeddings
            .as_ref()
            .ok_or_else(|| fault::malformed("the provider's prediction is no embedding"))?;
        counted += made.statistics.as_ref().and_then(|s| s.token_count).unwrap_or_default();
        vectors.push(made.values, base64)?;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of tokens")]
    let usage = Usage { input: counted.max(0.0) as u64, ..Usage::default() };
    Ok(vectors.finish("", Some(usage)))
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    predictions: Option<Vec<Prediction<'a>>>,
}

#[derive(Deserialize)]
struct Prediction<'a> {
    #[serde(borrow)]
    embeddings: Option<Made<'a>>,
}

#[derive(Deserialize)]
struct Made<'a> {
    #[serde(borrow)]
    values: &'a RawValue,
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    /// Sometimes written as `4.0`.
    token_count: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn asked(model: &str, body: Value) -> Result<(String, Value), Fault> {
        let body = json::Body::read(body.to_string().into()).unwrap();
        let target = TargetName { provider: "vertex".into(), model: model.into() };
        let outgoing = request(&body, &target, &QuirkSettings::default())?;
        Ok((outgoing.path, serde_json::from_slice(&outgoing.body.concat()).unwrap()))
    }

    #[test]
    fn each_model_has_its_method() {
        assert_eq!(
            asked("text-embedding-005", json!({"input": ["a", "b"], "dimensions": 8})).unwrap(),
            (
                "/models/text-embedding-005:predict".into(),
                json!({"instances": [{"content": "a"}, {"content": "b"}], "parameters": {"outputDimensionality": 8}})
            )
        );
        assert_eq!(
            asked("gemini-embedding-001", json!({"input": "a", "task_type": "RETRIEVAL_QUERY"})).unwrap().1,
            json!({"instances": [{"content": "a", "task_type": "RETRIEVAL_QUERY"}]})
        );
        assert_eq!(
            asked("gemini-embedding-2-preview", json!({"input": "a", "dimensions": 8})).unwrap(),
            (
                "/models/gemini-embedding-2-preview:embedContent".into(),
                json!({"content": {"parts": [{"text": "a"}]}, "embedContentConfig": {"outputDimensionality": 8}})
            )
        );
        assert!(asked("gemini-embedding-2-preview", json!({"input": ["a", "b"]})).is_err());
        assert!(asked("text-embedding-005", json!({"input": [1, 2]})).is_err());
    }

    #[test]
    fn predictions_become_vectors() {
        let body = Bytes::from_static(
            br#"{"predictions":[{"embeddings":{"values":[0.5,-1],"statistics":{"token_count":4.0,"truncated":false}}},
                {"embeddings":{"values":[2],"statistics":{"token_count":3}}}],"metadata":{}}"#,
        );
        let relayed = answer(&body, false).unwrap();
        let said: Value = serde_json::from_slice(&relayed.body).unwrap();
        assert_eq!(said["data"][0]["embedding"], json!([0.5, -1]));
        assert_eq!(said["data"][1]["index"], 1);
        assert_eq!(said["usage"]["prompt_tokens"], 7);
        let single =
            Bytes::from_static(br#"{"embedding":{"values":[1]},"usageMetadata":{"promptTokenCount":2}}"#);
        assert_eq!(answer(&single, false).unwrap().usage.unwrap().input, 2);
        for broken in
            ["", "{}", r#"{"predictions":[{}]}"#, r#"{"predictions":[{"embeddings":{"values":"x"}}]}"#]
        {
            assert!(answer(&Bytes::from(broken), false).is_err(), "{broken}");
        }
    }
}
