//! Server-sent events into bytes.

/// The event that ends a stream of the OpenAI dialect.
pub const SSE_DONE: &[u8] = b"data: [DONE]\n\n";

/// Appends one event with `json` as its data. Line ends inside `json` (it may be pretty-printed) begin a new `data:`
/// line, so that the reader gets the same JSON.
pub fn sse_data(out: &mut Vec<u8>, json: &[u8]) {
    out.reserve(json.len() + 8);
    out.extend_from_slice(b"data: ");
    let mut rest = json;
    while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
        let (line, tail) = rest.split_at(end);
        out.extend_from_slice(line);
        out.extend_from_slice(b"\ndata: ");
        rest = tail.strip_prefix(b"\r\n").or_else(|| tail.get(1..)).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\n\n");
}

/// Appends one event with a name, as Anthropic's dialect has it.
pub fn sse_named(out: &mut Vec<u8>, name: &str, json: &[u8]) {
    out.extend_from_slice(b"event: ");
    out.extend(name.bytes().map(|b| if b.is_ascii_control() { b' ' } else { b }));
    out.push(b'\n');
    sse_data(out, json);
}

/// Appends a comment, which keeps a connection alive and which no client shows to its application. Line ends and
/// other control characters in `text` become spaces.
pub fn sse_comment(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b": ");
    out.extend(text.bytes().map(|b| if b.is_ascii_control() { b' ' } else { b }));
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::SseSplitter;
    use super::{sse_comment, sse_data};

    #[test]
    fn what_is_written_is_read_again() {
        for (json, frame) in [
            ("{}", "data: {}\n\n"),
            ("{\n\"a\":1\r\n}", "data: {\ndata: \"a\":1\ndata: }\n\n"),
            ("{\r}\n", "data: {\ndata: }\ndata: \n\n"),
        ] {
            let mut out = Vec::new();
            sse_data(&mut out, json.as_bytes());
            assert_eq!(String::from_utf8(out.clone()).unwrap(), frame);
            let mut splitter = SseSplitter::new();
            splitter.push(Bytes::from(out));
            let data = splitter.next().unwrap().unwrap().data;
            assert_eq!(&*data, json.replace("\r\n", "\n").replace('\r', "\n").as_bytes());
        }
    }

    #[test]
    fn a_comment_stays_a_comment() {
        let mut out = Vec::new();
        sse_comment(&mut out, "keep\nalive");
        assert_eq!(out, b": keep alive\n\n");
    }
}
