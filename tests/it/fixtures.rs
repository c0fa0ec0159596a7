//! Every recorded answer of OpenAI and its kin, replayed over sockets through the binary.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply};
use crate::gateway::{self, CANARY, Gateway};
use crate::recording::{self, Facts, Tokens, Tool};
use crate::upstream::{Act, Heard, Upstream};

/// Recording's folder, preset (empty: none) and path below the scripted provider.
pub const VENDORS: [(&str, &str, &str); 21] = [
    ("openai", "openai", "/v1"),
    ("azure", "azure", "/openai/v1"),
    ("avian", "", "/v1"),
    ("cerebras", "cerebras", "/v1"),
    ("crusoe", "", "/v1"),
    ("deepseek", "deepseek", ""),
    ("gpustack", "", "/v1"),
    ("groq", "groq", "/openai/v1"),
    ("huggingface", "huggingface", "/v1"),
    ("llamacpp", "llamacpp", "/v1"),
    ("mistral", "mistral", "/v1"),
    ("moonshot", "moonshot", "/v1"),
    ("ollama-openai", "ollama", "/v1"),
    ("openrouter", "openrouter", "/api/v1"),
    ("perplexity", "perplexity", ""),
    ("qwen", "qwen", "/compatible-mode/v1"),
    ("together", "together", "/v1"),
    ("vercel-gateway", "", "/v1"),
    ("vllm", "vllm", "/v1"),
    ("xai", "xai", "/v1"),
    ("zai", "zai", "/api/paas/v4"),
];

/// Pieces that a stream is cut into, in bytes.
const PIECES: [usize; 5] = [usize::MAX, 1, 7, 61, 1000];

/// Streams above this are not also sent byte by byte.
const SMALL: usize = 24 << 10;

/// Request fields that the gateway may change, and why the recording may differ.
const SPLICED: [&str; 2] = ["model", "stream_options"];

struct Case {
    id: String,
    vendor: String,
    embeddings: bool,
    stream: bool,
    request: Value,
    status: u16,
    headers: Vec<(String, String)>,
    text: String,
}

#[tokio::test]
async fn every_recorded_answer_reaches_the_client_as_it_was_meant() {
    let Some(cases) = cases() else { return };
    let by_id: Arc<HashMap<String, Arc<Case>>> =
        Arc::new(cases.into_iter().map(|case| (case.id.clone(), Arc::new(case))).collect());
    let script = by_id.clone();
    let upstream = Upstream::start(move |heard| replay(&script, heard));
    let gateway = gateway::start(&config(&upstream));

    let (mut faults, mut passed) = (String::new(), 0);
    let mut all: Vec<_> = by_id.values().cloned().collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    for case in all {
        for pieces in PIECES {
            let split = pieces != usize::MAX;
            if split && (!case.stream || case.status != 200) || pieces == 1 && case.text.len() > SMALL {
                continue;
            }
            match try_case(&gateway, &upstream, &case, pieces).await {
                Ok(()) => passed += 1,
                Err(fault) => {
                    let _ = writeln!(faults, "{} in pieces of {pieces}:\n    {fault}", case.id);
                    break;
                }
            }
        }
    }
    eprintln!("{passed} replays passed");
    assert!(faults.is_empty(), "\n{faults}\n{passed} replays passed");
}

fn cases() -> Option<Vec<Case>> {
    let root =
        std::env::var_os("TOLLGATE_FIXTURES").map_or_else(|| "../shared/fixtures".into(), PathBuf::from);
    if !root.is_dir() {
        eprintln!("SKIPPED: no recordings at {} (set TOLLGATE_FIXTURES)", root.display());
        return None;
    }
    let mut cases = Vec::new();
    for (vendor, _, _) in VENDORS {
        let Ok(folder) = fs::read_dir(root.join(vendor)) else { continue };
        for file in folder.flatten() {
            let text = fs::read_to_string(file.path()).expect("a readable recording");
            cases.extend(case(vendor, &serde_json::from_str(&text).expect("a JSON recording")));
        }
    }
    assert!(!cases.is_empty(), "{} has no recordings", root.display());
    Some(cases)
}

fn case(vendor: &str, recorded: &Value) -> Option<Case> {
    let embeddings = recorded["op"] == "embeddings";
    if !embeddings && recorded["op"] != "chat" {
        return None;
    }
    let stream = recorded["stream"] == true;
    let mut request = recorded["request"]["body"].clone();
    if !request.is_object() {
        request = json!({"model": "recorded", "messages": [{"role": "user", "content": "hello"}]});
    }
    if stream {
        request["stream"] = true.into();
    } else if let Some(fields) = request.as_object_mut() {
        // One SDK test was recorded with `stream: true` although the answer is a whole error.
        fields.remove("stream");
        fields.remove("stream_options");
    }
    let headers = recorded["response"]["headers"].as_object().into_iter().flatten();
    Some(Case {
        id: recorded["id"].as_str()?.to_owned(),
        vendor: vendor.to_owned(),
        embeddings,
        stream,
        request,
        status: u16::try_from(recorded["response"]["status"].as_u64()?).ok()?,
        headers: headers.map(|(name, v)| (name.clone(), v.as_str().unwrap_or_default().to_owned())).collect(),
        text: recorded["response"]["text"].as_str()?.to_owned(),
    })
}

