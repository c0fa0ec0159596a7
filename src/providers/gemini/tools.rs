//! Tools and the choice among them: <https://ai.google.dev/gemini-api/docs/function-calling>

use serde_json::{Value, json};

use super::model::Model;
use super::{Surface, schema};
use crate::chat::{Loss, Object, Request, Tool, ToolChoice, ToolKind};
use crate::providers::choice::{self, Wish};
use crate::providers::search::OPTIONS;

/// Tools that run at Google, by their names in requests, in either spelling.
const OWN: &[&str] = &[
    "googleSearch",
    "google_search",
    "googleSearchRetrieval",
    "google_search_retrieval",
    "codeExecution",
    "code_execution",
    "urlContext",
    "url_context",
    "fileSearch",
    "file_search",
    "computerUse",
    "computer_use",
    "googleMaps",
    "google_maps",
    "enterpriseWebSearch",
    "retrieval",
    "mcpServers",
];

/// Puts `tools` and `toolConfig` into the request's body.
pub(super) fn put(
    asked: &Request,
    model: Model<'_>,
    surface: Surface,
    body: &mut Object,
    lost: &mut Vec<Loss>,
) {
    let some = Wish::of_some(asked).unwrap_or_default();
    let (mut functions, mut others) = (Vec::new(), Vec::new());
    for (at, tool) in asked.tools.iter().enumerate() {
        if tool.kind == ToolKind::Server {
            // Functions are chosen by name; there is no such choice among Google's own.
            if some.leaves_out(tool, at, lost) {
                continue;
            }
            others.extend(server(tool, at, lost));
        } else {
            functions.push(declaration(tool, at, model, lost));
        }
    }
    if let Some(Value::Object(options)) = asked.rest.get(OPTIONS) {
        others.push(json!({ "googleSearch": {} }));
        if has_settings(options) {
            lost.push(Loss::new(OPTIONS, "became googleSearch without its settings"));
        }
    }
    // https://ai.google.dev/gemini-api/docs/function-calling#multi-tool-use
    if !functions.is_empty() && model.excludes() && !others.is_empty() {
        others.clear();
        lost.push(Loss::new("tools", "Google's own dropped: this model takes them or functions, not both"));
    }
    let (chooses, owns) = (!functions.is_empty(), !others.is_empty());
    let mut tools = Vec::new();
    if !functions.is_empty() {
        tools.push(json!({ "functionDeclarations": functions }));
    }
    tools.append(&mut others);
    if !tools.is_empty() {
        body.insert("tools".into(), Value::Array(tools));
    }
    let choice = choice::among(asked, |tool| tool.kind != ToolKind::Server, lost);
    // "Function calling config is set without function_declarations."
    let says = |choice: &ToolChoice| choice::forces(asked) || owns && *choice == ToolChoice::None;
    if !chooses && choice.as_deref().is_some_and(says) {
        lost.push(Loss::new("tool_choice", "dropped: there is no function to choose"));
    }
    if let Some(config) = choice.filter(|_| chooses).and_then(|choice| choice_of(&choice, lost)) {
        body.insert("toolConfig".into(), config);
    }
    if chooses && owns && surface == Surface::Gemini {
        show_invocations(body);
    }
    if asked.parallel_tool_calls == Some(false) && !asked.tools.is_empty() {
        lost.push(Loss::dropped("parallel_tool_calls"));
    }
}

/// The Gemini API takes its own tools beside functions only where calls of its own may show in the answer, and then knows
/// no mode `AUTO`; Vertex AI does not know the word: <https://ai.google.dev/gemini-api/docs/tool-combination>
fn show_invocations(body: &mut Object) {
    let config = body.entry("toolConfig").or_insert_with(|| json!({}));
    let Some(config) = config.as_object_mut() else { return };
    let mode = config.get("functionCallingConfig").and_then(|config| config.get("mode"));
    if mode.is_some_and(|mode| mode == "AUTO") {
        config.shift_remove("functionCallingConfig");
    }
    config.insert("includeServerSideToolInvocations".into(), true.into());
}

