//! Counts that hold: exact, corrected, bounded, told.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cell::{BEGINNING, Cell, Pace, ticks};
use super::table::Table;
use super::*;
use crate::caller::{Caller, Grant};
use crate::chat::Usage;
use crate::settings::Rate;

fn pace(rate: &str) -> Pace {
    Pace::of(rate.parse::<Rate>().unwrap())
}

fn at(ms: u64) -> u64 {
    BEGINNING + ticks(Duration::from_millis(ms))
}

fn limits(yaml: &str) -> (Limits, Rules) {
    let settings: Vec<RateLimitSettings> = serde_yaml::from_str(yaml).unwrap();
    let limits = Limits::new(Instant::now());
    let rules = limits.rules(&settings);
    (limits, rules)
}

fn user(name: &str) -> Caller {
    Caller { user: Some(name.into()), ..Caller::default() }
}

fn ask(
    limits: &Limits,
    rules: &Rules,
    caller: &Caller,
    need: Need,
) -> Result<Option<Box<Held>>, Box<Denied>> {
    let subject = Subject { caller, model: "fast", alias: None, tags: &[] };
    limits.admit(rules, None, &subject, &need, Instant::now())
}

#[test]
fn exactly_so_many_come_at_once_and_the_next_when_its_time_has_come() {
    for (rate, at_once, next_ms) in [
        ("60/min", 60, 1_000),
        ("7/min", 7, 8_572),
        ("1000/day", 1_000, 86_400),
        ("3/s", 3, 334),
        ("60/min burst 5", 5, 1_000),
        ("999983/min", 999_983, 1),
    ] {
        let (cell, pace) = (Cell::default(), pace(rate));
        for n in 0..at_once {
            assert!(cell.take(pace, 1, at(0)).is_ok(), "{rate}: {n}");
        }
        let wait = cell.take(pace, 1, at(0)).unwrap_err();
        assert_eq!(wait.as_nanos().div_ceil(1_000_000), u128::from(next_ms), "{rate}");
        assert!(cell.take(pace, 1, at(next_ms)).is_ok(), "{rate}");
        assert_eq!(cell.level(pace, at(0)).remaining, 0);
    }
}

#[test]
fn what_was_reckoned_is_corrected_by_what_was_used() {
    let (cell, pace) = (Cell::default(), pace("1000/min"));
    cell.take(pace, 800, at(0)).unwrap();
    assert_eq!(cell.level(pace, at(0)).remaining, 200);
    cell.give_back(pace, 500);
    assert_eq!(cell.level(pace, at(0)).remaining, 700);
    cell.add(pace, 1_200, at(0));
    assert_eq!(cell.level(pace, at(0)).remaining, 0);
    // 1,500 were used: after 30 s, a thousand of them still count.
    let wait = cell.take(pace, 1, at(30_000)).unwrap_err();
    assert_eq!(wait, Duration::from_millis(60));
    assert_eq!(cell.level(pace, at(90_000)).remaining, 1_000);
}

#[test]
fn another_rate_after_a_reload_keeps_what_was_used() {
    let cell = Cell::default();
    cell.take(pace("60/min"), 50, at(0)).unwrap();
    let wider = pace("100/min");
    cell.take(wider, 1, at(0)).unwrap();
    assert_eq!(cell.level(wider, at(0)).remaining, 49);
}

