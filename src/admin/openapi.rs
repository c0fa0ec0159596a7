//! `/admin/v1/openapi.json`: every endpoint of this listener, described by OpenAPI 3.1.

mod answers;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::api::estimate::Wanted;
use crate::executor::ChaosSettings;
use crate::keys::KeyTerms;
use crate::ledger::BudgetSettings;
use crate::ledger::usage::{NUMBERS, fields};

/// One operation: method, path, what it is for, what its body is (empty: it takes none), names of query parameters.
type Operation = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

/// Query parameters of the lists that have many. A test holds them against what is read.
const DECISIONS: &[&str] = &["rule", "target", "outcome", "model", "status", "since", "limit", "format"];
const USAGE: &[&str] = &["since", "until", "by", "only", "format", "attempts", "limit", "scope", "zone"];
const BUDGETS: &[&str] = &["name", "limit"];

/// What is made by these is told with 201.
const MAKING: &[&str] = &["NewKey", "BudgetSettings", "ChaosSettings"];

/// Bodies that may be left out.
const OPTIONAL: &[&str] = &["Rotation", "RollBack"];

/// Every operation, in the order of the routes.
const OPERATIONS: &[Operation] = &[
    ("get", "/livez", "whether the process lives", "", &[]),
    ("get", "/readyz", "whether it wants requests", "", &[]),
    ("get", "/metrics", "metrics in Prometheus's text form", "", &[]),
    ("get", "/admin/v1/openapi.json", "this document", "", &[]),
    ("get", "/admin/v1/status", "the snapshot in service and how reloads went", "", &[]),
    ("get", "/admin/v1/decisions", "records of decisions, the last one first", "", DECISIONS),
    ("get", "/admin/v1/decisions/{id}", "the record of one request", "", &[]),
    ("get", "/admin/v1/providers", "how providers and targets fare", "", &[]),
    ("get", "/admin/v1/keys", "all virtual keys, without secrets", "", &[]),
    ("post", "/admin/v1/keys", "makes a key; its secret is in this answer alone", "NewKey", &[]),
    ("get", "/admin/v1/keys/{id}", "one key by its id or name", "", &[]),
    ("patch", "/admin/v1/keys/{id}", "changes the fields given; null takes one away", "KeyTerms", &[]),
    ("delete", "/admin/v1/keys/{id}", "revokes a key for good", "", &[]),
    ("post", "/admin/v1/keys/{id}/{action}", "revoke, disable, enable or rotate", "Rotation", &[]),
    ("get", "/admin/v1/audit", "entries of the audit log, in order", "", &["after", "limit"]),
    ("get", "/admin/v1/audit/verify", "whether the audit log is as it was written", "", &[]),
    ("get", "/admin/v1/chaos", "faults that are injected on purpose now", "", &[]),
    ("post", "/admin/v1/chaos", "begins to inject a fault, until its end", "ChaosSettings", &[]),
    ("delete", "/admin/v1/chaos", "ends an experiment, or all of them", "", &["name"]),
    ("get", "/admin/v1/plugins", "plugins and how their calls went", "", &[]),
    ("post", "/admin/v1/estimate", "what prompts would cost at each of several models", "Wanted", &[]),
    ("get", "/admin/v1/tokens", "what was learned of the tokens that targets count", "", &[]),
    ("get", "/admin/v1/usage", "what was used and spent, by any dimension and period", "", USAGE),
    ("get", "/admin/v1/budgets", "budgets, with what is spent and held", "", BUDGETS),
    ("post", "/admin/v1/budgets", "makes a budget, beside those of the configuration", "BudgetSettings", &[]),
    ("get", "/admin/v1/budgets/{name}", "one budget: what was agreed on, and what is spent", "", &[]),
    ("patch", "/admin/v1/budgets/{name}", "changes the fields given; null takes one away", "Fields", &[]),
    ("delete", "/admin/v1/budgets/{name}", "takes away a budget that was made here", "", &[]),
    ("get", "/admin/v1/alerts", "what was alarming of late", "", &["event", "limit"]),
    ("get", "/admin/v1/policies", "policies in service and beside it", "", &[]),
    ("get", "/admin/v1/policies/versions", "sets of policies that were in service", "", &[]),
    ("post", "/admin/v1/policies/rollback", "takes an earlier set of policies into service", "RollBack", &[]),
    ("post", "/admin/v1/policies/promote", "gives a candidate set of policies its share", "Promote", &[]),
    ("get", "/admin/v1/prices", "what models cost, and the changes", "", &["model"]),
    ("post", "/admin/v1/prices", "takes prices in any form that a source may have", "Any", &["provider"]),
    ("delete", "/admin/v1/prices", "forgets pushed prices", "", &["model"]),
];

