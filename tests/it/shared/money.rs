//! One budget of two gateways: never overspent, whatever happens to either.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::server::{Server, server};
use super::{met, outage, pair};
use crate::acts;
use crate::client::{self, eventually_async};
use crate::gateway::{self, Gateway};
use crate::money::{self, KINDS, Meter, persist, play, provider, purse, rows};
use crate::upstream::Upstream;

fn config(up: &Upstream, server: Option<&Server>, limit: u64, more: &str) -> String {
    let budget =
        format!("budgets:\n  - {{ name: all, dollars: {}, per: month }}\n{more}", limit as f64 / 1e9);
    let config = money::config(up, &budget);
    match server {
        None => config,
        Some(server) => config.replace(
            "tollgate.db }",
            &format!(
                "tollgate.db, redis: {{ url: \"{}\", timeout: 2s, lease: 2s, on_loss: closed }} }}",
                server.url()
            ),
        ),
    }
}

/// 500 clients of two gateways at once against one budget; says what was spent, and the most that either gateway said is
/// spent and held.
async fn rush(server: Option<&Server>, limit: u64) -> (u64, u64) {
    let meter = Meter::default();
    let up = provider(&meter);
    let gateways = pair(&config(&up, server, limit, ""));
    if server.is_some() {
        met(&gateways).await;
    }
    let clients: Vec<_> = (0..500)
        .map(|number| {
            let to = gateways[number % 2].clients;
            tokio::spawn(async move { persist(to, KINDS[(number / 2) % KINDS.len()], number).await })
        })
        .collect();
    let mut most = 0;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        for gateway in &gateways {
            let (used, held) = purse(gateway).await;
            most = most.max(used + held);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut told, mut away) = (HashMap::new(), 0);
    for (number, client) in clients.into_iter().enumerate() {
        let (status, cost) = client.await.expect("a client");
        away += usize::from(status == 503);
        if let Some(cost) = cost {
            told.insert(format!("{}-{number}", KINDS[(number / 2) % KINDS.len()]), cost);
        }
    }
    assert!(away < 25, "{away} were told that Redis is away, which it was not");
    let mut all: Vec<Value> = Vec::new();
    for gateway in &gateways {
        all.extend(rows(gateway).await);
    }
    let sum: u64 = all.iter().map(|row| row["cost"].as_u64().expect("a cost")).sum();
    if let Some(server) = server {
        // What one spent the other hears within a beat.
        agree(&gateways, sum, server).await;
    }
    for (text, cost) in &told {
        let row = all.iter().rfind(|row| row["request"] == **text).expect("a row");
        assert_eq!((row["cost"].as_u64(), row["state"].as_str()), (Some(*cost), Some("settled")), "{text}");
    }
    assert!(told.len() > 10, "{} answered", told.len());
    (sum, most)
}

