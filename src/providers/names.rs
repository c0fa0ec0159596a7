//! Names of tools that a provider would refuse, and those under which it is told of them: each dialect has its own rule.
//!
//! A name is made of the client's alone, unless two would be the same; so it is the same in every turn, and what a
//! provider keeps of a prompt stays good.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Dialect;
use super::choice;
use crate::chat::{Answer, Event, Loss, Part, Request, Role, Tool, ToolChoice, ToolKind};

/// The names that a provider takes.
#[derive(Clone, Copy)]
struct Rule {
    /// In bytes.
    longest: usize,
    /// What they may hold beside letters, digits and underscores.
    marks: &'static [u8],
    /// Whether they must begin with a letter or an underscore.
    lettered: bool,
}

impl Rule {
    fn of(dialect: Dialect) -> Option<Self> {
        let (longest, marks, lettered): (usize, &[u8], bool) = match dialect {
            // https://platform.openai.com/docs/api-reference/chat/create#chat-create-tools : Mistral and others alike.
            Dialect::OpenAi | Dialect::Responses => (64, b"-", false),
            // https://platform.claude.com/docs/en/api/messages/create#tool
            Dialect::Anthropic => (128, b"-", false),
            // https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolSpecification.html
            Dialect::Bedrock => (64, b"-", false),
            // https://ai.google.dev/api/caching#FunctionDeclaration
            Dialect::Gemini => (64, b"-.:", true),
            // https://docs.cohere.com/v1/reference/chat : the one place that says it.
            Dialect::Cohere => (64, b"", true),
            Dialect::Ollama => return None,
        };
        Some(Self { longest, marks, lettered })
    }

    /// An empty name is the client's mistake, which the provider tells.
    fn takes(self, name: &str) -> bool {
        name.len() <= self.longest
            && name.bytes().all(|byte| self.may_hold(byte))
            && name.bytes().next().is_none_or(|first| self.may_begin(first))
    }

    fn may_hold(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || byte == b'_' || self.marks.contains(&byte)
    }

    fn may_begin(self, byte: u8) -> bool {
        !self.lettered || byte.is_ascii_alphabetic() || byte == b'_'
    }

    /// The name with underscores in place of what it may not hold, however long.
    fn plain(self, name: &str) -> String {
        let held = |c: char| u8::try_from(c).ok().filter(|byte| self.may_hold(*byte)).map_or('_', char::from);
        let plain: String = name.chars().map(held).collect();
        if !plain.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
            return "tool".to_owned();
        }
        if plain.bytes().next().is_some_and(|first| self.may_begin(first)) {
            plain
        } else {
            format!("_{plain}")
        }
    }

    /// The beginning of a plain name, and what tells the name apart from any other.
    fn told_apart(self, plain: &str, name: &str) -> String {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        let mark = hash.as_str().get(..MARK).unwrap_or_default();
        let beginning = plain.get(..self.longest - MARK - 1).unwrap_or(plain);
        format!("{beginning}_{mark}")
    }
}

/// Digits that tell two names apart.
const MARK: usize = 12;

/// Names under which a provider is told of tools, and the client's own.
#[derive(Debug)]
pub struct Names {
    /// By the client's.
    theirs: BTreeMap<String, String>,
    /// By the provider's.
    ours: BTreeMap<String, String>,
}

