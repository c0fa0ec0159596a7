//! Plugins that misbehave: each ends as declared, within its deadline, and nobody else notices.

use std::time::{Duration, Instant};

use super::forge::toolbox;
use super::{load_into, sound};
use crate::plugin::{Outcome, PluginHost, Services};

#[tokio::test]
async fn misdeeds_end_as_declared() {
    let yaml = "{ name: bad, grants: [prompt], limits: { time: 50ms, memory: 128MiB } }";
    let bytes = toolbox().module();
    for (name, outcome, part) in [
        ("loop", Outcome::Timeout, "not done within 50ms"),
        ("trap", Outcome::Trap, "it gave up"),
        ("memory", Outcome::Oom, "wanted 4260102144 bytes of memory, may have 134217728"),
        ("recursion", Outcome::Trap, "calls itself without end"),
        ("huge", Outcome::Trap, "more data at once than it may"),
        ("wild", Outcome::Trap, "out of bounds"),
        ("fail", Outcome::Failure, "out of sorts"),
        ("unsupported", Outcome::Failure, "not in my language"),
    ] {
        let plugin = sound(yaml, bytes.clone());
        let called = plugin.call(name.into(), "{}".into()).await;
        let fault = called.answer.unwrap_err();
        assert_eq!(fault.outcome, outcome, "{name}: {fault}");
        assert!(fault.message.contains(part), "{name}: {fault}");
        assert_eq!(fault.unsupported, name == "unsupported");
        assert!(called.took < Duration::from_millis(500), "{name}: {:?}", called.took);
        let after = plugin.call("echo".into(), "1".into()).await;
        assert_eq!(after.answer.unwrap(), "1", "the call after {name}");
    }
}

#[tokio::test]
async fn a_plugin_that_keeps_trapping_is_not_run_for_a_while() {
    let plugin = sound("{ name: bad, grants: [prompt] }", toolbox().module());
    for _ in 0..5 {
        assert_eq!(plugin.call("trap".into(), String::new()).await.outcome(), Outcome::Trap);
    }
    assert!(plugin.quarantined());
    let called = plugin.call("echo".into(), String::new()).await;
    assert_eq!(called.outcome(), Outcome::Quarantined);
    assert!(called.took < Duration::from_millis(10));
}

#[tokio::test]
async fn calls_beyond_the_plugins_places_wait_a_while_and_then_are_told_so() {
    let yaml = "{ name: one, grants: [prompt], limits: { concurrency: 1, time: 200ms, wait: 20ms } }";
    let plugin = sound(yaml, toolbox().module());
    let runaway = tokio::spawn(plugin.call("loop".into(), String::new()));
    tokio::task::yield_now().await;
    let called = plugin.call("echo".into(), String::new()).await;
    assert_eq!(called.outcome(), Outcome::Busy);
    assert_eq!(runaway.await.unwrap().outcome(), Outcome::Timeout);
    assert_eq!(plugin.call("echo".into(), "1".into()).await.answer.unwrap(), "1");
}

#[tokio::test]
async fn an_exhausted_pool_is_waited_for() {
    let host = PluginHost::new(Services::default(), None).with_instances(2);
    let yaml = "{ name: many, grants: [prompt], limits: { concurrency: 64, time: 50ms, wait: 2s } }";
    let plugin = load_into(&host, yaml, toolbox().module());
    assert_eq!(plugin.absent(), None);
    let calls: Vec<_> = (0..16).map(|n| tokio::spawn(plugin.call("echo".into(), n.to_string()))).collect();
    let runaways: Vec<_> = (0..2).map(|_| tokio::spawn(plugin.call("loop".into(), String::new()))).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().answer.unwrap(), n.to_string());
    }
    for runaway in runaways {
        assert_eq!(runaway.await.unwrap().outcome(), Outcome::Timeout);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_runaways_on_two_workers_stall_nobody() {
    let yaml = "{ name: bad, grants: [prompt], limits: { concurrency: 32, time: 100ms } }";
    let plugin = sound(yaml, toolbox().module());
    let runaways: Vec<_> = (0..16).map(|_| tokio::spawn(plugin.call("loop".into(), String::new()))).collect();
    let heart = tokio::spawn(async {
        let mut longest = Duration::ZERO;
        for _ in 0..40 {
            let started = Instant::now();
            tokio::time::sleep(Duration::from_millis(2)).await;
            longest = longest.max(started.elapsed());
        }
        longest
    });
    for runaway in runaways {
        let called = runaway.await.unwrap();
        assert_eq!(called.outcome(), Outcome::Timeout);
        assert!(called.took < Duration::from_secs(1), "{:?}", called.took);
    }
    // Without yielding it would be all of the 1.6 s that sixteen limits take.
    let longest = heart.await.unwrap();
    assert!(longest < Duration::from_millis(250), "{longest:?}");
}

#[tokio::test]
async fn a_caller_who_leaves_gives_everything_back() {
    let yaml = "{ name: one, grants: [prompt], limits: { concurrency: 1, time: 10s } }";
    let plugin = sound(yaml, toolbox().module());
    for _ in 0..3 {
        let call = plugin.call("loop".into(), String::new());
        assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    }
    assert_eq!(plugin.call("echo".into(), "1".into()).await.answer.unwrap(), "1");
}
