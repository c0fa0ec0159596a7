//! Stories of strategies: who comes first, how often, and what decides among equals. All draws are seeded.

use serde_json::{Value, json};

use super::arrange::{Arranged, Runner, Scene};
use super::*;
use crate::clock::Dice;
use crate::facts::market::{Market, Offer, Size, Told};
use crate::facts::{self, Facts};
use crate::planner::AliasTarget;
use crate::providers::{QuirkSettings, Target, Vendor, dialect};
use crate::target::TargetName;

/// A market to which requests really go.
struct Real(Told);

impl Market for Real {
    fn offer(&self, target: &str) -> Option<Offer> {
        self.0.offer(target)
    }
    fn behind(&self, name: &str) -> Vec<Offer> {
        self.0.behind(name)
    }
    fn all(&self) -> Vec<Offer> {
        self.0.all()
    }
    fn cost(&self, offer: &Offer, size: Size) -> Option<f64> {
        self.0.cost(offer, size)
    }
    fn is_live(&self) -> bool {
        true
    }
}

/// Three targets `x/a`, `x/b`, `x/c`, with these numbers.
struct Bench {
    strategy: Strategy,
    targets: Vec<AliasTarget>,
    market: Arc<dyn Market>,
    dice: Dice,
}

impl Bench {
    fn new(strategy: Value, offers: [Value; 3]) -> Self {
        Self::at(strategy, offers, false)
    }

    fn at(strategy: Value, offers: [Value; 3], real: bool) -> Self {
        let written: StrategySettings = serde_json::from_value(strategy).unwrap();
        let wire = dialect("openai", &QuirkSettings::default()).unwrap();
        let vendor = Arc::new(Vendor::bare("x", wire));
        let mut told = Vec::new();
        let mut targets = Vec::new();
        for (model, mut offer) in ["a", "b", "c"].into_iter().zip(offers) {
            let name = TargetName { provider: "x".into(), model: model.into() };
            offer["name"] = name.to_string().into();
            let mut target = AliasTarget::new(Target::new(vendor.clone(), name), offer["weight"].as_f64());
            target.priority = offer["priority"].as_u64().and_then(|number| u32::try_from(number).ok());
            targets.push(target);
            told.push(offer);
        }
        let told: Told = serde_json::from_value(json!({ "offers": told })).unwrap();
        let market: Arc<dyn Market> = if real { Arc::new(Real(told)) } else { Arc::new(told) };
        let strategy = Strategy::of(&written).unwrap_or_else(|(path, wrong)| panic!("{path:?}: {wrong}"));
        Self { strategy, targets, market, dice: Dice::loaded(42) }
    }

    fn facts(&self, told: Value, at_ms: u64) -> Facts {
        let mut all = json!({ "model": "m", "max_tokens": 100, "tokens": 100 });
        for (name, value) in told.as_object().unwrap() {
            all[name.as_str()] = value.clone();
        }
        let told: facts::Told = serde_json::from_value(all).unwrap();
        let mut facts = told.facts(&self.market, at_ms).unwrap();
        // Told markets are never live; this one is what the test says.
        facts.market = self.market.clone();
        facts
    }

    fn arranged(&self, facts: &Facts, tier: Option<&'static str>) -> Arranged {
        let runners = self.targets.iter().map(|target| Runner::of(target, facts)).collect();
        self.strategy.arrange(Scene { facts, dice: &self.dice, tier }, runners)
    }

    /// The order for a request: `bca`.
    fn order(&self, told: Value) -> String {
        self.order_at(told, 0)
    }

    fn order_at(&self, told: Value, at_ms: u64) -> String {
        let facts = self.facts(told, at_ms);
        self.arranged(&facts, None).order.iter().map(|runner| runner.target.name.model.to_string()).collect()
    }

    /// How often each comes first in so many requests.
    fn firsts(&self, requests: usize, told: impl Fn(usize) -> Value) -> [usize; 3] {
        let mut counts = [0; 3];
        for n in 0..requests {
            let first = self.order(told(n)).chars().next();
            let place = "abc".chars().position(|model| Some(model) == first).unwrap();
            counts[place] += 1;
        }
        counts
    }
}

fn nothing(_: usize) -> Value {
    json!({})
}

fn near(found: usize, wanted: usize) -> bool {
    found.abs_diff(wanted) * 20 <= wanted.max(200)
}

