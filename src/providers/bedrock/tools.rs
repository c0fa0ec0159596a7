//! Tools and the choice among them:
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolConfiguration.html>

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::conversation::point;
use super::model::Model;
use crate::chat::{Loss, Object, Request, Tool, ToolChoice, ToolKind};
use crate::providers::anthropic::encode::input_schema;
use crate::providers::anthropic::schema;
use crate::providers::choice::Wish;

/// What the tools do to the request.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tools {
    /// `toolConfig`.
    pub(super) config: Option<Value>,
    /// For `additionalModelRequestFields`.
    pub(super) fields: Object,
}

/// The tools of a request, in whose conversation those named `called` were called.
pub(super) fn tools(
    asked: &Request,
    model: Model<'_>,
    called: &BTreeSet<String>,
    lost: &mut Vec<Loss>,
) -> Tools {
    let wish = Wish::read(asked, |tool| tool.kind != ToolKind::Server, lost);
    let mut desk = Desk { model, list: Vec::new(), fields: Object::new(), lost };
    let history = has_tool_blocks(asked);
    // There is no word for "call none": without tools in the conversation, they can be left out.
    let barred = asked.tool_choice == Some(ToolChoice::None);
    if !barred || history {
        for (at, tool) in asked.tools.iter().enumerate() {
            if !wish.leaves_out(tool, at, desk.lost) {
                desk.tool(tool, at);
            }
        }
    }
    if desk.list.is_empty() && history {
        // "The toolConfig field must be defined when using toolUse and toolResult content blocks."
        desk.lost.push(Loss::new(
            "tools",
            "the tools called before are offered again: this provider demands them",
        ));
        let none = ["tool".to_owned()].into_iter().collect();
        let names = if called.is_empty() { &none } else { called };
        let any = json!({ "type": "object", "properties": {} });
        let spec = |name: &String| json!({ "toolSpec": { "name": name, "inputSchema": { "json": any } } });
        desk.list.extend(names.iter().map(spec));
    }
    let Desk { list, mut fields, lost, .. } = desk;
    let offered = !list.is_empty() || fields.contains_key("tools");
    let choice = offered.then(|| choice(asked, &wish, model, &mut fields, lost)).flatten();
    if !offered && wish.forces() {
        lost.push(Loss::dropped("tool_choice"));
    }
    let config = (!list.is_empty()).then(|| {
        let mut config = json!({ "tools": list });
        if let Some(choice) = choice {
            config["toolChoice"] = choice;
        }
        config
    });
    Tools { config, fields }
}

struct Desk<'a> {
    model: Model<'a>,
    list: Vec<Value>,
    fields: Object,
    lost: &'a mut Vec<Loss>,
}

impl Desk<'_> {
    fn tool(&mut self, tool: &Tool, at: usize) {
        let path = format!("tools[{at}]");
        match tool.kind {
            ToolKind::Server => self.server(tool, &path),
            ToolKind::Function | ToolKind::Custom => {
                let spec = self.spec(tool, at, &path);
                self.list.push(json!({ "toolSpec": spec }));
            }
        }
        let Some(hint) = &tool.cache else { return };
        if self.model.caches() && !self.model.caches_tools() {
            let what = "dropped: this model caches no tools";
            self.lost.push(Loss::new(format!("{path}.cache_control"), what));
        } else {
            self.list.extend(point(hint, self.model, &path, self.lost));
        }
    }

    /// A function. Nova takes nothing at the top of a schema but what makes it one of an object.
    /// <https://docs.aws.amazon.com/nova/latest/userguide/tool-use-definition.html>
    fn spec(&mut self, tool: &Tool, at: usize, path: &str) -> Object {
        let mut spec = Object::new();
        spec.insert("name".into(), tool.name.as_str().into());
        if let Some(description) = tool.description.as_deref().filter(|text| !text.is_empty()) {
            spec.insert("description".into(), description.into());
        }
        let mut parameters = input_schema(tool);
        if let Value::Object(schema) = &mut parameters
            && self.model.is_nova()
        {
            let plain = |key: &str| matches!(key, "type" | "properties" | "required");
            let more = schema.keys().filter(|key| !plain(key) && *key != "$schema");
            self.lost.extend(more.map(|key| Loss::dropped(format!("{path}.parameters.{key}"))));
            schema.retain(|key, _| plain(key));
        }
        if tool.strict == Some(true) {
            let knows = self.model.knows_schemas();
            match knows.then(|| schema::strict(&parameters)).flatten() {
                Some(exact) => {
                    parameters = exact;
                    spec.insert("strict".into(), true.into());
                }
                None => self.lost.push(schema::lose_strict(at, knows)),
            }
        }
        spec.insert("inputSchema".into(), json!({ "json": parameters }));
        if tool.kind == ToolKind::Custom {
            let what = "offered as a function with one text argument";
            self.lost.push(Loss::new(path.to_owned(), what));
        } else {
            let unknown = tool.rest.iter().filter(|(key, value)| *key != "type" && !value.is_null());
            self.lost.extend(unknown.map(|(key, _)| Loss::dropped(format!("{path}.{key}"))));
        }
        spec
    }

    /// Tools that run at the provider, and those that Anthropic has defined for its models.
    fn server(&mut self, tool: &Tool, path: &str) {
        let kind = tool.rest.get("type").and_then(Value::as_str).unwrap_or(&tool.name);
        if let Some(system) = tool.rest.get("systemTool") {
            self.list.push(json!({ "systemTool": system }));
        } else if self.model.is_nova()
            && let Some((_, name)) = NOVAS.iter().find(|(word, _)| kind.starts_with(word))
        {
            self.list.push(json!({ "systemTool": { "name": name } }));
        } else if self.model.is_claude()
            && tool.is_anthropics()
            && AT_CLIENT.iter().any(|word| kind.starts_with(word))
        {
            push(&mut self.fields, "tools", Value::Object(tool.rest.clone()));
            if let Some((_, beta)) = BETAS.iter().find(|(known, _)| *known == kind) {
                push(&mut self.fields, "anthropic_beta", (*beta).into());
            }
        } else {
            self.lost.push(Loss::dropped(path.to_owned()));
        }
    }
}

