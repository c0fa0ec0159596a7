//! Tokens of an identity provider (RFC 7519): signature, issuer, audience and time are checked, claims become who calls.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::sync::Cache;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::Holder;
use super::identify::Refusal;
use super::jwks::Jwks;
use super::settings::{ClaimSettings, JwtSettings};
use crate::caller::{Grant, Priority, Scope};

/// The longest token that is looked at.
const LONGEST: usize = 16 << 10;

/// Tokens that were good, so that one signature is not checked for every request.
const REMEMBERED: u64 = 10_000;
const FORGET: Duration = Duration::from_secs(60);

/// Verifies tokens by the rules of one configuration.
pub struct Verifier {
    settings: JwtSettings,
    jwks: Arc<Jwks>,
    good: Cache<[u8; 32], Arc<Holder>>,
}

impl Verifier {
    /// By these rules, with these keys.
    pub fn new(settings: JwtSettings, jwks: Arc<Jwks>) -> Self {
        // Not longer than a minute: a key that is withdrawn shall count soon.
        let good = Cache::builder().max_capacity(REMEMBERED).time_to_live(FORGET).build();
        Self { settings, jwks, good }
    }

    /// Who shows this token, which came at the moment `since`. Of one that is not remembered, the signature is checked only
    /// if `may_check`.
    pub(super) fn verify(
        &self,
        token: &str,
        now_ms: u64,
        since: Instant,
        may_check: impl FnOnce() -> bool,
    ) -> Result<Arc<Holder>, Refusal> {
        if token.len() > LONGEST {
            return Err(Refusal::For("token"));
        }
        let name = *blake3::hash(token.as_bytes()).as_bytes();
        if let Some(holder) = self.good.get(&name) {
            return Ok(holder);
        }
        if !may_check() {
            return Err(Refusal::For("token"));
        }
        let claims = self.claims(token, since)?;
        let holder = Arc::new(self.holder(&claims, now_ms).ok_or(Refusal::For("token"))?);
        self.good.insert(name, holder.clone());
        Ok(holder)
    }

    /// Waits until the provider's keys were read again, for a moment at most.
    pub(super) async fn renewed(&self) {
        self.jwks.renewed().await;
    }

    /// The claims of a token whose signature is good.
    fn claims(&self, token: &str, since: Instant) -> Result<Map<String, Value>, Refusal> {
        let bad = || Refusal::For("token");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(bad)?;
        let (head, claims) = signed.split_once('.').ok_or_else(bad)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| bad());
        let head: Map<String, Value> = serde_json::from_slice(&decode(head)?).map_err(|_| bad())?;
        // What must be understood and is not (RFC 7515, 4.1.11).
        if head.contains_key("crit") {
            return Err(bad());
        }
        let text = |name: &str| head.get(name).and_then(Value::as_str);
        if !self.jwks.is_ready() {
            return Err(Refusal::Unready);
        }
        let signature = decode(signature)?;
        match self.jwks.verify(text("alg").ok_or_else(bad)?, text("kid"), signed.as_bytes(), &signature) {
            Some(true) => serde_json::from_slice(&decode(claims)?).map_err(|_| bad()),
            Some(false) => Err(bad()),
            // The provider may have a new key.
            None if self.jwks.want(since) => Err(Refusal::Renewing),
            None => Err(bad()),
        }
    }

    /// Whoever the claims name; `None` if the token is for somebody else, or not for now.
    fn holder(&self, claims: &Map<String, Value>, now_ms: u64) -> Option<Holder> {
        let JwtSettings { issuer, audience, leeway, claims: names, .. } = &self.settings;
        let leeway_ms = u64::try_from(leeway.0.as_millis()).unwrap_or(0);
        let is_for_us = match claims.get("aud")? {
            Value::String(one) => one == audience,
            Value::Array(many) => many.iter().any(|one| one == audience.as_str()),
            _ => false,
        };
        let ends_ms = milliseconds(claims.get("exp")?)?.saturating_add(leeway_ms);
        let begun = claims.get("nbf").is_none_or(|begin| {
            milliseconds(begin).is_some_and(|begin| begin <= now_ms.saturating_add(leeway_ms))
        });
        if claims.get("iss")? != issuer.as_str() || !is_for_us || ends_ms <= now_ms || !begun {
            return None;
        }
        let shared = |name: &str| text(claims, name).map(Into::into);
        Some(Holder {
            key_id: key_id(claims, &names.user)?.into(),
            user: shared(&names.user),
            team: shared(&names.team),
            grant: Arc::new(grant(claims, names)?),
            rules: None,
            expires_ms: Some(ends_ms),
            in_service: true,
        })
    }
}

