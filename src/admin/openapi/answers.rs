//! What the admin API answers, in a short notation. A story holds the answers of a running gateway against it.

use serde_json::{Map, Value, json};

/// The answer of an operation: method, path, schema. Those that are no JSON have their kind instead.
pub(super) const ANSWERS: &[(&str, &str, &str)] = &[
    ("get", "/livez", "text/plain"),
    ("get", "/readyz", "text/plain"),
    ("get", "/metrics", "text/plain"),
    ("get", "/admin/v1/openapi.json", "Any"),
    ("get", "/admin/v1/status", "Status"),
    ("get", "/admin/v1/decisions", "Decisions"),
    ("get", "/admin/v1/decisions/{id}", "Decision"),
    ("get", "/admin/v1/providers", "Providers"),
    ("get", "/admin/v1/keys", "Keys"),
    ("post", "/admin/v1/keys", "Key"),
    ("get", "/admin/v1/keys/{id}", "Key"),
    ("patch", "/admin/v1/keys/{id}", "Key"),
    ("delete", "/admin/v1/keys/{id}", "Key"),
    ("post", "/admin/v1/keys/{id}/{action}", "Key"),
    ("get", "/admin/v1/audit", "AuditEntries"),
    ("get", "/admin/v1/audit/verify", "AuditVerdict"),
    ("get", "/admin/v1/chaos", "ChaosList"),
    ("post", "/admin/v1/chaos", "Chaos"),
    ("delete", "/admin/v1/chaos", "ChaosEnded"),
    ("get", "/admin/v1/plugins", "Plugins"),
    ("post", "/admin/v1/estimate", "Estimate"),
    ("get", "/admin/v1/tokens", "Tokens"),
    ("get", "/admin/v1/budgets", "Budgets"),
    ("post", "/admin/v1/budgets", "Budget"),
    ("get", "/admin/v1/budgets/{name}", "Budget"),
    ("patch", "/admin/v1/budgets/{name}", "Budget"),
    ("delete", "/admin/v1/budgets/{name}", "BudgetDeleted"),
    ("get", "/admin/v1/alerts", "Alerts"),
    ("get", "/admin/v1/policies", "Policies"),
    ("get", "/admin/v1/policies/versions", "PolicyVersions"),
    ("post", "/admin/v1/policies/rollback", "RolledBack"),
    ("post", "/admin/v1/policies/promote", "Policies"),
    ("get", "/admin/v1/prices", "PricesOrPrice"),
    ("post", "/admin/v1/prices", "PricesChanged"),
    ("delete", "/admin/v1/prices", "PricesChanged"),
];

/// Schemas: the fields with their kinds; `?` behind a name says that it may be missing. Kinds are `text`, `whole`, `number`,
/// `truth`, `any`, `map` (an object of any fields), the name of another schema, one of these in brackets (a list), and
/// `|null` behind one of them.
const SCHEMAS: &[(&str, &str)] = &[
    (
        "Status",
        "version text, snapshot SnapshotStatus, reloads Reloads, requests_in_flight whole, tenants_in_flight whole, \
         memory Memory, draining truth, aliases [text], providers [ProviderStatus], policies [text], policies_hash text, \
         pinned? Pinned, chaos? [Chaos], secrets? [map], redis? map, alerts [PolicyAlert]",
    ),
    ("SnapshotStatus", "hash text, generation whole, built_ms whole"),
    ("Reloads", "ok whole, failed whole, last_ms whole|null, errors [text]"),
    ("Memory", "resident_bytes whole, limit_bytes? whole, short truth"),
    ("ProviderStatus", "name text, local truth, models [text]"),
    ("Pinned", "hash text, on_disk text, since_ms whole"),
    ("PolicyAlert", "alert text, reason text, since_ms? whole, candidate? text, role? text"),
    ("Decisions", "decisions [DecisionBrief], kept whole, dir text|null"),
    (
        "DecisionBrief",
        "id text, at_ms whole, endpoint? text, model? text, rule? text, verdict text, target? text, attempts whole, \
         status whole, outcome text, ms number, snapshot text, more text",
    ),
    ("Decision", "decision map, explained text"),
    ("Providers", "providers [Provider]"),
    (
        "Provider",
        "name text, preset text|null, models [text], health map|null, keys [ProviderKey], targets [TargetFigures]",
    ),
    (
        "ProviderKey",
        "name text, account text, state text, retry_in_ms whole, in_flight whole, resting [text], left? [map]",
    ),
    ("TargetFigures", "model text, health TargetHealth|null, breaker Breaker|null, queue Queue|null"),
    (
        "TargetHealth",
        "attempts whole, failed whole, throttled whole, error_rate number, p50_ms? number, p95_ms? number, \
         p99_ms? number, first_token_p50_ms? number, first_token_p95_ms? number, first_token_p99_ms? number, \
         tokens_per_second? number",
    ),
    ("Breaker", "state text, cause? any, retry_in_ms? whole, openings whole, health number"),
    ("Queue", "in_flight whole, limit? whole, learnt truth, waiting whole, tenants whole, wait_ms whole"),
    ("Keys", "keys [Key]"),
    ("AuditEntries", "entries [AuditEntry]"),
    (
        "AuditEntry",
        "seq whole, at_ms whole, actor text, action text, target text, detail text, prev text, hash text",
    ),
    ("AuditVerdict", "state text, entries? whole, head? text, seq? whole, reason? text"),
    ("ChaosList", "chaos [Chaos]"),
    ("ChaosEnded", "ended [text]"),
    ("Plugins", "snapshot text, plugins [map]"),
    ("Estimate", "object text, requests whole, prices whole, cheapest text|null, targets [EstimateTarget]"),
    ("EstimateTarget", "id text, models [text], meets truth, *"),
    ("Tokens", "tokens [TokensOfTarget]"),
    ("TokensOfTarget", "target text, reports whole, prompt number, bytes_per_token number"),
    ("Budgets", "budgets [BudgetPart]"),
    ("Budget", "name text, source text, parts [BudgetPart], settings? map"),
    (
        "BudgetPart",
        "name text, part text, each [text], for map, measure text, limit whole, used whole, held whole, per text, \
         rolling truth, hard truth, since_ms whole, resets_ms whole|null, remaining whole, used_ratio number, \
         resets_at text|null, shown BudgetShown, source? text",
    ),
    ("BudgetShown", "limit text, used text, held text, remaining text"),
    ("BudgetDeleted", "name text, deleted truth"),
    ("Alerts", "alerts [map], failing_providers [text]"),
    (
        "Policies",
        "snapshot text, live LivePolicies, shadow PoliciesBeside|null, candidate PoliciesBeside|null, rollout map|null, \
         alerts [PolicyAlert]",
    ),
    ("LivePolicies", "hash text, policies [text], pinned Pinned|null"),
    (
        "PoliciesBeside",
        "dir text, hash text|null, policies [text], problems [text], sample_percent? number, findings? any",
    ),
    ("PolicyVersions", "serving text, pinned Pinned|null, versions [PolicyVersion]"),
    ("PolicyVersion", "hash text, first_ms whole, last_ms whole, serves truth, files [text]"),
    ("RolledBack", "done text, serving text, pinned Pinned|null, snapshot text"),
    ("Prices", "revision whole, models [Price], changes [PriceChange]"),
    (
        "Price",
        "model text, known truth, origin? text, listed_as? text, kind? text, context_window? whole, \
         max_output_tokens? whole, input_modalities? [text], output_modalities? [text], capabilities? [text], \
         deprecation_date? text, pricing? map",
    ),
    ("PriceChange", "revision whole, at_ms whole, origin text, models whole, differences [PriceDifference]"),
    ("PriceDifference", "model text, before? text, after? text"),
    ("PricesChanged", "change PriceChange|null, changed truth, revision whole, left_out? whole"),
];

