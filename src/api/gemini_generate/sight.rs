//! Where Gemini's requests keep what policies ask for.

use crate::api::adjust::{CONTENTS, Places};
use crate::api::sight::{Asides, Look, MediaKinds, role};
use crate::facts::Turn;
use crate::json::{self, Body};

/// Gemini's contents.
#[derive(Debug)]
pub(in crate::api) struct Contents;

impl Look for Contents {
    const PARAMETERS: Places = CONTENTS;
    const METADATA: &'static str = "labels";

    fn has_json_output(body: &Body) -> bool {
        let config = body.raw("generationConfig").or_else(|| body.raw("generation_config"));
        json::entries(config.unwrap_or_default()).any(|(key, raw)| {
            matches!(&*key, "responseMimeType" | "response_mime_type")
                && json::text(raw).is_some_and(|mime| mime != "text/plain")
        })
    }

    fn tool_names(body: &Body) -> Vec<Box<str>> {
        let mut names = Vec::new();
        for tool in json::elements(body.raw("tools").unwrap_or_default()) {
            for (key, value) in json::entries(tool) {
                if matches!(&*key, "functionDeclarations" | "function_declarations") {
                    let functions = json::elements(value);
                    let named = functions.filter_map(|function| json::text(value_of(function, &["name"])?));
                    names.extend(named.map(Box::from));
                } else {
                    names.push(Box::from(&*key));
                }
            }
        }
        names
    }

    fn media(body: &Body) -> MediaKinds {
        let mut kinds = MediaKinds::default();
        for part in contents(body).flat_map(parts) {
            let inline = value_of(part, &["inlineData", "inline_data"]);
            let blob = inline.or_else(|| value_of(part, &["fileData", "file_data"]));
            let mime = blob.map(|blob| value_of(blob, &["mimeType", "mime_type"]).and_then(json::text));
            match mime {
                None => {}
                Some(Some(mime)) if mime.starts_with("image/") => kinds.images = true,
                Some(Some(mime)) if mime.starts_with("audio/") => kinds.audio = true,
                Some(mime) => {
                    kinds.files = true;
                    kinds.documents |=
                        inline.is_none() || !mime.is_some_and(|mime| mime.starts_with("text/"));
                }
            }
        }
        kinds
    }

    fn text(body: &Body) -> String {
        joined(system(body).into_iter().chain(contents(body)))
    }

    fn system(body: &Body) -> String {
        joined(system(body).into_iter())
    }

    fn turns(body: &Body) -> Vec<Turn> {
        let mut turns = Vec::new();
        let mut say = |role, text: String| {
            if !text.is_empty() {
                turns.push(Turn { role, text });
            }
        };
        say("system", joined(system(body).into_iter()));
        for content in contents(body) {
            let said_by = value_of(content, &["role"]).and_then(json::text);
            let speaks = parts(content).any(|part| value_of(part, &["text"]).is_some());
            let by = said_by.as_deref().map_or("user", role);
            // What a tool gave stands in a content of the user's.
            say(if by == "user" && !speaks { "tool" } else { by }, joined([content].into_iter()));
        }
        turns
    }

    fn asides(body: &Body) -> Asides {
        let mut asides = Asides::default();
        for part in contents(body).flat_map(parts) {
            for (key, value) in json::entries(part) {
                match &*key {
                    "functionCall" | "function_call" => {
                        asides.arguments(value_of(value, &["args"]).unwrap_or_default());
                    }
                    "functionResponse" | "function_response" => {
                        // What is a plain text there counts as said.
                        for (key, raw) in json::entries(value_of(value, &["response"]).unwrap_or_default()) {
                            asides.key(&key);
                            if json::text(raw).is_none() {
                                asides.given(raw);
                            }
                        }
                    }
                    "executableCode" | "executable_code" => {
                        asides.arguments(value_of(value, &["code"]).unwrap_or_default());
                    }
                    "codeExecutionResult" | "code_execution_result" => {
                        asides.results(value_of(value, &["output"]).unwrap_or_default());
                    }
                    _ => {}
                }
            }
        }
        asides
    }

