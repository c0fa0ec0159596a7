//! OpenAI's `audio/speech`, spoken by Gemini's models for speech.
//!
//! <https://ai.google.dev/gemini-api/docs/speech-generation>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::made::{self, cannot};
use super::{fault, request, usage};
use crate::chat::Loss;
use crate::fault::{Fault, FaultKind};
use crate::providers::wav::wav;
use crate::providers::{ClientBody, Outgoing, QuirkSettings, Relayed};
use crate::target::TargetName;

/// Fields that are told, or that are what the answer always is.
const SILENT: &[&str] =
    &["model", "input", "voice", "instructions", "response_format", "stream_format", "user"];

/// Voices of OpenAI's, which Google does not have.
/// <https://platform.openai.com/docs/guides/text-to-speech#voice-options>
const OPENAIS: [&str; 13] = [
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer",
    "verse",
];

/// The voice that speaks for them, the first of Google's own examples.
const USUAL: &str = "Kore";

/// Samples a second, where the answer does not say.
const RATE: u32 = 24_000;

/// Whether a model speaks: `gemini-2.5-flash-preview-tts` and its like.
fn speaks(model: &str) -> bool {
    model.rsplit('/').next().unwrap_or(model).contains("tts")
}

/// OpenAI's request as Google's; `None` where the model does not speak.
///
/// # Errors
/// `BadRequest` for sound as events, which Google does not have here, and for a voice that is none.
pub(super) fn request(
    body: &ClientBody,
    target: &TargetName,
    quirks: &QuirkSettings,
) -> Option<Result<Outgoing, Fault>> {
    speaks(&target.model).then(|| spoken(body, target, quirks))
}

fn spoken(body: &ClientBody, target: &TargetName, quirks: &QuirkSettings) -> Result<Outgoing, Fault> {
    if body.str("stream_format").as_deref() == Some("sse") {
        return cannot("this model's provider gives sound as bytes only", "stream_format");
    }
    let Some(input) = body.str("input") else { return cannot("`input` must be a text", "input") };
    let mut lost = Vec::new();
    let voice = match body.str("voice") {
        Some(voice) if OPENAIS.iter().any(|known| voice.eq_ignore_ascii_case(known)) => {
            lost.push(Loss::new("voice", format!("spoken by {USUAL}")));
            USUAL.into()
        }
        Some(voice) => voice,
        None if body.has("voice") => {
            return cannot("this model's provider knows voices by their names", "voice");
        }
        None => USUAL.into(),
    };
    if !matches!(body.str("response_format").as_deref(), Some("pcm" | "wav")) {
        lost.push(Loss::new("response_format", "given as wav"));
    }
    // Google's way to ask for a manner: "Say cheerfully: …".
    let text = match body.str("instructions").filter(|manner| !manner.trim().is_empty()) {
        Some(manner) => format!("{}: {input}", manner.trim_end().trim_end_matches([':', '.'])),
        None => input.into_owned(),
    };
    let voice = json!({ "voiceConfig": { "prebuiltVoiceConfig": { "voiceName": voice } } });
    let json = json!({
        "contents": [{ "role": "user", "parts": [{ "text": text }] }],
        "generationConfig": { "responseModalities": ["AUDIO"], "speechConfig": voice },
    });
    let path = request::path(quirks, &target.model, request::WHOLE);
    Ok(made::outgoing(body, |key| SILENT.contains(&key), path, &json, lost))
}

/// Google's answer as sound: a WAV file, or its samples where the client asked for these.
pub(super) fn answer(asked: &ClientBody, body: &Bytes) -> Result<Relayed, Fault> {
    let value = made::read(body, "the provider's sound is not JSON")?;
    let mut rate = RATE;
    let mut samples = Vec::new();
    for part in value["candidates"][0]["content"]["parts"].as_array().into_iter().flatten() {
        let Some(data) = part["inlineData"]["data"].as_str() else { continue };
        let said = part["inlineData"]["mimeType"].as_str().unwrap_or_default();
        let said = said.split(';').find_map(|parameter| parameter.trim().strip_prefix("rate="));
        rate = said.and_then(|rate| rate.parse().ok()).unwrap_or(rate);
        let bytes = STANDARD.decode(data);
        samples.extend(bytes.map_err(|_| fault::malformed("the provider's sound is not base64"))?);
    }
    if samples.is_empty() {
        return Err(silent(&value));
    }
    let raw = asked.str("response_format").as_deref() == Some("pcm");
    let sound = if raw { samples } else { wav(rate, &samples) };
    Ok(Relayed {
        body: sound.into(),
        usage: usage::read(&value["usageMetadata"]),
        finish: None,
        lost: Vec::new(),
    })
}