/// All schemas of answers; `terms` are what is agreed on about a key, `chaos` about an experiment.
pub(super) fn schemas(terms: &Value, chaos: &Value) -> Map<String, Value> {
    let mut all: Map<String, Value> =
        SCHEMAS.iter().map(|(name, fields)| ((*name).to_owned(), object(fields))).collect();
    let key = object(
        "id text, name text, state text, source text, secrets whole, created? text, revoked? text, expires? text, \
         secret? text",
    );
    all.insert("Key".into(), and(key, terms, &["secret", "hash", "disabled"]));
    all.insert("Chaos".into(), and(object("source text, began text, ends text, injected whole"), chaos, &[]));
    let either = json!({ "anyOf": [kind("Prices"), kind("Price")] });
    all.insert("PricesOrPrice".into(), either);
    all
}

/// The schema of an operation's answer, by its kind.
pub(super) fn content(method: &str, path: &str) -> Option<Value> {
    let (.., name) = ANSWERS.iter().find(|(m, p, _)| (*m, *p) == (method, path))?;
    if name.contains('/') {
        return Some(json!({ (*name): { "schema": { "type": "string" } } }));
    }
    let mut content = json!({ "application/json": { "schema": kind(name) } });
    if *name == "Decisions" {
        // Whole records, one in a line.
        content["application/x-ndjson"] = json!({ "schema": { "type": "object" } });
    }
    Some(content)
}

/// An object whose fields are its own and those of another one.
fn and(mut own: Value, other: &Value, without: &[&str]) -> Value {
    let others = other.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, schema) in others.filter(|(name, _)| !without.contains(&name.as_str())) {
        if own["properties"].get(name).is_none() {
            own["properties"][name] = schema.clone();
        }
    }
    own
}

fn object(fields: &str) -> Value {
    let (mut properties, mut required, mut open) = (Map::new(), Vec::new(), false);
    for field in fields.split(',').map(str::trim) {
        let Some((name, of)) = field.split_once(' ') else {
            open = true;
            continue;
        };
        let bare = name.trim_end_matches('?');
        properties.insert(bare.to_owned(), kind(of));
        if bare == name {
            required.push(bare);
        }
    }
    let mut object = json!({ "type": "object", "properties": properties, "required": required });
    if open {
        object["additionalProperties"] = true.into();
    }
    object
}

fn kind(of: &str) -> Value {
    if let Some(of) = of.strip_suffix("|null") {
        return json!({ "anyOf": [kind(of), { "type": "null" }] });
    }
    if let Some(of) = of.strip_prefix('[').and_then(|of| of.strip_suffix(']')) {
        return json!({ "type": "array", "items": kind(of) });
    }
    match of {
        "text" => json!({ "type": "string" }),
        "whole" => json!({ "type": "integer", "minimum": 0 }),
        "number" => json!({ "type": "number" }),
        "truth" => json!({ "type": "boolean" }),
        "map" => json!({ "type": "object", "additionalProperties": true }),
        "any" => json!({}),
        name => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}
