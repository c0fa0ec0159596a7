//! Pictures, sound and files that stand in a body themselves, in base64: nearly all of its bytes then, and nearly none of
//! its tokens.

/// Texts that are no longer are counted as texts: a medium has hardly fewer tokens than a quarter of these bytes.
pub(super) const LONG: usize = 6_400;

/// Keys under which dialects put bytes that are no data URL.
const KEYS: [&str; 4] = ["data", "file_data", "result", "b64_json"];

/// How much of each end of a text is looked at.
const LOOK: usize = 64;

/// What of a body is media.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inlined {
    /// How many there are.
    pub count: usize,
    /// How many bytes of the body they take.
    pub bytes: usize,
}

impl Inlined {
    /// These and others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, bytes: self.bytes + other.bytes }
    }

    /// Counts a string, given with its quotes and the key under which it stands, if it is a medium.
    #[cold]
    pub(super) fn note(&mut self, key: &str, quoted: &[u8]) {
        let text = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        if let Some(data) = medium(key, text) {
            self.count += 1;
            self.bytes += data.len();
        }
    }
}

/// The base64 of a medium.
fn medium<'a>(key: &str, text: &'a [u8]) -> Option<&'a [u8]> {
    let data = match text.strip_prefix(b"data:") {
        // A file of text is read as text.
        Some(url) if url.starts_with(b"text/") => return None,
        Some(url) => {
            let head = memchr::memmem::find(url.get(..LOOK * 2)?, b";base64,")?;
            url.get(head + b";base64,".len()..)?
        }
        None if KEYS.contains(&key) => text,
        None => return None,
    };
    let ends = [data.get(..LOOK)?, data.get(data.len().checked_sub(LOOK)?..)?];
    ends.into_iter().flatten().all(|&byte| is_base64(byte)).then_some(data)
}

/// Of either alphabet; some clients escape the slash.
fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'\\')
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::json::Body;

    #[test]
    fn media_are_told_from_texts() {
        let check = |value: String, expected: bool| {
            let body = Body::read(Bytes::from(format!(r#"{{"messages":[{{"a":1}},{value}]}}"#))).unwrap();
            let told = &value[..value.len().min(60)];
            assert_eq!(body.inlined().count == 1, expected, "{told}");
            let bytes = body.inlined().bytes;
            assert_eq!((LONG / 2..value.len()).contains(&bytes), expected, "{told}: {bytes}");
        };
        let long = "iVBORw0KGgo".repeat(1_000);
        let words = "some words ".repeat(1_000);
        for (value, expected) in [
            (format!(r#"{{"url":"data:image/png;base64,{long}"}}"#), true),
            (format!(r#"{{"url" : "data:image\/png;base64,{long}\/9=="}}"#), true),
            (format!(r#"{{"image_url":"data:image/jpeg;charset=utf-8;base64,{long}"}}"#), true),
            (format!(r#"{{"source":{{"type":"base64","data":"{long}"}}}}"#), true),
            (format!(r#"{{"inlineData":{{"data":"{}"}}}}"#, long.replace('o', "_")), true),
            (format!(r#"{{"file_data":"{long}"}}"#), true),
            (format!(r#"{{"text":"{long}"}}"#), false),
            (format!(r#"{{"data":"{words}"}}"#), false),
            (format!(r#"{{"text":"data:{words}"}}"#), false),
            (format!(r#"{{"file_data":"data:text/csv;base64,{long}"}}"#), false),
            (format!(r#"{{"url":"data:image/png;base64,{}"}}"#, &long[..500]), false),
            (format!(r#""{long}""#), false),
        ] {
            check(value, expected);
        }
    }
}
