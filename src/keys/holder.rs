//! A key as it is kept, and its holder as requests see them.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::secret::{Digest, Hasher};
use super::settings::KeyTerms;
use crate::caller::Grant;
use crate::caller::cidr::Cidr;
use crate::limits::{KeyRules, Limits};

/// A key, without its secret.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its public id.
    pub id: Arc<str>,
    /// The name that people gave it.
    pub name: Arc<str>,
    /// What was agreed on.
    pub terms: KeyTerms,
    /// Hashes of its secrets; several while one takes over from another.
    pub secrets: Vec<Shown>,
    /// When it was made, in Unix milliseconds; 0 for one of the configuration.
    pub created_ms: u64,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
    /// Whether it stands in the configuration.
    pub written: bool,
}

/// One secret of a key, as it is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its hash.
    pub digest: Digest,
    /// Whether that is a plain SHA-256.
    pub sha256: bool,
    /// When it ends, in Unix milliseconds.
    pub until_ms: Option<u64>,
}

/// A key that stands in the configuration.
#[derive(Debug, Clone)]
pub struct Written {
    /// Its name there, and its id.
    pub name: Arc<str>,
    /// What was agreed on.
    pub terms: KeyTerms,
    /// Its secret, where that is known.
    pub secret: Option<SecretString>,
}

/// Who holds a key or a token.
pub struct Holder {
    /// Public id of the key, or issuer and subject of the token.
    pub key_id: Arc<str>,
    /// The user.
    pub user: Option<Arc<str>>,
    /// The team.
    pub team: Option<Arc<str>>,
    /// What is granted.
    pub grant: Arc<Grant>,
    /// The limits that stand in the key itself.
    pub rules: Option<KeyRules>,
    pub(super) expires_ms: Option<u64>,
    /// Neither revoked nor disabled.
    pub(super) in_service: bool,
}

impl Written {
    pub(super) fn into_key(self, hasher: &Hasher) -> Key {
        let secret = self.secret.as_ref().map(|secret| Shown {
            digest: hasher.digest(secret.expose_secret()),
            sha256: false,
            until_ms: None,
        });
        let hash = self.terms.hash.as_deref().and_then(parse_hash);
        let hash = hash.map(|digest| Shown { digest, sha256: true, until_ms: None });
        Key {
            id: self.name.clone(),
            name: self.name,
            terms: self.terms,
            secrets: secret.into_iter().chain(hash).collect(),
            created_ms: 0,
            revoked_ms: None,
            written: true,
        }
    }
}

/// `sha256:` and 64 hexadecimal digits.
pub(super) fn parse_hash(text: &str) -> Option<Digest> {
    let digits = text.strip_prefix("sha256:")?;
    blake3::Hash::from_hex(digits).ok().map(|hash| *hash.as_bytes())
}

impl KeyTerms {
    /// What is wrong with what was said of a key, in words.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(hash) = &self.hash
            && parse_hash(hash).is_none()
        {
            return Err(("hash", "is not `sha256:` and 64 hexadecimal digits".into()));
        }
        if let Some(cost) = self.scope.max_cost
            && !(cost.is_finite() && cost > 0.0)
        {
            return Err(("scope", "`max_cost` must be more than 0 dollars".into()));
        }
        for text in self.sources.iter().flatten() {
            text.parse::<Cidr>().map_err(|error| ("sources", error))?;
        }
        let names = [("user", &self.user), ("team", &self.team), ("app", &self.app)];
        let long = names.into_iter().find(|(_, name)| name.as_ref().is_some_and(|name| name.len() > 256));
        let tags = self.tags.iter().any(|(key, value)| {
            key.is_empty()
                || key.len() > 64
                || value.len() > 256
                || key.contains([',', '='])
                || value.contains(',')
        });
        match (long, tags) {
            (Some((field, _)), _) => Err((field, "names are at most 256 bytes long".into())),
            (_, true) => Err(("tags", "a tag is a name of up to 64 bytes without `,` and `=`, and a value of up to 256 bytes without `,`".into())),
            _ => Ok(()),
        }
    }

    fn grant(&self, name: &Arc<str>) -> Grant {
        let shared = |all: &[String]| all.iter().map(|text| text.as_str().into()).collect();
        // What is no block of addresses was refused before; if it were here, it would let nobody in.
        let parse = |all: &Vec<String>| all.iter().filter_map(|text| text.parse().ok()).collect();
        Grant {
            name: name.clone(),
            app: self.app.as_deref().map(Into::into),
            scope: self.scope.clone(),
            priority: self.priority,
            sources: self.sources.as_ref().map(parse),
            rate_limits: shared(&self.rate_limits),
            budgets: shared(&self.budgets),
            tags: self.tags.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
        }
    }
}

impl Key {
    pub(super) fn holder(&self, limits: &Limits) -> Holder {
        let terms = &self.terms;
        Holder {
            key_id: self.id.clone(),
            user: terms.user.as_deref().map(Into::into),
            team: terms.team.as_deref().map(Into::into),
            grant: Arc::new(terms.grant(&self.name)),
            rules: (!terms.limits.is_empty()).then(|| limits.key_rules(&terms.limits)),
            expires_ms: self.expires_ms(),
            in_service: self.revoked_ms.is_none() && !terms.disabled,
        }
    }

    /// When it ends.
    pub fn expires_ms(&self) -> Option<u64> {
        self.terms.expires.map(|date| date.unix().saturating_mul(1_000))
    }

    /// `active`, `disabled`, `expired` or `revoked`.
    pub fn state(&self, now_ms: u64) -> &'static str {
        match () {
            () if self.revoked_ms.is_some() => "revoked",
            () if self.expires_ms().is_some_and(|end| end <= now_ms) => "expired",
            () if self.terms.disabled => "disabled",
            () => "active",
        }
    }
}
