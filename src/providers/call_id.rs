//! Ids for tool calls whose provider gives none: the same for the same answer, place and name.

/// An invented id: `call_` and 24 letters and digits.
pub(super) fn invent(answer: &str, choice: u64, place: usize, name: &str) -> String {
    let mut hash = blake3::Hasher::new();
    for part in [answer, &choice.to_string(), &place.to_string(), name] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    format!("call_{}", letters(&hash.finalize(), 24))
}

/// Letters and digits drawn from a hash.
pub(super) fn letters(hash: &blake3::Hash, length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let letter = |byte: &u8| char::from(ALPHABET.get(usize::from(*byte) % 62).copied().unwrap_or(b'0'));
    hash.as_bytes().iter().take(length).map(letter).collect()
}
