//! Keys of providers that look like any word, so that they cannot be kept out of what a provider says of an error.

use secrecy::ExposeSecret as _;

use super::{Diagnostics, House};
use crate::executor::can_be_hidden;
use crate::target::Reach;

impl House {
    /// Warnings of such keys. What cannot be read is told elsewhere, and keys of one's own machines (`none`, `ollama`)
    /// are seldom secrets.
    pub fn tellable(&self) -> Diagnostics {
        let mut found = Vec::new();
        for provider in self.checked.providers.values() {
            if provider.base.as_ref().is_none_or(|base| base.origin.reach != Reach::Public) {
                continue;
            }
            for (place, key) in provider.pool.iter().enumerate() {
                let Ok(secret) = self.secrets().resolve(&key.secret) else { continue };
                if can_be_hidden(secret.expose_secret().as_bytes()) {
                    continue;
                }
                let message = format!(
                    "the secret `{}` is too short to be told from other words: error texts of `{}` that repeat it reach clients and logs",
                    key.secret, provider.name
                );
                let path = ["providers", &*provider.name, "keys", &place.to_string()];
                found.push(self.fault_at(&path, message).warning());
            }
        }
        Diagnostics::in_order(found)
    }
}
