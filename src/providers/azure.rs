//! Entra ID's tokens for Azure: of an application, of a federated workload, or of the machine's own identity.
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>

use std::path::PathBuf;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::grant::{Grant, GrantAnswer, GrantAsk, GrantStep, Granted, bearer, encode, identity};
use super::locate::locate;
use crate::fault::{Fault, FaultKind, Retry};
use crate::target::Origin;

/// What tokens are for unless the configuration says otherwise.
pub const SCOPE: &str = "https://cognitiveservices.azure.com/.default";
const AUTHORITY: &str = "https://login.microsoftonline.com";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An application of a tenant.
pub struct Application {
    client_id: String,
    scope: String,
    proof: Proof,
    place: (Origin, PathAndQuery),
    identity: [u8; 32],
}

/// How an application proves that it is itself.
pub enum Proof {
    /// By a secret.
    Secret(Zeroizing<String>),
    /// By a token that the cluster writes into a file (workload identity).
    File(PathBuf),
}

impl Application {
    /// An application of `tenant`; `authority` instead of `login.microsoftonline.com` for the clouds of nations.
    ///
    /// # Errors
    /// When tenant and authority make no URL.
    pub fn new(
        authority: Option<&str>,
        tenant: &str,
        client_id: &str,
        scope: &str,
        proof: Proof,
    ) -> Result<Self, String> {
        let mut escaped = String::new();
        encode(tenant, &mut escaped);
        let authority = authority.unwrap_or(AUTHORITY).trim_end_matches('/');
        let url = format!("{authority}/{escaped}/oauth2/v2.0/token");
        let secret = match &proof {
            Proof::Secret(secret) => secret.as_bytes().to_vec(),
            Proof::File(path) => path.to_string_lossy().into_owned().into_bytes(),
        };
        let secret = Zeroizing::new(secret);
        Ok(Self {
            place: locate(&url).map_err(|what| format!("the address of the authority {what}"))?,
            identity: identity(&[url.as_bytes(), client_id.as_bytes(), scope.as_bytes(), &secret]),
            client_id: client_id.to_owned(),
            scope: scope.to_owned(),
            proof,
        })
    }

    fn ask(&self, proof: &[(&str, &str)]) -> GrantStep {
        let mut fields = vec![
            ("grant_type", "client_credentials"),
            ("client_id", &*self.client_id),
            ("scope", &*self.scope),
        ];
        fields.extend_from_slice(proof);
        let (origin, path) = self.place.clone();
        GrantAsk::form(origin, path, &fields).into()
    }
}

impl Grant for Application {
    fn step(&self, answers: &[GrantAnswer], unix_ms: u64) -> Result<GrantStep, Fault> {
        match (&self.proof, answers) {
            (Proof::Secret(secret), []) => Ok(self.ask(&[("client_secret", secret)])),
            (Proof::File(path), []) => Ok(GrantStep::Read(path.clone())),
            (Proof::File(_), [file]) => {
                let token = Zeroizing::new(String::from_utf8_lossy(&file.body).trim().to_owned());
                if token.is_empty() {
                    let what = "the file of the federated token cannot be read";
                    return Err(Fault::new(FaultKind::Credentials, what).retry(Retry::Elsewhere));
                }
                Ok(self.ask(&[("client_assertion_type", ASSERTION), ("client_assertion", &token)]))
            }
            (_, [.., answer]) => done(answer, unix_ms),
        }
    }

    fn identity(&self) -> [u8; 32] {
        self.identity
    }
}

fn done(answer: &GrantAnswer, unix_ms: u64) -> Result<GrantStep, Fault> {
    let (signer, expires_ms) = bearer(answer, unix_ms)?;
    Ok(GrantStep::Done(Granted { signer: Arc::new(signer), expires_ms }))
}

/// The identity of the machine: a virtual machine's, or an App Service's.
/// <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>
pub struct ManagedIdentity {
    place: (Origin, PathAndQuery),
    header: (HeaderName, HeaderValue),
    identity: [u8; 32],
}

