//! OpenAI's `images/generations`, made by Google: Imagen's `predict`, and Gemini's models that answer with pictures.
//!
//! <https://ai.google.dev/gemini-api/docs/imagen>, <https://ai.google.dev/gemini-api/docs/image-generation>

use bytes::Bytes;
use serde_json::{Value, json};

use super::made::{self, cannot};
use super::{fault, request, usage};
use crate::chat::{Loss, Object};
use crate::fault::{Fault, FaultKind};
use crate::providers::{ClientBody, Outgoing, QuirkSettings, Relayed};
use crate::target::TargetName;

/// Fields that change nothing in the picture, or that are what the answer always is.
const SILENT: &[&str] = &["model", "prompt", "n", "size", "response_format", "user", "stream"];

/// OpenAI's request as Google's.
///
/// # Errors
/// `BadRequest` without a prompt, or for what no model here can do: a stream of pictures, a picture by URL.
pub(super) fn request(
    body: &ClientBody,
    target: &TargetName,
    quirks: &QuirkSettings,
) -> Result<Outgoing, Fault> {
    if body.bool("stream") == Some(true) {
        return cannot("this model's provider does not stream pictures", "stream");
    }
    if body.str("response_format").as_deref() == Some("url") {
        return cannot("this model's provider gives pictures as `b64_json` only", "response_format");
    }
    let Some(prompt) = body.str("prompt") else { return cannot("`prompt` must be a text", "prompt") };
    let wanted = body.u64("n").unwrap_or(1);
    let imagen = is_imagen(&target.model);
    if wanted > 1 && !imagen {
        return cannot("this model makes one picture at a time", "n");
    }
    let mut lost = Vec::new();
    let shape = Shape::of(body.str("size").as_deref(), &target.model, &mut lost);
    let (method, json) =
        if imagen { predict(&prompt, wanted, &shape, body, &mut lost) } else { generate(&prompt, &shape) };
    let known = |key: &str| SILENT.contains(&key) || (imagen && IMAGEN.contains(&key));
    let path = request::path(quirks, &target.model, method);
    Ok(made::outgoing(body, known, path, &json, lost))
}

fn is_imagen(model: &str) -> bool {
    model.rsplit('/').next().unwrap_or(model).starts_with("imagen")
}

/// What Imagen knows beyond the rest.
const IMAGEN: &[&str] = &["output_format", "output_compression"];

fn predict(
    prompt: &str,
    wanted: u64,
    shape: &Shape,
    body: &ClientBody,
    lost: &mut Vec<Loss>,
) -> (&'static str, Value) {
    let mut parameters = Object::new();
    parameters.insert("sampleCount".into(), wanted.into());
    if let Some(ratio) = shape.ratio {
        parameters.insert("aspectRatio".into(), ratio.into());
    }
    if let Some(size) = shape.size {
        parameters.insert("sampleImageSize".into(), size.into());
    }
    let mut output = Object::new();
    match body.str("output_format").as_deref() {
        Some(format @ ("png" | "jpeg")) => {
            output.insert("mimeType".into(), format!("image/{format}").into());
        }
        Some(_) => lost.push(Loss::dropped("output_format")),
        None => {}
    }
    if let Some(quality) = body.u64("output_compression") {
        output.insert("compressionQuality".into(), quality.into());
    }
    if !output.is_empty() {
        parameters.insert("outputOptions".into(), Value::Object(output));
    }
    ("predict", json!({ "instances": [{ "prompt": prompt }], "parameters": parameters }))
}

fn generate(prompt: &str, shape: &Shape) -> (&'static str, Value) {
    let mut config = json!({ "responseModalities": ["TEXT", "IMAGE"] });
    let mut image = Object::new();
    if let Some(ratio) = shape.ratio {
        image.insert("aspectRatio".into(), ratio.into());
    }
    if let Some(size) = shape.size {
        image.insert("imageSize".into(), size.into());
    }
    if !image.is_empty() {
        config["imageConfig"] = Value::Object(image);
    }
    let contents = json!([{ "role": "user", "parts": [{ "text": prompt }] }]);
    (request::WHOLE, json!({ "contents": contents, "generationConfig": config }))
}

/// A size in Google's words: proportions, and how large where the model makes more than one size.
#[derive(Default)]
struct Shape {
    ratio: Option<&'static str>,
    size: Option<&'static str>,
}

/// What all of Google's models know, and what Gemini's know beside it.
/// <https://ai.google.dev/gemini-api/docs/image-generation#aspect_ratios>
const RATIOS: [(&str, f64); 10] = [
    ("1:1", 1.0),
    ("3:4", 0.75),
    ("4:3", 4.0 / 3.0),
    ("9:16", 0.5625),
    ("16:9", 16.0 / 9.0),
    ("2:3", 2.0 / 3.0),
    ("3:2", 1.5),
    ("4:5", 0.8),
    ("5:4", 1.25),
    ("21:9", 21.0 / 9.0),
];
const RATIOS_OF_IMAGEN: usize = 5;

