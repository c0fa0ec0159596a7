//! Kept responses by their id: `GET` and `DELETE /v1/responses/{id}`, its `input_items`, its `cancel`.

use http::{Method, Response, StatusCode, Uri};
use serde_json::{Value, json};

use crate::api::openai_chat::presentable;
use crate::api::reply::{self, ReplyBody};
use crate::fault::{Fault, FaultKind};
use crate::store::{Kept, Shelf};

/// Below which a response's id follows.
const PLACE: &str = "/v1/responses/";

/// Items of one page, unless the client says otherwise, and at most.
const PAGE: (usize, usize) = (20, 100);

/// What is wanted of one kept response.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) struct Lookup {
    id: String,
    wish: Wish,
}

/// What shall be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Read,
    Delete,
    Items,
    Cancel,
}

impl Lookup {
    /// The lookup that a path and a method name; `Err` names the methods that the path answers.
    pub(in crate::api) fn find(method: &Method, path: &str) -> Option<Result<Self, &'static str>> {
        let rest = path.strip_prefix(PLACE)?;
        let (id, below) = rest.split_once('/').map_or((rest, None), |(id, below)| (id, Some(below)));
        if id.is_empty() {
            return None;
        }
        let wish = match (below, method) {
            (None, &Method::GET | &Method::HEAD) => Ok(Wish::Read),
            (None, &Method::DELETE) => Ok(Wish::Delete),
            (None, _) => Err("GET, HEAD, DELETE"),
            (Some("input_items"), &Method::GET | &Method::HEAD) => Ok(Wish::Items),
            (Some("input_items"), _) => Err("GET, HEAD"),
            (Some("cancel"), &Method::POST) => Ok(Wish::Cancel),
            (Some("cancel"), _) => Err("POST"),
            _ => return None,
        };
        Some(wish.map(|wish| Self { id: id.to_owned(), wish }))
    }

    /// The id in a path.
    pub(super) fn id(path: &str) -> Option<&str> {
        path.strip_prefix(PLACE).map(|rest| rest.split_once('/').map_or(rest, |(id, _)| id))
    }

    /// The response's id.
    pub(in crate::api) fn wanted(&self) -> &str {
        &self.id
    }

    /// What shall be done with it.
    pub(super) fn wish(&self) -> Wish {
        self.wish
    }

    /// The answer, from what is kept for this caller.
    pub(in crate::api) fn reply(&self, shelf: &Shelf, uri: &Uri, request_id: &str) -> Response<ReplyBody> {
        let mut response = match self.answer(shelf, uri) {
            Ok(body) => reply::json(StatusCode::OK, body),
            Err(fault) => return reply::fault(&fault, request_id),
        };
        reply::name(&mut response, request_id);
        response
    }

    fn answer(&self, shelf: &Shelf, uri: &Uri) -> Result<bytes::Bytes, Fault> {
        let kept = shelf.get(&self.id).ok_or_else(|| unknown(&self.id))?;
        match self.wish {
            Wish::Read if wants_stream(uri) => {
                let text = "this response is answered as a whole, for its provider does not keep it: leave `stream` away";
                Err(Fault::bad_request(text, "stream"))
            }
            Wish::Read => Ok(kept.answer.clone()),
            Wish::Delete => {
                shelf.forget(&self.id);
                Ok(json!({ "id": self.id, "object": "response", "deleted": true }).to_string().into())
            }
            Wish::Items => Ok(page(items(&kept, shelf), uri)?.to_string().into()),
            Wish::Cancel => Err(Fault::bad_request("cannot cancel a synchronous response", "response_id")),
        }
    }
}

/// Whether the answer is wanted as a stream.
pub(super) fn wants_stream(uri: &Uri) -> bool {
    query(uri, "stream") == Some("true")
}

/// The fault for a response that nobody knows.
pub(super) fn unknown(id: &str) -> Fault {
    let id = presentable(id, 80);
    let text = format!("response with id '{id}' not found: this gateway keeps it no longer, or never did");
    Fault::new(FaultKind::NotFound, text)
}

