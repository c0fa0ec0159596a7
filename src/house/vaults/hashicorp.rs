//! HashiCorp Vault: how it is logged in to, how a lease goes on, how a field is read.
//! <https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2>

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::settings::VaultSettings;
use super::stores::{Local, Trouble, field_of};
use crate::executor::exchange;
use crate::house::check::{Base, base};
use crate::providers::percent::encoded;
use crate::providers::{GrantAnswer, GrantAsk, scrub};
use crate::settings::SecretRef;
use crate::upstream::Upstream;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Vault's own proxies can demand it, against requests that a browser was led to make.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Leases are not renewed more often than this.
const LEAST: Duration = Duration::from_millis(500);
/// A token that is refused makes way for another one at most so often.
const LOG_INS: Duration = Duration::from_secs(60);
/// How long is waited for a token that is given back.
const PARTING: Duration = Duration::from_secs(1);
/// A renewal that failed is tried again after this time at the latest.
const AGAIN: Duration = Duration::from_secs(30);

/// One Vault.
pub(super) struct Hashicorp {
    base: Base,
    namespace: Option<HeaderValue>,
    mount: String,
    login: Login,
    local: Local,
    upstream: Upstream,
    session: Mutex<Option<Session>>,
    /// When a token was last replaced because it was refused.
    replaced: std::sync::Mutex<Option<Instant>>,
}

/// As whom it is asked.
enum Login {
    Token(SecretRef),
    AppRole { mount: String, role_id: SecretRef, secret_id: SecretRef },
}

/// A token and its lease.
#[derive(Clone)]
struct Session {
    token: SecretString,
    /// How long it lives from `since` on; `None` where it has no end, or nobody knows.
    lease: Option<Duration>,
    /// How long it lived when it was given.
    whole: Option<Duration>,
    renewable: bool,
    since: Instant,
    /// When it is renewed.
    due: Option<Instant>,
}

/// What became of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Renewed {
    /// It goes on.
    Prolonged,
    /// It could not, and a new token is there.
    Login,
    /// There is nothing to be renewed.
    Nothing,
    /// It may end.
    Failed(String),
}

#[derive(Deserialize)]
struct AuthAnswer {
    auth: Option<Granted>,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(deserialize_with = "wiped")]
    client_token: Zeroizing<String>,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct LookupAnswer {
    data: Lookup,
}

#[derive(Deserialize)]
struct Lookup {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct ReadAnswer<'a> {
    #[serde(borrow)]
    data: Option<Versioned<'a>>,
}

