//! Late answers: hedges, standbys, races and votes, over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::acts;
use crate::client::{Reply, ask, ask_stream, at_once, chat, chat_live, eventually};
use crate::gateway::{self, Gateway};
use crate::recording;
use crate::upstream::{Act, Upstream};

/// Two providers and this configuration.
fn pair(first: Upstream, second: Upstream, rest: &str) -> (Upstream, Upstream, Gateway) {
    let gateway = gateway::start(&format!(
        "decisions: {{ recent: 100 }}\nretries: {{ retries: 0 }}\nproviders:\n{}{}{rest}",
        gateway::provider("first", &first.url()),
        gateway::provider("second", &second.url()),
    ));
    (first, second, gateway)
}

fn hanging() -> Upstream {
    Upstream::start(|_| vec![Act::Hang])
}

fn speaking(text: &'static str) -> Upstream {
    Upstream::start(
        move |heard| if heard.is_stream() { acts::says_stream(&[text]) } else { acts::says(text) },
    )
}

/// A stream whose head comes and whose first content does not.
fn stalling() -> Upstream {
    Upstream::start(|_| {
        let mut script = acts::stream_head();
        script.push(acts::piece(&acts::delta(json!({"role": "assistant", "content": ""}), None)));
        script.push(Act::Hang);
        script
    })
}

/// Target, outcome and role of every attempt, as the access log has them.
async fn attempts(gateway: &Gateway, reply: &Reply) -> Vec<String> {
    let record = gateway.record(reply.header("x-request-id")).await;
    let word = |attempt: &Value, name: &str| attempt[name].as_str().unwrap_or("primary").to_owned();
    record["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| {
            format!("{} {} {}", word(attempt, "target"), word(attempt, "outcome"), word(attempt, "role"))
        })
        .collect()
}

