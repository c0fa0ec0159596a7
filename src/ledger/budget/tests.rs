//! Budgets under any order of requests: never overspent, nothing left held, nothing counted twice.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ledger::bound::{Bound, Size, Work};
use crate::ledger::{Price, Rate, Unit};
use crate::money::Pico;

const NOON: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

fn budget(yaml: &str) -> Budget {
    let settings: BudgetSettings = serde_yaml::from_str(yaml).unwrap();
    settings.checked().unwrap()
}

fn budgets(all: &[&str]) -> Budgets {
    let budgets = Budgets::default();
    budgets.configure(all.iter().map(|yaml| budget(yaml)).collect(), NOON);
    budgets
}

fn payer(user: &str) -> Payer {
    Payer { user: Some(user.into()), model: "fast".into(), ..Payer::default() }
}

fn target() -> TargetName {
    TargetName::parse("openai/gpt-4o").unwrap()
}

/// An attempt that may take so many tokens and nano-dollars: one for each token.
fn bound(prompt: u64, output: u64) -> Bound {
    let size = Size { prompt_most: prompt, asked: Some(output), choices: 1, ..Size::default() };
    let bound = Bound::of(&size, None, Default::default(), false, None, None);
    Bound { price: Some((u128::from(prompt) * 1_000_000, 1_000_000)), ..bound }
}

fn standing(budgets: &Budgets, name: &str, user: &str, now: u64) -> (u64, u64) {
    let standing = budgets.standing(name, &payer(user), now).unwrap();
    (standing.used, standing.held)
}

proptest! {
    /// Any schedule of attempts, of which each uses at most what it may.
    #[test]
    fn what_is_spent_and_held_never_passes_the_limit(
        limit in 0_u64..5_000,
        schedule in prop::collection::vec((0_u64..400, 0_u64..400, 0.0_f64..=1.0, any::<bool>(), 0_usize..6), 1..120),
    ) {
        let hard = format!("{{ name: all, tokens: {limit}, per: total }}");
        let split = format!("{{ name: each, dollars: {}, per: day, each: [user] }}", limit as f64 / 1e9);
        let budgets = budgets(&[&hard, &split]);
        let mut open: Vec<(Hold, u64, String)> = Vec::new();
        let (mut spent, mut spent_of) = (0, HashMap::<String, u64>::new());
        for (prompt, output, share, close, place) in schedule {
            let user = format!("u{}", place % 3);
            if let Ok(hold) = budgets.reserve(&payer(&user), &target(), &bound(prompt, output), NOON) {
                let actual = ((prompt + output) as f64 * share) as u64;
                open.push((hold, actual, user));
            }
            if close && !open.is_empty() {
                let (hold, actual, user) = open.swap_remove(place % open.len());
                budgets.settle(hold, Some(actual), actual, NOON);
                spent += actual;
                *spent_of.entry(user).or_default() += actual;
            }
            let (used, held) = standing(&budgets, "all", "", NOON);
            prop_assert!(used + held <= limit, "{used} + {held} of {limit}");
        }
        for (hold, actual, user) in open {
            budgets.settle(hold, Some(actual), actual, NOON);
            spent += actual;
            *spent_of.entry(user).or_default() += actual;
        }
        prop_assert_eq!(standing(&budgets, "all", "", NOON), (spent, 0));
        for (user, spent) in spent_of {
            prop_assert_eq!(standing(&budgets, "each", &user, NOON), (spent, 0));
        }
    }
}

#[test]
fn a_budget_of_nothing_lets_only_through_what_costs_nothing() {
    let dollars = |limit: f64| budgets(&[&format!("{{ name: all, dollars: {limit}, per: total }}")]);
    let lookup = Size { work: Work::Unknown, ..Size::default() };
    let lookup = Bound::of(&lookup, None, Default::default(), false, None, None);
    let made = Size { work: Work::Made, ..Size::default() };
    let request = Rate { unit: Unit::Request, tier: Default::default(), above: 0, price: Pico(5) };
    let price = Price { rates: vec![request], ..Price::default() };
    let made_at = |price| Bound::of(&made, price, Default::default(), true, None, Some(4_096));
    let (made, made_somewhere) = (made_at(Some(&price)), made_at(None));
    let unseen = Bound { price: Some((0, 0)), ..bound(0, 0) };
    let free = Bound { is_free: true, ..unseen.clone() };
    for (limit, bound, passes) in [
        (0.0, &free, true),
        (0.0, &unseen, false),
        (0.0, &lookup, false),
        (1.0, &unseen, true),
        // Lists and lookups have no price; nothing is known to be wrong with that.
        (1.0, &lookup, true),
        // What was made before is owed, whether somebody looks at it or not.
        (0.0, &made, true),
        (0.0, &made_somewhere, true),
    ] {
        let held = dollars(limit).reserve(&payer("a"), &target(), bound, NOON);
        assert_eq!(held.is_ok(), passes, "{limit}: {bound:?}");
    }
    let chat = Bound { price: None, ..bound(1, 1) };
    let refused = dollars(1.0).reserve(&payer("a"), &target(), &chat, NOON).err().unwrap();
    assert_eq!(refused.wanted, None, "what generates needs a price");
}

