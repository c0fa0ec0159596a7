//! What pictures and speech have in common: they are asked for in OpenAI's words and made by Google's models.

use bytes::Bytes;
use serde_json::Value;

use super::{fault, request};
use crate::chat::Loss;
use crate::fault::{Fault, Retry};
use crate::providers::{ClientBody, Outgoing};

/// What no model here can do; other providers' may.
pub(super) fn cannot<T>(text: &'static str, param: &'static str) -> Result<T, Fault> {
    Err(Fault::bad_request(text, param).retry(Retry::Elsewhere))
}

/// The request for `path`, which tells of `body` no fields but those that are `known`, and loses the others beside `lost`.
pub(super) fn outgoing(
    body: &ClientBody,
    known: impl Fn(&str) -> bool,
    path: String,
    json: &Value,
    mut lost: Vec<Loss>,
) -> Outgoing {
    let unknown = body.fields().iter().filter(|field| !known(&field.key) && body.has(&field.key));
    lost.extend(unknown.map(|field| Loss::dropped(field.key.to_string())));
    let mut outgoing = request::outgoing(path, false, vec![json.to_string().into()]);
    outgoing.lost = lost;
    outgoing
}

/// The provider's answer, which may be an error under a status of success; `strange` is said of what is no JSON.
pub(super) fn read(body: &Bytes, strange: &'static str) -> Result<Value, Fault> {
    let value: Value = serde_json::from_slice(body).map_err(|_| fault::malformed(strange))?;
    if let Value::Object(object) = &value
        && fault::is_error(object)
    {
        return Err(fault::inside_success(&value));
    }
    Ok(value)
}
