//! Price documents in every form that is understood: LiteLLM's file, OpenRouter's list, and our own.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::Model;
use super::own::{Own, Owns};
use super::settings::ModelPrice;
use super::{litellm, openrouter};

/// What a document says.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// Whole models by `preset/model`, and how many entries were left out because nobody here is their provider.
    Models(Vec<(String, Model)>, usize),
    /// What somebody sets, in our own form.
    Own(Owns),
}

impl Document {
    /// Reads a document, JSON or YAML; `provider` is whose models a list in OpenRouter's form names.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(text: &[u8], provider: &str) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8 text".to_owned())?;
        let json = text.trim_start().starts_with('{');
        let value: Value = if json {
            serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?
        } else {
            serde_yaml::from_str(text).map_err(|error| format!("is not YAML: {error}"))?
        };
        let Value::Object(object) = value else {
            return Err("is not a price list: the outermost value must be an object".to_owned());
        };
        if let Some(Value::Array(data)) = object.get("data") {
            let (models, nameless) = openrouter::read(data, provider);
            return some(models, nameless);
        }
        if let Some(models) = object.get("models").filter(|_| object.len() == 1) {
            let models: BTreeMap<String, ModelPrice> =
                serde_json::from_value(models.clone()).map_err(|error| format!("`models`: {error}"))?;
            return own(&models).map(Self::Own);
        }
        let (models, others) = litellm::read(&object);
        some(models, others)
    }
}

fn some(models: Vec<(String, Model)>, others: usize) -> Result<Document, String> {
    if models.is_empty() {
        let forms =
            "LiteLLM's price file, OpenRouter's `/models`, or `{\"models\": {\"provider/model\": {…}}}`";
        return Err(format!("names no model that is known here; the forms are {forms}"));
    }
    Ok(Document::Models(models, others))
}

/// Settings by name, checked.
fn own(models: &BTreeMap<String, ModelPrice>) -> Result<Owns, String> {
    let own = models.iter().map(|(name, model)| {
        if !name.contains('/') {
            return Err(format!("`{name}`: write it as `provider/model`"));
        }
        let own: Result<Own, _> = model.checked();
        own.map(|own| (name.clone(), own)).map_err(|errors| {
            let errors: Vec<_> =
                errors.into_iter().map(|(key, error)| format!("`{name}`.{key}: {error}")).collect();
            errors.join("; ")
        })
    });
    own.collect::<Result<_, _>>().map(Owns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::rate::Unit;

    #[test]
    fn every_form_is_recognised() {
        let check = |text: &str, expected: Result<&[&str], &str>| {
            let names = Document::read(text.as_bytes(), "openrouter").map(|document| match document {
                Document::Models(models, _) => models.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
                Document::Own(owns) => owns.0.into_keys().collect(),
            });
            match (&names, expected) {
                (Ok(names), Ok(expected)) => assert_eq!(names, expected, "{text}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                _ => panic!("{text}: {names:?}"),
            }
        };
        check(r#"{"gpt-4o": {"litellm_provider": "openai", "mode": "chat"}}"#, Ok(&["openai/gpt-4o"]));
        check(r#"{"data": [{"id": "a/b", "pricing": {"prompt": "1e-6"}}]}"#, Ok(&["openrouter/a/b"]));
        check(r#"{"models": {"local/x": {"price": {"input": 1}}}}"#, Ok(&["local/x"]));
        check("models:\n  local/x:\n    price: { input: 0.5, output: 1 }\n", Ok(&["local/x"]));
        check(r#"{"models": {"local/x": {"price": {"input": -1}}}}"#, Err("is not a price"));
        check(r#"{"models": {"local/x": {"prize": {}}}}"#, Err("prize"));
        check(r#"{"models": {"local": {}}}"#, Err("provider/model"));
        check(r#"{"models": {"a/b": {"batch": {"input": 1}}}}"#, Err("need `price`"));
        check(
            r#"{"models": {"a/b": {"off_peak": [{"hours": ["25:00-26:00"], "percent": 50}]}}}"#,
            Err("span of hours"),
        );
        check(r#"{"models": {"a/b": {"off_peak": [{"hours": [], "percent": 50}]}}}"#, Err("never apply"));
        check(
            r#"{"models": {"a/b": {"reserved": {"tokens": 5, "per": "day", "zone": "Mars"}}}}"#,
            Err("time zone"),
        );
        check("{}", Err("names no model"));
        check("[]", Err("must be an object"));
        check("{", Err("is not JSON"));
    }

    #[test]
    fn dollars_for_a_million_become_pico_dollars() {
        let text =
            r#"{"models": {"a/b": {"price": {"input": 0.075, "request": 0.002, "audio_second": 0.0001}}}}"#;
        let Ok(Document::Own(owns)) = Document::read(text.as_bytes(), "") else { panic!() };
        let rates = owns.0["a/b"].rates.clone().unwrap();
        let of = |unit| rates.iter().find(|rate| rate.unit == unit).unwrap().price.0;
        assert_eq!(
            (of(Unit::Input), of(Unit::Request), of(Unit::AudioSecond)),
            (75_000, 2_000_000_000, 100_000_000)
        );
    }
}
