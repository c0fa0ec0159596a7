//! Facts given as data: mocks, tables of tests, `explain` and replay all say by these fields what a policy sees.
//!
//! What is not said follows from what is: the text from the messages, the tokens from the text.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Body, Endpoint, Facts};
use crate::caller::Caller;

/// Where a data class stands in a real request.
const DATA_CLASS: &str = "x-tollgate-data-class";

/// A request, told field by field.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// The model as the client wrote it.
    pub model: String,
    /// The request's id, as in `x-request-id`.
    #[serde(default = "usual_id")]
    pub id: String,
    /// The operation.
    #[serde(default)]
    pub endpoint: Endpoint,
    /// Whether a stream is asked for.
    #[serde(default)]
    pub stream: bool,
    /// The user, of the key or of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The team of the client's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The public id of the client's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// What the client says its requests have in common (`x-tollgate-session`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The client's headers: text, or a list of texts where one comes several times.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Value>,
    /// The body's `metadata`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// Tags that the request brings along (`x-tollgate-tags`).
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub tags: Map<String, Value>,
    /// The data class (`x-tollgate-data-class`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_class: Option<String>,
    /// Tokens of the prompt; else a quarter of the text's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// The output limit that the client gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// The messages, or how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Messages>,
    /// All text; else that of the messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The text of system and developer messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The text of the last user message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_user: Option<String>,
    /// Names of the tools that are offered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// What there is besides text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modalities: Vec<Modality>,
    /// Whether JSON or a JSON Schema is asked for.
    #[serde(default)]
    pub json_output: bool,
    /// Other top-level fields of the body, such as `temperature`.
    #[serde(default, alias = "parameters", skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
    /// What plugins answer: `{ intent: { classify: { top: code, score: 0.9 } } }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plugins: BTreeMap<String, BTreeMap<String, Value>>,
}

/// Messages, or their number where nobody needs their text.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Messages {
    /// So many.
    Count(u64),
    /// These.
    Each(Vec<Message>),
}

/// One message.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `user`, `system`, `assistant` and so on.
    pub role: String,
    /// Its text.
    #[serde(alias = "content")]
    pub text: String,
}

/// Something in a request that is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Modality {
    /// Text, which needs no mention.
    Text,
    /// An image.
    Image,
    /// Sound.
    Audio,
    /// A file.
    File,
}

impl Told {
    /// Reads the fields of a request.
    ///
    /// # Errors
    /// What is wrong with them: an unknown field with the known one that was probably meant, a wrong type.
    pub fn read(fields: Value) -> Result<Self, String> {
        serde_json::from_value(fields).map_err(|error| legible(&error.to_string()))
    }

    /// The facts as policies see them.
    ///
    /// # Errors
    /// What no real request could say: text that contradicts the messages, a header that no policy sees.
    pub fn facts(&self) -> Result<Facts, String> {
        let body = Arc::new(ToldBody::of(self)?);
        self.facts_around(self.endpoint, self.model.as_str().into(), body)
    }

    /// The same with the body of a real request: what is told of the body does not count then.
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub fn facts_around(
        &self,
        endpoint: Endpoint,
        model: Arc<str>,
        body: Arc<dyn Body>,
    ) -> Result<Facts, String> {
        let address = self.ip.as_deref().map(str::parse::<IpAddr>).transpose();
        let address = address.map_err(|_| {
            format!("`ip`: `{}` is not an IP address", self.ip.as_deref().unwrap_or_default())
        })?;
        let shared = |text: &Option<String>| text.as_deref().map(Into::into);
        let user = shared(&self.user).or_else(|| body.user().map(Into::into));
        Ok(Facts {
            request_id: self.id.as_str().into(),
            endpoint,
            model,
            caller: Caller {
                address,
                key_id: shared(&self.key_id),
                team: shared(&self.team),
                user,
                session: shared(&self.session),
            },
            headers: self.header_map()?,
            tags: self.tag_list()?,
            at_ms: 0,
            body,
            market: Arc::new(super::market::Told::default()),
        })
    }

    fn header_map(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let mut add = |name: &str, value: &Value| {
            let bad = |what: &str| format!("`headers.{name}`: {what}");
            let key: HeaderName = name.parse().map_err(|_| bad("not the name of a header"))?;
            if super::HIDDEN_HEADERS.contains(&key) {
                return Err(bad("no policy sees this header: it may hold a credential"));
            }
            let text = scalar(value).ok_or_else(|| bad("expected text, or a list of texts"))?;
            headers.append(key, HeaderValue::from_str(&text).map_err(|_| bad("not the value of a header"))?);
            Ok(())
        };
        for (name, value) in &self.headers {
            match (name.to_ascii_lowercase().as_str(), value) {
                ("x-tollgate-tags", _) => {
                    return Err("`headers.x-tollgate-tags`: write them as `tags`".into());
                }
                (DATA_CLASS, _) if self.data_class.is_some() => {
                    return Err(format!("`data_class` is told twice: once as the header {DATA_CLASS}"));
                }
                (_, Value::Array(all)) => all.iter().try_for_each(|value| add(name, value))?,
                _ => add(name, value)?,
            }
        }
        if let Some(class) = &self.data_class {
            add(DATA_CLASS, &Value::from(class.as_str()))?;
        }
        Ok(headers)
    }

