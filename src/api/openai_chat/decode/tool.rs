//! Tools, tool choice, and their forms before 2023.

use serde_json::Value;

use super::record::{Place, Record, kind, object};
use super::{cache, wrong_type};
use crate::chat::{Tool, ToolChoice, ToolKind};
use crate::fault::Fault;

/// Decodes the `tools` array.
pub(super) fn decode_all(
    tools: Vec<Value>,
    place: &Place<'_>,
    lost: &mut Vec<String>,
) -> Result<Vec<Tool>, Fault> {
    tools.into_iter().enumerate().map(|(at, value)| decode(value, &place.index(at), lost)).collect()
}

fn decode(value: Value, place: &Place<'_>, lost: &mut Vec<String>) -> Result<Tool, Fault> {
    let mut fields = Record::new(object(value, place)?, place);
    let cache = cache(&mut fields)?;
    match fields.peek("type").and_then(Value::as_str) {
        // Some clients leave the type of functions out.
        Some("function") | None if fields.peek("function").is_some() => {
            fields.take("type");
            let below = place.key("function");
            let definition = fields.need_object("function")?;
            let mut tool = function(Record::new(definition, &below))?;
            tool.cache = cache;
            tool.rest.extend(fields.rest());
            Ok(tool)
        }
        Some("function") => Err(fields.missing("function")),
        Some("custom") => {
            let below = place.key("custom");
            let mut custom = Record::new(fields.need_object("custom")?, &below);
            fields.close(lost);
            Ok(Tool {
                name: custom.need_text("name")?,
                description: custom.text("description")?,
                parameters: None,
                strict: None,
                kind: ToolKind::Custom,
                cache,
                rest: custom.rest(),
            })
        }
        Some(kind) => {
            let name = fields.peek("name").and_then(Value::as_str).unwrap_or(kind).to_owned();
            let rest = fields.rest();
            Ok(Tool {
                name,
                description: None,
                parameters: None,
                strict: None,
                kind: ToolKind::Server,
                cache,
                rest,
            })
        }
        None => Err(fields.missing("type")),
    }
}

/// Decodes an element of the `functions` array.
pub(super) fn legacy((at, value): (usize, Value), place: &Place<'_>) -> Result<Tool, Fault> {
    let place = place.index(at);
    function(Record::new(object(value, &place)?, &place))
}

fn function(mut fields: Record<'_>) -> Result<Tool, Fault> {
    Ok(Tool {
        name: fields.need_text("name")?,
        description: fields.text("description")?,
        parameters: fields.object("parameters")?.map(Value::Object),
        strict: fields.flag("strict")?,
        kind: ToolKind::Function,
        cache: None,
        rest: fields.rest(),
    })
}

/// Decodes `tool_choice`, or the older `function_call`.
pub(super) fn choice(value: Option<Value>, place: &Place<'_>) -> Result<Option<ToolChoice>, Fault> {
    Ok(Some(match value {
        None => return Ok(None),
        Some(Value::String(word)) => match &*word {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            // Mistral says `any`.
            "required" | "any" => ToolChoice::Required,
            _ => ToolChoice::Other(Value::String(word)),
        },
        Some(Value::Object(fields)) => {
            let named = match fields.get("type").and_then(Value::as_str) {
                Some(kind @ ("function" | "custom")) => fields.get(kind).and_then(|below| below.get("name")),
                Some(_) => None,
                None => fields.get("name"),
            };
            match named.and_then(Value::as_str) {
                Some(name) => ToolChoice::Named(name.to_owned()),
                None => ToolChoice::Other(Value::Object(fields)),
            }
        }
        Some(other) => return Err(wrong_type(place.to_string(), "a string or an object", kind(&other))),
    }))
}
