//! The doors of `POST /v1beta/models/{model}:embedContent`, `:batchEmbedContents`, and Vertex AI's `:predict`.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Value, json};

use super::ask::model_of;
use super::content::{field, wrong};
use super::error::{error_body, fault_event};
use crate::chat::{Loss, Object};
use crate::executor::Carry;
use crate::facts::{self, Endpoint};
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::{Asked, Door, Head};
use crate::json::{self, Body};
use crate::providers::{Dialect, Embeddings, Outgoing, Relay, Relayed, StreamRelay, Target, gemini_method};

/// Most requests of one batch.
const MAX_REQUESTS: usize = 2_048;

/// A door for embeddings; the form says which of its methods.
pub struct GeminiEmbed(pub EmbedForm);

/// How contents are asked for and vectors answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbedForm {
    /// `:embedContent`.
    One,
    /// `:batchEmbedContents`.
    Batch,
    /// `:predict`, with texts as instances:
    /// <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api>
    Predict,
}

impl Door for GeminiEmbed {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Embeddings
    }

    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Ask::read(Body::read(body)?, head, self.0)?))
    }

    fn error_body(&self, fault: &Fault, _: &str) -> Vec<u8> {
        error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        fault_event(fault)
    }
}

/// A request for embeddings.
struct Ask {
    body: Body,
    model: Arc<str>,
    form: EmbedForm,
    texts: Vec<String>,
    /// Pictures in place of texts, by their index, as `data:` URLs.
    pictures: Vec<(usize, String)>,
    /// Where something stands that is neither text nor a picture of its own.
    unsayable: Option<String>,
    /// What stands above the texts.
    titles: Vec<String>,
    /// What the vectors are for, of the first instance that says it, and where.
    task: Option<(String, &'static str)>,
    dimensions: Option<u64>,
    lost: Vec<Loss>,
    text: OnceLock<String>,
}

impl Ask {
    fn read(body: Body, head: Head<'_>, form: EmbedForm) -> Result<Self, Fault> {
        let value = serde_json::from_slice::<Value>(body.bytes()).unwrap_or_default();
        let mut found = Found::default();
        match form {
            EmbedForm::One => found.content(&value, "content")?,
            EmbedForm::Batch => {
                for (at, ask) in list(&value, "requests")?.iter().enumerate() {
                    found.content(ask, &format!("requests[{at}]"))?;
                }
            }
            EmbedForm::Predict => found.instances(&value)?,
        }
        let Found { texts, pictures, unsayable, titles, task, dimensions, lost } = found;
        let model = model_of(head.uri.path())?;
        let text = OnceLock::new();
        Ok(Self { body, model, form, texts, pictures, unsayable, titles, task, dimensions, lost, text })
    }

    /// The body for Google: only models' names inside of it are replaced.
    fn own(&self, relay: &dyn Relay, target: &Target) -> Result<Outgoing, Fault> {
        let method = match self.form {
            EmbedForm::One => "embedContent",
            EmbedForm::Batch => "batchEmbedContents",
            EmbedForm::Predict => "predict",
        };
        let mut outgoing = gemini_method(relay.splice(&self.body, &target.name)?, method);
        if self.form == EmbedForm::Batch
            && let Ok(mut value) = serde_json::from_slice::<Value>(self.body.bytes())
        {
            let name = json!(format!("models/{}", target.name.model.trim_start_matches("models/")));
            for ask in value.get_mut("requests").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Value::Object(ask) = ask {
                    ask.insert("model".into(), name.clone());
                }
            }
            outgoing.body = vec![value.to_string().into()];
        }
        Ok(outgoing)
    }

    /// Whether the target makes embeddings by the method of this door. The Gemini API has no `:predict`; Vertex AI has
    /// nothing else for most models.
    fn is_native(&self, target: &Target) -> bool {
        let Some(ability) = target.wire().embeddings() else { return false };
        let predicts = self.form == EmbedForm::Predict && target.wire().dialect() == Dialect::Gemini;
        if predicts { ability.predicts(&target.name.model) } else { ability.is_native() }
    }

    /// An answer of OpenAI's form in Google's.
    fn translated(&self, relayed: &Relayed) -> Result<Bytes, Fault> {
        let broken = || Fault::new(FaultKind::Malformed, "the provider's answer has no embeddings");
        let answer: Value = serde_json::from_slice(&relayed.body).map_err(|_| broken())?;
        let data = answer.get("data").and_then(Value::as_array).ok_or_else(broken)?;
        let values: Vec<&Value> =
            data.iter().map(|item| item.get("embedding")).collect::<Option<_>>().ok_or_else(broken)?;
        let mut body = Object::new();
        match self.form {
            EmbedForm::One => {
                let values = values.first().ok_or_else(broken)?;
                body.insert("embedding".into(), json!({ "values": values }));
            }
            EmbedForm::Batch => {
                let vectors = values.iter().map(|values| json!({ "values": values }));
                body.insert("embeddings".into(), vectors.collect());
            }
            EmbedForm::Predict => {
                // Tokens are counted for all texts together; nobody knows each one's share.
                let counted = relayed.usage.map_or(0, |usage| usage.prompt());
                let share = |at: usize| if at == 0 { counted } else { 0 };
                let vectors = values.iter().enumerate().map(|(at, values)| {
                    let statistics = json!({ "truncated": false, "token_count": share(at) });
                    json!({ "embeddings": { "values": values, "statistics": statistics } })
                });
                body.insert("predictions".into(), vectors.collect());
                return Ok(Value::Object(body).to_string().into());
            }
        }
        if let Some(usage) = &relayed.usage {
            body.insert("usageMetadata".into(), json!({ "promptTokenCount": usage.prompt() }));
        }
        Ok(Value::Object(body).to_string().into())
    }
}

