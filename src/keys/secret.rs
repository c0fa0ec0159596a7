//! The secret of a key: how it is made, recognised and hashed.
//!
//! `tg-` + 12 characters of the public id + `-` + 43 random characters (256 bits) + 6 characters of checksum, which lets
//! secret scanners tell a key from other text: `tg-[0-9a-z]{12}-[0-9A-Za-z]{49}`.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::SecretString;
use zeroize::Zeroizing;

const PREFIX: &str = "tg-";
const ID: usize = 12;
const RANDOM: usize = 43;
const CHECK: usize = 6;

const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// A hash of a secret.
pub type Digest = [u8; 32];

/// A new key's secret.
pub struct Minted {
    /// Its public id.
    pub id: String,
    /// What its owner shows. It is told once.
    pub secret: SecretString,
}

/// Hashes secrets with a key of its own (the pepper), so that a stolen table of hashes says nothing.
pub(super) struct Hasher(Digest);

impl Hasher {
    pub(super) fn of(pepper: &[u8]) -> Self {
        Self(blake3::derive_key("tollgate 2026 virtual keys", pepper))
    }

    pub(super) fn digest(&self, secret: &str) -> Digest {
        *blake3::keyed_hash(&self.0, secret.as_bytes()).as_bytes()
    }
}

/// The SHA-256 of a secret, as files of configuration have it: whoever reads it cannot guess 256 random bits.
pub(super) fn sha256(secret: &str) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

/// A new secret, for a new id or for one that exists.
///
/// # Errors
/// When the system has no randomness.
pub fn mint(id: Option<&str>) -> Result<Minted, String> {
    let id = match id {
        Some(id) => id.to_owned(),
        None => characters(ID, 36)?.as_str().to_owned(),
    };
    let body = Zeroizing::new(format!("{PREFIX}{id}-{}", *characters(RANDOM, 62)?));
    let secret = SecretString::from(format!("{}{}", *body, checksum(&body)));
    Ok(Minted { id, secret })
}

/// Whether a text is a key of this house as far as its form and its checksum tell.
pub fn is_well_formed(text: &str) -> bool {
    let Some((body, check)) = text.len().checked_sub(CHECK).and_then(|at| text.split_at_checked(at)) else {
        return false;
    };
    is_ours(text) && checksum(body) == check
}

/// Whether a text claims to be a key of this house.
pub(super) fn is_ours(text: &str) -> bool {
    text.starts_with(PREFIX)
        && text.len() == PREFIX.len() + ID + 1 + RANDOM + CHECK
        && text.as_bytes().get(PREFIX.len() + ID) == Some(&b'-')
}

fn characters(count: usize, base: u8) -> Result<Zeroizing<String>, String> {
    let source = SystemRandom::new();
    let mut text = Zeroizing::new(String::with_capacity(count));
    let mut random = Zeroizing::new([0_u8; 64]);
    // Above the largest multiple of the base, some digits would be likelier than others.
    let bound = u8::MAX - (u8::MAX % base + 1) % base;
    while text.len() < count {
        source.fill(&mut random[..]).map_err(|_| "the system has no randomness")?;
        let fair = random.iter().filter(|byte| **byte <= bound);
        let digits = fair.filter_map(|byte| DIGITS.get(usize::from(byte % base)));
        let missing = count - text.len();
        text.extend(digits.take(missing).map(|digit| char::from(*digit)));
    }
    Ok(text)
}

fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS.get(rest as usize % DIGITS.len()).copied().unwrap_or(b'0');
        rest /= DIGITS.len() as u32;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_key_is_recognised_by_its_form_and_its_checksum() {
        let minted = mint(None).unwrap();
        let secret = minted.secret.expose_secret();
        let form = regex::Regex::new("^tg-[0-9a-z]{12}-[0-9A-Za-z]{49}$").unwrap();
        assert!(form.is_match(secret), "{secret}");
        assert!(secret.starts_with(&format!("tg-{}-", minted.id)));
        assert!(is_well_formed(secret));
        let mut other = secret.to_owned();
        let last = other.pop().unwrap();
        other.push(if last == 'a' { 'b' } else { 'a' });
        assert!(is_ours(&other) && !is_well_formed(&other));
        for text in ["", "tg-", "sk-1", &secret[1..], &format!("{secret}é"), &"é".repeat(33)] {
            assert!(!is_well_formed(text), "{text}");
        }
        let again = mint(Some(&minted.id)).unwrap();
        assert_eq!(again.id, minted.id);
        assert_ne!(again.secret.expose_secret(), secret);
    }

    #[test]
    fn hashes_depend_on_the_pepper() {
        assert_ne!(Hasher::of(b"one").digest("key"), Hasher::of(b"two").digest("key"));
        assert_eq!(Hasher::of(b"one").digest("key"), Hasher::of(b"one").digest("key"));
    }
}