fn declaration(tool: &Tool, at: usize, model: Model<'_>, lost: &mut Vec<Loss>) -> Value {
    let mut function = Object::new();
    function.insert("name".into(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        function.insert("description".into(), description.as_str().into());
    }
    match &tool.parameters {
        _ if tool.kind == ToolKind::Custom => {
            // Free text becomes the one argument of a function.
            let schema = json!({ "type": "OBJECT", "properties": { "input": { "type": "STRING" } }, "required": ["input"] });
            function.insert("parameters".into(), schema);
            if tool.rest.contains_key("format") {
                lost.push(Loss::dropped(format!("tools[{at}].custom.format")));
            }
        }
        // A function without parameters: an empty object of properties is refused by older models.
        Some(schema) if takes_nothing(schema) => {}
        Some(schema) if model.reads_json_schema() => {
            let mut schema = schema.clone();
            if let Value::Object(object) = &mut schema {
                object.shift_remove("$schema");
            }
            function.insert("parametersJsonSchema".into(), schema);
        }
        Some(schema) => {
            let schema = schema::down(schema, &format!("tools[{at}].parameters"), lost);
            function.insert("parameters".into(), schema);
        }
        None => {}
    }
    if tool.strict == Some(true) {
        lost.push(Loss::dropped(format!("tools[{at}].function.strict")));
    }
    if tool.cache.is_some() {
        lost.push(Loss::dropped(format!("tools[{at}].cache_control")));
    }
    for (field, value) in &tool.rest {
        match &**field {
            "response" | "responseJsonSchema" | "behavior" => {
                function.insert(field.clone(), value.clone());
            }
            _ if tool.kind == ToolKind::Function => lost.push(Loss::dropped(format!("tools[{at}].{field}"))),
            _ => {}
        }
    }
    Value::Object(function)
}

fn takes_nothing(schema: &Value) -> bool {
    let Some(object) = schema.as_object() else { return true };
    let empty = object.get("properties").and_then(Value::as_object).is_none_or(Object::is_empty);
    let plain = object.keys().all(|key| {
        matches!(&**key, "type" | "properties" | "required" | "additionalProperties" | "$schema" | "title")
    });
    let open = object.get("additionalProperties").is_some_and(|value| *value != Value::Bool(false));
    empty && plain && !open && !object.is_empty()
}

/// A tool that runs at the provider: Google's own as it came, others by what they do.
fn server(tool: &Tool, at: usize, lost: &mut Vec<Loss>) -> Option<Value> {
    if tool.rest.keys().any(|key| OWN.contains(&&**key)) {
        return Some(Value::Object(tool.rest.clone()));
    }
    let kind = tool.rest.get("type").and_then(Value::as_str).unwrap_or(&tool.name);
    let (known, own) = if kind.starts_with("web_search") {
        ("web_search", "googleSearch")
    } else if kind.starts_with("web_fetch") {
        ("web_fetch", "urlContext")
    } else if kind.starts_with("code_execution") || kind.starts_with("code_interpreter") {
        ("code_execution", "codeExecution")
    } else {
        lost.push(Loss::dropped(format!("tools[{at}]")));
        return None;
    };
    // Its settings (allowed domains, number of uses) have no place here.
    if has_settings(&tool.rest) {
        lost.push(Loss::new(format!("tools[{at}]"), format!("{known} became {own} without its settings")));
    }
    Some(json!({ own: {} }))
}

fn has_settings(tool: &Object) -> bool {
    tool.keys().any(|key| !matches!(&**key, "type" | "name" | "container" | "search_context_size"))
}

fn choice_of(choice: &ToolChoice, lost: &mut Vec<Loss>) -> Option<Value> {
    let mode = |mode: &str| json!({ "functionCallingConfig": { "mode": mode } });
    let named = |mode: &str, names: Vec<&str>| json!({ "functionCallingConfig": { "mode": mode, "allowedFunctionNames": names } });
    Some(match choice {
        ToolChoice::Auto => mode("AUTO"),
        ToolChoice::None => mode("NONE"),
        ToolChoice::Required => mode("ANY"),
        ToolChoice::Named(name) => named("ANY", vec![name]),
        ToolChoice::Other(value) if value.get("functionCallingConfig").is_some() => value.clone(),
        ToolChoice::Other(_) => match choice::list(choice) {
            // OpenAI's list of allowed tools; `VALIDATED` lets the model answer without a call.
            Some((must, some)) => {
                named(if must { "ANY" } else { "VALIDATED" }, some.iter().filter_map(choice::name).collect())
            }
            None => {
                lost.push(Loss::dropped("tool_choice"));
                return None;
            }
        },
    })
}
