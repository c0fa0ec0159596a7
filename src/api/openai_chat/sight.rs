//! Where OpenAI's chat keeps what policies ask for.

use std::borrow::Cow;

use super::decode::message::document;
use crate::api::adjust::{CHAT, Places};
use crate::api::sight::{Asides, Look, MediaKinds, append, role, text_of, value_of};
use crate::facts::Turn;
use crate::json::{self, Body};

/// OpenAI's chat.
#[derive(Debug)]
pub(in crate::api) struct Chat;

impl Look for Chat {
    const PARAMETERS: Places = CHAT;

    fn has_json_output(body: &Body) -> bool {
        let format = body.raw("response_format").unwrap_or_default();
        let kind = json::entries(format).find(|(key, _)| key == "type");
        kind.is_some_and(|(_, raw)| json::text(raw).is_some_and(|kind| kind != "text"))
    }

    fn tool_names(body: &Body) -> Vec<Box<str>> {
        let tools = json::elements(body.raw("tools").unwrap_or_default());
        let functions = json::elements(body.raw("functions").unwrap_or_default());
        tools.chain(functions).filter_map(tool_name).collect()
    }

    fn media(body: &Body) -> MediaKinds {
        let mut kinds = MediaKinds::default();
        for part in messages(body).flat_map(|message| json::elements(message.content)) {
            match &*text_of(part, "type") {
                "image_url" | "image" | "input_image" => kinds.images = true,
                "input_audio" | "audio" | "audio_url" => kinds.audio = true,
                "file" | "input_file" | "document" | "document_url" => {
                    kinds.files = true;
                    kinds.documents |= !value_of(part, "file").is_some_and(is_text);
                }
                _ => {}
            }
        }
        kinds
    }

    fn text(body: &Body) -> String {
        joined(messages(body))
    }

    fn system(body: &Body) -> String {
        joined(messages(body).filter(|message| matches!(&*message.role, "system" | "developer")))
    }

    fn last_user(body: &Body) -> String {
        joined(messages(body).filter(|message| message.role == "user").last().into_iter())
    }

    fn turns(body: &Body) -> Vec<Turn> {
        let turn =
            |message: Message<'_>| Turn { role: role(&message.role), text: joined([message].into_iter()) };
        messages(body).map(turn).collect()
    }

    fn asides(body: &Body) -> Asides {
        let mut asides = Asides::default();
        for message in json::elements(body.raw("messages").unwrap_or_default()) {
            let said_by = role(&text_of(message, "role"));
            for (key, value) in json::entries(message) {
                match &*key {
                    "role" | "id" | "tool_call_id" | "cache_control" => {}
                    "content" => json::elements(value).for_each(|part| beside(part, &mut asides)),
                    "name" => asides.name(said_by, value),
                    "refusal" => asides.refusal(value),
                    "tool_calls" => json::elements(value).for_each(|call| called(call, &mut asides)),
                    "function_call" => asides.arguments(value_of(value, "arguments").unwrap_or_default()),
                    "reasoning_content" | "reasoning" | "reasoning_text" => asides.thoughts(value),
                    "reasoning_details" => {
                        for detail in json::elements(value) {
                            let texts = ["text", "summary"].into_iter();
                            texts
                                .filter_map(|key| value_of(detail, key))
                                .for_each(|raw| asides.thoughts(raw));
                        }
                    }
                    _ => asides.field(said_by, value),
                }
            }
        }
        // No OpenAI, but some vendors ground answers on them.
        asides.given(body.raw("documents").unwrap_or_default());
        let prediction = body.raw("prediction").and_then(|raw| value_of(raw, "content"));
        prediction.into_iter().for_each(|raw| asides.prediction(raw));
        asides
    }

    fn definitions(body: &Body) -> Asides {
        let mut asides = Asides::default();
        asides.tools(body.raw("tools").unwrap_or_default());
        asides.tools(body.raw("functions").unwrap_or_default());
        asides.schema(body.raw("response_format").unwrap_or_default());
        asides
    }
}

/// What of a part is no plain text.
fn beside(part: &str, asides: &mut Asides) {
    match &*text_of(part, "type") {
        "text" | "refusal" | "image_url" | "image" | "input_image" | "input_audio" | "audio"
        | "audio_url" => {}
        "file" => {
            let of = |key| value_of(value_of(part, "file")?, key).and_then(json::text);
            let name = of("filename");
            let data = of("file_data").map(|data| document(data.into_owned(), name.as_deref()));
            asides.file(name.as_deref(), data.and_then(|media| media.as_text()));
        }
        _ if json::text(part).is_some() => {}
        // Thoughts, documents and whatever else a vendor knows.
        _ => asides.results(part),
    }
}

