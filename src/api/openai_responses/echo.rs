//! What a response repeats of its request, and what its encoder must know of the tools.

use std::collections::HashMap;

use serde_json::Value;

use super::decode::spaces;
use crate::json::{self, Body};

/// Fields that every response repeats, with what stands for those that the client left out.
const ECHOED: &[(&str, &str)] = &[
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("service_tier", "\"default\""),
    ("store", "true"),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"},"verbosity":"medium"}"#),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
    ("metadata", "{}"),
];

/// A request as far as its answer needs it.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// JSON text of the repeated fields, without braces.
    pub(super) echo: String,
    /// The model's name as the client wrote it.
    pub(super) model: String,
    /// Whether log probabilities are wanted with the text.
    pub(super) logprobs: bool,
    tools: HashMap<String, Offered>,
}

/// A tool as the client defined it, where the name alone does not say it.
#[derive(Debug, Clone, Default)]
pub(super) struct Offered {
    /// Its name inside of its namespace.
    pub(super) name: Option<String>,
    /// Its namespace.
    pub(super) namespace: Option<String>,
    /// Whether it takes free text.
    pub(super) custom: bool,
}

impl Given {
    /// Reads it from the client's body.
    pub(super) fn read(body: &Body) -> Self {
        let mut echo = String::with_capacity(512);
        for (key, default) in ECHOED {
            let value = body.raw(key).filter(|raw| *raw != "null").unwrap_or(default);
            if !echo.is_empty() {
                echo.push(',');
            }
            echo.push_str(&format!("\"{key}\":"));
            match *key {
                "text" => push_text_config(&mut echo, value),
                _ => push_line(&mut echo, value),
            }
        }
        let tools = body.raw("tools").unwrap_or_default();
        let include = body.raw("include").unwrap_or_default();
        Self {
            echo,
            model: body.str("model").unwrap_or_default().into_owned(),
            logprobs: include.contains("output_text.logprobs")
                || body.u64("top_logprobs").is_some_and(|n| n > 0),
            tools: offered(tools),
        }
    }

    /// How the client offered the tool that a provider calls `name`.
    pub(super) fn tool(&self, name: &str) -> Offered {
        self.tools.get(name).cloned().unwrap_or_default()
    }
}

/// Clients look for the format, so it is there also where only the verbosity was said.
fn push_text_config(echo: &mut String, raw: &str) {
    let format = json::entries(raw).any(|(key, value)| key == "format" && value != "null");
    match raw.strip_prefix('{').map(str::trim_start) {
        Some("}") => echo.push_str(r#"{"format":{"type":"text"}}"#),
        Some(rest) if !format => {
            echo.push_str(r#"{"format":{"type":"text"},"#);
            push_line(echo, rest);
        }
        _ => push_line(echo, raw),
    }
}

/// JSON text without line ends, which can stand only between its tokens.
fn push_line(echo: &mut String, raw: &str) {
    echo.extend(raw.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
}

fn offered(tools: &str) -> HashMap<String, Offered> {
    let mut known = HashMap::new();
    // Only these need more than their name; most requests have neither.
    let special = ["\"custom\"", "\"namespace\""];
    if !special.iter().any(|kind| tools.contains(kind)) {
        return known;
    }
    let tools: Value = serde_json::from_str(tools).unwrap_or_default();
    for tool in tools.as_array().into_iter().flatten().filter(|tool| tool["type"] == "custom") {
        if let Some(name) = tool["name"].as_str() {
            known.insert(name.to_owned(), Offered { custom: true, ..Offered::default() });
        }
    }
    for (flat, tool) in spaces(&tools) {
        let text = |key: &str| tool[key].as_str().map(str::to_owned);
        let custom = tool["custom"] == true;
        known.insert(flat, Offered { name: text("name"), namespace: text("namespace"), custom });
    }
    known
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn given(text: &str) -> (Given, Value) {
        let given = Given::read(&Body::read(Bytes::from(text.to_owned())).unwrap());
        let echo = serde_json::from_str(&format!("{{{}}}", given.echo)).unwrap();
        (given, echo)
    }

    #[test]
    fn what_the_client_said_is_repeated_and_the_rest_filled_in() {
        let (given, echo) = given(
            "{\"model\":\"m\",\"temperature\":0.5,\"user\":null,\"metadata\":{\"a\":\"b\"},\n\"tools\":[\n{\"type\":\"function\",\"name\":\"f\"}],\"text\":{ \"verbosity\":\"low\"},\"include\":[\"message.output_text.logprobs\"]}",
        );
        assert!(given.logprobs && given.model == "m" && !given.echo.contains('\n'));
        for (key, expected) in [
            ("temperature", serde_json::json!(0.5)),
            ("top_p", serde_json::json!(1.0)),
            ("user", Value::Null),
            ("metadata", serde_json::json!({"a": "b"})),
            ("tools", serde_json::json!([{"type": "function", "name": "f"}])),
            ("text", serde_json::json!({"format": {"type": "text"}, "verbosity": "low"})),
            ("store", true.into()),
        ] {
            assert_eq!(echo[key], expected, "{key}");
        }
        assert_eq!(given_text("{}"), serde_json::json!({"format": {"type": "text"}}));
        assert_eq!(
            given_text(r#"{"format":{"type":"json_object"}}"#),
            serde_json::json!({"format": {"type": "json_object"}})
        );
    }

    fn given_text(text: &str) -> Value {
        given(&format!(r#"{{"model":"m","text":{text}}}"#)).1["text"].clone()
    }

    #[test]
    fn tools_are_known_by_the_name_that_providers_see() {
        let (given, _) = given(
            r#"{"model":"m","tools":[{"type":"custom","name":"patch"},{"type":"function","name":"f"},
            {"type":"namespace","name":"crm","tools":[{"type":"function","name":"find"}]}]}"#,
        );
        assert!(given.tool("patch").custom && !given.tool("f").custom);
        let find = given.tool("crm__find");
        assert_eq!((find.name.as_deref(), find.namespace.as_deref()), (Some("find"), Some("crm")));
    }
}
