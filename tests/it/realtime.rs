//! Realtime conversations: a scripted provider that speaks WebSocket behind, real WebSocket clients in front.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message, handshake::server};

use crate::acts;
use crate::client::{self, eventually};
use crate::conversing::{self, Socket, next, open};
use crate::gateway::{self, CANARY, Gateway};
use crate::upstream::{Refusing, Upstream};

/// Paths and headers of the requests that came.
type AllHeard = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// A provider that speaks OpenAI's realtime dialect, as far as a story needs it.
pub struct Talker {
    address: std::net::SocketAddr,
    heard: AllHeard,
    /// How each conversation ended: by a goodbye, or without one.
    ends: Arc<Mutex<Vec<Option<u16>>>>,
    _stop: oneshot::Sender<()>,
}

impl Talker {
    /// Listens on a free port, on a thread of its own.
    pub fn start() -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, bound) = std::sync::mpsc::channel();
        let (heard, ends) = (Arc::<Mutex<_>>::default(), Arc::<Mutex<_>>::default());
        let (hearing, ending) = (heard.clone(), ends.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = accept(listener, hearing, ending) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address: bound.recv().unwrap(), heard, ends, _stop: stop }
    }

    pub fn provider(&self, name: &str) -> String {
        realtime_provider(name, &format!("http://{}/v1", self.address))
    }

    fn heard(&self) -> Vec<(String, HeaderMap)> {
        self.heard.lock().unwrap().clone()
    }

    async fn end(&self) -> Option<u16> {
        eventually("the provider's conversation to end", || self.ends.lock().unwrap().last().copied()).await
    }
}

async fn accept(listener: TcpListener, heard: AllHeard, ends: Arc<Mutex<Vec<Option<u16>>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (heard, ends) = (heard.clone(), ends.clone());
        tokio::spawn(async move {
            let mut responds = false;
            #[allow(clippy::result_large_err, reason = "the library's own type")]
            let hear = |request: &server::Request, mut response: server::Response| {
                responds = request.uri().path().ends_with("/responses");
                heard.lock().unwrap().push((request.uri().to_string(), request.headers().clone()));
                if request.headers().contains_key("sec-websocket-protocol") {
                    let protocol = http::HeaderValue::from_static("realtime");
                    response.headers_mut().insert("sec-websocket-protocol", protocol);
                }
                response.headers_mut().insert("x-secret", http::HeaderValue::from_static(CANARY));
                Ok(response)
            };
            let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, hear).await else { return };
            let end = if responds { respond(socket).await } else { talk(socket).await };
            ends.lock().unwrap().push(end);
        });
    }
}

fn realtime_provider(name: &str, url: &str) -> String {
    format!(
        "  {name}: {{ dialect: openai, base_url: \"{url}\", keys: [ env:TEST_KEY ], quirks: {{ realtime_path: \"/realtime?model={{model}}\", responses_websocket: true }} }}\n"
    )
}

const DONE: &str = r#"{"type":"response.done","event_id":"e3","response":{"object":"realtime.response","status":"completed","output":[],"usage":{"total_tokens":30,"input_tokens":20,"output_tokens":10,"input_token_details":{"cached_tokens":8,"text_tokens":15,"audio_tokens":5},"output_token_details":{"text_tokens":4,"audio_tokens":6}}}}"#;

