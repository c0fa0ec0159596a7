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

/// The beginning of a proof that a router of OpenAI's dialect passed on, with what the router wants back beside it.
const DETAIL: &str = "tollgate:detail:";

/// Marks a signature as Gemini's.
pub fn of_gemini(signature: &str) -> String {
    format!("{GEMINI}{signature}")
}

/// Gemini's own signature inside of a thinking signature; `None` for anybody else's.
pub fn for_gemini(signature: &str) -> Option<&str> {
    signature.strip_prefix(GEMINI).or_else(|| {
        Detail::read(signature)
            .filter(|detail| detail.format.starts_with("google-"))
            .map(|detail| detail.proof)
    })
}

/// Anthropic's own signature, or its own hidden thinking; `None` for anybody else's.
pub fn for_anthropic(signature: &str) -> Option<&str> {
    if !signature.starts_with(MARK) {
        return Some(signature);
    }
    Detail::read(signature)
        .filter(|detail| detail.format.starts_with("anthropic-"))
        .map(|detail| detail.proof)
}

/// One of the `reasoning_details` of OpenRouter and its kin: a proof of whatever provider stands behind the router.
/// <https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detail<'a> {
    /// Whose it is: `anthropic-claude-v1`, `google-gemini-v1`, `openai-responses-v1` …
    pub format: &'a str,
    /// Its place among the details.
    pub index: Option<u64>,
    /// Its id; empty without.
    pub id: &'a str,
    /// The signature, or the encrypted data.
    pub proof: &'a str,
}

impl<'a> Detail<'a> {
    /// Reads what [`Detail::mark`] wrote; `None` for other proofs.
    pub fn read(signature: &'a str) -> Option<Self> {
        let (format, rest) = signature.strip_prefix(DETAIL)?.split_once(':')?;
        let (index, rest) = rest.split_once(':')?;
        let (length, rest) = rest.split_once(':')?;
        let (id, proof) = rest.split_at_checked(length.parse().ok()?)?;
        Some(Self { format, index: index.parse().ok(), id, proof })
    }

    /// The detail as a signature, or as hidden thinking.
    pub fn mark(&self) -> String {
        let format = self.format.replace(':', "-");
        let index = self.index.map(|index| index.to_string()).unwrap_or_default();
        format!("{DETAIL}{format}:{index}:{}:{}{}", self.id.len(), self.id, self.proof)
    }
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
    fn a_routers_detail_comes_back_whole() {
        for (format, index, id) in
            [("anthropic-claude-v1", Some(2), ""), ("", None, "rs_1:a"), ("xai", Some(0), "é")]
        {
            let detail = Detail { format, index, id, proof: "EqQB:=" };
            assert_eq!(Detail::read(&detail.mark()), Some(detail));
        }
        let of = |format| Detail { format, index: None, id: "", proof: "EqQB" }.mark();
        let (claudes, googles) = (of("anthropic-claude-v1"), of("google-gemini-v1"));
        assert_eq!((for_anthropic(&claudes), for_gemini(&claudes)), (Some("EqQB"), None));
        assert_eq!((for_anthropic(&googles), for_gemini(&googles)), (None, Some("EqQB")));
        for odd in
            ["tollgate:detail:", "tollgate:detail:a:b", "tollgate:detail:a:1:9:x", "tollgate:detail:a:1:1:é"]
        {
            assert_eq!((Detail::read(odd), for_anthropic(odd)), (None, None), "{odd}");
        }
    }

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
