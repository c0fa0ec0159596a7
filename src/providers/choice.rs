//! Which of the tools a model may call, and whether it must: what every encoder makes of the client's choice.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::chat::{Loss, Request, Tool, ToolChoice, ToolKind};

static AUTO: ToolChoice = ToolChoice::Auto;
static REQUIRED: ToolChoice = ToolChoice::Required;

/// The choice for dialects that have no word for some of the tools: only those are offered.
#[derive(Debug, Default)]
pub(super) struct Wish<'a> {
    /// Never [`ToolChoice::Other`], and never the name of a tool that is left out.
    pub(super) word: Option<&'a ToolChoice>,
    /// The tools that may be called, where the client named some.
    some: Option<&'a [Value]>,
}

impl<'a> Wish<'a> {
    /// Reads the choice of a request of which the tools go out that `says` tells.
    pub(super) fn read(asked: &'a Request, says: impl Fn(&Tool) -> bool, lost: &mut Vec<Loss>) -> Self {
        if let Some(some) = Self::of_some(asked) {
            return some;
        }
        let mut word = asked.tool_choice.as_ref().filter(|choice| is_offered(choice, asked, says, lost));
        if let Some(ToolChoice::Other(_)) = word {
            lost.push(Loss::new("tool_choice", "not known to this provider, left to the model"));
            word = None;
        }
        Self { word, some: None }
    }

    /// The choice of some of the tools; `None` where it is another one.
    pub(super) fn of_some(asked: &'a Request) -> Option<Self> {
        let (must, some) = list(asked.tool_choice.as_ref()?)?;
        Some(Self { word: Some(if must { &REQUIRED } else { &AUTO }), some: Some(some) })
    }

    /// Whether this tool may be called.
    fn allows(&self, tool: &Tool) -> bool {
        self.some.is_none_or(|some| some.iter().any(|one| means(one, tool)))
    }

    /// Whether the tool at this place is not offered, because it may not be called; then it is told of.
    pub(super) fn leaves_out(&self, tool: &Tool, at: usize, lost: &mut Vec<Loss>) -> bool {
        let left = !self.allows(tool);
        if left {
            lost.push(Loss::new(format!("tools[{at}]"), "not offered: the choice names others"));
        }
        left
    }

    /// Whether a tool must be called.
    pub(super) fn forces(&self) -> bool {
        matches!(self.word, Some(ToolChoice::Required | ToolChoice::Named(_)))
    }
}

/// The choice for dialects that can name some of the tools, without the names of those that do not go out. `says` tells
/// which do.
pub(super) fn among<'a>(
    asked: &'a Request,
    says: impl Fn(&Tool) -> bool,
    lost: &mut Vec<Loss>,
) -> Option<Cow<'a, ToolChoice>> {
    let choice = asked.tool_choice.as_ref()?;
    let Some((must, some)) = list(choice) else {
        return is_offered(choice, asked, says, lost).then_some(Cow::Borrowed(choice));
    };
    let is_said = |one: &&Value| asked.tools.iter().any(|tool| says(tool) && means(one, tool));
    let kept: Vec<&Value> = some.iter().filter(is_said).collect();
    if kept.len() == some.len() {
        return Some(Cow::Borrowed(choice));
    }
    lost.push(Loss::new("tool_choice", "without the tools that are not offered here"));
    match (kept.is_empty(), must) {
        (true, true) => None,
        (true, false) => Some(Cow::Owned(ToolChoice::None)),
        (false, must) => {
            let allowed = json!({ "mode": if must { "required" } else { "auto" }, "tools": kept });
            let choice = json!({ "type": "allowed_tools", "allowed_tools": allowed });
            Some(Cow::Owned(ToolChoice::Other(choice)))
        }
    }
}

/// Whether a tool must be called.
pub(super) fn forces(asked: &Request) -> bool {
    match &asked.tool_choice {
        Some(ToolChoice::Required | ToolChoice::Named(_)) => true,
        Some(choice) => list(choice).is_some_and(|(must, _)| must),
        None => false,
    }
}

/// OpenAI's list of the tools that may be called, and whether one of them must be. Google's door says its own in the same
/// words.
pub(super) fn list(choice: &ToolChoice) -> Option<(bool, &[Value])> {
    let ToolChoice::Other(value) = choice else { return None };
    let allowed = value.get("allowed_tools")?;
    let must = allowed.get("mode").is_some_and(|mode| mode == "required");
    let tools = allowed.get("tools").and_then(Value::as_array);
    Some((must, tools.map(Vec::as_slice).unwrap_or_default()))
}

/// The name of a tool in such a list.
pub(super) fn name(one: &Value) -> Option<&str> {
    let inner = one.get("function").or_else(|| one.get("custom")).unwrap_or(one);
    inner.get("name")?.as_str()
}

/// Whether an entry of such a list means this tool: tools that run at a provider go by their type.
fn means(one: &Value, tool: &Tool) -> bool {
    match name(one) {
        Some(name) => name == tool.name,
        None => {
            tool.kind == ToolKind::Server
                && one.get("type").is_some_and(|kind| tool.rest.get("type") == Some(kind))
        }
    }
}

