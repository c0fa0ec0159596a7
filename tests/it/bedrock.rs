//! AWS Bedrock behind every door: Converse and its event streams, requests signed so that AWS would take them.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, chat, eventually_async, post};
use crate::gateway::{self, CANARY, Gateway};
use crate::upstream::{Act, Heard, Upstream};

const CLAUDE: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";

/// What the scripted provider of this dialect says, by the model in the path.
fn play(heard: &Heard) -> Vec<Act> {
    let path = heard.path.split('/').map(unescape).collect::<Vec<_>>();
    let [_, _, model, operation] = path.as_slice() else {
        return refuse(404, "UnknownOperationException", "");
    };
    match (model.as_str(), operation.as_str()) {
        ("x.busy", _) => refuse(429, "ThrottlingException", "Too many requests, please wait."),
        ("x.denied", _) => {
            refuse(403, "ExpiredTokenException:http://internal", "arn:aws:iam::1:role/x expired")
        }
        ("x.long", _) => refuse(400, "ValidationException", "Input is too long for requested model."),
        ("x.early", _) => events(&exception("modelStreamErrorException"), 7),
        ("x.breaks", _) => {
            let bytes = [stream().split_at(text_end()).0, &exception("throttlingException")].concat();
            events(&bytes, 50)
        }
        ("x.cut", _) => events(stream().split_at(text_end()).0, 50),
        (_, "converse") => acts::whole(200, &answer()),
        (_, "converse-stream") => events(&stream(), 11),
        ("amazon.titan-embed-text-v2:0", "invoke") => {
            acts::whole(200, &json!({"embedding": [0.5, -1.0], "inputTextTokenCount": 4}))
        }
        (_, "invoke") => acts::whole(200, &message()),
        (_, "invoke-with-response-stream") => events(&wrapped(), 13),
        (_, "count-tokens") => acts::whole(200, &json!({"inputTokens": 20})),
        _ => refuse(404, "UnknownOperationException", ""),
    }
}

/// The same beside the places where roles get their keys: a machine's, a container's, and the token service.
fn play_roles(heard: &Heard) -> Vec<Act> {
    let text = |text: &str| acts::answer(200, &[("content-type", "text/plain")], text);
    let end = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string();
    let keys = json!({"AccessKeyId": "AKIDTEST", "SecretAccessKey": CANARY, "Token": "role/token", "Expiration": end});
    let form = String::from_utf8_lossy(&heard.body).into_owned();
    match (heard.method.as_str(), heard.path.as_str()) {
        ("PUT", "/latest/api/token") => text("session"),
        ("GET", path)
            if path.starts_with("/latest/")
                && heard.header("x-aws-ec2-metadata-token") != Some("session") =>
        {
            acts::answer(401, &[], "")
        }
        ("GET", "/latest/meta-data/iam/security-credentials/") => text("my-role"),
        ("GET", "/latest/meta-data/iam/security-credentials/my-role") => acts::whole(200, &keys),
        ("GET", "/container") if heard.header("authorization") == Some("pod") => acts::whole(200, &keys),
        ("POST", "/sts") if form.contains("WebIdentityToken=jwt") && form.contains("RoleArn=arn%3Aaws") => {
            let keys = json!({"AccessKeyId": "AKIDTEST", "SecretAccessKey": CANARY, "SessionToken": "role/token", "Expiration": 4e9});
            let inner = json!({"AssumeRoleWithWebIdentityResult": {"Credentials": keys}});
            acts::whole(200, &json!({"AssumeRoleWithWebIdentityResponse": inner}))
        }
        ("POST", path) if path.starts_with("/model/") => play(heard),
        _ => acts::answer(404, &[], ""),
    }
}

fn refuse(status: u16, kind: &str, message: &str) -> Vec<Act> {
    let headers = [("content-type", "application/json"), ("x-amzn-errortype", kind)];
    acts::answer(status, &headers, json!({ "message": message }).to_string())
}

fn answer() -> Value {
    json!({
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
            {"text": "Hello"},
            {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Rome"}}},
        ]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 12, "outputTokens": 9, "totalTokens": 51, "cacheReadInputTokens": 30},
        "metrics": {"latencyMs": 5},
    })
}

fn message() -> Value {
    json!({
        "id": "msg_bdrk_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 12, "output_tokens": 9},
    })
}

