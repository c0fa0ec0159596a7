//! Embeddings between dialects: what they are for, pictures, token ids, and who counts what they cost.

use serde_json::{Value, json};

use crate::acts;
use crate::client::{Reply, post};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Heard, Upstream};

fn play(heard: &Heard) -> Vec<Act> {
    let typed = json!({"embeddings": {"float": [[0.5]]}, "meta": {"billed_units": {"input_tokens": 3}}});
    match heard.path.as_str() {
        "/v2/embed" => acts::whole(200, &typed),
        path if path.starts_with("/model/") => {
            let headers = [("content-type", "application/json"), ("x-amzn-bedrock-input-token-count", "7")];
            acts::answer(200, &headers, json!({"embeddings": {"float": [[0.5]]}}).to_string())
        }
        _ => acts::whole(200, &json!({"embeddings": [{"values": [0.5]}]})),
    }
}

fn house() -> (Upstream, Gateway) {
    let upstream = Upstream::start(play);
    let url = format!("http://{}", upstream.address);
    let gateway = gateway::start(&format!(
        "providers:\n  cohere: {{ base_url: \"{url}/v2\", keys: [ env:TEST_KEY ] }}\n  \
         gemini: {{ base_url: \"{url}/v1beta\", keys: [ env:TEST_KEY ] }}\n  \
         bedrock: {{ base_url: \"{url}\", aws: {{ region: eu-west-1, access_key_id: env:TEST_KEY, secret_access_key: env:TEST_KEY }} }}\n"
    ));
    (upstream, gateway)
}

/// What the provider heard of a request that it answered.
async fn sent(path: &str, body: &Value) -> (Reply, Value) {
    let (upstream, gateway) = house();
    let reply = post(gateway.clients, path, body).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    let heard = upstream.heard().pop().unwrap().json();
    (reply, heard)
}

#[tokio::test]
async fn what_vectors_are_for_is_told_to_every_provider() {
    let asked = |model: &str, field: &str, word: &str| json!({"model": model, "input": "a", field: word});
    for (body, place, expected) in [
        (
            asked("gemini/gemini-embedding-001", "input_type", "query"),
            "/requests/0/taskType",
            "RETRIEVAL_QUERY",
        ),
        (asked("cohere/embed-v4.0", "task_type", "RETRIEVAL_QUERY"), "/input_type", "search_query"),
        (asked("bedrock/cohere.embed-english-v3", "taskType", "CLUSTERING"), "/input_type", "clustering"),
    ] {
        let (reply, heard) = sent("/v1/embeddings", &body).await;
        assert_eq!(heard.pointer(place), Some(&expected.into()), "{body}: {heard}");
        assert_eq!(reply.header("x-tollgate-warnings"), "", "{body}");
    }
    let one = json!({"content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY"});
    let (reply, heard) = sent("/v1beta/models/cohere/embed-v4.0:embedContent", &one).await;
    assert_eq!((&heard["input_type"], reply.header("x-tollgate-warnings")), (&json!("search_query"), ""));
    let other = json!({"content": {"parts": [{"text": "b"}]}, "taskType": "CLUSTERING"});
    let both = json!({"requests": [one, other]});
    let (reply, heard) = sent("/v1beta/models/cohere/embed-v4.0:batchEmbedContents", &both).await;
    assert_eq!(heard["texts"], json!(["a", "b"]), "{reply:?}");
    assert_eq!(reply.header("x-tollgate-warnings"), "taskType (that of the first counts for all)");
    let vague = json!({"content": {"parts": [{"text": "a"}]}, "taskType": "SEMANTIC_SIMILARITY"});
    let (reply, _) = sent("/v1beta/models/cohere/embed-v4.0:embedContent", &vague).await;
    assert_eq!(reply.header("x-tollgate-warnings"), "taskType (dropped)");
}

#[tokio::test]
async fn a_picture_is_embedded_as_one_or_refused_and_never_as_nothing() {
    let picture = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
    let alone = json!({"content": {"parts": [picture]}});
    let (_, heard) = sent("/v1beta/models/cohere/embed-v4.0:embedContent", &alone).await;
    let url = "data:image/png;base64,AAAA";
    assert_eq!((&heard["images"], &heard["input_type"]), (&json!([url]), &json!("image")));
    let (_, heard) =
        sent("/v1/embeddings", &json!({"model": "bedrock/cohere.embed-v4:0", "input": url})).await;
    assert_eq!((&heard["images"], &heard["input_type"]), (&json!([url]), &json!("image")));

    let (upstream, gateway) = house();
    let mixed = json!({"content": {"parts": [{"text": "a cat"}, picture]}});
    let path = "/v1beta/models/cohere/embed-v4.0:embedContent";
    let refused = post(gateway.clients, path, &mixed).await;
    assert_eq!((refused.status, upstream.heard().len()), (400, 0), "{refused:?}");
    assert!(refused.text().contains("content.parts[1]"), "{refused:?}");
}

#[tokio::test]
async fn token_ids_are_text_for_whoever_knows_no_other() {
    // What LangChain sends unless it is told not to.
    let ids = json!({"model": "gemini/gemini-embedding-001", "input": [[15339, 1917], [15339]]});
    let (upstream, gateway) = house();
    let reply = post(gateway.clients, "/v1/embeddings", &ids).await;
    let heard = upstream.heard().pop().unwrap().json();
    let text = |at: usize| heard["requests"][at]["content"]["parts"][0]["text"].clone();
    assert_eq!((text(0), text(1)), (json!("hello world"), json!("hello")), "{reply:?}");
    let none = json!({"model": "gemini/gemini-embedding-001", "input": [4_000_000_000_u32]});
    let refused = post(gateway.clients, "/v1/embeddings", &none).await;
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("input")), "{refused:?}");
}

#[tokio::test]
async fn tokens_that_bedrock_counts_in_headers_are_booked() {
    let (_upstream, gateway) = house();
    let asked = json!({"model": "bedrock/cohere.embed-english-v3", "input": "a"});
    let reply = post(gateway.clients, "/v1/embeddings", &asked).await;
    assert_eq!(reply.json()["usage"], json!({"prompt_tokens": 7, "total_tokens": 7}));
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["usage"]["input"], 7, "{record}");
}

#[tokio::test]
async fn what_a_policy_says_of_writing_does_not_reach_vectors() {
    let upstream =
        Upstream::start(|_| acts::whole(200, &json!({"data": [{"index": 0, "embedding": [0.5]}]})));
    let url = upstream.url();
    let config = format!("providers:\n{}", gateway::provider("up", &url));
    let rule = "fn on_request(req) { route(\"up/m\").set(\"temperature\", 0.2).set(\"max_tokens\", 300).set(\"dimensions\", 1) }";
    let gateway = gateway::setup(&config).policy("10-set.rhai", rule).start();
    let reply = post(gateway.clients, "/v1/embeddings", &json!({"model": "any", "input": "a"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(upstream.heard().pop().unwrap().json(), json!({"model": "m", "input": "a", "dimensions": 1}));
    let told = reply.header("x-tollgate-warnings");
    assert!(told.contains("temperature") && told.contains("max_tokens"), "{told}");
}
