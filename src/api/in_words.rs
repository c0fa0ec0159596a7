//! Parts for which only Anthropic's dialect has a form, though they are texts: what a search found, documents made of
//! texts, the names of tools that were found, the summary of a conversation that was compacted. Other dialects are told their
//! words.

use std::borrow::Cow;

use serde_json::Value;

use crate::chat::{CacheHint, Loss, Message, Part, Request};
use crate::providers::Dialect;

/// The request with such parts as texts, for a target of `dialect`, and what they lose by that.
pub(super) fn for_target(request: &Request, dialect: Dialect) -> (Cow<'_, Request>, Vec<Loss>) {
    if dialect == Dialect::Anthropic || !request.messages.iter().any(|message| has_any(message, dialect)) {
        return (Cow::Borrowed(request), Vec::new());
    }
    let (mut request, mut lost) = (request.clone(), Vec::new());
    for (place, message) in request.messages.iter_mut().enumerate() {
        for (at, part) in message.content.iter_mut().enumerate() {
            let mut tell = |part: &mut Part| {
                let Some((words, cites)) = in_words(part, dialect) else { return };
                *part = words;
                if cites {
                    lost.push(Loss::dropped(format!("messages[{place}].content[{at}].citations")));
                }
            };
            match part {
                Part::ToolResult { content, .. } => content.iter_mut().for_each(tell),
                part => tell(part),
            }
        }
    }
    (Cow::Owned(request), lost)
}

fn has_any(message: &Message, dialect: Dialect) -> bool {
    message.content.iter().any(|part| match part {
        Part::ToolResult { content, .. } => content.iter().any(|part| in_words(part, dialect).is_some()),
        part => in_words(part, dialect).is_some(),
    })
}

/// A part as a text, and whether the answer was to cite it; `None` for one that is no text, or that the dialect knows.
fn in_words(part: &Part, dialect: Dialect) -> Option<(Part, bool)> {
    let Part::Other(value) = part else { return None };
    let field = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let text = match field("type")? {
        // Bedrock's Converse has them, too.
        "search_result" if dialect == Dialect::Bedrock => return None,
        "search_result" => {
            let said = texts(value.get("content")?)?;
            joined([field("title"), field("source"), Some(&said)])
        }
        "document" => {
            let said = texts(value.get("source")?.get("content")?)?;
            joined([field("title"), field("context"), Some(&said)])
        }
        // All tools are offered from the beginning where none can be kept back.
        "tool_reference" => format!("The tool `{}` can be called.", field("tool_name")?),
        // It stands for all that was said before, which clients leave away from then on.
        "compaction" => joined([Some("Summary of the conversation so far:"), Some(field("content")?), None]),
        _ => return None,
    };
    let cites =
        value.get("citations").and_then(|citations| citations.get("enabled")) == Some(&Value::Bool(true));
    let cache = value
        .get("cache_control")
        .map(|control| CacheHint { ttl: control.get("ttl").and_then(Value::as_str).map(str::to_owned) });
    Some((Part::Text { text: text.into(), cache, citations: Vec::new() }, cites))
}

/// A text, or blocks that are nothing but texts.
fn texts(content: &Value) -> Option<String> {
    let blocks = match content {
        Value::String(text) => return Some(text.clone()),
        other => other.as_array()?,
    };
    let said: Option<Vec<&str>> = blocks.iter().map(|block| block.get("text")?.as_str()).collect();
    Some(said?.join("\n"))
}

fn joined(pieces: [Option<&str>; 3]) -> String {
    pieces.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::{Object, Role};

    fn told(part: Value, dialect: Dialect) -> (Vec<Part>, Vec<String>) {
        let content = vec![Part::Other(part)];
        let message = Message { role: Role::User, content, name: None, rest: Object::new() };
        let request = Request { messages: vec![message], ..Request::default() };
        let (told, lost) = for_target(&request, dialect);
        (told.messages[0].content.clone(), lost.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_text_is_told_as_text() {
        let found = json!({"type": "search_result", "source": "https://kb/1", "title": "T",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "citations": {"enabled": true}});
        let document = json!({"type": "document", "title": "D", "context": "about d",
            "source": {"type": "content", "content": [{"type": "text", "text": "inner"}]}});
        let plain = json!({"type": "document", "source": {"type": "content", "content": "inner"}});
        let tool = json!({"type": "tool_reference", "tool_name": "f"});
        let compacted = json!({"type": "compaction", "content": "we met"});
        for (part, text, lost) in [
            (&found, "T\nhttps://kb/1\na\nb", &["messages[0].content[0].citations (dropped)"][..]),
            (&document, "D\nabout d\ninner", &[]),
            (&plain, "inner", &[]),
            (&tool, "The tool `f` can be called.", &[]),
            (&compacted, "Summary of the conversation so far:\nwe met", &[]),
        ] {
            assert_eq!(
                told(part.clone(), Dialect::OpenAi),
                (vec![Part::text(text)], lost.iter().map(|l| (*l).to_owned()).collect())
            );
            assert_eq!(told(part.clone(), Dialect::Anthropic).0, [Part::Other(part.clone())]);
        }
        assert_eq!(told(found.clone(), Dialect::Bedrock).0, [Part::Other(found)]);
        for part in [
            json!({"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": {}}]}}),
            json!({"type": "container_upload", "file_id": "f"}),
            json!({"executableCode": {"code": "1"}}),
        ] {
            assert_eq!(told(part.clone(), Dialect::Gemini), (vec![Part::Other(part)], Vec::new()));
        }
    }

    #[test]
    fn results_of_tools_hold_such_texts_too() {
        let inner = Part::Other(json!({"type": "tool_reference", "tool_name": "f"}));
        let result = Part::ToolResult { id: "c".into(), content: vec![inner], is_error: false, cache: None };
        let message = Message { role: Role::Tool, content: vec![result], name: None, rest: Object::new() };
        let request = Request { messages: vec![message], ..Request::default() };
        let (told, _) = for_target(&request, Dialect::Gemini);
        let Part::ToolResult { content, .. } = &told.messages[0].content[0] else { panic!("{told:?}") };
        assert_eq!(content[..], [Part::text("The tool `f` can be called.")]);
    }
}
