//! Speech and transcription: forms that are sent on while they arrive, sound that comes as it is.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::json;

use crate::acts;
use crate::client::{self, Reply, eventually, post};
use crate::gateway::{self, Gateway, provider};
use crate::passthrough::noise;
use crate::sink::{Sender, Sink};
use crate::upstream::{Heard, Refusing, Upstream};

/// A form of these fields, a file and these fields behind it.
pub fn form(before: &[(&str, &str)], file: &[u8], after: &[(&str, &str)]) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| {
        format!("--b0und\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").into_bytes()
    };
    let mut form: Vec<u8> = before.iter().flat_map(field).collect();
    form.extend_from_slice(b"--b0und\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n");
    form.extend_from_slice(file);
    form.extend_from_slice(b"\r\n");
    form.extend(after.iter().flat_map(field));
    form.extend_from_slice(b"--b0und--\r\n");
    form
}

pub async fn post_form(gateway: &Gateway, path: &str, form: Vec<u8>) -> Reply {
    let request = Request::builder()
        .method("POST")
        .uri(path)
        .header("content-type", "multipart/form-data; boundary=b0und")
        .body(Bytes::from(form))
        .unwrap();
    client::open(gateway.clients, request).await.expect("an answer").rest().await
}

const TRANSCRIPT: &str = r#"{"text":"hi","usage":{"type":"tokens","input_tokens":14,"output_tokens":2,"total_tokens":16,"input_token_details":{"text_tokens":4,"audio_tokens":10}}}"#;

fn play(heard: &Heard) -> Vec<crate::upstream::Act> {
    let json = [("content-type", "application/json")];
    if heard.path.ends_with("/audio/speech") {
        return acts::answer(200, &[("content-type", "audio/mpeg")], noise(70_000));
    }
    let body = String::from_utf8_lossy(&heard.body).into_owned();
    if body.contains("name=\"stream\"") {
        let events = "event: transcript.text.delta\ndata: {\"type\":\"transcript.text.delta\",\"delta\":\"hi\"}\n\nevent: transcript.text.done\ndata: {\"type\":\"transcript.text.done\",\"text\":\"hi\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"output_tokens\":2}}\n\n";
        return acts::stream(events, 11);
    }
    if body.contains("srt") {
        return acts::answer(
            200,
            &[("content-type", "text/plain; charset=utf-8")],
            "1\n00:00 --> 00:01\nhi\n",
        );
    }
    if body.contains("verbose_json") {
        return acts::answer(200, &json, r#"{"text":"hi","usage":{"type":"duration","seconds":3}}"#);
    }
    if body.contains("fails") {
        return acts::error(400, "the audio file is broken");
    }
    acts::answer(200, &json, TRANSCRIPT)
}

fn house(upstream: &Upstream) -> Gateway {
    gateway::start(&format!(
        "retries: {{ retries: 0 }}\nproviders:\n{}models:\n  ear: {{ targets: [ up/whisper-1 ] }}\n",
        provider("up", &upstream.url())
    ))
}

#[tokio::test]
async fn a_form_goes_on_byte_for_byte_but_for_its_model() {
    let upstream = Upstream::start(play);
    let gateway = house(&upstream);
    let sound = noise(5_000);
    let extra = [("language", "de"), ("timestamp_granularities[]", "word")];
    for (before, after) in
        [(vec![("model", "ear")], extra.to_vec()), (extra.to_vec(), vec![("model", "ear")])]
    {
        let reply = post_form(&gateway, "/v1/audio/transcriptions", form(&before, &sound, &after)).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, TRANSCRIPT), "{reply:#?}");
        let theirs = |fields: &[(&'static str, &'static str)]| -> Vec<(&'static str, &'static str)> {
            fields.iter().map(|(n, v)| (*n, if *n == "model" { "whisper-1" } else { *v })).collect()
        };
        let heard = upstream.heard().pop().unwrap();
        assert_eq!(heard.path, "/v1/audio/transcriptions");
        assert!(
            heard.body == form(&theirs(&before), &sound, &theirs(&after)),
            "{:.400}",
            String::from_utf8_lossy(&heard.body)
        );
        assert_eq!(heard.header("content-type"), Some("multipart/form-data; boundary=b0und"));
        assert_eq!(heard.header("content-length"), Some(heard.body.len().to_string().as_str()));
        let record = gateway.record(reply.header("x-request-id")).await;
        let used = &record["usage"];
        assert_eq!(
            (&used["input"], &used["input_audio"], &used["output"]),
            (&json!(14), &json!(10), &json!(2))
        );
        assert_eq!(record["facts"]["endpoint"], "transcription");
    }
}

