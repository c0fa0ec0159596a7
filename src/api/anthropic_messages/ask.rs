//! A messages request as the gateway knows it: a checked envelope, and the messages only when somebody asks.

use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use http::HeaderValue;

use super::decode::{Decoded, decode};
use super::sight::Messages;
use crate::api::openai_chat::param::{Param, missing};
use crate::api::openai_chat::{MAX_MESSAGES, MAX_TOKENS, MAX_TOOLS};
use crate::api::sight::{Envelope, MEDIUM, Seen, Sight};
use crate::fault::Fault;
use crate::json::{self, Body};

/// Headers of the client that go to a provider of the same dialect: they choose what the body may say.
const CARRIED: [&str; 2] = ["anthropic-version", "anthropic-beta"];

/// A messages request with a checked envelope.
pub struct Ask {
    body: Body,
    model: Arc<str>,
    stream: bool,
    max_tokens: Option<u64>,
    user: Option<Box<str>>,
    messages: usize,
    carried: Vec<(&'static str, HeaderValue)>,
    sight: Sight<Messages>,
    request: OnceLock<Result<Decoded, Fault>>,
}

impl Ask {
    /// Checks the envelope of a request: everything that the gateway itself acts upon. What is only for the
    /// provider is left to the provider. A request for a count of tokens needs no `max_tokens`.
    ///
    /// # Errors
    /// `BadRequest` with the parameter's name.
    pub fn read(body: Body, headers: &HeaderMap, counts: bool) -> Result<Self, Fault> {
        let (mut model, mut messages, mut stream, mut max_tokens, mut user) = (None, None, None, None, None);
        // A thread that goes on after a pause has nothing to add.
        let continues = body.field("thread").is_some();
        for field in body.fields() {
            let param = |name| Param { name, raw: body.value(field), items: field.items };
            match &*field.key {
                "model" => model = Some(param("model").model()?),
                "messages" => {
                    let array = param("messages");
                    match continues && array.items == 0 {
                        true => drop(array.array(MAX_MESSAGES)?),
                        false => array.filled_array(MAX_MESSAGES)?,
                    }
                    messages = Some(field.items);
                }
                "stream" => stream = param("stream").boolean()?,
                "max_tokens" => max_tokens = param("max_tokens").integer(1, MAX_TOKENS)?,
                "tools" => drop(param("tools").array(MAX_TOOLS)?),
                "metadata" => user = user_of(param("metadata"))?,
                "tool_choice" => drop(param("tool_choice").object()?),
                "thinking" => drop(param("thinking").object()?),
                "stop_sequences" => drop(param("stop_sequences").array(MAX_TOOLS)?),
                _ => {}
            }
        }
        if max_tokens.is_none() && !counts {
            return Err(missing("max_tokens"));
        }
        let carried = CARRIED.iter().filter_map(|name| Some((*name, joined(headers, name)?))).collect();
        Ok(Self {
            model: model.ok_or_else(|| missing("model"))?,
            messages: messages.ok_or_else(|| missing("messages"))?,
            stream: stream.unwrap_or(false) && !counts,
            max_tokens,
            user,
            carried,
            sight: Sight::default(),
            request: OnceLock::new(),
            body,
        })
    }

    /// The same request with another body.
    pub(super) fn again(&self, body: Body) -> Result<Self, Fault> {
        let counts = self.max_tokens.is_none();
        Ok(Self { carried: self.carried.clone(), ..Self::read(body, &HeaderMap::new(), counts)? })
    }

    /// The body as it passed the gate.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The model's name as the client wrote it.
    pub fn model(&self) -> &Arc<str> {
        &self.model
    }