fn config(upstream: &Upstream) -> String {
    let mut config = String::from("retries: { retries: 0 }\nproviders:\n");
    for (vendor, preset, path) in VENDORS {
        let kind = if preset.is_empty() { "dialect: openai".into() } else { format!("preset: {preset}") };
        let url = format!("http://{}{path}", upstream.address);
        let _ = writeln!(config, "  {vendor}: {{ {kind}, base_url: \"{url}\", keys: [ env:TEST_KEY ] }}");
    }
    config
}

/// The model carries the case and the size of the pieces to the provider: `gpt-4o--case--7`.
fn replay(cases: &HashMap<String, Arc<Case>>, heard: &Heard) -> Vec<Act> {
    let model = heard.model();
    let mut parts = model.rsplitn(3, "--");
    let (Some(pieces), Some(id)) = (parts.next(), parts.next()) else { return acts::error(418, "no case") };
    let (Some(case), Ok(pieces)) = (cases.get(id), pieces.parse()) else {
        return acts::error(418, "unknown case");
    };
    if case.stream && case.status == 200 {
        return acts::stream(&case.text, pieces);
    }
    let headers: Vec<_> = case.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    acts::answer(case.status, &headers, &case.text)
}

async fn try_case(gateway: &Gateway, upstream: &Upstream, case: &Case, pieces: usize) -> Result<(), String> {
    let mut request = case.request.clone();
    let recorded = request["model"].as_str().unwrap_or("recorded").to_owned();
    let sent = format!("{recorded}--{}--{pieces}", case.id);
    request["model"] = format!("{}/{sent}", case.vendor).into();
    // As recorded first; then, in pieces, always with usage.
    if pieces != usize::MAX {
        request["stream_options"] = json!({"include_usage": true});
    }
    let path = if case.embeddings { "/v1/embeddings" } else { "/v1/chat/completions" };
    let reply = client::post(gateway.clients, path, &request).await;
    let heard = upstream.heard_for(&sent);
    if heard.is_empty() && case.status == 400 {
        // The gateway may see by itself what the provider refused.
        return failed_right(400, &reply);
    }
    let [heard] = heard.as_slice() else {
        return Err(format!("the provider was asked {} times; {}", heard.len(), brief(&reply)));
    };
    heard_right(case, &request, heard)?;
    let record = gateway.record(reply.header("x-request-id")).await;
    let fault = if case.embeddings {
        embedded_right(case, &reply, &record)
    } else {
        answered_right(case, &request, &reply, &record)
    };
    fault.map_err(|fault| format!("{fault}\n    {}", brief(&reply)))
}

/// What the provider was asked: the recorded request, but for the fields that must change.
fn heard_right(case: &Case, sent: &Value, heard: &Heard) -> Result<(), String> {
    let (_, _, base) = VENDORS.iter().find(|(vendor, ..)| *vendor == case.vendor).ok_or("no vendor")?;
    let path = if case.embeddings { "/embeddings" } else { "/chat/completions" };
    let asked = heard.path.split('?').next().unwrap_or_default();
    same("path", &format!("{base}{path}"), &asked.to_owned())?;
    let key = heard.header("authorization").map(|value| value.trim_start_matches("Bearer ").to_owned());
    same("key", &Some(CANARY.to_owned()), &key.or_else(|| heard.header("api-key").map(str::to_owned)))?;
    let body = heard.json();
    for (name, value) in sent.as_object().into_iter().flatten() {
        if SPLICED.contains(&name.as_str()) || changed_for(&case.vendor).contains(&name.as_str()) {
            continue;
        }
        same(&format!("request field {name}"), value, &body[name])?;
    }
    Ok(())
}

/// Fields that a vendor refuses or calls otherwise.
fn changed_for(vendor: &str) -> &'static [&'static str] {
    match vendor {
        "mistral" => &["store", "max_completion_tokens", "seed", "user", "metadata", "logprobs"],
        _ => &[],
    }
}

fn answered_right(case: &Case, request: &Value, reply: &Reply, record: &Value) -> Result<(), String> {
    let mut expected = match (case.stream, case.status) {
        (true, 200) => recording::streamed(&case.text),
        _ => recording::whole(&case.text),
    };
    if case.status != 200 {
        return failed_right(case.status, reply);
    }
    let has_content = expected.choices.values().any(|c| !(c.text.is_empty() && c.tools.is_empty()));
    if expected.error.is_some() && !(case.stream && has_content) {
        same("is an error", &true, &(reply.status >= 400))?;
        reply_error(reply)?;
        return Ok(());
    }
    same("status", &200, &reply.status)?;
    let mut got =
        if case.stream { recording::streamed(&reply.text()) } else { recording::whole(&reply.text()) };
    same("oddities", &Vec::<String>::new(), &std::mem::take(&mut got.oddities))?;
    if case.stream {
        let ended = expected.choices.values().all(|choice| choice.finish.is_some());
        let complete = expected.error.is_none() && ended && !expected.choices.is_empty();
        same("[DONE] came", &complete, &got.done)?;
        same("error event came", &!complete, &got.error.is_some())?;
    }
    choices_right(&expected, &got)?;
    usage_right(&mut expected, request, case.stream, &got, record)
}

