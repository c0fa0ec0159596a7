//! The real SDKs, unchanged, against the gateway in front of a scripted provider.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::across::Providers;
use crate::acts;
use crate::anthropic;
use crate::gateway::{self, Gateway, provider};
use crate::upstream::{Act, Heard, Upstream};

/// What the SDKs' scripts ask for, by model.
fn play(heard: &Heard) -> Vec<Act> {
    let body = heard.json();
    if heard.path.ends_with("/embeddings") {
        return embed(&body);
    }
    if heard.path.contains("/files") {
        return files(heard);
    }
    match heard.model().as_str() {
        "tools" if body["messages"].to_string().contains("\"tool\"") => speak(heard, &["It is ", "sunny."]),
        "tools" if heard.is_stream() => acts::stream(&tool_stream(heard), 17),
        "tools" => acts::whole(200, &tool_answer()),
        "parse" => speak(heard, &["{\"city\":", "\"Paris\",", "\"degrees\":21}"]),
        "rate-limited" => limited(),
        "bad-request" => acts::error(400, "this will never work"),
        "broken" => acts::error(500, "no"),
        "gone" => acts::error(404, "the model does not exist"),
        "cut" => {
            let mut script = acts::stream_head();
            script.extend([acts::piece(&acts::events(&["half"])), Act::Close]);
            script
        }
        _ => speak(heard, &["Hello", " there", "!"]),
    }
}

/// One file, of whatever was sent last.
fn files(heard: &Heard) -> Vec<Act> {
    if heard.path.ends_with("/content") {
        return acts::answer(200, &[("content-type", "application/octet-stream")], b"\x00\x01binary\xff");
    }
    if heard.method == "DELETE" {
        return acts::whole(200, &json!({"id": "file-1", "object": "file", "deleted": true}));
    }
    let form = String::from_utf8_lossy(&heard.body);
    let name = form.split_once("filename=\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or("none");
    // Its content stands between its head and the next boundary.
    let file = form.split_once("filename=").and_then(|(_, rest)| rest.split_once("\r\n\r\n"));
    let bytes = file.map_or(0, |(_, rest)| rest.find("\r\n--").unwrap_or(0));
    let file = json!({
        "id": "file-1", "object": "file", "bytes": bytes, "created_at": 1, "filename": name, "purpose": "batch",
        "status": "processed",
    });
    if heard.method == "GET" && !heard.path.contains("file-1") {
        return acts::whole(200, &json!({"object": "list", "data": [file], "has_more": false}));
    }
    acts::whole(200, &file)
}

fn limited() -> Vec<Act> {
    let body =
        json!({"error": {"message": "slow down", "type": "rate_limit_error", "param": null, "code": null}});
    acts::answer(429, &[("content-type", "application/json"), ("retry-after", "7")], body.to_string())
}

fn speak(heard: &Heard, words: &[&str]) -> Vec<Act> {
    if !heard.is_stream() {
        return acts::says(&words.concat());
    }
    let role = acts::delta(json!({"role": "assistant", "content": "", "refusal": null}), None);
    let finish = acts::delta(json!({}), Some("stop"));
    acts::stream(&[role, acts::events(words), finish, ending(heard)].concat(), 23)
}

/// Usage where it was asked for, as OpenAI does it, and `[DONE]`.
fn ending(heard: &Heard) -> String {
    let (_, usage) = acts::ENDING.split_once("\n\n").unwrap();
    let asked = heard.json()["stream_options"]["include_usage"] == true;
    if asked { usage.to_owned() } else { "data: [DONE]\n\n".to_owned() }
}

fn call(index: Option<u64>, id: &str, arguments: &str) -> Value {
    let function = json!({"name": "get_weather", "arguments": arguments});
    let mut call = json!({"id": id, "type": "function", "function": function});
    if let Some(index) = index {
        call["index"] = index.into();
    }
    call
}

fn tool_answer() -> Value {
    let mut answer = acts::completion("");
    let calls = [call(None, "call_1", r#"{"city":"Paris"}"#), call(None, "call_2", r#"{"city":"Rome"}"#)];
    answer["choices"][0]["message"] = json!({"role": "assistant", "content": null, "tool_calls": calls});
    answer["choices"][0]["finish_reason"] = "tool_calls".into();
    answer
}

fn tool_stream(heard: &Heard) -> String {
    let more = |index: u64, text: &str| {
        acts::delta(json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]}), None)
    };
    let first = |index: u64, id: &str| acts::delta(json!({"tool_calls": [call(Some(index), id, "")]}), None);
    let parts = [
        acts::delta(json!({"role": "assistant", "content": null}), None),
        first(0, "call_1"),
        more(0, "{\"city\":"),
        more(0, "\"Paris\"}"),
        first(1, "call_2"),
        more(1, "{\"city\":\"Rome\"}"),
        acts::delta(json!({}), Some("tool_calls")),
        ending(heard),
    ];
    parts.concat()
}

