//! An answer that goes to the client as the bytes that the provider sent, metered as it passes.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

use super::answering::Answering;
use super::grip::Grip;
use super::live::Piece;
use super::secrecy::bare;
use super::watchdog::Watchdog;
use crate::chat::{Tier, Usage};
use crate::facts::Endpoint;
use crate::facts::market::Scale as _;
use crate::fault::Fault;
use crate::providers::{Meter, Target};
use crate::tokens::Counter;
use crate::upstream::Upload;

/// How bytes are to be relayed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RawForm {
    /// Statuses and error bodies go to the client as they came too; nothing is tried again.
    pub as_it_came: bool,
    /// The answer's head comes only when the work is done.
    pub slow: bool,
    /// What the request alone tells of its use: characters to be spoken, pictures asked for.
    pub asked: Usage,
    /// What is done.
    pub endpoint: Endpoint,
}

/// A raw answer whose head is here.
pub struct Raw {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// What follows `begun`.
    pub(super) body: Answering,
    /// What was read of the body already.
    pub(super) begun: Option<Bytes>,
    pub(super) meter: Option<Meter>,
    pub(super) form: RawForm,
    /// The service that gives it, unless the answer itself names another.
    pub(super) tier: Option<Tier>,
    /// The credentials that the request bore.
    pub(super) secrets: Vec<HeaderValue>,
    pub(super) target: Target,
    /// Counts what was said where the provider does not.
    pub(super) counter: Arc<Counter>,
    pub(super) watchdog: Watchdog,
    /// What the provider complains of, under a status that goes to the client as it came.
    pub(super) complaint: Option<Fault>,
    /// The rest of the request, which is of no use to anybody once the answer is over.
    pub(super) upload: Option<Upload>,
    /// Given back when it is over.
    pub(super) grip: Grip,
    pub(super) over: bool,
}

impl Raw {
    /// The provider's status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The provider's headers, all of them: not for clients.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What the provider complains of.
    pub fn complaint(&self) -> Option<&Fault> {
        self.complaint.as_ref()
    }

    /// Whether a header of the answer repeats the credentials of the request.
    pub fn repeats_secret(&self, value: &HeaderValue) -> bool {
        self.secrets
            .iter()
            .map(bare)
            .any(|secret| !secret.is_empty() && memchr::memmem::find(value.as_bytes(), secret).is_some())
    }

    /// Who answers.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Length of the body, where it is known.
    pub fn length(&self) -> Option<u64> {
        let begun = self.begun.as_ref().map_or(0, |begun| begun.len() as u64);
        self.body.left().map(|left| left + begun)
    }

    /// What was used, as far as request and answer tell; `None` when neither does. `rough` is a quarter of the prompt's bytes.
    pub fn usage(&self, rough: u64) -> Option<Usage> {
        let RawForm { asked, endpoint, .. } = self.form;
        // Results of a batch tell of it as often as somebody asks for them.
        if endpoint == Endpoint::Batches {
            return None;
        }
        let said = self.meter.as_ref().and_then(|meter| match meter.usage() {
            None if endpoint == Endpoint::Transcription => meter.heard(),
            said => said,
        });
        let Usage { characters, images, estimated, input, .. } = asked;
        let heard = self.heard();
        match said.map(|said| whole_of(endpoint, said)) {
            Some(said) => {
                let said = Usage { characters, images, tier: said.tier.or(self.tier), ..said };
                // What was said before the answer, or in its middle, says nothing of what came after.
                let has_gone_on = self.meter.as_ref().is_some_and(Meter::has_gone_on);
                let is_all = !has_gone_on || said.output >= heard;
                Some(if is_all { said } else { Usage { output: heard, estimated: true, ..said } })
            }
            None if self.complaint.is_some() || asked == Usage::default() && heard == 0 => None,
            None => {
                // Of a request that nobody has read, the prompt is told by its length.
                let unread = heard > 0 && input == 0;
                let input = if unread { self.counter.likely(&self.target.name, rough) } else { input };
                let (estimated, output) = (estimated || heard > 0, heard);
                Some(Usage {
                    characters,
                    images,
                    estimated,
                    input,
                    output,
                    tier: self.tier,
                    ..Usage::default()
                })
            }
        }
    }

