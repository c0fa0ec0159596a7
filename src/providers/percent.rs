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

/// What `text` says once its escapes are undone; `None` where one of them is none, or it is not UTF-8.
pub fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// `text` as one segment of a path: dots alone, which would lead elsewhere, are escaped too.
pub(super) fn segment<'a>(text: &'a str, also: &[u8]) -> Cow<'a, str> {
    if !text.is_empty() && text.bytes().all(|byte| byte == b'.') {
        return Cow::Owned(text.replace('.', "%2E"));
    }
    encoded(text, also)
}
