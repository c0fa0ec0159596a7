//! Percent-encoding (RFC 3986) of what stands in a URL.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` with everything escaped but letters, digits, `-`, `.`, `_`, `~` and the bytes of `also`.
pub fn encoded<'a>(text: &'a str, also: &[u8]) -> Cow<'a, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte);
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    Cow::Owned(out)
}

/// `text` as one segment of a path: dots alone, which would lead elsewhere, are escaped too.
pub(super) fn segment<'a>(text: &'a str, also: &[u8]) -> Cow<'a, str> {
    if !text.is_empty() && text.bytes().all(|byte| byte == b'.') {
        return Cow::Owned(text.replace('.', "%2E"));
    }
    encoded(text, also)
}
