//! Where OpenAI's Responses keep what policies ask for.

use std::borrow::Cow;

use crate::api::adjust::{Places, RESPONSES};
use crate::api::openai_chat::decode::message::document;
use crate::api::sight::{Asides, Look, MediaKinds, append, role, text_of, value_of};
use crate::facts::Turn;
use crate::json::{self, Body};

/// OpenAI's Responses.
#[derive(Debug)]
pub(in crate::api) struct Responses;

impl Look for Responses {
    const PARAMETERS: Places = RESPONSES;

    fn has_json_output(body: &Body) -> bool {
        let text = json::entries(body.raw("text").unwrap_or_default());
        let format = text.filter(|(key, _)| key == "format").flat_map(|(_, format)| json::entries(format));
        format.filter(|(key, _)| key == "type").any(|(_, kind)| kind != "\"text\"")
    }

    fn tool_names(body: &Body) -> Vec<Box<str>> {
        let mut names = Vec::new();
        for tool in json::elements(body.raw("tools").unwrap_or_default()) {
            if text_of(tool, "type") == "namespace" {
                let inner = json::elements(value_of(tool, "tools").unwrap_or_default());
                names.extend(inner.filter_map(tool_name));
            } else {
                names.extend(tool_name(tool));
            }
        }
        names
    }

    fn media(body: &Body) -> MediaKinds {
        let mut kinds = MediaKinds::default();
        for part in items(body).flat_map(|item| json::elements(item.content)) {
            match &*text_of(part, "type") {
                "input_image" | "computer_screenshot" => kinds.images = true,
                "input_audio" => kinds.audio = true,
                "input_file" => {
                    kinds.files = true;
                    let data = value_of(part, "file_data");
                    kinds.documents |= !data.is_some_and(|data| data.starts_with("\"data:text/"));
                }
                _ => {}
            }
        }
        kinds
    }

    fn text(body: &Body) -> String {
        let mut all = instructions(body);
        append_input(&mut all, body);
        items(body).for_each(|item| append_content(&mut all, item.content));
        all
    }

    fn system(body: &Body) -> String {
        let mut all = instructions(body);
        items(body)
            .filter(|item| matches!(&*item.role, "system" | "developer"))
            .for_each(|item| append_content(&mut all, item.content));
        all
    }

    fn turns(body: &Body) -> Vec<Turn> {
        let mut turns = Vec::new();
        let mut say = |role, text: String| {
            if !text.is_empty() {
                turns.push(Turn { role, text });
            }
        };
        say("system", instructions(body));
        let mut input = String::new();
        append_input(&mut input, body);
        say("user", input);
        for item in items(body) {
            let mut text = String::new();
            append_content(&mut text, item.content);
            // What has no role is what a tool gave.
            say(if item.role.is_empty() { "tool" } else { role(&item.role) }, text);
        }
        turns
    }

    fn asides(body: &Body) -> Asides {
        let mut asides = Asides::default();
        for item in json::elements(body.raw("input").unwrap_or_default()) {
            for (key, value) in json::entries(item) {
                match &*key {
                    "arguments" | "input" | "action" | "operation" | "code" | "queries" => {
                        asides.arguments(value)
                    }
                    "summary" => asides.thoughts(value),
                    "results" | "outputs" | "reason" | "error" => asides.results(value),
                    "tools" => asides.tools(value),
                    "content" | "output" if value.starts_with('[') => {
                        json::elements(value).for_each(|part| beside(part, &mut asides));
                    }
                    // A text or a list of parts counts as said.
                    "output" if value.starts_with('{') => asides.results(value),
                    _ => {}
                }
            }
        }
        let prompt = body.raw("prompt").unwrap_or_default();
        asides.variables(value_of(prompt, "variables").unwrap_or_default());
        asides
    }

    fn definitions(body: &Body) -> Asides {
        let mut asides = Asides::default();
        asides.tools(body.raw("tools").unwrap_or_default());
        let text = body.raw("text").unwrap_or_default();
        asides.schema(value_of(text, "format").unwrap_or_default());
        asides
    }

    fn last_user(body: &Body) -> String {
        let mut all = String::new();
        append_input(&mut all, body);
        if let Some(item) = items(body).filter(|item| item.role == "user").last() {
            append_content(&mut all, item.content);
        }
        all
    }
}

