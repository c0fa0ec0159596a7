//! Proofs of thinking: whose they are, so that a conversation that moves between providers shows each only its own.
//!
//! A signature in [`Part::Thinking`](super::Part::Thinking) that Gemini made begins with [`GEMINI`]; [`COHERE_PLAN`]
//! marks a plan of Cohere's; one without a known beginning is Anthropic's, as it came. The signature of a tool call is always Gemini's and stands as it came:
//! nobody else signs calls.

/// The beginning of a thinking signature that Gemini made. The rest is Gemini's own `thoughtSignature`.
pub const GEMINI: &str = "gemini:";

/// Marks thinking that was Cohere's `tool_plan`, which must go back as one. Nothing is proven by it.
pub const COHERE_PLAN: &str = "cohere:tool_plan";

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
    (!signature.starts_with(GEMINI) && signature != COHERE_PLAN).then_some(signature)
}
