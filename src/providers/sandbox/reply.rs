//! What the sandbox says: text, JSON, tool calls or a refusal, within the limits of the request.

use serde_json::{Value, json};

use super::ask::{Ask, Format, MOST_CHUNKS, Tool, ToolChoice};
use super::sample::sample;
use super::{Problem, tokens};

const REFUSAL: &str = "I'm sorry, but I can't help with that.";
const SMALL: &str =
    "Hello from sandbox/small. This answer needs no account and no network, and it is always the same.";
const LARGE: &str = "Hello from sandbox/large. This model takes its time and says a little more than the small one: \
    it thinks in paragraphs, weighs one side and then the other, and comes to the conclusion that a gateway is best \
    tried with a provider that never changes its mind.\n\nUse it to see how a longer answer streams, how usage is \
    counted and how a fallback looks. It needs no account and no network, and it is always the same.";

/// The output limit of all models: 1 MiB of text.
const MOST_TOKENS: u64 = 1 << 18;

/// One answer; every choice says the same.
#[derive(Debug)]
pub(super) struct Reply {
    /// Chunks of what the model thought.
    pub(super) reasoning: Vec<String>,
    pub(super) content: Content,
    /// `stop`, `length` or `tool_calls`.
    pub(super) finish: &'static str,
    /// Tokens of one choice, reasoning included.
    pub(super) completion_tokens: u64,
    pub(super) reasoning_tokens: u64,
}

/// What is said.
#[derive(Debug)]
pub(super) enum Content {
    /// In chunks as they stream.
    Text(Vec<String>),
    Refusal(Vec<String>),
    Calls(Vec<Call>),
}

/// A tool call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    /// JSON text, or free text for custom tools.
    pub(super) arguments: String,
    pub(super) custom: bool,
}

/// The answer to a request.
pub(super) fn compose(ask: &Ask) -> Result<Reply, Problem> {
    let mut left = ask.limit.unwrap_or(MOST_TOKENS).min(MOST_TOKENS);
    let (thought, _) = within(thoughts(ask), left);
    let reasoning_tokens = tokens(thought.len() as u64);
    left = left.saturating_sub(reasoning_tokens);
    let reasoning = words(&thought);

    let calls = calls(ask)?;
    if !calls.is_empty() && !ask.orders.refuse {
        let spent: u64 =
            calls.iter().map(|call| tokens((call.name.len() + call.arguments.len()) as u64)).sum();
        let finish = "tool_calls";
        let completion_tokens = reasoning_tokens + spent;
        return Ok(Reply {
            reasoning,
            content: Content::Calls(calls),
            finish,
            completion_tokens,
            reasoning_tokens,
        });
    }
    let said = if ask.orders.refuse { REFUSAL.to_owned() } else { before_stop(text(ask), &ask.stop) };
    let (said, cut) = within(said, left);
    let completion_tokens = reasoning_tokens + tokens(said.len() as u64);
    let chunks = words(&said);
    let content = if ask.orders.refuse { Content::Refusal(chunks) } else { Content::Text(chunks) };
    let finish = if cut { "length" } else { "stop" };
    Ok(Reply { reasoning, content, finish, completion_tokens, reasoning_tokens })
}

fn text(ask: &Ask) -> String {
    let text = match (&ask.format, &ask.tool_result) {
        (Format::Schema(schema), _) => return sample(schema, "answer").to_string(),
        (Format::Json, _) => return json!({ "model": ask.model, "answer": ask.user }).to_string(),
        (Format::Text, Some(result)) => format!("The tool said: {result}"),
        (Format::Text, None) => match ask.model.as_str() {
            "small" => SMALL.to_owned(),
            "large" => LARGE.to_owned(),
            _ if ask.user.is_empty() => "(there was nothing to repeat)".to_owned(),
            _ => ask.user.clone(),
        },
    };
    match ask.orders.chunks {
        Some(chunks) => repeated(&text, chunks),
        None => text,
    }
}

