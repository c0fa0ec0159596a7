//! What stands beside the words of a conversation and around it, gathered from raw JSON values, each text for itself.

use serde_json::Value;

use crate::facts::Aside;
use crate::json;

/// Texts of a request that nobody said in words.
#[derive(Default)]
pub(in crate::api) struct Asides(Vec<Aside>);

/// What of a value is no text.
struct Form {
    /// Fields that tell what a part is, not what it says.
    silent: &'static [&'static str],
    /// Keys and values that are words of the form itself and say nothing.
    words: &'static [&'static str],
}

/// Anything may stand there.
const ANYTHING: Form = Form { silent: &[], words: &[] };

/// Parts and items of the dialects.
const PART: Form = Form {
    silent: &[
        "type",
        "id",
        "tool_use_id",
        "call_id",
        "status",
        "signature",
        "encrypted_content",
        "encrypted_index",
        "cache_control",
        "media_type",
        "mime_type",
        "mimeType",
        "file_id",
        "url",
    ],
    words: &[
        "annotations",
        "citations",
        "cited_text",
        "content",
        "context",
        "data",
        "document",
        "logs",
        "name",
        "output",
        "page_age",
        "source",
        "summary",
        "text",
        "thinking",
        "title",
    ],
};

/// JSON Schemas.
const SCHEMA: Form = Form {
    silent: &[],
    words: &[
        "$defs",
        "$ref",
        "$schema",
        "additionalProperties",
        "allOf",
        "anyOf",
        "array",
        "boolean",
        "const",
        "default",
        "definitions",
        "description",
        "enum",
        "examples",
        "format",
        "integer",
        "items",
        "json_schema",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "name",
        "null",
        "nullable",
        "number",
        "object",
        "oneOf",
        "pattern",
        "properties",
        "propertyOrdering",
        "required",
        "schema",
        "strict",
        "string",
        "title",
        "type",
    ],
};

impl Asides {
    /// What a tool was called with: a JSON value, or a text that holds one.
    pub(in crate::api) fn arguments(&mut self, raw: &str) {
        self.read("assistant", "arguments", &ANYTHING, raw);
    }

    /// What somebody thought.
    pub(in crate::api) fn thoughts(&mut self, raw: &str) {
        self.read("assistant", "reasoning", &PART, raw);
    }

    /// What a tool gave in the form of the dialect, or a document says.
    pub(in crate::api) fn results(&mut self, raw: &str) {
        self.read("tool", "results", &PART, raw);
    }

    /// What a tool gave in a form of its own, or a document that is any object.
    pub(in crate::api) fn given(&mut self, raw: &str) {
        self.read("tool", "results", &ANYTHING, raw);
    }

    /// A key under which a tool gave something.
    pub(in crate::api) fn key(&mut self, key: &str) {
        self.push("tool", "results", &ANYTHING, key.to_owned());
    }

    /// What the client thinks the answer will be.
    pub(in crate::api) fn prediction(&mut self, raw: &str) {
        self.read("user", "prediction", &PART, raw);
    }

    /// What the client wants to have put into a prompt that is kept elsewhere.
    pub(in crate::api) fn variables(&mut self, raw: &str) {
        self.read("user", "variables", &ANYTHING, raw);
    }

    /// The name that somebody has among others of one role.
    pub(in crate::api) fn name(&mut self, role: &'static str, raw: &str) {
        self.read(role, "name", &ANYTHING, raw);
    }

    /// How the assistant declined.
    pub(in crate::api) fn refusal(&mut self, raw: &str) {
        self.read("assistant", "refusal", &ANYTHING, raw);
    }

    /// A field of a message that no dialect knows.
    pub(in crate::api) fn field(&mut self, role: &'static str, raw: &str) {
        self.read(role, "fields", &PART, raw);
    }

    /// A file's name, and its text where it is nothing but text.
    pub(in crate::api) fn file(&mut self, name: Option<&str>, text: Option<String>) {
        for text in name.map(str::to_owned).into_iter().chain(text) {
            self.push("user", "files", &ANYTHING, text);
        }
    }

