//! TLS towards clients: certificate and key from PEM files, renewed without a restart.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, version};
use zeroize::Zeroizing;

use super::{TlsSettings, TlsVersion};

/// How often the listener looks for a renewed certificate.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The certificate in use, and the way to a newer one. Clones are the same handle.
#[derive(Clone)]
pub struct TlsReloader(Arc<Inner>);

struct Inner {
    settings: TlsSettings,
    current: ArcSwap<ServerConfig>,
    /// Hash of the files that were tried last, whether they were good or not.
    seen: Mutex<Option<blake3::Hash>>,
}

/// Why a certificate or key cannot be used.
#[derive(Debug)]
pub struct TlsError {
    field: &'static str,
    path: PathBuf,
    reason: String,
}

impl TlsReloader {
    /// Reads both files.
    ///
    /// # Errors
    /// A file that cannot be read, is not PEM, holds no certificate or no key, or a key that does not
    /// belong to the certificate.
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        let files = Files::read(settings)?;
        let current = ArcSwap::from_pointee(files.build(settings)?);
        let seen = Mutex::new(Some(files.hash()));
        Ok(Self(Arc::new(Inner { settings: settings.clone(), current, seen })))
    }

    /// Everything that keeps the files from being used.
    pub fn faults(settings: &TlsSettings) -> Vec<TlsError> {
        let unreadable: Vec<_> = Files::read_each(settings).into_iter().filter_map(Result::err).collect();
        if unreadable.is_empty() { Self::load(settings).err().into_iter().collect() } else { unreadable }
    }

    /// Uses the files as they are now for all connections from now on, if they changed. Returns whether
    /// they did. Blocking: reads two small files.
    ///
    /// # Errors
    /// As [`load`](Self::load); the certificate in use stays in use. An unchanged broken file is reported
    /// once.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let files = Files::read(&self.0.settings);
        let hash = files.as_ref().ok().map(Files::hash);
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == hash {
            return Ok(false);
        }
        *seen = hash;
        drop(seen);
        let config = files?.build(&self.0.settings)?;
        self.0.current.store(Arc::new(config));
        Ok(true)
    }

    /// What the next handshake uses.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.0.current.load_full()
    }

    /// Looks for renewed files for ever.
    pub(super) async fn watch(self) -> std::convert::Infallible {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            let this = self.clone();
            match tokio::task::spawn_blocking(move || this.reload()).await {
                Ok(Ok(true)) => tracing::info!("the listener uses the renewed certificate"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the old certificate stays in use"),
                // The look itself panicked; the next one may not.
                Err(_) => {}
            }
        }
    }
}

struct Files {
    cert: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

impl Files {
    fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let [cert, key] = Self::read_each(settings);
        Ok(Self { cert: cert?, key: key? })
    }

    /// The certificate and the key.
    fn read_each(settings: &TlsSettings) -> [Result<Zeroizing<Vec<u8>>, TlsError>; 2] {
        [("cert", &settings.cert), ("key", &settings.key)].map(|(field, path)| {
            let reason = |error| format!("cannot be read: {error}");
            let content = std::fs::read(path).map(Zeroizing::new);
            content.map_err(|error| TlsError { field, path: path.clone(), reason: reason(error) })
        })
    }

    fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(self.cert.len() as u64).to_le_bytes()).update(&self.cert).update(&self.key);
        hasher.finalize()
    }

    fn build(&self, settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
        let bad_cert = |reason: String| TlsError { field: "cert", path: settings.cert.clone(), reason };
        // The reason of a bad key is not repeated: it could quote the file.
        let bad_key =
            |reason: &str| TlsError { field: "key", path: settings.key.clone(), reason: reason.to_owned() };
        let chain = CertificateDer::pem_slice_iter(&self.cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad_cert(format!("is not a PEM certificate: {error}")))?;
        if chain.is_empty() {
            return Err(bad_cert("holds no PEM certificate".into()));
        }
        let key =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| bad_key("holds no PEM private key"))?;
        let versions: &[&rustls::SupportedProtocolVersion] = match settings.min {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
            TlsVersion::V1_3 => &[&version::TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .map_err(|error| bad_cert(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => bad_key("does not belong to the certificate"),
                error => bad_cert(format!("cannot be used: {error}")),
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl TlsError {
    /// Which of the settings names the file: `cert` or `key`.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tls file `{}` {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for TlsError {}

#[cfg(test)]
mod tests {
    use rcgen::CertifiedKey;

    use super::*;

    fn pems() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let settings = TlsSettings {
            cert: dir.path().join("c.pem"),
            key: dir.path().join("k.pem"),
            min: TlsVersion::V1_2,
        };
        let put = |cert: &str, key: &str| {
            std::fs::write(&settings.cert, cert).expect("a file");
            std::fs::write(&settings.key, key).expect("a file");
        };
        let error =
            |result: Result<_, TlsError>| result.err().map(|error| error.to_string()).unwrap_or_default();

        assert!(error(TlsReloader::load(&settings).map(drop)).contains("c.pem` cannot be read"));
        let ((cert, key), (new_cert, new_key)) = (pems(), pems());
        put(&cert, &new_key);
        assert!(
            error(TlsReloader::load(&settings).map(drop))
                .contains("k.pem` does not belong to the certificate")
        );
        put("nothing", &key);
        assert!(error(TlsReloader::load(&settings).map(drop)).contains("c.pem` holds no PEM certificate"));
        put(&cert, "hunter2");
        let text = error(TlsReloader::load(&settings).map(drop));
        assert!(text.contains("k.pem` holds no PEM private key") && !text.contains("hunter2"));

        put(&cert, &key);
        let tls = TlsReloader::load(&settings).expect("good files");
        let first = tls.current();
        assert!(!tls.reload().expect("unchanged"));
        put(&new_cert, &key);
        assert!(tls.reload().is_err());
        assert!(!tls.reload().expect("the same broken files are reported once"));
        assert!(Arc::ptr_eq(&first, &tls.current()));
        put(&new_cert, &new_key);
        assert!(tls.reload().expect("good files"));
        assert!(!Arc::ptr_eq(&first, &tls.current()));
    }
}
