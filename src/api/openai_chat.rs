//! OpenAI's chat completions as a client speaks them: request in, answer, stream and errors out.
//!
//! <https://platform.openai.com/docs/api-reference/chat>

mod answer;
mod ask;
pub(in crate::api) mod custom;
pub(in crate::api) mod decode;
mod door;
mod error;
pub(in crate::api) mod param;
mod path;
mod sight;
mod stream;
mod usage;

pub(in crate::api) use answer::TONGUE;
pub use answer::{Fallback, encode_answer};
pub use ask::{Ask, MAX_CHOICES, MAX_MESSAGES, MAX_TOKENS, MAX_TOOLS};
pub use decode::decode;
pub use door::OpenAiChat;
pub(in crate::api) use door::fault_event;
pub use error::{error_body, error_type, presentable};
pub use stream::ChatEncoder;
pub use usage::usage_json;
