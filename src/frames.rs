//! Framing of streamed answers: server-sent events, whatever the chunk boundaries.

mod sse;
mod writer;

pub use sse::{MAX_LINE, SseEvent, SseSplitter};
pub use writer::{SSE_DONE, sse_comment, sse_data, sse_named};