impl Shape {
    /// The nearest to `size` that the model makes.
    fn of(size: Option<&str>, model: &str, lost: &mut Vec<Loss>) -> Self {
        let Some(size) = size.filter(|size| *size != "auto") else { return Self::default() };
        let side = |text: &str| text.parse::<u32>().ok().filter(|side| *side > 0);
        let sides = size.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
        let Some((width, height)) = sides else {
            lost.push(Loss::dropped("size"));
            return Self::default();
        };
        let wanted = f64::from(width) / f64::from(height);
        let known = if is_imagen(model) { RATIOS_OF_IMAGEN } else { RATIOS.len() };
        let distance = |known: f64| (known / wanted).ln().abs();
        let nearest = RATIOS.iter().take(known).min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
        let ratio = nearest.map(|(name, _)| *name);
        let size = match width.max(height) {
            3_000.. if sizes(model) > 2 => Some("4K"),
            2_000.. if sizes(model) > 1 => Some("2K"),
            _ => None,
        };
        let large = size.map(|size| format!(" at {size}")).unwrap_or_default();
        lost.push(Loss::new(
            "size",
            format!("turned into the proportions {}{large}", ratio.unwrap_or("1:1")),
        ));
        Self { ratio, size }
    }
}

/// How many sizes a model makes: Gemini's since the third up to 4K, Imagen's fourth up to 2K unless it is the fast one.
fn sizes(model: &str) -> usize {
    let name = model.rsplit('/').next().unwrap_or(model);
    match name {
        _ if name.starts_with("imagen-4") && !name.contains("fast") => 2,
        _ if name.starts_with("gemini-") && !name.starts_with("gemini-2") => 3,
        _ => 1,
    }
}

/// Google's answer as OpenAI's. A prompt or a picture that a filter held back is an error, not an empty answer.
pub(super) fn answer(body: &Bytes, unix_ms: u64) -> Result<Relayed, Fault> {
    let value = made::read(body, "the provider's pictures are not JSON")?;
    let mut texts = Vec::new();
    let mut pictures = Vec::new();
    for prediction in list(&value, "predictions") {
        match prediction["bytesBase64Encoded"].as_str() {
            Some(data) => pictures.push(picture(data, prediction["prompt"].as_str())),
            None => texts.extend(prediction["raiFilteredReason"].as_str()),
        }
    }
    for candidate in list(&value, "candidates") {
        for part in list(&candidate["content"], "parts").filter(|part| part["thought"] != true) {
            match part["inlineData"]["data"].as_str() {
                Some(data) => pictures.push(picture(data, None)),
                None => texts.extend(part["text"].as_str()),
            }
        }
    }
    let lost = if texts.is_empty() { vec![] } else { vec![Loss::dropped("answer.text")] };
    if pictures.is_empty() {
        return Err(refused(&value));
    }
    let counted = usage::read(&value["usageMetadata"]);
    let mut answer = json!({ "created": unix_ms / 1000, "data": pictures });
    if let Some(counted) = &counted {
        answer["usage"] = json!({
            "input_tokens": counted.prompt(),
            "output_tokens": counted.output,
            "total_tokens": counted.total(),
            "input_tokens_details": {
                "text_tokens": counted.prompt().saturating_sub(counted.input_image),
                "image_tokens": counted.input_image,
            },
        });
    }
    let body = answer.to_string().into();
    Ok(Relayed { body, usage: counted, finish: None, lost })
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().into_iter().flatten()
}

fn picture(data: &str, revised: Option<&str>) -> Value {
    let mut picture = json!({ "b64_json": data });
    if let Some(revised) = revised {
        picture["revised_prompt"] = revised.into();
    }
    picture
}