#[test]
fn each_word_puts_them_in_order() {
    let ms = |p50: u64| json!({ "latency": { "p50": p50 } });
    let price = |output: f64| json!({ "price": { "input": 1.0, "output": output } });
    for (strategy, offers, expected) in [
        (json!("priority"), [json!({}), json!({}), json!({})], "abc"),
        (json!("priority"), [json!({ "priority": 2 }), json!({}), json!({ "priority": 0 })], "cba"),
        (json!("fastest"), [ms(900), ms(30), ms(200)], "bca"),
        (json!("fastest"), [json!({}), ms(30), ms(20)], "cba"),
        (
            json!({ "fastest": { "by": "first_token", "at": "p95" } }),
            [
                json!({ "first_token": { "p95": 3.0 }, "latency": { "p50": 9.0 } }),
                json!({ "first_token": { "p95": 2.0 } }),
                json!({ "first_token": { "p95": 1.0, "p50": 99.0 } }),
            ],
            "cba",
        ),
        (json!("cheapest"), [price(3.0), price(1.0), json!({})], "bac"),
        (json!("least_busy"), [json!({ "in_flight": 4 }), json!({ "in_flight": 1 }), json!({})], "cba"),
        (
            json!("least_busy"),
            [json!({ "in_flight": 4, "weight": 10 }), json!({ "in_flight": 1 }), json!({ "in_flight": 2 })],
            "abc",
        ),
        (
            json!("smallest_window"),
            [json!({ "context_window": 9000 }), json!({}), json!({ "context_window": 200 })],
            "cab",
        ),
        (
            json!({ "tier": "cheap" }),
            [price(30.0), json!({ "labels": { "tier": "cheap" } }), price(9.0)],
            "bca",
        ),
        (json!({ "tier": "premium" }), [price(0.1), price(9.0), price(90.0)], "cba"),
        (json!("score"), [ms(10), ms(20), ms(5)], "cab"),
        // Out of service comes last, whatever its numbers.
        (json!("fastest"), [json!({ "latency": { "p50": 1.0 }, "healthy": false }), ms(30), ms(20)], "cba"),
    ] {
        let shown = format!("{strategy} {offers:?}");
        assert_eq!(Bench::new(strategy, offers).order(json!({})), expected, "{shown}");
    }
}

#[test]
fn the_cheapest_within_its_bounds_comes_before_the_cheaper_one_beyond_them() {
    let strategy = json!({ "cheapest": { "latency": "1s", "at": "p95", "quality": 0.5, "errors": 0.1 } });
    let offer = |output: f64, p95: f64, quality: &str, errors: f64| {
        json!({ "price": { "input": 1.0, "output": output }, "latency": { "p95": p95 },
                "labels": { "quality": quality }, "error_rate": errors })
    };
    for (offers, expected) in [
        (
            [offer(1.0, 2000.0, "0.9", 0.0), offer(5.0, 500.0, "0.9", 0.0), offer(3.0, 900.0, "0.5", 0.1)],
            "cba",
        ),
        (
            [offer(1.0, 100.0, "0.4", 0.0), offer(5.0, 500.0, "0.9", 0.0), offer(3.0, 900.0, "0.9", 0.2)],
            "bac",
        ),
        // What is unknown is within.
        (
            [
                json!({ "price": { "input": 1.0, "output": 2.0 } }),
                offer(5.0, 5.0, "1", 0.0),
                offer(1.0, 5000.0, "1", 0.0),
            ],
            "abc",
        ),
    ] {
        let shown = format!("{offers:?}");
        assert_eq!(Bench::new(strategy.clone(), offers).order(json!({})), expected, "{shown}");
    }
}

#[test]
fn a_score_weighs_latency_cost_and_quality() {
    let offers = || {
        [
            json!({ "latency": { "p50": 100.0 }, "price": { "input": 9.0, "output": 9.0 }, "labels": { "quality": "0.5" } }),
            json!({ "latency": { "p50": 900.0 }, "price": { "input": 1.0, "output": 1.0 }, "labels": { "quality": "0.5" } }),
            json!({ "latency": { "p50": 500.0 }, "price": { "input": 5.0, "output": 5.0 }, "labels": { "quality": "1" } }),
        ]
    };
    for (weights, first) in [
        (json!({ "latency": 1 }), 'a'),
        (json!({ "cost": 1 }), 'b'),
        (json!({ "quality": 1 }), 'c'),
        (json!({ "latency": 0.3, "cost": 0.3, "quality": 0.4 }), 'c'),
        (json!({ "latency": 0.8, "cost": 0.1, "quality": 0.1 }), 'a'),
    ] {
        let bench = Bench::new(json!({ "score": weights }), offers());
        assert_eq!(bench.order(json!({})).chars().next(), Some(first), "{weights}");
    }
}

