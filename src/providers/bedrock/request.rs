//! Requests as they go to Bedrock: path and headers.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::providers::Outgoing;

/// A request with JSON in its body for one of a model's operations (`converse`).
pub(super) fn outgoing(model: &str, operation: &str, streams: bool, body: Bytes) -> Outgoing {
    let accept = if streams { "application/vnd.amazon.eventstream" } else { "application/json" };
    let path = format!("/model/{}/{operation}", escape(model));
    Outgoing::json(path, accept, vec![body])
}

/// A model's name as one segment of a path: AWS's own clients escape the colons and slashes of ids and ARNs too.
fn escape(model: &str) -> String {
    let mut out = String::with_capacity(model.len() + 16);
    // A name of dots alone would lead to another path.
    let dots = model.bytes().all(|byte| byte == b'.');
    for byte in model.bytes() {
        if !dots && (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_segment_of_the_path() {
        for (model, path) in [
            ("amazon.nova-lite-v1:0", "/model/amazon.nova-lite-v1%3A0/converse"),
            (
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.x.y-v1:0",
                "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x.y-v1%3A0/converse",
            ),
            ("..", "/model/%2E%2E/converse"),
            ("../../x?y#z", "/model/..%2F..%2Fx%3Fy%23z/converse"),
        ] {
            assert_eq!(outgoing(model, "converse", false, Bytes::new()).path, path);
        }
    }
}
