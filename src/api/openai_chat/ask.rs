//! A chat request as the gateway knows it: a checked envelope, and the messages only when somebody asks.

use std::sync::{Arc, OnceLock};

use super::decode::{Decoded, read};
use super::param::{Param, missing};
use super::sight::Chat;
use crate::api::sight::{Envelope, Seen, Sight};
use crate::chat::Request;
use crate::fault::Fault;
use crate::json::{self, Body};

/// Most messages of one request.
pub const MAX_MESSAGES: usize = 10_000;
/// Most tools of one request.
pub const MAX_TOOLS: usize = 1_024;
/// Most choices of one answer.
pub const MAX_CHOICES: u64 = 128;
/// Largest output limit, in tokens.
pub const MAX_TOKENS: u64 = i32::MAX as u64;

/// A chat request with a checked envelope.
pub struct Ask {
    body: Body,
    model: Arc<str>,
    stream: bool,
    include_usage: bool,
    max_tokens: Option<u64>,
    choices: u64,
    user: Option<Box<str>>,
    messages: usize,
    sight: Sight<Chat>,
    decoded: OnceLock<Result<Decoded, Fault>>,
}

impl Ask {
    /// Checks the envelope of a request: everything that the gateway itself acts upon. What is only for the
    /// provider is left to the provider.
    ///
    /// # Errors
    /// `BadRequest` with the parameter's name.
    pub fn read(body: Body) -> Result<Self, Fault> {
        let mut model = None;
        let mut messages = None;
        let (mut stream, mut include_usage, mut choices) = (None, None, None);
        let (mut max_tokens, mut max_completion_tokens) = (None, None);
        let (mut user, mut safety_identifier) = (None, None);
        for field in body.fields() {
            let param = |name| Param { name, raw: body.value(field), items: field.items };
            match &*field.key {
                "model" => model = Some(param("model").model()?),
                "messages" => {
                    param("messages").filled_array(MAX_MESSAGES)?;
                    messages = Some(field.items);
                }
                "stream" => stream = param("stream").boolean()?,
                "stream_options" => include_usage = usage_wish(param("stream_options"))?,
                "n" => choices = param("n").integer(1, MAX_CHOICES)?,
                "max_tokens" => max_tokens = param("max_tokens").integer(1, MAX_TOKENS)?,
                "max_completion_tokens" => {
                    max_completion_tokens = param("max_completion_tokens").integer(1, MAX_TOKENS)?;
                }
                "tools" => drop(param("tools").array(MAX_TOOLS)?),
                "functions" => drop(param("functions").array(MAX_TOOLS)?),
                "user" => user = param("user").user()?,
                "safety_identifier" => safety_identifier = param("safety_identifier").user()?,
                "metadata" => drop(param("metadata").object()?),
                "response_format" => drop(param("response_format").object()?),
                _ => {}
            }
        }
        Ok(Self {
            model: model.ok_or_else(|| missing("model"))?,
            messages: messages.ok_or_else(|| missing("messages"))?,
            stream: stream.unwrap_or(false),
            include_usage: include_usage.unwrap_or(false),
            max_tokens: max_completion_tokens.or(max_tokens),
            choices: choices.unwrap_or(1),
            user: user.or(safety_identifier),
            sight: Sight::default(),
            decoded: OnceLock::new(),
            body,
        })
    }

    /// The body as it passed the gate.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The model's name as the client wrote it.
    pub fn model(&self) -> &Arc<str> {
        &self.model
    }

    /// Whether a stream is asked for.
    pub fn is_stream(&self) -> bool {
        self.stream
    }

    /// Whether the client wants usage at the end of its stream.
    pub fn include_usage(&self) -> bool {
        self.include_usage
    }

    /// Number of choices asked for, 1 to [`MAX_CHOICES`].
    pub fn choices(&self) -> u64 {
        self.choices
    }

    /// The whole request in the canonical form, decoded at most once.
    ///
    /// # Errors
    /// `BadRequest` with the path of the field that cannot be understood.
    pub fn request(&self) -> Result<&Request, Fault> {
        self.decoded().map(|decoded| &decoded.request)
    }

    pub(super) fn decoded(&self) -> Result<&Decoded, Fault> {
        self.decoded.get_or_init(|| read(&self.body)).as_ref().map_err(Clone::clone)
    }
}