/// What of a part is no plain text.
fn beside(part: &str, asides: &mut Asides) {
    asides.results(value_of(part, "annotations").unwrap_or_default());
    if text_of(part, "type") == "input_file" {
        let of = |key| value_of(part, key).and_then(json::text);
        let name = of("filename");
        let data = of("file_data").map(|data| document(data.into_owned(), name.as_deref()));
        asides.file(name.as_deref(), data.and_then(|media| media.as_text()));
    }
}

/// An item as far as it is looked at here: a message, or what a tool gave out.
struct Item<'a> {
    role: Cow<'a, str>,
    content: &'a str,
}

fn items(body: &Body) -> impl Iterator<Item = Item<'_>> {
    json::elements(body.raw("input").unwrap_or_default()).map(|raw| {
        let mut item = Item { role: Cow::Borrowed(""), content: "" };
        for (key, value) in json::entries(raw) {
            match &*key {
                "role" => item.role = json::text(value).unwrap_or_default(),
                "content" | "output" => item.content = value,
                _ => {}
            }
        }
        item
    })
}

fn instructions(body: &Body) -> String {
    body.str("instructions").unwrap_or_default().into_owned()
}

fn append_input(all: &mut String, body: &Body) {
    if let Some(text) = body.str("input") {
        append(all, &text);
    }
}

/// A content: a string, or the texts of a list.
fn append_content(all: &mut String, content: &str) {
    if let Some(text) = json::text(content) {
        append(all, &text);
    }
    for part in json::elements(content) {
        let text = value_of(part, "text").or_else(|| value_of(part, "refusal"));
        append(all, &text.and_then(json::text).unwrap_or_default());
    }
}

fn tool_name(tool: &str) -> Option<Box<str>> {
    let name = value_of(tool, "name").or_else(|| value_of(tool, "type"));
    name.and_then(json::text).map(Into::into)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_policy_sees_what_is_there() {
        let body = Body::read(Bytes::from_static(
            br#"{"instructions":"be brief","input":[{"role":"developer","content":"in French"},
            {"role":"user","content":[{"type":"input_text","text":"tw\u006f"},{"type":"input_image","image_url":"x"}]},
            {"type":"reasoning","summary":[{"type":"summary_text","text":"so"}],"content":[]},
            {"type":"message","role":"assistant","content":[{"type":"output_text","text":"hm"},{"type":"refusal","refusal":"no"}]},
            {"type":"function_call","call_id":"c","name":"f","arguments":"{\"to\":[\"ada\"]}"},
            {"type":"custom_tool_call","input":"free"},
            {"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"res"},{"type":"input_file","file_id":"f"}]}, 7],
            "tools":[{"type":"function","name":"f"},{"type":"web_search"},{"type":"namespace","name":"n","tools":[{"type":"function","name":"g"}]}]}"#,
        ))
        .unwrap();
        assert_eq!(Responses::system(&body), "be brief\nin French");
        assert_eq!(Responses::text(&body), "be brief\nin French\ntwo\nhm\nno\nres");
        assert_eq!(Responses::last_user(&body), "two");
        let beside = Responses::asides(&body);
        let arguments = ["to", "ada", "free"].map(|text| ("arguments", text));
        assert_eq!(beside.shown(), [&[("reasoning", "so")][..], &arguments].concat());
        let kinds = MediaKinds { images: true, audio: false, files: true, documents: true };
        assert_eq!(Responses::media(&body), kinds);
        let names = Responses::tool_names(&body);
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["f", "web_search", "g"]);
        let around = Body::read(Bytes::from_static(
            br#"{"prompt":{"id":"p","variables":{"to":"ada"}},"input":[{"role":"user","content":[
            {"type":"input_file","filename":"a.txt","file_data":"data:text/plain;base64,Ym9i"}]}],
            "text":{"format":{"type":"json_schema","name":"n","schema":{"description":"who"}}}}"#,
        ))
        .unwrap();
        let text = MediaKinds { files: true, ..MediaKinds::default() };
        assert_eq!(Responses::media(&around), text);
        let variables = ["to", "ada"].map(|text| ("variables", text));
        let beside = Responses::asides(&around);
        assert_eq!(beside.shown(), [&[("files", "a.txt"), ("files", "bob")][..], &variables].concat());
        assert_eq!(Responses::definitions(&around).shown(), [("schema", "n"), ("schema", "who")]);
        let plain = Body::read(Bytes::from_static(br#"{"input":"hi"}"#)).unwrap();
        assert_eq!((Responses::text(&plain), Responses::last_user(&plain)), ("hi".into(), "hi".into()));
    }
}
