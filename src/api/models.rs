//! `GET /v1/models`, `/v1beta/models` and one model below them: what a client may ask for, in its own dialect.

mod known;

use http::request::Parts;
use http::{Response, StatusCode};
use known::Sight;
use serde_json::{Value, json};

use super::anthropic_messages::AnthropicMessages;
use super::gemini_generate::{Form, GeminiDoor};
use super::openai_chat::OpenAiChat;
use super::reply::{self, ReplyBody};
use super::routes::unescape;
use crate::caller::Caller;
use crate::fault::Fault;
use crate::gateway::{Door, Snapshot};
use crate::ledger::Book;
use crate::planner::{Known, is_allowed, unknown_model};

/// Whose list it is. The path says so, or headers that only one vendor's clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    /// All at once: <https://platform.openai.com/docs/api-reference/models>
    OpenAi,
    /// In pages, by ids: <https://platform.claude.com/docs/en/api/models-list>
    Anthropic,
    /// In pages, by tokens: <https://ai.google.dev/api/models>
    Gemini,
}

/// Most models of one page.
const MAX_PAGE: usize = 1_000;

impl Shelf {
    /// The shelf at which this client stands.
    pub(super) fn of(head: &Parts) -> Self {
        if head.uri.path().starts_with("/v1beta/") || head.headers.contains_key("x-goog-api-key") {
            return Self::Gemini;
        }
        if head.headers.contains_key("anthropic-version") { Self::Anthropic } else { Self::OpenAi }
    }

    /// The door whose dialect its clients understand.
    pub(super) fn door(self) -> &'static dyn Door {
        match self {
            Self::OpenAi => &OpenAiChat,
            Self::Anthropic => &AnthropicMessages,
            Self::Gemini => &GeminiDoor(Form::Whole),
        }
    }

    /// Aliases in the order written, each with its versions, then the listed models of each provider: what clients of
    /// this version of the API may ask for.
    pub(super) fn list(
        self,
        snapshot: &Snapshot,
        (book, caller): (&Book, &Caller),
        version: Option<usize>,
        query: Option<&str>,
        request_id: &str,
    ) -> Response<ReplyBody> {
        let catalogue = snapshot.catalogue_of(version);
        let aliases = catalogue.names().into_iter().map(|name| (name.to_string(), "tollgate".to_owned()));
        let vendors = if catalogue.is_open() { catalogue.vendors() } else { Vec::new() };
        let targets = vendors.iter().flat_map(|vendor| {
            vendor.models.iter().map(|model| (format!("{}/{model}", vendor.name), vendor.name.to_string()))
        });
        let mut models: Vec<(String, String)> = aliases.chain(targets).collect();
        models.retain(|(name, _)| is_allowed(catalogue, caller, name));
        let query = Query(query.unwrap_or_default());
        let (created, sight) = (snapshot.built_ms, Sight { catalogue, book });
        let body = match self {
            Self::OpenAi => {
                let data = models.iter().map(|(id, owner)| self.model(id, owner, created, &sight));
                Ok(json!({ "object": "list", "data": data.collect::<Vec<_>>() }))
            }
            Self::Anthropic => anthropic_page(&models, query, created, &sight),
            Self::Gemini => gemini_page(&models, query, created, &sight),
        };
        match body {
            Ok(body) => answer(&body, request_id),
            Err(fault) => reply::fault_at(self.door(), &fault, request_id),
        }
    }

    /// One model: an alias or a version of it, or any `provider/model` of a configured provider.
    pub(super) fn one(
        self,
        snapshot: &Snapshot,
        (book, caller): (&Book, &Caller),
        version: Option<usize>,
        id: &str,
        request_id: &str,
    ) -> Response<ReplyBody> {
        let catalogue = snapshot.catalogue_of(version);
        let owner =
            match catalogue.find(id).filter(|_| catalogue.offers(id) && is_allowed(catalogue, caller, id)) {
                Some(Known::Alias(_) | Known::Split(_)) => "tollgate".into(),
                Some(Known::Target(target)) => target.name.provider,
                None => return reply::fault_at(self.door(), &unknown_model(id), request_id),
            };
        answer(&self.model(id, &owner, snapshot.built_ms, &Sight { catalogue, book }), request_id)
    }

    fn model(self, id: &str, owner: &str, created_ms: u64, sight: &Sight<'_>) -> Value {
        let mut known = sight.of(id);
        let mut model = self.bare(id, owner, created_ms);
        let names: &[(&str, &str)] = match self {
            Self::OpenAi => &[],
            // https://platform.claude.com/docs/en/api/models/retrieve
            Self::Anthropic => &[("context_window", "max_input_tokens"), ("max_output_tokens", "max_tokens")],
            // https://ai.google.dev/api/models#Model
            Self::Gemini => {
                &[("context_window", "inputTokenLimit"), ("max_output_tokens", "outputTokenLimit")]
            }
        };
        for (ours, theirs) in names {
            if let Some(value) = known.shift_remove(*ours) {
                known.insert((*theirs).to_owned(), value);
            }
        }
        if self == Self::Gemini
            && let Some(kind) = known.shift_remove("kind")
        {
            // Google's clients expect `kind` nowhere: they tell models apart by what can be asked of them.
            model["supportedGenerationMethods"] = json!(methods(kind.as_str()));
        }
        if let Some(model) = model.as_object_mut() {
            model.extend(known);
        }
        model
    }

    fn bare(self, id: &str, owner: &str, created_ms: u64) -> Value {
        match self {
            Self::OpenAi => {
                json!({ "id": id, "object": "model", "created": created_ms / 1_000, "owned_by": owner })
            }
            Self::Anthropic => {
                let created = i64::try_from(created_ms / 1_000).unwrap_or_default();
                let created = jiff::Timestamp::from_second(created).unwrap_or_default();
                json!({ "type": "model", "id": id, "display_name": id, "created_at": created.to_string() })
            }
            Self::Gemini => json!({
                "name": format!("models/{id}"),
                "version": "001",
                "displayName": id,
                "description": format!("{id}, by way of Tollgate"),
                "supportedGenerationMethods": methods(None),
            }),
        }
    }
}