    /// Tokens of the text that a model has said in a stream so far, by what the target reported of others.
    fn heard(&self) -> u64 {
        let says =
            matches!(self.form.endpoint, Endpoint::Chat | Endpoint::Completions | Endpoint::Passthrough);
        let bytes = self.meter.as_ref().filter(|_| says).map_or(0, Meter::text_bytes);
        if bytes == 0 { 0 } else { self.counter.heard(&self.target.name, bytes) }
    }

    /// Holds its beginning: up to so many bytes, or until `is_enough`. Says whether that is all.
    ///
    /// # Errors
    /// When it breaks off before.
    pub async fn hold(
        &mut self,
        most: usize,
        is_enough: impl Fn(&[u8]) -> bool,
    ) -> Result<(Bytes, bool), Fault> {
        let mut held = BytesMut::new();
        loop {
            match std::future::poll_fn(|cx| self.poll_piece(cx)).await {
                Piece::Bytes(bytes) => held.extend_from_slice(&bytes),
                Piece::End => return Ok((held.freeze(), true)),
                Piece::Broken(fault) => return Err(fault),
            }
            if held.len() >= most || is_enough(&held) {
                return Ok((held.freeze(), false));
            }
        }
    }

    /// Begins with these bytes, in the place of those that were held.
    pub fn begin_with(&mut self, bytes: Bytes) {
        self.begun = Some(bytes);
    }

    /// The next bytes for the client.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        if let Some(begun) = self.begun.take().filter(|begun| !begun.is_empty()) {
            return Poll::Ready(Piece::Bytes(begun));
        }
        if self.over {
            return Poll::Ready(Piece::End);
        }
        match self.body.poll_chunk(cx) {
            Poll::Pending => {
                let fault = std::task::ready!(self.watchdog.poll(cx));
                self.over = true;
                Poll::Ready(Piece::Broken(fault))
            }
            Poll::Ready(None) => {
                self.over = true;
                Poll::Ready(Piece::End)
            }
            Poll::Ready(Some(Err(fault))) => {
                self.over = true;
                // A provider that hears the client break off in the middle of an upload breaks off too.
                Poll::Ready(Piece::Broken(self.upload.as_ref().and_then(Upload::failure).unwrap_or(fault)))
            }
            Poll::Ready(Some(Ok(bytes))) => {
                self.watchdog.heard();
                if let Some(meter) = &mut self.meter {
                    meter.feed(&bytes);
                }
                Poll::Ready(Piece::Bytes(bytes))
            }
        }
    }
}

/// What vendors leave out where an operation makes one thing only: all of its answer is sound, or pictures.
fn whole_of(endpoint: Endpoint, said: Usage) -> Usage {
    match endpoint {
        Endpoint::Speech if said.output_audio == 0 => Usage { output_audio: said.output, ..said },
        Endpoint::Images if said.output_image == 0 => Usage { output_image: said.output, ..said },
        _ => said,
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abandon();
        }
        let mut grip = std::mem::take(&mut self.grip);
        grip.used(|| self.usage(0).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_operation_makes_is_of_one_kind() {
        let said = Usage { input: 10, output: 100, ..Usage::default() };
        for (endpoint, output_audio, output_image) in
            [(Endpoint::Speech, 100, 0), (Endpoint::Images, 0, 100), (Endpoint::Passthrough, 0, 0)]
        {
            assert_eq!(
                whole_of(endpoint, said),
                Usage { output_audio, output_image, ..said },
                "{endpoint:?}"
            );
        }
        let parted = Usage { output_image: 60, ..said };
        assert_eq!(whole_of(Endpoint::Images, parted), parted, "the rest was text");
    }
}
