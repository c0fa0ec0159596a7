//! A Vault and a Secrets Manager that say what their stories want.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::acts;
use crate::gateway::CANARY;
use crate::upstream::{Act, Heard, Upstream};

/// Vault with a KV store of version 2 at any mount.
pub struct Vault {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, Value>,
    deleted: BTreeSet<String>,
    forbidden: BTreeSet<String>,
    /// Tokens and when they end.
    tokens: BTreeMap<String, Option<Instant>>,
    lease: Option<Duration>,
    no_renewals: bool,
    sealed: bool,
    counts: BTreeMap<&'static str, usize>,
    made: usize,
}

impl Vault {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        state.lock().unwrap().tokens.insert(token(0), None);
        let told = state.clone();
        let upstream = Upstream::start(move |heard| told.lock().unwrap().answer(heard));
        Self { upstream, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.upstream.address)
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.upstream.heard()
    }

    /// The token that is let in.
    pub fn token(&self) -> String {
        token(0)
    }

    /// Another one that is.
    pub fn another_token(&self) -> String {
        self.state.lock().unwrap().mint(None)
    }

    /// No token is let in any more.
    pub fn revoke(&self) {
        self.state.lock().unwrap().tokens.clear();
    }

    /// The role's id, and what proves it.
    pub fn role(&self) -> (String, String) {
        (format!("{CANARY}-role"), format!("{CANARY}-proof"))
    }

    pub fn set(&self, path: &str, fields: Value) {
        self.state.lock().unwrap().secrets.insert(path.to_owned(), fields);
    }

    pub fn delete(&self, path: &str) {
        self.state.lock().unwrap().deleted.insert(path.to_owned());
    }

    pub fn forbid(&self, path: &str) {
        self.state.lock().unwrap().forbidden.insert(path.to_owned());
    }

    pub fn lease(&self, lease: Duration) {
        self.state.lock().unwrap().lease = Some(lease);
    }

    pub fn renews(&self, renews: bool) {
        self.state.lock().unwrap().no_renewals = !renews;
    }

    pub fn seal(&self, sealed: bool) {
        self.state.lock().unwrap().sealed = sealed;
    }

    pub fn count(&self, what: &str) -> usize {
        self.state.lock().unwrap().counts.get(what).copied().unwrap_or_default()
    }
}

fn token(number: usize) -> String {
    format!("{CANARY}-token-{number}")
}

fn errors(status: u16, text: &str) -> Vec<Act> {
    acts::whole(status, &json!({ "errors": [text] }))
}

impl State {
    fn mint(&mut self, lease: Option<Duration>) -> String {
        self.made += 1;
        let token = token(self.made);
        self.tokens.insert(token.clone(), lease.map(|lease| Instant::now() + lease));
        token
    }

    fn granted(&mut self) -> Vec<Act> {
        let token = self.mint(self.lease);
        self.auth(&token)
    }

    fn auth(&self, token: &str) -> Vec<Act> {
        let seconds = self.lease.map_or(0, |lease| lease.as_secs());
        acts::whole(
            200,
            &json!({ "auth": { "client_token": token, "lease_duration": seconds, "renewable": true, "policies": ["default"] } }),
        )
    }

    fn answer(&mut self, heard: &Heard) -> Vec<Act> {
        if self.sealed {
            return errors(503, "Vault is sealed");
        }
        let path = heard.path.trim_start_matches("/v1/");
        if path == "auth/approle/login" {
            *self.counts.entry("login").or_default() += 1;
            let shown = heard.json();
            let fits = shown
                == json!({ "role_id": format!("{CANARY}-role"), "secret_id": format!("{CANARY}-proof") });
            return if fits { self.granted() } else { errors(400, "invalid role or secret ID") };
        }
        let token = heard.header("x-vault-token").unwrap_or_default().to_owned();
        let lives = self.tokens.get(&token).is_some_and(|end| end.is_none_or(|end| Instant::now() < end));
        if !lives {
            // This one repeats what it was shown.
            return errors(403, &format!("permission denied: {token}"));
        }
        match path {
            "auth/token/lookup-self" => {
                acts::whole(200, &json!({ "data": { "ttl": 0, "renewable": false } }))
            }
            "auth/token/revoke-self" => {
                *self.counts.entry("revoke-self").or_default() += 1;
                self.tokens.remove(&token);
                acts::whole(204, &json!({}))
            }
            "auth/token/renew-self" if self.no_renewals => errors(403, "permission denied"),
            "auth/token/renew-self" => {
                *self.counts.entry("renew-self").or_default() += 1;
                let end = self.lease.map(|lease| Instant::now() + lease);
                self.tokens.insert(token.clone(), end);
                self.auth(&token)
            }
            _ => self.read(path.split_once("/data/").map_or("", |(_, path)| path)),
        }
    }

    fn read(&self, path: &str) -> Vec<Act> {
        if self.forbidden.contains(path) {
            return errors(403, "permission denied");
        }
        if self.deleted.contains(path) {
            let metadata = json!({ "deletion_time": "2026-01-01T00:00:00Z", "version": 2 });
            return acts::whole(404, &json!({ "data": { "data": null, "metadata": metadata } }));
        }
        match self.secrets.get(path) {
            Some(fields) => {
                acts::whole(200, &json!({ "data": { "data": fields, "metadata": { "version": 1 } } }))
            }
            None => acts::whole(404, &json!({ "errors": [] })),
        }
    }
}

/// AWS Secrets Manager.
pub struct Manager {
    upstream: Upstream,
    state: Arc<Mutex<(BTreeMap<String, String>, bool)>>,
}

impl Manager {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new((BTreeMap::<String, String>::new(), false)));
        let told = state.clone();
        let upstream = Upstream::start(move |heard| {
            let state = told.lock().unwrap();
            let name = heard.json()["SecretId"].as_str().unwrap_or_default().to_owned();
            let refusal = |kind: &str| acts::whole(400, &json!({ "__type": kind, "Message": "no" }));
            match state.0.get(&name) {
                _ if state.1 => acts::whole(500, &json!({ "__type": "InternalServiceError" })),
                _ if heard.header("x-amz-target") != Some("secretsmanager.GetSecretValue") => {
                    refusal("InvalidRequestException")
                }
                _ if name == "denied" => refusal("AccessDeniedException"),
                Some(text) => acts::whole(
                    200,
                    &json!({ "ARN": "arn:x", "Name": name, "SecretString": text, "VersionStages": ["AWSCURRENT"] }),
                ),
                None => refusal("ResourceNotFoundException"),
            }
        });
        Self { upstream, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.upstream.address)
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.upstream.heard()
    }

    pub fn set(&self, name: &str, text: String) {
        self.state.lock().unwrap().0.insert(name.to_owned(), text);
    }

    pub fn away(&self, away: bool) {
        self.state.lock().unwrap().1 = away;
    }
}
