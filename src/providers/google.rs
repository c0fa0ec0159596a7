//! Google's credentials: files of every type that gcloud writes, and the metadata server, as grants of access tokens.
//! <https://cloud.google.com/docs/authentication/application-default-credentials>

mod external;
mod impersonated;
mod metadata;
mod service_account;
mod user;

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::grant::{FixedHeaders, Grant};

pub use metadata::Metadata;

/// What tokens are good for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Where tokens come from when the file does not say.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

type Fields = serde_json::Map<String, Value>;

/// What a file of credentials gives.
pub struct Credentials {
    /// How tokens are fetched.
    pub grant: Box<dyn Grant>,
    /// The project that the file belongs to, where it names one.
    pub project: Option<String>,
}

/// What a secret for Google is.
pub enum Secret {
    /// A file of credentials.
    Credentials(Credentials),
    /// An API key.
    ApiKey,
    /// An access token that somebody else keeps fresh.
    AccessToken,
}

/// Reads a secret: the content of a file of credentials, an API key, or an access token.
///
/// # Errors
/// What is wrong with the file, without its content.
pub fn read(secret: &str) -> Result<Secret, String> {
    let secret = secret.trim();
    if secret.starts_with('{') {
        let value = serde_json::from_str(secret).map_err(|_| "is no JSON object")?;
        return credentials(&value).map(Secret::Credentials);
    }
    // Keys of Google Cloud, and those bound to a service account ("express mode").
    let is_key = secret.starts_with("AIza") || secret.starts_with("AQ.");
    Ok(if is_key { Secret::ApiKey } else { Secret::AccessToken })
}

/// Credentials by the `type` of their file.
fn credentials(fields: &Fields) -> Result<Credentials, String> {
    let grant: Box<dyn Grant> = match optional(fields, "type") {
        Some("service_account") => Box::new(service_account::ServiceAccount::read(fields)?),
        Some("authorized_user") => Box::new(user::User::read(fields)?),
        Some("external_account") => external::read(fields)?,
        Some("impersonated_service_account") => Box::new(impersonated::Impersonated::read(fields)?),
        Some(other) => return Err(format!("credentials of the type {other:?} are not known")),
        None => return Err("has no `type`: it is no file of Google credentials".into()),
    };
    let project = optional(fields, "project_id").or_else(|| optional(fields, "quota_project_id"));
    Ok(Credentials { grant, project: project.map(str::to_owned) })
}

fn optional<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn required<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, String> {
    optional(fields, name).ok_or_else(|| format!("has no `{name}`"))
}

/// Who pays for requests whose credentials belong to a person.
fn billed(headers: FixedHeaders, project: Option<&str>) -> FixedHeaders {
    match project.and_then(|project| HeaderValue::from_str(project).ok()) {
        Some(project) => headers.with(HeaderName::from_static("x-goog-user-project"), project),
        None => headers,
    }
}

#[cfg(test)]
mod tests;
