//! Embeddings by `InvokeModel`: Amazon's Titan, and Cohere's.
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html>,
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html>

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{fault, request};
use crate::chat::{Loss, Object, Usage};
use crate::fault::{Fault, Retry};
use crate::json;
use crate::providers::meter::counted_beside;
use crate::providers::{ClientBody, Outgoing, Relayed, vectors};
use crate::target::TargetName;

/// Most texts of one call to Cohere's models.
const MAX_COHERE: usize = 96;

/// Fields of the models' own that a client may say all the same.
const OWN: &[&str] = &["truncate", "normalize"];

/// OpenAI's request in the words of the model.
///
/// # Errors
/// `BadRequest` for token ids, for more texts than the model takes in one call, and for models of other vendors.
pub(super) fn request(body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
    let texts = texts(body)?;
    let own = target.model.rsplit('/').next().unwrap_or(&target.model);
    let is_coheres = own.contains("cohere.");
    let mut asked = if is_coheres { cohere(texts, body)? } else { titan(texts, own, body)? };
    for field in OWN {
        if let Some(value) = body.raw(field).and_then(|raw| serde_json::from_str::<Value>(raw).ok()) {
            asked.insert((*field).to_owned(), value);
        }
    }
    let bytes = Value::Object(asked).to_string().into();
    let mut outgoing = request::outgoing(&target.model, "invoke", false, bytes);
    let purpose = vectors::input_type(body).filter(|_| is_coheres);
    let known = |key: &str| {
        matches!(key, "model" | "input" | "dimensions" | "encoding_format")
            || OWN.contains(&key)
            || (key == "input_type" || vectors::is_task(key)) && purpose.is_some()
    };
    let unknown = body.fields().iter().filter(|field| !known(&field.key) && body.has(&field.key));
    outgoing.lost = unknown.map(|field| Loss::dropped(field.key.to_string())).collect();
    Ok(outgoing)
}

fn texts(body: &ClientBody) -> Result<Vec<String>, Fault> {
    let raw = body.raw("input").unwrap_or_default();
    let tokens = || Fault::bad_request("this model's provider takes text, not token ids", "input");
    match json::text(raw) {
        Some(text) => Ok(vec![text.into_owned()]),
        None => json::elements(raw)
            .map(|element| json::text(element).map(|text| text.into_owned()).ok_or_else(tokens))
            .collect(),
    }
}

fn cohere(texts: Vec<String>, body: &ClientBody) -> Result<Object, Fault> {
    if texts.len() > MAX_COHERE {
        let message = format!("this model takes at most {MAX_COHERE} texts in one call");
        return Err(Fault::bad_request(message, "input").retry(Retry::Elsewhere));
    }
    let mut asked = Object::new();
    // The model insists on a purpose; clients of OpenAI's do not know of it.
    let images = texts.iter().filter(|input| vectors::is_image(input)).count();
    let (field, usual) = match images {
        0 => ("texts", "search_document"),
        n if n == texts.len() => ("images", "image"),
        _ => {
            let message = "this model takes texts or pictures in one call, not both";
            return Err(Fault::bad_request(message, "input").retry(Retry::Elsewhere));
        }
    };
    asked.insert(field.into(), texts.into());
    asked.insert("input_type".into(), vectors::input_type(body).as_deref().unwrap_or(usual).into());
    if let Some(dimensions) = body.u64("dimensions") {
        asked.insert("output_dimension".into(), dimensions.into());
        asked.insert("embedding_types".into(), json!(["float"]));
    }
    Ok(asked)
}

fn titan(mut texts: Vec<String>, model: &str, body: &ClientBody) -> Result<Object, Fault> {
    if !model.contains("titan-embed") && !model.is_empty() && model.contains('.') {
        let message = "this provider makes embeddings with Amazon's Titan and Cohere's models only";
        return Err(Fault::bad_request(message, "model").retry(Retry::Elsewhere));
    }
    let text = match (texts.pop(), texts.is_empty()) {
        (Some(text), true) => text,
        _ => {
            let message = "this model takes one text in one call: send the texts one by one";
            return Err(Fault::bad_request(message, "input").retry(Retry::Elsewhere));
        }
    };
    let mut asked = Object::new();
    // Bytes without the `data:` URL around them.
    match text.split_once(";base64,").filter(|_| vectors::is_image(&text)) {
        Some((_, picture)) if model.contains("embed-image") => {
            asked.insert("inputImage".into(), picture.into());
        }
        Some(_) => {
            let message = "this model embeds text, not pictures";
            return Err(Fault::bad_request(message, "input").retry(Retry::Elsewhere));
        }
        None => {
            asked.insert("inputText".into(), text.as_str().into());
        }
    }
    match body.u64("dimensions") {
        Some(length) if model.contains("embed-image") => {
            asked.insert("embeddingConfig".into(), json!({ "outputEmbeddingLength": length }));
        }
        Some(dimensions) => drop(asked.insert("dimensions".into(), dimensions.into())),
        None => {}
    }
    Ok(asked)
}

