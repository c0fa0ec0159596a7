//! Pictures: made and changed by providers of OpenAI's dialect, made by Google's through translation.

use serde_json::{Value, json};

use crate::acts;
use crate::audio::{form, post_form};
use crate::client::post;
use crate::gateway::{self, provider};
use crate::passthrough::noise;
use crate::upstream::{Act, Heard, Upstream};

const EVENTS: &str = "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"AAAA\"}\n\nevent: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"BBBB\",\"usage\":{\"input_tokens\":5,\"output_tokens\":9,\"total_tokens\":14}}\n\n";

fn play(heard: &Heard) -> Vec<Act> {
    if heard.is_stream() {
        return acts::stream(EVENTS, 13);
    }
    // Large, with the usage behind the pictures.
    let usage = json!({"input_tokens": 5, "output_tokens": 9, "total_tokens": 14, "input_tokens_details": {"text_tokens": 2, "image_tokens": 3}});
    let picture = "A".repeat(3_000_000);
    acts::whole(200, &json!({"created": 1, "data": [{"b64_json": picture}], "usage": usage}))
}

#[tokio::test]
async fn pictures_pass_untouched_and_their_use_is_read() {
    let upstream = Upstream::start(play);
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let body = json!({"model": "up/gpt-image-1", "prompt": "a cat", "n": 2, "odd": {"kept": true}});
    let reply = post(gateway.clients, "/v1/images/generations", &body).await;
    assert_eq!(
        (reply.status, reply.json()["data"][0]["b64_json"].as_str().map(str::len)),
        (200, Some(3_000_000))
    );
    let heard = upstream.heard().pop().unwrap();
    assert_eq!((heard.path.as_str(), heard.model().as_str()), ("/v1/images/generations", "gpt-image-1"));
    assert_eq!(heard.json()["odd"]["kept"], true);
    let record = gateway.record(reply.header("x-request-id")).await;
    let used = &record["usage"];
    assert_eq!((&used["input"], &used["output"], &used["images"]), (&json!(5), &json!(9), &json!(2)));
    assert_eq!(used["input_image"], 3);

    let body = json!({"model": "up/gpt-image-1", "prompt": "a cat", "stream": true, "partial_images": 1});
    let reply = post(gateway.clients, "/v1/images/generations", &body).await;
    assert_eq!((reply.text().as_str(), reply.whole), (EVENTS, true));
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["usage"]["output"], 9);

    let fields = [("model", "up/gpt-image-1"), ("prompt", "a hat"), ("n", "3")];
    let reply = post_form(&gateway, "/v1/images/edits", form(&fields, &noise(2 << 20), &[])).await;
    assert_eq!(reply.status, 200);
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["usage"]["images"], &record["path"]), (&json!(3), &json!("/v1/images/edits")));
    let body = json!({"model": "up/gpt-image-1", "prompt": "a hat", "images": [{"file_id": "file-1"}]});
    assert_eq!(post(gateway.clients, "/v1/images/edits", &body).await.status, 200);
    let reply =
        post_form(&gateway, "/v1/images/variations", form(&[("model", "up/dall-e-2")], b"x", &[])).await;
    assert_eq!((reply.status, upstream.heard().pop().unwrap().path.as_str()), (200, "/v1/images/variations"));
}

#[tokio::test]
async fn google_makes_pictures_for_clients_of_openai() {
    let google = Upstream::start(|heard| {
        if heard.path.contains(":predict") {
            return acts::whole(200, &json!({"predictions": [{"bytesBase64Encoded": "CCCC"}]}));
        }
        let part = json!({"inlineData": {"mimeType": "image/png", "data": "DDDD"}});
        acts::whole(
            200,
            &json!({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 6}}),
        )
    });
    let gateway = gateway::start(&format!(
        "providers:\n  gemini: {{ base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n",
        google.url()
    ));
    for (model, picture, path) in [
        ("imagen-4.0-generate-001", "CCCC", "/v1/models/imagen-4.0-generate-001:predict"),
        ("gemini-2.5-flash-image", "DDDD", "/v1/models/gemini-2.5-flash-image:generateContent"),
    ] {
        let body = json!({"model": format!("gemini/{model}"), "prompt": "a cat", "size": "1024x1024", "style": "vivid"});
        let reply = post(gateway.clients, "/v1/images/generations", &body).await;
        assert_eq!(reply.json()["data"][0]["b64_json"], picture, "{reply:#?}");
        assert!(reply.header("x-tollgate-warnings").contains("style (dropped)"), "{reply:#?}");
        assert_eq!(google.heard().pop().unwrap().path, path);
        let record = gateway.record(reply.header("x-request-id")).await;
        assert_eq!(record["usage"]["images"], 1);
    }
    let edit = post_form(
        &gateway,
        "/v1/images/edits",
        form(&[("model", "gemini/gemini-2.5-flash-image")], b"x", &[]),
    )
    .await;
    assert_eq!((edit.status, &edit.error()["param"]), (400, &json!("model")));
}

