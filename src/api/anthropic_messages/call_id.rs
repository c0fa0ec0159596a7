//! Ids of tool calls towards Anthropic's clients, which may send them to Anthropic next.
//!
//! A provider's signature over a call (Gemini's) has no field of its own in this dialect, so it travels inside of the
//! id and is found there when the client sends the conversation back.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Between the id and the signature.
const MARK: &str = "__sig__";

/// The id for the client: letters, digits, `_` and `-`, as Anthropic wants them.
pub(super) fn written(id: &str, signature: Option<&str>) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    let mut written: String = id.chars().map(plain).collect();
    if let Some(signature) = signature {
        written.push_str(MARK);
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut written);
    }
    written
}

/// The provider's id, and the signature that came with it.
pub(super) fn read(mut id: String) -> (String, Option<String>) {
    let Some(at) = id.find(MARK) else { return (id, None) };
    let bytes = id.get(at + MARK.len()..).and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
    let Some(signature) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) else { return (id, None) };
    id.truncate(at);
    (id, Some(signature))
}

#[cfg(test)]
mod tests {
    use super::{read, written};

    #[test]
    fn a_signature_comes_back_in_the_id() {
        for (id, signature, expected) in [
            ("call_1", None, "call_1"),
            ("f:0", None, "f_0"),
            ("c1", Some("a+/=\u{e9}"), "c1__sig__YSsvPcOp"),
        ] {
            assert_eq!(written(id, signature), expected);
            let (_, back) = read(expected.to_owned());
            assert_eq!(back.as_deref(), signature);
        }
        for odd in ["a__sig__", "a__sig__%%", "__sig__", "a__sig__/w"] {
            let (id, _) = read(odd.to_owned());
            assert!(odd.starts_with(&id));
        }
    }
}
