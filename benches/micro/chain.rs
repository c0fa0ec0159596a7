//! What policies of the usual sizes cost: three conditions, forty lines, a chain of three files.

use std::error::Error;
use std::path::PathBuf;

use tollgate::policy::{Names, PolicySet, PolicySettings, Source};

const THREE_CONDITIONS: &str = r#"
fn on_request(req) {
    if req.model == "never" || req.stream { return; }
    if req.headers["x-tier"] == "premium" { return route("mock/strong"); }
    if req.has_tools { return route("mock/tools"); }
    route("mock/chat")
}"#;

const RESIDENCY: &str = r#"
const EU_TEAMS = ["support-eu", "hr", "legal"];
fn on_request(req) {
    if req.matches("-----BEGIN [A-Z ]*PRIVATE KEY-----") {
        return reject(400, "secret_in_prompt", "remove the private key from the prompt");
    }
    if req.team in EU_TEAMS || req.headers["x-region"] == "eu" {
        req.require(#{ region: "eu" });
        req.tag("residency", "eu");
    }
    req.tag("checked", "residency");
}"#;

const CANARY: &str = r#"
const PERCENT = 5;
fn on_request(req) {
    if req.model == "auto" && bucket("canary", req.user, 100) < PERCENT {
        return route("mock/next").first_token("4s").then("mock/chat").tag("canary", "next");
    }
}
fn on_error(req, err) {
    if req.tags["canary"] != () { return next_target(); }
}
fn on_complete(req, out) {
    if req.tags["canary"] != () { metric("canary_requests").add(#{ model: out.target.name, ok: out.ok }); }
}"#;

const FORTY_LINES: &str = include_str!("../gateway/policy.rhai");

/// The sets that are measured, by name.
pub fn sets() -> Result<Vec<(&'static str, PolicySet)>, Box<dyn Error>> {
    Ok(vec![
        ("policy 3 conditions", load(&[THREE_CONDITIONS])?),
        ("policy 40 lines", load(&[FORTY_LINES])?),
        ("policy chain of three", load(&[RESIDENCY, CANARY, FORTY_LINES])?),
    ])
}

fn load(texts: &[&str]) -> Result<PolicySet, Box<dyn Error>> {
    let source = |(place, text): (usize, &&str)| Source {
        name: format!("{place}0-bench"),
        path: PathBuf::from(format!("{place}0-bench.rhai")),
        text: (*text).to_owned(),
    };
    let sources: Vec<Source> = texts.iter().enumerate().map(source).collect();
    let names = Names { providers: ["mock".to_owned()].into(), ..Names::default() };
    PolicySet::load(&sources, &PolicySettings::default(), &serde_json::Map::new(), &names)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").into())
}
