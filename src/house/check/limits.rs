//! `rate_limits:`: names that can be told apart, and limits that limit something.

use super::Desk;
use crate::limits::{RateLimitSettings, Rates};

/// The longest name of a limit.
const LONGEST: usize = 64;

impl Desk<'_> {
    /// Checks the limits towards clients.
    pub(super) fn rate_limits(&mut self) {
        let all = self.reading.config.rate_limits.clone();
        for (at, limit) in all.iter().enumerate() {
            let place = at.to_string();
            let RateLimitSettings { name, limits, .. } = limit;
            let at_name = ["rate_limits", &place, "name"];
            if !is_plain(name) {
                let help = "letters, digits, `.`, `_` and `-`, such as `each-user`";
                self.error(&at_name, format!("`{name}` is no name of a limit"), Some(help.into()));
            } else if name == "key" {
                let message = "`key` is what the limits in a key are called";
                self.error(&at_name, message, Some("choose another name".into()));
            } else if all.iter().take(at).any(|other| other.name == *name) {
                self.error(&at_name, format!("two limits are called `{name}`"), None);
            }
            for (field, complaint) in complaints(limits) {
                let message = format!("rate limit `{name}`: {complaint}");
                self.error(&["rate_limits", &place, "limits", field], message, None);
            }
        }
    }
}

/// What is wrong with limits, and where.
pub(super) fn complaints(rates: &Rates) -> Vec<(&'static str, String)> {
    let mut complaints = Vec::new();
    if rates.is_empty() {
        complaints.push(("requests", "nothing is limited: give `requests`, `tokens` or `concurrent`".into()));
    }
    let all = [
        ("requests", &rates.requests),
        ("tokens", &rates.tokens),
        ("input_tokens", &rates.input_tokens),
        ("output_tokens", &rates.output_tokens),
    ];
    for (field, rates) in all {
        for (at, rate) in rates.iter().enumerate() {
            if rates.iter().take(at).any(|other| other.period == rate.period) {
                complaints.push((field, format!("two rates per {} stand here", rate.period_name())));
            }
        }
    }
    if rates.concurrent == Some(0) {
        complaints.push(("concurrent", "`concurrent` must be more than 0".into()));
    }
    complaints
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= LONGEST && name.chars().all(plain)
}
