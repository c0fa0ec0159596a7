//! Killing the first target in every way: the client notices nothing, or gets an honest error, never half an answer.

use std::time::{Duration, Instant};

use crate::acts;
use crate::client::{self, PATIENCE, ask, ask_stream, chat, chat_live};
use crate::gateway::{self, Gateway};
use crate::recording;
use crate::upstream::{Act, Refusing, Upstream};

/// Every way in which a first target dies before its first content. The model's name is the way.
const DEATHS: [&str; 21] = [
    "reset",
    "eof",
    "hang",
    "hang-after-head",
    "500",
    "502-html",
    "503",
    "529",
    "429",
    "429-after",
    "429-long",
    "404",
    "garbage",
    "html-200",
    "broken-json",
    "truncated",
    "redirect",
    "switching",
    "empty",
    "error-in-200",
    // The last: it takes the first provider's only key out.
    "401",
];

fn die(way: &str) -> Vec<Act> {
    let json = ("content-type", "application/json");
    match way {
        "reset" => vec![Act::Reset],
        "eof" => vec![Act::Close],
        "hang" => vec![Act::Hang],
        "hang-after-head" => {
            vec![
                Act::Write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n"
                        .to_vec(),
                ),
                Act::Hang,
            ]
        }
        "500" => acts::error(500, "boom"),
        "502-html" => acts::answer(502, &[("content-type", "text/html")], "<html>bad gateway</html>"),
        "503" => acts::error(503, "overloaded"),
        "529" => acts::error(529, "overloaded"),
        "429" => acts::error(429, "slow down"),
        "429-after" => acts::answer(429, &[json, ("retry-after", "1")], r#"{"error":{"message":"wait"}}"#),
        "429-long" => acts::answer(429, &[json, ("retry-after", "3600")], r#"{"error":{"message":"wait"}}"#),
        "401" => acts::error(401, "bad key"),
        "404" => acts::error(404, "the model does not exist"),
        "garbage" => acts::raw("\u{1}\u{2}garbage that is not HTTP at all\r\n\r\n"),
        "html-200" => acts::answer(200, &[("content-type", "text/html")], "<!doctype html><p>hello</p>"),
        "broken-json" => acts::answer(200, &[json], r#"{"choices":[{"message":{"content":"#),
        "truncated" => acts::truncated(),
        "redirect" => acts::answer(302, &[("location", "http://169.254.169.254/")], ""),
        "switching" => {
            acts::raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
        }
        "empty" => acts::answer(200, &[json], ""),
        "error-in-200" => acts::answer(200, &[json], r#"{"error":{"message":"no","type":"server_error"}}"#),
        _ => acts::says("alive"),
    }
}

/// Every way in which a stream dies before its first content.
const STREAM_DEATHS: [&str; 6] = ["cut", "reset", "hang", "error-event", "clean-end", "role-then-cut"];

fn die_streaming(way: &str) -> Vec<Act> {
    let mut script = acts::stream_head();
    match way {
        "cut" => script.push(Act::Close),
        "reset" => script.push(Act::Reset),
        "hang" => script.push(Act::Hang),
        "error-event" => {
            script.push(acts::piece(
                "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n",
            ));
        }
        "clean-end" => script.push(Act::Write(b"0\r\n\r\n".to_vec())),
        _ => {
            script.push(acts::piece(&acts::delta(
                serde_json::json!({"role": "assistant", "content": ""}),
                None,
            )));
            script.push(Act::Close);
        }
    }
    script
}

/// Two providers; the first dies the way its model is called, the second lives.
fn two() -> (Upstream, Upstream, Gateway) {
    let first = Upstream::start(|heard| {
        let model = heard.model();
        model.strip_prefix("stream-").map_or_else(|| die(&model), die_streaming)
    });
    let second = Upstream::start(|heard| {
        if heard.is_stream() { acts::says_stream(&["a", "live"]) } else { acts::says("alive") }
    });
    let mut models = String::new();
    for way in DEATHS.iter().map(ToString::to_string).chain(STREAM_DEATHS.map(|way| format!("stream-{way}")))
    {
        models
            .push_str(&format!("  \"{way}\": {{ targets: [ \"first/{way}\" ], fallback: [ second/m ] }}\n"));
    }
    let deadlines = "deadlines: { connect: 1s, first_byte: 700ms, first_token: 1s, idle: 700ms }";
    let gateway = gateway::start(&format!(
        "{deadlines}\nretries: {{ retries: 1, backoff: 20ms, max_backoff: 200ms }}\nproviders:\n{}{}models:\n{models}",
        gateway::provider("first", &first.url()),
        gateway::provider("second", &second.url()),
    ));
    (first, second, gateway)
}

#[tokio::test]
async fn a_first_target_that_dies_before_content_is_never_seen() {
    let (first, second, gateway) = two();
    for way in DEATHS {
        for stream in [false, true] {
            let question = if stream { ask_stream(way) } else { ask(way) };
            let reply = chat(gateway.clients, &question).await;
            let facts =
                if stream { recording::streamed(&reply.text()) } else { recording::whole(&reply.text()) };
            assert_eq!(
                (reply.status, facts.error.as_ref()),
                (200, None),
                "{way}, stream {stream}: {reply:#?}"
            );
            assert_eq!(facts.choices[&0].text, "alive", "{way}, stream {stream}: {reply:#?}");
            assert_eq!(facts.done, stream, "{way}: {reply:#?}");
            assert_eq!(reply.header("x-tollgate-target"), "second/m", "{way}: {reply:#?}");
            assert!(!first.heard_for(way).is_empty(), "{way}: the first target was never asked");
        }
    }
    assert_eq!(second.heard().len(), 2 * DEATHS.len());
}

#[tokio::test]
async fn a_stream_that_dies_before_content_is_never_seen() {
    let (_first, _second, gateway) = two();
    for way in STREAM_DEATHS {
        let reply = chat(gateway.clients, &ask_stream(&format!("stream-{way}"))).await;
        let facts = recording::streamed(&reply.text());
        assert_eq!(
            facts.choices.get(&0).map(|choice| choice.text.as_str()),
            Some("alive"),
            "{way}: {reply:#?}"
        );
        assert!(facts.done && facts.error.is_none() && reply.whole, "{way}: {reply:#?}");
    }
}

#[tokio::test]
async fn a_refused_connection_costs_next_to_nothing() {
    let closed = Refusing::new();
    let second = Upstream::start(|_| acts::says("alive"));
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nproviders:\n{}{}models:\n  m: {{ targets: [ first/m ], fallback: [ second/m ] }}\n",
        gateway::provider("first", &closed.url()),
        gateway::provider("second", &second.url()),
    ));
    let begun = Instant::now();
    let reply = chat(gateway.clients, &ask("m")).await;
    assert_eq!(reply.said(), "alive");
    assert_eq!(reply.header("x-tollgate-attempts"), "2", "{reply:#?}");
    assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_connection_that_went_stale_is_replaced_unseen() {
    // Closes after each answer without saying so; the gateway's pool still believes in it.
    let upstream = Upstream::start(|_| {
        let mut script = acts::says("alive");
        script.extend([Act::Pause(Duration::from_millis(20)), Act::Close]);
        script
    });
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nproviders:\n{}",
        gateway::provider("up", &upstream.url())
    ));
    for round in 0..30 {
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "alive", "round {round}");
        tokio::time::sleep(Duration::from_millis(18)).await;
    }
}

