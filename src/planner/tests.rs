//! Stories of the planner: what becomes of names, weights and constraints.

use serde_json::json;

use super::*;
use crate::caller::Grant;
use crate::providers::{Provider, Vendor};

struct Mute;

impl Provider for Mute {
    fn dialect(&self) -> crate::providers::Dialect {
        crate::providers::Dialect::OpenAi
    }
    fn encode(&self, _: &crate::chat::Request, _: &TargetName) -> Result<crate::providers::Outgoing, Fault> {
        Err(Fault::new(FaultKind::Internal, "mute"))
    }
    fn decode(&self, _: &[u8]) -> Result<crate::chat::Answer, Fault> {
        Err(Fault::new(FaultKind::Internal, "mute"))
    }
    fn stream_decoder(&self) -> Box<dyn crate::chat::StreamDecoder> {
        panic!("never asked in these stories")
    }
    fn fault(&self, _: u16, _: &http::HeaderMap, _: &[u8]) -> Fault {
        Fault::new(FaultKind::Internal, "mute")
    }
}

fn vendor(name: &str, tags: &[&str], labels: &[(&str, &str)]) -> Arc<Vendor> {
    Arc::new(Vendor {
        traits: Traits {
            tags: tags.iter().map(|t| Arc::from(*t)).collect(),
            labels: labels.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect(),
        },
        ..Vendor::bare(name, Arc::new(Mute))
    })
}

fn catalogue() -> Catalogue {
    let vendors = vec![
        vendor("eu", &["private"], &[("region", "eu")]),
        vendor("us", &[], &[("region", "us")]),
        vendor("cn", &[], &[]),
    ];
    let bare = Catalogue::new(vendors.clone(), Vec::new());
    let target = |name: &str| match bare.find(name) {
        Some(Known::Target(target)) => target,
        _ => panic!("{name}"),
    };
    let alias = |targets: &[(&str, Option<f64>)], fallback: &[&str], version: Option<&str>| Alias {
        targets: targets.iter().map(|(n, weight)| AliasTarget::new(target(n), *weight)).collect(),
        fallback: fallback.iter().map(|n| Arc::from(*n)).collect(),
        version: version.map(Arc::from),
        strategy: None,
        manner: None,
    };
    let one = |targets: &[(&str, Option<f64>)], fallback: &[&str]| Entry::One(alias(targets, fallback, None));
    let version = |share: f64, targets: &[(&str, Option<f64>)], fallback: &[&str], name: &str| SplitVersion {
        share,
        alias: alias(targets, fallback, Some(name)),
    };
    let versioned = Entry::Split(Split {
        seed: "s".into(),
        versions: vec![
            version(0.0, &[("us/old", None)], &["fast"], "moving@old"),
            version(100.0, &[("eu/new", None)], &["moving@old"], "moving@new"),
        ],
    });
    let aliases = vec![
        ("fast".into(), one(&[("us/mini", None), ("eu/mini", None)], &[])),
        ("smart".into(), one(&[("us/big", Some(0.0)), ("eu/big", Some(1.0))], &["fast", "cn/x"])),
        ("loop".into(), one(&[("us/a", None)], &["loop"])),
        ("moving".into(), versioned),
    ];
    Catalogue::new(vendors, aliases)
}

/// A request, told field by field, in a market of data.
fn asked(told: serde_json::Value) -> Facts {
    asked_in(told, json!({}))
}

fn asked_in(told: serde_json::Value, market: serde_json::Value) -> Facts {
    let market: crate::facts::market::Told = serde_json::from_value(market).unwrap();
    let told: crate::facts::Told = serde_json::from_value(told).unwrap();
    let market: Arc<dyn crate::facts::market::Market> = Arc::new(market);
    told.facts(&market, 0).unwrap()
}

fn planned(model: &str, decision: &Decision) -> Result<Vec<String>, Fault> {
    plan(&catalogue(), &asked(json!({ "model": model })), decision, &Dice::loaded(1))
        .map(|plan| plan.targets.iter().map(|t| t.name.to_string()).collect())
        .map_err(|unplanned| unplanned.fault)
}

