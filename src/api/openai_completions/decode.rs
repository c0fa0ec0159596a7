//! A request for a text completion as a chat: the prompt is what the user says.

use serde_json::Value;

use crate::api::openai_chat::decode::record::{Place, Record, parse, text};
use crate::chat::{Loss, Message, Object, Part, Request, Role, Sampling};
use crate::fault::{Fault, Retry};
use crate::json::Body;

/// Tokens that this API generates unless told otherwise.
const USUAL_TOKENS: u64 = 16;

/// A request as a chat.
pub(super) struct Decoded {
    pub(super) request: Request,
    /// What the answer begins with, where the client wants its prompt back.
    pub(super) echo: Option<String>,
    /// What a chat cannot say.
    pub(super) lost: Vec<Loss>,
}

/// Decodes a request.
///
/// # Errors
/// `BadRequest` that names what a chat cannot say and the answer would be wrong without.
pub(super) fn decode(body: &Body) -> Result<Decoded, Fault> {
    let root = Place::Root;
    let mut top = Record::new(parse(body.bytes())?, &root);
    let mut lost = Vec::new();
    let prompt = prompt(top.take("prompt").unwrap_or_default())?;
    if top.text("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(cannot("this model cannot write between a prompt and a suffix", "suffix"));
    }
    let best_of = top.count("best_of")?.unwrap_or(1);
    let n = top.count("n")?;
    if best_of > n.unwrap_or(1) {
        lost.push(Loss::dropped("best_of"));
    }
    let logprobs = top.count("logprobs")?;
    let echoes = top.flag("echo")?.unwrap_or(false);
    if echoes && logprobs.is_some() {
        lost.push(Loss::new("echo", "without log probabilities of the prompt"));
    }
    let sampling = Sampling {
        temperature: top.number("temperature")?,
        top_p: top.number("top_p")?,
        top_k: top.count("top_k")?,
        presence_penalty: top.number("presence_penalty")?,
        frequency_penalty: top.number("frequency_penalty")?,
        seed: top.integer("seed")?,
        stop: stop(&mut top)?,
        logit_bias: top.object("logit_bias")?,
        logprobs: logprobs.map(|_| true),
        top_logprobs: logprobs.filter(|count| *count > 0),
        n,
    };
    let content = vec![Part::text(prompt.as_str())];
    let options = top.object("stream_options")?.unwrap_or_default();
    let request = Request {
        model: top.need_text("model")?,
        stream: top.flag("stream")?.unwrap_or(false),
        include_usage: options.get("include_usage") == Some(&Value::Bool(true)),
        messages: vec![Message { role: Role::User, content, name: None, rest: Object::new() }],
        max_output_tokens: Some(top.count("max_tokens")?.unwrap_or(USUAL_TOKENS)),
        sampling,
        user: top.text("user")?,
        rest: top.rest(),
        ..Request::default()
    };
    Ok(Decoded { request, echo: echoes.then_some(prompt), lost })
}

/// The only prompt.
fn prompt(value: Value) -> Result<String, Fault> {
    match value {
        Value::String(prompt) => Ok(prompt),
        Value::Array(mut prompts) => match prompts.pop() {
            Some(Value::String(only)) if prompts.is_empty() => Ok(only),
            Some(Value::String(_)) => {
                Err(cannot("this model takes one prompt at a time; send a request for each", "prompt"))
            }
            _ => Err(cannot("this model takes prompts as text, not as token ids", "prompt")),
        },
        _ => Err(cannot("the prompt must be a text", "prompt")),
    }
}

fn stop(top: &mut Record<'_>) -> Result<Vec<String>, Fault> {
    let root = Place::Root;
    let place = root.key("stop");
    match top.take("stop") {
        Some(Value::String(stop)) => Ok(vec![stop]),
        Some(Value::Array(stops)) => {
            stops.into_iter().enumerate().map(|(at, stop)| text(stop, &place.index(at))).collect()
        }
        _ => Ok(Vec::new()),
    }
}

fn cannot(message: &'static str, param: &'static str) -> Fault {
    Fault::bad_request(message, param).retry(Retry::Elsewhere)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn decoded(body: Value) -> Result<Decoded, Fault> {
        decode(&Body::read(Bytes::from(body.to_string())).unwrap())
    }

    #[test]
    fn a_prompt_becomes_what_the_user_says() {
        let Decoded { request, echo, lost } = decoded(json!({
            "model": "m", "prompt": ["hi"], "max_tokens": 5, "temperature": 0.5, "n": 2, "best_of": 3, "echo": true,
            "logprobs": 2, "stop": ["a", "b"], "user": "u", "stream": true, "suffix": null,
            "stream_options": {"include_usage": true}, "priority": 1,
        }))
        .unwrap();
        assert_eq!(request.messages[0].content, [Part::text("hi")]);
        assert_eq!((request.max_output_tokens, request.sampling.n), (Some(5), Some(2)));
        assert_eq!((request.sampling.logprobs, request.sampling.top_logprobs), (Some(true), Some(2)));
        assert_eq!(request.sampling.stop, ["a", "b"]);
        assert!(request.stream && request.include_usage);
        assert_eq!(Value::Object(request.rest), json!({"priority": 1}));
        assert_eq!(echo.as_deref(), Some("hi"));
        let lost: Vec<_> = lost.iter().map(ToString::to_string).collect();
        assert_eq!(lost, ["best_of (dropped)", "echo (without log probabilities of the prompt)"]);
        let plain = decoded(json!({"model": "m", "prompt": "hi"})).unwrap();
        assert_eq!((plain.request.max_output_tokens, plain.echo, plain.lost.len()), (Some(16), None, 0));
    }

    #[test]
    fn what_a_chat_cannot_say_is_refused() {
        for (body, param) in [
            (json!({"model": "m", "prompt": ["a", "b"]}), "prompt"),
            (json!({"model": "m", "prompt": [1, 2]}), "prompt"),
            (json!({"model": "m", "prompt": [[1], [2]]}), "prompt"),
            (json!({"model": "m", "prompt": "a", "suffix": "b"}), "suffix"),
        ] {
            let fault = decoded(body.clone()).err().unwrap_or_else(|| panic!("{body} passes"));
            assert_eq!((fault.param.as_deref(), fault.retry), (Some(param), Retry::Elsewhere), "{body}");
        }
    }
}
