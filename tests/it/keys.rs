//! Virtual keys: who is let in, who is not, how little is said of it, and that a change counts at once.

mod life;
mod named;
mod tokens;

use std::fs;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, ask};
use crate::gateway::{self, Gateway, Setup, provider};
use crate::upstream::Upstream;

/// The admin token of these stories.
pub const ADMIN: &str = "admin-token-of-the-stories";

/// An answer to a request with these headers.
pub async fn send(to: SocketAddr, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Bytes::copy_from_slice(body.as_bytes())).expect("a request");
    client::open(to, request).await.expect("an answer").rest().await
}

/// A question, with this key.
pub async fn chat_as(to: SocketAddr, key: &str, body: &Value) -> Reply {
    let bearer = format!("Bearer {key}");
    let headers: &[_] = if key.is_empty() { &[] } else { &[("authorization", &*bearer)] };
    send(to, Method::POST, "/v1/chat/completions", headers, &body.to_string()).await
}

/// Something asked of the admin API.
pub async fn admin(gateway: &Gateway, method: Method, path: &str, body: &Value) -> Reply {
    let bearer = format!("Bearer {ADMIN}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(gateway.admin, method, path, &[("authorization", &bearer)], &body).await
}

/// A gateway that asks for keys and has a database for them.
pub fn with_store(config: &str, upstream: &Upstream) -> Setup {
    let providers = format!("{}{}", provider("up", &upstream.url()), provider("down", &upstream.url()));
    gateway::setup("")
        .file(
            "tollgate.yaml",
            &format!(
                "listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0, token: env:ADMIN_TOKEN }}\npolicies: ./policies\n\
                 state: {{ ledger: \"sqlite:./data/t.db\" }}\nproviders:\n{providers}{config}"
            ),
        )
        .env("ADMIN_TOKEN", ADMIN)
}

/// Makes a key; its id and its secret.
pub async fn create(gateway: &Gateway, key: Value) -> (String, String) {
    let made = admin(gateway, Method::POST, "/admin/v1/keys", &key).await;
    assert_eq!(made.status, 201, "{made:#?}");
    let made = made.json();
    let text = |field: &str| made[field].as_str().unwrap_or_default().to_owned();
    (text("id"), text("secret"))
}

const KEYS: &str = "
auth: keys
keys:
  open: { secret: env:OPEN_KEY, team: platform, user: ann, tags: { feature: search } }
  hashed: { hash: \"sha256:1edccfe6ea3ac2d45dc0c2b79cb02f110bae78b043bcd54b13723d538383138e\" }
  old: { secret: env:OLD_KEY, expires: 2020-01-01 }
  asleep: { secret: env:ASLEEP_KEY, disabled: true }
  elsewhere: { secret: env:ELSEWHERE_KEY, sources: [ 10.9.0.0/16, 2001:db8::/32 ] }
  here: { secret: env:HERE_KEY, sources: [ 127.0.0.0/8 ] }
  narrow:
    secret: env:NARROW_KEY
    scope: { endpoints: [ chat ], models: [ fast, \"up/small*\" ], data_classes: [ internal, public ] }
  upward: { secret: env:UPWARD_KEY, scope: { providers: [ up ] } }
models:
  fast: { targets: [ up/m ] }
  secret: { targets: [ down/m ] }
";

fn keys(upstream: &Upstream) -> Setup {
    let providers = format!("{}{}", provider("up", &upstream.url()), provider("down", &upstream.url()));
    let mut setup = gateway::setup(&format!("providers:\n{providers}{KEYS}"));
    for name in ["OPEN", "OLD", "ASLEEP", "ELSEWHERE", "HERE", "NARROW", "UPWARD"] {
        setup = setup.env(&format!("{name}_KEY"), &key(name));
    }
    setup
}

pub fn key(name: &str) -> String {
    format!("tg-story-secret-{}", name.to_lowercase())
}

#[tokio::test]
async fn every_refusal_says_the_same_and_nothing_reaches_a_provider() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = keys(&upstream).start();
    let wrong = "tg-000000000000-0123456789012345678901234567890123456789012345678";
    let mut bodies = Vec::new();
    for shown in ["", "nobody", wrong, &key("OLD"), &key("ASLEEP"), &key("ELSEWHERE"), "a.b.c"] {
        let reply = chat_as(gateway.clients, shown, &ask("fast")).await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, "Bearer"), "{shown}: {reply:#?}");
        assert_eq!(reply.error()["code"], "invalid_api_key");
        bodies.push(reply.text());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:#?}");
    assert_eq!(upstream.heard().len(), 0);
    // In the dialects of other doors.
    let messages = send(gateway.clients, Method::POST, "/v1/messages", &[("x-api-key", "no")], "{}").await;
    assert_eq!((messages.status, &messages.json()["error"]["type"]), (401, &json!("authentication_error")));
    let gemini = "/v1beta/models/fast:generateContent?key=no";
    let gemini = send(gateway.clients, Method::POST, gemini, &[], "{}").await;
    assert_eq!((gemini.status, &gemini.json()["error"]["status"]), (401, &json!("UNAUTHENTICATED")));
    for path in ["/v1/models", "/v1/models/fast", "/v1/responses/resp_1", "/v1/files"] {
        assert_eq!(client::get(gateway.clients, path).await.status, 401, "{path}");
    }
    let failures = gateway.metric("tollgate_auth_failures_total", &[]).await;
    assert!(failures >= 13.0, "{failures}");
}

#[tokio::test]
async fn a_good_key_is_taken_wherever_its_dialect_has_it() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = keys(&upstream).start();
    let good = key("OPEN");
    let bearer = format!("Bearer {good}");
    let body = ask("fast").to_string();
    for header in
        [("authorization", &*bearer), ("x-api-key", &good), ("api-key", &good), ("x-goog-api-key", &good)]
    {
        let reply = send(gateway.clients, Method::POST, "/v1/chat/completions", &[header], &body).await;
        assert_eq!(reply.said(), "hello", "{header:?}");
        let record = gateway.record(reply.header("x-request-id")).await;
        assert_eq!((&record["key"], &record["team"]), (&json!("open"), &json!("platform")), "{record}");
        assert_eq!(record["facts"]["user"], "ann");
        assert_eq!(record["tags"], json!([["feature", "search"]]));
    }
    let path = format!("/v1beta/models/fast:generateContent?key={good}");
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}).to_string();
    assert_eq!(send(gateway.clients, Method::POST, &path, &[], &body).await.status, 200);
    assert_eq!(
        chat_as(gateway.clients, "the key that a file has a hash of", &ask("fast")).await.said(),
        "hello"
    );
    assert_eq!(chat_as(gateway.clients, &key("HERE"), &ask("fast")).await.said(), "hello");
    for heard in upstream.heard() {
        assert!(
            !format!("{heard:?}").contains("tg-story"),
            "a client's key went to the provider: {heard:#?}"
        );
    }
}

