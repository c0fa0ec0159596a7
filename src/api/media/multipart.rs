//! `multipart/form-data` as it passes by: where its parts begin and end, and what they are called (RFC 7578, RFC 2046).
//!
//! Nothing is taken apart or put together again, because all but one part goes on byte for byte; that is why this is
//! no parser that hands out parts. What two readers could understand differently is refused.

use http::HeaderValue;
use memchr::memmem;

use crate::fault::{Fault, FaultKind};

/// Longest head of a part.
const MAX_HEAD: usize = 16 << 10;
/// Most parts of a form.
const MAX_PARTS: usize = 256;
/// Longest boundary (RFC 2046, section 5.1.1).
const MAX_BOUNDARY: usize = 70;
/// White space that may follow a boundary.
const MAX_PADDING: usize = 256;

/// Finds the parts of a form in its bytes, cut anywhere.
pub(in crate::api) struct Scanner {
    /// The boundary with the line break and the dashes before it.
    delimiter: memmem::Finder<'static>,
    /// What was fed and not yet understood.
    window: Vec<u8>,
    /// Where the window begins. The form begins at `BIAS`, behind a line break of our own, because the first boundary
    /// may stand at its very beginning.
    base: usize,
    state: State,
    parts: Vec<Part>,
}

const BIAS: usize = 2;

/// A part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Its field's name.
    pub(super) name: String,
    /// Whether it has a file's name.
    pub(super) is_file: bool,
    /// Where its content begins, in bytes of the form.
    pub(super) start: usize,
    /// Where its content ends, once that has come.
    pub(super) end: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Preamble,
    /// Right behind a boundary.
    Boundary,
    /// In a part's head, which is read together with the line break before it.
    Head,
    /// In a part's content.
    Content,
    /// Behind the last boundary.
    Over,
}

