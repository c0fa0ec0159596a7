//! OpenAI's embeddings as a client asks for them: the checked envelope of a request.
//!
//! <https://platform.openai.com/docs/api-reference/embeddings>

mod door;

use std::sync::{Arc, OnceLock};

pub use door::OpenAiEmbeddings;

use super::openai_chat::param::{Param, invalid_value, missing, wrong_type};
use crate::facts;
use crate::fault::Fault;
use crate::json::{self, Body};

/// Most inputs of one request.
pub const MAX_INPUTS: usize = 2_048;
/// Most tokens of one input that is given as token ids.
pub const MAX_INPUT_TOKENS: usize = 100_000;
/// Bytes of an answer that may be without any vector.
const SHORT: usize = 1 << 10;
/// Largest number of dimensions of a vector.
pub const MAX_DIMENSIONS: u64 = 65_536;

/// An embeddings request with a checked envelope.
pub struct Ask {
    body: Body,
    model: Arc<str>,
    base64: bool,
    dimensions: Option<u64>,
    user: Option<Box<str>>,
    inputs: usize,
    tokens: u64,
    text: OnceLock<String>,
}

impl Ask {
    /// Checks the envelope of a request.
    ///
    /// # Errors
    /// `BadRequest` with the parameter's name.
    pub fn read(body: Body) -> Result<Self, Fault> {
        let (mut model, mut input, mut base64) = (None, None, None);
        let (mut dimensions, mut user) = (None, None);
        for field in body.fields() {
            let param = |name| Param { name, raw: body.value(field), items: field.items };
            match &*field.key {
                "model" => model = Some(param("model").model()?),
                "input" => input = Some(Input::read(param("input"))?),
                "encoding_format" => base64 = is_base64(param("encoding_format"))?,
                "dimensions" => dimensions = param("dimensions").integer(1, MAX_DIMENSIONS)?,
                "user" => user = param("user").user()?,
                _ => {}
            }
        }
        let Input { inputs, tokens } = input.ok_or_else(|| missing("input"))?;
        Ok(Self {
            model: model.ok_or_else(|| missing("model"))?,
            base64: base64.unwrap_or(false),
            dimensions,
            user,
            inputs,
            tokens,
            text: OnceLock::new(),
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

    /// Whether the vectors are wanted as base64 of little-endian 32-bit floats instead of lists of numbers.
    pub fn base64(&self) -> bool {
        self.base64
    }

    /// Whether an answer has fewer vectors than there are inputs: whoever pairs the two lists would never know. Who asked
    /// for one vector has it in an answer of some length.
    fn misses(&self, answer: &[u8]) -> bool {
        if self.inputs < 2 && answer.len() > SHORT {
            return false;
        }
        let answer = std::str::from_utf8(answer).unwrap_or_default();
        let data = json::entries(answer).find(|(name, _)| name == "data");
        data.is_none_or(|(_, data)| json::elements(data).count() < self.inputs)
    }

    /// Number of dimensions asked for.
    pub fn dimensions(&self) -> Option<u64> {
        self.dimensions
    }
}

fn is_base64(format: Param<'_>) -> Result<Option<bool>, Fault> {
    match format.text()?.as_deref() {
        None => Ok(None),
        Some("float") => Ok(Some(false)),
        Some("base64") => Ok(Some(true)),
        Some(_) => Err(invalid_value("encoding_format", "'float' or 'base64'")),
    }
}

/// How much is to be embedded.
#[derive(Clone, Copy)]
struct Input {
    inputs: usize,
    tokens: u64,
}

impl Input {
    /// A string, an array of strings, an array of token ids, or an array of such arrays.
    fn read(input: Param<'_>) -> Result<Self, Fault> {
        const EXPECTED: &str = "a string, an array of strings, or an array of token ids";
        if input.raw.first() == Some(&b'"') {
            return Ok(Self { inputs: 1, tokens: text_tokens(input.raw.len()) });
        }
        if input.raw.first() != Some(&b'[') {
            return Err(input.wrong_type(EXPECTED));
        }
        let raw = std::str::from_utf8(input.raw).unwrap_or_default();
        match json::elements(raw).next().map(str::as_bytes) {
            Some([b'"', ..]) => {
                input.filled_array(MAX_INPUTS)?;
                texts(raw)
            }
            Some([b'[', ..]) => {
                input.filled_array(MAX_INPUTS)?;
                let mut tokens = 0;
                for (at, element) in json::elements(raw).enumerate() {
                    tokens += token_ids(element, || format!("input[{at}]"))?;
                }
                Ok(Self { inputs: input.items, tokens })
            }
            Some(_) => Ok(Self { inputs: 1, tokens: token_ids(raw, || "input".to_owned())? }),
            None => Err(empty("input")),
        }
    }
}

fn texts(raw: &str) -> Result<Input, Fault> {
    let mut input = Input { inputs: 0, tokens: 0 };
    for element in json::elements(raw) {
        if !element.starts_with('"') {
            return Err(wrong_type(format!("input[{}]", input.inputs), "a string", "another type"));
        }
        if element == "\"\"" {
            return Err(empty(format!("input[{}]", input.inputs)));
        }
        input.tokens += text_tokens(element.len());
        input.inputs += 1;
    }
    Ok(input)
}

/// Checks an array of token ids and returns its length.
fn token_ids(raw: &str, name: impl Fn() -> String) -> Result<u64, Fault> {
    let mut tokens = 0;
    if !raw.starts_with('[') {
        return Err(wrong_type(name(), "an array of token ids", "another type"));
    }
    for element in json::elements(raw) {
        if !element.bytes().all(|b| b.is_ascii_digit()) {
            let name = format!("{}[{tokens}]", name());
            return Err(wrong_type(name, "a token id", "another type"));
        }
        tokens += 1;
    }
    match tokens {
        0 => Err(empty(name())),
        _ if tokens > MAX_INPUT_TOKENS => {
            Err(invalid_value(name(), &format!("at most {MAX_INPUT_TOKENS} token ids")))
        }
        _ => Ok(tokens as u64),
    }
}

fn empty(name: impl Into<String>) -> Fault {
    invalid_value(name, "something to embed, but it is empty")
}

/// Tokens of a text, estimated from the length of its JSON string.
fn text_tokens(quoted: usize) -> u64 {
    (quoted.saturating_sub(2) as u64).div_ceil(4)
}

impl facts::Body for Ask {
    fn tokens(&self) -> u64 {
        self.tokens
    }

    fn messages(&self) -> u64 {
        self.inputs as u64
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let raw = self.body.raw("input").unwrap_or_default();
            match json::text(raw) {
                Some(text) => text.into_owned(),
                None => json::elements(raw).filter_map(json::text).collect::<Vec<_>>().join("\n"),
            }
        })
    }

    fn has_token_ids(&self) -> bool {
        let inputs = self.body.raw("input").unwrap_or_default();
        json::elements(inputs).next().is_some_and(|first| !first.starts_with('"'))
    }

    fn last_user(&self) -> &str {
        self.text()
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.body.raw(name)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Ask;
    use crate::facts::Body as _;
    use crate::fault::Fault;
    use crate::json::Body;

    fn ask(fields: &str) -> Result<Ask, Fault> {
        Ask::read(Body::read(Bytes::from(format!("{{{fields}}}")))?)
    }

    #[test]
    fn every_form_of_input_is_counted() {
        for (input, inputs, tokens, text) in [
            (r#""hello there""#, 1, 3, "hello there"),
            (r#"["a","four","a\nb"]"#, 3, 3, "a\nfour\na\nb"),
            ("[1,2,3]", 1, 3, ""),
            ("[[1,2],[3]]", 2, 3, ""),
        ] {
            let ask = ask(&format!(r#""model":"m","input":{input}"#)).unwrap();
            assert_eq!((ask.messages(), ask.tokens(), ask.text()), (inputs, tokens, text), "{input}");
            assert_eq!(ask.has_token_ids(), text.is_empty(), "{input}");
        }
    }

    #[test]
    fn the_envelope_is_read() {
        let full =
            ask(r#""model":"m","input":"x","encoding_format":"base64","dimensions":256,"user":"u","x":1"#)
                .unwrap();
        assert_eq!((&**full.model(), full.base64(), full.dimensions()), ("m", true, Some(256)));
        assert_eq!((full.user(), full.field("x"), full.stream()), (Some("u"), Some("1"), false));
        let plain = ask(r#""model":"m","input":"x","encoding_format":null,"dimensions":null"#).unwrap();
        assert_eq!((plain.base64(), plain.dimensions()), (false, None));
        assert!(!ask(r#""model":"m","input":"x","encoding_format":"float""#).unwrap().base64());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many = format!("[{}\"a\"]", "\"a\",".repeat(2048));
        let table: &[(&str, &str, &str)] = &[
            (r#""input":"x""#, "model", "missing_required_parameter"),
            (r#""model":"m""#, "input", "missing_required_parameter"),
            (r#""model":"m","input":null"#, "input", "invalid_type"),
            (r#""model":"m","input":7"#, "input", "invalid_type"),
            (r#""model":"m","input":[]"#, "input", "invalid_value"),
            (r#""model":"m","input":["a",""]"#, "input[1]", "invalid_value"),
            (r#""model":"m","input":["a",1]"#, "input[1]", "invalid_type"),
            (r#""model":"m","input":[1,"a"]"#, "input[1]", "invalid_type"),
            (r#""model":"m","input":[1,-1]"#, "input[1]", "invalid_type"),
            (r#""model":"m","input":[null]"#, "input[0]", "invalid_type"),
            (r#""model":"m","input":[[1],[]]"#, "input[1]", "invalid_value"),
            (r#""model":"m","input":[[1],[1.5]]"#, "input[1][0]", "invalid_type"),
            (r#""model":"m","input":[[1],2]"#, "input[1]", "invalid_type"),
            (&format!(r#""model":"m","input":{many}"#), "input", "array_above_max_length"),
            (r#""model":"m","input":"x","encoding_format":"int8""#, "encoding_format", "invalid_value"),
            (r#""model":"m","input":"x","encoding_format":1"#, "encoding_format", "invalid_type"),
            (r#""model":"m","input":"x","dimensions":0"#, "dimensions", "integer_below_min_value"),
            (r#""model":"m","input":"x","dimensions":"9""#, "dimensions", "invalid_type"),
        ];
        for (fields, param, code) in table {
            let shown = fields.get(..60).unwrap_or(fields);
            let fault = ask(fields).err().unwrap_or_else(|| panic!("{shown} passes"));
            assert_eq!((fault.param.as_deref(), fault.code_str()), (Some(*param), *code), "{shown}: {fault}");
        }
    }

    #[test]
    fn an_answer_with_fewer_vectors_than_inputs_is_noticed() {
        let answer = |vectors: usize| {
            let data: Vec<_> =
                (0..vectors).map(|at| serde_json::json!({ "index": at, "embedding": [1, 2] })).collect();
            serde_json::json!({ "object": "list", "data": data, "model": "m" }).to_string()
        };
        let one = ask(r#""model":"m","input":"x""#).unwrap();
        let three = ask(r#""model":"m","input":["a","b","c"]"#).unwrap();
        let tokens = ask(r#""model":"m","input":[1,2,3]"#).unwrap();
        for (ask, vectors, misses) in [
            (&one, 1, false),
            (&one, 0, true),
            (&tokens, 1, false),
            (&three, 3, false),
            (&three, 2, true),
            (&three, 0, true),
        ] {
            assert_eq!(ask.misses(answer(vectors).as_bytes()), misses, "{vectors}");
        }
        assert!(one.misses(b"{}"));
    }
}