/// What a tool was called with: JSON, or any text for a tool of the client's own kind.
fn called(call: &str, asides: &mut Asides) {
    let of = |kind, field| value_of(value_of(call, kind)?, field);
    let arguments = of("function", "arguments").or_else(|| of("custom", "input"));
    arguments.into_iter().for_each(|raw| asides.arguments(raw));
}

/// A message as far as it is looked at here.
struct Message<'a> {
    role: Cow<'a, str>,
    content: &'a str,
}

fn messages(body: &Body) -> impl Iterator<Item = Message<'_>> {
    json::elements(body.raw("messages").unwrap_or_default()).map(|raw| {
        let mut message = Message { role: Cow::Borrowed(""), content: "" };
        for (key, value) in json::entries(raw) {
            match &*key {
                "role" => message.role = json::text(value).unwrap_or_default(),
                "content" => message.content = value,
                _ => {}
            }
        }
        message
    })
}

fn joined<'a>(messages: impl Iterator<Item = Message<'a>>) -> String {
    let mut all = String::new();
    for message in messages {
        if let Some(text) = json::text(message.content) {
            append(&mut all, &text);
        }
        for part in json::elements(message.content) {
            let text = value_of(part, "text").or_else(|| value_of(part, "refusal"));
            // A bare string among the parts is no OpenAI, but some vendors take it.
            if let Some(text) = text.and_then(json::text).or_else(|| json::text(part)) {
                append(&mut all, &text);
            }
        }
    }
    all
}

fn tool_name(tool: &str) -> Option<Box<str>> {
    let nested = value_of(tool, "function").or_else(|| value_of(tool, "custom"));
    let name = value_of(nested.unwrap_or(tool), "name").or_else(|| value_of(tool, "type"));
    name.and_then(json::text).map(Into::into)
}