/// What a request for embeddings says.
#[derive(Default)]
struct Found {
    texts: Vec<String>,
    pictures: Vec<(usize, String)>,
    unsayable: Option<String>,
    titles: Vec<String>,
    task: Option<(String, &'static str)>,
    dimensions: Option<u64>,
    lost: Vec<Loss>,
}

impl Found {
    /// One content with its settings, which Vertex AI puts into an object of their own.
    fn content(&mut self, ask: &Value, path: &str) -> Result<(), Fault> {
        let Some(object) = ask.as_object() else { return Err(wrong(path.to_owned(), "an object")) };
        match content_of(object, path)? {
            Content::Text(text) => self.texts.push(text),
            Content::Picture(url) => {
                self.pictures.push((self.texts.len(), url));
                self.texts.push(String::new());
            }
            Content::Other(text, place) => {
                self.unsayable.get_or_insert(place);
                self.texts.push(text);
            }
        }
        let nested = object.get("embedContentConfig").and_then(Value::as_object);
        for settings in [Some(object), nested].into_iter().flatten() {
            let wanted = field(settings, "outputDimensionality", "output_dimensionality");
            self.dimensions = wanted.and_then(Value::as_u64).or(self.dimensions);
            self.title(settings.get("title"));
            self.purpose(field(settings, "taskType", "task_type"), "taskType");
            const KNOWN: &[&str] = &[
                "model",
                "content",
                "outputDimensionality",
                "output_dimensionality",
                "embedContentConfig",
                "taskType",
                "task_type",
            ];
            self.lose(settings.keys().filter(|key| !KNOWN.contains(&key.as_str())), "");
        }
        Ok(())
    }

    /// Texts with their purpose.
    fn instances(&mut self, ask: &Value) -> Result<(), Fault> {
        for (at, instance) in list(ask, "instances")?.iter().enumerate() {
            let text = instance.get("content").and_then(Value::as_str);
            let text = text.ok_or_else(|| wrong(format!("instances[{at}].content"), "a text"))?;
            self.texts.push(text.to_owned());
            self.title(instance.get("title"));
            let task = ["task_type", "taskType"].iter().find_map(|key| instance.get(*key));
            self.purpose(task, "instances[].task_type");
            const KNOWN: &[&str] = &["content", "task_type", "taskType"];
            let keys = instance.as_object().into_iter().flat_map(Object::keys);
            self.lose(keys.filter(|key| !KNOWN.contains(&key.as_str())), "instances[].");
        }
        let parameters = ask.get("parameters").and_then(Value::as_object);
        if let Some(settings) = parameters {
            let wanted = field(settings, "outputDimensionality", "output_dimensionality");
            self.dimensions = wanted.and_then(Value::as_u64);
            const KNOWN: &[&str] = &["outputDimensionality", "output_dimensionality"];
            self.lose(settings.keys().filter(|key| !KNOWN.contains(&key.as_str())), "parameters.");
        }
        Ok(())
    }

    /// What vectors are for. Others are asked for all of them at once, so that only one purpose can be said.
    fn purpose(&mut self, task: Option<&Value>, place: &'static str) {
        let Some(task) = task.and_then(Value::as_str) else { return };
        match &self.task {
            None => self.task = Some((task.to_owned(), place)),
            Some((first, _)) if first == task => {}
            Some(_) => {
                let loss = Loss::new(place, "that of the first counts for all");
                if !self.lost.contains(&loss) {
                    self.lost.push(loss);
                }
            }
        }
    }

    fn title(&mut self, title: Option<&Value>) {
        self.titles.extend(title.and_then(Value::as_str).map(str::to_owned));
    }

    /// Names what is not told to others, each once.
    fn lose<'k>(&mut self, keys: impl Iterator<Item = &'k String>, before: &str) {
        for key in keys {
            let path = format!("{before}{key}");
            if !self.lost.iter().any(|loss| loss.path == path) {
                self.lost.push(Loss::dropped(path));
            }
        }
    }
}

/// The list of a request, neither empty nor endless.
fn list<'a>(ask: &'a Value, name: &'static str) -> Result<&'a [Value], Fault> {
    match ask.get(name).and_then(Value::as_array) {
        Some(list) if (1..=MAX_REQUESTS).contains(&list.len()) => Ok(list),
        Some(_) => Err(wrong(name.into(), "1 to 2048 elements")),
        None => Err(wrong(name.into(), "an array")),
    }
}

