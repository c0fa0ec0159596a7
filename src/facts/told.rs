//! Facts given as data: mocks, tables of tests, `explain` and replay all say by these fields what a policy sees.
//!
//! What is not said follows from what is: the text from the messages, the tokens from the text, and what targets cost
//! and how they fare from the market around it.

mod body;
mod offers;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::market::{Market, Purse};
use super::{Body, Endpoint, Facts, Rated};
use crate::caller::{Caller, Priority};
use body::ToldBody;
use offers::Overlay;

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
    /// How important the request is, by its key: `low`, `normal` or `high`.
    #[serde(default, skip_serializing_if = "Priority::is_usual")]
    pub priority: Priority,
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
    /// When it is asked: `2026-11-20T09:00:00+01:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// How limits stand: `[ { name: each-user, what: requests, limit: 60, remaining: 3 } ]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<Rated>,
    /// What is otherwise than usual with targets: `{ openai/gpt-4o: { price: { input: 2, output: 8 }, healthy: false } }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub candidates: BTreeMap<String, Map<String, Value>>,
    /// How budgets stand, in dollars or tokens: `{ team: { limit: 100, used: 92 } }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Map<String, Value>>")]
    pub budgets: BTreeMap<String, Purse>,
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

/// Key and value.
type Tag = (Arc<str>, Arc<str>);

impl Told {
    /// Reads the fields of a request.
    ///
    /// # Errors
    /// What is wrong with them: an unknown field with the known one that was probably meant, a wrong type.
    pub fn read(fields: Value) -> Result<Self, String> {
        serde_json::from_value(fields).map_err(|error| legible(&error.to_string()))
    }

    /// The facts as policies see them, in this market; at `now_ms` where no time is told.
    ///
    /// # Errors
    /// What no real request could say: text that contradicts the messages, a header that no policy sees.
    pub fn facts(&self, market: &Arc<dyn Market>, now_ms: u64) -> Result<Facts, String> {
        let body = Arc::new(ToldBody::of(self)?);
        self.facts_around(self.model.as_str().into(), body, market, now_ms)
    }

    /// The same with the body of a real request: what is told of the body does not count then.
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub fn facts_around(
        &self,
        model: Arc<str>,
        body: Arc<dyn Body>,
        market: &Arc<dyn Market>,
        now_ms: u64,
    ) -> Result<Facts, String> {
        Ok(Facts {
            request_id: self.id.as_str().into(),
            endpoint: self.endpoint,
            model,
            caller: self.caller(&*body)?,
            headers: self.header_map()?,
            tags: self.tag_list()?,
            at_ms: self.at_ms()?.unwrap_or(now_ms),
            body,
            rates: self.rates.clone(),
            market: Overlay::over(market, &self.candidates, &self.budgets)?,
        })
    }

    fn caller(&self, body: &dyn Body) -> Result<Caller, String> {
        let bad = |text| format!("`ip`: `{text}` is not an IP address");
        let address = self.ip.as_deref().map(|text| text.parse::<IpAddr>().map_err(|_| bad(text)));
        let shared = |text: &Option<String>| text.as_deref().map(Into::into);
        Ok(Caller {
            address: address.transpose()?,
            key_id: shared(&self.key_id),
            team: shared(&self.team),
            user: shared(&self.user).or_else(|| body.user().map(Into::into)),
            session: shared(&self.session),
            priority: self.priority,
            grant: None,
        })
    }

