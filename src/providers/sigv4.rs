//! AWS's signature (version 4) over a request, made by AWS's own crate.
//!
//! Signed are the host, the content type and the headers that begin with `x-amz-`: proxies on the way may change the
//! others.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{Sign, Signable};
use crate::fault::{Fault, FaultKind};

/// Keys of an AWS account. Wiped when dropped.
pub struct AwsKeys {
    /// The key's name.
    pub access_key_id: SecretString,
    /// The key.
    pub secret_access_key: SecretString,
    /// Comes with keys that end soon.
    pub session_token: Option<SecretString>,
}

/// Signs requests to one service in one region.
pub struct SigV4 {
    identity: Identity,
    region: String,
    service: &'static str,
}

impl SigV4 {
    /// A signer with these keys.
    pub fn new(keys: &AwsKeys, region: impl Into<String>, service: &'static str) -> Self {
        let token = keys.session_token.as_ref().map(|token| token.expose_secret().to_owned());
        let (id, key) = (keys.access_key_id.expose_secret(), keys.secret_access_key.expose_secret());
        let identity = Credentials::new(id, key, token, None, "tollgate").into();
        Self { identity, region: region.into(), service }
    }

    fn headers(&self, request: &Signable<'_>, unix_ms: u64) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let params = v4::SigningParams::builder()
            .identity(&self.identity)
            .region(&self.region)
            .name(self.service)
            .time(UNIX_EPOCH + Duration::from_millis(unix_ms))
            .settings(SigningSettings::default())
            .build()
            .ok()?;
        // The scheme is no part of what is signed.
        let uri = format!("https://{}{}", request.authority, request.path_and_query);
        let host = ("host", request.authority);
        let headers = signed(request.headers).chain([host]);
        let body = SignableBody::Precomputed(digest(request.body));
        let signable = SignableRequest::new(request.method.as_str(), uri, headers, body).ok()?;
        let (output, _) = sign(signable, &params.into()).ok()?.into_parts();
        let (headers, _) = output.into_parts();
        headers
            .iter()
            .map(|header| {
                let mut value = HeaderValue::from_str(header.value()).ok()?;
                value.set_sensitive(header.sensitive() || header.name() == "authorization");
                Some((HeaderName::from_static(header.name()), value))
            })
            .collect()
    }
}

impl Sign for SigV4 {
    fn sign(&self, request: Signable<'_>, unix_ms: u64) -> Result<(), Fault> {
        let headers = self
            .headers(&request, unix_ms)
            .ok_or_else(|| Fault::new(FaultKind::Internal, "the request cannot be signed for AWS"))?;
        request.headers.extend(headers);
        Ok(())
    }
}

/// The headers to sign besides the host.
fn signed(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .iter()
        .filter(|(name, _)| *name == CONTENT_TYPE || name.as_str().starts_with("x-amz-"))
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
}

/// SHA-256 of the body in lowercase hexadecimal digits.
fn digest(body: &[bytes::Bytes]) -> String {
    let mut hash = Sha256::new();
    body.iter().for_each(|piece| hash.update(piece));
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
