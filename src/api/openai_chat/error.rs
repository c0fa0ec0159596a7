//! Errors in OpenAI's shape.

use serde_json::json;

use crate::fault::Fault;

/// Longest message that a client is shown, in characters.
const MAX_MESSAGE: usize = 1024;

const NO_QUOTA: &str = "insufficient_quota";

/// The body of an error response: `{"error":{"message","type","param","code"}}`.
pub fn error_body(fault: &Fault) -> Vec<u8> {
    let body = json!({
        "error": {
            "message": presentable(&fault.message, MAX_MESSAGE),
            "type": kind(fault),
            "param": fault.param.as_deref().map(|param| presentable(param, MAX_MESSAGE)),
            "code": presentable(fault.code_str(), MAX_MESSAGE),
        }
    });
    serde_json::to_vec(&body).unwrap_or_default()
}

fn kind(fault: &Fault) -> &'static str {
    // OpenAI says this one by its code, under 429 and 402 alike.
    if fault.code_str() == NO_QUOTA { NO_QUOTA } else { error_type(fault.client_status()) }
}

/// OpenAI's error type for an HTTP status.
pub fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// Text from outside (the name of a model, an upstream's message) as it may be shown: without control characters
/// and characters that turn the direction of writing, and at most `most` characters long.
pub fn presentable(text: &str, most: usize) -> String {
    let mut shown: String = text
        .chars()
        .take(most)
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                '\u{fffd}'
            }
            c => c,
        })
        .collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::error_body;
    use crate::fault::{Fault, FaultKind, Phase};

    fn shown(fault: &Fault) -> Value {
        serde_json::from_slice(&error_body(fault)).unwrap()
    }

    #[test]
    fn every_status_has_its_type() {
        for (kind, status, expected) in [
            (FaultKind::BadRequest, None, "invalid_request_error"),
            (FaultKind::ContextTooLong, None, "invalid_request_error"),
            (FaultKind::TooLarge, None, "invalid_request_error"),
            (FaultKind::BadRequest, Some(422), "invalid_request_error"),
            (FaultKind::Unauthorized, None, "authentication_error"),
            (FaultKind::Forbidden, None, "permission_error"),
            (FaultKind::NotFound, None, "invalid_request_error"),
            (FaultKind::RateLimited, None, "rate_limit_error"),
            (FaultKind::Overloaded, Some(529), "server_error"),
            (FaultKind::ServerError, Some(500), "server_error"),
            (FaultKind::Credentials, Some(401), "server_error"),
            (FaultKind::Timeout(Phase::Total), None, "server_error"),
            (FaultKind::Rejected, Some(451), "invalid_request_error"),
        ] {
            let mut fault = Fault::new(kind, "x");
            fault.status = status;
            assert_eq!(shown(&fault)["error"]["type"], expected, "{kind:?} {status:?}");
        }
    }

    #[test]
    fn the_body_has_all_four_fields() {
        let fault = Fault::bad_request("no such thing", "messages[0].role").code("invalid_value");
        let expected = json!({"error": {
            "message": "no such thing", "type": "invalid_request_error",
            "param": "messages[0].role", "code": "invalid_value",
        }});
        assert_eq!(shown(&fault), expected);
        assert_eq!(shown(&Fault::new(FaultKind::Internal, "x"))["error"]["param"], Value::Null);
    }

    #[test]
    fn names_in_messages_are_made_harmless() {
        let name = format!("gpt\r\n\u{1b}[31m\u{202e}\u{0}{}", "x".repeat(5000));
        let message = shown(&Fault::new(FaultKind::NotFound, format!("no model '{name}'")));
        let message = message["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("no model 'gpt\u{fffd} \u{fffd}[31m\u{fffd}\u{fffd}xxx"), "{message:?}");
        assert_eq!(message.chars().count(), 1025);
    }
}