fn route(names: &[&str]) -> Decision {
    let steps = names.iter().map(|n| Step { choices: vec![(Arc::from(*n), 1.0)] }).collect();
    Decision { verdict: Some(Verdict::Route(Route { steps, ..Route::default() })), ..Decision::default() }
}

#[test]
fn nothing_decided_follows_the_configuration() {
    for (model, expected) in [
        ("fast", vec!["us/mini", "eu/mini"]),
        ("smart", vec!["eu/big", "us/big", "us/mini", "eu/mini", "cn/x"]),
        ("us/anything/with/slashes", vec!["us/anything/with/slashes"]),
        ("loop", vec!["us/a"]),
        ("moving", vec!["eu/new", "us/old", "us/mini", "eu/mini"]),
        ("moving@old", vec!["us/old", "us/mini", "eu/mini"]),
    ] {
        assert_eq!(planned(model, &Decision::default()).unwrap(), expected, "{model}");
    }
}

#[test]
fn each_target_knows_the_version_that_brought_it() {
    let facts = asked(json!({ "model": "moving" }));
    let plan = plan(&catalogue(), &facts, &Decision::default(), &Dice::loaded(1)).unwrap();
    let told: Vec<_> = plan.versions.iter().map(|(name, version)| (name.to_string(), &**version)).collect();
    assert_eq!(told, [("eu/new".to_owned(), "moving@new"), ("us/old".to_owned(), "moving@old")]);
}

#[test]
fn a_closed_catalogue_offers_its_own_aliases_only() {
    let general = catalogue();
    let closed = general.with(Vec::new(), false);
    assert!(general.offers("fast") && general.offers("us/x"));
    assert!(!closed.offers("fast") && !closed.offers("us/x") && !closed.offers("moving@old"));
    assert!(closed.knows("fast"), "policies and fallbacks still reach it");
    let Some(Known::Split(split)) = general.find("moving") else { panic!("no versions") };
    let own = general.with(vec![("moving".into(), Entry::Split(split.clone()))], false);
    assert!(own.offers("moving") && own.offers("moving@old") && !own.offers("moving@never"));
}

#[test]
fn a_route_wins_and_no_target_comes_twice() {
    assert_eq!(planned("x", &route(&["eu/mini", "fast", "eu/mini"])).unwrap(), ["eu/mini", "us/mini"]);
}

#[test]
fn constraints_hold_for_fallbacks_too() {
    let require = |c| Decision { require: vec![c], ..Decision::default() };
    let label = Constraint::Label("region".into(), "eu".into());
    assert_eq!(planned("smart", &require(label)).unwrap(), ["eu/big", "eu/mini"]);
    assert_eq!(planned("smart", &require(Constraint::Tag("private".into()))).unwrap(), ["eu/big", "eu/mini"]);
    let avoid = Decision { avoid: vec![Constraint::Name("us".into())], ..Decision::default() };
    assert_eq!(planned("fast", &avoid).unwrap(), ["eu/mini"]);
    let nobody = planned("fast", &require(Constraint::Tag("moon".into()))).unwrap_err();
    assert_eq!(nobody.kind, FaultKind::NoTarget);
}

