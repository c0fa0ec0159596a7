//! Keys that are limited or refused, targets that fail for long, budgets of retries: what operators and clients see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::acts;
use crate::client::{self, ask, ask_stream, chat};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Heard, Upstream};

const JSON: (&str, &str) = ("content-type", "application/json");

fn key_of(heard: &Heard) -> String {
    heard.header("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned()
}

/// A provider with two keys, `key-one` and `key-two`; it says what the script makes of the key.
fn pool(
    settings: &str,
    script: impl Fn(&str, &Heard) -> Vec<Act> + Send + Sync + 'static,
) -> (Upstream, Gateway) {
    let upstream = Upstream::start(move |heard| script(&key_of(heard), heard));
    let config = format!(
        "retries: {{ retries: 1, backoff: 20ms, max_backoff: 1s }}\nproviders:\n  up:\n    dialect: openai\n    \
         base_url: \"{}\"\n    keys: [ {{ secret: env:ONE, name: one }}, {{ secret: env:TWO, name: two }} ]\n    {settings}\n",
        upstream.url()
    );
    let gateway = gateway::setup(&config).env("ONE", "key-one").env("TWO", "key-two").start();
    (upstream, gateway)
}

fn asked_with(upstream: &Upstream, key: &str) -> usize {
    upstream.heard().iter().filter(|heard| key_of(heard) == key).count()
}

async fn provider(gateway: &Gateway, name: &str) -> Value {
    let answer = client::get(gateway.admin, "/admin/v1/providers").await.json();
    let providers = answer["providers"].as_array().unwrap();
    providers.iter().find(|provider| provider["name"] == name).unwrap().clone()
}

#[tokio::test]
async fn a_limited_key_is_left_alone_for_that_model_and_the_other_answers_at_once() {
    let (upstream, gateway) =
        pool("balance: least_loaded", |key, heard| match (key, heard.model().as_str()) {
            ("key-one", "m") => {
                acts::answer(429, &[JSON, ("retry-after", "30")], r#"{"error":{"message":"wait"}}"#)
            }
            _ => acts::says("alive"),
        });
    for _ in 0..12 {
        let begun = Instant::now();
        let reply = chat(gateway.clients, &ask("up/m")).await;
        assert_eq!((reply.status, reply.said().as_str()), (200, "alive"), "{reply:#?}");
        assert!(begun.elapsed() < Duration::from_millis(900), "a rotation waits for nobody");
    }
    assert_eq!(asked_with(&upstream, "key-one"), 1, "it rests");
    for _ in 0..30 {
        assert_eq!(chat(gateway.clients, &ask("up/other")).await.said(), "alive");
    }
    assert!(asked_with(&upstream, "key-one") > 1, "another model has limits of its own");
    assert!(gateway.metric("tollgate_key_throttles_total", &["key=\"one\""]).await >= 1.0);
    assert_eq!(provider(&gateway, "up").await["keys"][0]["state"], "throttled");
}

#[tokio::test]
async fn a_refused_key_is_out_with_an_alarm_until_its_secret_changes() {
    let (upstream, gateway) = pool("", |key, _| match key {
        "key-one" => acts::error(401, "invalid key"),
        _ => acts::says("alive"),
    });
    for _ in 0..40 {
        let reply = chat(gateway.clients, &ask("up/m")).await;
        assert_eq!((reply.status, reply.said().as_str()), (200, "alive"), "{reply:#?}");
    }
    assert_eq!(asked_with(&upstream, "key-one"), 1, "it is out");
    assert!(gateway.log().iter().any(|line| line.contains("alarm: the provider refuses the key")));
    assert_eq!(provider(&gateway, "up").await["keys"][0]["state"], "refused");
    assert!(gateway.metric("tollgate_key_refusals_total", &["key=\"one\""]).await >= 1.0);
}

#[tokio::test]
async fn the_only_key_is_tried_again_although_it_was_refused() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let upstream = Upstream::start(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => acts::error(401, "a moment of confusion"),
        _ => acts::says("alive"),
    });
    let gateway = gateway::start(&format!("providers:\n{}", gateway::provider("up", &upstream.url())));
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 502);
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "alive");
}

#[tokio::test]
async fn the_only_key_is_out_for_no_longer_however_often_it_is_tried_all_the_same() {
    let upstream = Upstream::start(|_| acts::error(401, "a moment of confusion"));
    let gateway = gateway::start(&format!("providers:\n{}", gateway::provider("up", &upstream.url())));
    for _ in 0..8 {
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 502);
    }
    assert_eq!(upstream.heard().len(), 8);
    let key = provider(&gateway, "up").await["keys"][0].clone();
    assert!(key["retry_in_ms"].as_u64().is_some_and(|ms| ms <= 22_000), "{key:#}");
    assert_eq!(gateway.metric("tollgate_key_refusals_total", &[]).await, 1.0);
}