#[tokio::test]
async fn clients_of_google_get_pictures_of_imagen_as_they_come() {
    let google = Upstream::start(|_| {
        let picture = json!({"mimeType": "image/png", "bytesBase64Encoded": "CCCC"});
        acts::whole(200, &json!({ "predictions": [picture, picture] }))
    });
    let gateway = gateway::start(&format!(
        "providers:\n  gemini: {{ base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n",
        google.url()
    ));
    let path = "/v1beta/models/gemini/imagen-4.0-generate-001:predict";
    let body = |parameters: Value| json!({"instances": [{"prompt": "a cat"}], "parameters": parameters});
    for (parameters, images) in
        [(json!({"sampleCount": 2, "aspectRatio": "1:1"}), 2), (json!({"odd": true}), 4)]
    {
        let sent = body(parameters);
        let reply = post(gateway.clients, path, &sent).await;
        assert_eq!(reply.json()["predictions"][1]["bytesBase64Encoded"], "CCCC", "{reply:#?}");
        let heard = google.heard().pop().unwrap();
        assert_eq!((heard.path.as_str(), heard.json()), ("/v1/models/imagen-4.0-generate-001:predict", sent));
        let record = gateway.record(reply.header("x-request-id")).await;
        assert_eq!(
            (&record["usage"]["images"], &record["facts"]["endpoint"]),
            (&json!(images), &json!("images"))
        );
    }
    let bad = post(gateway.clients, path, &json!({"instances": [{}]})).await;
    assert_eq!((bad.status, &bad.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
}

#[tokio::test]
async fn the_sandbox_draws() {
    let gateway = gateway::start("providers:\n  sandbox: { dialect: sandbox }\n");
    let body = json!({"model": "sandbox/echo", "prompt": "a cat", "n": 2});
    let one: Value = post(gateway.clients, "/v1/images/generations", &body).await.json();
    let two: Value = post(gateway.clients, "/v1/images/generations", &body).await.json();
    assert_eq!(one, two);
    assert!(one["data"][1]["b64_json"].as_str().unwrap().starts_with("iVBORw0KGgo"));
    let fields = [("model", "sandbox/echo"), ("prompt", "a hat")];
    let reply = post_form(&gateway, "/v1/images/edits", form(&fields, b"x", &[])).await;
    assert!(reply.json()["data"][0]["b64_json"].is_string(), "{reply:#?}");
    let body = json!({"model": "sandbox/echo", "prompt": "[[error 500]] a cat"});
    assert_eq!(post(gateway.clients, "/v1/images/generations", &body).await.status, 500);
}

/// What is no picture, no sound and no transcript, under a status of success.
fn no_answer(way: &str) -> Vec<Act> {
    let json = [("content-type", "application/json")];
    let error = r#"{"error": {"message": "the model is overloaded", "type": "server_error"}}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n";
    match way {
        "page" => acts::answer(200, &[("content-type", "text/html")], "<html><body>Sign in</body></html>"),
        "page-as-json" => acts::answer(200, &json, "\n<!DOCTYPE html>\n<html></html>"),
        "error" => acts::answer(200, &json, error),
        "empty" => acts::answer(200, &json, ""),
        "nothing" => acts::answer(200, &json, "{}"),
        "broken" => acts::answer(200, &json, r#"{"created": 1, "data": [{"b64_json": "#),
        "cut-at-once" => vec![Act::Write(head.into()), Act::Close],
        "cut-behind" => {
            vec![Act::Write(format!("{head}{{\"data\": [], \"text\": \"half\"}}").into()), Act::Close]
        }
        "cut" => vec![Act::Write(format!("{head}{{\"data\": [").into()), Act::Close],
        "packed" => acts::answer(
            200,
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
            "no gzip",
        ),
        "error-event" => acts::stream(&format!("event: error\ndata: {error}\n\n"), 7),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_is_no_answer_goes_to_the_next_target_before_its_first_byte() {
    let ways = [
        "page",
        "page-as-json",
        "error",
        "empty",
        "nothing",
        "broken",
        "cut-at-once",
        "cut",
        "cut-behind",
        "packed",
        "error-event",
    ];
    let first = Upstream::start(move |heard| {
        let body = String::from_utf8_lossy(&heard.body).into_owned();
        let names = |way: &str| ["\"", "\r\n"].iter().any(|end| body.contains(&format!("way-{way}{end}")));
        no_answer(ways.iter().find(|way| names(way)).unwrap())
    });
    let second = Upstream::start(|heard| match heard.path.rsplit('/').next() {
        Some("speech") => acts::answer(200, &[("content-type", "audio/mpeg")], noise(9_000)),
        Some("transcriptions") => acts::whole(200, &json!({"text": "hi"})),
        _ => acts::whole(200, &json!({"created": 1, "data": [{"b64_json": "A".repeat(20_000)}]})),
    });
    let models: String =
        ways.iter().map(|way| format!("  {way}: {{ targets: [ first/way-{way}, second/m ] }}\n")).collect();
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nbreaker: {{ consecutive: 99 }}\nproviders:\n{}{}models:\n{models}",
        provider("first", &first.url()),
        provider("second", &second.url())
    ));
    for way in ways {
        let picture =
            post(gateway.clients, "/v1/images/generations", &json!({"model": way, "prompt": "a"})).await;
        assert_eq!(picture.header("x-tollgate-target"), "second/m", "{way}: {picture:#?}");
        assert_eq!(picture.json()["data"][0]["b64_json"].as_str().map(str::len), Some(20_000), "{way}");
        let body = json!({"model": way, "input": "a", "voice": "alloy"});
        let sound = post(gateway.clients, "/v1/audio/speech", &body).await;
        assert_eq!((sound.status, sound.body.to_vec()), (200, noise(9_000)), "{way}: {sound:#?}");
        let transcript =
            post_form(&gateway, "/v1/audio/transcriptions", form(&[("model", way)], b"x", &[])).await;
        assert_eq!(transcript.text(), r#"{"text":"hi"}"#, "{way}: {transcript:#?}");
        assert_eq!(transcript.header("x-tollgate-attempts"), "2", "{way}");
    }
    // With nobody else, the client hears of it as of any fault.
    let body = json!({"model": "first/way-page", "prompt": "a"});
    let reply = post(gateway.clients, "/v1/images/generations", &body).await;
    assert_eq!((reply.status, &reply.error()["code"]), (502, &json!("upstream_malformed")), "{reply:#?}");
    let body = json!({"model": "first/way-error", "prompt": "a"});
    let reply = post(gateway.clients, "/v1/images/generations", &body).await;
    assert_eq!(reply.error()["message"], "the model is overloaded", "{reply:#?}");
}

#[tokio::test]
async fn a_recording_without_a_word_and_sound_in_json_are_answers() {
    let upstream = Upstream::start(|heard| match heard.path.rsplit('/').next() {
        Some("speech") => {
            acts::answer(200, &[("content-type", "application/json")], r#"{"audio_data": "aGk="}"#)
        }
        _ => acts::answer(200, &[("content-type", "text/plain; charset=utf-8")], ""),
    });
    let gateway = gateway::start(&format!("providers:\n{}", provider("up", &upstream.url())));
    let fields = [("model", "up/m"), ("response_format", "text")];
    let silence = post_form(&gateway, "/v1/audio/transcriptions", form(&fields, b"x", &[])).await;
    assert_eq!((silence.status, silence.body.len()), (200, 0), "{silence:#?}");
    let body = json!({"model": "up/m", "input": "a", "voice": "alloy"});
    let sound = post(gateway.clients, "/v1/audio/speech", &body).await;
    assert_eq!(sound.text(), r#"{"audio_data": "aGk="}"#);
}
