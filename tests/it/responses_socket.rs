//! Responses over a WebSocket: a scripted provider behind, real WebSocket clients in front.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::{Message, handshake::server};

use crate::client;
use crate::conversing::{self, Socket, heard, next, say, wish};
use crate::gateway::{self, CANARY, Gateway};

/// Path and headers of the handshakes, and the messages that came.
type AllHeard = Arc<Mutex<(Vec<(String, HeaderMap)>, Vec<Value>)>>;

/// A provider that answers each `response.create` with two events.
async fn provider() -> (std::net::SocketAddr, AllHeard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), AllHeard::default());
    let hearing = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let heard = hearing.clone();
            tokio::spawn(async move {
                #[allow(clippy::result_large_err, reason = "the library's own type")]
                let hear = |request: &server::Request, response: server::Response| {
                    let head = (request.uri().to_string(), request.headers().clone());
                    heard.lock().unwrap().0.push(head);
                    Ok(response)
                };
                let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, hear).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    let Message::Text(text) = message else { continue };
                    let said: Value = serde_json::from_str(&text).unwrap();
                    heard.lock().unwrap().1.push(said.clone());
                    if said["type"] != "response.create" {
                        continue;
                    }
                    let usage = json!({"input_tokens": 20, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 5, "total_tokens": 25});
                    for event in [
                        json!({"type": "response.created", "response": {"id": "resp_1", "usage": null}}),
                        json!({"type": "response.completed", "response": {"id": "resp_1", "usage": usage}}),
                    ] {
                        let _ = socket.send(Message::text(event.to_string())).await;
                    }
                }
            });
        }
    });
    (address, heard)
}

fn house(address: std::net::SocketAddr) -> Gateway {
    gateway::start(&format!(
        "providers:\n  up: {{ preset: openai, base_url: \"http://{address}/v1\", keys: [ env:TEST_KEY ] }}\n  \
         mute: {{ dialect: openai, base_url: \"http://{address}/v1\", keys: [ env:TEST_KEY ] }}\n\
         models:\n  agent: {{ targets: [ up/gpt-5.2 ] }}\n"
    ))
}

async fn open(gateway: &Gateway) -> (Socket, HeaderMap) {
    let headers = [("openai-beta", "responses_multi_agent=v1"), ("authorization", "Bearer sk-of-the-client")];
    conversing::open(wish(gateway, "/v1/responses", &headers)).await
}

#[tokio::test]
async fn every_response_is_the_targets_and_is_metered() {
    let (address, all) = provider().await;
    let gateway = house(address);
    let (mut socket, head) = open(&gateway).await;
    for (model, at) in [(json!("agent"), 1), (json!("gpt-5.2-pro"), 2), (Value::Null, 3)] {
        let create = json!({"type": "response.create", "model": model, "store": false, "input": [at]});
        say(&mut socket, create).await;
        assert_eq!(heard(&mut socket).await["type"], "response.created");
        assert_eq!(heard(&mut socket).await["type"], "response.completed");
    }
    say(&mut socket, json!({"type": "response.steer", "input": "x"})).await;
    socket.send(Message::Ping("there?".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("there?".into()));
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}

    let (heads, messages) = all.lock().unwrap().clone();
    assert_eq!(heads[0].0, "/v1/responses");
    assert_eq!(heads[0].1["authorization"], format!("Bearer {CANARY}"));
    assert_eq!(heads[0].1["openai-beta"], "responses_multi_agent=v1");
    let asked =
        |at: u8| json!({"type": "response.create", "model": "gpt-5.2", "store": false, "input": [at]});
    assert_eq!(messages, [asked(1), asked(2), asked(3), json!({"type": "response.steer", "input": "x"})]);

    let record = gateway.record(head["x-request-id"].to_str().unwrap()).await;
    let used = &record["usage"];
    assert_eq!(
        (&used["input"], &used["cached_read"], &used["output"]),
        (&json!(36), &json!(24), &json!(15)),
        "{record}"
    );
    assert_eq!(
        (&record["facts"]["endpoint"], &record["facts"]["model"], &record["outcome"]),
        (&json!("realtime"), &json!("agent"), &json!("ok"))
    );
}

#[tokio::test]
async fn who_cannot_be_served_is_told_in_openais_words() {
    let (address, all) = provider().await;
    let gateway = house(address);
    for (first, status, code) in [
        (json!({"type": "response.create", "model": "nobody"}), 404, "model_not_found"),
        (json!({"type": "response.create", "model": "mute/m"}), 400, "unsupported_endpoint"),
        (json!({"type": "response.create"}), 400, "missing_required_parameter"),
        (json!({"type": "session.update", "model": "agent"}), 400, "bad_request"),
    ] {
        let (mut socket, _) = open(&gateway).await;
        say(&mut socket, first.clone()).await;
        let told = heard(&mut socket).await;
        assert_eq!(
            (&told["type"], &told["status"], &told["error"]["code"]),
            (&json!("error"), &json!(status), &json!(code)),
            "{first}: {told}"
        );
        let Message::Close(Some(goodbye)) = next(&mut socket).await else { panic!("no goodbye") };
        assert_eq!(u16::from(goodbye.code), 1008);
    }
    assert!(all.lock().unwrap().0.is_empty(), "nobody was asked");
    let plain = client::get(gateway.clients, "/v1/responses").await;
    assert_eq!((plain.status, plain.header("allow")), (405, "POST"));
}