    fn tag_list(&self) -> Result<Vec<(Arc<str>, Arc<str>)>, String> {
        let one = |(key, value): (&String, &Value)| {
            let value = scalar(value).ok_or_else(|| format!("`tags.{key}`: expected text"))?;
            Ok((key.as_str().into(), value.into()))
        };
        self.tags.iter().map(one).collect()
    }
}

/// The body of a told request, with everything derived that was not told.
#[derive(Debug)]
struct ToldBody {
    stream: bool,
    max_tokens: Option<u64>,
    tokens: u64,
    tools: Vec<Box<str>>,
    messages: u64,
    modalities: Vec<Modality>,
    json_output: bool,
    text: String,
    system: String,
    last_user: String,
    user: Option<String>,
    metadata: Map<String, Value>,
    fields: BTreeMap<String, String>,
}

impl ToldBody {
    fn of(told: &Told) -> Result<Self, String> {
        let spoken = Spoken::of(told)?;
        let tokens = told.tokens.unwrap_or_else(|| (spoken.text.len() as u64).div_ceil(4));
        Ok(Self {
            stream: told.stream,
            max_tokens: told.max_tokens,
            tokens,
            tools: told.tools.iter().map(|name| name.as_str().into()).collect(),
            messages: spoken.messages,
            modalities: told.modalities.clone(),
            json_output: told.json_output,
            text: spoken.text,
            system: spoken.system,
            last_user: spoken.last_user,
            user: told.user.clone(),
            metadata: told.metadata.clone(),
            fields: told.fields.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
        })
    }
}

/// The words of a told request.
struct Spoken {
    messages: u64,
    text: String,
    system: String,
    last_user: String,
}

impl Spoken {
    fn of(told: &Told) -> Result<Self, String> {
        let Some(Messages::Each(all)) = &told.messages else { return Ok(Self::without_messages(told)) };
        for (name, told) in [("text", &told.text), ("system", &told.system), ("last_user", &told.last_user)] {
            if told.is_some() {
                return Err(format!("`{name}` is told twice: it follows from the messages, so leave it out"));
            }
        }
        let joined = |wanted: &dyn Fn(&&Message) -> bool| {
            all.iter().filter(wanted).map(|message| message.text.as_str()).collect::<Vec<_>>().join("\n")
        };
        let last = all.iter().rev().find(|message| message.role == "user");
        Ok(Self {
            messages: all.len() as u64,
            text: joined(&|_| true),
            system: joined(&|message| matches!(message.role.as_str(), "system" | "developer")),
            last_user: last.map(|message| message.text.clone()).unwrap_or_default(),
        })
    }

    /// What is said of the text alone: a system message, if one is told, and a user's.
    fn without_messages(told: &Told) -> Self {
        let system = told.system.clone().unwrap_or_default();
        let last_user = told.last_user.clone().or_else(|| told.text.clone()).unwrap_or_default();
        let text = told.text.clone().unwrap_or_else(|| match (system.as_str(), last_user.as_str()) {
            ("", only) | (only, "") => only.to_owned(),
            (system, user) => format!("{system}\n{user}"),
        });
        let messages = match told.messages {
            Some(Messages::Count(count)) => count,
            _ => 1 + u64::from(!system.is_empty()),
        };
        Self { messages, text, system, last_user }
    }
}

