//! A request for a text completion with a checked envelope.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use super::decode::{self, Decoded};
use crate::api::openai_chat::param::{Param, invalid_value, missing, wrong_type};
use crate::facts;
use crate::fault::Fault;
use crate::json::{self, Body};

/// Most prompts of one request.
const MAX_PROMPTS: usize = 2_048;
/// Most tokens that may be asked for.
const MAX_TOKENS: u64 = 1 << 32;
/// Most choices.
const MAX_CHOICES: u64 = 128;

/// A request for a text completion.
pub struct Ask {
    body: Body,
    model: Arc<str>,
    stream: bool,
    include_usage: bool,
    max_tokens: Option<u64>,
    user: Option<Box<str>>,
    text: OnceLock<String>,
    decoded: OnceLock<Result<Decoded, Fault>>,
}

impl Ask {
    /// Checks the envelope of a request.
    ///
    /// # Errors
    /// `BadRequest` with the parameter's name.
    pub fn read(body: Body) -> Result<Self, Fault> {
        let (mut model, mut user, mut max_tokens) = (None, None, None);
        let (mut stream, mut include_usage, mut prompted) = (false, false, false);
        for field in body.fields() {
            let param = |name| Param { name, raw: body.value(field), items: field.items };
            match &*field.key {
                "model" => model = Some(param("model").model()?),
                "prompt" => prompted = has_prompt(param("prompt"))?,
                "stream" => stream = param("stream").boolean()?.unwrap_or(false),
                "stream_options" => {
                    let usage = body.entry("stream_options", "include_usage");
                    include_usage = usage.as_deref() == Some("true");
                }
                "max_tokens" => max_tokens = param("max_tokens").integer(0, MAX_TOKENS)?,
                "n" => drop(param("n").integer(1, MAX_CHOICES)?),
                "best_of" => drop(param("best_of").integer(1, MAX_CHOICES)?),
                "echo" => drop(param("echo").boolean()?),
                "suffix" => drop(param("suffix").text()?),
                "user" => user = param("user").user()?,
                _ => {}
            }
        }
        if !prompted {
            return Err(missing("prompt"));
        }
        Ok(Self {
            model: model.ok_or_else(|| missing("model"))?,
            stream,
            include_usage,
            max_tokens,
            user,
            text: OnceLock::new(),
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

    /// Whether the client wants usage at the end of the stream.
    pub fn include_usage(&self) -> bool {
        self.include_usage
    }

    /// The request as a chat, decoded when it is first asked for.
    pub(super) fn decoded(&self) -> Result<&Decoded, Fault> {
        self.decoded.get_or_init(|| decode::decode(&self.body)).as_ref().map_err(Clone::clone)
    }
}

/// How many prompts stand in the JSON text of a `prompt`: token ids are one, as a string is.
pub fn prompts_in(raw: &str) -> u64 {
    let mut elements = json::elements(raw).peekable();
    match elements.peek().and_then(|first| first.as_bytes().first()) {
        Some(b'"' | b'[') => elements.count() as u64,
        _ => 1,
    }
}

/// A string, an array of strings, an array of token ids, or an array of such arrays.
fn has_prompt(prompt: Param<'_>) -> Result<bool, Fault> {
    match prompt.raw.first() {
        Some(b'"') => Ok(true),
        Some(b'[') => {
            prompt.filled_array(MAX_PROMPTS.max(prompt.items))?;
            let raw = std::str::from_utf8(prompt.raw).unwrap_or_default();
            let (mut texts, mut lists) = (0, 0);
            for (at, element) in json::elements(raw).enumerate() {
                match element.as_bytes() {
                    [b'"', ..] => texts += 1,
                    [b'[', ..] => lists += 1,
                    [b'0'..=b'9', ..] => {}
                    _ => {
                        return Err(wrong_type(
                            format!("prompt[{at}]"),
                            "a string or a token id",
                            "another type",
                        ));
                    }
                }
            }
            if texts + lists > MAX_PROMPTS {
                return Err(invalid_value("prompt", &format!("at most {MAX_PROMPTS} prompts")));
            }
            if (texts > 0 && texts < prompt.items) || (lists > 0 && lists < prompt.items) {
                return Err(wrong_type("prompt", "prompts of one kind", "several"));
            }
            Ok(true)
        }
        Some(b'n') => Ok(false),
        _ => Err(prompt.wrong_type("a string or an array")),
    }
}

impl facts::Body for Ask {
    fn stream(&self) -> bool {
        self.stream
    }

    fn max_tokens(&self) -> Option<u64> {
        self.max_tokens
    }

    fn tokens(&self) -> u64 {
        let raw = self.body.raw("prompt").unwrap_or_default();
        match raw.contains('"') {
            true => (self.text().len() as u64).div_ceil(4),
            // Token ids stand between commas.
            false => memchr::memchr_iter(b',', raw.as_bytes()).count() as u64 + 1,
        }
    }

    fn messages(&self) -> u64 {
        1
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let raw = self.body.raw("prompt").unwrap_or_default();
            match json::text(raw) {
                Some(text) => text.into_owned(),
                None => json::elements(raw).filter_map(json::text).collect::<Vec<_>>().join("\n"),
            }
        })
    }

    /// What stands behind the place that the model fills.
    fn asides(&self) -> Vec<facts::Aside> {
        let suffix = self.body.str("suffix").filter(|suffix| !suffix.is_empty());
        let aside =
            |text: Cow<'_, str>| facts::Aside { role: "user", what: "suffix", text: text.into_owned() };
        suffix.map(aside).into_iter().collect()
    }

    fn has_token_ids(&self) -> bool {
        let prompts = self.body.raw("prompt").unwrap_or_default();
        json::elements(prompts).next().is_some_and(|first| !first.starts_with('"'))
    }

    fn system(&self) -> &str {
        ""
    }

    fn last_user(&self) -> &str {
        self.text()
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn metadata(&self, _: &str) -> Option<String> {
        None
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.body.raw(name)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Ask, prompts_in};
    use crate::facts::Body as _;
    use crate::fault::Fault;
    use crate::json::Body;

    fn ask(fields: &str) -> Result<Ask, Fault> {
        Ask::read(Body::read(Bytes::from(format!("{{{fields}}}")))?)
    }

    #[test]
    fn every_form_of_prompt_is_counted() {
        for (prompt, tokens, text, prompts) in [
            (r#""hello there""#, 3, "hello there", 1),
            (r#"["a","b"]"#, 1, "a\nb", 2),
            ("[1,2,3]", 3, "", 1),
            ("[[1,2],[3]]", 3, "", 2),
        ] {
            let ask = ask(&format!(r#""model":"m","prompt":{prompt}"#)).unwrap();
            assert_eq!((ask.tokens(), ask.text()), (tokens, text), "{prompt}");
            assert_eq!(ask.has_token_ids(), text.is_empty(), "{prompt}");
            assert_eq!(prompts_in(prompt), prompts, "{prompt}");
        }
        assert!(ask(r#""model":"m","prompt":[["hidden"]]"#).unwrap().has_token_ids());
    }

    #[test]
    fn a_suffix_is_part_of_what_is_said() {
        let asides = ask(r#""model":"m","prompt":"a","suffix":"b""#).unwrap().asides();
        assert_eq!((asides.len(), asides[0].what, &*asides[0].text), (1, "suffix", "b"));
        assert!(ask(r#""model":"m","prompt":"a","suffix":null"#).unwrap().asides().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (fields, param) in [
            (r#""prompt":"x""#, "model"),
            (r#""model":"m""#, "prompt"),
            (r#""model":"m","prompt":null"#, "prompt"),
            (r#""model":"m","prompt":7"#, "prompt"),
            (r#""model":"m","prompt":[]"#, "prompt"),
            (r#""model":"m","prompt":["a",1]"#, "prompt"),
            (r#""model":"m","prompt":["a",null]"#, "prompt[1]"),
            (r#""model":"m","prompt":"x","n":0"#, "n"),
            (r#""model":"m","prompt":"x","max_tokens":-1"#, "max_tokens"),
            (r#""model":"m","prompt":"x","stream":1"#, "stream"),
        ] {
            let fault = ask(fields).err().unwrap_or_else(|| panic!("{fields} passes"));
            assert_eq!(fault.param.as_deref(), Some(param), "{fields}: {fault}");
        }
    }
}
