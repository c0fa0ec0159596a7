//! Samples as a WAV file: mono, 16 bits, little-endian.

/// The file, at so many samples a second. <http://soundfile.sapp.org/doc/WaveFormat/>
pub(super) fn wav(rate: u32, samples: &[u8]) -> Vec<u8> {
    let length = u32::try_from(samples.len()).unwrap_or(u32::MAX - 36);
    let mut wav = b"RIFF".to_vec();
    wav.extend_from_slice(&(36 + length).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&rate.to_le_bytes());
    wav.extend_from_slice(&rate.saturating_mul(2).to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data");
    wav.extend_from_slice(&length.to_le_bytes());
    wav.extend_from_slice(samples);
    wav
}