#[test]
fn settings_that_count_nothing_or_two_things_are_told_where_they_stand() {
    for (yaml, field, says) in [
        ("{ name: a, per: day }", "dollars", "either `dollars` or `tokens`"),
        ("{ name: a, per: day, dollars: 1, tokens: 1 }", "tokens", "beside `dollars`"),
        ("{ name: a, per: day, tokens: 10000000000000000000 }", "tokens", "tokens)"),
        ("{ name: a, per: day, dollars: 1, for: { model: [] } }", "for", "under `model`"),
        ("{ name: a, per: day, dollars: 1, for: { tags: { app: [] } } }", "for", "under `app`"),
        ("{ name: a, per: day, dollars: 1, for: { team: '' } }", "for", "empty word stands under `team`"),
        ("{ name: a, per: day, dollars: 1, for: { key: [ ci, '' ] } }", "for", "word stands under `key`"),
    ] {
        let settings: BudgetSettings = serde_yaml::from_str(yaml).unwrap();
        let errors = settings.checked().unwrap_err();
        assert!(
            matches!(&errors[..], [(known, text)] if *known == field && text.contains(says)),
            "{yaml}: {errors:?}"
        );
    }
}

#[test]
fn threads_at_once_overspend_nothing_and_a_soft_budget_does() {
    for (hard, within) in [(true, true), (false, false)] {
        let yaml = format!("{{ name: all, tokens: 100000, per: month, hard: {hard} }}");
        let budgets = Arc::new(budgets(&[&yaml]));
        let threads = (0..8).map(|seed| {
            let budgets = budgets.clone();
            std::thread::spawn(move || {
                let mut dice = fastrand::Rng::with_seed(seed);
                let mut most = 0;
                for _ in 0..2_000 {
                    let wanted = dice.u64(1..400);
                    let Ok(hold) = budgets.reserve(&payer("x"), &target(), &bound(wanted, 0), NOON) else {
                        continue;
                    };
                    let (used, held) = standing(&budgets, "all", "x", NOON);
                    most = most.max(used + held);
                    budgets.settle(hold, None, dice.u64(0..=wanted), NOON);
                }
                most
            })
        });
        let threads: Vec<_> = threads.collect();
        let most = threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap();
        assert_eq!(most <= 100_000, within, "hard: {hard}, at most {most}");
        assert_eq!(standing(&budgets, "all", "x", NOON).1, 0, "nothing stays held");
    }
}

#[test]
fn all_budgets_that_count_a_request_must_bear_it() {
    let budgets = budgets(&[
        "{ name: all, tokens: 1000, per: total }",
        "{ name: anna, tokens: 100, per: day, for: { user: anna } }",
    ]);
    let ask = |user: &str, tokens| budgets.reserve(&payer(user), &target(), &bound(tokens, 0), NOON);
    let refusal = ask("anna", 101).map(drop).unwrap_err();
    assert_eq!((&*refusal.standing.name, refusal.wanted, refusal.passing), ("anna", Some(101), false));
    assert_eq!(standing(&budgets, "all", "", NOON), (0, 0), "what is refused holds nothing");
    let hold = ask("anna", 80).unwrap();
    let refusal = ask("anna", 80).map(drop).unwrap_err();
    assert!(refusal.passing, "it would fit if the other were over");
    budgets.settle(hold, None, 10, NOON);
    drop(ask("anna", 80).unwrap());
    assert_eq!(&*ask("bob", 995).map(drop).unwrap_err().standing.name, "all");
}

#[test]
fn answers_are_shortened_to_what_is_left() {
    let budgets = budgets(&["{ name: all, tokens: 500, per: total, shrink: true }"]);
    let hold = budgets.reserve(&payer("x"), &target(), &bound(100, 1_000), NOON).unwrap();
    assert_eq!(hold.cap, Some(400));
    budgets.settle(hold, None, 450, NOON);
    let refusal = budgets.reserve(&payer("x"), &target(), &bound(40, 1_000), NOON).map(drop).unwrap_err();
    assert_eq!(refusal.wanted, Some(1_040), "ten tokens are no answer");
}

#[test]
fn an_attempt_is_counted_in_the_window_in_which_it_began() {
    let budgets = budgets(&[
        "{ name: hour, tokens: 100, per: hour }",
        "{ name: rolling, tokens: 100, per: hour, rolling: true }",
    ]);
    let first = budgets.reserve(&payer("x"), &target(), &bound(90, 0), NOON).unwrap();
    let next = NOON / HOUR * HOUR + HOUR;
    budgets.settle(first, None, 90, next);
    assert_eq!(standing(&budgets, "hour", "x", next), (0, 0), "the new hour begins at nothing");
    assert_eq!(standing(&budgets, "rolling", "x", next).0, 90);
    assert_eq!(standing(&budgets, "rolling", "x", NOON + HOUR - 1).0, 90);
    assert_eq!(standing(&budgets, "rolling", "x", NOON + HOUR + 60_000).0, 0, "one slot later at most");
    // A clock that goes back gives nothing twice.
    assert_eq!(standing(&budgets, "hour", "x", NOON), (0, 0));
}

