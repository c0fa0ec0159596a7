//! What a request asks of the sandbox: the fields that matter, and orders in double brackets.

use std::time::Duration;

use serde_json::Value;

use super::Problem;

/// Most choices of one answer.
const MOST_CHOICES: u64 = 16;
/// Most chunks of one stream.
pub(super) const MOST_CHUNKS: usize = 10_000;
/// Longest delay.
const LONGEST: Duration = Duration::from_secs(600);

/// A chat request as the sandbox understands it.
#[derive(Debug, Default)]
pub(super) struct Ask {
    /// Without orders.
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// Number of choices.
    pub(super) n: usize,
    /// Most tokens of the answer, reasoning included.
    pub(super) limit: Option<u64>,
    pub(super) stop: Vec<String>,
    pub(super) tools: Vec<Tool>,
    pub(super) choice: ToolChoice,
    pub(super) parallel: bool,
    pub(super) format: Format,
    /// Alternatives per token; `None` when no log probabilities are wanted.
    pub(super) logprobs: Option<usize>,
    /// `low`, `medium`, `high` …; `None` when nothing is to be thought.
    pub(super) effort: Option<String>,
    /// The last user message, without orders.
    pub(super) user: String,
    /// Answers of tools that stand at the end of the conversation.
    pub(super) tool_result: Option<String>,
    /// Bytes of text in all messages.
    pub(super) prompt_bytes: u64,
    pub(super) orders: Orders,
}

/// A tool on offer.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) name: String,
    /// JSON Schema of the arguments; `None` for custom tools, which take free text.
    pub(super) parameters: Option<Value>,
}

/// Which tools must be called.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum ToolChoice {
    #[default]
    Auto,
    None,
    Required,
    Named(String),
}

/// The form of the answer.
#[derive(Debug, Default)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
    Schema(Value),
}

/// `[[name value]]` in the model's name or in the last user message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    /// Before the answer's head.
    pub(super) first_byte: Duration,
    /// Before the first content.
    pub(super) delay: Duration,
    /// Between chunks.
    pub(super) chunk_delay: Duration,
    pub(super) error: Option<u16>,
    pub(super) retry_after: Option<Duration>,
    /// Break off after so many chunks of content.
    pub(super) cut: Option<usize>,
    /// Exactly so many chunks of content.
    pub(super) chunks: Option<usize>,
    pub(super) refuse: bool,
}

impl Ask {
    pub(super) fn read(body: &Value) -> Result<Self, Problem> {
        let mut orders = Orders::default();
        let model =
            orders.take(text_field(body, "model").ok_or_else(|| Problem::bad("model", "model is missing"))?);
        let messages = body["messages"].as_array().filter(|messages| !messages.is_empty());
        let messages =
            messages.ok_or_else(|| Problem::bad("messages", "messages must be a list with an element"))?;
        let last_user = messages.iter().rev().find(|message| message["role"] == "user");
        let user = orders.take(&last_user.map(|message| text(&message["content"])).unwrap_or_default());
        let n = body["n"].as_u64().unwrap_or(1);
        if !(1..=MOST_CHOICES).contains(&n) {
            return Err(Problem::bad("n", format!("n must be from 1 to {MOST_CHOICES}")));
        }
        let limit = body["max_completion_tokens"].as_u64().or_else(|| body["max_tokens"].as_u64());
        if limit == Some(0) {
            return Err(Problem::bad("max_tokens", "the limit of tokens must be at least 1"));
        }
        let effort = text_field(body, "reasoning_effort").filter(|effort| *effort != "none");
        Ok(Self {
            model,
            stream: body["stream"] == true,
            include_usage: body["stream_options"]["include_usage"] == true,
            n: usize::try_from(n).unwrap_or(1),
            limit,
            stop: stops(&body["stop"]),
            tools: tools(&body["tools"]),
            choice: choice(&body["tool_choice"]),
            parallel: body["parallel_tool_calls"] != false,
            format: format(&body["response_format"]),
            logprobs: (body["logprobs"] == true).then(|| small(&body["top_logprobs"])),
            effort: effort.map(str::to_owned),
            user,
            tool_result: tool_result(messages),
            prompt_bytes: messages.iter().map(|message| text(&message["content"]).len() as u64).sum(),
            orders,
        })
    }
}

