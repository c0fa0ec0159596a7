//! `auth:` and `keys:`: somebody can come in, and only who is meant.

use super::Desk;
use super::base_url::base;
use super::limits::is_plain;
use crate::house::config::Config;
use crate::keys::{AuthMode, JwtSettings, KeyTerms, Promised};

impl Desk<'_> {
    /// Checks who may ask.
    pub(super) fn who_may_ask(&mut self) {
        let config = &self.reading.config;
        let (auth, keys) = (config.auth.clone(), config.keys.clone());
        let has_store = config.state.ledger.is_some();
        match (auth.mode, &auth.jwt) {
            (AuthMode::None, _) if !keys.is_empty() => {
                let message = "these keys open nothing: nobody has to show one";
                self.warning(&["keys"], message, Some("set `auth: keys`".into()));
            }
            (AuthMode::Keys, _) if keys.is_empty() && !has_store => {
                let message = "nobody can ask: there are no keys, and no database that could have some";
                let help = "write keys under `keys:`, or set `state.ledger` and make some with `tollgate keys create`";
                self.warning(&["auth"], message, Some(help.into()));
            }
            (AuthMode::Jwt, None) => {
                let help = "name the identity provider under `auth.jwt`: `jwks`, `issuer`, `audience`";
                self.error(&["auth", "mode"], "`jwt` needs to know whose tokens count", Some(help.into()));
            }
            _ => {}
        }
        if let Some(jwt) = &auth.jwt {
            self.jwt(jwt);
        }
        for (name, terms) in &keys {
            self.virtual_key(name, terms);
        }
    }

    fn jwt(&mut self, jwt: &JwtSettings) {
        for (field, text) in [("issuer", &jwt.issuer), ("audience", &jwt.audience), ("jwks", &jwt.jwks)] {
            if text.trim().is_empty() {
                self.error(&["auth", "jwt", field], format!("`auth.jwt.{field}` is empty"), None);
            }
        }
        if jwt.jwks.contains("://")
            && let Err(error) = base(&jwt.jwks)
        {
            let message = format!("`auth.jwt.jwks`: the address {error}");
            self.error(
                &["auth", "jwt", "jwks"],
                message,
                Some("write `https://…`, or the path of a file".into()),
            );
        }
        if jwt.refresh.0.as_secs() < 10 {
            self.error(&["auth", "jwt", "refresh"], "`auth.jwt.refresh` must be at least 10s", None);
        }
        if jwt.leeway.0.as_secs() > 600 {
            self.error(&["auth", "jwt", "leeway"], "`auth.jwt.leeway` must be at most 10m", None);
        }
    }

    fn virtual_key(&mut self, name: &str, terms: &KeyTerms) {
        let at = ["keys", name];
        if !is_plain(name) {
            let help = "letters, digits, `.`, `_` and `-`";
            self.error(&at, format!("`{name}` is no name of a key"), Some(help.into()));
        }
        if terms.secret.is_some() == terms.hash.is_some() {
            let message = format!("key `{name}` needs either `secret` or `hash`");
            let help = "`secret: env:NAME`, or the `hash` that `tollgate keys generate` prints";
            self.error(&at, message, Some(help.into()));
        }
        if let Err((field, what)) = terms.check() {
            self.error(&["keys", name, field], format!("key `{name}`: `{field}`: {what}"), None);
        }
        for (field, what) in terms.limits.complaints() {
            self.error(&["keys", name, "limits", field], format!("key `{name}`: {what}"), None);
        }
        let config = &self.reading.config;
        let promised = promised(config);
        let (misnamed, missing) = (promised.check(terms).err(), promised.missing(terms));
        if let Some((field, what)) = misnamed {
            self.error(&["keys", name, field], format!("key `{name}`: {what}"), None);
        }
        if let Some(provider) = missing {
            let message = format!("key `{name}`: there is no provider `{provider}`");
            self.warning(&["keys", name, "scope", "providers"], message, None);
        }
    }
}

/// What keys may name.
pub(in crate::house) fn promised(config: &Config) -> Promised {
    Promised {
        rate_limits: config.rate_limits.iter().map(|limit| limit.name.clone()).collect(),
        budgets: config.budgets.iter().map(|budget| (budget.name.clone(), budget.by_name)).collect(),
        providers: config.providers.keys().cloned().collect(),
    }
}
