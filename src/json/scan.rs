//! Finding the end of the plain part of a JSON string, many bytes at a time.

use wide::u8x16;

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
const SPACES: u64 = u64::from_ne_bytes([0x20; 8]);
const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
const BACKSLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);

/// Bytes whose special ones are told without a branch: most keys and words end within it.
const BLOCK: usize = 16;
/// Bytes looked at at once in long strings; the compiler makes vector instructions of it.
const STRIDE: usize = 64;

/// The first position from `at` on that holds a quote, a backslash or a control character; the length of `bytes`
/// where there is none.
#[inline]
pub(super) fn plain_end(bytes: &[u8], at: usize) -> usize {
    match chunk::<BLOCK>(bytes, at) {
        Some(block) => first_special(block).map_or_else(|| long_end(bytes, at + BLOCK), |offset| at + offset),
        None => tail_end(bytes, at),
    }
}

/// The eight bytes from `at` on as a number, the first one lowest.
#[inline]
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    chunk::<8>(bytes, at).map(|chunk| u64::from_le_bytes(*chunk))
}

#[inline(never)]
fn long_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    let mut blocks = 0;
    while let Some(block) = chunk::<BLOCK>(bytes, at) {
        if let Some(offset) = first_special(block) {
            return at + offset;
        }
        at += BLOCK;
        blocks += 1;
        if blocks == 4 {
            at = skip_strides(bytes, at);
        }
    }
    tail_end(bytes, at)
}

#[inline]
fn skip_strides(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while chunk::<STRIDE>(bytes, at).is_some_and(|stride| !any_special(stride)) {
        at += STRIDE;
    }
    at
}

fn tail_end(bytes: &[u8], at: usize) -> usize {
    let tail = bytes.get(at..).unwrap_or_default();
    at + tail.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\').unwrap_or(tail.len())
}

#[inline]
fn any_special(stride: &[u8; STRIDE]) -> bool {
    stride
        .iter()
        .fold(0u8, |found, &b| found | u8::from(b < 0x20) | u8::from(b == b'"') | u8::from(b == b'\\'))
        != 0
}

#[inline]
fn first_special(block: &[u8; BLOCK]) -> Option<usize> {
    let low = special(word(block, 0)?);
    let high = special(word(block, 8)?);
    if low | high == 0 {
        return None;
    }
    let (found, offset) = if low == 0 { (high, 8) } else { (low, 0) };
    Some(offset + (found.trailing_zeros() / 8) as usize)
}

/// High bits of the bytes that are special. Bits above the lowest one may be wrong (a borrow runs upwards), the
/// lowest is exact.
#[inline]
fn special(word: u64) -> u64 {
    let quote = (word ^ QUOTES).wrapping_sub(ONES);
    let backslash = (word ^ BACKSLASHES).wrapping_sub(ONES);
    let control = word.wrapping_sub(SPACES);
    (quote | backslash | control) & !word & HIGHS
}

#[inline]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>()
}

/// Bytes of which [`specials`] makes one number.
pub(super) const MASKED: usize = 64;

/// The 64 bytes from `at` on, if there are so many.
#[inline]
pub(super) fn masked(bytes: &[u8], at: usize) -> Option<u64> {
    chunk::<MASKED>(bytes, at).map(specials)
}

/// One bit for each byte, set where it is a quote, a backslash or a control character; the first byte is lowest.
///
/// Prompts are full of escapes: with all places of a block at once, each costs a shift instead of a new search.
#[inline]
fn specials(block: &[u8; MASKED]) -> u64 {
    let (quotes, backslashes, controls) = (u8x16::splat(b'"'), u8x16::splat(b'\\'), u8x16::splat(0x1f));
    let (lanes, _) = block.as_chunks::<16>();
    lanes.iter().rev().fold(0, |mask, lane| {
        let lane = u8x16::new(*lane);
        let marked = lane.simd_eq(quotes) | lane.simd_eq(backslashes) | lane.min(controls).simd_eq(lane);
        mask << 16 | u64::from(marked.to_bitmask())
    })
}

/// One bit for each byte: where quotes stand, and where backslashes.
#[inline]
fn quotes_and_backslashes(block: &[u8; MASKED]) -> (u64, u64) {
    let (quotes, backslashes) = (u8x16::splat(b'"'), u8x16::splat(b'\\'));
    let (lanes, _) = block.as_chunks::<16>();
    lanes.iter().rev().fold((0, 0), |(quoted, escaping), lane| {
        let lane = u8x16::new(*lane);
        let bits = |marks: u8x16| u64::from(lane.simd_eq(marks).to_bitmask());
        (quoted << 16 | bits(quotes), escaping << 16 | bits(backslashes))
    })
}

/// Every other bit, from the second one on.
const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;

