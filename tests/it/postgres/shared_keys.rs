//! Keys, budgets and prices that operators make at one gateway, and all know.

use http::Method;
use serde_json::{Value, json};

use super::{Postgres, with_password};
use crate::acts;
use crate::client::{ask, eventually, eventually_async};
use crate::gateway::{self, Gateway, Setup, provider};
use crate::keys::{ADMIN, admin, chat_as, create};
use crate::upstream::Upstream;

const PEPPER: &str = "a pepper of thirty-two bytes or more";

fn setup(state: &str, up: &Upstream, auth: &str) -> Setup {
    let config = format!(
        "listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0, token: env:ADMIN_TOKEN }}\nauth: {{ mode: keys{auth} }}\n\
         {state}providers:\n{}prices: {{ models: {{ up/m: {{ price: {{ input: 1, output: 1 }} }} }} }}\n",
        provider("up", &up.url())
    );
    let setup = gateway::setup("").file("tollgate.yaml", &config).env("ADMIN_TOKEN", ADMIN);
    with_password(setup).env("PEPPER", PEPPER).env("OTHER", &PEPPER.replace("pepper", "pinch of salt"))
}

const SHARED: &str = ", pepper: env:PEPPER";

async fn status(gateway: &Gateway, key: &str) -> u16 {
    chat_as(gateway.clients, key, &ask("up/m")).await.status
}

async fn becomes(gateway: &Gateway, key: &str, expected: u16) {
    eventually_async("the other gateway to know", async || {
        (status(gateway, key).await == expected).then_some(())
    })
    .await;
}

/// A key is in service at this gateway, which nobody has to try out in vain.
async fn knows(gateway: &Gateway, path: &str) {
    eventually_async("the other gateway to know", async || {
        let known = admin(gateway, Method::GET, path, &Value::Null).await;
        (known.status == 200 && known.json()["state"] == "active").then_some(())
    })
    .await;
}

async fn budget_names(gateway: &Gateway) -> Vec<Value> {
    let budgets = admin(gateway, Method::GET, "/admin/v1/budgets", &Value::Null).await.json();
    budgets["budgets"].as_array().unwrap().iter().map(|budget| budget["name"].clone()).collect()
}

#[tokio::test]
async fn what_is_made_at_one_gateway_counts_at_all_of_them() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = Upstream::start(|_| acts::says("hello"));
    let [first, second] = [0, 1].map(|_| setup(&postgres.state(""), &up, SHARED).start());
    let (id, secret) = create(&first, json!({ "name": "ci", "team": "platform" })).await;
    assert_eq!(status(&first, &secret).await, 200);
    becomes(&second, &secret, 200).await;

    // Changed at the other one, with a revision that only PostgreSQL knows to be right.
    let twice = admin(&second, Method::POST, "/admin/v1/keys", &json!({ "name": "ci" })).await;
    assert_eq!(twice.status, 409, "{twice:#?}");
    let path = format!("/admin/v1/keys/{id}/rotate");
    let rotated = admin(&second, Method::POST, &path, &json!({ "overlap": "0s" })).await;
    assert_eq!(rotated.status, 200, "{rotated:#?}");
    let fresh = rotated.json()["secret"].as_str().unwrap().to_owned();
    becomes(&first, &fresh, 200).await;
    becomes(&first, &secret, 401).await;

    let budget = json!({ "name": "small", "dollars": 5, "per": "day" });
    let made = admin(&second, Method::POST, "/admin/v1/budgets", &budget).await;
    assert_eq!(made.status, 201, "{made:#?}");
    let prices = json!({ "models": { "up/n": { "price": { "input": 7, "output": 8 } } } });
    let pushed = admin(&first, Method::POST, "/admin/v1/prices", &prices).await;
    assert_eq!(pushed.status, 200, "{pushed:#?}");
    eventually_async("budget and price to be everywhere", async || {
        let price = admin(&second, Method::GET, "/admin/v1/prices?model=up/n", &Value::Null).await.text();
        (budget_names(&first).await.contains(&json!("small")) && price.contains('7')).then_some(())
    })
    .await;

    let revoked = admin(&first, Method::DELETE, &format!("/admin/v1/keys/{id}"), &Value::Null).await;
    assert_eq!(revoked.status, 200, "{revoked:#?}");
    assert_eq!(status(&first, &fresh).await, 401);
    becomes(&second, &fresh, 401).await;
    // Who did what stands where it was done.
    for (gateway, actions) in [
        (&first, ["key.create", "prices.push", "key.revoke"].as_slice()),
        (&second, &["key.rotate", "budget.create"]),
    ] {
        let log = admin(gateway, Method::GET, "/admin/v1/audit", &Value::Null).await.text();
        assert!(actions.iter().all(|action| log.contains(action)), "{log}");
        let sound = admin(gateway, Method::GET, "/admin/v1/audit/verify", &Value::Null).await;
        assert_eq!(sound.status, 200, "{sound:#?}");
    }
    assert_eq!(postgres.count("SELECT count(*) FROM tollgate.vkey WHERE secrets LIKE '%tg-%'").await, 0);
}