impl Scanner {
    /// A scanner for a body of this content type.
    ///
    /// # Errors
    /// `BadRequest` when it has no boundary, or none that may be.
    pub(in crate::api) fn for_type(kind: &HeaderValue) -> Result<Self, Fault> {
        let text = kind.to_str().map_err(|_| bad("the content type is not ASCII text"))?;
        let boundary = match parameter(text, "boundary")? {
            Some(boundary) => boundary,
            None => return Err(bad("the content type has no boundary")),
        };
        let allowed = |b: u8| b.is_ascii_graphic() || b == b' ';
        if !(1..=MAX_BOUNDARY).contains(&boundary.len())
            || !boundary.bytes().all(allowed)
            || boundary.ends_with(' ')
        {
            return Err(bad("the content type's boundary is not one"));
        }
        let delimiter = format!("\r\n--{boundary}");
        Ok(Self {
            delimiter: memmem::Finder::new(delimiter.as_bytes()).into_owned(),
            window: b"\r\n".to_vec(),
            base: 0,
            state: State::Preamble,
            parts: Vec::new(),
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `BadRequest` when they are no form.
    pub(in crate::api) fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.state == State::Over {
            return Ok(());
        }
        self.window.extend_from_slice(bytes);
        while self.step()? {}
        Ok(())
    }

    /// The parts so far, in order.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether the last boundary has come.
    pub(in crate::api) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Understands one thing more; false when more bytes are needed for it.
    fn step(&mut self) -> Result<bool, Fault> {
        match self.state {
            State::Preamble | State::Content => Ok(self.content()),
            State::Boundary => self.boundary(),
            State::Head => self.head(),
            State::Over => Ok(false),
        }
    }

    fn content(&mut self) -> bool {
        let length = self.delimiter.needle().len();
        let Some(at) = self.delimiter.find(&self.window) else {
            self.consume(self.window.len().saturating_sub(length - 1));
            return false;
        };
        let end = self.base + at;
        if let Some(part) = self.parts.last_mut().filter(|part| part.end.is_none()) {
            // The boundary may share the line break of the empty line after the head: then there is no content.
            part.end = Some(end.saturating_sub(BIAS).max(part.start));
        }
        self.consume(at + length);
        self.state = State::Boundary;
        true
    }

    fn boundary(&mut self) -> Result<bool, Fault> {
        if self.window.starts_with(b"--") {
            self.state = State::Over;
            self.window = Vec::new();
            return Ok(false);
        }
        let padding = self.window.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        match self.window.get(padding..) {
            Some([b'\r', b'\n', ..]) => {
                self.consume(padding);
                self.state = State::Head;
                Ok(true)
            }
            Some([] | [b'\r']) if padding <= MAX_PADDING => Ok(false),
            Some([b'-']) if padding == 0 => Ok(false),
            _ => Err(bad("a boundary of the form is followed by something else than a line break")),
        }
    }

    fn head(&mut self) -> Result<bool, Fault> {
        let Some(end) = memmem::find(&self.window, b"\r\n\r\n") else {
            return if self.window.len() > MAX_HEAD {
                Err(bad("a part's head is too long"))
            } else {
                Ok(false)
            };
        };
        if end > MAX_HEAD {
            return Err(bad("a part's head is too long"));
        }
        if self.parts.len() == MAX_PARTS {
            return Err(bad("the form has too many parts"));
        }
        let head = String::from_utf8_lossy(self.window.get(2..end).unwrap_or_default()).into_owned();
        let (name, is_file) = disposition(&head)?;
        self.parts.push(Part { name, is_file, start: self.base + end + 4 - BIAS, end: None });
        self.consume(end + 2);
        self.state = State::Content;
        Ok(true)
    }

    fn consume(&mut self, bytes: usize) {
        self.window.drain(..bytes);
        self.base += bytes;
    }
}

/// The field's name of a part, and whether it has a file's.
fn disposition(head: &str) -> Result<(String, bool), Fault> {
    let mut found = None;
    for line in head.split("\r\n").filter(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            return Err(bad("a part's head has a line that is no header"));
        };
        if line.starts_with([' ', '\t']) || line.contains(['\r', '\n']) {
            return Err(bad("a part's head has a broken line"));
        }
        if name.trim().eq_ignore_ascii_case("content-disposition") && found.replace(value).is_some() {
            return Err(bad("a part has two content dispositions"));
        }
    }
    let value = found.ok_or_else(|| bad("a part has no content disposition"))?;
    let name = parameter(value, "name")?.ok_or_else(|| bad("a part has no name"))?;
    let is_file = parameter(value, "filename")?.is_some() || parameter(value, "filename*")?.is_some();
    Ok((name, is_file))
}

/// A parameter of a header's value: `form-data; name="model"`. Names are told in any case, values quoted or not.
fn parameter(value: &str, wanted: &str) -> Result<Option<String>, Fault> {
    let mut found = None;
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return Ok(found);
        }
        let Some((name, after)) = rest.split_once('=') else {
            return Err(bad("a parameter of a part or of the content type has no value"));
        };
        let after = after.trim_start();
        let (value, tail) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                let (value, tail) = after.split_at(end);
                (value.trim_end().to_owned(), tail)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return Err(bad("a part or the content type has a parameter twice"));
        }
        rest = tail;
    }
}

/// A quoted text, whose opening quote is gone already, and what follows it.
fn unquote(quoted: &str) -> Result<(String, &str), Fault> {
    let mut text = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => {
                let tail = quoted.get(at + 1..).unwrap_or_default();
                let clean = tail.trim_start_matches([' ', '\t']);
                if !clean.is_empty() && !clean.starts_with(';') {
                    return Err(bad("a quoted parameter is followed by something else than a semicolon"));
                }
                return Ok((text, tail));
            }
            // Browsers escape nothing but the quote; a path of Windows has lone backslashes.
            '\\' => match letters.clone().next() {
                Some((_, next @ ('"' | '\\'))) => {
                    text.push(next);
                    letters.next();
                }
                _ => text.push('\\'),
            },
            letter => text.push(letter),
        }
    }
    Err(bad("a quoted parameter has no end"))
}

