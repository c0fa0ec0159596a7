//! Reads raw HTTP/1 bytes as they pass and condemns what a later parser could understand differently.
//!
//! hyper accepts several spellings that other parsers read otherwise, which is how requests are smuggled:
//! both length headers, a transfer coding before `chunked`, lines that end with a bare LF. By the time
//! hyper hands a request over, these traces are gone, so they are looked for in the bytes. Nothing is
//! held back and only lines torn between two reads are copied. To find the next head, the scanner follows
//! each body's framing; when that is broken, no further request of the connection is served.

use memchr::memchr;

use super::wire::{Stage, Verdict, Wire};

/// The scanner's place in the stream of requests.
pub(super) struct Scanner {
    state: State,
    /// Number of the request that is being read, from 0.
    request: u64,
    /// The beginning of a line whose end has not arrived.
    torn: Vec<u8>,
    /// Bytes of the current head.
    head: usize,
    /// Headers of the current head.
    headers: usize,
    chunked: bool,
    length: Option<u64>,
    head_limit: usize,
    header_limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    RequestLine,
    Headers,
    /// This many bytes of a body with a known length are to come.
    Body(u64),
    ChunkSize,
    /// This many bytes of a chunk and its line end are to come.
    Chunk(u64),
    Trailers,
    /// Nothing more is served from this connection.
    Condemned,
}

impl Scanner {
    pub(super) fn new(head_limit: usize, header_limit: usize) -> Self {
        Self {
            state: State::RequestLine,
            request: 0,
            torn: Vec::new(),
            head: 0,
            headers: 0,
            chunked: false,
            length: None,
            head_limit,
            header_limit,
        }
    }

    /// Takes the next bytes of the connection and notes on the wire what they mean.
    pub(super) fn scan(&mut self, mut bytes: &[u8], wire: &Wire) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Condemned => break,
                State::Body(left) | State::Chunk(left) => self.skip(bytes, left),
                State::RequestLine | State::Headers | State::ChunkSize | State::Trailers => {
                    self.next_line(bytes, wire)
                }
            };
        }
        wire.set_stage(self.stage());
    }

    fn stage(&self) -> Stage {
        match self.state {
            State::RequestLine if self.torn.is_empty() => Stage::Between,
            State::RequestLine | State::Headers | State::Condemned => Stage::Head,
            State::Body(_) | State::ChunkSize | State::Chunk(_) | State::Trailers => Stage::Body,
        }
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        self.state = match self.state {
            State::Body(_) if left == 0 => self.next_request(),
            State::Body(_) => State::Body(left),
            _ if left == 0 => State::ChunkSize,
            _ => State::Chunk(left),
        };
        bytes.get(here..).unwrap_or_default()
    }

    fn next_request(&mut self) -> State {
        self.request += 1;
        self.head = 0;
        self.headers = 0;
        self.chunked = false;
        self.length = None;
        State::RequestLine
    }

    fn next_line<'a>(&mut self, bytes: &'a [u8], wire: &Wire) -> &'a [u8] {
        let Some(end) = memchr(b'\n', bytes) else {
            if self.torn.len() + bytes.len() > self.head_limit {
                self.condemn(Verdict::HeadTooLarge, wire);
            } else {
                self.torn.extend_from_slice(bytes);
            }
            return &[];
        };
        let (line, rest) = (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default());
        let done = if self.torn.is_empty() {
            self.line(line)
        } else {
            let mut torn = std::mem::take(&mut self.torn);
            torn.extend_from_slice(line);
            self.line(&torn)
        };
        if let Err(verdict) = done {
            self.condemn(verdict, wire);
        }
        rest
    }

    /// A broken head condemns its own request; a broken body the ones after it, for hyper itself refuses
    /// to read on in the body.
    fn condemn(&mut self, verdict: Verdict, wire: &Wire) {
        match self.state {
            State::RequestLine | State::Headers => wire.condemn(self.request, verdict),
            _ => wire.condemn(self.request + 1, Verdict::LostFraming),
        }
        self.state = State::Condemned;
        self.torn = Vec::new();
    }

    /// Takes one line, without its LF.
    fn line(&mut self, line: &[u8]) -> Result<(), Verdict> {
        let [line @ .., b'\r'] = line else { return Err(Verdict::BareLineFeed) };
        match self.state {
            State::RequestLine => {
                // Empty lines before a request are tolerated by everybody (RFC 9112, section 2.2).
                if !line.is_empty() {
                    self.head = line.len() + 2;
                    self.state = State::Headers;
                }
                Ok(())
            }
            State::Headers if line.is_empty() => {
                self.state = self.body()?;
                Ok(())
            }
            State::Headers => self.header(line),
            State::ChunkSize => {
                self.state = match chunk_size(line).ok_or(Verdict::LostFraming)? {
                    0 => State::Trailers,
                    size => State::Chunk(size.checked_add(2).ok_or(Verdict::LostFraming)?),
                };
                Ok(())
            }
            State::Trailers if line.is_empty() => {
                self.state = self.next_request();
                Ok(())
            }
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Condemned => Ok(()),
        }
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Verdict> {
        self.head += line.len() + 2;
        self.headers += 1;
        if self.head > self.head_limit {
            return Err(Verdict::HeadTooLarge);
        }
        if self.headers > self.header_limit {
            return Err(Verdict::TooManyHeaders);
        }
        match line.first() {
            Some(b' ' | b'\t') => Err(Verdict::FoldedHeader),
            Some(b'c' | b'C') => match value_of(line, b"content-length") {
                None => Ok(()),
                Some(value) if self.length.is_none() => {
                    self.length = Some(value.and_then(number).ok_or(Verdict::ContentLength)?);
                    Ok(())
                }
                Some(_) => Err(Verdict::ContentLength),
            },
            Some(b't' | b'T') => match value_of(line, b"transfer-encoding") {
                None => Ok(()),
                Some(Some(value)) if !self.chunked && value.eq_ignore_ascii_case(b"chunked") => {
                    self.chunked = true;
                    Ok(())
                }
                Some(_) => Err(Verdict::TransferEncoding),
            },
            _ => Ok(()),
        }
    }

    fn body(&mut self) -> Result<State, Verdict> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Verdict::TwoLengths),
            (true, None) => Ok(State::ChunkSize),
            (false, Some(length @ 1..)) => Ok(State::Body(length)),
            (false, _) => Ok(self.next_request()),
        }
    }
}

