//! Bodies of conversations, as long as they are asked for.

/// A conversation in OpenAI's dialect, in the order of fields in which the SDK writes them.
pub fn chat(model: &str, size: usize, stream: bool) -> String {
    let open =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"You answer questions about our products.\"}";
    let stream = if stream { ",\"stream\":true" } else { "" };
    let close = format!(
        "],\"model\":\"{model}\",\"max_completion_tokens\":512{stream},\"temperature\":0.2,\"user\":\"user-4711\"}}"
    );
    turns(open, &close, size)
}

/// The same conversation in Anthropic's dialect.
pub fn messages(model: &str, size: usize, stream: bool) -> String {
    let open = format!(
        "{{\"model\":\"{model}\",\"max_tokens\":512,\"system\":\"You answer questions about our products.\",\
         \"messages\":[{{\"role\":\"user\",\"content\":\"Hello.\"}},{{\"role\":\"assistant\",\"content\":\"Hello.\"}}"
    );
    let stream = if stream { ",\"stream\":true" } else { "" };
    let close = format!("]{stream},\"temperature\":0.2,\"metadata\":{{\"user_id\":\"user-4711\"}}}}");
    turns(&open, &close, size)
}

/// Turns of 2 KB at most between `open` and `close`.
fn turns(open: &str, close: &str, size: usize) -> String {
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
    body + close
}

/// `length` bytes of JSON string: words, with an escape now and then as prompts have them.
pub fn words(length: usize) -> String {
    const TEXT: &str = "The customer asks why the \\\"premium\\\" plan was billed twice in October, and whether the \
                        refund reaches the card within ten days.\\nOrder 20481, invoice of the 3rd. ";
    let mut text = TEXT.repeat(length / TEXT.len());
    text.extend(std::iter::repeat_n('x', length - text.len()));
    text
}
