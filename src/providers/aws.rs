//! AWS's keys that are fetched and expire: those of a container's, a machine's or a web identity's role, as grants.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>

mod container;
mod machine;
mod web_identity;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::grant::{Granted, USUAL_LIFE};
use super::{AwsKeys, SigV4};
use crate::fault::{Fault, FaultKind, Retry};

pub use container::{Container, ContainerToken};
pub use machine::Machine;
pub use web_identity::WebIdentity;

/// What signatures are for.
#[derive(Debug, Clone)]
pub struct AwsScope {
    /// The region, `eu-west-1`.
    pub region: String,
    /// The service, `bedrock`.
    pub service: &'static str,
}

impl AwsScope {
    /// What the keys in an answer can sign. The names of the token differ from service to service.
    ///
    /// # Errors
    /// `Malformed` where there are no keys.
    fn granted(&self, fields: &Map<String, Value>, unix_ms: u64) -> Result<Granted, Fault> {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (Some(id), Some(key)) = (text("AccessKeyId"), text("SecretAccessKey")) else {
            return Err(malformed("the answer has no keys"));
        };
        let token = text("Token").or_else(|| text("SessionToken"));
        let keys = AwsKeys {
            access_key_id: SecretString::from(id),
            secret_access_key: SecretString::from(key),
            session_token: token.map(SecretString::from),
        };
        let signer = Arc::new(SigV4::new(&keys, self.region.as_str(), self.service));
        let usual = unix_ms.saturating_add(millis(USUAL_LIFE));
        Ok(Granted { signer, expires_ms: fields.get("Expiration").and_then(end).unwrap_or(usual) })
    }
}

/// A time as text, or in seconds, as Unix milliseconds.
fn end(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse::<Timestamp>().ok()?.as_millisecond().try_into().ok(),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time after 1970")]
        Value::Number(seconds) => Some((seconds.as_f64()?.max(0.0) * 1000.0) as u64),
        _ => None,
    }
}

fn malformed(message: &'static str) -> Fault {
    Fault::new(FaultKind::Malformed, message).retry(Retry::Elsewhere)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
