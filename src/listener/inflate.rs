//! Decompresses request bodies piece by piece, under a bound on size and on ratio.

use std::io::{self, Write};

use bytes::{Buf, Bytes};
use flate2::write::{GzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};

use super::{CompressionSettings, LimitSettings};
use crate::fault::{Fault, FaultKind};

/// Compressed bytes taken at a time, so that a worker is never held up by one body's decompression.
const STEP: usize = 8 << 10;
/// Small bodies may compress better than the ratio allows.
const FREE: u64 = 64 << 10;

/// A decoder that stops where the bounds are.
pub(super) struct Inflate {
    decoder: Decoder,
    input: Bytes,
}

enum Decoder {
    Gzip(GzDecoder<Bounded>),
    Deflate(ZlibDecoder<Bounded>),
}

struct Bounded {
    out: Vec<u8>,
    written: u64,
    max_size: u64,
    max_ratio: u64,
    /// Compressed bytes taken so far.
    taken: u64,
    /// Which bound was hit.
    too_large: bool,
}

impl Inflate {
    /// The decoder for a request's `Content-Encoding`, if it needs one; the headers that describe the
    /// compressed form are removed.
    ///
    /// # Errors
    /// 415 for an encoding that is not accepted.
    pub(super) fn for_request(
        headers: &mut HeaderMap,
        compression: &CompressionSettings,
        limits: &LimitSettings,
    ) -> Result<Option<Self>, Fault> {
        let Some(encoding) = headers.get(CONTENT_ENCODING) else { return Ok(None) };
        let one = headers.get_all(CONTENT_ENCODING).iter().count() == 1;
        let bounded = || Bounded {
            out: Vec::new(),
            written: 0,
            max_size: compression.max_size.0.min(limits.body.0),
            max_ratio: u64::from(compression.max_ratio),
            taken: 0,
            too_large: false,
        };
        let is = |name: &str| one && encoding.as_bytes().eq_ignore_ascii_case(name.as_bytes());
        let decoder = if is("identity") {
            None
        } else if compression.accept && (is("gzip") || is("x-gzip")) {
            Some(Decoder::Gzip(GzDecoder::new(bounded())))
        } else if compression.accept && is("deflate") {
            Some(Decoder::Deflate(ZlibDecoder::new(bounded())))
        } else {
            return Err(unsupported(compression.accept));
        };
        headers.remove(CONTENT_ENCODING);
        if decoder.is_some() {
            headers.remove(CONTENT_LENGTH);
        }
        Ok(decoder.map(|decoder| Self { decoder, input: Bytes::new() }))
    }

    /// Hands in compressed bytes; only when [`next_piece`](Self::next_piece) has no more.
    pub(super) fn feed(&mut self, data: Bytes) {
        self.input = data;
    }

    /// The next decompressed piece, or `None` when more input is needed.
    pub(super) fn next_piece(&mut self) -> Result<Option<Bytes>, Fault> {
        while !self.input.is_empty() {
            let step = self.input.get(..STEP).unwrap_or(&self.input);
            let taken = self.decoder.write(step).map_err(|_| self.fault())?;
            if taken == 0 {
                return Err(malformed());
            }
            self.input.advance(taken);
            let out = &mut self.decoder.bounded().out;
            if !out.is_empty() {
                return Ok(Some(Bytes::from(std::mem::take(out))));
            }
        }
        Ok(None)
    }

    /// Checks that the compressed body was complete.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        let ended = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.try_finish(),
            Decoder::Deflate(decoder) => decoder.try_finish(),
        };
        // Whatever came out this late was held back by the decoder for want of input that never came.
        if ended.is_err() || !self.decoder.bounded().out.is_empty() {
            return Err(malformed());
        }
        Ok(())
    }

    fn fault(&self) -> Fault {
        let bounded = match &self.decoder {
            Decoder::Gzip(decoder) => decoder.get_ref(),
            Decoder::Deflate(decoder) => decoder.get_ref(),
        };
        if bounded.too_large {
            let text = "the request body decompresses to more than is allowed";
            Fault::new(FaultKind::TooLarge, text)
        } else {
            malformed()
        }
    }
}

