//! The requests that the load generator sends: those of an ordinary OpenAI client.

use crate::wire::Ask;

/// What the mock puts at the end of an answer that is not a stream.
pub const END_OF_WHOLE: &str = "fp_end_of_answer";

/// What stands at the end of every stream.
pub const END_OF_STREAM: &str = "data: [DONE]";

/// The model that is answered whole. `bench-` is what clients see, the mock knows the rest (see [`crate::mock`]).
pub const WHOLE: &str = "bench-chat";

/// A chat request with a body of `size` bytes, answered whole.
pub fn whole(size: usize) -> Ask {
    ask("/v1/chat/completions", &chat(WHOLE, size, false), END_OF_WHOLE, 500)
}

/// A chat request of 1 KB, answered with `events` content events as `script` says.
pub fn stream(script: &str, events: usize) -> Ask {
    ask("/v1/chat/completions", &chat(script, 1 << 10, true), END_OF_STREAM, events * 150)
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
         authorization: Bearer sk-bench-0123456789abcdef\r\n\
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

/// A conversation of turns of 2 KB at most, in the order of fields in which the SDK writes them.
fn chat(model: &str, size: usize, stream: bool) -> String {
    let open =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"You answer questions about our products.\"}";
    let stream = if stream { ",\"stream\":true" } else { "" };
    let close = format!(
        "],\"model\":\"{model}\",\"max_completion_tokens\":512{stream},\"temperature\":0.2,\"user\":\"user-4711\"}}"
    );
    let mut body = String::with_capacity(size);
    body.push_str(open);
    for turn in 0.. {
        let role = if turn % 2 == 0 { "user" } else { "assistant" };
        let frame = format!(",{{\"role\":\"{role}\",\"content\":\"\"}}").len();
        let left = size.saturating_sub(body.len() + close.len());
        if left <= frame {
            break;
        }
        // The last turn takes all that is left, so that no rest too small for a turn remains.
        let length = if left - frame > 3 << 10 { 2 << 10 } else { left - frame };
        body.push_str(&format!(",{{\"role\":\"{role}\",\"content\":\"{}\"}}", words(length)));
    }
    body + &close
}

/// `length` bytes of JSON string: words, with an escape now and then as prompts have them.
fn words(length: usize) -> String {
    const TEXT: &str = "The customer asks why the \\\"premium\\\" plan was billed twice in October, and whether the \
                        refund reaches the card within ten days.\\nOrder 20481, invoice of the 3rd. ";
    let mut text = TEXT.repeat(length / TEXT.len());
    text.extend(std::iter::repeat_n('x', length - text.len()));
    text
}