#[tokio::test]
async fn an_account_without_money_takes_its_keys_out_and_no_other_account() {
    let (upstream, gateway) = pool("", |key, _| match key {
        "key-one" | "key-two" => acts::error(402, "pay"),
        _ => acts::says("alive"),
    });
    let reply = chat(gateway.clients, &ask("up/m")).await;
    assert_eq!(reply.status, 402, "{reply:#?}");
    assert_eq!(upstream.heard().len(), 1, "the second key is of the same account");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["attempts"][0]["outcome"], "upstream_account", "{record:#}");
    assert_eq!(gateway.metric("tollgate_attempts_total", &["outcome=\"upstream_account\""]).await, 1.0);
    let keys = provider(&gateway, "up").await["keys"].clone();
    assert_eq!((keys[0]["state"].clone(), keys[1]["state"].clone()), ("refused".into(), "refused".into()));
}

#[tokio::test]
async fn limits_of_a_key_hold_and_what_sticks_stays() {
    let (upstream, gateway) = pool("sticky: session", |_, _| acts::says("alive"));
    for session in 0..6 {
        for _ in 0..4 {
            let body = ask("up/m").to_string();
            let mut request = client::request(http::Method::POST, "/v1/chat/completions", &body);
            let name = format!("session-{session}").parse().unwrap();
            request.headers_mut().insert("x-tollgate-session", name);
            let reply = client::open(gateway.clients, request).await.unwrap().rest().await;
            assert_eq!(reply.status, 200, "{reply:#?}");
        }
    }
    let heard = upstream.heard();
    for four in heard.chunks(4) {
        assert!(four.iter().all(|one| key_of(one) == key_of(&four[0])), "one session, one key");
    }

    let upstream = Upstream::start(|_| acts::after(Duration::from_millis(300), acts::says("alive")));
    let gateway = gateway::start(&format!(
        "providers:\n  up: {{ dialect: openai, base_url: \"{}\", keys: [ {{ secret: env:TEST_KEY, max_in_flight: 1 }} ] }}\n",
        upstream.url()
    ));
    let question = ask("up/m");
    let (first, second) = tokio::join!(chat(gateway.clients, &question), chat(gateway.clients, &question));
    assert_eq!((first.status, second.status), (200, 200));
    let heard = upstream.heard();
    assert!(heard[1].at - heard[0].at >= Duration::from_millis(290), "one at a time");
}

#[tokio::test]
async fn a_target_that_fails_for_long_is_left_alone_and_comes_back() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let state = broken.clone();
    let first = Upstream::start(move |_| {
        if state.load(Ordering::SeqCst) { acts::error(500, "boom") } else { acts::says("first") }
    });
    let second = Upstream::start(|_| acts::says("second"));
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nbreaker: {{ consecutive: 3, cool_down: 1s, max_cool_down: 2s }}\nproviders:\n{}{}\
         models:\n  m: {{ targets: [ first/m ], fallback: [ second/m ] }}\n",
        gateway::provider("first", &first.url()),
        gateway::provider("second", &second.url()),
    ));
    let mut skipped = None;
    for _ in 0..10 {
        let reply = chat(gateway.clients, &ask("m")).await;
        assert_eq!(reply.said(), "second");
        skipped = Some(reply);
    }
    assert_eq!(first.heard().len(), 3, "then it is left alone");
    let reply = skipped.unwrap();
    assert_eq!(reply.header("x-tollgate-attempts"), "1", "{reply:#?}");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert!(record.to_string().contains("breaker is open"), "{record:#}");
    let opened = gateway.log().into_iter().find(|line| line.contains("breaker opened")).unwrap();
    let opened: serde_json::Value = serde_json::from_str(&opened).unwrap();
    assert_eq!(
        (opened["upstream"].as_str(), opened["cause"].as_str()),
        (Some("first/m"), Some("consecutive"))
    );
    assert!((gateway.metric("tollgate_breaker_state", &["provider=\"first\""]).await - 2.0).abs() < 0.1);
    assert_eq!(provider(&gateway, "first").await["targets"][0]["breaker"]["state"], "open");

    broken.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    while chat(gateway.clients, &ask("m")).await.said() != "first" {
        assert!(begun.elapsed() < Duration::from_secs(10), "it never came back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..5 {
        assert_eq!(chat(gateway.clients, &ask("m")).await.said(), "first");
    }
    assert_eq!(provider(&gateway, "first").await["targets"][0]["breaker"]["state"], "closed");
}

