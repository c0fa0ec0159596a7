//! Legacy text completions: the client's own bytes for models that complete texts, a chat for all others.

use serde_json::{Value, json};

use crate::acts;
use crate::client::{Reply, post};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Heard, Upstream};

const WHOLE: &str = r#"{ "id":"cmpl-1","object":"text_completion","created":1,"model":"instruct","choices":[{"text":" world","index":0,"logprobs":null,"finish_reason":"stop","new":1.0}],"usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3}}"#;

const STREAM: &str = concat!(
    r#"data: {"id":"cmpl-1","object":"text_completion","created":1,"choices":[{"text":" wor","index":0,"logprobs":null,"finish_reason":null}],"model":"instruct","usage":null}"#,
    "\n\n",
    r#"data: {"id":"cmpl-1","object":"text_completion","created":1,"choices":[{"text":"ld","index":0,"logprobs":null,"finish_reason":"stop"}],"model":"instruct","usage":null}"#,
    "\n\n",
);
const USAGE: &str = concat!(
    r#"data: {"id":"cmpl-1","object":"text_completion","created":1,"choices":[],"model":"instruct","usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3}}"#,
    "\n\n",
);
const DONE: &str = "data: [DONE]\n\n";

fn play(heard: &Heard) -> Vec<Act> {
    match (heard.path.as_str(), heard.is_stream()) {
        ("/v1/completions", false) => acts::answer(200, &[("content-type", "application/json")], WHOLE),
        ("/v1/completions", true) => acts::stream(&format!("{STREAM}{USAGE}{DONE}"), 19),
        ("/v1/chat/completions", false) => acts::says("lo"),
        _ => acts::says_stream(&["l", "o"]),
    }
}

fn house() -> (Upstream, Gateway) {
    let upstream = Upstream::start(play);
    let url = upstream.url();
    let gateway = gateway::start(&format!(
        "providers:\n  openai: {{ base_url: \"{url}\", keys: [ env:TEST_KEY ] }}\n  sandbox: {{ dialect: sandbox }}\n"
    ));
    (upstream, gateway)
}

async fn complete(gateway: &Gateway, body: &Value) -> Reply {
    post(gateway.clients, "/v1/completions", body).await
}

fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_model_that_completes_texts_gets_the_clients_bytes() {
    let (upstream, gateway) = house();
    let model = "openai/gpt-3.5-turbo-instruct";
    for prompt in [json!("hello"), json!(["a", "b"]), json!([1, 2]), json!([[1], [2]])] {
        let body = json!({"model": model, "prompt": prompt, "suffix": "!", "best_of": 2, "unheard_of": 1.0});
        let reply = complete(&gateway, &body).await;
        assert_eq!((reply.status, text(&reply).as_str()), (200, WHOLE));
        let mut expected = body.clone();
        expected["model"] = "gpt-3.5-turbo-instruct".into();
        assert_eq!(upstream.heard().pop().unwrap().json(), expected);
    }
    for (include_usage, expected) in
        [(false, format!("{STREAM}{DONE}")), (true, format!("{STREAM}{USAGE}{DONE}"))]
    {
        let body = json!({"model": model, "prompt": "hello", "stream": true,
            "stream_options": {"include_usage": include_usage}});
        assert_eq!(text(&complete(&gateway, &body).await), expected);
        let sent = upstream.heard().pop().unwrap().json();
        assert_eq!(sent["stream_options"]["include_usage"], true);
    }
}

