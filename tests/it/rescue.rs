//! A failover benchmark against ourselves: every fault that a provider can show, with the configuration that a stranger
//! would write, at all four doors, whole and streamed. What can be rescued is; what cannot is never called complete.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply};
use crate::gateway::{self, Gateway, provider};
use crate::upstream::{Act, Refusing, Upstream};

/// The doors, as clients know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Chat,
    Messages,
    Responses,
    Gemini,
}

const DOORS: [Door; 4] = [Door::Chat, Door::Messages, Door::Responses, Door::Gemini];

/// What a client takes from an answer.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    text: String,
    /// Whether it came to its normal end.
    complete: bool,
    /// Whether it says that something went wrong.
    failed: bool,
    model: String,
    /// Tokens of prompt and answer.
    tokens: (u64, u64),
}

impl Door {
    fn request(self, model: &str, stream: bool) -> (String, Value) {
        let messages = json!([{ "role": "user", "content": "hello" }]);
        match self {
            Self::Chat => (
                "/v1/chat/completions".into(),
                json!({ "model": model, "messages": messages, "stream": stream, "stream_options": { "include_usage": true } }),
            ),
            Self::Messages => (
                "/v1/messages".into(),
                json!({ "model": model, "max_tokens": 100, "messages": messages, "stream": stream }),
            ),
            Self::Responses => {
                ("/v1/responses".into(), json!({ "model": model, "input": "hello", "stream": stream }))
            }
            Self::Gemini => {
                let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
                let contents = json!([{ "role": "user", "parts": [{ "text": "hello" }] }]);
                (format!("/v1beta/models/{model}:{method}"), json!({ "contents": contents }))
            }
        }
    }

    async fn ask(self, gateway: &Gateway, model: &str, stream: bool, headers: &[(&str, &str)]) -> Reply {
        let (path, mut body) = self.request(model, stream);
        if self == Self::Chat && !stream {
            body.as_object_mut().unwrap().remove("stream_options");
        }
        let mut request = client::request(Method::POST, &path, &body.to_string());
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        client::open(gateway.clients, request).await.unwrap().rest().await
    }

    /// Reads an answer as this door's own clients do.
    fn hear(self, reply: &Reply, stream: bool) -> Heard {
        let mut heard = Heard { failed: reply.status != 200, ..Heard::default() };
        if !stream {
            return match serde_json::from_slice::<Value>(&reply.body) {
                Ok(answer) if reply.status == 200 => self.whole(&answer),
                _ => heard,
            };
        }
        for event in reply.text().split("\n\n").flat_map(|part| part.split("\r\n\r\n")) {
            let Some(data) = event.lines().find_map(|line| line.strip_prefix("data:")) else { continue };
            match (data.trim(), serde_json::from_str::<Value>(data)) {
                ("[DONE]", _) => heard.complete = true,
                (_, Ok(event)) => self.event(&event, &mut heard),
                _ => panic!("{self:?}: not JSON: {data}"),
            }
        }
        heard
    }

    fn whole(self, answer: &Value) -> Heard {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let tokens = |usage: &Value, names: [&str; 2]| {
            let [prompt, answer] = names.map(|name| usage[name].as_u64().unwrap_or_default());
            (prompt, answer)
        };
        let (said, end, model, tokens) = match self {
            Self::Chat => {
                let choice = &answer["choices"][0];
                let tokens = tokens(&answer["usage"], ["prompt_tokens", "completion_tokens"]);
                (&choice["message"]["content"], choice["finish_reason"] == "stop", &answer["model"], tokens)
            }
            Self::Messages => {
                let tokens = tokens(&answer["usage"], ["input_tokens", "output_tokens"]);
                let end = answer["stop_reason"] == "end_turn";
                (&answer["content"][0]["text"], end, &answer["model"], tokens)
            }
            Self::Responses => {
                let message = answer["output"].as_array().unwrap().last().unwrap();
                let tokens = tokens(&answer["usage"], ["input_tokens", "output_tokens"]);
                (&message["content"][0]["text"], answer["status"] == "completed", &answer["model"], tokens)
            }
            Self::Gemini => {
                let candidate = &answer["candidates"][0];
                let tokens = tokens(&answer["usageMetadata"], ["promptTokenCount", "candidatesTokenCount"]);
                let end = candidate["finishReason"] == "STOP";
                (&candidate["content"]["parts"][0]["text"], end, &answer["modelVersion"], tokens)
            }
        };
        Heard { text: text(said), complete: end, failed: false, model: text(model), tokens }
    }