async fn talk(mut socket: WebSocketStream<TcpStream>) -> Option<u16> {
    socket.send(Message::text(r#"{"type":"session.created","event_id":"e1"}"#)).await.ok()?;
    while let Some(Ok(message)) = socket.next().await {
        let reply = match &message {
            Message::Close(frame) => return frame.as_ref().map(|frame| u16::from(frame.code)),
            Message::Binary(_) => message.clone(),
            Message::Text(text) => {
                match serde_json::from_str::<Value>(text).unwrap()["type"].as_str().unwrap() {
                    "response.create" => Message::text(DONE),
                    "fail" => Message::text(
                        r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#,
                    ),
                    "close" => {
                        let frame = CloseFrame { code: 4_000.into(), reason: "enough".into() };
                        let _ = socket.close(Some(frame)).await;
                        continue;
                    }
                    "vanish" => return None,
                    _ => message.clone(),
                }
            }
            _ => continue,
        };
        socket.send(reply).await.ok()?;
    }
    None
}

/// Responses over a WebSocket: each `response.create` is answered by its two events.
async fn respond(mut socket: WebSocketStream<TcpStream>) -> Option<u16> {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let model = serde_json::from_str::<Value>(&text).unwrap()["model"].clone();
        let said = json!({"type": "output_text", "text": "hi", "annotations": []});
        let item = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [said]});
        let usage = json!({"input_tokens": 20, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 25});
        let mut response = json!({"id": "resp_1", "object": "response", "created_at": 1, "model": model, "output": [],
            "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "status": "in_progress"});
        let created = json!({"type": "response.created", "sequence_number": 0, "response": response});
        (response["status"], response["output"], response["usage"]) =
            ("completed".into(), json!([item]), usage);
        let completed = json!({"type": "response.completed", "sequence_number": 1, "response": response});
        for event in [created, completed] {
            socket.send(Message::text(event.to_string())).await.ok()?;
        }
    }
    None
}

fn wish(gateway: &Gateway, query: &str, headers: &[(&str, &str)]) -> Request<()> {
    conversing::wish(gateway, &format!("/v1/realtime{query}"), headers)
}

async fn refused(request: Request<()>) -> (u16, Value) {
    match tokio_tungstenite::connect_async(request).await {
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null))
        }
        other => panic!("no refusal: {:?}", other.map(|(_, response)| response)),
    }
}

async fn say(socket: &mut Socket, kind: &str) {
    conversing::say(socket, json!({ "type": kind })).await;
}

fn kind(message: &Message) -> String {
    let text = message.to_text().unwrap();
    serde_json::from_str::<Value>(text).unwrap()["type"].as_str().unwrap_or_default().to_owned()
}

fn close_code(message: &Message) -> Option<u16> {
    match message {
        Message::Close(Some(frame)) => Some(frame.code.into()),
        other => panic!("no goodbye: {other:?}"),
    }
}

fn house(talker: &Talker) -> Gateway {
    gateway::start(&format!(
        "providers:\n{}models:\n  voice: {{ targets: [ up/gpt-realtime ] }}\n",
        talker.provider("up")
    ))
}

