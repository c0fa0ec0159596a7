//! Providers on Vertex AI: names that will stand in addresses.

use super::Desk;
use crate::providers::{GoogleSettings, ProviderSettings};

impl Desk<'_> {
    /// The settings, with names that lead nowhere else.
    pub(super) fn google(&mut self, name: &str, own: &ProviderSettings) -> GoogleSettings {
        let google = own.google.clone().unwrap_or_default();
        for (field, value) in [("project", &google.project), ("location", &google.location)] {
            let Some(value) = value else { continue };
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-:.".contains(c);
            let dots = value.chars().all(|c| c == '.');
            if value.is_empty() || dots || !value.chars().all(good) {
                let message = format!("{value:?} is no name of a {field}");
                self.error(&["providers", name, "google", field], message, None);
            }
        }
        if google.credentials.is_some() && !own.keys.is_empty() {
            let message = format!("`{name}` has `keys` and `google.credentials`: the credentials are used");
            self.warning(&["providers", name, "keys"], message, None);
        }
        google
    }
}
