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
        for (name, value) in headers {
            request.headers.insert(name, value);
        }
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;
    use http::header::AUTHORIZATION;

    use super::*;

    const HI: &str = r#"{"messages": [{"role": "user", "content": [{"text": "hi"}]}]}"#;

    fn keys(token: Option<&str>) -> AwsKeys {
        AwsKeys {
            access_key_id: SecretString::from("AKIDEXAMPLE"),
            secret_access_key: SecretString::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: token.map(SecretString::from),
        }
    }

    fn signed(
        signer: &SigV4,
        method: &Method,
        authority: &str,
        path: &str,
        body: &[Bytes],
        ms: u64,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert("accept", HeaderValue::from_static("application/json"));
            headers.insert("user-agent", HeaderValue::from_static("tollgate/0"));
        }
        let path = path.parse().unwrap();
        let request = Signable { method, authority, path_and_query: &path, headers: &mut headers, body };
        signer.sign(request, ms).unwrap();
        headers
    }

    #[test]
    fn the_published_vector_is_met() {
        let signer = SigV4::new(&keys(None), "us-east-1", "service");
        let headers = signed(&signer, &Method::GET, "example.amazonaws.com", "/", &[], 1_440_938_160_000);
        assert_eq!(headers["x-amz-date"], "20150830T123600Z");
        assert_eq!(
            headers[AUTHORIZATION],
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }

    /// The signatures are those of boto3 1.44 for the same request at the same time.
    #[test]
    fn the_same_request_gets_the_signature_that_boto3_gives_it() {
        for (path, token, signature) in [
            (
                "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse",
                None,
                "SignedHeaders=content-type;host;x-amz-date, Signature=7ac185932a5ddfb5c9a439b11b019d0137c1ed005f9bc77b622a3901becff8bf",
            ),
            (
                "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile%2Feu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream",
                Some("TOKEN/EXAMPLE=="),
                "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=2967951986af0e7ec93d75f60c6746356e0fd9e53c2f5ea927e73159fe828906",
            ),
        ] {
            let signer = SigV4::new(&keys(token), "eu-west-1", "bedrock");
            let host = "bedrock-runtime.eu-west-1.amazonaws.com";
            let (head, tail) = HI.split_at(20);
            let body = [Bytes::from_static(head.as_bytes()), Bytes::from_static(tail.as_bytes())];
            let headers = signed(&signer, &Method::POST, host, path, &body, 1_772_600_767_000);
            let scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260304/eu-west-1/bedrock/aws4_request";
            assert_eq!(headers[AUTHORIZATION], format!("{scope}, {signature}"), "{path}");
            assert_eq!(headers.get("x-amz-security-token").map(|t| t.to_str().unwrap()), token);
            assert!(headers[AUTHORIZATION].is_sensitive());
            assert!(!format!("{headers:?}").contains("EXAMPLE"), "secrets are not shown: {headers:?}");
        }
    }
}