impl ManagedIdentity {
    /// By the metadata service of a virtual machine, or by `service`: the address and the secret that an App Service
    /// gives (`IDENTITY_ENDPOINT`, `IDENTITY_HEADER`). `client_id` chooses among several identities.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(service: Option<(&str, &str)>, client_id: Option<&str>, scope: &str) -> Result<Self, String> {
        let (url, version) = match service {
            Some((url, _)) => (url, "2019-08-01"),
            None => ("http://169.254.169.254/metadata/identity/oauth2/token", "2018-02-01"),
        };
        let mut url = format!("{url}?api-version={version}&resource=");
        encode(scope.trim_end_matches(".default"), &mut url);
        if let Some(client_id) = client_id {
            url.push_str("&client_id=");
            encode(client_id, &mut url);
        }
        let (name, secret) = match service {
            Some((_, secret)) => ("x-identity-header", secret),
            None => ("metadata", "true"),
        };
        let mut value = HeaderValue::from_str(secret).map_err(|_| "IDENTITY_HEADER is no header's value")?;
        value.set_sensitive(service.is_some());
        Ok(Self {
            place: locate(&url).map_err(|what| format!("IDENTITY_ENDPOINT {what}"))?,
            header: (HeaderName::from_static(name), value),
            identity: identity(&[url.as_bytes(), secret.as_bytes()]),
        })
    }
}

impl Grant for ManagedIdentity {
    fn step(&self, answers: &[GrantAnswer], unix_ms: u64) -> Result<GrantStep, Fault> {
        if let Some(answer) = answers.first() {
            return done(answer, unix_ms);
        }
        let ((origin, path), (name, value)) = (self.place.clone(), self.header.clone());
        Ok(GrantAsk::get(origin, path).with(name, value).into())
    }

    fn identity(&self) -> [u8; 32] {
        self.identity
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn asked(grant: &dyn Grant, answers: &[GrantAnswer]) -> GrantAsk {
        match grant.step(answers, 0).unwrap() {
            GrantStep::Ask(ask) => *ask,
            _ => panic!("an ask"),
        }
    }

    fn text(ask: &GrantAsk) -> String {
        String::from_utf8(ask.body.to_vec()).unwrap()
    }

    #[test]
    fn an_application_proves_itself_by_its_secret() {
        let secret = Proof::Secret(Zeroizing::new("a b".to_owned()));
        let grant = Application::new(None, "my-tenant", "app", SCOPE, secret).unwrap();
        let ask = asked(&grant, &[]);
        assert_eq!(ask.origin.authority(), "login.microsoftonline.com");
        assert_eq!(ask.path_and_query, "/my-tenant/oauth2/v2.0/token");
        assert_eq!(
            text(&ask),
            "grant_type=client_credentials&client_id=app&scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default\
             &client_secret=a%20b"
        );
        let body =
            bytes::Bytes::from_static(br#"{"token_type":"Bearer","expires_in":3599,"access_token":"e"}"#);
        let answer = GrantAnswer::wiping(200, HeaderMap::new(), body);
        let GrantStep::Done(granted) = grant.step(&[answer], 0).unwrap() else { panic!("done") };
        assert_eq!(granted.expires_ms, 3_599_000);
    }

    #[test]
    fn a_workload_proves_itself_by_the_token_in_its_file() {
        let grant = Application::new(
            Some("https://login.microsoftonline.us/"),
            "t",
            "app",
            SCOPE,
            Proof::File("/f".into()),
        );
        let grant = grant.unwrap();
        assert!(matches!(grant.step(&[], 0), Ok(GrantStep::Read(path)) if path.to_str() == Some("/f")));
        let ask = asked(&grant, &[GrantAnswer::file(Some(b"jwt\n".to_vec()))]);
        assert_eq!(ask.origin.authority(), "login.microsoftonline.us");
        assert!(text(&ask).ends_with("&client_assertion=jwt"), "{}", text(&ask));
        assert!(grant.step(&[GrantAnswer::file(None)], 0).is_err());
    }

    #[test]
    fn a_machine_asks_its_own_service() {
        let ask = asked(&ManagedIdentity::new(None, Some("c 1"), SCOPE).unwrap(), &[]);
        assert_eq!(
            (ask.origin.authority().as_str(), &ask.headers["metadata"]),
            ("169.254.169.254", &HeaderValue::from_static("true"))
        );
        assert_eq!(
            ask.path_and_query,
            "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fcognitiveservices.azure.com%2F&client_id=c%201"
        );
        let service = Some(("http://127.0.0.1:4141/msi/token", "s3"));
        let ask = asked(&ManagedIdentity::new(service, None, SCOPE).unwrap(), &[]);
        assert_eq!(
            (ask.origin.authority().as_str(), ask.headers["x-identity-header"].is_sensitive()),
            ("127.0.0.1:4141", true)
        );
    }
}
