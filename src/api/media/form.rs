//! Requests for media that come as forms: read until the model is known, the rest sent on while it arrives.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use super::Media;
use super::multipart::{Part, Scanner};
use crate::api::elsewhere::deployment;
use crate::api::openai_chat::param::{missing, model_name};
use crate::api::raw::{RawAsk, Seen, Way, joined};
use crate::api::routes::unescape;
use crate::chat::Usage;
use crate::executor::RawForm;
use crate::fault::Fault;
use crate::gateway::{Ahead, Approach, Asked};
use crate::providers::{Outgoing, Target};
use crate::upstream::Upload;

/// Longer values of fields are not shown to policies.
const MAX_SHOWN: usize = 16 << 10;

const MODEL: &str = "model";

/// Looks for the model in a form that is arriving.
pub(super) struct FormAhead {
    media: Media,
    scanner: Scanner,
    kind: HeaderValue,
    accept: HeaderValue,
    hold: u64,
    /// The model that the path names, whatever the form does: Azure's deployment.
    named: Option<String>,
}

impl FormAhead {
    pub(super) fn new(media: Media, approach: Approach<'_>) -> Result<Self, Fault> {
        let kind = approach.headers.get(CONTENT_TYPE).cloned().unwrap_or(HeaderValue::from_static(""));
        let accept = approach.headers.get(ACCEPT).cloned();
        Ok(Self {
            media,
            scanner: Scanner::for_type(&kind)?,
            kind,
            accept: accept.unwrap_or(HeaderValue::from_static("*/*")),
            hold: approach.snapshot.raw.hold_forms,
            named: deployment(approach.uri.path(), media.operation()).map(unescape),
        })
    }

    fn no_model(&self, more: bool) -> Fault {
        if !more {
            return missing(MODEL);
        }
        let text = format!(
            "the form's first {} bytes do not name a model: put the field `model` before the file",
            self.hold
        );
        Fault::bad_request(text, MODEL)
    }
}

impl Ahead for FormAhead {
    fn feed(&mut self, piece: &Bytes) -> Result<(), Fault> {
        self.scanner.feed(piece)?;
        only_one_model(&self.scanner)
    }

    fn is_enough(&self) -> bool {
        names_model(&self.scanner)
    }

    fn patience(&self, _: u64) -> u64 {
        self.hold
    }

    fn read(self: Box<Self>, held: Vec<Bytes>, rest: Option<Upload>) -> Result<Arc<dyn Asked>, Fault> {
        let body = joined(held);
        let Some(model) = model_part(&self.scanner) else { return Err(self.no_model(rest.is_some())) };
        let (start, end) = (model.start, model.end.unwrap_or(model.start));
        let name = std::str::from_utf8(body.get(start..end).unwrap_or_default())
            .map_err(|_| Fault::bad_request("the field `model` is not text", MODEL))?;
        let name = model_name(self.named.as_deref().unwrap_or(name))?;
        if rest.is_none() && !self.scanner.is_over() {
            return Err(Fault::bad_request("the form has no end: its last boundary is missing", "body"));
        }
        let mut seen =
            Seen { images: self.media.is_pictures(), audio: self.media.is_audio(), ..Seen::default() };
        // The length of a recording is what an answer may tell.
        let mut asked = Usage { estimated: self.media.is_audio(), ..Usage::default() };
        for (name, text) in texts(&self.scanner, &body) {
            match name {
                "prompt" => seen.text = text.to_owned(),
                "n" => asked.images = text.parse().unwrap_or(0),
                _ => {}
            }
            seen.show(name, text);
        }
        if self.media.is_pictures() {
            asked.images = asked.images.max(1);
        }
        let more = rest.as_ref().and_then(Upload::left).unwrap_or(0);
        let bytes = body.len().saturating_add(usize::try_from(more).unwrap_or(usize::MAX));
        let Self { media, scanner, kind, accept, .. } = *self;
        let upload = rest.map(|rest| watched(rest, scanner));
        let way =
            FormWay { media, before: body.slice(..start), after: body.slice(end..), kind, accept, asked };
        Ok(Arc::new(RawAsk {
            model: name,
            pinned: false,
            bytes,
            upload,
            seen,
            items: None,
            way: Box::new(way),
        }))
    }
}

/// The part with the model's name, once all of it is here.
fn model_part(scanner: &Scanner) -> Option<&Part> {
    scanner.parts().iter().find(|part| part.name == MODEL && part.end.is_some())
}

/// Whether the model's name is here.
pub(in crate::api) fn names_model(scanner: &Scanner) -> bool {
    model_part(scanner).is_some()
}

/// The model that a form names, once that is here; `body` is what of the form was read.
pub(in crate::api) fn model_in<'b>(scanner: &Scanner, body: &'b [u8]) -> Option<&'b str> {
    let part = model_part(scanner)?;
    std::str::from_utf8(body.get(part.start..part.end?)?).ok()
}

/// Names and texts of the fields that policies may see.
pub(in crate::api) fn texts<'a>(
    scanner: &'a Scanner,
    body: &'a [u8],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    scanner.parts().iter().filter(|part| !part.is_file).filter_map(|part| {
        let text = body.get(part.start..part.end?).filter(|text| text.len() <= MAX_SHOWN)?;
        Some((part.name.as_str(), std::str::from_utf8(text).ok()?))
    })
}

/// The rest of a form: a second model behind the first could be the one that the provider reads.
pub(in crate::api) fn watched(rest: Upload, mut scanner: Scanner) -> Upload {
    rest.watched(Box::new(move |piece| {
        scanner.feed(piece)?;
        only_one_model(&scanner)
    }))
}

/// # Errors
/// `BadRequest` where a form has named a second one.
pub(in crate::api) fn only_one_model(scanner: &Scanner) -> Result<(), Fault> {
    match scanner.parts().iter().filter(|part| part.name == MODEL).nth(1) {
        Some(_) => Err(Fault::bad_request("the form has the field `model` twice", MODEL)),
        None => Ok(()),
    }
}

/// The form with another model in it; all else byte for byte.
struct FormWay {
    media: Media,
    before: Bytes,
    after: Bytes,
    kind: HeaderValue,
    accept: HeaderValue,
    asked: Usage,
}

impl Way for FormWay {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        let path = self.media.path_at(target).ok_or_else(|| self.media.impossible())?;
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, self.kind.clone()), (ACCEPT, self.accept.clone())]);
        let model = Bytes::copy_from_slice(target.wire().deployed(&target.name.model).as_bytes());
        let body = vec![self.before.clone(), model, self.after.clone()];
        Ok(Outgoing {
            method: Method::POST,
            path,
            is_absolute: false,
            headers,
            body,
            lost: Vec::new(),
            tier: None,
        })
    }

    fn raw(&self, _: &Target) -> Option<RawForm> {
        Some(self.media.raw_form(self.asked))
    }
}
