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
    super::encode::put(body, "reasoning_effort", effort_for(reasoning, model, quirks, lost));
    if !reasoning.rest.is_empty() && !never_thinks(model) {
        body.insert("reasoning".into(), Value::Object(reasoning.rest.clone()));
    }
}

/// The effort for this model, in a word that it takes; nothing where none is needed, or none would do.
pub(in crate::providers) fn effort_for(
    reasoning: &Reasoning,
    model: &str,
    quirks: &QuirkSettings,
    lost: &mut Vec<Loss>,
) -> Option<String> {
    if reasoning.is_unsaid() {
        return None;
    }
    if never_thinks(model) {
        if !reasoning.shuns() {
            lost.push(Loss::new("reasoning_effort", "dropped: this model does not think"));
        }
        return None;
    }
    if reasoning.effort.is_some() && reasoning.budget_tokens.is_some() {
        lost.push(Loss::new("reasoning.budget_tokens", "the effort counts"));
    }
    let least = quiet_word(model, quirks);
    if reasoning.shuns() {
        // The client's own word goes to models that nothing is known of; others' would be refused by most.
        let said = reasoning.effort.as_deref() == Some("none") && !is_openais(model);
        let word = least.or(said.then_some("none"))?;
        if word != "none" {
            lost.push(Loss::new("reasoning_effort", format!("became {word}: this model always thinks")));
        }
        return Some(word.to_owned());
    }
    let effort = effort(reasoning)?;
    let word = match (&*effort, least) {
        // Between nothing and `low`, only the first of GPT-5 knows a step.
        ("minimal", Some(least)) if least != "minimal" && is_openais(model) => {
            if least == "none" {
                "low"
            } else {
                least
            }
        }
        ("xhigh" | "max", _) => highest_word(&effort, model, quirks),
        _ => return Some(effort),
    };
    if word != effort {
        lost.push(Loss::new("reasoning_effort", format!("became {word}: this model does not know it")));
    }
    Some(word.to_owned())
}

/// The word for one of the two highest efforts: the word itself, or the highest below it that the model knows.
/// <https://platform.openai.com/docs/guides/reasoning>
fn highest_word<'a>(effort: &'a str, model: &str, quirks: &QuirkSettings) -> &'a str {
    // Whoever says what a model knows is heard when the body is written.
    if quirks.efforts_of(model).is_some() {
        return effort;
    }
    if !is_openais(model) {
        // `xhigh` is an older word, which others have taken over; `max` would be refused by most.
        return if effort == "max" { "high" } else { effort };
    }
    match version(model) {
        _ if model.contains("-chat") => "high",
        Some((5, 6..) | (6.., _)) => effort,
        Some((5, 2..)) => "xhigh",
        Some((5, 1)) if model.contains("codex-max") => "xhigh",
        _ => "high",
    }
}

/// The generation of a GPT that thinks: 5 and 2 of `gpt-5.2-codex`, 6 and 0 of `gpt-6-sol`.
fn version(model: &str) -> Option<(u32, u32)> {
    let number = model.strip_prefix("gpt-")?.split('-').next()?;
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    let version = (major.parse().ok()?, minor.parse().ok()?);
    // `gpt-35-turbo` is Azure's word for 3.5.
    (5..=9).contains(&version.0).then_some(version)
}