#[tokio::test]
async fn scopes_hold_whatever_a_policy_says() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = keys(&upstream)
        .policy(
            "10-widen.rhai",
            "fn on_request(req) { if req.text.contains(\"widen\") { return route(\"secret\"); } }",
        )
        .start();
    let narrow = key("NARROW");
    let ask_of = async |model: &str| chat_as(gateway.clients, &narrow, &ask(model)).await;
    assert_eq!(ask_of("fast").await.said(), "hello");
    assert_eq!(ask_of("up/small-1").await.said(), "hello");
    // What exists and what does not are refused alike.
    for model in ["secret", "up/large", "down/m", "no-such-alias"] {
        let reply = ask_of(model).await;
        assert_eq!((reply.status, &reply.error()["code"]), (403, &json!("key_scope")), "{model}");
        assert_eq!(reply.error()["message"], "this key is not for this model", "{model}");
    }
    let mut question = ask("fast");
    question["messages"][0]["content"] = "widen it".into();
    let reply = chat_as(gateway.clients, &narrow, &question).await;
    assert_eq!((reply.status, &reply.error()["code"]), (403, &json!("key_scope")), "{reply:#?}");
    assert_eq!(chat_as(gateway.clients, &key("OPEN"), &question).await.said(), "hello");
    let reply = chat_as(gateway.clients, &key("UPWARD"), &ask("secret")).await;
    assert_eq!(reply.status, 403);

    let bearer = format!("Bearer {narrow}");
    let embed = json!({"model": "fast", "input": "x"}).to_string();
    let reply =
        send(gateway.clients, Method::POST, "/v1/embeddings", &[("authorization", &bearer)], &embed).await;
    assert_eq!(reply.status, 403, "{reply:#?}");
    for (class, status) in [("public", 200), ("internal", 200), ("secret", 403)] {
        let headers = [("authorization", &*bearer), ("x-tollgate-data-class", class)];
        let body = ask("fast").to_string();
        let reply = send(gateway.clients, Method::POST, "/v1/chat/completions", &headers, &body).await;
        assert_eq!(reply.status, status, "{class}");
    }
    let models = send(gateway.clients, Method::GET, "/v1/models", &[("authorization", &bearer)], "").await;
    let ids: Vec<_> = models.json()["data"].as_array().unwrap().iter().map(|m| m["id"].clone()).collect();
    assert_eq!(ids, ["fast"]);
    let one = async |id: &str| {
        let path = format!("/v1/models/{id}");
        send(gateway.clients, Method::GET, &path, &[("authorization", &bearer)], "").await.status
    };
    assert_eq!((one("fast").await, one("secret").await, one("nothing").await), (200, 404, 404));
}

