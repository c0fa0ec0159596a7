//! What a raw request has to do with things that its provider keeps, by the words of all vendors' paths.

use std::sync::Arc;

use http::Method;

use crate::api::routes::unescape;
use crate::gateway::{Items, Named, Told, own_name};
use crate::json::Body;
use crate::providers::{Dialect, Vendor};

/// Kinds of things, as paths call them.
/// <https://platform.openai.com/docs/api-reference>, <https://platform.claude.com/docs/en/api/overview>,
/// <https://ai.google.dev/api>, <https://docs.mistral.ai/api>
const KINDS: [&str; 19] = [
    "files",
    "uploads",
    "batches",
    "conversations",
    "responses",
    "vector_stores",
    "assistants",
    "threads",
    "evals",
    "containers",
    "videos",
    "jobs",
    "skills",
    "agents",
    "sessions",
    "cachedcontents",
    "filesearchstores",
    "batchpredictionjobs",
    "generated_files",
];

/// Operations that stand where ids do.
const OPERATIONS: [&str; 4] = ["compact", "input_tokens", "runs", "search"];

/// Operations of Google's by which a batch is begun at a model.
const BEGINNING: [&str; 2] = [":batchgeneratecontent", ":asyncbatchembedcontent"];

/// Longest pages: <https://platform.openai.com/docs/api-reference/batch/list>, `…/files/list`,
/// <https://platform.claude.com/docs/en/api/listing-message-batches>
const PAGE: usize = 100;
const FILES: usize = 10_000;
const ANTHROPICS: usize = 1_000;

/// What this request has to do with such things; `None` where that is nothing.
pub(super) fn items(
    provider: &Arc<str>,
    method: &Method,
    (path, query): (&str, &str),
    body: Option<&Body>,
) -> Option<Items> {
    let mut items = body.and_then(Items::named_in).unwrap_or_default();
    items.provider = Some(provider.clone());
    if let Some(place) = Place::of(path) {
        items.told = place.told(method, query);
        items.named.extend(place.id.map(|id| Named { id, field: None }));
    } else if *method == Method::POST && BEGINNING.iter().any(|end| path.to_lowercase().ends_with(end)) {
        items.told = Told::Made { answers: false };
    }
    (!items.named.is_empty() || items.told != Told::Nothing).then_some(items)
}

/// Where a path leads among the things.
struct Place {
    kind: &'static str,
    id: Option<Box<str>>,
    /// What follows the id.
    below: Option<String>,
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        let path = unescape(path);
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let mut before = "";
        let kind = loop {
            let segment = segments.next()?;
            // Chats that were stored stand below the operation that makes them.
            if segment == "completions" && before == "chat" {
                break "completions";
            }
            if let Some(kind) = KINDS.iter().find(|kind| segment.eq_ignore_ascii_case(kind)) {
                break *kind;
            }
            before = segment;
        };
        let next = segments.next();
        let id = next.filter(|next| !OPERATIONS.contains(next));
        let operation = next.filter(|next| OPERATIONS.contains(next));
        // Google's methods stand behind a colon.
        let id = id.map(|id| id.split_once(':').map_or(id, |(id, _)| id)).filter(|id| !id.is_empty());
        let below = operation.or_else(|| segments.next()).map(str::to_owned);
        if kind == "completions" && id.is_none() {
            return None;
        }
        Some(Self { kind, id: id.map(|id| own_name(id).into()), below })
    }

    fn told(&self, method: &Method, query: &str) -> Told {
        let is_all = self.id.is_none() && self.below.is_none();
        match (method, is_all) {
            (&Method::POST, true) => Told::Made { answers: self.kind == "responses" },
            (&Method::GET, true) => Told::List { limit: limit(query) },
            // What was made of it is known once it is done.
            (&Method::DELETE, false) if self.kind == "batches" => Told::One,
            (&Method::GET | &Method::POST, false) if matches!(self.kind, "batches" | "uploads" | "jobs") => {
                let is_one = self.below.as_deref().is_none_or(|below| matches!(below, "cancel" | "complete"));
                if is_one { Told::One } else { Told::Nothing }
            }
            _ => Told::Nothing,
        }
    }
}

/// The pair of a query by this name.
fn pair<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let pairs = query.trim_start_matches('?').split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(known, _)| *known == name).map(|(_, value)| value).next()
}

fn limit(query: &str) -> Option<usize> {
    ["limit", "pageSize", "page_size"].iter().find_map(|name| pair(query, name)?.parse().ok())
}

fn with_pair(query: &str, name: &str, value: &str) -> String {
    let mut query = crate::api::raw::query_without(query.strip_prefix('?'), |known| known == name);
    query.push(if query.is_empty() { '?' } else { '&' });
    query.push_str(name);
    query.push('=');
    query.push_str(value);
    query
}

