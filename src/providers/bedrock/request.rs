//! Requests as they go to Bedrock: path and headers.

use bytes::Bytes;

use crate::providers::Outgoing;
use crate::providers::percent::segment;

/// A request with JSON in its body for one of a model's operations (`converse`).
pub(super) fn outgoing(model: &str, operation: &str, streams: bool, body: Bytes) -> Outgoing {
    let accept = if streams { "application/vnd.amazon.eventstream" } else { "application/json" };
    Outgoing::json(path(model, operation), accept, vec![body])
}

/// Where one of a model's operations is.
pub(super) fn path(model: &str, operation: &str) -> String {
    format!("/model/{}/{operation}", segment(model, b""))
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