/// What is to be embedded as one.
enum Content {
    Text(String),
    /// A picture alone, as a `data:` URL.
    Picture(String),
    /// Its text, and the place of what only Google's models can be told.
    Other(String, String),
}

fn content_of(ask: &Object, path: &str) -> Result<Content, Fault> {
    let parts = match ask.get("content").and_then(|content| content.get("parts")) {
        Some(Value::Array(parts)) => parts.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => return Err(wrong(format!("{path}.content.parts"), "an array")),
    };
    if let [part] = parts
        && let Some(url) = picture_of(part)
    {
        return Ok(Content::Picture(url));
    }
    let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
    let text = texts.join("\n");
    let is_other = |part: &Value| part.get("text").is_none_or(|text| !text.is_string());
    Ok(match parts.iter().position(is_other) {
        Some(at) => Content::Other(text, format!("{path}.content.parts[{at}]")),
        None => Content::Text(text),
    })
}

fn picture_of(part: &Value) -> Option<String> {
    let blob = part.get("inlineData").or_else(|| part.get("inline_data"))?.as_object()?;
    let mime = field(blob, "mimeType", "mime_type")?.as_str().filter(|mime| mime.starts_with("image/"))?;
    // Google's clients write base64 for URLs, which others do not read.
    let base64 = blob.get("data")?.as_str()?.replace('-', "+").replace('_', "/");
    Some(format!("data:{mime};base64,{base64}"))
}

impl Asked for Ask {
    fn json(&self) -> Option<&crate::json::Body> {
        Some(&self.body)
    }

    fn model(&self) -> &Arc<str> {
        &self.model
    }

    fn bytes(&self) -> usize {
        self.body.bytes().len()
    }
}

impl Carry for Ask {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        if self.is_native(target)
            && let Some(relay) = crate::api::translate::relay(target, Dialect::Gemini)
        {
            return self.own(relay, target);
        }
        let mut lost = self.lost.clone();
        let dialect = target.wire().dialect();
        let mut input = self.texts.clone();
        for (at, url) in &self.pictures {
            if !matches!(dialect, Dialect::Cohere | Dialect::Bedrock) {
                return foreign("a picture to embed", "content.parts[0]");
            }
            if let Some(place) = input.get_mut(*at) {
                place.clone_from(url);
            }
        }
        if let Some(place) = &self.unsayable {
            return foreign("more than one text, or one picture, to embed as one", place);
        }
        let mut asked = json!({ "model": &*self.model, "input": input });
        if let Some(dimensions) = self.dimensions {
            asked["dimensions"] = dimensions.into();
        }
        match &self.task {
            Some((task, _)) if dialect != Dialect::OpenAi => asked["task_type"] = task.as_str().into(),
            Some((_, place)) => lost.push(Loss::dropped(*place)),
            None => {}
        }
        let body = json::Body::read(asked.to_string().into())?;
        let mut outgoing = ability(target)?.splice(&body, &target.name)?;
        for loss in outgoing.lost.iter_mut().filter(|loss| loss.path == "task_type") {
            loss.path = self.task.as_ref().map_or("taskType", |(_, place)| *place).into();
        }
        outgoing.lost.append(&mut lost);
        Ok(outgoing)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        let read = ability(target)?.whole(body.clone(), false)?;
        if target.wire().dialect() == Dialect::Gemini && self.is_native(target) {
            return Ok(Relayed { body, ..read });
        }
        Ok(Relayed { body: self.translated(&read)?, ..read })
    }

    fn wants_stream(&self) -> bool {
        false
    }

    fn stream(&self, _: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Err(Fault::new(FaultKind::Internal, "embeddings are never streamed"))
    }
}

/// What only Google's own models can be told: without it, another vector would come.
fn foreign<T>(what: &str, place: &str) -> Result<T, Fault> {
    let text = format!("this model's provider cannot take {what}");
    Err(Fault::bad_request(text, place.to_owned()).retry(Retry::Elsewhere))
}

fn ability(target: &Target) -> Result<&dyn Embeddings, Fault> {
    target.wire().embeddings().ok_or_else(|| {
        Fault::bad_request("this provider makes no embeddings", "model").retry(Retry::Elsewhere)
    })
}

impl facts::Body for Ask {
    fn stream(&self) -> bool {
        false
    }

    fn max_tokens(&self) -> Option<u64> {
        None
    }

    fn tokens(&self) -> u64 {
        self.texts.iter().map(|text| text.len() as u64).sum::<u64>() / 4
    }

    fn messages(&self) -> u64 {
        self.texts.len() as u64
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| self.texts.join("\n"))
    }

    fn asides(&self) -> Vec<facts::Aside> {
        let aside = |title: &String| facts::Aside { role: "user", what: "title", text: title.clone() };
        self.titles.iter().map(aside).collect()
    }

    fn system(&self) -> &str {
        ""
    }

    fn last_user(&self) -> &str {
        facts::Body::text(self)
    }

    fn user(&self) -> Option<&str> {
        None
    }

    fn metadata(&self, _: &str) -> Option<String> {
        None
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.body.raw(name)
    }
}