/// The query for the longest page of a list: what is another's will be left out of it.
pub(super) fn longest(vendor: &Vendor, path: &str, query: &str) -> Option<String> {
    let place = Place::of(path).filter(|place| place.id.is_none())?;
    let most = match vendor.wire.dialect() {
        Dialect::Anthropic => ANTHROPICS,
        Dialect::OpenAi | Dialect::Responses if vendor.preset.as_deref() == Some("openai") => {
            match place.kind {
                // It is what it takes without a word.
                "files" if limit(query).is_none() => return None,
                "files" => FILES,
                _ => PAGE,
            }
        }
        _ => return None,
    };
    Some(with_pair(query, "limit", &most.to_string()))
}

/// The query for the page behind this one.
pub(super) fn behind(dialect: Dialect, query: &str, after: &str) -> String {
    let name = match dialect {
        Dialect::Anthropic => "after_id",
        Dialect::Gemini => "pageToken",
        _ => "after",
    };
    with_pair(query, name, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(method: &str, path: &str) -> (String, Option<String>) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let found = items(&"up".into(), &method.parse().unwrap(), (path, query), None).unwrap_or_default();
        let told = match found.told {
            Told::Nothing => "nothing".to_owned(),
            Told::Made { answers } => format!("made {answers}"),
            Told::One => "one".into(),
            Told::List { limit } => format!("list {limit:?}"),
        };
        (told, found.named.first().map(|named| named.id.to_string()))
    }

    #[test]
    fn paths_tell_what_is_named_made_and_listed() {
        for (method, path, expected, id) in [
            ("GET", "/files", "list None", None),
            ("GET", "/v1/files?limit=20", "list Some(20)", None),
            ("POST", "/v1/files", "made false", None),
            ("GET", "/v1/files/file-1/content", "nothing", Some("file-1")),
            ("DELETE", "/Files//file%2d1", "nothing", Some("file-1")),
            ("GET", "/openai/v1/batches/batch_1", "one", Some("batch_1")),
            ("POST", "/batches/batch_1/cancel", "one", Some("batch_1")),
            ("GET", "/v1/messages/batches", "list None", None),
            ("GET", "/v1/messages/batches/b/results", "nothing", Some("b")),
            ("POST", "/uploads/up_1/complete", "one", Some("up_1")),
            ("POST", "/responses", "made true", None),
            ("POST", "/responses/compact", "nothing", None),
            ("GET", "/responses/resp_1/input_items", "nothing", Some("resp_1")),
            ("GET", "/vector_stores/vs_1/files/file-1", "nothing", Some("vs_1")),
            ("POST", "/chat/completions", "nothing", None),
            ("GET", "/chat/completions/chatcmpl-1", "nothing", Some("chatcmpl-1")),
            ("GET", "/v1beta/cachedContents/abc", "nothing", Some("abc")),
            ("POST", "/upload/v1beta/files", "made false", None),
            ("GET", "/v1beta/files/abc:download", "nothing", Some("abc")),
            ("POST", "/v1beta/models/m:batchGenerateContent", "made false", None),
            ("POST", "/v1beta/models/m:generateContent", "nothing", None),
            ("GET", "/models", "nothing", None),
            ("GET", "/fine_tuning/jobs/ftjob-1/events", "nothing", Some("ftjob-1")),
        ] {
            assert_eq!(told(method, path), (expected.to_owned(), id.map(str::to_owned)), "{method} {path}");
        }
    }

    #[test]
    fn bodies_name_things_too() {
        for (body, expected) in [
            (r#"{"input_file_id":"file-1"}"#, &["file-1"][..]),
            (r#"{"previous_response_id":"resp_1","conversation":{"id":"conv_1"}}"#, &["resp_1", "conv_1"]),
            (r#"{"cachedContent":"cachedContents/abc"}"#, &["abc"]),
            (r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"file-1"}}]}]}"#, &["file-1"]),
            (r#"{"messages":[{"content":[{"source":{"type":"file","file_id":"file_1"}}]}]}"#, &["file_1"]),
            (r#"{"tools":[{"type":"file_search","vector_store_ids":["vs_1","vs_2"]}]}"#, &["vs_1", "vs_2"]),
            (r#"{"tools":[{"parameters":{"properties":{"file_id":{"type":"string"}}}}]}"#, &[]),
            (r#"{"metadata":{"file_id":"mine"},"messages":[{"content":"\"file_id\": \"x\""}]}"#, &[]),
            (r#"{"previous_response_id":null}"#, &[]),
        ] {
            let body = Body::read(bytes::Bytes::copy_from_slice(body.as_bytes())).unwrap();
            let named = Items::named_in(&body).unwrap_or_default().named;
            assert_eq!(named.iter().map(|named| &*named.id).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended() {
        assert_eq!(behind(Dialect::OpenAi, "?limit=2&after=x", "y"), "?limit=2&after=y");
        assert_eq!(behind(Dialect::Anthropic, "", "y"), "?after_id=y");
    }
}
