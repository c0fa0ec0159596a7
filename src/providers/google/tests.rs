//! Every type of credentials, step by step, with a key made for the test.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::super::credential::Signable;
use super::super::grant::{GrantAnswer, GrantAsk, GrantStep, Granted};
use super::*;

const NOW_MS: u64 = 1_700_000_000_000;
const KEY: &str = include_str!("../../../tests/fixtures/service_account_key.pem");

fn fields(value: Value) -> Fields {
    value.as_object().cloned().unwrap()
}

fn grant(value: Value) -> Box<dyn Grant> {
    credentials(&fields(value)).unwrap().grant
}

fn answer(status: u16, body: &str) -> GrantAnswer {
    GrantAnswer::wiping(status, HeaderMap::new(), bytes::Bytes::copy_from_slice(body.as_bytes()))
}

fn ask(step: GrantStep) -> GrantAsk {
    let GrantStep::Ask(ask) = step else { panic!("an ask") };
    *ask
}

fn done(step: GrantStep) -> Granted {
    let GrantStep::Done(granted) = step else { panic!("done") };
    granted
}

fn form(ask: &GrantAsk) -> Vec<(String, String)> {
    let text = String::from_utf8(ask.body.to_vec()).unwrap();
    let undo = |text: &str| {
        let mut out = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            } else {
                out.push(byte);
            }
        }
        String::from_utf8(out).unwrap()
    };
    text.split('&').map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), undo(v))).collect()
}

/// The headers that what was granted puts into a request.
fn headers(granted: &Granted) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let request = Signable {
        method: &Method::POST,
        authority: "h",
        path_and_query: &"/".parse().unwrap(),
        headers: &mut headers,
        body: &[],
    };
    granted.signer.sign(request, 0).unwrap();
    headers
}

fn service_account() -> Value {
    json!({
        "type": "service_account", "project_id": "my-project", "private_key_id": "k1", "private_key": KEY,
        "client_email": "bot@my-project.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token",
    })
}