/// No sound: a filter held it back, or the model answered in words.
fn silent(value: &Value) -> Fault {
    let finish = value["candidates"][0]["finishReason"].as_str();
    if value["promptFeedback"]["blockReason"].is_string() {
        return Fault::new(FaultKind::ContentFiltered, "the provider blocked the text").at("input");
    }
    match finish {
        Some("STOP" | "MAX_TOKENS" | "OTHER") | None => {
            fault::malformed("the provider answered without sound")
        }
        Some(_) => Fault::new(FaultKind::ContentFiltered, "the provider held the sound back"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> ClientBody {
        ClientBody::read(Bytes::from(text.to_owned())).unwrap()
    }

    fn asked(model: &str, text: &str) -> Option<Result<(Value, Vec<String>), Fault>> {
        let target = TargetName::parse(&format!("g/{model}")).unwrap();
        let outgoing = request(&body(text), &target, &QuirkSettings::default())?;
        Some(outgoing.map(|outgoing| {
            assert_eq!(outgoing.path, format!("/models/{model}:generateContent"));
            let lost = outgoing.lost.iter().map(ToString::to_string).collect();
            (serde_json::from_slice(&outgoing.body.concat()).unwrap(), lost)
        }))
    }

    const TTS: &str = "gemini-2.5-flash-preview-tts";

    #[test]
    fn what_is_to_be_spoken_is_said_in_googles_words() {
        for (fields, text, voice, lost) in [
            (r#""voice":"Puck","response_format":"wav""#, "hi", "Puck", vec![]),
            (r#""voice":"alloy","response_format":"pcm""#, "hi", "Kore", vec!["voice (spoken by Kore)"]),
            (
                r#""voice":"Puck","instructions":"Say cheerfully:","speed":2"#,
                "Say cheerfully: hi",
                "Puck",
                vec!["response_format (given as wav)", "speed (dropped)"],
            ),
        ] {
            let said = asked(TTS, &format!(r#"{{"model":"m","input":"hi",{fields}}}"#)).unwrap().unwrap();
            assert_eq!(said.0["contents"][0]["parts"][0]["text"], text, "{fields}");
            let config = &said.0["generationConfig"];
            assert_eq!(config["responseModalities"], json!(["AUDIO"]), "{fields}");
            assert_eq!(
                config["speechConfig"]["voiceConfig"]["prebuiltVoiceConfig"]["voiceName"], voice,
                "{fields}"
            );
            assert_eq!(said.1, lost, "{fields}");
        }
        assert!(asked("gemini-2.5-flash", r#"{"model":"m","input":"hi"}"#).is_none());
        for (fields, param) in
            [(r#""stream_format":"sse""#, "stream_format"), (r#""voice":{"id":"v"}"#, "voice")]
        {
            let fault =
                asked(TTS, &format!(r#"{{"model":"m","input":"hi",{fields}}}"#)).unwrap().unwrap_err();
            assert_eq!((fault.kind, fault.param.as_deref()), (FaultKind::BadRequest, Some(param)));
        }
    }

    #[test]
    fn sound_comes_as_a_file_or_as_samples() {
        let part = json!({"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=16000", "data": "AQACAA=="}});
        let said = json!({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 9,
            "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 9}]}});
        let bytes = Bytes::from(said.to_string());
        let relayed = answer(&body(r#"{"response_format":"pcm"}"#), &bytes).unwrap();
        assert_eq!(&relayed.body[..], b"\x01\0\x02\0");
        assert_eq!(relayed.usage.map(|usage| (usage.input, usage.output_audio)), Some((4, 9)));
        let file = answer(&body("{}"), &bytes).unwrap().body;
        assert!(file.starts_with(b"RIFF") && file.ends_with(b"data\x04\0\0\0\x01\0\x02\0"), "{file:?}");
        assert_eq!(file.get(24..28), Some(&16_000_u32.to_le_bytes()[..]));
        for (answered, kind) in [
            (json!({"candidates": [{"finishReason": "STOP"}]}), FaultKind::Malformed),
            (json!({"candidates": [{"finishReason": "SAFETY"}]}), FaultKind::ContentFiltered),
            (json!({"promptFeedback": {"blockReason": "OTHER"}}), FaultKind::ContentFiltered),
            (json!({"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}), FaultKind::Overloaded),
        ] {
            let fault = answer(&body("{}"), &Bytes::from(answered.to_string())).unwrap_err();
            assert_eq!(fault.kind, kind, "{answered}");
        }
    }
}
