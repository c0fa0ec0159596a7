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
use crate::executor::RawForm;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::{Approach, Asked, Door, Head, Intake};
use crate::providers::Target;
use form::FormAhead;

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

    fn takes_forms(self) -> bool {
        !matches!(self, Self::Speech | Self::Generation)
    }

    fn is_audio(self) -> bool {
        matches!(self, Self::Transcription | Self::Translation)
    }

    fn is_pictures(self) -> bool {
        matches!(self, Self::Generation | Self::Edit | Self::Variation)
    }

    /// The path at a target that takes OpenAI's bytes.
    fn path_at(self, target: &Target) -> Option<String> {
        target.wire().media_path(self.operation(), &target.name.model)
    }

    /// How answers are relayed.
    fn raw_form(self, asked: crate::chat::Usage) -> RawForm {
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

    fn error_body(&self, fault: &Fault, _: &str) -> Vec<u8> {
        error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        fault_event(fault)
    }
}

/// Whether a content type is `wanted`, whatever its parameters.
fn is_kind(kind: &HeaderValue, wanted: &str) -> bool {
    let kind = kind.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(wanted.as_bytes())
}
