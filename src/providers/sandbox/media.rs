//! Pictures, speech and transcripts of the sandbox: small, and the same for the same request.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::ask::Orders;
use super::{CREATED, LocalAnswer, Outgoing, Problem, headers, ordered, refuse, tokens, whole};

/// Width and height of a picture.
const SIDE: u32 = 64;
/// Samples of sound in a second.
const RATE: u32 = 8_000;
/// Length of a spoken word in samples: an eighth of a second.
const WORD: usize = 1_000;
/// Longest speech, in words.
const MAX_WORDS: usize = 64;
const MAX_PICTURES: u64 = 10;

/// The answer to one of OpenAI's operations on media; `None` for other paths.
pub(super) fn answer(path: &str, request: &Outgoing, body: &[u8]) -> Option<LocalAnswer> {
    let told = |answer: Result<LocalAnswer, Problem>| {
        Some(answer.unwrap_or_else(|problem| refuse(&problem, &Orders::default())))
    };
    if path.ends_with("/audio/transcriptions") || path.ends_with("/audio/translations") {
        return told(transcribe(&Fields::of_form(request, body)));
    }
    let pictures = path.ends_with("/images/generations")
        || path.ends_with("/images/edits")
        || path.ends_with("/images/variations");
    if !pictures && !path.ends_with("/audio/speech") {
        return None;
    }
    let is_form = request
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/form-data"));
    let fields = if is_form { Fields::of_form(request, body) } else { Fields::of_json(body) };
    told(if pictures { draw(&fields) } else { speak(&fields) })
}

/// The fields of a request, as texts.
struct Fields {
    fields: Vec<(String, String)>,
    /// Bytes of the file that came along.
    file: usize,
    orders: Orders,
}

impl Fields {
    fn of_json(body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let fields = value.as_object().into_iter().flatten();
        Self::new(fields.map(|(name, value)| (name.clone(), text(value))).collect(), 0)
    }

    /// A form as the gateway lets it through: its boundaries are where they should be.
    fn of_form(request: &Outgoing, body: &[u8]) -> Self {
        let kind = request.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let boundary = kind.split_once("boundary=").map_or("", |(_, rest)| rest);
        let boundary = match boundary.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap_or_default(),
            None => boundary.split(';').next().unwrap_or_default().trim(),
        };
        let delimiter = format!("--{boundary}");
        let (mut fields, mut file) = (Vec::new(), 0);
        let mut starts = memchr::memmem::find_iter(body, delimiter.as_bytes()).peekable();
        while let Some(start) = starts.next() {
            let end = starts.peek().copied().unwrap_or(body.len());
            let part = body.get(start + delimiter.len()..end).unwrap_or_default();
            let Some(at) = memchr::memmem::find(part, b"\r\n\r\n") else { continue };
            let (head, content) = part.split_at(at);
            let head = String::from_utf8_lossy(head);
            let content = content.get(4..).unwrap_or_default();
            let content = content.strip_suffix(b"\r\n").unwrap_or(content);
            if head.contains("filename") {
                file += content.len();
                continue;
            }
            let name = head.split_once("name=").map_or("", |(_, rest)| rest);
            let name = name.trim_start_matches('"').split(['"', ';', '\r']).next().unwrap_or_default();
            fields.push((name.to_owned(), String::from_utf8_lossy(content).into_owned()));
        }
        Self::new(fields, file)
    }

    fn new(fields: Vec<(String, String)>, file: usize) -> Self {
        let mut orders = Orders::default();
        for (name, text) in &fields {
            if matches!(name.as_str(), "model" | "prompt" | "input") {
                orders.take(text);
            }
        }
        Self { fields, file, orders }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    fn streams(&self) -> bool {
        self.get("stream") == Some("true")
    }

    /// The error that the request asks for.
    fn ordered(&self) -> Option<LocalAnswer> {
        ordered(&self.orders).map(|problem| refuse(&problem, &self.orders))
    }

    fn answer(&self, kind: &'static str, body: impl Into<Bytes>) -> LocalAnswer {
        let delay = self.orders.first_byte + self.orders.delay;
        LocalAnswer { status: 200, headers: headers(kind), pieces: vec![(delay, body.into())] }
    }

    /// Server-sent events, each with its name in `type`.
    fn events(&self, events: &[Value]) -> LocalAnswer {
        let mut delay = self.orders.first_byte + self.orders.delay;
        let pieces = events.iter().map(|event| {
            let name = event["type"].as_str().unwrap_or_default();
            let piece = (delay, Bytes::from(format!("event: {name}\ndata: {event}\n\n")));
            delay = self.orders.chunk_delay;
            piece
        });
        LocalAnswer { status: 200, headers: headers("text/event-stream"), pieces: pieces.collect() }
    }
}

