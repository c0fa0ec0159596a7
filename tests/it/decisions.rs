//! What was decided is written down, explained, and asked of other policies again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, ask, ask_stream, eventually};
use crate::gateway::{self, Gateway, Printed, Setup, provider};
use crate::upstream::Upstream;

const RULES: &str = r#"fn on_request(req) {
    if req.headers["x-tier"] == "free" { return reject(403, "no_tier", "pay").named("tier"); }
    if req.contains_any(["prove", "derive"]) { return route("strong").named("hard"); }
    if req.tokens > 500 { return route("strong").then("fast").timeout("20s").named("long"); }
    if req.metadata["half"] == "yes" { return split(#{ "a/x": 50, "b/y": 50 }).named("half"); }
}"#;

/// Two providers, an alias for each, and decisions on disk.
fn town(more: &str, rules: &str) -> (Vec<Upstream>, Setup) {
    let ups: Vec<_> = ["a", "b"]
        .map(|name| {
            Upstream::start(move |heard| {
                let text = format!("{name}/{}", heard.model());
                if heard.json()["stream"] == true { acts::says_stream(&[&text]) } else { acts::says(&text) }
            })
        })
        .into();
    let lines: String = ["a", "b"].iter().zip(&ups).map(|(name, up)| provider(name, &up.url())).collect();
    let config = format!(
        "retries: {{ retries: 0 }}\n{more}providers:\n{lines}models:\n  fast: {{ targets: [ a/fast ] }}\n  strong: {{ targets: [ b/strong ] }}\n"
    );
    (ups, gateway::setup(&config).policy("10-rules.rhai", rules))
}

async fn send(gateway: &Gateway, question: &Value, headers: &[(&str, &str)]) -> Reply {
    let mut request = client::request(Method::POST, "/v1/chat/completions", &question.to_string());
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    client::open(gateway.clients, request).await.unwrap().rest().await
}

fn says(text: &str) -> Value {
    let mut question = ask("fast");
    question["messages"][0]["content"] = text.into();
    question
}

/// Traffic of every kind; ends the gateway, so that all of it is on disk. The folder stays with the setup's files.
async fn recorded(more: &str, rules: &str) -> (Town, usize) {
    let (_ups, setup) = town(&format!("decisions: ./decisions\n{more}"), rules);
    let gateway = setup.start();
    let mut sent = 0;
    for round in 0..5 {
        for (question, headers) in [
            (says("hello"), &[][..]),
            (says("please PROVE it"), &[]),
            (says(&"word ".repeat(1_000)), &[]),
            (says("hello"), &[("x-tier", "free")]),
            (says("hello"), &[("x-tier", "gold")]),
        ] {
            send(&gateway, &question, headers).await;
            sent += 1;
        }
        let mut half = says("hello");
        half["metadata"] = json!({ "half": "yes" });
        half["user"] = format!("user-{round}").into();
        send(&gateway, &half, &[]).await;
        send(&gateway, &ask_stream("fast"), &[]).await;
        sent += 2;
    }
    let dir = gateway.path("");
    eventually("all records on disk", || (lines(&dir.join("decisions")).len() == sent).then_some(())).await;
    (Town { gateway, dir }, sent)
}

/// A gateway whose folder is used by commands beside it.
struct Town {
    gateway: Gateway,
    dir: PathBuf,
}

impl Town {
    /// Runs a command in the gateway's folder.
    fn run(&self, arguments: &[&str]) -> Printed {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(arguments)
            .current_dir(&self.dir)
            .env_clear()
            .output()
            .expect("the binary starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Printed { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// A directory of policies beside the real one.
    fn rules(&self, name: &str, text: &str) {
        fs::create_dir_all(self.dir.join(name)).unwrap();
        fs::write(self.dir.join(name).join("10-rules.rhai"), text).unwrap();
    }
}

fn lines(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[tokio::test]
async fn an_unchanged_policy_changes_nothing() {
    let (town, sent) = recorded("", RULES).await;
    let printed = town.run(&[
        "policy",
        "replay",
        "--since",
        "1h",
        "--json",
        "--max-changed",
        "0%",
        "--max-undecidable",
        "0%",
    ]);
    let report: Value = serde_json::from_str(&printed.out).unwrap_or_else(|_| panic!("{printed:#?}"));
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    assert_eq!(
        (&report["asked"], &report["same"], &report["changed"], &report["undecidable"]),
        (&json!(sent), &json!(sent), &json!(0), &json!(0)),
        "{report:#}"
    );
    // A comment above moves every line, and is no difference.
    town.rules("moved", &format!("// a comment\n{RULES}"));
    let printed = town.run(&["policy", "replay", "--policies", "moved", "--json"]);
    let report: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(report["same"], sent, "{report:#}");
    let text = fs::read_to_string(town.dir.join("tollgate.yaml")).unwrap();
    assert!(
        !text.is_empty() && !lines(&town.dir.join("decisions")).join("\n").contains("PROVE"),
        "no prompt on disk"
    );
}

#[tokio::test]
async fn another_policy_is_asked_the_same() {
    let (town, _) = recorded("", RULES).await;
    town.rules(
        "stricter",
        &RULES.replace(
            "return route(\"strong\").named(\"hard\")",
            "return reject(400, \"too_hard\", \"no\").named(\"hard\")",
        ),
    );
    let replay = |more: &[&str]| {
        let arguments = [&["policy", "replay", "--policies", "stricter", "--json"], more].concat();
        let printed = town.run(&arguments);
        let report: Value = serde_json::from_str(&printed.out).unwrap_or_else(|_| panic!("{printed:#?}"));
        (printed.code, report)
    };
    let (code, report) = replay(&[]);
    assert_eq!(code, Some(0));
    assert_eq!((&report["changed"], &report["denied"]["newly"]), (&json!(5), &json!(5)), "{report:#}");
    let sample = &report["samples"][0];
    assert_eq!(
        (&sample["rule_before"], &sample["rule_after"]),
        (&json!("10-rules/hard"), &json!("10-rules/hard"))
    );
    assert!(sample["after"].as_str().unwrap().starts_with("reject(400"), "{sample:#}");
    assert_eq!(report["routes"], json!([{ "from": "b/strong", "to": "(denied)", "requests": 5 }]));
    for (bar, code) in
        [("--max-changed=50%", 0), ("--max-changed=5%", 1), ("--max-denied=20%", 0), ("--max-denied=1%", 1)]
    {
        assert_eq!(replay(&[bar]).0, Some(code), "{bar}");
    }
    let printed = town.run(&["policy", "replay", "--policies", "stricter", "--max-denied", "1%"]);
    assert!(
        printed.code == Some(1) && printed.out.contains("too much: newly denied requests"),
        "{printed:#?}"
    );
    assert!(printed.out.contains("10-rules/hard: reject(400"), "{printed:#?}");
}

#[tokio::test]
async fn what_was_not_recorded_is_not_guessed() {
    let (town, sent) = recorded("", RULES).await;
    for (name, condition, missing) in [
        ("words", "req.contains_any([\"poem\"])", "contains_any([\"poem\"])"),
        ("text", "req.text.len() > 5", "text"),
        ("meta", "req.metadata[\"other\"] == \"x\"", "metadata[\"other\"]"),
    ] {
        town.rules(name, &format!("fn on_request(req) {{ if {condition} {{ return route(\"strong\"); }} }}"));
        let printed =
            town.run(&["policy", "replay", "--policies", name, "--json", "--max-undecidable", "1%"]);
        let report: Value = serde_json::from_str(&printed.out).unwrap_or_else(|_| panic!("{printed:#?}"));
        assert_eq!((printed.code, &report["undecidable"]), (Some(1), &json!(sent)), "{name}: {report:#}");
        assert_eq!(report["missing"][missing], sent, "{name}: {report:#}");
    }
    // What follows from what was recorded is known: a header that nobody sent, one word of a list that was not found.
    town.rules("known", "fn on_request(req) { if req.headers[\"x-new\"] != () || req.has_images || req.tokens > 900 { return route(\"strong\"); } }");
    let printed = town.run(&["policy", "replay", "--policies", "known", "--json", "--max-undecidable", "0%"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
}

#[tokio::test]
async fn prompts_are_recorded_where_somebody_wants_them() {
    let (_ups, setup) = town("decisions: { dir: ./decisions, text: true }\n", RULES);
    let gateway = setup.start();
    send(&gateway, &says("write a poem"), &[]).await;
    let dir = gateway.path("");
    eventually("a record", || (lines(&dir.join("decisions")).len() == 1).then_some(())).await;
    let town = Town { gateway, dir };
    town.rules(
        "poems",
        "fn on_request(req) { if req.contains_any([\"poem\"]) { return route(\"strong\"); } }",
    );
    let printed = town.run(&["policy", "replay", "--policies", "poems", "--json"]);
    let report: Value = serde_json::from_str(&printed.out).unwrap_or_else(|_| panic!("{printed:#?}"));
    assert_eq!((&report["changed"], &report["undecidable"]), (&json!(1), &json!(0)), "{report:#}");
}

#[tokio::test]
async fn a_decision_is_explained() {
    let (_ups, setup) = town("decisions: { dir: ./decisions, recent: 1 }\n", RULES);
    let gateway = setup.start();
    let first = send(&gateway, &says("prove it"), &[("x-tollgate-explain", "1")]).await;
    let brief: Value = serde_json::from_str(first.header("x-tollgate-explain")).unwrap();
    assert_eq!(
        (&brief["rule"], &brief["verdict"]),
        (&json!("10-rules/hard"), &json!("route(\"strong\")")),
        "{brief:#}"
    );
    assert!(brief["read"].to_string().contains("contains_any"), "{brief:#}");
    assert_eq!(brief["candidates"][0]["target"], "b/strong");
    let refused = send(&gateway, &says("hi"), &[("x-tier", "free"), ("x-tollgate-explain", "1")]).await;
    assert_eq!((refused.status, refused.error()["code"].as_str()), (403, Some("no_tier")));
    let brief: Value = serde_json::from_str(refused.header("x-tollgate-explain")).unwrap();
    assert_eq!(brief["rule"], "10-rules/tier", "{brief:#}");
    let mut streamed = ask_stream("fast");
    streamed["messages"][0]["content"] = "prove it".into();
    let streamed = send(&gateway, &streamed, &[("x-tollgate-explain", "1")]).await;
    assert!(streamed.header("x-tollgate-explain").contains("10-rules/hard"), "{streamed:#?}");
    assert_eq!(send(&gateway, &says("hi"), &[]).await.header("x-tollgate-explain"), "");

    // The last one is in memory, the first on disk only.
    let id = first.header("x-request-id").to_owned();
    let path = format!("/admin/v1/decisions/{id}");
    let dir = gateway.path("decisions");
    eventually("records on disk", || (lines(&dir).len() == 4).then_some(())).await;
    let found = client::get(gateway.admin, &path).await.json();
    assert_eq!(found["decision"]["record"]["rule"]["name"], "hard", "{found:#}");
    let explained = found["explained"].as_str().unwrap();
    for part in ["10-rules/hard", "contains_any([\"prove\", \"derive\"]) → true", "b/strong", "ok (HTTP 200)"]
    {
        assert!(explained.contains(part), "no {part} in {explained}");
    }
    assert_eq!(client::get(gateway.admin, "/admin/v1/decisions/nobody").await.status, 404);
    let town = Town { dir: gateway.path(""), gateway };
    let printed = town.run(&["policy", "explain", "--id", &id]);
    assert!(printed.code == Some(0) && printed.out.contains("10-rules/hard"), "{printed:#?}");
    assert_eq!(town.run(&["policy", "explain", "--id", "nobody"]).code, Some(2));
}

#[tokio::test]
async fn clients_may_be_kept_from_asking() {
    let (_ups, setup) = town("decisions: { explain: false, recent: 0 }\n", RULES);
    let gateway = setup.start();
    let reply = send(&gateway, &says("hi"), &[("x-tollgate-explain", "1")]).await;
    assert_eq!((reply.status, reply.header("x-tollgate-explain")), (200, ""));
    assert_eq!(client::get(gateway.admin, "/admin/v1/decisions").await.json()["decisions"], json!([]));
    assert!(!gateway.path("decisions").exists(), "nothing is written unless somebody names a directory");
}

#[tokio::test]
async fn decisions_are_listed_newest_first_and_filtered() {
    let (_ups, setup) = town("", RULES);
    let gateway = setup.start();
    for (text, tier) in [("hi", "gold"), ("prove it", "gold"), ("hi", "free")] {
        send(&gateway, &says(text), &[("x-tier", tier)]).await;
    }
    let list = async |query: &str| {
        let reply = client::get(gateway.admin, &format!("/admin/v1/decisions{query}")).await;
        assert_eq!(reply.status, 200, "{query}: {reply:#?}");
        let all = reply.json()["decisions"].as_array().unwrap().clone();
        all.iter().map(|one| one["rule"].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, ["10-rules/tier", "10-rules/hard", "-"]);
    for (query, rules) in [
        ("?limit=1", &["10-rules/tier"][..]),
        ("?rule=hard", &["10-rules/hard"]),
        ("?rule=10-rules", &["10-rules/tier", "10-rules/hard"]),
        ("?target=b/strong", &["10-rules/hard"]),
        ("?target=a", &["-"]),
        ("?outcome=error", &["10-rules/tier"]),
        ("?status=200&model=fast", &["10-rules/hard", "-"]),
        ("?since=1h&outcome=ok", &["10-rules/hard", "-"]),
        ("?since=2199-01-01", &[]),
    ] {
        assert_eq!(list(query).await, rules, "{query}");
    }
    for query in ["?since=yesterday", "?outcome=well", "?colour=red"] {
        assert_eq!(
            client::get(gateway.admin, &format!("/admin/v1/decisions{query}")).await.status,
            400,
            "{query}"
        );
    }
    let lines = client::get(gateway.admin, "/admin/v1/decisions?format=jsonl").await.text();
    let file = gateway.path("ring.jsonl");
    fs::write(&file, lines).unwrap();
    let town = Town { dir: gateway.path(""), gateway };
    let printed = town.run(&["policy", "replay", "--from", "ring.jsonl", "--json"]);
    assert!(printed.code == Some(0) && printed.out.contains("\"asked\": 3"), "{printed:#?}");
    let printed = town.run(&["policy", "replay"]);
    assert!(printed.code == Some(2) && printed.err.contains("decisions: ./decisions"), "{printed:#?}");
}

#[tokio::test]
async fn a_torn_line_is_skipped_and_old_files_go() {
    let (town, sent) = recorded("", RULES).await;
    let dir = town.dir.join("decisions");
    let files = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|path| path.is_file()).unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, [b"nonsense\n", &bytes[..bytes.len() - 30]].concat()).unwrap();
    let printed = town.run(&["policy", "replay", "--json"]);
    let report: Value = serde_json::from_str(&printed.out).unwrap_or_else(|_| panic!("{printed:#?}"));
    assert_eq!((&report["asked"], &report["unreadable"]), (&json!(sent - 1), &json!(1)), "{report:#}");

    // What is older than it may be goes at the next start.
    let Town { gateway, dir: folder } = town;
    let written = fs::metadata(&file).unwrap().modified().unwrap();
    let old = written - Duration::from_secs(8 * 86_400);
    fs::File::options().append(true).open(&file).unwrap().set_modified(old).unwrap();
    let config = fs::read_to_string(folder.join("tollgate.yaml")).unwrap();
    let kept = gateway::setup("").file("tollgate.yaml", &config);
    fs::create_dir(kept.path().join("decisions")).unwrap();
    let copy = kept.path().join("decisions").join(file.file_name().unwrap());
    fs::copy(&file, &copy).unwrap();
    fs::File::options().append(true).open(&copy).unwrap().set_modified(old).unwrap();
    drop(gateway);
    let gateway = kept.start();
    assert!(!gateway.path("decisions").join(file.file_name().unwrap()).exists());
}

#[tokio::test]
async fn a_request_is_explained_before_it_is_sent() {
    let (_ups, setup) = town("", RULES);
    let setup = setup
        .file("chat.json", &says("prove it").to_string())
        .file("claude.json", &json!({ "model": "fast", "max_tokens": 9, "messages": [{ "role": "user", "content": "derive it" }] }).to_string())
        .file("gemini.json", &json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }] }).to_string())
        .file("broken.json", "{\"model\": ");
    for (arguments, parts) in [
        (&["chat.json"][..], &["10-rules/hard", "1. b/strong", "contains_any", "600000 ms in all"][..]),
        (&["claude.json", "--endpoint", "messages"], &["10-rules/hard", "b/strong"]),
        (&["gemini.json", "--endpoint", "gemini", "--model", "fast"], &["no policy", "1. a/fast"]),
        (&["gemini.json", "--endpoint", "/v1beta/models/strong:generateContent"], &["1. b/strong"]),
        (&["chat.json", "--header", "x-tier: free"], &["10-rules/tier", "reject(403", "no_tier"]),
    ] {
        let printed = setup.run(&[&["policy", "explain"], arguments].concat());
        assert_eq!(printed.code, Some(0), "{printed:#?}");
        for part in parts {
            assert!(printed.out.contains(part), "no {part} in {printed:#?}");
        }
    }
    let printed = setup.run(&["policy", "explain", "chat.json", "--json"]);
    let value: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(value["decision"]["decision"]["verdict"]["route"]["steps"], json!([[["strong", 1.0]]]));
    let printed = setup.run(&["policy", "explain", "chat.json", "--repeat", "50"]);
    assert!(
        printed.out.contains("1. b/strong") && printed.out.contains("(median of 50; p99 "),
        "{printed:#?}"
    );
    let printed = setup.run(&["policy", "explain", "chat.json", "--repeat", "50", "--json"]);
    let value: Value = serde_json::from_str(&printed.out).unwrap();
    let took = |name: &str| value["policy_us"][name].as_f64().unwrap();
    assert!(took("times") == 50.0 && took("median") > 0.0 && took("median") <= took("p99"), "{value:#}");
    for (arguments, complaint) in [
        (&["chat.json", "--repeat", "0"][..], "--repeat"),
        (&["broken.json"], "broken.json: "),
        (&["nowhere.json"], "nowhere.json: No such file"),
        (&["chat.json", "--endpoint", "chart"], "`chart` is none"),
        (&["gemini.json", "--endpoint", "gemini"], "--model"),
        (&["chat.json", "--header", "nonsense"], "write it as `name: value`"),
    ] {
        let printed = setup.run(&[&["policy", "explain"], arguments].concat());
        assert!(printed.code == Some(2) && printed.err.contains(complaint), "{complaint}: {printed:#?}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_to_a_request_is_told_before_it_is_sent() {
    let rules = r#"fn on_request(req) {
        let wish = req.headers["x-wish"];
        if wish == "respond" { return respond("hi"); }
        if wish == "redact" { req.redact_output(["email"]); }
        if wish == "cap" { req.cap_output(5); }
    }"#;
    let (_ups, setup) = town("", rules);
    let setup = setup
        .file("chat.json", &says("hi").to_string())
        .file("vectors.json", &json!({ "model": "fast", "input": "hi" }).to_string());
    for (file, wish, part) in [
        ("vectors.json", "respond", "policy_not_enforceable"),
        ("vectors.json", "none", "1. a/fast"),
        ("chat.json", "redact", "policy_not_enforceable"),
        ("chat.json", "respond", "1. "),
        ("chat.json", "cap", "1. a/fast"),
    ] {
        let endpoint = if file == "vectors.json" { "embeddings" } else { "chat" };
        let wish = format!("x-wish: {wish}");
        let printed = setup.run(&["policy", "explain", file, "--endpoint", endpoint, "-H", &wish]);
        assert!(printed.code == Some(0) && printed.out.contains(part), "{file} {wish}: {printed:#?}");
    }
}

#[tokio::test]
async fn recorded_traffic_has_a_price_under_other_prices() {
    let (town, _) = recorded("", RULES).await;
    fs::write(town.dir.join("prices.yaml"), "b/strong: { input: 1000000, output: 0 }\na/fast: { input: 0, output: 0 }\nx: { input: 0, output: 0 }\ny: { input: 0, output: 0 }\n").unwrap();
    town.rules("cheap", "fn on_request(req) { route(\"fast\") }");
    let simulate = |more: &[&str]| {
        let printed = town.run(
            &[&["policy", "simulate", "--days", "1", "--prices", "prices.yaml", "--json"], more].concat(),
        );
        let report: Value = serde_json::from_str(&printed.out).unwrap_or_else(|_| panic!("{printed:#?}"));
        report
    };
    let cheap = simulate(&["--policies", "cheap"]);
    assert_eq!(cheap["cost"]["after"], 0.0, "{cheap:#}");
    fs::write(
        town.dir.join("strange.yaml"),
        "b/strnog: { input: 1, output: 1 }\nfast: { input: 1, output: 1 }\n",
    )
    .unwrap();
    let printed = town.run(&["policy", "simulate", "--prices", "strange.yaml"]);
    assert!(
        printed.err.contains("strange.yaml: no target of the configuration is `b/strnog`"),
        "{printed:#?}"
    );
    assert!(!printed.err.contains("`fast`"), "{printed:#?}");
    fs::write(town.dir.join("broken.yaml"), "a: 3").unwrap();
    let printed = town.run(&["policy", "simulate", "--prices", "broken.yaml"]);
    assert!(printed.code == Some(2) && printed.err.contains("broken.yaml: "), "{printed:#?}");
}

/// What is between attempts, and before an answer.
const LATER: &str = r#"fn on_request(req) { route("a/flaky").then("fast").named("both"); }

fn on_error(req, err) {
    if err.kind == "overloaded" && err.attempt == 1 && req.headers["x-patient"] == "yes" { return retry_after(1); }
}

fn on_response(req, res) {
    if res.finish == "length" || res.latency_ms > 60_000 { return reject(502, "too_short", "the answer is too short"); }
    if req.headers["x-picky"] == "yes" && res.target.name != "a/flaky" { return reject(502, "not_wanted", "no"); }
}"#;

#[tokio::test]
async fn what_hooks_said_of_attempts_and_answers_is_asked_again() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let up = Upstream::start(move |heard| {
        // Every second request at this model fails, the first among them.
        let fails = heard.model() == "flaky"
            && calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst).is_multiple_of(2);
        match (fails, heard.is_stream()) {
            (true, _) => acts::error(503, "busy"),
            (_, true) => acts::says_stream(&["hello"]),
            _ => acts::says("hello"),
        }
    });
    let config = format!(
        "decisions: ./decisions\nretries: {{ retries: 0 }}\nbreaker: {{ enabled: false }}\nproviders:\n{}models:\n  fast: {{ targets: [ a/fast ] }}\n",
        provider("a", &up.url())
    );
    let setup = gateway::setup(&config).policy("10-rules.rhai", LATER);
    let gateway = setup.start();
    let mut statuses = Vec::new();
    for headers in [&[][..], &[("x-patient", "yes")], &[("x-picky", "yes")], &[]] {
        statuses.push(send(&gateway, &says("hello"), headers).await.status);
        statuses.push(send(&gateway, &ask_stream("fast"), headers).await.status);
    }
    assert!(statuses.contains(&200) && statuses.contains(&502), "{statuses:?}");
    let refused = statuses.iter().filter(|status| **status == 502).count();
    let dir = gateway.path("");
    eventually("all records on disk", || {
        (lines(&dir.join("decisions")).len() == statuses.len()).then_some(())
    })
    .await;
    let town = Town { gateway, dir };
    let replayed = |rules: Option<&str>| {
        let mut arguments = vec!["policy", "replay", "--json"];
        if let Some(rules) = rules {
            town.rules("next", rules);
            arguments.extend(["--policies", "next"]);
        }
        let printed = town.run(&arguments);
        serde_json::from_str::<Value>(&printed.out).unwrap_or_else(|_| panic!("{printed:#?}"))
    };
    let report = replayed(None);
    assert_eq!((&report["same"], &report["changed"]), (&json!(8), &json!(0)), "{report:#}");
    assert_eq!((&report["undecidable"], &report["not_replayed"]), (&json!(0), &json!([])), "{report:#}");
    assert_eq!(
        report["denied"],
        json!({"before": refused, "after": refused, "newly": 0, "no_longer": 0}),
        "{report:#}"
    );

    // Nobody is picky any more.
    let report = replayed(Some(&LATER.replace("\"x-picky\"] == \"yes\"", "\"x-picky\"] == \"very\"")));
    assert_eq!(
        (&report["changed"], &report["denied"]["no_longer"]),
        (&json!(refused), &json!(refused)),
        "{report:#}"
    );
    assert!(report["samples"].to_string().contains("on_response: no opinion"), "{report:#}");
    // Everybody leaves a target at its first failure.
    let left = LATER.replace(
        "if err.kind == \"overloaded\" && err.attempt == 1",
        "if err.status == 503 { return next_target(); }\n    if err.attempt == 99",
    );
    let report = replayed(Some(&left));
    assert!(report["changed"].as_u64() >= Some(2), "{report:#}");
    assert!(report["samples"].to_string().contains("on_error: next_target()"), "{report:#}");
    // What nobody read then is not guessed.
    let report = replayed(Some(&LATER.replace("res.finish == \"length\"", "req.contains_any([\"new\"])")));
    assert_eq!((&report["changed"], &report["undecidable"]), (&json!(0), &json!(8)), "{report:#}");
    // A hook that the policies in service did not have is asked of what became of the attempts.
    let report = replayed(Some(&format!("{LATER}\nfn on_complete(req, out) {{ metric(\"n\").add(); }}")));
    assert_eq!(
        (&report["same"], &report["not_replayed"]),
        (&json!(8), &json!(["on_complete"])),
        "{report:#}"
    );
}

#[tokio::test]
async fn a_hook_that_is_new_is_asked_of_old_answers() {
    let (town, sent) = recorded("", RULES).await;
    let strict = format!(
        "{RULES}\nfn on_response(req, res) {{ if res.target.provider == \"b\" {{ return reject(502, \"no_b\", \"no\"); }} }}"
    );
    town.rules("strict", &strict);
    let printed = town.run(&["policy", "replay", "--policies", "strict", "--json", "--max-denied", "1%"]);
    let report: Value = serde_json::from_str(&printed.out).unwrap_or_else(|_| panic!("{printed:#?}"));
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    let newly = report["denied"]["newly"].as_u64().unwrap_or_default();
    assert!(newly >= 10 && report["changed"] == newly && report["same"] == sent as u64 - newly, "{report:#}");
    assert!(report["samples"].to_string().contains("on_response: reject(\\\"no_b\\\")"), "{report:#}");
}
