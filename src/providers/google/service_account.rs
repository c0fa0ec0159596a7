//! A service account's key: a signed claim is exchanged for a token (RFC 7523).
//! <https://developers.google.com/identity/protocols/oauth2/service-account#httprest>

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::uri::PathAndQuery;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use std::sync::Arc;
use zeroize::Zeroizing;

use super::{Fields, SCOPE, TOKEN_URL, optional, required};
use crate::fault::{Fault, FaultKind};
use crate::providers::grant::{Grant, GrantAnswer, GrantAsk, GrantStep, Granted, bearer, identity};
use crate::providers::locate::locate;
use crate::target::Origin;

/// Google takes no claim that lives longer.
const LIFE_S: u64 = 3600;

pub(super) struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    key: RsaKeyPair,
    token_url: String,
    place: (Origin, PathAndQuery),
    identity: [u8; 32],
}

impl ServiceAccount {
    pub(super) fn read(fields: &Fields) -> Result<Self, String> {
        let email = required(fields, "client_email")?;
        let pem = required(fields, "private_key")?;
        let token_url = optional(fields, "token_uri").unwrap_or(TOKEN_URL);
        Ok(Self {
            email: email.to_owned(),
            key_id: optional(fields, "private_key_id").map(str::to_owned),
            key: key(pem).map_err(|what| format!("`private_key` {what}"))?,
            place: locate(token_url).map_err(|what| format!("`token_uri` {what}"))?,
            token_url: token_url.to_owned(),
            identity: identity(&[b"service_account", email.as_bytes(), pem.as_bytes(), token_url.as_bytes()]),
        })
    }

    /// The claim, signed.
    fn assertion(&self, unix_ms: u64) -> Result<Zeroizing<String>, Fault> {
        let now = unix_ms / 1000;
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(id) = &self.key_id {
            header["kid"] = id.as_str().into();
        }
        let claims = json!({
            "iss": self.email, "scope": SCOPE, "aud": self.token_url, "iat": now, "exp": now + LIFE_S,
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| Fault::new(FaultKind::Internal, "the claim could not be signed"))?;
        Ok(Zeroizing::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

fn key(pem: &str) -> Result<RsaKeyPair, &'static str> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "is no key in PEM form")?;
    let pair = match &der {
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(PrivatePkcs8KeyDer::secret_pkcs8_der(key)),
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err("is no RSA key"),
    };
    pair.map_err(|_| "is no RSA key of 2048 to 4096 bits")
}

impl Grant for ServiceAccount {
    fn step(&self, answers: &[GrantAnswer], unix_ms: u64) -> Result<GrantStep, Fault> {
        if let Some(answer) = answers.first() {
            let (signer, expires_ms) = bearer(answer, unix_ms)?;
            return Ok(GrantStep::Done(Granted { signer: Arc::new(signer), expires_ms }));
        }
        let assertion = self.assertion(unix_ms)?;
        let fields =
            [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &**assertion)];
        let (origin, path) = self.place.clone();
        Ok(GrantAsk::form(origin, path, &fields).into())
    }

    fn identity(&self) -> [u8; 32] {
        self.identity
    }
}