/// Both know that so much was spent, and nothing is held.
async fn agree(gateways: &[Gateway; 2], sum: u64, server: &Server) {
    let begun = std::time::Instant::now();
    loop {
        let known = [purse(&gateways[0]).await, purse(&gateways[1]).await];
        if known == [(sum, 0); 2] {
            return;
        }
        if begun.elapsed() > Duration::from_secs(15) {
            let keys = server.keys("{tollgate}:1:b:*");
            let kept: Vec<_> = keys.iter().map(|key| server.ask::<Vec<String>>(&["HGETALL", key])).collect();
            let status = gateways[0].status().await["redis"].clone();
            panic!("{known:?} known of {sum}; Redis has {kept:?}; {status}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn five_hundred_at_once_over_two_gateways_do_not_overspend_one_budget() {
    let Some(server) = server() else { return };
    let limit = 20_000_000;
    let (used, most) = rush(Some(&server), limit).await;
    assert!(used <= limit && most <= limit, "{used} spent, at most {most} spent and held, of {limit}");
    assert!(used > limit / 2, "most of it could be spent: {used} of {limit}");
}

/// The same without Redis: each gateway spends all of it, and the story would notice.
#[tokio::test]
async fn without_redis_the_same_crowd_spends_more() {
    let limit = 20_000_000;
    let (used, _) = rush(None, limit).await;
    assert!(used > limit, "{used} of {limit}");
}

/// 300 clients of two gateways at once against one budget that is too small for them, while Redis has this trouble; says
/// what was spent in all.
async fn rush_through(trouble: &str, on_loss: &str, limit: u64) -> Option<u64> {
    let mut server = server()?;
    let up = provider(&Meter::default());
    let config = config(&up, Some(&server), limit, "");
    let gateways = pair(&config.replace("timeout: 2s", "timeout: 200ms").replace("closed", on_loss));
    met(&gateways).await;
    let clients: Vec<_> = (0..300)
        .map(|number| {
            let (to, kind) = (gateways[number % 2].clients, ["whole", "stream", "cut"][number / 2 % 3]);
            tokio::spawn(async move {
                let mut status = 0;
                for _ in 0..400 {
                    status = play(to, kind, number).await.0;
                    if !matches!(status, 429 | 503) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
                status
            })
        })
        .collect();
    client::eventually("some to be served", || (up.heard().len() >= 30).then_some(())).await;
    outage::begin(&mut server, trouble);
    // Longer than the lease lasts.
    tokio::time::sleep(Duration::from_secs(if trouble == "flush" { 0 } else { 3 })).await;
    outage::end(&mut server, trouble);
    let mut statuses: HashMap<u16, usize> = HashMap::new();
    for one in clients {
        *statuses.entry(one.await.expect("a client")).or_default() += 1;
    }
    let mut sum = 0;
    for gateway in &gateways {
        sum += rows(gateway).await.iter().map(|row| row["cost"].as_u64().expect("a cost")).sum::<u64>();
    }
    agree(&gateways, sum, &server).await;
    eprintln!("{trouble}, {on_loss}: {sum} spent of {limit}, {statuses:?}");
    assert!(
        sum > limit / 2,
        "{trouble}, {on_loss}: most of it could be spent: {sum} of {limit}, {statuses:?}"
    );
    Some(sum)
}

#[tokio::test]
async fn whatever_happens_to_redis_meanwhile_a_closed_budget_of_two_gateways_is_not_overspent() {
    let limit = 20_000_000;
    for trouble in ["flush", "kill", "stop"] {
        let Some(used) = rush_through(trouble, "closed", limit).await else { return };
        assert!(used <= limit, "{trouble}: {used} of {limit}");
    }
}

/// What the other took since one last heard of it may be spent beyond the limit: at most what it gets in half a second.
#[tokio::test]
async fn whatever_happens_to_redis_meanwhile_a_shared_budget_is_overspent_by_little_at_most() {
    let limit = 20_000_000;
    for trouble in ["flush", "kill", "stop"] {
        let Some(used) = rush_through(trouble, "share", limit).await else { return };
        assert!(used <= limit + limit / 10, "{trouble}: {used} of {limit}");
    }
}

/// Asks until it is let through.
async fn let_through(gateway: &Gateway, number: usize) {
    eventually_async("a request to be let through", async || {
        (persist(gateway.clients, "whole", number).await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_killed_gateway_held_comes_back_and_what_it_spent_does_not() {
    let Some(server) = server() else { return };
    let up = provider(&Meter::default());
    // One request at once (907,500 at worst), and not a second.
    let config = config(&up, Some(&server), 1_800_000, "");
    let gateways = pair(&config);
    met(&gateways).await;
    let [first, second] = gateways;
    assert_eq!(persist(first.clients, "whole", 0).await.0, 200);
    // Also one that was never asked for anything.
    let spent = eventually_async("the other to hear of it", async || {
        let used = purse(&second).await.0;
        (used > 0).then_some(used)
    })
    .await;
    assert_eq!(spent, 100_000);
    let to = first.clients;
    let hanging = tokio::spawn(async move {
        // As long as nobody has it in hand.
        while client::open(to, money::named("forever-1", false)).await.is_ok() {}
    });
    client::eventually("the request that hangs", || {
        up.heard().iter().any(|heard| heard.json()["messages"][0]["content"] == "forever-1").then_some(())
    })
    .await;
    // What the first holds the second cannot have.
    let refused = client::open(second.clients, money::named("whole-7", false)).await.unwrap().rest().await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(
        refused.error()["message"].to_string().contains("are held for requests under way"),
        "{refused:#?}"
    );
    drop(first);
    let _ = hanging.await;
    let_through(&second, 8).await;
    // 21 and 13 tokens, and what the first had told.
    eventually_async("nothing to be held", async || {
        (purse(&second).await == (spent + 21 * 2_500 + 13 * 10_000, 0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_comes_back_counts_what_it_spent_once() {
    let Some(server) = server() else { return };
    let up = provider(&Meter::default());
    let config = config(&up, Some(&server), 50_000_000, "");
    let mut first = gateway::start(&config);
    let second = gateway::start(&config);
    for number in 0..4 {
        assert_eq!(persist(first.clients, "whole", number).await.0, 200);
        assert_eq!(persist(second.clients, "stream", number).await.0, 200);
    }
    let known = async |gateway: &Gateway, sum: u64| {
        eventually_async("what was spent", async || (purse(gateway).await == (sum, 0)).then_some(())).await;
    };
    let cost = |rows: Vec<Value>| rows.iter().map(|row| row["cost"].as_u64().unwrap()).sum::<u64>();
    let (of_first, of_second) = (cost(rows(&first).await), cost(rows(&second).await));
    known(&second, of_first + of_second).await;
    first = first.start_again();
    known(&first, of_first + of_second).await;
    known(&second, of_first + of_second).await;
    // All that Redis knew is lost, and told again by those who know it.
    let before = first.status().await["redis"]["epoch"].clone();
    server.ask::<()>(&["FLUSHALL"]);
    for gateway in [&first, &second] {
        eventually_async("Redis to be told", async || {
            let redis = gateway.status().await["redis"].clone();
            (redis["epoch"] != before && redis["up"] == true && redis["gateways"] == 2).then_some(())
        })
        .await;
        known(gateway, of_first + of_second).await;
    }
    // Nothing new is given out before both have told what they know.
    let_through(&first, 10).await;
    let more = cost(rows(&first).await) - of_first;
    known(&second, of_first + of_second + more).await;
}

/// An alert that both gateways raise: whoever is first tells the webhook.
#[tokio::test]
async fn of_one_budget_of_two_gateways_the_webhook_hears_each_alert_once() {
    let Some(server) = server() else { return };
    let up = provider(&Meter::default());
    let hook = Upstream::start(|_| acts::answer(204, &[], ""));
    let more = format!(
        "  - {{ name: soft, tokens: 40, per: day, hard: false, projection: false, alerts: [ 50, 100 ] }}\n\
         alerts: {{ webhooks: [ {{ url: \"{}\", secret: env:HOOK_KEY }} ] }}\n",
        hook.url()
    );
    let config = config(&up, Some(&server), 1_000_000_000, &more);
    let start = || gateway::setup(&config).env("HOOK_KEY", "0123456789abcdef0123").start();
    let gateways = [start(), start()];
    met(&gateways).await;
    let alerts = async |gateway: &Gateway, percent: u64| {
        let all = client::get(gateway.admin, "/admin/v1/alerts").await.json()["alerts"].clone();
        let all = all.as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|alert| alert["percent"] == percent).collect::<Vec<_>>()
    };
    // 25 tokens each: the first crosses half of the budget, the second all of it.
    for gateway in &gateways {
        assert_eq!(play(gateway.clients, "whole", 0).await.0, 200);
    }
    for gateway in &gateways {
        eventually_async("the alert at each", async || {
            play(gateway.clients, "whole", 0).await;
            (!alerts(gateway, 100).await.is_empty()).then_some(())
        })
        .await;
    }
    client::eventually("the webhook", || {
        hook.heard().iter().any(|heard| heard.json()["percent"] == 100).then_some(())
    })
    .await;
    let mut elsewhere = 0;
    for gateway in &gateways {
        let raised = alerts(gateway, 100).await;
        assert_eq!(raised.len(), 1, "{raised:#?}");
        elsewhere += usize::from(raised[0]["told_elsewhere"] == true);
    }
    let told: Vec<_> = hook.heard().iter().map(|heard| heard.json()["percent"].as_u64()).collect();
    let times = |percent: u64| told.iter().filter(|known| **known == Some(percent)).count();
    assert_eq!((elsewhere, times(100)), (1, 1), "{told:?}");
    assert!(times(50) <= 1, "{told:?}");
}
