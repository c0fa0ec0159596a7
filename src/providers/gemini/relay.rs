//! Bytes of a client that speaks this dialect, on their way to Google and back: read only for usage, finish and errors.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::pieces::{Piece, Pieces};
use super::{Surface, decode, fault, finish, foreign, usage};
use crate::chat::{FinishReason, Usage};
use crate::fault::Fault;
use crate::frames::sse_data;
use crate::json::{Halves, Splice};
use crate::providers::{ClientBody, Frame, Relayed, StreamRelay};

/// The client's body; a model's name inside of it is replaced by the target's, and other providers' proofs are taken
/// out.
pub(super) fn request(body: &ClientBody, model: &str, surface: Surface) -> Vec<Bytes> {
    if surface == Surface::Vertex {
        return on_vertex(body, model);
    }
    let name = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
    let mut splice = Splice::new(body);
    if body.field("model").is_some() {
        splice.set_text("model", &name);
    }
    if let Some(contents) = foreign::without(body, model) {
        splice.set("contents", contents);
    }
    for field in ["generateContentRequest", "generate_content_request"] {
        // Counting tokens takes a whole request in a field.
        if let Some(raw) = body.raw(field)
            && let Ok(Value::Object(mut inner)) = serde_json::from_str::<Value>(raw)
            && inner.contains_key("model")
        {
            inner.insert("model".into(), name.as_str().into());
            splice.set(field, Value::Object(inner).to_string());
        }
    }
    splice.finish()
}

/// Vertex AI wants the model's full name, with project and location, or none. A request to be counted stands in the
/// body itself.
fn on_vertex(body: &ClientBody, model: &str) -> Vec<Bytes> {
    let wrapped = ["generateContentRequest", "generate_content_request"];
    let inner = wrapped.iter().find_map(|field| body.raw(field)).and_then(|raw| {
        let mut inner = serde_json::from_str::<crate::chat::Object>(raw).ok()?;
        inner.shift_remove("model");
        Some(Value::Object(inner).to_string().into())
    });
    if let Some(inner) = inner {
        return vec![inner];
    }
    let mut splice = Splice::new(body);
    splice.remove("model");
    if let Some(contents) = foreign::without(body, model) {
        splice.set("contents", contents);
    }
    splice.finish()
}

/// A whole answer, untouched.
pub(super) fn whole(body: Bytes) -> Result<Relayed, Fault> {
    if let Ok(text) = simdutf8::basic::from_utf8(&body)
        && let Ok(peek) = serde_json::from_str::<Peek<'_>>(text)
        && peek.error.is_none()
        && let Some(reason) = peek.finish()
    {
        let usage = peek.usage_metadata.as_ref().and_then(usage::read);
        let usage = usage.map(|usage| {
            let (searches, maps) = peek.looked_up();
            Usage { searches, maps, ..usage }
        });
        return Ok(Relayed { usage, finish: Some(reason.word()), lost: Vec::new(), body });
    }
    // The long way says what is wrong, if anything.
    let answer = decode::answer(&body)?;
    let first = answer.choices.first().and_then(|choice| choice.finish.as_ref());
    let finish = first.map(|finish| finish.reason.word());
    Ok(Relayed { usage: answer.usage, finish, lost: Vec::new(), body })
}

/// A count of tokens, untouched.
pub(super) fn count(body: Bytes) -> Result<Relayed, Fault> {
    match serde_json::from_slice::<Value>(&body) {
        Ok(Value::Object(object)) if !fault::is_error(&object) => {
            Ok(Relayed { body, usage: None, finish: None, lost: Vec::new() })
        }
        Ok(other) => Err(fault::inside_success(&other)),
        Err(_) => Err(fault::malformed("the provider's count of tokens is not JSON")),
    }
}

/// No answer has more candidates than this.
const MOST_CANDIDATES: usize = 128;

/// One streamed answer on its way to a client of the same dialect: as events, in whichever form it came.
pub(super) struct GeminiStream {
    pieces: Pieces,
    /// Every byte goes on as it came.
    untouched: bool,
    halves: Halves,
    /// Index, finish, whether it called a tool: of every candidate seen.
    choices: Vec<(u32, Option<FinishReason>, bool)>,
    usage: Option<Usage>,
    /// How often the web was searched.
    searches: u64,
    /// Whether Google's maps were looked at.
    maps: bool,
    text_bytes: u64,
    done: bool,
}

impl GeminiStream {
    pub(super) fn new() -> Self {
        Self {
            pieces: Pieces::new(),
            untouched: false,
            halves: Halves::default(),
            choices: Vec::new(),
            usage: None,
            searches: 0,
            maps: false,
            text_bytes: 0,
            done: false,
        }
    }

    /// In the form in which it comes.
    pub(super) fn untouched() -> Self {
        Self { untouched: true, ..Self::new() }
    }

    fn piece(&mut self, mut piece: Piece, out: &mut Vec<Frame>) -> Result<(), Fault> {
        let speaks = !piece.json.trim_ascii().is_empty();
        let content = speaks && self.look(&mut piece)?;
        let bytes = match self.pieces {
            _ if self.untouched => piece.raw,
            Pieces::Array(_) if speaks => event(&piece.json),
            // What stands between the elements of an array, and after them.
            Pieces::Array(_) => return Ok(()),
            _ => piece.raw,
        };
        out.push(Frame { bytes, content });
        Ok(())
    }