/// Nova's own tools: <https://docs.aws.amazon.com/nova/latest/nova2-userguide/using-tools.html>
const NOVAS: &[(&str, &str)] = &[
    ("web_search", "nova_grounding"),
    ("code_execution", "nova_code_interpreter"),
    ("code_interpreter", "nova_code_interpreter"),
];

/// Tools of Anthropic's that run at the client. Those that run at Anthropic are not to be had here.
const AT_CLIENT: &[&str] = &["computer_", "bash_", "text_editor_", "memory_"];

/// What must be asked for with them:
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/computer-use.html>
const BETAS: &[(&str, &str)] = &[
    ("computer_20241022", "computer-use-2024-10-22"),
    ("computer_20250124", "computer-use-2025-01-24"),
    ("computer_20251124", "computer-use-2025-11-24"),
];

/// Adds to a list, once.
fn push(fields: &mut Object, key: &str, value: Value) {
    let list = fields.entry(key).or_insert_with(|| json!([]));
    if let Value::Array(list) = list
        && !list.contains(&value)
    {
        list.push(value);
    }
}

fn choice(
    asked: &Request,
    wish: &Wish<'_>,
    model: Model<'_>,
    fields: &mut Object,
    lost: &mut Vec<Loss>,
) -> Option<Value> {
    if wish.word == Some(&ToolChoice::None) {
        lost.push(Loss::new("tool_choice", "left to the model: this provider cannot bar tools"));
        return None;
    }
    let spared = wish.forces() && !model.can_be_forced();
    if spared {
        lost.push(Loss::new("tool_choice", "left to the model: tools cannot be forced upon it"));
    }
    let wanted = wish.word.filter(|_| !spared);
    let alone = asked.parallel_tool_calls == Some(false);
    if alone && model.is_claude() {
        // One at a time is said in Claude's own words, together with the choice.
        let choice = match wanted {
            Some(ToolChoice::Required) => json!({ "type": "any", "disable_parallel_tool_use": true }),
            Some(ToolChoice::Named(name)) => {
                json!({ "type": "tool", "name": name, "disable_parallel_tool_use": true })
            }
            _ => json!({ "type": "auto", "disable_parallel_tool_use": true }),
        };
        fields.insert("tool_choice".into(), choice);
        return None;
    }
    if alone {
        lost.push(Loss::dropped("parallel_tool_calls"));
    }
    match wanted {
        // Some models refuse even the default, said aloud.
        None | Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Other(_)) => None,
        Some(ToolChoice::Required) => Some(json!({ "any": {} })),
        Some(ToolChoice::Named(name)) => Some(json!({ "tool": { "name": name } })),
    }
}

fn has_tool_blocks(asked: &Request) -> bool {
    use crate::chat::Part;
    let parts = asked.messages.iter().flat_map(|message| &message.content);
    parts.into_iter().any(|part| matches!(part, Part::ToolCall { .. } | Part::ToolResult { .. }))
}