#[tokio::test]
async fn one_request_costs_no_more_than_its_key_allows() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let config = "
prices: { models: { up/m: { price: { input: 1, output: 10 } } } }
auth: keys
keys:
  cheap: { secret: env:CHEAP_KEY, scope: { max_cost: 0.001 } }
  none: { secret: env:NONE_KEY, scope: { max_cost: 0.0000001 } }
";
    let setup = gateway::setup(&format!("providers:\n{}{config}", provider("up", &upstream.url())));
    let gateway =
        setup.env("CHEAP_KEY", "cheap-key-of-the-story").env("NONE_KEY", "other-key-of-the-story").start();
    let reply = chat_as(gateway.clients, "cheap-key-of-the-story", &ask("up/m")).await;
    assert_eq!(reply.said(), "hello");
    let heard = upstream.heard().last().expect("a request").json();
    let most = ["max_tokens", "max_completion_tokens"].iter().find_map(|name| heard[*name].as_u64());
    // A tenth of a cent pays for a hundred tokens of an answer, but for the worst case of the prompt.
    assert!(most.is_some_and(|most| (80..90).contains(&most)), "{heard}");
    let reply = chat_as(gateway.clients, "other-key-of-the-story", &ask("up/m")).await;
    assert_eq!((reply.status, &reply.error()["code"]), (403, &json!("key_scope")));
    let reply = chat_as(gateway.clients, "cheap-key-of-the-story", &ask("up/without-a-price")).await;
    assert_eq!(reply.status, 403, "what has no price is not allowed: {reply:#?}");
}

#[tokio::test]
async fn a_service_that_the_client_did_not_ask_for_is_within_what_the_key_allows() {
    // The first one chooses, as a project's own settings make OpenAI do; of the others, the quirks or the client's dialect
    // name the service.
    let upstream = Upstream::start(|heard| {
        let mut answer = acts::completion("hello");
        if heard.model() == "chooses" {
            answer["service_tier"] = "priority".into();
        }
        acts::whole(200, &answer)
    });
    let place = format!("dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ]", upstream.url());
    let price = "price: { input: 1, output: 10 }, priority: { input: 2, output: 20 }";
    let setup = gateway::setup(&format!(
        "providers:\n  plain: {{ {place} }}\n  own: {{ {place} }}\n  \
         set: {{ {place}, quirks: {{ defaults: {{ service_tier: priority }} }} }}\n\
         prices: {{ models: {{ \"plain/*\": {{ {price} }}, \"own/*\": {{ {price} }}, \"set/*\": {{ {price} }} }} }}\n\
         auth: keys\nkeys: {{ cheap: {{ secret: env:CHEAP_KEY, scope: {{ max_cost: 0.001 }} }} }}\n",
    ));
    let gateway = setup.env("CHEAP_KEY", "cheap-key-of-the-story").start();
    // A tenth of a cent pays for less than a hundred tokens, or for half as many of the dearer service.
    let (usual, dear) = (80..90, 28..42);
    for (model, tier, expected) in [
        ("plain/m", json!({}), &usual),
        ("plain/m", json!({"serviceTier": "priority"}), &dear),
        ("plain/m", json!({"service_tier": "priority"}), &dear),
        ("plain/m", json!({"service_tier": "auto"}), &dear),
        ("plain/m", json!({"service_tier": "default"}), &usual),
        ("plain/m", json!({"service_tier": "flex"}), &usual),
        ("plain/m", json!({"service_tier": null}), &usual),
        ("plain/m", json!({}), &usual),
        ("set/m", json!({}), &dear),
        ("set/m", json!({"service_tier": "default"}), &dear),
        ("own/chooses", json!({}), &usual),
        ("own/m", json!({}), &dear),
        ("own/m", json!({"service_tier": "default"}), &dear),
    ] {
        let mut question = ask(model);
        question.as_object_mut().unwrap().extend(tier.as_object().unwrap().clone());
        let reply = chat_as(gateway.clients, "cheap-key-of-the-story", &question).await;
        assert_eq!(reply.said(), "hello", "{model} {tier}: {reply:#?}");
        let heard = upstream.heard().last().expect("a request").json();
        let most = ["max_tokens", "max_completion_tokens"].iter().find_map(|name| heard[*name].as_u64());
        assert!(most.is_some_and(|most| expected.contains(&most)), "{model} {tier}: {heard}");
    }
}

