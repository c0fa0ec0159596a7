//! What policies may see of messages and tools, read from the JSON text without decoding it, each thing at most once.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::json::{self, Body};

/// Answers that were asked for already.
#[derive(Debug, Default)]
pub(super) struct Sight {
    tool_names: OnceLock<Vec<Box<str>>>,
    media: OnceLock<(bool, bool)>,
    text: OnceLock<String>,
    system: OnceLock<String>,
    last_user: OnceLock<String>,
}

impl Sight {
    pub(super) fn tool_names(&self, body: &Body) -> &[Box<str>] {
        self.tool_names.get_or_init(|| {
            let tools = json::elements(body.raw("tools").unwrap_or_default());
            let name = |tool| value_of(tool, "name").or_else(|| value_of(tool, "type"));
            tools.filter_map(|tool| name(tool).and_then(json::text).map(Into::into)).collect()
        })
    }

    /// Whether there are images, and whether there are documents; in results of tools, too.
    pub(super) fn media(&self, body: &Body) -> (bool, bool) {
        *self.media.get_or_init(|| {
            let mut seen = (false, false);
            for (_, content) in messages(body) {
                look(content, &mut seen);
            }
            seen
        })
    }

    /// The system prompt and all messages, results of tools included.
    pub(super) fn text(&self, body: &Body) -> &str {
        self.text.get_or_init(|| {
            let mut all = self.system(body).to_owned();
            messages(body).for_each(|(_, content)| append(&mut all, content, true));
            all
        })
    }

    pub(super) fn system(&self, body: &Body) -> &str {
        self.system.get_or_init(|| {
            let mut all = String::new();
            append(&mut all, body.raw("system").unwrap_or_default(), false);
            all
        })
    }

    /// The words of the last message that is the user's own: not only results of tools.
    pub(super) fn last_user(&self, body: &Body) -> &str {
        self.last_user.get_or_init(|| {
            let own = |content: &str| {
                json::text(content).is_some() || json::elements(content).any(|b| kind(b) != "tool_result")
            };
            let last = messages(body).filter(|(role, content)| role == "user" && own(content)).last();
            let mut all = String::new();
            if let Some((_, content)) = last {
                append(&mut all, content, false);
            }
            all
        })
    }
}

fn messages(body: &Body) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    json::elements(body.raw("messages").unwrap_or_default()).map(|raw| {
        let (mut role, mut content) = (Cow::Borrowed(""), "");
        for (key, value) in json::entries(raw) {
            match &*key {
                "role" => role = json::text(value).unwrap_or_default(),
                "content" => content = value,
                _ => {}
            }
        }
        (role, content)
    })
}

fn look(content: &str, seen: &mut (bool, bool)) {
    for block in json::elements(content) {
        match &*kind(block) {
            "image" => seen.0 = true,
            "document" => seen.1 = true,
            "tool_result" => look(value_of(block, "content").unwrap_or_default(), seen),
            _ => {}
        }
    }
}

/// Appends the text of a `content` or `system`: a string, or the text blocks of a list.
fn append(all: &mut String, content: &str, results: bool) {
    if let Some(text) = json::text(content) {
        push(all, &text);
    }
    for block in json::elements(content) {
        match &*kind(block) {
            "text" => push(all, &value_of(block, "text").and_then(json::text).unwrap_or_default()),
            "tool_result" if results => append(all, value_of(block, "content").unwrap_or_default(), true),
            _ => {}
        }
    }
}

fn push(all: &mut String, text: &str) {
    if !all.is_empty() && !text.is_empty() {
        all.push('\n');
    }
    all.push_str(text);
}

fn kind(block: &str) -> Cow<'_, str> {
    value_of(block, "type").and_then(json::text).unwrap_or_default()
}

fn value_of<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    json::entries(object).find(|(name, _)| name == key).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Body, Sight};

    #[test]
    fn a_policy_sees_what_is_there() {
        let body = Body::read(Bytes::from_static(
            br#"{"system":[{"type":"text","text":"be brief"},{"type":"text","text":"in French"}],
            "tools":[{"name":"f"},{"type":"mcp_toolset"}],
            "messages":[{"role":"user","content":"one"},
              {"role":"user","content":[{"type":"text","text":"tw\u006f"},{"type":"image","source":{}}]},
              {"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"tool_use","id":"t","input":{"text":"x"}}]},
              {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"res"},{"type":"document"}]}]}]}"#,
        ))
        .unwrap();
        let sight = Sight::default();
        assert_eq!(sight.system(&body), "be brief\nin French");
        assert_eq!(sight.text(&body), "be brief\nin French\none\ntwo\nres");
        assert_eq!(sight.last_user(&body), "two");
        assert_eq!(sight.media(&body), (true, true));
        let names: Vec<&str> = sight.tool_names(&body).iter().map(|name| &**name).collect();
        assert_eq!(names, ["f", "mcp_toolset"]);
    }
}