/// No picture: a filter held it back, or the model answered in words.
fn refused(value: &Value) -> Fault {
    let blocked = value["promptFeedback"]["blockReason"].as_str();
    let finish = list(value, "candidates").find_map(|candidate| candidate["finishReason"].as_str());
    let filtered = list(value, "predictions").any(|prediction| prediction.get("raiFilteredReason").is_some());
    match (blocked, finish) {
        (Some(_), _) => {
            Fault::new(FaultKind::ContentFiltered, "the provider blocked the prompt").at("prompt")
        }
        (_, Some("STOP" | "MAX_TOKENS")) if !filtered => {
            fault::malformed("the provider answered without a picture")
        }
        (_, Some(_)) => Fault::new(FaultKind::ContentFiltered, "the provider held the picture back"),
        // Imagen leaves filtered pictures out without a word.
        (None, None) if filtered || value.get("predictions").is_some() || value == &json!({}) => {
            Fault::new(FaultKind::ContentFiltered, "the provider held the pictures back")
        }
        (None, None) => fault::malformed("the provider answered without a picture"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(model: &str, body: &str) -> Result<(String, Value, Vec<String>), Fault> {
        let body = ClientBody::read(Bytes::from(body.to_owned()))?;
        let target = TargetName::parse(&format!("g/{model}")).unwrap();
        let outgoing = request(&body, &target, &QuirkSettings::default())?;
        let lost = outgoing.lost.iter().map(ToString::to_string).collect();
        Ok((outgoing.path, serde_json::from_slice(&outgoing.body.concat()).unwrap(), lost))
    }

    #[test]
    fn gemini_is_asked_for_a_picture_and_imagen_for_predictions() {
        let (path, body, lost) =
            asked("gemini-2.5-flash-image", r#"{"model":"x","prompt":"a cat","size":"1536x1024"}"#).unwrap();
        assert_eq!(path, "/models/gemini-2.5-flash-image:generateContent");
        assert_eq!(body["contents"][0]["parts"][0]["text"], "a cat");
        assert_eq!(body["generationConfig"]["responseModalities"], json!(["TEXT", "IMAGE"]));
        assert_eq!(body["generationConfig"]["imageConfig"]["aspectRatio"], "3:2");
        assert_eq!(lost, ["size (turned into the proportions 3:2)"]);

        let (path, body, lost) = asked(
            "imagen-4.0-generate-001",
            r#"{"model":"x","prompt":"a cat","n":2,"quality":"high","output_format":"jpeg"}"#,
        )
        .unwrap();
        assert_eq!(path, "/models/imagen-4.0-generate-001:predict");
        assert_eq!(body["instances"][0]["prompt"], "a cat");
        let expected = json!({"sampleCount": 2, "outputOptions": {"mimeType": "image/jpeg"}});
        assert_eq!((&body["parameters"], lost), (&expected, vec!["quality (dropped)".to_owned()]));
    }

    #[test]
    fn sizes_become_the_nearest_that_the_model_makes() {
        for (model, size, ratio, large) in [
            ("gemini-2.5-flash-image", "1024x1536", "2:3", Value::Null),
            ("gemini-2.5-flash-image", "1792x1024", "16:9", Value::Null),
            ("gemini-2.5-flash-image", "4096x4096", "1:1", Value::Null),
            ("gemini-3-pro-image-preview", "2048x2048", "1:1", "2K".into()),
            ("gemini-3.1-flash-image", "3840x2160", "16:9", "4K".into()),
            ("imagen-4.0-generate-001", "1536x1024", "4:3", Value::Null),
            ("imagen-4.0-ultra-generate-001", "4096x4096", "1:1", "2K".into()),
            ("imagen-4.0-fast-generate-001", "2048x2048", "1:1", Value::Null),
        ] {
            let (_, body, lost) = asked(model, &json!({"prompt": "a", "size": size}).to_string()).unwrap();
            let config = &body["generationConfig"]["imageConfig"];
            let (gemini, imagen) = (&config["aspectRatio"], &body["parameters"]["aspectRatio"]);
            let (small, other) = (&config["imageSize"], &body["parameters"]["sampleImageSize"]);
            assert!(gemini == ratio || imagen == ratio, "{model} {size}: {body}");
            assert!(
                *small == large && other.is_null() || *other == large && small.is_null(),
                "{model} {size}: {body}"
            );
            assert_eq!(lost.len(), 1, "{lost:?}");
        }
    }

    #[test]
    fn what_cannot_be_made_is_refused_by_name() {
        for (body, param) in [
            (r#"{"prompt":"a","stream":true}"#, "stream"),
            (r#"{"prompt":"a","response_format":"url"}"#, "response_format"),
            (r#"{"prompt":"a","n":2}"#, "n"),
            (r#"{"prompt":7}"#, "prompt"),
        ] {
            let fault = asked("gemini-2.5-flash-image", body).unwrap_err();
            assert_eq!((fault.client_status(), fault.param.as_deref()), (400, Some(param)), "{body}");
        }
    }

    #[test]
    fn pictures_come_as_base64_and_filters_as_errors() {
        let read = |value: Value| answer(&value.to_string().into(), 1_000_000);
        let relayed = read(json!({
            "candidates": [{"content": {"parts": [
                {"text": "here"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}}],
            "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 1290},
        }))
        .unwrap();
        let body: Value = serde_json::from_slice(&relayed.body).unwrap();
        assert_eq!((&body["data"][0]["b64_json"], &body["created"]), (&json!("AAAA"), &json!(1000)));
        assert_eq!(body["usage"]["output_tokens"], 1290);
        assert_eq!(relayed.usage.unwrap().output, 1290);
        assert_eq!(relayed.lost.len(), 1, "the text beside the picture is told");

        let relayed = read(json!({"predictions": [{"bytesBase64Encoded": "BBBB"}]})).unwrap();
        assert!(String::from_utf8_lossy(&relayed.body).contains("BBBB"));
        for (value, kind) in [
            (json!({"promptFeedback": {"blockReason": "SAFETY"}}), "content_filter"),
            (json!({"candidates": [{"finishReason": "IMAGE_SAFETY"}]}), "content_filter"),
            (json!({"predictions": [{"raiFilteredReason": "no"}]}), "content_filter"),
            (
                json!({"candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": "no"}]}}]}),
                "upstream_malformed",
            ),
        ] {
            assert_eq!(read(value.clone()).unwrap_err().kind.as_str(), kind, "{value}");
        }
    }
}