fn draw(fields: &Fields) -> Result<LocalAnswer, Problem> {
    if let Some(refused) = fields.ordered() {
        return Ok(refused);
    }
    let wanted = match fields.get("n") {
        None => 1,
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| (1..=MAX_PICTURES).contains(n))
            .ok_or_else(|| Problem::bad("n", format!("n must be from 1 to {MAX_PICTURES}")))?,
    };
    let prompt = fields.get("prompt").unwrap_or_default();
    let picture = |n: u64| STANDARD.encode(png(format!("{prompt} {n} {}", fields.file).as_bytes()));
    let (input, output) = (tokens(prompt.len() as u64), u64::from(SIDE) * wanted);
    let usage = json!({
        "input_tokens": input, "output_tokens": output, "total_tokens": input + output,
        "input_tokens_details": { "text_tokens": input, "image_tokens": 0 },
    });
    if fields.streams() {
        let edits = fields.file > 0;
        let event = |what: &str| format!("image_{}.{what}", if edits { "edit" } else { "generation" });
        return Ok(fields.events(&[
            json!({ "type": event("partial_image"), "b64_json": picture(0), "partial_image_index": 0, "created_at": CREATED }),
            json!({ "type": event("completed"), "b64_json": picture(0), "created_at": CREATED, "usage": usage }),
        ]));
    }
    let data: Vec<_> = (0..wanted).map(|n| json!({ "b64_json": picture(n) })).collect();
    let answer = json!({ "created": CREATED, "output_format": "png", "data": data, "usage": usage });
    Ok(fields.answer("application/json", answer.to_string()))
}

fn speak(fields: &Fields) -> Result<LocalAnswer, Problem> {
    if let Some(refused) = fields.ordered() {
        return Ok(refused);
    }
    let input = fields.get("input").unwrap_or_default();
    let sound = wav(input);
    if fields.get("stream_format") != Some("sse") {
        return Ok(fields.answer("audio/wav", sound));
    }
    let half = sound.len() / 2;
    let (first, second) = sound.split_at(half - half % 3);
    let delta = |half: &[u8]| json!({ "type": "speech.audio.delta", "audio": STANDARD.encode(half) });
    let (read, spoken) = (tokens(input.len() as u64), tokens(sound.len() as u64));
    let usage = json!({ "input_tokens": read, "output_tokens": spoken, "total_tokens": read + spoken });
    Ok(fields.events(&[delta(first), delta(second), json!({ "type": "speech.audio.done", "usage": usage })]))
}

