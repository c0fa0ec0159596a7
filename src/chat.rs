//! The canonical form: what a chat request, its answer, its stream events and its usage mean in any dialect.
//!
//! Every dialect translates to and from this form (N+M translations, never N×M). It is a superset of what the
//! OpenAI, Anthropic and Gemini dialects can say; what only one dialect knows travels in `rest`.

mod answer;
mod event;
mod helper;
mod loss;
pub mod proof;
mod request;
mod tier;
mod usage;

pub use answer::{Answer, Choice, Finish, FinishReason};
pub use event::{Event, StreamDecoder, StreamEncoder};
pub use helper::Helper;
pub use loss::Loss;
pub use request::{
    CacheHint, Media, Message, OutputFormat, Part, Reasoning, Request, Role, Sampling, Thinks, Tool,
    ToolChoice, ToolKind,
};
pub use tier::Tier;
pub use usage::{Billed, Breadth, Manner, Usage};

/// An object whose fields keep their order.
pub type Object = serde_json::Map<String, serde_json::Value>;

/// How Anthropic's codes begin for what is wrong with a conversation that it keeps for the client (`thread_not_found`).
pub const THREAD: &str = "thread_";
