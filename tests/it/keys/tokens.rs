//! Tokens of an identity provider: whose signature, for whom, and for how long.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::chat_as;
use crate::acts;
use crate::client::{self, ask};
use crate::gateway::{self, provider};
use crate::upstream::Upstream;

const CONFIG: &str = "
auth:
  mode: jwt
  jwt: { jwks: keys.json, issuer: \"https://id.example\", audience: tollgate, claims: { tags: { dept: org.dept } } }
models: { fast: { targets: [ up/m ] }, slow: { targets: [ up/m ] } }
";

enum Signer {
    Ed(Ed25519KeyPair),
    Es(EcdsaKeyPair),
}

impl Signer {
    fn ed() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn es() -> Self {
        let (random, form) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(form, &random).unwrap();
        Self::Es(EcdsaKeyPair::from_pkcs8(form, pkcs8.as_ref(), &random).unwrap())
    }

    fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": URL_SAFE_NO_PAD.encode(pair.public_key()) })
            }
            Self::Es(pair) => {
                let point = pair.public_key().as_ref();
                let part = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": part(&point[1..33]), "y": part(&point[33..]) })
            }
        }
    }

    fn token(&self, id: &str, claims: &Value) -> String {
        let algorithm = if matches!(self, Self::Ed(_)) { "EdDSA" } else { "ES256" };
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed =
            format!("{}.{}", part(&json!({ "alg": algorithm, "typ": "JWT", "kid": id })), part(claims));
        let signature = match self {
            Self::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            Self::Es(pair) => pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn claims(more: Value) -> Value {
    let mut claims = json!({
        "iss": "https://id.example", "aud": ["other", "tollgate"], "sub": "ann", "exp": 4_000_000_000_u64,
        "team": "legal", "org": { "dept": "contracts" },
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test]
async fn a_token_says_who_asks_and_a_wrong_one_says_nothing() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let (ed, es, stranger) = (Signer::ed(), Signer::es(), Signer::ed());
    let set = json!({ "keys": [ ed.jwk("one"), es.jwk("two"), { "kty": "oct", "k": "AA" } ] });
    let gateway = gateway::setup(&format!("providers:\n{}{CONFIG}", provider("up", &upstream.url())))
        .file("keys.json", &set.to_string())
        .start();
    for (id, signer) in [("one", &ed), ("two", &es)] {
        let reply = chat_as(gateway.clients, &signer.token(id, &claims(json!({}))), &ask("fast")).await;
        assert_eq!(reply.said(), "hello", "{id}");
        let record = gateway.record(reply.header("x-request-id")).await;
        assert_eq!((&record["key"], &record["team"]), (&json!("jwt:ann"), &json!("legal")), "{record}");
        assert_eq!(
            (&record["facts"]["user"], &record["tags"]),
            (&json!("ann"), &json!([["dept", "contracts"]]))
        );
    }
    let good = ed.token("one", &claims(json!({})));
    let (head, rest) = good.split_once('.').unwrap();
    let none = URL_SAFE_NO_PAD.encode(json!({ "alg": "none" }).to_string());
    let symmetric = URL_SAFE_NO_PAD.encode(json!({ "alg": "HS256", "kid": "one" }).to_string());
    let payload = rest.split_once('.').unwrap().0;
    for (why, token) in [
        ("another's signature", stranger.token("one", &claims(json!({})))),
        ("an unknown key", ed.token("three", &claims(json!({})))),
        ("another issuer", ed.token("one", &claims(json!({ "iss": "https://evil.example" })))),
        ("for somebody else", ed.token("one", &claims(json!({ "aud": "other" })))),
        ("too old", ed.token("one", &claims(json!({ "exp": 1_600_000_000 })))),
        ("without an end", ed.token("one", &claims(json!({ "exp": null })))),
        ("not yet", ed.token("one", &claims(json!({ "nbf": 3_900_000_000_u64 })))),
        ("an unreadable restriction", ed.token("one", &claims(json!({ "tollgate": { "models": 7 } })))),
        ("no priority", ed.token("one", &claims(json!({ "tollgate": { "priority": "urgent" } })))),
        ("no algorithm", format!("{none}.{payload}.")),
        ("a symmetric one", format!("{symmetric}.{payload}.AAAA")),
        ("no signature", format!("{head}.{payload}.")),
    ] {
        let reply = chat_as(gateway.clients, &token, &ask("fast")).await;
        assert_eq!((reply.status, &reply.error()["code"]), (401, &json!("invalid_api_key")), "{why}");
    }
    let scoped =
        ed.token("one", &claims(json!({ "tollgate": { "models": "fast other", "priority": "high" } })));
    assert_eq!(chat_as(gateway.clients, &scoped, &ask("fast")).await.said(), "hello");
    assert_eq!(chat_as(gateway.clients, &scoped, &ask("slow")).await.status, 403);

    // The provider has a new key: its file is read again.
    gateway.save("keys.json", &json!({ "keys": [ stranger.jwk("four") ] }).to_string());
    let fresh = stranger.token("four", &claims(json!({ "sub": "bob" })));
    client::eventually_async("the new key", async || {
        (chat_as(gateway.clients, &fresh, &ask("fast")).await.status == 200).then_some(())
    })
    .await;
}
