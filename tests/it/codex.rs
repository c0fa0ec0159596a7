//! Codex, OpenAI's coding agent, unchanged: it speaks Responses alone, and here no provider does.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::acts;
use crate::anthropic;
use crate::gateway::{self, provider};
use crate::upstream::{Act, Heard, Upstream};

const COMMAND: &str = "echo made by codex > made.txt; echo the file is made";
const LAST_WORDS: &str = "Everything is done.";

/// First a call, then, when its result is here, the last words. An agent that only ever gets calls never ends.
fn claude(heard: &Heard) -> Vec<Act> {
    let event = |data: &Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap());
    let (block, delta, stop) = if heard.json()["messages"].to_string().contains("the file is made") {
        let delta = json!({"type": "text_delta", "text": LAST_WORDS});
        (json!({"type": "text", "text": ""}), delta, "end_turn")
    } else {
        let input = json!({"cmd": COMMAND}).to_string();
        let delta = json!({"type": "input_json_delta", "partial_json": input});
        (json!({"type": "tool_use", "id": "toolu_1", "name": "exec_command", "input": {}}), delta, "tool_use")
    };
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
        "usage": {"input_tokens": 9, "output_tokens": 1}});
    let thought = json!({"type": "thinking", "thinking": "", "signature": ""});
    let text: String = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": thought}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "I think"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQB"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": block}),
        json!({"type": "content_block_delta", "index": 1, "delta": delta}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 5}}),
        json!({"type": "message_stop"}),
    ]
    .iter()
    .map(event)
    .collect();
    acts::stream(&text, 41)
}

fn chat(heard: &Heard) -> Vec<Act> {
    if heard.json()["messages"].to_string().contains("the file is made") {
        return acts::says_stream(&[LAST_WORDS]);
    }
    let function = json!({"name": "exec_command", "arguments": json!({"cmd": COMMAND}).to_string()});
    let call = json!({"index": 0, "id": "call_1", "type": "function", "function": function});
    let text = acts::delta(json!({"role": "assistant", "content": null, "tool_calls": [call]}), None);
    let finish = acts::delta(json!({}), Some("tool_calls"));
    acts::stream(&format!("{text}{finish}data: [DONE]\n\n"), 43)
}

#[test]
fn codex_works_with_providers_that_know_no_responses() {
    let codex = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/sdk/codex/node_modules/.bin/codex");
    if !codex.exists() {
        let required = std::env::var_os("TOLLGATE_REQUIRE_SDKS").is_some_and(|value| value == "1");
        assert!(!required, "codex is not installed at {}: run tests/run", codex.display());
        eprintln!("SKIPPED: codex is not installed: run tests/run");
        return;
    }
    let (claude, chat) = (Upstream::start(claude), Upstream::start(chat));
    let gateway = gateway::start(&format!(
        "providers:\n{}{}",
        anthropic::provider("claude", &claude.url()),
        provider("chat", &chat.url())
    ));
    for (model, upstream) in [("chat/m", &chat), ("claude/claude-sonnet-4-5", &claude)] {
        let home = tempfile::tempdir().unwrap();
        let work = tempfile::tempdir().unwrap();
        let config = format!(
            "model = \"{model}\"\nmodel_provider = \"tollgate\"\nmodel_reasoning_effort = \"low\"\n\
             [model_providers.tollgate]\nname = \"tollgate\"\nbase_url = \"http://{}/v1\"\n\
             env_key = \"ANY_KEY\"\nwire_api = \"responses\"\nrequest_max_retries = 0\nstream_max_retries = 0\n",
            gateway.clients
        );
        std::fs::write(home.path().join("config.toml"), config).unwrap();
        let output = Command::new(&codex)
            .args(["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", "make a file"])
            .current_dir(work.path())
            .env("CODEX_HOME", home.path())
            .env("ANY_KEY", "sk-any")
            .env("NO_PROXY", "*")
            .stdin(Stdio::null())
            .output()
            .expect("codex runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && out.contains(LAST_WORDS), "{model}:\n{out}\n{err}");
        let made =
            std::fs::read_to_string(work.path().join("made.txt")).expect("the file that the call makes");
        assert_eq!(made, "made by codex\n");
        let heard = upstream.heard().pop().unwrap().json();
        assert!(heard["tools"].as_array().unwrap().len() > 3, "{heard:#}");
        if model.starts_with("claude") {
            // The thought has been to Codex and back.
            let turns = heard["messages"].as_array().unwrap();
            let thought = turns.iter().flat_map(|turn| turn["content"].as_array().into_iter().flatten());
            let thought: Vec<_> = thought.filter(|block| block["type"] == "thinking").collect();
            assert_eq!(thought, [&json!({"type": "thinking", "thinking": "I think", "signature": "EqQB"})]);
        }
    }
}