impl Names {
    /// The names for a provider of `dialect` of which the client's are `said`; `None` where it takes them as they are,
    /// which is the rule.
    pub fn of<'a>(said: impl Iterator<Item = &'a str> + Clone, dialect: Dialect) -> Option<Self> {
        let rule = Rule::of(dialect)?;
        if said.clone().all(|name| rule.takes(name)) {
            return None;
        }
        let (kept, odd): (BTreeSet<&str>, BTreeSet<&str>) = said.partition(|name| rule.takes(name));
        let plain: Vec<(&str, String)> = odd.into_iter().map(|name| (name, rule.plain(name))).collect();
        let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, plain) in &plain {
            *uses.entry(plain).or_default() += 1;
        }
        let fitted = plain.iter().map(|(name, plain)| {
            let alone = uses.get(&**plain) == Some(&1) && plain.len() <= rule.longest;
            if alone && !kept.contains(&**plain) {
                return ((*name).to_owned(), plain.clone());
            }
            ((*name).to_owned(), rule.told_apart(plain, name))
        });
        let theirs: BTreeMap<String, String> = fitted.collect();
        let ours = theirs.iter().map(|(name, fitted)| (fitted.clone(), name.clone())).collect();
        Some(Self { theirs, ours })
    }

    /// The names of tools that a request says, wherever it does.
    pub fn said(request: &Request) -> impl Iterator<Item = &str> + Clone {
        let chosen = match &request.tool_choice {
            Some(ToolChoice::Named(name)) => Some(name.as_str()),
            _ => None,
        };
        let some = request.tool_choice.as_ref().and_then(choice::list).map_or(&[][..], |(_, some)| some);
        let called = request.messages.iter().flat_map(|message| {
            let result = message.name.as_deref().filter(|_| message.role == Role::Tool);
            message.content.iter().filter_map(called).chain(result)
        });
        let offered = request.tools.iter().map(|tool| tool.name.as_str());
        offered.chain(chosen).chain(some.iter().filter_map(choice::name)).chain(called)
    }

    /// The request by the provider's names.
    pub fn apply(&self, request: &Request) -> Request {
        let mut request = request.clone();
        for tool in request.tools.iter_mut().filter(|tool| tool.kind != ToolKind::Server) {
            self.fit(&mut tool.name);
        }
        match &mut request.tool_choice {
            Some(ToolChoice::Named(name)) => self.fit(name),
            Some(ToolChoice::Other(value)) => {
                let some = value.pointer_mut("/allowed_tools/tools").and_then(Value::as_array_mut);
                some.into_iter().flatten().for_each(|one| self.fit_entry(one));
            }
            _ => {}
        }
        for message in &mut request.messages {
            if let Some(name) = message.name.as_mut().filter(|_| message.role == Role::Tool) {
                self.fit(name);
            }
            for part in &mut message.content {
                if let Part::ToolCall { name, kind: ToolKind::Function | ToolKind::Custom, .. } = part {
                    self.fit(name);
                }
            }
        }
        request
    }

    /// What became of the names of a request: of each, where it is first said.
    pub fn lost(&self, request: &Request) -> Vec<Loss> {
        let mut told = BTreeSet::new();
        let mut lost = Vec::new();
        let mut tell = |path: &dyn Fn() -> String, name: &str| {
            if let Some((known, fitted)) = self.theirs.get_key_value(name)
                && told.insert(known.as_str())
            {
                lost.push(Loss::new(Cow::Owned(path()), format!("became {fitted}")));
            }
        };
        let ours = |tool: &Tool| tool.kind != ToolKind::Server;
        for (at, tool) in request.tools.iter().enumerate().filter(|(_, tool)| ours(tool)) {
            let kind = if tool.kind == ToolKind::Custom { "custom" } else { "function" };
            tell(&|| format!("tools[{at}].{kind}.name"), &tool.name);
        }
        for (place, message) in request.messages.iter().enumerate() {
            for (at, part) in message.content.iter().enumerate() {
                if let Part::ToolCall { name, .. } = part {
                    tell(&|| format!("messages[{place}].content[{at}].name"), name);
                }
            }
        }
        lost
    }

    /// The answer by the client's names.
    pub fn restore(&self, answer: &mut Answer) {
        for part in answer.choices.iter_mut().flat_map(|choice| &mut choice.content) {
            if let Part::ToolCall { name, .. } = part {
                self.give_back(name);
            }
        }
    }

    /// The event of a streamed answer by the client's names.
    pub fn restore_event(&self, event: &mut Event) {
        if let Event::ToolCallStart { name, .. } = event {
            self.give_back(name);
        }
    }

    fn fit(&self, name: &mut String) {
        if let Some(fitted) = self.theirs.get(name) {
            name.clone_from(fitted);
        }
    }

    /// An entry in a list of tools that may be called.
    fn fit_entry(&self, one: &mut Value) {
        let kind = ["function", "custom"].into_iter().find(|kind| one.get(kind).is_some());
        let inner = match kind {
            Some(kind) => one.get_mut(kind),
            None => Some(one),
        };
        if let Some(Value::String(name)) = inner.and_then(|inner| inner.get_mut("name")) {
            self.fit(name);
        }
    }

    fn give_back(&self, name: &mut String) {
        if let Some(own) = self.ours.get(name) {
            name.clone_from(own);
        }
    }
}