#[tokio::test]
async fn what_is_changed_at_one_gateway_stays_changed_when_another_changes_something_else() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = Upstream::start(|_| acts::says("hello"));
    let [first, second] = [0, 1].map(|_| setup(&postgres.state(""), &up, SHARED).start());
    let (id, secret) = create(&first, json!({ "name": "leaked", "team": "x" })).await;
    let path = format!("/admin/v1/keys/{id}");
    knows(&second, &path).await;
    for round in 0..3 {
        // The second one has not looked for changes in between.
        let disabled = admin(&first, Method::POST, &format!("{path}/disable"), &Value::Null).await;
        assert_eq!(disabled.status, 200, "{disabled:#?}");
        let app = format!("app-{round}");
        let patched = admin(&second, Method::PATCH, &path, &json!({ "app": app })).await.json();
        assert_eq!((&patched["state"], &patched["app"]), (&json!("disabled"), &json!(app)), "{patched:#}");
        becomes(&first, &secret, 401).await;
        assert_eq!(status(&second, &secret).await, 401);
        let enabled = admin(&first, Method::POST, &format!("{path}/enable"), &Value::Null).await.json();
        assert_eq!((&enabled["app"], &enabled["team"]), (&json!(app), &json!("x")), "{enabled:#}");
        knows(&second, &path).await;
    }

    let budget = |dollars: u64| json!({ "name": "both", "dollars": dollars, "per": "day" });
    let made = admin(&first, Method::POST, "/admin/v1/budgets", &budget(5)).await;
    let again = admin(&second, Method::POST, "/admin/v1/budgets", &budget(500)).await;
    assert_eq!((made.status, again.status), (201, 409), "{again:#?}");
    for (gateway, fields) in [(&first, json!({ "dollars": 1 })), (&second, json!({ "alerts": [90] }))] {
        let patched = admin(gateway, Method::PATCH, "/admin/v1/budgets/both", &fields).await;
        assert_eq!(patched.status, 200, "{patched:#?}");
    }
    for gateway in [&first, &second] {
        let settings = eventually_async("the budget to be everywhere", async || {
            let one = admin(gateway, Method::GET, "/admin/v1/budgets/both", &Value::Null).await.json();
            (one["settings"]["alerts"] == json!([90])).then(|| one["settings"].clone())
        })
        .await;
        assert_eq!(settings["dollars"], json!(1.0), "{settings:#}");
    }
    let gone = admin(&second, Method::DELETE, "/admin/v1/budgets/both", &Value::Null).await;
    let late = admin(&first, Method::PATCH, "/admin/v1/budgets/both", &json!({ "dollars": 7 })).await;
    assert_eq!((gone.status, late.status), (200, 404), "{late:#?}");
}

#[tokio::test]
async fn while_postgres_is_away_known_keys_count_and_nothing_can_be_changed() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = Upstream::start(|_| acts::says("hello"));
    let state = tempfile::tempdir().unwrap();
    let own = state.path().join("own.db").display().to_string();
    let words = postgres.state(", timeout: 500ms").replace("./data/tollgate.db", &own);
    let gateway = setup(&words, &up, SHARED).start();
    let (_, secret) = create(&gateway, json!({ "name": "ci" })).await;
    postgres.kill();
    assert_eq!(status(&gateway, &secret).await, 200);
    let made = admin(&gateway, Method::POST, "/admin/v1/keys", &json!({ "name": "late" })).await;
    assert!(made.status == 503 && made.text().contains("PostgreSQL"), "{made:#?}");
    drop(gateway);
    let gateway = setup(&words, &up, SHARED).start();
    assert_eq!(status(&gateway, &secret).await, 200, "it starts with the keys that it knew");
    assert!(gateway.log().iter().any(|line| line.contains("knew last")), "{:#?}", gateway.log());
    postgres.again();
    postgres.ready().await;
    eventually_async("keys to be made again", async || {
        let made = admin(&gateway, Method::POST, "/admin/v1/keys", &json!({ "name": "late" })).await;
        (made.status == 201).then_some(())
    })
    .await;
    eventually("the end of the trouble to be told", || {
        gateway.log().iter().any(|line| line.contains("up to date again")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_of_the_time_before_are_brought_along_and_another_pepper_is_refused() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ready().await;
    let up = Upstream::start(|_| acts::says("hello"));
    let state = tempfile::tempdir().unwrap();
    let own = state.path().join("own.db").display().to_string();
    let alone = setup(&format!("state: {{ ledger: \"sqlite:{own}\" }}\n"), &up, SHARED).start();
    let (_, secret) = create(&alone, json!({ "name": "early" })).await;
    drop(alone);
    let words = postgres.state("").replace("./data/tollgate.db", &own);
    let first = setup(&words, &up, SHARED).start();
    assert_eq!(status(&first, &secret).await, 200);
    let second = setup(&postgres.state(""), &up, SHARED).start();
    assert_eq!(status(&second, &secret).await, 200, "who comes later knows it from the start");
    let salted = setup(&postgres.state(""), &up, ", pepper: env:OTHER").run(&["serve"]);
    assert_eq!(salted.code, Some(78), "{salted:#?}");
    assert!(salted.err.contains("auth.pepper"), "{salted:#?}");
    // Without a common pepper, a gateway is for itself, and says so.
    let single = setup(&postgres.state(""), &up, "").start();
    assert_eq!(status(&single, &secret).await, 401);
    let checked = setup(&postgres.state(""), &up, "").run(&["check"]);
    assert!(checked.code == Some(0) && format!("{checked:?}").contains("auth.pepper"), "{checked:#?}");
}