/// `None` if the line is not about `name` (lowercase); `Some(None)` if it is, but not spelled `name:`.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<Option<&'a [u8]>> {
    let (start, rest) = line.split_at_checked(name.len())?;
    if !start.eq_ignore_ascii_case(name) {
        return None;
    }
    match rest {
        [b':', value @ ..] => Some(Some(trim(value))),
        // "content-length : 5" is the smuggler's spelling; "content-length-x: 5" is another header.
        [b' ' | b'\t', ..] | [] => Some(None),
        _ => None,
    }
}

fn trim(value: &[u8]) -> &[u8] {
    let is_space = |b: &u8| matches!(b, b' ' | b'\t');
    let start = value.iter().position(|b| !is_space(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !is_space(b)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = match memchr(b';', line) {
        Some(extension) => line.get(..extension)?,
        None => line,
    };
    let digits = trim(digits);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        let value = char::from(*digit).to_digit(16)?;
        sum.checked_mul(16)?.checked_add(u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The number of the first request that must not be served, why, and where the scanner stands.
    fn scan(pieces: &[&[u8]]) -> (Option<(u64, Verdict)>, Stage) {
        let wire = Wire::default();
        let mut scanner = Scanner::new(1024, 8);
        for piece in pieces {
            scanner.scan(piece, &wire);
        }
        let condemned = (0..20).find_map(|request| Some((request, wire.verdict(request)?)));
        (condemned, wire.stage())
    }

    fn head(headers: &str) -> String {
        format!("POST /v1 HTTP/1.1\r\nhost: a\r\n{headers}\r\n")
    }

    #[test]
    fn what_other_parsers_read_otherwise_is_condemned() {
        use Verdict::*;
        let cases: &[(&str, Option<Verdict>)] = &[
            ("", None),
            ("content-length: 0\r\n", None),
            ("Content-LENGTH:\t0 \r\n", None),
            ("content-length-x: 5\r\ncontent-type: a\r\nte: gzip\r\n", None),
            ("content-length: 0\r\ntransfer-encoding: chunked\r\n", Some(TwoLengths)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", Some(TwoLengths)),
            ("transfer-encoding: gzip, chunked\r\n", Some(TransferEncoding)),
            ("transfer-encoding: identity\r\n", Some(TransferEncoding)),
            ("transfer-encoding:\r\n", Some(TransferEncoding)),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", Some(TransferEncoding)),
            ("transfer-encoding : chunked\r\n", Some(TransferEncoding)),
            ("transfer-encoding: xchunked\r\n", Some(TransferEncoding)),
            ("content-length: 0\r\ncontent-length: 0\r\n", Some(ContentLength)),
            ("content-length: 0, 0\r\n", Some(ContentLength)),
            ("content-length: +0\r\n", Some(ContentLength)),
            ("content-length: 0x0\r\n", Some(ContentLength)),
            ("content-length:\r\n", Some(ContentLength)),
            ("content-length : 0\r\n", Some(ContentLength)),
            ("content-length: 18446744073709551616\r\n", Some(ContentLength)),
            ("x: y\n", Some(BareLineFeed)),
            ("x: y\r\n z\r\n", Some(FoldedHeader)),
            ("x: y\r\n\tz\r\n", Some(FoldedHeader)),
            (&"x: y\r\n".repeat(8), Some(TooManyHeaders)),
            (&format!("x: {}\r\n", "y".repeat(1024)), Some(HeadTooLarge)),
        ];
        for (headers, expected) in cases {
            let (condemned, stage) = scan(&[head(headers).as_bytes()]);
            assert_eq!(condemned, expected.map(|verdict| (0, verdict)), "{headers:?}");
            assert_eq!(stage == Stage::Between, expected.is_none(), "{headers:?}");
        }
        assert_eq!(scan(&[b"GET / HTTP/1.1\nhost: a\r\n\r\n"]).0, Some((0, BareLineFeed)));
    }

    #[test]
    fn the_next_head_is_found_behind_every_body() {
        let bad = head("content-length: 1\r\ntransfer-encoding: chunked\r\n");
        for (first, framing_holds) in [
            (head("content-length: 3\r\n") + "a\nb", true),
            (head("transfer-encoding: chunked\r\n") + "3\r\na\nb\r\n0\r\n\r\n", true),
            (head("transfer-encoding: chunked\r\n") + "0A;x=y\r\n0123456789\r\n0\r\nx: y\r\n\r\n", true),
            (head("") + "\r\n\r\n", true),
            (head("transfer-encoding: chunked\r\n") + "z\r\n\r\n", false),
            (head("transfer-encoding: chunked\r\n") + "\r\n\r\n", false),
            (head("transfer-encoding: chunked\r\n") + "fffffffffffffffff\r\n\r\n", false),
            (head("transfer-encoding: chunked\r\n") + "3\nabc\r\n0\r\n\r\n", false),
        ] {
            let expected = if framing_holds { Verdict::TwoLengths } else { Verdict::LostFraming };
            let both = first.clone() + bad.as_str();
            assert_eq!(scan(&[both.as_bytes()]).0, Some((1, expected)), "{first:?}");
        }
    }

    proptest! {
        #[test]
        fn where_the_reads_are_cut_makes_no_difference(
            parts in prop::collection::vec(0usize..9, 1..5),
            cuts in prop::collection::vec(0usize..400, 0..8),
        ) {
            const PARTS: [&str; 9] = [
                "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
                "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5;a\r\nhel\no\r\n0\r\nx: y\r\n\r\n",
                "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                "GET / HTTP/1.1\r\nx: y\n\r\n",
                "GET / HTTP/1.1\r\nx: y\r\n z\r\n\r\n",
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
                "\r\n",
            ];
            let text: String = parts.iter().map(|part| PARTS[*part]).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut start = 0;
            for cut in cuts {
                pieces.push(&text.as_bytes()[start..cut]);
                start = cut;
            }
            pieces.push(&text.as_bytes()[start..]);
            prop_assert_eq!(scan(&pieces), scan(&[text.as_bytes()]));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            scan(&[&bytes]);
        }
    }
}