/// By what limits, caches and kept answers tell the holders of tokens apart: whom a token is about, else its user, else
/// the application that it was made for. Without any of them, all such tokens would be one: there is no holder.
fn key_id(claims: &Map<String, Value>, user: &str) -> Option<String> {
    let named = |name: &str| text(claims, name).filter(|text| !text.is_empty());
    let instead = [user, "client_id", "azp"];
    if let Some(subject) = named("sub") {
        // A subject that looks like what stands for one is told apart from it.
        let looks = |name: &str| subject.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
        let claim = if looks("sub") || instead.into_iter().any(looks) { "sub=" } else { "" };
        return Some(format!("jwt:{claim}{subject}"));
    }
    instead.iter().find_map(|name| Some(format!("jwt:{name}={}", named(name)?)))
}

/// What a token grants. A restriction that cannot be read is no permission: then there is no holder.
fn grant(claims: &Map<String, Value>, names: &ClaimSettings) -> Option<Grant> {
    let list = |name: &str| match find(claims, name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => words(value).map(Some),
    };
    let tags = names.tags.iter().filter_map(|(tag, claim)| {
        let value = text(claims, claim)?.replace(',', " ");
        Some((tag.as_str().into(), short(&value).into()))
    });
    let priority = match find(claims, &names.priority) {
        None | Some(Value::Null) => Priority::default(),
        Some(value) => value.as_str()?.parse().ok()?,
    };
    Some(Grant {
        name: "jwt".into(),
        priority,
        scope: Scope { models: list(&names.models)?, providers: list(&names.providers)?, ..Scope::default() },
        rate_limits: list(&names.rate_limits)?.unwrap_or_default().into_iter().map(Into::into).collect(),
        tags: tags.collect(),
        ..Grant::default()
    })
}

/// Texts of a list, or words of a text.
fn words(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(text.split_whitespace().map(str::to_owned).collect()),
        Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// A claim by its name, or by a path with dots in it.
fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        find(claims.get(first)?.as_object()?, rest)
    })
}

fn text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    match find(claims, name)? {
        Value::String(text) => Some(short(text).to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// At most 256 bytes of a text.
fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(256)).unwrap_or(text)
}

/// Seconds since 1970, which may have a fraction.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked, and a float saturates")]
fn milliseconds(value: &Value) -> Option<u64> {
    value.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| (seconds * 1_000.0) as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_without_a_subject_are_not_all_one() {
        for (claims, expected) in [
            (json!({ "sub": "ann", "email": "a@x" }), Some("jwt:ann")),
            (json!({ "sub": 7 }), Some("jwt:7")),
            (json!({ "email": "a@x", "azp": "app" }), Some("jwt:email=a@x")),
            (json!({ "sub": "", "client_id": "ci", "azp": "app" }), Some("jwt:client_id=ci")),
            (json!({ "azp": "app" }), Some("jwt:azp=app")),
            (json!({ "sub": "email=a@x" }), Some("jwt:sub=email=a@x")),
            (json!({ "sub": "sub=email=a@x" }), Some("jwt:sub=sub=email=a@x")),
            (json!({ "sub": "other=a@x" }), Some("jwt:other=a@x")),
            (json!({ "sub": "", "jti": "1" }), None),
            (json!({}), None),
        ] {
            let all = claims.as_object().unwrap();
            assert_eq!(key_id(all, "email").as_deref(), expected, "{claims}");
        }
    }
}
