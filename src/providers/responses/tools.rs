//! Tools and the choice among them, as this API has them: flat, and functions strict unless told otherwise.

use serde_json::{Value, json};

use crate::chat::{Loss, Object, Request, Tool, ToolChoice, ToolKind};
use crate::providers::choice;
use crate::providers::openai::encode::put;
use crate::providers::openai::losses;
use crate::providers::openai::strict::strict;
use crate::providers::search::Search;

/// Adds `tools`, `tool_choice` and `parallel_tool_calls`.
pub(super) fn put_all(asked: &Request, body: &mut Object, lost: &mut Vec<Loss>) {
    let mut kept = match body.shift_remove("tools") {
        Some(Value::Array(tools)) => tools,
        _ => Vec::new(),
    };
    for (at, definition) in asked.tools.iter().enumerate() {
        if definition.kind == ToolKind::Server && !is_sayable(definition) {
            match Search::of(definition) {
                Some(search) => {
                    let (tool, unknown) = search.for_openai();
                    kept.push(tool);
                    lost.extend(
                        unknown.into_iter().map(|field| Loss::dropped(format!("tools[{at}].{field}"))),
                    );
                }
                None => lost.push(Loss::dropped(format!("tools[{at}]"))),
            }
            continue;
        }
        losses::of_tool(definition, at, false, lost);
        kept.push(tool(definition, at, lost));
    }
    if kept.is_empty() {
        // A choice is refused without tools.
        if asked.tool_choice.as_ref().is_some_and(|choice| *choice != ToolChoice::None)
            && !asked.tools.is_empty()
        {
            lost.push(Loss::dropped("tool_choice"));
        }
        return;
    }
    body.insert("tools".into(), Value::Array(kept));
    let choice = choice::among(asked, |tool| tool.kind != ToolKind::Server || is_sayable(tool), lost);
    put(body, "tool_choice", choice.map(|choice| chosen(&choice, &asked.tools)));
    put(body, "parallel_tool_calls", asked.parallel_tool_calls);
}

/// Chat's `web_search_options` as the tool that it stands for.
pub(super) fn search(options: &Object, body: &mut Object) {
    let mut tool = Object::new();
    tool.insert("type".into(), "web_search".into());
    for (field, value) in options {
        match (&**field, value.get("approximate"), value) {
            ("user_location", Some(Value::Object(place)), _) => {
                let mut place = place.clone();
                place.insert("type".into(), "approximate".into());
                tool.insert("user_location".into(), Value::Object(place));
            }
            (field, _, value) => {
                tool.insert(field.to_owned(), value.clone());
            }
        }
    }
    body.insert("tools".into(), json!([tool]));
}

/// Whether a server tool may be one of this API's: it has a type, and is not of Anthropic's or Google's form.
fn is_sayable(tool: &Tool) -> bool {
    tool.rest.get("type").is_some_and(Value::is_string) && !tool.is_anthropics()
}

fn tool(tool: &Tool, at: usize, lost: &mut Vec<Loss>) -> Value {
    if tool.kind == ToolKind::Server {
        return Value::Object(tool.rest.clone());
    }
    let custom = tool.kind == ToolKind::Custom;
    let mut object = Object::new();
    object.insert("type".into(), if custom { "custom" } else { "function" }.into());
    object.insert("name".into(), tool.name.as_str().into());
    put(&mut object, "description", tool.description.clone());
    if !custom {
        let parameters =
            tool.parameters.clone().unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
        let strict = strict(tool.strict, Some(&parameters), || format!("tools[{at}].function.strict"), lost);
        object.insert("parameters".into(), parameters);
        // Elsewhere a function is loose unless it says so.
        object.insert("strict".into(), strict.unwrap_or(false).into());
    }
    for (field, value) in tool.rest.iter().filter(|_| tool.kind == ToolKind::Custom) {
        let value = if field == "format" { grammar(value) } else { value.clone() };
        object.entry(field.clone()).or_insert(value);
    }
    Value::Object(object)
}

/// Chat nests a grammar once more.
fn grammar(format: &Value) -> Value {
    match format.get("grammar") {
        Some(Value::Object(grammar)) => {
            let mut flat = grammar.clone();
            flat.insert("type".into(), "grammar".into());
            Value::Object(flat)
        }
        _ => format.clone(),
    }
}

fn chosen(choice: &ToolChoice, tools: &[Tool]) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Named(name) => {
            let custom = tools.iter().any(|tool| tool.name == *name && tool.kind == ToolKind::Custom);
            json!({ "type": if custom { "custom" } else { "function" }, "name": name })
        }
        ToolChoice::Other(value) => match value.get("allowed_tools") {
            // Chat nests the list, and the name of each of its tools, once more.
            Some(Value::Object(allowed)) => {
                let mut flat = allowed.clone();
                flat.insert("type".into(), "allowed_tools".into());
                if let Some(Value::Array(tools)) = flat.get_mut("tools") {
                    tools.iter_mut().for_each(flatten);
                }
                Value::Object(flat)
            }
            _ => value.clone(),
        },
    }
}

fn flatten(tool: &mut Value) {
    let Some(object) = tool.as_object_mut() else { return };
    for kind in ["function", "custom"] {
        if let Some(Value::Object(inner)) = object.shift_remove(kind) {
            object.extend(inner);
        }
    }
}
