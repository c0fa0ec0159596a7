//! What providers say of their limits in the headers of every answer.

use std::time::Duration;

use http::HeaderMap;

use super::retry_after;

/// How the limits stand that an answer tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Allowance {
    /// Requests.
    pub requests: Option<Standing>,
    /// Tokens of prompts and answers.
    pub tokens: Option<Standing>,
    /// Tokens of prompts.
    pub input: Option<Standing>,
    /// Tokens of answers.
    pub output: Option<Standing>,
}

/// How one limit stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// The most.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// When all of it is free again.
    pub full_in: Option<Duration>,
}

/// One form: whose it is, what it is called in the names of its headers, and what it is about.
struct Form(Vendor, &'static str, fn(&mut Allowance) -> &mut Option<Standing>);

/// How the three headers of a form are put together.
#[derive(Clone, Copy, PartialEq)]
enum Vendor {
    /// `x-ratelimit-{limit|remaining|reset}-{form}`
    Usual,
    /// `anthropic-ratelimit-{form}-{limit|remaining|reset}`
    Anthropic,
}

/// The forms in which vendors say it. Of several that are about the same, the first that an answer has counts. Whether a
/// day or a minute is meant is seen by how fast it fills.
/// <https://platform.openai.com/docs/guides/rate-limits>, <https://console.groq.com/docs/rate-limits>,
/// <https://inference-docs.cerebras.ai/support/rate-limits>, <https://platform.claude.com/docs/en/api/rate-limits>
const FORMS: [Form; 9] = [
    Form(Vendor::Usual, "requests", requests),
    Form(Vendor::Usual, "req-minute", requests),
    Form(Vendor::Usual, "requests-day", requests),
    Form(Vendor::Usual, "tokens", tokens),
    Form(Vendor::Usual, "tokens-minute", tokens),
    Form(Vendor::Anthropic, "requests", requests),
    Form(Vendor::Anthropic, "tokens", tokens),
    Form(Vendor::Anthropic, "input-tokens", input),
    Form(Vendor::Anthropic, "output-tokens", output),
];

/// What the three headers of a form tell, in the order of [`place`].
type Three<'a> = [Option<&'a str>; 3];

impl Vendor {
    /// The name of a header without what is common to all, cut into form and part.
    fn cut(name: &str) -> Option<(Self, &str, &str)> {
        if let Some(rest) = name.strip_prefix("x-ratelimit-") {
            let (part, form) = rest.split_once('-')?;
            return Some((Self::Usual, form, part));
        }
        let (form, part) = name.strip_prefix("anthropic-ratelimit-")?.rsplit_once('-')?;
        Some((Self::Anthropic, form, part))
    }
}

impl Allowance {
    /// What the headers of an answer say, if they say anything. Garbage is passed over.
    pub fn read(headers: &HeaderMap, now_ms: u64) -> Option<Self> {
        let mut said: [Three<'_>; FORMS.len()] = Default::default();
        for (name, value) in headers {
            if let Some((vendor, form, part)) = Vendor::cut(name.as_str())
                && let Some(at) = FORMS.iter().position(|known| known.0 == vendor && known.1 == form)
                && let Some(slot) = place(part).and_then(|place| said[at].get_mut(place))
                && slot.is_none()
            {
                *slot = value.to_str().ok().map(str::trim);
            }
        }
        let mut all = Self::default();
        for (Form(.., slot), [limit, remaining, reset]) in FORMS.iter().zip(said) {
            let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
            let (Some(limit), Some(remaining)) = (number(limit), number(remaining)) else { continue };
            if limit == 0 || remaining > limit {
                continue;
            }
            let full_in = reset.and_then(|value| retry_after::until_full(value, now_ms));
            slot(&mut all).get_or_insert(Standing { limit, remaining, full_in });
        }
        (all != Self::default()).then_some(all)
    }
}

fn place(part: &str) -> Option<usize> {
    ["limit", "remaining", "reset"].iter().position(|known| *known == part)
}

fn requests(all: &mut Allowance) -> &mut Option<Standing> {
    &mut all.requests
}

fn tokens(all: &mut Allowance) -> &mut Option<Standing> {
    &mut all.tokens
}

fn input(all: &mut Allowance) -> &mut Option<Standing> {
    &mut all.input
}

fn output(all: &mut Allowance) -> &mut Option<Standing> {
    &mut all.output
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Option<Allowance> {
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        // 2026-01-01T00:00:00Z.
        Allowance::read(&HeaderMap::from_iter(headers), 1_767_225_600_000)
    }

    fn standing(limit: u64, remaining: u64, ms: Option<u64>) -> Option<Standing> {
        Some(Standing { limit, remaining, full_in: ms.map(Duration::from_millis) })
    }

    #[test]
    fn every_vendors_words_are_understood() {
        let openai = read(&[
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("x-ratelimit-reset-requests", "6ms"),
            ("x-ratelimit-limit-tokens", "30000000"),
            ("x-ratelimit-remaining-tokens", "29999985"),
            ("x-ratelimit-reset-tokens", "1m30s"),
        ])
        .unwrap();
        assert_eq!(openai.requests, standing(10_000, 9_999, Some(6)));
        assert_eq!(openai.tokens, standing(30_000_000, 29_999_985, Some(90_000)));
        let anthropic = read(&[
            ("anthropic-ratelimit-input-tokens-limit", "2000000"),
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-01-01T00:00:30Z"),
            ("anthropic-ratelimit-output-tokens-limit", "400000"),
            ("anthropic-ratelimit-output-tokens-remaining", "400000"),
            ("anthropic-ratelimit-output-tokens-reset", "2025-12-31T23:59:59Z"),
        ])
        .unwrap();
        assert_eq!(anthropic.input, standing(2_000_000, 0, Some(30_000)));
        assert_eq!(anthropic.output, standing(400_000, 400_000, Some(0)));
        let mistral = read(&[
            ("x-ratelimit-limit-req-minute", "100"),
            ("x-ratelimit-remaining-req-minute", "99"),
            ("x-ratelimit-limit-tokens-minute", "100000"),
            ("x-ratelimit-remaining-tokens-minute", "99969"),
            ("x-ratelimit-limit-tokens-month", "200000000000"),
        ])
        .unwrap();
        assert_eq!(
            (mistral.requests, mistral.tokens),
            (standing(100, 99, None), standing(100_000, 99_969, None))
        );
    }

    #[test]
    fn what_is_not_understood_limits_nothing() {
        assert_eq!(read(&[("content-type", "text/plain")]), None);
        assert_eq!(read(&[("x-ratelimit-limit", "2"), ("x-ratelimit-remaining", "1")]), None);
        for (limit, remaining) in [("many", "1"), ("10", "-1"), ("0", "0"), ("10", "11"), ("10", "")] {
            let said =
                read(&[("x-ratelimit-limit-requests", limit), ("x-ratelimit-remaining-requests", remaining)]);
            assert_eq!(said, None, "{limit} {remaining}");
        }
    }
}
