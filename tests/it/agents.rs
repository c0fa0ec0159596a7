//! Coding agents, unchanged, end to end: what the model asks for stands on the disk at the end.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::across::Providers;
use crate::gateway;
use crate::sdk;

/// What the agent shall write.
const WORDS: &str = "written by an agent\n";

#[test]
fn opencode_writes_a_file_by_way_of_any_provider() {
    let program = sdk::sdks().join("node/node_modules/opencode-linux-x64/bin/opencode");
    if !sdk::is_there("opencode", &program) {
        return;
    }
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let models = ["gpt/agent", "claude/claude-sonnet-4-5", "gemini/gemini-3-pro"];
    std::thread::scope(|scope| {
        for (folder, model) in folders.iter().zip(models) {
            let program = &program;
            scope.spawn(move || {
                let work = folder.path().join("work");
                std::fs::create_dir(&work).unwrap();
                let file = work.join("made/by.txt");
                let path = file.display().to_string();
                let providers =
                    Providers::calling(move |_| vec![("write", json!({"filePath": path, "content": WORDS}))]);
                let gateway = gateway::start(&providers.config());
                let config = json!({
                    "autoupdate": false, "share": "disabled",
                    "provider": {"tollgate": {
                        "npm": "@ai-sdk/openai-compatible", "name": "Tollgate",
                        "options": {"baseURL": format!("http://{}/v1", gateway.clients), "apiKey": "any"},
                        "models": {model: {"name": "agent", "tool_call": true, "limit": {"context": 100_000, "output": 8000}}},
                    }},
                    "permission": {"edit": "allow", "bash": "deny", "webfetch": "deny"},
                });
                std::fs::write(work.join("opencode.json"), config.to_string()).unwrap();
                let output = Command::new(program)
                    .args(["run", "-m", &format!("tollgate/{model}"), "write the file"])
                    .current_dir(&work)
                    .env_clear()
                    .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                    .env("HOME", folder.path())
                    .env("NO_PROXY", "*")
                    .env("OPENCODE_DISABLE_AUTOUPDATE", "1")
                    .env("OPENCODE_DISABLE_MODELS_FETCH", "1")
                    .env("OPENCODE_DISABLE_LSP_DOWNLOAD", "1")
                    .stdin(Stdio::null())
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let log = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(providers.refusals(), Vec::<String>::new(), "{model}: {log}");
                assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), WORDS, "{model}: {said}\n{log}");
                let name = model.split('/').next().unwrap();
                assert!(said.contains(&format!("{name} is done")), "{model}: {said}\n{log}");
            });
        }
    });
}