/// The document.
pub(super) async fn show() -> Response {
    axum::Json(&*DOCUMENT).into_response()
}

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for (method, path, summary, body, query) in OPERATIONS {
        let place = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
        if let Some(place) = place.as_object_mut() {
            place.insert((*method).to_owned(), operation(method, path, summary, body, query));
        }
    }
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    generator.subschema_for::<KeyTerms>();
    generator.subschema_for::<ChaosSettings>();
    generator.subschema_for::<Wanted>();
    generator.subschema_for::<BudgetSettings>();
    let mut schemas = generator.take_definitions(true);
    schemas.extend(of_usage());
    schemas.insert("Any".into(), json!({}));
    let written = |name: &str| schemas.get(name).cloned().unwrap_or_default();
    let told = answers::schemas(&written("KeyTerms"), &written("ChaosSettings"));
    schemas.extend(told);
    let new_key = new_key(schemas.get("KeyTerms").cloned().unwrap_or_default());
    schemas.insert("NewKey".into(), new_key);
    let why = json!({ "type": "string", "description": "Why." });
    let refusal = json!({ "type": "object", "properties": { "error": why }, "required": ["error"] });
    schemas.insert("Refusal".into(), refusal);
    schemas.insert("Fields".into(), json!({ "type": "object" }));
    let hash = json!({ "type": "string", "description": "The set; without it, the one that served before." });
    schemas.insert("RollBack".into(), json!({ "type": "object", "properties": { "hash": hash } }));
    let share = json!({ "type": ["number", "string"], "description": "Percent of the callers: `5`, `5%`." });
    let sticky = json!({ "enum": ["caller", "user", "team", "session", "request", null] });
    schemas.insert(
        "Promote".into(),
        json!({ "type": "object", "properties": { "share": share, "sticky": sticky }, "required": ["share"] }),
    );
    let overlap = json!({ "type": "string", "description": "How long the old secret goes on: `24h`.", "default": "24h" });
    schemas.insert("Rotation".into(), json!({ "type": "object", "properties": { "overlap": overlap } }));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Paths below /admin/v1 want `Authorization: Bearer <admin.token>`; without a token in the configuration they answer on loopback only.",
        },
        "security": [{ "admin": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "admin": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas,
        },
    })
}

/// What is agreed on about a key, and its name. What only the configuration may say is left out.
fn new_key(mut terms: Value) -> Value {
    if let Some(properties) = terms.get_mut("properties").and_then(Value::as_object_mut) {
        properties.retain(|name, _| !matches!(name.as_str(), "secret" | "hash"));
        properties.insert("name".into(), json!({ "type": "string", "description": "Its name, for people." }));
    }
    terms["required"] = json!(["name"]);
    terms
}

/// What is told of usage: sums, and single attempts.
fn of_usage() -> [(String, Value); 3] {
    let (text, whole) = (json!({ "type": "string" }), json!({ "type": "integer", "minimum": 0 }));
    let money = json!({ "type": "string", "description": "US dollars, exactly." });
    let mut sum: Map<String, Value> =
        NUMBERS.iter().map(|name| ((*name).to_owned(), whole.clone())).collect();
    sum.extend(["cost_usd", "saved_usd"].map(|name| (name.to_owned(), money.clone())));
    let of = json!({ "type": "string", "description": "The values of what is named in `by`; `key_name` beside `key`." });
    let sum = json!({
        "type": "object",
        "description": "Of the tokens, `cached_audio` and `cached_image` are parts of `cached_read`, `cache_write_long` \
            (an hour or more) of `cache_write`, `input_audio` and `input_image` of `input`, `reasoning`, `output_audio` and \
            `output_image` of `output`; `billed_input` and `billed_output` are the tokens that were charged for, where the \
            provider says that these are others.",
        "properties": sum,
        "additionalProperties": of,
    });
    let kind = |(name, word): (&str, bool)| {
        let schema = match (name, word) {
            ("tags", _) => json!({ "type": "object", "additionalProperties": text }),
            (_, true) => json!({ "type": ["string", "null"] }),
            (_, false) => json!({ "type": ["integer", "null"] }),
        };
        (name.to_owned(), schema)
    };
    let attempt: Map<String, Value> = fields().chain([("gateway", true)]).map(kind).collect();
    let attempt = json!({ "type": "object", "properties": attempt });
    let ledger = json!({ "type": "object", "description": "Whose ledger it is, and how it stands." });
    let sums = json!({ "type": "array", "items": { "$ref": "#/components/schemas/UsageSum" } });
    let usage = json!({ "type": "object", "properties": { "usage": sums, "ledger": ledger }, "required": ["usage", "ledger"] });
    [("UsageSum".to_owned(), sum), ("UsageAttempt".to_owned(), attempt), ("Usage".to_owned(), usage)]
}

