//! The admin API answers what its OpenAPI document says.

use std::fs;

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{Reply, ask};
use crate::gateway::Gateway;
use crate::keys::{admin, chat_as, create, with_store};
use crate::upstream::Upstream;

/// What of a value is not as its schema says; a field that the schema does not name is wrong, too.
fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(place) = schema["$ref"].as_str() {
        return wrong(document, document.pointer(&place[1..]).unwrap(), value, at);
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        if let Some(all) = schema[word].as_array() {
            let each: Vec<_> = all.iter().map(|schema| wrong(document, schema, value, at)).collect();
            let good = each.iter().any(Vec::is_empty);
            return if good { Vec::new() } else { each.into_iter().min_by_key(Vec::len).unwrap() };
        }
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty()
        && !kinds.iter().any(|known| *known == kind || (*known, kind) == ("number", "integer"))
    {
        return vec![format!("{at} is {kind}, not {kinds:?}: {value}")];
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        return vec![format!("{at} is none of {}: {value}", schema["enum"])];
    }
    let mut all = Vec::new();
    if let (Some(items), Some(elements)) = (schema.get("items"), value.as_array()) {
        let element = |(n, element)| wrong(document, items, element, &format!("{at}[{n}]"));
        all.extend(elements.iter().enumerate().flat_map(element));
    }
    let Some(fields) = value.as_object().filter(|_| kinds.contains(&"object")) else { return all };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    all.extend(
        required.filter(|name| !fields.contains_key(*name)).map(|name| format!("{at}.{name} is missing")),
    );
    for (name, value) in fields {
        let at = format!("{at}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => all.extend(wrong(document, schema, value, &at)),
            (None, Value::Bool(true)) => {}
            (None, Value::Object(_)) => {
                all.extend(wrong(document, &schema["additionalProperties"], value, &at));
            }
            (None, _) if schema.get("properties").is_none() => {}
            (None, _) => all.push(format!("{at} is not described: {value}")),
        }
    }
    all
}

#[track_caller]
fn check(document: &Value, method: &Method, place: &str, reply: &Reply) {
    let operation = &document["paths"][place][method.as_str().to_lowercase()];
    let status = reply.status.to_string();
    let response =
        operation["responses"].get(&status).unwrap_or_else(|| panic!("{method} {place} {reply:#?}"));
    let kind = reply.header("content-type").split(';').next().unwrap_or_default().to_owned();
    let content =
        response["content"].get(&kind).unwrap_or_else(|| panic!("{kind} of {method} {place}: {response}"));
    if kind == "application/json" {
        let all = wrong(document, &content["schema"], &reply.json(), "");
        assert!(all.is_empty(), "{method} {place}: {all:#?}");
    }
}

/// A gateway with something of everything: a policy and others beside it, budgets, a provider that fails.
fn house(up: &Upstream) -> Gateway {
    let policy = "fn on_request(req) { if req.model == \"auto\" { return route(\"fast\") } }";
    let setup = with_store(
        "auth: keys\nbudgets:\n  - { name: all, dollars: 5, per: day }\n  \
         - { name: each, tokens: 100000, per: hour, each: [ key ], for: { provider: up } }\n\
         prices: { models: { up/m: { price: { input: 1, output: 2 } } } }\nlimits: { memory: 4GiB }\n\
         models: { fast: { targets: [ up/m ] } }\n",
        up,
    );
    for dir in ["policies", "policies/shadow", "policies/candidate"] {
        fs::create_dir_all(setup.path().join(dir)).unwrap();
        fs::write(setup.path().join(dir).join("a.rhai"), policy).unwrap();
    }
    setup.start()
}

