//! Credentials and address of a provider on Vertex AI.

use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::super::check::{Base, CheckedProvider, base};
use super::Bench;
use crate::providers::google::{self, Metadata, Secret};
use crate::providers::{Credential, FixedHeaders, GoogleSettings, Lease, Scope};

/// A provider on Vertex AI, as far as it differs from others.
pub(super) struct Place {
    pub base: Base,
    pub scope: Scope,
    pub credential: Credential,
    /// A token or key that somebody else keeps fresh.
    pub headers: HeaderMap,
}

/// What authorises requests, and the project that goes with it.
struct Found {
    credential: Credential,
    headers: HeaderMap,
    project: Option<String>,
    is_key: bool,
}

impl Bench<'_> {
    /// Where it is and what opens it; says what is missing.
    pub(super) fn google(&mut self, provider: &CheckedProvider, google: &GoogleSettings) -> Option<Place> {
        let name = &*provider.name;
        let plain = |variable: &str| self.secrets.plain(variable);
        let location = google.location.clone().or_else(|| plain("GOOGLE_CLOUD_LOCATION"));
        let location = location.unwrap_or_else(|| "global".to_owned());
        let project = google.project.clone();
        let of_environment = plain("GOOGLE_CLOUD_PROJECT").or_else(|| plain("GCLOUD_PROJECT"));
        let found = match self.credentials(provider, google) {
            Ok(found) => found,
            Err(complaint) => {
                let at: &[&str] = match (&google.credentials, provider.keys.first()) {
                    (Some(_), _) => &["providers", name, "google", "credentials"],
                    (None, Some(_)) => &["providers", name, "keys", "0"],
                    _ => &["providers", name],
                };
                return self.problem(at, format!("provider `{name}`: {complaint}"));
            }
        };
        let project = project.or_else(|| of_environment.filter(|_| !found.is_key)).or(found.project);
        let place = match project {
            Some(project) => format!("/projects/{project}/locations/{location}"),
            // An API key belongs to a project itself.
            None if found.is_key => String::new(),
            None => {
                let message = format!("provider `{name}`: no project is known: set `google.project`");
                return self.problem(&["providers", name], message);
            }
        };
        let base = match &provider.base {
            Some(base) => base.clone(),
            None => match base(&format!("https://{}", host(&location))) {
                Ok(base) => base,
                Err(complaint) => {
                    let message = format!("provider `{name}`: the location {location:?} {complaint}");
                    return self.problem(&["providers", name], message);
                }
            },
        };
        let scope = Scope { place, bare: base.path.is_empty() };
        Some(Place { base, scope, credential: found.credential, headers: found.headers })
    }

    fn credentials(&self, provider: &CheckedProvider, google: &GoogleSettings) -> Result<Found, String> {
        let Some(reference) = google.credentials.as_ref().or(provider.keys.first()) else {
            return self.default_credentials();
        };
        let secret = self.secrets.document(reference)?;
        found(&secret).map_err(|what| format!("`{reference}` {what}"))
    }

    /// <https://cloud.google.com/docs/authentication/application-default-credentials>
    fn default_credentials(&self) -> Result<Found, String> {
        let plain = |variable: &str| self.secrets.plain(variable);
        if let Some(path) = plain("GOOGLE_APPLICATION_CREDENTIALS") {
            let text = self.secrets.file(&PathBuf::from(&path));
            let complain = |what: String| format!("GOOGLE_APPLICATION_CREDENTIALS: {what}");
            return found(&text.map_err(complain)?).map_err(complain);
        }
        let folder = plain("CLOUDSDK_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| Some(PathBuf::from(plain("HOME")?).join(".config/gcloud")));
        let file = folder.map(|folder| folder.join("application_default_credentials.json"));
        if let Some(file) = file.filter(|file| file.is_file()) {
            let text: Zeroizing<String> = self.secrets.file(&file)?;
            return found(&text).map_err(|what| format!("`{}` {what}", file.display()));
        }
        let metadata = Metadata::new(plain("GCE_METADATA_HOST").as_deref());
        let metadata = metadata.map_err(|what| format!("GCE_METADATA_HOST {what}"))?;
        let credential = Credential::Leased(Arc::new(Lease::new(Box::new(metadata))));
        Ok(Found { credential, headers: HeaderMap::new(), project: None, is_key: false })
    }
}

fn found(secret: &str) -> Result<Found, String> {
    let (secret, none) = (secret.trim(), HeaderMap::new());
    let broken = || "holds characters that cannot stand in a header".to_owned();
    Ok(match google::read(secret)? {
        Secret::Credentials(read) => {
            let credential = Credential::Leased(Arc::new(Lease::new(read.grant)));
            Found { credential, headers: none, project: read.project, is_key: false }
        }
        Secret::ApiKey => {
            let mut key = HeaderValue::from_str(secret).map_err(|_| broken())?;
            key.set_sensitive(true);
            let headers = [(HeaderName::from_static("x-goog-api-key"), key)].into_iter().collect();
            Found { credential: Credential::Headers, headers, project: None, is_key: true }
        }
        Secret::AccessToken => {
            let signer = Arc::new(FixedHeaders::bearer(secret).ok_or_else(broken)?);
            Found { credential: Credential::Signed(signer), headers: none, project: None, is_key: false }
        }
    })
}

/// <https://cloud.google.com/vertex-ai/generative-ai/docs/learn/locations>
fn host(location: &str) -> String {
    match location {
        "global" => "aiplatform.googleapis.com".to_owned(),
        "us" | "eu" => format!("aiplatform.{location}.rep.googleapis.com"),
        region => format!("{region}-aiplatform.googleapis.com"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_location_has_its_host() {
        for (location, expected) in [
            ("global", "aiplatform.googleapis.com"),
            ("us-east5", "us-east5-aiplatform.googleapis.com"),
            ("eu", "aiplatform.eu.rep.googleapis.com"),
        ] {
            assert_eq!(host(location), expected);
        }
    }
}