/// What answers of usage are, by their kinds.
fn usage_answers() -> Value {
    let schema = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    json!({
        "application/json": { "schema": schema("Usage") },
        "application/x-ndjson": {
            "schema": { "anyOf": [schema("UsageAttempt"), schema("UsageSum")] },
        },
        "text/csv": {
            "schema": { "type": "string", "description": "A line of names, and one for each sum (or attempt), with the \
                columns of the command `tollgate usage --format csv`." },
        },
    })
}

/// What a parameter of usage may be, where that is not any text.
fn usage_parameter(name: &str) -> Option<Value> {
    Some(match name {
        "since" | "until" => {
            json!({ "type": "string", "description": "So long ago (`24h`), a date (its beginning in `zone`), or a time in RFC 3339's form." })
        }
        "by" => {
            json!({ "type": "string", "description": "With commas between: key, user, team, app, model, provider, target, endpoint, tier, tag:NAME, hour, day, week (ISO 8601), month, state, outcome, role, gateway." })
        }
        "only" => json!({ "type": "string", "description": "What must hold: `user=anna,model=fast`." }),
        "format" => {
            json!({ "enum": ["json", "jsonl", "csv"], "description": "Without it, `csv` for who accepts `text/csv`, else `json`." })
        }
        "attempts" => {
            json!({ "type": "boolean", "description": "Single attempts rather than sums, as `jsonl` or `csv`; usual with `jsonl`." })
        }
        "scope" => {
            json!({ "enum": ["all", "own"], "description": "The ledger of all gateways in PostgreSQL, or this gateway's own." })
        }
        "zone" => {
            json!({ "type": "string", "default": "UTC", "description": "The time zone in which days, weeks and months begin, such as `Europe/Berlin`." })
        }
        _ => return None,
    })
}

fn operation(method: &str, path: &str, summary: &str, body: &str, query: &[&str]) -> Value {
    let text = json!({ "type": "string" });
    let named = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let in_path = named.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": text }));
    let whole = json!({ "type": "integer", "minimum": 0 });
    let is_usage = path == "/admin/v1/usage";
    let in_query = query.iter().map(|name| {
        let special = usage_parameter(name).filter(|_| is_usage);
        if let Some(schema) = special {
            return json!({ "name": name, "in": "query", "schema": schema });
        }
        let schema = if matches!(*name, "limit" | "after" | "status") { &whole } else { &text };
        json!({ "name": name, "in": "query", "schema": schema })
    });
    let done = if MAKING.contains(&body) { "201" } else { "200" };
    let mut operation = json!({
        "operationId": operation_id(method, path),
        "summary": summary,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": {
            (done): { "description": "done" },
            "default": {
                "description": "refused",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Refusal" } } },
            },
        },
    });
    let content = if is_usage { Some(usage_answers()) } else { answers::content(method, path) };
    if let Some(content) = content {
        operation["responses"][done]["content"] = content;
    }
    if let Some(operation) = operation.as_object_mut() {
        if !body.is_empty() {
            let schema = json!({ "$ref": format!("#/components/schemas/{body}") });
            operation.insert(
                "requestBody".into(),
                json!({ "required": !OPTIONAL.contains(&body), "content": { "application/json": { "schema": schema } } }),
            );
        }
        if !path.starts_with("/admin/") {
            operation.insert("security".into(), json!([]));
        }
    }
    operation
}

