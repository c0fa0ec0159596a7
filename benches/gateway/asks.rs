//! The requests that the load generator sends: those of an ordinary OpenAI client.

use crate::prompts::{chat, messages, words};
use crate::wire::Ask;

/// What the mock puts at the end of an answer that is not a stream.
pub const END_OF_WHOLE: &str = "fp_end_of_answer";

/// What stands at the end of every stream.
pub const END_OF_STREAM: &str = "data: [DONE]";

/// The model that is answered whole. `bench-` is what clients see, the mock knows the rest (see [`crate::mock`]).
pub const WHOLE: &str = "bench-chat";

/// The key that clients show.
pub const KEY: &str = "sk-bench-0123456789abcdef";

/// A chat request with a body of `size` bytes, answered whole.
pub fn whole(size: usize) -> Ask {
    ask("/v1/chat/completions", &chat(WHOLE, size, false), END_OF_WHOLE, 500)
}

/// A chat request of 1 KB, answered with `events` content events as `script` says.
pub fn stream(script: &str, events: usize) -> Ask {
    ask("/v1/chat/completions", &chat(script, 1 << 10, true), END_OF_STREAM, events * 150)
}

/// The same as [`whole`] for the model that the sample policies decide.
pub fn decided(size: usize) -> Ask {
    ask("/v1/chat/completions", &chat("auto", size, false), END_OF_WHOLE, 500)
}

/// The same conversation as [`whole`] in Anthropic's dialect, which the gateway has to translate both ways.
pub fn translated(size: usize) -> Ask {
    ask("/v1/messages", &messages(WHOLE, size, false), "\"output_tokens\":", 500)
}

/// The same as [`stream`] in Anthropic's dialect.
pub fn translated_stream(script: &str, events: usize) -> Ask {
    ask("/v1/messages", &messages(script, 1 << 10, true), "\"message_stop\"", events * 90)
}

/// An embeddings request.
pub fn embeddings() -> Ask {
    let body = format!("{{\"input\":\"{}\",\"model\":\"bench-embedding\"}}", words(900));
    ask("/v1/embeddings", &body, END_OF_WHOLE, 500)
}

fn ask(path: &str, body: &str, marker: &'static str, least: usize) -> Ask {
    // The headers that the OpenAI SDK for Python sends, and the tags of an application that uses them.
    let head = format!(
        "POST {path} HTTP/1.1\r\n\
         host: gateway.internal\r\n\
         accept: application/json\r\n\
         accept-encoding: identity\r\n\
         content-type: application/json\r\n\
         user-agent: OpenAI/Python 1.109.1\r\n\
         authorization: Bearer {KEY}\r\n\
         x-stainless-lang: python\r\n\
         x-stainless-package-version: 1.109.1\r\n\
         x-stainless-os: Linux\r\n\
         x-stainless-arch: x64\r\n\
         x-stainless-runtime: CPython\r\n\
         x-stainless-runtime-version: 3.12.3\r\n\
         x-stainless-async: false\r\n\
         x-stainless-retry-count: 0\r\n\
         x-stainless-read-timeout: 600\r\n\
         x-tollgate-tags: team=search,feature=ask\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    Ask { bytes: [head.as_bytes(), body.as_bytes()].concat().into(), marker, least }
}