fn embed(body: &Value) -> Vec<Act> {
    let inputs = body["input"].as_array().map_or(1, Vec::len);
    // 0.5 and -1.0 as little-endian singles.
    let vector = if body["encoding_format"] == "base64" { json!("AAAAPwAAgL8=") } else { json!([0.5, -1.0]) };
    let rows: Vec<_> = (0..inputs)
        .map(|index| json!({"object": "embedding", "index": index, "embedding": vector}))
        .collect();
    let usage = json!({"prompt_tokens": 4, "total_tokens": 4});
    acts::whole(200, &json!({"object": "list", "data": rows, "model": "e", "usage": usage}))
}

fn house() -> ([Upstream; 2], Gateway) {
    let (upstream, claude) = (Upstream::start(play), Upstream::start(anthropic::play));
    let models = "models:\n  fast: { targets: [ up/hello ] }\n";
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nfiles: {{ provider: up }}\nproviders:\n  sandbox: {{ dialect: sandbox }}\n{}{}{models}",
        provider("up", &upstream.url()),
        anthropic::provider("claude", &claude.url())
    ));
    ([upstream, claude], gateway)
}

#[test]
fn python() {
    let venv = sdks().join("venv");
    run("Python", &venv, &venv.join("bin/python"), &root().join("tests/sdk/python"), "py");
}

#[test]
fn node() {
    // The scripts stand beside `node_modules`, where Node looks for packages.
    let folder = sdks().join("node");
    run("Node", &folder.join("node_modules"), Path::new("node"), &folder, "mjs");
}

#[test]
fn litellm() {
    let venv = sdks().join("venv-litellm");
    run("LiteLLM", &venv, &venv.join("bin/python"), &root().join("tests/sdk/litellm"), "py");
}

/// Runs every script of `folder` on its own; each ends with status 0 or says what was wrong.
fn run(language: &str, installed: &Path, interpreter: &Path, folder: &Path, extension: &str) {
    if !is_there(language, installed) {
        return;
    }
    let (_upstreams, gateway) = house();
    let providers = Providers::start();
    let strict = gateway::start(&providers.config());
    let url = |gateway: &Gateway| format!("http://{}", gateway.clients);
    let entries = std::fs::read_dir(folder).expect("a folder of scripts").flatten().map(|entry| entry.path());
    let mut scripts: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
    for script in scripts {
        let output = Command::new(interpreter)
            .arg(&script)
            .env("OPENAI_BASE_URL", url(&gateway) + "/v1")
            .env("OPENAI_API_KEY", "sk-any")
            .env("ANTHROPIC_BASE_URL", url(&gateway))
            .env("GEMINI_BASE_URL", url(&gateway))
            .env("STRICT_BASE_URL", url(&strict))
            .env("ANTHROPIC_API_KEY", "sk-any")
            .env("NO_PROXY", "*")
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", interpreter.display()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}:\n{out}\n{err}", script.display());
        eprintln!("{}: {}", script.display(), out.trim());
    }
}

/// Whether something is installed; says loudly that it is not, or fails where it has to be.
pub fn is_there(what: &str, installed: &Path) -> bool {
    if installed.exists() {
        return true;
    }
    assert!(
        std::env::var_os("TOLLGATE_REQUIRE_SDKS").is_none_or(|value| value != "1"),
        "what is to be tried of {what} is not installed at {}: run tests/run",
        installed.display()
    );
    eprintln!("SKIPPED: what is to be tried of {what} is not installed: run tests/run");
    false
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where `tests/run` installs clients.
pub fn sdks() -> PathBuf {
    root().join("target/sdk")
}
