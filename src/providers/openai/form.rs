//! Answers of a given form that a vendor or a model does not take as a schema, and is asked for in words.

use serde_json::Value;

use super::reasoning::is_of_o_series;
use crate::chat::{OutputFormat, Request, Role};
use crate::providers::QuirkSettings;
use crate::providers::anthropic::schema;

/// The word among `lacks` of a vendor that knows JSON, but no schemas.
const SCHEMAS: &str = "json_schema";

/// How an answer is asked for in words.
#[derive(Debug, PartialEq)]
pub(in crate::providers) struct InWords {
    /// Further instructions.
    pub(in crate::providers) text: String,
    /// Whether any JSON object may be asked for beside them.
    pub(in crate::providers) is_object: bool,
    /// Why.
    pub(in crate::providers) why: &'static str,
}

/// Whether the answer has to be asked for in words.
pub(in crate::providers) fn in_words(
    output: &OutputFormat,
    model: &str,
    quirks: &QuirkSettings,
) -> Option<InWords> {
    let OutputFormat::JsonSchema { schema, .. } = output else { return None };
    let is_object = schema.get("type").and_then(Value::as_str).is_none_or(|kind| kind == "object");
    let why = if quirks.lacks.iter().any(|field| field == SCHEMAS) {
        "asked for in the instructions: this provider takes no schema"
    } else if !is_object && is_openais(model) {
        "asked for in the instructions: this model takes schemas of objects alone"
    } else {
        return None;
    };
    Some(InWords { text: schema::in_words(&output.described_schema()), is_object, why })
}

/// Where further instructions stand among the messages: after those that the client begins with.
pub(in crate::providers) fn place(asked: &Request) -> usize {
    let instructs = |role: Role| matches!(role, Role::System | Role::Developer);
    asked.messages.iter().take_while(|message| instructs(message.role)).count()
}

/// Whether it is a model of OpenAI's by its name. Its schemas have an object at their root; servers of open models follow
/// any: <https://platform.openai.com/docs/guides/structured-outputs#root-objects-must-not-be-anyof-and-must-be-an-object>
fn is_openais(model: &str) -> bool {
    (model.starts_with("gpt-") && !model.starts_with("gpt-oss")) || is_of_o_series(model)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_are_put_into_words_where_they_would_be_refused() {
        let lacking = QuirkSettings { lacks: vec![SCHEMAS.into()], ..QuirkSettings::default() };
        let able = QuirkSettings::default();
        let (list, object) =
            (json!({"type": "array", "items": {}}), json!({"type": "object", "properties": {}}));
        for (schema, model, quirks, expected) in [
            (&list, "gpt-5.1", &able, Some(false)),
            (&list, "gpt-4o-mini", &able, Some(false)),
            (&list, "o3", &able, Some(false)),
            (&list, "gpt-oss-120b", &able, None),
            (&list, "qwen3", &able, None),
            (&object, "gpt-5.1", &able, None),
            (&json!({"$ref": "#/$defs/a"}), "gpt-5.1", &able, None),
            (&object, "deepseek-chat", &lacking, Some(true)),
            (&list, "deepseek-chat", &lacking, Some(false)),
        ] {
            let output = OutputFormat::JsonSchema {
                name: "n".into(),
                description: None,
                schema: schema.clone(),
                strict: None,
            };
            let told = in_words(&output, model, quirks);
            assert_eq!(told.as_ref().map(|words| words.is_object), expected, "{model} {schema}");
            assert!(told.is_none_or(|words| words.text.contains(&schema.to_string())), "{model} {schema}");
        }
        assert_eq!(in_words(&OutputFormat::JsonObject, "deepseek-chat", &lacking), None);
    }
}