#[tokio::test]
async fn when_all_targets_rest_one_request_at_a_time_tries_and_the_others_are_told_when_to_come_again() {
    let upstream = Upstream::start(|_| acts::after(Duration::from_millis(300), acts::error(500, "boom")));
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nbreaker: {{ consecutive: 2, cool_down: 30s, max_cool_down: 30s }}\nproviders:\n{}",
        gateway::provider("up", &upstream.url())
    ));
    for _ in 0..2 {
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 500);
    }
    let before = upstream.heard().len();
    let to = gateway.clients;
    let replies = client::at_once(8, move |_| async move { chat(to, &ask("up/m")).await }).await;
    let told: Vec<_> = replies.iter().filter(|reply| reply.status == 503).collect();
    assert_eq!((upstream.heard().len() - before, told.len()), (1, 7), "{replies:#?}");
    for reply in told {
        assert_eq!(reply.error()["code"], "targets_resting");
        let after: u64 = reply.header("retry-after").parse().unwrap();
        assert!((1..=36).contains(&after), "{reply:#?}");
    }
}

#[tokio::test]
async fn probes_end_the_rest_of_a_target_that_is_back_and_leave_busy_ones_alone() {
    let broken = Arc::new(AtomicBool::new(true));
    let state = broken.clone();
    let upstream = Upstream::start(move |heard| match heard.path.as_str() {
        "/v1/models" if state.load(Ordering::SeqCst) => acts::error(503, "away"),
        "/v1/models" => acts::answer(200, &[JSON], r#"{"object":"list","data":[]}"#),
        _ if state.load(Ordering::SeqCst) => acts::error(500, "boom"),
        _ => acts::says("here"),
    });
    let probes = || upstream.heard().iter().filter(|heard| heard.path == "/v1/models").count();
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nbreaker: {{ consecutive: 2, cool_down: 10m, max_cool_down: 10m }}\n\
         health: {{ probe: {{ interval: 1s, timeout: 500ms }} }}\nproviders:\n{}",
        gateway::provider("up", &upstream.url())
    ));
    for _ in 0..2 {
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 500);
    }
    client::eventually("probes of a target that rests", || (probes() >= 2).then_some(())).await;
    assert_eq!(provider(&gateway, "up").await["targets"][0]["breaker"]["state"], "open");
    let failed = gateway.metric("tollgate_probes_total", &["provider=\"up\"", "outcome=\"failed\""]).await;
    assert!(failed >= 1.0, "{failed}");

    broken.store(false, Ordering::SeqCst);
    client::eventually_async("an answer long before ten minutes are over", async || {
        (chat(gateway.clients, &ask("up/m")).await.status == 200).then_some(())
    })
    .await;
    // Three answers close it: see `breaker.probes`.
    client::eventually_async("a closed breaker", async || {
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
        (provider(&gateway, "up").await["targets"][0]["breaker"]["state"] == "closed").then_some(())
    })
    .await;

    let before = probes();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(probes(), before, "who answers requests is not asked beside them");
    client::eventually("a probe of a target that nobody asks", || (probes() > before).then_some(())).await;
}

#[tokio::test]
async fn retries_are_a_share_of_the_requests() {
    let upstream = Upstream::start(|_| acts::error(500, "boom"));
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 3, backoff: 1ms, max_backoff: 2ms, budget: 0.1, budget_floor: 2 }}\n\
         breaker: {{ enabled: false }}\nproviders:\n{}",
        gateway::provider("up", &upstream.url())
    ));
    for _ in 0..50 {
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 500);
    }
    let heard = upstream.heard().len();
    assert!((55..=62).contains(&heard), "{heard} attempts for 50 requests");
    assert!(gateway.metric("tollgate_retries_denied_total", &[]).await > 30.0);
}

#[tokio::test]
async fn a_prompt_that_is_too_long_goes_to_a_larger_window_only() {
    let too_long = || {
        acts::answer(
            400,
            &[JSON],
            r#"{"error":{"message":"maximum context length is 8192 tokens","code":"context_length_exceeded"}}"#,
        )
    };
    let first = Upstream::start(move |_| too_long());
    let second = Upstream::start(|_| acts::says("roomy"));
    let models = |model: &str, window: u64| format!("    \"{model}\": {{ context_window: {window} }}\n");
    let gateway = gateway::start(&format!(
        "prices:\n  models:\n{}{}{}providers:\n{}{}models:\n  m: {{ targets: [ first/small ], fallback: [ first/same, second/large ] }}\n",
        models("first/small", 8_192),
        models("first/same", 8_192),
        models("second/large", 200_000),
        gateway::provider("first", &first.url()),
        gateway::provider("second", &second.url()),
    ));
    for question in [ask("m"), ask_stream("m")] {
        let reply = chat(gateway.clients, &question).await;
        assert_eq!(
            reply.header("x-tollgate-target"),
            if reply.status == 200 { "second/large" } else { "-" },
            "{reply:#?}"
        );
    }
    assert!(first.heard_for("same").is_empty(), "its window is no larger");
}