/// Whether a file is nothing but text.
fn is_text(file: &str) -> bool {
    value_of(file, "file_data").is_some_and(|data| data.starts_with("\"data:text/"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Body, Chat, Look, MediaKinds};

    type Sight = crate::api::sight::Sight<Chat>;

    fn body(text: &str) -> Body {
        Body::read(Bytes::from(text.to_owned())).unwrap()
    }

    #[test]
    fn texts_are_joined_by_role() {
        let body = body(
            r#"{"messages":[
                {"role":"system","content":"be\tbrief"},
                {"role":"developer","content":[{"type":"text","text":"in French"}]},
                {"role":"user","content":"one"},
                {"role":"assistant","content":null,"tool_calls":[{"id":"c","function":{"name":"f"}}]},
                {"role":"tool","tool_call_id":"c","content":"result"},
                {"rol\u0065":"user","content":[{"type":"text","text":"t\u0077o"},{"type":"image_url","image_url":{"url":"x"}},
                    {"type":"text","text":""},{"type":"text","text":"three"}]},
                {"role":"assistant","content":[{"type":"refusal","refusal":"no"}]},
                7, {"role":9,"content":{}}]}"#,
        );
        let sight = Sight::default();
        assert_eq!(sight.text(&body), "be\tbrief\nin French\none\nresult\ntwo\nthree\nno");
        assert_eq!(sight.system(&body), "be\tbrief\nin French");
        assert_eq!(sight.last_user(&body), "two\nthree");
        let turns: Vec<_> =
            Chat::turns(&body).into_iter().map(|turn| format!("{}: {}", turn.role, turn.text)).collect();
        assert_eq!(turns[..2], ["system: be\tbrief", "system: in French"]);
        assert_eq!(turns[2..6], ["user: one", "assistant: ", "tool: result", "user: two\nthree"]);
    }

    #[test]
    fn what_tools_were_called_with_is_there_too() {
        let body = body(
            r#"{"prediction":{"type":"content","content":[{"type":"text","text":"soon"}]},"messages":[
                {"role":"assistant","content":null,"reasoning_content":"hm","reasoning_details":[{"type":"reasoning.text",
                 "text":"hm","signature":"s"},{"summary":"so"},{"data":"AA=="}],"tool_calls":[
                {"id":"c","function":{"name":"f","arguments":"{\"to\":\"ad\u0061@x.org\",\"cards\":[4111,true,\"\"]}"}},
                {"id":"d","custom":{"name":"g","input":"free {text"}},7]},
                {"role":"assistant","function_call":{"name":"f","arguments":"[[\"old\"]]"}}]}"#,
        );
        let said = Chat::asides(&body);
        let arguments =
            ["to", "ada@x.org", "cards", "4111", "free {text", "old"].map(|text| ("arguments", text));
        let thoughts = ["hm", "hm", "so"].map(|text| ("reasoning", text));
        let expected = [&thoughts[..], &arguments, &[("prediction", "soon")]].concat();
        assert_eq!(said.shown(), expected);
    }

    #[test]
    fn names_refusals_and_documents_are_there_too() {
        let body = body(
            r#"{"messages":[{"role":"user","name":"ada","content":[{"type":"text","text":"said"},"said",
                {"type":"file","file":{"filename":"a.txt","file_data":"data:text/plain;base64,Ym9i"}},
                {"type":"file","file":{"filename":"b.pdf","file_data":"data:application/pdf;base64,Ym9i"}},
                {"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]},
                {"role":"assistant","content":null,"refusal":"no","audio":{"id":"x"},"notes":{"k":"v"}}],
                "documents":[{"id":"d"}]}"#,
        );
        let expected = [
            ("name", "ada"),
            ("files", "a.txt"),
            ("files", "bob"),
            ("files", "b.pdf"),
            ("results", "hm"),
            ("refusal", "no"),
            ("fields", "k"),
            ("fields", "v"),
            ("results", "id"),
            ("results", "d"),
        ];
        assert_eq!(Chat::asides(&body).shown(), expected);
    }

    #[test]
    fn what_is_said_of_tools_and_of_the_answer_stands_apart() {
        let body = body(
            r#"{"messages":[],"tools":[{"type":"function","function":{"name":"f","description":"mail"}}],
                "functions":[{"name":"g","description":"call"}],"response_format":{"type":"json_schema",
                "json_schema":{"name":"answer","schema":{"type":"object","description":"who"}}}}"#,
        );
        assert!(Chat::asides(&body).shown().is_empty());
        let expected = [("tools", "mail"), ("tools", "call"), ("schema", "answer"), ("schema", "who")];
        assert_eq!(Chat::definitions(&body).shown(), expected);
    }

    #[test]
    fn kinds_of_parts_are_seen_also_in_disguise() {
        let table = [
            (r#"{"type":"text","text":"image_url"}"#, (false, false, false)),
            (r#"{"type":"image_url","image_url":{"url":"x"}}"#, (true, false, false)),
            (r#"{"typ\u0065":"image\u005furl"}"#, (true, false, false)),
            (r#"{"type":"input_audio","input_audio":{}}"#, (false, true, false)),
            (r#"{"type":"file","file":{}},{"type":"image_url"}"#, (true, false, true)),
            (
                r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,AA=="}}"#,
                (false, false, true),
            ),
            (r#"{"type":7},"x",null"#, (false, false, false)),
        ];
        for (parts, (images, audio, files)) in table {
            let body = body(&format!(r#"{{"messages":[{{"role":"user","content":[{parts}]}}]}}"#));
            let expected = MediaKinds { images, audio, files, documents: files };
            assert_eq!(Sight::default().media(&body), expected, "{parts}");
        }
        let text = r#"{"type":"file","file":{"filename":"a.txt","file_data":"data:text/plain;base64,AA=="}}"#;
        let body = body(&format!(r#"{{"messages":[{{"role":"user","content":[{text}]}}]}}"#));
        assert_eq!(Sight::default().media(&body), MediaKinds { files: true, ..MediaKinds::default() });
    }

    #[test]
    fn tools_are_named_whatever_their_kind() {
        let body = body(
            r#"{"tools":[{"type":"function","function":{"name":"a"}},{"type":"custom","custom":{"name":"b"}},
                {"type":"web_search"},{"type":"mcp","name":"c"},null,{}],"functions":[{"name":"d"}]}"#,
        );
        let sight = Sight::default();
        let names: Vec<&str> = sight.tool_names(&body).iter().map(|name| &**name).collect();
        assert_eq!(names, ["a", "b", "web_search", "c", "d"]);
    }
}