#[tokio::test]
async fn who_judges_answers_is_within_what_the_key_allows() {
    let upstream = Upstream::start(|_| acts::says("1"));
    let config = "
prices:
  models:
    up/a: { price: { input: 1, output: 10 } }
    up/b: { price: { input: 1, output: 10 } }
    up/j: { price: { input: 1, output: 10 } }
    up/dear: { price: { input: 1000, output: 1000 } }
models:
  careful: { targets: [ up/a, up/b ], together: { by: best, judge: up/j } }
  dear: { targets: [ up/a, up/b ], together: { by: best, judge: up/dear } }
auth: keys
keys:
  frugal: { secret: env:FRUGAL_KEY, scope: { max_cost: 0.003 } }
  named: { secret: env:NAMED_KEY, scope: { models: [ careful ] } }
  parts: { secret: env:PARTS_KEY, scope: { models: [ up/a, up/b ] } }
";
    let setup = gateway::setup(&format!("providers:\n{}{config}", provider("up", &upstream.url())));
    let names = ["FRUGAL", "NAMED", "PARTS"];
    let setup = names.iter().fold(setup, |setup, name| setup.env(&format!("{name}_KEY"), &key(name)));
    let gateway = setup.start();
    for (who, model, status, heard) in [
        ("NAMED", "careful", 200, 3),
        ("PARTS", "careful", 403, 0),
        ("FRUGAL", "careful", 200, 3),
        ("FRUGAL", "dear", 403, 0),
    ] {
        let before = upstream.heard().len();
        let reply = chat_as(gateway.clients, &key(who), &ask(model)).await;
        assert_eq!(reply.status, status, "{who} {model}: {reply:#?}");
        let heard_now = upstream.heard().split_off(before);
        assert_eq!(heard_now.len(), heard, "{who} {model}");
        if status == 403 {
            assert_eq!(reply.error()["code"], json!("key_scope"), "{who} {model}");
        }
        for one in heard_now.iter().filter(|_| who == "FRUGAL") {
            let one = one.json();
            let most = ["max_tokens", "max_completion_tokens"].iter().find_map(|name| one[*name].as_u64());
            assert!(most.is_some_and(|most| most < 100), "a third of what the key allows: {one}");
        }
    }
}

#[tokio::test]
async fn who_fails_too_often_has_to_wait_and_others_do_not() {
    let upstream = Upstream::start(|_| acts::says("hello"));
    let config = "auth: { mode: keys, failures: 5/hour }\nkeys: { open: { secret: env:OPEN_KEY } }\n";
    let setup = gateway::setup(&format!("providers:\n{}{config}", provider("up", &upstream.url())));
    let gateway = setup.env("OPEN_KEY", &key("OPEN")).start();
    let mut statuses = Vec::new();
    for _ in 0..8 {
        let reply = chat_as(gateway.clients, "guess", &ask("up/m")).await;
        statuses.push(reply.status);
        assert!(reply.status == 401 || reply.header("retry-after").parse::<u64>().is_ok(), "{reply:#?}");
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    assert_eq!(chat_as(gateway.clients, &key("OPEN"), &ask("up/m")).await.said(), "hello");
}

/// Every file below a folder, as text.
pub fn everything_below(dir: &std::path::Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.push_str(&everything_below(&path));
        } else if !path.to_string_lossy().ends_with(".pepper") {
            all.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()));
        }
    }
    all
}
