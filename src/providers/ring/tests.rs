//! Stories of keys: drawn by weight, resting after a 429, out after a 401, back again.

use std::collections::{HashMap, HashSet};

use super::*;

fn key(name: &str, limits: KeyLimits) -> Key {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", name.parse().unwrap());
    Key::new(name.into(), "default".into(), headers, limits)
}

fn ring(weights: &[f64], balance: Balance, sticky: Option<Sticky>) -> Ring {
    let keys = weights.iter().zip(["a", "b", "c"]);
    let keys = keys.map(|(weight, name)| key(name, KeyLimits { weight: *weight, ..KeyLimits::default() }));
    Ring::new("p".into(), keys.collect(), balance, sticky)
}

fn wish(model: &Arc<str>) -> Wish<'_> {
    Wish { model, tokens: 10, sticky: None, but: None }
}

fn draws(ring: &Ring, times: usize) -> HashMap<String, usize> {
    let (model, dice) = ("m".into(), Dice::loaded(5));
    let mut drawn = HashMap::new();
    for _ in 0..times {
        let hold = ring.choose(wish(&model), &dice, Instant::now()).unwrap().unwrap();
        *drawn.entry(hold.name.to_string()).or_default() += 1;
    }
    drawn
}

#[tokio::test(start_paused = true)]
async fn keys_are_drawn_by_weight() {
    let drawn = draws(&ring(&[3.0, 1.0], Balance::Weighted, None), 4_000);
    assert!((2_850..3_150).contains(&drawn["a"]), "{drawn:?}");
}

