//! Tools, namespaces of tools, and the choice among them.

use serde_json::{Value, json};

use crate::api::openai_chat::decode::record::{Place, Record, kind, object};
use crate::api::openai_chat::param::{invalid_value, missing, wrong_type};
use crate::chat::{Loss, Object, Tool, ToolChoice, ToolKind};
use crate::fault::Fault;

/// Longest name of a function that all providers take, in bytes.
const LONGEST_NAME: usize = 64;

/// Place in the client's `tools`, and where in that namespace.
pub(super) type ToolPlace = (usize, Option<usize>);

/// The name under which a function of a namespace is offered to providers that know no namespaces. A function that was loaded
/// on demand is called in a namespace of its own name, though it was offered in none.
pub(in crate::api::openai_responses) fn flat_name(space: &str, name: &str) -> String {
    if space == name {
        return name.to_owned();
    }
    let flat = format!("{space}__{name}");
    if flat.len() <= LONGEST_NAME {
        return flat;
    }
    let hash = blake3::hash(flat.as_bytes()).to_hex();
    let name = &name[..name.floor_char_boundary(LONGEST_NAME - 13)];
    format!("{name}_{}", &hash.as_str()[..12])
}

/// Decodes `tools`; a namespace becomes its functions.
pub(super) fn all(top: &mut Record<'_>, lost: &mut Vec<Loss>) -> Result<(Vec<Tool>, Vec<ToolPlace>), Fault> {
    let root = Place::Root;
    let place = root.key("tools");
    let (mut tools, mut places) = (Vec::new(), Vec::new());
    for (at, value) in top.list("tools")?.into_iter().enumerate() {
        let place = place.index(at);
        let mut fields = Record::new(object(value, &place)?, &place);
        let Some(word) = fields.text("type")? else { return Err(missing(place.key("type").to_string())) };
        if word != "namespace" {
            tools.push(one(fields, &word)?);
            places.push((at, None));
            continue;
        }
        let space = fields.need_text("name")?;
        let about = fields.text("description")?;
        let below = place.key("tools");
        for (inner, value) in fields.list("tools")?.into_iter().enumerate() {
            let place = below.index(inner);
            let mut fields = Record::new(object(value, &place)?, &place);
            let word = fields.text("type")?.unwrap_or_else(|| "function".to_owned());
            let mut tool = one(fields, &word)?;
            tool.name = flat_name(&space, &tool.name);
            // What is said of all of them would be lost with the namespace.
            tool.description = match (&about, tool.description) {
                (Some(about), Some(own)) => Some(format!("{about}\n\n{own}")),
                (about, own) => own.or_else(|| about.clone()),
            };
            tools.push(tool);
            places.push((at, Some(inner)));
        }
        let unread = fields.rest();
        lost.extend(unread.into_iter().map(|(key, _)| Loss::dropped(format!("{place}.{key}"))));
    }
    Ok((tools, places))
}

fn one(mut fields: Record<'_>, word: &str) -> Result<Tool, Fault> {
    let (kind, name) = match word {
        "function" => (ToolKind::Function, fields.need_text("name")?),
        "custom" => (ToolKind::Custom, fields.need_text("name")?),
        _ => {
            let name = fields.peek("name").and_then(Value::as_str).unwrap_or(word).to_owned();
            fields.put("type", word.into());
            (ToolKind::Server, name)
        }
    };
    if kind == ToolKind::Server {
        let rest = fields.rest();
        return Ok(Tool { name, description: None, parameters: None, strict: None, kind, cache: None, rest });
    }
    let description = fields.text("description")?;
    if kind == ToolKind::Custom {
        let format = fields.object("format")?.map(grammar);
        let mut rest = fields.rest();
        rest.extend(format.map(|format| ("format".to_owned(), Value::Object(format))));
        return Ok(Tool { name, description, parameters: None, strict: None, kind, cache: None, rest });
    }
    Ok(Tool {
        name,
        description,
        parameters: fields.object("parameters")?.map(Value::Object),
        strict: fields.flag("strict")?,
        kind,
        cache: None,
        rest: fields.rest(),
    })
}

/// The format of a custom tool as OpenAI's chat has it: a grammar's text one level deeper.
fn grammar(mut format: Object) -> Object {
    if format.get("type").is_some_and(|kind| kind == "grammar") {
        let inner = format.shift_remove("syntax").into_iter().map(|value| ("syntax", value));
        let inner: Object = inner
            .chain(format.shift_remove("definition").map(|value| ("definition", value)))
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        format.insert("grammar".into(), Value::Object(inner));
    }
    format
}

/// Decodes `tool_choice`. A list of allowed tools leaves only those over, which any provider understands.
pub(super) fn choice(
    top: &mut Record<'_>,
    tools: &mut Vec<Tool>,
    places: &mut Vec<ToolPlace>,
    lost: &mut Vec<Loss>,
) -> Result<Option<ToolChoice>, Fault> {
    let root = Place::Root;
    let place = root.key("tool_choice");
    let fields = match top.take("tool_choice") {
        None => return Ok(None),
        Some(Value::String(word)) => return word_choice(&word, &place).map(Some),
        Some(Value::Object(fields)) => fields,
        Some(other) => return Err(wrong_type(place.to_string(), "a string or an object", kind(&other))),
    };
    let mut fields = Record::new(fields, &place);
    Ok(match &*fields.need_text("type")? {
        "function" | "custom" => Some(ToolChoice::Named(fields.need_text("name")?)),
        "allowed_tools" => {
            let mode = fields.text("mode")?.unwrap_or_else(|| "auto".to_owned());
            let allowed = fields.need_list("tools")?;
            let is_allowed = |tool: &Tool| {
                allowed.iter().any(|choice| match choice.get("name").and_then(Value::as_str) {
                    Some(name) => name == tool.name,
                    None => choice.get("type") == tool.rest.get("type") && tool.kind == ToolKind::Server,
                })
            };
            let kept: Vec<bool> = tools.iter().map(is_allowed).collect();
            let mut keep = kept.iter();
            tools.retain(|_| *keep.next().unwrap_or(&true));
            let mut keep = kept.iter();
            places.retain(|_| *keep.next().unwrap_or(&true));
            Some(word_choice(&mode, &place.key("mode"))?)
        }
        // A tool of OpenAI's own, which the loss report names by its definition.
        _ => {
            lost.push(Loss::dropped("tool_choice"));
            None
        }
    })
}

fn word_choice(word: &str, place: &Place<'_>) -> Result<ToolChoice, Fault> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" | "any" => Ok(ToolChoice::Required),
        _ => Err(invalid_value(place.to_string(), "one of 'none', 'auto', 'required'")),
    }
}

/// A tool of a namespace, by the name under which it is offered.
pub(in crate::api::openai_responses) fn spaces(tools: &Value) -> impl Iterator<Item = (String, Value)> {
    let spaces = tools.as_array().into_iter().flatten().filter(|tool| tool["type"] == "namespace");
    spaces.flat_map(|space| {
        let (name, inner) = (space["name"].as_str().unwrap_or_default(), space["tools"].as_array());
        inner.into_iter().flatten().filter_map(move |tool| {
            let own = tool["name"].as_str()?;
            let custom = tool["type"] == "custom";
            Some((flat_name(name, own), json!({ "name": own, "namespace": name, "custom": custom })))
        })
    })
}
