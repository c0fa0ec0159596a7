//! Bodies of chat requests, as long as they are asked for.

/// A conversation of turns of 2 KB at most, in the order of fields in which the SDK writes them.
pub fn chat(model: &str, size: usize, stream: bool) -> String {
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
    body + close.as_str()
}

/// `length` bytes of JSON string: words, with an escape now and then as prompts have them.
pub fn words(length: usize) -> String {
    const TEXT: &str = "The customer asks why the \\\"premium\\\" plan was billed twice in October, and whether the \
                        refund reaches the card within ten days.\\nOrder 20481, invoice of the 3rd. ";
    let mut text = TEXT.repeat(length / TEXT.len());
    text.extend(std::iter::repeat_n('x', length - text.len()));
    text
}
