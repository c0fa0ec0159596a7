//! Finding the end of the plain part of a JSON string, many bytes at a time.

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
const SPACES: u64 = u64::from_ne_bytes([0x20; 8]);
const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
const BACKSLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);

/// Bytes looked at at once in long strings; the compiler makes vector instructions of it.
const BLOCK: usize = 64;

/// The first position from `at` on that holds a quote, a backslash or a control character; the length of `bytes`
/// where there is none.
#[inline]
pub(super) fn plain_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    // Most strings are keys, words and short sentences: three words find their end.
    for _ in 0..3 {
        let Some(word) = word(bytes, at) else { return tail_end(bytes, at) };
        let found = special(word);
        if found != 0 {
            return at + first(found);
        }
        at += 8;
    }
    long_end(bytes, at)
}

fn long_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        if any_special(block) {
            break;
        }
        at += BLOCK;
    }
    while let Some(word) = word(bytes, at) {
        let found = special(word);
        if found != 0 {
            return at + first(found);
        }
        at += 8;
    }
    tail_end(bytes, at)
}

#[inline]
fn any_special(block: &[u8; BLOCK]) -> bool {
    block
        .iter()
        .fold(0u8, |found, &b| found | u8::from(b < 0x20) | u8::from(b == b'"') | u8::from(b == b'\\'))
        != 0
}

fn tail_end(bytes: &[u8], at: usize) -> usize {
    let tail = bytes.get(at..).unwrap_or_default();
    at + tail.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\').unwrap_or(tail.len())
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk))
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
fn first(found: u64) -> usize {
    (found.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::plain_end;

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
}
