//! The newcomer's path as the manual has it: its commands, copied from the page and run, say what the page shows.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::shared::server;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/");

/// Commands of the page, and the lines that it shows below them.
struct Step {
    commands: String,
    shown: Vec<String>,
}

#[test]
fn the_first_policy_takes_the_commands_of_the_page() {
    follow("policies.md", "## Your first policy in five minutes\n", 6);
}

#[test]
fn the_first_key_takes_the_commands_of_the_page() {
    follow("keys.md", "## Your first key in five minutes\n", 4);
}

#[test]
fn the_first_limit_takes_the_commands_of_the_page() {
    follow("limits.md", "## Try it\n", 1);
}

#[test]
fn the_game_day_takes_the_commands_of_the_page() {
    follow("operations.md", "## A game day\n", 5);
}

#[test]
fn the_second_gateway_takes_the_commands_of_the_page() {
    if server::program() == Some("redis-server") {
        follow("several-gateways.md", "## Try it\n", 1);
    } else {
        eprintln!("SKIPPED: the guide of several gateways: no redis-server (tests/run)");
    }
}

/// What the README shows, in a copy of what a clone has: without a configuration, and with the built-in one on free ports.
#[test]
fn the_readme_takes_the_commands_of_the_page() {
    let readme = include_str!("../../README.md").split_once("## Run it\n").expect("the section").1;
    let steps = steps(readme.split("\n## ").next().unwrap());
    let commands: Vec<&str> = steps.iter().map(|step| step.commands.trim()).collect();
    let [start, whole, streamed, auto, edit, example] = commands[..] else {
        panic!("the section has other steps: {commands:#?}")
    };
    assert_eq!(start, "cargo run --release");
    let clone = env!("CARGO_MANIFEST_DIR");
    let (clients, admin) = (free_port(), free_port());
    let ask = |commands: &str| commands.replace(":8080", &format!(":{clients}"));
    let check = example.lines().next().unwrap().replace("cargo run --release --", "tollgate");
    let script = format!(
        "set -e; cp -r {clone}/policies {clone}/examples .; trap 'kill $(cat pid) 2>/dev/null' EXIT
         tollgate check; tollgate policy test; {check}; tollgate check --config examples/thrift/tollgate.yaml
         tollgate policy test --config examples/thrift/tollgate.yaml
         printf 'listen: 127.0.0.1:{clients}\nadmin: {{ listen: 127.0.0.1:{admin} }}\n' > tollgate.yaml
         cat {clone}/src/house/default.yaml >> tollgate.yaml
         tollgate > log 2>&1 & echo $! > pid
         curl -s --retry 50 --retry-connrefused --retry-delay 1 -o /dev/null http://127.0.0.1:{admin}/readyz
         echo === ready; {whole}
         echo === whole; {streamed}
         echo === streamed; {auto}
         echo === auto; {edit}
         for i in $(seq 50); do {auto} | tee rule | grep -q strong && break; sleep 0.1; done; cat rule",
        whole = ask(whole),
        streamed = ask(streamed),
        auto = ask(auto),
    );
    let dir = tempfile::tempdir().unwrap();
    let printed = run(&script, dir.path());
    let mut said = printed.split("=== ");
    for expected in
        ["ok: ", "chat.completion", "data: [DONE]", "10-cheap-by-default/cheap", "10-cheap-by-default/strong"]
    {
        let part = said.next().unwrap_or_default();
        assert!(part.contains(expected), "no `{expected}` in\n{part}\nof\n{printed}");
    }
    assert!(!printed.contains("error"), "{printed}");
}

fn follow(page: &str, section: &str, least: usize) {
    let page = std::fs::read_to_string(format!("{DOCS}{page}")).unwrap();
    let section = page.split_once(section).expect("the section").1.split("\n## ").next().unwrap();
    let steps = steps(section);
    assert!(steps.len() >= least, "the page has {} steps", steps.len());
    let dir = tempfile::tempdir().unwrap();
    let ports = [" 6390", ":6390", ":8080", ":8081", ":9090", ":9091"];
    let free = [free_port(), free_port(), free_port(), free_port(), free_port()];
    let local = |text: &str| {
        let mut text = text.to_owned();
        for (known, port) in ports.iter().zip(free.iter().take(1).chain(&free)) {
            let (before, _) = known.split_at(1);
            text = text.replace(known, &format!("{before}{port}"));
        }
        text
    };
    // One shell for all, as somebody who types them has: what a step prints ends with a mark.
    let mut script = String::from("trap 'kill $(cat tollgate.pid) 2>/dev/null' EXIT\n");
    for (at, step) in steps.iter().enumerate() {
        script.push_str(&format!("{{\n{}\n}} 2>&1\necho '=== end of step {at}'\n", local(&step.commands)));
    }
    let printed = run(&script, dir.path());
    let mut rest = printed.as_str();
    for (at, step) in steps.iter().enumerate() {
        let mark = format!("=== end of step {at}\n");
        let (mut said, after) = rest.split_once(&mark).unwrap_or_else(|| panic!("no {mark} in\n{printed}"));
        for line in &step.shown {
            let place = said.find(line.as_str());
            let place = place
                .unwrap_or_else(|| panic!("step {at} does not say `{line}`, but\n{said}\nof\n{printed}"));
            said = &said[place + line.len()..];
        }
        rest = after;
    }
}

fn steps(section: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in section.split("\n```").skip(1).step_by(2) {
        if let Some(commands) = block.strip_prefix("sh\n") {
            steps.push(Step { commands: commands.to_owned(), shown: Vec::new() });
        } else if let Some(text) = block.strip_prefix("text\n") {
            let step = steps.last_mut().expect("what is shown follows commands");
            step.shown = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        }
    }
    steps
}

fn run(script: &str, dir: &Path) -> String {
    let tollgate = Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().unwrap();
    let path = format!("{}:{}", tollgate.display(), std::env::var("PATH").unwrap_or_default());
    let done = Command::new("bash")
        .args(["-c", script])
        .current_dir(dir)
        .env("PATH", path)
        .env_remove("TOLLGATE_CONFIG")
        .stdin(Stdio::null())
        .output()
        .expect("bash");
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