    /// Reads one document; whether a client sees content by it.
    fn look(&mut self, piece: &mut Piece) -> Result<bool, Fault> {
        let Piece { json, raw } = piece;
        let mended;
        let read = match serde_json::from_slice::<Peek<'_>>(json) {
            Ok(peek) => Ok(peek),
            Err(_) => {
                mended = self.halves.mend(json);
                if simdutf8::basic::from_utf8(json).is_err() {
                    *raw = String::from_utf8_lossy(raw).into_owned().into();
                    *json = String::from_utf8_lossy(json).into_owned().into();
                }
                serde_json::from_str(&mended)
            }
        };
        let peek = match read {
            Ok(peek) if peek.error.is_none() => peek,
            _ => {
                let value = serde_json::from_slice::<Value>(json)
                    .map_err(|_| fault::malformed("the provider sent a stream event that is not JSON"))?;
                return Err(fault::inside_success(&value));
            }
        };
        let (searches, maps) = peek.looked_up();
        self.searches = self.searches.max(searches);
        self.maps |= maps;
        let counted = peek.usage_metadata.as_ref().and_then(usage::read).or(self.usage);
        self.usage = counted.map(|usage| Usage { searches: self.searches, maps: self.maps, ..usage });
        let mut content = false;
        if finish::block_reason(peek.prompt_feedback.as_ref()).is_some() {
            self.note(0, Some(FinishReason::ContentFilter), false);
            content = true;
        }
        for (place, candidate) in peek.candidates.iter().flatten().enumerate() {
            let index = candidate.index.unwrap_or_else(|| u32::try_from(place).unwrap_or(u32::MAX));
            let (mut calls, mut bytes) = (false, 0);
            for part in candidate.parts() {
                calls |= part.function_call.is_some();
                bytes += part.text.as_ref().map_or(0, |text| text.len() as u64);
                content |= part.text.as_ref().is_none_or(|text| !text.is_empty());
            }
            self.text_bytes += bytes;
            let word = finish::word(candidate.finish_reason.as_ref());
            content |= word.is_some();
            let known = calls || self.choices.iter().any(|(known, _, calls)| *known == index && *calls);
            self.note(index, word.map(|word| finish::reason(&word, known)), calls);
        }
        Ok(content)
    }

    fn note(&mut self, index: u32, reason: Option<FinishReason>, calls: bool) {
        if let Some((_, finish, called)) = self.choices.iter_mut().find(|(known, ..)| *known == index) {
            *finish = reason.or(*finish);
            *called |= calls;
        } else if self.choices.len() < MOST_CANDIDATES {
            self.choices.push((index, reason, calls));
        }
    }
}

impl StreamRelay for GeminiStream {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.pieces.push(chunk);
        while let Some(piece) = self.pieces.next()? {
            self.piece(piece, out)?;
        }
        Ok(())
    }

    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        // An array of documents, or the only one of its stream.
        if !matches!(body.trim_ascii().first(), Some(b'[' | b'{')) {
            return Err(fault::malformed("the provider's answer is not JSON"));
        }
        self.feed(body, out)?;
        self.finish(out)
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if self.done {
            return Ok(());
        }
        while let Some(piece) = self.pieces.finish()? {
            self.piece(piece, out)?;
        }
        if self.choices.is_empty() || self.choices.iter().any(|(_, finish, _)| finish.is_none()) {
            return Err(fault::truncated());
        }
        self.done = true;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.done
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn finish_reason(&self) -> Option<&'static str> {
        let first = self.choices.iter().min_by_key(|(index, ..)| *index)?;
        first.1.map(FinishReason::word)
    }

    fn text_bytes(&self) -> u64 {
        self.text_bytes
    }
}

/// What of a document decides, read without building a tree of the rest.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Peek<'a> {
    error: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    candidates: Option<Vec<CandidatePeek<'a>>>,
    prompt_feedback: Option<Value>,
    usage_metadata: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct CandidatePeek<'a> {
    index: Option<u32>,
    #[serde(borrow)]
    content: Option<ContentPeek<'a>>,
    finish_reason: Option<Value>,
    #[serde(borrow)]
    grounding_metadata: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContentPeek<'a> {
    #[serde(borrow)]
    parts: Option<Vec<PartPeek<'a>>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct PartPeek<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    function_call: Option<serde::de::IgnoredAny>,
}

impl<'a> CandidatePeek<'a> {
    fn parts(&self) -> impl Iterator<Item = &PartPeek<'a>> {
        self.content.iter().flat_map(|content| content.parts.iter().flatten())
    }
}

impl Peek<'_> {
    /// How often the web was searched, and whether maps were looked at.
    fn looked_up(&self) -> (u64, bool) {
        let grounded = self.candidates.iter().flatten().filter_map(|candidate| candidate.grounding_metadata);
        let read = grounded.filter_map(|grounding| serde_json::from_str::<Value>(grounding.get()).ok());
        read.fold((0, false), |(searches, maps), grounding| {
            (searches + usage::queries(&grounding), maps || usage::maps(&grounding))
        })
    }

    /// How the first candidate ended; `None` when this is no answer, or one that has no end.
    fn finish(&self) -> Option<FinishReason> {
        let Some((first, others)) = self.candidates.as_deref().and_then(<[_]>::split_first) else {
            return finish::block_reason(self.prompt_feedback.as_ref()).map(|_| FinishReason::ContentFilter);
        };
        if others.iter().any(|other| finish::word(other.finish_reason.as_ref()).is_none()) {
            return None;
        }
        let calls = first.parts().any(|part| part.function_call.is_some());
        finish::word(first.finish_reason.as_ref()).map(|word| finish::reason(&word, calls))
    }
}

/// A document as an event, which is a line. JSON has line ends only between its tokens, where they mean nothing.
fn event(json: &[u8]) -> Bytes {
    let line: Vec<u8> = json.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    let mut event = Vec::with_capacity(line.len() + 8);
    sse_data(&mut event, &line);
    event.into()
}