/// The input items of a response, earlier turns included, the oldest first; each has an id.
fn items(kept: &Kept, shelf: &Shelf) -> Vec<Value> {
    let mut items = Vec::new();
    let chain = shelf.conversation(&kept.id).unwrap_or_default();
    let (last, before) = match chain.split_last() {
        Some((last, before)) => (&**last, before),
        None => (kept, &[][..]),
    };
    for turn in before {
        inputs(turn, &mut items);
        let answer: Value = serde_json::from_slice(&turn.answer).unwrap_or_default();
        items.extend(answer.get("output").and_then(Value::as_array).into_iter().flatten().cloned());
    }
    inputs(last, &mut items);
    items
}

fn inputs(kept: &Kept, items: &mut Vec<Value>) {
    let request: Value = serde_json::from_slice(&kept.request).unwrap_or_default();
    let message = |content: Value| json!({ "type": "message", "role": "user", "content": content });
    let own = match request.get("input") {
        Some(Value::String(text)) => vec![message(json!([{ "type": "input_text", "text": text }]))],
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    };
    for (at, mut item) in own.into_iter().enumerate() {
        let Some(fields) = item.as_object_mut() else { continue };
        if fields.get("role").is_some() {
            fields.entry("type").or_insert_with(|| "message".into());
            fields.entry("status").or_insert_with(|| "completed".into());
            if let Some(content) = fields.get_mut("content").filter(|content| content.is_string()) {
                *content = json!([{ "type": "input_text", "text": content.take() }]);
            }
        }
        // Always the same for the same place, so that a client can go on from there.
        let id = format!("msg_{}_in{at:04}", kept.id.trim_start_matches("resp_"));
        fields.entry("id").or_insert_with(|| id.into());
        items.push(item);
    }
}

/// One page of the list, as `limit`, `order` and `after` want it.
fn page(mut items: Vec<Value>, uri: &Uri) -> Result<Value, Fault> {
    let limit = match query(uri, "limit") {
        None => PAGE.0,
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=PAGE.1).contains(limit));
            limit.ok_or_else(|| Fault::bad_request("invalid 'limit': expected 1 to 100", "limit"))?
        }
    };
    match query(uri, "order") {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(_) => return Err(Fault::bad_request("invalid 'order': expected 'asc' or 'desc'", "order")),
    }
    if let Some(after) = query(uri, "after") {
        let at = items.iter().position(|item| item["id"] == after);
        let at = at.ok_or_else(|| Fault::bad_request("invalid 'after': no such item", "after"))?;
        items.drain(..=at);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id = |item: Option<&Value>| item.map(|item| item["id"].clone()).unwrap_or_default();
    let (first, last) = (id(items.first()), id(items.last()));
    Ok(json!({ "object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more }))
}

fn query<'u>(uri: &'u Uri, key: &str) -> Option<&'u str> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_exact() {
        for (method, path, expected) in [
            ("GET", "/v1/responses/r", Some(Ok(Wish::Read))),
            ("DELETE", "/v1/responses/r", Some(Ok(Wish::Delete))),
            ("GET", "/v1/responses/r/input_items", Some(Ok(Wish::Items))),
            ("POST", "/v1/responses/r/cancel", Some(Ok(Wish::Cancel))),
            ("POST", "/v1/responses/r", Some(Err("GET, HEAD, DELETE"))),
            ("GET", "/v1/responses/r/cancel", Some(Err("POST"))),
            ("GET", "/v1/responses/r/other", None),
            ("GET", "/v1/responses/", None),
            ("GET", "/v1/responses", None),
        ] {
            let method: Method = method.parse().unwrap();
            let found = Lookup::find(&method, path).map(|found| found.map(|lookup| lookup.wish));
            assert_eq!(found, expected, "{method} {path}");
        }
    }
}