#[tokio::test]
async fn a_transcription_through_the_passthrough_costs_what_it_does_at_its_own_door() {
    let upstream = Upstream::start(play);
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nstate: {{ ledger: sqlite:./data/tollgate.db }}\n\
         budgets: [ {{ name: all, dollars: 0.5, per: day, hard: true }} ]\n\
         prices: {{ models: {{ up/tokens: {{ price: {{ input: 10, output: 20 }} }}, up/whisper-1: {{ price: {{ audio_second: 0.01 }} }} }} }}\n\
         providers:\n{}",
        provider("up", &upstream.url())
    ));
    let sound = noise(3_000);
    let verbose = [("response_format", "verbose_json")];
    for (model, more, cost) in [("tokens", &[][..], 180_000), ("whisper-1", &verbose[..], 30_000_000)] {
        for path in ["/passthrough/up/audio/transcriptions", "/passthrough/up/v1/audio/translations"] {
            // Wherever the model stands.
            let ends = [form(&[("model", model)], &sound, more), form(more, &sound, &[("model", model)])];
            for sent in ends {
                let reply = post_form(&gateway, path, sent.clone()).await;
                assert_eq!(reply.status, 200, "{reply:#?}");
                assert!(upstream.heard().pop().unwrap().body == sent, "not a byte is changed");
                assert_eq!(reply.header("x-tollgate-target"), format!("up/{model}"));
                let record = gateway.record(reply.header("x-request-id")).await;
                assert_eq!(record["cost"], cost, "{record:#}");
            }
        }
    }
    // A minute of whisper's would be more than there is.
    let before = upstream.heard().len();
    let path = "/passthrough/up/audio/transcriptions";
    for (fields, status) in [
        (vec![("model", "whisper-1")], 402),
        // What nobody knows the price of passes no hard budget, and two models no door.
        (vec![], 402),
        (vec![("model", "tokens"), ("model", "whisper-1")], 400),
    ] {
        let reply = post_form(&gateway, path, form(&fields, &noise(60_000), &verbose)).await;
        assert_eq!(reply.status, status, "{fields:?}: {reply:#?}");
    }
    assert_eq!(upstream.heard().len(), before);
}

#[tokio::test]
async fn every_form_of_answer_comes_as_it_is() {
    let upstream = Upstream::start(play);
    let gateway = house(&upstream);
    for (format, kind, text) in [
        ("srt", "text/plain; charset=utf-8", "1\n00:00 --> 00:01\nhi\n"),
        ("verbose_json", "application/json", r#"{"text":"hi","usage":{"type":"duration","seconds":3}}"#),
    ] {
        let body = form(&[("model", "ear"), ("response_format", format)], b"x", &[]);
        let reply = post_form(&gateway, "/v1/audio/translations", body).await;
        assert_eq!((reply.header("content-type"), reply.text().as_str()), (kind, text));
        let record = gateway.record(reply.header("x-request-id")).await;
        if format == "verbose_json" {
            assert_eq!(record["usage"]["audio_ms"], 3000, "{record}");
        }
    }
    let body = form(&[("model", "ear"), ("stream", "true")], b"x", &[]);
    let reply = post_form(&gateway, "/v1/audio/transcriptions", body).await;
    assert!(reply.header("content-type").starts_with("text/event-stream"), "{reply:#?}");
    assert!(reply.whole && reply.text().contains("transcript.text.done"), "{reply:#?}");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["usage"]["input"], &record["facts"]["stream"]), (&json!(14), &json!(true)));

    let body = form(&[("model", "ear"), ("prompt", "fails")], b"x", &[]);
    let reply = post_form(&gateway, "/v1/audio/transcriptions", body).await;
    assert_eq!((reply.status, &reply.error()["message"]), (400, &json!("the audio file is broken")));

    let request = json!({"model": "up/tts-1", "input": "hällo", "voice": "alloy"});
    let reply = post(gateway.clients, "/v1/audio/speech", &request).await;
    assert_eq!(reply.header("content-type"), "audio/mpeg");
    assert!(reply.body == noise(70_000), "{} bytes", reply.body.len());
    assert_eq!(upstream.heard().pop().unwrap().json()["model"], "tts-1");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["usage"]["characters"], &record["usage"]["estimated"]), (&json!(5), &json!(true)));
}