impl Body for ToldBody {
    fn stream(&self) -> bool {
        self.stream
    }
    fn max_tokens(&self) -> Option<u64> {
        self.max_tokens
    }
    fn tokens(&self) -> u64 {
        self.tokens
    }
    fn tool_names(&self) -> &[Box<str>] {
        &self.tools
    }
    fn messages(&self) -> u64 {
        self.messages
    }
    fn has_images(&self) -> bool {
        self.modalities.contains(&Modality::Image)
    }
    fn has_audio(&self) -> bool {
        self.modalities.contains(&Modality::Audio)
    }
    fn has_files(&self) -> bool {
        self.modalities.contains(&Modality::File)
    }
    fn has_json_output(&self) -> bool {
        self.json_output
    }
    fn text(&self) -> &str {
        &self.text
    }
    fn system(&self) -> &str {
        &self.system
    }
    fn last_user(&self) -> &str {
        &self.last_user
    }
    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
    fn metadata(&self, key: &str) -> Option<String> {
        self.metadata.get(key).filter(|value| !value.is_null()).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

fn usual_id() -> String {
    "test".into()
}

/// Text, number or truth as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The library's message in the house's words: with the field that was probably meant.
fn legible(message: &str) -> String {
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("lacks the field {field}");
    }
    if message.contains("untagged enum Messages") {
        return "`messages`: expected a number, or a list of { role, text }".into();
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (Some(word), true) = (quoted.next(), message.starts_with("unknown ")) else {
        return message.to_owned();
    };
    let kind = if message.starts_with("unknown field") { "unknown field" } else { "unknown word" };
    let known: Vec<&str> = quoted.collect();
    let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(known, word), known)).min();
    match nearest {
        Some((edits, meant)) if edits <= (word.chars().count() / 3).clamp(1, 3) => {
            format!("{kind} `{word}` (did you mean `{meant}`?)")
        }
        _ => format!("{kind} `{word}`; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(fields: Value) -> Facts {
        Told::read(fields).and_then(|told| told.facts()).unwrap()
    }

    #[test]
    fn what_is_not_told_follows_from_what_is() {
        let facts = told(json!({
            "model": "auto",
            "messages": [
                { "role": "system", "text": "be brief" },
                { "role": "user", "content": "hello" },
                { "role": "assistant", "text": "hi" },
                { "role": "user", "text": "prove it" },
            ],
        }));
        let body = &facts.body;
        assert_eq!(body.text(), "be brief\nhello\nhi\nprove it");
        assert_eq!((body.system(), body.last_user()), ("be brief", "prove it"));
        assert_eq!((body.messages(), body.tokens()), (4, 7));
        let facts =
            told(json!({ "model": "auto", "system": "be brief", "last_user": "hello", "tokens": 900 }));
        assert_eq!((facts.body.text(), facts.body.messages()), ("be brief\nhello", 2));
        assert_eq!(facts.body.tokens(), 900);
        let facts = told(json!({ "model": "auto", "text": "all of it", "messages": 12 }));
        assert_eq!((facts.body.last_user(), facts.body.messages()), ("all of it", 12));
    }

    #[test]
    fn everything_that_a_policy_sees_can_be_told() {
        let facts = told(json!({
            "model": "gpt-4o", "endpoint": "embeddings", "stream": true, "user": "ann", "team": "web",
            "key_id": "k1", "ip": "10.0.0.7", "headers": { "X-Tier": "gold", "x-many": ["a", 2] },
            "metadata": { "feature": "search", "depth": 3 }, "tags": { "team": "legal" },
            "data_class": "internal", "max_tokens": 50, "tools": ["search"], "modalities": ["image"],
            "json_output": true, "parameters": { "temperature": 0.5 },
        }));
        let body = &facts.body;
        assert_eq!((facts.endpoint, &*facts.model), (Endpoint::Embeddings, "gpt-4o"));
        assert_eq!(facts.caller.anchor().as_deref(), Some("key:k1"));
        assert_eq!((facts.caller.user.as_deref(), facts.caller.team.as_deref()), (Some("ann"), Some("web")));
        assert_eq!(facts.headers["x-tier"], "gold");
        assert_eq!(facts.headers["x-tollgate-data-class"], "internal");
        assert_eq!(facts.headers.get_all("x-many").iter().count(), 2);
        assert_eq!(facts.tags, [("team".into(), "legal".into())]);
        assert_eq!((body.metadata("feature").as_deref(), body.metadata("x")), (Some("search"), None));
        assert_eq!((body.field("temperature"), body.max_tokens()), (Some("0.5"), Some(50)));
        assert!(body.stream() && body.has_images() && body.has_json_output() && !body.has_audio());
        assert_eq!(body.tool_names(), ["search".into()] as [Box<str>; 1]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (fields, problem) in [
            (json!({}), "lacks the field `model`"),
            (json!({ "modle": "x" }), "unknown field `modle` (did you mean `model`?)"),
            (
                json!({ "model": "x", "modalities": ["imgae"] }),
                "unknown word `imgae` (did you mean `image`?)",
            ),
            (
                json!({ "model": "x", "endpoint": "zzzzzz" }),
                "unknown word `zzzzzz`; known are chat, embeddings",
            ),
            (json!({ "model": "x", "messages": "many" }), "`messages`: expected a number, or a list"),
            (json!({ "model": "x", "text": "a", "messages": [] }), "`text` is told twice"),
            (json!({ "model": "x", "ip": "home" }), "`ip`: `home` is not an IP address"),
            (json!({ "model": "x", "headers": { "authorization": "y" } }), "no policy sees this header"),
            (json!({ "model": "x", "headers": { "x-tollgate-tags": "y" } }), "write them as `tags`"),
            (json!({ "model": "x", "headers": { "x y": "y" } }), "not the name of a header"),
            (json!({ "model": "x", "tags": { "a": [] } }), "`tags.a`: expected text"),
            (json!({ "model": "x", "tokens": -1 }), "invalid value: integer `-1`"),
        ] {
            let found = Told::read(fields.clone()).and_then(|told| told.facts().map(drop)).unwrap_err();
            assert!(found.starts_with(problem) || found.contains(problem), "{fields}: {found}");
        }
    }
}
