//! Providers that lie, drip, flood and answer out of turn: the fallback answers, and the client sees nothing of it.

use std::time::{Duration, Instant};

use crate::acts;
use crate::client::{ask, ask_stream, chat};
use crate::gateway::{self, Gateway};
use crate::recording;
use crate::upstream::{Act, Upstream};

const JSON: (&str, &str) = ("content-type", "application/json");

/// The ways, and the status that a client without a fallback gets.
const WAYS: [(&str, u16); 13] = [
    ("tls-alert", 502),
    ("http-0.9", 502),
    ("status-999", 502),
    ("status-099", 502),
    ("flood-1xx", 502),
    ("no-content", 502),
    ("two-lengths", 502),
    ("gzip-garbage", 502),
    ("huge-body", 502),
    ("header-drip", 504),
    ("body-drip", 504),
    ("wrong-shape", 502),
    ("only-comments", 502),
];

fn act(way: &str) -> Vec<Act> {
    let drip = |text: &str, pause: u64| {
        let pieces =
            text.bytes().map(|byte| vec![Act::Write(vec![byte]), Act::Pause(Duration::from_millis(pause))]);
        pieces.flatten().collect::<Vec<_>>()
    };
    match way {
        "tls-alert" => acts::raw(vec![0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28]),
        "http-0.9" => acts::raw("hello, this is no http\n"),
        "status-999" => acts::raw("HTTP/1.1 999 Odd\r\ncontent-length: 2\r\n\r\n{}"),
        "status-099" => acts::raw("HTTP/1.1 099 Odd\r\ncontent-length: 2\r\n\r\n{}"),
        "flood-1xx" => acts::raw("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(5_000)),
        "no-content" => acts::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        "two-lengths" => acts::raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 7\r\n\r\n{}"),
        "gzip-garbage" => acts::answer(200, &[JSON, ("content-encoding", "gzip")], "not gzip at all"),
        "huge-body" => acts::answer(200, &[JSON], " ".repeat(3 << 20)),
        "header-drip" => drip("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", 100),
        "body-drip" => {
            let mut script = vec![Act::Write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n".to_vec(),
            )];
            script.extend(drip(&" ".repeat(100), 100));
            script
        }
        "wrong-shape" => acts::answer(200, &[JSON], "[1, 2, 3]"),
        "only-comments" => acts::stream(": nothing\n\n: at all\n\n", usize::MAX),
        _ => acts::says("alive"),
    }
}

fn settings() -> &'static str {
    "deadlines: { connect: 1s, first_byte: 600ms, first_token: 1s, idle: 600ms, total: 2s }\n\
     retries: { retries: 0 }\nupstream: { max_body: 1MiB }\nbreaker: { consecutive: 0, failure_rate: 1 }\n"
}

#[tokio::test]
async fn whatever_a_provider_says_the_fallback_answers() {
    let first = Upstream::start(|heard| act(&heard.model()));
    let second = Upstream::start(|heard| {
        if heard.is_stream() { acts::says_stream(&["a", "live"]) } else { acts::says("alive") }
    });
    let models: String = WAYS
        .iter()
        .map(|(way, _)| format!("  \"{way}\": {{ targets: [ \"first/{way}\" ], fallback: [ second/m ] }}\n"))
        .collect();
    let gateway = gateway::start(&format!(
        "{}providers:\n{}{}models:\n{models}",
        settings(),
        gateway::provider("first", &first.url()),
        gateway::provider("second", &second.url()),
    ));
    for (way, alone) in WAYS {
        // A drip that lasts longer than the whole request leaves no time for anybody.
        let rescued = !matches!(way, "body-drip");
        for question in [ask(way), ask_stream(way)] {
            let stream = question["stream"] == true;
            let begun = Instant::now();
            let reply = chat(gateway.clients, &question).await;
            assert!(begun.elapsed() < Duration::from_millis(2_600), "{way}: {:?}", begun.elapsed());
            if rescued {
                let facts =
                    if stream { recording::streamed(&reply.text()) } else { recording::whole(&reply.text()) };
                assert_eq!((reply.status, facts.error.as_ref()), (200, None), "{way}: {reply:#?}");
                assert_eq!(facts.choices[&0].text, "alive", "{way}: {reply:#?}");
            }
            let reply = chat(gateway.clients, &ask(&format!("first/{way}"))).await;
            assert_eq!(reply.status, alone, "{way}: {reply:#?}");
            reply.error();
        }
    }
}

