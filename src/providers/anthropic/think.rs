//! How much Claude shall think, in the words that its version takes.

use serde_json::{Value, json};

use super::message;
use super::model::{Claude, Thinking, Unasked, default_max_tokens, most_tokens};
use crate::chat::{Loss, Reasoning, Request, Thinks};
use crate::providers::choice;
use crate::providers::foreign::lose_effort;

/// What thinking does to the request.
#[derive(Debug, Default, PartialEq)]
pub(in crate::providers) struct Thought {
    /// `thinking`.
    pub(in crate::providers) thinking: Option<Value>,
    /// `effort` of the output's configuration.
    pub(in crate::providers) effort: Option<String>,
    /// The limit of output that thinking demands, where the client gave none.
    pub(in crate::providers) limit: Option<u64>,
}

/// Fewest tokens that a model may be told to think: <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>
const LEAST_BUDGET: u64 = 1_024;

/// Tokens for the answer itself: thoughts count towards the limit of output, too.
const ANSWER: u64 = 16_384;

/// How the model is told to think.
pub(in crate::providers) fn thought(asked: &Request, model: &str, lost: &mut Vec<Loss>) -> Thought {
    let Some(reasoning) = &asked.reasoning else { return Thought::default() };
    let (path, claude) = (path(reasoning), Claude::of(model));
    if reasoning.shuns() {
        return rest(reasoning, claude, path, lost);
    }
    if reasoning.effort.is_none() && reasoning.budget_tokens.is_none() {
        return free(reasoning, claude, path, lost);
    }
    let Some(budget) = budget(reasoning) else {
        lost.push(Loss::dropped(path));
        return Thought::default();
    };
    if let (Thinks::Unsaid, Some(claude)) = (reasoning.thinks, claude.filter(|claude| claude.knows_effort()))
    {
        let effort = level(reasoning, claude, lost).map(str::to_owned);
        return Thought { effort, ..Thought::default() };
    }
    match claude.map(|claude| (claude, claude.thinking())) {
        Some((_, Thinking::Never)) => {
            lost.push(Loss::new(path, "dropped: this model does not think"));
            Thought::default()
        }
        Some((claude, Thinking::Adaptive { takes_budget }))
            if !takes_budget || reasoning.budget_tokens.is_none() =>
        {
            adaptive(asked, reasoning, budget, claude, model, lost)
        }
        _ => {
            lose_effort(reasoning, lost);
            budgeted(asked, budget, reasoning.budget_tokens.is_some(), path, model, lost)
        }
    }
}

/// Where the client said it.
pub(in crate::providers) fn path(reasoning: &Reasoning) -> &'static str {
    if reasoning.effort.is_some() { "reasoning_effort" } else { "reasoning" }
}

/// The tokens that an effort stands for; `None` for a word that says nothing.
pub(in crate::providers) fn budget(reasoning: &Reasoning) -> Option<u64> {
    if reasoning.shuns() {
        return Some(0);
    }
    reasoning.budget_tokens.or_else(|| match reasoning.effort.as_deref()? {
        "minimal" | "low" => Some(1_024),
        "medium" => Some(4_096),
        "high" => Some(16_384),
        "xhigh" | "max" => Some(31_999),
        _ => None,
    })
}

/// It shall not think. The effort that then is the whole answer's may be `high` at most.
fn rest(reasoning: &Reasoning, claude: Option<Claude>, path: &'static str, lost: &mut Vec<Loss>) -> Thought {
    let told = |kind: &str| Some(json!({ "type": kind }));
    // Other vendors of the dialect know its word, and several think unasked.
    let Some(claude) = claude else { return Thought { thinking: told("disabled"), ..Thought::default() } };
    let thinking = match claude.unasked() {
        Unasked::Rests => None,
        Unasked::Thinks => told("disabled"),
        Unasked::TakesNotes => told("between_tools"),
        Unasked::AlwaysThinks => {
            lost.push(Loss::new(path, "became low: this model always thinks"));
            return Thought { effort: Some("low".to_owned()), ..Thought::default() };
        }
    };
    let effort = match reasoning.effort.as_deref().filter(|_| reasoning.thinks == Thinks::Not) {
        Some(_) if !claude.knows_effort() => {
            lost.push(Loss::new(path, "dropped: this model knows no effort"));
            None
        }
        Some("xhigh" | "max") if thinking.is_some() => {
            lost.push(Loss::new(path, "lowered to high"));
            Some("high")
        }
        Some(_) => level(reasoning, claude, lost),
        None => None,
    };
    Thought { thinking, effort: effort.map(str::to_owned), limit: None }
}

