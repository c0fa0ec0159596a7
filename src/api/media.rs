//! OpenAI's audio and pictures: requests as JSON or as forms, answers as the provider's own bytes.
//!
//! <https://platform.openai.com/docs/api-reference/audio>, <https://platform.openai.com/docs/api-reference/images>

mod form;
mod json;
mod multipart;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::openai_chat::{error_body, fault_event};
use crate::chat::Usage;
use crate::executor::RawForm;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::{Approach, Asked, Door, Head, Intake};
use crate::providers::Target;
use form::FormAhead;
pub(super) use form::{model_in, names_model, only_one_model, texts, watched};
pub(super) use multipart::Scanner;

/// One operation on media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `POST /v1/audio/speech`.
    Speech,
    /// `POST /v1/audio/transcriptions`.
    Transcription,
    /// `POST /v1/audio/translations`.
    Translation,
    /// `POST /v1/images/generations`.
    Generation,
    /// `POST /v1/images/edits`.
    Edit,
    /// `POST /v1/images/variations`.
    Variation,
}

/// All of them, by path.
pub(super) const MEDIA: &[(&str, &dyn Door)] = &[
    ("/v1/audio/speech", &Media::Speech),
    ("/v1/audio/transcriptions", &Media::Transcription),
    ("/v1/audio/translations", &Media::Translation),
    ("/v1/images/generations", &Media::Generation),
    ("/v1/images/edits", &Media::Edit),
    ("/v1/images/variations", &Media::Variation),
];

impl Media {
    /// The operation whose path at a provider ends so.
    pub(super) fn at(path: &str) -> Option<Self> {
        let path = super::routes::unescape(path).to_ascii_lowercase();
        let path = path.trim_end_matches('/');
        let all = [
            Self::Speech,
            Self::Transcription,
            Self::Translation,
            Self::Generation,
            Self::Edit,
            Self::Variation,
        ];
        all.into_iter()
            .find(|media| path.strip_suffix(media.operation()).is_some_and(|base| base.ends_with('/')))
    }

    /// What its request alone tells of its use: this text, and so many pictures. The length of a recording is what an
    /// answer may tell.
    pub(super) fn asked(self, text: &str, pictures: u64) -> Usage {
        let input = (text.len() as u64).div_ceil(4);
        let all = Usage { input, estimated: true, ..Usage::default() };
        match self {
            Self::Speech => Usage { characters: text.chars().count() as u64, ..all },
            Self::Transcription | Self::Translation => Usage::default(),
            Self::Generation | Self::Edit | Self::Variation => Usage { images: pictures.max(1), ..all },
        }
    }

    /// The operation's name, which is its path below `/v1/`.
    fn operation(self) -> &'static str {
        match self {
            Self::Speech => "audio/speech",
            Self::Transcription => "audio/transcriptions",
            Self::Translation => "audio/translations",
            Self::Generation => "images/generations",
            Self::Edit => "images/edits",
            Self::Variation => "images/variations",
        }
    }

    fn takes_json(self) -> bool {
        matches!(self, Self::Speech | Self::Generation | Self::Edit)
    }

    pub(super) fn takes_forms(self) -> bool {
        !matches!(self, Self::Speech | Self::Generation)
    }

    pub(super) fn is_audio(self) -> bool {
        matches!(self, Self::Transcription | Self::Translation)
    }

    pub(super) fn is_pictures(self) -> bool {
        matches!(self, Self::Generation | Self::Edit | Self::Variation)
    }

    /// The path at a target that takes OpenAI's bytes.
    fn path_at(self, target: &Target) -> Option<String> {
        target.wire().media_path(self.operation(), &target.name.model)
    }

    /// How answers are relayed.
    fn raw_form(self, asked: Usage) -> RawForm {
        RawForm { as_it_came: false, slow: self != Self::Speech, asked, endpoint: self.endpoint() }
    }

    /// A target that cannot do this; another one may.
    fn impossible(self) -> Fault {
        let what = match self {
            Self::Speech => "this model's provider does not speak",
            Self::Transcription | Self::Translation => "this model's provider does not transcribe",
            Self::Generation => "this model's provider makes no pictures",
            Self::Edit | Self::Variation => "this model's provider changes no pictures",
        };
        Fault::bad_request(what, "model").retry(Retry::Elsewhere)
    }
}

impl Door for Media {
    fn endpoint(&self) -> Endpoint {
        match self {
            Self::Speech => Endpoint::Speech,
            Self::Transcription | Self::Translation => Endpoint::Transcription,
            Self::Generation | Self::Edit | Self::Variation => Endpoint::Images,
        }
    }

    fn intake(&self, approach: Approach<'_>) -> Result<Intake, Fault> {
        let kind = approach.headers.get(CONTENT_TYPE);
        let is = |wanted: &str| kind.is_some_and(|kind| is_kind(kind, wanted));
        if self.takes_forms() && is("multipart/form-data") {
            return Ok(Intake::Ahead(Box::new(FormAhead::new(*self, approach)?)));
        }
        if self.takes_json() && (kind.is_none() || is("application/json")) {
            return Ok(Intake::Whole);
        }
        let text = match (self.takes_forms(), self.takes_json()) {
            (true, false) => "send the body as `content-type: multipart/form-data` with its boundary",
            (true, true) => "send the body as `multipart/form-data` or as `application/json`",
            (false, _) => "send the body as `content-type: application/json`",
        };
        Err(Fault::new(FaultKind::UnsupportedMedia, text))
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        json::read(*self, body, head)
    }

    fn kind_of(&self, whole: &[u8]) -> &'static str {
        match self {
            Self::Speech if whole.starts_with(b"RIFF") => "audio/wav",
            Self::Speech => "audio/pcm",
            _ => "application/json",
        }
    }

    fn error_body(&self, fault: &Fault, _: &str) -> Vec<u8> {
        error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        fault_event(fault)
    }
}

/// Whether a content type is `wanted`, whatever its parameters.
pub(super) fn is_kind(kind: &HeaderValue, wanted: &str) -> bool {
    let kind = kind.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(wanted.as_bytes())
}