#[tokio::test]
async fn the_content_filter_is_the_callers_unless_the_provider_says_otherwise() {
    let filter = r#"{"error":{"message":"flagged","code":"content_filter"}}"#;
    let first = Upstream::start(move |heard| match heard.model().as_str() {
        "busy" => acts::error(529, "overloaded"),
        _ => acts::answer(400, &[JSON], filter),
    });
    let second = Upstream::start(|_| acts::says("second"));
    for (faults, status, asked) in [("", 400, 0), (", faults: { content_filter: next_target }", 200, 1)] {
        let before = second.heard().len();
        let gateway = gateway::start(&format!(
            "providers:\n  first: {{ dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ]{faults} }}\n{}\
             models:\n  m: {{ targets: [ first/m ], fallback: [ second/m ] }}\n",
            first.url(),
            gateway::provider("second", &second.url()),
        ));
        let reply = chat(gateway.clients, &ask("m")).await;
        assert_eq!((reply.status, second.heard().len() - before), (status, asked), "{reply:#?}");
    }
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 2, backoff: 1ms }}\nproviders:\n  first: {{ dialect: openai, base_url: \"{}\", \
         keys: [ env:TEST_KEY ], faults: {{ \"529\": stop }} }}\n",
        first.url(),
    ));
    let reply = chat(gateway.clients, &ask("first/busy")).await;
    assert_eq!((reply.status, first.heard_for("busy").len()), (503, 1), "{reply:#?}");
    assert!(!reply.header("retry-after").is_empty());
}

#[tokio::test]
async fn rules_policies_and_records_go_by_the_status_that_the_provider_answered() {
    let upstream = Upstream::start(|heard| match heard.model().parse() {
        Ok(status) => acts::error(status, "no"),
        Err(_) => acts::says("spare"),
    });
    let config = format!(
        "retries: {{ retries: 0 }}\nproviders:\n  up: {{ dialect: openai, base_url: \"{}\", keys: [ env:TEST_KEY ], \
         faults: {{ \"405\": next_target, \"408\": stop, \"502\": stop }} }}\n\
         models:\n  m405: {{ targets: [ up/405 ], fallback: [ up/spare ] }}\n  m408: {{ targets: [ up/408 ], fallback: [ up/spare ] }}\n  \
         m424: {{ targets: [ up/424 ], fallback: [ up/spare ] }}\n",
        upstream.url()
    );
    let policy = r#"fn on_error(req, err) {
        if err.status == 424 { return reject(418, "seen", "the policy saw it"); }
    }"#;
    let gateway = gateway::setup(&config).policy("10-seen.rhai", policy).start();
    for (answered, shown) in [(405, 200), (408, 504), (424, 418)] {
        let reply = chat(gateway.clients, &ask(&format!("m{answered}"))).await;
        assert_eq!(reply.status, shown, "{answered}: {reply:#?}");
        let record = gateway.record(reply.header("x-request-id")).await;
        assert_eq!(record["attempts"][0]["status"], answered, "{record:#}");
    }
}

#[tokio::test]
async fn the_client_hears_of_the_first_fault_and_not_of_the_last() {
    let first = Upstream::start(|_| acts::error(529, "the first is overloaded"));
    let second = Upstream::start(|_| acts::error(401, "who are you"));
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nproviders:\n{}{}models:\n  m: {{ targets: [ first/m ], fallback: [ second/m ] }}\n",
        gateway::provider("first", &first.url()),
        gateway::provider("second", &second.url()),
    ));
    let reply = chat(gateway.clients, &ask("m")).await;
    assert_eq!(reply.status, 503, "{reply:#?}");
    assert!(reply.text().contains("the first is overloaded"), "{reply:#?}");
    assert!(!reply.header("retry-after").is_empty(), "{reply:#?}");
}

#[tokio::test]
async fn what_is_wrong_with_keys_faults_and_breakers_is_told_with_its_place() {
    let setup = gateway::setup(
        "providers:\n  up:\n    dialect: openai\n    base_url: http://127.0.0.1:1/v1\n    keys: [ { secret: env:TEST_KEY, rpm: 0 } ]\n    \
         faults: { overloadd: stop }\nbreaker: { failure_rate: 2 }\n",
    );
    let printed = setup.run(&["check"]);
    for part in ["overloadd", "overloaded", "rpm", "breaker.failure_rate"] {
        assert!(printed.err.contains(part) || printed.out.contains(part), "{part}: {printed:#?}");
    }
    assert_ne!(printed.code, Some(0));
}