#[test]
fn a_split_is_drawn_among_those_that_may_serve() {
    let step = |names: &[&str]| Step { choices: names.iter().map(|name| (Arc::from(*name), 1.0)).collect() };
    let split = |names: &[&str], region: &str| Decision {
        verdict: Some(Verdict::Route(Route { steps: vec![step(names)], ..Route::default() })),
        require: vec![Constraint::Label("region".into(), region.into())],
        ..Decision::default()
    };
    let dice = Dice::loaded(1);
    let drawn = |decision: &Decision, model: serde_json::Value, market: serde_json::Value| -> Vec<String> {
        let facts = asked_in(model, market);
        let firsts = (0..20).map(|_| match plan(&catalogue(), &facts, decision, &dice) {
            Ok(plan) => plan.targets[0].name.to_string(),
            Err(unplanned) => unplanned.fault.kind.as_str().to_owned(),
        });
        firsts.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    };
    let (model, empty) = (|| json!({ "model": "x" }), || json!({}));
    assert_eq!(drawn(&split(&["us/a", "eu/a"], "eu"), model(), empty()), ["eu/a"]);
    assert_eq!(drawn(&split(&["us/a", "moving", "eu/a"], "us"), model(), empty()), ["us/a", "us/old"]);
    assert_eq!(drawn(&split(&["us/a", "smart"], "eu"), model(), empty()), ["eu/big"]);
    assert_eq!(drawn(&split(&["us/a", "cn/a"], "eu"), model(), empty()), ["no_target"]);
    // What cannot serve the request takes no share either; what may just be large enough is better than what must not.
    let blind = json!({ "offers": [{ "name": "eu/a", "can": { "vision": false } }] });
    let seeing = json!({ "model": "x", "modalities": ["image"] });
    assert_eq!(drawn(&split(&["eu/a", "eu/b"], "eu"), seeing, blind), ["eu/b"]);
    let small = json!({ "offers": [{ "name": "eu/a", "context_window": 1000 }] });
    let long = json!({ "model": "x", "tokens": 1100 });
    assert_eq!(drawn(&split(&["eu/a", "us/a"], "eu"), long, small), ["eu/a"]);
}

#[test]
fn a_sticky_split_goes_to_the_first_that_may_serve() {
    let choices = ["us/a", "cn/b", "eu/a", "eu/b"].map(|name| (Arc::from(name), 1.0)).to_vec();
    let sticky = |choices: Vec<(Arc<str>, f64)>, region: Option<&str>, strategy: &[&str]| Decision {
        verdict: Some(Verdict::Route(Route {
            steps: vec![Step { choices }],
            sticky: vec![0],
            strategy: strategy.iter().map(|word| (*word).into()).collect(),
            ..Route::default()
        })),
        require: region.map(|region| Constraint::Label("region".into(), region.into())).into_iter().collect(),
        ..Decision::default()
    };
    let drawn = |decision: &Decision| -> Vec<String> {
        let dice = Dice::loaded(1);
        let facts = asked(json!({ "model": "x" }));
        let firsts = (0..20).map(|_| match plan(&catalogue(), &facts, decision, &dice) {
            Ok(plan) => plan.targets.iter().map(|t| t.name.to_string()).collect::<Vec<_>>().join(" "),
            Err(unplanned) => unplanned.fault.kind.as_str().to_owned(),
        });
        firsts.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    };
    for (region, expected) in
        [(None, "us/a"), (Some("us"), "us/a"), (Some("eu"), "eu/a"), (Some("moon"), "no_target")]
    {
        for strategy in [&[][..], &["cheapest"][..]] {
            assert_eq!(
                drawn(&sticky(choices.clone(), region, strategy)),
                [expected],
                "{region:?} {strategy:?}"
            );
        }
    }
    let mut unloved = choices;
    unloved[2].1 = 0.0;
    assert_eq!(drawn(&sticky(unloved, Some("eu"), &[])), ["eu/b"], "a weight of zero is never drawn");
}

#[test]
fn who_was_rejected_is_told_also_when_nobody_is_left() {
    let nobody = Decision { require: vec![Constraint::Tag("moon".into())], ..Decision::default() };
    let facts = asked(json!({ "model": "fast" }));
    let unplanned = plan(&catalogue(), &facts, &nobody, &Dice::loaded(1)).unwrap_err();
    let told: Vec<_> =
        unplanned.candidates.iter().map(|c| (c.target.to_string(), c.rejected.as_deref())).collect();
    let why = Some("does not meet a required constraint: require(\"moon\")");
    assert_eq!(told, [("us/mini".to_owned(), why), ("eu/mini".to_owned(), why)]);
}

