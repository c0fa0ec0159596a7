//! Where Anthropic's messages keep what policies ask for.

use std::borrow::Cow;

use crate::api::adjust::{MESSAGES, Places};
use crate::api::sight::{Asides, Look, MediaKinds, append, role, text_of, value_of};
use crate::facts::Turn;
use crate::json::{self, Body};

/// Anthropic's messages.
#[derive(Debug)]
pub(in crate::api) struct Messages;

impl Look for Messages {
    const PARAMETERS: Places = MESSAGES;

    fn has_json_output(body: &Body) -> bool {
        let format = |key| json::entries(body.raw(key).unwrap_or_default());
        body.has("output_format")
            || format("output_config").any(|(key, raw)| key == "format" && raw != "null")
    }

    fn tool_names(body: &Body) -> Vec<Box<str>> {
        let tools = json::elements(body.raw("tools").unwrap_or_default());
        let name = |tool| value_of(tool, "name").or_else(|| value_of(tool, "type"));
        tools.filter_map(|tool| name(tool).and_then(json::text).map(Into::into)).collect()
    }

    fn media(body: &Body) -> MediaKinds {
        let mut seen = MediaKinds::default();
        for (_, content) in messages(body) {
            look(content, &mut seen);
        }
        seen
    }

    fn text(body: &Body) -> String {
        let mut all = Self::system(body);
        messages(body).for_each(|(_, content)| append_content(&mut all, content, true));
        all
    }

    fn system(body: &Body) -> String {
        let mut all = String::new();
        append_content(&mut all, body.raw("system").unwrap_or_default(), false);
        all
    }

    fn last_user(body: &Body) -> String {
        let own = |content: &str| {
            json::text(content).is_some()
                || json::elements(content).any(|b| text_of(b, "type") != "tool_result")
        };
        let last = messages(body).filter(|(role, content)| role == "user" && own(content)).last();
        let mut all = String::new();
        if let Some((_, content)) = last {
            append_content(&mut all, content, false);
        }
        all
    }

    fn turns(body: &Body) -> Vec<Turn> {
        let system = Self::system(body);
        let mut turns: Vec<Turn> = Vec::new();
        if !system.is_empty() {
            turns.push(Turn { role: "system", text: system });
        }
        for (said_by, content) in messages(body) {
            // What a tool gave stands in a message of the user's.
            let (mut results, mut text) = (String::new(), String::new());
            for block in json::elements(content).filter(|block| text_of(block, "type") == "tool_result") {
                append_content(&mut results, value_of(block, "content").unwrap_or_default(), true);
            }
            append_content(&mut text, content, false);
            if !results.is_empty() {
                turns.push(Turn { role: "tool", text: results });
            }
            if !text.is_empty() {
                turns.push(Turn { role: role(&said_by), text });
            }
        }
        turns
    }

    fn asides(body: &Body) -> Asides {
        let mut asides = Asides::default();
        beside(body.raw("system").unwrap_or_default(), &mut asides);
        messages(body).for_each(|(_, content)| beside(content, &mut asides));
        asides
    }

    fn definitions(body: &Body) -> Asides {
        let mut asides = Asides::default();
        asides.tools(body.raw("tools").unwrap_or_default());
        asides.schema(body.raw("output_format").unwrap_or_default());
        let config = body.raw("output_config").unwrap_or_default();
        asides.schema(value_of(config, "format").unwrap_or_default());
        asides
    }
}

