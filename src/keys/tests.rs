//! What keys promise: who is let in, who is not, and how little is said of it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Uri};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::caller::Scope;
use crate::facts::Endpoint;
use crate::settings::Rate;

const SECRET: &str = "a-secret-of-some-length";

fn keys(terms: KeyTerms) -> Keys {
    let keys = Keys::new(Arc::new(Limits::new(Instant::now())));
    let secret = Some(SecretString::from(SECRET.to_owned()));
    keys.configure(vec![Written { name: "k".into(), terms, secret }]);
    keys
}

fn at_the_door(keys: &Keys, shown: &str, now_ms: u64) -> Result<String, (u16, String)> {
    with_tokens(keys, None, shown, now_ms)
}

fn with_tokens(
    keys: &Keys,
    verifier: Option<&Arc<Verifier>>,
    shown: &str,
    now_ms: u64,
) -> Result<String, (u16, String)> {
    let failures = Rate { count: 3, period: Duration::from_secs(60), burst: None };
    let auth = Auth::Required(failures, verifier.cloned());
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", shown.parse().unwrap());
    let visit = Visit {
        headers: &headers,
        uri: &Uri::from_static("/v1/messages"),
        address: Some([10, 0, 0, 7].into()),
        endpoint: Some(Endpoint::Chat),
        now_ms,
        since: Instant::now(),
        now: Instant::now(),
    };
    let found = keys.identify(&auth, &visit);
    found
        .map(|holder| holder.unwrap().key_id.to_string())
        .map_err(|fault| (fault.client_status(), fault.message.to_string()))
}