/// Whether a model of GPT-6 need not think. <https://developers.openai.com/api/docs/guides/latest-model>
fn may_rest_in_six(model: &str) -> bool {
    ["gpt-6-sol", "gpt-6-luna"]
        .iter()
        .any(|name| model.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

/// Whether this model, thinking as `effort` says (or as it does unasked), calls tools only in Responses: chat completions
/// with both are refused ("Function tools with reasoning_effort are not supported").
pub(super) fn calls_elsewhere(reasoning: Option<&Reasoning>, model: &str, quirks: &QuirkSettings) -> bool {
    let Some(version) = version(model).filter(|version| *version >= (5, 4)) else { return false };
    let effort = reasoning.and_then(|reasoning| effort_for(reasoning, model, quirks, &mut Vec::new()));
    match effort {
        _ if model.contains("-chat") => false,
        Some(word) => word != "none",
        // What they do unasked is held against them from GPT-5.6 on.
        None => version >= (5, 6),
    }
}

/// The word by which a model thinks least; `None` for those that take none, or of which nothing is known.
/// <https://platform.openai.com/docs/guides/reasoning>
fn quiet_word(model: &str, quirks: &QuirkSettings) -> Option<&'static str> {
    if is_of_o_series(model) {
        return Some(if model.contains("deep-research") { "medium" } else { "low" });
    }
    let Some((major, minor)) = version(model) else {
        return (quirks.thinking_switch || quirks.efforts_of(model).is_some()).then_some("none");
    };
    Some(match model {
        _ if model.contains("-chat") => return None,
        _ if major > 5 => return Some(if may_rest_in_six(model) { "none" } else { "low" }),
        _ if model.starts_with("gpt-5-pro") => "high",
        _ if model.contains("pro") => "medium",
        _ if model.contains("codex") => "low",
        _ if minor > 0 => "none",
        _ => "minimal",
    })
}

/// Models of OpenAI's that think, whoever serves them under their own names.
fn is_openais(model: &str) -> bool {
    is_of_o_series(model) || version(model).is_some()
}

/// OpenAI's o series, by its names, and what was made of it.
pub(super) fn is_of_o_series(model: &str) -> bool {
    ["o1", "o3", "o4", "codex-mini"]
        .iter()
        .any(|name| model.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

/// Whether OpenAI's model refuses to be told how to draw its tokens: those that think always do, those that need not
/// (GPT-5.1 and later, two of GPT-6) while they think. Without an effort, those up to GPT-5.4 do not.
/// <https://platform.openai.com/docs/guides/latest-model>
pub(in crate::providers) fn has_its_sampling(model: &str, effort: Option<&str>) -> bool {
    if is_of_o_series(model) {
        return true;
    }
    let Some(version) = version(model) else { return false };
    let may_rest = match version {
        (5, 1..) => !model.contains("pro") && !model.contains("codex"),
        _ => may_rest_in_six(model),
    };
    let rests = match effort {
        Some(word) => word == "none",
        None => version <= (5, 4),
    };
    !(model.contains("chat") || may_rest && rests)
}

/// How tokens are drawn where nobody says so.
const USUAL: [(&str, f64); 4] =
    [("temperature", 1.0), ("top_p", 1.0), ("presence_penalty", 0.0), ("frequency_penalty", 0.0)];

/// Whether a field says what holds without it, too.
pub(super) fn says_usual(field: &str, value: &Value) -> bool {
    USUAL.iter().any(|(known, usual)| *known == field && value.as_f64() == Some(*usual))
}

/// Takes out what such a model refuses, unless it says what holds anyway.
pub(in crate::providers) fn leave_sampling(body: &mut Object, lost: &mut Vec<Loss>) {
    for (field, _) in USUAL {
        if let Some(value) = body.shift_remove(field)
            && !says_usual(field, &value)
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
fn effort(reasoning: &Reasoning) -> Option<String> {
    reasoning.effort.clone().or_else(|| {
        Some(String::from(match reasoning.budget_tokens? {
            ..=2_048 => "low",
            2_049..=8_192 => "medium",
            _ => "high",
        }))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::Thinks;

    #[test]
    fn efforts_are_those_that_the_model_knows() {
        let said = |model: &str, wish: &Reasoning, quirks: &QuirkSettings| {
            let (mut body, mut lost) = (Object::new(), Vec::new());
            think(wish, model, quirks, &mut body, &mut lost);
            (Value::Object(body), lost.len())
        };
        let none = QuirkSettings::default();
        for (model, asked, expected, losses) in [
            ("gpt-4.1", "none", json!({}), 0),
            ("gpt-4.1", "low", json!({}), 1),
            ("gpt-5", "none", json!({"reasoning_effort": "minimal"}), 1),
            ("gpt-5-mini", "high", json!({"reasoning_effort": "high"}), 0),
            ("gpt-5-mini", "minimal", json!({"reasoning_effort": "minimal"}), 0),
            ("gpt-5.1", "none", json!({"reasoning_effort": "none"}), 0),
            ("gpt-5.1", "minimal", json!({"reasoning_effort": "low"}), 1),
            ("gpt-5.1-codex", "minimal", json!({"reasoning_effort": "low"}), 1),
            ("o3-mini", "none", json!({"reasoning_effort": "low"}), 1),
            ("llama-3.3-70b", "high", json!({"reasoning_effort": "high"}), 0),
            ("llama-3.3-70b", "minimal", json!({"reasoning_effort": "minimal"}), 0),
            // The client's own word, which this vendor may know.
            ("qwen/qwen3-32b", "none", json!({"reasoning_effort": "none"}), 0),
            // The highest: measured at OpenAI's models on 2026-07-10.
            ("gpt-5.6-sol", "max", json!({"reasoning_effort": "max"}), 0),
            ("gpt-5.10", "xhigh", json!({"reasoning_effort": "xhigh"}), 0),
            ("gpt-5.5", "max", json!({"reasoning_effort": "xhigh"}), 1),
            ("gpt-5.2-codex", "xhigh", json!({"reasoning_effort": "xhigh"}), 0),
            ("gpt-5.1-codex-max", "max", json!({"reasoning_effort": "xhigh"}), 1),
            ("gpt-5.1", "max", json!({"reasoning_effort": "high"}), 1),
            ("gpt-5-pro", "xhigh", json!({"reasoning_effort": "high"}), 1),
            ("o3", "max", json!({"reasoning_effort": "high"}), 1),
            ("gpt-6.1-sol", "max", json!({"reasoning_effort": "max"}), 0),
            ("gpt-6.1-sol", "none", json!({"reasoning_effort": "low"}), 1),
            ("gpt-6-astra", "minimal", json!({"reasoning_effort": "low"}), 1),
            ("gpt-6-luna", "none", json!({"reasoning_effort": "none"}), 0),
            ("llama-3.3-70b", "max", json!({"reasoning_effort": "high"}), 1),
            ("llama-3.3-70b", "xhigh", json!({"reasoning_effort": "xhigh"}), 0),
        ] {
            let wish = Reasoning { effort: Some(asked.into()), ..Reasoning::default() };
            assert_eq!(said(model, &wish, &none), (expected, losses), "{model} {asked}");
        }
        let efforts = [(String::new(), vec!["high".to_owned(), "max".to_owned()])].into();
        let knows = QuirkSettings { efforts, ..QuirkSettings::default() };
        let most = Reasoning { effort: Some("max".into()), ..Reasoning::default() };
        assert_eq!(said("deepseek-pro", &most, &knows), (json!({"reasoning_effort": "max"}), 0));
        let free = Reasoning { thinks: Thinks::Freely, ..Reasoning::default() };
        assert_eq!(said("gpt-4.1", &free, &none), (json!({}), 0));
        let rest = Object::from_iter([("exclude".to_owned(), true.into())]);
        let kept = Reasoning { effort: Some("none".into()), rest, ..Reasoning::default() };
        let expected = json!({"reasoning_effort": "none", "reasoning": {"exclude": true}});
        assert_eq!(said("x-ai/grok", &kept, &none).0, expected);
    }

    #[test]
    fn a_model_that_shall_not_think_is_told_so_in_a_word_that_it_takes() {
        let switch = QuirkSettings { thinking_switch: true, ..QuirkSettings::default() };
        let none = QuirkSettings::default();
        for (model, quirks, expected, losses) in [
            ("gpt-5", &none, Some("minimal"), 1),
            ("gpt-5-nano-2025-08-07", &none, Some("minimal"), 1),
            ("gpt-5-codex", &none, Some("low"), 1),
            ("gpt-5-pro", &none, Some("high"), 1),
            ("gpt-5-chat-latest", &none, None, 0),
            ("gpt-5.1", &none, Some("none"), 0),
            ("gpt-5.1-chat-latest", &none, None, 0),
            ("gpt-5.1-codex", &none, Some("low"), 1),
            ("gpt-5.2-pro", &none, Some("medium"), 1),
            ("gpt-6-sol", &none, Some("none"), 0),
            ("gpt-6-luna-2026-09-22", &none, Some("none"), 0),
            ("gpt-6-astra", &none, Some("low"), 1),
            ("gpt-6.1-terra", &none, Some("low"), 1),
            ("codex-mini-latest", &none, Some("low"), 1),
            ("o3-pro", &none, Some("low"), 1),
            ("o4-mini-deep-research", &none, Some("medium"), 1),
            ("gpt-4o", &none, None, 0),
            ("llama-3.3-70b", &none, None, 0),
            ("deepseek-chat", &switch, Some("none"), 0),
        ] {
            for wish in [
                Reasoning { budget_tokens: Some(0), ..Reasoning::default() },
                Reasoning { thinks: Thinks::Not, ..Reasoning::default() },
                Reasoning { thinks: Thinks::Not, effort: Some("high".into()), ..Reasoning::default() },
            ] {
                let mut lost = Vec::new();
                let word = effort_for(&wish, model, quirks, &mut lost);
                assert_eq!((word.as_deref(), lost.len()), (expected, losses), "{model} {wish:?}");
            }
        }
    }

    #[test]
    fn models_that_think_draw_in_their_own_way() {
        for (model, effort, own) in [
            ("gpt-5", None, true),
            ("gpt-5-mini-2025-08-07", Some("low"), true),
            ("gpt-5-chat-latest", None, false),
            ("gpt-5.1", None, false),
            ("gpt-5.1", Some("low"), true),
            ("gpt-5.4-mini", None, false),
            ("gpt-5.5", None, true),
            ("gpt-5.5-2026-04-23", None, true),
            ("gpt-5.5", Some("none"), false),
            ("gpt-5.1-codex", None, true),
            ("gpt-6-sol", None, true),
            ("gpt-6-sol", Some("none"), false),
            ("gpt-6-solid", Some("none"), true),
            ("gpt-6.1-sol", Some("low"), true),
            ("gpt-6-astra", None, true),
            ("gpt-35-turbo", None, false),
            ("gpt-oss-120b", None, false),
            ("o4-mini", None, true),
            ("codex-mini-latest", None, true),
            ("gpt-4o", None, false),
            ("o3d-model", None, false),
        ] {
            assert_eq!(has_its_sampling(model, effort), own, "{model} {effort:?}");
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

    #[test]
    fn models_that_call_tools_in_responses_alone_while_they_think_are_known() {
        let effort = |word: &str| Reasoning { effort: Some(word.into()), ..Reasoning::default() };
        let none = QuirkSettings::default();
        for (model, wish, expected) in [
            ("gpt-5.2", Some(effort("high")), false),
            ("gpt-5.4", None, false),
            ("gpt-5.4-mini", Some(effort("low")), true),
            ("gpt-5.5", Some(effort("none")), false),
            ("gpt-5.6-luna", None, true),
            ("gpt-5.6", Some(effort("none")), false),
            ("gpt-6-sol", Some(Reasoning { thinks: Thinks::Not, ..Reasoning::default() }), false),
            ("gpt-6.1-sol", Some(Reasoning { thinks: Thinks::Not, ..Reasoning::default() }), true),
            ("gpt-6-astra", Some(Reasoning::default()), true),
            ("gpt-4.1", None, false),
            ("openai/gpt-5.6", None, false),
        ] {
            assert_eq!(calls_elsewhere(wish.as_ref(), model, &none), expected, "{model} {wish:?}");
        }
    }
}