#[tokio::test]
async fn without_a_fallback_the_client_gets_an_honest_error() {
    let upstream = Upstream::start(|heard| die(&heard.model()));
    let gateway = gateway::start(&format!(
        "deadlines: {{ first_byte: 500ms, idle: 500ms }}\nretries: {{ retries: 0 }}\nproviders:\n{}",
        gateway::provider("up", &upstream.url())
    ));
    for (way, status) in [
        ("reset", 502),
        ("hang", 504),
        ("500", 500),
        ("502-html", 502),
        ("503", 503),
        ("529", 503),
        ("429", 429),
        ("401", 502),
        ("garbage", 502),
        ("html-200", 502),
        ("broken-json", 502),
        ("truncated", 502),
        ("redirect", 502),
        ("empty", 502),
    ] {
        for question in [ask(&format!("up/{way}")), ask_stream(&format!("up/{way}"))] {
            let reply = chat(gateway.clients, &question).await;
            assert_eq!(reply.status, status, "{way}: {reply:#?}");
            reply.error();
            assert!(!reply.text().contains("<html"), "{way}: {reply:#?}");
        }
    }
}

#[tokio::test]
async fn an_answer_without_a_word_is_one_only_where_tokens_were_counted_for_it() {
    let upstream = Upstream::start(|heard| match heard.json() {
        question if question["prompt"].is_string() => acts::whole(
            200,
            &serde_json::json!({"id": "c", "object": "text_completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "text": "", "finish_reason": "stop", "logprobs": null}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}}),
        ),
        question => acts::says_nothing(u64::from(heard.model() == "quiet"), question["stream"] == true),
    });
    let gateway = gateway::start(&format!(
        "state: {{ ledger: \"sqlite:ledger.db\" }}\nproviders:\n{}",
        gateway::provider("up", &upstream.url())
    ));
    for question in [ask("up/hollow"), ask_stream("up/hollow")] {
        let reply = chat(gateway.clients, &question).await;
        assert_eq!((reply.status, &reply.error()["code"]), (502, &"upstream_malformed".into()), "{reply:#?}");
        // What it was sent, it may bill.
        let record = gateway.record(reply.header("x-request-id")).await;
        assert_eq!(record["attempts"][0]["outcome"], "upstream_malformed", "{record:#}");
    }
    for question in [ask("up/quiet"), ask_stream("up/quiet")] {
        let reply = chat(gateway.clients, &question).await;
        assert_eq!((reply.status, reply.header("x-tollgate-attempts")), (200, "1"), "{reply:#?}");
    }
    let question = serde_json::json!({"model": "up/m", "prompt": "let x = 1;"});
    let reply = client::post(gateway.clients, "/v1/completions", &question).await;
    assert_eq!(reply.status, 200, "where a text goes on, nothing may be missing: {reply:#?}");
}

/// Gemini ends with `STOP` and nothing else now and then; what it used may stand in an event of its own.
#[tokio::test]
async fn a_stream_of_gemini_without_a_word_is_answered_by_the_fallback() {
    let usage = r#""usageMetadata":{"promptTokenCount":7,"totalTokenCount":7}"#;
    let stop = r#""candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP"}]"#;
    for body in
        [format!("data: {{{stop}}}\n\ndata: {{{usage}}}\n\n"), format!("data: {{{stop},{usage}}}\n\n")]
    {
        let said = body.clone();
        let first = Upstream::start(move |_| acts::stream(&said, 40));
        let second = Upstream::start(|_| acts::says_stream(&["so"]));
        let gateway = gateway::start(&format!(
            "providers:\n  google: {{ preset: gemini, base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n{}\
             models:\n  it: {{ targets: [ google/gemini-2.5-flash ], fallback: [ other/m ] }}\n",
            first.url(),
            gateway::provider("other", &second.url()),
        ));
        let reply = chat(gateway.clients, &ask_stream("it")).await;
        assert_eq!(reply.header("x-tollgate-target"), "other/m", "{body}: {reply:#?}");
        assert!(reply.text().contains("\"so\""), "{body}: {reply:#?}");
    }
}

#[tokio::test]
async fn a_429_is_passed_on_with_our_own_retry_after() {
    let upstream = Upstream::start(|heard| die(&heard.model()));
    let gateway = gateway::start(&format!("providers:\n{}", gateway::provider("up", &upstream.url())));
    let reply = chat(gateway.clients, &ask("up/429-long")).await;
    assert_eq!(reply.status, 429, "{reply:#?}");
    let after: u64 = reply.header("retry-after").parse().unwrap_or_else(|_| panic!("{reply:#?}"));
    assert!((1..=3600).contains(&after), "{reply:#?}");
}

#[tokio::test]
async fn a_retry_waits_as_long_as_the_provider_asked() {
    let upstream = Upstream::start({
        let asked = std::sync::atomic::AtomicUsize::new(0);
        move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => die("429-after"),
            _ => acts::says("alive"),
        }
    });
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 1, backoff: 10ms, max_backoff: 5s }}\nproviders:\n{}",
        gateway::provider("up", &upstream.url())
    ));
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "alive");
    let heard = upstream.heard();
    let pause = heard[1].at - heard[0].at;
    assert!(pause >= Duration::from_millis(990), "asked again after {pause:?}");
}

