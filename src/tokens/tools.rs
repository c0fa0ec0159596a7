//! Tokens of tools, as OpenAI's models see them: <https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken>

use serde_json::Value;

use super::family::Family;
use crate::chat::Tool;

/// What stands around a function, its parameters, each of them, and the values that one may have.
const FUNCTION: u64 = 7;
const FUNCTION_BEFORE: u64 = 10;
const PARAMETERS: u64 = 3;
const PARAMETER: u64 = 3;
const VALUE: u64 = 3;

/// Schemas within schemas, beyond which nobody looks.
const DEEPEST: usize = 32;

/// Tokens of all tools of a request.
pub(super) fn tools(tools: &[Tool], family: &Family, count: &mut dyn FnMut(&str) -> u64) -> u64 {
    if tools.is_empty() {
        return 0;
    }
    let all: u64 = match family.tool_per_mille {
        None => tools.iter().map(|tool| function(tool, family, count)).sum(),
        Some(per_mille) => {
            let counted: u64 = tools.iter().map(|tool| count(&written(tool))).sum();
            family.scaled(counted).saturating_mul(per_mille) / 1_000
        }
    };
    family.tools + all
}

/// The same at most: no template says more than the definitions as JSON.
pub(super) fn tools_at_most(tools: &[Tool], count: &mut dyn FnMut(&str) -> u64) -> u64 {
    tools.iter().map(|tool| count(&written(tool)) + 2 * FUNCTION_BEFORE).sum()
}

fn function(tool: &Tool, family: &Family, count: &mut dyn FnMut(&str) -> u64) -> u64 {
    let around = if family.name == "gpt-4" { FUNCTION_BEFORE } else { FUNCTION };
    let about = tool.description.as_deref().unwrap_or_default().trim_end_matches('.');
    let head = count(&format!("{}:{about}", tool.name));
    let Some(schema) = &tool.parameters else { return around + head + rest(tool, count) };
    around + head + properties(schema, DEEPEST, count)
}

/// Tools that are no functions are only known as their dialect writes them.
fn rest(tool: &Tool, count: &mut dyn FnMut(&str) -> u64) -> u64 {
    if tool.rest.is_empty() { 0 } else { count(&Value::Object(tool.rest.clone()).to_string()) }
}

fn properties(schema: &Value, deeper: usize, count: &mut dyn FnMut(&str) -> u64) -> u64 {
    let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|all| !all.is_empty())
    else {
        return 0;
    };
    let each: u64 = properties.iter().map(|(name, about)| property(name, about, deeper, count)).sum();
    PARAMETERS + each
}

fn property(name: &str, schema: &Value, deeper: usize, count: &mut dyn FnMut(&str) -> u64) -> u64 {
    let text = |field: &str| schema.get(field).and_then(Value::as_str).unwrap_or_default();
    let line = count(&format!("{name}:{}:{}", text("type"), text("description").trim_end_matches('.')));
    let values = schema.get("enum").and_then(Value::as_array).map_or(0, |values| {
        let each: u64 = values.iter().map(|value| VALUE + count(&shown(value))).sum();
        each.saturating_sub(VALUE)
    });
    let inside = match deeper.checked_sub(1) {
        Some(deeper) => {
            let items = schema.get("items").map_or(0, |items| properties(items, deeper, count));
            properties(schema, deeper, count) + items
        }
        None => 0,
    };
    PARAMETER + line + values + inside
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The definition as JSON.
fn written(tool: &Tool) -> String {
    let mut out = serde_json::Map::new();
    out.insert("name".to_owned(), tool.name.as_str().into());
    if let Some(about) = &tool.description {
        out.insert("description".to_owned(), about.as_str().into());
    }
    if let Some(schema) = &tool.parameters {
        out.insert("parameters".to_owned(), schema.clone());
    }
    out.extend(tool.rest.clone());
    Value::Object(out).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tokens::Encoding;

    /// The example of OpenAI's cookbook, of which it tells what the API counts.
    #[test]
    fn functions_have_the_tokens_that_openai_says() {
        let tool = Tool {
            name: "get_current_weather".into(),
            description: Some("Get the current weather in a given location".into()),
            parameters: Some(json!({
                "type": "object",
                "properties": {
                    "location": { "type": "string", "description": "The city and state, e.g. San Francisco, CA" },
                    "unit": { "type": "string", "description": "The unit of temperature to return",
                        "enum": ["celsius", "fahrenheit"] },
                },
                "required": ["location"],
            })),
            strict: None,
            kind: crate::chat::ToolKind::Function,
            cache: None,
            rest: serde_json::Map::new(),
        };
        let messages = [
            ("system", "You are a helpful assistant that can answer to questions about the weather."),
            ("user", "What's the weather like in San Francisco?"),
        ];
        for (model, expected) in
            [("gpt-3.5-turbo", 105), ("gpt-4", 105), ("gpt-4o", 101), ("gpt-4o-mini", 101)]
        {
            let family = Family::of(&[model]);
            let mut count = |text: &str| Encoding::count(family.encoding, text);
            let said: u64 =
                messages.iter().map(|(role, text)| 3 + count(role) + count(text)).sum::<u64>() + family.base;
            assert_eq!(said + tools(std::slice::from_ref(&tool), family, &mut count), expected, "{model}");
        }
    }
}