#[tokio::test]
async fn a_conversation_goes_both_ways_and_is_settled_once() {
    let talker = Talker::start();
    let gateway = house(&talker);
    let headers = [
        ("authorization", "Bearer sk-of-the-client"),
        ("openai-safety-identifier", "u1"),
        ("x-secret-of-mine", "s"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ];
    let (mut socket, head) = open(wish(&gateway, "?model=voice&intent=transcription", &headers)).await;
    assert_eq!(head["x-tollgate-target"], "up/gpt-realtime");
    assert!(!head.contains_key("x-secret") && !head.contains_key("sec-websocket-extensions"));
    assert_eq!(kind(&next(&mut socket).await), "session.created");
    say(&mut socket, "conversation.item.create").await;
    assert_eq!(kind(&next(&mut socket).await), "conversation.item.create");
    let sound = Message::binary((0..1 << 20).map(|at| (at * 31 % 251) as u8).collect::<Vec<_>>());
    for _ in 0..3 {
        socket.send(sound.clone()).await.unwrap();
        assert!(next(&mut socket).await == sound, "a megabyte comes back as it was");
    }
    socket.send(Message::Ping("there?".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("there?".into()));
    for _ in 0..2 {
        say(&mut socket, "response.create").await;
        assert_eq!(next(&mut socket).await, Message::text(DONE));
    }
    say(&mut socket, "fail").await;
    assert_eq!(kind(&next(&mut socket).await), "error");
    assert_eq!(gateway.metric("tollgate_conversations", &[]).await, 1.0);
    assert_eq!(gateway.metric("tollgate_requests_in_flight", &[]).await, 1.0);
    socket.close(Some(CloseFrame { code: 1000.into(), reason: "bye".into() })).await.unwrap();
    while socket.next().await.is_some() {}
    assert_eq!(talker.end().await, Some(1000));

    let (path, heard) = talker.heard().remove(0);
    assert_eq!(path, "/v1/realtime?model=gpt-realtime&intent=transcription");
    assert_eq!(heard["authorization"], format!("Bearer {CANARY}"));
    assert_eq!(heard["openai-safety-identifier"], "u1");
    assert!(!heard.contains_key("x-secret-of-mine") && !heard.contains_key("sec-websocket-extensions"));
    assert!(!format!("{heard:?}").contains("sk-of-the-client"));

    let record = gateway.record(head["x-request-id"].to_str().unwrap()).await;
    let used = &record["usage"];
    assert_eq!((&used["input"], &used["cached_read"], &used["output"]), (&json!(24), &json!(16), &json!(20)));
    assert_eq!((&used["input_audio"], &used["output_audio"]), (&json!(10), &json!(12)));
    let conversed = json!({"client_events": 7, "provider_events": 8, "errors": 1, "close": 1000});
    assert_eq!(record["conversation"], conversed, "{record}");
    assert_eq!((&record["status"], &record["outcome"]), (&json!(101), &json!("ok")), "{record}");
    assert_eq!(
        (&record["facts"]["endpoint"], &record["facts"]["model"]),
        (&json!("realtime"), &json!("voice"))
    );
    let labels = ["class=\"output\"", "model=\"gpt-realtime\""];
    assert_eq!(gateway.metric("tollgate_tokens_total", &labels).await, 20.0);
    assert_eq!(gateway.metric("tollgate_conversations", &[]).await, 0.0);
    assert_eq!(gateway.access().len(), 1);
}

#[tokio::test]
async fn a_browser_says_its_key_among_the_protocols_and_it_goes_no_further() {
    let talker = Talker::start();
    let gateway = house(&talker);
    let offered = "realtime, openai-insecure-api-key.sk-of-the-client, openai-beta.realtime-v1";
    let (mut socket, head) =
        open(wish(&gateway, "?model=voice", &[("sec-websocket-protocol", offered)])).await;
    assert_eq!(head["sec-websocket-protocol"], "realtime");
    assert_eq!(kind(&next(&mut socket).await), "session.created");
    let (_, heard) = talker.heard().remove(0);
    assert_eq!(
        (&heard["sec-websocket-protocol"], &heard["openai-beta"]),
        (&"realtime".parse().unwrap(), &"realtime=v1".parse().unwrap())
    );
    assert!(!format!("{heard:?}").contains("sk-of-the-client"));
}

#[tokio::test]
async fn who_refuses_or_is_away_is_passed_over_before_the_client_hears_anything() {
    let talker = Talker::start();
    let refusing = Upstream::start(|_| acts::error(503, "no voices left"));
    let answering = Upstream::start(|_| acts::says("what is a websocket?"));
    let away = Refusing::new();
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nproviders:\n{}{}{}{}  mute: {{ dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ] }}\nmodels:\n  voice: {{ targets: [ mute/m, away/m, full/m, odd/m, up/gpt-realtime ] }}\n  full: {{ targets: [ full/m ] }}\n  mute: {{ targets: [ mute/m ] }}\n",
        realtime_provider("away", &away.url()),
        realtime_provider("full", &refusing.url()),
        realtime_provider("odd", &answering.url()),
        talker.provider("up"),
        answering.url(),
    ));
    let (mut socket, head) = open(wish(&gateway, "?model=voice", &[])).await;
    assert_eq!(
        (&head["x-tollgate-target"], &head["x-tollgate-attempts"]),
        (&"up/gpt-realtime".parse().unwrap(), &"5".parse().unwrap())
    );
    assert_eq!(kind(&next(&mut socket).await), "session.created");
    drop(socket);
    for (model, status, says) in [("full", 503, "no voices left"), ("mute", 400, "no realtime conversations")]
    {
        let (refusal, body) = refused(wish(&gateway, &format!("?model={model}"), &[])).await;
        assert_eq!(refusal, status, "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(says), "{body}");
    }
}