#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow, default)]
    data: Option<HashMap<String, &'a RawValue>>,
    #[serde(default)]
    metadata: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Hashicorp {
    /// By its settings, and what the environment says in their place.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub(super) fn new(settings: &VaultSettings, local: Local, upstream: Upstream) -> Result<Self, String> {
        let address = settings.address.clone().or_else(|| local.plain("VAULT_ADDR"));
        let address = address.ok_or("no Vault is configured: set `secrets.vault.address`, or VAULT_ADDR")?;
        let base = base(&address).map_err(|what| format!("the address of Vault {what}"))?;
        let namespace = settings.namespace.clone().or_else(|| local.plain("VAULT_NAMESPACE"));
        let namespace = namespace.map(|name| HeaderValue::from_str(&name)).transpose();
        let login = match (&settings.app_role, &settings.token) {
            (Some(role), _) => Login::AppRole {
                mount: role.mount.clone().unwrap_or_else(|| "approle".to_owned()),
                role_id: role.role_id.clone(),
                secret_id: role.secret_id.clone(),
            },
            (None, Some(token)) => Login::Token(token.clone()),
            (None, None) => Login::Token(SecretRef::Env("VAULT_TOKEN".to_owned())),
        };
        Ok(Self {
            base,
            namespace: namespace.map_err(|_| "the namespace of Vault cannot stand in a header")?,
            mount: settings.mount.clone().unwrap_or_else(|| "secret".to_owned()),
            login,
            local,
            upstream,
            session: Mutex::default(),
            replaced: std::sync::Mutex::default(),
        })
    }

    /// Reads one field.
    pub(super) async fn read(&self, path: &str, field: &str) -> Result<Zeroizing<String>, Trouble> {
        let mut session = self.session().await?;
        let place = format!("{}/data/{}", self.mount, encoded(path, b"/"));
        let mut answer = self.send(Method::GET, &place, Some(&session.token), None).await?;
        // It may have ended before its time.
        if answer.status == 403
            && let Some(fresh) = self.another(&session).await?
        {
            session = fresh;
            answer = self.send(Method::GET, &place, Some(&session.token), None).await?;
        }
        match answer.status {
            200 => found(&answer.body, field).map_err(Trouble::Refused),
            403 => Err(Trouble::Refused(format!(
                "{}: the policies of the token do not allow `read` of `{}/data/{path}`, or it has ended",
                self.said(&answer, &[&session.token]),
                self.mount
            ))),
            404 => {
                let deleted = serde_json::from_slice::<ReadAnswer<'_>>(&answer.body)
                    .is_ok_and(|answer| answer.data.is_some_and(|data| data.metadata.is_some()));
                let what = match (deleted, path.starts_with(&format!("{}/", self.mount))) {
                    (true, _) => format!("the newest version of `{path}` was deleted"),
                    (false, true) => format!(
                        "there is no secret `{path}` in `{0}`: the path begins below the mount, without `{0}/`",
                        self.mount
                    ),
                    (false, false) => {
                        format!("there is no secret `{path}` in the KV store (version 2) at `{}`", self.mount)
                    }
                };
                Err(Trouble::Refused(what))
            }
            status => Err(trouble(status, self.said(&answer, &[&session.token]))),
        }
    }

    /// When the lease of the token has to be renewed.
    pub(super) async fn renewal(&self) -> Option<Instant> {
        self.session.lock().await.as_ref()?.due
    }

    /// Renews the lease, or gets another token where it cannot be.
    pub(super) async fn renew(&self) -> Renewed {
        let mut held = self.session.lock().await;
        let Some(session) = held.clone() else { return Renewed::Nothing };
        let renewed = if session.renewable { self.prolong(&session).await } else { Ok(None) };
        match renewed {
            Ok(Some(fresh)) => {
                *held = Some(fresh);
                return Renewed::Prolonged;
            }
            Ok(None) | Err(Trouble::Refused(_)) => {}
            Err(trouble) => {
                put_off(&mut held);
                return Renewed::Failed(trouble.to_string());
            }
        }
        let fresh = match &self.login {
            Login::AppRole { .. } => self.log_in().await,
            Login::Token(reference) => match self.local.resolve(reference) {
                Ok(token) if token.expose_secret() != session.token.expose_secret() => self.log_in().await,
                Ok(_) => Err(Trouble::Refused("the token cannot be renewed, and ends".into())),
                Err(error) => Err(Trouble::Refused(error)),
            },
        };
        match fresh {
            Ok(fresh) => {
                *held = Some(fresh);
                drop(held);
                self.give_back(&session).await;
                Renewed::Login
            }
            Err(trouble) => {
                put_off(&mut held);
                Renewed::Failed(trouble.to_string())
            }
        }
    }

    /// A token that is not known to have ended.
    async fn session(&self) -> Result<Session, Trouble> {
        let mut held = self.session.lock().await;
        let now = Instant::now();
        match &*held {
            Some(session) if session.lease.is_none_or(|lease| now < session.since + lease) => {
                Ok(session.clone())
            }
            _ => Ok(held.insert(self.log_in().await?).clone()),
        }
    }

    /// Another token than this one, which was refused; `None` where there is none.
    async fn another(&self, refused: &Session) -> Result<Option<Session>, Trouble> {
        let mut held = self.session.lock().await;
        let is_refused = |token: &SecretString| token.expose_secret() == refused.token.expose_secret();
        match &*held {
            Some(session) if !is_refused(&session.token) => return Ok(Some(session.clone())),
            _ => {}
        }
        match &self.login {
            Login::Token(reference) => {
                if self.local.resolve(reference).is_ok_and(|token| is_refused(&token)) {
                    return Ok(None);
                }
            }
            // A token that lives was refused for what it may, and so would the next one be.
            Login::AppRole { .. } => {
                if !self.may_replace() || self.lives(refused).await {
                    return Ok(None);
                }
            }
        }
        *held = None;
        let fresh = held.insert(self.log_in().await?).clone();
        drop(held);
        self.give_back(refused).await;
        Ok(Some(fresh))
    }

    /// Whether a token is let in at all, as far as it may ask that itself.
    async fn lives(&self, session: &Session) -> bool {
        let looked = self.send(Method::GET, "auth/token/lookup-self", Some(&session.token), None).await;
        let lives = looked.is_ok_and(|answer| answer.status == 200);
        if !lives {
            *self.replaced.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        lives
    }

    /// Whether it is long enough ago that a refused token was replaced: one without the right to look itself up
    /// may be refused for what it may, again and again.
    fn may_replace(&self) -> bool {
        let replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.is_none_or(|before| before.elapsed() >= LOG_INS)
    }

    /// The token that is held is not needed any more.
    pub(super) async fn close(&self) {
        let held = self.session.lock().await.take();
        if let Some(session) = held {
            self.give_back(&session).await;
        }
    }

    /// Has Vault forget a token that it made for us; one that somebody else handed in is his. Where this fails, it
    /// ends with its lease.
    async fn give_back(&self, session: &Session) {
        if let Login::AppRole { .. } = &self.login {
            let body = Some(Zeroizing::new(b"{}".to_vec()));
            let sent = self.send(Method::POST, "auth/token/revoke-self", Some(&session.token), body);
            match tokio::time::timeout(PARTING, sent).await {
                Ok(Ok(_)) => {}
                Ok(Err(trouble)) => tracing::debug!(%trouble, "a token of Vault was not given back"),
                Err(_) => tracing::debug!("a token of Vault was not given back in time"),
            }
        }
    }

    async fn log_in(&self) -> Result<Session, Trouble> {
        match &self.login {
            Login::Token(reference) => {
                let token = self.local.resolve(reference).map_err(Trouble::Refused)?;
                let answer = self.send(Method::GET, "auth/token/lookup-self", Some(&token), None).await?;
                // Without the right to look itself up, a token is used as long as it is let in.
                let lookup = match answer.status {
                    200 => serde_json::from_slice::<LookupAnswer>(&answer.body).ok(),
                    _ => None,
                };
                let (ttl, renewable) =
                    lookup.map_or((0, false), |answer| (answer.data.ttl, answer.data.renewable));
                Ok(Session::new(token, ttl, renewable, None))
            }
            Login::AppRole { mount, role_id, secret_id } => {
                let role_id = self.local.resolve(role_id).map_err(Trouble::Refused)?;
                let secret_id = self.local.resolve(secret_id).map_err(Trouble::Refused)?;
                #[derive(serde::Serialize)]
                struct Body<'a> {
                    role_id: &'a str,
                    secret_id: &'a str,
                }
                let body = Body { role_id: role_id.expose_secret(), secret_id: secret_id.expose_secret() };
                let body = Zeroizing::new(serde_json::to_vec(&body).unwrap_or_default());
                let answer =
                    self.send(Method::POST, &format!("auth/{mount}/login"), None, Some(body)).await?;
                match (answer.status, granted(&answer)) {
                    (200, Some(granted)) => Ok(Session::of(granted, None)),
                    (200, None) => Err(Trouble::Refused("the log-in by AppRole brought no token".into())),
                    (status, _) => {
                        let text = self.said(&answer, &[&role_id, &secret_id]);
                        Err(trouble(status, format!("the log-in by AppRole at `{mount}` failed: {text}")))
                    }
                }
            }
        }
    }

    /// The same token with more time; `None` where it has reached its end, so that another one is better.
    async fn prolong(&self, session: &Session) -> Result<Option<Session>, Trouble> {
        let body = Zeroizing::new(b"{}".to_vec());
        let answer =
            self.send(Method::POST, "auth/token/renew-self", Some(&session.token), Some(body)).await?;
        match (answer.status, granted(&answer)) {
            (200, Some(granted)) => {
                let fresh = Session::of(granted, session.whole);
                // Near its greatest age, each renewal gives less.
                let spent = fresh.lease < session.whole.map(|whole| whole / 2);
                let ends = spent && matches!(self.login, Login::AppRole { .. });
                Ok((!ends).then_some(fresh))
            }
            (200, None) => Ok(None),
            (status, _) => Err(trouble(status, self.said(&answer, &[&session.token]))),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&SecretString>,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<GrantAnswer, Trouble> {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        headers.extend(self.namespace.clone().map(|name| (NAMESPACE, name)));
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose_secret())
                .map_err(|_| Trouble::Refused("Vault's token cannot stand in a header".into()))?;
            value.set_sensitive(true);
            headers.insert(TOKEN, value);
        }
        if body.is_some() {
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let path_and_query = PathAndQuery::try_from(format!("{}/v1/{path}", self.base.path))
            .map_err(|_| Trouble::Refused("the path cannot stand in a URL".into()))?;
        let (origin, body) = (self.base.origin.clone(), body.unwrap_or_default());
        exchange(
            &self.upstream,
            GrantAsk { method, origin, path_and_query, headers, body, secrets: Vec::new() },
        )
        .await
        .map_err(|fault| Trouble::Away(format!("{}: {}", self.base.origin.authority(), fault.message)))
    }

    /// The status and Vault's own words, in which no secret of ours stands.
    fn said(&self, answer: &GrantAnswer, ours: &[&SecretString]) -> String {
        let errors = serde_json::from_slice::<Errors>(&answer.body).map(|body| body.errors.join("; "));
        let mut text = errors.unwrap_or_default();
        for secret in ours {
            text = text.replace(secret.expose_secret(), "…");
        }
        let known = match answer.status {
            503 => " (sealed, or in maintenance)",
            429 => " (a quota of its own: too many were asked for)",
            472 | 473 => " (a standby; name an address that leads to the active node)",
            300..=399 => {
                " (a redirect, which is not followed; name an address that leads to the active node)"
            }
            _ => "",
        };
        match scrub(&text) {
            Some(text) => format!("status {}{known}: {text}", answer.status),
            None => format!("status {}{known}", answer.status),
        }
    }
}

