//! A text that stays as the client wrote it until somebody reads it.

use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::{tree, write_text};

/// A text, plain or as a JSON string of a body that passed the gate. Between dialects most texts are only carried:
/// nobody has to resolve their escapes in order to write them again.
#[derive(Clone, Default)]
pub struct Text(Said);

#[derive(Clone)]
enum Said {
    Plain(String),
    /// A JSON string with its quotes, a slice of the body; and its text, once it was read.
    Written(Bytes, OnceLock<Box<str>>),
}

impl Default for Said {
    fn default() -> Self {
        Self::Plain(String::new())
    }
}

impl Text {
    /// A JSON string as it stands in a body that passed the gate, with its quotes.
    pub fn written(quoted: Bytes) -> Self {
        Self(Said::Written(quoted, OnceLock::new()))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Said::Plain(text) => text,
            Said::Written(quoted, read) => read.get_or_init(|| {
                let text = std::str::from_utf8(quoted).ok().and_then(tree::unescape);
                text.unwrap_or_default().into_boxed_str()
            }),
        }
    }

    /// The text itself, for keeps.
    pub fn into_string(self) -> String {
        match self.0 {
            Said::Plain(text) => text,
            Said::Written(..) => self.as_str().to_owned(),
        }
    }

    /// Whether it is empty or white space.
    pub fn is_blank(&self) -> bool {
        match &self.0 {
            // Nearly all texts begin with a letter, which needs no reading.
            Said::Written(quoted, _) if quoted.get(1).is_some_and(u8::is_ascii_alphanumeric) => false,
            _ => self.as_str().trim().is_empty(),
        }
    }

    /// Appends it as a JSON string.
    pub fn write(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Said::Plain(text) => write_text(out, text),
            Said::Written(quoted, _) => out.extend_from_slice(quoted),
        }
    }

    /// About how many bytes [`Text::write`] appends.
    pub(super) fn room(&self) -> usize {
        match &self.0 {
            Said::Plain(text) => text.len() + text.len() / 16 + 2,
            Said::Written(quoted, _) => quoted.len(),
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Said::Plain(text))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_text_is_the_text_that_it_says() {
        for (quoted, text, blank) in [
            (r#""""#, "", true),
            (r#""a\n\u00e9\"""#, "a\né\"", false),
            (r#"" \n""#, " \n", true),
            (r#""\u0041""#, "A", false),
            (r#""é""#, "é", false),
        ] {
            let written = Text::written(Bytes::from_static(quoted.as_bytes()));
            let plain = Text::from(text);
            assert_eq!((&written, written.is_blank()), (&plain, blank), "{quoted}");
            assert_eq!(plain.is_blank(), blank, "{quoted}");
            let mut out = Vec::new();
            written.write(&mut out);
            assert_eq!(out, quoted.as_bytes(), "what was written stays as it was");
            out.clear();
            plain.write(&mut out);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            assert_eq!(written.into_string(), text);
        }
    }
}
