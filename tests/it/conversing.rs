//! Real WebSocket clients in front of the gateway.

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Message, handshake::client::generate_key};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::client::PATIENCE;
use crate::gateway::{CANARY, Gateway};

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A client's wish to speak at this path, with further headers.
pub fn wish(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .uri(format!("ws://{}{path}", gateway.clients))
        .header("host", gateway.clients.to_string())
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", generate_key());
    if headers.iter().all(|(name, _)| *name != "sec-websocket-version") {
        request = request.header("sec-websocket-version", "13");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

pub async fn open(request: Request<()>) -> (Socket, HeaderMap) {
    let (socket, response) = tokio_tungstenite::connect_async(request).await.expect("a conversation");
    assert!(!format!("{response:?}").contains(CANARY), "{response:?}");
    (socket, response.headers().clone())
}

pub async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

pub async fn next(socket: &mut Socket) -> Message {
    let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message in time");
    message.expect("a message").expect("a good one")
}

pub async fn heard(socket: &mut Socket) -> Value {
    serde_json::from_slice(&next(socket).await.into_data()).unwrap()
}
