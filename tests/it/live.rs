//! Google's Live API: a scripted service of it behind, real WebSocket clients in front, the model in the first message.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message, handshake::server};

use crate::client::eventually;
use crate::conversing::{Socket, heard, next, open, say, wish};
use crate::gateway::{self, CANARY};

/// Path, headers and first message of each conversation.
type AllHeard = Arc<Mutex<Vec<(String, HeaderMap, Value)>>>;

const PLACE: &str =
    "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=AIza-of-the-client";

/// A service that answers each turn with a word and what it used, in frames of bytes as Google does.
async fn service() -> (std::net::SocketAddr, AllHeard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = AllHeard::default();
    let hearing = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let hearing = hearing.clone();
            tokio::spawn(async move {
                let mut head = None;
                #[allow(clippy::result_large_err, reason = "the library's own type")]
                let hear = |request: &server::Request, response: server::Response| {
                    head = Some((request.uri().to_string(), request.headers().clone()));
                    Ok(response)
                };
                let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, hear).await else { return };
                let (path, headers) = head.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() {
                        return;
                    }
                    let said: Value = serde_json::from_slice(&message.into_data()).unwrap();
                    let answer = if said.get("setup").is_some() {
                        hearing.lock().unwrap().push((path.clone(), headers.clone(), said));
                        json!({"setupComplete": {}})
                    } else {
                        json!({"serverContent": {"modelTurn": {"parts": [{"text": "hi"}]}, "turnComplete": true},
                            "usageMetadata": {"promptTokenCount": 100, "responseTokenCount": 20, "totalTokenCount": 120}})
                    };
                    let _ = socket.send(Message::binary(answer.to_string().into_bytes())).await;
                }
            });
        }
    });
    (address, heard)
}

async fn goodbye(socket: &mut Socket) -> (u16, String) {
    match next(socket).await {
        Message::Close(Some(CloseFrame { code, reason })) => (code.into(), reason.to_string()),
        other => panic!("no goodbye: {other:?}"),
    }
}

#[tokio::test]
async fn the_first_message_names_the_model_and_each_turn_is_metered() {
    let (address, all) = service().await;
    let gateway = gateway::start(&format!(
        "providers:\n  up: {{ preset: gemini, base_url: \"http://{address}/v1beta\", keys: [ env:TEST_KEY ] }}\n\
         models:\n  voice: {{ targets: [ up/gemini-live ] }}\n"
    ));
    let (mut socket, head) =
        open(wish(&gateway, PLACE, &[("x-goog-api-client", "google-genai-sdk/3.4"), ("x-mine", "s")])).await;
    let setup =
        json!({"setup": {"model": "models/voice", "generationConfig": {"responseModalities": ["TEXT"]}}});
    say(&mut socket, setup).await;
    assert_eq!(heard(&mut socket).await, json!({"setupComplete": {}}));
    for _ in 0..2 {
        say(&mut socket, json!({"clientContent": {"turnComplete": true}})).await;
        assert_eq!(heard(&mut socket).await["serverContent"]["turnComplete"], true);
    }
    socket.close(Some(CloseFrame { code: 1000.into(), reason: "".into() })).await.unwrap();
    while socket.next().await.is_some() {}

    let (path, headers, setup) = all.lock().unwrap().remove(0);
    assert_eq!(Some(&*path), PLACE.strip_suffix("?key=AIza-of-the-client"), "the client's key stays here");
    assert_eq!(
        (&headers["x-goog-api-key"], &headers["x-goog-api-client"]),
        (&CANARY.parse().unwrap(), &"google-genai-sdk/3.4".parse().unwrap())
    );
    assert!(!headers.contains_key("x-mine"), "{headers:?}");
    let asked = json!({"model": "models/gemini-live", "generationConfig": {"responseModalities": ["TEXT"]}});
    assert_eq!(setup["setup"], asked);

    let record = gateway.record(head["x-request-id"].to_str().unwrap()).await;
    assert_eq!(
        (&record["usage"]["input"], &record["usage"]["output"]),
        (&json!(200), &json!(40)),
        "{record}"
    );
    assert_eq!(record["conversation"]["client_events"], 3, "{record}");
    assert_eq!(
        (&record["facts"]["endpoint"], &record["facts"]["model"], &record["outcome"]),
        (&json!("realtime"), &json!("voice"), &json!("ok"))
    );
    assert_eq!(
        gateway.metric("tollgate_tokens_total", &["class=\"output\"", "model=\"gemini-live\""]).await,
        40.0
    );
}

#[tokio::test]
async fn who_cannot_be_served_hears_why_in_the_goodbye() {
    let (address, all) = service().await;
    let gateway = gateway::setup(&format!(
        "providers:\n  up: {{ preset: gemini, base_url: \"http://{address}/v1beta\", keys: [ env:TEST_KEY ] }}\n  \
         other: {{ dialect: openai, base_url: \"http://{address}/v1\", keys: [ env:TEST_KEY ] }}\n"
    ))
    .policy(
        "10.rhai",
        "fn on_request(req) { if req.endpoint == \"realtime\" && req.model == \"up/mute\" { return reject(403, \"mute\", \"not you\"); } }",
    )
    .start();
    for (first, says) in [
        (json!({"setup": {"model": "models/nobody"}}), "nobody"),
        (json!({"setup": {"model": "models/up/mute"}}), "not you"),
        (json!({"setup": {"model": "models/other/m"}}), "no live conversations"),
        (json!({"setup": {}}), "name the model"),
        (json!({"clientContent": {}}), "name the model"),
        (json!([1]), "object"),
    ] {
        let (mut socket, _) = open(wish(&gateway, PLACE, &[])).await;
        say(&mut socket, first.clone()).await;
        let (code, reason) = goodbye(&mut socket).await;
        assert_eq!(code, 1008, "{first}: {reason}");
        assert!(reason.contains(says), "{first}: {reason}");
    }
    assert!(all.lock().unwrap().is_empty(), "nobody was asked");
    // A wish for another WebSocket.
    match tokio_tungstenite::connect_async(wish(&gateway, PLACE, &[("sec-websocket-version", "8")])).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 426),
        other => panic!("no refusal: {:?}", other.map(|(_, response)| response)),
    }
    eventually("the accounts to be settled", || (gateway.access().len() >= 6).then_some(())).await;
}
