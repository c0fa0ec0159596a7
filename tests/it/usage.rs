//! What was used, told to programs: the same by the command and by the admin API, in every form, by any calendar.

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, ask};
use crate::gateway::{self, Gateway, Printed};
use crate::keys::{ADMIN, admin, chat_as, create, send, with_store};
use crate::upstream::Upstream;

/// A provider that hears and speaks, in a service that nobody asked for.
fn speaker() -> Upstream {
    Upstream::start(|_| {
        let mut answer = acts::completion("hello");
        answer["service_tier"] = "flex".into();
        answer["usage"] = json!({
            "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
            "prompt_tokens_details": { "cached_tokens": 20, "audio_tokens": 30 },
            "completion_tokens_details": { "reasoning_tokens": 5, "audio_tokens": 10 },
        });
        acts::whole(200, &answer)
    })
}

/// A gateway whose ledger holds an answer for an app, and one for nobody's.
async fn story(up: &Upstream) -> Gateway {
    let config = format!(
        "  openai: {{ base_url: \"{}\", keys: [ env:TEST_KEY ], models: [ gpt-4o ] }}\n\
         auth: keys\nmodels: {{ fast: {{ targets: [ openai/gpt-4o ] }} }}\n",
        up.url()
    );
    let gateway = with_store(&config, up).start();
    for key in [json!({ "name": "shop", "app": "shop" }), json!({ "name": "plain" })] {
        let (_, secret) = create(&gateway, key).await;
        let reply = chat_as(gateway.clients, &secret, &ask("fast")).await;
        assert_eq!(reply.status, 200, "{reply:#?}");
    }
    client::eventually_async("both to be settled", async || {
        let all = admin(&gateway, Method::GET, "/admin/v1/usage", &Value::Null).await.json();
        (all["usage"][0]["output"] == 100).then_some(())
    })
    .await;
    gateway
}

/// What the command says of that ledger.
async fn command(gateway: &Gateway, arguments: &[&str]) -> Printed {
    let database = gateway.path("data/t.db").display().to_string();
    let mut all = vec!["usage".to_owned(), "--database".to_owned(), database];
    all.extend(arguments.iter().map(|&argument| argument.to_owned()));
    let run = move || gateway::setup("").run(&all.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn asked(gateway: &Gateway, query: &str, accept: &str) -> client::Reply {
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", &*bearer), ("accept", accept)];
    send(gateway.admin, Method::GET, &format!("/admin/v1/usage?{query}"), &headers, "").await
}

#[tokio::test]
async fn the_admin_api_and_the_command_say_the_same_in_csv() {
    let up = speaker();
    let gateway = story(&up).await;
    let sums = asked(&gateway, "by=app,tier", "*/*").await.json();
    let shop = sums["usage"].as_array().unwrap().iter().find(|sum| sum["app"] == "shop").unwrap();
    assert_eq!(
        [&shop["tier"], &shop["input_audio"], &shop["output_audio"], &shop["cached_read"], &shop["searches"]],
        [&json!("flex"), &json!(30), &json!(10), &json!(20), &json!(0)],
        "{sums:#}"
    );
    for (query, arguments) in [
        ("by=app,tier", &["--by", "app,tier"][..]),
        ("by=key,app&only=app=shop", &["--by", "key,app", "--only", "app=shop"]),
        ("by=week,day,hour&zone=Asia/Kolkata", &["--by", "week,day,hour", "--zone", "Asia/Kolkata"]),
        ("attempts=true", &["--attempts"]),
        ("attempts=true&only=app=nobody", &["--attempts", "--only", "app=nobody"]),
    ] {
        let told = asked(&gateway, query, "text/csv").await;
        assert_eq!((told.status, told.header("content-type")), (200, "text/csv; charset=utf-8"), "{told:#?}");
        let printed = command(&gateway, &[arguments, &["--format", "csv"]].concat()).await;
        assert_eq!(printed.code, Some(0), "{printed:#?}");
        assert_eq!(told.text().trim_end(), printed.out.trim_end(), "{query}");
        let names = printed.out.lines().next().unwrap_or_default();
        assert!(names.split(',').count() > 20, "a line of names: {}", printed.out);
        let by_name = asked(&gateway, &format!("{query}&format=csv"), "*/*").await;
        assert_eq!(by_name.text(), told.text(), "{query}");
    }
    let lines = asked(&gateway, "by=app&format=jsonl&attempts=false", "*/*").await.text();
    let printed = command(&gateway, &["--by", "app", "--format", "jsonl"]).await;
    assert_eq!(lines.trim_end(), printed.out.trim_end(), "sums as lines");
    let both = asked(&gateway, "attempts=true", "*/*").await;
    assert_eq!(both.status, 400, "{both:#?}");
    let table = command(&gateway, &["--by", "app,tier"]).await;
    assert!(table.out.contains("audio tokens") && !table.out.contains("searches"), "{}", table.out);
}

#[tokio::test]
async fn weeks_are_those_of_the_calendar_and_a_zone_that_there_is_not_is_told() {
    let up = speaker();
    let gateway = story(&up).await;
    let sums = asked(&gateway, "by=week,month&zone=Europe/Berlin", "*/*").await.json();
    let week = sums["usage"][0]["week"].as_str().unwrap();
    assert!(week.starts_with("20") && week.contains("-W") && week.len() == 8, "{sums:#}");
    let one = asked(&gateway, &format!("by=month&only=week={week}&zone=Europe/Berlin"), "*/*").await.json();
    assert_eq!(one["usage"][0]["requests"], 2, "{one:#}");
    let backwards = asked(&gateway, "since=1h&until=2h", "*/*").await;
    assert!(backwards.status == 400 && backwards.text().contains("later than"), "{backwards:#?}");
    let refused = asked(&gateway, "by=day&zone=Europe/Berlim", "*/*").await;
    let why = refused.json()["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(refused.status, 400);
    assert!(why.contains("zone: `Europe/Berlim` is not a time zone"), "{why}");
    let refused = command(&gateway, &["--by", "day", "--zone", "Europe/Berlim"]).await;
    assert!(
        refused.code == Some(1) && refused.err.contains("--zone: `Europe/Berlim` is not a"),
        "{refused:#?}"
    );
    let refused = command(&gateway, &["--by", "weeks"]).await;
    assert!(refused.err.contains("tag:NAME, hour, day, week, month"), "{refused:#?}");
}
