//! A Responses request as the gateway knows it: a checked envelope, and the items only when somebody asks.

use std::sync::{Arc, OnceLock};

use super::before::Before;
use super::decode::{Decoded, decode};
use super::echo::Given;
use super::errand::Errand;
use super::keep::Keeper;
use super::sight::Responses;
use crate::api::openai_chat::param::{Param, missing};
use crate::api::openai_chat::{MAX_MESSAGES, MAX_TOKENS, MAX_TOOLS};
use crate::api::sight::{Envelope, MEDIUM, Seen, Sight};
use crate::fault::Fault;
use crate::json::{Body, Inlined};
use crate::providers::Target;
use crate::store::Shelf;

/// What a request is there for.
pub(super) enum Purpose {
    /// An answer.
    Answer,
    /// A count of its tokens.
    Count,
    /// A shorter form of the conversation, which only its provider can read.
    Compaction,
    /// Something that is to be done with its answer, at the provider that keeps it.
    Errand(Errand),
}

/// A Responses request with a checked envelope.
pub struct Ask {
    body: Body,
    model: Arc<str>,
    stream: bool,
    max_tokens: Option<u64>,
    user: Option<Box<str>>,
    items: usize,
    store: bool,
    purpose: Purpose,
    previous: Option<Box<str>>,
    before: Before,
    shelf: Shelf,
    sight: Sight<Responses>,
    request: OnceLock<Result<Decoded, Fault>>,
    given: OnceLock<Arc<Given>>,
}

impl Ask {
    /// Checks the envelope of a request: everything that the gateway itself acts upon. What is only for the provider
    /// is left to the provider. `counts`: the request wants its tokens counted, not an answer.
    ///
    /// # Errors
    /// `BadRequest` with the parameter's name.
    pub fn read(body: Body, shelf: &Shelf, counts: bool) -> Result<Self, Fault> {
        let (mut model, mut input, mut stream, mut max_tokens) = (None, None, None, None);
        let (mut user, mut safety_identifier, mut store, mut previous) = (None, None, None, None);
        let (mut continues, mut background) = (false, None);
        for field in body.fields() {
            let param = |name| Param { name, raw: body.value(field), items: field.items };
            match &*field.key {
                "model" => model = Some(param("model").model()?),
                "input" => input = items(param("input"))?,
                "stream" => stream = param("stream").boolean()?,
                "store" => store = param("store").boolean()?,
                "max_output_tokens" => max_tokens = param("max_output_tokens").integer(1, MAX_TOKENS)?,
                "previous_response_id" => previous = param("previous_response_id").text()?.map(Box::from),
                "tools" => drop(param("tools").array(MAX_TOOLS)?),
                "include" => drop(param("include").array(MAX_TOOLS)?),
                "user" => user = param("user").user()?,
                "safety_identifier" => safety_identifier = param("safety_identifier").user()?,
                "instructions" => drop(param("instructions").text()?),
                "metadata" => drop(param("metadata").object()?),
                "text" => drop(param("text").object()?),
                "reasoning" => drop(param("reasoning").object()?),
                "background" => background = param("background").boolean()?,
                "prompt" | "conversation" => continues |= body.value(field) != b"null",
                _ => {}
            }
        }
        if input.is_none() && previous.is_none() && !continues {
            return Err(missing("input"));
        }
        Ok(Self {
            model: model.ok_or_else(|| missing("model"))?,
            stream: stream.unwrap_or(false) && !counts,
            max_tokens,
            user: user.or(safety_identifier),
            items: input.unwrap_or(0),
            // What is made in the background is looked for later, whatever becomes of it then.
            store: store.unwrap_or(true) || background == Some(true),
            purpose: if counts { Purpose::Count } else { Purpose::Answer },
            before: Before::find(previous.as_deref(), shelf)?,
            previous,
            shelf: shelf.clone(),
            sight: Sight::default(),
            request: OnceLock::new(),
            given: OnceLock::new(),
            body,
        })
    }

    /// The same request for a conversation that is to be made shorter.
    ///
    /// # Errors
    /// `BadRequest` where it asks for a stream: there is none.
    pub(super) fn compacting(self) -> Result<Self, Fault> {
        if self.stream {
            return Err(Fault::bad_request(
                "a compaction is answered as a whole: leave `stream` away",
                "stream",
            ));
        }
        Ok(Self { purpose: Purpose::Compaction, store: false, ..self })
    }

    /// A request that was made before, because of its answer. `model` is the target that gave it.
    pub(super) fn errand(body: Body, model: Arc<str>, errand: Errand) -> Self {
        Self {
            model,
            stream: errand.streams(),
            max_tokens: None,
            user: None,
            items: 0,
            store: false,
            purpose: Purpose::Errand(errand),
            previous: None,
            before: Before::default(),
            shelf: Shelf::empty(),
            sight: Sight::default(),
            request: OnceLock::new(),
            given: OnceLock::new(),
            body,
        }
    }

    /// The body as it passed the gate.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The model's name as the client wrote it.
    pub fn model(&self) -> &Arc<str> {
        &self.model
    }

    /// What it is there for.
    pub(super) fn purpose(&self) -> &Purpose {
        &self.purpose
    }

    /// What came before.
    pub(super) fn before(&self) -> &Before {
        &self.before
    }

