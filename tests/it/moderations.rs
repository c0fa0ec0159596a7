//! The door of moderations, before OpenAI's kind and Mistral's.

use serde_json::{Value, json};

use crate::acts;
use crate::client::{Reply, post};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Heard, Upstream};

fn play(heard: &Heard) -> Vec<Act> {
    let inputs = heard.json()["input"].as_array().map_or(1, Vec::len);
    let list = |result: Value| Value::from(vec![result; inputs]);
    match heard.model().as_str() {
        "omni-moderation-latest" => acts::whole(200, &openai(1)),
        "mistral-moderation-latest" => acts::whole(
            200,
            &json!({"id": "m", "model": "mistral-moderation-2603", "results": list(json!({
                "categories": {"selfharm": false, "pii": true}, "category_scores": {"selfharm": 0.1, "pii": 0.8}}))}),
        ),
        "short" => acts::whole(200, &openai(0)),
        _ => acts::error(503, "busy"),
    }
}

fn openai(n: usize) -> Value {
    let result = json!({"flagged": false, "categories": {"hate": false}, "category_scores": {"hate": 0.1},
        "category_applied_input_types": {"hate": ["text"]}});
    json!({"id": "modr-1", "model": "omni", "results": vec![result; n]})
}

async fn moderate(gateway: &Gateway, body: &Value) -> Reply {
    post(gateway.clients, "/v1/moderations", body).await
}

fn house(models: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start(play);
    let place = format!("base_url: \"{}\", keys: [ env:TEST_KEY ]", upstream.url());
    let config = format!(
        "retries: {{ retries: 0 }}\nproviders:\n  mistral: {{ {place} }}\n  openai: {{ {place} }}\n  \
         deepseek: {{ {place} }}\n  sandbox: {{ dialect: sandbox }}\n{models}"
    );
    let gateway = gateway::start(&config);
    (upstream, gateway)
}

#[tokio::test]
async fn a_client_who_names_no_model_is_served_by_who_sees_most() {
    let (upstream, gateway) = house("");
    let picture =
        json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://x"}}]);
    let reply = moderate(&gateway, &json!({ "input": picture })).await;
    assert_eq!((reply.status, reply.json()), (200, openai(1)), "{reply:#?}");
    assert_eq!(reply.header("x-tollgate-target"), "openai/omni-moderation-latest");
    let heard = upstream.heard().pop().unwrap();
    assert_eq!(heard.path, "/v1/moderations");
    assert_eq!(heard.json(), json!({"input": picture, "model": "omni-moderation-latest"}));
    let listed = crate::client::get(gateway.clients, "/v1/models").await.text();
    assert!(!listed.contains("\"moderation\""), "{listed}");
}

#[tokio::test]
async fn an_alias_of_that_name_counts_first() {
    let (_upstream, gateway) = house(
        "models:\n  moderation: { targets: [ openai/short, openai/busy, mistral/mistral-moderation-latest ] }\n",
    );
    let reply = moderate(&gateway, &json!({"input": ["a", "b"], "model": null})).await;
    let answer = reply.json();
    assert_eq!(reply.header("x-tollgate-target"), "mistral/mistral-moderation-latest", "{reply:#?}");
    let results = answer["results"].as_array().unwrap();
    assert_eq!((results.len(), &results[1]["flagged"]), (2, &json!(true)));
    assert_eq!(results[0]["categories"], json!({"selfharm": false, "pii": true, "self-harm": false}));
}

#[tokio::test]
async fn what_cannot_be_judged_is_said() {
    let (_upstream, gateway) = house("");
    let picture = json!([{"type": "image_url", "image_url": {"url": "https://x"}}]);
    for (body, status, word) in [
        (json!({"model": "mistral/mistral-moderation-latest", "input": picture}), 400, "pictures"),
        (json!({"model": "deepseek/x", "input": "a"}), 400, "moderates nothing"),
        (json!({"model": "openai/short", "input": "a"}), 502, "0 of 1"),
        (json!({"model": "omni-moderation-latest", "input": "a"}), 404, "does not exist"),
        (json!({"model": "openai/busy"}), 400, "input"),
    ] {
        let reply = moderate(&gateway, &body).await;
        assert_eq!(reply.status, status, "{reply:#?}");
        assert!(reply.error()["message"].as_str().unwrap().contains(word), "{reply:#?}");
    }
}

#[tokio::test]
async fn the_sandbox_flags_what_is_named() {
    let (_upstream, gateway) = house("");
    let body = json!({"model": "sandbox/judge", "input": ["whatever", "this is violence/graphic"]});
    let answer = moderate(&gateway, &body).await.json();
    assert_eq!(answer["results"][0]["flagged"], false, "{answer}");
    let second = &answer["results"][1];
    assert_eq!((&second["flagged"], &second["categories"]["violence"]), (&json!(true), &json!(true)));
    assert_eq!(moderate(&gateway, &body).await.json(), answer);
}
