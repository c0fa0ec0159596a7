//! Decodes answers that are compressed though we asked for identity, with a bound on what may come out.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};

use crate::fault::{Fault, FaultKind};

/// Bytes that may come out for one that goes in.
const MOST_RATIO: u64 = 100;
/// Below this much output the ratio is nobody's concern.
const FREE: u64 = 1 << 20;

/// A decoder for one answer.
pub(super) struct Unpack {
    /// `None` until the first byte tells what "deflate" means: zlib by the standard, bare with some servers.
    decoder: Option<Box<dyn Decode>>,
    taken: u64,
    most: u64,
}

/// What flate2's decoders have in common.
trait Decode: Write + Send {
    fn sink(&mut self) -> &mut Sink;
    fn end(&mut self) -> io::Result<()>;
}

macro_rules! decode {
    ($($decoder:ident)*) => {$(
        impl Decode for $decoder<Sink> {
            fn sink(&mut self) -> &mut Sink {
                self.get_mut()
            }
            fn end(&mut self) -> io::Result<()> {
                self.try_finish()
            }
        }
    )*};
}

decode! { MultiGzDecoder ZlibDecoder DeflateDecoder }

impl Unpack {
    /// The decoder that the headers ask for, which then no longer do; `None` for identity.
    ///
    /// # Errors
    /// Encodings that nobody asked for and we cannot read.
    pub(super) fn asked_by(headers: &mut HeaderMap, most: u64) -> Result<Option<Box<Self>>, Fault> {
        if !headers.contains_key(CONTENT_ENCODING) {
            return Ok(None);
        }
        let mut codings = headers.get_all(CONTENT_ENCODING).iter();
        let coding = match (codings.next(), codings.next()) {
            (Some(one), None) => one.to_str().unwrap_or("?").trim().to_ascii_lowercase(),
            _ => "several codings".to_owned(),
        };
        let decoder: Option<Box<dyn Decode>> = match coding.as_str() {
            "" | "identity" => return Ok(None),
            "gzip" | "x-gzip" => Some(Box::new(MultiGzDecoder::new(Sink::default()))),
            "deflate" => None,
            _ => {
                return Err(Fault::new(
                    FaultKind::Malformed,
                    "the answer is encoded though identity was asked for",
                ));
            }
        };
        headers.remove(CONTENT_ENCODING);
        headers.remove(CONTENT_LENGTH);
        Ok(Some(Box::new(Self { decoder, taken: 0, most })))
    }

    /// The next compressed bytes in, what they give out; may be empty.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Bytes, Fault> {
        self.taken += bytes.len() as u64;
        let bound = self.most.min(FREE.max(self.taken.saturating_mul(MOST_RATIO)));
        let Some(first) = bytes.first() else { return Ok(Bytes::new()) };
        let decoder = self.decoder.get_or_insert_with(|| {
            let is_zlib = first & 0x0f == 8 && first >> 4 <= 7;
            if is_zlib {
                Box::new(ZlibDecoder::new(Sink::default()))
            } else {
                Box::new(DeflateDecoder::new(Sink::default()))
            }
        });
        decoder.sink().bound = bound;
        let decoded = decoder.write_all(bytes).and_then(|()| decoder.flush());
        decoded.map(|()| decoder.sink().take()).map_err(|error| broken(&error))
    }

    /// The compressed bytes have ended: the rest, if they ended where they should.
    pub(super) fn finish(&mut self) -> Result<Bytes, Fault> {
        let Some(decoder) = &mut self.decoder else { return Ok(Bytes::new()) };
        let ended = decoder.end().map(|()| decoder.sink().take());
        ended.map_err(|_| Fault::new(FaultKind::Truncated, "the compressed answer broke off"))
    }
}

fn broken(error: &io::Error) -> Fault {
    let text = if error.kind() == io::ErrorKind::FileTooLarge {
        "the compressed answer is too large unpacked"
    } else {
        "the compressed answer is malformed"
    };
    Fault::new(FaultKind::Malformed, text)
}

/// Takes decoded bytes up to a bound.
#[derive(Default)]
struct Sink {
    held: Vec<u8>,
    total: u64,
    bound: u64,
}

impl Sink {
    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.total += bytes.len() as u64;
        if self.total > self.bound {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;

    use super::*;

    fn packed(coding: &str, text: &[u8]) -> Vec<u8> {
        let best = Compression::best();
        match coding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), best);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "zlib" => {
                let mut encoder = ZlibEncoder::new(Vec::new(), best);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            _ => {
                let mut encoder = DeflateEncoder::new(Vec::new(), best);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn unpack(header: &'static str) -> Result<Option<Box<Unpack>>, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(header));
        Unpack::asked_by(&mut headers, 64 << 20)
    }

    #[test]
    fn codings_are_decoded_wherever_the_bytes_are_cut() {
        let text = b"{\"object\":\"chat.completion\",\"choices\":[]}".repeat(3);
        for (header, coding) in
            [("gzip", "gzip"), ("X-GZip", "gzip"), ("deflate", "zlib"), ("deflate", "bare")]
        {
            let packed = packed(coding, &text);
            for cut in 0..=packed.len() {
                let mut unpack = unpack(header).unwrap().unwrap();
                let mut got = unpack.feed(&packed[..cut]).unwrap().to_vec();
                got.extend(unpack.feed(&packed[cut..]).unwrap());
                got.extend(unpack.finish().unwrap());
                assert_eq!(got, text, "{header} {coding} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_cut_off_archive_is_truncated_and_garbage_is_malformed() {
        let packed = packed("gzip", b"hello hello hello");
        let mut cut = unpack("gzip").unwrap().unwrap();
        cut.feed(&packed[..packed.len() - 3]).unwrap();
        assert_eq!(cut.finish().unwrap_err().kind, FaultKind::Truncated);
        let mut garbage = unpack("gzip").unwrap().unwrap();
        assert_eq!(garbage.feed(b"<html>not an archive</html>").unwrap_err().kind, FaultKind::Malformed);
    }

    #[test]
    fn a_bomb_is_stopped_at_a_hundredfold() {
        let bomb = packed("gzip", &vec![0; 50 << 20]);
        let mut unpack = unpack("gzip").unwrap().unwrap();
        let mut out = 0;
        let fault = bomb
            .chunks(4096)
            .find_map(|chunk| match unpack.feed(chunk) {
                Ok(bytes) => {
                    out += bytes.len();
                    None
                }
                Err(fault) => Some(fault),
            })
            .expect("a ratio of a thousand is too much");
        assert_eq!(fault.kind, FaultKind::Malformed);
        assert!(out <= 1 << 20, "{out}");
    }

    #[test]
    fn what_nobody_asked_for_is_refused() {
        for header in ["br", "zstd", "gzip, gzip"] {
            assert_eq!(unpack(header).err().unwrap().kind, FaultKind::Malformed, "{header}");
        }
        assert!(unpack("identity").unwrap().is_none());
    }
}
