//! The public keys of an identity provider (RFC 7517), as they were read last.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

/// The most keys of one set; providers have two or three.
const MOST: usize = 64;

/// How long until an address is read again, whoever asks for it.
pub const PAUSE: Duration = Duration::from_secs(10);

/// How long until it is read again for a token that names a key which is not known; so many times, each of which comes back
/// with the pause above.
const GAP: Duration = Duration::from_secs(1);
const SPARE: u32 = 5;

/// How long a client waits for a reading that may bring the key of its token.
const PATIENCE: Duration = Duration::from_secs(3);

/// A set of public keys that is read again and again.
#[derive(Default)]
pub struct Jwks {
    keys: ArcSwapOption<Vec<PublicKey>>,
    /// Set when a token names a key that is not known.
    wanted: AtomicBool,
    /// Milliseconds between two readings.
    every_ms: AtomicU64,
    /// The last reading. Files are read with the configuration.
    reading: Mutex<Option<Reading>>,
    /// How many readings have ended.
    ended: watch::Sender<u64>,
}

/// A reading of an address.
#[derive(Clone, Copy)]
struct Reading {
    began: Instant,
    /// It has not ended yet.
    runs: bool,
    /// How often it may be repeated before its time.
    spare: u32,
}

/// One key.
pub(super) struct PublicKey {
    id: Option<String>,
    /// What it is for, where its provider says so.
    algorithm: Option<String>,
    kind: Kind,
}

enum Kind {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwks {
    /// Takes a document into service; says how many of its keys can be used.
    ///
    /// # Errors
    /// When it is no set of keys, or has none that can be used. The keys of before go on.
    pub fn take(&self, document: &[u8]) -> Result<usize, String> {
        let keys = parse(document)?;
        let count = keys.len();
        self.keys.store(Some(keys.into()));
        Ok(count)
    }

    /// How often it is to be read.
    pub fn refresh_every(&self, period: Duration) {
        self.every_ms.store(u64::try_from(period.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How often it is to be read.
    pub fn every(&self) -> Duration {
        Duration::from_millis(self.every_ms.load(Ordering::Relaxed).max(1_000))
    }

    /// A token that came at this moment named a key that is not here. Says whether it may be here soon: the address is being
    /// read, or will be. What was read since then would have brought it.
    pub(super) fn want(&self, since: Instant) -> bool {
        let Some(Reading { began, runs, spare }) = *self.reading() else { return false };
        let soon = runs || began < since && (spare > 0 || began.elapsed() >= PAUSE);
        self.wanted.fetch_or(soon, Ordering::Relaxed);
        soon
    }

    /// Whether it is time to read the address: when it is due, or sooner for who wants a key that is not here.
    pub fn is_due(&self) -> bool {
        let Some(Reading { began, runs, spare }) = *self.reading() else { return true };
        let age = began.elapsed();
        let for_somebody = age >= PAUSE || age >= GAP && spare > 0 && !runs;
        age >= self.every() || age >= PAUSE && !self.is_ready() || for_somebody && self.is_wanted()
    }

    /// A reading begins.
    pub fn begin(&self) {
        let mut reading = self.reading();
        let spare = reading.map_or(SPARE, |last| {
            let pauses = last.began.elapsed().as_secs() / PAUSE.as_secs();
            match u32::try_from(pauses).unwrap_or(SPARE) {
                0 => last.spare.saturating_sub(1),
                pauses => last.spare.saturating_add(pauses).min(SPARE),
            }
        });
        *reading = Some(Reading { began: Instant::now(), runs: true, spare });
    }

    fn reading(&self) -> MutexGuard<'_, Option<Reading>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has ended, well or not.
    pub fn end(&self) {
        if let Some(reading) = &mut *self.reading() {
            reading.runs = false;
        }
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// Waits until a reading has ended, for so long as a client may wait.
    pub(super) async fn renewed(&self) {
        let mut ended = self.ended.subscribe();
        // Late or not: the caller looks again.
        let _ = tokio::time::timeout(PATIENCE, ended.changed()).await;
    }

    /// Whether a key was wanted that is not here; says so once.
    fn is_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// Whether any key is there.
    pub fn is_ready(&self) -> bool {
        self.keys.load().is_some()
    }

    /// Whether a signature is one of these keys'; `None` where no key of this name is there.
    pub(super) fn verify(
        &self,
        algorithm: &str,
        id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Option<bool> {
        let keys = self.keys.load();
        let fitting = keys.iter().flat_map(|keys| keys.iter()).filter(|key| {
            key.kind.algorithm() == algorithm
                && key.algorithm.as_deref().is_none_or(|said| said == algorithm)
                && (id.is_none() || key.id.is_none() || key.id.as_deref() == id)
        });
        fitting.map(|key| key.kind.verify(signed, signature)).reduce(|one, other| one || other)
    }
}

impl Kind {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa { .. } => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn verify(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok(),
        }
    }
}

/// Reads a set; keys of kinds that are not known, or not for signatures, are passed over.
pub(super) fn parse(document: &[u8]) -> Result<Vec<PublicKey>, String> {
    let document: Document =
        serde_json::from_slice(document).map_err(|_| "is no set of keys (JWKS)".to_owned())?;
    let signs = |entry: &Entry| entry.usage.as_deref().is_none_or(|usage| usage == "sig");
    let keys: Vec<_> = document.keys.iter().filter(|entry| signs(entry)).filter_map(key).take(MOST).collect();
    if keys.is_empty() {
        return Err("has no key for RS256, ES256 or EdDSA".into());
    }
    Ok(keys)
}

fn key(entry: &Entry) -> Option<PublicKey> {
    let bytes = |text: &Option<String>| {
        let text = text.as_deref()?.trim_end_matches('=');
        URL_SAFE_NO_PAD.decode(text).ok()
    };
    let kind = match (entry.kty.as_str(), entry.crv.as_deref()) {
        ("RSA", _) => Kind::Rsa { n: without_zeros(bytes(&entry.n)?), e: without_zeros(bytes(&entry.e)?) },
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes(&entry.x)?, bytes(&entry.y)?);
            // An uncompressed point (SEC 1, 2.3.3).
            (x.len() == 32 && y.len() == 32).then(|| Kind::P256([&[4][..], &x, &y].concat()))?
        }
        ("OKP", Some("Ed25519")) => Kind::Ed25519(bytes(&entry.x).filter(|x| x.len() == 32)?),
        _ => return None,
    };
    // The newer name of the same (RFC 9864).
    let algorithm =
        entry.alg.as_deref().map(|said| if said == "Ed25519" { "EdDSA" } else { said }.to_owned());
    Some(PublicKey { id: entry.kid.clone(), algorithm, kind })
}

/// Some providers write numbers with a zero byte before them, which is not read everywhere.
fn without_zeros(bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.into_iter().skip(zeros).collect()
}