/// Nothing is said of how much.
fn free(reasoning: &Reasoning, claude: Option<Claude>, path: &'static str, lost: &mut Vec<Loss>) -> Thought {
    let Some(claude) = claude.filter(|_| reasoning.thinks == Thinks::Freely) else {
        return Thought::default();
    };
    if !matches!(claude.thinking(), Thinking::Adaptive { .. }) {
        lost.push(Loss::new(path, "dropped: this model does not think as much as it likes"));
        return Thought::default();
    }
    Thought { thinking: Some(freely(claude)), ..Thought::default() }
}

/// As much as it likes, and to be read.
fn freely(claude: Claude) -> Value {
    let mut thinking = json!({ "type": "adaptive" });
    if claude.hides_thoughts() {
        thinking["display"] = "summarized".into();
    }
    thinking
}

/// The effort in a word that this version knows.
fn level<'r>(reasoning: &'r Reasoning, claude: Claude, lost: &mut Vec<Loss>) -> Option<&'r str> {
    match reasoning.effort.as_deref()? {
        "minimal" => Some("low"),
        "xhigh" if !claude.knows_xhigh() => {
            lost.push(Loss::new(path(reasoning), "lowered to high"));
            Some("high")
        }
        effort => Some(effort),
    }
}

/// As much as it likes, within an effort. This goes together with forced tools, and with turns that another provider
/// began: <https://platform.claude.com/docs/en/build-with-claude/thinking-tool-workflows>
fn adaptive(
    asked: &Request,
    reasoning: &Reasoning,
    budget: u64,
    claude: Claude,
    model: &str,
    lost: &mut Vec<Loss>,
) -> Thought {
    if reasoning.effort.is_none() {
        lost.push(Loss::new(path(reasoning), "the budget became adaptive thinking"));
    }
    let effort = level(reasoning, claude, lost);
    if effort.is_some() && reasoning.budget_tokens.is_some() {
        lost.push(Loss::new("reasoning.budget_tokens", "the effort counts"));
    }
    let limit = asked.max_output_tokens.is_none().then(|| room(budget, model));
    Thought { thinking: Some(freely(claude)), effort: effort.map(str::to_owned), limit }
}

/// A budget of tokens, of which some are left for the answer. One that the client counted out itself may take all but one.
fn budgeted(
    asked: &Request,
    budget: u64,
    is_counted: bool,
    path: &'static str,
    model: &str,
    lost: &mut Vec<Loss>,
) -> Thought {
    let limit = asked.max_output_tokens.unwrap_or_else(|| room(budget, model));
    if choice::forces(asked) {
        lost.push(Loss::new(path, "no thinking while a tool is forced"));
        return Thought::default();
    }
    if limit <= LEAST_BUDGET {
        lost.push(Loss::new(path, "the output limit leaves no room for thinking"));
        return Thought::default();
    }
    if message::is_unproven_loop(&asked.messages) {
        lost.push(Loss::new(path, "no thinking until the tool calls of another provider are through"));
        return Thought::default();
    }
    let most = if is_counted { limit - 1 } else { limit / 5 * 4 };
    if budget > most.max(LEAST_BUDGET) {
        lost.push(Loss::new(path, "lowered: the answer needs some of the output limit"));
    }
    let budget = budget.min(most).max(LEAST_BUDGET);
    let thinking = json!({ "type": "enabled", "budget_tokens": budget });
    Thought {
        thinking: Some(thinking),
        effort: None,
        limit: asked.max_output_tokens.is_none().then_some(limit),
    }
}

