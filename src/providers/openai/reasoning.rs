//! What OpenAI's reasoning models take and refuse: efforts instead of budgets, and nobody else's way of drawing tokens.

use serde_json::Value;

use crate::chat::{Loss, Object, Reasoning};
use crate::providers::QuirkSettings;

/// Puts how hard the model shall think into the request.
pub(super) fn think(
    reasoning: &Reasoning,
    model: &str,
    quirks: &QuirkSettings,
    body: &mut Object,
    lost: &mut Vec<Loss>,
) {
    let quiet = reasoning.effort.as_deref() == Some("none");
    if never_thinks(model) {
        if !quiet {
            lost.push(Loss::new("reasoning_effort", "dropped: this model does not think"));
        }
        return;
    }
    if quiet && always_thinks(model).is_none() && !knows_none(model, quirks) {
        // Most vendors refuse the word, and most models do not think unasked.
        return;
    }
    if reasoning.effort.is_some() && reasoning.budget_tokens.is_some() {
        lost.push(Loss::new("reasoning.budget_tokens", "the effort counts"));
    }
    super::encode::put(body, "reasoning_effort", effort_for(reasoning, model, lost));
    if !reasoning.rest.is_empty() {
        body.insert("reasoning".into(), Value::Object(reasoning.rest.clone()));
    }
}

/// Whether thinking can be switched off by that word, or by the vendor's own.
fn knows_none(model: &str, quirks: &QuirkSettings) -> bool {
    model.starts_with("gpt-5.") || quirks.thinking_switch || quirks.efforts_of(model).is_some()
}

/// The effort for this model; the least it knows where it cannot do without.
pub(in crate::providers) fn effort_for(
    reasoning: &Reasoning,
    model: &str,
    lost: &mut Vec<Loss>,
) -> Option<String> {
    let effort = effort(reasoning)?;
    match always_thinks(model).filter(|_| effort == "none") {
        Some(least) => {
            lost.push(Loss::new("reasoning_effort", format!("became {least}: this model always thinks")));
            Some(least.to_owned())
        }
        None => Some(effort),
    }
}

/// OpenAI's o series, by its names.
fn is_of_o_series(model: &str) -> bool {
    ["o1", "o3", "o4"]
        .iter()
        .any(|name| model.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

/// The least effort of OpenAI's models that cannot be told not to think.
/// <https://platform.openai.com/docs/guides/reasoning>
fn always_thinks(model: &str) -> Option<&'static str> {
    if is_of_o_series(model) {
        return Some("low");
    }
    (model == "gpt-5" || model.starts_with("gpt-5-"))
        .then(|| if model.contains("pro") { "high" } else { "minimal" })
}

/// Whether OpenAI's model refuses to be told how to draw its tokens: those that think always do, those that need not
/// (GPT-5.1 and later) while they think. <https://platform.openai.com/docs/guides/latest-model>
pub(in crate::providers) fn has_its_sampling(model: &str, thinks: bool) -> bool {
    if is_of_o_series(model) {
        return true;
    }
    let five = model == "gpt-5" || model.starts_with("gpt-5-") || model.starts_with("gpt-5.");
    let may_rest = model.starts_with("gpt-5.") && !model.contains("pro") && !model.contains("codex");
    five && !model.contains("chat") && (thinks || !may_rest)
}

/// Takes out what such a model refuses, unless it says what holds anyway.
pub(in crate::providers) fn leave_sampling(body: &mut Object, lost: &mut Vec<Loss>) {
    const USUAL: [(&str, f64); 4] =
        [("temperature", 1.0), ("top_p", 1.0), ("presence_penalty", 0.0), ("frequency_penalty", 0.0)];
    for (field, usual) in USUAL {
        if let Some(value) = body.shift_remove(field)
            && value.as_f64() != Some(usual)
        {
            lost.push(Loss::new(field, "dropped: this model draws in its own way"));
        }
    }
    for field in ["logit_bias", "logprobs", "top_logprobs", "stop"] {
        if let Some(value) = body.shift_remove(field)
            && value != Value::Bool(false)
        {
            lost.push(Loss::new(field, "dropped: this model does not take it"));
        }
    }
}

/// OpenAI's older models refuse the parameter itself.
pub(in crate::providers) fn never_thinks(model: &str) -> bool {
    ["gpt-4", "gpt-3.5", "chatgpt-"].iter().any(|older| model.starts_with(older))
}

/// OpenAI knows efforts, not budgets: a budget becomes the effort that it would pay for.
pub(in crate::providers) fn effort(reasoning: &Reasoning) -> Option<String> {
    let effort = reasoning.effort.clone().or_else(|| {
        Some(String::from(match reasoning.budget_tokens? {
            0 => "minimal",
            1..=2_048 => "low",
            2_049..=8_192 => "medium",
            _ => "high",
        }))
    });
    // Anthropic's highest has no name of its own here.
    effort.map(|effort| if effort == "max" { "high".to_owned() } else { effort })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn efforts_are_those_that_the_model_knows() {
        for (model, asked, expected, losses) in [
            ("gpt-4.1", "none", json!({}), 0),
            ("gpt-4.1", "low", json!({}), 1),
            ("gpt-5", "none", json!({"reasoning_effort": "minimal"}), 1),
            ("gpt-5-mini", "high", json!({"reasoning_effort": "high"}), 0),
            ("gpt-5.1", "none", json!({"reasoning_effort": "none"}), 0),
            ("o3-mini", "none", json!({"reasoning_effort": "low"}), 1),
            ("llama-3.3-70b", "none", json!({}), 0),
            ("llama-3.3-70b", "high", json!({"reasoning_effort": "high"}), 0),
        ] {
            let (mut body, mut lost) = (Object::new(), Vec::new());
            let wish = Reasoning { effort: Some(asked.into()), ..Reasoning::default() };
            think(&wish, model, &QuirkSettings::default(), &mut body, &mut lost);
            assert_eq!((Value::Object(body), lost.len()), (expected, losses), "{model} {asked}");
        }
    }

    #[test]
    fn models_that_think_draw_in_their_own_way() {
        for (model, thinks, own) in [
            ("gpt-5", false, true),
            ("gpt-5-mini-2025-08-07", true, true),
            ("gpt-5-chat-latest", false, false),
            ("gpt-5.1", false, false),
            ("gpt-5.1", true, true),
            ("gpt-5.1-codex", false, true),
            ("o4-mini", false, true),
            ("gpt-4o", false, false),
            ("o3d-model", false, false),
        ] {
            assert_eq!(has_its_sampling(model, thinks), own, "{model} {thinks}");
        }
        let mut body =
            json!({"model": "m", "temperature": 0.2, "top_p": 1.0, "stop": "X", "logprobs": false});
        let (object, mut lost) = (body.as_object_mut().unwrap(), Vec::new());
        leave_sampling(object, &mut lost);
        let lost: Vec<String> = lost.iter().map(|loss| loss.path.to_string()).collect();
        assert_eq!(
            (&body, &*lost),
            (&json!({"model": "m"}), &["temperature".to_owned(), "stop".to_owned()][..])
        );
    }
}