/// What of a content is no plain text.
fn beside(content: &str, asides: &mut Asides) {
    for block in json::elements(content) {
        let of = |key| value_of(block, key).unwrap_or_default();
        match &*text_of(block, "type") {
            "image" | "redacted_thinking" => {}
            "text" => asides.results(of("citations")),
            "thinking" => asides.thoughts(of("thinking")),
            "tool_use" | "server_tool_use" | "mcp_tool_use" => asides.arguments(of("input")),
            "tool_result" => beside(of("content"), asides),
            // Documents, results of searches and of the provider's own tools.
            _ => asides.results(block),
        }
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

fn look(content: &str, seen: &mut MediaKinds) {
    for block in json::elements(content) {
        match &*text_of(block, "type") {
            "image" => seen.images = true,
            "document" => {
                seen.files = true;
                seen.documents |= !value_of(block, "source").is_some_and(is_text);
            }
            "tool_result" => look(value_of(block, "content").unwrap_or_default(), seen),
            _ => {}
        }
    }
}

/// Whether the source of a document is nothing but text.
fn is_text(source: &str) -> bool {
    match &*text_of(source, "type") {
        "text" => true,
        "base64" => text_of(source, "media_type").starts_with("text/"),
        "content" => {
            let content = value_of(source, "content").unwrap_or_default();
            json::elements(content).all(|block| text_of(block, "type") == "text")
        }
        _ => false,
    }
}

/// Appends the text of a `content` or `system`: a string, or the text blocks of a list.
fn append_content(all: &mut String, content: &str, results: bool) {
    if let Some(text) = json::text(content) {
        append(all, &text);
    }
    for block in json::elements(content) {
        match &*text_of(block, "type") {
            "text" => append(all, &text_of(block, "text")),
            "tool_result" if results => {
                append_content(all, value_of(block, "content").unwrap_or_default(), true)
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Body, Look, MediaKinds, Messages};

    type Sight = crate::api::sight::Sight<Messages>;

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
        let turns: Vec<_> = Messages::turns(&body).into_iter().map(|turn| (turn.role, turn.text)).collect();
        let said = |role, text: &str| (role, text.to_owned());
        assert_eq!(
            turns,
            [
                said("system", "be brief\nin French"),
                said("user", "one"),
                said("user", "two"),
                said("tool", "res")
            ]
        );
        let beside = Messages::asides(&body);
        assert_eq!(beside.shown(), [("reasoning", "hm"), ("arguments", "text"), ("arguments", "x")]);
        let kinds = MediaKinds { images: true, audio: false, files: true, documents: true };
        assert_eq!(sight.media(&body), kinds);
        let names: Vec<&str> = sight.tool_names(&body).iter().map(|name| &**name).collect();
        assert_eq!(names, ["f", "mcp_toolset"]);
    }

    #[test]
    fn a_document_of_text_is_no_file_that_a_model_must_be_able_to_read() {
        for (source, documents) in [
            (r#"{"type":"text","media_type":"text/plain","data":"a"}"#, false),
            (r#"{"type":"base64","media_type":"text/plain","data":"YQ=="}"#, false),
            (r#"{"type":"content","content":[{"type":"text","text":"a"}]}"#, false),
            (r#"{"type":"content","content":"a"}"#, false),
            (r#"{"type":"content","content":[{"type":"image","source":{}}]}"#, true),
            (r#"{"type":"base64","media_type":"application/pdf","data":"AA=="}"#, true),
            (r#"{"type":"url","url":"https://a.example/b.txt"}"#, true),
        ] {
            let block = format!(r#"{{"type":"document","source":{source}}}"#);
            let body = format!(r#"{{"messages":[{{"role":"user","content":[{block}]}}]}}"#);
            let kinds = Sight::default().media(&Body::read(body.into()).unwrap());
            assert_eq!((kinds.files, kinds.documents), (true, documents), "{source}");
        }
    }

    #[test]
    fn documents_and_results_are_there_too() {
        let body = Body::read(Bytes::from_static(
            br#"{"messages":[{"role":"user","content":[
              {"type":"document","title":"t","source":{"type":"text","media_type":"text/plain","data":"plain"}},
              {"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0="}},
              {"type":"image","source":{"type":"base64","data":"AA=="}},
              {"type":"tool_result","tool_use_id":"t","content":[{"type":"search_result","source":"s","content":[{"type":"text","text":"r"}]}]}]},
              {"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"q"}},
              {"type":"web_search_tool_result","tool_use_id":"s","content":[{"type":"web_search_result","url":"u","title":"found","encrypted_content":"x"}]}]}]}"#,
        ))
        .unwrap();
        let beside = Messages::asides(&body);
        let results = |text| ("results", text);
        let expected = [
            results("t"),
            results("plain"),
            results("s"),
            results("r"),
            ("arguments", "query"),
            ("arguments", "q"),
            results("found"),
        ];
        assert_eq!(beside.shown(), expected);
    }
}