/// The model's answer in OpenAI's form.
pub(super) fn answer(body: &Bytes, base64: bool) -> Result<Relayed, Fault> {
    let Ok(wire) = serde_json::from_slice::<Wire<'_>>(body) else {
        return Err(match serde_json::from_slice::<Value>(body) {
            Ok(value) => fault::inside_success(&value),
            Err(_) => fault::malformed("the provider's embeddings are not JSON"),
        });
    };
    let many: Vec<&RawValue> = match (wire.embedding, wire.embeddings) {
        (Some(one), _) => vec![one],
        (None, Some(Many::List(list))) => list,
        (None, Some(Many::Typed { float })) => float,
        (None, None) => {
            let value = serde_json::from_slice::<Value>(body).unwrap_or_default();
            return Err(fault::inside_success(&value));
        }
    };
    let counted = wire.input_text_token_count.or(wire.metrics.map(|metrics| metrics.input_token_count));
    let usage = counted.map(|input| Usage { input, ..Usage::default() });
    vectors::answer(many.into_iter(), "", usage, base64)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    /// Titan's one vector.
    #[serde(borrow, default)]
    embedding: Option<&'a RawValue>,
    /// Cohere's vectors.
    #[serde(borrow, default)]
    embeddings: Option<Many<'a>>,
    #[serde(default)]
    input_text_token_count: Option<u64>,
    /// What the answer's headers counted, see [`with_metrics`].
    #[serde(rename = "amazon-bedrock-invocationMetrics", default)]
    metrics: Option<Metrics>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    input_token_count: u64,
}

/// An answer of `InvokeModel` with what its headers count, where the last message of a stream tells it.
pub(super) fn with_metrics(body: Bytes, headers: &HeaderMap) -> Bytes {
    let counted = counted_beside(headers).filter(|_| !body.trim_ascii().ends_with(b"{}"));
    let (Some(counted), Some(object)) = (counted, body.trim_ascii().strip_suffix(b"}")) else { return body };
    let metrics = json!({ "inputTokenCount": counted.input, "outputTokenCount": counted.output });
    let tail = format!(",\"amazon-bedrock-invocationMetrics\":{metrics}}}");
    [object, tail.as_bytes()].concat().into()
}

enum Many<'a> {
    List(Vec<&'a RawValue>),
    /// By type of number, where the request named types.
    Typed {
        float: Vec<&'a RawValue>,
    },
}

