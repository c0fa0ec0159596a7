//! Requests for media that come as JSON: speech, new pictures, changed ones.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use super::Media;
use crate::api::openai_chat::param::{Param, missing};
use crate::api::raw::{RawAsk, Seen, Way};
use crate::api::sight::Asides;
use crate::chat::Usage;
use crate::executor::RawForm;
use crate::fault::Fault;
use crate::gateway::{Asked, Head};
use crate::json::{Body, Splice};
use crate::providers::{Outgoing, Relayed, Target};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");

/// Fields in which a client says something besides what is to be spoken or drawn.
const BESIDE: [&str; 2] = ["instructions", "negative_prompt"];

/// Most pictures that one request may ask for; vendors allow ten.
const MAX_PICTURES: u64 = 128;

/// Reads a request.
///
/// # Errors
/// `BadRequest` with the parameter's name.
pub(super) fn read(media: Media, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
    let body = Body::read(body)?;
    let (mut model, mut said, mut pictures) = (None, None, 1);
    for field in body.fields() {
        let param = |name| Param { name, raw: body.value(field), items: field.items };
        match &*field.key {
            "model" => model = Some(param("model").model()?),
            "input" if media == Media::Speech => said = param("input").text()?,
            "prompt" if media.is_pictures() => said = param("prompt").text()?,
            "n" if media.is_pictures() => pictures = param("n").integer(1, MAX_PICTURES)?.unwrap_or(1),
            "stream" => drop(param("stream").boolean()?),
            _ => {}
        }
    }
    let model = model.ok_or_else(|| missing("model"))?;
    let text = match said {
        Some(said) => said.into_owned(),
        None => return Err(missing(if media == Media::Speech { "input" } else { "prompt" })),
    };
    let asked = media.asked(&text, pictures);
    let mut asides = Asides::default();
    for field in BESIDE {
        asides.text("user", field, &body.str(field).unwrap_or_default());
    }
    let accept = head.headers.get(ACCEPT).cloned().unwrap_or(ANYTHING);
    Ok(Arc::new(RawAsk {
        model,
        pinned: false,
        items: None,
        bytes: body.bytes().len(),
        upload: None,
        seen: Seen {
            json: Some(body.clone()),
            text,
            asides: asides.into_vec(),
            images: media == Media::Edit,
            ..Seen::default()
        },
        way: Box::new(JsonWay { media, body, asked, accept }),
    }))
}

struct JsonWay {
    media: Media,
    body: Body,
    asked: Usage,
    accept: HeaderValue,
}

impl Way for JsonWay {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        let Some(path) = self.media.path_at(target) else {
            let wire = target.wire();
            let made = match self.media {
                Media::Generation => wire.images().map(|images| images.encode(&self.body, &target.name)),
                Media::Speech => wire.speech().and_then(|speech| speech.encode(&self.body, &target.name)),
                _ => None,
            };
            return made.ok_or_else(|| self.media.impossible())?;
        };
        let mut splice = Splice::new(&self.body);
        splice.set_text("model", target.wire().deployed(&target.name.model));
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON), (ACCEPT, self.accept.clone())]);
        Ok(Outgoing {
            method: Method::POST,
            path,
            is_absolute: false,
            headers,
            body: splice.finish(),
            lost: Vec::new(),

            tier: None,
        })
    }

    fn raw(&self, target: &Target) -> Option<RawForm> {
        self.media.path_at(target).map(|_| self.media.raw_form(self.asked))
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        let impossible = || self.media.impossible();
        let mut relayed = match self.media {
            Media::Speech => target.wire().speech().ok_or_else(impossible)?.whole(&self.body, body)?,
            _ => target.wire().images().ok_or_else(impossible)?.whole(body)?,
        };
        let usage = relayed.usage.get_or_insert(self.asked);
        (usage.images, usage.characters) = (self.asked.images, self.asked.characters);
        Ok(relayed)
    }
}
