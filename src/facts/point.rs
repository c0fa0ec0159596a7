//! Draws that fall the same way for the same caller: a hash in place of dice.
//!
//! Weighted rendezvous hashing: each choice scores by a hash of the caller and by its share, and the highest score wins.
//! When shares change, only as many callers move as must.
//! <https://www.ietf.org/archive/id/draft-ietf-bess-weighted-hrw-00.html>

/// A number between 0 and 1, the same for the same id and name in every process and version.
pub fn point(anchor: &str, name: &str) -> f64 {
    let mut hash = blake3::Hasher::new();
    hash.update(anchor.as_bytes()).update(&[0]).update(name.as_bytes());
    let mut bits = [0; 8];
    hash.finalize_xof().fill(&mut bits);
    // The 53 bits that a double holds, never 0 and never 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
    let drawn = (u64::from_le_bytes(bits) >> 11) as f64 + 0.5;
    drawn / (1_u64 << 53) as f64
}

/// How a choice of this weight scores for a caller; the highest score wins.
pub fn score(anchor: &str, name: &str, weight: f64) -> f64 {
    weight / -point(anchor, name).ln()
}