#[test]
fn weights_are_kept_and_follow_health() {
    let weight = |weight: u64| json!({ "weight": weight });
    let bench = Bench::new(json!("weighted"), [weight(70), weight(20), weight(10)]);
    let [a, b, c] = bench.firsts(10_000, nothing);
    assert!(near(a, 7_000) && near(b, 2_000) && near(c, 1_000), "{a} {b} {c}");
    let ailing = json!({ "weight": 50, "error_rate": 0.5 });
    let [a, b, _] = Bench::new(json!("weighted"), [ailing, weight(50), weight(0)]).firsts(9_000, nothing);
    assert!(
        near(a, 3_000) && near(b, 6_000),
        "half of its requests fail, so it gets half of its share: {a} {b}"
    );
}

#[test]
fn round_robin_takes_turns_among_those_in_service() {
    let bench = Bench::new(json!("round_robin"), [json!({}), json!({}), json!({})]);
    let orders: Vec<_> = (0..4).map(|_| bench.order(json!({}))).collect();
    assert_eq!(orders, ["abc", "bca", "cab", "abc"]);
    let bench = Bench::new(json!("round_robin"), [json!({}), json!({ "healthy": false }), json!({})]);
    assert_eq!(bench.firsts(1_000, nothing), [500, 0, 500]);
}

#[test]
fn equally_busy_targets_are_drawn() {
    let busy = json!({ "in_flight": 3 });
    let bench = Bench::new(json!("least_busy"), [busy.clone(), busy, json!({ "in_flight": 9 })]);
    let [a, b, c] = bench.firsts(10_000, nothing);
    assert!(near(a, 5_000) && near(b, 5_000) && c == 0, "{a} {b} {c}");
}

#[test]
fn of_two_choices_the_less_loaded_one_is_taken() {
    let load = |ewma: f64, in_flight: u64| json!({ "ewma": ewma, "in_flight": in_flight });
    // 100·(0+1) < 50·(3+1) < 400·(0+1): the last is taken only against nobody, the first against both.
    let bench = Bench::new(json!("power_of_two"), [load(400.0, 0), load(100.0, 0), load(50.0, 3)]);
    let [a, b, c] = bench.firsts(9_000, nothing);
    assert!(near(b, 6_000) && near(c, 3_000) && a == 0, "{a} {b} {c}");
}

#[test]
fn a_canary_gets_its_share_and_callers_stay() {
    let plain = || [json!({}), json!({}), json!({})];
    let bench = Bench::new(json!({ "canary": { "to": "x/c", "share": 5 } }), plain());
    let [a, b, c] = bench.firsts(20_000, nothing);
    assert!((850..1_150).contains(&c) && a == 20_000 - c && b == 0, "{a} {b} {c}");
    let sticky = |share: u64| {
        Bench::new(json!({ "canary": { "to": "x/c", "share": share, "sticky": "user" } }), plain())
    };
    let user = |n: usize| json!({ "user": format!("user-{n}") });
    let hit = |bench: &Bench, n: usize| bench.order(user(n)).starts_with('c');
    let (five, twenty) = (sticky(5), sticky(20));
    let [_, _, c] = five.firsts(10_000, user);
    assert!((400..600).contains(&c), "{c}");
    for n in 0..2_000 {
        assert_eq!(hit(&five, n), hit(&five, n), "the same every time");
        assert!(!hit(&five, n) || hit(&twenty, n), "nobody leaves while the share grows");
    }
}

#[test]
fn sticky_requests_stay_and_their_second_choice_too() {
    let bench = Bench::new(json!({ "sticky": "session" }), [json!({}), json!({}), json!({})]);
    let session = |n: usize| json!({ "session": format!("s{n}") });
    let [a, b, c] = bench.firsts(3_000, session);
    assert!(near(a, 1_000) && near(b, 1_000) && near(c, 1_000), "{a} {b} {c}");
    let down =
        Bench::new(json!({ "sticky": "session" }), [json!({ "healthy": false }), json!({}), json!({})]);
    for n in 0..300 {
        let order = bench.order(session(n));
        assert_eq!(order, bench.order(session(n)));
        let without: String = order.chars().filter(|model| *model != 'a').collect();
        assert_eq!(down.order(session(n)), format!("{without}a"), "only those of the lost target move");
    }
    assert_eq!(bench.order(json!({})), "abc", "who has no session is not moved");
    let bench = Bench::new(json!({ "sticky": "prompt" }), [json!({}), json!({}), json!({})]);
    let prompt = |system: &str, text: &str| json!({ "system": system, "text": text });
    assert_eq!(bench.order(prompt("You are kind.", "one")), bench.order(prompt("You are kind.", "two")));
}