impl<'de: 'a, 'a> Deserialize<'de> for Many<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Typed<'a> {
            #[serde(borrow)]
            float: Vec<&'a RawValue>,
        }
        // Untagged enums cannot hold raw values.
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let read = if raw.starts_with('[') {
            serde_json::from_str(raw).map(Self::List)
        } else {
            serde_json::from_str(raw).map(|Typed { float }| Self::Typed { float })
        };
        read.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(model: &str, body: &Value) -> Result<(String, Value, Vec<Loss>), Fault> {
        let body = json::Body::read(body.to_string().into()).unwrap();
        let outgoing = request(&body, &TargetName::parse(&format!("b/{model}")).unwrap())?;
        let sent = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        Ok((outgoing.path, sent, outgoing.lost))
    }

    #[test]
    fn every_model_is_asked_in_its_own_words() {
        let (path, sent, lost) = asked(
            "amazon.titan-embed-text-v2:0",
            &json!({"model": "m", "input": ["a"], "dimensions": 256, "normalize": true, "user": "u"}),
        )
        .unwrap();
        assert_eq!(path, "/model/amazon.titan-embed-text-v2%3A0/invoke");
        assert_eq!(sent, json!({"inputText": "a", "dimensions": 256, "normalize": true}));
        assert_eq!(lost, [Loss::dropped("user")]);

        let (_, sent, _) =
            asked("cohere.embed-english-v3", &json!({"model": "m", "input": ["a", "b"]})).unwrap();
        assert_eq!(sent, json!({"texts": ["a", "b"], "input_type": "search_document"}));
        let query = json!({"model": "m", "input": "a", "input_type": "search_query", "dimensions": 512});
        let (_, sent, _) = asked("us.cohere.embed-v4:0", &query).unwrap();
        let expected = json!({"texts": ["a"], "input_type": "search_query", "output_dimension": 512, "embedding_types": ["float"]});
        assert_eq!(sent, expected);
        let task = json!({"model": "m", "input": "a", "task_type": "RETRIEVAL_QUERY"});
        let (_, sent, lost) = asked("cohere.embed-english-v3", &task).unwrap();
        assert_eq!((&sent["input_type"], lost.len()), (&json!("search_query"), 0));
        let (.., lost) = asked("amazon.titan-embed-text-v2:0", &task).unwrap();
        assert_eq!(lost, [Loss::dropped("task_type")]);
    }

    #[test]
    fn a_picture_is_embedded_as_one() {
        let picture = "data:image/png;base64,AAAA";
        let (_, sent, _) = asked("cohere.embed-v4:0", &json!({"model": "m", "input": [picture]})).unwrap();
        assert_eq!(sent, json!({"images": [picture], "input_type": "image"}));
        let (_, sent, _) =
            asked("amazon.titan-embed-image-v1", &json!({"model": "m", "input": picture})).unwrap();
        assert_eq!(sent, json!({"inputImage": "AAAA"}));
        let both = json!({"model": "m", "input": [picture, "a"]});
        assert!(asked("cohere.embed-v4:0", &both).unwrap_err().message.contains("not both"));
    }

    #[test]
    fn tokens_that_only_headers_count_are_told() {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-amzn-bedrock-input-token-count"),
            http::HeaderValue::from_static("7"),
        )]);
        let body = Bytes::from_static(b"{\"embeddings\":{\"float\":[[1]]}} ");
        let relayed = answer(&with_metrics(body.clone(), &headers), false).unwrap();
        assert_eq!(relayed.usage.map(|usage| usage.input), Some(7));
        assert_eq!(with_metrics(body.clone(), &HeaderMap::new()), body);
        assert_eq!(with_metrics("[]".into(), &headers), "[]");
    }

    #[test]
    fn what_the_model_cannot_take_is_refused() {
        for (model, input, part) in [
            ("amazon.titan-embed-text-v1", json!(["a", "b"]), "one text"),
            ("amazon.titan-embed-text-v1", json!([1, 2]), "token ids"),
            ("amazon.titan-embed-text-v2:0", json!("data:image/png;base64,AAAA"), "not pictures"),
            ("cohere.embed-english-v3", json!(vec!["a"; 97]), "at most 96"),
            ("anthropic.claude-3-haiku-20240307-v1:0", json!("a"), "Titan"),
        ] {
            let fault = asked(model, &json!({"model": "m", "input": input})).unwrap_err();
            assert!(fault.message.contains(part), "{fault}");
        }
    }

    #[test]
    fn vectors_come_in_the_form_that_was_asked_for() {
        for body in [
            r#"{"embedding":[0.1,-2.5, 0],"inputTextTokenCount":3,"embeddingsByType":{"float":[0.1,-2.5,0]}}"#,
            r#"{"embeddings":[[0.1,-2.5,0]],"id":"x","response_type":"embeddings_floats","texts":["a"]}"#,
            r#"{"embeddings":{"float":[[0.1,-2.5,0]]},"response_type":"embeddings_by_type"}"#,
        ] {
            let body = Bytes::from(body);
            let floats: Value = serde_json::from_slice(&answer(&body, false).unwrap().body).unwrap();
            assert_eq!(floats["data"][0]["embedding"], json!([0.1, -2.5, 0]));
            let packed: Value = serde_json::from_slice(&answer(&body, true).unwrap().body).unwrap();
            assert_eq!(packed["data"][0]["embedding"], "zczMPQAAIMAAAAAA");
        }
        for broken in ["", "{}", r#"{"embedding":["x"]}"#, r#"{"message":"no"}"#, "[]", r#"{"embeddings":7}"#]
        {
            assert!(answer(&Bytes::from(broken), false).is_err(), "{broken}");
        }
    }
}
