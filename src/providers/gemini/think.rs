//! How much a model shall think: efforts and budgets in the words of its generation.
//!
//! Gemini 2.5 takes budgets of tokens, Gemini 3 levels; the pairs are those of Google's own OpenAI-compatible
//! endpoint: <https://ai.google.dev/gemini-api/docs/openai#thinking>

use serde_json::Value;

use super::model::Model;
use crate::chat::{Loss, Object, Reasoning};

/// The `thinkingConfig`, if any.
pub(super) fn config(reasoning: &Reasoning, model: Model<'_>, lost: &mut Vec<Loss>) -> Option<Object> {
    if reasoning.is_unsaid() {
        return None;
    }
    let shuns = reasoning.shuns();
    if !model.thinks() {
        if !shuns {
            lost.push(Loss::new("reasoning_effort", "dropped: this model does not think"));
        }
        return None;
    }
    let mut config = Object::new();
    let mut shows = true;
    let said = match (reasoning.budget_tokens, reasoning.effort.as_deref()) {
        // Levels know no such budget, and another dialect's effort is not of thinking then.
        (budget, _) if shuns && (model.is_third() || budget.is_none()) => (None, Some("none")),
        said => said,
    };
    match said {
        (Some(budget), effort) => {
            if effort.is_some() {
                lost.push(Loss::new("reasoning.effort", "the budget counts"));
            }
            let fitted = fit(budget, model);
            if fitted != budget {
                lost.push(Loss::new("reasoning.budget_tokens", format!("became {fitted}")));
            }
            config.insert("thinkingBudget".into(), fitted.into());
            shows = budget > 0;
        }
        (None, Some(effort)) if model.is_third() => {
            let level = level(effort, model);
            if !matches!((effort, level), ("none", _)) && effort != level {
                lost.push(Loss::new("reasoning_effort", format!("became {level}")));
            } else if effort == "none" {
                lost.push(Loss::new("reasoning_effort", format!("became {level}: this model always thinks")));
            }
            config.insert("thinkingLevel".into(), level.into());
            shows = effort != "none";
        }
        (None, Some(effort)) => {
            let budget = fit(budget(effort), model);
            if effort == "none" && budget > 0 {
                lost.push(Loss::new(
                    "reasoning_effort",
                    format!("became {budget}: this model always thinks"),
                ));
            }
            config.insert("thinkingBudget".into(), budget.into());
            shows = effort != "none";
        }
        (None, None) => {}
    }
    config.insert("includeThoughts".into(), shows.into());
    for (field, value) in &reasoning.rest {
        match (&**field, value) {
            ("includeThoughts" | "include_thoughts", value) => {
                config.insert("includeThoughts".into(), value.clone());
            }
            ("thinkingBudget" | "thinking_budget", value) => {
                config.insert("thinkingBudget".into(), value.clone());
            }
            ("thinkingLevel" | "thinking_level", value) => {
                config.insert("thinkingLevel".into(), value.clone());
            }
            // How OpenAI asks for the summary of thinking, and OpenRouter for none.
            ("summary", Value::String(_)) => {}
            ("exclude", Value::Bool(exclude)) => {
                config.insert("includeThoughts".into(), (!exclude).into());
            }
            ("enabled", Value::Bool(true)) => {}
            _ => lost.push(Loss::dropped(format!("reasoning.{field}"))),
        }
    }
    Some(config)
}