fn choices_right(expected: &Facts, got: &Facts) -> Result<(), String> {
    let indices = |facts: &Facts| facts.choices.keys().copied().collect::<Vec<_>>();
    same("choices", &indices(expected), &indices(got))?;
    for (index, choice) in &expected.choices {
        let other = &got.choices[index];
        same("text", &choice.text, &other.text)?;
        same("reasoning", &choice.reasoning, &other.reasoning)?;
        same("refusal", &choice.refusal, &other.refusal)?;
        same("finish reason", &choice.finish, &other.finish)?;
        same("tool calls", &called(&choice.tools), &called(&other.tools))?;
    }
    Ok(())
}

/// A call without arguments may be told as one with an empty object: that is what clients can parse.
fn called(tools: &[Tool]) -> Vec<Tool> {
    let told = |tool: &Tool| match tool.arguments.as_str() {
        "" => Tool { arguments: "{}".into(), ..tool.clone() },
        _ => tool.clone(),
    };
    tools.iter().map(told).collect()
}

fn usage_right(
    expected: &mut Facts,
    request: &Value,
    stream: bool,
    got: &Facts,
    record: &Value,
) -> Result<(), String> {
    let Some(tokens) = expected.usage else { return Ok(()) };
    let asked = !stream || request["stream_options"]["include_usage"] == true;
    if asked && got.error.is_none() {
        same("usage", &Some(tokens), &got.usage)?;
    } else if got.usage.is_some() {
        same("usage that nobody asked for", &Some(tokens), &got.usage)?;
    }
    // The classes of the record are disjoint, so that no more can be read from a cache than was sent.
    let tokens = Tokens { cached: tokens.cached.min(tokens.prompt), ..tokens };
    same("recorded usage", &Some(tokens), &recorded_tokens(record))
}

/// The usage of an access line, put together again from its disjoint classes.
fn recorded_tokens(record: &Value) -> Option<Tokens> {
    let usage = record.get("usage")?;
    let number = |name: &str| usage[name].as_u64().unwrap_or(0);
    Some(Tokens {
        prompt: number("input") + number("cached_read") + number("cache_write"),
        completion: number("output"),
        cached: number("cached_read"),
        reasoning: number("reasoning"),
    })
}

fn failed_right(status: u16, reply: &Reply) -> Result<(), String> {
    // A provider's refusal of our key, or of our account, is not the client's fault.
    let status = if matches!(status, 401 | 403) { 502 } else { status };
    same("status", &status, &reply.status)?;
    let error = reply_error(reply)?;
    let kind = error["type"].as_str().unwrap_or_default();
    let fits = match status {
        429 => kind.contains("rate_limit") || kind == "insufficient_quota" || kind == "requests",
        402 => kind == "insufficient_quota",
        400..=499 => kind == "invalid_request_error",
        _ => kind.contains("server_error") || kind == "api_error",
    };
    same("the error type fits the status", &(true, kind), &(fits, kind))
}

fn reply_error(reply: &Reply) -> Result<Value, String> {
    let body: Value = serde_json::from_slice(&reply.body).map_err(|error| error.to_string())?;
    let error = &body["error"];
    let named = |name: &str| error.get(name).is_some_and(|value| value.is_string() || value.is_null());
    let shaped = ["param", "code"].into_iter().all(named);
    if !(shaped && error["message"].is_string() && error["type"].is_string()) {
        return Err(format!("not an error in OpenAI's shape: {body}"));
    }
    Ok(error.clone())
}

fn embedded_right(case: &Case, reply: &Reply, record: &Value) -> Result<(), String> {
    if case.status != 200 {
        return failed_right(case.status, reply);
    }
    same("status", &200, &reply.status)?;
    same("vectors", &recording::vectors(&case.text), &recording::vectors(&reply.text()))?;
    let as_text = case.request["encoding_format"] == "base64";
    let row = reply.json()["data"][0]["embedding"].clone();
    same("vectors are base64", &as_text, &row.is_string())?;
    let expected = recording::whole(&case.text).usage;
    same("usage", &expected, &recording::whole(&reply.text()).usage)?;
    same("recorded prompt", &expected.map(|t| t.prompt), &recorded_tokens(record).map(|t| t.prompt))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, got: &T) -> Result<(), String> {
    if expected == got {
        return Ok(());
    }
    Err(format!("{what}: expected {}, got {}", short(expected), short(got)))
}

fn short(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    if text.len() < 400 { text } else { format!("{}…", text.chars().take(400).collect::<String>()) }
}

fn brief(reply: &Reply) -> String {
    format!("the client got {}: {}", reply.status, reply.text().chars().take(600).collect::<String>())
}