#[tokio::test]
async fn the_admin_api_answers_what_its_document_says() {
    let up = Upstream::start(|_| acts::says("hello"));
    let gateway = house(&up);
    let document = admin(&gateway, Method::GET, "/admin/v1/openapi.json", &Value::Null).await.json();
    let try_out = async |method: Method, place: &str, path: &str, body: Value| {
        let reply = admin(&gateway, method.clone(), path, &body).await;
        check(&document, &method, place, &reply);
        reply.json()
    };
    let (id, secret) = create(&gateway, json!({ "name": "used", "team": "t" })).await;
    for _ in 0..3 {
        assert_eq!(chat_as(gateway.clients, &secret, &ask("fast")).await.status, 200);
    }
    let key = json!({ "name": "ci", "team": "t", "user": "u", "app": "a", "expires": "2040-01-01", "priority": "low",
        "limits": { "requests": "5/min", "tokens": "100/min", "concurrent": 2 }, "sources": ["10.0.0.0/8"],
        "scope": { "models": ["fast"], "max_cost": 0.5, "endpoints": ["chat"], "data_classes": ["a"] },
        "tags": { "x": "y" } });
    try_out(Method::POST, "/admin/v1/keys", "/admin/v1/keys", key).await;
    for (method, place, path, body) in [
        (Method::GET, "/admin/v1/keys/{id}", "/admin/v1/keys/ci", Value::Null),
        (
            Method::POST,
            "/admin/v1/keys/{id}/{action}",
            "/admin/v1/keys/ci/rotate",
            json!({ "overlap": "1h" }),
        ),
        (Method::POST, "/admin/v1/keys/{id}/{action}", "/admin/v1/keys/ci/disable", Value::Null),
        (Method::PATCH, "/admin/v1/keys/{id}", "/admin/v1/keys/ci", json!({ "team": null })),
        (Method::DELETE, "/admin/v1/keys/{id}", "/admin/v1/keys/ci", Value::Null),
        (
            Method::POST,
            "/admin/v1/budgets",
            "/admin/v1/budgets",
            json!({ "name": "new", "dollars": 5, "per": "total" }),
        ),
        (Method::GET, "/admin/v1/budgets/{name}", "/admin/v1/budgets/new", Value::Null),
        (Method::PATCH, "/admin/v1/budgets/{name}", "/admin/v1/budgets/new", json!({ "dollars": 6 })),
        (Method::DELETE, "/admin/v1/budgets/{name}", "/admin/v1/budgets/new", Value::Null),
        (
            Method::POST,
            "/admin/v1/chaos",
            "/admin/v1/chaos",
            json!({ "name": "x", "kind": "latency", "delay": "1s", "for": "1m" }),
        ),
        (Method::GET, "/admin/v1/chaos", "/admin/v1/chaos", Value::Null),
        (Method::GET, "/admin/v1/status", "/admin/v1/status", Value::Null),
        (Method::DELETE, "/admin/v1/chaos", "/admin/v1/chaos", Value::Null),
        (
            Method::POST,
            "/admin/v1/prices",
            "/admin/v1/prices",
            json!({ "models": { "up/n": { "price": { "input": 1, "output": 2 } } } }),
        ),
        (Method::GET, "/admin/v1/prices", "/admin/v1/prices", Value::Null),
        (Method::GET, "/admin/v1/prices", "/admin/v1/prices?model=up/m", Value::Null),
        (Method::DELETE, "/admin/v1/prices", "/admin/v1/prices", Value::Null),
        (
            Method::POST,
            "/admin/v1/estimate",
            "/admin/v1/estimate",
            json!({ "models": ["fast"], "prompt": "hello" }),
        ),
        (Method::POST, "/admin/v1/policies/promote", "/admin/v1/policies/promote", json!({ "share": 5 })),
        (Method::GET, "/admin/v1/policies", "/admin/v1/policies", Value::Null),
    ] {
        try_out(method, place, path, body).await;
    }
    let paths = document["paths"].as_object().unwrap();
    for (place, operations) in paths.iter().filter(|(place, _)| !place.contains('{')) {
        if operations.get("get").is_none() || place.as_str() == "/admin/v1/openapi.json" {
            continue;
        }
        let reply = admin(&gateway, Method::GET, place, &Value::Null).await;
        check(&document, &Method::GET, place, &reply);
    }
    let decisions = try_out(Method::GET, "/admin/v1/decisions", "/admin/v1/decisions", Value::Null).await;
    let decision = format!("/admin/v1/decisions/{}", decisions["decisions"][0]["id"].as_str().unwrap());
    try_out(Method::GET, "/admin/v1/decisions/{id}", &decision, Value::Null).await;
    let keys = try_out(Method::GET, "/admin/v1/keys", "/admin/v1/keys", Value::Null).await;
    assert!(keys["keys"].as_array().unwrap().iter().any(|key| key["id"] == id));
}
