//! The doors of rerank, before every kind of reranker.

use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, post};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Heard, Upstream};

fn play(heard: &Heard) -> Vec<Act> {
    let scores = [(2, 0.9), (0, 0.5), (1, 0.1)];
    let list = |score: &str| -> Value {
        scores.iter().map(|(index, value)| json!({"index": index, score: value})).collect()
    };
    match heard.model().as_str() {
        "rerank-v4" => {
            let results: Value = list("relevance_score").as_array().unwrap()[..2].to_vec().into();
            acts::whole(
                200,
                &json!({"id": "r1", "results": results, "meta": {"billed_units": {"search_units": 1}}}),
            )
        }
        _ if heard.path.starts_with("/model/") => {
            acts::whole(200, &json!({"results": list("relevance_score").as_array().unwrap()[..2].to_vec()}))
        }
        "voyage-x" => acts::whole(
            200,
            &json!({"object": "list", "data": list("relevance_score"), "usage": {"total_tokens": 8}}),
        ),
        "bge" => acts::whole(200, &list("score")),
        "wrong" => acts::whole(200, &json!({"results": [{"index": 7, "relevance_score": 1}]})),
        "busy" => acts::whole(429, &json!({"message": "slow down"})),
        _ => acts::error(418, "unknown"),
    }
}

fn house() -> (Upstream, Gateway) {
    let upstream = Upstream::start(play);
    let place =
        |path: &str| format!("base_url: \"http://{}{path}\", keys: [ env:TEST_KEY ]", upstream.address);
    let config = format!(
        "retries: {{ retries: 0 }}\nproviders:\n  cohere: {{ {} }}\n  voyage: {{ {} }}\n  tei: {{ {} }}\n  \
         plain: {{ dialect: openai, {} }}\n  \
         aws: {{ preset: bedrock, {}, aws: {{ region: eu-west-1 }} }}\n  sandbox: {{ dialect: sandbox }}\n\
         models:\n  best: {{ targets: [ cohere/wrong, plain/x, voyage/busy, voyage/voyage-x ] }}\n",
        place("/v2"),
        place("/v1"),
        place(""),
        place("/v1"),
        place("")
    );
    let gateway = gateway::start(&config);
    (upstream, gateway)
}

fn ask(model: &str) -> Value {
    json!({"model": model, "query": "who?", "documents": ["a", {"text": "b"}, "c"], "top_n": 2})
}

async fn rerank(gateway: &Gateway, body: &Value) -> Reply {
    post(gateway.clients, "/v1/rerank", body).await
}

#[tokio::test]
async fn every_reranker_answers_in_coheres_form() {
    let (upstream, gateway) = house();
    for (model, path, sent) in [
        (
            "cohere/rerank-v4",
            "/v2/rerank",
            json!({"query": "who?", "documents": ["a", "b", "c"], "top_n": 2}),
        ),
        ("voyage/voyage-x", "/v1/rerank", json!({"query": "who?", "documents": ["a", "b", "c"], "top_k": 2})),
        ("tei/bge", "/rerank", json!({"query": "who?", "texts": ["a", "b", "c"]})),
        (
            "aws/cohere.rerank-v3-5:0",
            "/model/cohere.rerank-v3-5%3A0/invoke",
            json!({"query": "who?", "documents": ["a", "b", "c"], "top_n": 2, "api_version": 2}),
        ),
        (
            "aws/amazon.rerank-v1:0",
            "/model/amazon.rerank-v1%3A0/invoke",
            json!({"query": "who?", "documents": ["a", "b", "c"], "top_n": 2}),
        ),
    ] {
        let reply = rerank(&gateway, &ask(model)).await;
        let answer = reply.json();
        assert_eq!(
            answer["results"],
            json!([{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.5}]),
            "{reply:#?}"
        );
        assert!(answer["id"].is_string() && answer["meta"].is_object(), "{reply:#?}");
        let heard = upstream.heard().pop().unwrap();
        let mut body = heard.json();
        body.as_object_mut().unwrap().remove("model");
        assert_eq!((heard.path.as_str(), &body), (path, &sent), "{model}");
    }
    let mut with_documents = ask("voyage/voyage-x");
    with_documents["return_documents"] = true.into();
    for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
        let reply = post(gateway.clients, path, &with_documents).await;
        assert_eq!(reply.json()["results"][1]["document"], json!({"text": "a"}), "{reply:#?}");
        assert_eq!(reply.json()["usage"]["total_tokens"], 8);
    }
    let record = gateway.record(rerank(&gateway, &ask("voyage/voyage-x")).await.header("x-request-id")).await;
    assert_eq!(record["facts"]["endpoint"], "rerank", "{record}");
}

#[tokio::test]
async fn the_same_dialect_goes_through_untouched() {
    let (upstream, gateway) = house();
    let body =
        r#"{ "model":"cohere/rerank-v4", "query":"q","documents":["a","b","c"],"top_n":2,"priority":1.0}"#;
    let reply = client::post_text(gateway.clients, "/v2/rerank", body).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    let heard = String::from_utf8(upstream.heard().pop().unwrap().body).unwrap();
    assert_eq!(heard, body.replace("cohere/rerank-v4", "rerank-v4"));
}

#[tokio::test]
async fn a_ranking_that_cannot_be_right_moves_on() {
    let (_upstream, gateway) = house();
    let reply = rerank(&gateway, &ask("best")).await;
    assert_eq!((reply.status, reply.header("x-tollgate-target")), (200, "voyage/voyage-x"), "{reply:#?}");
    assert_eq!(reply.header("x-tollgate-attempts"), "4");
    for (body, status, word) in [
        (ask("cohere/wrong"), 502, "not there"),
        (ask("plain/x"), 400, "reranks nothing"),
        (ask("nowhere/x"), 404, "does not exist"),
        (json!({"model": "cohere/rerank-v4", "query": "q", "documents": []}), 400, "documents"),
        (ask("voyage/busy"), 429, "slow down"),
    ] {
        let reply = rerank(&gateway, &body).await;
        let said = reply.json();
        assert_eq!(reply.status, status, "{reply:#?}");
        assert!(said["message"].as_str().unwrap().contains(word) && said["id"].is_string(), "{reply:#?}");
    }
}

#[tokio::test]
async fn the_sandbox_ranks_by_the_words_that_are_shared() {
    let (_upstream, gateway) = house();
    let body = json!({"model": "sandbox/rank", "query": "red apple pie",
        "documents": ["blue car", "a red apple", "apple"], "return_documents": true});
    let first = rerank(&gateway, &body).await.json();
    let order: Vec<_> =
        first["results"].as_array().unwrap().iter().map(|r| r["index"].as_u64().unwrap()).collect();
    assert_eq!(order, [1, 2, 0], "{first}");
    assert_eq!(first["results"][0]["document"]["text"], "a red apple");
    assert_eq!(rerank(&gateway, &body).await.json(), first);
}
