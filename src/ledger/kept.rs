//! Pushed prices as they are kept between two processes: by model, as they were written or as a list has them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compact;
use super::document::Document;
use super::own::{Own, Owns};
use super::settings::ModelPrice;

/// What is kept of a document, by the names of models.
pub fn kept(text: &[u8], document: &Document) -> Vec<(String, Value)> {
    match document {
        Document::Models(models, _) => models
            .iter()
            .map(|(name, model)| {
                let mut line = String::new();
                compact::write(&mut line, name, model);
                (name.clone(), Value::String(line))
            })
            .collect(),
        Document::Own(owns) => {
            let written: Written = serde_yaml::from_slice(text).unwrap_or_default();
            let known = written.models.into_iter().filter(|(name, _)| owns.0.contains_key(name));
            known.collect()
        }
    }
}

/// A document in our own form; JSON is YAML, too.
#[derive(Default, serde::Deserialize)]
struct Written {
    models: BTreeMap<String, Value>,
}

/// What was pushed, of what was kept. What cannot be read is told, and left out.
pub fn pushed(kept: Vec<(String, Value)>) -> Owns {
    let read = kept.into_iter().filter_map(|(name, value)| {
        let own = match &value {
            Value::String(line) => compact::read(line.trim_end_matches('\n')).map(Own::whole),
            _ => serde_json::from_value::<ModelPrice>(value).ok().and_then(|price| price.checked().ok()),
        };
        if own.is_none() {
            tracing::error!(model = name, "a pushed price that was kept cannot be read; it does not count");
        }
        own.map(|own| (name, own))
    });
    Owns(read.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        for text in [
            r#"{"models": {"a/b": {"price": {"input": 1.5}, "batch": {"input": 1}, "percent": 50},
                "c/*": {"like": "openai/gpt-4o"}}}"#,
            "models:\n  local/x:\n    price: { input: 0.5, output: 1 }\n",
            r#"{"gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2e-6,
                "max_input_tokens": 1000}}"#,
        ] {
            let document = Document::read(text.as_bytes(), "openrouter").unwrap();
            let rows = kept(text.as_bytes(), &document);
            let expected = match document {
                Document::Own(owns) => owns,
                Document::Models(models, _) => {
                    Owns(models.into_iter().map(|(name, model)| (name, Own::whole(model))).collect())
                }
            };
            assert_eq!(pushed(rows), expected, "{text}");
        }
        assert!(pushed(vec![("a/b".into(), Value::Null)]).0.is_empty());
    }
}
