//! What vendors tell badly, or not at all, of what was used; and what is held and booked for it all the same.

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::audio::{form, post_form};
use crate::client::{self, ask, chat, post};
use crate::gateway::{self, Gateway};
use crate::money::{purse, rows};
use crate::upstream::{Act, Heard, Upstream};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// Answers by what the request names: the form of a transcription, a word in a prompt.
fn play(heard: &Heard) -> Vec<Act> {
    let body = String::from_utf8_lossy(&heard.body).into_owned();
    let has = |word: &str| body.contains(word);
    if heard.path.ends_with("/audio/transcriptions") {
        return match has("srt") {
            true => acts::answer(200, &[("content-type", "text/plain")], "1\n00:00 --> 00:12\nhi\n"),
            false => acts::answer(
                200,
                &JSON,
                r#"{"task":"transcribe","duration":"12.5","text":"hi","segments":[]}"#,
            ),
        };
    }
    if heard.path.ends_with("/audio/speech") {
        let done = r#"{"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101,"total_tokens":115}}"#;
        return acts::stream(&format!("data: {done}\n\n"), usize::MAX);
    }
    if heard.path.contains("/images/") {
        let details = match has("words too") {
            true => r#","output_tokens_details":{"image_tokens":4000,"text_tokens":160}"#,
            false => "",
        };
        return acts::answer(
            200,
            &JSON,
            format!(
                r#"{{"created":1,"data":[],"usage":{{"total_tokens":4210,"input_tokens":50,"output_tokens":4160{details}}}}}"#
            ),
        );
    }
    if heard.method == "GET" {
        return acts::answer(200, &JSON, r#"{"object":"list","data":[]}"#);
    }
    let words = "word".repeat(100);
    if heard.path.ends_with("/responses") {
        let said = json!({ "type": "output_text", "text": words, "annotations": [] });
        let message = json!({ "type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [said] });
        return acts::whole(
            200,
            &json!({ "id": "r", "object": "response", "status": "completed", "model": "m", "created_at": 1, "output": [message] }),
        );
    }
    let mut answer = acts::completion(&words);
    if has("no tokens") {
        answer["usage"] =
            json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cost": 0.5 });
        return acts::whole(200, &answer);
    }
    match has("costly") {
        true => answer["usage"]["cost"] = json!(0.001_25),
        false => drop(answer.as_object_mut().unwrap().remove("usage")),
    }
    acts::whole(200, &answer)
}

fn house(up: &Upstream, more: &str) -> Gateway {
    let url = up.url();
    gateway::start(&format!(
        "state: {{ ledger: sqlite:./data/tollgate.db }}\nproviders:\n  \
         openai: {{ base_url: \"{url}\", keys: [ env:TEST_KEY ], models: [ whisper-1, gpt-4o ] }}\n  \
         empty: {{ preset: openai, base_url: \"{url}\", keys: [ env:TEST_KEY ], models: [ whisper-1 ] }}\n  \
         openrouter: {{ base_url: \"{url}\", keys: [ env:TEST_KEY ], models: [ nobody/knows ] }}\n{more}"
    ))
}

async fn row(gateway: &Gateway) -> Value {
    rows(gateway).await.pop().unwrap()
}

#[tokio::test]
async fn a_recording_is_held_by_its_length_and_booked_by_what_is_said_of_it() {
    let up = Upstream::start(play);
    let gateway = house(
        &up,
        "budgets:\n  - { name: tight, dollars: 0.03, per: total, for: { provider: openai } }\n  \
         - { name: nothing, dollars: 0, per: total, for: { provider: empty } }\n",
    );
    let hear = async |model: &str, format: &str, bytes: usize| {
        let fields = [("model", model), ("response_format", format)];
        post_form(&gateway, "/v1/audio/transcriptions", form(&fields, &vec![0; bytes], &[])).await.status
    };
    assert_eq!(hear("empty/whisper-1", "verbose_json", 1_000).await, 402, "a second costs something");
    assert_eq!(hear("openai/whisper-1", "verbose_json", 300_000).await, 402, "which can be 400 seconds");
    assert_eq!(hear("openai/whisper-1", "verbose_json", 1_000).await, 200);
    let told = row(&gateway).await;
    assert_eq!((&told["state"], &told["cost"]), (&json!("settled"), &json!(1_250_000)), "{told}");
    assert!(told["reserved"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(hear("openai/whisper-1", "srt", 1_000).await, 200);
    let untold = row(&gateway).await;
    assert_eq!((&untold["state"], &untold["cost"]), (&json!("estimated"), &Value::Null), "{untold}");
    assert_eq!(
        purse(&gateway).await,
        (1_250_000 + untold["reserved"].as_u64().unwrap(), 0),
        "what was held is charged"
    );
    let metrics = client::get(gateway.admin, "/metrics").await.text();
    assert!(
        metrics.contains("tollgate_unpriced_total{provider=\"openai\",model=\"whisper-1\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn pictures_and_sound_are_booked_as_such_whether_they_are_told_apart_or_not() {
    let up = Upstream::start(play);
    let gateway = house(&up, "");
    for (prompt, cost) in [("a cat, words too", 129_850_000), ("a cat", 133_370_000)] {
        let body = json!({ "model": "openai/gpt-image-1.5", "prompt": prompt });
        assert_eq!(post(gateway.clients, "/v1/images/generations", &body).await.status, 200);
        assert_eq!(row(&gateway).await["cost"], cost, "{prompt}");
    }
    let body = json!({ "model": "openai/gpt-4o-mini-tts", "input": "hi there", "voice": "a", "stream_format": "sse" });
    assert_eq!(post(gateway.clients, "/v1/audio/speech", &body).await.status, 200);
    assert_eq!(row(&gateway).await["cost"], 14 * 600 + 101 * 12_000);
}

#[tokio::test]
async fn a_whole_answer_without_usage_is_booked_by_its_words_in_every_dialect() {
    let up = Upstream::start(play);
    let gateway = house(&up, "");
    let said = json!([{ "role": "user", "content": "hello" }]);
    for (path, body) in [
        ("/v1/chat/completions", json!({ "messages": said })),
        ("/v1/messages", json!({ "messages": said, "max_tokens": 500 })),
        ("/v1/responses", json!({ "input": "hello" })),
        ("/v1/completions", json!({ "prompt": "hello" })),
        (
            "/v1beta/models/openai/gpt-4o:generateContent",
            json!({ "contents": [{ "parts": [{ "text": "hello" }] }] }),
        ),
    ] {
        let mut body = body;
        if !path.contains("v1beta") {
            body["model"] = json!("openai/gpt-4o");
        }
        let reply = post(gateway.clients, path, &body).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let row = row(&gateway).await;
        // Of four hundred bytes.
        let output = row["output"].as_u64().unwrap();
        assert_eq!(row["state"], "estimated", "{path}: {row}");
        assert!((80..=120).contains(&output), "{path}: {row}");
        assert!(row["input"].as_u64().unwrap() > 0, "{path}: {row}");
        assert!(row["cost"].as_u64().unwrap() >= output * 10_000, "{path}: {row}");
        assert!(reply.headers.contains_key("x-tollgate-cost-usd"), "{path}: {:?}", reply.headers);
    }
}

#[tokio::test]
async fn a_lookup_passes_a_budget_that_has_something_left() {
    let up = Upstream::start(play);
    let gateway = house(&up, "budgets:\n  - { name: all, dollars: 1, per: total }\n");
    for (method, path, bytes) in [
        (Method::GET, "/passthrough/openai/v1/models", ""),
        (Method::GET, "/passthrough/openai/v1/batches/b1", ""),
        (Method::DELETE, "/passthrough/openai/v1/files/f", ""),
    ] {
        let reply =
            client::open(gateway.clients, client::request(method, path, bytes)).await.unwrap().rest().await;
        assert_ne!(reply.status, 402, "{path}: {}", reply.text());
    }
    assert_eq!(purse(&gateway).await, (0, 0));
}

#[tokio::test]
async fn what_an_answer_says_it_cost_counts_where_no_price_is_known() {
    let up = Upstream::start(play);
    let gateway = house(&up, "prices: { models: { openai/gpt-4o: { price: { input: 1, output: 1 } } } }\n");
    for (model, cost) in [("openrouter/nobody/knows", 1_250_000), ("openai/gpt-4o", 10_000)] {
        let mut asked = ask(model);
        asked["messages"][0]["content"] = "costly".into();
        let reply = chat(gateway.clients, &asked).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(row(&gateway).await["cost"], cost, "{model}");
    }
}

#[tokio::test]
async fn what_an_answer_says_it_cost_counts_where_it_counts_no_tokens() {
    let up = Upstream::start(play);
    let gateway = house(&up, "");
    let mut asked = ask("openrouter/nobody/knows");
    asked["messages"][0]["content"] = "no tokens".into();
    let reply = chat(gateway.clients, &asked).await;
    assert_eq!((reply.status, reply.header("x-tollgate-cost-usd")), (200, "0.5"), "{reply:#?}");
    let row = row(&gateway).await;
    assert_eq!((&row["state"], &row["cost"]), (&json!("estimated"), &json!(500_000_000)), "{row}");
    assert!(row["output"].as_u64().unwrap() > 0, "{row}");
}

#[tokio::test]
async fn an_estimated_answer_costs_no_more_than_was_held_for_it() {
    let up = Upstream::start(play);
    let gateway = house(&up, "");
    let mut asked = ask("openai/gpt-4o");
    asked["max_tokens"] = json!(5);
    let reply = chat(gateway.clients, &asked).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let row = row(&gateway).await;
    let number = |name: &str| row[name].as_u64().unwrap();
    assert_eq!((&row["state"], number("output")), (&json!("estimated"), 5), "{row}");
    assert!(number("cost") <= number("reserved"), "{row}");
    assert_eq!(number("cost"), number("input") * 2_500 + 5 * 10_000, "{row}");
}

#[tokio::test]
async fn an_answer_that_is_none_is_paid_for_by_what_it_says_that_it_used() {
    let up = Upstream::start(|heard| match heard.model().as_str() {
        "empty" => {
            let mut empty = acts::completion("");
            empty["choices"] = json!([]);
            acts::whole(200, &empty)
        }
        _ => acts::says("Hello"),
    });
    let gateway = gateway::start(&format!(
        "state: {{ ledger: sqlite:./data/tollgate.db }}\nproviders:\n{}\
         models: {{ m: {{ targets: [ up/empty ], fallback: [ up/good ] }} }}\n\
         prices: {{ models: {{ \"up/*\": {{ price: {{ input: 1000, output: 1000 }} }} }} }}\n",
        gateway::provider("up", &up.url())
    ));
    let reply = chat(gateway.clients, &ask("m")).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    let usage = &acts::completion("")["usage"];
    let told = |name: &str| usage[name].as_u64().unwrap();
    for row in rows(&gateway).await {
        let cost = (told("prompt_tokens") + told("completion_tokens")) * 1_000_000;
        assert_eq!((row["state"].as_str(), row["cost"].as_u64()), (Some("settled"), Some(cost)), "{row:#}");
    }
}