/// What can be asked of a model of this kind, or of one of which nothing is known: the provider says where it cannot.
fn methods(kind: Option<&str>) -> &'static [&'static str] {
    match kind {
        Some("embedding") => &["embedContent", "batchEmbedContents", "countTokens"],
        Some("chat") => &["generateContent", "streamGenerateContent", "countTokens"],
        _ => {
            &["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"]
        }
    }
}

fn anthropic_page(
    models: &[(String, String)],
    query: Query<'_>,
    created: u64,
    sight: &Sight<'_>,
) -> Result<Value, Fault> {
    let limit = query.size("limit", 20)?;
    let place = |name: &str| {
        let Some(id) = query.get(name) else { return Ok(None) };
        let at = models.iter().position(|(known, _)| *known == id);
        at.map(Some).ok_or_else(|| Fault::bad_request(format!("there is no model {id:?}"), name.to_owned()))
    };
    let (start, end) = match (place("after_id")?, place("before_id")?) {
        (Some(after), _) => (after + 1, models.len().min(after + 1 + limit)),
        (None, Some(before)) => (before.saturating_sub(limit), before),
        (None, None) => (0, models.len().min(limit)),
    };
    let backwards = query.get("before_id").is_some() && query.get("after_id").is_none();
    let has_more = if backwards { start > 0 } else { end < models.len() };
    let page = models.get(start..end).unwrap_or_default();
    let data = page.iter().map(|(id, owner)| Shelf::Anthropic.model(id, owner, created, sight));
    Ok(json!({
        "data": data.collect::<Vec<_>>(), "has_more": has_more,
        "first_id": page.first().map(|(id, _)| id), "last_id": page.last().map(|(id, _)| id),
    }))
}

/// The token of a page is the number of models before it.
fn gemini_page(
    models: &[(String, String)],
    query: Query<'_>,
    created: u64,
    sight: &Sight<'_>,
) -> Result<Value, Fault> {
    let size = query.size("pageSize", 50)?;
    let start = match query.get("pageToken").filter(|token| !token.is_empty()) {
        None => 0,
        Some(token) => token
            .parse::<usize>()
            .ok()
            .filter(|start| *start <= models.len())
            .ok_or_else(|| Fault::bad_request("is no token of a page", "pageToken"))?,
    };
    let end = models.len().min(start.saturating_add(size));
    let page = models.get(start..end).unwrap_or_default();
    let page = page.iter().map(|(id, owner)| Shelf::Gemini.model(id, owner, created, sight));
    let mut body = json!({ "models": page.collect::<Vec<_>>() });
    if end < models.len() {
        body["nextPageToken"] = end.to_string().into();
    }
    Ok(body)
}