fn transcribe(fields: &Fields) -> Result<LocalAnswer, Problem> {
    if let Some(refused) = fields.ordered() {
        return Ok(refused);
    }
    if fields.file == 0 {
        return Err(Problem::bad("file", "the form has no file, or an empty one"));
    }
    let text = format!("The sandbox heard {} bytes.", fields.file);
    let (heard, written) = (tokens(fields.file as u64), tokens(text.len() as u64));
    let usage = json!({
        "type": "tokens", "input_tokens": heard, "output_tokens": written, "total_tokens": heard + written,
        "input_token_details": { "text_tokens": 0, "audio_tokens": heard },
    });
    if fields.streams() {
        let deltas =
            text.split_inclusive(' ').map(|word| json!({ "type": "transcript.text.delta", "delta": word }));
        let done = json!({ "type": "transcript.text.done", "text": text, "usage": usage });
        return Ok(fields.events(&deltas.chain([done]).collect::<Vec<_>>()));
    }
    let segment = json!({
        "id": 0, "seek": 0, "start": 0.0, "end": 1.0, "text": text, "tokens": [], "temperature": 0.0,
        "avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.0,
    });
    Ok(match fields.get("response_format").unwrap_or("json") {
        "text" => fields.answer("text/plain; charset=utf-8", format!("{text}\n")),
        "srt" => {
            let srt = format!("1\n00:00:00,000 --> 00:00:01,000\n{text}\n\n");
            fields.answer("text/plain; charset=utf-8", srt)
        }
        "vtt" => {
            let vtt = format!("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{text}\n\n");
            fields.answer("text/plain; charset=utf-8", vtt)
        }
        "verbose_json" => {
            let answer = json!({
                "task": "transcribe", "language": "english", "duration": 1.0, "text": text,
                "segments": [segment], "usage": { "type": "duration", "seconds": 1 },
            });
            fields.answer("application/json", answer.to_string())
        }
        "diarized_json" => {
            let said = json!({
                "type": "transcript.text.segment", "id": "seg_0", "start": 0.0, "end": 1.0, "text": text,
                "speaker": "A",
            });
            let answer = json!({
                "task": "transcribe", "duration": 1.0, "text": text, "segments": [said], "usage": usage,
            });
            fields.answer("application/json", answer.to_string())
        }
        "json" => fields.answer("application/json", json!({ "text": text, "usage": usage }).to_string()),
        other => {
            let message =
                format!("the sandbox does not know the format {:?}", other.get(..32).unwrap_or(other));
            return Err(Problem::bad("response_format", message));
        }
    })
}

/// A picture in two colours that depend on `bytes`: <https://www.w3.org/TR/png-3/>
fn png(bytes: &[u8]) -> Vec<u8> {
    let hash = blake3::hash(bytes);
    let colour = |from: usize| hash.as_bytes().get(from..from + 3).unwrap_or(&[0; 3]).to_vec();
    let (one, other) = (colour(0), colour(3));
    let mut rows = Vec::new();
    for y in 0..SIDE {
        rows.push(0);
        for x in 0..SIDE {
            rows.extend_from_slice(if (x / 8 + y / 8) % 2 == 0 { &one } else { &other });
        }
    }
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to a Vec cannot fail.
    let _ = std::io::Write::write_all(&mut packed, &rows);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&SIDE.to_be_bytes()[..], &SIDE.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", packed.finish().unwrap_or_default()), (b"IEND", vec![])]
    {
        png.extend_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
        let mut sum = flate2::Crc::new();
        sum.update(kind);
        sum.update(&data);
        png.extend_from_slice(kind);
        png.extend_from_slice(&data);
        png.extend_from_slice(&sum.sum().to_be_bytes());
    }
    png
}

/// A tone for each word, its height by the word: 8 kHz, mono, 16 bits, in a WAV file.
fn wav(text: &str) -> Vec<u8> {
    let mut samples = Vec::new();
    for word in text.split_whitespace().take(MAX_WORDS) {
        let height = blake3::hash(word.as_bytes()).as_bytes().first().copied().unwrap_or(0);
        // A triangle wave, so that no floating point decides about the bytes.
        let period = 10 + i32::from(height) % 30;
        for at in 0..WORD {
            let place = i32::try_from(at).unwrap_or(0) % period;
            let swing = (2 * place - period).abs() * 16_000 / period - 8_000;
            samples.extend_from_slice(&i16::try_from(swing).unwrap_or(0).to_le_bytes());
        }
    }
    crate::providers::wav::wav(RATE, &samples)
}

/// The names of the models that a raw request for the list gets.
pub(super) fn models() -> LocalAnswer {
    let model = json!({ "id": "echo", "object": "model", "created": CREATED, "owned_by": "sandbox" });
    let body = json!({ "object": "list", "data": [model] }).to_string();
    whole(200, headers("application/json"), body, Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_and_sounds_are_what_they_say_and_always_the_same() {
        let picture = png(b"a cat");
        assert_eq!(picture, png(b"a cat"));
        assert_ne!(picture, png(b"a dog"));
        assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n") && picture.ends_with(b"IEND\xaeB\x60\x82"));
        let sound = wav("one two");
        assert_eq!(sound.len(), 44 + 2 * WORD * 2);
        assert_eq!(sound.get(40..44), Some(&4_000_u32.to_le_bytes()[..]));
    }
}
