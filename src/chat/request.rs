//! The canonical chat request.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::Object;
use crate::json::Text;

/// A chat request as any dialect means it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// The model name as the client wrote it.
    pub model: String,
    /// Whether the answer is wanted as a stream.
    pub stream: bool,
    /// Whether the client wants usage at the end of the stream.
    pub include_usage: bool,
    /// System and developer messages stand in the list where the client put them.
    pub messages: Vec<Message>,
    /// Tools that the model may call.
    pub tools: Vec<Tool>,
    /// Which tool the model must call, if any.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tool calls may come in one answer.
    pub parallel_tool_calls: Option<bool>,
    /// The form of the answer.
    pub output: OutputFormat,
    /// Sampling parameters.
    pub sampling: Sampling,
    /// Upper bound of generated tokens.
    pub max_output_tokens: Option<u64>,
    /// How much the model shall think.
    pub reasoning: Option<Reasoning>,
    /// The end user on whose behalf the request is made.
    pub user: Option<String>,
    /// Key-value pairs that the provider stores with the request.
    pub metadata: Object,
    /// Top-level fields that the canonical form does not know, by their name in the client's dialect.
    pub rest: Object,
}

/// One turn of the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order. A tool's result is a [`Part::ToolResult`] in a message of role `Tool`.
    pub content: Vec<Part>,
    /// The speaker's name among several of one role.
    pub name: Option<String>,
    /// Fields that the canonical form does not know.
    pub rest: Object,
}

impl Message {
    /// A message of one text and nothing else.
    pub fn plain(role: Role, text: impl Into<Text>) -> Self {
        Self { role, content: vec![Part::text(text)], name: None, rest: Object::new() }
    }

    /// The text of a message that is nothing but a text.
    pub fn as_plain(&self) -> Option<&Text> {
        match self.content.as_slice() {
            [Part::Text { text, cache: None, citations }] if citations.is_empty() => {
                (self.name.is_none() && self.rest.is_empty()).then_some(text)
            }
            _ => None,
        }
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions above the user's.
    System,
    /// OpenAI's newer name for instructions of the application.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// Results of tools.
    Tool,
}

/// A piece of a message or of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Plain text.
    Text {
        /// The text.
        text: Text,
        /// Prompt-cache breakpoint after this part.
        cache: Option<CacheHint>,
        /// Citations or annotations as the dialect has them.
        citations: Vec<Value>,
    },
    /// A picture.
    Image {
        /// Where it is.
        media: Media,
        /// OpenAI's `detail`: `low`, `high`, `auto`.
        detail: Option<String>,
        /// Prompt-cache breakpoint after this part.
        cache: Option<CacheHint>,
    },
    /// Sound.
    Audio {
        /// Where it is.
        media: Media,
    },
    /// A document.
    File {
        /// Where it is.
        media: Media,
        /// Its name.
        filename: Option<String>,
        /// Prompt-cache breakpoint after this part.
        cache: Option<CacheHint>,
    },
    /// What the model thought. Must go back unchanged on the next turn where a signature stands.
    Thinking {
        /// The visible text, possibly empty.
        text: String,
        /// The provider's proof that the text is its own.
        signature: Option<String>,
        /// Opaque data in place of text.
        redacted: Option<String>,
    },
    /// The model calls a tool of the client.
    ToolCall {
        /// Identifies the call; invented by the gateway where the provider gives none.
        id: String,
        /// The tool.
        name: String,
        /// JSON text of the arguments (function), or free text (custom).
        arguments: String,
        /// Function or custom tool.
        kind: ToolKind,
        /// The provider's signature over the call (Gemini's thought signature).
        signature: Option<String>,
        /// Prompt-cache breakpoint after this part.
        cache: Option<CacheHint>,
    },
    /// What a tool of the client answered.
    ToolResult {
        /// The call that is answered.
        id: String,
        /// The answer.
        content: Vec<Part>,
        /// Whether the tool failed.
        is_error: bool,
        /// Prompt-cache breakpoint after this part.
        cache: Option<CacheHint>,
    },
    /// The model declines.
    Refusal(String),
    /// A part that only its own dialect understands (server tools, search results …), carried as it is.
    Other(Value),
}

impl Part {
    /// A plain text part.
    pub fn text(text: impl Into<Text>) -> Self {
        Self::Text { text: text.into(), cache: None, citations: Vec::new() }
    }
}

/// Where the bytes of an image, sound or document are.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    /// A URL that the provider fetches.
    Url(String),
    /// Inline bytes, still in base64.
    Inline {
        /// MIME type; OpenAI's audio `format` becomes `audio/<format>`.
        mime: String,
        /// Base64 text.
        base64: String,
    },
    /// The id of an uploaded file.
    FileId(String),
}

impl Media {
    /// The text of a document that is nothing but text.
    pub fn as_text(&self) -> Option<String> {
        let Self::Inline { mime, base64 } = self else { return None };
        let bytes = mime.starts_with("text/").then(|| BASE64_STANDARD.decode(base64).ok())??;
        String::from_utf8(bytes).ok()
    }

    /// A name for inline bytes that have none: OpenAI takes no file without, and tells its kind by it. "Missing required
    /// parameter: `messages[0].content[1].file.file_id`" is what it says otherwise.
    pub fn usual_name(&self) -> Option<String> {
        let Self::Inline { mime, .. } = self else { return None };
        let ending = match mime.rsplit(['/', '.']).next().unwrap_or_default() {
            "" | "octet-stream" => "bin",
            "document" => "docx",
            "sheet" => "xlsx",
            "presentation" => "pptx",
            "msword" => "doc",
            ending => ending,
        };
        Some(format!("document.{ending}"))
    }