/// The text's words over and over, so that they are `chunks` of them.
fn repeated(text: &str, chunks: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let spoken: Vec<&str> = words.iter().copied().cycle().take(chunks).collect();
    spoken.join(" ")
}

fn thoughts(ask: &Ask) -> String {
    let rounds = match ask.effort.as_deref() {
        None => return String::new(),
        Some("minimal" | "low") => 1,
        Some("high" | "xhigh" | "max") => 4,
        Some(_) => 2,
    };
    let topic: Vec<&str> = ask.user.split_whitespace().take(12).collect();
    let round = |n: usize| format!("Step {n}: I consider \"{}\".", topic.join(" "));
    (1..=rounds).map(round).collect::<Vec<_>>().join(" ")
}

/// Which tools are called: those that must be, those that the user names (`call search`).
fn calls(ask: &Ask) -> Result<Vec<Call>, Problem> {
    let named = |tool: &&Tool| mention(&ask.user, &tool.name).is_some();
    let mut called: Vec<&Tool> = match &ask.choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Named(name) => {
            let found = ask.tools.iter().find(|tool| tool.name == *name);
            vec![found.ok_or_else(|| Problem::bad("tool_choice", format!("there is no tool named {name}")))?]
        }
        // A model that has its answers does not ask again, or an agent would never come to an end.
        ToolChoice::Auto if ask.tool_result.is_some() => Vec::new(),
        ToolChoice::Auto => ask.tools.iter().filter(named).collect(),
        ToolChoice::Required if ask.tools.is_empty() => {
            return Err(Problem::bad("tool_choice", "tool_choice is required, but there are no tools"));
        }
        ToolChoice::Required => {
            let asked: Vec<_> = ask.tools.iter().filter(named).collect();
            if asked.is_empty() { ask.tools.iter().take(1).collect() } else { asked }
        }
    };
    called.sort_by_key(|tool| mention(&ask.user, &tool.name));
    if !ask.parallel {
        called.truncate(1);
    }
    Ok(called.into_iter().map(|tool| call(tool, ask)).collect())
}

fn call(tool: &Tool, ask: &Ask) -> Call {
    let arguments = match &tool.parameters {
        None => within(ask.user.clone(), MOST_TOKENS).0,
        Some(Value::Null) => "{}".to_owned(),
        Some(schema) => match sample(schema, &tool.name) {
            Value::Object(arguments) => Value::Object(arguments).to_string(),
            _ => "{}".to_owned(),
        },
    };
    Call { name: tool.name.clone(), arguments, custom: tool.parameters.is_none() }
}

/// Where a text says `call <tool>` (or `and <tool>` after it), as a whole word.
fn mention(text: &str, tool: &str) -> Option<usize> {
    let first = text.find("call ")?;
    let whole = |at: usize| {
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let before = text[..at].chars().next_back();
        let after = text[at + tool.len()..].chars().next();
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    };
    text.match_indices(tool).map(|(at, _)| at).find(|at| *at > first && whole(*at))
}

fn before_stop(mut text: String, stops: &[String]) -> String {
    if let Some(at) =
        stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min()
    {
        text.truncate(at);
    }
    text
}

/// The text as far as `limit` tokens go, and whether something was cut off.
fn within(mut text: String, limit: u64) -> (String, bool) {
    let bytes = usize::try_from(limit.saturating_mul(4)).unwrap_or(usize::MAX);
    if text.len() <= bytes {
        return (text, false);
    }
    text.truncate(text.floor_char_boundary(bytes));
    (text, true)
}

/// Words with the space behind them; very long texts in longer pieces, so that there are not too many.
fn words(text: &str) -> Vec<String> {
    let least = text.len() / MOST_CHUNKS;
    let mut chunks: Vec<String> = Vec::new();
    for word in text.split_inclusive(char::is_whitespace) {
        match chunks.last_mut() {
            Some(last) if last.len() < least => last.push_str(word),
            _ => chunks.push(word.to_owned()),
        }
    }
    chunks
}
