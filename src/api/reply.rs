//! Responses to clients. The only place where a fault becomes a response.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};

use super::openai_chat;
use crate::fault::Fault;
use crate::gateway::{Awaited, Body, Door, RawBody, Served, StreamBody, Takeover, Talk};
use crate::headers;
use crate::providers::Dialect;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The body of a response: all of it, or a stream.
pub enum ReplyBody {
    /// Bytes that are still to be sent.
    Whole(Option<Bytes>),
    /// A stream.
    Stream(Box<StreamBody>),
    /// A provider's own bytes.
    Raw(Box<RawBody>),
}

/// The response to a request that went through the line.
pub fn served(served: Served) -> Response<ReplyBody> {
    let Served { door, request_id, result, headers: told } = served;
    let mut response = match result {
        Ok(Body::Whole(bytes)) => {
            let kind = door.kind_of(&bytes);
            whole(StatusCode::OK, bytes, HeaderValue::from_static(kind))
        }
        Ok(Body::Stream(stream)) => {
            let mut response = Response::new(ReplyBody::Stream(stream));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(door.stream_form().content_type()));
            unbuffered(&mut response);
            response
        }
        Ok(Body::Replay(frames)) => {
            let mut response = Response::new(ReplyBody::Whole(Some(frames)));
            let kind = HeaderValue::from_static(door.stream_form().content_type());
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            response
        }
        Ok(Body::Raw(raw)) => {
            let (status, headers) = (raw.status(), raw.headers().clone());
            let mut response = Response::new(ReplyBody::Raw(raw));
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            let kind = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
            if kind.starts_with(b"text/event-stream") {
                unbuffered(&mut response);
            }
            response
        }
        Ok(Body::Switch(conversation)) => switching(Talk::Begun(conversation)),
        Err(fault) => error(&fault, door.error_body(&fault, &request_id)),
    };
    tell(response.headers_mut(), told);
    name_at(door, &mut response, &request_id);
    response
}

/// Adds what is told of the decision. Beside the single header of a whole answer, these are the many: they stay.
fn tell(headers: &mut HeaderMap, told: HeaderMap) {
    if headers.len() > 1 {
        return headers.extend(told);
    }
    let own = std::mem::replace(headers, told);
    for (name, value) in &own {
        headers.entry(name).or_insert_with(|| value.clone());
    }
}

/// The listener finds the conversation beside the head and begins it when the head has gone out.
fn switching(talk: Talk) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Whole(None));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.extensions_mut().insert(Takeover::new(talk));
    response
}

/// The same for a conversation whose client has still to say with whom.
pub(super) fn awaiting(awaited: Awaited, answer: HeaderMap, request_id: &str) -> Response<ReplyBody> {
    let mut response = switching(Talk::Awaited(Box::new(awaited)));
    response.headers_mut().extend(answer);
    name(&mut response, request_id);
    response
}

/// Tells nginx and its kin not to collect a stream.
fn unbuffered(response: &mut Response<ReplyBody>) {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
}

/// The response that says a fault before any door is known, in OpenAI's shape.
pub fn fault(fault: &Fault, request_id: &str) -> Response<ReplyBody> {
    let mut response = error(fault, openai_chat::error_body(fault));
    name(&mut response, request_id);
    response
}

/// The response that says a fault in the shape of this door's dialect.
pub(super) fn fault_at(door: &dyn Door, fault: &Fault, request_id: &str) -> Response<ReplyBody> {
    let mut response = error(fault, door.error_body(fault, request_id));
    name_at(door, &mut response, request_id);
    response
}

/// A JSON response.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<ReplyBody> {
    whole(status, body.into(), JSON)
}

fn whole(status: StatusCode, body: Bytes, kind: HeaderValue) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Whole(Some(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Adds the request's id, also by the name that clients of the door's dialect look for.
fn name_at(door: &dyn Door, response: &mut Response<ReplyBody>, request_id: &str) {
    name(response, request_id);
    if door.dialect() == Dialect::Anthropic
        && let Ok(value) = HeaderValue::from_str(request_id)
    {
        response.headers_mut().insert("request-id", value);
    }
}

/// Adds the request's id.
pub(super) fn name(response: &mut Response<ReplyBody>, request_id: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(&headers::REQUEST_ID, value);
    }
}

fn error(fault: &Fault, body: Vec<u8>) -> Response<ReplyBody> {
    let status = StatusCode::from_u16(fault.client_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, body);
    if let Some(after) = fault.after {
        // Rounded up: a client that comes back a little late is served, one that comes early is not.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::UPGRADE_REQUIRED {
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => Pin::new(&mut **stream).poll_frame(cx),
            Self::Raw(raw) => Pin::new(&mut **raw).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.is_end_stream(),
            Self::Raw(raw) => raw.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
            Self::Raw(raw) => raw.size_hint(),
        }
    }
}