impl Orders {
    /// Reads the orders in a text; gives the text without them. What is not an order stays.
    pub(super) fn take(&mut self, text: &str) -> String {
        let mut rest = String::with_capacity(text.len());
        let mut ahead = text;
        while let Some((before, after)) = ahead.split_once("[[") {
            rest.push_str(before);
            match after.split_once("]]") {
                Some((order, behind)) if self.obey(order.trim()) => {
                    ahead = if rest.is_empty() || rest.ends_with(' ') { behind.trim_start() } else { behind };
                }
                _ => {
                    rest.push_str("[[");
                    ahead = after;
                }
            }
        }
        rest.push_str(ahead);
        rest.trim_end().to_owned()
    }

    fn obey(&mut self, order: &str) -> bool {
        let (name, value) = order.split_once(' ').unwrap_or((order, ""));
        let time = || humantime::parse_duration(value.trim()).ok().map(|time| time.min(LONGEST));
        let number = || value.trim().parse::<usize>().ok().map(|number| number.min(MOST_CHUNKS));
        match name {
            "first-byte" => time().map(|time| self.first_byte = time),
            "delay" => time().map(|time| self.delay = time),
            "chunk-delay" => time().map(|time| self.chunk_delay = time),
            "retry-after" => time().map(|time| self.retry_after = Some(time)),
            "cut" => number().map(|number| self.cut = Some(number)),
            "chunks" => number().map(|number| self.chunks = Some(number)),
            "error" => {
                let status = value.trim().parse().ok().filter(|status| (400..600).contains(status));
                status.map(|status| self.error = Some(status))
            }
            "refuse" if value.is_empty() => {
                self.refuse = true;
                Some(())
            }
            _ => None,
        }
        .is_some()
    }
}

/// The text of a message's content, be it a string or parts.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn text_field<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    body[name].as_str().filter(|text| !text.is_empty())
}

fn tool_result(messages: &[Value]) -> Option<String> {
    let results: Vec<_> = messages.iter().rev().take_while(|message| message["role"] == "tool").collect();
    let said = results.iter().rev().map(|message| text(&message["content"]));
    (!results.is_empty()).then(|| said.collect::<Vec<_>>().join("\n"))
}

fn stops(stop: &Value) -> Vec<String> {
    match stop {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

fn tools(tools: &Value) -> Vec<Tool> {
    let one = |tool: &Value| {
        let custom = tool["type"] == "custom";
        let definition = &tool[if custom { "custom" } else { "function" }];
        let parameters = (!custom).then(|| definition["parameters"].clone());
        Some(Tool { name: definition["name"].as_str()?.to_owned(), parameters })
    };
    tools.as_array().map(|tools| tools.iter().filter_map(one).collect()).unwrap_or_default()
}

fn choice(choice: &Value) -> ToolChoice {
    match choice {
        Value::String(word) if word == "none" => ToolChoice::None,
        Value::String(word) if word == "required" => ToolChoice::Required,
        Value::Object(_) => {
            let name = ["function", "custom"].iter().find_map(|kind| choice[*kind]["name"].as_str());
            match name {
                Some(name) => ToolChoice::Named(name.to_owned()),
                None if choice["allowed_tools"]["mode"] == "required" => ToolChoice::Required,
                None => ToolChoice::Auto,
            }
        }
        _ => ToolChoice::Auto,
    }
}

fn format(format: &Value) -> Format {
    match format["type"].as_str() {
        Some("json_object") => Format::Json,
        Some("json_schema") => Format::Schema(format["json_schema"]["schema"].clone()),
        _ => Format::Text,
    }
}

/// OpenAI allows 0 to 20; the sandbox invents five at most.
fn small(number: &Value) -> usize {
    usize::try_from(number.as_u64().unwrap_or(0).min(5)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_taken_out_and_everything_else_stays() {
        for (text, rest) in [
            ("hello", "hello"),
            ("[[delay 500ms]] hello", "hello"),
            ("hello [[error 429]] world", "hello world"),
            ("hello [[cut 3]]", "hello"),
            ("a [[wiki link]] b", "a [[wiki link]] b"),
            ("[[error 200]]", "[[error 200]]"),
            ("[[delay soon]] x [[", "[[delay soon]] x [["),
            ("echo[[error 500]]", "echo"),
        ] {
            assert_eq!(Orders::default().take(text), rest, "{text}");
        }
        let mut orders = Orders::default();
        orders.take(
            "[[first-byte 2s]][[delay 1s]] [[chunk-delay 10ms]] [[chunks 200]] [[retry-after 2s]] [[refuse]]",
        );
        assert_eq!((orders.first_byte, orders.delay), (Duration::from_secs(2), Duration::from_secs(1)));
        assert_eq!((orders.chunk_delay, orders.chunks), (Duration::from_millis(10), Some(200)));
        assert_eq!((orders.retry_after, orders.refuse), (Some(Duration::from_secs(2)), true));
    }
}
