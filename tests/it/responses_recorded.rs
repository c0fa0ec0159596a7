//! Every recorded request of OpenAI's Responses, sent to providers that speak other dialects.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::acts;
use crate::anthropic;
use crate::client::post;
use crate::gateway::{self, provider};
use crate::upstream::{Act, Heard, Upstream};

/// The targets: what they are called, and where their conversation stands.
const TARGETS: [(&str, &str); 3] = [
    ("chat/gpt-5", "messages"),
    ("claude/claude-sonnet-4-5", "messages"),
    ("google/gemini-3-pro", "contents"),
];

#[tokio::test]
async fn every_recorded_request_can_be_answered_by_any_provider() {
    let root =
        std::env::var_os("TOLLGATE_FIXTURES").map_or_else(|| "../shared/fixtures".into(), PathBuf::from);
    let mut cases = Vec::new();
    for vendor in ["openai", "xai", "azure"] {
        let Ok(folder) = std::fs::read_dir(root.join(vendor)) else { continue };
        for file in folder.flatten() {
            let text = std::fs::read_to_string(file.path()).expect("a readable recording");
            let case: Value = serde_json::from_str(&text).expect("a JSON recording");
            if case["op"] == "responses" && case["request"]["body"].is_object() {
                cases.push(case);
            }
        }
    }
    if cases.is_empty() {
        eprintln!("SKIPPED: no recordings at {} (set TOLLGATE_FIXTURES)", root.display());
        return;
    }
    let chat = Upstream::start(speak);
    let claude = Upstream::start(anthropic::play);
    let google = Upstream::start(gemini);
    let gateway = gateway::start(&format!(
        "providers:\n{}{}  google: {{ preset: gemini, base_url: \"{}beta\", keys: [ env:TEST_KEY ] }}\n",
        provider("chat", &chat.url()),
        anthropic::provider("claude", &claude.url()),
        google.url(),
    ));
    let (mut faults, mut passed) = (String::new(), 0);
    for case in &cases {
        for ((target, conversation), upstream) in TARGETS.iter().zip([&chat, &claude, &google]) {
            let mut request = case["request"]["body"].clone();
            request["model"] = (*target).into();
            let reply = post(gateway.clients, "/v1/responses", &request).await;
            let heard = upstream.heard().pop().map(|heard| heard.json()).unwrap_or_default();
            match faulty(&request, reply.status, reply.header("x-tollgate-warnings"), &heard[conversation]) {
                None => passed += 1,
                Some(fault) => {
                    let _ = writeln!(faults, "{} to {target}: {fault}\n    {}", case["id"], reply.text());
                }
            }
        }
    }
    eprintln!("{passed} requests of {} recordings passed", cases.len());
    assert!(faults.is_empty(), "\n{faults}");
}

/// What is wrong: a refusal, words that did not arrive, or a loss that nothing in the request explains.
fn faulty(request: &Value, status: u16, warnings: &str, heard: &Value) -> Option<String> {
    if status != 200 {
        return Some(format!("status {status}"));
    }
    // Google gets results as objects, not as the text of one.
    let bare = |text: &str| text.chars().filter(|c| !matches!(c, '\\' | '"' | ' ')).collect::<String>();
    let sent = bare(&heard.to_string());
    for text in words(request) {
        let written = json!(text).to_string();
        if !sent.contains(&bare(&written)) {
            return Some(format!("`{text}` did not arrive: {sent}"));
        }
    }
    let unexplained: Vec<&str> =
        warnings.split(", ").filter(|loss| !loss.is_empty() && !is_explained(loss)).collect();
    (!unexplained.is_empty()).then(|| format!("lost: {unexplained:?}"))
}

/// Losses that are OpenAI's own tools, proofs and options.
fn is_explained(loss: &str) -> bool {
    let path = loss.split(" (").next().unwrap_or_default();
    let known = [
        "tools[",
        "include[",
        "encrypted_content",
        "annotations",
        "strict",
        "top_logprobs",
        "text.verbosity",
        "user",
    ];
    known.iter().any(|part| path.contains(part))
        || loss.contains("_call dropped")
        || loss.contains("thinking")
}

/// Everything that users, tools and the model said.
fn words(request: &Value) -> Vec<&str> {
    let mut words: Vec<&str> = request["input"].as_str().into_iter().collect();
    for item in request["input"].as_array().into_iter().flatten() {
        for key in ["content", "output"] {
            words.extend(item[key].as_str());
            let parts = item[key].as_array().into_iter().flatten();
            // What was thought goes only to those who can use it.
            words.extend(
                parts.filter(|_| item["type"] != "reasoning").filter_map(|part| part["text"].as_str()),
            );
        }
        words.extend(item["name"].as_str().filter(|_| item["type"] == "function_call"));
        if item["role"] == "developer" || item["role"] == "system" {
            words.clear();
        }
    }
    words
}

fn speak(heard: &Heard) -> Vec<Act> {
    if heard.is_stream() { acts::says_stream(&["Hel", "lo"]) } else { acts::says("Hello") }
}

fn gemini(heard: &Heard) -> Vec<Act> {
    let answer = json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "Hello"}]},
        "finishReason": "STOP", "index": 0}], "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1}});
    if heard.path.contains("streamGenerateContent") {
        return acts::stream(&format!("data: {answer}\r\n\r\n"), 29);
    }
    acts::whole(200, &answer)
}