fn bad(text: &'static str) -> Fault {
    Fault::new(FaultKind::BadRequest, text).code("form_invalid").at("body")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(kind: &str, form: &str, size: usize) -> Result<Scanner, Fault> {
        let mut scanner = Scanner::for_type(&HeaderValue::from_str(kind).unwrap())?;
        for piece in form.as_bytes().chunks(size) {
            scanner.feed(piece)?;
        }
        Ok(scanner)
    }

    /// Names and contents, the same however the form is cut.
    #[track_caller]
    fn parts(kind: &str, form: &str) -> Vec<(String, Option<String>)> {
        let mut all: Vec<Vec<(String, Option<String>)>> = Vec::new();
        for size in 1..=form.len() {
            let scanner = scan(kind, form, size).unwrap_or_else(|fault| panic!("{size}: {fault} in {form}"));
            let content = |part: &Part| part.end.map(|end| form[part.start..end].to_owned());
            all.push(scanner.parts().iter().map(|part| (part.name.clone(), content(part))).collect());
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{form}: {all:?}");
        all.pop().unwrap()
    }

    fn known(pairs: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), Some((*text).to_owned()))).collect()
    }

    #[test]
    fn parts_are_found_at_every_split() {
        let kind = "multipart/form-data; boundary=AaB03x";
        for (form, expected) in [
            (
                "--AaB03x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--AaB03x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRI\r\nFF\r\n--AaB03\r\n-- no\r\n--AaB03x--\r\n",
                known(&[("model", "whisper-1"), ("file", "RI\r\nFF\r\n--AaB03\r\n-- no")]),
            ),
            (
                "preamble\r\n--AaB03x  \t\r\nContent-Disposition:form-data;name=model\r\n\r\nm\r\n--AaB03x--epilogue --AaB03x",
                known(&[("model", "m")]),
            ),
            (
                "--AaB03x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--AaB03x\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n\r\n\r\n--AaB03x--",
                known(&[("a", ""), ("b", "\r\n")]),
            ),
            ("--AaB03x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n--AaB03x--", known(&[("a", "")])),
            ("--AaB03x--", vec![]),
        ] {
            assert_eq!(parts(kind, form), expected, "{form}");
        }
    }

    #[test]
    fn boundaries_and_names_may_be_quoted_and_odd() {
        for (kind, boundary) in [
            ("multipart/form-data; boundary=\"with space:and'more\"", "with space:and'more"),
            (
                "multipart/form-data; charset=utf-8; BOUNDARY=----WebKitFormBoundary7",
                "----WebKitFormBoundary7",
            ),
            ("multipart/form-data;boundary=\"a;b=c\" ; x=y", "a;b=c"),
        ] {
            let form = format!(
                "--{boundary}\r\nContent-Disposition: form-data; filename=\"C:\\temp\\a; name=x.wav\"; name=\"fi\\\"le\"\r\n\r\nx\r\n--{boundary}--"
            );
            assert_eq!(parts(kind, &form), known(&[("fi\"le", "x")]), "{kind}");
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let head = "--b\r\nContent-Disposition: form-data; name=\"a\"";
        for form in [
            "--bc\r\n".to_owned(),
            "--b \r\r\n".to_owned(),
            "--b\nContent-Disposition: form-data; name=\"a\"\n\nx\n--b--".to_owned(),
            "--b\r\n\r\nno head\r\n--b--".to_owned(),
            "--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--".to_owned(),
            format!("{head}; name=\"b\"\r\n\r\nx\r\n--b--"),
            format!("{head}\r\n folded: x\r\n\r\nx\r\n--b--"),
            format!("{head}\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\nx"),
            format!("{head}\"\r\n\r\nx"),
            format!("{head}\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEAD)),
            format!("{head}\r\n\r\nx\r\n").repeat(MAX_PARTS + 1),
        ] {
            let faults =
                [1, 7, form.len()].map(|size| scan("multipart/form-data; boundary=b", &form, size).err());
            for fault in faults {
                assert_eq!(fault.map(|fault| fault.client_status()), Some(400), "{form:.200}");
            }
        }
        for kind in
            ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"a \""]
        {
            assert!(scan(kind, "", 1).is_err(), "{kind}");
        }
        let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
        assert!(scan(&long, "", 1).is_err());
    }

    #[test]
    fn a_form_that_has_not_ended_says_so() {
        let form = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx";
        let scanner = scan("multipart/form-data; boundary=b", form, 3).unwrap();
        assert_eq!((scanner.parts()[0].end, scanner.is_over()), (None, false));
    }
}