/// What generated clients call it: `getKeys`, `patchKeysById`, `postKeysByIdByAction`.
fn operation_id(method: &str, path: &str) -> String {
    let steps = path.strip_prefix("/admin/v1").unwrap_or(path).split(['/', '.']);
    steps.filter(|step| !step.is_empty()).fold(method.to_owned(), |mut id, step| {
        let named = step.trim_matches(['{', '}']);
        if named != step {
            id.push_str("By");
        }
        let (first, rest) = named.split_at(1);
        id + first.to_uppercase().as_str() + rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let mut ids: Vec<_> =
            OPERATIONS.iter().map(|(method, path, ..)| operation_id(method, path)).collect();
        for id in
            ["getLivez", "getOpenapiJson", "patchKeysById", "postKeysByIdByAction", "postPoliciesRollback"]
        {
            assert!(ids.iter().any(|one| one == id), "{id} is not among {ids:?}");
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), OPERATIONS.len());
        assert_eq!(document()["paths"]["/admin/v1/usage"]["get"]["operationId"], "getUsage");
    }

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let source = include_str!("../admin.rs");
        let mut routed: Vec<(String, String)> = Vec::new();
        for route in source.split(".route(\"").skip(1) {
            let (path, rest) = route.split_once('"').unwrap();
            let handlers = rest.split("\n        .").next().unwrap();
            for method in ["get", "post", "patch", "put", "delete"] {
                if handlers.contains(&format!("{method}(")) {
                    routed.push((method.to_owned(), path.to_owned()));
                }
            }
        }
        let described: Vec<_> =
            OPERATIONS.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
        for one in &routed {
            assert!(described.contains(one), "{one:?} is not in the document");
        }
        for one in &described {
            assert!(routed.contains(one), "{one:?} is described and not there");
        }
    }

    #[test]
    fn every_query_parameter_is_described() {
        fn read<T: serde::de::DeserializeOwned>() -> String {
            let uri = "http://localhost/?nothing-like-it=1".parse().unwrap();
            axum::extract::Query::<T>::try_from_uri(&uri).map(|_| ()).unwrap_err().body_text()
        }
        for (read, described) in [
            (read::<crate::admin::decisions::Wanted>(), DECISIONS),
            (read::<crate::admin::money::Wanted>(), USAGE),
            (read::<crate::admin::money::Named>(), BUDGETS),
        ] {
            // `unknown field `x`, expected one of `a`, `b``
            let known: Vec<_> = read.split('`').skip(3).step_by(2).collect();
            assert_eq!(known, described, "{read}");
        }
    }

    #[test]
    fn what_is_told_of_usage_is_described_with_its_kinds() {
        let document = document();
        let usage = &document["paths"]["/admin/v1/usage"]["get"];
        let kinds: Vec<_> = usage["responses"]["200"]["content"].as_object().unwrap().keys().collect();
        assert_eq!(kinds, ["application/json", "application/x-ndjson", "text/csv"]);
        let schemas = &document["components"]["schemas"];
        let has = |schema: &str, name: &str| schemas[schema]["properties"].get(name).is_some();
        for name in ["cache_write_long", "input_audio", "output_image", "searches", "billed_input"] {
            assert!(has("UsageSum", name) && has("UsageAttempt", name), "{name}");
        }
        assert!(has("UsageAttempt", "app") && has("UsageAttempt", "tier") && has("UsageSum", "cost_usd"));
    }

    #[test]
    fn what_is_made_is_told_with_its_own_status() {
        let paths = &document()["paths"];
        for (path, method, expected) in [
            ("/admin/v1/keys", "post", "201"),
            ("/admin/v1/budgets", "post", "201"),
            ("/admin/v1/chaos", "post", "201"),
            ("/admin/v1/prices", "post", "200"),
            ("/admin/v1/keys/{id}", "patch", "200"),
        ] {
            let answers = paths[path][method]["responses"].as_object().unwrap();
            let statuses: Vec<_> = answers.keys().collect();
            assert_eq!(statuses, [expected, "default"], "{method} {path}");
        }
    }

    #[test]
    fn the_name_of_a_new_key_is_among_its_fields_which_allow_no_other() {
        let document = document();
        let key = &document["components"]["schemas"]["NewKey"];
        assert_eq!(key["additionalProperties"], false);
        let has = |name: &str| key["properties"].get(name).is_some();
        assert!(has("name") && has("team") && !has("secret") && !has("hash"), "{key:#}");
    }

    #[test]
    fn every_answer_has_a_schema() {
        let document = document();
        for (method, path, ..) in OPERATIONS {
            let answers = document["paths"][path][method]["responses"].as_object().unwrap();
            let (_, done) = answers.iter().find(|(status, _)| status.starts_with('2')).unwrap();
            assert!(done["content"].as_object().is_some_and(|kinds| !kinds.is_empty()), "{method} {path}");
        }
        for (method, path, _) in answers::ANSWERS {
            assert!(OPERATIONS.iter().any(|(m, p, ..)| (m, p) == (method, path)), "{method} {path}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = document().to_string();
        let document: Value = serde_json::from_str(&text).unwrap();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