/// A limit of output with room for these thoughts and an answer.
fn room(budget: u64, model: &str) -> u64 {
    default_max_tokens(model).max(budget.saturating_add(ANSWER).min(most_tokens(model)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::ToolChoice;
    use crate::chat::{Message, Object, Part, Role, ToolKind};

    fn asks(effort: Option<&str>, budget_tokens: Option<u64>, limit: Option<u64>) -> Request {
        let reasoning = Reasoning { effort: effort.map(Into::into), budget_tokens, ..Reasoning::default() };
        Request { reasoning: Some(reasoning), max_output_tokens: limit, ..Request::default() }
    }

    fn of(model: &str, asked: &Request) -> (Value, Option<String>, Option<u64>, Vec<String>) {
        let mut lost = Vec::new();
        let thought = thought(asked, model, &mut lost);
        let lost = lost.iter().map(ToString::to_string).collect();
        (thought.thinking.unwrap_or_default(), thought.effort, thought.limit, lost)
    }

    #[test]
    fn every_version_is_told_in_its_words() {
        let enabled = |tokens: u64| json!({"type": "enabled", "budget_tokens": tokens});
        let adaptive = || json!({"type": "adaptive"});
        let shown = || json!({"type": "adaptive", "display": "summarized"});
        let none = || Value::Null;
        for (model, effort, budget, thinking, level, losses) in [
            ("claude-3-5-haiku-latest", Some("high"), None, none(), None, 1),
            ("claude-3-5-haiku-latest", Some("none"), None, none(), None, 0),
            ("claude-sonnet-4-5", Some("high"), None, enabled(16_384), None, 0),
            ("claude-sonnet-4-5", Some("none"), None, none(), None, 0),
            ("claude-sonnet-4-5", Some("high"), Some(2_000), enabled(2_000), None, 1),
            ("claude-sonnet-4-5", None, Some(5), enabled(1_024), None, 0),
            ("kimi-k2", Some("low"), None, enabled(1_024), None, 0),
            ("claude-opus-4-6", Some("xhigh"), None, adaptive(), Some("high"), 1),
            ("claude-opus-4-6", Some("max"), None, adaptive(), Some("max"), 0),
            ("claude-opus-4-6", None, Some(2_000), enabled(2_000), None, 0),
            ("claude-opus-4-7", Some("minimal"), None, shown(), Some("low"), 0),
            ("claude-opus-4-7", Some("high"), Some(2_000), shown(), Some("high"), 1),
            ("claude-opus-4-7", None, Some(2_000), shown(), None, 1),
            ("claude-opus-4-7", Some("none"), None, none(), None, 0),
            ("claude-opus-4-7", Some("odd"), None, none(), None, 1),
            ("claude-sonnet-5", Some("xhigh"), None, shown(), Some("xhigh"), 0),
            ("claude-sonnet-5", Some("none"), None, json!({"type": "disabled"}), None, 0),
            ("claude-opus-5-5", Some("none"), None, none(), Some("low"), 1),
            ("claude-sonnet-5-5", Some("none"), None, json!({"type": "between_tools"}), None, 0),
            ("claude-haiku-5-5", Some("none"), None, json!({"type": "disabled"}), None, 0),
            ("kimi-k2", Some("none"), None, json!({"type": "disabled"}), None, 0),
        ] {
            let (seen, seen_level, _, lost) = of(model, &asks(effort, budget, None));
            let seen = (seen, seen_level.as_deref(), lost.len());
            assert_eq!(seen, (thinking, level, losses), "{model} {effort:?} {budget:?}: {lost:?}");
        }
    }

    #[test]
    fn what_anthropics_clients_say_of_thinking_is_said_again() {
        use Thinks::{Freely, Not, Unsaid};
        let disabled = || json!({"type": "disabled"});
        let shown = || json!({"type": "adaptive", "display": "summarized"});
        let none = || Value::Null;
        for (model, thinks, effort, thinking, level, losses) in [
            ("claude-opus-4-6", Freely, None, json!({"type": "adaptive"}), None, 0),
            ("claude-opus-4-7", Freely, None, shown(), None, 0),
            ("claude-opus-4-7", Freely, Some("high"), shown(), Some("high"), 0),
            ("claude-sonnet-4-5", Freely, None, none(), None, 1),
            ("kimi-k2", Freely, None, none(), None, 0),
            ("claude-opus-4-5", Unsaid, Some("low"), none(), Some("low"), 0),
            ("claude-opus-4-6", Unsaid, Some("xhigh"), none(), Some("high"), 1),
            ("claude-opus-4-7", Unsaid, Some("max"), none(), Some("max"), 0),
            ("claude-opus-4-7", Not, None, none(), None, 0),
            ("claude-opus-4-7", Not, Some("max"), none(), Some("max"), 0),
            ("claude-sonnet-5", Not, Some("low"), disabled(), Some("low"), 0),
            ("claude-sonnet-5-5", Not, Some("max"), json!({"type": "between_tools"}), Some("high"), 1),
            ("claude-haiku-5-5", Not, Some("high"), disabled(), Some("high"), 0),
            ("claude-opus-5-5", Not, Some("high"), none(), Some("low"), 1),
            ("claude-sonnet-4-5", Not, Some("high"), none(), None, 1),
            ("kimi-k2", Not, None, disabled(), None, 0),
        ] {
            let mut asked = asks(effort, None, Some(9_000));
            asked.reasoning.as_mut().unwrap().thinks = thinks;
            let (seen, seen_level, _, lost) = of(model, &asked);
            let seen = (seen, seen_level.as_deref(), lost.len());
            assert_eq!(seen, (thinking, level, losses), "{model} {thinks:?} {effort:?}: {lost:?}");
        }
    }

    #[test]
    fn a_budget_leaves_room_for_an_answer() {
        for (model, effort, budget, limit, tokens, raised, losses) in [
            ("claude-sonnet-4-5", Some("high"), None, Some(2_000), 1_600, None, 1),
            ("claude-sonnet-4-5", Some("high"), None, Some(20_480), 16_384, None, 0),
            ("claude-sonnet-4-5", Some("high"), None, Some(1_100), 1_024, None, 1),
            ("claude-sonnet-4-5", Some("low"), None, Some(1_100), 1_024, None, 0),
            ("claude-sonnet-4-5", Some("xhigh"), None, None, 31_999, Some(48_383), 0),
            ("claude-sonnet-4-5", Some("low"), None, None, 1_024, Some(32_000), 0),
            ("claude-opus-4-1", Some("max"), None, None, 25_600, Some(32_000), 1),
            ("claude-sonnet-4-5", None, Some(9_000), Some(10_000), 9_000, None, 0),
            ("claude-sonnet-4-5", None, Some(9_000), Some(9_000), 8_999, None, 1),
            ("kimi-k2", Some("high"), None, None, 16_384, Some(32_000), 0),
        ] {
            let (thinking, _, seen, lost) = of(model, &asks(effort, budget, limit));
            assert_eq!(thinking["budget_tokens"], tokens, "{model} {effort:?} {limit:?}");
            assert_eq!((seen, lost.len()), (raised, losses), "{model} {effort:?} {limit:?}: {lost:?}");
        }
        let (thinking, .., lost) = of("claude-sonnet-4-5", &asks(Some("high"), None, Some(500)));
        assert_eq!(thinking, Value::Null);
        assert_eq!(lost, ["reasoning_effort (the output limit leaves no room for thinking)"]);
    }

    #[test]
    fn only_budgets_shun_forced_tools_and_turns_of_others() {
        let call = Part::ToolCall {
            id: "c".into(),
            name: "f".into(),
            arguments: "{}".into(),
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        };
        let result = Part::ToolResult { id: "c".into(), content: Vec::new(), is_error: false, cache: None };
        let message = |role, part| Message { role, content: vec![part], name: None, rest: Object::new() };
        let forced =
            Request { tool_choice: Some(ToolChoice::Required), ..asks(Some("high"), None, Some(30_000)) };
        let unproven = Request {
            messages: vec![message(Role::Assistant, call), message(Role::Tool, result)],
            ..asks(Some("high"), None, Some(30_000))
        };
        for asked in [forced, unproven] {
            let (thinking, .., lost) = of("claude-sonnet-4-5", &asked);
            assert_eq!((thinking, lost.len()), (Value::Null, 1), "{lost:?}");
            let (thinking, .., lost) = of("claude-opus-4-6", &asked);
            assert_eq!((thinking, lost.len()), (json!({"type": "adaptive"}), 0), "{lost:?}");
        }
    }
}
