//! The built-in kinds. Each pattern has a longest match, so that a stream is never held back without end, and ASCII word
//! boundaries, so that it runs as an automaton.

use crate::checksum::{iban, luhn};

/// One kind of what must not pass.
#[derive(Debug)]
pub struct Kind {
    /// As it is called in findings and in the configuration.
    pub name: &'static str,
    pub regex: &'static str,
    /// What a match must hold besides.
    pub check: Option<fn(&str) -> bool>,
    /// How sure a match is, from 0 to 1.
    pub score: f32,
    /// A text in which it is found.
    pub example: &'static str,
}

/// The first that matches at a place wins, so the narrow ones stand before the wide.
pub const BUILT_IN: [Kind; 9] = [
    Kind {
        name: "private-key",
        regex: r"-----BEGIN (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----",
        check: None,
        score: 1.0,
        example: "-----BEGIN RSA PRIVATE KEY-----",
    },
    Kind {
        // OpenAI, Anthropic, Stripe, GitHub, Slack, Google, AWS.
        name: "api-key",
        regex: r"(?-u:\b)(?:sk-[A-Za-z0-9_-]{16,128}|(?:sk|rk)_live_[A-Za-z0-9]{16,64}|gh[pousr]_[A-Za-z0-9]{36}|xox[abprs]-[A-Za-z0-9-]{10,72}|AIza[A-Za-z0-9_-]{35}|A(?:KIA|SIA)[A-Z0-9]{16})",
        check: None,
        score: 0.99,
        example: "the key is sk-abcdefghijklmnopqrstuvwx",
    },
    Kind {
        name: "email",
        regex: r"(?-u:\b)[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}(?-u:\b)",
        check: None,
        score: 0.98,
        example: "write to ada@example.org",
    },
    Kind {
        name: "iban",
        regex: r"(?-u:\b)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?-u:\b)",
        check: Some(iban),
        score: 0.99,
        example: "DE89 3704 0044 0532 0130 00",
    },
    Kind {
        name: "credit-card",
        regex: r"(?-u:\b)[3-6][0-9]{3}(?:[ -]?[0-9]{2,6}){2,5}(?-u:\b)",
        check: Some(luhn),
        score: 0.97,
        example: "4111 1111 1111 1111",
    },
    Kind {
        name: "us-ssn",
        regex: r"(?-u:\b)[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}(?-u:\b)",
        check: Some(|text| !text.starts_with("000") && !text.starts_with("666")),
        score: 0.9,
        example: "078-05-1120",
    },
    Kind {
        name: "ip-address",
        regex: r"(?-u:\b)(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})(?-u:\b)",
        check: None,
        score: 0.8,
        example: "10.1.2.3",
    },
    Kind {
        name: "phone",
        regex: r"\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?){2,6}(?-u:\b)",
        check: Some(|text| (7..=15).contains(&text.bytes().filter(u8::is_ascii_digit).count())),
        score: 0.85,
        example: "+33 1 23 45 67 89",
    },
    Kind {
        name: "us-phone",
        regex: r"\([2-9][0-9]{2}\) ?[0-9]{3}-[0-9]{4}(?-u:\b)",
        check: None,
        score: 0.85,
        example: "(212) 555-0142",
    },
];