#[test]
fn unknown_names_say_whose_fault_it_is() {
    let client = planned("gpt-99\n\u{1b}[31m", &Decision::default()).unwrap_err();
    assert_eq!((client.kind, client.client_status()), (FaultKind::NotFound, 404));
    assert!(!client.message.contains('\u{1b}'), "{client}");
    assert_eq!(planned("fast", &route(&["nowhere/x"])).unwrap_err().kind, FaultKind::Policy);
    assert_eq!(planned("fast", &route(&["nowhere/x", "us/y"])).unwrap(), ["us/y"]);
}

#[test]
fn a_rejection_keeps_its_status_and_code() {
    let verdict =
        Verdict::Reject(crate::plan::Reject { status: 429, code: "quiet".into(), message: "hush".into() });
    let fault = planned("fast", &Decision { verdict: Some(verdict), ..Decision::default() }).unwrap_err();
    assert_eq!((fault.client_status(), fault.code_str()), (429, "quiet"));
}

/// What becomes of a request to `fast` (us/mini, then eu/mini) in a market where they can do this.
fn judged(
    told: serde_json::Value,
    us: serde_json::Value,
    eu: serde_json::Value,
) -> Result<Plan, Box<Unplanned>> {
    let offer = |name: &str, more: serde_json::Value| {
        let mut offer = more;
        offer["name"] = name.into();
        offer
    };
    let market = json!({ "offers": [offer("us/mini", us), offer("eu/mini", eu)] });
    plan(&catalogue(), &asked_in(told, market), &Decision::default(), &Dice::loaded(1))
}

fn places(plan: &Plan) -> Vec<String> {
    plan.candidates
        .iter()
        .map(|seen| match (&seen.rank, &seen.rejected) {
            (Some(rank), _) => format!("{rank} {}", seen.target),
            (None, why) => format!("- {} {}", seen.target, why.as_deref().unwrap_or_default()),
        })
        .collect()
}

#[test]
fn what_cannot_serve_the_request_is_left_out() {
    let blind = json!({ "can": { "vision": false, "tools": false } });
    let (small, large) = (json!({ "context_window": 1000 }), json!({ "context_window": 9000 }));
    for (told, us, eu, expected) in [
        (json!({ "model": "fast" }), blind.clone(), json!({}), ["0 us/mini", "1 eu/mini"]),
        (
            json!({ "model": "fast", "modalities": ["image"] }),
            blind.clone(),
            json!({}),
            ["- us/mini cannot see images", "0 eu/mini"],
        ),
        (
            json!({ "model": "fast", "tools": ["search"] }),
            json!({}),
            blind.clone(),
            ["0 us/mini", "- eu/mini cannot call tools"],
        ),
        // Lists leave abilities out: who is known by them alone is the last resort.
        (
            json!({ "model": "fast", "tools": ["search"] }),
            json!({ "can": { "tools": false }, "by_list": true }),
            blind.clone(),
            ["0 us/mini", "- eu/mini cannot call tools"],
        ),
        (
            json!({ "model": "fast", "tools": ["search"] }),
            json!({ "can": { "tools": false }, "by_list": true }),
            json!({}),
            ["- us/mini cannot call tools", "0 eu/mini"],
        ),
        (
            json!({ "model": "fast", "tokens": 2000 }),
            small.clone(),
            large.clone(),
            ["- us/mini context window too small", "0 eu/mini"],
        ),
        (
            json!({ "model": "fast", "tokens": 600, "max_tokens": 600 }),
            small.clone(),
            json!({}),
            ["- us/mini context window too small", "0 eu/mini"],
        ),
        // Nobody is left: what may just be large enough is tried after all.
        (
            json!({ "model": "fast", "tokens": 1100 }),
            small.clone(),
            small.clone(),
            ["0 us/mini", "1 eu/mini"],
        ),
        (
            json!({ "model": "fast", "tokens": 1100 }),
            small.clone(),
            blind,
            ["- us/mini context window too small", "0 eu/mini"],
        ),
    ] {
        let shown = told.to_string();
        let plan = judged(told, us, eu).unwrap_or_else(|none| panic!("{shown}: {}", none.fault));
        assert_eq!(places(&plan), expected, "{shown}");
    }
}

