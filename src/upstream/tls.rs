//! TLS towards upstreams: the platform's root certificates, further ones from a file, and ALPN.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls_platform_verifier::Verifier;

use crate::fault::{Fault, FaultKind};

/// The TLS configurations of all workers, built when first needed: reading the platform's roots takes milliseconds.
pub(super) struct Tls {
    extra: Vec<CertificateDer<'static>>,
    verifier: OnceLock<Arc<Verifier>>,
    usual: OnceLock<Arc<ClientConfig>>,
    only13: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// Reads the PEM file at `extra_roots`.
    pub(super) fn new(extra_roots: Option<&Path>) -> Result<Arc<Self>, String> {
        let extra = match extra_roots {
            Some(path) => certificates(path)?,
            None => Vec::new(),
        };
        Ok(Arc::new(Self {
            extra,
            verifier: OnceLock::new(),
            usual: OnceLock::new(),
            only13: OnceLock::new(),
        }))
    }

    /// The configuration for TLS 1.2 and up, or for 1.3 only.
    pub(super) async fn config(self: &Arc<Self>, tls13_only: bool) -> Result<Arc<ClientConfig>, Fault> {
        if let Some(config) = self.built(tls13_only).get() {
            return Ok(Arc::clone(config));
        }
        let tls = Arc::clone(self);
        let built = tokio::task::spawn_blocking(move || tls.build(tls13_only)).await;
        built.unwrap_or_else(|_| Err("defect while building".to_owned())).map_err(|error| {
            tracing::error!(error, "no tls towards upstreams");
            Fault::new(FaultKind::Internal, "tls: no root certificates")
        })
    }

    fn built(&self, tls13_only: bool) -> &OnceLock<Arc<ClientConfig>> {
        if tls13_only { &self.only13 } else { &self.usual }
    }

    fn build(&self, tls13_only: bool) -> Result<Arc<ClientConfig>, String> {
        let verifier = match self.verifier.get() {
            Some(verifier) => Arc::clone(verifier),
            None => {
                let new = verifier(&self.extra)?;
                Arc::clone(self.verifier.get_or_init(|| Arc::new(new)))
            }
        };
        let mut config = config(verifier, tls13_only)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::clone(self.built(tls13_only).get_or_init(|| Arc::new(config))))
    }
}

/// TLS for other protocols than HTTP: the platform's roots, and those of the PEM file at `roots`. Blocks.
///
/// # Errors
/// When the file cannot be read or holds no certificate, or the platform has no roots.
pub fn trusting(roots: Option<&Path>) -> Result<ClientConfig, String> {
    let extra = roots.map(certificates).transpose()?.unwrap_or_default();
    config(Arc::new(verifier(&extra)?), false)
}

fn verifier(extra: &[CertificateDer<'static>]) -> Result<Verifier, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Verifier::new_with_extra_roots(extra.iter().cloned(), provider).map_err(|error| error.to_string())
}

fn config(verifier: Arc<Verifier>, tls13_only: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[_] = if tls13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?
        .dangerous() // The name is rustls' own for any verifier but its built-in one.
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

/// The certificates of a PEM file, at least one. Blocks.
///
/// # Errors
/// When the file cannot be read or holds no certificate, with its name.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let at = || path.display();
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("`{}`: {error}", at()))?;
    if found.is_empty() {
        return Err(format!("`{}`: no certificate in it", at()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_roots_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        for (path, says) in [(dir.path().join("absent.pem"), "absent.pem"), (empty, "no certificate")] {
            let error = Tls::new(Some(&path)).err().unwrap();
            assert!(error.contains(says), "{error}");
        }
    }
}