#[test]
fn a_change_of_the_limit_keeps_what_was_spent() {
    let budgets = budgets(&["{ name: all, tokens: 100, per: total }"]);
    let hold = budgets.reserve(&payer("x"), &target(), &bound(60, 0), NOON).unwrap();
    let again = budget("{ name: all, tokens: 1000, per: total }");
    assert_eq!(budgets.configure(vec![again], NOON), None, "nothing to recount");
    budgets.settle(hold, None, 50, NOON);
    assert_eq!(standing(&budgets, "all", "x", NOON), (50, 0));
    let other = budget("{ name: all, tokens: 1000, per: day }");
    assert!(budgets.configure(vec![other], NOON).is_some(), "another period is another budget");
    let spent = Spent { payer: payer("x"), target: target(), at_ms: NOON, nano: 7, tokens: 70, unknown: 0 };
    budgets.recount([spent.clone(), Spent { at_ms: 5, ..spent }], NOON);
    assert_eq!(standing(&budgets, "all", "x", NOON), (70, 0), "what was spent today");
}

#[test]
fn thresholds_are_told_once() {
    let budgets = budgets(&["{ name: all, tokens: 100, per: total, hard: false }"]);
    let (to, mut alerts) = tokio::sync::mpsc::channel(16);
    budgets.alert_to(to);
    let mut told = Vec::new();
    for tokens in [40, 20, 10, 50, 10] {
        let hold = budgets.reserve(&payer("x"), &target(), &bound(tokens, 0), NOON).unwrap();
        budgets.settle(hold, None, tokens, NOON);
        while let Ok(alert) = alerts.try_recv() {
            told.push((alert.kind, alert.standing.used));
        }
    }
    let threshold = |percent| AlertKind::BudgetThreshold { percent };
    assert_eq!(told, [(threshold(50), 60), (threshold(100), 120)], "80 was passed on the way to 100");
}

#[test]
fn a_pace_that_is_too_fast_is_told_before_the_limit_is_reached() {
    let budgets = budgets(&["{ name: all, tokens: 1000, per: day, alerts: [] }"]);
    let (to, mut alerts) = tokio::sync::mpsc::channel(16);
    budgets.alert_to(to);
    let six = NOON / (24 * HOUR) * 24 * HOUR + 6 * HOUR;
    for tokens in [200, 100] {
        let hold = budgets.reserve(&payer("x"), &target(), &bound(tokens, 0), six).unwrap();
        budgets.settle(hold, None, tokens, six);
    }
    let alert = alerts.try_recv().unwrap();
    assert_eq!((alert.kind, alert.standing.used), (AlertKind::BudgetProjection { percent: 120 }, 300));
    assert!(alerts.try_recv().is_err());
}

#[test]
fn what_a_process_before_told_of_the_pace_is_not_told_again() {
    let budgets = budgets(&["{ name: all, tokens: 1000, per: day, alerts: [] }"]);
    let (to, mut alerts) = tokio::sync::mpsc::channel(16);
    budgets.alert_to(to);
    let six = NOON / (24 * HOUR) * 24 * HOUR + 6 * HOUR;
    let spent = Spent { payer: payer("x"), target: target(), at_ms: six, nano: 0, tokens: 300, unknown: 0 };
    budgets.recount([spent], six);
    let hold = budgets.reserve(&payer("x"), &target(), &bound(10, 0), six).unwrap();
    budgets.settle(hold, None, 10, six);
    assert_eq!(standing(&budgets, "all", "x", six), (310, 0));
    assert!(alerts.try_recv().is_err());
}

#[test]
fn a_budget_by_name_counts_keys_that_name_it_alone() {
    let budgets = budgets(&["{ name: gold, tokens: 100, per: day, by_name: true }"]);
    let named = Payer { named: vec!["gold".into()], ..payer("anna") };
    let all = bound(60, 30);
    for _ in 0..3 {
        let hold = budgets.reserve(&payer("anna"), &target(), &all, NOON).unwrap();
        assert!(!hold.hard, "nobody named it");
        budgets.settle(hold, Some(0), 90, NOON);
    }
    let hold = budgets.reserve(&named, &target(), &all, NOON).unwrap();
    budgets.settle(hold, Some(0), 90, NOON);
    let refusal = budgets.reserve(&named, &target(), &all, NOON).err().unwrap();
    assert_eq!((&*refusal.standing.name, refusal.standing.used), ("gold", 90));
}