    /// The URL, a `data:` URL for inline bytes; `None` for an uploaded file.
    pub fn as_url(&self) -> Option<String> {
        match self {
            Self::Url(url) => Some(url.clone()),
            Self::Inline { mime, base64 } => Some(format!("data:{mime};base64,{base64}")),
            Self::FileId(_) => None,
        }
    }
}

/// A prompt-cache breakpoint, as Anthropic's `cache_control` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheHint {
    /// `5m`, `1h`; `None` is the provider's default.
    pub ttl: Option<String>,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is good for.
    pub description: Option<String>,
    /// JSON Schema of its arguments; `None` for custom tools.
    pub parameters: Option<Value>,
    /// Whether arguments must follow the schema exactly.
    pub strict: Option<bool>,
    /// Function, custom, or a server tool of the provider.
    pub kind: ToolKind,
    /// Prompt-cache breakpoint after this tool.
    pub cache: Option<CacheHint>,
    /// The definition as the dialect had it, for kinds that are not functions, and unknown fields.
    pub rest: Object,
}

impl Tool {
    /// Whether it is one of the tools that Anthropic defines: their types end in the date of their version, except
    /// for those of MCP servers.
    pub fn is_anthropics(&self) -> bool {
        let kind = self.rest.get("type").and_then(Value::as_str).unwrap_or_default();
        let dated = kind.rsplit_once('_').is_some_and(|(_, date)| {
            date.len() == 8 && date.starts_with("20") && date.bytes().all(|b| b.is_ascii_digit())
        });
        dated || kind == "mcp_toolset"
    }

    /// Whether it is one of the tools that OpenAI runs behind its Responses, which its chat knows nothing of.
    pub fn is_of_responses(&self) -> bool {
        let kind = self.rest.get("type").and_then(Value::as_str).unwrap_or_default();
        let known = [
            "file_search",
            "web_search",
            "code_interpreter",
            "image_generation",
            "local_shell",
            "shell",
            "apply_patch",
            "mcp",
            "tool_search",
            "programmatic_tool_calling",
        ];
        known.contains(&kind) || ["web_search_", "computer"].iter().any(|start| kind.starts_with(start))
    }
}

/// What kind of tool it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolKind {
    /// Arguments are a JSON object.
    #[default]
    Function,
    /// Arguments are free text (OpenAI custom tools).
    Custom,
    /// Runs at the provider.
    Server,
}

/// Which tool the model must call.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolChoice {
    /// As the model likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
    /// A form that only its dialect knows (OpenAI's `allowed_tools`).
    Other(Value),
}

/// The form of the answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum OutputFormat {
    /// Text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON of a given schema.
    JsonSchema {
        /// The schema's name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// The JSON Schema.
        schema: Value,
        /// Whether the answer must follow it exactly.
        strict: Option<bool>,
    },
    /// A form that only its dialect knows.
    Other(Value),
}

impl OutputFormat {
    /// The schema of a JSON answer with what it is for inside of it, for dialects that have no other place for that.
    pub fn described_schema(&self) -> Value {
        let Self::JsonSchema { schema, description, .. } = self else { return Value::Null };
        let mut schema = schema.clone();
        if let (Value::Object(fields), Some(description)) = (&mut schema, description) {
            fields.entry("description").or_insert_with(|| description.as_str().into());
        }
        schema
    }
}

/// Sampling parameters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// Number of likeliest tokens to draw from.
    pub top_k: Option<u64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// For reproducible answers.
    pub seed: Option<i64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Token id to bias.
    pub logit_bias: Option<Object>,
    /// Whether log probabilities are wanted.
    pub logprobs: Option<bool>,
    /// How many alternatives per token.
    pub top_logprobs: Option<u64>,
    /// Number of choices.
    pub n: Option<u64>,
}

/// How much the model shall think.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reasoning {
    /// `none`, `minimal`, `low`, `medium`, `high` …
    pub effort: Option<String>,
    /// Tokens it may spend on thinking.
    pub budget_tokens: Option<u64>,
    /// Whether it shall think at all.
    pub thinks: Thinks,
    /// Anything else that the dialect says about it.
    pub rest: Object,
}

/// Whether a model shall think, in dialects that say so apart from how hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Thinks {
    /// As the effort or the budget implies.
    #[default]
    Implied,
    /// As much as it likes: Anthropic's `adaptive`.
    Freely,
    /// It shall not; an effort is the whole answer's.
    Not,
    /// Nothing is said of it; an effort is the whole answer's: Anthropic's `output_config.effort` alone.
    Unsaid,
}

impl Reasoning {
    /// Whether the model shall not think.
    pub fn shuns(&self) -> bool {
        match self.effort.as_deref() {
            _ if self.thinks == Thinks::Not => true,
            Some(effort) => effort == "none",
            None => self.budget_tokens == Some(0),
        }
    }

    /// Whether nothing is said that a provider needs to be told, beside that it may think as it likes.
    pub fn is_unsaid(&self) -> bool {
        self.effort.is_none()
            && self.budget_tokens.is_none()
            && self.thinks != Thinks::Not
            && self.rest.is_empty()
    }
}
