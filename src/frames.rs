//! Framing of streamed answers: server-sent events and lines of JSON, whatever the chunk boundaries.

mod ndjson;
mod sse;
mod writer;

pub use ndjson::LineSplitter;
pub use sse::{MAX_LINE, SseEvent, SseSplitter};
pub use writer::{SSE_DONE, sse_comment, sse_data, sse_named};