/// The position behind the quote that ends the string whose text begins at `at`; `None` where none does. Meant for text
/// that passed the gate: nothing but the end is looked for.
#[inline]
pub(super) fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let end = plain_end(bytes, at);
    if bytes.get(end) == Some(&b'"') { Some(end + 1) } else { escaped_end(bytes, end) }
}

/// See [`string_end`]. Of a row of backslashes each second one is escaped, and so is what follows a row of odd length.
/// Both are told without a branch: the backslashes are subtracted from the places behind them and the odd places, and how
/// far each row borrows depends on whether it begins at an odd place.
#[inline(never)]
fn escaped_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    // Whether the first byte of the block is escaped: 0 or 1.
    let mut carried = 0;
    while let Some(block) = chunk::<MASKED>(bytes, at) {
        let (quotes, backslashes) = quotes_and_backslashes(block);
        let escaping = backslashes & !carried;
        let crossed = (escaping << 1 | ODD).wrapping_sub(escaping) ^ ODD;
        let ends = quotes & !(crossed ^ (backslashes | carried));
        if ends != 0 {
            return Some(at + ends.trailing_zeros() as usize + 1);
        }
        carried = (crossed & backslashes) >> 63;
        at += MASKED;
    }
    at += carried as usize;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The special bytes of a text, one after the other; each block of [`MASKED`] bytes is looked at once.
pub(super) struct Marks<'a> {
    bytes: &'a [u8],
    /// The block that is looked at: where it begins, where it ends, its special bytes.
    start: usize,
    end: usize,
    mask: u64,
}

impl<'a> Marks<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, start: 0, end: 0, mask: 0 }
    }

    /// The first special byte from `at` on, or the end of the text. `at` must not go back.
    #[inline]
    pub(super) fn next(&mut self, mut at: usize) -> usize {
        loop {
            if at >= self.end {
                let Some(mask) = masked(self.bytes, at) else { return plain_end(self.bytes, at) };
                (self.start, self.end, self.mask) = (at, at + MASKED, mask);
            }
            let left = self.mask & (u64::MAX << (at - self.start));
            if left != 0 {
                return self.start + left.trailing_zeros() as usize;
            }
            at = self.end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Marks, masked, plain_end, string_end};

    #[test]
    fn marks_are_found_one_after_the_other() {
        for length in [0, 1, 63, 64, 65, 127, 128, 129, 300] {
            for step in [1, 2, 3, 31, 64, 65, 100] {
                let bytes: Vec<u8> =
                    (0..length).map(|at| if at % step == step - 1 { b'"' } else { b'a' }).collect();
                let mut marks = Marks::of(&bytes);
                let mut at = 0;
                while at <= length {
                    let found = marks.next(at);
                    assert_eq!(found, plain_end(&bytes, at), "{length} {step} {at}");
                    at = found + 1;
                }
            }
        }
    }

    #[test]
    fn every_bit_of_a_mask_is_its_bytes() {
        for byte in 0..=255u8 {
            for place in 0..64 {
                let mut bytes = [b'a'; 70];
                bytes[place + 3] = byte;
                let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(masked(&bytes, 3), Some(u64::from(special) << place), "byte {byte:#x} at {place}");
            }
        }
        assert_eq!(masked(&[0; 66], 3), None);
    }

    #[test]
    fn every_byte_at_every_distance_is_found_where_it_stands() {
        for byte in 0..=255u8 {
            for distance in 0..200 {
                let mut bytes = vec![b'a'; distance];
                bytes.push(byte);
                bytes.extend_from_slice(&[b'z'; 90]);
                let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                let expected = if special { distance } else { bytes.len() };
                assert_eq!(plain_end(&bytes, 0), expected, "byte {byte:#x} at {distance}");
            }
        }
    }

    #[test]
    fn the_lowest_of_several_wins() {
        let text = b"0123456789012345678901234567890123456789012345678901234567890123456789\\ \" \n";
        assert_eq!(plain_end(text, 0), 70);
        assert_eq!(plain_end(text, 71), 72);
        assert_eq!(plain_end(text, 73), 74);
        assert_eq!(plain_end(text, 75), 75, "at the end nothing is left");
    }

    #[test]
    fn strings_end_at_the_first_quote_that_is_not_escaped() {
        // Rows of backslashes of every length at every place around the borders of blocks, and a quote behind each.
        for before in 0..140 {
            for row in 0..70 {
                let text = format!("{}{}", "a".repeat(before), "\\".repeat(row));
                for more in ["\"", "\"\"", "\"x\\\"\"", ""] {
                    let text = format!("{text}{more}{}", "z".repeat(row % 3 * 60));
                    let (mut at, mut end) = (0, None);
                    while let Some(byte) = text.as_bytes().get(at) {
                        at += if *byte == b'\\' { 2 } else { 1 };
                        if *byte == b'"' {
                            end = Some(at);
                            break;
                        }
                    }
                    assert_eq!(string_end(text.as_bytes(), 0), end, "{text}");
                }
            }
        }
    }
}
