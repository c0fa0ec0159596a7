//! Google's Live API: a scripted service of it behind, real WebSocket clients in front, the model in the first message.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Error, Message, handshake::server};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::client::{PATIENCE, eventually};
use crate::gateway::{self, CANARY, Gateway};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
/// Path, headers and first message of each conversation.
type AllHeard = Arc<Mutex<Vec<(String, HeaderMap, Value)>>>;

const PLACE: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";

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

fn wish(gateway: &Gateway, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .uri(format!("ws://{}{PLACE}?key=AIza-of-the-client", gateway.clients))
        .header("host", gateway.clients.to_string())
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", tungstenite::handshake::client::generate_key());
    if headers.iter().all(|(name, _)| *name != "sec-websocket-version") {
        request = request.header("sec-websocket-version", "13");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

async fn open(gateway: &Gateway, headers: &[(&str, &str)]) -> (Socket, HeaderMap) {
    let opened = tokio_tungstenite::connect_async(wish(gateway, headers)).await;
    let (socket, response) = opened.expect("a conversation");
    (socket, response.headers().clone())
}

async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

async fn next(socket: &mut Socket) -> Message {
    let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message in time");
    message.expect("a message").expect("a good one")
}

async fn heard(socket: &mut Socket) -> Value {
    serde_json::from_slice(&next(socket).await.into_data()).unwrap()
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
        open(&gateway, &[("x-goog-api-client", "google-genai-sdk/3.4"), ("x-mine", "s")]).await;
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
    assert_eq!(path, PLACE, "the client's key stays here");
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
        let (mut socket, _) = open(&gateway, &[]).await;
        say(&mut socket, first.clone()).await;
        let (code, reason) = goodbye(&mut socket).await;
        assert_eq!(code, 1008, "{first}: {reason}");
        assert!(reason.contains(says), "{first}: {reason}");
    }
    assert!(all.lock().unwrap().is_empty(), "nobody was asked");
    // A wish for another WebSocket.
    match tokio_tungstenite::connect_async(wish(&gateway, &[("sec-websocket-version", "8")])).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 426),
        other => panic!("no refusal: {:?}", other.map(|(_, response)| response)),
    }
    eventually("the accounts to be settled", || (gateway.access().len() >= 6).then_some(())).await;
}
