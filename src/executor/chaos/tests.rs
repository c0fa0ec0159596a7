//! Stories of chaos with paused time and seeds.

use serde_json::{Value, json};

use super::super::tests::{executor, job_of};
use super::*;
use crate::caller::{Caller, Grant};
use crate::clock::FixedClock;
use crate::settings::Date;
use crate::target::TargetName;

const NOW: u64 = 1_793_534_400_000;

fn chaos() -> Chaos {
    Chaos::new(Arc::new(FixedClock(NOW)))
}

fn settings(fields: &Value) -> ChaosSettings {
    let mut whole = json!({ "name": "story", "kind": "error", "for": "10m" });
    for (field, value) in fields.as_object().unwrap() {
        whole[field] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

/// What is about a request of nobody in particular.
fn exposed(chaos: &Chaos) -> Option<Arc<Exposed>> {
    chaos.exposes(&Caller::default(), "m", &[])
}

#[tokio::test(start_paused = true)]
async fn every_kind_goes_the_way_of_a_real_fault() {
    for (fields, stream, expected, seconds) in [
        (json!({ "kind": "latency", "delay": "3s" }), false, vec!["ok story"], 3),
        (json!({ "kind": "latency", "delay": "2h" }), false, vec!["timeout_first_byte story", "ok"], 20),
        (json!({ "status": 500 }), false, vec!["server_error story", "server_error story", "ok"], 0),
        (json!({ "status": 400 }), true, vec!["bad_request story"], 0),
        (json!({ "status": 401 }), true, vec!["upstream_credentials story", "ok"], 0),
        (json!({ "kind": "throttle", "retry_after": "2s" }), true, vec!["rate_limited story", "ok"], 0),
        (json!({ "kind": "throttle", "retry_after": "30s" }), true, vec!["rate_limited story", "ok"], 0),
        (json!({ "kind": "stall" }), false, vec!["timeout_first_byte story", "ok"], 20),
        (json!({ "kind": "stall", "at": "first_token" }), true, vec!["timeout_first_token story", "ok"], 20),
        (json!({ "kind": "cut", "chunks": 0 }), true, vec!["upstream_truncated story", "ok"], 0),
        (json!({ "kind": "cut" }), false, vec!["upstream_truncated story", "ok"], 0),
        (json!({ "kind": "garbage" }), true, vec!["upstream_truncated story", "ok"], 0),
    ] {
        let mut fields = fields;
        fields["match"] = json!({ "target": "actor/ok-1" });
        let (chaos, executor) = (chaos(), executor());
        chaos.begin(settings(&fields), "a test").unwrap();
        let mut job = job_of(&["ok-1", "ok-2"], stream);
        (job.exposed, job.limits.retries) = (exposed(&chaos), 1);
        let began = Instant::now();
        let _ = executor.carry_out(&job).await;
        let attempts: Vec<_> = job
            .journal
            .close()
            .iter()
            .map(|one| format!("{} {}", one.outcome, one.chaos.as_deref().unwrap_or("")).trim().to_owned())
            .collect();
        assert_eq!(
            (attempts, began.elapsed().as_secs()),
            (expected.iter().map(ToString::to_string).collect(), seconds),
            "{fields}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_cut_after_so_many_events() {
    let text = "data: a\n\ndata: b\n\ndata: c\n\n";
    let crlf = text.replace('\n', "\r\n");
    for (kind, text, size, chunks, expected) in [
        ("text/event-stream", text, 100, 2, "data: a\n\ndata: b\n\n"),
        ("text/event-stream", text, 9, 2, "data: a\n\ndata: b\n\n"),
        ("text/event-stream", &*crlf, 100, 1, "data: a\r\n\r\n"),
        ("text/event-stream", text, 100, 9, text),
        ("text/event-stream", text, 100, 0, ""),
        ("application/x-ndjson", "{}\n{}\n{}\n", 100, 2, "{}\n{}\n"),
        ("application/vnd.amazon.eventstream", "abcdef", 2, 2, "abcd"),
        ("application/json", "abcdef", 100, 1, "abc"),
    ] {
        let chaos = chaos();
        chaos.begin(settings(&json!({ "kind": "cut", "chunks": chunks })), "a test").unwrap();
        let target = &job_of(&["ok"], true).targets[0];
        let strike = exposed(&chaos).unwrap().strike(target, &Dice::loaded(1), Instant::now()).unwrap();
        let pieces =
            text.as_bytes().chunks(size).map(|piece| (Duration::ZERO, Bytes::copy_from_slice(piece)));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let body = Answering::Local(Script::new(pieces.collect()));
        let sent = Sent { status: 200, headers, body, held: None, secrets: Vec::new() };
        let (mut body, mut seen) = (strike.afterwards(sent).body, String::new());
        let fault = loop {
            match std::future::poll_fn(|cx| body.poll_chunk(cx)).await {
                Some(Ok(bytes)) => seen.push_str(std::str::from_utf8(&bytes).unwrap()),
                Some(Err(fault)) => break fault.kind,
                None => panic!("{kind}, {chunks}: a clean end"),
            }
        };
        assert_eq!((seen.as_str(), fault), (expected, FaultKind::Truncated), "{kind} by {size}, {chunks}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_strikes_its_share_of_what_it_is_about() {
    let grant = Grant { name: "ci".into(), ..Grant::default() };
    let caller = Caller { key_id: Some("tgk_1".into()), grant: Some(Arc::new(grant)), ..Caller::default() };
    let tags = [("team".into(), "search".into())];
    for (matches, struck) in [
        (json!({}), true),
        (json!({ "provider": "openai" }), true),
        (json!({ "provider": "open" }), false),
        (json!({ "target": "openai/gpt-*" }), true),
        (json!({ "target": "openai/o*" }), false),
        (json!({ "model": "fast" }), true),
        (json!({ "model": "gpt-4o" }), false),
        (json!({ "tag": "team" }), true),
        (json!({ "tag": "team=sea*" }), true),
        (json!({ "tag": "team=ads" }), false),
        (json!({ "key": "ci" }), true),
        (json!({ "key": "tgk_*" }), true),
        (json!({ "key": "prod" }), false),
        (json!({ "key": "ci", "provider": "azure" }), false),
    ] {
        let chaos = chaos();
        chaos.begin(settings(&json!({ "match": matches, "percent": "25%" })), "a test").unwrap();
        let (dice, target) = (Dice::loaded(7), TargetName::parse("openai/gpt-4o").unwrap());
        let exposed = chaos.exposes(&caller, "fast", &tags);
        let strikes = (0..2_000)
            .filter(|_| {
                exposed.as_ref().is_some_and(|all| all.strikes(&target, &dice, Instant::now()).is_some())
            })
            .count();
        let expected = if struck { 420..580 } else { 0..1 };
        assert!(expected.contains(&strikes), "{matches}: {strikes}");
        assert_eq!(chaos.shown()[0]["injected"], strikes);
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_by_itself_also_for_requests_under_way() {
    let until: Date = "2026-11-01T12:10:00Z".parse().unwrap();
    let target = TargetName::parse("a/b").unwrap();
    for end in [json!({ "for": "10m" }), json!({ "for": null, "until": until })] {
        let chaos = chaos();
        chaos.begin(settings(&end), "a test").unwrap();
        let (dice, under_way) = (Dice::loaded(1), exposed(&chaos).unwrap());
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!(under_way.strikes(&target, &dice, Instant::now()).is_some(), "{end}");
        assert_eq!(chaos.shown()[0]["ends"], "2026-11-01T12:10:00Z");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(under_way.strikes(&target, &dice, Instant::now()).is_none(), "{end}");
        assert!(chaos.names().is_empty() && chaos.shown().is_empty());
        chaos.tick(Instant::now());
        assert!(exposed(&chaos).is_none(), "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_configuration_began_does_not_begin_again_with_a_reload() {
    let chaos = chaos();
    let minute = settings(&json!({ "for": "1m" }));
    chaos.configure(std::slice::from_ref(&minute));
    chaos.begin(settings(&json!({ "name": "mine" })), "a test").unwrap();
    tokio::time::advance(Duration::from_secs(40)).await;
    chaos.configure(std::slice::from_ref(&minute));
    assert_eq!(chaos.names().len(), 2);
    tokio::time::advance(Duration::from_secs(20)).await;
    chaos.tick(Instant::now());
    chaos.configure(std::slice::from_ref(&minute));
    assert_eq!(*chaos.names(), [Arc::<str>::from("mine")], "it is over");
    chaos.configure(&[settings(&json!({ "for": "2m" }))]);
    assert_eq!(chaos.names().len(), 2, "another one");
    assert_eq!(chaos.end(None, "a test").len(), 2);
    chaos.configure(&[settings(&json!({ "for": "2m" }))]);
    assert!(chaos.names().is_empty(), "somebody ended it");
    chaos.configure(&[]);
    chaos.configure(&[minute]);
    assert_eq!(chaos.names().len(), 1, "it went away and came back");
    chaos.configure(&[]);
    assert!(chaos.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn operators_hear_what_is_wrong() {
    let chaos = chaos();
    chaos.begin(settings(&json!({})), "a test").unwrap();
    for (fields, part) in [
        (json!({}), "is running; end it first"),
        (json!({ "name": "b", "for": null }), "an end is required"),
        (json!({ "name": "b", "for": null, "until": "2020-01-01" }), "is past"),
        (json!({ "name": "b", "percent": 0 }), "percent"),
    ] {
        let complaint = chaos.begin(settings(&fields), "a test").unwrap_err();
        assert!(complaint.contains(part), "{fields}: {complaint}");
    }
}
