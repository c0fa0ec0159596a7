//! The metadata server of Google's machines: GCE, GKE, Cloud Run.
//! <https://cloud.google.com/compute/docs/access/authenticate-workloads>

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};

use crate::fault::Fault;
use crate::providers::grant::{Grant, GrantAnswer, GrantAsk, GrantStep, Granted, bearer, identity};
use crate::providers::locate::locate;
use crate::target::Origin;

const HOST: &str = "metadata.google.internal";
const PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// The token of the machine's own service account.
pub struct Metadata {
    place: (Origin, PathAndQuery),
}

impl Metadata {
    /// By the usual host, or the one that `GCE_METADATA_HOST` names (`host` or `host:port`).
    ///
    /// # Errors
    /// When that is none.
    pub fn new(host: Option<&str>) -> Result<Self, String> {
        let host = host.unwrap_or(HOST);
        Ok(Self { place: locate(&format!("http://{host}{PATH}"))? })
    }
}

impl Grant for Metadata {
    fn step(&self, answers: &[GrantAnswer], unix_ms: u64) -> Result<GrantStep, Fault> {
        if let Some(answer) = answers.first() {
            let (signer, expires_ms) = bearer(answer, unix_ms)?;
            return Ok(GrantStep::Done(Granted { signer: Arc::new(signer), expires_ms }));
        }
        let (origin, path) = self.place.clone();
        let flavour = HeaderName::from_static("metadata-flavor");
        Ok(GrantAsk::get(origin, path).with(flavour, HeaderValue::from_static("Google")).into())
    }

    fn identity(&self) -> [u8; 32] {
        identity(&[b"metadata", self.place.0.authority().as_bytes()])
    }
}