#[test]
fn two_hundred_threads_get_no_more_than_the_limit() {
    let (cell, pace) = (Cell::default(), pace("100/day"));
    let let_in = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                for _ in 0..5 {
                    if cell.take(pace, 1, at(0)).is_ok() {
                        let_in.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(let_in.into_inner(), 100);
}

#[test]
fn invented_names_do_not_fill_the_memory() {
    let table = Table::default();
    let pace = pace("2/min");
    for n in 0..1_000 {
        let cell = table.small(&format!("user-{n}"), at(0));
        let _ = cell.take(pace, 1, at(0));
    }
    assert!(table.len() <= 4 * 16, "{}", table.len());
    // Those who came too late share one count, so that inventing names gains nothing.
    let late = table.small("late", at(0));
    assert!(late.take(pace, 1, at(0)).is_err());
    // When the others have been forgotten, there is room again.
    assert!(table.small("late", at(61_000)).take(pace, 1, at(61_000)).is_ok());
    assert!(table.len() < 4 * 16, "{}", table.len());
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_from_all_its_limits_or_from_none() {
    let (limits, rules) = limits(
        "[ { name: all, limits: { requests: 3/min } }, { name: each, per: user, limits: { requests: 2/min, tokens: 1000/min } } ]",
    );
    let (ann, bob) = (user("ann"), user("bob"));
    let small = Need { input: 10, output: Some(10) };
    assert!(ask(&limits, &rules, &ann, small).is_ok());
    assert!(ask(&limits, &rules, &ann, small).is_ok());
    for _ in 0..5 {
        let denied = ask(&limits, &rules, &ann, small).unwrap_err();
        assert_eq!(&*denied.limit, "each");
        let fault = denied.fault();
        assert_eq!(fault.message, "the rate limit `each` is reached: 2 requests per min; try again in 30 s");
        assert_eq!((fault.client_status(), fault.code_str()), (429, "rate_limit_exceeded"));
        assert_eq!(fault.after, Some(Duration::from_secs(30)));
    }
    assert!(ask(&limits, &rules, &bob, small).is_ok(), "what was refused did not count for all");
    assert_eq!(&*ask(&limits, &rules, &bob, small).unwrap_err().limit, "all");
    let large = Need { input: 1_001, output: None };
    tokio::time::advance(Duration::from_secs(60)).await;
    let denied = ask(&limits, &rules, &bob, large).unwrap_err().fault();
    assert!(
        denied.message.contains("more than the rate limit `each` ever lets through"),
        "{}",
        denied.message
    );
    assert_eq!(denied.after, None);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_reserved_and_then_corrected() {
    let (limits, rules) = limits(
        "[ { name: t, limits: { tokens: 1000/min, output_tokens: 500/min, concurrent: 2, weights: { output: 2, cached: 0.5 } } } ]",
    );
    let ann = user("ann");
    let need = Need { input: 100, output: Some(200) };
    let held = ask(&limits, &rules, &ann, need).unwrap().unwrap();
    let left =
        |held: &Held| held.rated(Instant::now()).iter().map(|rated| rated.remaining).collect::<Vec<_>>();
    assert_eq!(left(&held), [500, 300, 1]);
    let usage = Usage { input: 60, cached_read: 40, output: 50, ..Usage::default() };
    held.settle(Some(&usage), Instant::now());
    // 60 + 40 / 2 + 50 × 2 = 180; and then 300 more are reckoned.
    let other = ask(&limits, &rules, &ann, Need { input: 100, output: Some(100) }).unwrap().unwrap();
    assert_eq!(left(&other), [1000 - 180 - 300, 500 - 50 - 100, 1]);
    // No answer: nothing was used.
    drop(ask(&limits, &rules, &ann, Need { input: 0, output: Some(0) }).unwrap());
    other.settle(None, Instant::now());
    let third = ask(&limits, &rules, &ann, Need { input: 0, output: Some(0) }).unwrap().unwrap();
    assert_eq!(left(&third)[2], 1, "places are given back");
}

#[tokio::test(start_paused = true)]
async fn limits_hold_for_those_whom_they_match() {
    let (limits, rules) = limits(
        "[ { name: legal, match: { team: legal }, limits: { requests: 1/min } },
           { name: gold, by_name: true, limits: { requests: 1/min } },
           { name: search, match: { tag: feature=search, model: 'fa*' }, limits: { requests: 1/min } } ]",
    );
    let legal = Caller { team: Some("legal".into()), ..Caller::default() };
    let gold = Grant { rate_limits: vec!["gold".into()], ..Grant::default() };
    let gold = Caller { grant: Some(Arc::new(gold)), ..Caller::default() };
    let twice = |caller: &Caller, model: &str, tags: &[(Arc<str>, Arc<str>)]| {
        let subject = Subject { caller, model, alias: None, tags };
        let ask = || limits.admit(&rules, None, &subject, &Need::default(), Instant::now());
        (ask().is_ok(), ask().map_err(|denied| denied.limit.to_string()).err())
    };
    assert_eq!(twice(&legal, "m", &[]), (true, Some("legal".into())));
    assert_eq!(twice(&gold, "m", &[]), (true, Some("gold".into())));
    assert_eq!(twice(&user("ann"), "m", &[]), (true, None));
    let tags = [("feature".into(), "search".into())];
    assert_eq!(twice(&user("ann"), "slow", &tags), (true, None));
    assert_eq!(twice(&user("ann"), "fast", &tags), (true, Some("search".into())));
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_in_the_words_of_the_standard_and_of_openai() {
    let (limits, rules) = limits(
        "[ { name: each, per: user, limits: { requests: [ 2/min, 100/day ], tokens: 1000/min, concurrent: 3 } } ]",
    );
    let held = ask(&limits, &rules, &user("ann"), Need { input: 100, output: Some(150) }).unwrap().unwrap();
    let mut headers = http::HeaderMap::new();
    held.notice().tell(&mut headers);
    let told: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            "ratelimit-policy: \"each:requests/min\";q=2;qu=\"requests\";w=60, \"each:requests/day\";q=100;qu=\"requests\";w=86400, \
             \"each:tokens/min\";q=1000;qu=\"tokens\";w=60, \"each:concurrent-requests\";q=3;qu=\"concurrent-requests\"",
            "ratelimit: \"each:requests/min\";r=1;t=30, \"each:requests/day\";r=99;t=864, \"each:tokens/min\";r=750;t=15, \
             \"each:concurrent-requests\";r=2",
            "x-ratelimit-limit-requests: 2",
            "x-ratelimit-remaining-requests: 1",
            "x-ratelimit-reset-requests: 30s",
            "x-ratelimit-limit-tokens: 1000",
            "x-ratelimit-remaining-tokens: 750",
            "x-ratelimit-reset-tokens: 15s",
        ]
    );
}