fn usage_wish(options: Param<'_>) -> Result<Option<bool>, Fault> {
    let Some(options) = options.object()? else { return Ok(None) };
    match json::entries(options).find(|(key, _)| key == "include_usage") {
        Some((_, raw)) => {
            Param { name: "stream_options.include_usage", raw: raw.as_bytes(), items: 0 }.boolean()
        }
        None => Ok(None),
    }
}

impl Seen for Ask {
    type Dialect = Chat;

    fn sight(&self) -> &Sight<Chat> {
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
        bytes("messages") + bytes("tools") + bytes("functions")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Ask;
    use crate::facts::Body as _;
    use crate::fault::{Fault, FaultKind};
    use crate::json::Body;

    fn ask(text: &str) -> Result<Ask, Fault> {
        Ask::read(Body::read(Bytes::from(text.to_owned()))?)
    }

    fn with(fields: &str) -> Result<Ask, Fault> {
        ask(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{fields}}}"#))
    }

    #[test]
    fn the_name_of_a_model_may_hold_a_space() {
        let ask = ask(r#"{"model":"sandbox/echo[[error 500]]","messages":[1]}"#).unwrap();
        assert_eq!(&**ask.model(), "sandbox/echo[[error 500]]");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = "m".repeat(257);
        let many = format!("[{}1]", "1,".repeat(10_000));
        let tools = format!("[{}{{}}]", "{},".repeat(1024));
        let table: &[(&str, &str, &str)] = &[
            (r#"{"messages":[1]}"#, "model", "missing_required_parameter"),
            (r#"{"model":null,"messages":[1]}"#, "model", "missing_required_parameter"),
            (r#"{"model":"","messages":[1]}"#, "model", "empty_string"),
            (r#"{"model":7,"messages":[1]}"#, "model", "invalid_type"),
            (r#"{"model":" a","messages":[1]}"#, "model", "invalid_value"),
            (r#"{"model":"a ","messages":[1]}"#, "model", "invalid_value"),
            (r#"{"model":"a\tb","messages":[1]}"#, "model", "invalid_value"),
            (r#"{"model":"a\u00a0b","messages":[1]}"#, "model", "invalid_value"),
            (r#"{"model":"a\u0000b","messages":[1]}"#, "model", "invalid_value"),
            (r#"{"model":"a\nb","messages":[1]}"#, "model", "invalid_value"),
            (r#"{"model":"a\u202eb","messages":[1]}"#, "model", "invalid_value"),
            (&format!(r#"{{"model":"{long}","messages":[1]}}"#), "model", "string_above_max_length"),
            (r#"{"model":"m"}"#, "messages", "missing_required_parameter"),
            (r#"{"model":"m","messages":[]}"#, "messages", "empty_array"),
            (r#"{"model":"m","messages":null}"#, "messages", "invalid_type"),
            (r#"{"model":"m","messages":"hi"}"#, "messages", "invalid_type"),
            (r#"{"model":"m","messages":{"0":1}}"#, "messages", "invalid_type"),
            (&format!(r#"{{"model":"m","messages":{many}}}"#), "messages", "array_above_max_length"),
            (r#"{"model":"m","messages":[1],"stream":"true"}"#, "stream", "invalid_type"),
            (r#"{"model":"m","messages":[1],"stream":1}"#, "stream", "invalid_type"),
            (r#"{"model":"m","messages":[1],"stream_options":true}"#, "stream_options", "invalid_type"),
            (
                r#"{"model":"m","messages":[1],"stream_options":{"include_usage":"x"}}"#,
                "stream_options.include_usage",
                "invalid_type",
            ),
            (r#"{"model":"m","messages":[1],"n":0}"#, "n", "integer_below_min_value"),
            (r#"{"model":"m","messages":[1],"n":1000}"#, "n", "integer_above_max_value"),
            (r#"{"model":"m","messages":[1],"n":1.5}"#, "n", "invalid_type"),
            (r#"{"model":"m","messages":[1],"max_tokens":0}"#, "max_tokens", "integer_below_min_value"),
            (r#"{"model":"m","messages":[1],"max_tokens":-1}"#, "max_tokens", "integer_below_min_value"),
            (r#"{"model":"m","messages":[1],"max_tokens":-0}"#, "max_tokens", "integer_below_min_value"),
            (r#"{"model":"m","messages":[1],"max_tokens":1.0}"#, "max_tokens", "invalid_type"),
            (r#"{"model":"m","messages":[1],"max_tokens":"9"}"#, "max_tokens", "invalid_type"),
            (r#"{"model":"m","messages":[1],"max_tokens":1e3}"#, "max_tokens", "invalid_type"),
            (
                r#"{"model":"m","messages":[1],"max_tokens":4294967296}"#,
                "max_tokens",
                "integer_above_max_value",
            ),
            (
                r#"{"model":"m","messages":[1],"max_completion_tokens":99999999999999999999999}"#,
                "max_completion_tokens",
                "integer_above_max_value",
            ),
            (r#"{"model":"m","messages":[1],"tools":{}}"#, "tools", "invalid_type"),
            (
                &format!(r#"{{"model":"m","messages":[1],"tools":{tools}}}"#),
                "tools",
                "array_above_max_length",
            ),
            (r#"{"model":"m","messages":[1],"user":7}"#, "user", "invalid_type"),
            (r#"{"model":"m","messages":[1],"metadata":[]}"#, "metadata", "invalid_type"),
            (r#"{"model":"m","messages":[1],"response_format":"json"}"#, "response_format", "invalid_type"),
        ];
        for (text, param, code) in table {
            let shown = text.get(..90).unwrap_or(text);
            let fault = ask(text).err().unwrap_or_else(|| panic!("{shown} passes"));
            assert_eq!((fault.kind, fault.client_status()), (FaultKind::BadRequest, 400), "{shown}");
            assert_eq!((fault.param.as_deref(), fault.code_str()), (Some(*param), *code), "{shown}: {fault}");
            assert!(fault.message.contains(param), "{shown}: {fault}");
        }
    }

    #[test]
    fn the_envelope_is_read() {
        let ask = with(
            r#""stream":true,"stream_options":{"include_usage":true},"max_tokens":5,"max_completion_tokens":7,
               "n":3,"user":"u1","temperature":0.5,"metadata":{"team":"legal","size":3}"#,
        )
        .unwrap();
        assert_eq!(
            (&**ask.model(), ask.is_stream(), ask.include_usage(), ask.choices()),
            ("m", true, true, 3)
        );
        assert_eq!((ask.max_tokens(), ask.messages(), ask.user()), (Some(7), 1, Some("u1")));
        assert_eq!(
            (ask.metadata("team").as_deref(), ask.metadata("size").as_deref()),
            (Some("legal"), Some("3"))
        );
        assert_eq!(
            (ask.metadata("none"), ask.field("temperature"), ask.field("top_p")),
            (None, Some("0.5"), None)
        );
        assert_eq!(ask.tokens(), r#"[{"role":"user","content":"hi"}]"#.len() as u64 / 4);
        let plain =
            with(r#""stream":null,"n":null,"tools":null,"max_tokens":3,"safety_identifier":"s""#).unwrap();
        assert_eq!((plain.is_stream(), plain.include_usage(), plain.choices()), (false, false, 1));
        assert_eq!((plain.max_tokens(), plain.user()), (Some(3), Some("s")));
    }

    #[test]
    fn json_output_is_any_format_but_text() {
        for (format, expected) in [
            ("null", false),
            (r#"{"type":"text"}"#, false),
            (r#"{"type":"json_object"}"#, true),
            (r#"{"type":"json_schema","json_schema":{}}"#, true),
            ("{}", false),
        ] {
            assert_eq!(
                with(&format!(r#""response_format":{format}"#)).unwrap().has_json_output(),
                expected,
                "{format}"
            );
        }
    }

    #[test]
    fn the_request_is_decoded_once_and_keeps_its_fault() {
        let ask = with(r#""temperature":"hot""#).unwrap();
        let fault = ask.request().unwrap_err();
        assert_eq!(fault.param.as_deref(), Some("temperature"));
        assert_eq!(ask.request().unwrap_err().message, fault.message);
        assert_eq!(with(r#""top_k":4"#).unwrap().request().unwrap().sampling.top_k, Some(4));
    }
}
