//! Anthropic's messages as a client speaks them: request in, message, stream and errors out.
//!
//! <https://platform.claude.com/docs/en/api/messages>

mod answer;
mod ask;
mod block;
mod call_id;
mod count;
mod decode;
mod door;
mod error;
mod path;
mod sight;
mod stream;

#[cfg(test)]
pub(in crate::api) use answer::TONGUE;
pub use answer::encode_answer;
pub use ask::Ask;
pub use count::AnthropicCount;
pub use decode::{Decoded, decode};
pub use door::AnthropicMessages;
pub use error::{error_body, error_type};
pub use stream::MessageEncoder;