    fn definitions(body: &Body) -> Asides {
        let mut asides = Asides::default();
        asides.tools(body.raw("tools").unwrap_or_default());
        let config = body.raw("generationConfig").or_else(|| body.raw("generation_config"));
        for (key, schema) in json::entries(config.unwrap_or_default()) {
            if matches!(
                &*key,
                "responseSchema" | "response_schema" | "responseJsonSchema" | "response_json_schema"
            ) {
                asides.schema(schema);
            }
        }
        asides
    }

    fn last_user(body: &Body) -> String {
        let is_user = |content: &&str| {
            let role = value_of(content, &["role"]).and_then(json::text);
            let speaks = parts(content).any(|part| value_of(part, &["text"]).is_some());
            speaks && role.is_none_or(|role| role == "user")
        };
        joined(contents(body).filter(is_user).last().into_iter())
    }
}

fn contents(body: &Body) -> impl Iterator<Item = &str> {
    json::elements(body.raw("contents").unwrap_or_default())
}

fn system(body: &Body) -> Option<&str> {
    body.raw("systemInstruction").or_else(|| body.raw("system_instruction"))
}

/// The parts of a content; one that stands without its list too.
fn parts(content: &str) -> impl Iterator<Item = &str> {
    let raw = value_of(content, &["parts"]).unwrap_or_default();
    let alone = raw.starts_with('{').then_some(raw);
    alone.into_iter().chain(json::elements(raw))
}

fn joined<'a>(contents: impl Iterator<Item = &'a str>) -> String {
    let mut all = String::new();
    for content in contents {
        let bare = json::text(content);
        let texts = parts(content).flat_map(texts_of);
        for text in bare.into_iter().chain(texts) {
            if !all.is_empty() && !text.is_empty() {
                all.push('\n');
            }
            all.push_str(&text);
        }
    }
    all
}

/// The text of a part, or what a function answered.
fn texts_of(part: &str) -> Vec<std::borrow::Cow<'_, str>> {
    if let Some(text) = value_of(part, &["text"]).and_then(json::text) {
        return vec![text];
    }
    let response = value_of(part, &["functionResponse", "function_response"])
        .and_then(|response| value_of(response, &["response"]));
    response.into_iter().flat_map(json::entries).filter_map(|(_, value)| json::text(value)).collect()
}

fn value_of<'a>(object: &'a str, keys: &[&str]) -> Option<&'a str> {
    json::entries(object).find(|(name, _)| keys.contains(&&**name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_policy_sees_what_is_said_and_shown() {
        let body = Body::read(Bytes::from_static(
            br#"{"system_instruction":{"parts":{"text":"be brief"}},
            "contents":[{"role":"user","parts":[{"text":"one"},{"inlineData":{"mimeType":"image/png","data":"AA=="}}]},
              {"role":"model","parts":[{"functionCall":{"name":"f","args":{"to":"ada"}}},{"executableCode":{"code":"x = 1"}}]},
              {"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"result","rows":[{"n":7}]}}}]},
              {"parts":[{"t\u0065xt":"two"},{"fileData":{"fileUri":"gs://x","mimeType":"application/pdf"}}]}, 7],
            "tools":[{"functionDeclarations":[{"name":"f"},{"name":"g"}]},{"googleSearch":{}}]}"#,
        ))
        .unwrap();
        let sight = crate::api::sight::Sight::<Contents>::default();
        assert_eq!(sight.text(&body), "be brief\none\nresult\ntwo");
        assert_eq!((sight.system(&body), sight.last_user(&body)), ("be brief", "two"));
        let turns: Vec<_> = Contents::turns(&body).into_iter().map(|turn| (turn.role, turn.text)).collect();
        let said = |role, text: &str| (role, text.to_owned());
        assert_eq!(
            turns,
            [said("system", "be brief"), said("user", "one"), said("tool", "result"), said("user", "two")]
        );
        let beside = Contents::asides(&body);
        let arguments = ["to", "ada", "x = 1"].map(|text| ("arguments", text));
        let results = ["output", "rows", "n", "7"].map(|text| ("results", text));
        assert_eq!(beside.shown(), [&arguments[..], &results].concat());
        let kinds = MediaKinds { images: true, audio: false, files: true, documents: true };
        assert_eq!(sight.media(&body), kinds);
        let names: Vec<&str> = sight.tool_names(&body).iter().map(|name| &**name).collect();
        assert_eq!(names, ["f", "g", "googleSearch"]);
    }
}
