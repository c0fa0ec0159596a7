//! How much a model shall think, in the words of its family.

use serde_json::{Value, json};

use super::model::{Model, Thinking};
use crate::chat::{Loss, Object, Reasoning, Request, ToolChoice};
use crate::providers::anthropic::encode::{LEAST_BUDGET, budget};
use crate::providers::anthropic::{message, model as claude};

/// What thinking does to the request.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Thought {
    /// For `additionalModelRequestFields`.
    pub(super) fields: Object,
    /// For `outputConfig`.
    pub(super) effort: Option<String>,
    /// `maxTokens`, where the client gave none and the model needs one.
    pub(super) max_tokens: Option<u64>,
    /// Sampling and limits that the model does not take while it thinks.
    pub(super) forbids: Forbidden,
}

/// What a model that thinks does not take.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forbidden {
    /// It takes all.
    #[default]
    Nothing,
    /// Claude: a temperature other than 1, `top_k`, a low `top_p`.
    Sampling,
    /// Nova at its highest effort: no limit of output either.
    All,
}

/// How the model is told to think.
pub(super) fn thought(asked: &Request, model: Model<'_>, name: &str, lost: &mut Vec<Loss>) -> Thought {
    let Some(reasoning) = &asked.reasoning else { return Thought::default() };
    lost.extend(reasoning.rest.keys().map(|key| Loss::dropped(format!("reasoning.{key}"))));
    let path = if reasoning.effort.is_some() { "reasoning_effort" } else { "reasoning" };
    if reasoning.effort.is_none() && reasoning.budget_tokens.is_none() {
        return Thought::default();
    }
    if let Thinking::Budget = model.thinking() {
        crate::providers::foreign::lose_effort(reasoning, lost);
    }
    match model.thinking() {
        Thinking::None if budget(reasoning) == Some(0) => Thought::default(),
        Thinking::None => {
            lost.push(Loss::new(path, "dropped: this model is not told how much to think"));
            Thought::default()
        }
        Thinking::Effort => Thought { fields: effort(reasoning, path, lost), ..Thought::default() },
        Thinking::Nova => nova(reasoning, path, lost),
        Thinking::Budget | Thinking::Adaptive { .. } => claude(asked, reasoning, model, name, path, lost),
    }
}

