//! Keys of the configuration, what they are hashed with, and who verifies tokens.

use std::sync::Arc;

use super::Bench;
use crate::house::config::Config;
use crate::keys::{Auth, AuthMode, Keys, Verifier, Written};

/// The shortest key that is worth the name, in bytes.
const MIN_KEY: usize = 16;
/// The shortest pepper.
pub(in crate::house) const MIN_PEPPER: usize = 32;

impl Bench<'_> {
    /// The keys that stand in the configuration.
    pub(super) fn keys(&mut self, config: &Config) -> Vec<Written> {
        if self.secrets.are_imagined() {
            return Vec::new();
        }
        let mut keys = Vec::with_capacity(config.keys.len());
        for (name, terms) in &config.keys {
            let secret = match &terms.secret {
                None => None,
                Some(reference) => match self.secrets.resolve_token(reference, MIN_KEY) {
                    Ok(secret) => Some(secret),
                    Err(error) => {
                        let _: Option<()> =
                            self.problem(&["keys", name, "secret"], format!("key `{name}`: {error}"));
                        continue;
                    }
                },
            };
            keys.push(Written { name: name.as_str().into(), terms: terms.clone(), secret });
        }
        keys
    }

    /// Whether what stored keys are hashed with is there, where the configuration names it.
    pub(super) fn pepper(&mut self, config: &Config) {
        let reference = config.auth.pepper.as_ref().filter(|_| !self.secrets.are_imagined());
        if let Some(reference) = reference
            && let Err(error) = self.secrets.resolve_token(reference, MIN_PEPPER)
        {
            let _: Option<()> = self.problem(&["auth", "pepper"], format!("auth.pepper: {error}"));
        }
    }

    /// What clients must show.
    pub(super) fn auth(&mut self, config: &Config, keys: &Keys) -> Auth {
        let settings = &config.auth;
        match (settings.mode, &settings.jwt) {
            (AuthMode::None, _) => Auth::None,
            (AuthMode::Jwt, Some(jwt)) => {
                let jwks = keys.jwks(&jwt.jwks);
                jwks.refresh_every(jwt.refresh.0);
                if !jwt.jwks.contains("://") && !self.secrets.are_imagined() {
                    let read = std::fs::read(&jwt.jwks).map_err(|error| format!("cannot be read: {error}"));
                    if let Err(error) = read.and_then(|document| jwks.take(&document)) {
                        let message = format!("auth.jwt.jwks: `{}` {error}", jwt.jwks);
                        let _: Option<()> = self.problem(&["auth", "jwt", "jwks"], message);
                    }
                }
                Auth::Required(settings.failures, Some(Arc::new(Verifier::new(jwt.clone(), jwks))))
            }
            (AuthMode::Keys | AuthMode::Jwt, _) => Auth::Required(settings.failures, None),
        }
    }
}
