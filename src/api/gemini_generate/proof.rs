//! Proofs of thinking as a client of this dialect carries them: `thoughtSignature`, which is base64 to it.
//!
//! Google's own proofs go out and come back as they are. Those of another provider travel inside, marked, so that they
//! come back to whom they belong.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::chat::proof;

const SIGNATURE: &str = "tollgate:signature:";
const REDACTED: &str = "tollgate:redacted:";
const UNSIGNED: &str = "tollgate:unsigned";
/// What a client sends that has no proof: <https://ai.google.dev/gemini-api/docs/thought-signatures#faqs>
const NONE: &[&str] = &["skip_thought_signature_validator", "context_engineering_is_the_way_to_go"];

/// A proof as the canonical form has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// A signature of thinking, marked with whose it is.
    Signature(String),
    /// Hidden thinking of another provider.
    Redacted(String),
}

/// Reads a client's `thoughtSignature`.
pub(super) fn read(text: &str) -> Option<Proof> {
    if text.is_empty() || NONE.contains(&text) {
        return None;
    }
    let inner = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok();
    let inner = inner.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    if NONE.contains(&&*inner) || inner == UNSIGNED {
        return None;
    }
    if let Some(signature) = inner.strip_prefix(SIGNATURE) {
        return Some(Proof::Signature(signature.to_owned()));
    }
    if let Some(data) = inner.strip_prefix(REDACTED) {
        return Some(Proof::Redacted(data.to_owned()));
    }
    Some(Proof::Signature(proof::of_gemini(text)))
}

/// Reads the signature of a call, which stands in the canonical form as Google wrote it.
pub(super) fn read_call(text: &str) -> Option<String> {
    match read(text)? {
        Proof::Signature(signature) => proof::for_gemini(&signature).map(str::to_owned),
        Proof::Redacted(_) => None,
    }
}

/// Writes a signature of thinking.
pub(super) fn write(signature: &str) -> String {
    match signature.strip_prefix(proof::GEMINI) {
        Some(own) => own.to_owned(),
        None => STANDARD.encode(format!("{SIGNATURE}{signature}")),
    }
}

/// Stands on a call that has no proof: Google wants one on the first call of an answer, so that whoever has answered
/// must be known when the conversation comes back.
pub(super) fn unsigned() -> String {
    STANDARD.encode(UNSIGNED)
}

/// Writes hidden thinking.
pub(super) fn write_redacted(data: &str) -> String {
    STANDARD.encode(format!("{REDACTED}{data}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proof_comes_back_to_whom_it_belongs() {
        let own = proof::of_gemini("CrIJ+/==");
        assert_eq!(write(&own), "CrIJ+/==");
        assert_eq!(read("CrIJ+/=="), Some(Proof::Signature(own)));
        assert_eq!(read(&write("anthropics")), Some(Proof::Signature("anthropics".into())));
        assert_eq!(read(&write_redacted("x")), Some(Proof::Redacted("x".into())));
        assert_eq!(read(&write("??>>")).map(|_| ()), Some(()));
        assert_eq!((read(""), read("skip_thought_signature_validator")), (None, None));
        assert_eq!((read(&unsigned()), read_call(&unsigned())), (None, None));
        assert_eq!(read_call("abc").as_deref(), Some("abc"));
    }
}