/// Whether a choice names nothing that is left out: a provider's own tool of another provider, or nothing at all.
fn is_offered(
    choice: &ToolChoice,
    asked: &Request,
    says: impl Fn(&Tool) -> bool,
    lost: &mut Vec<Loss>,
) -> bool {
    let ToolChoice::Named(name) = choice else { return true };
    let offered = asked.tools.is_empty() || asked.tools.iter().any(|tool| says(tool) && tool.name == *name);
    if !offered {
        lost.push(Loss::new("tool_choice", "dropped: it names a tool that is not offered here"));
    }
    offered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Object, Role};
    use crate::providers::{QuirkSettings, dialect};
    use crate::target::TargetName;

    fn tool(name: &str, kind: ToolKind) -> Tool {
        let rest = json!({ "type": name }).as_object().cloned().unwrap();
        let rest = if kind == ToolKind::Server { rest } else { Object::new() };
        Tool { name: name.into(), description: None, parameters: None, strict: None, kind, cache: None, rest }
    }

    fn asks(choice: Value) -> Request {
        let tools = vec![
            tool("f", ToolKind::Function),
            tool("g", ToolKind::Function),
            tool("search", ToolKind::Server),
        ];
        let tool_choice = match choice {
            Value::String(name) => ToolChoice::Named(name),
            other => ToolChoice::Other(other),
        };
        Request { tools, tool_choice: Some(tool_choice), ..Request::default() }
    }

    fn allowed(mode: &str, tools: Value) -> Value {
        json!({ "type": "allowed_tools", "allowed_tools": { "mode": mode, "tools": tools } })
    }

    #[test]
    fn some_of_the_tools_are_those_that_are_offered() {
        let f = json!({ "type": "function", "function": { "name": "f" } });
        let flat = json!({ "type": "custom", "name": "g" });
        for (choice, word, offered, losses) in [
            (allowed("required", json!([f])), Some(ToolChoice::Required), vec!["f"], 0),
            (allowed("auto", json!([f, flat])), Some(ToolChoice::Auto), vec!["f", "g"], 0),
            (allowed("auto", json!([{ "type": "search" }])), Some(ToolChoice::Auto), vec!["search"], 0),
            (allowed("auto", json!([])), Some(ToolChoice::Auto), vec![], 0),
            (json!("f"), Some(ToolChoice::Named("f".into())), vec!["f", "g", "search"], 0),
            (json!("search"), None, vec!["f", "g", "search"], 1),
            (json!("x"), None, vec!["f", "g", "search"], 1),
            (json!({ "type": "web" }), None, vec!["f", "g", "search"], 1),
        ] {
            let (asked, mut lost) = (asks(choice.clone()), Vec::new());
            let wish = Wish::read(&asked, |tool| tool.kind == ToolKind::Function, &mut lost);
            let allowed: Vec<&str> =
                asked.tools.iter().filter(|tool| wish.allows(tool)).map(|tool| &*tool.name).collect();
            assert_eq!((wish.word, allowed, lost.len()), (word.as_ref(), offered, losses), "{choice}");
        }
    }

    #[test]
    fn only_some_of_the_tools_are_offered_where_a_dialect_has_no_word_for_it() {
        let able = QuirkSettings { allowed_tools: true, ..QuirkSettings::default() };
        let list = json!([{ "type": "function", "function": { "name": "f" } }]);
        let mut asked = asks(allowed("required", list));
        asked.messages = vec![Message::plain(Role::User, "hi")];
        asked.tools.pop();
        asked.tools[1].name = "other_tool".into();
        let bare = QuirkSettings::default();
        for (word, model, quirks, place, expected, offered, losses) in [
            ("anthropic", "claude-sonnet-4-5", &bare, "/tool_choice/type", "any", 1, 1),
            ("bedrock", "amazon.nova-pro-v1:0", &bare, "/toolConfig/toolChoice", "{\"any\":{}}", 1, 1),
            ("cohere", "command-a-03-2025", &bare, "/tool_choice", "REQUIRED", 1, 1),
            ("ollama", "qwen3", &bare, "/tool_choice", "", 1, 2),
            ("openai", "m", &bare, "/tool_choice", "required", 1, 1),
            ("openai", "m", &able, "/tool_choice/type", "allowed_tools", 2, 0),
            ("openai-responses", "m", &bare, "/tool_choice/type", "allowed_tools", 2, 0),
            ("gemini", "gemini-2.5-pro", &bare, "/toolConfig/functionCallingConfig/mode", "ANY", 2, 0),
        ] {
            let name = TargetName { provider: "p".into(), model: model.into() };
            let outgoing = dialect(word, quirks).unwrap().encode(&asked, &name).unwrap();
            let body: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
            let said = body.pointer(place).cloned().unwrap_or_else(|| "".into());
            let said = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
            let count = if body.to_string().contains("other_tool") { 2 } else { 1 };
            assert_eq!((&*said, count), (expected, offered), "{word}: {body:#}");
            assert_eq!(outgoing.lost.len(), losses, "{word}: {:?}", outgoing.lost);
        }
    }

    #[test]
    fn names_that_are_not_offered_are_left_out_of_a_list() {
        let one = |name: &str| json!({ "type": "function", "function": { "name": name } });
        for (choice, expected, losses) in [
            (
                allowed("auto", json!([one("f")])),
                Some(ToolChoice::Other(allowed("auto", json!([one("f")])))),
                0,
            ),
            (
                allowed("required", json!([one("f"), one("x")])),
                Some(ToolChoice::Other(allowed("required", json!([one("f")])))),
                1,
            ),
            (allowed("required", json!([one("x")])), None, 1),
            (allowed("auto", json!([one("x")])), Some(ToolChoice::None), 1),
            (json!("x"), None, 1),
        ] {
            let (asked, mut lost) = (asks(choice.clone()), Vec::new());
            let word = among(&asked, |tool| tool.kind == ToolKind::Function, &mut lost);
            assert_eq!((word.as_deref(), lost.len()), (expected.as_ref(), losses), "{choice}");
        }
    }
}