    /// The caller's answers.
    pub(super) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// What the answer repeats of the request.
    pub(super) fn given(&self) -> Arc<Given> {
        self.given.get_or_init(|| Arc::new(Given::read(&self.body))).clone()
    }

    /// What keeps the answer of `target`, unless the client forbade it.
    pub(super) fn keeper(&self, target: &Target, native: bool) -> Option<Keeper> {
        self.keeping()(target, native)
    }

    /// The same for whoever answers when this request is gone.
    pub(super) fn keeping(&self) -> impl Fn(&Target, bool) -> Option<Keeper> + Send + Sync + 'static {
        let (store, shelf, previous) = (self.store, self.shelf.clone(), self.previous.clone());
        let (request, inlined) = (self.body.bytes().clone(), self.body.inlined());
        move |target, native| {
            store.then(|| Keeper {
                shelf: shelf.clone(),
                previous: previous.clone(),
                request: request.clone(),
                inlined,
                target: target.name.clone(),
                native,
            })
        }
    }

    /// The whole request in the canonical form, decoded at most once.
    ///
    /// # Errors
    /// `BadRequest` with the path of the field that cannot be understood.
    pub fn request(&self) -> Result<&Decoded, Fault> {
        let decoded = self.request.get_or_init(|| decode(&self.body, &self.before, &self.shelf));
        decoded.as_ref().map_err(Clone::clone)
    }

    /// An estimate of all prompt tokens, tools and earlier turns included: bytes of text divided by four, and for
    /// pictures and documents what a usual one takes.
    pub(super) fn estimate(&self) -> u64 {
        let media = self.sight.media(&self.body);
        let tools = self.body.raw_bytes("tools").map_or(0, <[u8]>::len);
        let text = self.sight.text(&self.body).len() + tools + self.before.bytes();
        let media = MEDIUM * (u64::from(media.images) + u64::from(media.files) + u64::from(media.audio));
        (text as u64).div_ceil(4) + 4 * self.items as u64 + media
    }
}

/// Number of items; a string is one.
fn items(input: Param<'_>) -> Result<Option<usize>, Fault> {
    match input.raw.first() {
        Some(b'"') => Ok(Some(1)),
        Some(b'[') => input.array(MAX_MESSAGES).map(|_| Some(input.items)),
        Some(b'n') => Ok(None),
        _ => Err(input.wrong_type("a string or an array")),
    }
}

impl Seen for Ask {
    type Dialect = Responses;

    fn sight(&self) -> &Sight<Responses> {
        &self.sight
    }

    fn shown(&self) -> &Body {
        &self.body
    }

    fn envelope(&self) -> Envelope<'_> {
        Envelope {
            stream: self.stream,
            max_tokens: self.max_tokens,
            messages: self.items,
            user: self.user.as_deref(),
        }
    }

    fn prompt(&self) -> usize {
        let bytes = |key| self.body.field(key).map_or(0, |field| field.value.len());
        bytes("input") + bytes("instructions") + bytes("tools") + self.before.bytes()
    }

    fn inlined(&self) -> Inlined {
        self.body.inlined().and(self.before.inlined())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::facts::Body as _;

    fn ask(text: &str) -> Result<Ask, Fault> {
        Ask::read(Body::read(Bytes::from(text.to_owned()))?, &Shelf::empty(), false)
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, param) in [
            (r#"{"input":"x"}"#, "model"),
            (r#"{"model":"m"}"#, "input"),
            (r#"{"model":"m","input":null}"#, "input"),
            (r#"{"model":"m","input":{}}"#, "input"),
            (r#"{"model":"m","input":"x","stream":1}"#, "stream"),
            (r#"{"model":"m","input":"x","store":"no"}"#, "store"),
            (r#"{"model":"m","input":"x","max_output_tokens":0}"#, "max_output_tokens"),
            (r#"{"model":"m","input":"x","instructions":7}"#, "instructions"),
            (r#"{"model":"m","input":"x","tools":{}}"#, "tools"),
            (r#"{"model":"m","input":"x","previous_response_id":7}"#, "previous_response_id"),
            (r#"{"model":"m","input":"x","previous_response_id":"resp_tollgate1"}"#, "previous_response_id"),
        ] {
            let fault = ask(text).err().unwrap_or_else(|| panic!("{text} passes"));
            assert_eq!(
                (fault.client_status(), fault.param.as_deref()),
                (400, Some(param)),
                "{text}: {fault}"
            );
        }
        for text in [
            r#"{"model":"m","prompt":{"id":"p"}}"#,
            r#"{"model":"m","conversation":"conv_1"}"#,
            r#"{"model":"m","previous_response_id":"resp_123"}"#,
        ] {
            assert!(ask(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn the_envelope_is_read() {
        let ask = ask(
            r#"{"model":"m","stream":true,"max_output_tokens":5,"safety_identifier":"u1","input":[{"role":"user","content":"hi"}],
               "text":{"format":{"type":"json_schema"}},"metadata":{"a":"b"}}"#,
        )
        .unwrap();
        assert_eq!((ask.stream(), ask.max_tokens(), ask.user()), (true, Some(5), Some("u1")));
        assert!(ask.has_json_output() && !ask.has_images());
        assert_eq!((ask.messages(), ask.metadata("a")), (1, Some("b".into())));
    }
}
