//! OpenAI's legacy text completions as a client speaks them: request in, answer, stream and errors out.
//!
//! Models that complete texts get the client's own bytes. All others are asked by a chat with one message of the user.
//! <https://platform.openai.com/docs/api-reference/completions>

mod answer;
mod ask;
mod decode;
mod door;
mod logprobs;
mod stream;

pub use ask::Ask;
pub(super) use ask::prompts_in;
pub use door::OpenAiCompletions;
