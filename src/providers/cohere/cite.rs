//! Citations in OpenAI's form (`url_citation`), which the doors understand, with Cohere's own beside it, so that the
//! next turn can give it back. <https://docs.cohere.com/docs/rag-citations>

use serde_json::{Value, json};

/// The key of Cohere's own form inside of a citation.
const OWN: &str = "cohere";

/// One citation of Cohere's; one of OpenAI's for each of its sources, the first of which carries the original.
pub(super) fn read(citation: Value) -> Vec<Value> {
    let at = |key: &str| citation.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (start, end) = (at("start"), at("end"));
    let sources = citation.get("sources").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut found: Vec<Value> = sources
        .iter()
        .map(|source| {
            let (url, title) = (place(source), title(source));
            json!({ "type": "url_citation", "url_citation":
                { "start_index": start, "end_index": end, "url": url, "title": title } })
        })
        .collect();
    if found.is_empty() {
        found.push(json!({ "type": "url_citation", "url_citation":
            { "start_index": start, "end_index": end, "url": "", "title": "" } }));
    }
    if let Some(Value::Object(first)) = found.first_mut() {
        first.insert(OWN.into(), citation);
    }
    found
}

/// Cohere's own form of a citation that was its own.
pub(super) fn own(citation: &Value) -> Option<&Value> {
    citation.get(OWN).filter(|own| own.is_object())
}

/// Whether a citation stands in the text of the answer, and not in a plan or a thought.
pub(super) fn is_of_text(citation: &Value) -> bool {
    citation.get("type").and_then(Value::as_str).is_none_or(|kind| kind == "TEXT_CONTENT")
}

/// The address of a source: its URL, or its id where it has none.
fn place(source: &Value) -> &str {
    of_inside(source, &["url", "uri", "link"])
        .or_else(|| source.get("id").and_then(Value::as_str))
        .unwrap_or_default()
}

fn title(source: &Value) -> &str {
    of_inside(source, &["title", "name", "filename"]).unwrap_or_default()
}

fn of_inside<'a>(source: &'a Value, keys: &[&str]) -> Option<&'a str> {
    let inside = source.get("document").or_else(|| source.get("tool_output"))?;
    keys.iter().find_map(|key| inside.get(*key)?.as_str())
}
