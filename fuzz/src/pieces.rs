//! Cutting bytes into pieces, the same way for the same seed.

use bytes::Bytes;

/// `data` in pieces of 1 to 16 bytes, or of one byte each where the seed is 1.
pub fn pieces(data: &[u8], seed: u64) -> Vec<Bytes> {
    let mut state = seed;
    let mut rest = data;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        // A linear congruential generator (Knuth's MMIX): good enough to cut by.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = if seed == 1 { 1 } else { 1 + (state >> 60) as usize };
        let (piece, tail) = rest.split_at(size.min(rest.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = tail;
    }
    pieces
}
