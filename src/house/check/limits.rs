//! `rate_limits:`: names that can be told apart, and limits that limit something.

use super::Desk;
use crate::limits::RateLimitSettings;

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
            let at_limits = ["rate_limits", &place, "limits"];
            if limits.is_empty() && self.reading.is_sound(&at_limits) {
                let message =
                    format!("rate limit `{name}` limits nothing: give `requests`, `tokens` or `concurrent`");
                self.error(&at_limits, message, None);
            }
            for (field, complaint) in limits.complaints() {
                let message = format!("rate limit `{name}`: {complaint}");
                self.error(&["rate_limits", &place, "limits", field], message, None);
            }
        }
    }
}

/// Whether a name can stand in headers and addresses as it is.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= LONGEST && name.chars().all(plain)
}