    fn at_ms(&self) -> Result<Option<u64>, String> {
        let Some(text) = &self.time else { return Ok(None) };
        let bad = || format!("`time`: `{text}` is not a moment (try \"2026-11-20T09:00:00+01:00\")");
        let moment: jiff::Timestamp = text.parse().map_err(|_| bad())?;
        u64::try_from(moment.as_millisecond()).map(Some).map_err(|_| bad())
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

    fn tag_list(&self) -> Result<Vec<Tag>, String> {
        let one = |(key, value): (&String, &Value)| {
            let value = scalar(value).ok_or_else(|| format!("`tags.{key}`: expected text"))?;
            Ok((key.as_str().into(), value.into()))
        };
        self.tags.iter().map(one).collect()
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
    format!("{kind} `{word}`{}", meant(word, &known))
}

/// ` (did you mean `x`?)`, or everything that is known.
fn meant(word: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(known, word), known)).min();
    match nearest {
        Some((edits, meant)) if edits <= (word.chars().count() / 3).clamp(1, 3) => {
            format!(" (did you mean `{meant}`?)")
        }
        _ => format!("; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::facts::market;

    fn nowhere() -> Arc<dyn Market> {
        Arc::new(market::Told::default())
    }

    fn told(fields: Value) -> Facts {
        Told::read(fields).and_then(|told| told.facts(&nowhere(), 1_000)).unwrap()
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
            "model": "gpt-4o", "endpoint": "embeddings", "stream": true, "user": "ann", "team": "web", "priority": "low",
            "key_id": "k1", "ip": "10.0.0.7", "headers": { "X-Tier": "gold", "x-many": ["a", 2] },
            "metadata": { "feature": "search", "depth": 3 }, "tags": { "team": "legal" },
            "data_class": "internal", "max_tokens": 50, "tools": ["search"], "modalities": ["image"],
            "json_output": true, "parameters": { "temperature": 0.5 },
        }));
        let body = &facts.body;
        assert_eq!((facts.endpoint, &*facts.model), (Endpoint::Embeddings, "gpt-4o"));
        assert_eq!(facts.caller.anchor().as_deref(), Some("key:k1"));
        assert_eq!((facts.caller.user.as_deref(), facts.caller.team.as_deref()), (Some("ann"), Some("web")));
        assert_eq!(facts.caller.priority, Priority::Low);
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
    fn targets_fare_as_told_and_otherwise_as_usual() {
        let usual: market::Told = serde_json::from_value(json!({
            "offers": [
                { "name": "a/one", "price": { "input": 2.0, "output": 8.0 }, "labels": { "region": "eu" } },
                { "name": "b/two" },
            ],
            "aliases": { "both": ["a/one", "b/two"] },
        }))
        .unwrap();
        let usual: Arc<dyn Market> = Arc::new(usual);
        let candidates = json!({ "a/one": { "healthy": false, "price": { "output": 9.0 } }, "c/new": {} });
        let fields = json!({ "model": "x", "candidates": candidates, "time": "1970-01-01T00:00:05Z" });
        let facts = Told::read(fields).unwrap().facts(&usual, 0).unwrap();
        let one = &facts.market.behind("both")[0];
        assert_eq!(
            (one.live.healthy, one.listing.price),
            (Some(false), Some(market::Price { input: 2.0, output: 9.0 }))
        );
        assert_eq!(&*one.listing.labels["region"], "eu");
        let names: Vec<_> = facts.market.all().iter().map(|offer| offer.listing.name.to_string()).collect();
        assert_eq!(names, ["a/one", "b/two", "c/new"]);
        assert_eq!(facts.at_ms, 5_000);
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
            (json!({ "model": "x", "time": "noon" }), "`time`: `noon` is not a moment"),
            (
                json!({ "model": "x", "candidates": { "a/b": { "pirce": 1 } } }),
                "`candidates.a/b`: unknown field `pirce` (did you mean `price`?)",
            ),
            (
                json!({ "model": "x", "candidates": { "a/b": { "healthy": 1 } } }),
                "`candidates.a/b`: invalid type",
            ),
            (json!({ "model": "x", "tags": { "a": [] } }), "`tags.a`: expected text"),
            (json!({ "model": "x", "tokens": -1 }), "invalid value: integer `-1`"),
        ] {
            let found =
                Told::read(fields.clone()).and_then(|told| told.facts(&nowhere(), 0).map(drop)).unwrap_err();
            assert!(found.starts_with(problem) || found.contains(problem), "{fields}: {found}");
        }
    }
}