#[tokio::test(start_paused = true)]
async fn who_shows_nothing_good_hears_the_same_for_every_reason() {
    let sources = |text: &str| Some(vec![text.to_owned()]);
    let scope = Scope { endpoints: Some(vec![Endpoint::Embeddings]), ..Scope::default() };
    for (why, terms, shown, expected) in [
        ("good", KeyTerms::default(), SECRET, 200),
        ("unknown", KeyTerms::default(), "another-secret", 401),
        ("disabled", KeyTerms { disabled: true, ..KeyTerms::default() }, SECRET, 401),
        (
            "expired",
            KeyTerms { expires: Some("1970-01-01".parse().unwrap()), ..KeyTerms::default() },
            SECRET,
            401,
        ),
        (
            "not yet expired",
            KeyTerms { expires: Some("1970-01-02".parse().unwrap()), ..KeyTerms::default() },
            SECRET,
            200,
        ),
        ("from here", KeyTerms { sources: sources("10.0.0.0/8"), ..KeyTerms::default() }, SECRET, 200),
        ("from elsewhere", KeyTerms { sources: sources("10.1.0.0/16"), ..KeyTerms::default() }, SECRET, 401),
        ("from nowhere", KeyTerms { sources: Some(Vec::new()), ..KeyTerms::default() }, SECRET, 401),
        ("for something else", KeyTerms { scope, ..KeyTerms::default() }, SECRET, 403),
    ] {
        let found = at_the_door(&keys(terms), shown, 1_000);
        let status = found.as_ref().map_or_else(|(status, _)| *status, |_| 200);
        assert_eq!(status, expected, "{why}");
        if let Err((401, message)) = found {
            assert_eq!(message, "missing or invalid API key", "{why}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failing_too_often_costs_time_but_never_a_good_key() {
    let keys = keys(KeyTerms::default());
    let statuses: Vec<_> = (0..5).map(|_| at_the_door(&keys, "no", 0).unwrap_err().0).collect();
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    assert!(at_the_door(&keys, SECRET, 0).is_ok());
    tokio::time::advance(Duration::from_secs(20)).await;
    assert_eq!(at_the_door(&keys, "no", 0).unwrap_err().0, 401);
}

#[tokio::test(start_paused = true)]
async fn failures_behind_an_address_keep_no_good_token_out_unless_very_many_are_forged() {
    let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
    let jwks = Arc::new(Jwks::default());
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    let set = json!({ "keys": [ { "kty": "OKP", "crv": "Ed25519", "kid": "one", "x": x } ] });
    jwks.take(set.to_string().as_bytes()).unwrap();
    let settings = r#"{ "jwks": "keys.json", "issuer": "https://id.example", "audience": "tollgate" }"#;
    let verifier = Arc::new(Verifier::new(serde_json::from_str(settings).unwrap(), jwks));
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = |whose: &str| {
        let claims = json!({ "iss": "https://id.example", "aud": "tollgate", "sub": whose, "exp": 4e9 });
        let signed = format!("{}.{}", part(json!({ "alg": "EdDSA", "kid": "one" })), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    };
    let forged = format!("{}A", token("eve"));

    let keys = keys(KeyTerms::default());
    let status = |shown: &str| {
        let found = with_tokens(&keys, Some(&verifier), shown, 0);
        found.map_or_else(|(status, _)| status, |_| 200)
    };
    assert_eq!(status(&token("ann")), 200);
    let wrong: Vec<_> = (0..5).map(|_| status("no")).collect();
    assert_eq!(wrong, [401, 401, 401, 429, 429]);
    assert_eq!(status(&token("ann")), 200, "remembered");
    assert_eq!(status(&token("bob")), 200, "not seen before");
    assert!((0..100).all(|_| status(&forged) == 429));
    assert_eq!(status(&token("bob")), 200, "remembered");
    assert_eq!(status(&token("eva")), 429, "no more signatures are checked");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(status(&token("eva")), 200);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_new_key_waits_until_the_keys_were_read_again() {
    let pair = || {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap()
    };
    let key = |pair: &Ed25519KeyPair, id: &str, algorithm: &str| {
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "alg": algorithm, "x": x })
    };
    let token = |pair: &Ed25519KeyPair, id: &str| {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({ "iss": "i", "aud": "a", "sub": "ann", "exp": 4e9 });
        let signed = format!("{}.{}", part(json!({ "alg": "EdDSA", "kid": id })), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    };
    let (old, new) = (pair(), pair());
    let jwks = Arc::new(Jwks::default());
    let set = json!({ "keys": [key(&old, "old", "EdDSA")] });
    jwks.take(set.to_string().as_bytes()).unwrap();
    let settings = r#"{ "jwks": "https://id.example", "issuer": "i", "audience": "a" }"#;
    let verifier = Arc::new(Verifier::new(serde_json::from_str(settings).unwrap(), jwks.clone()));
    let keys = keys(KeyTerms::default());
    let status = |shown: &str| {
        let found = with_tokens(&keys, Some(&verifier), shown, 0);
        found.map_or_else(|(status, _)| status, |_| 200)
    };
    assert_eq!(status(&token(&new, "new")), 401, "nobody reads files again for a token");
    jwks.refresh_every(Duration::from_secs(600));
    jwks.begin();
    assert_eq!(status(&token(&new, "new")), 503, "they are being read");
    jwks.end();
    assert_eq!((status(&token(&new, "new")), status(&token(&old, "old"))), (401, 200), "just read");
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(status(&token(&new, "new")), 503, "it may have been made since then");
    assert!(!jwks.is_due(), "not at once");
    tokio::time::advance(Duration::from_millis(500)).await;
    assert!(jwks.is_due());
    for _ in 0..5 {
        jwks.begin();
        jwks.end();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(status(&token(&new, "new")), 401, "nobody makes it be read without end");
    assert!(!jwks.is_due());
    tokio::time::advance(JWKS_PAUSE).await;
    assert_eq!(status(&token(&new, "new")), 503, "they will be");
    let auth = Auth::Required(
        Rate { count: 3, period: Duration::from_secs(60), burst: None },
        Some(verifier.clone()),
    );
    let began = Instant::now();
    auth.renewed().await;
    assert_eq!(began.elapsed().as_secs(), 3, "nobody waits for long");
    let reads = async {
        jwks.begin();
        tokio::time::sleep(Duration::from_millis(700)).await;
        let set = json!({ "keys": [key(&old, "old", "Ed25519"), key(&new, "new", "EdDSA"), key(&old, "other", "ES256")] });
        jwks.take(set.to_string().as_bytes()).unwrap();
        jwks.end();
    };
    tokio::join!(auth.renewed(), reads);
    assert_eq!(began.elapsed().as_millis() / 100, 37, "as soon as they were read");
    assert_eq!((status(&token(&new, "new")), status(&token(&old, "old"))), (200, 200));
    // Failures are forgotten by then.
    tokio::time::advance(Duration::from_secs(120)).await;
    jwks.begin();
    jwks.end();
    assert_eq!(status(&token(&old, "other")), 401, "a key that is for something else");
}

#[tokio::test(start_paused = true)]
async fn an_old_secret_ends_when_its_time_is_over() {
    let keys = Keys::new(Arc::new(Limits::new(Instant::now())));
    let (old, new) = (mint(Some("000000000000")).unwrap().secret, mint(Some("000000000000")).unwrap().secret);
    let shown = |secret: &SecretString, until_ms| Shown {
        digest: keys.hasher().digest(secret.expose_secret()),
        sha256: false,
        until_ms,
    };
    keys.stored(vec![Key {
        id: "000000000000".into(),
        name: "k".into(),
        terms: KeyTerms::default(),
        secrets: vec![shown(&old, Some(1_000)), shown(&new, None)],
        created_ms: 0,
        revoked_ms: None,
        written: false,
    }]);
    let found = |secret: &SecretString, now_ms| at_the_door(&keys, secret.expose_secret(), now_ms).is_ok();
    assert!(found(&old, 999) && found(&new, 999));
    assert!(!found(&old, 1_000) && found(&new, 1_000));
}

#[test]
fn keys_name_limits_and_budgets_that_there_are() {
    let promised = Promised {
        rate_limits: vec!["gold".into()],
        budgets: vec![("purse".into(), true), ("everything".into(), false)],
        providers: Vec::new(),
    };
    let limits = |name: &str| KeyTerms { rate_limits: vec![name.into()], ..KeyTerms::default() };
    let budgets = |name: &str| KeyTerms { budgets: vec![name.into()], ..KeyTerms::default() };
    for (terms, expected) in [
        (limits("gold"), None),
        (limits("golf"), Some(("rate_limits", "there is no limit `golf`"))),
        (budgets("purse"), None),
        (budgets("nurse"), Some(("budgets", "there is no budget `nurse`"))),
        (budgets("everything"), Some(("budgets", "budget `everything` counts what its `for` says"))),
    ] {
        let told = promised.check(&terms).err();
        let matches = match (&told, expected) {
            (None, None) => true,
            (Some((field, text)), Some((at, begins))) => *field == at && text.starts_with(begins),
            _ => false,
        };
        assert!(matches, "{told:?} {expected:?}");
    }
}