#[test]
fn a_service_accounts_claim_is_signed_by_its_key() {
    let read = credentials(&fields(service_account())).unwrap();
    assert_eq!(read.project.as_deref(), Some("my-project"));
    let first = ask(read.grant.step(&[], NOW_MS).unwrap());
    assert_eq!((first.method.as_str(), first.origin.authority().as_str()), ("POST", "oauth2.googleapis.com"));
    let form = form(&first);
    assert_eq!(form[0], ("grant_type".into(), "urn:ietf:params:oauth:grant-type:jwt-bearer".into()));
    let (name, jwt) = &form[1];
    assert_eq!(name, "assertion");
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let read_part =
        |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    assert_eq!(read_part(header), json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    assert_eq!(
        read_part(claims),
        json!({
            "iss": "bot@my-project.iam.gserviceaccount.com", "scope": SCOPE, "aud": TOKEN_URL,
            "iat": 1_700_000_000, "exp": 1_700_003_600,
        })
    );
    let public = public_key();
    ring::signature::UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, public)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .expect("the public key proves the claim");

    let token = answer(200, r#"{"access_token":"ya29.x","expires_in":3599}"#);
    let granted = done(read.grant.step(&[token], NOW_MS).unwrap());
    assert_eq!(granted.expires_ms, NOW_MS + 3_599_000);
    assert_eq!(headers(&granted)["authorization"], "Bearer ya29.x");
    assert!(headers(&granted)["authorization"].is_sensitive());
}

fn public_key() -> Vec<u8> {
    use ring::signature::KeyPair;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject;
    let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    ring::signature::RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap().public_key().as_ref().to_vec()
}

#[test]
fn a_persons_refresh_token_and_who_pays() {
    let grant = grant(json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "se cret", "refresh_token": "1//r",
        "quota_project_id": "payer",
    }));
    let first = ask(grant.step(&[], NOW_MS).unwrap());
    assert_eq!(form(&first)[2], ("client_secret".into(), "se cret".into()));
    assert_eq!(form(&first)[3], ("refresh_token".into(), "1//r".into()));
    let granted =
        done(grant.step(&[answer(200, r#"{"access_token":"t","expires_in":10}"#)], NOW_MS).unwrap());
    assert_eq!(headers(&granted)["x-goog-user-project"], "payer");
}

#[test]
fn the_metadata_server_wants_its_flavour() {
    for (host, authority) in [(None, "metadata.google.internal"), (Some("127.0.0.1:9"), "127.0.0.1:9")] {
        let first = ask(Metadata::new(host).unwrap().step(&[], NOW_MS).unwrap());
        assert_eq!(first.origin.authority(), authority);
        assert_eq!(first.path_and_query, "/computeMetadata/v1/instance/service-accounts/default/token");
        assert_eq!(first.headers["metadata-flavor"], "Google");
    }
    assert!(Metadata::new(Some("evil.example.com")).is_err(), "plain http leaves the house");
}

#[test]
fn a_federated_token_is_exchanged_and_then_acts_for_an_account() {
    let grant = grant(json!({
        "type": "external_account", "audience": "//iam.googleapis.com/x", "token_url": "https://sts.googleapis.com/v1/token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "credential_source": {"file": "/var/run/token", "format": {"type": "json", "subject_token_field_name": "id"}},
        "service_account_impersonation_url":
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b:generateAccessToken",
    }));
    let GrantStep::Read(path) = grant.step(&[], NOW_MS).unwrap() else { panic!("a file first") };
    assert_eq!(path.to_str(), Some("/var/run/token"));
    let mut answers = vec![GrantAnswer::file(Some(br#"{"id":"theirs"}"#.to_vec()))];
    let exchange = ask(grant.step(&answers, NOW_MS).unwrap());
    assert_eq!(form(&exchange).last().unwrap(), &("subject_token".into(), "theirs".into()));
    answers.push(answer(200, r#"{"access_token":"federated","expires_in":3600}"#));
    let acting = ask(grant.step(&answers, NOW_MS).unwrap());
    assert_eq!(acting.origin.authority(), "iamcredentials.googleapis.com");
    assert_eq!(acting.headers["authorization"], "Bearer federated");
    answers.push(answer(200, r#"{"accessToken":"final","expireTime":"2023-11-14T23:13:20Z"}"#));
    let granted = done(grant.step(&answers, NOW_MS).unwrap());
    assert_eq!(headers(&granted)["authorization"], "Bearer final");
    assert_eq!(granted.expires_ms, NOW_MS + 3_600_000);

    let missing = grant.step(&[GrantAnswer::file(None)], NOW_MS).err().unwrap();
    assert_eq!(missing.kind, crate::fault::FaultKind::Credentials);
}

#[test]
fn impersonation_begins_with_its_source() {
    let grant = grant(json!({
        "type": "impersonated_service_account", "delegates": ["projects/-/serviceAccounts/d"],
        "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/x:generateAccessToken",
        "source_credentials": {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"},
    }));
    assert_eq!(ask(grant.step(&[], NOW_MS).unwrap()).origin.authority(), "oauth2.googleapis.com");
    let acting = ask(grant.step(&[answer(200, r#"{"access_token":"mine"}"#)], NOW_MS).unwrap());
    let body: Value = serde_json::from_slice(&acting.body).unwrap();
    assert_eq!(body["delegates"], json!(["projects/-/serviceAccounts/d"]));
    assert_eq!(acting.headers["authorization"], "Bearer mine");
}

#[test]
fn secrets_are_told_apart_and_broken_files_say_what_is_wrong() {
    assert!(matches!(read("AIzaSyA"), Ok(Secret::ApiKey)));
    assert!(matches!(read("ya29.token"), Ok(Secret::AccessToken)));
    assert!(matches!(read(&service_account().to_string()), Ok(Secret::Credentials(_))));
    for (change, expected) in [
        (json!({"type": null}), "has no `type`"),
        (json!({"type": "gdch_service_account"}), "are not known"),
        (json!({"private_key": "x"}), "`private_key` is no key in PEM form"),
        (json!({"client_email": ""}), "has no `client_email`"),
        (
            json!({"token_uri": "http://evil.example.com/"}),
            "`token_uri` would send credentials over plain http",
        ),
    ] {
        let mut account = fields(service_account());
        account.extend(fields(change.clone()));
        let complaint = credentials(&account).err().unwrap_or_default();
        assert!(complaint.contains(expected), "{change}: {complaint}");
    }
    assert!(read("{").is_err());
}