/// The query of a list.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl Query<'_> {
    fn get(self, name: &str) -> Option<String> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| unescape(value))
    }

    fn size(self, name: &'static str, usual: usize) -> Result<usize, Fault> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else { return Ok(usual) };
        match text.parse::<usize>() {
            // Google takes zero for its own choice.
            Ok(0) => Ok(usual),
            Ok(size) => Ok(size.min(MAX_PAGE)),
            Err(_) => Err(Fault::bad_request("must be a whole number", name)),
        }
    }
}

fn answer(body: &Value, request_id: &str) -> Response<ReplyBody> {
    // Maps of strings and numbers always serialise.
    let mut response = reply::json(StatusCode::OK, serde_json::to_vec(body).unwrap_or_default());
    reply::name(&mut response, request_id);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::Catalogue;

    fn models(count: usize) -> Vec<(String, String)> {
        (0..count).map(|n| (format!("m{n}"), "o".to_owned())).collect()
    }

    fn sight(catalogue: &Catalogue) -> Sight<'_> {
        static BOOK: std::sync::LazyLock<Book> = std::sync::LazyLock::new(Book::default);
        Sight { catalogue, book: &BOOK }
    }

    fn ids(page: &Value, list: &str, field: &str) -> Vec<String> {
        let models = page[list].as_array().unwrap().iter();
        models.map(|model| model[field].as_str().unwrap().trim_start_matches("models/").to_owned()).collect()
    }

    #[test]
    fn googles_pages_follow_one_another() {
        for (query, expected, next) in [
            ("", (0..7).collect::<Vec<_>>(), None),
            ("pageSize=3", vec![0, 1, 2], Some("3")),
            ("pageSize=3&pageToken=3", vec![3, 4, 5], Some("6")),
            ("pageToken=6&pageSize=3", vec![6], None),
            ("pageToken=7", vec![], None),
        ] {
            let page = gemini_page(&models(7), Query(query), 0, &sight(&Catalogue::default())).unwrap();
            let expected: Vec<String> = expected.into_iter().map(|n| format!("m{n}")).collect();
            assert_eq!(
                (ids(&page, "models", "name"), page["nextPageToken"].as_str()),
                (expected, next),
                "{query}"
            );
        }
        for query in ["pageToken=8", "pageToken=x", "pageSize=-1"] {
            assert!(
                gemini_page(&models(7), Query(query), 0, &sight(&Catalogue::default())).is_err(),
                "{query}"
            );
        }
    }

    #[test]
    fn googles_clients_are_told_what_can_be_asked_of_a_model() {
        for (kind, generates, embeds) in [
            (Some("chat"), true, false),
            (Some("embedding"), false, true),
            (Some("rerank"), true, true),
            (None, true, true),
        ] {
            let can = |method| methods(kind).contains(&method);
            let told = ["generateContent", "embedContent", "countTokens"].map(can);
            assert_eq!(told, [generates, embeds, true], "{kind:?}");
        }
    }

    #[test]
    fn anthropics_pages_go_both_ways() {
        for (query, first, last, more) in [
            ("", Some("m0"), Some("m19"), true),
            ("limit=2&after_id=m3", Some("m4"), Some("m5"), true),
            ("after_id=m20&limit=5", Some("m21"), Some("m24"), false),
            ("before_id=m2&limit=5", Some("m0"), Some("m1"), false),
            ("before_id=m9&limit=5", Some("m4"), Some("m8"), true),
            ("after_id=m24", None, None, false),
        ] {
            let page = anthropic_page(&models(25), Query(query), 0, &sight(&Catalogue::default())).unwrap();
            let found = (page["first_id"].as_str(), page["last_id"].as_str(), page["has_more"].as_bool());
            assert_eq!(found, (first, last, Some(more)), "{query}");
        }
        assert!(anthropic_page(&models(3), Query("after_id=x"), 0, &sight(&Catalogue::default())).is_err());
    }
}
