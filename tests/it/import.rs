//! Somebody comes from LiteLLM: the configuration is imported, checked, and serves.

use std::fs;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;

use crate::acts;
use crate::client::{ask, chat, open};
use crate::gateway;
use crate::upstream::Upstream;

const MASTER: &str = "sk-master-4b1f8e02c9d7";

fn theirs(good: &str, bad: &str) -> String {
    format!(
        "model_list:
  - model_name: chat
    litellm_params: {{ model: openai/broken, api_base: '{bad}', api_key: sk-of-the-broken-one, rpm: 600 }}
  - model_name: spare
    litellm_params:
      model: openai/works
      api_base: {good}
      api_key: os.environ/TEST_KEY
      temperature: 0.25
      input_cost_per_token: 0.00000125
  - model_name: '*'
    litellm_params: {{ model: openai/* }}
  - model_name: odd
    litellm_params: {{ model: sagemaker/jumpstart }}
litellm_settings:
  num_retries: 0
  fallbacks: [ {{ chat: [ spare ] }} ]
  callbacks: [ langfuse ]
  max_budget: 50
  budget_duration: 30d
general_settings:
  master_key: {MASTER}
"
    )
}

#[tokio::test]
async fn a_configuration_of_litellms_serves() {
    let works = Upstream::start(|_| acts::says("hello from there"));
    let broken = Upstream::start(|_| acts::error(500, "broken"));
    let setup = gateway::setup("").env("OPENAI_API_KEY", "sk-of-openai");
    fs::write(setup.path().join("litellm.yaml"), theirs(&works.url(), &broken.url())).unwrap();

    let told =
        setup.run(&["import", "litellm", "litellm.yaml", "--out", "imported.yaml", "--secrets", "keys"]);
    assert_eq!(told.code, Some(0), "{told:#?}");
    for left in ["sagemaker/jumpstart", "callbacks", "litellm.yaml:11:5"] {
        assert!(told.err.contains(left), "no {left} in {}", told.err);
    }
    assert!(told.err.contains("3 things not"), "{}", told.err);
    assert!(!told.err.contains(MASTER) && !told.err.contains("sk-of-the"), "{}", told.err);

    let imported = fs::read_to_string(setup.path().join("imported.yaml")).unwrap();
    let checked = setup.run(&["check", "--config", "imported.yaml"]);
    assert_eq!(checked.code, Some(0), "{imported}\n{checked:#?}");
    let again = setup.run(&["import", "litellm", "litellm.yaml", "--out", "imported.yaml"]);
    assert!(again.code != Some(0) && again.err.contains("nothing is overwritten"), "{again:#?}");
    let strict =
        ["import", "litellm", "litellm.yaml", "--strict", "--out", "strict.yaml", "--secrets", "strict"];
    let strict = setup.run(&strict);
    assert!(strict.code != Some(0) && strict.err.contains("nothing was written"), "{strict:#?}");
    assert!(!setup.path().join("strict.yaml").exists() && !setup.path().join("strict").exists());

    // The story's own ports instead of the usual ones.
    let mut config: serde_yaml::Mapping = serde_yaml::from_str(&imported).unwrap();
    config.remove("admin");
    let config = format!("{}{}", gateway::FREE_PORTS, serde_yaml::to_string(&config).unwrap());
    let gateway = setup.file("tollgate.yaml", &config).start();

    let refused = chat(gateway.clients, &ask("chat")).await;
    assert_eq!(refused.status, 401, "{}", refused.text());
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/chat/completions")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {MASTER}"))
        .body(Bytes::from(ask("chat").to_string()))
        .unwrap();
    let answered = open(gateway.clients, request).await.unwrap().rest().await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(answered.said(), "hello from there");
    assert_eq!(broken.heard().len(), 1);
    let heard = works.heard();
    assert_eq!(heard[0].header("authorization"), Some(format!("Bearer {}", gateway::CANARY).as_str()));
    assert_eq!(heard[0].json()["temperature"], Value::from(0.25));
    assert!(answered.header("x-tollgate-cost-usd").starts_with("0.0"), "{answered:#?}");
}