/// A message of an event stream, with its checksums.
fn frame(headers: &[(&str, &str)], payload: &Value) -> Vec<u8> {
    let (mut head, payload) = (Vec::new(), payload.to_string());
    for (name, value) in headers {
        head.push(name.len() as u8);
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&(value.len() as u16).to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let mut bytes = ((16 + head.len() + payload.len()) as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&(head.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(payload.as_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

fn event(kind: &str, payload: &Value) -> Vec<u8> {
    frame(
        &[(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")],
        payload,
    )
}

fn exception(kind: &str) -> Vec<u8> {
    frame(
        &[(":exception-type", kind), (":message-type", "exception")],
        &json!({"message": "Too many requests"}),
    )
}

fn delta(index: u32, delta: Value) -> Vec<u8> {
    event("contentBlockDelta", &json!({"contentBlockIndex": index, "delta": delta}))
}

fn beginning() -> Vec<u8> {
    [
        event("messageStart", &json!({"role": "assistant"})),
        delta(0, json!({"reasoningContent": {"text": "hm"}})),
        delta(0, json!({"reasoningContent": {"signature": "c2ln"}})),
        event("contentBlockStop", &json!({"contentBlockIndex": 0})),
        delta(1, json!({"text": "Hel"})),
        delta(1, json!({"text": "lo"})),
    ]
    .concat()
}

fn text_end() -> usize {
    beginning().len()
}

fn stream() -> Vec<u8> {
    let start =
        json!({"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "tooluse_1", "name": "weather"}}});
    let usage = answer()["usage"].clone();
    [
        beginning(),
        event("contentBlockStop", &json!({"contentBlockIndex": 1})),
        event("contentBlockStart", &start),
        delta(2, json!({"toolUse": {"input": "{\"city\":"}})),
        delta(2, json!({"toolUse": {"input": "\"Rome\"}"}})),
        event("contentBlockStop", &json!({"contentBlockIndex": 2})),
        event("messageStop", &json!({"stopReason": "tool_use"})),
        event("metadata", &json!({"usage": usage, "metrics": {"latencyMs": 5}})),
    ]
    .concat()
}

/// A stream of Anthropic's events, wrapped.
fn wrapped() -> Vec<u8> {
    let mut start = message();
    (start["content"], start["stop_reason"]) = (json!([]), Value::Null);
    let events = [
        json!({"type": "message_start", "message": start}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ];
    let wrap = |said: &Value| event("chunk", &json!({"bytes": BASE64_STANDARD.encode(said.to_string())}));
    events.iter().flat_map(wrap).collect()
}

/// A stream in pieces of `size` bytes.
fn events(bytes: &[u8], size: usize) -> Vec<Act> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n";
    let pieces = bytes
        .chunks(size)
        .map(|piece| Act::Write([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()));
    let end = Act::Write(b"0\r\n\r\n".to_vec());
    std::iter::once(Act::Write(head.into())).chain(pieces).chain([end]).collect()
}

fn unescape(text: &str) -> String {
    text.replace("%3A", ":").replace("%2F", "/")
}

/// AWS would take it: the signature over what has come is the one that came with it.
#[track_caller]
fn verify(heard: &Heard, token: Option<&str>) {
    let header = |name: &str| heard.header(name).unwrap_or_else(|| panic!("no {name} in {heard:#?}"));
    let keys = Credentials::new("AKIDTEST", CANARY, token.map(str::to_owned), None, "test").into();
    let date: jiff::civil::DateTime = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", header("x-amz-date"))
        .and_then(|parsed| parsed.to_datetime())
        .expect("a time");
    let seconds = date.to_zoned(jiff::tz::TimeZone::UTC).expect("a time").timestamp().as_second();
    let time = UNIX_EPOCH + Duration::from_secs(seconds.try_into().expect("a time"));
    assert!(time.elapsed().expect("the past") < Duration::from_secs(60));
    let params = v4::SigningParams::builder()
        .identity(&keys)
        .region("eu-west-1")
        .name("bedrock")
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .expect("parameters");
    let uri = format!("https://{}{}", header("host"), heard.path);
    let signed = [("content-type", header("content-type")), ("host", header("host"))];
    let request =
        SignableRequest::new(&heard.method, uri, signed.into_iter(), SignableBody::Bytes(&heard.body))
            .unwrap();
    let (_, signature) = sign(request, &params.into()).expect("a signature").into_parts();
    let given = header("authorization");
    assert!(given.ends_with(&format!("Signature={signature}")), "{given} is not {signature}");
    assert!(given.contains("/eu-west-1/bedrock/aws4_request"), "{given}");
    assert_eq!(heard.header("x-amz-security-token"), token);
}

fn house() -> (Upstream, Upstream, Gateway) {
    let (aws, other) = (Upstream::start(play), Upstream::start(|_| acts::says("Hello from the other")));
    let keys = "aws: { region: eu-west-1, access_key_id: env:KEY_ID, secret_access_key: env:TEST_KEY }";
    let url = format!("http://{}", aws.address);
    let config = format!(
        "log: {{ level: trace }}\nretries: {{ retries: 0 }}\nproviders:\n  aws: {{ preset: bedrock, base_url: \"{url}\", {keys} }}\n  \
         native: {{ dialect: bedrock-anthropic, base_url: \"{url}\", {keys} }}\n{}models:\n  \
         safe: {{ targets: [ aws/x.early ], fallback: [ other/gpt-x ] }}\n",
        gateway::provider("other", &other.url())
    );
    let gateway = gateway::setup(&config).env("KEY_ID", "AKIDTEST").start();
    (aws, other, gateway)
}

fn ask(model: &str) -> Value {
    json!({
        "model": model, "max_tokens": 3000, "seed": 7,
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    })
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = true.into();
    body
}

#[tokio::test]
async fn an_openai_client_talks_to_bedrock() {
    let (aws, _other, gateway) = house();
    let reply = chat(gateway.clients, &ask(&format!("aws/{CLAUDE}"))).await;
    assert_eq!(reply.said(), "Hello", "{reply:#?}");
    let body = reply.json();
    let choice = &body["choices"][0];
    assert_eq!((&body["model"], &choice["finish_reason"]), (&json!(CLAUDE), &json!("tool_calls")));
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], r#"{"city":"Rome"}"#);
    assert_eq!(choice["message"]["reasoning_content"], "hm");
    let counts = (&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]);
    assert_eq!(counts, (&json!(42), &json!(9)));
    assert_eq!(reply.header("x-tollgate-warnings"), "seed (dropped)");

    let heard = aws.heard().pop().unwrap();
    assert_eq!(heard.path, format!("/model/{}/converse", CLAUDE.replace(':', "%3A")));
    verify(&heard, None);
    assert_eq!(
        heard.json(),
        json!({
            "system": [{"text": "be short"}],
            "messages": [{"role": "user", "content": [{"text": "hi"}]}],
            "inferenceConfig": {"maxTokens": 3000},
            "toolConfig": {"tools": [{"toolSpec": {"name": "weather",
                "inputSchema": {"json": {"type": "object", "properties": {}}}}}]},
        })
    );

    let mut body = streamed(ask(&format!("aws/{CLAUDE}")));
    body["stream_options"] = json!({"include_usage": true});
    let text = chat(gateway.clients, &body).await.text();
    verify(aws.heard().last().unwrap(), None);
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    for said in [
        "\"content\":\"Hel\"",
        "\"id\":\"tooluse_1\"",
        "\"finish_reason\":\"tool_calls\"",
        "\"prompt_tokens\":42",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
}

#[tokio::test]
async fn raw_requests_go_where_bedrock_takes_them_and_are_counted() {
    let (aws, _other, gateway) = house();
    for (model, streams, operation, counted) in [
        ("aws/amazon.nova-lite-v1:0", false, "converse", (12, 9)),
        ("aws/amazon.nova-lite-v1:0", true, "converse-stream", (12, 9)),
        ("native/anthropic.claude-x", false, "invoke", (12, 9)),
        ("native/anthropic.claude-x", true, "invoke-with-response-stream", (12, 9)),
    ] {
        let body = json!({"model": model, "stream": streams, "messages": []}).to_string();
        let mut request = client::request(Method::POST, "/v1/chat/completions", &body);
        request.headers_mut().insert("x-provider-original", "true".parse().unwrap());
        let reply = client::open(gateway.clients, request).await.unwrap().rest().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let heard = aws.heard().pop().unwrap();
        assert!(heard.path.ends_with(&format!("/{operation}")), "{model}: {}", heard.path);
        assert_eq!(heard.json(), json!({"messages": []}), "the path says the rest");
        let record = gateway.record(reply.header("x-request-id")).await;
        let usage = (record["usage"]["input"].as_u64(), record["usage"]["output"].as_u64());
        assert_eq!(usage, (Some(counted.0), Some(counted.1)), "{model} {operation}: {record}");
    }
    let reply = post(gateway.clients, "/passthrough/aws/model/anthropic.claude-x/invoke", &json!({})).await;
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["usage"]["input"], 12, "Claude's own words, too: {record}");
}

#[tokio::test]
async fn an_arn_is_a_model_too() {
    let (aws, _other, gateway) = house();
    let arn = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123";
    assert_eq!(chat(gateway.clients, &ask(&format!("aws/{arn}"))).await.said(), "Hello");
    let heard = aws.heard().pop().unwrap();
    assert_eq!(heard.path, format!("/model/{}/converse", arn.replace(':', "%3A").replace('/', "%2F")));
    verify(&heard, None);
}

/// Two turns of an agent that thinks: the proof of the first turn's thought comes back in the second.
#[tokio::test]
async fn an_anthropic_client_thinks_and_calls_tools_over_two_turns() {
    let (aws, _other, gateway) = house();
    let mut body = json!({
        "model": format!("aws/{CLAUDE}"), "max_tokens": 3000, "thinking": {"type": "enabled", "budget_tokens": 2000},
        "system": [{"type": "text", "text": "be short", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}],
        "messages": [{"role": "user", "content": "hi"}],
    });
    let first = post(gateway.clients, "/v1/messages", &body).await;
    assert_eq!((first.status, first.header("x-tollgate-warnings")), (200, ""), "{first:#?}");
    let said = first.json()["content"].clone();
    assert_eq!(said[0], json!({"type": "thinking", "thinking": "hm", "signature": "c2ln"}));
    assert_eq!(first.json()["usage"]["cache_read_input_tokens"], 30);

    let calls: Vec<Value> = said.as_array().unwrap().clone();
    let id = calls[2]["id"].clone();
    let result = json!([{"type": "tool_result", "tool_use_id": id, "content": "sunny", "is_error": false}]);
    body["messages"] = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": said},
        {"role": "user", "content": result}]);
    let second = post(gateway.clients, "/v1/messages", &streamed(body)).await;
    let text = second.text();
    for piece in ["signature_delta", "\"signature\":\"c2ln\"", "input_json_delta", "event: message_stop"] {
        assert!(text.contains(piece), "{piece} in {text}");
    }
    let heard = aws.heard().pop().unwrap();
    verify(&heard, None);
    let sent = heard.json();
    assert_eq!(
        sent["system"],
        json!([{"text": "be short"}, {"cachePoint": {"type": "default", "ttl": "1h"}}])
    );
    assert_eq!(
        sent["messages"][1]["content"],
        json!([
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
            {"text": "Hello"},
            {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Rome"}}},
        ])
    );
    assert_eq!(
        sent["messages"][2]["content"],
        json!([{"toolResult": {"toolUseId": "tooluse_1", "content": [{"text": "sunny"}]}}])
    );
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 2000}});
    assert_eq!(sent["additionalModelRequestFields"], thinking);
}

#[tokio::test]
async fn a_gemini_client_talks_to_bedrock() {
    let (aws, _other, gateway) = house();
    let body =
        json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"topP": 0.5}});
    let model = CLAUDE.replace(':', "%3A");
    let path = format!("/v1beta/models/aws/{model}:generateContent");
    let reply = post(gateway.clients, &path, &body).await;
    let parts = reply.json()["candidates"][0]["content"]["parts"].clone();
    assert_eq!((&parts[1]["text"], &parts[2]["functionCall"]["name"]), (&json!("Hello"), &json!("weather")));
    assert_eq!(reply.json()["usageMetadata"]["promptTokenCount"], 42, "{reply:#?}");
    assert_eq!(aws.heard()[0].json()["inferenceConfig"], json!({"topP": 0.5}));
    let path = format!("/v1beta/models/aws/{model}:streamGenerateContent?alt=sse");
    let text = post(gateway.clients, &path, &body).await.text();
    assert!(text.contains("\"Hel\"") && text.contains("\"finishReason\":\"STOP\""), "{text}");
}

#[tokio::test]
async fn failures_have_their_kinds_and_fail_over_before_content() {
    let (aws, other, gateway) = house();
    for (model, status, code) in [
        ("aws/x.busy", 429, "rate_limited"),
        ("aws/x.long", 400, "context_length_exceeded"),
        ("aws/x.denied", 502, "upstream_credentials"),
    ] {
        let reply = chat(gateway.clients, &ask(model)).await;
        assert_eq!((reply.status, reply.error()["code"].as_str()), (status, Some(code)), "{reply:#?}");
        assert!(!reply.text().contains("arn:"), "{reply:#?}");
    }
    // An exception before any content: the client never sees it.
    let reply = chat(gateway.clients, &streamed(ask("safe"))).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    assert!(reply.text().contains("Hello from the other"), "{reply:#?}");
    assert_eq!((aws.heard_at("x.early"), other.heard().len()), (1, 1));
    // After content: an error event, and nothing that looks like an end.
    for model in ["aws/x.breaks", "aws/x.cut"] {
        let text = chat(gateway.clients, &streamed(ask(model))).await.text();
        assert!(text.contains("\"Hel\"") && text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    }
}

#[tokio::test]
async fn claude_on_bedrock_is_relayed_in_its_own_words() {
    let (aws, _other, gateway) = house();
    let body = json!({"model": format!("native/{CLAUDE}"), "max_tokens": 50, "unheard_of": {"a": 1.0},
        "messages": [{"role": "user", "content": "hi"}]});
    let request = http::Request::builder()
        .method("POST")
        .uri("/v1/messages")
        .header("content-type", "application/json")
        .header("anthropic-version", "2023-06-01")
        .header("anthropic-beta", "context-1m-2025-08-07")
        .body(bytes::Bytes::from(body.to_string()))
        .unwrap();
    let reply: Reply = crate::client::open(gateway.clients, request).await.unwrap().rest().await;
    assert_eq!((reply.status, reply.json()), (200, message()));
    let heard = aws.heard().pop().unwrap();
    verify(&heard, None);
    assert_eq!(
        heard.json(),
        json!({"anthropic_version": "bedrock-2023-05-31", "anthropic_beta": ["context-1m-2025-08-07"], "max_tokens": 50,
            "unheard_of": {"a": 1.0}, "messages": [{"role": "user", "content": "hi"}]})
    );
    let text = post(gateway.clients, "/v1/messages", &streamed(body.clone())).await.text();
    assert!(
        text.starts_with("event: message_start\ndata: ") && text.ends_with("{\"type\":\"message_stop\"}\n\n"),
        "{text}"
    );
    assert_eq!(aws.heard().last().unwrap().json().get("stream"), None);
    let openai = chat(gateway.clients, &streamed(ask(&format!("native/{CLAUDE}")))).await.text();
    assert!(openai.contains("\"content\":\"Hello\"") && openai.ends_with("data: [DONE]\n\n"), "{openai}");
    let count = post(gateway.clients, "/v1/messages/count_tokens", &body).await;
    assert_eq!((count.status, count.json()), (200, json!({"input_tokens": 20})));
}

#[tokio::test]
async fn embeddings_are_made_one_by_one() {
    let (aws, _other, gateway) = house();
    let mut body = json!({"model": "aws/amazon.titan-embed-text-v2:0", "input": "a", "dimensions": 256});
    let reply = post(gateway.clients, "/v1/embeddings", &body).await;
    assert_eq!(reply.json()["data"][0]["embedding"], json!([0.5, -1.0]), "{reply:#?}");
    assert_eq!(reply.json()["usage"]["prompt_tokens"], 4);
    verify(aws.heard().last().unwrap(), None);
    assert_eq!(aws.heard()[0].json(), json!({"inputText": "a", "dimensions": 256}));
    body["input"] = json!(["a", "b"]);
    let reply = post(gateway.clients, "/v1/embeddings", &body).await;
    assert_eq!((reply.status, reply.error()["param"].as_str()), (400, Some("input")), "{reply:#?}");
}

#[tokio::test]
async fn keys_come_from_where_aws_programs_look() {
    let aws = Upstream::start(play);
    let url = format!("http://{}", aws.address);
    let plain = format!("providers:\n  bedrock: {{ base_url: \"{url}\" }}\n");
    let ask = ask(&format!("bedrock/{CLAUDE}"));

    let region = ("AWS_REGION", "eu-west-1");
    let of_environment = gateway::setup(&plain)
        .env(region.0, region.1)
        .env("AWS_ACCESS_KEY_ID", "AKIDTEST")
        .env("AWS_SECRET_ACCESS_KEY", CANARY)
        .env("AWS_SESSION_TOKEN", "session/token==")
        .start();
    assert_eq!(chat(of_environment.clients, &ask).await.said(), "Hello");
    verify(aws.heard().last().unwrap(), Some("session/token=="));

    let profile = format!(
        "providers:\n  bedrock: {{ base_url: \"{url}\", aws: {{ profile: work, credentials_file: keys, region: eu-west-1 }} }}\n"
    );
    let keys = format!(
        "[default]\naws_access_key_id = no\n[work]\naws_access_key_id = AKIDTEST\naws_secret_access_key = {CANARY}\n"
    );
    let of_profile = gateway::setup(&profile)
        .file("keys", "[work]\naws_access_key_id = AKIDOLD\naws_secret_access_key = old\n")
        .start();
    assert_eq!(chat(of_profile.clients, &ask).await.said(), "Hello");
    assert!(aws.heard().last().unwrap().header("authorization").unwrap().contains("AKIDOLD"));
    // The file is watched.
    let before = of_profile.status().await["snapshot"]["generation"].clone();
    of_profile.save("keys", &keys);
    eventually_async("a reload", async || {
        (of_profile.status().await["snapshot"]["generation"] != before).then_some(())
    })
    .await;
    assert_eq!(chat(of_profile.clients, &ask).await.said(), "Hello");
    verify(aws.heard().last().unwrap(), None);

    let key = format!("providers:\n  bedrock: {{ base_url: \"{url}\", keys: [ env:TEST_KEY ] }}\n");
    let by_key = gateway::setup(&key).env(region.0, region.1).start();
    assert_eq!(chat(by_key.clients, &ask).await.said(), "Hello");
    let bearer = format!("Bearer {CANARY}");
    assert_eq!(aws.heard().last().unwrap().header("authorization"), Some(bearer.as_str()));
    assert_eq!(aws.heard().last().unwrap().header("x-amz-date"), None);

    for (env, complaint) in [
        (vec![], "no region"),
        (vec![region, ("AWS_EC2_METADATA_DISABLED", "true")], "no AWS credentials"),
        (vec![region, ("AWS_ACCESS_KEY_ID", "AKIDTEST")], "AWS_SECRET_ACCESS_KEY"),
        (vec![region, ("AWS_PROFILE", "work"), ("HOME", "/nowhere")], "/nowhere/.aws/credentials"),
    ] {
        let mut setup = gateway::setup(&plain);
        for (name, value) in &env {
            setup = setup.env(name, value);
        }
        let printed = setup.run(&["check", "--config", "tollgate.yaml"]);
        assert!(printed.code != Some(0) && printed.err.contains(complaint), "{complaint}: {printed:#?}");
    }
}

#[tokio::test]
async fn keys_of_roles_are_fetched_once() {
    let aws = Upstream::start(play_roles);
    let url = format!("http://{}", aws.address);
    let plain = format!(
        "log: {{ level: trace }}\nproviders:\n  bedrock: {{ base_url: \"{url}\", aws: {{ region: eu-west-1 }} }}\n"
    );
    let (container, sts) = (format!("{url}/container"), format!("{url}/sts"));
    for (env, requests) in [
        (vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())], 3),
        (
            vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str()),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod"),
            ],
            1,
        ),
        (
            vec![
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/llm"),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "jwt"),
                ("AWS_ENDPOINT_URL_STS", sts.as_str()),
            ],
            1,
        ),
    ] {
        let mut setup = gateway::setup(&plain).file("jwt", "jwt\n");
        for (name, value) in &env {
            let path = setup.path().join(value).display().to_string();
            setup = setup.env(name, if *value == "jwt" { &path } else { value });
        }
        let gateway = setup.start();
        let before = aws.heard().len();
        for _ in 0..2 {
            let reply = chat(gateway.clients, &ask(&format!("bedrock/{CLAUDE}"))).await;
            assert_eq!(reply.said(), "Hello", "{env:?}");
            verify(aws.heard().last().unwrap(), Some("role/token"));
        }
        assert_eq!(aws.heard().len() - before, requests + 2, "{env:?}");
    }
}

impl Upstream {
    /// How often a model was asked for by its path.
    fn heard_at(&self, model: &str) -> usize {
        self.heard().iter().filter(|heard| heard.path.contains(model)).count()
    }
}
