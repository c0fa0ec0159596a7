//! How much a model shall think, in the words of its family.

use serde_json::{Value, json};

use super::model::{Model, Thinking};
use crate::chat::{Loss, Object, Reasoning, Request};
use crate::providers::QuirkSettings;
use crate::providers::anthropic::model::{Freedom, freedom};
use crate::providers::anthropic::think::{self, budget, path};
use crate::providers::openai::reasoning::effort_for;

/// What thinking does to the request.
#[derive(Debug, PartialEq)]
pub(super) struct Thought {
    /// For `additionalModelRequestFields`.
    pub(super) fields: Object,
    /// For `outputConfig`.
    pub(super) effort: Option<String>,
    /// `maxTokens`, where the client gave none and the model needs one.
    pub(super) max_tokens: Option<u64>,
    /// Sampling that the model takes.
    pub(super) freedom: Freedom,
    /// Whether it takes no limit of output either: Nova at its highest effort.
    pub(super) unlimited: bool,
}

/// What is not taken by a model that thinks.
pub(super) const THINKING: &str = "not allowed while thinking";

/// How the model is told to think.
pub(super) fn thought(asked: &Request, model: Model<'_>, name: &str, lost: &mut Vec<Loss>) -> Thought {
    let mut thought = Thought {
        fields: Object::new(),
        effort: None,
        max_tokens: None,
        freedom: model.freedom(),
        unlimited: false,
    };
    let Some(reasoning) = &asked.reasoning else { return thought };
    lost.extend(reasoning.rest.keys().map(|key| Loss::dropped(format!("reasoning.{key}"))));
    let path = path(reasoning);
    match model.thinking() {
        Thinking::Claude => claude(asked, model, name, &mut thought, lost),
        _ if budget(reasoning).is_none() && reasoning.effort.is_none() => {}
        Thinking::None if reasoning.shuns() => {}
        Thinking::None => lost.push(Loss::new(path, "dropped: this model is not told how much to think")),
        Thinking::Effort => thought.fields = effort(reasoning, path, lost),
        Thinking::Config => {
            let level = level(reasoning, path, lost);
            thought.fields.extend(level.map(|word| ("reasoning_config".to_owned(), word.into())));
        }
        Thinking::Reasoning => {
            let known = QuirkSettings::default();
            let effort = effort_for(reasoning, model.openais_name(), &known, lost);
            thought.fields.extend(effort.map(|word| ("reasoning".to_owned(), json!({ "effort": word }))));
        }
        Thinking::Nova => nova(reasoning, path, &mut thought, lost),
    }
    thought
}

/// The three words that gpt-oss, Nova and Qwen know.
fn level(reasoning: &Reasoning, path: &'static str, lost: &mut Vec<Loss>) -> Option<&'static str> {
    let level = match (reasoning.effort.as_deref(), budget(reasoning)) {
        _ if reasoning.shuns() => return None,
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
fn nova(reasoning: &Reasoning, path: &'static str, thought: &mut Thought, lost: &mut Vec<Loss>) {
    let Some(level) = level(reasoning, path, lost) else { return };
    let config = json!({ "type": "enabled", "maxReasoningEffort": level });
    thought.fields.insert("reasoningConfig".into(), config);
    if level == "high" {
        thought.freedom = Freedom::Fixed(THINKING);
        thought.unlimited = true;
    }
}

/// <https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.html>
fn claude(asked: &Request, model: Model<'_>, name: &str, thought: &mut Thought, lost: &mut Vec<Loss>) {
    let own = think::thought(asked, name, lost);
    let thinks = own.thinking.as_ref().is_some_and(|thinking| thinking["type"] != "disabled");
    thought.freedom = freedom(model.claude(), thinks);
    thought.fields.extend(own.thinking.map(|thinking| ("thinking".to_owned(), thinking)));
    thought.effort = own.effort;
    thought.max_tokens = own.limit;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Thinks;

    fn of(name: &str, effort: Option<&str>, budget: Option<u64>) -> (Value, Option<String>, usize) {
        said(
            name,
            Reasoning { effort: effort.map(Into::into), budget_tokens: budget, ..Reasoning::default() },
        )
    }

    fn said(name: &str, reasoning: Reasoning) -> (Value, Option<String>, usize) {
        let asked = Request { reasoning: Some(reasoning), ..Request::default() };
        let mut lost = Vec::new();
        let thought = thought(&asked, Model::of(name), name, &mut lost);
        (Value::Object(thought.fields), thought.effort, lost.len())
    }

    #[test]
    fn every_family_has_its_own_words() {
        let budget = |tokens: u64| json!({"thinking": {"type": "enabled", "budget_tokens": tokens}});
        let adaptive = json!({"thinking": {"type": "adaptive", "display": "summarized"}});
        for (name, effort, tokens, fields, level, losses) in [
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", Some("high"), None, budget(16_384), None, 0),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", Some("none"), None, json!({}), None, 0),
            ("anthropic.claude-opus-4-6-v1", None, Some(2_000), budget(2_000), None, 0),
            ("anthropic.claude-opus-4-7", Some("high"), None, adaptive, Some("high"), 0),
            ("anthropic.claude-3-haiku-20240307-v1:0", Some("high"), None, json!({}), None, 1),
            ("openai.gpt-oss-20b-1:0", Some("minimal"), None, json!({"reasoning_effort": "low"}), None, 1),
            ("openai.gpt-oss-20b-1:0", None, Some(9_000), json!({"reasoning_effort": "high"}), None, 1),
            ("us.openai.gpt-5.6-luna", Some("max"), None, json!({"reasoning": {"effort": "max"}}), None, 0),
            (
                "us.openai.gpt-5.6-luna",
                Some("minimal"),
                None,
                json!({"reasoning": {"effort": "low"}}),
                None,
                1,
            ),
            ("us.openai.gpt-5.6-luna", Some("none"), None, json!({"reasoning": {"effort": "none"}}), None, 0),
            ("us.openai.gpt-5.6-luna", None, Some(2_000), json!({"reasoning": {"effort": "low"}}), None, 0),
            ("qwen.qwen3-32b-v1:0", Some("high"), None, json!({"reasoning_config": "high"}), None, 0),
            ("qwen.qwen3-32b-v1:0", Some("none"), None, json!({}), None, 0),
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
        for (name, thinks, fields, losses) in [
            ("us.amazon.nova-2-lite-v1:0", Thinks::Not, json!({}), 0),
            ("meta.llama3-8b-instruct-v1:0", Thinks::Not, json!({}), 0),
            ("meta.llama3-8b-instruct-v1:0", Thinks::Freely, json!({}), 0),
            ("openai.gpt-oss-20b-1:0", Thinks::Not, json!({"reasoning_effort": "low"}), 1),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", Thinks::Not, json!({}), 0),
            ("anthropic.claude-opus-4-6-v1", Thinks::Freely, json!({"thinking": {"type": "adaptive"}}), 0),
        ] {
            let seen = said(name, Reasoning { thinks, ..Reasoning::default() });
            assert_eq!(seen, (fields, None, losses), "{name} {thinks:?}");
        }
    }
}