#[tokio::test]
async fn bad_forms_are_told_what_is_wrong() {
    let upstream = Upstream::start(play);
    let gateway = gateway::start(&format!(
        "uploads: {{ hold: 64KiB, hold_forms: 64KiB }}\nproviders:\n{}",
        provider("up", &upstream.url())
    ));
    let path = "/v1/audio/transcriptions";
    let twice = form(&[("model", "up/m")], b"x", &[("model", "up/other")]);
    let mut endless = form(&[("model", "up/m")], b"x", &[]);
    endless.truncate(endless.len() - 12);
    for (body, status, part) in [
        (form(&[], b"x", &[]), 400, "'model'"),
        (form(&[], &noise(200_000), &[("model", "up/m")]), 400, "put the field `model` before the file"),
        (twice, 400, "twice"),
        (endless, 400, "no end"),
        (b"nonsense".to_vec(), 400, "model"),
        (form(&[("model", "")], b"x", &[]), 400, "empty"),
        (form(&[("model", "nobody/m")], b"x", &[]), 404, "does not exist"),
    ] {
        let reply = post_form(&gateway, path, body).await;
        let message = reply.error()["message"].to_string();
        assert!(reply.status == status && message.contains(part), "{part}: {reply:#?}");
    }
    let reply = post(gateway.clients, path, &json!({"model": "up/m"})).await;
    assert_eq!(reply.status, 415);
    let reply = client::get(gateway.clients, path).await;
    assert_eq!((reply.status, reply.header("allow")), (405, "POST"));
    assert!(upstream.heard().is_empty());
}

#[tokio::test]
async fn a_second_model_in_the_streamed_part_ends_the_upload() {
    let sink = Sink::start(|mut coming| async move { coming.drained().await }).await;
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &sink.url())));
    let body = form(&[("model", "up/m")], &noise(3 << 20), &[("model", "up/other")]);
    let reply = post_form(&gateway, "/v1/audio/transcriptions", body).await;
    assert!(reply.status == 400 && reply.text().contains("twice"), "{reply:#?}");
}

#[tokio::test]
async fn what_was_not_sent_may_go_elsewhere_and_what_was_may_not() {
    let refusing = Refusing::new();
    let (good, bad) = (Upstream::start(play), Upstream::start(|_| acts::error(503, "busy")));
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nproviders:\n{}{}{}models:\n  a: {{ targets: [ gone/m, good/m ] }}\n  b: {{ targets: [ bad/m, good/m ] }}\n",
        provider("gone", &refusing.url()),
        provider("good", &good.url()),
        provider("bad", &bad.url())
    ));
    let path = "/v1/audio/transcriptions";
    for (model, size, status) in [("a", 100, 200), ("a", 3 << 20, 200), ("b", 100, 200), ("b", 3 << 20, 503)]
    {
        let reply = post_form(&gateway, path, form(&[("model", model)], &noise(size), &[])).await;
        assert_eq!(reply.status, status, "{model}, {size} bytes: {reply:#?}");
    }
    assert_eq!(good.heard().len(), 3);
    assert_eq!(bad.heard().len(), 2);
}