#[test]
fn regions_and_data_classes_leave_out_the_others() {
    let region = |region: &str| json!({ "labels": { "region": region } });
    let bench = Bench::new(json!({ "region": ["eu", "ch"] }), [region("us"), region("ch"), region("eu")]);
    assert_eq!(bench.order(json!({})), "cb");
    let left_out = bench.arranged(&bench.facts(json!({}), 0), None).left_out;
    assert_eq!(left_out[0].1, "is not in the region eu or ch");

    let tag = |tag: &str| json!({ "tags": [tag] });
    let bench = Bench::new(json!("data_class"), [json!({}), tag("pii"), tag("public")]);
    assert_eq!(bench.order(json!({})), "abc", "nothing was said of the data");
    assert_eq!(bench.order(json!({ "data_class": "pii" })), "b");
    let table = json!({ "data_class": { "pii": ["private"], "none": { "region": "us" } } });
    let bench = Bench::new(table, [region("us"), tag("private"), tag("public")]);
    assert_eq!(bench.order(json!({ "data_class": "pii" })), "b");
    assert_eq!(bench.order(json!({})), "a");
    assert_eq!(bench.order(json!({ "data_class": "unheard-of" })), "", "an unknown class goes nowhere");

    let can = |vision: Value| json!({ "can": { "vision": vision } });
    let bench = Bench::new(json!({ "can": "vision" }), [json!({}), can(json!(false)), can(json!(true))]);
    assert_eq!(bench.order(json!({})), "ca");
}

#[test]
fn steps_refine_what_the_steps_before_left_equal() {
    let offer = |region: &str, tier: &str, p50: f64| json!({ "labels": { "region": region, "tier": tier }, "latency": { "p50": p50 } });
    let offers = || [offer("eu", "premium", 10.0), offer("eu", "cheap", 90.0), offer("us", "cheap", 20.0)];
    for (steps, expected) in [
        (json!([{ "tier": "cheap" }, "fastest"]), "cba"),
        (json!([{ "prefer": { "region": "eu" } }, "fastest"]), "abc"),
        (json!([{ "only": { "region": "eu" } }, { "tier": "cheap" }]), "ba"),
        (json!(["fastest", { "tier": "cheap" }]), "acb"),
    ] {
        let shown = steps.to_string();
        assert_eq!(Bench::new(steps, offers()).order(json!({})), expected, "{shown}");
    }
    let bench = Bench::new(json!(["tier", "fastest"]), offers());
    let facts = bench.facts(json!({}), 0);
    let names = |tier| -> String {
        let order = bench.arranged(&facts, tier).order;
        order.iter().map(|runner| runner.target.name.model.to_string()).collect()
    };
    assert_eq!((names(None), names(Some("cheap"))), ("acb".into(), "cba".into()), "the client's wish counts");
}

#[test]
fn what_was_never_measured_is_tried_once_in_a_while() {
    let fast = json!({ "latency": { "p50": 5.0 } });
    let bench = Bench::at(json!("fastest"), [json!({}), fast.clone(), json!({})], true);
    let orders: Vec<_> = [0, 1, 2, 9_999].map(|at| bench.order_at(json!({}), 10_000 + at)).into();
    assert_eq!(orders, ["abc", "cba", "bac", "bac"], "each of the unknown ones once");
    assert_eq!(bench.order_at(json!({}), 20_000), "abc");
    let told = Bench::new(json!("fastest"), [json!({}), fast, json!({})]);
    assert_eq!(told.order(json!({})), "bac", "where nothing is sent, nothing is tried");
}

#[test]
fn every_word_is_a_strategy() {
    for (name, word) in StrategyWord::ALL {
        assert_eq!(serde_json::to_value(word).unwrap(), json!(name));
        assert_eq!((word.as_str(), StrategyWord::named(name)), (name, Some(word)));
    }
    assert_eq!(StrategyWord::ALL.map(|(name, _)| name), crate::plan::STRATEGIES);
}
