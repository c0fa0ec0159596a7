//! Framing of streamed answers: server-sent events, lines of JSON, AWS's event streams, WebSocket frames, whatever the
//! chunk boundaries.

mod event_stream;
mod ndjson;
mod sse;
pub mod websocket;
mod writer;

#[cfg(test)]
pub(crate) use event_stream::tests::message as aws_message;
pub use event_stream::{AwsMessage, AwsSplitter, MAX_MESSAGE};
pub use ndjson::LineSplitter;
pub use sse::{MAX_LINE, SseEvent, SseSplitter};
pub use writer::{SSE_DONE, sse_comment, sse_data, sse_named};