#[tokio::test(start_paused = true)]
async fn the_least_loaded_key_is_taken_for_its_weight() {
    let ring = ring(&[2.0, 1.0], Balance::LeastLoaded, None);
    let (model, dice) = ("m".into(), Dice::loaded(1));
    let held: Vec<_> =
        (0..6).map(|_| ring.choose(wish(&model), &dice, Instant::now()).unwrap().unwrap()).collect();
    let of = |name: &str| held.iter().filter(|hold| *hold.name == *name).count();
    assert_eq!((of("a"), of("b")), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_busier_key_is_not_drawn_where_several_are_less_busy() {
    for seed in 0..50 {
        let ring = ring(&[1.0, 1.0, 1.0], Balance::LeastLoaded, None);
        let (model, dice) = ("m".into(), Dice::loaded(seed));
        let held = [(); 3].map(|()| ring.choose(wish(&model), &dice, Instant::now()).unwrap().unwrap());
        let names: HashSet<_> = held.iter().map(|hold| hold.name.clone()).collect();
        assert_eq!(names.len(), 3, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_rests_for_one_model_after_a_429_and_the_others_take_over() {
    let ring = ring(&[1.0, 1.0], Balance::Weighted, None);
    let (model, other, dice) = ("m".into(), "n".into(), Dice::loaded(1));
    let after = Some(Duration::from_secs(7));
    let mut first = ring.choose(wish(&model), &dice, Instant::now()).unwrap().unwrap();
    first.throttled(after, Instant::now(), &dice);
    for _ in 0..20 {
        let hold = ring.choose(wish(&model), &dice, Instant::now()).unwrap().unwrap();
        assert_ne!(hold.name, first.name);
    }
    let second = ring.choose(wish(&model), &dice, Instant::now());
    second.unwrap().unwrap().throttled(after, Instant::now(), &dice);
    let rest = ring.choose(wish(&model), &dice, Instant::now()).err().unwrap();
    assert_eq!(rest, Rest { wait: Duration::from_secs(7), why: Why::Throttled });
    assert!(ring.choose(wish(&other), &dice, Instant::now()).is_ok(), "another model has its own limits");
    assert!(ring.least_bad(wish(&model), Instant::now()).is_some());
    tokio::time::advance(Duration::from_secs(7)).await;
    assert!(ring.choose(wish(&model), &dice, Instant::now()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn rests_without_a_time_grow_and_a_good_answer_forgets_them() {
    let ring = ring(&[1.0], Balance::Weighted, None);
    let (model, dice) = (Arc::from("m"), Dice::loaded(1));
    let mut waits = Vec::new();
    for _ in 0..8 {
        ring.least_bad(wish(&model), Instant::now()).unwrap().throttled(None, Instant::now(), &dice);
        let wait = ring.choose(wish(&model), &dice, Instant::now()).err().unwrap().wait;
        waits.push(wait.as_secs_f64());
        tokio::time::advance(wait).await;
    }
    for (at, wait) in waits.iter().enumerate() {
        let most = 2_f64.powi(at.min(4) as i32).min(16.0);
        assert!((most / 2.0..=most).contains(wait), "{waits:?}");
    }
    ring.choose(wish(&model), &dice, Instant::now()).unwrap().unwrap().good(Instant::now());
    ring.least_bad(wish(&model), Instant::now()).unwrap().throttled(None, Instant::now(), &dice);
    assert!(ring.choose(wish(&model), &dice, Instant::now()).err().unwrap().wait <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_out_and_one_request_finds_out_whether_it_is_back() {
    let ring = ring(&[1.0, 1.0], Balance::Weighted, None);
    let (model, dice) = ("m".into(), Dice::loaded(1));
    let choose = || ring.choose(wish(&model), &dice, Instant::now());
    let mut bad = choose().unwrap().unwrap();
    let name = bad.name.clone();
    bad.refused(Instant::now(), &dice);
    drop(bad);
    assert!((0..30).all(|_| choose().unwrap().unwrap().name != name));
    tokio::time::advance(Duration::from_secs(23)).await;
    let held: Vec<_> = (0..30).map(|_| choose().unwrap().unwrap()).collect();
    let mut probes: Vec<_> = held.into_iter().filter(|hold| hold.name == name).collect();
    assert_eq!(probes.len(), 1, "single flight");
    probes.remove(0).refused(Instant::now(), &dice);
    tokio::time::advance(Duration::from_secs(23)).await;
    assert!((0..30).all(|_| choose().unwrap().unwrap().name != name), "out for longer now");
    tokio::time::advance(Duration::from_secs(23)).await;
    let mut back = (0..60).map(|_| choose().unwrap().unwrap()).find(|hold| hold.name == name).unwrap();
    back.good(Instant::now());
    assert_eq!(ring.looks(Instant::now()).iter().filter(|look| look.state == "ok").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_that_is_tried_for_want_of_another_is_out_for_no_longer() {
    let ring = ring(&[1.0], Balance::Weighted, None);
    let (model, dice) = (Arc::from("m"), Dice::loaded(1));
    let forced = || ring.least_bad(wish(&model), Instant::now()).unwrap();
    let wait = || ring.choose(wish(&model), &dice, Instant::now()).err().unwrap().wait.as_secs();
    for _ in 0..8 {
        forced().refused(Instant::now(), &dice);
        assert!((18..22).contains(&wait()), "{} s", wait());
    }
    tokio::time::advance(Duration::from_secs(23)).await;
    ring.choose(wish(&model), &dice, Instant::now()).unwrap().unwrap().refused(Instant::now(), &dice);
    assert!((36..44).contains(&wait()), "{} s: its time had come", wait());
    forced().good(Instant::now());
    assert_eq!(ring.looks(Instant::now())[0].state, "ok", "it is accepted, whoever asked");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_not_paid_takes_its_keys_out_and_no_others() {
    let mut keys: Vec<_> = ["a", "b", "c"].map(|name| key(name, KeyLimits::default())).into();
    keys[2].account = "second".into();
    let ring = Ring::new("unpaid".into(), keys, Balance::Weighted, None);
    let (model, dice) = (Arc::from("m"), Dice::loaded(1));
    let hold = (0..30).map(|_| ring.choose(wish(&model), &dice, Instant::now()).unwrap().unwrap());
    let hold = hold.into_iter().find(|hold| *hold.name == *"a").unwrap();
    for time in 1..=3 {
        ring.unpaid(&hold, Instant::now(), &dice);
        let states: Vec<_> = ring.looks(Instant::now()).iter().map(|look| look.state).collect();
        assert_eq!(states, ["refused", "refused", "ok"]);
        let alarms =
            crate::telemetry::alerts().into_iter().filter(|alarm| alarm.about["provider"] == "unpaid");
        assert_eq!(alarms.count(), 2, "one for each key, also after {time} of them");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_of_the_configuration_are_kept() {
    let all = Quotas { rpm: Some(60), tpm: Some(600), max_in_flight: Some(2), ..Quotas::default() };
    let limits = KeyLimits { all, ..KeyLimits::default() };
    let ring = Ring::new("p".into(), vec![key("a", limits)], Balance::Weighted, None);
    let (model, dice) = (Arc::from("m"), Dice::loaded(1));
    let ask =
        |tokens| ring.choose(Wish { tokens, ..wish(&model) }, &dice, Instant::now()).map(Option::unwrap);
    let (first, second) = (ask(10).unwrap(), ask(10).unwrap());
    assert_eq!(ask(10).err().unwrap().why, Why::Limited, "two at once");
    assert!(ring.least_bad(wish(&model), Instant::now()).is_none(), "nobody passes over a limit");
    drop((first, second));
    let mut large = ask(500).unwrap();
    large.used(&Usage { input: 500, output: 200, ..Usage::default() });
    drop(large);
    let wait = ask(60).err().unwrap().wait;
    assert!((15..=19).contains(&wait.as_secs()), "{wait:?}: 720 of 600 are used, and 60 are asked for");
    tokio::time::advance(wait).await;
    assert!(ask(60).is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_belongs_together_bears_one_key_and_moves_only_when_its_key_is_out() {
    let ring = ring(&[1.0, 1.0, 1.0], Balance::Weighted, Some(Sticky::Session));
    let (model, dice) = ("m".into(), Dice::loaded(1));
    let of = |session: u64| {
        let wish = Wish { sticky: Some(session), ..wish(&model) };
        ring.choose(wish, &dice, Instant::now()).unwrap().unwrap().place
    };
    let before: Vec<_> = (0..300).map(of).collect();
    assert_eq!(before, (0..300).map(of).collect::<Vec<_>>());
    for place in 0..3 {
        let share = before.iter().filter(|p| **p == place).count();
        assert!((60..150).contains(&share), "{share} of 300 bear key {place}");
    }
    let wish = Wish { sticky: Some(0), ..wish(&model) };
    ring.choose(wish, &dice, Instant::now()).unwrap().unwrap().refused(Instant::now(), &dice);
    for (session, place) in before.iter().enumerate().filter(|(_, place)| **place != before[0]) {
        assert_eq!(of(session as u64), *place, "session {session} moved without need");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_configuration_remembers_keys_and_another_secret_is_another_key() {
    let older = ring(&[1.0, 1.0], Balance::Weighted, None);
    let (model, dice) = (Arc::from("m"), Dice::loaded(1));
    for _ in 0..2 {
        older.choose(wish(&model), &dice, Instant::now()).unwrap().unwrap().refused(Instant::now(), &dice);
    }
    let mut keys: Vec<_> = ["a", "b"].map(|name| key(name, KeyLimits::default())).into();
    let renewed = HeaderMap::from_iter([("authorization".parse().unwrap(), "renewed".parse().unwrap())]);
    keys[1].headers = Arc::new(renewed);
    let fresh = Ring::new("p".into(), keys, Balance::Weighted, None);
    fresh.inherit(&older);
    let states: Vec<_> = fresh.looks(Instant::now()).iter().map(|look| look.state).collect();
    assert_eq!(states, ["refused", "ok"]);
}

#[tokio::test(start_paused = true)]
async fn models_have_limits_of_their_own_and_what_was_generated_is_paid_for_afterwards() {
    let own = Quotas { rpm: Some(2), output_tpm: Some(60), ..Quotas::default() };
    let models = vec![("gpt-4o*".into(), own), ("*".into(), Quotas { rpd: Some(1), ..Quotas::default() })];
    let limits = KeyLimits { models, ..KeyLimits::default() };
    let ring = Ring::new("p".into(), vec![key("a", limits)], Balance::Weighted, None);
    let dice = Dice::loaded(1);
    let ask = |model: &str| ring.choose(wish(&model.into()), &dice, Instant::now()).map(Option::unwrap);
    let mut first = ask("gpt-4o-mini").unwrap();
    first.used(&Usage { input: 10, output: 90, ..Usage::default() });
    let wait = ask("gpt-4o").err().unwrap();
    assert_eq!((wait.why, wait.wait.as_secs()), (Why::Limited, 31), "30 of 60 were used too many");
    assert!(ask("o3").is_ok() && ask("o4").is_err(), "the others share one a day");
    tokio::time::advance(wait.wait).await;
    assert!(ask("gpt-4o").is_ok());
    assert_eq!(ring.left("o3", Instant::now()).requests, Some(0));
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_says_of_its_limits_is_believed_until_it_says_otherwise() {
    let ring = ring(&[1.0], Balance::Weighted, None);
    let (model, other, dice) = (Arc::from("m"), Arc::from("n"), Dice::loaded(1));
    let ask = |model| ring.choose(wish(model), &dice, Instant::now()).map(Option::unwrap);
    let says = |hold: &Hold, left: &str, reset: &str| {
        let pairs = [("limit", "100"), ("remaining", left), ("reset", reset)].map(|(what, value)| {
            (format!("x-ratelimit-{what}-requests").parse().unwrap(), value.parse().unwrap())
        });
        hold.told(&HeaderMap::from_iter(pairs), 0, Instant::now());
    };
    assert_eq!(ring.left("m", Instant::now()), Left::default(), "nobody knows yet");
    let first = ask(&model).unwrap();
    says(&first, "2", "49s");
    assert_eq!(ring.left("m", Instant::now()).requests, Some(2));
    let (second, _third) = (ask(&model).unwrap(), ask(&model).unwrap());
    let rest = ask(&model).err().unwrap();
    assert_eq!(rest.why, Why::UsedUp);
    assert!((450..550).contains(&rest.wait.as_millis()), "one each half second: {:?}", rest.wait);
    assert!(ask(&other).is_ok(), "limits are of a model");
    // The answer to the second was made when the third had not come.
    says(&second, "1", "50s");
    assert_eq!(ask(&model).err().unwrap().why, Why::UsedUp);
    tokio::time::advance(rest.wait * 2).await;
    assert!(ask(&model).is_ok());
    says(&second, "90", "5s");
    assert!((0..20).all(|_| ask(&model).is_ok()));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_followed_is_borne_only_while_its_follower_is_refused() {
    for balance in [Balance::Weighted, Balance::LeastLoaded] {
        let before = || key("before", KeyLimits::default()).followed_by(0);
        let alone = Ring::new("p".into(), vec![key("a", KeyLimits::default()), before()], balance, None);
        let (model, dice) = ("m".into(), Dice::loaded(1));
        let choose = || alone.choose(wish(&model), &dice, Instant::now());
        let busy: Vec<_> = (0..20).map(|_| choose().unwrap().unwrap()).collect();
        assert!(busy.iter().all(|hold| *hold.name == *"a"), "also when it is the busier one");
        drop(busy);
        choose().unwrap().unwrap().throttled(Some(Duration::from_secs(5)), Instant::now(), &dice);
        assert_eq!(choose().err().unwrap().why, Why::Throttled, "a rate limit is of the account");
        assert!(!alone.has_other(wish(&model), Instant::now()));
        tokio::time::advance(Duration::from_secs(5)).await;
        choose().unwrap().unwrap().refused(Instant::now(), &dice);
        let but = Wish { but: Some(0), ..wish(&model) };
        assert!(alone.has_other(but, Instant::now()));
        assert_eq!(*choose().unwrap().unwrap().name, *"before");
        // Once its follower is asked again and accepted, nobody bears it.
        tokio::time::advance(Duration::from_secs(30)).await;
        let mut hold = choose().unwrap().unwrap();
        assert_eq!(*hold.name, *"a");
        hold.good(Instant::now());
        drop(hold);
        assert_eq!(*choose().unwrap().unwrap().name, *"a");
    }
}

#[test]
fn whoever_refuses_a_key_has_its_store_asked() {
    let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = told.clone();
    let recall: Recall = Arc::new(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    });
    let keys = vec![key("a", KeyLimits::default()).recalled_by(Some(recall)), key("b", KeyLimits::default())];
    let ring = Ring::new("p".into(), keys, Balance::Weighted, None);
    let (model, dice) = ("m".into(), Dice::loaded(1));
    for (but, times) in [(1, 1), (0, 1)] {
        let hold =
            ring.choose(Wish { but: Some(but), ..wish(&model) }, &dice, Instant::now()).unwrap().unwrap();
        ring.recall(&hold);
        assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), times, "{}", hold.name);
    }
}