#[tokio::test]
async fn a_transcription_begins_before_its_file_has_come() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let sink = Sink::start(move |mut coming| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(coming.head.clone());
            assert!(coming.all().await);
            coming.answer(200, TRANSCRIPT).await;
        }
    })
    .await;
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &sink.url())));
    let body = form(&[("model", "up/m")], &noise(4 << 20), &[]);
    let head = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\nhost: a\ncontent-type: multipart/form-data; boundary=b0und\ncontent-length: {}",
        body.len()
    );
    let mut sender = Sender::open(gateway.clients, &head).await;
    sender.send(&body[..2_000]).await.unwrap();
    let head =
        tokio::time::timeout(Duration::from_secs(10), told.recv()).await.expect("it has begun").unwrap();
    assert!(head.contains(&format!("content-length: {}\r\n", body.len() - "up/".len())), "{head}");
    sender.send(&body[2_000..]).await.unwrap();
    let answer = sender.answer().await;
    assert!(answer.ends_with(TRANSCRIPT), "{answer}");
    eventually("a record", || gateway.access().pop()).await;
}

#[tokio::test]
async fn the_sandbox_hears_and_speaks() {
    let gateway = gateway::start("providers:\n  sandbox: { dialect: sandbox }\n");
    for size in [1_000, 3 << 20] {
        let body = form(&[("model", "sandbox/echo")], &noise(size), &[]);
        let reply = post_form(&gateway, "/v1/audio/transcriptions", body).await;
        assert_eq!(reply.json()["text"], format!("The sandbox heard {size} bytes."), "{reply:#?}");
    }
    let request = json!({"model": "sandbox/echo", "input": "one two three", "voice": "alloy"});
    let reply = post(gateway.clients, "/v1/audio/speech", &request).await;
    assert!(reply.body.starts_with(b"RIFF") && reply.header("content-type") == "audio/wav", "{reply:?}");
    let reply = post(gateway.clients, "/v1/audio/speech", &json!({"model": "sandbox/echo"})).await;
    assert_eq!((reply.status, &reply.error()["param"]), (400, &json!("input")));
}

#[tokio::test]
async fn google_speaks_to_clients_of_openai() {
    let google = Upstream::start(|_| {
        let part = json!({"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=24000", "data": "AQACAA=="}});
        acts::whole(
            200,
            &json!({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 4,
                "candidatesTokenCount": 6, "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 6}]}}),
        )
    });
    let gateway = gateway::start(&format!(
        "providers:\n  gemini: {{ base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n",
        google.url()
    ));
    let model = "gemini-2.5-flash-preview-tts";
    for (format, kind, length) in
        [("mp3", "audio/wav", 48), ("wav", "audio/wav", 48), ("pcm", "audio/pcm", 4)]
    {
        let body = json!({"model": format!("gemini/{model}"), "input": "hi", "voice": "Puck", "response_format": format});
        let reply = post(gateway.clients, "/v1/audio/speech", &body).await;
        assert_eq!(
            (reply.status, reply.header("content-type"), reply.body.len()),
            (200, kind, length),
            "{reply:#?}"
        );
        let warned = reply.header("x-tollgate-warnings").contains("response_format (given as wav)");
        assert_eq!(warned, format == "mp3", "{reply:#?}");
        assert_eq!(google.heard().pop().unwrap().path, format!("/v1/models/{model}:generateContent"));
        let record = gateway.record(reply.header("x-request-id")).await;
        let used = &record["usage"];
        assert_eq!(
            (&used["input"], &used["output_audio"], &used["characters"]),
            (&json!(4), &json!(6), &json!(2))
        );
    }
    let body = json!({"model": "gemini/gemini-2.5-flash", "input": "hi", "voice": "Puck"});
    let reply = post(gateway.clients, "/v1/audio/speech", &body).await;
    assert_eq!((reply.status, &reply.error()["param"]), (400, &json!("model")));
}