#[tokio::test]
async fn any_other_model_is_asked_by_a_chat() {
    let (upstream, gateway) = house();
    let body = json!({"model": "openai/gpt-4o", "prompt": "hel", "echo": true, "best_of": 2, "user": "u"});
    let reply = complete(&gateway, &body).await;
    let answer = reply.json();
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(
        answer["choices"],
        json!([{"text": "hello", "index": 0, "logprobs": null, "finish_reason": "stop"}])
    );
    assert_eq!(
        (&answer["usage"]["prompt_tokens"], &answer["usage"]["total_tokens"]),
        (&json!(7), &json!(10))
    );
    assert_eq!(reply.header("x-tollgate-warnings"), "best_of (dropped)");
    let sent = upstream.heard().pop().unwrap().json();
    let expected = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hel"}],
        "max_completion_tokens": 16, "user": "u"});
    assert_eq!(sent, expected);

    let mut body = body;
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let reply = complete(&gateway, &body).await;
    let stream = text(&reply);
    assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
    let chunks: Vec<Value> =
        stream.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(said, "hello");
    assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion" && chunk["id"] == "c1"));
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 3);
    assert_eq!(chunks.last().unwrap()["choices"], json!([]));
}

#[tokio::test]
async fn what_a_chat_cannot_say_is_refused_by_name() {
    let (_upstream, gateway) = house();
    for (fields, param) in [
        (json!({"prompt": ["a", "b"]}), "prompt"),
        (json!({"prompt": [1, 2]}), "prompt"),
        (json!({"prompt": "a", "suffix": "b"}), "suffix"),
        (json!({"prompt": 5}), "prompt"),
        (json!({}), "prompt"),
    ] {
        let mut body = fields;
        body["model"] = "sandbox/echo".into();
        let reply = complete(&gateway, &body).await;
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &param.into()), "{body}");
    }
    let reply = complete(&gateway, &json!({"model": "sandbox/echo", "prompt": "hello"})).await;
    assert_eq!(reply.status, 200);
    assert!(reply.json()["choices"][0]["text"].as_str().unwrap().contains("hello"));
}

#[tokio::test]
async fn recorded_completions_reach_the_client_as_they_came() {
    let root = std::env::var_os("TOLLGATE_FIXTURES")
        .map_or_else(|| "../shared/fixtures".into(), std::path::PathBuf::from);
    let mut recorded = Vec::new();
    for vendor in ["openai", "vllm"] {
        let Ok(files) = std::fs::read_dir(root.join(vendor)) else { continue };
        for file in files.flatten() {
            let case: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
            if case["op"] == "completions" {
                recorded.push((vendor, case));
            }
        }
    }
    if recorded.is_empty() {
        eprintln!("SKIPPED: no recordings at {} (set TOLLGATE_FIXTURES)", root.display());
        return;
    }
    for (vendor, case) in recorded {
        let answer = case["response"].clone();
        let (status, said) =
            (answer["status"].as_u64().unwrap(), answer["text"].as_str().unwrap().to_owned());
        let streams = case["stream"] == true && status == 200;
        let script = said.clone();
        let upstream = Upstream::start(move |_| match streams {
            true => acts::stream(&script, 13),
            false => {
                acts::answer(u16::try_from(status).unwrap(), &[("content-type", "application/json")], &script)
            }
        });
        let gateway = gateway::start(&format!(
            "retries: {{ retries: 0 }}\nproviders:\n  it: {{ preset: {vendor}, base_url: \"{}\", keys: [ env:TEST_KEY ], quirks: {{ completions: [\"*\"] }} }}\n",
            upstream.url()
        ));
        let mut body = case["request"]["body"].clone();
        if !body.is_object() {
            body = json!({"prompt": "x"});
        }
        body["model"] = "it/m".into();
        // One recording has lost it.
        body["stream"] = case["stream"].clone();
        let reply = complete(&gateway, &body).await;
        let id = &case["id"];
        match status {
            200 => assert_eq!((u64::from(reply.status), text(&reply).trim()), (200, said.trim()), "{id}"),
            401 => assert_eq!(reply.status, 502, "{id}"),
            _ => {
                let expected: Value = serde_json::from_str(&said).unwrap();
                assert_eq!(u64::from(reply.status), status, "{id}");
                assert_eq!(reply.json()["error"]["code"], expected["error"]["code"], "{id}");
            }
        }
    }
}
