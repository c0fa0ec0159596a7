//! Proofs of other providers inside of `encrypted_content`, so that a client carries them to the next turn.
//!
//! A reasoning item is the one thing of this dialect that clients send back without looking inside. What Anthropic and
//! Gemini want back unchanged travels there, behind a beginning that OpenAI's own contents never have.

use serde_json::Value;

const SIGNATURE: &str = "tollgate:signature:";
const REDACTED: &str = "tollgate:redacted:";
const CALL: &str = "tollgate:call:";
const PART: &str = "tollgate:part:";
const OURS: &str = "tollgate:";

/// What an `encrypted_content` of ours holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Proof {
    /// A signature over the thought in whose item it stands.
    Signature(String),
    /// Hidden thinking.
    Redacted(String),
    /// A signature over the tool call with this id.
    Call {
        /// The call's id.
        id: String,
        /// The signature.
        signature: String,
    },
    /// A part that only its own provider understands (a server tool's call or result).
    Part(Value),
}

/// Reads an `encrypted_content`; `None` where it is a provider's own.
pub(super) fn read(text: &str) -> Option<Proof> {
    if let Some(signature) = text.strip_prefix(SIGNATURE) {
        return Some(Proof::Signature(signature.to_owned()));
    }
    if let Some(data) = text.strip_prefix(REDACTED) {
        return Some(Proof::Redacted(data.to_owned()));
    }
    if let Some((id, signature)) = text.strip_prefix(CALL).and_then(|rest| rest.split_once('\n')) {
        return Some(Proof::Call { id: id.to_owned(), signature: signature.to_owned() });
    }
    serde_json::from_str(text.strip_prefix(PART)?).ok().map(Proof::Part)
}

/// Whether an `encrypted_content` is one of ours, whole or damaged.
pub(super) fn is_ours(text: &str) -> bool {
    text.starts_with(OURS)
}

/// Writes a proof.
pub(super) fn write(proof: &Proof) -> String {
    match proof {
        Proof::Signature(signature) => format!("{SIGNATURE}{signature}"),
        Proof::Redacted(data) => format!("{REDACTED}{data}"),
        Proof::Call { id, signature } => format!("{CALL}{}\n{signature}", id.replace('\n', " ")),
        Proof::Part(value) => format!("{PART}{value}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for proof in [
            Proof::Signature("gemini:CrI=".into()),
            Proof::Redacted("x y".into()),
            Proof::Call { id: "call:1".into(), signature: "a\nb".into() },
            Proof::Part(json!({"type": "server_tool_use", "input": {}})),
        ] {
            let text = write(&proof);
            assert!(is_ours(&text));
            assert_eq!(read(&text), Some(proof));
        }
        for other in ["", "gAAAAABo", "tollgate:part:{", "tollgate:call:x", "tollgate:new:x"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
