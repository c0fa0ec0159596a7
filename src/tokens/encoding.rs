//! The public encodings of OpenAI's models. Their tables are read when the first text is counted, and stay.

use bpe_openai::{Tokenizer, cl100k_base, o200k_base};

/// A byte-pair encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// GPT-3.5, GPT-4, and OpenAI's embeddings.
    Cl100k,
    /// GPT-4o and everything after it.
    O200k,
}

impl Encoding {
    /// As OpenAI names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cl100k => "cl100k_base",
            Self::O200k => "o200k_base",
        }
    }

    /// How many tokens a text has. Takes a millisecond for some ten kilobytes, and the first time as long as it takes to
    /// read the table: not for workers.
    pub fn count(self, text: &str) -> u64 {
        self.tokenizer().count(text) as u64
    }

    /// The text of these tokens; `None` where some are none, or no text comes of them. Takes as long as [`Self::count`].
    pub fn text(self, tokens: &[u32]) -> Option<String> {
        let tokenizer = self.tokenizer();
        let all = tokenizer.bpe.num_tokens();
        let are_known = tokens.iter().all(|token| usize::try_from(*token).is_ok_and(|token| token < all));
        if are_known { tokenizer.decode(tokens) } else { None }
    }

    fn tokenizer(self) -> &'static Tokenizer {
        match self {
            Self::Cl100k => cl100k_base(),
            Self::O200k => o200k_base(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts of OpenAI's own library, by its published examples.
    #[test]
    fn texts_have_the_tokens_that_openai_says() {
        for (text, cl100k, o200k) in [
            ("", 0, 0),
            ("tiktoken is great!", 6, 6),
            ("antidisestablishmentarianism", 6, 6),
            ("2 + 2 = 4", 7, 7),
            ("お誕生日おめでとう", 9, 8),
            ("hello world", 2, 2),
            ("   spaces   at  odd places   ", 8, 8),
        ] {
            let counts = (Encoding::Cl100k.count(text), Encoding::O200k.count(text));
            assert_eq!(counts, (cl100k, o200k), "{text:?}");
        }
    }

    #[test]
    fn tokens_are_text_again() {
        for (tokens, expected) in [
            (&[15339, 1917][..], Some("hello world")),
            (&[], Some("")),
            (&[100_256], None),
            (&[u32::MAX], None),
        ] {
            assert_eq!(Encoding::Cl100k.text(tokens).as_deref(), expected, "{tokens:?}");
        }
    }
}