    /// The client's own headers for a provider of the same dialect.
    pub(super) fn carried(&self) -> &[(&'static str, HeaderValue)] {
        &self.carried
    }

    /// The whole request in the canonical form, decoded at most once.
    ///
    /// # Errors
    /// `BadRequest` with the path of the field that cannot be understood.
    pub fn request(&self) -> Result<&Decoded, Fault> {
        self.request.get_or_init(|| decode(&self.body)).as_ref().map_err(Clone::clone)
    }

    /// An estimate of all prompt tokens, tools included: bytes of text divided by four, and for every picture and
    /// document what a usual one takes.
    pub(super) fn estimate(&self) -> u64 {
        let media = self.sight.media(&self.body);
        let tools = self.body.raw_bytes("tools").map_or(0, <[u8]>::len);
        let text = self.sight.text(&self.body).len() + tools;
        let media = MEDIUM * (u64::from(media.images) + u64::from(media.files));
        (text as u64).div_ceil(4) + 4 * self.messages as u64 + media
    }
}

/// Several header lines of a name as one.
fn joined(headers: &HeaderMap, name: &str) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let more: Vec<&[u8]> = lines.map(HeaderValue::as_bytes).collect();
    if more.is_empty() {
        return Some(first.clone());
    }
    HeaderValue::from_bytes(&[&[first.as_bytes()], &more[..]].concat().join(&b',')).ok()
}

fn user_of(metadata: Param<'_>) -> Result<Option<Box<str>>, Fault> {
    let Some(metadata) = metadata.object()? else { return Ok(None) };
    match json::entries(metadata).find(|(key, _)| key == "user_id") {
        Some((_, raw)) => Param { name: "metadata.user_id", raw: raw.as_bytes(), items: 0 }.user(),
        None => Ok(None),
    }
}

impl Seen for Ask {
    type Dialect = Messages;

    fn sight(&self) -> &Sight<Messages> {
        &self.sight
    }

    fn shown(&self) -> &Body {
        &self.body
    }

    fn envelope(&self) -> Envelope<'_> {
        Envelope {
            stream: self.stream,
            max_tokens: self.max_tokens,
            messages: self.messages,
            user: self.user.as_deref(),
        }
    }

    fn prompt(&self) -> usize {
        let bytes = |key| self.body.field(key).map_or(0, |field| field.value.len());
        bytes("messages") + bytes("system") + bytes("tools")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::facts::Body as _;

    fn ask(text: &str, counts: bool) -> Result<Ask, Fault> {
        Ask::read(Body::read(Bytes::from(text.to_owned()))?, &HeaderMap::new(), counts)
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, param) in [
            (r#"{"messages":[1],"max_tokens":1}"#, "model"),
            (r#"{"model":"m","max_tokens":1}"#, "messages"),
            (r#"{"model":"m","messages":[],"max_tokens":1}"#, "messages"),
            (r#"{"model":"m","messages":[1]}"#, "max_tokens"),
            (r#"{"model":"m","messages":[1],"max_tokens":0}"#, "max_tokens"),
            (r#"{"model":"m","messages":[1],"max_tokens":1,"stream":"yes"}"#, "stream"),
            (r#"{"model":"m","messages":[1],"max_tokens":1,"metadata":{"user_id":7}}"#, "metadata.user_id"),
            (r#"{"model":"m","messages":[1],"max_tokens":1,"thinking":true}"#, "thinking"),
        ] {
            let fault = ask(text, false).err().unwrap_or_else(|| panic!("{text} passes"));
            assert_eq!(
                (fault.client_status(), fault.param.as_deref()),
                (400, Some(param)),
                "{text}: {fault}"
            );
        }
        assert!(ask(r#"{"model":"m","messages":[1]}"#, true).is_ok());
        let paused = r#"{"model":"m","max_tokens":1,"messages":[],"thread":{"type":"continue","previous_message_id":"m1"}}"#;
        assert!(ask(paused, false).is_ok());
    }

    #[test]
    fn the_envelope_is_read() {
        let ask = ask(
            r#"{"model":"m","max_tokens":5,"stream":true,"system":"s","messages":[{"role":"user","content":"hi"}],
               "metadata":{"user_id":"u1"},"output_config":{"effort":"low"}}"#,
            false,
        )
        .unwrap();
        assert_eq!((ask.stream(), ask.max_tokens(), ask.user()), (true, Some(5), Some("u1")));
        assert!(!ask.has_json_output() && !ask.has_images());
        assert_eq!((ask.text(), ask.last_user()), ("s\nhi", "hi"));
    }
}