    /// A text as it is.
    pub(in crate::api) fn text(&mut self, role: &'static str, what: &'static str, text: &str) {
        self.push(role, what, &ANYTHING, text.to_owned());
    }

    /// What tools are good for, and what they are to be called with. Their names are none of it: a tool could not be
    /// called by another.
    pub(in crate::api) fn tools(&mut self, raw: &str) {
        json::elements(raw).for_each(|tool| self.tool(tool));
    }

    fn tool(&mut self, raw: &str) {
        for (key, value) in json::entries(raw) {
            match &*key {
                "function" | "custom" => self.tool(value),
                "tools" | "functionDeclarations" | "function_declarations" => self.tools(value),
                "description"
                | "format"
                | "input_examples"
                | "input_schema"
                | "inputSchema"
                | "parameters"
                | "parametersJsonSchema"
                | "parameters_json_schema"
                | "response"
                | "responseJsonSchema"
                | "response_json_schema" => self.read("system", "tools", &SCHEMA, value),
                _ => {}
            }
        }
    }

    /// The form that the answer is to have.
    pub(in crate::api) fn schema(&mut self, raw: &str) {
        self.read("system", "schema", &SCHEMA, raw);
    }

    /// What was gathered, in the order of its places.
    pub(in crate::api) fn into_vec(self) -> Vec<Aside> {
        self.0
    }

    fn read(&mut self, role: &'static str, what: &'static str, form: &Form, raw: &str) {
        let value = match serde_json::from_str(raw) {
            Ok(Value::String(text)) => match serde_json::from_str(&text) {
                Ok(value @ (Value::Object(_) | Value::Array(_))) => value,
                _ => Value::String(text),
            },
            Ok(value) => value,
            Err(_) => return,
        };
        self.walk(role, what, form, value);
    }

    fn walk(&mut self, role: &'static str, what: &'static str, form: &Form, value: Value) {
        match value {
            Value::String(text) => self.push(role, what, form, text),
            // It may be that of a card.
            Value::Number(number) => self.push(role, what, form, number.to_string()),
            Value::Array(items) => items.into_iter().for_each(|item| self.walk(role, what, form, item)),
            Value::Object(fields) => {
                let base64 = fields.get("type").is_some_and(|kind| kind == "base64");
                for (key, value) in fields {
                    if form.silent.contains(&&*key) || base64 && key == "data" {
                        continue;
                    }
                    self.push(role, what, form, key);
                    self.walk(role, what, form, value);
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn push(&mut self, role: &'static str, what: &'static str, form: &Form, text: String) {
        if !text.is_empty() && !form.words.contains(&&*text) {
            self.0.push(Aside { role, what, text });
        }
    }

    /// What was gathered, in the order of its places.
    #[cfg(test)]
    pub(in crate::api) fn shown(&self) -> Vec<(&'static str, &str)> {
        self.0.iter().map(|aside| (aside.what, &*aside.text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_of_every_dialect_are_read_without_their_names() {
        for tools in [
            r#"[{"type":"function","function":{"name":"f","description":"mail ada","parameters":{"type":"object",
                "properties":{"to":{"type":"string","enum":["bob"]}},"required":["to"]}}}]"#,
            r#"[{"name":"f","description":"mail ada","input_schema":{"properties":{"to":{"enum":["bob"]}},"required":["to"]}}]"#,
            r#"[{"type":"namespace","tools":[{"name":"f","description":"mail ada",
                "parameters":{"properties":{"to":{"const":"bob"}},"required":["to"]}}]}]"#,
            r#"[{"functionDeclarations":[{"name":"f","description":"mail ada",
                "parameters":{"properties":{"to":{"default":"bob"}},"required":["to"]}}]},{"googleSearch":{}}]"#,
        ] {
            let mut asides = Asides::default();
            asides.tools(tools);
            assert_eq!(
                asides.shown(),
                ["mail ada", "to", "bob", "to"].map(|text| ("tools", text)),
                "{tools}"
            );
        }
    }
}