/// Ways in which a stream breaks after its first content.
const BREAKS: [&str; 8] =
    ["cut", "reset", "stall", "clean-end", "error-event", "malformed", "huge-line", "bad-chunk"];

fn breaks(way: &str) -> Vec<Act> {
    let mut script = acts::stream_head();
    script.push(acts::piece(&acts::events(&["half", " an"])));
    match way {
        "cut" => script.push(Act::Close),
        "reset" => script.push(Act::Reset),
        "stall" => script.push(Act::Hang),
        "clean-end" => script.push(Act::Write(b"0\r\n\r\n".to_vec())),
        "error-event" => {
            script.push(acts::piece(
                "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n",
            ));
            script.push(Act::Write(b"0\r\n\r\n".to_vec()));
        }
        "malformed" => {
            script.push(acts::piece("data: {\"choices\":[{\"index\":0,\"delta\":{\n\ndata: [DONE]\n\n"))
        }
        "huge-line" => script.push(acts::piece(&format!("data: \"{}\"\n\n", "x".repeat(3 << 20)))),
        _ => script.push(Act::Write(b"zz\r\nnot a chunk\r\n".to_vec())),
    }
    script
}

#[tokio::test]
async fn a_stream_that_breaks_after_content_ends_with_an_error_and_never_with_done() {
    let first = Upstream::start(|heard| breaks(&heard.model()));
    let second = Upstream::start(|_| acts::says_stream(&["never", " this"]));
    let mut models = String::new();
    for way in BREAKS {
        models.push_str(&format!("  {way}: {{ targets: [ first/{way} ], fallback: [ second/m ] }}\n"));
    }
    let gateway = gateway::start(&format!(
        "deadlines: {{ idle: 500ms }}\nproviders:\n{}{}models:\n{models}",
        gateway::provider("first", &first.url()),
        gateway::provider("second", &second.url()),
    ));
    for way in BREAKS {
        let reply = chat(gateway.clients, &ask_stream(way)).await;
        let facts = recording::streamed(&reply.text());
        assert_eq!(facts.choices[&0].text, "half an", "{way}: {reply:#?}");
        assert_eq!(facts.choices[&0].finish, None, "{way}: {reply:#?}");
        assert!(!facts.done && facts.oddities.is_empty(), "{way}: {reply:#?}");
        let error = facts.error.unwrap_or_else(|| panic!("{way}: no error event in {reply:#?}"));
        assert!(error["message"].is_string() && error["type"].is_string(), "{way}: {error}");
        let record = gateway.record(reply.header("x-request-id")).await;
        assert!(record.to_string().contains(r#""outcome":"broken""#), "{way}: {record:#}");
    }
    assert!(second.heard().is_empty(), "content had gone out: there is no way back");
}

#[tokio::test]
async fn a_finish_without_done_is_a_complete_answer() {
    let upstream = Upstream::start(|_| {
        let text =
            format!("{}{}", acts::events(&["hel", "lo"]), acts::ENDING.replace("data: [DONE]\n\n", ""));
        acts::stream(&text, usize::MAX)
    });
    let gateway = gateway::start(&format!("providers:\n{}", gateway::provider("up", &upstream.url())));
    let facts = recording::streamed(&chat(gateway.clients, &ask_stream("up/m")).await.text());
    assert!(facts.done && facts.error.is_none(), "{facts:#?}");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_provider_at_once() {
    let upstream = Upstream::start(|heard| match heard.model().as_str() {
        "silent" => vec![Act::Hang],
        _ => {
            let mut script = acts::stream_head();
            script.push(acts::piece(&acts::events(&["first"])));
            script.push(Act::Hang);
            script
        }
    });
    let gateway = gateway::start(&format!("providers:\n{}", gateway::provider("up", &upstream.url())));
    let left = |model: &'static str| {
        let upstream = &upstream;
        client::eventually("the provider to be left", move || upstream.heard_for(model).first()?.left)
    };

    let mut live = chat_live(gateway.clients, &ask_stream("up/speaking")).await;
    live.until("first").await;
    let gone = Instant::now();
    drop(live);
    assert!(left("speaking").await - gone < Duration::from_millis(500));

    let question = ask("up/silent");
    let waiting = tokio::time::timeout(Duration::from_millis(300), chat(gateway.clients, &question)).await;
    let gone = Instant::now();
    assert!(waiting.is_err(), "the provider never answers");
    assert!(left("silent").await - gone < Duration::from_millis(500));
    client::eventually("records of the cancelled requests", || {
        let lines = gateway.access();
        (lines.iter().filter(|line| line.to_string().contains(r#""outcome":"cancelled""#)).count() == 2)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_trickle_is_ended_by_the_total_deadline() {
    let upstream = Upstream::start(|_| acts::trickle(acts::says("slow"), Duration::from_millis(100)));
    let gateway = gateway::start(&format!(
        "deadlines: {{ total: 1s }}\nproviders:\n{}",
        gateway::provider("up", &upstream.url())
    ));
    let begun = Instant::now();
    let reply = chat(gateway.clients, &ask("up/m")).await;
    assert_eq!(reply.status, 504, "{reply:#?}");
    assert!(begun.elapsed() < Duration::from_secs(3) && begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_breaks_behind_the_end_of_a_stream_breaks_nothing() {
    let stream = format!("{}{}", acts::events(&["all", " of it"]), acts::ENDING);
    let upstream = Upstream::start(move |_| {
        // Without the end of the body.
        let mut acts = acts::stream_open(&stream, usize::MAX);
        acts.push(Act::Close);
        acts
    });
    let gateway = gateway::start(&format!("providers:\n{}", gateway::provider("up", &upstream.url())));
    let messages = serde_json::json!([{ "role": "user", "content": "hello" }]);
    for (path, end) in
        [("/v1/chat/completions", "data: [DONE]\n\n"), ("/v1/messages", "\"message_stop\"}\n\n")]
    {
        let body =
            serde_json::json!({ "model": "up/m", "max_tokens": 9, "messages": messages, "stream": true });
        let reply = client::post(gateway.clients, path, &body).await;
        let text = reply.text();
        assert!(reply.whole && text.ends_with(end) && !text.contains("\"error\""), "{text}");
        let record = gateway.record(reply.header("x-request-id")).await;
        assert_eq!(record["outcome"], "ok", "{record}");
    }
}
