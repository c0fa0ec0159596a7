//! Proofs of thinking: whose they are, so that a conversation that moves between providers shows each only its own.
//!
//! A signature in [`Part::Thinking`](super::Part::Thinking) that bears no [`MARK`] is Anthropic's, as it came. Those of
//! other providers begin with the mark and with whose they are: Gemini's `thoughtSignature`, a plan of Cohere's
//! ([`COHERE_PLAN`]), or the encrypted reasoning of a provider that speaks OpenAI's Responses. The signature of a tool
//! call is always Gemini's and stands as it came:
//! nobody else signs calls.

/// The beginning of every proof that is not Anthropic's.
pub const MARK: &str = "tollgate:";

/// The beginning of a thinking signature that Gemini made. The rest is Gemini's own `thoughtSignature`.
pub const GEMINI: &str = "tollgate:gemini:";

/// The beginning of a signature that holds a reasoning item of OpenAI's Responses.
const RESPONSES: &str = "tollgate:responses:";

/// Marks thinking that was Cohere's `tool_plan`, which must go back as one. Nothing is proven by it.
pub const COHERE_PLAN: &str = "tollgate:cohere:tool_plan";

/// Marks a signature as Gemini's.
pub fn of_gemini(signature: &str) -> String {
    format!("{GEMINI}{signature}")
}

/// Gemini's own signature inside of a thinking signature; `None` for anybody else's.
pub fn for_gemini(signature: &str) -> Option<&str> {
    signature.strip_prefix(GEMINI)
}

/// Anthropic's own signature; `None` for anybody else's.
pub fn for_anthropic(signature: &str) -> Option<&str> {
    (!signature.starts_with(MARK)).then_some(signature)
}

/// A reasoning item of OpenAI's Responses as a signature. `keeper` is who can decrypt it: OpenAI, Azure and xAI speak
/// the same dialect, but none reads what another has encrypted.
pub fn of_responses(keeper: &str, id: &str, encrypted: &str) -> String {
    format!("{RESPONSES}{keeper}:{id}:{encrypted}")
}

/// Id and encrypted content of a reasoning item that `keeper` can decrypt; `None` for anybody else's proof.
pub fn for_responses<'a>(keeper: &str, signature: &'a str) -> Option<(&'a str, &'a str)> {
    let item = signature.strip_prefix(RESPONSES)?.strip_prefix(keeper)?.strip_prefix(':')?;
    item.split_once(':').filter(|(_, encrypted)| !encrypted.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_sees_only_its_own_proofs() {
        let (gemini, openai) = (of_gemini("CrIJ"), of_responses("openai", "rs_1", "gAAA:b=="));
        for (signature, anthropics, geminis, openais, xais) in [
            ("EqQB", Some("EqQB"), None, None, None),
            (&*gemini, None, Some("CrIJ"), None, None),
            (&*openai, None, None, Some(("rs_1", "gAAA:b==")), None),
            (&*of_responses("xai", "", "x"), None, None, None, Some(("", "x"))),
            ("tollgate:unsigned", None, None, None, None),
        ] {
            assert_eq!(for_anthropic(signature), anthropics, "{signature}");
            assert_eq!(for_gemini(signature), geminis, "{signature}");
            assert_eq!(for_responses("openai", signature), openais, "{signature}");
            assert_eq!(for_responses("xai", signature), xais, "{signature}");
        }
    }
}