#[test]
fn if_nobody_can_serve_it_the_client_hears_why() {
    let blind = || json!({ "can": { "vision": false } });
    let none = judged(json!({ "model": "fast", "modalities": ["image"] }), blind(), blind()).unwrap_err();
    assert_eq!((none.fault.client_status(), none.fault.code_str()), (400, "no_capable_target"));
    assert_eq!(
        none.fault.message,
        "no target of `fast` can serve this request: us/mini cannot see images; eu/mini cannot see images"
    );
    let small = || json!({ "context_window": 1000 });
    let none = judged(json!({ "model": "fast", "tokens": 9000 }), small(), small()).unwrap_err();
    assert_eq!((none.fault.kind, none.fault.client_status()), (FaultKind::ContextTooLong, 400));
    assert!(
        none.fault.message.contains("us/mini holds 1000 tokens, the request needs about 9000"),
        "{}",
        none.fault
    );
    // Of embeddings the window holds for each input alone.
    let told = json!({ "model": "fast", "tokens": 9000, "endpoint": "embeddings" });
    assert_eq!(judged(told, small(), small()).unwrap().targets.len(), 2);
}

#[test]
fn the_client_may_choose_the_class_of_cost() {
    let offers =
        || (json!({ "labels": { "tier": "premium" } }), json!({ "price": { "input": 0.1, "output": 0.2 } }));
    let ((us, eu), tier) =
        (offers(), |word: &str| json!({ "model": "fast", "headers": { "x-tollgate-tier": word } }));
    let plan = judged(tier("cheap"), us, eu).unwrap();
    assert_eq!(places(&plan), ["0 eu/mini", "1 us/mini"]);
    let (us, eu) = offers();
    assert_eq!(places(&judged(tier("Premium"), us, eu).unwrap()), ["0 us/mini", "1 eu/mini"]);
    let (us, eu) = offers();
    let fault = judged(tier("lavish"), us, eu).unwrap_err().fault;
    assert_eq!((fault.client_status(), fault.param.as_deref()), (400, Some("x-tollgate-tier")));
}

#[test]
fn a_policy_may_leave_the_order_to_a_strategy() {
    let market = json!({ "offers": [
        { "name": "us/mini", "in_flight": 7 }, { "name": "eu/mini", "in_flight": 1 }, { "name": "cn/x", "in_flight": 3 }
    ] });
    let facts = asked_in(json!({ "model": "any" }), market);
    let mut decision = route(&["fast", "cn/x"]);
    if let Some(Verdict::Route(route)) = &mut decision.verdict {
        route.strategy = vec!["least_busy".into()];
    }
    let plan = plan(&catalogue(), &facts, &decision, &Dice::loaded(1)).unwrap();
    assert_eq!(places(&plan), ["0 eu/mini", "1 cn/x", "2 us/mini"]);
    assert_eq!((plan.candidates[0].by.as_deref(), plan.candidates[0].score), (Some("least_busy"), Some(1.0)));
}

#[test]
fn who_may_go_only_where_a_fallback_leads_may_ask_for_its_alias() {
    let catalogue = catalogue();
    let caller = |scope| {
        let scope = serde_json::from_value(scope).unwrap();
        Caller { grant: Some(Arc::new(Grant { scope, ..Grant::default() })), ..Caller::default() }
    };
    for (name, scope, expected) in [
        ("smart", json!({"providers": ["cn"]}), true),
        ("smart", json!({"models": ["eu/mini"]}), true),
        ("smart", json!({"models": ["smart"], "providers": ["cn"]}), true),
        ("moving", json!({"models": ["us/mini"]}), true),
        ("fast", json!({"providers": ["cn"]}), false),
        ("loop", json!({"providers": ["eu"]}), false),
        ("smart", json!({"models": ["cn/y"]}), false),
        ("cn/x", json!({"models": ["smart"]}), false),
        ("nobody", json!({"models": ["smart"]}), false),
    ] {
        let told = scope.to_string();
        assert_eq!(is_allowed(&catalogue, &caller(scope), name), expected, "{name} {told}");
    }
}