impl Session {
    fn of(granted: Granted, whole: Option<Duration>) -> Self {
        let token = SecretString::from(granted.client_token.as_str());
        Self::new(token, granted.lease_duration, granted.renewable, whole)
    }

    fn new(token: SecretString, ttl: u64, renewable: bool, whole: Option<Duration>) -> Self {
        let since = Instant::now();
        let lease = (ttl > 0).then(|| Duration::from_secs(ttl));
        // Two thirds, as Vault's own clients do it.
        let due = lease.map(|lease| since + (lease * 2 / 3).max(LEAST));
        Self { token, lease, whole: whole.or(lease), renewable, since, due }
    }
}

/// Tries again before the end, if there is time; afterwards, the next reading logs in.
fn put_off(held: &mut Option<Session>) {
    let Some(session) = held else { return };
    let now = Instant::now();
    let left = session.lease.map(|lease| (session.since + lease).saturating_duration_since(now));
    session.due = left.filter(|left| !left.is_zero()).map(|left| now + (left / 3).clamp(LEAST, AGAIN));
}

fn granted(answer: &GrantAnswer) -> Option<Granted> {
    let auth = serde_json::from_slice::<AuthAnswer>(&answer.body).ok()?.auth?;
    (!auth.client_token.is_empty()).then_some(auth)
}