fn level(effort: &str, model: Model<'_>) -> &'static str {
    match effort {
        "none" | "minimal" if !model.knows_minimal() => "low",
        "none" | "minimal" => "minimal",
        "low" => "low",
        "medium" if model.knows_medium() => "medium",
        _ => "high",
    }
}

fn budget(effort: &str) -> u64 {
    match effort {
        "none" => 0,
        "minimal" | "low" => 1_024,
        "medium" => 8_192,
        _ => 24_576,
    }
}

/// A budget within the model's bounds; only the large models cannot do without.
fn fit(budget: u64, model: Model<'_>) -> u64 {
    if budget == 0 && !model.is_pro() {
        return 0;
    }
    let bounds = model.budgets();
    budget.clamp(*bounds.start(), *bounds.end())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::Thinks;

    #[test]
    fn efforts_and_budgets_are_said_in_the_words_of_the_generation() {
        for (model, effort, budget, expected, losses) in [
            ("gemini-2.0-flash", None, Some(0), json!(null), 0),
            (
                "gemini-3-flash-preview",
                None,
                Some(0),
                json!({"thinkingLevel": "minimal", "includeThoughts": false}),
                1,
            ),
            ("gemini-2.5-flash", None, Some(0), json!({"thinkingBudget": 0, "includeThoughts": false}), 0),
            ("gemini-2.5-pro", None, Some(0), json!({"thinkingBudget": 128, "includeThoughts": false}), 1),
            (
                "gemini-2.5-flash",
                Some("none"),
                None,
                json!({"thinkingBudget": 0, "includeThoughts": false}),
                0,
            ),
            (
                "gemini-2.5-pro",
                Some("none"),
                None,
                json!({"thinkingBudget": 128, "includeThoughts": false}),
                1,
            ),
            (
                "gemini-2.5-flash",
                Some("medium"),
                None,
                json!({"thinkingBudget": 8192, "includeThoughts": true}),
                0,
            ),
            (
                "gemini-2.5-flash",
                None,
                Some(31_999),
                json!({"thinkingBudget": 24_576, "includeThoughts": true}),
                1,
            ),
            (
                "gemini-3-pro-preview",
                Some("medium"),
                None,
                json!({"thinkingLevel": "high", "includeThoughts": true}),
                1,
            ),
            (
                "gemini-3-flash-preview",
                Some("medium"),
                None,
                json!({"thinkingLevel": "medium", "includeThoughts": true}),
                0,
            ),
            (
                "gemini-3-flash-preview",
                Some("none"),
                None,
                json!({"thinkingLevel": "minimal", "includeThoughts": false}),
                1,
            ),
            (
                "gemini-3.7-flash",
                Some("none"),
                None,
                json!({"thinkingLevel": "low", "includeThoughts": false}),
                1,
            ),
            (
                "gemini-3.8-flash-lite",
                Some("minimal"),
                None,
                json!({"thinkingLevel": "minimal", "includeThoughts": true}),
                0,
            ),
            (
                "gemini-3.1-pro-preview",
                Some("medium"),
                None,
                json!({"thinkingLevel": "medium", "includeThoughts": true}),
                0,
            ),
            (
                "gemini-2.5-flash-lite",
                None,
                Some(100),
                json!({"thinkingBudget": 512, "includeThoughts": true}),
                1,
            ),
            (
                "gemini-2.5-flash-lite",
                Some("none"),
                None,
                json!({"thinkingBudget": 0, "includeThoughts": false}),
                0,
            ),
            ("gemini-2.5-flash-image", Some("low"), None, json!(null), 1),
            ("gemini-2.0-flash", Some("low"), None, json!(null), 1),
        ] {
            let reasoning =
                Reasoning { effort: effort.map(Into::into), budget_tokens: budget, ..Reasoning::default() };
            let mut lost = Vec::new();
            let config = config(&reasoning, Model::of(model), &mut lost).map_or(Value::Null, Value::Object);
            assert_eq!((config, lost.len()), (expected, losses), "{model} {effort:?} {budget:?}");
        }
        let wish = |thinks, effort: Option<&str>| {
            let reasoning = Reasoning { thinks, effort: effort.map(Into::into), ..Reasoning::default() };
            config(&reasoning, Model::of("gemini-2.5-flash"), &mut Vec::new()).map(Value::Object)
        };
        assert_eq!(wish(Thinks::Freely, None), None);
        for effort in [None, Some("high")] {
            let quiet = json!({"thinkingBudget": 0, "includeThoughts": false});
            assert_eq!(wish(Thinks::Not, effort), Some(quiet), "{effort:?}");
        }
    }
}