#[tokio::test]
async fn what_cannot_become_a_conversation_is_refused_before_it_begins() {
    let talker = Talker::start();
    let gateway = gateway::setup(&format!(
        "providers:\n{}models:\n  voice: {{ targets: [ up/gpt-realtime ] }}\n",
        talker.provider("up")
    ))
    .policy(
        "10.rhai",
        "fn on_request(req) { if req.endpoint == \"realtime\" && req.tags[\"team\"] == \"mute\" { return reject(403, \"mute\", \"not you\"); } }",
    )
    .start();
    for (query, headers, status, code) in [
        ("?model=voice", vec![("x-tollgate-tags", "team=mute")], 403, "mute"),
        ("?model=nobody", vec![], 404, "model_not_found"),
        ("", vec![], 400, "missing_required_parameter"),
    ] {
        let (refusal, body) = refused(wish(&gateway, query, &headers)).await;
        assert_eq!(refusal, status, "{query}: {body}");
        assert_eq!(body["error"]["code"], code, "{body}");
    }
    let plain = client::get(gateway.clients, "/v1/realtime?model=voice").await;
    assert_eq!((plain.status, plain.header("upgrade")), (426, "websocket"), "{plain:#?}");
    let posted = client::post(gateway.clients, "/v1/realtime?model=voice", &json!({})).await;
    assert_eq!((posted.status, posted.header("allow")), (405, "GET"));
    // The wish does not spoil an ordinary request.
    let request =
        Request::builder().uri("/v1/models").header("upgrade", "websocket").header("connection", "Upgrade");
    let models = client::open(gateway.clients, request.body(bytes::Bytes::new()).unwrap()).await.unwrap();
    assert_eq!(models.status, 200);
    assert!(talker.heard().is_empty());
}

#[tokio::test]
async fn a_side_that_leaves_takes_the_other_along() {
    let talker = Talker::start();
    let gateway = house(&talker);
    // The client vanishes.
    let (mut socket, head) = open(wish(&gateway, "?model=voice", &[])).await;
    next(&mut socket).await;
    drop(socket);
    assert_eq!(talker.end().await, Some(1001));
    let record = gateway.record(head["x-request-id"].to_str().unwrap()).await;
    assert_eq!(record["outcome"], "ok", "{record}");
    // The provider says goodbye, or does not.
    for (how, code, outcome) in [("close", 4_000, "broken"), ("vanish", 1_011, "broken")] {
        let (mut socket, head) = open(wish(&gateway, "?model=voice", &[])).await;
        next(&mut socket).await;
        say(&mut socket, how).await;
        assert_eq!(close_code(&next(&mut socket).await), Some(code), "{how}");
        while socket.next().await.is_some() {}
        let record = gateway.record(head["x-request-id"].to_str().unwrap()).await;
        assert_eq!(record["outcome"], outcome, "{record}");
    }
    assert_eq!(gateway.metric("tollgate_conversations", &[]).await, 0.0);
}

#[tokio::test]
async fn conversations_have_limits() {
    let talker = Talker::start();
    let config = |rules: &str| {
        format!(
            "realtime: {{ {rules} }}\nproviders:\n{}models:\n  voice: {{ targets: [ up/m ] }}\n",
            talker.provider("up")
        )
    };
    for (rules, large, code) in
        [("max_duration: 200ms", false, 1001), ("idle: 200ms", false, 1001), ("max_frame: 1KiB", true, 1009)]
    {
        let gateway = gateway::start(&config(rules));
        let (mut socket, _) = open(wish(&gateway, "?model=voice", &[])).await;
        next(&mut socket).await;
        if large {
            socket.send(Message::binary(vec![0; 2_000])).await.unwrap();
        }
        assert_eq!(close_code(&next(&mut socket).await), Some(code), "{rules}");
        assert!(talker.end().await.is_some());
    }
}

#[tokio::test]
async fn the_drain_waits_for_conversations_and_then_says_goodbye() {
    let talker = Talker::start();
    let mut gateway = gateway::start(&format!(
        "drain: 1s\nproviders:\n{}models:\n  voice: {{ targets: [ up/m ] }}\n",
        talker.provider("up")
    ));
    let (mut socket, _) = open(wish(&gateway, "?model=voice", &[])).await;
    next(&mut socket).await;
    gateway.terminate();
    say(&mut socket, "still.here").await;
    assert_eq!(kind(&next(&mut socket).await), "still.here");
    assert_eq!(close_code(&next(&mut socket).await), Some(1001));
    assert_eq!(talker.end().await, Some(1001));
    drop(socket);
    assert!(gateway.ended(Duration::from_secs(10)).is_some_and(|status| status.success()));
}