/// The three words that gpt-oss and Nova know.
fn level(reasoning: &Reasoning, path: &'static str, lost: &mut Vec<Loss>) -> Option<&'static str> {
    let level = match (reasoning.effort.as_deref(), budget(reasoning)) {
        (Some("none"), _) | (None, Some(0)) => return None,
        (Some("minimal" | "low"), _) => "low",
        (Some("medium"), _) => "medium",
        (Some(_), _) => "high",
        (None, Some(..=2_048)) => "low",
        (None, Some(..=8_192)) => "medium",
        (None, _) => "high",
    };
    if reasoning.effort.as_deref() != Some(level) {
        lost.push(Loss::new(path, format!("became {level}")));
    }
    Some(level)
}

/// <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-openai.html>
fn effort(reasoning: &Reasoning, path: &'static str, lost: &mut Vec<Loss>) -> Object {
    let level = level(reasoning, path, lost).unwrap_or_else(|| {
        lost.push(Loss::new(path, "became low: this model always thinks"));
        "low"
    });
    [("reasoning_effort".to_owned(), Value::from(level))].into_iter().collect()
}

/// <https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html>
fn nova(reasoning: &Reasoning, path: &'static str, lost: &mut Vec<Loss>) -> Thought {
    let Some(level) = level(reasoning, path, lost) else { return Thought::default() };
    let config = json!({ "type": "enabled", "maxReasoningEffort": level });
    let fields = [("reasoningConfig".to_owned(), config)].into_iter().collect();
    let forbids = if level == "high" { Forbidden::All } else { Forbidden::Nothing };
    Thought { fields, forbids, ..Thought::default() }
}

/// <https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-extended-thinking.html>
fn claude(
    asked: &Request,
    reasoning: &Reasoning,
    model: Model<'_>,
    name: &str,
    path: &'static str,
    lost: &mut Vec<Loss>,
) -> Thought {
    let Some(budget) = budget(reasoning) else {
        lost.push(Loss::dropped(path));
        return Thought::default();
    };
    if budget == 0 {
        return Thought::default();
    }
    if matches!(asked.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
        lost.push(Loss::new(path, "no thinking while a tool is forced"));
        return Thought::default();
    }
    if message::is_unproven_loop(&asked.messages) {
        lost.push(Loss::new(path, "no thinking until the tool calls of another provider are through"));
        return Thought::default();
    }
    let limit = asked.max_output_tokens.unwrap_or_else(|| claude::default_max_tokens(name));
    let budgeted = match model.thinking() {
        Thinking::Adaptive { takes_budget } => {
            if reasoning.budget_tokens.is_some() && !takes_budget {
                lost.push(Loss::new(path, "the budget became adaptive thinking"));
            }
            takes_budget && reasoning.budget_tokens.is_some()
        }
        _ => true,
    };
    let mut thought = Thought { forbids: Forbidden::Sampling, ..Thought::default() };
    let thinking = if budgeted {
        if limit <= LEAST_BUDGET {
            lost.push(Loss::new(path, "the output limit leaves no room for thinking"));
            return Thought::default();
        }
        thought.max_tokens = asked.max_output_tokens.is_none().then_some(limit);
        json!({ "type": "enabled", "budget_tokens": budget.clamp(LEAST_BUDGET, limit - 1) })
    } else {
        let effort = reasoning.effort.as_deref();
        thought.effort = effort.map(|effort| if effort == "minimal" { "low" } else { effort }.to_owned());
        json!({ "type": "adaptive" })
    };
    thought.fields.insert("thinking".into(), thinking);
    thought
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, effort: Option<&str>, budget: Option<u64>) -> (Value, Option<String>, usize) {
        let reasoning =
            Reasoning { effort: effort.map(Into::into), budget_tokens: budget, ..Reasoning::default() };
        let asked = Request { reasoning: Some(reasoning), ..Request::default() };
        let mut lost = Vec::new();
        let thought = thought(&asked, Model::of(name), name, &mut lost);
        (Value::Object(thought.fields), thought.effort, lost.len())
    }

    #[test]
    fn every_family_has_its_own_words() {
        let budget = |tokens: u64| json!({"thinking": {"type": "enabled", "budget_tokens": tokens}});
        let adaptive = json!({"thinking": {"type": "adaptive"}});
        for (name, effort, tokens, fields, level, losses) in [
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", Some("high"), None, budget(16_384), None, 0),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", None, Some(5), budget(1_024), None, 0),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", Some("none"), None, json!({}), None, 0),
            ("anthropic.claude-opus-4-6-v1", None, Some(2_000), budget(2_000), None, 0),
            ("anthropic.claude-opus-4-6-v1", Some("high"), None, adaptive.clone(), Some("high"), 0),
            ("anthropic.claude-opus-4-7", None, Some(2_000), adaptive, None, 1),
            ("anthropic.claude-3-haiku-20240307-v1:0", Some("high"), None, json!({}), None, 1),
            ("openai.gpt-oss-20b-1:0", Some("minimal"), None, json!({"reasoning_effort": "low"}), None, 1),
            ("openai.gpt-oss-20b-1:0", None, Some(9_000), json!({"reasoning_effort": "high"}), None, 1),
            (
                "us.amazon.nova-2-lite-v1:0",
                Some("low"),
                None,
                json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
                None,
                0,
            ),
            ("us.amazon.nova-2-lite-v1:0", Some("none"), None, json!({}), None, 0),
            ("meta.llama3-8b-instruct-v1:0", Some("none"), None, json!({}), None, 0),
            ("meta.llama3-8b-instruct-v1:0", Some("low"), None, json!({}), None, 1),
        ] {
            let expected = (fields, level.map(str::to_owned), losses);
            assert_eq!(of(name, effort, tokens), expected, "{name} {effort:?} {tokens:?}");
        }
    }
}
