//! Vertex AI through the binary: tokens fetched once and renewed ahead, Gemini and Claude below one project.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::acts;
use crate::anthropic;
use crate::client::{self, Reply, ask, ask_stream, post};
use crate::gateway::{self, Gateway, Setup};
use crate::upstream::{Act, Heard, Upstream};

const KEY: &str = include_str!("../fixtures/service_account_key.pem");
const GOOGLE: &str = "/v1beta1/projects/my-project/locations/us-east5/publishers/google/models";
const ANTHROPIC: &str = "/v1/projects/my-project/locations/us-east5/publishers/anthropic/models";

/// How the token endpoint behaves, and the number of tokens it gave.
#[derive(Default)]
struct Tokens {
    given: AtomicUsize,
    /// Seconds that they live.
    life: AtomicUsize,
    mood: Mutex<Mood>,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Mood {
    #[default]
    Friendly,
    Slow,
    Silent,
    Down,
    Refusing,
}

impl Tokens {
    fn play(&self, heard: &Heard) -> Vec<Act> {
        assert!(heard.header("authorization").is_none(), "{heard:?}");
        let number = self.given.fetch_add(1, Ordering::SeqCst) + 1;
        let life = self.life.load(Ordering::SeqCst);
        let token = acts::whole(200, &json!({"access_token": format!("ya29.{number}"), "expires_in": life}));
        match *self.mood.lock().unwrap() {
            Mood::Friendly => token,
            Mood::Slow => [vec![Act::Pause(Duration::from_millis(200))], token].concat(),
            Mood::Silent => vec![Act::Hang],
            Mood::Down => acts::whole(503, &json!({"error": {"message": "try later"}})),
            Mood::Refusing => acts::whole(
                400,
                &json!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}),
            ),
        }
    }

    fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }

    fn turn(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

struct Stage {
    tokens: Arc<Tokens>,
    upstream: Upstream,
    gateway: Gateway,
}

impl Stage {
    fn open(life: usize, provider: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::open_with(life, Mood::Friendly, "", provider)
    }

    fn open_with(
        life: usize,
        mood: Mood,
        more: &str,
        provider: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let tokens = Arc::new(Tokens::default());
        tokens.life.store(life, Ordering::SeqCst);
        tokens.turn(mood);
        let endpoint = tokens.clone();
        let upstream =
            Upstream::start(
                move |heard| {
                    if heard.path == "/token" { endpoint.play(heard) } else { provider(heard) }
                },
            );
        let config = format!(
            "workers: 3\nretries: {{ backoff: 1ms }}\nproviders:\n  vertex: {{ base_url: \"http://{}\", google: {{ location: us-east5, \
             credentials: file:sa.json }} }}\n{more}",
            upstream.address
        );
        let gateway = gateway::setup(&config).file("sa.json", &service_account(&upstream)).start();
        Self { tokens, upstream, gateway }
    }

    async fn ask(&self) -> Reply {
        post(self.gateway.clients, "/v1/chat/completions", &ask("vertex/gemini-2.5-pro")).await
    }
}

fn service_account(upstream: &Upstream) -> String {
    json!({
        "type": "service_account", "project_id": "my-project", "private_key_id": "k1", "private_key": KEY,
        "client_email": "bot@my-project.iam.gserviceaccount.com",
        "token_uri": format!("http://{}/token", upstream.address),
    })
    .to_string()
}

fn says(text: &str) -> Value {
    json!({
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
    })
}

fn gemini(_: &Heard) -> Vec<Act> {
    acts::whole(200, &says("Hello"))
}

/// Answers only to this token and those after it.
fn refuses_before(first: usize) -> impl Fn(&Heard) -> Vec<Act> + Send + Sync {
    move |heard| {
        let number = heard.header("authorization").and_then(|value| value.strip_prefix("Bearer ya29."));
        if number.and_then(|number| number.parse::<usize>().ok()).is_some_and(|number| number >= first) {
            return acts::whole(200, &says("Hello"));
        }
        acts::whole(401, &json!({"error": {"code": 401, "message": "expired", "status": "UNAUTHENTICATED"}}))
    }
}

#[tokio::test]
async fn the_first_request_fetches_a_token_and_the_others_use_it() {
    let stage = Stage::open(3600, gemini);
    for _ in 0..3 {
        assert_eq!(stage.ask().await.said(), "Hello");
    }
    assert_eq!(stage.tokens.given(), 1);
    let heard = stage.upstream.heard();
    let (grant, asked) = (&heard[0], &heard[1]);
    assert_eq!((grant.method.as_str(), grant.path.as_str()), ("POST", "/token"));
    let form = String::from_utf8_lossy(&grant.body).into_owned();
    assert!(
        form.starts_with("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ey"),
        "{form}"
    );
    assert_eq!(asked.path, format!("{GOOGLE}/gemini-2.5-pro:generateContent"));
    assert_eq!(asked.header("authorization"), Some("Bearer ya29.1"));
    let fetched =
        stage.gateway.metric("tollgate_token_refreshes_total", &["provider=\"vertex\"", "outcome=\"ok\""]);
    assert_eq!(fetched.await as u64, 1);
    assert!(!stage.gateway.log().iter().any(|line| line.contains("ya29.")), "a token is in the log");
}

#[tokio::test]
async fn a_hundred_requests_at_once_fetch_one_token() {
    let stage = Stage::open_with(3600, Mood::Slow, "", gemini);
    let address = stage.gateway.clients;
    let body = ask("vertex/gemini-2.5-pro");
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let body = body.clone();
            tokio::spawn(async move { post(address, "/v1/chat/completions", &body).await })
        })
        .collect();
    for reply in asking {
        assert_eq!(reply.await.unwrap().said(), "Hello");
    }
    assert_eq!(stage.tokens.given(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_while_the_old_one_is_used() {
    let stage = Stage::open(4, gemini);
    assert_eq!(stage.ask().await.said(), "Hello");
    // From now on the endpoint never answers: whoever waited for it would hang.
    stage.tokens.turn(Mood::Silent);
    let mut asked = 1;
    while stage.tokens.given() == 1 {
        assert_eq!(stage.ask().await.said(), "Hello");
        asked += 1;
    }
    for _ in 0..3 {
        assert_eq!(stage.ask().await.said(), "Hello");
    }
    assert!(asked > 1 && stage.tokens.given() == 2, "{asked} requests, {} fetches", stage.tokens.given());
    let last = stage.upstream.heard().pop().unwrap();
    assert_eq!(last.header("authorization"), Some("Bearer ya29.1"));
}

#[tokio::test]
async fn a_token_endpoint_that_is_down_is_not_hammered_and_the_next_target_answers() {
    let more = "  sandbox: { dialect: sandbox }\nmodels:\n  safe: { targets: [ vertex/gemini-2.5-pro, sandbox/echo ] }\n";
    let stage = Stage::open_with(3600, Mood::Down, more, gemini);
    let reply = stage.ask().await;
    let message = reply.error()["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(reply.status, 503, "{message}");
    assert!(
        message.contains("token endpoint") && message.contains("of `vertex`: status 503: try later"),
        "{message}"
    );
    for _ in 0..20 {
        assert_eq!(stage.ask().await.status, 503);
    }
    // The first pause is half a second at least; twenty answers take less, or a little more on a busy machine.
    assert!(stage.tokens.given() <= 3, "asked {} times", stage.tokens.given());
    let reply = post(stage.gateway.clients, "/v1/chat/completions", &ask("safe")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    stage.tokens.turn(Mood::Friendly);
    client::eventually_async("a token at last", async || (stage.ask().await.status == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn refused_credentials_are_the_houses_and_not_the_clients() {
    let stage = Stage::open_with(3600, Mood::Refusing, "", gemini);
    let reply = stage.ask().await;
    let message = reply.error()["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (reply.status, reply.error()["code"].as_str()),
        (502, Some("upstream_credentials")),
        "{message}"
    );
    assert!(message.contains("invalid_grant: Invalid JWT Signature."), "{message}");
}

#[tokio::test]
async fn a_token_that_the_provider_refuses_is_fetched_anew() {
    let stage = Stage::open(5, refuses_before(2));
    // A young token is not at fault; then it is dropped, and the same request goes out with another one.
    let mut refused = 0;
    client::eventually_async("a new token", async || {
        let reply = stage.ask().await;
        refused += usize::from(reply.status == 502);
        (reply.status == 200).then_some(())
    })
    .await;
    assert!(refused > 0);
    assert_eq!(stage.tokens.given(), 2);
}

#[tokio::test]
async fn a_reload_keeps_the_token() {
    let stage = Stage::open(3600, gemini);
    assert_eq!(stage.ask().await.said(), "Hello");
    let config = format!(
        "providers:\n  vertex: {{ base_url: \"http://{}\", models: [ new ], google: {{ location: us-east5, credentials: \
         file:sa.json }} }}\n",
        stage.upstream.address
    );
    stage.gateway.save_config(&config);
    client::eventually_async("the new configuration", async || {
        client::get(stage.gateway.clients, "/v1/models").await.text().contains("vertex/new").then_some(())
    })
    .await;
    assert_eq!(stage.ask().await.said(), "Hello");
    assert_eq!(stage.tokens.given(), 1);
}

#[tokio::test]
async fn claude_on_vertex_answers_every_door() {
    let stage = Stage::open(3600, |heard| {
        if heard.path.ends_with("/count-tokens:rawPredict") {
            return acts::whole(200, &json!({"input_tokens": 20}));
        }
        let whole = anthropic::play(heard);
        assert_eq!(heard.is_stream(), heard.path.ends_with(":streamRawPredict"), "{heard:?}");
        whole
    });
    let model = "vertex/claude-sonnet-4-5@20250929";
    let messages = json!([{"role": "user", "content": "hi"}]);
    let sent = json!({"model": model, "max_tokens": 9, "messages": messages, "x": 1});
    let own = post(stage.gateway.clients, "/v1/messages", &sent).await;
    assert_eq!((own.status, &own.json()["content"][0]["text"]), (200, &json!("Hello")), "{own:?}");
    let heard = stage.upstream.heard().pop().unwrap();
    assert_eq!(heard.path, format!("{ANTHROPIC}/claude-sonnet-4-5@20250929:rawPredict"));
    let expected =
        json!({"max_tokens": 9, "messages": messages, "x": 1, "anthropic_version": "vertex-2023-10-16"});
    assert_eq!(heard.json(), expected);
    assert_eq!(heard.header("authorization"), Some("Bearer ya29.1"));

    let stream = json!({"model": model, "max_tokens": 9, "messages": messages, "stream": true});
    let own = post(stage.gateway.clients, "/v1/messages", &stream).await;
    assert!(own.text().contains("event: message_stop"), "{own:?}");
    let asked = json!({"model": model, "messages": messages});
    let count = post(stage.gateway.clients, "/v1/messages/count_tokens", &asked);
    assert_eq!(count.await.json(), json!({"input_tokens": 20}));
    assert_eq!(stage.upstream.heard().pop().unwrap().json()["model"], "claude-sonnet-4-5@20250929");

    let chat = post(stage.gateway.clients, "/v1/chat/completions", &ask_stream(model)).await;
    assert!(chat.text().contains("Hello") && chat.text().contains("[DONE]"), "{chat:?}");
    let sent = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    let path = format!("/v1beta/models/{model}:generateContent");
    let google = post(stage.gateway.clients, &path, &sent).await;
    assert_eq!(google.json()["candidates"][0]["content"]["parts"][0]["text"], "Hello", "{google:?}");
}

#[tokio::test]
async fn embeddings_are_predicted() {
    let stage = Stage::open(3600, |heard| {
        let count = heard.json()["instances"].as_array().map_or(0, Vec::len);
        let one = json!({"embeddings": {"values": [0.5, 1], "statistics": {"token_count": 3}}});
        acts::whole(200, &json!({"predictions": vec![one; count]}))
    });
    let sent = json!({"model": "vertex/text-embedding-005", "input": ["a", "b"]});
    let made = post(stage.gateway.clients, "/v1/embeddings", &sent).await.json();
    assert_eq!(
        (&made["data"][1]["embedding"], &made["usage"]["prompt_tokens"]),
        (&json!([0.5, 1]), &json!(6))
    );
    let heard = stage.upstream.heard().pop().unwrap();
    assert_eq!(heard.path, format!("{GOOGLE}/text-embedding-005:predict"));
    let sent = json!({"requests": [{"content": {"parts": [{"text": "a"}]}}]});
    let path = "/v1beta/models/vertex/text-embedding-005:batchEmbedContents";
    let made = post(stage.gateway.clients, path, &sent).await.json();
    assert_eq!(made["embeddings"][0]["values"], json!([0.5, 1]), "{made}");
}

#[tokio::test]
async fn clients_made_for_vertex_are_served() {
    let more = "  sandbox: { dialect: sandbox }\nmodels:\n  gemini: { targets: [ vertex/gemini-2.5-pro ] }\n  \
                emb: { targets: [ vertex/text-embedding-005 ] }\n  other: { targets: [ sandbox/echo ] }\n";
    let stage = Stage::open_with(3600, Mood::Friendly, more, |heard| {
        if heard.path.ends_with(":predict") {
            let one = json!({"embeddings": {"values": [0.5], "statistics": {"token_count": 3}}});
            return acts::whole(200, &json!({"predictions": [one], "metadata": {}}));
        }
        gemini(heard)
    });
    let to = stage.gateway.clients;
    let place = "/v1beta1/projects/theirs/locations/us-central1/publishers/google/models";
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    let own = post(to, &format!("{place}/gemini:generateContent"), &contents).await;
    assert_eq!(own.json(), says("Hello"), "{own:?}");
    assert_eq!(
        stage.upstream.heard().pop().unwrap().path,
        format!("{GOOGLE}/gemini-2.5-pro:generateContent")
    );
    let slashed = place.replace("publishers/google", "publishers/vertex");
    let own = post(to, &format!("{slashed}/gemini-2.5-pro:generateContent"), &contents).await;
    assert_eq!(own.json(), says("Hello"), "{own:?}");

    let sent = json!({"instances": [{"content": "a", "task_type": "RETRIEVAL_QUERY"}], "parameters": {"autoTruncate": true}});
    let own = post(to, &format!("{place}/emb:predict"), &sent).await;
    assert_eq!(own.json()["predictions"][0]["embeddings"]["values"], json!([0.5]), "{own:?}");
    assert_eq!(stage.upstream.heard().pop().unwrap().json(), sent);
    let translated = post(to, &format!("{place}/other:predict"), &sent).await.json();
    assert!(translated["predictions"][0]["embeddings"]["values"].is_array(), "{translated}");

    let place = "/v1/projects/theirs/locations/l/publishers/anthropic/models";
    let sent = json!({"anthropic_version": "vertex-2023-10-16", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let whole = post(to, &format!("{place}/gemini:rawPredict"), &sent).await;
    assert_eq!(whole.json()["content"][0]["text"], "Hello", "{whole:?}");
    let stream = post(to, &format!("{place}/other:streamRawPredict"), &sent).await;
    assert!(stream.text().contains("event: message_stop"), "{stream:?}");
    let count =
        json!({"anthropic_version": "v", "model": "other", "messages": [{"role": "user", "content": "hi"}]});
    let count = post(to, &format!("{place}/count-tokens:rawPredict"), &count).await;
    assert!(count.json()["input_tokens"].is_u64(), "{count:?}");
}

#[tokio::test]
async fn models_are_listed_in_the_callers_dialect() {
    let gateway = gateway::start(
        "providers:\n  s: { dialect: sandbox, models: [ a, b ] }\nmodels:\n  m: { targets: [ s/a ] }\n",
    );
    let get = async |path: &str, header: &'static str| {
        let request = Request::get(path).header(header, "x").body(bytes::Bytes::new()).unwrap();
        client::open(gateway.clients, request).await.expect("an answer").rest().await
    };
    let google = get("/v1beta/models?pageSize=2", "x-other").await.json();
    assert_eq!((&google["models"][0]["name"], &google["nextPageToken"]), (&json!("models/m"), &json!("2")));
    let google = get("/v1beta/models/s/a", "x-other").await.json();
    assert_eq!(google["name"], "models/s/a");
    assert_eq!(get("/v1/models/m", "x-goog-api-key").await.json()["name"], "models/m");
    let anthropic = get("/v1/models?limit=1", "anthropic-version").await.json();
    assert_eq!((&anthropic["data"][0]["type"], &anthropic["has_more"]), (&json!("model"), &json!(true)));
    let missing = get("/v1/models/nothing", "anthropic-version").await;
    assert_eq!((missing.status, &missing.json()["type"]), (404, &json!("error")));
    let missing = get("/v1beta/models/nothing", "x-other").await;
    assert_eq!((missing.status, &missing.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
    assert_eq!(get("/v1/models", "x-other").await.json()["object"], "list");
}

/// Everything that was recorded of Vertex AI, relayed: what it hears and what the client gets are the recording's.
#[tokio::test]
async fn every_recording_passes_untouched() {
    let root = std::env::var_os("TOLLGATE_FIXTURES")
        .map_or_else(|| "../shared/fixtures".into(), std::path::PathBuf::from);
    let Ok(folder) = std::fs::read_dir(root.join("vertex")) else {
        eprintln!("SKIPPED: no recordings at {} (set TOLLGATE_FIXTURES)", root.display());
        return;
    };
    let cases: Vec<Value> = folder
        .flatten()
        .map(|file| serde_json::from_str(&std::fs::read_to_string(file.path()).unwrap()).unwrap())
        .collect();
    assert!(!cases.is_empty());
    for case in cases {
        let (id, request, answer) = (&case["id"], &case["request"], &case["response"]);
        let recorded = request["path"].as_str().unwrap();
        let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
        let text = answer["text"].as_str().unwrap().to_owned();
        let events = text.starts_with("data:");
        let stage = {
            let text = text.clone();
            let location = recorded.split('/').nth(5).unwrap().to_ascii_lowercase().replace('_', "-");
            let upstream = Upstream::start(move |_| {
                if events {
                    acts::stream(&text, 61)
                } else {
                    acts::answer(status, &[("content-type", "application/json")], &text)
                }
            });
            let config = format!(
                "providers:\n  vertex: {{ base_url: \"http://{}\", keys: [ env:TOKEN ], google: {{ project: test-project, \
                 location: {location} }} }}\n",
                upstream.address
            );
            let gateway = Setup::start(gateway::setup(&config).env("TOKEN", "ya29.given"));
            (upstream, gateway)
        };
        let (upstream, gateway) = stage;
        let (_, last) = recorded.rsplit_once('/').unwrap();
        let query = request["query"].as_str().filter(|query| !query.is_empty());
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        let (model, method) = last.split_once(':').unwrap();
        let path = format!("/v1beta/models/vertex/{model}:{method}{query}");
        let reply = post(gateway.clients, &path, &request["body"]).await;
        let heard = upstream.heard();
        assert_eq!(heard.len(), 1, "{id}: {reply:?}");
        let asked = heard[0].path.split('?').next().unwrap();
        assert!(
            asked.eq_ignore_ascii_case(&recorded.replace("GOOGLE_CLOUD_LOCATION", "google-cloud-location")),
            "{id}: {asked}"
        );
        assert_eq!(heard[0].json(), request["body"], "{id}");
        assert_eq!(heard[0].header("authorization"), Some("Bearer ya29.given"), "{id}");
        assert_eq!(reply.status, status, "{id}: {reply:?}");
        if status == 200 {
            assert_eq!(reply.text(), text, "{id}");
        }
    }
}