fn called(part: &Part) -> Option<&str> {
    match part {
        Part::ToolCall { name, .. } => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::{Choice, Message, Object};

    fn fitted(names: &[&str], dialect: Dialect) -> Vec<String> {
        let all = Names::of(names.iter().copied(), dialect);
        let theirs = |name: &&str| {
            let mut name = (*name).to_owned();
            if let Some(all) = &all {
                all.fit(&mut name);
            }
            name
        };
        names.iter().map(theirs).collect()
    }

    #[test]
    fn names_are_fitted_to_the_rule_of_each_provider() {
        let long = "a".repeat(75);
        let cut = format!("{}_", "a".repeat(51));
        for (dialect, name, expected) in [
            (Dialect::OpenAi, "get_weather-2", "get_weather-2"),
            (Dialect::OpenAi, "ns.tool:x", "ns_tool_x"),
            (Dialect::OpenAi, "3d_print", "3d_print"),
            (Dialect::Anthropic, "ns.tool:x", "ns_tool_x"),
            (Dialect::Anthropic, &long, &long),
            (Dialect::Bedrock, "ns/tool", "ns_tool"),
            (Dialect::Gemini, "ns.tool:x-1", "ns.tool:x-1"),
            (Dialect::Gemini, "3d_print", "_3d_print"),
            (Dialect::Gemini, "-x", "_-x"),
            (Dialect::Cohere, "get-weather", "get_weather"),
            (Dialect::Ollama, "any thing", "any thing"),
            (Dialect::OpenAi, "wetter_münchen", "wetter_m_nchen"),
            (Dialect::OpenAi, "天気", "tool"),
            (Dialect::OpenAi, "", ""),
        ] {
            assert_eq!(fitted(&[name], dialect), [expected], "{dialect:?}");
        }
        let short = fitted(&[&long], Dialect::OpenAi).remove(0);
        assert!(short.len() == 64 && short.starts_with(&cut), "{short}");
    }

    #[test]
    fn names_stay_apart_and_are_the_same_whatever_stands_beside_them() {
        let odd = ["a.b", "a:b", "a_b", "天気", "予報", "c.d"];
        let once = fitted(&odd, Dialect::OpenAi);
        let distinct: BTreeSet<&String> = once.iter().collect();
        assert_eq!(distinct.len(), odd.len(), "{once:?}");
        assert_eq!((&*once[2], &*once[5]), ("a_b", "c_d"));
        assert!(once[0].starts_with("a_b_") && once[1].starts_with("a_b_"), "{once:?}");
        let mut turned = odd;
        turned.reverse();
        let mut again = fitted(&turned, Dialect::OpenAi);
        again.reverse();
        assert_eq!(again, once);
        let long = ["b".repeat(70), "b".repeat(71)];
        let long = fitted(&[&long[0], &long[1]], Dialect::OpenAi);
        assert!(long[0] != long[1] && long.iter().all(|name| name.len() == 64), "{long:?}");
    }

    fn call(name: &str) -> Part {
        Part::ToolCall {
            id: "c".into(),
            name: name.into(),
            arguments: "{}".into(),
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        }
    }

    #[test]
    fn names_are_the_providers_wherever_a_request_says_them_and_the_clients_in_answers() {
        let tool = |name: &str, kind| Tool {
            name: name.into(),
            description: None,
            parameters: None,
            strict: None,
            kind,
            cache: None,
            rest: Object::new(),
        };
        let list = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "function", "function": {"name": "a.b"}}, {"type": "custom", "name": "c.d"}]}});
        let message = |role, content, name: Option<&str>| Message {
            role,
            content,
            name: name.map(Into::into),
            rest: Object::new(),
        };
        let asked = Request {
            tools: vec![
                tool("a.b", ToolKind::Function),
                tool("c.d", ToolKind::Custom),
                tool("s.t", ToolKind::Server),
            ],
            tool_choice: Some(ToolChoice::Other(list)),
            messages: vec![
                message(Role::User, vec![Part::text("hi")], Some("al.ice")),
                message(Role::Assistant, vec![call("a.b"), call("e.f")], None),
                message(Role::Tool, vec![Part::text("done")], Some("a.b")),
            ],
            ..Request::default()
        };
        let names = Names::of(Names::said(&asked), Dialect::OpenAi).unwrap();
        let sent = names.apply(&asked);
        let tools: Vec<&str> = sent.tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(tools, ["a_b", "c_d", "s.t"]);
        let some = sent.tool_choice.as_ref().and_then(choice::list).unwrap().1;
        assert_eq!(some.iter().filter_map(choice::name).collect::<Vec<_>>(), ["a_b", "c_d"]);
        assert_eq!(sent.messages[1].content, [call("a_b"), call("e_f")]);
        let speakers = [&sent.messages[0].name, &sent.messages[2].name].map(|name| name.as_deref());
        assert_eq!(speakers, [Some("al.ice"), Some("a_b")]);
        let lost: Vec<String> = names.lost(&asked).iter().map(Loss::to_string).collect();
        assert_eq!(lost[..2], ["tools[0].function.name (became a_b)", "tools[1].custom.name (became c_d)"]);
        assert_eq!(lost.len(), 3, "{lost:?}");
        assert_eq!(lost[2], "messages[1].content[1].name (became e_f)");
        let choice = Choice { content: vec![call("a_b"), call("other")], ..Choice::default() };
        let mut answer = Answer { choices: vec![choice], ..Answer::default() };
        names.restore(&mut answer);
        assert_eq!(answer.choices[0].content, [call("a.b"), call("other")]);
        let named = Request { tool_choice: Some(ToolChoice::Named("a.b".into())), ..asked };
        assert_eq!(names.apply(&named).tool_choice, Some(ToolChoice::Named("a_b".into())));
    }
}