/// Whether nobody can answer now, or the answer is no.
fn trouble(status: u16, text: String) -> Trouble {
    match status {
        408 | 412 | 429 | 472 | 473 | 500..=599 => Trouble::Away(text),
        _ => Trouble::Refused(text),
    }
}

/// The field in an answer. Nothing else of it is taken out.
fn found(body: &[u8], field: &str) -> Result<Zeroizing<String>, String> {
    let answer: ReadAnswer<'_> = serde_json::from_slice(body).map_err(|_| {
        "the answer is none of a KV store of version 2; is another engine mounted there?".to_owned()
    })?;
    let fields = answer.data.and_then(|data| data.data);
    let fields =
        fields.ok_or("the answer is none of a KV store of version 2; is version 1 mounted there?")?;
    field_of(&fields, field)
}

fn wiped<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_is_taken_out() {
        let body =
            br#"{"request_id":"x","data":{"data":{"key":"s3\u00e9cr3t","n":7},"metadata":{"version":3}}}"#;
        assert_eq!(found(body, "key").as_deref().map(String::as_str), Ok("s3écr3t"));
        for (body, field, part) in [
            (&body[..], "kez", "has no field `kez`; it has key, n"),
            (body, "n", "`n` is no text"),
            (br#"{"data":{"key":"v1"}}"#, "key", "is version 1 mounted there?"),
            (b"<html>", "key", "is another engine mounted there?"),
            (br#"{"data":{"data":null,"metadata":{"deletion_time":"x"}}}"#, "key", "version 1"),
        ] {
            let error = found(body, field).unwrap_err();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("cr3t"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn leases_are_renewed_at_two_thirds_and_tried_again_before_their_end() {
        let session = |ttl| Session::new(SecretString::from("t"), ttl, true, None);
        let now = Instant::now();
        assert_eq!(session(0).due, None, "a root token has no end");
        assert_eq!(session(3600).due, Some(now + Duration::from_secs(2400)));
        let mut held = Some(session(3600));
        tokio::time::advance(Duration::from_secs(2400)).await;
        put_off(&mut held);
        assert_eq!(held.as_ref().unwrap().due, Some(now + Duration::from_secs(2430)));
        tokio::time::advance(Duration::from_secs(1197)).await;
        put_off(&mut held);
        assert_eq!(held.as_ref().unwrap().due, Some(now + Duration::from_secs(3598)));
        tokio::time::advance(Duration::from_secs(3)).await;
        put_off(&mut held);
        assert_eq!(held.as_ref().unwrap().due, None);
    }
}