#[tokio::test]
async fn an_answer_to_nobody_is_given_to_nobody() {
    let stolen = acts::answer(200, &[JSON], acts::completion("stolen").to_string());
    let upstream = Upstream::start(move |_| {
        let mut script = acts::says("mine");
        script.extend(stolen.clone());
        script
    });
    let gateway =
        gateway::start(&format!("{}providers:\n{}", settings(), gateway::provider("up", &upstream.url())));
    for round in 0..20 {
        let reply = chat(gateway.clients, &ask("up/m")).await;
        assert_eq!((reply.status, reply.said().as_str()), (200, "mine"), "round {round}: {reply:#?}");
    }
}

#[tokio::test]
async fn every_way_to_ask_for_a_pause_is_told_to_the_client_within_a_minute() {
    let headers = |way: &str| -> Vec<(&'static str, String)> {
        match way {
            "seconds" => vec![("retry-after", "7".into())],
            "negative" => vec![("retry-after", "-5".into())],
            "endless" => vec![("retry-after", "1000000000".into())],
            "garbage" => vec![("retry-after", "soon".into())],
            "past" => vec![("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT".into())],
            "future" => vec![("retry-after", "Wed, 21 Oct 2099 07:28:00 GMT".into())],
            "milliseconds" => vec![("retry-after-ms", "2500".into())],
            "reset" => vec![
                ("x-ratelimit-remaining-requests", "0".into()),
                ("x-ratelimit-reset-requests", "9s".into()),
            ],
            _ => Vec::new(),
        }
    };
    let upstream = Upstream::start(move |heard| {
        let headers = headers(&heard.model());
        let mut all = vec![JSON];
        all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
        let text = if heard.model() == "text" { "Please try again in 3.2s." } else { "slow down" };
        acts::answer(429, &all, format!(r#"{{"error":{{"message":"{text}"}}}}"#))
    });
    let gateway =
        gateway::start(&format!("{}providers:\n{}", settings(), gateway::provider("up", &upstream.url())));
    for (way, expected) in [
        ("seconds", "7"),
        ("negative", "0"),
        ("endless", "60"),
        ("garbage", "1"),
        ("past", "0"),
        ("future", "60"),
        ("milliseconds", "3"),
        ("reset", "9"),
        ("text", "4"),
        ("nothing", "1"),
    ] {
        let reply = chat(gateway.clients, &ask(&format!("up/{way}"))).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, expected), "{way}: {reply:#?}");
    }
}

async fn refused(config: &str, model: &str) -> (Gateway, String) {
    let gateway = gateway::start(config);
    let reply = chat(gateway.clients, &ask(model)).await;
    assert_eq!(reply.status, 502, "{reply:#?}");
    (gateway, reply.error()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn addresses_that_nobody_declared_are_not_called() {
    let sink = Upstream::start(|_| acts::says("you should not be here"));
    let port = sink.address.port();
    let provider = |url: &str| format!("providers:\n{}", gateway::provider("up", url));
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost"] {
        // Written as a public name would be, over TLS, and pinned to the machine itself.
        let allowed = format!(
            "upstream: {{ egress: {{ networks: [ 203.0.113.0/24 ] }} }}\n{}",
            provider(&format!("http://{host}:{port}/v1"))
        );
        let (_gateway, code) = refused(&allowed, "up/m").await;
        assert_eq!(code, "egress_refused", "{host}");
    }
    for url in
        ["https://169.254.169.254/latest", "https://[fd00:ec2::254]/latest", "https://[64:ff9b::a9fe:a9fe]/"]
    {
        let (_gateway, code) = refused(&provider(url), "up/m").await;
        assert_eq!(code, "egress_refused", "{url}");
    }
    assert!(sink.heard().is_empty());

    let listed = format!("upstream: {{ egress: {{ hosts: [ 127.0.0.1 ] }} }}\n{}", provider(&sink.url()));
    let gateway = gateway::start(&listed);
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
    let setup = gateway::setup(&listed.replace("hosts: [ 127.0.0.1 ]", "hosts: [ api.openai.com ]"));
    let printed = setup.run(&["check"]);
    assert!(printed.code != Some(0) && format!("{printed:?}").contains("does not allow"), "{printed:#?}");
}
