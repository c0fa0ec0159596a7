//! OpenAI's Responses as a client speaks them: request in, response, stream and errors out; and the answers that are
//! kept for the next turn.
//!
//! <https://platform.openai.com/docs/api-reference/responses>

mod ask;
mod before;
mod compact;
mod decode;
mod door;
mod echo;
mod errand;
mod error;
mod ids;
mod item;
mod keep;
mod lookup;
mod native;
mod path;
mod proof;
mod sight;
mod socket;
mod stream;

pub use ask::Ask;
pub use compact::Compaction;
pub use decode::Decoded;
pub use door::{InputTokens, OpenAiResponses};
pub(super) use errand::door as door_of;
pub(super) use lookup::Lookup;
pub use socket::ResponsesSocket;
pub use stream::ResponseEncoder;