impl Decoder {
    fn bounded(&mut self) -> &mut Bounded {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
        }
    }

    fn write(&mut self, input: &[u8]) -> io::Result<usize> {
        self.bounded().taken += input.len() as u64;
        let written = match self {
            Self::Gzip(decoder) => decoder.write(input).and_then(|n| decoder.flush().map(|()| n)),
            Self::Deflate(decoder) => decoder.write(input).and_then(|n| decoder.flush().map(|()| n)),
        };
        if let Ok(written) = written {
            self.bounded().taken -= (input.len() - written) as u64;
        }
        written
    }
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.written += data.len() as u64;
        let by_ratio = self.taken.saturating_mul(self.max_ratio).saturating_add(FREE);
        if self.written > self.max_size.min(by_ratio) {
            self.too_large = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.out.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unsupported(some_are_accepted: bool) -> Fault {
    let text = if some_are_accepted {
        "this content-encoding is not accepted, use gzip, deflate or none"
    } else {
        "compressed request bodies are not accepted (`compression.accept` of the gateway)"
    };
    Fault::new(FaultKind::UnsupportedMedia, text)
}

fn malformed() -> Fault {
    Fault::new(FaultKind::BadRequest, "the compressed request body is malformed or incomplete")
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;
    use crate::settings::Size;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).expect("compresses");
        encoder.finish().expect("compresses")
    }

    fn deflate(data: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).expect("compresses");
        encoder.finish().expect("compresses")
    }

    fn inflate(encoding: &str, body: &[u8], piece: usize) -> Result<Vec<u8>, FaultKind> {
        let compression = CompressionSettings { accept: true, max_size: Size(1 << 20), max_ratio: 100 };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, encoding.parse().expect("a value"));
        let run = |headers: &mut HeaderMap| {
            let mut inflate = Inflate::for_request(headers, &compression, &LimitSettings::default())?
                .ok_or_else(malformed)?;
            let mut out = Vec::new();
            for part in body.chunks(piece) {
                inflate.feed(Bytes::copy_from_slice(part));
                while let Some(piece) = inflate.next_piece()? {
                    out.extend_from_slice(&piece);
                }
            }
            inflate.end().map(|()| out)
        };
        run(&mut headers).map_err(|fault: Fault| fault.kind)
    }

    #[test]
    fn bodies_come_out_as_they_went_in_whatever_the_pieces() {
        let text: Vec<u8> =
            (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let text = &text[..];
        for piece in [1, 7, 4096, usize::MAX] {
            let short = &text[..if piece < 100 { 5_000 } else { text.len() }];
            assert_eq!(inflate("gzip", &gzip(short), piece).as_deref(), Ok(short), "{piece}");
            assert_eq!(inflate("deflate", &deflate(short), piece).as_deref(), Ok(short), "{piece}");
        }
        assert_eq!(inflate("GZIP", &gzip(b""), 9).as_deref(), Ok(&b""[..]));
        let zeros = vec![0; 60_000];
        assert_eq!(inflate("gzip", &gzip(&zeros), 9).as_deref(), Ok(&zeros[..]), "small may compress well");
    }

    #[test]
    fn bombs_and_broken_bodies_are_refused() {
        let good = gzip(&b"hello hello hello ".repeat(100));
        let mut flipped = good.clone();
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        let trailing = [&good[..], b"more"].concat();
        let big: Vec<u8> =
            (0..300_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for (name, encoding, body, expected) in [
            ("a bomb", "gzip", gzip(&vec![0; 900_000]), FaultKind::TooLarge),
            ("a larger bomb", "deflate", deflate(&vec![0; 50_000_000]), FaultKind::TooLarge),
            ("too large", "gzip", gzip(&big), FaultKind::TooLarge),
            ("cut short", "gzip", good[..good.len() - 9].to_vec(), FaultKind::BadRequest),
            ("no checksum", "gzip", good[..good.len() - 3].to_vec(), FaultKind::BadRequest),
            ("wrong checksum", "gzip", flipped, FaultKind::BadRequest),
            ("something behind", "gzip", trailing, FaultKind::BadRequest),
            ("not compressed", "gzip", b"{\"model\":1}".to_vec(), FaultKind::BadRequest),
            ("not compressed", "deflate", b"{\"model\":1}".to_vec(), FaultKind::BadRequest),
            ("unknown", "br", good.clone(), FaultKind::UnsupportedMedia),
            ("twice", "gzip, gzip", good, FaultKind::UnsupportedMedia),
        ] {
            assert_eq!(inflate(encoding, &body, 1000).err(), Some(expected), "{name}");
        }
    }
}