#[tokio::test]
async fn a_hedge_wins_and_the_loser_ends_at_once() {
    let (first, second, gateway) = pair(
        hanging(),
        speaking("hedged"),
        "models:\n  m: { targets: [ first/slow, second/quick ], hedge: { after: 60ms, share: 100 } }\n",
    );
    let begun = Instant::now();
    let reply = chat(gateway.clients, &ask("m")).await;
    let took = begun.elapsed();
    assert_eq!(
        (reply.said().as_str(), reply.header("x-tollgate-target")),
        ("hedged", "second/quick"),
        "{reply:#?}"
    );
    assert!(took >= Duration::from_millis(60) && took < Duration::from_millis(400), "{took:?}");
    assert_eq!(reply.header("x-tollgate-attempts"), "2");
    assert_eq!(reply.json()["usage"]["total_tokens"], 10, "the winner's usage: {reply:#?}");
    eventually("the loser's connection is closed", || {
        first.heard().iter().all(|heard| heard.left.is_some()).then_some(())
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    let mut ended = attempts(&gateway, &reply).await;
    ended.sort();
    assert_eq!(ended, ["first/slow cancelled primary", "second/quick ok hedge"]);
    assert_eq!(second.heard().len(), 1);
}

#[tokio::test]
async fn a_quick_answer_is_not_hedged_and_a_policy_may_ask_for_it() {
    let (_first, second, gateway) = pair(
        speaking("first"),
        speaking("second"),
        "models:\n  m: { targets: [ first/a, second/b ], hedge: 500ms }\n",
    );
    assert_eq!(chat(gateway.clients, &ask("m")).await.said(), "first");
    assert_eq!(second.heard().len(), 0);
    let silent = hanging();
    let setup = gateway::setup(&format!(
        "retries: {{ retries: 0 }}\nproviders:\n{}{}",
        gateway::provider("first", &silent.url()),
        gateway::provider("second", &second.url()),
    ));
    let policy = "fn on_request(req) { route(\"first/slow\").then(\"second/b\").hedge_after(40, 100) }";
    let gateway = setup.policy("10-hedge.rhai", policy).start();
    assert_eq!(chat(gateway.clients, &ask("any")).await.said(), "second");
}

#[tokio::test]
async fn hedges_keep_to_their_share_of_the_traffic() {
    let slow = Upstream::start(|_| acts::after(Duration::from_millis(25), acts::says("slow")));
    let (_first, second, gateway) = pair(
        slow,
        speaking("hedged"),
        "models:\n  m: { targets: [ first/a, second/b ], hedge: { after: 5ms, share: 10 } }\n",
    );
    for _ in 0..60 {
        assert_eq!(chat(gateway.clients, &ask("m")).await.status, 200);
    }
    let hedged = second.heard().len();
    assert!((4..=7).contains(&hedged), "{hedged} of 60 requests were sent twice");
}

#[tokio::test]
async fn a_target_that_slows_down_as_a_whole_is_not_asked_twice() {
    let time = Arc::new(AtomicU64::new(20));
    let pause = time.clone();
    let slowing = Upstream::start(move |_| {
        acts::after(Duration::from_millis(pause.load(Ordering::SeqCst)), acts::says("first"))
    });
    let (first, second, gateway) = pair(
        slowing,
        speaking("hedged"),
        "models:\n  m: { targets: [ first/a, second/b ], hedge: { after: 100ms, share: 50 } }\n",
    );
    let ask_many = async |many: usize| {
        for _ in 0..many / 10 {
            let to = gateway.clients;
            assert_eq!(
                at_once(10, move |_| async move { chat(to, &ask("m")).await.status }).await,
                [200; 10]
            );
        }
    };
    ask_many(100).await;
    let before = second.heard().len();
    time.store(400, Ordering::SeqCst);
    ask_many(100).await;
    let hedged = second.heard().len() - before;
    // The first dozens show that it is slower; half of all might have been sent twice.
    assert!((1..=40).contains(&hedged), "{hedged} of 100 late ones were sent twice");
    let spared = gateway.metric("tollgate_hedges_total", &["outcome=\"shifted\""]).await;
    assert!(spared >= 40.0, "{spared} were not, as it had slowed down");
    assert_eq!(first.heard().len(), 200);
}

#[tokio::test]
async fn a_stream_that_stalls_before_its_first_token_is_answered_by_the_standby() {
    let (first, _second, gateway) = pair(
        stalling(),
        speaking("standby"),
        "deadlines: { first_token: 600ms }\nmodels:\n  m: { targets: [ first/stalls, second/b ], standby: 200ms }\n  \
         p: { targets: [ first/stalls, second/b ], standby: p95 }\n",
    );
    for (model, least) in [("m", 200), ("p", 300)] {
        let begun = Instant::now();
        let reply = chat(gateway.clients, &ask_stream(model)).await;
        let took = begun.elapsed();
        let facts = recording::streamed(&reply.text());
        assert_eq!(facts.choices[&0].text, "standby", "{model}: {reply:#?}");
        assert!(facts.done && facts.error.is_none(), "{model}: {reply:#?}");
        assert!(
            took >= Duration::from_millis(least) && took < Duration::from_millis(650),
            "{model}: {took:?}"
        );
        assert_eq!(reply.header("x-tollgate-target"), "second/b");
        let mut ended = attempts(&gateway, &reply).await;
        ended.sort();
        assert_eq!(ended, ["first/stalls cancelled primary", "second/b ok standby"], "{model}");
    }
    eventually("the loser's connection is closed", || {
        first.heard().iter().all(|heard| heard.left.is_some()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_streams_that_race_the_first_to_speak_is_heard() {
    let (first, second, gateway) = pair(
        stalling(),
        speaking("winner"),
        "models:\n  m: { targets: [ first/a, second/b ], together: race }\n",
    );
    let begun = Instant::now();
    let reply = chat(gateway.clients, &ask_stream("m")).await;
    assert_eq!(recording::streamed(&reply.text()).choices[&0].text, "winner", "{reply:#?}");
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!((first.heard().len(), second.heard().len()), (1, 1));
    assert_eq!(chat(gateway.clients, &ask("m")).await.said(), "winner");
}

#[tokio::test]
async fn a_race_that_all_lose_goes_on_with_the_fallback() {
    let failing = || {
        Upstream::start(
            |heard| if heard.model() == "safe" { acts::says("safe") } else { acts::error(500, "no") },
        )
    };
    let (first, second) = (failing(), failing());
    let setup = gateway::setup(&format!(
        "retries: {{ retries: 0 }}\nproviders:\n{}{}",
        gateway::provider("first", &first.url()),
        gateway::provider("second", &second.url()),
    ));
    let policy = "fn on_request(req) { race([\"first/a\", \"second/b\"]).then(\"second/safe\") }";
    let gateway = setup.policy("10-race.rhai", policy).start();
    let reply = chat(gateway.clients, &ask("any")).await;
    assert_eq!(reply.said(), "safe", "{reply:#?}");
    let ended = attempts(&gateway, &reply).await;
    assert_eq!(ended.last().map(String::as_str), Some("second/safe ok retry"), "{ended:?}");
}

#[tokio::test]
async fn what_most_of_them_say_is_the_answer_and_all_of_it_is_paid() {
    let voices = Upstream::start(|heard| match heard.model().as_str() {
        "a" => acts::says("Berlin"),
        "b" => acts::says("**Paris**."),
        "judge" => acts::says("Answer 2 is right."),
        _ => acts::says("paris"),
    });
    let setup = gateway::setup(&format!(
        "prices:\n  models: {{ \"up/*\": {{ price: {{ input: 1000, output: 1000 }} }} }}\nproviders:\n{}models:\n  \
         city: {{ targets: [ up/a, up/b, up/c ], together: vote }}\n  \
         best: {{ targets: [ up/a, up/c ], together: {{ by: best, judge: up/judge }} }}\n",
        gateway::provider("up", &voices.url()),
    ));
    let policy =
        "fn on_request(req) { if req.model == \"merged\" { merged([\"up/a\", \"up/b\"], \"up/c\") } }";
    let gateway = setup.policy("10-merge.rhai", policy).start();
    let reply = chat(gateway.clients, &ask("city")).await;
    assert_eq!(reply.said().to_lowercase().replace(['*', '.'], ""), "paris", "{reply:#?}");
    let reply = chat(gateway.clients, &ask("best")).await;
    assert_eq!((reply.said().as_str(), reply.header("x-tollgate-target")), ("paris", "up/c"), "{reply:#?}");
    // Two answers and a judgement, each of 10 tokens at a thousandth of a dollar.
    assert_eq!(reply.header("x-tollgate-cost-usd"), "0.03", "{reply:#?}");
    let ended = attempts(&gateway, &reply).await;
    assert!(ended.iter().all(|attempt| attempt.ends_with("ok ensemble")) && ended.len() == 3, "{ended:?}");
    let judged = String::from_utf8_lossy(&voices.heard_for("judge")[0].body).into_owned();
    assert!(judged.contains("Answer 1:") && judged.contains("hello"), "{judged}");
    let reply = chat(gateway.clients, &ask("merged")).await;
    assert_eq!((reply.said().as_str(), reply.header("x-tollgate-target")), ("paris", "up/c"), "{reply:#?}");
    // A stream is answered by the first that can.
    let reply = chat(gateway.clients, &ask("city")).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn what_several_answers_take_of_reserved_capacity_is_taken_once() {
    let voices = Upstream::start(|heard| acts::says(if heard.model() == "judge" { "2" } else { "paris" }));
    let model = |name: &str| {
        format!(
            "up/{name}: {{ price: {{ input: 1000, output: 1000 }}, reserved: {{ tokens: 20, per: month }} }}"
        )
    };
    let gateway = gateway::start(&format!(
        "state: {{ ledger: \"sqlite:./t.db\" }}\nprices:\n  models: {{ {}, {}, {} }}\nproviders:\n{}models:\n  \
         best: {{ targets: [ up/a, up/c ], together: {{ by: best, judge: up/judge }} }}\n",
        model("a"),
        model("c"),
        model("judge"),
        gateway::provider("up", &voices.url()),
    ));
    // Each of the three answers has 10 tokens, and each target 20 that are paid for.
    for expected in ["0", "0", "0.03"] {
        let reply = chat(gateway.clients, &ask("best")).await;
        assert_eq!(reply.header("x-tollgate-cost-usd"), expected, "{reply:#?}");
    }
}

#[tokio::test]
async fn what_an_answer_in_two_parts_takes_of_reserved_capacity_is_taken_once() {
    let thousand = || {
        let mut answer = acts::completion("much");
        answer["usage"] = json!({ "prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000 });
        acts::whole(200, &answer)
    };
    let model = |name: &str| {
        format!(
            "{name}: {{ price: {{ input: 1000, output: 1000 }}, reserved: {{ tokens: 500, per: month }} }}"
        )
    };
    let rest = format!(
        "prices: {{ models: {{ {}, {} }} }}\nmodels:\n  m: {{ targets: [ first/a, {{ to: second/b, continue: true }} ] }}\n",
        model("first/a"),
        model("second/b"),
    );
    let ledger = "state: { ledger: \"sqlite:./t.db\" }\n";
    for (ledger, way) in [
        (ledger, "goes on"),
        (ledger, "fails"),
        (ledger, "leaves"),
        ("", "goes on"),
        ("", "fails"),
        ("", "leaves"),
    ] {
        let first = Upstream::start(move |heard| {
            if !heard.is_stream() {
                return thousand();
            }
            let mut script = acts::stream_open(&acts::events(&["Once ", "upon"]), usize::MAX);
            script.extend([Act::Pause(Duration::from_millis(30)), Act::Close]);
            script
        });
        let second = Upstream::start(move |heard| match way {
            _ if !heard.is_stream() => thousand(),
            "goes on" => acts::says_stream(&[" a time"]),
            "fails" => acts::error(500, "no"),
            _ => vec![Act::Hang],
        });
        let (_first, second, gateway) = pair(first, second, &format!("{ledger}{rest}"));
        let mut live = chat_live(gateway.clients, &ask_stream("m")).await;
        live.until("upon").await;
        let id = live.headers["x-request-id"].to_str().unwrap().to_owned();
        if way == "leaves" {
            eventually("the sequel", || (!second.heard().is_empty()).then_some(())).await;
            drop(live);
        } else {
            live.rest().await;
        }
        let record = gateway.record(&id).await;
        let count = |class: &str| record["usage"][class].as_u64().unwrap_or(0);
        let used = count("input") + count("output");
        let rest = if way == "goes on" { 10 } else { 0 };
        assert!(used > rest && record["cost"] == 0, "{way}, {ledger:?}: {record:#}");
        // Of a thousand tokens, those are paid for that are left of five hundred.
        for (target, taken) in [("first/a", used - rest), ("second/b", rest)] {
            // What a request used that was given up is not told in its record.
            if (target, way) == ("second/b", "leaves") {
                continue;
            }
            let reply = chat(gateway.clients, &ask(target)).await;
            let dollars: f64 = reply.header("x-tollgate-cost-usd").parse().unwrap();
            let paid = (dollars * 1_000.0).round() as u64;
            assert_eq!(paid, 500 + taken, "{target} where the sequel {way}, {ledger:?}: {record:#}");
        }
    }
}

#[tokio::test]
async fn a_cut_after_the_first_content_goes_on_where_a_target_can() {
    let cut = || {
        Upstream::start(|_| {
            let mut script = acts::stream_open(&acts::events(&["Once ", "upon"]), usize::MAX);
            script.extend([Act::Pause(Duration::from_millis(30)), Act::Close]);
            script
        })
    };
    let models = |target: &str| format!("models:\n  m: {{ targets: [ first/cuts, {target} ] }}\n");
    let (_first, second, gateway) =
        pair(cut(), speaking(" a time"), &models("{ to: second/b, continue: true }"));
    let reply = chat(gateway.clients, &ask_stream("m")).await;
    let facts = recording::streamed(&reply.text());
    assert_eq!(facts.choices[&0].text, "Once upon a time", "{reply:#?}");
    assert!(facts.done && facts.error.is_none(), "{reply:#?}");
    let messages = second.heard()[0].json()["messages"].clone();
    assert_eq!(messages[1], json!({ "role": "assistant", "content": "Once upon", "prefix": true }));
    assert_eq!(attempts(&gateway, &reply).await[1], "second/b ok continuation");

    // Nobody said that it can.
    let (_first, second, gateway) = pair(cut(), speaking(" a time"), &models("second/b"));
    let facts = recording::streamed(&chat(gateway.clients, &ask_stream("m")).await.text());
    assert_eq!((facts.choices[&0].text.as_str(), facts.done), ("Once upon", false));
    assert!(facts.error.is_some() && second.heard().is_empty());
    // And if it cannot after all, the client hears of the cut, which counts once.
    let broken = Upstream::start(|_| acts::error(500, "no"));
    let breaker = format!("breaker: {{ consecutive: 2 }}\n{}", models("{ to: second/b, continue: true }"));
    let (_first, _second, gateway) = pair(cut(), broken, &breaker);
    let facts = recording::streamed(&chat(gateway.clients, &ask_stream("m")).await.text());
    assert!(facts.error.is_some() && !facts.done, "no false end");
    let told = crate::client::get(gateway.admin, "/admin/v1/providers").await.json();
    let first = told["providers"].as_array().unwrap().iter().find(|one| one["name"] == "first").unwrap();
    assert_eq!(first["targets"][0]["breaker"]["state"], "closed", "{first:#}");
}

#[tokio::test]
async fn who_goes_on_has_what_is_left_of_tokens_and_money() {
    let long = "word ".repeat(40);
    let cuts = long.clone();
    let first = Upstream::start(move |_| {
        let mut script = acts::stream_open(&acts::events(&[&cuts]), usize::MAX);
        script.extend([Act::Pause(Duration::from_millis(30)), Act::Close]);
        script
    });
    let second = speaking("and so on");
    // A token of an answer costs a ten-thousandth of a dollar, and the beginning of the answer has fifty.
    let setup = gateway::setup(&format!(
        "auth: keys\nkeys:\n  rich: {{ secret: env:RICH_KEY }}\n  poor: {{ secret: env:POOR_KEY, scope: {{ max_cost: 0.008 }} }}\n  \
         broke: {{ secret: env:BROKE_KEY, scope: {{ max_cost: 0.0045 }} }}\nretries: {{ retries: 0 }}\n\
         prices: {{ models: {{ \"first/*\": {{ price: {{ input: 1, output: 100 }} }}, \"second/*\": {{ price: {{ input: 1, output: 100 }} }} }} }}\n\
         models:\n  m: {{ targets: [ first/cuts, {{ to: second/b, continue: true }} ] }}\nproviders:\n{}{}",
        gateway::provider("first", &first.url()),
        gateway::provider("second", &second.url()),
    ));
    let keys = ["RICH_KEY", "POOR_KEY", "BROKE_KEY"];
    let setup = keys.into_iter().fold(setup, |setup, key| setup.env(key, &format!("{key}-of-the-story")));
    let gateway = setup.start();
    let ask = |most: u64| json!({"model": "m", "stream": true, "max_tokens": most, "messages": [{"role": "user", "content": "on"}]});
    let heard = async |key: &str, most: u64| {
        let before = second.heard().len();
        let reply = crate::keys::chat_as(gateway.clients, &format!("{key}-of-the-story"), &ask(most)).await;
        let done = recording::streamed(&reply.text()).done;
        let asked = second.heard()[before..].first().map(|heard| {
            let body = heard.json();
            let most = body.get("max_tokens").or(body.get("max_completion_tokens"));
            most.and_then(Value::as_u64).expect("a limit")
        });
        (done, asked)
    };
    let (done, most) = heard("RICH_KEY", 120).await;
    assert!(done && most.is_some_and(|most| (65..=75).contains(&most)), "{most:?}");
    let (done, most) = heard("POOR_KEY", 120).await;
    assert!(done && most.is_some_and(|most| (20..=30).contains(&most)), "{most:?}");
    // Nothing is left: the client hears of the cut.
    assert_eq!(heard("RICH_KEY", 40).await, (false, None));
    assert_eq!(heard("BROKE_KEY", 120).await, (false, None));
}