    fn event(self, event: &Value, heard: &mut Heard) {
        let mut say = |value: &Value| heard.text.push_str(value.as_str().unwrap_or_default());
        match self {
            Self::Chat => {
                say(&event["choices"][0]["delta"]["content"]);
                heard.failed |= event["error"].is_object();
            }
            Self::Messages => {
                say(&event["delta"]["text"]);
                heard.failed |= event["type"] == "error";
                heard.complete |= event["type"] == "message_stop";
            }
            Self::Responses => {
                if event["type"] == "response.output_text.delta" {
                    say(&event["delta"]);
                }
                heard.failed |= event["type"] == "response.failed" || event["type"] == "error";
                if event["type"] == "response.completed" {
                    // The last event says all of it again.
                    let whole = self.whole(&event["response"]);
                    assert_eq!(whole.text, heard.text, "{event:#}");
                    *heard = whole;
                }
            }
            Self::Gemini => {
                for part in event["candidates"][0]["content"]["parts"].as_array().into_iter().flatten() {
                    say(&part["text"]);
                }
                heard.failed |= event["error"].is_object();
                heard.complete |= event["candidates"][0]["finishReason"] == "STOP";
            }
        }
        let model = [&event["model"], &event["message"]["model"], &event["modelVersion"]];
        if let Some(model) = model.into_iter().find_map(Value::as_str).filter(|model| !model.is_empty()) {
            model.clone_into(&mut heard.model);
        }
        for (usage, names) in [
            (&event["usage"], ["prompt_tokens", "completion_tokens"]),
            (&event["usage"], ["input_tokens", "output_tokens"]),
            (&event["usageMetadata"], ["promptTokenCount", "candidatesTokenCount"]),
        ] {
            if let [Some(prompt), Some(answer)] = names.map(|name| usage[name].as_u64()) {
                heard.tokens = (prompt, answer);
            }
        }
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// Faults before the first content, each answered at once.
const FAULTS: [&str; 22] = [
    "reset",
    "closed",
    "500",
    "502-html",
    "503",
    "503-after",
    "504",
    "529",
    "429",
    "429-after-2",
    "429-after-60",
    "404",
    "empty-200",
    "garbage-json",
    "truncated-json",
    "html-200",
    "wrong-shape",
    "only-done",
    "says-nothing",
    "cut-before-content",
    "role-then-cut",
    "error-event",
];

fn fails(way: &str, stream: bool) -> Vec<Act> {
    let overloaded = r#"{"error":{"message":"overloaded","type":"server_error"}}"#;
    match way {
        "reset" => vec![Act::Reset],
        "closed" => vec![Act::Close],
        "502-html" => acts::answer(502, &[("content-type", "text/html")], "<html>bad gateway</html>"),
        "503-after" => acts::answer(503, &[JSON, ("retry-after", "2")], overloaded),
        "429-after-2" => acts::answer(429, &[JSON, ("retry-after", "2")], overloaded),
        "429-after-60" => acts::answer(429, &[JSON, ("retry-after", "60")], overloaded),
        "404" => acts::error(404, "the model does not exist"),
        "empty-200" => acts::answer(200, &[JSON], ""),
        "garbage-json" => acts::answer(200, &[JSON], "}{ nothing that anybody could read"),
        "truncated-json" => acts::truncated(),
        "html-200" => acts::answer(200, &[("content-type", "text/html")], "<!doctype html><p>hello</p>"),
        "wrong-shape" => acts::answer(200, &[JSON], r#"{"hello":"world"}"#),
        "says-nothing" => acts::says_nothing(0, stream),
        "only-done" if stream => acts::stream("data: [DONE]\n\n", usize::MAX),
        "cut-before-content" if stream => [acts::stream_head(), vec![Act::Close]].concat(),
        "role-then-cut" if stream => {
            let role = acts::delta(json!({ "role": "assistant", "content": "" }), None);
            [acts::stream_open(&role, usize::MAX), vec![Act::Close]].concat()
        }
        "error-event" if stream => acts::stream(&format!("data: {overloaded}\n\n"), usize::MAX),
        "error-event" => acts::answer(200, &[JSON], overloaded),
        "only-done" | "cut-before-content" | "role-then-cut" => acts::truncated(),
        status => acts::error(status.parse().unwrap(), "boom"),
    }
}

/// Says `rescued` as the model `fallback-9`.
fn fallback() -> Upstream {
    Upstream::start(|heard| {
        if heard.is_stream() {
            let text = format!("{}{}", acts::events(&["res", "cued"]), acts::ENDING);
            return acts::stream(&text.replace(r#""model":"m""#, r#""model":"fallback-9""#), usize::MAX);
        }
        let mut answer = acts::completion("rescued");
        answer["model"] = json!("fallback-9");
        acts::whole(200, &answer)
    })
}

/// As a stranger would write it: two targets, and nothing else.
fn house(first: &str, faults: &[&str], second: &str, more: &str) -> Gateway {
    let models: String =
        faults.iter().map(|way| format!("  {way}: {{ targets: [ first/{way}, second/m ] }}\n")).collect();
    gateway::start(&format!(
        "{more}providers:\n{}{}models:\n{models}",
        provider("first", first),
        provider("second", second)
    ))
}

#[track_caller]
fn assert_rescued(door: Door, stream: bool, way: &str, reply: &Reply) {
    let heard = door.hear(reply, stream);
    let (text, model) = ("rescued".into(), "fallback-9".into());
    let expected = Heard { text, complete: true, failed: false, model, tokens: (7, 3) };
    assert_eq!(heard, expected, "{way} at {door:?}, stream {stream}: {reply:#?}");
    assert_eq!(reply.header("x-tollgate-target"), "second/m", "{way} at {door:?}: {reply:#?}");
}

#[tokio::test]
async fn every_fault_before_content_is_rescued_at_every_door_with_the_defaults() {
    let first = Upstream::start(|heard| fails(&heard.model(), heard.is_stream()));
    let second = fallback();
    let gateway = house(&first.url(), &FAULTS, &second.url(), "");
    for way in FAULTS {
        for door in DOORS {
            for stream in [false, true] {
                let (before, begun) = (first.heard_for(way).len(), Instant::now());
                let reply = door.ask(&gateway, way, stream, &[]).await;
                assert_rescued(door, stream, way, &reply);
                assert!(begun.elapsed() < Duration::from_millis(1_500), "{way}: {:?}", begun.elapsed());
                let asked = first.heard_for(way).len() - before;
                assert!(asked <= 2, "{way} at {door:?}: asked {asked} times");
            }
        }
        assert!(!first.heard_for(way).is_empty(), "{way} was never tried");
    }
}

#[tokio::test]
async fn refused_connections_and_refused_keys_are_rescued_at_every_door_with_the_defaults() {
    let (closed, second) = (Refusing::new(), fallback());
    let [unknown, forbidden] = [401, 403].map(|status| Upstream::start(move |_| acts::error(status, "no")));
    for first in [closed.url(), unknown.url(), forbidden.url()] {
        let gateway = house(&first, &["m"], &second.url(), "");
        for door in DOORS {
            for stream in [false, true] {
                let begun = Instant::now();
                assert_rescued(door, stream, &first, &door.ask(&gateway, "m", stream, &[]).await);
                assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
            }
        }
    }
    for locked in [unknown, forbidden] {
        assert_eq!(locked.heard().len(), 1, "the key is out after its first refusal");
    }
}

/// Ways to be silent.
const SILENCES: [&str; 4] = ["before-the-head", "behind-the-head", "trickles", "pings"];

fn silent(way: &str, stream: bool) -> Vec<Act> {
    let pause = Duration::from_millis(100);
    match way {
        "before-the-head" => vec![Act::Hang],
        "behind-the-head" if stream => [acts::stream_head(), vec![Act::Hang]].concat(),
        "behind-the-head" => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{";
            vec![Act::Write(head.into()), Act::Hang]
        }
        "pings" if stream => {
            let pings = (0..100).flat_map(|_| [acts::piece(": ping\n\n"), Act::Pause(pause)]);
            acts::stream_head().into_iter().chain(pings).collect()
        }
        _ if stream => acts::trickle(acts::says_stream(&["too", " late"]), pause),
        _ => acts::trickle(acts::says("too late"), pause),
    }
}

#[tokio::test]
async fn a_silent_target_is_left_in_time_and_not_asked_again() {
    let first = Upstream::start(|heard| silent(&heard.model(), heard.is_stream()));
    let second = fallback();
    let gateway = house(&first.url(), &SILENCES, &second.url(), "deadlines: { handover: 500ms }\n");
    for way in SILENCES {
        for door in DOORS {
            let asked = [false, true].map(|stream| {
                let gateway = &gateway;
                async move {
                    let begun = Instant::now();
                    (stream, door.ask(gateway, way, stream, &[]).await, begun.elapsed())
                }
            });
            let [whole, streamed] = asked;
            let (whole, streamed) = tokio::join!(whole, streamed);
            for (stream, reply, took) in [whole, streamed] {
                assert_rescued(door, stream, way, &reply);
                assert_eq!(reply.header("x-tollgate-attempts"), "2", "{way}: {reply:#?}");
                let (least, most) = (Duration::from_millis(490), Duration::from_millis(1_200));
                assert!(took >= least && took < most, "{way} at {door:?}, stream {stream}: {took:?}");
            }
        }
    }
    let most = 2 * DOORS.len();
    for way in SILENCES {
        assert!(first.heard_for(way).len() <= most, "{way}: a silent target was asked again");
    }
}

#[tokio::test]
async fn a_clients_patience_is_shared_among_the_targets_and_blames_nobody() {
    let hangs = Upstream::start(|_| vec![Act::Hang]);
    let second = fallback();
    let gateway = gateway::start(&format!(
        "providers:\n{}{}models:\n  two: {{ targets: [ first/a, second/m ] }}\n  three: {{ targets: [ first/a, first/b, second/m ] }}\n",
        provider("first", &hangs.url()),
        provider("second", &second.url()),
    ));
    let patience = [("x-tollgate-timeout", "1s")];
    for (model, least, attempts) in [("two", 490, "2"), ("three", 740, "3")] {
        for stream in [false, true] {
            let begun = Instant::now();
            let reply = Door::Chat.ask(&gateway, model, stream, &patience).await;
            let took = begun.elapsed();
            assert_rescued(Door::Chat, stream, model, &reply);
            assert_eq!(reply.header("x-tollgate-attempts"), attempts, "{reply:#?}");
            assert!(took >= Duration::from_millis(least) && took < Duration::from_secs(1), "{took:?}");
        }
    }
    // However impatient clients are, they close no target for others.
    for _ in 0..10 {
        Door::Chat.ask(&gateway, "two", false, &[("x-tollgate-timeout", "40ms")]).await;
    }
    let providers = client::get(gateway.admin, "/admin/v1/providers").await.text();
    assert!(!providers.contains(r#""state":"open""#), "{providers}");
}

#[tokio::test]
async fn a_provider_that_asks_for_a_pause_gets_it_only_when_nobody_else_is_left() {
    let limited = |answers: usize| {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        Upstream::start(move |_| {
            let before = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if before < answers { fails("429-after-2", false) } else { acts::says("after the pause") }
        })
    };
    // The fallback fails, too: then it is waited for.
    let first = limited(1);
    let second = Upstream::start(|_| acts::error(400, "not for me"));
    let broken = Upstream::start(|_| fails("garbage-json", false));
    let gateway = gateway::start(&format!(
        "providers:\n{}{}{}models:\n  m: {{ targets: [ first/m, broken/m ] }}\n  refused: {{ targets: [ first/m, second/m ] }}\n",
        provider("first", &first.url()),
        provider("second", &second.url()),
        provider("broken", &broken.url()),
    ));
    let begun = Instant::now();
    let reply = Door::Chat.ask(&gateway, "m", false, &[]).await;
    assert_eq!(reply.said(), "after the pause", "{reply:#?}");
    assert_eq!((first.heard().len(), broken.heard().len()), (2, 1));
    assert!(begun.elapsed() >= Duration::from_millis(1_990), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_target_that_flaps_is_in_use_again_within_thirty_seconds_with_the_defaults() {
    let down = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let state = down.clone();
    let first = Upstream::start(move |_| {
        if state.load(std::sync::atomic::Ordering::SeqCst) {
            fails("500", false)
        } else {
            acts::says("first")
        }
    });
    let second = Upstream::start(|_| acts::says("second"));
    let gateway = house(&first.url(), &["m"], &second.url(), "");
    for _ in 0..10 {
        assert_eq!(Door::Chat.ask(&gateway, "m", false, &[]).await.said(), "second");
    }
    let asked = first.heard().len();
    assert!(asked <= 8, "its breaker is open: {asked}");
    down.store(false, std::sync::atomic::Ordering::SeqCst);
    let begun = Instant::now();
    loop {
        let reply = Door::Chat.ask(&gateway, "m", false, &[]).await;
        if reply.said() == "first" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it never came back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..5 {
        assert_eq!(Door::Chat.ask(&gateway, "m", false, &[]).await.said(), "first");
    }
}

/// Ways in which a stream breaks off after its first content.
const BREAKS: [&str; 5] = ["cut", "reset", "clean-end", "error-event", "stall"];

fn breaks(way: &str) -> Vec<Act> {
    let mut script = acts::stream_open(&acts::events(&["half ", "of"]), usize::MAX);
    script.push(Act::Pause(Duration::from_millis(20)));
    match way {
        "cut" => script.push(Act::Close),
        "reset" => script.push(Act::Reset),
        "clean-end" => script.push(Act::Write(b"0\r\n\r\n".to_vec())),
        "error-event" => script.push(acts::piece(
            "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n",
        )),
        _ => script.push(Act::Hang),
    }
    script
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_completed_where_a_target_can_go_on_and_else_never_called_complete() {
    let first = Upstream::start(|heard| breaks(&heard.model()));
    let second = Upstream::start(|_| acts::says_stream(&[" the", " whole"]));
    let mut models = String::new();
    for way in BREAKS {
        models.push_str(&format!(
            "  {way}: {{ targets: [ first/{way}, second/m ] }}\n  {way}-on: {{ targets: [ first/{way}, {{ to: second/m, continue: true }} ] }}\n"
        ));
    }
    let gateway = gateway::start(&format!(
        "deadlines: {{ idle: 400ms }}\nbreaker: {{ enabled: false }}\nproviders:\n{}{}models:\n{models}",
        provider("first", &first.url()),
        provider("second", &second.url()),
    ));
    for way in BREAKS {
        for door in DOORS {
            let reply = door.ask(&gateway, way, true, &[]).await;
            let heard = door.hear(&reply, true);
            assert_eq!(
                (heard.text.as_str(), heard.complete, heard.failed),
                ("half of", false, true),
                "{way} at {door:?}: {reply:#?}"
            );
            let reply = door.ask(&gateway, &format!("{way}-on"), true, &[]).await;
            let heard = door.hear(&reply, true);
            assert_eq!(
                (heard.text.as_str(), heard.complete, heard.failed),
                ("half of the whole", true, false),
                "{way} at {door:?}: {reply:#?}"
            );
            one_stream(door, &reply);
        }
    }
    let asked = second.heard();
    assert_eq!(asked.len(), BREAKS.len() * DOORS.len());
    for heard in asked {
        let last = heard.json()["messages"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(
            (&last["role"], last["content"].to_string().contains("half of")),
            (&json!("assistant"), true)
        );
    }
}

/// What a client must not notice: that its stream has two halves.
fn one_stream(door: Door, reply: &Reply) {
    let text = reply.text();
    let count = |part: &str| text.matches(part).count();
    match door {
        Door::Chat => assert_eq!(count("[DONE]"), 1, "{text}"),
        Door::Messages => {
            for part in ["event: message_start", "event: content_block_start", "event: content_block_stop"] {
                assert_eq!(count(part), 1, "{part}: {text}");
            }
        }
        Door::Responses => {
            for part in ["event: response.created", "event: response.output_item.added"] {
                assert_eq!(count(part), 1, "{part}: {text}");
            }
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
            let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64()).collect();
            assert_eq!(numbers, (0..events.len() as u64).map(Some).collect::<Vec<_>>(), "{text}");
            let ids: std::collections::BTreeSet<_> =
                events.iter().filter_map(|event| event["item_id"].as_str()).collect();
            assert_eq!(ids.len(), 1, "{text}");
            let created = &events[0]["response"]["id"];
            assert_eq!(&events.last().unwrap()["response"]["id"], created, "{text}");
        }
        Door::Gemini => assert_eq!(count("\"finishReason\""), 1, "{text}"),
    }
}

/// The beginning of an answer as the vendor of this dialect would stream it.
fn native(dialect: &str) -> String {
    let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    let begun = |name: &str, more: Value| {
        let mut data = json!({ "type": name });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event(name, data)
    };
    match dialect {
        "anthropic" => {
            let message = json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
                "content": [], "stop_reason": null, "usage": { "input_tokens": 7, "output_tokens": 1 } });
            [
                begun("message_start", json!({ "message": message })),
                begun(
                    "content_block_start",
                    json!({ "index": 0, "content_block": { "type": "text", "text": "" } }),
                ),
                begun(
                    "content_block_delta",
                    json!({ "index": 0, "delta": { "type": "text_delta", "text": "half of" } }),
                ),
            ]
            .concat()
        }
        "openai-responses" => {
            let response = json!({ "id": "resp_1", "object": "response", "created_at": 1, "status": "in_progress",
                "model": "m", "output": [] });
            let item = json!({ "id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": [] });
            let part = json!({ "type": "output_text", "text": "", "annotations": [] });
            [
                begun("response.created", json!({ "sequence_number": 0, "response": response })),
                begun(
                    "response.output_item.added",
                    json!({ "sequence_number": 1, "output_index": 0, "item": item }),
                ),
                begun(
                    "response.content_part.added",
                    json!({ "sequence_number": 2, "item_id": "msg_1",
                    "output_index": 0, "content_index": 0, "part": part }),
                ),
                begun(
                    "response.output_text.delta",
                    json!({ "sequence_number": 3, "item_id": "msg_1",
                    "output_index": 0, "content_index": 0, "delta": "half of" }),
                ),
            ]
            .concat()
        }
        _ => {
            let candidate =
                json!({ "content": { "parts": [{ "text": "half of" }], "role": "model" }, "index": 0 });
            format!("data: {}\r\n\r\n", json!({ "candidates": [candidate], "modelVersion": "m" }))
        }
    }
}

#[tokio::test]
async fn a_stream_in_the_clients_own_dialect_goes_on_at_a_target_of_another() {
    for (dialect, door) in
        [("anthropic", Door::Messages), ("openai-responses", Door::Responses), ("gemini", Door::Gemini)]
    {
        let first = Upstream::start(move |_| {
            let mut script = acts::stream_open(&native(dialect), usize::MAX);
            script.extend([Act::Pause(Duration::from_millis(20)), Act::Close]);
            script
        });
        let second = Upstream::start(|_| acts::says_stream(&[" the", " whole"]));
        let gateway = gateway::start(&format!(
            "providers:\n  first: {{ dialect: {dialect}, base_url: \"http://{}\", keys: [ env:TEST_KEY ] }}\n{}\
             models:\n  m: {{ targets: [ first/m, {{ to: second/m, continue: true }} ] }}\n",
            first.address,
            provider("second", &second.url()),
        ));
        let reply = door.ask(&gateway, "m", true, &[]).await;
        let heard = door.hear(&reply, true);
        assert_eq!(
            (heard.text.as_str(), heard.complete, heard.failed),
            ("half of the whole", true, false),
            "{dialect}: {reply:#?}"
        );
        one_stream(door, &reply);
    }
}

#[tokio::test]
async fn an_array_of_gemini_goes_on_as_one_array() {
    let first = Upstream::start(|_| breaks("cut"));
    let second = Upstream::start(|_| acts::says_stream(&[" the", " whole"]));
    let gateway = gateway::start(&format!(
        "providers:\n{}{}models:\n  m: {{ targets: [ first/m, {{ to: second/m, continue: true }} ] }}\n",
        provider("first", &first.url()),
        provider("second", &second.url()),
    ));
    let contents = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hello" }] }] });
    let reply = client::post(gateway.clients, "/v1beta/models/m:streamGenerateContent", &contents).await;
    let answer = reply.json();
    let documents = answer.as_array().unwrap_or_else(|| panic!("{reply:#?}"));
    let text: String = documents
        .iter()
        .filter_map(|one| one["candidates"][0]["content"]["parts"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "half of the whole", "{reply:#?}");
}

#[tokio::test]
async fn a_response_that_went_on_elsewhere_is_kept_as_one() {
    let first = Upstream::start(|_| breaks("cut"));
    let second = Upstream::start(|heard| {
        if heard.is_stream() { acts::says_stream(&[" the", " whole"]) } else { acts::says("next") }
    });
    let gateway = gateway::start(&format!(
        "providers:\n{}{}models:\n  m: {{ targets: [ first/m, {{ to: second/m, continue: true }} ] }}\n",
        provider("first", &first.url()),
        provider("second", &second.url()),
    ));
    let reply = Door::Responses.ask(&gateway, "m", true, &[]).await;
    let last = reply.text().lines().rev().find_map(|line| line.strip_prefix("data: ").map(str::to_owned));
    let last: Value = serde_json::from_str(&last.unwrap()).unwrap();
    let id = last["response"]["id"].as_str().unwrap();
    let next = json!({ "model": "second/m", "input": "and then?", "previous_response_id": id });
    assert_eq!(client::post(gateway.clients, "/v1/responses", &next).await.status, 200);
    let heard = second.heard();
    let said: Vec<_> = heard.last().unwrap().json()["messages"].as_array().unwrap().clone();
    let turns: Vec<_> = said.iter().map(|turn| turn["content"].as_str().unwrap_or_default()).collect();
    assert_eq!(turns, ["hello", "half of the whole", "and then?"], "{said:#?}");
}

#[tokio::test]
async fn a_stalled_stream_is_answered_by_its_standby_within_the_limit() {
    let first = Upstream::start(|heard| silent(&heard.model(), heard.is_stream()));
    let second = fallback();
    let models: String = SILENCES
        .iter()
        .map(|way| format!("  {way}: {{ targets: [ first/{way}, second/m ], standby: p95 }}\n"))
        .collect();
    let limit = Duration::from_millis(800);
    let gateway = gateway::start(&format!(
        "deadlines: {{ first_token: 800ms }}\nproviders:\n{}{}models:\n{models}",
        provider("first", &first.url()),
        provider("second", &second.url()),
    ));
    for way in SILENCES {
        for door in DOORS {
            let begun = Instant::now();
            let reply = door.ask(&gateway, way, true, &[]).await;
            let took = begun.elapsed();
            assert_rescued(door, true, way, &reply);
            assert!(took < limit + Duration::from_millis(50), "{way} at {door:?}: {took:?}");
        }
    }
}
